/* secrets.c - SECRET.*, VAULT.* and the string façade through hiredis: what a user of Vault or Redis would try, and bad
 * input of every kind, which must change nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/e2e.h"

static struct e2e s;

static int start(void **state)
{
    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+OK", "VAULT.CREATE v");
    return 0;
}

#define EXPECT(want, ...) e2e_expect(s.c, want, __VA_ARGS__)

static void set_and_get(void **state)
{
    (void)state;
    EXPECT(":1", "SECRET.SET v app/db/password hunter2");
    EXPECT("$hunter2", "SECRET.GET v app/db/password");
    EXPECT(":2", "SECRET.SET v app/db/password %b", "two\0with\r\nbytes", (size_t)15);
    EXPECT("$two\\00with\\0d\\0abytes", "SECRET.GET v app/db/password");
    EXPECT("$hunter2", "SECRET.GET v app/db/password VERSION 1");
    EXPECT("$hunter2", "SECRET.GET v app/db/password STAGE PREVIOUS");
    EXPECT("nil", "SECRET.GET v app/db/password VERSION 3");
    EXPECT("nil", "SECRET.GET v nothing");
    EXPECT(":1", "SECRET.SET v empty %b", "", (size_t)0);
    EXPECT("$", "SECRET.GET v empty");
    e2e_finish(&s);
}

static void conditions(void **state)
{
    (void)state;
    EXPECT("nil", "SECRET.SET v a 1 XX");
    EXPECT(":1", "SECRET.SET v a 1 NX");
    EXPECT("nil", "SECRET.SET v a 2 NX");
    EXPECT("-CONFLICT...", "SECRET.SET v a 2 CAS 0");
    EXPECT("-CONFLICT...", "SECRET.SET v a 2 CAS 5");
    EXPECT(":2", "SECRET.SET v a 2 CAS 1");
    EXPECT(":1", "SECRET.SET v b 1 CAS 0");
    EXPECT("$2", "SECRET.GET v a");
    e2e_finish(&s);
}

static void versions_stages_and_meta(void **state)
{
    (void)state;
    for (int i = 1; i <= 12; i++)
        e2e_int(s.c, "SECRET.SET v a value-%d", i);
    EXPECT("nil", "SECRET.GET v a VERSION 2");
    EXPECT("$value-3", "SECRET.GET v a VERSION 3");
    EXPECT(":13", "SECRET.SET v a next STAGE PENDING");
    EXPECT("$value-12", "SECRET.GET v a");
    EXPECT("$next", "SECRET.GET v a STAGE PENDING");
    EXPECT("+OK", "SECRET.STAGE v a CURRENT 13");
    EXPECT("$next", "SECRET.GET v a");
    EXPECT("$value-12", "SECRET.GET v a STAGE PREVIOUS");
    EXPECT("nil", "SECRET.STAGE v a CURRENT 99");
    EXPECT("+OK", "SECRET.META v a {\"owner\":\"db\"}");
    EXPECT("${\"owner\":\"db\"}", "SECRET.META v a");
    EXPECT("$next", "SECRET.GET v a");
    e2e_finish(&s);
}

static void delete_undelete_destroy(void **state)
{
    (void)state;
    EXPECT("[:1 :1]", "SECRET.MSET v a 1 b 2");
    EXPECT(":2", "SECRET.DEL v a b c");
    EXPECT("[nil nil]", "SECRET.MGET v a b");
    EXPECT("$DELETED", "SECRET.STATE v a");
    EXPECT("+OK", "SECRET.UNDELETE v a");
    EXPECT("nil", "SECRET.UNDELETE v a");
    EXPECT("[$1 nil nil]", "SECRET.MGET v a b c");
    EXPECT(":2", "SECRET.SET v a 2");
    EXPECT(":1", "SECRET.DESTROY v a VERSION 2");
    EXPECT("$1", "SECRET.GET v a");
    EXPECT(":1", "SECRET.DESTROY v a");
    EXPECT(":0", "SECRET.DESTROY v a");
    EXPECT("nil", "SECRET.UNDELETE v a");
    EXPECT(":3", "SECRET.SET v a again");
    e2e_finish(&s);
}

static void expiry(void **state)
{
    struct e2e_deadline w = {.what = "the secret expires"};
    (void)state;
    EXPECT(":1", "SECRET.SET v a 1 PX 300");
    EXPECT(":1", "SECRET.SET v b 1 EX 1000");
    assert_in_range(e2e_int(s.c, "SECRET.TTL v b"), 1, 1000);
    EXPECT(":1", "SECRET.PERSIST v b");
    EXPECT(":-1", "SECRET.TTL v b");
    EXPECT(":0", "SECRET.PERSIST v b");
    EXPECT(":1", "SECRET.EXPIRE v b 50");
    EXPECT(":0", "SECRET.EXPIRE v nothing 50");
    EXPECT(":-2", "SECRET.TTL v nothing");
    while (e2e_not_yet(&w)) {
        redisReply *r = e2e_command(s.c, "SECRET.GET v a");
        int gone = r->type == REDIS_REPLY_NIL;
        freeReplyObject(r);
        if (gone)
            break;
    }
    EXPECT(":1", "SECRET.EXPIRE v b -1");
    EXPECT("nil", "SECRET.GET v b");
    EXPECT("-ERR invalid expire time", "SECRET.SET v c 1 EX 0");
    EXPECT("-ERR invalid expire time", "SECRET.SET v c 1 PX -5");
    EXPECT("-ERR invalid expire time", "SECRET.SET v c 1 EX 9223372036854775807");
    EXPECT("nil", "SECRET.GET v c");
    e2e_finish(&s);
}

static void listings(void **state)
{
    static const char *const paths[] = {"a", "app/db/password", "app/db/user", "app/key", "z"};
    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        EXPECT(":1", "SECRET.SET v %s 1", paths[i]);
    EXPECT("[$0 [$a $app/ $z]]", "SECRET.LIST v");
    EXPECT("[$0 [$app/db/ $app/key]]", "SECRET.LIST v app");
    EXPECT("[$0 [$app/db/ $app/key]]", "SECRET.LIST v app/");
    EXPECT("[$0 [$a $app/db/password $app/db/user $app/key $z]]", "SECRET.LIST v RECURSIVE");
    EXPECT("[$c6170702f [$a $app/]]", "SECRET.LIST v COUNT 2");
    EXPECT("[$0 [$z]]", "SECRET.LIST v CURSOR c6170702f COUNT 2");
    EXPECT("[$0 []]", "SECRET.LIST v nowhere/");
    EXPECT("-ERR invalid cursor", "SECRET.LIST v CURSOR 77");
    EXPECT(":1", "SECRET.DEL v app/key");
    EXPECT("[$0 [$app/db/]]", "SECRET.LIST v app");
    e2e_finish(&s);
}

/* Everything that can be wrong with a request is answered by an error of the right kind, and nothing is there
 * afterwards. */
