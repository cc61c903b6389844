/* keyhash.h - a 64-bit hash of (store, key), seeded: crafted keys cannot pile up in one bucket. Tables of keys share
 * it; each has its own seed (clock_random), which stays secret. Pure; all inline. */
#ifndef COFFER_ENGINE_KEYHASH_H
#define COFFER_ENGINE_KEYHASH_H

#include "base/bytes.h"

#define KEYHASH_SEEDS 3

static inline uint64_t keyhash_fold(uint64_t a, uint64_t b)
{
    unsigned __int128 m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

/* Multiply and fold over 16 bytes a step; every multiplicand has a secret in it. Of the last 16 bytes or less, the two
 * halves overlap. key has at least a byte. */
static inline uint64_t keyhash(const uint64_t seed[KEYHASH_SEEDS], uint16_t store, struct bytes key)
{
    const uint8_t *p = key.p;
    size_t n = key.n;
    uint64_t a = seed[0] * (2u * (uint64_t)store + 1), lo, hi;

    for (; n > 16; n -= 16, p += 16)
        a = keyhash_fold(get_le64(p) ^ seed[1], get_le64(p + 8) ^ a);
    if (n >= 8) {
        lo = get_le64(p);
        hi = get_le64(p + n - 8);
    } else if (n >= 4) {
        lo = get_le32(p);
        hi = get_le32(p + n - 4);
    } else {
        lo = (uint64_t)p[0] << 16 | (uint64_t)p[n >> 1] << 8 | p[n - 1];
        hi = 0;
    }
    return keyhash_fold(keyhash_fold(lo ^ seed[1], hi ^ a) ^ seed[2], key.n ^ seed[1]);
}

#endif
