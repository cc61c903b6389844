/* rebuild.c - see rebuild.h.
 *
 * The happy path is rebuild_store: open_new, load, catch_up, place, catch_up, swap. It runs without the lock; each step
 * says where it is through the info, which has it.
 *
 * The swap waits for the round of the applier that is under way, and holds the next one back for as long as the records
 * take that came since the last catch_up: those of one round at most. Writers and readers go on meanwhile.
 *
 * The old store is not closed by its last reader but here, by looking again: closing waits for LevelDB's compaction,
 * and a reader is an I/O thread.
 *
 * Rejected: renaming the new directory to the old one's name (LevelDB opens by path for as long as it lives, so old and
 * new would both have to be closed then, and a healthy shard's readers to wait for an open); replaying through the hot
 * table (it would push out what is hot, and the applier must not write the store yet); repairing the damaged store
 * (LevelDB's repair salvages, with holes).
 */
#include "engine/rebuild.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "engine/engine_impl.h"
#include "engine/room.h"
#include "engine/storecheck.h"
#include "engine/storedir.h"
#include "engine/storefill.h"

#define TICK_MS 50
#define REST_MS 60000
#define REST_MAX_MS 600000
#define NEAR_RECORDS 1000 /* so few are left to the pause */
#define PASSES 8          /* then as many as there are */
#define HOLD_MS 5
#define SAY_MS 5000

/* What is known of a store. */
struct shelf {
    int wanted;                      /* it failed, or damage was found */
    int failed;                      /* it failed: wanted until it is back */
    int filling;                     /* it was lost at the start, and is not there yet */
    uint64_t fill_total;             /* what there is to do then, about */
    uint64_t not_before_ms, rest_ms; /* by itself */
    struct store *old;               /* replaced, and not closed yet; the thread's own, as the next */
    uint32_t old_generation;
};

struct rebuild {
    struct engine *e;
    pthread_t thread;
    int started;

    pthread_mutex_t lock; /* what follows, but for the old stores */
    pthread_cond_t wake;
    int stop;
    struct rebuild_wait *waits;
    uint64_t needed_lsn, begun_ms, started_ms;
    uint64_t fill_all, fill_done, fill_now, fill_ms; /* of all; of stores that are there; of the one under way */
    int fill_said;
    uint64_t said_ms; /* how far it is; the thread's own */
    const char *hold; /* tests */
    struct rebuild_info info;
    struct shelf shelf[ENGINE_STORES_MAX];
};

/* One rebuild. */
struct job {
    struct storefill f;
    struct rebuild *r;
    struct engine *e;
    struct wal_cursor *cursor;
    uint32_t generation;
    uint64_t from_lsn;
    int placed;
    int hurt;                                                      /* readers cannot have all from what there is */
    char made[STORECHECK_PATH_BYTES], path[STORECHECK_PATH_BYTES]; /* as .new, and as it is to be */
    char why[160];
};

const char *rebuild_state_name(enum rebuild_state s)
{
    static const char *const name[] = {"idle", "loading", "replaying", "placing", "swapping"};
    return name[s];
}

