/* replica.c - nodes without voters: Redis's semantics; and Redises, which are told that they cannot take part. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "tests/lib/e2e.h"

static char number[16]; /* of a port, as a word */

static const char *port_of(const struct e2e *s)
{
    snprintf(number, sizeof number, "%d", s->port);
    return number;
}

static void start_pair(struct e2e *a, struct e2e *b)
{
    e2e_start(a, "--port", "auto", NULL);
    e2e_start(b, "--port", "auto", "--replicaof", "127.0.0.1", port_of(a), NULL);
    e2e_info_wait(b->c, "master_link_status", "up");
    e2e_info_wait(a->c, "connected_slaves", "1");
}

static void a_replica_takes_the_data_of_a_primary_that_is_alone(void **state)
{
    struct e2e a, b;
    (void)state;
    e2e_start(&a, "--port", "auto", NULL);
    for (int i = 0; i < 100; i++)
        e2e_expect(a.c, "+OK", "SET before-%d %d", i, i);
    assert_string_equal(e2e_info(a.c, "repl_backlog_active"), "0"); /* nothing of replication is in the way */
    e2e_start(&b, "--port", "auto", "--replicaof", "127.0.0.1", port_of(&a), NULL);
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_expect(a.c, "+OK", "SET k one");
    e2e_expect(a.c, ":1", "WAIT 1 0");
    e2e_expect(b.c, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(a.c, "CLIENT LASTLSN"));
    e2e_expect(b.c, "$one", "GET k");
    for (int i = 0; i < 100; i++) {
        char want[16];
        snprintf(want, sizeof want, "$%d", i);
        e2e_expect(b.c, want, "GET before-%d", i);
    }
    e2e_expect(b.c, "-READONLY ...", "SET k two");
    e2e_finish(&b);
    e2e_expect(a.c, ":0", "WAIT 1 1"); /* and needs nobody to write */
    e2e_expect(a.c, "+OK", "SET k three");
    e2e_finish(&a);
}

/* What only reads is answered, as of one point in time; what is watched counts there too. */
static void a_replica_answers_transactions_that_read(void **state)
{
    struct e2e a, b;
    redisContext *looks;
    (void)state;
    start_pair(&a, &b);
    looks = e2e_connect(&b);
    e2e_expect(b.c, "+OK", "WATCH k");
    e2e_expect(b.c, "+OK", "MULTI");
    e2e_expect(b.c, "+QUEUED", "GET k");
    e2e_expect(b.c, "+QUEUED", "DBSIZE");
    e2e_expect(b.c, "[nil :0]", "EXEC"); /* before there is a vault */
    e2e_expect(a.c, "+OK", "MSET k one l two");
    e2e_expect(a.c, ":1", "SECRET.SET db0 deleted x");
    e2e_expect(a.c, ":1", "SECRET.DEL db0 deleted");
    e2e_expect(b.c, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(a.c, "CLIENT LASTLSN"));
    e2e_expect(b.c, "+OK", "WATCH k nothing");
    e2e_expect(b.c, "+OK", "MULTI");
    e2e_expect(b.c, "+QUEUED", "GET k");
    e2e_expect(b.c, "+QUEUED", "MGET k nothing l");
    e2e_expect(b.c, "+QUEUED", "DBSIZE");
    e2e_expect(b.c, "+QUEUED", "SELECT 1");
    e2e_expect(b.c, "+QUEUED", "GET k");
    e2e_expect(b.c, "+QUEUED", "SECRET.GET db0 k VERSION 1");
    e2e_expect(b.c, "+QUEUED", "SECRET.STATE db0 deleted");
    e2e_expect(b.c, "[$one [$one nil $two] :3 +OK nil $one $DELETED]", "EXEC");
    e2e_expect(b.c, "+OK", "SELECT 0");

    e2e_expect(b.c, "+OK", "WATCH k");
    e2e_expect(b.c, "+OK", "MULTI");
    e2e_expect(b.c, "+QUEUED", "GET l");
    e2e_expect(b.c, "+QUEUED", "SELECT 1");
    e2e_expect(a.c, "+OK", "SET k three");
    e2e_expect(looks, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(a.c, "CLIENT LASTLSN"));
    e2e_expect(b.c, "nil", "EXEC");
    e2e_expect(b.c, "$three", "GET k"); /* the database is the old one */

    e2e_expect(b.c, "+OK", "MULTI");
    e2e_expect(b.c, "-READONLY ...", "SET k four");
    e2e_expect(b.c, "-EXECABORT ...", "EXEC");
    redisFree(looks);
    e2e_finish(&b);
    e2e_finish(&a);
}

