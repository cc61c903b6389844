/* read.c - reads: one look in the hot table, else one in the store, whose answer then fills the table. Any thread.
 *
 * A listing is the one read that needs LevelDB to be current, because the hot table has no order. It waits for the applier only when the set of
 * names changed since the last round (vault->names_lsn): overwriting secrets does not delay it.
 */
#include "base/clock.h"
#include "engine/engine_impl.h"

enum err engine_get(struct engine *e, uint16_t store, struct bytes key, struct blob **out)
{
    uint64_t fill;
    enum err err = ERR_OK;

    if (hot_get(e->hot, store, key, out, &fill)) {
        if ((*out)->tombstone) {
            blob_unref(*out);
            *out = NULL;
        }
        return ERR_OK;
    }
    struct store *s = engine_store_ok(e, store);
    *out = NULL;
    err = s ? store_get(s, key, out) : ERR_CORRUPT;
    if (err == ERR_NOTFOUND)
        return ERR_OK;
    if (err == ERR_OK)
        hot_fill(e->hot, store, key, *out, fill);
    return err;
}

static enum err read_head(struct engine *e, struct vault *vault, struct bytes path, struct secret_view *v)
{
    uint8_t key[SECRET_KEY_MAX];
    v->version = 0;
    v->value.raw = bytes_of(NULL, 0);
    v->hold[0] = v->hold[1] = NULL;
    if (path.n == 0 || path.n > SECRET_PATH_MAX)
        return ERR_BADPATH;
    enum err err = engine_get(e, vault->store, secret_key_head(key, vault->id, path), &v->hold[0]);
    if (err)
        return err;
    return v->hold[0] ? secret_head_get(blob_bytes(v->hold[0]), &v->head) : ERR_NOTFOUND;
}

enum err secret_read_head(struct engine *e, struct vault *vault, struct bytes path, struct secret_view *v)
{
    enum err err = read_head(e, vault, path, v);
    if (err)
        secret_view_release(v);
    return err;
}

/* The value of a version that is not in the head. When the slot is empty, or holds what was written after the head was read, a new head has taken
 * its place between the two reads: the caller reads again. */
static enum err read_apart(struct engine *e, struct vault *vault, struct bytes path, uint16_t slot, struct secret_view *v)
{
    uint8_t key[SECRET_KEY_MAX];
    enum err err = engine_get(e, vault->store, secret_key_slot(key, vault->id, path, slot), &v->hold[1]);
    if (err)
        return err;
    if (!v->hold[1] || v->hold[1]->lsn > v->hold[0]->lsn)
        return ERR_AGAIN;
    v->value.raw = blob_bytes(v->hold[1]);
    return ERR_OK;
}

static enum err read_once(struct engine *e, struct vault *vault, struct bytes path, uint32_t version, struct bytes label, struct secret_view *v)
{
    struct secret_version sv;
    enum err err = read_head(e, vault, path, v);
    if (err)
        return err;
    if (!secret_visible(&v->head, clock_wall_ms()))
        return ERR_NOTFOUND;
    v->version = version ? version : label.n ? secret_label_version(&v->head, label) : v->head.current;
    if (v->version == v->head.current && (v->head.flags & SECRET_CURRENT_INLINE)) {
        v->value = v->head.value;
        return ERR_OK;
    }
    if (!v->version || !secret_version_find(&v->head, v->version, &sv) || (sv.flags & SECRET_VERSION_DELETED))
        return ERR_NOTFOUND;
    return read_apart(e, vault, path, sv.slot, v);
}

/* Each new try means that somebody wrote the secret meanwhile. */
#define READ_TRIES 1000

enum err secret_read(struct engine *e, struct vault *vault, struct bytes path, uint32_t version, struct bytes label, struct secret_view *v)
{
    enum err err = ERR_AGAIN;
    for (int tries = 0; err == ERR_AGAIN && tries < READ_TRIES; tries++) {
        err = read_once(e, vault, path, version, label, v);
        if (err)
            secret_view_release(v);
    }
    return err == ERR_AGAIN ? ERR_CORRUPT : err;
}

void secret_view_release(struct secret_view *v)
{
    blob_unref(v->hold[0]);
    blob_unref(v->hold[1]);
    v->hold[0] = v->hold[1] = NULL;
}

enum err key_read(struct engine *e, struct vault *vault, struct bytes name, struct key_view *v)
{
    uint8_t key[KEY_KEY_MAX];
    v->hold = NULL;
    if (!vault_name_ok(name))
        return ERR_NOTFOUND;
    enum err err = engine_get(e, vault->store, key_key(key, vault->id, name), &v->hold);
    if (err == ERR_OK)
        err = v->hold ? key_record_get(blob_bytes(v->hold), &v->rec) : ERR_NOTFOUND;
    if (err)
        key_view_release(v);
    return err;
}

void key_view_release(struct key_view *v)
{
    blob_unref(v->hold);
    v->hold = NULL;
}

enum err engine_dek(struct engine *e, struct vault *vault, uint32_t version, struct blob **wrapped)
{
    uint8_t key[VAULT_DEK_KEY_BYTES];
    enum err err = engine_get(e, 0, vault_dek_key(key, vault->id, version), wrapped);
    return err == ERR_OK && !*wrapped ? ERR_NOTFOUND : err;
}

/* ---- listings ---- */

