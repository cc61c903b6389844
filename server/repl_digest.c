/* repl_digest.c - replicas compare their state with the primary's (docs/decisions/0027).
 *
 *     primary    has a new snapshot, whose footer has the digest of the state at its LSN: tells it to who is in
 * session, not more often than state-check-interval. It costs a message replica    has come to that LSN: on a chore's
 * thread its log's state there, from its own snapshots and log, against the primary's what its stores hold against what
 * its log says, at an LSN of its own
 *
 * Who differs serves no reads (-CORRUPT), is not to be promoted (slave_priority 0), and says so. When it is the stores,
 * each is rebuilt from snapshot and log, which are right, and compared once more; that ends it. When it is the log's
 * state, the primary's takes its place, once (repl_rebuild.c).
 *
 * What cannot be compared (the snapshot is older than what is kept here, no room) is left for the next time.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/hex.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/cellwire.h"
#include "engine/snapshots.h"
#include "server/asofcall.h"
#include "server/chores.h"
#include "server/repl_impl.h"

#define AGAIN_MS 500
#define AGAIN_MAX 10 /* doublings of it: some minutes */

enum { IDLE, RUNS, REBUILDS };

static const char *const verdicts[] = {
    [REPL_STATE_UNKNOWN] = "unknown",
    [REPL_STATE_EQUAL] = "equal",
    [REPL_STATE_STORES] = "stores-differ",
    [REPL_STATE_LOG] = "log-differs",
};

const char *repl_state_name(enum repl_state_verdict v)
{
    return verdicts[v];
}

int repl_is_quarantined(const struct repl *r)
{
    return atomic_load_explicit(&r->digest.verdict, memory_order_relaxed) >= REPL_STATE_STORES;
}

/* ---- the primary, and a relay ---- */

static void tell(struct repl *r, const struct cell *c, uint64_t lsn, const uint8_t digest[SNAPFILE_HASH_BYTES])
{
    uint8_t head[CELLWIRE_HEAD_BYTES];
    struct cell_msg m = {.type = CELL_DIGEST,
                         .leader = CELL_NOBODY,
                         .promised = c->vote.promised,
                         .term = c->vote.promised,
                         .at = {.lsn = lsn}};
    memcpy(m.at.chain, digest, sizeof m.at.chain);
    cellwire_put(head, &m, 0);
    for (uint8_t p = 0; p < CELL_PEERS; p++)
        if (c->peer[p].session)
            repl_send(r, p, bytes_of(head, sizeof head), bytes_of(NULL, 0));
}

static int has_sessions(const struct cell *c)
{
    for (uint8_t p = 0; p < CELL_PEERS; p++)
        if (c->peer[p].session)
            return 1;
    return 0;
}

static void tell_new(struct repl *r, const struct cell *c, uint64_t now)
{
    struct repl_digest *d = &r->digest;
    uint64_t interval_ms = (uint64_t)config_int(r->srv->config, CFG_STATE_CHECK_INTERVAL) * 1000;
    struct snapshots_info i;
    if (!interval_ms || (d->told_ms && now < d->told_ms + interval_ms) || !has_sessions(c))
        return;
    snapshots_info(engine_snapshots(r->srv->engine), &i);
    if (i.lsn <= d->told_lsn)
        return;
    i.digest[0] ^= getenv("COFFER_TEST_OTHER_DIGEST") != NULL; /* tests: as if the log meant something else here */
    tell(r, c, i.lsn, i.digest);
    d->told_lsn = i.lsn;
    d->told_ms = now;
}

/* ---- a replica: on a chore's thread ---- */

struct look {
    uint8_t digest[SNAPFILE_HASH_BYTES];
};

static enum err look_digest(void *arg, struct asof *a)
{
    return asof_digest(a, ((struct look *)arg)->digest);
}

static enum err log_digest(struct repl *r, uint64_t lsn, uint8_t out[SNAPFILE_HASH_BYTES])
{
    struct look l;
    char why[200] = "";
    struct asof_query q = {.lsn = lsn};
    enum err e = asofcall_run(r->srv, &q, look_digest, &l, why, sizeof why);
    if (!e)
        memcpy(out, l.digest, SNAPFILE_HASH_BYTES);
    return e;
}

static int is_stopping(void *arg)
{
    return chores_stopping(((struct server *)arg)->chores);
}

static int same(const uint8_t a[SNAPFILE_HASH_BYTES], const uint8_t b[SNAPFILE_HASH_BYTES])
{
    return memcmp(a, b, SNAPFILE_HASH_BYTES) == 0;
}

/* An error: this could not be compared. */
static enum err compare(struct repl *r, enum repl_state_verdict *v)
{
    const struct repl_digest *d = &r->digest;
    struct asof_query q = {.stop = is_stopping, .arg = r->srv};
    uint8_t log[SNAPFILE_HASH_BYTES], stores[SNAPFILE_HASH_BYTES];
    uint64_t lsn = 0;

    *v = REPL_STATE_LOG;
    enum err e = log_digest(r, d->lsn, log);
    if (e || !same(log, d->theirs))
        return e;
    *v = REPL_STATE_STORES;
    e = asof_stores_digest(r->srv->engine, &q, &lsn, stores);
    if (!e)
        e = log_digest(r, lsn, log);
    if (e || !same(log, stores))
        return e;
    *v = REPL_STATE_EQUAL;
    return ERR_OK;
}

