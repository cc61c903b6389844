/* dispatch.c - from a parsed request to its handler: look-up, order, permission, the call, and the books.
 *
 *     look up -> may it overlap what is pending? -> arity -> logged in, allowed -> loaded, unsealed, not paused ->
 * monitors -> confirmed by a majority, if it is a read that wants that -> handler -> the primary, if this node could
 * not answer (fallback.h)
 *
 * Refusals up to the handler are answered here with Redis's texts. A command that may not overlap yet is not touched:
 * it is dispatched anew when the last pending has been answered, and so is one that parks. Whatever has an effect
 * therefore comes after both.
 *
 * An answer that is ready while others are pending (a refusal, a syntax error between two writes) is written to a side
 * buffer and queued behind them as a pending that is complete already.
 *
 * The clock is read once a command: the end of one is the start of the next.
 */
#include <assert.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/acl.h"
#include "server/acl_log.h"
#include "server/command.h"
#include "server/conn_private.h"
#include "server/fallback.h"
#include "server/latency.h"
#include "server/monitor.h"
#include "server/multi.h"
#include "server/options.h"
#include "server/repl.h"
#include "server/restore.h"
#include "server/slowlog.h"
#include "server/tracking.h"

#define HTTP_LOG_US UINT64_C(60000000) /* one line a minute about HTTP */

/* ---- refusals ---- */

/* Redis's text, which quotes what was sent. Not for names of our families: a mistyped SECRET.PUT carries a secret. */
static void refuse_unknown(struct call *c)
{
    char text[REPLY_ERROR_MAX_BYTES];
    const struct bytes *name = &c->argv[0];
    size_t room = 128, at;

    at = (size_t)snprintf(text, sizeof text,
                          "unknown command '%.*s', with args beginning with: ", (int)(name->n < 128 ? name->n : 128),
                          (const char *)name->p);
    if (memchr(name->p, '.', name->n))
        c->argc = 1;
    for (unsigned i = 1; i < c->argc && room > 0; i++) {
        size_t n = c->argv[i].n < room ? c->argv[i].n : room;
        at += (size_t)snprintf(text + at, sizeof text - at, "'%.*s' ", (int)n, (const char *)c->argv[i].p);
        room = n + 3 < room ? room - n - 3 : 0;
        if (at >= sizeof text)
            break;
    }
    reply_error_text(c->reply, "ERR", bytes_of(text, at < sizeof text ? at : sizeof text - 1));
    mem_wipe(text, sizeof text);
}

/* A browser that was made to post to this port sends a request line and headers, then maybe commands. As Redis does,
 * the connection goes at once, before anything behind them is looked at. */
static int is_http(const struct call *c)
{
    static const char *const words[] = {"POST", "HOST:", NULL};
    return options_word(c->argv[0], words) >= 0;
}

static void refuse_http(struct call *c)
{
    static _Atomic uint64_t last_us;
    uint64_t now = c->io->now_us, last = atomic_load(&last_us);
    if ((!last || now - last > HTTP_LOG_US) && atomic_compare_exchange_strong(&last_us, &last, now))
        log_at(LOG_WARNING,
               "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands, which is "
               "likely an attempt at cross protocol scripting. Connection from %s is closed.",
               c->conn->peer);
    conn_kill(c->conn);
}

static void refuse_sub(struct call *c)
{
    char container[32];
    size_t n = c->argv[0].n < sizeof container ? c->argv[0].n : sizeof container - 1;
    for (size_t i = 0; i < n; i++)
        container[i] =
            (char)(c->argv[0].p[i] >= 'a' && c->argv[0].p[i] <= 'z' ? c->argv[0].p[i] - 32 : c->argv[0].p[i]);
    call_errorf(c, ERR_UNKNOWNCMD, "unknown subcommand '%.*s'. Try %.*s HELP.",
                (int)(c->argv[1].n < 128 ? c->argv[1].n : 128), (const char *)c->argv[1].p, (int)n, container);
}

