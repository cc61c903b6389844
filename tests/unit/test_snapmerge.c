/* Both ways to a snapshot, against a model of the state and against each other, byte for byte: random logs, with what
 * the log has lost, with damage, with everything that can fail failing once. */
#include "snap_world.h"
#include "sweep.h"

#include "engine/snapio.h"
#include "engine/snapold.h"

static struct snapread *open_now(const struct sw_world *sw, const char *dir)
{
    return sx_open(dir, sw->lsn);
}

static uint64_t lost; /* by the last that was made */

static enum err by_changes(struct sw_world *sw, const char *dir, struct snapread *before, const struct changes *c)
{
    struct snapwrite_config cfg;
    struct snapwrite_result result;
    sw_config(sw, dir, &cfg);
    enum err e = snapmerge_changes(&cfg, before, c, sw->w, &result);
    lost = result.lost;
    return e;
}

static enum err by_stores(struct sw_world *sw, const char *dir, struct snapread *before)
{
    struct snapwrite_config cfg;
    struct snapwrite_result result;
    struct snapmerge_view *v = sw_view(sw);
    sw_config(sw, dir, &cfg);
    enum err e = snapmerge_stores(&cfg, before, v, sw->w, &result);
    snapmerge_view_free(v);
    lost = result.lost;
    return e;
}

/* A chain of snapshots, each from the one before; of some stretches the log is gone afterwards. */
static void run_chain(uint64_t seed)
{
    char dir[2][FX_DIR_BYTES];
    struct sw_world *sw = sw_new();
    struct snapread *before = NULL, *older = NULL;
    int log_is_whole = 1;
    sx_seed = seed * 0x9e3779b97f4a7c15u + 1;
    fx_make_dir(dir[0]);
    fx_make_dir(dir[1]);
    for (unsigned round = 0; round < 6; round++) {
        sw_run(sw, 1 + (unsigned)(sx_random() % 150));
        struct changes *c = sw_take_changes(sw);
        assert_int_equal(by_changes(sw, dir[0], before, c), ERR_OK);
        sw_check_file(sw, dir[0]);
        changes_free(c);
        /* The stores' way with any snapshot that the log reaches back to, or none. */
        struct snapread *with = log_is_whole && round % 3 == 0 ? NULL : log_is_whole && round % 3 == 1 ? older : before;
        assert_int_equal(by_stores(sw, dir[1], with), ERR_OK);
        sw_check_file(sw, dir[1]);
        snapread_unref(older);
        older = before;
        before = open_now(sw, dir[round % 2]);
        if (seed % 2 && round > 1) {
            assert_int_equal(wal_remove_below(sw->w, sw->lsn + 1), ERR_OK);
            log_is_whole = 0;
        }
    }
    snapread_unref(older);
    snapread_unref(before);
    fx_remove_dir(dir[0]);
    fx_remove_dir(dir[1]);
    sw_free(sw);
}

static void both_ways_give_what_the_model_says(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= (SANITIZED ? 6 : 40); seed++)
        run_chain(seed);
}

/* Changes of two stretches merged, and such that begin before the snapshot: what they say twice does no harm. */
static void stretches_may_be_merged_and_may_overlap(void **state)
{
    char dir[FX_DIR_BYTES];
    (void)state;
    struct sw_world *sw = sw_new();
    fx_make_dir(dir);
    sx_seed = 99;
    sw_run(sw, 100);
    struct changes *first = sw_take_changes(sw);
    assert_int_equal(by_changes(sw, dir, NULL, first), ERR_OK);
    struct snapread *before = open_now(sw, dir);
    sw_run(sw, 100);
    struct changes *second = sw_take_changes(sw);
    sw_run(sw, 100);
    struct changes *third = sw_take_changes(sw);
    assert_int_equal(by_changes(sw, dir, before, third), ERR_RANGE);  /* a gap */
    assert_int_equal(by_changes(sw, dir, before, second), ERR_RANGE); /* ends too early */
    assert_int_equal(sx_files(dir), 1);
    assert_int_equal(changes_merge(third, second), ERR_OK);
    assert_int_equal(changes_sort(third), ERR_OK);
    assert_int_equal(by_changes(sw, dir, before, third), ERR_OK);
    sw_check_file(sw, dir);
    fx_empty_dir(dir);
    assert_int_equal(changes_merge(third, first), ERR_OK);
    assert_int_equal(changes_sort(third), ERR_OK);
    assert_int_equal(by_changes(sw, dir, before, third), ERR_OK);
    sw_check_file(sw, dir);
    struct snapread *now = open_now(sw, dir);
    assert_int_equal(by_changes(sw, dir, now, third), ERR_RANGE); /* nothing is newer */
    snapread_unref(now);
    fx_empty_dir(dir);
    assert_int_equal(by_changes(sw, dir, NULL, third), ERR_OK);
    sw_check_file(sw, dir);
    changes_free(first);
    changes_free(second);
    changes_free(third);
    snapread_unref(before);
    fx_remove_dir(dir);
    sw_free(sw);
}

