#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/crc32c.c" /* for the table's path, which this machine may never take */

/* Straight from the definition: a bit at a time. */
static uint32_t reference(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    while (n--) {
        crc ^= *p++;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0x82F63B78u : crc >> 1;
    }
    return ~crc;
}

static void fill(uint8_t *p, size_t n)
{
    uint32_t x = 2463534242u;
    for (size_t i = 0; i < n; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        p[i] = (uint8_t)x;
    }
}

/* RFC 3720 B.4, and the check value of the CRC catalogues. */
static void published_values(void **state)
{
    uint8_t block[32];
    (void)state;
    assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283u);
    assert_int_equal(crc32c(0, NULL, 0), 0);
    memset(block, 0, sizeof block);
    assert_int_equal(crc32c(0, block, sizeof block), 0x8A9136AAu);
    memset(block, 0xFF, sizeof block);
    assert_int_equal(crc32c(0, block, sizeof block), 0x62A8AB43u);
    for (int i = 0; i < 32; i++)
        block[i] = (uint8_t)i;
    assert_int_equal(crc32c(0, block, sizeof block), 0x46DD794Eu);
    for (int i = 0; i < 32; i++)
        block[i] = (uint8_t)(31 - i);
    assert_int_equal(crc32c(0, block, sizeof block), 0x113FDB5Cu);
}

static void both_ways_agree_with_the_definition(void **state)
{
    uint8_t data[300];
    (void)state;
    fill(data, sizeof data);
    for (size_t from = 0; from < 9; from++) {
        for (size_t n = 0; from + n <= sizeof data; n++) {
            uint32_t want = reference(0, data + from, n);
            assert_int_equal(crc32c(0, data + from, n), want);
            assert_int_equal(~crc_by_table(~0u, data + from, n), want);
            if (have_instruction())
                assert_int_equal(~crc_by_instruction(~0u, data + from, n), want);
        }
    }
}

static void continues_at_any_split(void **state)
{
    uint8_t data[100];
    (void)state;
    fill(data, sizeof data);
    uint32_t want = reference(0, data, sizeof data);
    for (size_t n = 0; n <= sizeof data; n++)
        assert_int_equal(crc32c(crc32c(0, data, n), data + n, sizeof data - n), want);
}

static void each_flipped_bit_shows(void **state)
{
    uint8_t data[64];
    (void)state;
    fill(data, sizeof data);
    uint32_t want = crc32c(0, data, sizeof data);
    for (size_t bit = 0; bit < 8 * sizeof data; bit++) {
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(crc32c(0, data, sizeof data), want);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_values),
        cmocka_unit_test(both_ways_agree_with_the_definition),
        cmocka_unit_test(continues_at_any_split),
        cmocka_unit_test(each_flipped_bit_shows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
