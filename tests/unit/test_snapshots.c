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
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "engine/ops.h"
#include "engine/snapshots_impl.h"
#include "engine_keys.h"

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
            assert_int_equal(set(key, version), ERR_OK);
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
    assert_true(report.tier == 1 && report.stores_lost == 3 && report.snapshot_lsn);
    assert_filled(43);
    wait_for_filling();
    assert_filled(43);
    fill(44, 44);
    checkpoint();
    assert_true(report.tier == 0 && report.stores_lost == 0);
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
    assert_int_equal(report.stores_lost, 1);
    assert_true(engine_store_serves(e, 0) && engine_store_serves(e, 1));
    assert_filled(40);
    wait_for_filling();
    assert_filled(40);
}

/* A power loss right after they were filled: they had their checkpoint before they had their names. */
static void filled_stores_survive_a_power_loss(void **state)
{
    (void)state;
    setenv("COFFER_TEST_BOOT_ID", "first-boot", 1);
    fill_and_trim();
    close_engine();
    shell("rm -rf %s/base %s/shard-*", dir, dir);
    open_engine();
    assert_int_equal(report.stores_lost, 3);
    wait_for_filling();
    shell("cp -r %s %s.crash && rm %s.crash/lock", dir, dir, dir);
    close_engine();
    shell("rm -rf %s && mv %s.crash %s", dir, dir, dir);
    setenv("COFFER_TEST_BOOT_ID", "second-boot", 1);
    open_engine();
    assert_true(report.tier == 0 && report.stores_lost == 0);
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
             "f=$(ls %s/snapshots/*.snap | tail -1); printf XXXX | dd of=$f bs=1 seek=$(($(stat -c %%s $f) - 100)) "
             "conv=notrunc "
             "2>/dev/null",
             dir);
    assert_int_equal(system(command), 0);
    open_engine();
    assert_true(was_said("does not verify and is skipped"));
    assert_int_equal(report.stores_lost, 3);
    wait_for_filling();
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
             "printf XXXX | dd of=$(ls %s/snapshots/*.snap | tail -1) bs=1 seek=5000 conv=notrunc 2>/dev/null", dir);
    assert_int_equal(system(command), 0);
    open_engine();
    assert_true(was_said("it is passed over"));
    assert_int_equal(report.stores_lost, 3);
    wait_for_filling();
    assert_filled(40);
    fill(41, 41);
    make_snapshot();
    assert_filled(41);
}

static struct snapshots_file newest_file(void)
{
    struct snapshots_file files[8];
    assert_true(snapshots_list(engine_snapshots(e), files, 8) > 0);
    return files[0];
}

/* It kept its name until its LSN was passed, and what was made in its place was dropped. */
static void a_damaged_snapshot_is_made_again_under_its_name(void **state)
{
    (void)state;
    fill_and_trim();
    uint64_t lsn = newest_file().lsn;
    assert_int_equal(lsn, engine_commit_lsn(e)); /* nothing was written since */
    shell("printf XXXX | dd of=$(ls %s/snapshots/*.snap | tail -1) bs=1 seek=5000 conv=notrunc 2>/dev/null", dir);
    snapshots_damaged(engine_snapshots(e), lsn);
    for (unsigned i = 0; i < 10000 && newest_file().verified != SNAPSHOT_WHOLE; i++)
        nap();
    assert_int_equal(newest_file().lsn, lsn);
    assert_int_equal(newest_file().verified, SNAPSHOT_WHOLE);
    assert_filled(40);
    close_engine();
    shell("rm -rf %s/base %s/shard-*", dir, dir);
    open_engine();
    assert_int_equal(report.snapshot_lsn, lsn);
    assert_false(was_said("passed over"));
    assert_filled(40);
}

/* A block of the newest one has damage that nobody knows of: the next one is made from the one before that and the log,
 * and lacks nothing. */
static void a_block_that_is_found_bad_when_the_next_is_made_costs_nothing(void **state)
{
    struct snapshots_info i;
    (void)state;
    fill_and_trim();
    shell("printf XXXX | dd of=$(ls %s/snapshots/*.snap | tail -1) bs=1 seek=5000 conv=notrunc 2>/dev/null", dir);
    fill(41, 42);
    make_snapshot();
    snapshots_info(engine_snapshots(e), &i);
    assert_int_equal(i.lost, 0);
    assert_true(was_said("has damage: it is passed over"));
    assert_false(was_said("from the stores"));
    checkpoint();
    fill(43, 43);
    make_snapshot();
    assert_filled(43);
}

