/* celldir.h - what a data directory says about its cell before an engine opens it.
 *
 *     DIR/cell       text, written once: "coffer-cell 1", "cell-id " and 32 hex digits, "shards " and how many, a line
 *                    each
 *     DIR/begin      text, there only between the moment that a snapshot took the place of a log and the first record
 *                    behind it: "coffer-begin 1", "lsn ", "term ", "chain " and 64 hex digits; and "behind ", "tier ".
 *                    The log begins behind the record of this LSN and chain, whose term is `behind`; a barrier that
 *                    this node begins it with is of `term`. It is what makes a forced recovery count
 *                    (server/restore.h), and what an installed snapshot leaves (install.h), both in a directory
 *                    without stores; the engine removes it
 *
 *     DIR/wal/       the log
 *
 * Pure functions of the disk; any thread. They block on it.
 */
#ifndef COFFER_ENGINE_CELLDIR_H
#define COFFER_ENGINE_CELLDIR_H

#include <stdint.h>

#include "base/err.h"

struct celldir {
    uint8_t cell_id[16];
    unsigned shards; /* 1 to ENGINE_STORES_MAX - 1 */
};

/* ERR_NOTFOUND; ERR_CORRUPT: damaged, or of an unknown format; ERR_IO, ERR_OOM. *c is zeroed then. */
must_use enum err celldir_read(const char *dir, struct celldir *c);
/* Durable. ERR_IO, ERR_MISCONF. */
must_use enum err celldir_write(const char *dir, const struct celldir *c);

struct celldir_begin {
    uint64_t lsn;
    uint32_t term; /* not 0 */
    uint8_t chain[32];
    uint32_t behind; /* 0: not known */
    unsigned tier;   /* of recovery that the snapshot came by: 2: from a peer; 0: not said */
};

/* As above. */
must_use enum err celldir_read_begin(const char *dir, struct celldir_begin *b);
must_use enum err celldir_write_begin(const char *dir, const struct celldir_begin *b);
must_use enum err celldir_remove_begin(const char *dir); /* durable; ERR_OK when there is none */

/* *has: 1: there is at least one segment of a log in dir/wal. ERR_IO, ERR_OOM. */
must_use enum err celldir_has_log(const char *dir, int *has);

#endif
