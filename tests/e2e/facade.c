/* facade.c - what plain Redis clients do beyond GET and SET: edits, keys, databases, transactions, channels, keyspace
 * events. Single commands are in every_command.tbl.h; Redis's own tests of them run with redis-tests/run. Here is what
 * those do not see: pipelines, several threads, several vaults, crashes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/e2e.h"

static struct e2e s;

#define EXPECT(want, ...) e2e_expect(s.c, want, __VA_ARGS__)

static int start(void **state)
{
    (void)state;
    e2e_start(&s, "--io-threads", "3", "--enable-debug-command", "yes", NULL);
    EXPECT("+OK", "VAULT.CREATE v");
    return 0;
}

/* ---- names ---- */

static void a_name_onto_itself_changes_nothing(void **state)
{
    (void)state;
    EXPECT(":1", "SECRET.SET v x one");
    EXPECT(":2", "SECRET.SET v x two");
    redisContext *other = e2e_connect(&s);
    e2e_expect(other, "+OK", "WATCH {v}/x");
    EXPECT("+OK", "RENAME {v}/x {v}/x");
    EXPECT(":0", "RENAMENX {v}/x {v}/x");
    EXPECT("-ERR no such key", "RENAME {v}/nothing {v}/nothing");
    EXPECT("-ERR no such key", "RENAME nothing nothing");
    EXPECT("$one", "SECRET.GET v x VERSION 1");
    e2e_expect(other, "+OK", "MULTI");
    e2e_expect(other, "+QUEUED", "GET {v}/x");
    e2e_expect(other, "[$two]", "EXEC");
    redisFree(other);
    e2e_finish(&s);
}

/* Until a line of MONITOR has this. */
static void expect_shown(struct e2e_raw *r, const char *part)
{
    int shown = 0;
    while (!shown) {
        const struct answer *a = e2e_raw_next(r);
        assert_non_null(a);
        char *text = e2e_show_answer(a);
        shown = strstr(text, part) != NULL;
        free(text);
    }
}

/* Its commands are shown to itself, those that are answered later too; keys are not its affair, as in Redis. */
static void a_monitor_sees_itself(void **state)
{
    struct e2e_raw r;
    (void)state;
    e2e_raw_open(&r, &s);
    e2e_raw_expect(&r, "+OK", "MULTI");
    e2e_raw_expect(&r, "+QUEUED", "MONITOR");
    e2e_raw_expect(&r, "+QUEUED", "SET a b");
    e2e_raw_expect(&r, "+QUEUED", "GET a");
    e2e_raw_expect(&r, "[+OK +OK $b]", "EXEC");
    expect_shown(&r, "\"SET\" \"a\"");
    e2e_raw_close(&r);
    e2e_raw_open(&r, &s);
    e2e_raw_expect(&r, "+OK", "MONITOR");
    e2e_raw_expect(&r, "-ERR Replica can't interact with the keyspace", "SET a c");
    e2e_raw_expect(&r, "-ERR Replica can't interact with the keyspace", "SECRET.GET v x");
    e2e_raw_send(&r, "WAIT 1 10\r\n", 11);
    expect_shown(&r, "\"WAIT\" \"1\"");
    EXPECT("$b", "GET a");
    e2e_raw_close(&r);
    e2e_finish(&s);
}

/* ---- transactions ---- */

/* A read before a SELECT was looked for in the database behind it, and was nil. */
static void a_transaction_reads_in_the_database_selected_at_that_place(void **state)
{
    (void)state;
    EXPECT("+OK", "SET k zero");
    EXPECT("+OK", "SELECT 1");
    EXPECT("+OK", "SET k one");
    EXPECT("+OK", "SELECT 0");
    EXPECT("+OK", "MULTI");
    EXPECT("+QUEUED", "GET k");
    EXPECT("+QUEUED", "SELECT 1");
    EXPECT("+QUEUED", "GET k");
    EXPECT("[$zero +OK $one]", "EXEC");
    EXPECT("$one", "GET k");
    e2e_finish(&s);
}

/* ---- edits ---- */

