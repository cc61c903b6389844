/* bits.h - a value as a string of bits: what SETBIT, BITCOUNT, BITPOS, BITOP and BITFIELD do with it.
 *
 *     byte    0                 1
 *     bit     0 1 2 3 4 5 6 7   8 9 ...      bit 0 is the highest of the first byte, as in Redis
 *
 * A field is an integer of 1 to 64 bits (unsigned: 63), its highest bit first, at any bit.
 * Pure functions over memory of the caller's; nothing is allocated, nothing copied. Any thread.
 */
#ifndef COFFER_SERVER_BITS_H
#define COFFER_SERVER_BITS_H

#include "base/bytes.h"

int bits_get(struct bytes v, uint64_t at); /* 0 behind the end */
void bits_set(uint8_t *v, uint64_t at, int bit);

/* Of the bits first to last, both in v: how many are 1; which is the first that is `bit`, -1: none. */
int64_t bits_count(struct bytes v, uint64_t first, uint64_t last);
int64_t bits_find(struct bytes v, int bit, uint64_t first, uint64_t last);

enum bits_op { BITS_AND, BITS_OR, BITS_XOR, BITS_NOT };
/* into = into op with, which is as if zeros followed it; with.n <= n. BITS_NOT has no other side. */
void bits_combine(enum bits_op op, uint8_t *into, size_t n, struct bytes with);

struct bits_field {
    uint64_t at; /* its first bit */
    unsigned width;
    int is_signed;
};
enum bits_overflow { BITS_WRAP, BITS_SAT, BITS_FAIL }; /* modulo 2^width; the nearest that fits; not at all */

int64_t bits_field_get(struct bytes v, const struct bits_field *f); /* what lies behind the end is 0 */
void bits_field_set(uint8_t *v, const struct bits_field *f, int64_t x);
/* x, or the field's value old increased by `by`, as the field can hold it. An unsigned field takes a negative x for the
 * large number of the same bits, as in Redis. 0: it does not fit and is not to be made to; *out is 0. */
int bits_field_cast(const struct bits_field *f, enum bits_overflow o, int64_t x, int64_t *out);
int bits_field_add(const struct bits_field *f, enum bits_overflow o, int64_t old, int64_t by, int64_t *out);

#endif
