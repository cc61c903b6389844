/* wal_sample.h - a small log of several segments in memory, to be put on disk, spoiled, opened and judged, again and
 * again. */
#ifndef COFFER_TESTS_WAL_SAMPLE_H
#define COFFER_TESTS_WAL_SAMPLE_H

#include "wal_fixture.h"

#define MAX_FILES 8

struct file {
    char name[WAL_NAME_BYTES];
    struct buf content;
};

/* A log of several small segments, kept in memory: mark_before is from before its last group. */
struct sample {
    char dir[FX_DIR_BYTES];
    struct oracle o;
    struct file files[MAX_FILES];
    size_t count; /* segments; sealed but for the last */
    struct buf mark, mark_before;
    uint64_t last, last_group; /* LSNs: of the log, and where its last group begins */
};

fx_unused static struct wal_config config(const struct sample *s)
{
    struct wal_config cfg = fx_config(s->dir, WAL_SEGMENT_MIN_BYTES);
    cfg.lazy = 0; /* tests say when it is to be */
    return cfg;
}

fx_unused static struct sample *sample_new(void)
{
    char names[MAX_FILES][WAL_NAME_BYTES];
    struct sample *s = calloc(1, sizeof *s);

    assert_non_null(s);
    fx_make_dir(s->dir);
    struct wal_config cfg = config(s);
    oracle_init(&s->o, 1, NULL);
    struct wal *w = fx_open(&cfg, NULL);
    for (uint32_t i = 0; i < 11; i++)
        assert_int_equal(fx_append(w, &s->o, i % 4 + 1, 1 + i / 6, i * 97 % 500), ERR_OK);
    wal_close(w);
    fx_read(s->dir, "mark", &s->mark_before);
    w = fx_open(&cfg, NULL);
    s->last_group = oracle_last(&s->o) + 1;
    assert_int_equal(fx_append(w, &s->o, 5, 3, 41), ERR_OK);
    wal_close(w);
    s->last = oracle_last(&s->o);
    fx_read(s->dir, "mark", &s->mark);
    s->count = fx_segments(s->dir, names, MAX_FILES);
    assert_in_range(s->count, 3, 5);
    for (size_t i = 0; i < s->count; i++) {
        memcpy(s->files[i].name, names[i], WAL_NAME_BYTES);
        fx_read(s->dir, names[i], &s->files[i].content);
    }
    return s;
}

fx_unused static void sample_free(struct sample *s)
{
    fx_remove_dir(s->dir);
    for (size_t i = 0; i < s->count; i++)
        buf_fini(&s->files[i].content);
    buf_fini(&s->mark);
    buf_fini(&s->mark_before);
    oracle_fini(&s->o);
    free(s);
}

/* Puts the directory back; mark NULL: none. */
fx_unused static void restore(const struct sample *s, const struct buf *mark)
{
    fx_empty_dir(s->dir);
    for (size_t i = 0; i < s->count; i++)
        fx_write(s->dir, s->files[i].name, buf_bytes(&s->files[i].content));
    if (mark)
        fx_write(s->dir, "mark", buf_bytes(mark));
}

fx_unused static struct buf *last_file(struct sample *s)
{
    return &s->files[s->count - 1].content;
}

/* Offset of the n-th frame (from 0) of a segment; behind the last: where it ends. */
fx_unused static size_t frame_at(const struct buf *segment, unsigned n)
{
    size_t off = WAL_HEADER_BYTES;
    while (n--)
        off += WAL_FRAME_BYTES + get_le32(buf_data(segment) + off + 8);
    return off;
}

fx_unused static unsigned frames_in(const struct buf *segment)
{
    unsigned n = 0;
    while (memcmp(buf_data(segment) + frame_at(segment, n), "WBLG", 4) == 0)
        n++;
    return n;
}

fx_unused static struct wal *open_it(const struct sample *s, struct wal_report *rep)
{
    struct wal_config cfg = config(s);
    return fx_open(&cfg, rep);
}

/* The log says it is damaged at lsn, keeps everything before, and takes nothing more. */
fx_unused static void check_damaged(struct sample *s, struct wal *w, const struct wal_report *rep, uint64_t lsn)
{
    struct wal_cursor *c;
    struct wal_info info;
    struct record r;
    struct bytes raw;

    assert_int_equal(rep->damaged_lsn, lsn);
    assert_int_equal(rep->last_lsn, lsn - 1);
    assert_memory_equal(rep->chain, s->o.chain[lsn - 1], RECORD_CHAIN_BYTES);
    assert_non_null(strstr(rep->text, "damaged"));
    wal_info(w, &info);
    assert_int_equal(info.damaged_lsn, lsn);
    assert_int_equal(wal_room(w, 1), ERR_MISCONF);
    assert_int_equal(wal_cut(w, lsn > 1 ? lsn - 2 : 0), ERR_CORRUPT);
    assert_int_equal(wal_remove_below(w, lsn), ERR_CORRUPT);
    assert_int_equal(fx_append(w, &s->o, 1, 3, 1), ERR_CORRUPT);
    oracle_cut(&s->o, s->last);
    uint64_t from = info.first_lsn ? info.first_lsn : lsn;
    assert_int_equal(wal_cursor_open(&c, w, from), ERR_OK);
    for (; from < lsn; from++) {
        assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_OK);
        assert_true(bytes_equal(raw, oracle_bytes(&s->o, from, from)));
    }
    for (int again = 0; again < 2; again++) {
        assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_CORRUPT);
        assert_int_equal(r.lsn, lsn);
    }
    wal_cursor_close(c);
}

/* The log ends at last and is as good as new. */
fx_unused static void check_sound(struct sample *s, struct wal *w, const struct wal_report *rep, uint64_t last)
{
    assert_int_equal(rep->damaged_lsn, 0);
    assert_int_equal(rep->last_lsn, last);
    oracle_cut(&s->o, last);
    fx_check(w, &s->o, 1, last);
    assert_int_equal(fx_append(w, &s->o, 2, 9, 33), ERR_OK);
    wal_close(w);
    struct wal_report again;
    w = open_it(s, &again);
    assert_int_equal(again.damaged_lsn, 0);
    assert_int_equal(again.torn_bytes, 0);
    fx_check(w, &s->o, 1, last + 2);
    wal_close(w);
}

/* The oracle was cut and went on differently: its records of the sample, again. */
fx_unused static void reset_oracle(struct sample *s)
{
    oracle_fini(&s->o);
    oracle_init(&s->o, 1, NULL);
    for (uint32_t i = 0; i < 11; i++)
        for (uint32_t k = 0; k <= i % 4; k++)
            oracle_add(&s->o, 1 + i / 6, i * 97 % 500);
    for (int k = 0; k < 5; k++)
        oracle_add(&s->o, 3, 41);
    assert_int_equal(oracle_last(&s->o), s->last);
}

fx_unused static size_t record_at(const struct buf *content, size_t frame, unsigned n)
{
    size_t off = frame + WAL_FRAME_BYTES;
    while (n--)
        off += get_le32(buf_data(content) + off);
    return off;
}

#endif
