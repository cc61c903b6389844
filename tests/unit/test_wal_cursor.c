/* Reading the log, removing from it at one end and cutting at the other, also while it is written. */
#include "wal_fixture.h"

#include <pthread.h>
#include <sched.h>

#include "engine/wal_impl.h"

static void cursors_begin_anywhere_and_follow_the_end(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct oracle *o = malloc(sizeof *o);
    struct wal_cursor *c, *follower;
    struct record r;
    struct bytes raw;

    assert_non_null(o);
    fx_make_dir(dir);
    struct wal_config cfg = fx_config(dir, 8192);
    oracle_init(o, 1, NULL);
    struct wal *w = fx_open(&cfg, NULL);
    assert_int_equal(wal_cursor_open(&follower, w, 1), ERR_OK);
    for (int i = 0; i < 40; i++) {
        uint64_t before = oracle_last(o);
        assert_int_equal(wal_cursor_next(follower, &r, &raw), ERR_END);
        fx_append_groups(w, o, 1);
        for (uint64_t lsn = before + 1; lsn <= oracle_last(o); lsn++) {
            assert_int_equal(wal_cursor_next(follower, &r, &raw), ERR_OK);
            assert_int_equal(r.lsn, lsn);
        }
    }
    uint64_t last = oracle_last(o);
    for (uint64_t from = 1; from <= last + 1; from++) {
        assert_int_equal(wal_cursor_open(&c, w, from), ERR_OK);
        for (uint64_t lsn = from; lsn <= last && lsn < from + 20; lsn++) {
            assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_OK);
            assert_int_equal(r.lsn, lsn);
            assert_true(bytes_equal(raw, oracle_bytes(o, lsn, lsn)));
        }
        if (from + 20 > last)
            assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_END);
        wal_cursor_close(c);
    }
    assert_int_equal(wal_cursor_open(&c, w, last + 2), ERR_NOTFOUND);
    assert_int_equal(wal_cursor_open(&c, w, 0), ERR_NOTFOUND);
    wal_cursor_close(follower);
    wal_close(w);
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

static void assert_each_is_found(struct wal *w, const struct oracle *o, uint64_t last)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    for (uint64_t lsn = 1; lsn <= last; lsn += 1 + lsn % 5) {
        buf_clear(&b);
        assert_int_equal(wal_read(w, lsn, &b), ERR_OK);
        assert_true(bytes_equal(buf_bytes(&b), oracle_bytes(o, lsn, lsn)));
    }
    assert_int_equal(wal_read(w, last + 1, &b), ERR_NOTFOUND);
    assert_int_equal(wal_read(w, last + 2, &b), ERR_NOTFOUND);
    assert_int_equal(wal_read(w, 0, &b), ERR_NOTFOUND);
    buf_fini(&b);
}

/* Groups that are larger and smaller than the steps of a segment's index, in a log as it was written, found at a start,
 * and cut. */
