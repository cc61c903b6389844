/* test_glob.c - patterns as Redis reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/glob.h"

static const struct {
    const char *pattern, *text;
    int nocase, match;
} rows[] = {
    {"", "", 0, 1},
    {"", "a", 0, 0},
    {"*", "", 0, 1},
    {"*", "anything", 0, 1},
    {"h?llo", "hello", 0, 1},
    {"h?llo", "hllo", 0, 0},
    {"h*llo", "heeeello", 0, 1},
    {"h[ae]llo", "hallo", 0, 1},
    {"h[ae]llo", "hillo", 0, 0},
    {"h[^e]llo", "hallo", 0, 1},
    {"h[^e]llo", "hello", 0, 0},
    {"h[a-b]llo", "hbllo", 0, 1},
    {"h[b-a]llo", "hallo", 0, 1},
    {"h[a-b]llo", "hcllo", 0, 0},
    {"a\\*b", "a*b", 0, 1},
    {"a\\*b", "axb", 0, 0},
    {"[\\]]", "]", 0, 1},
    {"ABC*", "abcdef", 1, 1},
    {"ABC*", "abcdef", 0, 0},
    {"[A-C]", "b", 1, 1},
    {"*a*b*c", "xxaxxbxxc", 0, 1},
    {"*a*b*c", "xxaxxbxx", 0, 0},
    {"app/*", "app/db/x", 0, 1},
    {"a[", "ax", 0, 0},
    {"**", "x", 0, 1},
    {"a\\", "a\\", 0, 1},
    {"[abc", "c", 0, 1},
    {"?", "", 0, 0},
};

static void patterns(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int got = glob_match(bytes_str(rows[i].pattern), bytes_str(rows[i].text), rows[i].nocase);
        if (got != rows[i].match)
            fail_msg("'%s' on '%s' gave %d", rows[i].pattern, rows[i].text, got);
    }
}

static void binary(void **state)
{
    (void)state;
    assert_true(glob_match(bytes_of("a\0*", 3), bytes_of("a\0\xff\0", 4), 0));
    assert_false(glob_match(bytes_of("a\0b", 3), bytes_of("a\0c", 3), 0));
}

/* What takes exponential time when every * is tried again ends at once here. */
static void many_stars(void **state)
{
    char text[2001];
    (void)state;
    memset(text, 'a', 2000);
    assert_false(glob_match(bytes_str("*a*a*a*a*a*a*a*a*a*a*a*a*a*b"), bytes_of(text, 2000), 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(patterns), cmocka_unit_test(binary),
                                       cmocka_unit_test(many_stars)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
