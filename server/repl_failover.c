/* repl_failover.c - FAILOVER: a primary hands over to a replica, and nothing that was answered or is under way is lost.
 *
 *     none ----- FAILOVER ------> waiting for sync: writes are held back; until a replica holds all of the log
 *      ^                                 |  STAND
 *      |                                 v
 *      +-- another is primary -- in progress: the replica stands, as after REPLICAOF NO ONE there
 *
 * Any state goes back to none by FAILOVER ABORT, and when this node is deposed otherwise; the first by TIMEOUT, which
 * with FORCE hands over all the same. Writes that were held back are dispatched when it is over, wherever they then
 * belong.
 *
 * In a cell with voters the replica asks a majority, this node among them, which steps down as it promises; when
 * nothing comes of that in time it goes on as the primary that it still is. Without voters this node follows the
 * replica right after it told it to stand: would it wait to hear of the replica's new term, it would top it with one of
 * its own, as a node that is its own quorum does. When the replica is gone by then, nobody is primary until an operator
 * says ABORT: as with Redis.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/call.h"
#include "server/repl_impl.h"

#define CAUGHT_UP_TURNS 2 /* ticks in a row: a write that was let in just before has come to the log */

enum { NONE, ORDERED, WAITS, GOES_ON }; /* ordered: the thread has not seen it yet */

/* ---- what others see ---- */

const char *repl_failover_state(const struct repl *r)
{
    static const char *const names[] = {"no-failover", "waiting-for-sync", "waiting-for-sync", "failover-in-progress"};
    return names[atomic_load(&r->failover.state)];
}

/* ---- the thread ---- */

static void end(struct repl *r, const char *how)
{
    log_at(LOG_NOTICE, "FAILOVER: %s", how);
    atomic_store(&r->srv->cell.handing_over, 0);
    atomic_store(&r->failover.state, NONE);
    waitlist_wake(r->srv->paused);
}

/* It would not stand. */
static int is_unsound(const struct repl *r, uint8_t p)
{
    return cellnode_cell(r->node)->peer[p].differs;
}

static int may_take_over(const struct repl *r, uint8_t p)
{
    const struct cell *c = cellnode_cell(r->node);
    return p != c->config.self && (!r->voters.n || p < r->voters.n) && r->link[p] && c->peer[p].session &&
           !is_unsound(r, p);
}

/* Counted, in a cell with voters: one that is mute could not stand. */
static int holds_all(const struct repl *r, uint8_t p)
{
    const struct cell *c = cellnode_cell(r->node);
    uint64_t has = r->voters.n ? c->peer[p].match_lsn : c->peer[p].held_lsn;
    return may_take_over(r, p) && has >= c->last_lsn && c->commit_lsn == c->last_lsn;
}

static uint8_t who_holds_all(const struct repl *r)
{
    const struct repl_failover *f = &r->failover;
    for (uint8_t p = 0; p < CELL_PEERS; p++)
        if ((f->target == CELL_NOBODY || p == f->target) && holds_all(r, p))
            return p;
    return CELL_NOBODY;
}

static void hand_over(struct repl *r, uint8_t to, uint64_t now)
{
    struct repl_failover *f = &r->failover;
    if (cellnode_hand_over(r->node, to, now)) {
        end(r, "this node is no primary any more");
        return;
    }
    log_at(LOG_NOTICE, "FAILOVER: %s:%d is told to take over", f->host[0] ? f->host : r->guest[to].host,
           f->host[0] ? f->port : r->guest[to].port);
    atomic_store(&f->state, GOES_ON);
    f->end_ms = r->voters.n ? now + 2 * (uint64_t)cellnode_cell(r->node)->config.gate_timeout_ms : 0;
    if (r->voters.n)
        return;
    repl_dial_source(r, r->guest[to].host, r->guest[to].port);
    repl_follow_now(r, REPL_SOURCE);
    repl_keep_source(r, r->guest[to].host, r->guest[to].port);
}

static void give_up_waiting(struct repl *r, uint64_t now)
{
    const struct repl_failover *f = &r->failover;
    log_at(LOG_NOTICE, "FAILOVER: replica %s:%d has not caught up, time out exceeded, failing over.", f->host, f->port);
    hand_over(r, f->target, now);
}

static void wait_for_sync(struct repl *r, uint64_t now)
{
    struct repl_failover *f = &r->failover;
    uint8_t to = who_holds_all(r);
    f->turns = to != CELL_NOBODY ? f->turns + 1 : 0;
    if (!cellnode_serving(r->node))
        end(r, "this node is no primary any more");
    else if (f->turns > CAUGHT_UP_TURNS)
        hand_over(r, to, now);
    else if (f->end_ms && now >= f->end_ms && f->force && r->link[f->target] && !is_unsound(r, f->target))
        give_up_waiting(r, now);
    else if (f->end_ms && now >= f->end_ms)
        end(r, "no replica has caught up in time: this node goes on as primary");
}

static void wait_for_primary(struct repl *r, uint64_t now)
{
    struct repl_failover *f = &r->failover;
    struct cell_status s;
    cellnode_status(r->node, now, &s);
    if (!s.master && s.link_up)
        end(r, "this node follows the new primary");
    else if (f->end_ms && now >= f->end_ms)
        end(r, "the replica did not take over in time");
}

