/* bucket.c - the third tier whole: a server that sends its snapshots to a real S3 service, Ceph's gateway, loses its
 * disk, and comes back from there; and what goes wrong on either way.
 *
 * One gateway serves all tests; each has a prefix of its own in one bucket. A proxy (tests/lib/cut.h) holds transfers
 * where a process is to be killed in the middle of one. The token stays when the rest of a directory is lost.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/objstore.h"
#include "engine/objstore_impl.h"
#include "engine/snapobject.h"
#include "tests/lib/cut.h"
#include "tests/lib/e2e.h"
#include "tests/lib/rgw.h"
#include "tests/lib/trio.h"

#define MIB (1u << 20)
#define NAMES 64

static struct rgw gateway;
static struct cut proxy;
static char credentials[128], endpoint[64], through_proxy[64], tls_endpoint[64], ca[128], other_ca[128];

/* ---- the gateway ---- */

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(chmod(path, 0600), 0);
    assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
}

static void good_credentials(void)
{
    write_file(credentials, RGW_ACCESS "\n" RGW_SECRET "\n");
}

static struct objstore *open_store(const char *prefix)
{
    char url[128];
    struct objstore_trouble t;
    struct objstore *o;

    snprintf(url, sizeof url, "s3://coffer-test/%s", prefix);
    const struct objstore_config config = {.url = url, .endpoint = endpoint, .credentials_file = credentials};
    if (objstore_open(&config, &o, &t) != ERR_OK)
        fail_msg("%s", t.text);
    return o;
}

static void ok(const struct objstore *o, enum err e)
{
    if (e)
        fail_msg("%s: %s", err_name(e), objstore_trouble(o)->text);
}

static void a_gateway_starts(void **state)
{
    (void)state;
    const struct s3_request make = {
        .doing = "make bucket", .method = "PUT", .type = "application/octet-stream", .body = bytes_of("", 0)};
    struct s3_answer a;

    rgw_start(&gateway);
    cut_start(&proxy, gateway.port);
    snprintf(credentials, sizeof credentials, "%s/credentials", gateway.dir);
    snprintf(ca, sizeof ca, "%s/ca.pem", gateway.dir);
    snprintf(other_ca, sizeof other_ca, "%s/other-ca.pem", gateway.dir);
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d", gateway.port);
    snprintf(tls_endpoint, sizeof tls_endpoint, "https://localhost:%d", gateway.tls_port);
    snprintf(through_proxy, sizeof through_proxy, "http://127.0.0.1:%d", proxy.port);
    good_credentials();
    struct objstore *o = open_store("");
    ok(o, objstore_request(o, &make, &a));
    objstore_close(o);
}

/* ---- what lies there ---- */

struct listed {
    char name[NAMES][SNAPOBJECT_NAME_BYTES];
    unsigned n, manifests;
};

static int on_listed(void *arg, const struct objstore_entry *e)
{
    struct listed *l = arg;
    assert_true(l->n < NAMES);
    snprintf(l->name[l->n++], SNAPOBJECT_NAME_BYTES, "%s", e->key);
    l->manifests += strstr(e->key, ".manifest") != NULL;
    return 0;
}

/* Newest first. */
static struct listed *list(const char *prefix)
{
    static struct listed l;
    struct objstore *o = open_store(prefix);

    l = (struct listed){0};
    ok(o, objstore_list(o, "", "", NAMES, on_listed, &l));
    objstore_close(o);
    return &l;
}

static void read_object(const char *prefix, const char *name, struct buf *out)
{
    struct objstore *o = open_store(prefix);
    buf_init(out, 256u * MIB);
    ok(o, objstore_get(o, name, 256u * MIB, out, NULL));
    objstore_close(o);
}

static void write_object(const char *prefix, const char *name, struct bytes b)
{
    struct objstore *o = open_store(prefix);
    ok(o, objstore_put(o, name, b, 0, NULL));
    objstore_close(o);
}

static void delete_object(const char *prefix, const char *name)
{
    struct objstore *o = open_store(prefix);
    ok(o, objstore_delete(o, name));
    objstore_close(o);
}

/* The i-th newest of those whose name ends so. */
static const char *object(const char *prefix, const char *suffix, unsigned i)
{
    struct listed *l = list(prefix);
    for (unsigned n = 0; n < l->n; n++) {
        size_t len = strlen(l->name[n]), end = strlen(suffix);
        if (len > end && strcmp(l->name[n] + len - end, suffix) == 0 && i-- == 0)
            return l->name[n];
    }
    fail_msg("there are fewer objects that end in %s", suffix);
    return "";
}

/* ---- servers ---- */

#define STORE(url, at)                                                                                    \
    "--object-store", url, "--object-store-endpoint", at, "--object-store-credentials-file", credentials, \
        "--node-name", "node-1", "--object-store-interval", "0", "--enable-debug-command", "yes"

