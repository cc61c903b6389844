/* WBL.* and HSM.*: what the log tells of itself, also after somebody changed it, and sealing. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/record.h"
#include "tests/e2e/keys.h"

/* ---- maps ---- */

/* The value of a field of a RESP2 map. */
static const redisReply *field(const redisReply *r, const char *name)
{
    for (size_t i = 0; i + 1 < r->elements; i += 2)
        if (strcmp(r->element[i]->str, name) == 0)
            return r->element[i + 1];
    fail_msg("no field %s in %s", name, e2e_show_reply(r));
    return NULL;
}

static long long number(const redisReply *r, const char *name)
{
    assert_int_equal(field(r, name)->type, REDIS_REPLY_INTEGER);
    return field(r, name)->integer;
}

static long long ask(redisContext *c, const char *command, const char *name)
{
    redisReply *r = e2e_command(c, command);
    long long n = number(r, name);
    freeReplyObject(r);
    return n;
}

/* ---- WBL.INFO, WBL.RANGE, WBL.OUTCOME ---- */

static void test_info(void **state)
{
    struct e2e s;
    (void)state;
    start(&s);
    redisReply *r = e2e_command(s.c, "WBL.INFO");
    long long last = number(r, "last-lsn"), records = number(r, "records");
    assert_int_equal(number(r, "first-lsn"), 1);
    assert_int_equal(number(r, "commit-lsn"), last);
    assert_true(number(r, "term") >= 1);
    assert_int_equal(field(r, "chain")->len, 64);
    assert_int_equal(number(r, "damaged-lsn"), 0);
    assert_int_equal(number(r, "failed"), 0);
    assert_true(number(r, "bytes") > 0 && number(r, "fsyncs") > 0);
    freeReplyObject(r);
    e2e_expect(s.c, ":1", "KEY.CREATE v k");
    assert_int_equal(ask(s.c, "WBL.INFO", "last-lsn"), last + 1);
    assert_int_equal(ask(s.c, "WBL.INFO", "records"), records + 1);
    e2e_expect(s.c, "-ERR wrong number of arguments ...", "WBL.INFO x");
    e2e_finish(&s);
}

static void test_range(void **state)
{
    struct e2e s;
    char want[256];
    (void)state;
    start(&s);
    long long vault = ask(s.c, "WBL.INFO", "last-lsn");
    e2e_expect(s.c, ":1", "KEY.CREATE v k");
    e2e_expect(s.c, ":1", "SECRET.SET v path/to/x UNSPEAKABLE");
    long long last = ask(s.c, "WBL.INFO", "last-lsn");

    redisReply *r = e2e_command(s.c, "WBL.RANGE %lld 2", vault);
    assert_int_equal(r->elements, 2);
    char *text = e2e_show_reply(r->element[0]);
    snprintf(want, sizeof want, "[$lsn :%lld $term :1 $time :", vault);
    assert_memory_equal(text, want, strlen(want));
    assert_non_null(strstr(text, "$type $partition $vault $v $key ${v} $bytes :"));
    free(text);
    assert_string_equal(field(r->element[1], "key")->str, "{v}/k");
    assert_string_equal(field(r->element[1], "type")->str, "key");
    assert_int_equal(field(r->element[1], "chain")->len, 64);
    freeReplyObject(r);

    r = e2e_command(s.c, "WBL.RANGE 1 1000");
    assert_int_equal(r->elements, last);
    assert_string_equal(field(r->element[last - 1], "key")->str, "{v}/path/to/x");
    for (long long i = 0; i < last; i++)
        assert_int_equal(number(r->element[i], "lsn"), i + 1);
    text = e2e_show_reply(r);
    assert_null(strstr(text, "UNSPEAKABLE"));
    free(text);
    redisReply *info = e2e_command(s.c, "WBL.INFO");
    assert_string_equal(field(r->element[last - 1], "chain")->str, field(info, "chain")->str);
    freeReplyObject(info);
    freeReplyObject(r);

    e2e_expect(s.c, "[]", "WBL.RANGE %lld 10", last + 1);
    e2e_expect(s.c, "-ERR the log ends at LSN ...", "WBL.RANGE %lld 10", last + 2);
    e2e_expect(s.c, "-ERR the log begins at LSN 1", "WBL.RANGE 0 10");
    e2e_expect(s.c, "-ERR the log begins at LSN 1", "WBL.RANGE -5 10");
    e2e_expect(s.c, "-ERR count must be from 1 to 1000", "WBL.RANGE 1 0");
    e2e_expect(s.c, "-ERR count must be from 1 to 1000", "WBL.RANGE 1 1001");
    e2e_expect(s.c, "-ERR value is not an integer or out of range", "WBL.RANGE x 1");
    e2e_finish(&s);
}

