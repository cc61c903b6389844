/* sim.h - a cell of simulated nodes in one process: engine/cell.h on top of a network, disks and clocks that are made
 * of one seed. Everything that can happen is an action; whatever order they come in, the oracle must have nothing to
 * say, and when faults stop the cell must serve.
 *
 *     net       a connection for each direction between two nodes, in order. Connections break: what was under way is
 *               lost, or comes late, beside what later connections bring. Messages come twice. Directions are blocked
 *     disk      appends are durable after a sync; a crash keeps any subset of what was not synced, and the log ends at
 *               the first record missing. Syncs fail (the node halts), disks fill up, records go bad (found at the next
 *               start), voting files and whole disks are lost, though of a minority at a time
 *     crash     between any two effects, in the middle of a cut
 *     clock     each node has its own, and it runs as it likes: no rule rests on it
 *     promote   any node, at any time, several at once
 *
 * A run is a function of its seed: the same seed, the same trace.
 */
#ifndef COFFER_TESTS_SIM_SIM_H
#define COFFER_TESTS_SIM_SIM_H

#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>

#include "engine/cell.h"

enum {
    SIM_NODES = 7,    /* voters and others */
    SIM_LOG = 2400,   /* records of a run, at most */
    SIM_BATCH = 4,    /* records of a message */
    SIM_QUEUE = 24,   /* messages of a connection */
    SIM_CONNS = 96,   /* connections, those that are broken and not empty among them */
    SIM_READS = 8,    /* open at a node */
    SIM_OPEN = 64,    /* writes at a node whose outcome is open */
    SIM_DEAD = 256,   /* rolled back writes that are watched */
    SIM_TERMS = 4096, /* a run's */
};

struct sim_record {
    uint32_t term, id; /* id: no two records have the same */
    uint64_t chain;
};

/* ---- what a node's machine holds ---- */

struct sim_node {
    /* durable */
    struct sim_record log[SIM_LOG + 1]; /* [1..last]; below base as the snapshot has it */
    uint64_t base, last, synced;        /* records behind synced are in the page cache only */
    uint64_t applied;                   /* of the state; never more than was committed */
    struct cell_vote vote;
    uint64_t damaged; /* LSN that will not verify at the next start; 0 */
    int aside;        /* and where the start needs it: all that is here is set aside (server/repl_aside.c) */
    int vote_lost;

    /* of the process */
    int up, room;
    uint64_t now_ms;
    struct cell c;
    int fetching, fetch_from; /* a snapshot is on its way */
    uint64_t fetch_lsn, fetch_session;
    struct sim_read {
        uint64_t ticket, need_lsn;
    } reads[SIM_READS];
    unsigned read_count;
    struct sim_open {
        uint64_t lsn;
        uint32_t term;
    } open[SIM_OPEN]; /* writes that were admitted here and not told of */
    unsigned open_count;
};

struct sim_msg {
    struct cell_msg m;
    struct sim_record records[SIM_BATCH];
};

struct sim_conn {
    uint8_t used, from, to, current; /* current: the one that `from` sends on */
    unsigned head, count;
    struct sim_msg queue[SIM_QUEUE];
};

/* What may happen next. Weights are drawn anew for each seed. */
enum sim_action {
    SIM_DELIVER,
    SIM_TICK,
    SIM_SYNC,
    SIM_WRITE,
    SIM_START,
    SIM_FETCH,
    SIM_NEEDED = SIM_FETCH, /* without these up to here nothing moves */
    SIM_READ,
    SIM_PROMOTE,
    SIM_COUP,
    SIM_RECLAIM,
    SIM_FOLLOW,
    SIM_CRASH,
    SIM_BREAK,
    SIM_BLOCK,
    SIM_UNBLOCK,
    SIM_DAMAGE,
    SIM_BETRAY,
    SIM_LOSE_VOTE,
    SIM_LOSE_DISK,
    SIM_LOSE_LOG,
    SIM_SYNC_FAILS,
    SIM_ROOM,
    SIM_TRIM,
    SIM_ASK_OUTCOME,
    SIM_ACTIONS
};

struct sim {
    uint64_t seed, rng;
    unsigned voters, nodes;
    unsigned weight[SIM_ACTIONS];
    unsigned crash_chance, twice_chance, late_chance, batch, window;
    struct sim_node node[SIM_NODES];
    struct sim_conn conn[SIM_CONNS];
    uint8_t blocked[SIM_NODES][SIM_NODES];
    uint32_t next_id;
    uint64_t events; /* steps of the core */

