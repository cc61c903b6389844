/* recover.c - bringing the stores up to the log, at a start.
 *
 * The log is the truth, the stores are a cache of it. After a clean stop, or the death of the process alone (same boot
 * id), what LevelDB wrote is in the page cache or on disk, so each store's applied LSN is trusted. After a power loss
 * it is not (store.h), and replay starts at the store's checkpoint. Records hold full values, so replaying more than
 * was lost changes nothing.
 *
 * A store that did not open, or that the log does not reach back to, is filled from the newest snapshot first
 * (storefill.h). What lies behind the snapshot is replayed. Until the store's first
 * checkpoint a power loss sends the next start here again. A snapshot with a damaged block is passed over for the one
 * before, which the log reaches back to as well. When none of them is any good, and the log does not reach back to
 * record 1, one comes from outside of this node (engine_config.fetch_snapshot): for old values (docs/decisions/0009)
 * even where the stores need nothing.
 */
#include "engine/engine_impl.h"

#include "base/log.h"
#include "engine/room.h"
#include "engine/storefill.h"

#define REPLAY_PUBLISH_EVERY 1024

/* All records up to it are in the store for sure. */
static uint64_t trusted_lsn(const struct engine *e, unsigned s, const struct engine_report *rep)
{
    if (rep->loaded[s])
        return rep->loaded[s];
    return rep->same_boot || rep->clean ? store_applied(e->stores[s]) : store_checkpointed(e->stores[s]);
}

/* ---- from a snapshot ---- */

/* What was loaded by a start that died may be of another snapshot: that, too, is something. */
static enum err make_empty(struct engine *e, unsigned s, struct engine_report *rep)
{
    static const uint8_t first = 1; /* behind the store's own keys */
    struct store_iter *it;
    enum err err = store_iter_new(e->stores[s], &it);

    if (err)
        return err;
    store_iter_seek(it, bytes_of(&first, 1));
    int empty = !store_iter_valid(it) && store_iter_status(it) == ERR_OK && !store_applied(e->stores[s]);
    store_iter_free(it);
    return empty ? ERR_OK : engine_empty_store(e, s, rep);
}

/* ERR_CORRUPT: a block of the snapshot has damage. */
static enum err load_store(struct engine *e, struct snapread *r, unsigned s, struct engine_report *rep)
{
    struct storefill f = {.store = s, .store_count = e->shards + 1};
    enum err err = make_empty(e, s, rep);

    if (err == ERR_OK)
        err = store_batch_new(&f.batch);
    f.st = e->stores[s];
    if (err == ERR_OK)
        err = storefill_snapshot(&f, r);
    if (err == ERR_OK) {
        rep->loaded_entries += f.entries;
        rep->loaded[s] = f.lsn;
    }
    store_batch_free(f.batch);
    return err;
}

