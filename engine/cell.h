/* cell.h - replication and promotion as pure steps: (state, event) -> new state, effects. docs/replication.md says why
 * each rule (R1 to R12) is there, what breaks without it, and which function holds it.
 *
 *     cell_init(&c, &config, &boot, &fx);         carry out fx
 *     for (;;) {
 *         event = tick, message, disk done, promote, follow, write, read ...;
 *         cell_step(&c, &event, &fx);             carry out fx, in order
 *     }
 *
 * Nothing in here reads a clock, draws a random number, allocates, or touches disk or network: events bring all that in
 * and effects say what to do. The server and the simulation (tests/sim) run the same code.
 *
 * **A cell** is a fixed list of voters (1, 3, 5 or 7) and any number of further replicas. Peers are named by a small
 * index: voters first, in the order of the configured list, which is the same on every node (`config_id` is its hash,
 * and part of every handshake); others behind them, each node's own business. With one voter a node is its own quorum:
 * Redis's semantics, see "Alone" below.
 *
 * **Relays.** A replica in session streams its log on to replicas that are no voters, as the primary would, with what
 * it knows to be committed: they apply no more than it may. What they hold counts for nobody. They hear how old its
 * news of the primary is, and how many relays it came through, so that whoever follows itself in the end leaves.
 *
 * **A point** (LSN, term, chain) names a whole log prefix: two logs that show equal points are equal up to there.
 *
 * **Terms.** A node promises a term once, durably, and hears nothing below it afterwards (R3). The primary of a term
 * was promised it by a majority, holds everything that any majority ever acknowledged before (R4), and begins with a
 * barrier record, under which older records commit (R5, R7).
 *
 *     REPLICA --promote--> (probe) --majority answers--> CANDIDATE --majority promises, best log fetched--> PRIMARY
 *        ^                                                   |                                                 |
 *        +------ time is up, or a higher term is seen -------+------ a higher term is seen, or follow ---------+
 *
 * A primary *serves* once its barrier is committed. Until then it shows itself as a replica (cell_status).
 *
 * **Mute.** A node whose log was found damaged, or shorter than it had been, or whose voting file is lost, neither
 * votes nor stands nor is counted (R1, R11), until in a session begun afterwards it holds all that the primary had at
 * the handshake. That it is mute is in the voting file. Who lost the file cannot know what it had promised: it asks
 * every other voter first, and promises one more than the highest answer; only a term that began after the loss reaches
 * that (docs/decisions/0014).
 *
 * **Alone** (one voter): a write is acknowledged after the own fsync, promotion needs nobody, replicas are not counted,
 * and a primary that hears of a higher term opens one above it instead of giving way. A replica of another node's cell
 * takes that node's data over its own, as after Redis's REPLICAOF.
 *
 * Threads: one at a time for each struct cell. Nothing blocks, but log->chain_at may (it reads a record's end).
 */
#ifndef COFFER_ENGINE_CELL_H
#define COFFER_ENGINE_CELL_H

#include "engine/record.h"

#define CELL_VOTERS 7
#define CELL_PEERS 32    /* voters and other replicas */
#define CELL_EFFECTS 144 /* of one step: more than four for each peer */
#define CELL_NOBODY 0xff
#define CELL_HOPS 15 /* so many relays are one too many: a circle, or nearly */

struct cell_point {
    uint64_t lsn;  /* 0: the empty prefix, with term 0 and a chain of zeros */
    uint32_t term; /* of the record there */
    uint8_t chain[RECORD_CHAIN_BYTES];
};

/* Reading the own log, as if all effects so far were carried out (also appends that are not durable yet). */
struct cell_log {
    const void *arg;
    uint32_t (*term_at)(const void *arg, uint64_t lsn); /* any LSN ever in this log's prefix; 0 for LSN 0 */
    void (*chain_at)(const void *arg, uint64_t lsn, uint8_t out[RECORD_CHAIN_BYTES]); /* base to last */
};

