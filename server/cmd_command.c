/* cmd_command.c - COMMAND and its sub-commands, HELP of every container, and docs/commands.md: all read off the command
 * table.
 *
 * redis-cli asserts the types of what COMMAND DOCS answers and aborts the user's prompt when one is wrong: names,
 * types, tokens, texts are bulk strings, flags are status strings, arguments are arrays of maps.
 */
#include "server/cmd_command.h"

#include <assert.h>
#include <stdio.h>

#include "base/glob.h"
#include "server/command.h"
#include "server/command_args.h"
#include "server/handlers.h"

static int is_top(const struct command *cmd)
{
    return !strchr(cmd->name, '|');
}

static int has_subs(const struct command *cmd)
{
    for (size_t i = 0; i < commands_count; i++)
        if (command_is_sub(cmd, &commands[i]))
            return 1;
    return 0;
}

static size_t count_top(void)
{
    size_t n = 0;
    for (size_t i = 0; i < commands_count; i++)
        n += (size_t)is_top(&commands[i]);
    return n;
}

static void reply_name(struct reply *r, const struct command *cmd)
{
    char name[COMMAND_NAME_MAX];
    reply_bulk(r, bytes_of(name, command_lower(cmd, name)));
}

/* ---- COMMAND INFO ---- */

static const struct {
    unsigned flag;
    const char *name[2];
} flag_names[] = {
    {CMD_WRITE, {"write", "denyoom"}},
    {CMD_READ, {"readonly"}},
    {CMD_ADMIN, {"admin"}},
    {CMD_PUBSUB, {"pubsub"}},
    {CMD_NOSCRIPT, {"noscript"}},
    {CMD_BLOCKING, {"blocking"}},
    {CMD_LOADING, {"loading", "stale"}},
    {CMD_FAST, {"fast"}},
    {CMD_NOAUTH, {"no_auth"}},
};

static void reply_flags(struct reply *r, const struct command *cmd)
{
    size_t mark = reply_mark(r), n = 0;
    for (size_t i = 0; i < sizeof flag_names / sizeof flag_names[0]; i++) {
        if (!(cmd->flags & flag_names[i].flag) || (flag_names[i].flag == CMD_READ && cmd->flags & CMD_WRITE))
            continue;
        for (unsigned k = 0; k < 2 && flag_names[i].name[k]; k++, n++)
            reply_simple(r, flag_names[i].name[k]);
    }
    reply_insert_set(r, mark, n);
}

static void reply_categories(struct reply *r, const struct command *cmd)
{
    unsigned cats = command_categories(cmd);
    size_t mark = reply_mark(r), n = 0;
    const char *name;
    for (unsigned bit = 0; (name = command_category_name(bit)); bit++) {
        char at[32];
        if (!(cats & 1u << bit))
            continue;
        snprintf(at, sizeof at, "@%s", name);
        reply_simple(r, at);
        n++;
    }
    reply_insert_set(r, mark, n);
}

/* ACLs ask for read permission where "access" is, for write permission where "update" is. */
static void reply_access(struct reply *r, unsigned access, int varies)
{
    int reads = (access & KEY_READS) != 0, writes = (access & KEY_WRITES) != 0;
    reply_set(r, 1 + (size_t)reads + (size_t)writes + (size_t)varies);
    reply_simple(r, reads && writes ? "RW" : writes ? "OW" : "RO");
    if (reads)
        reply_simple(r, "access");
    if (writes)
        reply_simple(r, "update");
    if (varies)
        reply_simple(r, "variable_flags");
}

static void reply_key_specs(struct reply *r, const struct command *cmd)
{
    int first, last, step;
    command_key_range(cmd, &first, &last, &step);
    reply_set(r, first ? 1 : 0);
    if (!first)
        return;
    reply_map(r, 3);
    int varies = (cmd->flags & (CMD_GETOPT | CMD_GETONLY)) != 0;
    reply_bulk_str(r, "flags");
    reply_access(r, command_access(cmd, NULL, 0, (unsigned)first) | (varies ? KEY_READS : 0u), varies);
    reply_bulk_str(r, "begin_search");
    reply_map(r, 2);
    reply_bulk_str(r, "type");
    reply_bulk_str(r, "index");
    reply_bulk_str(r, "spec");
    reply_map(r, 1);
    reply_bulk_str(r, "index");
    reply_int(r, first);
    reply_bulk_str(r, "find_keys");
    reply_map(r, 2);
    reply_bulk_str(r, "type");
    reply_bulk_str(r, "range");
    reply_bulk_str(r, "spec");
    reply_map(r, 3);
    reply_bulk_str(r, "lastkey");
    reply_int(r, last < 0 ? last : last - first);
    reply_bulk_str(r, "keystep");
    reply_int(r, step);
    reply_bulk_str(r, "limit");
    reply_int(r, 0);
}

