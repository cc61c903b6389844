/* One store lost or damaged while the engine runs: made anew beside traffic, by itself or when asked. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "rebuild_fixture.h"
#include "sweep.h"

static void every_store_is_rebuilt_when_asked(void **state)
{
    struct rebuild_wait w;
    (void)state;
    fill_and_trim();
    fill(41, 43);
    apply_all();
    for (unsigned round = 0; round < 2; round++)
        for (unsigned s = 0; s <= 2; s++) {
            assert_int_equal(rebuild(s, &w), ERR_OK);
            assert_true(w.from_lsn && w.lsn > w.from_lsn && w.entries);
        }
    assert_filled(43);
    fill(44, 44);
    assert_filled(44);
    wait_for_one_directory("base");
    wait_for_one_directory("shard-0");
    shell("test -d %s/shard-0.2 -a -d %s/base.2", dir, dir);
    checkpoint();
    assert_true(report.clean && report.replayed == 0 && report.stores_lost == 0);
    assert_filled(44);
    assert_int_equal(rebuild(1, NULL), ERR_OK);
    assert_filled(44);
    make_snapshot();
}

/* Deletions that lie behind the snapshot are replayed as well. */
static void what_was_destroyed_stays_so(void **state)
{
    (void)state;
    fill(1, 3);
    make_snapshot();
    for (unsigned key = 0; key < KEYS; key += 3)
        destroy(key);
    apply_all();
    assert_int_equal(rebuild(1, NULL), ERR_OK);
    assert_int_equal(rebuild(2, NULL), ERR_OK);
    for (unsigned key = 0; key < KEYS; key++)
        assert_int_equal(read_value(key, 3, 1), key % 3 ? ERR_OK : ERR_NOTFOUND);
    checkpoint();
    for (unsigned key = 0; key < KEYS; key++)
        assert_int_equal(read_value(key, 3, 1), key % 3 ? ERR_OK : ERR_NOTFOUND);
}

static void without_snapshots_the_log_is_enough(void **state)
{
    struct rebuild_wait w;
    (void)state;
    fill(1, 7);
    apply_all();
    assert_int_equal(rebuild(vault_of(0)->store, &w), ERR_OK);
    assert_true(w.from_lsn == 0 && w.records > KEYS);
    assert_filled(7);
}

/* Neither snapshot nor log: it says so, and what serves goes on serving. */
static void what_nothing_reaches_stays_as_it_is(void **state)
{
    struct rebuild_wait w;
    (void)state;
    fill_and_trim();
    close_engine();
    shell("rm %s/snapshots/*", dir);
    open_engine();
    assert_int_equal(rebuild(1, &w), ERR_CORRUPT);
    assert_non_null(strstr(w.why, "no snapshot verifies"));
    assert_int_equal(read_value(0, 40, 1), ERR_OK);
    shell("test ! -e %s/shard-0.1 -a ! -e %s/shard-0.1.new", dir, dir);
}

/* A block of the newest snapshot that does not verify: the one before, and more of the log. */
static void a_damaged_block_sends_it_to_an_older_snapshot(void **state)
{
    struct rebuild_wait w;
    struct snapshots_info i;
    (void)state;
    fill_and_trim();
    snapshots_info(engine_snapshots(e), &i);
    close_engine();
    shell("f=$(ls %s/snapshots/*.snap | tail -1); printf XXXX | dd of=$f bs=1 seek=600 conv=notrunc 2>/dev/null", dir);
    open_engine();
    assert_int_equal(rebuild(1, &w), ERR_OK);
    assert_true(w.from_lsn && w.from_lsn < i.lsn);
    assert_true(was_said("has damage: it is passed over"));
    assert_filled(40);
}

/* ---- from elsewhere ---- */

/* Of the snapshots here none is whole any more, nor can one be made: the store of the odd ones is out. */
static void only_elsewhere_is_whole(void)
{
    fill_and_trim();
    fill(41, 43);
    put_out(vault_of(1)->store);
    shell("cp -r %s/snapshots %s.aside", dir, dir);
    shell("for f in %s/snapshots/*.snap; do for at in $(seq 300 2000 20000); do "
          "printf XXXX | dd of=$f bs=1 seek=$at conv=notrunc 2>/dev/null; done; done",
          dir);
    fetches = 0;
}

