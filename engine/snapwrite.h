/* snapwrite.h - making a snapshot file (snapfile.h): entries go in, in order of their keys; the file appears whole,
 * read back and verified, under its name, or not at all.
 *
 *     snapwrite_open -> snapwrite_add ... -> snapwrite_finish: DIR/<name>.snap is there, durable
 *                                         \-> snapwrite_abandon: nothing is left
 *
 * finish: the blocks are synced, dropped from the page cache and read back: what is compared with the hashes that were
 * taken in memory is what is on the disk. That pass fills the filter too, whose size is known only now. Then index,
 * filter and footer, signed by cfg.sign; sync; the same for these; rename from <name>.snap.tmp; sync of the directory.
 * A file that is there under the name already gives way in the same moment: it has the same bytes, or is damaged. Who
 * has it open goes on reading it.
 *
 * Traffic: blocks are written one by one, and the disk is asked to take them along the way (snapwrite never leaves more
 * than some MiB to one sync); between blocks cfg.pace may wait, as long as it likes.
 *
 * Memory: a block, the index (about 100 bytes a block), in finish the filter (10 bits an entry).
 * Failures: the first error ends it, whatever is called after it answers it again; abandon and a finish that fails
 * remove the file. ERR_MISCONF: no space. ERR_IO: also when the disk gave back other bytes than it was given.
 * ERR_TOOBIG: a key over 65,535 bytes with its store, a value over RECORD_MAX_BYTES. One exception: when the very last
 * step, the directory's sync, fails, the file is there and whole, but a power loss may take it away. Threads: one at a
 * time. All of it blocks on the disk.
 */
#ifndef COFFER_ENGINE_SNAPWRITE_H
#define COFFER_ENGINE_SNAPWRITE_H

#include "engine/snapfile.h"

struct snapwrite;

/* HMAC-SHA256 under a key that only the HSM has, over bytes (a footer's first SNAPFILE_FOOTER_SIGNED_BYTES). May block.
 * Any error ends what wanted it. */
struct snap_signer {
    enum err (*sign)(void *arg, struct bytes in, uint8_t out[SNAPFILE_HASH_BYTES]);
    void *arg;
};

struct snapwrite_config {
    const char *dir; /* exists; borrowed until the end. NULL: no file, of the result digest and entries alone */
    struct snapfile_header header;
    struct snap_signer sign;
    enum err (*pace)(void *arg, uint64_t bytes); /* after so many bytes more; an error (ERR_AGAIN: stop) ends it */
    void *pace_arg;                              /* pace may be NULL */
    int unreadable_is_lost;                      /* of old values: snapmerge.h */
};

must_use enum err snapwrite_open(struct snapwrite **out, const struct snapwrite_config *cfg);
/* Keys must go up (asserted). The digest of the entry is added to the sum. */
must_use enum err snapwrite_add(struct snapwrite *w, const struct snapfile_entry *e);
/* The same for an entry whose digest is in the sum already: see snapwrite_digest. */
must_use enum err snapwrite_add_known(struct snapwrite *w, const struct snapfile_entry *e);
/* The first failure so far. */
enum err snapwrite_failure(const struct snapwrite *w);
/* The running sum, to begin with that of the snapshot that this one is made from: then only what changed is to be added
 * (snapwrite_add) and what went or gave way to be taken off (snapfile_digest_sub), not every entry hashed anew. */
uint8_t *snapwrite_digest(struct snapwrite *w);

struct snapwrite_result {
    uint64_t bytes, entries, blocks;
    uint64_t lost;  /* old values that are nowhere any more; these two are snapmerge.h's, whatever comes of it */
    int unreadable; /* what it is made from cannot be read, ERR_IO: it is not the new file's fault */
    uint8_t digest[SNAPFILE_HASH_BYTES], content[SNAPFILE_HASH_BYTES]; /* content: SHA-256 of the index */
};
/* Frees w, whatever the outcome. */
must_use enum err snapwrite_finish(struct snapwrite *w, struct snapwrite_result *out);
void snapwrite_abandon(struct snapwrite *w); /* accepts NULL */

/* Removes files that a crash left half-made (*.snap.tmp). ERR_NOTFOUND (no such directory), ERR_IO, ERR_OOM. */
must_use enum err snapwrite_clean(const char *dir);

#endif