static void bad_input(void **state)
{
    static char big[(1 << 20) + 1], path[4098];
    (void)state;
    memset(big, 'x', sizeof big);
    memset(path, 'p', sizeof path);
    EXPECT("-ERR wrong number of arguments for 'secret.set' command", "SECRET.SET v a");
    EXPECT("-ERR syntax error near argument 4", "SECRET.SET v a 1 BOGUS");
    EXPECT("-ERR syntax error near 'XX'", "SECRET.SET v a 1 NX XX");
    EXPECT("-ERR syntax error near 'NX'", "SECRET.SET v a 1 NX NX");
    EXPECT("-ERR syntax error near 'PX'", "SECRET.SET v a 1 EX 5 PX 5");
    EXPECT("-ERR syntax error near 'EX'", "SECRET.SET v a 1 EX");
    EXPECT("-ERR value is not an integer or out of range", "SECRET.SET v a 1 EX five");
    EXPECT("-ERR ...", "SECRET.SET v a 1 CAS -1");
    EXPECT("-NOVAULT ...", "SECRET.SET nowhere a 1");
    EXPECT("-NOVAULT ...", "SECRET.GET nowhere a");
    EXPECT("-NOVAULT ...", "SECRET.LIST nowhere");
    EXPECT("-TOOBIG ...", "SECRET.SET v a %b", big, sizeof big);
    EXPECT("-ERR invalid path...", "SECRET.SET v %b 1", path, (size_t)4097);
    EXPECT("-ERR invalid path...", "SECRET.SET v %b 1", "", (size_t)0);
    EXPECT("-ERR wrong number of arguments for 'secret.mset' command", "SECRET.MSET v a 1 b");
    EXPECT("-ERR syntax error...", "SECRET.SET v a 1 STAGE CURRENT");
    EXPECT("-ERR invalid name...", "VAULT.CREATE .bad");
    EXPECT("-ERR invalid name...", "VAULT.CREATE %b", path, (size_t)65);
    EXPECT("-VAULTEXISTS ...", "VAULT.CREATE v");
    EXPECT("-ERR ...", "VAULT.CREATE w SHARD 99");
    EXPECT("-ERR ...", "VAULT.CREATE w MAXVERSIONS 0");
    EXPECT("[$0 []]", "SECRET.LIST v RECURSIVE");
    EXPECT("[$0 [$v]]", "VAULT.LIST");
    EXPECT(":1", "SECRET.SET v %b %b", path, (size_t)4096, big, sizeof big - 1);
    e2e_finish(&s);
}

