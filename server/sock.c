/* sock.c - see sock.h. */
#include "server/sock.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

ssize_t sock_send(const struct sock *s, const void *p, size_t n)
{
    ssize_t got;
    if (s->tls)
        return tls_write(s->tls, p, n);
    do
        got = send(s->fd, p, n, MSG_NOSIGNAL);
    while (got < 0 && errno == EINTR);
    return got;
}

ssize_t sock_recv(const struct sock *s, void *p, size_t n)
{
    ssize_t got;
    if (s->tls)
        return tls_read(s->tls, p, n);
    do
        got = recv(s->fd, p, n, 0);
    while (got < 0 && errno == EINTR);
    return got;
}

int sock_wants_to_write(const struct sock *s, int sending)
{
    return s->tls ? tls_wants(s->tls) == TLS_WRITABLE : sending;
}

int sock_pending(const struct sock *s)
{
    return s->tls && tls_pending(s->tls);
}

const char *sock_error(const struct sock *s, int error)
{
    return s->tls && tls_error(s->tls)[0] ? tls_error(s->tls) : strerror(error);
}

void sock_close(struct sock *s)
{
    tls_conn_free(s->tls);
    if (s->fd >= 0)
        close(s->fd);
    *s = (struct sock){.fd = -1};
}
