/* follow.c - WBL.FOLLOW: what a follower of the log hears, where it goes on after crashes, and what it must not hear.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/e2e.h"
#include "tests/lib/trio.h"

static struct e2e s;

#define EXPECT(want, ...) e2e_expect(s.c, want, __VA_ARGS__)

static int start(void **state)
{
    (void)state;
    e2e_start(&s, "--io-threads", "3", "--wbl-segment-bytes", "1mb", NULL);
    EXPECT("+OK", "VAULT.CREATE v");
    return 0;
}

/* ---- an answer: [next, [[$lsn :1 $term ...] ...]] ---- */

enum { LSN = 1, TERM = 3, TIME = 5, TYPE = 7, VAULT = 9, KEY = 11, VERSION = 13, FIELDS = 14 };

static redisReply *answer_of(redisReply *r)
{
    if (r->type != REDIS_REPLY_ARRAY)
        fail_msg("%s", r->str ? r->str : "not an array");
    assert_int_equal(r->elements, 2);
    assert_int_equal(r->element[0]->type, REDIS_REPLY_INTEGER);
    for (size_t i = 0; i < r->element[1]->elements; i++)
        assert_int_equal(r->element[1]->element[i]->elements, FIELDS);
    return r;
}

static redisReply *follow(redisContext *c, long long from, const char *more)
{
    char text[256];
    snprintf(text, sizeof text, "WBL.FOLLOW FROM %lld %s", from, more);
    return answer_of(e2e_command(c, text));
}

static long long next_of(const redisReply *r)
{
    return r->element[0]->integer;
}

static const redisReply *row(const redisReply *r, size_t i)
{
    assert_true(i < r->element[1]->elements);
    return r->element[1]->element[i];
}

/* "set {v}/a 1" */
static const char *shown(const redisReply *one)
{
    static char text[256];
    snprintf(text, sizeof text, "%s %s %lld", one->element[TYPE]->str, one->element[KEY]->str,
             one->element[VERSION]->integer);
    return text;
}

static long long now(void)
{
    redisReply *r = answer_of(e2e_command(s.c, "WBL.FOLLOW FROM $"));
    long long lsn = next_of(r);
    assert_int_equal(r->element[1]->elements, 0);
    freeReplyObject(r);
    return lsn;
}

static void expect_rows(redisContext *c, long long from, const char *more, const char *const *want)
{
    redisReply *r = follow(c, from, more);
    size_t n = 0;
    for (; want[n]; n++)
        assert_string_equal(shown(row(r, n)), want[n]);
    assert_int_equal(r->element[1]->elements, n);
    freeReplyObject(r);
}

#define ROWS(from, more, ...) expect_rows(s.c, from, more, (const char *const[]){__VA_ARGS__, NULL})

/* ---- what is told ---- */

static void changes_have_names_and_versions_and_no_values(void **state)
{
    (void)state;
    long long from = now();
    EXPECT(":1", "SECRET.SET v a UNSPEAKABLE");
    EXPECT("[:2 :1]", "SECRET.MSET v a UNSPEAKABLE b UNSPEAKABLE");
    EXPECT("+OK", "SECRET.META v a {\"owner\":1}");
    EXPECT(":1", "SECRET.EXPIRE v a 1000");
    EXPECT(":1", "SECRET.DEL v a");
    EXPECT("+OK", "SECRET.UNDELETE v a");
    EXPECT(":...", "SECRET.DESTROY v a");
    EXPECT(":1", "KEY.CREATE v k");
    EXPECT(":2", "KEY.ROTATE v k");
    EXPECT("+OK", "SET x UNSPEAKABLE");
    EXPECT("+OK", "FLUSHDB");
    EXPECT("+OK", "SWAPDB 0 1");
    EXPECT("+OK", "VAULT.SET v MAXVERSIONS 5");
    redisReply *r = follow(s.c, from, "COUNT 1000");
    char *text = e2e_show_reply(r);
    assert_null(strstr(text, "UNSPEAKABLE"));
    free(text);
    static const char *const want[] = {
        "set {v}/a 1",    "set {v}/a 2",   "set {v}/b 1",     "meta {v}/a 2", "meta {v}/a 2",
        "delete {v}/a 2", "meta {v}/a 2",  "destroy {v}/a 0", "key {v}/k 1",  "key {v}/k 2",
        "vault {db0} 0",  "set {db0}/x 1", "flush {db0} 0",   "swap  0",      "vault {v} 0",
    };
    size_t at = 0;
    for (size_t i = 0; i < r->element[1]->elements && at < sizeof want / sizeof want[0]; i++)
        at += strcmp(shown(row(r, i)), want[at]) == 0; /* in this order; the purge behind a flush is told too */
    if (at < sizeof want / sizeof want[0])
        fail_msg("%s is missing", want[at]);
    assert_string_equal(row(r, 0)->element[VAULT]->str, "v");
    assert_true(row(r, 0)->element[LSN]->integer >= from);
    assert_int_equal(row(r, 1)->element[LSN]->integer, row(r, 2)->element[LSN]->integer);
    assert_true(row(r, 0)->element[TIME]->integer > 1600000000000ll);
    freeReplyObject(r);
    e2e_finish(&s);
}

