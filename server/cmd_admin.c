/* cmd_admin.c - INFO, TIME, ROLE, MONITOR, SHUTDOWN, SLOWLOG, DEBUG. */
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "resp/number.h"
#include "server/cmd_config.h"
#include "server/command.h"
#include "server/conn_private.h"
#include "server/handlers.h"
#include "server/info.h"
#include "server/monitor.h"
#include "server/slowlog.h"
#include "server/version.h"

static int is_word(struct bytes s, const char *word)
{
    return s.n == strlen(word) && strncasecmp((const char *)s.p, word, s.n) == 0;
}

enum call_result cmd_info(struct call *c)
{
    struct buf *b = &c->io->scratch;
    buf_clear(b);
    enum err e = info_text(c->srv, c->argv + 1, c->argc - 1, b);
    if (e)
        return call_error(c, e);
    reply_verbatim(c->reply, "txt", buf_bytes(b));
    return CALL_DONE;
}

enum call_result cmd_time(struct call *c)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    reply_array(c->reply, 2);
    reply_bulk_int(c->reply, t.tv_sec);
    reply_bulk_int(c->reply, t.tv_nsec / 1000);
    return CALL_DONE;
}

enum call_result cmd_role(struct call *c)
{
    int loading = atomic_load_explicit(&c->srv->loading, memory_order_acquire);
    reply_array(c->reply, 3);
    reply_bulk_str(c->reply, "master");
    reply_int(c->reply, loading || !c->srv->engine ? 0 : (int64_t)engine_commit_lsn(c->srv->engine));
    reply_array(c->reply, 0);
    return CALL_DONE;
}

enum call_result cmd_monitor(struct call *c)
{
    monitor_add(c);
    return CALL_DONE;
}

enum call_result cmd_lolwut(struct call *c)
{
    static const char text[] = "Coffer ver. " COFFER_VERSION "\n";
    reply_verbatim(c->reply, "txt", bytes_str(text));
    return CALL_DONE;
}

/* On success there is no answer: the connection closes when the server ends. */
enum call_result cmd_shutdown(struct call *c)
{
    int save = 0, nosave = 0, abort = 0, other = 0;
    for (unsigned i = 1; i < c->argc; i++) {
        save |= is_word(c->argv[i], "SAVE");
        nosave |= is_word(c->argv[i], "NOSAVE");
        abort |= is_word(c->argv[i], "ABORT");
        if (is_word(c->argv[i], "NOW") || is_word(c->argv[i], "FORCE"))
            other = 1;
        else if (!is_word(c->argv[i], "SAVE") && !is_word(c->argv[i], "NOSAVE") && !is_word(c->argv[i], "ABORT"))
            return call_error(c, ERR_SYNTAX);
    }
    if ((save && nosave) || (abort && (save || nosave || other)))
        return call_error(c, ERR_SYNTAX);
    if (abort)
        return call_errorf(c, ERR_SYNTAX, "No shutdown in progress.");
    if (!c->srv->stop)
        return call_error(c, ERR_UNSUPPORTED);
    c->srv->stop(c->srv, 0);
    return CALL_DONE;
}

/* ---- SLOWLOG ---- */

enum call_result slowlog_get(struct call *c)
{
    int64_t n = 10;
    if (c->argc > 3)
        return call_errorf(c, ERR_ARITY, "wrong number of arguments for 'slowlog|get' command");
    if (c->argc == 3 && !number_parse(c->argv[2], &n))
        return call_error(c, ERR_NOTINT);
    if (n < -1)
        return call_errorf(c, ERR_RANGE, "count should be greater than or equal to -1");
    slowlog_reply(c->srv->slowlog, n < 0 ? SIZE_MAX : (size_t)n, c->reply);
    return CALL_DONE;
}

enum call_result slowlog_len_cmd(struct call *c)
{
    reply_int(c->reply, (int64_t)slowlog_len(c->srv->slowlog));
    return CALL_DONE;
}

enum call_result slowlog_reset_cmd(struct call *c)
{
    slowlog_reset(c->srv->slowlog);
    reply_ok(c->reply);
    return CALL_DONE;
}

/* ---- DEBUG ---- */

struct nap {
    struct pending p;
    struct event *timer;
};

static void nap_over(evutil_socket_t fd, short what, void *arg)
{
    struct nap *n = arg;
    (void)fd;
    (void)what;
    pending_complete(&n->p);
}

static void nap_finish(struct pending *p, struct reply *r)
{
    (void)p;
    reply_ok(r);
}

static void nap_release(struct pending *p)
{
    struct nap *n = mpsc_entry(p, struct nap, p);
    event_free(n->timer);
    mem_free(n);
}

