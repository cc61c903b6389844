/* Keyword options: every way in which words may be right or wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "server/command.h"
#include "server/options.h"

/* What the handler would have replied. */
static char replied[256];
static enum err replied_err;

enum call_result call_error(struct call *c, enum err e)
{
    (void)c;
    replied_err = e;
    snprintf(replied, sizeof replied, "%s", err_text(e));
    return CALL_DONE;
}

enum call_result call_errorf(struct call *c, enum err e, const char *fmt, ...)
{
    va_list ap;
    (void)c;
    replied_err = e;
    va_start(ap, fmt);
    vsnprintf(replied, sizeof replied, fmt, ap);
    va_end(ap);
    return CALL_DONE;
}

enum { NX, XX, CAS, EX, PX, KEEPTTL, META, COUNT, ANY, OPTS };
enum { GROUP_IF = 1, GROUP_TTL = 2 };
static const struct option table[OPTS] = {
    [NX] = {"NX", OPTION_FLAG, GROUP_IF, 0, 0},
    [XX] = {"XX", OPTION_FLAG, GROUP_IF, 0, 0},
    [CAS] = {"CAS", OPTION_INT, GROUP_IF, 0, UINT32_MAX},
    [EX] = {"EX", OPTION_INT, GROUP_TTL, 1, 1000},
    [PX] = {"PX", OPTION_INT, GROUP_TTL, 1, 1000},
    [KEEPTTL] = {"KEEPTTL", OPTION_FLAG, GROUP_TTL, 0, 0},
    [META] = {"META", OPTION_BYTES, 0, 0, 0},
    [COUNT] = {"COUNT", OPTION_INT, 0, -5, 5},
    [ANY] = {"ANY", OPTION_INT, 0, 0, 0},
};

static struct option_value out[OPTS];

/* Parses the words of line (blanks between them) behind a command and one positional argument. */
static enum err run(const char *line)
{
    static char copy[256];
    struct bytes argv[16] = {bytes_str("CMD"), bytes_str("NX")};
    struct call c = {.argc = 2, .argv = argv};
    char *save = NULL;

    replied[0] = 0;
    replied_err = ERR_OK;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
        argv[c.argc++] = bytes_str(w);
    memset(out, 0xee, sizeof out); /* must be overwritten */
    return options_parse(&c, 2, table, OPTS, out);
}

static unsigned given(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < OPTS; i++)
        n += out[i].given != 0;
    return n;
}

static void test_none(void **state)
{
    (void)state;
    assert_int_equal(run(""), ERR_OK);
    assert_int_equal(given(), 0);
    assert_string_equal(replied, "");
}

static void test_any_order_and_case(void **state)
{
    (void)state;
    assert_int_equal(run("meta {} ex 7 Nx"), ERR_OK);
    assert_int_equal(given(), 3);
    assert_true(out[NX].given);
    assert_int_equal(out[EX].i, 7);
    assert_true(bytes_equal(out[META].b, bytes_str("{}")));
    assert_int_equal(run("NX META NX COUNT -5"), ERR_OK); /* a value may look like an option */
    assert_true(bytes_equal(out[META].b, bytes_str("NX")));
    assert_int_equal(out[COUNT].i, -5);
}

static void test_refused(void **state)
{
    static const struct {
        const char *line, *near;
    } bad[] = {
        {"NOPE", "NOPE"},    {"NX NX", "NX"},        {"NX xx", "xx"},           {"CAS 1 NX", "NX"},
        {"EX 1 PX 1", "PX"}, {"KEEPTTL EX 1", "EX"}, {"META", "META"},          {"NX META", "META"},
        {"N", "N"},          {"NXX", "NXX"},         {"META a META b", "META"}, {"EX", "EX"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char want[64];
        snprintf(want, sizeof want, "syntax error near '%s'", bad[i].near);
        assert_int_equal(run(bad[i].line), ERR_SYNTAX);
        assert_int_equal(replied_err, ERR_SYNTAX);
        assert_string_equal(replied, want);
        assert_int_equal(given(), 0);
    }
}

static void test_integers(void **state)
{
    (void)state;
    assert_int_equal(run("EX 1"), ERR_OK);
    assert_int_equal(run("EX 1000"), ERR_OK);
    assert_int_equal(run("EX 0"), ERR_RANGE);
    assert_string_equal(replied, "EX must be from 1 to 1000");
    assert_int_equal(run("EX 1001"), ERR_RANGE);
    assert_int_equal(run("COUNT -6"), ERR_RANGE);
    assert_int_equal(given(), 0);
    assert_int_equal(run("ANY -9223372036854775808"), ERR_OK);
    assert_true(out[ANY].i == INT64_MIN);
    static const char *const bad[] = {"EX x", "EX 1x", "EX 01", "EX +1", "ANY 9223372036854775808", "ANY -"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(run(bad[i]), ERR_NOTINT);
        assert_int_equal(replied_err, ERR_NOTINT);
    }
}

/* A word is a client's: any bytes, any length. */
static void test_word_is_shown_safely(void **state)
{
    uint8_t word[100];
    struct bytes argv[2] = {bytes_str("CMD"), bytes_of(word, sizeof word)};
    struct call c = {.argc = 2, .argv = argv};
    (void)state;
    memset(word, 'a', sizeof word);
    memcpy(word, "\r\n\0\xff", 4);
    assert_int_equal(options_parse(&c, 1, table, OPTS, out), ERR_SYNTAX);
    assert_memory_equal(replied, "syntax error near '????aaa", 26);
    assert_int_equal(strlen(replied), strlen("syntax error near ''") + 64);
    argv[1] = bytes_of(NULL, 0);
    assert_int_equal(options_parse(&c, 1, table, OPTS, out), ERR_SYNTAX);
    assert_string_equal(replied, "syntax error near ''");
}

/* SECRET.SET v p my password, without quotes: the error quoted the password, and went on into clients' logs. */
static void test_what_may_be_a_part_of_a_value_is_not_quoted(void **state)
{
    static const struct command hides = {.flags = CMD_REDACT, .redact_from = 3};
    struct bytes argv[6] = {bytes_str("SECRET.SET"), bytes_str("v"),        bytes_str("p"),
                            bytes_str("my"),         bytes_str("password"), bytes_str("NX")};
    struct call c = {.argc = 6, .argv = argv, .cmd = &hides};
    (void)state;
    assert_int_equal(options_parse(&c, 4, table, OPTS, out), ERR_SYNTAX);
    assert_string_equal(replied, "syntax error near argument 4");
    argv[4] = bytes_str("NX");
    assert_int_equal(options_parse(&c, 4, table, OPTS, out), ERR_SYNTAX);
    assert_string_equal(replied, "syntax error near 'NX'");
}

static void test_word_of_a_list(void **state)
{
    static const char *const names[] = {"PEM", "DER", NULL};
    (void)state;
    assert_int_equal(options_word(bytes_str("pem"), names), 0);
    assert_int_equal(options_word(bytes_str("DER"), names), 1);
    assert_int_equal(options_word(bytes_str("DE"), names), -1);
    assert_int_equal(options_word(bytes_of(NULL, 0), names), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_any_order_and_case),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_word_is_shown_safely),
        cmocka_unit_test(test_what_may_be_a_part_of_a_value_is_not_quoted),
        cmocka_unit_test(test_word_of_a_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
