/* edit.h - a secret being changed by a step: the head as it is (staged state included), its lists copied to where they
 * can be changed. Private to the steps (steps_secret.c, steps_database.c), for the sequencer only.
 *
 *     edit_open -> look at conditions -> change the parts -> edit_write, or edit_destroy -> edit_close
 *
 * Nothing is staged before edit_write or edit_destroy; the counters of the vault move with the parts (the transaction
 * takes them back). A value that leaves the head stays where it came from, in the log; one that never was in it has a
 * slot of its own (secret.h).
 */
#ifndef COFFER_ENGINE_EDIT_H
#define COFFER_ENGINE_EDIT_H

#include "engine/engine_impl.h"

#define EDIT_LABEL_BYTES_MAX (SECRET_LABELS_MAX * (1 + SECRET_LABEL_MAX + 4))

struct edit {
    struct txn *t;
    struct bytes path;
    struct blob *old; /* what h's borrowed parts point into, NULL: there is no head */
    struct secret_head h;
    uint64_t due_ms; /* in the expiry index now */
    int was_visible;
    int flushed;                                        /* there is a head, which a flush made worthless */
    struct secret_version version[SECRET_VERSIONS_MAX]; /* h.versions of them, oldest first */
    uint8_t list[SECRET_VERSIONS_MAX * SECRET_VERSION_BYTES_MAX];
    uint8_t labels[EDIT_LABEL_BYTES_MAX];
    uint16_t
        freed[SECRET_VERSIONS_MAX]; /* slots of versions that went: taken again, or deleted when the edit is written */
    unsigned freed_n;
};

/* edit_close it, also when it failed. A head that a flush made worthless is no head (old is NULL): what is left of it
 * goes with what is written in its place. ERR_CORRUPT, ERR_IO, ERR_OOM. */
must_use enum err edit_open(struct edit *ed, struct txn *t, struct bytes path);
void edit_close(struct edit *ed);

/* Stages the new head. With plain its inline value is sealed in place; h.value.raw.n then is the sealed size and .p
 * NULL. ERR_OOM, ERR_TOOBIG, ERR_INTERNAL. */
must_use enum err edit_write(struct edit *ed, struct plain *plain);
/* Everything goes but, in vaults that count versions for ever, the last number. */
must_use enum err edit_destroy(struct edit *ed);

/* ---- parts ---- */

/* The lowest slot that no kept version has; one that was freed in this edit comes first. */
uint16_t edit_slot_take(struct edit *ed);
/* Deletes the values of slots that were freed and not taken again. */
must_use enum err edit_slots_delete(struct edit *ed);
/* The value leaves the head. The record that brought it is in the log. */
void edit_drop_inline(struct edit *ed);
must_use enum err edit_label_set(struct edit *ed, struct bytes name,
                                 uint32_t version); /* ERR_RANGE: too many, too long */
/* The kept version of this number; NULL: none. */
const struct secret_version *edit_version(const struct edit *ed, uint32_t version);
/* Takes the i-th version off the list, with its labels and bytes; its slot is free. */
void edit_version_drop(struct edit *ed, unsigned i);
void edit_drop_all(struct edit *ed);
void edit_append(struct edit *ed, uint32_t version, uint32_t sealed_bytes, uint16_t slot);
/* Makes room for one more version: the oldest go. CURRENT stays unless the newcomer takes its place. */
void edit_make_room(struct edit *ed, int current_may_go);
/* Sets or clears the soft-deleted mark of every version. */
void edit_mark_deleted(struct edit *ed, int deleted);
/* Moves the expiry index from what it was to due_ms. */
must_use enum err edit_due_move(struct edit *ed, uint64_t due_ms);

#endif
