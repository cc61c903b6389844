/* arena.h - many small allocations that die together, in plain or in secret memory.
 *
 * Memory comes in chunks; arena_reset frees all but one of them. A secret arena's chunks are locked memory (mem.h) and
 * what was handed out is wiped at reset and fini. One thread at a time, never blocks.
 */
#ifndef COFFER_RESP_ARENA_H
#define COFFER_RESP_ARENA_H

#include <stddef.h>

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks; /* the one being filled first */
    int secret;
};

void arena_init(struct arena *a, int secret); /* allocates nothing yet */
void arena_fini(struct arena *a);             /* leaves an empty arena of the same kind */
void arena_reset(struct arena *a);            /* everything handed out is gone */

/* n bytes, not initialised, aligned for any type; NULL when there is no memory. */
void *arena_alloc(struct arena *a, size_t n);

#endif
