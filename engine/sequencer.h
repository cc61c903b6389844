/* sequencer.h - the way of a change, from what was submitted to what everybody sees. Private to the engine.
 *
 *     submitted ---> gathered ---> written ---> committed: visible, done()
 *           evaluated     admitted      durable
 *
 * Writes are evaluated one after the other, in the order in which they were submitted, against committed plus staged
 * state, and gathered: a *group* is what is written by one pwritev and one fdatasync.
 *
 * **Alone** (no gate): the log writer takes what was gathered whenever it is free, and what is durable is committed.
 *
 * **Behind a gate** somebody else, called the gate's owner here, says for each group whether it may be written
 * (sequencer_admit), and up to where what is durable is committed (sequencer_commit). The gate is closed at first:
 *
 *     closed   writes are refused. Records come from elsewhere instead (sequencer_append), and are visible when they
 * are committed; what is not may be cut off again (sequencer_cut) open     writes are evaluated (sequencer_open). From
 * closing it on (sequencer_close) they are refused; those that are written and not committed are *in limbo*: their
 * outcome is told later (sequencer_resolve), and what becomes of their records is as for those from elsewhere
 *
 * done() is called in the order of submission, for refused writes too (a refusal may rest on a write before it), but
 * for what is refused while the gate is closed, which need not wait for those in limbo.
 *
 * Threads: submit from any; what is for the gate's owner from one thread at a time, which is not the log writer's and
 * not inside done(). These may wait for one group being written, but for nothing that waits for the owner.
 */
#ifndef COFFER_ENGINE_SEQUENCER_H
#define COFFER_ENGINE_SEQUENCER_H

#include "engine/engine.h"

struct sequencer;

/* gate: copied; NULL: alone. ERR_OOM. */
must_use enum err sequencer_start(struct sequencer **out, struct engine *e, uint64_t last_lsn,
                                  const uint8_t chain[RECORD_CHAIN_BYTES], uint32_t term,
                                  const struct sequencer_gate *gate);
/* Carries out what was submitted, as far as that needs no gate's owner, and refuses the rest; then ends both threads.
 * Accepts NULL. */
void sequencer_stop(struct sequencer *q);
void sequencer_free(struct sequencer *q); /* a stopped one, when the applier is stopped too; accepts NULL */

void sequencer_submit(struct sequencer *q, const struct write_chain *c);
void sequencer_applied(struct sequencer *q); /* the applier made room */
void sequencer_info(struct sequencer *q, struct engine_info *out);

/* ---- for the gate's owner ---- */

/* As engine_set_gate, engine_release. */
void sequencer_set_gate(struct sequencer *q, const struct sequencer_gate *gate);
void sequencer_release(struct sequencer *q);
/* The gate's owner's: writes that come from now on are neither refused nor evaluated, until sequencer_release or
 * sequencer_open. 1: what came before is committed, all of it. Never waits. */
int sequencer_hold(struct sequencer *q);

/* When a group waits and the log writer is free: asks may(arg, first LSN, records) and gives it to the log writer on
 * ERR_OK. On an error the gate is closed with it, as by sequencer_close. ERR_AGAIN: nothing was to be admitted now. may
 * may call what only reads: sequencer_recent. */
must_use enum err sequencer_admit(struct sequencer *q, enum err (*may)(void *arg, uint64_t first_lsn, uint32_t records),
                                  void *arg);

/* Everything up to it is in the log and synced. 0: the log failed (sequencer_failed), or is empty. */
uint64_t sequencer_durable(struct sequencer *q);
int sequencer_failed(struct sequencer *q);

/* Appends whole records to out, from first on up to last, or until they have limit bytes, at least one; *end: the last
 * one. Of what was admitted and is not visible yet, durable or not. ERR_NOTFOUND: first is not in memory (any more):
 * the log has it, if anybody. ERR_OOM. */
must_use enum err sequencer_recent(struct sequencer *q, uint64_t first_lsn, uint64_t last_lsn, size_t limit,
                                   struct buf *out, uint64_t *end);

/* Up to lsn, which is durable and never goes back, records are committed: they are visible and told when it returns, in
 * order, unless it is behind then. Records that are in no group - an earlier run left them in the log, or they were
 * spilt - are read from there, a step of bounded length each time, and what comes after waits for them. */
void sequencer_commit(struct sequencer *q, uint64_t lsn);
/* 1: the last sequencer_commit has not shown all of it (engine_commit_lsn says how far it came): the same again when
 * gate.changed was called, and now and then, since the log may not be readable now, which the log of the engine says.
 */
int sequencer_is_behind(const struct sequencer *q);

/* Writes are refused with err from now on. When it returns nothing of this node's own is being evaluated or written,
 * and what is not committed yet is in limbo. Of one that is closed: err is the refusal now. */
void sequencer_close(struct sequencer *q, enum err err);
/* A closed one; everything in the log is committed. The next record has the given term. ERR_CORRUPT, ERR_IO, ERR_OOM:
 * the vaults' counters cannot be read; it stays closed. */
must_use enum err sequencer_open(struct sequencer *q, uint32_t term);
/* The outcome of writes in limbo with an LSN from first to last. Of ERR_OK they are told when they are visible. */
void sequencer_resolve(struct sequencer *q, uint64_t first_lsn, uint64_t last_lsn, enum err err);

/* A closed one: 1 when there is room for more records from elsewhere, whatever the next sequencer_append brings. */
int sequencer_has_room(struct sequencer *q);
/* As wal_room: of records that come behind those that wait to be written, or are being written. */
must_use enum err sequencer_fits(struct sequencer *q, uint64_t bytes);
/* Records that were appended, and written, do not wait for their commit in memory any more: they are read from the log
 * then. Makes room where no commit does. */
void sequencer_spill(struct sequencer *q);
/* A closed one: n whole records that chain from the log's last one on, as in wal_append; copied. Begun when it returns:
 * gate.changed tells when they are durable. It takes a barrier also where there is no room otherwise, if no more than
 * one. ERR_AGAIN: all groups are written and not visible, nothing was done; not after sequencer_spill. ERR_OOM.
 * ERR_MISCONF: the log failed. */
must_use enum err sequencer_append(struct sequencer *q, struct bytes records, uint32_t n, uint64_t first_lsn,
                                   const uint8_t chain[RECORD_CHAIN_BYTES]);
/* A closed one: the log ends at lsn, at or above what is committed and not above its last; all of it is durable when it
 * returns. As wal_cut. */
must_use enum err sequencer_cut(struct sequencer *q, uint64_t lsn);

#endif
