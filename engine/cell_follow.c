/* cell_follow.c - a replica's side of a session, and a candidate's that fetches from its donor (R6).
 *
 *     APART --JOIN--> ASKED --CONTINUE--> LIVE      records come; each is acknowledged once durable
 *       ^             |   ^--COUNTER/JOIN--+ |
 *       |             +--SNAPSHOT--> FETCHING --whole and verified--> installed; JOIN
 *       +---- time, link down, refused; a gap, a full disk, another term: from the start again
 *
 * Where the logs part is found by offers: each side names the last place of its log that the other's may have too, and
 * each offer is at least one term further back. When nothing diverged the first offer is the last.
 */
#include "engine/cell_impl.h"

void cell_leave(struct cell *c)
{
    c->follow.phase = CELL_APART;
    c->follow.session = c->follow.commit_lsn = c->follow.target_lsn = c->follow.seq = 0;
    c->follow.try_ms = c->now_ms + c->config.retry_ms;
}

static void offer(struct cell *c, const struct cell_point *at, struct cell_effects *fx)
{
    struct cell_msg *m = cell_send(c, fx, c->follow.source, CELL_JOIN);
    m->session = c->follow.session;
    m->config_id = c->config.config_id;
    m->at = *at;
    m->full = c->follow.full;
    if (c->role == CELL_CANDIDATE)
        m->want = c->gate.best;
    c->follow.try_ms = c->now_ms + c->config.retry_ms;
}

static void ask(struct cell *c, uint8_t source, const struct cell_point *at, struct cell_effects *fx)
{
    cell_leave(c);
    c->follow.phase = CELL_ASKED;
    c->follow.source = source;
    c->follow.session = cell_random(c);
    offer(c, at, fx);
}

void cell_join(struct cell *c, uint8_t source, struct cell_effects *fx)
{
    struct cell_point last = cell_point(c, c->last_lsn);
    ask(c, source, &last, fx);
}

void cell_follow_peer(struct cell *c, uint8_t leader, struct cell_effects *fx)
{
    c->leader = leader;
    cell_join(c, leader, fx);
}

/* R7: committed for this node is what the primary announced and is durable here. */
static void learn(struct cell *c, struct cell_effects *fx)
{
    cell_commit_to(c, c->follow.commit_lsn < c->durable_lsn ? c->follow.commit_lsn : c->durable_lsn, fx);
}

/* Room is for a primary that counts: there it comes first, and who has none does not stand either. */
static uint8_t trouble(const struct cell *c)
{
    if (!c->room && !cell_alone(c))
        return CELL_NOROOM;
    return c->differs ? CELL_DIFFERS : 0;
}

static struct cell_msg *ack(struct cell *c, struct cell_effects *fx)
{
    struct cell_msg *m = cell_send(c, fx, c->follow.source, CELL_ACK);
    m->session = c->follow.session;
    m->lsn = MUTANT_ACK_BEFORE_FSYNC ? c->last_lsn : c->durable_lsn;
    m->seq = c->follow.seq;
    m->mute = c->vote.mute != CELL_SOUND;
    m->why = trouble(c);
    return m;
}

void cell_follow_room(struct cell *c, struct cell_effects *fx)
{
    if (c->role == CELL_REPLICA && c->follow.phase == CELL_LIVE)
        ack(c, fx);
}

/* A term above the primary's: of a replica's replica that was primary itself, which cannot follow before the primary
 * has topped it. */
void cell_pass_on(struct cell *c, uint8_t from, uint32_t term, struct cell_effects *fx)
{
    if (c->role == CELL_REPLICA && c->follow.phase == CELL_LIVE && term > c->vote.promised && !cell_votes(c, from) &&
        from != c->follow.source)
        ack(c, fx)->promised = term;
}

/* R11: what it may have acknowledged and lost it has again, or it was not acknowledged by anybody. */
static void heal(struct cell *c, struct cell_effects *fx)
{
    if (c->vote.mute == CELL_DAMAGED && c->durable_lsn >= c->follow.target_lsn)
        cell_set_mute(c, CELL_SOUND, fx);
}

void cell_follow_synced(struct cell *c, struct cell_effects *fx)
{
    if (c->follow.phase != CELL_LIVE)
        return;
    heal(c, fx);
    learn(c, fx);
    ack(c, fx);
}

/* ---- the handshake ---- */

/* From how far it comes. 0: from too far, which is likely this node itself. */
static int hear_source(struct cell *c, const struct cell_msg *m)
{
    if (m->hops >= CELL_HOPS) {
        cell_leave(c);
        cell_stop_streams(c); /* or who follows it would go on as before, with what went round */
        return 0;
    }
    uint64_t heard_ms = m->age_ms < c->now_ms ? c->now_ms - m->age_ms : 0;
    c->follow.alive_ms = c->now_ms;
    c->follow.hops = m->hops;
    int stuck = !c->room && m->end.lsn > c->last_lsn; /* what is new there cannot come: what is here grows old */
    if (m->age_ms < UINT32_MAX && heard_ms > c->follow.heard_ms && !stuck)
        c->follow.heard_ms = heard_ms;
    return 1;
}

