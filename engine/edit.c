/* edit.c - see edit.h. */
#include "engine/edit.h"

/* The secret was flushed: it is not there, and what is left of it goes when something is written in its place. */
static enum err take_leftovers(struct edit *ed)
{
    struct secret_head old;
    enum err err = secret_head_get(blob_bytes(ed->old), &old);
    if (err == ERR_OK && old.versions > SECRET_VERSIONS_MAX)
        err = ERR_CORRUPT;
    if (err == ERR_OK)
        err = secret_versions_get(&old, ed->version);
    if (err)
        return err;
    for (unsigned i = 0; i < old.versions; i++)
        if (ed->version[i].slot != SECRET_NO_SLOT)
            ed->freed[ed->freed_n++] = ed->version[i].slot;
    ed->due_ms = secret_due_ms(&old);
    ed->flushed = 1;
    blob_unref(ed->old);
    ed->old = NULL;
    return ERR_OK;
}

enum err edit_open(struct edit *ed, struct txn *t, struct bytes path)
{
    uint8_t key[SECRET_KEY_MAX];
    enum err err = txn_get(t, t->vault->store, secret_key_head(key, t->vault->id, path), &ed->old);

    ed->t = t;
    ed->path = path;
    ed->due_ms = 0;
    ed->was_visible = ed->flushed = 0;
    ed->freed_n = 0;
    memset(&ed->h, 0, sizeof ed->h);
    ed->h.label_bytes.p = ed->labels;
    if (t->key.n == 0)
        t->key = path;
    if (err || !ed->old)
        return err;
    if (ed->old->lsn <= t->vault->seq.flushed_lsn)
        return take_leftovers(ed);
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

void edit_close(struct edit *ed)
{
    blob_unref(ed->old);
}

/* ---- parts of an edit ---- */

uint16_t edit_slot_take(struct edit *ed)
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

enum err edit_slots_delete(struct edit *ed)
{
    uint8_t key[SECRET_KEY_MAX];
    enum err err = ERR_OK;
    while (err == ERR_OK && ed->freed_n)
        err = txn_delete(ed->t, ed->t->vault->store,
                         secret_key_slot(key, ed->t->vault->id, ed->path, ed->freed[--ed->freed_n]));
    return err;
}

void edit_drop_inline(struct edit *ed)
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

enum err edit_label_set(struct edit *ed, struct bytes name, uint32_t version)
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

const struct secret_version *edit_version(const struct edit *ed, uint32_t version)
{
    for (unsigned i = ed->h.versions; i-- > 0;)
        if (ed->version[i].version == version)
            return &ed->version[i];
    return NULL;
}

void edit_version_drop(struct edit *ed, unsigned i)
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
        edit_drop_inline(ed);
    }
}

void edit_drop_all(struct edit *ed)
{
    while (ed->h.versions)
        edit_version_drop(ed, ed->h.versions - 1u);
}

void edit_append(struct edit *ed, uint32_t version, uint32_t sealed_bytes, uint16_t slot)
{
    ed->version[ed->h.versions++] = (struct secret_version){
        .version = version, .created_ms = ed->t->now_ms, .lsn = ed->t->lsn, .sealed_bytes = sealed_bytes, .slot = slot};
    ed->t->vault->seq.bytes += sealed_bytes;
}

void edit_make_room(struct edit *ed, int current_may_go)
{
    while (ed->h.versions && ed->h.versions >= ed->t->settings.max_versions) {
        int pinned = ed->version[0].version == ed->h.current && !current_may_go;
        if (pinned && ed->h.versions == 1)
            return;
        edit_version_drop(ed, pinned);
    }
}

void edit_mark_deleted(struct edit *ed, int deleted)
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

enum err edit_due_move(struct edit *ed, uint64_t due_ms)
{
    uint8_t key[SECRET_KEY_MAX];
    struct txn *t = ed->t;
    enum err err = ERR_OK;

    if (due_ms == ed->due_ms)
        return ERR_OK;
    if (ed->due_ms)
        err = txn_delete(t, t->vault->store, secret_key_due(key, ed->due_ms, t->vault->id, ed->path));
    if (due_ms && due_ms < atomic_load_explicit(&t->e->due_ms, memory_order_relaxed))
        atomic_store_explicit(&t->e->due_ms, due_ms, memory_order_relaxed);
    if (err == ERR_OK && due_ms)
        err = txn_put_bytes(t, t->vault->store, secret_key_due(key, due_ms, t->vault->id, ed->path), bytes_of(NULL, 0));
    ed->due_ms = due_ms;
    return err;
}

enum err edit_write(struct edit *ed, struct plain *plain)
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
    int visible = secret_visible(&ed->h, t->now_ms);
    struct bytes k = secret_key_head(key, t->vault->id, ed->path);
    if (visible && !ed->was_visible)
        made_note(t->e->made, t->vault->store, k, t->lsn);
    err = txn_put(t, t->vault->store, k, b);
    if (err == ERR_OK)
        err = edit_slots_delete(ed);
    if (err == ERR_OK)
        err = edit_due_move(ed, secret_due_ms(&ed->h));
    if (!ed->old)
        t->vault->seq.secrets++;
    t->names_changed |= ed->was_visible != visible;
    return err;
}

enum err edit_destroy(struct edit *ed)
{
    uint8_t key[SECRET_KEY_MAX], last[4];
    struct txn *t = ed->t;
    edit_drop_all(ed);
    enum err err = edit_slots_delete(ed);
    if (err == ERR_OK)
        err = edit_due_move(ed, 0);
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
