/* call.h - one command being carried out: what a handler gets, and the three ways it may end.
 *
 * A handler runs on the I/O thread that owns the connection. It never blocks: no HSM call, no fsync, no wait for the
 * log.
 *
 *   CALL_DONE     the reply was written to c->reply.
 *
 *   CALL_PENDING  the answer comes later. The handler made a struct pending (call_pending), handed it to the engine or
 * the HSM, and somebody will call pending_complete() on it from any thread. Pendings of a connection answer in the
 * order in which they were made: when one is complete and all before it are, its finish() writes the reply on the I/O
 * thread. What other commands may start meanwhile is decided by the command table's lane (command.h), so that a
 * pipeline of writes shares a group commit, and a read after a write waits for it.
 *
 *   CALL_PARK     something is missing that is being fetched (a data key, an applied LSN). The connection stops here;
 * when call_wake() comes the same command is dispatched once more from the start. A handler parks before it has any
 * effect.
 *
 *   CALL_HOLD     EXEC only: the call goes on, from its start, when what is pending has been answered.
 */
#ifndef COFFER_SERVER_CALL_H
#define COFFER_SERVER_CALL_H

#include "base/bytes.h"
#include "base/err.h"
#include "base/mpsc.h"
#include "resp/reply.h"

struct server;
struct io;
struct conn;
struct command;
struct exec;

enum call_result { CALL_DONE, CALL_PENDING, CALL_PARK, CALL_HOLD };

/* Which vaults the databases are that a call is about: its own, and the one that COPY and MOVE write to. A SWAPDB of
 * another thread may come at any time: so each is looked up once (facade_database), and what was allowed is what is
 * done. */
struct call_databases {
    struct {
        unsigned db, vault;
    } at[2];
    unsigned n;
};

struct call {
    struct server *srv;
    struct io *io; /* the thread that runs this */
    struct conn *conn;
    const struct command *cmd;
    unsigned argc;
    const struct bytes *argv; /* argv[0] is the command's name; borrowed until the handler returns */
    struct reply *reply;
    uint64_t now_ms;   /* wall clock, read once a loop turn */
    struct exec *exec; /* the transaction that this command is part of, while it is planned and answered (multi.h) */
    struct call_databases *databases; /* the caller's, empty at first; NULL: looked up each time */
    enum err ready; /* ERR_OK: loaded and unsealed, and the user is one of what is loaded; ERR_LOADING, ERR_SEALED */
    uint64_t wakes; /* private: how many waitlist_wake there had been when this dispatch began */
    int missed;     /* it named something that is not here, or not yet (access.h) */
    enum err stale; /* a read that would be refused with this if nobody else answered it (fallback.h) */
};

typedef enum call_result (*call_fn)(struct call *c);

/* Replies the error with its default text, or with a formatted one (no prefix in fmt). Return CALL_DONE, so a handler
 * ends with `return call_error(c, ERR_NOVAULT);`. */
enum call_result call_error(struct call *c, enum err e);
enum call_result call_errorf(struct call *c, enum err e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- pending answers ---- */

struct pending {
    struct mpsc_node node; /* way back to the I/O thread */
    struct io *io;
    struct conn *conn; /* NULL: the client is gone, the answer is dropped */
    const struct command *cmd;
    void (*finish)(
        struct pending *p,
        struct reply *r); /* on the I/O thread, in order; writes the reply. Not called when the client is gone */
    void (*release)(struct pending *p); /* on the I/O thread; frees p, always called once, last */
    void (*gone)(struct pending *p);    /* on the I/O thread, when the client has gone before p is complete; NULL after
                                         * call_pending(). For what nobody else completes at the end of a life */
    struct pending *next;               /* of the connection, in order */
    uint64_t started_us;
    size_t bytes; /* about what it keeps in memory */
    uint8_t complete;
    uint8_t part; /* of a command that goes on (CALL_HOLD): it is counted once, at its end */
    uint8_t mute; /* CLIENT REPLY OFF or SKIP: what finish writes is dropped */
    uint8_t
        note_n; /* for SLOWLOG, since the arguments are gone by then: the first two behind the name, redacted, cut */
    uint8_t note_second;
    char note[62];
};

/* Ties p (memory of the handler's, usually embedded in its own struct) to the call. After this the handler must return
 * CALL_PENDING. */
void call_pending(struct call *c, struct pending *p, void (*finish)(struct pending *, struct reply *),
                  void (*release)(struct pending *));

/* Any thread, never blocks: the result is in. p may be gone when this returns. */
void pending_complete(struct pending *p);

/* ---- parked commands ---- */

/* A list of parked connections waiting for one thing, on any threads. */
struct waitlist;
must_use enum err waitlist_new(struct waitlist **out);
void waitlist_free(struct waitlist *w);

/* Parks the call on w; the handler returns the result: CALL_PARK, or CALL_DONE with an error when there is no memory. A
 * wake that happened after this dispatch began counts: the command is then tried again at once, so nothing is lost
 * between looking and parking. */
enum call_result call_park(struct call *c, struct waitlist *w);
/* Wakes everybody on w: their commands are dispatched anew. Call it after what they wait for is there to see. Any
 * thread. */
void waitlist_wake(struct waitlist *w);

#endif