/* Two keys that are always written together are never seen apart. */
static void a_transaction_reads_one_point_in_time(void **state)
{
    struct e2e a, b;
    const char *both[] = {"MSET x %d y %d", "MULTI", "GET x", "GET y", "EXEC"};
    (void)state;
    start_pair(&a, &b);
    e2e_expect(a.c, "+OK", both[0], 0, 0);
    e2e_expect(b.c, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(a.c, "CLIENT LASTLSN"));
    for (int i = 1; i <= 3000; i++) {
        redisReply *r;
        redisAppendCommand(a.c, both[0], i, i);
        for (int k = 1; k < 5; k++)
            redisAppendCommand(b.c, both[k]);
        for (int k = 1; k < 5; k++) {
            assert_int_equal(redisGetReply(b.c, (void **)&r), REDIS_OK);
            if (k == 4) {
                assert_int_equal(r->elements, 2);
                assert_string_equal(r->element[0]->str, r->element[1]->str);
            }
            freeReplyObject(r);
        }
        if (i % 50 == 0) /* so many are under way */
            for (int k = 0; k < 50; k++) {
                assert_int_equal(redisGetReply(a.c, (void **)&r), REDIS_OK);
                freeReplyObject(r);
            }
    }
    e2e_finish(&b);
    e2e_finish(&a);
}

/* min-replicas-to-write: one that is stopped is not in time, and is again when it goes on. */
static void writes_wait_for_enough_replicas(void **state)
{
    struct e2e a, b;
    struct e2e_deadline w = {.what = "writes to be refused"}, back = {.what = "writes to be taken again"};
    (void)state;
    e2e_start(&a, "--port", "auto", "--min-replicas-to-write", "1", "--min-replicas-max-lag", "1", NULL);
    e2e_expect(a.c, "-NOREPLICAS ...", "SET k one"); /* nobody follows */
    e2e_expect(a.c, "+OK", "CONFIG SET min-replicas-to-write 0");
    e2e_expect(a.c, "+OK", "SET k one");
    e2e_start(&b, "--port", "auto", "--replicaof", "127.0.0.1", port_of(&a), NULL);
    e2e_info_wait(a.c, "connected_slaves", "1");
    e2e_expect(a.c, "+OK", "CONFIG SET min-replicas-to-write 2");
    e2e_expect(a.c, "-NOREPLICAS ...", "SET k two");
    e2e_expect(a.c, "+OK", "CONFIG SET min-replicas-to-write 1 min-replicas-max-lag 1000");
    e2e_expect(a.c, "+OK", "SET k two");
    e2e_expect(a.c, "+OK", "CONFIG SET min-replicas-max-lag 1");
    e2e_pause(&b);
    while (e2e_not_yet(&w)) {
        redisReply *r = e2e_command(a.c, "SET k three");
        int refused = r->type == REDIS_REPLY_ERROR && strncmp(r->str, "NOREPLICAS", 10) == 0;
        freeReplyObject(r);
        if (refused)
            break;
    }
    kill(b.pid, SIGCONT);
    while (e2e_not_yet(&back)) {
        redisReply *r = e2e_command(a.c, "SET k four");
        int taken = r->type == REDIS_REPLY_STATUS;
        freeReplyObject(r);
        if (taken)
            break;
    }
    e2e_finish(&b);
    e2e_finish(&a);
}

/* It does not become the primary of a term of its own first, which would part it from the one that it is told to
 * follow.
 */
static void a_copy_of_a_node_is_told_to_follow_it(void **state)
{
    struct e2e a, b;
    char said[512], command[512];
    (void)state;
    e2e_start(&a, "--port", "auto", NULL);
    e2e_start(&b, "--port", "auto", NULL);
    e2e_expect(a.c, "+OK", "SET k one");
    e2e_stop(&a);
    e2e_stop(&b);
    snprintf(command, sizeof command,
             "cd %s && rm -rf base cell shard-* snapshots state wal hsm && cd %s && "
             "cp -a base cell shard-* state wal hsm %s",
             b.dir, a.dir, b.dir);
    assert_int_equal(e2e_run(said, sizeof said, "sh", "-c", command, NULL), 0);
    e2e_again(&a);
    e2e_again(&b);
    e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %d", a.port);
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_expect(a.c, "+OK", "SET k two");
    e2e_expect(a.c, ":1", "WAIT 1 0");
    e2e_expect(b.c, "+OK", "READ.AFTER %lld", e2e_int(a.c, "CLIENT LASTLSN"));
    e2e_expect(b.c, "$two", "GET k");
    e2e_finish(&b);
    e2e_finish(&a);
}

