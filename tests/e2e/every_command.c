/* Every row of the command table, at least once, in RESP2 and in RESP3.
 *
 * The table below has an example of each command and what its answer begins with. A command without an example fails
 * the test, and so does an example of no command: who adds a command adds its line. Examples run from top to bottom on
 * one server, each on a connection of its own, so that one that changes its connection (MULTI, CLIENT REPLY) disturbs
 * none.
 *
 * In an example, @v is a vault's name, another one for each protocol, @port the server's TCP port, and @NAME what an
 * earlier example's answer was kept as.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>

#include "server/command.h"
#include "tests/lib/e2e.h"

struct example {
    const char *name; /* row of the table, lower case */
    const char *args; /* words behind it */
    const char *want; /* beginning of the answer in RESP3, as e2e.h shows it; "": none comes */
    const char *keep; /* keep the answer's text as this, or NULL */
};

static const struct example examples[] = {
#define EXAMPLE(...) {__VA_ARGS__},
#include "tests/e2e/every_command.tbl.h"
#undef EXAMPLE
};

#define EXAMPLES (sizeof examples / sizeof *examples)
#define WORDS 32

/* ---- words with answers of earlier examples in them ---- */

struct kept {
    char name[32];
    char *text;
    size_t n;
};
static struct kept kept[16];

static void keep(const char *name, struct bytes text)
{
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        struct kept *k = &kept[i];
        if (k->name[0] && strcmp(k->name, name) != 0)
            continue;
        free(k->text);
        k->n = text.n;
        k->text = malloc(text.n + 1);
        assert_non_null(k->text);
        if (text.n)
            memcpy(k->text, text.p, text.n);
        k->text[text.n] = 0;
        snprintf(k->name, sizeof k->name, "%s", name);
        return;
    }
    fail_msg("too many answers kept");
}

static void keep_text(const char *name, const char *text)
{
    keep(name, bytes_str(text));
}

static struct bytes word(const char *w)
{
    if (w[0] != '@')
        return bytes_str(w);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        if (strcmp(kept[i].name, w + 1) == 0)
            return bytes_of(kept[i].text, kept[i].n);
    }
    fail_msg("no answer was kept as %s", w);
    return bytes_of(NULL, 0);
}

struct words {
    char text[512];
    const char *v[WORDS];
    size_t n[WORDS];
    int count;
};

/* "client|id" is two words. */
static void split(struct words *w, const char *name, const char *args)
{
    char *save = NULL;

    w->count = 0;
    assert_true(snprintf(w->text, sizeof w->text, "%s %s", name, args) < (int)sizeof w->text);
    for (char *c = w->text; *c && *c != ' '; c++)
        *c = *c == '|' ? ' ' : *c;
    for (char *t = strtok_r(w->text, " ", &save); t; t = strtok_r(NULL, " ", &save)) {
        assert_true(w->count < WORDS);
        struct bytes b = word(t);
        w->v[w->count] = b.n ? (const char *)b.p : "";
        w->n[w->count++] = b.n;
    }
}

/* ---- calling ---- */

static const struct answer *call(struct e2e_raw *r, const struct words *w)
{
    char *command;
    int n = redisFormatCommandArgv(&command, w->count, (const char **)(uintptr_t)w->v, w->n);

    assert_true(n > 0);
    e2e_raw_send(r, command, (size_t)n);
    redisFreeCommand(command);
    return e2e_raw_next(r);
}

/* What RESP3 says in a type of its own RESP2 says in an older one. Types are told by a character where a value begins.
 */
static void as_resp2(char *want)
{
    static const struct {
        const char *from, *to;
    } older[] = {{"{", "["}, {"~[", "["}, {">[", "["}, {"#", ":"}, {",", "$"}, {"=txt:", "$"}};

    for (char *at = want; *at; at++) {
        if (at > want && at[-1] != ' ' && at[-1] != '[')
            continue;
        for (size_t i = 0; i < sizeof older / sizeof *older; i++) {
            size_t from = strlen(older[i].from);
            if (strncmp(at, older[i].from, from) == 0) {
                memmove(at + 1, at + from, strlen(at + from) + 1);
                *at = older[i].to[0];
                break;
            }
        }
    }
}

static void open_as(struct e2e_raw *r, const struct e2e *s, int proto)
{
    if (proto == 3)
        e2e_raw_open3(r, s);
    else
        e2e_raw_open(r, s);
}

static int run_example(const struct e2e *s, const struct example *x, int proto)
{
    struct words w;
    struct e2e_raw r;
    char want[256], *got;
    int good;

    open_as(&r, s, proto);
    split(&w, x->name, x->args);
    const struct answer *a = call(&r, &w);
    got = a ? e2e_show_answer(a) : strdup("");
    snprintf(want, sizeof want, "%s", x->want);
    if (proto == 2)
        as_resp2(want);
    good = x->want[0] ? strncmp(got, want, strlen(want)) == 0 : !a;
    if (!good)
        fprintf(stderr, "# RESP%d: %s %s\n#     wanted %s...\n#     got    %.300s\n", proto, x->name, x->args, want,
                got);
    if (x->keep && a)
        keep(x->keep, a->type == ANSWER_ARRAY && a->count ? a->item[a->count - 1]->text : a->text);
    free(got);
    e2e_raw_close(&r);
    return good;
}