static void a_record_is_never_parted(void **state)
{
    (void)state;
    long long from = now();
    EXPECT(":1", "SECRET.SET v one 1");
    EXPECT("[:1 :1 :1]", "SECRET.MSET v a 1 b 1 c 1");
    EXPECT(":1", "SECRET.SET v two 1");
    redisReply *r = follow(s.c, from, "COUNT 2");
    assert_int_equal(r->element[1]->elements, 4);
    long long next = next_of(r);
    assert_int_equal(next, row(r, 3)->element[LSN]->integer + 1);
    freeReplyObject(r);
    ROWS(next, "COUNT 2", "set {v}/two 1");
    ROWS(from, "MATCH {v}/[bc]", "set {v}/b 1", "set {v}/c 1");
    ROWS(from, "MATCH {v}/two", "set {v}/two 1");
    r = follow(s.c, from, "MATCH {w}*"); /* it goes on behind what it looked at */
    assert_int_equal(next_of(r), now());
    freeReplyObject(r);
    EXPECT("-ERR FROM is missing...", "WBL.FOLLOW COUNT 1 BLOCK 1");
    EXPECT("-ERR FROM must be 1 or more", "WBL.FOLLOW FROM 0");
    EXPECT("-ERR value is not an integer...", "WBL.FOLLOW FROM word");
    EXPECT("-ERR syntax error near 'NOW'", "WBL.FOLLOW FROM 1 NOW");
    e2e_finish(&s);
}

static void only_what_one_may_read_is_told(void **state)
{
    (void)state;
    EXPECT("+OK", "ACL SETUSER app on >pw %%R~{v}/app/* %%W~{v}/log/* ~app:* +wbl.follow");
    EXPECT("+OK", "ACL SETUSER reader on >pw ~* +@read +@secret");
    redisContext *c = e2e_connect(&s);
    e2e_expect(c, "+OK", "AUTH app pw");
    long long from = now();
    EXPECT("[:1 :1 :1]", "SECRET.MSET v app/a 1 log/b 1 other 1");
    EXPECT("+OK", "MSET app:x 1 app 1");
    EXPECT(":1", "KEY.CREATE v app-key");
    expect_rows(c, from, "", (const char *const[]){"set {v}/app/a 1", "set {db0}/app:x 1", NULL});
    EXPECT("+OK", "ACL SETUSER app resetkeys %%R~{v}*");
    expect_rows(
        c, from, "MATCH {v}*",
        (const char *const[]){"set {v}/app/a 1", "set {v}/log/b 1", "set {v}/other 1", "key {v}/app-key 1", NULL});
    e2e_expect(c, "+OK", "AUTH reader pw");
    e2e_expect(c, "-NOPERM ...", "WBL.FOLLOW FROM 1");
    redisFree(c);
    e2e_finish(&s);
}

/* ---- waiting ---- */

#define FOLLOWERS 20

static void send_command(redisContext *c, const char *fmt, long long n)
{
    int done = 0;
    redisAppendCommand(c, fmt, n);
    while (!done)
        assert_int_equal(redisBufferWrite(c, &done), REDIS_OK);
}

