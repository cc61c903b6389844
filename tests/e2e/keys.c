/* KEY.*: making, changing and ending keys, several clients, restarts, and whatever a client can get wrong. What keys
 * are for is in keys_crypto.c. */
#include <stdio.h>

#include "tests/e2e/keys.h"

/* ---- making, listing, changing ---- */

static void test_create_and_info(void **state)
{
    struct e2e s;
    (void)state;
    start(&s);
    e2e_expect(s.c, ":1", "KEY.CREATE v k");
    e2e_expect(s.c, "-KEYEXISTS key 'k' exists already in vault 'v': use KEY.ROTATE for a new version",
               "KEY.CREATE v k");
    e2e_expect(s.c, "-KEYEXISTS ...", "KEY.CREATE v k TYPE rsa-2048");
    e2e_expect(s.c, ":1", "KEY.CREATE v m meta %s type HMAC-sha256", "{\"a\":1}");

    redisReply *r = e2e_command(s.c, "KEY.INFO v k");
    static const char *const fields[] = {"key",        "id",        "type",    "operations",
                                         "protection", "state",     "version", "min-version",
                                         "created-at", "delete-at", "meta",    "versions"};
    assert_int_equal(r->elements, 24);
    for (size_t i = 0; i < 12; i++)
        assert_string_equal(r->element[2 * i]->str, fields[i]);
    assert_int_equal(r->element[3]->len, 32); /* id in hex */
    assert_string_equal(r->element[5]->str, "aes-256");
    assert_string_equal(r->element[7]->element[0]->str, "encrypt");
    assert_string_equal(r->element[9]->str, "hsm");
    assert_string_equal(r->element[11]->str, "enabled");
    assert_int_equal(r->element[13]->integer, 1);
    assert_int_equal(r->element[15]->integer, 1);
    assert_true(r->element[17]->integer > 1600000000000);
    assert_int_equal(r->element[19]->type, REDIS_REPLY_NIL);
    assert_int_equal(r->element[21]->type, REDIS_REPLY_NIL);
    assert_int_equal(r->element[23]->elements, 1);
    freeReplyObject(r);
    r = e2e_command(s.c, "KEY.INFO v m");
    assert_string_equal(r->element[21]->str, "{\"a\":1}");
    freeReplyObject(r);
    e2e_finish(&s);
}

static void test_list(void **state)
{
    struct e2e s;
    (void)state;
    start(&s);
    e2e_expect(s.c, "[$0 []]", "KEY.LIST v");
    for (int i = 0; i < 25; i++)
        e2e_expect(s.c, ":1", "KEY.CREATE v k%02d TYPE hmac-sha256", i);
    e2e_expect(s.c, "+OK", "VAULT.CREATE w");
    e2e_expect(s.c, ":1", "KEY.CREATE w other");
    e2e_expect(s.c, "[$0 [$other]]", "KEY.LIST w");

    char cursor[128] = "0";
    int seen = 0, pages = 0;
    do {
        redisReply *r = e2e_command(s.c, "KEY.LIST v CURSOR %s COUNT 10", cursor);
        assert_int_equal(r->elements, 2);
        for (size_t i = 0; i < r->element[1]->elements; i++, seen++) {
            char want[16];
            snprintf(want, sizeof want, "k%02d", seen);
            assert_string_equal(r->element[1]->element[i]->str, want);
        }
        snprintf(cursor, sizeof cursor, "%s", r->element[0]->str);
        freeReplyObject(r);
        pages++;
    } while (strcmp(cursor, "0") != 0);
    assert_int_equal(seen, 25);
    assert_int_equal(pages, 3);
    e2e_expect(s.c, "-ERR invalid cursor", "KEY.LIST v CURSOR nonsense");
    e2e_expect(s.c, "-ERR COUNT must be from 1 to 10000", "KEY.LIST v COUNT 0");
    e2e_expect(s.c, "-NOVAULT ...", "KEY.LIST nope");
    e2e_finish(&s);
}

