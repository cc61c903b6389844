/* chaos.c - what happens next, at random; and the end of it. */
#include <signal.h>
#include <string.h>

#include "sim.h"

/* Weights when nothing is special about a seed. */
static const unsigned usual[SIM_ACTIONS] = {
    [SIM_DELIVER] = 1200, [SIM_TICK] = 150,     [SIM_SYNC] = 300,    [SIM_WRITE] = 70,      [SIM_READ] = 40,
    [SIM_PROMOTE] = 8,    [SIM_COUP] = 16,      [SIM_RECLAIM] = 2,   [SIM_FOLLOW] = 3,      [SIM_CRASH] = 6,
    [SIM_START] = 30,     [SIM_BREAK] = 8,      [SIM_BLOCK] = 6,     [SIM_UNBLOCK] = 15,    [SIM_DAMAGE] = 4,
    [SIM_BETRAY] = 30,    [SIM_LOSE_VOTE] = 10, [SIM_LOSE_DISK] = 6, [SIM_LOSE_LOG] = 6,    [SIM_SYNC_FAILS] = 2,
    [SIM_ROOM] = 4,       [SIM_TRIM] = 8,       [SIM_FETCH] = 60,    [SIM_ASK_OUTCOME] = 8,
};

/* A seed has some of the faults, more or less often: what is not spent on crashes is left for partitions. */
static void draw_weights(struct sim *s)
{
    static const unsigned times[] = {0, 0, 0, 1, 4, 16}; /* quarters */
    for (unsigned a = 0; a < SIM_ACTIONS; a++) {
        unsigned t = times[sim_below(s, 6)];
        s->weight[a] = usual[a] * (a <= SIM_NEEDED && t == 0 ? 4 : t);
    }
    s->crash_chance = sim_below(s, 3) ? 0 : 40;
    s->twice_chance = sim_below(s, 2) ? 0 : 700;
    s->late_chance = (unsigned)sim_below(s, 3) * 20000;
    s->batch = sim_below(s, 2) ? 1 : 1 + (unsigned)sim_below(s, SIM_BATCH);
    s->window = s->batch * (1 + (unsigned)sim_below(s, 2));
}

/* Losing data is what a majority must be free of. */
static int may_sicken(const struct sim *s, unsigned n)
{
    const struct sim_node *node = &s->node[n];
    if (n >= s->voters || node->damaged || node->vote_lost || node->vote.mute)
        return 1;
    return sim_sick(s) < s->voters - (s->voters / 2 + 1);
}

typedef void action_fn(struct sim *s, unsigned n);

static void act_deliver(struct sim *s, unsigned n)
{
    (void)n;
    sim_deliver_any(s);
}

static void act_tick(struct sim *s, unsigned n)
{
    s->node[n].now_ms += sim_below(s, 8) ? sim_below(s, 120) : sim_below(s, 5000);
    if (s->node[n].up)
        sim_step(s, n, (struct cell_event){.type = CELL_TICK});
}

static void act_sync(struct sim *s, unsigned n)
{
    if (s->node[n].up && s->node[n].c.durable_lsn < s->node[n].last)
        sim_sync(s, n);
}

static void act_write(struct sim *s, unsigned n)
{
    if (s->node[n].up && s->node[n].open_count < SIM_OPEN - 4 && s->node[n].last < SIM_LOG - 200)
        sim_step(s, n, (struct cell_event){.type = CELL_WRITE, .count = 1 + (uint32_t)sim_below(s, 3)});
}

static void act_read(struct sim *s, unsigned n)
{
    if (s->node[n].up && s->node[n].read_count < SIM_READS)
        sim_step(s, n, (struct cell_event){.type = CELL_READ});
}

static void act_promote(struct sim *s, unsigned n)
{
    if (!s->node[n].up || s->node[n].last > SIM_LOG - 100)
        return;
    trace(s, "%c is told to be primary", 'a' + n);
    sim_step(s, n, (struct cell_event){.type = CELL_PROMOTE});
}

/* What loses data where anything can: the primary alone with its last writes, and somebody else put in its place. */
static void act_coup(struct sim *s, unsigned n)
{
    memset(s->blocked, 0, sizeof s->blocked);
    for (unsigned old = 0; old < s->voters; old++)
        for (unsigned p = 0; p < s->nodes && old != n && s->node[old].up && s->node[old].c.role == CELL_PRIMARY; p++)
            if (sim_below(s, 6))
                s->blocked[old][p] = s->blocked[p][old] = 1;
    act_promote(s, n);
}

