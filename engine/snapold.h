/* snapold.h - a secret's old values in snapshots (docs/decisions/0009-old-values-stay-in-the-log.md): which ones a head
 * wants, and where they are.
 *
 * A snapshot has an entry under (store, secret_key_logged) for every version that a head in it lists without a slot and
 * that is not the inline CURRENT one. The value of such a version is in one of three places: the entry of that key in
 * an earlier snapshot; a head in an earlier snapshot, where it was the inline CURRENT one; the record that brought it.
 *
 * "Old key" below: secret_key_logged with its store in front, u16be, as everywhere in snapshots.
 */
#ifndef COFFER_ENGINE_SNAPOLD_H
#define COFFER_ENGINE_SNAPOLD_H

#include "engine/snapread.h"
#include "engine/snapsource.h"
#include "engine/wal.h"

struct snapold {
    uint16_t store;
    uint64_t lsn;
    uint32_t version;
    struct bytes middle; /* vault | path, borrowed */
};

/* 1 when key (with its store) is an old value's. */
int snapold_parse(struct bytes key, struct snapold *o);
/* 1 when key (with its store) is a secret's head. */
int snapold_is_head(struct bytes key);
/* The key of the head that wants it, appended to out, with its store. ERR_OOM. */
must_use enum err snapold_head_key(const struct snapold *o, struct buf *out);

/* The value in a head's bytes, where it is the inline CURRENT one. ERR_NOTFOUND: it is not. ERR_CORRUPT. */
must_use enum err snapold_in_head(struct bytes raw, const struct snapold *o, struct bytes *value);
/* The value, with a reference, from a snapshot of before it gave way or after. ERR_NOTFOUND: it has neither;
 * ERR_CORRUPT (a block), ERR_IO, ERR_OOM. Any thread. */
must_use enum err snapold_in_snapshot(struct snapread *r, const struct snapold *o, struct blob **out);
/* The value, until the reader's next read. ERR_NOTFOUND: the log does not reach back to it, or its record has no such
 * value; else as wal_reader_read. */
must_use enum err snapold_in_log(struct wal_reader *rd, const struct snapold *o, struct bytes *value);

/* The old keys that the heads of a source want, in order, with those values that are in the log.
 *
 * Old keys are nearly in the order of their heads: only where a path goes on from another with zero bytes do their LSNs
 * decide. Such paths (a path P, then P 00 and all that begins with P 00 00) are taken together and sorted; everything
 * else is one path at a time.
 *
 * They are gathered for some MiB of values at once, and the log is read in its own order for all of these. */
struct snapold_wanted {
    struct bytes key;
    int has_value; /* 0: it is not newer than log_from, or could not be read: ask for it (snapold_in_...) */
    struct bytes value;
};

struct snapold_list {
    struct snapsource *heads; /* borrowed */
    struct wal_reader *rd;
    uint64_t log_from;
    struct snapsource_item ahead; /* the next head, with has_ahead */
    int has_ahead, ended;
    struct buf root, keys, values; /* root: the first head of those taken together */
    struct snapold_ref {
        uint64_t lsn;
        size_t key_off, key_n, value_off, value_n; /* in keys and values; value_off SIZE_MAX: none */
        size_t sealed_bytes;
    } * refs;
    size_t count, room, next;
};

/* heads and rd are borrowed. Values of records above log_from are read from the log. */
void snapold_list_init(struct snapold_list *l, struct snapsource *heads, struct wal_reader *rd, uint64_t log_from);
void snapold_list_fini(struct snapold_list *l); /* one of zeros, too */
/* *w lives until the next call. ERR_END; ERR_CORRUPT (a head that is none), ERR_OOM, the source's errors: the list is
 * to be given up then. */
must_use enum err snapold_list_next(struct snapold_list *l, struct snapold_wanted *w);

#endif
