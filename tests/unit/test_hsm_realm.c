/* test_hsm_realm.c - the realm file: there and back, every byte flipped, wrong passphrases; and the names of tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/mem.h"
#include "hsm/realm.h"
#include "hsm/uri.h"

#define LOG_N_OVER 21
#define CHEAP 10 /* each byte is tried: milliseconds, not a tenth of a second */

static struct realm *realm, *back;
static uint8_t file[REALM_FILE_BYTES];
static struct bytes pass;

static int set_up(void **state)
{
    (void)state;
    pass = bytes_str("correct horse");
    realm = mem_secret_alloc(sizeof *realm);
    back = mem_secret_alloc(sizeof *back);
    assert_int_equal(realm_generate(realm), ERR_OK);
    assert_int_equal(realm_seal(realm, pass, CHEAP, file), ERR_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    mem_secret_free(realm, sizeof *realm);
    mem_secret_free(back, sizeof *back);
    return 0;
}

static void test_round_trip(void **state)
{
    struct realm_info info;
    uint8_t print[REALM_FINGERPRINT_BYTES], again[REALM_FILE_BYTES];

    (void)state;
    assert_memory_equal(file, "COFREALM\1\1\12\10\1\0\0\0", 16); /* the front, as documented: N = 2^10, r = 8, p = 1 */
    assert_memory_equal(file + 16, realm->id, 16);
    assert_int_equal(realm_unseal(bytes_of(file, sizeof file), pass, back), ERR_OK);
    assert_memory_equal(back, realm, sizeof *realm);
    assert_int_equal(realm_parse(bytes_of(file, sizeof file), &info), ERR_OK);
    for (unsigned k = 0; k < REALM_KEYS; k++) {
        assert_int_equal(realm_fingerprint(realm, k, print), ERR_OK);
        assert_memory_equal(info.fingerprint[k], print, sizeof print);
        assert_null(memmem(file, sizeof file, realm->key[k], 8)); /* no share in the clear */
    }
    assert_int_equal(realm_seal(realm, pass, CHEAP, again), ERR_OK); /* other salt, other nonce */
    assert_memory_not_equal(file + 96, again + 96, 44);
}

static void test_wrong_passphrase(void **state)
{
    static const char *const wrong[] = {"", "correct hors", "correct horse ", "Correct horse"};

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        static const struct realm zero;

        assert_int_equal(realm_unseal(bytes_of(file, sizeof file), bytes_str(wrong[i]), back), ERR_WRONGPASS);
        assert_memory_equal(back, &zero, sizeof zero);
    }
}

static void test_every_byte(void **state)
{
    (void)state;
    for (size_t at = 0; at < sizeof file; at++) {
        enum err e;

        file[at] ^= 1;
        e = realm_unseal(bytes_of(file, sizeof file), pass, back);
        file[at] ^= 1;
        if (e != ERR_CORRUPT && e != ERR_WRONGPASS)
            fail_msg("byte %zu: not noticed", at);
    }
    assert_int_equal(realm_unseal(bytes_of(file, sizeof file), pass, back), ERR_OK);
    for (size_t n = 0; n < sizeof file; n++)
        assert_int_equal(realm_unseal(bytes_of(file, n), pass, back), ERR_CORRUPT);
    file[10] = LOG_N_OVER; /* a cost that would take gigabytes is refused before it is paid */
    assert_int_equal(realm_unseal(bytes_of(file, sizeof file), pass, back), ERR_CORRUPT);
    file[10] = CHEAP;
    assert_int_equal(realm_seal(realm, pass, 9, file), ERR_RANGE);
    assert_int_equal(realm_seal(realm, pass, LOG_N_OVER, file), ERR_RANGE);
    assert_int_equal(realm_seal(realm, pass, REALM_COST, file), ERR_OK);
    assert_int_equal(realm_unseal(bytes_of(file, sizeof file), pass, back), ERR_OK);
}

static void test_no_memory(void **state)
{
    uint8_t out[REALM_FILE_BYTES];

    (void)state;
    for (long n = 1;; n++) {
        fault_arm(FAULT_MEM, n, 1);
        enum err sealed = realm_seal(realm, pass, CHEAP, out);
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        assert_int_equal(sealed, fired ? ERR_OOM : ERR_OK);
        if (!fired)
            break;
    }
    for (long n = 1;; n++) {
        fault_arm(FAULT_MEM, n, 1);
        enum err opened = realm_unseal(bytes_of(out, sizeof out), pass, back);
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        assert_int_equal(opened, fired ? ERR_OOM : ERR_OK);
        if (!fired)
            break;
    }
}

static void test_token_names(void **state)
{
    static const struct {
        const char *text, *label, *serial, *manufacturer;
        enum err e;
    } rows[] = {
        {"coffer", "coffer", "", "", ERR_OK},
        {"a label; with = and %", "a label; with = and %", "", "", ERR_OK},
        {"pkcs11:token=coffer", "coffer", "", "", ERR_OK},
        {"pkcs11:token=coffer%20node-1;serial=0123abcd", "coffer node-1", "0123abcd", "", ERR_OK},
        {"pkcs11:serial=1;manufacturer=A%2fB%2FC", "", "1", "A/B/C", ERR_OK},
        {"", NULL, NULL, NULL, ERR_SYNTAX},
        {"pkcs11:", NULL, NULL, NULL, ERR_SYNTAX},
        {"pkcs11:token=", NULL, NULL, NULL, ERR_SYNTAX},
        {"pkcs11:token", NULL, NULL, NULL, ERR_SYNTAX},
        {"pkcs11:token=a;", NULL, NULL, NULL, ERR_SYNTAX},
        {"pkcs11:token=a;;serial=1", NULL, NULL, NULL, ERR_SYNTAX},
        {"pkcs11:token=a;token=b", NULL, NULL, NULL, ERR_SYNTAX},
        {"pkcs11:token=a;slot-id=3", NULL, NULL, NULL, ERR_SYNTAX},
        {"pkcs11:token=a?pin-value=1234", NULL, NULL, NULL, ERR_SYNTAX},
        {"pkcs11:token=a%2", NULL, NULL, NULL, ERR_SYNTAX},
        {"pkcs11:token=a%zz", NULL, NULL, NULL, ERR_SYNTAX},
        {"pkcs11:token=a%00b", NULL, NULL, NULL, ERR_SYNTAX},
        {"pkcs11:serial=12345678901234567", NULL, NULL, NULL, ERR_SYNTAX},
        {"a label that is longer than a token's may be", NULL, NULL, NULL, ERR_SYNTAX},
    };
    struct token_name name;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (token_name_parse(bytes_str(rows[i].text), &name) != rows[i].e)
            fail_msg("%s", rows[i].text);
        if (rows[i].e == ERR_OK) {
            assert_string_equal(name.label, rows[i].label);
            assert_string_equal(name.serial, rows[i].serial);
            assert_string_equal(name.manufacturer, rows[i].manufacturer);
        }
    }
    assert_int_equal(token_name_parse(bytes_of("a\0b", 3), &name), ERR_SYNTAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_wrong_passphrase), cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_no_memory),  cmocka_unit_test(test_token_names),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