static void test_states(void **state)
{
    struct e2e s;
    (void)state;
    start(&s);
    redisContext *c = s.c;
    e2e_expect(c, ":1", "KEY.CREATE v k");
    struct blob ct = encrypt(c, "v", "k", "hello");
    for (int round = 0; round < 2; round++) /* the second changes nothing */
        e2e_expect(c, "+OK", "KEY.DISABLE v k");
    e2e_expect(c, "-KEYSTATE key 'k' is disabled: KEY.ENABLE it first", "KEY.ENCRYPT v k x");
    e2e_expect(c, "-KEYSTATE key 'k' is disabled: KEY.ENABLE it first", "KEY.DECRYPT v k %b", ct.p, ct.n);
    e2e_expect(c, "-KEYSTATE key 'k' is disabled: KEY.ENABLE it first", "KEY.ROTATE v k");
    e2e_expect(c, "+OK", "KEY.SET v k META x"); /* what does not use it goes on */

    e2e_expect(c, "+OK", "KEY.DELETE v k IN 604800");
    e2e_expect(c, "-KEYSTATE key 'k' is scheduled for deletion: KEY.UNDELETE brings it back", "KEY.ENCRYPT v k x");
    e2e_expect(c, "-KEYSTATE key 'k' is scheduled ...", "KEY.ENABLE v k");
    e2e_expect(c, "-KEYSTATE key 'k' is scheduled ...", "KEY.SET v k MINVERSION 1");
    e2e_expect(c, "-KEYSTATE key 'k' is scheduled ...", "KEY.ROTATE v k");
    e2e_expect(c, "-KEYEXISTS ...", "KEY.CREATE v k");
    redisReply *r = e2e_command(c, "KEY.INFO v k");
    assert_string_equal(r->element[11]->str, "deleting");
    assert_int_equal(r->element[19]->integer / 1000 - r->element[17]->integer / 1000 >= 604800 - 1, 1);
    freeReplyObject(r);
    e2e_expect(c, "+OK", "KEY.UNDELETE v k");
    e2e_expect(c, "-KEYSTATE key 'k' is disabled: KEY.ENABLE it first", "KEY.ENCRYPT v k x"); /* as it was */
    e2e_expect(c, "-KEYSTATE key 'k' is not scheduled for deletion", "KEY.UNDELETE v k");
    e2e_expect(c, "+OK", "KEY.ENABLE v k");
    e2e_expect(c, "$hello", "KEY.DECRYPT v k %b", ct.p, ct.n);

    e2e_expect(c, "-ERR IN must be from 604800 to 2592000 seconds...", "KEY.DELETE v k IN 5");
    e2e_expect(c, "-ERR IN must be from 0 to 2592000", "KEY.DELETE v k IN 2592001 FORCE");
    e2e_expect(c, "+OK", "KEY.DELETE v k IN 0 FORCE");
    struct e2e_deadline gone = {.what = "the key to be destroyed"};
    do {
        r = e2e_command(c, "KEY.INFO v k");
        int is_gone = r->type == REDIS_REPLY_ERROR && strncmp(r->str, "NOKEY", 5) == 0;
        freeReplyObject(r);
        if (is_gone)
            break;
    } while (e2e_not_yet(&gone));
    e2e_expect(c, "[$0 []]", "KEY.LIST v");
    e2e_expect(c, ":1", "KEY.CREATE v k"); /* another key of the same name */
    e2e_expect(c, "-BADCIPHERTEXT the ciphertext was made by another key", "KEY.DECRYPT v k %b", ct.p, ct.n);
    e2e_finish(&s);
}

/* ---- what a client can get wrong ---- */

