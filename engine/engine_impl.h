/* engine_impl.h - the engine's insides, shared by its own files: engine.c (open, close), stores.c, snapneeds.c,
 * recover.c, registry.c, sequencer.c, read.c, rebuild.c, keeper.c, txn.c. */
#ifndef COFFER_ENGINE_ENGINE_IMPL_H
#define COFFER_ENGINE_ENGINE_IMPL_H

#include <pthread.h>

#include "engine/celldir.h"
#include "engine/databases.h"
#include "engine/engine.h"
#include "engine/made.h"
#include "engine/rebuild.h"
#include "engine/scrub.h"
#include "engine/sequencer.h"
#include "engine/snapmerge.h"
#include "engine/snapshots.h"
#include "engine/txn.h"

struct keeper;
struct logcheck;
struct overlay;
struct sequencer;

struct engine {
    struct engine_config cfg; /* strings owned */
    char *dir;
    int lock_fd;
    uint8_t cell_id[16];
    unsigned shards;
    struct celldir_begin begin; /* zeros: there is none */
    /* [0] base. Set before the threads start, and by a rebuild, under the store's lock; who reads it beside one takes a
     * reference under it (engine_store_take). */
    struct store *stores[ENGINE_STORES_MAX];
    pthread_mutex_t store_lock[ENGINE_STORES_MAX];
    uint32_t generation[ENGINE_STORES_MAX];          /* of their directories (storedir.h); start, then rebuild thread */
    _Atomic uint8_t store_failed[ENGINE_STORES_MAX]; /* it is out: lost at the start, or failed since */
    int fresh;                                       /* there was no log at the start: there may be stores to be made */
    /* NULL while all stores serve. Exchanged under its lock; who reads takes a reference (engine_overlay_take). */
    struct overlay *overlay;
    pthread_mutex_t overlay_lock;
    struct hot *hot;
    struct wal *wal;
    struct apply *apply;
    struct vaults *vaults;
    struct databases *databases;
    struct made *made;
    _Atomic int expire_paused; /* engine_expire_actively */
    _Atomic uint64_t due_ms;   /* the earliest time that went into the expiry index since the keeper looked, or later */
    _Atomic(struct sequencer *) seq; /* NULL until it runs: the applier looks */
    struct keeper *keeper;
    struct snapshots *snapshots; /* NULL: none are made */
    pthread_mutex_t fetch_lock;  /* held while one is fetched from outside */
    pthread_mutex_t mend_lock;   /* held while a segment of the log is mended */
    struct rebuild *rebuild;     /* NULL until the log is open */
    pthread_mutex_t asof_lock;
    struct asof *asof_open; /* moments of the past that are being read; under asof_lock */
    struct logcheck *logcheck;
    struct scrub *scrub; /* NULL until it runs */
    _Atomic uint64_t commit_lsn;
    _Atomic uint64_t keep_lsn; /* engine_keep_log */
    uint32_t term;
    uint64_t opened_us;
    struct engine_recovery recovery; /* of this start; constant once the threads run */
    char why[256];
};

/* Looks at one committed operation and brings the vault registry in line: vaults, settings, counters, data key
 * versions; of users the server is told. Log writer and recovery. */
must_use enum err engine_observe(struct engine *e, struct bytes key, const struct blob *value);
/* A committed record that was not made here: its operations become visible, vaults are brought in line. ERR_OOM: try
 * again, before the next one. ERR_CORRUPT. Whoever is the log writer for the hot table. */
must_use enum err engine_take_record(struct engine *e, const struct record *r);
/* These records are visible: engine_config.on_records, if anybody wants to know. */
void engine_tell_records(struct engine *e, struct bytes records, const struct mpsc_node *writes);
/* The sequencer's view of all vaults, from what is visible. Nobody else is the sequencer. ERR_CORRUPT, ERR_IO, ERR_OOM.
 */
must_use enum err engine_view_all(struct engine *e);
/* 1 when engine_observe has anything to do for this key: most operations are a secret's and cost only this test. */
static inline int engine_observes(struct bytes key)
{
    return key.p[0] == 'c' || key.p[0] == 'V' || key.p[0] == 'D' || key.p[0] == 'U' || key.p[0] == DATABASES_KEY;
}

struct engine_path {
    char s[4096];
};
const char *engine_in_dir(struct engine *e, struct engine_path *p, const char *name); /* DIR/name; returns p->s */

/* ---- stores.c ---- */
/* At the start: those that are there and verify. ERR_CORRUPT is no error here: such a store is lost (recover.c). */
must_use enum err engine_stores_open(struct engine *e);
must_use enum err engine_stores_apply(struct engine *e); /* the applier runs */
/* A store that failed may lack what its applied LSN claims: only a replay from its checkpoint makes it whole. One that
 * is lost claims nothing. */
int engine_stores_whole(struct engine *e);
/* Everything that is applied is on the disk for sure: a next start may believe it whatever happened to the machine. */
int engine_stores_synced(struct engine *e);

/* 1: its values are to be had. A relaxed look: it may have failed since. */
static inline int engine_store_ok(struct engine *e, unsigned store)
{
    return store <= e->shards && !atomic_load_explicit(&e->store_failed[store], memory_order_relaxed);
}

