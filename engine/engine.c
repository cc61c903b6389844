/* engine.c - opening and closing. The life of a write is in sequencer.c, of a read in read.c.
 *
 *     DIR/lock        one process owns the directory
 *     DIR/cell        identity: cell id, number of shards; text (celldir.h)
 *     DIR/begin       where a log begins that has no record yet, behind a snapshot; text (celldir.h)
 *     DIR/state       boot id of the last start, and whether it was closed cleanly; text (statefile.h)
 *     DIR/wal/        the log (wal.h)
 *     DIR/base/       base store
 *     DIR/shard-N/    shards (storedir.h)
 *     DIR/snapshots/  (snapshots.h)
 *     DIR/scrub       where the scrub is (scrub.h); text
 *
 * How the stores are opened is in stores.c, how they are brought up to the log at a start in recover.c. A log that ends
 * before what a store has applied, or is damaged within what was durable, is not cut: the engine refuses to open and
 * says so.
 */
#include "engine/engine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "engine/asof.h"
#include "engine/engine_impl.h"
#include "engine/logcheck.h"
#include "engine/overlay.h"
#include "engine/room.h"
#include "engine/statefile.h"

void engine_logf(struct engine *e, int level, const char *fmt, ...)
{
    char line[512];
    va_list ap;
    if (!e->cfg.log)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    e->cfg.log(level, line);
}

enum err engine_refuse(struct engine *e, enum err err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->why, sizeof e->why, fmt, ap);
    va_end(ap);
    return err;
}

const char *engine_in_dir(struct engine *e, struct engine_path *p, const char *name)
{
    snprintf(p->s, sizeof p->s, "%s/%s", e->dir, name);
    return p->s;
}

/* ---- identity ---- */

