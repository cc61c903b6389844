/* The log when the n-th file operation or the n-th allocation fails, for every n: what was acknowledged is there
 * afterwards, what was not is there whole or not at all, and the log says that it stopped.
 *
 * "Afterwards" is looked at twice: in a copy of the directory as the failure left it (the process died), and in the
 * directory itself after wal_close. */
#include "wal_fixture.h"

#include <sched.h>

#include "engine/wal_impl.h"

static const struct {
    enum fault_kind kind;
    int code;
    const char *name;
} faults[] = {{FAULT_FILE, EIO, "EIO"}, {FAULT_FILE, ENOSPC, "ENOSPC"}, {FAULT_MEM, 1, "memory"}};

struct scene {
    char dir[FX_DIR_BYTES], copy[FX_DIR_BYTES], start[FX_DIR_BYTES]; /* start: what every round begins with */
    struct oracle o;
    uint64_t last;
    uint64_t next_segment; /* first LSN of the newest segment in start */
};

/* A log of a few segments, with a torn tail. */
static struct scene *scene_new(void)
{
    char names[16][WAL_NAME_BYTES];
    struct scene *s = calloc(1, sizeof *s);
    struct buf content;

    assert_non_null(s);
    fx_make_dir(s->dir);
    fx_make_dir(s->copy);
    fx_make_dir(s->start);
    struct wal_config cfg = fx_config(s->start, WAL_SEGMENT_MIN_BYTES);
    oracle_init(&s->o, 1, NULL);
    struct wal *w = fx_open(&cfg, NULL);
    for (uint32_t i = 0; i < 14; i++)
        assert_int_equal(fx_append(w, &s->o, i % 3 + 1, 1 + i / 8, 350), ERR_OK);
    wal_close(w);
    s->last = oracle_last(&s->o);
    size_t n = fx_segments(s->start, names, 16);
    assert_in_range(n, 3, 15);
    assert_int_equal(wal_segment_parse_name(names[n - 1], &s->next_segment), 1);
    fx_read(s->start, names[n - 1], &content);
    buf_data(&content)[buf_size(&content) - 100] = 0xee;
    fx_write(s->start, names[n - 1], buf_bytes(&content));
    buf_fini(&content);
    return s;
}

static void scene_free(struct scene *s)
{
    fx_remove_dir(s->dir);
    fx_remove_dir(s->copy);
    fx_remove_dir(s->start);
    oracle_fini(&s->o);
    free(s);
}

static struct wal_config config(const char *dir)
{
    return fx_config(dir, WAL_SEGMENT_MIN_BYTES);
}

/* The log in dir is sound, ends at least at acked and at most at last, and is the oracle's up to there. */
static uint64_t check_log(const struct scene *s, const char *dir, uint64_t acked, uint64_t last)
{
    struct wal_config cfg = config(dir);
    struct wal_report rep;
    struct wal *w = fx_open(&cfg, &rep);

    if (rep.damaged_lsn)
        fail_msg("%s", rep.text);
    assert_in_range(rep.last_lsn, acked, last);
    fx_check(w, &s->o, rep.first_lsn ? rep.first_lsn : rep.last_lsn + 1, rep.last_lsn);
    wal_close(w);
    return rep.last_lsn;
}

/* One round: start over, arm, act. act returns what it got; the fault is disarmed after it. *fired 0: n was too high.
 */
static void each_fault(struct scene *s, int from_open,
                       void (*act)(struct scene *s, struct wal *w, int kind, long n, int *fired))
{
    for (size_t k = 0; k < sizeof faults / sizeof *faults; k++)
        for (long n = 1;; n++) {
            struct wal_config cfg = config(s->dir);
            int fired = 0;
            fx_copy_dir(s->start, s->dir);
            oracle_cut(&s->o, s->last);
            struct wal *w = from_open ? NULL : fx_open(&cfg, NULL);
            act(s, w, (int)k, n, &fired);
            if (!fired) {
                assert_true(n > 1 || faults[k].kind == FAULT_MEM);
                break;
            }
        }
}

static void arm(int k, long n)
{
    fault_arm(faults[k].kind, n, faults[k].code);
}

static int disarm(int k)
{
    int fired = fault_fired(faults[k].kind);
    fault_disarm(faults[k].kind);
    return fired;
}

