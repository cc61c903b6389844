/* The pool's life: opening and its refusals, the PIN, sealing, recycling, closing; allocations and files that fail. */
#include "tests/unit/hsm_pool_fixture.h"

#include "base/fault.h"

/* ---- opening ---- */

static void test_opens_with_info_and_realm(void **state)
{
    (void)state;
    struct buf info;
    uint8_t realm[16];
    char text[300];

    open_all();
    assert_int_equal(hsm_state_now(pool), HSM_STATE_UP);
    buf_init(&info, 4096);
    assert_int_equal(hsm_info(pool, &info), ERR_OK);
    assert_int_equal(buf_put_u8(&info, 0), ERR_OK);
    assert_string_equal((char *)info.mem,
                        "module:fake\ntoken:fake\nkey-cache:77\nrealm:00112233445566778899aabbccddeeff\n");
    buf_fini(&info);
    hsm_realm(pool, realm);
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(realm[i], i * 0x11);
    assert_int_equal(starts(), 2);
    snprintf(text, sizeof text, "%ld 1234\n", (long)start_pid(0));
    assert_int_equal(count_lines("starts", text), 1); /* the PIN without its line's end */
}

static void test_a_worker_sees_little(void **state)
{
    (void)state;
    config.softhsm_conf = "/etc/hsm.conf";
    config.workers = 1;
    setenv("COFFER_HSM_PIN", "1234", 1);
    setenv("COFFER_TEST_THING", "yes", 1);
    setenv("P11FAULT_CTL", "/ctl", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "no", 1);
    setenv("SOFTHSM2_CONF", "/wrong", 1);
    put_file("want-world", "");
    int stray[4]; /* without CLOEXEC; the first may be number 3, which the socket takes */
    for (int i = 0; i < 4; i++)
        assert_true((stray[i] = open("/dev/null", O_RDONLY)) >= 0);
    open_pool();
    for (int i = 0; i < 4; i++)
        close(stray[i]);
    assert_int_equal(count_lines("world", "env PATH="), 1);
    assert_int_equal(count_lines("world", "env COFFER_TEST_THING=yes"), 1);
    assert_int_equal(count_lines("world", "env P11FAULT_CTL=/ctl"), 1);
    assert_int_equal(count_lines("world", "env SOFTHSM2_CONF=/etc/hsm.conf"), 1);
    assert_int_equal(count_lines("world", "env SOFTHSM2_CONF="), 1);
    assert_int_equal(count_lines("world", "COFFER_HSM_PIN"), 0);
    assert_int_equal(count_lines("world", "AWS"), 0);
    for (int fd = 0; fd <= 3; fd++) {
        char line[16];
        snprintf(line, sizeof line, "fd %d\n", fd);
        assert_int_equal(count_lines("world", line), 1);
    }
    assert_int_equal(count_lines("world", "fd "), 4);
    unsetenv("SOFTHSM2_CONF");
    unsetenv("COFFER_HSM_PIN");
}

static void refused(enum err want, const char *says)
{
    const char *why = NULL;
    enum err e = hsm_open(&pool, &config, &why);

    assert_null(pool);
    if (e != want || !strstr(why, says))
        fprintf(stderr, "%s: %s\n", err_name(e), why);
    assert_int_equal(e, want);
    assert_non_null(strstr(why, says));
}

static void test_says_which_file_is_missing(void **state)
{
    (void)state;
    char path[512];

    config.worker_path = "/nowhere/coffer-hsm";
    refused(ERR_NOTFOUND, "/nowhere/coffer-hsm");
    fake_path(path, dir, "no-program");
    put_file("no-program", "this is text\n");
    assert_int_equal(chmod(path, 0700), 0);
    config.worker_path = path;
    refused(ERR_IO, "no-program");
    config.worker_path = self;
    config.module = "/nowhere/libhsm.so";
    refused(ERR_NOTFOUND, "/nowhere/libhsm.so");
    config.module = dir;
    config.pin_file = "/nowhere/pin";
    refused(ERR_NOTFOUND, "/nowhere/pin");
    config.pin_file = pin_path;
    config.workers = 0;
    refused(ERR_RANGE, "hsm-workers");
    config.workers = 1000;
    refused(ERR_RANGE, "hsm-workers");
    config.workers = 1;
    config.timeout_ms = 0;
    refused(ERR_RANGE, "hsm-timeout");
    assert_int_equal(starts(), 0);
}

