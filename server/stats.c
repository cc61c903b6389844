/* stats.c - errors by prefix, and sums over threads; see stats.h. */
#include "server/stats.h"

#include <string.h>

#include "server/command.h"
#include "server/io.h"
#include "server/latency.h"
#include "server/server.h"

void stats_note_error(struct io_stats *s, struct command_stat *cmd, const struct buf *b, size_t mark)
{
    const uint8_t *p = b->mem + b->off + mark + 1;
    size_t max = b->len - (b->off + mark + 1), n = 0;

    while (n < max && n < STATS_PREFIX_BYTES - 1 && p[n] != ' ' && p[n] != '\r')
        n++;
    if (cmd)
        stat_add(&cmd->failed, 1);
    stat_add(&s->errors, 1);
    for (unsigned i = 0; i < STATS_PREFIXES; i++) {
        struct error_stat *e = &s->error[i];
        if (e->prefix[0] == 0) {
            memcpy(e->prefix, p, n);
            e->prefix[n] = 0;
            atomic_store_explicit(&e->count, 1, memory_order_release);
            return;
        }
        if (strncmp(e->prefix, (const char *)p, n) == 0 && e->prefix[n] == 0) {
            stat_add(&e->count, 1);
            return;
        }
    }
}

void stats_clear(struct io_stats *s)
{
    _Atomic uint64_t *counter = (_Atomic uint64_t *)(void *)s;
    for (size_t i = 0; i < offsetof(struct io_stats, error) / sizeof *counter; i++)
        atomic_store_explicit(&counter[i], 0, memory_order_relaxed);
    for (unsigned i = 0; i < STATS_PREFIXES; i++)
        atomic_store_explicit(&s->error[i].count, 0, memory_order_relaxed);
    for (size_t i = 0; i < commands_count; i++) {
        struct command_stat *c = &s->command[i];
        atomic_store_explicit(&c->calls, 0, memory_order_relaxed);
        atomic_store_explicit(&c->usec, 0, memory_order_relaxed);
        atomic_store_explicit(&c->rejected, 0, memory_order_relaxed);
        atomic_store_explicit(&c->failed, 0, memory_order_relaxed);
    }
    for (size_t i = 0; i < commands_count * LATENCY_BUCKETS; i++)
        atomic_store_explicit(&s->histogram[i], 0, memory_order_relaxed);
}

uint64_t stats_sum(struct server *srv, size_t offset)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < srv->io_count; i++)
        sum += stat_get((_Atomic uint64_t *)(void *)((char *)io_stats(srv->io[i]) + offset));
    return sum;
}

void stats_command(struct server *srv, size_t row, struct command_total *out)
{
    *out = (struct command_total){0};
    for (unsigned i = 0; i < srv->io_count; i++) {
        const struct command_stat *c = &io_stats(srv->io[i])->command[row];
        out->calls += stat_get(&c->calls);
        out->usec += stat_get(&c->usec);
        out->rejected += stat_get(&c->rejected);
        out->failed += stat_get(&c->failed);
    }
}

void stats_errors(struct server *srv, void (*visit)(void *arg, const char *prefix, uint64_t count), void *arg)
{
    struct {
        char prefix[STATS_PREFIX_BYTES];
        uint64_t count;
    } total[STATS_PREFIXES];
    unsigned n = 0;

    for (unsigned i = 0; i < srv->io_count; i++) {
        for (unsigned k = 0; k < STATS_PREFIXES; k++) {
            struct error_stat *e = &io_stats(srv->io[i])->error[k];
            uint64_t count = stat_get(&e->count);
            unsigned at = 0;
            if (count == 0) /* never used, or cleared: then its prefix may be empty */
                continue;
            while (at < n && strcmp(total[at].prefix, e->prefix) != 0)
                at++;
            if (at == STATS_PREFIXES)
                continue;
            if (at == n) {
                memcpy(total[n].prefix, e->prefix, sizeof total[n].prefix);
                total[n++].count = 0;
            }
            total[at].count += count;
        }
    }
    for (unsigned i = 0; i < n; i++)
        visit(arg, total[i].prefix, total[i].count);
}
