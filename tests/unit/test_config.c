/* Directives: the table, files, the command line, CONFIG SET with hooks, CONFIG REWRITE, the reference. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/file.h"
#include "server/config.h"

static char dir[64];
static char warned[4096];

static void warn(void *arg, const char *line)
{
    (void)arg;
    strncat(warned, line, sizeof warned - strlen(warned) - 2);
    strcat(warned, "\n");
}

static struct config_loader loader = {.warn = warn};

static struct config *fresh(void)
{
    struct config *c;
    warned[0] = 0;
    assert_int_equal(config_new(&c), ERR_OK);
    return c;
}

static const char *path_of(const char *name)
{
    static char path[2][128];
    static int turn;
    turn ^= 1;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static void write_file(const char *name, const char *content)
{
    assert_int_equal(file_write_atomic(path_of(name), bytes_str(content), 0600), ERR_OK);
}

static void expect_file(const char *name, const char *content)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    assert_int_equal(file_read_all(path_of(name), &b, 1 << 20), ERR_OK);
    assert_int_equal(buf_put_u8(&b, 0), ERR_OK);
    assert_string_equal((char *)buf_data(&b), content);
    buf_fini(&b);
}

static void expect(struct config *c, const char *name, const char *value)
{
    struct buf b;
    enum config_id id = config_find(bytes_str(name));
    assert_int_not_equal(id, CFG_COUNT);
    buf_init(&b, 1 << 20);
    assert_int_equal(config_show(c, id, &b), ERR_OK);
    assert_int_equal(buf_put_u8(&b, 0), ERR_OK);
    assert_string_equal((char *)buf_data(&b), value);
    buf_fini(&b);
}

static enum err load(struct config *c, const char *text)
{
    return config_load_text(c, bytes_str(text), "test.conf", &loader);
}

static char said[512];

static enum err set(struct config *c, const char *const *words)
{
    struct bytes pairs[16];
    unsigned n = 0;
    while (words[n]) {
        pairs[n] = bytes_str(words[n]);
        n++;
    }
    return config_set(c, pairs, n / 2, 0, said, sizeof said);
}
#define SET(c, ...) set(c, (const char *const[]){__VA_ARGS__, NULL})

/* ---- tests ---- */

static void defaults_are_those_of_the_table(void **state)
{
    struct config *c = fresh();
    (void)state;
    expect(c, "port", "7379");
    expect(c, "secret-max-bytes", "1048576");
    expect(c, "secret-recovery-window", "604800");
    expect(c, "loglevel", "notice");
    expect(c, "client-output-buffer-limit", "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60");
    expect(c, "slave-priority", "100");
    assert_int_equal(config_int(c, CFG_PROTECTED_MODE), 1);
    assert_string_equal(config_str(c, CFG_HSM_TOKEN), "coffer");
    config_free(c);
}

static void a_file_is_read_as_redis_does(void **state)
{
    struct config *c = fresh();
    (void)state;
    assert_int_equal(load(c, "# comment\n"
                             "\n"
                             "  PORT 7001\r\n"
                             "bind 127.0.0.1 ::1\n"
                             "requirepass \"two words \\x41\\\"\"\n"
                             "masterauth 'single \\' quote'\n"
                             "maxclients 5\n"
                             "maxclients 6\n"
                             "save 900 1\n"
                             "save 300 10\n"
                             "user ann on >pw ~* +@all\n"
                             "user \"b b\" off\n"
                             "client-output-buffer-limit normal 1mb 2kb 3\n"
                             "client-output-buffer-limit replica 1k 0 0\n"
                             "no-such-thing hunter2\n"
                             "slave-priority 7\n"
                             "latency-tracking-info-percentiles 0.0 50.00 99.9\n"
                             "cache-size 2GB"),
                     ERR_OK);
    expect(c, "port", "7001");
    expect(c, "bind", "127.0.0.1 ::1");
    expect(c, "requirepass", "two words A\"");
    expect(c, "masterauth", "single ' quote");
    expect(c, "maxclients", "6");
    expect(c, "save", "900 1 300 10");
    expect(c, "user", "ann on >pw ~* +@all\n\"b b\" off\n");
    expect(c, "client-output-buffer-limit", "normal 1048576 2048 3 slave 1000 0 0 pubsub 33554432 8388608 60");
    expect(c, "replica-priority", "7");
    expect(c, "latency-tracking-info-percentiles", "0 50 99.9");
    expect(c, "cache-size", "2147483648");
    assert_string_equal(warned, "test.conf, line 15: unknown directive 'no-such-thing' is ignored\n");
    config_free(c);
}

