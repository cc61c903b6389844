/* changes.c - see changes.h.
 *
 * Entries lie one behind the other in chunks and are never freed one by one; a newer operation on a key overwrites the
 * entry in place. A table of pointers, open addressing with steps of one, at most three quarters full, finds them.
 *
 * Rejected: uthash, whose handle is 56 bytes beside an entry of 70 and which keeps an order of insertion that nobody
 * asks for; sorted runs that are merged when they grow (a path that is written again and again would be sorted again
 * and again, and finding a key takes a search in each).
 */
#include "engine/changes.h"

#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/keyhash.h"
#include "engine/ops.h"
#include "engine/secret.h"

#define CHUNK_BYTES ((size_t)256 << 10)
#define FIRST_SLOTS 64
#define STORE_BYTES 2
#define STOP_EVERY 4096 /* records between two looks at whether to stop */

struct chunk {
    struct chunk *next;
    size_t used, cap;
    uint64_t data[]; /* aligned for entries */
};

struct changes {
    uint64_t seed[KEYHASH_SEEDS];
    struct change **slots; /* a power of two of them, or NULL */
    size_t slot_count, count;
    struct chunk *chunks; /* the one being filled first */
    struct change **sorted;
    size_t memory_bytes;
    uint64_t first_lsn, last_lsn;
};

enum err changes_new(struct changes **out)
{
    *out = NULL;
    struct changes *c = mem_zalloc(sizeof *c);
    if (!c)
        return ERR_OOM;
    if (clock_random(c->seed, sizeof c->seed) != ERR_OK) {
        mem_free(c);
        return ERR_INTERNAL;
    }
    *out = c;
    return ERR_OK;
}

void changes_free(struct changes *c)
{
    if (!c)
        return;
    for (struct chunk *k = c->chunks, *next; k; k = next) {
        next = k->next;
        mem_free(k);
    }
    mem_free(c->slots);
    mem_free(c->sorted);
    mem_free(c);
}

/* ---- the table ---- */

static uint32_t hash_of(const struct changes *c, uint16_t store, struct bytes key)
{
    return (uint32_t)keyhash(c->seed, store, key);
}

static uint16_t store_of(const uint8_t *key)
{
    return (uint16_t)(key[0] << 8 | key[1]);
}

/* Where an entry of this key is, or belongs. The table has a free slot. */
static struct change **slot_of(const struct changes *c, uint32_t hash, uint16_t store, struct bytes key)
{
    for (size_t i = hash;; i++) {
        struct change **at = &c->slots[i & (c->slot_count - 1)];
        if (!*at || ((*at)->hash == hash && store_of((*at)->key) == store &&
                     bytes_equal(bytes_of((*at)->key + STORE_BYTES, (*at)->key_n - (size_t)STORE_BYTES), key)))
            return at;
    }
}

static enum err make_slots(struct changes *c)
{
    size_t n = c->slot_count ? 2 * c->slot_count : FIRST_SLOTS;
    struct change **slots = mem_zalloc(n * sizeof *slots);
    if (!slots)
        return ERR_OOM;
    for (size_t i = 0; i < c->slot_count; i++) {
        size_t to = c->slots[i] ? c->slots[i]->hash : 0;
        if (!c->slots[i])
            continue;
        while (slots[to & (n - 1)])
            to++;
        slots[to & (n - 1)] = c->slots[i];
    }
    mem_free(c->slots);
    c->memory_bytes += (n - c->slot_count) * sizeof *slots;
    c->slots = slots;
    c->slot_count = n;
    return ERR_OK;
}

static struct change *take_room(struct changes *c, size_t key_n)
{
    size_t n = (offsetof(struct change, key) + key_n + 7) & ~(size_t)7;
    if (!c->chunks || c->chunks->cap - c->chunks->used < n) {
        struct chunk *k = mem_alloc(sizeof *k + CHUNK_BYTES);
        if (!k)
            return NULL;
        *k = (struct chunk){.next = c->chunks, .cap = CHUNK_BYTES};
        c->chunks = k;
        c->memory_bytes += sizeof *k + CHUNK_BYTES;
    }
    void *p = (uint8_t *)c->chunks->data + c->chunks->used;
    c->chunks->used += n;
    return p;
}