static void test_outcome(void **state)
{
    struct e2e s;
    (void)state;
    start(&s);
    long long term = ask(s.c, "WBL.INFO", "term"), last = ask(s.c, "WBL.INFO", "last-lsn");
    e2e_expect(s.c, "$committed", "WBL.OUTCOME %lld %lld", last, term);
    e2e_expect(s.c, "$committed", "WBL.OUTCOME 1 1");
    e2e_expect(s.c, "$rolledback", "WBL.OUTCOME %lld %lld", last, term + 1);
    e2e_expect(s.c, "$pending", "WBL.OUTCOME %lld %lld", last + 1000, term);
    e2e_expect(s.c, "-ERR value is not an integer or out of range", "WBL.OUTCOME x 1");
    e2e_expect(s.c, "-ERR argument out of range", "WBL.OUTCOME 0 1");
    e2e_expect(s.c, "-ERR argument out of range", "WBL.OUTCOME 1 4294967296");
    e2e_kill(&s);
    e2e_again(&s);
    long long now = ask(s.c, "WBL.INFO", "term");
    e2e_expect(s.c, "$committed", "WBL.OUTCOME %lld %lld", last, term);
    /* What an older term left behind the log's end is gone for ever; within a term it may still come. */
    e2e_expect(s.c, now > term ? "$rolledback" : "$pending", "WBL.OUTCOME %lld %lld", last + 1000, term);
    e2e_expect(s.c, "$pending", "WBL.OUTCOME %lld %lld", last + 1000, now);
    e2e_finish(&s);
}

/* ---- WBL.VERIFY ---- */

static void expect_verified(redisContext *c, long long hmacs)
{
    redisReply *r = e2e_command(c, "WBL.VERIFY");
    assert_int_equal(number(r, "chain-ok"), 1);
    assert_int_equal(number(r, "hmacs-ok"), 1);
    assert_int_equal(number(r, "hmacs"), hmacs);
    assert_int_equal(number(r, "hmacs-skipped"), 0);
    assert_int_equal(number(r, "records"), number(r, "to") - number(r, "from") + 1);
    assert_int_equal(field(r, "first-bad-lsn")->type, REDIS_REPLY_NIL);
    freeReplyObject(r);
}

