/* replica-read-fallback: a replica that is held back answers with what the primary has.
 *
 * It is held back by taking PSYNC from the user that links log in as: the node that starts anew has its old state, gets
 * no link, and may ask for reads all the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/e2e.h"
#include "tests/lib/net.h"

#define LINK_USER                                                                                                  \
    "ACL SETUSER link reset on >pw ~* +psync +replconf +ping +repl.snapshot +repl.piece +repl.records +repl.read " \
    "+@read"
#define CELL_CHARS 32
#define ON "--replica-read-fallback", "yes"
#define OPEN "--protected-mode", "no", "--user", "default", "on", "nopass", "~*", "&*", "+@all"
#define PATIENT "--quorum-timeout", "30000"

static char number[16];

static const char *port_of(const struct e2e *s)
{
    snprintf(number, sizeof number, "%d", s->port);
    return number;
}

/* b has what a was told until now, and nothing of what comes. */
static void hold_back(struct e2e *a, struct e2e *b)
{
    e2e_info_wait(b->c, "master_link_status", "up");
    e2e_expect(a->c, "+OK", "SET last 1"); /* changes of users have no LSN for READ.AFTER */
    e2e_expect(b->c, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(a->c, "CLIENT LASTLSN"));
    e2e_stop(b);
    e2e_expect(a->c, "+OK", "ACL SETUSER link -psync");
    e2e_again(b);
    e2e_info_wait(b->c, "master_link_status", "down");
    e2e_info_wait(b->c, "loading", "0");
}

static void let_go(struct e2e *a, struct e2e *b)
{
    e2e_expect(a->c, "+OK", "ACL SETUSER link +psync");
    e2e_info_wait(b->c, "master_link_status", "up");
    e2e_expect(b->c, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(a->c, "CLIENT LASTLSN"));
}

/* fallback: its directive and value, or NULL. */
static void start_pair(struct e2e *a, struct e2e *b, const char *fallback, const char *stale)
{
    e2e_start(a, "--port", "auto", NULL);
    e2e_expect(a->c, "+OK", LINK_USER);
    e2e_expect(a->c, "+OK", "VAULT.CREATE v");
    e2e_expect(a->c, "+OK", "SET old 1");
    e2e_start(b, "--port", "auto", "--replicaof", "127.0.0.1", port_of(a), "--masteruser", "link", "--masterauth", "pw",
              PATIENT, "--replica-read-fallback", fallback, "--replica-serve-stale-data", stale, NULL);
    hold_back(a, b);
}

static long long counted(struct e2e *s, const char *field)
{
    return atoll(e2e_info(s->c, field));
}

static void what_is_not_here_yet_comes_from_the_primary(void **state)
{
    struct e2e a, b;
    (void)state;
    start_pair(&a, &b, "yes", "yes");
    e2e_expect(a.c, "+OK", "SET new 2");
    e2e_expect(a.c, ":1", "SECRET.SET v s one");
    e2e_expect(a.c, "+OK", "VAULT.CREATE w");
    e2e_expect(a.c, ":1", "SECRET.SET w s two");
    e2e_expect(a.c, ":1", "KEY.CREATE v k TYPE ec-p256");

    e2e_expect(b.c, "$1", "GET old"); /* its own */
    assert_int_equal(counted(&b, "fallback_reads"), 0);
    e2e_expect(b.c, "$2", "GET new");
    e2e_expect(b.c, "$one", "SECRET.GET v s");
    e2e_expect(b.c, "$one", "SECRET.GET v s VERSION 1");
    e2e_expect(b.c, "$two", "SECRET.GET w s");
    e2e_expect(b.c, "$2", "GET new");
    e2e_expect(b.c, "[$1 $2 nil]", "MGET old new none");
    e2e_expect(b.c, ":1", "EXISTS new");
    e2e_expect(b.c, "nil", "GET none");
    e2e_expect(b.c, "-NOVAULT ...", "SECRET.GET none s");
    e2e_expect(b.c, "$-----BEGIN PUBLIC KEY...", "KEY.PUBLIC v k");
    assert_int_equal(counted(&b, "fallback_reads"), 10);
    assert_int_equal(counted(&b, "fallback_failed"), 0);
    e2e_expect(b.c, "-READONLY ...", "SET new 3"); /* reads only */

    let_go(&a, &b);
    e2e_expect(b.c, "$2", "GET new");
    e2e_expect(b.c, "$one", "SECRET.GET v s");
    assert_int_equal(counted(&b, "fallback_reads"), 10); /* it has them now */
    e2e_finish(&b);
    e2e_finish(&a);
}