static void an_empty_state_has_a_snapshot_too(void **state)
{
    char dir[FX_DIR_BYTES];
    (void)state;
    struct sw_world *sw = sw_new();
    fx_make_dir(dir);
    sw->lsn = 1;
    sw_end_record(sw);
    sw_end_group(sw);
    struct changes *c = sw_take_changes(sw);
    assert_int_equal(by_changes(sw, dir, NULL, c), ERR_OK);
    sw_check_file(sw, dir);
    fx_empty_dir(dir);
    assert_int_equal(by_stores(sw, dir, NULL), ERR_OK);
    sw_check_file(sw, dir);
    changes_free(c);
    fx_remove_dir(dir);
    sw_free(sw);
}

/* One version more of each of MANY secrets, a hundred in a record; what a snapshot must hold then goes into sw->kv. */
#define MANY (SANITIZED ? 7000 : 70000)

static void set_many(struct sw_world *sw, uint32_t version)
{
    uint8_t key[SECRET_KEY_MAX], full[SECRET_KEY_MAX + 2], list[2 * SECRET_VERSION_BYTES_MAX], raw[256], value[60];
    static uint64_t first_lsn[MANY];
    struct sx_set *kv = &sw->kv;
    char path[32];
    sx_clear(kv);
    for (unsigned i = 0; i < MANY; i++) {
        struct bytes p = bytes_of(path, (size_t)snprintf(path, sizeof path, "%u/path", i * 7919u % MANY));
        if (i % 100 == 0)
            sw->lsn++;
        first_lsn[i] = version == 1 ? sw->lsn : first_lsn[i];
        memset(value, (int)(i + version), sizeof value);
        struct secret_version v[2] = {
            {.version = 1, .sealed_bytes = sizeof value, .lsn = first_lsn[i], .slot = SECRET_NO_SLOT},
            {.version = 2, .sealed_bytes = sizeof value, .lsn = sw->lsn, .slot = SECRET_NO_SLOT}};
        struct secret_head h = {
            .flags = SECRET_CURRENT_INLINE, .last_version = version, .current = version, .versions = (uint16_t)version};
        h.version_bytes = bytes_of(list, secret_versions_put(list, v, version));
        h.value.raw = bytes_of(value, sizeof value);
        secret_head_put(&h, raw);
        struct bytes head_key = secret_key_head(key, SW_VAULT, p), head = bytes_of(raw, secret_head_size(&h));
        assert_int_equal(ops_put(&sw->ops, 1, head_key, head), ERR_OK);
        sx_add(kv, sw_full_key(full, 1, head_key), head, sw->lsn);
        memset(value, (int)(i + 1), sizeof value);
        if (version == 2)
            sx_add(kv, sw_full_key(full, 1, secret_key_logged(key, SW_VAULT, p, first_lsn[i], 1)),
                   bytes_of(value, sizeof value), first_lsn[i]);
        if (i % 100 == 99)
            sw_end_record(sw);
        if (i % 1000 == 999)
            sw_end_group(sw);
    }
}

