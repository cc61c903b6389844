/* steps_admin.c - steps on vaults, data keys, customers' keys and users. Sequencer thread only. All of them write full
 * values. */
#include "engine/engine_impl.h"
#include "engine/overlay.h"

#define BASE 0 /* the base store */

/* The shard with the fewest bytes, then the fewest vaults, among those that work; when none does, among those that are
 * being filled. 0: none. */
static uint16_t emptiest_store(struct engine *e)
{
    uint64_t load[ENGINE_STORES_MAX] = {0};
    struct vault *page[64];
    struct bytes after = bytes_of(NULL, 0);
    size_t n;
    uint16_t best = 0;
    struct overlay *o = engine_overlay_take(e);
    int covered = o != NULL;

    overlay_unref(o);
    while ((n = vaults_list(e->vaults, after, 0, page, 64)) > 0) {
        for (size_t i = 0; i < n; i++)
            load[page[i]->store] += atomic_load(&page[i]->bytes) + 1;
        after = bytes_str(page[n - 1]->name);
    }
    for (int working = 1; working >= !covered && !best; working--)
        for (uint16_t s = 1; s <= e->shards; s++)
            if (engine_store_ok(e, s) >= working && (!best || load[s] < load[best]))
                best = s;
    return best;
}

static enum err put_vault(struct txn *t, struct vault *v, struct bytes name, const struct vault_settings *settings,
                          int state, uint64_t delete_ms)
{
    uint8_t key[VAULT_KEY_MAX];
    struct buf record;
    buf_init(&record, 4096);
    enum err err = vault_encode(&record, v, settings, state, delete_ms);
    if (err == ERR_OK)
        err = txn_put_bytes(t, BASE, vault_key(key, name), buf_bytes(&record));
    buf_fini(&record);
    return err;
}

enum err step_vault_create(struct txn *t, struct step *s)
{
    uint8_t key[VAULT_KEY_MAX];
    struct blob *old = NULL;
    struct vault v = {.id = t->lsn, .created_ms = t->now_ms, .partition = s->record, .store = s->store};

    t->type = RECORD_PARTITION;
    t->key = s->path;
    if (!vault_name_ok(s->path))
        return ERR_BADNAME;
    if (s->record.n > VAULT_PARTITION_MAX || s->store > t->e->shards)
        return ERR_RANGE;
    enum err err = txn_get(t, BASE, vault_key(key, s->path), &old);
    if (err)
        return err;
    /* A deleted vault's name is free; its record gives way. */
    int taken = old && !(old->n > 1 && old->data[1] == VAULT_DELETED);
    blob_unref(old);
    if (taken)
        return ERR_VAULTEXISTS;
    if (v.store == 0 && (v.store = emptiest_store(t->e)) == 0)
        return ERR_CORRUPT;
    s->changed = 1;
    return put_vault(t, &v, s->path, s->settings, VAULT_ACTIVE, 0);
}

/* The settings with everything staged: a change before this one may not be durable yet. */
static enum err settings_now(struct txn *t, struct vault_settings *out)
{
    uint8_t key[VAULT_KEY_MAX];
    struct blob *record = NULL;
    enum err err = txn_get(t, BASE, vault_key(key, bytes_str(t->vault->name)), &record);
    if (err == ERR_OK)
        err = record ? vault_record_settings(blob_bytes(record), out) : ERR_CORRUPT;
    blob_unref(record);
    return err;
}

static void settings_take(struct vault_settings *to, const struct vault_settings *from, unsigned fields)
{
    to->max_versions = fields & VAULT_HAS_VERSIONS ? from->max_versions : to->max_versions;
    to->max_secrets = fields & VAULT_HAS_SECRETS ? from->max_secrets : to->max_secrets;
    to->max_bytes = fields & VAULT_HAS_BYTES ? from->max_bytes : to->max_bytes;
    to->rate = fields & VAULT_HAS_RATE ? from->rate : to->rate;
    to->burst = fields & VAULT_HAS_BURST ? from->burst : to->burst;
    to->recovery_ms = fields & VAULT_HAS_RECOVERY ? from->recovery_ms : to->recovery_ms;
}

enum err step_vault_set(struct txn *t, struct step *s)
{
    struct vault *v = t->vault;
    struct vault_settings settings;
    t->type = RECORD_VAULT;
    t->key = bytes_str(v->name);
    if (v->seq.state == VAULT_DELETED)
        return ERR_NOVAULT;
    int state = s->state < 0 ? v->seq.state : s->state;
    enum err err = settings_now(t, &settings);
    if (err == ERR_OK && s->settings)
        settings_take(&settings, s->settings, s->flags ? s->flags : UINT16_MAX);
    if (err == ERR_OK)
        err = put_vault(t, v, t->key, &settings, state, s->when_ms);
    v->seq.state = state;
    s->changed = 1;
    return err;
}

enum err step_dek_add(struct txn *t, struct step *s)
{
    uint8_t key[VAULT_DEK_KEY_BYTES];
    struct vault *v = t->vault;
    t->type = RECORD_PARTITION;
    t->key = bytes_str(v->name);
    if (s->version != v->seq.dek_newest + 1)
        return ERR_CONFLICT;
    if (v->seq.state == VAULT_DELETED)
        return ERR_NOVAULT;
    v->seq.dek_newest = s->version;
    s->changed = 1;
    return txn_put_bytes(t, BASE, vault_dek_key(key, v->id, s->version), s->record);
}

