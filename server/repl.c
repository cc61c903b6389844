/* repl.c - see repl.h: how it begins and ends.
 *
 * A start with voters goes: read the list, find this node in it; look whether it is blank; begin to dial. A blank node
 * waits here for its cell (founding.h) before anything is opened: the id goes into the log's first segment. DIR/cell is
 * written first, then the voting file: a node that dies in between is blank still, and begins again with that id.
 */
#include "server/repl.h"

#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/celldir.h"
#include "engine/vote.h"
#include "resp/number.h"
#include "server/acl.h"
#include "server/call.h"
#include "server/listen.h"
#include "server/repl_impl.h"
#include "server/restore.h"

/* ---- waking the thread ---- */

void repl_wake(struct repl *r)
{
    uint64_t one = 1;
    if (atomic_exchange(&r->woken, 1))
        return;
    ssize_t rc = write(r->wake_fd, &one, sizeof one);
    (void)rc;
}

void repl_post(struct repl *r, struct repl_task *t)
{
    mpsc_push(&r->tasks, &t->node);
    repl_wake(r);
}

static void on_gate_changed(void *arg)
{
    repl_wake(arg);
}

/* ---- what the configuration says ---- */

int repl_own_port(const struct repl *r)
{
    struct listeners *l = r->srv->listeners;
    int port = (int)config_int(r->srv->config, CFG_REPLICA_ANNOUNCE_PORT);
    if (port || !l)
        return port;
    return config_int(r->srv->config, CFG_TLS_REPLICATION) ? listen_tls_port(l) : listen_port(l);
}

static enum err wrong(const char *what)
{
    log_at(LOG_WARNING, "%s", what);
    return ERR_SYNTAX;
}

static enum err read_replicaof(struct repl *r)
{
    struct bytes words[3];
    struct buf b;
    int64_t port = 0;
    buf_init(&b, 1024);
    enum err e = config_text(r->srv->config, CFG_REPLICAOF, &b);
    int n = e || !buf_size(&b) ? 0 : config_split((char *)buf_data(&b), buf_size(&b), words, 3);
    if (!e && n == 2) {
        if (words[0].n >= sizeof r->first.host || !number_parse(words[1], &port))
            e = wrong("replicaof: the name is too long");
        else
            memcpy(r->first.host, words[0].p, words[0].n);
        r->first.port = (int)port;
    }
    buf_fini(&b);
    return e;
}

static enum err find_self(struct repl *r)
{
    struct buf ip;
    char host[VOTERS_HOST_BYTES] = "", line[VOTERS_TEXT_BYTES + 256];
    int self = VOTERS_NONE, port = repl_own_port(r);

    buf_init(&ip, 1024);
    enum err e = config_text(r->srv->config, CFG_REPLICA_ANNOUNCE_IP, &ip);
    snprintf(host, sizeof host, "%.*s", (int)buf_size(&ip), (const char *)buf_data(&ip));
    buf_fini(&ip);
    if (!e)
        self = voters_self(&r->voters, host, port, voters_is_local);
    r->self = (uint8_t)(self >= 0 ? self : (int)r->voters.n);
    if (e || self >= 0 || (self == VOTERS_NONE && r->first.port))
        return e; /* one that follows need not be a voter */
    snprintf(
        line, sizeof line,
        "voters: %s of %s is this node (port %d%s%s). Set replica-announce-ip and replica-announce-port to its own "
        "entry%s",
        self == VOTERS_NONE ? "none" : "more than one", r->voters.text, port, host[0] ? ", address " : "", host,
        self == VOTERS_NONE ? ", or replicaof, for a replica that is no voter" : "");
    return wrong(line);
}

static enum err read_config(struct repl *r)
{
    struct buf list;
    const char *why = "";
    char line[256];

    buf_init(&list, VOTERS_TEXT_BYTES);
    enum err e = read_replicaof(r);
    if (!e)
        e = config_text(r->srv->config, CFG_VOTERS, &list);
    if (!e && (e = voters_parse(buf_bytes(&list), &r->voters, &why)) == ERR_SYNTAX) {
        snprintf(line, sizeof line, "voters: %s", why);
        e = wrong(line);
    }
    buf_fini(&list);
    if (!e && r->voters.n && !repl_own_port(r))
        e = wrong("voters are reached by TCP: port must not be 0, nor with tls-replication tls-port");
    if (!e && r->voters.n)
        e = find_self(r);
    r->configured = r->voters.n || r->first.port;
    return e;
}

