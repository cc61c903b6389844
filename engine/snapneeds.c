/* snapneeds.c - what snapshots need of the engine (snapshots_config): how far the log is committed, how much of it must
 * stay, a view of the stores at one LSN, room on the disk. */
#include <string.h>

#include "base/log.h"
#include "engine/asof.h"
#include "engine/engine_impl.h"
#include "engine/overlay.h"
#include "engine/room.h"

#define SNAPSHOT_BYTES_PER_S (64u << 20)
#define SNAPSHOT_STEP_BYTES ((size_t)12 << 20) /* some 100,000 keys */
#define SNAPSHOT_PATIENCE_MS 120000

static uint64_t snapshots_commit_lsn(void *arg)
{
    return engine_commit_lsn(arg);
}

/* What a power loss would have to replay; less the next time it is asked. */
static uint64_t snapshots_needed_lsn(void *arg)
{
    struct engine *e = arg;
    struct apply_stats a;
    apply_stats(e->apply, &a);
    apply_want_checkpoint(e->apply);
    uint64_t needed = a.checkpoint_lsn + 1, rebuild = rebuild_needed_lsn(e->rebuild), asof = asof_needed_lsn(e);
    struct overlay *o = engine_overlay_take(e);
    uint64_t base = o ? overlay_base_lsn(o) + 1 : needed;
    overlay_unref(o);
    needed = rebuild < needed ? rebuild : needed;
    needed = base < needed ? base : needed;
    uint64_t keep = atomic_load(&e->keep_lsn);
    needed = keep < needed ? keep : needed;
    if (e->cfg.kept_lsn) {
        struct wal_info w;
        wal_info(e->wal, &w);
        keep = e->cfg.kept_lsn(e->cfg.arg, w.bytes);
        needed = keep < needed ? keep : needed;
    }
    return asof < needed ? asof : needed;
}

enum err engine_view(struct engine *e, struct snapmerge_view **view, uint64_t *lsn)
{
    struct store *stores[ENGINE_STORES_MAX];
    /* Up to now, as near to the end of the log as it can be: it may have damage in front of that. */
    enum err err = apply_wait_lsn(e->apply, engine_commit_lsn(e));
    if (err)
        return err;
    *lsn = apply_pause(e->apply);
    for (unsigned s = 0; s <= e->shards; s++)
        stores[s] = engine_store_take(e, s);
    err = snapmerge_view_new(view, stores, e->shards + 1);
    apply_resume(e->apply);
    struct overlay *o = err == ERR_CORRUPT ? engine_overlay_take(e) : NULL;
    if (o) /* one is missing that is being filled */
        err = ERR_LOADING;
    overlay_unref(o);
    for (unsigned s = 0; s <= e->shards; s++)
        store_unref(stores[s]); /* the view's iterators have their own */
    return err;
}

static enum err snapshots_view(void *arg, struct snapmerge_view **view, uint64_t *lsn)
{
    return engine_view(arg, view, lsn);
}

static enum err snapshots_fetch(void *arg)
{
    return engine_fetch_snapshot(arg, engine_commit_lsn(arg));
}

static void snapshots_log(void *arg, int level, const char *line)
{
    engine_logf(arg, level, "%s", line);
}

static int snapshots_has_room(void *arg, uint64_t bytes)
{
    struct engine *e = arg;
    uint64_t left = room_free(e->dir), keep = room_for_snapshot(e->cfg.dirty_bytes);
    return left >= keep && left - keep >= bytes;
}

enum err engine_snapshots_open(struct engine *e)
{
    struct engine_path p;
    struct snapshots_config cfg = {.dir = engine_in_dir(e, &p, "snapshots"),
                                   .wal = e->wal,
                                   .signer = e->cfg.signer,
                                   .log_bytes = e->cfg.snapshot_log_bytes,
                                   .interval_ms = e->cfg.snapshot_interval_ms,
                                   .keep = e->cfg.snapshot_keep,
                                   .bytes_per_s = SNAPSHOT_BYTES_PER_S,
                                   .step_bytes = SNAPSHOT_STEP_BYTES,
                                   .patience_ms = SNAPSHOT_PATIENCE_MS,
                                   .commit_lsn = snapshots_commit_lsn,
                                   .needed_lsn = snapshots_needed_lsn,
                                   .view = snapshots_view,
                                   .fetch = snapshots_fetch,
                                   .has_room = snapshots_has_room,
                                   .log = snapshots_log,
                                   .arg = e};
    memcpy(cfg.cell_id, e->cell_id, sizeof cfg.cell_id);
    if (!cfg.signer.sign)
        return ERR_OK;
    enum err err = snapshots_open(&e->snapshots, &cfg);
    return err ? engine_refuse(e, err, "cannot look into %s: %s", p.s, err_text(err)) : ERR_OK;
}
