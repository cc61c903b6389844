/* The log when something is wrong: what is torn is cut, what is damaged is said to be, and nothing passes unseen. */
#include "wal_fixture.h"

#include "base/crc32c.h"
#include "engine/wal_mark.h"

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

static struct wal_config config(const struct sample *s)
{
    return fx_config(s->dir, WAL_SEGMENT_MIN_BYTES);
}

static struct sample *sample_new(void)
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

static void sample_free(struct sample *s)
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
static void restore(const struct sample *s, const struct buf *mark)
{
    fx_empty_dir(s->dir);
    for (size_t i = 0; i < s->count; i++)
        fx_write(s->dir, s->files[i].name, buf_bytes(&s->files[i].content));
    if (mark)
        fx_write(s->dir, "mark", buf_bytes(mark));
}

static struct buf *last_file(struct sample *s)
{
    return &s->files[s->count - 1].content;
}

/* Offset of the n-th frame (from 0) of a segment; behind the last: where it ends. */
static size_t frame_at(const struct buf *segment, unsigned n)
{
    size_t off = WAL_HEADER_BYTES;
    while (n--)
        off += WAL_FRAME_BYTES + get_le32(buf_data(segment) + off + 8);
    return off;
}

static unsigned frames_in(const struct buf *segment)
{
    unsigned n = 0;
    while (memcmp(buf_data(segment) + frame_at(segment, n), "WBLG", 4) == 0)
        n++;
    return n;
}

static struct wal *open_it(const struct sample *s, struct wal_report *rep)
{
    struct wal_config cfg = config(s);
    return fx_open(&cfg, rep);
}

/* The log says it is damaged at lsn, keeps everything before, and takes nothing more. */
static void check_damaged(struct sample *s, struct wal *w, const struct wal_report *rep, uint64_t lsn)
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
static void check_sound(struct sample *s, struct wal *w, const struct wal_report *rep, uint64_t last)
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
static void reset_oracle(struct sample *s)
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

/* ---- one byte flipped, everywhere ---- */

static void flip_in_segments(struct sample *s, const struct buf *mark, size_t from)
{
    size_t damaged = 0, torn = 0, all = 0, tail;

    tail = buf_size(last_file(s)) - frame_at(last_file(s), frames_in(last_file(s)));
    restore(s, mark);
    for (size_t f = from; f < s->count; f++) {
        struct buf *content = &s->files[f].content;
        all += buf_size(content);
        for (size_t at = 0; at < buf_size(content); at++) {
            struct wal_report rep;
            uint8_t bit = (uint8_t)(at % 9 == 8 ? 0xff : 1 << at % 9);
            buf_data(content)[at] ^= bit;
            fx_write(s->dir, s->files[f].name, buf_bytes(content));
            struct wal *w = open_it(s, &rep);
            buf_data(content)[at] ^= bit;

            if (!rep.damaged_lsn && !rep.torn_bytes)
                fail_msg("%s byte %zu (^%02x) passed unseen", s->files[f].name, at, bit);
            if (rep.damaged_lsn)
                assert_in_range(rep.damaged_lsn, 1, s->last + 1);
            else if (mark) /* torn can only be what is not a record */
                assert_int_equal(rep.last_lsn, s->last);
            else
                assert_in_range(rep.last_lsn, s->last_group - 1, s->last);
            /* Whatever it kept is what was written. */
            assert_memory_equal(rep.chain, s->o.chain[rep.last_lsn], RECORD_CHAIN_BYTES);
            damaged += rep.damaged_lsn != 0;
            torn += rep.torn_bytes != 0;
            wal_close(w);
            fx_write(s->dir, s->files[f].name, buf_bytes(content));
            fx_write(s->dir, s->files[s->count - 1].name, buf_bytes(last_file(s)));
            if (mark) {
                fx_write(s->dir, "mark", buf_bytes(mark));
            } else {
                char path[512];
                fx_path(path, s->dir, "mark");
                unlink(path);
            }
        }
    }
    assert_int_equal(damaged + torn, all);
    if (mark)
        assert_int_equal(torn, tail);
}

static void every_flipped_byte_is_found(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    flip_in_segments(s, &s->mark, 0);
    sample_free(s);
}

/* Without a mark the last group may pass for torn, never for sound. In sealed segments the mark makes no difference. */
static void every_flipped_byte_is_found_without_a_mark(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    flip_in_segments(s, NULL, s->count - 1);
    sample_free(s);
}

