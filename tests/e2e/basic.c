/* A server as its users meet it: start, say hello, log in, pipeline, look around, stop, start again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/lib/e2e.h"

/* The very first start, as `./run` does it: the server makes its token itself, and its files are its own. */
static void test_first_start_needs_nothing(void **state)
{
    struct e2e s;
    struct stat st;
    char path[E2E_PATH + 16];

    (void)state;
    e2e_start_bare(&s, "--port", "auto", NULL);
    e2e_expect(s.c, "+PONG", "PING");
    e2e_expect(s.c, "+OK", "VAULT.CREATE demo");
    e2e_expect(s.c, ":1", "SECRET.SET demo app/db hunter2");
    e2e_expect(s.c, "$hunter2", "SECRET.GET demo app/db");
    e2e_expect(s.c, ":1", "KEY.CREATE demo k");

    redisContext *tcp = e2e_connect_tcp(&s);
    e2e_expect(tcp, "$hunter2", "SECRET.GET demo app/db");
    redisFree(tcp);

    snprintf(path, sizeof path, "%s/hsm", s.dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
    snprintf(path, sizeof path, "%s/hsm/pin", s.dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    e2e_finish(&s);
}

static void test_ping_and_echo(void **state)
{
    struct e2e s;

    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+PONG", "PING");
    e2e_expect(s.c, "+PONG", "ping");
    e2e_expect(s.c, "$there?", "PING there?");
    e2e_expect(s.c, "$\\00\\ff", "ECHO %b", "\0\xff", (size_t)2);
    e2e_expect(s.c, "-ERR wrong number of arguments for 'ping' command", "PING a b");
    e2e_expect(s.c, "-ERR wrong number of arguments for 'echo' command", "ECHO");
    e2e_expect(s.c, "-ERR unknown command 'nosuch', with args beginning with: 'a' 'b' ", "nosuch a b");
    e2e_expect(s.c, "-ERR unknown subcommand 'nosuch'. Try CLIENT HELP.", "CLIENT nosuch");
    e2e_expect(s.c, "+OK", "QUIT");
    e2e_expect_closed(s.c);
    e2e_finish(&s);
}

/* As RESP3 a map, as RESP2 the same as a flat array; what follows is in the new protocol at once. */
static void test_hello_chooses_the_protocol(void **state)
{
    struct e2e s;
    struct e2e_raw r;

    (void)state;
    e2e_start(&s, NULL);
    e2e_raw_open(&r, &s);
    e2e_raw_expect(&r, "[$server $redis $version $7...", "HELLO");
    e2e_raw_expect(&r, "nil", "CLIENT GETNAME");
    e2e_raw_expect(&r, "{$server $redis $version $7...", "HELLO 3 SETNAME tester");
    e2e_raw_expect(&r, "$tester", "CLIENT GETNAME");
    e2e_raw_expect(&r, "{$secret.get {$summary ...", "COMMAND DOCS SECRET.GET");
    assert_int_equal(answer_get(e2e_raw_command(&r, "HELLO"), "proto")->integer, 3);
    e2e_raw_expect(&r, "-NOPROTO ...", "HELLO 4");
    e2e_raw_expect(&r, "-ERR Protocol version is not an integer or out of range", "HELLO x");
    e2e_raw_expect(&r, "-ERR Syntax error in HELLO option 'what'", "HELLO 3 what");
    e2e_raw_expect(&r, "{...", "HELLO");
    e2e_raw_expect(&r, "[$server ...", "HELLO 2");
    e2e_raw_expect(&r, "[$secret.get [$summary ...", "COMMAND DOCS SECRET.GET");
    e2e_raw_expect(&r, "+RESET", "RESET");
    e2e_raw_close(&r);
    e2e_finish(&s);
}

static void test_password(void **state)
{
    struct e2e s;
    struct e2e_raw r;

    (void)state;
    e2e_start(&s, "--requirepass", "correct horse", NULL);
    e2e_expect(s.c, "-NOAUTH Authentication required.", "PING");
    e2e_expect(s.c, "-NOAUTH Authentication required.", "GET k");
    e2e_expect(s.c, "-NOAUTH HELLO must be called ...", "HELLO 3");
    e2e_expect(s.c, "-WRONGPASS ...", "AUTH %s", "wrong");
    e2e_expect(s.c, "-WRONGPASS ...", "AUTH default %s", "wrong");
    e2e_expect(s.c, "-WRONGPASS ...", "AUTH nobody %s", "correct horse");
    e2e_expect(s.c, "-NOAUTH Authentication required.", "PING");
    e2e_expect(s.c, "+OK", "AUTH %s", "correct horse");
    e2e_expect(s.c, "+PONG", "PING");
    e2e_expect(s.c, "+RESET", "RESET");
    e2e_expect(s.c, "-NOAUTH Authentication required.", "PING");
    e2e_expect(s.c, "+OK", "AUTH default %s", "correct horse");
    e2e_expect(s.c, "+PONG", "PING");

    e2e_raw_open(&r, &s);
    e2e_raw_expect(&r, "-WRONGPASS ...", "HELLO 3 AUTH default %s", "wrong");
    e2e_raw_expect(&r, "-NOAUTH Authentication required.", "PING");
    e2e_raw_expect(&r, "{$server ...", "HELLO 3 AUTH default %s", "correct horse");
    e2e_raw_expect(&r, "+PONG", "PING");
    e2e_raw_close(&r);
    assert_false(e2e_log_has(&s, "correct horse"));
    e2e_finish(&s);
}

/* Answers come in the order of the requests, whatever each of them waits for: the log, the HSM, or nothing. */
static void test_pipeline_keeps_its_order(void **state)
{
    enum { N = 300 };
    struct e2e s;
    char want[32];

    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+OK", "VAULT.CREATE v");
    e2e_expect(s.c, ":1", "KEY.CREATE v k TYPE hmac-sha256");
    for (int i = 0; i < N; i++) {
        redisAppendCommand(s.c, "SECRET.SET v counter %d", i);
        redisAppendCommand(s.c, "SECRET.GET v counter");
        redisAppendCommand(s.c, "ECHO %d", i);
        redisAppendCommand(s.c, "KEY.MAC v k message");
        redisAppendCommand(s.c, "SECRET.SET v");
    }
    for (int i = 0; i < N; i++) {
        snprintf(want, sizeof want, ":%d", i + 1);
        e2e_expect_next(s.c, want);
        snprintf(want, sizeof want, "$%d", i);
        e2e_expect_next(s.c, want);
        e2e_expect_next(s.c, want);
        e2e_expect_next(s.c, "$...");
        e2e_expect_next(s.c, "-ERR wrong number of arguments for 'secret.set' command");
    }
    e2e_finish(&s);
}

/* A request may come in any pieces, many may come in one, and inline commands are understood. */
static void test_requests_in_pieces(void **state)
{
    static const char text[] = "*2\r\n$4\r\nECHO\r\n$3\r\none\r\nPING\r\necho \"t w o\"\r\n";
    struct e2e s;
    struct e2e_raw r;

    (void)state;
    e2e_start(&s, NULL);
    e2e_raw_open(&r, &s);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; round == 0 && i < sizeof text - 1; i++)
            e2e_raw_send(&r, text + i, 1);
        if (round == 1)
            e2e_raw_send(&r, text, sizeof text - 1);
        assert_true(answer_is(e2e_raw_next(&r), "one"));
        assert_true(answer_is(e2e_raw_next(&r), "PONG"));
        assert_true(answer_is(e2e_raw_next(&r), "t w o"));
    }
    e2e_raw_send(&r, "*1\r\nnonsense\r\n", 14);
    assert_true(answer_is(e2e_raw_next(&r), "ERR Protocol error: expected '$', got 'n'"));
    assert_null(e2e_raw_next(&r));
    e2e_raw_close(&r);
    e2e_expect(s.c, "+PONG", "PING");
    e2e_finish(&s);
}

