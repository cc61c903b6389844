/* trio.h - a cell of three servers for end-to-end tests, and clients that load it.
 *
 *     struct trio t;
 *     trio_start(&t);                  three servers, one of them primary
 *     trio_load_begin(&t, 4);          four clients, who write unique values wherever they may
 *     e2e_kill(&t.node[0]); trio_lead(&t, 1); ...
 *     trio_load_end(&t);
 *     trio_check(&t);                  all nodes have all that was acknowledged, and the same log
 *
 * A failed test leaves by longjmp; so the clients of a load never fail it themselves, and are ended by
 * trio_teardown, which is also e2e_teardown.
 */
#ifndef COFFER_TESTS_LIB_TRIO_H
#define COFFER_TESTS_LIB_TRIO_H

#include "tests/lib/e2e.h"

#define TRIO 3

struct trio {
    struct e2e node[TRIO];
    int net; /* each is on a host of its own, of its number (net.h) */
    char host[TRIO][16];
    int port[TRIO];
    char voters[TRIO][32];
};

/* Chooses ports; nothing runs. trio_plan_net: on the hosts of net.h, whose first three are the nodes'. */
void trio_plan(struct trio *t);
void trio_plan_net(struct trio *t);
void trio_begin(struct trio *t, unsigned i); /* its first start; does not wait */
/* Starts three in new directories, and waits until node 0 is primary and the others follow: as planned, or planned on
 * this host. */
void trio_start_planned(struct trio *t);
void trio_start(struct trio *t);
void trio_begin_again(struct trio *t, unsigned i);
void trio_again(struct trio *t, unsigned i); /* the same again, in its directory, until it answers */
void trio_finish(struct trio *t);

/* These ask over connections of their own. */
int trio_is_master(struct trio *t, unsigned i);                                   /* INFO says so */
void trio_await(struct trio *t, unsigned i, const char *field, const char *want); /* until INFO replication says so */
void trio_await_master(struct trio *t, unsigned i);
void trio_await_followers(struct trio *t, unsigned master, unsigned n); /* until so many are online */
void trio_lead(struct trio *t, unsigned i);                             /* REPLICAOF NO ONE, until it is primary */

/* Sends the command on c, a connection of node i, whose other voters are stopped: until the write is in its log, not
 * committed. Or it was answered: refused, where the majority was missed before it came. */
void trio_write_in_limbo(struct trio *t, unsigned i, redisContext *c, const char *command);

void trio_load_begin(struct trio *t, unsigned clients);
unsigned trio_load_done(void); /* writes acknowledged so far */
void trio_load_end(struct trio *t);

/* Until all logs end with the same chain, and all of them is committed everywhere. New connections to all nodes. */
void trio_await_equal(struct trio *t);
/* Every node has every acknowledged write, and their logs end with the same chain. At least one write was acknowledged.
 */
void trio_check(struct trio *t);

int trio_teardown(void **state);

#endif
