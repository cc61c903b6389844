/* wal_impl.h - what the parts of wal.h share: the log, its list of segments. For engine/wal*.c and their tests only.
 *
 * Who may touch what:
 *
 *     cfg, damaged_lsn        set by wal_open, then constant
 *     list, last_*, counters  under lock
 *     fd, off, cap_bytes      the log writer's own
 *     segment: first_lsn, seed, chain, term   constant once it is in the list
 *     segment: end_off        stored by the log writer after the fdatasync, loaded by cursors
 *     segment: places, terms  under lock while it is the newest or not verified, then constant
 */
#ifndef COFFER_ENGINE_WAL_IMPL_H
#define COFFER_ENGINE_WAL_IMPL_H

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

#include "engine/wal.h"
#include "engine/wal_mark.h"
#include "engine/wal_places.h"
#include "engine/wal_prepare.h"
#include "engine/wal_segment.h"
#include "engine/wal_terms.h"

/* A segment in the list. Cursors hold references: it outlives its removal. */
struct wal_segment {
    struct wal_segment *next; /* newer; under the log's lock */
    uint64_t first_lsn;
    uint8_t chain[RECORD_CHAIN_BYTES]; /* before first_lsn */
    uint32_t term;                     /* likewise; 0: not known */
    uint32_t seed;
    _Atomic uint64_t end_off; /* records up to here are durable and verified */
    _Atomic int removed;      /* deleted, or replaced by another of the same name */
    _Atomic int verified;     /* enum wal_verified */
    _Atomic unsigned refs;
    struct wal_places places; /* both empty while it is not verified, up to the damage when there is some */
    struct wal_terms terms;
};

enum wal_verified {
    WAL_UNREAD, /* only its ends are known */
    WAL_WHOLE,
    WAL_DAMAGED, /* read, and something in it does not verify */
};

struct wal {
    struct wal_config cfg; /* cfg.dir is the log's own copy */
    char *dir;
    int dir_fd;
    uint64_t damaged_lsn;
    _Atomic int failed;
    struct wal_mark mark;
    struct wal_prepare prepare;
    pthread_mutex_t remove_lock; /* held while files and list may disagree (removal, cut); taken before lock */

    pthread_mutex_t lock;
    struct wal_segment *oldest, *newest;
    unsigned segments;
    uint64_t last_lsn;
    uint32_t last_term; /* of a log without records its base's */
    uint8_t chain[RECORD_CHAIN_BYTES];
    uint64_t fsyncs, groups, records, appended, sealed_bytes; /* sealed_bytes: of all segments but the newest */

    int fd; /* the newest segment, -1: sealed, or none yet */
    uint64_t off, cap_bytes;
    _Atomic uint64_t room_bytes; /* left in it for frames */
};

/* One reference, verified, with room for a term; NULL: out of memory. */
struct wal_segment *wal_segment_new(void);
struct wal_segment *wal_segment_ref(struct wal_segment *s);
void wal_segment_unref(struct wal_segment *s); /* accepts NULL */

/* Under lock: the segment that lsn is in, or, when it is yet to come, will be; NULL without any. Not below the first.
 */
struct wal_segment *wal_segment_with(const struct wal *w, uint64_t lsn);
/* Opens its file for reading. ERR_AGAIN: it was removed meanwhile, look it up anew. */
must_use enum err wal_segment_open(struct wal *w, struct wal_segment *s, int *fd);
/* After something in s was not as it should be: 1 when it has been removed or replaced, which explains it. Waits for a
 * removal or a cut that is under way. */
int wal_segment_gone(struct wal *w, struct wal_segment *s);
/* Reads it when only its ends are known: its index of places and terms is there then, up to the damage if there is
 * some. ERR_CORRUPT: it has damage; ERR_AGAIN: it was removed meanwhile; ERR_IO,
 * ERR_OOM. */
must_use enum err wal_segment_verify(struct wal *w, struct wal_segment *s);
/* Moves what a scan found of places and terms into the segment, as far as it lies before these ends. Under lock once it
 * is in the list. */
struct wal_scan;
void wal_segment_index(struct wal_segment *s, struct wal_scan *found, uint64_t last_lsn, uint64_t end_off);

/* A sealed segment, as the log knows it from when it was written or opened, whatever is in its file now. */
struct wal_sealed {
    struct wal_segment *s; /* a reference */
    uint64_t last_lsn;
    uint8_t chain[RECORD_CHAIN_BYTES]; /* at last_lsn */
};
/* The first that ends at or behind from_lsn; 0: there is none. */
int wal_sealed_find(struct wal *w, uint64_t from_lsn, struct wal_sealed *f);
/* 1 when what was found in a file is all of it. */
int wal_sealed_fits(const struct wal *w, const struct wal_sealed *f, const struct wal_scan *found);

#define WAL_MEND "mend" /* in DIR: a segment that is written anew (wal_mend.c) */

/* Path of DIR/name. */
#define WAL_PATH_BYTES PATH_MAX
void wal_path(const struct wal *w, const char *name, char out[WAL_PATH_BYTES]);
void wal_segment_path(const struct wal *w, uint64_t first_lsn, char out[WAL_PATH_BYTES]);

/* Notes a failure for good. ERR_MISCONF. */
enum err wal_fail(struct wal *w);

/* The log writer's steps from a prepared file to the segment being written; next keeps the ownership throughout.
 * begin: writes a header with a new salt, fills in next->seg but for end_off.
 * name: syncs the file, renames it to its segment's name (over an older one), syncs the directory. */
must_use enum err wal_begin_segment(struct wal *w, struct wal_prepared *next, uint64_t first_lsn,
                                    const uint8_t chain[RECORD_CHAIN_BYTES], uint32_t term);
must_use enum err wal_name_segment(struct wal *w, const struct wal_prepared *next);
/* Under lock: s is the newest from now on, instead of one of the same first LSN if there is. Takes the reference. */
void wal_link_segment(struct wal *w, struct wal_segment *s);
void wal_unlink_newest(struct wal *w); /* under lock: out of the list, and marked removed */
/* One frame, not synced, and zeros behind it up to the end of the page (there are zeros already): a page that is not in
 * the page cache need not be read when all of it is written. off is in a segment, whose size is a multiple of a page.
 */
must_use enum err wal_write_frame(int fd, uint64_t off, uint32_t seed, struct bytes records, uint32_t n,
                                  uint64_t synced_lsn);
/* Behind the last frame, and the file ends there; not synced. */
must_use enum err wal_write_footer(int fd, uint64_t off, uint32_t seed, const struct wal_footer *f);
/* Groups go to fd at off; fd -1: the newest is sealed. Takes fd over; the one before is the caller's to have closed. */
void wal_write_to(struct wal *w, int fd, uint64_t off, uint64_t cap_bytes);

#endif
