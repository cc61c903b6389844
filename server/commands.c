/* commands.c - the command table itself. A translation unit of its own, so that a test that wants other commands links
 * its own. */
#include "server/command.h"
#include "server/handlers.h"

/* clang-format off */
const struct command commands[] = {
#define COMMAND(name, arity, flags, categories, lane, keys, redact, group, since, complexity, args, summary, reply, fn) \
    {name, arity, flags, categories, lane, keys, redact, group, since, complexity, args, summary, reply, fn},
#define CONTAINER(name, arity, flags, categories, group, since, summary) \
    {name, arity, flags, categories, LANE_NONE, KEYS_NONE, 0, group, since, "Depends on the sub-command.", "", summary, "", NULL},
#include "server/commands.tbl.h"
#undef COMMAND
#undef CONTAINER
};
/* clang-format on */

const size_t commands_count = sizeof commands / sizeof commands[0];
