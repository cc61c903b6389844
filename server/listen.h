/* listen.h - listening sockets and the acceptor: the main thread accepts, I/O threads get the sockets by turns.
 *
 * TCP on every address of `bind` at `port`, TLS at `tls-port`, and a UNIX socket. CONFIG SET port, tls-port and bind
 * take effect at once: new sockets are opened first, so that a refusal changes nothing, then the old ones close; what
 * is the same stays open. A port goes from one to the other as with Redis, by first closing the one: `CONFIG SET port 0
 * tls-port N`.
 *
 * Refused with Redis's texts: more than maxclients, and outsiders while the default user needs no password
 * (protected-mode).
 *
 * Threads: listen_change from any (CONFIG SET holds its lock); the rest on the main thread.
 */
#ifndef COFFER_SERVER_LISTEN_H
#define COFFER_SERVER_LISTEN_H

#include "base/err.h"
#include "server/server.h"

struct listeners;

/* Opens what the configuration says on srv->main's loop; hooks itself to CONFIG SET. ERR_CONFLICT: an address is taken;
 * ERR_IO; ERR_OOM; the log says which. Nothing is accepted before the main loop runs. */
must_use enum err listen_open(struct listeners **out, struct server *srv);
/* No more connections: closes the sockets and removes the UNIX socket's name. Those in the backlog are reset. */
void listen_close(struct listeners *l);
void listen_free(struct listeners *l); /* accepts NULL */

/* port, or else tls-port; 0: none. */
int listen_port(struct listeners *l);
int listen_tls_port(struct listeners *l); /* 0: none */

#endif
