/* bits.c - see bits.h. Whole words where there are some; at the ends bit by bit. */
#include "server/bits.h"

int bits_get(struct bytes v, uint64_t at)
{
    return at / 8 < v.n ? v.p[at / 8] >> (7 - at % 8) & 1 : 0;
}

void bits_set(uint8_t *v, uint64_t at, int bit)
{
    uint8_t mask = (uint8_t)(0x80u >> at % 8);
    v[at / 8] = bit ? v[at / 8] | mask : v[at / 8] & (uint8_t)~mask;
}

int64_t bits_count(struct bytes v, uint64_t first, uint64_t last)
{
    int64_t n = 0;
    while (first <= last) {
        if (first % 8 == 0 && first + 63 <= last) {
            n += __builtin_popcountll(get_le64(v.p + first / 8));
            first += 64;
        } else {
            n += bits_get(v, first++);
        }
    }
    return n;
}

int64_t bits_find(struct bytes v, int bit, uint64_t first, uint64_t last)
{
    uint64_t others = bit ? 0 : UINT64_MAX; /* a word without any */
    while (first <= last) {
        if (first % 8 == 0 && first + 63 <= last && get_le64(v.p + first / 8) == others)
            first += 64;
        else if (bits_get(v, first) == bit)
            return (int64_t)first;
        else
            first++;
    }
    return -1;
}

void bits_combine(enum bits_op op, uint8_t *into, size_t n, struct bytes with)
{
    switch (op) {
    case BITS_AND:
        for (size_t i = 0; i < with.n; i++)
            into[i] &= with.p[i];
        if (with.n < n)
            memset(into + with.n, 0, n - with.n);
        break;
    case BITS_OR:
        for (size_t i = 0; i < with.n; i++)
            into[i] |= with.p[i];
        break;
    case BITS_XOR:
        for (size_t i = 0; i < with.n; i++)
            into[i] ^= with.p[i];
        break;
    case BITS_NOT:
        for (size_t i = 0; i < n; i++)
            into[i] = (uint8_t)~into[i];
        break;
    }
}

/* ---- fields ---- */

/* The lowest bits of x, as the field's type reads them. */
static int64_t as_field(const struct bits_field *f, uint64_t x)
{
    unsigned unused = 64 - f->width;
    return f->is_signed ? (int64_t)(x << unused) >> unused : (int64_t)(x << unused >> unused);
}

int64_t bits_field_get(struct bytes v, const struct bits_field *f)
{
    uint64_t x = 0;
    for (unsigned i = 0; i < f->width; i++)
        x = x << 1 | (uint64_t)bits_get(v, f->at + i);
    return as_field(f, x);
}

void bits_field_set(uint8_t *v, const struct bits_field *f, int64_t x)
{
    for (unsigned i = 0; i < f->width; i++)
        bits_set(v, f->at + i, (int)((uint64_t)x >> (f->width - 1 - i) & 1));
}

static int fit(const struct bits_field *f, enum bits_overflow o, __int128 x, int64_t *out)
{
    __int128 max = ((__int128)1 << (f->width - (f->is_signed ? 1 : 0))) - 1, min = f->is_signed ? -max - 1 : 0;
    *out = 0;
    if (x >= min && x <= max)
        *out = (int64_t)x;
    else if (o == BITS_SAT)
        *out = (int64_t)(x > max ? max : min);
    else if (o == BITS_WRAP)
        *out = as_field(f, (uint64_t)x);
    else
        return 0;
    return 1;
}

int bits_field_cast(const struct bits_field *f, enum bits_overflow o, int64_t x, int64_t *out)
{
    return fit(f, o, f->is_signed ? (__int128)x : (__int128)(uint64_t)x, out);
}

int bits_field_add(const struct bits_field *f, enum bits_overflow o, int64_t old, int64_t by, int64_t *out)
{
    return fit(f, o, (__int128)old + by, out);
}
