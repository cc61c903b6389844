/* evict.c - see evict.h. A thread keeps its sum itself; others read it. `largest` is what was the largest since the
 * thread looked last, so it may be too much: who wakes the thread for it is woken in turn when it was. */
#include "server/evict.h"

#include "base/log.h"
#include "resp/number.h"

enum err evict_limit(struct config *cfg, uint64_t *out)
{
    int64_t n = 0;
    struct buf text;
    buf_init(&text, 64);
    enum err e = config_text(cfg, CFG_MAXMEMORY_CLIENTS, &text);
    if (!e && buf_size(&text)) {
        struct bytes v = buf_bytes(&text);
        int percent = v.p[v.n - 1] == '%';
        v.n -= (size_t)percent;
        if (!number_parse(v, &n))
            n = 0; /* it was checked when it was set */
        if (percent)
            n = (int64_t)((double)config_int(cfg, CFG_MAXMEMORY) * (double)n / 100);
    }
    buf_fini(&text);
    if (!e)
        *out = (uint64_t)n;
    return e;
}

static uint64_t read_of(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

/* Of the thread's own words. */
static void write_to(_Atomic uint64_t *word, uint64_t n)
{
    atomic_store_explicit(word, n, memory_order_relaxed);
}

void evict_count(struct conn *c)
{
    struct io *io = c->io;
    size_t now = c->state == CONN_DEAD ? 0 : conn_memory(c);
    if (now == c->counted)
        return;
    write_to(&io->clients_bytes, read_of(&io->clients_bytes) + now - c->counted);
    c->counted = now;
    if (now > read_of(&io->largest_bytes) && !c->no_evict)
        write_to(&io->largest_bytes, now);
}

static int too_much(const struct io *io)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < io->srv->io_count; i++)
        sum += read_of(&io->srv->io[i]->clients_bytes);
    return sum > io->clients_limit;
}

static struct conn *largest_of(const struct io *io)
{
    struct conn *largest = NULL;
    for (struct conn *c = io->conns; c; c = c->next)
        if (c->state != CONN_DEAD && !c->no_evict && (!largest || c->counted > largest->counted))
            largest = c;
    return largest;
}

static struct io *who_has_larger(const struct io *io, uint64_t bytes)
{
    for (unsigned i = 0; i < io->srv->io_count; i++)
        if (read_of(&io->srv->io[i]->largest_bytes) > bytes && io->srv->io[i] != io)
            return io->srv->io[i];
    return NULL;
}

void evict_look(struct io *io)
{
    while (io->clients_limit && too_much(io)) {
        struct conn *c = largest_of(io);
        struct io *other;
        write_to(&io->largest_bytes, c ? c->counted : 0);
        if ((other = who_has_larger(io, c ? c->counted : 0)) != NULL) {
            if (!atomic_exchange(&other->evict_posted, 1))
                io_post(other, &other->evict_task);
            return;
        }
        if (!c)
            return;
        log_at(LOG_NOTICE,
               "Evicting client id=%llu addr=%s name=%s: all hold more than maxmemory-clients, it %zu bytes",
               (unsigned long long)c->id, c->peer, c->name.s, c->counted);
        stat_add(&io->stats.evicted, 1);
        conn_kill(c);
    }
}
