/* Users: the language of their rules, what each may do, logins, where users are at home, what changes under the feet of
 * those who are logged in. With a command table of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "engine/databases.h"
#include "engine/engine_impl.h"
#include "server/acl_user.h"
#include "server/command.h"
#include "server/conn_private.h"
#include "server/facade.h"

#define ROW(name, flags, categories, keys)                                            \
    {                                                                                 \
        name, -1, flags, categories, LANE_NONE, keys, 0, "", "", "", "", "", "", NULL \
    }
const struct command commands[] = {
    ROW("PING", CMD_FAST, CAT_CONNECTION, KEYS_NONE),
    ROW("AUTH", CMD_FAST | CMD_NOAUTH, CAT_CONNECTION, KEYS_NONE),
    ROW("SELECT", CMD_FAST, CAT_CONNECTION, KEYS_NONE),
    ROW("CLIENT", 0, 0, KEYS_NONE),
    ROW("CLIENT|ID", CMD_FAST, CAT_CONNECTION, KEYS_NONE),
    ROW("CLIENT|KILL", CMD_ADMIN, CAT_CONNECTION, KEYS_NONE),
    ROW("GET", CMD_READ | CMD_FAST, CAT_STRING, KEYS_ONE),
    ROW("SET", CMD_WRITE | CMD_GETOPT, CAT_STRING, KEYS_ONE),
    ROW("GETDEL", CMD_WRITE | CMD_OLD, CAT_STRING, KEYS_ONE),
    ROW("MGET", CMD_READ, CAT_STRING, KEYS_MANY),
    ROW("EXISTS", CMD_READ | CMD_PEEK, 0, KEYS_MANY),
    ROW("SECRET.GET", CMD_READ, CAT_SECRET, KEYS_VAULT_ONE),
    ROW("SECRET.SET", CMD_WRITE, CAT_SECRET, KEYS_VAULT_ONE),
    ROW("SECRET.MSET", CMD_WRITE, CAT_SECRET, KEYS_VAULT_PAIRS),
    ROW("SECRET.LIST", CMD_READ, CAT_SECRET, KEYS_FOLDER),
    ROW("KEY.ENCRYPT", CMD_HSM, CAT_KEY, KEYS_VAULT_ONE),
    ROW("VAULT.INFO", CMD_READ, CAT_VAULT, KEYS_VAULT),
    ROW("PUBLISH", CMD_PUBSUB, 0, KEYS_NONE),
    ROW("SUBSCRIBE", CMD_PUBSUB, 0, KEYS_NONE),
    ROW("PSUBSCRIBE", CMD_PUBSUB, 0, KEYS_NONE),
    ROW("UNSUBSCRIBE", CMD_PUBSUB, 0, KEYS_NONE),
};
const size_t commands_count = sizeof commands / sizeof commands[0];

#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" /* SHA-256 of "abc" */
#define XYZ "3608bca1e44ea6c4d268eb6db02260269892c0b42b86bbf1e77a6fa16c3c9282" /* of "xyz" */

static struct acl_fault why;

/* Words of a line; "..." is one word, whatever is in it. */
static unsigned words_of(const char *line, struct bytes *words)
{
    static char copy[4096];
    unsigned n = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *at = copy; *at;) {
        char end = *at == '"' ? '"' : ' ';
        at += end == '"';
        char *stop = strchr(at, end);
        words[n++] = bytes_of(at, stop ? (size_t)(stop - at) : strlen(at));
        at = stop ? stop + 1 + (end == '"' && stop[1] == ' ') : at + strlen(at);
    }
    return n;
}

static enum err set(struct acl *a, const char *line)
{
    struct bytes words[64];
    unsigned n = words_of(line, words);
    return acl_set(a, words, n, &why);
}

static enum err login(struct acl *a, const char *name, const char *password)
{
    struct acl_user *u;
    enum err e = acl_login(a, bytes_str(name), bytes_str(password), &u);
    assert_int_equal(e == ERR_OK, u != NULL);
    acl_user_unref(u);
    return e;
}

static struct acl *new_acl(void)
{
    struct acl *a;
    assert_int_equal(acl_new(&a), ERR_OK);
    return a;
}

static const char *user_text(struct acl *a, const char *name)
{
    static char text[8192];
    struct buf b;
    struct acl_user *u = acl_find(a, bytes_str(name));
    if (!u)
        return "none";
    buf_init_secret(&b, sizeof text - 1);
    assert_int_equal(acl_user_text(u, &b), ERR_OK);
    memcpy(text, buf_data(&b), buf_size(&b));
    text[buf_size(&b)] = 0;
    buf_fini(&b);
    acl_user_unref(u);
    return text;
}

/* ---- passwords ---- */