/* More keys, values and old values than are read ahead at once. */
static void many_secrets(void **state)
{
    char dir[2][FX_DIR_BYTES];
    (void)state;
    struct sw_world *sw = sw_new();
    fx_make_dir(dir[0]);
    fx_make_dir(dir[1]);
    set_many(sw, 1);
    struct changes *first = sw_take_changes(sw);
    assert_int_equal(by_changes(sw, dir[0], NULL, first), ERR_OK);
    sw_check_file(sw, dir[0]);
    struct snapread *before = open_now(sw, dir[0]);
    set_many(sw, 2);
    struct changes *second = sw_take_changes(sw);
    assert_int_equal(by_changes(sw, dir[0], before, second), ERR_OK); /* old values from the heads before */
    sw_check_file(sw, dir[0]);
    assert_int_equal(changes_merge(second, first), ERR_OK);
    assert_int_equal(changes_sort(second), ERR_OK);
    assert_int_equal(by_changes(sw, dir[1], NULL, second), ERR_OK); /* all from the log */
    sw_check_file(sw, dir[1]);
    fx_empty_dir(dir[1]);
    assert_int_equal(by_stores(sw, dir[1], before), ERR_OK);
    sw_check_file(sw, dir[1]);
    changes_free(first);
    changes_free(second);
    snapread_unref(before);
    fx_remove_dir(dir[0]);
    fx_remove_dir(dir[1]);
    sw_free(sw);
}

/* ---- what is missing or damaged ---- */

/* The file of now has all that the model says but for so many old values. */
static void check_all_but(const struct sw_world *sw, const char *dir, uint64_t missing)
{
    struct sx_set want = {0};
    struct snapread_info info;
    struct snapold o;
    struct blob *b;
    sw_expect(sw, &want);
    struct snapread *r = open_now(sw, dir);
    snapread_info(r, &info);
    assert_int_equal(info.entries + missing, want.n);
    for (size_t i = 0; i < want.n; i++) {
        struct bytes key = want.at[i].key;
        enum err e = snapread_get(r, (uint16_t)(key.p[0] << 8 | key.p[1]), bytes_of(key.p + 2, key.n - 2), &b);
        assert_true(!e || (e == ERR_NOTFOUND && snapold_parse(key, &o)));
        assert_true(e || bytes_equal(blob_bytes(b), want.at[i].value));
        blob_unref(b);
    }
    snapread_unref(r);
    sx_clear(&want);
}

/* Old values that the log has let go of, and no snapshot has: no snapshot was ever made again. The way by the changes
 * needs the log for more than these. */
static void old_values_that_are_nowhere_are_left_out(void **state)
{
    char dir[FX_DIR_BYTES];
    struct store *missing[SW_STORES] = {0};
    struct snapmerge_view *v;
    (void)state;
    struct sw_world *sw = sw_new();
    fx_make_dir(dir);
    sx_seed = 5;
    sw_run(sw, 300);
    struct changes *c = sw_take_changes(sw);
    assert_int_equal(snapmerge_view_new(&v, missing, SW_STORES), ERR_CORRUPT);
    assert_null(v);
    assert_int_equal(wal_remove_below(sw->w, sw->lsn - 20), ERR_OK); /* and there is no snapshot */
    assert_int_equal(by_changes(sw, dir, NULL, c), ERR_CORRUPT);
    assert_int_equal(sx_files(dir), 0);
    changes_free(c);
    assert_int_equal(by_stores(sw, dir, NULL), ERR_OK);
    assert_true(lost > 0);
    check_all_but(sw, dir, lost);

    struct snapread *before = open_now(sw, dir); /* and things go on from there, by the changes again */
    sw_run(sw, 200);
    c = sw_take_changes(sw);
    assert_int_equal(by_changes(sw, dir, before, c), ERR_OK);
    changes_free(c);
    snapread_unref(before);
    struct sx_set want = {0};
    struct snapread_info info;
    sw_expect(sw, &want);
    before = open_now(sw, dir);
    snapread_info(before, &info);
    check_all_but(sw, dir, want.n - info.entries); /* lost counts those of heads that changed, not of the others */
    assert_true(lost <= want.n - info.entries);
    snapread_unref(before);
    sx_clear(&want);
    fx_remove_dir(dir);
    sw_free(sw);
}

