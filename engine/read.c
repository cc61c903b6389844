/* read.c - reads: one look in the hot table, else one in the store, whose answer then fills the table. Any thread. A
 * small value that is not CURRENT any more is in the log only: it is read there and kept in the table too, under a key
 * that names its record, so that it never goes stale.
 *
 * A value apart from its head takes two looks, and the log writer publishes a record key by key: between the two it may
 * have put a newer value into the slot, or taken it away. So the two must belong together (LSNs), else it is read
 * again, letting the log writer come to its end.
 *
 * A listing is the one read that needs LevelDB to be current, because the hot table has no order. It waits for the
 * applier only when the set of names changed since the last round (vault->names_lsn): overwriting secrets does not
 * delay it. What LevelDB says of a name (its expiry, its version) may be older than what readers were told: while
 * something is not applied yet each head is looked for in the hot table first.
 */
#include <sched.h>

#include "base/clock.h"
#include "engine/engine_impl.h"
#include "engine/overlay.h"

/* From the store; when that is out, or has damage there, from what stands for it. The one may take the place of the
 * other between the two looks. */
static enum err load(struct engine *e, uint16_t store, struct bytes key, struct blob **out)
{
    struct overlay *o;
    struct store *s;
    enum err err;

    *out = NULL;
    do {
        s = engine_store_take(e, store);
        err = s ? engine_store_saw(e, store, store_get(s, key, out)) : ERR_CORRUPT;
        store_unref(s);
        if (err != ERR_CORRUPT && err != ERR_IO)
            return err;
        if ((o = engine_overlay_take(e)) != NULL) {
            err = overlay_get(o, store, key, out);
            overlay_unref(o);
            return err;
        }
    } while (!s && engine_store_ok(e, store));
    return err;
}

enum err engine_load(struct engine *e, uint16_t store, struct bytes key, uint64_t fill, struct blob **out)
{
    enum err err = load(e, store, key, out);
    if (err == ERR_OK) {
        hot_fill(e->hot, store, key, *out, fill);
    } else if (err == ERR_NOTFOUND) {
        struct blob *absent = blob_tombstone(0);
        if (absent)
            hot_fill(e->hot, store, key, absent, fill);
        blob_unref(absent);
        err = ERR_OK;
    }
    return err;
}

enum err engine_get(struct engine *e, uint16_t store, struct bytes key, struct blob **out)
{
    uint64_t fill;
    if (!hot_get(e->hot, store, key, out, &fill))
        return engine_load(e, store, key, fill, out);
    engine_tombstone_is_null(out);
    return ERR_OK;
}

/* Long paths, which are rare, are passed over. */
void engine_warm(struct engine *e, const struct engine_ahead *at, unsigned n)
{
    uint8_t bytes[ENGINE_WARM_MAX][128];
    struct hot_key keys[ENGINE_WARM_MAX];
    unsigned count = 0;

    for (unsigned i = 0; i < n; i++) {
        if (9 + at[i].path.n > sizeof bytes[0])
            continue;
        keys[count].key = secret_key_head(bytes[count], at[i].vault->id, at[i].path);
        keys[count++].store = at[i].vault->store;
    }
    hot_warm(e->hot, keys, count);
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
    if (!v->hold[0] || engine_flushed(vault, v->hold[0]->lsn))
        return ERR_NOTFOUND;
    return secret_head_get(blob_bytes(v->hold[0]), &v->head);
}

enum err secret_mark(struct engine *e, struct vault *vault, struct bytes path, uint64_t *mark)
{
    struct secret_view v;
    *mark = 0;
    enum err err = secret_read_head(e, vault, path, &v);
    if (err)
        return err == ERR_NOTFOUND ? ERR_OK : err;
    if (secret_visible(&v.head, clock_wall_ms()))
        *mark = v.hold[0]->lsn;
    secret_view_release(&v);
    return ERR_OK;
}