static enum err refuse(struct job *j, enum err err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static enum err refuse(struct job *j, enum err err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(j->why, sizeof j->why, fmt, ap);
    va_end(ap);
    return err;
}

/* ---- where it is; each under the lock for a moment ---- */

static int must_stop(struct rebuild *r)
{
    pthread_mutex_lock(&r->lock);
    int stop = r->stop;
    pthread_mutex_unlock(&r->lock);
    return stop;
}

static void enter(struct job *j, enum rebuild_state state)
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

static void note_progress(struct job *j)
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
    struct job *j = f->arg;
    note_progress(j);
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

static void throw_away(struct job *j)
{
    store_close(j->f.st);
    j->f.st = NULL;
    if (j->placed && file_rename(j->path, j->made) == ERR_OK) /* a start must not take it for whole */
        j->placed = 0;
    if (storedir_remove(j->made))
        engine_logf(j->e, LOG_WARNING, "%s cannot be deleted; the next start does", j->made);
}

static enum err open_new(struct job *j)
{
    assert(!j->f.st);
    enum err err = storedir_remove(j->made); /* of one that failed, and could not be deleted then */
    if (err == ERR_OK)
        err = engine_store_open(j->e, j->made, &j->f.st);
    return err ? refuse(j, err, "%s cannot be made: %s", j->made, err_text(err)) : ERR_OK;
}

/* From r, in a fresh store. ERR_CORRUPT: another may do. */
static enum err load_from(struct job *j, struct snapread *r)
{
    struct snapread_info info;
    snapread_info(r, &info);
    enum err err = open_new(j);
    if (err)
        return err == ERR_CORRUPT ? ERR_IO : err;
    j->from_lsn = info.header.lsn;
    j->f.lsn = j->f.entries = j->f.seen = 0;
    err = storefill_snapshot(&j->f, r);
    if (err == ERR_CORRUPT) {
        snapshots_damaged(j->e->snapshots, info.header.lsn);
        throw_away(j);
        j->from_lsn = j->f.entries = 0;
        store_batch_free(j->f.batch); /* it holds what was read before the damage */
        j->f.batch = NULL;
        return store_batch_new(&j->f.batch) ? ERR_OOM : ERR_CORRUPT;
    }
    return err == ERR_NOTFOUND ? ERR_IO : err; /* which would mean that there is no snapshot */
}

/* From the newest snapshot that does. ERR_NOTFOUND: none. */
static enum err load_snapshot(struct job *j)
{
    struct snapread_info info = {.header.lsn = UINT64_MAX};
    struct snapread *r;
    struct wal_info w;
    enum err err;

    do {
        err = j->e->snapshots ? snapshots_open_below(j->e->snapshots, info.header.lsn, &r) : ERR_NOTFOUND;
        if (err)
            return err == ERR_OOM ? err : ERR_NOTFOUND; /* without the HSM none verifies; the log may do */
        wal_info(j->e->wal, &w);
        snapread_info(r, &info);
        err = info.header.lsn + 1 >= w.first_lsn ? load_from(j, r) : ERR_NOTFOUND;
        snapread_unref(r);
        if (err == ERR_CORRUPT)
            (void)!engine_cover_lower(j->e, info.header.lsn); /* else tried again by engine_cover_mend */
    } while (err == ERR_CORRUPT);
    return err;
}

static enum err load(struct job *j)
{
    struct wal_info w;
    enum err err = load_snapshot(j);
    if (err == ERR_NOTFOUND) {
        wal_info(j->e->wal, &w);
        if (w.first_lsn != 1)
            return refuse(j, ERR_CORRUPT, "no snapshot verifies that reaches the log, which begins at LSN %llu",
                          (unsigned long long)w.first_lsn);
        err = open_new(j);
    }
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

static enum err replay_to(struct job *j, uint64_t to)
{
    pthread_mutex_lock(&j->r->lock);
    j->r->info.to_lsn = to;
    pthread_mutex_unlock(&j->r->lock);
    enum err err = storefill_log(&j->f, j->cursor, to);
    note_progress(j);
    if (err && !j->why[0])
        return refuse(j, err, "the log cannot be replayed behind LSN %llu: %s", (unsigned long long)j->f.lsn,
                      err_text(err));
    return err;
}

/* Until so little is left that the applier can wait for it. */
static enum err catch_up(struct job *j)
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
static enum err place(struct job *j)
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
    return err ? refuse(j, err, "%s cannot be put in its place: %s", j->path, err_text(err)) : ERR_OK;
}

/* ---- SWAPPING ---- */

static void exchange(struct job *j)
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

static enum err swap(struct job *j)
{
    uint64_t lsn = apply_pause(j->e->apply);
    enum err err = replay_to(j, lsn);
    if (err == ERR_OK)
        exchange(j);
    apply_resume(j->e->apply);
    return err;
}

/* When all stores serve again. */
static void let_overlay_go(struct rebuild *r)
{
    for (unsigned s = 0; s <= r->e->shards; s++)
        if (!engine_store_ok(r->e, s))
            return;
    engine_overlay_set(r->e, NULL);
    pthread_mutex_lock(&r->lock);
    int filled = r->fill_all && !r->fill_said;
    uint64_t ms = r->fill_ms;
    r->fill_said = 1;
    pthread_mutex_unlock(&r->lock);
    if (filled)
        engine_logf(r->e, LOG_NOTICE, "All stores are there again: filled in %llu ms", (unsigned long long)ms);
}

/* ---- one rebuild ---- */

static enum err prepare(struct job *j)
{
    struct engine *e = j->e;
    j->generation = e->generation[j->f.store] + (e->stores[j->f.store] != NULL); /* a lost one left its name free */
    engine_store_path(e, j->f.store, j->generation, 1, j->made, sizeof j->made);
    engine_store_path(e, j->f.store, j->generation, 0, j->path, sizeof j->path);
    return store_batch_new(&j->f.batch);
}

static enum err rebuild_store(struct job *j)
{
    enum err err = prepare(j);
    need_log_from(j->r, 1); /* before it is looked where the log begins */
    if (err == ERR_OK && j->hurt)
        engine_cover(j->e);
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

static void begin(struct rebuild *r, struct job *j, unsigned store)
{
    *j = (struct job){.f = {.store = store, .store_count = r->e->shards + 1, .go_on = go_on}, .r = r, .e = r->e};
    j->f.arg = j;
    pthread_mutex_lock(&r->lock);
    r->begun_ms = clock_mono_ms();
    r->fill_now = 0;
    j->hurt = r->shelf[store].wanted || atomic_load(&r->e->store_failed[store]);
    r->shelf[store].wanted = 0; /* damage that is found from now on is of the store as it is now */
    r->info =
        (struct rebuild_info){.state = REBUILD_LOADING, .store = store, .done = r->info.done, .failed = r->info.failed};
    pthread_mutex_unlock(&r->lock);
}

/* Lock held. */
static void rest(struct shelf *s, int helped)
{
    uint64_t now = clock_mono_ms();
    int soon = s->rest_ms && now < s->not_before_ms + s->rest_ms; /* it is not long since the last one */
    s->rest_ms = soon || !helped ? s->rest_ms * 2 : REST_MS;
    if (s->rest_ms < REST_MS)
        s->rest_ms = REST_MS;
    if (s->rest_ms > REST_MAX_MS)
        s->rest_ms = REST_MAX_MS;
    s->not_before_ms = now + s->rest_ms;
}

static struct rebuild_info end(struct rebuild *r, struct job *j, enum err err, int asked)
{
    struct shelf *s = &r->shelf[j->f.store];
    note_progress(j);
    pthread_mutex_lock(&r->lock);
    r->needed_lsn = UINT64_MAX;
    r->info.state = REBUILD_IDLE;
    r->info.err = err;
    snprintf(r->info.why, sizeof r->info.why, "%s", !err ? "" : j->why[0] ? j->why : err_text(err));
    r->info.done += !err;
    r->info.failed += err != ERR_OK;
    r->fill_now = 0;
    if (err == ERR_OK && s->filling) {
        s->filling = 0;
        r->fill_done += s->fill_total;
        r->fill_ms = clock_mono_ms() - r->started_ms;
    }
    if (s->failed)
        s->wanted = 1; /* again, later */
    if (!asked || err == ERR_OK)
        rest(s, err == ERR_OK);
    struct rebuild_info i = r->info;
    pthread_mutex_unlock(&r->lock);
    return i;
}

static const char *name_of(unsigned store, char out[STOREDIR_NAME_BYTES])
{
    if (store)
        snprintf(out, STOREDIR_NAME_BYTES, "shard %u", store - 1);
    else
        snprintf(out, STOREDIR_NAME_BYTES, "the base store");
    return out;
}

static void say(struct rebuild *r, const struct rebuild_info *i)
{
    char name[STOREDIR_NAME_BYTES], from[64] = "";
    name_of(i->store, name);
    if (i->from_lsn)
        snprintf(from, sizeof from, "the snapshot at LSN %llu and ", (unsigned long long)i->from_lsn);
    if (i->err)
        engine_logf(r->e, LOG_WARNING, "%s could not be rebuilt: %s", name, i->why);
    else
        engine_logf(r->e, LOG_NOTICE,
                    "%s is rebuilt and serves: from %sthe log up to LSN %llu, %llu entries, %llu records, %llu ms",
                    name, from, (unsigned long long)i->lsn, (unsigned long long)i->entries,
                    (unsigned long long)i->records, (unsigned long long)i->ms);
}

static void answer(struct rebuild_wait *w, const struct rebuild_info *i)
{
    while (w) {
        struct rebuild_wait *next = w->next;
        w->err = i->err;
        memcpy(w->why, i->why, sizeof w->why);
        w->from_lsn = i->from_lsn;
        w->lsn = i->lsn;
        w->entries = i->entries;
        w->records = i->records;
        w->ms = i->ms;
        w->done(w);
        w = next;
    }
}

static void run(struct rebuild *r, unsigned store, struct rebuild_wait *asked)
{
    struct job *j = mem_zalloc(sizeof *j);
    struct rebuild_info i = {.store = store, .err = ERR_OOM, .why = "out of memory"};
    char name[STOREDIR_NAME_BYTES];

    if (j) {
        engine_logf(r->e, LOG_NOTICE, "%s is being rebuilt%s", name_of(store, name), asked ? ", as asked for" : "");
        begin(r, j, store);
        enum err err = rebuild_store(j);
        i = end(r, j, err, asked != NULL);
        say(r, &i);
        let_overlay_go(r);
    }
    mem_free(j);
    answer(asked, &i);
}

/* ---- the thread ---- */

/* Closes what was replaced and is not used any more. 1: some of it still is. */
static int close_old(struct rebuild *r, int all)
{
    char path[STORECHECK_PATH_BYTES];
    int left = 0;
    for (unsigned s = 0; s < ENGINE_STORES_MAX; s++) {
        struct shelf *shelf = &r->shelf[s];
        if (!shelf->old)
            continue;
        if (!all && store_users(shelf->old)) {
            left = 1;
            continue;
        }
        store_close(shelf->old);
        shelf->old = NULL;
        engine_store_path(r->e, s, shelf->old_generation, 0, path, sizeof path);
        if (storedir_remove(path))
            engine_logf(r->e, LOG_WARNING, "%s cannot be deleted; the next start does", path);
    }
    return left;
}

/* Which one is next; -1: none. A store whose last predecessor is not closed waits. Lock held. *asked: those who asked
 * for it. */
static int choose(struct rebuild *r, struct rebuild_wait **asked)
{
    uint64_t now = clock_mono_ms();
    int store = -1;

    *asked = NULL;
    for (struct rebuild_wait *w = r->waits; w; w = w->next)
        if (!r->shelf[w->store].old)
            store = (int)w->store; /* the last in the list asked first */
    for (unsigned s = 0; store < 0 && s <= r->e->shards; s++)
        if (r->shelf[s].wanted && !r->shelf[s].old && now >= r->shelf[s].not_before_ms)
            store = (int)s;
    for (struct rebuild_wait **at = &r->waits; *at && store >= 0;) {
        struct rebuild_wait *w = *at;
        if (w->store != (unsigned)store) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = *asked;
        *asked = w;
    }
    return store;
}

static void *rebuild_main(void *arg)
{
    struct rebuild *r = arg;
    struct rebuild_wait *asked;
    pthread_setname_np(pthread_self(), "coffer-rebuild");
    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        int store = choose(r, &asked);
        pthread_mutex_unlock(&r->lock);
        if (store >= 0)
            run(r, (unsigned)store, asked);
        (void)!engine_cover_mend(r->e);
        int left = close_old(r, 0);
        pthread_mutex_lock(&r->lock);
        if (store < 0 && !r->stop && (left || !r->waits))
            clock_cond_wait(&r->wake, &r->lock, clock_mono_us() + (left ? TICK_MS : 20 * TICK_MS) * 1000);
    }
    asked = r->waits;
    r->waits = NULL;
    pthread_mutex_unlock(&r->lock);
    answer(asked, &(struct rebuild_info){.err = ERR_AGAIN, .why = "the server is stopping"});
    return NULL;
}

/* ---- the outside ---- */

static void want(struct rebuild *r, unsigned store, int failed)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    struct shelf *s = &r->shelf[store];
    if (failed || clock_mono_ms() >= s->not_before_ms) {
        s->failed |= failed;
        if (!s->wanted)
            pthread_cond_signal(&r->wake);
        s->wanted = 1;
    }
    pthread_mutex_unlock(&r->lock);
}

