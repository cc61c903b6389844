/* sequencer.c - who evaluates writes.
 *
 * Each write is evaluated against committed plus staged state (txn.h, steps_*.c), gets the next LSN, and its record is
 * appended to the group that gathers (groups.c).
 *
 * There is one sequencer at a time, and it need not be a thread of its own: whoever submits writes while nobody is
 * evaluating any does it himself, and only what cannot be done at once (another is at it, the applier is behind, a full
 * group has to wait for the disk) is left to the thread. So on a small machine a write changes threads twice instead of
 * four times, and on a large one the thread takes over as soon as there is enough to do.
 *
 * While the gate is closed the thread alone refuses what is submitted, at once; the group that gathers is the gate's
 * owner's then (gate.c).
 *
 * Memory is bounded by waiting: the sequencer stops taking writes while more than dirty_bytes of committed values have
 * not been applied.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "engine/sequencer_impl.h"

#define OPS_LIMIT (RECORD_MAX_BYTES + 65536)

static int needs_no_vault(unsigned kind)
{
    return kind == STEP_VAULT_CREATE || kind == STEP_DATABASES_SWAP || kind == STEP_USER_PUT ||
           kind == STEP_USER_DELETE;
}

static enum err run_step(struct txn *t, struct write *w, unsigned i)
{
    struct step *s = &w->step[i];
    enum err err = s->vault && s->vault != t->vault ? txn_enter(t, s->vault) : ERR_OK;
    if (err)
        return err;
    if (i && s->flags & (w->step[i - 1].nil ? SET_AFTER : SET_ELSE)) {
        s->nil = 1;
        return ERR_OK;
    }
    return s->kind < STEP_KINDS && (t->vault || needs_no_vault(s->kind)) ? step_table[s->kind](t, s) : ERR_INTERNAL;
}

/* What no step can help, and the others would run into as well. */
static int concerns_the_write(enum err err)
{
    return err == ERR_OOM || err == ERR_TOOBIG || err == ERR_IO || err == ERR_MISCONF || err == ERR_INTERNAL;
}

/* Each unit stands or falls alone. */
static enum err run_units(struct txn *t, struct write *w)
{
    struct txn_mark mark;
    for (unsigned i = 0, from = 0; i < w->steps; i++) {
        unsigned unit = w->step[i].unit;
        if (i == 0 || unit != w->step[i - 1].unit) {
            txn_mark(t, &mark);
            from = i;
        }
        enum err err = w->step[i].err = run_step(t, w, i);
        if (!err)
            continue;
        if (!unit || concerns_the_write(err))
            return err;
        txn_rollback(t, &mark);
        for (unsigned k = from; k < w->steps && w->step[k].unit == unit; k++)
            w->step[i = k].err = err;
    }
    return ERR_OK;
}

static enum err run_steps(struct txn *t, struct write *w)
{
    enum err err = ERR_OK;
    if (w->units)
        return run_units(t, w);
    for (unsigned i = 0; i < w->steps && err == ERR_OK; i++)
        w->step[i].err = err = run_step(t, w, i);
    return err;
}

static void evaluate(struct sequencer *q, struct write *w, uint64_t now_ms)
{
    struct txn t;
    w->lsn = 0;
    w->term = 0;
    enum err err = (enum err)atomic_load(&q->closed);

    if (err == ERR_OK)
        err = atomic_load(&q->failed) ? ERR_MISCONF : wal_room(q->e->wal, buf_size(&q->g->records) + RECORD_MAX_BYTES);

    if (err == ERR_OK) {
        txn_begin(&t, q->e, q->g, w, &q->ops, &q->undo, q->next_lsn, q->term, now_ms);
        if ((err = run_steps(&t, w)) != ERR_OK) {
            txn_abort(&t);
        } else if (txn_dirty(&t) && (err = txn_commit(&t)) == ERR_OK) {
            w->lsn = q->next_lsn++;
            w->term = q->term;
        }
    }
    w->err = err;
    w->node.next = NULL;
    *q->g->last = &w->node;
    q->g->last = &w->node.next;
    q->g->writes++;
}

