/* cmd_repl.c - REPLICAOF, ROLE, WAIT, READ.AFTER, and what nodes say to each other before a link: REPLCONF, PSYNC. See
 * repl.h.
 *
 * What waits (REPLICAOF, WAIT, READ.AFTER) looks again every few milliseconds, by a timer on its I/O thread: what it
 * waits for is a number that other threads raise, and a client that is gone costs one more look. */
#include <event2/event.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "resp/number.h"
#include "server/conn_private.h"
#include "server/fallback.h"
#include "server/handlers.h"
#include "server/multi.h"
#include "server/repl.h"
#include "server/server.h"

#define LOOK_US 2000
#define READ_AFTER_MS 1000
#define ORDER_MS 1000 /* it takes one fsync, or two */

/* ---- waiting ---- */

struct waiting {
    struct pending p;
    struct event *timer;
    struct server *srv;
    uint64_t lsn, end_us; /* end 0: none */
    int64_t want;         /* WAIT: replicas */
    int (*holds)(struct waiting *w);
    void (*answer)(struct waiting *w, struct reply *r);
    struct fallback_request *ask; /* READ.AFTER: what the primary is asked in the end; NULL: it is not */
};

static int is_over(struct waiting *w, struct io *io)
{
    return !w->p.conn || w->p.conn->unblock || w->holds(w) || (w->end_us && io_now_us(io) >= w->end_us);
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
    struct waiting *w = arg;
    (void)fd;
    (void)what;
    io_clock(w->p.io);
    if (!is_over(w, w->p.io))
        return;
    event_del(w->timer);
    if (w->ask && w->p.conn && !w->p.conn->unblock && !w->holds(w))
        fallback_post(w->srv->fallback, w->ask);
    else
        pending_complete(&w->p);
}

static void primary_answered(struct fallback_request *q)
{
    struct waiting *w = q->arg;
    pending_complete(&w->p);
}

static void waiting_finish(struct pending *p, struct reply *r)
{
    struct waiting *w = mpsc_entry(p, struct waiting, p);
    if (p->conn->unblock == UNBLOCK_ERROR)
        reply_errorf(r, "UNBLOCKED", "client unblocked via CLIENT UNBLOCK");
    else
        w->answer(w, r);
    p->conn->unblock = UNBLOCK_NOT;
}

static void waiting_release(struct pending *p)
{
    struct waiting *w = mpsc_entry(p, struct waiting, p);
    fallback_request_free(w->ask);
    event_free(w->timer);
    mem_free(w);
}

/* No thread may be left that the timer would run on. */
static void waiting_gone(struct pending *p)
{
    struct waiting *w = mpsc_entry(p, struct waiting, p);
    if (!event_pending(w->timer, EV_TIMEOUT, NULL)) /* the primary was asked, or it is complete */
        return;
    event_del(w->timer);
    pending_complete(p);
}

static enum call_result wait_for(struct call *c, const struct waiting *what, int64_t ms)
{
    struct timeval look = {.tv_usec = LOOK_US};
    struct waiting *w = mem_alloc(sizeof *w);
    if (w) {
        *w = *what;
        w->srv = c->srv;
        if (w->ask) {
            w->ask->done = primary_answered;
            w->ask->arg = w;
        }
        w->end_us = ms ? io_now_us(c->io) + (uint64_t)ms * 1000 : 0;
        w->timer = event_new(c->io->base, -1, EV_PERSIST, on_look, w);
    }
    if (!w || !w->timer || event_add(w->timer, &look) != 0) {
        fallback_request_free(what->ask);
        if (w && w->timer)
            event_free(w->timer);
        mem_free(w);
        return call_error(c, ERR_OOM);
    }
    call_pending(c, &w->p, waiting_finish, waiting_release);
    w->p.gone = waiting_gone;
    return CALL_PENDING;
}

/* ---- REPLICAOF ---- */

static int is_carried_out(struct waiting *w)
{
    return repl_is_master(w->srv) == w->want;
}

static void answer_ok(struct waiting *w, struct reply *r)
{
    (void)w;
    reply_ok(r);
}