static void test_verify(void **state)
{
    enum { KEYS = 150 }; /* more than are checked at a time */
    struct e2e s;
    struct e2e_raw raw;
    (void)state;
    start(&s);
    for (int i = 0; i < KEYS; i++)
        e2e_expect(s.c, ":1", "KEY.CREATE v k%d TYPE hmac-sha256", i);
    e2e_expect(s.c, ":2", "KEY.ROTATE v k0");
    e2e_expect(s.c, "+OK", "KEY.DISABLE v k0"); /* no new key material, no HMAC */
    expect_verified(s.c, KEYS + 1);
    long long last = ask(s.c, "WBL.INFO", "last-lsn");
    redisReply *r = e2e_command(s.c, "WBL.VERIFY TO %lld FROM %lld", last, last - 1);
    assert_int_equal(number(r, "records"), 2);
    assert_int_equal(number(r, "hmacs"), 1);
    assert_int_equal(number(r, "from"), last - 1);
    freeReplyObject(r);
    e2e_expect(s.c, "-ERR the log ends at LSN ...", "WBL.VERIFY TO %lld", last + 1);
    e2e_expect(s.c, "-ERR FROM is behind TO", "WBL.VERIFY FROM 3 TO 2");
    e2e_expect(s.c, "-ERR FROM must be from 1 to 9223372036854775807", "WBL.VERIFY FROM 0");
    e2e_expect(s.c, "-ERR syntax error near 'TILL'", "WBL.VERIFY TILL 3");
    assert_int_equal(ask(s.c, "WBL.INFO", "verifying-lsn"), 0);
    e2e_raw_open3(&raw, &s);
    e2e_raw_expect(&raw, "{$from :1 $to :1 $records :1 $bytes ...", "WBL.VERIFY TO 1");
    e2e_raw_close(&raw);
    e2e_kill(&s);
    e2e_again(&s);
    expect_verified(s.c, KEYS + 1);
    e2e_finish(&s);
}

/* Without FROM it is about the log as it is, which is trimmed under it here; with FROM, about records that may go. */
static void test_verify_beside_trimming(void **state)
{
    enum { TRIMMED = 8, BURST = 64 };
    struct e2e s;
    char value[8192];
    long long first = 0;

    (void)state;
    e2e_start(&s, "--wbl-segment-bytes", "1mb", "--snapshot-log-bytes", "1mb", NULL);
    e2e_expect(s.c, "+OK", "VAULT.CREATE v");
    redisContext *writer = e2e_connect(&s);
    memset(value, 'v', sizeof value);
    for (int trimmed = 0; trimmed < TRIMMED;) {
        for (int i = 0; i < BURST; i++)
            assert_int_equal(redisAppendCommand(writer, "SECRET.SET v k%d %b", i, value, sizeof value), REDIS_OK);
        for (int done = 0; !done;)
            assert_int_equal(redisBufferWrite(writer, &done), REDIS_OK);
        redisReply *r = e2e_command(s.c, "WBL.VERIFY");
        if (r->type == REDIS_REPLY_ERROR)
            fail_msg("%s", r->str);
        assert_int_equal(number(r, "chain-ok"), 1);
        assert_int_equal(number(r, "records"), number(r, "to") - number(r, "from") + 1);
        trimmed += number(r, "from") > first;
        first = number(r, "from");
        freeReplyObject(r);
        for (int i = 0; i < BURST; i++) {
            void *answer;
            assert_int_equal(redisGetReply(writer, &answer), REDIS_OK);
            freeReplyObject(answer);
        }
    }
    e2e_expect(s.c, "-ERR the log begins at LSN ...", "WBL.VERIFY FROM 1");
    redisFree(writer);
    e2e_finish(&s);
}

/* ---- a log that somebody changed ---- */

/* The one segment of a small log. */
struct segment {
    int fd;
    uint8_t *p;
    size_t n;
};

static void segment_open(struct segment *g, const struct e2e *s)
{
    char path[512] = "";
    uint64_t size;
    assert_int_equal(e2e_run(path, sizeof path, "find", s->dir, "-name", "0*1.wbl", NULL), 0);
    path[strcspn(path, "\n")] = 0;
    assert_int_equal(file_open(path, O_RDWR, 0, &g->fd), ERR_OK);
    assert_int_equal(file_size(g->fd, &size), ERR_OK);
    g->p = malloc(size);
    assert_int_equal(file_pread(g->fd, g->p, size, 0, &g->n), ERR_OK);
}

/* Puts the file back into the state that it was read in, or in which g->p is. */
static void segment_write(struct segment *g)
{
    assert_int_equal(file_pwrite(g->fd, g->p, g->n, 0), ERR_OK);
}

static void segment_close(struct segment *g)
{
    assert_int_equal(file_close(g->fd), ERR_OK);
    free(g->p);
}

