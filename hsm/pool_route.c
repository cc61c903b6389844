/* pool_route.c - which worker gets a request, and what becomes of requests whose worker is gone; see pool_impl.h.
 *
 * Happy path: hsm_submit picks a slot (KEYED by a hash of the key header, so that the workers' handle caches do not
 * overlap; ANY by the fewest waiting; SLOW the last one), encodes into its worker's queue under the slot's lock;
 * hsm_flush writes. No other thread is involved: the socket wakes the worker, the answer wakes the hsm thread.
 *
 * When the slot of a key has no worker the next one that has takes over: its cache is cold, its service is there.
 *
 * A worker that dies leaves its queue. Requests that were not sent whole, and idempotent ones, are copied to another
 * worker, or parked for the next; but once only, so that a request that kills workers kills two of them. The oldest
 * one, which the worker was busy with, is the suspect: it goes last, so that the others are answered before it can do
 * harm again.
 *
 * Parked requests wait for a start: those of a dead worker, and those of the slow lane before its worker is there. They
 * fail when the start fails and when their time is over. New requests never park in the general slots: with the breaker
 * open they fail at once.
 */
#include <assert.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/mem.h"
#include "hsm/masked.h"
#include "hsm/pool_impl.h"

/* ---- requests ---- */

void hsm_req_init(struct hsm_req *r, enum hsm_op op, void (*done)(struct hsm_req *), void *arg)
{
    memset(r, 0, sizeof *r);
    r->op = op;
    r->done = done;
    r->arg = arg;
    buf_init_secret(&r->out, HSM_FRAME_MAX);
}

void hsm_req_fini(struct hsm_req *r)
{
    buf_fini(&r->out);
    memset(r->part, 0, sizeof r->part);
    r->parts = 0;
}

static void set_text(struct hsm_req *r, const char *text)
{
    r->text[0] = 0;
    if (text)
        snprintf(r->text, sizeof r->text, "%s", text);
}

/* A worker's text, in what is fit for a log line. */
static void set_text_bytes(struct hsm_req *r, struct bytes text)
{
    size_t n = text.n < sizeof r->text - 1 ? text.n : sizeof r->text - 1;

    for (size_t i = 0; i < n; i++)
        r->text[i] = text.p[i] >= ' ' && text.p[i] <= '~' ? (char)text.p[i] : '?';
    r->text[n] = 0;
}

static enum err copy_parts(struct hsm_req *r, const struct hsm_frame *f)
{
    size_t n = 0;
    uint8_t *p;
    enum err e;

    for (unsigned i = 0; i < f->parts; i++)
        n += f->part[i].n;
    buf_clear(&r->out);
    e = buf_reserve(&r->out, n, &p);
    if (e != ERR_OK)
        return e;
    for (unsigned i = 0; i < f->parts; i++) {
        r->part[i] = bytes_of(p, f->part[i].n);
        if (f->part[i].n)
            memcpy(p, f->part[i].p, f->part[i].n);
        p += f->part[i].n;
    }
    buf_added(&r->out, n);
    r->parts = f->parts;
    return ERR_OK;
}

void pool_complete(struct hsm *h, const struct pool_entry *e, enum err result, const char *text,
                   const struct hsm_frame *f)
{
    struct hsm_req *r = e->r;
    uint64_t us = clock_mono_us() - e->submitted_us;
    uint32_t at = atomic_fetch_add_explicit(&h->latencies, 1, memory_order_relaxed) % POOL_LATENCIES;

    r->parts = 0;
    r->result = result;
    set_text(r, text);
    if (f && f->code != ERR_OK) {
        r->result = (enum err)f->code;
        if (f->parts)
            set_text_bytes(r, f->part[0]);
    } else if (f) {
        r->result = copy_parts(r, f);
    }
    atomic_store_explicit(&h->latency_us[at], us < UINT32_MAX ? (uint32_t)us : UINT32_MAX, memory_order_relaxed);
    if (r->result != ERR_OK)
        atomic_fetch_add_explicit(&h->errors, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&h->in_flight, 1, memory_order_relaxed);
    r->done(r);
}

/* ---- choosing ---- */

/* The key header is the beginning of a masked object and all of KEY_NEW's second part: both go to the same worker. */
static uint32_t key_hash(enum hsm_op op, const struct bytes *part)
{
    size_t n = 0;

    if (hsm_ops[op].lane != LANE_KEYED)
        return 0;
    n = part[1].n < MASKED_KEY_HEADER ? part[1].n : MASKED_KEY_HEADER;
    return crc32c(0, part[1].p, n);
}

