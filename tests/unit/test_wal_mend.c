/* A sealed segment that the disk has lost is written anew from records that somebody else has: whatever is left of the
 * file, whatever he sends, and wherever it is broken off. */
#include "wal_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "engine/wal_impl.h"

struct scene {
    char dir[FX_DIR_BYTES];
    struct oracle o;
    struct wal *w;
    char names[16][WAL_NAME_BYTES];
    uint64_t first, last; /* of the segment that is damaged */
};

static struct wal_config config(const struct scene *s)
{
    struct wal_config cfg = fx_config(s->dir, WAL_SEGMENT_MIN_BYTES);
    cfg.lazy = 1; /* damage is for somebody to find */
    return cfg;
}

static int setup(void **state)
{
    struct scene *s = *state = calloc(1, sizeof *s);
    assert_non_null(s);
    fx_make_dir(s->dir);
    struct wal_config cfg = config(s);
    oracle_init(&s->o, 1, NULL);
    s->w = fx_open(&cfg, NULL);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(fx_append(s->w, &s->o, i % 3 + 1, 1 + i / 8, 350), ERR_OK);
    assert_in_range(fx_segments(s->dir, s->names, 16), 4, 15);
    assert_int_equal(wal_segment_parse_name(s->names[1], &s->first), 1);
    assert_int_equal(wal_segment_parse_name(s->names[2], &s->last), 1);
    s->last--;
    return 0;
}

static int teardown(void **state)
{
    struct scene *s = *state;
    wal_close(s->w);
    fx_remove_dir(s->dir);
    oracle_fini(&s->o);
    free(s);
    return 0;
}

/* ---- damage ---- */

static void flip(const struct scene *s, double where)
{
    struct buf b;
    fx_read(s->dir, s->names[1], &b);
    buf_data(&b)[(size_t)((double)(buf_size(&b) - 1) * where)] ^= 0x10;
    fx_write(s->dir, s->names[1], buf_bytes(&b));
    buf_fini(&b);
}

static enum err look(struct scene *s)
{
    uint64_t first, last;
    enum err e = wal_verify_segment(s->w, s->first, NULL, NULL, &first, &last);
    assert_true(first == s->first && last == s->last);
    return e;
}

static int has_litter(const struct scene *s)
{
    char path[512];
    fx_path(path, s->dir, WAL_MEND);
    return access(path, F_OK) == 0;
}

/* All of the log is there, now and after a start, and takes as much room as it says. */
static void assert_whole(struct scene *s)
{
    struct wal_config cfg = config(s);
    struct wal_info before, after;
    struct wal_report rep;
    assert_int_equal(look(s), ERR_OK);
    assert_false(has_litter(s));
    fx_check(s->w, &s->o, 1, oracle_last(&s->o));
    wal_info(s->w, &before);
    wal_close(s->w);
    cfg.lazy = 0;
    s->w = fx_open(&cfg, &rep);
    assert_int_equal(rep.damaged_lsn, 0);
    fx_check(s->w, &s->o, 1, oracle_last(&s->o));
    wal_info(s->w, &after);
    assert_true(before.bytes == after.bytes && before.segments == after.segments);
}

/* ---- who has the records ---- */

struct peer {
    const struct oracle *o;
    unsigned at_once; /* records in an answer */
    void (*twist)(struct peer *p, uint64_t from, uint64_t to, struct buf *out);
    enum err err; /* instead of an answer, from err_lsn on */
    uint64_t err_lsn;
    unsigned asked;
    struct scene *s;
};

static enum err give(void *arg, uint64_t from, uint64_t to, struct buf *out)
{
    struct peer *p = arg;
    p->asked++;
    if (p->err && from >= p->err_lsn)
        return p->err;
    uint64_t end = from + p->at_once - 1 < to ? from + p->at_once - 1 : to;
    struct bytes raw = oracle_bytes(p->o, from, end);
    enum err e = buf_put(out, raw.p, raw.n);
    if (!e && p->twist)
        p->twist(p, from, to, out);
    return e;
}

static struct peer honest(struct scene *s)
{
    return (struct peer){.o = &s->o, .at_once = 2, .s = s};
}

static enum err mend(struct scene *s, struct peer *p)
{
    return wal_mend(s->w, s->first + 1, give, p);
}

/* ---- what is mended ---- */

static void rot_anywhere_in_it(void **state)
{
    struct scene *s = *state;
    for (double at = 0; at <= 1; at += 1.0 / 16) {
        struct peer p = honest(s);
        flip(s, at);
        assert_int_equal(look(s), ERR_CORRUPT);
        assert_int_equal(mend(s, &p), ERR_OK);
        assert_true(p.asked > 1);
        assert_whole(s);
        fx_segments(s->dir, s->names, 16);
    }
}