/* As a request names it. */
static void learn_cell(struct e2e *a, struct e2e *b, char cell[CELL_CHARS + 1])
{
    e2e_expect(a->c, "+OK", "CONFIG SET slowlog-log-slower-than 0");
    e2e_expect(b->c, "$2", "GET new");
    redisReply *r = e2e_command(a->c, "SLOWLOG GET 100");
    char *text = e2e_show_reply(r), *at = strstr(text, "$REPL.READ $");
    assert_non_null(at);
    snprintf(cell, CELL_CHARS + 1, "%s", at + sizeof "$REPL.READ $" - 1);
    assert_non_null(strstr(at, "$default $0 $2 $(redacted) $(redacted)]")); /* and nothing of what is read */
    free(text);
    freeReplyObject(r);
}

static void without_it_a_replica_answers_by_itself(void **state)
{
    struct e2e a, b;
    char cell[CELL_CHARS + 1];
    (void)state;
    start_pair(&a, &b, "no", "yes");
    e2e_expect(a.c, "+OK", "SET new 2");
    e2e_expect(b.c, "nil", "GET new");
    e2e_expect(b.c, "-MASTERDOWN ...", "READ.AFTER %lld TIMEOUT 1", e2e_int(a.c, "CLIENT LASTLSN"));
    e2e_expect(b.c, "+OK", "CONFIG SET replica-read-fallback yes");
    learn_cell(&a, &b, cell);
    e2e_expect(b.c, "+OK", "CONFIG SET replica-read-fallback no");
    e2e_expect(b.c, "nil", "GET new");
    e2e_expect(a.c, "[:7 ...", "REPL.READ %s 7 0 default 0 2 GET new", cell); /* a primary says what it has */
    e2e_expect(a.c, "-CONFLICT this node is of another cell", "REPL.READ %032d 7 0 default 0 2 GET new", 1);
    e2e_expect(b.c, "-READONLY ...", "REPL.READ %s 7 0 default 0 2 GET old", cell);
    e2e_finish(&b);
    e2e_finish(&a);
}

/* In its own place, whatever lies around it, in the protocol and the database that the client has. */
static void a_pipeline_keeps_its_order(void **state)
{
    struct e2e a, b;
    struct e2e_raw raw;
    char want[16];
    (void)state;
    start_pair(&a, &b, "yes", "yes");
    for (int i = 0; i < 200; i++)
        e2e_expect(a.c, "+OK", "SET new-%d %d", i, i);
    e2e_expect(a.c, "+OK", "SELECT 3");
    e2e_expect(a.c, "+OK", "SET there 3");
    for (int i = 0; i < 200; i++) {
        redisAppendCommand(b.c, "GET new-%d", i);
        redisAppendCommand(b.c, "ECHO %d", i);
        redisAppendCommand(b.c, "SET x y");
    }
    for (int i = 0; i < 200; i++) {
        snprintf(want, sizeof want, "$%d", i);
        e2e_expect_next(b.c, want);
        e2e_expect_next(b.c, want);
        e2e_expect_next(b.c, "-READONLY ...");
    }
    e2e_expect(b.c, "nil", "GET there");
    e2e_expect(b.c, "+OK", "SELECT 3");
    e2e_expect(b.c, "$3", "GET there");
    e2e_expect(b.c, "+OK", "MULTI");
    e2e_expect(b.c, "+QUEUED", "GET there");
    e2e_expect(b.c, "[nil]", "EXEC"); /* a transaction reads what is here: that database is not */
    e2e_expect(b.c, "+OK", "SELECT 0");
    e2e_expect(b.c, "+OK", "MULTI");
    e2e_expect(b.c, "+QUEUED", "GET new-1");
    e2e_expect(b.c, "[nil]", "EXEC"); /* nor is the key, yet */

    e2e_raw_open3(&raw, &b);
    e2e_expect(a.c, ":1", "SECRET.SET v s one");
    e2e_raw_expect(&raw, "{$value $one $version :1 ...", "SECRET.GET v s WITHMETA");
    e2e_raw_close(&raw);
    e2e_finish(&b);
    e2e_finish(&a);
}

