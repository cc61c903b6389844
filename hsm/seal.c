/* seal.c - see seal.h for the format and the promises.
 *
 * Opening, the hot path of SECRET.GET: one load of the ring's epoch, one look into the thread's table of warm contexts,
 * the cipher (gcm.h). No lock, no allocation, no reference count. Only a miss takes the ring's lock, finds the data
 * key, and keys the context of the slot it falls on (direct-mapped: two data keys on one slot push each other out).
 *
 * Dropping: whoever removes data keys raises the epoch under the lock. An opener notes the epoch, then looks up; the
 * next time it throws its whole table away when the ring's epoch has moved. So a context is never older than the epoch
 * noted, and a data key dropped right after its look-up is found out at the next call. An open under way while its key
 * is dropped counts as before.
 *
 * Sealing: a write takes the vault's write key with a reference, reserves one of its 2^32 messages, and carries its
 * plaintext to the sequencer; there the nonce is drawn, next to its only use. The reservation is a counter of its own,
 * because a write that was admitted must not fail.
 *
 * A repeated nonce would break GCM for good, so: a data key becomes a write key once, with its counter at 0; the ring
 * remembers the highest version that ever was a vault's write key, also when the key was dropped, and takes only higher
 * ones (what HSM.UNSEAL brings back may open, not seal); a plain is sealed at most once.
 */
#include "hsm/seal.h"

#include <assert.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "base/mem.h"
#include "hsm/gcm.h"

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(n) mem_alloc(n)
#define uthash_free(p, n) mem_free(p)
#include <uthash.h>

enum { FORMAT = 1, AT_VERSION = 1, AT_COUNTER = 5, AT_TEXT = 13 };
enum { AAD_FRONT = 33, AAD_MAX = AAD_FRONT + SEAL_PATH_MAX };

_Static_assert(SEAL_OVERHEAD == AT_TEXT + GCM_TAG_BYTES, "sealed header and tag");
_Static_assert(SEAL_VALUE_MAX <= GCM_VALUE_MAX && GCM_VALUE_MAX <= INT_MAX - SEAL_OVERHEAD, "OpenSSL counts in int");
_Static_assert((SEAL_OPENER_SLOTS & (SEAL_OPENER_SLOTS - 1)) == 0, "a power of two");

/* Additional data into room; the path must not be longer than SEAL_PATH_MAX. */
static struct bytes make_aad(uint8_t room[AAD_MAX], const uint8_t realm[SEAL_REALM_BYTES], const struct seal_bind *bind,
                             uint32_t dek_version)
{
    room[0] = FORMAT;
    memcpy(room + 1, realm, SEAL_REALM_BYTES);
    put_le64(room + 17, bind->vault);
    put_le32(room + 25, bind->version);
    put_le32(room + 29, dek_version);
    if (bind->path.n)
        memcpy(room + AAD_FRONT, bind->path.p, bind->path.n);
    return bytes_of(room, AAD_FRONT + bind->path.n);
}

/* ---- data keys and the ring ---- */

struct dek_id {
    uint64_t vault;
    uint32_t version;
    uint32_t zero; /* hashed as bytes: no padding */
};

struct dek {
    struct dek_id id;
    _Atomic unsigned refs;
    _Atomic uint64_t promised; /* messages reserved by plains; goes past the limit when refused */
    _Atomic uint64_t nonce;    /* the next one */
    struct gcm *seal_ctx;      /* of write keys, the sealing thread's; made before anyone has a reference */
    uint64_t added_ms;         /* this and the next: under the ring's lock */
    int writes;
    uint8_t realm[SEAL_REALM_BYTES];
    uint8_t *key; /* locked memory */
    UT_hash_handle hh;
};

/* Outlives its data keys, also a dropped vault's (80 bytes each), because of last_writer. */
struct vault {
    uint64_t id;
    struct dek *writer;   /* in the ring, or NULL */
    uint32_t last_writer; /* highest version that ever was the write key */
    UT_hash_handle hh;
};

struct keyring {
    pthread_mutex_t lock;
    _Atomic uint64_t epoch; /* raised, under the lock, whenever a data key leaves the ring */
    struct dek *deks;
    struct vault *vaults;
    uint64_t ttl_ms;
    uint8_t realm[SEAL_REALM_BYTES];
};

static void ring_lock(struct keyring *k)
{
    int rc = pthread_mutex_lock(&k->lock);
    assert(rc == 0);
    (void)rc;
}

