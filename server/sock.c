/* sock.c - see sock.h. */
#include "server/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
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

/* Its port; 0: it has no address. */
static unsigned put_ip(char ip[INET6_ADDRSTRLEN], const struct sockaddr_storage *a)
{
    const struct sockaddr_in *in = (const void *)a;
    const struct sockaddr_in6 *in6 = (const void *)a;
    if (a->ss_family == AF_INET && inet_ntop(AF_INET, &in->sin_addr, ip, INET6_ADDRSTRLEN))
        return ntohs(in->sin_port);
    if (a->ss_family == AF_INET6 && inet_ntop(AF_INET6, &in6->sin6_addr, ip, INET6_ADDRSTRLEN))
        return ntohs(in6->sin6_port);
    snprintf(ip, INET6_ADDRSTRLEN, "?");
    return 0;
}

static void put_address(char *out, const struct sockaddr_storage *a)
{
    char ip[INET6_ADDRSTRLEN];
    unsigned port = put_ip(ip, a);
    snprintf(out, SOCK_END_BYTES, a->ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u", ip, port);
}

void sock_peer_ip(int fd, char ip[SOCK_END_BYTES])
{
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof a;
    (void)!getpeername(fd, (struct sockaddr *)&a, &n);
    (void)put_ip(ip, &a);
}

void sock_ends(int fd, char peer[SOCK_END_BYTES], char local[SOCK_END_BYTES])
{
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof a;
    snprintf(peer, SOCK_END_BYTES, "?:0");
    snprintf(local, SOCK_END_BYTES, "?:0");
    if (getpeername(fd, (struct sockaddr *)&a, &n) == 0)
        put_address(peer, &a);
    n = sizeof a;
    if (getsockname(fd, (struct sockaddr *)&a, &n) == 0)
        put_address(local, &a);
}
