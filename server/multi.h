/* multi.h - transactions: MULTI queues, EXEC carries out, WATCH makes it conditional.
 *
 * **EXEC is one write.** The queued commands are planned first: each that changes secrets is run as always, but its
 * change (change.h) is collected instead of submitted, and each that reads secrets becomes a step that notes what the
 * secret is at that point. All of that is one struct write: one record in the log, whatever vaults and shards it is
 * about, visible at once, or nothing. With nothing but reads there is no write: they are looked up here, as of one
 * point in time (engine.h, engine_moment), on a replica too. A command that fails (INCR of a word) undoes what it did
 * and answers its error, the others stand, as in Redis. A record is at most RECORD_MAX_BYTES: over that EXEC answers
 * TOOBIG and did nothing.
 *
 * Then the answers are written in order: those of changes, those of reads (the handler runs now, and access_read gives
 * it what was noted), and those of all other commands, which run now, one after the other. So PING, CONFIG SET,
 * CLIENT KILL, PUBLISH and KEYS take place after the record, whatever their place in the queue; KEYS and SCAN see the
 * transaction as a whole. What may have to be waited for (the HSM, a tour of the threads) is waited for.
 *
 *     QUEUEING --EXEC--> planned --submitted--> COMMITTING --durable--> ANSWERING --the last--> gone
 *         |                 '---- park: a data key is missing; planned anew when it is there
 *         '--DISCARD, RESET, the connection goes--> gone
 *
 * **WATCH** notes the LSN of the record that last changed the secret, 0 when it is not visible, and that of the last
 * record. EXEC checks that in the sequencer, in front of all steps: any change by anybody in between, an expiry too,
 * makes it answer nil; so does what was made and is gone again.
 *
 * Queued arguments are in locked memory. One connection queues at most MULTI_BYTES_MAX of them.
 *
 * Threads: all of it on the connection's I/O thread; the write is the engine's while it is under way.
 */
#ifndef COFFER_SERVER_MULTI_H
#define COFFER_SERVER_MULTI_H

#include "engine/engine.h"
#include "server/call.h"

#define MULTI_BYTES_MAX (16u << 20)

struct change;
struct exec;

/* ---- for dispatch: a connection of which conn_in_multi() ---- */

/* 1: the command is not for now but for the queue: it was queued and +QUEUED answered, or refused for its size. */
int multi_queue(struct call *c);
/* A command was refused, with the error behind mark: EXEC will answer EXECABORT. EXEC itself: the transaction is over,
 * and the error begins with EXECABORT. */
void multi_refused(struct call *c, size_t mark);

/* Commands queued, -1: not in MULTI; bytes of their arguments, and of what is watched. */
int multi_length(const struct conn *c);
size_t multi_bytes(const struct conn *c);

/* 1: EXEC is beyond its plan, and has not answered yet: its next turn is not to be refused. */
int multi_under_way(const struct conn *c);
/* All that is watched has changed: the state is another one. */
void multi_spoil(struct conn *c);

/* ---- for handlers that run as a part of a transaction (call.exec) ---- */

/* The change is part of the write now. */
void multi_collect(struct exec *x, struct change *ch);
/* A read as of the command's place. ERR_NOTFOUND, ERR_CORRUPT. */
must_use enum err multi_read(struct exec *x, struct vault *v, struct bytes path, int value, uint64_t now_ms,
                             struct secret_view *view);
/* DBSIZE as of its place: 1 with *n. */
int multi_count(const struct exec *x, uint64_t *n);
/* SWAPDB inside it: databases from here on; the one that db is at the place that is planned. */
void multi_swap(struct exec *x, unsigned a, unsigned b);
unsigned multi_database(const struct exec *x, unsigned db);

#endif
