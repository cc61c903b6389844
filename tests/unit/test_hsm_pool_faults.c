/* What becomes of requests when workers die, hang, or talk nonsense; how the breaker opens and heals. */
#include "tests/unit/hsm_pool_fixture.h"

/* An operation that may be repeated, and one that may not. */
#define IDEMPOTENT HSM_SIGN
#define ONCE_ONLY HSM_KEY_NEW

static void open_one(void)
{
    config.workers = 1;
    open_all();
}

/* Answers of the fake worker before this one are read, so everything submitted after the gate is still there. */
static void wait_for_gate(struct ask *marker, struct ask *gate)
{
    assert_int_equal(ask(marker, IDEMPOTENT, "marker"), ERR_OK);
    assert_int_equal(ask(gate, IDEMPOTENT, "gate go"), ERR_OK);
    hsm_flush(pool);
    answer_of(marker);
}

/* ---- death ---- */

static void kill_with_100_in_flight(unsigned workers)
{
    enum { N = 100 };
    struct ask a[N], marker, gate;

    config.workers = workers;
    open_all();
    wait_for_gate(&marker, &gate);
    for (int i = 0; i < N; i++)
        assert_int_equal(ask(&a[i], i % 2 ? ONCE_ONLY : IDEMPOTENT, "x"), ERR_OK);
    hsm_flush(pool);
    assert_int_equal(kill((pid_t)marker.pid, SIGKILL), 0);
    put_file("go", "");
    for (int i = 0; i < N; i++) {
        answer_of(&a[i]);
        if (i % 2 && workers == 1) {
            assert_int_equal(a[i].r.result, ERR_HSMDOWN);
            assert_string_not_equal(a[i].r.text, "");
        } else if (i % 2 == 0) {
            assert_int_equal(a[i].r.result, ERR_OK);
            assert_int_not_equal(a[i].pid, marker.pid);
        }
    }
    answer_of(&gate);
    assert_int_equal(gate.r.result, ERR_OK);
    WAIT_FOR(workers_up() == workers);
    assert_int_equal(stats_now().restarts, 1);
    assert_int_equal(stats_now().in_flight, 0);
    ask_fini(a, N);
    ask_fini(&gate, 1);
    ask_fini(&marker, 1);
}

static void test_killed_with_100_in_flight(void **state)
{
    (void)state;
    kill_with_100_in_flight(1);
}

static void test_killed_with_100_in_flight_beside_another(void **state)
{
    (void)state;
    kill_with_100_in_flight(2);
}

/* What a worker has not got whole it cannot have done: that may be repeated whatever it is. */
static void test_unsent_requests_are_never_lost(void **state)
{
    (void)state;
    enum { N = 12 };
    struct ask a[N], marker, gate;
    uint8_t *big = calloc(1, 1 << 20);
    struct bytes part[2] = {{big, 1 << 20}, {big, 40}};
    unsigned ok = 0;

    open_one();
    wait_for_gate(&marker, &gate);
    for (int i = 0; i < N; i++) { /* more than a socket takes */
        ask_init(&a[i], ONCE_ONLY);
        assert_int_equal(hsm_submit(pool, &a[i].r, part, 2), ERR_OK);
        hsm_flush(pool);
    }
    assert_int_equal(kill((pid_t)marker.pid, SIGKILL), 0);
    put_file("go", "");
    for (int i = 0; i < N; i++) {
        answer_of(&a[i]);
        ok += a[i].r.result == ERR_OK;
    }
    assert_int_equal(a[N - 1].r.result, ERR_OK);
    assert_in_range(ok, N / 2, N);
    answer_of(&gate);
    ask_fini(a, N);
    ask_fini(&gate, 1);
    ask_fini(&marker, 1);
    free(big);
}

static void test_an_idle_worker_that_dies_is_replaced(void **state)
{
    (void)state;
    struct ask a;

    open_all();
    kill(start_pid(0), SIGKILL);
    WAIT_FOR(stats_now().restarts == 1 && workers_up() == 2);
    assert_int_equal(hsm_state_now(pool), HSM_STATE_UP);
    WAIT_FOR(is_gone(start_pid(0)));
    assert_int_equal(ask_wait(&a, IDEMPOTENT, "x"), ERR_OK);
}

/* A request that kills any worker: it is tried twice, and last, so that nobody else is hurt. */
static void test_a_poisonous_request_hurts_only_itself(void **state)
{
    (void)state;
    enum { N = 50 };
    struct ask poison, a[N];

    open_one();
    assert_int_equal(ask(&poison, IDEMPOTENT, "crash"), ERR_OK);
    for (int i = 0; i < N; i++)
        assert_int_equal(ask(&a[i], IDEMPOTENT, "x"), ERR_OK);
    hsm_flush(pool);
    for (int i = 0; i < N; i++) {
        answer_of(&a[i]);
        assert_int_equal(a[i].r.result, ERR_OK);
    }
    answer_of(&poison);
    assert_int_equal(poison.r.result, ERR_HSMDOWN);
    assert_int_equal(stats_now().restarts, 2);
    ask_fini(a, N);
    ask_fini(&poison, 1);
}

