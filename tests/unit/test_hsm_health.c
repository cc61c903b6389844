/* The breaker and back-off of the HSM's workers, with a clock that the test sets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "hsm/health.h"

#define SLOTS 4 /* three general ones and the lazy one */
#define LAZY 3
#define SECOND UINT64_C(1000000)

static struct health h;
static uint64_t now;

static int fresh(void **state)
{
    (void)state;
    now = 5 * SECOND;
    health_init(&h, SLOTS, 42);
    return 0;
}

static void step(enum health_event ev, unsigned slot)
{
    health_step(&h, ev, slot, now);
}

/* The slot that may start now, or -1. */
static int start_now(void)
{
    unsigned slot;
    return health_start(&h, now, &slot) ? (int)slot : -1;
}

/* Goes to the next due time and starts. */
static int start_next(void)
{
    uint64_t due = health_due_us(&h);
    assert_true(due != HEALTH_NEVER);
    if (due > now)
        now = due;
    return start_now();
}

static void all_up(void)
{
    step(HEALTH_UNSEAL, 0);
    for (int i = 0; i < SLOTS - 1; i++)
        step(HEALTH_READY, (unsigned)start_now());
}

static void test_sealed_starts_nothing(void **state)
{
    (void)state;
    assert_int_equal(health_state(&h), HSM_STATE_SEALED);
    assert_true(health_due_us(&h) == HEALTH_NEVER);
    step(HEALTH_WANT, LAZY);
    step(HEALTH_READY, 0);
    assert_int_equal(h.slot[0].up, 0);
    now += 3600 * SECOND;
    assert_int_equal(start_now(), -1);
    assert_int_equal(health_state(&h), HSM_STATE_SEALED);
}

static void test_one_log_in_at_a_time(void **state)
{
    (void)state;
    step(HEALTH_UNSEAL, 0);
    assert_int_equal(health_state(&h), HSM_STATE_STARTING);
    assert_int_equal(start_now(), 0);
    assert_int_equal(start_now(), -1);
    assert_true(health_due_us(&h) == HEALTH_NEVER);
    step(HEALTH_READY, 0);
    assert_int_equal(health_state(&h), HSM_STATE_UP);
    assert_int_equal(start_now(), 1);
    assert_int_equal(start_now(), -1);
    step(HEALTH_READY, 1);
    assert_int_equal(start_now(), 2);
    step(HEALTH_READY, 2);
    assert_int_equal(start_now(), -1); /* the lazy one is not asked for */
    assert_true(health_due_us(&h) == HEALTH_NEVER);
}

static void test_wrong_pin_costs_one_try(void **state)
{
    (void)state;
    step(HEALTH_UNSEAL, 0);
    assert_int_equal(start_now(), 0);
    step(HEALTH_FAILED, 0);
    step(HEALTH_STOP, 0);
    assert_int_equal(health_state(&h), HSM_STATE_FAILED);
    now += 3600 * SECOND;
    assert_int_equal(start_now(), -1);
    assert_true(health_due_us(&h) == HEALTH_NEVER);
    step(HEALTH_UNSEAL, 0);
    assert_int_equal(health_state(&h), HSM_STATE_STARTING);
    assert_int_equal(start_now(), 0);
}

static void test_backoff_doubles_to_its_limit(void **state)
{
    (void)state;
    uint64_t nominal = HEALTH_BACKOFF_MIN_US;

    step(HEALTH_UNSEAL, 0);
    for (int i = 0; i < 40; i++) {
        uint64_t wait, least = nominal / 100 * 80, most = nominal / 100 * 120;
        int slot = start_next();
        assert_in_range(slot, 0, SLOTS - 2);
        step(HEALTH_FAILED, (unsigned)slot);
        assert_int_equal(health_state(&h), HSM_STATE_DOWN);
        wait = health_due_us(&h) - now; /* of the whole pool, not of the slot that has just failed */
        assert_in_range(wait, least < HEALTH_BACKOFF_MAX_US / 100 * 80 ? least : HEALTH_BACKOFF_MAX_US / 100 * 80,
                        most < HEALTH_BACKOFF_MAX_US ? most : HEALTH_BACKOFF_MAX_US);
        now += wait - 1;
        assert_int_equal(start_now(), -1);
        nominal *= i < 20 ? 2 : 1;
    }
}

