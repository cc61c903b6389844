/* The scrub of a whole engine: what is whole passes, whatever happens beside it; what is damaged is found and made good
 * before anybody reads it. */
#include <pthread.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine_keys.h"

static void assert_clean_pass(void)
{
    struct scrub_wait w = scrub_now();
    assert_int_equal(w.err, ERR_OK);
    assert_true(w.errors == 0 && w.skipped == 0);
}

/* One pass, one damage, made good; the next pass finds nothing. */
static void assert_one_repair(void)
{
    struct scrub_wait w = scrub_now();
    assert_int_equal(w.err, ERR_OK);
    if (w.errors != 1 || w.repaired != 1)
        fail_msg("%u errors, %u repaired: %s", w.errors, w.repaired, said);
    assert_clean_pass();
}

/* One byte in the middle of a file. */
static void flip(const char *find)
{
    shell("f=$(%s | head -1); test -s \"$f\" && printf '\\377\\0' | dd of=$f bs=1 seek=$(($(stat -c %%s $f) / 2)) "
          "conv=notrunc 2>/dev/null",
          find);
}

static void what_is_whole_passes(void **state)
{
    struct scrub_info i;
    struct wal_info w;
    (void)state;
    scrub_info(engine_scrub(e), &i);
    assert_true(i.state == SCRUB_OFF && i.pass == 0);
    fill_and_trim();
    struct scrub_wait done = scrub_now();
    wal_info(engine_wal(e), &w);
    /* All segments but the newest, a MANIFEST and a table at least of each store, two snapshots. */
    assert_true(done.items >= w.segments - 1 + 6 + 2 && done.errors == 0 && done.skipped == 0 && done.pass == 1);
    assert_true(done.bytes > 10000);
    scrub_info(engine_scrub(e), &i);
    assert_true(i.pass == 1 && i.percent == 100 && i.errors == 0 && i.last_pass_ms && i.total_bytes == i.bytes);
    assert_int_equal(strncmp(i.position, "the snapshot at", 15), 0);
    assert_int_equal(scrub_now().pass, 2);
}

static void a_damaged_table_has_its_store_rebuilt(void **state)
{
    char find[160];
    (void)state;
    fill_and_trim();
    settle();
    for (unsigned shard = 0; shard < 2; shard++) {
        snprintf(find, sizeof find, "ls %s/shard-%u*/*.ldb", dir, shard);
        flip(find);
        assert_one_repair();
    }
    snprintf(find, sizeof find, "ls %s/base*/MANIFEST-*", dir);
    flip(find);
    assert_one_repair();
    shell("rm $(ls %s/shard-0*/*.ldb | head -1)", dir);
    assert_one_repair();
    assert_filled(40);
    checkpoint();
    assert_int_equal(report.stores_lost, 0);
    assert_filled(40);
}

/* Nothing has been written since the newest one: it is made anew in its place. The other one is passed over. */
static void a_damaged_snapshot_gives_way_to_another(void **state)
{
    char find[160];
    (void)state;
    fill_and_trim();
    snprintf(find, sizeof find, "ls -r %s/snapshots/*.snap", dir);
    flip(find);
    assert_one_repair();
    snprintf(find, sizeof find, "ls %s/snapshots/*.snap", dir);
    flip(find);
    assert_one_repair();
    fill(41, 41);
    make_snapshot();
    fill(42, 42);
    make_snapshot();
    assert_clean_pass();
    close_engine();
    shell("rm -rf %s/base* %s/shard-*", dir, dir);
    open_engine();
    assert_int_equal(report.stores_lost, 3);
    assert_filled(42);
}

/* The snapshot behind it has everything, and the next start would be refused. */
static void a_damaged_segment_of_the_log_is_left_behind(void **state)
{
    char find[160];
    (void)state;
    fill(1, 20);
    snprintf(find, sizeof find, "ls %s/wal/*.wbl", dir);
    make_snapshot();
    fill(21, 22);
    flip(find);
    assert_one_repair();
    assert_filled(22);
    checkpoint();
    assert_filled(22);
    assert_int_equal(report.wal.damaged_lsn, 0);
    assert_true(first_lsn() > 1);

    close_engine();
    shell("rm -rf %s/base* %s/shard-*", dir, dir);
    open_engine();
    assert_filled(22);
}

