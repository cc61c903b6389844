/* sentinel.c - a cell of three under three unmodified Sentinels, which promote whom they like; the cell sees to it that
 * nothing acknowledged is lost. */
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

#define SENTINELS 3

static struct {
    pid_t pid;
    int port;
    char dir[E2E_PATH];
} sentinel[SENTINELS];

static void start_sentinel(unsigned i, const struct trio *t)
{
    char path[E2E_PATH + 16], log[E2E_PATH + 16];
    snprintf(sentinel[i].dir, sizeof sentinel[i].dir, "/tmp/coffer-e2e-XXXXXX");
    assert_non_null(mkdtemp(sentinel[i].dir));
    sentinel[i].port = e2e_free_port();
    snprintf(path, sizeof path, "%s/conf", sentinel[i].dir);
    snprintf(log, sizeof log, "%s/log", sentinel[i].dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f,
            "port %d\nbind 127.0.0.1\ndir %s\n"
            "sentinel monitor cell 127.0.0.1 %d 2\n"
            "sentinel down-after-milliseconds cell 2000\n"
            "sentinel failover-timeout cell 10000\n"
            "sentinel parallel-syncs cell 2\n",
            sentinel[i].port, sentinel[i].dir, t->port[0]);
    fclose(f);
    sentinel[i].pid = e2e_spawn(log, "redis-sentinel", path, NULL);
}

static redisContext *ask_sentinel(unsigned i)
{
    redisContext *c = redisConnectWithTimeout("127.0.0.1", sentinel[i].port, (struct timeval){.tv_sec = 5});
    if (c && c->err) {
        redisFree(c);
        c = NULL;
    }
    return c;
}

/* The port of the primary that the first Sentinel tells clients; 0: it does not answer. */
static int told_port(void)
{
    redisContext *c = ask_sentinel(0);
    redisReply *r = c ? redisCommand(c, "SENTINEL get-master-addr-by-name cell") : NULL;
    int port = r && r->type == REDIS_REPLY_ARRAY && r->elements == 2 ? (int)strtol(r->element[1]->str, NULL, 10) : 0;
    if (r)
        freeReplyObject(r);
    if (c)
        redisFree(c);
    return port;
}

/* A number that a Sentinel tells of the primary: "num-slaves", "num-other-sentinels". */
static int told(unsigned i, const char *field)
{
    redisContext *c = ask_sentinel(i);
    redisReply *r = c ? redisCommand(c, "SENTINEL master cell") : NULL;
    int value = -1;
    for (size_t k = 0; r && r->type == REDIS_REPLY_ARRAY && k + 1 < r->elements; k += 2)
        if (strcmp(r->element[k]->str, field) == 0)
            value = (int)strtol(r->element[k + 1]->str, NULL, 10);
    if (r)
        freeReplyObject(r);
    if (c)
        redisFree(c);
    return value;
}

static void start_sentinels(const struct trio *t)
{
    struct e2e_deadline w = {.what = "the Sentinels to know each other and all nodes"};
    for (unsigned i = 0; i < SENTINELS; i++)
        start_sentinel(i, t);
    for (unsigned i = 0; i < SENTINELS; i++)
        while ((told(i, "num-slaves") != 2 || told(i, "num-other-sentinels") != 2) && e2e_not_yet(&w)) {
        }
}

static void end_sentinels(void)
{
    char said[256];
    for (unsigned i = 0; i < SENTINELS; i++) {
        if (sentinel[i].pid)
            e2e_end(sentinel[i].pid);
        sentinel[i].pid = 0;
        e2e_run(said, sizeof said, "rm", "-rf", sentinel[i].dir, NULL);
    }
}

static int teardown(void **state)
{
    return trio_teardown(state); /* a failed test's Sentinels end with this program, their directories stay */
}

/* Until the Sentinels tell of another primary than `old`, which serves. Its index. */
static unsigned await_failover(struct trio *t, unsigned old)
{
    struct e2e_deadline w = {.what = "a failover"};
    for (;;) {
        int port = told_port();
        for (unsigned i = 0; i < TRIO; i++)
            if (i != old && t->port[i] == port && t->node[i].pid && trio_is_master(t, i))
                return i;
        e2e_not_yet(&w);
    }
}

static void await_writes(unsigned more)
{
    struct e2e_deadline w = {.what = "writes to be acknowledged"};
    unsigned from = trio_load_done();
    while (trio_load_done() < from + more && e2e_not_yet(&w)) {
    }
}

static void the_sentinels_replace_a_primary_that_was_killed(void **state)
{
    struct trio t;
    unsigned primary = 0;
    (void)state;
    trio_start(&t);
    start_sentinels(&t);
    trio_load_begin(&t, 4);
    for (unsigned round = 0; round < 2; round++) {
        unsigned old = primary;
        await_writes(50);
        e2e_kill(&t.node[old]);
        primary = await_failover(&t, old);
        await_writes(50);
        trio_again(&t, old);
        trio_await(&t, old, "role", "slave");
        trio_await_followers(&t, primary, 2);
    }
    trio_load_end(&t);
    end_sentinels(); /* who close connections */
    trio_check(&t);
    trio_finish(&t);
}

static void the_sentinels_replace_a_primary_that_was_paused(void **state)
{
    struct trio t;
    (void)state;
    trio_start(&t);
    start_sentinels(&t);
    trio_load_begin(&t, 4);
    await_writes(50);
    kill(t.node[0].pid, SIGSTOP);
    unsigned primary = await_failover(&t, 0);
    await_writes(50);
    kill(t.node[0].pid, SIGCONT);
    trio_await(&t, 0, "role", "slave");
    trio_await_followers(&t, primary, 2);
    trio_load_end(&t);
    end_sentinels(); /* who close connections */
    trio_check(&t);
    trio_finish(&t);
}

/* SENTINEL FAILOVER of a primary that is well: where plain Redis loses what was acknowledged meanwhile. */
static void an_ordered_failover_loses_nothing(void **state)
{
    struct trio t;
    struct e2e_deadline w = {.what = "an order to be taken"};
    (void)state;
    trio_start(&t);
    start_sentinels(&t);
    trio_load_begin(&t, 4);
    await_writes(50);
    for (int taken = 0; !taken && e2e_not_yet(&w);) {
        redisContext *c = ask_sentinel(0);
        redisReply *r = c ? redisCommand(c, "SENTINEL FAILOVER cell") : NULL;
        taken = r && r->type == REDIS_REPLY_STATUS;
        if (r)
            freeReplyObject(r);
        if (c)
            redisFree(c);
    }
    unsigned primary = await_failover(&t, 0);
    await_writes(50);
    trio_await_followers(&t, primary, 2);
    trio_load_end(&t);
    end_sentinels(); /* who close connections */
    trio_check(&t);
    trio_finish(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_sentinels_replace_a_primary_that_was_killed, teardown),
        cmocka_unit_test_teardown(the_sentinels_replace_a_primary_that_was_paused, teardown),
        cmocka_unit_test_teardown(an_ordered_failover_loses_nothing, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