static void test_wrong_kind_of_key(void **state)
{
    struct e2e s;
    (void)state;
    start(&s);
    redisContext *c = s.c;
    e2e_expect(c, ":1", "KEY.CREATE v aes");
    e2e_expect(c, ":1", "KEY.CREATE v ec TYPE ec-p256");
    e2e_expect(c, ":1", "KEY.CREATE v mac TYPE hmac-sha256");
    e2e_expect(c, "-ERR key 'ec' is ec-p256, which cannot encrypt; use KEY.SIGN", "KEY.ENCRYPT v ec x");
    e2e_expect(c, "-ERR key 'ec' is ec-p256, which cannot encrypt; use KEY.SIGN", "KEY.DECRYPT v ec x");
    e2e_expect(c, "-ERR key 'ec' is ec-p256, which cannot encrypt; use KEY.SIGN", "KEY.REWRAP v ec x");
    e2e_expect(c, "-ERR key 'mac' is hmac-sha256, which cannot encrypt; use KEY.MAC", "KEY.DATAKEY v mac");
    e2e_expect(c, "-ERR key 'aes' is aes-256, which cannot sign; use KEY.ENCRYPT", "KEY.SIGN v aes x");
    e2e_expect(c, "-ERR key 'mac' is hmac-sha256, which cannot sign; use KEY.MAC", "KEY.VERIFY v mac x y");
    e2e_expect(c, "-ERR key 'aes' is aes-256, which cannot make MACs; use KEY.ENCRYPT", "KEY.MAC v aes x");
    e2e_expect(c, "-ERR key 'ec' is ec-p256, which cannot make MACs; use KEY.SIGN", "KEY.VERIFYMAC v ec x y");
    e2e_expect(c, "-ERR key 'aes' is aes-256, which has no public key", "KEY.PUBLIC v aes");
    e2e_finish(&s);
}

static void test_nonsense(void **state)
{
    static const char *const commands[] = {"KEY.INFO",     "KEY.ROTATE",  "KEY.ENABLE",  "KEY.DISABLE",   "KEY.DELETE",
                                           "KEY.UNDELETE", "KEY.ENCRYPT", "KEY.DECRYPT", "KEY.REWRAP",    "KEY.DATAKEY",
                                           "KEY.SIGN",     "KEY.VERIFY",  "KEY.MAC",     "KEY.VERIFYMAC", "KEY.PUBLIC"};
    static const int data[] = {0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1, 2, 1, 2, 0};
    struct e2e s;
    (void)state;
    start(&s);
    redisContext *c = s.c;
    for (size_t i = 0; i < sizeof data / sizeof data[0]; i++) {
        const char *more = data[i] == 2 ? " x y" : data[i] ? " x" : "";
        char line[128];
        e2e_expect(c, "-ERR wrong number of arguments for ...", commands[i]);
        snprintf(line, sizeof line, "%s nope k%s", commands[i], more);
        e2e_expect(c, "-NOVAULT no vault 'nope': make it with VAULT.CREATE", line);
        snprintf(line, sizeof line, "%s v nokey%s", commands[i], more);
        e2e_expect(c, "-NOKEY no key 'nokey' in vault 'v': make it with KEY.CREATE", line);
    }
    e2e_expect(c, ":1", "KEY.CREATE v k");
    e2e_expect(c, "-ERR syntax error near argument 4", "KEY.ENCRYPT v k x BOGUS");
    e2e_expect(c, "-ERR syntax error near 'AAD'", "KEY.ENCRYPT v k x AAD");
    e2e_expect(c, "-ERR syntax error near 'aad'", "KEY.ENCRYPT v k x AAD 1 aad 2");
    e2e_expect(c, "-ERR syntax error near argument 4", "KEY.SIGN v k x VERSION 1");
    e2e_expect(c, "-ERR syntax error near 'FORCED'", "KEY.DELETE v k FORCED");
    e2e_expect(c, "-ERR wrong number of arguments ...", "KEY.SET v k");
    e2e_expect(c, "-ERR wrong number of arguments ...", "KEY.MAC v k x y");
    e2e_expect(c, "-ERR unknown key type: use one of aes-256, rsa-2048, ...", "KEY.CREATE v new TYPE des");
    e2e_expect(c, "-ERR unknown format: use pem or der", "KEY.PUBLIC v k FORMAT jwk");
    e2e_expect(c, "-BADCIPHERTEXT this is not a ciphertext of KEY.ENCRYPT", "KEY.DECRYPT v k %b", "\0\xff\r\n$-1\r\n",
               (size_t)9);

    static const char *const names[] = {"", ".k", "-k", "a b", "a/b", "k\xc3\xa9", "k\n"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        e2e_expect(c, "-ERR invalid name: ...", "KEY.CREATE v %b", names[i], strlen(names[i]));
        e2e_expect(c, "-NOKEY ...", "KEY.INFO v %b", names[i], strlen(names[i]));
        e2e_expect(c, "-NOVAULT ...", "KEY.INFO %b k", names[i], strlen(names[i]));
    }
    e2e_expect(c, "-ERR invalid name: ...", "KEY.CREATE v %b", "k\0x", (size_t)3);
    e2e_expect(c, "-ERR invalid name: ...", "KEY.CREATE v %065d", 7);
    e2e_expect(c, ":1", "KEY.CREATE v %064d", 7);

    e2e_expect(c, "-ERR bytes must be from 1 to 65536", "KEY.RANDOM 0");
    e2e_expect(c, "-ERR bytes must be from 1 to 65536", "KEY.RANDOM 65537");
    e2e_expect(c, "-ERR value is not an integer or out of range", "KEY.RANDOM 1x");
    static const int sizes[] = {1, 16, 65536};
    for (int i = 0; i < 3; i++) {
        redisReply *r = e2e_command(c, "KEY.RANDOM %d", sizes[i]);
        assert_int_equal(r->type, REDIS_REPLY_STRING);
        assert_int_equal(r->len, sizes[i]);
        freeReplyObject(r);
    }
    e2e_finish(&s);
}

