/* Logs put together wrongly: segments missing, swapped, copied, from elsewhere, forged; and damage that comes later. */
#include "wal_sample.h"

#include "base/crc32c.h"

/* CRCs that were made to fit: the chain tells. */
static void a_record_altered_with_its_crc_is_found(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    for (size_t f = 0; f < s->count; f++) {
        struct buf *content = &s->files[f].content;
        struct wal_report rep;
        struct buf keep;
        size_t off = record_at(content, frame_at(content, 0), 0);
        uint32_t size = get_le32(buf_data(content) + off);
        uint64_t lsn = get_le64(buf_data(content) + off + 8);
        buf_init(&keep, 1 << 20);
        assert_int_equal(buf_put(&keep, buf_data(content), buf_size(content)), ERR_OK);
        buf_data(content)[off + 40] ^= 1; /* its time */
        put_le32(buf_data(content) + off + 4, crc32c(0, buf_data(content) + off + 8, size - 8));
        restore(s, &s->mark);
        struct wal *w = open_it(s, &rep);
        check_damaged(s, w, &rep, lsn);
        wal_close(w);
        buf_fini(content);
        *content = keep;
    }
    sample_free(s);
}

/* Segments whose every checksum fits, as only a program with a fault in it (or somebody with a purpose) makes them. */
struct forgery {
    const char *what;
    uint64_t second_lsn;      /* of the second record; 2 is right */
    uint32_t frame_more;      /* zeros that the frame counts as records */
    uint32_t footer_records;  /* 2 is right */
    uint64_t footer_last_lsn; /* 2 is right */
    uint8_t footer_chain;     /* 0 is right */
    uint64_t damaged_lsn;     /* what is to be found; 0: nothing */
};

static void forge(struct sample *s, const struct forgery *f)
{
    uint8_t bytes[WAL_HEADER_BYTES], chain[RECORD_CHAIN_BYTES] = {0}, zeros[64] = {0};
    struct wal_header h = {.first_lsn = 1};
    struct buf file, records;

    buf_init(&file, 1 << 20);
    buf_init(&records, 1 << 20);
    memcpy(h.cell_id, fx_cell, sizeof h.cell_id);
    uint32_t seed = wal_segment_seed(h.salt);
    wal_segment_put_header(bytes, &h);
    assert_int_equal(buf_put(&file, bytes, WAL_HEADER_BYTES), ERR_OK);
    for (uint64_t i = 0; i < 2; i++) {
        struct record r = {.lsn = i ? f->second_lsn : 1, .term = 1, .type = RECORD_CHECK};
        assert_int_equal(record_put(&records, &r, chain), ERR_OK);
        memcpy(chain, r.chain, sizeof chain);
    }
    assert_int_equal(buf_put(&records, zeros, f->frame_more), ERR_OK);
    struct wal_frame frame = {.records = 2, .bytes = (uint32_t)buf_size(&records)};
    wal_segment_put_frame(bytes, seed, &frame);
    assert_int_equal(buf_put(&file, bytes, WAL_FRAME_BYTES), ERR_OK);
    assert_int_equal(buf_put(&file, buf_data(&records), buf_size(&records)), ERR_OK);
    struct wal_footer footer = {.records = f->footer_records, .last_lsn = f->footer_last_lsn};
    memcpy(footer.chain, chain, sizeof chain);
    footer.chain[0] ^= f->footer_chain;
    wal_segment_put_footer(bytes, seed, &footer);
    assert_int_equal(buf_put(&file, bytes, WAL_FOOTER_BYTES), ERR_OK);
    fx_empty_dir(s->dir);
    fx_write(s->dir, "00000000000000000001.wbl", buf_bytes(&file));
    h.first_lsn = 3;
    memcpy(h.chain, chain, sizeof chain);
    wal_segment_put_header(bytes, &h);
    fx_write(s->dir, "00000000000000000003.wbl", bytes_of(bytes, WAL_HEADER_BYTES));
    buf_fini(&file);
    buf_fini(&records);
}

static void checksums_that_fit_do_not_make_it_right(void **state)
{
    (void)state;
    static const struct forgery rows[] = {
        {"nothing wrong", 2, 0, 2, 2, 0, 0},       {"an LSN left out", 3, 0, 2, 2, 0, 2},
        {"an LSN twice", 1, 0, 2, 2, 0, 2},        {"a frame with more than its records", 2, 16, 2, 2, 0, 3},
        {"a footer's count", 2, 0, 3, 2, 0, 3},    {"a footer's last LSN", 2, 0, 2, 3, 0, 3},
        {"a footer's chain", 2, 0, 2, 2, 0x80, 3},
    };
    struct sample *s = sample_new();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct wal_report rep;
        forge(s, &rows[i]);
        struct wal *w = open_it(s, &rep);
        if (rep.damaged_lsn != rows[i].damaged_lsn)
            fail_msg("%s: %s", rows[i].what, rep.text);
        wal_close(w);
    }
    sample_free(s);
}