static void a_wrong_line_is_named(void **state)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"port 1\nport x", "test.conf, line 2: 'port \"x\"': argument couldn't be parsed into an integer"},
        {"port 70000", "test.conf, line 1: 'port \"70000\"': argument must be between 0 and 65535 inclusive"},
        {"port", "test.conf, line 1: 'port': wrong number of arguments"},
        {"port 1 2", "test.conf, line 1: 'port \"1\" \"2\"': wrong number of arguments"},
        {"protected-mode maybe", "test.conf, line 1: 'protected-mode \"maybe\"': argument must be 'yes' or 'no'"},
        {"cache-size 1tb", "test.conf, line 1: 'cache-size \"1tb\"': argument must be a memory value"},
        {"cache-size 99999999999999999999",
         "test.conf, line 1: 'cache-size \"99999999999999999999\"': argument must be a memory value"},
        {"loglevel loud",
         "test.conf, line 1: 'loglevel \"loud\"': argument(s) must be one of the following: debug, verbose, "
         "notice, warning, nothing"},
        {"dir \"open", "test.conf, line 1: '': unbalanced quotes, or too many words"},
        {"dir \"a\"b", "test.conf, line 1: '': unbalanced quotes, or too many words"},
        {"unixsocketperm 999",
         "test.conf, line 1: 'unixsocketperm \"999\"': argument couldn't be parsed into an integer"},
        {"unixsocketperm 1777",
         "test.conf, line 1: 'unixsocketperm \"1777\"': argument must be between 0 and 777 inclusive"},
        {"client-output-buffer-limit odd 0 0 0",
         "test.conf, line 1: 'client-output-buffer-limit \"odd\" \"0\" \"0\" \"0\"': Invalid client "
         "class specified in buffer limit configuration."},
        {"secret-recovery-window 7y",
         "test.conf, line 1: 'secret-recovery-window \"7y\"': argument must be a number of "
         "seconds, or one with s, m, h, d or w"},
        {"latency-tracking-info-percentiles 50 101", "test.conf, line 1: 'latency-tracking-info-percentiles \"50\" "
                                                     "\"101\"': latency-tracking-info-percentiles wants numbers "
                                                     "from 0 to 100"},
        {"requirepass hunter2 hunter3", "test.conf, line 1: 'requirepass': wrong number of arguments"},
        {"replicaof host abc", "test.conf, line 1: 'replicaof \"host\" \"abc\"': Invalid master port"},
        {"replicaof host", "test.conf, line 1: 'replicaof \"host\"': wrong number of arguments"},
        {"shutdown-on-sigterm", "test.conf, line 1: 'shutdown-on-sigterm': argument(s) must be one of the following: "
                                "default, save, nosave, now, force"},
        {"maxmemory-clients 101%",
         "test.conf, line 1: 'maxmemory-clients \"101%\"': percentage argument must be less or equal to 100"},
        {"include /nonexistent/x", "/nonexistent/x: no such file"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config *c = fresh();
        if (load(c, cases[i].text) == ERR_OK)
            fail_msg("was accepted: %s", cases[i].text);
        assert_string_equal(loader.error, cases[i].error);
        config_free(c);
    }
}

static void files_include_files(void **state)
{
    struct config *c = fresh();
    char text[256];
    (void)state;
    write_file("inner.conf", "port 7005\nmaxclients 9\n");
    snprintf(text, sizeof text, "port 1\ninclude %s\nmaxclients 10\n", path_of("inner.conf"));
    write_file("outer.conf", text);
    assert_int_equal(config_load_file(c, path_of("outer.conf"), &loader), ERR_OK);
    expect(c, "port", "7005");
    expect(c, "maxclients", "10");
    assert_string_equal(c->path, path_of("outer.conf"));
    snprintf(text, sizeof text, "include %s\n", path_of("loop.conf"));
    write_file("loop.conf", text);
    assert_int_equal(config_load_file(c, path_of("loop.conf"), &loader), ERR_SYNTAX);
    assert_non_null(strstr(loader.error, "include each other too deeply"));
    config_free(c);
}

