/* digest.c - replicas compare their state with the primary's: one whose store lost something, with the right log, is
 * found, serves nothing, and is made good; one whose log gives another state takes the primary's, once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/store.h"
#include "tests/lib/trio.h"

#define SHARDS 4
#define VICTIM "the-one-that-is-lost"

static void start_pair(struct e2e *a, struct e2e *b)
{
    char port[16];
    e2e_start(a, "--port", "auto", "--state-check-interval", "1", NULL);
    snprintf(port, sizeof port, "%d", a->port);
    e2e_start(b, "--port", "auto", "--replicaof", "127.0.0.1", port, NULL);
    e2e_info_wait(b->c, "master_link_status", "up");
    e2e_info_wait(a->c, "connected_slaves", "1");
}

/* The primary's next snapshot is compared by the replica: at its LSN. */
static void compare(struct e2e *a, struct e2e *b)
{
    char lsn[32];
    e2e_expect(a->c, "+OK", "SET something new");
    snprintf(lsn, sizeof lsn, "%lld", e2e_int(a->c, "SNAPSHOT.CREATE"));
    e2e_info_wait(b->c, "state_compared_lsn", lsn);
}

/* What no checksum of LevelDB's and no chain notices: as if a batch had never been written. */
static int lose_from(const struct e2e *s, unsigned shard)
{
    char path[E2E_PATH + 32];
    struct store *store;
    struct store_batch *batch;
    struct store_iter *it;
    int found = 0;

    snprintf(path, sizeof path, "%s/shard-%u", s->dir, shard);
    struct store_config cfg = {.path = path};
    assert_int_equal(store_open(&store, &cfg), ERR_OK);
    assert_int_equal(store_batch_new(&batch), ERR_OK);
    assert_int_equal(store_iter_new(store, &it), ERR_OK);
    for (store_iter_seek(it, bytes_of("", 0)); store_iter_valid(it); store_iter_next(it)) {
        struct bytes key = store_iter_key(it);
        if (key.n > strlen(VICTIM) && memmem(key.p, key.n, VICTIM, strlen(VICTIM))) {
            store_batch_delete(batch, key);
            found++;
        }
    }
    store_iter_free(it);
    if (found)
        assert_int_equal(store_write(store, batch, store_applied(store)), ERR_OK);
    store_batch_free(batch);
    store_close(store);
    return found;
}

static void states_are_compared(void **state)
{
    struct e2e a, b;
    (void)state;
    start_pair(&a, &b);
    e2e_info_wait(b.c, "state_compared", "unknown");
    for (int i = 0; i < 100; i++)
        e2e_expect(a.c, "+OK", "SET k%d %d", i % 40, i);
    e2e_expect(a.c, ":10", "DEL k0 k1 k2 k3 k4 k5 k6 k7 k8 k9");
    compare(&a, &b);
    e2e_info_wait(b.c, "state_compared", "equal");
    e2e_expect(a.c, "+OK", "SET k1 again");
    compare(&a, &b);
    e2e_info_wait(b.c, "state_compared", "equal");
    e2e_finish(&b);
    e2e_finish(&a);
}

