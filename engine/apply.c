/* apply.c - see apply.h.
 *
 * One thread. It sleeps on `wake` in one of two states that the log writer's apply_kick() can tell apart without a
 * lock: IDLE (nothing is published that is not applied: any kick wakes it) and TIMER (something is: only the limit of
 * bytes or a demand wakes it before its time). The thread announces the state, then looks once more for work, then
 * sleeps; the log writer publishes, then looks at the state. Both orders are sequentially consistent, so one of the two
 * sees the other. A kick that wakes puts the state to BUSY, so that the next ones cost a load.
 *
 * Memory that runs out in a round is waited out: what is committed must go somewhere, and the table holds it meanwhile.
 * The hot table keeps growing then until the sequencer stops admitting (hot_dirty_bytes), which is what should happen.
 *
 * Rejected: a thread per store (LevelDB has one compaction thread for all in any case, and a store's writer is mostly
 * waiting for that); writing from the log writer's thread (it is the one that must be at the next fdatasync); keeping a
 * failed store's values dirty (they fill the table until the sequencer stops everybody's writes).
 */
#include "engine/apply.h"

#include <assert.h>
#include <pthread.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"

/* Not more: a memtable grows past its limit by a whole batch, and there are two of them for each store. */
#define BATCH_BYTES ((size_t)1 << 20)
#define RETRY_MS 10
#define STALL_MS 100

enum state { BUSY, IDLE, TIMER };

struct apply {
    struct apply_config cfg;
    struct store **stores;
    uint64_t *checkpoints; /* per store, the last that is known */
    struct store_batch *batch;
    pthread_t thread;

    _Atomic int state;
    _Atomic int stalled;
    _Atomic uint64_t applied, demand;

    pthread_mutex_t lock; /* what follows */
    pthread_cond_t wake, changed;
    int stop, running;
    unsigned pauses;
    uint64_t round_due_us, checkpoint_due_us; /* 0: not set */
    uint64_t log_bytes, checkpoint_log_bytes; /* published so far; at the last checkpoint */
    struct apply_stats stats;
};

/* ---- time ---- */

static struct timespec at_us(uint64_t us)
{
    return (struct timespec){.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
}

static void moment(unsigned ms)
{
    struct timespec t = {.tv_nsec = ms * 1000000L};
    nanosleep(&t, NULL);
}

/* ---- a round; the thread's own, no lock ---- */

static void store_gone(struct apply *a, unsigned store, enum err e)
{
    pthread_mutex_lock(&a->lock);
    a->checkpoints[store] = store_checkpointed(a->stores[store]);
    a->stores[store] = NULL;
    pthread_mutex_unlock(&a->lock);
    if (a->cfg.on_failure)
        a->cfg.on_failure(a->cfg.arg, store, e);
}

/* Fills the batch; returns how many of the items are in it. */
static size_t fill_batch(struct apply *a, const struct hot_dirty *items, size_t n)
{
    size_t i = 0;
    for (; i < n && (i == 0 || store_batch_bytes(a->batch) < BATCH_BYTES); i++) {
        if (items[i].value->tombstone)
            store_batch_delete(a->batch, items[i].key);
        else
            store_batch_put(a->batch, items[i].key, blob_bytes(items[i].value), items[i].value->lsn);
    }
    return i;
}

static enum err write_items(struct apply *a, struct store *s, const struct hot_dirty *items, size_t n, uint64_t lsn,
                            uint64_t *bytes)
{
    enum err e = ERR_OK;
    uint64_t before = store_applied(s), after = lsn > before ? lsn : before;

    while (n && !e) {
        size_t used = fill_batch(a, items, n), size = store_batch_bytes(a->batch);
        e = store_write(s, a->batch, used == n ? after : before);
        if (e == ERR_OOM) {
            moment(RETRY_MS);
            e = ERR_OK;
            continue;
        }
        *bytes += size;
        items += used;
        n -= used;
    }
    return e;
}

static void write_round(struct apply *a, const struct hot_dirty *items, size_t n, uint64_t lsn, struct apply_stats *add)
{
    for (size_t i = 0, end; i < n; i = end) {
        unsigned store = items[i].store;
        for (end = i + 1; end < n && items[end].store == store; end++)
            ;
        struct store *s = store < a->cfg.store_count ? a->stores[store] : NULL;
        if (!s) {
            add->dropped += end - i;
            continue;
        }
        enum err e = write_items(a, s, items + i, end - i, lsn, &add->bytes);
        if (e) {
            add->dropped += end - i;
            store_gone(a, store, e);
        } else {
            add->written += end - i;
        }
    }
}

/* An estimate: the table does not see the records, but what is in them. */
static uint64_t log_bytes(struct apply *a)
{
    struct hot_stats s;
    hot_stats(a->cfg.hot, &s);
    return s.published_bytes + s.published * (RECORD_HEADER_BYTES + RECORD_CHAIN_BYTES + OPS_HEADER_BYTES);
}

static enum err do_round(struct apply *a)
{
    struct hot_dirty *items;
    size_t n;
    uint64_t lsn;
    struct apply_stats add = {0};
    enum err e = hot_dirty_take(a->cfg.hot, &items, &n, &lsn);
    if (e)
        return e;
    write_round(a, items, n, lsn, &add);
    if (a->cfg.on_round)
        a->cfg.on_round(a->cfg.arg, lsn);
    hot_dirty_done(a->cfg.hot, items, n);