static void quotas(void **state)
{
    (void)state;
    EXPECT("+OK", "VAULT.CREATE q MAXSECRETS 2 MAXBYTES 200");
    EXPECT(":1", "SECRET.SET q a 1");
    EXPECT(":1", "SECRET.SET q b 1");
    EXPECT("-QUOTA ...", "SECRET.SET q c 1");
    EXPECT("-QUOTA ...", "SECRET.SET q a %s",
           "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
           "xxxxxxxxxxxxxxxxxxxxxxxxxx");
    EXPECT("+OK", "VAULT.SET q MAXSECRETS 3");
    EXPECT(":1", "SECRET.SET q c 1");
    e2e_finish(&s);
}

/* A pipeline of writes to one secret keeps its order; a read in it sees them. */
static void pipelines(void **state)
{
    char want[32];
    (void)state;
    for (int i = 1; i <= 500; i++)
        redisAppendCommand(s.c, "SECRET.SET v a value-%d", i);
    redisAppendCommand(s.c, "SECRET.GET v a");
    redisAppendCommand(s.c, "SECRET.SET v a last");
    redisAppendCommand(s.c, "SECRET.SET nowhere a last");
    redisAppendCommand(s.c, "SECRET.GET v a");
    for (int i = 1; i <= 500; i++) {
        snprintf(want, sizeof want, ":%d", i);
        e2e_expect_next(s.c, want);
    }
    e2e_expect_next(s.c, "$value-500");
    e2e_expect_next(s.c, ":501");
    e2e_expect_next(s.c, "-NOVAULT ...");
    e2e_expect_next(s.c, "$last");
    e2e_finish(&s);
}

