/* keeper.c - a thread that carries out what is due: expired secrets, purges of soft-deleted ones, scheduled deletions
 * of keys, and what flushes of databases left behind.
 *
 * The expiry index of a shard is ordered by time ('x' and 'y' entries, secret.h), so a round is one short scan from its
 * beginning: its cost is what is due, whatever the shard holds. Each entry becomes an ordinary write (STEP_SECRET_DUE,
 * STEP_KEY_DESTROY), which the sequencer checks against the head as it then is: an entry that was overtaken does
 * nothing. Readers do not wait for this: they compare times themselves.
 *
 * The index is what the stores have. A time that is shorter than the applier's pace would be looked at late, so the
 * keeper has the applier catch up when such a one is over, once a second at most: a stream of short-lived secrets must
 * not make it write round after round.
 *
 * DUE_BATCH writes at a time are handed to the sequencer and waited for, so that a million secrets expiring in one
 * second do not keep others' writes waiting. A round goes on, batch after batch, until nothing more is due: what
 * expires faster than a batch a round must not pile up.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/engine_impl.h"

#define DUE_BATCH 256
#define ROUND_MS 100
#define CATCH_UP_MS 1000

struct due_write {
    struct write w;
    struct step s;
    uint8_t name[SECRET_PATH_MAX];
};

struct keeper {
    struct engine *e;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int stop;
    int refused; /* a write of this round was: the disk is full, a store failed. Under lock, as the next */
    unsigned outstanding;
    struct due_write *batch;
};

static void due_done(struct write *w)
{
    struct keeper *k = w->arg;
    const struct step *s = w->step;
    if (w->err == ERR_OK && s->kind == STEP_SECRET_DUE && s->out_version && k->e->cfg.on_expired)
        k->e->cfg.on_expired(k->e->cfg.arg, w->vault, s->path);
    pthread_mutex_lock(&k->lock);
    k->refused |= w->err != ERR_OK;
    if (--k->outstanding == 0)
        pthread_cond_signal(&k->wake);
    pthread_mutex_unlock(&k->lock);
}

static void due_submit(struct keeper *k, struct due_write *d, int step, struct vault *v, struct bytes name,
                       uint64_t due_ms)
{
    memset(&d->w, 0, sizeof d->w);
    memset(&d->s, 0, sizeof d->s);
    if (name.n)
        memcpy(d->name, name.p, name.n);
    d->s.kind = (uint8_t)step;
    d->s.path = bytes_of(d->name, name.n);
    d->s.expires_ms = d->s.mark = due_ms;
    d->w.vault = v;
    d->w.step = &d->s;
    d->w.steps = 1;
    d->w.done = due_done;
    d->w.arg = k;
    pthread_mutex_lock(&k->lock);
    k->outstanding++;
    pthread_mutex_unlock(&k->lock);
    engine_submit(k->e, &d->w);
}

/* 1: no more in this round. */
static int wait_for_batch(struct keeper *k)
{
    pthread_mutex_lock(&k->lock);
    while (k->outstanding)
        pthread_cond_wait(&k->wake, &k->lock);
    int stop = k->stop || k->refused;
    pthread_mutex_unlock(&k->lock);
    return stop;
}

/* Carries out what is due under one kind of index entry; returns how many. */
static size_t scan_due(struct keeper *k, struct store_iter *it, uint8_t kind, int step, uint64_t now_ms)
{
    size_t n = 0;
    int stop = 0;
    for (store_iter_seek(it, bytes_of(&kind, 1)); store_iter_valid(it) && !stop; store_iter_next(it)) {
        struct bytes key = store_iter_key(it);
        if (key.p[0] != kind || key.n < 18 || key.n > 17 + SECRET_PATH_MAX || get_be64(key.p + 1) > now_ms)
            break;
        struct vault *v = vaults_find_id(k->e->vaults, get_be64(key.p + 9));
        if (!v || atomic_load(&v->state) != VAULT_ACTIVE)
            continue;
        due_submit(k, &k->batch[n % DUE_BATCH], step, v, bytes_of(key.p + 17, key.n - 17), get_be64(key.p + 1));
        if (++n % DUE_BATCH == 0)
            stop = wait_for_batch(k);
    }
    wait_for_batch(k);
    return n;
}

static size_t round_of_store(struct keeper *k, unsigned store)
{
    struct store_iter *it = NULL;
    uint64_t now_ms = clock_wall_ms();
    struct store *s = engine_store_take(k->e, store);
    int failed = !s || store_iter_new(s, &it);
    store_unref(s);
    if (failed)
        return 0;
    k->refused = 0;
    size_t n = atomic_load(&k->e->expire_paused) ? 0 : scan_due(k, it, 'x', STEP_SECRET_DUE, now_ms);
    n += scan_due(k, it, 'y', STEP_KEY_DESTROY, now_ms);
    (void)engine_store_saw(k->e, store, store_iter_status(it));
    store_iter_free(it);
    return n;
}

/* ---- flushed databases ---- */

