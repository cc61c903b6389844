/* sequencer.c - the two stations that every change goes through.
 *
 *     sequencer    takes what was submitted, in order; evaluates each write against committed plus staged state
 *                  (txn.h, steps_*.c), gives it the next LSN, appends its record to the group that gathers
 *     log writer   one pwritev and one fdatasync for the group (wal_append); then publishes its values, moves the
 *                  commit LSN, tells the applier, and calls done() of every write in order
 *
 * There are two groups: one gathers while the other is being written. So the time of an fdatasync is used, and nobody
 * tunes a delay: a lone write is written at once, eight hundred waiting ones share one sync.
 *
 *     gathering --offer, the log writer is free-----------------> writing --> empty, gathers when the other is written
 *         |  ^--take_back, more came--.                              ^
 *         '--offer, it is not-------> ready --the log writer is done-'
 *
 * There is one sequencer at a time, and it need not be a thread of its own: whoever submits writes while nobody is
 * evaluating any does it himself, and only what cannot be done at once (another is at it, the applier is behind, a full
 * group has to wait for the disk) is left to the thread. So on a small machine a write changes threads twice instead of
 * four times, and on a large one the thread takes over as soon as there is enough to do.
 *
 * Refusals wait for the group too: a write may have been refused because of one before it that is not durable yet, and
 * its client must not learn of that one early.
 *
 * Failure: when the log cannot be written, the group's outcome is open - its bytes may or may not be on disk - so its
 * writes get UNCERTAIN with their LSN, every later one MISCONF, for good: after a failed fsync the page cache may lie.
 * Values staged by then stay staged and are never seen.
 *
 * Memory is bounded by waiting: the sequencer stops taking writes while more than dirty_bytes of committed values have
 * not been applied.
 */
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/engine_impl.h"

#define GROUP_BYTES_MAX (4u << 20)    /* a group is handed over at this size even if more is waiting */
#define GROUP_KEEP_BYTES (512u << 10) /* of its buffer when it is empty */
#define OPS_LIMIT (RECORD_MAX_BYTES + 65536)
#define OOM_RETRY_MS 10
#define PUBLISH_AHEAD 6

struct sequencer {
    struct engine *e;
    struct mpsc queue;
    pthread_t sequencer_thread, writer_thread;

    pthread_mutex_t lock;
    pthread_cond_t work;   /* for the sequencer: queue, writer free, room, stop */
    pthread_cond_t handed; /* for the log writer */
    struct group *writing; /* NULL: the log writer is free */
    struct group
        *ready; /* gathered while it was not: it takes this one by itself, unless the sequencer is back first */
    int busy;   /* a thread is the sequencer: the one of that name, or one that submits */
    int stop, writer_stop, waits; /* waits: the sequencer's thread does, for the log writer */

    /* the sequencer's own */
    struct group groups[2], *g;
    struct buf ops;
    uint64_t next_lsn;
    uint32_t term;
    _Atomic int failed;
    _Atomic uint64_t last_group_records, submitted, completed;
};

static void group_reset(struct group *g, const uint8_t chain[RECORD_CHAIN_BYTES])
{
    buf_clear(&g->records);
    buf_shrink(&g->records, GROUP_KEEP_BYTES);
    g->n = 0;
    g->first_lsn = g->last_lsn = 0;
    memmove(g->chain, chain, sizeof g->chain);
    g->staged_n = 0;
    g->first = NULL;
    g->last = &g->first;
    g->writes = 0;
}

static enum err group_init(struct group *g)
{
    memset(g, 0, sizeof *g);
    buf_init(&g->records, (size_t)GROUP_BYTES_MAX + RECORD_MAX_BYTES + 4096);
    group_reset(g, (const uint8_t[RECORD_CHAIN_BYTES]){0});
    return ERR_OK;
}

static void group_fini(struct group *g)
{
    buf_fini(&g->records);
    mem_free(g->staged);
}

/* ---- sequencer thread ---- */

static enum err run_steps(struct txn *t, struct write *w)
{
    enum err err = ERR_OK;
    for (unsigned i = 0; i < w->steps && err == ERR_OK; i++) {
        struct step *s = &w->step[i];
        s->err = err = s->kind < STEP_KINDS && (t->vault || s->kind == STEP_VAULT_CREATE) ? step_table[s->kind](t, s)
                                                                                          : ERR_INTERNAL;
    }
    return err;
}

