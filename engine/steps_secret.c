/* steps_secret.c - what each kind of step does to a secret. For the sequencer only.
 *
 * A step opens an *edit*: the head as it is (staged state included), its lists copied into scratch where they can be
 * changed. It looks at conditions first and touches nothing before they hold. Then it changes the edit, and edit_write
 * stages the new head, moves the expiry index along, and keeps the vault's counters. A value that leaves the head stays
 * where it came from, in the log; one that never was in it has a key of its own (secret.h).
 *
 * The new value is sealed here and not earlier, because the ciphertext is bound to its version, and only the sequencer
 * knows the version; it is sealed straight into the new head's memory.
 */
#include "engine/engine_impl.h"

#define LABEL_BYTES_MAX (SECRET_LABELS_MAX * (1 + SECRET_LABEL_MAX + 4))

struct edit {
    struct txn *t;
    struct bytes path;
    struct blob *old; /* what h's borrowed parts point into, NULL: there is no head */
    struct secret_head h;
    uint64_t due_ms; /* in the expiry index now */
    int was_visible;
    struct secret_version version[SECRET_VERSIONS_MAX]; /* h.versions of them, oldest first */
    uint8_t list[SECRET_VERSIONS_MAX * SECRET_VERSION_BYTES_MAX];
    uint8_t labels[LABEL_BYTES_MAX];
    uint16_t
        freed[SECRET_VERSIONS_MAX]; /* slots of versions that went: taken again, or deleted when the edit is written */
    unsigned freed_n;
};

static enum err edit_open(struct edit *ed, struct txn *t, struct bytes path)
{
    uint8_t key[SECRET_KEY_MAX];
    enum err err = txn_get(t, t->vault->store, secret_key_head(key, t->vault->id, path), &ed->old);

    ed->t = t;
    ed->path = path;
    ed->due_ms = 0;
    ed->was_visible = 0;
    ed->freed_n = 0;
    memset(&ed->h, 0, sizeof ed->h);
    ed->h.label_bytes.p = ed->labels;
    if (t->key.n == 0)
        t->key = path;
    if (err || !ed->old)
        return err;
    if ((err = secret_head_get(blob_bytes(ed->old), &ed->h)) != ERR_OK)
        return err;
    if (ed->h.versions >= SECRET_VERSIONS_MAX || ed->h.label_bytes.n > sizeof ed->labels)
        return ERR_CORRUPT;
    if ((err = secret_versions_get(&ed->h, ed->version)) != ERR_OK)
        return err;
    if (ed->h.label_bytes.n)
        memcpy(ed->labels, ed->h.label_bytes.p, ed->h.label_bytes.n);
    ed->h.label_bytes.p = ed->labels;
    ed->due_ms = secret_due_ms(&ed->h);
    ed->was_visible = secret_visible(&ed->h, t->now_ms);
    return ERR_OK;
}

static void edit_close(struct edit *ed)
{
    blob_unref(ed->old);
}

/* ---- parts of an edit ---- */

/* The lowest slot that no kept version has; one that was freed in this edit comes first. */
static uint16_t slot_take(struct edit *ed)
{
    uint64_t used[(SECRET_VERSIONS_MAX + 63) / 64] = {0};
    if (ed->freed_n)
        return ed->freed[--ed->freed_n];
    for (unsigned i = 0; i < ed->h.versions; i++)
        if (ed->version[i].slot < SECRET_VERSIONS_MAX)
            used[ed->version[i].slot / 64] |= 1ull << ed->version[i].slot % 64;
    uint16_t slot = 0;
    while (used[slot / 64] >> slot % 64 & 1)
        slot++;
    return slot;
}

static enum err slots_delete_freed(struct edit *ed)
{
    uint8_t key[SECRET_KEY_MAX];
    enum err err = ERR_OK;
    while (err == ERR_OK && ed->freed_n)
        err = txn_delete(ed->t, ed->t->vault->store,
                         secret_key_slot(key, ed->t->vault->id, ed->path, ed->freed[--ed->freed_n]));
    return err;
}

/* The value leaves the head. The record that brought it is in the log. */
static void drop_inline_value(struct edit *ed)
{
    ed->h.flags &= (uint8_t)~SECRET_CURRENT_INLINE;
    ed->h.value.raw = bytes_of(NULL, 0);
}

static void label_remove_at(struct edit *ed, uint8_t *p)
{
    size_t n = 1 + (size_t)p[0] + 4;
    uint8_t *end = ed->labels + ed->h.label_bytes.n;
    memmove(p, p + n, (size_t)(end - (p + n)));
    ed->h.label_bytes.n -= n;
    ed->h.labels--;
}

