/* repl_status.c - what others are told of this node's part: a copy of what INFO and ROLE show, and the few words that
 * each command looks at. */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/repl_impl.h"

/* The address of the other end, where a link is or was: Sentinel compares texts, and knows addresses. */
static void put_host(const struct repl *r, uint8_t peer, char out[VOTERS_HOST_BYTES], int *port)
{
    const struct dialer_config *d = r->dialer[peer] ? dialer_config(r->dialer[peer]) : NULL;
    if (peer < r->voters.n) {
        snprintf(out, VOTERS_HOST_BYTES, "%s", r->address[peer][0] ? r->address[peer] : r->voters.at[peer].host);
        *port = r->voters.at[peer].port;
    } else if (d) {
        snprintf(out, VOTERS_HOST_BYTES, "%s", d->host);
        *port = d->port;
    } else {
        snprintf(out, VOTERS_HOST_BYTES, "%s", r->guest[peer].host);
        *port = r->guest[peer].port;
    }
}

/* A primary shows all voters, since Sentinel must know them, and without voters who is linked, though it may still copy
 * a snapshot. Else who is in session: a replica that is no voter is linked to all voters and follows one. */
static int is_shown(const struct repl *r, const struct cell *c, uint8_t p, int master)
{
    if (p == c->config.self)
        return 0;
    if (p < r->voters.n)
        return master;
    return c->peer[p].session || (master && !r->voters.n && r->link[p]);
}

static void put_peers(const struct repl *r, uint64_t now, struct repl_status *s)
{
    const struct cell *c = cellnode_cell(r->node);
    for (uint8_t p = 0; p < CELL_PEERS; p++) {
        const struct cell_peer *peer = &c->peer[p];
        if (!is_shown(r, c, p, s->master))
            continue;
        struct repl_peer *out = &s->peer[s->peers++];
        put_host(r, p, out->host, &out->port);
        out->voter = p < r->voters.n;
        out->index = p;
        out->online = peer->session != 0;
        out->differs = peer->session && peer->differs;
        out->held_lsn = peer->session ? peer->held_lsn : 0;
        out->linked = r->link[p] != NULL;
        out->full = peer->full;
        out->lag_ms = now > peer->alive_ms ? now - peer->alive_ms : 0;
    }
}

static void count_sessions(struct repl *r)
{
    const struct cell *c = cellnode_cell(r->node);
    for (uint8_t p = 0; p < CELL_PEERS; p++) {
        uint64_t session = c->peer[p].session;
        if (session && session != r->session[p])
            atomic_fetch_add(&r->srv->sync_partial, 1);
        r->session[p] = session;
    }
}

static void put_leader(struct repl *r, const struct cell_status *core, struct repl_status *s)
{
    uint8_t leader =
        core->leader != CELL_NOBODY && core->leader != cellnode_cell(r->node)->config.self ? core->leader : r->source;
    if (s->master || leader == CELL_NOBODY)
        return;
    s->leader = leader;
    put_host(r, leader, s->leader_host, &s->leader_port);
    if (!s->link_up && s->copy.waits_for[0])
        snprintf(s->trouble, sizeof s->trouble, "%s", s->copy.waits_for);
    else if (!s->link_up && r->trouble[leader][0])
        memcpy(s->trouble, r->trouble[leader], sizeof s->trouble);
    else if (!s->link_up && !cellnode_cell(r->node)->room)
        snprintf(s->trouble, sizeof s->trouble, "this node's disk has no room for the log");
}

/* master_replid2: of the newest term in the log that is not the one this node is in. */
void repl_look_at_terms(struct repl *r)
{
    struct wal *w = engine_wal(r->srv->engine);
    struct cell_status core;
    struct wal_info info;
    cellnode_status(r->node, clock_mono_ms(), &core);
    wal_info(w, &info);
    if (r->turn.term == core.term && r->turn.log_term == core.term) /* a term begins at one place */
        return;
    r->turn = (struct repl_turn){core.term, info.term, info.term, info.last_lsn + 1};
    if (info.term == core.term && !wal_last_turn(w, &r->turn.first_lsn, &r->turn.before))
        r->turn.before = 0;
}

