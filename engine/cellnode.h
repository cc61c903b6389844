/* cellnode.h - a node of a cell: the core (cell.h) on this node's engine. What the core says is carried out here, on
 * log, voting file and sequencer; what it says to other nodes is handed to the owner, who has the links.
 *
 *     cellnode_open -> tick, received, changed, promote, follow ... -> cellnode_close, then the engine's
 *
 * The engine was opened with a gate (engine_config.gate) whose changed() makes the owner call cellnode_changed soon.
 * The gate is open while this node is a serving primary that hears a majority and has nothing open from before; else
 * writes are refused: READONLY, or NOREPLICAS on a primary without a majority.
 *
 * **Known and visible.** What the core knows to be committed may be a long way ahead of what this node shows: a log
 * that was left by an earlier run is taken up in steps, between which everything else goes on. Until the last of them
 * the node is *behind*, and nothing rests on the state that it shows: it is no master, though the core serves
 * (cellnode_status), local reads are refused (cellnode_fresh), the gate is closed, so that no condition is evaluated,
 * and writes of an earlier term that came through are not told yet. So whoever looks at the state asks here, not the
 * core.
 *
 * Threads: one at a time, the owner's. Calls block for an fsync of the voting file, the end of a group being written,
 * the cut of a log; callbacks are called in the course of them, and must not call this module.
 */
#ifndef COFFER_ENGINE_CELLNODE_H
#define COFFER_ENGINE_CELLNODE_H

#include "engine/cell.h"
#include "engine/engine.h"

struct cellnode;

struct cellnode_config {
    struct engine *engine;
    struct cell_config cell;
    const char *vote_path; /* copied */
    int newborn;           /* the cell has never been: a missing voting file was not lost */
    int damaged;           /* the log lost records (wal_report.damaged_lsn) */

    /* A message to a peer; head and records are borrowed. It may be lost when there is no link; order is kept. */
    void (*send)(void *arg, uint8_t to, struct bytes head, struct bytes records);
    void (*role)(void *arg);                              /* cellnode_status may have changed; may be NULL */
    void (*reads)(void *arg, uint64_t seq, uint64_t lsn); /* CELL_READS; may be NULL */
    void (*fetch)(void *arg, uint8_t from, const struct cell_point *at,
                  uint64_t session); /* CELL_FETCH: cellnode_fetched answers; NULL: refused */
    /* CELL_INSTALL, of what cellnode_fetched told of: makes it count, durably (install.h), and has the node opened
     * anew, soon: this one does nothing any more. 0: that failed, and what the disk holds is not known. */
    int (*install)(void *arg, const struct cell_point *at);
    void (*halt)(void *arg, const char *why); /* what the disk holds is not known any more: stop the process */
    void (*log)(void *arg, int level, const char *line); /* enum log_level */
    void *arg;
};

/* Reads the voting file. ERR_IO, ERR_OOM. */
must_use enum err cellnode_open(struct cellnode **out, const struct cellnode_config *cfg, uint64_t now_ms);
void cellnode_close(struct cellnode *n); /* closes the gate; accepts NULL */

const struct cell *cellnode_cell(const struct cellnode *n); /* what the core knows, which need not be visible yet */
/* As cell_serving, cell_status and cell_fresh, of what is visible. */
int cellnode_serving(const struct cellnode *n);
void cellnode_status(const struct cellnode *n, uint64_t now_ms, struct cell_status *out);
must_use enum err cellnode_fresh(const struct cellnode *n, uint64_t now_ms);
enum err cellnode_writable(const struct cellnode *n); /* what writes are refused with; ERR_OK: the gate is open */

/* Another state is about to take this one's place, and the node to be opened anew: from now on writes are refused, and
 * nothing that comes changes anything; orders are ERR_LOADING. */
void cellnode_freeze(struct cellnode *n);

/* Changes figures of the configuration. */
void cellnode_settings(struct cellnode *n, unsigned quorum_timeout_ms, unsigned max_staleness_ms, unsigned priority);

/* CELL_STATE. */
void cellnode_state(struct cellnode *n, int ok, uint64_t now_ms);

/* now_ms: monotonic, as in struct cell_event. */
void cellnode_tick(struct cellnode *n, uint64_t now_ms);
void cellnode_changed(struct cellnode *n, uint64_t now_ms); /* gate.changed was called since */

/* A message, as cellwire_get read it, and the records behind it. ERR_AGAIN: memory has no room for its records, or,
 * alone, its term is higher than the own and writes are under way: nothing was done, the same again after gate.changed.
 * When the disk has no room the records are not taken, and the session ends. ERR_CORRUPT: the records are not what the
 * message says, close the link.
 */
must_use enum err cellnode_received(struct cellnode *n, uint8_t from, const struct cell_msg *m, struct bytes records,
                                    uint64_t now_ms);
void cellnode_link_up(struct cellnode *n, uint8_t peer, uint64_t now_ms);
void cellnode_link_down(struct cellnode *n, uint8_t peer, uint64_t now_ms);
/* CELL_FETCHED; at NULL: no snapshot is to be had. */
void cellnode_fetched(struct cellnode *n, const struct cell_point *at, uint64_t session, uint64_t now_ms);

/* The core's answers. */
must_use enum err cellnode_promote(struct cellnode *n, int reclaim, uint64_t now_ms);
must_use enum err cellnode_follow(struct cellnode *n, uint8_t peer, uint64_t now_ms);
must_use enum err cellnode_hand_over(struct cellnode *n, uint8_t peer, uint64_t now_ms);
must_use enum err cellnode_read(struct cellnode *n, uint64_t *ticket, uint64_t now_ms);

#endif