static void a_file_that_is_short_or_gone(void **state)
{
    struct scene *s = *state;
    char path[512];
    fx_path(path, s->dir, s->names[1]);
    for (int size = 0; size < 400; size += 130) {
        struct peer p = honest(s);
        assert_int_equal(truncate(path, size), 0);
        assert_int_equal(look(s), ERR_CORRUPT);
        assert_int_equal(mend(s, &p), ERR_OK);
        assert_whole(s);
    }
    struct peer p = honest(s);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(look(s), ERR_CORRUPT);
    assert_int_equal(mend(s, &p), ERR_OK);
    assert_whole(s);
}

/* A cursor that stopped at the damage, one that was before it, and a reader that has the old file open. */
static void who_reads_goes_on_in_the_new_one(void **state)
{
    struct scene *s = *state;
    struct wal_cursor *stopped, *before;
    struct wal_reader *rd;
    struct record r;
    struct bytes raw;
    struct peer p = honest(s);
    enum err e;

    assert_int_equal(wal_reader_open(&rd, s->w), ERR_OK);
    assert_int_equal(wal_reader_read(rd, s->first, &r), ERR_OK);
    flip(s, 0.6);
    assert_int_equal(wal_cursor_open(&before, s->w, 1), ERR_OK);
    assert_int_equal(wal_cursor_next(before, &r, &raw), ERR_OK);
    assert_int_equal(wal_cursor_open(&stopped, s->w, 1), ERR_OK);
    while ((e = wal_cursor_next(stopped, &r, &raw)) == ERR_OK) {
    }
    assert_int_equal(e, ERR_CORRUPT);
    assert_in_range(r.lsn, s->first, s->last);
    uint64_t next = r.lsn;

    assert_int_equal(mend(s, &p), ERR_OK);
    for (; next <= oracle_last(&s->o); next++) {
        assert_int_equal(wal_cursor_next(stopped, &r, &raw), ERR_OK);
        assert_int_equal(r.lsn, next);
    }
    assert_int_equal(wal_cursor_next(stopped, &r, &raw), ERR_END);
    for (next = 2; next <= oracle_last(&s->o); next++) {
        assert_int_equal(wal_cursor_next(before, &r, &raw), ERR_OK);
        assert_int_equal(r.lsn, next);
    }
    for (next = s->last; next >= s->first; next--)
        assert_int_equal(wal_reader_read(rd, next, &r), ERR_OK);
    wal_cursor_close(stopped);
    wal_cursor_close(before);
    wal_reader_close(rd);
    assert_whole(s);
}

/* ---- what is not taken ---- */

static void sends_nothing(struct peer *p, uint64_t from, uint64_t to, struct buf *out)
{
    (void)p, (void)from, (void)to;
    buf_clear(out);
}

static void sends_a_part_of_one(struct peer *p, uint64_t from, uint64_t to, struct buf *out)
{
    (void)p, (void)from, (void)to;
    buf_truncate(out, buf_size(out) - 8);
}

static void sends_rot(struct peer *p, uint64_t from, uint64_t to, struct buf *out)
{
    (void)p, (void)from, (void)to;
    buf_data(out)[buf_size(out) / 2] ^= 1;
}

static void sends_others(struct peer *p, uint64_t from, uint64_t to, struct buf *out)
{
    struct bytes raw = oracle_bytes(p->o, from + 1, from + 1);
    (void)to;
    buf_clear(out);
    assert_int_equal(buf_put(out, raw.p, raw.n), ERR_OK);
}

static void sends_too_many(struct peer *p, uint64_t from, uint64_t to, struct buf *out)
{
    struct bytes raw = oracle_bytes(p->o, from, to + 1);
    buf_clear(out);
    assert_int_equal(buf_put(out, raw.p, raw.n), ERR_OK);
}

static void refuses(struct scene *s, struct peer *p, enum err want)
{
    assert_int_equal(mend(s, p), want);
    assert_false(has_litter(s));
    assert_int_equal(look(s), ERR_CORRUPT);
}

static void what_is_no_record_of_these(void **state)
{
    struct scene *s = *state;
    void (*const twists[])(struct peer *, uint64_t, uint64_t, struct buf *) = {sends_nothing, sends_a_part_of_one,
                                                                               sends_rot, sends_others, sends_too_many};
    flip(s, 0.5);
    for (size_t i = 0; i < sizeof twists / sizeof *twists; i++) {
        struct peer p = honest(s);
        p.twist = twists[i];
        refuses(s, &p, ERR_CORRUPT);
    }
    struct peer p = honest(s);
    assert_int_equal(mend(s, &p), ERR_OK);
    assert_whole(s);
}

/* Records that verify, chain from each other and have the right LSNs, and are of another history: from the segment's
 * beginning on, or in its last record only. */