void dispatch_refuse(struct call *c, enum err err, const struct acl_denial *why)
{
    char name[COMMAND_NAME_MAX];
    if (err != ERR_NOPERM) {
        call_error(c, err);
        return;
    }
    command_lower(c->cmd, name);
    stat_add(&c->io->stats.acl_denied, 1);
    acl_log_add(c->srv->acl_log, c, c->conn->user, why);
    if (why->reason == ACL_KEY)
        call_errorf(c, ERR_NOPERM, "this user has no permissions to access one of the keys used as arguments");
    else if (why->reason == ACL_CHANNEL)
        call_errorf(c, ERR_NOPERM, "this user has no permissions to access one of the channels used as arguments");
    else
        call_errorf(c, ERR_NOPERM, "this user has no permissions to run the '%s' command", name);
}

/* ---- what must hold before a handler runs ---- */

int dispatch_paused(const struct call *c, int writes)
{
    struct server *srv = c->srv;
    if (writes && (repl_is_handing_over(srv) || atomic_load_explicit(&srv->leaving, memory_order_relaxed)))
        return 1;
    int mode = atomic_load_explicit(&srv->pause_mode, memory_order_relaxed);
    if (mode == PAUSE_NONE || c->io->now_us >= atomic_load_explicit(&srv->pause_until_us, memory_order_relaxed))
        return 0;
    return mode == PAUSE_ALL || writes;
}

int dispatch_confirmed(struct call *c, enum call_result *result)
{
    struct conn *conn = c->conn;
    uint8_t *p;
    size_t n;

    if (!conn->linear || !c->srv->repl)
        return 1;
    conn_input(conn, &p, &n);
    if (conn->net_in - n + conn->held_used > conn->round_in) /* its end came later than the round was asked for */
        conn->round = 0;
    if (!conn->round)
        conn->round_in = conn->net_in;
    enum err e = repl_confirm(c->srv->repl, &conn->round);
    if (!e)
        return 1;
    if (e == ERR_AGAIN) {
        *result = call_park(c, repl_confirmed(c->srv->repl));
        return 0;
    }
    conn->round = 0;
    *result = e == ERR_READONLY ? call_errorf(c, e, "linearizable reads are the primary's, and this node is none")
                                : call_error(c, e);
    return 0;
}

static int reads_only(const struct command *cmd)
{
    return (cmd->flags & (CMD_READ | CMD_WRITE | CMD_LOADING)) == CMD_READ;
}

/* A RESP2 client that listens cannot tell an answer from a message. */
static int allowed_while_subscribed(const struct call *c)
{
    return conn_proto(c->conn) == 3 || c->cmd->flags & CMD_SUBSCRIBER;
}

static void refuse_subscribed(struct call *c)
{
    char name[COMMAND_NAME_MAX];
    command_lower(c->cmd, name);
    call_errorf(c, ERR_SYNTAX,
                "Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this "
                "context",
                name);
}

/* MULTI and subscriptions. 1: go on to the handler. */
static int admit_by_mode(struct call *c)
{
    if (c->conn->mode & CONN_SUBSCRIBED && !allowed_while_subscribed(c)) {
        refuse_subscribed(c);
        return 0;
    }
    return !(c->conn->mode & CONN_MULTI) || !multi_queue(c);
}

static enum err is_ready(const struct server *srv)
{
    if (atomic_load_explicit(&srv->loading, memory_order_acquire))
        return ERR_LOADING;
    return atomic_load_explicit(&srv->sealed, memory_order_relaxed) ? ERR_SEALED : ERR_OK;
}

enum err dispatch_here(const struct io *io, const struct command *cmd)
{
    enum err e = cmd->flags & CMD_WRITE ? repl_may_write(io->srv) : ERR_OK;
    return e || !(cmd->flags & CMD_READ) ? e : repl_may_read(io->srv, io->now_us);
}