/* All in one packet: they share group commits, and each sees the one before. */
static void edits_in_a_pipeline(void **state)
{
    (void)state;
    for (int i = 0; i < 500; i++) {
        redisAppendCommand(s.c, "INCR n");
        redisAppendCommand(s.c, "APPEND word x");
        redisAppendCommand(s.c, "INCRBY word 1");
    }
    redisAppendCommand(s.c, "GET n");
    redisAppendCommand(s.c, "STRLEN word");
    for (int i = 1; i <= 500; i++) {
        char want[16];
        snprintf(want, sizeof want, ":%d", i);
        e2e_expect_next(s.c, want);
        e2e_expect_next(s.c, want);
        e2e_expect_next(s.c, "-ERR value is not an integer or out of range");
    }
    e2e_expect_next(s.c, "$500");
    e2e_expect_next(s.c, ":500");
    EXPECT(":1", "SECRET.SET v count 41");
    EXPECT(":42", "INCR {v}/count"); /* any vault, versions as ever */
    EXPECT("$41", "SECRET.GET v count VERSION 1");
    EXPECT(":46", "SETRANGE {v}/count 44 xx");
    EXPECT("$1000...", "INCRBYFLOAT large 1e300"); /* a sum of hundreds of digits was written, and not read again */
    EXPECT("$1000...", "INCRBYFLOAT large 1");
    e2e_finish(&s);
}

/* Many at once on one key: none is lost. */
static void edits_do_not_meet(void **state)
{
    redisContext *c[6];
    (void)state;
    for (int i = 0; i < 6; i++) {
        c[i] = e2e_connect(&s);
        for (int k = 0; k < 100; k++)
            redisAppendCommand(c[i], "INCR n");
    }
    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < 100; k++) {
            redisReply *r = NULL;
            assert_int_equal(redisGetReply(c[i], (void **)&r), REDIS_OK);
            assert_int_equal(r->type, REDIS_REPLY_INTEGER);
            freeReplyObject(r);
        }
        redisFree(c[i]);
    }
    EXPECT("$600", "GET n");
    e2e_finish(&s);
}

/* The data key of an old value is not in memory after a restart: it is fetched before the edit is submitted. */
static void edits_of_what_an_earlier_start_sealed(void **state)
{
    (void)state;
    EXPECT("+OK", "MSET n 5 word one large %s", "1");
    e2e_stop(&s);
    e2e_again(&s);
    EXPECT(":6", "INCR n");
    e2e_stop(&s);
    e2e_again(&s);
    EXPECT("+OK", "RENAME word {v}/word");
    EXPECT("$one", "SECRET.GET v word");
    e2e_stop(&s);
    e2e_again(&s);
    EXPECT("+OK", "MULTI");
    EXPECT("+QUEUED", "INCR n");
    EXPECT("+QUEUED", "GETSET {v}/word two");
    EXPECT("+QUEUED", "MGET n {v}/word");
    EXPECT("[:7 $one [$7 $two]]", "EXEC");
    e2e_finish(&s);
}

static void values_move_between_vaults(void **state)
{
    (void)state;
    EXPECT("+OK", "SET a one EX 1000");
    EXPECT(":1", "COPY a {v}/copy");
    EXPECT("$one", "SECRET.GET v copy");
    EXPECT(":1000", "SECRET.TTL v copy");
    EXPECT(":0", "COPY a {v}/copy");
    EXPECT(":1", "MOVE a 3");
    EXPECT("nil", "GET a");
    EXPECT(":1", "SECRET.SET v app/key secret");
    EXPECT("+OK", "RENAME {v}/app/key taken");
    EXPECT("nil", "SECRET.GET v app/key");
    EXPECT("$secret", "GET taken");
    EXPECT("-NOVAULT...", "RENAME taken {none}/x");
    EXPECT("$secret", "GET taken");
    EXPECT("+OK", "MSET {v}/m1 1 m2 2");
    EXPECT("[$1 $2]", "MGET {v}/m1 m2");
    EXPECT(":0", "MSETNX {v}/m3 3 m2 4");
    EXPECT("nil", "GET {v}/m3");
    EXPECT(":2", "DEL {v}/m1 m2");
    e2e_finish(&s);
}

/* ---- databases ---- */

static void databases_are_flushed_and_swapped(void **state)
{
    (void)state;
    for (int i = 0; i < 2000; i++)
        redisAppendCommand(s.c, "SET k%d v", i);
    for (int i = 0; i < 2000; i++)
        e2e_expect_next(s.c, "+OK");
    EXPECT(":1", "SECRET.SET v stays 1");
    EXPECT("+OK", "SWAPDB 0 4");
    EXPECT(":0", "DBSIZE");
    EXPECT("nil", "GET k1");
    EXPECT("+OK", "SET k1 other");
    EXPECT("+OK", "SELECT 4");
    EXPECT(":2000", "DBSIZE");
    assert_non_null(strstr(e2e_info(s.c, "db4"), "keys=2000,"));
    assert_non_null(strstr(e2e_info(s.c, "db0"), "keys=1,"));
    EXPECT("$v", "GET k1");
    e2e_kill(&s);
    e2e_again(&s);
    EXPECT("$other", "GET k1");
    EXPECT("+OK", "SELECT 4");
    EXPECT(":2000", "DBSIZE");
    EXPECT("+OK", "FLUSHDB");
    EXPECT(":0", "DBSIZE");
    EXPECT("[]", "KEYS *");
    EXPECT("nil", "RANDOMKEY");
    EXPECT("+OK", "SET k1 again");
    EXPECT("[$k1]", "KEYS k*");
    e2e_kill(&s);
    e2e_again(&s);
    EXPECT("+OK", "SELECT 4");
    EXPECT("[$k1]", "KEYS *");
    EXPECT("+OK", "FLUSHALL");
    EXPECT("+OK", "SELECT 0");
    EXPECT("nil", "GET k1");
    EXPECT("$1", "SECRET.GET v stays"); /* a vault is not a database */
    e2e_finish(&s);
}

