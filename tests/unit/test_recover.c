/* A start that finds stores lost serves before it has filled them: from a snapshot in place and the log behind it. The
 * filling is held up by a file, so what is answered cannot come from a store. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "engine/overlay.h"
#include "rebuild_fixture.h"
#include "sweep.h"

static char hold[80];

static void hold_filling(void)
{
    snprintf(hold, sizeof hold, "%s.hold", dir);
    setenv("COFFER_TEST_REBUILD_HOLD", hold, 1);
    shell("touch %s", hold);
}

static void let_it_fill(void)
{
    shell("rm -f %s", hold);
    wait_for_filling();
}

static int end(void **state)
{
    if (hold[0])
        shell("rm -f %s", hold);
    unsetenv("COFFER_TEST_REBUILD_HOLD");
    return teardown(state);
}

/* Where readers look before the stores begins at this LSN; 0: there is no such thing. */
static uint64_t covered_from(void)
{
    struct overlay *o = engine_overlay_take(e);
    uint64_t lsn = o ? overlay_base_lsn(o) : 0;
    overlay_unref(o);
    return lsn;
}

static unsigned stores_left(void)
{
    struct engine_recovery r;
    engine_recovery(e, &r);
    return r.stores_left;
}

/* Closes, deletes, opens. */
static void lose(const char *stores)
{
    close_engine();
    shell("cd %s && rm -rf %s", dir, stores);
    open_engine();
}

#define ALL "base* shard-*"

static uint64_t newest_snapshot(void)
{
    struct snapshots_info i;
    snapshots_info(engine_snapshots(e), &i);
    return i.lsn;
}

static enum err read_absent(unsigned key)
{
    struct secret_view view;
    char path[16];
    snprintf(path, sizeof path, "p/%u", key);
    enum err err = secret_read(e, vault_of(key), bytes_str(path), 0, bytes_of(NULL, 0), &view);
    if (err == ERR_OK)
        secret_view_release(&view);
    return err;
}

static void everything_is_read_before_it_is_filled(void **state)
{
    struct engine_recovery r;
    (void)state;
    fill_and_trim();
    fill(41, 43); /* behind the snapshot */
    for (unsigned key = 0; key < KEYS; key += 5)
        destroy(key);
    vault_named("new");
    uint64_t last = engine_commit_lsn(e);
    hold_filling();
    lose(ALL);
    assert_true(report.tier == 1 && report.stores_lost == 3);
    assert_int_equal(report.snapshot_lsn, newest_snapshot());
    assert_true(report.snapshot_lsn && report.snapshot_lsn < last);
    assert_non_null(vaults_find(engine_vaults(e), bytes_str("new")));
    for (int round = 0; round < 2; round++) {
        for (unsigned key = 0; key < KEYS; key++)
            for (unsigned version = 39; version <= 43; version++)
                assert_int_equal(read_value(key, version, 0), key % 5 ? ERR_OK : ERR_NOTFOUND);
        assert_int_equal(read_absent(4000), ERR_NOTFOUND);
        assert_int_equal(list(1), ERR_LOADING);
        hot_drop_clean(e->hot, UINT16_MAX);
    }
    engine_recovery(e, &r);
    assert_true(r.stores_left == 3 && r.total > 0 && r.done < r.total && !r.filled_ms);
    let_it_fill();
    engine_recovery(e, &r);
    assert_true(r.stores_left == 0 && r.done == r.total && r.filled_ms >= r.ready_ms);
    while (covered_from()) /* let go once the last store is known to be filled */
        nap();
    hot_drop_clean(e->hot, UINT16_MAX);
    for (unsigned key = 0; key < KEYS; key++)
        assert_int_equal(read_value(key, 43, 1), key % 5 ? ERR_OK : ERR_NOTFOUND);
    assert_true(was_said("All stores are there again"));
    checkpoint();
    assert_true(report.tier == 0 && report.clean);
}

