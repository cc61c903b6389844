/* Rolling snapshots of a whole engine: made, kept, read; the log trimmed behind them; stores filled from them. */
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
#include "base/file.h"
#include "base/log.h"
#include "engine_fixture.h"

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "%s/coffer-snapshots-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(dir));
    open_engine();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_engine();
    atomic_store(&hsm_down, 0);
    unsetenv("COFFER_TEST_BOOT_ID");
    shell("rm -rf %s", dir);
    return 0;
}

/* ---- writes ---- */

static void value_of(unsigned key, unsigned version, char out[160])
{
    memset(out, 'a' + (int)(key % 26), 150);
    snprintf(out + 120, 40, "%u/%u", key, version);
}

static void set(unsigned key, unsigned version)
{
    char path[16], value[160];
    snprintf(path, sizeof path, "p/%u", key);
    value_of(key, version, value);
    struct plain *p = malloc(sizeof *p + strlen(value));
    p->n = strlen(value);
    memcpy(p->bytes, value, p->n);
    struct step s = {.kind = STEP_SECRET_SET, .path = bytes_str(path), .plain = p};
    assert_int_equal(run(vault_named(key % 2 ? "odd" : "even"), &s), ERR_OK);
    assert_int_equal(s.out_version, version);
}

static void destroy(unsigned key)
{
    char path[16];
    snprintf(path, sizeof path, "p/%u", key);
    struct step s = {.kind = STEP_SECRET_DESTROY, .path = bytes_str(path)};
    assert_int_equal(run(vault_named(key % 2 ? "odd" : "even"), &s), ERR_OK);
}

static enum err read_value(unsigned key, unsigned version, int newest)
{
    char path[16], value[160];
    struct secret_view view;
    snprintf(path, sizeof path, "p/%u", key);
    value_of(key, version, value);
    enum err err = secret_read(e, vault_named(key % 2 ? "odd" : "even"), bytes_str(path), newest ? 0 : version,
                               bytes_of(NULL, 0), &view);
    if (err)
        return err;
    assert_int_equal(view.version, version);
    assert_int_equal(view.value.raw.n, 4 + strlen(value));
    assert_memory_equal(view.value.raw.p + 4, value, strlen(value));
    secret_view_release(&view);
    return ERR_OK;
}

#define KEYS 40

/* Every key is written rounds times; the last few of them are kept. */
static void fill(unsigned from, unsigned to)
{
    for (unsigned version = from; version <= to; version++)
        for (unsigned key = 0; key < KEYS; key++)
            set(key, version);
}

static void assert_filled(unsigned newest)
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
static void fill_and_trim(void)
{
    for (unsigned round = 0; round < 4; round++) {
        fill(round * 10 + 1, round * 10 + 10);
        checkpoint();
        make_snapshot();
    }
    assert_true(first_lsn() > KEYS * 10);
}

static void the_log_is_trimmed_and_old_values_stay(void **state)
{
    struct snapshots_file files[8];
    struct secret_view view;
    (void)state;
    fill(1, 2);
    for (unsigned key = 0; key < KEYS; key++)
        destroy(key); /* versions go on at 3 */
    for (unsigned version = 3; version <= 7; version++)
        for (unsigned key = 0; key < KEYS; key++)
            set(key, version);
    fill(8, 10);
    checkpoint();
    make_snapshot();
    for (unsigned i = 0; i < 3; i++) {
        fill(11 + 2 * i, 12 + 2 * i);
        checkpoint();
        make_snapshot();
    }
    assert_true(first_lsn() > KEYS * 10);
    assert_int_equal(snapshots_list(engine_snapshots(e), files, 8), 2);
    assert_true(files[0].lsn > files[1].lsn && files[0].verified == SNAPSHOT_WHOLE);
    assert_filled(16);
    assert_int_equal(secret_read_head(e, vault_named("even"), bytes_str("p/0"), &view), ERR_OK);
    struct secret_version v[SECRET_VERSIONS_MAX];
    assert_int_equal(secret_versions_get(&view.head, v), ERR_OK);
    assert_true(v[0].lsn < first_lsn()); /* so one of them at least came from a snapshot */
    secret_view_release(&view);
    checkpoint();
    assert_filled(16);
}

/* All stores deleted: back from snapshot and log. */
static void stores_are_loaded_from_the_snapshot(void **state)
{
    (void)state;
    fill_and_trim();
    fill(41, 43); /* behind the snapshot */
    close_engine();
    shell("rm -rf %s/base %s/shard-*", dir, dir);
    open_engine();
    assert_true(report.loaded[0] && report.loaded[1] && report.loaded[2] && report.loaded_entries > KEYS);
    assert_filled(43);
    fill(44, 44);
    checkpoint();
    assert_int_equal(report.loaded_entries, 0);
    assert_filled(44);
}

/* One shard lost: only that one is loaded. */
static void one_store_is_loaded(void **state)
{
    (void)state;
    fill_and_trim();
    close_engine();
    shell("rm -rf %s/shard-1", dir);
    open_engine();
    assert_true(!report.loaded[0] && !report.loaded[1] && report.loaded[2]);
    assert_filled(40);
}