static uint64_t first_lsn_of_newest_segment(void)
{
    char command[256], name[64];
    snprintf(command, sizeof command, "ls %s/wal/*.wbl | tail -1 | xargs basename", dir);
    FILE *f = popen(command, "r");
    assert_non_null(fgets(name, sizeof name, f));
    pclose(f);
    return strtoull(name, NULL, 10);
}

/* All sealed segments overwritten: once a snapshot is behind them they go, and the next start finds nothing wrong. What
 * was only there is lost, and said to be; all else goes on. */
static void a_damaged_log_is_left_behind(void **state)
{
    struct snapshots_info i;
    uint64_t lsn;
    (void)state;
    fill(1, 6);
    make_snapshot();
    uint64_t covered = newest_file().lsn;
    fill(7, 30);
    uint64_t last = first_lsn_of_newest_segment() - 1;
    assert_true(last > covered + 10 * KEYS);
    shell("for f in $(ls %s/wal/*.wbl | head -n -1); do "
          "head -c $(stat -c %%s $f) /dev/zero | dd of=$f conv=notrunc 2>/dev/null; done",
          dir);
    snapshots_log_damaged(engine_snapshots(e), last);
    for (unsigned k = 0; k < 10000 && first_lsn() <= last; k++)
        nap();
    assert_int_equal(first_lsn(), last + 1);
    snapshots_info(engine_snapshots(e), &i);
    assert_true(i.lsn >= last && i.lost > 0);
    unsigned lost = 0;
    for (int again = 0; again < 2; again++) {
        lost = 0;
        for (unsigned key = 0; key < KEYS; key++) {
            assert_int_equal(read_value(key, 30, 1), ERR_OK);
            for (unsigned version = 26; version <= 30; version++) {
                enum err err = read_value(key, version, 0);
                assert_true(!err || err == ERR_CORRUPT);
                lost += err != ERR_OK;
            }
        }
        checkpoint();
    }
    assert_int_equal(lost, i.lost);
    for (unsigned version = 31; version <= 36; version++) { /* until none of the lost ones is kept any more */
        fill(version, version);
        assert_int_equal(demand(&lsn), ERR_OK);
    }
    assert_filled(36);
}

static unsigned most_files, steps;

/* As snapshots_config.has_room, which is asked before each step how much the one before has, and along the way. */
static int count_files(void *arg, uint64_t bytes)
{
    char path[96];
    unsigned n = 0;
    (void)arg;
    snprintf(path, sizeof path, "%s/snapshots", dir);
    DIR *d = opendir(path);
    for (struct dirent *at; d && (at = readdir(d));)
        n += strstr(at->d_name, ".snap") && !strstr(at->d_name, ".tmp");
    closedir(d);
    most_files = n > most_files ? n : most_files;
    steps += bytes > 0;
    return 1;
}

static uint64_t all_of_the_log(void *arg)
{
    (void)arg;
    return 1;
}

/* It comes to the same as in one go, and the files of the steps do not pile up. */
static void a_long_way_is_gone_in_steps(void **state)
{
    struct snapshots *s = engine_snapshots(e);
    struct snapshots_info i, once;
    (void)state;
    fill(1, 12);
    s->cfg.step_bytes = 2000; /* some twenty keys */
    s->cfg.has_room = count_files;
    s->cfg.needed_lsn = all_of_the_log; /* the one in one go is made of it */
    most_files = steps = 0;
    make_snapshot();
    assert_true(steps > 5 && most_files <= 3);
    snapshots_info(s, &i);
    assert_filled(12);
    close_engine();
    shell("rm %s/snapshots/*.snap", dir);
    open_engine();
    make_snapshot();
    snapshots_info(engine_snapshots(e), &once);
    assert_int_equal(once.lsn, i.lsn);
    assert_int_equal(once.entries, i.entries);
    assert_memory_equal(once.digest, i.digest, sizeof i.digest);
    assert_filled(12);
}

static void *demand_main(void *lsn)
{
    check(demand(lsn) == ERR_OK, "a snapshot from the stores");
    return NULL;
}

