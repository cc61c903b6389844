/* steps_secret.c - what each kind of step does to a secret. For the sequencer only.
 *
 * A step opens an *edit* (edit.h), looks at conditions first and touches nothing before they hold; then it changes the
 * edit and writes it.
 *
 * The new value is sealed here and not earlier, because the ciphertext is bound to its version, and only the sequencer
 * knows the version; it is sealed straight into the new head's memory.
 */
#include "engine/edit.h"

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
    edit_drop_all(ed);
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
    edit_make_room(ed, make_current);
    enum err err = set_quota(ed, sealed_bytes);
    if (err)
        return err;
    if (make_current)
        edit_drop_inline(ed);
    uint16_t slot = in_head ? SECRET_NO_SLOT : edit_slot_take(ed);
    edit_append(ed, version, (uint32_t)sealed_bytes, slot);
    ed->h.last_version = version;
    if (make_current) {
        ed->h.previous = ed->h.state == SECRET_ACTIVE ? ed->h.current : 0;
        ed->h.current = version;
        ed->h.state = SECRET_ACTIVE;
    }
    if (err == ERR_OK && s->label.n)
        err = edit_label_set(ed, s->label, version);
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
    s->old.expires_ms = ed->h.expires_ms;
    if (ed->h.flags & SECRET_CURRENT_INLINE) {
        s->old.hold = blob_ref(ed->old);
        s->old.value = ed->h.value;
        return ERR_OK;
    }
    const struct secret_version *v = edit_version(ed, ed->h.current);
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
    if (s->edit && ((err = s->edit(s, t->vault)) != ERR_OK || s->nil))
        goto out;
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
        s->created = !ed.was_visible;
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
        edit_mark_deleted(&ed, 1);
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
        edit_mark_deleted(&ed, 0);
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
    edit_version_drop(ed, i);
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
    if (!ed.old)
        goto out;
    if (s->nil) { /* nobody sees it, but it need not wait for its turn */
        err = edit_destroy(&ed);
    } else if (s->version) {
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
    if (open_visible(&ed, t, s, &err) && (err = give_old(&ed, s)) == ERR_OK) {
        s->nil = !expire_allowed(&ed, s) || (s->expires_ms == 0 && ed.h.expires_ms == 0);
        if (!s->nil && (s->flags & SET_PAST) && s->expires_ms && s->expires_ms <= t->now_ms) {
            err = edit_destroy(&ed);
            s->out_version = 1; /* it is gone */
            s->changed = 1;
        } else if (!s->nil) {
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
        const struct secret_version *v = edit_version(&ed, s->version);
        if (!v || v->flags & SECRET_VERSION_DELETED) {
            s->nil = 1;
        } else if (!bytes_equal(s->label, bytes_str("CURRENT"))) {
            if (bytes_equal(s->label, bytes_str("PREVIOUS")))
                ed.h.previous = s->version;
            else
                err = edit_label_set(&ed, s->label, s->version);
        } else if (s->version != ed.h.current) {
            edit_drop_inline(&ed);
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
            edit_version_drop(ed, i);
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
        s->out_version = ed.h.state == SECRET_ACTIVE; /* somebody might miss it */
        err = edit_destroy(&ed);
    } else {
        err = purge_deleted(&ed);
    }
    s->changed = !s->nil;
out:
    edit_close(&ed);
    return err;
}

/* ---- reads that belong to a write ---- */

enum err step_secret_read(struct txn *t, struct step *s)
{
    struct edit ed;
    enum err err = edit_open(&ed, t, s->path);
    if (err == ERR_OK)
        err = give_old(&ed, s);
    if (err == ERR_OK) {
        s->nil = ed.was_visible == (s->flags & SET_NX) / SET_NX;
        if ((s->flags & SET_HEAD) && ed.old)
            s->head = blob_ref(ed.old);
    }
    edit_close(&ed);
    return err;
}

enum err step_secret_watch(struct txn *t, struct step *s)
{
    struct edit ed;
    enum err err = edit_open(&ed, t, s->path);
    if (err == ERR_OK && s->mark != (ed.was_visible ? ed.old->lsn : 0))
        err = ERR_CONFLICT;
    if (err == ERR_OK && !s->mark && secret_made_since(t->e, t->vault, s->path, s->since))
        err = ERR_CONFLICT;
    edit_close(&ed);
    return err;
}
