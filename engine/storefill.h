/* storefill.h - filling a store that nobody else writes: from a snapshot, then from the log behind it. For a start
 * (recover.c) and for a rebuild beside traffic (rebuild.h).
 *
 * A snapshot has the entries in order of their keys, so LevelDB has nothing to sort. Old values stay in it
 * (docs/decisions/0009). From the log every record is applied as the applier would, but straight into the store, in
 * batches that end at whole records and carry the LSN that they reach. Records hold full values: the same stretch twice
 * changes nothing.
 *
 * Until the store's first checkpoint nothing of this is safe from a power loss.
 * Threads: one at a time. Blocks on disk.
 */
#ifndef COFFER_ENGINE_STOREFILL_H
#define COFFER_ENGINE_STOREFILL_H

#include "engine/snapread.h"
#include "engine/store.h"
#include "engine/wal.h"

struct storefill {
    struct store *st;
    unsigned store, store_count; /* which one it is */
    struct store_batch *batch;   /* empty */
    /* Before each batch; may be NULL. Any error ends the filling with it. */
    enum err (*go_on)(struct storefill *f);
    void *arg;

    uint64_t lsn;                    /* the store holds everything up to it; in: 0, or what it had */
    uint64_t seen, entries, records; /* so far: in snapshots, of these put into the store; and in the log */
};

/* The store is empty. On ERR_OK it is at the snapshot's LSN. ERR_CORRUPT: a block does not verify. ERR_IO, ERR_OOM, a
 * store's failure, go_on's errors; the store holds a part then, and must be thrown away. */
must_use enum err storefill_snapshot(struct storefill *f, struct snapread *r);

/* Every record behind f->lsn up to `to`, which is durable; c stands at the first of them. ERR_CORRUPT, ERR_NOTFOUND
 * (removed meanwhile), and as above; the store is at f->lsn or a little beyond then. */
must_use enum err storefill_log(struct storefill *f, struct wal_cursor *c, uint64_t to);

#endif
