/* conn_life.c - a connection's beginning and end, and what handlers and CLIENT ask of it. Progress is conn.c's. */
#include <arpa/inet.h>
#include <assert.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "server/acl.h"
#include "server/command.h"
#include "server/conn_private.h"
#include "server/multi.h"
#include "server/pubsub.h"
#include "server/sock.h"
#include "server/tracking.h"

#define HANDSHAKE_LOG_US UINT64_C(10000000) /* one line in so long about handshakes that failed */
#define CERTIFICATE_NAME_BYTES 255

static void name_ends(struct conn *c)
{
    if (c->transport == IO_UNIX) {
        snprintf(c->peer, sizeof c->peer, "%.*s:0", CONN_PEER_BYTES - 3,
                 config_str(c->io->srv->config, CFG_UNIXSOCKET));
        memcpy(c->local, c->peer, sizeof c->local);
    } else {
        sock_ends(c->fd, c->peer, c->local);
    }
}

/* Refused options cost comfort only. */
static void tune_socket(struct conn *c)
{
    int on = 1, interval = (int)config_int(c->io->srv->config, CFG_TCP_KEEPALIVE),
        probe = interval / 3 ? interval / 3 : 1, count = 3;
    if (c->transport == IO_UNIX)
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

/* ---- TLS ---- */

static void handshake_over(struct conn *c)
{
    c->handshake = 0;
    atomic_fetch_sub(&c->io->srv->handshakes, 1);
}

/* Whoever scans ports fails at it all day: a line now and then, the number is in INFO. */
static void handshake_failed(struct conn *c, const char *why)
{
    static _Atomic uint64_t last_us, unsaid;
    uint64_t now = c->io->now_us, last = atomic_load(&last_us), n;
    stat_add(&c->io->stats.tls_handshakes_failed, 1);
    char more[48] = "";
    if ((last && now - last < HANDSHAKE_LOG_US) || !atomic_compare_exchange_strong(&last_us, &last, now)) {
        atomic_fetch_add(&unsaid, 1);
    } else {
        if ((n = atomic_exchange(&unsaid, 0)))
            snprintf(more, sizeof more, " (and %llu others before)", (unsigned long long)n);
        log_at(LOG_NOTICE, "TLS: the handshake with %s failed%s: %s", c->peer, more, why);
    }
    conn_kill(c);
}

/* tls-auth-clients-user: who shows a user's name in a certificate is that user. */
static void login_by_certificate(struct conn *c)
{
    enum { OFF, CN };
    char name[CERTIFICATE_NAME_BYTES];
    if (!c->tls || c->handshake || config_int(c->io->srv->config, CFG_TLS_AUTH_CLIENTS_USER) != CN)
        return;
    size_t n = tls_peer_name(c->tls, name, sizeof name);
    struct acl_user *u = n ? acl_find(c->io->srv->acl, bytes_of(name, n)) : NULL;
    if (u && acl_user_enabled(u) && !acl_user_unknown(u))
        conn_set_user(c, u, 1);
    else
        acl_user_unref(u);
}

int conn_handshake(struct conn *c)
{
    struct io *io = c->io;
    if (tls_wants(c->tls) != TLS_WRITABLE && io->handshake_steps++ >= CONN_HANDSHAKE_STEPS)
        return 0; /* the socket is as readable in the next turn */
    enum err e = tls_handshake(c->tls);
    if (e == ERR_AGAIN) {
        if (tls_wants(c->tls) == TLS_WRITABLE)
            conn_wait_writable(c);
        return 0;
    }
    if (e) {
        handshake_failed(c, tls_error(c->tls));
        return 0;
    }
    handshake_over(c);
    c->active_ms = io_tick_ms(io);
    stat_add(&io->stats.tls_handshakes, 1);
    login_by_certificate(c);
    return 1;
}

void conn_check_handshake(struct conn *c)
{
    struct io *io = c->io;
    uint64_t ms = io->handshake_ms;
    if (ms > CONN_HANDSHAKE_CROWDED_MS && atomic_load(&io->srv->handshakes) >= IO_HANDSHAKES / 2)
        ms = CONN_HANDSHAKE_CROWDED_MS;
    if (io_tick_ms(io) - c->created_ms > ms)
        handshake_failed(c, "it took too long");
}

/* ---- life ---- */

enum err conn_new(struct io *io, int fd, enum io_transport transport, struct conn **out)
{
    *out = NULL;
    struct conn *c = mem_zalloc(sizeof *c);
    if (!c)
        return ERR_OOM;
    c->io = io;
    c->fd = fd;
    c->transport = (uint8_t)transport;
    c->handshake = transport == IO_TLS;
    enum err e = c->handshake ? tls_server_new(io->srv->tls, fd, &c->tls) : ERR_OK;
    if (e) {
        mem_free(c);
        return e;
    }
    c->id = atomic_fetch_add(&io->srv->next_client_id, 1) + 1;
    buf_init_secret(&c->in, SIZE_MAX / 4);
    buf_init_secret(&c->out, 2 * (size_t)CONN_ANSWER_BYTES);
    request_parser_init(&c->parser, &io->limits_unauth);
    reply_init(&c->reply, &c->out, 2);
    c->created_ms = c->active_ms = io_tick_ms(io);
    name_ends(c);
    conn_reset(c);
    if (event_assign(&c->read_ev, io->base, fd, EV_READ | EV_PERSIST, conn_on_read, c) != 0 ||
        event_assign(&c->write_ev, io->base, fd, EV_WRITE, conn_on_write, c) != 0 ||
        event_add(&c->read_ev, NULL) != 0) {
        acl_user_unref(c->user);
        tls_conn_free(c->tls);
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
    if (c->handshake)
        handshake_over(c);
    tls_conn_free(c->tls);
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
    c->acl_epoch = 0;
    c->parser.limits = authenticated ? &c->io->limits : &c->io->limits_unauth;
}

/* As soon as what it was promised is written. */
static void end(struct conn *c)
{
    const struct buf *out = c->io->running == c ? c->reply.b : &c->out;
    int waits = c->pendings && !(c->last->cmd && c->last->cmd->flags & CMD_BLOCKING);
    if (!waits && buf_size(out) == 0) {
        conn_kill(c);
    } else if (c->state != CONN_CLOSING) {
        conn_set_state(c, CONN_CLOSING);
        io_todo(c);
    }
}

/* A default user who needs no password: of this machine only, as protected-mode has it, and also one that stands in for
 * another. One that is unknown can do no harm. */
static int is_open_to(const struct acl_user *u, const struct conn *c)
{
    int restricted = acl_user_stands_in(u) || config_int(c->io->srv->config, CFG_PROTECTED_MODE);
    return acl_user_open(u) && (acl_user_unknown(u) || conn_is_local(c) || !restricted);
}

/* It was nobody that could do anything, and who it may be takes a password: as for one that connects now. */
static int has_to_log_in(const struct conn *c, const struct acl_user *now)
{
    return acl_user_unknown(c->user) && !acl_user_open(now);
}

void conn_refresh_user(struct conn *c)
{
    struct acl *acl = c->io->srv->acl;
    uint64_t epoch = acl_epoch(acl);
    if (c->acl_epoch == epoch)
        return;
    struct acl_user *u = acl_refresh(acl, c->user);
    int login = u && has_to_log_in(c, u);
    if (!u || (!login && acl_user_stands_in(c->user) && acl_user_open(c->user) && !is_open_to(u, c)) ||
        (c->slot[SLOT_PUBSUB].state && !acl_channels_kept(c->user, u))) {
        acl_user_unref(u);
        end(c);
        return;
    }
    conn_set_user(c, u, c->authenticated && !login);
    c->acl_epoch = epoch;
}

void conn_reset(struct conn *c)
{
    drop_slots(c);
    struct acl_user *u = acl_default(c->io->srv->acl);
    conn_set_user(c, u, acl_user_stands_in(u) ? is_open_to(u, c) : acl_user_open(u));
    c->db = 0;
    c->proto = 2;
    c->reply.proto = 2;
    c->reply_mode = REPLY_ON;
    c->no_evict = c->no_touch = c->linear = 0;
    c->after_lsn = c->shown_lsn = 0;
    c->obuf = OBUF_NORMAL;
    c->name.n = 0;
    c->name.s[0] = 0;
    conn_set_monitor(c, 0);
    login_by_certificate(c);
}

/* A descriptor of its own for the new owner, so that all else ends as ever. */
enum err conn_detach(struct conn *c, struct sock *out)
{
    *out = (struct sock){.fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 3)};
    if (out->fd < 0 || (c->tls && tls_conn_move(c->tls, out->fd))) {
        sock_close(out);
        return ERR_OOM;
    }
    out->tls = c->tls;
    c->tls = NULL;
    conn_kill(c);
    return ERR_OK;
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

int conn_is_tls(const struct conn *c)
{
    return c->tls != NULL;
}

int conn_is_certified(const struct conn *c)
{
    return c->tls && tls_peer_verified(c->tls);
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

void conn_set_multi(struct conn *c, int on)
{
    c->mode = (uint8_t)(on ? c->mode | CONN_MULTI : c->mode & ~CONN_MULTI);
}

void conn_subscribed(struct conn *c, int on)
{
    c->mode = (uint8_t)(on ? c->mode | CONN_SUBSCRIBED : c->mode & ~CONN_SUBSCRIBED);
    c->obuf = on ? OBUF_PUBSUB : OBUF_NORMAL;
}

void conn_capture(struct conn *c, struct reply *r)
{
    c->capture = r;
    if (!r && c->close_due) {
        c->close_due = 0;
        conn_close_after_reply(c);
    }
}

size_t conn_memory(const struct conn *c)
{
    return sizeof *c + c->in.cap + c->out.cap + c->pending_bytes + multi_bytes(c) + pubsub_bytes(c) + tracking_bytes(c);
}

size_t conn_describe(struct conn *c, char *out, size_t room)
{
    char cmd[COMMAND_NAME_MAX] = "NULL", tracks[4], flags[16], *f = flags;
    int64_t redirect = tracking_describe(c, tracks);
    uint64_t now = io_tick_ms(c->io);

    if (c->last_cmd)
        command_lower(c->last_cmd, cmd);
    if (c->monitor)
        *f++ = 'O';
    if (c->slot[SLOT_REPLICA].state)
        *f++ = 'S';
    if (c->slot[SLOT_PUBSUB].state)
        *f++ = 'P';
    if (c->mode & CONN_MULTI)
        *f++ = 'x';
    if (c->state == CONN_PARKED || (c->first && c->first->cmd->flags & CMD_BLOCKING))
        *f++ = 'b';
    for (const char *t = tracks; *t; t++)
        *f++ = *t;
    if (c->state == CONN_CLOSING)
        *f++ = 'c';
    if (c->transport == IO_UNIX)
        *f++ = 'U';
    if (c->no_evict)
        *f++ = 'e';
    if (f == flags)
        *f++ = 'N';
    *f = 0;
    /* The request that a pending answer is for has left the buffer; it is shown as Redis would. */
    size_t qbuf = c->cur ? c->cur_n : buf_size(&c->in) + (c->pendings ? c->last_bytes : 0), obuf = buf_size(&c->out);
    int n = snprintf(out, room,
                     "id=%llu addr=%s laddr=%s fd=%d name=%s age=%llu idle=%llu flags=%s db=%u sub=%u psub=%u ssub=%u "
                     "multi=%d qbuf=%zu "
                     "qbuf-free=%zu argv-mem=0 multi-mem=%zu rbs=%zu rbp=0 obl=%zu oll=0 omem=%zu tot-mem=%zu "
                     "events=%s%s cmd=%s user=%s "
                     "redir=%lld resp=%u lib-name=%s lib-ver=%s tot-net-in=%llu tot-net-out=%llu tot-cmds=%llu",
                     (unsigned long long)c->id, c->peer, c->local, c->fd, c->name.s,
                     (unsigned long long)(now - c->created_ms) / 1000,
                     (unsigned long long)(now > c->active_ms ? now - c->active_ms : 0) / 1000, flags, c->db,
                     pubsub_count(c, PUBSUB_CHANNEL), pubsub_count(c, PUBSUB_PATTERN), pubsub_count(c, PUBSUB_SHARD),
                     multi_length(c), qbuf, c->in.cap - buf_size(&c->in), multi_bytes(c), c->out.cap, obuf, obuf,
                     conn_memory(c), c->reading ? "r" : "", c->writing ? "w" : "", cmd, acl_user_name(c->user),
                     (long long)redirect, c->proto, c->lib_name.s, c->lib_ver.s, (unsigned long long)c->net_in,
                     (unsigned long long)c->net_out, (unsigned long long)c->commands);
    return n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
}
