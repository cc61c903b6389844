/* rebuild_steps.c - see rebuild.h and rebuild_impl.h: one rebuild.
 *
 * The happy path is rebuild_store: open_new, load, catch_up, place, catch_up, swap. It runs without the lock; each step
 * says where it is through the info, which has it.
 *
 * The swap waits for the round of the applier that is under way, and holds the next one back for as long as the records
 * take that came since the last catch_up: those of one round at most. Writers and readers go on meanwhile.
 *
 * Rejected: renaming the new directory to the old one's name (LevelDB opens by path for as long as it lives, so old and
 * new would both have to be closed then, and a healthy shard's readers to wait for an open); replaying through the hot
 * table (it would push out what is hot, and the applier must not write the store yet); repairing the damaged store
 * (LevelDB's repair salvages, with holes).
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "engine/rebuild_impl.h"
#include "engine/room.h"
#include "engine/storedir.h"

#define NEAR_RECORDS 1000 /* so few are left to the pause */
#define PASSES 8          /* then as many as there are */
#define HOLD_MS 5
#define SAY_MS 5000

static enum err refuse(struct rebuild_job *j, enum err err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static enum err refuse(struct rebuild_job *j, enum err err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(j->why, sizeof j->why, fmt, ap);
    va_end(ap);
    return err;
}

static const char *why(enum err err)
{
    return err == ERR_MISCONF ? "the disk is full" : err_text(err);
}

/* ---- where it is; each under the lock for a moment ---- */

static int must_stop(struct rebuild *r)
{
    pthread_mutex_lock(&r->lock);
    int stop = r->stop;
    pthread_mutex_unlock(&r->lock);
    return stop;
}

static void enter(struct rebuild_job *j, enum rebuild_state state)
{
    pthread_mutex_lock(&j->r->lock);
    j->r->info.state = state;
    pthread_mutex_unlock(&j->r->lock);
}

static void need_log_from(struct rebuild *r, uint64_t lsn)
{
    pthread_mutex_lock(&r->lock);
    r->needed_lsn = lsn;
    pthread_mutex_unlock(&r->lock);
}

void rebuild_note_progress(struct rebuild_job *j)
{
    struct rebuild_info *i = &j->r->info;
    pthread_mutex_lock(&j->r->lock);
    i->from_lsn = j->from_lsn;
    i->lsn = j->f.lsn;
    i->entries = j->f.entries;
    i->records = j->f.records;
    i->ms = clock_mono_ms() - j->r->begun_ms;
    j->r->fill_now = j->f.seen + j->f.records;
    pthread_mutex_unlock(&j->r->lock);
}

/* How far the filling that a start left to be done is: now and then. */
static void say_progress(struct rebuild *r)
{
    struct engine_recovery i;
    if (clock_mono_ms() - r->said_ms < SAY_MS)
        return;
    engine_recovery(r->e, &i);
    if (i.stores_left)
        engine_logf(r->e, LOG_NOTICE,
                    "Filling stores: %llu of about %llu entries and records, %u stores left, about %llu s to go",
                    (unsigned long long)i.done, (unsigned long long)i.total, i.stores_left,
                    (unsigned long long)(i.eta_ms + 999) / 1000);
    r->said_ms = clock_mono_ms();
}

/* Tests hold it up. */
static void wait_while_held(struct rebuild *r)
{
    const struct timespec moment = {.tv_nsec = HOLD_MS * 1000000L};
    while (r->hold && access(r->hold, F_OK) == 0 && !must_stop(r)) {
        (void)!engine_cover_mend(r->e);
        nanosleep(&moment, NULL);
    }
}

static enum err go_on(struct storefill *f)
{
    struct rebuild_job *j = f->arg;
    rebuild_note_progress(j);
    say_progress(j->r);
    wait_while_held(j->r);
    (void)!engine_cover_mend(j->e); /* what reads have met; this will, too, when it comes there */
    if (must_stop(j->r))
        return refuse(j, ERR_AGAIN, "the server is stopping");
    /* It is not to take what writes need. */
    return room_free(j->e->dir) >= room_for_log(j->e->cfg.dirty_bytes)
               ? ERR_OK
               : refuse(j, ERR_MISCONF, "the disk has no room for a second copy of it");
}

/* ---- LOADING ---- */

static void throw_away(struct rebuild_job *j)
{
    store_close(j->f.st);
    j->f.st = NULL;
    if (j->placed && file_rename(j->path, j->made) == ERR_OK) /* a start must not take it for whole */
        j->placed = 0;
    if (storedir_remove(j->made))
        engine_logf(j->e, LOG_WARNING, "%s cannot be deleted; the next start does", j->made);
}

static enum err open_new(struct rebuild_job *j)
{
    assert(!j->f.st);
    enum err err = storedir_remove(j->made); /* of one that failed, and could not be deleted then */
    if (err == ERR_OK)
        err = engine_store_open(j->e, j->made, &j->f.st);
    return err ? refuse(j, err, "%s cannot be made: %s", j->made, why(err)) : ERR_OK;
}

static enum err no_pace(void *r, uint64_t bytes)
{
    (void)bytes;
    return must_stop(r) ? ERR_AGAIN : ERR_OK;
}

/* A store could not be filled from the snapshot: 1 when something of that is damaged, or cannot be read. */
static int is_in_snapshot(struct rebuild_job *j, struct snapread *r, enum err err)
{
    uint64_t block;
    if (err == ERR_IO)
        err = snapread_verify(r, no_pace, j->r, &block);
    return err == ERR_CORRUPT || err == ERR_IO;
}

/* From r, in a fresh store. ERR_CORRUPT: another may do. */
static enum err load_from(struct rebuild_job *j, struct snapread *r)
{
    struct snapread_info info;
    snapread_info(r, &info);
    enum err err = open_new(j);
    if (err)
        return err == ERR_CORRUPT ? ERR_IO : err;
    j->from_lsn = info.header.lsn;
    j->f.lsn = j->f.entries = j->f.seen = 0;
    err = storefill_snapshot(&j->f, r);
    if (is_in_snapshot(j, r, err)) {
        snapshots_damaged(j->e->snapshots, info.header.lsn);
        throw_away(j);
        j->from_lsn = j->f.entries = 0;
        store_batch_free(j->f.batch); /* it holds what was read before the damage */
        j->f.batch = NULL;
        return store_batch_new(&j->f.batch) ? ERR_OOM : ERR_CORRUPT;
    }
    return err == ERR_NOTFOUND ? ERR_IO : err; /* which would mean that there is no snapshot */
}

static uint64_t log_begins(struct rebuild_job *j)
{
    struct wal_info w;
    wal_info(j->e->wal, &w);
    return w.first_lsn;
}

/* From the newest snapshot that does. ERR_NOTFOUND: none. */
static enum err load_snapshot(struct rebuild_job *j)
{
    struct snapread_info info = {.header.lsn = UINT64_MAX};
    struct snapread *r;
    enum err err;

    do {
        err = j->e->snapshots ? snapshots_open_below(j->e->snapshots, info.header.lsn, &r) : ERR_NOTFOUND;
        if (err)
            return err == ERR_OOM ? err : ERR_NOTFOUND; /* without the HSM none verifies; the log may do */
        snapread_info(r, &info);
        err = info.header.lsn + 1 >= log_begins(j) ? load_from(j, r) : ERR_NOTFOUND;
        snapread_unref(r);
        if (err == ERR_CORRUPT)
            (void)!engine_cover_lower(j->e, info.header.lsn); /* else tried again by engine_cover_mend */
    } while (err == ERR_CORRUPT);
    return err;
}

/* None here is of use: from one that is elsewhere. What stands for the stores goes over to it. */
static enum err load_fetched(struct rebuild_job *j)
{
    enter(j, REBUILD_FETCHING);
    enum err err = engine_fetch_snapshot(j->e, engine_commit_lsn(j->e));
    enter(j, REBUILD_LOADING);
    if (err == ERR_OK && j->hurt)
        engine_cover(j->e, 1);
    return err ? ERR_NOTFOUND : load_snapshot(j);
}

/* Until the store holds all that lies in front of the log that is left to be replayed. */
static enum err load_any(struct rebuild_job *j)
{
    enum err err = load_snapshot(j);
    if (err == ERR_NOTFOUND && log_begins(j) == 1)
        return open_new(j);
    if (err == ERR_NOTFOUND)
        err = load_fetched(j);
    return err == ERR_NOTFOUND
               ? refuse(j, ERR_CORRUPT, "no snapshot verifies that reaches the log, which begins at LSN %llu",
                        (unsigned long long)log_begins(j))
               : err;
}

static enum err load(struct rebuild_job *j)
{
    enum err err = load_any(j);
    if (err)
        return err;
    need_log_from(j->r, j->f.lsn + 1);
    err = wal_cursor_open(&j->cursor, j->e->wal, j->f.lsn + 1);
    if (err)
        return refuse(j, err, "the log does not reach back to LSN %llu", (unsigned long long)j->f.lsn + 1);
    /* A snapshot may be ahead of the applier, which the new store must not be. */
    err = apply_wait_lsn(j->e->apply, j->f.lsn);
    return err ? refuse(j, err, "nothing is applied: the disk has no room") : ERR_OK;
}

/* ---- REPLAYING ---- */

static enum err replay_to(struct rebuild_job *j, uint64_t to)
{
    pthread_mutex_lock(&j->r->lock);
    j->r->info.to_lsn = to;
    pthread_mutex_unlock(&j->r->lock);
    enum err err = storefill_log(&j->f, j->cursor, to);
    rebuild_note_progress(j);
    if (err && !j->why[0])
        return refuse(j, err, "the log cannot be replayed behind LSN %llu: %s", (unsigned long long)j->f.lsn,
                      err_text(err));
    return err;
}

/* Until so little is left that the applier can wait for it. */
static enum err catch_up(struct rebuild_job *j)
{
    enum err err = ERR_OK;
    for (unsigned i = 0; i < PASSES && err == ERR_OK; i++) {
        uint64_t to = apply_lsn(j->e->apply);
        if (to <= j->f.lsn + NEAR_RECORDS && i > 0)
            break;
        err = replay_to(j, to);
    }
    return err;
}

/* ---- PLACING ---- */

/* The checkpoint comes before the name: a start after a power loss that finds the name finds the values. */
static enum err place(struct rebuild_job *j)
{
    uint64_t lsn;
    enum err err = store_checkpoint(j->f.st, &lsn);
    store_close(j->f.st);
    j->f.st = NULL;
    if (err == ERR_OK)
        err = storedir_remove(j->path); /* of one that failed, and could not be renamed back */
    if (err == ERR_OK && (err = file_rename(j->made, j->path)) == ERR_OK)
        j->placed = 1;
    if (err == ERR_OK)
        err = file_sync_dir(j->e->dir);
    if (err == ERR_OK)
        err = engine_store_open(j->e, j->path, &j->f.st);
    if (err == ERR_OK && store_applied(j->f.st) != j->f.lsn)
        err = ERR_CORRUPT;
    return err ? refuse(j, err, "%s cannot be put in its place: %s", j->path, why(err)) : ERR_OK;
}

/* ---- SWAPPING ---- */

static void exchange(struct rebuild_job *j)
{
    struct engine *e = j->e;
    unsigned s = j->f.store;
    struct shelf *shelf = &j->r->shelf[s];

    pthread_mutex_lock(&e->store_lock[s]);
    shelf->old = e->stores[s];
    e->stores[s] = j->f.st;
    pthread_mutex_unlock(&e->store_lock[s]);
    shelf->old_generation = e->generation[s];
    e->generation[s] = j->generation;
    apply_set_store(e->apply, s, j->f.st);
    hot_drop_clean(e->hot, (uint16_t)s);
    pthread_mutex_lock(&j->r->lock); /* while the applier stands still: what fails from now on is the new one */
    shelf->failed = shelf->wanted = 0;
    pthread_mutex_unlock(&j->r->lock);
    atomic_store(&e->store_failed[s], 0); /* readers are let in */
    j->f.st = NULL;
}

static enum err swap(struct rebuild_job *j)
{
    uint64_t lsn = apply_pause(j->e->apply);
    enum err err = replay_to(j, lsn);
    if (err == ERR_OK)
        exchange(j);
    apply_resume(j->e->apply);
    return err;
}

/* ---- one rebuild ---- */

static enum err prepare(struct rebuild_job *j)
{
    struct engine *e = j->e;
    j->f.go_on = go_on;
    j->f.arg = j;
    j->generation = e->generation[j->f.store] + (e->stores[j->f.store] != NULL); /* a lost one left its name free */
    engine_store_path(e, j->f.store, j->generation, 1, j->made, sizeof j->made);
    engine_store_path(e, j->f.store, j->generation, 0, j->path, sizeof j->path);
    return store_batch_new(&j->f.batch);
}

enum err rebuild_store(struct rebuild_job *j)
{
    enum err err = prepare(j);
    need_log_from(j->r, 1); /* before it is looked where the log begins */
    if (err == ERR_OK && j->hurt)
        engine_cover(j->e, 0);
    if (err == ERR_OK)
        err = load(j);
    if (err == ERR_OK) {
        enter(j, REBUILD_REPLAYING);
        err = catch_up(j);
    }
    if (err == ERR_OK) {
        enter(j, REBUILD_PLACING);
        err = place(j);
    }
    if (err == ERR_OK)
        err = catch_up(j);
    if (err == ERR_OK) {
        enter(j, REBUILD_SWAPPING);
        err = swap(j);
    }
    if (err)
        throw_away(j);
    wal_cursor_close(j->cursor);
    store_batch_free(j->f.batch);
    return err;
}
