/* hot.c - see hot.h.
 *
 * Happy path: hash, one stripe lock, one bucket, one memcmp, one reference, unlock. The hash (keyhash.h) is 64
 * bits wide, seeded per process; its top bits choose the stripe, its low 32 go to uthash.
 *
 * A stripe has two dirty lists. open gathers what is published; closed is what the applier is reading, and exists only
 * while hot_dirty_take runs. An entry is in at most one of them (listed; epoch tells which). Life of a dirty value:
 *
 *     publish            listed in open                          charged to dirty_bytes
 *     publish again      stays listed, value replaced            coalesced: the difference is charged
 *     take: close        open becomes closed, the epoch flips    between two groups, so no record is half in it
 *     publish            closing = the round's value, charged once more as a listing of the next round
 *     take: collect      item holds a reference; listed only if closing was set (then in open, for the next round)
 *     publish            listed in open while held: shared goes off, the old value is the item's alone
 *     done               held goes off; clean if not listed
 *
 * **absent** says that LevelDB holds no such key for sure. It is set by hot_fill with a tombstone whose token is still
 * good: no value of that stripe was published since the miss, and at the miss the entry was neither dirty nor in a
 * round (it would have been visible), so no batch could have brought the key into LevelDB between. It goes off when a
 * value of the key is collected, before it is written. Tombstones that are collected while it is on need no write.
 *
 * Eviction: uthash keeps entries in order of insertion; the hand walks that order. Bounded steps per call, so that a
 * reader who fills never pays for a table full of dirty entries; if that did not make room, the fill does nothing
 * (memory stays bounded), and what becomes clean past the limit goes at once.
 *
 * Lock order: turn, then one stripe. Blobs and entries are freed after the unlock.
 *
 * Rejected: an LRU list (a hit would write three cache lines); epochs or RCU for lock-free readers (an uncontended lock
 * is 15 of the 60 ns, and 64 stripes are uncontended).
 */
#include "engine/hot.h"

#include <assert.h>

#include "base/clock.h"
#include "engine/hot_impl.h"
#include "engine/keyhash.h"

#define STRIPE_SHIFT 58
#define EVICT_STEPS 32

/* ---- hash ---- */

static inline uint64_t hash_of(const struct hot *h, uint16_t store, struct bytes key)
{
    return keyhash(h->seed, store, key);
}

static inline struct hot_stripe *stripe_of(const struct hot *h, uint64_t hash)
{
    return &h->stripes[hash >> STRIPE_SHIFT];
}

static inline size_t table_cost(const struct hot_stripe *s)
{
    return s->head ? hot_cost(sizeof(UT_hash_table)) + hot_cost(s->head->hh.tbl->num_buckets * sizeof(UT_hash_bucket))
                   : 0;
}

static inline void charge_dirty(struct hot *h, size_t n)
{
    atomic_fetch_add_explicit(&h->dirty_bytes, n, memory_order_relaxed);
}

/* ---- entries; the stripe is locked ---- */

static inline struct hot_entry *find(struct hot_stripe *s, uint64_t hash, uint16_t store, struct bytes key)
{
    struct hot_lookup l = {key.p, store};
    struct hot_entry *e;
    HASH_FIND_BYHASHVALUE(hh, s->head, &l, (unsigned)key.n, (unsigned)hash, e);
    return e;
}

static struct hot_entry *entry_new(uint16_t store, struct bytes key, uint64_t hash)
{
    struct hot_entry *e = mem_alloc(offsetof(struct hot_entry, key) + key.n);
    if (!e)
        return NULL;
    memset(e, 0, offsetof(struct hot_entry, key));
    e->store = store;
    e->stripe = (uint8_t)(hash >> STRIPE_SHIFT);
    memcpy(e->key, key.p, key.n);
    e->hh.keylen = (unsigned)key.n;
    return e;
}

static int insert(struct hot_stripe *s, struct hot_entry *e, uint64_t hash)
{
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, s->head, e->key, e->hh.keylen, (unsigned)hash, e);
    if (!e->hh.tbl)
        return 0;
    s->bytes += hot_entry_cost(e);
    return 1;
}

