/* repl_rebuild.c - a replica whose log says something else than the primary's (repl_digest.c) takes the primary's
 * snapshot in the place of its own state, once, and keeps that for an inquest.
 *
 *     quarantined, in session -> copy a snapshot of the primary (resync.h), beside the stream
 *                             -> its record is in this node's log, committed -> DIR/install -> begin anew
 *                             -> stores and snapshots are set aside, the log goes on behind the primary's snapshot
 *
 * The log stays, since it is the primary's: both chains are equal, only what was made of it here is not. So nothing
 * that this node acknowledged is away for a moment, it goes on acknowledging while it copies, and the core has no part
 * in it.
 *
 * Once: what is set aside is kept, there is one place for it, and while that is taken nothing is rebuilt. A state that
 * differs again after this was not damaged here: the primary's is, or one of two programs is wrong.
 *
 * Rejected: a full resync by way of the core (JOIN full). It ends the session for as long as it copies, and its
 * snapshot may be older than what was acknowledged: the node would have to be mute afterwards, and with two of three
 * replicas doing so together a primary that dies leaves nobody who may vote.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/snapshots.h"
#include "server/repl_impl.h"

#define AGAIN_MS 10000

static void stay(struct repl *r, const char *why, uint64_t now)
{
    struct repl_rebuild *b = &r->rebuild;
    b->asked = b->has = b->counts = 0;
    b->again_ms = now + AGAIN_MS;
    if (strcmp(b->said, why) == 0)
        return;
    snprintf(b->said, sizeof b->said, "%s", why);
    log_at(LOG_WARNING, "This node is not rebuilt now, and stays in quarantine: %s", why);
}

/* At or behind what was compared, and where this node's log goes on. */
static uint64_t from_lsn(struct repl *r)
{
    struct wal_info w;
    wal_info(engine_wal(r->srv->engine), &w);
    uint64_t begins = w.first_lsn ? w.first_lsn - 1 : w.last_lsn;
    return r->digest.lsn > begins ? r->digest.lsn : begins;
}

static void ask(struct repl *r, uint8_t primary, uint64_t now)
{
    struct resync_want w = {.from_lsn = from_lsn(r), .ticket = REPL_REBUILD_TICKET};
    char why[INSTALL_WHY_BYTES], name[VOTERS_HOST_BYTES + 16];
    if (install_may_set_aside(".", repl_keep_free(r), why)) {
        stay(r, why, now);
        return;
    }
    log_at(LOG_WARNING, "This node is rebuilt from a snapshot of %s; what it made of its log is set aside",
           repl_peer_name(r, primary, name));
    engine_cell_id(r->srv->engine, w.cell_id);
    repl_want(r, primary, &w);
    r->rebuild.asked = 1;
    r->rebuild.needs_lsn = w.from_lsn;
    repl_keep_log(r);
}

uint64_t repl_rebuild_needs_lsn(const struct repl *r)
{
    return r->rebuild.asked ? r->rebuild.needs_lsn : UINT64_MAX;
}

static void install(struct repl *r, uint64_t now)
{
    const struct resync_result *c = &r->rebuild.copied;
    if (c->header.lsn > engine_commit_lsn(r->srv->engine))
        return; /* it comes */
    r->rebuild.counts = 1;
    repl_keep_log(r);
    if (!engine_log_fits(r->srv->engine, &c->header)) {
        stay(r, "the primary's snapshot is not of this node's log", now);
        return;
    }
    if (repl_make_it_count(r, c, 1)) {
        repl_halt(r, "a fetched snapshot cannot be made to count");
        return;
    }
    r->rebuild.has = 0; /* asked it stays: once */
    repl_begin_anew(r, &c->header);
}

void repl_rebuild_turn(struct repl *r, uint64_t now)
{
    const struct cell *c = cellnode_cell(r->node);
    if (atomic_load(&r->digest.verdict) != REPL_STATE_LOG)
        r->rebuild.asked = r->rebuild.has = 0;
    else if (r->rebuild.has)
        install(r, now);
    else if (!r->rebuild.asked && now >= r->rebuild.again_ms && c->role == CELL_REPLICA && c->follow.phase == CELL_LIVE)
        ask(r, c->follow.source, now);
}

void repl_rebuild_copied(struct repl *r, const struct resync_result *c, uint64_t now)
{
    if (!r->rebuild.asked)
        return;
    if (!c->ok) {
        stay(r, c->why, now);
        return;
    }
    r->rebuild.copied = *c;
    r->rebuild.has = 1;
}