/* Also such that forget what the hot table held, and that do not come from a snapshot at all. */
static void writes_while_it_is_not_filled(void **state)
{
    (void)state;
    fill_and_trim();
    hold_filling();
    lose(ALL);
    for (unsigned version = 41; version <= 50; version++) {
        fill(version, version);
        if (version % 3 == 0) {
            apply_all();
            hot_drop_clean(e->hot, UINT16_MAX);
        }
        for (unsigned key = 0; key < KEYS; key++)
            assert_int_equal(read_value(key, version, 1), ERR_OK);
    }
    for (unsigned key = 0; key < KEYS; key += 7)
        destroy(key);
    assert_int_equal(set(1000, 1), ERR_OK);
    vault_named("during");
    apply_all();
    hot_drop_clean(e->hot, UINT16_MAX);
    for (unsigned key = 0; key < KEYS; key++)
        assert_int_equal(read_value(key, 50, 1), key % 7 ? ERR_OK : ERR_NOTFOUND);
    assert_int_equal(read_value(1000, 1, 1), ERR_OK);
    assert_int_equal(stores_left(), 3);
    let_it_fill();
    for (int round = 0; round < 2; round++) {
        hot_drop_clean(e->hot, UINT16_MAX);
        for (unsigned key = 0; key < KEYS; key++)
            assert_int_equal(read_value(key, 50, 1), key % 7 ? ERR_OK : ERR_NOTFOUND);
        assert_int_equal(read_value(1000, 1, 1), ERR_OK);
        assert_non_null(vaults_find(engine_vaults(e), bytes_str("during")));
        checkpoint();
    }
}

/* The others are there at once, listings too. */
static void one_store_is_lost(void **state)
{
    (void)state;
    fill_and_trim();
    fill(41, 41);
    const char *victim = vault_of(0)->store == 1 ? "shard-0*" : "shard-1*";
    hold_filling();
    lose(victim);
    assert_int_equal(report.stores_lost, 1);
    assert_filled(41);
    assert_int_equal(list(0), ERR_LOADING);
    assert_true(engine_store_serves(e, vault_of(1)->store) && !engine_store_serves(e, vault_of(0)->store));
    fill(42, 42);
    assert_filled(42);
    let_it_fill();
    assert_filled(42);
}

static void a_damaged_store_is_as_good_as_lost(void **state)
{
    (void)state;
    fill_and_trim();
    fill(41, 41);
    hold_filling();
    close_engine();
    shell("cd %s && for f in shard-0*/MANIFEST*; do printf XXXXXXXX | dd of=$f bs=1 seek=9 conv=notrunc 2>/dev/null; "
          "done",
          dir);
    open_engine();
    assert_int_equal(report.stores_lost, 1);
    assert_filled(41);
    let_it_fill();
    assert_filled(41);
}

static void without_snapshots_the_log_stands_alone(void **state)
{
    (void)state;
    fill(1, 7);
    destroy(3);
    hold_filling();
    lose(ALL);
    assert_true(report.tier == 1 && report.snapshot_lsn == 0 && report.stores_lost == 3);
    for (int round = 0; round < 2; round++) {
        for (unsigned key = 0; key < KEYS; key++)
            assert_int_equal(read_value(key, 7, 1), key == 3 ? ERR_NOTFOUND : ERR_OK);
        assert_int_equal(read_absent(4000), ERR_NOTFOUND);
        fill(8, 7); /* nothing */
        if (!round)
            let_it_fill();
    }
}

/* Killed while it is being filled, written to meanwhile, three times; the last of them in another boot. */
static void killed_while_it_is_filled(void **state)
{
    (void)state;
    fill_and_trim();
    hold_filling();
    lose(ALL);
    for (unsigned round = 1; round <= 3; round++) {
        fill(40 + round, 40 + round);
        if (round == 2)
            apply_all();
        shell("cp -r %s %s.crash && rm %s.crash/lock", dir, dir, dir);
        close_engine();
        shell("rm -rf %s && mv %s.crash %s", dir, dir, dir);
        setenv("COFFER_TEST_BOOT_ID", round == 3 ? "another-boot" : "this-boot", 1);
        open_engine();
        assert_int_equal(report.stores_lost, 3);
        assert_filled(40 + round);
    }
    let_it_fill();
    assert_filled(43);
}