    /* the oracle's */
    struct sim_record committed[SIM_LOG + 1];
    uint32_t committed_in[SIM_LOG + 1]; /* term of the primary that said so first */
    uint64_t committed_lsn;
    uint8_t opened_by[SIM_TERMS]; /* 1 + node whose barrier opened the term */
    struct sim_dead {
        uint64_t lsn;
        uint32_t term;
    } dead[SIM_DEAD];
    unsigned dead_count;
    uint64_t told[3];        /* OK, ROLLEDBACK, UNCERTAIN */
    uint64_t reads, relayed; /* relayed: records applied by replicas' replicas */

    FILE *trace; /* NULL: none */
    sigjmp_buf broken;
    char why[256]; /* what broke */
    int stuck;
};

uint64_t sim_random(struct sim *s);
static inline uint64_t sim_below(struct sim *s, uint64_t n)
{
    return n ? sim_random(s) % n : 0;
}
static inline int sim_chance(struct sim *s, unsigned of_65536)
{
    return (sim_random(s) & 0xffff) < of_65536;
}

/* ---- node.c ---- */

void sim_reset(struct sim *s, uint64_t seed, unsigned voters, unsigned others); /* all nodes down, disks empty */
void sim_start(struct sim *s, unsigned n);
void sim_crash(struct sim *s, unsigned n);
/* One event for an up node, and its effects. type and what it needs in ev; now_ms is filled in. The answer. */
enum err sim_step(struct sim *s, unsigned n, struct cell_event ev);
void sim_sync(struct sim *s, unsigned n);       /* what was appended is durable; usually tells the node */
void sim_fetch_done(struct sim *s, unsigned n); /* the snapshot that it fetches is there, or its source is not */
void sim_lose_disk(struct sim *s, unsigned n);  /* of a node that is down */
void sim_lose_log(struct sim *s, unsigned n, uint64_t lsn); /* the same, all behind lsn; the voting file stays */
unsigned sim_sick(const struct sim *s);                     /* voters whose word does not count */
uint64_t sim_chain(uint64_t before, uint32_t term, uint32_t id);

/* ---- net.c ---- */

void sim_send(struct sim *s, unsigned from, unsigned to, const struct cell_msg *m);
int sim_deliver(struct sim *s, struct sim_conn *conn); /* its first message. 0: none, or blocked */
int sim_deliver_any(struct sim *s);
void sim_break(struct sim *s, unsigned a, unsigned b, int both_hear);
void sim_drop_all(struct sim *s, unsigned n); /* a node's process ended */

/* ---- oracle.c: what must hold; sim_broken does not return ---- */

void sim_broken(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));
void oracle_opened(struct sim *s, unsigned n, uint32_t term);
void oracle_commit(struct sim *s, unsigned n, uint64_t lsn);
void oracle_serves(struct sim *s, unsigned n); /* it holds what earlier terms committed */
void oracle_has_all(struct sim *s, unsigned n);
void oracle_cut(struct sim *s, unsigned n, uint64_t lsn);
void oracle_admitted(struct sim *s, unsigned n, uint64_t first, uint64_t last);
void oracle_outcome(struct sim *s, unsigned n, uint64_t first, uint64_t last, uint32_t term, enum err err);
void oracle_read_begun(struct sim *s, unsigned n, uint64_t ticket);
void oracle_reads(struct sim *s, unsigned n, uint64_t seq, uint64_t lsn);
void oracle_crashed(struct sim *s, unsigned n);
void oracle_asked_outcome(struct sim *s, unsigned n, uint64_t lsn, uint32_t term);
void oracle_end(struct sim *s); /* everybody who was owed an answer had it */

/* ---- trace.c ---- */

void trace(struct sim *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void trace_effect(struct sim *s, unsigned n, const struct cell_effect *e);
void trace_message(struct sim *s, unsigned to, unsigned from, const struct cell_msg *m);

/* ---- chaos.c ---- */

/* One seed: `steps` actions at random, then peace. 1: nothing broke; else s->why says what, and s->stuck whether it is
 * only that the cell did not serve in the end. */
int sim_run(struct sim *s, uint64_t seed, unsigned voters, unsigned steps, FILE *trace_to);
/* Faults stop; the cell must serve, and every live node be up to date. */
void sim_peace(struct sim *s);

/* ---- script.c ---- */

/* Carries out the lines of a scenario that begin with "> "; writes them and what happens to out. 1: nothing broke. */
int sim_script(struct sim *s, FILE *in, FILE *out);

#endif
