/* The command table and what is read off it: look-up, keys, argument trees, COMMAND's replies, the reference. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "resp/answer.h"
#include "server/cmd_command.h"
#include "server/command.h"
#include "server/command_args.h"
#include "server/handlers.h"

static struct bytes words[64];
static char text[4096];

/* Splits at blanks into words; returns how many. */
static unsigned argv_of(const char *line)
{
    unsigned n = 0;
    snprintf(text, sizeof text, "%s", line);
    for (char *w = strtok(text, " "); w; w = strtok(NULL, " "))
        words[n++] = bytes_str(w);
    return n;
}

static const struct command *find(const char *line)
{
    int unknown;
    return command_find(words, argv_of(line), &unknown);
}

static void every_row_is_found_in_any_case(void **state)
{
    (void)state;
    for (size_t i = 0; i < commands_count; i++) {
        char name[COMMAND_NAME_MAX];
        command_lower(&commands[i], name);
        char *bar = strchr(name, '|');
        if (bar)
            *bar = ' ';
        assert_ptr_equal(find(name), &commands[i]);
        for (char *p = name; *p; p++)
            *p = (char)((p - name) & 1 ? toupper(*p) : *p);
        assert_ptr_equal(find(name), &commands[i]);
        assert_int_equal(command_index(&commands[i]), i);
        assert_ptr_equal(command_by_name(bytes_str(commands[i].name)), &commands[i]);
    }
}

static void what_is_not_there_is_not_found(void **state)
{
    static const char *const names[] = {
        "", "x", "getx", "ge", "secret", "secret.", "client|id", "SECRET.GETSECRET.GETSECRET.GETSECRET.GETSECRET.GET"};
    static const uint8_t nul[] = "GET\0X", container[] = "CLIENT\0";
    int unknown;
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct bytes w = bytes_str(names[i]);
        assert_null(command_find(&w, 1, &unknown)); /* "client|id" in one word is a row for COMMAND INFO alone */
        assert_int_equal(unknown, 0);
    }
    struct bytes w = bytes_of(nul, 5);
    assert_null(command_find(&w, 1, &unknown));
    w = bytes_of(container, 7);
    assert_null(command_find(&w, 1, &unknown));
    assert_null(command_find(words, argv_of("client nosuch"), &unknown));
    assert_int_equal(unknown, 1);
    assert_non_null(command_find(words, argv_of("client"), &unknown));
    assert_int_equal(unknown, 0);
}

/* Least number of words of a sequence of arguments, and whether there can be more. */
static unsigned least(const struct command_arg *a, int *open)
{
    unsigned n = 0;
    for (; a; a = a->next) {
        unsigned own = a->token.n && strcmp(a->type, "pure-token") != 0;
        int inner = 0;
        if (strcmp(a->type, "oneof") == 0) {
            unsigned best = ~0u, most = 0;
            for (const struct command_arg *alt = a->child; alt; alt = alt->next) {
                struct command_arg one = *alt;
                one.next = NULL;
                unsigned m = least(&one, &inner);
                best = m < best ? m : best;
                most = m > most ? m : most;
            }
            own += best;
            inner |= best != most;
        } else {
            own += a->child ? least(a->child, &inner) : 1;
        }
        *open |= inner || a->optional || a->multiple;
        n += a->optional ? 0 : own;
    }
    return n;
}

static void rows_are_sound(void **state)
{
    (void)state;
    for (size_t i = 0; i < commands_count; i++) {
        const struct command *cmd = &commands[i];
        struct command_args args;
        int open = 0, sub = strchr(cmd->name, '|') != NULL;
        print_message("%s\n", cmd->name);
        for (const char *p = cmd->name; *p; p++)
            assert_false(islower(*p));
        assert_true(cmd->summary[0] && cmd->group[0] && cmd->since[0] && cmd->complexity[0]);
        assert_int_equal(cmd->summary[strlen(cmd->summary) - 1] == '.', 0);
        assert_int_equal((cmd->flags & CMD_REDACT) != 0, cmd->redact_from > 0);
        if (!cmd->fn) {
            char help[COMMAND_NAME_MAX + 8];
            snprintf(help, sizeof help, "%s|HELP", cmd->name);
            assert_non_null(command_by_name(bytes_str(help)));
            continue;
        }
        assert_true(cmd->reply[0]);
        assert_int_equal(command_args_parse(cmd, &args), ERR_OK);
        unsigned n = least(args.first, &open) + 1 + (unsigned)sub;
        if (strcmp(cmd->name, "COMMAND") == 0 ||
            strcmp(cmd->name, "QUIT") == 0) /* a container too; takes whatever follows */
            open = 1;
        assert_int_equal(cmd->arity < 0, open);
        assert_true(open ? abs(cmd->arity) >= (int)n
                         : cmd->arity == (int)n); /* some want at least one of their options */
        /* what writes goes through the log, and so is never answered at once */
        if (cmd->flags & CMD_WRITE)
            assert_true(cmd->lane != LANE_NONE);
    }
}

