/* keyturn: first come, first served; keys apart; a turn that was taken can always be given on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/mem.h"
#include "server/conn_private.h"
#include "server/keyturn.h"

enum { N = 5 };

static struct io *io; /* nobody runs it: its tasks stay where they were posted */
static struct keyturns *turns;
static struct io_task tasks[N];
static struct keyturn waiters[N];

static int set_up(void **state)
{
    (void)state;
    io = mem_zalloc(sizeof *io);
    memset(tasks, 0, sizeof tasks);
    memset(waiters, 0, sizeof waiters);
    for (int i = 0; i < N; i++) {
        waiters[i].io = io;
        waiters[i].task = &tasks[i];
    }
    return !io || keyturns_new(&turns);
}

static int tear_down(void **state)
{
    (void)state;
    keyturns_free(turns);
    mem_free(io);
    return 0;
}

/* The number of the task that was posted since the last call, -1: none. */
static int posted(void)
{
    struct mpsc_node *n = mpsc_take(&io->tasks);
    if (!n)
        return -1;
    assert_null(n->next);
    return (int)(mpsc_entry(n, struct io_task, node) - tasks);
}

static void test_first_come_first_served(void **state)
{
    (void)state;
    assert_int_equal(keyturn_take(turns, &waiters[0], 1, "k"), ERR_OK);
    for (int i = 1; i < N; i++)
        assert_int_equal(keyturn_take(turns, &waiters[i], 1, "k"), ERR_AGAIN);
    assert_int_equal(posted(), -1);
    for (int i = 0; i < N; i++) {
        assert_true(keyturn_has(&waiters[i]));
        keyturn_give(turns, &waiters[i]);
        assert_false(keyturn_has(&waiters[i]));
        assert_int_equal(posted(), i + 1 < N ? i + 1 : -1);
        keyturn_give(turns, &waiters[i]); /* it has none: nothing happens */
        assert_int_equal(posted(), -1);
    }
    assert_int_equal(keyturn_take(turns, &waiters[0], 1, "k"), ERR_OK);
    keyturn_give(turns, &waiters[0]);
}

static void test_keys_apart(void **state)
{
    (void)state;
    assert_int_equal(keyturn_take(turns, &waiters[0], 1, "k"), ERR_OK);
    assert_int_equal(keyturn_take(turns, &waiters[1], 1, "kk"), ERR_OK);
    assert_int_equal(keyturn_take(turns, &waiters[2], 2, "k"), ERR_OK);
    assert_int_equal(keyturn_take(turns, &waiters[3], 2, "k"), ERR_AGAIN);
    keyturn_give(turns, &waiters[0]);
    keyturn_give(turns, &waiters[1]);
    assert_int_equal(posted(), -1);
    keyturn_give(turns, &waiters[2]);
    assert_int_equal(posted(), 3);
    keyturn_give(turns, &waiters[3]);
}

static void test_no_memory(void **state)
{
    enum err e = ERR_OOM;
    int n = 0;
    (void)state;
    while (e == ERR_OOM) {
        fault_arm(FAULT_MEM, ++n, 1);
        e = keyturn_take(turns, &waiters[0], 1, "k");
        fault_disarm(FAULT_MEM);
        assert_true(e == ERR_OK || !keyturn_has(&waiters[0]));
    }
    assert_int_equal(e, ERR_OK);
    assert_true(n > 1);
    keyturn_give(turns, &waiters[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_first_come_first_served, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_memory, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
