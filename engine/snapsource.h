/* snapsource.h - the newer state that a snapshot is made of, in order of keys: either what changed since the snapshot
 * before (changes.h, values in the log), or all of it (the LevelDB stores). One interface for both, so that one piece
 * of code makes the file (snapmerge.h).
 *
 * A source is read front to back, jumps forward and back by seek, and reads a value only when it is asked for it.
 * One thread at a time. Blocks on the disk.
 */
#ifndef COFFER_ENGINE_SNAPSOURCE_H
#define COFFER_ENGINE_SNAPSOURCE_H

#include "engine/changes.h"
#include "engine/store.h"
#include "engine/wal.h"

struct snapsource_item {
    struct bytes key; /* store u16be | key; until the next seek or next */
    uint64_t lsn;
    int tombstone; /* there is no such key any more */
};

struct snapsource {
    /* What next gives will be the first item at or behind key. */
    enum err (*seek)(struct snapsource *s, struct bytes key);
    enum err (*next)(struct snapsource *s, struct snapsource_item *item); /* ERR_END */
    /* Of the item that next gave last, which is no tombstone; until the next call of anything. */
    enum err (*value)(struct snapsource *s, struct bytes *value);
    /* 1: the source says what has become of key, even if that is nothing. 0: it is as it was. */
    int (*covers)(struct snapsource *s, struct bytes key);
    void (*close)(struct snapsource *s); /* frees it */
    size_t ahead_bytes;                  /* how much of values whoever reads beside it should read ahead in one go */
};

void snapsource_close(struct snapsource *s); /* accepts NULL */

/* c is sorted; it and w outlive the source. Values are read ahead, 2 MiB of them or a sixth of what c takes, for the
 * keys whose first byte is kind (0: for all): the one that asks for no others' values says so. ERR_OOM. */
must_use enum err snapsource_of_changes(struct snapsource **out, const struct changes *c, uint8_t kind, struct wal *w);

/* The stores as they are now: to be opened while they stand still (apply_pause), read whenever. ERR_OOM, a store's
 * failure; ERR_CORRUPT for one that is missing (NULL). Later, when there is damage, as store_iter. */
must_use enum err snapsource_of_stores(struct snapsource **out, struct store *const *stores, unsigned count);

#endif