enum err engine_list_ready(struct engine *e, struct vault *vault, uint64_t *lsn)
{
    *lsn = atomic_load(&vault->names_lsn);
    if (apply_lsn(e->apply) >= *lsn)
        return ERR_OK;
    apply_demand(e->apply, *lsn);
    return ERR_AGAIN;
}

struct listing {
    const struct list_query *q;
    struct store_iter *it;
    size_t skip;      /* of a store key before the path */
    uint64_t now_ms;
    struct buf *last; /* where to go on: the last path or folder that was dealt with */
    unsigned found, scanned;
};

/* Where to go on after `after`: behind the path, or behind everything in a folder ('0' follows '/'). */
static struct bytes seek_after(uint8_t *key, uint64_t vault, struct bytes after)
{
    struct bytes k = secret_key_head(key, vault, after);
    if (after.n && after.p[after.n - 1] == '/')
        key[k.n - 1]++;
    else
        key[k.n++] = 0;
    return k;
}

static enum err list_folder(struct listing *l, struct bytes path, size_t folder_n, uint8_t *key, uint64_t vault)
{
    struct bytes folder = bytes_of(path.p, folder_n);
    buf_clear(l->last);
    enum err err = buf_put(l->last, folder.p, folder.n);
    if (err == ERR_OK) {
        l->found += l->q->visit(l->q->arg, folder, NULL) != 0;
        store_iter_seek(l->it, seek_after(key, vault, buf_bytes(l->last)));
    }
    return err;
}

static enum err list_one(struct listing *l, struct bytes path)
{
    struct bytes payload;
    struct secret_head head;
    uint64_t lsn;
    enum err err = store_iter_value(l->it, &payload, &lsn);
    if (err == ERR_OK)
        err = secret_head_get(payload, &head);
    if (err)
        return err;
    buf_clear(l->last);
    if ((err = buf_put(l->last, path.p, path.n)) != ERR_OK)
        return err;
    if (secret_visible(&head, l->now_ms))
        l->found += l->q->visit(l->q->arg, path, &head) != 0;
    store_iter_next(l->it);
    return ERR_OK;
}

static size_t folder_length(const struct list_query *q, struct bytes path)
{
    if (!q->one_level || path.n <= q->prefix.n)
        return 0;
    const uint8_t *slash = memchr(path.p + q->prefix.n, '/', path.n - q->prefix.n);
    return slash ? (size_t)(slash - path.p) + 1 : 0;
}

static enum err list_run(struct listing *l, uint64_t vault, int *more)
{
    uint8_t key[SECRET_KEY_MAX + 1];
    const struct list_query *q = l->q;
    struct bytes from = q->after.n ? seek_after(key, vault, q->after) : secret_key_head(key, vault, q->prefix);
    uint8_t limit_key[SECRET_KEY_MAX];
    struct bytes under = secret_key_head(limit_key, vault, q->prefix);
    enum err err = ERR_OK;

    for (store_iter_seek(l->it, from); err == ERR_OK && store_iter_valid(l->it); l->scanned++) {
        struct bytes k = store_iter_key(l->it);
        if (k.n < under.n || memcmp(k.p, under.p, under.n) != 0)
            return store_iter_status(l->it);
        if (l->found >= q->max || l->scanned >= q->scan_max) {
            *more = 1;
            return ERR_OK;
        }
        struct bytes path = bytes_of(k.p + l->skip, k.n - l->skip);
        size_t folder = folder_length(q, path);
        err = folder ? list_folder(l, path, folder, key, vault) : list_one(l, path);
    }
    return err ? err : store_iter_status(l->it);
}

enum err secret_list(struct engine *e, struct vault *vault, const struct list_query *q, struct buf *last, int *more)
{
    struct listing l = {.q = q, .skip = 9, .now_ms = clock_wall_ms(), .last = last};
    struct store *s = engine_store_ok(e, vault->store);
    *more = 0;
    if (!s)
        return ERR_CORRUPT;
    if (q->prefix.n > SECRET_PATH_MAX || q->after.n > SECRET_PATH_MAX)
        return ERR_BADPATH;
    enum err err = store_iter_new(s, &l.it);
    if (err)
        return err;
    err = list_run(&l, vault->id, more);
    store_iter_free(l.it);
    return err;
}

enum err key_list(struct engine *e, struct vault *vault, struct bytes after, unsigned max, void (*visit)(void *arg, struct bytes name), void *arg,
                  struct buf *last, int *more)
{
    uint8_t key[KEY_KEY_MAX + 1];
    struct store *s = engine_store_ok(e, vault->store);
    struct store_iter *it;
    unsigned n = 0;

    *more = 0;
    if (!s)
        return ERR_CORRUPT;
    if (after.n > KEY_NAME_MAX)
        return ERR_BADNAME;
    enum err err = store_iter_new(s, &it);
    if (err)
        return err;
    struct bytes from = key_key(key, vault->id, after);
    if (after.n)
        key[from.n++] = 0;
    for (store_iter_seek(it, from); store_iter_valid(it); store_iter_next(it)) {
        struct bytes k = store_iter_key(it);
        if (k.n <= 9 || k.p[0] != 'k' || get_be64(k.p + 1) != vault->id)
            break;
        if (n++ >= max) {
            *more = 1;
            break;
        }
        visit(arg, bytes_of(k.p + 9, k.n - 9));
        buf_clear(last);
        if ((err = buf_put(last, k.p + 9, k.n - 9)) != ERR_OK)
            break;
    }
    if (err == ERR_OK)
        err = store_iter_status(it);
    store_iter_free(it);
    return err;
}
