/* cmd_conn.c - PING, ECHO, HELLO, AUTH, SELECT, QUIT, RESET: what every client library says first. */
#include <stdio.h>

#include "resp/number.h"
#include "server/acl.h"
#include "server/acl_log.h"
#include "server/client.h"
#include "server/conn_private.h"
#include "server/handlers.h"
#include "server/repl.h"
#include "server/version.h"
#include "server/walcall.h"

/* Sentinel counts PONG, LOADING and MASTERDOWN as alive, nothing else: a sealed server must not be failed over for it,
 * a primary that is cut off from its voters must be (NOQUORUM). */
enum call_result cmd_ping(struct call *c)
{
    if (c->argc > 2)
        return call_errorf(c, ERR_ARITY, "wrong number of arguments for 'ping' command");
    if (!walcall_ready(c))
        return CALL_DONE;
    enum err e = repl_may_read(c->srv, c->io->now_us);
    if (e)
        return call_error(c, e);
    int listens = c->conn->mode & CONN_SUBSCRIBED && conn_proto(c->conn) == 2; /* and tells all by its first word */
    if (listens) {
        reply_array(c->reply, 2);
        reply_bulk_str(c->reply, "pong");
        reply_bulk(c->reply, c->argc == 2 ? c->argv[1] : bytes_of(NULL, 0));
    } else if (c->argc == 1)
        reply_simple(c->reply, "PONG");
    else
        reply_bulk(c->reply, c->argv[1]);
    return CALL_DONE;
}

enum call_result cmd_echo(struct call *c)
{
    reply_bulk(c->reply, c->argv[1]);
    return CALL_DONE;
}

/* 1: logged in. 0: an error was answered. */
static int log_in(struct call *c, struct bytes name, struct bytes password)
{
    struct acl_user *u;
    enum err e = acl_login(c->srv->acl, name, password, &u);
    if (e) {
        if (e == ERR_WRONGPASS) {
            stat_add(&io_stats(c->io)->auth_failures, 1);
            acl_log_add_login(c->srv->acl_log, c, name);
        }
        call_error(c, e);
        return 0;
    }
    conn_set_user(c->conn, u, 1);
    return 1;
}

enum call_result cmd_auth(struct call *c)
{
    if (c->argc > 3)
        return call_error(c, ERR_SYNTAX);
    if (c->argc == 2) {
        struct acl_user *u = acl_default(c->srv->acl);
        int nopass = acl_user_nopass(u);
        acl_user_unref(u);
        if (nopass)
            return call_errorf(c, ERR_SYNTAX,
                               "AUTH <password> called without any password configured for the default user. "
                               "Are you sure your configuration is correct?");
    }
    if (log_in(c, c->argc == 2 ? bytes_str("default") : c->argv[1], c->argv[c->argc - 1]))
        reply_ok(c->reply);
    return CALL_DONE;
}

static void reply_hello(struct call *c)
{
    struct reply *r = c->reply;
    reply_map(r, 7);
    reply_bulk_str(r, "server");
    reply_bulk_str(r, "redis");
    reply_bulk_str(r, "version");
    reply_bulk_str(r, COFFER_REDIS_VERSION);
    reply_bulk_str(r, "proto");
    reply_int(r, conn_proto(c->conn));
    reply_bulk_str(r, "id");
    reply_int(r, (int64_t)conn_id(c->conn));
    reply_bulk_str(r, "mode");
    reply_bulk_str(r, config_int(c->srv->config, CFG_CLUSTER_ENABLED) ? "cluster" : "standalone");
    reply_bulk_str(r, "role");
    reply_bulk_str(r, repl_is_master(c->srv) ? "master" : "replica");
    reply_bulk_str(r, "modules");
    reply_array(r, 0);
}

struct hello {
    int64_t proto; /* 0: as it is */
    int auth, setname;
    struct bytes user, password, name;
};

/* 1, or 0 when an error was answered. */
static int parse_hello(struct call *c, struct hello *h)
{
    *h = (struct hello){0};
    if (c->argc == 1)
        return 1;
    if (!number_parse(c->argv[1], &h->proto)) {
        call_errorf(c, ERR_SYNTAX, "Protocol version is not an integer or out of range");
        return 0;
    }
    if (h->proto != 2 && h->proto != 3) {
        call_error(c, ERR_NOPROTO);
        return 0;
    }
    for (unsigned i = 2; i < c->argc;) {
        unsigned more = c->argc - i - 1;
        if (bytes_is_word(c->argv[i], "AUTH") && more >= 2) {
            h->auth = 1;
            h->user = c->argv[i + 1];
            h->password = c->argv[i + 2];
            i += 3;
        } else if (bytes_is_word(c->argv[i], "SETNAME") && more >= 1) {
            h->setname = 1;
            h->name = c->argv[i + 1];
            i += 2;
        } else {
            int n = (int)(c->argv[i].n < 64 ? c->argv[i].n : 64);
            call_errorf(c, ERR_SYNTAX, "Syntax error in HELLO option '%.*s'", n, (const char *)c->argv[i].p);
            return 0;
        }
    }
    return 1;
}

enum call_result cmd_hello(struct call *c)
{
    struct hello h;
    if (!parse_hello(c, &h))
        return CALL_DONE;
    if (h.auth && !log_in(c, h.user, h.password))
        return CALL_DONE;
    if (!conn_authenticated(c->conn))
        return call_errorf(
            c, ERR_NOAUTH,
            "HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> "
            "<pass> option can be used to authenticate the client and select the RESP protocol version at the same "
            "time");
    if (h.setname && !client_set_text(c, &c->conn->name, h.name, "Client names"))
        return CALL_DONE;
    if (h.proto) {
        conn_set_proto(c->conn, (int)h.proto);
        c->reply->proto = (int)h.proto; /* in a transaction it is not the connection's */
    }
    reply_hello(c);
    return CALL_DONE;
}

enum call_result cmd_select(struct call *c)
{
    int64_t db;
    if (!number_parse(c->argv[1], &db))
        return call_error(c, ERR_NOTINT);
    if (config_int(c->srv->config, CFG_CLUSTER_ENABLED) && db != 0)
        return call_errorf(c, ERR_SYNTAX, "SELECT is not allowed in cluster mode");
    if (db < 0 || db >= config_int(c->srv->config, CFG_DATABASES))
        return call_errorf(c, ERR_RANGE, "DB index is out of range");
    conn_set_db(c->conn, (unsigned)db);
    reply_ok(c->reply);
    return CALL_DONE;
}

enum call_result cmd_quit(struct call *c)
{
    reply_ok(c->reply);
    conn_close_after_reply(c->conn);
    return CALL_DONE;
}

enum call_result cmd_reset(struct call *c)
{
    conn_reset(c->conn);
    reply_simple(c->reply, "RESET");
    return CALL_DONE;
}