/* ---- damage ---- */

#define MANY 400 /* some blocks of them */

/* Four versions of each, all of them in a snapshot, the log trimmed. */
static void fill_many(void)
{
    for (unsigned version = 1; version <= 4; version++) {
        for (unsigned key = 0; key < MANY; key++)
            assert_int_equal(set(key, version), ERR_OK);
        checkpoint();
        make_snapshot();
    }
    assert_true(first_lsn() > MANY);
}

/* At so many hundredths of the newest file. */
static void damage_newest_snapshot(unsigned where)
{
    shell("f=$(ls %s/snapshots/*.snap | tail -1); printf XXXXXXXX | "
          "dd of=$f bs=1 seek=$(($(stat -c %%s $f) * %u / 100)) conv=notrunc 2>/dev/null",
          dir, where);
}

static enum err settled(enum err (*read)(unsigned, unsigned, int), unsigned key, unsigned version)
{
    enum err err;
    while ((err = read(key, version, 1)) == ERR_LOADING)
        nap();
    return err;
}

/* A read meets it; an older snapshot and more of the log take its place, while nothing is being filled yet. */
static void a_damaged_block_sends_reads_to_an_older_snapshot(void **state)
{
    (void)state;
    fill_many();
    close_engine();
    damage_newest_snapshot(60);
    hold_filling();
    shell("rm -rf %s/base* %s/shard-*", dir, dir);
    open_engine();
    uint64_t from = report.snapshot_lsn;
    assert_int_equal(stores_left(), 3);
    for (unsigned key = 0; key < MANY; key++)
        assert_int_equal(settled(read_value, key, 4), ERR_OK);
    assert_true(from > covered_from());
    assert_true(was_said("has damage: reads go to LSN"));
    for (unsigned key = 0; key < MANY; key++)
        assert_int_equal(set(key, 5), ERR_OK);
    let_it_fill();
    for (unsigned key = 0; key < MANY; key++)
        assert_int_equal(read_value(key, 5, 1), ERR_OK);
}

/* It is the only one, and the log has not enough: what is in the block is CORRUPT, all else is served and written. */
static void a_damaged_block_and_nothing_older(void **state)
{
    unsigned corrupt = 0;
    (void)state;
    fill_many();
    close_engine();
    damage_newest_snapshot(60);
    shell("cd %s/snapshots && ls *.snap | head -n -1 | xargs rm -f", dir);
    shell("rm -rf %s/base* %s/shard-*", dir, dir);
    open_engine();
    for (unsigned key = 0; key < MANY; key++) {
        enum err err = settled(read_value, key, 4);
        assert_true(err == ERR_OK || err == ERR_CORRUPT);
        corrupt += err == ERR_CORRUPT;
    }
    assert_true(corrupt > 0 && corrupt < MANY);
    for (unsigned key = 0, newer = 0; key < MANY; key++) {
        enum err err = set(key, 5);
        assert_true(err == ERR_OK || err == ERR_CORRUPT);
        newer += err == ERR_OK;
        assert_true(err || newer);
        assert_int_equal(settled(read_value, key, 5), err);
    }
}

static int vaults_are_gone(void)
{
    return !vaults_find(engine_vaults(e), bytes_str("even"));
}

/* The vaults lie in the first block. */
static void a_damaged_block_with_the_vaults_in_it(void **state)
{
    (void)state;
    fill_and_trim();
    close_engine();
    shell("printf XXXX | dd of=$(ls %s/snapshots/*.snap | tail -1) bs=1 seek=200 conv=notrunc 2>/dev/null", dir);
    hold_filling();
    shell("rm -rf %s/base* %s/shard-*", dir, dir);
    open_engine();
    assert_false(vaults_are_gone());
    assert_true(was_said("it is passed over"));
    assert_filled(40);
    let_it_fill();
    assert_filled(40);
}

