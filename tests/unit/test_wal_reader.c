/* Records by LSN, in any order: found, told apart from damage, while the log is written and removed. */
#include "wal_fixture.h"

#include <pthread.h>

#include "engine/wal_impl.h"

static uint64_t seed = 7;

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

struct scene {
    char dir[FX_DIR_BYTES];
    struct oracle o;
    struct wal_config cfg;
    struct wal *w;
};

/* Segments of segment_bytes, groups of all sizes. */
static struct scene *scene_new(uint64_t segment_bytes, int groups)
{
    struct scene *s = calloc(1, sizeof *s);
    assert_non_null(s);
    fx_make_dir(s->dir);
    s->cfg = fx_config(s->dir, segment_bytes);
    oracle_init(&s->o, 1, NULL);
    s->w = fx_open(&s->cfg, NULL);
    fx_append_groups(s->w, &s->o, groups);
    return s;
}

static void scene_free(struct scene *s)
{
    wal_close(s->w);
    fx_remove_dir(s->dir);
    oracle_fini(&s->o);
    free(s);
}

static int is_record(const struct oracle *o, uint64_t lsn, const struct record *r)
{
    struct record want;
    size_t used;
    assert_int_equal(record_get(oracle_bytes(o, lsn, lsn), &want, &used), ERR_OK);
    return r->lsn == lsn && r->term == want.term && bytes_equal(r->key, want.key) && bytes_equal(r->blob, want.blob);
}

static void check_reads(struct scene *s, struct wal_reader *rd, unsigned times)
{
    struct record r;
    uint64_t last = oracle_last(&s->o);
    for (unsigned i = 0; i < times; i++) {
        uint64_t lsn = i % 3 == 0 ? 1 + i % last : 1 + next_random() % last;
        assert_int_equal(wal_reader_read(rd, lsn, &r), ERR_OK);
        assert_true(is_record(&s->o, lsn, &r));
    }
    assert_int_equal(wal_reader_read(rd, 0, &r), ERR_NOTFOUND);
    assert_int_equal(wal_reader_read(rd, last + 1, &r), ERR_NOTFOUND);
    assert_int_equal(r.lsn, 0);
}

static void each_record_is_found_in_any_order(void **state)
{
    static const uint64_t sizes[] = {4096, 65536, 1 << 20, 16 << 20}; /* of segments: many, or one with an index */
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct scene *s = scene_new(sizes[i], 400);
        struct wal_reader *rd;
        assert_int_equal(wal_reader_open(&rd, s->w), ERR_OK);
        check_reads(s, rd, 5000);
        fx_append_groups(s->w, &s->o, 20); /* it goes on */
        check_reads(s, rd, 1000);
        wal_reader_close(rd);
        wal_close(s->w);
        s->w = fx_open(&s->cfg, NULL); /* the index as the scan made it */
        assert_int_equal(wal_reader_open(&rd, s->w), ERR_OK);
        check_reads(s, rd, 5000);
        wal_reader_close(rd);
        scene_free(s);
    }
}

static void large_groups_and_large_records(void **state)
{
    (void)state;
    struct scene *s = scene_new(16 << 20, 5);
    struct wal_reader *rd;
    assert_int_equal(fx_append(s->w, &s->o, 1000, 1, 300), ERR_OK);
    assert_int_equal(fx_append(s->w, &s->o, 3, 1, 2 << 20), ERR_OK);
    assert_int_equal(fx_append(s->w, &s->o, 500, 2, 3), ERR_OK);
    assert_int_equal(wal_reader_open(&rd, s->w), ERR_OK);
    check_reads(s, rd, 3000);
    wal_reader_close(rd);
    scene_free(s);
}

static void a_log_without_records_has_none(void **state)
{
    (void)state;
    struct scene *s = scene_new(4096, 0);
    struct wal_reader *rd;
    struct record r;
    assert_int_equal(wal_reader_open(&rd, s->w), ERR_OK);
    assert_int_equal(wal_reader_read(rd, 1, &r), ERR_NOTFOUND);
    wal_reader_close(rd);
    wal_reader_close(NULL);
    scene_free(s);
}

/* A byte of a record altered while the log is open: that record is ERR_CORRUPT, or one behind it in the same stretch of
 * the index if it was a length; never a wrong record. */
static void damage_is_never_served(void **state)
{
    char path[512];
    (void)state;
    struct scene *s = scene_new(1 << 20, 30);
    fx_path(path, s->dir, "00000000000000000001.wbl");
    int fd = open(path, O_RDWR);
    uint64_t last = oracle_last(&s->o), end = atomic_load(&s->w->newest->end_off);
    unsigned corrupt = 0;
    for (uint64_t at = WAL_HEADER_BYTES; at < end; at += 1 + at % 17) {
        struct wal_reader *rd;
        uint8_t was, now;
        assert_int_equal(pread(fd, &was, 1, (off_t)at), 1);
        now = was ^ (uint8_t)(1 << at % 8);
        assert_int_equal(pwrite(fd, &now, 1, (off_t)at), 1);
        assert_int_equal(wal_reader_open(&rd, s->w), ERR_OK);
        for (uint64_t lsn = 1; lsn <= last; lsn++) {
            struct record r;
            enum err e = wal_reader_read(rd, lsn, &r);
            assert_true(e == ERR_OK || e == ERR_CORRUPT);
            if (!e)
                assert_true(is_record(&s->o, lsn, &r));
            corrupt += e != ERR_OK;
        }
        wal_reader_close(rd);
        assert_int_equal(pwrite(fd, &was, 1, (off_t)at), 1);
    }
    assert_true(corrupt > 100);
    close(fd);
    scene_free(s);
}