/* The disk is new; the token is not on it. */
static void lose_the_disk(struct e2e *s)
{
    e2e_kill(s);
    e2e_shell("cd %s && rm -rf wal snapshots base shard-* cell state begin vote upload restore", s->dir);
}

static void expect_ciphertext_opens(struct e2e *s, const redisReply *c)
{
    redisReply *r = e2e_command(s->c, "KEY.DECRYPT v aes %b", c->str, (size_t)c->len);
    assert_int_equal(r->type, REDIS_REPLY_STRING);
    assert_string_equal(r->str, "open sesame");
    freeReplyObject(r);
}

struct kept { /* what must be there afterwards */
    redisReply *ciphertext, *signature;
};

static struct kept fill(struct e2e *s)
{
    struct kept k;

    e2e_expect(s->c, "+OK", "VAULT.CREATE v MAXVERSIONS 5");
    for (int version = 1; version <= 3; version++)
        for (int i = 0; i < 20; i++)
            e2e_expect(s->c,
                       version == 1   ? ":1"
                       : version == 2 ? ":2"
                                      : ":3",
                       "SECRET.SET v path/%d value-%d-%d", i, i, version);
    e2e_expect(s->c, ":1", "KEY.CREATE v aes");
    e2e_expect(s->c, ":1", "KEY.CREATE v ec TYPE ec-p256");
    k.ciphertext = e2e_command(s->c, "KEY.ENCRYPT v aes %s", "open sesame");
    k.signature = e2e_command(s->c, "KEY.SIGN v ec message");
    e2e_expect(s->c, ":2", "KEY.ROTATE v aes");
    e2e_expect(s->c, "+OK", "SET plain facade");
    return k;
}

static void check(struct e2e *s, struct kept k)
{
    char want[64];

    for (int version = 1; version <= 3; version++)
        for (int i = 0; i < 20; i++) {
            snprintf(want, sizeof want, "$value-%d-%d", i, version);
            e2e_expect(s->c, want, "SECRET.GET v path/%d VERSION %d", i, version);
        }
    e2e_expect(s->c, "$facade", "GET plain");
    expect_ciphertext_opens(s, k.ciphertext);
    redisReply *r = e2e_command(s->c, "KEY.VERIFY v ec message %b", k.signature->str, (size_t)k.signature->len);
    assert_int_equal(r->type, REDIS_REPLY_INTEGER);
    assert_int_equal(r->integer, 1);
    freeReplyObject(r);
}

static void drop(struct kept k)
{
    freeReplyObject(k.ciphertext);
    freeReplyObject(k.signature);
}

static long long snapshot(struct e2e *s)
{
    return e2e_int(s->c, "SNAPSHOT.CREATE");
}

static void upload(struct e2e *s)
{
    e2e_expect(s->c, "[$lsn...", "SNAPSHOT.UPLOAD");
    e2e_info_wait(s->c, "object_store_state", "idle"); /* it has tidied up */
}

static long long info_number(struct e2e *s, const char *field)
{
    return strtoll(e2e_info(s->c, field), NULL, 10);
}

/* A write, a snapshot, an upload. */
static long long next_one(struct e2e *s, int i)
{
    e2e_expect(s->c, "+OK", "SET counter %d", i);
    long long lsn = snapshot(s);
    upload(s);
    return lsn;
}

/* ---- there and back ---- */

