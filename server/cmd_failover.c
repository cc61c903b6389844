/* cmd_failover.c - FAILOVER; see repl.h. */

#include "base/log.h"
#include "resp/number.h"
#include "server/conn.h"
#include "server/handlers.h"
#include "server/repl.h"

/* [TO host port [FORCE]] [ABORT] [TIMEOUT ms]. 1, or 0 when an error was answered. */
static int parse_failover(struct call *c, struct repl_failover_order *o, int *abort)
{
    int64_t n;
    *abort = 0;
    for (unsigned i = 1; i < c->argc; i++) {
        if (bytes_is_word(c->argv[i], "TIMEOUT") && i + 1 < c->argc && !o->timeout_ms) {
            if (!number_parse(c->argv[++i], &n))
                return call_error(c, ERR_NOTINT), 0;
            if (n <= 0)
                return call_errorf(c, ERR_SYNTAX, "FAILOVER timeout must be greater than 0"), 0;
            o->timeout_ms = (uint64_t)n;
        } else if (bytes_is_word(c->argv[i], "ABORT") && !*abort) {
            *abort = 1;
        } else if (bytes_is_word(c->argv[i], "FORCE") && !o->force) {
            o->force = 1;
        } else if (bytes_is_word(c->argv[i], "TO") && i + 2 < c->argc && !o->host[0]) {
            if (!bytes_to_str(c->argv[++i], o->host, sizeof o->host) || !number_parse(c->argv[++i], &n) || n < 1 ||
                n > 65535)
                return call_error(c, ERR_NOTINT), 0;
            o->port = (int)n;
        } else {
            return call_error(c, ERR_SYNTAX), 0;
        }
    }
    return 1;
}

static enum call_result abort_failover(struct call *c)
{
    enum err e = repl_failover_abort(c->srv->repl);
    if (e == ERR_NOTFOUND)
        return call_errorf(c, ERR_SYNTAX, "No failover in progress.");
    if (e)
        return call_error(c, e);
    reply_ok(c->reply);
    return CALL_DONE;
}

enum call_result cmd_failover(struct call *c)
{
    struct repl_failover_order o = {0};
    const char *why;
    int abort;

    if (!c->srv->repl)
        return call_error(c, ERR_UNSUPPORTED);
    if (!parse_failover(c, &o, &abort))
        return CALL_DONE;
    if (abort && c->argc > 2)
        return call_error(c, ERR_SYNTAX);
    if (abort)
        return abort_failover(c);
    if (o.force && (!o.timeout_ms || !o.host[0]))
        return call_errorf(c, ERR_SYNTAX, "FAILOVER with force option requires both a timeout and target HOST and IP.");
    enum err e = repl_failover(c->srv->repl, &o, &why);
    if (e == ERR_RANGE)
        return call_errorf(c, ERR_SYNTAX, "%s", why);
    if (e)
        return call_error(c, e);
    log_at(LOG_NOTICE, "FAILOVER by %s", conn_peer(c->conn));
    reply_ok(c->reply);
    return CALL_DONE;
}