/* A node without voters answers when it has changed its part, as Redis does: what comes next finds it so. In a cell it
 * takes a majority, or does not succeed; who ordered it looks at INFO. */
static enum call_result ordered(struct call *c, int lead)
{
    struct waiting w = {.srv = c->srv, .want = lead, .holds = is_carried_out, .answer = answer_ok};
    struct repl_status s;
    repl_status(c->srv->repl, &s);
    if (!s.voters && !is_carried_out(&w))
        return wait_for(c, &w, ORDER_MS);
    reply_ok(c->reply);
    return CALL_DONE;
}

static enum call_result lead(struct call *c)
{
    enum err e = repl_promote(c->srv->repl);
    if (e == ERR_READONLY)
        return call_errorf(c, ERR_SYNTAX, "this node is none of the cell's voters: it cannot be primary");
    if (e == ERR_CORRUPT)
        return call_errorf(c, e,
                           "this node is in quarantine, since its state differs from its primary's: another one should "
                           "take over. When there is none, a restart forgets the comparison");
    if (e)
        return call_error(c, e);
    log_at(LOG_NOTICE, "REPLICAOF NO ONE by %s: trying to be primary", conn_peer(c->conn));
    return ordered(c, 1);
}

enum call_result cmd_replicaof(struct call *c)
{
    char host[VOTERS_HOST_BYTES];
    const char *why;
    int64_t port;

    if (!c->srv->repl)
        return call_error(c, ERR_UNSUPPORTED);
    if (repl_is_handing_over(c->srv))
        return call_errorf(c, ERR_SYNTAX, "REPLICAOF not allowed while failing over.");
    if (bytes_is_word(c->argv[1], "NO") && bytes_is_word(c->argv[2], "ONE"))
        return lead(c);
    if (!number_parse(c->argv[2], &port) || port < 1 || port > 65535)
        return call_errorf(c, ERR_SYNTAX, "Invalid master port");
    if (!bytes_to_str(c->argv[1], host, sizeof host))
        return call_errorf(c, ERR_SYNTAX, "Invalid master host");
    enum err e = repl_follow(c->srv->repl, host, (int)port, &why);
    if (e == ERR_RANGE)
        return call_errorf(c, ERR_RANGE, "REPLICAOF %s %lld: %s", host, (long long)port, why);
    if (e)
        return call_error(c, e);
    log_at(LOG_NOTICE, "REPLICAOF %s %lld by %s", host, (long long)port, conn_peer(c->conn));
    return ordered(c, 0);
}

/* ---- ROLE ---- */

static void reply_master(struct reply *r, const struct repl_status *s, uint64_t lsn)
{
    reply_array(r, 3);
    reply_bulk_str(r, "master");
    reply_int(r, (int64_t)lsn);
    size_t mark = reply_mark(r), n = 0;
    for (unsigned i = 0; i < s->peers; i++) {
        if (!s->peer[i].online)
            continue;
        reply_array(r, 3);
        reply_bulk_str(r, s->peer[i].host);
        reply_bulk_int(r, s->peer[i].port);
        reply_bulk_int(r, (int64_t)s->peer[i].held_lsn);
        n++;
    }
    reply_insert_array(r, mark, n);
}

enum call_result cmd_role(struct call *c)
{
    struct repl_status s = {0};
    int loading = atomic_load_explicit(&c->srv->loading, memory_order_acquire);
    if (c->srv->repl)
        repl_status(c->srv->repl, &s);
    if (!s.on || s.master) {
        uint64_t lsn = s.on ? s.offset : loading || !c->srv->engine ? 0 : engine_commit_lsn(c->srv->engine);
        reply_master(c->reply, &s, lsn);
        return CALL_DONE;
    }
    reply_array(c->reply, 5);
    reply_bulk_str(c->reply, "slave");
    reply_bulk_str(c->reply, s.leader_host);
    reply_int(c->reply, s.leader_port);
    reply_bulk_str(c->reply, s.link_up ? "connected" : s.copy.running ? "sync" : "connect");
    reply_int(c->reply, (int64_t)s.offset);
    return CALL_DONE;
}

