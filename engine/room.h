/* room.h - the last of the disk: who may use how much of it.
 *
 *     stores      a round is written while LevelDB has room for it: what is dirty goes into its log and into a table,
 *                 and a compaction copies what that meets. A write that fails for want of space fails a store for good
 *     log         takes writes while more than that is free for as much as may be dirty: what is admitted can be
 * applied snapshots   are made of what is left: traffic must not notice that one is
 *
 * Any thread.
 */
#ifndef COFFER_ENGINE_ROOM_H
#define COFFER_ENGINE_ROOM_H

#include <stddef.h>
#include <stdint.h>

#define ROOM_STORES_BYTES (32u << 20)
#define ROOM_LOG_BYTES (64u << 20) /* on top of twice what may be dirty */

uint64_t room_free(const char *dir); /* of its disk; UINT64_MAX: not known, which is not refused */

/* What must be free. */
static inline uint64_t room_for_stores(size_t dirty_bytes)
{
    return ROOM_STORES_BYTES + 2 * (uint64_t)dirty_bytes;
}

static inline uint64_t room_for_log(size_t dirty_limit)
{
    return ROOM_LOG_BYTES + 2 * (uint64_t)dirty_limit;
}

static inline uint64_t room_for_snapshot(size_t dirty_limit)
{
    return room_for_log(dirty_limit) + ROOM_LOG_BYTES;
}

#endif
