/* core.c - what a memory dump of a live server holds, and whether a crash leaves one.
 *
 * gdb's gcore writes what the kernel would write: everything but mappings that are marked MADV_DONTDUMP. So what is in
 * the dump is what lies outside of locked memory. Connections carry plaintext in and out by every way, stay open, and
 * are idle when the dump is taken; some have half a command in their buffer, one waits with a command, one does not
 * read its answers. No marker, no PIN, no password, and no data key may be in it. Names of secrets must be in it: they
 * are cached, and show that the dump is one of this server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/store.h"
#include "engine/vault.h"
#include "hsm/gcm.h"
#include "hsm/hsm.h"
#include "hsm/provision.h"
#include "hsm/seal.h"
#include "tests/lib/e2e.h"
#include "tests/lib/leaks.h"
#include "tests/lib/workers.h"
#include "tests/unit/tls_fixture.h"

#define MARK(way) leaks_mark(way)
#define EXPECT(want, ...) e2e_expect(c, want, __VA_ARGS__)
#define CLIENTS 8
#define BIG 300000
#define BIG_VALUE 218700
#define UNREAD 10

static struct e2e s;
static redisContext *clients[CLIENTS];
static struct e2e_raw raw[3];
static char control[40];   /* the name of a secret */
static unsigned data_keys; /* the first needle that is one */

/* ---- connections that have carried plaintext ---- */

/* n bytes full of a marker; static memory. */
static const char *full_of(const char *mark, size_t n)
{
    static char text[BIG + LEAKS_MARKER];

    assert_true(n <= BIG);
    for (size_t i = 0; i < n; i += LEAKS_MARKER)
        memcpy(text + i, mark, LEAKS_MARKER);
    return text;
}

static void drop(redisReply *r)
{
    assert_true(r->type != REDIS_REPLY_ERROR);
    freeReplyObject(r);
}

static void carry_values(redisContext *c)
{
    const char *pipeline = MARK("pipeline");

    EXPECT(":1", "SECRET.SET v %s %s", control, MARK("SECRET.SET"));
    drop(e2e_command(c, "SECRET.GET v %s", control));
    EXPECT("[:1 :1]", "SECRET.MSET v m/1 %s m/2 %s", MARK("SECRET.MSET"), MARK("SECRET.MSET, the second"));
    EXPECT("+OK", "SET k %s", MARK("SET"));
    drop(e2e_command(c, "SET k %s GET", MARK("SET GET")));
    drop(e2e_command(c, "GET k"));
    EXPECT("+OK", "SET l %s", MARK("a part of what is found, combined, dumped"));
    drop(e2e_command(c, "LCS k l IDX"));
    drop(e2e_command(c, "BITOP OR l l none"));
    drop(e2e_command(c, "BITFIELD l GET i64 0 SET u8 0 1 GET i64 8"));
    redisReply *r = e2e_command(c, "DUMP l");
    drop(e2e_command(c, "RESTORE l 0 %b REPLACE", r->str, r->len));
    drop(r);
    for (size_t n = 100; n <= BIG; n *= 3) {
        EXPECT("+OK", "SET big/%d %b", (int)n, full_of(MARK("a large value"), n), n);
        drop(e2e_command(c, "GET big/%d", (int)n));
        drop(e2e_command(c, "DUMP big/%d", (int)n));
        drop(e2e_command(c, "BITOP NOT b big/%d", (int)n));
        drop(e2e_command(c, "LCS k big/%d", (int)n));
    }
    drop(e2e_command(c, "SECRET.MGET v m/1 m/2 %s", control));
    for (int i = 0; i < 300; i++)
        redisAppendCommand(c, "SET pipe %s", pipeline);
    for (int i = 0; i < 300; i++)
        e2e_expect_next(c, "+OK");
}