    uint64_t published = log_bytes(a);
    pthread_mutex_lock(&a->lock);
    a->stats.rounds++;
    a->stats.written += add.written;
    a->stats.dropped += add.dropped;
    a->stats.bytes += add.bytes;
    a->log_bytes = published;
    if (lsn > atomic_load(&a->applied))
        atomic_store(&a->applied, lsn);
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->lock);
    if (a->cfg.on_applied)
        a->cfg.on_applied(a->cfg.arg, lsn);
    return ERR_OK;
}

/* ---- checkpoint; the thread's own, no lock ---- */

static enum err checkpoint_store(struct apply *a, struct store *s, uint64_t applied)
{
    uint64_t lsn;
    enum err e = ERR_OK;
    if (store_applied(s) > applied)
        return ERR_OK; /* a replay below it is under way */
    if (store_applied(s) < applied)
        e = store_write(s, a->batch, applied);
    return e ? e : store_checkpoint(s, &lsn);
}

static void do_checkpoint(struct apply *a)
{
    uint64_t applied = atomic_load(&a->applied);
    for (unsigned i = 0; i < a->cfg.store_count; i++) {
        if (!a->stores[i])
            continue;
        enum err e = checkpoint_store(a, a->stores[i], applied);
        if (e && e != ERR_OOM) /* out of memory: an older checkpoint holds, the next one comes */
            store_gone(a, i, e);
    }
    pthread_mutex_lock(&a->lock);
    for (unsigned i = 0; i < a->cfg.store_count; i++)
        if (a->stores[i])
            a->checkpoints[i] = store_checkpointed(a->stores[i]);
    a->stats.checkpoints++;
    a->checkpoint_log_bytes = a->log_bytes;
    a->checkpoint_due_us = a->cfg.checkpoint_ms ? clock_mono_us() + a->cfg.checkpoint_ms * 1000ull : 0;
    pthread_mutex_unlock(&a->lock);
}

/* ---- the thread ---- */

static int has_room(struct apply *a)
{
    int stalled = a->cfg.has_room && !a->cfg.has_room(a->cfg.arg);
    if (stalled == atomic_load(&a->stalled))
        return !stalled;
    pthread_mutex_lock(&a->lock);
    atomic_store(&a->stalled, stalled);
    pthread_cond_broadcast(&a->changed);
    pthread_mutex_unlock(&a->lock);
    if (a->cfg.on_stall)
        a->cfg.on_stall(a->cfg.arg, stalled);
    if (a->cfg.on_applied) /* whoever waits looks again */
        a->cfg.on_applied(a->cfg.arg, atomic_load(&a->applied));
    return !stalled;
}

static int pending(struct apply *a)
{
    return hot_published(a->cfg.hot) > atomic_load(&a->applied);
}

static int wanted_now(struct apply *a)
{
    return atomic_load(&a->demand) > atomic_load(&a->applied) || hot_dirty_bytes(a->cfg.hot) >= a->cfg.round_bytes;
}

/* Lock held. Sets the time of the round when something new is there. */
static int round_is_due(struct apply *a, uint64_t now_us)
{
    if (!pending(a)) {
        a->round_due_us = 0;
        return 0;
    }
    if (!a->round_due_us)
        a->round_due_us = now_us + a->cfg.round_ms * 1000ull;
    return wanted_now(a) || now_us >= a->round_due_us;
}