static void the_command_line_comes_last(void **state)
{
    struct config *c = fresh();
    write_file("c.conf", "port 7001\nmaxclients 3\n");
    char *argv[] = {(char *)(uintptr_t)path_of("c.conf"),
                    "--port",
                    "7002",
                    "--bind",
                    "127.0.0.1",
                    "::1",
                    "--save",
                    "",
                    "--loglevel",
                    "debug"};
    (void)state;
    assert_int_equal(config_load_args(c, 10, argv, &loader), ERR_OK);
    expect(c, "port", "7002");
    expect(c, "maxclients", "3");
    expect(c, "bind", "127.0.0.1 ::1");
    expect(c, "loglevel", "debug");
    char *bad[] = {"--port", "x"};
    assert_int_equal(config_load_args(c, 2, bad, &loader), ERR_SYNTAX);
    assert_string_equal(loader.error, "command line: 'port \"x\"': argument couldn't be parsed into an integer");
    static const struct { /* as Redis takes them */
        const char *argv[6], *name, *value;
    } forms[] = {
        {{"--maxmemory 700mb"}, "maxmemory", "734003200"},
        {{"loglevel", "verbose"}, "loglevel", "verbose"},
        {{"--maxmemory '7mb'"}, "maxmemory", "7340032"},
        {{"--proc-title-template", "--my--title"}, "proc-title-template", "--my--title"},
        {{"--proc-title-template --your--title"}, "proc-title-template", "--your--title"},
        {{"--save", "--timeout", "3"}, "save", ""},
        {{"--save", "100", "10"}, "save", "100 10"},
        {{"--save", "5", "1"}, "save", "100 10 5 1"},
        {{"--timeout", "4", "--save"}, "save", ""},
        {{"--shutdown-on-sigint", "nosave", "force", "now"}, "shutdown-on-sigint", "nosave now force"},
        {{"--shutdown-on-sigint", "nosave force"}, "shutdown-on-sigint", "nosave force"},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        char *words[7] = {(char *)(uintptr_t) "/dev/null"};
        int n = 1;
        while (n < 7 && forms[i].argv[n - 1]) {
            words[n] = (char *)(uintptr_t)forms[i].argv[n - 1];
            n++;
        }
        assert_int_equal(config_load_args(c, n, words, &loader), ERR_OK);
        expect(c, forms[i].name, forms[i].value);
    }
    char *odd[] = {"--port", "1", "2"};
    assert_int_equal(config_load_args(c, 3, odd, &loader), ERR_SYNTAX);
    char *unknown[] = {"--nonsense", "1"};
    assert_int_equal(config_load_args(c, 2, unknown, &loader), ERR_OK);
    assert_string_equal(warned, "command line: unknown directive 'nonsense' is ignored\n");
    config_free(c);
}

static void set_is_all_or_nothing(void **state)
{
    struct config *c = fresh();
    (void)state;
    uint64_t epoch = config_epoch(c);
    assert_int_equal(SET(c, "timeout", "5", "maxclients", "77"), ERR_OK);
    expect(c, "timeout", "5");
    expect(c, "maxclients", "77");
    assert_true(config_epoch(c) > epoch);
    epoch = config_epoch(c);

    assert_int_equal(SET(c, "timeout", "6", "maxclients", "none"), ERR_SYNTAX);
    assert_string_equal(
        said,
        "CONFIG SET failed (possibly related to argument 'maxclients') - argument couldn't be parsed into an integer");
    assert_int_equal(SET(c, "timeout", "6", "nosuch", "1"), ERR_SYNTAX);
    assert_string_equal(said, "Unknown option or number of arguments for CONFIG SET - 'nosuch'");
    assert_int_equal(SET(c, "timeout", "6", "TIMEOUT", "7"), ERR_SYNTAX);
    assert_string_equal(said, "CONFIG SET failed (possibly related to argument 'timeout') - duplicate parameter");
    assert_int_equal(SET(c, "timeout", "6", "daemonize", "yes"), ERR_SYNTAX);
    assert_string_equal(said,
                        "CONFIG SET failed (possibly related to argument 'daemonize') - can't set immutable config");
    assert_int_equal(SET(c, "timeout", "6", "dir", "/tmp"), ERR_SYNTAX);
    assert_int_equal(SET(c, "timeout", "6", "user", "x on"), ERR_SYNTAX);
    expect(c, "timeout", "5");
    assert_int_equal(config_epoch(c), epoch);
    assert_int_equal(SET(c, "shards", "4"), ERR_OK); /* says what is so */
    assert_int_equal(SET(c, "shards", "5"), ERR_SYNTAX);
    config_free(c);
}

