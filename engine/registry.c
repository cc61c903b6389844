/* registry.c - the vaults that the engine knows, as the log has them: each committed operation on the base store's
 * vaults and data keys, and on a vault's counters, is looked at, in the order of the log (engine_observe). Those on
 * users are told to the server.
 *
 * At a start they come from the base store when the replay is through; from the snapshot that stands for it when it is
 * lost, and then from each record behind that (recover.c).
 */
#include <time.h>

#include "engine/engine_impl.h"

#define LOADING_MS 5

static enum err observe_vault(struct engine *e, struct bytes name, const struct blob *value)
{
    struct vault *v;
    if (value->n < 16)
        return ERR_CORRUPT;
    if ((v = vaults_find_id(e->vaults, get_le64(value->data + 8))) != NULL)
        return vault_update(e->vaults, v, blob_bytes(value));
    enum err err = vault_decode(name, blob_bytes(value), &v);
    if (err)
        return err;
    if ((err = vaults_add(e->vaults, v)) != ERR_OK) {
        vault_free(v);
        return err;
    }
    if (v->seq.state == VAULT_DELETED)
        vaults_forget_name(e->vaults, v);
    if (e->cfg.on_vault)
        e->cfg.on_vault(e->cfg.arg, v);
    return ERR_OK;
}

static enum err observe_counters(struct vault *v, const struct blob *value)
{
    struct secret_counters c;
    enum err err = secret_counters_get(blob_bytes(value), &c);
    if (err)
        return err;
    atomic_store(&v->secrets, c.secrets);
    atomic_store(&v->keys, c.keys);
    atomic_store(&v->bytes, c.bytes);
    atomic_store(&v->names_lsn, c.names_lsn);
    if (c.flushed_lsn > atomic_load(&v->flushed_lsn))
        atomic_store(&v->flushed_lsn, c.flushed_lsn);
    atomic_store(&v->purge_lsn, c.flushed_lsn);
    return ERR_OK;
}

static enum err observe_user(struct engine *e, struct bytes name, const struct blob *value)
{
    struct bytes rules = {NULL, 0};
    enum err err = value->tombstone ? ERR_OK : user_rules(blob_bytes(value), &rules);
    return err || !e->cfg.on_user ? err : e->cfg.on_user(e->cfg.arg, name, rules);
}

enum err engine_observe(struct engine *e, struct bytes key, const struct blob *value)
{
    if (key.p[0] == 'U')
        return observe_user(e, bytes_of(key.p + 1, key.n - 1), value);
    if (value->tombstone)
        return ERR_OK;
    if (key.p[0] == 'V')
        return observe_vault(e, bytes_of(key.p + 1, key.n - 1), value);
    if (key.p[0] == DATABASES_KEY)
        return databases_load(e->databases, blob_bytes(value));
    struct vault *v = key.n >= 9 ? vaults_find_id(e->vaults, get_be64(key.p + 1)) : NULL;
    if (!v)
        return ERR_CORRUPT;
    if (key.p[0] == 'c')
        return observe_counters(v, value);
    if (key.n == VAULT_DEK_KEY_BYTES && get_be32(key.p + 9) > atomic_load(&v->dek_newest))
        atomic_store(&v->dek_newest, get_be32(key.p + 9));
    return ERR_OK;
}

/* value.p NULL: it was deleted. */
static enum err observe_bytes(struct engine *e, struct bytes key, struct bytes value, uint64_t lsn)
{
    struct blob *b = value.p ? blob_new(value, value.n, lsn) : blob_tombstone(lsn);
    enum err err = b ? engine_observe(e, key, b) : ERR_OOM;
    blob_unref(b);
    return err;
}

static struct bytes value_of(const struct op *op)
{
    return op->kind == OPS_PUT ? op->value : bytes_of(NULL, 0);
}

enum err engine_take_record(struct engine *e, const struct record *r)
{
    struct bytes rest = r->blob;
    struct op op;
    enum err err;

    while ((err = ops_next(&rest, &op)) == ERR_OK)
        if (engine_observes(op.key) && (err = observe_bytes(e, op.key, value_of(&op), r->lsn)) != ERR_OK)
            return err;
    return err == ERR_END ? apply_record(e->hot, r, NULL, e->shards + 1) : err;
}

void engine_tell_records(struct engine *e, struct bytes records, const struct mpsc_node *writes)
{
    if (!e->cfg.records_wanted)
        return;
    atomic_thread_fence(memory_order_seq_cst); /* what is visible, and then the look; whoever wants it the other way */
    if (atomic_load_explicit(e->cfg.records_wanted, memory_order_relaxed))
        e->cfg.on_records(e->cfg.arg, records, writes);
}

/* A data key of a vault whose name was given to a new one is nobody's. */
static enum err observe_found(struct engine *e, struct bytes key, struct bytes value, uint64_t lsn)
{
    enum err err = observe_bytes(e, key, value, lsn);
    return err == ERR_CORRUPT && key.p[0] == 'D' ? ERR_OK : err;
}