/* 1: the log goes on behind the record that the snapshot ends with. */
static int fits_log(void *arg, const struct snapfile_header *h)
{
    struct engine *e = arg;
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

/* A snapshot from outside. ERR_AGAIN: it is the newest now. ERR_NOTFOUND: there is none, or one was had already. */
static enum err next_tier(struct engine *e, struct engine_report *rep)
{
    if (!e->cfg.fetch_snapshot || !e->snapshots || rep->fetched++)
        return ERR_NOTFOUND;
    engine_logf(e, LOG_WARNING, "no snapshot here verifies that reaches the log: the object store is asked for one");
    enum err err =
        e->cfg.fetch_snapshot(e->cfg.arg, e->cell_id, rep->wal.first_lsn - 1, rep->wal.last_lsn, fits_log, e);
    if (err == ERR_OK)
        err = snapshots_arrived(e->snapshots);
    return err == ERR_OK ? ERR_AGAIN : ERR_NOTFOUND;
}

/* Fills the store from the newest snapshot when there is need. ERR_AGAIN: that was damaged, another one is the newest
 * now, or none is. */
static enum err fill_store(struct engine *e, unsigned s, struct engine_report *rep)
{
    struct snapread *r = e->snapshots ? snapshots_newest(e->snapshots) : NULL;
    struct snapread_info info = {0};
    uint64_t have = trusted_lsn(e, s, rep), entries = rep->loaded_entries;
    int reached = have + 1 >= rep->wal.first_lsn; /* the log goes on from where the store is */
    enum err err = ERR_OK;

    if (r)
        snapread_info(r, &info);
    if (reached && (have || !r))
        goto out;
    if ((!r || info.header.lsn + 1 < rep->wal.first_lsn) && (err = next_tier(e, rep)) == ERR_AGAIN)
        goto out;
    if (!r || info.header.lsn + 1 < rep->wal.first_lsn) {
        err = engine_refuse(e, ERR_CORRUPT,
                            "%s %u is at LSN %llu, the log begins at %llu, and no snapshot verifies that reaches it",
                            s ? "shard" : "base store", s ? s - 1 : 0, (unsigned long long)have,
                            (unsigned long long)rep->wal.first_lsn);
        goto out;
    }
    err = load_store(e, r, s, rep);
    if (err == ERR_OK)
        engine_logf(e, LOG_NOTICE, "%s %u loaded from the snapshot at LSN %llu: %llu entries",
                    s ? "Shard" : "Base store", s ? s - 1 : 0, (unsigned long long)info.header.lsn,
                    (unsigned long long)(rep->loaded_entries - entries));
    else if (err == ERR_CORRUPT)
        err = snapshots_pass_over(e->snapshots, info.header.lsn);
    if (err && err != ERR_AGAIN)
        err = engine_refuse(e, err, "%s %u cannot be loaded from the snapshot at LSN %llu: %s",
                            s ? "shard" : "base store", s ? s - 1 : 0, (unsigned long long)info.header.lsn,
                            err_text(err));
out:
    snapread_unref(r);
    return err;
}

static int has_snapshot(struct engine *e)
{
    struct snapread *r = e->snapshots ? snapshots_newest(e->snapshots) : NULL;
    snapread_unref(r);
    return r != NULL;
}

enum err engine_load_stores(struct engine *e, struct engine_report *rep)
{
    enum err err = ERR_OK;
    if (rep->wal.first_lsn > 1 && !has_snapshot(e) && next_tier(e, rep) != ERR_AGAIN && e->cfg.fetch_snapshot)
        engine_logf(e, LOG_WARNING, "there is none: old values that the log has let go of cannot be read");
    for (unsigned s = 0; s <= e->shards && err == ERR_OK; s++)
        while ((err = fill_store(e, s, rep)) == ERR_AGAIN)
            ;
    return err;
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

static enum err replay(struct engine *e, const uint64_t *skip, uint64_t from, uint64_t last, struct engine_report *rep)
{
    struct wal_cursor *c = NULL;
    struct record r;
    struct bytes raw;
    uint64_t lsn = from;

    if (from > last)
        return ERR_OK;
    enum err err = wal_cursor_open(&c, e->wal, from);
    if (err)
        return engine_refuse(e, err, "the log does not reach back to LSN %llu, which the stores need",
                             (unsigned long long)from);
    for (; err == ERR_OK && lsn <= last; lsn++) {
        if ((err = wal_cursor_next(c, &r, &raw)) != ERR_OK ||
            (err = apply_record(e->hot, &r, skip, e->shards + 1)) != ERR_OK)
            break;
        rep->replayed++;
        if (lsn % REPLAY_PUBLISH_EVERY == 0 || lsn == last || hot_dirty_bytes(e->hot) > e->cfg.dirty_bytes)
            err = replay_published(e, lsn);
    }
    wal_cursor_close(c);
    if (err == ERR_MISCONF)
        return no_room(e, err);
    return err ? engine_refuse(e, err, "replay stopped at LSN %llu: %s", (unsigned long long)lsn, err_text(err))
               : ERR_OK;
}

enum err engine_replay(struct engine *e, struct engine_report *rep)
{
    uint64_t skip[ENGINE_STORES_MAX], from = UINT64_MAX;
    uint64_t last = rep->wal.last_lsn;
    for (unsigned s = 0; s <= e->shards; s++) {
        skip[s] = trusted_lsn(e, s, rep);
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
