/* tracking.c - clients that cache: CLIENT TRACKING. What Redis's own unit/tracking does not see: secrets, permissions,
 * replicas, transactions, commits, and caches under load that must be right when all is quiet. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/e2e.h"
#include "tests/lib/trio.h"

static struct e2e s;

#define EXPECT(want, ...) e2e_expect(s.c, want, __VA_ARGS__)

static int start(void **state)
{
    (void)state;
    e2e_start(&s, "--io-threads", "3", "--enable-debug-command", "yes", NULL);
    EXPECT("+OK", "VAULT.CREATE v");
    return 0;
}

static void expect_next(struct e2e_raw *r, const char *want)
{
    const struct answer *a = e2e_raw_next(r);
    assert_non_null(a);
    char *text = e2e_show_answer(a);
    assert_string_equal(text, want);
    free(text);
}

/* Nothing was pushed: what comes is the answer. */
static void expect_nothing(struct e2e_raw *r)
{
    e2e_raw_expect(r, "$quiet", "ECHO quiet");
}

static struct e2e_raw tracker(const char *options)
{
    struct e2e_raw r;
    char text[128];
    e2e_raw_open3(&r, &s);
    snprintf(text, sizeof text, "CLIENT TRACKING ON %s", options);
    e2e_raw_expect(&r, "+OK", text);
    return r;
}

/* ---- secrets ---- */

static void a_secret_that_was_read_is_told_of_once(void **state)
{
    (void)state;
    EXPECT(":1", "SECRET.SET v app/db one");
    struct e2e_raw r = tracker("");
    e2e_raw_expect(&r, "$one", "SECRET.GET v app/db");
    EXPECT(":2", "SECRET.SET v app/db two");
    expect_next(&r, ">[$invalidate [${v}/app/db]]");
    EXPECT(":3", "SECRET.SET v app/db three"); /* it did not read it again */
    expect_nothing(&r);
    e2e_raw_close(&r);
    e2e_finish(&s);
}

/* Each kind of change, of a secret that was just read. */
static void all_that_changes_a_secret_is_told(void **state)
{
    static const char *const changes[] = {
        "SECRET.SET v p two",     "SECRET.MSET v p three q x", "SECRET.META v p {\"a\":1}",
        "SECRET.STAGE v p old 2", "SECRET.EXPIRE v p 1000",    "SECRET.PERSIST v p",
        "SECRET.DEL v p",         "SECRET.UNDELETE v p",       "SET {v}/p four",
        "APPEND {v}/p more",      "RENAME {v}/p {v}/q",        "SECRET.DESTROY v q",
        "COPY {v}/other {v}/p",   "MOVE {v}/nothing 3",        "DEL {v}/p",
        "SECRET.SET v p again",
    };
    (void)state;
    EXPECT(":1", "SECRET.SET v p one");
    EXPECT(":1", "SECRET.SET v other one");
    struct e2e_raw r = tracker("");
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        freeReplyObject(e2e_command(s.c, "SECRET.GET v p"));
        (void)e2e_raw_command(&r, "SECRET.GET v p");
        redisReply *reply = e2e_command(s.c, changes[i]);
        int none = strncmp(changes[i], "MOVE", 4) == 0 || strstr(changes[i], "DESTROY v q") != NULL;
        assert_int_not_equal(reply->type, none ? REDIS_REPLY_STRING : REDIS_REPLY_ERROR);
        freeReplyObject(reply);
        if (!none)
            expect_next(&r, ">[$invalidate [${v}/p]]");
        expect_nothing(&r);
    }
    e2e_raw_close(&r);
    e2e_finish(&s);
}