/* A byte in the middle of block i. */
static uint64_t middle_of_block(int fd, uint64_t i)
{
    struct snapio_tail t;
    struct snapfile_block b;
    const char *why;
    assert_int_equal(snapio_read_ends(fd, &t, &why), ERR_OK);
    assert_int_equal(snapio_read_index(fd, &t, &why), ERR_OK);
    snapio_block(&t, i, &b);
    snapio_tail_fini(&t);
    return b.off + b.bytes / 2;
}

static void put_some_large_values(struct sw_world *sw)
{
    static uint8_t value[5000];
    char key[16];
    sw->lsn++;
    for (unsigned i = 0; i < 20; i++) {
        int n = snprintf(key, sizeof key, "Large%u", i);
        sw_put(sw, 0, bytes_of(key, (size_t)n), bytes_of(value, sizeof value));
    }
    sw_end_record(sw);
    sw_end_group(sw);
}

/* The snapshot before with each block bad in turn: the first way refuses, the second needs it only for old values that
 * the log has lost. */
static void the_stores_and_the_log_make_up_for_a_damaged_snapshot(void **state)
{
    char dir[2][FX_DIR_BYTES], path[512];
    struct snapread_info info;
    (void)state;
    struct sw_world *sw = sw_new();
    fx_make_dir(dir[0]);
    fx_make_dir(dir[1]);
    sx_seed = 17;
    put_some_large_values(sw);
    sw_run(sw, 400);
    struct changes *c = sw_take_changes(sw);
    assert_int_equal(by_changes(sw, dir[0], NULL, c), ERR_OK);
    changes_free(c);
    sx_path(path, dir[0], sw->lsn);
    struct snapread *before = open_now(sw, dir[0]);
    snapread_info(before, &info);
    assert_true(info.blocks > 3);
    sw_run(sw, 100);
    c = sw_take_changes(sw);
    int fd = open(path, O_RDWR);
    for (uint64_t i = 0; i < info.blocks; i++) {
        uint8_t was, now;
        off_t at = (off_t)middle_of_block(fd, i);
        assert_int_equal(pread(fd, &was, 1, at), 1);
        now = was ^ 2;
        assert_int_equal(pwrite(fd, &now, 1, at), 1);
        assert_int_equal(by_changes(sw, dir[1], before, c), ERR_CORRUPT);
        assert_int_equal(sx_files(dir[1]), 0);
        assert_int_equal(by_stores(sw, dir[1], before), ERR_OK);
        sw_check_file(sw, dir[1]);
        fx_empty_dir(dir[1]);
        assert_int_equal(pwrite(fd, &was, 1, at), 1);
    }
    assert_int_equal(wal_remove_below(sw->w, info.header.lsn + 1), ERR_OK);
    assert_int_equal(by_stores(sw, dir[1], NULL), ERR_OK);
    assert_true(lost > 0);
    assert_int_equal(by_stores(sw, dir[1], before), ERR_OK);
    assert_int_equal(lost, 0);
    sw_check_file(sw, dir[1]);
    close(fd);
    changes_free(c);
    snapread_unref(before);
    fx_remove_dir(dir[0]);
    fx_remove_dir(dir[1]);
    sw_free(sw);
}

/* ---- faults ---- */

static const struct {
    enum fault_kind kind;
    int code;
    enum err err;
} faults[] = {{FAULT_FILE, EIO, ERR_IO}, {FAULT_FILE, ENOSPC, ERR_MISCONF}, {FAULT_MEM, 1, ERR_OOM}};

static void check_outcome(struct sw_world *sw, const char *dir, enum err e, enum err want, int fired)
{
    size_t files = sx_files(dir);
    assert_true(!e || (fired && e == want));
    assert_true(files <= 1 && (e || files == 1));
    if (files) /* whole, whatever was answered */
        sw_check_file(sw, dir);
    fx_empty_dir(dir);
}

