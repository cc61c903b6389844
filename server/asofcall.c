/* asofcall.c - see asofcall.h. */
#include "server/asofcall.h"

#include <stdio.h>

#include "server/chores.h"
#include "server/server.h"

static int stopping(void *arg)
{
    return chores_stopping(((struct server *)arg)->chores);
}

enum err asofcall_run(struct server *srv, struct asof_query *q, enum err (*look)(void *arg, struct asof *a), void *arg,
                      char *why, size_t n)
{
    struct asof_moment m = {0};
    struct asof *a;
    enum err err;

    q->stop = stopping;
    q->arg = srv;
    while ((err = asof_open(&a, srv->engine, q, why, n)) == ERR_OK) {
        asof_moment(a, &m);
        err = look(arg, a);
        asof_close(a);
        if (err != ERR_CORRUPT || !m.snapshot_lsn)
            return err;
        q->snapshots_below = m.snapshot_lsn;
        if (!q->time_ms)
            q->lsn = m.lsn;
    }
    if (err == ERR_RANGE && q->snapshots_below) { /* there was such a moment, but not without the damaged block */
        snprintf(why, n, "the snapshot at LSN %llu, or the log behind it, has damage",
                 (unsigned long long)q->snapshots_below);
        err = ERR_CORRUPT;
    }
    return err;
}

void asofcall_error(struct reply *r, enum err err, const char *why)
{
    if (err == ERR_AGAIN)
        reply_errorf(r, "ERR", "the server is stopping");
    else if (why[0])
        reply_errorf(r, err_prefix(err), "%s", why);
    else
        reply_error(r, err);
}