/* What they have not yet is in the snapshot that is made of them: it waits until they have it. */
static void stores_that_lag_are_waited_for(void **state)
{
    struct snapshots_info i;
    pthread_t t;
    uint64_t lsn;
    (void)state;
    fill(1, 6);
    make_snapshot();
    uint64_t covered = newest_file().lsn;
    apply_all();
    (void)apply_pause(e->apply);
    fill(7, 30);
    uint64_t last = first_lsn_of_newest_segment() - 1, commit = engine_commit_lsn(e);
    shell("for f in $(ls %s/wal/*.wbl | head -n -1); do "
          "head -c $(stat -c %%s $f) /dev/zero | dd of=$f conv=notrunc 2>/dev/null; done",
          dir);
    assert_int_equal(pthread_create(&t, NULL, demand_main, &lsn), 0);
    do {
        nap();
        snapshots_info(engine_snapshots(e), &i);
    } while (!i.making);
    for (unsigned n = 0; n < 20; n++)
        nap();
    assert_int_equal(newest_file().lsn, covered);
    apply_resume(e->apply);
    pthread_join(t, NULL);
    assert_true(lsn >= commit && lsn > last);
    close_engine();
    shell("rm -rf %s/base %s/shard-* %s/wal/%020d.wbl", dir, dir, dir, 1); /* from the snapshot alone */
    shell("for f in $(ls %s/wal/*.wbl | head -n -1); do rm $f; done", dir);
    open_engine();
    assert_int_equal(report.snapshot_lsn, lsn);
    for (unsigned key = 0; key < KEYS; key++)
        assert_int_equal(read_value(key, 30, 1), ERR_OK);
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
    assert_int_equal(report.stores_lost, 3);
    wait_for_filling();
    for (unsigned key = 0; key < KEYS; key++)
        for (unsigned version = 41; version <= 44; version++)
            assert_int_equal(read_value(key, version, 0), ERR_OK);
}

/* ---- a disk that does not give back what it has ---- */

static _Atomic int disk_fails;
static char unreadable[128]; /* the path of the file; from offset 300 on */

/* In front of libc's, which it calls. */
ssize_t pread(int fd, void *p, size_t n, off_t off)
{
    char link[32], path[256];
    if (atomic_load(&disk_fails) && off + (off_t)n > 300) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t got = readlink(link, path, sizeof path - 1);
        path[got > 0 ? got : 0] = '\0';
        if (strcmp(path, unreadable) == 0) {
            errno = EIO;
            return -1;
        }
    }
    return syscall(SYS_pread64, fd, p, n, off);
}

/* The n-th file of a folder from now on, counted from the end. */
static void fail_reads_of(const char *pattern, unsigned nth)
{
    char command[256];
    snprintf(command, sizeof command, "ls %s/%s | tail -%u | head -1", dir, pattern, nth);
    FILE *f = popen(command, "r");
    assert_non_null(fgets(unreadable, sizeof unreadable, f));
    pclose(f);
    unreadable[strcspn(unreadable, "\n")] = '\0';
    atomic_store(&disk_fails, 1);
}

static int teardown_disk(void **state)
{
    atomic_store(&disk_fails, 0);
    return teardown(state);
}

/* It was tried again for ever, and no snapshot was made any more. */
static void a_snapshot_that_cannot_be_read_is_passed_over(void **state)
{
    struct snapshots_info i;
    (void)state;
    fill_and_trim();
    fail_reads_of("snapshots/*.snap", 1);
    fill(41, 42);
    make_snapshot();
    snapshots_info(engine_snapshots(e), &i);
    assert_int_equal(i.lost, 0);
    assert_true(was_said("has damage: it is passed over"));
    assert_false(was_said("from the stores"));
    assert_filled(42);
}

/* The same of the log: after a while what is only there is given up, and all else goes on. */
static void a_log_that_cannot_be_read_is_waited_for_and_then_left_behind(void **state)
{
    struct snapshots_info i;
    uint64_t lsn;
    (void)state;
    fill(1, 6);
    make_snapshot();
    fill(7, 30);
    fail_reads_of("wal/*.wbl", 2);
    assert_int_equal(demand(&lsn), ERR_IO);
    atomic_store(&disk_fails, 0); /* it is back: nothing is lost */
    make_snapshot();
    snapshots_info(engine_snapshots(e), &i);
    assert_int_equal(i.lost, 0);
    assert_filled(30);

    fill(31, 60);
    fail_reads_of("wal/*.wbl", 2);
    uint64_t last = first_lsn_of_newest_segment() - 1;
    assert_int_equal(demand(&lsn), ERR_IO);
    assert_int_equal(demand(&lsn), ERR_IO);
    engine_snapshots(e)->cfg.patience_ms = 0;
    assert_int_equal(demand(&lsn), ERR_OK);
    snapshots_info(engine_snapshots(e), &i);
    assert_true(i.lsn > last && i.lost > 0);
    for (unsigned version = 61; version <= 66; version++) {
        fill(version, version);
        assert_int_equal(demand(&lsn), ERR_OK);
    }
    assert_filled(66);
}

