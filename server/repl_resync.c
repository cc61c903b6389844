/* repl_resync.c - full resyncs: a peer's snapshot is copied (resync.h), made to count (engine/install.h), and the
 * server begins anew with it.
 *
 *     the core says FETCH     the log of whom it follows does not reach back to this node's, or they are two histories
 *     another cell            without voters: the other's data takes the place of this node's, its cell id too, as
 * after Redis's REPLICAOF. The core, which knows one cell only, has no part in it
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/room.h"
#include "server/realmsign.h"
#include "server/repl_impl.h"

#define DIAL_AGAIN_MS 500

/* What the thread coffer-fetch says. */
struct copied {
    struct repl_task task;
    struct resync_result r;
};

static int is_own_cell(const struct repl *r, const uint8_t cell_id[16])
{
    uint8_t own[16];
    engine_cell_id(r->srv->engine, own);
    return bytes_equal(bytes_of(own, 16), bytes_of(cell_id, 16));
}

void repl_begin_anew(struct repl *r, const struct snapfile_header *h)
{
    log_at(LOG_NOTICE,
           "Full resync: the snapshot at LSN %llu (term %u) is here and counts; the server begins anew with it",
           (unsigned long long)h->lsn, h->term);
    if (r->srv->again)
        r->srv->again(r->srv);
}

enum err repl_make_it_count(struct repl *r, const struct resync_result *c, int rebuild)
{
    unsigned shards = engine_shards(r->srv->engine);
    struct install in = {
        .shards = shards > c->shards ? shards : c->shards,
        .lsn = c->header.lsn,
        .term = c->header.term,
        .aside = rebuild,
        .keep_log = rebuild,
    };
    memcpy(in.cell_id, c->header.cell_id, sizeof in.cell_id);
    memcpy(in.chain, c->header.chain, sizeof in.chain);
    return install_mark(".", &in);
}

int repl_install(void *arg, const struct cell_point *at)
{
    struct repl *r = arg;
    if (at->lsn != r->copied.header.lsn || repl_make_it_count(r, &r->copied, 0))
        return 0;
    repl_begin_anew(r, &r->copied.header);
    return 1;
}

/* ---- what was copied ---- */

static void say_failed(struct repl *r, uint8_t peer, const struct resync_result *c)
{
    if (peer == CELL_NOBODY) /* nobody is followed any more */
        return;
    if (strcmp(r->trouble[peer], c->why) != 0)
        log_at(LOG_WARNING, "No full resync from %s:%d: %.1500s", c->want.host, c->want.port, c->why);
    snprintf(r->trouble[peer], sizeof r->trouble[peer], "%.*s", HELLO_WHY_BYTES - 1, c->why);
}

/* Is it still what this node is told to do? */
static int is_adopted(const struct repl *r, const struct resync_result *c)
{
    const struct dialer_config *d = r->dialer[REPL_SOURCE] ? dialer_config(r->dialer[REPL_SOURCE]) : NULL;
    return !r->voters.n && r->source == REPL_SOURCE && d && d->port == c->want.port &&
           strcmp(d->host, c->want.host) == 0;
}

/* Tests: while the file is there that this names, a copy counts, and the server has not begun anew. */
static void hold_for_tests(void)
{
    const char *hold = getenv("COFFER_TEST_INSTALL_HOLD");
    while (hold && access(hold, F_OK) == 0)
        usleep(1000);
}

/* What this node has is lost from when the copy counts: nothing may be acknowledged behind that, whatever it is told.
 */
static void adopt(struct repl *r, const struct resync_result *c)
{
    if (!is_adopted(r, c))
        return;
    cellnode_freeze(r->node);
    if (repl_make_it_count(r, c, 0)) {
        repl_halt(r, "a fetched snapshot cannot be made to count");
        return;
    }
    hold_for_tests();
    repl_begin_anew(r, &c->header);
}

static void run_copied(struct repl *r, struct repl_task *t)
{
    struct copied *x = mpsc_entry(t, struct copied, task);
    struct cell_point at = {.lsn = x->r.header.lsn, .term = x->r.header.term};
    memcpy(at.chain, x->r.header.chain, sizeof at.chain);
    if (!r->node || repl_is_stopping(r)) {
        mem_free(x);
        return;
    }
    if (!x->r.ok)
        say_failed(r, r->fetching, &x->r);
    r->copied = x->r;
    if (x->r.want.ticket == REPL_REBUILD_TICKET && is_own_cell(r, x->r.want.cell_id))
        repl_rebuild_copied(r, &x->r, clock_mono_ms());
    else if (is_own_cell(r, x->r.want.cell_id))
        cellnode_fetched(r->node, x->r.ok ? &at : NULL, x->r.want.ticket, clock_mono_ms());
    else if (x->r.ok)
        adopt(r, &x->r);
    else
        r->dial_again_ms = clock_mono_ms() + DIAL_AGAIN_MS;
    mem_free(x);
}