static enum err observe_store(struct engine *e, uint8_t kind)
{
    struct store_iter *it;
    struct bytes payload;
    uint64_t lsn;
    enum err err = store_iter_new(e->stores[0], &it);
    if (err)
        return err;
    for (store_iter_seek(it, bytes_of(&kind, 1)); err == ERR_OK && store_iter_valid(it); store_iter_next(it)) {
        struct bytes key = store_iter_key(it);
        if (key.p[0] != kind)
            break;
        if ((err = store_iter_value(it, &payload, &lsn)) == ERR_OK)
            err = observe_found(e, key, payload, lsn);
    }
    if (err == ERR_OK)
        err = store_iter_status(it);
    store_iter_free(it);
    return err;
}

static enum err observe_snapshot(struct engine *e, struct snapread *r, uint8_t kind)
{
    const uint8_t wanted[3] = {0, 0, kind}; /* the base store, and the key's first byte */
    struct snapread_iter *it;
    struct snapfile_entry entry;
    enum err err = snapread_iter_new(r, 0, bytes_of(&kind, 1), &it);
    while (err == ERR_OK && (err = snapread_iter_next(it, &entry)) == ERR_OK) {
        if (entry.key.n < sizeof wanted || memcmp(entry.key.p, wanted, sizeof wanted) != 0)
            break;
        err = observe_found(e, bytes_of(entry.key.p + 2, entry.key.n - 2), entry.value, entry.lsn);
    }
    snapread_iter_free(it);
    return err == ERR_END ? ERR_OK : err;
}

static const uint8_t kinds[] = {'V', 'D', 'U',
                                DATABASES_KEY}; /* of the base store's keys, vaults before what is theirs */

enum err registry_from_snapshot(struct engine *e, struct snapread *r)
{
    enum err err = ERR_OK;
    for (size_t i = 0; i < sizeof kinds && err == ERR_OK; i++)
        err = observe_snapshot(e, r, kinds[i]);
    return err;
}

enum err registry_from_record(struct engine *e, const struct record *r)
{
    struct bytes ops = r->blob;
    struct op op;
    enum err err = ERR_OK;
    while (err == ERR_OK && ops_next(&ops, &op) == ERR_OK)
        if (op.store == 0 && memchr(kinds, op.key.p[0], sizeof kinds))
            err = observe_found(e, op.key, value_of(&op), r->lsn);
    return err;
}

/* Counters from the shard, and the sequencer's view of it all. */
static enum err load_counters(struct engine *e, struct vault *v)
{
    const struct timespec moment = {.tv_nsec = LOADING_MS * 1000000L};
    uint8_t key[16];
    struct blob *b = NULL;
    enum err err;
    while ((err = engine_get(e, v->store, secret_key_counters(key, v->id), &b)) == ERR_LOADING)
        nanosleep(&moment, NULL); /* for the rebuild's thread to go to an older snapshot */
    if (err == ERR_OK && b)
        err = observe_counters(v, b);
    blob_unref(b);
    v->seq = (struct vault_seq){.secrets = atomic_load(&v->secrets),
                                .keys = atomic_load(&v->keys),
                                .bytes = atomic_load(&v->bytes),
                                .names_lsn = atomic_load(&v->names_lsn),
                                .flushed_lsn = atomic_load(&v->purge_lsn),
                                .dek_newest = atomic_load(&v->dek_newest),
                                .state = atomic_load(&v->state)};
    return err;
}

/* *store: the one that was read last. */
static enum err view_all(struct engine *e, unsigned *store)
{
    struct vault *page[64];
    struct bytes after = bytes_of(NULL, 0);
    size_t n;
    enum err err = ERR_OK;
    while (err == ERR_OK && (n = vaults_list(e->vaults, after, 0, page, 64)) > 0) {
        for (size_t i = 0; i < n && err == ERR_OK; i++) {
            *store = page[i]->store;
            err = load_counters(e, page[i]);
        }
        after = bytes_str(page[n - 1]->name);
    }
    return err;
}

enum err engine_view_all(struct engine *e)
{
    unsigned store;
    return view_all(e, &store);
}

static enum err read_vaults(struct engine *e, int has_base, unsigned *store)
{
    *store = 0;
    enum err err = ERR_OK;
    for (size_t i = 0; i < sizeof kinds && err == ERR_OK && has_base; i++)
        err = observe_store(e, kinds[i]);
    return err ? err : view_all(e, store);
}

/* Damage in what a start reads of a store has that one made anew, as damage that traffic finds does. */
enum err registry_load(struct engine *e, int has_base)
{
    unsigned store, mended = ENGINE_STORES_MAX;
    enum err err;
    while ((err = read_vaults(e, has_base, &store)) == ERR_CORRUPT || err == ERR_IO) {
        if (store == mended || rebuild_now(e->rebuild, store) != ERR_OK)
            break;
        mended = store;
    }
    return err ? engine_refuse(e, err, "the vaults and users in %s %u do not verify, and it could not be rebuilt",
                               store ? "shard" : "base store", store ? store - 1 : 0)
               : ERR_OK;
}
