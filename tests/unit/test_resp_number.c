/* Integers as RESP writes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>

#include "resp/number.h"

static void test_parses_what_it_should(void **state)
{
    static const struct {
        const char *text;
        int64_t value;
    } rows[] = {
        {"0", 0},
        {"1", 1},
        {"-1", -1},
        {"10", 10},
        {"9007199254740993", 9007199254740993},
        {"9223372036854775807", INT64_MAX},
        {"-9223372036854775807", -INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t v = 77;
        assert_true(number_parse(bytes_str(rows[i].text), &v));
        assert_int_equal(v, rows[i].value);
    }
}

static void test_refuses_the_rest(void **state)
{
    static const char *rows[] = {
        "",
        "-",
        "+1",
        " 1",
        "1 ",
        "01",
        "-0",
        "00",
        "-01",
        "0x1",
        "1.0",
        "a",
        "1a",
        "--1",
        "1-",
        "1\r",
        "\n1",
        "9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
        "18446744073709551615",
        "99999999999999999999",
        "100000000000000000000",
        "000000000000000000001",
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t v = 77;
        if (number_parse(bytes_str(rows[i]), &v))
            fail_msg("'%s' was taken for %" PRId64, rows[i], v);
        assert_int_equal(v, 0);
    }
    int64_t v;
    assert_false(number_parse(bytes_of("1\0", 2), &v));
    assert_false(number_parse(bytes_of(NULL, 0), &v));
}

static void check_format(int64_t v)
{
    char want[32];
    uint8_t got[NUMBER_MAX_BYTES];
    int64_t back;
    size_t n = number_format(got, v);
    assert_int_equal(n, snprintf(want, sizeof want, "%" PRId64, v));
    assert_memory_equal(got, want, n);
    assert_true(number_parse(bytes_of(got, n), &back));
    assert_int_equal(back, v);
}

static void test_formats_every_length(void **state)
{
    (void)state;
    for (int64_t v = -1100; v <= 1100; v++)
        check_format(v);
    for (int64_t v = 1; v <= INT64_MAX / 10; v *= 10)
        for (int64_t d = -1; d <= 1; d++) {
            check_format(v + d);
            check_format(-v - d);
        }
    check_format(INT64_MAX);
    check_format(INT64_MIN);
}

static void test_formats_u64_max(void **state)
{
    (void)state;
    uint8_t got[NUMBER_MAX_BYTES];
    assert_int_equal(number_format_u64(got, UINT64_MAX), 20);
    assert_memory_equal(got, "18446744073709551615", 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parses_what_it_should),
        cmocka_unit_test(test_refuses_the_rest),
        cmocka_unit_test(test_formats_every_length),
        cmocka_unit_test(test_formats_u64_max),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