/* Offset of the record with this LSN, and the chain before it. Layout: engine/wal.h. */
static size_t find_record(const struct segment *g, uint64_t lsn, uint8_t chain[RECORD_CHAIN_BYTES])
{
    struct record rec;
    size_t used;
    memcpy(chain, g->p + 40, RECORD_CHAIN_BYTES);
    for (size_t off = 128; off + 24 < g->n && memcmp(g->p + off, "WBLG", 4) == 0;) {
        size_t end = off + 24 + get_le32(g->p + off + 8);
        for (off += 24; off < end; off += used) {
            assert_int_equal(record_get(bytes_of(g->p + off, end - off), &rec, &used), ERR_OK);
            if (rec.lsn == lsn)
                return off;
            memcpy(chain, rec.chain, RECORD_CHAIN_BYTES);
        }
    }
    fail_msg("no record %llu", (unsigned long long)lsn);
    return 0;
}

static void expect_damage(redisContext *c, const char *what, long long lsn)
{
    redisReply *r = e2e_command(c, "WBL.VERIFY");
    assert_int_equal(number(r, what), 0);
    assert_int_equal(number(r, strcmp(what, "chain-ok") == 0 ? "hmacs-ok" : "chain-ok"), 1);
    assert_int_equal(number(r, "first-bad-lsn"), lsn);
    freeReplyObject(r);
}

static void test_verify_finds_a_flipped_bit(void **state)
{
    uint8_t chain[RECORD_CHAIN_BYTES];
    struct segment g;
    struct e2e s;
    (void)state;
    start(&s);
    e2e_expect(s.c, ":1", "KEY.CREATE v k");
    e2e_expect(s.c, ":1", "KEY.CREATE v l");
    e2e_expect(s.c, ":1", "SECRET.SET v p x");
    long long last = ask(s.c, "WBL.INFO", "last-lsn");
    segment_open(&g, &s);
    for (long long lsn = 1; lsn <= last; lsn++) {
        size_t off = find_record(&g, (uint64_t)lsn, chain);
        static const size_t at[] = {0, 4, 8, 20, 40, 70, 90};
        for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
            g.p[off + at[i]] ^= 4;
            segment_write(&g);
            expect_damage(s.c, "chain-ok", lsn);
            g.p[off + at[i]] ^= 4;
        }
    }
    segment_write(&g);
    expect_verified(s.c, 2);
    segment_close(&g);
    e2e_finish(&s);
}

/* Somebody who can write the log and knows its format exchanges a key, and makes checksum and chain right again. */
static void test_verify_finds_a_forged_key(void **state)
{
    uint8_t chain[RECORD_CHAIN_BYTES];
    struct segment g;
    struct record rec;
    struct buf forged;
    struct e2e s;
    size_t used;
    (void)state;
    start(&s);
    e2e_expect(s.c, ":1", "KEY.CREATE v k");
    long long last = ask(s.c, "WBL.INFO", "last-lsn");
    segment_open(&g, &s);
    size_t off = find_record(&g, (uint64_t)last, chain);
    assert_int_equal(record_get(bytes_of(g.p + off, g.n - off), &rec, &used), ERR_OK);
    assert_int_equal(rec.flags, RECORD_HAS_HMAC);
    uint8_t *masked = memmem(g.p + off, used, "CKEY", 4);
    assert_non_null(masked);

    for (int part = 0; part < 2; part++) {
        uint8_t *byte = part == 0 ? masked + 45 /* of the wrapped key */ : masked + 32 /* its version */;
        buf_init(&forged, RECORD_MAX_BYTES);
        *byte ^= 1;
        assert_int_equal(record_put(&forged, &rec, chain), ERR_OK); /* its key and blob point into g.p */
        assert_int_equal(buf_size(&forged), used);
        *byte ^= 1;
        assert_int_equal(file_pwrite(g.fd, buf_data(&forged), used, off), ERR_OK);
        expect_damage(s.c, "hmacs-ok", last);
        buf_fini(&forged);
    }
    /* The tag in the record is another one than the key's. */
    buf_init(&forged, RECORD_MAX_BYTES);
    rec.hmac[0] ^= 1;
    assert_int_equal(record_put(&forged, &rec, chain), ERR_OK);
    assert_int_equal(file_pwrite(g.fd, buf_data(&forged), used, off), ERR_OK);
    expect_damage(s.c, "hmacs-ok", last);
    buf_fini(&forged);
    segment_close(&g);
    e2e_finish(&s);
}

