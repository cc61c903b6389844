/* tablecheck.h - the tables of a LevelDB store that is in use, read from the disk and verified: every block's checksum,
 * and that the blocks lie one behind the other from the first byte of the file to its footer, so that no byte is left
 * unlooked at. For the scrub; it opens nothing in LevelDB, holds nothing back there, and fills no cache.
 *
 * Threads: any. All block on the disk.
 */
#ifndef COFFER_ENGINE_TABLECHECK_H
#define COFFER_ENGINE_TABLECHECK_H

#include "engine/store.h"

struct tablecheck_table {
    uint64_t number, bytes;
};

/* The tables that the store is made of now, lowest number first, to be given to mem_free. Numbers go up with time. The
 * caller uses the store (store_ref). ERR_OOM. */
must_use enum err tablecheck_list(struct store *s, struct tablecheck_table **tables, size_t *count);

/* One of them. pace: after so many bytes, may wait; its errors end the reading. ERR_NOTFOUND: there is no such file.
 * ERR_CORRUPT, ERR_IO, ERR_OOM. A table that is not in the list any more may be half deleted. */
must_use enum err tablecheck_verify(const struct store *s, const struct tablecheck_table *t,
                                    enum err (*pace)(void *arg, uint64_t bytes), void *pace_arg);

#endif
