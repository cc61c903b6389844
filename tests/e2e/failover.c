/* failover.c - FAILOVER: a primary hands over, in a cell with voters and without. */
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

/* FAILOVER to a replica that is paused, and lacks a write: it is given up as offline soon, and then once more. */
static void fail_over_to_paused(struct e2e *from, struct e2e *to, const char *more)
{
    struct e2e_deadline w = {.what = "FAILOVER to begin"};
    char order[96];
    snprintf(order, sizeof order, "FAILOVER TO 127.0.0.1 %d %s", to->port, more);
    for (int begun = 0; !begun;) {
        e2e_pause(to);
        e2e_expect(from->c, "+OK", "SET k behind");
        redisReply *r = e2e_command(from->c, order);
        begun = r->type == REDIS_REPLY_STATUS;
        if (!begun) {
            kill(to->pid, SIGCONT);
            e2e_not_yet(&w);
        }
        freeReplyObject(r);
    }
}

static void await_writes(unsigned more)
{
    struct e2e_deadline w = {.what = "writes to be acknowledged"};
    unsigned from = trio_load_done();
    while (trio_load_done() < from + more && e2e_not_yet(&w)) {
    }
}

static void start_cell(struct trio *t)
{
    trio_start(t);
    for (unsigned i = 0; i < TRIO; i++)
        t->node[i].port = t->port[i];
}

static void a_primary_hands_over_under_load(void **state)
{
    struct trio t;
    (void)state;
    start_cell(&t);
    trio_load_begin(&t, 4);
    for (unsigned round = 0; round < 3; round++) {
        unsigned from = round % TRIO, to = (round + 1) % TRIO;
        await_writes(50);
        e2e_expect(t.node[from].c, "+OK", "FAILOVER TO 127.0.0.1 %d", t.port[to]);
        trio_await_master(&t, to);
        trio_await_followers(&t, to, 2);
        trio_await(&t, from, "role", "slave");
        trio_await(&t, from, "master_failover_state", "no-failover");
    }
    await_writes(50);
    e2e_expect(t.node[0].c, "+OK", "FAILOVER"); /* to any */
    trio_await(&t, 0, "master_link_status", "up");
    trio_load_end(&t);
    trio_await_followers(&t, trio_is_master(&t, 1) ? 1 : 2, 2);
    trio_check(&t);
    trio_finish(&t);
}

static void what_cannot_be_is_refused_in_redis_words(void **state)
{
    struct trio t;
    (void)state;
    start_cell(&t);
    redisContext *c = t.node[0].c;
    e2e_expect(c, "-ERR No failover in progress.", "FAILOVER ABORT");
    e2e_expect(c, "-ERR syntax error", "FAILOVER ABORT TIMEOUT 10");
    e2e_expect(c, "-ERR syntax error", "FAILOVER TO 127.0.0.1");
    e2e_expect(c, "-ERR FAILOVER timeout must be greater than 0", "FAILOVER TIMEOUT 0");
    e2e_expect(c, "-ERR FAILOVER with force option requires both a timeout and target HOST and IP.",
               "FAILOVER TO 127.0.0.1 %d FORCE", t.port[1]);
    e2e_expect(c, "-ERR FAILOVER target HOST and PORT is not a replica.", "FAILOVER TO 127.0.0.1 1");
    e2e_expect(t.node[1].c, "-ERR FAILOVER is not valid when server is a replica.", "FAILOVER");
    e2e_kill(&t.node[1]);
    trio_await_followers(&t, 0, 1);
    e2e_expect(c, "-ERR FAILOVER target replica is not online.", "FAILOVER TO 127.0.0.1 %d", t.port[1]);
    e2e_expect(c, "+OK", "SET k v");
    trio_finish(&t);
}

