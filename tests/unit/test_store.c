/* LevelDB stores: what is written comes back, or an error does. Damage has its own file, test_store_damage.c. */
#include "store_fixture.h"

#include <errno.h>
#include <leveldb/c.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/fault.h"

static char dir[SF_PATH], copy[SF_PATH];

static int setup(void **state)
{
    (void)state;
    sf_make_dir(dir);
    sf_make_dir(copy);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fault_disarm(FAULT_MEM);
    fault_disarm(FAULT_FILE);
    sf_remove_dir(dir);
    sf_remove_dir(copy);
    return 0;
}

static void assert_value(struct store *s, const char *key, const char *want, uint64_t lsn)
{
    struct blob *b;
    enum err e = store_get(s, bytes_str(key), &b);
    if (!want) {
        assert_int_equal(e, ERR_NOTFOUND);
        assert_null(b);
        return;
    }
    assert_int_equal(e, ERR_OK);
    assert_true(bytes_equal(blob_bytes(b), bytes_str(want)));
    assert_int_equal(b->lsn, lsn);
    assert_int_equal(b->tombstone, 0);
    blob_unref(b);
}

/* ---- values ---- */

static void values_come_back_with_their_lsn(void **state)
{
    (void)state;
    struct store *s = sf_open(dir);
    assert_int_equal(store_applied(s), 0);
    assert_int_equal(store_checkpointed(s), 0);
    assert_value(s, "a", NULL, 0);
    assert_int_equal(sf_put_at(s, "a", "one", 5), ERR_OK);
    assert_int_equal(sf_put_at(s, "b", "", 6), ERR_OK);
    assert_int_equal(sf_put_at(s, "a", "two", 7), ERR_OK);
    assert_value(s, "a", "two", 7);
    assert_value(s, "b", "", 6);
    assert_int_equal(sf_put_at(s, "b", NULL, 8), ERR_OK);
    assert_value(s, "b", NULL, 0);
    assert_int_equal(store_applied(s), 8);
    store_close(s);

    s = sf_open(dir);
    assert_int_equal(store_applied(s), 8);
    assert_value(s, "a", "two", 7);
    assert_value(s, "b", NULL, 0);
    store_close(s);
    store_close(NULL);
}

static void a_batch_is_written_as_a_whole_and_cleared(void **state)
{
    (void)state;
    struct store *s = sf_open(dir);
    struct store_batch *b;
    char key[32], big[5000];
    memset(big, 'x', sizeof big);
    assert_int_equal(store_batch_new(&b), ERR_OK);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "k%u", i);
        store_batch_put(b, bytes_str(key), bytes_of(big, i * 50), i + 1);
    }
    store_batch_delete(b, bytes_str("k7"));
    assert_true(store_batch_bytes(b) > 50 * 99 * 100 / 2);
    assert_value(s, "k1", NULL, 0);
    assert_int_equal(store_write(s, b, 100), ERR_OK);
    assert_int_equal(store_batch_bytes(b), 0);
    struct blob *v;
    assert_int_equal(store_get(s, bytes_str("k99"), &v), ERR_OK);
    assert_int_equal(v->n, 99 * 50);
    assert_int_equal(v->lsn, 100);
    blob_unref(v);
    assert_value(s, "k7", NULL, 0);
    assert_int_equal(store_write(s, b, 101), ERR_OK); /* empty: moves the applied LSN */
    assert_int_equal(store_applied(s), 101);
    store_batch_free(b);
    store_batch_free(NULL);
    store_close(s);
}

static void a_scan_is_ordered_and_hides_the_stores_own_keys(void **state)
{
    (void)state;
    static const char *const keys[] = {"a", "aa", "b", "c/1", "c/2"};
    struct store *s = sf_open(dir);
    struct store_iter *it;
    uint64_t lsn, at = 0;
    for (unsigned i = 5; i-- > 0;)
        assert_int_equal(sf_put_at(s, keys[i], keys[i], 10 - i), ERR_OK);
    assert_int_equal(store_checkpoint(s, &lsn), ERR_OK);
    assert_int_equal(store_iter_new(s, &it), ERR_OK);
    assert_int_equal(sf_put_at(s, "b2", "written after the view was taken", 11), ERR_OK);
    assert_int_equal(sf_put_at(s, "a", NULL, 12), ERR_OK);
    for (unsigned pass = 0; pass < 3; pass++) {
        const uint8_t own[1] = {0};
        store_iter_seek(it, pass == 0 ? bytes_of(NULL, 0) : pass == 1 ? bytes_of(own, 1) : bytes_str("a"));
        for (at = 0; store_iter_valid(it); store_iter_next(it), at++) {
            struct bytes value;
            assert_true(bytes_equal(store_iter_key(it), bytes_str(keys[at])));
            assert_int_equal(store_iter_value(it, &value, &lsn), ERR_OK);
            assert_true(bytes_equal(value, bytes_str(keys[at])));
            assert_int_equal(lsn, 10 - at);
        }
        assert_int_equal(at, 5);
        assert_int_equal(store_iter_status(it), ERR_OK);
    }
    store_iter_seek(it, bytes_str("b0"));
    assert_true(bytes_equal(store_iter_key(it), bytes_str("c/1")));
    store_iter_seek(it, bytes_str("d"));
    assert_false(store_iter_valid(it));
    store_iter_free(it);
    store_iter_free(NULL);
    store_close(s);
}