static enum err lock_dir(struct engine *e)
{
    struct engine_path p;
    enum err err = file_mkdir(e->dir, 0700);
    if (err)
        return engine_refuse(e, err, "cannot make the directory %s: %s", e->dir, strerror(file_errno()));
    if ((err = file_open(engine_in_dir(e, &p, "lock"), O_RDWR | O_CREAT, 0600, &e->lock_fd)) != ERR_OK)
        return engine_refuse(e, err, "cannot open %s: %s", p.s, strerror(file_errno()));
    if (flock(e->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return engine_refuse(e, ERR_IO, "%s is in use by another process", e->dir);
    return ERR_OK;
}

static enum err make_cell(struct engine *e, struct celldir *c)
{
    enum err err = clock_random(c->cell_id, sizeof c->cell_id);
    if (err)
        return err;
    c->shards = e->shards;
    err = celldir_write(e->dir, c);
    return err ? engine_refuse(e, err, "cannot write %s/cell: %s", e->dir, strerror(file_errno())) : ERR_OK;
}

static enum err load_cell(struct engine *e)
{
    struct celldir c;
    enum err err = celldir_read(e->dir, &c);
    if (err == ERR_NOTFOUND)
        err = make_cell(e, &c);
    else if (err == ERR_CORRUPT)
        err = engine_refuse(e, err, "%s/cell is damaged or of an unknown format", e->dir);
    else if (err)
        err = engine_refuse(e, err, "cannot read %s/cell: %s", e->dir, strerror(file_errno()));
    memcpy(e->cell_id, c.cell_id, sizeof e->cell_id);
    e->shards = err ? e->shards : c.shards;
    return err;
}

/* ---- open and close ---- */

static enum err save_state(struct engine *e, const char *boot, int clean)
{
    enum err err = statefile_write(e->dir, boot, clean);
    return err ? engine_refuse(e, err, "cannot write %s/state: %s", e->dir, strerror(file_errno())) : ERR_OK;
}

/* From now on applied LSNs are to be trusted while this boot lasts. */
static enum err stores_recovered(struct engine *e)
{
    char now[STATEFILE_BOOT_BYTES];
    statefile_boot(now);
    return engine_stores_whole(e) ? save_state(e, now, 0) : ERR_OK;
}

static uint64_t highest_applied(const struct engine *e)
{
    uint64_t lsn = 0;
    for (unsigned s = 0; s <= e->shards; s++)
        if (e->stores[s] && store_applied(e->stores[s]) > lsn)
            lsn = store_applied(e->stores[s]);
    return lsn;
}

/* No record, and yet stores have applied some: only those may that were filled from the snapshot behind which the log
 * begins. There were no others when DIR/begin was written (celldir.h), and it goes before the first record counts. */
static int is_log_missing(const struct engine *e, const struct wal_report *w, uint64_t applied)
{
    int filled = e->begin.term && applied == e->begin.lsn;
    return w->last_lsn < applied || (!w->first_lsn && applied && !filled);
}

static enum err open_log(struct engine *e, struct engine_report *rep)
{
    struct engine_path p;
    struct wal_config cfg = {.dir = engine_in_dir(e, &p, "wal"),
                             .segment_bytes = e->cfg.wal_segment_bytes,
                             .known_lsn = highest_applied(e),
                             .reserve_bytes = room_for_log(e->cfg.dirty_bytes),
                             .lazy = 1};
    enum err err = celldir_read_begin(e->dir, &e->begin);
    if (err && err != ERR_NOTFOUND)
        return engine_refuse(e, err, "cannot read %s/begin: %s", e->dir, err_text(err));
    memcpy(cfg.cell_id, e->cell_id, sizeof cfg.cell_id);
    memcpy(cfg.base_chain, e->begin.chain, sizeof cfg.base_chain);
    cfg.base_lsn = e->begin.lsn;
    cfg.base_term = e->begin.behind;
    err = wal_open(&e->wal, &cfg, &rep->wal);
    if (err) /* another cell's log, or another version's, is no damage */
        return engine_refuse(e, err == ERR_CORRUPT ? ERR_UNSUPPORTED : err, "cannot open the log in %s: %s", p.s,
                             rep->wal.text[0] ? rep->wal.text : err_text(err));
    if (rep->wal.damaged_lsn)
        return engine_refuse(e, ERR_CORRUPT, "the log is damaged at LSN %llu, within what was durable: %s",
                             (unsigned long long)rep->wal.damaged_lsn, rep->wal.text);
    if (is_log_missing(e, &rep->wal, cfg.known_lsn))
        return engine_refuse(e, ERR_CORRUPT,
                             "the log ends at LSN %llu, but a store has applied %llu: part of the log is missing",
                             (unsigned long long)rep->wal.last_lsn, (unsigned long long)cfg.known_lsn);
    return ERR_OK;
}

/* A new log begins with the barrier of term 1, one that begins behind a snapshot with that of the term that was chosen;
 * a start that does not follow a clean stop begins a term of its own. What the last run appended and never acknowledged
 * may be lost: its LSNs are given out again, and (LSN, term) must name one record for ever (WBL.OUTCOME). */
static enum err begin_term(struct engine *e, struct engine_report *rep)
{
    struct wal_report *w = &rep->wal;
    struct record r = {.lsn = w->last_lsn + 1,
                       .term = w->first_lsn    ? w->last_term + 1
                               : e->begin.term ? e->begin.term
                                               : 1,
                       .type = RECORD_BARRIER,
                       .time_ms = clock_wall_ms(),
                       .key = bytes_of(e->cell_id, sizeof e->cell_id)};
    struct buf b;

    if (w->first_lsn && rep->clean)
        return ERR_OK;
    buf_init(&b, 4096);
    enum err err = record_put(&b, &r, w->chain);
    if (err == ERR_OK)
        err = wal_append(e->wal, buf_bytes(&b), 1, r.lsn, r.chain);
    buf_fini(&b);
    if (err)
        return engine_refuse(e, err, "cannot write the barrier of term %u to the log: no space?", (unsigned)r.term);
    w->first_lsn = w->first_lsn ? w->first_lsn : r.lsn;
    w->last_lsn = r.lsn;
    w->last_term = r.term;
    memcpy(w->chain, r.chain, sizeof w->chain);
    return ERR_OK;
}

/* When there is a record: a log that is lost later must not begin there again. */
static enum err has_begun(struct engine *e, const struct engine_report *rep)
{
    enum err err = e->begin.term && rep->wal.first_lsn ? celldir_remove_begin(e->dir) : ERR_OK;
    return err ? engine_refuse(e, err, "cannot remove %s/begin: %s", e->dir, strerror(file_errno())) : ERR_OK;
}

/* Before the threads run that may be asked for it. */
static void note_recovery(struct engine *e, const struct engine_report *rep)
{
    e->recovery.ready_ms = (clock_mono_us() - e->opened_us) / 1000;
    e->recovery.started_ms = clock_wall_ms() - e->recovery.ready_ms;
    e->recovery.tier = rep->tier;
    e->recovery.snapshot_lsn = rep->snapshot_lsn;
    e->recovery.replayed = rep->replayed;
    e->recovery.stores_lost = rep->stores_lost;
}

static enum err open_all(struct engine *e, struct engine_report *rep)
{
    char was[STATEFILE_BOOT_BYTES];
    enum err err;
    if ((err = lock_dir(e)) || (err = load_cell(e)))
        return err;
    statefile_read(e->dir, was, &rep->same_boot, &rep->clean);
    if ((err = vaults_new(&e->vaults)) || (err = databases_new(&e->databases)) || (err = made_new(&e->made)) ||
        (err = hot_new(&e->hot, e->cfg.cache_bytes)) || (err = engine_stores_open(e)) || (err = open_log(e, rep)))
        return err;
    /* No longer clean; but the boot stays what it was until the replay is through: a start that dies in it leaves holes
     * behind. */
    if ((err = save_state(e, was, 0)) || (!e->cfg.gate && (err = begin_term(e, rep))) || (err = has_begun(e, rep)) ||
        (err = engine_snapshots_open(e)) || (err = rebuild_new(&e->rebuild, e)) || (err = engine_cover_lost(e, rep)) ||
        (err = engine_stores_apply(e)) || (err = engine_replay(e, rep)) || (err = stores_recovered(e)))
        return err;
    int has_base = e->stores[0] != NULL; /* else the replay has seen all vaults */
    note_recovery(e, rep);
    if ((err = rebuild_start(e->rebuild)) || (err = registry_load(e, has_base)))
        return err;
    e->term = rep->wal.first_lsn ? rep->wal.last_term : e->begin.term; /* the next one is above it */
    struct sequencer *q;
    if ((err = sequencer_start(&q, e, rep->wal.last_lsn, rep->wal.chain, e->term, e->cfg.gate)) != ERR_OK)
        return err;
    atomic_store(&e->seq, q);
    if (e->snapshots && (err = snapshots_start(e->snapshots)) != ERR_OK)
        return err;
    if ((err = scrub_new(&e->scrub, e, e->cfg.scrub_bytes_per_s)) || (err = scrub_start(e->scrub)))
        return err;
    if ((err = logcheck_start(&e->logcheck, e)) != ERR_OK)
        return err;
    return keeper_start(&e->keeper, e);
}

enum err engine_open(struct engine **out, const struct engine_config *cfg, struct engine_report *rep, const char **why)
{
    struct engine *e = *out = mem_zalloc(sizeof *e);
    static char kept[256]; /* outlives a failed engine; engines are opened one at a time */

    memset(rep, 0, sizeof *rep);
    *why = "out of memory";
    if (!e)
        return ERR_OOM;
    e->cfg = *cfg;
    e->opened_us = clock_mono_us();
    e->lock_fd = -1;
    atomic_store(&e->due_ms, UINT64_MAX);
    atomic_store(&e->keep_lsn, UINT64_MAX);
    for (unsigned s = 0; s < ENGINE_STORES_MAX; s++)
        pthread_mutex_init(&e->store_lock[s], NULL);
    pthread_mutex_init(&e->asof_lock, NULL);
    pthread_mutex_init(&e->fetch_lock, NULL);
    pthread_mutex_init(&e->mend_lock, NULL);
    pthread_mutex_init(&e->overlay_lock, NULL);
    e->shards = cfg->shards ? cfg->shards : 1;
    e->dir = mem_alloc(strlen(cfg->dir) + 1);
    enum err err = e->dir && e->shards < ENGINE_STORES_MAX ? ERR_OK : ERR_OOM;
    if (err == ERR_OK) {
        memcpy(e->dir, cfg->dir, strlen(cfg->dir) + 1);
        err = open_all(e, rep);
    }
    rep->shards = e->shards;
    rep->took_ms = (clock_mono_us() - e->opened_us) / 1000;
    if (err) {
        snprintf(kept, sizeof kept, "%s", e->why[0] ? e->why : err_text(err));
        *why = kept;
        engine_close(e);
        *out = NULL;
        return err;
    }
    *why = "";
    return ERR_OK;
}

void engine_stop_snapshots(struct engine *e)
{
    if (!e)
        return;
    scrub_stop(e->scrub);     /* it asks the others */
    rebuild_stop(e->rebuild); /* it may open a snapshot, and may hold the applier */
    if (e->snapshots)
        snapshots_end(e->snapshots);
}

void engine_close(struct engine *e)
{
    if (!e)
        return;
    struct engine_info info = {0};
    char now[STATEFILE_BOOT_BYTES];
    int complete = e->keeper != NULL; /* a start that failed half-way leaves the state file as it was */
    keeper_stop(e->keeper);
    logcheck_stop(e->logcheck);
    struct sequencer *q = atomic_load(&e->seq);
    sequencer_stop(q);
    if (q)
        sequencer_info(q, &info);
    engine_stop_snapshots(e);
    if (e->apply)
        apply_stop(e->apply);
    scrub_free(e->scrub);
    rebuild_free(e->rebuild);
    sequencer_free(q);
    complete = complete && !info.failed && engine_stores_synced(e);
    for (unsigned s = 0; s <= e->shards && s < ENGINE_STORES_MAX; s++)
        if (e->stores[s])
            store_close(e->stores[s]);
    snapshots_free(e->snapshots); /* what was submitted may have read old values until now */
    engine_overlay_set(e, NULL);
    if (e->wal)
        wal_close(e->wal);
    statefile_boot(now);
    if (complete && save_state(e, now, 1))
        engine_logf(e, LOG_WARNING, "cannot write the clean mark: the next start replays from the last checkpoint");
    if (e->hot)
        hot_free(e->hot);
    vaults_free(e->vaults);
    databases_free(e->databases);
    made_free(e->made);
    if (e->lock_fd >= 0 && file_close(e->lock_fd))
        engine_logf(e, LOG_WARNING, "closing the lock file failed");
    for (unsigned s = 0; s < ENGINE_STORES_MAX; s++)
        pthread_mutex_destroy(&e->store_lock[s]);
    pthread_mutex_destroy(&e->asof_lock);
    pthread_mutex_destroy(&e->fetch_lock);
    pthread_mutex_destroy(&e->mend_lock);
    pthread_mutex_destroy(&e->overlay_lock);
    mem_free(e->dir);
    mem_free(e);
}

/* ---- small accessors ---- */

void engine_submit(struct engine *e, struct write *w)
{
    struct write_chain c = {0};
    write_chain_add(&c, w);
    engine_submit_chain(e, &c);
}

void engine_submit_chain(struct engine *e, struct write_chain *c)
{
    if (c->n)
        sequencer_submit(atomic_load_explicit(&e->seq, memory_order_relaxed), c);
    *c = (struct write_chain){0};
}

void engine_set_gate(struct engine *e, const struct sequencer_gate *gate)
{
    sequencer_set_gate(atomic_load(&e->seq), gate);
}

void engine_release(struct engine *e)
{
    sequencer_release(atomic_load(&e->seq));
}

void engine_keep_log(struct engine *e, uint64_t lsn)
{
    atomic_store(&e->keep_lsn, lsn);
}

void engine_cell_id(struct engine *e, uint8_t out[16])
{
    memcpy(out, e->cell_id, sizeof e->cell_id);
}

struct vaults *engine_vaults(struct engine *e)
{
    return e->vaults;
}

void engine_info(struct engine *e, struct engine_info *out)
{
    memset(out, 0, sizeof *out);
    wal_info(e->wal, &out->wal);
    apply_stats(e->apply, &out->apply);
    hot_stats(e->hot, &out->hot);
    out->commit_lsn = engine_commit_lsn(e);
    sequencer_info(atomic_load(&e->seq), out);
}

struct wal *engine_wal(struct engine *e)
{
    return e->wal;
}

struct databases *engine_databases(struct engine *e)
{
    return e->databases;
}

void engine_expire_actively(struct engine *e, int on)
{
    atomic_store(&e->expire_paused, !on);
}

uint64_t engine_commit_lsn(struct engine *e)
{
    return atomic_load(&e->commit_lsn);
}

unsigned engine_shards(struct engine *e)
{
    return e->shards;
}

struct store *engine_store(struct engine *e, unsigned store)
{
    return engine_store_ok(e, store) ? e->stores[store] : NULL;
}

struct rebuild *engine_rebuild(struct engine *e)
{
    return e->rebuild;
}

struct scrub *engine_scrub(struct engine *e)
{
    return e->scrub;
}

void engine_recovery(struct engine *e, struct engine_recovery *out)
{
    struct rebuild_fill f;
    struct wal_info w;
    *out = e->recovery;
    rebuild_fill(e->rebuild, &f);
    wal_info(e->wal, &w);
    out->stores_left = f.left;
    out->done = f.done;
    out->total = f.total;
    out->filled_ms = f.left ? 0 : out->ready_ms + f.ms;
    out->eta_ms = f.left && f.done ? f.ms * (f.total > f.done ? f.total - f.done : 0) / f.done : 0;
    out->unverified_bytes = w.unverified_bytes;
}

int engine_store_serves(struct engine *e, unsigned store)
{
    return engine_store_ok(e, store);
}

struct snapshots *engine_snapshots(struct engine *e)
{
    return e->snapshots;
}
