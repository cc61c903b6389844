/* repl_impl.h - the insides of repl.h, shared by repl.c (life), repl_orders.c (REPLICAOF), repl_thread.c (the thread:
 * core, clock), repl_links.c (links, dialers, who comes in), repl_reads.c (reads that a majority confirms),
 * repl_failover.c (FAILOVER), repl_resync.c (full resyncs), repl_mend.c (a damaged log), repl_aside.c (one that is
 * damaged where a start needs it), repl_digest.c (do replicas hold the same?), repl_rebuild.c (one that does not) and
 * repl_status.c (what others are told). */
#ifndef COFFER_SERVER_REPL_IMPL_H
#define COFFER_SERVER_REPL_IMPL_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>

#include "base/clock.h"
#include "base/mpsc.h"
#include "engine/cellnode.h"
#include "engine/rebuild.h"
#include "engine/snapfile.h"
#include "server/chores.h"
#include "server/dial.h"
#include "server/founding.h"
#include "server/link.h"
#include "server/repl.h"
#include "server/resync.h"

#define REPL_VOTE_PATH "vote"
#define REPL_SOURCE 1 /* without voters: the index of whom this node follows */

enum repl_phase {
    REPL_OFF,
    REPL_FINDING, /* blank: links only introduce */
    REPL_FOUND,   /* the cell is known, the engine opens */
    REPL_READY,
    REPL_STOPPED,
};

/* repl_reads.c; rounds count 1, 2, 3 ... */
struct repl_reads {
    _Atomic uint64_t wanted, begun, done; /* done <= begun <= wanted <= begun + 1 */
    _Atomic uint64_t failed;              /* the newest that failed, with err */
    _Atomic int err;
    struct waitlist *parked;
    int under_way; /* these are the thread's */
    uint64_t ticket, begun_ms, confirmed, lsn;
};

/* repl_failover.c; the thread's, but for state. */
struct repl_failover {
    _Atomic int state;
    uint8_t target; /* CELL_NOBODY: any */
    int force;
    unsigned turns;               /* in which somebody held all of the log */
    uint64_t end_ms;              /* 0: none */
    char host[VOTERS_HOST_BYTES]; /* as it was named; empty: not */
    int port;
};

/* repl_digest.c. One comparison at a time. */
struct repl_digest {
    _Atomic int verdict; /* enum repl_state_verdict of the last one that could be made */
    _Atomic uint64_t compared_lsn;
    _Atomic int state;
    _Atomic unsigned rebuilds;  /* under way */
    uint64_t told_lsn, told_ms; /* the primary's */
    uint64_t new_lsn;           /* told by the primary, not compared yet; 0: none */
    uint8_t new_theirs[SNAPFILE_HASH_BYTES];
    uint64_t lsn; /* compared now, or last; the chore's while it runs */
    uint8_t theirs[SNAPFILE_HASH_BYTES];
    struct chore chore;
    int closed; /* under lock: no more chores */
    uint64_t mend_ms;
    unsigned mends;
};
struct repl_digest_rebuild {
    struct rebuild_wait w;
    struct repl_digest *digest;
};

/* repl_status.c: the log's last change of terms, as of when it was looked at. */
struct repl_turn {
    uint32_t term, log_term, before; /* log_term: of the log's last record then */
    uint64_t first_lsn;
};

/* repl_rebuild.c; the thread's. */
struct repl_rebuild {
    int asked, has;     /* has: copied is whole, and waits for this node's log to come up to it */
    int counts;         /* the log goes on from it, and is kept whatever it takes */
    uint64_t needs_lsn; /* asked: no copy is older than this */
    struct resync_result copied;
    uint64_t again_ms;
    char said[HELLO_WHY_BYTES]; /* why not */
};

enum repl_wish {
    REPL_WISH_NONE,
    REPL_WISH_AGAIN, /* it was primary, and will be unless another one lives */
    REPL_WISH_TOLD,
};