static redisReply *receive(redisContext *c)
{
    redisReply *r = NULL;
    assert_int_equal(redisGetReply(c, (void **)&r), REDIS_OK);
    return answer_of(r);
}

static void those_who_wait_are_woken(void **state)
{
    redisContext *c[FOLLOWERS];
    long long next[FOLLOWERS];
    (void)state;
    for (int i = 0; i < FOLLOWERS; i++) {
        c[i] = e2e_connect(&s);
        next[i] = now();
    }
    for (int round = 1; round <= 50; round++) {
        for (int i = 0; i < FOLLOWERS; i++)
            send_command(c[i], "WBL.FOLLOW FROM %lld BLOCK 0", next[i]);
        e2e_int(s.c, "SECRET.SET v a %d", round);
        for (int i = 0; i < FOLLOWERS; i++) {
            char want[32];
            redisReply *r = receive(c[i]);
            snprintf(want, sizeof want, "set {v}/a %d", round);
            assert_int_equal(r->element[1]->elements, 1);
            assert_string_equal(shown(row(r, 0)), want);
            next[i] = next_of(r);
            freeReplyObject(r);
        }
    }
    /* Some go while they wait, one waits for what is not for it, and for no longer than it said. */
    for (int i = 1; i < FOLLOWERS; i++)
        send_command(c[i], "WBL.FOLLOW FROM %lld BLOCK 0", next[i]);
    for (int i = 1; i < FOLLOWERS; i++)
        redisFree(c[i]);
    send_command(c[0], "WBL.FOLLOW FROM %lld MATCH nothing BLOCK 50", next[0]);
    EXPECT(":51", "SECRET.SET v a again");
    redisReply *r = receive(c[0]);
    assert_int_equal(r->element[1]->elements, 0);
    assert_true(next_of(r) >= next[0]);
    freeReplyObject(r);
    redisFree(c[0]);
    e2e_finish(&s);
}

/* ---- crashes, and a log that is trimmed ---- */

#define CRASHES 4
#define PATHS 16

struct heard {
    long long next;
    int version[PATHS]; /* heard of, each path's newest */
};

/* Versions of a path come one after the other, and none is left out. */
static void hear(struct heard *h, const redisReply *r)
{
    for (size_t i = 0; i < r->element[1]->elements; i++) {
        int path;
        if (sscanf(row(r, i)->element[KEY]->str, "{v}/p%d", &path) != 1)
            continue;
        assert_int_equal(row(r, i)->element[VERSION]->integer, h->version[path] + 1);
        h->version[path]++;
    }
    h->next = next_of(r);
}

static void hear_all(struct heard *h)
{
    for (size_t n = 1; n;) {
        redisReply *r = follow(s.c, h->next, "COUNT 50");
        n = r->element[1]->elements;
        hear(h, r);
        freeReplyObject(r);
    }
}

static void nothing_is_missed_across_crashes(void **state)
{
    struct heard h = {.next = now()};
    int written[PATHS] = {0};
    (void)state;
    for (int crash = 0; crash <= CRASHES; crash++) {
        redisContext *c = e2e_connect(&s);
        for (int i = 0; i < 300; i++)
            redisAppendCommand(c, "SECRET.SET v p%d value-%d", i % PATHS, i);
        for (int i = 0; i < (crash < CRASHES ? 150 : 300); i++) {
            redisReply *r = NULL;
            assert_int_equal(redisGetReply(c, (void **)&r), REDIS_OK);
            assert_int_equal(r->type, REDIS_REPLY_INTEGER);
            written[i % PATHS] = (int)r->integer;
            freeReplyObject(r);
            if (i == 70) { /* while they are on their way */
                redisReply *some = follow(s.c, h.next, "COUNT 30");
                hear(&h, some);
                freeReplyObject(some);
            }
        }
        redisFree(c);
        if (crash == CRASHES)
            break;
        e2e_kill(&s); /* the follower has the LSN that it was told last */
        e2e_again(&s);
    }
    hear_all(&h);
    for (int i = 0; i < PATHS; i++) {
        char path[16];
        snprintf(path, sizeof path, "p%d", i);
        assert_true(h.version[i] >= written[i]);
        redisReply *r = e2e_command(s.c, "SECRET.VERSIONS v %s", path); /* and nothing that is not there */
        assert_int_equal(r->element[0]->element[1]->integer, h.version[i]);
        freeReplyObject(r);
    }
    e2e_finish(&s);
}