/* Takes e out of the table and puts it on the list of those to be freed. */
void hot_detach(struct hot_stripe *s, struct hot_entry *e, struct hot_entry **gone)
{
    if (s->hand == e)
        s->hand = e->hh.next;
    s->bytes -= hot_entry_cost(e) + (e->visible ? hot_blob_cost(e->visible) : 0);
    HASH_DELETE(hh, s->head, e);
    e->next = *gone;
    *gone = e;
}

void hot_free_gone(struct hot_entry *gone)
{
    while (gone) {
        struct hot_entry *next = gone->next;
        blob_unref(gone->visible);
        mem_free(gone);
        gone = next;
    }
}

int hot_make_room(struct hot *h, struct hot_stripe *s, size_t extra, struct hot_entry **gone)
{
    if (extra > h->share)
        return 0;
    for (unsigned steps = 0; s->bytes + table_cost(s) + extra > h->share; steps++) {
        struct hot_entry *e = s->hand ? s->hand : s->head;
        if (!e || steps == EVICT_STEPS)
            return 0;
        s->hand = e->hh.next;
        if (e->hit) {
            e->hit = 0;
        } else if (hot_evictable(e)) {
            hot_detach(s, e, gone);
            s->evictions++;
        }
    }
    return 1;
}

/* Finds the entry or makes it; locks the stripe, and leaves it locked on success. NULL: out of memory, not locked. */
static struct hot_entry *obtain_locked(struct hot *h, uint16_t store, struct bytes key)
{
    assert(key.n > 0 && key.n <= UINT16_MAX && key.p[0] != 0);
    uint64_t hash = hash_of(h, store, key);
    struct hot_stripe *s = stripe_of(h, hash);

    hot_lock(s);
    struct hot_entry *e = find(s, hash, store, key);
    if (e)
        return e;
    hot_unlock(s);

    struct hot_entry *fresh = entry_new(store, key, hash);
    if (!fresh)
        return NULL;
    hot_lock(s);
    e = find(s, hash, store, key); /* a reader may have filled it meanwhile */
    if (!e && insert(s, fresh, hash)) {
        e = fresh;
        fresh = NULL;
    }
    if (!e)
        hot_unlock(s);
    mem_free(fresh);
    return e;
}

/* ---- readers ---- */

static inline int look(struct hot *h, uint16_t store, struct bytes key, int staged, struct blob **out, uint64_t *fill)
{
    uint64_t hash = hash_of(h, store, key);
    struct hot_stripe *s = stripe_of(h, hash);

    hot_lock(s);
    struct hot_entry *e = find(s, hash, store, key);
    struct blob *b = !e ? NULL : staged && e->staged ? e->staged : e->visible;
    if (b) {
        blob_ref(b);
        e->hit = 1;
        s->hits++;
    } else {
        *fill = s->publishes;
        s->misses++;
    }
    hot_unlock(s);
    *out = b;
    return b != NULL;
}

int hot_get(struct hot *h, uint16_t store, struct bytes key, struct blob **out, uint64_t *fill)
{
    return look(h, store, key, 0, out, fill);
}

int hot_peek_staged(struct hot *h, uint16_t store, struct bytes key, struct blob **out, uint64_t *fill)
{
    return look(h, store, key, 1, out, fill);
}

void hot_fill(struct hot *h, uint16_t store, struct bytes key, struct blob *value, uint64_t fill)
{
    assert(key.n > 0 && key.n <= UINT16_MAX && key.p[0] != 0);
    uint64_t hash = hash_of(h, store, key);
    struct hot_stripe *s = stripe_of(h, hash);
    struct hot_entry *fresh = entry_new(store, key, hash), *gone = NULL;
    if (!fresh)
        return;

    hot_lock(s);
    if (s->publishes == fill && hot_make_room(h, s, hot_entry_cost(fresh) + hot_blob_cost(value), &gone)) {
        struct hot_entry *e = find(s, hash, store, key);
        if (!e && insert(s, fresh, hash)) {
            e = fresh;
            fresh = NULL;
        }
        if (e && !e->visible) {
            e->visible = blob_ref(value);
            e->absent = value->tombstone != 0;
            s->bytes += hot_blob_cost(value);
        }
    }
    hot_unlock(s);
    mem_free(fresh);
    hot_free_gone(gone);
}