static void say(const struct repl_digest *d, enum repl_state_verdict old, enum repl_state_verdict v)
{
    if (v == REPL_STATE_STORES && v != old)
        log_at(LOG_WARNING, "This node's stores are not what its log says: no reads are served until they are rebuilt");
    else if (v == REPL_STATE_LOG && v != old)
        log_at(LOG_WARNING,
               "The state that this node's log gives at LSN %llu is not the primary's: no reads are served until it "
               "was rebuilt",
               (unsigned long long)d->lsn);
    else if (v == REPL_STATE_EQUAL && old >= REPL_STATE_STORES)
        log_at(LOG_NOTICE, "This node's state is the primary's again, as of LSN %llu", (unsigned long long)d->lsn);
}

static void run_compare(struct chore *chore)
{
    struct repl_digest *d = mpsc_entry(chore, struct repl_digest, chore);
    struct repl *r = mpsc_entry(d, struct repl, digest);
    enum repl_state_verdict old = (enum repl_state_verdict)atomic_load(&d->verdict), v;
    enum err e = compare(r, &v);
    if (!e) {
        say(d, old, v);
        atomic_store(&d->verdict, (int)v);
        atomic_store(&d->compared_lsn, d->lsn);
    } else if (e != ERR_AGAIN) {
        log_at(LOG_NOTICE, "The state cannot be compared with the primary's at LSN %llu now: %s",
               (unsigned long long)d->lsn, err_text(e));
    }
    atomic_store(&d->state, IDLE);
}

/* ---- a replica: the thread ---- */

static void begin(struct repl *r)
{
    struct repl_digest *d = &r->digest;
    pthread_mutex_lock(&r->lock);
    if (!d->closed) {
        d->lsn = d->new_lsn;
        memcpy(d->theirs, d->new_theirs, sizeof d->theirs);
        d->new_lsn = 0;
        d->chore.run = run_compare;
        atomic_store(&d->state, RUNS);
        chores_post(r->srv->chores, &d->chore);
    }
    pthread_mutex_unlock(&r->lock);
}

void repl_no_chores(struct repl *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->digest.closed = 1;
    pthread_mutex_unlock(&r->lock);
}

static void rebuilt(struct rebuild_wait *w)
{
    struct repl_digest_rebuild *one = mpsc_entry(w, struct repl_digest_rebuild, w);
    struct repl_digest *d = one->digest;
    if (w->err)
        log_at(LOG_WARNING, "A store cannot be rebuilt: %s", w->why);
    mem_free(one);
    if (atomic_fetch_sub(&d->rebuilds, 1) == 1)
        atomic_store(&d->state, IDLE);
}

/* All of them: a digest does not tell which it is. */
static void rebuild_stores(struct repl *r)
{
    struct repl_digest *d = &r->digest;
    unsigned n = 1 + engine_shards(r->srv->engine);
    atomic_store(&d->rebuilds, 1);
    atomic_store(&d->state, REBUILDS);
    for (unsigned store = 0; store < n; store++) {
        struct repl_digest_rebuild *one = mem_zalloc(sizeof *one);
        if (!one)
            continue;
        one->digest = d;
        one->w.store = store;
        one->w.done = rebuilt;
        atomic_fetch_add(&d->rebuilds, 1);
        rebuild_demand(engine_rebuild(r->srv->engine), &one->w);
    }
    if (atomic_fetch_sub(&d->rebuilds, 1) == 1)
        atomic_store(&d->state, IDLE);
}

/* In quarantine because of its stores: rebuild, compare, and so on, until it is over; with longer and longer pauses, as
 * what a rebuild does not help will not be helped by the next. */
static void mend(struct repl *r, uint64_t now)
{
    struct repl_digest *d = &r->digest;
    if (now < d->mend_ms)
        return;
    if (d->mends++ % 2 == 0) {
        rebuild_stores(r);
    } else {
        d->mend_ms = now + (AGAIN_MS << (d->mends < AGAIN_MAX ? d->mends : AGAIN_MAX));
        if (d->new_lsn)
            return;
        d->new_lsn = d->lsn;
        memcpy(d->new_theirs, d->theirs, sizeof d->theirs);
    }
}

void repl_digest_told(struct repl *r, uint8_t from, const struct cell_msg *m)
{
    const struct cell *c = cellnode_cell(r->node);
    struct repl_digest *d = &r->digest;
    if (c->role != CELL_REPLICA || c->leader != from || m->term != c->vote.promised)
        return;
    d->new_lsn = m->at.lsn;
    memcpy(d->new_theirs, m->at.chain, sizeof d->new_theirs);
    tell(r, c, d->new_lsn, d->new_theirs); /* a relay passes it on */
}

void repl_digest_turn(struct repl *r, uint64_t now)
{
    struct repl_digest *d = &r->digest;
    const struct cell *c = cellnode_cell(r->node);
    if (cell_serving(c))
        tell_new(r, c, now);
    atomic_store(&r->has_aside, install_has_aside("."));
    if (!r->srv->chores || atomic_load(&d->state) != IDLE || atomic_load(&r->srv->loading))
        return;
    if (atomic_load(&d->verdict) == REPL_STATE_STORES)
        mend(r, now);
    else
        d->mends = 0, d->mend_ms = 0;
    repl_rebuild_turn(r, now);
    if (d->new_lsn && d->new_lsn <= engine_commit_lsn(r->srv->engine) && atomic_load(&d->state) == IDLE)
        begin(r);
}
