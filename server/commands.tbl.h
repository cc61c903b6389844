/* commands.tbl.h - every command, one row each, a file a family.
 *
 *     COMMAND(name, arity, flags, categories, lane, keys, redact_from, group, since, complexity,
 *             args, summary, reply, fn)
 *
 *     CONTAINER(name, arity, flags, categories, group, since, summary)
 *
 * name         upper case; a sub-command is "CLIENT|ID" and its container has a row of its own: a CONTAINER when it does
 *              nothing by itself
 * arity        Redis's: exact, or the minimum when negative; counts the name (both words of a sub-command)
 * flags        CMD_* of command.h
 * categories   CAT_* beyond those that follow by themselves: CMD_FAST or not gives @fast or @slow, CMD_READ with keys
 *              @read, CMD_WRITE @write, CMD_ADMIN @admin and @dangerous, CMD_PUBSUB @pubsub, CMD_BLOCKING @blocking
 * lane, keys   LANE_*, KEYS_* of command.h
 * redact_from  with CMD_REDACT: the first argument (argv index) that never shows; else 0
 * group        "secret", "key", "vault", "string", "bitmap", "generic", "connection", "server", "log", "hsm", "transactions",
 *              "pubsub"
 * args         the syntax behind the name; see below
 * reply        one line for the reference
 * fn           enum call_result fn(struct call *c), declared by handlers.h from this table
 *
 * Syntax of args, from which COMMAND DOCS' tree is made (command_args.c):
 *     word                lower case: an argument; its type follows from its name: vault, key (the command's key),
 *                         count, version, seconds, ... (integer), pattern, glob (pattern), unix-time-... ; else a string
 *     WORD                upper case: a literal word; before a lower-case word it is that argument's token
 *     [ ... ]  < ... >    may be left out / must be there; A|B inside: one of
 *     x [x ...]           one or more times; x may be several words
 *     [x ...]             any number of times
 */
#include "server/commands_conn.tbl.h"
#include "server/commands_admin.tbl.h"
#if __has_include("server/commands_vault.tbl.h")
#include "server/commands_vault.tbl.h"
#endif
#if __has_include("server/commands_secret.tbl.h")
#include "server/commands_secret.tbl.h"
#endif
#if __has_include("server/commands_key.tbl.h")
#include "server/commands_key.tbl.h"
#endif
#include "server/commands_repl.tbl.h"
#if __has_include("server/commands_wal.tbl.h")
#include "server/commands_wal.tbl.h"
#endif
#if __has_include("server/commands_string.tbl.h")
#include "server/commands_string.tbl.h"
#endif
