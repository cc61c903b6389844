/* The request parser: what comes out of a stream must not depend on how the stream was cut into reads (transcript.h). A
 * request is written as "[GET|k]".
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <stdio.h>

#include "base/fault.h"
#include "base/mem.h"
#include "resp/request.h"
#include "tests/unit/transcript.h"

static void say_request(struct text *t, const struct request_parser *p, const uint8_t *in, size_t used)
{
    for (size_t i = 0; i < p->argc; i++) {
        struct bytes a = p->argv[i];
        say(t, i ? "|" : "[");
        assert_true(a.p >= in && a.p + a.n <= in + used); /* borrowed from the input, never copied */
        say_bytes(t, a);
    }
    say(t, "]");
}

/* ---- transcripts ---- */

static struct request_parser parser;

static void begin(const struct transcript_of *how, int variant)
{
    (void)variant;
    request_parser_init(&parser, how->limits);
}

static enum said parse(uint8_t *in, size_t n, size_t *used, struct text *out)
{
    enum request_status s = request_parse(&parser, in, n, used);
    assert_int_not_equal(s, REQUEST_OOM);
    if (s == REQUEST_READY) {
        say_request(out, &parser, in, *used);
    } else if (s == REQUEST_BAD) {
        say(out, "!");
        say(out, parser.error);
        assert_int_equal(*used, 0);
    } else {
        assert_true(parser.need_bytes >= 1);
    }
    return s == REQUEST_READY ? SAID_ONE : s == REQUEST_BAD ? SAID_BAD : SAID_MORE;
}

static void end(void)
{
    request_parser_fini(&parser);
}

#define OF(limits_) (&(const struct transcript_of){limits_, begin, parse, NULL, NULL, end})

static const struct request_limits small = {.max_args = 20, .max_bulk_bytes = 100, .max_inline_bytes = 64};
static const struct request_limits unauth = {
    .max_args = 20, .max_bulk_bytes = 20000, .max_inline_bytes = 64, .unauthenticated = 1};

