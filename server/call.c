/* call.c - errors, pending answers, parked commands; see call.h.
 *
 * Pendings. A connection's pendings form a queue in the order in which their commands came. pending_complete() (io.c)
 * only pushes the node to its I/O thread; there call_completed() marks it and puts the connection on the list of things
 * to do, and call_finish_pendings() answers from the front of the queue as far as it is complete. So answers keep the
 * pipeline's order whatever the order of completion, and a hundred completions for one connection cost one write.
 *
 * When the client goes first, its pendings lose their pointer to it (call_drop_pendings). They come back all the same
 * and are released then: memory is given back only after the engine or the HSM has let go of it.
 *
 * Parking. A lost wake-up would park a command for ever: the handler looks (the key is not there), the key comes and
 * wakes the list, the handler parks. Therefore each wake gets a number from one counter, kept with the list, and a
 * dispatch notes the counter before its handler looks: call_park() on a list with a newer number does not park but lets
 * the command run again. The counter is read with acquire and written with release, so a dispatch that saw the wake's
 * number also sees what the wake was for.
 */
#include "server/call.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "server/command.h"
#include "server/conn_private.h"
#include "server/slowlog.h"

enum call_result call_error(struct call *c, enum err e)
{
    reply_error(c->reply, e);
    return CALL_DONE;
}

enum call_result call_errorf(struct call *c, enum err e, const char *fmt, ...)
{
    char text[REPLY_ERROR_MAX_BYTES + 1];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    reply_error_text(c->reply, err_prefix(e), bytes_str(n < 0 ? fmt : text));
    mem_wipe(text, n < 0 || (size_t)n >= sizeof text ? sizeof text : (size_t)n); /* may quote an argument */
    return CALL_DONE;
}

/* ---- pending answers ---- */

#define PENDING_OVERHEAD_BYTES 1024 /* the handler's struct, blocks rounded up */

static void note_args(struct call *c, struct pending *p)
{
    for (unsigned i = 1; i < c->argc && i <= 2; i++) {
        struct bytes a = command_arg_shown(c->cmd, c->argv, i);
        size_t n = a.n < sizeof p->note - p->note_n ? a.n : sizeof p->note - p->note_n;
        if (n)
            memcpy(p->note + p->note_n, a.p, n);
        if (i == 2)
            p->note_second = p->note_n;
        p->note_n = (uint8_t)(p->note_n + n);
    }
    if (c->argc <= 2)
        p->note_second = p->note_n;
}

void call_pending(struct call *c, struct pending *p, void (*finish)(struct pending *, struct reply *),
                  void (*release)(struct pending *))
{
    struct conn *conn = c->conn;
    p->io = c->io;
    p->conn = conn;
    p->cmd = c->cmd;
    p->finish = finish;
    p->release = release;
    p->gone = NULL;
    p->next = NULL;
    p->started_us = c->io->mark_us;
    p->complete = p->note_n = 0;
    p->bytes = conn->held_used + PENDING_OVERHEAD_BYTES;
    conn->pending_bytes += p->bytes;
    atomic_fetch_add_explicit(&c->io->srv->pending_bytes, p->bytes, memory_order_relaxed);
    p->mute = conn->reply_mode == REPLY_OFF || conn->reply_mode == REPLY_SKIP;
    note_args(c, p);
    if (conn->last)
        conn->last->next = p;
    else
        conn->first = p;
    conn->last = p;
    conn->pendings++;
    if (c->cmd->flags & CMD_BLOCKING)
        io_count_blocked(c->io, 1);
    conn->lane = (uint8_t)c->cmd->lane;
}

/* An answer that was ready at once, behind others that are not. */
struct answer_pending {
    struct pending p;
    struct buf b;
};

static void finish_answer(struct pending *p, struct reply *r)
{
    struct answer_pending *a = (struct answer_pending *)(void *)p;
    uint8_t *room;
    if (!r->failed)
        r->failed = buf_reserve(r->b, buf_size(&a->b), &room);
    if (r->failed)
        return;
    memcpy(room, buf_data(&a->b), buf_size(&a->b));
    buf_added(r->b, buf_size(&a->b));
}

static void release_answer(struct pending *p)
{
    struct answer_pending *a = (struct answer_pending *)(void *)p;
    buf_fini(&a->b);
    mem_free(a);
}

static void pop(struct conn *c)
{
    struct pending *p = c->first;
    c->first = p->next;
    if (!c->first)
        c->last = NULL;
    c->pendings--;
    if (p->cmd && p->cmd->flags & CMD_BLOCKING)
        io_count_blocked(c->io, -1u);
    c->answered++;
    c->pending_bytes -= p->bytes;
}

static void release(struct pending *p)
{
    atomic_fetch_sub_explicit(&p->io->srv->pending_bytes, p->bytes, memory_order_relaxed);
    p->release(p);
}

