#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void each_row_is_fit_for_a_reply(void **state)
{
    (void)state;
    for (int i = 1; i < ERR_COUNT_; i++) {
        enum err e = (enum err)i;
        assert_true(strlen(err_name(e)) > 0);
        assert_int_equal(strlen(err_prefix(e)), strspn(err_prefix(e), "ABCDEFGHIJKLMNOPQRSTUVWXYZ"));
        assert_true(strlen(err_prefix(e)) > 0);
        assert_true(strlen(err_text(e)) > 0);
        assert_null(strpbrk(err_text(e), "\r\n"));
        assert_true(err_retryable(e) == 0 || err_retryable(e) == 1);
    }
}

/* Clients switch on the first word, so a row either has its own or one of the shared ones. */
static void a_prefix_is_the_name_or_shared(void **state)
{
    (void)state;
    for (int i = 1; i < ERR_COUNT_; i++) {
        const char *prefix = err_prefix((enum err)i);
        if (strcmp(prefix, "ERR") != 0 && strcmp(prefix, "MISCONF") != 0)
            assert_string_equal(prefix, err_name((enum err)i));
    }
}

static void names_are_unique(void **state)
{
    (void)state;
    for (int i = 0; i < ERR_COUNT_; i++)
        for (int j = 0; j < i; j++)
            assert_string_not_equal(err_name((enum err)i), err_name((enum err)j));
}

static void known_rows(void **state)
{
    (void)state;
    assert_int_equal(ERR_OK, 0);
    assert_string_equal(err_name(ERR_OK), "OK");
    assert_string_equal(err_prefix(ERR_OK), "OK");
    assert_int_equal(err_retryable(ERR_OK), 0);
    assert_string_equal(err_prefix(ERR_SYNTAX), "ERR");
    assert_string_equal(err_text(ERR_SYNTAX), "syntax error");
    assert_string_equal(err_prefix(ERR_NOVAULT), "NOVAULT");
    assert_int_equal(err_retryable(ERR_NOVAULT), 0);
    assert_string_equal(err_prefix(ERR_HSMDOWN), "HSMDOWN");
    assert_int_equal(err_retryable(ERR_HSMDOWN), 1);
    assert_string_equal(err_prefix(ERR_IO), "MISCONF");
    /* Repeating it could do the thing twice. */
    assert_int_equal(err_retryable(ERR_UNCERTAIN), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_row_is_fit_for_a_reply),
        cmocka_unit_test(a_prefix_is_the_name_or_shared),
        cmocka_unit_test(names_are_unique),
        cmocka_unit_test(known_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