static void carry_keys(redisContext *c)
{
    const char *plain = MARK("KEY.ENCRYPT"), *aad = MARK("AAD");

    EXPECT(":1", "KEY.CREATE v aes");
    EXPECT(":1", "KEY.CREATE v ec TYPE ec-p256");
    EXPECT(":1", "KEY.CREATE v mac TYPE hmac-sha256");
    redisReply *r = e2e_command(c, "KEY.ENCRYPT v aes %s AAD %s", plain, aad);
    drop(e2e_command(c, "KEY.DECRYPT v aes %b AAD %s", r->str, r->len, aad));
    drop(e2e_command(c, "KEY.REWRAP v aes %b AAD %s", r->str, r->len, aad));
    drop(r);
    r = e2e_command(c, "KEY.ENCRYPT v aes %b", full_of(MARK("KEY.ENCRYPT, large"), BIG), (size_t)BIG);
    drop(e2e_command(c, "KEY.DECRYPT v aes %b", r->str, r->len));
    drop(r);
    r = e2e_command(c, "KEY.DATAKEY v aes");
    leaks_needle("key of KEY.DATAKEY", r->element[0]->str, r->element[0]->len);
    drop(r);
    drop(e2e_command(c, "KEY.SIGN v ec %s", MARK("KEY.SIGN")));
    drop(e2e_command(c, "KEY.MAC v mac %s", MARK("KEY.MAC")));
    EXPECT(":0", "KEY.VERIFYMAC v mac %s %s", MARK("KEY.VERIFYMAC"), MARK("KEY.VERIFYMAC, the MAC"));
}

static void carry_passwords(redisContext *c)
{
    const char *password = MARK("requirepass");

    EXPECT("-WRONGPASS...", "AUTH nobody %s", MARK("AUTH, no such user"));
    EXPECT("-WRONGPASS...", "HELLO 2 AUTH nobody %s", MARK("HELLO AUTH, no such user"));
    EXPECT("+OK", "CONFIG SET requirepass %s", password);
    EXPECT("-WRONGPASS...", "AUTH %s", MARK("AUTH, wrong"));
    EXPECT("+OK", "AUTH %s", password);
    EXPECT("-ERR...", "CONFIG SET requirepass %s no-such-directive 1", MARK("CONFIG SET, refused"));
    drop(e2e_command(c, "CONFIG GET *"));
    EXPECT("+OK", "CONFIG SET requirepass %b", "", (size_t)0);
    EXPECT("+OK", "HSM.SEAL");
    EXPECT("-SEALED...", "SET k %s", MARK("while sealed"));
    EXPECT("-HSMDOWN...", "HSM.UNSEAL %s", MARK("HSM.UNSEAL, wrong"));
    EXPECT("+OK", "HSM.UNSEAL %s", workers_pin(&s));
}

/* Error replies quote words; the memory that they were put together in is not locked. */
static void carry_mistakes(redisContext *c)
{
    EXPECT("-ERR unknown command...", "SECRET.PUT v a %s", MARK("SECRET.PUT"));
    EXPECT("-ERR unknown command...", "STE k %s", MARK("STE"));
    EXPECT("-ERR unknown command...", "%s", MARK("a value for a command"));
    EXPECT("-ERR unknown subcommand...", "CONFIG %s", MARK("a value for a sub-command"));
    EXPECT("-ERR wrong number...", "SET %s", MARK("SET, one short"));
    EXPECT("-ERR syntax...", "SECRET.SET v a %s %s", MARK("before the blank"), MARK("behind the blank"));
    EXPECT("-ERR syntax...", "KEY.ENCRYPT v aes x %s", MARK("KEY.ENCRYPT, option"));
    EXPECT("-ERR...", "SECRET.SET v a %s EX %s", MARK("EX, the value"), MARK("EX"));
    EXPECT("-NOVAULT...", "SECRET.SET nowhere a %s", MARK("no vault"));
    EXPECT("-NOKEY...", "KEY.MAC v nothing %s", MARK("no key"));
    EXPECT("-TOOBIG...", "SECRET.SET v a %b", full_of(MARK("too big"), BIG), (size_t)BIG);
    EXPECT("[$v]", "COMMAND GETKEYS SECRET.SET v a %s", MARK("COMMAND GETKEYS"));
}

/* Waits until a number in a named client's line of CLIENT LIST is at least that. */
static void await_client(redisContext *c, const char *name, const char *field, unsigned long least)
{
    char tag[32], what[32];
    struct e2e_deadline w = {.what = field};
    unsigned long is = 0;

    snprintf(tag, sizeof tag, " name=%s ", name);
    snprintf(what, sizeof what, " %s=", field);
    while (is < least && e2e_not_yet(&w)) {
        redisReply *r = e2e_command(c, "CLIENT LIST");
        const char *line = strstr(r->str, tag), *at = line ? strstr(line, what) : NULL;
        is = at ? strtoul(at + strlen(what), NULL, 10) : 0;
        freeReplyObject(r);
    }
}