/* ---- what the directory says ---- */

struct found {
    int has_cell, blank;
    int emptied; /* no log, and the voting file says mute: what it held was set aside, or lost, and comes from others */
    struct celldir cell;
};

static enum err look(struct found *f)
{
    struct celldir_begin begin;
    struct vote_file vote;
    int has_log = 0;
    enum err e = celldir_read(".", &f->cell);
    f->has_cell = e == ERR_OK;
    f->blank = f->emptied = 0;
    if (e && e != ERR_NOTFOUND)
        return e;
    if ((e = celldir_has_log(".", &has_log)) || has_log || celldir_read_begin(".", &begin) != ERR_NOTFOUND)
        return e;
    f->blank = !f->has_cell || vote_read(REPL_VOTE_PATH, f->cell.cell_id, &vote) != ERR_OK;
    f->emptied = !f->blank && vote.vote.mute != CELL_SOUND;
    return ERR_OK;
}

static enum err write_cell(struct repl *r, struct found *f, const uint8_t cell_id[16])
{
    if (f->has_cell && bytes_equal(bytes_of(f->cell.cell_id, 16), bytes_of(cell_id, 16)))
        return ERR_OK;
    f->has_cell = 1;
    f->cell.shards = f->cell.shards ? f->cell.shards : (unsigned)config_int(r->srv->config, CFG_SHARDS);
    memcpy(f->cell.cell_id, cell_id, 16);
    enum err e = celldir_write(".", &f->cell);
    if (e)
        log_at(LOG_WARNING, "The file cell cannot be written: %s", err_text(e));
    return e;
}

/* That nothing was promised is known from now on. */
static enum err write_blank_vote(const uint8_t cell_id[16])
{
    struct vote_file vote = {.vote.promised_to = CELL_NOBODY};
    memcpy(vote.cell_id, cell_id, sizeof vote.cell_id);
    enum err e = clock_random(vote.node_id, sizeof vote.node_id);
    if (!e)
        e = vote_write(REPL_VOTE_PATH, &vote);
    if (e)
        log_at(LOG_WARNING, "The voting file cannot be written: %s", err_text(e));
    return e;
}

/* ---- a blank node ---- */

static void show_cell(struct repl *r, const struct found *f)
{
    pthread_mutex_lock(&r->lock);
    r->mine.has_cell = f->has_cell;
    r->mine.blank = f->blank;
    memcpy(r->mine.cell_id, f->cell.cell_id, sizeof r->mine.cell_id);
    pthread_mutex_unlock(&r->lock);
}

static void say_waiting(struct repl *r)
{
    char missing[256] = "";
    size_t at = 0;
    pthread_mutex_lock(&r->lock);
    for (unsigned i = 0; i < r->voters.n; i++)
        if (!r->founding.seen[i].seen)
            at += (size_t)snprintf(missing + at, at < sizeof missing ? sizeof missing - at : 0, " %s:%d",
                                   r->voters.at[i].host, r->voters.at[i].port);
    pthread_mutex_unlock(&r->lock);
    log_at(LOG_NOTICE, "This node is empty and waits for its cell%s%.200s", missing[0] ? "; not heard of yet:" : "",
           missing);
}

static enum founding_verdict wait_for_verdict(struct repl *r, uint8_t cell_id[16])
{
    uint64_t end = clock_mono_us() + REPL_LOOK_US;
    pthread_mutex_lock(&r->lock);
    enum founding_verdict v;
    while ((v = founding_look(&r->founding, cell_id)) == FOUNDING_WAIT && !r->own_cell && clock_mono_us() < end)
        clock_cond_wait(&r->changed, &r->lock, end);
    if (v == FOUNDING_WAIT && r->own_cell)
        v = FOUNDING_MAKE;
    pthread_mutex_unlock(&r->lock);
    return v;
}

/* Nobody knows a cell, and yet there may have been one, whose nodes have all lost their logs: then it goes on from a
 * snapshot when somebody says so (restore.h), and has the id that it had. */
static enum err recover_cell(struct repl *r, struct found *f)
{
    enum err e = restore_begin(r->srv->restore);
    if (!e && (e = look(f)))
        log_at(LOG_WARNING, "The data directory cannot be read: %s", err_text(e));
    return e;
}

