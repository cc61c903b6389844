/* node.c - a simulated machine: log, voting file, state, and the process whose core runs on it. */
#include <assert.h>
#include <string.h>

#include "sim.h"

uint64_t sim_random(struct sim *s) /* xorshift64* */
{
    s->rng ^= s->rng >> 12;
    s->rng ^= s->rng << 25;
    s->rng ^= s->rng >> 27;
    return (s->rng * 0x2545f4914f6cdd1d) >> 16;
}

uint64_t sim_chain(uint64_t before, uint32_t term, uint32_t id)
{
    uint64_t z = (before ^ ((uint64_t)term << 32 | id)) * 0x9e3779b97f4a7c15 + 1;
    z = (z ^ z >> 29) * 0xbf58476d1ce4e5b9;
    return z ^ z >> 32;
}

void sim_reset(struct sim *s, uint64_t seed, unsigned voters, unsigned others)
{
    memset(s, 0, offsetof(struct sim, conn));
    for (unsigned i = 0; i < SIM_CONNS; i++)
        s->conn[i].used = 0;
    memset(s->blocked, 0, offsetof(struct sim, trace) - offsetof(struct sim, blocked));
    s->seed = seed;
    s->rng = (seed + 1) * 0x9e3779b97f4a7c15;
    s->voters = voters;
    s->nodes = voters + others;
    s->next_id = 1;
    for (unsigned n = 0; n < s->nodes; n++) {
        s->node[n].vote.promised_to = CELL_NOBODY;
        s->node[n].room = 1;
        s->node[n].now_ms = 1000;
    }
}

/* ---- the log as the core reads it ---- */

static uint32_t term_at(const void *arg, uint64_t lsn)
{
    const struct sim_node *node = arg;
    assert(lsn >= 1 && lsn <= node->last);
    return node->log[lsn].term;
}

static void chain_at(const void *arg, uint64_t lsn, uint8_t out[RECORD_CHAIN_BYTES])
{
    const struct sim_node *node = arg;
    assert(lsn >= 1 && lsn >= node->base && lsn <= node->last);
    memset(out, 0, RECORD_CHAIN_BYTES);
    memcpy(out, &node->log[lsn].chain, sizeof node->log[lsn].chain);
}

static struct cell_point point_at(const struct sim_node *node, uint64_t lsn)
{
    struct cell_point p = {.lsn = lsn};
    if (lsn) {
        p.term = term_at(node, lsn);
        chain_at(node, lsn, p.chain);
    }
    return p;
}

static void put_record(struct sim *s, struct sim_node *node, uint32_t term, uint32_t id)
{
    if (node->last == SIM_LOG)
        sim_broken(s, "the log of the simulation is full");
    uint64_t before = node->log[node->last].chain;
    node->log[++node->last] = (struct sim_record){.term = term, .id = id, .chain = sim_chain(before, term, id)};
}

static void cut_log(struct sim_node *node, uint64_t lsn)
{
    if (node->last > lsn)
        node->last = lsn;
    if (node->synced > node->last)
        node->synced = node->last;
}

/* ---- effects ---- */

typedef void effect_fn(struct sim *s, unsigned n, const struct cell_effect *e);

static void do_persist(struct sim *s, unsigned n, const struct cell_effect *e)
{
    s->node[n].vote = e->vote;
    s->node[n].vote_lost = 0;
}

static void do_cut(struct sim *s, unsigned n, const struct cell_effect *e)
{
    oracle_cut(s, n, e->lsn);
    cut_log(&s->node[n], e->lsn);
    s->node[n].synced = s->node[n].last;
}

static void do_install(struct sim *s, unsigned n, const struct cell_effect *e)
{
    struct sim_node *node = &s->node[n], *source = &s->node[node->fetch_from];
    memcpy(node->log, source->log, sizeof node->log[0] * (e->at.lsn + 1));
    node->base = node->last = node->synced = e->at.lsn;
    node->applied = 0; /* all of it is compared with what was committed */
    oracle_commit(s, n, e->at.lsn);
}

static void do_append(struct sim *s, unsigned n, const struct cell_effect *e)
{
    const struct sim_record *r = e->records;
    for (uint64_t lsn = e->first; lsn <= e->last; lsn++, r++)
        put_record(s, &s->node[n], r->term, r->id);
}

