/* tracking.h - CLIENT TRACKING: clients that keep what they read are told when it changes.
 *
 *     I/O thread of a reader                  log writer                          I/O thread of a reader
 *     tracking_note: the name and who,  --->  tracking_records: takes the   --->  pushes invalidate [names], to the
 *     then it is read                         names out that changed              connection or where it redirects
 *
 * **The table** has, for each name that somebody may have kept, the connections that read it since it was told of last:
 * a note is used up by the message. It knows names, `{vault}/path`, so that what is not there yet can be told of when
 * it comes. Clients that broadcast (BCAST) have no notes: they are told of every name with one of their prefixes.
 *
 * **No change is missed.** A name is noted before it is read, and looked for after the change is visible: so either the
 * read saw the change, or the note is found. A connection's own answer is never overtaken by the message that makes it
 * stale, and of a transaction, whose reads are older than its answer, the notes are looked at again behind it.
 *
 * **Nothing is told early, or twice to say too much**: only what is committed and visible on this node, to whose user
 * may read the name. A message may tell of what did not change for this client: names that were pushed out of a full
 * table (tracking-table-max-keys), those it read before it switched tracking off.
 *
 * **Names** are told as the client has them: a key of the facade as it was written, else `{vault}/path`. Broadcast are
 * keys of databases as keys, all others as `{vault}/path`; as keyspace events are.
 *
 * Threads: the table has locks, each held for a look-up. What concerns a connection happens on its I/O thread.
 */
#ifndef COFFER_SERVER_TRACKING_H
#define COFFER_SERVER_TRACKING_H

#include "base/bytes.h"
#include "base/err.h"
#include "base/mpsc.h"
#include "server/call.h"

struct tracking;

must_use enum err tracking_new(struct tracking **out,
                               struct server *srv); /* srv->config, srv->io_count are set. ERR_OOM */
void tracking_free(struct tracking *t);             /* when all connections are gone; accepts NULL */

/* ---- a connection that has conn->tracking set ---- */

enum conn_tracking {                     /* bits of conn->tracking */
                     TRACKING_NOTES = 1, /* what its commands read is noted */
                     TRACKING_HOLDS = 2, /* messages wait until what was pending is answered */
                     TRACKING_ON = 4,
};
/* The call is about to read. Before its handler; of a transaction when it is planned. */
void tracking_note(struct call *c);
/* 1: tracking_note notes what the call reads. Not any more behind tracking_ran: CLIENT CACHING is about one command. */
int tracking_is_noted(const struct call *c);
/* It was noted, it read, and its answer is on its way: when its names are noted no more, they are told again, behind
 * the answer. For answers that are older than what is sent with them: of a transaction's commands, and of the primary
 * (fallback.h). */
void tracking_look_again(struct call *c);
/* A command was carried out, or has begun: CLIENT CACHING was about this one. */
void tracking_ran(struct conn *c, const struct command *cmd);
/* Something was answered: what waited for it may go. */
void tracking_release(struct conn *c);

/* ---- what changed: engine_config.on_records ---- */
void tracking_records(struct tracking *t, struct bytes records, const struct mpsc_node *writes);

/* ---- figures ---- */

struct tracking_figures {
    uint64_t clients, keys, items, prefixes; /* prefixes: of each client's */
};
void tracking_figures(struct tracking *t, struct tracking_figures *out);

/* For CLIENT LIST: letters for its flags, and whom it redirects to: 0 nobody, -1: it does not track. */
int64_t tracking_describe(const struct conn *c, char letters[4]);
size_t tracking_bytes(const struct conn *c); /* of the connection's own: its prefixes */

#endif
