/* What once broke between a client and the log: each test is named for the promise that did not hold. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/e2e.h"

#define WINDOW 64
#define ROUNDS 60

static void flush(redisContext *c)
{
    int done = 0;
    while (!done)
        assert_int_equal(redisBufferWrite(c, &done), REDIS_OK);
}

/* Reads n answers, none of them an error. */
static void read_answers(redisContext *c, int n)
{
    while (n-- > 0) {
        void *r;
        assert_int_equal(redisGetReply(c, &r), REDIS_OK);
        if (((redisReply *)r)->type == REDIS_REPLY_ERROR)
            fail_msg("a write was answered: %s", ((redisReply *)r)->str);
        freeReplyObject(r);
    }
}

/* Two clients changed different settings of a vault at once, or one did in a pipeline: one change was undone. */
static void test_settings_changed_in_a_pipeline_are_all_kept(void **state)
{
    struct e2e s;
    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+OK", "VAULT.CREATE v");
    redisAppendCommand(s.c, "VAULT.SET v RATE 5");
    redisAppendCommand(s.c, "VAULT.SET v BURST 7");
    redisAppendCommand(s.c, "VAULT.SET v MAXVERSIONS 3 MAXBYTES 1000");
    redisAppendCommand(s.c, "VAULT.SET v MAXSECRETS 9");
    read_answers(s.c, 4);
    e2e_expect(s.c,
               "[$id :2 $state $active $shard :0 $secrets :0 $keys :0 $bytes :0 $rate :5 $burst :7 $max-versions :3 "
               "$max-secrets :9 $max-bytes :1000...",
               "VAULT.INFO v");
    e2e_finish(&s);
}

/* SCAN took the key "a/" for a folder that it had given out, and went on behind all that begins so. */
static void test_scan_goes_on_behind_a_key_that_ends_in_a_slash(void **state)
{
    struct e2e s;
    char seen[256] = "", cursor[64] = "0";
    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+OK", "SET a/ 1");
    e2e_expect(s.c, "+OK", "SET a/b 1");
    e2e_expect(s.c, "+OK", "SET a/b/c 1");
    e2e_expect(s.c, "+OK", "SET b 1");
    do {
        redisReply *r = e2e_command(s.c, "SCAN %s COUNT 1", cursor);
        assert_int_equal(r->elements, 2);
        snprintf(cursor, sizeof cursor, "%s", r->element[0]->str);
        for (size_t i = 0; i < r->element[1]->elements; i++)
            snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%s ", r->element[1]->element[i]->str);
        freeReplyObject(r);
    } while (strcmp(cursor, "0") != 0);
    assert_string_equal(seen, "a/ a/b a/b/c b ");
    e2e_finish(&s);
}

/* Pairs that come and go in one record were seen by halves, and under load the answer was CONFLICT. */
static void test_what_goes_together_is_read_together(void **state)
{
    struct e2e s;
    (void)state;
    e2e_start(&s, "--io-threads", "2", NULL);
    redisContext *reader = e2e_connect(&s);
    e2e_expect(s.c, "+OK", "VAULT.CREATE v");
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < WINDOW; i += 4) {
            redisAppendCommand(s.c, "SECRET.MSET v a %d b %d", i, i);
            redisAppendCommand(s.c, "SECRET.DEL v a b");
            redisAppendCommand(s.c, "SECRET.MSET v a %d b %d", -i, -i);
            redisAppendCommand(s.c, "DEL {v}/a {v}/b");
        }
        flush(s.c);
        for (int i = 0; i < WINDOW; i++) {
            redisReply *r = i % 4 ? e2e_command(reader, "SECRET.MGET v a b") : e2e_command(reader, "MGET {v}/a {v}/b");
            assert_int_equal(r->type, REDIS_REPLY_ARRAY);
            assert_int_equal(r->element[0]->type, r->element[1]->type);
            if (r->element[0]->type == REDIS_REPLY_STRING)
                assert_string_equal(r->element[0]->str, r->element[1]->str);
            freeReplyObject(r);
            assert_int_equal(e2e_int(reader, "EXISTS {v}/a {v}/b") % 2, 0);
        }
        read_answers(s.c, WINDOW);
    }
    redisFree(reader);
    e2e_finish(&s);
}