void rebuild_failed(struct rebuild *r, unsigned store)
{
    want(r, store, 1);
}

void rebuild_damaged(struct rebuild *r, unsigned store)
{
    want(r, store, 0);
}

void rebuild_demand(struct rebuild *r, struct rebuild_wait *w)
{
    pthread_mutex_lock(&r->lock);
    int stopped = r->stop;
    w->next = stopped ? NULL : r->waits;
    if (!stopped)
        r->waits = w;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
    if (stopped)
        answer(w, &(struct rebuild_info){.err = ERR_AGAIN, .why = "the server is stopping"});
}

struct waiting {
    struct rebuild_wait w;
    struct rebuild *r;
    pthread_cond_t wake;
    int done;
};

static void now_done(struct rebuild_wait *w)
{
    struct waiting *me = mpsc_entry(w, struct waiting, w);
    pthread_mutex_lock(&me->r->lock);
    me->done = 1;
    pthread_cond_signal(&me->wake);
    pthread_mutex_unlock(&me->r->lock);
}

enum err rebuild_now(struct rebuild *r, unsigned store)
{
    struct waiting me = {.w = {.done = now_done, .store = store}, .r = r, .wake = PTHREAD_COND_INITIALIZER};
    rebuild_demand(r, &me.w);
    pthread_mutex_lock(&r->lock);
    while (!me.done)
        pthread_cond_wait(&me.wake, &r->lock);
    pthread_mutex_unlock(&r->lock);
    return me.w.err;
}

