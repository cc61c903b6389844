/* workers.h - the coffer-hsm processes of a server under test, and the token that they use. */
#ifndef COFFER_TESTS_LIB_WORKERS_H
#define COFFER_TESTS_LIB_WORKERS_H

#include <sys/types.h>

#include "tests/lib/e2e.h"

#define WORKERS_MAX 16

/* Process ids of the workers that are there now; returns how many. */
unsigned workers_of(const struct e2e *s, pid_t pid[WORKERS_MAX]);

/* The PIN of the server's own token, without the line's end. Static memory, overwritten by the next call. */
const char *workers_pin(const struct e2e *s);

#endif