static void it_comes_back_from_the_bucket(void **state)
{
    (void)state;
    struct e2e s;

    e2e_start(&s, STORE("s3://coffer-test/back", endpoint), "--shards", "6", NULL);
    struct kept k = fill(&s);
    long long lsn = snapshot(&s);
    e2e_expect(s.c, "-ERR the snapshot is not in the object store: there is no snapshot at LSN 999999...",
               "SNAPSHOT.UPLOAD 999999");
    upload(&s);
    e2e_expect(s.c, "[$lsn...", "SNAPSHOT.UPLOAD %lld", lsn);
    assert_int_equal(info_number(&s, "object_store_lsn"), lsn);
    assert_int_equal(info_number(&s, "object_store_uploads"), 1);
    e2e_info_wait(s.c, "object_store_error", "");
    assert_int_equal(list("back")->n, 2);
    e2e_expect(s.c, "[$lsn :...", "SNAPSHOT.CLUSTER");
    e2e_expect(s.c, "+OK", "SET lost for-ever");
    e2e_expect(s.c, "-ERR not recovered: this node has a log...", "CELL.FORCE-RECOVER");

    lose_the_disk(&s);
    e2e_again(&s);
    e2e_expect(s.c, "-MISCONF there is no log here, but 0 snapshots here and 1 in the object store...", "PING");
    e2e_expect(s.c, "-MISCONF there is no log here...", "GET plain");
    e2e_expect(s.c, "-MISCONF there is no log here...", "WBL.INFO");
    e2e_info_wait(s.c, "restore_state", "waiting");
    e2e_expect(s.c, "-ERR a cell is named by its id...", "CELL.FORCE-RECOVER other");
    e2e_expect(s.c, "-ERR not recovered: no snapshot of the cell...",
               "CELL.FORCE-RECOVER 00000000000000000000000000000000");
    e2e_expect(s.c, "[$cell...", "CELL.FORCE-RECOVER");
    e2e_expect(s.c, "+PONG", "PING");
    assert_true(e2e_log_has(&s, "FORCED RECOVERY: cell "));
    assert_true(e2e_log_has(&s, "CELL.FORCE-RECOVER by user default from "));
    check(&s, k);
    e2e_expect(s.c, "nil", "GET lost");
    e2e_expect(s.c, "-ERR this node's log does not tell...", "WBL.OUTCOME %lld 1", lsn);
    assert_int_equal(info_number(&s, "wbl_first_lsn"), lsn + 1);
    assert_true(info_number(&s, "wbl_term") > 1000);
    e2e_expect(s.c, ":4", "SECRET.SET v path/3 after");
    upload(&s); /* it is there already */
    assert_int_equal(list("back")->n, 2);

    e2e_stop(&s);
    e2e_shell("cd %s && test ! -e begin && test ! -e restore && test ! -e upload", s.dir);
    e2e_again(&s);
    check(&s, k);
    e2e_expect(s.c, "$after", "SECRET.GET v path/3");
    assert_true(snapshot(&s) > lsn);
    upload(&s);
    assert_int_equal(list("back")->n, 4);

    lose_the_disk(&s); /* the newer term's is taken; by the directive */
    e2e_again_with(&s, STORE("s3://coffer-test/back", endpoint), "--force-recover", "yes", NULL);
    e2e_expect(s.c, "+PONG", "PING");
    check(&s, k);
    e2e_expect(s.c, "$after", "SECRET.GET v path/3");
    e2e_finish(&s);
    drop(k);
}

static void begin_voter(struct trio *t, unsigned i)
{
    char port[16];
    snprintf(port, sizeof port, "%d", t->port[i]);
    e2e_begin(&t->node[i], "--port", port, "--voters", t->voters[0], t->voters[1], t->voters[2],
              STORE("s3://coffer-test/cell", endpoint), NULL);
}

/* All of its nodes lost their disks. They took themselves for new ones, and began a cell beside what was in the bucket.
 */
static void a_cell_comes_back_from_the_bucket(void **state)
{
    (void)state;
    struct trio t;

    trio_plan(&t);
    for (unsigned i = 0; i < TRIO; i++)
        begin_voter(&t, i);
    for (unsigned i = 0; i < TRIO; i++)
        e2e_ready(&t.node[i]);
    trio_await_master(&t, 0);
    struct kept k = fill(&t.node[0]);
    long long lsn = snapshot(&t.node[0]);
    upload(&t.node[0]);

    for (unsigned i = 0; i < TRIO; i++)
        lose_the_disk(&t.node[i]);
    for (unsigned i = 0; i < TRIO; i++)
        e2e_begin_again(&t.node[i]);
    for (unsigned i = 0; i < TRIO; i++) { /* each in turn hears from the first whose cell it is */
        e2e_ready(&t.node[i]);
        e2e_expect(t.node[i].c, "-MISCONF there is no log here, but 0 snapshots here and 1 in the object store...",
                   "PING");
        e2e_expect(t.node[i].c, "[$cell...", "CELL.FORCE-RECOVER");
    }
    trio_await_master(&t, 0);
    trio_await_followers(&t, 0, 2);
    check(&t.node[0], k);
    assert_int_equal(info_number(&t.node[0], "wbl_first_lsn"), lsn + 1);
    assert_true(info_number(&t.node[0], "wbl_term") > 1000);
    e2e_expect(t.node[0].c, ":4", "SECRET.SET v path/3 after");
    trio_await_equal(&t);
    e2e_kill(&t.node[0]);
    trio_lead(&t, 1);
    check(&t.node[1], k);
    e2e_expect(t.node[1].c, "$after", "SECRET.GET v path/3");
    trio_again(&t, 0);
    trio_await_equal(&t);
    trio_finish(&t);
    drop(k);
}

static void a_new_cell_begins_where_the_bucket_is_empty(void **state)
{
    (void)state;
    struct e2e s;

    e2e_start(&s, STORE("s3://coffer-test/new", endpoint), NULL);
    e2e_expect(s.c, "+OK", "SET a b");
    e2e_expect(s.c, "-ERR the snapshot is not in the object store: there is no snapshot yet...", "SNAPSHOT.UPLOAD");
    lose_the_disk(&s);
    rgw_down(&gateway); /* nobody knows whether it is empty */
    e2e_again(&s);
    e2e_expect(s.c, "-MISCONF there is no log here, and the object store cannot be asked...", "PING");
    rgw_up(&gateway);
    e2e_log_wait(&s, "Ready to accept connections");
    e2e_expect(s.c, "nil", "GET a");
    e2e_finish(&s);
}

