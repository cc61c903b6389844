/* groups.c - what becomes of a group: gathered, written by the log writer, made visible when it is committed.
 *
 *     gathering --offered, the log writer is free-----------------> writing --> written --committed--> spare
 *         |  ^--the sequencer is back, more came--.                   ^
 *         '--offered, it is not-------> ready ---the log writer is done
 *
 * One group gathers while another is being written. So the time of an fdatasync is used, and nobody tunes a delay: a
 * lone write is written at once, eight hundred waiting ones share one sync. Alone, a group is committed when it is
 * written, and two groups take turns; in a cell more of them wait for acknowledgements.
 *
 * Refusals wait for the group too: a write may have been refused because of one before it that is not committed yet,
 * and its client must not learn of that one early.
 *
 * Failure: when the log cannot be written, the group's outcome is open - its bytes may or may not be on disk - so its
 * writes get UNCERTAIN with their LSN, every later one MISCONF, for good: after a failed fsync the page cache may lie.
 * Values staged by then stay staged and are never seen.
 */
#include <assert.h>
#include <time.h>

#include "base/log.h"
#include "engine/sequencer_impl.h"

#define GROUP_KEEP_BYTES (512u << 10) /* of its buffer when it is empty */
#define OOM_RETRY_MS 10
#define PUBLISH_AHEAD 6
#define TAIL_STEP_RECORDS 1024 /* of the thread that has heartbeats to send */
#define TAIL_STEP_BYTES (2u << 20)

static void no_writes(struct group *g)
{
    g->first = NULL;
    g->last = &g->first;
    g->writes = 0;
}

/* Empty; its first record will chain from chain, which may be its own. */
static void group_reset(struct group *g, const uint8_t chain[RECORD_CHAIN_BYTES])
{
    buf_clear(&g->records);
    buf_shrink(&g->records, GROUP_KEEP_BYTES);
    g->n = 0;
    g->first_lsn = g->last_lsn = 0;
    memmove(g->begin, chain, sizeof g->begin);
    memcpy(g->chain, g->begin, sizeof g->chain);
    g->staged_n = 0;
    no_writes(g);
    g->foreign = 0;
    g->shown = 0;
}

void groups_init(struct sequencer *q, const uint8_t chain[RECORD_CHAIN_BYTES])
{
    for (unsigned i = 0; i < GROUPS; i++) {
        struct group *g = &q->groups[i];
        buf_init(&g->records, (size_t)GROUP_BYTES_MAX + 2 * RECORD_MAX_BYTES);
        group_reset(g, chain);
        if (i) {
            g->next = q->spare;
            q->spare = g;
        }
    }
    q->g = &q->groups[0];
    q->g->before = q->spare;
    q->written_last = &q->written;
}

void groups_fini(struct sequencer *q)
{
    for (unsigned i = 0; i < GROUPS; i++) {
        buf_fini(&q->groups[i].records);
        mem_free(q->groups[i].staged);
    }
}

/* ---- handing over; the lock is held ---- */

/* The log writer may take it without being told by the gate's owner. */
static int is_free_to_go(const struct sequencer *q, const struct group *g)
{
    return !q->gate.changed || g->foreign || !g->n;
}

void groups_start(struct sequencer *q)
{
    struct group *full = q->g, *next = q->spare;
    assert(!q->writing && next);
    q->spare = next->next;
    group_reset(next, full->chain);
    next->before = full;
    q->g = next;
    q->ready = NULL;
    q->writing = full;
    pthread_cond_signal(&q->handed);
    if (q->waits)
        pthread_cond_signal(&q->work);
}

/* Something changed: goes on with what was offered, if it can. */
static void go_on(struct sequencer *q)
{
    if (!q->ready || q->writing || !q->spare)
        return;
    if (is_free_to_go(q, q->ready))
        groups_start(q);
    else
        q->gate.changed(q->gate.arg);
}

void groups_offer(struct sequencer *q)
{
    if (q->g->writes == 0 && q->g->n == 0)
        return;
    q->ready = q->g;
    go_on(q);
}

void groups_hand_over(struct sequencer *q)
{
    struct group *mine = q->g;

    groups_offer(q);
    q->waits = 1;
    pthread_cond_broadcast(&q->idle);
    while (q->g == mine && q->ready)
        pthread_cond_wait(&q->work, &q->lock);
    q->waits = 0;
}

static void append_chain(struct mpsc_node ***to, struct group *g)
{
    if (!g->first)
        return;
    **to = g->first;
    *to = g->last;
    no_writes(g);
}

