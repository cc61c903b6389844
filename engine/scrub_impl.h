/* scrub_impl.h - what the parts of scrub.h share. For engine/scrub*.c only.
 *
 *     scrub.c          the thread: when a pass begins, from item to item, what is told of it; open and free
 *     scrub_stages.c   the table of stages: how the next item of each is read, and made good
 */
#ifndef COFFER_ENGINE_SCRUB_IMPL_H
#define COFFER_ENGINE_SCRUB_IMPL_H

#include "engine/engine_impl.h"

#define SCRUB_FILES_MAX 64

struct scrub_position {
    enum scrub_stage stage;
    unsigned store;
    uint64_t at; /* first LSN; 0 the MANIFEST, else number of a table; LSN that the snapshot is below */
};

/* What was read. */
struct scrub_item {
    char name[SCRUB_NAME_BYTES];
    struct scrub_position next; /* behind it */
    unsigned store;
    uint64_t lsn; /* a segment's last, a snapshot's */
};

struct scrub {
    struct engine *e;
    pthread_t thread;
    int started;

    pthread_mutex_t lock; /* what follows, but for the thread's own */
    pthread_cond_t wake;
    int stop, in_pass;
    uint64_t rate;
    struct scrub_wait *waits, *serving; /* new ones; those whom this pass is for */
    struct scrub_info info;
    int answered; /* by whom a repair was asked for */

    /* the thread's own */
    struct scrub_position at;
    uint64_t until_table;                                /* newer tables of this store are for the next pass */
    uint64_t pass_bytes_all, begun_ms, due_ms, saved_ms; /* by clock_mono */
    unsigned items, errors, repaired, skipped;           /* of this pass */
    struct rebuild_wait rebuild;
    struct snapshots_wait snapshot;
};

/* A row for each stage. */
struct scrub_stage_row {
    uint64_t from; /* where the position begins */
    /* Reads the next item; it says which one that was. ERR_END: there is none. ERR_NOTFOUND: nothing to read there. */
    enum err (*read)(struct scrub *s, struct scrub_item *it);
    enum err (*repair)(struct scrub *s, const struct scrub_item *it);
};
extern const struct scrub_stage_row scrub_stages[SCRUB_STAGES];

/* After so many bytes: waits as long as the rate has it. ERR_AGAIN: the item is to be left. */
must_use enum err scrub_pace(void *scrub, uint64_t bytes);

#endif