static void test_jitter_differs(void **state)
{
    (void)state;
    uint64_t first = 0;
    int differs = 0;

    for (uint64_t seed = 1; seed < 20; seed++) {
        health_init(&h, SLOTS, seed * 2);
        step(HEALTH_UNSEAL, 0);
        step(HEALTH_FAILED, (unsigned)start_now());
        differs |= first != 0 && health_due_us(&h) != first;
        first = health_due_us(&h);
    }
    assert_true(differs);
}

static void test_half_open_success_lets_all_start(void **state)
{
    (void)state;
    step(HEALTH_UNSEAL, 0);
    for (int i = 0; i < 9; i++)
        step(HEALTH_FAILED, (unsigned)start_next());
    int probe = start_next();
    assert_int_equal(start_now(), -1);
    step(HEALTH_READY, (unsigned)probe);
    assert_int_equal(health_state(&h), HSM_STATE_UP);
    for (int i = 0; i < SLOTS - 2; i++) { /* at once */
        int slot = start_now();
        assert_int_not_equal(slot, -1);
        step(HEALTH_READY, (unsigned)slot);
    }
    assert_int_equal(start_now(), -1);
}

/* A slot that had to wait for long on its own account, too: its failures were the device's. */
static void test_half_open_success_ends_all_waits(void **state)
{
    (void)state;
    all_up();
    step(HEALTH_LOST, 1);
    for (int i = 0; i < 9; i++) {
        assert_int_equal(start_next(), 1);
        step(HEALTH_FAILED, 1);
    }
    step(HEALTH_LOST, 0);
    step(HEALTH_LOST, 2);
    int probe = start_next();
    assert_int_not_equal(probe, 1);
    step(HEALTH_READY, (unsigned)probe);
    step(HEALTH_READY, (unsigned)start_now());
    step(HEALTH_READY, (unsigned)start_now());
    assert_int_equal(h.slot[1].up, 1);
}

static void test_lost_worker_waits_alone(void **state)
{
    (void)state;
    all_up();
    step(HEALTH_LOST, 1);
    assert_int_equal(health_state(&h), HSM_STATE_UP);
    assert_int_equal(start_now(), -1);
    assert_int_equal(start_next(), 1);
    step(HEALTH_FAILED, 1);
    step(HEALTH_LOST, 2);
    uint64_t before = now;
    assert_int_equal(start_next(), 2); /* its first failure, so before slot 1 */
    step(HEALTH_READY, 2);
    assert_int_equal(start_next(), 1);
    assert_true(now > before);
    assert_int_equal(health_state(&h), HSM_STATE_UP);
}

static void test_breaker_opens_with_the_last_and_heals(void **state)
{
    (void)state;
    all_up();
    for (unsigned i = 0; i < SLOTS - 1; i++) {
        assert_int_equal(health_state(&h), HSM_STATE_UP);
        step(HEALTH_LOST, i);
    }
    assert_int_equal(health_state(&h), HSM_STATE_DOWN);
    int slot = start_next();
    assert_int_equal(health_state(&h), HSM_STATE_DOWN); /* half open */
    step(HEALTH_READY, (unsigned)slot);
    assert_int_equal(health_state(&h), HSM_STATE_UP);
}

/* A worker that dies as soon as it is up: waits grow, until one has lasted. */
static void test_crash_loop_slows_down(void **state)
{
    (void)state;
    uint64_t wait = 0;

    all_up();
    for (int i = 0; i < 12; i++) {
        step(HEALTH_LOST, 0);
        wait = health_due_us(&h) - now;
        assert_int_equal(start_next(), 0);
        step(HEALTH_READY, 0);
    }
    assert_true(wait >= HEALTH_BACKOFF_MAX_US / 100 * 80);
    now += HEALTH_STABLE_US;
    step(HEALTH_LOST, 0);
    assert_in_range(health_due_us(&h) - now, HEALTH_BACKOFF_MIN_US / 100 * 80, HEALTH_BACKOFF_MIN_US / 100 * 120);
}