static void restore_oracle(struct scene *s)
{
    oracle_fini(&s->o);
    oracle_init(&s->o, 1, NULL);
    for (uint32_t i = 0; i < 14; i++)
        for (uint32_t r = 0; r <= i % 3; r++)
            oracle_add(&s->o, 1 + i / 8, 350);
    assert_int_equal(oracle_last(&s->o), s->last);
}

/* ---- open ---- */

static void act_open(struct scene *s, struct wal *none, int k, long n, int *fired)
{
    struct wal_config cfg = config(s->dir);
    struct wal_report rep;
    struct wal *w;

    (void)none;
    arm(k, n);
    enum err e = wal_open(&w, &cfg, &rep);
    *fired = disarm(k);
    if (e) {
        assert_null(w);
        assert_true(rep.text[0] != '\0');
        assert_true(e == ERR_IO || e == ERR_MISCONF || e == ERR_OOM);
    } else {
        assert_int_equal(rep.last_lsn, s->last);
        assert_true(rep.torn_bytes > 0);
    }
    fx_copy_dir(s->dir, s->copy);
    wal_close(w);
    check_log(s, s->copy, s->last, s->last);
    check_log(s, s->dir, s->last, s->last);
}

static void open_fails_cleanly_and_harms_nothing(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    each_fault(s, 1, act_open);
    scene_free(s);
}

/* The same for a directory that is not there yet. */
static void creating_fails_cleanly(void **state)
{
    (void)state;
    char parent[FX_DIR_BYTES], dir[FX_DIR_BYTES + 8];
    struct oracle *o = malloc(sizeof *o);

    assert_non_null(o);
    fx_make_dir(parent);
    snprintf(dir, sizeof dir, "%s/wal", parent);
    for (int k = 0; k < 3; k++)
        for (long n = 1;; n++) {
            struct wal_config cfg = config(dir);
            struct wal_report rep;
            struct wal *w;
            arm(k, n);
            enum err e = wal_open(&w, &cfg, &rep);
            int fired = disarm(k);
            if (e)
                assert_null(w);
            wal_close(w);
            w = fx_open(&cfg, &rep);
            assert_int_equal(rep.last_lsn, 0);
            oracle_init(o, 1, NULL);
            assert_int_equal(fx_append(w, o, 1, 1, 10), ERR_OK);
            fx_check(w, o, 1, 1);
            wal_close(w);
            oracle_fini(o);
            fx_remove_dir(dir);
            if (!fired)
                break;
        }
    fx_remove_dir(parent);
    free(o);
}

/* ---- append and switch ---- */

static void act_append(struct scene *s, struct wal *w, int k, long n, int *fired)
{
    enum { GROUPS = 14, RECORDS = 2 };
    uint64_t acked = s->last;
    enum err e = ERR_OK;
    struct wal_info info;

    for (int i = 0; i < GROUPS * RECORDS; i++)
        oracle_add(&s->o, 3 + (uint32_t)i / 10, 420); /* terms change: the table grows */
    arm(k, n);
    for (int i = 0; i < GROUPS && !e; i++) {
        uint64_t to = acked + RECORDS;
        e = wal_append(w, oracle_bytes(&s->o, acked + 1, to), RECORDS, acked + 1, s->o.chain[to]);
        if (e == ERR_OOM) { /* nothing was written: the same again */
            assert_int_equal(faults[k].kind, FAULT_MEM);
            e = wal_append(w, oracle_bytes(&s->o, acked + 1, to), RECORDS, acked + 1, s->o.chain[to]);
            assert_int_equal(e, ERR_OK);
        }
        acked += e ? 0 : RECORDS;
    }
    *fired = disarm(k);
    wal_info(w, &info);
    assert_int_equal(info.last_lsn, acked);
    if (e) {
        assert_int_equal(e, ERR_MISCONF);
        assert_int_equal(info.failed, 1);
        assert_int_equal(wal_room(w, 1), ERR_MISCONF);
        uint64_t to = acked + RECORDS; /* there is no fault any more; it stays so all the same */
        assert_int_equal(wal_append(w, oracle_bytes(&s->o, acked + 1, to), RECORDS, acked + 1, s->o.chain[to]),
                         ERR_MISCONF);
        assert_int_equal(wal_cut(w, acked - 1), ERR_MISCONF);
    } else if (!*fired) {
        assert_int_equal(acked, s->last + GROUPS * RECORDS);
    }
    fx_copy_dir(s->dir, s->copy);
    wal_close(w);
    /* The group that failed may have reached the disk before its sync failed: whole or not at all. */
    uint64_t possible = e ? acked + RECORDS : acked;
    uint64_t found = check_log(s, s->copy, acked, possible);
    assert_int_equal((found - acked) % RECORDS, 0);
    assert_int_equal(check_log(s, s->dir, acked, possible), found);
}