/* The voting file: what a node must not forget. */
struct cell_vote {
    uint32_t promised;   /* highest term promised, stood for or followed */
    uint8_t promised_to; /* voter whom it was given to; CELL_NOBODY: none, it was only followed */
    uint8_t mute;        /* enum cell_mute */
    uint64_t held_lsn;   /* a sound voter's log has been so long, and was never cut below: a log that is shorter at a
                          * start has lost something. 0 only if it has never acknowledged a record */
};

enum cell_mute {
    CELL_SOUND = 0,
    CELL_DAMAGED = 1, /* the log lost something, the promise is known */
    CELL_LOST = 2,    /* the promise is not known: no file, or one that does not verify */
};

struct cell_config {
    uint8_t self;       /* index; self >= voters: never votes, never counted, cannot be promoted */
    uint8_t voters;     /* 1: alone */
    uint8_t peers;      /* voters and others, up to CELL_PEERS */
    uint64_t config_id; /* hash of cell id and list of voters: others are refused */
    uint64_t seed;      /* random, new with each start: names sessions, spreads retries */

    /* Milliseconds. No safety rule depends on any of them. */
    unsigned heartbeat_ms;       /* 50 */
    unsigned retry_ms;           /* 500: between attempts to join */
    unsigned link_timeout_ms;    /* 1000: without a frame the session is given up */
    unsigned quorum_timeout_ms;  /* 2000: a primary that hears no majority refuses */
    unsigned max_staleness_ms;   /* 5000: a replica that hears no primary refuses */
    unsigned gate_timeout_ms;    /* 4000: of a promotion, shorter than Sentinel's failover-timeout */
    unsigned write_timeout_ms;   /* 3000: without any commit the primary opens a new term (R9) */
    unsigned outcome_timeout_ms; /* 10000: after that a rolled back write's outcome is UNCERTAIN */
    unsigned lame_ms;            /* 60000: slave_priority 200 after a promotion that failed */
    unsigned priority;           /* 100: slave_priority otherwise */

    unsigned batch_records;  /* 64: of one message */
    unsigned window_records; /* 1024: sent and not acknowledged, for each peer */
};
extern const struct cell_config cell_config_default; /* the figures above; self, voters, peers, ids are zeros */

/* ---- messages between peers ---- */

/* Fields each uses beside `promised` (the sender's promised term: who sees a higher one than its own primaryship's
 * steps down, R3) and `session` (echoed in answers):
 *
 *     PROBE                                           what have you promised? Changes nothing
 *     PROBED      leader                              whose primary is alive as far as the sender knows
 *     ASK         term                                promise me this term
 *     PROMISED    term, granted, at                   granted: `at` is the sender's last record
 *     JOIN        config_id, at, want, full           stream me what follows `at`; want.lsn: as the donor of a promise;
 *                                                     full: a snapshot, whatever my log says
 *     COUNTER     term, at, end, hops, age            not in my log; my highest that may be in yours is `at`
 *     CONTINUE    term, at, end, hops, age            equal up to `at`; records follow. end: my last
 *     SNAPSHOT    term, at, hops, age                 my log begins later: fetch a snapshot at `at`, or behind it
 *     RECORDS     term, at, first, last, end,         records behind `at` up to `end`; first > last: a heartbeat,
 *                 records, commit, seq, hops, age     all before first was sent
 *     ACK         term, lsn, seq, mute, why           durable up to lsn. CELL_NOROOM: it takes no more now;
 *                                                     CELL_DIFFERS: it would not stand
 *     LEAD        term                                I am primary of this term: join me. From voter to voter only
 *     REFUSED     why, leader                         answers JOIN
 *     STAND       term                                your primary asks you to stand: as PROMOTE there
 *     DIGEST      term, at                            the owner's: not the chain but the state's digest at at.lsn
 *     ALIVE                                           the link's: nothing else was said for a while
 */
enum cell_msg_type {
    CELL_PROBE,
    CELL_PROBED,
    CELL_ASK,
    CELL_PROMISED,
    CELL_JOIN,
    CELL_COUNTER,
    CELL_CONTINUE,
    CELL_SNAPSHOT,
    CELL_RECORDS,
    CELL_ACK,
    CELL_LEAD,
    CELL_REFUSED,
    CELL_STAND,
    CELL_DIGEST,
    CELL_ALIVE,
    CELL_MSG_TYPES
};
const char *cell_msg_name(enum cell_msg_type type); /* "PROBE" */