static void a_flip_in_the_mark_is_harmless(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    for (size_t at = 0; at < buf_size(&s->mark); at++)
        for (int bit = 0; bit < 8; bit++) {
            struct wal_report rep;
            restore(s, &s->mark);
            buf_data(&s->mark)[at] ^= (uint8_t)(1 << bit);
            fx_write(s->dir, "mark", buf_bytes(&s->mark));
            buf_data(&s->mark)[at] ^= (uint8_t)(1 << bit);
            struct wal *w = open_it(s, &rep);
            assert_int_equal(rep.damaged_lsn, 0);
            assert_int_equal(rep.torn_bytes, 0);
            assert_int_equal(rep.last_lsn, s->last);
            assert_int_equal(rep.mark_lsn, s->last); /* the other slot says it too */
            assert_int_equal(rep.mark_this_boot, 1);
            wal_close(w);
        }
    sample_free(s);
}

/* ---- torn tails ---- */

enum tear { ZEROS, CUT, GARBAGE, HOLE, TEARS };

/* The last group as a crash may leave it, k bytes of it written. 0: that makes no difference. */
static int tear(struct sample *s, enum tear how, size_t k, const struct buf *mark)
{
    struct buf *content = last_file(s), torn;
    size_t begin = frame_at(content, frames_in(content) - 1), end = frame_at(content, frames_in(content));

    buf_init(&torn, 1 << 20);
    assert_int_equal(buf_put(&torn, buf_data(content), buf_size(content)), ERR_OK);
    switch (how) {
    case ZEROS:
        memset(buf_data(&torn) + begin + k, 0, end - begin - k);
        break;
    case CUT:
        buf_truncate(&torn, begin + k);
        break;
    case GARBAGE:
        memset(buf_data(&torn) + begin + k, 0xa5, end - begin - k);
        break;
    case HOLE: /* sectors land in any order */
        memset(buf_data(&torn) + begin, 0, k + 1);
        break;
    case TEARS:
        break;
    }
    int differs = !bytes_equal(buf_bytes(&torn), buf_bytes(content));
    restore(s, mark);
    fx_write(s->dir, s->files[s->count - 1].name, buf_bytes(&torn));
    buf_fini(&torn);
    return differs;
}

static size_t last_group_bytes(struct sample *s)
{
    unsigned n = frames_in(last_file(s));
    return frame_at(last_file(s), n) - frame_at(last_file(s), n - 1);
}

static void a_torn_group_is_cut_at_every_length(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    size_t n = last_group_bytes(s);
    for (enum tear how = 0; how < TEARS; how++)
        for (size_t k = 0; k < n; k++) {
            struct wal_report rep;
            if (!tear(s, how, k, &s->mark_before))
                continue;
            struct wal *w = open_it(s, &rep);
            assert_int_equal(rep.mark_lsn, s->last_group - 1);
            if (k && how == CUT)
                assert_in_range(rep.torn_bytes, 1, k);
            else if (k && k + 1 < n)
                assert_in_range(rep.torn_bytes, 1, n);
            check_sound(s, w, &rep, s->last_group - 1);
            reset_oracle(s);
        }
    sample_free(s);
}

static void the_same_is_damage_when_the_group_was_durable(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    size_t n = last_group_bytes(s);
    for (enum tear how = 0; how < TEARS; how++)
        for (size_t k = 0; k < n; k++)
            for (int from_caller = 0; from_caller < 2; from_caller++) {
                struct wal_config cfg = config(s);
                struct wal_report rep;
                if (!tear(s, how, k, from_caller ? &s->mark_before : &s->mark))
                    continue;
                if (from_caller) /* any record of the group: it became durable as a whole */
                    cfg.known_lsn = s->last_group + k % 5;
                struct wal *w = fx_open(&cfg, &rep);
                assert_in_range(rep.damaged_lsn, s->last_group, s->last);
                assert_int_equal(rep.torn_bytes, 0);
                if (k % 16 == 0)
                    check_damaged(s, w, &rep, rep.damaged_lsn);
                wal_close(w);
                if (k % 16 != 0)
                    continue;
                w = open_it(s, &rep); /* nothing was cut: damaged it stays, by the mark alone if not by the caller */
                assert_int_equal(rep.damaged_lsn != 0, !from_caller);
                wal_close(w);
            }
    sample_free(s);
}