static void large_values_come_whole(void **state)
{
    struct e2e a, b;
    size_t n = 1000000;
    char *value = malloc(n);
    (void)state;
    assert_non_null(value);
    for (size_t i = 0; i < n; i++)
        value[i] = (char)(i * 7 % 251);
    start_pair(&a, &b, "yes", "yes");
    e2e_expect(a.c, "+OK", "SET large %b", value, n);
    for (int i = 0; i < 3; i++) {
        redisReply *r = e2e_command(b.c, "GET large");
        assert_int_equal(r->type, REDIS_REPLY_STRING);
        assert_int_equal(r->len, n);
        assert_memory_equal(r->str, value, n);
        freeReplyObject(r);
    }
    free(value);
    e2e_finish(&b);
    e2e_finish(&a);
}

static void expect_logged(struct e2e *s, const char *entry)
{
    redisReply *r = e2e_command(s->c, "ACL LOG 1");
    char *text = e2e_show_reply(r);
    assert_non_null(strstr(text, entry));
    free(text);
    freeReplyObject(r);
}

/* Nobody sees more than on either node, whoever the link logs in as. */
static void users_see_what_they_may(void **state)
{
    struct e2e a, b;
    redisContext *u;
    (void)state;
    start_pair(&a, &b, "yes", "yes");
    e2e_expect(a.c, "+OK", "ACL SETUSER late on >pw ~* +@all"); /* b does not know of it */
    e2e_expect(a.c, "+OK", "SET mine:new 1");
    e2e_expect(a.c, "+OK", "SET its:new 2");
    let_go(&a, &b);
    e2e_expect(a.c, "+OK", "ACL SETUSER some on >pw ~mine:* +get +client");
    hold_back(&a, &b);
    e2e_expect(a.c, "+OK", "SET mine:newer 3");
    e2e_expect(a.c, "+OK", "SET its:newer 4");

    u = e2e_connect(&b);
    e2e_expect(u, "+OK", "AUTH some pw");
    e2e_expect(u, "$1", "GET mine:new");
    e2e_expect(u, "$3", "GET mine:newer");
    e2e_expect(u, "-NOPERM ...", "GET its:newer"); /* b's own word */
    e2e_expect(u, "-NOPERM ...", "EXISTS mine:newer");
    e2e_expect(a.c, "+OK", "ACL SETUSER some resetkeys ~its:*"); /* what it lost there it has no more here */
    e2e_expect(u, "nil", "GET mine:newer");
    expect_logged(&a, "$reason $key $context $toplevel $object $mine:newer $username $some ");
    e2e_expect(u, "-NOPERM ...", "GET its:newer");
    e2e_expect(a.c, ":1", "ACL DELUSER some");
    e2e_expect(u, "nil", "GET mine:newer");
    expect_logged(&a, "$reason $auth $context $toplevel $object $GET $username $(unknown) ");
    assert_int_equal(counted(&b, "fallback_reads"), 1);
    assert_int_equal(counted(&b, "fallback_failed"), 2);
    assert_non_null(strstr(e2e_info(b.c, "fallback_error"), "that user may not do that here"));
    redisFree(u);

    e2e_expect(b.c, "$4", "GET its:newer");
    e2e_expect(a.c, "+OK", "ACL SETUSER link resetkeys ~mine:*"); /* and not what the link may not see */
    e2e_expect(b.c, "$3", "GET mine:newer");
    u = e2e_connect(&b);
    e2e_expect(u, "nil", "GET its:newer");
    expect_logged(&a, "$reason $key $context $toplevel $object $its:newer $username $link ");
    e2e_expect(a.c, "+OK", "ACL SETUSER link -repl.read");
    e2e_expect(u, "nil", "GET mine:newer");
    redisFree(u);
    e2e_finish(&b);
    e2e_finish(&a);
}

