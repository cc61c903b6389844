/* Snapshots that are lent to who copies them: which one is chosen, how long it stays, what of the log is kept. */
#include <unistd.h>

#include "engine_fixture.h"

#include "base/file.h"
#include "server/lend.h"

static struct lend *l;
static char snapshots_dir[80];
static uint64_t now = 1000;

static void set(unsigned n)
{
    char path[16], value[16];
    snprintf(path, sizeof path, "p/%u", n % 7);
    snprintf(value, sizeof value, "%u", n);
    struct plain *p = malloc(sizeof *p + strlen(value));
    assert_non_null(p);
    p->n = strlen(value);
    memcpy(p->bytes, value, p->n);
    struct step s = {.kind = STEP_SECRET_SET, .path = bytes_str(path), .plain = p};
    assert_int_equal(run(vault_named("v"), &s), ERR_OK);
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "%s/coffer-lend-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(dir));
    snprintf(snapshots_dir, sizeof snapshots_dir, "%s/snapshots", dir);
    open_engine();
    assert_int_equal(lend_new(&l, snapshots_dir), ERR_OK);
    lend_from(l, engine_snapshots(e));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    engine_stop_snapshots(e);
    lend_free(l);
    close_engine();
    shell("rm -rf %s", dir);
    return 0;
}

static uint64_t snapshot(void)
{
    uint64_t lsn;
    set((unsigned)now++);
    assert_int_equal(demand(&lsn), ERR_OK);
    return lsn;
}

static enum err choose(uint64_t from, uint64_t below, uint64_t have, struct lend_file *f)
{
    struct lend_want w = {.from_lsn = from, .below_lsn = below, .have_lsn = have, .have_term = 1};
    return lend_choose(l, &w, now, f);
}

static void the_newest_is_lent_or_what_he_has(void **state)
{
    (void)state;
    struct lend_file f;
    uint64_t one = snapshot(), two = snapshot();
    assert_int_equal(choose(0, 0, 0, &f), ERR_OK);
    assert_int_equal(f.lsn, two);
    assert_int_equal(f.term, 1);
    assert_int_equal(choose(0, 0, one, &f), ERR_OK);
    assert_int_equal(f.lsn, one);
    assert_int_equal(choose(two, 0, one, &f), ERR_OK); /* which begins too early */
    assert_int_equal(f.lsn, two);
    assert_int_equal(choose(0, 0, one - 1, &f), ERR_OK); /* which is not here */
    assert_int_equal(f.lsn, two);
    assert_int_equal(choose(0, two, 0, &f), ERR_OK);
    assert_int_equal(f.lsn, one);
    assert_int_equal(choose(one + 1, two, 0, &f), ERR_LOADING);
    assert_int_equal(f.lsn, 0);
}

static enum err choose_in_the_end(uint64_t from, uint64_t below, struct lend_file *f)
{
    enum err err;
    while ((err = choose(from, below, 0, f)) == ERR_LOADING)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return err;
}

/* Else who copies it would be given the same one again, for as long as nobody here notices what is wrong with it. */
static void for_one_that_is_no_good_another_is_made(void **state)
{
    (void)state;
    struct lend_file f;
    uint64_t one = snapshot(), two = snapshot();
    assert_int_equal(choose(0, two, 0, &f), ERR_OK);
    assert_int_equal(f.lsn, one);
    assert_int_equal(choose(0, one, 0, &f), ERR_LOADING); /* not two, which was no good either */
    set(1);
    assert_int_equal(choose_in_the_end(0, one, &f), ERR_OK);
    assert_true(f.lsn > two);
    assert_int_equal(choose(0, 0, 0, &f), ERR_OK);
    assert_true(f.lsn > two);
}

static void without_one_one_is_made(void **state)
{
    (void)state;
    struct lend_file f;
    set(1);
    assert_int_equal(choose(0, 0, 0, &f), ERR_LOADING);
    assert_int_equal(choose_in_the_end(0, 0, &f), ERR_OK);
    assert_true(f.lsn > 0);
}

static void one_that_does_not_verify_is_not_lent(void **state)
{
    (void)state;
    struct lend_file f;
    uint64_t one = snapshot(), two = snapshot();
    shell("truncate -s -1 %s/*%lu-*.snap", snapshots_dir, two);
    assert_int_equal(choose(0, 0, two, &f), ERR_OK);
    assert_int_equal(f.lsn, one);
}

