/* link.c - see link.h.
 *
 * Output is one buffer: what the socket does not take at once waits there for it to become writable. Input is read as
 * it comes until a whole frame is there: the head says how long that is, and is verified before its length is believed.
 *
 * While frame() says ERR_AGAIN nothing more is read: the kernel's buffers fill, and the peer's output with them, which
 * is bounded there.
 *
 * Over TLS a read may have to write first, and bytes may wait inside of which no event tells: so each event lets both
 * directions try, and what is pending makes an event of its own.
 *
 * A link that goes under while it sends, in the middle of a step of the core, is only marked; its events, or
 * link_check, tell of it later: closed() may call the core again.
 */
#include "server/link.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/cellwire.h"

#define READ_BYTES 65536
#define KEEP_BYTES (1u << 20) /* of an empty buffer */

struct link {
    struct link_config cfg;
    struct event read_ev, write_ev;
    struct buf in, out;
    int waits;       /* frame() said ERR_AGAIN */
    const char *why; /* it is over */
    uint64_t heard_ms, said_ms, soft_since_ms, unacked_since_ms;
    char address[LINK_ADDRESS_BYTES];
};

static const char does_not_read[] = "it does not read: client-output-buffer-limit";

/* ---- ends ---- */

static void give_up(struct link *l, const char *why)
{
    if (l->why)
        return;
    l->why = why;
    event_del(&l->read_ev);
    event_active(&l->write_ev, EV_WRITE, 0); /* on_write tells */
}

void link_close(struct link *l)
{
    if (!l)
        return;
    event_del(&l->read_ev);
    event_del(&l->write_ev);
    buf_fini(&l->in);
    buf_fini(&l->out);
    sock_close(&l->cfg.sock);
    mem_free(l);
}

static void tell_closed(struct link *l)
{
    l->cfg.closed(l->cfg.arg, l, l->why);
    link_close(l);
}

/* ---- out ---- */

static int would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK;
}

/* It could not go on: on_write is called when the socket takes bytes, if it waits for that. */
static void wait_for_socket(struct link *l, int sending)
{
    if (sock_wants_to_write(&l->cfg.sock, sending) && event_add(&l->write_ev, NULL) != 0)
        give_up(l, "out of memory");
}

static void flush(struct link *l)
{
    while (!l->why && buf_size(&l->out)) {
        ssize_t n = sock_send(&l->cfg.sock, buf_data(&l->out), buf_size(&l->out));
        if (n > 0) {
            buf_consume(&l->out, (size_t)n);
        } else if (would_block()) {
            wait_for_socket(l, 1);
            return;
        } else {
            give_up(l, "the connection broke");
        }
    }
    buf_shrink(&l->out, KEEP_BYTES);
}

void link_send(struct link *l, struct bytes head, struct bytes records)
{
    if (l->why || (records.n && buf_size(&l->out) > LINK_UNREAD_BYTES))
        return;
    uint64_t hard = l->cfg.settings.limit.hard_bytes;
    if (hard && buf_size(&l->out) > hard) {
        give_up(l, does_not_read);
        return;
    }
    if (buf_put(&l->out, head.p, head.n) || buf_put(&l->out, records.p, records.n)) {
        give_up(l, "out of memory");
        return;
    }
    l->said_ms = clock_mono_ms();
    flush(l);
}

/* ---- in ---- */

/* 1: a frame was there and is gone. */
static int take_frame(struct link *l)
{
    struct cell_msg m;
    uint32_t n;

    if (l->waits || l->why || buf_size(&l->in) < CELLWIRE_HEAD_BYTES)
        return 0;
    if (cellwire_get(buf_data(&l->in), &m, &n)) {
        give_up(l, "a frame does not verify");
        return 0;
    }
    if (buf_size(&l->in) - CELLWIRE_HEAD_BYTES < n)
        return 0;
    enum err e = l->cfg.frame(l->cfg.arg, l, &m, bytes_of(buf_data(&l->in) + CELLWIRE_HEAD_BYTES, n));
    if (e == ERR_AGAIN) {
        l->waits = 1;
        event_del(&l->read_ev);
        return 0;
    }
    if (e)
        give_up(l, "a frame's records do not verify");
    buf_consume(&l->in, CELLWIRE_HEAD_BYTES + n);
    return 1;
}

static void take_frames(struct link *l)
{
    while (take_frame(l))
        ;
    buf_shrink(&l->in, KEEP_BYTES);
}

static void read_some(struct link *l)
{
    uint8_t *room;
    if (buf_reserve(&l->in, READ_BYTES, &room)) {
        give_up(l, "out of memory");
        return;
    }
    ssize_t n = sock_recv(&l->cfg.sock, room, READ_BYTES);
    if (n > 0) {
        buf_added(&l->in, (size_t)n);
        l->heard_ms = clock_mono_ms();
        take_frames(l);
    } else if (n == 0) {
        give_up(l, "the other side closed it");
    } else if (would_block()) {
        wait_for_socket(l, 0);
    } else {
        give_up(l, "the connection broke");
    }
}

