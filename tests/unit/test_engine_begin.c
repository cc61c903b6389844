/* An engine without its log that goes on from a snapshot (DIR/begin, engine/celldir.h), and one whose snapshots are no
 * good that gets one from outside (engine_config.fetch_snapshot). */
#include <errno.h>
#include <unistd.h>

#include "engine_fixture.h"

#include "base/fault.h"
#include "engine/storedir.h"

#define KEYS 30
#define TERM 1007

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "%s/coffer-begin-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(dir));
    fetch = NULL;
    open_engine();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_engine();
    shell("rm -rf %s %s.aside", dir, dir);
    return 0;
}

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
    assert_non_null(p);
    p->n = strlen(value);
    memcpy(p->bytes, value, p->n);
    struct step s = {.kind = STEP_SECRET_SET, .path = bytes_str(path), .plain = p};
    assert_int_equal(run(vault_named("v"), &s), ERR_OK);
    assert_int_equal(s.out_version, version);
}

static void fill(unsigned from, unsigned to)
{
    for (unsigned version = from; version <= to; version++)
        for (unsigned key = 0; key < KEYS; key++)
            set(key, version);
}

/* The newest, and the old ones, which are in no store. */
static void assert_filled(unsigned newest)
{
    char path[16], value[160];
    for (unsigned key = 0; key < KEYS; key++)
        for (unsigned version = newest > 4 ? newest - 4 : 1; version <= newest; version++) {
            struct secret_view view;
            snprintf(path, sizeof path, "p/%u", key);
            value_of(key, version, value);
            assert_int_equal(secret_read(e, vault_named("v"), bytes_str(path), version, bytes_of(NULL, 0), &view),
                             ERR_OK);
            assert_int_equal(view.value.raw.n, 4 + strlen(value));
            assert_memory_equal(view.value.raw.p + 4, value, strlen(value));
            secret_view_release(&view);
        }
}

/* Where the newest snapshot ends. */
static struct celldir_begin end_of_snapshot(void)
{
    struct snapread_info i;
    struct celldir_begin b = {.term = TERM};
    struct snapread *r = snapshots_newest(engine_snapshots(e));

    assert_non_null(r);
    snapread_info(r, &i);
    snapread_unref(r);
    b.lsn = i.header.lsn;
    memcpy(b.chain, i.header.chain, sizeof b.chain);
    return b;
}

static struct celldir_begin lose_all_but_snapshots(void)
{
    fill(1, 3);
    make_snapshot();
    struct celldir_begin b = end_of_snapshot();
    fill(4, 4); /* is lost */
    close_engine();
    shell("cd %s && rm -rf wal base shard-* state", dir);
    return b;
}