static void properties_are_told_as_text(void **state)
{
    (void)state;
    struct store *s = sf_open(dir);
    struct buf b;
    buf_init(&b, 1 << 16);
    assert_int_equal(store_property(s, "leveldb.stats", &b), ERR_OK);
    assert_true(buf_size(&b) > 20);
    assert_int_equal(store_property(s, "leveldb.nonsense", &b), ERR_NOTFOUND);
    buf_fini(&b);
    store_close(s);
}

static void a_store_is_opened_once(void **state)
{
    (void)state;
    struct store *s = sf_open(dir), *second = (struct store *)1;
    assert_int_equal(sf_put_at(s, "a", "v", 1), ERR_OK);
    assert_int_equal(sf_try_open(dir, &second), ERR_IO);
    assert_null(second);
    assert_value(s, "a", "v", 1);
    store_close(s);
    char *long_path = malloc(6000);
    memset(long_path, 'x', 5999);
    long_path[5999] = '\0';
    assert_int_equal(sf_try_open(long_path, &s), ERR_IO);
    free(long_path);
    assert_int_equal(sf_try_open("/nonexistent/parent/store", &s), ERR_IO);
}

/* ---- checkpoint ---- */

/* The test's own fdatasync and fsync stand before libc's: they note what is synced, and act in between. */
static struct {
    struct store *store;
    unsigned logs, dirs, after_dir;
    uint64_t write_lsn;
    int marked_early;
} watch;

static uint64_t checkpoint_of_image(void)
{
    struct store *s;
    struct store *watched = watch.store;
    watch.store = NULL; /* the image's own syncs are not looked at */
    sf_copy_dir(dir, copy);
    s = sf_open(copy);
    uint64_t lsn = store_checkpointed(s);
    store_close(s);
    watch.store = watched;
    return lsn;
}

static void synced(int fd)
{
    char link[64], path[SF_PATH * 2];
    if (!watch.store)
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    size_t len = strlen(path);
    int is_log = len > 4 && strcmp(path + len - 4, ".log") == 0;
    if (strncmp(path, dir, strlen(dir)) != 0 || (!is_log && strcmp(path, dir) != 0))
        return;
    watch.logs += is_log;
    watch.dirs += !is_log;
    watch.after_dir += is_log && watch.dirs;
    watch.marked_early |= checkpoint_of_image() != 0;
    if (is_log && watch.write_lsn) {
        assert_int_equal(sf_put_at(watch.store, "late", "written during the sync", watch.write_lsn), ERR_OK);
        watch.write_lsn = 0;
    }
}

int fdatasync(int fd)
{
    synced(fd);
    return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    synced(fd);
    return (int)syscall(SYS_fsync, fd);
}

static void a_checkpoint_is_marked_after_everything_is_synced(void **state)
{
    (void)state;
    struct store *s = sf_open(dir);
    uint64_t lsn = 1;
    assert_int_equal(store_checkpoint(s, &lsn), ERR_OK); /* nothing applied yet */
    assert_int_equal(lsn, 0);
    assert_int_equal(sf_put_at(s, "a", "v", 40), ERR_OK);
    memset(&watch, 0, sizeof watch);
    watch.store = s;
    watch.write_lsn = 41;
    assert_int_equal(store_checkpoint(s, &lsn), ERR_OK);
    watch.store = NULL;
    assert_int_equal(watch.logs, 1);
    assert_int_equal(watch.dirs, 1);
    assert_int_equal(watch.after_dir, 0);
    assert_int_equal(watch.marked_early, 0);
    assert_int_equal(lsn, 40); /* not 41: that came when the log was being synced */
    assert_int_equal(store_applied(s), 41);
    assert_int_equal(store_checkpointed(s), 40);
    assert_int_equal(checkpoint_of_image(), 40);
    store_close(s);
    s = sf_open(dir);
    assert_int_equal(store_checkpointed(s), 40);
    assert_int_equal(store_applied(s), 41);
    watch.store = s;
    watch.logs = 0;
    assert_int_equal(store_checkpoint(s, &lsn), ERR_OK);
    assert_int_equal(lsn, 41);
    unsigned logs = watch.logs;
    assert_int_equal(store_checkpoint(s, &lsn), ERR_OK); /* nothing new: nothing is synced */
    assert_int_equal(watch.logs, logs);
    watch.store = NULL;
    store_close(s);
}