struct hook {
    int calls, refuse;
    int64_t seen;
    struct config *c;
};

static enum err on_change(void *arg, enum config_id id, const char **why)
{
    struct hook *h = arg;
    h->calls++;
    h->seen = config_int(h->c, id);
    *why = "no such luck";
    return h->refuse && h->seen == h->refuse ? ERR_IO : ERR_OK;
}

static void hooks_may_refuse(void **state)
{
    struct config *c = fresh();
    struct hook timeout = {.c = c}, port = {.c = c, .refuse = 7777};
    (void)state;
    assert_int_equal(config_on_change(c, CFG_TIMEOUT, on_change, &timeout), ERR_OK);
    assert_int_equal(config_on_change(c, CFG_PORT, on_change, &port), ERR_OK);
    assert_int_equal(SET(c, "timeout", "5", "port", "7000"), ERR_OK);
    assert_int_equal(timeout.seen, 5);
    assert_int_equal(port.seen, 7000);
    assert_int_equal(SET(c, "timeout", "6", "port", "7777"), ERR_IO);
    assert_string_equal(said, "CONFIG SET failed (possibly related to argument 'port') - no such luck");
    expect(c, "timeout", "5");
    expect(c, "port", "7000");
    assert_int_equal(timeout.seen, 5); /* told of the return */
    assert_int_equal(port.seen, 7000);
    assert_int_equal(SET(c, "maxclients", "5"), ERR_OK);
    assert_int_equal(timeout.calls, 3);
    config_free(c);
}

