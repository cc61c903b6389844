/* hot_impl.h - the hot table's insides, shared by its own files: hot.c (the table, readers, sequencer, log writer) and
 * hot_round.c (applier). */
#ifndef COFFER_ENGINE_HOT_IMPL_H
#define COFFER_ENGINE_HOT_IMPL_H

#include <pthread.h>

#include "engine/hot.h"

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(n) mem_alloc(n)
#define uthash_free(p, n) mem_free(p)
#define HASH_KEYCMP(in_table, looked_for, n) hot_differs(in_table, looked_for, n)
static inline int hot_differs(const void *in_table, const void *looked_for, size_t n);
#include <uthash.h>
#undef HASH_BKT_CAPACITY_THRESH
#define HASH_BKT_CAPACITY_THRESH 6U /* chains of one or two, not of three: each link is a cache miss */

#define HOT_STRIPES 64

/* What a look-up touches lies together: the end of hh, visible, store, hit, key. */
struct hot_entry {
    struct blob *closing; /* the round's value, overwritten before it was collected */
    UT_hash_handle hh;
    struct blob *visible;   /* NULL: only staged so far */
    struct blob *staged;    /* newest of a ring: its next is the oldest */
    struct hot_entry *next; /* in a dirty list, or of those to be freed */
    uint16_t store;
    uint8_t stripe;
    uint8_t hit;
    uint8_t epoch; /* which dirty list, when listed */
    uint8_t listed : 1;
    uint8_t held : 1;   /* an item of the round points here */
    uint8_t shared : 1; /* visible is the item's value */
    uint8_t absent : 1;
    uint8_t key[];
};

struct hot_stripe {
    pthread_mutex_t lock;
    struct hot_entry *head; /* uthash */
    struct hot_entry *hand; /* next to be looked at for eviction; NULL: head */
    struct hot_entry *open, *closed;
    uint64_t publishes;
    uint64_t hits, misses, evictions, coalesced, unwritten;
    size_t bytes;
    uint8_t epoch;
} __attribute__((aligned(128)));

struct hot {
    uint64_t seed[3];
    size_t share; /* of the limit, per stripe */
    struct hot_stripe *stripes;
    void *mem;      /* of the stripes, unaligned */
    char apart[64]; /* readers never write what is above, writers always what is below */

    /* Groups and rounds take turns: a group does not begin while the applier waits, the lists are closed while none is
     * open. */
    pthread_mutex_t turn;
    pthread_cond_t turn_changed;
    int group_open, take_waits, take_never_waits; /* under turn */
    int in_group;                                 /* log writer's copy of group_open */
    int in_round;                                 /* applier's own */
    _Atomic uint64_t turns;                       /* odd while a group is open */
    _Atomic size_t dirty_entries;                 /* listed in open; changes in groups, and while none is open */
    _Atomic uint64_t published_lsn;
    _Atomic uint64_t published, published_bytes;
    _Atomic size_t dirty_bytes;
};

struct hot_lookup {
    const uint8_t *key;
    uint16_t store;
};

/* uthash's comparison: the key in the entry against a struct hot_lookup. */
static inline int hot_differs(const void *in_table, const void *looked_for, size_t n)
{
    const struct hot_entry *e =
        (const struct hot_entry *)(const void *)((const char *)in_table - offsetof(struct hot_entry, key));
    const struct hot_lookup *l = looked_for;
    __builtin_prefetch(e->visible); /* it will be this one: its reference count is the next cache miss */
    return e->store != l->store || memcmp(in_table, l->key, n) != 0;
}

/* What malloc takes for n bytes: steps of 16 up to 128, then four steps from one power of two to the next. */
static inline size_t hot_cost(size_t n)
{
    size_t step = n <= 128 ? 16 : (size_t)1 << (61 - __builtin_clzl(n - 1));
    return (n + step - 1) & ~(step - 1);
}

static inline size_t hot_blob_cost(const struct blob *b)
{
    return hot_cost(blob_size(b));
}

static inline size_t hot_entry_cost(const struct hot_entry *e)
{
    return hot_cost(offsetof(struct hot_entry, key) + e->hh.keylen);
}

static inline void hot_lock(struct hot_stripe *s)
{
    pthread_mutex_lock(&s->lock);
}

static inline void hot_unlock(struct hot_stripe *s)
{
    pthread_mutex_unlock(&s->lock);
}

static inline int hot_evictable(const struct hot_entry *e)
{
    return !e->listed && !e->held && !e->staged;
}

/* These with the stripe locked; gone is a list of entries to be freed after the unlock. */
void hot_detach(struct hot_stripe *s, struct hot_entry *e, struct hot_entry **gone);
/* 1 when extra bytes find room in the stripe's share, after a bounded number of evictions. */
int hot_make_room(struct hot *h, struct hot_stripe *s, size_t extra, struct hot_entry **gone);

void hot_free_gone(struct hot_entry *gone);

/* The two steps of hot_dirty_take, with nobody kept waiting between them. close: items has room for room of them, and
 * for their struct hotsort_key behind. stripe: appends the items of one stripe, returns how many. */
must_use enum err hot_take_close(struct hot *h, struct hot_dirty **items, size_t *room, uint64_t *lsn);
size_t hot_take_stripe(struct hot *h, unsigned stripe, struct hot_dirty *items);

#endif
