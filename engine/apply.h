/* apply.h - the applier: a thread that writes committed records into the stores, in large batches, behind the replies.
 *
 * It takes the hot table's dirty list (coalesced by key, sorted), writes it store by store, and marks the entries
 * clean. A round starts when dirty bytes pass round_bytes, when the oldest dirty value is round_ms old, or when
 * somebody waits for an LSN (apply_demand: listings need LevelDB to be current). Between rounds it checkpoints the
 * stores (store.h) every checkpoint_ms or checkpoint_bytes of log.
 *
 * **Applied LSN.** A round brings every store that it touches to the round's LSN with the last batch it writes there;
 * the batches before it (a round is split at about 1 MiB) carry the applied LSN of before. A store that is not touched
 * holds everything too, only its stored applied LSN lags until the next checkpoint, which first brings all stores to
 * the same LSN. What a store has applied never goes back: while a replay runs below it, batches carry the higher LSN,
 * and no checkpoint is made of that store until the replay has reached it. (After a power loss the stretch from
 * checkpoint to applied LSN may have holes until then: whoever opens the stores must not trust the applied LSN again
 * before such a replay came to its end, even if the process dies in it.)
 *
 * **A store that fails** is reported through on_failure, once, and left out from then on: what is committed for it goes
 * into the log only, its dirty values are dropped from the table as others are, so that it neither fills memory nor
 * stops others. store.h refuses to serve from it, so no reader sees what was there before. The log must be kept from
 * its checkpoint on (checkpoint_lsn below sees to that). To bring it back: open it anew, replay from its applied LSN
 * (or load a snapshot first) straight into it, never beyond apply_lsn (a round may bring older values than a store that
 * is ahead of it has); then apply_pause, replay the rest up to the LSN that it returned, apply_set_store,
 * hot_drop_clean(store), apply_resume. rebuild.h does so.
 *
 * **A disk that is full** fails a store for good: LevelDB's log may end in half a record then. So the applier stalls
 * before that: while has_room() says no it writes nothing, no checkpoint either. What is committed stays in the table
 * and in the log, and goes on as soon as there is room.
 */
#ifndef COFFER_ENGINE_APPLY_H
#define COFFER_ENGINE_APPLY_H

#include "engine/hot.h"
#include "engine/ops.h"
#include "engine/record.h"
#include "engine/store.h"

struct apply;

struct apply_config {
    struct hot *hot;
    /* [0] base, [1 + n] shard n; an entry may be NULL: failed. The array is copied, the stores stay the caller's. */
    struct store **stores;
    unsigned store_count;
    size_t round_bytes;
    unsigned round_ms;
    unsigned checkpoint_ms;    /* 0: not by time */
    uint64_t checkpoint_bytes; /* 0: not by size */
    /* On the applier's thread, without locks; may be NULL. After each round, and when has_room changed its mind; before
     * that round's on_applied. */
    void (*on_applied)(void *arg, uint64_t lsn);
    void (*on_failure)(void *arg, unsigned store, enum err e);
    /* A round up to lsn is written, but for what stores that are missing should have had of it; when this returns the
     * hot table may forget its values. */
    void (*on_round)(void *arg, uint64_t lsn);
    /* 1: the disk has room for a round. On the applier's thread, before each round and checkpoint, ten times a second
     * while it says 0. NULL: always. */
    int (*has_room)(void *arg);
    /* has_room changed its mind. On the applier's thread, without locks; may be NULL. */
    void (*on_stall)(void *arg, int stalled);
    void *arg;
};

must_use enum err apply_start(struct apply **out, const struct apply_config *cfg);
/* Applies what is published (but for a group that was left open), checkpoints, ends the thread; without room it leaves
 * both to the next start. Nobody publishes any more. Accepts NULL. */
void apply_stop(struct apply *a);

/* Log writer, after hot_set_published. Wakes the thread only when it must. */
void apply_kick(struct apply *a);
/* All stores hold everything up to it; 0 until the first round. */
uint64_t apply_lsn(struct apply *a);
/* Starts a round now if apply_lsn is below lsn, and returns at once; on_applied tells. */
void apply_demand(struct apply *a, uint64_t lsn);
/* Blocks until apply_lsn has reached lsn: tests, recovery, shutdown. ERR_MISCONF: it has not, the applier stalls. */
enum err apply_wait_lsn(struct apply *a, uint64_t lsn);
/* 1: the disk has no room, nothing is applied until it has. */
int apply_stalled(struct apply *a);

/* Asks for a checkpoint of all stores now instead of when it is due. Never blocks; apply_stats tells when it was made.
 */
void apply_want_checkpoint(struct apply *a);
/* Between the two no round and no checkpoint runs: the stores hold exactly the state at the LSN returned (open an
 * iterator on each, resume, and you have a consistent view of all). Pauses nest. apply_pause waits for the round that
 * is under way; not from a callback. */
uint64_t apply_pause(struct apply *a);
void apply_resume(struct apply *a);
/* While paused: s, which holds everything up to apply_lsn, takes the place of a failed or missing store, or of a
 * healthy one, which the applier does not touch any more then. */
void apply_set_store(struct apply *a, unsigned store, struct store *s);

/* The one apply function: every operation of a committed record into the hot table, for replay at start, replicas and
 * backfill alike. skip[store] (may be NULL) is the LSN up to which that store needs nothing. The caller closes the
 * group (hot_set_published). ERR_CORRUPT: malformed blob, a store that does not exist, a key that is a store's own;
 * nothing was applied. ERR_OOM: a part may have been; apply the record again before closing the group. */
must_use enum err apply_record(struct hot *h, const struct record *r, const uint64_t *skip, unsigned store_count);

/* The same straight into a store that the applier does not have yet: what the record does in `store` goes into the
 * batch. Records in order. ERR_CORRUPT as above. */
must_use enum err apply_record_batch(struct store_batch *b, const struct record *r, unsigned store,
                                     unsigned store_count);

struct apply_stats {
    uint64_t rounds, written, coalesced, dropped, bytes, checkpoints;
    uint64_t applied_lsn;
    uint64_t checkpoint_lsn; /* lowest of all stores, failed ones included; 0 while one is missing since the start: log
                                needed from there on */
};
void apply_stats(struct apply *a, struct apply_stats *out);

#endif
