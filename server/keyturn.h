/* keyturn.h - of those who make a version of one key, one at a time.
 *
 * A version's number is part of the masked object that the HSM makes, so of two that are made at once for one key one
 * is thrown away. Who wants to make one takes the key's turn first, keeps it until the version is written or given up,
 * and gives it on. First come, first served: however many rotate a key, each has its version when those before it have
 * theirs. Changes that make no version take no turn: a key can be disabled while the HSM works on its next version.
 *
 * Any thread; nothing blocks.
 */
#ifndef COFFER_SERVER_KEYTURN_H
#define COFFER_SERVER_KEYTURN_H

#include "engine/key.h"
#include "server/io.h"

struct keyturns;
must_use enum err keyturns_new(struct keyturns **out);
void keyturns_free(struct keyturns *t); /* nobody has or waits for a turn; accepts NULL */

/* Embedded in who takes one; zeros initially. */
struct keyturn {
    struct keyturn *next; /* private, as line */
    struct keyturn_line *line;
    struct io *io; /* where task is posted to */
    struct io_task *task;
};

/* ERR_OK: it is k's turn. ERR_AGAIN: it will be when k->task runs on k->io, which may be before this returns.
 * ERR_OOM. */
must_use enum err keyturn_take(struct keyturns *t, struct keyturn *k, uint64_t vault, const char *name);

/* The next one's, if k had it; else nothing happens. */
void keyturn_give(struct keyturns *t, struct keyturn *k);

/* For who has taken it and was not told to wait, or was and its task runs. */
static inline int keyturn_has(const struct keyturn *k)
{
    return k->line != NULL;
}

#endif
