/* rebuild.h - a store that is lost or damaged is made anew beside traffic: from the newest snapshot and the log behind
 * it, and serves again without a restart (docs/recovery.md). All that a start finds lost is filled this way, one store
 * after the other.
 *
 * **When.** A start found it lost (recover.c). The applier lost the store (a write or a checkpoint failed); a read
 * found damage in it, or a file of it gone; or somebody asks (rebuild_demand), of a healthy one too. By itself a store
 * is rebuilt at most once a minute, and every time that the last one did not help, or could not be done, it waits twice
 * as long, up to ten minutes: a bad disk does not keep the machine at it. What a read finds in that time is answered
 * CORRUPT and forgotten; a store that is out stays wanted until it is back.
 *
 * **Meanwhile** an overlay (overlay.h) stands for a store that is out, or where damage was found: made by the start, or
 * here, before the filling begins; let go of when every store serves. Until it is there, and where no snapshot reaches
 * the log, what is not in memory is CORRUPT. When a read meets a damaged block of its snapshot, an older one takes its
 * place, and the filling begins anew from that.
 *
 * **How.** One thread, one store at a time:
 *
 *     LOADING      shard-N.G.new is filled from the newest snapshot that verifies and that the log reaches back to;
 *                  from an older one when a block of that does not; from record 1 without any
 *     FETCHING     none is, and the log begins later: one is asked for outside of this node
 *                  (engine_config.fetch_snapshot), and filled from
 *     REPLAYING    the log behind it, up to what the applier has applied
 *     PLACING      checkpoint, close, rename to shard-N.G, sync, open: from now on a start would take this one
 *     SWAPPING     the applier pauses; the last records; the new store takes the old one's place for applier and
 *                  readers, the hot table forgets what it knew of the old one; the applier goes on
 *     IDLE         the old store is closed when its last user is through, and deleted
 *
 * **Nothing is lost.** While a store is out, what is committed for it is in the log (and for readers in the hot table
 * until that drops it): the replay brings it. The new store is never ahead of the applier, so no round can put an older
 * value over a newer one. The log is kept from where the new store stands (rebuild_needed_lsn).
 *
 * **A crash** leaves the old store, or both, whole in either case: storedir.h says which one a start takes. A rebuild
 * that fails deletes what it made; the old store stays in its place, serving if it did.
 *
 * **Readers** hold a reference while they are inside a store, and so does every iterator (store_ref): the old store
 * goes on for them as it was. A healthy store answers all the time.
 *
 * Locks: the rebuild's own, for what is wanted and for rebuild_info, never held across anything that waits; the store's
 * (engine_impl.h), for exchanging the pointer.
 * Threads: all from any but new, start, stop, free. None blocks but now, and stop, for the batch under way; one that
 * fetches ends as engine_config.fetch_snapshot says.
 */
#ifndef COFFER_ENGINE_REBUILD_H
#define COFFER_ENGINE_REBUILD_H

#include <stdint.h>

#include "base/err.h"

struct engine;
struct rebuild;

/* Before the applier starts; the thread when the replay is through. ERR_OOM. */
must_use enum err rebuild_new(struct rebuild **out, struct engine *e);
must_use enum err rebuild_start(struct rebuild *r);
/* Ends the thread; a rebuild under way is given up. Accepts NULL. */
void rebuild_stop(struct rebuild *r);
/* Closes and deletes what was replaced: nobody uses it any more. Accepts NULL. */
void rebuild_free(struct rebuild *r);

/* Stores are 0 base, 1 + n shard n. */
void rebuild_failed(struct rebuild *r, unsigned store); /* the applier gave it up */
void rebuild_damaged(struct rebuild *r, unsigned store);

/* Asks for one now, whatever the store's state. done() on the rebuild thread, or here when that has ended (ERR_AGAIN).
 * w is the caller's until then. Fields but store and done are results. */
struct rebuild_wait {
    struct rebuild_wait *next; /* private */
    void (*done)(struct rebuild_wait *w);
    unsigned store;
    enum err err;
    char why[160];
    uint64_t from_lsn, lsn, entries, records, ms; /* from_lsn: of the snapshot, 0: from the log alone */
};
void rebuild_demand(struct rebuild *r, struct rebuild_wait *w);
/* The same, and waits for it. Blocks. */
must_use enum err rebuild_now(struct rebuild *r, unsigned store);

/* The log must be kept from here on; UINT64_MAX: no rebuild needs any of it. */
uint64_t rebuild_needed_lsn(struct rebuild *r);

enum rebuild_state {
    REBUILD_IDLE,
    REBUILD_LOADING,
    REBUILD_FETCHING,
    REBUILD_REPLAYING,
    REBUILD_PLACING,
    REBUILD_SWAPPING
};
const char *rebuild_state_name(enum rebuild_state s);

/* The filling of stores that the start found lost. */
struct rebuild_fill {
    unsigned left;            /* stores */
    uint64_t done, total, ms; /* entries of snapshots and records; since the thread began, or until all were there */
};
void rebuild_fill(struct rebuild *r, struct rebuild_fill *out);

/* Tests: while the file is there that COFFER_TEST_REBUILD_HOLD in the environment names (when the engine is opened),
 * what is being filled waits. */

struct rebuild_info {
    enum rebuild_state state;
    unsigned store;                               /* that is being rebuilt, or was last */
    uint64_t from_lsn, lsn, entries, records, ms; /* of it so far; of the last one */
    uint64_t to_lsn;                              /* where it has to get to, as of now */
    unsigned done, failed;                        /* since the start */
    enum err err;                                 /* of the last one */
    char why[160];
};
void rebuild_info(struct rebuild *r, struct rebuild_info *out);

#endif
