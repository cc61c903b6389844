/* cell_commit.c - when a write is acknowledged, and what becomes of one that is not (R7, R9). */
#include "engine/cell_impl.h"

uint64_t cell_quorum(const struct cell *c, const uint64_t of[CELL_VOTERS])
{
    uint64_t best = 0;
    unsigned need = MUTANT_MINORITY ? c->config.voters / 2u : cell_majority(c);
    for (unsigned v = 0; v < c->config.voters; v++) { /* the highest that so many reach */
        unsigned reach = 0;
        for (unsigned w = 0; w < c->config.voters; w++)
            reach += of[w] >= of[v];
        if (reach >= need && of[v] > best)
            best = of[v];
    }
    return best;
}

void cell_outcomes(struct cell_effects *fx, uint64_t first, uint64_t last, uint32_t term, enum err err)
{
    if (first > last)
        return;
    struct cell_effect *e = cell_emit(fx, CELL_OUTCOME);
    e->first = first;
    e->last = last;
    e->term = term;
    e->err = err;
}

/* ---- R7 ---- */

void cell_commit_to(struct cell *c, uint64_t lsn, struct cell_effects *fx)
{
    if (lsn <= c->commit_lsn)
        return;
    c->commit_lsn = lsn;
    cell_emit(fx, CELL_COMMIT)->lsn = lsn;
    cell_limbo_tick(c, fx);
}

void cell_commit_advance(struct cell *c, struct cell_effects *fx)
{
    uint64_t of[CELL_VOTERS] = {0};
    uint64_t own = MUTANT_COMMIT_UNSYNCED ? c->last_lsn : c->durable_lsn;
    uint64_t was = c->commit_lsn;

    for (uint8_t v = 0; v < c->config.voters; v++)
        of[v] = v == c->config.self ? own : c->peer[v].match_lsn;
    uint64_t lsn = cell_quorum(c, of);
    if (lsn > own)
        lsn = own;
    if (lsn <= was || (lsn < c->barrier_lsn && !MUTANT_COUNT_OLDTERM))
        return;
    cell_commit_to(c, lsn, fx);
    c->progress_ms = c->now_ms;
    if (c->gate.phase == CELL_GATE_BARRIER && lsn >= c->barrier_lsn)
        cell_gate_stop(c);
    cell_outcomes(fx, (was > c->barrier_lsn ? was : c->barrier_lsn) + 1, lsn, c->vote.promised, ERR_OK);
}

/* ---- writes ---- */

enum err cell_writable(const struct cell *c, uint64_t now_ms)
{
    if (!cell_serving(c))
        return ERR_READONLY;
    if (!cell_heard_room(c, now_ms))
        return ERR_NOREPLICAS;
    return c->room ? ERR_OK : ERR_MISCONF;
}

int cell_lacks_room(const struct cell *c, uint64_t now_ms)
{
    return cell_serving(c) && cell_heard_majority(c, now_ms) && !cell_heard_room(c, now_ms);
}

enum err cell_write(struct cell *c, uint32_t count, struct cell_effects *fx)
{
    enum err err = cell_writable(c, c->now_ms);
    if (err)
        return err;
    if (c->commit_lsn == c->last_lsn)
        c->progress_ms = c->now_ms;
    struct cell_effect *e = cell_emit(fx, CELL_ADMIT);
    e->first = c->last_lsn + 1;
    e->last = c->last_lsn += count;
    e->term = c->vote.promised;
    if (MUTANT_APPLY_EARLY)
        cell_emit(fx, CELL_COMMIT)->lsn = c->last_lsn;
    return ERR_OK;
}

/* ---- R9 ---- */

static void rollback_in_same_term(struct cell *c, struct cell_effects *fx) /* the mutant */
{
    cell_outcomes(fx, c->commit_lsn + 1, c->last_lsn, c->vote.promised, ERR_ROLLEDBACK);
    cell_cut(c, c->commit_lsn, fx);
    for (uint8_t p = 0; p < c->config.peers; p++)
        if (c->peer[p].next_lsn > c->last_lsn + 1)
            c->peer[p].next_lsn = c->last_lsn + 1;
    c->progress_ms = c->now_ms;
}

/* Only who serves: a primary whose barrier is not committed may hold records of older terms that were acknowledged. Not
 * where a majority has no room: it could not take the barrier of the new term either, and nobody would be primary. What
 * is open comes through when there is room. */
void cell_rollback_tick(struct cell *c, struct cell_effects *fx)
{
    if (cell_lacks_room(c, c->now_ms))
        c->progress_ms = c->now_ms;
    int may = MUTANT_ROLLBACK_UNSERVING ? c->role == CELL_PRIMARY : cell_serving(c);
    if (!may || cell_alone(c) || c->commit_lsn == c->last_lsn || c->gate.phase == CELL_GATE_PROBE ||
        c->now_ms - c->progress_ms < c->config.write_timeout_ms)
        return;
    if (MUTANT_SAMETERM_ROLLBACK)
        rollback_in_same_term(c, fx);
    else
        cell_gate_rollback(c, fx);
}

/* A log's terms only grow: once a committed record has a higher term, no record of this one comes behind it. */
enum err cell_outcome(const struct cell *c, uint64_t lsn, uint32_t term)
{
    if (lsn <= c->commit_lsn)
        return cell_term_at(c, lsn) == term ? ERR_OK : ERR_ROLLEDBACK;
    return cell_term_at(c, c->commit_lsn) > term ? ERR_ROLLEDBACK : ERR_UNCERTAIN;
}

void cell_limbo_tick(struct cell *c, struct cell_effects *fx)
{
    struct cell_limbo *l = &c->limbo;
    if (!l->last)
        return;
    if (cell_term_at(c, c->commit_lsn) > l->term) {
        uint64_t lost = l->first; /* what came through is a prefix */
        while (lost <= l->last && cell_outcome(c, lost, l->term) == ERR_OK)
            lost++;
        cell_outcomes(fx, l->first, lost - 1, l->term, ERR_OK);
        cell_outcomes(fx, lost, l->last, l->term, ERR_ROLLEDBACK);
    } else if (c->now_ms >= l->deadline_ms) {
        cell_outcomes(fx, l->first, l->last, l->term, ERR_UNCERTAIN);
    } else {
        return;
    }
    l->last = 0;
}