static enum err fetch_nothing(void *arg, const uint8_t cell_id[16], uint64_t from, uint64_t to,
                              int (*fits)(void *fits_arg, const struct snapfile_header *h), void *fits_arg)
{
    (void)arg, (void)cell_id, (void)from, (void)to, (void)fits, (void)fits_arg;
    fetches++;
    return ERR_IO;
}

static int setup_aside(void **state)
{
    fetch = fetch_aside;
    return setup(state);
}

static int setup_nothing(void **state)
{
    fetch = fetch_nothing;
    return setup(state);
}

static char hold[64]; /* while this file is there nothing is filled */

static int setup_held(void **state)
{
    snprintf(hold, sizeof hold, "/tmp/coffer-rebuild-%d.hold", (int)getpid());
    setenv("COFFER_TEST_REBUILD_HOLD", hold, 1);
    return setup_aside(state);
}

static int teardown_aside(void **state)
{
    shell("rm -f %s", hold);
    int rc = teardown(state); /* from then on nobody fetches */
    fetch = NULL;
    shell("rm -rf %s.aside", dir);
    unsetenv("COFFER_TEST_REBUILD_HOLD");
    return rc;
}

static void one_from_elsewhere_will_do(void **state)
{
    struct rebuild_wait w;
    (void)state;
    only_elsewhere_is_whole();
    assert_int_equal(rebuild(vault_of(1)->store, &w), ERR_OK);
    assert_true(fetches == 1 && w.from_lsn);
    assert_int_equal(rebuild(vault_of(0)->store, &w), ERR_OK); /* it is here now */
    assert_int_equal(fetches, 1);
    assert_filled(43);
    make_snapshot();
    checkpoint();
    assert_filled(43);
}

static void *ask_main(void *store)
{
    check(rebuild((unsigned)(uintptr_t)store, NULL) == ERR_OK, "rebuilt from elsewhere");
    return NULL;
}

/* Before the store is filled. */
static void reads_go_to_what_was_fetched(void **state)
{
    pthread_t t;
    (void)state;
    only_elsewhere_is_whole();
    unsigned store = vault_of(1)->store;
    assert_int_equal(read_value(1, 43, 1), ERR_CORRUPT);
    shell("touch %s", hold);
    assert_int_equal(pthread_create(&t, NULL, ask_main, (void *)(uintptr_t)store), 0);
    while (read_value(1, 43, 1) != ERR_OK)
        nap();
    assert_false(engine_store_serves(e, store));
    assert_filled(43); /* both vaults, old values too */
    shell("rm %s", hold);
    pthread_join(t, NULL);
    assert_true(engine_store_serves(e, store));
    assert_filled(43);
}

static void elsewhere_there_is_none(void **state)
{
    struct rebuild_wait w;
    (void)state;
    only_elsewhere_is_whole();
    assert_int_equal(rebuild(vault_of(1)->store, &w), ERR_CORRUPT);
    assert_true(fetches >= 1 && strstr(w.why, "no snapshot verifies")); /* the snapshots ask, too */
    assert_false(engine_store_serves(e, vault_of(1)->store));
    assert_int_equal(read_value(0, 43, 1), ERR_OK);
}

/* ---- under load ---- */

static void files_overwritten_under_load(void **state)
{
    (void)state;
    load_begin(1);
    make_snapshot();
    checkpoint(); /* into tables, and nothing in memory */
    damage(shard_of(1));
    load_go();
    wait_for_rebuild();
    let_it_run(200);
    load_end();
    assert_int_equal(rebuilds(), 1);
    assert_all_as_written();
}

/* The store fails with what the applier had for it; that comes back from the log. */
static void files_deleted_under_load(void **state)
{
    (void)state;
    load_begin(0);
    make_snapshot();
    checkpoint();
    load_go();
    let_it_run(100);
    shell("rm -rf %s/%s", dir, shard_of(0));
    apply_all(); /* else it has nothing to checkpoint */
    apply_want_checkpoint(e->apply);
    wait_for_rebuild();
    let_it_run(200);
    load_end();
    assert_all_as_written();
}

static void healthy_shards_under_load(void **state)
{
    (void)state;
    load_begin(2);
    load_go();
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(rebuild(i % 3, NULL), ERR_OK);
    load_end();
    assert_int_equal(atomic_load(&load.refused), 0);
    assert_all_as_written();
}

#define ONCE_THREADS 4
#define ONCE_KEYS 6000

struct once {
    _Atomic unsigned *ready;
    unsigned first;
    pthread_t thread;
};

