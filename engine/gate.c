/* gate.c - see sequencer.h: what is done for the gate's owner. Nothing here is on the way of a node that is alone.
 *
 * While the gate is closed the group that gathers, and what follows of it, is the owner's: no thread becomes the
 * sequencer. Closing waits until the one that is has resigned, or waits for its group to be taken and touches nothing.
 */
#include <assert.h>

#include "base/log.h"
#include "engine/sequencer_impl.h"

/* Held back, nobody becomes the sequencer; what was gathered and written until then is told as ever. */
void sequencer_set_gate(struct sequencer *q, const struct sequencer_gate *gate)
{
    assert(!q->gate.changed);
    pthread_mutex_lock(&q->lock);
    q->hold = 1;
    while (q->busy || q->writing || q->g->writes || q->written)
        pthread_cond_wait(&q->idle, &q->lock);
    q->gate = *gate;
    atomic_store(&q->closed, ERR_READONLY);
    pthread_mutex_unlock(&q->lock);
}

int sequencer_hold(struct sequencer *q)
{
    pthread_mutex_lock(&q->lock);
    q->hold = 1;
    int quiet = !q->busy && !q->writing && !q->g->writes && !q->g->n && !q->written;
    pthread_mutex_unlock(&q->lock);
    return quiet;
}

void sequencer_release(struct sequencer *q)
{
    pthread_mutex_lock(&q->lock);
    q->hold = 0;
    pthread_cond_signal(&q->work);
    pthread_mutex_unlock(&q->lock);
}

enum err sequencer_admit(struct sequencer *q, enum err (*may)(void *arg, uint64_t first_lsn, uint32_t records),
                         void *arg)
{
    enum err err = ERR_AGAIN;

    pthread_mutex_lock(&q->lock);
    struct group *g = q->ready && !q->writing && q->spare ? q->ready : NULL;
    int waits = q->waits;
    if (g && !waits) /* the sequencer is waiting for this, or there is none: now it is this thread */
        q->busy = 1;
    if (g) {
        pthread_mutex_unlock(&q->lock);
        err = may(arg, g->first_lsn, g->n);
        pthread_mutex_lock(&q->lock);
        if (!waits)
            q->busy = 0;
    }
    if (err == ERR_OK)
        groups_start(q);
    if (g && !waits && atomic_load_explicit(&q->queue.head, memory_order_relaxed))
        pthread_cond_signal(&q->work);
    pthread_mutex_unlock(&q->lock);
    if (err != ERR_OK && err != ERR_AGAIN)
        sequencer_close(q, err);
    return err;
}

uint64_t sequencer_durable(struct sequencer *q)
{
    return atomic_load(&q->failed) ? 0 : atomic_load(&q->durable_lsn);
}

int sequencer_failed(struct sequencer *q)
{
    return atomic_load(&q->failed);
}

static int has(const struct group *g, uint64_t lsn)
{
    return g && g->n && g->first_lsn <= lsn && lsn <= g->last_lsn;
}

enum err sequencer_recent(struct sequencer *q, uint64_t first_lsn, uint64_t last_lsn, size_t limit, struct buf *out,
                          uint64_t *end)
{
    pthread_mutex_lock(&q->lock);
    const struct group *g = q->written;
    while (g && !has(g, first_lsn))
        g = g->next;
    if (!g && has(q->writing, first_lsn))
        g = q->writing;
    if (!g && q->g->foreign && has(q->g, first_lsn))
        g = q->g;
    enum err err = g ? groups_copy(g, first_lsn, last_lsn, limit, out, end) : ERR_NOTFOUND;
    pthread_mutex_unlock(&q->lock);
    return err;
}

static void say_tail(struct sequencer *q, enum err err)
{
    if (err && err != q->tail_err)
        engine_logf(q->e, LOG_WARNING, "the log cannot be taken up at LSN %llu (%s): trying again",
                    (unsigned long long)engine_commit_lsn(q->e) + 1, err_name(err));
    q->tail_err = err;
}

/* What an earlier run left in the log, or was spilt, is in no group. It may be all of a log: a step of it is taken, and
 * the owner has other duties before the next. ERR_AGAIN: there is more, and gate.changed is called. */
static enum err show_tail(struct sequencer *q, uint64_t lsn)
{
    uint64_t to = lsn < q->tail_lsn ? lsn : q->tail_lsn;
    if (to <= engine_commit_lsn(q->e))
        return ERR_OK;
    if (hot_dirty_bytes(q->e->hot) > q->e->cfg.dirty_bytes) { /* the applier calls gate.changed */
        apply_demand(q->e->apply, engine_commit_lsn(q->e));
        say_tail(q, apply_stalled(q->e->apply) ? ERR_MISCONF : ERR_OK);
        return ERR_AGAIN;
    }
    enum err err = groups_show_tail(q, to);
    say_tail(q, err);
    if (!err && engine_commit_lsn(q->e) < to) {
        err = ERR_AGAIN;
        q->gate.changed(q->gate.arg);
    }
    return err;
}

static void tell_settled(struct sequencer *q)
{
    struct mpsc_node *told = NULL;
    for (struct mpsc_node **at = &q->settled, *n; (n = *at);) {
        if (mpsc_entry(n, struct write, node)->lsn > engine_commit_lsn(q->e)) {
            at = &n->next;
            continue;
        }
        *at = n->next;
        n->next = told;
        told = n;
    }
    groups_done(q, told, ERR_OK);
}

