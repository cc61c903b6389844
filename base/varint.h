/* varint.h - unsigned numbers in as few bytes as they need: seven bits a byte, the lowest first, the top bit set on all
 * but the last; at most ten bytes. There is one way to write a number: others are refused. Signed ones zig-zag: 0, -1,
 * 1, -2 ... as 0, 1, 2, 3 ... (both as in Protocol Buffers). */
#ifndef COFFER_BASE_VARINT_H
#define COFFER_BASE_VARINT_H

#include "base/bytes.h"

#define VARINT_MAX_BYTES 10

/* Returns what is behind it. */
static inline uint8_t *varint_put(uint8_t *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

/* Takes a number off *in. 0: there is none, *in stays where it is and *v is 0. */
static inline int varint_take(struct bytes *in, uint64_t *v)
{
    uint64_t value = 0;
    *v = 0;
    for (unsigned i = 0; i < VARINT_MAX_BYTES && i < in->n; i++) {
        uint8_t b = in->p[i];
        value |= (uint64_t)(b & 0x7f) << (7 * i);
        if (b & 0x80)
            continue;
        if ((i && !b) || (i == VARINT_MAX_BYTES - 1 && b > 1))
            return 0;
        in->p += i + 1;
        in->n -= i + 1;
        *v = value;
        return 1;
    }
    return 0;
}

static inline uint64_t varint_zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

static inline int64_t varint_unzigzag(uint64_t v)
{
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

#endif