int secret_made_since(struct engine *e, const struct vault *vault, struct bytes path, uint64_t lsn)
{
    uint8_t key[SECRET_KEY_MAX];
    return made_since(e->made, vault->store, secret_key_head(key, vault->id, path), lsn);
}

enum err secret_view_seen(const struct step *s, int value, uint64_t now_ms, struct secret_view *v)
{
    *v = (struct secret_view){.version = s->old.version};
    if (!s->head)
        return ERR_NOTFOUND;
    enum err err = secret_head_get(blob_bytes(s->head), &v->head);
    if (err == ERR_OK && value && (!s->old.hold || !secret_visible(&v->head, now_ms)))
        err = ERR_NOTFOUND;
    if (err)
        return err;
    v->hold[0] = blob_ref(s->head);
    if (value) {
        v->hold[1] = blob_ref(s->old.hold);
        v->value = s->old.value;
    }
    return ERR_OK;
}

enum err secret_read_head(struct engine *e, struct vault *vault, struct bytes path, struct secret_view *v)
{
    enum err err = read_head(e, vault, path, v);
    if (err)
        secret_view_release(v);
    return err;
}

/* The value of a version that is not in the head. When the slot is empty, or holds what was written after the head was
 * read, a new head has taken its place between the two reads: the caller reads again. */
static enum err read_apart(struct engine *e, struct vault *vault, struct bytes path, uint16_t slot,
                           struct secret_view *v)
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

enum err engine_logged_value(struct engine *e, struct vault *vault, struct bytes path, const struct secret_version *sv,
                             struct blob **out)
{
    uint8_t key[SECRET_KEY_MAX], head_key[SECRET_KEY_MAX];
    struct bytes cached = secret_key_logged(key, vault->id, path, sv->lsn, sv->version);
    struct sealed value;
    struct record r;
    struct buf raw;
    uint64_t fill;
    size_t used;

    if (hot_get(e->hot, vault->store, cached, out, &fill))
        return ERR_OK;
    buf_init(&raw, RECORD_MAX_BYTES);
    enum err err = wal_read(e->wal, sv->lsn, &raw);
    if (err == ERR_OK)
        err = record_get(buf_bytes(&raw), &r, &used);
    if (err == ERR_OK)
        err = secret_value_in_ops(r.blob, secret_key_head(head_key, vault->id, path), sv->version, &value);
    if (err == ERR_OK && !(*out = blob_new(value.raw, value.raw.n, sv->lsn)))
        err = ERR_OOM;
    buf_fini(&raw);
    /* The log does not reach back to it any more, or has damage there. */
    if ((err == ERR_NOTFOUND || err == ERR_CORRUPT || err == ERR_IO) && e->snapshots)
        err = snapshots_value(e->snapshots, vault->store, cached, out);
    if (err)
        return err == ERR_NOTFOUND ? ERR_CORRUPT : err;
    hot_fill(e->hot, vault->store, cached, *out, fill);
    return ERR_OK;
}

/* The head that readers saw is published, so its record, and those before, are in the log. */
static enum err read_logged(struct engine *e, struct vault *vault, struct bytes path, const struct secret_version *sv,
                            struct secret_view *v)
{
    enum err err = engine_logged_value(e, vault, path, sv, &v->hold[1]);
    if (err == ERR_OK)
        v->value.raw = blob_bytes(v->hold[1]);
    return err;
}

static enum err read_once(struct engine *e, struct vault *vault, struct bytes path, uint32_t version,
                          struct bytes label, struct secret_view *v)
{
    struct secret_version sv;
    enum err err = read_head(e, vault, path, v);
    if (err)
        return err;
    if (!secret_visible(&v->head, v->head.expires_ms ? clock_wall_ms() : 0))
        return ERR_NOTFOUND;
    v->version = version ? version : label.n ? secret_label_version(&v->head, label) : v->head.current;
    if (v->version == v->head.current && (v->head.flags & SECRET_CURRENT_INLINE)) {
        v->value = v->head.value;
        return ERR_OK;
    }
    if (!v->version || !secret_version_find(&v->head, v->version, &sv) || (sv.flags & SECRET_VERSION_DELETED))
        return ERR_NOTFOUND;
    return sv.slot == SECRET_NO_SLOT ? read_logged(e, vault, path, &sv, v) : read_apart(e, vault, path, sv.slot, v);
}

