#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.c" /* for parent_of: a test should not write into the root directory */

static char dir[64];

/* A path in the test's directory; one of four buffers, in turn. */
static const char *at(const char *name)
{
    static char path[4][PATH_MAX];
    static unsigned turn;
    char *p = path[turn++ % 4];
    snprintf(p, PATH_MAX, "%s/%s", dir, name);
    return p;
}

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/test_file.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    char **names;
    size_t count;
    (void)state;
    fault_disarm(FAULT_FILE);
    fault_disarm(FAULT_MEM);
    if (file_list(dir, &names, &count) != ERR_OK)
        return -1;
    for (size_t i = 0; i < count; i++)
        remove(at(names[i]));
    file_free_names(names, count);
    return rmdir(dir);
}

static int open_new(const char *name)
{
    int fd;
    assert_int_equal(file_open(at(name), O_RDWR | O_CREAT | O_EXCL, 0600, &fd), ERR_OK);
    assert_true(fd >= 0);
    return fd;
}

static void assert_content(const char *name, const void *want, size_t n)
{
    struct buf b;
    buf_init(&b, SIZE_MAX);
    assert_int_equal(file_read_all(at(name), &b, 1 << 24), ERR_OK);
    assert_int_equal(buf_size(&b), n);
    if (n)
        assert_memory_equal(buf_data(&b), want, n);
    buf_fini(&b);
}

static int exists(const char *name)
{
    return access(at(name), F_OK) == 0;
}

static int open_descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) != -1;
    return n;
}

static void open_reports_and_sets_cloexec(void **state)
{
    int fd = 5;
    (void)state;
    assert_int_equal(file_open(at("none"), O_RDONLY, 0, &fd), ERR_NOTFOUND);
    assert_int_equal(fd, -1);
    assert_int_equal(file_errno(), ENOENT);
    fd = open_new("f");
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(file_close(fd), ERR_OK);
    assert_int_equal(file_open(at("f"), O_RDWR | O_CREAT | O_EXCL, 0600, &fd), ERR_IO);
    assert_int_equal(file_errno(), EEXIST);
}

static void close_checks_its_result(void **state)
{
    (void)state;
    assert_int_equal(file_close(-1), ERR_OK);
    int fd = open_new("f");
    assert_int_equal(file_close(fd), ERR_OK);
    assert_int_equal(file_close(fd), ERR_IO);
    assert_int_equal(file_errno(), EBADF);
}

static void reads_and_writes_at_offsets(void **state)
{
    char back[20] = "....................";
    size_t got = 99;
    uint64_t size = 99;
    (void)state;
    int fd = open_new("f");
    assert_int_equal(file_pwrite(fd, NULL, 0, 7), ERR_OK);
    assert_int_equal(file_pwrite(fd, "world", 5, 6), ERR_OK);
    assert_int_equal(file_pwrite(fd, "hello ", 6, 0), ERR_OK);
    assert_int_equal(file_size(fd, &size), ERR_OK);
    assert_int_equal(size, 11);
    assert_int_equal(file_pread(fd, back, 5, 3, &got), ERR_OK);
    assert_int_equal(got, 5);
    assert_memory_equal(back, "lo wo.", 6);
    assert_int_equal(file_pread(fd, back, sizeof back, 0, &got), ERR_OK);
    assert_int_equal(got, 11);
    assert_memory_equal(back, "hello world.", 12);
    assert_int_equal(file_pread(fd, back, sizeof back, 11, &got), ERR_OK);
    assert_int_equal(got, 0);
    assert_int_equal(file_truncate(fd, 5), ERR_OK);
    assert_int_equal(file_truncate(fd, 8), ERR_OK);
    assert_int_equal(file_fdatasync(fd), ERR_OK);
    assert_int_equal(file_fsync(fd), ERR_OK);
    assert_int_equal(file_close(fd), ERR_OK);
    assert_content("f", "hello\0\0\0", 8);
}

static void offsets_beyond_the_possible_are_refused(void **state)
{
    char c;
    size_t got = 1;
    (void)state;
    int fd = open_new("f");
    assert_int_equal(file_pwrite(fd, "x", 1, UINT64_MAX), ERR_IO);
    assert_int_equal(file_errno(), EINVAL);
    assert_int_equal(file_pread(fd, &c, 1, UINT64_MAX, &got), ERR_IO);
    assert_int_equal(got, 0);
    assert_int_equal(file_truncate(fd, UINT64_MAX), ERR_IO);
    assert_int_equal(file_close(fd), ERR_OK);
}