/* Removes the labels that match name (when it is not empty) or point at version (when it is not 0). */
static void labels_remove(struct edit *ed, struct bytes name, uint32_t version)
{
    uint8_t *p = ed->labels;
    while (p < ed->labels + ed->h.label_bytes.n) {
        struct bytes here = bytes_of(p + 1, p[0]);
        if ((name.n && bytes_equal(name, here)) || (version && get_le32(p + 1 + p[0]) == version))
            label_remove_at(ed, p);
        else
            p += 1 + p[0] + 4;
    }
}

static enum err label_set(struct edit *ed, struct bytes name, uint32_t version)
{
    labels_remove(ed, name, 0);
    if (ed->h.labels >= SECRET_LABELS_MAX || name.n > SECRET_LABEL_MAX)
        return ERR_RANGE;
    uint8_t *p = ed->labels + ed->h.label_bytes.n;
    p[0] = (uint8_t)name.n;
    memcpy(p + 1, name.p, name.n);
    put_le32(p + 1 + name.n, version);
    ed->h.label_bytes.n += 1 + name.n + 4;
    ed->h.labels++;
    return ERR_OK;
}

/* The kept version of this number; NULL: none. */
static const struct secret_version *version_of(const struct edit *ed, uint32_t version)
{
    for (unsigned i = ed->h.versions; i-- > 0;)
        if (ed->version[i].version == version)
            return &ed->version[i];
    return NULL;
}

/* Takes the i-th version off the list, with its labels and bytes; its slot is free. */
static void version_drop(struct edit *ed, unsigned i)
{
    struct secret_version v = ed->version[i];
    ed->h.versions--;
    memmove(&ed->version[i], &ed->version[i + 1], (ed->h.versions - i) * sizeof v);
    ed->t->vault->seq.bytes -= v.sealed_bytes;
    labels_remove(ed, bytes_of(NULL, 0), v.version);
    if (v.slot != SECRET_NO_SLOT)
        ed->freed[ed->freed_n++] = v.slot;
    if (ed->h.previous == v.version)
        ed->h.previous = 0;
    if (ed->h.current == v.version) {
        ed->h.current = 0;
        drop_inline_value(ed);
    }
}

static void versions_drop_all(struct edit *ed)
{
    while (ed->h.versions)
        version_drop(ed, ed->h.versions - 1u);
}

static void version_append(struct edit *ed, uint32_t version, uint32_t sealed_bytes, uint16_t slot)
{
    ed->version[ed->h.versions++] = (struct secret_version){
        .version = version, .created_ms = ed->t->now_ms, .lsn = ed->t->lsn, .sealed_bytes = sealed_bytes, .slot = slot};
    ed->t->vault->seq.bytes += sealed_bytes;
}

/* Makes room for one more version: the oldest go. CURRENT stays unless the newcomer takes its place. */
static void versions_make_room(struct edit *ed, int current_may_go)
{
    while (ed->h.versions && ed->h.versions >= ed->t->settings.max_versions) {
        int pinned = ed->version[0].version == ed->h.current && !current_may_go;
        if (pinned && ed->h.versions == 1)
            return;
        version_drop(ed, pinned);
    }
}

/* Sets or clears the soft-deleted mark of every version. */
static void versions_mark_deleted(struct edit *ed, int deleted)
{
    for (unsigned i = 0; i < ed->h.versions; i++) {
        uint8_t *flags = &ed->version[i].flags;
        *flags = deleted ? *flags | SECRET_VERSION_DELETED : *flags & (uint8_t)~SECRET_VERSION_DELETED;
    }
}

static int any_deleted(const struct edit *ed)
{
    for (unsigned i = 0; i < ed->h.versions; i++)
        if (ed->version[i].flags & SECRET_VERSION_DELETED)
            return 1;
    return 0;
}

/* Moves the expiry index from what it was to due_ms. */
static enum err due_move(struct edit *ed, uint64_t due_ms)
{
    uint8_t key[SECRET_KEY_MAX];
    struct txn *t = ed->t;
    enum err err = ERR_OK;

    if (due_ms == ed->due_ms)
        return ERR_OK;
    if (ed->due_ms)
        err = txn_delete(t, t->vault->store, secret_key_due(key, ed->due_ms, t->vault->id, ed->path));
    if (err == ERR_OK && due_ms)
        err = txn_put_bytes(t, t->vault->store, secret_key_due(key, due_ms, t->vault->id, ed->path), bytes_of(NULL, 0));
    ed->due_ms = due_ms;
    return err;
}