static int is_open(struct pool_slot *s)
{
    return atomic_load_explicit(&s->open, memory_order_relaxed);
}

static struct pool_slot *least_loaded(struct hsm *h, unsigned general)
{
    struct pool_slot *best = NULL;
    unsigned best_load = 0;

    for (unsigned i = 0; i < general; i++) {
        unsigned load = atomic_load_explicit(&h->slot[i].load, memory_order_relaxed);
        if (is_open(&h->slot[i]) && (!best || load < best_load)) {
            best = &h->slot[i];
            best_load = load;
        }
    }
    return best;
}

/* A slot whose worker takes requests, or the slow slot whatever its state; NULL: none. */
static struct pool_slot *choose(struct hsm *h, enum hsm_op op, uint32_t hash)
{
    unsigned general = h->slots - 1, first;

    if (hsm_ops[op].lane == LANE_SLOW)
        return pool_slow_slot(h);
    if (hsm_ops[op].lane == LANE_ANY)
        return least_loaded(h, general);
    first = (unsigned)((uint64_t)hash * general >> 32);
    for (unsigned i = 0; i < general; i++) {
        struct pool_slot *s = &h->slot[(first + i) % general];
        if (is_open(s))
            return s;
    }
    return NULL;
}

/* Puts e where requests of this slot go now: with the frame it has in another queue, or else with parts. Lock held.
 * ERR_HSMDOWN: nowhere. */
static enum err put_locked(struct pool_slot *s, const struct pool_entry *e, const struct bytes *part, unsigned parts)
{
    struct pool_queue *q = s->cur ? &s->cur->q : s->slow ? &s->parked : NULL;
    enum err err;

    if (!q || (q == &s->parked && e->since_us < s->closed_until_us))
        return ERR_HSMDOWN;
    err = e->chunk ? pool_queue_copy(q, e) : pool_queue_put(q, e, part, parts);
    if (s->cur)
        atomic_store_explicit(&s->load, s->cur->q.count, memory_order_relaxed);
    if (err == ERR_OK)
        atomic_store_explicit(&s->dirty, 1, memory_order_relaxed);
    return err;
}

static enum err put(struct hsm *h, const struct pool_entry *e, const struct bytes *part, unsigned parts)
{
    for (unsigned tries = 0; tries < h->slots; tries++) { /* the chosen worker may go before its lock is ours */
        struct pool_slot *s = choose(h, (enum hsm_op)e->op, e->hash);
        enum err err;
        if (!s)
            break;
        pthread_mutex_lock(&s->lock);
        err = put_locked(s, e, part, parts);
        pthread_mutex_unlock(&s->lock);
        if (err != ERR_HSMDOWN)
            return err;
    }
    return ERR_HSMDOWN;
}

/* ---- submitting ---- */

static const struct {
    enum err e;
    const char *text;
} refusals[] = {
    [HSM_STATE_STARTING] = {ERR_HSMDOWN, "the HSM workers are starting"},
    [HSM_STATE_UP] = {ERR_HSMDOWN, "no HSM worker is up"},
    [HSM_STATE_DOWN] = {ERR_HSMDOWN, "no HSM worker is up (breaker open)"},
    [HSM_STATE_SEALED] = {ERR_SEALED, "the HSM is sealed"},
    [HSM_STATE_FAILED] = {ERR_HSMDOWN, "the HSM failed for good: see the log, then unseal"},
};

static enum err refuse(struct hsm *h, struct hsm_req *r, enum err e)
{
    int state = atomic_load_explicit(&h->state, memory_order_acquire);

    if (e == ERR_HSMDOWN) {
        e = refusals[state].e;
        set_text(r, refusals[state].text);
    } else {
        set_text(r, e == ERR_THROTTLED ? "too many requests wait for the HSM" : err_text(e));
    }
    return e;
}

enum err hsm_submit(struct hsm *h, struct hsm_req *r, const struct bytes *part, unsigned parts)
{
    struct pool_entry e = {.r = r, .op = (uint8_t)r->op};
    enum err err;

    assert(r->op > HSM_START && r->op < HSM_OPS && parts == hsm_ops[r->op].parts_in && r->done);
    r->text[0] = 0;
    if (atomic_load_explicit(&h->state, memory_order_acquire) != HSM_STATE_UP)
        return refuse(h, r, ERR_HSMDOWN);
    e.hash = key_hash(r->op, part);
    e.submitted_us = e.since_us = clock_mono_us();
    atomic_fetch_add_explicit(&h->in_flight, 1, memory_order_relaxed);
    err = put(h, &e, part, parts);
    if (err != ERR_OK) {
        atomic_fetch_sub_explicit(&h->in_flight, 1, memory_order_relaxed);
        return refuse(h, r, err);
    }
    atomic_fetch_add_explicit(&h->requests, 1, memory_order_relaxed); /* r may be done already, and gone */
    return ERR_OK;
}

