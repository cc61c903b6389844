/* fault.h - countdown faults: tests make the n-th allocation or file operation fail.
 *
 *     fault_arm(FAULT_MEM, n, 1);      the n-th allocation of mem.h, secret or not, from now on returns NULL, n from 1
 *     fault_arm(FAULT_FILE, n, EIO);   the n-th file operation of file.h fails with EIO
 *     ... call the thing; it must fail cleanly or not have needed n operations ...
 *     if (!fault_fired(FAULT_MEM)) break;
 *
 * One global countdown per kind; disarmed it costs one predictable branch. Arm only while the threads that
 * count are known. In a server the environment COFFER_FAULT="file:12:EIO" arms it at start (debug aid), by
 * fault_arm_text().
 */
#ifndef COFFER_BASE_FAULT_H
#define COFFER_BASE_FAULT_H

#include "base/err.h"

#define FAULT_DIE (-1) /* instead of an errno: the process ends at that place, as by kill -9 */

enum fault_kind { FAULT_MEM, FAULT_FILE, FAULT_KINDS };

extern _Atomic long fault_countdown[FAULT_KINDS]; /* 0: disarmed */

void fault_arm(enum fault_kind k, long n, int code);
void fault_disarm(enum fault_kind k);
int fault_fired(enum fault_kind k); /* 1 when the armed fault has fired since fault_arm */

/* "mem:<n>" or "file:<n>", then optionally ":" and an errno by name, or DIE (file: EIO when left out). ERR_SYNTAX arms
 * nothing. */
must_use enum err fault_arm_text(const char *spec);

int fault_step_(enum fault_kind k); /* slow path: code when the countdown reached 0, else 0 */

/* 0: go on; else the code given to fault_arm. */
static inline int fault_hit(enum fault_kind k)
{
    return fault_countdown[k] ? fault_step_(k) : 0;
}

#endif