static void put_replids(struct repl *r, const struct cell_status *core, struct repl_status *s)
{
    uint8_t cell_id[16];
    if (r->turn.term != core->term || (core->master && r->turn.log_term != core->term))
        repl_look_at_terms(r);
    engine_cell_id(r->srv->engine, cell_id);
    hello_replid(cell_id, core->term, s->replid);
    if (r->turn.before)
        hello_replid(cell_id, r->turn.before, s->replid2);
    s->second_lsn = r->turn.first_lsn;
}

static void fill(struct repl *r, uint64_t now, struct repl_status *s)
{
    const struct cell *c = cellnode_cell(r->node);
    struct cell_status core;
    uint64_t compared_lsn = atomic_load(&r->digest.compared_lsn); /* before its verdict */

    cellnode_status(r->node, now, &core);
    *s = (struct repl_status){.on = 1,
                              .voters = r->voters.n != 0,
                              .mute = (enum cell_mute)c->vote.mute,
                              .master = core.master,
                              .leader = CELL_NOBODY,
                              .link_up = core.link_up,
                              .priority = core.priority,
                              .term = core.term,
                              .offset = core.offset,
                              .commit_lsn = core.commit_lsn,
                              .state_lsn = compared_lsn,
                              .state = (enum repl_state_verdict)atomic_load(&r->digest.verdict),
                              .read_rounds = atomic_load(&r->reads.done),
                              .heard_ms_ago = core.link_down_ms};
    put_replids(r, &core, s);
    if (core.link_up || core.master)
        r->link_down_since_ms = 0;
    else if (!r->link_down_since_ms)
        r->link_down_since_ms = now;
    s->link_down_ms = r->link_down_since_ms ? now - r->link_down_since_ms : 0;
    r->caught_up |= core.link_up && c->durable_lsn >= c->follow.target_lsn;
    resync_info(r->resync, &s->copy);
    put_leader(r, &core, s);
    count_sessions(r);
    put_peers(r, now, s);
}

/* Bounded staleness in a cell with voters; without them what Redis does. */
static enum err reads(const struct repl *r, uint64_t now)
{
    enum err e = cellnode_fresh(r->node, now);
    if (repl_is_quarantined(r))
        return ERR_CORRUPT;
    return !r->voters.n && config_int(r->srv->config, CFG_REPLICA_SERVE_STALE_DATA) ? ERR_OK : e;
}

/* min-replicas-to-write: of so many something was heard in time. Under the lock. */
static void look_for_replicas(struct repl *r)
{
    const struct repl_status *s = &r->status;
    int64_t want = config_int(r->srv->config, CFG_MIN_REPLICAS_TO_WRITE),
            lag = config_int(r->srv->config, CFG_MIN_REPLICAS_MAX_LAG), n = 0;
    for (unsigned i = 0; i < s->peers; i++)
        n += s->peer[i].linked && s->peer[i].lag_ms <= (uint64_t)lag * 1000;
    int few = want && lag && (s->master || !s->on) && n < want;
    atomic_store_explicit(&r->srv->cell.few, few, memory_order_relaxed);
}

void repl_look_for_replicas(struct repl *r)
{
    pthread_mutex_lock(&r->lock);
    look_for_replicas(r);
    pthread_mutex_unlock(&r->lock);
}

static void say_role(struct repl *r, const struct repl_status *s)
{
    if (s->master == r->leads)
        return;
    r->leads = s->master;
    log_set_role(s->master ? 'M' : 'S');
    if (s->master)
        log_at(LOG_NOTICE, "This node is the primary of term %lu, from LSN %llu on", (unsigned long)s->term,
               (unsigned long long)s->commit_lsn);
    else
        log_at(LOG_NOTICE, "This node is no primary any more (term %lu)", (unsigned long)s->term);
}

