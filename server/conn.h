/* conn.h - a client connection: what handlers may ask of it, and its life.
 *
 * A connection belongs to one I/O thread for life; every function here is called on that thread only. Other threads
 * reach a connection by a struct pending, by a waitlist (call.h), or by a tour of the I/O threads (io.h) that looks for
 * its id.
 *
 *                            lane busy
 *     accept                +-------------> CONN_HELD ----- the last pending is answered --+
 *       |       dispatch    |  call_park                                                   |
 *       +--> CONN_READY ----+-------------> CONN_PARKED --- waitlist_wake -----------------+--> CONN_READY
 *                           |  share used                                                  |
 *                           +-------------> CONN_YIELDED -- next turn ---------------------+
 *
 *     any state -- QUIT, protocol error, stopping -----> CONN_CLOSING: answers what is pending, writes, then
 *     any state -- end of file, limits, CLIENT KILL ---> CONN_DEAD: freed at the end of the loop turn
 *
 * Input and output pass through two locked buffers of the I/O thread; what is left over when a connection's turn ends
 * moves to buffers of its own, also locked, which are given back when empty. So an idle connection has none.
 */
#ifndef COFFER_SERVER_CONN_H
#define COFFER_SERVER_CONN_H

#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"
#include "resp/reply.h"
#include "server/call.h"
#include "server/config.h"

struct conn;
struct acl_user;
struct sock;

/* ---- what a handler may ask ---- */

uint64_t conn_id(const struct conn *c);
struct io *conn_io(const struct conn *c);
unsigned conn_db(const struct conn *c); /* SELECTed database; its vault is "db<n>" (deks_database_vault) */
void conn_set_db(struct conn *c, unsigned db);
int conn_proto(const struct conn *c);                   /* 2 or 3 */
void conn_set_proto(struct conn *c, int proto);         /* this command's reply already uses it */
const struct acl_user *conn_user(const struct conn *c); /* never NULL: before AUTH it is the default user */
int conn_authenticated(const struct conn *c);
const char *conn_peer(const struct conn *c); /* "127.0.0.1:50412", "/path/coffer.sock:0" */

int conn_is_local(const struct conn *c); /* UNIX socket or loopback */
int conn_is_tls(const struct conn *c);
int conn_is_certified(const struct conn *c); /* over TLS, with a certificate of the authority */

/* The last LSN that a write of this connection got: READ.AFTER, CLIENT LASTLSN, WAIT. Handlers of writes call it in
 * finish(). */
uint64_t conn_last_lsn(const struct conn *c);
void conn_saw_lsn(struct conn *c, uint64_t lsn);

/* Takes the socket away from c, TLS included, and c ends without an answer: PSYNC. ERR_OOM: nothing happened. */
must_use enum err conn_detach(struct conn *c, struct sock *out);

/* Close once the reply of this command is written (QUIT). */
void conn_close_after_reply(struct conn *c);

/* What a command may be depends on it: MULTI queues, and a RESP2 client that listens to channels may do little else. */
enum conn_mode { CONN_MULTI = 1, CONN_SUBSCRIBED = 2 };
void conn_set_multi(struct conn *c, int on);
void conn_subscribed(struct conn *c, int on);

/* Answers of pendings are written to r from now on, and QUIT's and CLIENT KILL's closing waits; NULL: as always.
 * EXEC's.
 */
void conn_capture(struct conn *c, struct reply *r);

/* State that another module keeps for a connection: MULTI, subscriptions, a replica's link. NULL until set; drop() is
 * called when the connection is freed or RESET. */
enum conn_slot { SLOT_MULTI, SLOT_PUBSUB, SLOT_REPLICA, SLOT_TRACKING, SLOT_FOLLOW, SLOT_OTHER, CONN_SLOTS };
void *conn_slot(const struct conn *c, enum conn_slot k);
void conn_set_slot(struct conn *c, enum conn_slot k, void *state, void (*drop)(struct conn *c, void *state));

/* A reply writer for bytes that answer no command: pushes, messages, MONITOR. Then conn_push_end. They go out after
 * what is written already, and never between the parts of a reply. */
struct reply *conn_push_begin(struct conn *c);
void conn_push_end(struct conn *c);

#endif