static void test_refuses_a_pin_file_that_others_read(void **state)
{
    (void)state;
    static const mode_t modes[] = {0644, 0640, 0604, 0620, 0601};

    for (unsigned i = 0; i < sizeof modes / sizeof *modes; i++) {
        assert_int_equal(chmod(pin_path, modes[i]), 0);
        refused(ERR_NOPERM, "chmod");
    }
    setenv("CREDENTIALS_DIRECTORY", dir, 1); /* there the mode shows an ACL's mask */
    assert_int_equal(chmod(pin_path, 0444), 0);
    refused(ERR_NOPERM, "chmod");
    assert_int_equal(starts(), 0);
    assert_int_equal(chmod(pin_path, 0440), 0);
    open_pool();
    unsetenv("CREDENTIALS_DIRECTORY");
}

static void test_refuses_an_empty_or_endless_pin(void **state)
{
    (void)state;
    char line[600];

    put_file("pin-file", "\n");
    assert_int_equal(chmod(pin_path, 0600), 0);
    refused(ERR_RANGE, "empty or too long");
    memset(line, '1', sizeof line);
    line[sizeof line - 1] = 0;
    put_file("pin-file", line);
    assert_int_equal(chmod(pin_path, 0600), 0);
    refused(ERR_RANGE, "empty or too long");
    assert_int_equal(starts(), 0);
}

static void test_says_why_the_first_start_failed(void **state)
{
    (void)state;
    static const struct {
        const char *start;
        enum err e;
        const char *says;
    } rows[] = {
        {"pin", ERR_WRONGPASS, "CKR_PIN_INCORRECT"}, {"pin", ERR_WRONGPASS, "PIN"},
        {"notfound", ERR_NOTFOUND, "no such token"}, {"notfound", ERR_NOTFOUND, "token fake"},
        {"unsupported", ERR_UNSUPPORTED, "CKM_AES"}, {"down", ERR_HSMDOWN, "CKR_DEVICE_ERROR"},
        {"crash", ERR_HSMDOWN, "signal 9"},          {"exit12", ERR_WRONGPASS, "exit code 12"},
        {"garbage", ERR_HSMDOWN, "malformed"},
    };

    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        put_file("start", rows[i].start);
        refused(rows[i].e, rows[i].says);
        assert_int_equal(starts(), i + 1); /* one try, whatever it was */
    }
    config.timeout_ms = 50;
    put_file("start", "hang");
    refused(ERR_HSMDOWN, "no answer in time");
}

/* ---- PIN ---- */

static void test_a_refused_pin_is_final_until_unseal(void **state)
{
    (void)state;
    struct ask a;

    config.workers = 1;
    open_all();
    put_file("start", "pin");
    kill(start_pid(0), SIGKILL);
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_FAILED);
    assert_int_equal(ask(&a, HSM_RANDOM, "x"), ERR_HSMDOWN);
    assert_int_equal(ask(&a, HSM_KEY_NEW_SLOW, "x"), ERR_HSMDOWN);
    assert_int_equal(starts(), 2);
    put_file("start", "ok");
    assert_int_equal(hsm_unseal(pool, bytes_str("5678")), ERR_OK);
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_UP);
    assert_int_equal(starts(), 3); /* none in between */
    assert_int_equal(count_lines("starts", " 5678"), 1);
    assert_int_equal(ask_wait(&a, HSM_RANDOM, "x"), ERR_OK);
    put_file("start", "pin");
    assert_int_equal(hsm_unseal(pool, bytes_str("9999")), ERR_OK);
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_FAILED);
    assert_int_equal(starts(), 4);
}

/* One worker is refused, the other is logged in: it goes on, and nobody tries that PIN again. */
static void test_a_refused_pin_leaves_who_is_logged_in(void **state)
{
    (void)state;
    struct ask a;

    open_all();
    put_file("start", "pin");
    kill(start_pid(0), SIGKILL);
    WAIT_FOR(starts() == 3);
    put_file("start", "ok");
    WAIT_FOR(is_gone(start_pid(2)));
    assert_int_equal(ask_wait(&a, HSM_RANDOM, "x"), ERR_OK);
    assert_int_equal(a.pid, start_pid(1));
    kill(start_pid(1), SIGKILL);
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_FAILED);
    assert_int_equal(starts(), 3);
}

static void test_a_pin_refused_later_stops_too(void **state)
{
    (void)state;
    struct ask a;

    config.workers = 1;
    open_all();
    put_file("probe", "pin");
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_FAILED);
    put_file("probe", "ok");
    assert_int_equal(starts(), 1);
    assert_int_equal(hsm_unseal(pool, bytes_str("1234")), ERR_OK);
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_UP);
    assert_int_equal(ask_wait(&a, HSM_SIGN, "exit 12"), ERR_HSMDOWN);
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_FAILED);
    assert_int_equal(starts(), 2);
}

