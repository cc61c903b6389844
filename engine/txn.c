/* txn.c - see txn.h. A write's record is built in three places at once: the operations in a scratch buffer, the values
 * staged in the hot table (so that later writes of the same group see them), and the list of what is to be published.
 * txn_commit ties them together; until then txn_abort can take everything back, newest first.
 */
#include "engine/txn.h"

#include "engine/engine_impl.h"

void txn_begin(struct txn *t, struct engine *e, struct group *g, struct write *w, struct buf *ops, struct buf *undo,
               uint64_t lsn, uint32_t term, uint64_t now_ms)
{
    *t = (struct txn){.e = e,
                      .g = g,
                      .w = w,
                      .vault = w->vault,
                      .ops = ops,
                      .undo = undo,
                      .lsn = lsn,
                      .term = term,
                      .now_ms = now_ms,
                      .staged_at = g->staged_n};
    buf_clear(ops);
    buf_clear(undo);
    if (t->vault) {
        t->saved = t->vault->seq;
        vault_settings_get(e->vaults, t->vault, &t->settings);
    }
}

enum err txn_get(struct txn *t, uint16_t store, struct bytes key, struct blob **out)
{
    uint64_t fill;
    if (!hot_peek_staged(t->e->hot, store, key, out, &fill))
        return engine_load(t->e, store, key, fill, out);
    engine_tombstone_is_null(out);
    return ERR_OK;
}

/* The record at lsn in a group's bytes. */
static enum err group_record(const struct group *g, uint64_t lsn, struct bytes *raw)
{
    struct bytes in = buf_bytes(&g->records);
    if (!g->n || lsn < g->first_lsn || lsn > g->last_lsn)
        return ERR_NOTFOUND;
    do {
        if (!bytes_take(&in, get_le32(in.p), raw))
            return ERR_INTERNAL;
    } while (get_le64(raw->p + 8) != lsn && in.n);
    return get_le64(raw->p + 8) == lsn ? ERR_OK : ERR_INTERNAL;
}

enum err txn_gathered_ops(struct txn *t, uint64_t lsn, struct bytes *ops)
{
    struct bytes raw;
    struct record r;
    size_t used;

    *ops = buf_bytes(t->ops);
    if (lsn == t->lsn)
        return ERR_OK;
    enum err err = group_record(t->g, lsn, &raw);
    if (err == ERR_NOTFOUND)
        err = group_record(t->g->before, lsn, &raw);
    if (err || (err = record_get(raw, &r, &used)) != ERR_OK)
        return err;
    *ops = r.blob;
    return ERR_OK;
}

static enum err staged_room(struct group *g)
{
    if (g->staged_n < g->staged_cap)
        return ERR_OK;
    size_t cap = g->staged_cap ? g->staged_cap * 2 : 256;
    struct staged *grown = mem_realloc(g->staged, cap * sizeof *grown);
    if (!grown)
        return ERR_OOM;
    g->staged = grown;
    g->staged_cap = cap;
    return ERR_OK;
}

static enum err stage(struct txn *t, uint16_t store, struct bytes key, struct blob *value)
{
    struct staged *st;
    size_t at = buf_size(t->ops);
    enum err err = staged_room(t->g);

    if (err == ERR_OK)
        err = value->tombstone ? ops_delete(t->ops, store, key) : ops_put(t->ops, store, key, blob_bytes(value));
    if (err)
        goto out;
    st = &t->g->staged[t->g->staged_n];
    *st = (struct staged){.value = value, .key_off = at + OPS_HEADER_BYTES, .key_len = (uint16_t)key.n, .store = store};
    if ((err = hot_stage(t->e->hot, store, key, value, &st->entry)) != ERR_OK)
        goto out;
    t->g->staged_n++;
    return ERR_OK;
out:
    blob_unref(value);
    return err;
}

enum err txn_put(struct txn *t, uint16_t store, struct bytes key, struct blob *value)
{
    return value ? stage(t, store, key, value) : ERR_OOM;
}

enum err txn_put_bytes(struct txn *t, uint16_t store, struct bytes key, struct bytes value)
{
    return txn_put(t, store, key, blob_new(value, value.n, t->lsn));
}

enum err txn_delete(struct txn *t, uint16_t store, struct bytes key)
{
    return txn_put(t, store, key, blob_tombstone(t->lsn));
}

static int counters_moved(const struct txn *t)
{
    const struct vault_seq *now = &t->vault->seq, *was = &t->saved;
    return t->names_changed || now->secrets != was->secrets || now->keys != was->keys || now->bytes != was->bytes ||
           now->flushed_lsn != was->flushed_lsn;
}

int txn_dirty(const struct txn *t)
{
    return t->g->staged_n > t->staged_at || (t->vault && counters_moved(t));
}

static void unstage_down_to(struct txn *t, size_t staged)
{
    while (t->g->staged_n > staged) {
        struct staged *st = &t->g->staged[--t->g->staged_n];
        hot_unstage(t->e->hot, st->entry, st->value);
    }
}

/* Gives the vaults that were entered since their numbers back, newest first. */
static void undo_down_to(struct txn *t, size_t bytes)
{
    while (buf_size(t->undo) > bytes) {
        struct vault_undo u;
        size_t n = buf_size(t->undo) - sizeof u;
        memcpy(&u, buf_data(t->undo) + n, sizeof u);
        u.vault->seq = u.seq;
        buf_truncate(t->undo, n);
    }
}

