/* clock.c - see clock.h.
 *
 * Randomness: RAND_bytes costs a few hundred nanoseconds a call whatever its size, so each thread draws a block of 4
 * KiB into secret memory and hands it out from the end, wiping what it handed out: what was given away cannot be read
 * from this process a second time. A request larger than what is left of the block starts a new one and drops the rest;
 * one larger than a block, or one made when there is no secret memory to be had, goes to RAND_bytes directly.
 *
 * How much is left is kept in the block itself. A forked child sees secret memory as zeroes, so it finds 0 bytes left
 * and draws its own (OpenSSL reseeds in a child); it cannot repeat its parent's bytes.
 *
 * Failure: RAND_bytes fails only when its generator cannot be seeded: ERR_INTERNAL, and zeroes for the caller.
 */
#include "base/clock.h"

#include <openssl/rand.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"

static _Atomic uint64_t frozen_wall_ms;

uint64_t clock_wall_ms(void)
{
    uint64_t frozen = atomic_load_explicit(&frozen_wall_ms, memory_order_relaxed);
    struct timespec t;
    if (frozen)
        return frozen;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

uint64_t clock_mono_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void clock_cond_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

void clock_cond_wait(pthread_cond_t *c, pthread_mutex_t *lock, uint64_t until_us)
{
    struct timespec t = {.tv_sec = (time_t)(until_us / 1000000), .tv_nsec = (long)(until_us % 1000000) * 1000};
    pthread_cond_timedwait(c, lock, &t);
}

void clock_test_set_wall_ms(uint64_t ms)
{
    atomic_store_explicit(&frozen_wall_ms, ms, memory_order_relaxed);
}

#define BLOCK_BYTES 4096

struct random_block {
    size_t left; /* bytes[0..left) are unused */
    uint8_t bytes[BLOCK_BYTES - sizeof(size_t)];
};

static _Thread_local struct random_block *block;
static pthread_key_t block_key;
static int block_key_ok;
static pthread_once_t block_once = PTHREAD_ONCE_INIT;

static void block_free(void *b)
{
    mem_secret_free(b, sizeof(struct random_block));
    block = NULL;
}

static void block_make_key(void)
{
    block_key_ok = pthread_key_create(&block_key, block_free) == 0;
}

/* This thread's block, made when first asked for; NULL when there is no memory, or its end could not be noticed. */
static struct random_block *block_here(void)
{
    if (block)
        return block;
    pthread_once(&block_once, block_make_key);
    struct random_block *b = block_key_ok ? mem_secret_alloc(sizeof *b) : NULL;
    if (!b)
        return NULL;
    if (pthread_setspecific(block_key, b) != 0) {
        mem_secret_free(b, sizeof *b);
        return NULL;
    }
    b->left = 0;
    block = b;
    return b;
}

static enum err draw(void *out, size_t n)
{
    while (n > 0) { /* RAND_bytes counts in int */
        int some = n < 1 << 20 ? (int)n : 1 << 20;
        if (RAND_bytes(out, some) != 1)
            return ERR_INTERNAL;
        out = (uint8_t *)out + some;
        n -= (size_t)some;
    }
    return ERR_OK;
}

static enum err draw_through_block(struct random_block *b, void *out, size_t n)
{
    if (b->left < n) {
        b->left = 0;
        enum err e = draw(b->bytes, sizeof b->bytes);
        if (e)
            return e;
        b->left = sizeof b->bytes;
    }
    b->left -= n;
    memcpy(out, b->bytes + b->left, n);
    mem_wipe(b->bytes + b->left, n);
    return ERR_OK;
}

enum err clock_random(void *out, size_t n)
{
    if (n == 0)
        return ERR_OK;
    struct random_block *b = n <= sizeof b->bytes ? block_here() : NULL;
    enum err e = b ? draw_through_block(b, out, n) : draw(out, n);
    if (e)
        memset(out, 0, n);
    return e;
}

enum err clock_random_hex(char *out, size_t n)
{
    static const char digit[] = "0123456789abcdef";
    uint8_t *raw = (uint8_t *)out + n; /* upper half; digit pairs never overtake the byte they come from */

    out[0] = '\0';
    enum err e = clock_random(raw, n);
    if (e)
        return e;
    for (size_t i = 0; i < n; i++) {
        uint8_t v = raw[i];
        out[2 * i] = digit[v >> 4];
        out[2 * i + 1] = digit[v & 15];
    }
    out[2 * n] = '\0';
    return ERR_OK;
}
