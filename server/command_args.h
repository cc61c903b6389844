/* command_args.h - the syntax string of a command's row as a tree, for COMMAND DOCS.
 *
 *     "vault path value [NX|XX|CAS version] [EX seconds]"
 *
 *     vault (key)  path  value  oneof? { NX, XX, version token CAS }  seconds? token EX
 *
 * commands.tbl.h has the grammar. The tree lies in the caller's pool; names point into the syntax string. Pure
 * functions, any thread.
 */
#ifndef COFFER_SERVER_COMMAND_ARGS_H
#define COFFER_SERVER_COMMAND_ARGS_H

#include "base/bytes.h"
#include "base/err.h"
#include "server/command.h"

#define COMMAND_ARGS_MAX 64 /* nodes of one command */

struct command_arg {
    struct bytes name;  /* as in the syntax string, upper case for a pure token */
    struct bytes token; /* empty: none */
    const char *type;   /* key, string, integer, double, pattern, unix-time, pure-token, oneof, block */
    int key_spec;       /* 0 for a key; else -1 */
    uint8_t optional, multiple;
    struct command_arg *child, *next;
};

struct command_args {
    struct command_arg node[COMMAND_ARGS_MAX];
    unsigned used;
    struct command_arg *first;
};

/* ERR_SYNTAX: the string is malformed, which a test makes sure no row is. */
must_use enum err command_args_parse(const struct command *cmd, struct command_args *out);

#endif