static void reply_info(struct reply *r, const struct command *cmd)
{
    int first, last, step;
    command_key_range(cmd, &first, &last, &step);
    reply_array(r, 10);
    reply_name(r, cmd);
    reply_int(r, cmd->arity);
    reply_flags(r, cmd);
    reply_int(r, first);
    reply_int(r, last);
    reply_int(r, step);
    reply_categories(r, cmd);
    reply_set(r, 0); /* tips */
    reply_key_specs(r, cmd);
    size_t mark = reply_mark(r), n = 0;
    for (size_t i = 0; i < commands_count; i++) {
        if (!command_is_sub(cmd, &commands[i]))
            continue;
        reply_info(r, &commands[i]);
        n++;
    }
    reply_insert_array(r, mark, n);
}

enum call_result cmd_command(struct call *c)
{
    reply_array(c->reply, count_top());
    for (size_t i = 0; i < commands_count; i++)
        if (is_top(&commands[i]))
            reply_info(c->reply, &commands[i]);
    return CALL_DONE;
}

enum call_result cmd_command_info(struct call *c)
{
    if (c->argc == 2)
        return cmd_command(c);
    reply_array(c->reply, c->argc - 2);
    for (unsigned i = 2; i < c->argc; i++) {
        const struct command *cmd = command_by_name(c->argv[i]);
        if (cmd)
            reply_info(c->reply, cmd);
        else
            reply_nil(c->reply);
    }
    return CALL_DONE;
}

enum call_result cmd_command_count(struct call *c)
{
    reply_int(c->reply, (int64_t)count_top());
    return CALL_DONE;
}

/* ---- COMMAND DOCS ---- */

static void reply_pair(struct reply *r, const char *key, struct bytes value, size_t *pairs)
{
    reply_bulk_str(r, key);
    reply_bulk(r, value);
    ++*pairs;
}

static void reply_lower(struct reply *r, struct bytes s)
{
    uint8_t out[64];
    size_t n = s.n < sizeof out ? s.n : sizeof out;
    for (size_t i = 0; i < n; i++)
        out[i] = s.p[i] >= 'A' && s.p[i] <= 'Z' ? (uint8_t)(s.p[i] + 32) : s.p[i];
    reply_bulk(r, bytes_of(out, n));
}

static void reply_args(struct reply *r, const struct command_arg *a);

static void reply_arg(struct reply *r, const struct command_arg *a)
{
    size_t mark = reply_mark(r), pairs = 1;
    reply_bulk_str(r, "name");
    reply_lower(r, a->name);
    reply_pair(r, "type", bytes_str(a->type), &pairs);
    if (a->key_spec >= 0) {
        reply_bulk_str(r, "key_spec_index");
        reply_int(r, a->key_spec);
        pairs++;
    }
    if (a->token.n)
        reply_pair(r, "token", a->token, &pairs);
    if (a->optional || a->multiple) {
        reply_bulk_str(r, "flags");
        reply_set(r, (size_t)a->optional + a->multiple);
        if (a->optional)
            reply_simple(r, "optional");
        if (a->multiple)
            reply_simple(r, "multiple");
        pairs++;
    }
    if (a->child) {
        reply_bulk_str(r, "arguments");
        reply_args(r, a->child);
        pairs++;
    }
    reply_insert_map(r, mark, pairs);
}

static void reply_args(struct reply *r, const struct command_arg *a)
{
    size_t mark = reply_mark(r), n = 0;
    for (; a; a = a->next, n++)
        reply_arg(r, a);
    reply_insert_array(r, mark, n);
}