static void records_of_another_history(void **state)
{
    struct scene *s = *state;
    const uint64_t since[] = {1, s->first, s->last};
    flip(s, 0.5);
    for (size_t i = 0; i < 3; i++) {
        struct oracle other;
        oracle_init(&other, 1, NULL);
        for (uint64_t lsn = 1; lsn <= oracle_last(&s->o); lsn++)
            oracle_add(&other, (lsn < since[i] ? 1 : 9), 350);
        struct peer p = honest(s);
        p.o = &other;
        refuses(s, &p, ERR_CORRUPT);
        oracle_fini(&other);
    }
    struct peer p = honest(s);
    assert_int_equal(mend(s, &p), ERR_OK);
    assert_whole(s);
}

/* They are not to fill the disk. */
static void more_bytes_than_there_were(void **state)
{
    struct scene *s = *state;
    struct oracle other;
    oracle_init(&other, 1, NULL);
    for (uint64_t lsn = 1; lsn <= oracle_last(&s->o); lsn++)
        oracle_add(&other, 1, lsn == s->first + 1 ? 100000 : 350);
    struct peer p = honest(s);
    p.o = &other;
    p.at_once = 1;
    flip(s, 0.5);
    refuses(s, &p, ERR_CORRUPT);
    assert_int_equal(p.asked, 2);
    oracle_fini(&other);
}

static void a_peer_that_goes_away(void **state)
{
    struct scene *s = *state;
    flip(s, 0.5);
    for (uint64_t lsn = s->first; lsn <= s->last; lsn++) {
        struct peer p = honest(s);
        p.at_once = 1;
        p.err = ERR_AGAIN;
        p.err_lsn = lsn;
        refuses(s, &p, ERR_AGAIN);
    }
}

static void only_sealed_segments(void **state)
{
    struct scene *s = *state;
    struct peer p = honest(s);
    assert_int_equal(wal_mend(s->w, oracle_last(&s->o), give, &p), ERR_NOTFOUND);
    assert_int_equal(wal_mend(s->w, oracle_last(&s->o) + 9, give, &p), ERR_NOTFOUND);
    assert_int_equal(wal_remove_below(s->w, s->first), ERR_OK);
    assert_int_equal(wal_mend(s->w, 1, give, &p), ERR_NOTFOUND);
    assert_int_equal(p.asked, 0);
}

/* ---- what goes on beside it ---- */

static void removes_it(struct peer *p, uint64_t from, uint64_t to, struct buf *out)
{
    (void)to, (void)out;
    if (from > p->s->first)
        assert_int_equal(wal_remove_below(p->s->w, p->s->last + 1), ERR_OK);
}

static void cuts_it(struct peer *p, uint64_t from, uint64_t to, struct buf *out)
{
    (void)to, (void)out;
    if (from > p->s->first && p->asked == 2)
        assert_int_equal(wal_cut(p->s->w, p->s->first), ERR_OK);
}

static void it_is_removed_meanwhile(void **state)
{
    struct scene *s = *state;
    struct peer p = honest(s);
    p.twist = removes_it;
    flip(s, 0.9);
    assert_int_equal(mend(s, &p), ERR_NOTFOUND);
    assert_false(has_litter(s));
    fx_check(s->w, &s->o, s->last + 1, oracle_last(&s->o));
}

static void it_is_cut_meanwhile(void **state)
{
    struct scene *s = *state;
    struct peer p = honest(s);
    p.twist = cuts_it;
    flip(s, 0.9);
    assert_int_equal(mend(s, &p), ERR_NOTFOUND);
    assert_false(has_litter(s));
    oracle_cut(&s->o, s->first);
    fx_check(s->w, &s->o, 1, s->first);
}

/* ---- where it is broken off ---- */

static const struct {
    enum fault_kind kind;
    int code;
} faults[] = {{FAULT_FILE, EIO}, {FAULT_FILE, ENOSPC}, {FAULT_MEM, 1}};

/* Nothing has changed, or it is mended; and it can be tried again, unless the log says that it has failed. */
static void every_failure_leaves_one_of_the_two(void **state)
{
    struct scene *s = *state;
    unsigned failed = 0;
    for (size_t k = 0; k < sizeof faults / sizeof *faults; k++)
        for (long n = 1;; n++) {
            struct wal_config cfg = config(s);
            struct wal_info info;
            struct peer p = honest(s);
            flip(s, 0.5);
            fault_arm(faults[k].kind, n, faults[k].code);
            enum err e = mend(s, &p);
            int fired = fault_fired(faults[k].kind);
            fault_disarm(faults[k].kind);
            wal_info(s->w, &info);
            failed += (unsigned)info.failed;
            if (info.failed) { /* the directory's sync: it is there under its name, which may not be durable */
                assert_int_equal(e, ERR_MISCONF);
                wal_close(s->w);
                s->w = fx_open(&cfg, NULL);
            } else if (e) {
                assert_true(fired);
                assert_int_equal(look(s), ERR_CORRUPT);
                assert_int_equal(mend(s, &p), ERR_OK);
            }
            assert_whole(s);
            if (!fired)
                break;
        }
    assert_int_equal(failed, 2); /* EIO and ENOSPC */
}

