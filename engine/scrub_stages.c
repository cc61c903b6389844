/* scrub_stages.c - what a pass of the scrub reads, and who makes it good (scrub.h). Items are looked up anew each time:
 * what has gone since is no damage, what has come is in the next pass.
 *
 * Those who repair are asked and waited for, not left to their own pace: they rest between tries because a read may
 * find the same damage a thousand times a second. The scrub finds it once in a pass.
 *
 * Rejected: reading through LevelDB (tablecheck.c says why); repairing a log segment from the records that still verify
 * (a chain with a hole proves nothing, and a replica would be sent the hole; whoever has the missing ones has all).
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/scrub_impl.h"
#include "engine/storecheck.h"
#include "engine/tablecheck.h"

#define GONE_MS 60000 /* for a log segment to go, once a snapshot is behind it */
#define TICK_US 20000

/* ---- LOG ---- */

static enum err read_segment(struct scrub *s, struct scrub_item *it)
{
    uint64_t first;
    enum err err = wal_verify_segment(s->e->wal, s->at.at, scrub_pace, s, &first, &it->lsn);
    snprintf(it->name, sizeof it->name, "the log from LSN %llu to %llu", (unsigned long long)first,
             (unsigned long long)it->lsn);
    it->next.at = it->lsn + 1;
    return err;
}

/* ---- STORES ---- */

static void next_store(struct scrub_item *it)
{
    it->next.store++;
    it->next.at = 0;
}

/* The first table at or behind the position. ERR_NOTFOUND: none. */
static enum err find_table(struct scrub *s, struct store *st, struct tablecheck_table *out)
{
    struct tablecheck_table *all;
    size_t n;
    enum err err = tablecheck_list(st, &all, &n);
    if (!s->until_table && n)
        s->until_table = all[n - 1].number;
    *out = (struct tablecheck_table){0};
    for (size_t i = 0; i < n && !out->number; i++)
        if (all[i].number >= s->at.at && all[i].number <= s->until_table)
            *out = all[i];
    mem_free(all);
    return err ? err : out->number ? ERR_OK : ERR_NOTFOUND;
}

static enum err read_table(struct scrub *s, struct store *st, struct scrub_item *it)
{
    struct tablecheck_table t, now;
    enum err err = find_table(s, st, &t);
    if (err) {
        next_store(it);
        return err;
    }
    snprintf(it->name, sizeof it->name, "table %llu of %s", (unsigned long long)t.number,
             strrchr(store_path(st), '/') + 1);
    it->next.at = s->at.at = t.number;
    err = tablecheck_verify(st, &t, scrub_pace, s);
    it->next.at++;
    if (err != ERR_CORRUPT && err != ERR_NOTFOUND && err != ERR_IO)
        return err;
    /* Was it deleted under the reader? */
    if (find_table(s, st, &now) == ERR_OK && now.number == t.number)
        return ERR_CORRUPT;
    return ERR_OK;
}

static enum err read_store(struct scrub *s, struct scrub_item *it)
{
    it->store = s->at.store;
    if (it->store > s->e->shards)
        return ERR_END;
    struct store *st = engine_store_take(s->e, it->store);
    if (!st) {
        next_store(it);
        return ERR_NOTFOUND; /* it is out, and being rebuilt */
    }
    enum err err;
    if (s->at.at) {
        err = read_table(s, st, it);
    } else {
        s->until_table = 0;
        snprintf(it->name, sizeof it->name, "the MANIFEST of %s", strrchr(store_path(st), '/') + 1);
        it->next.at = 1;
        err = storecheck_manifest(store_path(st));
    }
    store_unref(st);
    return err;
}

/* ---- SNAPSHOTS ---- */

static enum err verify_snapshot(struct scrub *s, const struct snapshots_file *f)
{
    struct snapread *r;
    char why[128];
    uint64_t block;
    enum err err = snapshots_open_file(s->e->snapshots, f, &r, why, sizeof why);
    if (err)
        return err == ERR_NOTFOUND ? ERR_OK : err; /* deleted meanwhile */
    err = snapread_verify(r, scrub_pace, s, &block);
    snapread_unref(r);
    return err;
}

