/* hot.h - the hot table: sealed values in memory, in front of the stores. What is committed but not yet in LevelDB, and
 * what is read often.
 *
 * One table for all stores, keyed by (store, key), split in stripes with a short lock each. An entry has up to two
 * values:
 *
 *     visible   what readers get: the newest committed value, or the value last read from LevelDB
 *     staged    what the sequencer has put into the log buffer and is not durable yet, oldest first; the newest is
 *               for hot_peek_staged only
 *
 * and is one of
 *
 *     clean     visible equals what is in LevelDB: may be evicted (second chance: a hit sets a bit, the hand clears it)
 *     dirty     visible is newer than LevelDB: stays until the applier has written it
 *     pinned    it has staged values: stays
 *
 *                 hot_stage (sequencer)        hot_publish (log writer, after fdatasync)
 *     condition ----------------------> staged ----------------------------------------> visible, dirty
 *                                                      hot_dirty_take / hot_dirty_done (applier)   |
 *     read miss, hot_fill --> visible, clean  <-----------------------------------------------------+
 *
 * **Groups.** The first hot_publish or hot_replay after hot_set_published opens a group, hot_set_published(lsn) closes
 * it. In between the dirty list cannot be taken (hot_dirty_take waits), so what is taken is exactly the state at a
 * published LSN, never half a group or half a record. Close groups often (each group commit; each few hundred records
 * of a replay), and do not wait for the applier inside one.
 *
 * **Coalescing.** Dirty entries are on a list once each, with the newest value: what is overwritten before the applier
 * comes around is never written to LevelDB. hot_dirty_take closes the list at the published LSN: publishes go on into
 * the next one, and an entry that changes while the list is being read keeps the value of the round aside. So a round
 * holds exactly the state at that LSN as far as it is not in LevelDB yet. A key that was created and deleted again
 * before it ever reached LevelDB, and that LevelDB is known not to hold (hot_fill with a tombstone said so), is not
 * written at all.
 *
 * **Stale fills.** A reader that missed reads LevelDB and fills the table. Between the two, a newer value may have been
 * published, applied and evicted. So the miss hands out the stripe's publish count, and hot_fill does nothing when it
 * has moved.
 *
 * Limits: clean entries are evicted past limit_bytes, each stripe within its share; a value that does not fit there is
 * not cached. Dirty and staged ones count, but stay: they are bounded by the sequencer, which waits while
 * hot_dirty_bytes() is over its own limit. Memory is counted as allocated: entry with key, values, hash buckets,
 * malloc's rounding.
 *
 * Keys are 1 to 65,535 bytes and do not start with 0x00 (the stores' own).
 *
 * Threads: every function from any thread, but hot_stage/hot_peek_staged (sequencer only),
 * hot_publish/hot_set_published (log writer only; groups in log order; hot_replay by whoever takes the log writer's
 * place: recovery, a replica's link), hot_dirty_take/hot_dirty_done (applier only). Nothing blocks but on the stripe
 * locks, held for a look-up, and on the group.
 */
#ifndef COFFER_ENGINE_HOT_H
#define COFFER_ENGINE_HOT_H

#include "base/bytes.h"
#include "base/err.h"
#include "engine/blob.h"

struct hot;
struct hot_entry;

/* ERR_OOM; ERR_INTERNAL: no randomness for the hash seed. */
must_use enum err hot_new(struct hot **out, size_t limit_bytes);
void hot_free(struct hot *h); /* no other thread uses it any more; what is dirty or staged is dropped; accepts NULL */

/* Reader. 1: *out is the visible value with a reference (maybe a tombstone). 0: not in the table, *fill is to be passed
 * to hot_fill. */
int hot_get(struct hot *h, uint16_t store, struct bytes key, struct blob **out, uint64_t *fill);
/* Puts what was read from LevelDB (ERR_OK: the value; ERR_NOTFOUND: a tombstone; nothing after any other error) into
 * the table; keeps its own reference. Does nothing when it would be stale or memory is short. */
void hot_fill(struct hot *h, uint16_t store, struct bytes key, struct blob *value, uint64_t fill);

