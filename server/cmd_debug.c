/* cmd_debug.c - DEBUG: for tests, and only where enable-debug-command says so. */
#include <event2/event.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/hex.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/access.h"
#include "server/asofcall.h"
#include "server/cmd_config.h"
#include "server/conn_private.h"
#include "server/facade.h"
#include "server/handlers.h"

struct nap {
    struct pending p;
    struct event *timer;
    uint64_t until_us;
};

static int nap_arm(struct nap *n)
{
    uint64_t now = clock_mono_us(), us = n->until_us > now ? n->until_us - now : 0;
    struct timeval tv = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};
    return event_add(n->timer, &tv);
}

/* A loop that is behind lets its timers go a little early; LATENCY would tell. */
static void nap_over(evutil_socket_t fd, short what, void *arg)
{
    struct nap *n = arg;
    (void)fd;
    (void)what;
    if (clock_mono_us() >= n->until_us || nap_arm(n) != 0)
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
    struct nap *n = mem_zalloc(sizeof *n);
    if (n) {
        n->until_us = clock_mono_us() + (uint64_t)(seconds * 1e6);
        n->timer = event_new(c->io->base, -1, 0, nap_over, n);
    }
    if (!n || !n->timer || nap_arm(n) != 0) {
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
    if (bytes_is_word(kind, "string"))
        reply_bulk_str(r, "Hello World");
    else if (bytes_is_word(kind, "integer"))
        reply_int(r, 12345);
    else if (bytes_is_word(kind, "double"))
        reply_double(r, 3.141);
    else if (bytes_is_word(kind, "null"))
        reply_nil(r);
    else if (bytes_is_word(kind, "array"))
        protocol_array(r);
    else if (bytes_is_word(kind, "set"))
        protocol_set(r);
    else if (bytes_is_word(kind, "map"))
        protocol_map(r);
    else if (bytes_is_word(kind, "bignum"))
        reply_big_number(r, bytes_str("1234567999999999999999999999999999999"));
    else if (bytes_is_word(kind, "true"))
        reply_bool(r, 1);
    else if (bytes_is_word(kind, "false"))
        reply_bool(r, 0);
    else if (bytes_is_word(kind, "verbatim"))
        reply_verbatim(r, "txt", bytes_str("This is a verbatim\nstring"));
    else
        return call_errorf(
            c, ERR_SYNTAX,
            "Wrong protocol type name. Please use one of the following: string|integer|double|null|array|set|map|"
            "attrib|push|verbatim|true|false");
    return CALL_DONE;
}

/* ---- secrets ---- */

static const struct bytes none = {NULL, 0};

/* 1: actively, as always. 0: what expires stays where it is, hidden. */
static enum call_result debug_set_active_expire(struct call *c)
{
    if (!bytes_is_word(c->argv[2], "0") && !bytes_is_word(c->argv[2], "1"))
        return call_error(c, ERR_SYNTAX);
    enum err err = c->ready;
    if (err)
        return call_error(c, err);
    engine_expire_actively(c->srv->engine, bytes_is_word(c->argv[2], "1"));
    reply_ok(c->reply);
    return CALL_DONE;
}

/* A hash of the value, so that a test can compare two. zeros: there is none. */
static enum err reply_digest(struct call *c, struct bytes key)
{
    uint8_t hash[SHA256_DIGEST_LENGTH] = {0};
    char hex[41] = "";
    struct buf value;
    int there;
    buf_init_secret(&value, SEAL_VALUE_MAX);
    enum err err = facade_value(c, key, NULL, &value, &there);
    if (!err && there)
        SHA256(buf_data(&value), buf_size(&value), hash);
    buf_fini(&value);
    if (err)
        return err;
    hex_put(hex, hash, 20);
    reply_simple(c->reply, hex);
    return ERR_OK;
}

static enum call_result debug_digest_value(struct call *c)
{
    size_t mark = reply_mark(c->reply);
    enum err ready = c->ready;
    if (ready)
        return call_error(c, ready);
    reply_array(c->reply, c->argc - 2);
    for (unsigned i = 2; i < c->argc; i++) {
        enum err err = reply_digest(c, c->argv[i]);
        if (err) {
            reply_rewind(c->reply, mark);
            return access_fail(c, err, none);
        }
    }
    return CALL_DONE;
}

/* In Redis's form; of what it tells only the length means anything here. Of what is expired and still there, too. */
static enum call_result debug_object(struct call *c)
{
    struct facade_key k;
    struct secret_view view;
    struct secret_version v = {0};
    char line[128];
    enum err err = c->ready;
    if (err)
        return call_error(c, err);
    err = facade_resolve(c, c->argv[2], 0, &k);
    if (err == ERR_OK)
        err = access_read_head(c, k.vault, k.path, &view);
    if (err == ERR_OK && view.head.state == SECRET_DELETED) {
        secret_view_release(&view);
        err = ERR_NOTFOUND;
    }
    if (err == ERR_NOTFOUND || err == ERR_BADPATH)
        return call_errorf(c, ERR_NOTFOUND, "no such key");
    if (err)
        return access_fail(c, err, none);
    secret_version_find(&view.head, view.head.current, &v);
    snprintf(line, sizeof line, "Value at:0x0 refcount:1 encoding:raw serializedlength:%u lru:0 lru_seconds_idle:0",
             v.sealed_bytes);
    secret_view_release(&view);
    reply_simple(c->reply, line);
    return CALL_DONE;
}

/* What answers wait in does not outlive them, so there is nothing to keep from shrinking. */
static enum call_result debug_replybuffer(struct call *c)
{
    reply_ok(c->reply);
    return CALL_DONE;
}

static enum call_result debug_help(struct call *c)
{
    static const char *const lines[] = {
        "DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CONFIG-REWRITE-FORCE-ALL",
        "    CONFIG REWRITE with every directive.",
        "DIGEST",
        "    Answers a hash of the state as of the last committed record.",
        "DIGEST-VALUE <key> [<key> ...]",
        "    Answers a hash of each value, zeros when there is none.",
        "LOG <message>",
        "    Writes the message to the server's log.",
        "OBJECT <key>",
        "    Answers how many sealed bytes the value has.",
        "PROTOCOL <type>",
        "    Answers a value of that type.",
        "REPLYBUFFER RESIZING <0|1>",
        "    Accepted: buffers of answers do not outlive them.",
        "SET-ACTIVE-EXPIRE <0|1>",
        "    With 0 what expires is hidden, but stays where it is.",
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
    int arity; /* as in the command table */
    call_fn fn;
} debugs[] = {
    {"SLEEP", 3, debug_sleep},
    {"LOG", 3, debug_log},
    {"PROTOCOL", 3, debug_protocol},
    {"CONFIG-REWRITE-FORCE-ALL", 2, config_rewrite_all},
    {"SET-ACTIVE-EXPIRE", 3, debug_set_active_expire},
    {"DIGEST", 2, debug_digest},
    {"DIGEST-VALUE", -3, debug_digest_value},
    {"OBJECT", 3, debug_object},
    {"REPLYBUFFER", 4, debug_replybuffer},
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
        if (bytes_is_word(c->argv[1], debugs[i].name) &&
            (debugs[i].arity >= 0 ? c->argc == (unsigned)debugs[i].arity : c->argc >= (unsigned)-debugs[i].arity))
            return debugs[i].fn(c);
    return call_errorf(c, ERR_UNKNOWNCMD, "unknown subcommand or wrong number of arguments for '%.*s'. Try DEBUG HELP.",
                       (int)(c->argv[1].n < 64 ? c->argv[1].n : 64), (const char *)c->argv[1].p);
}
