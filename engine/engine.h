/* engine.h - vaults, secrets and keys over the log: what the server calls.
 *
 * **Writing.** A struct write is one atomic change of one or several steps. engine_submit hands it to the
 * sequencer (its thread, or the submitter's), which evaluates its conditions against committed plus staged state,
 * seals, gives it an LSN and appends it to the group; the log writer makes the group durable, publishes it, and calls
 * done() of every write in order. Nothing of a write is visible before it is durable; when done() says ERR_OK it is
 * visible to every reader. Writes of one thread are carried out, and done, in the order of submission, also those that
 * were refused (a refusal may rest on a write before it that is not durable yet).
 *
 * **Reading.** secret_read and key_read look in the hot table, then in the shard; results hold a reference, not a copy.
 * Any thread. They may block for a LevelDB read (page cache or disk), never for a lock that is held across I/O. Of a
 * store that is out they come from a snapshot and the log (overlay.h); ERR_LOADING: not just now, ask again.
 *
 *     I/O threads --engine_submit--> sequencer --group--> log writer --done()--> I/O threads
 *                                                            | publish
 *                                                            v
 *                                                        hot table <--- readers
 *                                                            | dirty list
 *                                                            v
 *                                                         applier ---> LevelDB
 */
#ifndef COFFER_ENGINE_ENGINE_H
#define COFFER_ENGINE_ENGINE_H

#include "base/mpsc.h"
#include "base/sealed.h"
#include "engine/apply.h"
#include "engine/hot.h"
#include "engine/key.h"
#include "engine/secret.h"
#include "engine/snapwrite.h"
#include "engine/user.h"
#include "engine/vault.h"
#include "engine/wal.h"

struct databases;
struct engine;
struct rebuild;
struct scrub;
struct snapshots;

/* Somebody else says what is written and committed: sequencer.h. */
struct sequencer_gate {
    /* A group waits to be admitted, or more is durable, or there is room again for records from elsewhere. On any
     * thread; must not block, nor call the engine. */
    void (*changed)(void *arg);
    void *arg;
};

struct engine_config {
    const char *dir;
    unsigned shards; /* at first start; later starts use what the directory has */
    uint64_t wal_segment_bytes;
    size_t cache_bytes;             /* clean part of the hot table */
    size_t dirty_bytes;             /* the sequencer waits above it */
    size_t write_buffer_bytes;      /* per store */
    uint64_t secret_max_bytes;      /* plaintext */
    struct vault_settings defaults; /* of new vaults */
    const struct sealer *sealer;
    const struct sequencer_gate *gate; /* NULL: the node is alone, what is durable is committed */
    struct snap_signer signer;         /* sign NULL: no snapshots */
    uint64_t snapshot_log_bytes, snapshot_interval_ms;
    unsigned snapshot_keep;
    uint64_t scrub_bytes_per_s; /* 0: only when asked */
    /* The next tier, when no local snapshot is of use: puts one of this cell into dir/snapshots, verified, with an LSN
     * of from to to, of which fits() says that it is of this log's history: the last one that fits() was asked about.
     * ERR_NOTFOUND: there is none. At a start, and on the rebuild's thread; may block for long, but ends soon when the
     * engine is to be closed. NULL: there is no such place. */
    enum err (*fetch_snapshot)(void *arg, const uint8_t cell_id[16], uint64_t from, uint64_t to,
                               int (*fits)(void *fits_arg, const struct snapfile_header *h), void *fits_arg);
    /* A sealed segment of the log is damaged, the one that lsn is in: has it written anew (wal_mend) from what another
     * node has. ERR_NOTFOUND: nobody has it. One at a time, on the scrub's thread or the log check's, which may be
     * before engine_open returns; may block, but ends soon when over() says so, or when the engine is to be closed.
     * NULL: there are no others. */
    enum err (*mend_log)(void *arg, struct wal *w, uint64_t lsn, int (*over)(void *over_arg), void *over_arg);
    void (*log)(int level, const char *line);    /* enum log_level; any thread */
    void (*on_applied)(void *arg, uint64_t lsn); /* applier's thread; wakes listings that wait */
    /* A secret's time was over and it is gone; log writer's thread. NULL: nobody wants to know. */
    void (*on_expired)(void *arg, struct vault *v, struct bytes path);
    void (*on_vault)(void *arg,
                     struct vault *v); /* a vault appeared (recovery, or the log writer's thread): set v->user */
    /* A user is there, or is as rules says now (user.h); rules.p NULL: it is gone. Recovery tells of all, before
     * engine_open returns; then the log writer's thread, before done() of the write. ERR_OOM: it will be told again. */
    enum err (*on_user)(void *arg, struct bytes name, struct bytes rules);
    /* Whole records that are committed and visible now, one after the other, in the log's order, before done() of their
     * writes. writes: those that brought them, as engine_submit got them, others without a record between them; NULL:
     * they come from elsewhere. records.p NULL: there are more than can be shown, anything may have changed. Log
     * writer, or gate's owner; one at a time, must not block. Only while *records_wanted is not 0: whoever raises it,
     * then looks at a value, either sees it changed or will be told. Both NULL: nobody wants to know. */
    void (*on_records)(void *arg, struct bytes records, const struct mpsc_node *writes);
    const _Atomic unsigned *records_wanted;
    /* The first LSN of the log, which has so many bytes, that somebody outside will need; UINT64_MAX: none. Any thread;
     * must not block. May be NULL. */
    uint64_t (*kept_lsn)(void *arg, uint64_t log_bytes);
    void *arg;
    struct engine_progress *progress; /* may be NULL */
};

