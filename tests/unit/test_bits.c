/* test_bits.c - values as bits, against a model that keeps each bit in a place of its own and counts one by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "server/bits.h"

#define BYTES_MAX 200
#define ROUNDS 3000

static uint64_t seed;

static uint64_t draw(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % below;
}

/* ---- the model ---- */

struct model {
    uint8_t v[BYTES_MAX];
    int bit[8 * BYTES_MAX];
    size_t n;
};

static void read_bits(struct model *m)
{
    for (size_t i = 0; i < 8 * m->n; i++)
        m->bit[i] = (m->v[i / 8] & 1 << (7 - i % 8)) != 0;
}

/* Long stretches of the same bit, so that words are skipped, and noise. */
static void fill(struct model *m)
{
    m->n = draw(BYTES_MAX) + 1;
    uint8_t most = draw(2) ? 0xff : 0;
    for (size_t i = 0; i < m->n; i++)
        m->v[i] = draw(40) ? most : (uint8_t)draw(256);
    if (draw(3) == 0)
        for (size_t i = 0; i < m->n; i++)
            m->v[i] = (uint8_t)draw(256);
    read_bits(m);
}

static struct bytes value(const struct model *m)
{
    return bytes_of(m->v, m->n);
}

static void as_the_model_says(const struct model *m)
{
    for (size_t i = 0; i < 8 * m->n; i++)
        assert_int_equal(bits_get(value(m), i), m->bit[i]);
}

/* ---- bits ---- */

static void bits_are_counted_and_found(void **state)
{
    (void)state;
    seed = 1;
    for (int round = 0; round < ROUNDS; round++) {
        struct model m;
        fill(&m);
        uint64_t first = draw(8 * m.n), last = first + draw(8 * m.n - first);
        int64_t n = 0, at[2] = {-1, -1};
        for (uint64_t i = first; i <= last; i++) {
            n += m.bit[i];
            if (at[m.bit[i]] < 0)
                at[m.bit[i]] = (int64_t)i;
        }
        assert_int_equal(bits_count(value(&m), first, last), n);
        assert_int_equal(bits_find(value(&m), 0, first, last), at[0]);
        assert_int_equal(bits_find(value(&m), 1, first, last), at[1]);
        as_the_model_says(&m);
    }
}

static void one_bit_is_set_and_no_other(void **state)
{
    (void)state;
    seed = 2;
    for (int round = 0; round < ROUNDS; round++) {
        struct model m;
        fill(&m);
        uint64_t at = draw(8 * m.n);
        m.bit[at] = (int)draw(2);
        bits_set(m.v, at, m.bit[at]);
        as_the_model_says(&m);
    }
    assert_int_equal(bits_get(bytes_of("\xff", 1), 8), 0);
    assert_int_equal(bits_get(bytes_of(NULL, 0), UINT64_MAX), 0);
}

static void values_are_combined(void **state)
{
    (void)state;
    seed = 3;
    for (int round = 0; round < ROUNDS; round++) {
        struct model m, with;
        enum bits_op op = (enum bits_op)draw(4);
        fill(&m);
        fill(&with);
        if (with.n > m.n)
            with.n = m.n;
        for (size_t i = 0; i < 8 * m.n; i++) {
            int other = i < 8 * with.n ? with.bit[i] : 0;
            m.bit[i] = op == BITS_AND   ? m.bit[i] && other
                       : op == BITS_OR  ? m.bit[i] || other
                       : op == BITS_XOR ? m.bit[i] != other
                                        : !m.bit[i];
        }
        bits_combine(op, m.v, m.n, op == BITS_NOT ? bytes_of(NULL, 0) : value(&with));
        as_the_model_says(&m);
    }
}

/* ---- fields ---- */

static struct bits_field draw_field(size_t n, unsigned width_max)
{
    struct bits_field f = {.is_signed = (int)draw(2)};
    f.width = (unsigned)draw(f.is_signed || width_max < 64 ? width_max : 63) + 1;
    f.at = draw(8 * n);
    return f;
}

/* The field's bits as a sum of powers of two, the highest of a signed one negative. */
static int64_t model_field(const struct model *m, const struct bits_field *f)
{
    int64_t x = 0;
    for (unsigned i = 0; i < f->width; i++) {
        int64_t power = (int64_t)(UINT64_C(1) << (f->width - 1 - i));
        if (f->at + i < 8 * m->n && m->bit[f->at + i])
            x += i == 0 && f->is_signed && f->width < 64 ? -power : power;
    }
    return x;
}

