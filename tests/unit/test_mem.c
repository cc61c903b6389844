#include <inttypes.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/mem.h"
#include "base/mpsc.h"
#include "sweep.h"

#define LARGE ((size_t)64 * 1024 + 1)

static size_t used_bytes(void)
{
    struct mem_secret_stats s;
    mem_secret_stats(&s);
    return s.used_bytes;
}

static void assert_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(p[i], 0);
}

static void ordinary_memory(void **state)
{
    (void)state;
    mem_free(NULL);
    void *p = mem_alloc(0);
    assert_non_null(p);
    p = mem_realloc(p, 100);
    assert_non_null(p);
    mem_free(p);
    p = mem_zalloc(1000);
    assert_non_null(p);
    assert_zero(p, 1000);
    mem_free(p);
    p = mem_realloc(NULL, 10);
    assert_non_null(p);
    mem_free(p);
}

static void wipe_and_compare(void **state)
{
    uint8_t a[40], b[40];
    (void)state;
    memset(a, 7, sizeof a);
    memset(b, 7, sizeof b);
    assert_int_equal(mem_equal_ct(a, b, sizeof a), 1);
    for (size_t i = 0; i < sizeof a; i++) {
        b[i] ^= 0x80;
        assert_int_equal(mem_equal_ct(a, b, sizeof a), 0);
        assert_int_equal(mem_equal_ct(a, b, i), 1);
        b[i] ^= 0x80;
    }
    assert_int_equal(mem_equal_ct(NULL, NULL, 0), 1);
    mem_wipe(a + 1, sizeof a - 2);
    assert_zero(a + 1, sizeof a - 2);
    assert_int_equal(a[0], 7);
    assert_int_equal(a[sizeof a - 1], 7);
    mem_wipe(NULL, 0);
}

static void sizes_are_rounded_to_classes(void **state)
{
    static const size_t pairs[][2] = {{0, 64},        {1, 64},        {64, 64},       {65, 128},         {128, 128},
                                      {129, 256},     {4096, 4096},   {4097, 8192},   {65535, 65536},    {65536, 65536},
                                      {65537, 69632}, {69632, 69632}, {69633, 73728}, {1 << 20, 1 << 20}};
    (void)state;
    if (sysconf(_SC_PAGESIZE) != 4096)
        skip();
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        assert_int_equal(mem_secret_usable(pairs[i][0]), pairs[i][1]);
    assert_true(mem_secret_usable(SIZE_MAX) >= SIZE_MAX / 2);
}

static void absurd_sizes_are_refused(void **state)
{
    (void)state;
    assert_null(mem_alloc(SIZE_MAX));
    assert_null(mem_zalloc(SIZE_MAX));
    assert_null(mem_realloc(NULL, SIZE_MAX));
    assert_null(mem_secret_alloc(SIZE_MAX));
    assert_null(mem_secret_alloc(SIZE_MAX - 4096));
    assert_null(mem_secret_alloc(SIZE_MAX / 4));
    mem_secret_free(NULL, 100);
}

/* Every byte of every block has one owner. */
static void blocks_do_not_overlap(void **state)
{
    enum { BLOCKS = 3000 };
    static uint8_t *p[BLOCKS];
    static size_t n[BLOCKS];
    size_t before = used_bytes(), sum = 0;
    (void)state;
    for (int i = 0; i < BLOCKS; i++) {
        n[i] = (size_t)(i * 7919) % (i % 50 == 0 ? 200000 : 3000);
        p[i] = mem_secret_alloc(n[i]);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t)p[i] % 64, 0);
        memset(p[i], i, n[i]);
        sum += mem_secret_usable(n[i]);
    }
    assert_int_equal(used_bytes() - before, sum);
    for (int i = 0; i < BLOCKS; i++)
        for (size_t k = 0; k < n[i]; k++)
            if (p[i][k] != (uint8_t)i)
                fail_msg("block %d of %zu bytes was overwritten at %zu", i, n[i], k);
    for (int i = 0; i < BLOCKS; i++)
        mem_secret_free(p[i], n[i]);
    assert_int_equal(used_bytes(), before);
}

