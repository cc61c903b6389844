/* cell_lead.c - the source's side of sessions: the primary's, a relay's for replicas that are no voters, and a donor's
 * for the candidate that it promised to. Reads that a majority confirms (R10), since a heartbeat carries them. */
#include "engine/cell_impl.h"

void cell_stop_streams(struct cell *c)
{
    for (unsigned p = 0; p < CELL_PEERS; p++)
        c->peer[p].session = 0;
}

/* ---- R6: where do two logs part? ---- */

int cell_meet(const struct cell *c, const struct cell_point *p, struct cell_point *out)
{
    uint64_t low = c->base_lsn, high = p->lsn < c->last_lsn ? p->lsn : c->last_lsn;

    *out = (struct cell_point){0};
    if (high < low || cell_term_at(c, low) > p->term)
        return 0;
    while (low <
           high) { /* terms only grow along a log; low is not of a later term than p, high + 1 is, or is too far */
        uint64_t mid = low + (high - low + 1) / 2;
        if (cell_term_at(c, mid) <= p->term)
            low = mid;
        else
            high = mid - 1;
    }
    *out = cell_point(c, low);
    return 1;
}

/* The newest moment of which a majority is known to have obeyed this primary, and with_room had room for the log; 0:
 * none. Alone it is always now. */
static uint64_t majority_heard_ms(const struct cell *c, uint64_t now_ms, int with_room)
{
    uint64_t of[CELL_VOTERS] = {0};
    for (uint8_t v = 0; v < c->config.voters; v++)
        if (v == c->config.self || !with_room || !c->peer[v].full)
            of[v] = v == c->config.self ? now_ms : c->peer[v].heard_ms;
    return cell_quorum(c, of);
}

/* How far from the primary this comes, and how old its news are. A primary's are no younger than its majority's last
 * word: another one may have been made behind its back since. */
static void say_distance(const struct cell *c, struct cell_msg *m)
{
    int primary = c->role == CELL_PRIMARY;
    uint64_t heard_ms = primary ? majority_heard_ms(c, c->now_ms, 0) : c->follow.heard_ms,
             age_ms = c->now_ms - heard_ms;
    m->hops = (uint8_t)(primary ? 0 : c->follow.hops + 1);
    m->age_ms = !heard_ms || age_ms > UINT32_MAX ? UINT32_MAX : (uint32_t)age_ms;
}

static struct cell_msg *answer_join(struct cell *c, uint8_t to, const struct cell_msg *join, enum cell_msg_type type,
                                    struct cell_effects *fx)
{
    struct cell_msg *m = cell_send(c, fx, to, type);
    m->session = join->session;
    say_distance(c, m);
    return m;
}

static void refuse(struct cell *c, uint8_t to, const struct cell_msg *m, enum cell_why why, struct cell_effects *fx)
{
    struct cell_msg *answer = answer_join(c, to, m, CELL_REFUSED, fx);
    answer->why = (uint8_t)why;
    if (c->role == CELL_REPLICA && c->leader != to)
        answer->leader = c->leader;
}

static void stream(struct cell *c, uint8_t to, const struct cell_msg *m, struct cell_effects *fx)
{
    struct cell_peer *peer = &c->peer[to];
    peer->session = m->session;
    peer->next_lsn = m->at.lsn + 1;
    peer->acked_lsn = m->at.lsn;
    peer->held_lsn = 0;
    peer->alive_ms = c->now_ms;

    struct cell_msg *answer = answer_join(c, to, m, CELL_CONTINUE, fx);
    answer->at = m->at;
    answer->end = cell_point(c, c->last_lsn);
}

/* A candidate's donor is still bound to it, and lost nothing since it promised. */
static int is_donor(const struct cell *c, uint8_t to, uint32_t term)
{
    return c->role == CELL_REPLICA && term == c->vote.promised && to == c->vote.promised_to &&
           (!c->vote.mute || MUTANT_FETCH_UNCHECKED);
}

