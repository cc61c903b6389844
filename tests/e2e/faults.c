/* faults.c - a cell of three under three unmodified Sentinels, each process on a host of its own, and clients who keep
 * a history (history.h), while nodes are killed, paused and cut off, one fault after the other. What the clients saw
 * must have been possible.
 *
 *     FAULTS=300 SEED=7 build/tests/e2e/faults      so many faults, drawn from that seed; by default 10 from seed 1
 *
 * Where hosts cannot be made (net.h) nothing is cut off, and that is said.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/lib/history.h"
#include "tests/lib/net.h"
#include "tests/lib/sentinels.h"

#define CLIENTS 8
#define DOWN_AFTER_MS 1000
#define FAULTS_OF_A_HISTORY 10
#define PROGRESS 100 /* operations that must happen under a fault, and after it */
#define HOLD_MS 3000 /* a fault lasts until there is progress, and up to so much longer */

struct scene {
    struct trio t;
    struct sentinels s;
    uint64_t rng;
    unsigned primary, replica; /* of the fault under way: a replica, one of the two */
};

static int have_net;
static struct scene scene; /* not in the test's frame: clients run while a failed test leaves */

static unsigned draw(struct scene *x, unsigned below)
{
    x->rng = x->rng * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(x->rng >> 33) % below;
}

static unsigned number(const char *name, unsigned normally)
{
    const char *text = getenv(name);
    return text ? (unsigned)strtoul(text, NULL, 10) : normally;
}

/* ---- faults ---- */

static void kill_primary(struct scene *x)
{
    e2e_kill(&x->t.node[x->primary]);
}

static void kill_replica(struct scene *x)
{
    e2e_kill(&x->t.node[x->replica]);
}

static void kill_all(struct scene *x)
{
    for (unsigned i = 0; i < TRIO; i++)
        e2e_kill(&x->t.node[i]);
}

static void start_killed(struct scene *x)
{
    for (unsigned i = 0; i < TRIO; i++)
        if (!x->t.node[i].pid)
            trio_begin_again(&x->t, i);
    for (unsigned i = 0; i < TRIO; i++)
        if (!x->t.node[i].c)
            e2e_ready(&x->t.node[i]);
}

static void pause_primary(struct scene *x)
{
    kill(x->t.node[x->primary].pid, SIGSTOP);
}

static void pause_replica(struct scene *x)
{
    kill(x->t.node[x->replica].pid, SIGSTOP);
}

static void wake(struct scene *x)
{
    for (unsigned i = 0; i < TRIO; i++)
        kill(x->t.node[i].pid, SIGCONT);
}

static void cut_both_ways(unsigned a, unsigned b)
{
    net_cut(a, b);
    net_cut(b, a);
}

/* A node from the others; the Sentinels from first on are on the others' side. */
static void cut_node(unsigned node, int its_sentinel_too)
{
    for (unsigned host = 0; host < TRIO + SENTINELS; host++) {
        int with_it = host == node || (its_sentinel_too && host == TRIO + node);
        if (with_it)
            continue;
        cut_both_ways(node, host);
        if (its_sentinel_too)
            cut_both_ways(TRIO + node, host);
    }
}

static void cut_primary(struct scene *x)
{
    cut_node(x->primary, 0);
}

static void cut_minority(struct scene *x)
{
    cut_node(x->primary, 1);
}

static void cut_replica(struct scene *x)
{
    cut_node(x->replica, 0);
}

/* Sentinels hear all of them, and so think that all is well. */
static void cut_unseen(struct scene *x)
{
    for (unsigned i = 0; i < TRIO; i++)
        if (i != x->primary)
            cut_both_ways(x->primary, i);
}

static void deafen_primary(struct scene *x)
{
    for (unsigned i = 0; i < TRIO; i++)
        if (i != x->primary)
            net_cut(i, x->primary);
}

static void silence_primary(struct scene *x)
{
    for (unsigned i = 0; i < TRIO; i++)
        if (i != x->primary)
            net_cut(x->primary, i);
}

static void cut_replicas(struct scene *x)
{
    unsigned other = TRIO - x->primary - x->replica;
    cut_both_ways(x->replica, other);
}

static void heal(struct scene *x)
{
    (void)x;
    net_heal();
}

static void order(struct scene *x)
{
    redisContext *c = sentinels_connect(&x->s, draw(x, SENTINELS));
    redisReply *r =
        c ? redisCommand(c, "SENTINEL FAILOVER cell") : NULL; /* it may be refused: no good replica just now */
    if (r)
        freeReplyObject(r);
    if (c)
        redisFree(c);
}

static void nothing(struct scene *x)
{
    (void)x;
}

