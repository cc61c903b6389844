#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.c" /* for the block, to see that what was handed out is gone from it */
#include "base/fault.h"

static void wall_time_freezes_and_thaws(void **state)
{
    (void)state;
    uint64_t before = clock_wall_ms();
    assert_true(before > 1700000000000u); /* milliseconds, after 2023 */
    assert_true(before < 4102444800000u); /* and before 2100 */
    clock_test_set_wall_ms(12345);
    assert_int_equal(clock_wall_ms(), 12345);
    assert_int_equal(clock_wall_ms(), 12345);
    clock_test_set_wall_ms(0);
    assert_true(clock_wall_ms() >= 1700000000000u);
}

static void monotonic_time_is_microseconds_and_never_goes_back(void **state)
{
    struct timespec t;
    (void)state;
    clock_test_set_wall_ms(1);
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t last = clock_mono_us(), from = (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
    clock_gettime(CLOCK_MONOTONIC, &t);
    assert_true(last >= from && last <= (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000);
    for (int i = 0; i < 10000; i++) {
        uint64_t now = clock_mono_us();
        assert_true(now >= last);
        last = now;
    }
    clock_test_set_wall_ms(0);
}

static int compare16(const void *a, const void *b)
{
    return memcmp(a, b, 16);
}

static void assert_all_differ(uint8_t (*id)[16], size_t count)
{
    qsort(id, count, 16, compare16);
    for (size_t i = 1; i < count; i++)
        assert_memory_not_equal(id[i - 1], id[i], 16);
}

static void identifiers_differ(void **state)
{
    static uint8_t id[2000][16];
    (void)state;
    for (int i = 0; i < 2000; i++)
        assert_int_equal(clock_random(id[i], 16), ERR_OK);
    assert_all_differ(id, 2000);
}

static void what_was_handed_out_is_wiped(void **state)
{
    uint8_t out[100];
    (void)state;
    assert_int_equal(clock_random(out, sizeof out), ERR_OK);
    assert_non_null(block);
    for (int round = 0; round < 200; round++) {
        assert_int_equal(clock_random(out, (size_t)(1 + round % 100)), ERR_OK);
        for (size_t i = block->left; i < sizeof block->bytes; i++)
            assert_int_equal(block->bytes[i], 0);
    }
}

/* Of each byte of the result some bit changes in a few draws: no part is forgotten, whatever the size. */
static void every_byte_is_drawn(void **state)
{
    static const size_t sizes[] = {1, 16, 4087, 4088, 4089, 10000, (1 << 20) + 1};
    (void)state;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t n = sizes[k];
        uint8_t *any = calloc(1, n), *one = malloc(n + 1);
        for (int round = 0; round < 8; round++) {
            one[n] = 0x5A;
            assert_int_equal(clock_random(one, n), ERR_OK);
            assert_int_equal(one[n], 0x5A);
            for (size_t i = 0; i < n; i++)
                any[i] |= one[i];
        }
        for (size_t i = 0; i < n; i++)
            assert_int_not_equal(any[i], 0); /* 2^-64 each */
        free(any);
        free(one);
    }
    assert_int_equal(clock_random(NULL, 0), ERR_OK);
}

static void hex_is_lower_case_and_terminated(void **state)
{
    char out[2 * 600 + 2];
    (void)state;
    for (size_t n = 0; n < 600; n++) {
        memset(out, '!', sizeof out);
        assert_int_equal(clock_random_hex(out, n), ERR_OK);
        assert_int_equal(strlen(out), 2 * n);
        assert_int_equal(strspn(out, "0123456789abcdef"), 2 * n);
        assert_int_equal(out[2 * n + 1], '!');
    }
}

/* The digits are those of the bytes, in their order: freeze the block and compare. */
static void hex_spells_the_bytes(void **state)
{
    uint8_t raw[20];
    char out[41], want[41];
    (void)state;
    assert_int_equal(clock_random(raw, 1), ERR_OK);
    if (block->left < sizeof raw) {
        block->left = 0;
        assert_int_equal(clock_random(raw, 1), ERR_OK);
    }
    memcpy(raw, block->bytes + block->left - sizeof raw, sizeof raw);
    assert_int_equal(clock_random_hex(out, sizeof raw), ERR_OK);
    for (size_t i = 0; i < sizeof raw; i++)
        snprintf(want + 2 * i, 3, "%02x", raw[i]);
    assert_string_equal(out, want);
}

#define THREADS 4
#define EACH 500

static void *draw_ids(void *arg)
{
    uint8_t(*id)[16] = arg;
    for (int i = 0; i < EACH; i++)
        if (clock_random(id[i], 16) != ERR_OK)
            return arg;
    return NULL;
}

static void threads_draw_different_bytes_and_free_their_blocks(void **state)
{
    static uint8_t id[THREADS * EACH][16];
    struct mem_secret_stats before, after;
    pthread_t t[THREADS];
    (void)state;
    mem_secret_stats(&before);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, draw_ids, id + i * EACH), 0);
    for (int i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(t[i], &failed);
        assert_null(failed);
    }
    mem_secret_stats(&after);
    assert_int_equal(before.used_bytes, after.used_bytes);
    assert_all_differ(id, THREADS * EACH);
}