void txn_abort(struct txn *t)
{
    unstage_down_to(t, t->staged_at);
    if (t->vault)
        t->vault->seq = t->saved;
    undo_down_to(t, 0);
    buf_clear(t->ops);
}

void txn_mark(struct txn *t, struct txn_mark *m)
{
    *m = (struct txn_mark){.staged = t->g->staged_n,
                           .ops = buf_size(t->ops),
                           .undo = buf_size(t->undo),
                           .vault = t->vault,
                           .saved = t->saved,
                           .names_changed = t->names_changed,
                           .entered = t->entered};
    if (t->vault)
        m->seq = t->vault->seq;
}

void txn_rollback(struct txn *t, const struct txn_mark *m)
{
    unstage_down_to(t, m->staged);
    buf_truncate(t->ops, m->ops);
    undo_down_to(t, m->undo);
    t->vault = m->vault;
    t->saved = m->saved;
    t->names_changed = m->names_changed;
    t->entered = m->entered;
    if (t->vault) {
        t->vault->seq = m->seq;
        vault_settings_get(t->e->vaults, t->vault, &t->settings);
    }
}

/* The vault's counters ride in the same record, when it moved them. */
static enum err put_counters(struct txn *t)
{
    struct vault *v = t->vault;
    uint8_t key[16], value[SECRET_COUNTERS_BYTES];

    if (!v)
        return ERR_OK;
    if (t->names_changed)
        v->seq.names_lsn = t->lsn;
    if (!counters_moved(t))
        return ERR_OK;
    struct secret_counters c = {v->seq.secrets, v->seq.keys, v->seq.bytes, v->seq.names_lsn, v->seq.flushed_lsn};
    secret_counters_put(value, &c);
    return txn_put_bytes(t, v->store, secret_key_counters(key, v->id), bytes_of(value, sizeof value));
}

/* The counters of the vault that is left are written now: there may be no other time for it. */
enum err txn_enter(struct txn *t, struct vault *v)
{
    struct vault_undo u = {t->vault, t->saved};
    if (v == t->vault)
        return ERR_OK;
    enum err err = put_counters(t);
    if (err == ERR_OK && t->vault && buf_size(t->undo) == 0)
        err = buf_put(t->undo, &u, sizeof u);
    u = (struct vault_undo){v, v->seq};
    if (err == ERR_OK)
        err = buf_put(t->undo, &u, sizeof u);
    if (err)
        return err;
    t->vault = v;
    t->saved = v->seq;
    t->names_changed = 0;
    t->entered++;
    vault_settings_get(t->e->vaults, v, &t->settings);
    return ERR_OK;
}

/* The one vault that the record is about; NULL: there are several, or none. */
static const struct vault *only_vault(const struct txn *t)
{
    return t->entered <= (t->w->vault == NULL) ? t->vault : NULL;
}

enum err txn_commit(struct txn *t)
{
    struct group *g = t->g;
    size_t start = buf_size(&g->records);
    enum err err = put_counters(t);

    const struct vault *vault = only_vault(t);
    if (err)
        goto fail;
    struct record r = {
        .lsn = t->lsn,
        .term = t->term,
        .type = t->w->steps > 1 ? RECORD_TXN : t->type,
        .flags = t->hmac ? RECORD_HAS_HMAC : 0,
        .vault = vault ? vault->id : 0,
        .shard = vault ? vault->store : 0,
        .time_ms = t->now_ms,
        .key = t->key,
        .blob = buf_bytes(t->ops),
    };
    memcpy(r.token, t->w->token, sizeof r.token);
    if (t->hmac)
        memcpy(r.hmac, t->hmac, sizeof r.hmac);
    if ((err = record_put(&g->records, &r, g->chain)) != ERR_OK)
        goto fail;
    memcpy(g->chain, r.chain, sizeof g->chain);
    for (size_t i = t->staged_at; i < g->staged_n; i++)
        g->staged[i].key_off += start + RECORD_HEADER_BYTES + t->key.n;
    if (g->n++ == 0)
        g->first_lsn = t->lsn;
    g->last_lsn = t->lsn;
    return ERR_OK;
fail:
    txn_abort(t);
    return err;
}

const step_fn step_table[STEP_KINDS] = {
    [STEP_SECRET_SET] = step_secret_set,
    [STEP_SECRET_DELETE] = step_secret_delete,
    [STEP_SECRET_UNDELETE] = step_secret_undelete,
    [STEP_SECRET_DESTROY] = step_secret_destroy,
    [STEP_SECRET_EXPIRE] = step_secret_expire,
    [STEP_SECRET_META] = step_secret_meta,
    [STEP_SECRET_STAGE] = step_secret_stage,
    [STEP_SECRET_READ] = step_secret_read,
    [STEP_SECRET_WATCH] = step_secret_watch,
    [STEP_SECRET_DUE] = step_secret_due,
    [STEP_SECRET_PURGE] = step_secret_purge,
    [STEP_VAULT_FLUSH] = step_vault_flush,
    [STEP_VAULT_FLUSHED] = step_vault_flushed,
    [STEP_VAULT_COUNT] = step_vault_count,
    [STEP_DATABASES_SWAP] = step_databases_swap,
    [STEP_VAULT_CREATE] = step_vault_create,
    [STEP_VAULT_SET] = step_vault_set,
    [STEP_DEK_ADD] = step_dek_add,
    [STEP_KEY_PUT] = step_key_put,
    [STEP_KEY_DESTROY] = step_key_destroy,
    [STEP_USER_PUT] = step_user_put,
    [STEP_USER_DELETE] = step_user_delete,
};