/* Is it the answer that is waited for, and of a term that may be followed? That term is promised first, durably. */
static int accept(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx)
{
    if (c->follow.phase != CELL_ASKED || m->session != c->follow.session || from != c->follow.source)
        return 0;
    if (c->role == CELL_CANDIDATE)
        return m->term == c->vote.promised;
    if (m->term < c->vote.promised)
        return MUTANT_NOFENCE;
    if (m->hops >= CELL_HOPS)
        return 0;
    if (m->term > c->vote.promised)
        cell_promise(c, m->term, CELL_NOBODY, fx);
    return 1;
}

/* The other log lacks what was applied here. A donor's may, when it lost what it had promised. A primary's cannot.
 * Alone it is another node's data, and wins. */
static void diverged(struct cell *c, struct cell_effects *fx)
{
    if (c->role == CELL_CANDIDATE) {
        cell_gate_again(c, fx);
    } else if (cell_alone(c)) {
        c->follow.full = 1;
        cell_join(c, c->follow.source, fx);
    } else {
        cell_alarm(c, CELL_DIVERGED, fx);
    }
}

/* A relay may be behind what was applied here, which a primary cannot be. In a cell with voters it will come to that,
 * whatever it still has to cut; alone it may be of another history, unless all of its log is in this one. */
static int will_catch_up(const struct cell *c, const struct cell_msg *m, const struct cell_point *mine)
{
    return c->role == CELL_REPLICA && m->hops &&
           (!cell_alone(c) || (cell_same(mine, &m->at) && m->end.lsn == m->at.lsn));
}

void cell_on_counter(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx)
{
    struct cell_point mine;
    if (!accept(c, from, m, fx))
        return;
    if (cell_meet(c, &m->at, &mine) && mine.lsn >= c->commit_lsn)
        offer(c, &mine, fx);
    else if (will_catch_up(c, m, &mine))
        cell_leave(c);
    else
        diverged(c, fx);
}

/* The place that was offered, and is neither below what was applied, nor another now. */
static int is_shared(const struct cell *c, const struct cell_point *at)
{
    if (at->lsn < c->commit_lsn || at->lsn > c->last_lsn)
        return 0;
    struct cell_point mine = cell_point(c, at->lsn);
    return cell_same(&mine, at);
}

/* R4: to cut down to what is shared with another log than the promised one loses records. */
static int is_promised(struct cell *c, const struct cell_point *end)
{
    if (MUTANT_FETCH_UNCHECKED)
        c->gate.best = *end;
    return cell_same(end, &c->gate.best);
}

/* A candidate's that was promised this log. Sub-replicas go on, unless what they have been sent is cut. */
static void end_streams(struct cell *c, int cuts)
{
    for (uint8_t p = 0; p < c->config.peers; p++)
        if (cuts || cell_votes(c, p) || p == c->follow.source)
            c->peer[p].session = 0;
}

void cell_on_continue(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx)
{
    if (!accept(c, from, m, fx))
        return;
    if (c->role == CELL_CANDIDATE && !is_promised(c, &m->end)) {
        cell_gate_again(c, fx);
        return;
    }
    if (!is_shared(c, &m->at)) {
        diverged(c, fx);
        return;
    }
    end_streams(c, m->at.lsn < c->last_lsn);
    cell_cut(c, MUTANT_TRUNC_HW ? c->commit_lsn : m->at.lsn, fx);
    c->follow.phase = CELL_LIVE;
    c->follow.full = 0;
    hear_source(c, m);
    c->follow.target_lsn = m->end.lsn;
    if (c->role == CELL_CANDIDATE) {
        if (c->last_lsn == m->end.lsn)
            cell_gate_fetched(c, &m->end, fx);
        return;
    }
    c->reclaim_ms = 0;
    heal(c, fx);
    ack(c, fx);
}

void cell_on_refused(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx)
{
    if (c->follow.phase != CELL_ASKED || m->session != c->follow.session || from != c->follow.source)
        return;
    if (m->why == CELL_DIVERGED || c->role == CELL_CANDIDATE) {
        diverged(c, fx);
        return;
    }
    cell_leave(c);
    /* Who is no voter follows whom it is told to, primary or not. */
    if (m->why == CELL_NOTPRIMARY && cell_votes(c, m->leader) && m->leader != c->config.self &&
        cell_votes(c, c->config.self)) {
        c->leader = m->leader;
        c->follow.try_ms = c->now_ms + c->config.heartbeat_ms;
    }
}

