/* install.h - log and state of a directory give way: to a snapshot that came from a peer, which is a full resync's last
 * step, or to nothing, when they are damaged and all of it comes from peers anew. They are deleted, or set aside.
 *
 *     DIR/fetch/<snapshot's name>.part    it comes here, bit by bit, and is verified here
 *     DIR/install                         text: that it counts. "coffer-install 1", "cell-id " and 32 hex digits,
 *                                         "shards ", "lsn ", "term ", "chain " and 64 hex digits, "aside " and "log ",
 * each with 0 or 1 DIR/aside/                          what was set aside: wal, stores, snapshots under the names that
 * they had. Nothing in here reads it or deletes it
 *
 * There is one moment at which the old state ends and the new one begins: when DIR/install is durable (install_mark).
 * Until then nothing of the old state was touched. From then on the next start finishes the work before anything is
 * opened (install_finish): the log, the stores and the other snapshots go, the file gets its name in DIR/snapshots,
 * DIR/cell and, unless the log stays, DIR/begin are written (celldir.h), and the mark is removed, last. Each of these
 * steps may be done twice, so a start that dies in the middle is finished by the next one.
 *
 * **Set aside** is what an inquest may want: one set, since a disk has to hold it beside what comes. While there is one
 * nothing else is set aside: who would be next is not helped by a copy, or an operator has not looked yet.
 *
 * The voting file stays, since what was promised must not be forgotten; but when the snapshot is another cell's, it
 * goes with what it was about.
 *
 * Functions of the disk, on which they block. Nobody else uses the directory during install_finish.
 */
#ifndef COFFER_ENGINE_INSTALL_H
#define COFFER_ENGINE_INSTALL_H

#include "engine/snapread.h"

#define INSTALL_FETCH "fetch"
#define INSTALL_ASIDE "aside"
#define INSTALL_PATH_BYTES 4096
#define INSTALL_WHY_BYTES 256

struct install {
    uint8_t cell_id[16];
    unsigned shards; /* that the directory has from then on */
    uint64_t lsn;    /* of the snapshot, with its record's term and chain; 0: nothing takes the old state's place */
    uint32_t term;
    uint8_t chain[RECORD_CHAIN_BYTES];
    int aside;    /* the old state is set aside, not deleted; with lsn 0 always */
    int keep_log; /* of this cell, and it goes on behind the snapshot's record: only stores and snapshots give way */
};

/* Where a snapshot of this name is fetched to. */
void install_path(char out[INSTALL_PATH_BYTES], const char *dir, uint64_t lsn, uint32_t term);

/* May what is here be set aside, now? ERR_CONFLICT: there is a set already. ERR_MISCONF: the disk has no room for as
 * much again as stores and snapshots are, beside keep_free_bytes. ERR_IO, ERR_OOM. why: a text for operators. */
must_use enum err install_may_set_aside(const char *dir, uint64_t keep_free_bytes, char why[INSTALL_WHY_BYTES]);
int install_has_aside(const char *dir); /* 1: there is a set, or that is not known */

/* The snapshot is at install_path, verified, and durable with its name. ERR_IO, ERR_MISCONF: whether it counts is not
 * known. */
must_use enum err install_mark(const char *dir, const struct install *in);
/* Before anything else of the directory is opened. ERR_NOTFOUND: there is nothing to finish. ERR_CORRUPT: the mark does
 * not verify, or its snapshot is not there. ERR_IO, ERR_MISCONF, ERR_OOM: the next start tries again. */
must_use enum err install_finish(const char *dir, struct install *out);

/* How many shards the vaults in a snapshot take, at least 1. ERR_CORRUPT (also: more than there can be), ERR_IO,
 * ERR_OOM. */
must_use enum err install_shards(struct snapread *r, unsigned *out);

#endif
