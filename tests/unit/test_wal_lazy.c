/* A log opened by the ends of its segments: nothing in it is handed out unverified, and damage is found as it would
 * have been at open, by who comes across it first. */
#include "sweep.h"
#include "wal_sample.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/fault.h"

static struct wal *open_lazily(const struct sample *s, struct wal_report *rep)
{
    struct wal_config cfg = config(s);
    cfg.lazy = 1;
    return fx_open(&cfg, rep);
}

static uint64_t unverified(struct wal *w)
{
    struct wal_info i;
    wal_info(w, &i);
    return i.unverified_bytes;
}

static enum err verify(struct wal *w, uint64_t from, uint64_t *first, uint64_t *last)
{
    return wal_verify_segment(w, from, NULL, NULL, first, last);
}

/* As a start does beside traffic. Returns how many segments have damage. */
static unsigned verify_rest(struct wal *w)
{
    uint64_t lsn, first, last;
    unsigned damaged = 0;
    while ((lsn = wal_unverified_lsn(w)) != 0) {
        enum err e = verify(w, lsn, &first, &last);
        assert_int_equal(first, lsn);
        assert_true(e == ERR_OK || e == ERR_CORRUPT);
        damaged += e == ERR_CORRUPT;
    }
    return damaged;
}

static void a_sound_log_is_the_same(void **state)
{
    struct sample *s = sample_new();
    struct wal_report whole, lazy;
    uint64_t first, last = 0;
    unsigned segments = 0;
    (void)state;
    restore(s, &s->mark);
    wal_close(open_it(s, &whole));
    struct wal *w = open_lazily(s, &lazy);
    assert_int_equal(lazy.first_lsn, whole.first_lsn);
    assert_int_equal(lazy.last_lsn, whole.last_lsn);
    assert_int_equal(lazy.last_term, whole.last_term);
    assert_memory_equal(lazy.chain, whole.chain, RECORD_CHAIN_BYTES);
    assert_true(unverified(w) > 0);
    assert_int_equal(wal_unverified_lsn(w) != 0, 1);
    assert_int_equal(verify_rest(w), 0);
    assert_int_equal(unverified(w), 0);
    while (verify(w, last + 1, &first, &last) == ERR_OK)
        segments++;
    assert_int_equal(segments, s->count - 1);
    check_sound(s, w, &lazy, s->last);
    reset_oracle(s);
    sample_free(s);
}

/* Whoever looks into the middle of a segment has it verified; terms too. */
static void a_first_look_verifies(void **state)
{
    struct sample *s = sample_new();
    struct buf raw;
    (void)state;
    buf_init(&raw, RECORD_MAX_BYTES);
    for (int how = 0; how < 3; how++) {
        struct wal_report rep;
        struct wal_reader *rd;
        struct record r;
        restore(s, &s->mark);
        struct wal *w = open_lazily(s, &rep);
        uint64_t before = unverified(w);
        buf_clear(&raw);
        if (how == 0) {
            assert_int_equal(wal_read(w, 2, &raw), ERR_OK);
            assert_true(bytes_equal(buf_bytes(&raw), oracle_bytes(&s->o, 2, 2)));
        } else if (how == 1) {
            assert_int_equal(wal_term_at(w, 2), 1);
        } else {
            assert_int_equal(wal_reader_open(&rd, w), ERR_OK);
            assert_int_equal(wal_reader_read(rd, 2, &r), ERR_OK);
            wal_reader_close(rd);
        }
        assert_true(unverified(w) < before);
        fx_check(w, &s->o, 1, s->last);
        wal_close(w);
    }
    buf_fini(&raw);
    sample_free(s);
}