/* ---- WAIT, READ.AFTER: inside a transaction they do not wait, but say how it is ---- */

static int parse_ms(struct call *c, struct bytes word, int64_t *ms)
{
    if (!number_parse(word, ms) || *ms > INT64_MAX / 1000000)
        call_errorf(c, ERR_NOTINT, "timeout is not an integer or out of range");
    else if (*ms < 0)
        call_errorf(c, ERR_RANGE, "timeout is negative");
    else
        return 1;
    return 0;
}

static int64_t holders(const struct waiting *w)
{
    return w->srv->repl ? repl_holders(w->srv->repl, w->lsn) : 0;
}

/* Or it will never be known: who is no primary any more counts nobody, and may yet lose the write. */
static int enough_hold_it(struct waiting *w)
{
    return holders(w) >= w->want || !repl_is_master(w->srv);
}

/* As in Redis, whose clients know the word and look for the primary anew. */
static void answer_holders(struct waiting *w, struct reply *r)
{
    if (repl_is_master(w->srv)) {
        reply_int(r, holders(w));
        return;
    }
    reply_errorf(r, "UNBLOCKED", "force unblock from blocking operation, instance state changed (master -> replica?)");
    conn_close_after_reply(w->p.conn);
}

enum call_result cmd_wait(struct call *c)
{
    struct waiting w = {
        .srv = c->srv, .lsn = conn_last_lsn(c->conn), .holds = enough_hold_it, .answer = answer_holders};
    int64_t ms;
    if (!repl_is_master(c->srv))
        return call_errorf(c, ERR_SYNTAX,
                           "WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a "
                           "replica is configured to be writable (which is not the default) writes to replicas are "
                           "just local and are not propagated.");
    if (!number_parse(c->argv[1], &w.want))
        return call_error(c, ERR_NOTINT);
    if (!parse_ms(c, c->argv[2], &ms))
        return CALL_DONE;
    if (!enough_hold_it(&w) && !multi_under_way(c->conn))
        return wait_for(c, &w, ms);
    reply_int(c->reply, holders(&w));
    return CALL_DONE;
}

static int is_here(struct waiting *w)
{
    return engine_commit_lsn(w->srv->engine) >= w->lsn;
}

/* When the primary has it, reads of this connection are its own until this node has it too. */
static void answer_here(struct waiting *w, struct reply *r)
{
    int there = w->ask && !w->ask->err && !is_here(w);
    if (there && w->lsn > w->p.conn->after_lsn)
        w->p.conn->after_lsn = w->lsn;
    if (there || is_here(w))
        reply_ok(r);
    else
        reply_errorf(r, err_prefix(ERR_MASTERDOWN), "this node has LSN %llu, and not %llu yet",
                     (unsigned long long)engine_commit_lsn(w->srv->engine), (unsigned long long)w->lsn);
}

enum call_result cmd_read_after(struct call *c)
{
    int64_t lsn, ms = READ_AFTER_MS;
    if ((c->argc != 2 && c->argc != 4) || (c->argc == 4 && !bytes_is_word(c->argv[2], "TIMEOUT")))
        return call_error(c, ERR_SYNTAX);
    if (!number_parse(c->argv[1], &lsn) || lsn < 0)
        return call_error(c, ERR_NOTINT);
    if (c->argc == 4 && !parse_ms(c, c->argv[3], &ms))
        return CALL_DONE;
    struct waiting w = {.srv = c->srv, .lsn = (uint64_t)lsn, .holds = is_here, .answer = answer_here};
    if (!is_here(&w) && !multi_under_way(c->conn)) {
        w.ask = fallback_is_on(c) ? fallback_request_new(c, w.lsn, 0) : NULL;
        return wait_for(c, &w, ms);
    }
    answer_here(&w, c->reply);
    return CALL_DONE;
}

/* ---- what a replica says ---- */

