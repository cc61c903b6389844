/* scrub.h - all of a node's files are read from the disk and verified, round and round, so that rot is found while
 * there is still another copy of what it took (docs/recovery.md).
 *
 * One thread, of the lowest priority for processor and disk, at most `rate` bytes a second. A pass:
 *
 *     LOG          sealed segments, oldest first: header, CRC and chain of every record, footer
 *     STORES       of each store what only an open reads (CURRENT, MANIFEST), then every block of every table
 *     SNAPSHOTS    newest first: signature, index, every block
 *
 * Not read: what is in memory as well and about to be written anew (the segment being written, LevelDB's log). What is
 * read goes past the page cache or leaves nothing there. A pass begins an hour after the one before; it goes on where
 * it was after a restart (DIR/scrub, written once a minute: a hint, nothing rests on it).
 *
 *     state       until
 *     OFF         the rate is not 0, or somebody asks
 *     RESTING     the next pass is due, or somebody asks
 *     READING     the pass is through (RESTING), or an item is damaged twice in a row (REPAIRING)
 *     REPAIRING   the item is repaired, or cannot be (READING)
 *
 * **Damage** is made good by who is there for it, and the scrub waits for the outcome:
 *
 *     a store       is rebuilt from snapshot and log (rebuild.h)
 *     a snapshot    is passed over from then on, and a new one made (snapshots_damaged)
 *     the log       is mended from another node's records (engine_config.mend_log). Where nobody has them it is left
 *                   behind: a snapshot is made behind the segment, then it goes (snapshots_log_damaged)
 *
 * A read that fails (ERR_IO) is damage. What cannot be judged (no HSM to sign with, no memory) is passed over and
 * looked at in the next pass.
 *
 * Threads: all from any but new, start, stop, free. None blocks but stop, for a read, or for a peer.
 */
#ifndef COFFER_ENGINE_SCRUB_H
#define COFFER_ENGINE_SCRUB_H

#include <stdint.h>

#include "base/err.h"

struct engine;
struct scrub;

/* bytes_per_s 0: only when asked. ERR_OOM. */
must_use enum err scrub_new(struct scrub **out, struct engine *e, uint64_t bytes_per_s);
must_use enum err scrub_start(struct scrub *s); /* when all else runs */
/* Ends the thread; before those it may wait for (rebuild_stop, snapshots_end). Accepts NULL. */
void scrub_stop(struct scrub *s);
void scrub_free(struct scrub *s); /* after them; accepts NULL */

void scrub_set_rate(struct scrub *s, uint64_t bytes_per_s);

/* A whole pass from the beginning, now; one that is under way is given up. It goes at SCRUB_ASKED_BYTES_PER_S, or at
 * the rate when that is higher. done() on the scrub thread when it is through, or here when that has ended (ERR_AGAIN).
 * w is the caller's until then; the other fields are results. */
#define SCRUB_ASKED_BYTES_PER_S (64u << 20)
struct scrub_wait {
    struct scrub_wait *next; /* private */
    void (*done)(struct scrub_wait *w);
    enum err err;
    uint64_t pass, bytes, ms;
    unsigned items, skipped, errors, repaired;
};
void scrub_demand(struct scrub *s, struct scrub_wait *w);

enum scrub_state { SCRUB_OFF, SCRUB_RESTING, SCRUB_READING, SCRUB_REPAIRING };
enum scrub_stage { SCRUB_LOG, SCRUB_STORES, SCRUB_SNAPSHOTS, SCRUB_STAGES };
const char *scrub_state_name(enum scrub_state s);

#define SCRUB_NAME_BYTES 80
struct scrub_info {
    enum scrub_state state;
    uint64_t pass;                       /* its number, from 1; 0: none yet */
    char position[SCRUB_NAME_BYTES];     /* what is being read, or was last */
    unsigned percent;                    /* of this pass, by bytes, about */
    uint64_t bytes;                      /* read in this pass */
    uint64_t total_bytes;                /* since the start */
    unsigned errors, repaired, skipped;  /* since the start */
    uint64_t last_pass_ms, last_took_ms; /* when the last pass was through (wall clock, also from before a restart), how
                                            long it took; 0: none was */
    char last_error[160];                /* what was damaged last, and what came of it */
};
void scrub_info(struct scrub *s, struct scrub_info *out);

#endif