#define ENGINE_STORES_MAX 65

struct engine_report { /* of the start, for the log and INFO */
    struct wal_report wal;
    int tier;              /* 0: from stores and log; stores were lost: 1: from a snapshot, or nothing, and log;
                            * 2: from a snapshot that a peer gave, and log; 3: from the object store's snapshot and log */
    uint64_t snapshot_lsn; /* with tier 1, what they are filled from; 0: from the log alone */
    unsigned stores_lost;
    uint64_t replayed, applied_lsn, took_ms;
    int clean, same_boot;
    unsigned shards;
    unsigned fetched; /* a snapshot from outside was asked for */
    int arrived;      /* and came */
};

/* How far engine_open is; the caller's, for whoever wants to know meanwhile. */
struct engine_progress {
    _Atomic uint64_t done, total; /* records of the log that are read; total 0: not known yet */
};

/* Locks the directory, opens stores and log, recovers (docs/recovery.md). When it returns, reads and writes are
 * answered: of stores that were lost from a snapshot and the log behind it, while they are filled (engine_recovery);
 * only listings of those are ERR_LOADING meanwhile. ERR_CORRUPT: log, snapshots and stores are damaged, or lack a part,
 * so that nothing here makes up for it; ERR_UNSUPPORTED: the log is another cell's, or of an unknown format; ERR_IO,
 * ERR_MISCONF, ERR_OOM, with *why naming the file and what to do. Blocks for what is to be replayed, however much there
 * is in stores and snapshots. */
must_use enum err engine_open(struct engine **out, const struct engine_config *cfg, struct engine_report *report,
                              const char **why);
/* Ends what asks for signatures (snapshots, rebuilds, the scrub): before the HSM goes away. Accepts NULL; engine_close
 * does it too. */
void engine_stop_snapshots(struct engine *e);
/* Waits for what was submitted, applies, checkpoints, leaves the clean mark. */
void engine_close(struct engine *e);

/* An engine that was opened without a gate gets one, closed, for good. Waits for what is being written. Writes that
 * come meanwhile are neither refused nor carried out until engine_release, or until the gate is opened. */
void engine_set_gate(struct engine *e, const struct sequencer_gate *gate);
void engine_release(struct engine *e);

/* The log from lsn on is kept, whatever has a snapshot of it: replicas need it. UINT64_MAX: nothing. Any thread. */
void engine_keep_log(struct engine *e, uint64_t lsn);

void engine_cell_id(struct engine *e, uint8_t out[16]);
struct vaults *engine_vaults(struct engine *e);

/* ---- writes ---- */