static void send_as(struct e2e_raw *r, const char *name, const char *text, size_t n)
{
    e2e_raw_open(r, &s);
    e2e_raw_expect(r, "+OK", "CLIENT SETNAME %s", name);
    e2e_raw_send(r, text, n);
}

/* What is on its way when the dump is taken: half a command, commands that wait, answers that are not read. */
static void carry_halves(redisContext *c)
{
    char text[1024];
    int n = snprintf(text, sizeof text, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$220000\r\n");

    send_as(&raw[0], "half", text, (size_t)n);
    e2e_raw_send(&raw[0], full_of(MARK("half a command"), BIG), BIG_VALUE);
    await_client(c, "half", "qbuf", BIG_VALUE);
    send_as(&raw[1], "unread", "", 0);
    for (int i = 0; i < UNREAD; i++)
        e2e_raw_send(&raw[1], "GET big/218700\r\n", 16);
    await_client(c, "unread", "tot-cmds", UNREAD + 1);
    await_client(c, "unread", "omem", BIG_VALUE);
    EXPECT("+OK", "CLIENT PAUSE 1000000 WRITE");
    n = snprintf(text, sizeof text, "SET parked %s\r\nSET parked %s\r\n", MARK("parked"),
                 MARK("behind the parked one"));
    send_as(&raw[2], "parked", text, (size_t)n);
    await_client(c, "parked", "qbuf", (unsigned long)n);
}

/* ---- the same over TLS, where bytes pass through OpenSSL's memory ---- */

static struct party party;
static struct tls_conn *over_tls;
static int tls_socket;

/* The number that is secret, as it is in a file and as OpenSSL has it in memory. */
static void add_tls_key(void)
{
    uint8_t bytes[32], turned[32];
    BIGNUM *n = NULL;
    FILE *f = fopen(PATH("server.key"), "r");
    assert_non_null(f);
    EVP_PKEY *key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    fclose(f);
    assert_int_equal(EVP_PKEY_get_bn_param(key, "priv", &n), 1);
    assert_int_equal(BN_bn2binpad(n, bytes, sizeof bytes), sizeof bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        turned[i] = bytes[sizeof bytes - 1 - i];
    leaks_needle("TLS key", bytes, sizeof bytes);
    leaks_needle("TLS key, in memory", turned, sizeof turned);
    BN_clear_free(n);
    EVP_PKEY_free(key);
}

static void tls_connect(void)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)s.tls_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    party_open(&party, "client");
    tls_socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(tls_socket, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(tls_client_new(party.tls, tls_socket, "localhost", &over_tls), ERR_OK);
    assert_int_equal(tls_handshake(over_tls), ERR_OK);
}

static void tls_say(const void *p, size_t n)
{
    for (ssize_t sent; n; p = (const char *)p + sent, n -= (size_t)sent)
        assert_true((sent = tls_write(over_tls, p, n)) > 0);
}

static void tls_hear(size_t n)
{
    static char bytes[BIG + 64];
    for (ssize_t got; n; n -= (size_t)got)
        assert_true((got = tls_read(over_tls, bytes, n < sizeof bytes ? n : sizeof bytes)) > 0);
}

static void carry_tls(void)
{
    char text[256];
    const char *value = MARK("SET over TLS"), *pipeline = MARK("a pipeline over TLS"), *half = MARK("half over TLS");
    int n = snprintf(text, sizeof text, "SET tls %s\r\nGET tls\r\n", value);
    tls_say(text, (size_t)n);
    tls_hear(5 + 5 + LEAKS_MARKER + 2);
    for (size_t big = 1000; big <= BIG; big *= 6) {
        n = snprintf(text, sizeof text, "*3\r\n$3\r\nSET\r\n$3\r\ntls\r\n$%zu\r\n", big);
        tls_say(text, (size_t)n);
        tls_say(full_of(MARK("a large value over TLS"), big), big);
        tls_say("\r\nGET tls\r\n", 11);
        n = snprintf(text, sizeof text, "+OK\r\n$%zu\r\n", big);
        tls_hear((size_t)n + big + 2);
    }
    n = snprintf(text, sizeof text, "SET tls %s\r\n", pipeline);
    for (int i = 0; i < 300; i++)
        tls_say(text, (size_t)n);
    tls_hear(5 * 300);
    n = snprintf(text, sizeof text, "CLIENT SETNAME tls\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$220000\r\n%s", half);
    tls_say(text, (size_t)n);
    tls_hear(5);
    await_client(clients[0], "tls", "qbuf", LEAKS_MARKER);
}

/* ---- dumps ---- */

/* Path of a dump of the process. */
static const char *dump(pid_t pid, const char *name, char path[E2E_PATH + 64])
{
    char prefix[E2E_PATH + 32], said[4096], number[16];

    snprintf(prefix, sizeof prefix, "%s/%s", s.dir, name);
    snprintf(number, sizeof number, "%ld", (long)pid);
    snprintf(path, E2E_PATH + 64, "%s.%s", prefix, number);
    int status = e2e_run(said, sizeof said, "gcore", "-o", prefix, number, NULL);
    if (status != 0 || access(path, R_OK) != 0)
        fail_msg("gcore: status %d: %s", status, said);
    return path;
}

static void start(void)
{
    leaks_begin();
    snprintf(control, sizeof control, "in-the-clear-");
    assert_int_equal(clock_random_hex(control + strlen(control), 8), ERR_OK);
    setenv("COFFER_KEEP_CORE", "1", 1); /* else only root may look */
    setenv("MALLOC_ARENA_MAX", "1", 1); /* else there is a lot of nothing in a dump */
    e2e_start(&s, "--secret-max-bytes", "220000", "--cache-size", "2mb", "--dirty-limit", "4mb", "--write-buffer-size",
              "1mb", "--shards", "1", "--io-threads", "2", "--slowlog-log-slower-than", "0", "--loglevel", "debug",
              "--tls-port", "auto", "--tls-cert-file", PATH("server.crt"), "--tls-key-file", PATH("server.key"),
              "--tls-ca-cert-file", PATH("ca.crt"), NULL);
    unsetenv("COFFER_KEEP_CORE");
    unsetenv("MALLOC_ARENA_MAX");
    leaks_needle("PIN", workers_pin(&s), strlen(workers_pin(&s)));
    for (size_t i = 0; i < CLIENTS; i++)
        clients[i] = e2e_connect(&s);
    e2e_expect(s.c, "+OK", "VAULT.CREATE v");
}

/* ---- data keys, which only the HSM can tell ---- */

static void on_answer(struct hsm_req *r)
{
    atomic_store((_Atomic int *)r->arg, 1);
}

/* Makes a needle of a wrapped data key. */
static void unwrap(struct hsm *h, const struct vault *v, uint32_t version, struct bytes wrapped)
{
    uint8_t context[40] = "coffer-dek-1";
    struct bytes part[] = {v->partition, bytes_of(context, sizeof context), wrapped};
    struct e2e_deadline w = {.what = "the HSM to open a data key"};
    _Atomic int done = 0;
    struct hsm_req r;

    hsm_realm(h, context + 12);
    put_le64(context + 28, v->id);
    put_le32(context + 36, version);
    hsm_req_init(&r, HSM_DEK_OPEN, on_answer, &done);
    assert_int_equal(hsm_submit(h, &r, part, 3), ERR_OK);
    hsm_flush(h);
    while (!atomic_load(&done) && e2e_not_yet(&w)) {
    }
    assert_int_equal(r.result, ERR_OK);
    assert_int_equal(r.part[0].n, SEAL_KEY_BYTES);
    leaks_needle("data key", r.part[0].p, r.part[0].n);
    hsm_req_fini(&r);
}

/* What the base store has of this kind: visits the values. */
static unsigned each(struct store *base, uint8_t kind, void (*visit)(void *arg, struct bytes key, struct bytes value),
                     void *arg)
{
    struct store_iter *it;
    struct bytes value;
    uint64_t lsn;
    unsigned n = 0;

    assert_int_equal(store_iter_new(base, &it), ERR_OK);
    for (store_iter_seek(it, bytes_of(&kind, 1)); store_iter_valid(it); store_iter_next(it), n++) {
        struct bytes key = store_iter_key(it);
        if (key.p[0] != kind)
            break;
        assert_int_equal(store_iter_value(it, &value, &lsn), ERR_OK);
        visit(arg, key, value);
    }
    store_iter_free(it);
    return n;
}

struct unwrapping {
    struct hsm *h;
    struct vault *v[4];
    unsigned vaults;
};

static void on_vault(void *arg, struct bytes key, struct bytes value)
{
    struct unwrapping *u = arg;
    assert_true(u->vaults < 4);
    assert_int_equal(vault_decode(bytes_of(key.p + 1, key.n - 1), value, &u->v[u->vaults++]), ERR_OK);
}

static void on_data_key(void *arg, struct bytes key, struct bytes value)
{
    struct unwrapping *u = arg;
    for (unsigned i = 0; i < u->vaults; i++) {
        if (u->v[i]->id == get_be64(key.p + 1))
            unwrap(u->h, u->v[i], get_be32(key.p + 9), value);
    }
}

/* Needles for all data keys of the server, which is stopped. */
static void add_data_keys(void)
{
    char worker[4096], conf[E2E_PATH + 32], pin[E2E_PATH + 32], path[E2E_PATH + 32];
    struct unwrapping u = {.vaults = 0};
    struct store_config base = {.path = path};
    struct store *store;
    const char *why;

    data_keys = leaks_needles();

    snprintf(worker, sizeof worker, "%s", e2e_build_path("coffer-hsm"));
    snprintf(conf, sizeof conf, "%s/hsm/softhsm2.conf", s.dir);
    snprintf(pin, sizeof pin, "%s/hsm/pin", s.dir);
    snprintf(path, sizeof path, "%s/base", s.dir);
    struct hsm_config cfg = {.worker_path = worker,
                             .module = provision_find_module(),
                             .token = PROVISION_TOKEN,
                             .pin_file = pin,
                             .softhsm_conf = conf,
                             .workers = 1,
                             .timeout_ms = 30000,
                             .key_cache = 16,
                             .recycle_objects = 1000000};
    if (hsm_open(&u.h, &cfg, &why) != ERR_OK)
        fail_msg("%s", why);
    assert_int_equal(store_open(&store, &base), ERR_OK);
    assert_true(each(store, 'V', on_vault, &u) > 0);
    assert_true(each(store, 'D', on_data_key, &u) > 0);
    for (unsigned i = 0; i < u.vaults; i++)
        vault_free(u.v[i]);
    store_close(store);
    hsm_close(u.h);
    assert_true(leaks_needles() >= data_keys + 2); /* of v and db0 */
}

static void finish(void)
{
    for (size_t i = 0; i < CLIENTS; i++)
        redisFree(clients[i]);
    e2e_finish(&s);
}

static void no_plaintext_in_a_dump(void **state)
{
    char core[E2E_PATH + 64], worker[WORKERS_MAX][E2E_PATH + 64];
    unsigned n = 0, found = 0;
    pid_t pid[WORKERS_MAX];
    struct e2e_raw monitor;

    (void)state;
    start();
    e2e_raw_open(&monitor, &s);
    e2e_raw_expect(&monitor, "+OK", "MONITOR");
    e2e_expect(clients[0], "+OK", "SET before-sealing %s", MARK("SET before HSM.SEAL"));
    carry_passwords(clients[2]);
    drop(e2e_command(clients[3], "GET before-sealing"));
    carry_values(clients[0]);
    add_tls_key();
    tls_connect();
    carry_tls();
    carry_keys(clients[1]);
    carry_mistakes(clients[3]);
    carry_halves(clients[4]);
    for (size_t i = 0; i < CLIENTS; i++) /* nothing comes after it on either thread that could write over it */
        e2e_expect(clients[i], "-ERR syntax error...", "KEY.ENCRYPT v aes x %s", MARK("the last error"));
    dump(s.pid, "core", core);
    if (geteuid() == 0) { /* COFFER_KEEP_CORE does not make workers traceable */
        n = workers_of(&s, pid);
        assert_true(n >= 2);
    }
    for (unsigned i = 0; i < n; i++)
        dump(pid[i], "worker", worker[i]);
    e2e_stop(&s); /* so that the stores hold the vaults and their data keys */

    assert_true(leaks_count_file(core, control) > 0);
    add_data_keys();
    if (strcmp(gcm_name(), "ipsec-mb") != 0)
        leaks_forget(data_keys); /* OpenSSL's contexts hold them, and its memory is not ours */
    found += leaks_scan_file(core);
    for (unsigned i = 0; i < n; i++) {
        assert_true(leaks_count_file(worker[i], s.dir) > 0);
        found += leaks_scan_file(worker[i]);
    }
    if (found)
        fail_msg("%u leaks", found);
    e2e_raw_close(&monitor);
    tls_conn_free(over_tls);
    close(tls_socket);
    party_close(&party);
    for (size_t i = 0; i < sizeof raw / sizeof *raw; i++)
        e2e_raw_close(&raw[i]);
    finish();
}

/* What a replica asks for, and its primary hands out, passes through buffers of their own. */
static void no_plaintext_where_reads_are_forwarded(void **state)
{
    char core[2][E2E_PATH + 64], port[16];
    struct e2e b;

    (void)state;
    leaks_begin();
    snprintf(control, sizeof control, "in-the-clear-");
    assert_int_equal(clock_random_hex(control + strlen(control), 8), ERR_OK);
    setenv("COFFER_KEEP_CORE", "1", 1);
    e2e_start(&s, "--port", "auto", NULL);
    snprintf(port, sizeof port, "%d", s.port);
    e2e_start(&b, "--port", "auto", "--replicaof", "127.0.0.1", port, "--replica-read-fallback", "yes",
              "--quorum-timeout", "30000", NULL);
    e2e_expect(s.c, "+OK", "SET %s 1", control);
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_expect(b.c, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(s.c, "CLIENT LASTLSN"));
    e2e_expect(s.c, "+OK", "ACL SETUSER default -psync"); /* it stays as it is */
    e2e_stop(&b);
    e2e_again(&b);
    unsetenv("COFFER_KEEP_CORE");
    drop(e2e_command(b.c, "GET %s", control));
    for (size_t n = 100; n <= BIG; n *= 3) {
        e2e_expect(s.c, "+OK", "SET big/%d %b", (int)n, full_of(MARK("a forwarded value"), n), n);
        redisReply *r = e2e_command(b.c, "GET big/%d", (int)n);
        assert_int_equal(r->len, n);
        freeReplyObject(r);
    }
    e2e_expect(s.c, "+OK", "SET last %s", MARK("the last one"));
    drop(e2e_command(b.c, "MGET last big/100"));
    dump(s.pid, "primary", core[0]);
    dump(b.pid, "replica", core[1]);
    for (int i = 0; i < 2; i++) {
        assert_true(leaks_count_file(core[i], control) > 0);
        assert_int_equal(leaks_scan_file(core[i]), 0);
    }
    e2e_finish(&b);
    e2e_finish(&s);
}

/* No data key is in a file either. */
static void no_data_key_in_a_file(void **state)
{
    (void)state;
    start();
    carry_values(clients[0]);
    e2e_stop(&s);
    e2e_again(&s);
    e2e_expect(s.c, "+OK", "SET again x");
    e2e_kill(&s);
    add_data_keys();
    assert_int_equal(leaks_scan_tree(s.dir, "/hsm/pin"), 0);
    finish();
}

/* ---- crashes ---- */

/* 1: the limits that this process was given allow core dumps; they are raised for the servers to come. */
static int allow_cores(void)
{
    struct rlimit r;

    assert_int_equal(getrlimit(RLIMIT_CORE, &r), 0);
    if (geteuid() == 0)
        r.rlim_max = RLIM_INFINITY;
    r.rlim_cur = r.rlim_max;
    return setrlimit(RLIMIT_CORE, &r) == 0 && r.rlim_cur > 0;
}

/* Core files in the server's directory, which it and its workers run in. */
static unsigned core_files(void)
{
    char said[4096];

    assert_int_equal(e2e_run(said, sizeof said, "find", s.dir, "-type", "f", "-name", "*core*", NULL), 0);
    return leaks_count(said, strlen(said), "\n");
}

static int crash(void)
{
    kill(s.pid, SIGABRT);
    int status = e2e_wait(&s);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    return WCOREDUMP(status) != 0;
}

static void a_crash_leaves_no_core(void **state)
{
    pid_t pid[WORKERS_MAX];
    int allowed = allow_cores();

    (void)state;
    e2e_start(&s, NULL);
    assert_true(workers_of(&s, pid) >= 1);
    kill(pid[0], SIGABRT);
    e2e_info_wait(s.c, "hsm_restarts", "1");
    assert_int_equal(core_files(), 0);
    assert_false(crash());
    assert_int_equal(core_files(), 0);

    setenv("COFFER_KEEP_CORE", "1", 1); /* that it would leave one here if it were let */
    e2e_again(&s);
    unsetenv("COFFER_KEEP_CORE");
    assert_int_equal(crash(), allowed);
    e2e_finish(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(no_plaintext_in_a_dump, e2e_teardown),
        cmocka_unit_test_teardown(no_plaintext_where_reads_are_forwarded, e2e_teardown),
        cmocka_unit_test_teardown(no_data_key_in_a_file, e2e_teardown),
        cmocka_unit_test_teardown(a_crash_leaves_no_core, e2e_teardown),
    };
    return cmocka_run_group_tests(tests, tls_world, tls_world_end);
}