static int flush_slot(struct pool_slot *s)
{
    int wake;

    pthread_mutex_lock(&s->lock);
    wake = s->cur ? pool_worker_write(s->cur) : s->parked.count > 0;
    pthread_mutex_unlock(&s->lock);
    return wake;
}

void hsm_flush(struct hsm *h)
{
    int wake = 0;

    for (unsigned i = 0; i < h->slots; i++)
        if (atomic_load_explicit(&h->slot[i].dirty, memory_order_relaxed) && atomic_exchange(&h->slot[i].dirty, 0))
            wake |= flush_slot(&h->slot[i]);
    if (wake)
        pool_wake(h);
}

/* ---- repeating and parking: the hsm thread ---- */

/* Waits for the next worker. 0: that is not to be expected. */
static int park(struct hsm *h, const struct pool_entry *e)
{
    struct pool_slot *s = &h->slot[0];
    enum hsm_state state = health_state(&h->health);
    enum err err;

    if (hsm_ops[e->op].lane == LANE_SLOW || h->health.stopped ||
        (state != HSM_STATE_DOWN && state != HSM_STATE_STARTING))
        return 0;
    pthread_mutex_lock(&s->lock);
    err = pool_queue_copy(&s->parked, e);
    pthread_mutex_unlock(&s->lock);
    return err == ERR_OK;
}

static void requeue_one(struct hsm *h, const struct pool_entry *e, const char *text)
{
    struct pool_entry again = *e;
    int may = !e->moved && (hsm_ops[e->op].idempotent || !pool_queue_was_sent(e));

    if (!e->r)
        return;
    again.since_us = clock_mono_us();
    again.moved = 1;
    if (!may || (put(h, &again, NULL, 0) != ERR_OK && !park(h, &again)))
        pool_complete(h, e, ERR_HSMDOWN, text, NULL);
}

void pool_requeue(struct hsm *h, struct pool_queue *q, const char *text)
{
    const struct pool_entry *e;

    for (uint32_t i = 1; (e = pool_queue_at(q, i)); i++)
        if (!e->answered)
            requeue_one(h, e, text);
    e = pool_queue_front(q);
    if (e)
        requeue_one(h, e, text);
    pool_queue_fini(q);
    hsm_flush(h);
}

void pool_fail_all(struct hsm *h, struct pool_queue *q, enum err result, const char *text)
{
    struct pool_entry e;

    while (pool_queue_pop(q, &e))
        if (e.r)
            pool_complete(h, &e, result, text, NULL);
    pool_queue_fini(q);
}

static struct pool_queue take_parked(struct pool_slot *s)
{
    struct pool_queue q;

    pthread_mutex_lock(&s->lock);
    q = s->parked;
    pool_queue_init(&s->parked);
    pthread_mutex_unlock(&s->lock);
    return q;
}

void pool_unpark(struct hsm *h, struct pool_slot *slot)
{
    struct pool_queue q = take_parked(slot);
    const struct pool_entry *e;

    for (uint32_t i = 0; (e = pool_queue_at(&q, i)); i++) {
        struct pool_entry again = *e;
        again.since_us = clock_mono_us();
        if (!e->answered && put(h, &again, NULL, 0) != ERR_OK)
            pool_complete(h, e, ERR_HSMDOWN, "no HSM worker is up", NULL);
    }
    pool_queue_fini(&q);
    hsm_flush(h);
}

void pool_fail_parked(struct hsm *h, struct pool_slot *slot, enum err result, const char *text)
{
    struct pool_queue q = take_parked(slot);
    pool_fail_all(h, &q, result, text);
}

void pool_expire_parked(struct hsm *h, struct pool_slot *slot, uint64_t now_us)
{
    for (;;) {
        const struct pool_entry *front;
        struct pool_entry e;
        int late;

        pthread_mutex_lock(&slot->lock);
        front = pool_queue_front(&slot->parked);
        late = front && front->since_us + pool_deadline_us(h, (enum hsm_op)front->op) < now_us &&
               pool_queue_pop(&slot->parked, &e);
        pthread_mutex_unlock(&slot->lock);
        if (!late)
            return;
        atomic_fetch_add_explicit(&h->timeouts, 1, memory_order_relaxed);
        pool_complete(h, &e, ERR_HSMDOWN, "no HSM worker was ready in time", NULL);
    }
}
