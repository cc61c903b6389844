/* rebuild.c - see rebuild.h: the thread, what is wanted of it and what others learn of it. One rebuild is in
 * rebuild_steps.c.
 *
 * The old store is not closed by its last reader but here, by looking again: closing waits for LevelDB's compaction,
 * and a reader is an I/O thread.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/rebuild_impl.h"
#include "engine/storedir.h"

#define TICK_MS 50
#define REST_MS 60000
#define REST_MAX_MS 600000

const char *rebuild_state_name(enum rebuild_state s)
{
    static const char *const name[] = {"idle", "loading", "fetching", "replaying", "placing", "swapping"};
    return name[s];
}

/* When all stores serve again. */
static void let_overlay_go(struct rebuild *r)
{
    for (unsigned s = 0; s <= r->e->shards; s++)
        if (!engine_store_ok(r->e, s))
            return;
    pthread_mutex_lock(&r->lock);
    int filled = r->fill_all && !r->fill_said;
    uint64_t ms = r->fill_ms;
    r->fill_said = 1;
    pthread_mutex_unlock(&r->lock);
    if (filled)
        engine_logf(r->e, LOG_NOTICE, "All stores are there again: filled in %llu ms", (unsigned long long)ms);
    engine_overlay_set(r->e, NULL);
}

static void begin(struct rebuild *r, struct rebuild_job *j, unsigned store)
{
    *j = (struct rebuild_job){.f = {.store = store, .store_count = r->e->shards + 1}, .r = r, .e = r->e};
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

static struct rebuild_info end(struct rebuild *r, struct rebuild_job *j, enum err err, int asked)
{
    struct shelf *s = &r->shelf[j->f.store];
    rebuild_note_progress(j);
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
    struct rebuild_job *j = mem_zalloc(sizeof *j);
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