static void a_freed_block_is_wiped_whole(void **state)
{
    (void)state;
    for (size_t size = 64; size <= 65536; size *= 2) {
        uint8_t *p = mem_secret_alloc(size), *q;
        memset(p, 0xA5, size);
        mem_secret_free(p, size);
        q = mem_secret_alloc(size);
        assert_ptr_equal(p, q); /* last in, first out */
        assert_zero(q, size);
        mem_secret_free(q, size);
    }
}

static void free_blocks_are_used_again(void **state)
{
    struct mem_secret_stats before, after;
    (void)state;
    for (size_t size = 64; size <= 65536; size *= 2)
        mem_secret_free(mem_secret_alloc(size), size);
    mem_secret_stats(&before);
    for (int i = 0; i < 20000; i++)
        mem_secret_free(mem_secret_alloc((size_t)i % 65536), (size_t)i % 65536);
    mem_secret_stats(&after);
    assert_int_equal(after.reserved_bytes, before.reserved_bytes);
}

static void large_requests_come_and_go(void **state)
{
    struct mem_secret_stats before, during, after;
    (void)state;
    mem_secret_stats(&before);
    uint8_t *p = mem_secret_alloc(300000);
    assert_non_null(p);
    memset(p, 1, 300000);
    mem_secret_stats(&during);
    assert_int_equal(during.used_bytes - before.used_bytes, mem_secret_usable(300000));
    assert_int_equal(during.reserved_bytes - before.reserved_bytes, mem_secret_usable(300000));
    mem_secret_free(p, 300000);
    mem_secret_stats(&after);
    assert_int_equal(after.used_bytes, before.used_bytes);
    assert_int_equal(after.reserved_bytes, before.reserved_bytes);
    assert_int_equal(after.locked_bytes, before.locked_bytes);
}

/* What the kernel says of the mapping that holds p: permissions, VmFlags, bounds. */
struct seen {
    uintptr_t from, to;
    char perms[8];
    char flags[256];
};

static int look_up(uintptr_t p, struct seen *out)
{
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[512];
    int inside = 0, found = 0;
    assert_non_null(f);
    while (!found && fgets(line, sizeof line, f)) {
        struct seen s = {0};
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s", &s.from, &s.to, s.perms) == 3) {
            inside = s.from <= p && p < s.to;
            if (inside)
                *out = s;
        } else if (inside && strncmp(line, "VmFlags:", 8) == 0) {
            snprintf(out->flags, sizeof out->flags, "%s ", strtok(line + 8, "\n"));
            found = 1;
        }
    }
    fclose(f);
    return found;
}

static void assert_guarded(uint8_t *p)
{
    struct mem_secret_stats stats;
    struct seen data, below, above;
    if (!look_up((uintptr_t)p, &data))
        skip();
    mem_secret_stats(&stats);
    assert_string_equal(data.perms, "rw-p");
    assert_non_null(strstr(data.flags, " dd "));
    assert_non_null(strstr(data.flags, " wf "));
    if (!SANITIZED && !stats.lock_refused)
        assert_non_null(strstr(data.flags, " lo "));
    assert_int_equal(look_up(data.from - 1, &below), 1);
    assert_string_equal(below.perms, "---p");
    assert_int_equal(look_up(data.to, &above), 1);
    assert_string_equal(above.perms, "---p");
}

static void secrets_are_locked_guarded_and_not_dumped(void **state)
{
    uint8_t *small = mem_secret_alloc(32), *large = mem_secret_alloc(LARGE);
    (void)state;
    assert_guarded(small);
    assert_guarded(large);
    mem_secret_free(small, 32);
    mem_secret_free(large, LARGE);
}