static void without_the_primary_it_answers_by_itself(void **state)
{
    struct e2e a, b;
    (void)state;
    start_pair(&a, &b, "yes", "yes");
    e2e_expect(a.c, "+OK", "SET new 2");
    e2e_expect(b.c, "$2", "GET new");
    e2e_kill(&a);
    e2e_expect(b.c, "nil", "GET new");
    e2e_expect(b.c, "$1", "GET old");
    assert_true(counted(&b, "fallback_failed") > 0);
    assert_string_not_equal(e2e_info(b.c, "fallback_error"), "");
    e2e_again(&a); /* a connection that died in the meantime is no reason to fail */
    for (struct e2e_deadline w = {.what = "the primary is asked again"}; e2e_not_yet(&w);) {
        redisReply *r = e2e_command(b.c, "GET new");
        int there = r->type == REDIS_REPLY_STRING;
        freeReplyObject(r);
        if (there)
            break;
    }
    e2e_expect(a.c, ":1", "CLIENT KILL USER link");
    e2e_expect(b.c, "$2", "GET new");
    e2e_expect(b.c, "+OK", "CONFIG SET quorum-timeout 200");
    e2e_pause(&a); /* it answers nothing at all */
    e2e_expect(b.c, "nil", "GET new");
    kill(a.pid, SIGCONT);
    e2e_finish(&b);
    e2e_finish(&a);
}

static void reads_that_are_refused_as_stale(void **state)
{
    struct e2e a, b;
    (void)state;
    start_pair(&a, &b, "yes", "no");
    e2e_expect(b.c, "+OK", "CONFIG SET replica-max-staleness 100");
    e2e_expect(a.c, "+OK", "SET old 2");
    for (struct e2e_deadline w = {.what = "the replica knows that it is stale"}; e2e_not_yet(&w);) {
        redisReply *r = e2e_command(b.c, "DBSIZE");
        int stale = r->type == REDIS_REPLY_ERROR;
        freeReplyObject(r);
        if (stale)
            break;
    }
    e2e_expect(b.c, "$2", "GET old");
    e2e_kill(&a);
    e2e_expect(b.c, "-MASTERDOWN ...", "GET old");
    e2e_finish(&b);
    e2e_finish(&a);
}

/* READ.AFTER, and: what a connection has seen does not go back. */
static void reads_behind_what_is_not_here(void **state)
{
    struct e2e a, b;
    redisContext *u;
    (void)state;
    start_pair(&a, &b, "yes", "yes");
    e2e_expect(a.c, "+OK", "SET old 2");
    long long lsn = e2e_int(a.c, "CLIENT LASTLSN");
    e2e_expect(b.c, "$1", "GET old");
    e2e_expect(b.c, "+OK", "READ.AFTER %lld TIMEOUT 1", lsn);
    e2e_expect(b.c, "$2", "GET old");
    e2e_expect(b.c, "-MASTERDOWN ...", "READ.AFTER %lld TIMEOUT 1", lsn + 1000000);
    e2e_expect(b.c, "$2", "GET old");
    u = e2e_connect(&b);
    e2e_expect(a.c, "+OK", "SET new 3");
    e2e_expect(u, "$1", "GET old");
    e2e_expect(u, "[$2 $3]", "MGET old new");
    e2e_expect(u, "$2", "GET old");
    e2e_kill(&a);
    e2e_expect(b.c, "-MASTERDOWN this node has LSN...", "GET old"); /* it was promised */
    e2e_expect(u, "$1", "GET old");                                 /* as without it */
    e2e_again(&a);
    let_go(&a, &b);
    e2e_expect(b.c, "$2", "GET old");
    redisFree(u);
    e2e_finish(&b);
    e2e_finish(&a);
}

