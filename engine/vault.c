/* vault.c - the registry of vaults.
 *
 * Two indexes over the same structs: a hash by name for look-ups, and an array sorted by name for listings; a third by
 * id for the data keys and expiry entries that know only the id. Vaults come and go rarely, so one read-write lock
 * guards all three, and inserting into the array moves memory. Look-ups hold the lock for a hash probe.
 *
 * A deleted vault keeps its struct (I/O threads may hold a pointer) and its id; only its name is free again.
 *
 * Most commands of a thread are about the vault of the one before: each thread keeps the vault it found last, good as
 * long as no name has changed (epoch), and so looks into no shared memory that anybody writes.
 */
#include "engine/vault.h"

#include <ctype.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/mem.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct name_entry {
    struct vault *v;
    UT_hash_handle by_name, by_id;
};

struct vaults {
    pthread_rwlock_t lock;
    _Atomic uint64_t epoch; /* of the names; unique over all registries of the process */
    struct name_entry *names, *ids;
    struct vault **sorted;
    size_t count, cap;
};

int vault_name_ok(struct bytes name)
{
    if (name.n < 1 || name.n > VAULT_NAME_MAX || !isalnum(name.p[0]))
        return 0;
    for (size_t i = 1; i < name.n; i++)
        if (!isalnum(name.p[i]) && name.p[i] != '.' && name.p[i] != '_' && name.p[i] != '-')
            return 0;
    return 1;
}

static struct bytes vault_name(const struct vault *v)
{
    return bytes_of(v->name, v->name_len);
}

static void names_changed(struct vaults *vs)
{
    static _Atomic uint64_t epochs;
    atomic_store_explicit(&vs->epoch, atomic_fetch_add(&epochs, 1) + 1, memory_order_release);
}

enum err vaults_new(struct vaults **out)
{
    struct vaults *vs = *out = mem_zalloc(sizeof *vs);
    if (!vs)
        return ERR_OOM;
    pthread_rwlock_init(&vs->lock, NULL);
    names_changed(vs);
    return ERR_OK;
}

void vault_free(struct vault *v)
{
    if (!v)
        return;
    mem_free((void *)v->partition.p);
    mem_free(v);
}

void vaults_free(struct vaults *vs)
{
    struct name_entry *e, *tmp;
    if (!vs)
        return;
    HASH_CLEAR(by_name, vs->names);
    HASH_ITER (by_id, vs->ids, e, tmp) {
        HASH_DELETE(by_id, vs->ids, e);
        vault_free(e->v);
        mem_free(e);
    }
    mem_free(vs->sorted);
    pthread_rwlock_destroy(&vs->lock);
    mem_free(vs);
}

static struct name_entry *find_name(struct vaults *vs, struct bytes name)
{
    struct name_entry *e;
    HASH_FIND(by_name, vs->names, name.p, name.n, e);
    return e;
}

struct vault *vaults_find(struct vaults *vs, struct bytes name)
{
    static _Thread_local struct {
        uint64_t epoch;
        struct vault *v;
    } last;
    uint64_t epoch = atomic_load_explicit(&vs->epoch, memory_order_acquire);

    if (last.epoch == epoch && last.v && bytes_equal(vault_name(last.v), name))
        return last.v;
    pthread_rwlock_rdlock(&vs->lock);
    struct name_entry *e = find_name(vs, name);
    pthread_rwlock_unlock(&vs->lock);
    last.epoch = epoch;
    last.v = e ? e->v : NULL;
    return last.v;
}

struct vault *vaults_find_id(struct vaults *vs, uint64_t id)
{
    struct name_entry *e;
    pthread_rwlock_rdlock(&vs->lock);
    HASH_FIND(by_id, vs->ids, &id, sizeof id, e);
    pthread_rwlock_unlock(&vs->lock);
    return e ? e->v : NULL;
}