/* ---- keys ---- */

static enum err key_open(struct txn *t, struct step *s, struct blob **old, struct key_record *k)
{
    uint8_t key[KEY_KEY_MAX];
    t->type = RECORD_KEY;
    t->key = s->path;
    memset(k, 0, sizeof *k);
    if (!vault_name_ok(s->path)) /* keys are named like vaults */
        return ERR_BADNAME;
    enum err err = txn_get(t, t->vault->store, key_key(key, t->vault->id, s->path), old);
    return err == ERR_OK && *old ? key_record_get(blob_bytes(*old), k) : err;
}

static enum err key_due_move(struct txn *t, struct bytes name, uint64_t from_ms, uint64_t to_ms)
{
    uint8_t key[KEY_KEY_MAX];
    enum err err = ERR_OK;
    if (from_ms == to_ms)
        return ERR_OK;
    if (from_ms)
        err = txn_delete(t, t->vault->store, key_due_key(key, from_ms, t->vault->id, name));
    if (err == ERR_OK && to_ms)
        err = txn_put_bytes(t, t->vault->store, key_due_key(key, to_ms, t->vault->id, name), bytes_of(NULL, 0));
    return err;
}

/* s->version is the newest version that the caller built its record on, 0: there must be no such key; s->meta, when
 * given, the whole record. */
enum err step_key_put(struct txn *t, struct step *s)
{
    uint8_t key[KEY_KEY_MAX];
    struct blob *old = NULL;
    struct key_record was, now;
    enum err err = key_open(t, s, &old, &was);

    if (err == ERR_OK)
        err = key_record_get(s->record, &now);
    if (err == ERR_OK && t->vault->seq.state != VAULT_ACTIVE)
        err = ERR_KEYSTATE;
    if (err == ERR_OK && old && s->version == 0)
        err = ERR_KEYEXISTS;
    if (err == ERR_OK && !old && s->version != 0)
        err = ERR_NOKEY;
    if (err == ERR_OK && (was.newest != s->version || (old && memcmp(was.id, now.id, sizeof was.id) != 0)))
        err = ERR_CONFLICT;
    if (err == ERR_OK && old && s->meta.n && !bytes_equal(blob_bytes(old), s->meta))
        err = ERR_CONFLICT;
    if (err == ERR_OK)
        err = txn_put_bytes(t, t->vault->store, key_key(key, t->vault->id, s->path), s->record);
    if (err == ERR_OK)
        err = key_due_move(t, s->path, was.delete_ms, now.delete_ms);
    if (err == ERR_OK) {
        t->hmac = s->hmac;
        t->vault->seq.keys += !old;
        t->names_changed |= !old;
        s->changed = 1;
    }
    blob_unref(old);
    return err;
}

/* With expires_ms: only if its deletion is due then and that time has come (the expiry index says so). */
enum err step_key_destroy(struct txn *t, struct step *s)
{
    uint8_t key[KEY_KEY_MAX];
    struct blob *old = NULL;
    struct key_record was;
    enum err err = key_open(t, s, &old, &was);

    t->type = RECORD_TOMBSTONE;
    if (err)
        goto out;
    s->nil = !old || (s->expires_ms && (was.delete_ms != s->expires_ms || was.delete_ms > t->now_ms));
    if (s->nil) {
        /* A stale index entry goes; one that is not due yet stays. */
        if (s->expires_ms && (!old || was.delete_ms != s->expires_ms))
            err = txn_delete(t, t->vault->store, key_due_key(key, s->expires_ms, t->vault->id, s->path));
        goto out;
    }
    err = txn_delete(t, t->vault->store, key_key(key, t->vault->id, s->path));
    if (err == ERR_OK)
        err = key_due_move(t, s->path, was.delete_ms, 0);
    t->vault->seq.keys--;
    t->names_changed = 1;
    s->changed = 1;
out:
    blob_unref(old);
    return err;
}

/* ---- users ---- */

enum err step_user_put(struct txn *t, struct step *s)
{
    uint8_t key[USER_KEY_MAX];
    t->type = RECORD_USER;
    t->key = s->path;
    if (!user_name_ok(s->path))
        return ERR_BADNAME;
    if (s->record.n > USER_RULES_MAX)
        return ERR_TOOBIG;
    struct blob *b = blob_new(bytes_of(NULL, 0), 1 + s->record.n, t->lsn);
    if (!b)
        return ERR_OOM;
    b->data[0] = USER_FORMAT;
    if (s->record.n)
        memcpy(b->data + 1, s->record.p, s->record.n);
    s->changed = 1;
    return txn_put(t, BASE, user_key(key, s->path), b);
}

enum err step_user_delete(struct txn *t, struct step *s)
{
    uint8_t key[USER_KEY_MAX];
    struct blob *old = NULL;
    t->type = RECORD_USER;
    t->key = s->path;
    if (!user_name_ok(s->path))
        return ERR_BADNAME;
    enum err err = txn_get(t, BASE, user_key(key, s->path), &old);
    s->nil = !old;
    blob_unref(old);
    if (err || s->nil)
        return err;
    s->changed = 1;
    return txn_delete(t, BASE, user_key(key, s->path));
}
