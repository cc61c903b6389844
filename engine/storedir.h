/* storedir.h - the directories of the stores.
 *
 *     DIR/base, DIR/shard-N    as first made
 *     DIR/shard-N.G            made by a rebuild (rebuild.h), the G-th since then
 *     DIR/shard-N.G.new        one that is being made
 *
 * LevelDB opens its files by path as long as it is open, so a directory cannot take another's name under it. A rebuilt
 * store therefore gets a name of its own, and the rename that takes the ".new" away is the moment from which a start
 * prefers it. The highest G is the store; what a crash left of the others is deleted.
 *
 * Threads: any; a path by one at a time. All block on disk.
 */
#ifndef COFFER_ENGINE_STOREDIR_H
#define COFFER_ENGINE_STOREDIR_H

#include <stdint.h>

#include "base/err.h"

#define STOREDIR_NAME_BYTES 48

/* The last part of the path. store: 0 base, 1 + n shard n. */
void storedir_name(char out[STOREDIR_NAME_BYTES], unsigned store, uint32_t generation, int unfinished);

/* At a start, while no store is open: generation[store] of each, 0 also for one that is not there; deletes all others
 * of these names, and those of stores that the engine does not have stay. ERR_IO, ERR_OOM. */
must_use enum err storedir_tidy(const char *dir, uint32_t *generation, unsigned store_count);

/* *any: 1: there is one of these directories, but for those that are being made. ERR_IO, ERR_OOM. */
must_use enum err storedir_any(const char *dir, int *any);

/* Deletes a store's directory with whatever is in it; none there is ERR_OK. Nobody has it open. ERR_IO, ERR_OOM. */
must_use enum err storedir_remove(const char *path);

#endif