static void one_that_comes_too_late_is_told_where_the_log_begins(void **state)
{
    char value[20000];
    (void)state;
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = 0;
    struct e2e_deadline w = {.what = "the log is trimmed"};
    while (e2e_not_yet(&w)) {
        for (int i = 0; i < 200; i++)
            redisAppendCommand(s.c, "SECRET.SET v big%d %s", i % 4, value);
        for (int i = 0; i < 200; i++)
            e2e_expect_next(s.c, ":...");
        EXPECT(":...", "SNAPSHOT.CREATE");
        if (atoll(e2e_info(s.c, "wbl_first_lsn")) > 1)
            break;
    }
    redisReply *r = e2e_command(s.c, "WBL.FOLLOW FROM 1 BLOCK 0");
    long long begins = 0;
    assert_int_equal(r->type, REDIS_REPLY_ERROR);
    assert_int_equal(sscanf(r->str, "ERR the log begins at LSN %lld", &begins), 1);
    freeReplyObject(r);
    assert_true(begins > 1);
    r = follow(s.c, atoll(e2e_info(s.c, "wbl_first_lsn")), "COUNT 1");
    assert_int_equal(r->element[1]->elements, 1);
    freeReplyObject(r);
    e2e_finish(&s);
}

/* It has no values, and is for those who look after the server. */
static void a_sealed_server_tells(void **state)
{
    (void)state;
    long long from = now();
    EXPECT(":1", "SECRET.SET v a one");
    EXPECT("+OK", "HSM.SEAL");
    EXPECT("-SEALED ...", "SECRET.GET v a");
    ROWS(from, "", "set {v}/a 1");
    e2e_finish(&s);
}

/* ---- a cell ---- */

/* LSNs are the same on all nodes: one goes on where it left another. Nothing is told before it is committed. */
static void a_follower_goes_on_at_another_node(void **state)
{
    struct trio t;
    (void)state;
    trio_start(&t);
    redisContext *c = t.node[0].c, *other = t.node[1].c;
    redisReply *r = answer_of(e2e_command(c, "WBL.FOLLOW FROM $"));
    long long from = next_of(r);
    freeReplyObject(r);
    e2e_expect(c, "+OK", "MSET a 1 b 1");
    expect_rows(c, from, "MATCH {db0}/*", (const char *const[]){"set {db0}/a 1", "set {db0}/b 1", NULL});
    r = follow(other, from, "MATCH {db0}/* BLOCK 0");
    assert_int_equal(r->element[1]->elements, 2);
    from = next_of(r);
    freeReplyObject(r);

    redisContext *writer = e2e_connect(&t.node[0]);
    r = follow(c, from, "");
    from = next_of(r);
    freeReplyObject(r);
    e2e_pause(&t.node[1]);
    e2e_pause(&t.node[2]);
    trio_write_in_limbo(&t, 0, writer, "SET c 1");
    r = follow(c, from, "BLOCK 50"); /* it is in the log; nobody else has it */
    assert_int_equal(r->element[1]->elements, 0);
    freeReplyObject(r);
    kill(t.node[1].pid, SIGCONT);
    kill(t.node[2].pid, SIGCONT);
    assert_int_equal(redisGetReply(writer, (void **)&r), REDIS_OK);
    if (r->type == REDIS_REPLY_STATUS) /* else it may be open what became of it */
        expect_rows(c, from, "BLOCK 0", (const char *const[]){"set {db0}/c 1", NULL});
    freeReplyObject(r);
    redisFree(writer);
    trio_finish(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, e2e_teardown)
        TEST(changes_have_names_and_versions_and_no_values),
        TEST(a_record_is_never_parted),
        TEST(only_what_one_may_read_is_told),
        TEST(those_who_wait_are_woken),
        TEST(nothing_is_missed_across_crashes),
        TEST(one_that_comes_too_late_is_told_where_the_log_begins),
        TEST(a_sealed_server_tells),
        cmocka_unit_test_teardown(a_follower_goes_on_at_another_node, trio_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
