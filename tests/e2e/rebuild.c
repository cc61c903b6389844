/* rebuild.c - a shard that loses its files while the server runs comes back by itself, and one that is healthy may be
 * rebuilt under load: the server is not started again, nothing that was acknowledged is lost, and other shards' vaults
 * do not notice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/e2e.h"

#define KEYS 400

/* A client of one vault: sets one key after the other to numbers that grow, and reads them. */
struct client {
    redisContext *c;
    const char *vault;
    pthread_t thread;
    _Atomic int stop;
    _Atomic unsigned answered, refused;
    unsigned newest[KEYS]; /* acknowledged */
    char wrong[200];       /* what should not have been answered */
};

static struct client client[2] = {{.vault = "v0"}, {.vault = "v1"}};

static int is_corrupt(const redisReply *r)
{
    return r->type == REDIS_REPLY_ERROR && strncmp(r->str, "CORRUPT", 7) == 0;
}

/* In another thread nothing may fail the test: it is noted. */
static void wrong(struct client *cl, const char *what, unsigned key, const redisReply *r)
{
    if (!cl->wrong[0])
        snprintf(cl->wrong, sizeof cl->wrong, "%s of %s key %u, acknowledged as %u: %.80s", what, cl->vault, key,
                 cl->newest[key], r ? r->str ? r->str : "(nil)" : "no answer");
}

static void client_set(struct client *cl, unsigned key)
{
    redisReply *r = redisCommand(cl->c, "SECRET.SET %s key/%u %u-%0200u", cl->vault, key, cl->newest[key] + 1, key);
    if (r && r->type == REDIS_REPLY_INTEGER)
        cl->newest[key]++;
    else if (r && is_corrupt(r))
        cl->refused++;
    else
        wrong(cl, "SET", key, r);
    freeReplyObject(r);
}

/* The version that was acknowledged, counting from the newest: 0, or one of those that the log or a snapshot has. */
static void client_get(struct client *cl, unsigned key, unsigned back)
{
    char want[32];
    if (cl->newest[key] <= back)
        return;
    unsigned version = cl->newest[key] - back;
    redisReply *r = redisCommand(cl->c, "SECRET.GET %s key/%u VERSION %u", cl->vault, key, version);
    snprintf(want, sizeof want, "%u-", version);
    if (r && is_corrupt(r))
        cl->refused++;
    else if (!r || r->type != REDIS_REPLY_STRING || strncmp(r->str, want, strlen(want)) != 0)
        wrong(cl, "GET", key, r);
    freeReplyObject(r);
}

static void *client_main(void *arg)
{
    struct client *cl = arg;
    for (unsigned i = 0; !atomic_load(&cl->stop) && !cl->wrong[0]; i++) {
        client_set(cl, i % KEYS);
        client_get(cl, i * 7 % KEYS, 0);
        client_get(cl, i * 11 % KEYS, 2);
        cl->answered++;
    }
    return NULL;
}

static void clients_start(struct e2e *s)
{
    for (int i = 0; i < 2; i++) {
        client[i].c = e2e_connect(s);
        client[i].stop = 0;
        client[i].refused = client[i].answered = 0;
        assert_int_equal(pthread_create(&client[i].thread, NULL, client_main, &client[i]), 0);
    }
}

static void clients_stop(void)
{
    for (int i = 0; i < 2; i++) {
        atomic_store(&client[i].stop, 1);
        pthread_join(client[i].thread, NULL);
        redisFree(client[i].c);
        client[i].c = NULL;
        if (client[i].wrong[0])
            fail_msg("%s", client[i].wrong);
    }
}

static void let_them_run(unsigned rounds)
{
    unsigned from = client[0].answered;
    struct e2e_deadline w = {.what = "the clients' rounds"};
    while (e2e_not_yet(&w))
        if (client[0].answered - from >= rounds || client[0].wrong[0] || client[1].wrong[0])
            break;
}

static void check_all(struct e2e *s)
{
    for (int i = 0; i < 2; i++) {
        client[i].c = s->c;
        client[i].refused = 0;
        for (unsigned key = 0; key < KEYS; key++)
            for (unsigned back = 0; back < 3; back++)
                client_get(&client[i], key, back);
        client[i].c = NULL;
        if (client[i].wrong[0])
            fail_msg("%s", client[i].wrong);
        assert_int_equal(client[i].refused, 0);
    }
}

/* Two vaults, each in a shard of its own, and values in tables on the disk, not in memory. */
static void start_with_values(struct e2e *s)
{
    for (int i = 0; i < 2; i++)
        memset(client[i].newest, 0, sizeof client[i].newest);
    e2e_start(s, "--shards", "2", "--wbl-segment-bytes", "1mb", "--snapshot-log-bytes", "1mb", NULL);
    e2e_expect(s->c, "+OK", "VAULT.CREATE v0 SHARD 0 MAXVERSIONS 5");
    e2e_expect(s->c, "+OK", "VAULT.CREATE v1 SHARD 1 MAXVERSIONS 5");
    for (int i = 0; i < 2; i++) {
        client[i].c = s->c;
        for (unsigned n = 0; n < 3 * KEYS; n++)
            client_set(&client[i], n % KEYS);
    }
    e2e_expect(s->c, ":...", "SNAPSHOT.CREATE");
    e2e_stop(s);
    e2e_again(s);
}

