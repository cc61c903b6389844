/* snapsource.c - see snapsource.h.
 *
 * Changes: keys come in their order, values lie in the log in that of LSNs. Read one by one each would cost the 64 KiB
 * around it. So values are read ahead for a window of keys, in the order of their LSNs: a window is one pass over the
 * log, and what it has read is handed out in the order of the keys. Windows grow with the stretch: it is read as often,
 * however long it is.
 */
#include "engine/snapsource.h"

#include <stdlib.h>

#include "base/mem.h"

#define STORE_BYTES 2
#define WINDOW_BYTES ((size_t)2 << 20) /* of values, at least */
#define WINDOWS 6                      /* in the memory that the changes take */
#define VALUE_BYTES 32                 /* as if a value had no less */

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

void snapsource_close(struct snapsource *s)
{
    if (s)
        s->close(s);
}

/* ---- changes ---- */

struct ahead {
    uint64_t lsn;
    uint32_t entry; /* counted from the window's first */
};

struct of_changes {
    struct snapsource base;
    const struct changes *c;
    uint8_t kind;       /* values are read ahead for keys of this kind, 0: of all */
    size_t count, next; /* next: number of the entry that next gives */
    struct wal_reader *rd;

    size_t first, n; /* the window: entries first to first + n - 1 */
    uint8_t *values; /* theirs */
    size_t *at;      /* n: where each one's is in values; SIZE_MAX: it was not read */
};

static enum err changes_seek(struct snapsource *s, struct bytes key)
{
    struct of_changes *o = (struct of_changes *)s;
    o->next = changes_from(o->c, key);
    return ERR_OK;
}

static enum err changes_next(struct snapsource *s, struct snapsource_item *item)
{
    struct of_changes *o = (struct of_changes *)s;
    *item = (struct snapsource_item){0};
    if (o->next == o->count)
        return ERR_END;
    const struct change *ch = changes_at(o->c, o->next++);
    *item = (struct snapsource_item){.key = change_key(ch), .lsn = ch->lsn, .tombstone = ch->tombstone};
    return ERR_OK;
}

static int is_read_ahead(const struct of_changes *o, const struct change *ch)
{
    return !ch->tombstone && (!o->kind || ch->key[STORE_BYTES] == o->kind);
}

static void drop_window(struct of_changes *o)
{
    mem_free(o->values);
    mem_free(o->at);
    o->values = NULL;
    o->at = NULL;
    o->n = 0;
}

/* Lays the window out from entry first on: where each value will be, and what is to be read. */
static enum err lay_out(struct of_changes *o, size_t first, struct ahead **order, size_t *count)
{
    size_t bytes = 0, n = 0;
    *count = 0;
    *order = NULL;
    drop_window(o);
    while (first + n < o->count && n < o->base.ahead_bytes / VALUE_BYTES && bytes < o->base.ahead_bytes) {
        const struct change *ch = changes_at(o->c, first + n++);
        bytes += is_read_ahead(o, ch) ? ch->value_n : 0;
    }
    o->values = mem_alloc(bytes + 1);
    o->at = mem_alloc(n * sizeof *o->at);
    *order = mem_alloc(n * sizeof **order);
    if (!o->values || !o->at || !*order)
        return ERR_OOM;
    bytes = 0;
    for (size_t i = 0; i < n; i++) {
        const struct change *ch = changes_at(o->c, first + i);
        o->at[i] = SIZE_MAX;
        if (!is_read_ahead(o, ch))
            continue;
        o->at[i] = bytes;
        bytes += ch->value_n;
        (*order)[(*count)++] = (struct ahead){ch->lsn, (uint32_t)i};
    }
    o->first = first;
    o->n = n;
    return ERR_OK;
}

static int by_lsn(const void *a, const void *b)
{
    const struct ahead *x = a, *y = b;
    return (x->lsn > y->lsn) - (x->lsn < y->lsn);
}

static enum err read_ahead(struct of_changes *o, size_t first)
{
    struct ahead *order;
    struct bytes value;
    size_t count;
    enum err e = lay_out(o, first, &order, &count);
    if (!e && count)
        qsort(order, count, sizeof *order, by_lsn);
    for (size_t i = 0; i < count && !e; i++) {
        e = changes_value(changes_at(o->c, first + order[i].entry), o->rd, &value);
        if (!e && value.n)
            memcpy(o->values + o->at[order[i].entry], value.p, value.n);
    }
    mem_free(order);
    if (e)
        drop_window(o);
    return e;
}

static enum err changes_value_of(struct snapsource *s, struct bytes *value)
{
    struct of_changes *o = (struct of_changes *)s;
    size_t i = o->next - 1;
    const struct change *ch = changes_at(o->c, i);
    enum err e = ERR_OK;
    if (is_read_ahead(o, ch) && (i < o->first || i - o->first >= o->n))
        e = read_ahead(o, i);
    if (!e && is_read_ahead(o, ch))
        *value = bytes_of(o->values + o->at[i - o->first], ch->value_n);
    else if (!e)
        e = changes_value(ch, o->rd, value);
    return e == ERR_NOTFOUND ? ERR_CORRUPT : e; /* the log does not reach back to it: its owner's mistake, or damage */
}

