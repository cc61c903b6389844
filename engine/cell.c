/* cell.c - start, dispatch, time, questions. See cell.h; cell_impl.h says what is in which file.
 *
 * A step is: note the time; for a message, hear of its sender's term; the handler of the event or message, by table;
 * then whatever new records there are go out (cell_pump). Effects are emitted in the order in which they must be
 * carried out, so "durable before it is answered" (R1, R6) is the order of two lines.
 */
#include "engine/cell.h"

#include <assert.h>

#include "engine/cell_impl.h"

const struct cell_config cell_config_default = {
    .heartbeat_ms = 50,
    .retry_ms = 500,
    .link_timeout_ms = 1000,
    .quorum_timeout_ms = 2000,
    .max_staleness_ms = 5000,
    .gate_timeout_ms = 4000,
    .write_timeout_ms = 3000,
    .outcome_timeout_ms = 10000,
    .lame_ms = 60000,
    .priority = 100,
    .batch_records = 64,
    .window_records = 1024,
};

static const char *const msg_names[CELL_MSG_TYPES] = {
    "PROBE",   "PROBED", "ASK",  "PROMISED", "JOIN",  "COUNTER", "CONTINUE", "SNAPSHOT",
    "RECORDS", "ACK",    "LEAD", "REFUSED",  "STAND", "DIGEST",  "ALIVE",
};
const char *cell_msg_name(enum cell_msg_type type)
{
    return (unsigned)type < CELL_MSG_TYPES ? msg_names[type] : "?";
}

static const char *const effect_names[CELL_EFFECT_TYPES] = {
    "PERSIST", "CUT",     "INSTALL", "APPEND", "OPEN",  "ADMIT", "SEND",
    "COMMIT",  "OUTCOME", "READS",   "ROLE",   "FETCH", "ALARM", "HALT",
};
const char *cell_effect_name(enum cell_effect_type type)
{
    return (unsigned)type < CELL_EFFECT_TYPES ? effect_names[type] : "?";
}

/* ---- helpers ---- */

struct cell_effect *cell_emit(struct cell_effects *fx, enum cell_effect_type type)
{
    assert(fx->count < CELL_EFFECTS);
    struct cell_effect *e = &fx->list[fx->count++];
    *e = (struct cell_effect){.type = type};
    return e;
}

struct cell_msg *cell_send(struct cell *c, struct cell_effects *fx, uint8_t to, enum cell_msg_type type)
{
    struct cell_effect *e = cell_emit(fx, CELL_SEND);
    e->to = to;
    e->msg.type = type;
    e->msg.promised = e->msg.term = c->vote.promised;
    e->msg.leader = CELL_NOBODY;
    return &e->msg;
}

void cell_cut(struct cell *c, uint64_t lsn, struct cell_effects *fx)
{
    assert(lsn >= c->commit_lsn && lsn <= c->last_lsn);
    if (lsn == c->last_lsn)
        return;
    if (c->vote.held_lsn > lsn) {
        c->vote.held_lsn = lsn;
        cell_emit(fx, CELL_PERSIST)->vote = c->vote;
    }
    cell_emit(fx, CELL_CUT)->lsn = lsn;
    c->last_lsn = c->durable_lsn = lsn;
}

void cell_alarm(struct cell *c, enum cell_why why, struct cell_effects *fx)
{
    cell_step_down(c, 0, fx);
    c->alarm = why;
    cell_emit(fx, CELL_ALARM)->why = why;
}

uint32_t cell_term_at(const struct cell *c, uint64_t lsn)
{
    return lsn ? c->log.term_at(c->log.arg, lsn) : 0;
}

struct cell_point cell_point(const struct cell *c, uint64_t lsn)
{
    struct cell_point p = {.lsn = lsn, .term = cell_term_at(c, lsn)};
    if (lsn)
        c->log.chain_at(c->log.arg, lsn, p.chain);
    return p;
}

int cell_same(const struct cell_point *a, const struct cell_point *b)
{
    return a->lsn == b->lsn && a->term == b->term && memcmp(a->chain, b->chain, sizeof a->chain) == 0;
}