/* ---- sequencer ---- */

static inline const UT_hash_bucket *bucket_of(const struct hot_stripe *s, uint64_t hash)
{
    const UT_hash_table *t = s->head->hh.tbl;
    return &t->buckets[(unsigned)hash & (t->num_buckets - 1)];
}

/* Each pass touches what the one before has asked for, and asks for what that points to. */
void hot_warm(struct hot *h, const struct hot_key *keys, unsigned n)
{
    uint64_t hash[HOT_WARM_MAX];
    for (unsigned i = 0; i < n; i++) {
        struct hot_stripe *s = stripe_of(h, hash[i] = hash_of(h, keys[i].store, keys[i].key));
        hot_lock(s);
        if (s->head)
            __builtin_prefetch(bucket_of(s, hash[i]));
        hot_unlock(s);
    }
    for (unsigned i = 0; i < n; i++) {
        struct hot_stripe *s = stripe_of(h, hash[i]);
        hot_lock(s);
        const struct UT_hash_handle *first = s->head ? bucket_of(s, hash[i])->hh_head : NULL;
        if (first) {
            __builtin_prefetch(first);
            __builtin_prefetch((const char *)first + 64);
        }
        hot_unlock(s);
    }
    for (unsigned i = 0; i < n; i++) {
        struct hot_stripe *s = stripe_of(h, hash[i]);
        hot_lock(s);
        const struct hot_entry *e = find(s, hash[i], keys[i].store, keys[i].key);
        const char *value = e ? (const char *)e->visible : NULL;
        for (unsigned line = 0; value && line < 8; line++)
            __builtin_prefetch(value + line * 64);
        hot_unlock(s);
    }
}

enum err hot_stage(struct hot *h, uint16_t store, struct bytes key, struct blob *value, struct hot_entry **entry)
{
    assert(!value->staged);
    *entry = NULL;
    struct hot_entry *e = obtain_locked(h, store, key), *gone = NULL;
    if (!e)
        return ERR_OOM;
    struct hot_stripe *s = &h->stripes[e->stripe];

    value->staged = 1;
    value->next = value;
    if (e->staged) {
        value->next = e->staged->next;
        e->staged->next = value;
    }
    e->staged = value;
    s->bytes += hot_blob_cost(value);
    hot_make_room(h, s, 0, &gone);
    hot_unlock(s);
    hot_free_gone(gone);
    *entry = e;
    return ERR_OK;
}

void hot_unstage(struct hot *h, struct hot_entry *e, struct blob *value)
{
    struct hot_stripe *s = &h->stripes[e->stripe];
    struct hot_entry *gone = NULL;

    hot_lock(s);
    assert(value->staged && e->staged == value);
    struct blob *before = value;
    while (before->next != value)
        before = before->next;
    before->next = value->next;
    e->staged = before == value ? NULL : before;
    value->staged = 0;
    s->bytes -= hot_blob_cost(value);
    if (!e->staged && !e->visible)
        hot_detach(s, e, &gone);
    hot_unlock(s);
    blob_unref(value);
    hot_free_gone(gone);
}

/* ---- log writer ---- */

static void open_group(struct hot *h)
{
    pthread_mutex_lock(&h->turn);
    while (h->take_waits)
        pthread_cond_wait(&h->turn_changed, &h->turn);
    h->group_open = h->in_group = 1;
    atomic_fetch_add(&h->turns, 1);
    pthread_mutex_unlock(&h->turn);
}

static inline void enter_group(struct hot *h)
{
    if (!h->in_group)
        open_group(h);
}

/* Makes value visible and lists the entry. Returns the value that nobody in the table needs any more, for the caller to
 * drop. */
