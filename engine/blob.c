/* blob.c - see blob.h. */
#include "engine/blob.h"

#include <assert.h>

struct blob *blob_new(struct bytes value, size_t n, uint64_t lsn)
{
    assert(value.n <= n);
    if (n > UINT32_MAX)
        return NULL;
    struct blob *b = mem_alloc(offsetof(struct blob, data) + n);
    if (!b)
        return NULL;
    atomic_init(&b->refs, 1);
    b->n = (uint32_t)n;
    b->lsn = lsn;
    b->next = NULL;
    b->tombstone = b->staged = 0;
    if (value.n)
        memcpy(b->data, value.p, value.n);
    return b;
}

struct blob *blob_tombstone(uint64_t lsn)
{
    struct blob *b = blob_new(bytes_of(NULL, 0), 0, lsn);
    if (b)
        b->tombstone = 1;
    return b;
}