/* What is torn while a record is being published is whole when the next one begins; the log writer may have lost its
 * processor in between. What is torn and nobody writes is lost. */
#define TORN_SPINS 10
#define TORN_US 30000000

enum err secret_read(struct engine *e, struct vault *vault, struct bytes path, uint32_t version, struct bytes label,
                     struct secret_view *v)
{
    uint64_t since_us = 0;
    for (unsigned tries = 0;; tries++) {
        uint64_t turn = hot_turns(e->hot);
        enum err err = read_once(e, vault, path, version, label, v);
        if (err)
            secret_view_release(v);
        if (err != ERR_AGAIN)
            return err;
        if (turn % 2 == 0 && hot_turns(e->hot) == turn)
            return ERR_CORRUPT;
        if (tries < TORN_SPINS)
            continue;
        if (!since_us)
            since_us = clock_mono_us();
        else if (clock_mono_us() - since_us > TORN_US)
            return ERR_CORRUPT;
        sched_yield();
    }
}

void engine_moment_begin(struct engine *e, struct engine_moment *m)
{
    m->lsn = engine_commit_lsn(e);
    m->turn = hot_turns(e->hot);
    m->seen = 0;
    m->missing = m->newer = 0;
}

void engine_moment_saw(struct engine_moment *m, const struct secret_view *v)
{
    m->seen++;
    m->missing |= !v;
    m->newer |= v && v->hold[0]->lsn > m->lsn;
}

int engine_moment_held(struct engine *e, const struct engine_moment *m)
{
    return m->seen < 2 || (!m->missing && !m->newer) || (m->turn % 2 == 0 && hot_turns(e->hot) == m->turn);
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
    if (apply_stalled(e->apply))
        return ERR_MISCONF;
    apply_demand(e->apply, *lsn);
    return ERR_AGAIN;
}

enum err engine_list_wait(struct engine *e, struct vault *vault)
{
    return apply_wait_lsn(e->apply, atomic_load(&vault->names_lsn));
}

static enum err iterate(struct engine *e, unsigned store, struct store_iter **it)
{
    struct store *s = engine_store_take(e, store);
    enum err err = s ? store_iter_new(s, it) : ERR_CORRUPT;
    struct overlay *o = s ? NULL : engine_overlay_take(e);
    store_unref(s);
    overlay_unref(o);
    return o ? ERR_LOADING : err; /* it is being filled */
}

struct listing {
    const struct list_query *q;
    struct engine *e;
    struct vault *vault;
    struct store_iter *it;
    int look;    /* not everything is applied: the hot table may know more of a name */
    size_t skip; /* of a store key before the path */
    uint64_t now_ms;
    struct buf *last; /* where to go on: the last path or folder that was dealt with */
    unsigned found, scanned;
};

/* Where to go on after `after`: behind the path, or behind everything in a folder ('0' follows '/'). */
static struct bytes seek_after(uint8_t *key, uint64_t vault, struct bytes after, int folder)
{
    struct bytes k = secret_key_head(key, vault, after);
    if (folder)
        key[k.n - 1]++;
    else
        key[k.n++] = 0;
    return k;
}

static enum err list_folder(struct listing *l, struct bytes path, size_t folder_n, uint8_t *key)
{
    struct bytes folder = bytes_of(path.p, folder_n);
    buf_clear(l->last);
    enum err err = buf_put(l->last, folder.p, folder.n);
    if (err == ERR_OK) {
        l->found += l->q->visit(l->q->arg, folder, NULL) != 0;
        store_iter_seek(l->it, seek_after(key, l->vault->id, buf_bytes(l->last), 1));
    }
    return err;
}

