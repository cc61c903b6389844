/* overlay.h - the state without the stores: a snapshot, read in place, and of the log behind it where the newest value
 * of each key is. What answers for a store that is not there: at a start that finds stores lost, until they are filled
 * (rebuild.h), and while one that failed is made anew.
 *
 *     overlay_get(key)    touched by the log behind the snapshot (changes.h)?  ----> its value, from the record there
 *                         not?  ----> its value in the snapshot, the block verified as it is read (snapread.h)
 *
 * It covers all stores and is the state at one LSN, overlay_lsn. Whoever applies goes on feeding it record by record
 * (overlay_add, overlay_advance), so that it never lies behind what the hot table may have forgotten: the applier
 * brings it to a round's LSN before that round's values may be evicted (apply.h, on_round). Nothing stale is answered.
 *
 * **A block of the snapshot that does not verify** is answered LOADING and noted (overlay_wants_older): an older
 * snapshot and more of the log have it too, and overlay_fall_back puts that one in its place. Once there is none
 * (overlay_is_last) what lies in the block is CORRUPT.
 *
 * Memory: about 50 bytes and the key for each key that was written since the snapshot; index and filter of the
 * snapshot. The log must be kept from overlay_base_lsn + 1 on.
 *
 * Threads: overlay_get by any; add and advance by one at a time; fall_back by one, also beside these. Gets block on
 * reads of log and snapshot, the lock inside is held for a look-up. References: it lives until the last one is gone.
 */
#ifndef COFFER_ENGINE_OVERLAY_H
#define COFFER_ENGINE_OVERLAY_H

#include "engine/blob.h"
#include "engine/record.h"
#include "engine/snapread.h"
#include "engine/wal.h"

struct overlay;

/* As the snapshot is, whose reference it takes on success; base NULL: before record 1. ERR_OOM, ERR_INTERNAL. */
must_use enum err overlay_new(struct overlay **out, struct wal *w, struct snapread *base);
struct overlay *overlay_ref(struct overlay *o);
void overlay_unref(struct overlay *o); /* accepts NULL; before the log is closed */

uint64_t overlay_base_lsn(struct overlay *o); /* of the snapshot, 0: none */
uint64_t overlay_lsn(struct overlay *o);      /* everything up to it is in */

/* The record after overlay_lsn. ERR_CORRUPT: malformed; ERR_OOM: again. */
must_use enum err overlay_add(struct overlay *o, const struct record *r);
/* Reads the log up to `to`, which is durable. Out of memory is waited out. On any other error the overlay has lost its
 * place: every get answers LOADING from then on. */
must_use enum err overlay_advance(struct overlay *o, uint64_t to);

/* The value of key in store, with a reference. ERR_NOTFOUND (*out NULL), ERR_LOADING, ERR_CORRUPT, ERR_IO, ERR_OOM. */
must_use enum err overlay_get(struct overlay *o, uint16_t store, struct bytes key, struct blob **out);

/* 1: a block does not verify, and nobody has said that there is no older snapshot. */
int overlay_wants_older(struct overlay *o);
/* Puts an older snapshot (NULL: none, when the log begins at record 1) below it, after reading the log between the two.
 * Takes its reference on ERR_OK. ERR_NOTFOUND: the log does not reach back to it; ERR_CORRUPT, ERR_IO, ERR_OOM. */
must_use enum err overlay_fall_back(struct overlay *o, struct snapread *older);
void overlay_is_last(struct overlay *o);

struct overlay_info {
    uint64_t base_lsn, lsn;
    size_t keys, memory_bytes; /* of what the log behind the snapshot touches */
};
void overlay_info(struct overlay *o, struct overlay_info *out);

#endif