/* Index of the first vault whose name is >= name. */
static size_t lower_bound(const struct vaults *vs, struct bytes name)
{
    size_t lo = 0, hi = vs->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (bytes_compare(vault_name(vs->sorted[mid]), name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static enum err sorted_room(struct vaults *vs)
{
    if (vs->count < vs->cap)
        return ERR_OK;
    size_t cap = vs->cap ? vs->cap * 2 : 16;
    struct vault **grown = mem_realloc(vs->sorted, cap * sizeof *grown);
    if (!grown)
        return ERR_OOM;
    vs->sorted = grown;
    vs->cap = cap;
    return ERR_OK;
}

enum err vaults_add(struct vaults *vs, struct vault *v)
{
    struct name_entry *e = mem_zalloc(sizeof *e);
    enum err err = ERR_OOM;

    if (!e)
        return err;
    e->v = v;
    pthread_rwlock_wrlock(&vs->lock);
    if ((err = sorted_room(vs)) == ERR_OK) {
        size_t at = lower_bound(vs, vault_name(v));
        memmove(vs->sorted + at + 1, vs->sorted + at, (vs->count - at) * sizeof *vs->sorted);
        vs->sorted[at] = v;
        vs->count++;
        HASH_ADD_KEYPTR(by_name, vs->names, v->name, strlen(v->name), e);
        HASH_ADD_KEYPTR(by_id, vs->ids, &v->id, sizeof v->id, e);
        names_changed(vs);
        e = NULL;
    }
    pthread_rwlock_unlock(&vs->lock);
    mem_free(e);
    return err;
}

void vaults_forget_name(struct vaults *vs, struct vault *v)
{
    pthread_rwlock_wrlock(&vs->lock);
    struct name_entry *e = find_name(vs, vault_name(v));
    if (e && e->v == v) {
        size_t at = lower_bound(vs, vault_name(v));
        HASH_DELETE(by_name, vs->names, e);
        names_changed(vs);
        memmove(vs->sorted + at, vs->sorted + at + 1, (vs->count - at - 1) * sizeof *vs->sorted);
        vs->count--;
    }
    pthread_rwlock_unlock(&vs->lock);
}

size_t vaults_list(struct vaults *vs, struct bytes after, int inclusive, struct vault **out, size_t max)
{
    size_t n = 0;
    pthread_rwlock_rdlock(&vs->lock);
    size_t at = lower_bound(vs, after);
    if (!inclusive && at < vs->count && bytes_equal(vault_name(vs->sorted[at]), after))
        at++;
    while (n < max && at < vs->count)
        out[n++] = vs->sorted[at++];
    pthread_rwlock_unlock(&vs->lock);
    return n;
}

size_t vaults_count(struct vaults *vs)
{
    pthread_rwlock_rdlock(&vs->lock);
    size_t n = vs->count;
    pthread_rwlock_unlock(&vs->lock);
    return n;
}

void vault_settings_get(struct vaults *vs, struct vault *v, struct vault_settings *out)
{
    pthread_rwlock_rdlock(&vs->lock);
    *out = v->settings;
    pthread_rwlock_unlock(&vs->lock);
}

void vault_settings_put(struct vaults *vs, struct vault *v, const struct vault_settings *s)
{
    pthread_rwlock_wrlock(&vs->lock);
    v->settings = *s;
    pthread_rwlock_unlock(&vs->lock);
}

/* ---- records ---- */

#define VAULT_FORMAT 1
#define VAULT_FIXED_BYTES 74

struct bytes vault_key(uint8_t *out, struct bytes name)
{
    out[0] = 'V';
    memcpy(out + 1, name.p, name.n);
    return bytes_of(out, 1 + name.n);
}

struct bytes vault_dek_key(uint8_t out[VAULT_DEK_KEY_BYTES], uint64_t vault, uint32_t version)
{
    out[0] = 'D';
    put_be64(out + 1, vault);
    put_be32(out + 9, version);
    return bytes_of(out, VAULT_DEK_KEY_BYTES);
}

enum err vault_encode(struct buf *out, const struct vault *v, const struct vault_settings *s, int state,
                      uint64_t delete_ms)
{
    uint8_t *p;
    enum err err = buf_reserve(out, VAULT_FIXED_BYTES + v->partition.n, &p);
    if (err)
        return err;
    p[0] = VAULT_FORMAT;
    p[1] = (uint8_t)state;
    put_le16(p + 2, v->store);
    put_le32(p + 4, s->max_versions);
    put_le64(p + 8, v->id);
    put_le64(p + 16, v->created_ms);
    put_le64(p + 24, delete_ms);
    put_le64(p + 32, s->max_secrets);
    put_le64(p + 40, s->max_bytes);
    put_le64(p + 48, s->rate);
    put_le64(p + 56, s->burst);
    put_le64(p + 64, s->recovery_ms);
    put_le16(p + 72, (uint16_t)v->partition.n);
    memcpy(p + VAULT_FIXED_BYTES, v->partition.p, v->partition.n);
    buf_added(out, VAULT_FIXED_BYTES + v->partition.n);
    return ERR_OK;
}

static enum err check_record(struct bytes r)
{
    if (r.n < VAULT_FIXED_BYTES || r.p[0] != VAULT_FORMAT || r.n != VAULT_FIXED_BYTES + (size_t)get_le16(r.p + 72))
        return ERR_CORRUPT;
    return ERR_OK;
}

static struct vault_settings record_settings(const uint8_t *p)
{
    return (struct vault_settings){
        .max_versions = get_le32(p + 4),
        .max_secrets = get_le64(p + 32),
        .max_bytes = get_le64(p + 40),
        .rate = get_le64(p + 48),
        .burst = get_le64(p + 56),
        .recovery_ms = get_le64(p + 64),
    };
}

enum err vault_record_settings(struct bytes record, struct vault_settings *out)
{
    enum err err = check_record(record);
    if (err == ERR_OK)
        *out = record_settings(record.p);
    return err;
}

/* "db" and digits: a database of the string facade. */
static int is_facade_name(struct bytes name)
{
    if (name.n < 3 || name.n > 8 || memcmp(name.p, "db", 2) != 0)
        return 0;
    for (size_t i = 2; i < name.n; i++)
        if (!isdigit(name.p[i]))
            return 0;
    return 1;
}

enum err vault_decode(struct bytes name, struct bytes record, struct vault **out)
{
    struct vault *v = *out = NULL;
    enum err err = check_record(record);
    if (err)
        return err;
    if (!vault_name_ok(name))
        return ERR_CORRUPT;
    size_t plen = get_le16(record.p + 72);
    uint8_t *partition = mem_alloc(plen ? plen : 1);
    v = mem_zalloc(sizeof *v);
    if (!v || !partition) {
        mem_free(partition);
        mem_free(v);
        return ERR_OOM;
    }
    memcpy(partition, record.p + VAULT_FIXED_BYTES, plen);
    v->partition = bytes_of(partition, plen);
    memcpy(v->name, name.p, name.n);
    v->name_len = (uint8_t)name.n;
    v->id = get_le64(record.p + 8);
    v->store = get_le16(record.p + 2);
    v->facade = (uint8_t)is_facade_name(name);
    v->created_ms = get_le64(record.p + 16);
    v->settings = record_settings(record.p);
    v->seq.state = record.p[1];
    atomic_init(&v->state, record.p[1]);
    atomic_init(&v->delete_ms, get_le64(record.p + 24));
    *out = v;
    return ERR_OK;
}

enum err vault_update(struct vaults *vs, struct vault *v, struct bytes record)
{
    enum err err = check_record(record);
    if (err)
        return err;
    struct vault_settings s = record_settings(record.p);
    vault_settings_put(vs, v, &s);
    atomic_store(&v->state, record.p[1]);
    atomic_store(&v->delete_ms, get_le64(record.p + 24));
    if (record.p[1] == VAULT_DELETED)
        vaults_forget_name(vs, v);
    return ERR_OK;
}