static void append_keeps_exactly_what_it_acknowledged(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    each_fault(s, 0, act_append);
    scene_free(s);
}

/* What the mark file says, as the next open would see it. */
static uint64_t marked(const char *dir)
{
    struct buf file;
    uint64_t lsn = 0, sequence = 0;
    fx_read(dir, "mark", &file);
    for (const uint8_t *slot = buf_data(&file); slot < buf_data(&file) + 64; slot += 32)
        if (get_le64(slot + 24) >= sequence) {
            sequence = get_le64(slot + 24);
            lsn = get_le64(slot + 16);
        }
    buf_fini(&file);
    return lsn;
}

static void an_append_is_one_write_and_one_sync_and_then_the_mark(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    for (long n = 1; n <= 3; n++) {
        struct wal_config cfg = config(s->dir);
        fx_empty_dir(s->dir);
        oracle_cut(&s->o, 0);
        struct wal *w = fx_open(&cfg, NULL);
        assert_int_equal(fx_append(w, &s->o, 1, 1, 10), ERR_OK);
        assert_int_equal(fx_append(w, &s->o, 1, 1, 10), ERR_OK);
        while (atomic_load(&w->prepare.ready_bytes) == 0) /* the helper has done its part, and is still from now on */
            sched_yield();
        assert_int_equal(marked(s->dir), 2);
        fault_arm(FAULT_FILE, n, EIO);
        enum err e = fx_append(w, &s->o, 3, 1, 10);
        fault_disarm(FAULT_FILE);
        assert_int_equal(e, n <= 2 ? ERR_MISCONF : ERR_OK);
        assert_int_equal(marked(s->dir), n <= 2 ? 2 : 5);
        wal_close(w);
        assert_int_equal(marked(s->dir), n <= 2 ? 2 : 5);
        assert_int_equal(check_log(s, s->dir, 2, 5), n == 1 ? 2 : 5);
    }
    restore_oracle(s);
    scene_free(s);
}

/* The order that makes a segment's existence a proof that the one before is durable. Step n fails: those before it have
 * been done, those after it have not. */
static void a_switch_does_its_steps_in_order(void **state)
{
    (void)state;
    enum { FOOTER = 1, CUT, SYNC, CLOSE, HEADER, SYNC_HEADER, RENAME, SYNC_DIR, STEPS };
    struct scene *s = scene_new();
    for (long n = FOOTER; n < STEPS; n++) {
        struct wal_config cfg = config(s->dir);
        char names[4][WAL_NAME_BYTES], path[512];
        struct buf old, next;
        fx_empty_dir(s->dir);
        oracle_cut(&s->o, 0);
        struct wal *w = fx_open(&cfg, NULL);
        assert_int_equal(fx_append(w, &s->o, 2, 1, 1500), ERR_OK);
        while (atomic_load(&w->prepare.ready_bytes) == 0)
            sched_yield();
        fault_arm(FAULT_FILE, n, EIO);
        assert_int_equal(fx_append(w, &s->o, 2, 1, 1500), ERR_MISCONF);
        fault_disarm(FAULT_FILE);

        fx_read(s->dir, "00000000000000000001.wbl", &old);
        size_t end = WAL_HEADER_BYTES + WAL_FRAME_BYTES + oracle_bytes(&s->o, 1, 2).n;
        assert_int_equal(memcmp(buf_data(&old) + end, "WBLF", 4) == 0, n > FOOTER);
        assert_int_equal(buf_size(&old) == end + WAL_FOOTER_BYTES, n > CUT);
        fx_path(path, s->dir, "next");
        assert_int_equal(access(path, F_OK) == 0, n <= RENAME);
        assert_int_equal(fx_segments(s->dir, names, 4), n > RENAME ? 2 : 1);
        fx_read(s->dir, n > RENAME ? names[1] : "next", &next);
        assert_int_equal(memcmp(buf_data(&next), "COFFERWL", 8) == 0, n > HEADER);
        buf_fini(&old);
        buf_fini(&next);
        struct wal_info info;
        wal_info(w, &info);
        assert_int_equal(info.segments, 1); /* nobody is sent to the new one before its name is durable */
        wal_close(w);
        check_log(s, s->dir, 2, 2);
    }
    restore_oracle(s);
    scene_free(s);
}

