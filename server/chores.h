/* chores.h - a few threads for what blocks on disk and takes its time: reading the log, verifying it. I/O threads must
 * not.
 *
 * Chores run in the order in which they were posted, as many at a time as there are threads. A long one looks at
 * chores_stopping() now and then.
 */
#ifndef COFFER_SERVER_CHORES_H
#define COFFER_SERVER_CHORES_H

#include "base/err.h"

struct chores;

struct chore {
    struct chore *next;           /* private */
    void (*run)(struct chore *c); /* on a thread of its own; owns c from then on */
};

must_use enum err chores_new(struct chores **out, unsigned threads); /* ERR_OOM */
/* Runs what was posted, ends the threads. Before HSM and engine are closed and before I/O threads are freed. Accepts
 * NULL. */
void chores_free(struct chores *cs);

void chores_post(struct chores *cs, struct chore *c); /* any thread, never blocks */
int chores_stopping(struct chores *cs);               /* 1: end early */

#endif
