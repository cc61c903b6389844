/* link.h - a connection to another node of the cell after its handshake: frames in both directions (engine/cellwire.h),
 * never RESP; over TLS when the socket is.
 *
 * What comes in is handed on frame by frame, in order. A frame that does not verify closes the link, as do a peer that
 * is silent for `repl-timeout` and one that does not read: its output is bounded by client-output-buffer-limit's class
 * replica. Records for a peer that is behind in reading by LINK_UNREAD_BYTES are not sent at all: it sees the gap and
 * joins again. What the other side's host does not acknowledge for LINK_UNACKED_MS closes the link too: behind a
 * network that was cut the kernel would try again at ever longer intervals, about as long again as the cut had lasted,
 * where a new link is there at once. So that nobody is taken for silent who has nothing to say (two replicas, say), a
 * link on which nothing was sent for `repl-ping-replica-period`, or for a third of its own time-out, says that it is
 * ALIVE.
 *
 * All of it on one thread, that of the event base. Nothing blocks.
 */
#ifndef COFFER_SERVER_LINK_H
#define COFFER_SERVER_LINK_H

#include "base/bytes.h"
#include "engine/cell.h"
#include "server/config.h"
#include "server/sock.h"

#define LINK_UNREAD_BYTES (32u << 20)
#define LINK_UNACKED_MS 3000
#define LINK_ADDRESS_BYTES SOCK_END_BYTES

struct event_base;
struct link;

struct link_config {
    struct event_base *base;
    struct sock sock; /* connected, non-blocking; the link's from now on */
    uint8_t peer;     /* index of the other side */
    struct bytes out; /* sent first; copied */
    struct bytes in;  /* received already; copied */
    struct link_settings {
        struct obuf_limit limit;
        uint64_t timeout_ms; /* of silence */
        uint64_t ping_ms;    /* so long nothing is sent */
    } settings;

    /* A frame; records are borrowed. ERR_AGAIN: not now, the same again after link_resume. Any other error closes. */
    enum err (*frame)(void *arg, struct link *l, const struct cell_msg *m, struct bytes records);
    /* It is closed, and is freed when this returns. why: a static text. Not called by link_close. */
    void (*closed)(void *arg, struct link *l, const char *why);
    void *arg;
};

/* ERR_OOM: the socket is still the caller's. */
must_use enum err link_new(struct link **out, const struct link_config *cfg);
void link_close(struct link *l); /* at once; accepts NULL */

/* Never blocks; goes out when the socket takes it. May call closed(). */
void link_send(struct link *l, struct bytes head, struct bytes records);
void link_resume(struct link *l);
/* Limits and silence, by these settings from now on; once a second or so. May
 * call closed() later. */
void link_check(struct link *l, uint64_t now_ms, const struct link_settings *s);

uint8_t link_peer(const struct link *l);
const char *link_address(const struct link *l); /* the other side's, without a port */

#endif
