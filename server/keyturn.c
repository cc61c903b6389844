/* keyturn.c - see keyturn.h.
 *
 * A line is there as long as somebody has the turn; the first in it has. What giving it on needs was allocated when it
 * was taken, so that it cannot fail.
 */
#include "server/keyturn.h"

#include <pthread.h>
#include <string.h>

#include "base/mem.h"

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(n) mem_alloc(n)
#define uthash_free(p, n) mem_free(p)
#include <uthash.h>

struct line_key {
    uint64_t vault;
    char name[KEY_NAME_MAX + 1 + 7]; /* filled with zeros; no padding in the struct */
};

struct keyturn_line {
    struct line_key key;
    struct keyturn *first, **end;
    UT_hash_handle hh;
};

struct keyturns {
    pthread_mutex_t lock;
    struct keyturn_line *lines;
};

enum err keyturns_new(struct keyturns **out)
{
    struct keyturns *t = *out = mem_zalloc(sizeof *t);
    if (!t)
        return ERR_OOM;
    pthread_mutex_init(&t->lock, NULL);
    return ERR_OK;
}

void keyturns_free(struct keyturns *t)
{
    if (!t)
        return;
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

/* Finds or makes. Lock held. NULL: no memory. */
static struct keyturn_line *find_line(struct keyturns *t, uint64_t vault, const char *name)
{
    struct line_key key = {.vault = vault};
    struct keyturn_line *l;
    strncpy(key.name, name, KEY_NAME_MAX);
    HASH_FIND(hh, t->lines, &key, sizeof key, l);
    if (l || (l = mem_zalloc(sizeof *l)) == NULL)
        return l;
    l->key = key;
    l->end = &l->first;
    HASH_ADD(hh, t->lines, key, sizeof l->key, l);
    if (!l->hh.tbl) { /* uthash found no memory for its table */
        mem_free(l);
        return NULL;
    }
    return l;
}

enum err keyturn_take(struct keyturns *t, struct keyturn *k, uint64_t vault, const char *name)
{
    enum err err = ERR_OOM;
    pthread_mutex_lock(&t->lock);
    struct keyturn_line *l = find_line(t, vault, name);
    if (l) {
        err = l->first ? ERR_AGAIN : ERR_OK;
        k->line = l;
        k->next = NULL;
        *l->end = k;
        l->end = &k->next;
    }
    pthread_mutex_unlock(&t->lock);
    return err;
}

void keyturn_give(struct keyturns *t, struct keyturn *k)
{
    struct keyturn_line *l = k->line;
    if (!l)
        return;
    pthread_mutex_lock(&t->lock);
    struct keyturn *next = l->first = k->next;
    if (!next) {
        HASH_DEL(t->lines, l);
        mem_free(l);
    }
    pthread_mutex_unlock(&t->lock);
    k->line = NULL;
    if (next) /* it cannot be gone: it waits for this */
        io_post(next->io, next->task);
}
