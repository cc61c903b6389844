/* mem.h - memory: ordinary, and locked for secrets.
 *
 * Ordinary memory: mem_alloc and friends are malloc with a fault point (fault.h), so that tests can
 * fail the n-th allocation. They return NULL on failure; callers answer ERR_OOM and change nothing.
 *
 * Secret memory: mem_secret_alloc gives memory for keys, PINs and plaintext in flight. It comes from
 * regions with guard pages at both ends, mlocked, MADV_DONTDUMP, wiped when freed. When the kernel
 * refuses mlock (RLIMIT_MEMLOCK) the region is used unlocked and mem_secret_stats says so: the server
 * warns with the number to set, and shows it in INFO. Sizes are rounded up to a class (64, 128, 256 ...
 * 64 KiB); larger requests get regions of their own. Freed blocks stay in a free list per class.
 * Both kinds of allocation, secret too, count for fault_arm(FAULT_MEM).
 *
 * Threads: all functions may be called from any thread; mem_secret_* take at most one short lock, none when a block of
 * up to 4 KiB comes from and goes to the calling thread's cache. In a forked child secret memory reads as zeroes.
 */
#ifndef COFFER_BASE_MEM_H
#define COFFER_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* What malloc has handed out; the allocator's name, "jemalloc-5.3.0" or "libc". Any thread. Microseconds. */
size_t mem_heap_bytes(void);
const char *mem_heap_name(void);
/* Gives back to the kernel what the allocator keeps of freed memory. Any thread; milliseconds. */
void mem_heap_purge(void);

void *mem_alloc(size_t n);            /* uninitialised; NULL on failure */
void *mem_zalloc(size_t n);           /* zeroed */
void *mem_realloc(void *p, size_t n); /* never for secrets: the old copy would stay */
void mem_free(void *p);               /* accepts NULL */

void *mem_secret_alloc(size_t n);        /* uninitialised, aligned to 64; NULL on failure */
void mem_secret_free(void *p, size_t n); /* wipes the whole block; n as asked for at allocation; accepts NULL */
size_t mem_secret_usable(size_t n);      /* size class that a request of n gets; ask for that much to use it */

/* Wipes so that the compiler cannot leave it out (explicit_bzero). */
void mem_wipe(void *p, size_t n);

/* What was copied last may stay in vector registers, which a dump shows: for a thread that copied plaintext and goes to
 * sleep. On x86-64; elsewhere nothing. */
void mem_wipe_registers(void);

/* Constant-time equality: 1 when equal. */
int mem_equal_ct(const void *a, const void *b, size_t n);

struct mem_secret_stats {
    size_t reserved_bytes; /* mapped for secrets */
    size_t locked_bytes;   /* of these, mlocked */
    size_t used_bytes;     /* handed out */
    int lock_refused;      /* 1 after the first refused mlock */
};
void mem_secret_stats(struct mem_secret_stats *out);

/* Process hygiene, called first in main(): PR_SET_DUMPABLE 0, RLIMIT_CORE 0, RLIMIT_MEMLOCK raised to its
 * hard limit, a first locked region reserved so that data keys and PINs come before anything else, and OpenSSL's
 * memory wiped when it frees it.
 * keep_core 1 leaves dumps possible (the leak test looks into one). ERR_OK, or ERR_OOM when not even
 * unlocked memory was to be had. */
must_use enum err mem_init(int keep_core);

#endif
