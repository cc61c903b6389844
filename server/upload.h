/* upload.h - the newest snapshot goes to the object store, again and again, on a thread of its own.
 *
 *     due         every settings.interval_ms, and when the server has started; when somebody asks (upload_demand);
 *                 after a failure again, later each time. A snapshot that is there already is not sent again
 *     CHOOSING    an upload that was interrupted goes on (DIR/upload, uploadfile.h) while its snapshot is still there;
 *                 else the newest snapshot that is whole: its blocks are read and verified before anything of them
 *                 goes (one data key must never encrypt two different files). Header and data key are made and kept
 *     BEGINNING   the store is asked for an upload; its id is kept in DIR/upload
 *     SENDING     the container, in parts. Those that are there already are not sent again. The snapshot stays open:
 *                 deleting it meanwhile changes nothing
 *     MARKING     the manifest, only where there is none: from now on the snapshot counts. DIR/upload is removed
 *     TIDYING     what is older than the newest settings.keep of the cell is removed, manifest first; so are containers
 *                 without a manifest and uploads that are older than settings.unfinished_ms
 *
 * A name is used once: what is there under it, and is not what this upload has begun, is left alone, and the upload
 * fails. The snapshot after it has another name.
 *
 * Failures change nothing for anybody else. Each reason is said once in the log until an upload succeeds, shows in
 * upload_info, and is told to those who asked.
 *
 * Threads: all functions from any. None blocks but upload_end, which waits for the thread for a second or so, whatever
 * the store does.
 */
#ifndef COFFER_SERVER_UPLOAD_H
#define COFFER_SERVER_UPLOAD_H

#include "engine/snapshots.h"
#include "server/bucket.h"

struct upload;

struct upload_settings {
    uint64_t interval_ms; /* 0: by upload_demand only */
    unsigned keep;        /* at least 1 */
    uint64_t unfinished_ms;
};

struct upload_config {
    const char *dir; /* the data directory; copied */
    uint8_t cell_id[16];
    char node[SNAPOBJECT_NODE_BYTES];
    struct snapshots *snapshots;
    const struct bucket_config *bucket;                       /* lives as long as the upload does */
    void (*settings)(void *arg, struct upload_settings *out); /* as they are now; any thread */
    int (*stopping)(void *arg);                               /* 1: the server is; any thread. May be NULL */
    void (*log)(int level, const char *line);                 /* enum log_level */
    void *arg;
};

enum upload_state { UPLOAD_IDLE, UPLOAD_CHOOSING, UPLOAD_BEGINNING, UPLOAD_SENDING, UPLOAD_MARKING, UPLOAD_TIDYING };
#define UPLOAD_STATES 6
const char *upload_state_name(enum upload_state s);

/* What comes of a state, and where that leads: all there is to the state machine. */
enum upload_outcome {
    UPLOAD_DONE,
    UPLOAD_RESUMED, /* of CHOOSING: the store has given an id already */
    UPLOAD_STORED,  /* of CHOOSING: the manifest is there already */
    UPLOAD_NOTHING, /* of CHOOSING: there is no snapshot yet, or none that is newer */
    UPLOAD_LOST,    /* of SENDING: the store does not know the id any more, nor the object */
    UPLOAD_FAILED
};
#define UPLOAD_OUTCOMES 6
enum upload_state upload_next(enum upload_state s, enum upload_outcome o);

must_use enum err upload_start(struct upload **out, const struct upload_config *cfg); /* ERR_OOM */
void upload_end(struct upload *u);  /* ends the thread, once; accepts NULL. Before the snapshots and the HSM go */
void upload_free(struct upload *u); /* ends it too; accepts NULL */

/* Asks for a snapshot to be there, at least at this LSN, or exactly (SNAPSHOT.LIST has it); the store is asked even
 * when this process has put it there. done() on the upload's thread, or here when that has ended (ERR_AGAIN). w is the
 * caller's until then. */
struct upload_wait {
    struct upload_wait *next; /* private */
    void (*done)(struct upload_wait *w);
    uint64_t lsn; /* out: which one it was */
    int exact;
    enum err err;
    uint64_t bytes; /* of the container */
    char object[SNAPOBJECT_BASE_BYTES];
    char why[768];
};
void upload_demand(struct upload *u, struct upload_wait *w);

struct upload_info {
    enum upload_state state;
    uint64_t lsn, time_ms, bytes; /* of the last one that is there, as far as this process knows; when it got there */
    uint32_t term;
    uint64_t going_lsn, done_bytes, total_bytes; /* of the one under way */
    unsigned uploads, failures, removed;         /* since the start; removed: snapshots, there */
    const char *error;                           /* of the last try: a row's name of objstore.tbl.h, "LOCAL", or "" */
    char why[768];
};
void upload_info(struct upload *u, struct upload_info *out);

#endif