enum err keyring_new(struct keyring **out, const uint8_t realm[SEAL_REALM_BYTES], uint64_t ttl_ms)
{
    *out = NULL;
    struct keyring *k = mem_zalloc(sizeof *k);
    if (!k)
        return ERR_OOM;
    if (pthread_mutex_init(&k->lock, NULL) != 0) {
        mem_free(k);
        return ERR_INTERNAL;
    }
    memcpy(k->realm, realm, SEAL_REALM_BYTES);
    k->ttl_ms = ttl_ms;
    *out = k;
    return ERR_OK;
}

static struct dek *dek_new(const struct keyring *k, struct dek_id id, const uint8_t key[SEAL_KEY_BYTES])
{
    struct dek *d = mem_zalloc(sizeof *d);
    uint8_t *copy = mem_secret_alloc(SEAL_KEY_BYTES);
    if (!d || !copy) {
        mem_free(d);
        mem_secret_free(copy, SEAL_KEY_BYTES);
        return NULL;
    }
    memcpy(copy, key, SEAL_KEY_BYTES);
    memcpy(d->realm, k->realm, SEAL_REALM_BYTES);
    d->id = id;
    d->key = copy;
    d->refs = 1;
    d->added_ms = clock_wall_ms();
    return d;
}

static struct dek *dek_ref(struct dek *d)
{
    atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
    return d;
}

void dek_unref(struct dek *d)
{
    if (!d || atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) != 1)
        return;
    gcm_free(d->seal_ctx);
    mem_secret_free(d->key, SEAL_KEY_BYTES);
    mem_free(d);
}

uint32_t dek_version(const struct dek *d)
{
    return d->id.version;
}

void dek_test_use_up(struct dek *d, uint64_t n)
{
    assert(n <= SEAL_MESSAGES_MAX); /* never round 2^64 */
    atomic_fetch_add(&d->promised, n);
    atomic_fetch_add(&d->nonce, n);
}

static struct dek *ring_find(struct keyring *k, uint64_t vault, uint32_t version)
{
    struct dek_id id = {.vault = vault, .version = version};
    struct dek *d;
    HASH_FIND(hh, k->deks, &id, sizeof id, d);
    return d;
}

static struct vault *ring_vault(struct keyring *k, uint64_t id)
{
    struct vault *v;
    HASH_FIND(hh, k->vaults, &id, sizeof id, v);
    return v;
}

static struct vault *ring_vault_make(struct keyring *k, uint64_t id)
{
    struct vault *v = ring_vault(k, id);
    if (v || !(v = mem_zalloc(sizeof *v)))
        return v;
    v->id = id;
    HASH_ADD(hh, k->vaults, id, sizeof v->id, v);
    if (v->hh.tbl)
        return v;
    mem_free(v);
    return NULL;
}

enum err keyring_add(struct keyring *k, uint64_t vault, uint32_t version, const uint8_t key[SEAL_KEY_BYTES])
{
    if (version == 0)
        return ERR_RANGE;
    struct dek *d = dek_new(k, (struct dek_id){.vault = vault, .version = version}, key);
    if (!d)
        return ERR_OOM;
    ring_lock(k);
    int known = ring_find(k, vault, version) != NULL, added = 0;
    if (!known) {
        HASH_ADD(hh, k->deks, id, sizeof d->id, d);
        added = d->hh.tbl != NULL;
    }
    pthread_mutex_unlock(&k->lock);
    if (!added)
        dek_unref(d);
    return known || added ? ERR_OK : ERR_OOM;
}

static enum err set_writer_locked(struct keyring *k, uint64_t vault, uint32_t version)
{
    struct dek *d = ring_find(k, vault, version);
    if (!d)
        return ERR_NOTFOUND;
    struct vault *v = ring_vault_make(k, vault);
    if (!v)
        return ERR_OOM;
    if (v->writer == d)
        return ERR_OK;
    if (version <= v->last_writer)
        return ERR_CONFLICT;
    enum err e = gcm_new(&d->seal_ctx, GCM_SEAL, d->key);
    if (e)
        return e;
    if (v->writer)
        v->writer->writes = 0;
    d->writes = 1;
    v->writer = d;
    v->last_writer = version;
    return ERR_OK;
}

enum err keyring_set_writer(struct keyring *k, uint64_t vault, uint32_t version)
{
    ring_lock(k);
    enum err e = set_writer_locked(k, vault, version);
    pthread_mutex_unlock(&k->lock);
    return e;
}

