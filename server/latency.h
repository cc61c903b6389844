/* latency.h - how long commands take: a histogram of each, and the events above latency-monitor-threshold.
 *
 * A histogram has 8 buckets to each power of two of microseconds, so a percentile is right to an eighth. Each I/O
 * thread has its own (stats.h): adding to it is one store. Events are kept under a lock, which is taken only for what
 * is slow.
 */
#ifndef COFFER_SERVER_LATENCY_H
#define COFFER_SERVER_LATENCY_H

#include <stdint.h>

#include "base/err.h"
#include "resp/reply.h"

struct server;

#define LATENCY_BUCKETS 256 /* up to 2^33 us; longer ones are in the last */

static inline unsigned latency_bucket(uint64_t usec)
{
    if (usec < 8)
        return (unsigned)usec;
    unsigned top = 63 - (unsigned)__builtin_clzll(usec), i = (top - 2) * 8 + (unsigned)(usec >> (top - 3) & 7);
    return i < LATENCY_BUCKETS ? i : LATENCY_BUCKETS - 1;
}
/* The largest time that falls into a bucket, microseconds. */
uint64_t latency_bucket_top(unsigned bucket);

/* All threads' histograms of a command, added up. */
void latency_sum(struct server *srv, size_t row, uint64_t out[LATENCY_BUCKETS]);
uint64_t latency_calls(const uint64_t h[LATENCY_BUCKETS]);
/* The time within which percent of the calls were answered; 0 when there were none. */
uint64_t latency_percentile(const uint64_t h[LATENCY_BUCKETS], double percent);

/* ---- events ---- */

enum latency_event { LATENCY_COMMAND, LATENCY_FAST_COMMAND, LATENCY_EVENTS };
extern const char *const latency_event_names[LATENCY_EVENTS];

struct latency;
must_use enum err latency_new(struct latency **out); /* ERR_OOM */
void latency_free(struct latency *l);                /* accepts NULL */

void latency_add(struct latency *l, enum latency_event k, uint64_t ms, uint64_t now_ms);
/* 1 when there was anything to forget. */
int latency_reset(struct latency *l, enum latency_event k);
void latency_reply_latest(struct latency *l, struct reply *r);
void latency_reply_history(struct latency *l, enum latency_event k, struct reply *r);
/* The events of a kind as a graph in ASCII, appended. ERR_NOTFOUND: there are none; ERR_OOM. */
must_use enum err latency_draw(struct latency *l, enum latency_event k, uint64_t now_s, struct buf *out);
/* Plain words about what was seen, appended. ERR_OOM. */
must_use enum err latency_advise(struct latency *l, struct buf *out);

#endif