static void what_fails_leaves_no_file_or_a_whole_one(void **state)
{
    char dir[2][FX_DIR_BYTES];
    (void)state;
    struct sw_world *sw = sw_new();
    fx_make_dir(dir[0]);
    fx_make_dir(dir[1]);
    sx_seed = 23;
    sw_run(sw, 60);
    struct changes *c = sw_take_changes(sw);
    assert_int_equal(by_changes(sw, dir[0], NULL, c), ERR_OK);
    changes_free(c);
    struct snapread *before = open_now(sw, dir[0]);
    sw_run(sw, 40);
    c = sw_take_changes(sw);
    for (int stores = 0; stores < 2; stores++)
        for (size_t k = 0; k < sizeof faults / sizeof *faults; k++)
            for (long n = 1;; n += SWEEP_STEP) {
                struct snapwrite_config cfg;
                struct snapwrite_result result;
                struct snapmerge_view *v = stores ? sw_view(sw) : NULL;
                sw_config(sw, dir[1], &cfg);
                fault_arm(faults[k].kind, n, faults[k].code);
                enum err e = stores ? snapmerge_stores(&cfg, before, v, sw->w, &result)
                                    : snapmerge_changes(&cfg, before, c, sw->w, &result);
                int fired = fault_fired(faults[k].kind);
                fault_disarm(faults[k].kind);
                snapmerge_view_free(v);
                check_outcome(sw, dir[1], e, faults[k].err, fired);
                if (!fired) {
                    assert_true(n > 10);
                    break;
                }
            }
    changes_free(c);
    snapread_unref(before);
    fx_remove_dir(dir[0]);
    fx_remove_dir(dir[1]);
    sw_free(sw);
}

static enum err stop(void *arg, uint64_t bytes)
{
    unsigned *left = arg;
    (void)bytes;
    return (*left)-- == 0 ? ERR_AGAIN : ERR_OK;
}

static void it_stops_when_told(void **state)
{
    char dir[FX_DIR_BYTES];
    (void)state;
    struct sw_world *sw = sw_new();
    fx_make_dir(dir);
    sx_seed = 3;
    sw_run(sw, 300);
    struct changes *c = sw_take_changes(sw);
    for (unsigned after = 0;; after++) {
        struct snapwrite_config cfg;
        struct snapwrite_result result;
        unsigned left = after;
        sw_config(sw, dir, &cfg);
        cfg.pace = stop;
        cfg.pace_arg = &left;
        enum err e = snapmerge_changes(&cfg, NULL, c, sw->w, &result);
        if (!e) {
            assert_true(after >= 2);
            assert_int_equal(sx_files(dir), 1);
            break;
        }
        assert_int_equal(e, ERR_AGAIN);
        assert_int_equal(sx_files(dir), 0);
    }
    changes_free(c);
    fx_remove_dir(dir);
    sw_free(sw);
}

/* The state at S goes on changing while the view is read. */
static void a_view_stays_what_it_was(void **state)
{
    char dir[FX_DIR_BYTES];
    struct snapwrite_result result;
    struct snapwrite_config cfg;
    struct sx_set want = {0};
    (void)state;
    struct sw_world *sw = sw_new();
    fx_make_dir(dir);
    sx_seed = 41;
    sw_run(sw, 200);
    struct snapmerge_view *v = sw_view(sw);
    sw_config(sw, dir, &cfg);
    sw_expect(sw, &want);
    sw_run(sw, 200);
    assert_int_equal(apply_wait_lsn(sw->apply, sw->lsn), ERR_OK);
    assert_int_equal(snapmerge_stores(&cfg, NULL, v, sw->w, &result), ERR_OK);
    struct snapread *r = sx_open(dir, cfg.header.lsn);
    sx_check(r, &want);
    snapread_unref(r);
    snapmerge_view_free(v);
    sx_clear(&want);
    fx_remove_dir(dir);
    sw_free(sw);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_ways_give_what_the_model_says),
        cmocka_unit_test(stretches_may_be_merged_and_may_overlap),
        cmocka_unit_test(an_empty_state_has_a_snapshot_too),
        cmocka_unit_test(many_secrets),
        cmocka_unit_test(old_values_that_are_nowhere_are_left_out),
        cmocka_unit_test(the_stores_and_the_log_make_up_for_a_damaged_snapshot),
        cmocka_unit_test(what_fails_leaves_no_file_or_a_whole_one),
        cmocka_unit_test(it_stops_when_told),
        cmocka_unit_test(a_view_stays_what_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
