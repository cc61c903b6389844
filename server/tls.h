/* tls.h - TLS by OpenSSL: of connections that come to tls-port, and of links that this server opens.
 *
 *     struct tls        what the tls-* directives say, made ready: a context for connections that come, another for
 *                       those that go out
 *     struct tls_conn   one connection, over a socket that stays its owner's
 *
 * A context never changes once it is in use. CONFIG SET of any tls-* directive makes new ones: files are read and
 * checked first (the key fits, nothing has expired), and what is wrong refuses the change. Connections that are open
 * keep the context they began with; sessions made under an old one cannot be resumed under the new, so that nobody
 * comes in by what was right yesterday. With tls-port 0 and neither tls-replication nor tls-cluster there are no
 * contexts, and directives are not looked at until there must be.
 *
 * TLS 1.2 and 1.3 only; no compression, no renegotiation, no early data, no session tickets (sessions that can be
 * resumed are kept here, tls-session-cache-size of them).
 *
 * A tls_conn reads and writes as a socket does, so that its owner's code is the one for plain sockets. Three things
 * are different, and asked for after a call that could not go on, or that went on:
 *
 *     tls_wants     what it waits for: now and then a read has to write first, or the other way round
 *     tls_pending   bytes that came already wait inside: no event of the socket will tell of them
 *     tls_error     why it failed
 *
 * Memory: the private key is in OpenSSL's secure heap (tls_init), its file and passphrase pass through locked memory.
 * Received plaintext is wiped inside of OpenSSL as it is handed out; buffers go back when they are empty (an idle
 * connection has none), and what OpenSSL frees is wiped (mem_init). What lies in ordinary memory meanwhile says
 * docs/threat-model.md.
 *
 * Threads: struct tls any; a tls_conn one at a time. Nothing blocks but loading files, and whatever is done over a
 * socket that blocks. SIGPIPE must be ignored.
 */
#ifndef COFFER_SERVER_TLS_H
#define COFFER_SERVER_TLS_H

#include <sys/types.h>

#include "base/err.h"
#include "server/config.h"

struct tls;
struct tls_conn;

/* OpenSSL's secure heap, for private keys. Once in a process, before there are threads. ERR_OOM. */
must_use enum err tls_init(void);

/* Loads what is configured, and hooks itself to CONFIG SET. ERR_SYNTAX: a directive or file is not right, the log says
 * which; ERR_OOM. A certificate that has expired is an error for CONFIG SET and a warning here: a server that comes
 * back after a crash is better than one that does not. c must outlive it. */
must_use enum err tls_new(struct tls **out, struct config *c);
void tls_free(struct tls *t); /* accepts NULL; open connections go on */

/* When the certificate in use expires, Unix seconds; 0: TLS is off. */
int64_t tls_expires(struct tls *t);

/* ---- connections ---- */

/* For a socket that was accepted. tls-auth-clients as it was when the context was made. ERR_NOTFOUND: TLS is off;
 * ERR_OOM. */
must_use enum err tls_server_new(struct tls *t, int fd, struct tls_conn **out);

/* For a connected socket towards a peer. Shows tls-client-cert-file, or else tls-cert-file, when asked. The peer's
 * certificate must come from tls-ca-cert-file or -dir and name host, a DNS name or an address; host NULL: any
 * certificate of the authority will do, as for Redis's replicas. ERR_NOTFOUND, ERR_OOM.
 *
 * A blocking socket (give it SO_RCVTIMEO and SO_SNDTIMEO): tls_handshake, tls_read and tls_write block as connect, read
 * and send do, and ERR_AGAIN or EAGAIN is its timeout. */
must_use enum err tls_client_new(struct tls *t, int fd, const char *host, struct tls_conn **out);

/* Says goodbye (close_notify) as far as the socket takes it at once, unless the connection broke. The socket stays
 * open. Accepts NULL. */
void tls_conn_free(struct tls_conn *c);

/* Goes on as far as it can. ERR_AGAIN: call again when the socket is ready for what tls_wants says. ERR_PROTOCOL:
 * failed for good, tls_error says why. */
must_use enum err tls_handshake(struct tls_conn *c);

/* As read(2) and send(2) with their errno; a handshake that is not over goes on first. 0 of a read: the peer said
 * goodbye. A peer that closes without is ECONNRESET: what it meant to send may be cut short. After EAGAIN of a write
 * the next one must begin with the same bytes; they may have moved. */
ssize_t tls_read(struct tls_conn *c, void *p, size_t n);
ssize_t tls_write(struct tls_conn *c, const void *p, size_t n);

/* What the last call waits for; TLS_NOTHING when it went on. */
enum tls_want { TLS_NOTHING, TLS_READABLE, TLS_WRITABLE };
enum tls_want tls_wants(const struct tls_conn *c);
int tls_pending(const struct tls_conn *c);

/* Of the last failure: OpenSSL's words, no line end. Lives as long as c. */
const char *tls_error(const struct tls_conn *c);

/* The common name (CN) of the peer's certificate, when it showed one and that was verified: its length, no NUL behind
 * it. 0: there is none, or several, or one with blanks or control characters, or longer than room. */
size_t tls_peer_name(const struct tls_conn *c, char *out, size_t room);

int tls_peer_verified(const struct tls_conn *c); /* the peer showed a certificate, and it is of the authority */

/* The same connection by another descriptor of its socket, for another owner. ERR_OOM: nothing happened. */
must_use enum err tls_conn_move(struct tls_conn *c, int fd);

#endif