void sequencer_commit(struct sequencer *q, uint64_t lsn)
{
    q->behind = show_tail(q, lsn) != ERR_OK;
    if (!q->behind)
        groups_show(q, lsn);
    tell_settled(q);
}

int sequencer_is_behind(const struct sequencer *q)
{
    return q->behind;
}

void sequencer_close(struct sequencer *q, enum err err)
{
    struct mpsc_node *refused = NULL, **end = &refused;

    pthread_mutex_lock(&q->lock);
    int was = atomic_exchange(&q->closed, (int)err);
    while ((q->busy && !q->waits) || q->writing)
        pthread_cond_wait(&q->idle, &q->lock);
    if (!was) {
        groups_drop_gathered(q, &end);
        groups_disown(q, &end);
    }
    pthread_mutex_unlock(&q->lock);
    groups_done(q, refused, err);
}

enum err sequencer_open(struct sequencer *q, uint32_t term)
{
    assert(atomic_load(&q->closed));
    enum err err = engine_view_all(q->e);
    if (err)
        return err;
    made_forget(q->e->made, engine_commit_lsn(q->e));
    pthread_mutex_lock(&q->lock);
    q->term = term;
    atomic_store(&q->closed, ERR_OK);
    pthread_mutex_unlock(&q->lock);
    sequencer_release(q);
    return ERR_OK;
}

void sequencer_resolve(struct sequencer *q, uint64_t first_lsn, uint64_t last_lsn, enum err err)
{
    struct mpsc_node *told = NULL;

    for (struct mpsc_node **at = &q->limbo, *n; (n = *at);) {
        struct write *w = mpsc_entry(n, struct write, node);
        if (w->lsn < first_lsn || w->lsn > last_lsn) {
            at = &n->next;
            continue;
        }
        *at = n->next;
        w->err = err;
        struct mpsc_node **to = err ? &told : &q->settled;
        n->next = *to;
        *to = n;
    }
    groups_done(q, told, ERR_OK);
    tell_settled(q);
}

/* A group must be spare: so what gathers can always be written. Lock held. */
static int has_room(struct sequencer *q)
{
    return q->spare && buf_size(&q->g->records) < GROUP_BYTES_MAX &&
           (hot_dirty_bytes(q->e->hot) <= q->e->cfg.dirty_bytes || apply_stalled(q->e->apply));
}

int sequencer_has_room(struct sequencer *q)
{
    pthread_mutex_lock(&q->lock);
    int room = has_room(q);
    pthread_mutex_unlock(&q->lock);
    if (!room)
        apply_demand(q->e->apply, atomic_load(&q->e->commit_lsn));
    return room;
}

/* What another thread gathers while the gate is open it has asked for itself. */
enum err sequencer_fits(struct sequencer *q, uint64_t bytes)
{
    pthread_mutex_lock(&q->lock);
    if (atomic_load(&q->closed))
        bytes += buf_size(&q->g->records);
    if (q->writing)
        bytes += buf_size(&q->writing->records);
    pthread_mutex_unlock(&q->lock);
    return wal_room(q->e->wal, bytes);
}

void sequencer_spill(struct sequencer *q)
{
    assert(atomic_load(&q->closed));
    pthread_mutex_lock(&q->lock);
    while (q->written && q->written->foreign) {
        if (q->written->n)
            q->tail_lsn = q->written->last_lsn;
        groups_free_oldest(q);
    }
    pthread_mutex_unlock(&q->lock);
}

enum err sequencer_append(struct sequencer *q, struct bytes records, uint32_t n, uint64_t first_lsn,
                          const uint8_t chain[RECORD_CHAIN_BYTES])
{
    assert(atomic_load(&q->closed) && n);
    pthread_mutex_lock(&q->lock);
    struct group *g = q->g;
    assert(first_lsn == q->next_lsn);
    enum err err = atomic_load(&q->failed) ? ERR_MISCONF
                   : q->spare              ? buf_put(&g->records, records.p, records.n)
                                           : ERR_AGAIN;
    if (err == ERR_OK) {
        g->foreign = 1;
        g->first_lsn = g->n ? g->first_lsn : first_lsn;
        g->last_lsn = first_lsn + n - 1;
        g->n += n;
        memcpy(g->chain, chain, RECORD_CHAIN_BYTES);
        q->next_lsn += n;
        groups_offer(q);
    }
    pthread_mutex_unlock(&q->lock);
    return err;
}

enum err sequencer_cut(struct sequencer *q, uint64_t lsn)
{
    struct wal_info info;

    assert(atomic_load(&q->closed));
    pthread_mutex_lock(&q->lock);
    while (q->writing || q->g->n)
        pthread_cond_wait(&q->idle, &q->lock);
    enum err err = atomic_load(&q->failed) ? ERR_MISCONF : lsn + 1 < q->next_lsn ? wal_cut(q->e->wal, lsn) : ERR_OK;
    if (err == ERR_OK) {
        wal_info(q->e->wal, &info);
        groups_forget_above(q, lsn, info.chain);
        q->next_lsn = lsn + 1;
        q->tail_lsn = lsn < q->tail_lsn ? lsn : q->tail_lsn;
        atomic_store(&q->durable_lsn, lsn);
    }
    pthread_mutex_unlock(&q->lock);
    return err;
}
