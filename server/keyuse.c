/* keyuse.c - see keyuse.h. A hash table under one lock, held for a look-up and a subtraction: two I/O threads that each
 * wait tens of microseconds for an HSM do not meet here.
 *
 * Failure: a reservation that fails is remembered for a second and answered to everybody who has nothing left, so that
 * a full disk is not asked by each request; whoever still has some left goes on and asks again after that second.
 *
 * Rejected: a counter in the log record alone, raised with each encryption (an fsync each); keeping what is left at a
 * clean stop (one write per key used, at the moment when there is least time for it, to save 1/4096).
 */
#include "server/keyuse.h"

#include <pthread.h>

#include "base/clock.h"
#include "base/mem.h"

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(n) mem_alloc(n)
#define uthash_free(p, n) mem_free(p)
#include <uthash.h>

struct use_key {
    uint8_t id[KEYUSE_ID_BYTES];
    uint32_t version;
};

struct keyuse_entry {
    struct use_key key;
    uint32_t asked; /* 1: the owner has not answered yet */
    uint64_t left;
    enum err failed; /* the last answer */
    uint64_t failed_us;
    UT_hash_handle hh;
};

struct keyuse {
    struct keyuse_owner owner;
    pthread_mutex_t lock;
    struct keyuse_entry *entries;
};

enum err keyuse_new(struct keyuse **out, const struct keyuse_owner *owner)
{
    struct keyuse *u = *out = mem_zalloc(sizeof *u);
    if (!u)
        return ERR_OOM;
    u->owner = *owner;
    pthread_mutex_init(&u->lock, NULL);
    return ERR_OK;
}

void keyuse_free(struct keyuse *u)
{
    struct keyuse_entry *e, *tmp;
    if (!u)
        return;
    HASH_ITER (hh, u->entries, e, tmp) {
        HASH_DEL(u->entries, e);
        mem_free(e);
    }
    pthread_mutex_destroy(&u->lock);
    mem_free(u);
}

/* Lock held. */
static struct keyuse_entry *find(struct keyuse *u, const uint8_t *id, uint32_t version)
{
    struct use_key key = {.version = version};
    struct keyuse_entry *e;
    memcpy(key.id, id, sizeof key.id);
    HASH_FIND(hh, u->entries, &key, sizeof key, e);
    return e;
}

/* Finds or makes. Lock held. NULL: no memory. */
static struct keyuse_entry *entry(struct keyuse *u, const uint8_t *id, uint32_t version)
{
    struct keyuse_entry *e = find(u, id, version);
    if (e || (e = mem_zalloc(sizeof *e)) == NULL)
        return e;
    memcpy(e->key.id, id, sizeof e->key.id);
    e->key.version = version;
    HASH_ADD(hh, u->entries, key, sizeof e->key, e);
    if (!e->hh.tbl) { /* uthash found no memory for its table */
        mem_free(e);
        return NULL;
    }
    return e;
}

static int failed_lately(const struct keyuse_entry *e)
{
    return e->failed && clock_mono_us() - e->failed_us < KEYUSE_FAILURE_KEPT_US;
}

/* Takes one if there is one; *ask: the owner is to be asked. Lock held. */
static enum err take(struct keyuse_entry *e, int *ask)
{
    int low = e->left <= KEYUSE_LOW && !e->asked && !failed_lately(e);
    if (e->left > 0) {
        e->left--;
        *ask = low;
        return ERR_OK;
    }
    if (!e->asked && !low)
        return e->failed;
    *ask = low;
    return ERR_AGAIN;
}

enum err keyuse_take(struct keyuse *u, const struct keyuse_key *key)
{
    int ask = 0;
    pthread_mutex_lock(&u->lock);
    struct keyuse_entry *e = entry(u, key->id, key->version);
    enum err err = e ? take(e, &ask) : ERR_OOM;
    if (ask)
        e->asked = 1;
    pthread_mutex_unlock(&u->lock);
    if (ask)
        u->owner.reserve(u->owner.arg, e, key);
    return err;
}

void keyuse_reserved(struct keyuse *u, struct keyuse_entry *e, enum err err, uint64_t n)
{
    pthread_mutex_lock(&u->lock);
    e->asked = 0;
    e->failed = err == ERR_AGAIN ? ERR_OK : err;
    e->failed_us = clock_mono_us();
    if (err == ERR_OK)
        e->left += n;
    pthread_mutex_unlock(&u->lock);
    u->owner.answered(u->owner.arg);
}

void keyuse_grant(struct keyuse *u, const uint8_t id[KEYUSE_ID_BYTES], uint32_t version, uint64_t n)
{
    pthread_mutex_lock(&u->lock);
    struct keyuse_entry *e = entry(u, id, version);
    if (e)
        e->left += n;
    pthread_mutex_unlock(&u->lock);
}

uint64_t keyuse_left(struct keyuse *u, const uint8_t id[KEYUSE_ID_BYTES], uint32_t version)
{
    pthread_mutex_lock(&u->lock);
    struct keyuse_entry *e = find(u, id, version);
    uint64_t left = e ? e->left : 0;
    pthread_mutex_unlock(&u->lock);
    return left;
}