static void test_info(void **state)
{
    static const char *const fields[] = {
        "redis_version",
        "coffer_version",
        "process_id",
        "run_id",
        "tcp_port",
        "uptime_in_seconds",
        "connected_clients",
        "used_memory",
        "total_commands_processed",
        "total_connections_received",
        "loading",
        "role",
        "master_replid",
        "master_repl_offset",
        "connected_slaves",
    };
    struct e2e s;

    (void)state;
    e2e_start(&s, "--port", "auto", NULL);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        if (!e2e_info(s.c, fields[i])[0])
            fail_msg("INFO has no field %s", fields[i]);
    }
    assert_string_equal(e2e_info(s.c, "role"), "master");
    assert_string_equal(e2e_info(s.c, "loading"), "0");
    assert_int_equal(strlen(e2e_info(s.c, "run_id")), 40);
    assert_int_equal(atoi(e2e_info(s.c, "tcp_port")), s.port);
    assert_int_equal(atoi(e2e_info(s.c, "process_id")), s.pid);
    assert_int_equal(atoi(e2e_info(s.c, "connected_clients")), 1);
    redisContext *other = e2e_connect(&s);
    e2e_expect(other, "+PONG", "PING");
    e2e_info_wait(s.c, "connected_clients", "2");
    redisFree(other);
    e2e_info_wait(s.c, "connected_clients", "1");
    e2e_expect(s.c, "$# Server...", "INFO server");
    e2e_expect(s.c, "$# Replication...", "INFO replication");
    e2e_finish(&s);
}

