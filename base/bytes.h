/* bytes.h - borrowed byte ranges, and integers in explicit byte order.
 *
 * A struct bytes never owns what it points to; whoever hands one out says how long it lives.
 * Everything on disk and between nodes is little-endian, but for parts of LevelDB keys that must sort:
 * those are big-endian. All inline, no allocation, any thread.
 */
#ifndef COFFER_BASE_BYTES_H
#define COFFER_BASE_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

struct bytes {
    const uint8_t *p; /* may be NULL only when n is 0 */
    size_t n;
};

static inline struct bytes bytes_of(const void *p, size_t n)
{
    return (struct bytes){.p = p, .n = n};
}

static inline struct bytes bytes_str(const char *s)
{
    return bytes_of(s, strlen(s));
}

/* Equality of public bytes. Secrets are compared with mem_equal_ct() of mem.h. */
static inline int bytes_equal(struct bytes a, struct bytes b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* 1: this word, in letters of either case. */
static inline int bytes_is_word(struct bytes s, const char *word)
{
    return s.n == strlen(word) && strncasecmp((const char *)s.p, word, s.n) == 0;
}

/* Copies s as a C string. 0, and nothing is copied: it is empty, does not fit into room, or has a NUL. */
static inline int bytes_to_str(struct bytes s, char *out, size_t room)
{
    if (!s.n || s.n >= room || memchr(s.p, 0, s.n))
        return 0;
    memcpy(out, s.p, s.n);
    out[s.n] = 0;
    return 1;
}

/* As memcmp, a shorter prefix sorts first. */
static inline int bytes_compare(struct bytes a, struct bytes b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

/* Takes n bytes off the front of *in into *out. 1 on success; 0 (both untouched) when in is shorter. */
static inline int bytes_take(struct bytes *in, size_t n, struct bytes *out)
{
    if (in->n < n)
        return 0;
    *out = bytes_of(in->p, n);
    if (n) /* p may be NULL, and NULL + 0 is undefined */
        in->p += n;
    in->n -= n;
    return 1;
}

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Coffer is written for little-endian machines; swap in the helpers below for others"
#endif

static inline uint16_t get_le16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint32_t get_le32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint64_t get_le64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void put_le16(void *p, uint16_t v)
{
    memcpy(p, &v, sizeof v);
}
static inline void put_le32(void *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}
static inline void put_le64(void *p, uint64_t v)
{
    memcpy(p, &v, sizeof v);
}
static inline uint64_t get_be64(const void *p)
{
    return __builtin_bswap64(get_le64(p));
}
static inline void put_be64(void *p, uint64_t v)
{
    put_le64(p, __builtin_bswap64(v));
}
static inline uint32_t get_be32(const void *p)
{
    return __builtin_bswap32(get_le32(p));
}
static inline void put_be32(void *p, uint32_t v)
{
    put_le32(p, __builtin_bswap32(v));
}

#endif