/* ---- another node's records ---- */

static struct wal *elsewhere; /* a copy of the log, as another node has one */
static unsigned asked_for;

static enum err give(void *arg, uint64_t from, uint64_t to, struct buf *out)
{
    (void)to;
    return wal_read(arg, from, out);
}

static enum err mend_from_elsewhere(void *arg, struct wal *w, uint64_t lsn, int (*over)(void *), void *over_arg)
{
    (void)arg;
    check(!over(over_arg), "nothing is to end");
    asked_for++;
    return elsewhere ? wal_mend(w, lsn, give, elsewhere) : ERR_NOTFOUND;
}

static void copy_log(void)
{
    char path[80];
    struct wal_report r;
    struct wal_config cfg = {.dir = path, .segment_bytes = 65536};
    snprintf(path, sizeof path, "%s/elsewhere", dir);
    shell("cp -r %s/wal %s", dir, path);
    engine_cell_id(e, cfg.cell_id);
    assert_int_equal(wal_open(&elsewhere, &cfg, &r), ERR_OK);
}

static int setup_mending(void **state)
{
    mend_log = mend_from_elsewhere;
    asked_for = 0;
    return setup(state);
}

static int teardown_mending(void **state)
{
    wal_close(elsewhere);
    elsewhere = NULL;
    mend_log = NULL;
    return teardown(state);
}

/* No old value is lost, and no snapshot is made for it. */
static void a_damaged_segment_is_mended_from_elsewhere(void **state)
{
    char find[160];
    struct snapshots_file f[4];
    (void)state;
    fill(1, 20);
    copy_log();
    for (unsigned segment = 1; segment <= 2; segment++) {
        snprintf(find, sizeof find, "ls %s/wal/*.wbl | sed -n %up", dir, segment);
        flip(find);
        assert_one_repair();
    }
    assert_int_equal(asked_for, 2);
    assert_int_equal(first_lsn(), 1);
    assert_int_equal(snapshots_list(engine_snapshots(e), f, 4), 0);
    assert_filled(20);
    close_engine();
    shell("rm -rf %s/base* %s/shard-*", dir, dir);
    open_engine();
    assert_int_equal(report.wal.damaged_lsn, 0);
    assert_filled(20);
}

/* Nobody has it. */
static void a_segment_that_is_not_mended_is_left_behind(void **state)
{
    a_damaged_segment_of_the_log_is_left_behind(state);
    assert_int_equal(asked_for, 1);
}

static void without_the_hsm_snapshots_are_passed_over(void **state)
{
    (void)state;
    fill_and_trim();
    atomic_store(&hsm_down, 1);
    struct scrub_wait w = scrub_now();
    assert_true(w.errors == 0 && w.skipped == 2);
    atomic_store(&hsm_down, 0);
    assert_clean_pass();
}

/* What nothing can make good is said in each pass, and traffic goes on. */
static void what_cannot_be_repaired_is_told(void **state)
{
    char find[160];
    (void)state;
    fill(1, 20);
    snprintf(find, sizeof find, "ls %s/wal/*.wbl", dir);
    flip(find);
    atomic_store(&hsm_down, 1);
    struct scrub_wait w = scrub_now();
    assert_true(w.errors == 1 && w.repaired == 0);
    struct scrub_info i;
    scrub_info(engine_scrub(e), &i);
    assert_non_null(strstr(i.last_error, "not repaired"));
    assert_int_equal(read_value(3, 20, 1), ERR_OK);
    fill(21, 21);
    atomic_store(&hsm_down, 0);
    w = scrub_now();
    assert_true(w.errors == 0 || w.repaired == 1); /* the snapshots' thread went on trying */
    for (unsigned k = 0; k < 10000 && first_lsn() == 1; k++)
        nap();
    assert_clean_pass();
}

