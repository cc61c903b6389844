/* The reply writer: golden bytes in both protocols, failures, bulks in place, late headers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>

#include "base/fault.h"
#include "resp/reply.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static void write_simple(struct reply *r)
{
    reply_simple(r, "PONG");
}
static void write_simple_lines(struct reply *r)
{
    reply_simple(r, "a\r\nb\n");
}
static void write_ok(struct reply *r)
{
    reply_ok(r);
}
static void write_error(struct reply *r)
{
    reply_error(r, ERR_NOVAULT);
}
static void write_error_text(struct reply *r)
{
    reply_error_text(r, "ERR", bytes_of("a\r\n+OK\r\n\0b", 10));
}
static void write_error_bare(struct reply *r)
{
    reply_error_text(r, "EXECABORT", bytes_of(NULL, 0));
}
static void write_errorf(struct reply *r)
{
    reply_errorf(r, "ERR", "syntax error near '%s' at %d", "x\ny", 7);
}
static void write_ints(struct reply *r)
{
    static const int64_t v[] = {0, 9, 10, -1, 12345, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < COUNT(v); i++)
        reply_int(r, v[i]);
}
static void write_bulk(struct reply *r)
{
    reply_bulk(r, bytes_of("a\0\r\nb", 5));
}
static void write_empty_bulk(struct reply *r)
{
    reply_bulk(r, bytes_of(NULL, 0));
}
static void write_bulk_str(struct reply *r)
{
    reply_bulk_str(r, "0123456789");
}
static void write_bulk_int(struct reply *r)
{
    reply_bulk_int(r, -42);
}
static void write_nil(struct reply *r)
{
    reply_nil(r);
}
static void write_nil_array(struct reply *r)
{
    reply_nil_array(r);
}
static void write_bools(struct reply *r)
{
    reply_bool(r, 0);
    reply_bool(r, 4);
}
static void write_doubles(struct reply *r)
{
    static const double v[] = {0, 1.5, -0.1, 1e300, 123456789012345680.0};
    for (size_t i = 0; i < COUNT(v); i++)
        reply_double(r, v[i]);
}
static void write_odd_doubles(struct reply *r)
{
    reply_double(r, (double)INFINITY);
    reply_double(r, -(double)INFINITY);
    reply_double(r, (double)NAN);
    reply_double(r, -(double)NAN);
}
static void write_verbatim(struct reply *r)
{
    reply_verbatim(r, "txt", bytes_str("a\r\nb"));
}
static void write_big_number(struct reply *r)
{
    reply_big_number(r, bytes_str("-123456789012345678901234567890"));
}
static void write_array(struct reply *r)
{
    reply_array(r, 0);
    reply_array(r, 12);
}
static void write_map(struct reply *r)
{
    reply_map(r, 6);
}
static void write_set(struct reply *r)
{
    reply_set(r, 3);
}
static void write_push(struct reply *r)
{
    reply_push(r, 3);
}
static void write_in_place(struct reply *r)
{
    uint8_t *room;
    if (reply_bulk_begin(r, 3, &room) == ERR_OK) {
        memcpy(room, "abc", 3);
        reply_bulk_end(r);
    }
    if (reply_bulk_begin(r, 0, &room) == ERR_OK)
        reply_bulk_end(r);
}
static void write_late_headers(struct reply *r)
{
    reply_array(r, 3);
    size_t map = reply_mark(r);
    reply_int(r, 1);
    size_t set = reply_mark(r);
    for (int i = 0; i < 11; i++)
        reply_int(r, i);
    reply_insert_set(r, set, 11);
    reply_insert_map(r, map, 1);
    reply_insert_array(r, reply_mark(r), 0);
}

#define INTS ":0\r\n:9\r\n:10\r\n:-1\r\n:12345\r\n:9223372036854775807\r\n:-9223372036854775808\r\n"
#define DIGITS_0_TO_10 ":0\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n:8\r\n:9\r\n:10\r\n"
#define BOTH(s)          \
    {s, sizeof(s) - 1},  \
    {                    \
        s, sizeof(s) - 1 \
    }
#define EACH(a, b)       \
    {a, sizeof(a) - 1},  \
    {                    \
        b, sizeof(b) - 1 \
    }

static const struct {
    void (*write)(struct reply *r);
    struct {
        const char *s;
        size_t n;
    } resp2, resp3;
} golden[] = {
    {write_simple, BOTH("+PONG\r\n")},
    {write_simple_lines, BOTH("+a  b \r\n")},
    {write_ok, BOTH("+OK\r\n")},
    {write_error, BOTH("-NOVAULT no such vault: make it with VAULT.CREATE\r\n")},
    {write_error_text, BOTH("-ERR a  +OK  \0b\r\n")},
    {write_error_bare, BOTH("-EXECABORT\r\n")},
    {write_errorf, BOTH("-ERR syntax error near 'x y' at 7\r\n")},
    {write_ints, BOTH(INTS)},
    {write_bulk, BOTH("$5\r\na\0\r\nb\r\n")},
    {write_empty_bulk, BOTH("$0\r\n\r\n")},
    {write_bulk_str, BOTH("$10\r\n0123456789\r\n")},
    {write_bulk_int, BOTH("$3\r\n-42\r\n")},
    {write_nil, EACH("$-1\r\n", "_\r\n")},
    {write_nil_array, EACH("*-1\r\n", "_\r\n")},
    {write_bools, EACH(":0\r\n:1\r\n", "#f\r\n#t\r\n")},
    {write_doubles, EACH("$1\r\n0\r\n$3\r\n1.5\r\n$20\r\n-0.10000000000000001\r\n$23\r\n1.0000000000000001e+300\r\n"
                         "$22\r\n1.2345678901234568e+17\r\n",
                         ",0\r\n,1.5\r\n,-0.10000000000000001\r\n,1.0000000000000001e+300\r\n"
                         ",1.2345678901234568e+17\r\n")},
    {write_odd_doubles,
     EACH("$3\r\ninf\r\n$4\r\n-inf\r\n$3\r\nnan\r\n$3\r\nnan\r\n", ",inf\r\n,-inf\r\n,nan\r\n,nan\r\n")},
    {write_verbatim, EACH("$4\r\na\r\nb\r\n", "=8\r\ntxt:a\r\nb\r\n")},
    {write_big_number, EACH("$31\r\n-123456789012345678901234567890\r\n", "(-123456789012345678901234567890\r\n")},
    {write_array, BOTH("*0\r\n*12\r\n")},
    {write_map, EACH("*12\r\n", "%6\r\n")},
    {write_set, EACH("*3\r\n", "~3\r\n")},
    {write_push, EACH("*3\r\n", ">3\r\n")},
    {write_in_place, BOTH("$3\r\nabc\r\n$0\r\n\r\n")},
    {write_late_headers,
     EACH("*3\r\n*2\r\n:1\r\n*11\r\n" DIGITS_0_TO_10 "*0\r\n", "*3\r\n%1\r\n:1\r\n~11\r\n" DIGITS_0_TO_10 "*0\r\n")},
};

static void test_golden_bytes(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(golden); i++)
        for (int proto = 2; proto <= 3; proto++) {
            const char *want = proto == 2 ? golden[i].resp2.s : golden[i].resp3.s;
            size_t n = proto == 2 ? golden[i].resp2.n : golden[i].resp3.n;
            struct buf b;
            struct reply r;
            buf_init(&b, 4096);
            reply_init(&r, &b, proto);
            golden[i].write(&r);
            assert_int_equal(r.failed, ERR_OK);
            if (buf_size(&b) != n || memcmp(buf_data(&b), want, n) != 0)
                fail_msg("row %zu, RESP%d: got '%.*s'", i, proto, (int)buf_size(&b), buf_data(&b));
            buf_fini(&b);
        }
}

static void write_everything(struct reply *r)
{
    for (size_t i = 0; i < COUNT(golden); i++)
        golden[i].write(r);
}

/* Whatever limit: the reply is cut between elements, the failure sticks, and what was there before is untouched. */
static void test_limit_is_sticky_and_rewound(void **state)
{
    struct buf whole, b;
    struct reply r;
    (void)state;

    buf_init(&whole, 4096);
    reply_init(&r, &whole, 3);
    write_everything(&r);
    for (size_t limit = 5; limit < buf_size(&whole) + 30; limit++) {
        buf_init_secret(&b, limit);
        reply_init(&r, &b, 3);
        reply_ok(&r);
        assert_int_equal(r.failed, ERR_OK);
        size_t mark = reply_mark(&r);
        write_everything(&r);
        if (r.failed) {
            assert_int_equal(r.failed, ERR_TOOBIG);
            size_t cut = buf_size(&b);
            reply_ok(&r); /* ignored, even if it would fit */
            reply_insert_array(&r, mark, 1);
            assert_int_equal(buf_size(&b), cut);
            assert_memory_equal(buf_data(&b) + cut - 2, "\r\n", 2);
        }
        reply_rewind(&r, mark);
        assert_int_equal(r.failed, ERR_OK);
        assert_int_equal(buf_size(&b), 5);
        assert_memory_equal(buf_data(&b), "+OK\r\n", 5);
        buf_fini(&b);
    }
    buf_fini(&whole);
}

