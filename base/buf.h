/* buf.h - a growable byte buffer that can hold secrets.
 *
 *     +----------+------------------+-----------+
 *     | consumed | readable         | writable  |
 *     +----------+------------------+-----------+
 *     mem        mem+off            mem+len     mem+cap
 *
 * A buffer is plain or secret, for life. A secret buffer lives in locked memory (mem.h), is wiped when bytes are
 * consumed, when it is moved to grow, and when freed: no copy of what passed through it is left behind.
 * A buffer has a limit; growing past it fails with ERR_TOOBIG and changes nothing.
 *
 * Pointers into a buffer live until the next call that may grow or consume it. One thread at a time.
 */
#ifndef COFFER_BASE_BUF_H
#define COFFER_BASE_BUF_H

#include <stdarg.h>

#include "base/bytes.h"
#include "base/err.h"

struct buf {
    uint8_t *mem;
    size_t off, len, cap;
    size_t limit;
    int secret;
};

void buf_init(struct buf *b, size_t limit_bytes);        /* plain; allocates nothing yet */
void buf_init_secret(struct buf *b, size_t limit_bytes); /* in locked memory */
void buf_fini(struct buf *b); /* wipes if secret, frees, leaves an empty buffer of the same kind */

static inline size_t buf_size(const struct buf *b) /* readable bytes */
{
    return b->len - b->off;
}
static inline uint8_t *buf_data(const struct buf *b) /* first readable byte; may be NULL when there is none */
{
    return b->mem ? b->mem + b->off : NULL; /* NULL + 0 is undefined in C11, and UBSan says so */
}
static inline struct bytes buf_bytes(const struct buf *b)
{
    return bytes_of(buf_data(b), buf_size(b));
}

/* Makes room for n more bytes; on success *room is where to write them, buf_added(b, m<=n) makes them readable. */
must_use enum err buf_reserve(struct buf *b, size_t n, uint8_t **room);
/* The same for n that are known to be all that comes, and not less than what is there: takes no memory for more. */
must_use enum err buf_reserve_last(struct buf *b, size_t n, uint8_t **room);
static inline void buf_added(struct buf *b, size_t n)
{
    b->len += n;
}

must_use enum err buf_put(struct buf *b, const void *p, size_t n);
must_use enum err buf_put_u8(struct buf *b, uint8_t v);
must_use enum err buf_put_le16(struct buf *b, uint16_t v);
must_use enum err buf_put_le32(struct buf *b, uint32_t v);
must_use enum err buf_put_le64(struct buf *b, uint64_t v);
must_use enum err buf_putf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* plain only */

/* Consumes n readable bytes from the front (asserts n <= buf_size). An emptied buffer starts anew at offset 0. */
void buf_consume(struct buf *b, size_t n);

/* Cuts readable bytes back to n (undo of a partly written reply). */
void buf_truncate(struct buf *b, size_t n);

/* Consumes everything, keeps the memory. */
void buf_clear(struct buf *b);

/* Gives memory back when empty and larger than keep_bytes. */
void buf_shrink(struct buf *b, size_t keep_bytes);

#endif
