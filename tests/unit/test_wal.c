/* The log when nothing is wrong: append, switch, reopen, read, remove, cut, room, mark. */
#include "wal_fixture.h"

#include <pthread.h>
#include <sched.h>

#include "engine/wal_impl.h"

static void an_empty_log_begins_at_1(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct wal_report rep;
    struct wal_info info;
    struct wal_cursor *c;
    struct record r;
    struct bytes raw;
    static const uint8_t zeros[RECORD_CHAIN_BYTES];

    fx_make_dir(dir);
    struct wal_config cfg = fx_config(dir, 4096);
    for (int again = 0; again < 2; again++) {
        struct wal *w = fx_open(&cfg, &rep);
        assert_int_equal(rep.first_lsn, 0);
        assert_int_equal(rep.last_lsn, 0);
        assert_int_equal(rep.last_term, 0);
        assert_int_equal(rep.damaged_lsn, 0);
        assert_int_equal(rep.torn_bytes, 0);
        assert_int_equal(rep.segments, 0);
        assert_memory_equal(rep.chain, zeros, sizeof zeros);
        wal_info(w, &info);
        assert_int_equal(info.first_lsn, 0);
        assert_int_equal(info.last_lsn, 0);
        assert_int_equal(info.segments, 0);
        assert_int_equal(info.bytes, 0);
        assert_int_equal(wal_term_at(w, 1), 0);
        assert_int_equal(wal_room(w, 1000), ERR_OK);
        assert_int_equal(wal_remove_below(w, 100), ERR_OK);
        assert_int_equal(wal_cursor_open(&c, w, 0), ERR_NOTFOUND);
        assert_null(c);
        assert_int_equal(wal_cursor_open(&c, w, 2), ERR_NOTFOUND);
        assert_int_equal(wal_cursor_open(&c, w, 1), ERR_OK);
        assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_END);
        wal_cursor_close(c);
        wal_close(w);
    }
    wal_close(NULL);
    wal_cursor_close(NULL);
    fx_remove_dir(dir);
}

/* 1 to 7 records a group, 0 to 900 bytes a blob, a new term every 40 groups. */
static void append_groups(struct wal *w, struct oracle *o, int groups)
{
    for (int i = 0; i < groups; i++) {
        uint64_t next = oracle_last(o) + 1;
        assert_int_equal(fx_append(w, o, (uint32_t)(next % 7 + 1), (uint32_t)(1 + next / 150), next * 37 % 900),
                         ERR_OK);
    }
}

