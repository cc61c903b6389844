/* Requests through the pool: routing, order, limits, and what becomes of them when workers die, hang, or talk nonsense.
 */
#include "tests/unit/hsm_pool_fixture.h"

#include "hsm/pool_queue.h"

/* ---- answers ---- */

static void test_parts_come_back(void **state)
{
    (void)state;
    struct ask a;

    open_all();
    for (unsigned op = HSM_RANDOM; op < HSM_OPS; op++) {
        char want[64];
        assert_int_equal(ask(&a, (enum hsm_op)op, "hello"), ERR_OK);
        hsm_flush(pool);
        answer_of(&a);
        assert_int_equal(a.r.result, ERR_OK);
        assert_int_equal(a.r.parts, hsm_ops[op].parts_out);
        snprintf(want, sizeof want, "%ld hello", a.pid);
        for (unsigned i = 0; i < a.r.parts; i++)
            assert_true(bytes_equal(a.r.part[i], bytes_str(want)));
        assert_true(a.r.out.secret);
        hsm_req_fini(&a.r);
    }
    struct hsm_stats s = stats_now();
    assert_int_equal(s.requests, HSM_OPS - HSM_RANDOM);
    assert_int_equal(s.errors, 0);
    assert_int_equal(s.in_flight, 0);
    assert_true(s.latency_us_p50 > 0 && s.latency_us_p50 <= s.latency_us_p99);
}

static void test_large_and_empty_parts(void **state)
{
    (void)state;
    struct ask a;
    size_t n = (size_t)3 << 20;
    uint8_t *big = malloc(n);
    struct bytes part[3] = {{NULL, 0}, {NULL, 0}, {big, n}};

    open_all();
    memset(big, 'b', n);
    ask_init(&a, HSM_MAC);
    assert_int_equal(hsm_submit(pool, &a.r, part, 3), ERR_OK);
    hsm_flush(pool);
    answer_of(&a);
    assert_int_equal(a.r.result, ERR_OK);
    assert_in_range(a.r.part[0].n, n + 2, n + 32);
    assert_memory_equal(a.r.part[0].p + a.r.part[0].n - n, big, n);
    hsm_req_fini(&a.r);

    part[2] = bytes_of(NULL, 0);
    ask_init(&a, HSM_MAC);
    assert_int_equal(hsm_submit(pool, &a.r, part, 3), ERR_OK);
    hsm_flush(pool);
    answer_of(&a);
    assert_int_equal(a.r.result, ERR_OK);
    hsm_req_fini(&a.r);

    assert_int_equal(ask_wait(&a, HSM_MAC, "length 3000000"), ERR_OK);
    free(big);
}

static void test_too_big_is_refused_at_once(void **state)
{
    (void)state;
    struct ask a;
    uint8_t *big = calloc(1, HSM_FRAME_MAX);
    struct bytes part[3] = {{big, HSM_FRAME_MAX / 2}, {big, 40}, {big, HSM_FRAME_MAX / 2}};

    open_all();
    ask_init(&a, HSM_MAC);
    assert_int_equal(hsm_submit(pool, &a.r, part, 3), ERR_TOOBIG);
    part[0].n = (size_t)HSM_FRAME_MAX * 2;
    assert_int_equal(hsm_submit(pool, &a.r, part, 3), ERR_TOOBIG);
    assert_int_equal(a.done, 0);
    assert_int_equal(stats_now().in_flight, 0);
    assert_int_equal(ask_wait(&a, HSM_MAC, "still there"), ERR_OK);
    free(big);
}

static void test_errors_and_their_texts(void **state)
{
    (void)state;
    struct ask a;
    char command[64];

    open_all();
    for (int e = 1; e < ERR_COUNT_; e++) {
        snprintf(command, sizeof command, "error %d C_Decrypt: CKR\x01_X", e);
        assert_int_equal(ask_wait(&a, HSM_DECRYPT, command), e);
        assert_string_equal(a.r.text, "C_Decrypt: CKR?_X");
        assert_int_equal(a.r.parts, 0);
    }
    assert_int_equal(stats_now().errors, ERR_COUNT_ - 1);
    assert_int_equal(stats_now().restarts, 0);
}

static void test_one_worker_keeps_the_order(void **state)
{
    (void)state;
    enum { N = 5000 };
    static struct ask a[N];

    config.workers = 1;
    open_all();
    unsigned first = atomic_load(&answers);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(ask(&a[i], HSM_SIGN, i == 0 ? "gate go" : "x"), ERR_OK);
        if (i % 100 == 99)
            hsm_flush(pool);
    }
    put_file("go", "");
    for (unsigned i = 0; i < N; i++) {
        answer_of(&a[i]);
        assert_int_equal(a[i].r.result, ERR_OK);
        assert_int_equal(a[i].order - first, i);
    }
    ask_fini(a, N);
}

