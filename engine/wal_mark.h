/* wal_mark.h - the mark file: the highest LSN known durable, in 64 mapped bytes. The layout is in wal.h.
 *
 * Storing costs no system call; the helper thread syncs the file now and then. Why a mark can be believed across a
 * power loss, and what it is for, is in wal.h too. The file carries a lock (flock) as long as it is open: one process a
 * log.
 *
 * Threads: wal_mark_store and wal_mark_store_both by the log writer, wal_mark_sync by one other.
 */
#ifndef COFFER_ENGINE_WAL_MARK_H
#define COFFER_ENGINE_WAL_MARK_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"

#define WAL_MARK_BYTES 64

struct wal_mark {
    int fd;
    uint8_t *map;
    uint32_t seed;
    uint64_t boot, sequence;
    _Atomic int dirty; /* stored since the last sync */
};

/* Opens or creates DIR/mark. *lsn: what it says, 0 when no slot verifies; *this_boot: 1 when that was written in this
 * boot. ERR_AGAIN: locked by another process. ERR_IO, ERR_MISCONF, ERR_OOM; m is closed then. */
must_use enum err wal_mark_open(struct wal_mark *m, const char *dir, const uint8_t cell_id[16], uint64_t *lsn,
                                int *this_boot);
void wal_mark_close(struct wal_mark *m); /* does not sync; accepts a closed one */

/* All records up to lsn are durable. 1 when the mark was clean before: the helper thread is to be told. */
int wal_mark_store(struct wal_mark *m, uint64_t lsn);
/* The same in both slots: nothing older is left to fall back to. */
void wal_mark_store_both(struct wal_mark *m, uint64_t lsn);
must_use enum err wal_mark_sync(struct wal_mark *m);

/* Tests: the boot id to go by instead of the kernel's, NULL: the kernel's again. text is kept as a pointer. */
void wal_mark_test_set_boot(const char *text);

#endif