static struct blob *make_visible(struct hot *h, struct hot_stripe *s, struct hot_entry *e, struct blob *value)
{
    struct blob *old = e->visible;

    e->visible = value;
    s->publishes++;
    if (e->listed && (e->epoch == s->epoch || e->closing)) { /* coalesced */
        s->bytes -= hot_blob_cost(old);
        s->coalesced++;
        charge_dirty(h, hot_blob_cost(value) - hot_blob_cost(old)); /* modulo 2^64 */
        return old;
    }
    charge_dirty(h, hot_entry_cost(e) + hot_blob_cost(value));
    atomic_fetch_add_explicit(&h->dirty_entries, 1, memory_order_relaxed);
    if (e->listed) { /* closed, not collected yet */
        e->closing = old;
        return NULL;
    }
    e->listed = 1;
    e->epoch = s->epoch;
    e->next = s->open;
    s->open = e;
    if (old && !e->shared)
        s->bytes -= hot_blob_cost(old); /* else counted until the round is done */
    e->shared = 0;
    return old;
}

static inline void count_published(struct hot *h, const struct hot_entry *e, const struct blob *value)
{
    /* One writer: no need for atomic additions. */
    uint64_t n = atomic_load_explicit(&h->published, memory_order_relaxed);
    uint64_t bytes = atomic_load_explicit(&h->published_bytes, memory_order_relaxed);
    atomic_store_explicit(&h->published, n + 1, memory_order_relaxed);
    atomic_store_explicit(&h->published_bytes, bytes + e->hh.keylen + value->n, memory_order_relaxed);
}

void hot_publish_soon(const struct hot_entry *e)
{
    __builtin_prefetch(e, 1);
    __builtin_prefetch((const char *)e + 64, 1);
}

void hot_publish(struct hot *h, struct hot_entry *e, struct blob *value)
{
    struct hot_stripe *s = &h->stripes[e->stripe];
    struct blob *skipped = NULL;

    enter_group(h);
    hot_lock(s);
    assert(value->staged && e->staged);
    for (;;) {
        struct blob *oldest = e->staged->next;
        if (oldest == e->staged)
            e->staged = NULL;
        else
            e->staged->next = oldest->next;
        oldest->staged = 0;
        if (oldest == value)
            break;
        assert(e->staged);
        s->bytes -= hot_blob_cost(oldest);
        s->coalesced++;
        oldest->next = skipped;
        skipped = oldest;
    }
    count_published(h, e, value);
    struct blob *old = make_visible(h, s, e, value);
    hot_unlock(s);

    blob_unref(old);
    while (skipped) {
        struct blob *next = skipped->next;
        blob_unref(skipped);
        skipped = next;
    }
}

enum err hot_replay(struct hot *h, uint16_t store, struct bytes key, struct blob *value)
{
    enter_group(h);
    struct hot_entry *e = obtain_locked(h, store, key), *gone = NULL;
    if (!e)
        return ERR_OOM;
    struct hot_stripe *s = &h->stripes[e->stripe];

    s->bytes += hot_blob_cost(value);
    count_published(h, e, value);
    struct blob *old = make_visible(h, s, e, value);
    hot_make_room(h, s, 0, &gone);
    hot_unlock(s);
    blob_unref(old);
    hot_free_gone(gone);
    return ERR_OK;
}

void hot_set_published(struct hot *h, uint64_t lsn)
{
    enter_group(h);
    pthread_mutex_lock(&h->turn);
    assert(lsn >= atomic_load(&h->published_lsn));
    atomic_store(&h->published_lsn, lsn);
    h->group_open = h->in_group = 0;
    atomic_fetch_add(&h->turns, 1);
    if (h->take_waits)
        pthread_cond_broadcast(&h->turn_changed);
    pthread_mutex_unlock(&h->turn);
}

uint64_t hot_published(const struct hot *h)
{
    return atomic_load(&h->published_lsn);
}

uint64_t hot_turns(const struct hot *h)
{
    return atomic_load(&h->turns);
}

