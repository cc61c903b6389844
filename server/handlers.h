/* handlers.h - prototypes of all handlers, made from the command table. Every cmd_*.c includes it. */
#ifndef COFFER_SERVER_HANDLERS_H
#define COFFER_SERVER_HANDLERS_H

#include "server/call.h"

#define COMMAND(name, arity, flags, categories, lane, keys, redact, group, since, complexity, args, summary, reply, \
                fn)                                                                                                 \
    enum call_result fn(struct call *c);
#define CONTAINER(name, arity, flags, categories, group, since, summary)
#include "server/commands.tbl.h"
#undef COMMAND
#undef CONTAINER

#endif