/* ---- HSM.* ---- */

static void test_hsm_info(void **state)
{
    struct e2e s;
    (void)state;
    start(&s);
    redisReply *r = e2e_command(s.c, "HSM.INFO");
    assert_string_equal(field(r, "state")->str, "up");
    assert_int_equal(number(r, "sealed"), 0);
    assert_true(number(r, "workers-up") >= 1);
    assert_true(number(r, "requests") >= 1);
    assert_int_equal(field(r, "realm")->len, 32);
    assert_non_null(strstr(field(r, "mechanisms")->str, "AES_GCM"));
    assert_non_null(field(r, "module"));
    assert_non_null(field(r, "token"));
    freeReplyObject(r);
    e2e_finish(&s);
}

static void read_pin(const struct e2e *s, char *pin, size_t n)
{
    char path[E2E_PATH + 16];
    snprintf(path, sizeof path, "%s/hsm/pin", s->dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(pin, (int)n, f));
    fclose(f);
    pin[strcspn(pin, "\n")] = 0;
}

static void test_seal(void **state)
{
    struct e2e s;
    char pin[256];
    (void)state;
    start(&s);
    redisContext *c = s.c;
    read_pin(&s, pin, sizeof pin);
    e2e_expect(c, ":1", "KEY.CREATE v k");
    e2e_expect(c, ":1", "SECRET.SET v p one");
    struct blob ct = encrypt(c, "v", "k", "hi");
    e2e_expect(c, "-KEYSTATE the server is not sealed", "HSM.UNSEAL %s", pin);

    for (int round = 0; round < 2; round++) /* sealing twice is no harm */
        e2e_expect(c, "+OK", "HSM.SEAL");
    e2e_expect(c, "-SEALED ...", "KEY.DECRYPT v k %b", ct.p, ct.n);
    e2e_expect(c, "-SEALED ...", "KEY.INFO v k");
    e2e_expect(c, "-SEALED ...", "SECRET.GET v p");
    e2e_expect(c, "-SEALED ...", "SECRET.SET v p two");
    e2e_expect(c, "-SEALED ...", "VAULT.CREATE w");
    e2e_expect(c, "+PONG", "PING");
    assert_int_equal(ask(c, "HSM.INFO", "sealed"), 1);
    assert_true(ask(c, "WBL.INFO", "last-lsn") > 0);
    redisReply *r = e2e_command(c, "WBL.VERIFY"); /* chain yes, HMACs no */
    assert_int_equal(number(r, "chain-ok"), 1);
    assert_int_equal(number(r, "hmacs"), 0);
    assert_int_equal(number(r, "hmacs-skipped"), 1);
    freeReplyObject(r);

    e2e_expect(c, "-HSMDOWN the HSM refused the PIN...", "HSM.UNSEAL wrong");
    e2e_expect(c, "-SEALED ...", "SECRET.GET v p");
    e2e_expect(c, "-ERR a PIN has 1 to 255 bytes", "HSM.UNSEAL %b", "", (size_t)0);
    e2e_expect(c, "-ERR wrong number of arguments ...", "HSM.UNSEAL");
    e2e_expect(c, "+OK", "HSM.UNSEAL %s", pin);
    assert_int_equal(ask(c, "HSM.INFO", "sealed"), 0);
    e2e_expect(c, "$hi", "KEY.DECRYPT v k %b", ct.p, ct.n);
    e2e_expect(c, "$one", "SECRET.GET v p");
    e2e_expect(c, ":2", "SECRET.SET v p two");
    e2e_expect(c, "$two", "SECRET.GET v p");
    assert_false(e2e_log_has(&s, pin));
    e2e_finish(&s);
}

