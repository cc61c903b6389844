/* cmd_latency.c - LATENCY. */
#include <stdio.h>
#include <strings.h>

#include "server/command.h"
#include "server/conn_private.h"
#include "server/handlers.h"
#include "server/latency.h"

/* LATENCY_EVENTS: no such event. */
static enum latency_event event_of(struct bytes word)
{
    unsigned k = 0;
    while (k < LATENCY_EVENTS && (word.n != strlen(latency_event_names[k]) ||
                                  strncasecmp((const char *)word.p, latency_event_names[k], word.n) != 0))
        k++;
    return (enum latency_event)k;
}

enum call_result latency_latest(struct call *c)
{
    latency_reply_latest(c->srv->latency, c->reply);
    return CALL_DONE;
}

enum call_result latency_history(struct call *c)
{
    enum latency_event k = event_of(c->argv[2]);
    if (k == LATENCY_EVENTS)
        reply_array(c->reply, 0);
    else
        latency_reply_history(c->srv->latency, k, c->reply);
    return CALL_DONE;
}

enum call_result latency_reset_cmd(struct call *c)
{
    int64_t n = 0;
    for (unsigned k = 0; c->argc == 2 && k < LATENCY_EVENTS; k++)
        n += latency_reset(c->srv->latency, (enum latency_event)k);
    for (unsigned i = 2; i < c->argc; i++) {
        enum latency_event k = event_of(c->argv[i]);
        n += k < LATENCY_EVENTS ? latency_reset(c->srv->latency, k) : 0;
    }
    reply_int(c->reply, n);
    return CALL_DONE;
}

enum call_result latency_doctor(struct call *c)
{
    struct buf *b = &c->io->scratch;
    buf_clear(b);
    enum err e = latency_advise(c->srv->latency, b);
    if (e)
        return call_error(c, e);
    reply_verbatim(c->reply, "txt", buf_bytes(b));
    return CALL_DONE;
}

enum call_result latency_graph(struct call *c)
{
    struct buf *b = &c->io->scratch;
    enum latency_event k = event_of(c->argv[2]);
    buf_clear(b);
    enum err e = k < LATENCY_EVENTS ? latency_draw(c->srv->latency, k, c->now_ms / 1000, b) : ERR_NOTFOUND;
    if (e == ERR_NOTFOUND)
        return call_errorf(c, e, "No samples available for event '%.*s'", (int)(c->argv[2].n < 64 ? c->argv[2].n : 64),
                           (const char *)c->argv[2].p);
    if (e)
        return call_error(c, e);
    reply_verbatim(c->reply, "txt", buf_bytes(b));
    return CALL_DONE;
}

/* 1: the command was called, and its histogram is in the reply. */
static size_t put_histogram(struct call *c, const struct command *cmd)
{
    uint64_t h[LATENCY_BUCKETS], seen = 0, shown = 0;
    char name[COMMAND_NAME_MAX];
    latency_sum(c->srv, command_index(cmd), h);
    uint64_t calls = latency_calls(h);
    if (!calls)
        return 0;
    reply_bulk(c->reply, bytes_of(name, command_lower(cmd, name)));
    reply_map(c->reply, 2);
    reply_bulk_str(c->reply, "calls");
    reply_int(c->reply, (int64_t)calls);
    reply_bulk_str(c->reply, "histogram_usec");
    size_t mark = reply_mark(c->reply), pairs = 0;
    for (unsigned b = 0; b < LATENCY_BUCKETS; b++) { /* one bucket shown to a power of two, how many up to it */
        uint64_t top = latency_bucket_top(b) + 1;
        seen += h[b];
        if (((top & (top - 1)) == 0 || b == LATENCY_BUCKETS - 1) && seen > shown) {
            reply_int(c->reply, (int64_t)top);
            reply_int(c->reply, (int64_t)seen);
            pairs++;
            shown = seen;
        }
    }
    reply_insert_map(c->reply, mark, pairs);
    return 1;
}

enum call_result latency_histogram(struct call *c)
{
    size_t mark = reply_mark(c->reply), n = 0;
    for (size_t i = 0; c->argc == 2 && i < commands_count; i++)
        n += put_histogram(c, &commands[i]);
    for (unsigned i = 2; i < c->argc; i++) {
        const struct command *cmd = command_by_name(c->argv[i]);
        if (!cmd)
            continue;
        n += put_histogram(c, cmd);
        for (size_t k = 0; k < commands_count; k++)
            n += command_is_sub(cmd, &commands[k]) ? put_histogram(c, &commands[k]) : 0;
    }
    reply_insert_map(c->reply, mark, n);
    return CALL_DONE;
}
