/* repl.h - this node's part in a cell: the thread coffer-cell, which has the replication core (engine/cellnode.h) and
 * the links to other nodes.
 *
 *     off ------ REPLICAOF, or a replica comes ----------------------------------------------+
 *      |                                                                                     v
 *      +-- `voters` or `replicaof` is given: finding, while this node is blank (founding.h) -> ready -> stopped
 *
 * A node without voters that nobody follows is *off*: its engine has no gate, what is durable is committed, and nothing
 * of this is in the way of a write. The first replica, or the first REPLICAOF, puts the gate in
 * (docs/decisions/0021).
 *
 * Indices of peers: voters by their place in the list. Without voters this node is 0, and whom it follows is 1.
 * Replicas that are no voters come behind, as they come.
 *
 * Threads: what is here may be called from any, but for what says otherwise; nothing blocks but what says so. Orders
 * (follow, promote) are carried out soon, not at once: what came of them is in the status, which is as of some
 * milliseconds ago.
 */
#ifndef COFFER_SERVER_REPL_H
#define COFFER_SERVER_REPL_H

#include <stdatomic.h>

#include "server/hello.h"
#include "server/resync.h"
#include "server/server.h"
#include "server/sock.h"

struct repl;
struct conn;
struct waitlist;

/* ---- life: the start thread ---- */

must_use enum err repl_new(struct repl **out, struct server *srv); /* ERR_OOM */
void repl_free(struct repl *r);                                    /* a stopped one; accepts NULL */

/* Reads the configuration, and finds the cell where this node must know it before its engine opens. Blocks, without
 * voters and with a log for no longer than names take to resolve; a blank node until others are there. ERR_SYNTAX: the
 * configuration is wrong; ERR_AGAIN: the server is stopping; ERR_IO, ERR_OOM. The log says why. */
must_use enum err repl_begin(struct repl *r, const uint8_t realm[16]);
const struct sequencer_gate *repl_gate(struct repl *r); /* for the engine; NULL: it is off */
int repl_found_elsewhere(struct repl *r);               /* 1: the cell is there; what it holds comes from others */
/* srv->engine is open. ERR_IO, ERR_OOM. */
must_use enum err repl_run(struct repl *r);
/* Ends thread and links; the gate is closed. Before the engine is closed. Blocks, up to some seconds. */
void repl_stop(struct repl *r);

/* Nothing is posted to srv->chores any more: before they are freed. Accepts NULL. */
void repl_no_chores(struct repl *r);

/* ---- orders ---- */

/* REPLICAOF host port; CONFIG REWRITE keeps it. *why (static text) with ERR_RANGE: nobody whom this node may follow.
 * ERR_LOADING, ERR_OOM. */
must_use enum err repl_follow(struct repl *r, const char *host, int port, const char **why);
/* REPLICAOF NO ONE. ERR_READONLY: this node is no voter. ERR_CORRUPT: it is in quarantine. ERR_LOADING, ERR_OOM. */
must_use enum err repl_promote(struct repl *r);

/* FAILOVER: hands over to a replica that holds everything; goes on by itself. *why (static text) with ERR_RANGE: it
 * cannot begin. ERR_OOM. */
struct repl_failover_order {
    char host[VOTERS_HOST_BYTES]; /* empty: any replica */
    int port, force;
    uint64_t timeout_ms; /* 0: none */
    uint8_t peer;        /* repl.c's own */
};
must_use enum err repl_failover(struct repl *r, const struct repl_failover_order *order, const char **why);
must_use enum err repl_failover_abort(struct repl *r); /* ERR_NOTFOUND: there is none */
const char *repl_failover_state(const struct repl *r); /* INFO's words for it; "no-failover" */

/* PSYNC: takes the socket of c over when the two may talk, which ends c without an answer here; the answer goes the
 * link's way. Else text is the error to answer, its prefix in front. On c's thread. */
struct repl_guest {
    char host[VOTERS_HOST_BYTES]; /* as it announced itself, or where it came from */
    int port;
    struct hello_node hello;
};
enum repl_accepted { REPL_TAKEN, REPL_ANSWERED };
enum repl_accepted repl_accept(struct repl *r, struct conn *c, const struct repl_guest *g,
                               char text[HELLO_WHY_BYTES + HELLO_TEXT_BYTES]);

/* ---- reads that a majority confirms: linearizable ones ---- */

/* For a read that has come whole. *round 0: not asked yet. ERR_AGAIN: park on repl_confirmed, and ask again with the
 * same *round. ERR_OK: it may be carried out now, or later, and so may all that had come when it was first asked.
 * ERR_READONLY: this is no primary; ERR_NOQUORUM. Any thread, never blocks. */
must_use enum err repl_confirm(struct repl *r, uint64_t *round);
struct waitlist *repl_confirmed(struct repl *r);

/* tls-replication: what nodes say to each other they say over TLS, each with a certificate. NULL: this connection may
 * be a link, or be copied over; else a static text why not. */
const char *repl_insecure(const struct server *srv, const struct conn *c);

/* ---- damage ---- */

/* What is here is damaged where a start needs it (why). In a cell with voters: waits until a majority of them, without
 * this node, is there and sound, and so holds all that was ever acknowledged; lets the voting file say that this node
 * is mute, marks its data to be set aside (engine/install.h), and has the server begin anew. ERR_AGAIN: it does, or is
 * stopping. ERR_CORRUPT: this node has nobody to copy from, something was set aside before, or there is no room; the
 * log says which. ERR_IO, ERR_OOM. On the start thread, behind repl_begin; blocks. */
