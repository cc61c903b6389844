/* snapfile.h - a snapshot file, byte by byte: everything that a cell holds at one LSN, sorted, indexed, checksummed.
 * docs/snapshot.md has a worked example.
 *
 *     DIR/snapshots/<LSN, 20 digits>-<term>.snap
 *
 * Little-endian but where keys must sort (big-endian).
 *
 *     header    128 bytes
 *     blocks    entries in order, about 32 KiB a block
 *     index     one entry a block
 *     filter    a Bloom filter over all keys
 *     footer    256 bytes
 *
 * The same state gives the same bytes, whoever makes the file and from what: nothing in it depends on the node or the
 * moment.
 *
 * Header:
 *
 *      0  8    magic "COFFERSN"
 *      8  u32  format, 1
 *     12  u32  header bytes, 128
 *     16  16   cell id
 *     32  u64  LSN: the state after the record of this LSN
 *     40  u32  term of that record
 *     44  u32  zeros
 *     48  u64  time_ms of that record
 *     56  32   chain at it
 *     88  36   zeros
 *    124  u32  crc32c of bytes 0..123
 *
 * Entry, keys compressed against the one before in the block (the first one of a block whole). A key here is the store
 * as u16be followed by the key in that store, so that stores follow one another:
 *
 *      +  varint  bytes shared with the key before
 *      +  varint  bytes of the key behind those
 *      +  varint  bytes of the value
 *      +  varint  LSN of the record that wrote it
 *      +  key's rest, value
 *
 * (Varints as in base/varint.h.)
 *
 * Block: entries, then u32 crc32c of them. A block ends with the entry that brings it to SNAPFILE_BLOCK_BYTES or more;
 * an entry alone may be larger (up to 8 MiB).
 *
 * Index entry, one a block:
 *
 *      0  u64  offset in the file
 *      8  u32  bytes, the crc32c included
 *     12  u32  number of entries
 *     16  32   SHA-256 of the block, the crc32c included
 *     48  u16  bytes of the block's first key, u16 zero
 *     52       that key
 *
 * Filter: groups of 64 bytes. A key has one group and in it seven bits (snapfile_filter_bits), about ten bits a key in
 * all: a look-up touches one cache line, and finds one key in a hundred that is not there.
 *
 * Footer:
 *
 *      0  8    magic "COFFERSF"
 *      8  u64  offset of the index        16  u64  bytes of the index
 *     24  u64  offset of the filter       32  u64  bytes of the filter
 *     40  u64  number of blocks           48  u64  number of entries
 *     56  32   SHA-256 of the header
 *     88  32   SHA-256 of the index (which has the hash of every block)
 *    120  32   SHA-256 of the filter
 *    152  32   state digest
 *    184  32   zeros
 *    216  32   HMAC-SHA256 over bytes 0..215
 *    248  u32  zeros
 *    252  u32  crc32c of bytes 0..251
 *
 * State digest: the sum mod 2^256 (little-endian) of SHA-256(u32 key bytes | key | u64 LSN | value) of every entry. It
 * is the same for the same state, however it is cut into blocks, and is brought along by what changed.
 *
 * The HMAC is made by the HSM under the realm's MAC key: nobody without the realm's keys makes a file that opens.
 *
 * So a reader that has verified the footer and the index may serve any single block after hashing it, without having
 * read the rest of the file: that is how reads are answered while a node recovers.
 */
#ifndef COFFER_ENGINE_SNAPFILE_H
#define COFFER_ENGINE_SNAPFILE_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"
#include "engine/record.h"

#define SNAPFILE_FORMAT 1
#define SNAPFILE_HEADER_BYTES 128
#define SNAPFILE_FOOTER_BYTES 256
#define SNAPFILE_FOOTER_SIGNED_BYTES 216
#define SNAPFILE_INDEX_ENTRY_BYTES 52 /* and the key */
#define SNAPFILE_BLOCK_BYTES (32u << 10)
#define SNAPFILE_HASH_BYTES 32
#define SNAPFILE_NAME_BYTES 40

struct snapfile_header {
    uint8_t cell_id[16];
    uint64_t lsn, time_ms;
    uint32_t term;
    uint8_t chain[RECORD_CHAIN_BYTES];
};

struct snapfile_footer {
    uint64_t index_off, index_bytes, filter_off, filter_bytes, blocks, entries;
    uint8_t header_hash[SNAPFILE_HASH_BYTES], index_hash[SNAPFILE_HASH_BYTES], filter_hash[SNAPFILE_HASH_BYTES];
    uint8_t digest[SNAPFILE_HASH_BYTES];
    uint8_t hmac[SNAPFILE_HASH_BYTES];
};

struct snapfile_entry {
    struct bytes key; /* store u16be | key */
    struct bytes value;
    uint64_t lsn;
};

struct snapfile_block { /* an index entry */
    uint64_t off;
    uint32_t bytes, entries;
    uint8_t hash[SNAPFILE_HASH_BYTES];
    struct bytes first_key; /* borrowed */
};

/* Names. parse: 1 when it is a snapshot's. */
void snapfile_name(char out[SNAPFILE_NAME_BYTES], uint64_t lsn, uint32_t term);
int snapfile_parse_name(const char *name, uint64_t *lsn, uint32_t *term);

/* Encoders fill their output wholly. Decoders verify magic, CRC and ranges: ERR_CORRUPT, *out zeroed. The HMAC and the
 * hashes are the reader's to compare. */
void snapfile_put_header(uint8_t out[SNAPFILE_HEADER_BYTES], const struct snapfile_header *h);
must_use enum err snapfile_get_header(const uint8_t in[SNAPFILE_HEADER_BYTES], struct snapfile_header *h);
void snapfile_put_footer(uint8_t out[SNAPFILE_FOOTER_BYTES], const struct snapfile_footer *f);
must_use enum err snapfile_get_footer(const uint8_t in[SNAPFILE_FOOTER_BYTES], struct snapfile_footer *f);

/* Appends an entry whose predecessor in the block has the key before (empty: the first). ERR_OOM, ERR_TOOBIG. */
must_use enum err snapfile_put_entry(struct buf *block, struct bytes before, const struct snapfile_entry *e);
/* Takes the next entry off *in. key holds the key before on entry (empty: first of a block) and this one after it;
 * e->key points into it, e->value into in. ERR_END, ERR_CORRUPT, ERR_OOM. */
must_use enum err snapfile_get_entry(struct bytes *in, struct buf *key, struct snapfile_entry *e);

must_use enum err snapfile_put_index(struct buf *index, const struct snapfile_block *b);
must_use enum err snapfile_get_index(struct bytes *in, struct snapfile_block *b); /* ERR_END, ERR_CORRUPT */

/* The filter. groups: bytes / 64, at least 1. */
uint64_t snapfile_filter_bytes(uint64_t entries); /* what a filter for so many has */
void snapfile_filter_add(uint8_t *filter, uint64_t bytes, struct bytes key);
int snapfile_filter_may_have(const uint8_t *filter, uint64_t bytes, struct bytes key);

/* The digest of one entry is added to, or taken off a sum. */
void snapfile_digest_add(uint8_t sum[SNAPFILE_HASH_BYTES], const struct snapfile_entry *e);
void snapfile_digest_sub(uint8_t sum[SNAPFILE_HASH_BYTES], const struct snapfile_entry *e);

#endif
