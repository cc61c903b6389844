/* Counting of encryptions: never more than what was reserved, asked for once, ahead of need. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fault.h"
#include "server/keyuse.h"

/* An owner whose log has room for `room` more encryptions. */
struct fake {
    struct keyuse *u;
    struct keyuse_entry *asked_for; /* not answered yet */
    unsigned asked, answered;
    uint64_t room;
    int at_once;   /* answer from within */
    enum err fail; /* answer this */
};

static void answer(struct fake *f)
{
    struct keyuse_entry *e = f->asked_for;
    uint64_t n = f->room < KEYUSE_STEP ? f->room : KEYUSE_STEP;
    assert_non_null(e);
    f->asked_for = NULL;
    if (f->fail) {
        keyuse_reserved(f->u, e, f->fail, 0);
    } else {
        f->room -= n;
        keyuse_reserved(f->u, e, n ? ERR_OK : ERR_KEYSTATE, n);
    }
}

static void on_reserve(void *arg, struct keyuse_entry *e, const struct keyuse_key *key)
{
    struct fake *f = arg;
    assert_true(bytes_equal(key->name, bytes_str("name")));
    assert_null(f->asked_for);
    f->asked_for = e;
    f->asked++;
    if (f->at_once)
        answer(f);
}

static void on_answered(void *arg)
{
    ((struct fake *)arg)->answered++;
}

static struct fake fake;
static const uint8_t id_a[KEYUSE_ID_BYTES] = {1}, id_b[KEYUSE_ID_BYTES] = {1, [15] = 1};

static enum err take(const uint8_t *id, uint32_t version)
{
    struct keyuse_key key = {.id = id, .version = version, .name = bytes_str("name")};
    return keyuse_take(fake.u, &key);
}

static int setup(void **state)
{
    (void)state;
    fake = (struct fake){.room = KEYUSE_MAX};
    struct keyuse_owner owner = {on_reserve, on_answered, &fake};
    return keyuse_new(&fake.u, &owner) != ERR_OK;
}

static int teardown(void **state)
{
    (void)state;
    fault_disarm(FAULT_MEM);
    keyuse_free(fake.u);
    return 0;
}

static void test_first_use_waits_for_the_log(void **state)
{
    (void)state;
    assert_int_equal(take(id_a, 1), ERR_AGAIN);
    assert_int_equal(take(id_a, 1), ERR_AGAIN);
    assert_int_equal(fake.asked, 1); /* once for all who wait */
    assert_int_equal(fake.answered, 0);
    answer(&fake);
    assert_int_equal(fake.answered, 1);
    assert_int_equal(keyuse_left(fake.u, id_a, 1), KEYUSE_STEP);
    assert_int_equal(take(id_a, 1), ERR_OK);
    assert_int_equal(keyuse_left(fake.u, id_a, 1), KEYUSE_STEP - 1);
    assert_int_equal(fake.asked, 1);
}

static void test_keys_and_versions_are_apart(void **state)
{
    (void)state;
    keyuse_grant(fake.u, id_a, 1, KEYUSE_STEP);
    assert_int_equal(take(id_a, 1), ERR_OK);
    assert_int_equal(take(id_a, 2), ERR_AGAIN);
    answer(&fake);
    assert_int_equal(take(id_b, 1), ERR_AGAIN);
    assert_int_equal(keyuse_left(fake.u, id_a, 1), KEYUSE_STEP - 1);
    assert_int_equal(keyuse_left(fake.u, id_a, 2), KEYUSE_STEP);
    assert_int_equal(keyuse_left(fake.u, id_b, 1), 0);
    assert_int_equal(keyuse_left(fake.u, id_b, 9), 0);
}

static void test_asks_ahead_of_need(void **state)
{
    (void)state;
    keyuse_grant(fake.u, id_a, 1, KEYUSE_LOW + 2);
    assert_int_equal(take(id_a, 1), ERR_OK);
    assert_int_equal(take(id_a, 1), ERR_OK);
    assert_int_equal(fake.asked, 0);
    assert_int_equal(take(id_a, 1), ERR_OK); /* at the mark: asks, and goes on meanwhile */
    assert_int_equal(fake.asked, 1);
    assert_int_equal(take(id_a, 1), ERR_OK);
    assert_int_equal(fake.asked, 1);
    answer(&fake);
    assert_int_equal(keyuse_left(fake.u, id_a, 1), KEYUSE_LOW - 2 + KEYUSE_STEP);
}

static void test_answer_from_within(void **state)
{
    (void)state;
    fake.at_once = 1;
    assert_int_equal(take(id_a, 1), ERR_AGAIN); /* the caller parks, and the wake that came already is not lost on it */
    assert_int_equal(fake.answered, 1);
    assert_int_equal(take(id_a, 1), ERR_OK);
}

