/* buf.c - see buf.h.
 *
 * Happy path: buf_reserve finds room behind len and returns at once. When there is none it either moves the readable
 * bytes to the front, or takes memory of twice the size (from 512 bytes) and copies them there. Moving is chosen only
 * when at least as many bytes were consumed as must be moved, or when the buffer may not grow any more: so a byte is
 * moved a constant number of times on average, and a reader that stays a little behind its writer does not make every
 * reserve a memmove of the whole buffer.
 *
 * Failure: ERR_TOOBIG by the limit, ERR_OOM by memory; both before anything changed, the old bytes stay where they are.
 * The limit counts readable bytes; the memory behind it may be a size class larger.
 *
 * Secrets: at any time the bytes of a secret buffer outside off..len are either zero or were written by a caller into
 * reserved room and never added. consume and truncate wipe what leaves off..len, moving wipes what the move left
 * behind, and the whole memory is wiped when freed (mem_secret_free). Callers that read from a socket into the room and
 * add less than they wrote are the ones who must wipe the rest.
 *
 * Rejected: realloc for plain buffers (a second growth path, for one copy saved); chained segments (the RESP parser
 * wants an argument in one piece); a spare byte for printf's NUL (it would make cap and limit lie by one).
 */
#include "base/buf.h"

#include <assert.h>
#include <stdio.h>

#include "base/mem.h"

#define BUF_MIN_CAP 512

static void mem_release(struct buf *b)
{
    if (b->secret)
        mem_secret_free(b->mem, b->cap);
    else
        mem_free(b->mem);
}

static void wipe_range(struct buf *b, size_t from, size_t to)
{
    if (b->secret && to > from)
        mem_wipe(b->mem + from, to - from);
}

void buf_init(struct buf *b, size_t limit_bytes)
{
    *b = (struct buf){.limit = limit_bytes};
}

void buf_init_secret(struct buf *b, size_t limit_bytes)
{
    *b = (struct buf){.limit = limit_bytes, .secret = 1};
}

void buf_fini(struct buf *b)
{
    mem_release(b);
    *b = (struct buf){.limit = b->limit, .secret = b->secret};
}

/* Doubles until want bytes fit, but not beyond the limit; want is within it. */
static size_t grown_cap(const struct buf *b, size_t want)
{
    size_t cap = b->cap < BUF_MIN_CAP ? BUF_MIN_CAP : b->cap;
    while (cap < want)
        cap = cap > SIZE_MAX / 2 ? SIZE_MAX : cap * 2;
    if (cap == b->cap && cap <= SIZE_MAX / 2)
        cap *= 2; /* fits already once moved to the front, but that would be moved again too soon */
    if (cap > b->limit)
        cap = b->limit;
    return b->secret ? mem_secret_usable(cap) : cap;
}

static enum err grow(struct buf *b, size_t cap)
{
    size_t size = buf_size(b);
    uint8_t *mem = b->secret ? mem_secret_alloc(cap) : mem_alloc(cap);
    if (!mem)
        return ERR_OOM;
    if (size)
        memcpy(mem, b->mem + b->off, size);
    mem_release(b);
    b->mem = mem;
    b->off = 0;
    b->len = size;
    b->cap = cap;
    return ERR_OK;
}

static void move_to_front(struct buf *b)
{
    size_t size = buf_size(b);
    memmove(b->mem, b->mem + b->off, size);
    wipe_range(b, size, b->len);
    b->off = 0;
    b->len = size;
}

enum err buf_reserve(struct buf *b, size_t n, uint8_t **room)
{
    size_t size = buf_size(b);
    *room = NULL;
    if (size > b->limit || n > b->limit - size)
        return ERR_TOOBIG;
    if (b->cap - b->len < n) {
        if (size + n <= b->cap && (b->off >= size || b->cap >= b->limit)) {
            move_to_front(b);
        } else {
            enum err e = grow(b, grown_cap(b, size + n));
            if (e)
                return e;
        }
    }
    *room = b->mem ? b->mem + b->len : NULL; /* NULL: nothing asked for, nothing there yet */
    return ERR_OK;
}

enum err buf_reserve_last(struct buf *b, size_t n, uint8_t **room)
{
    size_t size = buf_size(b);
    if (size <= b->limit && n <= b->limit - size && b->cap < size + n) {
        enum err e = grow(b, b->secret ? mem_secret_usable(size + n) : size + n);
        if (e)
            return e;
    }
    return buf_reserve(b, n, room);
}

enum err buf_put(struct buf *b, const void *p, size_t n)
{
    uint8_t *room;
    enum err e = buf_reserve(b, n, &room);
    if (e || n == 0)
        return e;
    memcpy(room, p, n);
    buf_added(b, n);
    return ERR_OK;
}

enum err buf_put_u8(struct buf *b, uint8_t v)
{
    return buf_put(b, &v, sizeof v);
}

/* The host is little-endian (bytes.h refuses others), so a number's memory is its encoding. */
enum err buf_put_le16(struct buf *b, uint16_t v)
{
    return buf_put(b, &v, sizeof v);
}

enum err buf_put_le32(struct buf *b, uint32_t v)
{
    return buf_put(b, &v, sizeof v);
}

enum err buf_put_le64(struct buf *b, uint64_t v)
{
    return buf_put(b, &v, sizeof v);
}

enum err buf_putf(struct buf *b, const char *fmt, ...)
{
    char line[512];
    char *text = line;
    va_list ap;

    assert(!b->secret); /* printf keeps copies that nobody wipes */
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (n < 0)
        return ERR_INTERNAL;
    if ((size_t)n >= sizeof line) {
        text = mem_alloc((size_t)n + 1);
        if (!text)
            return ERR_OOM;
        va_start(ap, fmt);
        vsnprintf(text, (size_t)n + 1, fmt, ap);
        va_end(ap);
    }
    enum err e = buf_put(b, text, (size_t)n);
    if (text != line)
        mem_free(text);
    return e;
}

void buf_consume(struct buf *b, size_t n)
{
    assert(n <= buf_size(b));
    wipe_range(b, b->off, b->off + n);
    b->off += n;
    if (b->off == b->len)
        b->off = b->len = 0;
}

void buf_truncate(struct buf *b, size_t n)
{
    assert(n <= buf_size(b));
    wipe_range(b, b->off + n, b->len);
    b->len = b->off + n;
    if (n == 0)
        b->off = b->len = 0;
}

void buf_clear(struct buf *b)
{
    buf_truncate(b, 0);
}

void buf_shrink(struct buf *b, size_t keep_bytes)
{
    if (buf_size(b) == 0 && b->cap > keep_bytes)
        buf_fini(b);
}