uint64_t rebuild_needed_lsn(struct rebuild *r)
{
    pthread_mutex_lock(&r->lock);
    uint64_t lsn = r->needed_lsn;
    pthread_mutex_unlock(&r->lock);
    return lsn;
}

void rebuild_fill(struct rebuild *r, struct rebuild_fill *out)
{
    *out = (struct rebuild_fill){0};
    pthread_mutex_lock(&r->lock);
    for (unsigned s = 0; s < ENGINE_STORES_MAX; s++)
        out->left += r->shelf[s].filling != 0;
    out->done = r->fill_done + (out->left ? r->fill_now : 0);
    out->total = r->fill_all;
    out->ms = out->left ? clock_mono_ms() - r->started_ms : r->fill_ms;
    pthread_mutex_unlock(&r->lock);
}

void rebuild_info(struct rebuild *r, struct rebuild_info *out)
{
    pthread_mutex_lock(&r->lock);
    *out = r->info;
    pthread_mutex_unlock(&r->lock);
}

enum err rebuild_new(struct rebuild **out, struct engine *e)
{
    struct rebuild *r = *out = mem_zalloc(sizeof *r);
    if (!r)
        return ERR_OOM;
    r->e = e;
    r->needed_lsn = UINT64_MAX;
    r->hold = getenv("COFFER_TEST_REBUILD_HOLD");
    pthread_mutex_init(&r->lock, NULL);
    clock_cond_init(&r->wake);
    return ERR_OK;
}