static void do_open(struct sim *s, unsigned n, const struct cell_effect *e)
{
    oracle_opened(s, n, e->term);
    put_record(s, &s->node[n], e->term, s->next_id++);
}

static void do_admit(struct sim *s, unsigned n, const struct cell_effect *e)
{
    for (uint64_t lsn = e->first; lsn <= e->last; lsn++)
        put_record(s, &s->node[n], e->term, s->next_id++);
    oracle_admitted(s, n, e->first, e->last);
}

static void do_send(struct sim *s, unsigned n, const struct cell_effect *e)
{
    sim_send(s, n, e->to, &e->msg);
}

static void do_commit(struct sim *s, unsigned n, const struct cell_effect *e)
{
    oracle_commit(s, n, e->lsn);
}

static void do_outcome(struct sim *s, unsigned n, const struct cell_effect *e)
{
    oracle_outcome(s, n, e->first, e->last, e->term, e->err);
}

static void do_reads(struct sim *s, unsigned n, const struct cell_effect *e)
{
    oracle_reads(s, n, e->seq, e->lsn);
}

static void do_role(struct sim *s, unsigned n, const struct cell_effect *e)
{
    (void)e;
    if (cell_serving(&s->node[n].c))
        oracle_serves(s, n);
    else
        s->node[n].read_count = 0;
}

static void do_fetch(struct sim *s, unsigned n, const struct cell_effect *e)
{
    struct sim_node *node = &s->node[n];
    node->fetching = 1;
    node->fetch_from = e->to;
    node->fetch_lsn = e->at.lsn;
    node->fetch_session = e->session;
}

static void do_alarm(struct sim *s, unsigned n, const struct cell_effect *e)
{
    sim_broken(s, "%c raises an alarm (%d): two logs differ where they cannot", 'a' + n, e->why);
}

static void do_halt(struct sim *s, unsigned n, const struct cell_effect *e)
{
    (void)e;
    sim_crash(s, n);
}

static effect_fn *const effect_table[CELL_EFFECT_TYPES] = {
    [CELL_PERSIST] = do_persist, [CELL_CUT] = do_cut,     [CELL_INSTALL] = do_install, [CELL_APPEND] = do_append,
    [CELL_OPEN] = do_open,       [CELL_ADMIT] = do_admit, [CELL_SEND] = do_send,       [CELL_COMMIT] = do_commit,
    [CELL_OUTCOME] = do_outcome, [CELL_READS] = do_reads, [CELL_ROLE] = do_role,       [CELL_FETCH] = do_fetch,
    [CELL_ALARM] = do_alarm,     [CELL_HALT] = do_halt,
};

/* A crash in the middle of a cut leaves a longer log. */
static void crash_in_effect(struct sim *s, unsigned n, const struct cell_effect *e)
{
    struct sim_node *node = &s->node[n];
    if (e->type == CELL_CUT && node->last > e->lsn && e->lsn >= node->applied)
        cut_log(node, e->lsn + sim_below(s, node->last - e->lsn + 1));
    sim_crash(s, n);
}

static void carry_out(struct sim *s, unsigned n, const struct cell_effects *fx)
{
    for (unsigned i = 0; i < fx->count && s->node[n].up; i++) {
        if (sim_chance(s, s->crash_chance)) {
            crash_in_effect(s, n, &fx->list[i]);
            return;
        }
        trace_effect(s, n, &fx->list[i]);
        effect_table[fx->list[i].type](s, n, &fx->list[i]);
    }
}

enum err sim_step(struct sim *s, unsigned n, struct cell_event ev)
{
    static struct cell_effects fx;
    struct sim_node *node = &s->node[n];

    ev.now_ms = node->now_ms;
    s->events++;
    cell_step(&node->c, &ev, &fx);
    enum err answer = fx.answer;
    if (ev.type == CELL_READ && answer == ERR_OK)
        oracle_read_begun(s, n, fx.ticket);
    carry_out(s, n, &fx);
    return answer;
}

/* ---- starts and ends ---- */

/* Before the core starts: the voting file says mute, then everything else goes. */
static void set_aside(struct sim *s, unsigned n)
{
    struct sim_node *node = &s->node[n];
    if (node->vote_lost)
        node->vote = (struct cell_vote){.promised_to = CELL_NOBODY, .mute = n < s->voters ? CELL_LOST : CELL_DAMAGED};
    else if (node->vote.mute == CELL_SOUND)
        node->vote.mute = CELL_DAMAGED;
    node->vote_lost = 0;
    node->base = node->last = node->synced = node->applied = node->damaged = 0;
}