enum cell_why {
    CELL_NOTPRIMARY = 1, /* ask `leader`, or later */
    CELL_OTHERCONFIG,    /* another cell, or another list of voters */
    CELL_DIVERGED,       /* same LSN and term, another chain: cannot happen */
    CELL_DISKFAILED,     /* of an alarm: a write or sync failed */
    CELL_NOROOM,         /* of an ACK: the disk has no room for the log; older versions do not say so */
    CELL_DIFFERS,        /* of an ACK: what it made of the log is wrong; older versions do not say so */
};

struct cell_msg {
    enum cell_msg_type type;
    uint8_t granted, full, mute, leader, why;
    uint8_t hops;    /* relays that it came through, the sender among them; 0: from the primary */
    uint32_t age_ms; /* since the primary was heard of, from a primary since its majority was; UINT32_MAX: never */
    uint32_t promised, term;
    uint64_t session, config_id;
    struct cell_point at, want, end;
    uint64_t first, last, commit, seq, lsn;
    const void *records; /* received: the caller's handle of first..last, handed back in APPEND; it has checked that
                          * they chain from at to end. Sent: NULL; the caller takes them, and end, from the log, where
                          * they all are when the effect is carried out */
};

/* ---- events ---- */

enum cell_event_type {
    CELL_TICK,     /* some time passed: at least every heartbeat_ms */
    CELL_RECEIVED, /* peer, msg */
    CELL_SYNCED,   /* lsn: all appended up to it is durable. Never told of an append before a CUT or INSTALL after it */
    CELL_SYNC_FAILED, /* a write or sync of log or voting file failed, once: halts */
    CELL_LINK_DOWN,   /* peer: its connection is gone */
    CELL_LINK_UP,     /* peer: there is a new one. What it has to hear is said soon; without the event later */
    CELL_PROMOTE,     /* REPLICAOF NO ONE */
    CELL_RECLAIM,     /* the node was primary when it stopped: promote it, unless a newer primary lives */
    CELL_FOLLOW,      /* peer: REPLICAOF host port */
    CELL_HAND_OVER,   /* peer: FAILOVER; it should hold the whole log, or it will fetch it from us */
    CELL_WRITE,       /* count: records wait to be appended */
    CELL_READ,        /* reads wait that want linearizability: once for each turn of the event loop */
    CELL_FETCHED, /* ok, session, at: a snapshot as FETCH asked for is here, whole and verified, not yet in use; ok 0:
                   * none is to be had. `at` is its own place, not before the one asked for */
    CELL_TRIMMED, /* lsn: the log now begins behind it (it was applied everywhere, and a snapshot has it) */
    CELL_ROOM,    /* ok: there is, or there is not, room on the disk for the log to grow */
    CELL_STATE,   /* ok: what this node made of its log is, or is not, what it should be, as far as the owner knows */
    CELL_EVENT_TYPES
};

struct cell_event {
    enum cell_event_type type;
    uint64_t now_ms; /* monotonic, above 0 */
    uint8_t peer, ok;
    uint32_t count;
    uint64_t lsn, session;
    struct cell_point at;
    const struct cell_msg *msg;
};

/* ---- effects ---- */

enum cell_effect_type {
    /* Carried out, and durable, before the next effect. A failure is CELL_SYNC_FAILED, and the rest is dropped. */
    CELL_PERSIST, /* vote */
    CELL_CUT,     /* lsn: the log ends there now, all of it durable. Sync events of earlier appends are dropped */
    CELL_INSTALL, /* at: the snapshot that was fetched takes the place of log and state, atomically; the log is empty
                   * and goes on behind `at`. The old log is gone only when the new state is durable */

    /* Begun before the next effect; CELL_SYNCED tells when it is durable. */
    CELL_APPEND, /* first, last, term, records: what was received, with the terms that it has */
    CELL_OPEN,   /* first, term: a barrier record */
    CELL_ADMIT,  /* first, last, term: records of the CELL_WRITE that is answered */