static void args_become_trees(void **state)
{
    struct command cmd = {.name = "X",
                          .keys = KEYS_VAULT_ONE,
                          .args = "vault path value [NX|XX|CAS version] [EX seconds] [GET] <ON|OFF> [a b ...]"};
    struct command_args a;
    (void)state;
    assert_int_equal(command_args_parse(&cmd, &a), ERR_OK);
    const struct command_arg *n = a.first;
    assert_string_equal(n->type, "key");
    assert_int_equal(n->key_spec, 0);
    n = n->next->next;
    assert_true(bytes_equal(n->name, bytes_str("value")));
    assert_string_equal(n->type, "string");
    n = n->next;
    assert_string_equal(n->type, "oneof");
    assert_int_equal(n->optional, 1);
    assert_string_equal(n->child->type, "pure-token");
    assert_true(bytes_equal(n->child->next->next->token, bytes_str("CAS")));
    assert_string_equal(n->child->next->next->type, "integer");
    n = n->next;
    assert_true(bytes_equal(n->token, bytes_str("EX")) && n->optional);
    n = n->next;
    assert_string_equal(n->type, "pure-token");
    n = n->next;
    assert_string_equal(n->type, "oneof");
    assert_int_equal(n->optional, 0);
    n = n->next;
    assert_string_equal(n->type, "block");
    assert_true(n->optional && n->multiple);
    assert_null(n->next);

    cmd.args = "key value [key value ...]";
    cmd.keys = KEYS_PAIRS;
    assert_int_equal(command_args_parse(&cmd, &a), ERR_OK);
    assert_string_equal(a.first->type, "block");
    assert_true(a.first->multiple && !a.first->optional && !a.first->next);
    assert_string_equal(a.first->child->type, "key");

    cmd.args = "pattern [pattern ...]";
    assert_int_equal(command_args_parse(&cmd, &a), ERR_OK);
    assert_true(a.first->multiple && !a.first->next);
    assert_string_equal(a.first->type, "pattern");

    static const char *const bad[] = {"[", "]", "a]", "[]", "a [b", "a|b", "<>", "..."};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cmd.args = bad[i];
        assert_int_equal(command_args_parse(&cmd, &a), ERR_SYNTAX);
    }
}

static char seen[512];

static int note_key(void *arg, const struct command_key *key)
{
    (void)arg;
    strncat(seen, (const char *)key->name.p, key->name.n);
    strcat(seen, " ");
    return 0;
}

static void expect_keys(enum command_keys keys, const char *line, const char *want)
{
    struct command cmd = {.name = "X", .keys = keys};
    struct buf b;
    unsigned argc = argv_of(line);
    buf_init(&b, 4096);
    seen[0] = 0;
    unsigned to = command_target(&cmd, words, argc, 3);
    assert_int_equal(command_keys_each(&cmd, words, argc, 3, to, &b, note_key, NULL), 0);
    assert_string_equal(seen, want);
    buf_fini(&b);
}

