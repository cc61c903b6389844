/* stats.h - counters of one I/O thread.
 *
 * Written by their own thread only, with plain stores; read by anybody who adds them up for INFO (STATS_SUM). Nothing
 * on a request's way is shared between threads. CONFIG RESETSTAT is a tour on which each thread clears its own.
 */
#ifndef COFFER_SERVER_STATS_H
#define COFFER_SERVER_STATS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct server;

struct command_stat {
    _Atomic uint64_t calls, usec, rejected, failed;
};

#define STATS_PREFIXES 64 /* error prefixes told apart */
#define STATS_PREFIX_BYTES 24
struct error_stat {
    char prefix[STATS_PREFIX_BYTES]; /* written once, before count becomes 1 for the first time */
    _Atomic uint64_t count;
};

struct io_stats {
    /* These are summed up and cleared by their offsets. */
    _Atomic uint64_t commands, connections, errors, reads, writes, net_in_bytes, net_out_bytes;
    _Atomic uint64_t auth_failures, acl_denied, protocol_errors;
    _Atomic uint64_t obuf_closed, qbuf_closed, idle_closed, evicted; /* connections, by the limit that closed them */
    _Atomic uint64_t hits, misses;                                   /* reads of the string facade */
    _Atomic uint64_t fallback_reads, fallback_failed;                /* asked of the primary: it answered, it did not */
    _Atomic uint64_t tls_handshakes, tls_handshakes_failed;          /* of those that came to an end */

    struct error_stat error[STATS_PREFIXES];
    struct command_stat *command; /* commands_count of them */
    _Atomic uint32_t *histogram;  /* LATENCY_BUCKETS for each of these: latency.h */
};

/* Own thread only: when the answer in b behind mark is an error, counts it for the command (may be NULL) and by its
 * prefix. */
void stats_note_error(struct io_stats *s, struct command_stat *cmd, const struct buf *b, size_t mark);
static inline void stats_note_answer(struct io_stats *s, struct command_stat *cmd, const struct buf *b, size_t mark)
{
    if (b->len > b->off + mark && b->mem[b->off + mark] == '-')
        stats_note_error(s, cmd, b, mark);
}

/* Own thread only. */
static inline void stat_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}
static inline uint64_t stat_get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit((_Atomic uint64_t *)(uintptr_t)counter, memory_order_acquire);
}

/* Own thread only. */
void stats_clear(struct io_stats *s);

/* Any thread: the counter at this offset of struct io_stats, over all I/O threads. */
uint64_t stats_sum(struct server *srv, size_t offset);
#define STATS_SUM(srv, counter) stats_sum(srv, offsetof(struct io_stats, counter))

struct command_total {
    uint64_t calls, usec, rejected, failed;
};
void stats_command(struct server *srv, size_t row, struct command_total *out);
/* Calls visit for each error prefix that was counted; at most STATS_PREFIXES of them. */
void stats_errors(struct server *srv, void (*visit)(void *arg, const char *prefix, uint64_t count), void *arg);

#endif
