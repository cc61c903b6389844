/* conn.c - see conn.h for the states.
 *
 * Happy path: conn_on_read reads up to 64 KiB into the thread's buffer, conn_run parses and dispatches request after
 * request straight from there with answers going to the thread's output buffer, flush() sends them with one call, and
 * both buffers are empty again. A connection's own buffers are touched only by what does not fit: half a request,
 * answers that the socket does not take, input behind a command that has to wait.
 *
 * conn_run() is the only place where a connection makes progress, and does all that can be done: answers pendings that
 * are complete, resumes a held command, parses, writes. It is called when input came, when a pending of the connection
 * completed, when it was woken, when it had used up its share in the turn before, and when the socket takes bytes
 * again.
 *
 * A client that does not read: what it was not sent yet counts (must_read_first), and it is HELD, as behind a pending,
 * until the socket has taken enough. So a small command with a large answer, sent over and over, costs no memory.
 *
 * Input while a command waits: the socket is read on up to CONN_READ_AHEAD_BYTES, to notice the end of file, then not
 * any more; TCP slows the client down. The waiting command's arguments point into the input, which may move meanwhile:
 * they are moved along (rebase) before it is dispatched.
 *
 * End of file: a client may send a pipeline and shut its side down (`printf ... | nc`): what it sent is answered
 * before the connection goes. Only a blocking command, which could wait for ever, is given up at once.
 *
 * TLS: the same paths, one branch at the socket (transport_send, transport_read). What differs is around it: nothing is
 * read before the handshake is over; bytes that wait inside of OpenSSL have no event, so the connection is put on the
 * list of those that have something to do; and a read may wait for the socket to take bytes, or a write for some to
 * come, so each event lets both try.
 *
 * Failures: no memory for leftovers kills the connection, as do limits (query buffer, output buffer, idle). Answers
 * that were not delivered are the client's uncertainty, as ever.
 *
 * Rejected: buffers for each connection (10,000 idle clients would hold 160 MiB of locked memory, and a cache line per
 * byte is colder than two buffers that are always in the cache); writev from blocks (answers are small, a copy costs
 * less than the bookkeeping).
 */
#include "server/conn.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/ahead.h"
#include "server/command.h"
#include "server/conn_private.h"
#include "server/evict.h"
#include "server/multi.h"
#include "server/tracking.h"

#define KEEP_BUFFER_BYTES (4 * CONN_FLUSH_BYTES) /* of the thread's output buffer between turns */
#define CLOSING_MS 60000                         /* for a client to take its last answers */

/* ---- states ---- */

void conn_set_state(struct conn *c, enum conn_state to)
{
    assert(c->state != CONN_DEAD);                       /* for good */
    assert(c->state != CONN_CLOSING || to == CONN_DEAD); /* takes no more commands */
    assert(to != CONN_PARKED || c->park);
    if ((to == CONN_PARKED) != (c->state == CONN_PARKED))
        io_count_blocked(c->io, to == CONN_PARKED ? 1u : -1u);
    c->state = to;
}

static void watch_input(struct conn *c, int on)
{
    if (c->reading == on)
        return;
    c->reading = (uint8_t)on;
    if (on ? event_add(&c->read_ev, NULL) : event_del(&c->read_ev))
        conn_kill(c);
}

void conn_set_monitor(struct conn *c, int on)
{
    struct io *io = c->io;
    if (c->monitor == on)
        return;
    c->monitor = (uint8_t)on;
    io->monitors += on ? 1u : -1u;
    atomic_store_explicit(&io->monitors_shown, io->monitors, memory_order_relaxed);
    atomic_fetch_add(&io->srv->monitors, on ? 1u : -1u);
}

void conn_kill(struct conn *c)
{
    if (c->state == CONN_DEAD)
        return;
    conn_set_state(c, CONN_DEAD);
    event_del(&c->read_ev);
    event_del(&c->write_ev);
    conn_set_monitor(c, 0);
    evict_count(c);
    c->dead_next = c->io->dead;
    c->io->dead = c;
}

