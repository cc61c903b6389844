/* clock.h - time and randomness as functions, so that tests set the clock. Any thread; never blocks. */
#ifndef COFFER_BASE_CLOCK_H
#define COFFER_BASE_CLOCK_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

uint64_t clock_wall_ms(void); /* Unix time, milliseconds */
uint64_t clock_mono_us(void); /* monotonic, microseconds */
static inline uint64_t clock_mono_ms(void)
{
    return clock_mono_us() / 1000;
}

/* A condition variable that is waited on by the monotonic clock. wait returns at until_us (of clock_mono_us), when it
 * is signalled, or earlier for no reason, as pthread_cond_timedwait does. */
void clock_cond_init(pthread_cond_t *c);
void clock_cond_wait(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until_us);

void clock_test_set_wall_ms(uint64_t ms); /* tests: freeze wall time; 0 goes back to the real one */

/* Random bytes from OpenSSL, drawn in blocks per thread. For identifiers and tokens; keys come from the HSM. */
must_use enum err clock_random(void *out, size_t n);
/* n random bytes as 2n lower-case hex digits and a NUL. */
must_use enum err clock_random_hex(char *out, size_t n);

#endif