/* Sequencer: the value that conditions are evaluated against: the newest staged if there is one, else visible. As
 * hot_get. */
int hot_peek_staged(struct hot *h, uint16_t store, struct bytes key, struct blob **out, uint64_t *fill);

/* Says which keys will be looked up next, so that the misses of the processor's caches (in a table of some tens of
 * megabytes three or four a look-up) overlap. Changes nothing. n is at most HOT_WARM_MAX. */
#define HOT_WARM_MAX 16
struct hot_key {
    struct bytes key;
    uint16_t store;
};
void hot_warm(struct hot *h, const struct hot_key *keys, unsigned n);

/* Sequencer: stages value, which is staged nowhere else (takes over the caller's reference on success). *entry is
 * pinned until value is published or unstaged. ERR_OOM (only for a key that is not in the table). */
must_use enum err hot_stage(struct hot *h, uint16_t store, struct bytes key, struct blob *value,
                            struct hot_entry **entry);
/* Undoes a stage that did not make it into the log (newest first); drops value. entry may be gone afterwards. Any one
 * thread, while neither sequencer nor log writer work on that entry. */
void hot_unstage(struct hot *h, struct hot_entry *entry, struct blob *value);
/* Log writer: value is committed: visible and dirty from now on. Readers see it at once. value is staged on entry;
 * older ones staged there are dropped, so a group may publish just the newest of each entry. */
void hot_publish(struct hot *h, struct hot_entry *entry, struct blob *value);
/* Log writer: entry is to be published soon. A hint to the processor. */
void hot_publish_soon(const struct hot_entry *entry);
/* Log writer, after a whole group was published (or nothing was: a barrier): readers and the applier may rely on all
 * records up to lsn. Never goes back (asserted). */
void hot_set_published(struct hot *h, uint64_t lsn);
uint64_t hot_published(const struct hot *h);
/* Counts the openings and the closings of groups: odd while one is open. What a reader saw between two equal even
 * answers is one state. Any thread. */
uint64_t hot_turns(const struct hot *h);

/* Bytes of values and keys that are dirty, those in the round that is being applied included. One relaxed load. */
size_t hot_dirty_bytes(struct hot *h);

/* Applier: closes the dirty list. Returns its items, sorted by (store, key), *lsn the published LSN that the list is
 * complete up to. The items live until hot_dirty_done, which makes entries clean whose value did not change meanwhile
 * and drops clean tombstones. One round at a time. Waits for an open group to be closed; no new one begins meanwhile.
 * ERR_OOM: nothing changed. ERR_AGAIN: see hot_never_wait. */
struct hot_dirty {
    struct bytes key;
    struct blob *value;
    struct hot_entry *entry;
    uint16_t store;
};
must_use enum err hot_dirty_take(struct hot *h, struct hot_dirty **items, size_t *count, uint64_t *lsn);
void hot_dirty_done(struct hot *h, struct hot_dirty *items, size_t count);
/* When the applier is being stopped: a group that is still open will not be closed any more (a replay that failed
 * half-way). hot_dirty_take does not wait for it, now or later, but answers ERR_AGAIN. */
void hot_never_wait(struct hot *h);

/* Applies a committed record's operation: straight into visible and dirty (takes over the caller's reference on
 * success). ERR_OOM: the caller may try the whole record again before it closes the group. */
must_use enum err hot_replay(struct hot *h, uint16_t store, struct bytes key, struct blob *value);

/* Forgets what the table knows about the content of a store (UINT16_MAX: of all) because it was replaced: drops its
 * clean entries, voids the fills under way. To be called after the replacement, before readers are let in. */
void hot_drop_clean(struct hot *h, uint16_t store);

struct hot_stats {
    uint64_t hits, misses, evictions;
    uint64_t published, published_bytes; /* values, and their bytes with keys, as published: before coalescing */
    uint64_t coalesced;                  /* values overwritten before the applier came around */
    uint64_t unwritten;                  /* tombstones that needed no write */
    size_t bytes, dirty_bytes, entries, dirty_entries;
};
void hot_stats(struct hot *h, struct hot_stats *out);

#endif
