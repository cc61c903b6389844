/* snapold.c - see snapold.h. */
#include "engine/snapold.h"

#include <stdlib.h>

#include "base/mem.h"
#include "engine/secret.h"

#define STORE_BYTES 2
#define MIDDLE_AT 3 /* behind store and kind */
#define VAULT_BYTES 8
#define TAIL_BYTES 12 /* LSN and version */
#define HEAD_MIN_BYTES (MIDDLE_AT + VAULT_BYTES + 1)
#define LSN_MAX (UINT64_MAX >> 16) /* a million records a second for nine years; see goes_together */

/* Shards only: the base store has other keys. */
static int is_of_kind(struct bytes key, char kind, size_t min)
{
    return key.n >= min && (key.p[0] || key.p[1]) && key.p[STORE_BYTES] == kind;
}

int snapold_is_head(struct bytes key)
{
    return is_of_kind(key, SECRET_KEY_HEAD, HEAD_MIN_BYTES);
}

int snapold_parse(struct bytes key, struct snapold *o)
{
    *o = (struct snapold){0};
    if (!is_of_kind(key, SECRET_KEY_OLD, HEAD_MIN_BYTES + TAIL_BYTES))
        return 0;
    const uint8_t *tail = key.p + key.n - TAIL_BYTES;
    *o = (struct snapold){.store = (uint16_t)(key.p[0] << 8 | key.p[1]),
                          .lsn = get_be64(tail),
                          .version = get_be32(tail + 8),
                          .middle = bytes_of(key.p + MIDDLE_AT, key.n - MIDDLE_AT - TAIL_BYTES)};
    return 1;
}

static enum err put_key(struct buf *out, uint16_t store, uint8_t kind, struct bytes middle)
{
    uint8_t front[MIDDLE_AT] = {(uint8_t)(store >> 8), (uint8_t)store, kind};
    enum err e = buf_put(out, front, sizeof front);
    return e ? e : buf_put(out, middle.p, middle.n);
}

static enum err put_old_key(struct buf *out, const struct snapold *o)
{
    uint8_t tail[TAIL_BYTES];
    put_be64(tail, o->lsn);
    put_be32(tail + 8, o->version);
    enum err e = put_key(out, o->store, SECRET_KEY_OLD, o->middle);
    return e ? e : buf_put(out, tail, sizeof tail);
}

enum err snapold_head_key(const struct snapold *o, struct buf *out)
{
    return put_key(out, o->store, SECRET_KEY_HEAD, o->middle);
}

/* ---- where they are ---- */

static struct bytes without_store(const struct buf *key)
{
    return bytes_of(buf_data(key) + STORE_BYTES, buf_size(key) - STORE_BYTES);
}

enum err snapold_in_head(struct bytes raw, const struct snapold *o, struct bytes *value)
{
    struct secret_version v;
    struct secret_head h;
    *value = bytes_of(NULL, 0);
    enum err e = secret_head_get(raw, &h);
    if (e)
        return e;
    if (!(h.flags & SECRET_CURRENT_INLINE) || h.current != o->version || !secret_version_find(&h, o->version, &v) ||
        v.lsn != o->lsn)
        return ERR_NOTFOUND;
    *value = h.value.raw;
    return ERR_OK;
}

static enum err from_head(struct snapread *r, const struct snapold *o, struct bytes key, struct blob **out)
{
    struct bytes value;
    struct blob *head;
    enum err e = snapread_get(r, o->store, key, &head);
    if (!e)
        e = snapold_in_head(blob_bytes(head), o, &value);
    if (!e && !(*out = blob_new(value, value.n, o->lsn)))
        e = ERR_OOM;
    blob_unref(head);
    return e;
}

enum err snapold_in_snapshot(struct snapread *r, const struct snapold *o, struct blob **out)
{
    struct buf key;
    *out = NULL;
    buf_init(&key, SIZE_MAX / 2);
    enum err e = put_old_key(&key, o), in_a_head;
    if (!e)
        e = snapread_get(r, o->store, without_store(&key), out);
    if (e == ERR_NOTFOUND || e == ERR_CORRUPT) { /* of the two blocks one may be damaged, and the other have it */
        buf_clear(&key);
        in_a_head = snapold_head_key(o, &key);
        if (!in_a_head)
            in_a_head = from_head(r, o, without_store(&key), out);
        e = in_a_head == ERR_NOTFOUND ? e : in_a_head;
    }
    buf_fini(&key);
    return e;
}