    CELL_SEND,    /* to, msg */
    CELL_COMMIT,  /* lsn: up to here records may be applied, be visible, be told. Only grows, but for CELL_INSTALL */
    CELL_OUTCOME, /* first, last, term, err: these writes are ERR_OK, ERR_ROLLEDBACK or ERR_UNCERTAIN */
    CELL_READS,   /* seq, lsn: reads with a ticket up to seq may be answered once lsn is applied */
    CELL_ROLE,    /* role, or whether it serves, changed: ask cell_status. Reads with a ticket fail unless it serves */
    CELL_FETCH,   /* to, at, session: get the snapshot at `at` from that peer; answer CELL_FETCHED. One at a time: a new
                   * one ends the one before */
    CELL_ALARM,   /* why: this log and a peer's disagree on what cannot differ. The node stays out until restarted */
    CELL_HALT,    /* stop the process at once: what the disk holds is not known any more */
    CELL_EFFECT_TYPES
};
const char *cell_effect_name(enum cell_effect_type type); /* "PERSIST" */

struct cell_effect {
    enum cell_effect_type type;
    uint8_t to, why;
    enum err err;
    uint32_t term;
    uint64_t first, last, lsn, seq, session;
    struct cell_vote vote;
    struct cell_point at;
    const void *records;
    struct cell_msg msg;
};

struct cell_effects {
    enum err answer; /* to WRITE, READ, PROMOTE, RECLAIM, FOLLOW; see cell_step */
    uint64_t ticket; /* of READ */
    unsigned count;
    struct cell_effect list[CELL_EFFECTS];
};

/* ---- state: read it, never write it ---- */

enum cell_role { CELL_REPLICA, CELL_CANDIDATE, CELL_PRIMARY };

struct cell_peer {
    uint64_t session;   /* of its stream from here; 0: none */
    uint64_t next_lsn;  /* to be sent next */
    uint64_t alive_ms;  /* last ack in this session, or its begin */
    uint64_t acked_lsn; /* in this session, for the window: also what it joined with, durable there or not yet */
    uint64_t held_lsn;  /* durable there, as it said in this session */
    uint64_t match_lsn; /* counted: durable there, in the own term */
    uint64_t seq;       /* highest heartbeat of the own term that it confirmed */
    uint64_t heard_ms;  /* last ack of the own term */
    uint8_t full;       /* it said then that it has no room */
    uint8_t differs;    /* as of the last ack in this session: CELL_DIFFERS */
};

struct cell {
    struct cell_config config;
    struct cell_log log;
    struct cell_vote vote; /* as it is on disk */
    enum cell_role role;
    uint8_t leader;      /* whom to follow; CELL_NOBODY */
    uint8_t room, alarm; /* alarm: enum cell_why */
    uint8_t differs;     /* CELL_STATE: it acknowledges and votes as ever, its log is right; it does not stand */
    uint64_t now_ms, rng;
    uint32_t heard;                     /* highest term heard of */
    uint64_t base_lsn;                  /* the log begins behind it */
    uint64_t last_lsn;                  /* as if all effects were carried out */
    uint64_t durable_lsn;               /* known durable, <= last_lsn */
    uint64_t commit_lsn;                /* told by COMMIT */
    uint64_t lame_until_ms, reclaim_ms; /* reclaim_ms 0: no intention */

    /* Standing: R4. A probe runs beside any role. */
    struct cell_gate {
        enum cell_gate_phase {
            CELL_GATE_NONE,
            CELL_GATE_PROBE,
            CELL_GATE_PROMISE,
            CELL_GATE_FETCH,
            CELL_GATE_BARRIER
        } phase;
        uint8_t reclaim, donor, seen_leader;
        uint32_t answered, votes; /* bits of peers */
        uint64_t session, deadline_ms, try_ms;
        struct cell_point best; /* the donor's tail */
    } gate;

    /* Following: R6. The source is the primary, or a candidate's donor. */
    struct cell_follow {
        enum cell_follow_phase { CELL_APART, CELL_ASKED, CELL_LIVE, CELL_FETCHING } phase;
        uint8_t source, full, hops; /* hops: between the primary and here */
        uint64_t heard_ms;          /* when the primary was heard, by others maybe; 0: never */
        uint64_t alive_ms;          /* when the source was */
        uint64_t session, try_ms, commit_lsn, seq, target_lsn;
    } follow;

