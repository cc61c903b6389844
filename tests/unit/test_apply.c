/* The applier: rounds, checkpoints, failing stores, replay; and all of hot table, applier and stores at once. */
#include "store_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/fault.h"
#include "engine/apply.h"

#define STORES 3

/* A table, three stores and an applier that does nothing unless asked to (no timers, unless a test sets them). */
struct bench {
    char dir[SF_PATH], paths[STORES][SF_PATH + 8];
    struct hot *hot;
    struct store *stores[STORES];
    struct apply *apply;
    struct apply_config cfg;
    pthread_mutex_t lock; /* what follows is told by the applier's thread */
    pthread_cond_t told;
    uint64_t applied, calls;
    enum err failed[STORES];
};

static void on_applied(void *arg, uint64_t lsn)
{
    struct bench *b = arg;
    pthread_mutex_lock(&b->lock);
    b->applied = lsn;
    b->calls++;
    pthread_cond_broadcast(&b->told);
    pthread_mutex_unlock(&b->lock);
}

static void on_failure(void *arg, unsigned store, enum err e)
{
    struct bench *b = arg;
    pthread_mutex_lock(&b->lock);
    b->failed[store] = e;
    pthread_mutex_unlock(&b->lock);
}

static void open_stores(struct bench *b)
{
    for (unsigned i = 0; i < STORES; i++) {
        snprintf(b->paths[i], sizeof b->paths[i], "%s/%u", b->dir, i);
        b->stores[i] = sf_open(b->paths[i]);
    }
}

static void start(struct bench *b)
{
    assert_int_equal(hot_new(&b->hot, 1 << 20), ERR_OK);
    b->cfg.hot = b->hot;
    b->cfg.stores = b->stores;
    assert_int_equal(apply_start(&b->apply, &b->cfg), ERR_OK);
}

static struct bench *bench_new(void)
{
    struct bench *b = calloc(1, sizeof *b);
    sf_make_dir(b->dir);
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->told, NULL);
    open_stores(b);
    b->cfg = (struct apply_config){.store_count = STORES,
                                   .round_bytes = SIZE_MAX,
                                   .round_ms = 3600 * 1000,
                                   .on_applied = on_applied,
                                   .on_failure = on_failure,
                                   .arg = b};
    start(b);
    return b;
}

static void stop(struct bench *b)
{
    apply_stop(b->apply);
    b->apply = NULL;
    hot_free(b->hot);
    b->hot = NULL;
}

static void close_stores(struct bench *b)
{
    for (unsigned i = 0; i < STORES; i++) {
        store_close(b->stores[i]);
        b->stores[i] = NULL;
    }
}

