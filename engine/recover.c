/* recover.c - what a start makes of stores, log and snapshots, before anything is served.
 *
 * The log is the truth, the stores are a cache of it. After a clean stop, or the death of the process alone (same boot
 * id), what LevelDB wrote is in the page cache or on disk, so each store's applied LSN is trusted. After a power loss
 * it is not (store.h), and replay starts at the store's checkpoint. Records hold full values, so replaying more than
 * was lost changes nothing.
 *
 * A store that is not there, does not verify, or that the log does not reach back to is lost: it is put out, as one
 * that fails while the server runs, and the rebuild (rebuild.h) fills it, beside traffic. Until then the newest
 * snapshot and the log behind it stand for it (overlay.h). So all that a start waits for is one pass over that part of
 * the log which some store lacks, or which lies behind the snapshot; it does not grow with what the stores hold.
 *
 * A snapshot with a damaged block is passed over for the one before, which the log reaches back to as well: here when
 * the vaults cannot be read from it, later when something else cannot. When none of them is any good, and the log does
 * not reach back to record 1, one comes from outside of this node (engine_config.fetch_snapshot): for old values
 * (docs/decisions/0009) even where the stores need nothing.
 */
#include "engine/engine_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "engine/overlay.h"
#include "engine/room.h"
#include "engine/storecheck.h"
#include "engine/storedir.h"

#define REPLAY_PUBLISH_EVERY 1024
#define SAY_US 5000000

/* All records up to it are in the store for sure. */
static uint64_t trusted_lsn(const struct engine *e, unsigned s, const struct engine_report *rep)
{
    if (!e->stores[s])
        return 0;
    return rep->same_boot || rep->clean ? store_applied(e->stores[s]) : store_checkpointed(e->stores[s]);
}

/* ---- a snapshot from elsewhere ---- */

struct sought {
    struct engine *e;
    uint64_t lsn; /* of the last one that was looked at: the one that came, when one came */
};

int engine_log_fits(struct engine *e, const struct snapfile_header *h)
{
    struct wal_info info;
    struct buf raw;

    wal_info(e->wal, &info);
    if (h->lsn >= info.last_lsn)
        return h->lsn == info.last_lsn && bytes_equal(bytes_of(h->chain, 32), bytes_of(info.chain, 32));
    buf_init(&raw, RECORD_MAX_BYTES);
    int fits = wal_read(e->wal, h->lsn + 1, &raw) == ERR_OK && record_chains(buf_bytes(&raw), h->chain);
    buf_fini(&raw);
    return fits;
}

static int fits_log(void *arg, const struct snapfile_header *h)
{
    struct sought *s = arg;
    s->lsn = h->lsn;
    return engine_log_fits(s->e, h);
}

/* 1: one is good as far as anybody knows. */
static int reaches_log(struct engine *e, uint64_t first_lsn)
{
    struct snapread_info info;
    struct snapread *r;
    if (snapshots_open_below(e->snapshots, UINT64_MAX, &r) != ERR_OK)
        return 0;
    snapread_info(r, &info);
    snapread_unref(r);
    return info.header.lsn + 1 >= first_lsn;
}

static enum err fetch_one(struct engine *e, uint64_t first_lsn, uint64_t to)
{
    struct sought s = {.e = e};
    engine_logf(e, LOG_WARNING, "no snapshot here verifies that reaches the log: the object store is asked for one");
    enum err err = e->cfg.fetch_snapshot(e->cfg.arg, e->cell_id, first_lsn - 1, to, fits_log, &s);
    if (err == ERR_OK)
        err = snapshots_arrived(e->snapshots, s.lsn);
    return err == ERR_CORRUPT ? ERR_NOTFOUND : err;
}

enum err engine_fetch_snapshot(struct engine *e, uint64_t to)
{
    struct wal_info w;
    enum err err = ERR_OK;

    if (!e->cfg.fetch_snapshot || !e->snapshots)
        return ERR_NOTFOUND;
    pthread_mutex_lock(&e->fetch_lock);
    wal_info(e->wal, &w);
    if (!reaches_log(e, w.first_lsn)) /* else the one who was here first has brought it */
        err = fetch_one(e, w.first_lsn, to);
    pthread_mutex_unlock(&e->fetch_lock);
    return err;
}

enum err engine_mend_log(struct engine *e, uint64_t lsn, int (*over)(void *arg), void *over_arg)
{
    if (!e->cfg.mend_log)
        return ERR_NOTFOUND;
    pthread_mutex_lock(&e->mend_lock);
    enum err err = e->cfg.mend_log(e->cfg.arg, e->wal, lsn, over, over_arg);
    pthread_mutex_unlock(&e->mend_lock);
    return err;
}

/* ERR_AGAIN: it is the newest now. ERR_NOTFOUND: there is none, or one was had already. */
static enum err next_tier(struct engine *e, struct engine_report *rep)
{
    if (rep->fetched++ || engine_fetch_snapshot(e, rep->wal.last_lsn) != ERR_OK)
        return ERR_NOTFOUND;
    rep->arrived = 1;
    return ERR_AGAIN;
}