must_use enum err repl_set_aside(struct repl *r, const char *why);

/* As engine_config.mend_log; srv is the struct server. From when the engine is being opened until it is closed; blocks.
 */
must_use enum err repl_mend_log(void *srv, struct wal *w, uint64_t lsn, int (*over)(void *arg), void *over_arg);

/* ---- questions ---- */

enum repl_state_verdict {
    REPL_STATE_UNKNOWN, /* not compared yet */
    REPL_STATE_EQUAL,
    REPL_STATE_STORES, /* what it serves is not what its log says */
    REPL_STATE_LOG,    /* what its log says is not what the primary's does */
};
const char *repl_state_name(enum repl_state_verdict v); /* "equal" */

struct repl_peer {
    char host[VOTERS_HOST_BYTES];
    int port, online, voter;
    int full;    /* a voter whose disk has no room for the log, as this primary heard last */
    int differs; /* it is in quarantine, and would not be promoted */
    int linked;  /* it may be stopped, or join again: not online, and not gone */
    uint8_t index;
    uint64_t held_lsn, lag_ms; /* held: durable there. lag: since something was heard of it */
};

struct repl_status {
    int on; /* 0: off: a master whom nobody follows; the rest is zeros */
    int voters, master;
    uint8_t leader;                      /* whom a replica follows; CELL_NOBODY */
    char leader_host[VOTERS_HOST_BYTES]; /* of a replica; empty: it follows nobody */
    int leader_port, link_up;
    uint64_t link_down_ms, heard_ms_ago;
    unsigned priority;
    uint32_t term;
    uint64_t offset, commit_lsn, read_rounds; /* rounds: of repl_confirm, so far */
    enum cell_mute mute;
    int has_aside;                 /* something was set aside here, and is there still */
    enum repl_state_verdict state; /* compared with the primary's at state_lsn */
    uint64_t state_lsn;
    char replid[HELLO_ID_CHARS + 1], replid2[HELLO_ID_CHARS + 1]; /* replid2: of the term before; empty: not known */
    uint64_t second_lsn;                                          /* the first that is not replid2's */
    unsigned peers;
    struct repl_peer peer[CELL_PEERS]; /* who follows this node; of a primary also voters that do not */
    char trouble[HELLO_WHY_BYTES];     /* why there is no link to whom it follows; empty: nothing to say */
    struct resync_info copy;           /* a full resync */
};
void repl_status(struct repl *r, struct repl_status *out);
/* Links, as CLIENT LIST and CLIENT KILL know them. */
struct repl_link {
    uint64_t id, since_ms; /* id: of the same row as clients'; 0: there is none */
    char peer[SOCK_END_BYTES], local[SOCK_END_BYTES];
    int followed; /* it leads to whom this node follows */
};
unsigned repl_links(struct repl *r, struct repl_link out[CELL_PEERS]); /* returns how many */
/* Soon; whoever dials opens it anew. One that is gone is no error. ERR_OOM. */
must_use enum err repl_link_kill(struct repl *r, uint64_t id);
/* A node that is empty waits for its cell, and this is why it has no link; 0: it does not, or there is nothing to say.
 */
int repl_is_waiting(struct repl *r, char why[HELLO_WHY_BYTES]);
/* Whom a replica's reads may be asked of: the primary as it knows it. 0: nobody. */
int repl_primary(struct repl *r, struct voter *out);
unsigned repl_holders(struct repl *r, uint64_t lsn); /* replicas that hold it durably */
/* min-replicas-to-write or min-replicas-max-lag is another one: what repl_may_write says follows at once. */
void repl_look_for_replicas(struct repl *r);

struct dial_self;
void repl_self(void *repl, struct dial_self *s); /* what this node says of itself where it dials: dial.h */

/* May a command be carried out here and now? ERR_OK, ERR_READONLY, ERR_NOREPLICAS ... for writes; ERR_NOQUORUM,
 * ERR_MASTERDOWN for reads, unless stale ones will do. One or two loads. */
#define REPL_STALLED_US 2000000 /* what is known is older: the process was paused, say */
static inline enum err repl_may_write(const struct server *srv)
{
    enum err e = (enum err)atomic_load_explicit(&srv->cell.write_err, memory_order_relaxed);
    return e || !atomic_load_explicit(&srv->cell.few, memory_order_relaxed) ? e : ERR_NOREPLICAS;
}
static inline enum err repl_may_read(const struct server *srv, uint64_t now_us)
{
    uint64_t seen_us = atomic_load_explicit(&srv->cell.seen_us, memory_order_relaxed);
    if (seen_us && now_us > seen_us + REPL_STALLED_US)
        return ERR_MASTERDOWN;
    return (enum err)atomic_load_explicit(&srv->cell.read_err, memory_order_relaxed);
}
static inline int repl_is_handing_over(const struct server *srv)
{
    return atomic_load_explicit(&srv->cell.handing_over, memory_order_relaxed);
}
static inline int repl_is_master(const struct server *srv)
{
    return !atomic_load_explicit(&srv->cell.replica, memory_order_relaxed);
}

#endif
