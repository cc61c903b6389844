/* keeper.c - a thread that carries out what is due: expired secrets, purges of soft-deleted ones, scheduled deletions
 * of keys.
 *
 * The expiry index of a shard is ordered by time ('x' and 'y' entries, secret.h), so a round is one short scan from its
 * beginning: its cost is what is due, whatever the shard holds. Each entry becomes an ordinary write (STEP_SECRET_DUE,
 * STEP_KEY_DESTROY), which the sequencer checks against the head as it then is: an entry that was overtaken does
 * nothing. Readers do not wait for this: they compare times themselves.
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
    memcpy(d->name, name.p, name.n);
    d->s.kind = (uint8_t)step;
    d->s.path = bytes_of(d->name, name.n);
    d->s.expires_ms = due_ms;
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
    size_t n = scan_due(k, it, 'x', STEP_SECRET_DUE, now_ms);
    n += scan_due(k, it, 'y', STEP_KEY_DESTROY, now_ms);
    (void)engine_store_saw(k->e, store, store_iter_status(it));
    store_iter_free(it);
    return n;
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

static void *keeper_main(void *arg)
{
    struct keeper *k = arg;
    pthread_setname_np(pthread_self(), "coffer-keeper");
    do {
        for (unsigned s = 1; s <= k->e->shards; s++) {
            if (round_of_store(k, s) == 0)
                continue;
            /* The next scan must not find the same entries again. */
            if (apply_wait_lsn(k->e->apply, engine_commit_lsn(k->e)))
                break; /* no room on the disk */
        }
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