/* Reads in a pipeline are looked ahead at: whatever stands between them, each is answered in its turn. */
static void pipelines_of_reads(void **state)
{
    static const struct {
        const char *request, *want;
    } line[] = {
        {"*3\r\n$10\r\nSECRET.GET\r\n$1\r\nv\r\n$1\r\na\r\n", "$one"},
        {"*3\r\n$10\r\nSECRET.GET\r\n$1\r\nv\r\n$1\r\nb\r\n", "$two"},
        {"SECRET.GET v \"\\x61\"\r\n", "$one"},
        {"*1\r\n$4\r\nPING\r\n", "+PONG"},
        {"*2\r\n$10\r\nSECRET.GET\r\n$1\r\nv\r\n", "-ERR wrong number of arguments for 'secret.get' command"},
        {"*2\r\n$3\r\nGET\r\n$7\r\n{v}/b\r\n\r\n", "nil"},
        {"*2\r\n$3\r\nGET\r\n$5\r\n{v}/b\r\n", "$two"},
        {"*2\r\n$3\r\nGET\r\n$6\r\nnobody\r\n", "nil"},
        {"*2\r\n$3\r\nGET\r\n$0\r\n\r\n", "nil"},
        {"*3\r\n$10\r\nSECRET.GET\r\n$7\r\nnowhere\r\n$1\r\na\r\n", "-NOVAULT ..."},
        {"*4\r\n$10\r\nSECRET.SET\r\n$1\r\nv\r\n$1\r\nb\r\n$3\r\nnew\r\n", NULL},
        {"*3\r\n$10\r\nSECRET.GET\r\n$1\r\nv\r\n$1\r\nb\r\n", "$new"},
        {"*4\r\n$10\r\nSECRET.SET\r\n$1\r\nv\r\n$1\r\nb\r\n$3\r\ntwo\r\n", NULL},
    };
    enum { LINES = sizeof line / sizeof line[0], ROUNDS = 40 };
    char all[LINES * ROUNDS * 64], *end = all;
    struct e2e_raw r;
    (void)state;
    EXPECT(":1", "SECRET.SET v a one");
    EXPECT(":1", "SECRET.SET v b two");
    e2e_raw_open(&r, &s);
    for (size_t i = 0; i < LINES * ROUNDS; i++)
        end = stpcpy(end, line[i % LINES].request);
    for (const char *p = all; p < end; p += 1000 < end - p ? 1000 : end - p)
        e2e_raw_send(&r, p, (size_t)(1000 < end - p ? 1000 : end - p));
    for (size_t i = 0; i < LINES * ROUNDS; i++) {
        const char *want = line[i % LINES].want;
        char *got = e2e_show_answer(e2e_raw_next(&r));
        if (want && want[0] != '-')
            assert_string_equal(got, want);
        else
            assert_int_equal(got[0], want ? '-' : ':');
        free(got);
    }
    e2e_raw_close(&r);
    e2e_finish(&s);
}

static void facade(void **state)
{
    (void)state;
    EXPECT("nil", "GET k");
    EXPECT(":0", "DEL k");
    EXPECT("[$0 []]", "SCAN 0");
    EXPECT("+OK", "SET k 1");
    EXPECT("$1", "GET k");
    EXPECT("$1", "SET k 2 GET");
    EXPECT("nil", "SET new 1 GET");
    EXPECT("nil", "SET k 3 NX");
    EXPECT("+OK", "SET k 3 XX EX 100");
    assert_in_range(e2e_int(s.c, "TTL k"), 1, 100);
    EXPECT("+OK", "SET k 3 EXAT 4102444800");
    EXPECT(":4102444800", "EXPIRETIME k");
    EXPECT("+OK", "SET k 4 KEEPTTL");
    EXPECT(":4102444800000", "PEXPIRETIME k");
    EXPECT("+OK", "SET k 5");
    EXPECT(":-1", "TTL k");
    EXPECT(":1", "EXPIRE k 1000 NX");
    EXPECT(":0", "EXPIRE k 1000 NX");
    EXPECT(":0", "EXPIRE k 500 GT");
    EXPECT(":1", "EXPIRE k 5000 GT");
    EXPECT(":1", "PERSIST k");
    EXPECT(":2", "EXISTS k k nope");
    EXPECT("+string", "TYPE k");
    EXPECT("+none", "TYPE nope");
    EXPECT(":1", "STRLEN k");
    EXPECT("[$5 nil $1]", "MGET k nope new");
    EXPECT("-ERR invalid expire time in 'set' command", "SET k 1 EX 0");
    EXPECT("-ERR value is not an integer or out of range", "SET k 1 EX x");
    EXPECT("-ERR syntax error...", "SET k 1 NX XX");
    EXPECT("$5", "GET k");
    EXPECT(":2", "DEL k new nope");
    EXPECT("nil", "GET k");
    e2e_finish(&s);
}