/* What waits inside of TLS is read as if the socket had told of it. */
static void remind(struct link *l)
{
    if (!l->waits && !l->why && sock_pending(&l->cfg.sock))
        event_active(&l->read_ev, EV_READ, 0);
}

static void on_write(evutil_socket_t fd, short what, void *arg)
{
    struct link *l = arg;
    (void)fd;
    (void)what;
    flush(l);
    take_frames(l); /* the first ones may have come with the handshake */
    if (l->cfg.sock.tls && !l->waits && !l->why)
        read_some(l);
    remind(l);
    if (l->why)
        tell_closed(l);
}

static void on_read(evutil_socket_t fd, short what, void *arg)
{
    struct link *l = arg;
    (void)fd;
    (void)what;
    read_some(l);
    if (l->cfg.sock.tls)
        flush(l);
    remind(l);
}

void link_resume(struct link *l)
{
    if (!l->waits || l->why)
        return;
    l->waits = 0;
    take_frames(l);
    if (!l->waits && !l->why && event_add(&l->read_ev, NULL) != 0)
        give_up(l, "out of memory");
    remind(l);
}

/* ---- the rest ---- */

/* The soft limit, as for clients: over it for too long. */
static int reads_too_slowly(struct link *l, uint64_t now)
{
    const struct obuf_limit *m = &l->cfg.settings.limit;
    uint64_t size = buf_size(&l->out);
    if (!m->soft_bytes || size <= m->soft_bytes)
        l->soft_since_ms = 0;
    else if (!l->soft_since_ms)
        l->soft_since_ms = now;
    return (m->hard_bytes && size > m->hard_bytes) ||
           (l->soft_since_ms && now - l->soft_since_ms > m->soft_seconds * 1000);
}

static void say_alive(struct link *l)
{
    uint8_t head[CELLWIRE_HEAD_BYTES];
    cellwire_put(head, &(struct cell_msg){.type = CELL_ALIVE, .leader = CELL_NOBODY}, 0);
    link_send(l, bytes_of(head, sizeof head), bytes_of(NULL, 0));
}

/* The other side's host acknowledges nothing; one whose process does not read answers the kernel's probes. (With
 * TCP_USER_TIMEOUT the kernel would give that one up, too.) */
static int is_cut_off(struct link *l, uint64_t now)
{
    struct tcp_info info;
    socklen_t n = sizeof info;
    int queued = 0;
    if (ioctl(l->cfg.sock.fd, SIOCOUTQ, &queued) != 0 || !queued ||
        getsockopt(l->cfg.sock.fd, IPPROTO_TCP, TCP_INFO, &info, &n) != 0)
        l->unacked_since_ms = 0;
    else if (!l->unacked_since_ms || info.tcpi_last_ack_recv < now - l->unacked_since_ms)
        l->unacked_since_ms = now;
    return l->unacked_since_ms && now - l->unacked_since_ms > LINK_UNACKED_MS;
}

void link_check(struct link *l, uint64_t now, const struct link_settings *s)
{
    uint64_t ping_ms = s->ping_ms < s->timeout_ms / 3 ? s->ping_ms : s->timeout_ms / 3;
    l->cfg.settings = *s;
    if (reads_too_slowly(l, now))
        give_up(l, does_not_read);
    else if (is_cut_off(l, now))
        give_up(l, "its host acknowledges nothing");
    else if (!l->waits && now > l->heard_ms + s->timeout_ms)
        give_up(l, "it is silent: repl-timeout");
    else if (now > l->said_ms + ping_ms)
        say_alive(l);
}

uint8_t link_peer(const struct link *l)
{
    return l->cfg.peer;
}

const char *link_address(const struct link *l)
{
    return l->address;
}

enum err link_new(struct link **out, const struct link_config *cfg)
{
    int on = 1;
    struct link *l = *out = mem_zalloc(sizeof *l);
    if (!l)
        return ERR_OOM;
    l->cfg = *cfg;
    l->heard_ms = l->said_ms = clock_mono_ms();
    buf_init(&l->in, CELLWIRE_HEAD_BYTES + CELLWIRE_RECORDS_MAX + READ_BYTES);
    buf_init(&l->out, SIZE_MAX / 4);
    (void)setsockopt(cfg->sock.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    sock_peer_ip(cfg->sock.fd, l->address);
    if (buf_put(&l->out, cfg->out.p, cfg->out.n) || buf_put(&l->in, cfg->in.p, cfg->in.n) ||
        event_assign(&l->read_ev, cfg->base, cfg->sock.fd, EV_READ | EV_PERSIST, on_read, l) != 0 ||
        event_assign(&l->write_ev, cfg->base, cfg->sock.fd, EV_WRITE, on_write, l) != 0 ||
        event_add(&l->read_ev, NULL) != 0) {
        buf_fini(&l->out);
        buf_fini(&l->in);
        mem_free(l);
        *out = NULL;
        return ERR_OOM;
    }
    flush(l);
    if (buf_size(&l->in) || sock_pending(&cfg->sock))
        event_active(&l->write_ev, EV_WRITE, 0);
    return ERR_OK;
}