/* ---- routing ---- */

/* A key that is made is used by the same worker: its header begins the masked object. */
static void test_a_key_has_one_worker(void **state)
{
    (void)state;
    enum { KEYS = 64 };
    struct ask a;
    int on[2] = {0, 0};

    open_all();
    for (int k = 0; k < KEYS; k++) {
        char header[MASKED_KEY_HEADER + 1], masked[100];
        long pid;
        snprintf(header, sizeof header, "header of key %22d", k);
        assert_int_equal(strlen(header), MASKED_KEY_HEADER);
        snprintf(masked, sizeof masked, "%s and what was wrapped", header);
        assert_int_equal(ask_key(&a, HSM_ENCRYPT, masked, "x"), ERR_OK);
        hsm_flush(pool);
        answer_of(&a);
        pid = a.pid;
        ask_fini(&a, 1);
        assert_int_equal(ask_key(&a, HSM_SIGN, header, "x"), ERR_OK);
        hsm_flush(pool);
        answer_of(&a);
        assert_int_equal(a.pid, pid);
        ask_fini(&a, 1);
        on[pid == start_pid(0)]++;
    }
    assert_in_range(on[0], KEYS / 8, KEYS); /* both have work */
    assert_in_range(on[1], KEYS / 8, KEYS);
}

static void test_any_goes_to_the_least_busy(void **state)
{
    (void)state;
    struct ask busy, a;

    open_all();
    assert_int_equal(ask(&busy, HSM_SIGN, "gate go"), ERR_OK);
    hsm_flush(pool);
    long other = 0;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(ask_wait(&a, HSM_RANDOM, "x"), ERR_OK);
        assert_true(other == 0 || a.pid == other);
        other = a.pid;
    }
    put_file("go", "");
    answer_of(&busy);
    assert_int_not_equal(busy.pid, other);
    ask_fini(&busy, 1);
}

static void test_slow_lane_has_its_own_worker(void **state)
{
    (void)state;
    struct ask slow[2], a;

    config.workers = 1;
    open_all();
    assert_int_equal(starts(), 1);
    assert_int_equal(ask(&slow[0], HSM_KEY_NEW_SLOW, "gate go"), ERR_OK);
    assert_int_equal(ask(&slow[1], HSM_KEY_NEW_SLOW, "x"), ERR_OK);
    hsm_flush(pool);
    WAIT_FOR(starts() == 2);
    assert_int_equal(ask_wait(&a, HSM_KEY_NEW, "x"), ERR_OK);
    assert_int_equal(slow[0].done, 0);
    put_file("go", "");
    answer_of(&slow[0]);
    answer_of(&slow[1]);
    assert_int_equal(slow[0].r.result, ERR_OK);
    assert_int_equal(slow[0].pid, slow[1].pid);
    assert_int_not_equal(slow[0].pid, a.pid);
    assert_int_equal(starts(), 2);
    ask_fini(slow, 2);
}

static void test_slow_lane_that_does_not_start(void **state)
{
    (void)state;
    struct ask a;

    open_all();
    put_file("start", "down");
    assert_int_equal(ask_wait(&a, HSM_KEY_NEW_SLOW, "x"), ERR_HSMDOWN);
    assert_int_equal(hsm_state_now(pool), HSM_STATE_UP);
    put_file("start", "ok");
    WAIT_FOR(ask_wait(&a, HSM_KEY_NEW_SLOW, "x") == ERR_OK);
}

static void test_a_full_queue_throttles(void **state)
{
    (void)state;
    static struct ask a[POOL_QUEUE_MAX + 1];
    unsigned n = 0;
    enum err e = ERR_OK;

    config.workers = 1;
    open_all();
    for (; n <= POOL_QUEUE_MAX; n++) {
        e = ask(&a[n], HSM_SIGN, n ? "x" : "gate go");
        if (e != ERR_OK)
            break;
    }
    assert_int_equal(e, ERR_THROTTLED);
    assert_string_not_equal(a[n].r.text, "");
    assert_int_equal(a[n].done, 0);
    assert_true(n > POOL_QUEUE_MAX - 8); /* the pool's own requests count */
    hsm_flush(pool);
    put_file("go", "");
    for (unsigned i = 0; i < n; i++) {
        answer_of(&a[i]);
        assert_int_equal(a[i].r.result, ERR_OK);
    }
    ask_fini(a, n);
    assert_int_equal(ask_wait(&a[0], HSM_SIGN, "x"), ERR_OK);
}

