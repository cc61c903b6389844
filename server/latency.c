/* latency.c - see latency.h. Of each kind of event the newest LATENCY_KEPT seconds that had one are kept, with the
 * worst of the second, as Redis does. */
#include "server/latency.h"

#include <pthread.h>

#include "base/mem.h"
#include "server/conn_private.h"

#define LATENCY_KEPT 160

const char *const latency_event_names[LATENCY_EVENTS] = {"command", "fast-command"};

struct series {
    struct sample {
        uint64_t time_s, ms;
    } sample[LATENCY_KEPT]; /* a ring */
    unsigned next, count;
    uint64_t max_ms, events, sum_ms;
};

struct latency {
    pthread_mutex_t lock;
    struct series series[LATENCY_EVENTS];
};

/* ---- histograms ---- */

uint64_t latency_bucket_top(unsigned bucket)
{
    if (bucket < 8)
        return bucket;
    unsigned top = bucket / 8 + 2;
    return ((8ull + bucket % 8 + 1) << (top - 3)) - 1;
}

void latency_sum(struct server *srv, size_t row, uint64_t out[LATENCY_BUCKETS])
{
    memset(out, 0, LATENCY_BUCKETS * sizeof *out);
    for (unsigned i = 0; i < srv->io_count; i++) {
        _Atomic uint32_t *h = &io_stats(srv->io[i])->histogram[row * LATENCY_BUCKETS];
        for (unsigned b = 0; b < LATENCY_BUCKETS; b++)
            out[b] += atomic_load_explicit(&h[b], memory_order_relaxed);
    }
}

uint64_t latency_calls(const uint64_t h[LATENCY_BUCKETS])
{
    uint64_t n = 0;
    for (unsigned b = 0; b < LATENCY_BUCKETS; b++)
        n += h[b];
    return n;
}

uint64_t latency_percentile(const uint64_t h[LATENCY_BUCKETS], double percent)
{
    uint64_t seen = 0;
    double want = (double)latency_calls(h) * percent / 100;
    for (unsigned b = 0; b < LATENCY_BUCKETS; b++) {
        seen += h[b];
        if (seen > 0 && (double)seen >= want)
            return latency_bucket_top(b);
    }
    return 0;
}

/* ---- events ---- */

enum err latency_new(struct latency **out)
{
    struct latency *l = *out = mem_zalloc(sizeof *l);
    if (!l)
        return ERR_OOM;
    pthread_mutex_init(&l->lock, NULL);
    return ERR_OK;
}

void latency_free(struct latency *l)
{
    if (!l)
        return;
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}

static struct sample *newest(struct series *s)
{
    return s->count ? &s->sample[(s->next + LATENCY_KEPT - 1) % LATENCY_KEPT] : NULL;
}

void latency_add(struct latency *l, enum latency_event k, uint64_t ms, uint64_t now_ms)
{
    struct series *s = &l->series[k];
    pthread_mutex_lock(&l->lock);
    struct sample *last = newest(s);
    s->events++;
    s->sum_ms += ms;
    if (ms > s->max_ms)
        s->max_ms = ms;
    if (last && last->time_s == now_ms / 1000) {
        if (ms > last->ms)
            last->ms = ms;
    } else {
        s->sample[s->next] = (struct sample){now_ms / 1000, ms};
        s->next = (s->next + 1) % LATENCY_KEPT;
        s->count += s->count < LATENCY_KEPT;
    }
    pthread_mutex_unlock(&l->lock);
}

int latency_reset(struct latency *l, enum latency_event k)
{
    pthread_mutex_lock(&l->lock);
    int any = l->series[k].count > 0;
    l->series[k] = (struct series){.next = 0};
    pthread_mutex_unlock(&l->lock);
    return any;
}

void latency_reply_latest(struct latency *l, struct reply *r)
{
    size_t mark = reply_mark(r), n = 0;
    pthread_mutex_lock(&l->lock);
    for (unsigned k = 0; k < LATENCY_EVENTS; k++) {
        const struct sample *last = newest(&l->series[k]);
        if (!last)
            continue;
        reply_array(r, 4);
        reply_bulk_str(r, latency_event_names[k]);
        reply_int(r, (int64_t)last->time_s);
        reply_int(r, (int64_t)last->ms);
        reply_int(r, (int64_t)l->series[k].max_ms);
        n++;
    }
    pthread_mutex_unlock(&l->lock);
    reply_insert_array(r, mark, n);
}

void latency_reply_history(struct latency *l, enum latency_event k, struct reply *r)
{
    pthread_mutex_lock(&l->lock);
    const struct series *s = &l->series[k];
    reply_array(r, s->count);
    for (unsigned i = 0; i < s->count; i++) {
        const struct sample *at = &s->sample[(s->next + LATENCY_KEPT - s->count + i) % LATENCY_KEPT];
        reply_array(r, 2);
        reply_int(r, (int64_t)at->time_s);
        reply_int(r, (int64_t)at->ms);
    }
    pthread_mutex_unlock(&l->lock);
}

enum err latency_advise(struct latency *l, struct buf *out)
{
    enum err e = ERR_OK;
    int any = 0;
    pthread_mutex_lock(&l->lock);
    for (unsigned k = 0; k < LATENCY_EVENTS && !e; k++) {
        const struct series *s = &l->series[k];
        if (!s->events)
            continue;
        any = 1;
        e = buf_putf(out, "%s: %llu latency spikes (average %llu ms, worst %llu ms).\n", latency_event_names[k],
                     (unsigned long long)s->events, (unsigned long long)(s->sum_ms / s->events),
                     (unsigned long long)s->max_ms);
    }
    pthread_mutex_unlock(&l->lock);
    if (!e && any)
        e = buf_putf(out, "SLOWLOG GET shows which commands these were. The time of a write includes the fdatasync of "
                          "the log (WBL.INFO), that of\n"
                          "a key operation the HSM (HSM.INFO): compare with these before looking elsewhere.\n");
    return e || any ? e : buf_putf(out, "No latency spike was seen above latency-monitor-threshold.\n");
}