static void databases_are_vaults(void **state)
{
    (void)state;
    EXPECT("+OK", "SET k zero");
    EXPECT("+OK", "SELECT 3");
    EXPECT("nil", "GET k");
    EXPECT("+OK", "SET k three");
    EXPECT("$three", "SECRET.GET db3 k");
    EXPECT("$zero", "SECRET.GET db0 k");
    EXPECT("$zero", "GET {db0}/k");
    EXPECT(":1", "SECRET.SET v app/x value");
    EXPECT("$value", "GET {v}/app/x");
    EXPECT("+OK", "SET {v}/app/y other");
    EXPECT("$other", "SECRET.GET v app/y");
    EXPECT("-NOVAULT...", "GET {nowhere}/x");
    EXPECT("+OK", "SET l zero");
    EXPECT(":3", "DEL l {v}/app/x {v}/app/y"); /* of several vaults: one record */
    EXPECT("nil", "SECRET.GET v app/x");
    EXPECT("-ERR DB index is out of range", "SELECT 99");
    EXPECT(":1", "DBSIZE");
    e2e_finish(&s);
}

static void scan_finds_everything_once(void **state)
{
    int seen[300] = {0};
    char cursor[32] = "0";
    (void)state;
    for (int i = 0; i < 300; i++)
        EXPECT("+OK", "SET key:%d 1", i);
    do {
        redisReply *r = e2e_command(s.c, "SCAN %s MATCH key:* COUNT 7", cursor);
        assert_int_equal(r->elements, 2);
        snprintf(cursor, sizeof cursor, "%s", r->element[0]->str);
        for (size_t i = 0; i < r->element[1]->elements; i++)
            seen[atoi(r->element[1]->element[i]->str + 4)]++;
        freeReplyObject(r);
    } while (strcmp(cursor, "0") != 0);
    for (int i = 0; i < 300; i++)
        assert_int_equal(seen[i], 1);
    EXPECT("-ERR invalid cursor...", "SCAN 12345");
    EXPECT("-ERR invalid cursor", "SCAN x");
    EXPECT("[$0 []]", "SCAN 0 COUNT 1000 TYPE list");
    e2e_finish(&s);
}

static void all_of_it_survives(void **state)
{
    (void)state;
    for (int i = 1; i <= 12; i++)
        e2e_int(s.c, "SECRET.SET v a value-%d", i);
    EXPECT(":1", "SECRET.SET v gone 1");
    EXPECT(":1", "SECRET.DEL v gone");
    EXPECT("+OK", "SET k 1");
    for (int round = 0; round < 2; round++) {
        if (round)
            e2e_kill(&s);
        else
            e2e_stop(&s);
        e2e_again(&s);
        EXPECT("$value-12", "SECRET.GET v a");
        EXPECT("$value-4", "SECRET.GET v a VERSION 4");
        EXPECT("$1", "GET k");
        EXPECT("nil", "SECRET.GET v gone");
    }
    EXPECT("+OK", "SECRET.UNDELETE v gone");
    EXPECT(":13", "SECRET.SET v a value-13");
    EXPECT("$value-12", "SECRET.GET v a STAGE PREVIOUS");
    e2e_finish(&s);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, start, e2e_teardown)
    const struct CMUnitTest tests[] = {
        TEST(set_and_get),
        TEST(conditions),
        TEST(versions_stages_and_meta),
        TEST(delete_undelete_destroy),
        TEST(expiry),
        TEST(listings),
        TEST(bad_input),
        TEST(quotas),
        TEST(pipelines),
        TEST(pipelines_of_reads),
        TEST(facade),
        TEST(databases_are_vaults),
        TEST(scan_finds_everything_once),
        TEST(all_of_it_survives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
