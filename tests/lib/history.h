/* history.h - clients of a cell of three who write down what they asked and what they were told, and whether that was
 * possible if each key were one register (linear.h).
 *
 *     history_begin(&t, 8);       eight clients who write, and one at each node who reads
 *     ... what is to happen meanwhile ...
 *     history_end();
 *     history_check(&t);          fails the test unless it was, with all nodes as they are now
 *
 * Clients go to whichever node takes their writes, over its UNIX socket: so they also speak to one that others do not
 * hear. They write (SET), swap (SET ... GET), and read; each value is written once. What they are told:
 *
 *     OK, or a value                     it happened, between question and answer
 *     READONLY, NOREPLICAS, ROLLEDBACK, MASTERDOWN, NOQUORUM, LOADING, MISCONF     it did not happen
 *     UNCERTAIN lsn term                 WBL.OUTCOME tells afterwards, on all nodes the same
 *     no answer                          nobody knows
 *
 * Who writes reads linearizably (CLIENT CONSISTENCY); who only reads reads locally: what he sees may be old, but for a
 * connection not older than what it saw before.
 */
#ifndef COFFER_TESTS_LIB_HISTORY_H
#define COFFER_TESTS_LIB_HISTORY_H

#include "tests/lib/trio.h"

/* With keys of their own each time. */
void history_begin(struct trio *t, unsigned writers);
unsigned history_done(void); /* operations that happened so far, of those who write */
void history_end(void);      /* also in a teardown; nothing, when none run */
void history_check(struct trio *t);

/* Of the last history: "812 operations, 3 uncertain, 5 unanswered". Static memory. */
const char *history_summary(void);

#endif
