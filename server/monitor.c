/* monitor.c - see monitor.h. The line is built in the thread's plain scratch buffer: what command_arg_shown() lets
 * through is no secret. No memory for a line means that it is not shown. */
#include "server/monitor.h"

#include <stdio.h>

#include "base/mem.h"
#include "server/command.h"
#include "server/conn_private.h"

struct feed {
    struct io_task task;
    size_t n;
    char line[];
};

static void show(struct io *io, struct bytes line)
{
    for (struct conn *c = io->conns; c; c = c->next) {
        if (!c->monitor || c->state == CONN_DEAD)
            continue;
        struct reply *r = conn_push_begin(c);
        uint8_t *room;
        if (!r->failed)
            r->failed = buf_reserve(r->b, line.n, &room);
        if (!r->failed) {
            memcpy(room, line.p, line.n);
            buf_added(r->b, line.n);
        }
        conn_push_end(c);
    }
}

static void run_feed(struct io_task *task, struct io *io)
{
    struct feed *f = mpsc_entry(task, struct feed, task);
    show(io, bytes_of(f->line, f->n));
    mem_free(f);
}

/* As Redis's sdscatrepr(). */
static enum err put_quoted(struct buf *b, struct bytes s)
{
    static const char plain[] = "\n\r\t\a\b", letters[] = "nrtab";
    enum err e = buf_put_u8(b, '"');
    for (size_t i = 0; i < s.n && !e; i++) {
        const char *special = s.p[i] ? strchr(plain, s.p[i]) : NULL;
        if (s.p[i] == '\\' || s.p[i] == '"')
            e = buf_putf(b, "\\%c", s.p[i]);
        else if (special)
            e = buf_putf(b, "\\%c", letters[special - plain]);
        else if (s.p[i] < 0x20 || s.p[i] > 0x7e)
            e = buf_putf(b, "\\x%02x", s.p[i]);
        else
            e = buf_put_u8(b, s.p[i]);
    }
    return e ? e : buf_put_u8(b, '"');
}

static enum err put_line(const struct call *c, struct buf *b)
{
    enum err e = buf_putf(b, "+%llu.%06llu [%u %s]", (unsigned long long)c->now_ms / 1000,
                          (unsigned long long)(c->now_ms % 1000) * 1000, conn_db(c->conn), conn_peer(c->conn));
    for (unsigned i = 0; i < c->argc && !e; i++) {
        e = buf_put_u8(b, ' ');
        if (!e)
            e = put_quoted(b, command_arg_shown(c->cmd, c->argv, i));
    }
    return e ? e : buf_put(b, "\r\n", 2);
}

void monitor_feed(const struct call *c)
{
    struct buf *b = &c->io->scratch;
    if (c->cmd->flags & CMD_ADMIN)
        return;
    buf_clear(b);
    if (put_line(c, b))
        return;
    for (unsigned i = 0; i < c->srv->io_count; i++) {
        struct io *io = c->srv->io[i];
        if (io == c->io && !c->conn->monitor) { /* a monitor hears of its own command when that is through */
            show(io, buf_bytes(b));
            continue;
        }
        if (!atomic_load_explicit(&io->monitors_shown, memory_order_relaxed))
            continue;
        struct feed *f = mem_alloc(sizeof *f + buf_size(b));
        if (!f)
            continue;
        f->task.run = run_feed;
        f->n = buf_size(b);
        memcpy(f->line, buf_data(b), f->n);
        io_post(io, &f->task);
    }
}

void monitor_add(struct call *c)
{
    conn_set_monitor(c->conn, 1);
    reply_ok(c->reply);
}