static void test_impossible_sizes(void **state)
{
    struct buf b;
    struct reply r;
    uint8_t *room, one = 0;
    (void)state;

    buf_init(&b, SIZE_MAX);
    reply_init(&r, &b, 2);
    reply_bulk(&r, bytes_of(&one, SIZE_MAX - 3));
    assert_int_equal(r.failed, ERR_TOOBIG);
    assert_int_equal(reply_bulk_begin(&r, 1, &room), ERR_TOOBIG); /* since it has failed before */
    reply_rewind(&r, 0);
    assert_int_equal(reply_bulk_begin(&r, SIZE_MAX, &room), ERR_TOOBIG);
    assert_null(room);
    buf_fini(&b);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    for (long nth = 1;; nth++) {
        struct buf b;
        struct reply r;
        fault_arm(FAULT_MEM, nth, 1);
        buf_init_secret(&b, 1 << 20);
        reply_init(&r, &b, 2);
        for (int i = 0; i < 20; i++)
            write_everything(&r);
        fault_disarm(FAULT_MEM);
        assert_int_equal(r.failed, fault_fired(FAULT_MEM) ? ERR_OOM : ERR_OK);
        if (r.failed) {
            reply_rewind(&r, 0);
            reply_error(&r, ERR_OOM);
            assert_int_equal(r.failed, ERR_OK);
            assert_memory_equal(buf_data(&b), "-OOM ", 5);
        }
        buf_fini(&b);
        if (!fault_fired(FAULT_MEM)) {
            assert_true(nth > 3);
            return;
        }
    }
}