/* Answers late; unlike Redis's it stops nobody else. */
static enum call_result debug_sleep(struct call *c)
{
    char text[32], *end;
    size_t len = c->argv[2].n < sizeof text ? c->argv[2].n : sizeof text - 1;
    memcpy(text, c->argv[2].p, len);
    text[len] = 0;
    double seconds = strtod(text, &end);
    if (*end || !(seconds >= 0 && seconds < 1e6))
        return call_errorf(c, ERR_SYNTAX, "value is not a valid float");
    struct timeval tv = {.tv_sec = (time_t)seconds,
                         .tv_usec = (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6)};
    struct nap *n = mem_zalloc(sizeof *n);
    if (n)
        n->timer = event_new(c->io->base, -1, 0, nap_over, n);
    if (!n || !n->timer || event_add(n->timer, &tv) != 0) {
        if (n && n->timer)
            event_free(n->timer);
        mem_free(n);
        return call_error(c, ERR_OOM);
    }
    call_pending(c, &n->p, nap_finish, nap_release);
    return CALL_PENDING;
}

static enum call_result debug_log(struct call *c)
{
    log_at(LOG_WARNING, "DEBUG LOG: %.*s", (int)(c->argv[2].n < 512 ? c->argv[2].n : 512), (const char *)c->argv[2].p);
    reply_ok(c->reply);
    return CALL_DONE;
}

static void protocol_map(struct reply *r)
{
    reply_map(r, 3);
    for (int i = 0; i < 3; i++) {
        reply_int(r, i);
        reply_bool(r, i == 1);
    }
}

static void protocol_set(struct reply *r)
{
    reply_set(r, 3);
    for (int i = 0; i < 3; i++)
        reply_int(r, i);
}

static void protocol_array(struct reply *r)
{
    reply_array(r, 3);
    for (int i = 0; i < 3; i++)
        reply_int(r, i);
}

static enum call_result debug_protocol(struct call *c)
{
    struct reply *r = c->reply;
    struct bytes kind = c->argv[2];
    if (is_word(kind, "string"))
        reply_bulk_str(r, "Hello World");
    else if (is_word(kind, "integer"))
        reply_int(r, 12345);
    else if (is_word(kind, "double"))
        reply_double(r, 3.141);
    else if (is_word(kind, "null"))
        reply_nil(r);
    else if (is_word(kind, "array"))
        protocol_array(r);
    else if (is_word(kind, "set"))
        protocol_set(r);
    else if (is_word(kind, "map"))
        protocol_map(r);
    else if (is_word(kind, "bignum"))
        reply_big_number(r, bytes_str("1234567999999999999999999999999999999"));
    else if (is_word(kind, "true"))
        reply_bool(r, 1);
    else if (is_word(kind, "false"))
        reply_bool(r, 0);
    else if (is_word(kind, "verbatim"))
        reply_verbatim(r, "txt", bytes_str("This is a verbatim\nstring"));
    else
        return call_errorf(
            c, ERR_SYNTAX,
            "Wrong protocol type name. Please use one of the following: string|integer|double|null|array|set|map|"
            "attrib|push|verbatim|true|false");
    return CALL_DONE;
}

static enum call_result debug_help(struct call *c)
{
    static const char *const lines[] = {
        "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CONFIG-REWRITE-FORCE-ALL",
        "    CONFIG REWRITE with every directive.",
        "LOG <message>",
        "    Writes the message to the server's log.",
        "PROTOCOL <type>",
        "    Answers a value of that type.",
        "SLEEP <seconds>",
        "    Answers late.",
    };
    reply_array(c->reply, sizeof lines / sizeof lines[0]);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        reply_simple(c->reply, lines[i]);
    return CALL_DONE;
}

static const struct {
    const char *name;
    unsigned argc;
    call_fn fn;
} debugs[] = {
    {"SLEEP", 3, debug_sleep},       {"LOG", 3, debug_log},
    {"PROTOCOL", 3, debug_protocol}, {"CONFIG-REWRITE-FORCE-ALL", 2, config_rewrite_all},
    {"HELP", 2, debug_help},
};

enum call_result cmd_debug(struct call *c)
{
    enum { NO, YES, LOCAL };
    int64_t mode = config_int(c->srv->config, CFG_ENABLE_DEBUG_COMMAND);
    if (mode == NO || (mode == LOCAL && !conn_is_local(c->conn)))
        return call_errorf(
            c, ERR_SYNTAX,
            "DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from "
            "a local connection, otherwise you need to set this option in the configuration file, and then restart "
            "the server.");
    for (size_t i = 0; i < sizeof debugs / sizeof debugs[0]; i++)
        if (is_word(c->argv[1], debugs[i].name) && c->argc == debugs[i].argc)
            return debugs[i].fn(c);
    return call_errorf(c, ERR_UNKNOWNCMD, "unknown subcommand or wrong number of arguments for '%.*s'. Try DEBUG HELP.",
                       (int)(c->argv[1].n < 64 ? c->argv[1].n : 64), (const char *)c->argv[1].p);
}