/* A pipeline does not outrun its own SWAPDB. */
static void a_swap_keeps_its_place_in_a_pipeline(void **state)
{
    (void)state;
    redisAppendCommand(s.c, "SET k zero");
    redisAppendCommand(s.c, "SWAPDB 0 1");
    redisAppendCommand(s.c, "SET k one");
    redisAppendCommand(s.c, "SWAPDB 0 1");
    redisAppendCommand(s.c, "GET k");
    for (int i = 0; i < 4; i++)
        e2e_expect_next(s.c, "+OK");
    e2e_expect_next(s.c, "$zero");
    e2e_finish(&s);
}

/* ---- transactions ---- */

static void queue(const char *command)
{
    EXPECT("+QUEUED", command);
}

static void a_transaction_is_one_record(void **state)
{
    (void)state;
    EXPECT(":1", "SECRET.SET v first 1"); /* vaults and data keys are there */
    EXPECT("+OK", "SELECT 5");
    EXPECT("+OK", "SET first 1");
    EXPECT("+OK", "SELECT 0");
    EXPECT("+OK", "MSET a 1 b 2");
    long long before = e2e_int(s.c, "CLIENT LASTLSN");
    EXPECT("+OK", "MULTI");
    queue("SET a 10");
    queue("INCR a");
    queue("GET a");
    queue("SECRET.SET v app/x secret");
    queue("SECRET.GET v app/x");
    queue("SET a 12");
    queue("SECRET.META v app/x {}");
    queue("DEL b");
    queue("EXISTS a b");
    queue("SELECT 5");
    queue("SET c 5");
    queue("DBSIZE");
    queue("SELECT 0");
    EXPECT("[+OK :11 $11 :1 $secret +OK +OK :1 :1 +OK +OK :2 +OK]", "EXEC");
    assert_int_equal(e2e_int(s.c, "CLIENT LASTLSN"), before + 1);
    EXPECT("[$12 nil]", "MGET a b");
    EXPECT("${}", "SECRET.META v app/x");
    e2e_finish(&s);
}

/* Its reads looked for what they had read through its swaps once more, when those were done, and answered nil. */
static void a_transaction_reads_behind_its_swap(void **state)
{
    (void)state;
    EXPECT("+OK", "MSET k zero only-zero 1");
    EXPECT("+OK", "SELECT 1");
    EXPECT("+OK", "SET k one");
    EXPECT("+OK", "SELECT 0");
    EXPECT("+OK", "MULTI");
    queue("GET k");
    queue("SWAPDB 0 1");
    queue("GET k");
    queue("DBSIZE");
    queue("EXISTS only-zero k");
    queue("SET k new");
    queue("MGET k only-zero");
    queue("SELECT 1");
    queue("GET k");
    queue("SWAPDB 1 0");
    queue("GET k");
    queue("KEYS *"); /* runs behind the record */
    EXPECT("[$zero +OK $one :1 :1 +OK [$new nil] +OK $zero +OK $new [$k]]", "EXEC");
    EXPECT("$new", "GET k");

    /* Permissions are looked at again when it is answered: by the same vaults. */
    redisContext *u = e2e_connect(&s);
    EXPECT("+OK", "ACL SETUSER u on nopass +@all ~{db0}/*");
    e2e_expect(u, "+OK", "AUTH u x");
    e2e_expect(u, "+OK", "MULTI");
    e2e_expect(u, "+QUEUED", "GET k");
    e2e_expect(u, "+QUEUED", "SWAPDB 0 1");
    e2e_expect(u, "+QUEUED", "GET k");
    e2e_expect(u, "+QUEUED", "SELECT 1");
    e2e_expect(u, "+QUEUED", "GET k");
    e2e_expect(u,
               "[$zero +OK -NOPERM this user has no permissions to access one of the keys used as arguments +OK $zero]",
               "EXEC");
    redisFree(u);
    e2e_finish(&s);
}

