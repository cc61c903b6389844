/* databases.c - see databases.h. Swapped databases are few: a list, searched from one end to the other. */
#include "engine/databases.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/mem.h"

#define PAIR_BYTES 8

struct pair {
    uint32_t db, vault;
};

struct pairs {
    struct pair pair[DATABASES_SWAPPED_MAX + 2];
    unsigned n;
};

struct databases {
    pthread_mutex_t lock;
    _Atomic unsigned swapped; /* pairs.n, for those who look without the lock */
    struct pairs pairs;       /* under the lock */
};

static enum err decode(struct bytes record, struct pairs *out)
{
    out->n = 0;
    if (record.n == 0)
        return ERR_OK;
    if (record.p[0] != 1 || (record.n - 1) % PAIR_BYTES || (record.n - 1) / PAIR_BYTES > DATABASES_SWAPPED_MAX)
        return ERR_CORRUPT;
    for (const uint8_t *p = record.p + 1; p < record.p + record.n; p += PAIR_BYTES)
        out->pair[out->n++] = (struct pair){get_le32(p), get_le32(p + 4)};
    return ERR_OK;
}

/* The pair of db, added as its own vault when there is none. */
static struct pair *pair_of(struct pairs *ps, uint32_t db)
{
    for (unsigned i = 0; i < ps->n; i++)
        if (ps->pair[i].db == db)
            return &ps->pair[i];
    ps->pair[ps->n] = (struct pair){db, db};
    return &ps->pair[ps->n++];
}

enum err databases_swap(struct bytes record, uint32_t a, uint32_t b, struct buf *out)
{
    struct pairs ps;
    enum err err = decode(record, &ps);
    if (err)
        return err;
    struct pair *pa = pair_of(&ps, a), *pb = pair_of(&ps, b);
    uint32_t was = pa->vault;
    pa->vault = pb->vault;
    pb->vault = was;
    err = buf_put_u8(out, 1);
    unsigned left = 0;
    for (unsigned i = 0; i < ps.n && err == ERR_OK; i++) {
        if (ps.pair[i].db == ps.pair[i].vault)
            continue;
        left++;
        err = buf_put_le32(out, ps.pair[i].db);
        if (err == ERR_OK)
            err = buf_put_le32(out, ps.pair[i].vault);
    }
    return err == ERR_OK && left > DATABASES_SWAPPED_MAX ? ERR_TOOBIG : err;
}

enum err databases_load(struct databases *d, struct bytes record)
{
    struct pairs ps;
    enum err err = decode(record, &ps);
    if (err)
        return err;
    pthread_mutex_lock(&d->lock);
    d->pairs = ps;
    atomic_store_explicit(&d->swapped, ps.n, memory_order_release);
    pthread_mutex_unlock(&d->lock);
    return ERR_OK;
}

static unsigned look(struct databases *d, unsigned number, int by_vault)
{
    unsigned found = number;
    if (!atomic_load_explicit(&d->swapped, memory_order_acquire))
        return number;
    pthread_mutex_lock(&d->lock);
    for (unsigned i = 0; i < d->pairs.n; i++) {
        const struct pair *p = &d->pairs.pair[i];
        if ((by_vault ? p->vault : p->db) == number)
            found = by_vault ? p->db : p->vault;
    }
    pthread_mutex_unlock(&d->lock);
    return found;
}

unsigned databases_vault(struct databases *d, unsigned db)
{
    return look(d, db, 0);
}

unsigned databases_of_vault(struct databases *d, unsigned vault)
{
    return look(d, vault, 1);
}

enum err databases_new(struct databases **out)
{
    struct databases *d = *out = mem_zalloc(sizeof *d);
    if (!d)
        return ERR_OOM;
    pthread_mutex_init(&d->lock, NULL);
    return ERR_OK;
}

void databases_free(struct databases *d)
{
    if (!d)
        return;
    pthread_mutex_destroy(&d->lock);
    mem_free(d);
}
