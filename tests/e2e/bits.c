/* bits.c - bit operations and LCS where Redis's own tests do not look: pipelines, transactions, several vaults, events,
 * crashes, replicas, limits, and what must not show. Single commands are in every_command.tbl.h; unit/bitops and
 * unit/bitfield of Redis run with redis-tests/run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/e2e.h"

static struct e2e s;

#define EXPECT(want, ...) e2e_expect(s.c, want, __VA_ARGS__)

static int start(void **state)
{
    (void)state;
    e2e_start(&s, "--io-threads", "2", NULL);
    EXPECT("+OK", "VAULT.CREATE v");
    return 0;
}

static void queue(const char *command)
{
    EXPECT("+QUEUED", command);
}

/* Each sees the one before, and all of it is there after a crash. */
static void a_pipeline_of_bits(void **state)
{
    (void)state;
    for (int i = 0; i < 400; i++) {
        redisAppendCommand(s.c, "SETBIT map %d 1", 3 * i);
        redisAppendCommand(s.c, "BITFIELD counters INCRBY u16 #%d 1", i % 4);
    }
    for (int i = 0; i < 400; i++) {
        char want[16];
        snprintf(want, sizeof want, "[:%d]", 1 + i / 4);
        e2e_expect_next(s.c, ":0");
        e2e_expect_next(s.c, want);
    }
    e2e_kill(&s);
    e2e_again(&s);
    EXPECT(":400", "BITCOUNT map");
    EXPECT(":200", "BITCOUNT map 0 599 BIT");
    EXPECT(":150", "STRLEN map");
    EXPECT("[:100 :100 :100 :100 :0]", "BITFIELD_RO counters GET u16 0 GET u16 16 GET u16 32 GET i16 #3 GET i8 #99");
    EXPECT(":1", "SETBIT map 1197 0"); /* the data key was not in memory any more */
    e2e_finish(&s);
}

static void in_a_transaction(void **state)
{
    (void)state;
    EXPECT("+OK", "MSET a foobar b abcdef {v}/c 1");
    EXPECT("+OK", "SET gone %s EX 1000", "x");
    long long before = e2e_int(s.c, "CLIENT LASTLSN");
    EXPECT("+OK", "MULTI");
    queue("SETBIT a 7 1");
    queue("GETBIT a 7");
    queue("BITOP XOR {v}/d a b none {v}/c");
    queue("BITCOUNT {v}/d");
    queue("BITOP AND gone none nothing");
    queue("EXISTS gone");
    queue("BITFIELD a GET u8 0 OVERFLOW FAIL INCRBY u8 0 200 SET u8 8 65");
    queue("LCS a b LEN");
    queue("LCS a b");
    queue("BITPOS none 0");
    EXPECT("[:0 :1 :6 :15 :0 :0 [:103 nil :111] :1 $a :0]", "EXEC");
    assert_int_equal(e2e_int(s.c, "CLIENT LASTLSN"), before + 1);
    EXPECT("$gAobar", "GET a");

    redisContext *other = e2e_connect(&s);
    EXPECT("+OK", "WATCH a");
    e2e_expect(other, ":1", "SETBIT a 7 1"); /* it was set: nothing changed, so nothing was touched */
    EXPECT("+OK", "MULTI");
    queue("GETBIT a 7");
    EXPECT("[:1]", "EXEC");
    EXPECT("+OK", "WATCH a");
    e2e_expect(other, ":1", "SETBIT a 7 0");
    EXPECT("+OK", "MULTI");
    queue("GETBIT a 7");
    EXPECT("nil", "EXEC");
    redisFree(other);
    e2e_finish(&s);
}

/* Between vaults; from a key to itself; over a key with a time to live, which goes. */
static void combined_values(void **state)
{
    (void)state;
    EXPECT(":1", "SECRET.SET v flags %b", "\x0f\xf0", (size_t)2);
    EXPECT("+OK", "SET mask %b EX 1000", "\xff", (size_t)1);
    EXPECT(":2", "BITOP AND mask mask {v}/flags");
    EXPECT("$\\0f\\00", "GET mask");
    EXPECT(":-1", "TTL mask");
    EXPECT(":2", "BITOP NOT {v}/flags {v}/flags");
    EXPECT("$\\f0\\0f", "SECRET.GET v flags");
    EXPECT("$\\0f\\f0", "SECRET.GET v flags VERSION 1");
    EXPECT("-NOVAULT...", "BITOP OR mask {none}/x");
    EXPECT("-ERR invalid path...", "BITOP OR %s mask", "");
    EXPECT(":2", "BITOP OR mask mask %s", ""); /* a source that cannot be there is one that is not */
    EXPECT(":0", "BITOP OR mask none");
    EXPECT(":0", "EXISTS mask");
    EXPECT("+OK", "SET k %s EX 1000", "x");
    EXPECT(":0", "SETBIT k 20 1");
    EXPECT("[:120]", "BITFIELD k SET u8 0 1");
    EXPECT(":1000", "TTL k"); /* these change what is there */
    e2e_finish(&s);
}