/* Each key once, so that no later write hides one that was lost, and a round of the applier for each. */
static void *once_main(void *arg)
{
    struct once *o = arg;
    for (unsigned n = 0; n < ONCE_KEYS; n++) {
        check(set(o->first + n, 1) == ERR_OK, "written once");
        apply_demand(e->apply, engine_commit_lsn(e));
    }
    atomic_fetch_add(o->ready, 1);
    return NULL;
}

/* What the applier writes into the old store between the last look at the log and the swap. */
static void rounds_until_the_swap_are_not_lost(void **state)
{
    _Atomic unsigned ready = 0;
    struct once o[ONCE_THREADS];
    (void)state;
    fill(1, 1);
    for (unsigned i = 0; i < ONCE_THREADS; i++) {
        o[i] = (struct once){.ready = &ready, .first = (i + 1) * 100000};
        assert_int_equal(pthread_create(&o[i].thread, NULL, once_main, &o[i]), 0);
    }
    for (unsigned i = 0; atomic_load(&ready) < ONCE_THREADS; i++)
        assert_int_equal(rebuild(1 + i % 2, NULL), ERR_OK);
    for (unsigned i = 0; i < ONCE_THREADS; i++)
        pthread_join(o[i].thread, NULL);
    apply_all();
    hot_drop_clean(e->hot, UINT16_MAX);
    for (unsigned i = 0; i < ONCE_THREADS; i++)
        for (unsigned n = 0; n < ONCE_KEYS; n++)
            assert_int_equal(read_value(o[i].first + n, 1, 1), ERR_OK);
}

static void beside_snapshots_and_trimming(void **state)
{
    uint64_t lsn;
    (void)state;
    load_begin(2);
    load_go();
    for (unsigned i = 0; i < 12; i++) {
        let_it_run(300);
        struct asking me = {.w = {.done = asked, .store = i % 3}};
        rebuild_demand(engine_rebuild(e), &me.w);
        assert_int_equal(demand(&lsn), ERR_OK);
        pthread_mutex_lock(&lock);
        while (!me.finished)
            pthread_cond_wait(&done_cond, &lock);
        pthread_mutex_unlock(&lock);
        assert_int_equal(me.w.err, ERR_OK);
    }
    load_end();
    assert_true(first_lsn() > 1);
    assert_int_equal(atomic_load(&load.refused), 0);
    assert_all_as_written();
}

/* Damaged again right after it was rebuilt by itself: that would go on for ever. It waits, or is asked. */
static void it_is_not_rebuilt_in_a_loop(void **state)
{
    (void)state;
    fill(1, 3);
    checkpoint();
    damage(shard_of(1));
    for (unsigned key = 1; key < KEYS; key += 2) { /* the first of them, unless the keeper met it before */
        enum err err = read_value(key, 3, 1);
        assert_true(err == ERR_OK || err == ERR_CORRUPT);
    }
    wait_for_rebuild();
    assert_filled(3);
    put_out(vault_of(1)->store);
    for (unsigned i = 0; i < 50; i++) {
        assert_int_equal(read_value(1, 3, 1), ERR_CORRUPT);
        rebuild_damaged(engine_rebuild(e), vault_of(1)->store);
        nap();
    }
    assert_int_equal(rebuilds(), 1);
    assert_int_equal(rebuild(vault_of(1)->store, NULL), ERR_OK);
    assert_filled(3);
}

/* ---- faults and crashes ---- */

/* Rebuilds with the n-th operation failing, for every n. Returns how many failed. */
static unsigned fail_every(enum fault_kind kind, int out)
{
    unsigned store = vault_of(0)->store, failed = 0;
    int fired = 1;
    for (unsigned n = 1; fired; n += SWEEP_STEP) {
        if (out)
            put_out(store);
        fault_arm(kind, n, EIO);
        enum err err = rebuild(store, NULL);
        fired = fault_fired(kind);
        fault_disarm(kind);
        failed += err != ERR_OK;
        enum err got = read_value(2 * n % KEYS, 8, 1);
        assert_true(got == ERR_OK || (err && out && (got == ERR_CORRUPT || got == ERR_LOADING)));
        assert_int_equal(read_value((2 * n + 1) % KEYS, 8, 1), ERR_OK);
    }
    return failed;
}

/* The n-th allocation or file operation fails: a healthy store serves on, one that is out stays so, and the next
 * rebuild is as if nothing had been. */