/* What there is to do, before the thread runs. */
static void plan_filling(struct rebuild *r)
{
    struct engine *e = r->e;
    struct snapread *from = e->snapshots ? snapshots_newest(e->snapshots) : NULL;
    struct snapread_info info = {0};
    if (from)
        snapread_info(from, &info);
    uint64_t last = engine_commit_lsn(e), behind = last > info.header.lsn ? last - info.header.lsn : 0;
    for (unsigned s = 0; s <= e->shards; s++) {
        struct shelf *shelf = &r->shelf[s];
        shelf->filling = !e->stores[s];
        shelf->fill_total = !shelf->filling ? 0 : behind + (from ? snapread_entries(from, (uint16_t)s) : 0);
        r->fill_all += shelf->fill_total;
    }
    snapread_unref(from);
    r->started_ms = r->said_ms = clock_mono_ms();
}

enum err rebuild_start(struct rebuild *r)
{
    plan_filling(r);
    if (pthread_create(&r->thread, NULL, rebuild_main, r) != 0)
        return ERR_OOM;
    r->started = 1;
    return ERR_OK;
}

void rebuild_stop(struct rebuild *r)
{
    if (!r || !r->started)
        return;
    pthread_mutex_lock(&r->lock);
    r->stop = 1;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    r->started = 0;
}

void rebuild_free(struct rebuild *r)
{
    if (!r)
        return;
    close_old(r, 1);
    pthread_cond_destroy(&r->wake);
    pthread_mutex_destroy(&r->lock);
    mem_free(r);
}