static void test_config(void **state)
{
    struct e2e s;
    char want[E2E_PATH + 16];

    (void)state;
    e2e_start(&s, "--maxclients", "123", NULL);
    e2e_expect(s.c, "[$maxclients $123]", "CONFIG GET maxclients");
    snprintf(want, sizeof want, "[$dir $%s]", s.dir);
    e2e_expect(s.c, want, "CONFIG GET dir");
    e2e_expect(s.c, "[]", "CONFIG GET nosuch");
    e2e_expect(s.c, "+OK", "CONFIG SET maxclients 124 timeout 3600");
    e2e_expect(s.c, "[$maxclients $124]", "CONFIG GET maxclients");
    e2e_expect(s.c, "[$timeout $3600]", "CONFIG GET timeou[t]");
    e2e_expect(s.c, "-ERR ...", "CONFIG SET maxclients 125 nosuch 1");
    e2e_expect(s.c, "-ERR ...", "CONFIG SET maxclients many");
    e2e_expect(s.c, "-ERR ...", "CONFIG SET shards 8");
    e2e_expect(s.c, "[$maxclients $124]", "CONFIG GET maxclients");
    e2e_finish(&s);
}

static void test_command_shapes(void **state)
{
    struct e2e s;
    struct e2e_raw r;
    redisReply *list;
    long long count;

    (void)state;
    e2e_start(&s, NULL);
    count = e2e_int(s.c, "COMMAND COUNT");
    assert_true(count > 50);
    list = e2e_command(s.c, "COMMAND");
    assert_int_equal(list->elements, count);
    for (size_t i = 0; i < list->elements; i++)
        assert_int_equal(list->element[i]->elements, 10);
    freeReplyObject(list);
    list = e2e_command(s.c, "COMMAND LIST");
    assert_int_equal(list->type, REDIS_REPLY_ARRAY);
    assert_true(list->elements >= (size_t)count);
    freeReplyObject(list);
    e2e_expect(s.c, "[[$secret.get :-3 [+readonly +fast] ...", "COMMAND INFO secret.get");
    e2e_expect(s.c, "[nil [$get :2 ...", "COMMAND INFO nosuch GET");
    e2e_expect(s.c, "[$k1 $k2]", "COMMAND GETKEYS MGET k1 k2");
    e2e_raw_open3(&r, &s);
    const struct answer *docs = e2e_raw_command(&r, "COMMAND DOCS");
    assert_int_equal(docs->type, ANSWER_MAP);
    assert_int_equal(docs->count, 2 * count);
    for (size_t i = 0; i < docs->count; i += 2) {
        static const char *const fields[] = {"summary", "since", "group", "complexity"};
        for (size_t f = 0; f < sizeof fields / sizeof *fields; f++) {
            const struct answer *a = answer_get(docs->item[i + 1], fields[f]);
            if (!a || a->type != ANSWER_BULK || !a->text.n)
                fail_msg("%.*s has no %s", (int)docs->item[i]->text.n, (const char *)docs->item[i]->text.p, fields[f]);
        }
    }
    e2e_raw_close(&r);
    e2e_finish(&s);
}