/* ---- both protocols, pipelines, others at the same time, restarts ---- */

static void test_resp3(void **state)
{
    struct e2e s;
    struct e2e_raw r;
    (void)state;
    start(&s);
    e2e_expect(s.c, ":1", "KEY.CREATE v k");
    e2e_expect(s.c, ":1", "KEY.CREATE v m TYPE hmac-sha256");
    struct blob mac = take(e2e_command(s.c, "KEY.MAC v m hi"));
    e2e_raw_open3(&r, &s);
    e2e_raw_expect(&r, "#1", "KEY.VERIFYMAC v m hi %b", mac.p, mac.n);
    e2e_raw_expect(&r, "#0", "KEY.VERIFYMAC v m ho %b", mac.p, mac.n);
    e2e_raw_expect(&r, "{$key $k $id ...", "KEY.INFO v k");
    e2e_raw_expect(&r, "[$0 [$k $m]]", "KEY.LIST v");
    e2e_raw_close(&r);
    e2e_finish(&s);
}

static void test_pipeline(void **state)
{
    enum { N = 500 };
    struct e2e s;
    (void)state;
    start(&s);
    redisContext *c = s.c;
    e2e_expect(c, ":1", "KEY.CREATE v k");
    for (int i = 0; i < N; i++) {
        redisAppendCommand(c, "KEY.ENCRYPT v k message-%d", i);
        if (i % 50 == 7)
            redisAppendCommand(c, "KEY.ENCRYPT v nokey x"); /* refused at once, answered in its place */
    }
    struct blob *ct = calloc(N, sizeof *ct);
    assert_non_null(ct);
    for (int i = 0; i < N; i++) {
        void *r;
        assert_int_equal(redisGetReply(c, &r), REDIS_OK);
        ct[i] = take(r);
        if (i % 50 == 7)
            e2e_expect_next(c, "-NOKEY ...");
    }
    for (int i = 0; i < N; i++)
        redisAppendCommand(c, "KEY.DECRYPT v k %b", ct[i].p, ct[i].n);
    for (int i = 0; i < N; i++) {
        char want[32];
        snprintf(want, sizeof want, "$message-%d", i);
        e2e_expect_next(c, want);
    }
    free(ct);
    redisReply *r = e2e_command(c, "KEY.INFO v k");
    assert_int_equal(r->element[23]->element[0]->element[5]->integer, N); /* encryptions */
    freeReplyObject(r);
    e2e_finish(&s);
}