static void a_record_is_found_by_its_lsn(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct oracle *o = malloc(sizeof *o);
    assert_non_null(o);
    fx_make_dir(dir);
    struct wal_config cfg = fx_config(dir, 1 << 20);
    oracle_init(o, 1, NULL);
    struct wal *w = fx_open(&cfg, NULL);
    for (uint32_t i = 0; i < 24; i++)
        assert_int_equal(fx_append(w, o, i % 3 ? 3 : 60, 1, 700 + 900 * (i % 5)), ERR_OK);
    uint64_t last = oracle_last(o);
    assert_true(w->oldest->next && w->oldest->places.count > 8); /* rows at frames and in them, in two segments */
    assert_each_is_found(w, o, last);
    wal_close(w);
    w = fx_open(&cfg, NULL);
    assert_true(w->oldest->places.count > 8);
    assert_each_is_found(w, o, last);
    last -= 100;
    assert_int_equal(wal_cut(w, last), ERR_OK);
    assert_each_is_found(w, o, last);
    wal_close(w);
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

static void removes_whole_segments_below_an_lsn(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES], names[64][WAL_NAME_BYTES];
    struct oracle *o = malloc(sizeof *o);
    struct wal_cursor *c;
    struct wal_report rep;
    struct wal_info info;
    struct record r;
    struct bytes raw;

    assert_non_null(o);
    fx_make_dir(dir);
    struct wal_config cfg = fx_config(dir, 4096);
    oracle_init(o, 1, NULL);
    struct wal *w = fx_open(&cfg, NULL);
    fx_append_groups(w, o, 40);
    uint64_t last = oracle_last(o), second, middle;
    size_t n = fx_segments(dir, names, 64);
    assert_true(n > 6);
    assert_int_equal(wal_segment_parse_name(names[1], &second), 1);
    assert_int_equal(wal_segment_parse_name(names[n / 2], &middle), 1);

    assert_int_equal(wal_cursor_open(&c, w, 1), ERR_OK);
    assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_OK);
    assert_int_equal(wal_remove_below(w, 0), ERR_OK);
    assert_int_equal(wal_remove_below(w, second - 1), ERR_OK); /* the first segment's last record is not below it */
    assert_int_equal(fx_segments(dir, names, 64), n);
    assert_int_equal(wal_remove_below(w, second), ERR_OK);
    assert_int_equal(fx_segments(dir, names, 64), n - 1);
    assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_NOTFOUND);
    wal_cursor_close(c);
    assert_int_equal(wal_cursor_open(&c, w, second - 1), ERR_NOTFOUND);
    fx_check(w, o, second, last);

    assert_int_equal(wal_cursor_open(&c, w, middle), ERR_OK);
    assert_int_equal(wal_remove_below(w, middle + 1), ERR_OK);
    assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_OK); /* its segment is still there */
    assert_int_equal(r.lsn, middle);
    wal_cursor_close(c);
    wal_info(w, &info);
    assert_int_equal(info.first_lsn, middle);
    assert_int_equal(info.segments, n - n / 2);
    fx_check(w, o, middle, last);
    wal_close(w);

    w = fx_open(&cfg, &rep);
    assert_int_equal(rep.first_lsn, middle);
    assert_int_equal(rep.damaged_lsn, 0);
    fx_check(w, o, middle, last);
    assert_int_equal(wal_remove_below(w, UINT64_MAX), ERR_OK); /* never the one being written */
    assert_int_equal(fx_segments(dir, names, 64), 1);
    fx_append_groups(w, o, 3);
    wal_info(w, &info);
    fx_check(w, o, info.first_lsn, oracle_last(o));
    wal_close(w);
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

/* Cut at every LSN, go on differently, and the log is what it then should be: at once and after a reopen. */
static void a_cut_at_every_lsn_is_exact_and_durable(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct oracle *o = malloc(sizeof *o);
    struct wal_report rep;
    uint64_t last = 1;

    assert_non_null(o);
    fx_make_dir(dir);
    struct wal_config cfg = fx_config(dir, 4096);
    for (uint64_t at = 0; at <= last; at++) {
        oracle_init(o, 1, NULL);
        struct wal *w = fx_open(&cfg, NULL);
        fx_append_groups(w, o, 12);
        last = oracle_last(o);
        assert_int_equal(wal_cut(w, last + 1), ERR_NOTFOUND);
        assert_int_equal(wal_cut(w, at), ERR_OK);
        assert_int_equal(wal_room(w, 100), ERR_OK);
        assert_int_equal(wal_term_at(w, at + 1), 0);
        if (at % 2) { /* reopen between cut and append */
            wal_close(w);
            w = fx_open(&cfg, &rep);
            assert_int_equal(rep.last_lsn, at);
            assert_int_equal(rep.torn_bytes, 0);
            assert_int_equal(rep.damaged_lsn, 0);
        }
        oracle_cut(o, at);
        fx_check(w, o, 1, at);
        assert_int_equal(fx_append(w, o, 3, 9, 333), ERR_OK);
        assert_int_equal(wal_term_at(w, at + 1), 9);
        fx_check(w, o, 1, at + 3);
        wal_close(w);
        w = fx_open(&cfg, &rep);
        assert_int_equal(rep.damaged_lsn, 0);
        assert_int_equal(rep.last_term, 9);
        fx_check(w, o, 1, at + 3);
        wal_close(w);
        fx_empty_dir(dir);
        oracle_fini(o);
    }
    fx_remove_dir(dir);
    free(o);
}