/* ---- remove ---- */

static void act_remove(struct scene *s, struct wal *w, int k, long n, int *fired)
{
    struct wal_info info;
    arm(k, n);
    enum err e = wal_remove_below(w, s->last);
    *fired = disarm(k);
    wal_info(w, &info);
    if (!e)
        assert_int_equal(info.first_lsn, s->next_segment);
    else
        assert_true(e == ERR_IO || e == ERR_MISCONF);
    fx_check(w, &s->o, info.first_lsn, s->last); /* readable on, in any case */
    fx_copy_dir(s->dir, s->copy);
    wal_close(w);
    check_log(s, s->copy, s->last, s->last);
    check_log(s, s->dir, s->last, s->last);
}

static void remove_below_leaves_no_hole(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    each_fault(s, 0, act_remove);
    scene_free(s);
}

/* ---- cut ---- */

static uint64_t cut_at;

static void act_cut(struct scene *s, struct wal *w, int k, long n, int *fired)
{
    struct wal_info info;

    arm(k, n);
    enum err e = wal_cut(w, cut_at);
    *fired = disarm(k);
    fx_copy_dir(s->dir, s->copy);
    wal_info(w, &info);
    if (e) {
        assert_true(e == ERR_MISCONF || e == ERR_OOM);
        assert_int_equal(info.failed, e == ERR_MISCONF);
        if (e == ERR_OOM) { /* as if nothing had been asked */
            fx_check(w, &s->o, 1, s->last);
            assert_int_equal(wal_cut(w, cut_at), ERR_OK);
            fx_check(w, &s->o, 1, cut_at);
        }
    } else {
        fx_check(w, &s->o, 1, cut_at);
    }
    wal_close(w);
    check_log(s, s->copy, cut_at, e ? s->last : cut_at);
    check_log(s, s->dir, cut_at, e == ERR_MISCONF ? s->last : cut_at);

    struct wal_config cfg = config(s->dir); /* the owner does it again */
    w = fx_open(&cfg, NULL);
    assert_int_equal(wal_cut(w, cut_at), ERR_OK);
    oracle_cut(&s->o, cut_at);
    assert_int_equal(fx_append(w, &s->o, 2, 8, 77), ERR_OK);
    fx_check(w, &s->o, 1, cut_at + 2);
    wal_close(w);
    check_log(s, s->dir, cut_at + 2, cut_at + 2);
    oracle_cut(&s->o, cut_at);
}

static void act_cut_and_restore(struct scene *s, struct wal *w, int k, long n, int *fired)
{
    act_cut(s, w, k, n, fired);
    restore_oracle(s);
}

static void cut_leaves_a_sound_log_wherever_it_fails(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    for (cut_at = 0; cut_at < s->last; cut_at += 5)
        each_fault(s, 0, act_cut_and_restore);
    scene_free(s);
}

/* ---- reading ---- */

static void act_read(struct scene *s, struct wal *w, int k, long n, int *fired)
{
    struct wal_cursor *c = NULL;
    struct record r;
    struct bytes raw = {0}; /* nothing was read yet */
    int errors = 0;

    arm(k, n);
    for (uint64_t lsn = 1; lsn <= s->last;) {
        enum err e = c ? wal_cursor_next(c, &r, &raw) : wal_cursor_open(&c, w, 1);
        if (e) {
            assert_true(e == ERR_IO || e == ERR_MISCONF || e == ERR_OOM);
            errors++;
        } else if (raw.n && r.lsn == lsn) {
            assert_true(bytes_equal(raw, oracle_bytes(&s->o, lsn, lsn)));
            lsn++;
        }
        if (!c || e)
            raw = bytes_of(NULL, 0);
    }
    *fired = disarm(k);
    assert_true(errors <= 1);
    wal_cursor_close(c);
    fx_check(w, &s->o, 1, s->last);
    wal_close(w);
}