/* A flipped bit in a segment that the start did not read: found beside traffic, said, and left behind. */
static void damage_in_the_log_is_found_after_the_start(void **state)
{
    (void)state;
    fill(1, 14);
    close_engine();
    shell("set -- %s/wal/*.wbl; test $# -gt 3; printf XXXX | dd of=$2 bs=1 seek=30000 conv=notrunc 2>/dev/null", dir);
    open_engine();
    assert_true(report.tier == 0 && report.wal.damaged_lsn == 0);
    for (unsigned i = 0; i < 30000 && first_lsn() == 1; i++)
        nap();
    assert_true(first_lsn() > 1);
    assert_true(was_said("the log has damage from LSN"));
    fill(15, 15);
    for (unsigned key = 0; key < KEYS; key++)
        assert_int_equal(read_value(key, 15, 1), ERR_OK);
    checkpoint();
    for (unsigned key = 0; key < KEYS; key++)
        assert_int_equal(read_value(key, 15, 1), ERR_OK);
}

/* ---- a store that fails while the server runs ---- */

/* Its files go; once the rebuild has begun, and while it is held up, nothing is refused any more. */
static void a_failed_store_is_read_from_the_snapshot(void **state)
{
    (void)state;
    hold_filling();
    checkpoint();
    fill(1, 6);
    make_snapshot();
    fill(7, 8);
    checkpoint();
    unsigned store = vault_of(0)->store;
    shell("rm -rf %s/%s", dir, shard_of(0));
    fill(9, 9);
    apply_all();
    apply_want_checkpoint(e->apply);
    struct overlay *o = NULL;
    for (unsigned i = 0; i < 30000 && !o; i++) {
        nap();
        o = engine_overlay_take(e);
    }
    assert_non_null(o);
    overlay_unref(o);
    assert_false(engine_store_serves(e, store));
    hot_drop_clean(e->hot, UINT16_MAX);
    assert_filled(9);
    fill(10, 10);
    apply_all();
    hot_drop_clean(e->hot, UINT16_MAX);
    assert_filled(10);
    shell("rm -f %s", hold);
    wait_for_rebuild();
    assert_filled(10);
    checkpoint();
    assert_filled(10);
}

/* ---- under load ---- */

struct applying {
    unsigned key;
    _Atomic int *stop;
    _Atomic unsigned writes;
    pthread_t thread;
};

/* So that the table has their heads again. */
static void let_them_write(struct applying *a)
{
    for (unsigned i = 0; i < 2; i++)
        for (unsigned from = atomic_load(&a[i].writes); atomic_load(&a[i].writes) < from + 3;)
            nap();
}

/* Overwrites a key, whose head the table has, so that rounds go on while nothing stands for its store; as soon as
 * something does the table forgets it. */
static void *applying_main(void *arg)
{
    struct applying *a = arg;
    unsigned version = 2;
    while (!atomic_load(a->stop)) {
        enum err err = set(a->key, version + 1);
        if (err == ERR_CORRUPT) /* forgotten by the other thread, and put out since */
            continue;
        check(err == ERR_OK, "written");
        version++;
        atomic_fetch_add(&a->writes, 1);
        (void)!apply_wait_lsn(e->apply, engine_commit_lsn(e));
        struct overlay *o = NULL; /* it may come right now: no later round is to help it then */
        for (unsigned i = 0; i < 1000 && !o; i++)
            o = engine_overlay_take(e);
        if (!o)
            continue;
        overlay_unref(o);
        hot_drop_clean(e->hot, UINT16_MAX);
        do
            err = read_value(a->key, version, 1);
        while (err == ERR_CORRUPT); /* let go of already, and put out again */
        check(err == ERR_OK, "what was applied is there, whoever stands for the store");
    }
    return NULL;
}

