/* blob.h - an immutable value, shared by reference count.
 *
 * What is in a store, in the hot table, on its way to either: one allocation, its bytes never changed after it is
 * shared. A tombstone stands for "there is no such key". Sealed bytes only. Any thread.
 *
 * next and staged belong to the hot table, under its locks: a blob is staged at most once at a time (hot.h).
 */
#ifndef COFFER_ENGINE_BLOB_H
#define COFFER_ENGINE_BLOB_H

#include <stdatomic.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/mem.h"

struct blob {
    _Atomic uint32_t refs;
    uint32_t n;
    uint64_t lsn; /* of the record that wrote it; set before it is shared */
    struct blob *next;
    uint8_t tombstone, staged;
    uint8_t data[]; /* n bytes */
};

/* One reference; n bytes, of which value (at most n; p may be NULL) is copied in and the caller fills the rest before
 * it is shared. NULL: out of memory, or n over 4 GiB. */
struct blob *blob_new(struct bytes value, size_t n, uint64_t lsn);
struct blob *blob_tombstone(uint64_t lsn);

static inline struct blob *blob_ref(struct blob *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}
static inline void blob_unref(struct blob *b) /* accepts NULL */
{
    if (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
        mem_free(b);
}
static inline struct bytes blob_bytes(const struct blob *b)
{
    return bytes_of(b->data, b->n);
}
static inline size_t blob_size(const struct blob *b) /* bytes of the allocation */
{
    return offsetof(struct blob, data) + b->n;
}

#endif