/* Stages the new head. With plain its inline value is sealed in place; h.value.raw.n then is the sealed size and .p
 * NULL. */
static enum err edit_write(struct edit *ed, struct plain *plain)
{
    uint8_t key[SECRET_KEY_MAX];
    struct txn *t = ed->t;
    if (ed->h.purge_ms && !any_deleted(ed)) /* the last of them gave way to a newcomer, or was destroyed */
        ed->h.purge_ms = 0;
    ed->h.version_bytes = bytes_of(ed->list, secret_versions_put(ed->list, ed->version, ed->h.versions));
    size_t n = secret_head_size(&ed->h);
    struct blob *b = blob_new(bytes_of(NULL, 0), n, t->lsn);
    enum err err = ERR_OOM;

    if (!b)
        return err;
    secret_head_put(&ed->h, b->data);
    if (plain) {
        struct seal_bind bind = {.vault = t->vault->id, .version = ed->h.current, .path = ed->path};
        if ((err = t->e->cfg.sealer->seal(plain, &bind, b->data + n - ed->h.value.raw.n)) != ERR_OK) {
            blob_unref(b);
            return err;
        }
    }
    err = txn_put(t, t->vault->store, secret_key_head(key, t->vault->id, ed->path), b);
    if (err == ERR_OK)
        err = slots_delete_freed(ed);
    if (err == ERR_OK)
        err = due_move(ed, secret_due_ms(&ed->h));
    if (!ed->old)
        t->vault->seq.secrets++;
    t->names_changed |= ed->was_visible != secret_visible(&ed->h, t->now_ms);
    return err;
}

/* Everything goes but, in vaults that count versions for ever, the last number. */
static enum err edit_destroy(struct edit *ed)
{
    uint8_t key[SECRET_KEY_MAX], last[4];
    struct txn *t = ed->t;
    versions_drop_all(ed);
    enum err err = slots_delete_freed(ed);
    if (err == ERR_OK)
        err = due_move(ed, 0);
    if (err == ERR_OK)
        err = txn_delete(t, t->vault->store, secret_key_head(key, t->vault->id, ed->path));
    if (err == ERR_OK && !t->vault->facade) {
        put_le32(last, ed->h.last_version);
        err = txn_put_bytes(t, t->vault->store, secret_key_last(key, t->vault->id, ed->path),
                            bytes_of(last, sizeof last));
    }
    t->vault->seq.secrets--;
    t->names_changed = 1;
    t->type = RECORD_TOMBSTONE;
    return err;
}

static enum err vault_writable(const struct txn *t)
{
    return t->vault->seq.state == VAULT_ACTIVE ? ERR_OK : ERR_KEYSTATE;
}

/* ---- SET ---- */

/* A path that was destroyed goes on counting where it stopped. */
static enum err last_version_of_destroyed(struct edit *ed)
{
    uint8_t key[SECRET_KEY_MAX];
    struct txn *t = ed->t;
    struct blob *b = NULL;

    if (t->vault->facade)
        return ERR_OK;
    struct bytes k = secret_key_last(key, t->vault->id, ed->path);
    enum err err = txn_get(t, t->vault->store, k, &b);
    if (err == ERR_OK && b) {
        if (b->n != 4)
            err = ERR_CORRUPT;
        else
            ed->h.last_version = get_le32(b->data);
        if (err == ERR_OK)
            err = txn_delete(t, t->vault->store, k);
    }
    blob_unref(b);
    return err;
}

/* 1: go on; 0: the step ends with s->nil set or the error returned in *err. */
static int set_allowed(const struct edit *ed, struct step *s, enum err *err)
{
    *err = ERR_OK;
    if (((s->flags & SET_NX) && ed->was_visible) || ((s->flags & SET_XX) && !ed->was_visible)) {
        s->nil = 1;
        return 0;
    }
    if ((s->flags & SET_CAS) && s->version != (ed->was_visible ? ed->h.current : 0))
        *err = ERR_CONFLICT;
    return *err == ERR_OK;
}

/* When what gives way to the newcomer is gone already: a full vault can still be written over. */
static enum err set_quota(const struct edit *ed, size_t sealed_bytes)
{
    const struct txn *t = ed->t;
    if (t->settings.max_secrets && !ed->old && t->vault->seq.secrets >= t->settings.max_secrets)
        return ERR_QUOTA;
    if (t->settings.max_bytes && t->vault->seq.bytes + sealed_bytes > t->settings.max_bytes)
        return ERR_QUOTA;
    return ERR_OK;
}