/* Looks ahead at the writes from n on: their heads will be looked up next. Returns how many it looked at. */
static unsigned look_ahead(struct sequencer *q, const struct mpsc_node *n)
{
    struct engine_ahead at[ENGINE_WARM_MAX];
    unsigned seen = 0, count = 0;

    for (; n && seen < ENGINE_WARM_MAX; n = n->next, seen++) {
        const struct write *w = mpsc_entry(n, const struct write, node);
        if (w->vault)
            at[count++] = (struct engine_ahead){w->vault, w->step[0].path};
    }
    if (count > 1)
        engine_warm(q->e, at, count);
    return seen;
}

static void wait_for_room(struct sequencer *q)
{
    size_t limit = q->e->cfg.dirty_bytes;
    if (hot_dirty_bytes(q->e->hot) <= limit)
        return;
    /* What is dirty has been published; what this thread holds back cannot help. */
    pthread_mutex_lock(&q->lock);
    while (hot_dirty_bytes(q->e->hot) > limit && !atomic_load(&q->failed) && !apply_stalled(q->e->apply)) {
        apply_demand(q->e->apply, atomic_load(&q->e->commit_lsn));
        pthread_cond_wait(&q->work, &q->lock);
    }
    pthread_mutex_unlock(&q->lock);
}

/* Lock held. Whoever calls it is the sequencer until resign(). What was offered and not taken goes on gathering. */
static void become_sequencer(struct sequencer *q)
{
    q->busy = 1;
    q->ready = NULL;
}

static void resign(struct sequencer *q)
{
    groups_offer(q);
    q->busy = 0;
    pthread_cond_broadcast(&q->idle);
}

/* Makes room for one more record, of whatever size: a full group is handed over. 0: that would have to be waited for,
 * and may_wait is 0. */
static int make_room(struct sequencer *q, int may_wait)
{
    if (buf_size(&q->g->records) < GROUP_BYTES_MAX)
        return 1;
    pthread_mutex_lock(&q->lock);
    int room = may_wait || (!q->writing && q->spare && !q->gate.changed);
    if (room)
        groups_hand_over(q);
    pthread_mutex_unlock(&q->lock);
    return room;
}

/* Evaluates the writes from n on. Returns those that are left because a full group would have to be waited for, and
 * may_wait is 0. */
static struct mpsc_node *gather(struct sequencer *q, struct mpsc_node *n, int may_wait)
{
    uint64_t now_ms = clock_wall_ms();
    unsigned seen = 0;
    while (n && make_room(q, may_wait)) {
        struct write *w = mpsc_entry(n, struct write, node);
        if (seen-- == 0)
            seen = look_ahead(q, n) - 1;
        n = n->next;
        if (may_wait)
            wait_for_room(q);
        evaluate(q, w, now_ms);
    }
    return n;
}