static void faults_during_a_rebuild(void **state)
{
    (void)state;
    fill(1, 6);
    make_snapshot();
    fill(7, 8);
    apply_all();
    for (int out = 0; out < 2; out++) {
        assert_true(fail_every(FAULT_MEM, out) * SWEEP_STEP > 5);
        assert_true(fail_every(FAULT_FILE, out) * SWEEP_STEP > 5);
    }
    assert_int_equal(rebuild(vault_of(0)->store, NULL), ERR_OK);
    assert_filled(8);
    checkpoint();
    assert_filled(8);
    wait_for_one_directory("shard-0");
    wait_for_one_directory("shard-1");
}

#define COPIES 30

static void *rebuild_main(void *arg)
{
    _Atomic int *stop = arg;
    for (unsigned i = 0; !atomic_load(stop); i++)
        check(rebuild(i % 3, NULL) == ERR_OK, "rebuilt while copies are made");
    return NULL;
}

/* The process dies at some moment of a rebuild: what is on the disk then opens, with everything in it. */
static void crash_copies_open(void **state)
{
    _Atomic int stop = 0;
    pthread_t t;
    (void)state;
    fill(1, 6);
    make_snapshot();
    fill(7, 9);
    assert_int_equal(pthread_create(&t, NULL, rebuild_main, &stop), 0);
    for (unsigned i = 0; i < COPIES; i++)
        shell("mkdir %s.%u; cp -r %s/. %s.%u 2>/dev/null; rm -f %s.%u/lock", dir, i, dir, dir, i, dir, i);
    atomic_store(&stop, 1);
    pthread_join(t, NULL);
    close_engine();
    for (unsigned i = 0; i < COPIES; i++) {
        setenv("COFFER_TEST_BOOT_ID", i % 2 ? "another-boot" : "this-boot", 1);
        shell("rm -rf %s && mv %s.%u %s", dir, dir, i, dir);
        open_engine();
        assert_filled(9);
        wait_for_filling(); /* a copy may have caught a store in the middle of its rename */
        shell("! ls %s | grep -q new", dir);
        assert_int_equal(rebuild(i % 3, NULL), ERR_OK);
        assert_filled(9);
        close_engine();
    }
    open_engine();
}

/* What crashes leave: half-made ones and those that were replaced go at the start; the newest whole one stays. */
static void left_directories_are_tidied(void **state)
{
    (void)state;
    fill(1, 3);
    assert_int_equal(rebuild(1, NULL), ERR_OK);
    wait_for_one_directory("shard-0");
    close_engine();
    shell("cd %s && cp -r shard-0.1 shard-0 && cp -r shard-0.1 shard-0.2.new && mkdir base.7.new shard-1.x shard-9",
          dir);
    open_engine();
    assert_filled(3);
    shell("cd %s && test \"$(echo $(ls -d base* shard-*))\" = 'base shard-0.1 shard-1 shard-1.x shard-9'", dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_store_is_rebuilt_when_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_destroyed_stays_so, setup, teardown),
        cmocka_unit_test_setup_teardown(without_snapshots_the_log_is_enough, setup, teardown),
        cmocka_unit_test_setup_teardown(what_nothing_reaches_stays_as_it_is, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_block_sends_it_to_an_older_snapshot, setup, teardown),
        cmocka_unit_test_setup_teardown(one_from_elsewhere_will_do, setup_aside, teardown_aside),
        cmocka_unit_test_setup_teardown(reads_go_to_what_was_fetched, setup_held, teardown_aside),
        cmocka_unit_test_setup_teardown(elsewhere_there_is_none, setup_nothing, teardown_aside),
        cmocka_unit_test_setup_teardown(files_overwritten_under_load, setup, teardown),
        cmocka_unit_test_setup_teardown(files_deleted_under_load, setup, teardown),
        cmocka_unit_test_setup_teardown(healthy_shards_under_load, setup, teardown),
        cmocka_unit_test_setup_teardown(rounds_until_the_swap_are_not_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(beside_snapshots_and_trimming, setup, teardown),
        cmocka_unit_test_setup_teardown(it_is_not_rebuilt_in_a_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(faults_during_a_rebuild, setup, teardown),
        cmocka_unit_test_setup_teardown(crash_copies_open, setup, teardown),
        cmocka_unit_test_setup_teardown(left_directories_are_tidied, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