/* Who lost its source takes nobody new: it may follow him in the end. Whom it has it keeps. */
static int is_relay(const struct cell *c, uint8_t to, uint32_t promised)
{
    return c->role == CELL_REPLICA && c->follow.phase == CELL_LIVE && c->follow.hops + 1 < CELL_HOPS &&
           !cell_votes(c, to) && to != c->follow.source && promised <= c->vote.promised;
}

static int may_stream(const struct cell *c, uint8_t to, const struct cell_msg *join)
{
    if (join->want.lsn)
        return is_donor(c, to, join->term);
    return c->role == CELL_PRIMARY || is_relay(c, to, join->promised);
}

static int resync_anyway(struct cell *c, uint64_t lsn) /* the mutant: now and then, as when Redis's backlog is short */
{
    return MUTANT_RESYNC_REGRESS && c->commit_lsn && lsn < c->last_lsn && (cell_random(c) & 2);
}

void cell_on_join(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx)
{
    struct cell_point mine;

    c->peer[from].session = 0;
    if (m->config_id != c->config.config_id) {
        refuse(c, from, m, CELL_OTHERCONFIG, fx);
    } else if (!may_stream(c, from, m)) {
        refuse(c, from, m, CELL_NOTPRIMARY, fx);
    } else if (m->full || !cell_meet(c, &m->at, &mine) || resync_anyway(c, mine.lsn)) {
        struct cell_msg *answer = answer_join(c, from, m, CELL_SNAPSHOT, fx);
        answer->at = cell_point(c, MUTANT_RESYNC_REGRESS ? c->commit_lsn : c->base_lsn);
    } else if (mine.lsn != m->at.lsn || mine.term != m->at.term) {
        struct cell_msg *answer = answer_join(c, from, m, CELL_COUNTER, fx);
        answer->at = mine;
        answer->end = cell_point(c, c->last_lsn);
    } else if (!cell_same(&mine, &m->at)) {
        refuse(c, from, m, CELL_DIVERGED, fx);
    } else {
        stream(c, from, m, fx);
    }
}

/* ---- what goes out ---- */

static struct cell_msg *records(struct cell *c, uint8_t to, uint64_t first, uint64_t last, struct cell_effects *fx)
{
    struct cell_msg *m = cell_send(c, fx, to, CELL_RECORDS);
    m->session = c->peer[to].session;
    m->first = first;
    m->last = last;
    m->commit = MUTANT_RELAY_EARLY && c->role == CELL_REPLICA ? c->last_lsn : c->commit_lsn;
    m->seq = c->role == CELL_PRIMARY ? c->seq : 0;
    say_distance(c, m);
    return m;
}

void cell_pump(struct cell *c, struct cell_effects *fx)
{
    for (uint8_t p = 0; p < c->config.peers; p++) {
        struct cell_peer *peer = &c->peer[p];
        uint64_t flying = peer->next_lsn - 1 - peer->acked_lsn;
        if (peer->next_lsn <= c->base_lsn) /* trimmed before it was sent: it joins again, for a snapshot */
            peer->session = 0;
        if (!peer->session || peer->next_lsn > c->last_lsn || flying >= c->config.window_records)
            continue;
        uint64_t last = c->last_lsn;
        if (last - peer->next_lsn >= c->config.batch_records)
            last = peer->next_lsn + c->config.batch_records - 1;
        records(c, p, peer->next_lsn, last, fx)->at = cell_point(c, peer->next_lsn - 1);
        peer->next_lsn = last + 1;
    }
}

static void heartbeat(struct cell *c, uint8_t to, struct cell_effects *fx)
{
    records(c, to, c->peer[to].next_lsn, c->peer[to].next_lsn - 1, fx);
}

/* Not a candidate that fetches: its donor has nothing to say beyond what it promised. */
static int hears_beats(const struct cell *c, uint8_t peer)
{
    return c->peer[peer].session && (c->role == CELL_PRIMARY || !cell_votes(c, peer));
}

