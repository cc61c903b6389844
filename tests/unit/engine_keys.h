/* engine_keys.h - an engine of the fixture with secrets in it: numbered, even and odd ones in a vault and a shard of
 * their own, each version of each with a value that says whose it is. And what is asked of the engine that takes a
 * while: rebuilds, the scrub. */
#ifndef COFFER_TESTS_ENGINE_KEYS_H
#define COFFER_TESTS_ENGINE_KEYS_H

#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine_fixture.h"

#define ef_unused __attribute__((unused))

/* ---- a directory of its own for each test ---- */

ef_unused static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "%s/coffer-engine-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(dir));
    open_engine();
    return 0;
}

ef_unused static int teardown(void **state)
{
    (void)state;
    close_engine();
    atomic_store(&hsm_down, 0);
    clock_test_set_wall_ms(0);
    unsetenv("COFFER_TEST_BOOT_ID");
    shell("rm -rf %s", dir);
    return 0;
}

ef_unused static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

/* ---- secrets, by number ---- */

/* In threads, where cmocka cannot jump. */
ef_unused static void check(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "check failed: %s\n", what);
    abort();
}

ef_unused static void value_of(unsigned key, unsigned version, char out[160])
{
    memset(out, 'a' + (int)(key % 26), 150);
    snprintf(out + 120, 40, "%u/%u", key, version);
}

ef_unused static struct vault *vault_of(unsigned key)
{
    return vault_named(key % 2 ? "odd" : "even");
}

ef_unused static enum err set(unsigned key, unsigned version)
{
    char path[16], value[160];
    snprintf(path, sizeof path, "p/%u", key);
    value_of(key, version, value);
    struct plain *p = malloc(sizeof *p + strlen(value));
    p->n = strlen(value);
    memcpy(p->bytes, value, p->n);
    struct step s = {.kind = STEP_SECRET_SET, .path = bytes_str(path), .plain = p};
    enum err err = run(vault_of(key), &s);
    check(err || s.out_version == version, "the version that comes next");
    return err;
}

ef_unused static enum err read_value(unsigned key, unsigned version, int newest)
{
    char path[16], value[160];
    struct secret_view view;
    snprintf(path, sizeof path, "p/%u", key);
    value_of(key, version, value);
    enum err err = secret_read(e, vault_of(key), bytes_str(path), newest ? 0 : version, bytes_of(NULL, 0), &view);
    if (err)
        return err;
    check(view.version == version, "the version asked for");
    check(view.value.raw.n == 4 + strlen(value) && memcmp(view.value.raw.p + 4, value, strlen(value)) == 0,
          "the value that was written");
    secret_view_release(&view);
    return ERR_OK;
}

/* Tables of a store that nothing has merged yet. */
ef_unused static unsigned young_tables(unsigned store)
{
    struct buf b;
    buf_init(&b, 64);
    assert_int_equal(store_property(engine_store(e, store), "leveldb.num-files-at-level0", &b), ERR_OK);
    assert_int_equal(buf_put_u8(&b, 0), ERR_OK);
    unsigned n = (unsigned)strtoul((const char *)buf_data(&b), NULL, 10);
    buf_fini(&b);
    return n;
}

/* Opened and closed until LevelDB has nothing to merge, neither now nor after one more start: its tables stay where
 * they are then, and what a test does to one is not undone by a compaction. The engine is open before and after. */
ef_unused static void settle(void)
{
    for (int settled = 0; !settled;) {
        checkpoint();
        settled = 1;
        for (unsigned s = 0; s <= 2; s++) {
            while (young_tables(s) >= 4)
                nap();
            settled = settled && young_tables(s) <= 2;
        }
    }
}

#define KEYS 40

/* Every key is written rounds times; the last few of them are kept. */
ef_unused static void fill(unsigned from, unsigned to)
{
    for (unsigned version = from; version <= to; version++)
        for (unsigned key = 0; key < KEYS; key++)
            assert_int_equal(set(key, version), ERR_OK);
}

ef_unused static void assert_filled(unsigned newest)
{
    for (unsigned key = 0; key < KEYS; key++) {
        assert_int_equal(read_value(key, newest, 1), ERR_OK);
        for (unsigned version = newest > 5 ? newest - 4 : 1; version <= newest; version++)
            assert_int_equal(read_value(key, version, 0), ERR_OK);
        if (newest > 5)
            assert_int_equal(read_value(key, newest - 5, 0), ERR_NOTFOUND);
    }
}

/* Three rounds of overwriting with a snapshot behind each; then the log begins in the middle. */
ef_unused static void fill_and_trim(void)
{
    for (unsigned round = 0; round < 4; round++) {
        fill(round * 10 + 1, round * 10 + 10);
        checkpoint();
        make_snapshot();
    }
    assert_true(first_lsn() > KEYS * 10);
}

ef_unused static void destroy(unsigned key)
{
    char path[16];
    snprintf(path, sizeof path, "p/%u", key);
    struct step s = {.kind = STEP_SECRET_DESTROY, .path = bytes_str(path)};
    assert_int_equal(run(vault_of(key), &s), ERR_OK);
}

ef_unused static void apply_all(void)
{
    assert_int_equal(apply_wait_lsn(e->apply, engine_commit_lsn(e)), ERR_OK);
}

/* ---- rebuilds ---- */

struct asking {
    struct rebuild_wait w;
    int finished;
};

ef_unused static void asked(struct rebuild_wait *w)
{
    struct asking *me = (struct asking *)(void *)w;
    pthread_mutex_lock(&lock);
    me->finished = 1;
    pthread_cond_broadcast(&done_cond);
    pthread_mutex_unlock(&lock);
}

ef_unused static enum err rebuild(unsigned store, struct rebuild_wait *result)
{
    struct asking me = {.w = {.done = asked, .store = store}};
    rebuild_demand(engine_rebuild(e), &me.w);
    pthread_mutex_lock(&lock);
    while (!me.finished)
        pthread_cond_wait(&done_cond, &lock);
    pthread_mutex_unlock(&lock);
    if (result)
        *result = me.w;
    return me.w.err;
}

/* ---- the scrub ---- */

struct scrubbing {
    struct scrub_wait w;
    int finished;
};

ef_unused static void scrubbed(struct scrub_wait *w)
{
    struct scrubbing *me = (struct scrubbing *)(void *)w;
    pthread_mutex_lock(&lock);
    me->finished = 1;
    pthread_cond_broadcast(&done_cond);
    pthread_mutex_unlock(&lock);
}

ef_unused static struct scrub_wait scrub_now(void)
{
    struct scrubbing me = {.w = {.done = scrubbed}};
    scrub_demand(engine_scrub(e), &me.w);
    pthread_mutex_lock(&lock);
    while (!me.finished)
        pthread_cond_wait(&done_cond, &lock);
    pthread_mutex_unlock(&lock);
    return me.w;
}

#endif