/* Plaintext that did not authenticate was written to the room: nothing of it may stay, in the reply or behind it. */
static void test_abandoned_bulk_leaves_no_trace(void **state)
{
    struct buf b;
    struct reply r;
    uint8_t *room;
    (void)state;

    buf_init_secret(&b, 1 << 20);
    reply_init(&r, &b, 3);
    reply_ok(&r);
    assert_int_equal(reply_bulk_begin(&r, 300, &room), ERR_OK);
    memset(room, 0xaa, 300);
    assert_int_equal(buf_size(&b), 5);
    reply_bulk_abandon(&r);
    for (size_t i = b.len; i < b.len + 320; i++)
        assert_int_equal(b.mem[i], 0);
    reply_error(&r, ERR_CORRUPT);
    assert_memory_equal(buf_data(&b), "+OK\r\n-CORRUPT ", 14);
    buf_fini(&b);
}

static void test_long_error_texts(void **state)
{
    char text[1000];
    struct buf b;
    struct reply r;
    (void)state;

    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    buf_init(&b, 4096);
    reply_init(&r, &b, 2);
    reply_errorf(&r, "ERR", "%s", text);
    assert_int_equal(buf_size(&b), strlen("-ERR ") + REPLY_ERROR_MAX_BYTES + 2);
    buf_clear(&b);
    reply_error_text(&r, "ERR", bytes_str(text));
    assert_int_equal(buf_size(&b), strlen("-ERR ") + 999 + 2);
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_bytes),
        cmocka_unit_test(test_limit_is_sticky_and_rewound),
        cmocka_unit_test(test_impossible_sizes),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_abandoned_bulk_leaves_no_trace),
        cmocka_unit_test(test_long_error_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