/* A store by its number, with a reference (store_unref): a rebuild may put another in its place at any time. NULL when
 * it failed. */
struct store *engine_store_take(struct engine *e, unsigned store);

/* Notes what a read of a store came to: damage has it rebuilt. Returns err. */
enum err engine_store_saw(struct engine *e, unsigned store, enum err err);

/* Path of a store's directory, cut to n bytes. */
void engine_store_path(struct engine *e, unsigned store, uint32_t generation, int unfinished, char *out, size_t n);
must_use enum err engine_store_open(struct engine *e, const char *path, struct store **out);

/* What the hot table does not have: from the store, and into the table, absence too. fill is what the miss handed out.
 */
must_use enum err engine_load(struct engine *e, uint16_t store, struct bytes key, uint64_t fill, struct blob **out);

/* The value of a version that was in the head once, with a reference: from the hot table, from its record when that is
 * in the log, or from a snapshot. ERR_CORRUPT (it is nowhere, too), ERR_IO, ERR_OOM; *out is NULL then. */
must_use enum err engine_logged_value(struct engine *e, struct vault *vault, struct bytes path,
                                      const struct secret_version *sv, struct blob **out);

/* 1: a head that this record wrote was flushed. */
static inline int engine_flushed(const struct vault *v, uint64_t lsn)
{
    return lsn <= atomic_load_explicit(&v->flushed_lsn, memory_order_acquire);
}

/* The table's "there is none" as the callers of engine_get and txn_get see it. */
static inline void engine_tombstone_is_null(struct blob **b)
{
    if ((*b)->tombstone) {
        blob_unref(*b);
        *b = NULL;
    }
}

/* One value through hot table and store: ERR_OK with *out NULL when there is none. */
must_use enum err engine_get(struct engine *e, uint16_t store, struct bytes key, struct blob **out);

/* All stores as they are after the record at *lsn, of which they hold everything and nothing newer. A store's failure;
 * ERR_LOADING while one is being filled. */
struct snapmerge_view;
must_use enum err engine_view(struct engine *e, struct snapmerge_view **view, uint64_t *lsn);

/* ---- snapneeds.c ---- */
must_use enum err engine_snapshots_open(struct engine *e);

/* Notes why the engine cannot be opened. Returns err. */
enum err engine_refuse(struct engine *e, enum err err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void engine_logf(struct engine *e, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- recover.c; both before anything is served ---- */
/* Before the applier runs: stores that the log alone does not bring up to date are put out, and an overlay stands for
 * them until they are filled. */
must_use enum err engine_cover_lost(struct engine *e, struct engine_report *rep);
/* Everything behind what the stores have, behind a gate as far as it is known to be committed; waits until it is
 * applied. */
must_use enum err engine_replay(struct engine *e, struct engine_report *rep);
/* Any time: asks for a snapshot from outside of this node (engine_config.fetch_snapshot), one that this log goes on
 * behind, up to the LSN `to`. ERR_OK: one is here, as far as anybody knows. ERR_NOTFOUND: there is none, or nobody to
 * ask; others: it cannot be asked now. The log file says why. One at a time; blocks. */
must_use enum err engine_fetch_snapshot(struct engine *e, uint64_t to);

/* Any time: has the damaged segment of the log that lsn is in mended from outside of this node
 * (engine_config.mend_log, whose arguments these are). ERR_NOTFOUND: nobody has it. Blocks. */
must_use enum err engine_mend_log(struct engine *e, uint64_t lsn, int (*over)(void *arg), void *over_arg);

/* ---- cover.c ---- */
/* What stands for stores that are out, with a reference (overlay_unref); NULL: nothing does. Any thread. */
struct overlay *engine_overlay_take(struct engine *e);
void engine_overlay_set(struct engine *e,
                        struct overlay *o); /* takes o's reference; NULL: no store needs it any more */
/* These on the rebuild's thread; they block on the log.
 * cover: makes it from the newest snapshot, unless there is one (anew: then too, in its place); the log must be kept
 * meanwhile. When it cannot be had damage is answered as such until the store is there.
 * mend: a read may have met damage in the snapshot: an older one takes its place then. ERR_IO, ERR_OOM, and what keeps
 * snapshots from being verified: not done, to be tried again.
 * lower: the same, when it stands on the snapshot at that LSN, which has damage. When no older one can be had, and the
 * log does not do alone, it is known to be the last. */
void engine_cover(struct engine *e, int anew);
must_use enum err engine_cover_mend(struct engine *e);
must_use enum err engine_cover_lower(struct engine *e, uint64_t damaged_lsn);

/* ---- registry.c ---- */
/* The vaults as the base store has them (has_base), or as the two below have observed them; and everybody's counters.
 * The rebuild's thread runs. */
must_use enum err registry_load(struct engine *e, int has_base);
must_use enum err registry_from_snapshot(struct engine *e, struct snapread *r); /* ERR_CORRUPT: a block, or a vault */
must_use enum err registry_from_record(struct engine *e, const struct record *r);

/* ---- keeper.c ---- */
must_use enum err keeper_start(struct keeper **out, struct engine *e);
void keeper_stop(struct keeper *k);

#endif
