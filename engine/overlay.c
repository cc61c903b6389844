/* overlay.c - see overlay.h.
 *
 * Falling back: the records between the older snapshot and the newer one are gathered apart, since on the way there the
 * map would have values that were overwritten below the newer one; then both maps are merged and the snapshot is
 * exchanged, at once.
 *
 * Rejected: replaying the log behind the snapshot before anything is answered (it is as long as the snapshot is large,
 * and LevelDB takes twenty times as long over it as reading it does); keeping the values in memory, too (the log has
 * them, and the hot table is in front of this); a map for each store (stores are lost together, and the log is read
 * once for all).
 */
#include "engine/overlay.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "base/mem.h"
#include "engine/changes.h"
#include "engine/secret.h"

#define OOM_RETRY_MS 10

struct overlay {
    _Atomic unsigned refs;
    struct wal *wal;
    struct wal_cursor *cursor; /* who advances' own; NULL: to be opened */
    _Atomic uint64_t lsn;
    _Atomic int lost; /* it could not follow the log */

    pthread_mutex_t lock; /* what follows */
    struct snapread *base;
    uint64_t base_lsn;
    struct changes *changes;
    int damaged, last; /* a block of base does not verify; and there is no older one */
};

enum err overlay_new(struct overlay **out, struct wal *w, struct snapread *base)
{
    struct snapread_info info = {0};
    *out = NULL;
    struct overlay *o = mem_zalloc(sizeof *o);
    if (!o)
        return ERR_OOM;
    enum err e = changes_new(&o->changes);
    if (e) {
        mem_free(o);
        return e;
    }
    if (base)
        snapread_info(base, &info);
    atomic_init(&o->refs, 1);
    o->wal = w;
    o->base = base;
    o->base_lsn = info.header.lsn;
    atomic_init(&o->lsn, o->base_lsn);
    pthread_mutex_init(&o->lock, NULL);
    *out = o;
    return ERR_OK;
}

struct overlay *overlay_ref(struct overlay *o)
{
    atomic_fetch_add_explicit(&o->refs, 1, memory_order_relaxed);
    return o;
}

void overlay_unref(struct overlay *o)
{
    if (!o || atomic_fetch_sub_explicit(&o->refs, 1, memory_order_acq_rel) != 1)
        return;
    wal_cursor_close(o->cursor);
    snapread_unref(o->base);
    changes_free(o->changes);
    pthread_mutex_destroy(&o->lock);
    mem_free(o);
}

uint64_t overlay_base_lsn(struct overlay *o)
{
    pthread_mutex_lock(&o->lock);
    uint64_t lsn = o->base_lsn;
    pthread_mutex_unlock(&o->lock);
    return lsn;
}

uint64_t overlay_lsn(struct overlay *o)
{
    return atomic_load(&o->lsn);
}

/* ---- following the log ---- */

enum err overlay_add(struct overlay *o, const struct record *r)
{
    assert(r->lsn == atomic_load(&o->lsn) + 1);
    pthread_mutex_lock(&o->lock);
    enum err e = changes_add(o->changes, r);
    pthread_mutex_unlock(&o->lock);
    if (!e)
        atomic_store(&o->lsn, r->lsn);
    return e;
}

static enum err advance_one(struct overlay *o)
{
    struct record r;
    struct bytes raw;
    enum err e = o->cursor ? ERR_OK : wal_cursor_open(&o->cursor, o->wal, atomic_load(&o->lsn) + 1);
    if (!e)
        e = wal_cursor_next(o->cursor, &r, &raw);
    if (!e && (e = overlay_add(o, &r)) != ERR_OK) { /* the same again */
        wal_cursor_close(o->cursor);
        o->cursor = NULL;
    }
    return e == ERR_END ? ERR_INTERNAL : e;
}

enum err overlay_advance(struct overlay *o, uint64_t to)
{
    const struct timespec moment = {.tv_nsec = OOM_RETRY_MS * 1000000L};
    enum err e = atomic_load(&o->lost) ? ERR_LOADING : ERR_OK;
    while (!e && atomic_load(&o->lsn) < to) {
        e = advance_one(o);
        if (e == ERR_OOM) {
            nanosleep(&moment, NULL);
            e = ERR_OK;
        }
    }
    if (e)
        atomic_store(&o->lost, 1);
    return e;
}

/* ---- reading ---- */

/* Where the log has the newest value of a key: in the blob of the record at lsn. */
struct spot {
    uint64_t lsn;
    uint32_t off, n;
    int tombstone;
};

/* What the log has of the key, 1, or else the snapshot to look into, with a reference; NULL: there is none. */
static int look_up(struct overlay *o, struct bytes full_key, struct spot *at, struct snapread **base)
{
    *base = NULL;
    pthread_mutex_lock(&o->lock);
    const struct change *ch = changes_find(o->changes, full_key);
    if (ch)
        *at = (struct spot){ch->lsn, ch->value_off, ch->value_n, ch->tombstone};
    else if (o->base)
        *base = snapread_ref(o->base);
    pthread_mutex_unlock(&o->lock);
    return ch != NULL;
}