/* A power loss right after such a start: the loaded store is not believed. */
static void a_load_that_a_power_loss_took_is_done_again(void **state)
{
    (void)state;
    setenv("COFFER_TEST_BOOT_ID", "first-boot", 1);
    fill_and_trim();
    close_engine();
    shell("rm -rf %s/base %s/shard-*", dir, dir);
    open_engine();
    assert_true(report.loaded[1]);
    shell("cp -r %s %s.crash && rm %s.crash/lock", dir, dir, dir); /* no checkpoint has been made */
    close_engine();
    shell("rm -rf %s && mv %s.crash %s", dir, dir, dir);
    setenv("COFFER_TEST_BOOT_ID", "second-boot", 1);
    open_engine();
    assert_true(report.loaded[1]);
    assert_filled(40);
}

/* The newest one is damaged: the one before and more of the log do. Both: a clear refusal, nothing is touched. */
static void a_damaged_snapshot_is_skipped(void **state)
{
    char command[256];
    (void)state;
    fill_and_trim();
    close_engine();
    shell("rm -rf %s/base %s/shard-*", dir, dir);
    snprintf(command, sizeof command,
             "f=$(ls %s/snapshots/*.snap | tail -1); printf X | dd of=$f bs=1 seek=$(($(stat -c %%s $f) - 100)) "
             "conv=notrunc "
             "2>/dev/null",
             dir);
    assert_int_equal(system(command), 0);
    open_engine();
    assert_non_null(strstr(said, "does not verify and is skipped"));
    assert_true(report.loaded[1]);
    assert_filled(40);
    close_engine();
    shell("rm -rf %s/base %s/shard-* && rm %s/snapshots/*", dir, dir, dir);
    assert_int_equal(try_open(), ERR_CORRUPT);
}

/* A block of the newest one has damage, which shows when a store is loaded from it: the start was refused, though the
 * one before and the log had it all. */
static void a_snapshot_with_a_damaged_block_is_passed_over(void **state)
{
    char command[256];
    (void)state;
    fill_and_trim();
    close_engine();
    shell("rm -rf %s/base %s/shard-*", dir, dir);
    snprintf(command, sizeof command,
             "printf X | dd of=$(ls %s/snapshots/*.snap | tail -1) bs=1 seek=5000 conv=notrunc 2>/dev/null", dir);
    assert_int_equal(system(command), 0);
    open_engine();
    assert_non_null(strstr(said, "it is passed over"));
    assert_true(report.loaded[1]);
    assert_filled(40);
    fill(41, 41);
    make_snapshot();
    assert_filled(41);
}

/* The log begins in the middle and the snapshots are gone: none was ever made again, and the log grew for ever. */
static void snapshots_are_made_again_when_none_is_left(void **state)
{
    (void)state;
    fill_and_trim();
    for (unsigned key = 0; key < KEYS; key++)
        destroy(key);
    fill(41, 43);
    close_engine();
    shell("rm %s/snapshots/*", dir);
    open_engine();
    assert_true(first_lsn() > 1);
    make_snapshot();
    fill(44, 44);
    make_snapshot();
    close_engine();
    shell("rm -rf %s/base %s/shard-*", dir, dir);
    open_engine();
    assert_true(report.loaded[1]);
    for (unsigned key = 0; key < KEYS; key++)
        for (unsigned version = 41; version <= 44; version++)
            assert_int_equal(read_value(key, version, 0), ERR_OK);
}

/* While the HSM is away none can be made, and nothing is deleted; later they go on. */
static void snapshots_wait_for_the_hsm(void **state)
{
    uint64_t lsn, first = first_lsn();
    (void)state;
    fill(1, 3);
    atomic_store(&hsm_down, 1);
    assert_int_equal(demand(&lsn), ERR_HSMDOWN);
    close_engine();
    shell("test $(ls %s/snapshots | wc -l) = 0", dir);
    open_engine();
    assert_int_equal(first_lsn(), first);
    atomic_store(&hsm_down, 0);
    make_snapshot();
    close_engine();
    atomic_store(&hsm_down, 1);
    open_engine(); /* with a snapshot that cannot be verified now */
    assert_null(snapshots_newest(engine_snapshots(e)));
    assert_filled(3);
    atomic_store(&hsm_down, 0);
    fill(4, 4);
    make_snapshot();
    assert_filled(4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_log_is_trimmed_and_old_values_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(stores_are_loaded_from_the_snapshot, setup, teardown),
        cmocka_unit_test_setup_teardown(one_store_is_loaded, setup, teardown),
        cmocka_unit_test_setup_teardown(a_load_that_a_power_loss_took_is_done_again, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_snapshot_is_skipped, setup, teardown),
        cmocka_unit_test_setup_teardown(a_snapshot_with_a_damaged_block_is_passed_over, setup, teardown),
        cmocka_unit_test_setup_teardown(snapshots_are_made_again_when_none_is_left, setup, teardown),
        cmocka_unit_test_setup_teardown(snapshots_wait_for_the_hsm, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