enum step_kind {
    STEP_SECRET_SET,
    STEP_SECRET_DELETE, /* soft */
    STEP_SECRET_UNDELETE,
    STEP_SECRET_DESTROY, /* whole secret, or one version */
    STEP_SECRET_EXPIRE,  /* sets or clears (0) the expiry */
    STEP_SECRET_META,
    STEP_SECRET_STAGE,
    STEP_SECRET_READ,  /* changes nothing; nil: it is not visible (with SET_NX: it is). For SET_OLD, SET_HEAD */
    STEP_SECRET_WATCH, /* ERR_CONFLICT unless the secret is as it was when its mark was `mark` (secret_mark); if that is
                          0, and since the record `since` it was not there (secret_made_since) */
    STEP_SECRET_DUE,   /* internal: the expiry index says something is due */
    STEP_SECRET_PURGE, /* internal: what a flush left behind */
    STEP_VAULT_FLUSH,  /* of a database of the facade: all its secrets are gone at once, whatever their number */
    STEP_VAULT_FLUSHED,  /* internal: nothing is left of the flush at `mark` */
    STEP_VAULT_COUNT,    /* hands out the number of secrets, in `mark` */
    STEP_DATABASES_SWAP, /* databases.h: `mark` and `version` are the two numbers; needs no vault */
    STEP_VAULT_CREATE,
    STEP_VAULT_SET, /* settings, state */
    STEP_DEK_ADD,
    STEP_KEY_PUT, /* create, rotate, change: the whole new record, if the old one is as expected */
    STEP_KEY_DESTROY,
    STEP_USER_PUT, /* the whole user; of no vault */
    STEP_USER_DELETE,
    STEP_KINDS
};

enum set_flags {
    SET_NX = 1,  /* only if not there */
    SET_XX = 2,  /* only if there */
    SET_CAS = 4, /* only if CURRENT is `version` (0: not there) */
    SET_KEEPTTL = 8,
    SET_META = 16,    /* replace metadata with `meta`; without it the metadata stays */
    SET_PENDING = 32, /* do not make it CURRENT: only `label` points at it */
    SET_GT = 64,
    SET_LT = 128, /* EXPIRE: only if later, earlier than what is set (none counts as infinite) */
    SET_HASTTL = 256,
    SET_NOTTL = 512,  /* EXPIRE: only if there is, is no expiry */
    SET_OLD = 1024,   /* SET, DESTROY, EXPIRE, READ: hand out the CURRENT value as it was, in `old` */
    SET_AFTER = 2048, /* only if the step before was not nil; else this one is nil too */
    SET_HEAD = 4096,  /* READ: hand out the head, visible or not */
    SET_PAST = 8192,  /* EXPIRE: a time that is over destroys */
    SET_ELSE = 16384, /* only if the step before was nil; else this one is nil too */
};

/* One step. All bytes are borrowed and must live until done(). */
struct step {
    uint8_t kind;  /* enum step_kind */
    uint8_t event; /* the submitter's own */
    uint16_t flags;
    uint32_t version;
    struct bytes path;   /* or the vault's, key's or user's name */
    struct plain *plain; /* SET: sealed and wiped by the sequencer; freed by the submitter after done() */
    uint64_t expires_ms; /* SET, EXPIRE: absolute, 0: none */
    struct bytes label;
    struct bytes meta;   /* KEY_PUT: the old record that `record` was made from, else CONFLICT; empty: not compared */
    struct bytes record; /* KEY_PUT: encoded key_record; VAULT_CREATE: partition config; DEK_ADD: wrapped data key;
                            USER_PUT: rules */
    const uint8_t *hmac; /* KEY_PUT: 32 bytes of the new masked object's tag, or NULL */
    const struct vault_settings
        *settings;       /* VAULT_CREATE; VAULT_SET: those in flags (enum vault_field; 0: all) count, the others stay */
    uint16_t store;      /* VAULT_CREATE: 1 + shard, 0: the engine chooses */
    int state;           /* VAULT_SET: enum vault_state, -1: as is */
    uint64_t when_ms;    /* VAULT_SET: deletion due */
    uint64_t mark;       /* WATCH, FLUSHED, SWAP; result of COUNT */
    uint64_t since;      /* WATCH */
    struct vault *vault; /* NULL: the write's */
    uint32_t unit;       /* of a write with units */
    /* SET: makes `plain` of what is there (`old`, of this step or of one before), once the conditions hold. The
     * sequencer calls it, on whatever thread it is; it must not block. nil set: nothing is to be done. */
    enum err (*edit)(struct step *s, struct vault *v);
    void *arg; /* for edit() */

