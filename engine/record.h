/* record.h - a record of the write-behind log, byte by byte. docs/log.md has a worked example.
 *
 * Little-endian, a multiple of 8 bytes, byte-identical on every node:
 *
 *      0  u32  len       of the whole record, padding, hmac and chain included
 *      4  u32  crc32c    of everything after this field
 *      8  u64  lsn       1, 2, 3 ... without gaps
 *     16  u32  term
 *     20  u8   type      enum record_type
 *     21  u8   flags     RECORD_HAS_HMAC
 *     22  u16  format    1
 *     24  u64  vault     vault id, 0 when the record belongs to none
 *     32  u16  shard     store of the operations that name none of their own: 0 base store, 1 + n shard n
 *     34  u16  key_len
 *     36  u32  blob_len
 *     40  u64  time_ms   wall clock of the primary
 *     48  16   token     idempotency token of the client's request, zeros: none
 *     64  ...  key       the path or name that the record is about, for people and for WBL.RANGE
 *      +  ...  blob      operations (ops.h): full values, never deltas, sealed bytes only
 *      +  0-7  zeros     up to a multiple of 8
 *      +  32   hmac      only with RECORD_HAS_HMAC: the tag of the masked object inside, made in its HSM partition
 *      +  32   chain     SHA-256(chain of the record before || bytes 8 up to here)
 *
 * Two records with equal (lsn, chain) have equal prefixes: that is the whole of log comparison. The CRC tells rot from
 * whole records cheaply; the chain tells tampering and splices. Record 1 chains from 32 zero bytes.
 *
 * len follows from key_len, blob_len and flags and must agree with them: so a flipped bit in len, which neither the CRC
 * nor the chain covers, shows as well. Types are not judged here (a newer node may know more of them); flags and
 * formats are, the layout hangs on them.
 *
 * Pure functions over memory; any thread.
 */
#ifndef COFFER_ENGINE_RECORD_H
#define COFFER_ENGINE_RECORD_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"

#define RECORD_HEADER_BYTES 64
#define RECORD_CHAIN_BYTES 32
#define RECORD_HMAC_BYTES 32
#define RECORD_TOKEN_BYTES 16
#define RECORD_MIN_BYTES (RECORD_HEADER_BYTES + RECORD_CHAIN_BYTES)
#define RECORD_MAX_BYTES (8u << 20) /* a batch over it is refused with TOOBIG, never split */
#define RECORD_FORMAT 1

enum record_type {
    RECORD_BARRIER = 1,   /* first record of a term */
    RECORD_PARTITION = 2, /* a vault with its partition config, a data key */
    RECORD_PUT = 3,       /* a secret's new state */
    RECORD_TOMBSTONE = 4, /* a secret or key destroyed */
    RECORD_CONFIG = 5,
    RECORD_TXN = 6,       /* several of the above in one: MSET, EXEC */
    RECORD_CHECK = 7,     /* digests of the state */
    RECORD_KEY = 8,       /* a key's new state */
    RECORD_VAULT = 9,     /* a vault's settings or state */
    RECORD_USER = 10,     /* users, ACL, tokens */
    RECORD_BOOKMARK = 11, /* migration */
};
const char *record_type_name(uint8_t type); /* "put"; "unknown" */

enum record_flags { RECORD_HAS_HMAC = 1 };

struct record {
    uint64_t lsn, vault, time_ms;
    uint32_t term;
    uint8_t type, flags;
    uint16_t shard;
    uint8_t token[RECORD_TOKEN_BYTES];
    struct bytes key, blob;          /* borrowed */
    uint8_t hmac[RECORD_HMAC_BYTES]; /* meaningful with RECORD_HAS_HMAC */
    uint8_t chain[RECORD_CHAIN_BYTES];
};

/* Bytes that a record of these lengths takes. */
size_t record_size(size_t key_len, size_t blob_len, uint8_t flags);

/* Appends r to out. prev_chain is the chain before; on success r->chain is the record's own (prev_chain may point to
 * it). r->flags tells whether r->hmac is stored. r->lsn must not be 0. ERR_TOOBIG over RECORD_MAX_BYTES, a key over
 * 65,535 bytes or out's own limit; ERR_OOM; out and r unchanged then. */
must_use enum err record_put(struct buf *out, struct record *r, const uint8_t prev_chain[RECORD_CHAIN_BYTES]);

/* Decodes the record at the front of in; key and blob point into it. *used: its length, 0 on failure (*r is zeroed
 * then). ERR_END: in is empty or begins with a zero length (nothing was ever written here). ERR_CORRUPT: lengths,
 * padding or CRC do not fit, it is cut off, its LSN is 0, or its format or flags are unknown. The chain is not looked
 * at: record_chains(). */
must_use enum err record_get(struct bytes in, struct record *r, size_t *used);

/* 1 when raw (a whole encoded record, as record_get found it) chains from prev_chain. No allocation. */
int record_chains(struct bytes raw, const uint8_t prev_chain[RECORD_CHAIN_BYTES]);

#endif