struct said { /* in the connection's SLOT_REPLICA */
    int wbl;
    int port;
    char host[VOTERS_HOST_BYTES];
};

static void drop_said(struct conn *c, void *state)
{
    (void)c;
    mem_free(state);
}

static struct said *said_of(struct call *c)
{
    struct said *s = conn_slot(c->conn, SLOT_REPLICA);
    if (!s && (s = mem_zalloc(sizeof *s)))
        conn_set_slot(c->conn, SLOT_REPLICA, s, drop_said);
    return s;
}

/* 1, or 0 when an error was answered. */
static int take_option(struct call *c, struct said *s, struct bytes name, struct bytes value)
{
    int64_t n;
    if (bytes_is_word(name, "listening-port") || bytes_is_word(name, "wbl-version")) {
        if (!number_parse(value, &n) || n < 0 || n > 65535) {
            call_error(c, ERR_NOTINT);
            return 0;
        }
        if (bytes_is_word(name, "listening-port"))
            s->port = (int)n;
        else
            s->wbl = (int)n;
        return 1;
    }
    if (bytes_is_word(name, "ip-address") && (value.n == 0 || bytes_to_str(value, s->host, sizeof s->host)))
        return 1;
    if (bytes_is_word(name, "capa") || bytes_is_word(name, "rdb-only") || bytes_is_word(name, "rdb-filter-only"))
        return 1;
    int shown = (int)(name.n < 64 ? name.n : 64);
    call_errorf(c, ERR_SYNTAX, "Unrecognized REPLCONF option: %.*s", shown, (const char *)name.p);
    return 0;
}

enum call_result cmd_replconf(struct call *c)
{
    if (c->argc % 2 == 0)
        return call_error(c, ERR_SYNTAX);
    struct said *s = said_of(c);
    if (!s)
        return call_error(c, ERR_OOM);
    for (unsigned i = 1; i + 1 < c->argc; i += 2) {
        if (bytes_is_word(c->argv[i], "ack") || bytes_is_word(c->argv[i], "getack"))
            return CALL_DONE; /* Redis's, which are not answered */
        if (!take_option(c, s, c->argv[i], c->argv[i + 1]))
            return CALL_DONE;
    }
    reply_ok(c->reply);
    return CALL_DONE;
}

/* Where it can be reached: as it said, or where it comes from. */
static void name_guest(struct call *c, const struct said *s, struct repl_guest *g)
{
    g->port = s->port;
    snprintf(g->host, sizeof g->host, "%s", s->host);
    if (s->host[0])
        return;
    const char *peer = conn_peer(c->conn), *colon = strrchr(peer, ':');
    int six = peer[0] == '[', n = colon ? (int)(colon - peer) : (int)strlen(peer);
    snprintf(g->host, sizeof g->host, "%.*s", n - 2 * six, peer + six);
}

enum call_result cmd_psync(struct call *c)
{
    static const char redis[] =
        "this node streams a log of Coffer's, which no Redis understands: a Redis cannot be its replica";
    char text[HELLO_WHY_BYTES + HELLO_TEXT_BYTES], *rest;
    struct repl_guest g;
    const struct said *s = conn_slot(c->conn, SLOT_REPLICA);

    if (!s || s->wbl != 1 || !c->srv->repl) {
        reply_error_text(c->reply, "NOMASTERLINK", bytes_str(redis));
        return CALL_DONE;
    }
    if (c->argc != HELLO_WORDS + 1 || hello_get(c->argv + 1, &g.hello))
        return call_errorf(c, ERR_SYNTAX, "this PSYNC is not understood: is the other node of another version?");
    name_guest(c, s, &g);
    if (repl_accept(c->srv->repl, c->conn, &g, text) == REPL_TAKEN)
        return CALL_DONE;
    rest = text + strcspn(text, " ");
    *rest++ = 0;
    reply_error_text(c->reply, text, bytes_str(rest));
    return CALL_DONE;
}

enum call_result cmd_sync(struct call *c)
{
    return call_errorf(c, ERR_SYNTAX, "there is no RDB to be had: this node streams a log of Coffer's");
}
