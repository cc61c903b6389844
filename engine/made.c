/* made.c - see made.h. */
#include "engine/made.h"

#include <stdatomic.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/keyhash.h"

struct made {
    uint64_t seed[KEYHASH_SEEDS];
    _Atomic uint64_t unknown; /* up to here */
    _Atomic uint64_t lsn[MADE_PLACES];
};

static _Atomic uint64_t *place_of(struct made *m, uint16_t store, struct bytes key)
{
    return &m->lsn[keyhash(m->seed, store, key) % MADE_PLACES];
}

void made_note(struct made *m, uint16_t store, struct bytes key, uint64_t lsn)
{
    atomic_store(place_of(m, store, key), lsn);
}

void made_forget(struct made *m, uint64_t lsn)
{
    atomic_store(&m->unknown, lsn);
}

int made_since(struct made *m, uint16_t store, struct bytes key, uint64_t lsn)
{
    return atomic_load(&m->unknown) > lsn || atomic_load(place_of(m, store, key)) > lsn;
}

enum err made_new(struct made **out)
{
    struct made *m = *out = mem_zalloc(sizeof *m);
    if (!m)
        return ERR_OOM;
    enum err err = clock_random(m->seed, sizeof m->seed);
    if (err) {
        made_free(m);
        *out = NULL;
    }
    return err;
}

void made_free(struct made *m)
{
    mem_free(m);
}