uint64_t cell_random(struct cell *c) /* splitmix64 */
{
    uint64_t z = c->rng += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (z ^ z >> 31) | 1; /* never 0, which is no session */
}

/* ---- start ---- */

static uint64_t lower(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static enum cell_mute mute_at_start(const struct cell *c, const struct cell_boot *boot)
{
    if (boot->vote_lost && !MUTANT_AMNESIA && !cell_alone(c) && cell_votes(c, c->config.self))
        return MUTANT_FORGIVEN ? CELL_DAMAGED : CELL_LOST;
    int shorter = c->last_lsn < c->vote.held_lsn && !cell_alone(c) && cell_votes(c, c->config.self);
    if (((boot->damaged && !MUTANT_DAMAGED_VOTES) || (shorter && !MUTANT_GONE_VOTES)) && c->vote.mute == CELL_SOUND)
        return CELL_DAMAGED;
    return c->vote.mute;
}

void cell_init(struct cell *c, const struct cell_config *config, const struct cell_boot *boot, struct cell_effects *fx)
{
    static const struct cell_vote nothing = {.promised_to = CELL_NOBODY};
    assert(config->voters >= 1 && config->voters <= CELL_VOTERS && config->voters % 2 == 1);
    assert(config->peers >= config->voters && config->peers <= CELL_PEERS);

    fx->count = 0;
    *c = (struct cell){.config = *config, .log = boot->log, .room = 1, .leader = CELL_NOBODY};
    c->rng = config->seed;
    c->now_ms = boot->now_ms;
    c->vote = boot->vote_lost ? nothing : boot->vote;
    c->base_lsn = boot->base_lsn;
    c->last_lsn = c->durable_lsn = boot->last_lsn;
    c->commit_lsn = lower(boot->applied_lsn, boot->last_lsn);
    c->met_session = cell_random(c);

    /* A log holds no record of a term that was not promised first; where the file is lost that is a lower bound. */
    if (c->vote.promised < cell_term_at(c, c->last_lsn))
        c->vote.promised = cell_term_at(c, c->last_lsn);
    c->heard = c->vote.promised;
    if (boot->vote_lost || mute_at_start(c, boot) != c->vote.mute)
        cell_set_mute(c, mute_at_start(c, boot), fx);
    cell_hold(c, fx); /* of a file of an older version, or an end between the record and the file */
    if (boot->damaged)
        cell_emit(fx, CELL_CUT)->lsn = c->last_lsn;
}

/* ---- events ---- */

typedef enum err event_fn(struct cell *c, const struct cell_event *ev, struct cell_effects *fx);

static enum err on_tick(struct cell *c, const struct cell_event *ev, struct cell_effects *fx)
{
    (void)ev;
    cell_ask_around(c, fx);
    cell_gate_tick(c, fx);
    cell_follow_tick(c, fx);
    cell_lead_tick(c, fx);
    cell_rollback_tick(c, fx);
    cell_limbo_tick(c, fx);
    return ERR_OK;
}

static void for_the_owner(struct cell *c, uint8_t from, const struct cell_msg *m, struct cell_effects *fx)
{
    (void)c, (void)from, (void)m, (void)fx;
}

static cell_msg_fn *const msg_handlers[CELL_MSG_TYPES] = {
    [CELL_PROBE] = cell_on_probe,       [CELL_PROBED] = cell_on_probed,     [CELL_ASK] = cell_on_ask,
    [CELL_PROMISED] = cell_on_promised, [CELL_JOIN] = cell_on_join,         [CELL_COUNTER] = cell_on_counter,
    [CELL_CONTINUE] = cell_on_continue, [CELL_SNAPSHOT] = cell_on_snapshot, [CELL_RECORDS] = cell_on_records,
    [CELL_ACK] = cell_on_ack,           [CELL_LEAD] = cell_on_lead,         [CELL_REFUSED] = cell_on_refused,
    [CELL_STAND] = cell_on_stand,       [CELL_DIGEST] = for_the_owner,      [CELL_ALIVE] = for_the_owner,
};

static enum err on_received(struct cell *c, const struct cell_event *ev, struct cell_effects *fx)
{
    const struct cell_msg *m = ev->msg;
    if ((unsigned)m->type >= CELL_MSG_TYPES || ev->peer >= c->config.peers || ev->peer == c->config.self)
        return ERR_OK;
    uint32_t term = c->vote.promised;
    if (m->type != CELL_ASK) /* which may be granted: a harder end, and a better one, than hearing of a term */
        cell_hear(c, m->promised, fx);
    if (c->role == CELL_PRIMARY && term != c->vote.promised)
        return ERR_OK; /* alone: the barrier is not in the log yet. Who joins tries again */
    cell_pass_on(c, ev->peer, m->promised, fx);
    msg_handlers[m->type](c, ev->peer, m, fx);
    return ERR_OK;
}

static enum err on_synced(struct cell *c, const struct cell_event *ev, struct cell_effects *fx)
{
    if (ev->lsn > c->last_lsn || ev->lsn <= c->durable_lsn)
        return ERR_OK;
    c->durable_lsn = ev->lsn;
    cell_hold(c, fx);
    if (c->role == CELL_PRIMARY)
        cell_commit_advance(c, fx);
    else
        cell_follow_synced(c, fx);
    return ERR_OK;
}

static enum err on_sync_failed(struct cell *c, const struct cell_event *ev, struct cell_effects *fx)
{
    (void)ev;
    cell_emit(fx, CELL_HALT);
    cell_alarm(c, CELL_DISKFAILED, fx);
    return ERR_OK;
}

static enum err on_link_down(struct cell *c, const struct cell_event *ev, struct cell_effects *fx)
{
    (void)fx;
    if (c->follow.phase != CELL_APART && c->follow.source == ev->peer)
        cell_leave(c);
    if (ev->peer < c->config.peers)
        c->peer[ev->peer].session = 0;
    return ERR_OK;
}

/* What was sent before had nowhere to go: the next tick joins. */
static enum err on_link_up(struct cell *c, const struct cell_event *ev, struct cell_effects *fx)
{
    (void)fx;
    if (ev->peer == (c->gate.phase == CELL_GATE_FETCH ? c->gate.donor : c->leader))
        c->follow.try_ms = c->now_ms;
    return ERR_OK;
}

static enum err on_promote(struct cell *c, const struct cell_event *ev, struct cell_effects *fx)
{
    return cell_gate_start(c, ev->type == CELL_RECLAIM, fx);
}

static enum err on_follow(struct cell *c, const struct cell_event *ev, struct cell_effects *fx)
{
    if (ev->peer >= c->config.peers || ev->peer == c->config.self)
        return ERR_RANGE;
    cell_step_down(c, 0, fx);
    c->reclaim_ms = 0;
    c->follow.full = 0;
    cell_follow_peer(c, ev->peer, fx);
    return ERR_OK;
}

/* It stands in a higher term, and is promised that by us too: which ends this primaryship. */
static enum err on_hand_over(struct cell *c, const struct cell_event *ev, struct cell_effects *fx)
{
    if (ev->peer >= c->config.peers || ev->peer == c->config.self)
        return ERR_RANGE;
    if (!cell_serving(c))
        return ERR_READONLY;
    cell_send(c, fx, ev->peer, CELL_STAND);
    return ERR_OK;
}

static enum err on_write(struct cell *c, const struct cell_event *ev, struct cell_effects *fx)
{
    return cell_write(c, ev->count, fx);
}

static enum err on_read(struct cell *c, const struct cell_event *ev, struct cell_effects *fx)
{
    (void)ev;
    return cell_read(c, fx);
}

static enum err on_fetched(struct cell *c, const struct cell_event *ev, struct cell_effects *fx)
{
    cell_follow_snapshot(c, ev, fx);
    return ERR_OK;
}

static enum err on_trimmed(struct cell *c, const struct cell_event *ev, struct cell_effects *fx)
{
    (void)fx;
    if (ev->lsn > c->base_lsn && ev->lsn <= c->commit_lsn)
        c->base_lsn = ev->lsn;
    return ERR_OK;
}

static enum err on_room(struct cell *c, const struct cell_event *ev, struct cell_effects *fx)
{
    c->room = ev->ok;
    cell_follow_room(c, fx);
    return ERR_OK;
}

static enum err on_state(struct cell *c, const struct cell_event *ev, struct cell_effects *fx)
{
    (void)fx;
    c->differs = !ev->ok;
    return ERR_OK;
}

static event_fn *const event_handlers[CELL_EVENT_TYPES] = {
    [CELL_TICK] = on_tick,           [CELL_RECEIVED] = on_received,
    [CELL_SYNCED] = on_synced,       [CELL_SYNC_FAILED] = on_sync_failed,
    [CELL_LINK_DOWN] = on_link_down, [CELL_PROMOTE] = on_promote,
    [CELL_RECLAIM] = on_promote,     [CELL_FOLLOW] = on_follow,
    [CELL_WRITE] = on_write,         [CELL_READ] = on_read,
    [CELL_FETCHED] = on_fetched,     [CELL_TRIMMED] = on_trimmed,
    [CELL_ROOM] = on_room,           [CELL_HAND_OVER] = on_hand_over,
    [CELL_LINK_UP] = on_link_up,     [CELL_STATE] = on_state,
};

/* Who raised an alarm is not part of the cell any more: it cannot say which of its words are true. */
static enum err refuse_all(enum cell_event_type type)
{
    return type == CELL_WRITE || type == CELL_READ ? ERR_READONLY : ERR_CORRUPT;
}

void cell_step(struct cell *c, const struct cell_event *ev, struct cell_effects *fx)
{
    fx->count = 0;
    fx->ticket = 0;
    fx->answer = ERR_OK;
    if (ev->now_ms > c->now_ms)
        c->now_ms = ev->now_ms;
    if (c->alarm) {
        fx->answer = refuse_all(ev->type);
        return;
    }
    int served = cell_serving(c);
    enum cell_role role = c->role;
    fx->answer = event_handlers[ev->type](c, ev, fx);
    cell_pump(c, fx);
    if (served != cell_serving(c) || role != c->role)
        cell_emit(fx, CELL_ROLE);
}

/* ---- questions ---- */

int cell_serving(const struct cell *c)
{
    return c->role == CELL_PRIMARY && c->commit_lsn >= c->barrier_lsn;
}

enum err cell_fresh(const struct cell *c, uint64_t now_ms)
{
    if (cell_serving(c))
        return cell_heard_majority(c, now_ms) ? ERR_OK : ERR_NOQUORUM;
    if (c->role == CELL_PRIMARY || c->alarm)
        return ERR_MASTERDOWN;
    return c->follow.heard_ms && now_ms - c->follow.heard_ms <= c->config.max_staleness_ms ? ERR_OK : ERR_MASTERDOWN;
}

static unsigned priority(const struct cell *c, uint64_t now_ms)
{
    if (!cell_votes(c, c->config.self) || c->vote.mute || c->alarm || c->differs || !c->room ||
        c->follow.phase == CELL_FETCHING || !c->config.priority)
        return 0;
    return now_ms < c->lame_until_ms ? 200 : c->config.priority;
}

void cell_status(const struct cell *c, uint64_t now_ms, struct cell_status *out)
{
    *out = (struct cell_status){
        .master = cell_serving(c),
        .leader = c->role == CELL_REPLICA ? c->leader : CELL_NOBODY,
        .link_up = c->role == CELL_REPLICA && c->follow.phase == CELL_LIVE,
        .link_down_ms = c->follow.heard_ms && now_ms > c->follow.heard_ms ? now_ms - c->follow.heard_ms : 0,
        .priority = priority(c, now_ms),
        .term = c->vote.promised,
        .offset = c->durable_lsn,
        .commit_lsn = c->commit_lsn,
    };
}

unsigned cell_holders(const struct cell *c, uint64_t lsn)
{
    unsigned n = 0;
    for (uint8_t p = 0; c->role == CELL_PRIMARY && p < c->config.peers; p++)
        n += p != c->config.self && c->peer[p].session && c->peer[p].held_lsn >= lsn;
    return n;
}