/* A write that only the primary has, its replica being stopped, and two shutdowns: one that is called off, one not. */
static void a_shutdown_waits_for_replicas(void **state)
{
    struct e2e a, b;
    redisContext *ends, *writes;
    (void)state;
    start_pair(&a, &b);
    e2e_expect(a.c, "+OK", "CONFIG SET shutdown-timeout 600 repl-timeout 600");
    e2e_expect(a.c, "-ERR No shutdown in progress.", "SHUTDOWN ABORT");
    e2e_pause(&b);
    e2e_expect(a.c, "+OK", "SET k one");
    for (int times = 0; times < 2; times++) {
        ends = e2e_connect(&a);
        writes = e2e_connect(&a);
        redisAppendCommand(ends, "SHUTDOWN");
        for (int done = 0; !done;)
            assert_int_equal(redisBufferWrite(ends, &done), REDIS_OK);
        e2e_info_reaches(a.c, "shutdown_in_milliseconds", 1);
        e2e_expect(a.c, "$one", "GET k");
        redisAppendCommand(writes, "SET k two");
        for (int done = 0; !done;)
            assert_int_equal(redisBufferWrite(writes, &done), REDIS_OK);
        e2e_info_wait(a.c, "blocked_clients", "2");
        if (times)
            break;
        e2e_expect(a.c, "+OK", "SHUTDOWN ABORT");
        e2e_expect_next(ends, "-ERR Errors trying to SHUTDOWN. Check logs.");
        e2e_expect_next(writes, "+OK");
        e2e_expect(a.c, "+OK", "SET k one");
        redisFree(ends);
        redisFree(writes);
    }
    kill(b.pid, SIGCONT);
    int status = e2e_wait(&a);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    e2e_expect_closed(ends);
    redisFree(ends);
    redisFree(writes); /* what waited is not carried out */
    assert_true(e2e_log_has(&a, "1 of 1 replicas are in sync when shutting down."));
    e2e_expect(b.c, "$one", "GET k");
    e2e_finish(&b);
    e2e_finish(&a);
}

/* Whoever does not want to wait: SHUTDOWN NOW, and a signal while one waits already. */
static void a_shutdown_does_not_have_to_wait(void **state)
{
    struct e2e a, b;
    (void)state;
    for (int times = 0; times < 2; times++) {
        start_pair(&a, &b);
        e2e_expect(a.c, "+OK", "CONFIG SET shutdown-timeout 600 repl-timeout 600");
        e2e_pause(&b);
        e2e_expect(a.c, "+OK", "SET k one");
        kill(a.pid, SIGTERM);
        e2e_info_reaches(a.c, "shutdown_in_milliseconds", 1);
        if (times)
            kill(a.pid, SIGTERM);
        else
            redisAppendCommand(a.c, "SHUTDOWN NOW"), e2e_expect_closed(a.c);
        int status = e2e_wait(&a);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        assert_true(e2e_log_has(&a, "Lagging replica"));
        kill(b.pid, SIGCONT);
        e2e_finish(&b);
        e2e_finish(&a);
    }
}

static void writes_wait_while_replication_is_turned_on(void **state)
{
    struct e2e a, b;
    (void)state;
    e2e_start(&a, "--port", "auto", NULL);
    e2e_begin(&b, "--port", "auto", "--replicaof", "127.0.0.1", port_of(&a), NULL);
    int n = 0;
    do { /* none of them is refused */
        for (int i = 0; i < 100; i++)
            redisAppendCommand(a.c, "SET k%d v", n++ % 500);
        for (int i = 0; i < 100; i++)
            e2e_expect_next(a.c, "+OK");
    } while (strcmp(e2e_info(a.c, "connected_slaves"), "1") != 0);
    e2e_ready(&b);
    e2e_finish(&b);
    e2e_finish(&a);
}