static void snapshots_without_a_log_are_not_begun_over(void **state)
{
    (void)state;
    struct e2e s;

    e2e_start(&s, NULL);
    struct kept k = fill(&s);
    snapshot(&s);
    e2e_kill(&s);
    e2e_shell("cd %s && rm -rf wal base shard-*", s.dir);
    e2e_again(&s);
    e2e_expect(s.c, "-MISCONF there is no log here, but 1 snapshots here and 0 in the object store...", "PING");
    e2e_stop(&s); /* it waits for nobody */
    e2e_again(&s);
    e2e_expect(s.c, "[$cell...", "CELL.FORCE-RECOVER");
    check(&s, k);
    e2e_finish(&s);
    drop(k);
}

/* ---- interrupted ---- */

static void fill_large(struct e2e *s)
{
    size_t n = 900 * 1024;
    char *value = malloc(n);

    assert_non_null(value);
    e2e_expect(s->c, "+OK", "VAULT.CREATE big");
    for (int i = 0; i < 40; i++) {
        memset(value, 'a' + i % 26, n);
        redisReply *r = e2e_command(s->c, "SECRET.SET big large/%d %b", i, value, n);
        assert_int_equal(r->type, REDIS_REPLY_INTEGER);
        freeReplyObject(r);
    }
    free(value);
}

static void check_large(struct e2e *s)
{
    for (int i = 0; i < 40; i++) {
        redisReply *r = e2e_command(s->c, "SECRET.GET big large/%d", i);
        assert_int_equal(r->type, REDIS_REPLY_STRING);
        assert_int_equal(r->len, 900 * 1024);
        for (size_t n = 0; n < (size_t)r->len; n++)
            if (r->str[n] != 'a' + i % 26)
                fail_msg("another value in large/%d", i);
        freeReplyObject(r);
    }
}

static void wait_for_hold(void)
{
    struct e2e_deadline w = {.what = "the proxy to hold the transfer"};
    while (e2e_not_yet(&w))
        if (cut_holding(&proxy))
            return;
}

/* Asks on a connection that nobody reads from. */
static redisContext *ask(struct e2e *s, const char *command)
{
    redisContext *c = e2e_connect(s);
    int done = 0;

    assert_int_equal(redisAppendCommand(c, command), REDIS_OK);
    while (!done)
        assert_int_equal(redisBufferWrite(c, &done), REDIS_OK);
    return c;
}

static void killed_while_it_sends_and_while_it_fetches(void **state)
{
    (void)state;
    struct e2e s;

    e2e_start(&s, STORE("s3://coffer-test/killed", through_proxy), NULL);
    struct kept k = fill(&s);
    fill_large(&s);
    long long lsn = snapshot(&s);
    cut_hold(&proxy, 20 * MIB, -1);
    redisContext *c = ask(&s, "SNAPSHOT.UPLOAD");
    wait_for_hold();
    assert_int_equal(info_number(&s, "object_store_sending_lsn"), lsn);
    assert_true(info_number(&s, "object_store_sending_bytes") > 0);
    e2e_info_wait(s.c, "object_store_state", "sending");
    e2e_expect(s.c, "+OK", "SET traffic goes-on");
    e2e_kill(&s);
    redisFree(c);
    cut_release(&proxy);
    assert_int_equal(list("killed")->n, 0);

    e2e_again(&s);
    upload(&s);
    assert_true(e2e_log_has(&s, " of 5 parts were there already")); /* 2 or 3 of them */
    assert_false(e2e_log_has(&s, " 0 of 5 parts were there already"));
    assert_int_equal(list("killed")->n, 2);

    lose_the_disk(&s);
    e2e_again(&s);
    cut_hold(&proxy, -1, 20 * MIB);
    c = ask(&s, "CELL.FORCE-RECOVER");
    wait_for_hold();
    e2e_info_wait(s.c, "restore_state", "recovering");
    struct e2e_deadline w = {.what = "some of it to be written"}; /* how much of what the proxy let through is chance */
    while (e2e_not_yet(&w) && info_number(&s, "restore_bytes") < 4 * MIB)
        ;
    e2e_kill(&s);
    redisFree(c);
    cut_release(&proxy);

    e2e_again(&s);
    e2e_expect(s.c, "-MISCONF ...", "PING");
    e2e_expect(s.c, "[$cell...", "CELL.FORCE-RECOVER");
    assert_true(e2e_log_has(&s, " MiB of it were here from an earlier try"));
    assert_false(e2e_log_has(&s, "Fetched; 0 MiB of it were here"));
    check(&s, k);
    check_large(&s);
    e2e_finish(&s);
    drop(k);
}