static void writes_wait_until_the_replica_has_everything(void **state)
{
    struct trio t;
    struct e2e_deadline w = {.what = "a write that is kept waiting"};
    (void)state;
    start_cell(&t);
    redisContext *first = t.node[0].c, *writer = e2e_connect(&t.node[0]);
    fail_over_to_paused(&t.node[0], &t.node[1], "");
    e2e_info_wait(first, "master_failover_state", "waiting-for-sync");
    e2e_expect(first, "-ERR FAILOVER already in progress.", "FAILOVER");
    e2e_expect(first, "-ERR REPLICAOF not allowed while failing over.", "REPLICAOF NO ONE");
    redisAppendCommand(writer, "SET k waits");
    for (int done = 0; !done;)
        assert_int_equal(redisBufferWrite(writer, &done), REDIS_OK);
    for (int kept = 0; !kept && e2e_not_yet(&w);) {
        redisReply *r = e2e_command(first, "CLIENT LIST");
        kept = strstr(r->str, " flags=b") != NULL;
        freeReplyObject(r);
    }
    e2e_expect(first, "$behind", "GET k"); /* reads do not wait */
    e2e_expect(first, "+OK", "FAILOVER ABORT");
    e2e_expect_next(writer, "+OK");
    e2e_info_wait(first, "master_failover_state", "no-failover");
    e2e_info_wait(first, "role", "master");

    kill(t.node[1].pid, SIGCONT);
    fail_over_to_paused(&t.node[0], &t.node[1], "TIMEOUT 50");
    e2e_log_wait(&t.node[0], "no replica has caught up in time");
    e2e_info_wait(first, "master_failover_state", "no-failover");
    e2e_expect(first, "+OK", "SET k goes-on");

    kill(t.node[1].pid, SIGCONT);
    fail_over_to_paused(&t.node[0], &t.node[1], "");
    redisAppendCommand(writer, "SET k later");
    for (int done = 0; !done;)
        assert_int_equal(redisBufferWrite(writer, &done), REDIS_OK);
    kill(t.node[1].pid, SIGCONT);
    trio_await_master(&t, 1);
    e2e_expect_next(writer, "-READONLY ...");
    e2e_expect(t.node[1].c, "$behind", "GET k");
    redisFree(writer);
    trio_finish(&t);
}

/* ---- without voters ---- */

static void expect_config(redisContext *c, const char *name, const char *value)
{
    redisReply *r = e2e_command(c, "CONFIG GET %s", name);
    assert_int_equal(r->elements, 2);
    assert_string_equal(r->element[1]->str, value);
    freeReplyObject(r);
}

static void start_pair(struct e2e *a, struct e2e *b)
{
    char port[16];
    e2e_start(a, "--port", "auto", NULL);
    snprintf(port, sizeof port, "%d", a->port);
    e2e_start(b, "--port", "auto", "--replicaof", "127.0.0.1", port, NULL);
    e2e_info_wait(b->c, "master_link_status", "up");
    e2e_info_wait(a->c, "connected_slaves", "1");
}

static void two_nodes_without_voters_change_places(void **state)
{
    struct e2e node[2];
    char follows[64];
    (void)state;
    start_pair(&node[0], &node[1]);
    for (int round = 0; round < 4; round++) {
        struct e2e *from = &node[round % 2], *to = &node[(round + 1) % 2];
        e2e_expect(from->c, "+OK", "SET k%d before", round);
        e2e_expect(from->c, "+OK", "FAILOVER TO 127.0.0.1 %d TIMEOUT 50000", to->port);
        e2e_info_wait(to->c, "role", "master");
        e2e_info_wait(from->c, "master_link_status", "up");
        e2e_info_wait(from->c, "master_failover_state", "no-failover");
        e2e_info_wait(to->c, "connected_slaves", "1");
        e2e_expect(from->c, "-READONLY ...", "SET k x");
        for (int i = 0; i <= round; i++)
            e2e_expect(to->c, "$before", "GET k%d", i);
        snprintf(follows, sizeof follows, "127.0.0.1 %d", to->port);
        expect_config(from->c, "replicaof", follows);
        expect_config(to->c, "replicaof", "");
    }
    e2e_finish(&node[1]);
    e2e_finish(&node[0]);
}

static void a_forced_one_that_comes_to_nothing_is_aborted(void **state)
{
    struct e2e a, b;
    (void)state;
    start_pair(&a, &b);
    fail_over_to_paused(&a, &b, "FORCE TIMEOUT 1");
    e2e_info_wait(a.c, "master_failover_state", "failover-in-progress");
    e2e_info_wait(a.c, "role", "slave");
    e2e_kill(&b);
    e2e_expect(a.c, "+OK", "FAILOVER ABORT");
    e2e_info_wait(a.c, "role", "master");
    e2e_info_wait(a.c, "master_failover_state", "no-failover");
    e2e_expect(a.c, "$behind", "GET k");
    e2e_expect(a.c, "+OK", "SET k two");
    expect_config(a.c, "replicaof", "");
    e2e_finish(&b);
    e2e_finish(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_primary_hands_over_under_load, trio_teardown),
        cmocka_unit_test_teardown(what_cannot_be_is_refused_in_redis_words, trio_teardown),
        cmocka_unit_test_teardown(writes_wait_until_the_replica_has_everything, trio_teardown),
        cmocka_unit_test_teardown(two_nodes_without_voters_change_places, trio_teardown),
        cmocka_unit_test_teardown(a_forced_one_that_comes_to_nothing_is_aborted, trio_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