void conn_close_after_reply(struct conn *c)
{
    if (c->capture)
        c->close_due = 1;
    else if (c->state != CONN_DEAD && c->state != CONN_CLOSING)
        conn_set_state(c, CONN_CLOSING);
}

/* ---- input ---- */

void conn_input(struct conn *c, uint8_t **p, size_t *n)
{
    *p = c->cur ? c->cur : buf_size(&c->in) ? buf_data(&c->in) : NULL;
    *n = c->cur ? c->cur_n : buf_size(&c->in);
}

static void consume(struct conn *c, size_t n)
{
    if (!c->cur) {
        buf_consume(&c->in, n);
        return;
    }
    c->cur += n;
    c->cur_n -= n;
}

/* The thread's buffer goes to the next connection: what is not parsed moves to the connection's own. */
static void settle_input(struct conn *c, size_t read_bytes)
{
    if (c->cur && c->cur_n && c->state != CONN_DEAD && c->state != CONN_CLOSING) {
        uint8_t *rest = c->cur, *room;
        size_t n = c->cur_n, more = c->state == CONN_READY && c->authenticated ? c->parser.need_bytes : 0;
        c->cur = NULL;
        if (more > CONN_RESERVE_MAX)
            more = CONN_RESERVE_MAX;
        if (buf_reserve_last(&c->in, n + more, &room) || buf_put(&c->in, rest, n)) {
            log_at(LOG_WARNING, "Out of memory for the input of client id=%llu, closing it", (unsigned long long)c->id);
            conn_kill(c);
        }
    }
    c->cur = NULL;
    mem_wipe(c->io->in, read_bytes);
    if (buf_size(&c->in) == 0)
        buf_shrink(&c->in, 0);
}

/* The arguments of the held command after its input has moved. */
static void rebase(struct conn *c)
{
    uint8_t *p;
    size_t n;
    conn_input(c, &p, &n);
    uintptr_t by = (uintptr_t)p - (uintptr_t)c->held_base;
    if (by == 0)
        return;
    for (size_t i = 0; i < c->parser.argc; i++)
        c->parser.argv[i].p = (const uint8_t *)((uintptr_t)c->parser.argv[i].p + by);
    c->held_base = p;
}

/* 1: parser.argv is the next command. 0: none, or the state says why. */
static int parse_next(struct conn *c)
{
    uint8_t *p;
    size_t n, used;
    conn_input(c, &p, &n);
    enum request_status s = n ? request_parse(&c->parser, p, n, &used) : REQUEST_MORE;
    if (s == REQUEST_READY) {
        c->held = 1;
        c->held_base = p;
        c->held_used = used;
        return 1;
    }
    if (s == REQUEST_MORE) {
        if (n)
            consume(c, used);
        if (c->eof)
            conn_set_state(c, CONN_CLOSING);
        return 0;
    }
    if (c->pendings) { /* the error comes after their answers; parsing again says the same */
        conn_set_state(c, CONN_HELD);
        return 0;
    }
    if (s == REQUEST_OOM) {
        reply_error(&c->reply, ERR_OOM);
    } else {
        stat_add(&c->io->stats.protocol_errors, 1);
        log_at(LOG_VERBOSE, "Closing client id=%llu addr=%s: %s", (unsigned long long)c->id, c->peer, c->parser.error);
        reply_error_text(&c->reply, "ERR", bytes_str(c->parser.error));
    }
    conn_set_state(c, CONN_CLOSING);
    return 0;
}

/* ---- output ---- */

static void check_output(struct conn *c)
{
    uint64_t size = buf_size(&c->out);
    const struct obuf_limit *l = &c->io->obuf[c->obuf];
    int hard = l->hard_bytes && size > l->hard_bytes, soft = l->soft_bytes && size > l->soft_bytes;

    if (!soft)
        c->soft_since_ms = 0;
    else if (!c->soft_since_ms)
        c->soft_since_ms = io_tick_ms(c->io);
    if (hard || (soft && io_tick_ms(c->io) - c->soft_since_ms > l->soft_seconds * 1000)) {
        stat_add(&c->io->stats.obuf_closed, 1);
        log_at(LOG_WARNING, "Client id=%llu addr=%s name=%s closed for overcoming of output buffer limits.",
               (unsigned long long)c->id, c->peer, c->name.s);
        conn_kill(c);
    }
}