static struct change *insert(struct changes *c, uint32_t hash, uint16_t store, struct bytes key)
{
    struct change *fresh = take_room(c, STORE_BYTES + key.n);
    if (!fresh)
        return NULL;
    fresh->hash = hash;
    fresh->key_n = (uint16_t)(STORE_BYTES + key.n);
    fresh->key[0] = (uint8_t)(store >> 8);
    fresh->key[1] = (uint8_t)store;
    memcpy(fresh->key + STORE_BYTES, key.p, key.n);
    *slot_of(c, hash, store, key) = fresh;
    c->count++;
    return fresh;
}

struct operation {
    uint16_t store;
    struct bytes key; /* without it */
    uint64_t lsn;
    uint32_t value_off, value_n;
    uint8_t tombstone;
};

/* Offsets in a record go up, so two operations on a key in one record differ in them. */
static int is_newer(const struct operation *op, const struct change *than)
{
    return op->lsn != than->lsn ? op->lsn > than->lsn : op->value_off > than->value_off;
}

static enum err add_one(struct changes *c, const struct operation *op)
{
    uint32_t hash = hash_of(c, op->store, op->key);
    if (c->count >= c->slot_count / 4 * 3 && make_slots(c) != ERR_OK)
        return ERR_OOM;
    struct change *at = *slot_of(c, hash, op->store, op->key);
    if (at && !is_newer(op, at))
        return ERR_OK;
    if (!at && (at = insert(c, hash, op->store, op->key)) == NULL)
        return ERR_OOM;
    at->lsn = op->lsn;
    at->value_off = op->value_off;
    at->value_n = op->value_n;
    at->tombstone = op->tombstone;
    return ERR_OK;
}

/* ---- adding ---- */

static int key_is_fit(const struct op *op)
{
    return op->key.n <= UINT16_MAX - STORE_BYTES && op->key.p[0] != 0 &&
           !(op->store != 0 && op->key.p[0] == SECRET_KEY_OLD);
}

static enum err check_ops(struct bytes ops)
{
    struct op op;
    enum err e;
    while ((e = ops_next(&ops, &op)) == ERR_OK)
        if (!key_is_fit(&op))
            return ERR_CORRUPT;
    return e == ERR_END ? ERR_OK : e;
}

static void unsort(struct changes *c)
{
    mem_free(c->sorted);
    c->sorted = NULL;
}

static void note_range(struct changes *c, uint64_t first, uint64_t last)
{
    if (!first)
        return;
    c->first_lsn = c->first_lsn && c->first_lsn < first ? c->first_lsn : first;
    c->last_lsn = c->last_lsn > last ? c->last_lsn : last;
}

/* 1 when the key, with its store in front, begins with under. */
static int is_under(const struct op *op, struct bytes under)
{
    uint8_t store[STORE_BYTES] = {(uint8_t)(op->store >> 8), (uint8_t)op->store};
    if (!under.n)
        return 1;
    return under.n >= STORE_BYTES && op->key.n + STORE_BYTES >= under.n && memcmp(under.p, store, STORE_BYTES) == 0 &&
           memcmp(under.p + STORE_BYTES, op->key.p, under.n - STORE_BYTES) == 0;
}

enum err changes_add_under(struct changes *c, const struct record *r, struct bytes under, struct bytes also)
{
    struct bytes ops = r->blob;
    struct op op;
    enum err e = check_ops(ops);
    unsort(c);
    while (!e && (e = ops_next(&ops, &op)) == ERR_OK) {
        if (!is_under(&op, under) && !(also.n == op.key.n + STORE_BYTES && is_under(&op, also)))
            continue;
        struct operation o = {.store = op.store,
                              .key = op.key,
                              .lsn = r->lsn,
                              .value_off = (uint32_t)(op.key.p + op.key.n - r->blob.p),
                              .value_n = (uint32_t)op.value.n,
                              .tombstone = op.kind == OPS_DELETE};
        e = add_one(c, &o);
    }
    if (e && e != ERR_END)
        return e;
    note_range(c, r->lsn, r->lsn);
    return ERR_OK;
}

enum err changes_add(struct changes *c, const struct record *r)
{
    return changes_add_under(c, r, bytes_of(NULL, 0), bytes_of(NULL, 0));
}