struct dek *keyring_writer(struct keyring *k, uint64_t vault)
{
    ring_lock(k);
    struct vault *v = ring_vault(k, vault);
    struct dek *d = v ? v->writer : NULL;
    if (d)
        d = atomic_load_explicit(&d->promised, memory_order_relaxed) < SEAL_MESSAGES_MAX ? dek_ref(d) : NULL;
    pthread_mutex_unlock(&k->lock);
    return d;
}

static void ring_remove(struct keyring *k, struct dek *d)
{
    struct vault *v = d->writes ? ring_vault(k, d->id.vault) : NULL;
    if (v)
        v->writer = NULL;
    HASH_DEL(k->deks, d);
    atomic_fetch_add_explicit(&k->epoch, 1, memory_order_release);
    dek_unref(d);
}

/* The ttl counts in wall time, which can be set back; then the data key counts as added now, so it lives at most ttl_ms
 * longer than it should. Ending it at once instead would end all reads if the HSM was away as well. */
static int dek_is_over(struct dek *d, uint64_t now_ms, uint64_t ttl_ms)
{
    if (d->writes)
        return 0;
    if (now_ms < d->added_ms)
        d->added_ms = now_ms;
    return now_ms - d->added_ms >= ttl_ms;
}

void keyring_expire(struct keyring *k)
{
    struct dek *d, *tmp;
    uint64_t now_ms = clock_wall_ms();

    if (k->ttl_ms == 0)
        return;
    ring_lock(k);
    HASH_ITER (hh, k->deks, d, tmp)
        if (dek_is_over(d, now_ms, k->ttl_ms))
            ring_remove(k, d);
    pthread_mutex_unlock(&k->lock);
}

void keyring_drop_vault(struct keyring *k, uint64_t vault)
{
    struct dek *d, *tmp;
    ring_lock(k);
    HASH_ITER (hh, k->deks, d, tmp)
        if (d->id.vault == vault)
            ring_remove(k, d);
    pthread_mutex_unlock(&k->lock);
}

void keyring_drop_all(struct keyring *k)
{
    struct dek *d, *tmp;
    ring_lock(k);
    HASH_ITER (hh, k->deks, d, tmp)
        ring_remove(k, d);
    pthread_mutex_unlock(&k->lock);
}

void keyring_free(struct keyring *k)
{
    struct vault *v, *tmp;
    if (!k)
        return;
    keyring_drop_all(k);
    HASH_ITER (hh, k->vaults, v, tmp) {
        HASH_DEL(k->vaults, v);
        mem_free(v);
    }
    pthread_mutex_destroy(&k->lock);
    mem_free(k);
}

/* ---- sealing ---- */

struct plain {
    struct dek *dek;
    uint8_t *block;     /* where the caller's bytes begin; then this struct; then the value */
    size_t block_bytes; /* all three */
    size_t value_bytes;
    int sealed;
};

static uint8_t *plain_value(struct plain *p)
{
    return (uint8_t *)(p + 1);
}

enum err plain_new(struct dek *d, struct bytes value, size_t extra_bytes, void **extra, struct plain **out)
{
    *out = NULL;
    if (extra)
        *extra = NULL;
    if (value.n > SEAL_VALUE_MAX || extra_bytes > SEAL_VALUE_MAX)
        return ERR_TOOBIG;
    const size_t align = _Alignof(max_align_t), front = (extra_bytes + align - 1) & ~(align - 1);
    const size_t all = front + sizeof(struct plain) + value.n;
    uint8_t *block = mem_secret_alloc(all);
    if (!block)
        return ERR_OOM;
    if (atomic_fetch_add_explicit(&d->promised, 1, memory_order_relaxed) >= SEAL_MESSAGES_MAX) {
        mem_secret_free(block, all);
        return ERR_AGAIN;
    }
    struct plain *p = (void *)(block + front);
    *p = (struct plain){.dek = d, .block = block, .block_bytes = all, .value_bytes = value.n};
    if (value.n)
        memcpy(plain_value(p), value.p, value.n);
    if (extra)
        *extra = block;
    *out = p;
    return ERR_OK;
}

void plain_free(struct plain *p)
{
    if (!p)
        return;
    dek_unref(p->dek);
    mem_secret_free(p->block, p->block_bytes);
}

static size_t seal_size(const struct plain *p)
{
    return p->value_bytes + SEAL_OVERHEAD;
}

static enum err seal_seal(struct plain *p, const struct seal_bind *bind, uint8_t *out)
{
    uint8_t room[AAD_MAX];
    struct dek *d = p->dek;
    enum err e = ERR_INTERNAL;