/* Purges the heads of v that the flush at lsn made worthless. 1: there are none left. */
static int purge_heads(struct keeper *k, struct vault *v, uint64_t lsn)
{
    uint8_t from[SECRET_KEY_MAX];
    struct bytes payload, first = secret_key_head(from, v->id, bytes_of(NULL, 0));
    struct store_iter *it = NULL;
    struct store *s = engine_store_take(k->e, v->store);
    int stop = !s || store_iter_new(s, &it);
    uint64_t head_lsn;
    size_t n = 0;

    store_unref(s);
    if (stop)
        return 0;
    k->refused = 0;
    for (store_iter_seek(it, first); store_iter_valid(it) && !stop; store_iter_next(it)) {
        struct bytes key = store_iter_key(it);
        if (key.n <= first.n || memcmp(key.p, first.p, first.n) != 0)
            break;
        if ((stop = engine_store_saw(k->e, v->store, store_iter_value(it, &payload, &head_lsn)) != ERR_OK))
            break;
        if (head_lsn > lsn)
            continue;
        due_submit(k, &k->batch[n % DUE_BATCH], STEP_SECRET_PURGE, v, bytes_of(key.p + 9, key.n - 9), 0);
        if (++n % DUE_BATCH == 0)
            stop = wait_for_batch(k);
    }
    stop |= wait_for_batch(k) | (store_iter_status(it) != ERR_OK);
    store_iter_free(it);
    return !stop;
}

/* A flush after this one has a number of its own, and its turn in the next round. */
static void purge_vault(struct keeper *k, struct vault *v)
{
    uint64_t lsn = atomic_load(&v->purge_lsn);
    if (!lsn || atomic_load(&v->state) != VAULT_ACTIVE || apply_wait_lsn(k->e->apply, lsn) || !purge_heads(k, v, lsn))
        return;
    due_submit(k, &k->batch[0], STEP_VAULT_FLUSHED, v, bytes_of(NULL, 0), lsn);
    wait_for_batch(k);
}

static void purge_flushed(struct keeper *k)
{
    struct vault *page[64];
    struct bytes after = bytes_of(NULL, 0);
    size_t n;
    while ((n = vaults_list(k->e->vaults, after, 0, page, 64)) > 0) {
        for (size_t i = 0; i < n; i++)
            if (atomic_load(&page[i]->purge_lsn))
                purge_vault(k, page[i]);
        after = bytes_str(page[n - 1]->name);
    }
}

static int keeper_pause(struct keeper *k)
{
    uint64_t until_us = clock_mono_us() + ROUND_MS * 1000; /* the wall clock may be set back */
    pthread_mutex_lock(&k->lock);
    while (!k->stop && clock_mono_us() < until_us)
        clock_cond_wait(&k->wake, &k->lock, until_us);
    int stop = k->stop;
    pthread_mutex_unlock(&k->lock);
    return stop;
}

/* Rounds of the applier that are asked for because something that may not be in the stores yet is due. */
static void catch_up(struct keeper *k, uint64_t *next_us)
{
    uint64_t now_us = clock_mono_us(), now_ms = clock_wall_ms();
    if (atomic_load(&k->e->due_ms) > now_ms || now_us < *next_us || atomic_load(&k->e->expire_paused))
        return;
    *next_us = now_us + CATCH_UP_MS * 1000;
    atomic_store(&k->e->due_ms, UINT64_MAX); /* what comes in from here on is in no round before the next */
    (void)apply_wait_lsn(k->e->apply, engine_commit_lsn(k->e));
}

static void *keeper_main(void *arg)
{
    struct keeper *k = arg;
    uint64_t next_us = 0;
    pthread_setname_np(pthread_self(), "coffer-keeper");
    do {
        catch_up(k, &next_us);
        for (unsigned s = 1; s <= k->e->shards; s++) {
            if (round_of_store(k, s) == 0)
                continue;
            /* The next scan must not find the same entries again. */
            if (apply_wait_lsn(k->e->apply, engine_commit_lsn(k->e)))
                break; /* no room on the disk */
        }
        purge_flushed(k);
    } while (!keeper_pause(k));
    return NULL;
}

enum err keeper_start(struct keeper **out, struct engine *e)
{
    struct keeper *k = *out = mem_zalloc(sizeof *k);
    if (!k)
        return ERR_OOM;
    k->e = e;
    k->batch = mem_alloc(DUE_BATCH * sizeof *k->batch);
    pthread_mutex_init(&k->lock, NULL);
    clock_cond_init(&k->wake);
    if (!k->batch || pthread_create(&k->thread, NULL, keeper_main, k) != 0) {
        mem_free(k->batch);
        mem_free(k);
        *out = NULL;
        return ERR_OOM;
    }
    return ERR_OK;
}

void keeper_stop(struct keeper *k)
{
    if (!k)
        return;
    pthread_mutex_lock(&k->lock);
    k->stop = 1;
    pthread_cond_signal(&k->wake);
    pthread_mutex_unlock(&k->lock);
    pthread_join(k->thread, NULL);
    pthread_mutex_destroy(&k->lock);
    pthread_cond_destroy(&k->wake);
    mem_free(k->batch);
    mem_free(k);
}