static void test_stop_leaves_what_is_up(void **state)
{
    (void)state;
    all_up();
    step(HEALTH_LOST, 0);
    assert_int_equal(start_next(), 0);
    step(HEALTH_FAILED, 0);
    step(HEALTH_STOP, 0); /* the PIN was changed in the HSM, say */
    assert_int_equal(health_state(&h), HSM_STATE_UP);
    now += 3600 * SECOND;
    assert_int_equal(start_now(), -1);
    step(HEALTH_LOST, 1);
    assert_int_equal(health_state(&h), HSM_STATE_UP);
    step(HEALTH_LOST, 2);
    assert_int_equal(health_state(&h), HSM_STATE_FAILED);
    now += 3600 * SECOND;
    assert_int_equal(start_now(), -1);
}

static void test_seal_forgets_everything(void **state)
{
    (void)state;
    all_up();
    step(HEALTH_LOST, 0);
    step(HEALTH_STOP, 0);
    step(HEALTH_SEAL, 0);
    assert_int_equal(health_state(&h), HSM_STATE_SEALED);
    step(HEALTH_LOST, 1); /* the ended workers' last words */
    step(HEALTH_FAILED, 0);
    assert_int_equal(health_state(&h), HSM_STATE_SEALED);
    now += 3600 * SECOND;
    assert_int_equal(start_now(), -1);
    step(HEALTH_UNSEAL, 0);
    assert_int_equal(health_state(&h), HSM_STATE_STARTING);
    assert_int_equal(start_now(), 0);
}

static void test_lazy_slot_starts_on_demand(void **state)
{
    (void)state;
    step(HEALTH_UNSEAL, 0);
    step(HEALTH_WANT, LAZY);
    assert_int_equal(start_now(), 0); /* not before a general one: it would be a second log-in */
    step(HEALTH_FAILED, 0);
    for (int i = 0; i < 5; i++) {
        int slot = start_next();
        assert_int_not_equal(slot, LAZY);
        step(HEALTH_FAILED, (unsigned)slot);
    }
    step(HEALTH_READY, (unsigned)start_next());
    int seen = 0;
    for (int slot; (slot = start_now()) >= 0;) {
        seen |= 1 << slot;
        step(HEALTH_READY, (unsigned)slot);
    }
    assert_true(seen & 1 << LAZY);
    step(HEALTH_LOST, LAZY);
    assert_int_equal(health_state(&h), HSM_STATE_UP);
    assert_true(health_due_us(&h) == HEALTH_NEVER); /* until it is wanted */
    step(HEALTH_WANT, LAZY);
    assert_true(health_due_us(&h) > now); /* but not sooner than its back-off says */
    assert_int_equal(start_next(), LAZY);
    step(HEALTH_FAILED, LAZY);
    assert_true(health_due_us(&h) == HEALTH_NEVER);
}

static void test_lazy_slot_does_not_count_as_up(void **state)
{
    (void)state;
    all_up();
    step(HEALTH_WANT, LAZY);
    step(HEALTH_READY, (unsigned)start_now());
    for (unsigned i = 0; i < SLOTS - 1; i++)
        step(HEALTH_LOST, i);
    assert_int_equal(health_state(&h), HSM_STATE_DOWN);
}

static void test_successor(void **state)
{
    (void)state;
    all_up();
    step(HEALTH_WANT, 1);
    step(HEALTH_WANT, 1);
    assert_int_equal(start_now(), 1);
    step(HEALTH_WANT, 1);
    step(HEALTH_FAILED, 1);
    assert_int_equal(health_state(&h), HSM_STATE_UP);
    assert_int_equal(h.slot[1].up, 1);
    assert_true(health_due_us(&h) > now);
    assert_int_equal(start_next(), 1); /* tried again, after a while */
    step(HEALTH_LOST, 1);              /* the old one did not wait for it */
    assert_int_equal(h.slot[1].start, HEALTH_STARTING);
    step(HEALTH_READY, 1);
    assert_int_equal(h.slot[1].up, 1);
    assert_true(health_due_us(&h) == HEALTH_NEVER);
}