/* ---- whole segments ---- */

static uint64_t first_of(const struct sample *s, size_t f)
{
    uint64_t lsn = 0;
    assert_int_equal(wal_segment_parse_name(s->files[f].name, &lsn), 1);
    return lsn;
}

static void remove_file(const struct sample *s, const char *name)
{
    char path[512];
    fx_path(path, s->dir, name);
    assert_int_equal(unlink(path), 0);
}

static void a_missing_segment_is_damage(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    struct wal_report rep;
    for (size_t f = 1; f < s->count; f++)
        for (int mark = 0; mark < 2; mark++) {
            if (f + 1 == s->count && !mark)
                continue; /* the last one, and nobody knows that it was there */
            restore(s, mark ? &s->mark : NULL);
            remove_file(s, s->files[f].name);
            struct wal *w = open_it(s, &rep);
            check_damaged(s, w, &rep, first_of(s, f));
            wal_close(w);
        }
    restore(s, NULL); /* as above, but the caller knows */
    remove_file(s, s->files[s->count - 1].name);
    struct wal_config cfg = config(s);
    cfg.known_lsn = first_of(s, s->count - 1);
    struct wal *w = fx_open(&cfg, &rep);
    check_damaged(s, w, &rep, first_of(s, s->count - 1));
    wal_close(w);

    restore(s, &s->mark); /* all of them */
    for (size_t f = 0; f < s->count; f++)
        remove_file(s, s->files[f].name);
    w = open_it(s, &rep);
    check_damaged(s, w, &rep, 1);
    wal_close(w);

    restore(s, &s->mark); /* the oldest may have been deleted in good order */
    remove_file(s, s->files[0].name);
    w = open_it(s, &rep);
    assert_int_equal(rep.damaged_lsn, 0);
    assert_int_equal(rep.first_lsn, first_of(s, 1));
    fx_check(w, &s->o, rep.first_lsn, s->last);
    wal_close(w);
    sample_free(s);
}

static void segments_in_each_others_place_are_damage(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    struct wal_report rep;
    for (size_t a = 0; a < s->count; a++)
        for (size_t b = 0; b < s->count; b++) {
            if (a == b)
                continue;
            restore(s, &s->mark); /* b's content under a's name: a copy, or with the other half a swap */
            fx_write(s->dir, s->files[a].name, buf_bytes(&s->files[b].content));
            if (a < b)
                fx_write(s->dir, s->files[b].name, buf_bytes(&s->files[a].content));
            struct wal *w = open_it(s, &rep);
            check_damaged(s, w, &rep, first_of(s, a));
            assert_non_null(strstr(rep.text, "another's name"));
            wal_close(w);
        }
    char name[WAL_NAME_BYTES];
    for (size_t f = 0; f < s->count; f++) { /* a second copy, under a name of its own */
        for (uint64_t lsn = first_of(s, f) + 1; lsn < s->last + 3; lsn++) {
            int taken = 0;
            for (size_t i = 0; i < s->count; i++)
                taken |= first_of(s, i) == lsn;
            if (taken)
                continue;
            restore(s, &s->mark);
            wal_segment_name(name, lsn);
            fx_write(s->dir, name, buf_bytes(&s->files[f].content));
            struct wal *w = open_it(s, &rep);
            assert_int_not_equal(rep.damaged_lsn, 0);
            assert_true(rep.damaged_lsn <= s->last + 1);
            wal_close(w);
        }
    }
    sample_free(s);
}

/* The same cell, the same LSNs, another history: only the chain can tell. */
static void a_segment_of_another_history_is_damage(void **state)
{
    (void)state;
    struct sample *s = sample_new(), *other = sample_new();
    struct wal_report rep;
    /* other's history differs from record 1 on: its blobs have other terms. */
    fx_empty_dir(other->dir);
    oracle_fini(&other->o);
    oracle_init(&other->o, 1, NULL);
    struct wal_config cfg = config(other);
    struct wal *w = fx_open(&cfg, NULL);
    for (uint32_t i = 0; i < 11; i++)
        assert_int_equal(fx_append(w, &other->o, i % 4 + 1, 7, i * 97 % 500), ERR_OK);
    wal_close(w);
    for (size_t f = 1; f < s->count; f++) {
        struct buf foreign;
        fx_read(other->dir, s->files[f].name, &foreign); /* same sizes, so the same names */
        restore(s, &s->mark);
        fx_write(s->dir, s->files[f].name, buf_bytes(&foreign));
        w = open_it(s, &rep);
        check_damaged(s, w, &rep, first_of(s, f));
        wal_close(w);
        buf_fini(&foreign);
    }
    sample_free(other);
    sample_free(s);
}

