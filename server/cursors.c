/* cursors.c - see cursors.h. A ring: slot n is overwritten CURSORS_MAX cursors later. */
#include "server/cursors.h"

#include <pthread.h>

#include "base/clock.h"
#include "base/mem.h"

#define SLOT_BITS 14
#define RANDOM_BITS 38

struct place {
    uint64_t cursor, vault;
    uint8_t *path;
    size_t n;
};

struct cursors {
    pthread_mutex_t lock;
    uint64_t next;
    struct place place[CURSORS_MAX];
};

enum err cursors_new(struct cursors **out)
{
    struct cursors *cs = *out = mem_zalloc(sizeof *cs);
    if (!cs)
        return ERR_OOM;
    pthread_mutex_init(&cs->lock, NULL);
    return ERR_OK;
}

void cursors_free(struct cursors *cs)
{
    if (!cs)
        return;
    for (unsigned i = 0; i < CURSORS_MAX; i++)
        mem_free(cs->place[i].path);
    pthread_mutex_destroy(&cs->lock);
    mem_free(cs);
}

enum err cursors_put(struct cursors *cs, uint64_t vault, struct bytes path, uint64_t *cursor)
{
    uint64_t r;
    uint8_t *copy = mem_alloc(path.n ? path.n : 1);
    enum err err = copy ? clock_random(&r, sizeof r) : ERR_OOM;

    *cursor = 0;
    if (err) {
        mem_free(copy);
        return err;
    }
    if (path.n)
        memcpy(copy, path.p, path.n);
    r &= (1ull << RANDOM_BITS) - 1;
    r |= r == 0; /* 0 is the start and the end */
    pthread_mutex_lock(&cs->lock);
    struct place *p = &cs->place[cs->next % CURSORS_MAX];
    *cursor = r << SLOT_BITS | cs->next++ % CURSORS_MAX;
    mem_free(p->path);
    *p = (struct place){.cursor = *cursor, .vault = vault, .path = copy, .n = path.n};
    pthread_mutex_unlock(&cs->lock);
    return ERR_OK;
}

enum err cursors_get(struct cursors *cs, uint64_t cursor, uint64_t vault, struct buf *out)
{
    enum err err = ERR_NOTFOUND;
    pthread_mutex_lock(&cs->lock);
    const struct place *p = &cs->place[cursor % CURSORS_MAX];
    if (cursor && p->cursor == cursor && p->vault == vault)
        err = buf_put(out, p->path, p->n);
    pthread_mutex_unlock(&cs->lock);
    return err;
}