/* redis-cli asks COMMAND DOCS when it starts a prompt and aborts on a shape it does not know. */
static void test_redis_cli(void **state)
{
    struct e2e s;
    char out[8192];

    (void)state;
    e2e_start(&s, NULL);
    assert_int_equal(e2e_run(out, sizeof out, "redis-cli", "-s", s.socket, "VAULT.CREATE", "demo", NULL), 0);
    assert_string_equal(out, "OK\n");
    assert_int_equal(e2e_run(out, sizeof out, "sh", "-c",
                             "printf hunter2 | redis-cli -s \"$0\" -x SECRET.SET demo app/db", s.socket, NULL),
                     0);
    assert_string_equal(out, "1\n");
    assert_int_equal(
        e2e_run(out, sizeof out, "redis-cli", "-3", "--json", "-s", s.socket, "SECRET.GET", "demo", "app/db", NULL), 0);
    assert_string_equal(out, "\"hunter2\"\n");
    /* A script on standard input is what a prompt is: it asks COMMAND DOCS first. */
    assert_int_equal(e2e_run(out, sizeof out, "sh", "-c",
                             "printf 'PING\\nSECRET.GET demo app/db\\n' | redis-cli -s \"$0\"", s.socket, NULL),
                     0);
    assert_string_equal(out, "PONG\nhunter2\n");
    assert_int_equal(e2e_run(out, sizeof out, "redis-cli", "-s", s.socket, "HELP", "SECRET.GET", NULL), 0);
    e2e_finish(&s);
}

static void fill(struct e2e *s)
{
    char big[100000];

    memset(big, 'x', sizeof big);
    e2e_expect(s->c, "+OK", "VAULT.CREATE v MAXVERSIONS 3");
    for (int i = 1; i <= 5; i++)
        assert_int_equal(e2e_int(s->c, "SECRET.SET v app/db value%d", i), i);
    e2e_expect(s->c, ":1", "SECRET.SET v app/big %b", big, sizeof big);
    e2e_expect(s->c, ":1", "SECRET.DEL v app/big");
    e2e_expect(s->c, ":1", "KEY.CREATE v k");
    e2e_expect(s->c, "+OK", "SET facade here");
}

static void check(struct e2e *s, const redisReply *ciphertext)
{
    e2e_expect(s->c, "$value5", "SECRET.GET v app/db");
    e2e_expect(s->c, "$value3", "SECRET.GET v app/db VERSION 3");
    e2e_expect(s->c, "nil", "SECRET.GET v app/db VERSION 2");
    e2e_expect(s->c, "nil", "SECRET.GET v app/big");
    e2e_expect(s->c, "$here", "GET facade");
    e2e_expect(s->c, "$plain", "KEY.DECRYPT v k %b", ciphertext->str, (size_t)ciphertext->len);
}

