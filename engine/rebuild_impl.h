/* rebuild_impl.h - what the parts of rebuild.h share. For engine/rebuild*.c only.
 *
 *     rebuild.c         the thread: what is wanted and when, who waits, what others learn of it
 *     rebuild_steps.c   one rebuild, from LOADING to the swap
 */
#ifndef COFFER_ENGINE_REBUILD_IMPL_H
#define COFFER_ENGINE_REBUILD_IMPL_H

#include "engine/engine_impl.h"
#include "engine/storecheck.h"
#include "engine/storefill.h"

/* What is known of a store. */
struct shelf {
    int wanted;                      /* it failed, or damage was found */
    int failed;                      /* it failed: wanted until it is back */
    int filling;                     /* it was lost at the start, and is not there yet */
    uint64_t fill_total;             /* what there is to do then, about */
    uint64_t not_before_ms, rest_ms; /* by itself */
    struct store *old;               /* replaced, and not closed yet; the thread's own, as the next */
    uint32_t old_generation;
};

struct rebuild {
    struct engine *e;
    pthread_t thread;
    int started;

    pthread_mutex_t lock; /* what follows, but for the old stores */
    pthread_cond_t wake;
    int stop;
    struct rebuild_wait *waits;
    uint64_t needed_lsn, begun_ms, started_ms;
    uint64_t fill_all, fill_done, fill_now, fill_ms; /* of all; of stores that are there; of the one under way */
    int fill_said;
    uint64_t said_ms; /* how far it is; the thread's own */
    const char *hold; /* tests */
    struct rebuild_info info;
    struct shelf shelf[ENGINE_STORES_MAX];
};

/* One rebuild. */
struct rebuild_job {
    struct storefill f;
    struct rebuild *r;
    struct engine *e;
    struct wal_cursor *cursor;
    uint32_t generation;
    uint64_t from_lsn;
    int placed;
    int hurt;                                                      /* readers cannot have all from what there is */
    char made[STORECHECK_PATH_BYTES], path[STORECHECK_PATH_BYTES]; /* as .new, and as it is to be */
    char why[160];
};

/* The whole of it, on the rebuild's thread, without the lock. On an error nothing of it is left, and job->why may say
 * more. */
must_use enum err rebuild_store(struct rebuild_job *j);
/* How far it is, for rebuild_info. Takes the lock. */
void rebuild_note_progress(struct rebuild_job *j);

#endif
