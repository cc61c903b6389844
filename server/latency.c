/* latency.c - see latency.h. Of each kind of event the newest LATENCY_KEPT seconds that had one are kept, with the
 * worst of the second, as Redis does. */
#include "server/latency.h"

#include <pthread.h>
#include <stdio.h>

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

/* The i-th of those that are kept, the oldest first. */
static const struct sample *sample_at(const struct series *s, unsigned i)
{
    return &s->sample[(s->next + LATENCY_KEPT - s->count + i) % LATENCY_KEPT];
}

void latency_reply_history(struct latency *l, enum latency_event k, struct reply *r)
{
    pthread_mutex_lock(&l->lock);
    const struct series *s = &l->series[k];
    reply_array(r, s->count);
    for (unsigned i = 0; i < s->count; i++) {
        const struct sample *at = sample_at(s, i);
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

/* ---- a graph, as Redis draws it: a column for each event, and under it, downwards, how long ago it was ---- */

#define GRAPH_COLUMNS 80
#define GRAPH_ROWS 4
#define GRAPH_STEPS 3 /* to a row */
#define AGE_CHARS 24

static char bar(uint64_t ms, uint64_t low, uint64_t high, unsigned row)
{
    uint64_t range = high > low ? high - low : 1, step = (ms - low) * GRAPH_STEPS * GRAPH_ROWS / range;
    uint64_t below = (uint64_t)GRAPH_STEPS * (GRAPH_ROWS - 1 - row);
    if (step >= (uint64_t)GRAPH_STEPS * GRAPH_ROWS)
        step--;
    return step < below ? ' ' : step - below < GRAPH_STEPS ? "_o#"[step - below] : '|';
}

/* The i-th character of an age; a blank behind its end. */
static char age_char(uint64_t s, unsigned i)
{
    static const struct {
        uint64_t seconds;
        char unit;
    } units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
    char text[AGE_CHARS];
    unsigned u = 0;
    while (u < 3 && s < units[u].seconds)
        u++;
    int n = snprintf(text, sizeof text, "%llu%c", (unsigned long long)(s / units[u].seconds), units[u].unit);
    return i < (unsigned)n ? text[i] : ' ';
}

/* Rows of the columns from `from` on; under them an empty one, and ages as long as there is anything of them. */
static enum err draw_columns(const struct series *s, unsigned from, const uint64_t range[2], uint64_t now_s,
                             struct buf *out)
{
    unsigned n = s->count - from < GRAPH_COLUMNS ? s->count - from : GRAPH_COLUMNS;
    enum err e = ERR_OK;
    int more = 1;
    for (unsigned row = 0; more && !e; row++) {
        char line[GRAPH_COLUMNS];
        memset(line, ' ', n);
        more = row <= GRAPH_ROWS;
        for (unsigned i = 0; i < n && row != GRAPH_ROWS; i++) {
            const struct sample *at = sample_at(s, from + i);
            line[i] = row < GRAPH_ROWS ? bar(at->ms, range[0], range[1], row)
                                       : age_char(now_s > at->time_s ? now_s - at->time_s : 0, row - GRAPH_ROWS - 1);
            more |= line[i] != ' ';
        }
        if (more && !(e = buf_put(out, line, n)))
            e = buf_put_u8(out, '\n');
    }
    return e;
}

static enum err draw(const struct series *s, const char *name, uint64_t now_s, struct buf *out)
{
    uint64_t range[2] = {UINT64_MAX, 0};
    for (unsigned i = 0; i < s->count; i++) {
        uint64_t ms = sample_at(s, i)->ms;
        range[0] = ms < range[0] ? ms : range[0];
        range[1] = ms > range[1] ? ms : range[1];
    }
    enum err e = buf_putf(out, "%s - high %llu ms, low %llu ms (all time high %llu ms)\n", name,
                          (unsigned long long)range[1], (unsigned long long)range[0], (unsigned long long)s->max_ms);
    for (unsigned i = 0; i < GRAPH_COLUMNS && !e; i++)
        e = buf_put_u8(out, '-');
    if (!e)
        e = buf_put_u8(out, '\n');
    for (unsigned from = 0; from < s->count && !e; from += GRAPH_COLUMNS) {
        if (from)
            e = buf_put_u8(out, '\n');
        if (!e)
            e = draw_columns(s, from, range, now_s, out);
    }
    return e;
}

enum err latency_draw(struct latency *l, enum latency_event k, uint64_t now_s, struct buf *out)
{
    pthread_mutex_lock(&l->lock);
    const struct series s = l->series[k];
    pthread_mutex_unlock(&l->lock);
    return s.count ? draw(&s, latency_event_names[k], now_s, out) : ERR_NOTFOUND;
}