static void reply_docs(struct reply *r, const struct command *cmd)
{
    struct command_args args;
    size_t mark = reply_mark(r), pairs = 0;

    reply_pair(r, "summary", bytes_str(cmd->summary), &pairs);
    reply_pair(r, "since", bytes_str(cmd->since), &pairs);
    reply_pair(r, "group", bytes_str(cmd->group), &pairs);
    reply_pair(r, "complexity", bytes_str(cmd->complexity), &pairs);
    if (command_args_parse(cmd, &args) == ERR_OK && args.first) {
        reply_bulk_str(r, "arguments");
        reply_args(r, args.first);
        pairs++;
    }
    if (has_subs(cmd)) {
        size_t subs_mark, n = 0;
        reply_bulk_str(r, "subcommands");
        subs_mark = reply_mark(r);
        for (size_t i = 0; i < commands_count; i++) {
            if (!command_is_sub(cmd, &commands[i]))
                continue;
            reply_name(r, &commands[i]);
            reply_docs(r, &commands[i]);
            n++;
        }
        reply_insert_map(r, subs_mark, n);
        pairs++;
    }
    reply_insert_map(r, mark, pairs);
}

enum call_result cmd_command_docs(struct call *c)
{
    size_t mark = reply_mark(c->reply), n = 0;
    for (unsigned i = 2; i < c->argc; i++) {
        const struct command *cmd = command_by_name(c->argv[i]);
        if (!cmd)
            continue;
        reply_name(c->reply, cmd);
        reply_docs(c->reply, cmd);
        n++;
    }
    for (size_t i = 0; c->argc == 2 && i < commands_count; i++) {
        if (!is_top(&commands[i]))
            continue;
        reply_name(c->reply, &commands[i]);
        reply_docs(c->reply, &commands[i]);
        n++;
    }
    reply_insert_map(c->reply, mark, n);
    return CALL_DONE;
}

/* ---- COMMAND LIST ---- */

enum call_result cmd_command_list(struct call *c)
{
    struct bytes pattern = {NULL, 0};
    unsigned category = ~0u;
    if (c->argc != 2) {
        if (c->argc != 5 || !bytes_is_word(c->argv[2], "FILTERBY"))
            return call_error(c, ERR_SYNTAX);
        if (bytes_is_word(c->argv[3], "PATTERN"))
            pattern = c->argv[4];
        else if (bytes_is_word(c->argv[3], "ACLCAT"))
            category = command_category(c->argv[4]);
        else if (bytes_is_word(c->argv[3], "MODULE"))
            category = 0;
        else
            return call_error(c, ERR_SYNTAX);
    }
    size_t mark = reply_mark(c->reply), n = 0;
    for (size_t i = 0; i < commands_count; i++) {
        char name[COMMAND_NAME_MAX];
        size_t len = command_lower(&commands[i], name);
        if (!(command_categories(&commands[i]) & category) ||
            (pattern.p && !glob_match(pattern, bytes_of(name, len), 1)))
            continue;
        reply_bulk(c->reply, bytes_of(name, len));
        n++;
    }
    reply_insert_array(c->reply, mark, n);
    return CALL_DONE;
}

/* ---- COMMAND GETKEYS ---- */

/* The command that follows, when its keys can be told; else an error was answered. */
static const struct command *subject(struct call *c, int *first, int *last, int *step)
{
    int unknown;
    unsigned argc = c->argc - 2;
    const struct command *cmd = command_find(c->argv + 2, argc, &unknown);
    if (!cmd) {
        call_errorf(c, ERR_SYNTAX, "Invalid command specified");
        return NULL;
    }
    command_key_range(cmd, first, last, step);
    if (!*first) {
        call_errorf(c, ERR_SYNTAX, "The command has no key arguments");
        return NULL;
    }
    if (!command_arity_ok(cmd, argc)) {
        call_errorf(c, ERR_SYNTAX, "Invalid number of arguments specified for command");
        return NULL;
    }
    if (*last < 0)
        *last += (int)argc;
    return cmd;
}

enum call_result cmd_command_getkeys(struct call *c)
{
    int first, last, step;
    size_t mark = reply_mark(c->reply), n = 0;
    if (!subject(c, &first, &last, &step))
        return CALL_DONE;
    for (int i = first; i <= last; i += step, n++)
        reply_bulk(c->reply, c->argv[2 + i]);
    reply_insert_array(c->reply, mark, n);
    return CALL_DONE;
}