    /* result */
    enum err err;
    uint8_t created;       /* SET: it was not visible before */
    uint8_t nil;           /* the condition (NX, XX, CAS-less) did not hold, or there was nothing to do */
    uint32_t out_version;  /* SET: the new one; DESTROY: number of versions gone; EXPIRE: 1: it is gone */
    int changed;           /* 1: something was written */
    struct secret_old {    /* with SET_OLD, when the secret was visible; also when NX or XX did not hold */
        struct blob *hold; /* references for the submitter: blob_unref */
        struct sealed value;
        uint32_t version;
        uint64_t expires_ms;
    } old;
    struct blob *head; /* with SET_HEAD, a reference for the submitter: NULL: there is none. secret_view_seen */
};

struct write {
    struct mpsc_node node;
    struct vault *vault; /* NULL for VAULT_CREATE and users */
    struct step *step;
    unsigned steps;
    uint8_t units; /* 1: an error of a step whose unit is not 0 undoes the steps of that unit, which get it as their
                      `err`, and the others go on. Not one that concerns the write: too big, no memory, no disk */
    uint8_t token[RECORD_TOKEN_BYTES];
    uint64_t by;                   /* who wrote it: the submitter's, for on_records */
    void (*done)(struct write *w); /* on the log writer's thread; must not block */
    void *arg;

    /* result: ERR_OK when all steps were carried out (a nil is not an error). On an error nothing at all was written.
     */
    enum err err;
    uint64_t lsn; /* of its record; 0 when nothing had to be written */
    uint32_t term;
};

/* Never blocks, cannot fail; done() will be called once. Any thread. The engine owns w until then. */
void engine_submit(struct engine *e, struct write *w);

/* Writes that a thread gathers and then submits together, in the order they were added: the sequencer is woken once for
 * all of them. Zeroed: none. */
struct write_chain {
    struct mpsc_node *newest, *oldest;
    unsigned n;
};
static inline void write_chain_add(struct write_chain *c, struct write *w)
{
    w->node.next = c->newest;
    c->newest = &w->node;
    if (!c->n++)
        c->oldest = &w->node;
}
void engine_submit_chain(struct engine *e, struct write_chain *c); /* leaves it empty */

/* ---- reads ---- */

struct secret_view {
    struct secret_head head;
    struct sealed value; /* the version asked for */
    uint32_t version;
    struct blob *hold[2]; /* what head and value point into */
};

/* Which version: 0 and an empty label: CURRENT. */
/* ERR_OK with *v filled (secret_view_release it), ERR_NOTFOUND (no such secret, version or label; deleted; expired),
 * ERR_CORRUPT, ERR_IO. */
must_use enum err secret_read(struct engine *e, struct vault *vault, struct bytes path, uint32_t version,
                              struct bytes label, struct secret_view *v);
/* The head alone, whatever its state: for SECRET.VERSIONS, STATE, TTL. v->value is empty. */
must_use enum err secret_read_head(struct engine *e, struct vault *vault, struct bytes path, struct secret_view *v);
void secret_view_release(struct secret_view *v);
/* What a READ with SET_HEAD and SET_OLD saw, as secret_read (value 1) or secret_read_head gives it. now_ms decides what
 * is visible. */
must_use enum err secret_view_seen(const struct step *s, int value, uint64_t now_ms, struct secret_view *v);
/* What WATCH compares: changes with every change of the secret, 0 when it is not visible. */
must_use enum err secret_mark(struct engine *e, struct vault *vault, struct bytes path, uint64_t *mark);
/* 1: a record behind lsn may have made the secret, which may be gone again (made.h). What comes to a replica is not
 * noted there. */
int secret_made_since(struct engine *e, const struct vault *vault, struct bytes path, uint64_t lsn);

/* Says which secrets will be read next: their heads' way into the processor's caches begins (hot_warm). A hint. Any
 * thread. */
#define ENGINE_WARM_MAX HOT_WARM_MAX
struct engine_ahead {
    const struct vault *vault;
    struct bytes path;
};
void engine_warm(struct engine *e, const struct engine_ahead *at, unsigned n);

/* Several secrets as of one point in time, without a lock:
 *
 *     engine_moment_begin -> secret_read, engine_moment_saw for each -> engine_moment_held? else read all of them again
 *
 * What has an LSN at or below L, the commit LSN before the first read, was not overwritten between L and its read: when
 * that holds for all, they are the state at L. What is not there has no LSN; with such, no group may have been
 * published meanwhile. Any thread. */