static void test_a_queue_full_of_bytes_throttles(void **state)
{
    (void)state;
    enum { N = POOL_QUEUE_BYTES / (1 << 20) + 1 };
    static struct ask a[N + 1];
    uint8_t *big = calloc(1, 1 << 20);
    struct bytes part[4] = {{big, 1}, {big, 1}, {big, 1}, {big, 1 << 20}};
    unsigned n = 0;
    enum err e = ERR_OK;

    config.workers = 1;
    open_all();
    assert_int_equal(ask(&a[N], HSM_SIGN, "gate go"), ERR_OK);
    for (; n < N && e == ERR_OK; n++) {
        ask_init(&a[n], HSM_SIGN);
        e = hsm_submit(pool, &a[n].r, part, 4);
        hsm_flush(pool);
    }
    assert_int_equal(e, ERR_THROTTLED);
    assert_in_range(n, 2, N);
    put_file("go", "");
    answer_of(&a[N]);
    for (unsigned i = 0; i + 1 < n; i++) {
        answer_of(&a[i]);
        assert_int_equal(a[i].r.result, ERR_OK);
    }
    ask_fini(a, N + 1);
    free(big);
}

/* ---- threads ---- */

enum { THREADS = 4, EACH = 2000 };

static void *submitter(void *arg)
{
    struct ask *a = arg;
    char text[32];

    for (unsigned i = 0; i < EACH; i++) {
        enum hsm_op op = i % 3 ? HSM_MAC : HSM_RANDOM;
        snprintf(text, sizeof text, "%u", i);
        if (ask_key(&a[i], op, text, text) != ERR_OK)
            return NULL;
        if (i % 16 == 0)
            hsm_flush(pool);
        if (i % 500 == 0) { /* a loop that waits for answers now and then */
            hsm_flush(pool);
            while (!atomic_load(&a[i].done))
                usleep(100);
        }
    }
    hsm_flush(pool);
    return a;
}

static void test_four_threads_at_once(void **state)
{
    (void)state;
    static struct ask a[THREADS][EACH];
    pthread_t t[THREADS];

    open_all();
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, submitter, a[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        void *ok;
        pthread_join(t[i], &ok);
        assert_non_null(ok);
    }
    for (int i = 0; i < THREADS; i++)
        for (unsigned k = 0; k < EACH; k++) {
            char want[64];
            answer_of(&a[i][k]);
            assert_int_equal(a[i][k].r.result, ERR_OK);
            snprintf(want, sizeof want, "%ld %u", a[i][k].pid, k);
            assert_true(bytes_equal(a[i][k].r.part[0], bytes_str(want)));
        }
    for (int i = 0; i < THREADS; i++)
        ask_fini(a[i], EACH);
    assert_int_equal(stats_now().requests, THREADS * EACH);
    assert_int_equal(stats_now().in_flight, 0);
}

static _Atomic int chain_left;

static void chain_done(struct hsm_req *r)
{
    struct ask *a = r->arg;
    struct bytes part = bytes_str("abcd");

    if (r->result == ERR_OK && atomic_fetch_sub(&chain_left, 1) > 1) {
        hsm_req_fini(r);
        hsm_req_init(r, HSM_RANDOM, chain_done, a);
        if (hsm_submit(pool, r, &part, 1) == ERR_OK) {
            hsm_flush(pool);
            return;
        }
    }
    atomic_fetch_add(&a->done, 1);
}

static void test_done_may_submit(void **state)
{
    (void)state;
    struct ask a;
    struct bytes part = bytes_str("abcd");

    open_all();
    atomic_store(&chain_left, 100);
    memset(&a, 0, sizeof a);
    hsm_req_init(&a.r, HSM_RANDOM, chain_done, &a);
    assert_int_equal(hsm_submit(pool, &a.r, &part, 1), ERR_OK);
    hsm_flush(pool);
    answer_of(&a);
    assert_int_equal(atomic_load(&chain_left), 0);
    ask_fini(&a, 1);
}

/* A caller that forgets to flush is late, not lost. */
static void test_unflushed_is_sent_by_the_tick(void **state)
{
    (void)state;
    struct ask a;

    open_all();
    assert_int_equal(ask(&a, HSM_RANDOM, "x"), ERR_OK);
    answer_of(&a);
    assert_int_equal(a.r.result, ERR_OK);
    ask_fini(&a, 1);
}

int main(int argc, char **argv)
{
    int code;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_parts_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_large_and_empty_parts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_big_is_refused_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_errors_and_their_texts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_worker_keeps_the_order, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_key_has_one_worker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_any_goes_to_the_least_busy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_slow_lane_has_its_own_worker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_slow_lane_that_does_not_start, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_full_queue_throttles, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_queue_full_of_bytes_throttles, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_four_threads_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_done_may_submit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unflushed_is_sent_by_the_tick, set_up, tear_down),
    };

    if (as_worker(argc, argv, &code))
        return code;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
