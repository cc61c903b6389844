/* asof.h - the past: what the stores held at a moment, as long as a kept snapshot and the log behind it tell.
 *
 *     asof_open -> asof_find, asof_next ... asof_value -> asof_close
 *
 * **A moment** is the state after the record of one LSN, for secrets at one time:
 *
 *     an LSN      the state after that record, at the time that the record is stamped with
 *     a time      every record stamped up to it, at that time. Stamps are wall clocks, which can be set back: it is the
 *                 state in front of the first record that is stamped later, behind the newest snapshot that is not.
 *     neither     the newest snapshot's
 *
 * **Exact or refused.** The newest kept snapshot at or below the moment, and the log from there up to it, give the
 * moment exactly. The log reaches back to the second newest snapshot at least (snapshots.h); so whatever is newer than
 * that can be had, of what is older only the kept snapshots' own LSNs. A log that begins at record 1 needs no snapshot.
 * What cannot be had is ERR_RANGE, and why names the LSNs on both sides of it that can.
 *
 * A snapshot that does not verify is passed over for an older one and more of the log, if the log reaches back to that.
 * A block's damage shows later, as ERR_CORRUPT of what is read: then an open with snapshots_below set to that of the
 * moment (asof_moment) may know better.
 *
 * **What there is** at a moment: secrets (asof_find, asof_next) and the values that they listed, sealed as they were,
 * whatever has become of them since; and the digest of all of the state (asof_digest). Vaults are taken as they are
 * now: a deleted one, or another of the same name, has no past here.
 *
 * While a moment is open the log behind its snapshot is not trimmed (asof_needed_lsn), and the snapshot's file may be
 * deleted without harm.
 *
 * Memory: some 50 bytes and its key for every key under `under` that was written between snapshot and moment; a block.
 * Threads: a moment is one thread's; asof_needed_lsn any. All of it blocks: asof_open reads the log from the snapshot
 * to the moment.
 */
#ifndef COFFER_ENGINE_ASOF_H
#define COFFER_ENGINE_ASOF_H

#include "engine/engine.h"
#include "engine/snapfile.h"

struct asof;

struct asof_query {
    uint64_t lsn, time_ms;    /* one of them, or neither */
    struct vault *vault;      /* NULL: everything, for asof_digest */
    struct bytes under;       /* of its paths those that begin so; empty: all. Borrowed until asof_close */
    uint64_t snapshots_below; /* only snapshots below this LSN are used; 0: any */
    int (*stop)(void *arg);   /* 1: give up, ERR_AGAIN; NULL: never */
    void *arg;
};

/* ERR_RANGE: there is no such moment, or not any more; why (n bytes) says which there are. ERR_AGAIN: stopped.
 * ERR_CORRUPT: the log; ERR_IO, ERR_OOM, and the errors of an HSM that does not verify the snapshot. *out is NULL then.
 */
must_use enum err asof_open(struct asof **out, struct engine *e, const struct asof_query *q, char *why, size_t n);
void asof_close(struct asof *a); /* before the engine is closed; accepts NULL */

struct asof_moment {
    uint64_t lsn, time_ms;
    uint64_t snapshot_lsn; /* of the snapshot that it is read from; 0: from the log alone */
};
void asof_moment(const struct asof *a, struct asof_moment *out);

/* A secret's head, whatever its state (asof_current tells). Path and head live until the next find or next. */
struct asof_secret {
    struct bytes path;
    struct bytes raw; /* the head's bytes */
    struct secret_head head;
};
/* The secret of this path, which is under `under`. ERR_NOTFOUND, ERR_CORRUPT, ERR_IO, ERR_OOM. */
must_use enum err asof_find(struct asof *a, struct bytes path, struct asof_secret *s);
/* The next one in the order of paths' bytes; ERR_END behind the last. ERR_CORRUPT, ERR_IO, ERR_OOM: again and again, it
 * does not step over damage. Finding one in between does not disturb it. */
must_use enum err asof_next(struct asof *a, struct asof_secret *s);

/* 1 when SECRET.GET answered a value at the moment: *v is the version that was CURRENT. */
int asof_current(const struct asof *a, const struct asof_secret *s, struct secret_version *v);
/* The sealed value of a version that s lists, with a reference. s must be what find or next gave last. ERR_CORRUPT (it
 * is nowhere any more, too), ERR_IO, ERR_OOM; *out is NULL then. */
must_use enum err asof_value(struct asof *a, const struct asof_secret *s, const struct secret_version *v,
                             struct blob **out);

/* The state digest (snapfile.h) at the moment, of a query without a vault: equal on all nodes of the cell that ask at
 * one LSN, wherever values lie on them. Reads the snapshot once, and of the log what changed. As snapmerge_changes. */
must_use enum err asof_digest(struct asof *a, uint8_t out[SNAPFILE_HASH_BYTES]);
/* The same of what the stores hold, hashed anew, when all that was committed before the call is applied: if it differs
 * from asof_digest at *lsn the stores are not what the log says. Reads everything. Of q only stop counts. As
 * snapmerge_stores; ERR_MISCONF when the applier has no room. */
must_use enum err asof_stores_digest(struct engine *e, const struct asof_query *q, uint64_t *lsn,
                                     uint8_t out[SNAPFILE_HASH_BYTES]);

/* The log must be kept from here on; UINT64_MAX: no moment is open. */
uint64_t asof_needed_lsn(struct engine *e);

#endif