static void act_reclaim(struct sim *s, unsigned n)
{
    if (!s->node[n].up || s->node[n].last > SIM_LOG - 100)
        return;
    trace(s, "%c was primary when it stopped", 'a' + n);
    sim_step(s, n, (struct cell_event){.type = CELL_RECLAIM});
}

static void act_follow(struct sim *s, unsigned n)
{
    unsigned of = (unsigned)sim_below(s, n < s->voters ? s->voters : s->nodes); /* also in a circle */
    if (!s->node[n].up || of == n)
        return;
    trace(s, "%c is told to follow %c", 'a' + n, 'a' + of);
    sim_step(s, n, (struct cell_event){.type = CELL_FOLLOW, .peer = (uint8_t)of});
}

static void act_crash(struct sim *s, unsigned n)
{
    sim_crash(s, n);
}

static void act_start(struct sim *s, unsigned n)
{
    if (!s->node[n].up)
        sim_start(s, n);
}

static void act_break(struct sim *s, unsigned n)
{
    unsigned other = (unsigned)sim_below(s, s->nodes);
    if (other != n)
        sim_break(s, n, other, (int)sim_below(s, 2));
}

static void act_block(struct sim *s, unsigned n)
{
    unsigned other = (unsigned)sim_below(s, s->nodes);
    int both = (int)sim_below(s, 3);
    for (unsigned p = 0; p < s->nodes; p++) { /* from everybody now and then */
        if (p != n && (p == other || both == 2)) {
            s->blocked[n][p] = 1;
            s->blocked[p][n] = both > 0;
        }
    }
    trace(s, "%c is cut off from %c%s", 'a' + n, 'a' + other, both == 2 ? " and all others" : both ? "" : ", one way");
}

static void act_unblock(struct sim *s, unsigned n)
{
    for (unsigned p = 0; p < s->nodes; p++)
        s->blocked[n][p] = s->blocked[p][n] = 0;
}

static void act_damage(struct sim *s, unsigned n)
{
    struct sim_node *node = &s->node[n];
    if (!may_sicken(s, n) || node->last == node->base)
        return;
    sim_crash(s, n);
    if (node->last == node->base)
        return;
    uint64_t lsn = node->last - sim_below(s, sim_below(s, 2) ? node->last - node->base : 1);
    if (!node->damaged || lsn < node->damaged)
        node->damaged = lsn;
    node->aside |= sim_below(s, 3) == 0;
    trace(s, "%c: record %lu goes bad", 'a' + n, lsn);
}

/* A donor that has just promised, and is not what it promised when it is asked for it. */
static void act_betray(struct sim *s, unsigned n)
{
    for (unsigned p = 0; p < s->voters; p++) {
        const struct cell *c = &s->node[p].c;
        if (!s->node[p].up || c->gate.phase != CELL_GATE_FETCH || c->gate.donor == p)
            continue;
        if (sim_below(s, 2))
            act_damage(s, c->gate.donor);
        sim_crash(s, c->gate.donor);
        act_start(s, c->gate.donor);
    }
    (void)n;
}

static void act_lose_vote(struct sim *s, unsigned n)
{
    if (!may_sicken(s, n))
        return;
    sim_crash(s, n);
    s->node[n].vote_lost = 1;
}

static void act_lose_disk(struct sim *s, unsigned n)
{
    if (!may_sicken(s, n))
        return;
    sim_crash(s, n);
    sim_lose_disk(s, n);
    trace(s, "%c has a new, empty disk", 'a' + n);
}

/* By hand. That something is gone is known where it was held when the voting file was written last. */
static void act_lose_log(struct sim *s, unsigned n)
{
    struct sim_node *node = &s->node[n];
    if (!may_sicken(s, n))
        return;
    sim_crash(s, n);
    sim_lose_log(s, n, sim_below(s, 2) ? 0 : sim_below(s, node->vote.held_lsn));
    trace(s, "%c: what was behind record %lu is gone, but not its voting file", 'a' + n, node->last);
}

static void act_sync_fails(struct sim *s, unsigned n)
{
    if (s->node[n].up && s->node[n].synced < s->node[n].last)
        sim_step(s, n, (struct cell_event){.type = CELL_SYNC_FAILED});
}