static void passwords(void **state)
{
    struct acl *a = new_acl();
    (void)state;
    assert_int_equal(login(a, "default", "anything"), ERR_OK);
    assert_int_equal(login(a, "nobody", "anything"), ERR_WRONGPASS);
    assert_int_equal(acl_set_default_password(a, bytes_str("one")), ERR_OK);
    assert_int_equal(login(a, "default", "one"), ERR_OK);
    assert_int_equal(login(a, "default", "on"), ERR_WRONGPASS);
    assert_int_equal(login(a, "default", ""), ERR_WRONGPASS);
    assert_int_equal(acl_set_default_password(a, bytes_str("two")), ERR_OK);
    assert_int_equal(login(a, "default", "one"), ERR_WRONGPASS);
    assert_int_equal(login(a, "default", "two"), ERR_OK);
    assert_int_equal(acl_set_default_password(a, bytes_str("")), ERR_OK);
    assert_int_equal(login(a, "default", "whatever"), ERR_OK);

    assert_int_equal(set(a, "ann on >a >b >c"), ERR_OK);
    assert_int_equal(login(a, "ann", "a"), ERR_OK);
    assert_int_equal(login(a, "ann", "b"), ERR_OK);
    assert_int_equal(set(a, "ann <a"), ERR_OK);
    assert_int_equal(login(a, "ann", "a"), ERR_WRONGPASS);
    assert_int_equal(login(a, "ann", "b"), ERR_OK);
    assert_int_equal(login(a, "ann", "c"), ERR_OK);
    assert_int_equal(set(a, "ann off"), ERR_OK);
    assert_int_equal(login(a, "ann", "b"), ERR_WRONGPASS);
    assert_int_equal(set(a, "ann on resetpass #" ABC), ERR_OK);
    assert_int_equal(login(a, "ann", "abc"), ERR_OK);
    assert_int_equal(login(a, "ann", "b"), ERR_WRONGPASS);
    assert_int_equal(set(a, "ann !" ABC), ERR_OK);
    assert_int_equal(login(a, "ann", "abc"), ERR_WRONGPASS);
    assert_int_equal(set(a, "ann nopass"), ERR_OK);
    assert_int_equal(login(a, "ann", "whatever"), ERR_OK);
    assert_int_equal(set(a, "ann >now"), ERR_OK);
    assert_int_equal(login(a, "ann", "whatever"), ERR_WRONGPASS);
    assert_int_equal(set(a, "ann \">with a blank\""), ERR_OK);
    assert_int_equal(login(a, "ann", "with a blank"), ERR_OK);
    acl_free(a);
}

/* ---- the language ---- */

static void what_is_wrong_changes_nothing(void **state)
{
    static const struct {
        const char *line;
        unsigned word;
        const char *text;
    } bad[] = {
        {"ann on >new nosuchrule", 2, "Syntax error"},
        {"ann >new #abc", 1,
         "The password hash must be exactly 64 characters and contain only lowercase hexadecimal "
         "characters"},
        {"ann >new <never", 1, "The password you are trying to remove from the user does not exist"},
        {"ann >new !" ABC, 1, "The password you are trying to remove from the user does not exist"},
        {"ann >new +nosuch", 1, "Unknown command or category name in ACL"},
        {"ann >new -@nosuch", 1, "Unknown command or category name in ACL"},
        {"ann >new +client|nosuch", 1, "Unknown command or category name in ACL"},
        {"ann >new +script|nosuch", 1, "Unknown command or category name in ACL"},
        {"ann >new -select|0", 1, "Unknown command or category name in ACL"},
        {"ann >new +get|a|b", 1, "Unknown command or category name in ACL"},
        {"ann >new +client|id|x", 1, "Allowing first-arg of a subcommand is not supported"},
        {"ann >new +select|", 1, "Syntax error"},
        {"ann >new allkeys ~a", 2,
         "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does "
         "not have any effect. Try 'resetkeys' to start with an empty list of patterns"},
        {"ann >new &* &a", 2,
         "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does "
         "not have any effect. Try 'resetchannels' to start with an empty list of channels"},
        {"ann >new %", 1, "Syntax error"},
        {"ann >new %~a", 1, "Syntax error"},
        {"ann >new %RR~a", 1, "Syntax error"},
        {"ann >new %X~a", 1, "Syntax error"},
        {"ann >new \"~a b\"", 1, "Syntax error"},
        {"ann >new \" () \"", 1, "Syntax error"},
        {"ann >new )", 1, "Syntax error"},
        {"ann >new (~a", 1, "Unmatched parenthesis"},
        {"ann >new (on)", 1, "Syntax error"},
        {"ann >new (>password)", 1, "Syntax error"},
        {"ann >new (+get (~a) )", 1, "Syntax error"},
        {"ann >new \"(~a) +get)\"", 1, "Syntax error"},
        {"ann >new (&* &a)", 1,
         "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and "
         "does not have any effect. Try 'resetchannels' to start with an empty list of channels"},
        {"\"an n\" on", 0, "Usernames can't contain spaces or null characters"},
    };
    struct acl *a = new_acl();
    (void)state;
    assert_int_equal(set(a, "ann on >old"), ERR_OK);
    uint64_t epoch = acl_epoch(a);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(set(a, bad[i].line), ERR_SYNTAX);
        assert_string_equal(why.text, bad[i].text);
        assert_int_equal(why.word, bad[i].word);
    }
    assert_int_equal(acl_epoch(a), epoch);
    assert_int_equal(login(a, "ann", "old"), ERR_OK);
    assert_int_equal(login(a, "ann", "new"), ERR_WRONGPASS);
    acl_free(a);
}