/* ---- hanging ---- */

static void test_a_hang_is_ended_by_the_deadline(void **state)
{
    (void)state;
    struct ask a[3];

    config.timeout_ms = 300;
    open_one();
    assert_int_equal(ask(&a[0], IDEMPOTENT, "once hung hang"), ERR_OK);
    assert_int_equal(ask(&a[1], ONCE_ONLY, "x"), ERR_OK);
    assert_int_equal(ask(&a[2], IDEMPOTENT, "x"), ERR_OK);
    hsm_flush(pool);
    for (int i = 0; i < 3; i++)
        answer_of(&a[i]);
    assert_int_equal(a[0].r.result, ERR_OK);
    assert_int_equal(a[1].r.result, ERR_HSMDOWN);
    assert_int_equal(a[2].r.result, ERR_OK);
    assert_true(stats_now().timeouts >= 1);
    assert_true(is_gone(start_pid(0)));
    ask_fini(a, 3);
}

static void test_what_hangs_twice_fails(void **state)
{
    (void)state;
    struct ask a;

    config.timeout_ms = 300;
    open_one();
    assert_int_equal(ask_wait(&a, IDEMPOTENT, "hang"), ERR_HSMDOWN);
    assert_int_equal(stats_now().timeouts, 2);
    WAIT_FOR(ask_wait(&a, IDEMPOTENT, "x") == ERR_OK);
}

/* All of them together take longer than the deadline; each answer starts it anew. */
static void test_a_long_queue_is_not_a_hang(void **state)
{
    (void)state;
    enum { N = 90 };
    struct ask a[N];

    config.timeout_ms = 1500;
    open_one();
    for (int i = 0; i < N; i++)
        assert_int_equal(ask(&a[i], ONCE_ONLY, "sleep 20"), ERR_OK);
    hsm_flush(pool);
    for (int i = 0; i < N; i++) {
        answer_of(&a[i]);
        assert_int_equal(a[i].r.result, ERR_OK);
    }
    assert_int_equal(stats_now().timeouts, 0);
    assert_int_equal(stats_now().restarts, 0);
    ask_fini(a, N);
}

/* Slow key generation has thirty times the time of others. */
static void test_the_slow_lane_has_more_time(void **state)
{
    (void)state;
    struct ask a;

    config.timeout_ms = 200;
    open_one();
    assert_int_equal(ask_wait(&a, HSM_KEY_NEW_SLOW, "sleep 900"), ERR_OK);
    assert_int_equal(stats_now().timeouts, 0);
}

/* ---- nonsense ---- */

static void test_nonsense_ends_the_worker(void **state)
{
    (void)state;
    static const char *const commands[] = {"bytes", "long", "parts", "id", "code"};
    struct ask a, before, behind;
    char once[64];

    open_one();
    for (unsigned i = 0; i < sizeof commands / sizeof *commands; i++) {
        snprintf(once, sizeof once, "once did-%s %s", commands[i], commands[i]);
        assert_int_equal(ask(&before, ONCE_ONLY, "x"), ERR_OK);
        assert_int_equal(ask(&a, IDEMPOTENT, once), ERR_OK);
        assert_int_equal(ask(&behind, IDEMPOTENT, "x"), ERR_OK);
        hsm_flush(pool);
        answer_of(&before);
        answer_of(&a);
        answer_of(&behind);
        assert_int_equal(before.r.result, ERR_OK); /* what came before the nonsense counts */
        assert_int_equal(behind.r.result, ERR_OK);
        assert_int_not_equal(behind.pid, before.pid);
        /* An answer with the right id is an answer, however malformed: the request is not repeated. */
        assert_int_equal(a.r.result,
                         strcmp(commands[i], "parts") == 0 || strcmp(commands[i], "code") == 0 ? ERR_HSMDOWN : ERR_OK);
        ask_fini(&a, 1);
        ask_fini(&before, 1);
        ask_fini(&behind, 1);
        WAIT_FOR(workers_up() == 1);
        assert_int_equal(stats_now().restarts, i + 1);
    }
}

/* ---- the breaker ---- */