/* Random events in any order that a pool could give them; what must always hold is looked at after each. */
static void check_invariants(int sealed, int stopped)
{
    int starting = 0, up = 0;
    enum hsm_state s = health_state(&h);

    for (unsigned i = 0; i < h.slots; i++) {
        starting += h.slot[i].start == HEALTH_STARTING;
        up += h.slot[i].up && i != LAZY;
    }
    assert_in_range(starting, 0, 1);
    assert_int_equal(s == HSM_STATE_SEALED, sealed);
    if (!sealed)
        assert_int_equal(s == HSM_STATE_UP, up > 0);
    if (!sealed && !up)
        assert_int_equal(s == HSM_STATE_FAILED, stopped);
    if (sealed || stopped || starting)
        assert_true(health_due_us(&h) == HEALTH_NEVER);
    else if (up < SLOTS - 1) /* who is missing is on the way back, within the longest wait */
        assert_true(health_due_us(&h) <= now + HEALTH_BACKOFF_MAX_US);
}

static void test_random_walk(void **state)
{
    (void)state;
    uint64_t r = 88172645463325252u;
    int sealed = 1, stopped = 0;

    for (int i = 0; i < 200000; i++) {
        r ^= r << 13, r ^= r >> 7, r ^= r << 17;
        unsigned slot = (unsigned)(r >> 8) % SLOTS, dice = (unsigned)(r >> 20) % 100;
        struct health_slot *s = &h.slot[slot];
        now += (r >> 32) % (2 * SECOND);
        if (dice < 1) {
            step(HEALTH_SEAL, 0);
            sealed = 1, stopped = 0;
        } else if (dice < 3) {
            step(HEALTH_UNSEAL, 0);
            sealed = stopped = 0;
        } else if (dice < 4 && !sealed) {
            step(HEALTH_STOP, 0);
            stopped = 1;
        } else if (dice < 20) {
            step(HEALTH_WANT, slot);
        } else if (s->start == HEALTH_STARTING) {
            step(dice % 2 ? HEALTH_READY : HEALTH_FAILED, slot);
        } else if (s->up && dice < 60) {
            step(HEALTH_LOST, slot);
        } else {
            uint64_t due = health_due_us(&h);
            int got = start_now();
            assert_int_equal(got >= 0, due <= now);
        }
        check_invariants(sealed, stopped);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_sealed_starts_nothing, fresh),
        cmocka_unit_test_setup(test_one_log_in_at_a_time, fresh),
        cmocka_unit_test_setup(test_wrong_pin_costs_one_try, fresh),
        cmocka_unit_test_setup(test_backoff_doubles_to_its_limit, fresh),
        cmocka_unit_test_setup(test_jitter_differs, fresh),
        cmocka_unit_test_setup(test_half_open_success_lets_all_start, fresh),
        cmocka_unit_test_setup(test_half_open_success_ends_all_waits, fresh),
        cmocka_unit_test_setup(test_lost_worker_waits_alone, fresh),
        cmocka_unit_test_setup(test_breaker_opens_with_the_last_and_heals, fresh),
        cmocka_unit_test_setup(test_crash_loop_slows_down, fresh),
        cmocka_unit_test_setup(test_stop_leaves_what_is_up, fresh),
        cmocka_unit_test_setup(test_seal_forgets_everything, fresh),
        cmocka_unit_test_setup(test_lazy_slot_starts_on_demand, fresh),
        cmocka_unit_test_setup(test_lazy_slot_does_not_count_as_up, fresh),
        cmocka_unit_test_setup(test_successor, fresh),
        cmocka_unit_test_setup(test_random_walk, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