/* Several clients change one key at once: no change is lost. */
static void test_changes_at_the_same_time(void **state)
{
    enum { N = 30 };
    struct e2e s;
    (void)state;
    start(&s);
    redisContext *c[3] = {s.c, e2e_connect(&s), e2e_connect(&s)};
    e2e_expect(c[0], ":1", "KEY.CREATE v k TYPE hmac-sha256");
    for (int i = 0; i < N; i++) {
        redisAppendCommand(c[0], "KEY.ROTATE v k");
        redisAppendCommand(c[1], "KEY.SET v k META meta-%d", i);
        redisAppendCommand(c[2], i % 2 ? "KEY.SET v k MINVERSION 1" : "KEY.ENABLE v k");
    }
    for (int i = 0; i < N; i++) {
        char want[16];
        snprintf(want, sizeof want, ":%d", i + 2);
        e2e_expect_next(c[0], want);
        e2e_expect_next(c[1], "+OK");
        e2e_expect_next(c[2], "+OK");
    }
    redisReply *r = e2e_command(c[0], "KEY.INFO v k");
    assert_int_equal(r->element[13]->integer, N + 1);
    assert_int_equal(r->element[23]->elements, N + 1);
    assert_string_equal(r->element[21]->str, "meta-29");
    freeReplyObject(r);
    redisFree(c[1]);
    redisFree(c[2]);
    e2e_finish(&s);
}

static long long hsm_requests(redisContext *c)
{
    redisReply *r = e2e_command(c, "HSM.INFO");
    long long n = -1;
    for (size_t i = 0; i + 1 < r->elements; i += 2)
        if (strcmp(r->element[i]->str, "requests") == 0)
            n = r->element[i + 1]->integer;
    freeReplyObject(r);
    assert_true(n >= 0);
    return n;
}

/* One command of each of n connections, which may have its number in it, started together: they are held back until
 * all were sent. */
static void send_to_all(redisContext *admin, redisContext **c, int n, const char *command)
{
    e2e_expect(admin, "+OK", "CLIENT PAUSE 60000 WRITE");
    for (int i = 0; i < n; i++) {
        redisAppendCommand(c[i], command, i);
        for (int sent = 0; !sent;)
            assert_int_equal(redisBufferWrite(c[i], &sent), REDIS_OK);
    }
    e2e_expect(admin, "+OK", "CLIENT UNPAUSE");
}

/* Many clients rotate one key at once: each gets a version of its own, however many were faster, and none costs the
 * HSM a key that is thrown away. */
static void test_rotations_overtaken_by_many(void **state)
{
    enum { N = 40 };
    struct e2e s;
    redisContext *c[N];
    char seen[N + 2] = {0};
    (void)state;
    start(&s);
    e2e_expect(s.c, ":1", "KEY.CREATE v k TYPE hmac-sha256");
    long long asked = hsm_requests(s.c);
    for (int i = 0; i < N; i++)
        c[i] = e2e_connect(&s);
    send_to_all(s.c, c, N, "KEY.ROTATE v k");
    for (int i = 0; i < N; i++) {
        redisReply *r;
        assert_int_equal(redisGetReply(c[i], (void **)&r), REDIS_OK);
        if (r->type != REDIS_REPLY_INTEGER)
            fail_msg("%s", r->str);
        assert_in_range(r->integer, 2, N + 1);
        assert_int_equal(seen[r->integer]++, 0);
        freeReplyObject(r);
        redisFree(c[i]);
    }
    assert_int_equal(hsm_requests(s.c) - asked, N);
    e2e_finish(&s);
}