/* Sealed in the middle of traffic: each request is answered, rightly or SEALED, and after the unsealing all is well. */
static void test_seal_under_traffic(void **state)
{
    enum { N = 400 };
    struct e2e s;
    char pin[256];
    (void)state;
    start(&s);
    read_pin(&s, pin, sizeof pin);
    redisContext *admin = e2e_connect(&s);
    e2e_expect(s.c, ":1", "KEY.CREATE v k");
    for (int round = 0; round < 3; round++) {
        int sealed = 0;
        for (int i = 0; i < N; i++)
            redisAppendCommand(s.c, i % 2 ? "KEY.ENCRYPT v k x" : "SECRET.SET v p%d x", i);
        redisAppendCommand(admin, "HSM.SEAL");
        e2e_expect_next(admin, "+OK");
        for (int i = 0; i < N; i++) {
            redisReply *r;
            assert_int_equal(redisGetReply(s.c, (void **)&r), REDIS_OK);
            if (r->type == REDIS_REPLY_ERROR) {
                assert_memory_equal(r->str, "SEALED", 6);
                sealed++;
            } else {
                assert_int_equal(r->type, i % 2 ? REDIS_REPLY_STRING : REDIS_REPLY_INTEGER);
            }
            freeReplyObject(r);
        }
        e2e_expect(s.c, "-SEALED ...", "KEY.ENCRYPT v k x");
        e2e_expect(admin, "+OK", "HSM.UNSEAL %s", pin);
        e2e_expect(s.c, ":1", "SECRET.SET v after%d x", round);
    }
    redisFree(admin);
    e2e_finish(&s);
}

/* As if a crash had come between a vault's keys and its record: the token is ahead of the log. */
static void test_keys_of_a_vault_that_was_never_logged_leave_the_token(void **state)
{
    struct e2e s;
    char command[512], said[512];
    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+OK", "VAULT.CREATE kept");
    e2e_expect(s.c, ":1", "SECRET.SET kept a value");
    e2e_stop(&s);
    snprintf(command, sizeof command, "cd %s && mkdir before && cp -a base cell shard-* state wal before", s.dir);
    assert_int_equal(e2e_run(said, sizeof said, "sh", "-c", command, NULL), 0);
    e2e_again(&s);
    e2e_expect(s.c, "+OK", "VAULT.CREATE lost");
    e2e_stop(&s);
    snprintf(command, sizeof command, "cd %s && rm -rf base cell shard-* state wal && mv before/* .", s.dir);
    assert_int_equal(e2e_run(said, sizeof said, "sh", "-c", command, NULL), 0);
    e2e_again(&s);
    e2e_log_wait(&s, "Partitions that no vault has are gone from the HSM's token: 1");
    e2e_expect(s.c, "$value", "SECRET.GET kept a");
    e2e_expect(s.c, "+OK", "VAULT.CREATE lost");
    e2e_expect(s.c, ":1", "SECRET.SET lost a value");
    e2e_stop(&s);
    e2e_again(&s);
    assert_int_equal(e2e_log_has(&s, "Partitions that no vault has"), 0);
    e2e_expect(s.c, "$value", "SECRET.GET lost a");
    e2e_finish(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_info),
        TEST(test_range),
        TEST(test_outcome),
        TEST(test_verify),
        TEST(test_verify_beside_trimming),
        TEST(test_verify_finds_a_flipped_bit),
        TEST(test_verify_finds_a_forged_key),
        TEST(test_hsm_info),
        TEST(test_seal),
        TEST(test_seal_under_traffic),
        TEST(test_keys_of_a_vault_that_was_never_logged_leave_the_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
