/* conn.c - see conn.h for the states.
 *
 * Happy path: on_read reads up to 64 KiB into the thread's buffer, conn_run parses and dispatches request after request
 * straight from there with answers going to the thread's output buffer, flush() sends them with one call, and both buffers are empty
 * again. A connection's own buffers are touched only by what does not fit: half a request, answers that the socket does not
 * take, input behind a command that has to wait.
 *
 * conn_run() is the only place where a connection makes progress, and does all that can be done: answers pendings that are
 * complete, resumes a held command, parses, writes. It is called when input came, when a pending of the connection completed, when it was woken,
 * when it had used up its share in the turn before, and when the socket takes bytes again.
 *
 * Input while a command waits: the socket is read on up to CONN_READ_AHEAD_BYTES, to notice the end of file, then not any more;
 * TCP slows the client down. The waiting command's arguments point into the input, which may move meanwhile: they are
 * moved along (rebase) before it is dispatched.
 *
 * End of file: a client may send a pipeline and shut its side down (`printf ... | nc`): what it sent is answered
 * before the connection goes. Only a blocking command, which could wait for ever, is given up at once.
 *
 * Failures: no memory for leftovers kills the connection, as do limits (query buffer, output buffer, idle). Answers that were
 * not delivered are the client's uncertainty, as ever.
 *
 * Rejected: buffers for each connection (10,000 idle clients would hold 160 MiB of locked memory, and a cache line per byte is colder
 * than two buffers that are always in the cache); writev from blocks (answers are small, a copy costs less than the bookkeeping).
 */
#include "server/conn.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/acl.h"
#include "server/command.h"
#include "server/conn_private.h"

#define KEEP_BUFFER_BYTES 65536 /* of the thread's output buffer between turns */
#define CLOSING_MS 60000        /* for a client to take its last answers */

/* ---- states ---- */

void conn_set_state(struct conn *c, enum conn_state to)
{
    assert(c->state != CONN_DEAD);                              /* for good */
    assert(c->state != CONN_CLOSING || to == CONN_DEAD);        /* takes no more commands */
    assert(to != CONN_PARKED || c->park);
    if ((to == CONN_PARKED) != (c->state == CONN_PARKED)) {
        c->io->parked += to == CONN_PARKED ? 1u : -1u;
        atomic_store_explicit(&c->io->parked_shown, c->io->parked, memory_order_relaxed);
    }
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
    c->dead_next = c->io->dead;
    c->io->dead = c;
}

void conn_close_after_reply(struct conn *c)
{
    if (c->state != CONN_DEAD && c->state != CONN_CLOSING)
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
        uint8_t *rest = c->cur;
        size_t n = c->cur_n;
        c->cur = NULL;
        if (buf_put(&c->in, rest, n)) {
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
        c->soft_since_ms = c->io->now_ms;
    if (hard || (soft && c->io->now_ms - c->soft_since_ms > l->soft_seconds * 1000)) {
        stat_add(&c->io->stats.obuf_closed, 1);
        log_at(LOG_WARNING, "Client id=%llu addr=%s name=%s closed for overcoming of output buffer limits.", (unsigned long long)c->id,
               c->peer, c->name.s);
        conn_kill(c);
    }
}

/* The one place that sends: where another transport would go. */
static ssize_t transport_send(struct conn *c, const uint8_t *p, size_t n)
{
    ssize_t got;
    do
        got = send(c->fd, p, n, MSG_NOSIGNAL);
    while (got < 0 && errno == EINTR);
    return got;
}

static ssize_t transport_read(struct conn *c, uint8_t *p, size_t n)
{
    ssize_t got;
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
            c->net_out += (uint64_t)n;
            stat_add(&c->io->stats.net_out_bytes, (uint64_t)n);
            continue;
        }
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            conn_kill(c);
            return;
        }
        c->writing = 1;
        if (event_add(&c->write_ev, NULL) != 0)
            conn_kill(c);
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
            log_at(LOG_WARNING, "Out of memory for the answers of client id=%llu, closing it", (unsigned long long)c->id);
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
    io_todo(c);
}

/* ---- progress ---- */