static enum err add_next(struct changes *c, struct wal_cursor *cursor, struct changes_stretch *s)
{
    struct record r;
    struct bytes raw;
    enum err e = wal_cursor_next(cursor, &r, &raw);
    if (!e && s->until_ms && r.time_ms > s->until_ms)
        return ERR_END;
    if (!e)
        e = changes_add_under(c, &r, s->under, s->also);
    if (e)
        return e == ERR_END ? ERR_NOTFOUND : e; /* the log ends in front of `to` */
    s->last = r;
    s->last.key = s->last.blob = bytes_of(NULL, 0);
    return ERR_OK;
}

enum err changes_add_log(struct changes *c, struct wal *w, struct changes_stretch *s)
{
    struct wal_cursor *cursor;
    memset(&s->last, 0, sizeof s->last);
    if (s->from > s->to)
        return ERR_OK;
    enum err e = wal_cursor_open(&cursor, w, s->from);
    for (uint64_t lsn = s->from; !e && lsn <= s->to && (!s->memory_bytes || c->memory_bytes < s->memory_bytes); lsn++) {
        e = add_next(c, cursor, s);
        if (!e && lsn % STOP_EVERY == 0 && s->stop && s->stop(s->arg))
            e = ERR_AGAIN;
    }
    wal_cursor_close(cursor);
    return e == ERR_END ? ERR_OK : e;
}

enum err changes_merge(struct changes *c, const struct changes *from)
{
    unsort(c);
    for (size_t i = 0; i < from->slot_count; i++) {
        const struct change *ch = from->slots[i];
        if (!ch)
            continue;
        struct operation o = {.store = store_of(ch->key),
                              .key = bytes_of(ch->key + STORE_BYTES, ch->key_n - (size_t)STORE_BYTES),
                              .lsn = ch->lsn,
                              .value_off = ch->value_off,
                              .value_n = ch->value_n,
                              .tombstone = ch->tombstone};
        enum err e = add_one(c, &o);
        if (e)
            return e;
    }
    note_range(c, from->first_lsn, from->last_lsn);
    return ERR_OK;
}

/* ---- order ---- */

static int by_key(const void *a, const void *b)
{
    return bytes_compare(change_key(*(struct change *const *)a), change_key(*(struct change *const *)b));
}

enum err changes_sort(struct changes *c)
{
    size_t n = 0;
    if (c->sorted)
        return ERR_OK;
    c->sorted = mem_alloc((c->count + 1) * sizeof *c->sorted);
    if (!c->sorted)
        return ERR_OOM;
    for (size_t i = 0; i < c->slot_count; i++)
        if (c->slots[i])
            c->sorted[n++] = c->slots[i];
    assert(n == c->count);
    if (n)
        qsort(c->sorted, n, sizeof *c->sorted, by_key);
    return ERR_OK;
}

const struct change *changes_at(const struct changes *c, size_t i)
{
    assert(c->sorted && i < c->count);
    return c->sorted[i];
}

size_t changes_from(const struct changes *c, struct bytes key)
{
    size_t low = 0, high = c->count;
    assert(c->sorted);
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (bytes_compare(change_key(c->sorted[mid]), key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

const struct change *changes_find(const struct changes *c, struct bytes key)
{
    if (!c->slot_count || key.n <= STORE_BYTES)
        return NULL;
    uint16_t store = store_of(key.p);
    struct bytes rest = bytes_of(key.p + STORE_BYTES, key.n - STORE_BYTES);
    return *slot_of(c, hash_of(c, store, rest), store, rest);
}

/* ---- values ---- */

enum err changes_value(const struct change *ch, struct wal_reader *rd, struct bytes *value)
{
    struct record r;
    size_t key_n = ch->key_n - (size_t)STORE_BYTES;
    *value = bytes_of(NULL, 0);
    enum err e = wal_reader_read(rd, ch->lsn, &r);
    if (e)
        return e;
    if (ch->value_off < key_n || ch->value_off > r.blob.n || ch->value_n > r.blob.n - ch->value_off ||
        memcmp(r.blob.p + ch->value_off - key_n, ch->key + STORE_BYTES, key_n) != 0)
        return ERR_CORRUPT;
    *value = bytes_of(r.blob.p + ch->value_off, ch->value_n);
    return ERR_OK;
}

void changes_info(const struct changes *c, struct changes_info *out)
{
    *out = (struct changes_info){.keys = c->count,
                                 .memory_bytes = c->memory_bytes + (c->sorted ? c->count * sizeof *c->sorted : 0),
                                 .first_lsn = c->first_lsn,
                                 .last_lsn = c->last_lsn};
}
