/* The log when nothing is wrong: append, switch, reopen, room, the helper thread. */
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
        fx_append_groups(w, o, 60);
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

static void expect_turn(struct wal *w, uint64_t lsn, uint32_t before)
{
    uint64_t first;
    uint32_t term;
    assert_int_equal(wal_last_turn(w, &first, &term), lsn != 0);
    assert_int_equal(first, lsn);
    assert_int_equal(term, before);
}

/* Where the last term begins, in the middle of a segment and at the beginning of one, many segments ago. */
static void the_last_turn_of_terms_is_found(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct oracle *o = malloc(sizeof *o);
    assert_non_null(o);
    for (size_t blob_bytes = 100; blob_bytes <= 3900; blob_bytes += 3800) {
        fx_make_dir(dir);
        struct wal_config cfg = fx_config(dir, 4096);
        oracle_init(o, 1, NULL);
        struct wal *w = fx_open(&cfg, NULL);
        expect_turn(w, 0, 0);
        assert_int_equal(fx_append(w, o, 1, 1, 100), ERR_OK);
        assert_int_equal(fx_append(w, o, 1, 1, 100), ERR_OK);
        expect_turn(w, 0, 0);
        assert_int_equal(fx_append(w, o, 1, 3, blob_bytes), ERR_OK);
        expect_turn(w, 3, 1);
        for (int i = 0; i < 8; i++)
            assert_int_equal(fx_append(w, o, 1, 3, 3000), ERR_OK);
        for (int again = 0; again < 3; again++) { /* also with segments of which only the ends were read */
            expect_turn(w, 3, 1);
            wal_close(w);
            w = fx_open(&cfg, NULL);
        }
        assert_int_equal(fx_append(w, o, 1, 4, 100), ERR_OK);
        expect_turn(w, 12, 3);
        assert_int_equal(wal_cut(w, 11), ERR_OK);
        expect_turn(w, 3, 1);
        assert_int_equal(wal_remove_below(w, 10), ERR_OK);
        expect_turn(w, 0, 0); /* not in the log any more */
        wal_close(w);
        fx_remove_dir(dir);
        oracle_fini(o);
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_log_begins_at_1),
        cmocka_unit_test(groups_come_back_across_segments_and_reopens),
        cmocka_unit_test(the_file_is_as_documented),
        cmocka_unit_test(a_group_larger_than_a_segment_gets_one_of_its_size),
        cmocka_unit_test(an_empty_segment_that_is_too_small_is_replaced),
        cmocka_unit_test(a_log_can_begin_behind_a_snapshot),
        cmocka_unit_test(the_last_turn_of_terms_is_found),
        cmocka_unit_test(arguments_that_do_not_fit_write_nothing),
        cmocka_unit_test(one_process_a_log),
        cmocka_unit_test(room_follows_space_and_reserve),
        cmocka_unit_test(room_that_was_promised_is_there),
        cmocka_unit_test(a_segment_never_grows),
        cmocka_unit_test(no_space_shows_before_a_record_is_admitted),
        cmocka_unit_test(the_helper_tries_again_when_there_is_space),
        cmocka_unit_test(the_helper_syncs_the_mark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
