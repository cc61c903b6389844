/* cell_gate.c - from "be primary" to the barrier (R4, R5). Whoever asks is not trusted: any node, at any time, several
 * at once. What makes a primary is a majority of promises and the best log among those who gave them.
 *
 * Probing first costs a round trip, and keeps a node that hears nobody from raising terms that would depose a primary
 * when it comes back. One promise for each term and no second grant: an answer that was lost costs a new term, and
 * saves the question whether the log that was shown then is still the one.
 *
 * A majority of promises P and the majority A that acknowledged a record share a node, and it acknowledged before it
 * promised (afterwards R3 refuses). So the best tail in P, by term and then by LSN, has the record.
 */
#include "engine/cell_impl.h"

static unsigned count_bits(uint32_t bits)
{
    return (unsigned)__builtin_popcount(bits);
}

static int has_majority(const struct cell *c, uint32_t bits)
{
    return count_bits(bits) >= cell_majority(c);
}

static void to_other_voters(struct cell *c, enum cell_msg_type type, uint64_t session, struct cell_effects *fx)
{
    for (uint8_t p = 0; p < c->config.voters; p++)
        if (p != c->config.self)
            cell_send(c, fx, p, type)->session = session;
}

void cell_gate_stop(struct cell *c)
{
    c->gate = (struct cell_gate){.phase = CELL_GATE_NONE, .seen_leader = CELL_NOBODY};
}

/* ---- the way out when it fails ---- */

static void try_later(struct cell *c)
{
    c->reclaim_ms = c->now_ms + c->config.gate_timeout_ms + cell_random(c) % (c->config.gate_timeout_ms + 1);
}

static void fail(struct cell *c, struct cell_effects *fx)
{
    int reclaim = c->gate.reclaim;
    if (c->role == CELL_PRIMARY && cell_serving(c)) { /* it only wanted to roll back: R9 */
        cell_gate_stop(c);
        c->progress_ms = c->now_ms;
        return;
    }
    if (c->role != CELL_REPLICA)
        cell_step_down(c, 0, fx);
    cell_gate_stop(c);
    c->lame_until_ms = c->now_ms + c->config.lame_ms;
    if (reclaim)
        try_later(c);
}

/* ---- R5 ---- */

/* Alone nobody else could be primary, and its clients want to read. */
static int has_room(const struct cell *c)
{
    return c->room || cell_alone(c);
}

static void become_primary(struct cell *c, struct cell_effects *fx)
{
    if (!has_room(c) || c->differs) {
        fail(c, fx);
        return;
    }
    cell_leave(c);
    c->role = CELL_PRIMARY;
    c->leader = c->config.self;
    c->gate.phase = CELL_GATE_BARRIER;
    c->reclaim_ms = 0;
    c->barrier_lsn = ++c->last_lsn;
    c->progress_ms = c->beat_ms = c->now_ms;
    c->confirmed_seq = c->seq;
    for (unsigned p = 0; p < CELL_PEERS;
         p++) /* sessions begin anew; when one was heard of last is no session's affair */
        c->peer[p] = (struct cell_peer){.alive_ms = c->peer[p].alive_ms};

    struct cell_effect *e = cell_emit(fx, CELL_OPEN);
    e->first = e->last = c->barrier_lsn;
    e->term = c->vote.promised;
    cell_beat(c, fx);
}

/* ---- R4 ---- */

static int better(const struct cell_point *a, const struct cell_point *b)
{
    if (MUTANT_LENONLY)
        return a->lsn > b->lsn;
    return a->term > b->term || (a->term == b->term && a->lsn > b->lsn);
}

static void look_at_promises(struct cell *c, struct cell_effects *fx)
{
    if (!has_majority(c, c->gate.votes))
        return;
    if (c->gate.donor == c->config.self || MUTANT_NOCATCHUP) {
        become_primary(c, fx);
        return;
    }
    c->gate.phase = CELL_GATE_FETCH;
    c->gate.try_ms = c->now_ms + c->config.link_timeout_ms; /* longer than it takes to join again */
    cell_join(c, c->gate.donor, fx);
}

static void stand(struct cell *c, struct cell_effects *fx)
{
    struct cell_gate was = c->gate;
    int rollback = c->role == CELL_PRIMARY;

    cell_step_down(c, rollback, fx);
    cell_promise(c, (MUTANT_NOGATE ? c->vote.promised : c->heard) + 1, c->config.self, fx);
    if (rollback) /* R9: what nobody acknowledged to this primary goes, and comes back if a promise shows it */
        cell_cut(c, c->commit_lsn, fx);
    c->role = CELL_CANDIDATE;
    c->gate = (struct cell_gate){
        .phase = CELL_GATE_PROMISE,
        .reclaim = was.reclaim,
        .donor = c->config.self,
        .best = cell_point(c, c->last_lsn),
        .votes = 1u << c->config.self,
        .deadline_ms = was.deadline_ms,
        .try_ms = c->now_ms + c->config.retry_ms,
    };
    if (MUTANT_NOGATE) {
        become_primary(c, fx);
        return;
    }
    to_other_voters(c, CELL_ASK, 0, fx);
    look_at_promises(c, fx);
}