static enum err read_snapshot(struct scrub *s, struct scrub_item *it)
{
    struct snapshots_file f[SCRUB_FILES_MAX];
    unsigned n = s->e->snapshots ? snapshots_list(s->e->snapshots, f, SCRUB_FILES_MAX) : 0;
    for (unsigned i = 0; i < n && i < SCRUB_FILES_MAX; i++) {
        if (f[i].lsn >= s->at.at || f[i].verified == SNAPSHOT_BAD)
            continue;
        snprintf(it->name, sizeof it->name, "the snapshot at LSN %llu", (unsigned long long)f[i].lsn);
        it->next.at = it->lsn = f[i].lsn;
        return verify_snapshot(s, &f[i]);
    }
    return ERR_END;
}

/* ---- repairs: each answers what came of it ---- */

static void answer(struct scrub *s)
{
    pthread_mutex_lock(&s->lock);
    s->answered = 1;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
}

static void rebuilt(struct rebuild_wait *w)
{
    answer(mpsc_entry(w, struct scrub, rebuild));
}

static void snapshot_made(struct snapshots_wait *w)
{
    answer(mpsc_entry(w, struct scrub, snapshot));
}

/* ERR_AGAIN: it must stop; whoever was asked may still answer, which is why they live as long as the scrub. */
static enum err wait_answer(struct scrub *s)
{
    pthread_mutex_lock(&s->lock);
    while (!s->answered && !s->stop)
        pthread_cond_wait(&s->wake, &s->lock);
    int answered = s->answered;
    pthread_mutex_unlock(&s->lock);
    return answered ? ERR_OK : ERR_AGAIN;
}

static enum err make_snapshot(struct scrub *s)
{
    s->answered = 0;
    s->snapshot = (struct snapshots_wait){.done = snapshot_made, .lsn = engine_commit_lsn(s->e)};
    snapshots_demand(s->e->snapshots, &s->snapshot);
    enum err err = wait_answer(s);
    return err ? err : s->snapshot.err;
}

static enum err repair_store(struct scrub *s, const struct scrub_item *it)
{
    s->answered = 0;
    s->rebuild = (struct rebuild_wait){.done = rebuilt, .store = it->store};
    rebuild_demand(s->e->rebuild, &s->rebuild);
    enum err err = wait_answer(s);
    if (err == ERR_OK && s->rebuild.err == ERR_OK) { /* all of it is new */
        s->at.store = it->store + 1;
        s->at.at = 0;
    }
    return err ? err : s->rebuild.err;
}

static enum err repair_snapshot(struct scrub *s, const struct scrub_item *it)
{
    snapshots_damaged(s->e->snapshots, it->lsn);
    return make_snapshot(s);
}

static enum err wait_until_gone(struct scrub *s, uint64_t lsn)
{
    uint64_t until = clock_mono_us() + GONE_MS * 1000ull;
    struct wal_info w;
    int stop = 0;
    for (;;) {
        wal_info(s->e->wal, &w);
        if (w.first_lsn > lsn)
            return ERR_OK;
        if (stop || clock_mono_us() >= until)
            return ERR_AGAIN; /* the snapshots' thread goes on trying */
        pthread_mutex_lock(&s->lock);
        if (!s->stop)
            clock_cond_wait(&s->wake, &s->lock, clock_mono_us() + TICK_US);
        stop = s->stop;
        pthread_mutex_unlock(&s->lock);
    }
}

static int must_end(void *arg)
{
    struct scrub *s = arg;
    pthread_mutex_lock(&s->lock);
    int stop = s->stop;
    pthread_mutex_unlock(&s->lock);
    return stop;
}

/* Another node's records come first: they cost no old value and nothing of the log. */
static enum err repair_log(struct scrub *s, const struct scrub_item *it)
{
    if (engine_mend_log(s->e, it->lsn, must_end, s) == ERR_OK)
        return ERR_OK;
    if (must_end(s))
        return ERR_AGAIN;
    if (!s->e->snapshots)
        return ERR_CORRUPT;
    snapshots_log_damaged(s->e->snapshots, it->lsn);
    enum err err = make_snapshot(s);
    return err ? err : wait_until_gone(s, it->lsn);
}

const struct scrub_stage_row scrub_stages[SCRUB_STAGES] = {
    [SCRUB_LOG] = {1, read_segment, repair_log},
    [SCRUB_STORES] = {0, read_store, repair_store},
    [SCRUB_SNAPSHOTS] = {UINT64_MAX, read_snapshot, repair_snapshot},
};
