#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/mem.h"

static void disarmed_it_lets_everything_pass(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++)
        assert_int_equal(fault_hit(FAULT_FILE), 0);
}

static void only_the_nth_call_is_hit(void **state)
{
    (void)state;
    fault_arm(FAULT_FILE, 3, EIO);
    assert_int_equal(fault_hit(FAULT_FILE), 0);
    assert_int_equal(fault_hit(FAULT_FILE), 0);
    assert_int_equal(fault_fired(FAULT_FILE), 0);
    assert_int_equal(fault_hit(FAULT_FILE), EIO);
    assert_int_equal(fault_fired(FAULT_FILE), 1);
    assert_int_equal(fault_hit(FAULT_FILE), 0);
    assert_int_equal(fault_fired(FAULT_FILE), 1);
    fault_arm(FAULT_FILE, 1, EIO);
    assert_int_equal(fault_fired(FAULT_FILE), 0); /* since this arming */
}

static void kinds_count_apart(void **state)
{
    (void)state;
    fault_arm(FAULT_FILE, 1, ENOSPC);
    assert_int_equal(fault_hit(FAULT_MEM), 0);
    assert_int_equal(fault_hit(FAULT_FILE), ENOSPC);
    assert_int_equal(fault_fired(FAULT_MEM), 0);
}

static void disarming_stops_the_countdown(void **state)
{
    (void)state;
    fault_arm(FAULT_MEM, 1, 1);
    fault_disarm(FAULT_MEM);
    assert_int_equal(fault_hit(FAULT_MEM), 0);
    assert_int_equal(fault_fired(FAULT_MEM), 0);
}

static void each_kind_of_allocation_counts(void **state)
{
    (void)state;
    void *old = mem_alloc(1);
    assert_non_null(old);
    fault_arm(FAULT_MEM, 1, 1);
    assert_null(mem_alloc(1));
    fault_arm(FAULT_MEM, 1, 1);
    assert_null(mem_zalloc(1));
    fault_arm(FAULT_MEM, 1, 1);
    assert_null(mem_realloc(old, 2));
    fault_arm(FAULT_MEM, 1, 1);
    assert_null(mem_secret_alloc(1));
    fault_arm(FAULT_MEM, 1, 1);
    assert_null(mem_secret_alloc(1 << 20));
    mem_free(old);
}

#define THREADS 4
#define CALLS 5000

static atomic_int hits;

static void *count(void *arg)
{
    for (int i = 0; i < CALLS; i++)
        if (fault_hit(FAULT_FILE))
            hits++;
    return arg;
}

static void of_many_threads_one_is_hit(void **state)
{
    (void)state;
    pthread_t t[THREADS];
    fault_arm(FAULT_FILE, (long)THREADS * CALLS / 2, EIO);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, count, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(hits, 1);
    assert_int_equal(fault_countdown[FAULT_FILE], 0);
}

static void text_arms(void **state)
{
    (void)state;
    assert_int_equal(fault_arm_text("file:2:ENOSPC"), ERR_OK);
    assert_int_equal(fault_hit(FAULT_FILE), 0);
    assert_int_equal(fault_hit(FAULT_FILE), ENOSPC);
    assert_int_equal(fault_arm_text("file:1:DIE"), ERR_OK);
    fault_disarm(FAULT_FILE);
    assert_int_equal(fault_arm_text("file:1"), ERR_OK);
    assert_int_equal(fault_hit(FAULT_FILE), EIO);
    assert_int_equal(fault_arm_text("mem:1"), ERR_OK);
    assert_null(mem_alloc(1));
}

static void bad_text_arms_nothing(void **state)
{
    static const char *const bad[] = {
        "",         "file",        "file:",
        "file:x",   "file:0",      "file:-1",
        "disk:1",   "file:1:",     "file:1:EBAD_NAME",
        "file:1x",  "file:1:EIO:", "file:99999999999999999999",
        "mem:1EIO", "mem 1",
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(fault_arm_text(bad[i]), ERR_SYNTAX);
        assert_int_equal(fault_countdown[FAULT_FILE], 0);
        assert_int_equal(fault_countdown[FAULT_MEM], 0);
    }
}

static int disarm(void **state)
{
    (void)state;
    fault_arm(FAULT_FILE, 1, 1); /* clears what the test before left: fired */
    fault_disarm(FAULT_FILE);
    fault_arm(FAULT_MEM, 1, 1);
    fault_disarm(FAULT_MEM);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(disarmed_it_lets_everything_pass, disarm, disarm),
        cmocka_unit_test_setup_teardown(only_the_nth_call_is_hit, disarm, disarm),
        cmocka_unit_test_setup_teardown(kinds_count_apart, disarm, disarm),
        cmocka_unit_test_setup_teardown(disarming_stops_the_countdown, disarm, disarm),
        cmocka_unit_test_setup_teardown(each_kind_of_allocation_counts, disarm, disarm),
        cmocka_unit_test_setup_teardown(of_many_threads_one_is_hit, disarm, disarm),
        cmocka_unit_test_setup_teardown(text_arms, disarm, disarm),
        cmocka_unit_test_setup_teardown(bad_text_arms_nothing, disarm, disarm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
