/* snapshots_impl.h - what the parts of snapshots.h share. For engine/snapshots*.c only.
 *
 *     snapshots.c        the files: which there are, what is known of each, which one is the newest; open and free
 *     snapshots_make.c   the thread: when one is due, making it, and what may go then
 */
#ifndef COFFER_ENGINE_SNAPSHOTS_IMPL_H
#define COFFER_ENGINE_SNAPSHOTS_IMPL_H

#include <pthread.h>

#include "base/log.h"
#include "engine/snapshots.h"

#define SNAPSHOTS_FILES_MAX 64
#define SNAPSHOTS_PATH_BYTES 4096

struct snapshots {
    struct snapshots_config cfg; /* dir is our own */
    char *dir;
    pthread_t thread;
    int started;
    uint64_t unreadable_ms; /* clock_mono, the thread's own: since then something cannot be read. 0: all can */

    pthread_mutex_t lock; /* all of what follows */
    pthread_cond_t wake;
    int stop;
    struct snapread *newest;
    struct snapshots_file file[SNAPSHOTS_FILES_MAX]; /* newest first */
    unsigned files;
    struct snapshots_wait *waits;
    struct snapshots_info info;
    uint64_t made_ms, retry_ms;      /* clock_mono: when the last one was made; not before this again after a failure */
    uint64_t appended, behind_bytes; /* of the log: as of the last snapshot; what lay behind it already then */
    uint64_t damaged_log_lsn;        /* the log up to here is to go because of damage in it; 0: none is known */
};

void snapshots_say(struct snapshots *s, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void snapshots_path(const struct snapshots *s, uint64_t lsn, uint32_t term, char out[SNAPSHOTS_PATH_BYTES]);

/* ---- the files; each takes the lock ---- */
/* The directory as it is, newest first; what is known of a file stays known. ERR_IO, ERR_OOM. */
must_use enum err snapshots_look(struct snapshots *s);
void snapshots_mark(struct snapshots *s, uint64_t lsn, int verified);
/* Lock held. LSN of the newest one, 0: there is none, or it is known to be damaged. */
uint64_t snapshots_good_lsn(const struct snapshots *s);
/* As snapshots_open_file, and notes what comes of it. */
must_use enum err snapshots_open_noted(struct snapshots *s, const struct snapshots_file *f, struct snapread **out);
/* Takes r's reference. NULL: there is none. */
void snapshots_set_newest(struct snapshots *s, struct snapread *r);
/* What opens first becomes the newest snapshot. As snapshots_open_below. */
must_use enum err snapshots_find_newest(struct snapshots *s);

#endif