static void rules_become_text_and_back(void **state)
{
    static const struct {
        const char *rules, *text;
    } cases[] = {
        {"", "off resetchannels -@all"},
        {"on nopass ~* &* +@all", "on nopass ~* &* +@all"},
        {"ON NoPass AllKeys AllChannels AllCommands", "on nopass ~* &* +@all"},
        {"on >abc ~a* ~b +GET", "on #" ABC " ~a* ~b resetchannels -@all +get"},
        {"%R~a %W~b %RW~c %wr~d %R~e %W~e %RW~*", "off ~* resetchannels -@all"},
        {"%R~a %W~b %RW~c %wr~d %R~e %W~e", "off %R~a %W~b ~c ~d ~e resetchannels -@all"},
        {"%RW ~a", "off ~ ~a resetchannels -@all"},
        {"~a ~b ~a resetkeys ~c", "off ~c resetchannels -@all"},
        {"&a &b &a", "off resetchannels &a &b -@all"},
        {"allchannels resetchannels &x", "off resetchannels &x -@all"},
        /* What a rule overrides is not kept. */
        {"+get -get +get", "off resetchannels -@all +get"},
        {"+get -get", "off resetchannels -@all"},
        {"+@all -client +@geo -client +client|id", "off resetchannels +@all -client +client|id"},
        {"+@connection -@fast +select|0 -@fast +get", "off resetchannels -@all +@connection +select|0 -@fast +get"},
        {"+EVAL -script|Kill +set", "off resetchannels -@all +eval -script|kill +set"}, /* Redis's, not here */
        {"+client|tracking +hget|x", "off resetchannels -@all +client|tracking +hget|x"},
        {"+script|kill +script", "off resetchannels -@all +script"},
        {"+select +select|0", "off resetchannels -@all +select +select|0"},
        {"+client|id +client", "off resetchannels -@all +client"},
        {"+client -client|kill", "off resetchannels -@all +client -client|kill"},
        {"+@all -client +client|id +client|kill", "off resetchannels +@all -client +client|id +client|kill"},
        {"+@all +get", "off resetchannels +@all"},
        {"+@all -get +get", "off resetchannels +@all"},
        {"+@all -@string +@all", "off resetchannels +@all"},
        {"+get -@all", "off resetchannels -@all"},
        {"+select|0 +select|1 +select|0", "off resetchannels -@all +select|1 +select|0"},
        {"+select|0 -select", "off resetchannels -@all"},
        {"+select|0 +select", "off resetchannels -@all +select"},
        {"-@geo +@STRING -@geo", "off resetchannels -@all +@string -@geo"},
        {"(+get ~a) \"( ~b &c )\" () (%R~d +@all -get )",
         "off resetchannels -@all (~a resetchannels -@all +get) (~b resetchannels &c -@all) (resetchannels -@all) "
         "(%R~d resetchannels +@all -get)"},
        {"(~a) clearselectors (~b)", "off resetchannels -@all (~b resetchannels -@all)"},
        {"on >abc ~a &a +get (~a) reset", "off resetchannels -@all"},
        {"sanitize-payload skip-sanitize-payload", "off resetchannels -@all"},
        {"~(odd) &)x(", "off ~(odd) resetchannels &)x( -@all"},
    };
    struct acl *a = new_acl();
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char line[512];
        struct acl_user *again = acl_user_new(bytes_str("x"), 1);
        struct buf b;
        (void)acl_drop(a, bytes_str("ann"));
        snprintf(line, sizeof line, "ann %s", cases[i].rules);
        assert_int_equal(set(a, line), ERR_OK);
        assert_string_equal(user_text(a, "ann"), cases[i].text);
        /* What is written makes the same again, also of a user that could do more. */
        assert_int_equal(acl_user_apply_text(again, bytes_str(cases[i].text), 0, &why), ERR_OK);
        buf_init_secret(&b, 4096);
        assert_int_equal(acl_user_text(again, &b), ERR_OK);
        assert_int_equal(buf_put_u8(&b, 0), ERR_OK);
        assert_string_equal((char *)buf_data(&b), cases[i].text);
        buf_fini(&b);
        acl_user_unref(again);
    }
    acl_free(a);
}

/* ---- permissions ---- */

/* "ok", "command", "key 2", "channel 1" */
static const char *try(const char *rules, const char *line)
{
    static char result[32];
    static const char *const names[] = {"command", "key", "channel"};
    struct acl *a = new_acl();
    struct acl_denial d;
    struct bytes words[16];
    char user[512];
    int unknown;

    snprintf(user, sizeof user, "ann %s", rules);
    assert_int_equal(set(a, user), ERR_OK);
    struct acl_user *u = acl_find(a, bytes_str("ann"));
    struct call c = {.argc = words_of(line, words), .argv = words};
    c.cmd = command_find(words, c.argc, &unknown);
    assert_non_null(c.cmd);
    enum err e = acl_check(u, 1, &c, &d);
    assert_true(e == ERR_OK || e == ERR_NOPERM);
    if (e)
        snprintf(result, sizeof result, d.reason == ACL_COMMAND ? "%s" : "%s %u", names[d.reason], d.arg);
    acl_user_unref(u);
    acl_free(a);
    return e ? result : "ok";
}

static void swap(struct databases *d, unsigned a, unsigned b)
{
    struct buf record;
    buf_init(&record, 1024);
    assert_int_equal(databases_swap(bytes_of(NULL, 0), a, b, &record), ERR_OK);
    assert_int_equal(databases_load(d, buf_bytes(&record)), ERR_OK);
    buf_fini(&record);
}

/* A call that was allowed read from the vault that another thread's SWAPDB had put in the place of the allowed one. */
static void a_swap_between_the_check_and_the_use(void **state)
{
    struct bytes words[] = {bytes_str("GET"), bytes_str("k")};
    struct acl *a = new_acl();
    struct engine engine = {.databases = NULL};
    static struct server srv;
    struct conn conn = {.db = 0};
    struct call_databases seen = {.n = 0};
    struct acl_denial d;
    (void)state;
    assert_int_equal(databases_new(&engine.databases), ERR_OK);
    srv.engine = &engine;
    assert_int_equal(set(a, "ann on nopass +get ~{db0}/*"), ERR_OK);
    struct acl_user *u = acl_find(a, bytes_str("ann"));
    struct call c = {.srv = &srv, .conn = &conn, .cmd = command_by_name(words[0]), .argc = 2, .argv = words};
    c.databases = &seen;
    assert_int_equal(acl_check(u, 1, &c, &d), ERR_OK);
    swap(engine.databases, 0, 1);
    assert_int_equal(facade_database(&c, 0), 0);
    seen.n = 0; /* the next call */
    assert_int_equal(acl_check(u, 1, &c, &d), ERR_NOPERM);
    acl_user_unref(u);
    acl_free(a);
    databases_free(engine.databases);
}