static void fields_are_read_and_written(void **state)
{
    (void)state;
    seed = 4;
    for (int round = 0; round < ROUNDS; round++) {
        struct model m;
        fill(&m);
        struct bits_field f = draw_field(m.n, 64);
        assert_int_equal(bits_field_get(value(&m), &f), model_field(&m, &f)); /* also what hangs over the end */
        if (f.at + f.width > 8 * m.n)
            continue;
        int64_t x = (int64_t)draw(UINT64_MAX), fits;
        assert_int_equal(bits_field_cast(&f, BITS_WRAP, x, &fits), 1);
        bits_field_set(m.v, &f, fits);
        for (unsigned i = 0; i < f.width; i++)
            m.bit[f.at + i] = (uint64_t)x >> (f.width - 1 - i) & 1;
        as_the_model_says(&m);
        assert_int_equal(bits_field_get(value(&m), &f), fits);
    }
}

/* Fields of which all values can be walked through: x is moved by the whole range until it fits. */
static void what_does_not_fit(void **state)
{
    (void)state;
    seed = 5;
    for (int round = 0; round < 100 * ROUNDS; round++) {
        struct bits_field f = draw_field(1, 10);
        int64_t range = (int64_t)1 << f.width, min = f.is_signed ? -range / 2 : 0, max = min + range - 1;
        int64_t old = min + (int64_t)draw((uint64_t)range), by = (int64_t)draw(4096) - 2048, got;
        int64_t wrapped = old + by, clipped = old + by;
        while (wrapped > max)
            wrapped -= range;
        while (wrapped < min)
            wrapped += range;
        clipped = clipped > max ? max : clipped < min ? min : clipped;
        assert_int_equal(bits_field_add(&f, BITS_WRAP, old, by, &got), 1);
        assert_int_equal(got, wrapped);
        assert_int_equal(bits_field_add(&f, BITS_SAT, old, by, &got), 1);
        assert_int_equal(got, clipped);
        assert_int_equal(bits_field_add(&f, BITS_FAIL, old, by, &got), clipped == old + by);
        assert_int_equal(got, clipped == old + by ? old + by : 0);
    }
}

static void at_the_ends_of_64_bits(void **state)
{
    static const struct {
        unsigned width;
        int is_signed;
        int64_t old, by, wrap, sat; /* the same: it fits */
    } rows[] = {
        {64, 1, INT64_MAX, 1, INT64_MIN, INT64_MAX},
        {64, 1, INT64_MIN, -1, INT64_MAX, INT64_MIN},
        {64, 1, INT64_MIN, INT64_MAX, -1, -1},
        {64, 1, INT64_MIN, INT64_MIN, 0, INT64_MIN},
        {64, 1, INT64_MAX, INT64_MAX, -2, INT64_MAX},
        {63, 0, INT64_MAX, 1, 0, INT64_MAX},
        {63, 0, 0, -1, INT64_MAX, 0},
        {63, 0, INT64_MAX, INT64_MIN, INT64_MAX, 0},
        {63, 0, 0, INT64_MAX, INT64_MAX, INT64_MAX},
        {1, 1, -1, 1, 0, 0},
        {1, 1, 0, 1, -1, 0},
        {1, 0, 1, 1, 0, 1},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct bits_field f = {.width = rows[i].width, .is_signed = rows[i].is_signed};
        int64_t got;
        assert_int_equal(bits_field_add(&f, BITS_WRAP, rows[i].old, rows[i].by, &got), 1);
        assert_int_equal(got, rows[i].wrap);
        assert_int_equal(bits_field_add(&f, BITS_SAT, rows[i].old, rows[i].by, &got), 1);
        assert_int_equal(got, rows[i].sat);
        assert_int_equal(bits_field_add(&f, BITS_FAIL, rows[i].old, rows[i].by, &got), rows[i].wrap == rows[i].sat);
    }
    /* A negative number for an unsigned field is a large one. */
    struct bits_field u8 = {.width = 8};
    int64_t got;
    assert_int_equal(bits_field_cast(&u8, BITS_SAT, -1, &got), 1);
    assert_int_equal(got, 255);
    assert_int_equal(bits_field_cast(&u8, BITS_WRAP, -2, &got), 1);
    assert_int_equal(got, 254);
    assert_int_equal(bits_field_cast(&u8, BITS_FAIL, -1, &got), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_are_counted_and_found), cmocka_unit_test(one_bit_is_set_and_no_other),
        cmocka_unit_test(values_are_combined),        cmocka_unit_test(fields_are_read_and_written),
        cmocka_unit_test(what_does_not_fit),          cmocka_unit_test(at_the_ends_of_64_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