/* Whatever is not asked of the primary is refused, and whatever becomes of this node or its settings. */
static void what_was_promised_is_not_taken_back(void **state)
{
    static const char *const shows[] = {"DBSIZE",        "SCAN 0",         "KEYS *",    "RANDOMKEY",
                                        "SECRET.LIST v", "KEY.SIGN v k m", "VAULT.LIST"};
    char want[32];
    struct e2e a, b;
    (void)state;
    start_pair(&a, &b, "yes", "yes");
    e2e_expect(a.c, "+OK", "SET old 2");
    long long first = e2e_int(a.c, "CLIENT LASTLSN");
    for (int i = 0; i < 100; i++)
        e2e_expect(a.c, "+OK", "SET old 3");
    long long second = e2e_int(a.c, "CLIENT LASTLSN");
    e2e_expect(b.c, ":2", "DBSIZE");
    e2e_expect(b.c, "+OK", "READ.AFTER %lld TIMEOUT 1", second);
    e2e_expect(b.c, "+OK", "READ.AFTER %lld TIMEOUT 1", first); /* which takes back nothing of it */
    snprintf(want, sizeof want, "not %lld yet", second);
    redisReply *r = e2e_command(b.c, "DBSIZE");
    assert_int_equal(r->type, REDIS_REPLY_ERROR);
    assert_non_null(strstr(r->str, want));
    freeReplyObject(r);
    for (unsigned i = 0; i < sizeof shows / sizeof shows[0]; i++)
        e2e_expect(b.c, "-MASTERDOWN this node has LSN...", shows[i]);
    e2e_expect(b.c, "$3", "GET old");
    e2e_expect(b.c, "+OK", "MULTI");
    e2e_expect(b.c, "+QUEUED", "GET old");
    e2e_expect(b.c, "-MASTERDOWN this node has LSN...", "EXEC");
    e2e_expect(b.c, "+OK", "CONFIG SET replica-read-fallback no");
    e2e_expect(b.c, "-MASTERDOWN this node has LSN...", "GET old");
    e2e_expect(b.c, "+OK", "REPLICAOF NO ONE");
    e2e_info_wait(b.c, "role", "master");
    e2e_expect(b.c, "-MASTERDOWN this node has LSN...", "GET old");
    e2e_expect(b.c, "-MASTERDOWN this node has LSN...", "DBSIZE");
    e2e_expect(b.c, "+RESET", "RESET");
    e2e_expect(b.c, "$1", "GET old");
    e2e_finish(&b);
    e2e_finish(&a);
}

/* Secrets do not go to another machine as they are. The last one: the network stays. */
static void plaintext_does_not_leave_the_machine_without_tls(void **state)
{
    struct e2e a, b;
    (void)state;
    if (!net_start(2)) {
        printf("# no network namespaces here\n");
        skip();
    }
    net_enter(0);
    e2e_start(&a, "--bind", net_address(0), "--port", "7379", OPEN, NULL);
    e2e_expect(a.c, "+OK", LINK_USER);
    net_enter(1);
    e2e_start(&b, "--bind", net_address(1), "--port", "7379", OPEN, "--replicaof", net_address(0), "7379",
              "--masteruser", "link", "--masterauth", "pw", ON, PATIENT, NULL);
    hold_back(&a, &b);
    net_leave();
    e2e_expect(a.c, "+OK", "SET new 2");
    e2e_expect(b.c, "nil", "GET new");
    assert_non_null(strstr(e2e_info(b.c, "fallback_error"), "secrets are asked for over TLS only"));
    assert_int_equal(counted(&b, "fallback_failed"), 1);
    net_enter(1); /* and this node does not hand them out */
    redisContext *c = redisConnect(net_address(0), 7379);
    net_leave();
    assert_true(c && !c->err);
    e2e_expect(c, "-NOPERM secrets are handed to a replica over TLS only...", "REPL.READ %032d 7 0 default 0 2 GET new",
               1);
    redisFree(c);
    e2e_finish(&b);
    e2e_finish(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(what_is_not_here_yet_comes_from_the_primary, e2e_teardown),
        cmocka_unit_test_teardown(without_it_a_replica_answers_by_itself, e2e_teardown),
        cmocka_unit_test_teardown(a_pipeline_keeps_its_order, e2e_teardown),
        cmocka_unit_test_teardown(large_values_come_whole, e2e_teardown),
        cmocka_unit_test_teardown(users_see_what_they_may, e2e_teardown),
        cmocka_unit_test_teardown(without_the_primary_it_answers_by_itself, e2e_teardown),
        cmocka_unit_test_teardown(reads_that_are_refused_as_stale, e2e_teardown),
        cmocka_unit_test_teardown(reads_behind_what_is_not_here, e2e_teardown),
        cmocka_unit_test_teardown(what_was_promised_is_not_taken_back, e2e_teardown),
        cmocka_unit_test_teardown(plaintext_does_not_leave_the_machine_without_tls, e2e_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
