/* linear.c - CLIENT CONSISTENCY linearizable: reads that wait for a majority. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/trio.h"

#define PIPELINE 200

static redisContext *linear(struct e2e *s)
{
    redisContext *c = e2e_connect(s);
    e2e_expect(c, "+OK", "CLIENT CONSISTENCY linearizable");
    return c;
}

/* 1: the server keeps the connection of that name waiting. */
static int is_kept_waiting(redisContext *c, const char *name)
{
    char text[64];
    redisReply *r = e2e_command(c, "CLIENT LIST");
    snprintf(text, sizeof text, " name=%s ", name);
    const char *at = strstr(r->str, text), *flags = at ? strstr(at, " flags=") : NULL;
    int waits = flags && flags[7] == 'b';
    freeReplyObject(r);
    return waits;
}

static void reads_are_confirmed_by_a_majority(void **state)
{
    struct trio t;
    (void)state;
    trio_start(&t);
    e2e_expect(t.node[0].c, "+OK", "CONFIG SET quorum-timeout 50000"); /* however busy the machine is */
    e2e_expect(t.node[0].c, "+OK", "SET k one");
    redisContext *c = linear(&t.node[0]);
    e2e_expect(c, "$one", "GET k");
    e2e_expect(c, ":1", "EXISTS k");
    e2e_expect(c, "+OK", "MULTI");
    e2e_expect(c, "+QUEUED", "GET k");
    e2e_expect(c, "[$one]", "EXEC");
    e2e_expect(c, "+OK", "SET k two"); /* writes are as ever */
    e2e_expect(c, "$two", "GET k");
    e2e_info_reaches(t.node[0].c, "read_rounds", 4); /* as the cell's thread last said */
    redisContext *other = linear(&t.node[1]);
    e2e_expect(other, "-READONLY linearizable reads are the primary's...", "GET k");
    e2e_expect(other, "+PONG", "PING");
    e2e_expect(other, "+OK", "MULTI");
    e2e_expect(other, "+QUEUED", "GET k");
    e2e_expect(other, "-READONLY linearizable reads are the primary's...", "EXEC");
    e2e_expect(other, "-ERR EXEC without MULTI", "EXEC"); /* that is over */
    e2e_expect(other, "+OK", "CLIENT CONSISTENCY local");
    e2e_expect(other, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(c, "CLIENT LASTLSN"));
    e2e_expect(other, "$two", "GET k");
    e2e_expect(other, "-ERR syntax error", "CLIENT CONSISTENCY sometimes");
    e2e_expect(c, "+RESET", "RESET");
    int rounds = atoi(e2e_info(t.node[0].c, "read_rounds"));
    e2e_expect(c, "$two", "GET k");
    assert_int_equal(atoi(e2e_info(t.node[0].c, "read_rounds")), rounds);
    redisFree(c);
    redisFree(other);
    trio_finish(&t);
}

/* What came together is confirmed together, also what waits behind a write of its own. */
static void a_pipeline_shares_rounds(void **state)
{
    struct trio t;
    char want[16];
    (void)state;
    trio_start(&t);
    e2e_expect(t.node[0].c, "+OK", "CONFIG SET quorum-timeout 50000");
    redisContext *c = linear(&t.node[0]);
    for (int i = 0; i < PIPELINE; i++) {
        redisAppendCommand(c, "SET k %d", i);
        redisAppendCommand(c, "GET k");
    }
    for (int i = 0; i < PIPELINE; i++) {
        snprintf(want, sizeof want, "$%d", i);
        e2e_expect_next(c, "+OK");
        e2e_expect_next(c, want);
    }
    assert_in_range(e2e_info_reaches(t.node[0].c, "read_rounds", 1), 1, PIPELINE / 2);
    redisFree(c);
    trio_finish(&t);
}

static void send_get(redisContext *c)
{
    redisAppendCommand(c, "GET k");
    for (int done = 0; !done;)
        assert_int_equal(redisBufferWrite(c, &done), REDIS_OK);
}

