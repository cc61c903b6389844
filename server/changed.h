/* changed.h - what a committed record changed, for those who want to be told: caches of clients (tracking.h), followers
 * of the log (follow.h). Names and versions, never a value.
 *
 * A record's operations are what it is about, and more: an expiry index, counters, slots. Here they are what somebody
 * outside would call a change. One record may have several (MSET, EXEC).
 *
 * Pure but for a look at the vault registry; any thread.
 */
#ifndef COFFER_SERVER_CHANGED_H
#define COFFER_SERVER_CHANGED_H

#include "engine/engine.h"

/* CHANGED(enum name, name on the wire) */
#define CHANGES(CHANGED)                                             \
    CHANGED(SET, "set")         /* a secret has a new version */     \
    CHANGED(META, "meta")       /* its labels, metadata, expiry */   \
    CHANGED(DELETE, "delete")   /* hidden; may come back */          \
    CHANGED(DESTROY, "destroy") /* gone for good, or expired */      \
    CHANGED(FLUSH, "flush")     /* all secrets of a database */      \
    CHANGED(SWAP, "swap")       /* databases; no vault, no name */   \
    CHANGED(VAULT, "vault")     /* made, or its settings or state */ \
    CHANGED(KEY, "key")         /* made, rotated, or its state */    \
    CHANGED(KEY_DESTROY, "key-destroy")

enum changed_kind {
#define AS_ENUM(id, name) CHANGED_##id,
    CHANGES(AS_ENUM)
#undef AS_ENUM
        CHANGED_KINDS
};
const char *changed_name(enum changed_kind k);

struct changed {
    enum changed_kind kind;
    const struct vault *vault; /* NULL: none (SWAP) */
    struct bytes name;         /* the path, or the key's name; borrowed from the record */
    uint32_t version;          /* the newest one of a secret or key that is there; 0: none */
};

/* Calls visit with each change of a record whose vaults the registry knows, in order. visit returns 0 to go on. */
void changed_each(struct vaults *vs, const struct record *r, int (*visit)(void *arg, const struct changed *c),
                  void *arg);

/* Its canonical name, {vault}/path or {vault}, in place of what is in out; empty for SWAP. ERR_OOM. */
must_use enum err changed_key(const struct changed *c, struct buf *out);

#endif