static const struct fault {
    const char *name;
    int net;     /* it needs hosts */
    int moves;   /* another node must become primary under it */
    int goes_on; /* a majority is left, and operations must go on under it */
    void (*strike)(struct scene *);
    void (*mend)(struct scene *);
} faults[] = {
    {"kill -9 of the primary", 0, 1, 1, kill_primary, start_killed},
    {"kill -9 of a replica", 0, 0, 1, kill_replica, start_killed},
    {"kill -9 of all", 0, 0, 0, kill_all, start_killed},
    {"SIGSTOP of the primary", 0, 1, 1, pause_primary, wake},
    {"SIGSTOP of a replica", 0, 0, 1, pause_replica, wake},
    {"SENTINEL FAILOVER", 0, 0, 1, order, nothing},
    {"the primary is cut off", 1, 1, 1, cut_primary, heal},
    {"the primary and a Sentinel are cut off", 1, 1, 1, cut_minority, heal},
    {"the primary is cut off from the replicas only", 1, 1, 1, cut_unseen, heal},
    {"the primary does not hear the replicas", 1, 1, 1, deafen_primary, heal},
    {"the replicas do not hear the primary", 1, 1, 1, silence_primary, heal},
    {"a replica is cut off", 1, 0, 1, cut_replica, heal},
    {"the replicas are cut off from each other", 1, 0, 1, cut_replicas, heal},
};

/* ---- the campaign ---- */

static void await_progress(const char *what)
{
    struct e2e_deadline w = {.what = what};
    unsigned from = history_done();
    while (history_done() < from + PROGRESS && e2e_not_yet(&w)) {
    }
}

static void await_other_primary(struct scene *x, const char *what)
{
    struct e2e_deadline w = {.what = what};
    unsigned i = x->primary;
    do
        i = (i + 1) % TRIO;
    while ((i == x->primary || !trio_is_master(&x->t, i)) && e2e_not_yet(&w));
}

static const struct fault *draw_fault(struct scene *x)
{
    const struct fault *f;
    do
        f = &faults[draw(x, sizeof faults / sizeof *faults)];
    while (f->net && !have_net);
    return f;
}

static void one_fault(struct scene *x, unsigned n)
{
    x->primary = sentinels_await_settled(&x->s, &x->t);
    x->replica = (x->primary + 1 + draw(x, TRIO - 1)) % TRIO;
    const struct fault *f = draw_fault(x);
    unsigned hold_ms = draw(x, HOLD_MS);
    printf("# %u: %s (node %u, replica %u)\n", n, f->name, x->primary, x->replica);
    fflush(stdout);
    f->strike(x);
    if (f->moves)
        await_other_primary(x, f->name);
    if (f->goes_on)
        await_progress(f->name);
    usleep(hold_ms * 1000); /* nothing is waited for: faults are of different lengths */
    f->mend(x);
    await_progress("operations to go on after a fault");
}

static void clients_see_one_register_for_each_key(void **state)
{
    struct scene *x = &scene;
    unsigned all = number("FAULTS", 10), seed = number("SEED", 1);
    (void)state;
    printf("# FAULTS=%u SEED=%u%s\n", all, seed, have_net ? "" : ": no network namespaces here, nothing is cut off");
    x->rng = seed;
    if (have_net)
        trio_plan_net(&x->t);
    else
        trio_plan(&x->t);
    trio_start_planned(&x->t);
    sentinels_start(&x->s, &x->t, DOWN_AFTER_MS);
    for (unsigned n = 0; n < all;) {
        history_begin(&x->t, CLIENTS);
        await_progress("operations");
        do
            one_fault(x, ++n);
        while (n < all && n % FAULTS_OF_A_HISTORY);
        sentinels_await_settled(&x->s, &x->t);
        history_end();
        history_check(&x->t);
        printf("# %s: linearizable\n", history_summary());
    }
    sentinels_end(&x->s);
    trio_finish(&x->t);
}

/* Both ends notice while it lasts, long before repl-timeout, and need not wait for each other when it is over. */
static void links_that_are_cut_end_before_the_cut_does(void **state)
{
    struct trio *t = &scene.t;
    (void)state;
    if (!have_net)
        skip();
    trio_plan_net(t);
    trio_start_planned(t);
    cut_node(0, 0);
    e2e_log_wait(&t->node[0], "is gone: its host acknowledges nothing");
    e2e_log_wait(&t->node[1], "is gone: its host acknowledges nothing");
    e2e_log_wait(&t->node[2], "is gone: its host acknowledges nothing");
    net_heal();
    trio_await_followers(t, 0, 2);
    trio_finish(t);
}

static int teardown(void **state)
{
    if (have_net)
        net_heal();
    history_end();
    return trio_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(links_that_are_cut_end_before_the_cut_does, teardown),
        cmocka_unit_test_teardown(clients_see_one_register_for_each_key, teardown),
    };
    have_net = net_start(TRIO + SENTINELS);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