static int expired(const struct edit *ed)
{
    return ed->old && ed->h.expires_ms && ed->h.expires_ms <= ed->t->now_ms;
}

/* What an expired secret left behind is gone for the newcomer. */
static void clear_expired(struct edit *ed)
{
    if (!expired(ed))
        return;
    versions_drop_all(ed);
    ed->h.state = SECRET_ACTIVE;
    ed->h.meta = bytes_of(NULL, 0);
    ed->h.purge_ms = ed->h.expires_ms = 0;
}

/* A value too large for the head, or not CURRENT: sealed into a slot of its own. */
static enum err set_apart(struct edit *ed, struct step *s, uint32_t version, size_t sealed_bytes, uint16_t slot)
{
    uint8_t key[SECRET_KEY_MAX];
    struct txn *t = ed->t;
    struct seal_bind bind = {.vault = t->vault->id, .version = version, .path = ed->path};
    struct blob *b = blob_new(bytes_of(NULL, 0), sealed_bytes, t->lsn);

    if (!b)
        return ERR_OOM;
    enum err err = t->e->cfg.sealer->seal(s->plain, &bind, b->data);
    if (err) {
        blob_unref(b);
        return err;
    }
    return txn_put(t, t->vault->store, secret_key_slot(key, t->vault->id, ed->path, slot), b);
}

static enum err set_version(struct edit *ed, struct step *s, uint32_t version)
{
    size_t sealed_bytes = ed->t->e->cfg.sealer->size(s->plain);
    int make_current = !(s->flags & SET_PENDING);
    int in_head = make_current && sealed_bytes <= SECRET_INLINE_MAX;
    versions_make_room(ed, make_current);
    enum err err = set_quota(ed, sealed_bytes);
    if (err)
        return err;
    if (make_current)
        drop_inline_value(ed);
    uint16_t slot = in_head ? SECRET_NO_SLOT : slot_take(ed);
    version_append(ed, version, (uint32_t)sealed_bytes, slot);
    ed->h.last_version = version;
    if (make_current) {
        ed->h.previous = ed->h.state == SECRET_ACTIVE ? ed->h.current : 0;
        ed->h.current = version;
        ed->h.state = SECRET_ACTIVE;
    }
    if (err == ERR_OK && s->label.n)
        err = label_set(ed, s->label, version);
    if (err == ERR_OK && !in_head)
        err = set_apart(ed, s, version, sealed_bytes, slot);
    if (err)
        return err;
    if (in_head) {
        ed->h.flags |= SECRET_CURRENT_INLINE;
        ed->h.value.raw = bytes_of(NULL, sealed_bytes);
    }
    return edit_write(ed, in_head ? s->plain : NULL);
}

/* A value that was in the head once: from the record that brought it, which may not be in the log yet. */
static enum err value_from_log(struct edit *ed, const struct secret_version *v, struct blob **out)
{
    uint8_t key[SECRET_KEY_MAX];
    struct vault *vault = ed->t->vault;
    struct sealed value;
    struct bytes ops;

    *out = NULL;
    enum err err = txn_gathered_ops(ed->t, v->lsn, &ops);
    if (err == ERR_NOTFOUND)
        return engine_logged_value(ed->t->e, vault, ed->path, v, out);
    if (err == ERR_OK)
        err = secret_value_in_ops(ops, secret_key_head(key, vault->id, ed->path), v->version, &value);
    if (err == ERR_OK && !(*out = blob_new(value.raw, value.raw.n, v->lsn)))
        err = ERR_OOM;
    return err == ERR_NOTFOUND ? ERR_CORRUPT : err;
}

/* Hands the CURRENT value as it is now to the submitter (GETSET, GETDEL, SET ... GET). */
static enum err give_old(struct edit *ed, struct step *s)
{
    uint8_t key[SECRET_KEY_MAX];
    struct txn *t = ed->t;
    enum err err;