/* As with a Redis: who asks right behind REPLICAOF is not told of the link that was there before. */
static void the_old_link_is_not_shown_behind_an_order(void **state)
{
    struct e2e a, b;
    int nobody = e2e_free_port();
    (void)state;
    start_pair(&a, &b);
    for (int i = 0; i < 20; i++) {
        e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %d", nobody);
        assert_string_equal(e2e_info(b.c, "master_link_status"), "down");
        e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %d", a.port);
        e2e_info_wait(b.c, "master_link_status", "up");
    }
    e2e_finish(&b);
    e2e_finish(&a);
}

/* As with a Redis. */
static void who_waits_for_replicas_is_told_that_the_primary_is_none_any_more(void **state)
{
    struct e2e a, b;
    (void)state;
    start_pair(&a, &b);
    redisContext *waits = e2e_connect(&a);
    e2e_expect(waits, "+OK", "SET k one");
    redisAppendCommand(waits, "WAIT 5 0");
    for (int done = 0; !done;) /* until it is sent */
        assert_int_equal(redisBufferWrite(waits, &done), REDIS_OK);
    struct e2e_deadline w = {.what = "WAIT to have come"};
    redisReply *r = NULL;
    do {
        if (r)
            freeReplyObject(r);
        r = e2e_command(a.c, "CLIENT LIST TYPE normal");
    } while (!strstr(r->str, "cmd=wait") && e2e_not_yet(&w));
    freeReplyObject(r);
    e2e_expect(a.c, "+OK", "REPLICAOF 127.0.0.1 %d", b.port);
    e2e_expect_next(waits, "-UNBLOCKED force unblock from blocking operation, instance state changed ...");
    e2e_expect_closed(waits);
    redisFree(waits);
    e2e_finish(&b);
    e2e_finish(&a);
}

/* The line of the link to the other node, which there is one of. */
static void await_link(redisContext *c, const char *type, char flag, char id[32])
{
    struct e2e_deadline w = {.what = "a link"};
    char want[64];
    snprintf(want, sizeof want, " flags=%c ", flag);
    for (int there = 0; !there;) {
        redisReply *r = e2e_command(c, "CLIENT LIST TYPE %s", type);
        there = r->type == REDIS_REPLY_STRING && strstr(r->str, want) && sscanf(r->str, "id=%31s ", id) == 1;
        freeReplyObject(r);
        assert_true(there || e2e_not_yet(&w));
    }
}

static void an_operator_resets_a_link(void **state)
{
    struct e2e a, b;
    char first[32], second[32];
    (void)state;
    start_pair(&a, &b);
    e2e_expect(a.c, "$", "CLIENT LIST TYPE master");
    e2e_expect(b.c, "$", "CLIENT LIST TYPE replica");
    await_link(b.c, "master", 'M', first);
    await_link(a.c, "replica", 'S', first);
    e2e_expect(a.c, ":0", "CLIENT KILL TYPE master");
    e2e_expect(a.c, ":1", "CLIENT KILL TYPE replica");
    e2e_log_wait(&a, "is closed: CLIENT KILL");
    do
        await_link(a.c, "slave", 'S', second);
    while (strcmp(first, second) == 0);
    e2e_info_wait(a.c, "connected_slaves", "1");
    await_link(b.c, "master", 'M', first);
    e2e_expect(b.c, ":1", "CLIENT KILL ID %s", first);
    do
        await_link(b.c, "master", 'M', second);
    while (strcmp(first, second) == 0);
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_finish(&b);
    e2e_finish(&a);
}

static void no_one_promotes_at_once(void **state)
{
    struct e2e a, b;
    (void)state;
    start_pair(&a, &b);
    e2e_expect(a.c, "+OK", "SET k one");
    e2e_expect(a.c, ":1", "WAIT 1 0");
    e2e_kill(&a);
    redisAppendCommand(b.c, "REPLICAOF NO ONE"); /* the answer says that it is so */
    redisAppendCommand(b.c, "SET k two GET");
    e2e_expect_next(b.c, "+OK");
    e2e_expect_next(b.c, "$one");
    assert_string_equal(e2e_info(b.c, "role"), "master");
    redisAppendCommand(b.c, "REPLICAOF 127.0.0.1 1");
    redisAppendCommand(b.c, "SET k three");
    e2e_expect_next(b.c, "+OK");
    e2e_expect_next(b.c, "-READONLY ...");
    redisAppendCommand(b.c, "MULTI"); /* as Sentinel does it */
    redisAppendCommand(b.c, "REPLICAOF NO ONE");
    redisAppendCommand(b.c, "CONFIG REWRITE");
    redisAppendCommand(b.c, "EXEC");
    redisAppendCommand(b.c, "SET k four GET");
    e2e_expect_next(b.c, "+OK");
    e2e_expect_next(b.c, "+QUEUED");
    e2e_expect_next(b.c, "+QUEUED");
    e2e_expect_next(b.c, "[+OK -ERR The server is running without a config file]");
    e2e_expect_next(b.c, "$two");
    e2e_finish(&b);
    e2e_finish(&a);
}