static void act_room(struct sim *s, unsigned n)
{
    struct sim_node *node = &s->node[n];
    if (!node->up)
        return;
    node->room = !node->room;
    trace(s, "%c: the disk %s", 'a' + n, node->room ? "has room" : "is full");
    sim_step(s, n, (struct cell_event){.type = CELL_ROOM, .ok = (uint8_t)node->room});
}

static void act_trim(struct sim *s, unsigned n)
{
    struct sim_node *node = &s->node[n];
    if (!node->up || node->applied <= node->base)
        return;
    uint64_t lsn = node->base + 1 + sim_below(s, node->applied - node->base);
    if (lsn > node->c.commit_lsn)
        return;
    node->base = lsn;
    sim_step(s, n, (struct cell_event){.type = CELL_TRIMMED, .lsn = lsn});
}

static void act_fetch(struct sim *s, unsigned n)
{
    if (s->node[n].up && s->node[n].fetching)
        sim_fetch_done(s, n);
}

static void act_ask_outcome(struct sim *s, unsigned n)
{
    if (s->node[n].up)
        oracle_asked_outcome(s, n, 1 + sim_below(s, s->committed_lsn + 4),
                             1 + (uint32_t)sim_below(s, s->node[n].c.heard + 1));
}

static action_fn *const actions[SIM_ACTIONS] = {
    [SIM_DELIVER] = act_deliver,
    [SIM_TICK] = act_tick,
    [SIM_SYNC] = act_sync,
    [SIM_WRITE] = act_write,
    [SIM_READ] = act_read,
    [SIM_PROMOTE] = act_promote,
    [SIM_COUP] = act_coup,
    [SIM_RECLAIM] = act_reclaim,
    [SIM_FOLLOW] = act_follow,
    [SIM_CRASH] = act_crash,
    [SIM_START] = act_start,
    [SIM_BREAK] = act_break,
    [SIM_BLOCK] = act_block,
    [SIM_UNBLOCK] = act_unblock,
    [SIM_DAMAGE] = act_damage,
    [SIM_BETRAY] = act_betray,
    [SIM_LOSE_VOTE] = act_lose_vote,
    [SIM_LOSE_DISK] = act_lose_disk,
    [SIM_SYNC_FAILS] = act_sync_fails,
    [SIM_ROOM] = act_room,
    [SIM_LOSE_LOG] = act_lose_log,
    [SIM_TRIM] = act_trim,
    [SIM_FETCH] = act_fetch,
    [SIM_ASK_OUTCOME] = act_ask_outcome,
};

static enum sim_action draw(struct sim *s)
{
    uint64_t sum = 0;
    for (unsigned a = 0; a < SIM_ACTIONS; a++)
        sum += s->weight[a];
    uint64_t at = sim_below(s, sum);
    unsigned a = 0;
    while (at >= s->weight[a])
        at -= s->weight[a++];
    return (enum sim_action)a;
}

/* ---- peace ---- */

static int is_up_to_date(const struct sim *s, unsigned n, unsigned leader)
{
    const struct sim_node *node = &s->node[n], *first = &s->node[leader];
    return node == first || (node->c.follow.phase == CELL_LIVE && (node->c.leader == leader || n >= s->voters) &&
                             node->c.vote.mute == CELL_SOUND && node->last == first->last &&
                             node->c.commit_lsn == first->c.commit_lsn && cell_fresh(&node->c, node->now_ms) == ERR_OK);
}

static int is_at_rest(const struct sim *s, unsigned *leader)
{
    unsigned serving = 0;
    for (unsigned n = 0; n < s->nodes; n++)
        if (s->node[n].up && s->node[n].c.gate.phase != CELL_GATE_NONE)
            return 0;
    for (unsigned n = 0; n < s->nodes; n++)
        if (s->node[n].up && cell_serving(&s->node[n].c)) {
            serving++;
            *leader = n;
        }
    if (serving != 1 || s->node[*leader].c.commit_lsn != s->node[*leader].last || s->node[*leader].open_count)
        return 0;
    if (cell_fresh(&s->node[*leader].c, s->node[*leader].now_ms) != ERR_OK)
        return 0;
    for (unsigned n = 0; n < s->nodes; n++)
        if (s->node[n].up && !is_up_to_date(s, n, *leader))
            return 0;
    return 1;
}

/* Replicas that are no voters are told whom to follow: the primary, or the one before them, which follows it somehow.
 */