/* What other threads ask of the thread, in order. Freed by run(). */
struct repl_task {
    struct mpsc_node node;
    void (*run)(struct repl *r, struct repl_task *t);
};

struct repl {
    struct server *srv;
    struct sequencer_gate gate;
    struct mpsc tasks;
    struct repl_reads reads;
    struct repl_failover failover;
    struct repl_digest digest;
    struct repl_rebuild rebuild;
    int wake_fd;
    _Atomic int woken; /* wake_fd is written */

    /* By repl_begin, constant afterwards. */
    struct voters voters;
    int configured; /* voters or replicaof are given */
    uint8_t self;   /* index; behind the voters: none of them */
    int begins;     /* blank, and sound */
    int found_elsewhere;
    struct voter first; /* replicaof, port 0: not given */

    pthread_mutex_t lock; /* what follows */
    pthread_cond_t changed;
    enum repl_phase phase;
    int running, stop;     /* the thread */
    _Atomic int has_aside; /* something is set aside here (install.h), as of the start or the last second */
    int ordered;           /* REPLICAOF was answered so often, and not carried out yet */
    int dials;             /* the dialers have begun: from now on they are the thread's */
    int own_cell;          /* NO ONE: a blank node without voters is to begin a cell of its own */
    struct hello_node mine;
    struct founding founding;
    struct repl_status status;
    int seeks; /* told to follow somebody, and not in step with him: gives strangers nothing */
    char address[CELL_PEERS][LINK_ADDRESS_BYTES]; /* of links that are, or were, there */
    struct repl_link shown[CELL_PEERS];

    /* The thread's; before it runs the start thread's. */
    pthread_t thread;
    struct event_base *base;
    struct event wake_ev, tick_ev;
    struct cellnode *node; /* NULL: off, or not yet */
    uint64_t config_epoch, config_id, second_ms, link_down_since_ms;
    uint64_t session[CELL_PEERS]; /* counted last */
    uint8_t source;               /* whom the node is told to follow; CELL_NOBODY */
    struct repl_order *waiting;   /* REPLICAOF, from before there is a node: the newest; NULL: none */
    enum repl_wish wants_to_lead; /* as soon as a majority is linked */
    int turning_on;               /* the core has just come to a node that served alone */
    int leads, lacks_room;        /* what was logged last */
    struct repl_turn turn;
    struct link *link[CELL_PEERS];
    uint64_t linked_as[CELL_PEERS], links_made; /* each link is the how many-th */
    struct dialer *dialer[CELL_PEERS];
    uint64_t dialers; /* how many there have been */
    struct repl_guest guest[CELL_PEERS];
    uint64_t full_said_us;              /* when it was logged last that there is no place; 0: never */
    struct dialer *leaving[CELL_PEERS]; /* told to end; joined when they have, or at the end */
    char trouble[CELL_PEERS][HELLO_WHY_BYTES];
    struct resync *resync;
    struct resync_result copied; /* what came of it last */
    uint8_t fetching;            /* whose snapshot is copied, or was last; CELL_NOBODY */
    uint64_t dial_again_ms;      /* a stranger; 0: not */
    int caught_up;               /* 1: it was in step with a primary since the start */
};

static inline int repl_alone(const struct repl *r)
{
    return r->voters.n <= 1;
}
static inline unsigned repl_voters(const struct repl *r) /* as the core counts them */
{
    return r->voters.n ? r->voters.n : 1;
}

/* ---- repl.c ---- */
void repl_wake(struct repl *r);
void repl_post(struct repl *r, struct repl_task *t);
int repl_own_port(const struct repl *r); /* where others reach this node; 0: nowhere */
#define REPL_LOOK_US                                                                                 \
    200000 /* who waits for others on the start thread looks as often whether the server is stopping \
            */
#define REPL_SAY_US 10000000

/* ---- repl_orders.c ---- */
int repl_begin_as_ordered(struct repl *r); /* the thread's, with a new node; 0: it was told nothing since the start */
must_use enum err repl_look_at_orders(struct repl *r);             /* what orders may wait for has changed. ERR_OOM */
void repl_keep_source(struct repl *r, const char *host, int port); /* for CONFIG REWRITE; port 0: nobody */