/* More pieces than one system call takes, some of them empty. */
static void pwritev_takes_any_number_of_pieces(void **state)
{
    enum { PIECES = 2 * IOV_MAX + 77 };
    static struct iovec iov[PIECES];
    static char data[3 * PIECES];
    size_t n = 0;
    (void)state;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char)(i % 251);
    for (size_t i = 0; i < PIECES; i++) {
        iov[i] = (struct iovec){.iov_base = data + n, .iov_len = i % 4};
        n += i % 4;
    }
    int fd = open_new("f");
    assert_int_equal(file_pwritev(fd, iov, PIECES, 3), ERR_OK);
    assert_int_equal(file_pwrite(fd, "abc", 3, 0), ERR_OK);
    assert_int_equal(file_pwritev(fd, iov, 0, 0), ERR_OK);
    assert_int_equal(file_close(fd), ERR_OK);
    struct buf b;
    buf_init(&b, SIZE_MAX);
    assert_int_equal(file_read_all(at("f"), &b, SIZE_MAX), ERR_OK);
    assert_int_equal(buf_size(&b), 3 + n);
    assert_memory_equal(buf_data(&b), "abc", 3);
    assert_memory_equal(buf_data(&b) + 3, data, n);
    buf_fini(&b);
}

/* The kernel takes what fits under RLIMIT_FSIZE, then refuses: the rest of a short write was asked for. */
static void a_short_write_goes_on(void **state)
{
    struct rlimit was, low;
    static uint8_t data[8192];
    uint64_t size;
    (void)state;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i % 253);
    int fd = open_new("f");
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &was);
    low = was;
    low.rlim_cur = 5000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    struct iovec iov[2] = {{data, 3000}, {data + 3000, 5192}};
    enum err e = file_pwritev(fd, iov, 2, 0);
    int error = file_errno();
    setrlimit(RLIMIT_FSIZE, &was);
    assert_int_equal(e, ERR_IO);
    assert_int_equal(error, EFBIG);
    assert_ptr_equal(iov[1].iov_base, data + 5000); /* used up to there */
    assert_int_equal(iov[1].iov_len, 3192);
    assert_int_equal(file_size(fd, &size), ERR_OK);
    assert_int_equal(size, 5000);
    assert_int_equal(file_pwritev(fd, iov + 1, 1, 5000), ERR_OK);
    assert_int_equal(file_close(fd), ERR_OK);
    assert_content("f", data, sizeof data);
}

static void a_full_disk_is_misconf(void **state)
{
    int fd;
    (void)state;
    assert_int_equal(file_open("/dev/full", O_WRONLY, 0, &fd), ERR_OK);
    assert_int_equal(file_pwrite(fd, "x", 1, 0), ERR_MISCONF);
    assert_int_equal(file_errno(), ENOSPC);
    assert_int_equal(file_close(fd), ERR_OK);
    fault_arm(FAULT_FILE, 1, EDQUOT);
    assert_int_equal(file_fsync(-1), ERR_MISCONF);
}

static void names_are_made_moved_and_removed(void **state)
{
    (void)state;
    assert_int_equal(file_mkdir(at("d"), 0700), ERR_OK);
    assert_int_equal(file_mkdir(at("d"), 0700), ERR_OK);
    assert_int_equal(file_mkdir(at("none/d"), 0700), ERR_NOTFOUND);
    assert_int_equal(file_sync_dir(at("d")), ERR_OK);
    assert_int_equal(file_sync_dir(at("none")), ERR_NOTFOUND);
    assert_int_equal(file_close(open_new("f")), ERR_OK);
    assert_int_equal(file_sync_dir(at("f")), ERR_IO);
    assert_int_equal(file_errno(), ENOTDIR);
    assert_int_equal(file_mkdir(at("f"), 0700), ERR_IO); /* exists, but is no directory */
    assert_int_equal(file_errno(), EEXIST);
    assert_int_equal(file_rename(at("f"), at("g")), ERR_OK);
    assert_int_equal(file_rename(at("f"), at("g")), ERR_NOTFOUND);
    assert_false(exists("f"));
    assert_int_equal(file_unlink(at("g")), ERR_OK);
    assert_int_equal(file_unlink(at("g")), ERR_NOTFOUND);
    assert_int_equal(file_unlink(at("d")), ERR_IO);
}