/* Ten versions of every key, the old ones in the two snapshots alone: the log behind is another key's. */
static void fill_snapshots(void)
{
    unsigned version = 0;
    fill(1, 10);
    for (unsigned round = 0; round < 3; round++) {
        while (version < 600 * (round + 1)) {
            version++;
            assert_int_equal(set(1000, version), ERR_OK);
        }
        checkpoint();
        make_snapshot();
    }
    assert_true(first_lsn() > KEYS * 10);
    hot_drop_clean(e->hot, UINT16_MAX);
}

static void damage_newest_snapshots(unsigned n)
{
    shell("for f in $(ls %s/snapshots/*.snap | tail -%u); do for at in $(seq 300 1000 15000); do "
          "printf XXXX | dd of=$f bs=1 seek=$at conv=notrunc 2>/dev/null; done; done",
          dir, n);
}

/* What a reader meets is not left for the next scrub. */
static void a_block_that_a_reader_finds_bad_is_made_good(void **state)
{
    unsigned found = 0;
    (void)state;
    fill_snapshots();
    damage_newest_snapshots(1);
    for (unsigned key = 0; key < KEYS && !found; key++)
        found += read_value(key, 7, 0) == ERR_CORRUPT;
    assert_true(found);
    for (unsigned i = 0; i < 10000 && newest_file().verified != SNAPSHOT_WHOLE; i++)
        nap();
    assert_int_equal(newest_file().verified, SNAPSHOT_WHOLE);
    assert_filled(10);
}

static int setup_elsewhere(void **state)
{
    fetch = fetch_aside;
    fetches = 0;
    return setup(state);
}

static int teardown_elsewhere(void **state)
{
    int rc = teardown(state); /* from then on nobody fetches */
    fetch = NULL;
    shell("rm -rf %s.aside", dir);
    return rc;
}

/* One was made from the stores, which do not have them, though there was a whole one elsewhere. */
static void old_values_come_from_elsewhere_before_they_are_given_up(void **state)
{
    struct snapshots_info i;
    (void)state;
    fill_snapshots();
    shell("cp -r %s/snapshots %s.aside", dir, dir);
    damage_newest_snapshots(2);
    assert_int_equal(set(1001, 1), ERR_OK);
    make_snapshot();
    snapshots_info(engine_snapshots(e), &i);
    assert_int_equal(i.lost, 0);
    assert_int_equal(fetches, 1);
    assert_false(was_said("from the stores"));
    assert_filled(10);
}

/* ---- leases ---- */

#define NOW_MS 1900000000000u
#define SOON_MS (NOW_MS + 10000)
#define LATER_MS (NOW_MS + 3600000)

static void expire(unsigned key, uint64_t when_ms)
{
    char path[16];
    snprintf(path, sizeof path, "p/%u", key);
    struct step s = {.kind = STEP_SECRET_EXPIRE, .path = bytes_str(path), .expires_ms = when_ms};
    assert_int_equal(run(vault_of(key), &s), ERR_OK);
}

static uint64_t expires_ms(unsigned key)
{
    char path[16];
    struct secret_view view;
    snprintf(path, sizeof path, "p/%u", key);
    assert_int_equal(secret_read(e, vault_of(key), bytes_str(path), 0, bytes_of(NULL, 0), &view), ERR_OK);
    uint64_t at = view.head.expires_ms;
    secret_view_release(&view);
    return at;
}