/* 1: go on to the handler; 0: an error was answered. */
static int admit(struct call *c, int sub_unknown)
{
    const struct command *cmd = c->cmd;
    struct acl_denial why;

    if (!cmd) {
        if (sub_unknown)
            refuse_sub(c);
        else if (is_http(c))
            refuse_http(c);
        else
            refuse_unknown(c);
        return 0;
    }
    if (!command_arity_ok(cmd, c->argc) || !cmd->fn) {
        char name[COMMAND_NAME_MAX];
        command_lower(cmd, name);
        call_errorf(c, ERR_ARITY, "wrong number of arguments for '%s' command", name);
        return 0;
    }
    enum err e = acl_check(c->conn->user, c->conn->authenticated, c, &why);
    if (e)
        dispatch_refuse(c, e, &why);
    else if (c->conn->monitor && cmd->flags & (CMD_READ | CMD_WRITE)) /* as Redis */
        e = ERR_UNSUPPORTED, call_errorf(c, e, "Replica can't interact with the keyspace");
    else if (cmd->flags & CMD_LOADING)
        return 1;
    else if ((e = c->ready) == ERR_LOADING)
        restore_refuse(c->srv->restore, c->reply);
    else if (!e && (e = dispatch_here(c->io, cmd)) && fallback_takes_stale(c, e))
        c->stale = e, e = ERR_OK;
    else if (e)
        call_error(c, e);
    else if (cmd->lane == LANE_WRITE &&
             atomic_load_explicit(&c->srv->pending_bytes, memory_order_relaxed) > IO_PENDING_BYTES)
        e = ERR_THROTTLED, call_errorf(c, e, "too many writes wait for the disk: try again");
    return e == ERR_OK;
}

/* Not too many at a time: what waits is kept in memory. */
static inline int may_overlap(const struct conn *c, const struct command *cmd)
{
    return !c->pendings || (cmd && cmd->lane == c->lane && (cmd->lane == LANE_WRITE || cmd->lane == LANE_HSM) &&
                            c->pendings < CONN_PENDINGS && c->pending_bytes < CONN_PENDING_BYTES);
}

/* ---- after the handler ---- */

void dispatch_mend_reply(struct conn *c, size_t mark)
{
    enum err e = c->reply.failed;
    reply_rewind(&c->reply, mark);
    if (e == ERR_TOOBIG)
        reply_errorf(&c->reply, err_prefix(e), "the answer has more than %u MiB: ask for less at a time",
                     CONN_ANSWER_BYTES >> 20);
    else
        reply_error(&c->reply, e);
    if (c->reply.failed && c->state != CONN_DEAD)
        conn_kill(c);
}

void dispatch_count(struct io *io, const struct command *cmd, uint64_t usec)
{
    size_t row = command_index(cmd);
    struct command_stat *s = &io->stats.command[row];
    stat_add(&s->calls, 1);
    stat_add(&s->usec, usec);
    if (io->tracking) {
        _Atomic uint32_t *h = &io->stats.histogram[row * LATENCY_BUCKETS + latency_bucket(usec)];
        atomic_store_explicit(h, atomic_load_explicit(h, memory_order_relaxed) + 1, memory_order_relaxed);
    }
    if (io->event_ms && usec >= io->event_ms * 1000 && io->srv->latency)
        latency_add(io->srv->latency, cmd->flags & CMD_FAST ? LATENCY_FAST_COMMAND : LATENCY_COMMAND, usec / 1000,
                    io->now_ms);
}

static void count(struct call *c, struct conn *conn, size_t mark, int ran)
{
    struct io *io = c->io;
    uint64_t now = clock_mono_us(), usec = now - io->mark_us;
    struct command_stat *s = &io->stats.command[command_index(c->cmd)];

    io->mark_us = now;
    stats_note_answer(&io->stats, ran ? s : NULL, conn->reply.b, mark);
    if (!ran) {
        stat_add(&s->rejected, 1);
        return;
    }
    dispatch_count(io, c->cmd, usec);
    if (io->slower_than_us >= 0 && usec >= (uint64_t)io->slower_than_us && io->srv->slowlog)
        slowlog_add(io->srv->slowlog, c, usec);
}

/* What SUBSCRIBE and its kin answer are pushes, which CLIENT REPLY does not concern. */
static int answers_by_push(const struct command *cmd)
{
    return cmd && (cmd->flags & (CMD_PUBSUB | CMD_SUBSCRIBER)) == (CMD_PUBSUB | CMD_SUBSCRIBER);
}

static void apply_reply_mode(struct conn *c, const struct command *cmd, size_t mark)
{
    if (answers_by_push(cmd))
        return;
    if (c->reply_mode == REPLY_OFF || c->reply_mode == REPLY_SKIP)
        reply_rewind(&c->reply, mark);
}