static int checkpoint_is_due(const struct apply *a, uint64_t now_us)
{
    return (a->cfg.checkpoint_bytes && a->log_bytes - a->checkpoint_log_bytes >= a->cfg.checkpoint_bytes) ||
           (a->checkpoint_due_us && now_us >= a->checkpoint_due_us);
}

/* Lock held, given up while it sleeps. */
static void sleep_until_kicked(struct apply *a)
{
    atomic_store(&a->state, pending(a) ? TIMER : IDLE);
    if (!a->pauses && pending(a) && (!a->round_due_us || wanted_now(a)))
        goto out; /* published since we looked */
    uint64_t due = a->round_due_us;
    if (a->checkpoint_due_us && (!due || a->checkpoint_due_us < due))
        due = a->checkpoint_due_us;
    struct timespec t = at_us(due);
    if (due && !a->pauses)
        pthread_cond_timedwait(&a->wake, &a->lock, &t);
    else
        pthread_cond_wait(&a->wake, &a->lock);
out:
    atomic_store(&a->state, BUSY);
}

static void run_unlocked(struct apply *a, int round)
{
    enum err e = ERR_OK;
    a->running = 1;
    pthread_mutex_unlock(&a->lock);
    if (!has_room(a))
        e = ERR_MISCONF;
    else if (round)
        e = do_round(a);
    else
        do_checkpoint(a);
    if (e == ERR_OOM || e == ERR_MISCONF)
        moment(e == ERR_OOM ? RETRY_MS : STALL_MS);
    pthread_mutex_lock(&a->lock);
    a->running = 0;
    if (round)
        a->round_due_us = 0;
    pthread_cond_broadcast(&a->changed);
}

static void *thread_main(void *arg)
{
    struct apply *a = arg;
    pthread_setname_np(pthread_self(), "coffer-apply");
    pthread_mutex_lock(&a->lock);
    while (!a->stop) {
        uint64_t now = clock_mono_us();
        if (!a->pauses && round_is_due(a, now))
            run_unlocked(a, 1);
        else if (!a->pauses && checkpoint_is_due(a, now))
            run_unlocked(a, 0);
        else
            sleep_until_kicked(a);
    }
    pthread_mutex_unlock(&a->lock);
    if (!has_room(a))
        return NULL;
    while (do_round(a) == ERR_OOM)
        moment(RETRY_MS);
    do_checkpoint(a);
    return NULL;
}

/* ---- from other threads ---- */

static void wake_up(struct apply *a)
{
    pthread_mutex_lock(&a->lock);
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->lock);
}

void apply_kick(struct apply *a)
{
    int state = atomic_load(&a->state);
    if (state == BUSY || (state == TIMER && !wanted_now(a)))
        return;
    if (atomic_compare_exchange_strong(&a->state, &state, BUSY))
        wake_up(a);
}

uint64_t apply_lsn(struct apply *a)
{
    return atomic_load(&a->applied);
}

void apply_demand(struct apply *a, uint64_t lsn)
{
    if (apply_lsn(a) >= lsn)
        return;
    uint64_t old = atomic_load(&a->demand);
    while (old < lsn && !atomic_compare_exchange_weak(&a->demand, &old, lsn))
        ;
    wake_up(a);
}

enum err apply_wait_lsn(struct apply *a, uint64_t lsn)
{
    apply_demand(a, lsn);
    pthread_mutex_lock(&a->lock);
    while (apply_lsn(a) < lsn && !atomic_load(&a->stalled))
        pthread_cond_wait(&a->changed, &a->lock);
    pthread_mutex_unlock(&a->lock);
    return apply_lsn(a) < lsn ? ERR_MISCONF : ERR_OK;
}

int apply_stalled(struct apply *a)
{
    return atomic_load_explicit(&a->stalled, memory_order_relaxed);
}

void apply_want_checkpoint(struct apply *a)
{
    pthread_mutex_lock(&a->lock);
    a->checkpoint_due_us = clock_mono_us();
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->lock);
}

uint64_t apply_pause(struct apply *a)
{
    pthread_mutex_lock(&a->lock);
    a->pauses++;
    while (a->running)
        pthread_cond_wait(&a->changed, &a->lock);
    pthread_mutex_unlock(&a->lock);
    return apply_lsn(a);
}

void apply_resume(struct apply *a)
{
    pthread_mutex_lock(&a->lock);
    assert(a->pauses);
    a->pauses--;
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->lock);
}