static int has_snapshot(struct engine *e)
{
    struct snapread *r = e->snapshots ? snapshots_newest(e->snapshots) : NULL;
    snapread_unref(r);
    return r != NULL;
}

/* ---- what is lost ---- */

/* Where the log begins, or will begin. */
static uint64_t log_begins(const struct engine_report *rep)
{
    return rep->wal.first_lsn ? rep->wal.first_lsn : rep->wal.last_lsn + 1;
}

static int is_lost(const struct engine *e, unsigned s, const struct engine_report *rep)
{
    return !e->stores[s] || trusted_lsn(e, s, rep) + 1 < log_begins(rep);
}

/* ERR_AGAIN: another snapshot is the newest now. */
static enum err check_reach(struct engine *e, unsigned s, struct engine_report *rep, struct snapread *r)
{
    struct snapread_info info = {0};
    if (r)
        snapread_info(r, &info);
    if (info.header.lsn + 1 < log_begins(rep) && next_tier(e, rep) == ERR_AGAIN)
        return ERR_AGAIN;
    if (info.header.lsn > rep->wal.last_lsn)
        return engine_refuse(e, ERR_CORRUPT,
                             "the log ends at LSN %llu, but there is a snapshot at %llu: part of the log is missing",
                             (unsigned long long)rep->wal.last_lsn, (unsigned long long)info.header.lsn);
    if (info.header.lsn + 1 >= log_begins(rep))
        return ERR_OK;
    return engine_refuse(e, ERR_CORRUPT,
                         "%s %u is at LSN %llu, the log begins at %llu, and no snapshot verifies that reaches it",
                         s ? "shard" : "base store", s ? s - 1 : 0, (unsigned long long)trusted_lsn(e, s, rep),
                         (unsigned long long)rep->wal.first_lsn);
}

/* What there is of it is nothing that anybody could use any more. */
static enum err put_out(struct engine *e, unsigned s)
{
    char path[STORECHECK_PATH_BYTES];
    store_close(e->stores[s]);
    e->stores[s] = NULL;
    atomic_store(&e->store_failed[s], 1);
    engine_store_path(e, s, e->generation[s], 0, path, sizeof path);
    enum err err = storedir_remove(path);
    rebuild_failed(e->rebuild, s);
    return err ? engine_refuse(e, err, "the damaged store %s cannot be deleted: %s", path, err_text(err)) : ERR_OK;
}

/* ---- what stands for it ---- */

/* ERR_AGAIN: the snapshot, passed over now, does not give the vaults. */
static enum err cover_from(struct engine *e, struct snapread *r, struct engine_report *rep)
{
    struct snapread_info info = {0};
    enum err err = ERR_OK;
    if (r)
        snapread_info(r, &info);
    if (r && !e->stores[0])
        err = registry_from_snapshot(e, r);
    if (err == ERR_CORRUPT)
        return snapshots_pass_over(e->snapshots, info.header.lsn);
    if (err == ERR_OK && (err = overlay_new(&e->overlay, e->wal, r)) == ERR_OK && r)
        snapread_ref(r);
    rep->tier = rep->arrived ? 3 : e->begin.tier ? (int)e->begin.tier : 1;
    rep->snapshot_lsn = info.header.lsn;
    return err;
}

static enum err cover(struct engine *e, const uint8_t *lost, struct engine_report *rep)
{
    enum err err;
    do {
        struct snapread *r = e->snapshots ? snapshots_newest(e->snapshots) : NULL;
        err = ERR_OK;
        for (unsigned s = 0; s <= e->shards && err == ERR_OK; s++)
            if (lost[s])
                err = check_reach(e, s, rep, r);
        if (err == ERR_OK)
            err = cover_from(e, r, rep);
        snapread_unref(r);
    } while (err == ERR_AGAIN);
    return err;
}

enum err engine_cover_lost(struct engine *e, struct engine_report *rep)
{
    uint8_t lost[ENGINE_STORES_MAX];
    enum err err;

    if (rep->wal.first_lsn > 1 && !has_snapshot(e) && next_tier(e, rep) != ERR_AGAIN && e->cfg.fetch_snapshot)
        engine_logf(e, LOG_WARNING, "there is none: old values that the log has let go of cannot be read");
    for (unsigned s = 0; s <= e->shards; s++) {
        lost[s] = is_lost(e, s, rep) != 0;
        rep->stores_lost += lost[s];
    }
    if (!rep->stores_lost)
        return ERR_OK;
    if (lost[0]) { /* the vaults come from elsewhere */
        store_close(e->stores[0]);
        e->stores[0] = NULL;
    }
    err = cover(e, lost, rep);
    for (unsigned s = 0; s <= e->shards && err == ERR_OK; s++)
        if (lost[s])
            err = put_out(e, s);
    if (err)
        return err;
    engine_logf(e, LOG_WARNING,
                "%u of %u stores are lost: until they are filled again they are read from %s LSN %llu and the log "
                "behind it",
                rep->stores_lost, e->shards + 1, rep->snapshot_lsn ? "the snapshot at" : "nothing at",
                (unsigned long long)rep->snapshot_lsn);
    return ERR_OK;
}