enum call_result cmd_command_getkeysandflags(struct call *c)
{
    int first, last, step;
    size_t mark = reply_mark(c->reply), n = 0;
    const struct command *cmd = subject(c, &first, &last, &step);
    if (!cmd)
        return CALL_DONE;
    for (int i = first; i <= last; i += step, n++) {
        reply_array(c->reply, 2);
        reply_bulk(c->reply, c->argv[2 + i]);
        reply_access(c->reply, command_access(cmd, c->argv + 2, c->argc - 2, (unsigned)i), 0);
    }
    reply_insert_array(c->reply, mark, n);
    return CALL_DONE;
}

/* ---- HELP of any container ---- */

enum call_result cmd_help(struct call *c)
{
    size_t n = strcspn(c->cmd->name, "|"), mark = reply_mark(c->reply), lines = 1;
    char line[512];
    snprintf(line, sizeof line, "%.*s <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", (int)n, c->cmd->name);
    reply_simple(c->reply, line);
    for (size_t i = 0; i < commands_count; i++) {
        const struct command *sub = &commands[i];
        if (strncmp(sub->name, c->cmd->name, n) != 0 || sub->name[n] != '|')
            continue;
        snprintf(line, sizeof line, "%s%s%s", sub->name + n + 1, *sub->args ? " " : "", sub->args);
        reply_simple(c->reply, line);
        snprintf(line, sizeof line, "    %s.", sub->summary);
        reply_simple(c->reply, line);
        lines += 2;
    }
    reply_insert_array(c->reply, mark, lines);
    return CALL_DONE;
}

/* ---- docs/commands.md ---- */

static const struct {
    const char *group, *title;
} groups[] = {
    {"secret", "Secrets"},
    {"key", "Keys"},
    {"vault", "Vaults"},
    {"string", "String facade"},
    {"bitmap", "String facade, bits"},
    {"generic", "Facade, any type"},
    {"transactions", "Transactions"},
    {"pubsub", "Publish and subscribe"},
    {"log", "Log and snapshots"},
    {"hsm", "HSM"},
    {"migration", "Migration"},
    {"cluster", "Cells"},
    {"connection", "Connections"},
    {"server", "Server"},
};

#define PUT(...) (e = e ? e : buf_putf(out, __VA_ARGS__))

/* Bars end a table's cell. */
static enum err put_cell(struct buf *out, const char *s)
{
    enum err e = ERR_OK;
    for (; *s && !e; s++)
        e = *s == '|' ? buf_put(out, "\\|", 2) : buf_put_u8(out, (uint8_t)*s);
    return e;
}

static enum err print_row(struct buf *out, const struct command *cmd)
{
    char name[COMMAND_NAME_MAX];
    enum err e = ERR_OK;
    snprintf(name, sizeof name, "%s", cmd->name);
    char *bar = strchr(name, '|');
    if (bar)
        *bar = ' ';
    PUT("| `%s%s", name, cmd->args[0] ? " " : "");
    e = e ? e : put_cell(out, cmd->args);
    PUT("` | ");
    e = e ? e : put_cell(out, cmd->summary);
    PUT(" | ");
    e = e ? e : put_cell(out, cmd->reply);
    PUT(" | %s |", cmd->complexity);
    unsigned cats = command_categories(cmd);
    for (unsigned bit = 0; command_category_name(bit); bit++)
        if (cats & 1u << bit)
            PUT(" @%s", command_category_name(bit));
    PUT(" |\n");
    return e;
}

enum err command_print_reference(struct buf *out)
{
    enum err e = ERR_OK;
    PUT("# Commands\n\nPrinted by `coffer-server --print-command-reference` from server/commands*.tbl.h; do not "
        "edit.\n");
    for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
        int any = 0;
        for (size_t i = 0; i < commands_count; i++) {
            if (strcmp(commands[i].group, groups[g].group) != 0 || !commands[i].fn)
                continue;
            if (!any++)
                PUT("\n## %s\n\n| command | what it does | reply | complexity | categories |\n| --- | --- | --- | --- "
                    "| --- |\n",
                    groups[g].title);
            e = e ? e : print_row(out, &commands[i]);
        }
    }
    PUT("\n## Errors\n\n| code | meaning | repeat as it is? |\n| --- | --- | --- |\n");
    for (int code = 1; code < ERR_COUNT_; code++)
        PUT("| `%s` | %s | %s |\n", err_prefix((enum err)code), err_text((enum err)code),
            err_retryable((enum err)code) ? "yes" : "no");
    return e;
}