/* Killed, or failing for want of space, wherever it is in a start that recovers: the next start comes to the same. */
static void killed_and_failing_while_it_recovers(void **state)
{
    (void)state;
    struct e2e s;
    char fault[64];

    e2e_start(&s, STORE("s3://coffer-test/again", endpoint), NULL);
    struct kept k = fill(&s);
    long long lsn = snapshot(&s);
    upload(&s);
    e2e_expect(s.c, "+OK", "SET lost for-ever");
    lose_the_disk(&s);
    e2e_again_with(&s, STORE("s3://coffer-test/again", endpoint), "--force-recover", "yes", NULL);
    for (unsigned i = 0; i < 16; i++) {
        lose_the_disk(&s);
        if (i % 2) {
            snprintf(fault, sizeof fault, "file:%u:ENOSPC", 5 + 3 * i);
            assert_int_equal(setenv("COFFER_FAULT", fault, 1), 0);
        }
        e2e_again_killed(&s, i % 2 ? 400 : 60 + 25 * i);
        unsetenv("COFFER_FAULT");
        e2e_again(&s);
        check(&s, k);
        e2e_expect(s.c, "nil", "GET lost");
        assert_int_equal(info_number(&s, "wbl_first_lsn"), lsn + 1);
        e2e_shell("cd %s && test ! -e begin", s.dir);
    }
    e2e_finish(&s);
    drop(k);
}

static void a_stop_does_not_wait_for_the_network(void **state)
{
    (void)state;
    struct e2e s;

    e2e_start(&s, STORE("s3://coffer-test/stopped", through_proxy), "--shutdown-timeout", "600", NULL);
    fill_large(&s);
    snapshot(&s);
    cut_hold(&proxy, 12 * MIB, -1);
    redisContext *c = ask(&s, "SNAPSHOT.UPLOAD");
    wait_for_hold();
    e2e_stop(&s);
    redisFree(c);
    cut_release(&proxy);
    e2e_finish(&s);
}

static void one_that_is_being_sent_may_be_deleted(void **state)
{
    (void)state;
    struct e2e s;

    e2e_start(&s, STORE("s3://coffer-test/deleted", through_proxy), NULL);
    struct kept k = fill(&s);
    fill_large(&s);
    long long lsn = snapshot(&s);
    cut_hold(&proxy, 12 * MIB, -1);
    redisContext *c = ask(&s, "SNAPSHOT.UPLOAD");
    wait_for_hold();
    for (int i = 0; i < 4; i++) {
        e2e_expect(s.c, "+OK", "SET counter %d", i);
        snapshot(&s);
    }
    e2e_shell("test ! -e %s/snapshots/%020lld-1.snap", s.dir, lsn);
    cut_release(&proxy);
    redisReply *r;
    assert_int_equal(redisGetReply(c, (void **)&r), REDIS_OK);
    assert_int_equal(r->type, REDIS_REPLY_ARRAY);
    assert_int_equal(r->element[1]->integer, lsn);
    freeReplyObject(r);
    redisFree(c);
    lose_the_disk(&s);
    e2e_again_with(&s, STORE("s3://coffer-test/deleted", endpoint), "--force-recover", "yes", NULL);
    check(&s, k);
    check_large(&s);
    e2e_finish(&s);
    drop(k);
}

/* ---- a store in trouble ---- */

/* The upload fails for this reason, in log and INFO, and traffic does not notice. */
static void fails(struct e2e *s, const char *want, const char *why)
{
    char text[64];

    e2e_expect(s->c, want, "SNAPSHOT.UPLOAD");
    e2e_info_wait(s->c, "object_store_error", why);
    e2e_expect(s->c, "+OK", "SET traffic %s", why);
    snprintf(text, sizeof text, "$%s", why);
    e2e_expect(s->c, text, "GET traffic");
    assert_true(e2e_log_has(s, "A snapshot could not be sent to the object store and will be tried again: "));
    assert_false(e2e_log_has(s, RGW_SECRET));
}

static void a_store_in_trouble(void **state)
{
    (void)state;
    struct e2e s;

    e2e_start(&s, STORE("s3://coffer-test/trouble", endpoint), NULL);
    fill_large(&s);
    snapshot(&s);
    write_file(credentials, RGW_ACCESS "\nanothersecret\n");
    fails(&s, "-WRONGPASS ...", "CREDENTIALS");
    assert_false(e2e_log_has(&s, "anothersecret"));
    write_file(credentials, "nonsense\n");
    fails(&s, "-ERR ...", "CONFIG");
    good_credentials();

    rgw_admin(&gateway, "quota set --quota-scope=user --uid=coffer --max-size=1048576 --max-objects=-1");
    rgw_admin(&gateway, "quota enable --quota-scope=user --uid=coffer");
    fails(&s, "-QUOTA ...", "QUOTA");
    rgw_admin(&gateway, "quota disable --quota-scope=user --uid=coffer");

    rgw_down(&gateway);
    fails(&s, "-ERR ...", "UNREACHABLE");
    e2e_expect(s.c, "[$lsn :...", "SNAPSHOT.CLUSTER");
    rgw_up(&gateway);
    upload(&s);
    e2e_info_wait(s.c, "object_store_error", "");
    assert_int_equal(info_number(&s, "object_store_failures"), 4);
    e2e_stop(&s);

    e2e_again_with(&s, STORE("s3://no-such-bucket/trouble", endpoint), NULL);
    fails(&s, "-ERR ...", "NOBUCKET");
    e2e_stop(&s);
    e2e_again_with(&s, STORE("s3://coffer-test/trouble", endpoint), NULL);
    e2e_finish(&s);
}

