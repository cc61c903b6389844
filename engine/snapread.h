/* snapread.h - reading a snapshot file in place (snapfile.h).
 *
 * snapread_open verifies footer, its HMAC, header, index and filter: some MiB for a file of GiBs, so that a node can
 * answer reads from it within a second of its start, whatever it holds. A block is hashed the first time that anything
 * of it is read, and compared with the index; until that has fit nothing in it is believed.
 *
 *     snapread_get      one key: filter, index (binary search), one pread, one block walked
 *     snapread_iter     all keys from one on, in order; reads ahead
 *     snapread_verify   every block, at a pace: for SNAPSHOT.VERIFY and the scrub
 *
 * Damage: a block that does not verify is ERR_CORRUPT for what lies in it and for nothing else; it is asked anew each
 * time (a later read may come from a healthy copy of the page). An open that fails leaves the file as it is.
 *
 * Memory: index and filter, some 100 bytes a block and 10 bits an entry; a bit a block.
 * Threads: get by any number; an iterator by one at a time. Blocks on the disk. References: the file may be unlinked
 * meanwhile, the reader keeps it open.
 */
#ifndef COFFER_ENGINE_SNAPREAD_H
#define COFFER_ENGINE_SNAPREAD_H

#include "engine/blob.h"
#include "engine/snapfile.h"
#include "engine/snapwrite.h"

struct snapread;

struct snapread_info {
    struct snapfile_header header;
    uint64_t bytes, entries, blocks, blocks_verified;
    uint8_t digest[SNAPFILE_HASH_BYTES], content[SNAPFILE_HASH_BYTES]; /* content: SHA-256 of the index */
};

/* check->sign makes the HMAC that the footer must have. cell_id: what the header must say, NULL: any. why (n bytes)
 * says what did not fit. ERR_CORRUPT, ERR_UNSUPPORTED (a newer format), ERR_NOTFOUND, ERR_IO, ERR_OOM, and sign's
 * errors (the HSM does not answer: nothing is known about the file). One reference. */
must_use enum err snapread_open(struct snapread **out, const char *path, const uint8_t cell_id[16],
                                const struct snap_signer *check, char *why, size_t why_n);
struct snapread *snapread_ref(struct snapread *r);
void snapread_unref(struct snapread *r); /* accepts NULL; the last one closes */
void snapread_info(const struct snapread *r, struct snapread_info *out);

/* How many entries of a store there are, by the index: some more or less where another store's begin in a block. */
uint64_t snapread_entries(const struct snapread *r, uint16_t store);

/* The value of key in store, with a reference; ERR_NOTFOUND (*out NULL), ERR_CORRUPT, ERR_IO, ERR_OOM. */
must_use enum err snapread_get(struct snapread *r, uint16_t store, struct bytes key, struct blob **out);

/* From the first key at or behind (store, from) on. */
struct snapread_iter;
must_use enum err snapread_iter_new(struct snapread *r, uint16_t store, struct bytes from, struct snapread_iter **out);
void snapread_iter_free(struct snapread_iter *it); /* accepts NULL */
/* The same anew from another key, forward or back: cheap when it is near. ERR_OOM: the iterator is where it was. */
must_use enum err snapread_iter_seek(struct snapread_iter *it, uint16_t store, struct bytes from);
/* The next entry; it lives until the next call. ERR_END, ERR_CORRUPT (and again: the iterator does not step over
 * damage), ERR_IO, ERR_OOM. */
must_use enum err snapread_iter_next(struct snapread_iter *it, struct snapfile_entry *e);

/* Reads and hashes every block. pace as in snapwrite.h. ERR_CORRUPT, ERR_IO: *bad_block (its number) is the first that
 * does not fit, or cannot be read. */
must_use enum err snapread_verify(struct snapread *r, enum err (*pace)(void *arg, uint64_t bytes), void *arg,
                                  uint64_t *bad_block);

#endif
