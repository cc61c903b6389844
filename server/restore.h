/* restore.h - the third tier of recovery: what a start does without a log, and a snapshot from the object store for one
 * whose own are no good. docs/recovery.md has the rule for operators.
 *
 * **A start without a log** (no segment in DIR/wal):
 *
 *     no snapshot here, and no object store, or nothing there with the name of a snapshot (of this cell, where DIR/cell
 *     says which)                         a new cell begins
 *     the object store does not answer    asked again every few seconds; nothing is served meanwhile
 *     there are snapshots                 nothing is served until somebody says CELL.FORCE-RECOVER, or the directive
 *                                         force-recover does. Never by itself: what was written after the newest
 *                                         snapshot is lost, and the log may only be on another disk
 *
 * **Recovering by force** is refused where there are stores: they may be newer than any snapshot, and show that there
 * was a log. It takes the best snapshot that verifies (bucket.h), of those here and there; what does not is passed over
 * with a warning. It is put into DIR/snapshots, DIR/cell is written, then DIR/begin (engine/celldir.h), which makes it
 * count. The engine opens; its log begins behind the snapshot, in a term that is RESTORE_TERM_GAP above all terms in
 * the names that were seen, since terms may have begun that no snapshot tells of. A crash before DIR/begin leaves a
 * directory without a log, and what was downloaded is found; after it the next start goes on by itself.
 *
 * **In a cell** (repl.h) it is looked before voter 0 makes the cell's id, so of any cell, and again when the id is
 * known: docs/decisions/0026.
 *
 * **A start with a log** whose snapshots are no good gets one that fits the log (restore_snapshot), by itself: nothing
 * is lost by that.
 *
 * Threads: demand, refuse, hold and info from any; none of them blocks. The rest on the start thread; they block on the
 * network, the HSM and the disk. Ends within a second or so of srv->stopping.
 */
#ifndef COFFER_SERVER_RESTORE_H
#define COFFER_SERVER_RESTORE_H

#include "engine/engine.h"
#include "resp/reply.h"
#include "server/bucket.h"

#define RESTORE_TERM_GAP 1000

struct restore;
struct server;

must_use enum err restore_new(struct restore **out, struct server *srv); /* ERR_OOM */
void restore_free(struct restore *r);                                    /* accepts NULL */

/* Does what is to be done about a directory without a log. Blocks until the engine may open it. ERR_AGAIN: the server
 * is stopping. ERR_IO, ERR_OOM, ERR_CORRUPT (DIR/cell); the log says why. */
must_use enum err restore_begin(struct restore *r);
/* The node serves, or its start failed: answers who waits. */
void restore_done(struct restore *r, enum err e);

/* As engine_config.fetch_snapshot; arg is the struct server. */
enum err restore_snapshot(void *srv, const uint8_t cell_id[16], uint64_t from, uint64_t to,
                          int (*fits)(void *arg, const struct snapfile_header *h), void *arg);

/* Says that it may be recovered by force; done() when the node serves, or with why it does not. Of a node that serves
 * already, ERR_CONFLICT at once. w is the caller's until then. */
struct restore_wait {
    struct restore_wait *next; /* private */
    void (*done)(struct restore_wait *w);
    int any; /* 1: of the only cell that there is, else cell_id */
    uint8_t cell_id[16];
    enum err err;
    char why[768];
    struct restore_result {
        uint8_t cell_id[16];
        uint64_t lsn, time_ms; /* of the last record recovered */
        uint32_t term, new_term;
        char node[SNAPOBJECT_NODE_BYTES]; /* whose snapshot it was; empty: it was here */
    } result;
};
void restore_demand(struct restore *r, struct restore_wait *w);

/* Answers a command that needs data while there are none: LOADING, with what keeps a node that is empty from its cell,
 * or what is to be done. */
void restore_refuse(struct restore *r, struct reply *reply);

/* A log is here, but damaged: nothing is served, for the reason in why, which may change. */
void restore_hold(struct restore *r, const char *why);

enum restore_state { RESTORE_LOOKING, RESTORE_WAITING, RESTORE_RUNNING, RESTORE_DAMAGED, RESTORE_OVER };
const char *restore_state_name(enum restore_state s);

struct restore_info {
    enum restore_state state;
    uint64_t here_bytes, total_bytes; /* of the download under way */
    char why[768];                    /* what it waits for; empty: it does not */
};
void restore_info(struct restore *r, struct restore_info *out);

#endif