/* The primary has no reason yet to think that it lost its majority, and local reads go on; these do not. */
static void without_a_majority_they_wait_and_are_refused(void **state)
{
    struct trio t;
    struct e2e_deadline waits = {.what = "a read that is kept waiting"}, told = {.what = "a refusal"};
    redisReply *r = NULL;
    (void)state;
    trio_start(&t);
    e2e_expect(t.node[0].c, "+OK", "CONFIG SET quorum-timeout 50000");
    e2e_expect(t.node[0].c, "+OK", "SET k one");
    redisContext *c = linear(&t.node[0]);
    e2e_expect(c, "+OK", "CLIENT SETNAME waits");
    e2e_pause(&t.node[1]);
    e2e_pause(&t.node[2]);
    send_get(c);
    while (!is_kept_waiting(t.node[0].c, "waits") && e2e_not_yet(&waits)) {
    }
    e2e_expect(t.node[0].c, "$one", "GET k");
    assert_true(is_kept_waiting(t.node[0].c, "waits"));
    kill(t.node[2].pid, SIGCONT); /* a majority again */
    e2e_expect_next(c, "$one");
    e2e_pause(&t.node[2]);
    e2e_expect(t.node[0].c, "+OK", "CONFIG SET quorum-timeout 100");
    do {
        if (r)
            freeReplyObject(r);
        r = e2e_command(c, "GET k");
    } while (r->type != REDIS_REPLY_ERROR && e2e_not_yet(&told));
    assert_memory_equal(r->str, "NOQUORUM", 8);
    freeReplyObject(r);
    kill(t.node[1].pid, SIGCONT);
    kill(t.node[2].pid, SIGCONT);
    redisFree(c);
    trio_finish(&t);
}

/* The one that was primary and does not know better yet never answers with what is old. */
static void a_deposed_primary_answers_nothing_old(void **state)
{
    struct trio t;
    redisReply *r;
    (void)state;
    trio_start(&t);
    e2e_expect(t.node[0].c, "+OK", "SET k one");
    redisContext *c = linear(&t.node[0]);
    e2e_pause(&t.node[0]);
    trio_lead(&t, 1);
    e2e_expect(t.node[1].c, "+OK", "SET k two");
    send_get(c);
    kill(t.node[0].pid, SIGCONT);
    assert_int_equal(redisGetReply(c, (void **)&r), REDIS_OK);
    assert_int_equal(r->type, REDIS_REPLY_ERROR);
    freeReplyObject(r);
    redisFree(c);
    trio_finish(&t);
}

static void a_node_that_is_alone_needs_nobody(void **state)
{
    struct e2e a, b;
    char port[16];
    (void)state;
    e2e_start(&a, "--port", "auto", NULL);
    e2e_expect(a.c, "+OK", "SET k one");
    redisContext *c = linear(&a);
    e2e_expect(c, "$one", "GET k");
    snprintf(port, sizeof port, "%d", a.port);
    e2e_start(&b, "--port", "auto", "--replicaof", "127.0.0.1", port, NULL);
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_expect(c, "$one", "GET k");
    e2e_expect(b.c, "+OK", "CLIENT CONSISTENCY linearizable");
    e2e_expect(b.c, "-READONLY ...", "GET k");
    e2e_finish(&b);
    e2e_expect(c, "$one", "GET k");
    redisFree(c);
    e2e_finish(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(reads_are_confirmed_by_a_majority, trio_teardown),
        cmocka_unit_test_teardown(a_pipeline_shares_rounds, trio_teardown),
        cmocka_unit_test_teardown(without_a_majority_they_wait_and_are_refused, trio_teardown),
        cmocka_unit_test_teardown(a_deposed_primary_answers_nothing_old, trio_teardown),
        cmocka_unit_test_teardown(a_node_that_is_alone_needs_nobody, trio_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