static int changes_covers(struct snapsource *s, struct bytes key)
{
    return changes_find(((struct of_changes *)s)->c, key) != NULL;
}

static void changes_close(struct snapsource *s)
{
    struct of_changes *o = (struct of_changes *)s;
    drop_window(o);
    wal_reader_close(o->rd);
    mem_free(o);
}

enum err snapsource_of_changes(struct snapsource **out, const struct changes *c, uint8_t kind, struct wal *w)
{
    struct changes_info info;
    *out = NULL;
    struct of_changes *o = mem_zalloc(sizeof *o);
    if (!o)
        return ERR_OOM;
    changes_info(c, &info);
    o->base = (struct snapsource){changes_seek,   changes_next,  changes_value_of,
                                  changes_covers, changes_close, larger(WINDOW_BYTES, info.memory_bytes / WINDOWS)};
    o->c = c;
    o->kind = kind;
    o->count = info.keys;
    enum err e = wal_reader_open(&o->rd, w);
    if (e)
        changes_close(&o->base);
    else
        *out = &o->base;
    return e;
}

/* ---- stores ---- */

struct of_stores {
    struct snapsource base;
    struct store_iter **its;
    unsigned count, store;
    int fresh; /* the iterator of store stands on what was not given yet */
    struct buf key;
    struct bytes value;
};

/* The iterator stands on the first key at or behind the one sought in its store; later stores begin at their first. */
static enum err stores_seek(struct snapsource *s, struct bytes key)
{
    struct of_stores *o = (struct of_stores *)s;
    uint8_t padded[STORE_BYTES] = {0};
    if (key.n)
        memcpy(padded, key.p, key.n < STORE_BYTES ? key.n : STORE_BYTES);
    o->store = (unsigned)padded[0] << 8 | padded[1];
    o->fresh = 1;
    if (o->store < o->count)
        store_iter_seek(o->its[o->store],
                        key.n > STORE_BYTES ? bytes_of(key.p + STORE_BYTES, key.n - STORE_BYTES) : bytes_of(NULL, 0));
    return ERR_OK;
}

/* Moves on to the next item: 1, or 0 at the end of the last store or at damage. */
static int stores_move(struct of_stores *o)
{
    while (o->store < o->count) {
        struct store_iter *it = o->its[o->store];
        if (!o->fresh && store_iter_valid(it))
            store_iter_next(it);
        o->fresh = 1;
        if (store_iter_valid(it) || store_iter_status(it) != ERR_OK)
            return store_iter_valid(it);
        if (++o->store < o->count)
            store_iter_seek(o->its[o->store], bytes_of(NULL, 0));
    }
    return 0;
}

static enum err stores_next(struct snapsource *s, struct snapsource_item *item)
{
    struct of_stores *o = (struct of_stores *)s;
    *item = (struct snapsource_item){0};
    if (!stores_move(o))
        return o->store >= o->count ? ERR_END : store_iter_status(o->its[o->store]);
    struct store_iter *it = o->its[o->store];
    uint8_t prefix[STORE_BYTES] = {(uint8_t)(o->store >> 8), (uint8_t)o->store};
    struct bytes key = store_iter_key(it);
    enum err e = store_iter_value(it, &o->value, &item->lsn);
    buf_clear(&o->key);
    if (!e)
        e = buf_put(&o->key, prefix, sizeof prefix);
    if (!e)
        e = buf_put(&o->key, key.p, key.n);
    if (e)
        return e;
    o->fresh = 0;
    item->key = buf_bytes(&o->key);
    return ERR_OK;
}

static enum err stores_value(struct snapsource *s, struct bytes *value)
{
    *value = ((struct of_stores *)s)->value;
    return ERR_OK;
}

static int stores_covers(struct snapsource *s, struct bytes key)
{
    (void)s;
    (void)key;
    return 1;
}

static void stores_close(struct snapsource *s)
{
    struct of_stores *o = (struct of_stores *)s;
    for (unsigned i = 0; o->its && i < o->count; i++)
        store_iter_free(o->its[i]);
    mem_free(o->its);
    buf_fini(&o->key);
    mem_free(o);
}

enum err snapsource_of_stores(struct snapsource **out, struct store *const *stores, unsigned count)
{
    enum err e = ERR_OK;
    *out = NULL;
    struct of_stores *o = mem_zalloc(sizeof *o);
    if (!o)
        return ERR_OOM;
    o->base = (struct snapsource){stores_seek, stores_next, stores_value, stores_covers, stores_close, WINDOW_BYTES};
    o->count = count;
    buf_init(&o->key, SIZE_MAX / 2);
    o->its = mem_zalloc((count + 1) * sizeof *o->its);
    if (!o->its)
        e = ERR_OOM;
    for (unsigned i = 0; i < count && !e; i++)
        e = stores[i] ? store_iter_new(stores[i], &o->its[i]) : ERR_CORRUPT;
    if (!e)
        e = stores_seek(&o->base, bytes_of(NULL, 0));
    if (e)
        stores_close(&o->base);
    else
        *out = &o->base;
    return e;
}