static void shell(const struct e2e *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void shell(const struct e2e *s, const char *fmt, ...)
{
    char command[1024], in[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(in, sizeof in, fmt, ap);
    va_end(ap);
    snprintf(command, sizeof command, "cd %s && %s", s->dir, in);
    assert_int_equal(system(command), 0);
}

static void test_damaged_shard_comes_back(void **state)
{
    struct e2e s;
    unsigned corrupt = 0;
    (void)state;
    start_with_values(&s);
    pid_t pid = s.pid;
    shell(
        &s,
        "for f in shard-1/*.ldb; do head -c $(stat -c %%s $f) /dev/urandom | dd of=$f conv=notrunc 2>/dev/null; done");
    for (unsigned key = 0; key < KEYS && !corrupt; key++) { /* unless the keeper met it before */
        redisReply *r = e2e_command(s.c, "SECRET.GET v1 key/%u", key);
        corrupt += is_corrupt(r) != 0;
        freeReplyObject(r);
    }
    clients_start(&s);
    e2e_info_wait(s.c, "shard_rebuilds", "1");
    let_them_run(200);
    clients_stop();
    assert_int_equal(client[0].refused, 0);
    check_all(&s);
    e2e_info_wait(s.c, "shards_failed", "");
    e2e_info_wait(s.c, "shard_rebuild_shard", "1");
    e2e_info_wait(s.c, "shard_rebuild_state", "idle");
    e2e_log_wait(&s, "shard 1 is being rebuilt");
    e2e_log_wait(&s, "shard 1 is rebuilt and serves");
    assert_int_equal(s.pid, pid);
    e2e_stop(&s);
    e2e_again(&s);
    check_all(&s);
    e2e_finish(&s);
}

static void test_healthy_shards_rebuilt_under_load(void **state)
{
    struct e2e s;
    struct e2e_raw raw;
    (void)state;
    start_with_values(&s);
    clients_start(&s);
    e2e_raw_open3(&raw, &s);
    for (unsigned i = 0; i < 6; i++) {
        let_them_run(100);
        e2e_raw_expect(&raw, "{$shard ...", "SHARD.REBUILD %u", i % 2);
    }
    e2e_raw_expect(&raw, "-ERR shards are 0 to 1", "SHARD.REBUILD 2");
    e2e_raw_expect(&raw, "-ERR value is not an integer...", "SHARD.REBUILD x");
    e2e_raw_close(&raw);
    clients_stop();
    assert_int_equal(client[0].refused + client[1].refused, 0);
    e2e_info_wait(s.c, "shard_rebuilds", "6");
    check_all(&s);
    e2e_kill(&s);
    e2e_again(&s);
    check_all(&s);
    e2e_finish(&s);
}

/* Nobody reads what is damaged: the scrub does. */
static void test_the_scrub_mends_what_nobody_reads(void **state)
{
    struct e2e s;
    struct e2e_raw raw;
    (void)state;
    start_with_values(&s);
    e2e_raw_open3(&raw, &s);
    e2e_raw_expect(&raw, ":...", "SNAPSHOT.CREATE");
    e2e_info_wait(s.c, "scrub_state", "resting"); /* the first pass is not at once */
    e2e_expect(s.c, "+OK", "CONFIG SET scrub-rate 0");
    e2e_info_wait(s.c, "scrub_state", "off");
    e2e_raw_expect(&raw, "{$pass :1...", "SCRUB.NOW");
    e2e_info_wait(s.c, "scrub_errors", "0");
    e2e_expect(s.c, "+OK", "CONFIG SET scrub-rate 1gb");
    e2e_info_wait(s.c, "scrub_state", "resting"); /* the next one is due in an hour */
    clients_start(&s);
    for (unsigned i = 0; i < 3; i++) {
        let_them_run(100);
        shell(&s, "printf XXXX | dd of=$(ls snapshots/*.snap | tail -1) bs=1 seek=3000 conv=notrunc 2>/dev/null");
        e2e_raw_expect(&raw, "{$pass ...", "SCRUB.NOW");
    }
    clients_stop();
    int errors = atoi(e2e_info(s.c, "scrub_errors"));
    assert_true(errors >= 1 && errors == atoi(e2e_info(s.c, "scrub_repaired")));
    e2e_info_wait(s.c, "scrub_pass", "4");
    e2e_log_wait(&s, "does not verify; repaired");
    e2e_raw_close(&raw);
    check_all(&s);
    e2e_finish(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_damaged_shard_comes_back, e2e_teardown),
        cmocka_unit_test_teardown(test_healthy_shards_rebuilt_under_load, e2e_teardown),
        cmocka_unit_test_teardown(test_the_scrub_mends_what_nobody_reads, e2e_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
