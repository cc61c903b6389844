/* snapio.h - what the writer and the reader of snapshot files do alike: reading a block and a file's ends from the
 * disk, and comparing them with everything in the file that speaks of them. Only the HMAC is left to the reader, who
 * can make one.
 *
 * A tail is read in two steps, so that nothing large is read for a footer that nobody signed:
 *
 *     snapio_read_ends    header and footer; sizes and offsets fit one another and the file
 *     snapio_read_index   index and filter; hashes, and every block is where the one before ends, with a higher first
 * key
 *
 * why: what did not fit, a static text; set with ERR_CORRUPT and ERR_UNSUPPORTED, else NULL. Blocks on the disk.
 */
#ifndef COFFER_ENGINE_SNAPIO_H
#define COFFER_ENGINE_SNAPIO_H

#include "engine/snapfile.h"

struct snapio_tail {
    struct snapfile_header header;
    struct snapfile_footer footer;
    uint8_t signed_bytes[SNAPFILE_FOOTER_SIGNED_BYTES];
    uint64_t file_bytes;
    uint8_t *index, *filter; /* owned */
    uint64_t *at;            /* owned: where in index the entry of each block begins */
};

/* ERR_CORRUPT, ERR_UNSUPPORTED, ERR_IO, ERR_OOM; the tail is to be given to snapio_tail_fini in any case. */
must_use enum err snapio_read_ends(int fd, struct snapio_tail *t, const char **why);
must_use enum err snapio_read_index(int fd, struct snapio_tail *t, const char **why);
void snapio_tail_fini(struct snapio_tail *t);

/* The i-th block, of a tail whose index was read. */
void snapio_block(const struct snapio_tail *t, uint64_t i, struct snapfile_block *b);

/* Exactly n bytes. ERR_CORRUPT: the file ends before. ERR_IO. */
must_use enum err snapio_read(int fd, void *mem, size_t n, uint64_t off);

/* mem (b->bytes) is block b: its CRC, with hash also its SHA-256. *entries: what is in it. ERR_CORRUPT. */
must_use enum err snapio_check_block(const struct snapfile_block *b, const uint8_t *mem, int hash,
                                     struct bytes *entries);

#endif