static void a_child_draws_its_own(void **state)
{
    uint8_t mine[32], childs[32] = {0}, first;
    int fd[2], status;
    (void)state;
    assert_int_equal(clock_random(&first, 1), ERR_OK); /* there is a block to inherit */
    assert_int_equal(pipe(fd), 0);
    pid_t pid = fork();
    if (pid == 0) {
        _Exit(clock_random(childs, sizeof childs) != ERR_OK || write(fd[1], childs, sizeof childs) != sizeof childs);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(read(fd[0], childs, sizeof childs), sizeof childs);
    assert_int_equal(clock_random(mine, sizeof mine), ERR_OK);
    assert_memory_not_equal(mine, childs, sizeof mine);
    uint8_t zero[32] = {0};
    assert_memory_not_equal(childs, zero, sizeof zero);
    close(fd[0]);
    close(fd[1]);
}

static void *draw_without_memory(void *arg)
{
    fault_arm(FAULT_MEM, 1, 1);
    enum err e = clock_random(arg, 32);
    fault_disarm(FAULT_MEM);
    return e || !fault_fired(FAULT_MEM) || block ? arg : NULL;
}

/* A new thread has no block yet; when it gets none it does without. */
static void without_memory_it_still_draws(void **state)
{
    uint8_t out[32] = {0}, zero[32] = {0};
    pthread_t t;
    void *failed;
    (void)state;
    assert_int_equal(pthread_create(&t, NULL, draw_without_memory, out), 0);
    pthread_join(t, &failed);
    assert_null(failed);
    assert_memory_not_equal(out, zero, sizeof out);
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations" /* the one way to make RAND_bytes fail */

static int refuse(unsigned char *out, int n)
{
    memset(out, 0xEE, (size_t)n); /* half done: must not be taken for random */
    return 0;
}

static void a_generator_that_fails_is_an_error_and_gives_zeroes(void **state)
{
    static const RAND_METHOD broken = {.bytes = refuse};
    static const size_t sizes[] = {16, 100000};
    const RAND_METHOD *good = RAND_get_rand_method();
    static uint8_t out[100000];
    char hex[33] = "x";
    (void)state;
    RAND_set_rand_method(&broken);
    for (size_t k = 0; k < 2; k++) {
        block_here()->left = k ? 0 : 5; /* too few: 5 bytes are not to survive in a block half drawn */
        memset(out, 1, sizeof out);
        assert_int_equal(clock_random(out, sizes[k]), ERR_INTERNAL);
        for (size_t i = 0; i < sizes[k]; i++)
            assert_int_equal(out[i], 0);
        assert_int_equal(block->left, 0);
    }
    assert_int_equal(clock_random_hex(hex, 16), ERR_INTERNAL);
    assert_string_equal(hex, "");
    RAND_set_rand_method(good);
    assert_int_equal(clock_random_hex(hex, 16), ERR_OK);
    assert_int_equal(strlen(hex), 32);
}

#pragma GCC diagnostic pop

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wall_time_freezes_and_thaws),
        cmocka_unit_test(monotonic_time_is_microseconds_and_never_goes_back),
        cmocka_unit_test(identifiers_differ),
        cmocka_unit_test(what_was_handed_out_is_wiped),
        cmocka_unit_test(every_byte_is_drawn),
        cmocka_unit_test(hex_is_lower_case_and_terminated),
        cmocka_unit_test(hex_spells_the_bytes),
        cmocka_unit_test(threads_draw_different_bytes_and_free_their_blocks),
        cmocka_unit_test(a_child_draws_its_own),
        cmocka_unit_test(without_memory_it_still_draws),
        cmocka_unit_test(a_generator_that_fails_is_an_error_and_gives_zeroes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