/* What changes nothing is no record, no version, no event. */
static void what_changes_nothing_writes_nothing(void **state)
{
    static const char *const idle[] = {"SETBIT k 1 1",
                                       "SETBIT k 0 0",
                                       "BITFIELD k SET u8 0 97",
                                       "BITFIELD k GET u8 0",
                                       "BITFIELD k",
                                       "BITFIELD k OVERFLOW FAIL SET u2 0 4",
                                       "BITOP OR none nothing",
                                       "BITFIELD new OVERFLOW FAIL INCRBY u2 0 4"};
    static const struct {
        const char *command, *event;
    } changes[] = {{"SETBIT k 1 0", "setbit"},
                   {"SETBIT k 40 0", "setbit"}, /* it grew */
                   {"BITFIELD k SET u8 48 0", "setbit"},
                   {"BITFIELD k INCRBY u8 0 1", "setbit"},
                   {"BITOP NOT k k", "set"},
                   {"BITOP NOT k none", "del"}};
    struct e2e_raw r;
    (void)state;
    EXPECT("+OK", "SET k a");
    EXPECT("+OK", "CONFIG SET notify-keyspace-events EA");
    e2e_raw_open(&r, &s);
    e2e_raw_expect(&r, "[$psubscribe $__key* :1]", "PSUBSCRIBE __key*");
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++) {
        long long before = e2e_int(s.c, "CLIENT LASTLSN");
        freeReplyObject(e2e_command(s.c, idle[i]));
        assert_int_equal(e2e_int(s.c, "CLIENT LASTLSN"), before);
    }
    EXPECT(":0", "EXISTS new");
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        char want[128];
        freeReplyObject(e2e_command(s.c, changes[i].command));
        snprintf(want, sizeof want, "[$pmessage $__key* $__keyevent@0__:%s $k]", changes[i].event);
        char *got = e2e_show_answer(e2e_raw_next(&r));
        assert_string_equal(got, want);
        free(got);
    }
    e2e_raw_close(&r);
    e2e_finish(&s);
}

/* ---- limits ---- */

static void fill_key(const char *key, size_t n)
{
    char *value = malloc(n);
    assert_non_null(value);
    memset(value, 'x', n);
    EXPECT("+OK", "SET %s %b", key, value, n);
    free(value);
}

static void what_is_too_big_is_refused(void **state)
{
    static const char too_long[] = "-ERR string exceeds maximum allowed size (secret-max-bytes)";
    (void)state;
    EXPECT(":0", "SETBIT k 8388607 1"); /* secret-max-bytes is a megabyte */
    EXPECT(":1048576", "STRLEN k");
    EXPECT(too_long, "SETBIT k 8388608 1");
    EXPECT(too_long, "SETBIT k 4294967295 1");
    EXPECT("-ERR bit offset is not an integer or out of range", "SETBIT k 4294967296 1");
    EXPECT("-ERR bit offset is not an integer or out of range", "SETBIT k -1 1");
    EXPECT("-ERR bit is not an integer or out of range", "SETBIT k 0 2");
    EXPECT(":0", "GETBIT k 4294967295");
    EXPECT("[:1]", "BITFIELD k SET u8 #1048575 1");
    EXPECT(too_long, "BITFIELD k SET u9 8388600 1");
    EXPECT("[:2]", "BITFIELD k GET u9 8388600");
    EXPECT("-ERR bit offset...", "BITFIELD k GET u32 #9223372036854775807");
    EXPECT(":1", "BITCOUNT k");

    /* LCS: the work is the product of the lengths. */
    fill_key("a", 4096);
    fill_key("b", 4097);
    EXPECT(":4096", "LCS a a LEN");
    EXPECT("-TOOBIG the lengths of the two values, multiplied, are over 16777216", "LCS a b LEN");
    EXPECT("-TOOBIG...", "LCS k k");
    EXPECT("-ERR If you want both the length and indexes, please just use IDX.", "LCS a b IDX LEN");

    /* BITOP: 64 sources of a megabyte, and one more. */
    fill_key("m", 1048576);
    const char *argv[3 + 65] = {"BITOP", "OR", "all"};
    for (int i = 3; i < 3 + 65; i++)
        argv[i] = "m";
    struct e2e_raw r;
    e2e_raw_open(&r, &s);
    const struct answer *a = e2e_raw_commandv(&r, 3 + 64, argv);
    assert_int_equal(a->type, ANSWER_INTEGER);
    assert_int_equal(a->integer, 1048576);
    char *got = e2e_show_answer(e2e_raw_commandv(&r, 3 + 65, argv));
    assert_string_equal(got, "-TOOBIG the values to combine have more than 64 MiB together");
    free(got);
    e2e_raw_close(&r);
    e2e_finish(&s);
}

