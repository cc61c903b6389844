/* pool_watch.c - is a worker in time, is it still itself, is it time for a successor; see pool_impl.h.
 *
 * Deadline: it belongs to the worker, not to the request. It counts from the oldest unanswered request or from the last
 * answer, whichever is later, so a long queue before a worker that works is not taken for a hang. Before a late worker
 * is killed its socket is read once more: the late one may have been this thread.
 *
 * Probe: each second an idle worker is asked whether device and token are there; a busy one shows that it lives by its
 * answers. Both are asked for their count of objects.
 *
 * Recycling: modules leak (SoftHSM 246 bytes per session object ever made), so after recycle_objects objects, or when
 * the process has grown by more than those can account for, a successor is started; it takes over when it is ready,
 * warm, and the old one finishes what it has. The worker's own count of objects is the better one, the pool's is the
 * floor where INFO says nothing.
 */
#include <signal.h>

#include "base/clock.h"
#include "hsm/pool_impl.h"

#define RSS_FREE ((uint64_t)64 << 20)
#define RSS_PER_OBJECT 512 /* twice what SoftHSM leaks */
#define STUCK_US UINT64_C(1000000)

uint64_t pool_deadline_us(const struct hsm *h, enum hsm_op op)
{
    uint64_t us = (uint64_t)h->cfg.timeout_ms * 1000;

    if (op == HSM_START)
        return us * POOL_START_FACTOR;
    return hsm_ops[op].lane == LANE_SLOW ? us * POOL_SLOW_FACTOR : us;
}

static int is_late(struct pool_worker *w, uint64_t now_us)
{
    const struct pool_entry *front;
    uint64_t since;
    int late = 0;

    pthread_mutex_lock(&w->slot->lock);
    front = pool_queue_front(&w->q);
    if (front) {
        since = front->since_us > w->last_answer_us ? front->since_us : w->last_answer_us;
        late = since + pool_deadline_us(w->h, (enum hsm_op)front->op) < now_us;
    }
    pthread_mutex_unlock(&w->slot->lock);
    return late;
}

/* A process that not even SIGKILL ends hangs in the kernel. It stays on the list; the state goes on without its exit
 * code. */
static void tick_ending(struct pool_worker *w, uint64_t now_us)
{
    if (pool_worker_reap(w) || now_us < w->kill_at_us)
        return;
    if (!w->killed) {
        w->killed = 1;
        (void)kill(w->pid, SIGKILL);
    } else if (now_us > w->kill_at_us + STUCK_US) {
        int owes_start = w->owes_start;
        pool_worker_end(w, END_STOP, w->text);
        if (owes_start)
            pool_start_failed(w->h, w->slot, ERR_HSMDOWN, "the HSM worker hangs in the kernel");
        pool_publish(w->h);
    }
}

void pool_watch_tick(struct pool_worker *w, uint64_t now_us)
{
    if (w->phase == WORKER_ENDING) {
        tick_ending(w, now_us);
        return;
    }
    if (w->read_off && event_add(&w->read_ev, NULL) == 0)
        w->read_off = 0;
    pool_worker_write_now(w);
    if (!is_late(w, now_us))
        return;
    pool_worker_read_now(w);
    if (w->phase == WORKER_ENDING || !is_late(w, now_us))
        return;
    atomic_fetch_add_explicit(&w->h->timeouts, 1, memory_order_relaxed);
    pool_worker_end(w, END_KILL, "no answer in time");
}

static int is_full(const struct pool_worker *w)
{
    uint64_t limit = w->h->cfg.recycle_objects, rss;

    if (limit == 0)
        return 0;
    if (w->objects >= limit)
        return 1;
    rss = pool_rss_bytes(w->pid);
    return w->rss_base && rss > w->rss_base + RSS_FREE + limit * RSS_PER_OBJECT;
}

void pool_watch_second(struct pool_worker *w)
{
    unsigned waiting;

    if (w->phase != WORKER_UP)
        return;
    if (!w->retiring && is_full(w)) {
        w->retiring = 1;
        pool_log(w->h, LOG_NOTICE, "HSM worker %ld made %llu objects: a successor is started", (long)w->pid,
                 (unsigned long long)w->objects);
        pool_health(w->h, HEALTH_WANT, w->slot->index);
    }
    if (w->own_requests > 0)
        return;
    pthread_mutex_lock(&w->slot->lock);
    waiting = w->q.count;
    pthread_mutex_unlock(&w->slot->lock);
    if (waiting == 0 && pool_worker_ask(w, HSM_PROBE, NULL, 0) == ERR_OK)
        w->own_requests++;
    if (pool_worker_ask(w, HSM_INFO, NULL, 0) == ERR_OK)
        w->own_requests++;
}

/* The number of a line "name:number" in text, or 0. */
static uint64_t number_of(struct bytes text, const char *name)
{
    size_t n = strlen(name);
    uint64_t v = 0;

    for (size_t i = 0; i + n < text.n; i++) {
        if ((i > 0 && text.p[i - 1] != '\n') || !bytes_equal(bytes_of(text.p + i, n), bytes_of(name, n)) ||
            text.p[i + n] != ':')
            continue;
        for (i += n + 1; i < text.n && text.p[i] >= '0' && text.p[i] <= '9'; i++)
            v = v * 10 + (uint64_t)(text.p[i] - '0');
        break;
    }
    return v;
}

void pool_watch_info(struct pool_worker *w, struct bytes text)
{
    uint64_t objects = number_of(text, "objects-made");

    if (objects > w->objects)
        w->objects = objects;
}