static void rewrite_header(struct buf *content, size_t at, uint8_t mask)
{
    buf_data(content)[at] ^= mask;
    put_le32(buf_data(content) + 124, crc32c(0, buf_data(content), 124));
}

static void another_cells_or_formats_segment_is_refused(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    for (size_t f = 0; f < s->count; f++)
        for (int format = 0; format < 2; format++) {
            struct wal_config cfg = config(s);
            struct wal_report rep;
            struct wal *w;
            rewrite_header(&s->files[f].content, format ? 8 : 20, 2);
            restore(s, &s->mark);
            rewrite_header(&s->files[f].content, format ? 8 : 20, 2);
            assert_int_equal(wal_open(&w, &cfg, &rep), ERR_CORRUPT);
            assert_null(w);
            assert_non_null(strstr(rep.text, format ? "format" : "another cell"));
            assert_non_null(strstr(rep.text, s->files[f].name));
        }
    sample_free(s);
}

/* A crash between the footer and the cut, and litter behind a footer. */
static void bytes_behind_a_footer(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    struct wal_report rep;
    size_t sealed = s->count - 2, whole = buf_size(&s->files[sealed].content);
    uint8_t zeros[512] = {0};

    assert_int_equal(buf_put(&s->files[sealed].content, zeros, sizeof zeros), ERR_OK);
    restore(s, &s->mark);
    struct wal *w = open_it(s, &rep); /* zeros do no harm */
    check_sound(s, w, &rep, s->last);
    reset_oracle(s);

    buf_data(&s->files[sealed].content)[whole + 100] = 1;
    restore(s, &s->mark);
    w = open_it(s, &rep);
    assert_int_equal(rep.damaged_lsn, first_of(s, s->count - 1));
    wal_close(w);

    size_t count = s->count; /* the same file as the last one: the crash was in the middle of a switch */
    uint64_t end = first_of(s, s->count - 1) - 1;
    restore(s, NULL);
    remove_file(s, s->files[count - 1].name);
    w = open_it(s, &rep);
    assert_int_equal(rep.torn_bytes, 101);
    check_sound(s, w, &rep, end);
    reset_oracle(s);

    buf_truncate(&s->files[sealed].content, whole - 20); /* a torn footer */
    restore(s, NULL);
    remove_file(s, s->files[count - 1].name);
    w = open_it(s, &rep);
    assert_int_equal(rep.torn_bytes, WAL_FOOTER_BYTES - 20);
    check_sound(s, w, &rep, end);
    sample_free(s);
}

static void a_damaged_log_is_left_as_it_is(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    struct wal_report rep;
    struct buf after;
    buf_data(&s->files[0].content)[300] ^= 4;
    restore(s, &s->mark);
    struct wal *w = open_it(s, &rep);
    check_damaged(s, w, &rep, rep.damaged_lsn);
    wal_close(w);
    for (size_t f = 0; f < s->count; f++) {
        fx_read(s->dir, s->files[f].name, &after);
        assert_true(bytes_equal(buf_bytes(&after), buf_bytes(&s->files[f].content)));
        buf_fini(&after);
    }
    fx_read(s->dir, "mark", &after);
    assert_true(bytes_equal(buf_bytes(&after), buf_bytes(&s->mark)));
    buf_fini(&after);
    char path[512];
    fx_path(path, s->dir, "next");
    assert_int_equal(access(path, F_OK), -1);
    sample_free(s);
}

/* Rot while the log is open: the cursor that comes by says so. */
static void a_cursor_finds_what_rots_later(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    struct wal_report rep;
    struct wal_cursor *c;
    struct record r;
    struct bytes raw;
    restore(s, &s->mark);
    struct wal *w = open_it(s, &rep);
    size_t off = record_at(&s->files[1].content, frame_at(&s->files[1].content, 0), 0);
    uint64_t lsn = first_of(s, 1);
    buf_data(&s->files[1].content)[off + 50] ^= 1;
    fx_write(s->dir, s->files[1].name, buf_bytes(&s->files[1].content));
    assert_int_equal(wal_cursor_open(&c, w, lsn - 1), ERR_OK);
    assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_OK);
    assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_CORRUPT);
    assert_int_equal(r.lsn, lsn);
    assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_CORRUPT);
    wal_cursor_close(c);
    wal_close(w);
    sample_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_altered_with_its_crc_is_found),
        cmocka_unit_test(checksums_that_fit_do_not_make_it_right),
        cmocka_unit_test(a_missing_segment_is_damage),
        cmocka_unit_test(segments_in_each_others_place_are_damage),
        cmocka_unit_test(a_segment_of_another_history_is_damage),
        cmocka_unit_test(another_cells_or_formats_segment_is_refused),
        cmocka_unit_test(bytes_behind_a_footer),
        cmocka_unit_test(a_damaged_log_is_left_as_it_is),
        cmocka_unit_test(a_cursor_finds_what_rots_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