void conn_wait_writable(struct conn *c)
{
    c->writing = 1;
    if (event_add(&c->write_ev, NULL) != 0)
        conn_kill(c);
}

/* Asks for what the socket's events will not tell. errno stays. */
static ssize_t read_tls(struct conn *c, uint8_t *p, size_t n)
{
    ssize_t got = tls_read(c->tls, p, n);
    int error = errno;
    if (tls_wants(c->tls) == TLS_WRITABLE)
        conn_wait_writable(c);
    if (tls_pending(c->tls))
        io_todo(c);
    errno = error;
    return got;
}

/* The two places where bytes go out and come in. */
static ssize_t transport_send(struct conn *c, const uint8_t *p, size_t n)
{
    ssize_t got;
    if (c->tls)
        return tls_write(c->tls, p, n);
    do
        got = send(c->fd, p, n, MSG_NOSIGNAL);
    while (got < 0 && errno == EINTR);
    return got;
}

static ssize_t transport_read(struct conn *c, uint8_t *p, size_t n)
{
    ssize_t got;
    if (c->tls)
        return read_tls(c, p, n);
    do
        got = read(c->fd, p, n);
    while (got < 0 && errno == EINTR);
    return got;
}

/* Sends from b until it is empty or the socket is full. */
static void send_all(struct conn *c, struct buf *b)
{
    while (buf_size(b) && !c->writing) {
        ssize_t n = transport_send(c, buf_data(b), buf_size(b));
        if (n > 0) {
            buf_consume(b, (size_t)n);
            c->active_ms = io_tick_ms(c->io);
            c->net_out += (uint64_t)n;
            stat_add(&c->io->stats.net_out_bytes, (uint64_t)n);
            continue;
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            conn_kill(c);
            return;
        }
        if (c->tls && tls_wants(c->tls) == TLS_READABLE) { /* conn_on_read lets it try again */
            c->writing = 1;
            watch_input(c, 1);
        } else {
            conn_wait_writable(c);
        }
    }
}

/* Writes what it can; the rest is in the connection's own buffer afterwards. */
static void flush(struct conn *c)
{
    struct buf *b = c->reply.b;
    if (c->state == CONN_DEAD) {
        buf_clear(&c->io->out);
        return;
    }
    if (buf_size(b))
        send_all(c, b);
    if (b == &c->io->out && buf_size(b)) {
        if (c->state != CONN_DEAD && buf_put(&c->out, buf_data(b), buf_size(b))) {
            log_at(LOG_WARNING, "Out of memory for the answers of client id=%llu, closing it",
                   (unsigned long long)c->id);
            conn_kill(c);
        }
        buf_clear(b);
        c->reply.b = &c->out;
    }
    if (buf_size(&c->out) && c->state != CONN_DEAD)
        check_output(c);
    buf_shrink(&c->out, 0);
}

struct reply *conn_push_begin(struct conn *c)
{
    if (c->io->running != c)
        c->reply.b = &c->out;
    return &c->reply;
}

void conn_push_end(struct conn *c)
{
    if (c->reply.failed && c->state != CONN_DEAD)
        conn_kill(c); /* half a push cannot be taken back by now */
    if (c->state != CONN_DEAD && c->reply.b == &c->out && buf_size(&c->out) > CONN_FLUSH_BYTES)
        check_output(c); /* many may come in one turn */
    io_todo(c);
}

/* ---- a server that begins anew ---- */

int conn_stand_still(struct conn *c)
{
    watch_input(c, 0);
    return !c->pendings && !multi_under_way(c);
}

