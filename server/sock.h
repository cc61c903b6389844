/* sock.h - a connected socket, plain or over TLS, that is read and written alike: what links and those who open them
 * have. Clients' connections have the same two branches in place (server/conn.c).
 *
 * Threads: one at a time for each.
 */
#ifndef COFFER_SERVER_SOCK_H
#define COFFER_SERVER_SOCK_H

#include <sys/types.h>

#include "server/tls.h"

#define SOCK_END_BYTES 64

struct sock {
    int fd;               /* -1: none */
    struct tls_conn *tls; /* NULL: plain */
};

/* As send and recv, with their errno, but for EINTR, which is tried again. After EAGAIN of a send the same bytes must
 * come again first. */
ssize_t sock_send(const struct sock *s, const void *p, size_t n);
ssize_t sock_recv(const struct sock *s, void *p, size_t n);

/* After EAGAIN: 1 when it waits for the socket to take bytes. TLS may have to write before it can read, and the other
 * way round. */
int sock_wants_to_write(const struct sock *s, int sending);
int sock_pending(const struct sock *s); /* bytes wait inside, of which no event of the socket will tell */

/* Why the last call failed: OpenSSL's words or strerror's. Static memory, or lives as long as s. */
const char *sock_error(const struct sock *s, int error);

void sock_peer_ip(int fd, char ip[SOCK_END_BYTES]); /* "?": it has none */
/* The addresses of both ends: "ip:port", "[ip]:port"; "?:0" for what has none. */
void sock_ends(int fd, char peer[SOCK_END_BYTES], char local[SOCK_END_BYTES]);

void sock_close(struct sock *s); /* says goodbye over TLS; s is none afterwards */

#endif