static int is_there(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

static void the_files_of_a_directory(void **state)
{
    (void)state;
    struct celldir c, d = {.shards = 7};
    struct celldir_begin b = {.lsn = 81234567890123, .term = TERM}, g;
    int has;

    memset(d.cell_id, 0xa5, sizeof d.cell_id);
    memset(b.chain, 0x5a, sizeof b.chain);
    assert_int_equal(celldir_has_log(dir, &has), ERR_OK);
    assert_true(has);
    close_engine();
    shell("rm -rf %s/*", dir);
    assert_int_equal(celldir_has_log(dir, &has), ERR_OK);
    assert_false(has);
    assert_int_equal(celldir_read(dir, &c), ERR_NOTFOUND);
    assert_int_equal(celldir_read_begin(dir, &g), ERR_NOTFOUND);
    assert_int_equal(celldir_remove_begin(dir), ERR_OK);
    assert_int_equal(celldir_write(dir, &d), ERR_OK);
    assert_int_equal(celldir_write_begin(dir, &b), ERR_OK);
    assert_int_equal(celldir_read(dir, &c), ERR_OK);
    assert_int_equal(celldir_read_begin(dir, &g), ERR_OK);
    assert_memory_equal(&c, &d, sizeof c);
    assert_memory_equal(&g, &b, sizeof g);
    shell("for f in cell begin; do head -c 40 %s/$f >%s/x && mv %s/x %s/$f; done", dir, dir, dir, dir);
    assert_int_equal(celldir_read(dir, &c), ERR_CORRUPT);
    assert_int_equal(celldir_read_begin(dir, &g), ERR_CORRUPT);
    assert_int_equal(celldir_remove_begin(dir), ERR_OK);
    assert_false(is_there("begin"));
    shell("rm -rf %s/*", dir);
    open_engine();
}

static void a_log_begins_behind_a_snapshot(void **state)
{
    (void)state;
    struct celldir_begin b = lose_all_but_snapshots();
    struct engine_info i;

    assert_int_equal(celldir_write_begin(dir, &b), ERR_OK);
    open_engine();
    assert_false(is_there("begin"));
    assert_filled(3);
    engine_info(e, &i);
    assert_int_equal(first_lsn(), b.lsn + 1);
    assert_int_equal(i.term, TERM);
    fill(4, 6);
    checkpoint(); /* as any other */
    assert_filled(6);
    make_snapshot();
    assert_filled(6);
    close_engine(); /* a log that is lost once more does not begin there again */
    shell("rm -rf %s/wal", dir);
    assert_int_equal(try_open(), ERR_CORRUPT);
    shell("cd %s && rm -rf base shard-* state snapshots", dir);
    open_engine();
    assert_int_equal(first_lsn(), 1);
}

static void stores_without_their_log_are_not_written_over(void **state)
{
    (void)state;
    fill(1, 3);
    make_snapshot();
    struct celldir_begin b = end_of_snapshot();
    int any;
    fill(4, 4);
    close_engine();
    shell("cd %s && rm -rf wal", dir);
    assert_int_equal(storedir_any(dir, &any), ERR_OK);
    assert_true(any); /* so DIR/begin would not be written */
    assert_int_equal(celldir_write_begin(dir, &b), ERR_OK);
    assert_int_equal(try_open(), ERR_CORRUPT);
    shell("cd %s && rm -rf base shard-* state && mkdir shard-1.2.new", dir);
    assert_int_equal(storedir_any(dir, &any), ERR_OK);
    assert_false(any);
    open_engine();
    assert_filled(3);
}

/* Whatever fails in the first opening, the next one comes to the same. */
static void a_fault_in_every_file_operation(void **state)
{
    static const int codes[] = {EIO, ENOSPC};
    struct celldir_begin b = lose_all_but_snapshots();
    struct engine_info i;

    (void)state;
    assert_int_equal(celldir_write_begin(dir, &b), ERR_OK);
    shell("cp -r %s %s.aside", dir, dir);
    for (int k = 0; k < 2; k++)
        for (long n = 1;; n++) {
            shell("rm -rf %s && cp -r %s.aside %s", dir, dir, dir);
            fault_arm(FAULT_FILE, n, codes[k]);
            enum err err = try_open();
            int fired = fault_fired(FAULT_FILE);
            fault_disarm(FAULT_FILE);
            if (err == ERR_OK)
                close_engine();
            open_engine();
            assert_filled(3);
            engine_info(e, &i);
            assert_true(i.term >= TERM && first_lsn() == b.lsn + 1);
            assert_false(is_there("begin"));
            close_engine();
            if (!fired)
                break;
        }
    open_engine();
}

/* ---- the next tier ---- */

/* Its log begins in the middle; its snapshots are in another place, and not here. */
static void only_elsewhere(void)
{
    for (unsigned round = 0; round < 4; round++) {
        fill(round * 10 + 1, round * 10 + 10);
        checkpoint();
        make_snapshot();
    }
    assert_true(first_lsn() > KEYS * 10);
    fill(41, 41);
    close_engine();
    shell("mkdir %s.aside && mv %s/snapshots/*.snap %s.aside/", dir, dir, dir);
    fetch = fetch_aside;
    fetches = 0;
}

static void lost_stores_come_from_the_next_tier(void **state)
{
    (void)state;
    only_elsewhere();
    shell("cd %s && rm -rf shard-0", dir);
    open_engine();
    assert_int_equal(fetches, 1);
    assert_filled(41);
}

static void old_values_come_from_the_next_tier(void **state)
{
    (void)state;
    only_elsewhere();
    open_engine();
    assert_int_equal(fetches, 1);
    assert_filled(41);
    checkpoint();
    assert_int_equal(fetches, 1); /* there is one here now */
}

static void a_damaged_block_too(void **state)
{
    (void)state;
    only_elsewhere();
    shell("cp %s.aside/*.snap %s/snapshots/", dir, dir);
    shell("for f in %s/snapshots/*.snap; do printf xxxx | dd of=$f bs=1 seek=300 conv=notrunc status=none; done", dir);
    shell("cd %s && rm -rf base shard-*", dir);
    open_engine();
    assert_int_equal(fetches, 1);
    assert_filled(41);
}

/* The same LSNs, but what lies there was written in another life. */
static void another_history_does_not_fit(void **state)
{
    (void)state;
    char cell[128];

    only_elsewhere();
    snprintf(cell, sizeof cell, "%s.cell", dir);
    shell("cp %s/cell %s && rm -rf %s/* && cp %s %s/cell && rm %s", dir, cell, dir, cell, dir, cell);
    fetch = NULL;
    open_engine();
    for (unsigned round = 0; round < 4; round++) {
        fill(round * 10 + 1, round * 10 + 10);
        checkpoint();
        make_snapshot();
    }
    close_engine();
    shell("cd %s && rm -rf shard-0 snapshots/*", dir);
    fetch = fetch_aside;
    assert_int_equal(try_open(), ERR_CORRUPT);
    assert_int_equal(fetches, 1);
    shell("rm -rf %s/*", dir);
    open_engine();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_files_of_a_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(a_log_begins_behind_a_snapshot, setup, teardown),
        cmocka_unit_test_setup_teardown(stores_without_their_log_are_not_written_over, setup, teardown),
        cmocka_unit_test_setup_teardown(a_fault_in_every_file_operation, setup, teardown),
        cmocka_unit_test_setup_teardown(lost_stores_come_from_the_next_tier, setup, teardown),
        cmocka_unit_test_setup_teardown(old_values_come_from_the_next_tier, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_block_too, setup, teardown),
        cmocka_unit_test_setup_teardown(another_history_does_not_fit, setup, teardown),
    };
    return cmocka_run_group_tests_name("engine begin", tests, NULL, NULL);
}