/* The process dies in the n-th file operation: the next one finds a damaged segment, or a whole one, and no litter. */
static void a_death_in_every_file_operation(void **state)
{
    struct scene *s = *state;
    unsigned damaged = 0, whole = 0;
    wal_close(s->w);
    for (long n = 1;; n++) {
        struct wal_config cfg = config(s);
        struct peer p = honest(s);
        int status;
        flip(s, 0.5);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct wal_report rep;
            if (wal_open(&s->w, &cfg, &rep) != ERR_OK)
                _exit(3);
            fault_arm(FAULT_FILE, n, FAULT_DIE);
            enum err e = mend(s, &p);
            _exit(e == ERR_OK && !fault_fired(FAULT_FILE) ? 7 : 4);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        s->w = fx_open(&cfg, NULL);
        assert_false(has_litter(s));
        enum err e = look(s);
        damaged += e == ERR_CORRUPT;
        whole += e == ERR_OK;
        assert_int_equal(mend(s, &p), ERR_OK);
        assert_whole(s);
        wal_close(s->w);
        s->w = NULL;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 7)
            break;
        assert_false(WIFEXITED(status) && (WEXITSTATUS(status) == 3 || WEXITSTATUS(status) == 4));
    }
    assert_true(damaged >= 5 && whole >= 2);
}

/* ---- threads ---- */

static _Atomic int over;

/* The log itself has the records. */
static enum err read_own(void *arg, uint64_t from, uint64_t to, struct buf *out)
{
    (void)to;
    return wal_read(arg, from, out);
}

static void *mend_on(void *arg)
{
    struct scene *s = arg;
    struct wal_info i;
    while (!atomic_load(&over)) {
        wal_info(s->w, &i);
        for (uint64_t lsn = i.first_lsn; lsn <= i.last_lsn && !atomic_load(&over); lsn += 5)
            (void)!wal_mend(s->w, lsn, read_own, s->w); /* cut meanwhile, maybe */
    }
    return NULL;
}

static void *read_on(void *arg)
{
    struct scene *s = arg;
    struct wal_cursor *c;
    struct record r;
    struct bytes raw;
    while (!atomic_load(&over) && wal_cursor_open(&c, s->w, 1) == ERR_OK) {
        enum err e;
        while ((e = wal_cursor_next(c, &r, &raw)) == ERR_OK) {
        }
        wal_cursor_close(c);
        if (e == ERR_CORRUPT || e == ERR_IO)
            abort(); /* cmocka cannot jump in a thread */
    }
    return NULL;
}

static void beside_a_writer_who_cuts_and_readers(void **state)
{
    struct scene *s = *state;
    pthread_t mender, reader;
    atomic_store(&over, 0);
    assert_int_equal(pthread_create(&mender, NULL, mend_on, s), 0);
    assert_int_equal(pthread_create(&reader, NULL, read_on, s), 0);
    for (unsigned round = 0; round < 60; round++) {
        uint64_t to = s->first + round % 7;
        assert_int_equal(wal_cut(s->w, to), ERR_OK);
        oracle_cut(&s->o, to);
        for (unsigned i = 0; i < 12; i++)
            assert_int_equal(fx_append(s->w, &s->o, 2, 10 + round, 400), ERR_OK);
    }
    atomic_store(&over, 1);
    pthread_join(mender, NULL);
    pthread_join(reader, NULL);
    fx_check(s->w, &s->o, 1, oracle_last(&s->o));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rot_anywhere_in_it, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_is_short_or_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(who_reads_goes_on_in_the_new_one, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_record_of_these, setup, teardown),
        cmocka_unit_test_setup_teardown(records_of_another_history, setup, teardown),
        cmocka_unit_test_setup_teardown(more_bytes_than_there_were, setup, teardown),
        cmocka_unit_test_setup_teardown(a_peer_that_goes_away, setup, teardown),
        cmocka_unit_test_setup_teardown(only_sealed_segments, setup, teardown),
        cmocka_unit_test_setup_teardown(it_is_removed_meanwhile, setup, teardown),
        cmocka_unit_test_setup_teardown(it_is_cut_meanwhile, setup, teardown),
        cmocka_unit_test_setup_teardown(every_failure_leaves_one_of_the_two, setup, teardown),
        cmocka_unit_test_setup_teardown(a_death_in_every_file_operation, setup, teardown),
        cmocka_unit_test_setup_teardown(beside_a_writer_who_cuts_and_readers, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