static enum err value_in_log(struct overlay *o, const struct spot *at, struct bytes key, struct blob **out)
{
    struct record r;
    struct buf raw;
    size_t used;

    buf_init(&raw, RECORD_MAX_BYTES);
    enum err e = wal_read(o->wal, at->lsn, &raw);
    if (!e)
        e = record_get(buf_bytes(&raw), &r, &used);
    if (!e && (at->off < key.n || at->off > r.blob.n || at->n > r.blob.n - at->off ||
               memcmp(r.blob.p + at->off - key.n, key.p, key.n) != 0))
        e = ERR_CORRUPT;
    if (!e && !(*out = blob_new(bytes_of(r.blob.p + at->off, at->n), at->n, at->lsn)))
        e = ERR_OOM;
    buf_fini(&raw);
    return e == ERR_NOTFOUND ? ERR_CORRUPT : e; /* it is there, or was there */
}

/* In the meantime an older one may have taken its place. */
static enum err note_damage(struct overlay *o, const struct snapread *base, enum err e)
{
    pthread_mutex_lock(&o->lock);
    if (o->base == base)
        o->damaged = 1;
    int last = o->base == base && o->last;
    pthread_mutex_unlock(&o->lock);
    return last ? e : ERR_LOADING;
}

enum err overlay_get(struct overlay *o, uint16_t store, struct bytes key, struct blob **out)
{
    uint8_t full[2 + SECRET_KEY_MAX];
    struct snapread *base;
    struct spot at;
    enum err e = ERR_NOTFOUND;

    *out = NULL;
    if (atomic_load(&o->lost))
        return ERR_LOADING;
    if (key.n > SECRET_KEY_MAX)
        return ERR_NOTFOUND;
    full[0] = (uint8_t)(store >> 8);
    full[1] = (uint8_t)store;
    memcpy(full + 2, key.p, key.n);
    if (look_up(o, bytes_of(full, 2 + key.n), &at, &base))
        return at.tombstone ? ERR_NOTFOUND : value_in_log(o, &at, key, out);
    if (base)
        e = snapread_get(base, store, key, out);
    if (e == ERR_CORRUPT || e == ERR_IO)
        e = note_damage(o, base, e);
    snapread_unref(base);
    return e;
}

/* ---- another snapshot ---- */

int overlay_wants_older(struct overlay *o)
{
    pthread_mutex_lock(&o->lock);
    int wants = o->damaged && !o->last;
    pthread_mutex_unlock(&o->lock);
    return wants;
}

void overlay_is_last(struct overlay *o)
{
    pthread_mutex_lock(&o->lock);
    o->last = 1;
    pthread_mutex_unlock(&o->lock);
}

static enum err gather(struct overlay *o, uint64_t from, uint64_t to, struct changes *c)
{
    struct wal_cursor *cursor = NULL;
    struct record r;
    struct bytes raw;
    enum err e = from <= to ? wal_cursor_open(&cursor, o->wal, from) : ERR_OK;
    for (uint64_t lsn = from; !e && lsn <= to; lsn++)
        if ((e = wal_cursor_next(cursor, &r, &raw)) == ERR_OK)
            e = changes_add(c, &r);
    wal_cursor_close(cursor);
    return e == ERR_END ? ERR_INTERNAL : e;
}

/* The lock is held all the while: with half of it there would be readers of both snapshots. */
static enum err exchange(struct overlay *o, struct snapread *older, uint64_t older_lsn, const struct changes *c)
{
    struct snapread *was = NULL;
    pthread_mutex_lock(&o->lock);
    enum err e = changes_merge(o->changes, c);
    if (!e) {
        was = o->base;
        o->base = older;
        o->base_lsn = older_lsn;
        o->damaged = 0;
    }
    pthread_mutex_unlock(&o->lock);
    snapread_unref(was);
    return e;
}

enum err overlay_fall_back(struct overlay *o, struct snapread *older)
{
    struct snapread_info info = {0};
    struct changes *c;
    if (older)
        snapread_info(older, &info);
    uint64_t newer_lsn = overlay_base_lsn(o);
    assert(info.header.lsn < newer_lsn);
    enum err e = changes_new(&c);
    if (!e)
        e = gather(o, info.header.lsn + 1, newer_lsn, c);
    if (!e)
        e = exchange(o, older, info.header.lsn, c);
    changes_free(c);
    return e;
}

void overlay_info(struct overlay *o, struct overlay_info *out)
{
    struct changes_info i;
    pthread_mutex_lock(&o->lock);
    changes_info(o->changes, &i);
    *out = (struct overlay_info){
        .base_lsn = o->base_lsn, .lsn = atomic_load(&o->lsn), .keys = i.keys, .memory_bytes = i.memory_bytes};
    pthread_mutex_unlock(&o->lock);
}
