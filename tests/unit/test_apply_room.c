/* engine/apply.h on a disk without room: nothing is written, nothing fails, and all goes on when there is room. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/apply.h"
#include "tests/unit/store_fixture.h"

struct bench {
    char dir[SF_PATH], path[SF_PATH + 8];
    struct store *stores[1];
    struct hot *hot;
    struct apply *apply;
    struct apply_config cfg;
    _Atomic int room, failures;
    pthread_mutex_t lock; /* what follows */
    pthread_cond_t told;
    int stalled, stalls;
    unsigned applied_calls;
};

static int has_room(void *arg)
{
    return atomic_load(&((struct bench *)arg)->room);
}

static void on_stall(void *arg, int stalled)
{
    struct bench *b = arg;
    pthread_mutex_lock(&b->lock);
    b->stalled = stalled;
    b->stalls += stalled;
    pthread_cond_broadcast(&b->told);
    pthread_mutex_unlock(&b->lock);
}

static void on_applied(void *arg, uint64_t lsn)
{
    struct bench *b = arg;
    (void)lsn;
    pthread_mutex_lock(&b->lock);
    b->applied_calls++;
    pthread_cond_broadcast(&b->told);
    pthread_mutex_unlock(&b->lock);
}

static void on_failure(void *arg, unsigned store, enum err e)
{
    (void)store;
    (void)e;
    atomic_fetch_add(&((struct bench *)arg)->failures, 1);
}

static void wait_stalled(struct bench *b, int stalled)
{
    pthread_mutex_lock(&b->lock);
    while (b->stalled != stalled)
        pthread_cond_wait(&b->told, &b->lock);
    pthread_mutex_unlock(&b->lock);
}

static struct bench *bench_new(int room)
{
    struct bench *b = calloc(1, sizeof *b);
    assert_non_null(b);
    sf_make_dir(b->dir);
    snprintf(b->path, sizeof b->path, "%s/0", b->dir);
    b->stores[0] = sf_open(b->path);
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->told, NULL);
    atomic_init(&b->room, room);
    assert_int_equal(hot_new(&b->hot, 1 << 20), ERR_OK);
    b->cfg = (struct apply_config){.hot = b->hot,
                                   .stores = b->stores,
                                   .store_count = 1,
                                   .round_bytes = SIZE_MAX,
                                   .round_ms = 3600 * 1000,
                                   .on_applied = on_applied,
                                   .on_failure = on_failure,
                                   .has_room = has_room,
                                   .on_stall = on_stall,
                                   .arg = b};
    assert_int_equal(apply_start(&b->apply, &b->cfg), ERR_OK);
    return b;
}

static void bench_free(struct bench *b)
{
    apply_stop(b->apply);
    hot_free(b->hot);
    store_close(b->stores[0]);
    sf_remove_dir(b->dir);
    pthread_cond_destroy(&b->told);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

static void put(struct bench *b, const char *key, const char *value, uint64_t lsn)
{
    struct blob *v = blob_new(bytes_str(value), strlen(value), lsn);
    assert_non_null(v);
    assert_int_equal(hot_replay(b->hot, 0, bytes_str(key), v), ERR_OK);
    hot_set_published(b->hot, lsn);
    apply_kick(b->apply);
}

static void assert_absent(struct bench *b, const char *key)
{
    struct blob *v = NULL;
    assert_int_equal(store_get(b->stores[0], bytes_str(key), &v), ERR_NOTFOUND);
}

/* Once a full disk failed every store for good, by a checkpoint even when nobody wrote. */
static void without_room_nothing_is_written_and_nothing_fails(void **state)
{
    (void)state;
    struct bench *b = bench_new(0);
    put(b, "a", "1", 1);
    apply_demand(b->apply, 1);
    wait_stalled(b, 1);
    assert_int_equal(apply_stalled(b->apply), 1);
    assert_int_equal(apply_wait_lsn(b->apply, 1), ERR_MISCONF); /* does not wait */
    assert_int_equal(apply_lsn(b->apply), 0);
    assert_absent(b, "a");
    pthread_mutex_lock(&b->lock);
    while (b->applied_calls == 0) /* who waits for a round was told to look again */
        pthread_cond_wait(&b->told, &b->lock);
    pthread_mutex_unlock(&b->lock);

    atomic_store(&b->room, 1);
    wait_stalled(b, 0);
    assert_int_equal(apply_wait_lsn(b->apply, 1), ERR_OK);
    assert_int_equal(store_applied(b->stores[0]), 1);
    assert_int_equal(b->stalls, 1);
    assert_int_equal(atomic_load(&b->failures), 0);
    bench_free(b);
}

static void a_stop_without_room_leaves_the_rest_to_the_next_start(void **state)
{
    (void)state;
    struct bench *b = bench_new(1);
    put(b, "a", "1", 1);
    assert_int_equal(apply_wait_lsn(b->apply, 1), ERR_OK);
    atomic_store(&b->room, 0);
    put(b, "b", "2", 2);
    apply_stop(b->apply);
    assert_int_equal(store_applied(b->stores[0]), 1);
    assert_absent(b, "b");

    atomic_store(&b->room, 1);
    assert_int_equal(apply_start(&b->apply, &b->cfg), ERR_OK);
    assert_int_equal(apply_wait_lsn(b->apply, 2), ERR_OK); /* the table still has it */
    assert_int_equal(store_applied(b->stores[0]), 2);
    assert_int_equal(atomic_load(&b->failures), 0);
    bench_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_room_nothing_is_written_and_nothing_fails),
        cmocka_unit_test(a_stop_without_room_leaves_the_rest_to_the_next_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
