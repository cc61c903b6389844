/* pubsub.h - channels: who listens to what, and messages on their way to them.
 *
 *     any thread                               each I/O thread that has listeners
 *     pubsub_publish: looks who listens,  -->  writes the message to its listeners' output, in the order in which
 *     posts the message once a thread          messages were posted to the thread
 *
 * Messages are not kept: who is not there does not get them. They are no secrets of a vault, but are treated as if:
 * locked memory, wiped, never shown in logs. A listener that does not read is closed by client-output-buffer-limit
 * pubsub, so that it does not keep messages in memory.
 *
 * Threads: subscriptions of a connection change on its I/O thread. Everything else from any. A read-write lock is held
 * for a look-up; nothing waits for a client.
 */
#ifndef COFFER_SERVER_PUBSUB_H
#define COFFER_SERVER_PUBSUB_H

#include "base/bytes.h"
#include "base/err.h"
#include "server/conn.h"

/* Shard channels are a name space of their own; in a cluster a channel's slot would say which cell serves it. */
enum pubsub_kind { PUBSUB_CHANNEL, PUBSUB_PATTERN, PUBSUB_SHARD, PUBSUB_KINDS };

struct pubsub;
must_use enum err pubsub_new(struct pubsub **out, struct server *srv); /* srv->io_count is set. ERR_OOM */
void pubsub_free(struct pubsub *p);                                    /* when all connections are gone; accepts NULL */

/* Of this connection. Subscribing again is ERR_OK and changes nothing. ERR_OOM. */
must_use enum err pubsub_subscribe(struct pubsub *p, struct conn *c, enum pubsub_kind k, struct bytes name);
void pubsub_unsubscribe(struct pubsub *p, struct conn *c, enum pubsub_kind k, struct bytes name);
/* The name of one that it has, NULL bytes: none. Lives until it is unsubscribed. */
struct bytes pubsub_first(const struct conn *c, enum pubsub_kind k);
unsigned pubsub_count(const struct conn *c, enum pubsub_kind k);
size_t pubsub_bytes(const struct conn *c); /* that its subscriptions take */

/* Returns how many get the message: one that listens to a channel and to a pattern gets it twice and counts twice. */
unsigned pubsub_publish(struct pubsub *p, enum pubsub_kind k, struct bytes channel, struct bytes message);

/* 0: nobody listens to anything. */
int pubsub_any(const struct pubsub *p);
/* Different names that somebody listens to; how many listen to this one. */
unsigned pubsub_names(struct pubsub *p, enum pubsub_kind k);
unsigned pubsub_listeners(struct pubsub *p, enum pubsub_kind k, struct bytes name);
/* Calls visit with each name of channels under a lock: it must not come back here. */
void pubsub_each(struct pubsub *p, enum pubsub_kind k, void (*visit)(void *arg, struct bytes name), void *arg);

#endif