enum err snapold_in_log(struct wal_reader *rd, const struct snapold *o, struct bytes *value)
{
    struct sealed sealed = {.raw = bytes_of(NULL, 0)};
    struct record rec;
    struct buf key;
    buf_init(&key, SIZE_MAX / 2);
    enum err e = snapold_head_key(o, &key);
    if (!e)
        e = wal_reader_read(rd, o->lsn, &rec);
    if (!e)
        e = secret_value_in_ops(rec.blob, without_store(&key), o->version, &sealed);
    buf_fini(&key);
    *value = sealed.raw;
    return e;
}

/* ---- which ones are wanted ---- */

void snapold_list_init(struct snapold_list *l, struct snapsource *heads, struct wal_reader *rd, uint64_t log_from)
{
    *l = (struct snapold_list){.heads = heads, .rd = rd, .log_from = log_from};
    buf_init(&l->root, SIZE_MAX / 2);
    buf_init(&l->keys, SIZE_MAX / 2);
    buf_init(&l->values, SIZE_MAX / 2);
}

void snapold_list_fini(struct snapold_list *l)
{
    buf_fini(&l->root);
    buf_fini(&l->keys);
    buf_fini(&l->values);
    mem_free(l->refs);
    l->refs = NULL;
}

/* From a key that is no head to where the next heads may be. ERR_END: nowhere. */
static enum err seek_heads(struct snapold_list *l, struct bytes from)
{
    unsigned store = (unsigned)from.p[0] << 8 | from.p[1];
    if (store == 0 || from.p[STORE_BYTES] > SECRET_KEY_HEAD)
        store++;
    if (store > UINT16_MAX)
        return ERR_END;
    uint8_t key[MIDDLE_AT] = {(uint8_t)(store >> 8), (uint8_t)store, SECRET_KEY_HEAD};
    return l->heads->seek(l->heads, bytes_of(key, sizeof key));
}

/* To the next head that is there. */
static enum err move_ahead(struct snapold_list *l)
{
    enum err e = ERR_OK;
    l->has_ahead = 0;
    while (!e && (e = l->heads->next(l->heads, &l->ahead)) == ERR_OK) {
        if (snapold_is_head(l->ahead.key)) {
            if (l->ahead.tombstone)
                continue;
            l->has_ahead = 1;
            return ERR_OK;
        }
        if (l->ahead.key.p[STORE_BYTES] != SECRET_KEY_HEAD || !(l->ahead.key.p[0] || l->ahead.key.p[1]))
            e = seek_heads(l, l->ahead.key);
    }
    l->ended = e == ERR_END;
    return l->ended ? ERR_OK : e;
}

static enum err add_ref(struct snapold_list *l, const struct snapold *o, size_t sealed_bytes)
{
    size_t off = buf_size(&l->keys);
    if (l->count == l->room) {
        size_t room = l->room ? 2 * l->room : 64;
        struct snapold_ref *refs = mem_realloc(l->refs, room * sizeof *refs);
        if (!refs)
            return ERR_OOM;
        l->refs = refs;
        l->room = room;
    }
    enum err e = put_old_key(&l->keys, o);
    if (e)
        return e;
    l->refs[l->count++] = (struct snapold_ref){.lsn = o->lsn,
                                               .key_off = off,
                                               .key_n = buf_size(&l->keys) - off,
                                               .value_off = SIZE_MAX,
                                               .sealed_bytes = sealed_bytes};
    return ERR_OK;
}

/* What the head ahead wants. */
static enum err take_head(struct snapold_list *l)
{
    struct secret_version versions[SECRET_VERSIONS_MAX], *v;
    struct bytes raw, key = l->ahead.key;
    struct secret_head h;
    enum err e = l->heads->value(l->heads, &raw);
    if (!e)
        e = secret_head_get(raw, &h);
    if (!e)
        e = secret_versions_get(&h, versions);
    for (v = versions; !e && v < versions + h.versions; v++) {
        if (v->lsn > LSN_MAX)
            return ERR_CORRUPT;
        if (v->slot != SECRET_NO_SLOT || (v->version == h.current && (h.flags & SECRET_CURRENT_INLINE)))
            continue;
        struct snapold o = {.store = (uint16_t)(key.p[0] << 8 | key.p[1]),
                            .lsn = v->lsn,
                            .version = v->version,
                            .middle = bytes_of(key.p + MIDDLE_AT, key.n - MIDDLE_AT)};
        e = add_ref(l, &o, v->sealed_bytes);
    }
    return e;
}

