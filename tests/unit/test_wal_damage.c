/* A log that rotted or was torn: what is torn is cut, what is damaged is said to be, and nothing passes unseen. */
#include "wal_sample.h"

#include "engine/wal_mark.h"
#include "sweep.h"

/* ---- one byte flipped, everywhere ---- */

static void flip_in_segments(struct sample *s, const struct buf *mark, size_t from)
{
    size_t damaged = 0, torn = 0, all = 0, tail = 0, end = frame_at(last_file(s), frames_in(last_file(s)));

    restore(s, mark);
    for (size_t f = from; f < s->count; f++) {
        struct buf *content = &s->files[f].content;
        for (size_t at = 0; at < buf_size(content); at += SWEEP_STEP) {
            struct wal_report rep;
            uint8_t bit = (uint8_t)(at % 9 == 8 ? 0xff : 1 << at % 9);
            buf_data(content)[at] ^= bit;
            all++;
            tail += f == s->count - 1 && at >= end;
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

/* ---- a log in use, looked at on the disk ---- */

static enum err verify_from(struct wal *w, uint64_t from, uint64_t *first, uint64_t *last)
{
    return wal_verify_segment(w, from, NULL, NULL, first, last);
}

/* Every byte of every sealed segment, while the log is open; the one that is being written is not looked at. */
static void every_flipped_byte_of_a_log_in_use_is_found(void **state)
{
    (void)state;
    struct sample *s = sample_new();
    struct wal_report rep;
    uint64_t first, last, from = 1;
    restore(s, &s->mark);
    struct wal *w = open_it(s, &rep);
    for (size_t f = 0; f + 1 < s->count; f++) {
        struct buf *content = &s->files[f].content;
        assert_int_equal(verify_from(w, from, &first, &last), ERR_OK);
        assert_true(first == from && last > first);
        for (size_t at = 0; at < buf_size(content); at += 1 + at % 3) {
            buf_data(content)[at] ^= 0x20;
            fx_write(s->dir, s->files[f].name, buf_bytes(content));
            buf_data(content)[at] ^= 0x20;
            assert_int_equal(verify_from(w, from + at % 2, &first, &last), ERR_CORRUPT);
            assert_int_equal(first, from);
        }
        fx_write(s->dir, s->files[f].name, buf_bytes(content));
        from = last + 1;
    }
    assert_int_equal(verify_from(w, from, &first, &last), ERR_END);

    char path[512]; /* gone: by somebody else's doing, and by the log's own */
    fx_path(path, s->dir, s->files[0].name);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(verify_from(w, 1, &first, &last), ERR_CORRUPT);
    fx_write(s->dir, s->files[0].name, buf_bytes(&s->files[0].content));
    assert_int_equal(wal_remove_below(w, last + 1), ERR_OK);
    assert_int_equal(verify_from(w, 1, &first, &last), s->count > 2 ? ERR_OK : ERR_END);
    assert_true(s->count == 2 || first > 1);
    wal_close(w);
    sample_free(s);
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
        cmocka_unit_test(the_mark_tells_its_boot_and_is_believed_in_any),
        cmocka_unit_test(a_torn_slot_leaves_the_other),
        cmocka_unit_test(every_flipped_byte_of_a_log_in_use_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