/* A heartbeat to whoever is in session; voters who are not learn whom to join. */
void cell_beat(struct cell *c, struct cell_effects *fx)
{
    for (uint8_t p = 0; p < c->config.peers; p++) {
        if (hears_beats(c, p))
            heartbeat(c, p, fx);
        else if (c->role == CELL_PRIMARY && cell_votes(c, p) && p != c->config.self)
            cell_send(c, fx, p, CELL_LEAD);
    }
    c->beat_ms = c->now_ms + c->config.heartbeat_ms;
    c->told_lsn = c->commit_lsn;
}

/* Records bring the commit LSN of when they were sent; where none follow, the own one comes with the next tick. */
static void tell_commit(struct cell *c, struct cell_effects *fx)
{
    for (uint8_t p = 0; p < c->config.peers; p++)
        if (hears_beats(c, p) && c->peer[p].next_lsn > c->last_lsn)
            heartbeat(c, p, fx);
    c->told_lsn = c->commit_lsn;
}

void cell_lead_tick(struct cell *c, struct cell_effects *fx)
{
    for (uint8_t p = 0; p < c->config.peers;
         p++) /* it forgot, or nobody is there: it is told to join, not streamed to */
        if (c->peer[p].session && c->now_ms - c->peer[p].alive_ms > c->config.link_timeout_ms)
            c->peer[p].session = 0;
    if (c->now_ms >= c->beat_ms)
        cell_beat(c, fx);
    else if (c->told_lsn < c->commit_lsn)
        tell_commit(c, fx);
}

/* ---- what comes back ---- */

/* R10: reads with a ticket up to what a majority confirmed came before a moment at which this was still the primary
 * that the majority obeys; so the commit LSN of now is not older than what anybody was told when they came. */
static void confirm_reads(struct cell *c, struct cell_effects *fx)
{
    uint64_t of[CELL_VOTERS] = {0};
    for (uint8_t v = 0; v < c->config.voters; v++)
        of[v] = v == c->config.self ? c->seq : c->peer[v].seq;
    uint64_t seq = MUTANT_READLOCAL ? c->seq : cell_quorum(c, of);
    if (seq <= c->confirmed_seq || !(cell_serving(c) || MUTANT_READ_NOBARRIER))
        return;
    c->confirmed_seq = seq;
    struct cell_effect *e = cell_emit(fx, CELL_READS);
    e->seq = seq;
    e->lsn = c->commit_lsn;
}

enum err cell_read(struct cell *c, struct cell_effects *fx)
{
    if (!(MUTANT_READ_NOBARRIER ? c->role == CELL_PRIMARY : cell_serving(c)))
        return ERR_READONLY;
    if (!cell_heard_majority(c, c->now_ms) && !MUTANT_READLOCAL)
        return ERR_NOQUORUM;
    fx->ticket = ++c->seq;
    cell_beat(c, fx);
    confirm_reads(c, fx);
    return ERR_OK;
}

static int heard(const struct cell *c, uint64_t now_ms, int with_room)
{
    uint64_t heard_ms = majority_heard_ms(c, now_ms, with_room);
    return heard_ms && now_ms - heard_ms <= c->config.quorum_timeout_ms;
}

int cell_heard_majority(const struct cell *c, uint64_t now_ms)
{
    return heard(c, now_ms, 0);
}

int cell_heard_room(const struct cell *c, uint64_t now_ms)
{
    return heard(c, now_ms, 1);
}

void cell_on_ack(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx)
{
    struct cell_peer *peer = &c->peer[from];
    if (m->session == peer->session) {
        peer->alive_ms = c->now_ms;
        peer->differs = m->why == CELL_DIFFERS;
        if (m->lsn > peer->acked_lsn)
            peer->acked_lsn = m->lsn;
        if (m->lsn > peer->held_lsn)
            peer->held_lsn = m->lsn;
    }
    if (c->role != CELL_PRIMARY || (m->term != c->vote.promised && !MUTANT_NOFENCE) || m->mute || !cell_votes(c, from))
        return;
    peer->heard_ms = c->now_ms;
    peer->full = m->why == CELL_NOROOM;
    if (m->lsn > peer->match_lsn)
        peer->match_lsn = m->lsn;
    if (m->seq > peer->seq)
        peer->seq = m->seq;
    cell_commit_advance(c, fx);
    confirm_reads(c, fx);
}