/* The head as readers see it, and its record. *payload has no bytes when the secret is gone; *hold keeps it. */
static enum err newest_head(struct listing *l, struct blob **hold, struct bytes *payload, uint64_t *lsn)
{
    uint64_t fill;
    *hold = NULL;
    if (!l->look || !hot_get(l->e->hot, l->vault->store, store_iter_key(l->it), hold, &fill))
        return engine_store_saw(l->e, l->vault->store, store_iter_value(l->it, payload, lsn));
    *payload = blob_bytes(*hold);
    *lsn = (*hold)->lsn;
    return ERR_OK;
}

static enum err list_one(struct listing *l, struct bytes path)
{
    struct bytes payload;
    struct secret_head head;
    struct blob *hold;
    uint64_t lsn = 0;
    enum err err = newest_head(l, &hold, &payload, &lsn);
    int gone = err == ERR_OK && ((hold && hold->tombstone) || engine_flushed(l->vault, lsn));
    if (err == ERR_OK && !gone)
        err = secret_head_get(payload, &head);
    buf_clear(l->last);
    if (err == ERR_OK)
        err = buf_put(l->last, path.p, path.n);
    if (err == ERR_OK) {
        if (!gone && secret_visible(&head, l->now_ms))
            l->found += l->q->visit(l->q->arg, path, &head) != 0;
        store_iter_next(l->it);
    }
    blob_unref(hold);
    return err;
}

static size_t folder_length(const struct list_query *q, struct bytes path)
{
    if (!q->one_level || path.n <= q->prefix.n)
        return 0;
    const uint8_t *slash = memchr(path.p + q->prefix.n, '/', path.n - q->prefix.n);
    return slash ? (size_t)(slash - path.p) + 1 : 0;
}

static enum err list_run(struct listing *l, int *more)
{
    uint8_t key[SECRET_KEY_MAX + 1];
    const struct list_query *q = l->q;
    uint64_t vault = l->vault->id;
    /* A path may end in '/' as well: only what a listing of one level gave out for a folder stands for all that is in
     * it. */
    int folder_before = folder_length(q, q->after) == q->after.n;
    struct bytes from =
        q->after.n ? seek_after(key, vault, q->after, folder_before) : secret_key_head(key, vault, q->prefix);
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
        err = folder ? list_folder(l, path, folder, key) : list_one(l, path);
    }
    return err ? err : store_iter_status(l->it);
}

enum err secret_list(struct engine *e, struct vault *vault, const struct list_query *q, struct buf *last, int *more)
{
    struct listing l = {.q = q,
                        .e = e,
                        .vault = vault,
                        .look = apply_lsn(e->apply) < hot_published(e->hot),
                        .skip = 9,
                        .now_ms = clock_wall_ms(),
                        .last = last};
    *more = 0;
    if (q->prefix.n > SECRET_PATH_MAX || q->after.n > SECRET_PATH_MAX)
        return ERR_BADPATH;
    enum err err = iterate(e, vault->store, &l.it);
    if (err)
        return err;
    err = list_run(&l, more);
    (void)engine_store_saw(e, vault->store, store_iter_status(l.it));
    store_iter_free(l.it);
    return err;
}

enum err key_list(struct engine *e, struct vault *vault, struct bytes after, unsigned max,
                  void (*visit)(void *arg, struct bytes name), void *arg, struct buf *last, int *more)
{
    uint8_t key[KEY_KEY_MAX + 1];
    struct store_iter *it;
    unsigned n = 0;

    *more = 0;
    if (after.n > KEY_NAME_MAX)
        return ERR_BADNAME;
    enum err err = iterate(e, vault->store, &it);
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
        err = engine_store_saw(e, vault->store, store_iter_status(it));
    store_iter_free(it);
    return err;
}
