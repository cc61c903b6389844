/* What stands for stores that are not there, against a model of the state: over random logs, with snapshots of every
 * age below it, with damage, with a log that is gone. */
#include "snap_world.h"

#include "base/fault.h"
#include "engine/overlay.h"

static struct snapread *snapshot_now(struct sw_world *sw, const char *dir)
{
    struct snapwrite_config cfg;
    struct snapwrite_result result;
    struct snapmerge_view *v = sw_view(sw);
    sw_config(sw, dir, &cfg);
    assert_int_equal(snapmerge_stores(&cfg, NULL, v, sw->w, &result), ERR_OK);
    snapmerge_view_free(v);
    return sx_open(dir, sw->lsn);
}

static const struct snapfile_entry *model_find(const struct sw_world *sw, struct bytes full)
{
    for (size_t i = 0; i < sw->kv.n; i++)
        if (bytes_equal(sw->kv.at[i].key, full))
            return &sw->kv.at[i];
    return NULL;
}

/* Every key that ever was. */
static void remember(const struct sw_world *sw, struct sx_set *ever)
{
    for (size_t i = 0; i < sw->kv.n; i++)
        sx_add(ever, sw->kv.at[i].key, bytes_of(NULL, 0), 0);
}

struct seen {
    unsigned ok, absent, loading, corrupt;
};

/* What is answered is what the model says, or one of the errors that are counted. */
static struct seen look(const struct sw_world *sw, struct overlay *o, const struct sx_set *ever)
{
    struct seen n = {0};
    for (size_t i = 0; i < ever->n; i++) {
        struct bytes full = ever->at[i].key;
        const struct snapfile_entry *want = model_find(sw, full);
        struct blob *b;
        enum err e = overlay_get(o, (uint16_t)(full.p[0] << 8 | full.p[1]), bytes_of(full.p + 2, full.n - 2), &b);
        if (e == ERR_OK) {
            assert_non_null(want);
            assert_true(bytes_equal(blob_bytes(b), want->value));
            assert_int_equal(b->lsn, want->lsn);
            n.ok++;
        } else if (e == ERR_NOTFOUND) {
            assert_null(want);
            n.absent++;
        } else {
            n.loading += e == ERR_LOADING;
            n.corrupt += e == ERR_CORRUPT;
            assert_true(e == ERR_LOADING || e == ERR_CORRUPT);
        }
        assert_true(e == ERR_OK || !b);
        blob_unref(b);
    }
    return n;
}

static void look_all(const struct sw_world *sw, struct overlay *o, const struct sx_set *ever)
{
    struct seen n = look(sw, o, ever);
    assert_true(n.ok >= sw->kv.n); /* keys are remembered more than once */
    assert_int_equal(n.loading + n.corrupt, 0);
}

struct scene {
    char dir[FX_DIR_BYTES];
    struct sw_world *sw;
    struct snapread *older, *newer;
    struct sx_set ever;
};

/* Records, a snapshot, records, a snapshot, records. */
static void scene_init(struct scene *s, uint64_t seed)
{
    *s = (struct scene){.sw = sw_new()};
    sx_seed = seed * 0x9e3779b97f4a7c15u + 1;
    fx_make_dir(s->dir);
    sw_run(s->sw, 60);
    remember(s->sw, &s->ever);
    s->older = snapshot_now(s->sw, s->dir);
    sw_run(s->sw, 60);
    remember(s->sw, &s->ever);
    s->newer = snapshot_now(s->sw, s->dir);
    sw_run(s->sw, 60);
    remember(s->sw, &s->ever);
}

static void scene_fini(struct scene *s)
{
    snapread_unref(s->older);
    snapread_unref(s->newer);
    sx_clear(&s->ever);
    fx_remove_dir(s->dir);
    sw_free(s->sw);
}

static void it_is_what_the_model_says(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct scene s;
        struct overlay *o;
        scene_init(&s, seed);
        struct snapread *base[] = {s.newer, s.older, NULL};
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(overlay_new(&o, s.sw->w, base[i] ? snapread_ref(base[i]) : NULL), ERR_OK);
            assert_int_equal(overlay_lsn(o), overlay_base_lsn(o));
            assert_int_equal(overlay_advance(o, s.sw->lsn), ERR_OK);
            look_all(s.sw, o, &s.ever);
            sw_run(s.sw, 20); /* and follows */
            remember(s.sw, &s.ever);
            assert_int_equal(overlay_advance(o, s.sw->lsn), ERR_OK);
            look_all(s.sw, o, &s.ever);
            for (unsigned down = i + 1; down < 3; down++) { /* and falls back */
                assert_int_equal(overlay_fall_back(o, base[down] ? snapread_ref(base[down]) : NULL), ERR_OK);
                look_all(s.sw, o, &s.ever);
            }
            assert_int_equal(overlay_base_lsn(o), 0);
            overlay_unref(o);
        }
        scene_fini(&s);
    }
}

