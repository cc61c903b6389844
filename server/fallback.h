/* fallback.h - replica-read-fallback: what a replica does not have yet it asks the primary for, and answers with that.
 *
 * Asked is a look-up (command_is_lookup) outside of a transaction that
 *
 *     named what is not here           a vault, a secret, a key, or a version of one: the answer of this node is kept
 *     is refused as too stale          -MASTERDOWN, or -CORRUPT of a node that differs
 *     comes behind READ.AFTER          and this node has not got there yet. READ.AFTER itself asks, at the end of its
 *                                      time, whether the primary has that LSN
 *     comes behind an answer like that and this node has not got there yet: a connection never sees things go back
 *
 * Of READ.AFTER's promise nothing is taken back: what shows this node's state, and is not asked of the primary, is
 * refused with -MASTERDOWN until this node has that LSN; whatever has become of it or of the fallback since.
 *
 * When the primary cannot be reached, or does not want to, the answer is the one that this node would have given
 * without all of this. The fallback takes `quorum-timeout` at most to connect, and again for an answer; then nobody
 * waits for a second, since the next ones would wait in vain as well. A name in `replicaof` takes what names take.
 *
 * **Who sees what.** This node checks its user first, as always. Then REPL.READ has the primary check that user, as it
 * knows it, and the one that the link logs in as: so nobody sees more than on either node, and a user for links that
 * may read nothing makes this node answer as without it. The primary must be of this cell, and what it answers be one
 * RESP value. Plaintext is handed out, and asked for, over TLS or on one machine. The primary carries a read out itself
 * or refuses: nothing is ever forwarded twice.
 *
 * Order: the answer is a pending (call.h), and what comes behind on its connection waits for it.
 *
 * One thread, coffer-fallback, with one connection that begins as a link does (dial.h): it starts when it is first
 * needed. Answers are in locked memory, and wiped.
 */
#ifndef COFFER_SERVER_FALLBACK_H
#define COFFER_SERVER_FALLBACK_H

#include "base/buf.h"
#include "base/err.h"
#include "server/call.h"
#include "server/hello.h"

#define FALLBACK_REQUEST_BYTES (32u << 10) /* a longer one is not asked */
#define FALLBACK_ANSWER_BYTES (16u << 20)  /* a longer one is not had */
#define FALLBACK_WORDS 7                   /* of REPL.READ before the command: the answer repeats the number */

struct fallback;
struct server;

must_use enum err fallback_new(struct fallback **out, struct server *srv); /* ERR_OOM */
void fallback_free(struct fallback *f); /* after the I/O threads have ended. What is asked fails; accepts NULL */

/* Why the primary answered none, last; 0: nothing to say. Any thread. */
int fallback_trouble(struct fallback *f, char why[HELLO_WHY_BYTES]);

/* ---- dispatch.c; the call's I/O thread ---- */

/* Instead of refusing a read with e: 1: let its handler's place be taken by fallback_ask. */
int fallback_takes_stale(const struct call *c, enum err e);
/* 1: what this node has is too old for cmd, which may be one that EXEC has of c's connection, and it said so: c->stale.
 */
int fallback_refuses(struct call *c, const struct command *cmd);
/* c->reply has an answer of this node behind mark: 1: another one is to be asked for. */
int fallback_is_wanted(const struct call *c);
/* Keeps that answer, and asks. CALL_DONE: it cannot be, and the answer stands. */
enum call_result fallback_ask(struct call *c, size_t mark);

/* ---- READ.AFTER ---- */

/* Something asked of the primary. */
struct fallback_request {
    struct fallback_request *next; /* private until done() */
    uint64_t end_us;
    void (*done)(struct fallback_request *q); /* any thread; once */
    void *arg;
    enum err err;    /* what came of it */
    uint64_t number; /* of no other request of this process */
    uint64_t lsn;    /* the primary's, at least */
    struct buf answer;
    unsigned words;
    size_t bytes;
    struct bytes word[];
};

int fallback_is_on(const struct call *c);
/* Whether the primary has lsn; with the call's command from argv[0] on: what it answers. NULL: no memory, or too long.
 */
struct fallback_request *fallback_request_new(const struct call *c, uint64_t lsn, unsigned argc);
void fallback_request_free(struct fallback_request *q); /* accepts NULL */
void fallback_post(struct fallback *f, struct fallback_request *q);

#endif
