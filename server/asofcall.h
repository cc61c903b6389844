/* asofcall.h - what commands about the past (engine/asof.h) have in common. */
#ifndef COFFER_SERVER_ASOFCALL_H
#define COFFER_SERVER_ASOFCALL_H

#include "engine/asof.h"
#include "server/call.h"
#include "server/options.h"

/* The two options that name a moment: rows of an option table, in this order, and what they say in a query. */
#define ASOFCALL_LSN                                              \
    {                                                             \
        "LSN", OPTION_INT, .group = 1, .min = 1, .max = INT64_MAX \
    }
#define ASOFCALL_TIME                                              \
    {                                                              \
        "TIME", OPTION_INT, .group = 1, .min = 1, .max = INT64_MAX \
    }

/* On a chore's thread: calls look at the moment that q names, and once more from an older snapshot, if that gives the
 * same moment, when it says ERR_CORRUPT. Ends early, with ERR_AGAIN, when the server stops. Errors as asof_open, with
 * why (n bytes), and look's. */
must_use enum err asofcall_run(struct server *srv, struct asof_query *q, enum err (*look)(void *arg, struct asof *a),
                               void *arg, char *why, size_t n);

/* Replies such an error. */
void asofcall_error(struct reply *r, enum err err, const char *why);

/* DEBUG DIGEST: cmd_asof.c's. */
enum call_result debug_digest(struct call *c);

#endif
