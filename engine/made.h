/* made.h - which secrets came into being of late: for WATCH of one that is not there, which cannot tell by what it
 * finds in the end that it was made and went again.
 *
 * A table of LSNs, in which a secret has its place by a hash: each holds the last record that made one of those that
 * share it. So the answer may be yes for another's sake (one in MADE_PLACES), and is never no in error.
 *
 * Threads: made_note and made_forget by the sequencer, or in its place; made_since any. Nothing blocks.
 */
#ifndef COFFER_ENGINE_MADE_H
#define COFFER_ENGINE_MADE_H

#include "base/bytes.h"
#include "base/err.h"

#define MADE_PLACES 65536u /* 512 KiB */

struct made;
must_use enum err made_new(struct made **out); /* ERR_OOM; ERR_INTERNAL: no randomness for the hash seed */
void made_free(struct made *m);                /* accepts NULL */

/* The record at lsn makes the secret whose head has this key, visible or not yet. */
void made_note(struct made *m, uint16_t store, struct bytes key, uint64_t lsn);
/* What was made up to lsn is not known: others were the sequencer. */
void made_forget(struct made *m, uint64_t lsn);
/* 1: a record behind lsn may have made it. */
int made_since(struct made *m, uint16_t store, struct bytes key, uint64_t lsn);

#endif