/* What the applier finishes between the last look at the log and the moment from which it brings the overlay along. */
static void what_is_applied_while_the_overlay_is_made_is_in_it(void **state)
{
    _Atomic int stop = 0;
    struct applying a[2];
    unsigned store = vault_of(0)->store;
    (void)state;
    vault_of(1);
    fill(1, 2);
    make_snapshot();
    for (unsigned i = 0; i < 2; i++) {
        a[i] = (struct applying){.key = 2 * i, .stop = &stop};
        assert_int_equal(pthread_create(&a[i].thread, NULL, applying_main, &a[i]), 0);
    }
    for (unsigned i = 0; i < 30; i++) {
        let_them_write(a);
        atomic_store(&e->store_failed[store], 1);
        assert_int_equal(rebuild(store, NULL), ERR_OK);
    }
    atomic_store(&stop, 1);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(a[i].thread, NULL);
}

/* Three threads that know what they wrote last, before, during and after the filling; what the table keeps is dropped
 * again and again. */
static void reads_and_writes_throughout(void **state)
{
    (void)state;
    load_begin(2);
    make_snapshot();
    hold_filling();
    lose(ALL);
    atomic_store(&load.lists_may_wait, 1);
    load_go();
    for (unsigned i = 0; i < 10; i++) {
        let_it_run(100);
        hot_drop_clean(e->hot, UINT16_MAX);
    }
    shell("rm -f %s", hold);
    wait_for_filling();
    for (unsigned i = 0; i < 5; i++) {
        let_it_run(100);
        hot_drop_clean(e->hot, UINT16_MAX);
    }
    load_end();
    assert_all_as_written();
}

/* The n-th allocation or file operation of such a start fails: it is refused, or all is there; and the next one is as
 * if nothing had been. */
static void faults_during_the_start(void **state)
{
    static const int kinds[] = {FAULT_MEM, FAULT_FILE};
    (void)state;
    fill(1, 6);
    make_snapshot();
    fill(7, 8);
    close_engine();
    shell("rm -rf %s/base* %s/shard-*; cp -r %s %s.lost", dir, dir, dir, dir);
    for (unsigned k = 0; k < 2; k++) {
        int fired = 1;
        for (unsigned n = 1; fired; n += SWEEP_STEP) {
            shell("rm -rf %s && cp -r %s.lost %s", dir, dir, dir);
            fault_arm(kinds[k], n, EIO);
            enum err err = try_open();
            fired = fault_fired(kinds[k]);
            fault_disarm(kinds[k]);
            assert_true(fired || !err);
            if (err)
                open_engine();
            for (unsigned key = 0; key < KEYS; key++)
                assert_int_equal(settled(read_value, key, 8), ERR_OK);
            close_engine();
        }
    }
    shell("rm -rf %s.lost", dir);
    open_engine();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everything_is_read_before_it_is_filled, setup, end),
        cmocka_unit_test_setup_teardown(writes_while_it_is_not_filled, setup, end),
        cmocka_unit_test_setup_teardown(one_store_is_lost, setup, end),
        cmocka_unit_test_setup_teardown(a_damaged_store_is_as_good_as_lost, setup, end),
        cmocka_unit_test_setup_teardown(without_snapshots_the_log_stands_alone, setup, end),
        cmocka_unit_test_setup_teardown(killed_while_it_is_filled, setup, end),
        cmocka_unit_test_setup_teardown(a_damaged_block_sends_reads_to_an_older_snapshot, setup, end),
        cmocka_unit_test_setup_teardown(a_damaged_block_and_nothing_older, setup, end),
        cmocka_unit_test_setup_teardown(a_damaged_block_with_the_vaults_in_it, setup, end),
        cmocka_unit_test_setup_teardown(damage_in_the_log_is_found_after_the_start, setup, end),
        cmocka_unit_test_setup_teardown(a_failed_store_is_read_from_the_snapshot, setup, end),
        cmocka_unit_test_setup_teardown(what_is_applied_while_the_overlay_is_made_is_in_it, setup, end),
        cmocka_unit_test_setup_teardown(reads_and_writes_throughout, setup, end),
        cmocka_unit_test_setup_teardown(faults_during_the_start, setup, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