/* The order of root's old keys and of key's depends on LSNs, which begin with two zero bytes (they are at most
 * LSN_MAX). */
static int goes_together(struct bytes root, struct bytes key)
{
    if (key.n <= root.n || memcmp(key.p, root.p, root.n) != 0 || key.p[root.n] != 0)
        return 0;
    return key.n == root.n + 1 || key.p[root.n + 1] == 0;
}

static struct bytes key_of(const struct snapold_list *l, const struct snapold_ref *ref)
{
    return bytes_of(buf_data(&l->keys) + ref->key_off, ref->key_n);
}

static int by_key(const void *a, const void *b, void *list)
{
    return bytes_compare(key_of(list, a), key_of(list, b));
}

/* The next head and those that go together with it. ERR_END: there is none. */
static enum err gather_path(struct snapold_list *l)
{
    size_t first = l->count;
    enum err e = ERR_OK;
    if (!l->has_ahead && !l->ended)
        e = move_ahead(l);
    if (e || !l->has_ahead)
        return e ? e : ERR_END;
    buf_clear(&l->root);
    e = buf_put(&l->root, l->ahead.key.p, l->ahead.key.n);
    if (e)
        return e;
    do {
        e = take_head(l);
        if (!e)
            e = move_ahead(l);
    } while (!e && l->has_ahead && goes_together(buf_bytes(&l->root), l->ahead.key));
    if (!e && l->count > first + 1)
        qsort_r(l->refs + first, l->count - first, sizeof *l->refs, by_key, l);
    return e;
}

/* ---- their values, a batch at a time ---- */

static int by_lsn(const void *a, const void *b)
{
    const struct snapold_ref *x = *(struct snapold_ref *const *)a, *y = *(struct snapold_ref *const *)b;
    return (x->lsn > y->lsn) - (x->lsn < y->lsn);
}

static enum err read_value(struct snapold_list *l, struct snapold_ref *ref)
{
    struct snapold o;
    struct bytes value;
    size_t off = buf_size(&l->values);
    (void)!snapold_parse(key_of(l, ref), &o);
    enum err e = snapold_in_log(l->rd, &o, &value);
    if (!e)
        e = buf_put(&l->values, value.p, value.n);
    if (!e) {
        ref->value_off = off;
        ref->value_n = value.n;
    }
    return e;
}

/* A value that cannot be read is left out: who wants it will ask for it, and be told why. */
static enum err read_values(struct snapold_list *l)
{
    size_t n = 0;
    struct snapold_ref **order = mem_alloc((l->count + 1) * sizeof *order);
    if (!order)
        return ERR_OOM;
    for (size_t i = 0; i < l->count; i++)
        if (l->refs[i].lsn > l->log_from)
            order[n++] = &l->refs[i];
    qsort(order, n, sizeof *order, by_lsn);
    for (size_t i = 0; i < n; i++)
        (void)!read_value(l, order[i]);
    mem_free(order);
    return ERR_OK;
}

static enum err gather(struct snapold_list *l)
{
    size_t bytes = 0, seen = 0;
    enum err e = ERR_OK;
    l->count = l->next = 0;
    buf_clear(&l->keys);
    buf_clear(&l->values);
    do {
        e = gather_path(l);
        for (; seen < l->count; seen++)
            bytes += sizeof *l->refs + l->refs[seen].key_n + l->refs[seen].sealed_bytes;
    } while (!e && bytes < l->heads->ahead_bytes);
    if (e && (e != ERR_END || !l->count))
        return e;
    return read_values(l);
}

enum err snapold_list_next(struct snapold_list *l, struct snapold_wanted *w)
{
    *w = (struct snapold_wanted){.key = bytes_of(NULL, 0)};
    while (l->next == l->count) {
        enum err e = gather(l);
        if (e)
            return e;
    }
    const struct snapold_ref *ref = &l->refs[l->next++];
    w->key = key_of(l, ref);
    w->has_value = ref->value_off != SIZE_MAX;
    if (w->has_value)
        w->value = bytes_of(buf_data(&l->values) + ref->value_off, ref->value_n);
    return ERR_OK;
}