static void keys_are_canonical(void **state)
{
    (void)state;
    expect_keys(KEYS_NONE, "x a b", "");
    expect_keys(KEYS_VAULT, "x v", "{v} ");
    expect_keys(KEYS_FOLDER, "x v", "{v}/ ");
    expect_keys(KEYS_FOLDER, "x v a", "{v}/a/ ");
    expect_keys(KEYS_FOLDER, "x v a/b/ COUNT 3", "{v}/a/b/ ");
    expect_keys(KEYS_FOLDER, "x v count 3", "{v}/ ");
    expect_keys(KEYS_VAULT_ONE, "x v p q", "{v}/p ");
    expect_keys(KEYS_VAULT_MANY, "x v p q r", "{v}/p {v}/q {v}/r ");
    expect_keys(KEYS_VAULT_PAIRS, "x v p 1 q 2", "{v}/p {v}/q ");
    expect_keys(KEYS_ONE, "x k v", "{db3}/k ");
    expect_keys(KEYS_MANY, "x k {other}/p {odd}k", "{db3}/k {other}/p {db3}/{odd}k ");
    expect_keys(KEYS_PAIRS, "x k 1 l 2", "{db3}/k {db3}/l ");
    expect_keys(KEYS_TWO, "x k l m", "{db3}/k {db3}/l ");
    expect_keys(KEYS_SECOND, "x sub k l", "{db3}/k ");
    expect_keys(KEYS_RESULT, "x op k l m", "{db3}/k {db3}/l {db3}/m ");
    /* where it is written to counts, not where the client is */
    expect_keys(KEYS_COPY, "x k l REPLACE", "{db3}/k {db3}/l ");
    expect_keys(KEYS_COPY, "x k l REPLACE db 5", "{db3}/k {db5}/l ");
    expect_keys(KEYS_COPY, "x k {v}/l DB 5", "{db3}/k {v}/l ");
    expect_keys(KEYS_COPY, "x k l DB", "{db3}/k {db3}/l ");
    expect_keys(KEYS_MOVE, "x k 7", "{db3}/k {db7}/k ");
    expect_keys(KEYS_MOVE, "x k word", "{db3}/k {db3}/k ");
}

/* ---- replies ---- */

static struct buf out;
static struct answer_parser parser;

static const struct answer *call(call_fn fn, const char *line, int proto)
{
    struct reply r;
    size_t used;
    buf_clear(&out);
    reply_init(&r, &out, proto);
    struct call c = {.argc = argv_of(line), .argv = words, .reply = &r};
    int unknown;
    c.cmd = command_find(c.argv, c.argc, &unknown);
    assert_int_equal(fn(&c), CALL_DONE);
    assert_int_equal(r.failed, ERR_OK);
    assert_int_equal(answer_parse(&parser, buf_bytes(&out), &used), ANSWER_READY);
    assert_int_equal(used, buf_size(&out));
    return parser.root;
}

static void check_info(const struct answer *a, int proto)
{
    enum answer_type set = proto == 3 ? ANSWER_SET : ANSWER_ARRAY;
    assert_int_equal(a->type, ANSWER_ARRAY);
    assert_int_equal(a->count, 10);
    assert_int_equal(a->item[0]->type, ANSWER_BULK);
    assert_int_equal(a->item[1]->type, ANSWER_INTEGER);
    assert_int_equal(a->item[2]->type, set);
    for (size_t i = 0; i < a->item[2]->count; i++)
        assert_int_equal(a->item[2]->item[i]->type, ANSWER_STATUS);
    for (size_t i = 3; i < 6; i++)
        assert_int_equal(a->item[i]->type, ANSWER_INTEGER);
    for (size_t i = 0; i < a->item[6]->count; i++) {
        assert_int_equal(a->item[6]->item[i]->type, ANSWER_STATUS);
        assert_int_equal(a->item[6]->item[i]->text.p[0], '@');
    }
    assert_int_equal(a->item[8]->type, set);
    for (size_t i = 0; i < a->item[9]->count; i++)
        check_info(a->item[9]->item[i], proto);
}

static void command_info_has_redis_shape(void **state)
{
    (void)state;
    for (int proto = 2; proto <= 3; proto++) {
        const struct answer *a = call(cmd_command, "COMMAND", proto);
        assert_int_equal(a->type, ANSWER_ARRAY);
        assert_true(a->count > 50);
        for (size_t i = 0; i < a->count; i++)
            check_info(a->item[i], proto);
    }
    const struct answer *a = call(cmd_command_info, "COMMAND INFO get nosuch config|set", 2);
    assert_int_equal(a->count, 3);
    assert_true(answer_is(a->item[0]->item[0], "get"));
    assert_int_equal(a->item[0]->item[3]->integer, 1);
    assert_int_equal(a->item[1]->type, ANSWER_NIL);
    assert_true(answer_is(a->item[2]->item[0], "config|set"));
}

