/* secret.h - how a secret lies in its shard: the head, its versions, the keys they are stored under. Codecs only: pure,
 * any thread.
 *
 * A path has one *head*: everything about the secret but old values. While the CURRENT version's sealed value is small
 * (at most SECRET_INLINE_MAX) it lies in the head, so that a read costs one look-up. Once another version is CURRENT
 * the head only says which record of the log brought the value: it is read there (secret_value_in_ops), and nothing is
 * written for it. Larger values, and versions that were not CURRENT from the start, are under keys of their own.
 *
 *     'h' | vault u64be | path                head
 *     'v' | vault u64be | path | slot u16be   a sealed value that never was in the head
 *     't' | vault u64be | path                last version u32 of a destroyed secret: versions are never reused
 *                                             (vaults of the facade leave none)
 *     'x' | due ms u64be | vault u64be | path expiry index: when something is due; at most one entry a path
 *     'k' | vault u64be | name                a key (key.h)
 *     'y' | due ms u64be | vault u64be | name when a key's scheduled deletion is due
 *     'c' | vault u64be                       counters: secrets u64, keys u64, bytes u64, names LSN u64 (the last
 *                                             record that added, removed, hid or showed a name), flushed LSN u64
 *                                             (heads of records up to it are gone, whether they are still there or
 *                                             not; 0: there are none; left out by older records)
 *     'o' | vault u64be | path | LSN u64be | version u32be   in snapshots only: a value that is in the log only
 *
 * Head (little-endian):
 *
 *      0  u8   format, 1
 *      1  u8   state: enum secret_state
 *      2  u8   flags: SECRET_CURRENT_INLINE
 *      3  u8   number of labels
 *      4  u32  last version ever given out
 *      8  u32  CURRENT version, 0: none
 *     12  u32  PREVIOUS version, 0: none
 *     16  u64  expires at, ms, 0: never
 *     24  u64  soft-deleted versions (SECRET_VERSION_DELETED) are purged at, ms, 0: there are none. Until then
 *              UNDELETE brings them back; a SET on a deleted secret leaves them deleted.
 *     32  u16  number of versions kept
 *     34  u16  bytes of their list
 *     36  u32  metadata length
 *     40       versions, oldest first, each by what differs from the one before (from zeros, the first): u8 flags
 *              (SECRET_VERSION_*), then varints (base/varint.h): version, sealed bytes as they are, created ms
 *              (zig-zag: the clock may have been set back), LSN of the record that brought it; u16 slot if it has one.
 *              Some ten bytes each.
 *      +       labels: u8 length, name, u32 version
 *      +       metadata (JSON, not secret)
 *      +       sealed CURRENT value, with SECRET_CURRENT_INLINE
 *
 * A *slot* is a place for a value apart from the head: the lowest free one is taken, and a version that goes leaves its
 * slot to the next. So large values that are overwritten again and again write over the oldest instead of deleting one
 * key and making another. A value's ciphertext is bound to its version, and its record's LSN tells whether it is newer
 * than the head that named the slot.
 */
#ifndef COFFER_ENGINE_SECRET_H
#define COFFER_ENGINE_SECRET_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/sealed.h"

#define SECRET_PATH_MAX 4096
#define SECRET_INLINE_MAX 1024
#define SECRET_META_MAX 65536
#define SECRET_LABEL_MAX 64
#define SECRET_LABELS_MAX 20
#define SECRET_KEY_MAX (1 + 8 + 12 + SECRET_PATH_MAX) /* longest key */

enum secret_state {
    SECRET_ACTIVE = 0,
    SECRET_DELETED = 1, /* soft: hidden, recoverable until its time is over */
};
enum secret_flags { SECRET_CURRENT_INLINE = 1 };
enum secret_version_flags {
    SECRET_VERSION_DELETED = 1,
    SECRET_VERSION_SLOT = 2 /* in the list only: a slot follows */
};