static void serve(struct conn *c)
{
    unsigned share = CONN_TURN_COMMANDS;
    while (c->state == CONN_READY) {
        if (!c->held && !parse_next(c))
            return;
        if (share-- == 0) {
            conn_set_state(c, CONN_YIELDED);
            io_todo(c);
            return;
        }
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
    if (c->state == CONN_YIELDED || (c->state == CONN_HELD && !c->pendings))
        conn_set_state(c, CONN_READY);
    if (c->held)
        rebase(c);
    serve(c);
    flush(c);
    settle_input(c, fresh);
    io->running = NULL;
    buf_shrink(&io->out, KEEP_BUFFER_BYTES);
    if (c->state == CONN_CLOSING && !c->pendings && buf_size(&c->out) == 0)
        conn_kill(c);
    if (c->state == CONN_READY && !c->eof)
        watch_input(c, 1);
}

void conn_run(struct conn *c)
{
    run(c, 0);
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

/* Room in the connection's own buffer: behind what is there, for the argument under way. NULL: killed. */
static uint8_t *room_behind(struct conn *c, size_t *n)
{
    uint8_t *room;
    size_t want = c->held ? 0 : c->parser.need_bytes;
    *n = want < CONN_READ_BYTES ? CONN_READ_BYTES : want > CONN_RESERVE_MAX ? CONN_RESERVE_MAX : want;
    if (buf_reserve(&c->in, *n, &room) == ERR_OK)
        return room;
    log_at(LOG_WARNING, "Out of memory for the input of client id=%llu, closing it", (unsigned long long)c->id);
    conn_kill(c);
    return NULL;
}

static void on_read(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    struct io *io = c->io;
    size_t room = CONN_READ_BYTES;
    (void)fd;
    (void)what;

    io_clock(io);
    if (c->state == CONN_YIELDED || c->state == CONN_DEAD)
        return;
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
    c->active_ms = io->now_ms;
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
        log_at(LOG_WARNING, "Closing client id=%llu addr=%s that reached max query buffer length", (unsigned long long)c->id, c->peer);
        conn_kill(c);
        return;
    }
    if (c->state == CONN_READY)
        run(c, 0);
    else if (buf_size(&c->in) >= CONN_READ_AHEAD_BYTES)
        watch_input(c, 0);
}

static void on_write(evutil_socket_t fd, short what, void *arg)
{
    struct conn *c = arg;
    (void)fd;
    (void)what;
    io_clock(c->io);
    c->writing = 0;
    if (c->state != CONN_DEAD)
        conn_run(c);
}

void conn_check_limits(struct conn *c)
{
    struct io *io = c->io;
    int idle = !c->pendings && c->state == CONN_READY && c->obuf == OBUF_NORMAL && !c->monitor;
    if (idle && io->idle_ms && io->now_ms > c->active_ms + io->idle_ms) {
        stat_add(&io->stats.idle_closed, 1);
        log_at(LOG_VERBOSE, "Closing idle client id=%llu addr=%s", (unsigned long long)c->id, c->peer);
        conn_kill(c);
        return;
    }
    if (c->state == CONN_CLOSING && io->now_ms > c->active_ms + CLOSING_MS) {
        conn_kill(c);
        return;
    }
    if (buf_size(&c->out))
        check_output(c);
}

/* ---- life ---- */

static void put_address(char *out, const struct sockaddr_storage *a)
{
    char ip[INET6_ADDRSTRLEN] = "?";
    if (a->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)a;
        inet_ntop(AF_INET, &in->sin_addr, ip, sizeof ip);
        snprintf(out, CONN_PEER_BYTES, "%s:%u", ip, ntohs(in->sin_port));
    } else if (a->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)a;
        inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof ip);
        snprintf(out, CONN_PEER_BYTES, "[%s]:%u", ip, ntohs(in6->sin6_port));
    }
}

static void name_ends(struct conn *c)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    if (c->transport == IO_UNIX) {
        snprintf(c->peer, sizeof c->peer, "%.*s:0", CONN_PEER_BYTES - 3, config_str(c->io->srv->config, CFG_UNIXSOCKET));
        memcpy(c->local, c->peer, sizeof c->local);
        return;
    }
    snprintf(c->peer, sizeof c->peer, "?:0");
    snprintf(c->local, sizeof c->local, "?:0");
    if (getpeername(c->fd, (struct sockaddr *)&a, &n) == 0)
        put_address(c->peer, &a);
    n = sizeof a;
    if (getsockname(c->fd, (struct sockaddr *)&a, &n) == 0)
        put_address(c->local, &a);
}

