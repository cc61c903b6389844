/* mem.c - see mem.h for what it promises.
 *
 * Secret memory comes in mappings like this; touching a guard is SIGSEGV:
 *
 *     | guard page | data: PROT_READ|WRITE, mlocked, DONTDUMP, WIPEONFORK | guard page |
 *       holds struct mapping, then PROT_NONE
 *
 * A request up to 64 KiB gets a block of a power-of-two class. Blocks are cut from a region (a mapping of 1 MiB), a
 * slab of 4 KiB or one block at a time, go to the free list of their class when freed, and stay of that class for ever:
 * no coalescing, so the memory of a class is what its peak was. Above that a request has a mapping of its own, gone
 * when freed. In front of the free lists each thread keeps a few small blocks (cache_limit), so that an allocation and
 * its release on one thread take no lock; a thread that ends gives them back.
 *
 * Every block is wiped when freed, whole, whatever n was; the only thing written to it after that is the link of its
 * free list.
 *
 * Failures: mmap or mprotect refused is NULL for the caller. mlock refused (RLIMIT_MEMLOCK) leaves the mapping unlocked
 * and sets lock_refused; each later mapping tries again, since a large one may have been given back meanwhile. A child
 * after fork() sees all secret memory zeroed, free lists therefore end early there: it leaks, which is right for
 * a child that is about to exec. The lock is not taken care of across fork: a child must not allocate secrets if other
 * threads existed.
 *
 * Rejected: a guard page for each block (a page table entry and two system calls per request); a header in front of
 * each block (callers know n, and an overrun would find it); OPENSSL_secure_malloc (one arena of fixed size, one lock,
 * no report of what was locked).
 *
 * Under ASan free blocks and the slack behind n are poisoned, so that use after free, overruns within a class and a
 * wrong n at mem_secret_free are caught by tests; and mappings are roots for the leak checker, because secrets hold
 * pointers.
 */
#include "base/mem.h"

#include <assert.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/fault.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#endif

#ifdef WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/lsan_interface.h>
#define POISON(p, n) __asan_poison_memory_region(p, n)
#define UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#define IS_CLEAN(p, n) (__asan_region_is_poisoned(p, n) == NULL)
#define ADD_ROOT(p, n) __lsan_register_root_region(p, n)
#define DROP_ROOT(p, n) __lsan_unregister_root_region(p, n)
#define SEES_POISON __attribute__((no_sanitize_address, noinline))
#else
#define POISON(p, n) ((void)0)
#define UNPOISON(p, n) ((void)0)
#define IS_CLEAN(p, n) 1
#define ADD_ROOT(p, n) ((void)0)
#define DROP_ROOT(p, n) ((void)0)
#define SEES_POISON
#endif

#define REGION_BYTES ((size_t)1 << 20)
#define SLAB_BYTES ((size_t)4096)
#define MIN_SHIFT 6  /* 64 B */
#define MAX_SHIFT 16 /* 64 KiB */
#define CLASSES (MAX_SHIFT - MIN_SHIFT + 1)
#define CLASS_BYTES(c) ((size_t)1 << ((c) + MIN_SHIFT))
#define CACHED_CLASSES 7 /* 64 B to 4 KiB */
#define CACHED_BYTES ((size_t)8192)
#define CACHED_BLOCKS 16u

/* ---- ordinary memory ---- */

/* No object can be larger than PTRDIFF_MAX; libc says so too, but the sanitizers' malloc ends the process instead. */
static int refused(size_t n)
{
    return fault_hit(FAULT_MEM) || n > PTRDIFF_MAX;
}

/* Programs are linked with jemalloc, but those that run under sanitizers. These settings it looks up by this name: what
 * one thread allocates another frees, and stores build tables of megabytes now and then, so there are few arenas, and
 * what is free goes back soon. */
extern const char *malloc_conf;
const char *malloc_conf = "narenas:2,dirty_decay_ms:500,muzzy_decay_ms:0,background_thread:true";
int mallctl(const char *name, void *old, size_t *old_n, void *new, size_t new_n) __attribute__((weak));