    if (!(s->flags & SET_OLD) || !ed->was_visible || !ed->h.current) /* there may be a pending version only */
        return ERR_OK;
    s->old.version = ed->h.current;
    if (ed->h.flags & SECRET_CURRENT_INLINE) {
        s->old.hold = blob_ref(ed->old);
        s->old.value = ed->h.value;
        return ERR_OK;
    }
    const struct secret_version *v = version_of(ed, ed->h.current);
    if (!v)
        return ERR_CORRUPT;
    if (v->slot == SECRET_NO_SLOT)
        err = value_from_log(ed, v, &s->old.hold);
    else
        err = txn_get(t, t->vault->store, secret_key_slot(key, t->vault->id, ed->path, v->slot), &s->old.hold);
    if (err == ERR_OK && !s->old.hold)
        err = ERR_CORRUPT;
    if (err == ERR_OK)
        s->old.value.raw = blob_bytes(s->old.hold);
    return err;
}

enum err step_secret_set(struct txn *t, struct step *s)
{
    struct edit ed;
    enum err err = edit_open(&ed, t, s->path);

    if (err == ERR_OK)
        err = vault_writable(t);
    if (err == ERR_OK)
        err = give_old(&ed, s);
    if (err || !set_allowed(&ed, s, &err))
        goto out;
    /* It would bring nothing back, and be purged with the rest. */
    if ((s->flags & SET_PENDING) && ed.old && ed.h.state == SECRET_DELETED && !expired(&ed)) {
        err = ERR_KEYSTATE;
        goto out;
    }
    clear_expired(&ed);
    if (!ed.old && (err = last_version_of_destroyed(&ed)) != ERR_OK)
        goto out;
    if (ed.h.last_version == UINT32_MAX) {
        err = ERR_RANGE;
        goto out;
    }
    if (!(s->flags & SET_KEEPTTL))
        ed.h.expires_ms = s->expires_ms;
    if (s->flags & SET_META)
        ed.h.meta = s->meta;
    t->type = RECORD_PUT;
    if ((err = set_version(&ed, s, ed.h.last_version + 1)) == ERR_OK) {
        s->out_version = ed.h.last_version;
        s->changed = 1;
    }
out:
    edit_close(&ed);
    return err;
}

/* ---- the others: each a condition, a change, a write ---- */

/* Opens what must be visible; s->nil when it is not. 1: go on. */
static int open_visible(struct edit *ed, struct txn *t, struct step *s, enum err *err)
{
    *err = edit_open(ed, t, s->path);
    if (*err == ERR_OK)
        *err = vault_writable(t);
    if (*err)
        return 0;
    s->nil = !ed->was_visible;
    t->type = RECORD_PUT;
    return ed->was_visible;
}

enum err step_secret_delete(struct txn *t, struct step *s)
{
    struct edit ed;
    enum err err;
    if (open_visible(&ed, t, s, &err)) {
        versions_mark_deleted(&ed, 1);
        ed.h.state = SECRET_DELETED;
        ed.h.purge_ms = t->now_ms + t->settings.recovery_ms;
        err = edit_write(&ed, NULL);
        s->changed = 1;
    }
    edit_close(&ed);
    return err;
}

enum err step_secret_undelete(struct txn *t, struct step *s)
{
    struct edit ed;
    enum err err = edit_open(&ed, t, s->path);
    if (err == ERR_OK)
        err = vault_writable(t);
    s->nil = !ed.old || !ed.h.purge_ms || (ed.h.expires_ms && ed.h.expires_ms <= t->now_ms);
    if (err == ERR_OK && !s->nil) {
        versions_mark_deleted(&ed, 0);
        ed.h.state = SECRET_ACTIVE;
        ed.h.purge_ms = 0;
        t->type = RECORD_PUT;
        err = edit_write(&ed, NULL);
        s->changed = 1;
    }
    edit_close(&ed);
    return err;
}

/* The newest version that is left, of those that are not soft-deleted unless any will do; 0: none. */
static uint32_t newest_left(const struct edit *ed, int any)
{
    for (unsigned i = ed->h.versions; i-- > 0;)
        if (any || !(ed->version[i].flags & SECRET_VERSION_DELETED))
            return ed->version[i].version;
    return 0;
}

/* One version goes; when it was CURRENT the newest that is left takes its place. When all that are left are
 * soft-deleted, so is the secret. */
static enum err destroy_version(struct edit *ed, struct step *s)
{
    unsigned i = 0;
    while (i < ed->h.versions && ed->version[i].version != s->version)
        i++;
    if ((s->nil = i == ed->h.versions))
        return ERR_OK;
    s->out_version = 1;
    s->changed = 1;
    if (ed->h.versions == 1)
        return edit_destroy(ed);
    int was_current = ed->h.current == s->version;
    version_drop(ed, i);
    if (was_current) {
        ed->h.current = newest_left(ed, ed->h.state == SECRET_DELETED);
        if (!ed->h.current) {
            ed->h.state = SECRET_DELETED;
            ed->h.current = newest_left(ed, 1);
        }
    }
    if (ed->h.previous == ed->h.current)
        ed->h.previous = 0;
    return edit_write(ed, NULL);
}