/* Refused options cost comfort only. */
static void tune_socket(struct conn *c)
{
    int on = 1, interval = (int)config_int(c->io->srv->config, CFG_TCP_KEEPALIVE), probe = interval / 3 ? interval / 3 : 1, count = 3;
    if (c->transport != IO_TCP)
        return;
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!interval)
        return;
    (void)setsockopt(c->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPIDLE, &interval, sizeof interval);
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPINTVL, &probe, sizeof probe);
    (void)setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

static void show_counts(struct io *io)
{
    atomic_store_explicit(&io->conn_count_shown, io->conn_count, memory_order_relaxed);
}

enum err conn_new(struct io *io, int fd, enum io_transport transport, struct conn **out)
{
    *out = NULL;
    struct conn *c = mem_zalloc(sizeof *c);
    if (!c)
        return ERR_OOM;
    c->io = io;
    c->fd = fd;
    c->transport = (uint8_t)transport;
    c->id = atomic_fetch_add(&io->srv->next_client_id, 1) + 1;
    buf_init_secret(&c->in, SIZE_MAX / 4);
    buf_init_secret(&c->out, SIZE_MAX / 4);
    request_parser_init(&c->parser, &io->limits_unauth);
    reply_init(&c->reply, &c->out, 2);
    c->created_ms = c->active_ms = io->now_ms;
    name_ends(c);
    conn_reset(c);
    if (event_assign(&c->read_ev, io->base, fd, EV_READ | EV_PERSIST, on_read, c) != 0 ||
        event_assign(&c->write_ev, io->base, fd, EV_WRITE, on_write, c) != 0 || event_add(&c->read_ev, NULL) != 0) {
        acl_user_unref(c->user);
        mem_free(c);
        return ERR_OOM;
    }
    c->reading = 1;
    tune_socket(c);
    c->next = io->conns;
    if (c->next)
        c->next->prev = c;
    io->conns = c;
    io->conn_count++;
    show_counts(io);
    stat_add(&io->stats.connections, 1);
    *out = c;
    return ERR_OK;
}

static void drop_slots(struct conn *c)
{
    for (unsigned k = 0; k < CONN_SLOTS; k++)
        conn_set_slot(c, (enum conn_slot)k, NULL, NULL);
}

void conn_free(struct conn *c)
{
    struct io *io = c->io;
    assert(c->state == CONN_DEAD && !c->on_todo && io->running != c);
    call_drop_pendings(c);
    if (c->park)
        c->park->conn = NULL;
    drop_slots(c);
    acl_user_unref(c->user);
    buf_fini(&c->in);
    buf_fini(&c->out);
    request_parser_fini(&c->parser);
    close(c->fd); /* nothing was promised about bytes that are still in the socket */
    if (c->prev)
        c->prev->next = c->next;
    else
        io->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    io->conn_count--;
    show_counts(io);
    atomic_fetch_sub(&io->srv->clients, 1);
    mem_free(c);
}

void conn_set_user(struct conn *c, struct acl_user *u, int authenticated)
{
    acl_user_unref(c->user);
    c->user = u;
    c->authenticated = (uint8_t)authenticated;
    c->acl_epoch = acl_epoch(c->io->srv->acl);
    c->parser.limits = authenticated ? &c->io->limits : &c->io->limits_unauth;
}

void conn_reset(struct conn *c)
{
    drop_slots(c);
    struct acl_user *u = acl_default(c->io->srv->acl);
    conn_set_user(c, u, acl_user_nopass(u) && acl_user_enabled(u));
    c->db = 0;
    c->proto = 2;
    c->reply.proto = 2;
    c->reply_mode = REPLY_ON;
    c->no_evict = c->no_touch = 0;
    c->obuf = OBUF_NORMAL;
    c->name.n = 0;
    c->name.s[0] = 0;
    conn_set_monitor(c, 0);
}

/* ---- what handlers ask ---- */