/* A name is told as the client has it. */
static void names_are_those_that_were_read(void **state)
{
    (void)state;
    struct e2e_raw r = tracker("");
    e2e_raw_expect(&r, "nil", "GET k"); /* neither secret nor database is there */
    EXPECT("+OK", "SET k 1");
    expect_next(&r, ">[$invalidate [$k]]");
    e2e_raw_expect(&r, "$1", "SECRET.GET db0 k");
    EXPECT("+OK", "SET k 2");
    expect_next(&r, ">[$invalidate [${db0}/k]]");
    e2e_raw_expect(&r, "$2", "GET {db0}/k");
    e2e_raw_expect(&r, "$2", "GET k");
    EXPECT("+OK", "SET k 3");
    expect_next(&r, ">[$invalidate [$k ${db0}/k]]");
    e2e_raw_expect(&r, "nil", "GET {user:1}/k"); /* no vault has such a name: it is a path */
    EXPECT("+OK", "SET {user:1}/k 1");
    expect_next(&r, ">[$invalidate [${user:1}/k]]");
    e2e_raw_expect(&r, "+OK", "SELECT 1");
    e2e_raw_expect(&r, "nil", "GET k");
    EXPECT("+OK", "SET k 4"); /* of database 0 */
    expect_nothing(&r);
    e2e_raw_close(&r);
    e2e_finish(&s);
}

static void an_expiry_is_told(void **state)
{
    (void)state;
    EXPECT("+OK", "DEBUG SET-ACTIVE-EXPIRE 0");
    EXPECT("+OK", "SET k 1 PX 1");
    struct e2e_raw r = tracker("");
    (void)e2e_raw_command(&r, "GET k");
    EXPECT("+OK", "DEBUG SET-ACTIVE-EXPIRE 1");
    expect_next(&r, ">[$invalidate [$k]]"); /* when it is taken away */
    e2e_raw_close(&r);
    e2e_finish(&s);
}

static void what_concerns_all_is_told_as_nil(void **state)
{
    (void)state;
    EXPECT("+OK", "SET k 1");
    struct e2e_raw r = tracker(""), b = tracker("BCAST PREFIX nothing");
    static const char *const all[] = {"FLUSHDB", "SWAPDB 0 1", "FLUSHALL"};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        EXPECT("+OK", "SET k 1");
        (void)e2e_raw_command(&r, "GET k");
        EXPECT("+OK", all[i]);
        expect_next(&r, ">[$invalidate nil]");
        expect_next(&b, ">[$invalidate nil]");
        expect_nothing(&r);
        expect_nothing(&b);
    }
    e2e_raw_close(&r);
    e2e_raw_close(&b);
    e2e_finish(&s);
}

/* Its own change comes behind the answer, alone and in a transaction. */
static void an_answer_is_not_overtaken(void **state)
{
    (void)state;
    EXPECT("+OK", "MSET a 1 b 1");
    struct e2e_raw r = tracker("");
    for (int i = 0; i < 100; i++) {
        (void)e2e_raw_command(&r, "MGET a b");
        e2e_raw_expect(&r, "+OK", "SET a 1");
        expect_next(&r, ">[$invalidate [$a]]");
        (void)e2e_raw_command(&r, "GET a");
        e2e_raw_expect(&r, "+OK", "MULTI");
        e2e_raw_expect(&r, "+QUEUED", "INCR a");
        e2e_raw_expect(&r, "+QUEUED", "GET b");
        e2e_raw_expect(&r, "+QUEUED", "PING");
        e2e_raw_expect(&r, "[:2 $1 +PONG]", "EXEC");
        expect_next(&r, ">[$invalidate [$a]]");
        expect_nothing(&r);
    }
    e2e_raw_close(&r);
    e2e_finish(&s);
}

/* What a transaction read and changed is kept by nobody: it is told of, also with NOLOOP, since the note is used up. */
static void a_transaction_that_reads_what_it_writes_is_told(void **state)
{
    (void)state;
    struct e2e_raw r = tracker("NOLOOP");
    e2e_raw_expect(&r, "+OK", "MULTI");
    e2e_raw_expect(&r, "+QUEUED", "INCR a");
    e2e_raw_expect(&r, "+QUEUED", "GET a");
    e2e_raw_expect(&r, "[:1 $1]", "EXEC");
    expect_next(&r, ">[$invalidate [$a]]");
    e2e_raw_expect(&r, "+OK", "MULTI"); /* what it only read is not */
    e2e_raw_expect(&r, "+QUEUED", "GET b");
    e2e_raw_expect(&r, "+QUEUED", "INCR a");
    e2e_raw_expect(&r, "[nil :2]", "EXEC");
    expect_nothing(&r);
    EXPECT("+OK", "SET b 1");
    expect_next(&r, ">[$invalidate [$b]]");
    e2e_raw_close(&r);
    e2e_finish(&s);
}