static void unstage(struct sequencer *q, struct group *g)
{
    while (g->staged_n) {
        const struct staged *st = &g->staged[--g->staged_n];
        hot_unstage(q->e->hot, st->entry, st->value);
    }
}

void groups_drop_gathered(struct sequencer *q, struct mpsc_node ***refused)
{
    struct group *g = q->g;

    unstage(q, g);
    append_chain(refused, g);
    if (g->n)
        q->next_lsn = g->first_lsn;
    group_reset(g, g->begin);
    q->ready = NULL;
    if (q->waits)
        pthread_cond_signal(&q->work);
}

/* What waits has a record: its outcome is that record's. What was refused, or changed nothing, is refused now. */
static void into_limbo(struct sequencer *q, struct group *g, struct mpsc_node ***refused)
{
    for (struct mpsc_node *n = g->first, *next; n; n = next) {
        struct write *w = mpsc_entry(n, struct write, node);
        next = n->next;
        n->next = NULL;
        if (w->lsn) {
            n->next = q->limbo;
            q->limbo = n;
        } else {
            **refused = n;
            *refused = &n->next;
        }
    }
    no_writes(g);
}

void groups_disown(struct sequencer *q, struct mpsc_node ***refused)
{
    struct group *all[GROUPS];
    unsigned n = 0;

    for (struct group *g = q->written; g; g = g->next)
        all[n++] = g;
    while (n) { /* what is staged on one entry is taken off newest first */
        struct group *g = all[--n];
        unstage(q, g);
        into_limbo(q, g, refused);
        g->foreign = 1;
    }
}

static uint64_t record_lsn(const struct group *g, size_t off)
{
    return get_le64(buf_data(&g->records) + off + 8);
}

enum err groups_copy(const struct group *g, uint64_t first, uint64_t last, size_t limit, struct buf *out, uint64_t *end)
{
    const uint8_t *p = buf_data(&g->records);
    size_t off = 0, to, all = buf_size(&g->records);

    while (record_lsn(g, off) < first)
        off += get_le32(p + off);
    for (to = off; to < all && record_lsn(g, to) <= last && (to == off || to - off < limit); to += get_le32(p + to))
        *end = record_lsn(g, to);
    return buf_put(out, p + off, to - off);
}

/* Cuts off its records above lsn. */
static void shorten(struct group *g, uint64_t lsn)
{
    size_t off = 0;
    uint32_t n = 0;

    while (off < buf_size(&g->records) && record_lsn(g, off) <= lsn) {
        off += get_le32(buf_data(&g->records) + off);
        n++;
    }
    buf_truncate(&g->records, off);
    g->n = n;
    g->last_lsn = lsn;
}

void groups_forget_above(struct sequencer *q, uint64_t lsn, const uint8_t chain[RECORD_CHAIN_BYTES])
{
    struct group **at = &q->written, *g;

    while ((g = *at)) {
        if (g->n && g->first_lsn > lsn) {
            *at = g->next;
            g->next = q->spare;
            q->spare = g;
            continue;
        }
        if (g->n && g->last_lsn > lsn)
            shorten(g, lsn);
        at = &g->next;
    }
    q->written_last = at;
    group_reset(q->g, chain);
}

/* ---- the log writer ---- */

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
}

/* Once the log has failed, groups without a record fail too: what was refused in them may have been refused because of
 * values that stay staged for ever. */
static void write_group(struct sequencer *q, struct group *g)
{
    if (!atomic_load(&q->failed) && g->n) {
        if (wal_append(q->e->wal, buf_bytes(&g->records), g->n, g->first_lsn, g->chain))
            log_failed(q, g);
        atomic_store_explicit(&q->last_group_records, g->n, memory_order_relaxed);
    }
    if (atomic_load(&q->failed)) {
        fail_writes(g);
        g->n = 0;
    }
}

static void append_written(struct sequencer *q, struct group *g)
{
    g->next = NULL;
    *q->written_last = g;
    q->written_last = &g->next;
    if (g->n)
        atomic_store_explicit(&q->durable_lsn, g->last_lsn, memory_order_relaxed);
}

void *groups_writer_main(void *arg)
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
        append_written(q, g);
        if (!q->gate.changed) {
            pthread_mutex_unlock(&q->lock);
            groups_show(q, UINT64_MAX);
            pthread_mutex_lock(&q->lock);
        }
        q->writing = NULL;
        go_on(q);
        pthread_cond_broadcast(&q->idle);
        if (q->gate.changed)
            q->gate.changed(q->gate.arg);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

/* ---- making visible ---- */

