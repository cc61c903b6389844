/* arena.c - see arena.h. Requests larger than a quarter of a chunk get a chunk of their own, put behind the one being
 * filled, so that its rest is not lost. */
#include "resp/arena.h"

#include <stdint.h>

#include "base/mem.h"

#define CHUNK_BYTES 4096
#define ALIGN _Alignof(max_align_t)

struct arena_chunk {
    struct arena_chunk *next;
    size_t size, used; /* of bytes[] */
    _Alignas(max_align_t) uint8_t bytes[];
};

#define USUAL_SIZE (CHUNK_BYTES - sizeof(struct arena_chunk))

void arena_init(struct arena *a, int secret)
{
    *a = (struct arena){.secret = secret};
}

static struct arena_chunk *new_chunk(struct arena *a, size_t size)
{
    if (size > SIZE_MAX - sizeof(struct arena_chunk))
        return NULL;
    size_t total = sizeof(struct arena_chunk) + size;
    struct arena_chunk *c = a->secret ? mem_secret_alloc(total) : mem_alloc(total);
    if (c)
        *c = (struct arena_chunk){.size = size};
    return c;
}

static void free_chunk(struct arena *a, struct arena_chunk *c)
{
    if (a->secret)
        mem_secret_free(c, sizeof *c + c->size);
    else
        mem_free(c);
}

/* Keeps one chunk of the usual size: a small answer after a small answer allocates nothing. */
void arena_reset(struct arena *a)
{
    struct arena_chunk *keep = NULL;
    while (a->chunks) {
        struct arena_chunk *c = a->chunks;
        a->chunks = c->next;
        if (keep || c->size != USUAL_SIZE) {
            free_chunk(a, c);
            continue;
        }
        keep = c;
        keep->next = NULL;
        if (a->secret)
            mem_wipe(keep->bytes, keep->used);
        keep->used = 0;
    }
    a->chunks = keep;
}

void arena_fini(struct arena *a)
{
    while (a->chunks) {
        struct arena_chunk *c = a->chunks;
        a->chunks = c->next;
        free_chunk(a, c);
    }
}

static void *take(struct arena_chunk *c, size_t n)
{
    void *p = c->bytes + c->used;
    c->used += n;
    return p;
}

void *arena_alloc(struct arena *a, size_t n)
{
    struct arena_chunk *first = a->chunks, *c;
    if (n > SIZE_MAX - ALIGN)
        return NULL;
    n = (n + ALIGN - 1) / ALIGN * ALIGN;
    if (first && first->size - first->used >= n)
        return take(first, n);

    int large = n > USUAL_SIZE / 4;
    c = new_chunk(a, large ? n : USUAL_SIZE);
    if (!c)
        return NULL;
    if (large && first) {
        c->next = first->next;
        first->next = c;
    } else {
        c->next = first;
        a->chunks = c;
    }
    return take(c, n);
}