static void cursors_know_when_the_log_was_cut_below_them(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct oracle *o = malloc(sizeof *o);
    struct wal_cursor *below, *above, *at_cut;
    struct record r;
    struct bytes raw;

    assert_non_null(o);
    fx_make_dir(dir);
    struct wal_config cfg = fx_config(dir, 1 << 16);
    oracle_init(o, 1, NULL);
    struct wal *w = fx_open(&cfg, NULL);
    for (int i = 0; i < 5; i++)
        assert_int_equal(fx_append(w, o, 4, 1, 50), ERR_OK);
    assert_int_equal(wal_cursor_open(&below, w, 1), ERR_OK);
    assert_int_equal(wal_cursor_open(&at_cut, w, 7), ERR_OK);
    assert_int_equal(wal_cursor_open(&above, w, 1), ERR_OK);
    for (int i = 0; i < 6; i++)
        assert_int_equal(wal_cursor_next(below, &r, &raw), ERR_OK);
    for (int i = 0; i < 15; i++)
        assert_int_equal(wal_cursor_next(above, &r, &raw), ERR_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(wal_cursor_next(at_cut, &r, &raw), ERR_OK); /* 7 to 10 */

    assert_int_equal(wal_cut(w, 10), ERR_OK);
    oracle_cut(o, 10);
    assert_int_equal(wal_cursor_next(above, &r, &raw), ERR_NOTFOUND);
    assert_int_equal(wal_cursor_next(at_cut, &r, &raw), ERR_END);
    assert_int_equal(fx_append(w, o, 10, 2, 60), ERR_OK); /* other records where above has already been */
    assert_int_equal(wal_cursor_next(above, &r, &raw), ERR_NOTFOUND);
    assert_int_equal(wal_cursor_next(at_cut, &r, &raw), ERR_OK);
    assert_int_equal(r.lsn, 11);
    assert_int_equal(r.term, 2);
    for (uint64_t lsn = 7; lsn <= 20; lsn++) {
        assert_int_equal(wal_cursor_next(below, &r, &raw), ERR_OK);
        assert_true(bytes_equal(raw, oracle_bytes(o, lsn, lsn)));
    }
    wal_cursor_close(below);
    wal_cursor_close(above);
    wal_cursor_close(at_cut);
    wal_close(w);
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

/* ---- threads ---- */

struct reader {
    struct wal *w;
    const struct oracle *o;
    uint64_t upto, got;
    _Atomic uint64_t *limit;
};

static void *read_along(void *arg)
{
    struct reader *rd = arg;
    struct wal_cursor *c;
    struct record r;
    struct bytes raw;
    struct wal_info info;

    if (wal_cursor_open(&c, rd->w, 1) != ERR_OK)
        return "open";
    while (rd->got < rd->upto) {
        enum err e = wal_cursor_next(c, &r, &raw);
        if (e == ERR_END) {
            wal_info(rd->w, &info);
            if (wal_room(rd->w, 100) == ERR_OK && wal_term_at(rd->w, info.last_lsn) == 0 && info.last_lsn)
                return "term";
            sched_yield();
            continue;
        }
        if (e || r.lsn != rd->got + 1 || !bytes_equal(raw, oracle_bytes(rd->o, r.lsn, r.lsn)))
            return "record";
        rd->got++;
    }
    wal_cursor_close(c);
    return NULL;
}

static void cursors_read_while_another_thread_appends(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct oracle *o = malloc(sizeof *o);
    struct reader readers[2];
    pthread_t threads[2];
    enum { GROUPS = 300 };

    assert_non_null(o);
    fx_make_dir(dir);
    oracle_init(o, 1, NULL);
    struct wal_config cfg = fx_config(dir, 8192);
    cfg.tick_ms = 1;
    struct wal *w = fx_open(&cfg, NULL);
    for (int i = 0; i < GROUPS * 3; i++)
        oracle_add(o, (uint32_t)(1 + i / 100), (size_t)i % 500);
    for (int i = 0; i < 2; i++) {
        readers[i] = (struct reader){.w = w, .o = o, .upto = GROUPS * 3};
        assert_int_equal(pthread_create(&threads[i], NULL, read_along, &readers[i]), 0);
    }
    for (uint64_t lsn = 1; lsn <= GROUPS * 3; lsn += 3)
        assert_int_equal(wal_append(w, oracle_bytes(o, lsn, lsn + 2), 3, lsn, o->chain[lsn + 2]), ERR_OK);
    for (int i = 0; i < 2; i++) {
        void *what;
        pthread_join(threads[i], &what);
        if (what)
            fail_msg("reader %d: %s after %llu", i, (char *)what, (unsigned long long)readers[i].got);
    }
    wal_close(w);
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

/* Opens at the end that is yet to come, over and over. */
static void *open_at_the_end(void *arg)
{
    struct reader *rd = arg;
    struct wal_cursor *c;
    struct wal_info info;
    struct record r;
    struct bytes raw;
    enum err e;

    do {
        wal_info(rd->w, &info);
        if (wal_cursor_open(&c, rd->w, info.last_lsn + 1) != ERR_OK)
            return "open";
        e = wal_cursor_next(c, &r, &raw);
        wal_cursor_close(c);
        if (e && e != ERR_END)
            return "next";
        if (!e && r.lsn != info.last_lsn + 1)
            return "record";
        rd->got = info.last_lsn;
    } while (rd->got < rd->upto);
    return NULL;
}

/* A group of its own row in the index came between the cursor's look at the end and at the index: the log was called
 * corrupt. */
static void a_cursor_at_the_end_is_not_overtaken_by_the_index(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct oracle *o = malloc(sizeof *o);
    struct reader readers[3];
    pthread_t threads[3];
    enum { GROUPS = 1000 };

    assert_non_null(o);
    fx_make_dir(dir);
    oracle_init(o, 1, NULL);
    struct wal_config cfg = fx_config(dir, 128 << 20);
    struct wal *w = fx_open(&cfg, NULL);
    for (int i = 0; i < GROUPS; i++)
        oracle_add(o, 1, 66000);
    for (int i = 0; i < 3; i++) {
        readers[i] = (struct reader){.w = w, .o = o, .upto = GROUPS};
        assert_int_equal(pthread_create(&threads[i], NULL, open_at_the_end, &readers[i]), 0);
    }
    for (uint64_t lsn = 1; lsn <= GROUPS; lsn++)
        assert_int_equal(wal_append(w, oracle_bytes(o, lsn, lsn), 1, lsn, o->chain[lsn]), ERR_OK);
    for (int i = 0; i < 3; i++) {
        void *what;
        pthread_join(threads[i], &what);
        if (what)
            fail_msg("reader %d: %s after %llu", i, (char *)what, (unsigned long long)readers[i].got);
    }
    wal_close(w);
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

/* A remover and a cursor that is overtaken by it now and then: either it reads the right record, or it is told. */
static void *remove_behind(void *arg)
{
    struct reader *rd = arg;
    uint64_t at;
    while ((at = atomic_load(rd->limit)) < rd->upto) {
        if (wal_remove_below(rd->w, at) != ERR_OK)
            return "remove";
        sched_yield();
    }
    return NULL;
}

static void *read_what_is_left(void *arg)
{
    struct reader *rd = arg;
    struct wal_cursor *c = NULL;
    struct record r;
    struct bytes raw;
    struct wal_info info;
    uint64_t next = 0;

    while (atomic_load(rd->limit) < rd->upto) {
        if (!c) {
            wal_info(rd->w, &info);
            next = info.first_lsn ? info.first_lsn : info.last_lsn + 1;
            enum err e = wal_cursor_open(&c, rd->w, next);
            if (e == ERR_NOTFOUND)
                continue;
            if (e)
                return "open";
        }
        enum err e = wal_cursor_next(c, &r, &raw);
        if (e == ERR_NOTFOUND) {
            wal_cursor_close(c);
            c = NULL;
        } else if (e == ERR_OK) {
            if (r.lsn != next++ || !bytes_equal(raw, oracle_bytes(rd->o, r.lsn, r.lsn)))
                return "record";
            rd->got++;
        } else if (e != ERR_END) {
            return "error";
        }
    }
    wal_cursor_close(c);
    return NULL;
}

static void cursors_read_while_segments_are_removed(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct oracle *o = malloc(sizeof *o);
    _Atomic uint64_t limit = 0;
    pthread_t threads[2];
    enum { RECORDS = 900 };

    assert_non_null(o);
    fx_make_dir(dir);
    oracle_init(o, 1, NULL);
    struct wal_config cfg = fx_config(dir, 4096);
    struct wal *w = fx_open(&cfg, NULL);
    for (int i = 0; i < RECORDS; i++)
        oracle_add(o, 1, (size_t)i % 500);
    struct reader a = {.w = w, .o = o, .upto = RECORDS, .limit = &limit}, b = a;
    assert_int_equal(pthread_create(&threads[0], NULL, remove_behind, &a), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, read_what_is_left, &b), 0);
    for (uint64_t lsn = 1; lsn <= RECORDS; lsn++) {
        assert_int_equal(wal_append(w, oracle_bytes(o, lsn, lsn), 1, lsn, o->chain[lsn]), ERR_OK);
        atomic_store(&limit, lsn);
    }
    for (int i = 0; i < 2; i++) {
        void *what;
        pthread_join(threads[i], &what);
        if (what)
            fail_msg("thread %d: %s", i, (char *)what);
    }
    struct wal_info info;
    wal_info(w, &info);
    fx_check(w, o, info.first_lsn, RECORDS);
    wal_close(w);
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

/* The log is cut and goes on, again and again, under a cursor: it reads what is there, or is told; it never finds rot.
 */
static void *read_what_is_cut(void *arg)
{
    struct reader *rd = arg;
    struct wal_cursor *c = NULL;
    struct record r;
    struct bytes raw;

    while (atomic_load(rd->limit) < rd->upto) {
        if (!c && wal_cursor_open(&c, rd->w, 1) != ERR_OK)
            return "open";
        enum err e = wal_cursor_next(c, &r, &raw);
        if (e == ERR_OK) {
            rd->got++;
        } else if (e == ERR_NOTFOUND) {
            wal_cursor_close(c);
            c = NULL;
        } else if (e != ERR_END) {
            return "error";
        }
    }
    wal_cursor_close(c);
    return NULL;
}

static void cursors_read_while_the_log_is_cut(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct oracle *o = malloc(sizeof *o);
    _Atomic uint64_t limit = 0;
    pthread_t threads[2];
    enum { ROUNDS = 60 };

    assert_non_null(o);
    fx_make_dir(dir);
    oracle_init(o, 1, NULL);
    struct wal_config cfg = fx_config(dir, 4096);
    struct wal *w = fx_open(&cfg, NULL);
    struct reader a = {.w = w, .o = o, .upto = ROUNDS, .limit = &limit}, b = a;
    assert_int_equal(pthread_create(&threads[0], NULL, read_what_is_cut, &a), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, read_what_is_cut, &b), 0);
    for (uint32_t i = 1; i <= ROUNDS; i++) {
        for (int g = 0; g < 6; g++)
            assert_int_equal(fx_append(w, o, 2, i, 600), ERR_OK);
        uint64_t at = oracle_last(o) * (i % 7) / 7;
        assert_int_equal(wal_cut(w, at), ERR_OK);
        oracle_cut(o, at);
        atomic_store(&limit, i);
    }
    for (int i = 0; i < 2; i++) {
        void *what;
        pthread_join(threads[i], &what);
        if (what)
            fail_msg("thread %d: %s", i, (char *)what);
    }
    fx_check(w, o, 1, oracle_last(o));
    wal_close(w);
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cursors_begin_anywhere_and_follow_the_end),
        cmocka_unit_test(a_record_is_found_by_its_lsn),
        cmocka_unit_test(removes_whole_segments_below_an_lsn),
        cmocka_unit_test(a_cut_at_every_lsn_is_exact_and_durable),
        cmocka_unit_test(cursors_know_when_the_log_was_cut_below_them),
        cmocka_unit_test(cursors_read_while_another_thread_appends),
        cmocka_unit_test(a_cursor_at_the_end_is_not_overtaken_by_the_index),
        cmocka_unit_test(cursors_read_while_segments_are_removed),
        cmocka_unit_test(cursors_read_while_the_log_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