/* The same for changes that need nothing of the HSM. */
static void test_changes_overtaken_by_many(void **state)
{
    enum { N = 100 };
    struct e2e s;
    redisContext *c[N];
    (void)state;
    start(&s);
    e2e_expect(s.c, ":1", "KEY.CREATE v k TYPE hmac-sha256");
    for (int i = 0; i < N; i++)
        c[i] = e2e_connect(&s);
    send_to_all(s.c, c, N, "KEY.SET v k META %d"); /* each another, or they would not conflict */
    for (int i = 0; i < N; i++) {
        e2e_expect_next(c[i], "+OK");
        redisFree(c[i]);
    }
    e2e_finish(&s);
}

/* Two changes of different fields that are under way together: both hold afterwards. */
static void test_no_change_is_lost(void **state)
{
    struct e2e s;
    char want[16];
    (void)state;
    start(&s);
    redisContext *c[2] = {s.c, e2e_connect(&s)};
    e2e_expect(c[0], ":1", "KEY.CREATE v k TYPE hmac-sha256");
    e2e_expect(c[0], ":2", "KEY.ROTATE v k");
    for (int i = 0; i < 50; i++) {
        redisAppendCommand(c[0], "KEY.SET v k META meta-%d", i);
        redisAppendCommand(c[1], "KEY.SET v k MINVERSION %d", 1 + i % 2);
        for (int j = 0, sent = 0; j < 2; j++, sent = 0) /* both, before any answer is waited for */
            while (!sent)
                assert_int_equal(redisBufferWrite(c[j], &sent), REDIS_OK);
        e2e_expect_next(c[0], "+OK");
        e2e_expect_next(c[1], "+OK");
        redisReply *r = e2e_command(c[0], "KEY.INFO v k");
        snprintf(want, sizeof want, "meta-%d", i);
        assert_string_equal(r->element[21]->str, want);
        assert_int_equal(r->element[15]->integer, 1 + i % 2);
        freeReplyObject(r);
    }
    redisFree(c[1]);
    e2e_finish(&s);
}

static long long encryptions(redisContext *c, int field)
{
    redisReply *r = e2e_command(c, "KEY.INFO v k");
    long long n = r->element[23]->element[0]->element[field]->integer;
    freeReplyObject(r);
    return n;
}

/* Keys and the counts of their encryptions outlive the server, however it ends. */
static void test_restart(void **state)
{
    const long long step = 1 << 20;
    struct e2e s;
    (void)state;
    start(&s);
    e2e_expect(s.c, ":1", "KEY.CREATE v k");
    e2e_expect(s.c, ":1", "KEY.CREATE v rsa TYPE rsa-2048");
    e2e_expect(s.c, "+OK", "KEY.SET v k META kept");
    struct blob ct = encrypt(s.c, "v", "k", "kept"), sig = take(e2e_command(s.c, "KEY.SIGN v rsa hi"));
    assert_int_equal(encryptions(s.c, 5), 1);
    assert_int_equal(encryptions(s.c, 7), step);
    for (int round = 1; round <= 2; round++) {
        if (round == 1)
            e2e_kill(&s);
        else
            e2e_stop(&s);
        e2e_again(&s);
        e2e_expect(s.c, "$kept", "KEY.DECRYPT v k %b", ct.p, ct.n);
        e2e_expect(s.c, ":1", "KEY.VERIFY v rsa hi %b", sig.p, sig.n);
        assert_int_equal(encryptions(s.c, 7), round * step); /* decrypting reserves nothing */
        encrypt(s.c, "v", "k", "more");
        assert_int_equal(encryptions(s.c, 7), (round + 1) * step);
        assert_int_equal(encryptions(s.c, 5), round * step + 1);
    }
    redisReply *r = e2e_command(s.c, "KEY.INFO v k");
    assert_string_equal(r->element[21]->str, "kept");
    freeReplyObject(r);
    e2e_finish(&s);
}