static void both_come_back_after_a_restart(void **state)
{
    struct e2e a, b;
    (void)state;
    start_pair(&a, &b);
    e2e_expect(a.c, "+OK", "SET k one");
    e2e_expect(b.c, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(a.c, "CLIENT LASTLSN"));
    e2e_kill(&a);
    e2e_info_wait(b.c, "master_link_status", "down");
    e2e_expect(b.c, "$one", "GET k"); /* replica-serve-stale-data */
    e2e_again(&a);
    e2e_expect(a.c, "+OK", "SET k two");
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_kill(&b);
    e2e_expect(a.c, "+OK", "SET k three");
    e2e_again(&b);
    e2e_expect(a.c, ":1", "WAIT 1 0");
    e2e_expect(b.c, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(a.c, "CLIENT LASTLSN"));
    e2e_expect(b.c, "$three", "GET k");
    e2e_finish(&b);
    e2e_finish(&a);
}

/* What another node has takes its place (resync.c), and not before it is here. */
static void a_replica_keeps_its_data_until_its_primary_is_there(void **state)
{
    struct e2e b;
    (void)state;
    e2e_start(&b, "--port", "auto", NULL);
    e2e_expect(b.c, "+OK", "SET mine 1");
    e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %d", e2e_free_port());
    e2e_info_wait(b.c, "role", "slave");
    e2e_log_wait(&b, "No link to");
    assert_non_null(strstr(e2e_info(b.c, "master_link_error"), "refused"));
    e2e_expect(b.c, "-READONLY ...", "SET mine 2");
    e2e_expect(b.c, "$1", "GET mine");
    e2e_expect(b.c, "+OK", "REPLICAOF NO ONE");
    e2e_info_wait(b.c, "role", "master");
    e2e_expect(b.c, "+OK", "SET mine 3");
    e2e_expect(b.c, "-ERR Invalid master port", "REPLICAOF 127.0.0.1 x");
    e2e_finish(&b);
}

/* It is empty, and told of nobody who lives; so it looks where it is told to next. */
static void an_empty_replica_is_told_to_look_elsewhere(void **state)
{
    struct e2e a, b;
    char nobody[16];
    (void)state;
    snprintf(nobody, sizeof nobody, "%d", e2e_free_port());
    e2e_start(&a, "--port", "auto", NULL);
    e2e_expect(a.c, "+OK", "SET k one");
    e2e_begin(&b, "--port", "auto", "--replicaof", "127.0.0.1", nobody, NULL);
    e2e_log_wait(&b, "waits for its cell");
    redisContext *c = e2e_connect(&b);
    snprintf(nobody, sizeof nobody, "%d", e2e_free_port());
    e2e_expect(c, "+OK", "REPLICAOF 127.0.0.1 %s", nobody);
    e2e_info_wait(c, "master_port", nobody);
    e2e_expect(c, "+OK", "REPLICAOF 127.0.0.1 %d", a.port);
    e2e_info_wait(c, "master_port", port_of(&a));
    redisFree(c);
    e2e_ready(&b);
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_expect(b.c, "+OK", "READ.AFTER %lld", e2e_int(a.c, "CLIENT LASTLSN"));
    e2e_expect(b.c, "$one", "GET k");
    e2e_finish(&b);
    e2e_finish(&a);
}

/* Users are in the log that it does not have: who has the password is let in, and what needs no data is answered. */
static void an_empty_replica_has_a_password(void **state)
{
    struct e2e s;
    char nobody[16];
    (void)state;
    snprintf(nobody, sizeof nobody, "%d", e2e_free_port());
    e2e_begin(&s, "--port", "auto", "--requirepass", "pw", "--replicaof", "127.0.0.1", nobody, NULL);
    e2e_log_wait(&s, "waits for its cell");
    redisContext *c = e2e_connect(&s);
    e2e_expect(c, "-NOAUTH ...", "PING");
    e2e_expect(c, "+OK", "AUTH pw");
    e2e_expect(c, "-LOADING ...", "GET k");
    e2e_expect(c, "+OK", "MULTI");
    e2e_expect(c, "[]", "EXEC");
    e2e_expect(c, "+OK", "MULTI");
    e2e_expect(c, "+QUEUED", "UNWATCH");
    e2e_expect(c, "[+OK]", "EXEC");
    assert_string_equal(e2e_info(c, "role"), "slave");
    redisFree(c);
    e2e_finish(&s);
}