/* The log holds it, and its client will hear OK: so memory that has run out is waited out, as in the applier. */
static int try_again(enum err err)
{
    const struct timespec moment = {.tv_nsec = OOM_RETRY_MS * 1000000L};
    if (err == ERR_OOM)
        nanosleep(&moment, NULL);
    return err == ERR_OOM;
}

static void take_up(struct engine *e, struct bytes key, const struct blob *value)
{
    enum err err;
    while (try_again(err = engine_observe(e, key, value)))
        ;
    if (err)
        engine_logf(e, LOG_WARNING, "a committed record of a vault or user could not be taken up; restart the server");
}

static void now_visible(struct engine *e, uint64_t lsn)
{
    hot_set_published(e->hot, lsn);
    atomic_store(&e->commit_lsn, lsn);
    apply_kick(e->apply);
}

static void show_own(struct sequencer *q, struct group *g)
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
    now_visible(e, g->last_lsn);
    engine_tell_records(e, buf_bytes(&g->records), g->first);
}

/* The records of a group that came from elsewhere, as far as they are committed. */
static void show_foreign(struct sequencer *q, struct group *g, uint64_t lsn)
{
    struct engine *e = q->e;
    struct bytes rest = buf_bytes(&g->records);
    size_t from = g->shown;
    uint64_t last = 0;

    while (g->shown < rest.n && record_lsn(g, g->shown) <= lsn) {
        struct record r;
        size_t used;
        enum err err = record_get(bytes_of(rest.p + g->shown, rest.n - g->shown), &r, &used);
        while (!err && try_again(err = engine_take_record(e, &r)))
            ;
        last = record_lsn(g, g->shown);
        if (err)
            engine_logf(e, LOG_WARNING, "the record at LSN %llu could not be taken up (%s): restart the server",
                        (unsigned long long)last, err_name(err));
        g->shown += get_le32(rest.p + g->shown);
    }
    if (!last)
        return;
    now_visible(e, last);
    engine_tell_records(e, bytes_of(rest.p + from, g->shown - from), NULL);
}

static enum err take_next(struct engine *e, struct wal_cursor *c, size_t *bytes)
{
    struct record r;
    struct bytes raw;
    enum err err = wal_cursor_next(c, &r, &raw);
    if (err)
        return err;
    *bytes += raw.n;
    while (try_again(err = engine_take_record(e, &r)))
        ;
    return err;
}

enum err groups_show_tail(struct sequencer *q, uint64_t to)
{
    struct engine *e = q->e;
    struct wal_cursor *c;
    uint64_t lsn = engine_commit_lsn(e), end = to - lsn > TAIL_STEP_RECORDS ? lsn + TAIL_STEP_RECORDS : to;
    size_t bytes = 0;
    enum err err = wal_cursor_open(&c, e->wal, lsn + 1);

    if (err)
        return err;
    while (lsn < end && bytes < TAIL_STEP_BYTES && (err = take_next(e, c, &bytes)) == ERR_OK)
        lsn++;
    wal_cursor_close(c);
    now_visible(e, lsn); /* what could not be taken up has changed nothing */
    engine_tell_records(e, bytes_of(NULL, 0), NULL);
    return err;
}

void groups_done(struct sequencer *q, struct mpsc_node *first, enum err err)
{
    uint64_t count = 0;
    while (first) {
        struct write *w = mpsc_entry(first, struct write, node);
        first = first->next;
        if (err)
            w->err = err;
        w->done(w);
        count++;
    }
    atomic_fetch_add_explicit(&q->completed, count, memory_order_relaxed);
}

/* 1 when all of it is told. */
static int show(struct sequencer *q, struct group *g, uint64_t lsn)
{
    if (g->n && g->foreign)
        show_foreign(q, g, lsn);
    if (g->n && g->last_lsn > lsn)
        return 0;
    if (g->n && !g->foreign)
        show_own(q, g);
    groups_done(q, g->first, ERR_OK);
    return 1;
}

void groups_free_oldest(struct sequencer *q)
{
    struct group *g = q->written;
    q->written = g->next;
    if (!q->written)
        q->written_last = &q->written;
    g->next = q->spare;
    q->spare = g;
    go_on(q);
}

void groups_show(struct sequencer *q, uint64_t lsn)
{
    pthread_mutex_lock(&q->lock);
    for (struct group *g; (g = q->written);) {
        pthread_mutex_unlock(&q->lock);
        int all = show(q, g, lsn);
        pthread_mutex_lock(&q->lock);
        if (!all)
            break;
        groups_free_oldest(q);
    }
    pthread_mutex_unlock(&q->lock);
}