/* Who follows the log has its place in one that is gone: the end tells him. */
int conn_may_stay(const struct conn *c)
{
    return !c->pendings && !multi_under_way(c) && !c->slot[SLOT_FOLLOW].state;
}

void conn_go_on(struct conn *c)
{
    assert(!c->park);
    c->last_lsn = c->round = c->after_lsn = c->shown_lsn = 0;
    multi_spoil(c);
    watch_input(c, !c->eof);
    io_todo(c);
}

/* ---- progress ---- */

static int must_read_first(const struct conn *c)
{
    return buf_size(&c->out) > (c->authenticated ? CONN_UNREAD_BYTES : 0);
}

static int may_begin(const struct conn *c)
{
    return c->state == CONN_READY && (!c->io->stopping || multi_under_way(c));
}

static void serve(struct conn *c)
{
    unsigned share = CONN_TURN_COMMANDS, ahead = 0;
    while (may_begin(c)) {
        if (must_read_first(c)) { /* runs again when the socket takes bytes */
            conn_set_state(c, CONN_HELD);
            return;
        }
        if (!c->held && !parse_next(c))
            return;
        if (share-- == 0) {
            conn_set_state(c, CONN_YIELDED);
            io_todo(c);
            return;
        }
        if (!ahead--)
            ahead = ahead_look(c) - 1;
        switch (dispatch(c)) {
        case DISPATCH_DONE:
            consume(c, c->held_used);
            c->held = 0;
            break;
        case DISPATCH_HOLD:
            conn_set_state(c, CONN_HELD);
            break;
        case DISPATCH_PARK:
            conn_set_state(c, CONN_PARKED);
            break;
        case DISPATCH_AGAIN:
            conn_set_state(c, CONN_YIELDED);
            io_todo(c);
            break;
        }
        if (buf_size(c->reply.b) >= CONN_FLUSH_BYTES)
            flush(c);
    }
}

/* fresh: bytes in the thread's read buffer, 0: none. */
static void run(struct conn *c, size_t fresh)
{
    struct io *io = c->io;
    io->running = c;
    io->mark_us = clock_mono_us();
    c->reply.b = buf_size(&c->out) ? &c->out : &io->out;
    if (c->pendings)
        call_finish_pendings(c);
    if (c->state == CONN_YIELDED || c->state == CONN_HELD) /* HELD may find itself held again */
        conn_set_state(c, CONN_READY);
    if (c->held)
        rebase(c);
    serve(c);
    if (c->tracking & TRACKING_HOLDS)
        tracking_release(c);
    flush(c);
    if (c->state == CONN_HELD && !c->pendings && !must_read_first(c))
        io_todo(c); /* all was sent, so no event will come of it */
    settle_input(c, fresh);
    io->running = NULL;
    buf_shrink(&io->out, KEEP_BUFFER_BYTES);
    if (c->state == CONN_CLOSING && !c->pendings && buf_size(&c->out) == 0)
        conn_kill(c);
    if (c->state == CONN_READY && !c->eof && !io->stopping)
        watch_input(c, 1);
    evict_count(c);
}

void conn_run(struct conn *c)
{
    run(c, 0);
    if (c->tls && tls_pending(c->tls) && c->reading && c->state != CONN_DEAD)
        conn_on_read(c->fd, EV_READ, c);
}

static void on_eof(struct conn *c)
{
    const struct pending *p = c->last;
    c->eof = 1;
    watch_input(c, 0);
    if (p && p->cmd && p->cmd->flags & CMD_BLOCKING)
        conn_kill(c);
    else if (c->state != CONN_DEAD)
        conn_run(c);
}

/* Room in the connection's own buffer: behind what is there, for the argument under way. NULL: killed. A short rest and
 * what is read behind it fit CONN_READ_BYTES together: locked memory beyond that is a mapping of its own (base/mem.c),
 * which costs more than the requests in it. */