static void evaluate(struct sequencer *q, struct write *w, uint64_t now_ms)
{
    struct txn t;
    w->lsn = 0;
    w->term = 0;
    enum err err =
        atomic_load(&q->failed) ? ERR_MISCONF : wal_room(q->e->wal, buf_size(&q->g->records) + RECORD_MAX_BYTES);

    if (err == ERR_OK) {
        txn_begin(&t, q->e, q->g, w, &q->ops, q->next_lsn, q->term, now_ms);
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

/* The gathered group is the log writer's, the other one is the next. Called with the lock held. */
static void start_writing(struct sequencer *q)
{
    struct group *full = q->g, *next = full == &q->groups[0] ? &q->groups[1] : &q->groups[0];
    group_reset(next, full->chain);
    next->before = full;
    q->g = next;
    q->ready = NULL;
    q->writing = full;
}

/* Gives the gathered group to the log writer; waits until that is free. Called with the lock held. */
static void hand_over(struct sequencer *q)
{
    q->ready = NULL;
    for (q->waits = 1; q->writing;)
        pthread_cond_wait(&q->work, &q->lock);
    q->waits = 0;
    start_writing(q);
    pthread_cond_signal(&q->handed);
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

/* Lock held. The group goes to the log writer now, or when it is done with the one before. */
static void offer(struct sequencer *q)
{
    if (q->g->writes == 0)
        return;
    if (q->writing)
        q->ready = q->g;
    else
        hand_over(q);
}

/* Lock held. Whoever calls it is the sequencer until resign(). What was offered and not taken goes on gathering. */
static void become_sequencer(struct sequencer *q)
{
    q->busy = 1;
    q->ready = NULL;
}

static void resign(struct sequencer *q)
{
    offer(q);
    q->busy = 0;
}

/* Makes room for one more record, of whatever size: a full group is handed over. 0: that would have to be waited for,
 * and may_wait is 0. */
static int make_room(struct sequencer *q, int may_wait)
{
    if (buf_size(&q->g->records) < GROUP_BYTES_MAX)
        return 1;
    pthread_mutex_lock(&q->lock);
    int room = may_wait || !q->writing;
    if (room)
        hand_over(q);
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
        while (q->busy || (!atomic_load_explicit(&q->queue.head, memory_order_relaxed) && !q->stop))
            pthread_cond_wait(&q->work, &q->lock);
        struct mpsc_node *n = mpsc_take(&q->queue);
        if (!n)
            break; /* stopping, and all is done */
        become_sequencer(q);
        pthread_mutex_unlock(&q->lock);
        gather(q, n, 1);
        pthread_mutex_lock(&q->lock);
        resign(q);
    }
    if (q->g->writes)
        hand_over(q);
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

/* The sequencer's work on the thread that submits, when nobody else does it and nothing is in the way: no other thread
 * need be woken and no cache filled anew. 0: not now. Never waits. */
static int sequence_here(struct sequencer *q, const struct write_chain *c)
{
    struct mpsc mine = {c->newest};

    pthread_mutex_lock(&q->lock);
    int idle = !q->busy && !q->stop && !atomic_load_explicit(&q->queue.head, memory_order_relaxed) &&
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

/* ---- log writer thread ---- */

/* The log holds it, and its client will hear OK: so memory that has run out is waited out, as in the applier. */
static void take_up(struct engine *e, struct bytes key, const struct blob *value)
{
    const struct timespec moment = {.tv_nsec = OOM_RETRY_MS * 1000000L};
    enum err err;

    while ((err = engine_observe(e, key, value)) == ERR_OOM)
        nanosleep(&moment, NULL);
    if (err)
        engine_logf(e, LOG_WARNING, "a committed vault record could not be taken up; restart the server");
}

static void publish(struct sequencer *q, struct group *g)
{
    struct engine *e = q->e;
    const uint8_t *records = buf_data(&g->records);
    for (size_t i = 0; i < g->staged_n; i++) {
        struct staged *st = &g->staged[i];
        if (i + PUBLISH_AHEAD < g->staged_n) /* entries lie in the sequencer's processor's cache */
            hot_publish_soon(st[PUBLISH_AHEAD].entry);
        struct bytes key = bytes_of(records + st->key_off, st->key_len);
        if (engine_observes(key))
            take_up(e, key, st->value);
        hot_publish(e->hot, st->entry, st->value);
    }
    hot_set_published(e->hot, g->last_lsn);
    atomic_store(&e->commit_lsn, g->last_lsn);
    apply_kick(e->apply);
}

static void fail_writes(struct group *g)
{
    for (struct mpsc_node *n = g->first; n; n = n->next) {
        struct write *w = mpsc_entry(n, struct write, node);
        w->err = w->lsn ? ERR_UNCERTAIN : ERR_MISCONF;
    }
}

static void log_failed(struct sequencer *q, struct group *g)
{
    atomic_store(&q->failed, 1);
    engine_logf(q->e, LOG_WARNING,
                "the log cannot be written (from LSN %llu on): no write is acknowledged any more; free disk space or "
                "replace the disk, then restart",
                (unsigned long long)g->first_lsn);
    fail_writes(g);
}

/* Once the log has failed, groups without a record fail too: what was refused in them may have been refused because of
 * values that stay staged for ever. */
static void write_group(struct sequencer *q, struct group *g)
{
    if (atomic_load(&q->failed)) {
        fail_writes(g);
    } else if (g->n) {
        if (wal_append(q->e->wal, buf_bytes(&g->records), g->n, g->first_lsn, g->chain))
            log_failed(q, g);
        else
            publish(q, g);
        atomic_store_explicit(&q->last_group_records, g->n, memory_order_relaxed);
    }
    for (struct mpsc_node *n = g->first; n;) {
        struct write *w = mpsc_entry(n, struct write, node);
        n = n->next;
        w->done(w);
    }
    atomic_fetch_add_explicit(&q->completed, g->writes, memory_order_relaxed);
}

static void *writer_main(void *arg)
{
    struct sequencer *q = arg;
    pthread_setname_np(pthread_self(), "coffer-log");
    pthread_mutex_lock(&q->lock);
    for (;;) {
        while (!q->writing && !q->writer_stop)
            pthread_cond_wait(&q->handed, &q->lock);
        struct group *g = q->writing;
        if (!g)
            break;
        pthread_mutex_unlock(&q->lock);
        write_group(q, g);
        pthread_mutex_lock(&q->lock);
        q->writing = NULL;
        if (q->ready)
            start_writing(q);
        else if (q->waits)
            pthread_cond_signal(&q->work);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

/* ---- the outside ---- */

void sequencer_submit(struct sequencer *q, const struct write_chain *c)
{
    atomic_fetch_add_explicit(&q->submitted, c->n, memory_order_relaxed);
    if (!sequence_here(q, c) && mpsc_push_chain(&q->queue, c->newest, c->oldest))
        sequencer_applied(q);
}

void sequencer_applied(struct sequencer *q)
{
    pthread_mutex_lock(&q->lock);
    pthread_cond_signal(&q->work);
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
}

void sequencer_free(struct sequencer *q)
{
    if (!q)
        return;
    group_fini(&q->groups[0]);
    group_fini(&q->groups[1]);
    buf_fini(&q->ops);
    pthread_cond_destroy(&q->work);
    pthread_cond_destroy(&q->handed);
    pthread_mutex_destroy(&q->lock);
    mem_free(q);
}

enum err sequencer_start(struct sequencer **out, struct engine *e, uint64_t last_lsn,
                         const uint8_t chain[RECORD_CHAIN_BYTES], uint32_t term)
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
    buf_init(&q->ops, OPS_LIMIT);
    enum err err = group_init(&q->groups[0]);
    if (err == ERR_OK)
        err = group_init(&q->groups[1]);
    q->g = &q->groups[0];
    q->g->before = &q->groups[1];
    memcpy(q->g->chain, chain, RECORD_CHAIN_BYTES);
    q->next_lsn = last_lsn + 1;
    q->term = term;
    if (err == ERR_OK && pthread_create(&q->writer_thread, NULL, writer_main, q) != 0)
        err = ERR_OOM;
    if (err) {
        sequencer_free(q);
        return err;
    }
    if (pthread_create(&q->sequencer_thread, NULL, sequencer_main, q) != 0) {
        stop_writer(q);
        sequencer_free(q);
        return ERR_OOM;
    }
    *out = q;
    return ERR_OK;
}