/* The asserts of redis-cli.c 7.0.15, lines 553 to 720. */
static void check_args(const struct answer *list, enum answer_type map, enum answer_type set)
{
    static const char *const types[] = {"key",       "string",     "integer", "double", "pattern",
                                        "unix-time", "pure-token", "oneof",   "block"};
    assert_int_equal(list->type, ANSWER_ARRAY);
    for (size_t i = 0; i < list->count; i++) {
        const struct answer *a = list->item[i], *type = answer_get(a, "type"), *flags = answer_get(a, "flags"),
                            *token = answer_get(a, "token");
        int known = 0;
        assert_int_equal(a->type, map);
        assert_int_equal(answer_get(a, "name")->type, ANSWER_BULK);
        assert_int_equal(type->type, ANSWER_BULK);
        for (size_t k = 0; k < sizeof types / sizeof types[0]; k++)
            known |= answer_is(type, types[k]);
        assert_true(known);
        assert_true(!token || token->type == ANSWER_BULK);
        if (answer_is(type, "pure-token"))
            assert_non_null(token);
        assert_true(!flags || flags->type == set);
        for (size_t k = 0; flags && k < flags->count; k++)
            assert_int_equal(flags->item[k]->type, ANSWER_STATUS);
        if (answer_is(type, "oneof") || answer_is(type, "block"))
            check_args(answer_get(a, "arguments"), map, set);
    }
}

static void check_docs(const struct answer *docs, enum answer_type map, enum answer_type set)
{
    static const char *const texts[] = {"summary", "since", "group", "complexity"};
    assert_int_equal(docs->type, map);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(answer_get(docs, texts[i])->type, ANSWER_BULK);
    if (answer_get(docs, "arguments"))
        check_args(answer_get(docs, "arguments"), map, set);
    const struct answer *subs = answer_get(docs, "subcommands");
    if (!subs)
        return;
    assert_int_equal(subs->type, map);
    for (size_t i = 0; i < subs->count; i += 2) {
        assert_non_null(memchr(subs->item[i]->text.p, '|', subs->item[i]->text.n));
        check_docs(subs->item[i + 1], map, set);
    }
}

static void command_docs_has_redis_shape(void **state)
{
    (void)state;
    for (int proto = 2; proto <= 3; proto++) {
        enum answer_type map = proto == 3 ? ANSWER_MAP : ANSWER_ARRAY, set = proto == 3 ? ANSWER_SET : ANSWER_ARRAY;
        const struct answer *a = call(cmd_command_docs, "COMMAND DOCS", proto);
        assert_int_equal(a->type, map);
        for (size_t i = 0; i < a->count; i += 2) {
            assert_int_equal(a->item[i]->type, ANSWER_BULK);
            check_docs(a->item[i + 1], map, set);
        }
    }
    const struct answer *a = call(cmd_command_docs, "COMMAND DOCS nosuch get", 3);
    assert_int_equal(a->count, 2);
}

static void command_lists_and_counts(void **state)
{
    (void)state;
    const struct answer *a = call(cmd_command_count, "COMMAND COUNT", 2);
    int64_t n = a->integer;
    a = call(cmd_command_list, "COMMAND LIST", 2);
    assert_int_equal(a->count, commands_count);
    assert_true(n < (int64_t)commands_count);
    a = call(cmd_command_list, "COMMAND LIST FILTERBY PATTERN client|set*", 2);
    assert_int_equal(a->count, 2);
    a = call(cmd_command_list, "COMMAND LIST FILTERBY ACLCAT connection", 2);
    assert_true(a->count > 5);
    a = call(cmd_command_list, "COMMAND LIST FILTERBY MODULE foo", 2);
    assert_int_equal(a->count, 0);
    a = call(cmd_command_list, "COMMAND LIST FILTERBY foo bar", 2);
    assert_int_equal(a->type, ANSWER_ERROR);
}