static void test_requests_cut_anywhere(void **state)
{
    static const struct row rows[] = {
        ROW("", ""),
        ROW("*1\r\n$4\r\nPING\r\n", "[PING]"),
        ROW("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "[GET|k]"),
        ROW("*3\r\n$3\r\nSET\r\n$0\r\n\r\n$2\r\n\r\n\r\n", "[SET||\\0d\\0a]"),
        ROW("*2\r\n$7\r\na\0b\r\n*$\r\n$3\r\n\xff\x80\x00\r\n", "[a\\00b\\0d\\0a*$|\\ff\\80\\00]"),
        ROW("*1\r\n$12\r\nabcdefghijkl\r\n*1\r\n$1\r\nx\r\n", "[abcdefghijkl][x]"),
        ROW("*2\r\n$3\r\nGET\r\n$1\r\n", "..."),
        ROW("*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r", "[PING]..."),
        ROW("PING\r\n*1\r\n$4\r\nPING\r\nGET k\n*1\r\n$1\r\nx\r\n", "[PING][PING][GET|k][x]"),
    };
    (void)state;
    transcript_check_rows(OF(&small), COUNT(rows), rows);
}

static void test_empty_requests_are_skipped(void **state)
{
    static const struct row rows[] = {
        ROW("\r\n", ""),
        ROW("\n", ""),
        ROW("  \t \r\n", ""),
        ROW("*0\r\n", ""),
        ROW("*-1\r\n", ""),
        ROW("*-10\r\n*0\r\n\r\n\n*1\r\n$4\r\nPING\r\n\r\n*0\r\n", "[PING]"),
        ROW("*-9223372036854775808\r\nPING\r\n", "[PING]"),
        ROW("\r\n\r\n*0\r\n*", "..."),
        ROW("\r", "..."),
    };
    (void)state;
    transcript_check_rows(OF(&small), COUNT(rows), rows);
}

static void test_protocol_errors(void **state)
{
    static const struct row rows[] = {
        ROW("\x16\x03\x01", "!Protocol error: a TLS handshake on a port without TLS"),
        ROW("*21\r\n", "!Protocol error: invalid multibulk length"),
        ROW("*3000000000\r\n", "!Protocol error: invalid multibulk length"),
        ROW("*9223372036854775807\r\n", "!Protocol error: invalid multibulk length"),
        ROW("*99999999999999999999999\r\n", "!Protocol error: invalid multibulk length"),
        ROW("*-9223372036854775809\r\n", "!Protocol error: invalid multibulk length"),
        ROW("*\r\n", "!Protocol error: invalid multibulk length"),
        ROW("*x\r\n", "!Protocol error: invalid multibulk length"),
        ROW("*1x\r\n", "!Protocol error: invalid multibulk length"),
        ROW("*01\r\n", "!Protocol error: invalid multibulk length"),
        ROW("*-0\r\n", "!Protocol error: invalid multibulk length"),
        ROW("*+1\r\n", "!Protocol error: invalid multibulk length"),
        ROW("* 1\r\n", "!Protocol error: invalid multibulk length"),
        ROW("*1\r*1\r\n", "!Protocol error: invalid multibulk length"),
        ROW("*1\n$4\r\nPING\r\n", "!Protocol error: invalid multibulk length"),
        ROW("*\0"
            "1\r\n",
            "!Protocol error: invalid multibulk length"),
        ROW("*1\r\nfoo\r\n", "!Protocol error: expected '$', got 'f'"),
        ROW("*1\r\n*1\r\n", "!Protocol error: expected '$', got '*'"),
        ROW("*1\r\n\r\n", "!Protocol error: expected '$', got ' '"),
        ROW("*1\r\n\n\r\n", "!Protocol error: expected '$', got ' '"),
        ROW("*1\r\n\0\r\n", "!Protocol error: expected '$', got '.'"),
        ROW("*1\r\n\xff\r\n", "!Protocol error: expected '$', got '.'"),
        ROW("*1\r\n\x1b[2J\r\n", "!Protocol error: expected '$', got '.'"),
        ROW("*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", "!Protocol error: expected '$', got 'f'"),
        ROW("*1\r\n$101\r\n", "!Protocol error: invalid bulk length"),
        ROW("*1\r\n$2000000000\r\n", "!Protocol error: invalid bulk length"),
        ROW("*1\r\n$9223372036854775807\r\n", "!Protocol error: invalid bulk length"),
        ROW("*1\r\n$18446744073709551615\r\n", "!Protocol error: invalid bulk length"),
        ROW("*1\r\n$-1\r\n", "!Protocol error: invalid bulk length"),
        ROW("*1\r\n$-10\r\n", "!Protocol error: invalid bulk length"),
        ROW("*1\r\n$blabla\r\n", "!Protocol error: invalid bulk length"),
        ROW("*1\r\n$\r\n", "!Protocol error: invalid bulk length"),
        ROW("*1\r\n$04\r\nPING\r\n", "!Protocol error: invalid bulk length"),
        ROW("*1\r\n$4\rPING\r\n", "!Protocol error: invalid bulk length"),
        /* A length that was counted wrong is found out before the rest is taken for another request. */
        ROW("*1\r\n$3\r\nabcd\r\n", "!Protocol error: invalid bulk length"),
        ROW("*1\r\n$3\r\nab\r\n\r\n", "!Protocol error: invalid bulk length"),
        ROW("*1\r\n$3\r\nabc\r*", "!Protocol error: invalid bulk length"),
        ROW("*1\r\n$4\r\nPING\r\n*x\r\n*1\r\n$4\r\nPING\r\n", "[PING]!Protocol error: invalid multibulk length"),
    };
    (void)state;
    transcript_check_rows(OF(&small), COUNT(rows), rows);
}

static void test_inline_quoting(void **state)
{
    static const struct row rows[] = {
        ROW("set k v\r\n", "[set|k|v]"),
        ROW("  set\tk  v \t\n", "[set|k|v]"),
        ROW("set k \"a b\"\r\n", "[set|k|a b]"),
        ROW("set k \"\"\r\n", "[set|k|]"),
        ROW("'' \"\"\n", "[|]"),
        ROW("e \"\\x00\\xfF\\xAb\\x7e\"\r\n", "[e|\\00\\ff\\ab~]"),
        ROW("e \"\\n\\r\\t\\b\\a\"\r\n", "[e|\\0a\\0d\\09\\08\\07]"),
        ROW("e \"\\\\\\\"\\q\\x\\xg0\\x0\"\n", "[e|\\\"qxxg0x0]"),
        ROW("e \"\\x1\" \"\\x1g\"\n", "[e|x1|x1g]"),
        ROW("e 'a\"b' \"a'b\"\n", "[e|a\"b|a'b]"),
        ROW("e 'a\\'b\\n\\\\x'\n", "[e|a'b\\n\\\\x]"),
        ROW("e foo\"b ar\" foo'b ar'\n", "[e|foob ar|foob ar]"),
        ROW("e \"a\"\t'b'\r\n", "[e|a|b]"),
        ROW("e a\\nb\n", "[e|a\\nb]"),
        ROW("e \"a\r\n", "!Protocol error: unbalanced quotes in request"),
        ROW("e 'a\r\n", "!Protocol error: unbalanced quotes in request"),
        ROW("e \"a\"b\r\n", "!Protocol error: unbalanced quotes in request"),
        ROW("e 'a'b\r\n", "!Protocol error: unbalanced quotes in request"),
        ROW("e \"\"a\"\"\n", "!Protocol error: unbalanced quotes in request"),
        ROW("e \"a\\\"\n", "!Protocol error: unbalanced quotes in request"),
        ROW("e \"a\\\n", "!Protocol error: unbalanced quotes in request"),
        ROW("e 'a\\'\n", "!Protocol error: unbalanced quotes in request"),
        ROW("\"\n", "!Protocol error: unbalanced quotes in request"),
        ROW("set \"\"\"test-key\"\"\" test-value\r\nping\r\n", "!Protocol error: unbalanced quotes in request"),
        ROW("e a\0b \0\n", "[e|a\\00b|\\00]"),
        ROW("e a\vb \f c\n", "[e|a\\0bb|c]"),
        ROW("e a\rb\r\r\n", "[e|a|b]"),
        ROW("$3\r\n", "[$3]"),
        ROW("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n", "[1|2|3|4|5|6|7|8|9|10|11|12|13|14|15|16|17]"),
        ROW("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20\n",
            "[1|2|3|4|5|6|7|8|9|10|11|12|13|14|15|16|17|18|19|20]"),
        ROW("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21\n", "!Protocol error: invalid multibulk length"),
    };
    (void)state;
    transcript_check_rows(OF(&small), COUNT(rows), rows);
}

/* A line of exactly max_inline_bytes before its end passes, one byte more does not, however it arrives. */
static void test_line_limits(void **state)
{
    static const struct row rows[] = {
        ROW(SIXTY "abcd\n", "[" SIXTY "abcd]"),
        ROW(SIXTY "abc\r\n", "[" SIXTY "abc]"),
        ROW(SIXTY "abcde\n", "!Protocol error: too big inline request"),
        ROW(SIXTY "abcd\r\n", "!Protocol error: too big inline request"),
        ROW(SIXTY "abcd", "..."),
        ROW(SIXTY "abcde", "!Protocol error: too big inline request"),
        ROW("*" SIXTY "abc\r\n", "!Protocol error: invalid multibulk length"),
        ROW("*" SIXTY "abc", "..."),
        ROW("*" SIXTY "abcd", "!Protocol error: too big mbulk count string"),
        ROW("*" SIXTY "abcd\r\n", "!Protocol error: too big mbulk count string"),
        ROW("*1\r\n$" SIXTY "abc\r\n", "!Protocol error: invalid bulk length"),
        ROW("*1\r\n$" SIXTY "abc", "..."),
        ROW("*1\r\n$" SIXTY "abcd", "!Protocol error: too big bulk count string"),
        ROW("*1\r\n$" SIXTY "abcd\r\n", "!Protocol error: too big bulk count string"),
        ROW("*1\r\nx" SIXTY "abcd\r\n", "!Protocol error: too big bulk count string"),
        ROW("*\0" SIXTY SIXTY, "!Protocol error: too big mbulk count string"),
        ROW("\0" SIXTY SIXTY, "!Protocol error: too big inline request"),
    };
    (void)state;
    transcript_check_rows(OF(&small), COUNT(rows), rows);
}

static void test_limits_before_auth(void **state)
{
    static const struct row rows[] = {
        ROW("*10\r\n", "..."),
        ROW("*11\r\n", "!Protocol error: unauthenticated multibulk length"),
        ROW("*21\r\n", "!Protocol error: invalid multibulk length"),
        ROW("*2\r\n$16384\r\n", "..."),
        ROW("*2\r\n$16385\r\n", "!Protocol error: unauthenticated bulk length"),
        ROW("*2\r\n$20001\r\n", "!Protocol error: invalid bulk length"),
        ROW("1 2 3 4 5 6 7 8 9 10\n", "[1|2|3|4|5|6|7|8|9|10]"),
        ROW("1 2 3 4 5 6 7 8 9 10 11\n", "!Protocol error: unauthenticated multibulk length"),
    };
    (void)state;
    transcript_check_rows(OF(&unauth), COUNT(rows), rows);
}

static void test_default_limits(void **state)
{
    static const struct row rows[] = {
        ROW("*1048576\r\n", "..."),
        ROW("*1048577\r\n", "!Protocol error: invalid multibulk length"),
        ROW("*1\r\n$536870912\r\n", "..."),
        ROW("*1\r\n$536870913\r\n", "!Protocol error: invalid bulk length"),
    };
    (void)state;
    transcript_check_rows(OF(&request_default_limits), COUNT(rows), rows);
}

/* AUTH in the first of two pipelined requests lifts the limits for the second. */
static void test_limits_change_between_requests(void **state)
{
    char stream[] = "AUTH pw\r\n1 2 3 4 5 6 7 8 9 10 11\n*1\r\n$30000\r\n";
    uint8_t *in = (uint8_t *)stream;
    size_t n = sizeof stream - 1, used;
    struct request_limits mine = unauth;
    struct request_parser p;
    (void)state;

    request_parser_init(&p, &mine);
    assert_int_equal(request_parse(&p, in, n, &used), REQUEST_READY);
    in += used, n -= used;
    p.limits = &small;
    assert_int_equal(request_parse(&p, in, n, &used), REQUEST_READY);
    assert_int_equal(p.argc, 11);
    in += used, n -= used;
    p.limits = &mine;
    mine.unauthenticated = 0;
    mine.max_bulk_bytes = 30000;
    assert_int_equal(request_parse(&p, in, n, &used), REQUEST_MORE);
    assert_int_equal(p.need_bytes, 30002);
    mine.max_bulk_bytes = 1; /* what was accepted stays accepted */
    assert_int_equal(request_parse(&p, in, n, &used), REQUEST_MORE);
    request_parser_fini(&p);
}

static void test_an_error_is_final(void **state)
{
    char in[] = "*x\r\n*1\r\n$4\r\nPING\r\n";
    struct request_parser p;
    size_t used;
    (void)state;
    request_parser_init(&p, &small);
    assert_int_equal(request_parse(&p, (uint8_t *)in, 4, &used), REQUEST_BAD);
    assert_int_equal(request_parse(&p, (uint8_t *)in + 4, sizeof in - 5, &used), REQUEST_BAD);
    assert_int_equal(used, 0);
    assert_string_equal(p.error, "Protocol error: invalid multibulk length");
    request_parser_fini(&p);
}

/* What a big argument lacks is said in one go, so that its room is reserved once. */
static void test_need_bytes_of_a_large_bulk(void **state)
{
    enum { SIZE = 1 << 20, READ = 16384 };
    const char *head = "*2\r\n$1\r\nx\r\n$1048576\r\n";
    size_t n = strlen(head), used, calls = 0;
    uint8_t *in = malloc(n + SIZE + 2);
    struct request_parser p;
    enum request_status s;
    (void)state;

    assert_non_null(in);
    memcpy(in, head, n);
    request_parser_init(&p, &request_default_limits);
    assert_int_equal(request_parse(&p, in, n, &used), REQUEST_MORE);
    assert_int_equal(p.need_bytes, SIZE + 2);
    memset(in + n, '\n', SIZE);
    memcpy(in + n + SIZE, "\r\n", 2);
    for (size_t have = n; have < n + SIZE + 2; calls++) {
        size_t left = n + SIZE + 2 - have;
        assert_int_equal(p.need_bytes, left);
        have += left < READ ? left : READ;
        s = request_parse(&p, in, have, &used);
        assert_int_equal(s, have == n + SIZE + 2 ? REQUEST_READY : REQUEST_MORE);
    }
    assert_int_equal(calls, 65);
    assert_int_equal(p.argv[1].n, SIZE);
    assert_ptr_equal(p.argv[1].p, in + n);
    request_parser_fini(&p);
    free(in);
}

/* Line ends are put where the parser has looked already: if it looked twice it would find them. */
static void test_nothing_is_scanned_twice(void **state)
{
    static const struct {
        const char *first, *spoiled;
    } rows[] = {
        {"aaaaaaaaaaaa", "a\naaaaaaaaaa"},
        {"*aaaaaaaaaaaa", "*a\r\naaaaaaaaa"},
        {"*1\r\n$aaaaaaaaaaaa", "*1\r\n$a\r\naaaaaaaaa"},
        {"*2\r\n$3\r\nabc\r\n$5\r\n", "*\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct request_parser p;
        uint8_t in[64];
        size_t n = strlen(rows[i].first), used;
        request_parser_init(&p, &small);
        memcpy(in, rows[i].first, n);
        assert_int_equal(request_parse(&p, in, n, &used), REQUEST_MORE);
        memcpy(in, rows[i].spoiled, n);
        in[n] = 'a';
        assert_int_equal(request_parse(&p, in, n + 1, &used), REQUEST_MORE);
        request_parser_fini(&p);
    }
}

/* *n and n arguments that are their own number. Returns the length. */
static size_t numbered_request(char *out, size_t room, size_t n)
{
    size_t w = (size_t)snprintf(out, room, "*%zu\r\n", n);
    for (size_t i = 0; i < n; i++) {
        char digits[24];
        int k = snprintf(digits, sizeof digits, "%zu", i);
        w += (size_t)snprintf(out + w, room - w, "$%d\r\n%s\r\n", k, digits);
    }
    assert_true(w < room);
    return w;
}

static void check_numbered(const struct request_parser *p, size_t n)
{
    assert_int_equal(p->argc, n);
    for (size_t i = 0; i < n; i++) {
        char digits[24];
        snprintf(digits, sizeof digits, "%zu", i);
        assert_true(bytes_equal(p->argv[i], bytes_str(digits)));
    }
}

static void test_counts_allocate_nothing_before_bytes_arrive(void **state)
{
    char in[1024] = "*1048576\r\n";
    struct request_parser p;
    size_t used, n = strlen(in);
    (void)state;

    fault_arm(FAULT_MEM, 1, 1);
    request_parser_init(&p, &request_default_limits);
    assert_int_equal(request_parse(&p, (uint8_t *)in, n, &used), REQUEST_MORE);
    for (int i = 0; i < REQUEST_SMALL_ARGS; i++) {
        memcpy(in + n, "$1\r\nx\r\n", 7);
        n += 7;
        assert_int_equal(request_parse(&p, (uint8_t *)in, n, &used), REQUEST_MORE);
    }
    assert_false(fault_fired(FAULT_MEM));
    memcpy(in + n, "$1\r\nx\r\n", 7);
    n += 7;
    assert_int_equal(request_parse(&p, (uint8_t *)in, n, &used), REQUEST_OOM);
    assert_true(fault_fired(FAULT_MEM));
    assert_int_equal(request_parse(&p, (uint8_t *)in, n, &used), REQUEST_MORE);
    assert_true(p.cap <= 2 * (REQUEST_SMALL_ARGS + 1));
    fault_disarm(FAULT_MEM);
    request_parser_fini(&p);
}

static void test_many_arguments_cut_into_reads(void **state)
{
    enum { ARGS = 1000, ROOM = 16 * ARGS };
    char *in = malloc(ROOM);
    size_t n = numbered_request(in, ROOM, ARGS), used = 0;
    struct request_parser p;
    (void)state;

    assert_non_null(in);
    request_parser_init(&p, &request_default_limits);
    for (size_t have = 0; have < n;) {
        have = have + 97 < n ? have + 97 : n;
        char *moved = malloc(have);
        assert_non_null(moved);
        memcpy(moved, in, have);
        enum request_status s = request_parse(&p, (uint8_t *)moved, have, &used);
        assert_int_equal(s, have == n ? REQUEST_READY : REQUEST_MORE);
        if (have == n)
            check_numbered(&p, ARGS);
        free(moved);
    }
    assert_int_equal(used, n);

    /* The large array goes, the next request is as any other. */
    char ping[] = "*1\r\n$4\r\nPING\r\n";
    assert_int_equal(request_parse(&p, (uint8_t *)ping, sizeof ping - 1, &used), REQUEST_READY);
    assert_ptr_equal(p.argv, p.small);
    assert_int_equal(p.argc, 1);
    request_parser_fini(&p);
    free(in);
}

/* Each allocation fails once; the same call repeated gives the whole request. */
static void run_out_of_memory(const char *stream, size_t n, size_t args)
{
    for (long nth = 1;; nth++) {
        struct request_parser p;
        uint8_t *in = malloc(n);
        size_t used, tries = 0;
        assert_non_null(in);
        memcpy(in, stream, n);
        request_parser_init(&p, &request_default_limits);
        fault_arm(FAULT_MEM, nth, 1);
        enum request_status s;
        while ((s = request_parse(&p, in, n, &used)) == REQUEST_OOM) {
            assert_int_equal(used, 0);
            tries++;
        }
        fault_disarm(FAULT_MEM);
        assert_int_equal(s, REQUEST_READY);
        assert_int_equal(used, n);
        check_numbered(&p, args);
        assert_int_equal(tries, fault_fired(FAULT_MEM));
        request_parser_fini(&p);
        free(in);
        if (!fault_fired(FAULT_MEM)) {
            assert_true(nth > 1);
            return;
        }
    }
}

static void test_out_of_memory_is_survived(void **state)
{
    char stream[8192];
    (void)state;
    run_out_of_memory(stream, numbered_request(stream, sizeof stream, 300), 300);
    /* Quotes and escapes, which are resolved in place: doing it twice would show. */
    const char *line = "0 1 2 '3' \"4\" 5 6 7 8 9 10 11 \"1\\x32\" 13 14 '15' 16 \"\\x317\"\r\n";
    run_out_of_memory(line, strlen(line), 18);
}

static void test_pipeline_of_many(void **state)
{
    enum { REQUESTS = 500 };
    const char *one = "*3\r\n$3\r\nSET\r\n$2\r\nk1\r\n$5\r\nvalue\r\n";
    size_t len = strlen(one), n = REQUESTS * len, got = 0, used;
    uint8_t *in = malloc(n);
    struct request_parser p;
    (void)state;

    assert_non_null(in);
    for (size_t i = 0; i < REQUESTS; i++)
        memcpy(in + i * len, one, len);
    fault_arm(FAULT_MEM, 1, 1); /* nor does it allocate */
    request_parser_init(&p, &request_default_limits);
    for (size_t off = 0; off < n; off += used, got++) {
        assert_int_equal(request_parse(&p, in + off, n - off, &used), REQUEST_READY);
        assert_int_equal(used, len);
        assert_int_equal(p.argc, 3);
        assert_true(bytes_equal(p.argv[2], bytes_str("value")));
    }
    assert_int_equal(got, REQUESTS);
    assert_int_equal(request_parse(&p, in + n, 0, &used), REQUEST_MORE);
    assert_false(fault_fired(FAULT_MEM));
    fault_disarm(FAULT_MEM);
    request_parser_fini(&p);
    free(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_cut_anywhere),
        cmocka_unit_test(test_empty_requests_are_skipped),
        cmocka_unit_test(test_protocol_errors),
        cmocka_unit_test(test_inline_quoting),
        cmocka_unit_test(test_line_limits),
        cmocka_unit_test(test_limits_before_auth),
        cmocka_unit_test(test_default_limits),
        cmocka_unit_test(test_limits_change_between_requests),
        cmocka_unit_test(test_an_error_is_final),
        cmocka_unit_test(test_need_bytes_of_a_large_bulk),
        cmocka_unit_test(test_nothing_is_scanned_twice),
        cmocka_unit_test(test_counts_allocate_nothing_before_bytes_arrive),
        cmocka_unit_test(test_many_arguments_cut_into_reads),
        cmocka_unit_test(test_out_of_memory_is_survived),
        cmocka_unit_test(test_pipeline_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