void sim_start(struct sim *s, unsigned n)
{
    static struct cell_effects fx;
    struct sim_node *node = &s->node[n];
    struct cell_config config = cell_config_default;

    trace(s, "%c starts%s%s%s", 'a' + n, node->damaged ? ", its log damaged" : "",
          node->damaged && node->aside ? " and set aside" : "", node->vote_lost ? ", its voting file lost" : "");
    if (node->damaged && node->aside)
        set_aside(s, n);
    config.self = (uint8_t)n;
    config.voters = (uint8_t)s->voters;
    config.peers = (uint8_t)s->nodes;
    config.config_id = 1;
    config.seed = sim_random(s);
    config.batch_records = s->batch;
    config.window_records = s->window;
    if (node->damaged) { /* what was applied is found again in the state; for the oracle it is to be applied again */
        cut_log(node, node->damaged - 1);
        node->applied = node->applied < node->last ? node->applied : node->last;
    }
    struct cell_boot boot = {
        .vote = node->vote,
        .vote_lost = node->vote_lost,
        .damaged = node->damaged != 0,
        .base_lsn = node->base,
        .last_lsn = node->last,
        .applied_lsn = node->applied,
        .now_ms = node->now_ms,
        .log = {node, term_at, chain_at},
    };
    node->up = 1;
    node->room = 1;
    node->fetching = 0;
    node->read_count = 0;
    node->synced = node->last; /* a start syncs what it found */
    cell_init(&node->c, &config, &boot, &fx);
    carry_out(s, n, &fx);
    if (node->up)
        node->damaged = 0, node->aside = 0;
}

void sim_crash(struct sim *s, unsigned n)
{
    struct sim_node *node = &s->node[n];
    if (!node->up)
        return;
    trace(s, "%c crashes", 'a' + n);
    node->up = 0;
    uint64_t whole = node->synced; /* any subset of what was not synced is on disk; the log ends at the first gap */
    while (whole < node->last && sim_below(s, 2))
        whole++;
    node->last = whole;
    node->synced = whole;
    if (node->applied > node->last)
        sim_broken(s, "%c has applied %lu, and its log ends at %lu", 'a' + n, node->applied, node->last);
    if (node->applied > node->base) /* the state is written without syncs, and is found as of some checkpoint */
        node->applied -= sim_below(s, node->applied - node->base + 1);
    oracle_crashed(s, n);
    sim_drop_all(s, n);
}

void sim_sync(struct sim *s, unsigned n)
{
    struct sim_node *node = &s->node[n];
    node->synced = node->last;
    if (sim_below(s, 8)) /* else it will hear of it with the next one */
        sim_step(s, n, (struct cell_event){.type = CELL_SYNCED, .lsn = node->synced});
}

void sim_fetch_done(struct sim *s, unsigned n)
{
    struct sim_node *node = &s->node[n], *source = &s->node[node->fetch_from];
    struct cell_event ev = {.type = CELL_FETCHED, .session = node->fetch_session};

    node->fetching = 0;
    uint64_t from = node->fetch_lsn > source->base ? node->fetch_lsn : source->base;
    ev.ok = source->up && source->applied >= from;
    if (ev.ok)
        ev.at = point_at(source, from + sim_below(s, source->applied - from + 1));
    sim_step(s, n, ev);
}

void sim_lose_disk(struct sim *s, unsigned n)
{
    struct sim_node *node = &s->node[n];
    node->base = node->last = node->synced = node->applied = node->damaged = 0;
    node->vote_lost = 1;
}

void sim_lose_log(struct sim *s, unsigned n, uint64_t lsn)
{
    struct sim_node *node = &s->node[n];
    if (lsn < node->base)
        node->base = lsn = 0;
    node->damaged = 0;
    cut_log(node, lsn);
    node->applied = node->applied < lsn ? node->applied : lsn;
}

unsigned sim_sick(const struct sim *s)
{
    unsigned sick = 0;
    for (unsigned n = 0; n < s->voters; n++) {
        const struct sim_node *node = &s->node[n];
        sick += node->damaged || node->vote_lost || node->vote.mute || node->last < node->vote.held_lsn;
    }
    return sick;
}
