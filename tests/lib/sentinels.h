/* sentinels.h - three unmodified Sentinels that watch a cell of three (trio.h), and what they say of it.
 *
 *     struct sentinels s;
 *     sentinels_start(&s, &t, 1000);
 *     e2e_kill(&t.node[0]);
 *     unsigned primary = sentinels_await_other(&s, &t, 0);
 *     trio_again(&t, 0);
 *     primary = sentinels_await_settled(&s, &t);       only now the next one
 *
 * A Sentinel can be left behind: it leads a failover, others begin the next at an equal epoch, and it stays with a
 * primary that is gone. That is Sentinel's own, and takes it long to mend; so who kills again first waits until all of
 * them are through with the time before.
 *
 * They are spoken to over UNIX sockets, so that it does not matter which host they are on. In a trio with hosts
 * (net.h), Sentinel i is on host TRIO + i.
 */
#ifndef COFFER_TESTS_LIB_SENTINELS_H
#define COFFER_TESTS_LIB_SENTINELS_H

#include "tests/lib/trio.h"

#define SENTINELS 3

struct sentinels {
    struct sentinel {
        pid_t pid; /* 0: not running */
        char dir[E2E_PATH];
    } at[SENTINELS];
};

/* Starts three in directories of their own, and waits until they know each other and all nodes. */
void sentinels_start(struct sentinels *s, struct trio *t, unsigned down_after_ms);
/* They close connections: before what is looked at over some. */
void sentinels_end(struct sentinels *s);

/* Until the first Sentinel tells of another primary than `old`, which serves. Its index. */
unsigned sentinels_await_other(struct sentinels *s, struct trio *t, unsigned old);
/* Until all of them name one primary, in one epoch, that serves, with two replicas that follow it, and nobody is down
 * or has a failover under way. Its index. */
unsigned sentinels_await_settled(struct sentinels *s, struct trio *t);

/* A connection to one; the caller's, NULL: it does not answer. */
redisContext *sentinels_connect(const struct sentinels *s, unsigned i);

#endif