static void over_tls(void **state)
{
    (void)state;
    struct e2e s;

    e2e_start(&s, STORE("s3://coffer-test/tls", tls_endpoint), "--object-store-ca-cert-file", ca, NULL);
    struct kept k = fill(&s);
    snapshot(&s);
    upload(&s);
    e2e_stop(&s);
    e2e_again_with(&s, STORE("s3://coffer-test/tls", tls_endpoint), "--object-store-ca-cert-file", other_ca, NULL);
    e2e_expect(s.c, "+OK", "SET more data");
    snapshot(&s);
    fails(&s, "-ERR ...", "TLS");
    lose_the_disk(&s);
    e2e_again_with(&s, STORE("s3://coffer-test/tls", tls_endpoint), "--object-store-ca-cert-file", ca,
                   "--force-recover", "yes", NULL);
    check(&s, k);
    e2e_finish(&s);
    drop(k);
}

/* ---- what is damaged there ---- */

static void damaged_ones_are_passed_over(void **state)
{
    (void)state;
    struct e2e s, other;
    struct buf b, manifest;
    const char *prefix = "damaged";
    char name[SNAPOBJECT_NAME_BYTES];

    e2e_start(&s, STORE("s3://coffer-test/damaged", endpoint), NULL);
    struct kept k = fill(&s);
    for (int i = 0; i < 6; i++)
        next_one(&s, i);
    assert_int_equal(list(prefix)->n, 12);

    snprintf(name, sizeof name, "%s", object(prefix, ".manifest", 0)); /* 5: the manifest has another's content */
    read_object(prefix, object(prefix, ".manifest", 1), &manifest);
    write_object(prefix, name, buf_bytes(&manifest));
    buf_fini(&manifest);
    snprintf(name, sizeof name, "%s", object(prefix, ".manifest", 1)); /* 4: a digit in it is another one */
    read_object(prefix, name, &manifest);
    char *sha = strstr((char *)buf_data(&manifest), "digest ");
    sha[7] = sha[7] == '0' ? '1' : '0';
    write_object(prefix, name, buf_bytes(&manifest));
    buf_fini(&manifest);
    snprintf(name, sizeof name, "%s", object(prefix, ".snap", 2)); /* 3: cut */
    read_object(prefix, name, &b);
    write_object(prefix, name, bytes_of(buf_data(&b), buf_size(&b) - 100));
    buf_fini(&b);
    snprintf(name, sizeof name, "%s", object(prefix, ".snap", 3)); /* 2: a bit of it */
    read_object(prefix, name, &b);
    buf_data(&b)[buf_size(&b) / 2] ^= 4;
    write_object(prefix, name, buf_bytes(&b));
    buf_fini(&b);
    delete_object(prefix, object(prefix, ".snap", 4)); /* 1: gone. 0 is whole */

    e2e_start(&other, STORE("s3://coffer-test/damaged", endpoint), NULL); /* another realm, and its token */
    e2e_expect(other.c, "-MISCONF there is no log here, but 0 snapshots here and 6 in the object store...", "PING");
    e2e_finish(&other);

    lose_the_disk(&s);
    e2e_again(&s);
    e2e_expect(s.c, "[$cell...", "CELL.FORCE-RECOVER");
    assert_true(e2e_log_has(&s, "does not verify: it was altered, or is another one's"));
    assert_true(e2e_log_has(&s, "it was cut or replaced"));
    assert_true(e2e_log_has(&s, "does not open: it was altered"));
    assert_true(e2e_log_has(&s, "there is no such object"));
    check(&s, k);
    e2e_expect(s.c, "$0", "GET counter");
    e2e_finish(&s);
    drop(k);
}

/* The token is lost as well, but the realm file and its passphrase are not. */
static void a_new_token_of_the_realm_will_do(void **state)
{
    (void)state;
    struct e2e s;
    char hsm[E2E_PATH + 8], out[1024];

    e2e_start_bare(&s, STORE("s3://coffer-test/rejoin", endpoint), NULL);
    struct kept k = fill(&s);
    snapshot(&s);
    upload(&s);
    lose_the_disk(&s);
    snprintf(hsm, sizeof hsm, "%s/hsm", s.dir);
    e2e_shell("rm -rf %s/tokens", hsm);
    if (e2e_run(out, sizeof out, "coffer-hsm", "provision", hsm, "--rejoin", NULL) != 0)
        fail_msg("%s", out);
    e2e_again(&s);
    e2e_expect(s.c, "[$cell...", "CELL.FORCE-RECOVER");
    check(&s, k);
    e2e_finish(&s);
    drop(k);
}