/* Records behind the LSN that change the secret's head. */
static unsigned records_of(unsigned key, uint64_t behind)
{
    uint8_t head[SECRET_KEY_MAX];
    char path[16];
    struct wal_cursor *c;
    struct record r;
    struct bytes raw;
    struct op op;
    unsigned n = 0;
    snprintf(path, sizeof path, "p/%u", key);
    struct bytes want = secret_key_head(head, vault_of(key)->id, bytes_str(path));
    assert_int_equal(wal_cursor_open(&c, engine_wal(e), behind + 1), ERR_OK);
    while (wal_cursor_next(c, &r, &raw) == ERR_OK)
        for (struct bytes in = r.blob; ops_next(&in, &op) == ERR_OK;)
            n += bytes_equal(op.key, want);
    wal_cursor_close(c);
    return n;
}

/* Keys 0 to 3 fall due while the node is down, 4 to 7 later; each second time was set behind the snapshot. */
static void set_leases(void)
{
    for (unsigned key = 0; key < 8; key += 2)
        expire(key, key < 4 ? SOON_MS : LATER_MS);
    checkpoint();
    make_snapshot();
    for (unsigned key = 1; key < 8; key += 2)
        expire(key, key < 4 ? SOON_MS : LATER_MS);
}

static void assert_leases(void)
{
    for (unsigned key = 0; key < 8; key++) {
        assert_int_equal(read_value(key, 3, 1), key < 4 ? ERR_NOTFOUND : ERR_OK);
        if (key >= 4)
            assert_int_equal(expires_ms(key), LATER_MS);
    }
}

/* From a snapshot and the log, into empty stores: what fell due meanwhile is not shown for a moment and is recorded as
 * gone once, not again by the next such start; what did not keeps its time to the millisecond. */
static void leases_restored_keep_their_times_and_fire_once(void **state)
{
    (void)state;
    clock_test_set_wall_ms(NOW_MS);
    fill(1, 3);
    set_leases();
    uint64_t before = engine_commit_lsn(e);
    for (unsigned again = 0; again < 3; again++) {
        close_engine();
        shell("rm -rf %s/base* %s/shard-*", dir, dir);
        clock_test_set_wall_ms(SOON_MS + 1000 * (again + 1));
        open_engine();
        assert_int_equal(report.stores_lost, 3);
        assert_leases();
        for (unsigned i = 0;
             i < 10000 && atomic_load(&vault_of(0)->secrets) + atomic_load(&vault_of(1)->secrets) > KEYS - 4; i++)
            nap();
        assert_int_equal(atomic_load(&vault_of(0)->secrets) + atomic_load(&vault_of(1)->secrets), KEYS - 4);
        assert_leases();
        apply_all();
        for (unsigned key = 0; key < 9; key++)
            assert_int_equal(records_of(key, before), key < 4);
        if (again == 1)
            make_snapshot(); /* the last time from one that knows that they are gone */
    }
    close_engine();
    clock_test_set_wall_ms(LATER_MS);
    open_engine();
    for (unsigned key = 0; key < 9; key++)
        assert_int_equal(read_value(key, 3, 1), key < 8 ? ERR_NOTFOUND : ERR_OK);
    clock_test_set_wall_ms(0);
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
        cmocka_unit_test_setup_teardown(filled_stores_survive_a_power_loss, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_snapshot_is_skipped, setup, teardown),
        cmocka_unit_test_setup_teardown(a_snapshot_with_a_damaged_block_is_passed_over, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_snapshot_is_made_again_under_its_name, setup, teardown),
        cmocka_unit_test_setup_teardown(a_block_that_is_found_bad_when_the_next_is_made_costs_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_log_is_left_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_way_is_gone_in_steps, setup, teardown),
        cmocka_unit_test_setup_teardown(stores_that_lag_are_waited_for, setup, teardown),
        cmocka_unit_test_setup_teardown(snapshots_are_made_again_when_none_is_left, setup, teardown),
        cmocka_unit_test_setup_teardown(a_snapshot_that_cannot_be_read_is_passed_over, setup, teardown_disk),
        cmocka_unit_test_setup_teardown(a_log_that_cannot_be_read_is_waited_for_and_then_left_behind, setup,
                                        teardown_disk),
        cmocka_unit_test_setup_teardown(a_block_that_a_reader_finds_bad_is_made_good, setup, teardown_disk),
        cmocka_unit_test_setup_teardown(old_values_come_from_elsewhere_before_they_are_given_up, setup_elsewhere,
                                        teardown_elsewhere),
        cmocka_unit_test_setup_teardown(leases_restored_keep_their_times_and_fire_once, setup, teardown),
        cmocka_unit_test_setup_teardown(snapshots_wait_for_the_hsm, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