/* ---- who may know ---- */

static void only_names_that_one_may_read_are_told(void **state)
{
    (void)state;
    EXPECT("+OK", "ACL SETUSER app on >pw %%R~{v}/app/* %%W~{v}/log/* ~app:* +@secret +@read +client +echo +select");
    EXPECT("+OK", "ACL SETUSER none on >pw ~* +client +echo");
    struct e2e_raw app, none;
    e2e_raw_open3(&app, &s);
    e2e_raw_expect(&app, "+OK", "AUTH app pw");
    e2e_raw_expect(&app, "+OK", "CLIENT TRACKING ON BCAST");
    e2e_raw_open3(&none, &s);
    e2e_raw_expect(&none, "+OK", "AUTH none pw");
    e2e_raw_expect(&none, "+OK", "CLIENT TRACKING ON BCAST");
    EXPECT(":1", "SECRET.SET v root 1");
    EXPECT("[:1 :1]", "SECRET.MSET v log/a 1 app/b 1");
    expect_next(&app, ">[$invalidate [${v}/app/b]]");
    EXPECT("+OK", "MSET app:1 x other x");
    expect_next(&app, ">[$invalidate [$app:1]]");
    EXPECT("+OK", "ACL SETUSER app resetkeys ~{v}/log/*");
    EXPECT("[:2 :2]", "SECRET.MSET v log/a 2 app/b 2");
    expect_next(&app, ">[$invalidate [${v}/log/a]]");
    expect_nothing(&app);
    expect_nothing(&none);
    e2e_raw_close(&app);
    e2e_raw_close(&none);
    e2e_finish(&s);
}

/* A redirection is no way around: what is told is what the one that is told may read. */
static void a_redirection_gives_no_permission(void **state)
{
    struct e2e_raw target;
    char options[64];
    (void)state;
    EXPECT("+OK", "ACL SETUSER app on >pw ~{v}/app/* +@secret +client +echo");
    e2e_raw_open3(&target, &s);
    e2e_raw_expect(&target, "+OK", "AUTH app pw");
    char *id = e2e_show_answer(e2e_raw_command(&target, "CLIENT ID"));
    snprintf(options, sizeof options, "REDIRECT %s", id + 1);
    free(id);
    struct e2e_raw r = tracker(options);
    e2e_raw_expect(&r, "[nil nil]", "SECRET.MGET v app/x other");
    EXPECT("[:1 :1]", "SECRET.MSET v other 1 app/x 1");
    expect_next(&target, ">[$invalidate [${v}/app/x]]");
    expect_nothing(&target);
    expect_nothing(&r);
    e2e_raw_close(&target);
    e2e_raw_close(&r);
    e2e_finish(&s);
}

/* ---- limits ---- */

static void names_beyond_the_limit_are_told_and_forgotten(void **state)
{
    (void)state;
    EXPECT("+OK", "CONFIG SET tracking-table-max-keys 10");
    struct e2e_raw r = tracker("");
    for (int i = 0; i < 30; i++)
        redisAppendCommand(s.c, "SET k%d 1", i);
    for (int i = 0; i < 30; i++)
        e2e_expect_next(s.c, "+OK");
    int told = 0;
    for (int i = 0; i < 30; i++) {
        const struct answer *a = e2e_raw_command(&r, "GET k%d", i);
        for (; a && a->type == ANSWER_PUSH; a = e2e_raw_next(&r))
            told++;
    }
    assert_true(strcmp(e2e_info(s.c, "tracking_total_keys"), "10") == 0);
    char last[64];
    for (; told < 20; told++) /* the last ones are on their way */
        assert_non_null(e2e_raw_next(&r));
    snprintf(last, sizeof last, "$quiet");
    e2e_raw_expect(&r, last, "ECHO quiet");
    e2e_raw_close(&r);
    e2e_info_wait(s.c, "tracking_clients", "0");
    e2e_info_wait(s.c, "tracking_total_keys", "0");
    e2e_finish(&s);
}