static void groups_come_back_across_segments_and_reopens(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct oracle *o = malloc(sizeof *o);
    struct wal_report rep;
    struct wal_info info;

    assert_non_null(o);
    fx_make_dir(dir);
    struct wal_config cfg = fx_config(dir, 16384);
    oracle_init(o, 1, NULL);
    for (int round = 0; round < 5; round++) {
        struct wal *w = fx_open(&cfg, &rep);
        assert_int_equal(rep.last_lsn, oracle_last(o));
        assert_int_equal(rep.first_lsn, round ? 1 : 0);
        assert_int_equal(rep.mark_lsn, oracle_last(o));
        assert_int_equal(rep.torn_bytes, 0);
        assert_int_equal(rep.damaged_lsn, 0);
        assert_memory_equal(rep.chain, o->chain[o->count], RECORD_CHAIN_BYTES);
        assert_int_equal(rep.last_term, wal_term_at(w, rep.last_lsn));
        if (round)
            fx_check(w, o, 1, oracle_last(o));
        append_groups(w, o, 60);
        fx_check(w, o, 1, oracle_last(o));
        wal_info(w, &info);
        assert_int_equal(info.groups, 60);
        assert_true(info.fsyncs >= 60);
        assert_int_equal(info.records, oracle_last(o) - rep.last_lsn);
        assert_int_equal(info.term, wal_term_at(w, oracle_last(o)));
        wal_close(w);
    }
    assert_true(info.segments > 10);
    assert_true(info.bytes > buf_size(&o->log));
    char names[64][WAL_NAME_BYTES];
    assert_int_equal(fx_segments(dir, names, 64), info.segments);
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

/* What wal_append wrote is what the format says, byte by byte. */
static void the_file_is_as_documented(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES], names[4][WAL_NAME_BYTES];
    struct oracle *o = malloc(sizeof *o);
    struct wal_header h;
    struct buf file, want;

    assert_non_null(o);
    fx_make_dir(dir);
    clock_test_set_wall_ms(1767225600123);
    struct wal_config cfg = fx_config(dir, 4096);
    oracle_init(o, 1, NULL);
    struct wal *w = fx_open(&cfg, NULL);
    assert_int_equal(fx_append(w, o, 2, 1, 100), ERR_OK);
    assert_int_equal(fx_append(w, o, 1, 1, 50), ERR_OK);
    assert_int_equal(fx_append(w, o, 1, 2, 3900), ERR_OK); /* does not fit */
    wal_close(w);
    clock_test_set_wall_ms(0);

    assert_int_equal(fx_segments(dir, names, 4), 2);
    assert_string_equal(names[0], "00000000000000000001.wbl");
    assert_string_equal(names[1], "00000000000000000004.wbl");
    fx_read(dir, names[0], &file);
    const uint8_t *p = buf_data(&file);
    assert_memory_equal(p, "COFFERWL\1\0\0\0\x80\0\0\0", 16);
    assert_memory_equal(p + 16, fx_cell, 16);
    assert_int_equal(get_le64(p + 32), 1);
    assert_int_equal(get_le64(p + 88), 1767225600123);
    assert_int_equal(wal_segment_get_header(p, &h), ERR_OK);
    uint32_t seed = wal_segment_seed(h.salt);

    uint8_t bytes[WAL_HEADER_BYTES];
    struct wal_frame frames[] = {{.records = 2, .bytes = (uint32_t)oracle_bytes(o, 1, 2).n, .synced_lsn = 0},
                                 {.records = 1, .bytes = (uint32_t)oracle_bytes(o, 3, 3).n, .synced_lsn = 2}};
    struct wal_footer footer = {.records = 3, .last_lsn = 3};
    memcpy(footer.chain, o->chain[3], RECORD_CHAIN_BYTES);
    buf_init(&want, 1 << 20);
    wal_segment_put_header(bytes, &h);
    assert_int_equal(buf_put(&want, bytes, WAL_HEADER_BYTES), ERR_OK);
    for (uint64_t i = 0; i < 2; i++) {
        struct bytes records = i ? oracle_bytes(o, 3, 3) : oracle_bytes(o, 1, 2);
        wal_segment_put_frame(bytes, seed, &frames[i]);
        assert_int_equal(buf_put(&want, bytes, WAL_FRAME_BYTES), ERR_OK);
        assert_int_equal(buf_put(&want, records.p, records.n), ERR_OK);
    }
    wal_segment_put_footer(bytes, seed, &footer);
    assert_int_equal(buf_put(&want, bytes, WAL_FOOTER_BYTES), ERR_OK);
    assert_int_equal(buf_size(&file), buf_size(&want));
    assert_memory_equal(p, buf_data(&want), buf_size(&want));
    buf_fini(&file);

    fx_read(dir, names[1], &file); /* the unsealed one: zeros up to the size prepared */
    size_t end = WAL_HEADER_BYTES + WAL_FRAME_BYTES + oracle_bytes(o, 4, 4).n;
    assert_int_equal(buf_size(&file) % 4096, 0);
    assert_true(buf_size(&file) > end);
    for (size_t i = end; i < buf_size(&file); i++)
        assert_int_equal(buf_data(&file)[i], 0);
    assert_memory_equal(buf_data(&file) + 40, o->chain[3], RECORD_CHAIN_BYTES);
    assert_memory_not_equal(buf_data(&file) + 72, h.salt, 16);
    buf_fini(&file);
    buf_fini(&want);
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

static void a_group_larger_than_a_segment_gets_one_of_its_size(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct oracle *o = malloc(sizeof *o);
    struct wal_info info;

    assert_non_null(o);
    fx_make_dir(dir);
    struct wal_config cfg = fx_config(dir, 4096);
    oracle_init(o, 1, NULL);
    struct wal *w = fx_open(&cfg, NULL);
    assert_int_equal(fx_append(w, o, 3, 1, 40000), ERR_OK); /* at once: the first segment is one of fitting size */
    assert_int_equal(fx_append(w, o, 1, 1, 10), ERR_OK);
    assert_int_equal(fx_append(w, o, 1, 1, 3 << 20), ERR_OK);
    assert_int_equal(fx_append(w, o, 1, 1, 10), ERR_OK);
    fx_check(w, o, 1, 6);
    wal_close(w);

    w = fx_open(&cfg, NULL);
    fx_check(w, o, 1, 6);
    wal_info(w, &info);
    assert_int_equal(info.segments, 2); /* the small ones fit into what rounding up to pages left */
    wal_close(w);
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

/* The last segment holds no group yet, and the next group does not fit: the segment is replaced under its own name. */
static void an_empty_segment_that_is_too_small_is_replaced(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES], names[4][WAL_NAME_BYTES];
    struct oracle *o = malloc(sizeof *o);
    struct wal_cursor *c;
    struct record r;
    struct bytes raw;

    assert_non_null(o);
    fx_make_dir(dir);
    struct wal_config cfg = fx_config(dir, 4096);
    oracle_init(o, 1, NULL);
    struct wal *w = fx_open(&cfg, NULL);
    assert_int_equal(fx_append(w, o, 2, 1, 100), ERR_OK);
    assert_int_equal(wal_cut(w, 0), ERR_OK);
    oracle_cut(o, 0);
    assert_int_equal(wal_cursor_open(&c, w, 1), ERR_OK);
    assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_END); /* stands in the empty segment, which goes away under it */
    assert_int_equal(fx_append(w, o, 2, 1, 9000), ERR_OK);
    assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_OK);
    assert_int_equal(r.lsn, 1);
    wal_cursor_close(c);
    assert_int_equal(fx_append(w, o, 2, 1, 100), ERR_OK);
    fx_check(w, o, 1, 4);
    assert_int_equal(fx_segments(dir, names, 4), 1);
    wal_close(w);
    w = fx_open(&cfg, NULL);
    fx_check(w, o, 1, 4);
    wal_close(w);
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