/* ---- beside traffic ---- */

static _Atomic int stop_writing;

static void *write_on(void *arg)
{
    uint64_t lsn;
    (void)arg;
    for (unsigned version = 1; !atomic_load(&stop_writing); version++) {
        for (unsigned key = 0; key < KEYS; key++)
            check(set(key, version) == ERR_OK, "a write");
        if (version % 8 == 0)
            check(demand(&lsn) == ERR_OK, "a snapshot");
        if (version % 32 == 0)
            check(rebuild(1 + version / 32 % 2, NULL) == ERR_OK, "a rebuild");
    }
    return NULL;
}

/* Segments, tables and snapshots come and go under it. */
static void what_comes_and_goes_is_no_damage(void **state)
{
    pthread_t writer;
    (void)state;
    vault_named("odd");
    vault_named("even");
    atomic_store(&stop_writing, 0);
    assert_int_equal(pthread_create(&writer, NULL, write_on, NULL), 0);
    for (unsigned i = 0; i < 150; i++) {
        struct scrub_wait w = scrub_now();
        if (w.errors)
            fail_msg("%s", said);
    }
    atomic_store(&stop_writing, 1);
    pthread_join(writer, NULL);
    assert_clean_pass();
}

/* The newest snapshot is damaged again and again while others are made. */
static void damage_beside_traffic_is_repaired(void **state)
{
    pthread_t writer;
    unsigned repaired = 0;
    (void)state;
    vault_named("odd");
    vault_named("even");
    atomic_store(&stop_writing, 0);
    assert_int_equal(pthread_create(&writer, NULL, write_on, NULL), 0);
    for (unsigned i = 0; repaired < 5 && i < 500; i++) {
        shell("f=$(ls %s/snapshots/*.snap 2>/dev/null | tail -1); [ -z \"$f\" ] || printf '\\377\\0' | "
              "dd of=$f bs=1 seek=3000 conv=notrunc 2>/dev/null; true",
              dir);
        repaired += scrub_now().repaired;
    }
    assert_true(repaired >= 5);
    atomic_store(&stop_writing, 1);
    pthread_join(writer, NULL);
    make_snapshot();
    assert_clean_pass();
}

/* ---- from start to start ---- */

static void a_pass_goes_on_where_it_was(void **state)
{
    struct scrub_info i;
    (void)state;
    fill(1, 3);
    close_engine();
    shell("printf 'coffer-scrub 1\\npass 7 1\\nat 2 0 500\\nbytes 1234\\nlast 0 0\\n' >%s/scrub", dir);
    open_engine();
    scrub_info(engine_scrub(e), &i);
    assert_true(i.pass == 7 && i.bytes == 1234);
    checkpoint(); /* it is kept */
    shell("grep -q '^at 2 0 500$' %s/scrub", dir);
    assert_int_equal(scrub_now().pass, 8); /* asked for: from the beginning */
    close_engine();
    shell("grep -q '^pass 8 0$' %s/scrub", dir);
    shell("echo nonsense >%s/scrub", dir);
    open_engine();
    scrub_info(engine_scrub(e), &i);
    assert_int_equal(i.pass, 0);
    assert_clean_pass();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_whole_passes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_table_has_its_store_rebuilt, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_snapshot_gives_way_to_another, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_segment_of_the_log_is_left_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_segment_is_mended_from_elsewhere, setup_mending, teardown_mending),
        cmocka_unit_test_setup_teardown(a_segment_that_is_not_mended_is_left_behind, setup_mending, teardown_mending),
        cmocka_unit_test_setup_teardown(without_the_hsm_snapshots_are_passed_over, setup, teardown),
        cmocka_unit_test_setup_teardown(what_cannot_be_repaired_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(what_comes_and_goes_is_no_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(damage_beside_traffic_is_repaired, setup, teardown),
        cmocka_unit_test_setup_teardown(a_pass_goes_on_where_it_was, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