/* The default: every acknowledged write is there again, after a stop in order and after kill -9. */
static void test_restart_keeps_data(void **state)
{
    struct e2e s;

    (void)state;
    e2e_start(&s, NULL);
    fill(&s);
    redisReply *ciphertext = e2e_command(s.c, "KEY.ENCRYPT v k plain");
    check(&s, ciphertext);
    e2e_stop(&s);
    e2e_again(&s);
    check(&s, ciphertext);
    e2e_kill(&s);
    e2e_again(&s);
    check(&s, ciphertext);
    e2e_expect(s.c, ":6", "SECRET.SET v app/db value6");
    e2e_kill(&s);
    e2e_again(&s);
    e2e_expect(s.c, "$value6", "SECRET.GET v app/db");
    freeReplyObject(ciphertext);
    e2e_finish(&s);
}

static void test_shutdown(void **state)
{
    struct e2e s;
    int status;

    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+OK", "SET k v");
    assert_null(redisCommand(s.c, "SHUTDOWN"));
    status = e2e_wait(&s);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    e2e_again(&s);
    e2e_expect(s.c, "$v", "GET k");
    e2e_finish(&s);
}

/* What was in flight when SIGTERM came is finished, and was it answered it is there. */
static void test_sigterm_finishes_what_is_in_flight(void **state)
{
    enum { N = 2000 };
    struct e2e s;
    void *r;
    int acknowledged = 0, status;

    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+OK", "VAULT.CREATE v");
    for (int i = 0; i < N; i++)
        redisAppendCommand(s.c, "SECRET.SET v s%d x", i);
    assert_int_equal(redisGetReply(s.c, &r), REDIS_OK);
    freeReplyObject(r);
    kill(s.pid, SIGTERM);
    for (acknowledged = 1; acknowledged < N && redisGetReply(s.c, &r) == REDIS_OK; acknowledged++) {
        int good = ((redisReply *)r)->type == REDIS_REPLY_INTEGER;
        freeReplyObject(r);
        if (!good)
            break;
    }
    status = e2e_wait(&s);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    e2e_again(&s);
    for (int i = 0; i < acknowledged; i++)
        e2e_expect(s.c, "$x", "SECRET.GET v s%d", i);
    e2e_finish(&s);
}

static void test_second_server_in_a_directory_is_refused(void **state)
{
    struct e2e s;
    char said[8192];

    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+OK", "SET k v");
    assert_int_not_equal(e2e_start_refused(&s, said, sizeof said), 0);
    if (!strstr(said, s.dir) || !strstr(said, "another"))
        fail_msg("does not say that %s belongs to another server: %s", s.dir, said);
    e2e_expect(s.c, "$v", "GET k");
    redisContext *c = e2e_connect(&s); /* its socket was not taken away either */
    e2e_expect(c, "$v", "GET k");
    redisFree(c);
    e2e_finish(&s);
}

static void test_wrong_directives_are_refused(void **state)
{
    char said[4096];

    (void)state;
    assert_int_not_equal(e2e_run(said, sizeof said, "coffer-server", "--maxclients", "lots", NULL), 0);
    assert_non_null(strstr(said, "maxclients"));
    assert_int_not_equal(e2e_run(said, sizeof said, "coffer-server", "/nonexistent/coffer.conf", NULL), 0);
    assert_non_null(strstr(said, "/nonexistent/coffer.conf"));
    assert_int_equal(e2e_run(said, sizeof said, "coffer-server", "--version", NULL), 0);
    assert_int_equal(strncmp(said, "Coffer ", 7), 0);
    assert_int_equal(e2e_run(said, sizeof said, "coffer-server", "--help", NULL), 0);
    assert_non_null(strstr(said, "usage") ? strstr(said, "usage") : strstr(said, "Usage"));
}

static void append(redisContext *c, const char *command)
{
    int done = 0;
    assert_int_equal(redisAppendCommand(c, command), REDIS_OK);
    while (!done)
        assert_int_equal(redisBufferWrite(c, &done), REDIS_OK);
}