size_t mem_heap_bytes(void)
{
    uint64_t epoch = 1;
    size_t used = 0, n = sizeof epoch, used_n = sizeof used;
    if (mallctl && !mallctl("epoch", &epoch, &n, &epoch, n) && !mallctl("stats.allocated", &used, &used_n, NULL, 0))
        return used;
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

const char *mem_heap_name(void)
{
    static char name[32] = "libc";
    const char *version;
    size_t n = sizeof version;
    if (mallctl && !mallctl("version", &version, &n, NULL, 0))
        snprintf(name, sizeof name, "jemalloc-%.*s", (int)strcspn(version, "-"), version);
    return name;
}

void mem_heap_purge(void)
{
    if (!mallctl || mallctl("arena.4096.purge", NULL, NULL, NULL, 0)) /* 4096: all of them */
        (void)malloc_trim(0);
}

void *mem_alloc(size_t n)
{
    return refused(n) ? NULL : malloc(n ? n : 1);
}

void *mem_zalloc(size_t n)
{
    return refused(n) ? NULL : calloc(1, n ? n : 1);
}

void *mem_realloc(void *p, size_t n)
{
    return refused(n) ? NULL : realloc(p, n ? n : 1);
}

void mem_free(void *p)
{
    free(p);
}

/* OpenSSL's memory: ordinary, and wiped when it is freed. It wipes what it knows to be secret itself, but not what a
 * private key's file leaves behind on its way through its decoders. Not counted by FAULT_MEM: tests mean our own. */
static void openssl_free(void *p, const char *file, int line)
{
    (void)file;
    (void)line;
    if (!p)
        return;
    mem_wipe(p, malloc_usable_size(p));
    free(p);
}

static void *openssl_alloc(size_t n, const char *file, int line)
{
    (void)file;
    (void)line;
    return n ? malloc(n) : NULL;
}

static void *openssl_realloc(void *p, size_t n, const char *file, int line)
{
    size_t had = p ? malloc_usable_size(p) : 0;
    if (p && n && n <= had)
        return p;
    void *more = openssl_alloc(n, file, line);
    if (more && had)
        memcpy(more, p, had);
    if (more || !n)
        openssl_free(p, file, line);
    return more;
}

void mem_wipe(void *p, size_t n)
{
    if (n)
        explicit_bzero(p, n); /* as safe as OPENSSL_cleanse, and wide stores instead of single ones */
}

#ifdef __x86_64__
#define ZERO(n) "vpxord %%zmm" #n ", %%zmm" #n ", %%zmm" #n "\n\t"

/* All of them may be lost in a call, so the compiler keeps nothing there. */
__attribute__((noinline)) void mem_wipe_registers(void)
{
    if (__builtin_cpu_supports("avx"))
        __asm__ volatile("vzeroall" ::: "memory");
    if (__builtin_cpu_supports("avx512f"))
        __asm__ volatile(ZERO(16) ZERO(17) ZERO(18) ZERO(19) ZERO(20) ZERO(21) ZERO(22) ZERO(23) ZERO(24) ZERO(25)
                             ZERO(26) ZERO(27) ZERO(28) ZERO(29) ZERO(30) ZERO(31)::
                                 : "memory");
}
#else
void mem_wipe_registers(void)
{
}
#endif

int mem_equal_ct(const void *a, const void *b, size_t n)
{
    return n == 0 || CRYPTO_memcmp(a, b, n) == 0;
}

/* ---- mappings ---- */

struct mapping {
    uint64_t magic;
    size_t bytes; /* of data */
    int locked;
};

#define MAPPING_MAGIC 0x53454352544d4150u

static size_t page_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* NULL, or data_bytes (a multiple of the page) of zeroes between guards; *locked says whether mlock was granted. */
static uint8_t *mapping_new(size_t data_bytes, int *locked)
{
    size_t page = page_bytes(), total = data_bytes + 2 * page;
    uint8_t *base = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *data;

    *locked = 0;
    if (base == MAP_FAILED)
        return NULL;
    data = base + page;
    /* Advice that an old kernel refuses is lost, no more: mem_init has switched core dumps off. The header survives a
     * fork, so that a child can still give back what it inherited. */
    (void)madvise(base, total, MADV_DONTDUMP);
    (void)madvise(data, data_bytes, MADV_WIPEONFORK);
    *locked = mlock(data, data_bytes) == 0;
    *(struct mapping *)(void *)base = (struct mapping){MAPPING_MAGIC, data_bytes, *locked};
    if (mprotect(base, page, PROT_NONE) != 0 || mprotect(data + data_bytes, page, PROT_NONE) != 0) {
        munmap(base, total);
        return NULL;
    }
    ADD_ROOT(data, data_bytes);
    return data;
}

/* Wipes and gives back a mapping; returns whether it was locked. */
static int mapping_free(uint8_t *data, size_t data_bytes)
{
    size_t page = page_bytes();
    struct mapping *m = (void *)(data - page);
    int rc = mprotect(m, page, PROT_READ);

    /* A pointer or a size that is not ours would wipe and unmap someone's memory. */
    assert(rc == 0 && m->magic == MAPPING_MAGIC && m->bytes == data_bytes);
    (void)rc;
    int locked = m->locked;
    DROP_ROOT(data, data_bytes);
    UNPOISON(data, data_bytes);
    mem_wipe(data, data_bytes);
    munmap(m, data_bytes + 2 * page); /* can fail only for lack of map entries: wiped already, so merely lost */
    return locked;
}

/* ---- the pool: regions, classes, free lists ---- */

struct block {
    struct block *next;
};

struct stack {
    struct block *top;
    unsigned count;
};

/* Links lie in free blocks, which are poisoned under ASan. */
SEES_POISON static void stack_push(struct stack *s, struct block *b)
{
    b->next = s->top;
    s->top = b;
    s->count++;
}

SEES_POISON static struct block *stack_pop(struct stack *s)
{
    struct block *b = s->top;
    if (b) {
        s->top = b->next;
        s->count = s->top ? s->count - 1 : 0; /* a forked child finds its list cut short */
        b->next = NULL;
    }
    return b;
}

struct cache {
    struct stack free[CACHED_CLASSES];
    _Atomic size_t used; /* modulo 2^64: what one thread allocates another may free */
    struct cache *prev, *next;
    int registered;
};

static struct {
    pthread_mutex_t lock;
    uint8_t *uncut; /* rest of the newest region */
    size_t uncut_bytes;
    struct stack free[CLASSES];
    struct cache *caches; /* of living threads */
    struct mem_secret_stats stats;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local struct cache thread_cache;
static pthread_key_t cache_key;
static int cache_key_ok;
static pthread_once_t cache_once = PTHREAD_ONCE_INIT;

static void pool_lock(void)
{
    int rc = pthread_mutex_lock(&pool.lock);
    assert(rc == 0);
    (void)rc;
}

static void pool_unlock(void)
{
    pthread_mutex_unlock(&pool.lock);
}

static unsigned class_of(size_t n)
{
    return n <= CLASS_BYTES(0) ? 0 : (unsigned)(64 - __builtin_clzll((unsigned long long)n - 1) - MIN_SHIFT);
}

static void account_mapping(size_t bytes, int locked)
{
    pool.stats.reserved_bytes += bytes;
    if (locked)
        pool.stats.locked_bytes += bytes;
    else
        pool.stats.lock_refused = 1;
}

static int pool_add_region(void)
{
    int locked;
    uint8_t *data = mapping_new(REGION_BYTES, &locked);
    if (!data)
        return 0;
    account_mapping(REGION_BYTES, locked);
    POISON(data, REGION_BYTES);
    pool.uncut = data;
    pool.uncut_bytes = REGION_BYTES;
    return 1;
}

static uint8_t *pool_cut(size_t bytes)
{
    uint8_t *p = pool.uncut;
    pool.uncut += bytes;
    pool.uncut_bytes -= bytes;
    return p;
}

/* Puts at least one block of class c on its free list. What is left of a region that is too small for the request is
 * cut into blocks of the largest classes that fit; it is a multiple of the slab, so nothing is lost. */
static int pool_refill(unsigned c)
{
    size_t bytes = CLASS_BYTES(c), want = bytes > SLAB_BYTES ? bytes : SLAB_BYTES;

    if (pool.uncut_bytes < want) {
        for (unsigned k = CLASSES; k-- > 0;)
            while (CLASS_BYTES(k) >= SLAB_BYTES && pool.uncut_bytes >= CLASS_BYTES(k))
                stack_push(&pool.free[k], (void *)pool_cut(CLASS_BYTES(k)));
        if (!pool_add_region())
            return 0;
    }
    uint8_t *slab = pool_cut(want);
    for (size_t off = want; off > 0; off -= bytes)
        stack_push(&pool.free[c], (void *)(slab + off - bytes));
    return 1;
}

static struct block *pool_take(unsigned c)
{
    if (!pool.free[c].top && !pool_refill(c))
        return NULL;
    return stack_pop(&pool.free[c]);
}

/* ---- caches of threads ---- */

/* By bytes, because idle caches keep locked memory from others: 40 KiB a thread at most. */
static unsigned cache_limit(unsigned c)
{
    size_t blocks = CACHED_BYTES / CLASS_BYTES(c);
    return blocks < CACHED_BLOCKS ? (unsigned)blocks : CACHED_BLOCKS;
}

static size_t used_of(struct cache *t)
{
    return atomic_load_explicit(&t->used, memory_order_relaxed);
}

/* Written by its own thread only, so no locked instruction is needed. */
static void cache_count(struct cache *t, size_t delta)
{
    atomic_store_explicit(&t->used, used_of(t) + delta, memory_order_relaxed);
}

static void cache_spill(struct cache *t, unsigned c, unsigned keep)
{
    while (t->free[c].count > keep) {
        struct block *b = stack_pop(&t->free[c]);
        if (!b)
            break;
        stack_push(&pool.free[c], b);
    }
}

/* At the end of a thread. A destructor of another module that runs later registers the cache anew and so calls
 * for another round. */
static void cache_release(void *arg)
{
    struct cache *t = arg;
    pool_lock();
    for (unsigned c = 0; c < CACHED_CLASSES; c++)
        cache_spill(t, c, 0);
    pool.stats.used_bytes += used_of(t);
    if (t->prev)
        t->prev->next = t->next;
    else
        pool.caches = t->next;
    if (t->next)
        t->next->prev = t->prev;
    pool_unlock();
    cache_count(t, 0 - used_of(t));
    t->prev = t->next = NULL;
    t->registered = 0;
}

static void cache_make_key(void)
{
    cache_key_ok = pthread_key_create(&cache_key, cache_release) == 0;
}

/* This thread's cache; NULL when its end could not be noticed, then the caller goes to the pool. */
static struct cache *cache_here(void)
{
    struct cache *t = &thread_cache;
    if (t->registered)
        return t;
    pthread_once(&cache_once, cache_make_key);
    if (!cache_key_ok || pthread_setspecific(cache_key, t) != 0)
        return NULL;
    pool_lock();
    t->next = pool.caches;
    if (t->next)
        t->next->prev = t;
    pool.caches = t;
    pool_unlock();
    t->registered = 1;
    return t;
}

static struct block *cache_take(struct cache *t, unsigned c)
{
    struct block *b = stack_pop(&t->free[c]);
    if (!b) {
        unsigned more = cache_limit(c) / 2;
        pool_lock();
        b = pool_take(c);
        while (b && more-- > 1 && pool.free[c].top)
            stack_push(&t->free[c], stack_pop(&pool.free[c]));
        pool_unlock();
    }
    if (b)
        cache_count(t, CLASS_BYTES(c));
    return b;
}

static void cache_give(struct cache *t, unsigned c, struct block *b)
{
    stack_push(&t->free[c], b);
    cache_count(t, 0 - CLASS_BYTES(c));
    if (t->free[c].count > cache_limit(c)) {
        pool_lock();
        cache_spill(t, c, cache_limit(c) / 2);
        pool_unlock();
    }
}

/* ---- secret memory ---- */

static void *large_alloc(size_t n)
{
    size_t bytes = mem_secret_usable(n);
    int locked;
    uint8_t *data = n <= SIZE_MAX / 4 ? mapping_new(bytes, &locked) : NULL;
    if (!data)
        return NULL;
    pool_lock();
    account_mapping(bytes, locked);
    pool.stats.used_bytes += bytes;
    pool_unlock();
    POISON(data + n, bytes - n);
    return data;
}

static void large_free(void *p, size_t n)
{
    size_t bytes = mem_secret_usable(n);
    int locked = mapping_free(p, bytes);
    pool_lock();
    pool.stats.reserved_bytes -= bytes;
    pool.stats.locked_bytes -= locked ? bytes : 0;
    pool.stats.used_bytes -= bytes;
    pool_unlock();
}

static struct block *small_alloc(unsigned c)
{
    struct cache *t = c < CACHED_CLASSES ? cache_here() : NULL;
    if (t)
        return cache_take(t, c);
    pool_lock();
    struct block *b = pool_take(c);
    if (b)
        pool.stats.used_bytes += CLASS_BYTES(c);
    pool_unlock();
    return b;
}

static void small_free(unsigned c, struct block *b)
{
    struct cache *t = c < CACHED_CLASSES ? cache_here() : NULL;
    if (t) {
        cache_give(t, c, b);
        return;
    }
    pool_lock();
    stack_push(&pool.free[c], b);
    pool.stats.used_bytes -= CLASS_BYTES(c);
    pool_unlock();
}

size_t mem_secret_usable(size_t n)
{
    if (n <= CLASS_BYTES(CLASSES - 1))
        return CLASS_BYTES(class_of(n));
    if (n > SIZE_MAX / 4) /* will be refused; do not wrap around meanwhile */
        return n;
    return (n + page_bytes() - 1) & ~(page_bytes() - 1);
}

void *mem_secret_alloc(size_t n)
{
    if (fault_hit(FAULT_MEM))
        return NULL;
    if (n > CLASS_BYTES(CLASSES - 1))
        return large_alloc(n);
    void *p = small_alloc(class_of(n));
    if (p)
        UNPOISON(p, n);
    return p;
}

void mem_secret_free(void *p, size_t n)
{
    if (!p)
        return;
    assert(IS_CLEAN(p, n)); /* else freed twice, or n is not that of the allocation */
    if (n > CLASS_BYTES(CLASSES - 1)) {
        large_free(p, n);
        return;
    }
    unsigned c = class_of(n);
    assert((uintptr_t)p % CLASS_BYTES(0) == 0);
    UNPOISON(p, CLASS_BYTES(c));
    mem_wipe(p, CLASS_BYTES(c));
    POISON(p, CLASS_BYTES(c));
    small_free(c, p);
}

void mem_secret_stats(struct mem_secret_stats *out)
{
    pool_lock();
    *out = pool.stats;
    for (struct cache *t = pool.caches; t; t = t->next)
        out->used_bytes += used_of(t);
    pool_unlock();
}

enum err mem_init(int keep_core)
{
    struct rlimit r;
    enum err e = ERR_OK;

    if (getrlimit(RLIMIT_MEMLOCK, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_MEMLOCK, &r); /* refused: mlock will be too, and mem_secret_stats says so */
    }
    if (!keep_core) {
        r = (struct rlimit){0, 0};
        (void)setrlimit(RLIMIT_CORE, &r); /* lowering is always granted */
        (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    }
    (void)CRYPTO_set_mem_functions(openssl_alloc, openssl_realloc, openssl_free); /* refused once it has allocated */
    if (fault_hit(FAULT_MEM))
        return ERR_OOM;
    pool_lock();
    if (pool.stats.reserved_bytes == 0 && !pool_add_region())
        e = ERR_OOM;
    pool_unlock();
    return e;
}