struct secret_version {
    uint32_t version;
    uint32_t sealed_bytes;
    uint64_t created_ms, lsn; /* lsn: of the record that brought it */
    uint8_t flags;            /* SECRET_VERSION_DELETED */
    uint16_t slot;            /* SECRET_NO_SLOT: the value is in the head, or else in that record, in its head */
};
#define SECRET_VERSIONS_MAX 1001    /* MAXVERSIONS is at most 1000, and one more while a new one comes in */
#define SECRET_VERSION_BYTES_MAX 32 /* in the list */
#define SECRET_NO_SLOT 0xffff

struct secret_head {
    uint8_t state, flags, labels;
    uint32_t last_version, current, previous;
    uint64_t expires_ms, purge_ms;
    uint16_t versions;
    struct bytes version_bytes; /* their list, borrowed */
    struct bytes label_bytes;   /* borrowed */
    struct bytes meta;          /* borrowed */
    struct sealed value;        /* of CURRENT when inline, else empty */
};

/* Decodes; everything borrowed lives as long as raw. ERR_CORRUPT. */
must_use enum err secret_head_get(struct bytes raw, struct secret_head *h);
/* Encoded size, and encoding into exactly so many bytes. */
size_t secret_head_size(const struct secret_head *h);
void secret_head_put(const struct secret_head *h, uint8_t *out);

/* The list as an array, oldest first, for h->versions (at most SECRET_VERSIONS_MAX) of them. ERR_CORRUPT. */
must_use enum err secret_versions_get(const struct secret_head *h, struct secret_version *v);
/* Writes the list of n versions; out has room for n * SECRET_VERSION_BYTES_MAX. Returns its bytes. */
size_t secret_versions_put(uint8_t *out, const struct secret_version *v, unsigned n);
/* Finds a version. 1 when it is kept (and the list is sound up to it). */
int secret_version_find(const struct secret_head *h, uint32_t version, struct secret_version *v);
/* Version that a label names: CURRENT, PREVIOUS or one in label_bytes; 0: none. Labels compare byte by byte. */
uint32_t secret_label_version(const struct secret_head *h, struct bytes label);

/* 1 when a reader at now_ms sees the secret. */
static inline int secret_visible(const struct secret_head *h, uint64_t now_ms)
{
    return h->state == SECRET_ACTIVE && (h->expires_ms == 0 || h->expires_ms > now_ms);
}

/* Store keys, written to out (SECRET_KEY_MAX bytes are enough); the result points at out. */
struct bytes secret_key_head(uint8_t *out, uint64_t vault, struct bytes path);
struct bytes secret_key_slot(uint8_t *out, uint64_t vault, struct bytes path, uint16_t slot);
struct bytes secret_key_due(uint8_t *out, uint64_t due_ms, uint64_t vault, struct bytes path);
struct bytes secret_key_last(uint8_t *out, uint64_t vault, struct bytes path);
struct bytes secret_key_counters(uint8_t *out, uint64_t vault);
/* What the hot table keeps a value under that was read from the log, and a snapshot keeps it under. No store has such a
 * key. */
#define SECRET_KEY_HEAD 'h'
#define SECRET_KEY_OLD 'o'
struct bytes secret_key_logged(uint8_t *out, uint64_t vault, struct bytes path, uint64_t lsn, uint32_t version);

/* Looks in a record's operations (ops.h) for the head under head_key in which `version` is CURRENT, with its value. It
 * points into ops. The last one counts: a transaction may destroy a path and make it anew, and in vaults that begin
 * with version 1 again the first one is the destroyed value. ERR_NOTFOUND, ERR_CORRUPT. */
must_use enum err secret_value_in_ops(struct bytes ops, struct bytes head_key, uint32_t version, struct sealed *value);

/* When something is due for a secret: its expiry, or the purge of deleted versions; 0: never. */
uint64_t secret_due_ms(const struct secret_head *h);

struct secret_counters {
    uint64_t secrets, keys, bytes, names_lsn, flushed_lsn;
};
#define SECRET_COUNTERS_BYTES 40
must_use enum err secret_counters_get(struct bytes raw, struct secret_counters *c); /* ERR_CORRUPT */
void secret_counters_put(uint8_t out[SECRET_COUNTERS_BYTES], const struct secret_counters *c);

#endif
