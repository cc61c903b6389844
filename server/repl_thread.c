/* repl_thread.c - the thread coffer-cell: whatever touches the core happens here, one thing after the other.
 *
 *     wakes when      the gate changed (a group waits, more is durable), a task was posted, a link has something, or
 *                     TICK_MS have passed
 *     then            tasks; the core hears what changed; links that had to wait go on; reads are confirmed; what
 *                     others see is published
 *
 * The core's own pace is its clock of TICK_MS. Its calls may block for a sync of the voting file or the cut of a log;
 * meanwhile heartbeats stop, and that is as it should be.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "server/repl_impl.h"

#define TICK_MS 10
#define SECOND_MS 1000
#define MS_MAX 2000000000

/* ---- the core ---- */

static unsigned setting_ms(const struct repl *r, enum config_id id)
{
    int64_t v = config_int(r->srv->config, id);
    return (unsigned)(v < 1 ? 1 : v > MS_MAX ? MS_MAX : v);
}

static void read_settings(struct repl *r)
{
    uint64_t epoch = config_epoch(r->srv->config);
    if (r->config_epoch == epoch)
        return;
    r->config_epoch = epoch;
    cellnode_settings(r->node, setting_ms(r, CFG_QUORUM_TIMEOUT), setting_ms(r, CFG_REPLICA_MAX_STALENESS),
                      (unsigned)config_int(r->srv->config, CFG_REPLICA_PRIORITY));
}

void repl_halt(void *arg, const char *why)
{
    (void)arg;
    log_at(LOG_WARNING, "What the disk holds is not known any more (%s): the process ends, a restart reads it anew",
           why);
    _exit(1);
}

static void on_log(void *arg, int level, const char *line)
{
    (void)arg;
    log_at((enum log_level)level, "Cell: %s", line);
}

/* Nodes of one cell agree on it: the cell, and its voters. */
static uint64_t make_config_id(const struct repl *r, const uint8_t cell_id[16])
{
    struct sha256 s;
    uint8_t out[SHA256_BYTES];
    sha256_init(&s);
    sha256_add(&s, cell_id, 16);
    sha256_add(&s, r->voters.text, strlen(r->voters.text));
    sha256_end(&s, out);
    return get_le64(out);
}

enum err repl_open_core(struct repl *r, struct cellnode **out)
{
    uint8_t cell_id[16];
    engine_cell_id(r->srv->engine, cell_id);
    struct cellnode_config cfg = {.engine = r->srv->engine,
                                  .cell = cell_config_default,
                                  .vote_path = REPL_VOTE_PATH,
                                  .newborn = r->begins,
                                  .damaged = r->srv->report.wal.damaged_lsn != 0,
                                  .send = repl_send,
                                  .reads = repl_on_reads,
                                  .fetch = repl_fetch,
                                  .install = repl_install,
                                  .halt = repl_halt,
                                  .log = on_log,
                                  .arg = r};
    cfg.cell.self = r->voters.n ? r->self : 0;
    cfg.cell.voters = (uint8_t)repl_voters(r);
    cfg.cell.peers = CELL_PEERS;
    cfg.cell.config_id = make_config_id(r, cell_id);
    enum err e = clock_random(&cfg.cell.seed, sizeof cfg.cell.seed);
    if (!e)
        e = cellnode_open(out, &cfg, clock_mono_ms());
    if (e)
        log_at(LOG_WARNING, "The replication core cannot be started: %s", err_text(e));
    return e;
}

/* From a node that nobody follows to one of a cell. Writes wait until it leads, or follows and refuses them. */
void repl_turn_on(struct repl *r)
{
    pthread_mutex_lock(&r->lock);
    int off = r->phase == REPL_OFF && r->mine.ready;
    pthread_mutex_unlock(&r->lock);
    if (r->node || !off)
        return;
    engine_set_gate(r->srv->engine, &r->gate);
    if (repl_open_core(r, &r->node))
        repl_halt(r, "the core of a gate that is closed cannot be opened");
    r->turning_on = 1;
    pthread_mutex_lock(&r->lock);
    r->phase = REPL_READY;
    pthread_mutex_unlock(&r->lock);
    log_at(LOG_NOTICE, "Replication is on");
}

void repl_follow_now(struct repl *r, uint8_t peer)
{
    r->source = peer;
    r->wants_to_lead = REPL_WISH_NONE;
    repl_forget_fetch(r);
    if (cellnode_follow(r->node, peer, clock_mono_ms()))
        log_at(LOG_WARNING, "Whom this node is told to follow it cannot follow");
    engine_release(r->srv->engine);
}