/* Runs body(arg) in a child; returns its status as of waitpid. */
static int in_child(void (*body)(void *), void *arg)
{
    int status = -1;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        signal(SIGABRT, SIG_DFL);
        body(arg);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void write_byte(void *p)
{
    *(volatile uint8_t *)p = 1;
}

static void touching_a_guard_is_fatal(void **state)
{
    uint8_t *p = mem_secret_alloc(LARGE);
    size_t usable = mem_secret_usable(LARGE);
    int status;
    (void)state;
    if (SANITIZED) /* its runtime ignores mlock and takes SIGSEGV */
        skip();
    assert_int_equal(in_child(write_byte, p), 0);
    assert_int_equal(in_child(write_byte, p + usable - 1), 0);
    status = in_child(write_byte, p - 1);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    status = in_child(write_byte, p + usable);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    mem_secret_free(p, LARGE);
}

static void free_as_if_larger(void *p)
{
    fclose(stderr); /* the assertion's message */
    mem_secret_free(p, LARGE + 100000);
}

static void free_as_if_smaller(void *p)
{
    fclose(stderr);
    mem_secret_free(p, LARGE);
}

static void a_large_block_freed_with_a_wrong_size_is_caught(void **state)
{
    uint8_t *p = mem_secret_alloc(2 * LARGE);
    (void)state;
    int status = in_child(free_as_if_larger, p);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    status = in_child(free_as_if_smaller, p);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    mem_secret_free(p, 2 * LARGE);
}

static void check_wiped_and_usable(void *arg)
{
    uint8_t **p = arg;
    for (size_t i = 0; i < 100; i++)
        if (p[0][i] || p[1][i])
            _exit(1);
    mem_secret_free(p[0], 100);
    mem_secret_free(p[1], LARGE);
    for (size_t size = 1; size < 100000; size *= 2) {
        uint8_t *q = mem_secret_alloc(size);
        if (!q)
            _exit(2);
        memset(q, 1, size);
        mem_secret_free(q, size);
    }
}

static void a_child_inherits_no_secrets(void **state)
{
    uint8_t *p[2] = {mem_secret_alloc(100), mem_secret_alloc(LARGE)};
    (void)state;
    memset(p[0], 's', 100);
    memset(p[1], 's', 100);
    assert_int_equal(in_child(check_wiped_and_usable, p), 0);
    assert_int_equal(p[0][99], 's');
    mem_secret_free(p[0], 100);
    mem_secret_free(p[1], LARGE);
}

static void init_hardens(void *arg)
{
    struct rlimit core, lock;
    int keep_core = *(int *)arg;
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    getrlimit(RLIMIT_MEMLOCK, &lock);
    lock.rlim_cur = 0;
    setrlimit(RLIMIT_MEMLOCK, &lock);
    if (mem_init(keep_core) != ERR_OK)
        _exit(1);
    getrlimit(RLIMIT_CORE, &core);
    getrlimit(RLIMIT_MEMLOCK, &lock);
    if (lock.rlim_cur != lock.rlim_max)
        _exit(2);
    if (keep_core)
        _exit(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 1 ? 0 : 3);
    if (core.rlim_cur != 0 || core.rlim_max != 0)
        _exit(4);
    if (prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
        _exit(5);
}

static void init_raises_limits_and_forbids_dumps(void **state)
{
    int keep_core = 0;
    (void)state;
    assert_int_equal(in_child(init_hardens, &keep_core), 0);
    keep_core = 1;
    assert_int_equal(in_child(init_hardens, &keep_core), 0);
}

static void init_reserves_once(void **state)
{
    struct mem_secret_stats once, twice;
    (void)state;
    fault_arm(FAULT_MEM, 1, 1);
    assert_int_equal(mem_init(1), ERR_OOM);
    fault_disarm(FAULT_MEM);
    assert_int_equal(mem_init(1), ERR_OK);
    mem_secret_stats(&once);
    assert_true(once.reserved_bytes >= 1 << 20);
    assert_int_equal(mem_init(1), ERR_OK);
    mem_secret_stats(&twice);
    assert_int_equal(once.reserved_bytes, twice.reserved_bytes);
}

static void allocate_without_a_right_to_lock(void *arg)
{
    struct mem_secret_stats before, after;
    struct rlimit none = {0, 0};
    (void)arg;
    mem_secret_stats(&before);
    if (setrlimit(RLIMIT_MEMLOCK, &none) != 0 || (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0))
        _exit(1);
    uint8_t *p = mem_secret_alloc(LARGE);
    if (!p)
        _exit(2);
    memset(p, 1, LARGE);
    mem_secret_stats(&after);
    if (!after.lock_refused)
        _exit(3);
    if (after.locked_bytes != before.locked_bytes)
        _exit(4);
    if (after.reserved_bytes == before.reserved_bytes)
        _exit(5);
    mem_secret_free(p, LARGE);
    mem_secret_stats(&after);
    if (after.locked_bytes != before.locked_bytes || after.reserved_bytes != before.reserved_bytes)
        _exit(6);
}

static void a_refused_lock_is_told_and_survived(void **state)
{
    (void)state;
    if (SANITIZED)
        skip();
    assert_int_equal(in_child(allocate_without_a_right_to_lock, NULL), 0);
}

#define THREADS 4
#define ROUNDS 20000

/* Each thread fills, checks and frees blocks of its own, and passes some to its neighbour to check and free. */
struct passed {
    struct mpsc_node node;
    size_t n;
    uint8_t mark;
};

static struct mpsc inbox[THREADS];
static atomic_int broken, senders;

static void check_and_free(uint8_t *p, size_t from, size_t n, uint8_t mark)
{
    for (size_t i = from; i < n; i++)
        if (p[i] != mark)
            broken = 1;
    mem_secret_free(p, n);
}

static void drain(int id)
{
    struct mpsc_node *m = mpsc_take(&inbox[id]);
    while (m) {
        struct passed *got = mpsc_entry(m, struct passed, node);
        m = m->next;
        check_and_free((uint8_t *)got, sizeof *got, got->n, got->mark);
    }
}

static void *trade(void *arg)
{
    int id = (int)(intptr_t)arg;
    uint32_t x = (uint32_t)id + 1;
    for (int i = 0; i < ROUNDS; i++) {
        x = x * 1664525u + 1013904223u;
        size_t n = sizeof(struct passed) + (x >> 8) % (i % 100 == 0 ? 100000 : i % 10 == 0 ? 9000 : 600);
        uint8_t *p = mem_secret_alloc(n), mark = (uint8_t)(x >> 24);
        if (!p) {
            broken = 1;
            break;
        }
        memset(p, mark, n);
        if (x & 64) {
            struct passed *out = (void *)p;
            out->n = n;
            out->mark = mark;
            mpsc_push(&inbox[(id + 1) % THREADS], &out->node);
        } else {
            check_and_free(p, 0, n, mark);
        }
        drain(id);
    }
    senders--;
    while (senders > 0) { /* bounded: every thread ends its rounds without waiting for anyone */
        drain(id);
        sched_yield();
    }
    drain(id);
    return NULL;
}

static void threads_trade_blocks(void **state)
{
    size_t before = used_bytes();
    pthread_t t[THREADS];
    (void)state;
    for (int i = 0; i < THREADS; i++)
        mpsc_init(&inbox[i]);
    senders = THREADS;
    for (intptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, trade, (void *)i), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(broken, 0);
    assert_int_equal(used_bytes(), before);
}

static void *allocate_and_free(void *arg)
{
    void *p[16];
    (void)arg;
    for (int i = 0; i < 16; i++)
        p[i] = mem_secret_alloc(64);
    for (int i = 0; i < 16; i++)
        mem_secret_free(p[i], 64);
    return NULL;
}

/* Blocks in the caches of threads that ended must come back, else each new thread would cut new ones. */
static void ended_threads_leave_nothing_behind(void **state)
{
    struct mem_secret_stats before, after;
    pthread_t t;
    (void)state;
    allocate_and_free(NULL);
    mem_secret_stats(&before);
    for (int i = 0; i < 3000; i++) { /* 16 * 64 * 3000 is almost three regions */
        assert_int_equal(pthread_create(&t, NULL, allocate_and_free, NULL), 0);
        pthread_join(t, NULL);
    }
    mem_secret_stats(&after);
    assert_int_equal(after.used_bytes, before.used_bytes);
    assert_true(after.reserved_bytes - before.reserved_bytes <= 1 << 20);
}

static void *allocate_two(void *arg)
{
    void **p = arg;
    p[0] = mem_secret_alloc(500);
    p[1] = mem_secret_alloc(50000);
    return NULL;
}

static void blocks_outlive_their_thread(void **state)
{
    size_t before = used_bytes();
    uint8_t *p[2];
    pthread_t t;
    (void)state;
    assert_int_equal(pthread_create(&t, NULL, allocate_two, p), 0);
    pthread_join(t, NULL);
    memset(p[0], 1, 500);
    memset(p[1], 1, 50000);
    assert_int_equal(used_bytes(), before + 512 + 65536);
    mem_secret_free(p[0], 500);
    mem_secret_free(p[1], 50000);
    assert_int_equal(used_bytes(), before);
}

static void what_openssl_frees_is_wiped(void **state)
{
    enum { BYTES = 3000 };
    (void)state;
    assert_int_equal(mem_init(1), ERR_OK);
    uint8_t *p = OPENSSL_malloc(16);
    memset(p, 'x', 16);
    p = OPENSSL_realloc(p, BYTES);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(p[i], 'x');
    memset(p, 'x', BYTES);
    p = OPENSSL_realloc(p, 2 * BYTES); /* leaves a block of BYTES behind */
    for (unsigned i = 0; i < BYTES; i++)
        assert_int_equal(p[i], 'x');
    memset(p, 'x', 2 * BYTES);
    OPENSSL_free(p);
    for (unsigned n = 1; n <= 2; n++) { /* the same blocks again, from most allocators */
        uint8_t *again = malloc(n * BYTES);
        assert_non_null(again);
        for (unsigned i = 64; i < n * BYTES; i++) /* but for what the allocator writes there */
            assert_int_not_equal(again[i], 'x');
        free(again);
    }
    assert_null(OPENSSL_realloc(OPENSSL_malloc(1), 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ordinary_memory), /* also: secret memory works without mem_init, called further down */
        cmocka_unit_test(wipe_and_compare),
        cmocka_unit_test(sizes_are_rounded_to_classes),
        cmocka_unit_test(absurd_sizes_are_refused),
        cmocka_unit_test(blocks_do_not_overlap),
        cmocka_unit_test(a_freed_block_is_wiped_whole),
        cmocka_unit_test(free_blocks_are_used_again),
        cmocka_unit_test(large_requests_come_and_go),
        cmocka_unit_test(secrets_are_locked_guarded_and_not_dumped),
        cmocka_unit_test(touching_a_guard_is_fatal),
        cmocka_unit_test(a_large_block_freed_with_a_wrong_size_is_caught),
        cmocka_unit_test(a_child_inherits_no_secrets),
        cmocka_unit_test(init_raises_limits_and_forbids_dumps),
        cmocka_unit_test(a_refused_lock_is_told_and_survived),
        cmocka_unit_test(threads_trade_blocks),
        cmocka_unit_test(ended_threads_leave_nothing_behind),
        cmocka_unit_test(blocks_outlive_their_thread),
        cmocka_unit_test(init_reserves_once),
        cmocka_unit_test(what_openssl_frees_is_wiped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