/* Reads all there is in every way; what comes is right or it is an error. Returns whether there were errors. */
static int nothing_wrong_is_read(struct sample *s, struct wal *w)
{
    struct wal_cursor *c;
    struct wal_reader *rd;
    struct record r;
    struct bytes raw;
    struct buf one;
    enum err e = ERR_OK;
    int errors = 0;

    assert_int_equal(wal_cursor_open(&c, w, 1), ERR_OK);
    for (uint64_t lsn = 1; lsn <= s->last && !e; lsn++) {
        e = wal_cursor_next(c, &r, &raw);
        assert_true(e == ERR_OK || e == ERR_CORRUPT);
        assert_true(e || bytes_equal(raw, oracle_bytes(&s->o, lsn, lsn)));
    }
    errors += e != ERR_OK;
    wal_cursor_close(c);
    buf_init(&one, RECORD_MAX_BYTES);
    assert_int_equal(wal_reader_open(&rd, w), ERR_OK);
    for (uint64_t lsn = s->last; lsn >= 1; lsn -= lsn > 3 ? 3 : 1) {
        buf_clear(&one);
        e = wal_read(w, lsn, &one);
        assert_true(e == ERR_OK || e == ERR_CORRUPT);
        assert_true(e || bytes_equal(buf_bytes(&one), oracle_bytes(&s->o, lsn, lsn)));
        errors += e != ERR_OK;
        e = wal_reader_read(rd, lsn, &r);
        assert_true(e == ERR_OK || e == ERR_CORRUPT);
        assert_true(e || r.lsn == lsn);
        errors += e != ERR_OK;
    }
    wal_reader_close(rd);
    buf_fini(&one);
    return errors;
}

/* Every byte of the segments that are not read at open. */
static void every_flipped_byte_is_found(void **state)
{
    struct sample *s = sample_new();
    unsigned at_open = 0, later = 0;
    (void)state;
    for (size_t f = 0; f + 2 < s->count; f++) {
        uint8_t *p = (uint8_t *)(uintptr_t)buf_data(&s->files[f].content);
        for (size_t i = 0; i < buf_size(&s->files[f].content); i += 1 + i % 3) {
            struct wal_report rep;
            struct wal *w = NULL;
            struct wal_config cfg = config(s);
            cfg.lazy = 1;
            p[i] ^= (uint8_t)(1u << i % 8);
            restore(s, &s->mark);
            enum err e = wal_open(&w, &cfg, &rep);
            assert_true(e == ERR_OK || e == ERR_CORRUPT); /* another cell, another format */
            at_open += e || rep.damaged_lsn;
            if (!e && !rep.damaged_lsn) {
                if (i % 2)
                    nothing_wrong_is_read(s, w);
                verify_rest(w);
                uint64_t first, last;
                assert_int_equal(verify(w, strtoull(s->files[f].name, NULL, 10), &first, &last), ERR_CORRUPT);
                nothing_wrong_is_read(s, w);
                later++;
            }
            wal_close(w);
            p[i] ^= (uint8_t)(1u << i % 8);
        }
    }
    assert_true(at_open > 100 && later > 100);
    sample_free(s);
}

/* Up to the damage, and behind its segment, all can be read; the log goes on, and lets go of it. */
static void damage_found_later(void **state)
{
    struct sample *s = sample_new();
    struct wal_report rep;
    struct buf raw;
    (void)state;
    uint8_t *p = (uint8_t *)(uintptr_t)buf_data(&s->files[0].content);
    size_t at = record_at(&s->files[0].content, frame_at(&s->files[0].content, 1), 1) + 70;
    p[at] ^= 1;
    restore(s, &s->mark);
    struct wal *w = open_lazily(s, &rep);
    assert_int_equal(rep.damaged_lsn, 0);
    assert_int_equal(verify_rest(w), 1);
    assert_int_equal(wal_room(w, 1), ERR_OK);
    assert_int_equal(fx_append(w, &s->o, 2, 3, 100), ERR_OK);
    buf_init(&raw, RECORD_MAX_BYTES);
    assert_int_equal(wal_read(w, 2, &raw), ERR_OK);
    assert_int_equal(wal_read(w, 3, &raw), ERR_CORRUPT);
    assert_int_equal(wal_read(w, s->last + 2, &raw), ERR_OK);
    buf_fini(&raw);
    assert_int_equal(wal_term_at(w, 2), 1);
    assert_int_equal(wal_remove_below(w, s->last), ERR_OK);
    assert_int_equal(verify_rest(w), 0);
    wal_close(w);
    p[at] ^= 1;
    sample_free(s);
}

/* Each byte, header and footer too, changed when the log is open already. */
static void every_byte_flipped_under_an_open_log(void **state)
{
    struct sample *s = sample_new();
    (void)state;
    for (size_t i = 0; i < buf_size(&s->files[0].content); i += 1 + i % 5) {
        struct wal_report rep;
        uint64_t first, last;
        uint8_t *p = (uint8_t *)(uintptr_t)buf_data(&s->files[0].content) + i;
        restore(s, &s->mark);
        struct wal *w = open_lazily(s, &rep);
        if (i % 2)
            assert_int_equal(verify(w, 1, &first, &last), ERR_OK); /* once whole, then not */
        *p ^= (uint8_t)(1u << i % 8);
        fx_write(s->dir, s->files[0].name, buf_bytes(&s->files[0].content));
        *p ^= (uint8_t)(1u << i % 8);
        assert_int_equal(verify(w, 1, &first, &last), ERR_CORRUPT);
        wal_close(w);
    }
    sample_free(s);
}

