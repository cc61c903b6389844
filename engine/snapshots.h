/* snapshots.h - a node's snapshots: made again and again beside traffic, verified, kept, read; and what of the log may
 * go because of them.
 *
 *     DIR/<LSN>-<term>.snap ...     the newest cfg.keep of them (snapfile.h)
 *
 * One thread, of a low priority. It makes a snapshot at the commit LSN from the one before and the log behind that
 * (snapmerge_changes):
 *
 *     due      the log has grown by cfg.log_bytes since the last one, and by as much as that one has (so that a large
 *              state is not copied for each little bit of log), and the thread has rested for four times as long as
 *              the last one took, unless the log has grown by four times as much or the disk fills; or cfg.interval_ms
 *              have passed and anything was written; or somebody asked (snapshots_demand)
 *     made     verified on the way (snapwrite.h), and opened: from now on it is the newest
 *     kept     older ones than the newest cfg.keep are deleted
 *     trimmed  segments of the log all of whose records are in the second newest one, and that nobody else needs
 *              (cfg.needed_lsn), are deleted
 *
 * **Old values** (docs/decisions/0009). A value that is in the log only is in the newest snapshot once the log does not
 * reach back to it any more: snapshots_value.
 *
 * **At open** half-made files are removed and what is there is looked at, newest first: one that does not verify is
 * skipped with a warning and left where it is, and the next one is the newest then. While the HSM does not answer
 * (sealed, down) nothing can be verified: there is none yet, and the thread tries again; the log is not trimmed
 * meanwhile.
 *
 * Failures: a snapshot that cannot be made (no space, no HSM) is said in the log once, shows in snapshots_info, and is
 * tried again; traffic does not notice. The last of the disk is not for it (room.h): it is given up before the log or a
 * store could be refused space. With damage in the snapshot before, the next one is made from an older one and more of
 * the log; without any that reaches the log, from one that comes from elsewhere (cfg.fetch). With damage in the log, or
 * when there is none there either, it is made from the stores (snapmerge_stores). Old values that are nowhere any more
 * are left out, counted, and said. A snapshot that cannot be read counts as damaged at once, since what is in it is
 * elsewhere too; what of the log cannot be read only when that has lasted for cfg.patience_ms, since old values in it
 * are lost then.
 *
 * Threads: the functions from any; snapshots_value blocks on a read, none waits for a snapshot being made but end.
 */
#ifndef COFFER_ENGINE_SNAPSHOTS_H
#define COFFER_ENGINE_SNAPSHOTS_H

#include "engine/snapread.h"
#include "engine/snapwrite.h"
#include "engine/wal.h"

struct snapshots;
struct snapmerge_view;

struct snapshots_config {
    const char *dir; /* made when it is not there; copied */
    uint8_t cell_id[16];
    struct wal *wal;
    struct snap_signer signer;
    uint64_t log_bytes;   /* 0: not by bytes */
    uint64_t interval_ms; /* 0: not by time */
    unsigned keep;        /* at least 2 */
    uint64_t patience_ms; /* what the disk has not given for so long counts as damaged */
    uint64_t bytes_per_s; /* at most so fast, 0: as fast as it goes */
    size_t step_bytes;    /* of memory for what changed, or more while the snapshot is a large one: snapshots_make.c */

    uint64_t (*commit_lsn)(void *arg);
    uint64_t (*needed_lsn)(void *arg); /* the first LSN that somebody else needs the log from */
    /* Brings one from elsewhere that the log goes on behind (snapshots_arrived was called then). ERR_NOTFOUND: there is
     * none; others: nobody knows now. NULL: there is no such place. */
    enum err (*fetch)(void *arg);
    /* For a snapshot from the stores: a view of them while they stand still, and its LSN. */
    enum err (*view)(void *arg, struct snapmerge_view **v, uint64_t *lsn);
    /* 1: the disk has room for so many bytes more, and for all that others need. NULL: always. */
    int (*has_room)(void *arg, uint64_t bytes);
    void (*log)(void *arg, int level, const char *line); /* enum log_level */
    void *arg;
};

/* Looks at what is there. ERR_IO, ERR_OOM. Blocks. */
must_use enum err snapshots_open(struct snapshots **out, const struct snapshots_config *cfg);
must_use enum err snapshots_start(struct snapshots *s); /* the thread; ERR_OOM */
/* Ends the thread, once; a snapshot being made is given up. What there is can still be read. */
void snapshots_end(struct snapshots *s);
void snapshots_free(struct snapshots *s); /* ends the thread too; accepts NULL */