static void count_finished(struct io *io, struct pending *p, const struct reply *r, size_t mark)
{
    uint64_t now = clock_mono_us(), usec = now - p->started_us;
    dispatch_count(io, p->cmd, usec);
    stats_note_answer(&io->stats, &io->stats.command[command_index(p->cmd)], r->b, mark);
    if (io->slower_than_us >= 0 && usec >= (uint64_t)io->slower_than_us && io->srv->slowlog)
        slowlog_add_pending(io->srv->slowlog, p, usec);
}

void call_finish_pendings(struct conn *c)
{
    while (c->first && c->first->complete && c->state != CONN_DEAD) {
        struct pending *p = c->first;
        struct reply *r = c->capture ? c->capture : &c->reply;
        size_t mark = reply_mark(r);
        p->finish(p, r);
        if (c->reply.failed)
            dispatch_mend_reply(c, mark);
        if (p->finish != finish_answer && !p->part) /* counted when it was given, will be counted */
            count_finished(c->io, p, r, mark);
        if (p->mute && c->state != CONN_DEAD && !c->capture)
            reply_rewind(r, mark);
        pop(c);
        release(p);
    }
}

void call_drop_pendings(struct conn *c)
{
    while (c->first) {
        struct pending *p = c->first;
        pop(c);
        p->conn = NULL;
        if (p->complete)
            release(p);
        else if (p->gone)
            p->gone(p);
    }
}

void call_completed(struct io *io)
{
    struct mpsc_node *n = mpsc_take(&io->done);
    while (n) {
        struct pending *p = mpsc_entry(n, struct pending, node);
        n = n->next;
        p->complete = 1;
        if (p->conn)
            io_todo(p->conn); /* a dead one will drop it */
        else
            release(p);
    }
}

enum err call_queue_answer(struct conn *c, const struct command *cmd, struct buf *b)
{
    struct call call = {.io = c->io, .conn = c, .cmd = cmd};
    struct answer_pending *a = mem_alloc(sizeof *a);
    if (!a)
        return ERR_OOM;
    buf_init_secret(&a->b, SIZE_MAX / 4);
    enum err e = buf_put(&a->b, buf_data(b), buf_size(b));
    if (e) {
        mem_free(a);
        return e;
    }
    buf_clear(b);
    call_pending(&call, &a->p, finish_answer, release_answer);
    a->p.complete = 1;
    return ERR_OK;
}

/* ---- parked commands ---- */

struct waitlist {
    pthread_mutex_t lock;
    struct park *parked;
    uint64_t woken; /* number of the newest wake */
};

static _Atomic uint64_t wakes;

uint64_t call_wakes(void)
{
    return atomic_load_explicit(&wakes, memory_order_acquire);
}

enum err waitlist_new(struct waitlist **out)
{
    struct waitlist *w = *out = mem_zalloc(sizeof *w);
    if (!w)
        return ERR_OOM;
    pthread_mutex_init(&w->lock, NULL);
    return ERR_OK;
}

void waitlist_free(struct waitlist *w)
{
    if (!w)
        return;
    waitlist_wake(w);
    pthread_mutex_destroy(&w->lock);
    mem_free(w);
}

/* On the connection's I/O thread. */
static void unpark(struct io_task *task, struct io *io)
{
    struct park *p = mpsc_entry(task, struct park, task);
    struct conn *c = p->conn;
    (void)io;
    if (c) {
        assert(c->park == p);
        c->park = NULL;
        if (c->state == CONN_PARKED) {
            conn_set_state(c, CONN_READY);
            io_todo(c);
        }
    }
    mem_free(p);
}

enum call_result call_park(struct call *c, struct waitlist *w)
{
    struct conn *conn = c->conn;
    struct park *p = mem_alloc(sizeof *p);
    assert(!conn->park);
    if (!p)
        return call_error(c, ERR_OOM);
    *p = (struct park){.task.run = unpark, .io = c->io, .conn = conn};
    pthread_mutex_lock(&w->lock);
    int missed = w->woken > c->wakes;
    if (!missed) {
        p->next = w->parked;
        w->parked = p;
    }
    pthread_mutex_unlock(&w->lock);
    if (missed)
        mem_free(p);
    else
        conn->park = p;
    return CALL_PARK;
}

void waitlist_wake(struct waitlist *w)
{
    pthread_mutex_lock(&w->lock);
    struct park *p = w->parked;
    w->parked = NULL;
    w->woken = atomic_fetch_add_explicit(&wakes, 1, memory_order_acq_rel) + 1;
    pthread_mutex_unlock(&w->lock);
    while (p) {
        struct park *next = p->next;
        io_post(p->io, &p->task);
        p = next;
    }
}