static void a_store_that_lost_something_is_found_and_made_good(void **state)
{
    struct e2e a, b;
    char hold[64];
    int lost = 0;
    (void)state;
    start_pair(&a, &b);
    for (int i = 0; i < 50; i++)
        e2e_expect(a.c, "+OK", "SET k%d %d", i, i);
    e2e_expect(a.c, "+OK", "SET " VICTIM " v");
    e2e_expect(a.c, ":1", "WAIT 1 0");
    e2e_expect(b.c, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(a.c, "CLIENT LASTLSN"));
    e2e_stop(&b);
    for (unsigned shard = 0; shard < SHARDS; shard++)
        lost += lose_from(&b, shard);
    assert_true(lost > 0);

    snprintf(hold, sizeof hold, "/tmp/coffer-hold-%d", (int)getpid());
    FILE *f = fopen(hold, "w");
    assert_non_null(f);
    fclose(f);
    setenv("COFFER_TEST_REBUILD_HOLD", hold, 1);
    e2e_again(&b);
    unsetenv("COFFER_TEST_REBUILD_HOLD");
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_expect(b.c, "nil", "GET " VICTIM); /* nothing else would tell */
    compare(&a, &b);
    e2e_log_wait(&b, "This node's stores are not what its log says");
    e2e_info_wait(b.c, "state_compared", "stores-differ");
    e2e_info_wait(b.c, "slave_priority", "0");
    e2e_expect(b.c, "-CORRUPT ...", "GET " VICTIM);
    e2e_expect(b.c, "-CORRUPT ...", "GET k1");
    e2e_expect(b.c, "-CORRUPT ...", "PING");
    assert_int_equal(unlink(hold), 0);
    e2e_info_wait(b.c, "state_compared", "equal");
    e2e_info_wait(b.c, "slave_priority", "100");
    e2e_log_wait(&b, "This node's state is the primary's again");
    e2e_expect(b.c, "$v", "GET " VICTIM);
    e2e_finish(&b);
    e2e_finish(&a);
}

static int has_aside(const struct e2e *s, const char *name)
{
    char path[E2E_PATH + 64];
    snprintf(path, sizeof path, "%s/aside/%s", s->dir, name);
    return access(path, F_OK) == 0;
}

/* With the primary's snapshot; the connection is a new one. */
static void await_anew(struct e2e *b)
{
    e2e_log_wait(b, "takes the place of what was here");
    redisFree(b->c);
    b->c = NULL;
    e2e_ready(b);
}

static void await_rebuilt(struct e2e *b)
{
    e2e_log_wait(b, "is not the primary's: no reads are served");
    await_anew(b);
    e2e_info_wait(b->c, "master_link_status", "up");
    assert_string_equal(e2e_info(b->c, "set_aside"), "1");
    assert_true(has_aside(b, "base") && has_aside(b, "shard-0") && has_aside(b, "snapshots"));
    assert_false(has_aside(b, "wal"));
}

/* Without WAIT: the connection may be at its end. */
static void tell(struct e2e *a)
{
    e2e_expect(a->c, "+OK", "SET something new");
    e2e_int(a->c, "SNAPSHOT.CREATE");
}

static void same_as(struct e2e *a, struct e2e *b)
{
    e2e_expect(b->c, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(a->c, "CLIENT LASTLSN"));
    e2e_expect(b->c, "$v", "GET k");
    e2e_same_state(a->c, b->c);
}

/* Whose log means something else to it takes what it means to the primary, once, and keeps what it had. */
static void a_log_that_means_something_else_gives_way(void **state)
{
    struct e2e a, b;
    (void)state;
    setenv("COFFER_TEST_OTHER_DIGEST", "1", 1);
    start_pair(&a, &b);
    unsetenv("COFFER_TEST_OTHER_DIGEST");
    e2e_expect(a.c, "+OK", "SET k v");
    e2e_int(b.c, "SNAPSHOT.CREATE");
    tell(&a);
    await_rebuilt(&b);
    e2e_expect(a.c, ":1", "WAIT 1 0"); /* its log was there all the time */
    same_as(&a, &b);
    e2e_kill(&a);
    e2e_again(&a);
    e2e_info_wait(b.c, "master_link_status", "up");
    compare(&a, &b);
    e2e_info_wait(b.c, "state_compared", "equal");
    same_as(&a, &b);
    e2e_stop(&b); /* and it is a directory as any other */
    e2e_again(&b);
    e2e_info_wait(b.c, "master_link_status", "up");
    same_as(&a, &b);
    e2e_finish(&b);
    e2e_finish(&a);
}