/* Many connections need a reservation of the same key at the same time. */
static void test_first_encryptions_after_a_restart(void **state)
{
    enum { CLIENTS = 8, EACH = 20 };
    redisContext *c[CLIENTS];
    struct e2e s;
    (void)state;
    start(&s);
    e2e_expect(s.c, ":1", "KEY.CREATE v k");
    e2e_kill(&s);
    e2e_again(&s);
    for (int i = 0; i < CLIENTS; i++) {
        c[i] = e2e_connect(&s);
        for (int j = 0; j < EACH; j++)
            redisAppendCommand(c[i], "KEY.ENCRYPT v k x");
    }
    for (int j = 0; j < EACH; j++)
        for (int i = 0; i < CLIENTS; i++)
            e2e_expect_next(c[i], "$CENC...");
    for (int i = 0; i < CLIENTS; i++)
        redisFree(c[i]);
    assert_int_equal(encryptions(s.c, 7), 2 << 20);
    assert_int_equal(encryptions(s.c, 5), (1 << 20) + CLIENTS * EACH);
    e2e_finish(&s);
}

static void test_nothing_secret_is_logged(void **state)
{
    struct e2e s;
    (void)state;
    e2e_start(&s, "--slowlog-log-slower-than", "0", "--loglevel", "debug", NULL);
    e2e_expect(s.c, "+OK", "VAULT.CREATE v");
    e2e_expect(s.c, ":1", "KEY.CREATE v k");
    e2e_expect(s.c, ":1", "KEY.CREATE v m TYPE hmac-sha256");
    redisContext *monitor = e2e_connect(&s);
    e2e_expect(monitor, "+OK", "MONITOR");
    take(e2e_command(s.c, "KEY.ENCRYPT v k UNSPEAKABLE AAD UNSPEAKABLE"));
    e2e_expect(s.c, "-BADCIPHERTEXT ...", "KEY.DECRYPT v k UNSPEAKABLE");
    e2e_expect(s.c, ":0", "KEY.VERIFYMAC v m UNSPEAKABLE UNSPEAKABLE");
    e2e_expect(s.c, "-ERR ...", "KEY.ENCRYPT v k UNSPEAKABLE UNSPEAKABLE");
    e2e_expect(s.c, "-ERR ...", "KEY.SIGN v k UNSPEAKABLE");
    redisReply *r = e2e_command(s.c, "SLOWLOG GET 128");
    char *text = e2e_show_reply(r);
    assert_non_null(strstr(text, "KEY.ENCRYPT"));
    assert_null(strstr(text, "UNSPEAKABLE"));
    free(text);
    freeReplyObject(r);
    for (int i = 0; i < 5; i++) {
        void *line;
        assert_int_equal(redisGetReply(monitor, &line), REDIS_OK);
        text = e2e_show_reply(line);
        assert_null(strstr(text, "UNSPEAKABLE"));
        assert_non_null(strstr(text, "(redacted)"));
        free(text);
        freeReplyObject(line);
    }
    redisFree(monitor);
    assert_false(e2e_log_has(&s, "UNSPEAKABLE"));
    e2e_finish(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_create_and_info),
        TEST(test_list),
        TEST(test_states),
        TEST(test_wrong_kind_of_key),
        TEST(test_nonsense),
        TEST(test_resp3),
        TEST(test_pipeline),
        TEST(test_changes_at_the_same_time),
        TEST(test_rotations_overtaken_by_many),
        TEST(test_changes_overtaken_by_many),
        TEST(test_no_change_is_lost),
        TEST(test_restart),
        TEST(test_first_encryptions_after_a_restart),
        TEST(test_nothing_secret_is_logged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