static void tell_others(struct sim *s, unsigned leader)
{
    for (unsigned n = s->voters; n < s->nodes; n++) {
        unsigned of = s->seed & 1 && s->node[n - 1].up ? n - 1 : leader;
        if (s->node[n].up && s->node[n].c.follow.phase != CELL_LIVE)
            sim_step(s, n, (struct cell_event){.type = CELL_FOLLOW, .peer = (uint8_t)of});
    }
}

/* As Sentinel: somebody who is up, whose slave_priority is the lowest above 0. */
static void promote_somebody(struct sim *s)
{
    unsigned best = s->nodes, lowest = 0;
    for (unsigned n = 0; n < s->nodes; n++) {
        struct cell_status st;
        if (!s->node[n].up)
            continue;
        cell_status(&s->node[n].c, s->node[n].now_ms, &st);
        if (st.master) {
            tell_others(s, n);
            return;
        }
        if (st.priority && (best == s->nodes || st.priority < lowest)) {
            best = n;
            lowest = st.priority;
        }
    }
    if (best < s->nodes)
        act_promote(s, best);
}

static void one_round(struct sim *s, unsigned ms)
{
    for (unsigned n = 0; n < s->nodes; n++) {
        if (!s->node[n].up)
            continue;
        s->node[n].now_ms += ms;
        sim_step(s, n, (struct cell_event){.type = CELL_TICK});
    }
    for (unsigned i = 0; i < 400 && sim_deliver_any(s); i++)
        ;
    for (unsigned n = 0; n < s->nodes; n++) {
        act_fetch(s, n);
        act_sync(s, n);
    }
}

void sim_peace(struct sim *s)
{
    unsigned leader = s->nodes, dead = s->nodes;
    trace(s, "faults stop");
    s->stuck = 1;
    s->crash_chance = s->twice_chance = 0;
    memset(s->blocked, 0, sizeof s->blocked);
    for (unsigned i = 0; i < SIM_CONNS; i++)
        s->conn[i].used = s->conn[i].used && s->conn[i].current;
    if (s->voters > 1 && sim_sick(s) == 0 && sim_below(s, 2)) { /* one stays dead for ever */
        dead = (unsigned)sim_below(s, s->voters);
        sim_crash(s, dead);
    }
    for (unsigned n = 0; n < s->nodes; n++) {
        if (n != dead)
            act_start(s, n);
        if (s->node[n].up && !s->node[n].room)
            act_room(s, n);
    }
    for (unsigned round = 0; round < 1200 + SIM_LOG; round++) { /* a minute, and a whole log, record by record */
        if (round % 120 == 0)
            promote_somebody(s);
        one_round(s, 50);
        if (is_at_rest(s, &leader))
            break;
    }
    if (!is_at_rest(s, &leader))
        sim_broken(s, "nobody serves, or somebody is not up to date, long after all faults");
    uint64_t was = s->told[0];
    if (sim_step(s, leader, (struct cell_event){.type = CELL_WRITE, .count = 1}) != ERR_OK)
        sim_broken(s, "who serves takes no write");
    for (unsigned round = 0; round < 100 && s->told[0] == was; round++)
        one_round(s, 50);
    if (s->told[0] == was)
        sim_broken(s, "a write is not acknowledged in peace");
    s->stuck = 0;
    oracle_has_all(s, leader);
    oracle_end(s);
}

/* ---- a run ---- */

static struct sim *running;

/* The core's own asserts, and the simulation's. */
static void on_abort(int sig)
{
    (void)sig;
    snprintf(running->why, sizeof running->why, "an assertion of the core");
    siglongjmp(running->broken, 1);
}

int sim_run(struct sim *s, uint64_t seed, unsigned voters, unsigned steps, FILE *trace_to)
{
    sim_reset(s, seed, voters, voters == 1 ? 2 : (unsigned)(seed % 3));
    s->trace = trace_to;
    s->why[0] = 0;
    running = s;
    signal(SIGABRT, on_abort);
    if (sigsetjmp(s->broken, 1) == 0) {
        draw_weights(s);
        for (unsigned n = 0; n < s->nodes; n++)
            sim_start(s, n);
        act_promote(s, (unsigned)sim_below(s, s->voters));
        for (unsigned i = 0; i < steps; i++)
            actions[draw(s)](s, (unsigned)sim_below(s, s->nodes));
        sim_peace(s);
    }
    signal(SIGABRT, SIG_DFL);
    return s->why[0] == 0;
}