void apply_set_store(struct apply *a, unsigned store, struct store *s)
{
    pthread_mutex_lock(&a->lock);
    assert(a->pauses && !a->running && store < a->cfg.store_count);
    a->stores[store] = s;
    a->checkpoints[store] = store_checkpointed(s);
    pthread_mutex_unlock(&a->lock);
}

void apply_stats(struct apply *a, struct apply_stats *out)
{
    struct hot_stats h;
    hot_stats(a->cfg.hot, &h);
    pthread_mutex_lock(&a->lock);
    *out = a->stats;
    out->coalesced = h.coalesced;
    out->applied_lsn = apply_lsn(a);
    out->checkpoint_lsn = UINT64_MAX;
    for (unsigned i = 0; i < a->cfg.store_count; i++)
        if (a->checkpoints[i] < out->checkpoint_lsn)
            out->checkpoint_lsn = a->checkpoints[i];
    pthread_mutex_unlock(&a->lock);
}

/* ---- start, stop ---- */

static void apply_free(struct apply *a)
{
    store_batch_free(a->batch);
    mem_free(a->stores);
    mem_free(a->checkpoints);
    pthread_cond_destroy(&a->wake);
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    mem_free(a);
}

static void init_sync(struct apply *a)
{
    pthread_mutex_init(&a->lock, NULL);
    clock_cond_init(&a->wake);
    clock_cond_init(&a->changed);
}

enum err apply_start(struct apply **out, const struct apply_config *cfg)
{
    *out = NULL;
    assert(cfg->store_count);
    struct apply *a = mem_zalloc(sizeof *a);
    if (!a)
        return ERR_OOM;
    a->cfg = *cfg;
    init_sync(a);
    a->stores = mem_zalloc(cfg->store_count * sizeof *a->stores);
    a->checkpoints = mem_zalloc(cfg->store_count * sizeof *a->checkpoints);
    enum err e = a->stores && a->checkpoints ? store_batch_new(&a->batch) : ERR_OOM;
    if (e)
        goto out;
    for (unsigned i = 0; i < cfg->store_count; i++) {
        a->stores[i] = cfg->stores[i];
        if (a->stores[i])
            a->checkpoints[i] = store_checkpointed(a->stores[i]);
    }
    if (cfg->checkpoint_ms)
        a->checkpoint_due_us = clock_mono_us() + cfg->checkpoint_ms * 1000ull;
    if (pthread_create(&a->thread, NULL, thread_main, a))
        e = ERR_OOM;
out:
    if (e)
        apply_free(a);
    else
        *out = a;
    return e;
}

void apply_stop(struct apply *a)
{
    if (!a)
        return;
    hot_never_wait(a->cfg.hot);
    pthread_mutex_lock(&a->lock);
    assert(!a->pauses);
    a->stop = 1;
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    apply_free(a);
}

/* ---- records ---- */

static enum err check_ops(struct bytes ops, unsigned store_count)
{
    struct op op;
    enum err e;
    while ((e = ops_next(&ops, &op)) == ERR_OK)
        if (op.store >= store_count || op.key.n == 0 || op.key.p[0] == 0)
            return ERR_CORRUPT;
    return e == ERR_END ? ERR_OK : e;
}

static enum err apply_op(struct hot *h, const struct op *op, uint64_t lsn)
{
    struct blob *value = op->kind == OPS_DELETE ? blob_tombstone(lsn) : blob_new(op->value, op->value.n, lsn);
    if (!value)
        return ERR_OOM;
    enum err e = hot_replay(h, op->store, op->key, value);
    if (e)
        blob_unref(value);
    return e;
}

enum err apply_record(struct hot *h, const struct record *r, const uint64_t *skip, unsigned store_count)
{
    struct bytes ops = r->blob;
    struct op op;
    enum err e = check_ops(ops, store_count);

    while (!e && (e = ops_next(&ops, &op)) == ERR_OK)
        if (!skip || r->lsn > skip[op.store])
            e = apply_op(h, &op, r->lsn);
    return e == ERR_END ? ERR_OK : e;
}

enum err apply_record_batch(struct store_batch *b, const struct record *r, unsigned store, unsigned store_count)
{
    struct bytes rest = r->blob;
    struct op op;
    enum err e = check_ops(rest, store_count);

    while (!e && (e = ops_next(&rest, &op)) == ERR_OK) {
        if (op.store != store)
            continue;
        if (op.kind == OPS_DELETE)
            store_batch_delete(b, op.key);
        else
            store_batch_put(b, op.key, op.value, r->lsn);
    }
    return e == ERR_END ? ERR_OK : e;
}