static uint8_t *room_behind(struct conn *c, size_t *n)
{
    uint8_t *room;
    size_t have = buf_size(&c->in), want = c->held ? 0 : c->parser.need_bytes;
    size_t least = have < CONN_READ_BYTES / 2 ? CONN_READ_BYTES - have : CONN_READ_BYTES;
    if (!c->authenticated)
        want = least = CONN_UNAUTH_READ_BYTES;
    if (want > 1 && c->in.cap - c->in.len >= want) /* the rest of the argument */
        least = c->in.cap - c->in.len;
    *n = want < least ? least : want > CONN_RESERVE_MAX ? CONN_RESERVE_MAX : want;
    int all = *n == want && want >= have; /* of an argument; it may be large, and locked memory is scarce */
    if ((all ? buf_reserve_last(&c->in, *n, &room) : buf_reserve(&c->in, *n, &room)) == ERR_OK)
        return room;
    log_at(LOG_WARNING, "Out of memory for the input of client id=%llu, closing it", (unsigned long long)c->id);
    conn_kill(c);
    return NULL;
}

void conn_on_read(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    struct io *io = c->io;
    size_t room = CONN_READ_BYTES;
    (void)fd;
    (void)what;

    io_clock(io);
    if (c->state == CONN_YIELDED || c->state == CONN_DEAD || (c->handshake && !conn_handshake(c)))
        return;
    if (c->tls && c->writing) { /* what could not be written may have waited for this */
        event_del(&c->write_ev);
        c->writing = 0;
        io_todo(c);
    }
    int own = buf_size(&c->in) > 0 || c->state != CONN_READY;
    uint8_t *p = own ? room_behind(c, &room) : io->in;
    if (!p)
        return;
    ssize_t n = transport_read(c, p, room);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return;
    if (n < 0) {
        conn_kill(c);
        return;
    }
    if (n == 0) {
        on_eof(c);
        return;
    }
    c->active_ms = io_tick_ms(io);
    c->net_in += (uint64_t)n;
    stat_add(&io->stats.net_in_bytes, (uint64_t)n);
    stat_add(&io->stats.reads, 1);
    if (c->state == CONN_CLOSING) {
        mem_wipe(p, (size_t)n); /* read and dropped, so that the client gets its answer instead of a reset */
        return;
    }
    if (!own) {
        c->cur = p;
        c->cur_n = (size_t)n;
        run(c, (size_t)n);
        return;
    }
    buf_added(&c->in, (size_t)n);
    if (buf_size(&c->in) > io->query_limit) {
        stat_add(&io->stats.qbuf_closed, 1);
        log_at(LOG_WARNING, "Closing client id=%llu addr=%s that reached max query buffer length",
               (unsigned long long)c->id, c->peer);
        conn_kill(c);
        return;
    }
    if (c->state == CONN_READY)
        run(c, 0);
    else if (buf_size(&c->in) >= CONN_READ_AHEAD_BYTES)
        watch_input(c, 0);
    evict_count(c);
}

void conn_on_write(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    (void)fd;
    (void)what;
    io_clock(c->io);
    c->writing = 0;
    if (c->tls && c->reading) /* a handshake, or a read, that had to write first */
        conn_on_read(c->fd, EV_READ, c);
    if (c->state != CONN_DEAD && !c->handshake)
        conn_run(c);
}

void conn_check_limits(struct conn *c)
{
    struct io *io = c->io;
    int idle =
        !c->pendings && (c->state == CONN_READY || c->state == CONN_HELD) && c->obuf == OBUF_NORMAL && !c->monitor;
    uint64_t now = io_tick_ms(io);
    if (c->handshake) {
        conn_check_handshake(c);
        return;
    }
    if (idle && io->idle_ms && now > c->active_ms + io->idle_ms) {
        stat_add(&io->stats.idle_closed, 1);
        log_at(LOG_VERBOSE, "Closing idle client id=%llu addr=%s", (unsigned long long)c->id, c->peer);
        conn_kill(c);
        return;
    }
    if (c->state == CONN_CLOSING && now > c->active_ms + CLOSING_MS) {
        conn_kill(c);
        return;
    }
    if (buf_size(&c->out))
        check_output(c);
}
