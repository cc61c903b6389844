/* steps_database.c - steps on databases of the facade as a whole. For the sequencer only.
 *
 * A flush is a mark: heads of records up to it are worthless (engine_flushed, edit_open). What they leave behind is
 * purged by the keeper, in records of its own, and when all of it is gone the mark is taken back.
 */
#include "engine/edit.h"

/* A secret that this very record wrote: the flush, which counts by records, does not reach it. */
static enum err flush_own(struct txn *t, const struct staged *st)
{
    struct edit ed;
    uint8_t path[SECRET_PATH_MAX];
    struct bytes key = bytes_of(buf_data(t->ops) + st->key_off, st->key_len);
    if (key.p[0] != SECRET_KEY_HEAD || get_be64(key.p + 1) != t->vault->id || st->value->tombstone)
        return ERR_OK;
    memcpy(path, key.p + 9, key.n - 9);
    enum err err = edit_open(&ed, t, bytes_of(path, key.n - 9));
    if (err == ERR_OK && ed.old && ed.old->lsn == t->lsn)
        err = edit_destroy(&ed);
    edit_close(&ed);
    return err;
}

enum err step_vault_flush(struct txn *t, struct step *s)
{
    struct vault_seq *seq = &t->vault->seq;
    size_t until = t->g->staged_n;
    enum err err = t->vault->seq.state == VAULT_ACTIVE ? ERR_OK : ERR_KEYSTATE;
    if (err == ERR_OK && !t->vault->facade)
        err = ERR_KEYSTATE;
    t->type = RECORD_TOMBSTONE;
    for (size_t i = t->staged_at; i < until && err == ERR_OK; i++)
        err = flush_own(t, &t->g->staged[i]);
    if (err || !seq->secrets)
        return err;
    seq->flushed_lsn = t->lsn - 1;
    seq->secrets = seq->bytes = 0;
    t->names_changed = 1;
    s->changed = 1;
    return ERR_OK;
}

enum err step_secret_purge(struct txn *t, struct step *s)
{
    struct edit ed;
    uint8_t key[SECRET_KEY_MAX];
    enum err err = edit_open(&ed, t, s->path);
    t->type = RECORD_TOMBSTONE;
    if (err == ERR_OK && ed.flushed) {
        err = edit_slots_delete(&ed);
        if (err == ERR_OK)
            err = edit_due_move(&ed, 0);
        if (err == ERR_OK)
            err = txn_delete(t, t->vault->store, secret_key_head(key, t->vault->id, s->path));
    }
    edit_close(&ed);
    return err;
}

enum err step_vault_flushed(struct txn *t, struct step *s)
{
    t->type = RECORD_TOMBSTONE;
    t->key = bytes_str(t->vault->name);
    if (t->vault->seq.flushed_lsn != s->mark)
        return ERR_OK;
    t->vault->seq.flushed_lsn = 0;
    return ERR_OK;
}

enum err step_vault_count(struct txn *t, struct step *s)
{
    s->mark = t->vault->seq.secrets;
    return ERR_OK;
}

enum err step_databases_swap(struct txn *t, struct step *s)
{
    static const uint8_t key = DATABASES_KEY;
    struct blob *old = NULL;
    struct buf now;

    t->type = RECORD_CONFIG;
    if (s->mark == s->version)
        return ERR_OK;
    buf_init(&now, 65536);
    enum err err = txn_get(t, 0, bytes_of(&key, 1), &old);
    if (err == ERR_OK)
        err = databases_swap(old ? blob_bytes(old) : bytes_of(NULL, 0), (uint32_t)s->mark, s->version, &now);
    if (err == ERR_OK)
        err = txn_put_bytes(t, 0, bytes_of(&key, 1), buf_bytes(&now));
    s->changed = err == ERR_OK;
    blob_unref(old);
    buf_fini(&now);
    return err;
}