/* Who broadcasts and does not read keeps no memory. */
static void one_that_does_not_read_is_closed(void **state)
{
    (void)state;
    EXPECT("+OK", "CONFIG SET client-output-buffer-limit %s", "pubsub 65536 0 0");
    struct e2e_raw r = tracker("BCAST");
    struct e2e_deadline w = {.what = "the client that does not read is closed"};
    while (e2e_not_yet(&w)) {
        for (int i = 0; i < 200; i++)
            redisAppendCommand(s.c, "SET key-with-a-name-that-is-not-short-%d-%0400d 1", i, i);
        for (int i = 0; i < 200; i++)
            e2e_expect_next(s.c, "+OK");
        if (strcmp(e2e_info(s.c, "tracking_clients"), "0") == 0)
            break;
    }
    e2e_raw_close(&r);
    e2e_finish(&s);
}

/* ---- caches under load ---- */

#define KEYS 8
#define WRITERS 3
#define ROUNDS 400

struct cache {
    struct e2e_raw r;
    char value[KEYS][32]; /* empty: not kept */
    unsigned reads, hits;
};

static void forget(struct cache *c, const struct answer *push)
{
    char *text = e2e_show_answer(push);
    int key;
    if (strcmp(text, ">[$invalidate nil]") == 0)
        memset(c->value, 0, sizeof c->value);
    else if (sscanf(text, ">[$invalidate [${v}/k%d]]", &key) == 1)
        c->value[key][0] = 0;
    else
        fail_msg("not an invalidation: %s", text);
    free(text);
}

static const struct answer *answer_of(struct cache *c)
{
    const struct answer *a;
    while ((a = e2e_raw_next(&c->r)) != NULL && a->type == ANSWER_PUSH)
        forget(c, a);
    assert_non_null(a);
    return a;
}

static void keep(struct cache *c, int key, const char *shown)
{
    snprintf(c->value[key], sizeof c->value[key], "%s", shown);
}

/* One key, or two in a transaction that also writes a third. */
static void read_some(struct cache *c, unsigned round)
{
    int key = (int)(round % KEYS), other = (key + 3) % KEYS;
    char text[128], *shown;
    c->reads++;
    if (round % 3) {
        c->hits += c->value[key][0] != 0;
        snprintf(text, sizeof text, "SECRET.GET v k%d\r\n", key);
        e2e_raw_send(&c->r, text, strlen(text));
        keep(c, key, shown = e2e_show_answer(answer_of(c)));
        free(shown);
        return;
    }
    snprintf(text, sizeof text, "MULTI\r\nSECRET.GET v k%d\r\nGET {v}/k%d\r\nINCR n\r\nEXEC\r\n", key, other);
    e2e_raw_send(&c->r, text, strlen(text));
    for (int i = 0; i < 4; i++)
        (void)answer_of(c);
    shown = e2e_show_answer(answer_of(c));
    char a[32], b[32];
    assert_int_equal(sscanf(shown, "[%31s %31s", a, b), 2);
    keep(c, key, a);
    keep(c, other, b);
    free(shown);
}

