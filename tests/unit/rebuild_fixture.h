/* rebuild_fixture.h - for the tests of stores that are lost or damaged: damage, waiting for rebuilds, and load from
 * threads that know what must come. */
#ifndef COFFER_TESTS_REBUILD_FIXTURE_H
#define COFFER_TESTS_REBUILD_FIXTURE_H

#include "engine_keys.h"

/* ---- rebuilds ---- */

ef_unused static unsigned rebuilds(void)
{
    struct rebuild_info i;
    rebuild_info(engine_rebuild(e), &i);
    return i.state == REBUILD_IDLE ? i.done : 0;
}

ef_unused static void wait_for_rebuild(void)
{
    for (unsigned i = 0; i < 60000 && !rebuilds(); i++)
        nap();
    assert_int_equal(rebuilds(), 1);
}

/* The old store's directory goes when its last user is through. */
ef_unused static void wait_for_one_directory(const char *name)
{
    char command[256];
    snprintf(command, sizeof command, "test \"$(ls -d %s/%s* | wc -l)\" = 1", dir, name);
    for (unsigned i = 0; i < 5000; i++) {
        if (system(command) == 0)
            return;
        nap();
    }
    fail_msg("more than one %s", name);
}

/* Tables and logs overwritten in place, as many bytes as they had. */
ef_unused static void damage(const char *name)
{
    shell("for f in %s/%s*/*.ldb %s/%s*/*.log; do [ -s $f ] && head -c $(stat -c %%s $f) /dev/urandom | "
          "dd of=$f conv=notrunc 2>/dev/null; done; true",
          dir, name, dir, name);
}

ef_unused static const char *shard_of(unsigned key)
{
    return vault_of(key)->store == 1 ? "shard-0" : "shard-1";
}

/* ---- under load ---- */

#define LOAD_KEYS 60
#define LOAD_THREADS 3

static struct load {
    _Atomic int stop;
    _Atomic unsigned newest[LOAD_KEYS];
    _Atomic unsigned refused, answered;
    unsigned victim;            /* keys of this parity may be answered CORRUPT; 2: none */
    _Atomic int lists_may_wait; /* listings may be answered LOADING */
} load;

ef_unused static int visit(void *arg, struct bytes path, const struct secret_head *head)
{
    (void)path;
    (void)head;
    ++*(unsigned *)arg;
    return 1;
}

/* Names of a vault through an iterator of its store; ERR_AGAIN counts as answered: the applier is behind. */
ef_unused static enum err list(unsigned key)
{
    struct vault *v = vault_of(key);
    unsigned n = 0;
    uint64_t lsn;
    struct list_query q = {.max = 1000, .scan_max = 1000, .visit = visit, .arg = &n};
    struct buf last;
    int more;
    if (engine_list_ready(e, v, &lsn))
        return ERR_OK;
    buf_init(&last, 4096);
    enum err err = secret_list(e, v, &q, &last, &more);
    buf_fini(&last);
    check(err || n == LOAD_KEYS / 2, "all names are listed");
    return err;
}

ef_unused static void load_one(unsigned key)
{
    unsigned newest = atomic_load(&load.newest[key]);
    enum err err = set(key, newest + 1);
    if (err == ERR_OK)
        atomic_store(&load.newest[key], ++newest);
    enum err got = newest ? read_value(key, newest, 1) : ERR_OK;
    enum err old = newest > 2 ? read_value(key, newest - 2, 0) : ERR_OK;
    enum err listed = key % 16 < 2 ? list(key) : ERR_OK;
    if (listed == ERR_LOADING && atomic_load(&load.lists_may_wait))
        listed = ERR_OK;
    if (key % 2 != load.victim)
        check(!err && !got && !old && !listed, "another shard's vault is answered all the while");
    atomic_fetch_add(err || got || old || listed ? &load.refused : &load.answered, 1);
}

ef_unused static void *load_main(void *arg)
{
    unsigned first = (unsigned)(uintptr_t)arg;
    while (!atomic_load(&load.stop))
        for (unsigned key = first; key < LOAD_KEYS; key += LOAD_THREADS)
            load_one(key);
    return NULL;
}

static pthread_t load_thread[LOAD_THREADS];

ef_unused static void load_begin(unsigned victim)
{
    memset(&load, 0, sizeof load);
    load.victim = victim;
    vault_of(0);
    vault_of(1);
    for (unsigned key = 0; key < LOAD_KEYS; key++) {
        for (unsigned version = 1; version <= 4; version++)
            assert_int_equal(set(key, version), ERR_OK);
        atomic_store(&load.newest[key], 4);
    }
}

ef_unused static void load_go(void)
{
    for (unsigned i = 0; i < LOAD_THREADS; i++)
        assert_int_equal(pthread_create(&load_thread[i], NULL, load_main, (void *)(uintptr_t)i), 0);
}

ef_unused static void load_end(void)
{
    atomic_store(&load.stop, 1);
    for (unsigned i = 0; i < LOAD_THREADS; i++)
        pthread_join(load_thread[i], NULL);
}

ef_unused static void assert_load(void)
{
    for (unsigned key = 0; key < LOAD_KEYS; key++) {
        unsigned newest = atomic_load(&load.newest[key]);
        assert_int_equal(read_value(key, newest, 1), ERR_OK);
        for (unsigned version = newest > 5 ? newest - 4 : 1; version <= newest; version++)
            assert_int_equal(read_value(key, version, 0), ERR_OK);
    }
}

/* A while of load, measured in what was answered. */
ef_unused static void let_it_run(unsigned answers)
{
    unsigned from = atomic_load(&load.answered);
    while (atomic_load(&load.answered) - from < answers)
        nap();
}

ef_unused static void assert_all_as_written(void)
{
    assert_load();
    for (unsigned s = 0; s <= 2; s++)
        assert_true(engine_store_serves(e, s));
    checkpoint();
    assert_load();
}

/* As the applier does, but that nobody wants it back: only what is asked for is to happen. */
ef_unused static void put_out(unsigned store)
{
    apply_all();
    atomic_store(&e->store_failed[store], 1);
    hot_drop_clean(e->hot, (uint16_t)store);
}

#endif