static void test_a_module_that_went_missing_may_come_back(void **state)
{
    (void)state;
    config.workers = 1;
    open_all();
    put_file("start", "notfound");
    kill(start_pid(0), SIGKILL);
    WAIT_FOR(starts() >= 3);
    assert_int_equal(hsm_state_now(pool), HSM_STATE_DOWN);
    put_file("start", "ok");
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_UP);
}

/* A sick device may fail its self-test once: that ended the pool for good. */
static void test_a_self_test_that_fails_later_is_tried_again(void **state)
{
    (void)state;
    config.workers = 1;
    open_all();
    put_file("start", "unsupported");
    kill(start_pid(0), SIGKILL);
    WAIT_FOR(starts() >= 3);
    assert_int_equal(hsm_state_now(pool), HSM_STATE_DOWN);
    put_file("start", "ok");
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_UP);
}

/* ---- sealing ---- */

static void test_seal_and_unseal(void **state)
{
    (void)state;
    struct ask gate, behind, slow, a;

    open_all();
    assert_int_equal(ask_wait(&slow, HSM_KEY_NEW_SLOW, "x"), ERR_OK);
    assert_int_equal(ask(&gate, HSM_SIGN, "gate never"), ERR_OK);
    assert_int_equal(ask(&behind, HSM_SIGN, "x"), ERR_OK);
    hsm_flush(pool);
    hsm_seal(pool);
    assert_int_equal(hsm_state_now(pool), HSM_STATE_SEALED);
    assert_int_equal(ask(&a, HSM_RANDOM, "x"), ERR_SEALED);
    answer_of(&gate);
    answer_of(&behind);
    assert_int_equal(gate.r.result, ERR_SEALED);
    assert_int_equal(behind.r.result, ERR_SEALED);
    for (unsigned i = 0; i < 3; i++)
        WAIT_FOR(is_gone(start_pid(i))); /* also the one that does not look at its socket */
    assert_int_equal(workers_up(), 0);
    assert_int_equal(starts(), 3);
    assert_int_equal(hsm_unseal(pool, bytes_str("")), ERR_RANGE);
    assert_int_equal(hsm_state_now(pool), HSM_STATE_SEALED);
    assert_int_equal(hsm_unseal(pool, bytes_str("4321")), ERR_OK);
    assert_int_not_equal(hsm_state_now(pool), HSM_STATE_SEALED);
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_UP && workers_up() == 2);
    assert_int_equal(count_lines("starts", " 4321"), 2);
    assert_int_equal(ask_wait(&a, HSM_RANDOM, "x"), ERR_OK);
    ask_fini(&gate, 1);
    ask_fini(&behind, 1);
}

static void test_without_a_pin_file_it_opens_sealed(void **state)
{
    (void)state;
    struct ask a;

    config.pin_file = NULL;
    open_pool();
    assert_int_equal(hsm_state_now(pool), HSM_STATE_SEALED);
    assert_int_equal(ask(&a, HSM_RANDOM, "x"), ERR_SEALED);
    assert_int_equal(starts(), 0);
    assert_int_equal(hsm_unseal(pool, bytes_str("77")), ERR_OK);
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_UP);
    assert_int_equal(ask_wait(&a, HSM_RANDOM, "x"), ERR_OK);
}

/* Orders that overtake the thread: the last one counts. */
static void test_seal_and_unseal_in_a_row(void **state)
{
    (void)state;
    char last[16];
    struct ask a;

    open_pool();
    for (int i = 0; i < 50; i++) {
        hsm_seal(pool);
        snprintf(last, sizeof last, "pin-%d", i);
        assert_int_equal(hsm_unseal(pool, bytes_str(last)), ERR_OK);
    }
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_UP && workers_up() == 2);
    assert_int_equal(ask_wait(&a, HSM_RANDOM, "x"), ERR_OK);
    assert_true(count_lines("starts", " pin-49\n") >= 2);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(hsm_unseal(pool, bytes_str(last)), ERR_OK);
        hsm_seal(pool);
    }
    assert_int_equal(hsm_state_now(pool), HSM_STATE_SEALED);
    WAIT_FOR(workers_up() == 0);
    assert_int_equal(hsm_state_now(pool), HSM_STATE_SEALED);
}