static void errors_in_a_transaction(void **state)
{
    (void)state;
    EXPECT("+OK", "SET word one");
    EXPECT("+OK", "MULTI");
    queue("SET a 1");
    queue("INCR word");
    queue("RENAME nothing a");
    queue("MSETNX new 1 word 2");
    queue("SECRET.SET v x 1 CAS 7");
    queue("SECRET.GET nowhere x");
    queue("INCR a");
    EXPECT("[+OK -ERR value is not an integer or out of range -ERR no such key :0 -CONFLICT the version is not the "
           "expected one: read it again, then repeat -NOVAULT no vault 'nowhere': make it with VAULT.CREATE :2]",
           "EXEC");
    EXPECT("[$2 nil $one]", "MGET a new word");

    EXPECT("+OK", "MULTI");
    queue("SET a 5");
    EXPECT("-ERR unknown command...", "NONSENSE");
    EXPECT("-ERR wrong number...", "GET");
    EXPECT("-EXECABORT...", "EXEC");
    EXPECT("$2", "GET a");
    EXPECT("-ERR EXEC without MULTI", "EXEC");
    EXPECT("-ERR DISCARD without MULTI", "DISCARD");
    EXPECT("+OK", "MULTI");
    EXPECT("-ERR MULTI calls can not be nested", "MULTI");
    EXPECT("-ERR WATCH inside MULTI is not allowed", "WATCH a");
    queue("SET a 5");
    EXPECT("+OK", "DISCARD");
    EXPECT("$2", "GET a");
    EXPECT("+OK", "MULTI");
    EXPECT("[]", "EXEC");
    e2e_finish(&s);
}

/* A record has a limit; over it nothing at all happens, and the queue has one too. */
static void a_transaction_that_is_too_big(void **state)
{
    size_t n = 1000000;
    char *big = malloc(n);
    (void)state;
    assert_non_null(big);
    memset(big, 'x', n);
    EXPECT("+OK", "MULTI");
    for (int i = 0; i < 9; i++)
        EXPECT("+QUEUED", "SET big%d %b", i, big, n);
    EXPECT("-TOOBIG...", "EXEC");
    EXPECT(":0", "DBSIZE");
    EXPECT("+OK", "MULTI");
    for (int i = 0; i < 17; i++)
        EXPECT("+QUEUED", "ECHO %b", big, n);
    EXPECT("-TOOBIG...", "ECHO %b", big, n);
    EXPECT("-EXECABORT...", "EXEC");
    free(big);
    e2e_finish(&s);
}

/* What was committed was answered with the error of a transaction that was refused. */
static void an_answer_that_is_too_big(void **state)
{
    size_t n = 1000000;
    char *big = malloc(n);
    (void)state;
    assert_non_null(big);
    memset(big, 'x', n);
    EXPECT("+OK", "SET big %b", big, n);
    EXPECT("+OK", "MULTI");
    queue("SET flag after");
    for (int i = 0; i < 270; i++)
        redisAppendCommand(s.c, "GET big");
    for (int i = 0; i < 270; i++)
        e2e_expect_next(s.c, "+QUEUED");
    EXPECT("-TOOBIG the transaction was carried out, but its answer...", "EXEC");
    EXPECT("$after", "GET flag");
    EXPECT("-ERR EXEC without MULTI", "EXEC");
    free(big);
    e2e_finish(&s);
}

/* EXEC waited in its middle, for a replica that there is not. */
static void nothing_waits_in_a_transaction(void **state)
{
    (void)state;
    EXPECT("+OK", "MULTI");
    queue("WAIT 1 0");
    queue("SET a 1");
    queue("READ.AFTER 0");
    queue("READ.AFTER 1000000 TIMEOUT 0");
    EXPECT("[:0 +OK +OK -MASTERDOWN this node has LSN...", "EXEC");
    EXPECT("+OK", "MULTI");
    queue("WAIT 1 0");
    EXPECT("[:0]", "EXEC");
    e2e_finish(&s);
}

static void the_protocol_changes_in_a_transaction(void **state)
{
    struct e2e_raw r;
    (void)state;
    e2e_raw_open(&r, &s);
    e2e_raw_expect(&r, "+OK", "MULTI");
    e2e_raw_expect(&r, "+QUEUED", "CONFIG GET maxmemory");
    e2e_raw_expect(&r, "+QUEUED", "HELLO 3");
    e2e_raw_expect(&r, "+QUEUED", "CONFIG GET maxmemory");
    e2e_raw_expect(&r, "[[$maxmemory $0] {$server $redis...", "EXEC");
    e2e_raw_expect(&r, "{$maxmemory $0}", "CONFIG GET maxmemory");
    e2e_raw_close(&r);
    e2e_finish(&s);
}