/* One voter's word to another: who follows whom else is the owner's decision, and nobody else can make it. */
void cell_on_lead(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx)
{
    if (!cell_votes(c, from) || !cell_votes(c, c->config.self))
        return;
    if (m->term < c->vote.promised) {
        cell_send(c, fx, from, CELL_REFUSED)->why = CELL_NOTPRIMARY; /* its `promised` is the news */
        return;
    }
    int waits = c->follow.phase == CELL_ASKED || c->follow.phase == CELL_FETCHING;
    if (c->role != CELL_REPLICA || (waits && c->follow.source == from))
        return; /* when it is in session nevertheless: not any more, says the primary */
    cell_follow_peer(c, from, fx);
}

/* ---- a whole state instead of records ---- */

void cell_on_snapshot(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx)
{
    if (!accept(c, from, m, fx))
        return;
    if (MUTANT_RESYNC_REGRESS)
        cell_cut(c, c->commit_lsn, fx);
    if (cell_alone(c) && m->at.lsn <= c->commit_lsn)
        c->follow.full = 1; /* of another history: one that goes on from this node's is not behind it */
    c->follow.phase = CELL_FETCHING;
    struct cell_effect *e = cell_emit(fx, CELL_FETCH);
    e->to = from;
    e->at = m->at;
    e->session = c->follow.session;
}

/* Only a session that still lives installs: a promise or an order in between has ended it. */
void cell_follow_snapshot(struct cell *c, const struct cell_event *ev, struct cell_effects *fx)
{
    if (c->follow.phase != CELL_FETCHING || ev->session != c->follow.session)
        return;
    if (!ev->ok || (ev->at.lsn <= c->commit_lsn && !c->follow.full)) {
        cell_leave(c);
        return;
    }
    cell_stop_streams(c);
    cell_emit(fx, CELL_INSTALL)->at = ev->at;
    c->base_lsn = c->last_lsn = c->durable_lsn = c->commit_lsn = ev->at.lsn;
    cell_hold(c, fx);
    c->follow.full = 0;
    c->gate.try_ms = c->now_ms + c->config.link_timeout_ms;
    ask(c, c->follow.source, &ev->at, fx);
}

/* ---- the stream ---- */

static int append(struct cell *c, const struct cell_msg *m, struct cell_effects *fx)
{
    struct cell_point last = cell_point(c, c->last_lsn);
    if (m->at.lsn != last.lsn || m->first != last.lsn + 1 || m->last != m->end.lsn || !c->room) {
        cell_leave(c);
        return 0;
    }
    if (!cell_same(&m->at, &last)) {
        diverged(c, fx);
        return 0;
    }
    struct cell_effect *e = cell_emit(fx, CELL_APPEND);
    e->first = m->first;
    e->last = c->last_lsn = m->last;
    e->term = m->end.term;
    e->records = m->records;
    return 1;
}

void cell_on_records(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx)
{
    if (c->follow.phase != CELL_LIVE || m->session != c->follow.session || from != c->follow.source)
        return;
    if (m->term != c->vote.promised && !MUTANT_NOFENCE)
        return;
    if (!hear_source(c, m))
        return;
    c->gate.try_ms = c->now_ms + c->config.link_timeout_ms;
    if (m->first > c->last_lsn + 1) { /* something was lost on the way: also a heartbeat says what should be here */
        cell_leave(c);
        return;
    }
    if (m->first <= m->last && !append(c, m, fx))
        return;
    if (c->role == CELL_CANDIDATE) {
        if (m->first <= m->last)
            cell_gate_fetched(c, &m->end, fx);
        if (c->role == CELL_CANDIDATE)
            ack(c, fx); /* moves the donor's window */
        return;
    }
    if (m->commit > c->follow.commit_lsn)
        c->follow.commit_lsn = m->commit;
    learn(c, fx);
    if (m->seq > c->follow.seq || m->first > m->last) { /* records are acknowledged when they are durable */
        c->follow.seq = m->seq;
        ack(c, fx);
    }
}

void cell_follow_tick(struct cell *c, struct cell_effects *fx)
{
    if (c->follow.phase == CELL_LIVE && c->now_ms - c->follow.alive_ms > c->config.link_timeout_ms)
        cell_leave(c);
    if (c->follow.phase == CELL_LIVE || c->follow.phase == CELL_FETCHING || c->now_ms < c->follow.try_ms)
        return;
    if (c->gate.phase == CELL_GATE_FETCH)
        cell_join(c, c->gate.donor, fx);
    else if (c->role == CELL_REPLICA && c->leader != CELL_NOBODY)
        cell_join(c, c->leader, fx);
}