static void a_cursor_goes_on_after_a_failed_read(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    each_fault(s, 0, act_read);
    scene_free(s);
}

/* ---- the helper thread ---- */

/* Makes the helper prepare a segment anew, and waits for the outcome. Nobody else does file operations meanwhile. */
static enum err prepare_again(struct wal *w)
{
    pthread_mutex_lock(&w->prepare.lock);
    wal_prepare_drop(&w->prepare.next);
    w->prepare.state = WAL_NEXT_NONE;
    w->prepare.error = ERR_OK;
    pthread_cond_signal(&w->prepare.wake);
    do
        pthread_cond_wait(&w->prepare.done, &w->prepare.lock);
    while (w->prepare.state == WAL_NEXT_BUSY);
    enum err e = w->prepare.error;
    pthread_mutex_unlock(&w->prepare.lock);
    return e;
}

/* A write or sync that fails while the next segment is prepared is as sticky as one of the log's own; want of space,
 * memory or descriptors is not. */
static void a_failing_disk_under_the_helper_stops_the_log(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    unsigned stopped = 0, tried_again = 0;

    for (int k = 0; k < 3; k++) {
        int fired = 1;
        for (long n = 1; fired; n++) {
            struct wal_config cfg = config(s->dir);
            struct wal_info info;
            fx_empty_dir(s->dir);
            oracle_cut(&s->o, 0);
            struct wal *w = fx_open(&cfg, NULL);
            arm(k, n + (faults[k].kind == FAULT_FILE)); /* the first is the close of what was prepared */
            enum err e = prepare_again(w);
            fired = disarm(k);
            wal_info(w, &info);
            if (info.failed) {
                assert_int_equal(faults[k].code, EIO);
                assert_int_equal(fx_append(w, &s->o, 1, 1, 10), ERR_MISCONF);
                stopped++;
            } else {
                assert_int_equal(wal_room(w, 100), e ? ERR_MISCONF : ERR_OK);
                assert_int_equal(fx_append(w, &s->o, 1, 1, 10), ERR_OK);
                assert_int_equal(wal_room(w, 100), ERR_OK);
                tried_again += e != ERR_OK;
            }
            wal_close(w);
        }
    }
    assert_int_equal(stopped, 2); /* write, sync */
    assert_true(tried_again > 4);
    restore_oracle(s);
    scene_free(s);
}

/* A file system that takes O_DIRECT at open and refuses 4 KiB at a time stopped the log: the zeros go through the page
 * cache there. Only the write may be done again, no sync. */
static void zeros_that_cannot_be_written_directly_are_written_all_the_same(void **state)
{
    (void)state;
    struct scene *s = scene_new();
    unsigned went_on = 0, stopped = 0;
    int fired = 1;

    for (long n = 2; fired; n++) {
        struct wal_config cfg = config(s->dir);
        struct wal_info info;
        fx_empty_dir(s->dir);
        oracle_cut(&s->o, 0);
        struct wal *w = fx_open(&cfg, NULL);
        fault_arm(FAULT_FILE, n, EINVAL);
        enum err e = prepare_again(w);
        fired = fault_fired(FAULT_FILE);
        fault_disarm(FAULT_FILE);
        wal_info(w, &info);
        went_on += fired && !e;
        stopped += info.failed != 0;
        assert_true(!info.failed || e);
        wal_close(w);
    }
    assert_true(went_on >= 1); /* the write; and what does not matter */
    assert_int_equal(stopped, 1);
    restore_oracle(s);
    scene_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open_fails_cleanly_and_harms_nothing),
        cmocka_unit_test(creating_fails_cleanly),
        cmocka_unit_test(append_keeps_exactly_what_it_acknowledged),
        cmocka_unit_test(an_append_is_one_write_and_one_sync_and_then_the_mark),
        cmocka_unit_test(a_switch_does_its_steps_in_order),
        cmocka_unit_test(remove_below_leaves_no_hole),
        cmocka_unit_test(cut_leaves_a_sound_log_wherever_it_fails),
        cmocka_unit_test(a_cursor_goes_on_after_a_failed_read),
        cmocka_unit_test(a_failing_disk_under_the_helper_stops_the_log),
        cmocka_unit_test(zeros_that_cannot_be_written_directly_are_written_all_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
