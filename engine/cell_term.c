/* cell_term.c - promises, higher terms, stepping down, and nodes that are mute. */
#include <assert.h>

#include "engine/cell_impl.h"

/* R11: what a sound node says it holds has to be there when it starts again. What is committed is never cut; that there
 * is any record at all is written down before the first is acknowledged (cell_hold), and taken back where it is cut
 * (cell_cut). */
static void persist(struct cell *c, struct cell_effects *fx)
{
    uint64_t held = c->commit_lsn ? c->commit_lsn : c->durable_lsn > 0;
    if (c->vote.mute)
        c->vote.held_lsn = 0;
    else if (c->vote.held_lsn < held)
        c->vote.held_lsn = held;
    cell_emit(fx, CELL_PERSIST)->vote = c->vote;
}

void cell_hold(struct cell *c, struct cell_effects *fx)
{
    if (!c->vote.held_lsn && !c->vote.mute && c->durable_lsn)
        persist(c, fx);
}

/* R1, R3: once for each term, on disk before anybody hears of it. What was streamed was of a lower one. */
void cell_promise(struct cell *c, uint32_t term, uint8_t to, struct cell_effects *fx)
{
    assert(term > c->vote.promised || MUTANT_NOFENCE);
    c->vote.promised = term;
    c->vote.promised_to = to;
    cell_stop_streams(c);
    if (c->heard < term)
        c->heard = term;
    if (!MUTANT_VOLATILE_PROMISE)
        persist(c, fx);
}

void cell_set_mute(struct cell *c, enum cell_mute mute, struct cell_effects *fx)
{
    c->vote.mute = (uint8_t)mute;
    persist(c, fx);
}

static int has_open_writes(const struct cell *c)
{
    return c->role == CELL_PRIMARY && c->barrier_lsn <= c->commit_lsn && c->commit_lsn < c->last_lsn;
}

/* A second batch of open writes: what became of the first was not learned in time. */
static void into_limbo(struct cell *c, struct cell_effects *fx)
{
    if (c->limbo.last)
        cell_outcomes(fx, c->limbo.first, c->limbo.last, c->limbo.term, ERR_UNCERTAIN);
    c->limbo = (struct cell_limbo){
        .term = c->vote.promised,
        .first = c->commit_lsn + 1,
        .last = c->last_lsn,
        .deadline_ms = c->now_ms + c->config.outcome_timeout_ms,
    };
}

void cell_step_down(struct cell *c, int keep_limbo, struct cell_effects *fx)
{
    if (has_open_writes(c) && keep_limbo)
        into_limbo(c, fx);
    else if (has_open_writes(c))
        cell_outcomes(fx, c->commit_lsn + 1, c->last_lsn, c->vote.promised, ERR_UNCERTAIN);
    if (c->role == CELL_PRIMARY)
        c->follow.heard_ms = 0; /* of an earlier life as a replica */
    if (c->role != CELL_REPLICA)
        c->leader = CELL_NOBODY;
    c->role = CELL_REPLICA;
    cell_gate_stop(c);
    cell_leave(c);
    cell_stop_streams(c);
}

/* R3. A primary that sees a higher term without a newer primary (a node that failed to be promoted, one that lost its
 * voting file) is the best to open the next one: it stands again at the next tick, and its writes wait for what comes
 * of it. Alone it asks nobody, and opens it at once. */
void cell_hear(struct cell *c, uint32_t term, struct cell_effects *fx)
{
    if (term > c->heard)
        c->heard = term;
    if (term <= c->vote.promised || c->role == CELL_REPLICA || MUTANT_NOFENCE)
        return;
    int primary = c->role == CELL_PRIMARY;
    cell_step_down(c, primary, fx);
    if (primary)
        c->reclaim_ms = c->now_ms;
    if (primary && cell_alone(c))
        (void)!cell_gate_start(c, 1, fx);
}

/* ---- what have you promised? ---- */

/* Whose primary is alive, as far as this node knows. */
static uint8_t live_leader(const struct cell *c)
{
    if (cell_serving(c))
        return c->config.self;
    return c->role == CELL_REPLICA && c->follow.phase == CELL_LIVE ? c->follow.source : CELL_NOBODY;
}

void cell_on_probe(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx)
{
    struct cell_msg *answer = cell_send(c, fx, from, CELL_PROBED);
    answer->session = m->session;
    answer->leader = live_leader(c);
}

/* ---- a lost voting file ---- */

void cell_ask_around(struct cell *c, struct cell_effects *fx)
{
    if (c->vote.mute != CELL_LOST || c->now_ms < c->met_try_ms)
        return;
    for (uint8_t p = 0; p < c->config.voters; p++)
        if (p != c->config.self && !(c->met >> p & 1))
            cell_send(c, fx, p, CELL_PROBE)->session = c->met_session;
    c->met_try_ms = c->now_ms + c->config.retry_ms;
}

/* Whoever might hold a promise of ours stands for that term, so its own promise is as high. With all heard, one term
 * more is a promise that nobody can have had from us; and a term that gets so far began after our loss, without us. */
static void met(struct cell *c, uint8_t from, struct cell_effects *fx)
{
    c->met |= 1u << from;
    uint32_t others = ((1u << c->config.voters) - 1) & ~(1u << c->config.self);
    if ((c->met & others) != others)
        return;
    c->vote.mute = CELL_DAMAGED;
    cell_leave(c);
    cell_promise(c, c->heard + 1, CELL_NOBODY, fx);
}

void cell_on_probed(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx)
{
    if (c->vote.mute == CELL_LOST && m->session == c->met_session && cell_votes(c, from))
        met(c, from, fx);
    else if (c->gate.phase == CELL_GATE_PROBE && m->session == c->gate.session)
        cell_gate_probed(c, from, m, fx);
}