/* ---- from the log ---- */

static enum err no_room(struct engine *e, enum err err)
{
    return err ? engine_refuse(e, err, "only %llu MiB of the disk are free: the stores cannot be brought up to date",
                               (unsigned long long)room_free(e->dir) >> 20)
               : err;
}

static enum err replay_published(struct engine *e, uint64_t lsn)
{
    hot_set_published(e->hot, lsn);
    apply_kick(e->apply);
    return hot_dirty_bytes(e->hot) > e->cfg.dirty_bytes ? apply_wait_lsn(e->apply, lsn) : ERR_OK;
}

/* Into the stores that are there, and into what stands for the others. */
static enum err replay_record(struct engine *e, const struct record *r, const uint64_t *skip)
{
    enum err err = apply_record(e->hot, r, skip, e->shards + 1);
    if (err || !e->overlay || r->lsn <= overlay_lsn(e->overlay))
        return err;
    err = overlay_add(e->overlay, r);
    return err == ERR_OK && !e->stores[0] ? registry_from_record(e, r) : err;
}

static void say_progress(struct engine *e, uint64_t done, uint64_t total, uint64_t *said_us)
{
    if (e->cfg.progress)
        atomic_store_explicit(&e->cfg.progress->done, done, memory_order_relaxed);
    if (done % 4096 || clock_mono_us() - *said_us < SAY_US)
        return;
    *said_us = clock_mono_us();
    engine_logf(e, LOG_NOTICE, "Replaying the log: %llu of %llu records", (unsigned long long)done,
                (unsigned long long)total);
}

static enum err replay(struct engine *e, const uint64_t *skip, uint64_t from, uint64_t last, struct engine_report *rep)
{
    struct wal_cursor *c = NULL;
    struct record r;
    struct bytes raw;
    uint64_t lsn = from, said_us = clock_mono_us();

    if (from > last)
        return ERR_OK;
    enum err err = wal_cursor_open(&c, e->wal, from);
    if (err)
        return engine_refuse(e, err, "the log does not reach back to LSN %llu, which the stores need",
                             (unsigned long long)from);
    if (e->cfg.progress)
        atomic_store(&e->cfg.progress->total, last - from + 1);
    for (; err == ERR_OK && lsn <= last; lsn++) {
        if ((err = wal_cursor_next(c, &r, &raw)) != ERR_OK || (err = replay_record(e, &r, skip)) != ERR_OK)
            break;
        rep->replayed++;
        say_progress(e, rep->replayed, last - from + 1, &said_us);
        if (lsn % REPLAY_PUBLISH_EVERY == 0 || lsn == last || hot_dirty_bytes(e->hot) > e->cfg.dirty_bytes)
            err = replay_published(e, lsn);
    }
    wal_cursor_close(c);
    if (err == ERR_MISCONF)
        return no_room(e, err);
    return err ? engine_refuse(e, err, "replay stopped at LSN %llu: %s", (unsigned long long)lsn, err_text(err))
               : ERR_OK;
}

/* Behind a gate: what a store has was committed, and so was what a snapshot has. Of what is behind it nobody here
 * knows; it may be cut off again. */
static uint64_t committed_lsn(struct engine *e, const struct engine_report *rep)
{
    struct snapread *r = e->snapshots ? snapshots_newest(e->snapshots) : NULL;
    struct snapread_info info = {0};
    if (r)
        snapread_info(r, &info);
    snapread_unref(r);
    uint64_t lsn = info.header.lsn;
    for (unsigned s = 0; s <= e->shards; s++)
        if (e->stores[s] && store_applied(e->stores[s]) > lsn)
            lsn = store_applied(e->stores[s]);
    return lsn < rep->wal.last_lsn ? lsn : rep->wal.last_lsn;
}

enum err engine_replay(struct engine *e, struct engine_report *rep)
{
    uint64_t skip[ENGINE_STORES_MAX], last = e->cfg.gate ? committed_lsn(e, rep) : rep->wal.last_lsn;
    uint64_t from = e->overlay ? overlay_lsn(e->overlay) : UINT64_MAX;
    for (unsigned s = 0; s <= e->shards; s++) {
        skip[s] = e->stores[s] ? trusted_lsn(e, s, rep) : UINT64_MAX;
        if (skip[s] < from)
            from = skip[s];
    }
    enum err err = replay(e, skip, from + 1, last, rep);
    if (err)
        return err;
    hot_set_published(e->hot, last);
    atomic_store(&e->commit_lsn, last);
    err = no_room(e, apply_wait_lsn(e->apply, last));
    rep->applied_lsn = apply_lsn(e->apply);
    return err;
}
