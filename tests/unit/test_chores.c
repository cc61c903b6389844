/* Chores: in order, all of them, and ended early when asked. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/mpsc.h"
#include "server/chores.h"

struct job {
    struct chore chore;
    unsigned number;
};

static _Atomic unsigned done;
static unsigned order[1000];

static void note(struct chore *c)
{
    struct job *j = mpsc_entry(c, struct job, chore);
    order[atomic_fetch_add(&done, 1)] = j->number;
}

static void post(struct chores *cs, struct job *jobs, unsigned n)
{
    done = 0;
    for (unsigned i = 0; i < n; i++) {
        jobs[i] = (struct job){{.run = note}, i};
        chores_post(cs, &jobs[i].chore);
    }
}

static void test_one_thread_keeps_the_order(void **state)
{
    static struct job jobs[1000];
    struct chores *cs;
    (void)state;
    assert_int_equal(chores_new(&cs, 1), ERR_OK);
    post(cs, jobs, 1000);
    chores_free(cs); /* not before all have run */
    assert_int_equal(done, 1000);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(order[i], i);
}

/* Two that wait for each other: only side by side do they end. */
static pthread_barrier_t both;

static void meet(struct chore *c)
{
    (void)c;
    pthread_barrier_wait(&both);
    atomic_fetch_add(&done, 1);
}

static void test_threads_work_side_by_side(void **state)
{
    struct job jobs[2] = {{{.run = meet}, 0}, {{.run = meet}, 1}};
    struct chores *cs;
    (void)state;
    done = 0;
    pthread_barrier_init(&both, NULL, 2);
    assert_int_equal(chores_new(&cs, 2), ERR_OK);
    chores_post(cs, &jobs[0].chore);
    chores_post(cs, &jobs[1].chore);
    chores_free(cs);
    assert_int_equal(done, 2);
    pthread_barrier_destroy(&both);
}

/* A long one that goes on until it is asked to end. */
static struct chores *theirs;

static void long_one(struct chore *c)
{
    (void)c;
    while (!chores_stopping(theirs)) {
    }
    atomic_fetch_add(&done, 1);
}

static void test_a_long_one_ends_early(void **state)
{
    struct job job = {{.run = long_one}, 0};
    (void)state;
    done = 0;
    assert_int_equal(chores_new(&theirs, 1), ERR_OK);
    assert_false(chores_stopping(theirs));
    chores_post(theirs, &job.chore);
    chores_free(theirs);
    assert_int_equal(done, 1);
}

static void test_failures(void **state)
{
    struct chores *cs;
    (void)state;
    assert_int_equal(chores_new(&cs, 0), ERR_OOM); /* no thread: nothing would ever run */
    assert_null(cs);
    fault_arm(FAULT_MEM, 1, 1);
    assert_int_equal(chores_new(&cs, 1), ERR_OOM);
    fault_disarm(FAULT_MEM);
    assert_null(cs);
    chores_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_thread_keeps_the_order),
        cmocka_unit_test(test_threads_work_side_by_side),
        cmocka_unit_test(test_a_long_one_ends_early),
        cmocka_unit_test(test_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