static void look_at_probes(struct cell *c, struct cell_effects *fx)
{
    if (!has_majority(c, c->gate.answered) && !MUTANT_NOGATE)
        return;
    uint8_t other = c->gate.seen_leader;
    if (c->role == CELL_PRIMARY && c->commit_lsn == c->last_lsn) {
        cell_gate_stop(c); /* what was to be rolled back came through */
    } else if (c->gate.reclaim && c->role == CELL_REPLICA && other != CELL_NOBODY) {
        cell_gate_stop(c);
        cell_follow_peer(c, other, fx);
    } else {
        stand(c, fx);
    }
}

static void probe(struct cell *c, int reclaim, uint64_t deadline_ms, struct cell_effects *fx)
{
    c->gate = (struct cell_gate){
        .phase = CELL_GATE_PROBE,
        .reclaim = (uint8_t)reclaim,
        .seen_leader = CELL_NOBODY,
        .answered = 1u << c->config.self,
        .session = cell_random(c),
        .deadline_ms = deadline_ms,
        .try_ms = c->now_ms + c->config.retry_ms,
    };
    c->reclaim_ms = 0;
    if (!MUTANT_NOGATE)
        to_other_voters(c, CELL_PROBE, c->gate.session, fx);
    look_at_probes(c, fx);
}

void cell_gate_probed(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx)
{
    if (!cell_votes(c, from))
        return;
    c->gate.answered |= 1u << from;
    if (cell_votes(c, m->leader) && m->leader != c->config.self)
        c->gate.seen_leader = m->leader;
    look_at_probes(c, fx);
}

static enum err may_stand(const struct cell *c)
{
    if (!cell_votes(c, c->config.self))
        return ERR_READONLY;
    if (c->vote.mute || c->differs)
        return ERR_CORRUPT;
    return has_room(c) && c->heard < UINT32_MAX ? ERR_OK : ERR_MISCONF;
}

enum err cell_gate_start(struct cell *c, int reclaim, struct cell_effects *fx)
{
    if (c->role != CELL_REPLICA)
        return ERR_OK;
    enum err e = may_stand(c);
    if (e) {
        if (reclaim)
            try_later(c);
        return e;
    }
    probe(c, reclaim, c->now_ms + c->config.gate_timeout_ms, fx);
    return ERR_OK;
}

void cell_on_stand(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx)
{
    if (c->role == CELL_REPLICA && c->leader == from && m->term == c->vote.promised)
        (void)!cell_gate_start(c, 0, fx);
}

void cell_gate_rollback(struct cell *c, struct cell_effects *fx)
{
    probe(c, 1, c->now_ms + c->config.gate_timeout_ms, fx);
}

void cell_gate_again(struct cell *c, struct cell_effects *fx)
{
    struct cell_gate gate = c->gate;
    cell_step_down(c, 0, fx);
    probe(c, gate.reclaim, gate.deadline_ms, fx);
}

/* A voter's side: what it was, it is no more; and what it shows now is what it will show to the candidate that fetches.
 */
void cell_on_ask(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx)
{
    int grant = cell_votes(c, from) && cell_votes(c, c->config.self) && !c->vote.mute && m->term > c->vote.promised;
    if (grant) {
        int primary = c->role == CELL_PRIMARY;
        cell_step_down(c, 0, fx);
        cell_promise(c, m->term, from, fx);
        c->leader = from;
        if (primary) /* if that candidate does not make it, nobody but the last primary would notice soon */
            try_later(c);
    } else {
        cell_hear(c, m->promised, fx);
    }
    struct cell_msg *answer = cell_send(c, fx, from, CELL_PROMISED);
    answer->term = m->term;
    answer->granted = (uint8_t)grant;
    if (grant)
        answer->at = cell_point(c, c->last_lsn);
}

void cell_on_promised(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx)
{
    if (c->gate.phase != CELL_GATE_PROMISE || m->term != c->vote.promised || !m->granted || !cell_votes(c, from))
        return;
    c->gate.votes |= 1u << from;
    if (better(&m->at, &c->gate.best)) {
        c->gate.best = m->at;
        c->gate.donor = from;
    }
    look_at_promises(c, fx);
}

void cell_gate_fetched(struct cell *c, const struct cell_point *last, struct cell_effects *fx)
{
    if (c->gate.phase == CELL_GATE_FETCH && cell_same(last, &c->gate.best))
        become_primary(c, fx);
}

void cell_gate_tick(struct cell *c, struct cell_effects *fx)
{
    if (c->gate.phase == CELL_GATE_NONE) {
        if (c->reclaim_ms && c->now_ms >= c->reclaim_ms)
            (void)!cell_gate_start(c, 1, fx);
    } else if (c->now_ms >= c->gate.deadline_ms) {
        fail(c, fx);
    } else if (c->now_ms >= c->gate.try_ms && c->gate.phase == CELL_GATE_PROBE) {
        c->gate.try_ms = c->now_ms + c->config.retry_ms;
        to_other_voters(c, CELL_PROBE, c->gate.session, fx);
    } else if (c->now_ms >= c->gate.try_ms && c->role == CELL_CANDIDATE && c->follow.phase != CELL_FETCHING) {
        cell_gate_again(c, fx);
    }
}