/* On several threads, of which another one may have the client. */
static void test_a_client_that_waits_is_unblocked(void **state)
{
    static const struct {
        const char *command, *timeout;
    } waits[] = {{"WAIT 1 0", ":0"}, {"READ.AFTER 999999 TIMEOUT 0", "-MASTERDOWN..."}};
    struct e2e s;
    (void)state;
    e2e_start(&s, "--io-threads", "3", NULL);
    for (int i = 0; i < 8; i++) {
        redisContext *c = e2e_connect(&s);
        long long id = e2e_int(c, "CLIENT ID");
        int error = i / 2 % 2;
        e2e_expect(s.c, ":0", "CLIENT UNBLOCK %lld", id);
        append(c, waits[i % 2].command);
        e2e_info_wait(s.c, "blocked_clients", "1");
        e2e_expect(s.c, ":1",
                   error   ? "CLIENT UNBLOCK %lld ERROR"
                   : i < 4 ? "CLIENT UNBLOCK %lld"
                           : "CLIENT UNBLOCK %lld TIMEOUT",
                   id);
        e2e_expect_next(c, error ? "-UNBLOCKED client unblocked via CLIENT UNBLOCK" : waits[i % 2].timeout);
        e2e_expect(c, ":0", "WAIT 1 1"); /* that was that */
        redisFree(c);
    }
    e2e_expect(s.c, "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR", "CLIENT UNBLOCK 1 x");
    e2e_expect(s.c, "-ERR value is not an integer...", "CLIENT UNBLOCK x");
    e2e_finish(&s);
}

/* A connection that holds so many bytes and has that name: an argument was announced. */
static void hold(struct e2e_raw *r, const struct e2e *s, const char *name, const char *evict, unsigned bytes)
{
    char text[64];
    e2e_raw_open(r, s);
    e2e_raw_expect(r, "+OK", "CLIENT SETNAME %s", name);
    e2e_raw_expect(r, "+OK", "CLIENT NO-EVICT %s", evict);
    int n = snprintf(text, sizeof text, "*1\r\n$%u\r\nx", bytes);
    e2e_raw_send(r, text, (size_t)n);
}

/* maxmemory-clients, over several threads: the largest that may go does, and no other. */
static void test_the_largest_connection_goes(void **state)
{
    struct e2e s;
    struct e2e_raw kept, largest, small;
    redisContext *idle[6];
    redisReply *list;

    (void)state;
    e2e_start(&s, "--io-threads", "3", "--maxmemory-clients", "8mb", NULL);
    for (int i = 0; i < 6; i++)
        idle[i] = e2e_connect(&s);
    hold(&kept, &s, "kept", "on", 3900000);
    hold(&largest, &s, "largest", "off", 3000000);
    e2e_expect(s.c, "+PONG", "PING");
    hold(&small, &s, "small", "off", 2900000);
    e2e_info_wait(s.c, "evicted_clients", "1");
    list = e2e_command(s.c, "CLIENT LIST");
    assert_null(strstr(list->str, "name=largest"));
    assert_non_null(strstr(list->str, "name=kept"));
    assert_non_null(strstr(list->str, "name=small"));
    freeReplyObject(list);

    e2e_expect(s.c, "+OK", "CONFIG SET maxmemory-clients 4mb"); /* and at once, when it is less */
    e2e_info_wait(s.c, "evicted_clients", "2");
    for (int i = 0; i < 6; i++) {
        e2e_expect(idle[i], "+PONG", "PING");
        redisFree(idle[i]);
    }
    assert_string_equal(e2e_info(s.c, "evicted_clients"), "2");
    e2e_raw_close(&kept);
    e2e_raw_close(&largest);
    e2e_raw_close(&small);
    e2e_finish(&s);
}