static void a_log_can_begin_behind_a_snapshot(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct oracle *o = malloc(sizeof *o);
    struct wal_report rep;
    struct wal_cursor *c;

    assert_non_null(o);
    fx_make_dir(dir);
    struct wal_config cfg = fx_config(dir, 4096);
    cfg.base_lsn = cfg.known_lsn = 1000;
    memset(cfg.base_chain, 0x5a, sizeof cfg.base_chain);
    oracle_init(o, 1001, cfg.base_chain);
    struct wal *w = fx_open(&cfg, &rep);
    assert_int_equal(rep.damaged_lsn, 0);
    assert_int_equal(rep.first_lsn, 0);
    assert_int_equal(rep.last_lsn, 1000);
    assert_memory_equal(rep.chain, cfg.base_chain, RECORD_CHAIN_BYTES);
    assert_int_equal(fx_append(w, o, 3, 4, 2000), ERR_OK);
    assert_int_equal(fx_append(w, o, 3, 4, 2000), ERR_OK);
    assert_int_equal(wal_cursor_open(&c, w, 1000), ERR_NOTFOUND);
    fx_check(w, o, 1001, 1006);
    wal_close(w);

    memset(cfg.base_chain, 0, sizeof cfg.base_chain); /* not looked at any more */
    cfg.base_lsn = 0;
    w = fx_open(&cfg, &rep);
    assert_int_equal(rep.first_lsn, 1001);
    assert_int_equal(rep.damaged_lsn, 0);
    fx_check(w, o, 1001, 1006);
    assert_int_equal(wal_term_at(w, 1000), 0);
    assert_int_equal(wal_term_at(w, 1001), 4);
    assert_int_equal(wal_term_at(w, 1007), 0);
    wal_close(w);
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

static void arguments_that_do_not_fit_write_nothing(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct oracle *o = malloc(sizeof *o);
    struct wal *w;
    struct wal_report rep;
    struct wal_info info;

    assert_non_null(o);
    fx_make_dir(dir);
    struct wal_config cfg = fx_config(dir, 4095);
    assert_int_equal(wal_open(&w, &cfg, &rep), ERR_RANGE);
    assert_null(w);
    cfg.segment_bytes = (1u << 30) + 1;
    assert_int_equal(wal_open(&w, &cfg, &rep), ERR_RANGE);
    cfg.segment_bytes = 4096;
    w = fx_open(&cfg, NULL);

    oracle_init(o, 1, NULL);
    for (int i = 0; i < 4; i++)
        oracle_add(o, 1, 100);
    struct bytes two = oracle_bytes(o, 1, 2), later = oracle_bytes(o, 2, 3);
    uint8_t broken[1024];
    assert_int_equal(wal_append(w, two, 1, 1, o->chain[2]), ERR_CORRUPT);
    assert_int_equal(wal_append(w, two, 3, 1, o->chain[2]), ERR_CORRUPT);
    assert_int_equal(wal_append(w, two, 2, 1, o->chain[1]), ERR_CORRUPT);
    assert_int_equal(wal_append(w, two, 2, 2, o->chain[2]), ERR_CORRUPT);
    assert_int_equal(wal_append(w, later, 2, 2, o->chain[3]), ERR_CORRUPT);
    assert_int_equal(wal_append(w, later, 2, 1, o->chain[3]), ERR_CORRUPT);
    assert_int_equal(wal_append(w, bytes_of(two.p, two.n - 8), 2, 1, o->chain[2]), ERR_CORRUPT);
    assert_int_equal(wal_append(w, bytes_of(NULL, 0), 0, 1, o->chain[0]), ERR_CORRUPT);
    assert_int_equal(wal_append(w, bytes_of(two.p, (size_t)1 << 30), 2, 1, o->chain[2]), ERR_TOOBIG);
    memcpy(broken, two.p, two.n);
    put_le32(broken, get_le32(broken) + 4);
    assert_int_equal(wal_append(w, bytes_of(broken, two.n), 2, 1, o->chain[2]), ERR_CORRUPT);
    wal_info(w, &info);
    assert_int_equal(info.last_lsn, 0);
    assert_int_equal(info.failed, 0);
    assert_int_equal(wal_append(w, two, 2, 1, o->chain[2]), ERR_OK);
    assert_int_equal(wal_append(w, two, 2, 1, o->chain[2]), ERR_CORRUPT); /* a second time */
    oracle_cut(o, 2);
    fx_check(w, o, 1, 2);
    wal_close(w);
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

static void one_process_a_log(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct wal *w, *second;
    struct wal_report rep;

    fx_make_dir(dir);
    struct wal_config cfg = fx_config(dir, 4096);
    w = fx_open(&cfg, NULL);
    assert_int_equal(wal_open(&second, &cfg, &rep), ERR_AGAIN);
    assert_null(second);
    wal_close(w);
    w = fx_open(&cfg, NULL);
    wal_close(w);
    fx_remove_dir(dir);
}

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
        append_groups(w, o, 1);
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
    append_groups(w, o, 40);
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
    append_groups(w, o, 3);
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
        append_groups(w, o, 12);
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

static void room_follows_space_and_reserve(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct wal_report rep;

    fx_make_dir(dir);
    struct wal_config cfg = fx_config(dir, 1 << 16);
    struct wal *w = fx_open(&cfg, &rep);
    assert_int_equal(wal_room(w, 0), ERR_OK);
    assert_int_equal(wal_room(w, 1 << 15), ERR_OK);
    assert_int_equal(wal_room(w, 1 << 20), ERR_OK); /* more than is prepared, but the disk has it */
    assert_int_equal(wal_room(w, UINT64_MAX), ERR_MISCONF);
    assert_int_equal(wal_room(w, UINT64_MAX / 5), ERR_MISCONF);
    atomic_store(&w->prepare.disk_free, 0); /* a full disk: only what is prepared counts */
    assert_int_equal(wal_room(w, 1 << 15), ERR_OK);
    assert_int_equal(wal_room(w, 1 << 16), ERR_MISCONF);
    wal_close(w);
    fx_empty_dir(dir);
    cfg.reserve_bytes = UINT64_MAX;
    w = fx_open(&cfg, &rep);
    assert_int_equal(wal_room(w, 1), ERR_MISCONF);
    wal_close(w);
    fx_remove_dir(dir);
}

/* The worst case: one record a group, and each as small as can be. */
static void room_that_was_promised_is_there(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct wal_info info;
    struct buf b;
    uint8_t chain[RECORD_CHAIN_BYTES] = {0};
    uint64_t promised = 0;

    fx_make_dir(dir);
    buf_init(&b, 1 << 20);
    struct wal_config cfg = fx_config(dir, 1 << 16);
    struct wal *w = fx_open(&cfg, NULL);
    atomic_store(&w->prepare.disk_free, 0);
    while (wal_room(w, promised + RECORD_MIN_BYTES) == ERR_OK)
        promised += RECORD_MIN_BYTES;
    assert_true(promised > (1 << 16) * 3 / 4);
    for (uint64_t lsn = 1; lsn * RECORD_MIN_BYTES <= promised; lsn++) {
        struct record r = {.lsn = lsn, .term = 1, .type = RECORD_CHECK};
        buf_clear(&b);
        assert_int_equal(record_put(&b, &r, chain), ERR_OK);
        memcpy(chain, r.chain, sizeof chain);
        assert_int_equal(wal_append(w, buf_bytes(&b), 1, lsn, chain), ERR_OK);
    }
    wal_info(w, &info);
    assert_int_equal(info.segments, 1); /* all of it in the one that was prepared */
    wal_close(w);
    buf_fini(&b);
    fx_remove_dir(dir);
}

/* There is room for the footer in what was prepared: sealing must not need space that nobody has looked for. */
static void a_segment_never_grows(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES], path[512];
    struct oracle *o = malloc(sizeof *o);
    unsigned one_segment = 0, two_segments = 0;

    assert_non_null(o);
    fx_make_dir(dir);
    struct wal_config cfg = fx_config(dir, 4096);
    for (size_t blob = 1600; blob < 2100; blob += 8) {
        struct wal_info info;
        struct stat st;
        oracle_init(o, 1, NULL);
        struct wal *w = fx_open(&cfg, NULL);
        assert_int_equal(fx_append(w, o, 1, 1, 1600), ERR_OK);
        assert_int_equal(fx_append(w, o, 1, 1, blob), ERR_OK);
        wal_info(w, &info);
        one_segment += info.segments == 1;
        two_segments += info.segments == 2;
        assert_int_equal(fx_append(w, o, 1, 1, 3500), ERR_OK); /* seals it */
        fx_path(path, dir, "00000000000000000001.wbl");
        assert_int_equal(stat(path, &st), 0);
        assert_in_range(st.st_size, 1, 4096);
        wal_close(w);
        oracle_fini(o);
        fx_empty_dir(dir);
    }
    assert_true(one_segment && two_segments);
    fx_remove_dir(dir);
    free(o);
}

/* ENOSPC while the next segment is prepared: said before anything is appended, not for ever, and harmless. */
static void no_space_shows_before_a_record_is_admitted(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct oracle *o = malloc(sizeof *o);
    struct wal_info info;
    struct wal_report rep;
    struct wal *w;
    int seen = 0;

    assert_non_null(o);
    fx_make_dir(dir);
    oracle_init(o, 1, NULL);
    struct wal_config cfg = fx_config(dir, 4096);
    for (long n = 1;; n++) {
        fx_empty_dir(dir);
        fault_arm(FAULT_FILE, n, ENOSPC);
        enum err e = wal_open(&w, &cfg, &rep);
        int fired = fault_fired(FAULT_FILE);
        fault_disarm(FAULT_FILE);
        if (!e && fired && wal_room(w, 100) == ERR_MISCONF) {
            seen++;
            char path[512];
            fx_path(path, dir, "next");
            assert_int_equal(access(path, F_OK), -1); /* it does not keep the last of the space for itself */
            wal_info(w, &info);
            assert_int_equal(info.failed, 0);
            assert_int_equal(fx_append(w, o, 1, 1, 10), ERR_OK); /* space is back: the writer's own try finds it */
            assert_int_equal(wal_room(w, 100), ERR_OK);
            oracle_cut(o, 0);
        }
        wal_close(w);
        if (!fired)
            break;
    }
    assert_true(seen >= 2); /* the write and the sync, at least */
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

/* The same, found by the helper thread itself once space is back. */
static void the_helper_tries_again_when_there_is_space(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct wal_report rep;

    fx_make_dir(dir);
    struct wal_config cfg = fx_config(dir, 4096);
    cfg.tick_ms = 1;
    struct wal *w = fx_open(&cfg, &rep);
    pthread_mutex_lock(&w->prepare.lock); /* as if the last try had failed */
    wal_prepare_drop(&w->prepare.next);
    w->prepare.state = WAL_NEXT_NONE;
    w->prepare.error = ERR_MISCONF;
    w->prepare.retry_us = 0;
    atomic_store(&w->prepare.ready_bytes, 0);
    atomic_store(&w->prepare.no_space, 1);
    assert_int_equal(wal_room(w, 100), ERR_MISCONF);
    pthread_cond_signal(&w->prepare.wake);
    while (w->prepare.state != WAL_NEXT_READY)
        pthread_cond_wait(&w->prepare.done, &w->prepare.lock);
    pthread_mutex_unlock(&w->prepare.lock);
    assert_int_equal(wal_room(w, 100), ERR_OK);
    wal_close(w);
    fx_remove_dir(dir);
}

static void the_helper_syncs_the_mark(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct oracle *o = malloc(sizeof *o);

    assert_non_null(o);
    fx_make_dir(dir);
    oracle_init(o, 1, NULL);
    struct wal_config cfg = fx_config(dir, 4096);
    cfg.tick_ms = 1;
    struct wal *w = fx_open(&cfg, NULL);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(fx_append(w, o, 1, 1, 10), ERR_OK);
        while (atomic_load(&w->mark.dirty)) /* ends: the helper was told */
            sched_yield();
    }
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
        cmocka_unit_test(an_empty_log_begins_at_1),
        cmocka_unit_test(groups_come_back_across_segments_and_reopens),
        cmocka_unit_test(the_file_is_as_documented),
        cmocka_unit_test(a_group_larger_than_a_segment_gets_one_of_its_size),
        cmocka_unit_test(an_empty_segment_that_is_too_small_is_replaced),
        cmocka_unit_test(a_log_can_begin_behind_a_snapshot),
        cmocka_unit_test(arguments_that_do_not_fit_write_nothing),
        cmocka_unit_test(one_process_a_log),
        cmocka_unit_test(cursors_begin_anywhere_and_follow_the_end),
        cmocka_unit_test(removes_whole_segments_below_an_lsn),
        cmocka_unit_test(a_cut_at_every_lsn_is_exact_and_durable),
        cmocka_unit_test(cursors_know_when_the_log_was_cut_below_them),
        cmocka_unit_test(room_follows_space_and_reserve),
        cmocka_unit_test(room_that_was_promised_is_there),
        cmocka_unit_test(a_segment_never_grows),
        cmocka_unit_test(no_space_shows_before_a_record_is_admitted),
        cmocka_unit_test(the_helper_tries_again_when_there_is_space),
        cmocka_unit_test(the_helper_syncs_the_mark),
        cmocka_unit_test(cursors_read_while_another_thread_appends),
        cmocka_unit_test(cursors_read_while_segments_are_removed),
        cmocka_unit_test(cursors_read_while_the_log_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