static void another_realms_are_not_believed(void **state)
{
    (void)state;
    struct e2e s;

    e2e_start_bare(&s, STORE("s3://coffer-test/realm", endpoint), NULL);
    drop(fill(&s));
    snapshot(&s);
    upload(&s);
    lose_the_disk(&s);
    e2e_shell("rm -rf %s/hsm", s.dir); /* the token too: the next start makes one of a new realm */
    e2e_again(&s);
    e2e_expect(s.c, "-MISCONF ...", "PING");
    e2e_expect(s.c, "-ERR not recovered: no snapshot in the object store verifies with this HSM's token...",
               "CELL.FORCE-RECOVER");
    assert_true(e2e_log_has(&s, "is of another realm than this HSM's token"));
    e2e_expect(s.c, "-MISCONF ...", "PING");
    e2e_finish(&s);
}

static void several_cells_want_a_word(void **state)
{
    (void)state;
    struct e2e s;
    char cell[33];

    e2e_start(&s, STORE("s3://coffer-test/cells", endpoint), NULL);
    e2e_expect(s.c, "+OK", "SET cell one");
    snapshot(&s);
    upload(&s);
    snprintf(cell, sizeof cell, "%.32s", object("cells", ".snap", 0));
    e2e_kill(&s);
    e2e_shell("cd %s && rm -rf wal snapshots base shard-* cell state", s.dir);
    e2e_again_with(&s, "--object-store", "", NULL);
    e2e_expect(s.c, "+OK", "SET cell two");
    snapshot(&s);
    e2e_stop(&s);
    e2e_again_with(&s, STORE("s3://coffer-test/cells", endpoint), NULL);
    upload(&s);
    lose_the_disk(&s);
    e2e_again(&s);
    e2e_expect(s.c, "-ERR not recovered: the object store has snapshots of several cells...", "CELL.FORCE-RECOVER");
    e2e_expect(s.c, "[$cell...", "CELL.FORCE-RECOVER %s", cell);
    e2e_expect(s.c, "$one", "GET cell");
    e2e_finish(&s);
}

/* ---- a log, and no snapshot that is any good ---- */

static void write_until_the_log_is_trimmed(struct e2e *s)
{
    struct e2e_deadline w = {.what = "the log to be trimmed"};
    for (int i = 0; e2e_not_yet(&w); i++) {
        for (int n = 0; n < 400; n++)
            e2e_expect(s->c, "+OK", "SET filler/%d %0200d", n, i);
        snapshot(s);
        if (info_number(s, "wbl_first_lsn") > 200)
            break;
    }
}

static void the_next_tier_is_used(void **state)
{
    (void)state;
    struct e2e s;

    e2e_start(&s, STORE("s3://coffer-test/tier", endpoint), "--wbl-segment-bytes", "64kb", NULL);
    struct kept k = fill(&s);
    write_until_the_log_is_trimmed(&s);
    upload(&s);
    e2e_expect(s.c, "+OK", "SET behind it");
    e2e_stop(&s);
    e2e_shell(
        "cd %s && rm -rf base shard-* && for f in snapshots/*.snap; do dd if=/dev/zero of=$f bs=1 count=8 conv=notrunc "
        "status=none; done",
        s.dir);
    e2e_again(&s);
    assert_true(e2e_log_has(&s, "the object store is asked for one"));
    assert_true(e2e_log_has(&s, "was fetched from the object store"));
    check(&s, k); /* old values too, which are in no store */
    e2e_expect(s.c, "$it", "GET behind");

    e2e_stop(&s); /* the stores are whole: only old values need it */
    e2e_shell("rm %s/snapshots/*.snap", s.dir);
    e2e_again(&s);
    check(&s, k);
    e2e_finish(&s);
    drop(k);
}

/* While it serves: the snapshots here turn out to be damaged when a shard is to be filled from them. */
static void the_next_tier_is_used_beside_traffic(void **state)
{
    (void)state;
    struct e2e s;

    e2e_start(&s, STORE("s3://coffer-test/beside", endpoint), "--wbl-segment-bytes", "64kb", NULL);
    struct kept k = fill(&s);
    write_until_the_log_is_trimmed(&s);
    upload(&s);
    e2e_expect(s.c, "+OK", "SET behind it");
    e2e_shell("cd %s && for f in snapshots/*.snap; do for at in $(seq 300 5000 90000); do "
              "printf XXXX | dd of=$f bs=1 seek=$at conv=notrunc status=none; done; done",
              s.dir);
    for (int shard = 0; shard < 4; shard++)
        e2e_expect(s.c, "[$shard...", "SHARD.REBUILD %d", shard);
    assert_true(e2e_log_has(&s, "the object store is asked for one"));
    assert_true(e2e_log_has(&s, "was fetched from the object store"));
    e2e_info_wait(s.c, "shard_rebuilds", "4");
    check(&s, k);
    e2e_expect(s.c, "$it", "GET behind");
    e2e_kill(&s);
    e2e_again(&s);
    check(&s, k);
    e2e_finish(&s);
    drop(k);
}

