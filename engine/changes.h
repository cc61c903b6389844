/* changes.h - a stretch of the log, reduced: for every key that it touches, the newest operation, and where in the log
 * its value is. With the snapshot before the stretch this makes the one behind it (snapmerge.h).
 *
 * What comes out does not depend on the order in which records go in, nor on how often: of two operations on a key the
 * one with the higher LSN stays, of two in one record the later one. So records may be added while the log is written,
 * from a replay, from several threads' parts of it that are merged afterwards, and twice over.
 *
 *     changes_add(record) ...  changes_merge(other part) ...
 *     changes_sort -> changes_at(0 .. count - 1), changes_from(key)
 *
 * Tombstones are kept: a key that the snapshot before has may be gone.
 *
 * Values stay in the log: an entry has an LSN and the value's place in that record's blob (changes_value). Of a
 * secret's old values nothing is kept here: its newest head lists the versions that it keeps and the LSNs of the
 * records that brought them, and that is where they are found; an entry for each of them would take memory for every
 * overwrite in the stretch instead of every key.
 *
 * Memory: about 50 bytes and the key for each key, whatever was written to it how often.
 * Threads: one at a time; any number once nobody adds or sorts.
 */
#ifndef COFFER_ENGINE_CHANGES_H
#define COFFER_ENGINE_CHANGES_H

#include "base/bytes.h"
#include "base/err.h"
#include "engine/record.h"
#include "engine/wal.h"

struct changes;

struct change {
    uint64_t lsn;
    uint32_t value_off, value_n; /* in the blob of the record at lsn; the key is in front of it */
    uint32_t hash;
    uint16_t key_n;
    uint8_t tombstone;
    uint8_t key[]; /* as in a snapshot: store u16be | key */
};

static inline struct bytes change_key(const struct change *c)
{
    return bytes_of(c->key, c->key_n);
}

must_use enum err changes_new(struct changes **out); /* ERR_OOM; ERR_INTERNAL: no randomness for the hash seed */
void changes_free(struct changes *c);                /* accepts NULL */

/* Every record of the stretch, those without operations too. ERR_CORRUPT: malformed operations, a store's own key
 * (first byte 0), a key that a snapshot makes itself (SECRET_KEY_OLD in a shard), one too long for a snapshot; nothing
 * was added. ERR_OOM: a part may have been; add the record again. */
must_use enum err changes_add(struct changes *c, const struct record *r);
/* The same of a part: of the record's operations those alone whose key, with its store, begins with under, or is also
 * (empty: none). */
must_use enum err changes_add_under(struct changes *c, const struct record *r, struct bytes under, struct bytes also);

/* Reads the log from `from` on, up to and with the record at `to`, and adds what it brought under `under` (empty: all).
 * It ends earlier, with ERR_OK, in front of a record that is stamped later than until_ms (0: whenever), and when c
 * takes memory_bytes or more (0: whatever it takes). last is the last record that was added, without key and blob; its
 * LSN is 0 when there was none. stop says 1: ERR_AGAIN; it is asked now and then, NULL: never. Else as
 * wal_cursor_next: ERR_NOTFOUND when the log does not reach back to it. Blocks. */
struct changes_stretch {
    uint64_t from, to, until_ms;
    struct bytes under, also; /* of changes_add_under */
    size_t memory_bytes;
    int (*stop)(void *arg);
    void *arg;
    struct record last;
};
must_use enum err changes_add_log(struct changes *c, struct wal *w, struct changes_stretch *s);
/* Adds all that is in from. ERR_OOM: a part may have been added; merge again. */
must_use enum err changes_merge(struct changes *c, const struct changes *from);

/* Puts the entries in order, until the next changes_add or changes_merge. ERR_OOM. */
must_use enum err changes_sort(struct changes *c);
/* After changes_sort. from: the number of the first entry at or behind key. */
const struct change *changes_at(const struct changes *c, size_t i);
size_t changes_from(const struct changes *c, struct bytes key);
/* Any time; NULL: not touched. key with its store. */
const struct change *changes_find(const struct changes *c, struct bytes key);

/* The value of a change that is no tombstone, until the next read. ERR_CORRUPT when the record has something else
 * there; else as wal_reader_read. */
must_use enum err changes_value(const struct change *ch, struct wal_reader *rd, struct bytes *value);

struct changes_info {
    size_t keys, memory_bytes;
    uint64_t first_lsn, last_lsn; /* lowest and highest that was added, 0: none. Whether there are gaps is not known. */
};
void changes_info(const struct changes *c, struct changes_info *out);

#endif
