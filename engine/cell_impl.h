/* cell_impl.h - what the files of the cell share. See cell.h.
 *
 *     cell.c         start, the tables of events and messages, time, questions
 *     cell_term.c    promises, higher terms, stepping down, being mute (R1, R3, R8, R11)
 *     cell_gate.c    from promote to the barrier (R4, R5)
 *     cell_follow.c  a replica's side of a session (R6)
 *     cell_lead.c    the source's side: handshakes, streams, heartbeats, reads (R6, R10)
 *     cell_commit.c  acknowledgements, commit, outcomes, rolling back (R7, R9)
 */
#ifndef COFFER_ENGINE_CELL_IMPL_H
#define COFFER_ENGINE_CELL_IMPL_H

#include "engine/cell.h"
#include "engine/cell_mutant.h"

typedef void cell_msg_fn(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx);

/* ---- cell.c: small helpers ---- */

struct cell_effect *cell_emit(struct cell_effects *fx, enum cell_effect_type type);
/* The message of a new SEND, its type, `promised` and, where it is about one, `term` filled in. */
struct cell_msg *cell_send(struct cell *c, struct cell_effects *fx, uint8_t to, enum cell_msg_type type);
void cell_cut(struct cell *c, uint64_t lsn, struct cell_effects *fx); /* never below what was applied */
void cell_alarm(struct cell *c, enum cell_why why, struct cell_effects *fx);
struct cell_point cell_point(const struct cell *c, uint64_t lsn);
uint32_t cell_term_at(const struct cell *c, uint64_t lsn);
int cell_same(const struct cell_point *a, const struct cell_point *b);
uint64_t cell_random(struct cell *c);

static inline unsigned cell_majority(const struct cell *c)
{
    return c->config.voters / 2u + 1;
}
static inline int cell_votes(const struct cell *c, uint8_t peer) /* is it one of those who may? */
{
    return peer < c->config.voters;
}
static inline int cell_alone(const struct cell *c)
{
    return c->config.voters == 1;
}

/* ---- cell_term.c ---- */

void cell_promise(struct cell *c, uint32_t term, uint8_t to, struct cell_effects *fx); /* durable when it returns */
void cell_hold(struct cell *c, struct cell_effects *fx); /* that there are records is durable when it returns */
void cell_set_mute(struct cell *c, enum cell_mute mute, struct cell_effects *fx);
/* A term was heard of. A primary of a lower one, or who stands for a lower one, gives it up. */
void cell_hear(struct cell *c, uint32_t term, struct cell_effects *fx);
/* Whatever it was, it is a replica without a session now. Open writes are UNCERTAIN, or, with keep_limbo, wait in
 * limbo. */
void cell_step_down(struct cell *c, int keep_limbo, struct cell_effects *fx);
void cell_ask_around(struct cell *c, struct cell_effects *fx); /* a lost voting file: what has everybody promised? */
cell_msg_fn cell_on_probe, cell_on_probed;

/* ---- cell_gate.c ---- */

enum err cell_gate_start(struct cell *c, int reclaim, struct cell_effects *fx);
void cell_gate_stop(struct cell *c);
void cell_gate_tick(struct cell *c, struct cell_effects *fx);
void cell_gate_probed(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx);
void cell_gate_rollback(struct cell *c, struct cell_effects *fx); /* R9: a primary with open writes */
/* The log ends at *last now: is that the promised one? */
void cell_gate_fetched(struct cell *c, const struct cell_point *last, struct cell_effects *fx);
void cell_gate_again(struct cell *c, struct cell_effects *fx); /* the donor is not what it promised */
cell_msg_fn cell_on_ask, cell_on_promised;

/* ---- cell_follow.c ---- */

void cell_follow_peer(struct cell *c, uint8_t leader, struct cell_effects *fx); /* joins at once */
void cell_join(struct cell *c, uint8_t source, struct cell_effects *fx);
void cell_leave(struct cell *c);
void cell_follow_tick(struct cell *c, struct cell_effects *fx);
void cell_pass_on(struct cell *c, uint8_t from, uint32_t term, struct cell_effects *fx); /* a higher term */
void cell_follow_synced(struct cell *c, struct cell_effects *fx);
void cell_follow_room(struct cell *c, struct cell_effects *fx); /* the primary hears of it at once */
void cell_follow_snapshot(struct cell *c, const struct cell_event *ev, struct cell_effects *fx);
cell_msg_fn cell_on_counter, cell_on_continue, cell_on_snapshot, cell_on_records, cell_on_lead, cell_on_refused,
    cell_on_stand;

/* ---- cell_lead.c ---- */

/* The last place of the own log that a log which shows *p may have too: not behind it in LSN, nor in term. 0: that is
 * below where the own log begins. */
must_use int cell_meet(const struct cell *c, const struct cell_point *p, struct cell_point *out);
void cell_stop_streams(struct cell *c);
void cell_lead_tick(struct cell *c, struct cell_effects *fx);
void cell_beat(struct cell *c, struct cell_effects *fx);
void cell_pump(struct cell *c, struct cell_effects *fx); /* ends every step: sends what is new to whoever has room */
int cell_heard_majority(const struct cell *c, uint64_t now_ms);
int cell_heard_room(const struct cell *c, uint64_t now_ms); /* a majority that takes records */
enum err cell_read(struct cell *c, struct cell_effects *fx);
cell_msg_fn cell_on_join, cell_on_ack;

/* ---- cell_commit.c ---- */

enum err cell_write(struct cell *c, uint32_t count, struct cell_effects *fx);
/* The highest value that a majority of voters reaches, of those in `of`, one for each voter. */
uint64_t cell_quorum(const struct cell *c, const uint64_t of[CELL_VOTERS]);
void cell_commit_advance(struct cell *c, struct cell_effects *fx); /* primary */
void cell_commit_to(struct cell *c, uint64_t lsn, struct cell_effects *fx);
void cell_outcomes(struct cell_effects *fx, uint64_t first, uint64_t last, uint32_t term, enum err err);
void cell_limbo_tick(struct cell *c, struct cell_effects *fx);
void cell_rollback_tick(struct cell *c, struct cell_effects *fx);

#endif