/* A worker whose PIN was refused says so when there is a newer one already. */
static void test_a_late_refusal_does_not_stop_the_new_pin(void **state)
{
    (void)state;
    config.pin_file = NULL;
    open_pool();
    put_file("start", "linger");
    assert_int_equal(hsm_unseal(pool, bytes_str("wrong")), ERR_OK);
    WAIT_FOR(starts() == 1);
    put_file("start", "ok");
    assert_int_equal(hsm_unseal(pool, bytes_str("right")), ERR_OK);
    put_file("go", "");
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_UP && workers_up() == 2);
    WAIT_FOR(is_gone(start_pid(0)));
    kill(start_pid(1), SIGKILL);
    WAIT_FOR(stats_now().restarts == 1 && workers_up() == 2);
}

/* Unsealing what is up: those at work finish, successors have the new PIN. */
static void test_unseal_while_up_loses_nothing(void **state)
{
    (void)state;
    struct ask gate;

    open_all();
    assert_int_equal(ask(&gate, HSM_SIGN, "gate go"), ERR_OK);
    hsm_flush(pool);
    assert_int_equal(hsm_unseal(pool, bytes_str("4321")), ERR_OK);
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_UP && workers_up() == 2);
    assert_int_equal(count_lines("starts", " 4321"), 2);
    assert_int_equal(gate.done, 0);
    put_file("go", "");
    answer_of(&gate);
    assert_int_equal(gate.r.result, ERR_OK);
    WAIT_FOR(is_gone(start_pid(0)) && is_gone(start_pid(1)));
    ask_fini(&gate, 1);
}

/* ---- recycling ---- */

/* The worker in use makes way for a warm successor while a request of its own is still under way. */
static void recycled_after(enum hsm_op op, const char *text, unsigned times)
{
    struct ask made[10], gate, a;

    config.workers = 1;
    open_all();
    for (unsigned i = 0; i < times; i++)
        assert_int_equal(ask(&made[i], op, text), ERR_OK);
    assert_int_equal(ask(&gate, HSM_SIGN, "gate go"), ERR_OK);
    assert_int_equal(stats_now().recycled, 0);
    hsm_flush(pool);
    WAIT_FOR(stats_now().recycled == 1);
    for (unsigned i = 0; i < times; i++)
        answer_of(&made[i]);
    assert_int_equal(ask_wait(&a, HSM_SIGN, "x"), ERR_OK);
    assert_int_not_equal(a.pid, made[0].pid);
    assert_int_equal(gate.done, 0);
    put_file("go", "");
    answer_of(&gate);
    assert_int_equal(gate.r.result, ERR_OK);
    assert_int_equal(gate.pid, made[0].pid);
    WAIT_FOR(is_gone((pid_t)gate.pid));
    struct hsm_stats s = stats_now();
    assert_int_equal(s.restarts, 0);
    assert_int_equal(s.errors, 0);
    assert_int_equal(starts(), 2);
    ask_fini(made, times);
    ask_fini(&gate, 1);
}

static void test_recycled_by_requests_that_make_objects(void **state)
{
    (void)state;
    config.recycle_objects = 10;
    recycled_after(HSM_KEY_NEW, "x", 10);
}

static void test_recycled_by_memory(void **state)
{
    (void)state;
    config.recycle_objects = 1000;
    recycled_after(HSM_SIGN, "grow 100", 1);
}

static void test_recycled_by_its_own_count(void **state)
{
    (void)state;
    struct ask a;

    config.workers = 1;
    open_all();
    assert_int_equal(ask_wait(&a, HSM_SIGN, "objects 999999"), ERR_OK);
    assert_int_equal(ask_wait(&a, HSM_SIGN, "objects 1000000"), ERR_OK);
    WAIT_FOR(stats_now().recycled == 1);
    assert_int_equal(starts(), 2);
}

/* A successor that does not start is tried again; meanwhile nothing is lost. */
static void test_a_successor_that_fails(void **state)
{
    (void)state;
    struct ask a;

    config.workers = 1;
    config.recycle_objects = 1;
    open_all();
    put_file("start", "crash");
    assert_int_equal(ask_wait(&a, HSM_KEY_NEW, "x"), ERR_OK);
    WAIT_FOR(starts() >= 3);
    assert_int_equal(hsm_state_now(pool), HSM_STATE_UP);
    assert_int_equal(ask_wait(&a, HSM_SIGN, "x"), ERR_OK);
    assert_int_equal(a.pid, start_pid(0));
    put_file("start", "ok");
    WAIT_FOR(stats_now().recycled == 1);
    assert_int_equal(stats_now().restarts, 0);
}

/* ---- closing ---- */

