/* txn.h - one write being evaluated by the sequencer: reads of committed plus staged state, and the operations that
 * make up its record. Private to the engine. For the sequencer only: one thread at a time.
 *
 *     txn_begin -> step functions (txn_get, txn_put, txn_delete ...) -> txn_commit: the record is in the group
 *                                                                   \-> txn_abort: every stage undone, nothing happened
 *
 * Steps of one write may lie in several vaults (txn_enter), and part of them can be taken back (txn_mark,
 * txn_rollback).
 */
#ifndef COFFER_ENGINE_TXN_H
#define COFFER_ENGINE_TXN_H

#include "engine/engine.h"
#include "engine/ops.h"

/* A staged value of the group: published by the log writer once the group is durable. */
struct staged {
    struct hot_entry *entry;
    struct blob *value; /* the hot table's reference keeps it alive until it is published */
    size_t key_off;     /* of the store key in the group's record bytes (in the ops scratch until the record is made) */
    uint16_t key_len, store;
};

/* A group commit in the making (sequencer.h). */
struct group {
    struct group *next; /* of those that are written, or spare */
    struct buf records;
    uint32_t n;
    uint64_t first_lsn, last_lsn;
    uint8_t begin[RECORD_CHAIN_BYTES]; /* before the first record */
    uint8_t chain[RECORD_CHAIN_BYTES]; /* after the last record */
    struct staged *staged;
    size_t staged_n, staged_cap;
    struct mpsc_node *first, **last; /* the writes, in order, refused ones among them */
    uint32_t writes;
    int foreign;                /* its records are made visible one by one: nothing is staged for them, nobody waits */
    size_t shown;               /* bytes of records, foreign ones, that are visible */
    const struct group *before; /* being written, or written already */
};

struct txn {
    struct engine *e;
    struct group *g;
    struct write *w;
    struct vault *vault;
    uint64_t lsn, now_ms;
    uint32_t term;
    struct buf *ops;
    struct buf *undo; /* struct vault_undo of each vault that was entered, oldest first; empty: the write's only */
    unsigned entered;
    size_t staged_at; /* the group's staged items from here on are this write's */

    /* What the record will say about itself; steps fill it. */
    uint8_t type;
    struct bytes key;
    const uint8_t *hmac;
    int names_changed;
    struct vault_seq saved;         /* before this write */
    struct vault_settings settings; /* of the vault, read once */
};

/* A vault's numbers as they were. */
struct vault_undo {
    struct vault *vault;
    struct vault_seq seq;
};

void txn_begin(struct txn *t, struct engine *e, struct group *g, struct write *w, struct buf *ops, struct buf *undo,
               uint64_t lsn, uint32_t term, uint64_t now_ms);
/* The steps from here on are about v. ERR_OOM, ERR_TOOBIG. */
must_use enum err txn_enter(struct txn *t, struct vault *v);

/* A place to go back to: what was done since is undone as if it had never been. */
struct txn_mark {
    size_t staged, ops, undo;
    struct vault *vault;
    struct vault_seq saved, seq;
    int names_changed;
    unsigned entered;
};
void txn_mark(struct txn *t, struct txn_mark *m);
void txn_rollback(struct txn *t, const struct txn_mark *m);
/* The newest value of key, staged or committed, with a reference; NULL when there is none. ERR_CORRUPT, ERR_IO,
 * ERR_OOM. */
must_use enum err txn_get(struct txn *t, uint16_t store, struct bytes key, struct blob **out);
/* The operations of the record at lsn when it may not be in the log yet: of this write as far as it goes, or of one in
 * a group that is gathering or being written. ERR_NOTFOUND: it is in the log. */
must_use enum err txn_gathered_ops(struct txn *t, uint64_t lsn, struct bytes *ops);
/* Writes; value is taken over. ERR_OOM. */
must_use enum err txn_put(struct txn *t, uint16_t store, struct bytes key, struct blob *value);
must_use enum err txn_put_bytes(struct txn *t, uint16_t store, struct bytes key, struct bytes value);
must_use enum err txn_delete(struct txn *t, uint16_t store, struct bytes key);
/* 1 when something was written. */
int txn_dirty(const struct txn *t);

/* Adds the counters if they moved, makes the record, appends it to the group. On an error nothing of the write is left.
 */
must_use enum err txn_commit(struct txn *t);
void txn_abort(struct txn *t);

/* The step functions, by kind (steps_*.c). The result goes to s->nil, s->out_version, s->changed; an error fails the
 * whole write. */
typedef enum err (*step_fn)(struct txn *t, struct step *s);
extern const step_fn step_table[STEP_KINDS];

enum err step_secret_set(struct txn *t, struct step *s);
enum err step_secret_delete(struct txn *t, struct step *s);
enum err step_secret_undelete(struct txn *t, struct step *s);
enum err step_secret_destroy(struct txn *t, struct step *s);
enum err step_secret_expire(struct txn *t, struct step *s);
enum err step_secret_meta(struct txn *t, struct step *s);
enum err step_secret_stage(struct txn *t, struct step *s);
enum err step_secret_read(struct txn *t, struct step *s);
enum err step_secret_watch(struct txn *t, struct step *s);
enum err step_secret_due(struct txn *t, struct step *s);
enum err step_secret_purge(struct txn *t, struct step *s);
enum err step_vault_flush(struct txn *t, struct step *s);
enum err step_vault_flushed(struct txn *t, struct step *s);
enum err step_vault_count(struct txn *t, struct step *s);
enum err step_databases_swap(struct txn *t, struct step *s);
enum err step_vault_create(struct txn *t, struct step *s);
enum err step_vault_set(struct txn *t, struct step *s);
enum err step_dek_add(struct txn *t, struct step *s);
enum err step_key_put(struct txn *t, struct step *s);
enum err step_key_destroy(struct txn *t, struct step *s);
enum err step_user_put(struct txn *t, struct step *s);
enum err step_user_delete(struct txn *t, struct step *s);

#endif