uint64_t conn_id(const struct conn *c)
{
    return c->id;
}

struct io *conn_io(const struct conn *c)
{
    return c->io;
}

unsigned conn_db(const struct conn *c)
{
    return c->db;
}

void conn_set_db(struct conn *c, unsigned db)
{
    c->db = db;
}

int conn_proto(const struct conn *c)
{
    return c->proto;
}

void conn_set_proto(struct conn *c, int proto)
{
    c->proto = (uint8_t)proto;
    c->reply.proto = proto;
}

const struct acl_user *conn_user(const struct conn *c)
{
    return c->user;
}

int conn_authenticated(const struct conn *c)
{
    return c->authenticated;
}

const char *conn_peer(const struct conn *c)
{
    return c->peer;
}

int conn_is_local(const struct conn *c)
{
    return c->transport == IO_UNIX || strncmp(c->peer, "127.", 4) == 0 || strncmp(c->peer, "[::1]:", 6) == 0;
}

uint64_t conn_last_lsn(const struct conn *c)
{
    return c->last_lsn;
}

void conn_saw_lsn(struct conn *c, uint64_t lsn)
{
    if (lsn > c->last_lsn)
        c->last_lsn = lsn;
}

void *conn_slot(const struct conn *c, enum conn_slot k)
{
    return c->slot[k].state;
}

void conn_set_slot(struct conn *c, enum conn_slot k, void *state, void (*drop)(struct conn *c, void *state))
{
    void *old = c->slot[k].state;
    void (*old_drop)(struct conn *, void *) = c->slot[k].drop;
    c->slot[k].state = state;
    c->slot[k].drop = drop;
    if (old && old != state && old_drop)
        old_drop(c, old);
}

size_t conn_describe(struct conn *c, char *out, size_t room)
{
    char cmd[COMMAND_NAME_MAX] = "NULL", flags[8], *f = flags;
    uint64_t now = c->io->now_ms;

    if (c->last_cmd)
        command_lower(c->last_cmd, cmd);
    if (c->monitor)
        *f++ = 'O';
    if (c->slot[SLOT_REPLICA].state)
        *f++ = 'S';
    if (c->slot[SLOT_PUBSUB].state)
        *f++ = 'P';
    if (c->slot[SLOT_MULTI].state)
        *f++ = 'x';
    if (c->state == CONN_PARKED || (c->first && c->first->cmd->flags & CMD_BLOCKING))
        *f++ = 'b';
    if (c->state == CONN_CLOSING)
        *f++ = 'c';
    if (c->transport == IO_UNIX)
        *f++ = 'U';
    if (c->no_evict && f < flags + sizeof flags - 1)
        *f++ = 'e';
    if (f == flags)
        *f++ = 'N';
    *f = 0;
    size_t qbuf = c->cur ? c->cur_n : buf_size(&c->in), obuf = buf_size(&c->out);
    int n = snprintf(out, room,
                     "id=%llu addr=%s laddr=%s fd=%d name=%s age=%llu idle=%llu flags=%s db=%u sub=0 psub=0 ssub=0 multi=-1 qbuf=%zu "
                     "qbuf-free=%zu argv-mem=0 multi-mem=0 rbs=%zu rbp=0 obl=%zu oll=0 omem=%zu tot-mem=%zu events=%s%s cmd=%s user=%s "
                     "redir=-1 resp=%u lib-name=%s lib-ver=%s tot-net-in=%llu tot-net-out=%llu tot-cmds=%llu",
                     (unsigned long long)c->id, c->peer, c->local, c->fd, c->name.s, (unsigned long long)(now - c->created_ms) / 1000,
                     (unsigned long long)(now > c->active_ms ? now - c->active_ms : 0) / 1000, flags, c->db, qbuf,
                     c->in.cap - buf_size(&c->in), c->out.cap, obuf, obuf, sizeof *c + c->in.cap + c->out.cap, c->reading ? "r" : "",
                     c->writing ? "w" : "", cmd, acl_user_name(c->user), c->proto, c->lib_name.s, c->lib_ver.s,
                     (unsigned long long)c->net_in, (unsigned long long)c->net_out, (unsigned long long)c->commands);
    return n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
}