enum err step_secret_destroy(struct txn *t, struct step *s)
{
    struct edit ed;
    enum err err = edit_open(&ed, t, s->path);
    if (err == ERR_OK)
        err = vault_writable(t);
    if (err == ERR_OK)
        err = give_old(&ed, s);
    if (err)
        goto out;
    s->nil = !ed.old || (ed.h.expires_ms && ed.h.expires_ms <= t->now_ms);
    t->type = RECORD_TOMBSTONE;
    if (s->nil)
        goto out;
    if (s->version) {
        err = destroy_version(&ed, s);
    } else {
        s->out_version = ed.h.versions;
        s->changed = 1;
        err = edit_destroy(&ed);
    }
out:
    edit_close(&ed);
    return err;
}

static int expire_allowed(const struct edit *ed, const struct step *s)
{
    uint64_t now = ed->h.expires_ms ? ed->h.expires_ms : UINT64_MAX;
    uint64_t then = s->expires_ms ? s->expires_ms : UINT64_MAX;
    if ((s->flags & SET_HASTTL) && !ed->h.expires_ms)
        return 0;
    if ((s->flags & SET_NOTTL) && ed->h.expires_ms)
        return 0;
    return !((s->flags & SET_GT) && then <= now) && !((s->flags & SET_LT) && then >= now);
}

enum err step_secret_expire(struct txn *t, struct step *s)
{
    struct edit ed;
    enum err err;
    if (open_visible(&ed, t, s, &err)) {
        s->nil = !expire_allowed(&ed, s) || (s->expires_ms == 0 && ed.h.expires_ms == 0);
        if (!s->nil) {
            ed.h.expires_ms = s->expires_ms;
            err = edit_write(&ed, NULL);
            s->changed = 1;
        }
    }
    edit_close(&ed);
    return err;
}

enum err step_secret_meta(struct txn *t, struct step *s)
{
    struct edit ed;
    enum err err;
    if (open_visible(&ed, t, s, &err)) {
        ed.h.meta = s->meta;
        err = edit_write(&ed, NULL);
        s->changed = 1;
    }
    edit_close(&ed);
    return err;
}

enum err step_secret_stage(struct txn *t, struct step *s)
{
    struct edit ed;
    enum err err;

    if (open_visible(&ed, t, s, &err)) {
        const struct secret_version *v = version_of(&ed, s->version);
        if (!v || v->flags & SECRET_VERSION_DELETED) {
            s->nil = 1;
        } else if (!bytes_equal(s->label, bytes_str("CURRENT"))) {
            if (bytes_equal(s->label, bytes_str("PREVIOUS")))
                ed.h.previous = s->version;
            else
                err = label_set(&ed, s->label, s->version);
        } else if (s->version != ed.h.current) {
            drop_inline_value(&ed);
            ed.h.previous = ed.h.current;
            ed.h.current = s->version;
        }
        if (err == ERR_OK && !s->nil) {
            err = edit_write(&ed, NULL);
            s->changed = 1;
        }
    }
    edit_close(&ed);
    return err;
}

/* ---- what the expiry index says is due ---- */

static enum err purge_deleted(struct edit *ed)
{
    for (unsigned i = ed->h.versions; i-- > 0;)
        if (ed->version[i].flags & SECRET_VERSION_DELETED)
            version_drop(ed, i);
    ed->h.purge_ms = 0;
    return edit_write(ed, NULL);
}

enum err step_secret_due(struct txn *t, struct step *s)
{
    struct edit ed;
    uint8_t key[SECRET_KEY_MAX];
    enum err err = edit_open(&ed, t, s->path);

    if (err)
        goto out;
    t->type = RECORD_TOMBSTONE;
    if (!ed.old || ed.due_ms != s->expires_ms) { /* an entry that lost its secret: must not be looked at for ever */
        err = txn_delete(t, t->vault->store, secret_key_due(key, s->expires_ms, t->vault->id, s->path));
    } else if (ed.due_ms > t->now_ms) {
        s->nil = 1;
    } else if (ed.due_ms == ed.h.expires_ms || ed.h.state == SECRET_DELETED) {
        err = edit_destroy(&ed);
    } else {
        err = purge_deleted(&ed);
    }
    s->changed = !s->nil;
out:
    edit_close(&ed);
    return err;
}