/* As soon as it answers anything, which may be before it has read its log. */
static void tell_at_once(struct e2e *s, const char *what)
{
    struct e2e_deadline w = {.what = "an answer"};
    redisReply *r = NULL;
    e2e_begin_again(s);
    while (e2e_not_yet(&w)) {
        redisContext *c = redisConnectUnix(s->socket);
        if (c && !c->err)
            r = redisCommand(c, what);
        int told = r && r->type == REDIS_REPLY_STATUS;
        freeReplyObject(r);
        r = NULL;
        redisFree(c);
        if (told)
            break;
    }
    e2e_ready(s);
}

#define MAY_ALL "--user", "default", "on", "nopass", "~*", "&*", "+@all" /* also before users are read from the log */

/* A log that takes a while to read. */
static void write_much(struct e2e *s)
{
    enum { N = 15000, BATCH = 500 };
    for (int n = 0; n < N; n += BATCH) {
        for (int i = 0; i < BATCH; i++)
            redisAppendCommand(s->c, "SET k%d %0500d", n + i, i);
        for (int i = 0; i < BATCH; i++)
            e2e_expect_next(s->c, "+OK");
    }
}

static void what_a_node_is_told_while_it_starts_is_not_forgotten(void **state)
{
    struct e2e a, b;
    char nobody[16], follow[64];
    (void)state;
    snprintf(nobody, sizeof nobody, "%d", e2e_free_port());
    e2e_start(&a, "--port", "auto", NULL);
    snprintf(follow, sizeof follow, "REPLICAOF 127.0.0.1 %d", a.port);
    e2e_start(&b, "--port", "auto", MAY_ALL, NULL);
    write_much(&b);
    e2e_stop(&b);
    e2e_again_with(&b, "--port", "auto", MAY_ALL, "--replicaof", "127.0.0.1", nobody, NULL);
    e2e_kill(&b);
    tell_at_once(&b, "REPLICAOF NO ONE");
    e2e_info_wait(b.c, "role", "master");
    write_much(&b);
    e2e_kill(&b);
    tell_at_once(&b, follow); /* another than its replicaof */
    e2e_info_wait(b.c, "master_port", port_of(&a));
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_finish(&b);

    e2e_start(&b, "--port", "auto", MAY_ALL, NULL); /* and one without replicaof */
    write_much(&b);
    e2e_kill(&b);
    tell_at_once(&b, follow);
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_finish(&b);
    e2e_finish(&a);
}

static void replicaof_is_kept_by_config_rewrite(void **state)
{
    struct e2e b;
    char path[256], line[64];
    int nobody = e2e_free_port();
    (void)state;
    e2e_start(&b, "--port", "auto", NULL);
    e2e_stop(&b);
    snprintf(path, sizeof path, "%s/conf", b.dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, "port %d\ndir %s\nunixsocket %s\n", b.port, b.dir, b.socket);
    fclose(f);
    pid_t pid = e2e_spawn(b.log, e2e_build_path("coffer-server"), path, NULL);
    struct e2e_deadline w = {.what = "the server with a file"};
    redisContext *c = NULL;
    redisReply *r = NULL;
    do {
        if (c)
            redisFree(c);
        c = redisConnectUnix(b.socket);
        if (r)
            freeReplyObject(r);
        r = redisCommand(c, "PING");
    } while ((!r || strcmp(r->str, "PONG") != 0) && e2e_not_yet(&w));
    freeReplyObject(r);
    e2e_expect(c, "+OK", "REPLICAOF 127.0.0.1 %d", nobody);
    e2e_expect(c, "+OK", "CONFIG REWRITE");
    snprintf(line, sizeof line, "replicaof 127.0.0.1 %d", nobody);
    char said[4096];
    assert_int_equal(e2e_run(said, sizeof said, "grep", "-x", line, path, NULL), 0);
    e2e_expect(c, "+OK", "REPLICAOF NO ONE");
    e2e_expect(c, "+OK", "CONFIG REWRITE");
    assert_int_not_equal(e2e_run(said, sizeof said, "grep", "replicaof", path, NULL), 0);
    redisFree(c);
    e2e_end(pid);
    e2e_finish(&b);
}