/* ---- repl_thread.c ---- */
must_use enum err repl_thread_start(struct repl *r);                     /* lock held. ERR_OOM */
must_use enum err repl_open_core(struct repl *r, struct cellnode **out); /* the engine is open, and has the gate */
void repl_run_tasks(struct repl *r);
void repl_turn_on(struct repl *r);           /* off: the gate is put in, and the core opened */
void repl_halt(void *repl, const char *why); /* ends the process */
int repl_is_stopping(struct repl *r);
void repl_follow_now(struct repl *r, uint8_t peer);
void repl_lead_now(struct repl *r);
void repl_keep_log(struct repl *r); /* what is needed of it, as of now */

/* ---- repl_links.c; the thread's, but for the dialers' beginning ---- */
must_use enum err repl_dial_voters(struct repl *r);                /* whom this node has to open links to */
void repl_dial_source(struct repl *r, const char *host, int port); /* without voters; port 0: nobody */
void repl_send(void *repl, uint8_t to, struct bytes head, struct bytes records);
const char *repl_peer_name(const struct repl *r, uint8_t peer, char out[VOTERS_HOST_BYTES + 16]); /* host:port */
void repl_links_resume(struct repl *r);
void repl_links_check(struct repl *r, uint64_t now_ms);
void repl_links_close(struct repl *r);
unsigned repl_linked_voters(const struct repl *r); /* this node among them */

/* ---- repl_reads.c ---- */
void repl_on_reads(void *repl, uint64_t seq, uint64_t lsn); /* cellnode_config.reads */
void repl_reads_turn(struct repl *r, uint64_t now_ms);      /* the core may have gone on, or reads have come */

/* ---- repl_failover.c ---- */
void repl_failover_tick(struct repl *r, uint64_t now_ms);
void repl_told_to_stand(struct repl *r, uint8_t from); /* the core has seen the message */

/* ---- repl_digest.c ---- */
void repl_digest_told(struct repl *r, uint8_t from, const struct cell_msg *m);
void repl_digest_turn(struct repl *r, uint64_t now_ms); /* now and then */
int repl_is_quarantined(const struct repl *r);          /* it differs: serves no reads */

/* ---- repl_rebuild.c ---- */
#define REPL_REBUILD_TICKET 0                            /* no session of the core's */
void repl_rebuild_turn(struct repl *r, uint64_t now_ms); /* its state differs from the primary's, its log does not */
void repl_rebuild_copied(struct repl *r, const struct resync_result *c, uint64_t now_ms);
uint64_t repl_rebuild_needs_lsn(const struct repl *r); /* of this node's log; UINT64_MAX: nothing */

/* ---- repl_resync.c ---- */
must_use enum err repl_resync_new(struct repl *r); /* ERR_OOM */
void repl_fetch(void *repl, uint8_t from, const struct cell_point *at, uint64_t session);
int repl_install(void *repl, const struct cell_point *at);
/* Whom this node is told to follow is of another cell, and both are alone. */
void repl_meet_stranger(struct repl *r, uint8_t peer, const struct hello_node *theirs);
void repl_resync_check(struct repl *r, uint64_t now_ms); /* now and then */
void repl_forget_fetch(struct repl *r);
void repl_want(struct repl *r, uint8_t peer, struct resync_want *w); /* fills in the address */
/* rebuild: the log stays, and what was made of it is set aside. ERR_IO, ERR_MISCONF: whether it counts is not known. */
must_use enum err repl_make_it_count(struct repl *r, const struct resync_result *c, int rebuild);
void repl_begin_anew(struct repl *r, const struct snapfile_header *h);
uint64_t repl_keep_free(const struct repl *r); /* bytes of the disk that are not for copies */

/* ---- repl_status.c ---- */
void repl_look_at_terms(struct repl *r); /* now and then */
void repl_publish(struct repl *r, uint64_t now_ms);

#endif