/* A value that is not in its head is read in two looks; what changed between them was answered CORRUPT. */
static void test_a_large_secret_that_changes_is_not_corrupt(void **state)
{
    struct e2e s;
    char big[3001];
    (void)state;
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    e2e_start(&s, "--io-threads", "2", NULL);
    redisContext *reader = e2e_connect(&s);
    e2e_expect(s.c, "+OK", "VAULT.CREATE v MAXVERSIONS 1");
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < WINDOW; i++)
            redisAppendCommand(s.c, i % 16 == 15 ? "SECRET.DESTROY v p" : "SECRET.SET v p %s", big);
        flush(s.c);
        for (int i = 0; i < WINDOW; i++) {
            redisReply *r = e2e_command(reader, "SECRET.GET v p");
            if (r->type != REDIS_REPLY_NIL)
                assert_int_equal(r->type, REDIS_REPLY_STRING);
            freeReplyObject(r);
        }
        read_answers(s.c, WINDOW);
    }
    redisFree(reader);
    e2e_finish(&s);
}

/* A version staged on a deleted secret was acknowledged, and purged with it; GET of the old value where there was only
 * a staged one was answered CORRUPT. */
static void test_staged_versions_of_secrets_that_have_no_current_one(void **state)
{
    struct e2e s;
    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+OK", "VAULT.CREATE v");
    e2e_expect(s.c, ":1", "SECRET.SET v p 1");
    e2e_expect(s.c, ":1", "SECRET.DEL v p");
    e2e_expect(s.c, "-KEYSTATE...", "SECRET.SET v p 2 STAGE PENDING");
    e2e_expect(s.c, "+OK", "SECRET.UNDELETE v p");
    e2e_expect(s.c, ":2", "SECRET.SET v p 2 STAGE PENDING");
    e2e_expect(s.c, ":1", "SECRET.SET v q 1 STAGE PENDING");
    e2e_expect(s.c, "nil", "SECRET.GET v q");
    e2e_expect(s.c, "nil", "SET {v}/q 2 GET");
    e2e_expect(s.c, "$2", "SET {v}/q 3 GET");
    e2e_finish(&s);
}

/* CLIENT LIST gave the connections of one thread after those of another, the newest first. */
static void test_clients_are_listed_in_the_order_in_which_they_came(void **state)
{
    struct e2e s;
    redisContext *more[9];
    (void)state;
    e2e_start(&s, "--io-threads", "3", NULL);
    for (int i = 0; i < 9; i++) {
        more[i] = e2e_connect(&s);
        e2e_expect(more[i], "$PONG", "PING PONG");
    }
    redisReply *r = e2e_command(s.c, "CLIENT LIST");
    long long before = 0, id;
    int lines = 0;
    for (char *rest, *line = strtok_r(r->str, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest), lines++) {
        assert_int_equal(sscanf(line, "id=%lld ", &id), 1);
        assert_true(id > before);
        before = id;
    }
    assert_int_equal(lines, 10);
    freeReplyObject(r);
    for (int i = 0; i < 9; i++)
        redisFree(more[i]);
    e2e_finish(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_settings_changed_in_a_pipeline_are_all_kept, e2e_teardown),
        cmocka_unit_test_teardown(test_scan_goes_on_behind_a_key_that_ends_in_a_slash, e2e_teardown),
        cmocka_unit_test_teardown(test_what_goes_together_is_read_together, e2e_teardown),
        cmocka_unit_test_teardown(test_a_large_secret_that_changes_is_not_corrupt, e2e_teardown),
        cmocka_unit_test_teardown(test_staged_versions_of_secrets_that_have_no_current_one, e2e_teardown),
        cmocka_unit_test_teardown(test_clients_are_listed_in_the_order_in_which_they_came, e2e_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
