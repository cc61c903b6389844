/* store.h - one LevelDB store: the base store, or a shard.
 *
 * LevelDB is a disposable cache of the log: written unsynced, rebuilt from log or snapshot when it does not verify.
 * Opened with paranoid_checks; no compression (what is in it is ciphertext); a Bloom filter of 10 bits per key; one
 * writer (the applier).
 *
 * Every value is framed:   u64 lsn of the record that wrote it | u32 crc32c of key, lsn and payload | payload
 *
 * Every read verifies LevelDB's block checksums too. The frame alone would not do: it proves that a value was once
 * written under its key, but a flipped bit in a *key* hides the newest value, and then an older one, or none, would be
 * served.
 *
 * Keys that start with 0x00 are the store's own, and hidden from iterators. Their frame's lsn is their value, the
 * payload is empty:
 *
 *     00 'a'   applied LSN: in every batch
 *     00 'c'   checkpoint LSN: all log records up to it are on disk for sure, power loss or not
 *
 * **Checkpoint** (docs/recovery.md): LevelDB closes its old .log without fsync when it switches memtables, so neither
 * the applied LSN nor a synced write is a recovery point after a power loss. store_checkpoint reads the applied LSN,
 * fdatasyncs every *.log of the directory and the directory, then writes 00 'c'.
 *
 * **Opening** checks what LevelDB lets pass: a .log or MANIFEST that ends early is taken for the last words of a dying
 * writer, and whatever followed is dropped without an error. That is harmless only at the end of the newest .log: there
 * the state is that of an earlier batch, applied LSN included. Anywhere else it leaves a hole under a newer applied
 * LSN, and is ERR_CORRUPT here.
 *
 * **Failure.** The first write or checkpoint that fails makes the store failed for good: from then on every get, scan
 * and write answers that error, because what was to be written is in the log only, and LevelDB would serve what was
 * there before. Another takes its place (rebuild.h).
 *
 * Memory: tables are read with pread through a block cache, not mapped (mapped tables count in RSS as soon as they are
 * touched, all of them under random reads, and a bad sector is a SIGBUS): per million keys about 8 MiB of indexes and
 * filters, plus cache_bytes, plus up to twice write_buffer_bytes. Out of memory inside LevelDB ends the process.
 *
 * Threads: store_write and store_checkpoint each by one thread at a time; gets and iterators from any. All block on
 * disk.
 */
#ifndef COFFER_ENGINE_STORE_H
#define COFFER_ENGINE_STORE_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"
#include "engine/blob.h"

struct store;

struct store_config {
    const char *path;          /* its parent exists */
    size_t write_buffer_bytes; /* 0: 4 MiB */
    size_t cache_bytes;        /* of blocks; 0: 1 MiB */
    int max_open_files;        /* 0: 200; LevelDB takes at least 74 */
};

/* Opens or creates. ERR_CORRUPT when there is damage (it is lost: rebuild.h fills another), ERR_IO,
 * ERR_MISCONF (no space), ERR_OOM. */
must_use enum err store_open(struct store **out, const struct store_config *cfg);
void store_close(struct store *s); /* nobody uses it any more (below); accepts NULL */

/* Users besides its owner, who closes it: those who may be inside a get, and every iterator, count. The owner makes
 * sure that nobody new can come by it, waits until there are none, and only then closes (rebuild.h). Any thread. */
struct store *store_ref(struct store *s);
void store_unref(struct store *s); /* accepts NULL */
unsigned store_users(const struct store *s);

const char *store_path(const struct store *s); /* as opened */

uint64_t store_applied(const struct store *s); /* as of open, then of the last write */
uint64_t store_checkpointed(const struct store *s);
enum err store_failed(const struct store *s); /* ERR_OK, or the error that made it failed */

/* The value of key with a reference for the caller. ERR_NOTFOUND (*out NULL), ERR_CORRUPT (frame or LevelDB's own
 * check), ERR_IO, ERR_OOM. */
must_use enum err store_get(struct store *s, struct bytes key, struct blob **out);

/* Collects writes for one atomic batch. An allocation that fails is remembered: store_write answers ERR_OOM then and
 * writes nothing. */
struct store_batch;
must_use enum err store_batch_new(struct store_batch **out);
void store_batch_free(struct store_batch *b); /* accepts NULL */
void store_batch_put(struct store_batch *b, struct bytes key, struct bytes value, uint64_t lsn);
void store_batch_delete(struct store_batch *b, struct bytes key);
size_t store_batch_bytes(const struct store_batch *b);

/* Writes the batch and the applied LSN atomically, unsynced. applied_lsn never goes back (asserted). Clears the batch
 * in any case. ERR_OOM: nothing was written, the store is as before. ERR_IO, ERR_MISCONF, ERR_CORRUPT: the store is
 * failed. */
must_use enum err store_write(struct store *s, struct store_batch *b, uint64_t applied_lsn);

/* See above. On success *lsn is the new checkpoint. Any failure but ERR_OOM: the store is failed. */
must_use enum err store_checkpoint(struct store *s, uint64_t *lsn);

/* Ordered scan over a consistent view: the store as it was at store_iter_new. Checksums are verified; the scan ends at
 * the first damage (valid is 0, status tells): what LevelDB has behind it might be older values of the keys that it
 * could not read. */
struct store_iter;
/* The caller uses the store meanwhile; from then on the iterator does. */
must_use enum err store_iter_new(struct store *s, struct store_iter **out);
void store_iter_free(struct store_iter *it);                   /* accepts NULL */
void store_iter_seek(struct store_iter *it, struct bytes key); /* to the first key >= key */
int store_iter_valid(struct store_iter *it);
void store_iter_next(struct store_iter *it);
struct bytes store_iter_key(struct store_iter *it); /* until the next move */
/* Payload of the current value, checked; until the next move. ERR_CORRUPT. */
must_use enum err store_iter_value(struct store_iter *it, struct bytes *payload, uint64_t *lsn);
must_use enum err store_iter_status(struct store_iter *it); /* ERR_OK, or why the scan ended early */

/* LevelDB's own figures, as text, for INFO: property as in LevelDB ("leveldb.stats"). ERR_NOTFOUND: LevelDB knows no
 * such property. */
must_use enum err store_property(struct store *s, const char *name, struct buf *out);

#endif