static enum err make_id(struct repl *r, struct found *f)
{
    uint8_t id[16];
    enum err e = f->has_cell ? ERR_OK : recover_cell(r, f);
    if (!e && !f->has_cell)
        e = clock_random(id, sizeof id);
    if (!e && !f->has_cell)
        e = write_cell(r, f, id);
    show_cell(r, f);
    pthread_mutex_lock(&r->lock);
    if (!e && r->voters.n)
        founding_saw(&r->founding, &r->mine);
    pthread_mutex_unlock(&r->lock);
    return e;
}

/* Until the cell is known. */
static enum err find_cell(struct repl *r, struct found *f)
{
    uint8_t id[16];
    uint64_t said_us = 0;
    enum err e = acl_log_lost(r->srv->acl); /* who may talk to this node meanwhile is in a log that it does not have */

    while (!e) {
        if (clock_mono_us() - said_us > REPL_SAY_US || !said_us) {
            said_us = clock_mono_us();
            say_waiting(r);
        }
        enum founding_verdict v = wait_for_verdict(r, id);
        if (atomic_load(&r->srv->stopping))
            return ERR_AGAIN;
        if (v == FOUNDING_MAKE) {
            if ((e = make_id(r, f)) || r->voters.n)
                continue;
            r->begins = 1; /* without voters: its own */
            return e;
        }
        if (v == FOUNDING_WAIT)
            continue;
        e = write_cell(r, f, id);
        r->begins = v == FOUNDING_BEGIN;
        r->found_elsewhere = v == FOUNDING_JOIN;
        if (!e && r->begins)
            e = write_blank_vote(id);
        show_cell(r, f);
        log_at(LOG_NOTICE, "%s",
               r->begins ? "All voters are here, and empty: the cell begins"
                         : "The cell is there already: what it holds is taken from the others");
        return e;
    }
    return e;
}

/* ---- life ---- */

static enum err begin_to_dial(struct repl *r)
{
    enum err e = repl_dial_voters(r);
    pthread_mutex_lock(&r->lock);
    r->dials = 1;
    pthread_mutex_unlock(&r->lock);
    return e ? e : repl_look_at_orders(r);
}

enum err repl_begin(struct repl *r, const uint8_t realm[16])
{
    struct found f;
    enum err e = read_config(r);
    if (!e && (e = look(&f)))
        log_at(LOG_WARNING, "The data directory cannot be read: %s", err_text(e));
    if (!e && f.emptied && !r->configured)
        e = wrong(
            "what this node held comes from other nodes, and nothing of it has come yet: give voters or replicaof");
    if (e)
        return e;
    r->found_elsewhere = f.emptied;
    atomic_store(&r->has_aside, install_has_aside("."));
    pthread_mutex_lock(&r->lock);
    memcpy(r->mine.realm, realm, sizeof r->mine.realm);
    memcpy(r->mine.run_id, r->srv->run_id, sizeof r->mine.run_id);
    memcpy(r->mine.voters, r->voters.text, sizeof r->mine.voters);
    r->mine.index = r->voters.n && r->self < r->voters.n ? r->self : -1;
    founding_init(&r->founding, r->voters.n, r->mine.index, f.has_cell ? f.cell.cell_id : NULL);
    r->phase = !r->configured ? REPL_OFF : f.blank ? REPL_FINDING : REPL_FOUND;
    if (r->configured) { /* until there is more to say */
        r->status = (struct repl_status){
            .on = 1, .voters = r->voters.n != 0, .leader = CELL_NOBODY, .leader_port = r->first.port};
        memcpy(r->status.leader_host, r->first.host, sizeof r->status.leader_host);
        atomic_store(&r->srv->cell.replica, 1);
        atomic_store(&r->srv->cell.write_err, ERR_READONLY);
        atomic_store(&r->srv->cell.read_err, ERR_MASTERDOWN);
    }
    if (r->configured)
        e = repl_thread_start(r);
    pthread_mutex_unlock(&r->lock);
    show_cell(r, &f);
    if (!e && r->configured)
        e = begin_to_dial(r);
    if (!e && r->configured && f.blank)
        e = find_cell(r, &f);
    pthread_mutex_lock(&r->lock);
    if (!e && r->configured)
        r->phase = REPL_FOUND;
    pthread_mutex_unlock(&r->lock);
    return e;
}

const struct sequencer_gate *repl_gate(struct repl *r)
{
    return r->configured ? &r->gate : NULL;
}

int repl_found_elsewhere(struct repl *r)
{
    return r->found_elsewhere;
}