static void forget(void)
{
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        free(kept[i].text);
    memset(kept, 0, sizeof kept);
}

static void keep_pin(const struct e2e *s)
{
    char path[E2E_PATH + 16], pin[128] = "";
    FILE *f;

    snprintf(path, sizeof path, "%s/hsm/pin", s->dir);
    f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(pin, sizeof pin, f));
    fclose(f);
    pin[strcspn(pin, "\n")] = 0;
    keep_text("pin", pin);
}

static void run_all(int proto)
{
    struct e2e s;
    char port[16];
    size_t bad = 0;

    e2e_start(&s, "--port", "auto", "--enable-debug-command", "yes", NULL);
    keep_text("v", proto == 3 ? "three" : "two");
    snprintf(port, sizeof port, "%d", s.port);
    keep_text("port", port);
    keep_pin(&s);
    for (size_t i = 0; i < EXAMPLES; i++)
        bad += !run_example(&s, &examples[i], proto);
    forget();
    if (bad)
        fail_msg("%zu of %zu examples were answered otherwise", bad, EXAMPLES);
    e2e_wait(&s); /* the last example is SHUTDOWN */
    e2e_finish(&s);
}

static void test_every_example_resp2(void **state)
{
    (void)state;
    run_all(2);
}

static void test_every_example_resp3(void **state)
{
    (void)state;
    run_all(3);
}

/* ---- the table and the examples agree ---- */

static int has_example(const char *name)
{
    for (size_t i = 0; i < EXAMPLES; i++) {
        if (strcasecmp(examples[i].name, name) == 0)
            return 1;
    }
    return 0;
}

/* What COMMAND LIST says is what counts; a container that does nothing by itself needs no example. */
static void test_every_command_has_an_example(void **state)
{
    struct e2e s;
    size_t bad = 0;

    (void)state;
    e2e_start(&s, NULL);
    redisReply *list = e2e_command(s.c, "COMMAND LIST FILTERBY PATTERN *");
    assert_int_equal(list->type, REDIS_REPLY_ARRAY);
    assert_int_equal(list->elements, commands_count);
    for (size_t i = 0; i < list->elements; i++) {
        const struct command *cmd = command_by_name(bytes_str(list->element[i]->str));
        assert_non_null(cmd);
        if (cmd->fn && !has_example(list->element[i]->str)) {
            fprintf(stderr, "# no example of %s\n", list->element[i]->str);
            bad++;
        }
    }
    freeReplyObject(list);
    for (size_t i = 0; i < EXAMPLES; i++) {
        if (!command_by_name(bytes_str(examples[i].name))) {
            fprintf(stderr, "# %s is no command\n", examples[i].name);
            bad++;
        }
    }
    assert_int_equal(bad, 0);
    e2e_finish(&s);
}

/* ---- arity ---- */

/* Calls it with n words, its name's included; the answer must be the arity error. */
static int refuses(const struct e2e *s, const struct command *cmd, int n, int proto)
{
    struct words w;
    struct e2e_raw r;
    char name[COMMAND_NAME_MAX], want[128], *got;
    int good;

    command_lower(cmd, name);
    split(&w, name, "");
    while (w.count < n) {
        w.v[w.count] = "x";
        w.n[w.count++] = 1;
    }
    snprintf(want, sizeof want, "-ERR wrong number of arguments for '%s' command", name);
    open_as(&r, s, proto);
    const struct answer *a = call(&r, &w);
    got = a ? e2e_show_answer(a) : strdup("(closed)");
    good = strcmp(want, got) == 0;
    if (!good)
        fprintf(stderr, "# RESP%d: %s with %d words: %.200s\n", proto, name, n, got);
    free(got);
    e2e_raw_close(&r);
    return good;
}

static void test_wrong_arity_is_refused(void **state)
{
    struct e2e s;
    size_t bad = 0;

    (void)state;
    e2e_start(&s, NULL);
    for (size_t i = 0; i < commands_count; i++) {
        const struct command *cmd = &commands[i];
        int least = abs(cmd->arity), shortest = strchr(cmd->name, '|') ? 2 : 1;
        for (int proto = 2; proto <= 3; proto++) {
            bad += least > shortest && !refuses(&s, cmd, least - 1, proto);
            bad += cmd->arity > 0 && !refuses(&s, cmd, least + 1, proto);
        }
    }
    assert_int_equal(bad, 0);
    e2e_finish(&s);
}

#define TEST(f) cmocka_unit_test_teardown(f, e2e_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_every_command_has_an_example),
        TEST(test_every_example_resp2),
        TEST(test_every_example_resp3),
        TEST(test_wrong_arity_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