static void *sequencer_main(void *arg)
{
    struct sequencer *q = arg;
    pthread_setname_np(pthread_self(), "coffer-seq");

    pthread_mutex_lock(&q->lock);
    for (;;) {
        while (q->busy || ((q->hold || !atomic_load_explicit(&q->queue.head, memory_order_relaxed)) && !q->stop))
            pthread_cond_wait(&q->work, &q->lock);
        struct mpsc_node *n = mpsc_take(&q->queue);
        if (!n)
            break; /* stopping, and all is done */
        enum err shut = (enum err)atomic_load(&q->closed);
        if (shut) {
            pthread_mutex_unlock(&q->lock);
            groups_done(q, n, shut);
            pthread_mutex_lock(&q->lock);
            continue;
        }
        become_sequencer(q);
        pthread_mutex_unlock(&q->lock);
        gather(q, n, 1);
        pthread_mutex_lock(&q->lock);
        resign(q);
    }
    if (q->g->writes)
        groups_hand_over(q);
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

/* The sequencer's work on the thread that submits, when nobody else does it and nothing is in the way: no other thread
 * need be woken and no cache filled anew. 0: not now. Never waits. */
static int sequence_here(struct sequencer *q, const struct write_chain *c)
{
    struct mpsc mine = {c->newest};

    pthread_mutex_lock(&q->lock);
    int idle = !q->busy && !q->stop && !q->hold && !atomic_load(&q->closed) &&
               !atomic_load_explicit(&q->queue.head, memory_order_relaxed) &&
               buf_size(&q->g->records) < GROUP_BYTES_MAX / 2 && hot_dirty_bytes(q->e->hot) <= q->e->cfg.dirty_bytes;
    if (idle)
        become_sequencer(q);
    pthread_mutex_unlock(&q->lock);
    if (!idle)
        return 0;

    c->oldest->next = NULL;
    for (struct mpsc_node *rest = gather(q, mpsc_take(&mine), 0), *next; rest; rest = next) {
        next = rest->next;
        mpsc_push(&q->queue, rest);
    }
    pthread_mutex_lock(&q->lock);
    resign(q);
    if (q->stop || atomic_load_explicit(&q->queue.head, memory_order_relaxed))
        pthread_cond_signal(&q->work);
    pthread_mutex_unlock(&q->lock);
    return 1;
}

/* ---- the outside ---- */

void sequencer_submit(struct sequencer *q, const struct write_chain *c)
{
    atomic_fetch_add_explicit(&q->submitted, c->n, memory_order_relaxed);
    if (sequence_here(q, c) || !mpsc_push_chain(&q->queue, c->newest, c->oldest))
        return;
    pthread_mutex_lock(&q->lock);
    pthread_cond_signal(&q->work);
    pthread_mutex_unlock(&q->lock);
}

void sequencer_applied(struct sequencer *q)
{
    pthread_mutex_lock(&q->lock);
    pthread_cond_signal(&q->work);
    if (q->gate.changed)
        q->gate.changed(q->gate.arg);
    pthread_mutex_unlock(&q->lock);
}

void sequencer_info(struct sequencer *q, struct engine_info *out)
{
    out->pending_writes = atomic_load(&q->submitted) - atomic_load(&q->completed);
    out->group_records = atomic_load(&q->last_group_records);
    out->failed = atomic_load(&q->failed);
    out->term = q->term;
}

static void stop_writer(struct sequencer *q)
{
    pthread_mutex_lock(&q->lock);
    q->writer_stop = 1;
    pthread_cond_signal(&q->handed);
    pthread_mutex_unlock(&q->lock);
    pthread_join(q->writer_thread, NULL);
}

void sequencer_stop(struct sequencer *q)
{
    if (!q)
        return;
    pthread_mutex_lock(&q->lock);
    q->stop = 1;
    pthread_cond_signal(&q->work);
    pthread_mutex_unlock(&q->lock);
    pthread_join(q->sequencer_thread, NULL);
    stop_writer(q);
    groups_done(q, q->limbo, ERR_UNCERTAIN);
    groups_done(q, q->settled, ERR_OK);
    q->limbo = q->settled = NULL;
}

void sequencer_free(struct sequencer *q)
{
    if (!q)
        return;
    groups_fini(q);
    buf_fini(&q->ops);
    buf_fini(&q->undo);
    pthread_cond_destroy(&q->work);
    pthread_cond_destroy(&q->handed);
    pthread_cond_destroy(&q->idle);
    pthread_mutex_destroy(&q->lock);
    mem_free(q);
}

enum err sequencer_start(struct sequencer **out, struct engine *e, uint64_t last_lsn,
                         const uint8_t chain[RECORD_CHAIN_BYTES], uint32_t term, const struct sequencer_gate *gate)
{
    struct sequencer *q = mem_zalloc(sizeof *q);
    *out = NULL;
    if (!q)
        return ERR_OOM;
    q->e = e;
    mpsc_init(&q->queue);
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->work, NULL);
    pthread_cond_init(&q->handed, NULL);
    pthread_cond_init(&q->idle, NULL);
    buf_init(&q->ops, OPS_LIMIT);
    buf_init(&q->undo, OPS_LIMIT);
    groups_init(q, chain);
    q->next_lsn = last_lsn + 1;
    q->tail_lsn = last_lsn;
    atomic_store(&q->durable_lsn, last_lsn);
    q->term = term;
    if (gate) {
        q->gate = *gate;
        atomic_store(&q->closed, ERR_READONLY);
    }
    if (pthread_create(&q->writer_thread, NULL, groups_writer_main, q) != 0) {
        sequencer_free(q);
        return ERR_OOM;
    }
    if (pthread_create(&q->sequencer_thread, NULL, sequencer_main, q) != 0) {
        stop_writer(q);
        sequencer_free(q);
        return ERR_OOM;
    }
    *out = q;
    return ERR_OK;
}