static void show_ready(struct repl *r)
{
    pthread_mutex_lock(&r->lock);
    r->phase = r->configured ? REPL_READY : REPL_OFF;
    r->mine.has_cell = 1;
    engine_cell_id(r->srv->engine, r->mine.cell_id);
    r->mine.blank &= r->configured; /* off, it has a log */
    r->mine.ready = 1;              /* off, it can take frames too: then it is turned on */
    pthread_mutex_unlock(&r->lock);
}

struct begin {
    struct repl_task task;
    struct cellnode *node;
};

/* Whom a start finds in the configuration: an index; -1: nobody. */
static int configured_source(const struct repl *r)
{
    if (!r->first.port || (r->begins && !r->voters.n))
        return -1;
    int index = r->voters.n ? voters_find(&r->voters, r->first.host, r->first.port) : REPL_SOURCE;
    if (index < 0)
        log_at(LOG_WARNING,
               "replicaof %s %d is none of the voters %s, and is passed over: REPLICAOF tells whom to follow",
               r->first.host, r->first.port, r->voters.text);
    return index;
}

static void begin_as_configured(struct repl *r)
{
    const struct cell *c = cellnode_cell(r->node);
    int index = configured_source(r);
    if (index >= 0) {
        repl_follow_now(r, (uint8_t)index);
    } else if (r->self < repl_voters(r)) {
        /* Who was primary tries to be that again; in a cell that never had one, voter 0 tries. */
        int never = c->last_lsn == c->base_lsn && c->vote.promised_to == CELL_NOBODY;
        if (repl_alone(r) || c->vote.promised_to == r->self || (never && r->self == 0))
            r->wants_to_lead = REPL_WISH_AGAIN;
    }
}

/* The thread takes the core over. */
static void run_begin(struct repl *r, struct repl_task *t)
{
    struct begin *b = mpsc_entry(t, struct begin, task);
    r->node = b->node;
    mem_free(b);
    if (!repl_begin_as_ordered(r))
        begin_as_configured(r);
    repl_publish(r, clock_mono_ms());
    show_ready(r);
}

enum err repl_run(struct repl *r)
{
    if (!r->configured) {
        show_ready(r);
        return repl_look_at_orders(r);
    }
    struct begin *b = mem_zalloc(sizeof *b);
    enum err e = b ? repl_open_core(r, &b->node) : ERR_OOM;
    if (e) {
        mem_free(b);
        return e;
    }
    b->task.run = run_begin;
    repl_post(r, &b->task);
    return ERR_OK;
}

void repl_stop(struct repl *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    int running = r->running;
    r->stop = 1;
    r->phase = REPL_STOPPED;
    pthread_mutex_unlock(&r->lock);
    if (running) {
        repl_wake(r);
        pthread_join(r->thread, NULL);
    }
    r->running = 0;
    resync_free(r->resync);
    r->resync = NULL;
    repl_links_close(r);
    repl_run_tasks(r); /* what they hold is given back */
    repl_links_close(r);
    waitlist_wake(r->reads.parked);
    cellnode_close(r->node);
    r->node = NULL;
    mem_free(r->waiting);
    r->waiting = NULL;
}

enum err repl_new(struct repl **out, struct server *srv)
{
    struct repl *r = *out = mem_zalloc(sizeof *r);
    if (!r)
        return ERR_OOM;
    r->srv = srv;
    r->gate = (struct sequencer_gate){on_gate_changed, r};
    r->source = r->fetching = CELL_NOBODY;
    r->mine.index = -1;
    mpsc_init(&r->tasks);
    enum err e = waitlist_new(&r->reads.parked);
    pthread_mutex_init(&r->lock, NULL);
    clock_cond_init(&r->changed);
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct event_config *cfg = event_config_new();
    if (cfg && event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK) == 0)
        r->base = event_base_new_with_config(cfg);
    if (cfg)
        event_config_free(cfg);
    if (!e && r->wake_fd >= 0 && r->base && (e = repl_resync_new(r)) == ERR_OK)
        return ERR_OK;
    repl_free(r);
    *out = NULL;
    return ERR_OOM;
}

void repl_free(struct repl *r)
{
    if (!r)
        return;
    resync_free(r->resync);
    if (r->base)
        event_base_free(r->base);
    if (r->wake_fd >= 0)
        close(r->wake_fd);
    waitlist_free(r->reads.parked);
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
    mem_free(r);
}
