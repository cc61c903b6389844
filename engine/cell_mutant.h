/* cell_mutant.h - each rule of the cell, broken on purpose: -DMUTANT_NOGATE and so on. 0 in every build but those of
 * `make check-mutants`, which shows that the simulation notices. docs/replication.md has the list. */
#ifndef COFFER_ENGINE_CELL_MUTANT_H
#define COFFER_ENGINE_CELL_MUTANT_H

#ifndef MUTANT_NOGATE /* R4: told to be primary is being primary */
#define MUTANT_NOGATE 0
#endif
#ifndef MUTANT_NOCATCHUP /* R4: a majority of promises is enough, whatever logs they hold */
#define MUTANT_NOCATCHUP 0
#endif
#ifndef MUTANT_LENONLY /* R4: the longest log is the best */
#define MUTANT_LENONLY 0
#endif
#ifndef MUTANT_FETCH_UNCHECKED /* R4: the donor's log need not be the one that it promised */
#define MUTANT_FETCH_UNCHECKED 0
#endif
#ifndef MUTANT_VOLATILE_PROMISE /* R1: a promise is not written down */
#define MUTANT_VOLATILE_PROMISE 0
#endif
#ifndef MUTANT_AMNESIA /* R1: a node without its voting file votes */
#define MUTANT_AMNESIA 0
#endif
#ifndef MUTANT_FORGIVEN /* R1: who lost its voting file votes once it has caught up, in whatever term */
#define MUTANT_FORGIVEN 0
#endif
#ifndef MUTANT_NOFENCE /* R3: a replica listens to whoever says it is primary */
#define MUTANT_NOFENCE 0
#endif
#ifndef MUTANT_COUNT_OLDTERM /* R7: records of older terms are counted */
#define MUTANT_COUNT_OLDTERM 0
#endif
#ifndef MUTANT_MINORITY /* R7: half is enough */
#define MUTANT_MINORITY 0
#endif
#ifndef MUTANT_COMMIT_UNSYNCED /* R7: the primary counts its own copy before it is durable */
#define MUTANT_COMMIT_UNSYNCED 0
#endif
#ifndef MUTANT_ACK_BEFORE_FSYNC /* R7: so does a replica */
#define MUTANT_ACK_BEFORE_FSYNC 0
#endif
#ifndef MUTANT_APPLY_EARLY /* R7: the primary applies what it appended */
#define MUTANT_APPLY_EARLY 0
#endif
#ifndef MUTANT_TRUNC_HW /* R6: a joining replica cuts its log to what it knows to be committed */
#define MUTANT_TRUNC_HW 0
#endif
#ifndef MUTANT_RESYNC_REGRESS /* R6: a full resync when the log would do, and it drops the old log first */
#define MUTANT_RESYNC_REGRESS 0
#endif
#ifndef MUTANT_RELAY_EARLY /* R7: a relay says that all it has is committed */
#define MUTANT_RELAY_EARLY 0
#endif
#ifndef MUTANT_SAMETERM_ROLLBACK /* R9: the tail is cut and the term goes on */
#define MUTANT_SAMETERM_ROLLBACK 0
#endif
#ifndef MUTANT_ROLLBACK_UNSERVING /* R9: a primary whose barrier is not committed rolls back too */
#define MUTANT_ROLLBACK_UNSERVING 0
#endif
#ifndef MUTANT_READLOCAL /* R10: nobody is asked */
#define MUTANT_READLOCAL 0
#endif
#ifndef MUTANT_READ_NOBARRIER /* R10: reads before the barrier is committed */
#define MUTANT_READ_NOBARRIER 0
#endif
#ifndef MUTANT_DAMAGED_VOTES /* R11: a node with a damaged log votes */
#define MUTANT_DAMAGED_VOTES 0
#endif
#ifndef MUTANT_GONE_VOTES /* R11: so does one whose log is gone, but not its voting file */
#define MUTANT_GONE_VOTES 0
#endif

#endif