/* An EXEC that cannot be carried out as it is ends the transaction: what follows is no part of it. */
static void an_exec_that_is_refused(void **state)
{
    redisContext *u = e2e_connect(&s);
    (void)state;
    EXPECT("+OK", "MULTI");
    queue("SET a 1");
    EXPECT("-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command", "EXEC x");
    EXPECT("-ERR EXEC without MULTI", "EXEC");
    EXPECT("nil", "GET a");
    EXPECT("+OK", "ACL SETUSER u on nopass +@all -exec ~*");
    e2e_expect(u, "+OK", "AUTH u x");
    e2e_expect(u, "+OK", "MULTI");
    e2e_expect(u, "+QUEUED", "SET a 1");
    e2e_expect(u,
               "-EXECABORT Transaction discarded because of: NOPERM this user has no permissions to run the 'exec' "
               "command",
               "EXEC");
    e2e_expect(u, "nil", "GET a");
    redisFree(u);
    e2e_finish(&s);
}

static void watched_keys(void **state)
{
    redisContext *other = e2e_connect(&s);
    (void)state;
    EXPECT("+OK", "MSET a 1 {v}/b 2");
    EXPECT("+OK", "WATCH a {v}/b none");
    EXPECT("+OK", "MULTI");
    queue("GET a");
    EXPECT("[$1]", "EXEC");

    static const char *const touches[] = {"SET a 2",       "SECRET.SET v b 3", "SET none 1",
                                          "EXPIRE a 1000", "DEL none",         "SECRET.DEL v b",
                                          "APPEND a x",    "SWAPDB 0 1",       "FLUSHDB"};
    for (size_t i = 0; i < sizeof touches / sizeof *touches; i++) {
        EXPECT("+OK", "WATCH a {v}/b none");
        redisReply *r = e2e_command(other, touches[i]);
        freeReplyObject(r);
        EXPECT("+OK", "MULTI");
        queue("SET a 9");
        queue("PUBLISH channel never");
        redisReply *got = e2e_command(s.c, "EXEC");
        assert_int_equal(got->type, REDIS_REPLY_NIL);
        freeReplyObject(got);
        if (strncmp(touches[i], "SWAPDB", 6) == 0)
            EXPECT("+OK", "SWAPDB 0 1");
        EXPECT("+OK", "MSET a 1");
    }
    /* It was made, and is gone again: that was taken for no change. Nor is it there when its vault is made since. */
    static const char *const comes_and_goes[][2] = {
        {"SET gone 1", "DEL gone"},
        {"RENAME a gone", "RENAME gone a"},
        {"SET gone 1 PX 1", "DEBUG SLEEP 0.01"},
        {"SECRET.SET v gone 1", "SECRET.DEL v gone"},
        {"SET gone 1", "FLUSHDB"},
    };
    for (size_t i = 0; i < sizeof comes_and_goes / sizeof *comes_and_goes; i++) {
        EXPECT("+OK", "WATCH gone {v}/gone");
        for (int k = 0; k < 2; k++)
            freeReplyObject(e2e_command(other, comes_and_goes[i][k]));
        EXPECT("nil", "GET gone");
        EXPECT("+OK", "MULTI");
        queue(i % 2 ? "SET a 9" : "GET a");
        EXPECT("nil", "EXEC");
    }
    EXPECT("+OK", "WATCH gone {v}/none {v}/gone"); /* they went before */
    e2e_expect(other, ":0", "DEL gone");
    e2e_expect(other, "+OK", "SET a 2");
    EXPECT("+OK", "MULTI");
    queue("SET a 1");
    EXPECT("[+OK]", "EXEC");
    EXPECT("+OK", "SELECT 9"); /* it has no vault yet */
    EXPECT("+OK", "WATCH new");
    EXPECT("+OK", "MULTI");
    queue("SET new 1");
    EXPECT("[+OK]", "EXEC");
    EXPECT("+OK", "SELECT 0");
    EXPECT("+OK", "WATCH a");
    e2e_expect(other, "+OK", "SET a 2");
    EXPECT("+OK", "UNWATCH");
    EXPECT("+OK", "MULTI");
    queue("GET a");
    EXPECT("[$2]", "EXEC");
    redisFree(other);
    e2e_finish(&s);
}