void repl_failover_tick(struct repl *r, uint64_t now)
{
    int state = atomic_load(&r->failover.state);
    if (state == WAITS)
        wait_for_sync(r, now);
    else if (state == GOES_ON)
        wait_for_primary(r, now);
}

static void run_abort(struct repl *r, struct repl_task *t)
{
    int state = atomic_load(&r->failover.state);
    mem_free(t);
    if (state == NONE)
        return;
    if (state == GOES_ON && !r->voters.n && !cellnode_serving(r->node)) {
        repl_dial_source(r, "", 0);
        repl_lead_now(r);
        repl_keep_source(r, "", 0);
    }
    end(r, "aborted");
}

struct start {
    struct repl_task task;
    struct repl_failover_order order;
};

static void run_start(struct repl *r, struct repl_task *t)
{
    struct start *s = mpsc_entry(t, struct start, task);
    struct repl_failover *f = &r->failover;
    f->target = s->order.peer;
    f->force = s->order.force;
    f->turns = 0;
    f->end_ms = s->order.timeout_ms ? clock_mono_ms() + s->order.timeout_ms : 0;
    f->port = s->order.port;
    memcpy(f->host, s->order.host, sizeof f->host);
    atomic_store(&f->state, WAITS);
    mem_free(s);
}

static void run_stand(struct repl *r, struct repl_task *t)
{
    mem_free(t);
    r->source = CELL_NOBODY;
    r->wants_to_lead = REPL_WISH_NONE;
    if (!r->voters.n)
        repl_dial_source(r, "", 0); /* closes the link: not while it hands a frame on */
    repl_keep_source(r, "", 0);
}

/* Told by the primary: as REPLICAOF NO ONE. */
void repl_told_to_stand(struct repl *r, uint8_t from)
{
    const struct cell *c = cellnode_cell(r->node);
    char name[VOTERS_HOST_BYTES + 16];
    struct repl_task *t;
    if (c->differs && c->role == CELL_REPLICA)
        log_at(LOG_WARNING, "%s hands over, and this node is in quarantine: it stays a replica",
               repl_peer_name(r, from, name));
    if ((c->role == CELL_REPLICA && c->gate.phase == CELL_GATE_NONE) || !(t = mem_zalloc(sizeof *t)))
        return;
    log_at(LOG_NOTICE, "%s hands over: this node tries to be primary", repl_peer_name(r, from, name));
    t->run = run_stand;
    repl_post(r, t);
}

/* ---- orders ---- */

/* The peer that was named, among those that INFO lists. */
static enum err find_target(const struct repl_status *s, struct repl_failover_order *o, const char **why)
{
    unsigned online = 0, sound = 0;
    o->peer = CELL_NOBODY;
    for (unsigned i = 0; i < s->peers; i++) {
        const struct repl_peer *p = &s->peer[i];
        online += p->online != 0;
        sound += p->online && !p->differs;
        if (!o->host[0] || p->port != o->port || strcmp(p->host, o->host) != 0)
            continue;
        if (!p->online)
            *why = "FAILOVER target replica is not online.";
        else if (s->voters && !p->voter)
            *why = "FAILOVER target is none of the cell's voters: it cannot be primary.";
        else if (p->differs)
            *why = "FAILOVER target replica is in quarantine: its state differs from this node's.";
        o->peer = p->index;
        return **why ? ERR_RANGE : ERR_OK;
    }
    if (!online)
        *why = "FAILOVER requires connected replicas.";
    else if (!o->host[0] && !sound)
        *why = "FAILOVER requires a replica that is not in quarantine: the state of all differs from this node's.";
    else if (o->host[0])
        *why = "FAILOVER target HOST and PORT is not a replica.";
    return **why ? ERR_RANGE : ERR_OK;
}

enum err repl_failover(struct repl *r, const struct repl_failover_order *order, const char **why)
{
    struct repl_status s;
    int none = NONE;
    struct start *x = mem_zalloc(sizeof *x);
    *why = "";
    if (!x)
        return ERR_OOM;
    x->task.run = run_start;
    x->order = *order;
    repl_status(r, &s);
    enum err e = ERR_RANGE;
    if (atomic_load(&r->failover.state) != NONE)
        *why = "FAILOVER already in progress.";
    else if (s.on && !s.master)
        *why = "FAILOVER is not valid when server is a replica.";
    else
        e = find_target(&s, &x->order, why);
    if (!e && !atomic_compare_exchange_strong(&r->failover.state, &none, ORDERED)) {
        *why = "FAILOVER already in progress.";
        e = ERR_RANGE;
    }
    if (e) {
        mem_free(x);
        return e;
    }
    atomic_store(&r->srv->cell.handing_over, 1);
    repl_post(r, &x->task);
    return ERR_OK;
}

enum err repl_failover_abort(struct repl *r)
{
    struct repl_task *t = mem_zalloc(sizeof *t);
    if (!t)
        return ERR_OOM;
    if (atomic_load(&r->failover.state) == NONE) {
        mem_free(t);
        return ERR_NOTFOUND;
    }
    t->run = run_abort;
    repl_post(r, t);
    return ERR_OK;
}
