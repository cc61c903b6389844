/* sequencer_impl.h - the insides, shared by sequencer.c (who evaluates writes), groups.c (what becomes of a group) and
 * gate.c (what is done for the gate's owner). */
#ifndef COFFER_ENGINE_SEQUENCER_IMPL_H
#define COFFER_ENGINE_SEQUENCER_IMPL_H

#include "engine/engine_impl.h"

#define GROUP_BYTES_MAX (4u << 20) /* a group is handed over at this size even if more is waiting */
#define GROUPS 16                  /* gathering, being written, and written but not committed */

struct sequencer {
    struct engine *e;
    struct mpsc queue;
    pthread_t sequencer_thread, writer_thread;
    struct sequencer_gate gate; /* changed NULL: alone */

    pthread_mutex_t lock;
    pthread_cond_t work;   /* for the sequencer: queue, its group was taken, room, stop */
    pthread_cond_t handed; /* for the log writer */
    pthread_cond_t idle;   /* for the gate's owner: the sequencer resigned or waits, the log writer is done */
    struct group *writing; /* NULL: the log writer is free */
    struct group *ready;   /* NULL, or g: it may be taken, unless the sequencer is back first */
    struct group *written, **written_last; /* not committed yet, oldest first */
    struct group *spare;
    int busy;  /* a thread is the sequencer: the one of that name, or one that submits */
    int waits; /* the sequencer waits until its group was taken, and touches nothing */
    int hold;  /* nobody may become the sequencer: a gate is being put in, or a term begins */
    int stop, writer_stop;

    /* the sequencer's own; a closed gate's owner's */
    struct group groups[GROUPS], *g;
    struct buf ops, undo;
    uint64_t next_lsn;
    _Atomic uint32_t term;     /* for others to read */
    struct mpsc_node *limbo;   /* the gate's owner's */
    struct mpsc_node *settled; /* the gate's owner's: committed, and told when they are visible */
    int behind;                /* the gate's owner's */
    enum err tail_err;         /* the gate's owner's: what the log of the engine said last of reading it */
    uint64_t tail_lsn; /* the gate's owner's: up to here no group has what is not committed: an earlier run's, spilt */

    _Atomic int failed;
    _Atomic uint64_t durable_lsn; /* of what is written */
    _Atomic int closed;           /* enum err that writes are refused with; ERR_OK: open */
    _Atomic uint64_t last_group_records, submitted, completed;
};

/* ---- groups.c ---- */

void groups_init(struct sequencer *q, const uint8_t chain[RECORD_CHAIN_BYTES]);
void groups_fini(struct sequencer *q);
void *groups_writer_main(void *q);

/* These with the lock held. */
void groups_offer(struct sequencer *q);     /* what was gathered may be taken */
void groups_hand_over(struct sequencer *q); /* and waits until it was */
void groups_start(struct sequencer *q);     /* the gathered group is the log writer's; that is free, and one is spare */
/* Drops what was gathered as if it had never been; its writes are appended to *refused. */
void groups_drop_gathered(struct sequencer *q, struct mpsc_node ***refused);
/* Ends the waiting of own groups that are written: their writes are in limbo, or, without a record, in *refused. */
void groups_disown(struct sequencer *q, struct mpsc_node ***refused);
/* Records above lsn, of groups that are written; nothing gathers. What does next chains from chain. */
void groups_forget_above(struct sequencer *q, uint64_t lsn, const uint8_t chain[RECORD_CHAIN_BYTES]);
/* As sequencer_recent, of a group that has first. */
must_use enum err groups_copy(const struct group *g, uint64_t first, uint64_t last, size_t limit, struct buf *out,
                              uint64_t *end);

void groups_free_oldest(struct sequencer *q);        /* of those that are written; lock held */
void groups_show(struct sequencer *q, uint64_t lsn); /* makes visible what is committed; takes the lock */
/* Makes visible records behind the commit LSN, up to `to`, that are in the log and in no group: as many as take some
 * milliseconds, one at least, but on an error. ERR_CORRUPT, ERR_IO, ERR_OOM: the same again later. */
must_use enum err groups_show_tail(struct sequencer *q, uint64_t to);
void groups_done(struct sequencer *q, struct mpsc_node *first,
                 enum err err); /* err: their outcome; ERR_OK: it is set */

#endif