/* A group that nobody acknowledged but that is whole on the disk is kept. */
static void a_whole_group_above_the_mark_is_kept(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    struct wal_report rep;
    restore(s, &s->mark_before);
    struct wal *w = open_it(s, &rep);
    assert_int_equal(rep.mark_lsn, s->last_group - 1);
    struct buf mark; /* what was found is durable, and known to be from now on: also if the process dies at once */
    fx_read(s->dir, "mark", &mark);
    assert_int_equal(get_le64(buf_data(&mark) + 16), s->last);
    assert_int_equal(get_le64(buf_data(&mark) + 48), s->last);
    buf_fini(&mark);
    check_sound(s, w, &rep, s->last);
    sample_free(s);
}

/* No mark and no frame to tell: that there is a segment says that the one before is complete. */
static void a_segment_proves_the_one_before(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    struct wal_report rep;
    restore(s, NULL);
    memset(buf_data(last_file(s)) + WAL_HEADER_BYTES, 0, buf_size(last_file(s)) - WAL_HEADER_BYTES);
    fx_write(s->dir, s->files[s->count - 1].name, buf_bytes(last_file(s)));
    struct wal *w = open_it(s, &rep);
    assert_int_equal(rep.mark_lsn, rep.last_lsn);
    assert_int_equal(rep.mark_this_boot, 0);
    check_sound(s, w, &rep, rep.last_lsn);
    sample_free(s);
}

static void garbage_behind_the_end_is_zeroed(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    struct buf *content = last_file(s), after;
    size_t end = frame_at(content, frames_in(content));
    for (size_t at = end; at < buf_size(content); at += 61) {
        struct wal_report rep;
        restore(s, &s->mark);
        buf_data(content)[at] = 0xee;
        fx_write(s->dir, s->files[s->count - 1].name, buf_bytes(content));
        buf_data(content)[at] = 0;
        struct wal *w = open_it(s, &rep);
        assert_int_equal(rep.torn_bytes, at + 1 - end);
        assert_int_equal(rep.last_lsn, s->last);
        wal_close(w);
        fx_read(s->dir, s->files[s->count - 1].name, &after);
        assert_true(bytes_equal(buf_bytes(&after), buf_bytes(content)));
        buf_fini(&after);
    }
    sample_free(s);
}

/* ---- what stands behind the bad place ---- */

static size_t record_at(const struct buf *content, size_t frame, unsigned n)
{
    size_t off = frame + WAL_FRAME_BYTES;
    while (n--)
        off += get_le32(buf_data(content) + off);
    return off;
}

static void a_valid_record_behind_a_bad_one_changes_nothing(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    struct buf *content = last_file(s);
    size_t frame = frame_at(content, frames_in(content) - 1);
    for (unsigned bad = 0; bad < 5; bad++)
        for (int durable = 0; durable < 2; durable++) {
            struct wal_report rep;
            size_t at = record_at(content, frame, bad) + 70;
            restore(s, durable ? &s->mark : &s->mark_before);
            buf_data(content)[at] ^= 1;
            fx_write(s->dir, s->files[s->count - 1].name, buf_bytes(content));
            buf_data(content)[at] ^= 1;
            struct wal *w = open_it(s, &rep);
            if (durable) {
                check_damaged(s, w, &rep, s->last_group + bad); /* to the record */
                wal_close(w);
            } else {
                check_sound(s, w, &rep, s->last_group - 1); /* the group goes as a whole */
                reset_oracle(s);
            }
        }
    sample_free(s);
}

/* No mark at all: the frame that follows tells that the one before was durable. */
static void a_frame_behind_a_bad_one_proves_damage(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    struct buf *content = last_file(s);
    unsigned n = frames_in(content);
    assert_true(n >= 2);
    size_t begin = frame_at(content, n - 2), end = frame_at(content, n - 1);
    for (size_t at = begin; at < end; at++) {
        struct wal_report rep;
        restore(s, NULL);
        buf_data(content)[at] ^= 0x10;
        fx_write(s->dir, s->files[s->count - 1].name, buf_bytes(content));
        buf_data(content)[at] ^= 0x10;
        struct wal *w = open_it(s, &rep);
        assert_int_equal(rep.mark_lsn, s->last_group - 1);
        assert_in_range(rep.damaged_lsn, 1, s->last_group - 1);
        wal_close(w);
    }
    sample_free(s);
}

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

