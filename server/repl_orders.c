/* repl_orders.c - REPLICAOF: whom this node is told to follow, or that it is to lead.
 *
 * An order is answered before it is carried out, and a node that is empty, or whose log is still read, has nothing to
 * carry it out with: then it waits, and is the first thing that the node does. The newest counts.
 */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "server/repl_impl.h"

/* ---- the thread ---- */

struct repl_order {
    struct repl_task task;
    uint8_t peer; /* CELL_NOBODY: to lead */
    struct voter source;
};

static void end_order(struct repl *r, struct repl_order *o)
{
    pthread_mutex_lock(&r->lock);
    r->ordered--;
    pthread_mutex_unlock(&r->lock);
    mem_free(o);
}

/* There is no node yet: the order waits for it, and the newest counts. Without voters an empty node looks for its cell
 * where it is told to from now on. */
static void keep_order(struct repl *r, struct repl_order *o)
{
    if (r->waiting)
        end_order(r, r->waiting);
    r->waiting = o;
    pthread_mutex_lock(&r->lock);
    int dials = r->dials && !r->voters.n;
    if (r->configured) {
        memcpy(r->status.leader_host, o->source.host, sizeof r->status.leader_host);
        r->status.leader_port = o->source.port;
        r->status.trouble[0] = 0;
    }
    pthread_mutex_unlock(&r->lock);
    if (dials)
        repl_dial_source(r, o->source.host, o->source.port);
}

static void run_order(struct repl *r, struct repl_task *t)
{
    struct repl_order *o = mpsc_entry(t, struct repl_order, task);
    repl_turn_on(r);
    if (!r->node) {
        keep_order(r, o);
        return;
    }
    if (!r->voters.n)
        repl_dial_source(r, o->source.host, o->source.port);
    if (o->peer == CELL_NOBODY)
        repl_lead_now(r);
    else
        repl_follow_now(r, o->peer);
    end_order(r, o);
}

/* What waits is tried again: something changed that it may have waited for. */
static void run_waiting(struct repl *r, struct repl_task *t)
{
    struct repl_order *o = r->waiting;
    mem_free(t);
    r->waiting = NULL;
    if (o)
        run_order(r, &o->task);
}

/* An order that comes later finds the change. */
enum err repl_look_at_orders(struct repl *r)
{
    pthread_mutex_lock(&r->lock);
    int ordered = r->ordered;
    pthread_mutex_unlock(&r->lock);
    if (!ordered)
        return ERR_OK;
    struct repl_task *t = mem_zalloc(sizeof *t);
    if (!t)
        return ERR_OOM;
    t->run = run_waiting;
    repl_post(r, t);
    return ERR_OK;
}

/* The others may not be linked yet: so who is to lead asks for it when they are. */
int repl_begin_as_ordered(struct repl *r)
{
    struct repl_order *o = r->waiting;
    r->waiting = NULL;
    if (!o)
        return 0;
    if (o->peer == CELL_NOBODY) {
        r->wants_to_lead = REPL_WISH_TOLD;
        end_order(r, o);
    } else {
        run_order(r, &o->task);
    }
    return 1;
}

/* ---- others ---- */

void repl_keep_source(struct repl *r, const char *host, int port)
{
    char value[VOTERS_HOST_BYTES + 16] = "";
    if (port)
        snprintf(value, sizeof value, "%s %d", host, port);
    if (config_put(r->srv->config, "replicaof", value))
        log_at(LOG_WARNING, "Out of memory: CONFIG REWRITE will not keep whom this node follows");
}

static enum err post_order(struct repl *r, uint8_t peer, const char *host, int port)
{
    struct repl_order *o = mem_zalloc(sizeof *o);
    if (!o)
        return ERR_OOM;
    o->task.run = run_order;
    o->peer = peer;
    o->source.port = port;
    snprintf(o->source.host, sizeof o->source.host, "%s", host);
    pthread_mutex_lock(&r->lock);
    enum err e = repl_thread_start(r);
    if (!e) {
        r->ordered++;
        r->status.link_up = 0; /* who asks from now on asks for the new link */
    }
    pthread_mutex_unlock(&r->lock);
    if (e) {
        mem_free(o);
        return e;
    }
    repl_post(r, &o->task);
    return ERR_OK;
}

/* The configuration was read, on another thread. */
static int has_begun(struct repl *r)
{
    pthread_mutex_lock(&r->lock);
    int begun = r->mine.voters[0] != 0;
    pthread_mutex_unlock(&r->lock);
    return begun;
}

/* By its entry in the list, or by the address that its link has. */
static int find_voter(struct repl *r, const char *host, int port)
{
    int found = voters_find(&r->voters, host, port);
    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < r->voters.n && found < 0; i++)
        if (r->voters.at[i].port == port && strcmp(r->address[i], host) == 0)
            found = (int)i;
    pthread_mutex_unlock(&r->lock);
    return found;
}

enum err repl_follow(struct repl *r, const char *host, int port, const char **why)
{
    *why = "";
    if (strlen(host) >= VOTERS_HOST_BYTES) {
        *why = "the name is too long";
        return ERR_RANGE;
    }
    if (!has_begun(r))
        return ERR_LOADING;
    int index = r->voters.n ? find_voter(r, host, port) : REPL_SOURCE;
    if (index < 0)
        *why = "that is none of this cell's voters";
    else if (r->voters.n && index == r->self)
        *why = "that is this node itself";
    enum err e = **why ? ERR_RANGE : post_order(r, (uint8_t)index, host, port);
    if (!e && r->voters.n)
        repl_keep_source(r, r->voters.at[index].host, r->voters.at[index].port); /* a start finds that in the list */
    else if (!e)
        repl_keep_source(r, host, port);
    return e;
}

enum err repl_promote(struct repl *r)
{
    if (!has_begun(r))
        return ERR_LOADING;
    if (r->voters.n && r->self >= r->voters.n)
        return ERR_READONLY;
    if (repl_is_quarantined(r) && !repl_is_master(r->srv))
        return ERR_CORRUPT;
    pthread_mutex_lock(&r->lock);
    int off = r->phase == REPL_OFF && !r->ordered, finding = r->phase == REPL_FINDING;
    r->own_cell |= finding && !r->voters.n;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    enum err e = off ? ERR_OK : post_order(r, CELL_NOBODY, "", 0);
    if (!e)
        repl_keep_source(r, "", 0);
    return e;
}