/* Each single operation fails when told to, leaves safe values, and does nothing (close: does what it can). */
static void each_operation_is_a_fault_point(void **state)
{
    int fd = open_new("f"), other = 5;
    char c = 'c';
    size_t got = 1;
    uint64_t size = 1;
    struct iovec iov = {"y", 1};
    char **names = (char **)&c;
    struct buf b;
    (void)state;
    buf_init(&b, 100);
#define FAILS(call)                                   \
    do {                                              \
        fault_arm(FAULT_FILE, 1, EIO);                \
        assert_int_equal(call, ERR_IO);               \
        assert_int_equal(file_errno(), EIO);          \
        assert_int_equal(fault_fired(FAULT_FILE), 1); \
    } while (0)
    FAILS(file_open(at("new"), O_RDWR | O_CREAT, 0600, &other));
    assert_int_equal(other, -1);
    assert_false(exists("new"));
    FAILS(file_pread(fd, &c, 1, 0, &got));
    assert_int_equal(got, 0);
    FAILS(file_pwrite(fd, "x", 1, 0));
    FAILS(file_pwritev(fd, &iov, 1, 0));
    FAILS(file_fdatasync(fd));
    FAILS(file_fsync(fd));
    FAILS(file_size(fd, &size));
    assert_int_equal(size, 0);
    FAILS(file_rename(at("f"), at("g")));
    FAILS(file_unlink(at("f")));
    assert_true(exists("f"));
    FAILS(file_mkdir(at("d"), 0700));
    assert_false(exists("d"));
    FAILS(file_sync_dir(dir));
    FAILS(file_truncate(fd, 100));
    FAILS(file_read_all(at("f"), &b, 100));
    FAILS(file_write_atomic(at("g"), bytes_str("x"), 0600));
    assert_false(exists("g"));
    FAILS(file_list(dir, &names, &got));
    assert_null(names);
    assert_int_equal(got, 0);
    int before = open_descriptors();
    FAILS(file_close(fd));
    assert_int_equal(open_descriptors(), before - 1);
#undef FAILS
    assert_content("f", "", 0);
    buf_fini(&b);
}

static void write_file(const char *name, const void *p, size_t n)
{
    int fd = open_new(name);
    assert_int_equal(file_pwrite(fd, p, n, 0), ERR_OK);
    assert_int_equal(file_close(fd), ERR_OK);
}

static void read_all_appends_up_to_the_limit(void **state)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 8192, 20000};
    static uint8_t data[20000];
    (void)state;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 31 % 255);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t n = sizes[k];
        struct buf b;
        buf_init(&b, SIZE_MAX);
        write_file("f", data, n);
        assert_int_equal(buf_put(&b, "before", 6), ERR_OK);
        assert_int_equal(file_read_all(at("f"), &b, n), ERR_OK);
        assert_int_equal(buf_size(&b), 6 + n);
        assert_memory_equal(buf_data(&b), "before", 6);
        assert_memory_equal(buf_data(&b) + 6, data, n);
        buf_truncate(&b, 6);
        if (n) {
            assert_int_equal(file_read_all(at("f"), &b, n - 1), ERR_TOOBIG);
            assert_int_equal(buf_size(&b), 6);
        }
        b.limit = 6 + n; /* the buffer's own limit counts too */
        assert_int_equal(file_read_all(at("f"), &b, SIZE_MAX), ERR_OK);
        assert_int_equal(buf_size(&b), 6 + n);
        buf_truncate(&b, 6);
        b.limit = 6 + n - (n > 0);
        assert_int_equal(file_read_all(at("f"), &b, SIZE_MAX), n ? ERR_TOOBIG : ERR_OK);
        assert_int_equal(buf_size(&b), 6);
        buf_fini(&b);
        assert_int_equal(file_unlink(at("f")), ERR_OK);
    }
    struct buf b;
    buf_init(&b, 100);
    assert_int_equal(file_read_all(at("none"), &b, 100), ERR_NOTFOUND);
    assert_int_equal(file_read_all(dir, &b, 100), ERR_IO);
    assert_int_equal(file_errno(), EISDIR);
    buf_fini(&b);
}

/* Files of /proc and of credential stores have size 0 for stat. */
static void read_all_does_not_trust_the_size(void **state)
{
    struct buf b;
    (void)state;
    buf_init(&b, 1 << 16);
    assert_int_equal(file_read_all("/proc/self/status", &b, 1 << 16), ERR_OK);
    assert_true(buf_size(&b) > 10);
    assert_memory_equal(buf_data(&b), "Name:", 5);
    buf_fini(&b);
}