static void test_the_breaker_opens_and_heals(void **state)
{
    (void)state;
    struct ask a;

    open_all();
    put_file("start", "down");
    kill(start_pid(0), SIGKILL);
    kill(start_pid(1), SIGKILL);
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_DOWN);
    assert_int_equal(ask(&a, IDEMPOTENT, "x"), ERR_HSMDOWN); /* at once */
    assert_string_not_equal(a.r.text, "");
    assert_int_equal(a.done, 0);
    WAIT_FOR(starts() >= 2 + 3); /* it goes on trying */
    assert_int_equal(hsm_state_now(pool), HSM_STATE_DOWN);
    put_file("start", "ok");
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_UP && workers_up() == 2);
    assert_int_equal(ask_wait(&a, IDEMPOTENT, "x"), ERR_OK);
}

/* Requests of a dead worker wait for the next one; when that does not start they fail. */
static void test_parked_requests_fail_with_the_start(void **state)
{
    (void)state;
    struct ask a[10], marker, gate;

    open_one();
    wait_for_gate(&marker, &gate);
    for (int i = 0; i < 10; i++)
        assert_int_equal(ask(&a[i], IDEMPOTENT, "x"), ERR_OK);
    hsm_flush(pool);
    put_file("start", "down");
    kill((pid_t)marker.pid, SIGKILL);
    for (int i = 0; i < 10; i++) {
        answer_of(&a[i]);
        assert_int_equal(a[i].r.result, ERR_HSMDOWN);
    }
    answer_of(&gate);
    ask_fini(a, 10);
    ask_fini(&gate, 1);
    ask_fini(&marker, 1);
}

/* ... and when it takes too long. */
static void test_parked_requests_have_a_deadline(void **state)
{
    (void)state;
    struct ask a, marker, gate;

    config.timeout_ms = 500;
    open_one();
    wait_for_gate(&marker, &gate);
    assert_int_equal(ask(&a, IDEMPOTENT, "x"), ERR_OK);
    hsm_flush(pool);
    put_file("start", "hang");
    kill((pid_t)marker.pid, SIGKILL);
    answer_of(&a);
    assert_int_equal(a.r.result, ERR_HSMDOWN);
    assert_non_null(strstr(a.r.text, "ready in time")); /* its own time, not that of the start */
    answer_of(&gate);
    put_file("start", "ok");
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_UP); /* the hanging start has its own deadline */
    ask_fini(&a, 1);
    ask_fini(&gate, 1);
    ask_fini(&marker, 1);
}

static void test_a_failed_probe_replaces_the_worker(void **state)
{
    (void)state;
    struct ask a;

    open_one();
    put_file("probe", "down");
    WAIT_FOR(stats_now().restarts == 1);
    put_file("probe", "ok");
    WAIT_FOR(ask_wait(&a, IDEMPOTENT, "x") == ERR_OK);
    assert_int_not_equal(a.pid, start_pid(0));
}

/* Device trouble: the answer says ERR_HSMDOWN, then the worker goes. */
static void test_a_worker_that_gives_up_is_replaced(void **state)
{
    (void)state;
    struct ask a[2];
    char down[64];

    snprintf(down, sizeof down, "error %d C_Sign: CKR_DEVICE_ERROR", ERR_HSMDOWN);
    open_one();
    assert_int_equal(ask(&a[0], IDEMPOTENT, down), ERR_OK);
    assert_int_equal(ask(&a[1], IDEMPOTENT, "once gone exit 11"), ERR_OK);
    hsm_flush(pool);
    answer_of(&a[0]);
    answer_of(&a[1]);
    assert_int_equal(a[0].r.result, ERR_HSMDOWN);
    assert_int_equal(a[1].r.result, ERR_OK);
    assert_int_equal(stats_now().restarts, 1);
    ask_fini(a, 2);
}

/* A token that was exchanged holds another realm: no request may get there. */
static void test_another_realm_is_refused(void **state)
{
    (void)state;
    struct ask a;

    open_one();
    put_file("realm", "ffffffffffffffffffffffffffffffff");
    kill(start_pid(0), SIGKILL);
    WAIT_FOR(starts() >= 3);
    assert_int_equal(hsm_state_now(pool), HSM_STATE_DOWN);
    assert_int_equal(ask(&a, IDEMPOTENT, "x"), ERR_HSMDOWN);
    put_file("realm", "00112233445566778899aabbccddeeff");
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_UP);
}

int main(int argc, char **argv)
{
    int code;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_killed_with_100_in_flight, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_killed_with_100_in_flight_beside_another, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unsent_requests_are_never_lost, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_idle_worker_that_dies_is_replaced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_poisonous_request_hurts_only_itself, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_hang_is_ended_by_the_deadline, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_hangs_twice_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_long_queue_is_not_a_hang, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_slow_lane_has_more_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nonsense_ends_the_worker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_breaker_opens_and_heals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_parked_requests_fail_with_the_start, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_parked_requests_have_a_deadline, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_failed_probe_replaces_the_worker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_worker_that_gives_up_is_replaced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_another_realm_is_refused, set_up, tear_down),
    };

    if (as_worker(argc, argv, &code))
        return code;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