/* What is not about secrets runs after the record, and may have to be waited for. */
static void other_commands_in_a_transaction(void **state)
{
    struct e2e_raw r;
    char *line;
    (void)state;
    EXPECT(":1", "KEY.CREATE v k");
    e2e_raw_open3(&r, &s);
    e2e_raw_expect(&r, ">[$subscribe $ch :1]", "SUBSCRIBE ch");
    e2e_raw_expect(&r, "+OK", "MULTI");
    e2e_raw_expect(&r, "+QUEUED", "SET a 1");
    e2e_raw_expect(&r, "+QUEUED", "KEYS *");
    e2e_raw_expect(&r, "+QUEUED", "KEY.MAC v none x");
    e2e_raw_expect(&r, "+QUEUED", "DEBUG SLEEP 0.01");
    e2e_raw_expect(&r, "+QUEUED", "CLIENT KILL TYPE pubsub");
    e2e_raw_expect(&r, "+QUEUED", "PUBLISH ch hi");
    e2e_raw_expect(&r, "+QUEUED", "CONFIG SET slowlog-max-len 5");
    e2e_raw_expect(&r, "+QUEUED", "RANDOMKEY");
    line = e2e_show_answer(e2e_raw_command(&r, "EXEC"));
    assert_string_equal(line, "[+OK [$a] -NOKEY no key 'none' in vault 'v': make it with KEY.CREATE +OK :0 :1 +OK $a]");
    free(line);
    line = e2e_show_answer(e2e_raw_next(&r)); /* after the whole answer */
    assert_string_equal(line, ">[$message $ch $hi]");
    free(line);
    e2e_raw_close(&r);
    e2e_finish(&s);
}

/* kill -9 anywhere: of each transaction both keys or none, in different shards. */
static void transactions_in_a_crash(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++) {
        redisContext *c = e2e_connect(&s);
        for (int i = 0; i < 300; i++) {
            redisAppendCommand(c, "MULTI");
            redisAppendCommand(c, "INCR {v}/n");
            redisAppendCommand(c, "INCR n");
            redisAppendCommand(c, "APPEND log .");
            redisAppendCommand(c, "EXEC");
        }
        for (int i = 0; i < 5 * (10 + 30 * round); i++) {
            redisReply *r = NULL;
            assert_int_equal(redisGetReply(c, (void **)&r), REDIS_OK);
            freeReplyObject(r);
        }
        e2e_kill(&s);
        redisFree(c);
        e2e_again(&s);
        char want[64];
        long long n = e2e_int(s.c, "STRLEN log");
        snprintf(want, sizeof want, "[$%lld $%lld]", n, n);
        EXPECT(want, "MGET {v}/n n");
    }
    e2e_finish(&s);
}

/* The client goes while its transaction is under way: it takes place or not, and nothing is left behind. */
static void a_client_that_goes(void **state)
{
    struct e2e_raw r;
    static const char all[] = "MULTI\r\nINCR n\r\nGET n\r\nEXEC\r\nMULTI\r\nINCR n\r\n";
    (void)state;
    for (int i = 0; i < 50; i++) {
        e2e_raw_open(&r, &s);
        e2e_raw_send(&r, all, sizeof all - 1);
        for (int k = 0; k < (i % 4); k++)
            e2e_raw_next(&r);
        e2e_raw_close(&r);
    }
    e2e_info_wait(s.c, "connected_clients", "1");
    long long n = e2e_int(s.c, "INCR n");
    assert_true(n >= 1 && n <= 51);
    e2e_finish(&s);
}

/* ---- permissions go by the vault that is read or written, wherever the client is ---- */

static void permissions_go_by_the_vault(void **state)
{
    redisContext *u = e2e_connect(&s);
    (void)state;
    EXPECT("+OK", "ACL SETUSER u on nopass +@all ~{db0}/*");
    e2e_expect(u, "+OK", "AUTH u x");
    e2e_expect(u, "+OK", "SET a 1");
    e2e_expect(u, "-NOPERM...", "COPY a b DB 5");
    e2e_expect(u, "-NOPERM...", "MOVE a 5");
    e2e_expect(u, ":1", "COPY a b");
    e2e_expect(u, "+OK", "MULTI");
    e2e_expect(u, "+QUEUED", "SELECT 5");
    e2e_expect(u, "+QUEUED", "SET a 2");
    e2e_expect(u, "+QUEUED", "SELECT 0");
    e2e_expect(u, "+QUEUED", "INCR a");
    e2e_expect(u, "[+OK -NOPERM this user has no permissions to access one of the keys used as arguments +OK :2]",
               "EXEC");
    EXPECT("+OK", "SWAPDB 0 5");
    e2e_expect(u, "-NOPERM...", "GET a");
    e2e_expect(u, "+OK", "SELECT 5");
    e2e_expect(u, "$2", "GET a");
    EXPECT("+OK", "ACL SETUSER u resetkeys %%R~{db0}/a %%W~{db0}/b");
    e2e_expect(u, ":1", "COPY a b REPLACE");
    e2e_expect(u, "-NOPERM...", "COPY b a REPLACE");
    e2e_expect(u, "-NOPERM...", "RENAME a b");
    /* MOVE reads what it takes along: who may only write there would have read it in the other database */
    EXPECT("+OK", "ACL SETUSER u resetkeys %%W~{db0}/* ~{db5}/*");
    e2e_expect(u, "-NOPERM...", "MOVE a 0");
    EXPECT("+OK", "ACL SETUSER u resetkeys ~{db0}/* %%W~{db5}/*");
    e2e_expect(u, ":1", "MOVE a 0");
    redisFree(u);
    e2e_finish(&s);
}

