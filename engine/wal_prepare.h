/* wal_prepare.h - the log's helper thread: keeps the next segment ready, syncs the mark, watches the free space.
 *
 *     none --prepare--> ready --wal_prepare_take--> taken --wal_prepare_renamed--> none
 *
 * The next segment is DIR/next: really written zeros, synced. It is the writer's from take on; until
 * wal_prepare_renamed the helper does not touch that name.
 *
 * Threads: take and renamed by the log writer; room and dirty by any.
 */
#ifndef COFFER_ENGINE_WAL_PREPARE_H
#define COFFER_ENGINE_WAL_PREPARE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "engine/wal_mark.h"

struct wal_segment;

struct wal_prepared {
    int fd; /* open for writing and reading */
    uint64_t bytes;
    struct wal_segment *seg; /* zeroed memory for the segment's place in the list, with one reference */
};

struct wal_prepare {
    char *dir, *path; /* path: DIR/next */
    uint64_t segment_bytes;
    unsigned tick_ms;
    struct wal_mark *mark;
    _Atomic int *failed; /* the log's sticky failure: set here too, and heeded */

    pthread_t thread;
    int started;
    pthread_mutex_t lock;
    pthread_cond_t wake, done; /* for the helper; for the writer that waits for a segment */
    /* under lock */
    int stop;
    enum { WAL_NEXT_NONE, WAL_NEXT_BUSY, WAL_NEXT_READY, WAL_NEXT_TAKEN } state;
    struct wal_prepared next;
    uint64_t want_bytes; /* the next segment's size at least */
    enum err error;      /* of the last try */
    uint64_t retry_us;   /* when to try again */

    _Atomic uint64_t ready_bytes; /* 0: not ready */
    _Atomic uint64_t disk_free;
    _Atomic int no_space; /* error is set */
};

/* Removes what an earlier process left, prepares the first segment at once, starts the thread. That there is no space
 * for a segment is no error. ERR_IO, ERR_OOM. Strings are copied; mark and failed must outlive p. */
must_use enum err wal_prepare_start(struct wal_prepare *p, const char *dir, uint64_t segment_bytes, unsigned tick_ms,
                                    struct wal_mark *mark, _Atomic int *failed);
/* Ends the thread, which syncs nothing more; frees. Accepts a zeroed one. DIR/next stays. */
void wal_prepare_stop(struct wal_prepare *p);

/* The next segment, of at least bytes; out owns it. Blocks while it is being made. ERR_MISCONF, ERR_IO, ERR_OOM: it
 * cannot be had, also after one more try. */
must_use enum err wal_prepare_take(struct wal_prepare *p, uint64_t bytes, struct wal_prepared *out);
void wal_prepare_renamed(struct wal_prepare *p);  /* the name DIR/next is free again */
void wal_prepare_drop(struct wal_prepared *next); /* closes and frees what is still in it */

void wal_prepare_dirty(struct wal_prepare *p); /* the mark was stored: to be synced a tick after the last time */

/* 1: a segment that can hold bytes is ready, or the disk has space for another beside reserve_bytes. */
int wal_prepare_room(struct wal_prepare *p, uint64_t bytes, uint64_t reserve_bytes);
int wal_prepare_reserve(struct wal_prepare *p, uint64_t reserve_bytes); /* 1: reserve_bytes are free on the disk */

#endif