static void bench_free(struct bench *b)
{
    if (b->apply)
        stop(b);
    close_stores(b);
    sf_remove_dir(b->dir);
    pthread_cond_destroy(&b->told);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

/* Commits one value, as sequencer and log writer do it. */
static void put(struct bench *b, uint16_t store, const char *key, const char *value, uint64_t lsn)
{
    struct hot_entry *e;
    struct blob *v = value ? blob_new(bytes_str(value), strlen(value), lsn) : blob_tombstone(lsn);
    assert_non_null(v);
    assert_int_equal(hot_stage(b->hot, store, bytes_str(key), v, &e), ERR_OK);
    hot_publish(b->hot, e, v);
    hot_set_published(b->hot, lsn);
    apply_kick(b->apply);
}

static void wait_told(struct bench *b, uint64_t lsn)
{
    pthread_mutex_lock(&b->lock);
    while (b->applied < lsn)
        pthread_cond_wait(&b->told, &b->lock);
    pthread_mutex_unlock(&b->lock);
}

static void assert_stored(struct store *s, const char *key, const char *want, uint64_t lsn)
{
    struct blob *v;
    enum err e = store_get(s, bytes_str(key), &v);
    assert_int_equal(e, want ? ERR_OK : ERR_NOTFOUND);
    if (want) {
        assert_true(bytes_equal(blob_bytes(v), bytes_str(want)));
        assert_int_equal(v->lsn, lsn);
    }
    blob_unref(v);
}

static struct apply_stats stats(struct bench *b)
{
    struct apply_stats s;
    apply_stats(b->apply, &s);
    return s;
}

/* ---- rounds ---- */

static void a_demand_brings_the_stores_up_to_date(void **state)
{
    (void)state;
    struct bench *b = bench_new();
    put(b, 0, "a", "1", 1);
    put(b, 2, "a", "2", 2);
    put(b, 2, "a", "3", 3);
    put(b, 2, "gone", "4", 4);
    put(b, 2, "gone", NULL, 5);
    assert_int_equal(apply_lsn(b->apply), 0); /* nobody asked, and the timer is an hour */
    apply_wait_lsn(b->apply, 5);
    assert_int_equal(apply_lsn(b->apply), 5);
    assert_stored(b->stores[0], "a", "1", 1);
    assert_stored(b->stores[2], "a", "3", 3);
    assert_stored(b->stores[2], "gone", NULL, 0);
    assert_int_equal(store_applied(b->stores[0]), 5);
    assert_int_equal(store_applied(b->stores[1]), 0); /* not touched */
    assert_int_equal(store_applied(b->stores[2]), 5);
    wait_told(b, 5);
    struct apply_stats s = stats(b);
    assert_int_equal(s.rounds, 1);
    assert_int_equal(s.written, 3);
    assert_int_equal(s.coalesced, 2);
    assert_int_equal(s.applied_lsn, 5);
    assert_int_equal(hot_dirty_bytes(b->hot), 0);
    apply_demand(b->apply, 5); /* nothing to do */
    apply_wait_lsn(b->apply, 3);
    assert_int_equal(stats(b).rounds, 1);
    hot_set_published(b->hot, 9); /* records without operations */
    apply_kick(b->apply);
    apply_wait_lsn(b->apply, 9);
    assert_int_equal(store_applied(b->stores[0]), 5);
    bench_free(b);
}

static void a_demand_for_what_is_not_published_yet_is_met_when_it_is(void **state)
{
    (void)state;
    struct bench *b = bench_new();
    put(b, 1, "a", "1", 1);
    apply_demand(b->apply, 3);
    put(b, 1, "b", "2", 2);
    put(b, 1, "c", "3", 3);
    wait_told(b, 3);
    assert_stored(b->stores[1], "c", "3", 3);
    bench_free(b);
}

static void a_round_starts_by_bytes_or_by_time(void **state)
{
    (void)state;
    struct bench *b = bench_new();
    char big[2000];
    stop(b);
    b->cfg.round_bytes = 50000;
    start(b);
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    for (uint64_t lsn = 1; lsn <= 30; lsn++) {
        char key[8];
        snprintf(key, sizeof key, "k%u", (unsigned)lsn);
        put(b, 1, key, big, lsn);
    }
    wait_told(b, 20);
    stop(b);
    b->cfg.round_bytes = SIZE_MAX;
    b->cfg.round_ms = 1;
    start(b);
    hot_set_published(b->hot, 30);
    put(b, 1, "a", "timed", 31);
    wait_told(b, 31);
    put(b, 1, "a", "timed again", 32);
    wait_told(b, 32);
    bench_free(b);
}

/* One kick each, at every moment of the applier's falling asleep: if one were lost, nobody would wake it. */
static void no_kick_is_lost(void **state)
{
    (void)state;
    struct bench *b = bench_new();
    stop(b);
    b->cfg.round_ms = 0;
    start(b);
    uint64_t r = 5;
    for (uint64_t lsn = 1; lsn <= 20000; lsn++) {
        put(b, 1, "a", "v", lsn);
        for (uint64_t n = sf_rnd(&r) % 64; n; n--)
            (void)hot_dirty_bytes(b->hot); /* passes a little time */
        if (lsn % 2)
            wait_told(b, lsn);
    }
    wait_told(b, 20000);
    bench_free(b);
}

static void pauses_hold_rounds_back(void **state)
{
    (void)state;
    struct bench *b = bench_new();
    struct store_iter *it;
    put(b, 1, "a", "1", 1);
    apply_wait_lsn(b->apply, 1);
    assert_int_equal(apply_pause(b->apply), 1);
    assert_int_equal(apply_pause(b->apply), 1);
    put(b, 1, "a", "2", 2);
    apply_demand(b->apply, 2);
    apply_resume(b->apply);
    assert_int_equal(apply_lsn(b->apply), 1);
    assert_int_equal(store_iter_new(b->stores[1], &it), ERR_OK);
    apply_resume(b->apply);
    wait_told(b, 2);
    store_iter_seek(it, bytes_str("a")); /* the view taken in the pause */
    struct bytes v;
    uint64_t lsn;
    assert_int_equal(store_iter_value(it, &v, &lsn), ERR_OK);
    assert_int_equal(lsn, 1);
    store_iter_free(it);
    bench_free(b);
}

/* A round of several batches that fails in the second: the store must not claim the round's LSN. */
static void only_the_last_batch_of_a_round_carries_its_lsn(void **state)
{
    (void)state;
    struct bench *b = bench_new();
    struct rlimit old, low;
    size_t n = 6 << 20;
    char *big = malloc(n);
    memset(big, 'x', n - 1);
    big[n - 1] = '\0';
    put(b, 1, "a", "before", 7);
    apply_wait_lsn(b->apply, 7);
    for (uint64_t i = 0; i < 12; i++) {
        char key[8];
        snprintf(key, sizeof key, "k%02u", (unsigned)i);
        put(b, 1, key, i == 7 ? big : big + (5 << 20), 8 + i); /* a batch each, one of 6 MiB */
    }
    put(b, 0, "other", "store", 20);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    low = old;
    low.rlim_cur = 5 << 20;
    setrlimit(RLIMIT_FSIZE, &low);
    apply_wait_lsn(b->apply, 20);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(b->failed[1], ERR_IO);
    assert_int_equal(b->failed[0], ERR_OK);
    assert_int_equal(store_applied(b->stores[1]), 7);
    assert_int_equal(store_applied(b->stores[0]), 20);
    assert_int_equal(stats(b).dropped, 12);
    stop(b);
    store_close(b->stores[1]);
    b->stores[1] = sf_open(b->paths[1]);
    assert_int_equal(store_applied(b->stores[1]), 7);
    assert_stored(b->stores[1], "k00", big + (5 << 20), 8); /* written, and to be replayed all the same */
    assert_stored(b->stores[1], "k07", NULL, 0);
    assert_stored(b->stores[1], "k11", NULL, 0);
    free(big);
    bench_free(b);
}

/* ---- checkpoints ---- */

static void a_stop_applies_all_and_checkpoints_all_stores_at_one_lsn(void **state)
{
    (void)state;
    struct bench *b = bench_new();
    put(b, 1, "a", "1", 1);
    put(b, 2, "a", "2", 2);
    assert_int_equal(stats(b).checkpoint_lsn, 0);
    stop(b);
    close_stores(b);
    open_stores(b);
    for (unsigned i = 0; i < STORES; i++) {
        assert_int_equal(store_applied(b->stores[i]), 2);
        assert_int_equal(store_checkpointed(b->stores[i]), 2);
    }
    start(b);
    assert_int_equal(stats(b).checkpoint_lsn, 2);
    bench_free(b);
}

static void checkpoints_come_by_log_bytes_and_by_time(void **state)
{
    (void)state;
    struct bench *b = bench_new();
    for (unsigned by_time = 0; by_time < 2; by_time++) {
        stop(b);
        b->cfg.checkpoint_bytes = by_time ? 0 : 10000;
        b->cfg.checkpoint_ms = by_time ? 1 : 0;
        b->cfg.round_ms = 1;
        uint64_t lsn = store_applied(b->stores[0]);
        start(b);
        hot_set_published(b->hot, lsn);
        while (stats(b).checkpoint_lsn <= lsn) { /* the condition waited for, with traffic that makes it come true */
            put(b, 1, "a", "overwritten again and again: log, but hardly any store", lsn + 1 + stats(b).applied_lsn);
            apply_wait_lsn(b->apply, hot_published(b->hot));
        }
        assert_true(stats(b).checkpoints >= 1);
    }
    bench_free(b);
}

/* After a power loss a replay starts below what a store claims to have applied, and may be cut short. */
static void no_checkpoint_is_made_while_a_replay_is_below_the_applied_lsn(void **state)
{
    (void)state;
    struct bench *b = bench_new();
    put(b, 1, "a", "10", 10);
    stop(b); /* all stores: applied and checkpoint 10 */
    assert_int_equal(sf_put_at(b->stores[1], "a", "20", 20), ERR_OK);
    assert_int_equal(sf_put_at(b->stores[2], "c", "20", 20), ERR_OK);
    start(b);
    put(b, 1, "b", "11", 11); /* the hole that is filled */
    put(b, 0, "x", "12", 12);
    stop(b);
    assert_int_equal(store_applied(b->stores[1]), 20); /* never back */
    assert_stored(b->stores[1], "b", "11", 11);
    assert_int_equal(store_checkpointed(b->stores[1]), 10);
    assert_int_equal(store_checkpointed(b->stores[2]), 10);
    assert_int_equal(store_checkpointed(b->stores[0]), 12);
    start(b);
    put(b, 1, "b", "13", 13);
    hot_set_published(b->hot, 20);
    stop(b);
    for (unsigned i = 0; i < STORES; i++)
        assert_int_equal(store_checkpointed(b->stores[i]), 20);
    bench_free(b);
}

/* ---- failing stores ---- */

static void make_fail(struct store *s)
{
    uint64_t lsn;
    assert_int_equal(sf_put_at(s, "zz", "v", store_applied(s) + 1), ERR_OK);
    fault_arm(FAULT_FILE, 1, EIO);
    assert_int_equal(store_checkpoint(s, &lsn), ERR_IO);
    fault_disarm(FAULT_FILE);
}

static void a_failing_store_leaves_the_others_alone_and_comes_back(void **state)
{
    (void)state;
    struct bench *b = bench_new();
    struct blob *v;
    uint64_t token;
    for (unsigned i = 0; i < STORES; i++)
        put(b, (uint16_t)i, "a", "1", 10 + i);
    apply_wait_lsn(b->apply, 12);
    make_fail(b->stores[1]);
    put(b, 1, "a", "not in the store", 20);
    put(b, 2, "a", "2", 21);
    apply_wait_lsn(b->apply, 21);
    assert_int_equal(b->failed[1], ERR_IO);
    assert_int_equal(b->failed[2], ERR_OK);
    assert_stored(b->stores[2], "a", "2", 21);
    assert_int_equal(store_get(b->stores[1], bytes_str("a"), &v), ERR_IO); /* and not "1" */
    assert_int_equal(hot_dirty_bytes(b->hot), 0);                          /* it holds nothing up */
    assert_int_equal(stats(b).dropped, 1);
    assert_int_equal(stats(b).checkpoint_lsn, 0);
    b->failed[1] = ERR_OK;
    put(b, 1, "b", "neither", 22);
    apply_wait_lsn(b->apply, 22);
    assert_int_equal(b->failed[1], ERR_OK); /* told once */
    assert_int_equal(stats(b).dropped, 2);

    store_close(b->stores[1]); /* rebuilt: opened anew, and replayed from its applied LSN */
    b->stores[1] = sf_open(b->paths[1]);
    assert_int_equal(sf_put_at(b->stores[1], "a", "not in the store", 20), ERR_OK);
    assert_int_equal(apply_pause(b->apply), 22);
    assert_int_equal(sf_put_at(b->stores[1], "b", "neither", 22), ERR_OK);
    apply_set_store(b->apply, 1, b->stores[1]);
    hot_drop_clean(b->hot, 1);
    apply_resume(b->apply);
    assert_int_equal(hot_get(b->hot, 1, bytes_str("a"), &v, &token), 0);
    put(b, 1, "a", "back", 23);
    apply_wait_lsn(b->apply, 23);
    assert_stored(b->stores[1], "a", "back", 23);
    assert_stored(b->stores[1], "b", "neither", 22);
    stop(b);
    assert_int_equal(store_checkpointed(b->stores[1]), 23);
    bench_free(b);
}

static void a_store_that_is_missing_from_the_start_holds_the_log_back(void **state)
{
    (void)state;
    struct bench *b = bench_new();
    stop(b);
    struct store *held = b->stores[2];
    b->stores[2] = NULL;
    start(b);
    put(b, 0, "a", "1", 5);
    put(b, 2, "a", "1", 6);
    apply_wait_lsn(b->apply, 6);
    assert_int_equal(stats(b).dropped, 1);
    stop(b);
    start(b);
    assert_int_equal(store_checkpointed(b->stores[0]), 6);
    assert_int_equal(stats(b).checkpoint_lsn, 0);
    b->stores[2] = held;
    bench_free(b);
}

static void a_checkpoint_that_fails_is_a_failed_store(void **state)
{
    (void)state;
    struct bench *b = bench_new();
    put(b, 1, "a", "1", 1);
    apply_wait_lsn(b->apply, 1);
    fault_arm(FAULT_FILE, 2, EIO);
    apply_stop(b->apply);
    b->apply = NULL;
    fault_disarm(FAULT_FILE);
    unsigned failed = 0;
    for (unsigned i = 0; i < STORES; i++)
        failed += b->failed[i] == ERR_IO && store_failed(b->stores[i]) == ERR_IO;
    assert_int_equal(failed, 1);
    hot_free(b->hot);
    bench_free(b);
}

static void an_open_group_does_not_hang_the_stop(void **state)
{
    (void)state;
    struct bench *b = bench_new();
    put(b, 1, "a", "1", 1);
    struct blob *v = blob_tombstone(2);
    assert_int_equal(hot_replay(b->hot, 1, bytes_str("a"), v), ERR_OK); /* a replay that broke off */
    stop(b);
    assert_stored(b->stores[1], "a", NULL, 0);
    assert_int_equal(store_applied(b->stores[1]), 0); /* replayed again next time */
    bench_free(b);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct bench *b = bench_new();
    uint64_t lsn = 0;
    long n;
    for (n = 1;; n++) {
        stop(b);
        start(b);
        lsn++;
        put(b, 1, "a", "1", lsn);
        put(b, 2, "b", "2", ++lsn);
        fault_arm(FAULT_MEM, n, 1);
        apply_wait_lsn(b->apply, lsn);
        apply_stop(b->apply);
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        assert_stored(b->stores[1], "a", "1", lsn - 1);
        assert_stored(b->stores[2], "b", "2", lsn);
        b->apply = NULL;
        fault_arm(FAULT_MEM, n, 1);
        enum err e = apply_start(&b->apply, &b->cfg);
        fired |= fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        if (e) {
            assert_int_equal(e, ERR_OOM);
            assert_null(b->apply);
            assert_int_equal(apply_start(&b->apply, &b->cfg), ERR_OK);
        }
        if (!fired)
            break;
    }
    assert_true(n > 4);
    for (unsigned i = 0; i < STORES; i++)
        assert_int_equal(b->failed[i], ERR_OK);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_demand_brings_the_stores_up_to_date),
        cmocka_unit_test(a_demand_for_what_is_not_published_yet_is_met_when_it_is),
        cmocka_unit_test(a_round_starts_by_bytes_or_by_time),
        cmocka_unit_test(no_kick_is_lost),
        cmocka_unit_test(pauses_hold_rounds_back),
        cmocka_unit_test(only_the_last_batch_of_a_round_carries_its_lsn),
        cmocka_unit_test(a_stop_applies_all_and_checkpoints_all_stores_at_one_lsn),
        cmocka_unit_test(checkpoints_come_by_log_bytes_and_by_time),
        cmocka_unit_test(no_checkpoint_is_made_while_a_replay_is_below_the_applied_lsn),
        cmocka_unit_test(a_failing_store_leaves_the_others_alone_and_comes_back),
        cmocka_unit_test(a_store_that_is_missing_from_the_start_holds_the_log_back),
        cmocka_unit_test(a_checkpoint_that_fails_is_a_failed_store),
        cmocka_unit_test(an_open_group_does_not_hang_the_stop),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
