/* snapmerge.h - the two ways to a new snapshot at LSN S. Both give the same bytes.
 *
 *     snapmerge_changes   the snapshot before it, and what changed in the log behind that up to S (changes.h): the
 * usual one. Nothing but two files is read, no store is touched. The digest is brought along: only what changed is
 * hashed. snapmerge_stores    the LevelDB stores, which stand at S: when there is no snapshot before, or it is damaged.
 * It hashes everything anew, so it is also the check of the first way.
 *
 * **Old values.** The stores do not have them, records have each of them once (docs/decisions/0009). So the file gets
 * an entry for every version that is kept at S and whose value neither has a slot nor is the inline CURRENT one
 * (snapold.h), from the snapshot before if that has it, else from the log: the log must reach back to the record behind
 * that snapshot, and to record 1 without one. Versions that are not listed any more have none. A value that neither has
 * any more, because of damage, is left out and counted (snapwrite_result's lost): who asks for it is told CORRUPT, as
 * before, and everything else goes on. What the disk does not give now (ERR_IO) may be there again later: it ends the
 * merge, until the caller has waited for long enough and says that it is lost too (cfg's unreadable_is_lost).
 *
 * Memory: that of a writer and of iterators, and three windows of values that are read ahead (snapsource.h, snapold.h):
 * 2 MiB each, or a sixth of what the changes take. Nothing grows with the state.
 * Failures: no file is left, or a whole one (snapwrite.h); what was there before is not touched.
 * Threads: each call by one; several calls side by side must be about different files. They block on the disk, for as
 * long as it takes.
 */
#ifndef COFFER_ENGINE_SNAPMERGE_H
#define COFFER_ENGINE_SNAPMERGE_H

#include "engine/changes.h"
#include "engine/snapread.h"
#include "engine/snapsource.h"
#include "engine/snapwrite.h"
#include "engine/store.h"
#include "engine/wal.h"

/* cfg->header says what S is. before: NULL when there is none. c: sorted, every record behind before up to S (ERR_RANGE
 * when it begins later or ends elsewhere). ERR_CORRUPT: damage in before or in the log, where it has more than old
 * values; ERR_IO, ERR_MISCONF, ERR_OOM, and what cfg's pace and signer answer. */
must_use enum err snapmerge_changes(const struct snapwrite_config *cfg, struct snapread *before,
                                    const struct changes *c, struct wal *w, struct snapwrite_result *out);

/* What snapmerge_stores needs of the stores, to be taken while they stand still at S: between apply_pause, which
 * returns it, and apply_resume. Holds back LevelDB's deletion of files until it is freed. ERR_OOM, a store's failure,
 * ERR_CORRUPT for a store that is missing (NULL). */
struct snapmerge_view;
must_use enum err snapmerge_view_new(struct snapmerge_view **out, struct store *const *stores, unsigned count);
void snapmerge_view_free(struct snapmerge_view *v); /* before the stores are closed; accepts NULL */

/* cfg->header is the state of the view. before: only for old values, may be damaged where none of them is, or NULL.
 * Errors as above, or a store's. A view serves once. */
must_use enum err snapmerge_stores(const struct snapwrite_config *cfg, struct snapread *before,
                                   struct snapmerge_view *v, struct wal *w, struct snapwrite_result *out);

#endif