static long oom_score(const struct e2e *s)
{
    char path[64], text[32] = "";
    snprintf(path, sizeof path, "/proc/%ld/oom_score_adj", (long)s->pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(text, sizeof text, f));
    assert_int_equal(fclose(f), 0);
    return strtol(text, NULL, 10);
}

/* Upwards alone, which everybody may. */
static void test_oom_score_follows_the_part_of_the_node(void **state)
{
    struct e2e s;
    struct e2e_deadline w = {.what = "the replica's number"};

    (void)state;
    e2e_start(&s, NULL);
    long before = oom_score(&s);
    e2e_expect(s.c, "-ERR ...", "CONFIG SET oom-score-adj-values %s", "1");
    e2e_expect(s.c, "+OK", "CONFIG SET oom-score-adj yes");
    assert_int_equal(oom_score(&s), before); /* a primary's is 0 */
    e2e_expect(s.c, "+OK", "REPLICAOF 127.0.0.1 %d", e2e_free_port());
    while (e2e_not_yet(&w))
        if (oom_score(&s) == (before + 200 < 1000 ? before + 200 : 1000))
            break;
    e2e_finish(&s);
}

/* Scripts wait for the end of a BGSAVE in two ways: by INFO, and until LASTSAVE is another time. */
static void test_saving_makes_snapshots(void **state)
{
    struct e2e_deadline w = {.what = "LASTSAVE to be another time"};
    struct e2e s;

    (void)state;
    e2e_start(&s, NULL);
    long long begun = e2e_int(s.c, "LASTSAVE");
    e2e_expect(s.c, "+OK", "SET k v");
    e2e_expect(s.c, "+OK", "SAVE");
    assert_string_equal(e2e_info(s.c, "rdb_changes_since_last_save"), "0");
    e2e_expect(s.c, "+OK", "SET k w");
    assert_string_not_equal(e2e_info(s.c, "rdb_changes_since_last_save"), "0");
    e2e_expect(s.c, "+Background saving started", "BGSAVE");
    e2e_info_wait(s.c, "rdb_bgsave_in_progress", "0");
    assert_string_equal(e2e_info(s.c, "rdb_changes_since_last_save"), "0");
    assert_string_equal(e2e_info(s.c, "rdb_last_bgsave_status"), "ok");
    long long saved = e2e_int(s.c, "LASTSAVE");
    assert_true(saved >= begun);
    while (e2e_not_yet(&w)) { /* though nothing was written */
        e2e_expect(s.c, "+Background saving ...", "BGSAVE SCHEDULE");
        e2e_info_wait(s.c, "rdb_bgsave_in_progress", "0");
        if (e2e_int(s.c, "LASTSAVE") > saved)
            break;
    }
    e2e_expect(s.c, "+OK", "MULTI");
    e2e_expect(s.c, "-ERR Command not allowed inside a transaction", "SAVE");
    e2e_expect(s.c, "-EXECABORT ...", "EXEC");
    e2e_finish(&s);
}

#define TEST(f) cmocka_unit_test_teardown(f, e2e_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_first_start_needs_nothing),
        TEST(test_ping_and_echo),
        TEST(test_hello_chooses_the_protocol),
        TEST(test_password),
        TEST(test_pipeline_keeps_its_order),
        TEST(test_requests_in_pieces),
        TEST(test_info),
        TEST(test_config),
        TEST(test_saving_makes_snapshots),
        TEST(test_the_largest_connection_goes),
        TEST(test_oom_score_follows_the_part_of_the_node),
        TEST(test_command_shapes),
        TEST(test_redis_cli),
        TEST(test_restart_keeps_data),
        TEST(test_a_client_that_waits_is_unblocked),
        TEST(test_shutdown),
        TEST(test_sigterm_finishes_what_is_in_flight),
        TEST(test_second_server_in_a_directory_is_refused),
        TEST(test_wrong_directives_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