/* ---- who may, and what shows ---- */

static void permissions(void **state)
{
    redisContext *u = e2e_connect(&s);
    (void)state;
    EXPECT("+OK", "MSET r foo w bar");
    EXPECT("+OK", "ACL SETUSER u on nopass +@bitmap +lcs %%R~r* %%W~w*");
    e2e_expect(u, "+OK", "AUTH u x");
    e2e_expect(u, "-NOPERM...", "GET r");
    e2e_expect(u, ":0", "GETBIT r 0");
    e2e_expect(u, "[:6]", "BITFIELD r GET u4 0");
    e2e_expect(u, "[:6]", "BITFIELD r OVERFLOW SAT GET u4 0");
    e2e_expect(u, "-NOPERM...", "BITFIELD r GET u4 0 SET u4 0 1");
    e2e_expect(u, "-NOPERM...", "BITFIELD w GET u4 0");
    e2e_expect(u, "-NOPERM...", "SETBIT w 0 1"); /* it tells the old bit */
    e2e_expect(u, ":3", "BITOP NOT w r");
    e2e_expect(u, "-NOPERM...", "BITOP NOT w w");
    e2e_expect(u, "-NOPERM...", "BITOP NOT r r");
    e2e_expect(u, "$foo", "LCS r r");
    e2e_expect(u, "-NOPERM...", "LCS r w");
    redisFree(u);
    e2e_finish(&s);
}

static void values_do_not_show(void **state)
{
    struct e2e_raw r;
    (void)state;
    EXPECT("+OK", "CONFIG SET slowlog-log-slower-than 0");
    e2e_raw_open(&r, &s);
    e2e_raw_expect(&r, "+OK", "MONITOR");
    EXPECT("[:0]", "BITFIELD k SET u16 0 4711");
    EXPECT(":0", "SETBIT k 33 1");
    EXPECT("-ERR syntax error", "BITFIELD k 4711");
    static const char *const shown[] = {"\"BITFIELD\" \"k\" \"(redacted)\"", "\"SETBIT\" \"k\" \"33\" \"(redacted)\"",
                                        "\"BITFIELD\" \"k\" \"(redacted)\""};
    for (int i = 0; i < 3; i++) {
        char *line = e2e_show_answer(e2e_raw_next(&r));
        assert_non_null(strstr(line, shown[i]));
        assert_null(strstr(line, "4711"));
        free(line);
    }
    redisReply *log = e2e_command(s.c, "SLOWLOG GET -1");
    char *text = e2e_show_reply(log);
    assert_non_null(strstr(text, "BITFIELD"));
    assert_null(strstr(text, "4711"));
    free(text);
    freeReplyObject(log);
    e2e_raw_close(&r);
    e2e_finish(&s);
}

static void a_client_that_caches_is_told(void **state)
{
    struct e2e_raw r;
    (void)state;
    EXPECT("+OK", "MSET k a l b");
    e2e_raw_open3(&r, &s);
    e2e_raw_expect(&r, "+OK", "CLIENT TRACKING ON");
    e2e_raw_expect(&r, ":3", "BITCOUNT k");
    EXPECT(":1", "SETBIT k 1 0");
    char *got = e2e_show_answer(e2e_raw_next(&r));
    assert_string_equal(got, ">[$invalidate [$k]]");
    free(got);
    e2e_raw_expect(&r, ":0", "LCS k l LEN");
    EXPECT(":1", "BITOP NOT l k");
    got = e2e_show_answer(e2e_raw_next(&r));
    assert_string_equal(got, ">[$invalidate [$l]]");
    free(got);
    e2e_raw_close(&r);
    e2e_finish(&s);
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, e2e_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_pipeline_of_bits),
        T(in_a_transaction),
        T(combined_values),
        T(what_changes_nothing_writes_nothing),
        T(what_is_too_big_is_refused),
        T(permissions),
        T(values_do_not_show),
        T(a_client_that_caches_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