/* When all is quiet no cache holds anything but what is there. */
static void no_cache_is_stale_when_all_is_quiet(void **state)
{
    struct cache cache[3];
    redisContext *writer[WRITERS];
    (void)state;
    for (int i = 0; i < KEYS; i++)
        EXPECT("+OK", "SET {v}/k%d 0", i);
    for (int i = 0; i < 3; i++) {
        memset(&cache[i], 0, sizeof cache[i]);
        cache[i].r = tracker(i == 2 ? "NOLOOP" : "");
    }
    for (int i = 0; i < WRITERS; i++)
        writer[i] = e2e_connect(&s);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned w = 0; w < WRITERS; w++) { /* on their way while the caches read */
            redisAppendCommand(writer[w], "SECRET.SET v k%u w%u-%u", (round * 5 + w) % KEYS, w, round);
            int done = 0;
            while (!done)
                assert_int_equal(redisBufferWrite(writer[w], &done), REDIS_OK);
        }
        for (int i = 0; i < 3; i++)
            read_some(&cache[i], round + (unsigned)i * 7);
    }
    for (int w = 0; w < WRITERS; w++) {
        for (int i = 0; i < ROUNDS; i++) {
            redisReply *reply = NULL;
            assert_int_equal(redisGetReply(writer[w], (void **)&reply), REDIS_OK);
            freeReplyObject(reply);
        }
        redisFree(writer[w]);
    }
    for (int i = 0; i < 3; i++) {
        e2e_raw_send(&cache[i].r, "PING\r\n", 6);
        (void)answer_of(&cache[i]); /* what is told is in front of it */
        for (int k = 0; k < KEYS; k++)
            if (cache[i].value[k][0])
                EXPECT(cache[i].value[k], "SECRET.GET v k%d", k);
        e2e_raw_close(&cache[i].r);
    }
    e2e_finish(&s);
}

/* ---- a cell ---- */

/* Clients of a replica are told when it has the change, and nobody is told of what is not committed. */
static void replicas_tell_and_nobody_tells_early(void **state)
{
    struct trio t;
    struct e2e_raw r[2];
    (void)state;
    trio_start(&t);
    e2e_expect(t.node[0].c, "+OK", "SET k 1");
    long long lsn = e2e_int(t.node[0].c, "CLIENT LASTLSN");
    for (int i = 0; i < 2; i++) {
        e2e_expect(t.node[i].c, "+OK", "READ.AFTER %lld TIMEOUT 0", lsn);
        e2e_raw_open3(&r[i], &t.node[i]);
        e2e_raw_expect(&r[i], "+OK", "CLIENT TRACKING ON");
        e2e_raw_expect(&r[i], "$1", "GET k");
    }
    e2e_expect(t.node[0].c, "+OK", "SET k 2");
    for (int i = 0; i < 2; i++) {
        expect_next(&r[i], ">[$invalidate [$k]]");
        e2e_raw_expect(&r[i], "$2", "GET k"); /* never what was told of */
    }
    /* Without a majority it is written, and not committed. */
    redisContext *c = e2e_connect(&t.node[0]);
    e2e_pause(&t.node[1]);
    e2e_pause(&t.node[2]);
    trio_write_in_limbo(&t, 0, c, "SET k 3");
    expect_nothing(&r[0]);
    kill(t.node[1].pid, SIGCONT);
    kill(t.node[2].pid, SIGCONT);
    redisReply *reply = NULL;
    assert_int_equal(redisGetReply(c, (void **)&reply), REDIS_OK);
    if (reply->type == REDIS_REPLY_STATUS) /* it may be answered UNCERTAIN or ROLLEDBACK where all is slow */
        expect_next(&r[0], ">[$invalidate [$k]]");
    freeReplyObject(reply);
    redisFree(c);
    e2e_raw_close(&r[0]);
    e2e_raw_close(&r[1]);
    trio_finish(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, e2e_teardown)
        TEST(a_secret_that_was_read_is_told_of_once),
        TEST(all_that_changes_a_secret_is_told),
        TEST(names_are_those_that_were_read),
        TEST(an_expiry_is_told),
        TEST(what_concerns_all_is_told_as_nil),
        TEST(an_answer_is_not_overtaken),
        TEST(a_transaction_that_reads_what_it_writes_is_told),
        TEST(only_names_that_one_may_read_are_told),
        TEST(a_redirection_gives_no_permission),
        TEST(names_beyond_the_limit_are_told_and_forgotten),
        TEST(one_that_does_not_read_is_closed),
        TEST(no_cache_is_stale_when_all_is_quiet),
        cmocka_unit_test_teardown(replicas_tell_and_nobody_tells_early, trio_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