size_t hot_dirty_bytes(struct hot *h)
{
    return atomic_load_explicit(&h->dirty_bytes, memory_order_relaxed);
}

/* ---- the whole table ---- */

static int make_stripes(struct hot *h)
{
    h->mem = mem_zalloc((HOT_STRIPES + 1) * sizeof *h->stripes);
    if (!h->mem)
        return 0;
    h->stripes =
        (struct hot_stripe *)(((uintptr_t)h->mem + _Alignof(struct hot_stripe) - 1) & -_Alignof(struct hot_stripe));
    for (unsigned i = 0; i < HOT_STRIPES; i++)
        pthread_mutex_init(&h->stripes[i].lock, NULL);
    pthread_mutex_init(&h->turn, NULL);
    pthread_cond_init(&h->turn_changed, NULL);
    return 1;
}

enum err hot_new(struct hot **out, size_t limit_bytes)
{
    *out = NULL;
    struct hot *h = mem_zalloc(sizeof *h);
    if (!h)
        return ERR_OOM;
    enum err e = clock_random(h->seed, sizeof h->seed);
    if (!e && !make_stripes(h))
        e = ERR_OOM;
    if (e) {
        mem_free(h);
        return e;
    }
    for (unsigned i = 0; i < 3; i++)
        h->seed[i] |= 1; /* none is zero */
    h->share = limit_bytes / HOT_STRIPES;
    *out = h;
    return ERR_OK;
}

static void free_entry(struct hot_entry *e)
{
    while (e->staged) {
        struct blob *oldest = e->staged->next;
        if (oldest == e->staged)
            e->staged = NULL;
        else
            e->staged->next = oldest->next;
        blob_unref(oldest);
    }
    blob_unref(e->visible);
    blob_unref(e->closing);
    mem_free(e);
}

void hot_free(struct hot *h)
{
    if (!h)
        return;
    for (struct hot_stripe *s = h->stripes; s < h->stripes + HOT_STRIPES; s++) {
        struct hot_entry *e, *next;
        HASH_ITER (hh, s->head, e, next) {
            HASH_DELETE(hh, s->head, e);
            free_entry(e);
        }
        pthread_mutex_destroy(&s->lock);
    }
    pthread_cond_destroy(&h->turn_changed);
    pthread_mutex_destroy(&h->turn);
    mem_free(h->mem);
    mem_free(h);
}

void hot_drop_clean(struct hot *h, uint16_t store)
{
    for (struct hot_stripe *s = h->stripes; s < h->stripes + HOT_STRIPES; s++) {
        struct hot_entry *e, *next, *gone = NULL;
        hot_lock(s);
        s->publishes++; /* fills of what was read before the replacement come too late */
        HASH_ITER (hh, s->head, e, next) {
            if (store != UINT16_MAX && e->store != store)
                continue;
            e->absent = 0;
            if (hot_evictable(e))
                hot_detach(s, e, &gone);
        }
        hot_unlock(s);
        hot_free_gone(gone);
    }
}

void hot_stats(struct hot *h, struct hot_stats *out)
{
    *out = (struct hot_stats){
        .published = atomic_load_explicit(&h->published, memory_order_relaxed),
        .published_bytes = atomic_load_explicit(&h->published_bytes, memory_order_relaxed),
        .dirty_bytes = hot_dirty_bytes(h),
        .dirty_entries = atomic_load_explicit(&h->dirty_entries, memory_order_relaxed),
        .bytes = sizeof *h + (HOT_STRIPES + 1) * sizeof *h->stripes,
    };
    for (struct hot_stripe *s = h->stripes; s < h->stripes + HOT_STRIPES; s++) {
        hot_lock(s);
        out->hits += s->hits;
        out->misses += s->misses;
        out->evictions += s->evictions;
        out->coalesced += s->coalesced;
        out->unwritten += s->unwritten;
        out->bytes += s->bytes + table_cost(s);
        out->entries += HASH_COUNT(s->head);
        hot_unlock(s);
    }
}