static void test_limit(void **state)
{
    unsigned made = 0;
    (void)state;
    fake.at_once = 1;
    fake.room = 5;
    assert_int_equal(take(id_a, 1), ERR_AGAIN);
    while (take(id_a, 1) == ERR_OK)
        made++;
    assert_int_equal(made, 5);
    assert_int_equal(take(id_a, 1), ERR_KEYSTATE);
    assert_int_equal(take(id_a, 1), ERR_KEYSTATE);
}

static void test_failure_is_answered_and_remembered(void **state)
{
    (void)state;
    fake.at_once = 1;
    fake.fail = ERR_MISCONF;
    assert_int_equal(take(id_a, 1), ERR_AGAIN);
    assert_int_equal(take(id_a, 1), ERR_MISCONF);
    assert_int_equal(take(id_a, 1), ERR_MISCONF);
    assert_int_equal(fake.asked, 1);
    keyuse_grant(fake.u, id_a, 1, 2); /* who has some left goes on */
    assert_int_equal(take(id_a, 1), ERR_OK);
    assert_int_equal(take(id_a, 1), ERR_OK);
    assert_int_equal(take(id_a, 1), ERR_MISCONF);
    assert_int_equal(fake.asked, 1);
}

static void test_overtaken_is_asked_anew(void **state)
{
    (void)state;
    fake.at_once = 1;
    fake.fail = ERR_AGAIN;
    assert_int_equal(take(id_a, 1), ERR_AGAIN);
    fake.fail = ERR_OK;
    assert_int_equal(take(id_a, 1), ERR_AGAIN);
    assert_int_equal(fake.asked, 2);
    assert_int_equal(take(id_a, 1), ERR_OK);
}

static void test_no_memory(void **state)
{
    (void)state;
    for (long n = 1;; n++) {
        keyuse_free(fake.u);
        assert_int_equal(setup(NULL), 0);
        fake.at_once = 1;
        fault_arm(FAULT_MEM, n, 1);
        enum err e = take(id_a, 1);
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        assert_int_equal(e, fired ? ERR_OOM : ERR_AGAIN);
        if (!fired)
            break;
        assert_int_equal(fake.asked, 0);
        assert_int_equal(take(id_a, 1), ERR_AGAIN); /* the table is whole */
        assert_int_equal(take(id_a, 1), ERR_OK);
    }
    struct keyuse *u;
    struct keyuse_owner owner = {on_reserve, on_answered, &fake};
    fault_arm(FAULT_MEM, 1, 1);
    assert_int_equal(keyuse_new(&u, &owner), ERR_OOM);
    assert_null(u);
}

/* Many threads on many keys: what was granted is given out once and no more. */
enum { THREADS = 4, KEYS = 40, EACH = 500 };
static _Atomic unsigned taken[KEYS];

static void *taker(void *arg)
{
    uint8_t id[KEYUSE_ID_BYTES] = {9};
    (void)arg;
    for (unsigned i = 0; i < KEYS * EACH; i++) {
        id[1] = (uint8_t)(i % KEYS);
        struct keyuse_key key = {.id = id, .version = 1, .name = bytes_str("name")};
        if (keyuse_take(fake.u, &key) == ERR_OK)
            atomic_fetch_add(&taken[i % KEYS], 1);
    }
    return NULL;
}

static void refuse(void *arg, struct keyuse_entry *e, const struct keyuse_key *key)
{
    (void)key;
    keyuse_reserved(((struct fake *)arg)->u, e, ERR_MISCONF, 0);
}

static void nothing(void *arg)
{
    (void)arg;
}

static void test_threads(void **state)
{
    pthread_t thread[THREADS];
    uint8_t id[KEYUSE_ID_BYTES] = {9};
    struct keyuse_owner owner = {refuse, nothing, &fake};

    (void)state;
    keyuse_free(fake.u);
    assert_int_equal(keyuse_new(&fake.u, &owner), ERR_OK);
    for (unsigned i = 0; i < KEYS; i++) {
        id[1] = (uint8_t)i;
        keyuse_grant(fake.u, id, 1, EACH + i);
    }
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, taker, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < KEYS; i++)
        assert_int_equal(taken[i], EACH + i);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_first_use_waits_for_the_log),
        TEST(test_keys_and_versions_are_apart),
        TEST(test_asks_ahead_of_need),
        TEST(test_answer_from_within),
        TEST(test_limit),
        TEST(test_failure_is_answered_and_remembered),
        TEST(test_overtaken_is_asked_anew),
        TEST(test_no_memory),
        TEST(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
