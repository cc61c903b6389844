/* sentinel.c - a cell of three under three unmodified Sentinels, which promote whom they like; the cell sees to it that
 * nothing acknowledged is lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <signal.h>

#include "tests/lib/sentinels.h"

#define DOWN_AFTER_MS 2000

static void await_writes(unsigned more)
{
    struct e2e_deadline w = {.what = "writes to be acknowledged"};
    unsigned from = trio_load_done();
    while (trio_load_done() < from + more && e2e_not_yet(&w)) {
    }
}

static void begin(struct trio *t, struct sentinels *s)
{
    trio_start(t);
    sentinels_start(s, t, DOWN_AFTER_MS);
    trio_load_begin(t, 4);
    await_writes(50);
}

static void finish(struct trio *t, struct sentinels *s)
{
    await_writes(50);
    sentinels_await_settled(s, t);
    trio_load_end(t);
    sentinels_end(s);
    trio_check(t);
    trio_finish(t);
}

static void the_sentinels_replace_a_primary_that_was_killed(void **state)
{
    struct trio t;
    struct sentinels s;
    (void)state;
    begin(&t, &s);
    for (unsigned round = 0; round < 2; round++) {
        unsigned old = sentinels_await_settled(&s, &t);
        e2e_kill(&t.node[old]);
        sentinels_await_other(&s, &t, old);
        await_writes(50);
        trio_again(&t, old);
    }
    finish(&t, &s);
}

static void the_sentinels_replace_a_primary_that_was_paused(void **state)
{
    struct trio t;
    struct sentinels s;
    (void)state;
    begin(&t, &s);
    unsigned old = sentinels_await_settled(&s, &t);
    kill(t.node[old].pid, SIGSTOP);
    sentinels_await_other(&s, &t, old);
    await_writes(50);
    kill(t.node[old].pid, SIGCONT);
    finish(&t, &s);
}

static int order(const struct sentinels *s)
{
    redisContext *c = sentinels_connect(s, 0);
    redisReply *r = c ? redisCommand(c, "SENTINEL FAILOVER cell") : NULL;
    int taken = r && r->type == REDIS_REPLY_STATUS;
    if (r)
        freeReplyObject(r);
    if (c)
        redisFree(c);
    return taken;
}

/* SENTINEL FAILOVER of a primary that is well: where plain Redis loses what was acknowledged meanwhile. */
static void an_ordered_failover_loses_nothing(void **state)
{
    struct trio t;
    struct sentinels s;
    struct e2e_deadline w = {.what = "an order to be taken"};
    (void)state;
    begin(&t, &s);
    unsigned old = sentinels_await_settled(&s, &t);
    while (!order(&s) && e2e_not_yet(&w)) {
    }
    sentinels_await_other(&s, &t, old);
    finish(&t, &s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(the_sentinels_replace_a_primary_that_was_killed, trio_teardown),
        cmocka_unit_test_teardown(the_sentinels_replace_a_primary_that_was_paused, trio_teardown),
        cmocka_unit_test_teardown(an_ordered_failover_loses_nothing, trio_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