static void what_a_user_may_do(void **state)
{
    static const struct {
        const char *rules, *line, *want;
    } cases[] = {
        {"", "PING", "command"},
        {"", "AUTH x", "ok"},
        {"+@all", "PING", "ok"},
        {"+@all", "GET k", "key 1"},
        {"+@all ~*", "GET k", "ok"},
        {"~*", "GET k", "command"},
        {"+get ~*", "get k", "ok"},
        {"+@string ~* -get", "GET k", "command"},
        {"+@string ~* -get", "MGET k", "ok"},
        {"+@connection -@admin", "CLIENT ID", "ok"},
        {"+@connection -@admin", "CLIENT KILL x", "command"},
        {"+client -client|kill", "CLIENT KILL x", "command"},
        {"+client|id", "CLIENT ID", "ok"},
        {"+client|id", "CLIENT KILL x", "command"},
        {"+select|0", "SELECT 0", "ok"},
        {"+select|0", "SELECT 1", "command"},
        {"+select|a", "SELECT A", "ok"},
        {"+@all -select", "SELECT 0", "command"},
        /* keys, as they are written in the facade */
        {"+@all ~app:*", "GET app:1", "ok"},
        {"+@all ~app:*", "GET other", "key 1"},
        {"+@all ~app:* ~b?", "MGET app:1 b1 c app:2", "key 3"},
        {"+@all ~a[bc]", "MGET ab ac", "ok"},
        {"+@all ~", "GET k", "key 1"},
        /* and by their canonical names */
        {"+@all ~{db0}/app/*", "GET app/1", "ok"},
        {"+@all ~{db1}/app/*", "GET app/1", "key 1"},
        {"+@all ~{prod}/*", "GET {prod}/x", "ok"},
        {"+@all ~{db0}/*", "GET {prod}/x", "key 1"},
        {"+@all ~{prod}/a/*", "SECRET.GET prod a/1", "ok"},
        {"+@all ~{prod}/a/*", "SECRET.GET prod b/1", "key 2"},
        {"+@all ~{prod}/a/*", "SECRET.GET test a/1", "key 2"},
        {"+@all ~a/*", "SECRET.GET prod a/1", "key 2"},
        {"+@all ~{prod}/a*", "SECRET.MSET prod a1 v b v", "key 4"},
        {"+@all ~{prod}/*", "VAULT.INFO prod", "key 1"},
        {"+@all ~{prod}*", "VAULT.INFO prod", "ok"},
        {"+@all ~{prod}", "VAULT.INFO prod", "ok"},
        /* a listing is of a folder */
        {"+@all ~{prod}/a/*", "SECRET.LIST prod a", "ok"},
        {"+@all ~{prod}/a/*", "SECRET.LIST prod a/", "ok"},
        {"+@all ~{prod}/a/*", "SECRET.LIST prod a/b COUNT 3", "ok"},
        {"+@all ~{prod}/a/*", "SECRET.LIST prod", "key 1"},
        {"+@all ~{prod}/a/*", "SECRET.LIST prod \"\"", "key 1"},
        {"+@all ~{prod}//*", "SECRET.LIST prod \"\"", "key 1"},
        {"+@all ~{prod}/RECURSIVE/*", "SECRET.LIST prod RECURSIVE", "key 1"},
        {"+@all ~{prod}/RECURSIVE/*", "SECRET.LIST prod RECURSIVE/", "ok"},
        {"+@all ~{prod}/ab*", "SECRET.LIST prod a", "key 1"},
        {"+@all ~{prod}/*", "SECRET.LIST prod", "ok"},
        /* reading and writing */
        {"+@all %R~k", "GET k", "ok"},
        {"+@all %W~k", "GET k", "key 1"},
        {"+@all %R~k", "SET k v", "key 1"},
        {"+@all %W~k", "SET k v", "ok"},
        {"+@all %W~k", "SET k get", "ok"},
        {"+@all %W~k", "SET k v get", "key 1"},
        {"+@all %W~k %R~*", "SET k v GET", "key 1"},
        {"+@all %W~k %R~k", "SET k v GET", "ok"},
        {"+@all %R~k", "GETDEL k", "key 1"},
        {"+@all ~k", "GETDEL k", "ok"},
        {"+@all %R~k", "EXISTS k", "ok"},
        {"+@all %W~k", "EXISTS k", "ok"},
        {"+@all %W~k", "EXISTS k l", "key 2"},
        {"+@all %R~{v}/k", "KEY.ENCRYPT v k x", "ok"},
        {"+@all %W~{v}/k", "KEY.ENCRYPT v k x", "key 2"},
        {"+@all %R~{v}/k", "SECRET.SET v k x", "key 2"},
        /* channels */
        {"+@all", "PUBLISH c m", "channel 1"},
        {"+@all &c?", "PUBLISH c1 m", "ok"},
        {"+@all &c?", "PUBLISH d m", "channel 1"},
        {"+@all &c? &d", "SUBSCRIBE c1 d e", "channel 3"},
        {"+@all &c*", "PSUBSCRIBE c*", "ok"},
        {"+@all &c*", "PSUBSCRIBE c1*", "channel 1"},
        {"+@all &*", "PSUBSCRIBE *", "ok"},
        {"+@all", "UNSUBSCRIBE c", "ok"},
        /* selectors: one must allow all of it */
        {"(+get ~a) (+set ~b)", "GET a", "ok"},
        {"(+get ~a) (+set ~b)", "SET b v", "ok"},
        {"(+get ~a) (+set ~b)", "GET b", "key 1"},
        {"(+get ~a) (+set ~b)", "PING", "command"},
        {"(+@all %R~k) (+@all %W~k)", "GETDEL k", "key 1"},
        {"+mget ~a (+mget ~a ~b)", "MGET a b", "ok"},
        {"+mget ~a (+mget ~a ~b)", "MGET b c", "key 2"},
        {"+mget ~a (+mget ~a ~b)", "MGET a b c", "key 3"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *got = try(cases[i].rules, cases[i].line);
        if (strcmp(got, cases[i].want) != 0)
            fail_msg("\"%s\" may \"%s\": %s, not %s", cases[i].rules, cases[i].line, got, cases[i].want);
    }
}

static void logged_in_or_not(void **state)
{
    struct acl *a = new_acl();
    struct acl_denial d;
    struct call c = {.cmd = command_by_name(bytes_str("GET"))};
    (void)state;
    struct acl_user *u = acl_default(a);
    assert_string_equal(acl_user_name(u), "default");
    assert_true(acl_user_nopass(u) && acl_user_enabled(u) && acl_user_open(u));
    assert_int_equal(acl_check(u, 1, &c, &d), ERR_OK);
    assert_int_equal(acl_check(u, 0, &c, &d), ERR_NOAUTH);
    c.cmd = command_by_name(bytes_str("AUTH"));
    assert_int_equal(acl_check(u, 0, &c, &d), ERR_OK);
    acl_user_unref(u);
    acl_free(a);
}

/* ---- changes under the feet ---- */

static void a_user_is_the_same_until_it_is_dropped(void **state)
{
    struct acl *a = new_acl();
    (void)state;
    assert_int_equal(set(a, "ann on >x"), ERR_OK);
    struct acl_user *u = acl_find(a, bytes_str("ann"));
    assert_int_equal(set(a, "ann +@all"), ERR_OK);
    struct acl_user *now = acl_refresh(a, u);
    assert_ptr_not_equal(now, u);
    assert_int_equal(acl_drop(a, bytes_str("ann")), 1);
    assert_int_equal(acl_drop(a, bytes_str("ann")), 0);
    assert_null(acl_refresh(a, now));
    assert_int_equal(set(a, "ann on >x"), ERR_OK);
    assert_null(acl_refresh(a, now)); /* another one of that name */
    acl_user_unref(now);
    acl_user_unref(u);
    acl_free(a);
}

static void channels_are_kept_or_not(void **state)
{
    static const struct {
        const char *was, *now;
        int kept;
    } cases[] = {
        {"&a &b*", "&a &b* &c", 1}, {"&a", "&*", 1},   {"&a &b", "&a", 0},   {"&*", "&a", 0},   {"", "", 1},
        {"&*", "(&*)", 1},          {"(&a)", "&a", 1}, {"&a (&b)", "&a", 0}, {"&a*", "&*a", 0}, {"&* (&a)", "&*", 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct acl_user *was = acl_user_new(bytes_str("x"), 0), *now = acl_user_new(bytes_str("x"), 0);
        assert_int_equal(acl_user_apply_text(was, bytes_str(cases[i].was), 0, &why), ERR_OK);
        assert_int_equal(acl_user_apply_text(now, bytes_str(cases[i].now), 0, &why), ERR_OK);
        assert_int_equal(acl_channels_kept(was, now), cases[i].kept);
        acl_user_unref(was);
        acl_user_unref(now);
    }
}

static void new_users_may_have_all_channels(void **state)
{
    struct acl *a = new_acl();
    (void)state;
    acl_set_channels_default(a, 1);
    assert_int_equal(set(a, "ann"), ERR_OK);
    assert_string_equal(user_text(a, "ann"), "off &* -@all");
    acl_set_channels_default(a, 0);
    assert_int_equal(set(a, "ann on"), ERR_OK); /* it is none that is new */
    assert_string_equal(user_text(a, "ann"), "on &* -@all");
    assert_int_equal(set(a, "ann reset"), ERR_OK);
    assert_string_equal(user_text(a, "ann"), "off resetchannels -@all");
    acl_free(a);
}

/* ---- homes ---- */

static enum err take(struct acl *a, const char *name, const char *text)
{
    return acl_take(a, bytes_str(name), text ? bytes_str(text) : bytes_of(NULL, 0));
}

static enum err configure(struct acl *a, const char *line)
{
    struct bytes words[64];
    unsigned n = words_of(line, words);
    return acl_configure(a, words, n, &why);
}

static void users_of_the_log(void **state)
{
    struct acl *a = new_acl();
    struct acl_denial d;
    struct call c = {.cmd = command_by_name(bytes_str("PING"))};
    (void)state;
    assert_int_equal(acl_await_log(a), ERR_OK);

    /* Nobody is known: not even the default user, who may be off in the log. */
    struct acl_user *u = acl_default(a);
    assert_true(acl_user_unknown(u) && acl_user_open(u) && !acl_user_nopass(u));
    assert_int_equal(acl_check(u, 1, &c, &d), ERR_LOADING);
    assert_int_equal(login(a, "default", ""), ERR_LOADING);
    assert_int_equal(login(a, "ann", "abc"), ERR_LOADING);

    assert_int_equal(take(a, "ann", "on #" ABC " ~* resetchannels +@all"), ERR_OK);
    assert_int_equal(take(a, "default", "off nopass ~* &* +@all"), ERR_OK);
    assert_int_equal(acl_log_known(a), ERR_OK);
    assert_int_equal(login(a, "ann", "abc"), ERR_OK);
    assert_int_equal(login(a, "bob", "abc"), ERR_WRONGPASS);
    assert_int_equal(login(a, "default", ""), ERR_WRONGPASS);
    struct acl_user *now = acl_refresh(a, u); /* the same one */
    assert_non_null(now);
    assert_false(acl_user_open(now));
    acl_user_unref(now);
    acl_user_unref(u);

    assert_int_equal(take(a, "ann", NULL), ERR_OK);
    assert_int_equal(login(a, "ann", "abc"), ERR_WRONGPASS);
    acl_free(a);
}

/* A full resync: who is connected as one who is not the same in the new log is that no more. */
static void users_of_another_log(void **state)
{
    static const char *const names[] = {"same", "gone", "other", "card", "open", "default"};
    enum { N = sizeof names / sizeof names[0] };
    static const int stays[N] = {1, 0, 0, 1, 1, 0};
    struct acl_user *was[N], *now;
    struct acl *a = new_acl();
    (void)state;
    assert_int_equal(acl_await_log(a), ERR_OK);
    assert_int_equal(take(a, "same", "on #" ABC " ~* +@all"), ERR_OK);
    assert_int_equal(take(a, "gone", "on #" ABC " ~* +@all"), ERR_OK);
    assert_int_equal(take(a, "other", "on #" ABC " ~* +@all"), ERR_OK);
    assert_int_equal(take(a, "card", "on ~* +@all"), ERR_OK); /* lets a certificate in, no password */
    assert_int_equal(take(a, "open", "on nopass ~* +@all"), ERR_OK);
    assert_int_equal(acl_log_known(a), ERR_OK);
    for (int i = 0; i < N; i++)
        assert_non_null(was[i] = acl_find(a, bytes_str(names[i])));

    acl_await_other_log(a);
    for (int i = 0; i < N; i++) { /* nobody knows yet */
        assert_ptr_equal(now = acl_refresh(a, was[i]), was[i]);
        acl_user_unref(now);
    }
    assert_int_equal(login(a, "same", "abc"), ERR_LOADING);
    assert_int_equal(login(a, "same", "xyz"), ERR_LOADING);
    assert_int_equal(login(a, "nobody", "xyz"), ERR_LOADING);
    assert_int_equal(acl_set_default_password(a, bytes_str("abc")), ERR_OK);

    assert_int_equal(take(a, "same", "on #" XYZ " #" ABC " resetchannels -@all +ping"), ERR_OK);
    assert_int_equal(take(a, "other", "on #" XYZ " ~* +@all"), ERR_OK);
    assert_int_equal(take(a, "card", "on ~* -@all +ping"), ERR_OK);
    assert_int_equal(take(a, "open", "on nopass ~* -@all +ping"), ERR_OK);
    assert_int_equal(acl_log_known(a), ERR_OK);
    for (int i = 0; i < N; i++) {
        now = acl_refresh(a, was[i]);
        assert_int_equal(now != NULL, stays[i]);
        assert_ptr_not_equal(now, was[i]);
        acl_user_unref(now);
        acl_user_unref(was[i]);
    }
    assert_int_equal(login(a, "same", "abc"), ERR_OK);
    assert_int_equal(login(a, "gone", "abc"), ERR_WRONGPASS);
    assert_int_equal(login(a, "default", ""), ERR_WRONGPASS); /* requirepass was said meanwhile */
    assert_int_equal(login(a, "default", "abc"), ERR_OK);
    acl_free(a);
}

/* Users of a file are this node's, whatever its log. */
static void users_of_lines_stay(void **state)
{
    struct acl *a = new_acl();
    (void)state;
    assert_int_equal(configure(a, "bob on >abc ~* +@all"), ERR_OK);
    assert_int_equal(acl_await_log(a), ERR_OK);
    assert_int_equal(acl_log_known(a), ERR_OK);
    struct acl_user *u = acl_find(a, bytes_str("bob"));
    acl_await_other_log(a);
    assert_int_equal(login(a, "bob", "abc"), ERR_OK);
    assert_int_equal(take(a, "bob", "off"), ERR_OK);
    assert_int_equal(acl_log_known(a), ERR_OK);
    struct acl_user *now = acl_refresh(a, u);
    assert_ptr_equal(now, u);
    acl_user_unref(now);
    acl_user_unref(u);
    acl_free(a);
}

/* Somebody must be able to say what is to be done when there is no log. */
static void the_default_user_stands_in_when_the_log_is_lost(void **state)
{
    struct acl *a = new_acl();
    struct acl_denial d;
    struct call c = {.cmd = command_by_name(bytes_str("PING"))};
    (void)state;
    assert_int_equal(acl_set_default_password(a, bytes_str("abc")), ERR_OK);
    assert_int_equal(acl_await_log(a), ERR_OK);
    assert_int_equal(acl_log_lost(a), ERR_OK);
    uint64_t epoch = acl_epoch(a);
    assert_int_equal(acl_log_lost(a), ERR_OK);
    assert_int_equal(acl_epoch(a), epoch);
    assert_int_equal(login(a, "default", "abc"), ERR_OK);
    assert_int_equal(login(a, "default", "xyz"), ERR_WRONGPASS);
    assert_int_equal(login(a, "ann", "abc"), ERR_LOADING);
    assert_int_equal(acl_set_default_password(a, bytes_str("")), ERR_OK);
    struct acl_user *u = acl_default(a);
    assert_true(acl_user_open(u) && acl_user_stands_in(u) && !acl_user_unknown(u));
    assert_int_equal(acl_check(u, 1, &c, &d), ERR_OK);
    acl_user_unref(u);
    assert_int_equal(take(a, "default", "off resetchannels -@all"), ERR_OK);
    assert_int_equal(acl_log_known(a), ERR_OK);
    assert_string_equal(user_text(a, "default"), "off nopass resetchannels -@all"); /* requirepass was said last */
    u = acl_default(a);
    assert_false(acl_user_stands_in(u));
    acl_user_unref(u);
    acl_free(a);
}

static void a_log_without_a_default_user_has_the_one_that_is_built_in(void **state)
{
    struct acl *a = new_acl();
    (void)state;
    assert_int_equal(acl_await_log(a), ERR_OK);
    assert_int_equal(acl_log_known(a), ERR_OK);
    assert_string_equal(user_text(a, "default"), "on nopass ~* &* +@all");
    acl_free(a);
}

static void requirepass_stands_over_the_log_at_a_start(void **state)
{
    struct acl *a = new_acl();
    (void)state;
    assert_int_equal(acl_set_default_password(a, bytes_str("abc")), ERR_OK);
    assert_int_equal(acl_await_log(a), ERR_OK);
    assert_int_equal(login(a, "default", "abc"), ERR_LOADING);
    assert_int_equal(take(a, "default", "on nopass ~a resetchannels +@all"), ERR_OK);
    assert_int_equal(acl_log_known(a), ERR_OK);
    assert_string_equal(user_text(a, "default"), "on #" ABC " ~a resetchannels +@all");
    /* Later the log has the word. */
    assert_int_equal(take(a, "default", "on nopass ~b resetchannels +@all"), ERR_OK);
    assert_string_equal(user_text(a, "default"), "on nopass ~b resetchannels +@all");
    acl_free(a);

    a = new_acl();
    assert_int_equal(acl_set_default_password(a, bytes_str("abc")), ERR_OK);
    assert_int_equal(acl_await_log(a), ERR_OK);
    assert_int_equal(acl_log_known(a), ERR_OK);
    assert_string_equal(user_text(a, "default"), "on #" ABC " ~* &* +@all");
    acl_free(a);
}

static void what_a_later_version_wrote_gives_nothing(void **state)
{
    struct acl *a = new_acl();
    (void)state;
    log_set_level(LOG_NOTHING);
    assert_int_equal(take(a, "ann", "on nopass ~* resetchannels -@all +get +new.command -new|sub (+@newclass +ping)"),
                     ERR_OK);
    assert_string_equal(user_text(a, "ann"), "on nopass ~* resetchannels -@all +get (resetchannels -@all +ping)");
    /* What may take away something that is here must not be passed over. */
    assert_int_equal(take(a, "ann", "on nopass ~* resetchannels +@all -@newclass"), ERR_OK);
    assert_string_equal(user_text(a, "ann"), "off resetchannels -@all");
    assert_int_equal(take(a, "ann", "on nopass newword"), ERR_OK);
    assert_string_equal(user_text(a, "ann"), "off resetchannels -@all");
    acl_free(a);
}

static const char *lines(struct acl *a, int *changed)
{
    static char text[1024];
    struct buf b;
    buf_init_secret(&b, sizeof text - 1);
    assert_int_equal(acl_config_lines(a, &b, changed), ERR_OK);
    memcpy(text, buf_data(&b), buf_size(&b));
    text[buf_size(&b)] = 0;
    buf_fini(&b);
    return text;
}

static void users_of_lines(void **state)
{
    struct acl *a = new_acl();
    int changed;
    (void)state;
    assert_int_equal(configure(a, "ann on >abc ~*"), ERR_OK);
    assert_int_equal(configure(a, "default on nopass +ping"), ERR_OK); /* of nothing, not of what is built in */
    assert_int_equal(configure(a, "ann off"), ERR_SYNTAX);
    assert_string_equal(why.text, "Duplicate user found. A user can only be defined once in config files");
    assert_int_equal(configure(a, "bob +nosuch"), ERR_SYNTAX);
    assert_string_equal(user_text(a, "default"), "on nopass resetchannels -@all +ping");
    assert_int_equal(acl_await_log(a), ERR_OK);
    assert_int_equal(login(a, "default", ""), ERR_OK); /* known by the line */
    assert_int_equal(login(a, "ann", "abc"), ERR_OK);
    assert_int_equal(login(a, "bob", "abc"), ERR_LOADING);
    assert_int_equal(take(a, "ann", "off resetchannels -@all"), ERR_OK); /* not its home */
    assert_int_equal(take(a, "bob", "on #" ABC " resetchannels -@all"), ERR_OK);
    assert_int_equal(acl_log_known(a), ERR_OK);
    assert_int_equal(login(a, "ann", "abc"), ERR_OK);
    assert_int_equal(login(a, "bob", "abc"), ERR_OK);
    assert_string_equal(user_text(a, "default"), "on nopass resetchannels -@all +ping");
    assert_true(!acl_in_log(a, bytes_str("ann")) && acl_in_log(a, bytes_str("bob")));

    lines(a, &changed);
    assert_false(changed);
    assert_int_equal(set(a, "ann ~\"q\\"), ERR_SYNTAX); /* has all keys */
    assert_int_equal(set(a, "ann resetkeys ~\\q"), ERR_OK);
    assert_string_equal(lines(a, &changed), "ann on \"#" ABC "\" \"~\\\\q\" resetchannels -@all\n"
                                            "default on nopass resetchannels -@all +ping\n");
    assert_true(changed);
    assert_int_equal(acl_drop(a, bytes_str("ann")), 1);
    assert_false(acl_in_log(a, bytes_str("ann"))); /* the line will make it again */
    assert_string_equal(lines(a, &changed), "default on nopass resetchannels -@all +ping\n");
    acl_free(a);
}

static void write_file(const char *path, const char *text)
{
    assert_int_equal(file_write_atomic(path, bytes_str(text), 0600), ERR_OK);
}

static void users_of_a_file(void **state)
{
    static const struct {
        const char *text, *what;
    } bad[] = {
        {"user ann on\nuser bob on\nuser ann off\n", ":3: Duplicate user 'ann' found. No user was changed."},
        {"user default on\n\nuser default off", ":3: Duplicate user 'default' found. No user was changed."},
        {"user ann on >very-secret +nosuch\n",
         ":1: user ann, word 3: Unknown command or category name in ACL. No user was changed."},
        {"ann on", ":1: a line begins with 'user' and a name. No user was changed."},
        {"user", ":1: a line begins with 'user' and a name. No user was changed."},
        {"user ann (~a", ":1: user ann, word 1: Syntax error. No user was changed."},
    };
    char dir[] = "/tmp/test-acl-XXXXXX", path[64], said[1024];
    struct stat st;
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/users.acl", dir);
    struct acl *a = new_acl();
    assert_int_equal(acl_use_file(a, path, said, sizeof said), ERR_NOTFOUND);
    assert_non_null(strstr(said, "No such file"));
    acl_free(a);

    write_file(path, "# people\nuser ann on >abc ~* (+get ~x)\r\n\n  user bob off\n");
    a = new_acl();
    assert_int_equal(acl_use_file(a, path, said, sizeof said), ERR_OK);
    assert_int_equal(acl_await_log(a), ERR_OK); /* nothing to wait for */
    assert_int_equal(login(a, "ann", "abc"), ERR_OK);
    assert_int_equal(login(a, "eve", "abc"), ERR_WRONGPASS);
    assert_string_equal(user_text(a, "default"), "on nopass ~* &* +@all");
    assert_int_equal(take(a, "eve", "on nopass resetchannels -@all"), ERR_OK);
    assert_string_equal(user_text(a, "eve"), "none");
    assert_int_equal(configure(a, "eve on"), ERR_CONFLICT);

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char want[512];
        write_file(path, bad[i].text);
        assert_int_equal(acl_load_file(a, said, sizeof said), ERR_SYNTAX);
        snprintf(want, sizeof want, "%s%s", path, bad[i].what);
        assert_string_equal(said, want);
        assert_int_equal(login(a, "ann", "abc"), ERR_OK);
    }

    struct acl_user *ann = acl_find(a, bytes_str("ann")), *def = acl_default(a);
    assert_int_equal(set(a, "eve on >abc (~x)"), ERR_OK);
    assert_int_equal(acl_save_file(a), ERR_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(set(a, "ann off"), ERR_OK);
    assert_int_equal(acl_drop(a, bytes_str("eve")), 1);
    assert_int_equal(acl_load_file(a, said, sizeof said), ERR_OK);
    assert_int_equal(login(a, "ann", "abc"), ERR_OK);
    assert_int_equal(login(a, "eve", "abc"), ERR_OK);
    assert_string_equal(user_text(a, "eve"), "on #" ABC " resetchannels -@all (~x resetchannels -@all)");
    struct acl_user *again = acl_refresh(a, def);
    assert_non_null(again); /* the default user's connections stay, the others' go */
    assert_null(acl_refresh(a, ann));
    acl_user_unref(again);
    acl_user_unref(def);
    acl_user_unref(ann);
    acl_free(a);
    assert_int_equal(file_unlink(path), ERR_OK);
    assert_int_equal(file_rmdir(dir), ERR_OK);
}

static void lists(void **state)
{
    struct acl *a = new_acl();
    struct buf b;
    unsigned n;
    (void)state;
    assert_int_equal(set(a, "eve on"), ERR_OK);
    assert_int_equal(set(a, "ann on >abc ~* +@all"), ERR_OK);
    buf_init_secret(&b, 4096);
    assert_int_equal(acl_list(a, &b, &n), ERR_OK);
    assert_int_equal(n, 3);
    assert_int_equal(buf_put_u8(&b, 0), ERR_OK);
    assert_string_equal((char *)buf_data(&b), "user ann on #" ABC " ~* resetchannels +@all\n"
                                              "user default on nopass ~* &* +@all\n"
                                              "user eve on resetchannels -@all\n");
    buf_clear(&b);
    assert_int_equal(acl_names(a, &b, &n), ERR_OK);
    assert_int_equal(n, 3);
    assert_memory_equal(buf_data(&b), "ann\ndefault\neve\n", 16);
    buf_fini(&b);
    acl_free(a);
}

static enum err everything(struct acl *a)
{
    enum err e = set(a, "ann on >x ~a ~b &c +get +select|0 (+@all ~d)");
    if (!e)
        e = set(a, "ann -get ~e (&f)");
    if (!e)
        e = acl_set_default_password(a, bytes_str("y"));
    if (!e)
        e = acl_await_log(a);
    if (!e)
        e = take(a, "bob", "on nopass ~a resetchannels +@all (+get)");
    return e ? e : acl_log_known(a);
}

static void faults(void **state)
{
    struct acl *a;
    (void)state;
    for (long n = 1;; n++) {
        fault_arm(FAULT_MEM, n, 1);
        enum err e = acl_new(&a);
        if (!e)
            e = everything(a);
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        assert_int_equal(e, fired ? ERR_OOM : ERR_OK);
        if (a) /* usable afterwards */
            assert_int_equal(set(a, "cat on"), ERR_OK);
        acl_free(a);
        if (!fired)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(passwords),
        cmocka_unit_test(what_is_wrong_changes_nothing),
        cmocka_unit_test(rules_become_text_and_back),
        cmocka_unit_test(what_a_user_may_do),
        cmocka_unit_test(a_swap_between_the_check_and_the_use),
        cmocka_unit_test(logged_in_or_not),
        cmocka_unit_test(a_user_is_the_same_until_it_is_dropped),
        cmocka_unit_test(channels_are_kept_or_not),
        cmocka_unit_test(new_users_may_have_all_channels),
        cmocka_unit_test(users_of_the_log),
        cmocka_unit_test(users_of_another_log),
        cmocka_unit_test(users_of_lines_stay),
        cmocka_unit_test(the_default_user_stands_in_when_the_log_is_lost),
        cmocka_unit_test(a_log_without_a_default_user_has_the_one_that_is_built_in),
        cmocka_unit_test(requirepass_stands_over_the_log_at_a_start),
        cmocka_unit_test(what_a_later_version_wrote_gives_nothing),
        cmocka_unit_test(users_of_lines),
        cmocka_unit_test(users_of_a_file),
        cmocka_unit_test(lists),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