void repl_lead_now(struct repl *r)
{
    static const char *const why[ERR_COUNT_] = {
        [ERR_READONLY] = "it is no voter",
        [ERR_CORRUPT] = "it lost what it had promised, or log, or its state differs from the primary's",
        [ERR_MISCONF] = "there is no room on its disk",
        [ERR_LOADING] = "another state takes the place of its own, and it begins anew",
    };
    enum err e = cellnode_promote(r->node, 0, clock_mono_ms());
    r->source = CELL_NOBODY;
    repl_forget_fetch(r);
    if (e)
        log_at(LOG_WARNING, "This node cannot be primary: %s", why[e] ? why[e] : err_text(e));
}

/* ---- turns ---- */

/* At a start: who was primary before, or is told to be, asks for it once it can win. */
static void try_to_lead(struct repl *r, uint64_t now)
{
    int again = r->wants_to_lead == REPL_WISH_AGAIN;
    if (!r->wants_to_lead || repl_linked_voters(r) < repl_voters(r) / 2 + 1)
        return;
    r->wants_to_lead = REPL_WISH_NONE;
    if (!again)
        repl_lead_now(r);
    else if (cellnode_promote(r->node, 1, now))
        log_at(LOG_WARNING, "This node was primary, and cannot be that again now");
}

/* What replicas that are there, and are not too far behind, still need of the log; and what this node needs of it. */
void repl_keep_log(struct repl *r)
{
    const struct cell *c = cellnode_cell(r->node);
    struct wal_info info;
    uint64_t keep = UINT64_MAX;

    wal_info(engine_wal(r->srv->engine), &info);
    for (uint8_t p = 0; p < CELL_PEERS; p++) {
        uint64_t has = c->peer[p].session ? c->peer[p].acked_lsn : c->peer[p].match_lsn;
        int needs = c->peer[p].session || (c->role == CELL_PRIMARY && p < c->config.voters);
        if (p != c->config.self && needs && has + 1 < keep)
            keep = has + 1;
    }
    if (repl_rebuild_needs_lsn(r) < keep)
        keep = repl_rebuild_needs_lsn(r);
    if (info.bytes > (uint64_t)config_int(r->srv->config, CFG_WBL_RETAIN) && !r->rebuild.counts)
        keep = UINT64_MAX;
    engine_keep_log(r->srv->engine, keep);
}

static void each_second(struct repl *r, uint64_t now)
{
    if (now < r->second_ms)
        return;
    r->second_ms = now + SECOND_MS;
    repl_keep_log(r);
    repl_links_check(r, now);
    repl_digest_turn(r, now);
    repl_resync_check(r, now);
    repl_look_at_terms(r);
    read_settings(r);
}

void repl_run_tasks(struct repl *r)
{
    struct mpsc_node *n = mpsc_take(&r->tasks);
    while (n) {
        struct mpsc_node *next = n->next;
        struct repl_task *t = mpsc_entry(n, struct repl_task, node);
        t->run(r, t);
        n = next;
    }
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct repl *r = arg;
    uint64_t n;
    (void)what;
    ssize_t rc = read(fd, &n, sizeof n);
    (void)rc;
    atomic_store(&r->woken, 0);
    repl_run_tasks(r);
    if (!r->node)
        return;
    cellnode_changed(r->node, clock_mono_ms());
    repl_links_resume(r);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct repl *r = arg;
    uint64_t now = clock_mono_ms();
    (void)fd;
    (void)what;
    if (!r->node)
        return;
    cellnode_state(r->node, !repl_is_quarantined(r), now);
    cellnode_tick(r->node, now);
    try_to_lead(r, now);
    repl_failover_tick(r, now);
    repl_links_resume(r);
    each_second(r, now);
}

int repl_is_stopping(struct repl *r)
{
    pthread_mutex_lock(&r->lock);
    int stop = r->stop;
    pthread_mutex_unlock(&r->lock);
    return stop;
}

static void *thread_main(void *arg)
{
    struct repl *r = arg;
    pthread_setname_np(pthread_self(), "coffer-cell");
    while (!repl_is_stopping(r)) {
        event_base_loop(r->base, EVLOOP_ONCE);
        if (r->node) {
            repl_reads_turn(r, clock_mono_ms());
            repl_publish(r, clock_mono_ms());
        }
    }
    event_del(&r->wake_ev);
    event_del(&r->tick_ev);
    return NULL;
}

enum err repl_thread_start(struct repl *r)
{
    struct timeval tick = {.tv_usec = TICK_MS * 1000};
    if (r->running)
        return ERR_OK;
    if (event_assign(&r->wake_ev, r->base, r->wake_fd, EV_READ | EV_PERSIST, on_wake, r) != 0 ||
        event_assign(&r->tick_ev, r->base, -1, EV_PERSIST, on_tick, r) != 0 || event_add(&r->wake_ev, NULL) != 0 ||
        event_add(&r->tick_ev, &tick) != 0)
        return ERR_OOM;
    r->running = pthread_create(&r->thread, NULL, thread_main, r) == 0;
    return r->running ? ERR_OK : ERR_OOM;
}