struct engine_moment {
    uint64_t lsn, turn;
    unsigned seen;
    int missing, newer;
};
void engine_moment_begin(struct engine *e, struct engine_moment *m);
void engine_moment_saw(struct engine_moment *m, const struct secret_view *v); /* NULL: ERR_NOTFOUND */
int engine_moment_held(struct engine *e, const struct engine_moment *m);

struct key_view {
    struct key_record rec;
    struct blob *hold;
};
must_use enum err key_read(struct engine *e, struct vault *vault, struct bytes name,
                           struct key_view *v); /* ERR_NOTFOUND ... */
void key_view_release(struct key_view *v);

/* A data key's wrapped form from the base store. */
must_use enum err engine_dek(struct engine *e, struct vault *vault, uint32_t version, struct blob **wrapped);

/* ---- listings: need the shard to be current up to vault->names_lsn ---- */

/* ERR_OK: listings may run now. ERR_AGAIN: a round of the applier was started; on_applied tells when *lsn is reached.
 * ERR_MISCONF: not reached, and the disk has no room for a round. */
must_use enum err engine_list_ready(struct engine *e, struct vault *vault, uint64_t *lsn);

/* The same for a thread that may block: waits. ERR_MISCONF as above. */
must_use enum err engine_list_wait(struct engine *e, struct vault *vault);

/* One page of names under prefix, after `after` (empty: from the start), at most max of them, and at most scan_max keys
 * looked at. With one_level names end at the first '/' behind the prefix and sub-folders are skipped by a seek. visit()
 * gets the name relative to nothing (the whole path, a folder with its '/'), and the head (NULL for a folder). Returns
 * through *more whether there is more; *last (appended to a buf) is where to go on. */
struct list_query {
    struct bytes prefix, after;
    unsigned max, scan_max;
    int one_level;
    int (*visit)(void *arg, struct bytes path,
                 const struct secret_head *head); /* 1: counts against max; 0: filtered out */
    void *arg;
};
must_use enum err secret_list(struct engine *e, struct vault *vault, const struct list_query *q, struct buf *last,
                              int *more);
must_use enum err key_list(struct engine *e, struct vault *vault, struct bytes after, unsigned max,
                           void (*visit)(void *arg, struct bytes name), void *arg, struct buf *last, int *more);

/* ---- the log ---- */

struct engine_info {
    struct wal_info wal;
    struct apply_stats apply;
    struct hot_stats hot;
    uint64_t commit_lsn, pending_writes, group_records; /* of the last group */
    uint32_t term;
    int failed;
};
void engine_info(struct engine *e, struct engine_info *out);
struct snapshots *engine_snapshots(struct engine *e); /* NULL: none are made */
/* 0: secrets whose time is over stay where they are, hidden, until it is 1 again. For tests. Any thread. */
void engine_expire_actively(struct engine *e, int on);
struct databases *engine_databases(struct engine *e); /* databases.h */
struct wal *engine_wal(struct engine *e);             /* for cursors: WBL.VERIFY, WBL.RANGE */
uint64_t engine_commit_lsn(struct engine *e);
/* 1: a snapshot with this header is of this log: it has the snapshot's last record, or goes on right behind it. Blocks.
 */
int engine_log_fits(struct engine *e, const struct snapfile_header *h);
unsigned engine_shards(struct engine *e);
/* For tests, while no rebuild runs. NULL: failed. */
struct store *engine_store(struct engine *e, unsigned store);
int engine_store_serves(struct engine *e, unsigned store); /* 0: it failed; store is 0 base, 1 + n shard n */
struct rebuild *engine_rebuild(struct engine *e);
struct scrub *engine_scrub(struct engine *e);

/* Of the last start: what it recovered from, and how far the filling of lost stores is. */
struct engine_recovery {
    int tier;
    uint64_t snapshot_lsn, replayed;
    uint64_t started_ms, ready_ms, filled_ms; /* wall clock; how long until reads were answered, until all stores were
                                                 there (0: not yet) */
    unsigned stores_lost, stores_left;        /* to be filled */
    uint64_t done, total;                     /* entries and records */
    uint64_t eta_ms;                          /* of the filling, at the pace so far */
    uint64_t unverified_bytes;                /* of the log: not read yet since the start */
};
void engine_recovery(struct engine *e, struct engine_recovery *out);

#endif