static void on_copied(void *arg, const struct resync_result *c)
{
    struct copied *x = mem_zalloc(sizeof *x);
    if (!x) { /* the core asks again when its link breaks, another cell's node when it is dialed again */
        log_at(LOG_WARNING, "Out of memory for a full resync");
        return;
    }
    x->task.run = run_copied;
    x->r = *c;
    repl_post(arg, &x->task);
}

/* ---- what is wanted ---- */

static void name_peer(const struct repl *r, uint8_t peer, struct resync_want *w)
{
    const struct dialer_config *d = r->dialer[peer] ? dialer_config(r->dialer[peer]) : NULL;
    const struct voter *v = peer < r->voters.n ? &r->voters.at[peer] : NULL;
    snprintf(w->host, sizeof w->host, "%s", v ? v->host : d ? d->host : r->guest[peer].host);
    w->port = v ? v->port : d ? d->port : r->guest[peer].port;
}

/* In a life that began with a full resync, and never was in step: it may go on like that for ever. */
static void say_in_a_row(const struct repl *r, uint8_t from, const struct cell_point *at)
{
    int too_late = at->lsn > cellnode_cell(r->node)->last_lsn;
    char name[VOTERS_HOST_BYTES + 16];
    if (r->srv->report.tier == 2 && !r->caught_up && too_late)
        log_at(LOG_WARNING,
               "Full resync: another one in a row: the log of %s begins at LSN %llu by now, behind the snapshot that "
               "was copied. Set wbl-retain there to more than what is written during a copy",
               repl_peer_name(r, from, name), (unsigned long long)at->lsn + 1);
}

void repl_want(struct repl *r, uint8_t peer, struct resync_want *w)
{
    name_peer(r, peer, w);
    r->fetching = peer;
    r->rebuild.asked = r->rebuild.has = 0; /* what was copied for it goes */
    if (resync_want(r->resync, w))
        log_at(LOG_WARNING, "Out of memory for a full resync");
}

void repl_fetch(void *arg, uint8_t from, const struct cell_point *at, uint64_t session)
{
    struct repl *r = arg;
    struct resync_want w = {.from_lsn = at->lsn, .ticket = session};
    engine_cell_id(r->srv->engine, w.cell_id);
    if (r->fetching != from)
        say_in_a_row(r, from, at);
    repl_want(r, from, &w);
}

void repl_meet_stranger(struct repl *r, uint8_t peer, const struct hello_node *theirs)
{
    struct resync_want w = {.from_lsn = 1};
    char name[VOTERS_HOST_BYTES + 16];
    if (!r->node || peer != r->source) { /* not yet, or not any more */
        r->dial_again_ms = clock_mono_ms() + DIAL_AGAIN_MS;
        return;
    }
    memcpy(w.cell_id, theirs->cell_id, sizeof w.cell_id);
    if (r->fetching != peer)
        log_at(LOG_NOTICE, "%s is of another cell: its data takes the place of this node's",
               repl_peer_name(r, peer, name));
    repl_want(r, peer, &w);
}

void repl_resync_check(struct repl *r, uint64_t now_ms)
{
    if (!r->dial_again_ms || now_ms < r->dial_again_ms)
        return;
    r->dial_again_ms = 0;
    if (r->dialer[REPL_SOURCE] && !r->link[REPL_SOURCE])
        dialer_again(r->dialer[REPL_SOURCE]);
}

void repl_forget_fetch(struct repl *r)
{
    r->fetching = CELL_NOBODY;
    r->rebuild.asked = r->rebuild.has = 0;
    resync_forget(r->resync);
}

uint64_t repl_keep_free(const struct repl *r)
{
    return room_for_snapshot((size_t)config_int(r->srv->config, CFG_DIRTY_LIMIT));
}

static uint64_t keep_free(void *arg)
{
    return repl_keep_free(arg);
}

enum err repl_resync_new(struct repl *r)
{
    struct resync_config cfg = {.dir = ".",
                                .signer = {realmsign, r->srv},
                                .keep_free = keep_free,
                                .self = repl_self,
                                .done = on_copied,
                                .arg = r};
    return resync_new(&r->resync, &cfg);
}