/* ---- old ones ---- */

static void old_ones_are_removed(void **state)
{
    (void)state;
    struct e2e s;
    char folder[64], id[OBJSTORE_ID_BYTES];
    struct buf b;

    e2e_start(&s, STORE("s3://coffer-test/old", endpoint), "--object-store-keep", "2", NULL);
    for (int i = 0; i < 4; i++)
        next_one(&s, i);
    assert_int_equal(list("old")->n, 4);
    assert_int_equal(list("old")->manifests, 2);
    assert_int_equal(info_number(&s, "object_store_removed"), 2);

    snprintf(folder, sizeof folder, "%.32s", object("old", ".snap", 0));
    struct objstore *o = open_store("old");
    char orphan[128], other[128];
    snprintf(orphan, sizeof orphan, "%s/18446744073709551000-1-node-2.snap", folder);
    snprintf(other, sizeof other, "%s/a-file-of-somebody-else", folder);
    ok(o, objstore_put(o, orphan, bytes_str("half a container"), 0, NULL));
    ok(o, objstore_put(o, other, bytes_str("not ours"), 0, NULL));
    snprintf(orphan, sizeof orphan, "%s/18446744073709551001-1-node-2.snap", folder);
    ok(o, objstore_upload_begin(o, orphan, id));
    next_one(&s, 4);
    assert_int_equal(list("old")->n, 6); /* they are young */
    e2e_expect(s.c, "+OK", "CONFIG SET object-store-unfinished-age 1");
    struct e2e_deadline w = {.what = "what nobody finished to be removed"};
    for (int i = 5; e2e_not_yet(&w); i++) {
        next_one(&s, i);
        if (list("old")->n == 5)
            break;
    }
    buf_init(&b, 100);
    ok(o, objstore_get(o, other, 100, &b, NULL));
    buf_fini(&b);
    enum err e = objstore_upload_parts(o, orphan, id, NULL, NULL);
    assert_int_equal(e, ERR_NOTFOUND);
    objstore_close(o);
    e2e_finish(&s);
}

static void wrong_directives_are_refused(void **state)
{
    (void)state;
    char out[2048];
    const char *const wrong[][3] = {
        {"--object-store", "bucket/prefix", "must begin with s3://"},
        {"--object-store-endpoint", "s3.example.com", "must begin with https:// or http://"},
        {"--node-name", "a b", "argument must be 1 to 64 of"},
        {"--object-store-keep", "0", "between 1 and"}};

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_not_equal(
            e2e_run(out, sizeof out, "coffer-server", "--check-config", wrong[i][0], wrong[i][1], NULL), 0);
        if (!strstr(out, wrong[i][2]))
            fail_msg("%s", out);
    }
}

static void the_gateway_ends(void **state)
{
    (void)state;
    cut_stop(&proxy);
    rgw_finish(&gateway);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_gateway_starts, e2e_teardown),
        cmocka_unit_test_teardown(it_comes_back_from_the_bucket, e2e_teardown),
        cmocka_unit_test_teardown(a_cell_comes_back_from_the_bucket, trio_teardown),
        cmocka_unit_test_teardown(a_new_cell_begins_where_the_bucket_is_empty, e2e_teardown),
        cmocka_unit_test_teardown(snapshots_without_a_log_are_not_begun_over, e2e_teardown),
        cmocka_unit_test_teardown(killed_while_it_sends_and_while_it_fetches, e2e_teardown),
        cmocka_unit_test_teardown(killed_and_failing_while_it_recovers, e2e_teardown),
        cmocka_unit_test_teardown(a_stop_does_not_wait_for_the_network, e2e_teardown),
        cmocka_unit_test_teardown(one_that_is_being_sent_may_be_deleted, e2e_teardown),
        cmocka_unit_test_teardown(a_store_in_trouble, e2e_teardown),
        cmocka_unit_test_teardown(over_tls, e2e_teardown),
        cmocka_unit_test_teardown(damaged_ones_are_passed_over, e2e_teardown),
        cmocka_unit_test_teardown(a_new_token_of_the_realm_will_do, e2e_teardown),
        cmocka_unit_test_teardown(another_realms_are_not_believed, e2e_teardown),
        cmocka_unit_test_teardown(several_cells_want_a_word, e2e_teardown),
        cmocka_unit_test_teardown(the_next_tier_is_used, e2e_teardown),
        cmocka_unit_test_teardown(the_next_tier_is_used_beside_traffic, e2e_teardown),
        cmocka_unit_test_teardown(old_ones_are_removed, e2e_teardown),
        cmocka_unit_test_teardown(wrong_directives_are_refused, e2e_teardown),
        cmocka_unit_test(the_gateway_ends),
    };
    return cmocka_run_group_tests_name("e2e bucket", tests, NULL, NULL);
}