static void read_all_fills_secret_buffers_and_wipes_on_failure(void **state)
{
    struct buf b;
    (void)state;
    write_file("pin", "1234567890", 10);
    buf_init_secret(&b, 4096);
    assert_int_equal(file_read_all(at("pin"), &b, 4096), ERR_OK);
    assert_memory_equal(buf_data(&b), "1234567890", 10);
    buf_clear(&b);
    assert_int_equal(file_read_all(at("pin"), &b, 9), ERR_TOOBIG);
    for (size_t i = 0; i < b.cap; i++)
        assert_int_equal(b.mem[i], 0);
    buf_fini(&b);
}

static void write_atomic_makes_and_replaces(void **state)
{
    struct stat st;
    char long_name[PATH_MAX];
    (void)state;
    umask(022);
    assert_int_equal(file_write_atomic(at("f"), bytes_str("first"), 0640), ERR_OK);
    assert_content("f", "first", 5);
    assert_int_equal(stat(at("f"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(file_write_atomic(at("f"), bytes_of(NULL, 0), 0600), ERR_OK);
    assert_content("f", "", 0);
    assert_int_equal(stat(at("f"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_false(exists("f.tmp"));
    assert_int_equal(file_write_atomic(at("none/f"), bytes_str("x"), 0600), ERR_NOTFOUND);
    memset(long_name, 'n', sizeof long_name);
    long_name[sizeof long_name - 1] = '\0';
    assert_int_equal(file_write_atomic(long_name, bytes_str("x"), 0600), ERR_IO);
    assert_int_equal(file_errno(), ENAMETOOLONG);
}

static void write_atomic_syncs_the_right_directory(void **state)
{
    static const char *const pairs[][2] = {
        {"f", "."}, {"/f", "/"}, {"/d/f", "/d"}, {"d/f", "d"}, {"d/e/f", "d/e"}, {"./f", "."}, {"../f", ".."},
    };
    char here[PATH_MAX], path[PATH_MAX];
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        strcpy(path, pairs[i][0]);
        parent_of(path);
        assert_string_equal(path, pairs[i][1]);
    }
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(dir), 0);
    enum err e = file_write_atomic("bare", bytes_str("x"), 0600);
    assert_int_equal(chdir(here), 0);
    assert_int_equal(e, ERR_OK);
    assert_content("bare", "x", 1);
}

/* What a crash left behind neither stops the next write nor lends it its mode. */
static void write_atomic_removes_litter(void **state)
{
    struct stat st;
    (void)state;
    int fd = open_new("f.tmp");
    assert_int_equal(fchmod(fd, 0666), 0);
    assert_int_equal(file_pwrite(fd, "much longer litter", 18, 0), ERR_OK);
    assert_int_equal(file_close(fd), ERR_OK);
    assert_int_equal(file_write_atomic(at("f"), bytes_str("x"), 0600), ERR_OK);
    assert_content("f", "x", 1);
    assert_int_equal(stat(at("f"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_false(exists("f.tmp"));
}

/* At each operation in turn: the old or the new content is there, whole; nothing else; no descriptor is left open. */
static void write_atomic_fails_at_each_step(void **state)
{
    long n = 1;
    int descriptors = open_descriptors();
    (void)state;
    for (;; n++) {
        struct buf b;
        char **names;
        size_t count;
        assert_int_equal(file_write_atomic(at("f"), bytes_str("old"), 0600), ERR_OK);
        fault_arm(FAULT_FILE, n, ENOSPC);
        enum err e = file_write_atomic(at("f"), bytes_str("new!"), 0600);
        fault_disarm(FAULT_FILE);
        assert_int_equal(e, fault_fired(FAULT_FILE) ? ERR_MISCONF : ERR_OK);
        if (e)
            assert_int_equal(file_errno(), ENOSPC);
        buf_init(&b, 100);
        assert_int_equal(file_read_all(at("f"), &b, 100), ERR_OK);
        assert_true(bytes_equal(buf_bytes(&b), bytes_str("new!")) ||
                    (e && bytes_equal(buf_bytes(&b), bytes_str("old"))));
        buf_fini(&b);
        assert_int_equal(file_list(dir, &names, &count), ERR_OK);
        assert_int_equal(count, 1);
        file_free_names(names, count);
        assert_int_equal(open_descriptors(), descriptors);
        if (!fault_fired(FAULT_FILE))
            break;
    }
    assert_int_equal(n - 1, 9); /* unlink, open, write, fsync, close, rename, and open, fsync, close of the directory */
}

static void read_all_fails_at_each_step(void **state)
{
    static const enum fault_kind kinds[] = {FAULT_FILE, FAULT_MEM};
    static uint8_t data[10000];
    int descriptors = open_descriptors();
    (void)state;
    write_file("f", data, sizeof data);
    for (int k = 0; k < 2; k++) {
        long n = 1;
        for (;; n++) {
            struct buf b;
            buf_init(&b, 1 << 20);
            fault_arm(kinds[k], n, EIO);
            enum err e = file_read_all(at("f"), &b, 1 << 20);
            fault_disarm(kinds[k]);
            assert_int_equal(e, !fault_fired(kinds[k]) ? ERR_OK : kinds[k] == FAULT_MEM ? ERR_OOM : ERR_IO);
            assert_int_equal(buf_size(&b), e ? 0 : sizeof data);
            buf_fini(&b);
            assert_int_equal(open_descriptors(), descriptors);
            if (!fault_fired(kinds[k]))
                break;
        }
        assert_true(n > 3);
    }
}

static void list_is_sorted_and_complete(void **state)
{
    enum { FILES = 50 };
    char **names, name[16];
    size_t count;
    (void)state;
    assert_int_equal(file_list(dir, &names, &count), ERR_OK);
    assert_int_equal(count, 0);
    file_free_names(names, count);
    file_free_names(NULL, 0);
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "%02d", i * 37 % FILES);
        assert_int_equal(file_close(open_new(name)), ERR_OK);
    }
    assert_int_equal(file_close(open_new(".hidden")), ERR_OK);
    assert_int_equal(file_list(dir, &names, &count), ERR_OK);
    assert_int_equal(count, FILES + 1);
    assert_string_equal(names[0], ".hidden");
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "%02d", i);
        assert_string_equal(names[i + 1], name);
    }
    file_free_names(names, count);
    assert_int_equal(file_list(at("none"), &names, &count), ERR_NOTFOUND);
    assert_int_equal(file_list(at("00"), &names, &count), ERR_IO);
    assert_int_equal(file_errno(), ENOTDIR);
}

static void list_fails_at_each_step(void **state)
{
    static const enum fault_kind kinds[] = {FAULT_FILE, FAULT_MEM};
    char name[16];
    int descriptors = open_descriptors();
    (void)state;
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "%02d", i);
        assert_int_equal(file_close(open_new(name)), ERR_OK);
    }
    for (int k = 0; k < 2; k++) {
        long n = 1;
        for (;; n++) {
            char **names = (char **)&names;
            size_t count = 7;
            fault_arm(kinds[k], n, EIO);
            enum err e = file_list(dir, &names, &count);
            fault_disarm(kinds[k]);
            assert_int_equal(e, !fault_fired(kinds[k]) ? ERR_OK : kinds[k] == FAULT_MEM ? ERR_OOM : ERR_IO);
            assert_int_equal(count, e ? 0 : 40);
            if (e)
                assert_null(names);
            file_free_names(names, count);
            assert_int_equal(open_descriptors(), descriptors);
            if (!fault_fired(kinds[k]))
                break;
        }
        assert_true(n > 40);
    }
}

#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(open_reports_and_sets_cloexec),
        FILE_TEST(close_checks_its_result),
        FILE_TEST(reads_and_writes_at_offsets),
        FILE_TEST(offsets_beyond_the_possible_are_refused),
        FILE_TEST(pwritev_takes_any_number_of_pieces),
        FILE_TEST(a_short_write_goes_on),
        FILE_TEST(a_full_disk_is_misconf),
        FILE_TEST(names_are_made_moved_and_removed),
        FILE_TEST(each_operation_is_a_fault_point),
        FILE_TEST(read_all_appends_up_to_the_limit),
        FILE_TEST(read_all_does_not_trust_the_size),
        FILE_TEST(read_all_fills_secret_buffers_and_wipes_on_failure),
        FILE_TEST(write_atomic_makes_and_replaces),
        FILE_TEST(write_atomic_syncs_the_right_directory),
        FILE_TEST(write_atomic_removes_litter),
        FILE_TEST(write_atomic_fails_at_each_step),
        FILE_TEST(read_all_fails_at_each_step),
        FILE_TEST(list_is_sorted_and_complete),
        FILE_TEST(list_fails_at_each_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
