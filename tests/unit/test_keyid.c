/* test_keyid.c - ids of keys: made for one vault and one name, and for nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/key.h"
#include "server/keyid.h"

static void an_id_is_for_its_vault_and_name(void **state)
{
    static const char *const others[] = {"", "p", "payment", "paymentsx", "Payments", "payments2"};
    struct bytes name = bytes_str("payments");
    uint8_t id[KEYID_BYTES], again[KEYID_BYTES];

    (void)state;
    assert_int_equal(keyid_make(id, 7, name), ERR_OK);
    assert_true(keyid_is(id, 7, name));
    assert_false(keyid_is(id, 8, name));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(keyid_is(id, 7, bytes_str(others[i])));
    assert_int_equal(keyid_make(again, 7, name), ERR_OK);
    assert_true(keyid_is(again, 7, name));
    assert_false(bytes_equal(bytes_of(id, sizeof id), bytes_of(again, sizeof again)));
}

static void every_bit_counts(void **state)
{
    char longest[KEY_NAME_MAX + 1];
    uint8_t id[KEYID_BYTES];

    (void)state;
    memset(longest, 'x', KEY_NAME_MAX);
    longest[KEY_NAME_MAX] = 0;
    assert_int_equal(keyid_make(id, UINT64_MAX, bytes_str(longest)), ERR_OK);
    assert_true(keyid_is(id, UINT64_MAX, bytes_str(longest)));
    for (unsigned bit = 0; bit < 8 * KEYID_BYTES; bit++) {
        id[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(keyid_is(id, UINT64_MAX, bytes_str(longest)));
        id[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    longest[KEY_NAME_MAX - 1] = 'y';
    assert_false(keyid_is(id, UINT64_MAX, bytes_str(longest)));
}

/* The layout is kept for ever: ids of keys that were made stay what they are. */
static void the_layout_is_fixed(void **state)
{
    /* printf 'coffer-key-id-1\007\0\0\0\0\0\0\0\001\002\003\004\005\006\007\010payments' | sha256sum */
    static const uint8_t id[KEYID_BYTES] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
                                            0xfd, 0x66, 0x67, 0x55, 0xc7, 0x17, 0xfc, 0x28};

    (void)state;
    assert_true(keyid_is(id, 7, bytes_str("payments")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_id_is_for_its_vault_and_name),
        cmocka_unit_test(every_bit_counts),
        cmocka_unit_test(the_layout_is_fixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
