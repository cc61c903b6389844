/* cmd_admin.c - INFO, TIME, MONITOR, SHUTDOWN, SLOWLOG, DEBUG. */
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "resp/number.h"
#include "server/cmd_config.h"
#include "server/command.h"
#include "server/conn_private.h"
#include "server/handlers.h"
#include "server/info.h"
#include "server/leave.h"
#include "server/monitor.h"
#include "server/options.h"
#include "server/slowlog.h"
#include "server/version.h"

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
    enum { SAVE = 1, NOSAVE = 2, NOW = 4, FORCE = 8, ABORT = 16 };
    static const char *const words[] = {"SAVE", "NOSAVE", "NOW", "FORCE", "ABORT", NULL};
    unsigned given = 0;
    for (unsigned i = 1; i < c->argc; i++) {
        int word = options_word(c->argv[i], words);
        if (word < 0)
            return call_error(c, ERR_SYNTAX);
        given |= 1u << word;
    }
    if ((given & SAVE && given & NOSAVE) || (given & ABORT && given != ABORT))
        return call_error(c, ERR_SYNTAX);
    if (!c->srv->leave)
        return call_error(c, ERR_UNSUPPORTED);
    if (!(given & ABORT))
        return leave_ask(c->srv->leave, c, (given & NOW) != 0);
    if (!leave_abort(c->srv->leave))
        return call_errorf(c, ERR_SYNTAX, "No shutdown in progress.");
    reply_ok(c->reply);
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
