/* tls_conn.c - connections over TLS; see tls.h.
 *
 * OpenSSL reads and writes the socket itself, whatever it is asked to do; a call that cannot go on says what it waits
 * for. It reads ahead: one read() may bring several records, or one and a half. So a read here goes on record by record
 * until there is no room or nothing is left inside, which costs no further call of the kernel, and pending is only what
 * did not fit, or an end that came behind bytes that had to be handed out first.
 *
 * After an error of its own OpenSSL wants to be asked for nothing more, and sends the alert that says so to the peer at
 * once: broken then.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "server/tls_private.h"

struct tls_conn {
    SSL *ssl;
    enum tls_want wants;
    int pending, broken;
    char error[128];
};

static enum err conn_new(struct tls *t, SSL_CTX *const *which, int fd, struct tls_conn **out)
{
    *out = NULL;
    struct tls_conn *c = mem_zalloc(sizeof *c);
    if (!c)
        return ERR_OOM;
    pthread_mutex_lock(&t->lock);
    int on = *which != NULL;
    c->ssl = on ? SSL_new(*which) : NULL; /* holds on to its context */
    pthread_mutex_unlock(&t->lock);
    if (c->ssl && SSL_set_fd(c->ssl, fd) == 1) {
        *out = c;
        return ERR_OK;
    }
    ERR_clear_error();
    c->broken = 1;
    tls_conn_free(c);
    return on ? ERR_OOM : ERR_NOTFOUND;
}

enum err tls_server_new(struct tls *t, int fd, struct tls_conn **out)
{
    enum err e = conn_new(t, &t->server, fd, out);
    if (!e)
        SSL_set_accept_state((*out)->ssl);
    return e;
}

static int expect_host(SSL *ssl, const char *host)
{
    struct in6_addr a;
    if (inet_pton(AF_INET, host, &a) == 1 || inet_pton(AF_INET6, host, &a) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host);
    return SSL_set1_host(ssl, host) && SSL_set_tlsext_host_name(ssl, host);
}

enum err tls_client_new(struct tls *t, int fd, const char *host, struct tls_conn **out)
{
    enum err e = conn_new(t, &t->client, fd, out);
    if (e)
        return e;
    SSL_set_connect_state((*out)->ssl);
    if (!host || expect_host((*out)->ssl, host))
        return ERR_OK;
    ERR_clear_error();
    tls_conn_free(*out);
    *out = NULL;
    return ERR_OOM;
}

/* What OpenSSL has read ahead is in ssl, not in the BIO that goes. */
enum err tls_conn_move(struct tls_conn *c, int fd)
{
    if (SSL_set_fd(c->ssl, fd) == 1)
        return ERR_OK;
    ERR_clear_error();
    return ERR_OOM;
}

void tls_conn_free(struct tls_conn *c)
{
    if (!c)
        return;
    if (!c->broken && SSL_is_init_finished(c->ssl)) {
        (void)SSL_shutdown(c->ssl); /* what the socket does not take is the peer's to find out */
        ERR_clear_error();
    }
    SSL_free(c->ssl);
    mem_free(c);
}

/* ---- outcomes ---- */

static void keep_error(struct tls_conn *c, const char *what, const char *more)
{
    snprintf(c->error, sizeof c->error, "%s%s%s", what, more ? ": " : "", more ? more : "");
}

static void keep_openssl_error(struct tls_conn *c)
{
    long verdict = SSL_get_verify_result(c->ssl);
    keep_error(c, tls_openssl_says(), verdict == X509_V_OK ? NULL : X509_verify_cert_error_string(verdict));
}

/* Of a call that did not succeed: sets errno, wants, error. 0: the peer said goodbye; -1. */
static int settle(struct tls_conn *c, int rc)
{
    int system = errno;
    c->wants = TLS_NOTHING;
    switch (SSL_get_error(c->ssl, rc)) {
    case SSL_ERROR_WANT_READ:
        c->wants = TLS_READABLE;
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_WANT_WRITE:
        c->wants = TLS_WRITABLE;
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        keep_error(c, "the peer closed the connection", NULL);
        return 0;
    case SSL_ERROR_SYSCALL:
        keep_error(c, strerror(system ? system : ECONNRESET), NULL);
        errno = system ? system : ECONNRESET;
        break;
    default:
        keep_openssl_error(c);
        errno = ECONNRESET;
    }
    ERR_clear_error();
    c->broken = 1;
    return -1;
}

static void begin(struct tls_conn *c)
{
    ERR_clear_error(); /* SSL_get_error looks there */
    errno = 0;
    c->wants = TLS_NOTHING;
}

enum err tls_handshake(struct tls_conn *c)
{
    if (c->broken)
        return ERR_PROTOCOL;
    begin(c);
    int rc = SSL_do_handshake(c->ssl);
    if (rc == 1)
        return ERR_OK;
    return settle(c, rc) < 0 && errno == EAGAIN ? ERR_AGAIN : ERR_PROTOCOL;
}

/* ---- bytes ---- */

ssize_t tls_read(struct tls_conn *c, void *p, size_t n)
{
    size_t have = 0, got;
    int rc;

    c->pending = 0;
    if (c->broken) {
        errno = ECONNRESET;
        return -1;
    }
    begin(c);
    while ((rc = SSL_read_ex(c->ssl, (char *)p + have, n - have, &got)) == 1) {
        have += got;
        c->pending = SSL_has_pending(c->ssl);
        if (have == n || !c->pending)
            return (ssize_t)have;
    }
    rc = settle(c, rc);
    c->pending = have && !c->wants; /* the end: told by the next call, of which no event would remind */
    return have ? (ssize_t)have : rc;
}

ssize_t tls_write(struct tls_conn *c, const void *p, size_t n)
{
    size_t sent;
    if (c->broken) {
        errno = ECONNRESET;
        return -1;
    }
    begin(c);
    int rc = SSL_write_ex(c->ssl, p, n, &sent);
    if (rc == 1)
        return (ssize_t)sent;
    if (settle(c, rc) == 0)
        errno = ECONNRESET;
    return -1;
}

/* ---- what owners ask ---- */

enum tls_want tls_wants(const struct tls_conn *c)
{
    return c->wants;
}

int tls_pending(const struct tls_conn *c)
{
    return c->pending;
}

const char *tls_error(const struct tls_conn *c)
{
    return c->error;
}

static int is_name(const unsigned char *s, int n)
{
    for (int i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] == 0x7f)
            return 0;
    return n > 0;
}

int tls_peer_verified(const struct tls_conn *c)
{
    return SSL_get0_peer_certificate(c->ssl) && SSL_get_verify_result(c->ssl) == X509_V_OK &&
           SSL_get_verify_mode(c->ssl) != SSL_VERIFY_NONE;
}

size_t tls_peer_name(const struct tls_conn *c, char *out, size_t room)
{
    unsigned char *text = NULL;
    if (!tls_peer_verified(c))
        return 0;
    const X509_NAME *subject = X509_get_subject_name(SSL_get0_peer_certificate(c->ssl));
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
        return 0;
    int n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
    int fits = is_name(text, n) && (size_t)n <= room;
    if (fits)
        memcpy(out, text, (size_t)n);
    OPENSSL_free(text);
    ERR_clear_error();
    return fits ? (size_t)n : 0;
}
