/* lend.h - snapshots that other nodes copy from this one (REPL.SNAPSHOT, REPL.PIECE; resync.h is the other side).
 *
 * A file that was chosen for somebody is *lent*: it can be read whatever becomes of its name, and the log behind it is
 * kept (lend_needed_lsn), so that whoever has it can go on from there. That lasts as long as pieces of it are asked
 * for, and LEND_MS longer. Several may copy one file. There is no other state: who comes again after a break, or after
 * a restart of this node, says how far he is.
 *
 * A slow reader costs one piece in his connection's output buffer and one open file.
 *
 * Threads: any. choose and read block on the disk, choose on the HSM too.
 */
#ifndef COFFER_SERVER_LEND_H
#define COFFER_SERVER_LEND_H

#include "base/buf.h"
#include "engine/snapshots.h"

#define LEND_MS 60000
#define LEND_FILES 4
#define LEND_PIECE_BYTES (256u << 10) /* at most so much at a time */

struct lend;

/* dir: where the files are; it outlives this. ERR_OOM. */
must_use enum err lend_new(struct lend **out, const char *dir);
void lend_from(struct lend *l, struct snapshots *s); /* before anything is chosen or read */
void lend_free(struct lend *l);                      /* after snapshots_end; accepts NULL */

struct lend_file {
    uint64_t lsn, bytes;
    uint32_t term;
};

struct lend_want {
    uint64_t from_lsn;  /* at or behind it */
    uint64_t below_lsn; /* and not this one, which was no good: below it, or made since; 0: any */
    uint64_t have_lsn;  /* he has some of this one: rather that than a newer one; 0: nothing */
    uint32_t have_term;
};

/* The newest that verifies as snapread_open does. ERR_LOADING: there is none yet, and one is being made: ask again.
 * After one that was no good it is at the end of a longer log, so it comes when something was written. ERR_AGAIN:
 * LEND_FILES are lent. ERR_IO, ERR_OOM, and those of the HSM. */
must_use enum err lend_choose(struct lend *l, const struct lend_want *w, uint64_t now_ms, struct lend_file *out);
/* Appends up to n bytes at off, fewer at the end of the file. ERR_NOTFOUND: it is not here any more, choose anew.
 * ERR_RANGE: off is behind its end, or n is too much. ERR_IO, ERR_OOM. */
must_use enum err lend_read(struct lend *l, uint64_t lsn, uint32_t term, uint64_t off, uint64_t n, uint64_t now_ms,
                            struct buf *out);
/* The first LSN of the log that somebody who copies will need; UINT64_MAX: nobody. */
uint64_t lend_needed_lsn(struct lend *l, uint64_t now_ms);

#endif