static void command_getkeys(void **state)
{
    (void)state;
    const struct answer *a = call(cmd_command_getkeys, "COMMAND GETKEYS mget a b", 2);
    assert_int_equal(a->count, 2);
    assert_true(answer_is(a->item[1], "b"));
    a = call(cmd_command_getkeys, "COMMAND GETKEYS secret.set v p x", 2);
    assert_int_equal(a->count, 1);
    assert_true(answer_is(a->item[0], "v"));
    a = call(cmd_command_getkeys, "COMMAND GETKEYS nosuch", 2);
    assert_true(answer_is(a, "ERR Invalid command specified"));
    a = call(cmd_command_getkeys, "COMMAND GETKEYS ping", 2);
    assert_true(answer_is(a, "ERR The command has no key arguments"));
    a = call(cmd_command_getkeys, "COMMAND GETKEYS get", 2);
    assert_true(answer_is(a, "ERR Invalid number of arguments specified for command"));
    a = call(cmd_command_getkeysandflags, "COMMAND GETKEYSANDFLAGS get k", 2);
    assert_true(answer_is(a->item[0]->item[1]->item[0], "RO"));
    assert_true(answer_is(a->item[0]->item[1]->item[1], "access"));
}

/* What COMMAND GETKEYSANDFLAGS says of each key, "R", "W" or "RW" behind its name. */
static void expect_access(const char *line, const char *want)
{
    static const char *const kinds[][2] = {{"RO", "R"}, {"OW", "W"}, {"RW", "RW"}};
    const struct answer *a = call(cmd_command_getkeysandflags, line, 2);
    seen[0] = 0;
    assert_int_equal(a->type, ANSWER_ARRAY);
    for (size_t i = 0; i < a->count; i++) {
        strncat(seen, (const char *)a->item[i]->item[0]->text.p, a->item[i]->item[0]->text.n);
        for (size_t k = 0; k < 3; k++)
            if (answer_is(a->item[i]->item[1]->item[0], kinds[k][0]))
                strcat(strcat(seen, ":"), kinds[k][1]);
        strcat(seen, " ");
    }
    assert_string_equal(seen, want);
}

static void what_is_done_to_keys(void **state)
{
    (void)state;
    expect_access("COMMAND GETKEYSANDFLAGS copy a b", "a:R b:W ");
    expect_access("COMMAND GETKEYSANDFLAGS rename a b", "a:RW b:W ");
    expect_access("COMMAND GETKEYSANDFLAGS lcs a b LEN", "a:R b:R ");
    expect_access("COMMAND GETKEYSANDFLAGS bitop and d a b", "d:W a:R b:R ");
    expect_access("COMMAND GETKEYSANDFLAGS setbit a 1 1", "a:RW ");
    expect_access("COMMAND GETKEYSANDFLAGS bitfield a", "a:R ");
    expect_access("COMMAND GETKEYSANDFLAGS bitfield a get u8 0 overflow sat GET u8 1", "a:R ");
    expect_access("COMMAND GETKEYSANDFLAGS bitfield a get u8 0 set u8 0 1", "a:RW ");
    expect_access("COMMAND GETKEYSANDFLAGS bitfield a get u8", "a:RW "); /* not well-formed: all of it */
    expect_access("COMMAND GETKEYSANDFLAGS bitfield_ro a get u8 0", "a:R ");
}

static void the_reference_has_every_command(void **state)
{
    struct buf b;
    (void)state;
    buf_init(&b, SIZE_MAX / 4);
    assert_int_equal(command_print_reference(&b), ERR_OK);
    for (size_t i = 0; i < commands_count; i++) {
        char name[COMMAND_NAME_MAX + 4];
        if (!commands[i].fn)
            continue;
        snprintf(name, sizeof name, "| `%s", commands[i].name);
        char *bar = strchr(name + 2, '|');
        if (bar)
            *bar = ' ';
        if (!memmem(buf_data(&b), buf_size(&b), name, strlen(name)))
            fail_msg("%s is of a group that the reference does not know", commands[i].name);
    }
    buf_fini(&b);
}

static int set_up(void **state)
{
    (void)state;
    buf_init(&out, SIZE_MAX / 4);
    answer_parser_init(&parser, &answer_default_limits, 0);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    buf_fini(&out);
    answer_parser_fini(&parser);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_found_in_any_case),
        cmocka_unit_test(what_is_not_there_is_not_found),
        cmocka_unit_test(rows_are_sound),
        cmocka_unit_test(args_become_trees),
        cmocka_unit_test(keys_are_canonical),
        cmocka_unit_test(command_info_has_redis_shape),
        cmocka_unit_test(command_docs_has_redis_shape),
        cmocka_unit_test(command_lists_and_counts),
        cmocka_unit_test(command_getkeys),
        cmocka_unit_test(what_is_done_to_keys),
        cmocka_unit_test(the_reference_has_every_command),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