    if (p->sealed || bind->path.n > SEAL_PATH_MAX || !d->seal_ctx)
        goto end;
    uint64_t nonce = atomic_fetch_add_explicit(&d->nonce, 1, memory_order_relaxed);
    if (nonce >= SEAL_MESSAGES_MAX) /* cannot be: a message was reserved; but this is the last line of defence */
        goto end;
    out[0] = FORMAT;
    put_le32(out + AT_VERSION, d->id.version);
    put_le64(out + AT_COUNTER, nonce);
    e = gcm_seal(d->seal_ctx, out + AT_COUNTER, make_aad(room, d->realm, bind, d->id.version), plain_value(p),
                 p->value_bytes, out + AT_TEXT);
end:
    p->sealed = 1;
    mem_wipe(plain_value(p), p->value_bytes);
    if (e)
        memset(out, 0, seal_size(p));
    return e;
}

const struct sealer seal_sealer = {.seal = seal_seal, .size = seal_size};

/* ---- opening ---- */

struct slot {
    uint64_t vault;
    uint32_t version; /* 0: not keyed */
    struct gcm *ctx;
};

struct opener {
    struct keyring *ring;
    uint64_t epoch; /* of the ring before any of the slots was keyed */
    struct slot slot[SEAL_OPENER_SLOTS];
};

enum err opener_new(struct opener **out, struct keyring *k)
{
    struct opener *o = mem_zalloc(sizeof *o);
    *out = o;
    if (!o)
        return ERR_OOM;
    o->ring = k;
    o->epoch = atomic_load_explicit(&k->epoch, memory_order_acquire);
    return ERR_OK;
}

void opener_free(struct opener *o)
{
    if (!o)
        return;
    for (unsigned i = 0; i < SEAL_OPENER_SLOTS; i++)
        gcm_free(o->slot[i].ctx);
    mem_free(o);
}

void opener_drop_stale(struct opener *o)
{
    uint64_t epoch = atomic_load_explicit(&o->ring->epoch, memory_order_acquire);
    if (epoch == o->epoch)
        return;
    for (struct slot *s = o->slot; s < o->slot + SEAL_OPENER_SLOTS; s++) {
        gcm_free(s->ctx);
        s->ctx = NULL;
        s->version = 0;
    }
    o->epoch = epoch;
}

static struct slot *opener_slot(struct opener *o, uint64_t vault, uint32_t version)
{
    uint64_t mix = (vault ^ (uint64_t)version << 32) * 0x9e3779b97f4a7c15u;
    return &o->slot[mix >> 32 & (SEAL_OPENER_SLOTS - 1)];
}

/* Keys s for this data key. */
static enum err slot_warm(struct opener *o, struct slot *s, uint64_t vault, uint32_t version)
{
    enum err e;
    ring_lock(o->ring);
    struct dek *d = ring_find(o->ring, vault, version);
    if (d)
        dek_ref(d);
    pthread_mutex_unlock(&o->ring->lock);
    if (!d)
        return ERR_AGAIN;
    gcm_free(s->ctx);
    e = gcm_new(&s->ctx, GCM_OPEN, d->key);
    s->vault = vault;
    s->version = e ? 0 : version;
    dek_unref(d);
    return e;
}

size_t sealed_plain_len(struct sealed s)
{
    return s.raw.n < SEAL_OVERHEAD ? 0 : s.raw.n - SEAL_OVERHEAD;
}

uint32_t sealed_dek_version(struct sealed s)
{
    return s.raw.n < SEAL_OVERHEAD || s.raw.p[0] != FORMAT ? 0 : get_le32(s.raw.p + AT_VERSION);
}

enum err opener_open(struct opener *o, struct sealed s, const struct seal_bind *bind, uint8_t *out)
{
    uint8_t room[AAD_MAX];
    uint32_t version = sealed_dek_version(s);
    size_t n = sealed_plain_len(s);
    enum err e = ERR_CORRUPT;

    if (version == 0 || n > SEAL_VALUE_MAX || bind->path.n > SEAL_PATH_MAX)
        goto fail;
    opener_drop_stale(o);
    struct slot *slot = opener_slot(o, bind->vault, version);
    if ((slot->version != version || slot->vault != bind->vault) && (e = slot_warm(o, slot, bind->vault, version)))
        goto fail;
    e = gcm_open(slot->ctx, s.raw.p + AT_COUNTER, make_aad(room, o->ring->realm, bind, version), s.raw.p + AT_TEXT, n,
                 out);
    if (e == ERR_OK)
        return ERR_OK;
fail:
    mem_wipe(out, n);
    return e;
}
