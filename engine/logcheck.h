/* logcheck.h - what a start did not read of the log is read right after it, beside traffic: a start does not take
 * longer with a longer log, and what rotted in it is known soon all the same.
 *
 * One thread of low priority, at most LOGCHECK_BYTES_PER_S; it ends when nothing is left. Damage is said in the log
 * file, and made good as when the scrub finds it: the segment is mended from another node's records, or else left
 * behind (engine_mend_log, snapshots_log_damaged). A disk that cannot be read is said too, and tried again after a
 * while.
 */
#ifndef COFFER_ENGINE_LOGCHECK_H
#define COFFER_ENGINE_LOGCHECK_H

#include "base/err.h"

#define LOGCHECK_BYTES_PER_S (128u << 20)

struct engine;
struct logcheck;

must_use enum err logcheck_start(struct logcheck **out, struct engine *e); /* ERR_OOM */
void logcheck_stop(struct logcheck *l);                                    /* before the log is closed; accepts NULL */

#endif