/* A segment whose file was deleted under the log. */
static void a_segment_that_is_gone(void **state)
{
    struct sample *s = sample_new();
    struct wal_report rep;
    char path[512];
    (void)state;
    restore(s, &s->mark);
    struct wal *w = open_lazily(s, &rep);
    fx_path(path, s->dir, s->files[0].name);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(verify_rest(w), 1);
    wal_close(w);
    sample_free(s);
}

static void faults_while_verifying(void **state)
{
    struct sample *s = sample_new();
    (void)state;
    for (int kind = 0; kind < FAULT_KINDS; kind++) {
        int fired = 1;
        for (unsigned n = 1; fired; n += SWEEP_STEP) {
            struct wal_report rep;
            uint64_t first, last;
            restore(s, &s->mark);
            struct wal *w = open_lazily(s, &rep);
            fault_arm(kind, n, EIO);
            enum err e = verify(w, 1, &first, &last);
            fired = fault_fired(kind);
            fault_disarm(kind);
            assert_true(e != ERR_CORRUPT);
            assert_int_equal(verify_rest(w), 0);
            fx_check(w, &s->o, 1, s->last);
            wal_close(w);
        }
    }
    sample_free(s);
}

/* ---- beside a log that is written, cut and trimmed ---- */

struct beside {
    struct wal *w;
    _Atomic int stop;
    _Atomic unsigned wrong, rounds;
};

static void *verify_on(void *arg)
{
    struct beside *b = arg;
    while (!atomic_load(&b->stop)) {
        struct wal_info i;
        uint64_t first, last = 0;
        enum err e = ERR_OK;
        wal_info(b->w, &i);
        while (!e)
            e = verify(b->w, last + 1, &first, &last);
        if (e != ERR_END)
            atomic_fetch_add(&b->wrong, 1);
        (void)wal_term_at(b->w, i.last_lsn / 2);
        atomic_fetch_add(&b->rounds, 1);
    }
    return NULL;
}

static void beside_a_log_in_use(void **state)
{
    pthread_t t[2];
    char dir[FX_DIR_BYTES];
    struct oracle o;
    struct beside b = {0};
    (void)state;
    fx_make_dir(dir);
    struct wal_config cfg = fx_config(dir, WAL_SEGMENT_MIN_BYTES);
    oracle_init(&o, 1, NULL);
    b.w = fx_open(&cfg, NULL);
    fx_append_groups(b.w, &o, 60);
    wal_close(b.w);
    cfg.lazy = 1;
    b.w = fx_open(&cfg, NULL);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&t[i], NULL, verify_on, &b), 0);
    uint64_t first = 1;
    for (int i = 0; i < 40 || atomic_load(&b.rounds) < 40; i++) {
        struct wal_info info;
        fx_append_groups(b.w, &o, 4);
        if (i % 4 == 1) {
            uint64_t to = oracle_last(&o) - 5;
            assert_int_equal(wal_cut(b.w, to), ERR_OK);
            oracle_cut(&o, to);
        }
        assert_int_equal(wal_remove_below(b.w, oracle_last(&o) > 100 ? oracle_last(&o) - 100 : 1), ERR_OK);
        wal_info(b.w, &info);
        first = info.first_lsn;
    }
    atomic_store(&b.stop, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(atomic_load(&b.wrong), 0);
    assert_int_equal(verify_rest(b.w), 0);
    fx_check(b.w, &o, first, oracle_last(&o));
    wal_close(b.w);
    fx_remove_dir(dir);
    oracle_fini(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sound_log_is_the_same),     cmocka_unit_test(a_first_look_verifies),
        cmocka_unit_test(every_flipped_byte_is_found), cmocka_unit_test(damage_found_later),
        cmocka_unit_test(a_segment_that_is_gone),      cmocka_unit_test(faults_while_verifying),
        cmocka_unit_test(beside_a_log_in_use),         cmocka_unit_test(every_byte_flipped_under_an_open_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