/* ---- Redises ---- */

static void a_redis_cannot_be_a_replica(void **state)
{
    struct e2e a;
    char log[256], redis[16];
    (void)state;
    e2e_start(&a, "--port", "auto", NULL);
    snprintf(log, sizeof log, "%s/redis.log", a.dir);
    snprintf(redis, sizeof redis, "%d", e2e_free_port());
    pid_t pid = e2e_spawn(log, "redis-server", "--port", redis, "--dir", a.dir, "--save", "", "--replicaof",
                          "127.0.0.1", port_of(&a), NULL);
    e2e_info_wait(a.c, "errorstat_NOMASTERLINK", "count=2"); /* it tries again, slowly */
    e2e_expect(a.c, "-ERR there is no RDB to be had...", "SYNC");
    e2e_expect(a.c, "+OK", "SET k v");
    assert_string_equal(e2e_info(a.c, "repl_backlog_active"), "0");
    e2e_end(pid);
    e2e_finish(&a);
}

static void a_redis_cannot_be_the_primary(void **state)
{
    struct e2e b;
    char log[256], redis[16];
    (void)state;
    e2e_start(&b, "--port", "auto", NULL);
    e2e_expect(b.c, "+OK", "SET mine 1");
    snprintf(log, sizeof log, "%s/redis.log", b.dir);
    snprintf(redis, sizeof redis, "%d", e2e_free_port());
    pid_t pid = e2e_spawn(log, "redis-server", "--port", redis, "--dir", b.dir, "--save", "", NULL);
    e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %s", redis);
    e2e_log_wait(&b, "that is a Redis");
    assert_non_null(strstr(e2e_info(b.c, "master_link_error"), "that is a Redis"));
    e2e_expect(b.c, "$1", "GET mine");
    e2e_expect(b.c, "+OK", "REPLICAOF NO ONE");
    e2e_info_wait(b.c, "role", "master");
    e2e_expect(b.c, "+OK", "SET mine 2");
    e2e_end(pid);
    e2e_finish(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_replica_takes_the_data_of_a_primary_that_is_alone, e2e_teardown),
        cmocka_unit_test_teardown(a_replica_answers_transactions_that_read, e2e_teardown),
        cmocka_unit_test_teardown(a_transaction_reads_one_point_in_time, e2e_teardown),
        cmocka_unit_test_teardown(writes_wait_for_enough_replicas, e2e_teardown),
        cmocka_unit_test_teardown(a_shutdown_waits_for_replicas, e2e_teardown),
        cmocka_unit_test_teardown(a_shutdown_does_not_have_to_wait, e2e_teardown),
        cmocka_unit_test_teardown(a_copy_of_a_node_is_told_to_follow_it, e2e_teardown),
        cmocka_unit_test_teardown(writes_wait_while_replication_is_turned_on, e2e_teardown),
        cmocka_unit_test_teardown(the_old_link_is_not_shown_behind_an_order, e2e_teardown),
        cmocka_unit_test_teardown(who_waits_for_replicas_is_told_that_the_primary_is_none_any_more, e2e_teardown),
        cmocka_unit_test_teardown(an_operator_resets_a_link, e2e_teardown),
        cmocka_unit_test_teardown(no_one_promotes_at_once, e2e_teardown),
        cmocka_unit_test_teardown(both_come_back_after_a_restart, e2e_teardown),
        cmocka_unit_test_teardown(a_replica_keeps_its_data_until_its_primary_is_there, e2e_teardown),
        cmocka_unit_test_teardown(an_empty_replica_is_told_to_look_elsewhere, e2e_teardown),
        cmocka_unit_test_teardown(an_empty_replica_has_a_password, e2e_teardown),
        cmocka_unit_test_teardown(what_a_node_is_told_while_it_starts_is_not_forgotten, e2e_teardown),
        cmocka_unit_test_teardown(replicaof_is_kept_by_config_rewrite, e2e_teardown),
        cmocka_unit_test_teardown(a_redis_cannot_be_a_replica, e2e_teardown),
        cmocka_unit_test_teardown(a_redis_cannot_be_the_primary, e2e_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