static void rewrite_keeps_what_it_can(void **state)
{
    struct config *c = fresh();
    (void)state;
    write_file("r.conf", "# my server\n"
                         "port   7001   \n"
                         "\n"
                         "maxclients 50\n"
                         "user ann on >pw\n"
                         "save 900 1\n"
                         "save 300 10\n"
                         "cache-size 1gb\n"
                         "something-else keeps its line\n"
                         "requirepass old\n"
                         "maxclients 60\n");
    assert_int_equal(config_load_file(c, path_of("r.conf"), &loader), ERR_OK);
    assert_int_equal(SET(c, "maxclients", "70", "requirepass", "new \"pass\"", "timeout", "9", "masteruser", "a b",
                         "repl-backlog-size", "2097152"),
                     ERR_OK);
    assert_int_equal(config_rewrite(c, 0, NULL), ERR_OK);
    expect_file("r.conf", "# my server\n"
                          "port   7001   \n"
                          "\n"
                          "maxclients 70\n"
                          "user ann on >pw\n"
                          "save 900 1 300 10\n"
                          "cache-size 1gb\n"
                          "something-else keeps its line\n"
                          "requirepass \"new \\\"pass\\\"\"\n"
                          "# Generated by CONFIG REWRITE\n"
                          "timeout 9\n"
                          "masteruser \"a b\"\n"
                          "repl-backlog-size 2mb\n");
    assert_int_equal(config_rewrite(c, 0, NULL), ERR_OK); /* nothing changes any more */
    struct config *d = fresh();
    assert_int_equal(config_load_file(d, path_of("r.conf"), &loader), ERR_OK);
    for (unsigned id = 0; id < CFG_COUNT; id++) { /* what was written is read as the same */
        struct buf a, b;
        buf_init(&a, 1 << 20);
        buf_init(&b, 1 << 20);
        assert_int_equal(config_show(c, (enum config_id)id, &a), ERR_OK);
        assert_int_equal(config_show(d, (enum config_id)id, &b), ERR_OK);
        assert_true(bytes_equal(buf_bytes(&a), buf_bytes(&b)));
        buf_fini(&a);
        buf_fini(&b);
    }
    assert_int_equal(SET(c, "requirepass", "", "masteruser", ""), ERR_OK);
    assert_int_equal(config_rewrite(c, 0, NULL), ERR_OK);
    struct config *e = fresh();
    assert_int_equal(config_load_file(e, path_of("r.conf"), &loader), ERR_OK);
    expect(e, "requirepass", "");
    expect(e, "masteruser", "");
    struct stat st;
    assert_int_equal(stat(path_of("r.conf"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    config_free(c);
    config_free(d);
    config_free(e);
}

/* Of Redis's clients some have such passwords; what becomes a name of the C library must not be cut. */
static void a_password_may_have_a_nul(void **state)
{
    struct config *c = fresh();
    struct buf b;
    (void)state;
    write_file("n.conf", "requirepass \"a\\x00b\"\nmaxclients 5\n");
    assert_int_equal(config_load_file(c, path_of("n.conf"), &loader), ERR_OK);
    buf_init_secret(&b, 64);
    assert_int_equal(config_text(c, CFG_REQUIREPASS, &b), ERR_OK);
    assert_true(bytes_equal(buf_bytes(&b), bytes_of("a\0b", 3)));
    buf_fini(&b);
    struct bytes pairs[] = {bytes_str("masterauth"), bytes_of("\0c", 2)};
    assert_int_equal(config_set(c, pairs, 1, 0, said, sizeof said), ERR_OK);
    assert_int_equal(config_rewrite(c, 0, NULL), ERR_OK);
    expect_file("n.conf", "requirepass \"a\\x00b\"\n"
                          "maxclients 5\n"
                          "# Generated by CONFIG REWRITE\n"
                          "masterauth \"\\x00c\"\n");
    pairs[0] = bytes_str("masteruser");
    assert_int_equal(config_set(c, pairs, 1, 0, said, sizeof said), ERR_SYNTAX);
    config_free(c);
}

static void rewriting_user_lines(void **state)
{
    struct bytes two = bytes_str("ann on \"#12\" -@all\nbob off -@all\n"), none = bytes_str("");
    struct config *c = fresh();
    (void)state;
    write_file("u.conf", "port 7001\nuser ann on >pw\n# eve\nuser eve on\ntimeout 9\n");
    assert_int_equal(config_load_file(c, path_of("u.conf"), &loader), ERR_OK);
    assert_int_equal(config_rewrite(c, 0, &two), ERR_OK);
    expect_file("u.conf", "port 7001\nuser ann on \"#12\" -@all\nuser bob off -@all\n# eve\ntimeout 9\n");
    assert_int_equal(config_rewrite(c, 0, &none), ERR_OK);
    expect_file("u.conf", "port 7001\n# eve\ntimeout 9\n");
    assert_int_equal(config_rewrite(c, 0, &two), ERR_OK);
    expect_file("u.conf", "port 7001\n# eve\ntimeout 9\nuser ann on \"#12\" -@all\nuser bob off -@all\n");
    config_free(c);
}

static void rewrite_wants_a_file(void **state)
{
    struct config *c = fresh();
    (void)state;
    assert_int_equal(config_rewrite(c, 0, NULL), ERR_NOTFOUND);
    config_free(c);
}

/* Every directive, changed to something else where there is a choice, survives being written and read. */
/* A text of the shape that a row wants. */
static const char *shaped(const char *shape)
{
    static const char *const texts[][2] = {{"memory-or-percent", "50%"},
                                           {"keyspace-events", "AKE"},
                                           {"s3-url", "s3://bucket/a prefix"},
                                           {"endpoint", "https://s3.example.com:9000"},
                                           {"node-name", "node-1"},
                                           {"tls-protocols", "TLSv1.2 tlsv1.3"}};
    if (!shape)
        return "it's \"odd\" \\ # \x01";
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (strcmp(shape, texts[i][0]) == 0)
            return texts[i][1];
    fail_msg("a text of the shape %s is wanted here", shape);
    return "";
}

static void shaped_texts_are_looked_at(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {{"object-store", "http://bucket"},
                                           {"object-store", "s3://b"},
                                           {"object-store", "s3://bucket/a//b"},
                                           {"object-store-endpoint", "ftp://host"},
                                           {"object-store-endpoint", "https://host/path"},
                                           {"object-store-keep", "0"},
                                           {"object-store-interval", "-1"},
                                           {"object-store-unfinished-age", "0"},
                                           {"node-name", "-x"},
                                           {"node-name", "a/b"},
                                           {"tls-protocols", "TLSv1.1 TLSv1.2"},
                                           {"tls-protocols", "TLSv1.2,TLSv1.3"},
                                           {"notify-keyspace-events", "KQ"}};
    struct config *c = fresh();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(config_put(c, wrong[i][0], wrong[i][1]), ERR_SYNTAX);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) /* not given is always right */
        if (config_is_text(config_find(bytes_str(wrong[i][0]))))
            assert_int_equal(config_put(c, wrong[i][0], ""), ERR_OK);
    config_free(c);
}

static void every_row_survives_a_rewrite(void **state)
{
    (void)state;
    for (unsigned id = 0; id < CFG_COUNT; id++) {
        const struct config_row *r = &config_rows[id];
        struct config *c = fresh();
        char other[64];
        if (r->type == CONFIG_LINES) {
            config_free(c);
            continue;
        }
        switch (r->type) {
        case CONFIG_BOOL:
            snprintf(other, sizeof other, "%s", config_int(c, (enum config_id)id) ? "no" : "yes");
            break;
        case CONFIG_NAME:
            snprintf(other, sizeof other, "%.*s", (int)strcspn(strchr(r->extra, '|') + 1, "|"),
                     strchr(r->extra, '|') + 1);
            break;
        case CONFIG_TEXT:
            snprintf(other, sizeof other, "%s", shaped(r->extra));
            break;
        case CONFIG_LIST:
            snprintf(other, sizeof other, "%s",
                     !r->extra                             ? "one two"
                     : strcmp(r->extra, "host-port") == 0  ? "one 2"
                     : strcmp(r->extra, "shutdown") == 0   ? "save now"
                     : strcmp(r->extra, "oom-scores") == 0 ? "-1 2 3"
                                                           : "1 2.5");
            break;
        case CONFIG_OBUF:
            snprintf(other, sizeof other, "pubsub 1 2 3");
            break;
        default: /* some texts have a shape of their own */
            snprintf(other, sizeof other, r->extra ? "%llo" : "%lld",
                     (long long)(config_int(c, (enum config_id)id) < r->max ? config_int(c, (enum config_id)id) + 1
                                                                            : r->min));
        }
        if (config_put(c, r->name, other) != ERR_OK)
            fail_msg("%s cannot be %s", r->name, other);
        write_file("e.conf", "");
        assert_int_equal(config_load_file(c, path_of("e.conf"), &loader), ERR_OK);
        assert_int_equal(config_rewrite(c, 0, NULL), ERR_OK);
        struct config *d = fresh();
        assert_int_equal(config_load_file(d, path_of("e.conf"), &loader), ERR_OK);
        struct buf a, b;
        buf_init(&a, 1 << 20);
        buf_init(&b, 1 << 20);
        assert_int_equal(config_show(c, (enum config_id)id, &a), ERR_OK);
        assert_int_equal(config_show(d, (enum config_id)id, &b), ERR_OK);
        if (!bytes_equal(buf_bytes(&a), buf_bytes(&b)))
            fail_msg("%s was changed by a rewrite", r->name);
        buf_fini(&a);
        buf_fini(&b);
        config_free(c);
        config_free(d);
    }
}

static void faults_leave_things_as_they_were(void **state)
{
    (void)state;
    for (long n = 1;; n++) { /* config_new */
        struct config *c;
        fault_arm(FAULT_MEM, n, 1);
        enum err e = config_new(&c);
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        if (!fired) {
            assert_int_equal(e, ERR_OK);
            config_free(c);
            break;
        }
        assert_int_equal(e, ERR_OOM);
        assert_null(c);
    }
    struct config *c = fresh();
    for (long n = 1;; n++) { /* CONFIG SET */
        fault_arm(FAULT_MEM, n, 1);
        enum err e = SET(c, "timeout", "5", "requirepass", "x");
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        if (!fired) {
            assert_int_equal(e, ERR_OK);
            break;
        }
        assert_int_equal(e, ERR_OOM);
        expect(c, "timeout", "0");
        expect(c, "requirepass", "");
    }
    write_file("f.conf", "port 1\n");
    assert_int_equal(config_load_file(c, path_of("f.conf"), &loader), ERR_OK);
    for (int kind = FAULT_MEM; kind <= FAULT_FILE; kind++) {
        for (long n = 1;; n++) { /* CONFIG REWRITE: the old file or the new one, whole */
            write_file("f.conf", "port 1\n");
            fault_arm((enum fault_kind)kind, n, kind == FAULT_MEM ? 1 : 5);
            enum err e = config_rewrite(c, 0, NULL);
            int fired = fault_fired((enum fault_kind)kind);
            fault_disarm((enum fault_kind)kind);
            (void)unlink(path_of("f.conf.tmp"));
            struct config *d = fresh();
            assert_int_equal(config_load_file(d, path_of("f.conf"), &loader), ERR_OK);
            expect(d, "port", "1");
            config_free(d);
            if (!fired) {
                assert_int_equal(e, ERR_OK);
                break;
            }
            assert_int_not_equal(e, ERR_OK);
        }
    }
    config_free(c);
}

static void the_reference_and_the_shipped_file_have_every_row(void **state)
{
    struct buf ref, file;
    (void)state;
    buf_init(&ref, 1 << 20);
    buf_init(&file, 1 << 20);
    assert_int_equal(config_print_reference(&ref), ERR_OK);
    assert_int_equal(config_print_default_file(&file), ERR_OK);
    for (unsigned id = 0; id < CFG_COUNT; id++) {
        char row[128];
        snprintf(row, sizeof row, "\n| `%s`", config_rows[id].name);
        assert_non_null(memmem(buf_data(&ref), buf_size(&ref), row, strlen(row)));
        snprintf(row, sizeof row, "%s ", config_rows[id].name);
        if (!(config_rows[id].flags & CONFIG_INERT))
            assert_non_null(memmem(buf_data(&file), buf_size(&file), row, strlen(row)));
    }
    /* The shipped file is good as it is, and so it is with all its comments taken off. */
    struct config *c = fresh();
    assert_int_equal(config_load_text(c, buf_bytes(&file), "coffer.conf", &loader), ERR_OK);
    expect(c, "metrics-port", "7380");
    assert_string_equal(warned, "");
    config_free(c);
    buf_fini(&ref);
    buf_fini(&file);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/coffer-config-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int tear_down(void **state)
{
    char **names;
    size_t n;
    (void)state;
    if (file_list(dir, &names, &n) == ERR_OK) {
        for (size_t i = 0; i < n; i++)
            (void)unlink(path_of(names[i]));
        file_free_names(names, n);
    }
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_those_of_the_table),
        cmocka_unit_test(a_file_is_read_as_redis_does),
        cmocka_unit_test(a_wrong_line_is_named),
        cmocka_unit_test(files_include_files),
        cmocka_unit_test(the_command_line_comes_last),
        cmocka_unit_test(set_is_all_or_nothing),
        cmocka_unit_test(hooks_may_refuse),
        cmocka_unit_test(rewrite_keeps_what_it_can),
        cmocka_unit_test(a_password_may_have_a_nul),
        cmocka_unit_test(rewriting_user_lines),
        cmocka_unit_test(rewrite_wants_a_file),
        cmocka_unit_test(shaped_texts_are_looked_at),
        cmocka_unit_test(every_row_survives_a_rewrite),
        cmocka_unit_test(faults_leave_things_as_they_were),
        cmocka_unit_test(the_reference_and_the_shipped_file_have_every_row),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
