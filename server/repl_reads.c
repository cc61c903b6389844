/* repl_reads.c - reads that a majority confirms (docs/replication.md, R10), in rounds: one heartbeat for all reads that
 * wait.
 *
 *     a read comes    its round is the next one that begins; it parks
 *     turn of the     no round is under way, and one is waited for: it begins, CELL_READ
 *     thread          the majority confirmed it, or it failed: all who parked are dispatched anew, and ask for theirs
 *
 * One round is under way at a time. Who comes meanwhile goes with the next: as writes gather while a group is synced, a
 * busy primary confirms more reads with each heartbeat instead of sending more of them.
 *
 * A read never uses a round that began before it came: it takes the number behind `begun`, which is raised before the
 * core is asked. That a later round failed may fail a read whose own did not: it is refused, no more.
 */
#include "base/clock.h"
#include "server/call.h"
#include "server/repl_impl.h"

/* ---- I/O threads ---- */

enum err repl_confirm(struct repl *r, uint64_t *round)
{
    struct repl_reads *q = &r->reads;
    if (!repl_is_master(r->srv))
        return ERR_READONLY;
    if (!r->voters.n) /* its own quorum */
        return ERR_OK;
    if (!*round) {
        *round = atomic_load(&q->begun) + 1;
        atomic_store(&q->wanted, *round);
        repl_wake(r);
    }
    if (atomic_load(&q->done) < *round)
        return ERR_AGAIN;
    return atomic_load(&q->failed) >= *round ? (enum err)atomic_load(&q->err) : ERR_OK;
}

struct waitlist *repl_confirmed(struct repl *r)
{
    return r->reads.parked;
}

/* ---- the thread ---- */

static void end_round(struct repl *r, enum err e)
{
    struct repl_reads *q = &r->reads;
    uint64_t round = atomic_load(&q->begun);
    if (e) {
        atomic_store(&q->err, (int)e);
        atomic_store(&q->failed, round);
    }
    q->under_way = 0;
    atomic_store(&q->done, round);
    waitlist_wake(q->parked);
}

static void begin_round(struct repl *r, uint64_t now)
{
    struct repl_reads *q = &r->reads;
    q->under_way = 1;
    q->begun_ms = now;
    atomic_fetch_add(&q->begun, 1);
    enum err e = cellnode_read(r->node, &q->ticket, now);
    if (e)
        end_round(r, e);
}

void repl_on_reads(void *arg, uint64_t seq, uint64_t lsn)
{
    struct repl *r = arg;
    r->reads.confirmed = seq;
    r->reads.lsn = lsn;
}

static int is_confirmed(const struct repl *r)
{
    return r->reads.confirmed >= r->reads.ticket && engine_commit_lsn(r->srv->engine) >= r->reads.lsn;
}

void repl_reads_turn(struct repl *r, uint64_t now)
{
    struct repl_reads *q = &r->reads;
    const struct cell *c = cellnode_cell(r->node);
    if (q->under_way && !cellnode_serving(r->node))
        end_round(r, ERR_READONLY);
    else if (q->under_way && is_confirmed(r))
        end_round(r, ERR_OK);
    else if (q->under_way && now - q->begun_ms > c->config.quorum_timeout_ms)
        end_round(r, ERR_NOQUORUM);
    if (!q->under_way && atomic_load(&q->wanted) > atomic_load(&q->begun))
        begin_round(r, now);
}