static void next_reply_mode(struct conn *c)
{
    if (c->reply_mode == REPLY_SKIP)
        c->reply_mode = REPLY_ON;
    else if (c->reply_mode == REPLY_SKIP_NEXT)
        c->reply_mode = REPLY_SKIP;
}

/* Now, or later: it is parked while the server is paused, or until a majority has confirmed. */
static enum call_result carry_out(struct call *c)
{
    enum call_result result;

    if (c->conn->tracking & TRACKING_NOTES)
        tracking_note(c);
    if (dispatch_paused(c, c->cmd->flags & CMD_WRITE))
        return call_park(c, c->srv->paused);
    if (reads_only(c->cmd) && !dispatch_confirmed(c, &result))
        return result;
    size_t mark = reply_mark(c->reply);
    result = fallback_refuses(c, c->cmd) ? CALL_DONE : c->cmd->fn(c);
    return result == CALL_DONE && fallback_is_wanted(c) ? fallback_ask(c, mark) : result;
}

enum dispatched dispatch(struct conn *c)
{
    struct io *io = c->io;
    int sub_unknown, behind = c->pendings > 0;
    struct buf *out = c->reply.b;
    struct call_databases databases = {.n = 0};
    struct call call = {
        .srv = io->srv,
        .io = io,
        .conn = c,
        .argc = (unsigned)c->parser.argc,
        .argv = c->parser.argv,
        .reply = &c->reply,
        .now_ms = io->now_ms,
        .databases = &databases,
        .ready = is_ready(io->srv), /* before the user is looked up: users are known first */
        .wakes = call_wakes(),
    };
    enum call_result result = CALL_DONE;

    call.cmd = command_find(call.argv, call.argc, &sub_unknown);
    if (!may_overlap(c, call.cmd))
        return DISPATCH_HOLD;
    conn_refresh_user(c);
    if (c->state == CONN_DEAD || c->state == CONN_CLOSING) /* its user is gone */
        return DISPATCH_DONE;
    if (behind)
        c->reply.b = &io->side;
    size_t mark = reply_mark(&c->reply);
    int in_exec = c->mode & CONN_MULTI && multi_under_way(c);
    int ran = in_exec || admit(&call, sub_unknown), in_queue = 0;
    if (!ran && c->mode & CONN_MULTI)
        multi_refused(&call, mark);
    if (ran && c->mode && !admit_by_mode(&call))
        in_queue = 1;
    if (ran) {
        c->last_cmd = call.cmd;
        c->last_bytes = c->held_used;
        if (!in_queue)
            result = carry_out(&call);
    }
    if (result == CALL_HOLD)
        return DISPATCH_HOLD;
    if (result == CALL_PARK) {
        assert(reply_mark(&c->reply) == mark && !c->reply.failed);
        c->reply.b = out;
        return c->park ? DISPATCH_PARK : DISPATCH_AGAIN;
    }
    if (ran) {
        c->commands++;
        stat_add(&io->stats.commands, 1);
        if (c->tracking)
            tracking_ran(c, call.cmd);
    }
    if (ran && !in_queue && atomic_load_explicit(&io->srv->monitors, memory_order_relaxed))
        monitor_feed(&call);
    if (result == CALL_DONE) {
        if (c->reply.failed)
            dispatch_mend_reply(c, mark);
        if (in_queue)
            io->mark_us = clock_mono_us(); /* counted when EXEC carries it out */
        else if (call.cmd)
            count(&call, c, mark, ran);
        else
            stats_note_answer(&io->stats, NULL, c->reply.b, mark);
        apply_reply_mode(c, call.cmd, mark);
    } else {
        assert(reply_mark(&c->reply) == mark && c->pendings);
        io->mark_us = clock_mono_us();
    }
    if (behind) {
        c->reply.b = out;
        if (buf_size(&io->side) && c->state != CONN_DEAD && call_queue_answer(c, call.cmd, &io->side))
            conn_kill(c); /* an answer that is left out would shift all that follow */
        buf_clear(&io->side);
        buf_shrink(&io->side, CONN_FLUSH_BYTES);
    }
    next_reply_mode(c);
    return DISPATCH_DONE;
}