/* The number of a database that was swapped was taken for its vault's: COPY wrote where the user may not, and was
 * refused where it may. */
static void permissions_go_by_the_vault_of_the_target(void **state)
{
    redisContext *u = e2e_connect(&s);
    (void)state;
    EXPECT("+OK", "ACL SETUSER u on nopass +@all ~{db0}/* ~{db1}/*");
    EXPECT("+OK", "SELECT 2");
    EXPECT("+OK", "SET b theirs");
    e2e_expect(u, "+OK", "AUTH u x");
    e2e_expect(u, "+OK", "SET m mine");
    e2e_expect(u, "-NOPERM...", "COPY m b DB 2 REPLACE");
    e2e_expect(u, "+OK", "MULTI");
    e2e_expect(u, "+QUEUED", "SWAPDB 1 2");
    e2e_expect(u, "+QUEUED", "COPY m b DB 1 REPLACE");
    e2e_expect(u, "+QUEUED", "MOVE m 1");
    e2e_expect(u, "+QUEUED", "SWAPDB 1 2");
    e2e_expect(u,
               "[+OK -NOPERM this user has no permissions to access one of the keys used as arguments "
               "-NOPERM this user has no permissions to access one of the keys used as arguments +OK]",
               "EXEC");
    EXPECT("$theirs", "GET b");
    EXPECT("+OK", "SWAPDB 1 2");
    e2e_expect(u, "-NOPERM...", "COPY m b DB 1 REPLACE");
    e2e_expect(u, "-NOPERM...", "MOVE m 1");
    e2e_expect(u, ":1", "COPY m b DB 2 REPLACE");
    e2e_expect(u, ":1", "MOVE m 2");
    EXPECT("$mine", "GET b");
    EXPECT("$mine", "GET m");
    EXPECT("+OK", "SELECT 1");
    EXPECT("$theirs", "GET b");
    redisFree(u);
    e2e_finish(&s);
}

/* ---- channels ---- */

#define LISTENERS 9

static void messages_reach_all_threads(void **state)
{
    struct e2e_raw r[LISTENERS];
    (void)state;
    for (int i = 0; i < LISTENERS; i++) {
        if (i % 2)
            e2e_raw_open3(&r[i], &s);
        else
            e2e_raw_open(&r[i], &s);
        e2e_raw_expect(&r[i], i % 2 ? ">[$subscribe $news :1]" : "[$subscribe $news :1]", "SUBSCRIBE news");
        if (i == 0)
            e2e_raw_expect(&r[i], "[$psubscribe $n* :2]", "PSUBSCRIBE n*");
    }
    EXPECT("[$news :9 $none :0]", "PUBSUB NUMSUB news none");
    EXPECT(":1", "PUBSUB NUMPAT");
    for (int i = 0; i < 200; i++)
        redisAppendCommand(s.c, "PUBLISH news %d", i);
    for (int i = 0; i < 200; i++)
        e2e_expect_next(s.c, ":10");
    for (int i = 0; i < LISTENERS; i++)
        for (int k = 0; k < 200; k++) { /* in order */
            char want[64];
            snprintf(want, sizeof want, "%s[$message $news $%d]", i % 2 ? ">" : "", k);
            char *got = e2e_show_answer(e2e_raw_next(&r[i]));
            assert_string_equal(got, want);
            free(got);
            if (i == 0) {
                snprintf(want, sizeof want, "[$pmessage $n* $news $%d]", k);
                got = e2e_show_answer(e2e_raw_next(&r[i]));
                assert_string_equal(got, want);
                free(got);
            }
        }
    e2e_raw_expect(&r[0], "-ERR Can't execute 'get': only...", "GET x");
    e2e_raw_expect(&r[0], "[$pong $]", "PING");
    e2e_raw_expect(&r[1], "nil", "GET x");
    for (int i = 0; i < LISTENERS; i++)
        e2e_raw_close(&r[i]);
    for (struct e2e_deadline w = {"nobody listens", 0}; e2e_not_yet(&w);)
        if (e2e_int(s.c, "PUBLISH news x") == 0)
            break;
    EXPECT("[]", "PUBSUB CHANNELS");
    e2e_finish(&s);
}