/* It is deleted and can be read all the same; the log behind it is kept; until its time is over. */
static void it_stays_as_long_as_it_is_asked_for(void **state)
{
    (void)state;
    struct lend_file f;
    struct buf all, b;
    char path[160];
    uint64_t one = snapshot();

    assert_int_equal(lend_needed_lsn(l, now), UINT64_MAX);
    assert_int_equal(choose(0, 0, 0, &f), ERR_OK);
    assert_int_equal(lend_needed_lsn(l, now), one + 1);
    buf_init(&all, 1 << 20);
    buf_init(&b, 1 << 20);
    snprintf(path, sizeof path, "%s/%020lu-1.snap", snapshots_dir, one);
    assert_int_equal(file_read_all(path, &all, 1 << 20), ERR_OK);
    assert_int_equal(buf_size(&all), f.bytes);
    for (int i = 0; i < 3; i++)
        snapshot();
    assert_int_equal(access(path, F_OK), -1);
    for (uint64_t off = 0; off < f.bytes; off += 1000)
        assert_int_equal(lend_read(l, f.lsn, f.term, off, 1000, now, &b), ERR_OK);
    assert_true(bytes_equal(buf_bytes(&b), buf_bytes(&all)));
    assert_int_equal(lend_read(l, f.lsn, f.term, f.bytes, 1000, now, &b), ERR_OK); /* nothing more */
    assert_int_equal(buf_size(&b), f.bytes);
    assert_int_equal(lend_read(l, f.lsn, f.term, f.bytes + 1, 1, now, &b), ERR_RANGE);
    assert_int_equal(lend_read(l, f.lsn, f.term, 0, LEND_PIECE_BYTES + 1, now, &b), ERR_RANGE);
    assert_int_equal(lend_read(l, f.lsn, f.term + 1, 0, 1, now, &b), ERR_NOTFOUND);

    now += LEND_MS - 1; /* reading renewed it just now, by the same clock */
    assert_int_equal(lend_needed_lsn(l, now), one + 1);
    now += 1;
    assert_int_equal(lend_needed_lsn(l, now), UINT64_MAX);
    assert_int_equal(lend_read(l, f.lsn, f.term, 0, 10, now, &b), ERR_NOTFOUND);
    buf_fini(&b);
    buf_fini(&all);
}

static void so_many_and_no_more(void **state)
{
    (void)state;
    struct lend_file f;
    for (unsigned i = 0; i < LEND_FILES; i++) {
        snapshot();
        assert_int_equal(choose(0, 0, 0, &f), ERR_OK);
    }
    uint64_t last = f.lsn, next = snapshot();
    assert_int_equal(choose(0, 0, 0, &f), ERR_AGAIN);
    assert_int_equal(choose(0, 0, last, &f), ERR_OK); /* it is lent already */
    now += LEND_MS;
    assert_int_equal(choose(0, 0, 0, &f), ERR_OK);
    assert_int_equal(f.lsn, next);
}

static pthread_barrier_t both;
static _Thread_local int meets; /* once: where it looks at the file */

static void meet(void)
{
    if (meets)
        pthread_barrier_wait(&both);
    meets = 0;
}

static void *choose_at_once(void *arg)
{
    struct lend_file f;
    meets = 1;
    enum err *err = arg;
    *err = choose(0, 0, 0, &f);
    return NULL;
}

static void two_who_choose_at_once_share_a_place(void **state)
{
    pthread_t t[2];
    enum err err[2];
    struct lend_file f;
    (void)state;
    snapshot();
    assert_int_equal(pthread_barrier_init(&both, NULL, 2), 0);
    on_sign = meet;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&t[i], NULL, choose_at_once, &err[i]), 0);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
    on_sign = NULL;
    pthread_barrier_destroy(&both);
    assert_true(err[0] == ERR_OK && err[1] == ERR_OK);
    for (unsigned i = 1; i < LEND_FILES; i++) {
        snapshot();
        assert_int_equal(choose(0, 0, 0, &f), ERR_OK);
    }
    snapshot();
    assert_int_equal(choose(0, 0, 0, &f), ERR_AGAIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_newest_is_lent_or_what_he_has, setup, teardown),
        cmocka_unit_test_setup_teardown(for_one_that_is_no_good_another_is_made, setup, teardown),
        cmocka_unit_test_setup_teardown(without_one_one_is_made, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_does_not_verify_is_not_lent, setup, teardown),
        cmocka_unit_test_setup_teardown(it_stays_as_long_as_it_is_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(so_many_and_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(two_who_choose_at_once_share_a_place, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