static void test_close_answers_everything(void **state)
{
    (void)state;
    struct ask a[20], slow;

    config.timeout_ms = 1000;
    open_all();
    for (int i = 0; i < 20; i++)
        assert_int_equal(ask(&a[i], i % 2 ? HSM_RANDOM : HSM_SIGN, i < 4 ? "gate never" : "x"), ERR_OK);
    assert_int_equal(ask(&slow, HSM_KEY_NEW_SLOW, "gate never"), ERR_OK);
    hsm_flush(pool);
    hsm_close(pool);
    pool = NULL;
    for (int i = 0; i < 20; i++)
        assert_int_equal(a[i].done, 1);
    assert_int_equal(a[0].r.result, ERR_HSMDOWN);
    assert_int_equal(slow.done, 1);
    assert_int_equal(slow.r.result, ERR_HSMDOWN);
    ask_fini(a, 20);
    ask_fini(&slow, 1);
}

static void test_leaves_no_descriptor_behind(void **state)
{
    (void)state;
    unsigned before = open_descriptors();

    for (int i = 0; i < 5; i++) {
        open_all();
        kill(start_pid(starts() - 1), SIGKILL);
        WAIT_FOR(stats_now().restarts == 1);
        hsm_close(pool);
        pool = NULL;
        assert_int_equal(open_descriptors(), before);
    }
    hsm_close(NULL);
}

static void test_states_have_names(void **state)
{
    (void)state;
    assert_string_equal(hsm_state_name(HSM_STATE_STARTING), "starting");
    assert_string_equal(hsm_state_name(HSM_STATE_UP), "up");
    assert_string_equal(hsm_state_name(HSM_STATE_DOWN), "down");
    assert_string_equal(hsm_state_name(HSM_STATE_SEALED), "sealed");
    assert_string_equal(hsm_state_name(HSM_STATE_FAILED), "failed");
}

/* ---- the n-th allocation or file operation fails ---- */

static void work_with_faults(void)
{
    enum { N = 8 };
    static const char *const texts[N] = {"x", "error 1 y", "length 100000", "x", "x", "once dead crash", "x", "x"};
    struct ask a[N];
    int submitted[N];

    for (int i = 0; i < N; i++) {
        enum err e = ask(&a[i], i == 3 ? HSM_KEY_NEW_SLOW : HSM_SIGN, texts[i]);
        submitted[i] = e == ERR_OK;
        assert_true(e == ERR_OK || e == ERR_OOM || e == ERR_HSMDOWN);
    }
    hsm_flush(pool);
    for (int i = 0; i < N; i++) {
        if (submitted[i])
            answer_of(&a[i]);
        hsm_req_fini(&a[i].r);
    }
}

static void fail_the_nth(enum fault_kind kind, int code)
{
    const char *why;
    char path[512];
    long n = 1;
    int fired = 1;

    fake_path(path, dir, "dead");
    config.workers = 1;
    for (; fired; n++) {
        unlink(path);
        fault_arm(kind, n, code);
        enum err e = hsm_open(&pool, &config, &why);
        if (e == ERR_OK)
            work_with_faults();
        else
            assert_true(*why);
        hsm_close(pool);
        pool = NULL;
        fired = fault_fired(kind);
        fault_disarm(kind);
        if (!fired)
            assert_int_equal(e, ERR_OK);
    }
    assert_true(n > 3);
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    fail_the_nth(FAULT_MEM, 1);
}

static void test_every_file_operation_may_fail(void **state)
{
    (void)state;
    fail_the_nth(FAULT_FILE, EIO);
}

int main(int argc, char **argv)
{
    int code;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_opens_with_info_and_realm, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_worker_sees_little, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_says_which_file_is_missing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refuses_a_pin_file_that_others_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refuses_an_empty_or_endless_pin, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_says_why_the_first_start_failed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_refused_pin_is_final_until_unseal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_refused_pin_leaves_who_is_logged_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_pin_refused_later_stops_too, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_module_that_went_missing_may_come_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_self_test_that_fails_later_is_tried_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_seal_and_unseal, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_without_a_pin_file_it_opens_sealed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_seal_and_unseal_in_a_row, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_late_refusal_does_not_stop_the_new_pin, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unseal_while_up_loses_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_recycled_by_requests_that_make_objects, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_recycled_by_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_recycled_by_its_own_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_successor_that_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_close_answers_everything, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_leaves_no_descriptor_behind, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_states_have_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_allocation_may_fail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_file_operation_may_fail, set_up, tear_down),
    };

    if (as_worker(argc, argv, &code))
        return code;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