/* The newest one that verified, with a reference; NULL: there is none. */
struct snapread *snapshots_newest(struct snapshots *s);
/* The newest one below the LSN that is not known to be damaged and that opens, with a reference; the one that is open
 * already, when it is that. ERR_NOTFOUND: none is. Others: nothing is known (the HSM does not answer ...). */
must_use enum err snapshots_open_below(struct snapshots *s, uint64_t below_lsn, struct snapread **out);

/* ---- damage that somebody found ---- */

/* Of the snapshot at the LSN. Nothing is made from it any more where there is another one; when it is the newest, the
 * next one is due at once, at the same LSN too, and takes its name. Until then old values are read from what of it
 * verifies. */
void snapshots_damaged(struct snapshots *s, uint64_t lsn);
/* Before snapshots_start, of the newest one: from now on the next one that verifies is the newest, or there is none.
 * ERR_AGAIN when that is so; others: nothing is known of the rest. */
must_use enum err snapshots_pass_over(struct snapshots *s, uint64_t lsn);
/* Of a sealed segment of the log, whose last LSN this is. A snapshot at or behind it is due at once. When there is one
 * that is whole, and nobody else needs the log up to there, the segment goes, and all older ones with it
 * (docs/decisions say why). Until then it is tried again and again. */
void snapshots_log_damaged(struct snapshots *s, uint64_t last_lsn);
/* One was put into the directory, over a damaged one of its name too. It is the newest now, unless a newer one is good;
 * ERR_NOTFOUND: it does not verify. ERR_IO, ERR_OOM, ERR_HSMDOWN ... */
must_use enum err snapshots_arrived(struct snapshots *s, uint64_t lsn);

/* The value of a version of a secret whose record the log does not have any more (secret_key_logged says which), with a
 * reference. ERR_NOTFOUND (no snapshot has it), ERR_OOM; ERR_CORRUPT, ERR_IO: the snapshot has damage there, and
 * another one is made in its place, which may have the value. */
must_use enum err snapshots_value(struct snapshots *s, uint16_t store, struct bytes logged_key, struct blob **out);

struct snapshots_file;
/* Opens one of those that snapshots_list named. why (n bytes) as in snapread_open, whose errors these are. */
must_use enum err snapshots_open_file(struct snapshots *s, const struct snapshots_file *f, struct snapread **out,
                                      char *why, size_t n);
/* Other settings from now on, as in the configuration. */
void snapshots_settings(struct snapshots *s, uint64_t log_bytes, uint64_t interval_ms, unsigned keep);

/* Asks for a snapshot now, at least at the present commit LSN. done() on the snapshot thread, or at once when it ends:
 * ERR_OK with lsn (also of one that was there already), or why there is none. w is the caller's until then. */
struct snapshots_wait {
    struct snapshots_wait *next; /* private, and tried too */
    int tried;
    void (*done)(struct snapshots_wait *w);
    enum err err;
    uint64_t lsn; /* in: at least this one; out: the snapshot's */
    char why[160];
};
void snapshots_demand(struct snapshots *s, struct snapshots_wait *w);

struct snapshots_info {
    uint64_t lsn, bytes, entries, time_ms; /* of the newest; 0: none */
    uint32_t term;
    uint8_t digest[SNAPFILE_HASH_BYTES];
    unsigned files, made, failed; /* made, failed: since the start */
    uint64_t lost;                /* since the start: old values that were nowhere any more */
    uint64_t last_ms;             /* how long the last one took */
    uint64_t saved_ms;            /* wall clock: all that was committed then is in a snapshot; 0: not since the start */
    int making;                   /* or asked for */
    uint64_t making_bytes;        /* of the one being made, so far */
    enum err err;                 /* of the last try */
    char why[160];
};
void snapshots_info(struct snapshots *s, struct snapshots_info *out);

enum snapshot_state {
    SNAPSHOT_BAD = -1,
    SNAPSHOT_UNKNOWN = 0, /* not looked at */
    SNAPSHOT_OPENED,      /* footer, index, filter and signature verify */
    SNAPSHOT_WHOLE,       /* every block does: read since the start, or made since */
};

/* The files, newest first, as they are on the disk: at most max of them. Returns how many there are. */
struct snapshots_file {
    uint64_t lsn, bytes;
    uint32_t term;
    enum snapshot_state verified;
};
unsigned snapshots_list(struct snapshots *s, struct snapshots_file *out, unsigned max);

#endif