/* What differs again was not this node's fault: it stays in quarantine, until a comparison is equal. */
static void one_that_differs_again_is_quarantined(void **state)
{
    struct e2e a, b;
    (void)state;
    setenv("COFFER_TEST_OTHER_DIGEST", "1", 1);
    start_pair(&a, &b);
    unsetenv("COFFER_TEST_OTHER_DIGEST");
    e2e_expect(a.c, "+OK", "SET k v");
    tell(&a);
    await_rebuilt(&b);
    compare(&a, &b);
    e2e_info_wait(b.c, "state_compared", "log-differs");
    e2e_log_wait(&b, "This node is not rebuilt now, and stays in quarantine: there is a directory aside");
    e2e_info_wait(b.c, "slave_priority", "0");
    e2e_expect(b.c, "-CORRUPT ...", "GET k");
    e2e_expect(b.c, "-CORRUPT ...", "PING");
    e2e_expect(a.c, "+OK", "SET something newer");
    e2e_expect(a.c, ":1", "WAIT 1 0"); /* it goes on holding the log, and says that it is not to be promoted */
    e2e_expect(a.c, "-ERR FAILOVER requires a replica that is not in quarantine...", "FAILOVER");
    e2e_expect(a.c, "-ERR FAILOVER target replica is in quarantine...", "FAILOVER TO 127.0.0.1 %d", b.port);
    e2e_expect(a.c, "-ERR FAILOVER target replica is in quarantine...", "FAILOVER TO 127.0.0.1 %d FORCE TIMEOUT 1",
               b.port);
    e2e_expect(b.c, "-CORRUPT this node is in quarantine...", "REPLICAOF NO ONE");
    assert_string_equal(e2e_info(b.c, "role"), "slave");
    e2e_expect(a.c, "$v", "GET k");
    e2e_kill(&a);
    e2e_again(&a);
    e2e_info_wait(b.c, "master_link_status", "up");
    compare(&a, &b);
    e2e_info_wait(b.c, "state_compared", "equal");
    same_as(&a, &b);
    e2e_finish(&b);
    e2e_finish(&a);
}

/* Both at once, under load: they hold and acknowledge the log all the while. */
static void two_of_a_cell_are_rebuilt_under_load(void **state)
{
    struct trio t;
    (void)state;
    setenv("COFFER_TEST_OTHER_DIGEST", "1", 1);
    trio_start(&t);
    unsetenv("COFFER_TEST_OTHER_DIGEST");
    e2e_expect(t.node[0].c, "+OK", "SET k v");
    e2e_expect(t.node[0].c, "+OK", "CONFIG SET state-check-interval 1");
    trio_load_begin(&t, 2);
    tell(&t.node[0]);
    for (unsigned i = 1; i < TRIO; i++)
        e2e_log_wait(&t.node[i], "is rebuilt from a snapshot of");
    e2e_expect(t.node[0].c, "+OK", "CONFIG SET state-check-interval 0");
    for (unsigned i = 1; i < TRIO; i++) {
        await_anew(&t.node[i]);
        e2e_expect(t.node[i].c, "+OK",
                   "CONFIG SET state-check-interval 0"); /* as primary it would tell a wrong one too */
        trio_await(&t, i, "set_aside", "1");
        trio_await(&t, i, "slave_priority", "100");
        assert_false(e2e_log_has(&t.node[i], "is not counted"));
    }
    trio_lead(&t, 1);
    unsigned before = trio_load_done();
    struct e2e_deadline w = {.what = "writes on it"};
    while (trio_load_done() < before + 50 && e2e_not_yet(&w)) {
    }
    trio_load_end(&t);
    trio_check(&t);
    e2e_same_state(t.node[1].c, t.node[2].c);
    trio_finish(&t);
}

int main(void)
{
    assert_int_equal(mem_init(1), ERR_OK);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(states_are_compared, e2e_teardown),
        cmocka_unit_test_teardown(a_store_that_lost_something_is_found_and_made_good, e2e_teardown),
        cmocka_unit_test_teardown(a_log_that_means_something_else_gives_way, e2e_teardown),
        cmocka_unit_test_teardown(one_that_differs_again_is_quarantined, e2e_teardown),
        cmocka_unit_test_teardown(two_of_a_cell_are_rebuilt_under_load, trio_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