    /* Leading: R5, R7, R10. */
    uint64_t barrier_lsn, progress_ms, beat_ms, seq, confirmed_seq;
    uint64_t told_lsn; /* the commit LSN at the last heartbeat */
    struct cell_peer peer[CELL_PEERS];

    /* Writes of an earlier term of this node whose outcome is open: R9. last 0: none. */
    struct cell_limbo {
        uint32_t term;
        uint64_t first, last, deadline_ms;
    } limbo;

    /* A lost voting file: who answered since. */
    uint32_t met;
    uint64_t met_session, met_try_ms;
};

/* Damage that is found while the node runs is told by starting the core anew. */
struct cell_boot {
    struct cell_vote vote;
    int vote_lost;               /* no voting file, or it does not verify; vote is not looked at */
    int damaged;                 /* the log lost records that were durable; last_lsn is in front of the damage */
    uint64_t base_lsn, last_lsn; /* of the log */
    uint64_t applied_lsn;        /* of the state; may be above last_lsn only with damage */
    uint64_t now_ms;
    struct cell_log log;
};

/* A node that starts: a replica that follows nobody. The owner goes on with FOLLOW or RECLAIM. config and boot are
 * copied; what log points to must live as long as c. */
void cell_init(struct cell *c, const struct cell_config *config, const struct cell_boot *boot, struct cell_effects *fx);

/* One event. fx is overwritten. Answers:
 *     PROMOTE, RECLAIM   ERR_OK: it tries, or is primary. ERR_READONLY: no voter. ERR_CORRUPT: mute, or its
 *                        state differs. ERR_MISCONF: no room, and not alone
 *     FOLLOW, HAND_OVER  ERR_OK. ERR_RANGE: no such peer. ERR_READONLY: not serving
 *     WRITE              ERR_OK: the first effect is ADMIT. Refused, nothing happened: ERR_READONLY, ERR_NOREPLICAS (no
 *                        majority heard that has room), ERR_MISCONF (no room here)
 *     READ               ERR_OK, with a ticket. ERR_READONLY: not primary, or not serving. ERR_NOQUORUM
 *     others             ERR_OK
 */
void cell_step(struct cell *c, const struct cell_event *event, struct cell_effects *fx);

/* ---- questions; pure ---- */

int cell_serving(const struct cell *c); /* primary, barrier committed: INFO and ROLE say master */

/* What CELL_WRITE would be answered. */
must_use enum err cell_writable(const struct cell *c, uint64_t now_ms);

/* 1: a primary hears a majority, but those of it that have room are none. */
int cell_lacks_room(const struct cell *c, uint64_t now_ms);

/* May local reads be answered (bounded staleness)? ERR_OK, ERR_NOQUORUM (also PING's answer: else Sentinel never fails
 * over), ERR_MASTERDOWN. */
must_use enum err cell_fresh(const struct cell *c, uint64_t now_ms);

struct cell_status {
    int master;            /* 0: role:slave */
    uint8_t leader;        /* master_host; CELL_NOBODY */
    int link_up;           /* master_link_status */
    uint64_t link_down_ms; /* since when nothing was heard */
    unsigned priority;     /* slave_priority: 0 never, 200 after a failed try */
    uint32_t term;
    uint64_t offset; /* slave_repl_offset, master_repl_offset: durable LSN */
    uint64_t commit_lsn;
};
void cell_status(const struct cell *c, uint64_t now_ms, struct cell_status *out);

/* WBL.OUTCOME: what became of the record (lsn, term). ERR_OK: committed. ERR_ROLLEDBACK: gone for ever. ERR_UNCERTAIN:
 * not known here yet. */
must_use enum err cell_outcome(const struct cell *c, uint64_t lsn, uint32_t term);

/* Replicas, voters or not, that hold lsn durably: WAIT. The node itself is not among them. */
unsigned cell_holders(const struct cell *c, uint64_t lsn);

#endif