static void a_checkpoint_that_fails_fails_the_store_and_marks_nothing(void **state)
{
    (void)state;
    long n;
    for (n = 1;; n++) {
        sf_empty_dir(dir);
        struct store *s = sf_open(dir);
        uint64_t lsn = 0;
        assert_int_equal(sf_put_at(s, "a", "v", 1), ERR_OK);
        assert_int_equal(store_checkpoint(s, &lsn), ERR_OK);
        assert_int_equal(sf_put_at(s, "a", "w", 2), ERR_OK);
        fault_arm(FAULT_FILE, n, EIO);
        enum err e = store_checkpoint(s, &lsn);
        int fired = fault_fired(FAULT_FILE);
        fault_disarm(FAULT_FILE);
        if (!fired) {
            assert_int_equal(e, ERR_OK);
            assert_int_equal(lsn, 2);
            store_close(s);
            break;
        }
        struct blob *b;
        struct store_iter *it;
        assert_int_equal(e, ERR_IO);
        assert_int_equal(lsn, 1);
        assert_int_equal(store_checkpointed(s), 1);
        assert_int_equal(store_failed(s), ERR_IO);
        assert_int_equal(store_get(s, bytes_str("a"), &b), ERR_IO); /* for good */
        assert_null(b);
        assert_int_equal(store_iter_new(s, &it), ERR_IO);
        assert_null(it);
        assert_int_equal(sf_put_at(s, "a", "x", 3), ERR_IO);
        assert_int_equal(store_checkpoint(s, &lsn), ERR_IO);
        assert_int_equal(store_applied(s), 2);
        store_close(s);
        s = sf_open(dir);
        assert_int_equal(store_checkpointed(s), 1);
        assert_int_equal(store_applied(s), 2);
        assert_value(s, "a", "w", 2);
        store_close(s);
    }
    assert_true(n >= 5); /* list, open, sync, close, directory */
}

/* Between the list and its turn. A directory that is gone is another matter. */
static void a_log_that_is_gone_before_it_is_synced_was_replaced(void **state)
{
    (void)state;
    unsigned passed = 0, refused = 0;
    for (long n = 1; !passed; n++) {
        sf_empty_dir(dir);
        struct store *s = sf_open(dir);
        struct blob *b;
        uint64_t lsn;
        assert_int_equal(sf_put_at(s, "a", "v", 1), ERR_OK);
        fault_arm(FAULT_FILE, n, ENOENT);
        enum err e = store_checkpoint(s, &lsn);
        assert_true(fault_fired(FAULT_FILE));
        fault_disarm(FAULT_FILE);
        if (e) {
            refused++;
            assert_int_equal(e, ERR_IO);
            assert_int_equal(store_get(s, bytes_str("a"), &b), ERR_IO); /* not NOTFOUND */
        } else {
            passed++;
            assert_int_equal(lsn, 1);
            assert_value(s, "a", "v", 1);
        }
        store_close(s);
    }
    assert_true(refused >= 1);
}

/* ---- failure ---- */

static void a_write_that_fails_fails_the_store_until_it_is_opened_anew(void **state)
{
    (void)state;
    struct rlimit old, low;
    struct blob *b;
    struct store *s = sf_open(dir);
    char big[70000];
    memset(big, 'x', sizeof big);
    big[sizeof big - 1] = '\0';
    assert_int_equal(sf_put_at(s, "a", "before", 1), ERR_OK);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    low = old;
    low.rlim_cur = 16384; /* the disk is full, as far as this process goes */
    setrlimit(RLIMIT_FSIZE, &low);
    enum err e = sf_put_at(s, "a", big, 2);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(e, ERR_IO);
    assert_int_equal(store_applied(s), 1);
    assert_int_equal(store_failed(s), ERR_IO);
    assert_int_equal(store_get(s, bytes_str("a"), &b), ERR_IO); /* "before" is not the truth any more */
    assert_int_equal(sf_put_at(s, "a", "after", 3), ERR_IO);
    store_close(s);
    s = sf_open(dir);
    assert_int_equal(store_applied(s), 1);
    assert_value(s, "a", "before", 1);
    assert_int_equal(sf_put_at(s, "a", "replayed", 3), ERR_OK);
    assert_value(s, "a", "replayed", 3);
    store_close(s);
}