/* One byte of the newer snapshot's first block. */
static void damage_newer(struct scene *s)
{
    struct snapread_info i;
    char path[512];
    snapread_info(s->newer, &i);
    snapread_unref(s->newer);
    s->newer = sx_open(s->dir, i.header.lsn); /* which has verified no block yet */
    sx_path(path, s->dir, i.header.lsn);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0 && pwrite(fd, "X", 1, 5000) == 1 && close(fd) == 0);
}

static void damage_is_passed_over_or_told(void **state)
{
    struct scene s;
    struct overlay *o;
    (void)state;
    scene_init(&s, 77);
    damage_newer(&s);
    for (int last = 0; last < 2; last++) {
        assert_int_equal(overlay_new(&o, s.sw->w, snapread_ref(s.newer)), ERR_OK);
        assert_int_equal(overlay_advance(o, s.sw->lsn), ERR_OK);
        assert_false(overlay_wants_older(o));
        if (last)
            overlay_is_last(o);
        struct seen n = look(s.sw, o, &s.ever);
        assert_true(last ? n.corrupt && !n.loading : n.loading && !n.corrupt);
        assert_true(n.ok > 0);
        assert_int_equal(overlay_wants_older(o), !last);
        assert_int_equal(overlay_fall_back(o, snapread_ref(s.older)), ERR_OK);
        assert_false(overlay_wants_older(o));
        look_all(s.sw, o, &s.ever);
        overlay_unref(o);
    }
    scene_fini(&s);
}

/* The log is gone between the two, then from where it stands: nothing is answered that might be old. */
static void a_log_that_is_gone(void **state)
{
    struct scene s;
    struct overlay *o;
    struct snapread_info i;
    (void)state;
    scene_init(&s, 5);
    snapread_info(s.newer, &i);
    assert_int_equal(overlay_new(&o, s.sw->w, snapread_ref(s.newer)), ERR_OK);
    assert_int_equal(overlay_advance(o, s.sw->lsn), ERR_OK);
    assert_int_equal(wal_remove_below(s.sw->w, i.header.lsn + 1), ERR_OK);
    assert_int_equal(overlay_fall_back(o, s.older), ERR_NOTFOUND);
    look_all(s.sw, o, &s.ever);
    overlay_unref(o);
    assert_int_equal(overlay_new(&o, s.sw->w, snapread_ref(s.older)), ERR_OK);
    assert_int_equal(overlay_advance(o, s.sw->lsn), ERR_NOTFOUND);
    struct seen n = look(s.sw, o, &s.ever);
    assert_int_equal(n.loading, s.ever.n);
    assert_int_equal(overlay_advance(o, s.sw->lsn), ERR_LOADING);
    overlay_unref(o);
    scene_fini(&s);
}

/* Each allocation and each file operation fails once: an error, and then it is as if nothing had been. */
static void faults(void **state)
{
    struct scene s;
    (void)state;
    scene_init(&s, 9);
    for (int kind = 0; kind < FAULT_KINDS; kind++) {
        int fired = 1;
        for (unsigned n = 1; fired; n++) {
            struct overlay *o = NULL;
            fault_arm(kind, n, EIO);
            enum err e = overlay_new(&o, s.sw->w, s.newer);
            if (!e)
                snapread_ref(s.newer);
            if (!e)
                e = overlay_advance(o, s.sw->lsn);
            enum err fell = e ? e : overlay_fall_back(o, s.older);
            if (!fell)
                snapread_ref(s.older);
            fired = fault_fired(kind);
            fault_disarm(kind);
            if (!e)
                look_all(s.sw, o, &s.ever);
            if (!e && fell) {
                assert_int_equal(overlay_fall_back(o, snapread_ref(s.older)), ERR_OK);
                look_all(s.sw, o, &s.ever);
            }
            overlay_unref(o);
        }
    }
    scene_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_what_the_model_says),
        cmocka_unit_test(damage_is_passed_over_or_told),
        cmocka_unit_test(a_log_that_is_gone),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