static void what_was_removed_is_not_found(void **state)
{
    (void)state;
    struct scene *s = scene_new(4096, 100);
    struct wal_reader *rd;
    struct wal_info info;
    struct record r;
    uint64_t last = oracle_last(&s->o);
    assert_int_equal(wal_reader_open(&rd, s->w), ERR_OK);
    assert_int_equal(wal_reader_read(rd, 1, &r), ERR_OK);
    assert_int_equal(wal_remove_below(s->w, last / 2), ERR_OK);
    wal_info(s->w, &info);
    for (uint64_t lsn = 1; lsn <= last; lsn++)
        assert_int_equal(wal_reader_read(rd, lsn, &r), lsn < info.first_lsn ? ERR_NOTFOUND : ERR_OK);
    uint64_t cut = last - 5;
    assert_int_equal(wal_cut(s->w, cut), ERR_OK);
    oracle_cut(&s->o, cut);
    assert_int_equal(wal_reader_read(rd, cut + 1, &r), ERR_NOTFOUND);
    assert_int_equal(fx_append(s->w, &s->o, 4, 99, 50), ERR_OK); /* another history */
    for (uint64_t lsn = info.first_lsn; lsn <= oracle_last(&s->o); lsn++) {
        assert_int_equal(wal_reader_read(rd, lsn, &r), ERR_OK);
        assert_true(is_record(&s->o, lsn, &r));
    }
    wal_reader_close(rd);
    scene_free(s);
}

static void failed_reads_may_be_tried_again(void **state)
{
    static const struct {
        enum fault_kind kind;
        int code;
        enum err err;
    } faults[] = {{FAULT_FILE, EIO, ERR_IO}, {FAULT_MEM, 1, ERR_OOM}};
    (void)state;
    struct scene *s = scene_new(4096, 60);
    uint64_t last = oracle_last(&s->o);
    for (size_t k = 0; k < 2; k++)
        for (long n = 1;; n++) {
            struct wal_reader *rd = NULL;
            struct record r;
            unsigned errors = 0;
            fault_arm(faults[k].kind, n, faults[k].code);
            while (wal_reader_open(&rd, s->w) != ERR_OK)
                errors++;
            for (uint64_t lsn = last; lsn > 0;) {
                enum err e = wal_reader_read(rd, lsn, &r);
                assert_true(e == ERR_OK || e == faults[k].err);
                errors += e != ERR_OK;
                if (!e)
                    assert_true(is_record(&s->o, lsn--, &r));
            }
            int fired = fault_fired(faults[k].kind);
            fault_disarm(faults[k].kind);
            assert_true(errors <= (unsigned)fired); /* a close that fails is none */
            wal_reader_close(rd);
            if (!fired)
                break;
        }
    scene_free(s);
}

struct reading {
    struct scene *s;
    _Atomic int stop;
    _Atomic uint64_t last; /* appended */
    uint64_t found, gone, wrong;
};

static void *read_on(void *arg)
{
    struct reading *job = arg;
    struct wal_reader *rd;
    uint64_t x = 3;
    if (wal_reader_open(&rd, job->s->w))
        return NULL;
    while (!atomic_load(&job->stop)) {
        struct record r;
        uint64_t last = atomic_load(&job->last);
        x = x * 6364136223846793005u + 1442695040888963407u;
        uint64_t lsn = 1 + (x >> 33) % (last + 1);
        enum err e = wal_reader_read(rd, lsn, &r);
        job->found += e == ERR_OK;
        job->gone += e == ERR_NOTFOUND;
        job->wrong += (e && e != ERR_NOTFOUND) || (!e && (r.lsn != lsn || r.vault != 7));
    }
    wal_reader_close(rd);
    return NULL;
}

static void it_reads_while_the_log_moves_on(void **state)
{
    (void)state;
    struct scene *s = scene_new(4096, 20);
    struct reading job = {.s = s};
    pthread_t thread;
    atomic_store(&job.last, oracle_last(&s->o));
    assert_int_equal(pthread_create(&thread, NULL, read_on, &job), 0);
    for (unsigned i = 0; i < 300; i++) {
        fx_append_groups(s->w, &s->o, 2);
        atomic_store(&job.last, oracle_last(&s->o));
        if (i % 10 == 9)
            assert_int_equal(wal_remove_below(s->w, oracle_last(&s->o) - 100), ERR_OK);
        if (i % 25 == 24) {
            oracle_cut(&s->o, oracle_last(&s->o) - 7);
            assert_int_equal(wal_cut(s->w, oracle_last(&s->o)), ERR_OK);
        }
    }
    atomic_store(&job.stop, 1);
    pthread_join(thread, NULL);
    assert_int_equal(job.wrong, 0);
    scene_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_record_is_found_in_any_order), cmocka_unit_test(large_groups_and_large_records),
        cmocka_unit_test(a_log_without_records_has_none),    cmocka_unit_test(damage_is_never_served),
        cmocka_unit_test(what_was_removed_is_not_found),     cmocka_unit_test(failed_reads_may_be_tried_again),
        cmocka_unit_test(it_reads_while_the_log_moves_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