static void script(struct store *s)
{
    struct store_batch *b;
    struct store_iter *it;
    struct blob *v;
    uint64_t lsn, applied = store_applied(s);
    enum err e = store_batch_new(&b);
    if (!e) {
        char big[3000];
        memset(big, 'x', sizeof big);
        store_batch_put(b, bytes_str("a"), bytes_str("v"), 1);
        store_batch_put(b, bytes_str("b"), bytes_of(big, sizeof big), 1);
        e = store_write(s, b, applied + 1);
        assert_int_equal(store_applied(s), e ? applied : applied + 1);
        if (e)
            assert_int_equal(store_get(s, bytes_str("a"), &v), ERR_NOTFOUND); /* nothing, not a half */
        if (e) {
            store_batch_put(b, bytes_str("a"), bytes_str("v"), 1); /* the batch can be used again */
            store_batch_put(b, bytes_str("b"), bytes_of(big, sizeof big), 1);
            assert_int_equal(store_write(s, b, applied + 1), ERR_OK);
        }
        store_batch_free(b);
    } else {
        assert_int_equal(e, ERR_OOM);
        assert_null(b);
        assert_int_equal(sf_put_at(s, "a", "v", 1), ERR_OK);
        assert_int_equal(sf_put_at(s, "b", "v", 1), ERR_OK);
    }
    e = store_get(s, bytes_str("b"), &v);
    assert_true(e == ERR_OK || (e == ERR_OOM && !v));
    blob_unref(v);
    e = store_iter_new(s, &it);
    assert_true(e == ERR_OK || (e == ERR_OOM && !it));
    store_iter_free(it);
    e = store_checkpoint(s, &lsn);
    assert_true(e == ERR_OK || e == ERR_OOM);
    assert_int_equal(store_failed(s), ERR_OK); /* no memory is no damage */
    assert_int_equal(store_checkpoint(s, &lsn), ERR_OK);
    assert_int_equal(lsn, store_applied(s));
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    long n;
    for (n = 1;; n++) {
        sf_empty_dir(dir);
        struct store *s = sf_open(dir);
        assert_int_equal(sf_put_at(s, "z", "v", 1), ERR_OK);
        store_close(s);
        fault_arm(FAULT_MEM, n, 1);
        enum err e = sf_try_open(dir, &s);
        if (e) {
            assert_int_equal(e, ERR_OOM);
            assert_null(s);
            s = sf_open(dir);
        }
        script(s);
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        store_close(s);
        if (!fired)
            break;
    }
    assert_true(n > 8);
}

static void every_file_operation_of_opening_may_fail(void **state)
{
    (void)state;
    long n;
    struct store *s = sf_open(dir);
    assert_int_equal(sf_put_at(s, "z", "v", 1), ERR_OK);
    store_close(s);
    for (n = 1;; n++) {
        fault_arm(FAULT_FILE, n, EIO);
        enum err e = sf_try_open(dir, &s);
        int fired = fault_fired(FAULT_FILE);
        fault_disarm(FAULT_FILE);
        if (!fired) {
            assert_int_equal(e, ERR_OK);
            store_close(s);
            break;
        }
        assert_int_equal(e, ERR_IO); /* and not CORRUPT, which would have the store deleted */
        assert_null(s);
    }
    assert_true(n > 8);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(values_come_back_with_their_lsn),
        TEST(a_batch_is_written_as_a_whole_and_cleared),
        TEST(a_scan_is_ordered_and_hides_the_stores_own_keys),
        TEST(properties_are_told_as_text),
        TEST(a_store_is_opened_once),
        TEST(a_checkpoint_is_marked_after_everything_is_synced),
        TEST(a_checkpoint_that_fails_fails_the_store_and_marks_nothing),
        TEST(a_log_that_is_gone_before_it_is_synced_was_replaced),
        TEST(a_write_that_fails_fails_the_store_until_it_is_opened_anew),
        TEST(every_allocation_may_fail),
        TEST(every_file_operation_of_opening_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