/* Once for each time: those who write hear no more than -NOREPLICAS. */
static void say_room(struct repl *r, const struct repl_status *s, uint64_t now)
{
    char names[512] = "";
    int lacks = cell_lacks_room(cellnode_cell(r->node), now), n = 0;
    if (lacks == r->lacks_room)
        return;
    r->lacks_room = lacks;
    for (unsigned i = 0; i < s->peers && n < (int)sizeof names; i++)
        if (s->peer[i].full)
            n += snprintf(names + n, sizeof names - (size_t)n, "%s%.60s:%d", n ? ", " : "", s->peer[i].host,
                          s->peer[i].port);
    if (lacks)
        log_at(LOG_WARNING, "Writes are refused: too few voters have room on their disks for the log; none has %s",
               names);
    else
        log_at(LOG_NOTICE, "Writes do not wait any more for voters that have room on their disks");
}

/* A node that serves alone is taken for a primary, and its writes wait, while replication is turned on or a higher term
 * is topped: until it is one again, or follows somebody. */
static int is_turning_on(struct repl *r)
{
    const struct cell *c = cellnode_cell(r->node);
    int tries = c->role == CELL_PRIMARY || c->gate.phase != CELL_GATE_NONE;
    r->turning_on |= r->leads && repl_alone(r);
    if (cell_serving(c) || !tries)
        r->turning_on = 0;
    return r->turning_on;
}

void repl_publish(struct repl *r, uint64_t now)
{
    struct server *srv = r->srv;
    struct repl_status s;
    if (is_turning_on(r))
        return;
    fill(r, now, &s);
    say_role(r, &s);
    say_room(r, &s, now);
    atomic_store_explicit(&srv->cell.write_err, (int)cellnode_writable(r->node), memory_order_relaxed);
    atomic_store_explicit(&srv->cell.read_err, (int)reads(r, now), memory_order_relaxed);
    atomic_store_explicit(&srv->cell.replica, !s.master, memory_order_relaxed);
    atomic_store_explicit(&srv->cell.seen_us, r->voters.n ? clock_mono_us() : 0, memory_order_relaxed);
    pthread_mutex_lock(&r->lock);
    r->status = s;
    r->status.link_up &= !r->ordered;
    r->seeks = r->source != CELL_NOBODY && !s.link_up;
    look_for_replicas(r);
    r->mine.lsn = s.offset;
    r->mine.term = s.term;
    r->mine.blank = !s.offset && !s.term && !atomic_load(&r->has_aside); /* that one held something */
    r->mine.mute = s.mute != CELL_SOUND;
    memcpy(r->mine.replid, s.replid, sizeof r->mine.replid);
    pthread_mutex_unlock(&r->lock);
}

void repl_status(struct repl *r, struct repl_status *out)
{
    pthread_mutex_lock(&r->lock);
    *out = r->status;
    out->has_aside = atomic_load(&r->has_aside);
    pthread_mutex_unlock(&r->lock);
}

int repl_is_waiting(struct repl *r, char why[HELLO_WHY_BYTES])
{
    pthread_mutex_lock(&r->lock);
    memcpy(why, r->status.trouble, sizeof r->status.trouble);
    int waits = r->phase == REPL_FINDING && why[0];
    pthread_mutex_unlock(&r->lock);
    return waits;
}

int repl_primary(struct repl *r, struct voter *out)
{
    pthread_mutex_lock(&r->lock);
    const struct repl_status *s = &r->status;
    int known = s->on && !s->master && s->leader_port;
    *out = (struct voter){.port = s->leader_port};
    memcpy(out->host, s->leader_host, sizeof out->host);
    pthread_mutex_unlock(&r->lock);
    return known;
}

unsigned repl_holders(struct repl *r, uint64_t lsn)
{
    unsigned n = 0;
    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < r->status.peers; i++)
        n += r->status.peer[i].online && r->status.peer[i].held_lsn >= lsn;
    pthread_mutex_unlock(&r->lock);
    return n;
}

unsigned repl_links(struct repl *r, struct repl_link out[CELL_PEERS])
{
    unsigned n = 0;
    pthread_mutex_lock(&r->lock);
    for (unsigned p = 0; p < CELL_PEERS; p++) {
        if (!r->shown[p].id)
            continue;
        out[n] = r->shown[p];
        out[n++].followed = p == r->status.leader;
    }
    pthread_mutex_unlock(&r->lock);
    return n;
}