/* One that does not read is closed, and does not keep messages. */
static void a_listener_that_does_not_read(void **state)
{
    struct e2e_raw r;
    char *big = malloc(100000);
    (void)state;
    assert_non_null(big);
    memset(big, 'x', 100000);
    EXPECT("+OK", "CONFIG SET client-output-buffer-limit %s", "pubsub 1mb 0 0");
    e2e_raw_open(&r, &s);
    e2e_raw_expect(&r, "[$subscribe $news :1]", "SUBSCRIBE news");
    for (struct e2e_deadline w = {"the listener is closed", 0}; e2e_not_yet(&w);)
        if (e2e_int(s.c, "PUBLISH news %b", big, (size_t)100000) == 0)
            break;
    e2e_info_wait(s.c, "client_output_buffer_limit_disconnections", "1");
    free(big);
    e2e_raw_close(&r);
    e2e_finish(&s);
}

/* ---- keyspace events ---- */

static void expect_event(struct e2e_raw *r, const char *channel, const char *what)
{
    char want[128];
    snprintf(want, sizeof want, "[$pmessage $__key* $__key%s $%s]", channel, what);
    char *got = e2e_show_answer(e2e_raw_next(r));
    assert_string_equal(got, want);
    free(got);
}

static void events_follow_the_log(void **state)
{
    struct e2e_raw r;
    (void)state;
    EXPECT("+OK", "CONFIG SET notify-keyspace-events KEAn");
    e2e_raw_open(&r, &s);
    e2e_raw_expect(&r, "[$psubscribe $__key* :1]", "PSUBSCRIBE __key*");
    EXPECT("+OK", "SELECT 3");
    EXPECT("+OK", "SET a 1 EX 1000");
    EXPECT("nil", "SET a 1 NX");
    EXPECT("-ERR...", "INCR a b");
    EXPECT(":1", "SECRET.SET v app/x 1");
    EXPECT("+OK", "MULTI");
    queue("RENAME a b");
    queue("INCR b");
    queue("GET b");
    queue("DEL b");
    EXPECT("[+OK :2 $2 :1]", "EXEC");
    EXPECT("+OK", "SET t 1 PX 50");
    expect_event(&r, "space@3__:a", "new");
    expect_event(&r, "event@3__:new", "a");
    expect_event(&r, "space@3__:a", "set");
    expect_event(&r, "event@3__:set", "a");
    expect_event(&r, "space@3__:a", "expire");
    expect_event(&r, "event@3__:expire", "a");
    expect_event(&r, "space@0__:{v}/app/x", "new");
    expect_event(&r, "event@0__:new", "{v}/app/x");
    expect_event(&r, "space@0__:{v}/app/x", "set");
    expect_event(&r, "event@0__:set", "{v}/app/x");
    expect_event(&r, "space@3__:a", "rename_from");
    expect_event(&r, "event@3__:rename_from", "a");
    expect_event(&r, "space@3__:b", "new");
    expect_event(&r, "event@3__:new", "b");
    expect_event(&r, "space@3__:b", "rename_to");
    expect_event(&r, "event@3__:rename_to", "b");
    expect_event(&r, "space@3__:b", "incrby");
    expect_event(&r, "event@3__:incrby", "b");
    expect_event(&r, "space@3__:b", "del");
    expect_event(&r, "event@3__:del", "b");
    expect_event(&r, "space@3__:t", "new");
    expect_event(&r, "event@3__:new", "t");
    expect_event(&r, "space@3__:t", "set");
    expect_event(&r, "event@3__:set", "t");
    expect_event(&r, "space@3__:t", "expire");
    expect_event(&r, "event@3__:expire", "t");
    expect_event(&r, "space@3__:t", "expired");
    expect_event(&r, "event@3__:expired", "t");
    e2e_info_wait(s.c, "expired_keys", "1");
    e2e_raw_close(&r);
    e2e_finish(&s);
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, e2e_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_name_onto_itself_changes_nothing),
        T(a_monitor_sees_itself),
        T(a_transaction_reads_in_the_database_selected_at_that_place),
        T(edits_in_a_pipeline),
        T(edits_do_not_meet),
        T(edits_of_what_an_earlier_start_sealed),
        T(values_move_between_vaults),
        T(databases_are_flushed_and_swapped),
        T(a_swap_keeps_its_place_in_a_pipeline),
        T(a_transaction_is_one_record),
        T(a_transaction_reads_behind_its_swap),
        T(errors_in_a_transaction),
        T(a_transaction_that_is_too_big),
        T(an_answer_that_is_too_big),
        T(nothing_waits_in_a_transaction),
        T(the_protocol_changes_in_a_transaction),
        T(an_exec_that_is_refused),
        T(watched_keys),
        T(other_commands_in_a_transaction),
        T(transactions_in_a_crash),
        T(a_client_that_goes),
        T(permissions_go_by_the_vault),
        T(permissions_go_by_the_vault_of_the_target),
        T(messages_reach_all_threads),
        T(a_listener_that_does_not_read),
        T(events_follow_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