/* ---- the mark ---- */

static void the_mark_tells_its_boot_and_is_believed_in_any(void **state)
{
    (void)state;
    static const char *const boots[] = {"first boot", "first boot", "second boot", NULL};
    char dir[FX_DIR_BYTES];
    struct wal_mark m;
    uint64_t lsn;
    int this_boot;

    fx_make_dir(dir);
    for (size_t i = 0; i < sizeof boots / sizeof *boots; i++) {
        wal_mark_test_set_boot(boots[i]);
        assert_int_equal(wal_mark_open(&m, dir, fx_cell, &lsn, &this_boot), ERR_OK);
        assert_int_equal(lsn, i * 100);
        assert_int_equal(this_boot, i == 1);
        for (uint64_t k = i * 100; k <= (i + 1) * 100; k++)
            wal_mark_store(&m, k);
        assert_int_equal(wal_mark_sync(&m), ERR_OK);
        wal_mark_close(&m);
    }
    wal_mark_test_set_boot(NULL);
    static const uint8_t other_cell[16] = {1};
    assert_int_equal(wal_mark_open(&m, dir, other_cell, &lsn, &this_boot), ERR_OK);
    assert_int_equal(lsn, 0); /* another log's mark says nothing about this one */
    wal_mark_close(&m);
    fx_remove_dir(dir);
}

/* A process killed while it stored: one slot is half written, the other one group older. */
static void a_torn_slot_leaves_the_other(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct wal_mark m;
    struct buf file;
    uint64_t lsn;
    int this_boot;

    fx_make_dir(dir);
    for (uint64_t last = 10; last < 12; last++)
        for (size_t torn = 4; torn < 32; torn++) {
            fx_empty_dir(dir);
            assert_int_equal(wal_mark_open(&m, dir, fx_cell, &lsn, &this_boot), ERR_OK);
            for (uint64_t k = 1; k < last; k++)
                wal_mark_store(&m, k);
            struct buf before;
            fx_read(dir, "mark", &before);
            wal_mark_store(&m, last);
            wal_mark_close(&m);
            fx_read(dir, "mark", &file);
            size_t slot = memcmp(buf_data(&file), buf_data(&before), 32) ? 0 : 32; /* the one just stored */
            memcpy(buf_data(&file) + slot + torn, buf_data(&before) + slot + torn, 32 - torn);
            fx_write(dir, "mark", buf_bytes(&file));
            buf_fini(&file);
            buf_fini(&before);
            assert_int_equal(wal_mark_open(&m, dir, fx_cell, &lsn, &this_boot), ERR_OK);
            assert_in_range(lsn, last - 1, last); /* last: when what was missing are zeros */
            wal_mark_close(&m);
        }
    fx_remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_flipped_byte_is_found),
        cmocka_unit_test(every_flipped_byte_is_found_without_a_mark),
        cmocka_unit_test(a_flip_in_the_mark_is_harmless),
        cmocka_unit_test(a_torn_group_is_cut_at_every_length),
        cmocka_unit_test(the_same_is_damage_when_the_group_was_durable),
        cmocka_unit_test(a_whole_group_above_the_mark_is_kept),
        cmocka_unit_test(a_segment_proves_the_one_before),
        cmocka_unit_test(garbage_behind_the_end_is_zeroed),
        cmocka_unit_test(a_valid_record_behind_a_bad_one_changes_nothing),
        cmocka_unit_test(a_frame_behind_a_bad_one_proves_damage),
        cmocka_unit_test(a_record_altered_with_its_crc_is_found),
        cmocka_unit_test(checksums_that_fit_do_not_make_it_right),
        cmocka_unit_test(a_missing_segment_is_damage),
        cmocka_unit_test(segments_in_each_others_place_are_damage),
        cmocka_unit_test(a_segment_of_another_history_is_damage),
        cmocka_unit_test(another_cells_or_formats_segment_is_refused),
        cmocka_unit_test(bytes_behind_a_footer),
        cmocka_unit_test(a_damaged_log_is_left_as_it_is),
        cmocka_unit_test(a_cursor_finds_what_rots_later),
        cmocka_unit_test(the_mark_tells_its_boot_and_is_believed_in_any),
        cmocka_unit_test(a_torn_slot_leaves_the_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
