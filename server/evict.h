/* evict.h - maxmemory-clients: what clients' connections hold is at most so much. Above it the largest goes, then the
 * next one, until it is less; one with CLIENT NO-EVICT on counts and stays.
 *
 *     conn_memory      what one holds: buffers, the queue of MULTI, what is watched, channels, prefixes of tracking
 *     evict_count      it may have changed: the thread's sum follows
 *     evict_look       at the end of each turn: when the sums of all threads pass the limit, closes the thread's
 * largest, or wakes the thread that has a larger one
 *
 * What other threads hold is read from words that they write, a moment old: it may hit the second largest, never one
 * while there is memory enough.
 *
 * Threads: a connection's own I/O thread.
 */
#ifndef COFFER_SERVER_EVICT_H
#define COFFER_SERVER_EVICT_H

#include "server/conn_private.h"

/* In bytes, 0: no limit. A percentage is one of maxmemory. ERR_OOM: *out is as it was. */
must_use enum err evict_limit(struct config *cfg, uint64_t *out);
void evict_count(struct conn *c);
void evict_look(struct io *io);

#endif
