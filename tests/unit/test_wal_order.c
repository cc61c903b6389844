/* The log's system calls, in order: which write is synced before which other is begun decides what a power loss may
 * leave. The expected sequences are those of "Order of writes" in docs/log.md.
 *
 * The calls are caught by functions of the same names in this program, which the dynamic linker prefers to libc's. Each
 * is noted as "w name" for the thread that runs the test and "h name" for the log's helper; names of segments are
 * shortened to their LSN.
 */
#include "wal_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "engine/wal_impl.h"

static pthread_mutex_t trace_lock = PTHREAD_MUTEX_INITIALIZER;
static char trace[65536];
static size_t traced;
static int tracing;
static pthread_t writer;

static const char *shorten(const char *path, char out[32])
{
    const char *name = strrchr(path, '/');
    uint64_t lsn;
    name = name ? name + 1 : path;
    if (strncmp(name, "coffer-wal-", 11) == 0)
        name = "DIR";
    if (wal_segment_parse_name(name, &lsn))
        snprintf(out, 32, "%llu", (unsigned long long)lsn);
    else
        snprintf(out, 32, "%.31s", name);
    return out;
}

static void note(const char *what, const char *path)
{
    char name[32];
    pthread_mutex_lock(&trace_lock);
    if (tracing)
        traced += (size_t)snprintf(trace + traced, sizeof trace - traced, "%c %s %s\n",
                                   pthread_equal(pthread_self(), writer) ? 'w' : 'h', what, shorten(path, name));
    assert_true(traced < sizeof trace);
    pthread_mutex_unlock(&trace_lock);
}

static void note_fd(const char *what, int fd)
{
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0)
        return;
    path[n] = '\0';
    note(what, path);
}

int fdatasync(int fd)
{
    note_fd("sync", fd);
    return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    note_fd("sync", fd);
    return (int)syscall(SYS_fsync, fd);
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t off)
{
    note_fd("write", fd);
    return syscall(SYS_pwritev, fd, iov, count, (long)off, 0L);
}

ssize_t pread(int fd, void *p, size_t n, off_t off)
{
    note_fd("read", fd);
    return syscall(SYS_pread64, fd, p, n, (long)off);
}

int posix_fadvise(int fd, off_t off, off_t n, int advice)
{
    note_fd(advice == POSIX_FADV_DONTNEED ? "drop" : "advise", fd);
    return (int)-syscall(SYS_fadvise64, fd, (long)off, (long)n, advice);
}

int ftruncate(int fd, off_t size)
{
    note_fd("truncate", fd);
    return (int)syscall(SYS_ftruncate, fd, (long)size);
}

int unlink(const char *path)
{
    note("unlink", path);
    return (int)syscall(SYS_unlink, path);
}

int rename(const char *from, const char *to)
{
    char what[64], name[32];
    snprintf(what, sizeof what, "rename %s", shorten(from, name));
    note(what, to);
    return (int)syscall(SYS_rename, from, to);
}

static void trace_begin(void)
{
    pthread_mutex_lock(&trace_lock);
    writer = pthread_self();
    traced = 0;
    trace[0] = '\0';
    tracing = 1;
    pthread_mutex_unlock(&trace_lock);
}

/* Ends the trace; only lines that begin with prefix, or hold it as their last word, are kept. NULL: all. */
static const char *trace_end(const char *prefix, const char *name)
{
    static char kept[sizeof trace];
    size_t n = 0, name_n = name ? strlen(name) : 0;
    pthread_mutex_lock(&trace_lock);
    tracing = 0;
    for (char *line = trace; *line;) {
        char *end = strchr(line, '\n');
        size_t len = (size_t)(end - line);
        int wanted =
            (!prefix || strncmp(line, prefix, strlen(prefix)) == 0) &&
            (!name || (len > name_n && line[len - name_n - 1] == ' ' && memcmp(end - name_n, name, name_n) == 0));
        if (wanted) {
            memcpy(kept + n, line + 2, len - 1); /* without the thread's letter */
            n += len - 1;
        }
        line = end + 1;
    }
    kept[n] = '\0';
    pthread_mutex_unlock(&trace_lock);
    return kept;
}

/* The helper has prepared the next segment, and does nothing more until it is told to. */
static void settle(struct wal *w)
{
    while (atomic_load(&w->prepare.ready_bytes) == 0)
        sched_yield();
    pthread_mutex_lock(&w->prepare.lock);
    pthread_mutex_unlock(&w->prepare.lock);
}

static enum err give(void *oracle, uint64_t from, uint64_t to, struct buf *out)
{
    struct bytes raw = oracle_bytes(oracle, from, to);
    return buf_put(out, raw.p, raw.n);
}

static void every_step_comes_after_what_it_relies_on(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct oracle *o = malloc(sizeof *o);

    assert_non_null(o);
    fx_make_dir(dir);
    oracle_init(o, 1, NULL);
    struct wal_config cfg = fx_config(dir, 4096);
    const char *parent = strncmp(dir, "/dev/shm", 8) == 0 ? "sync shm\n" : "sync tmp\n";

    trace_begin();
    struct wal *w = fx_open(&cfg, NULL);
    const char *got = trace_end("w", NULL);
    char want[512];
    snprintf(want, sizeof want, "%s%s%s",
             "read boot_id\nread boot_id\nwrite mark\nsync mark\nsync DIR\nsync mark\ndrop mark\nread mark\n", parent,
             "unlink mend\nunlink next\nwrite next\nsync next\n");
    assert_string_equal(got, want);

    trace_begin();
    assert_int_equal(fx_append(w, o, 3, 1, 100), ERR_OK); /* the first segment is begun, then the group */
    assert_string_equal(trace_end("w", NULL), "write next\nsync next\nrename next 1\nsync DIR\nwrite 1\nsync 1\n");
    settle(w);
    trace_begin();
    assert_int_equal(fx_append(w, o, 3, 1, 100), ERR_OK);
    assert_string_equal(trace_end(NULL, NULL), "write 1\nsync 1\n");

    trace_begin();
    assert_int_equal(fx_append(w, o, 1, 1, 3500), ERR_OK); /* does not fit */
    settle(w);
    assert_string_equal(trace_end("w", NULL), "write 1\ntruncate 1\nsync 1\nwrite next\nsync next\nrename next 7\n"
                                              "sync DIR\nwrite 7\nsync 7\n");

    assert_int_equal(fx_append(w, o, 1, 1, 3500), ERR_OK);
    settle(w);
    assert_int_equal(fx_append(w, o, 1, 1, 3500), ERR_OK); /* segments 1, 7, 8, 9 */
    settle(w);
    trace_begin();
    assert_int_equal(wal_cut(w, 4), ERR_OK); /* in the middle of a group of segment 1 */
    settle(w);
    assert_string_equal(trace_end("w", NULL),
                        "write next\nread 1\nwrite next\nsync next\nsync mark\nunlink 9\nsync DIR\nunlink 8\n"
                        "sync DIR\nunlink 7\nsync DIR\nsync next\nrename next 1\nsync DIR\n");
    oracle_cut(o, 4);

    assert_int_equal(fx_append(w, o, 1, 1, 3500), ERR_OK);
    settle(w);
    assert_int_equal(fx_append(w, o, 1, 1, 3500), ERR_OK); /* segments 1, 5, 6 */
    settle(w);
    trace_begin();
    assert_int_equal(wal_mend(w, 5, give, o), ERR_OK);
    assert_string_equal(trace_end(NULL, NULL), "write mend\nwrite mend\nwrite mend\ntruncate mend\nsync mend\n"
                                               "drop mend\nread mend\nrename mend 5\nsync DIR\n");

    trace_begin();
    assert_int_equal(wal_remove_below(w, 6), ERR_OK);
    assert_string_equal(trace_end(NULL, NULL), "unlink 1\nsync DIR\nunlink 5\nsync DIR\n");

    trace_begin();
    wal_close(w);
    assert_string_equal(trace_end(NULL, NULL), "sync mark\n");
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

static void the_helper_writes_and_syncs_what_it_prepares(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct oracle *o = malloc(sizeof *o);

    assert_non_null(o);
    fx_make_dir(dir);
    oracle_init(o, 1, NULL);
    struct wal_config cfg = fx_config(dir, (2 << 20) + 4096);
    struct wal *w = fx_open(&cfg, NULL);
    trace_begin();
    assert_int_equal(fx_append(w, o, 1, 1, 100), ERR_OK);
    settle(w);
    assert_string_equal(trace_end("h", NULL), "unlink next\nwrite next\nsync next\nwrite next\nsync next\n"
                                              "write next\nsync next\n");
    wal_close(w);
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

/* At the start each file is synced and dropped before a byte of it is believed, and a torn tail is zeroed and synced
 * before anything else is written. */
static void what_is_read_at_open_is_what_is_on_the_disk(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES], names[8][WAL_NAME_BYTES], name[32];
    struct oracle *o = malloc(sizeof *o);
    struct buf file;

    assert_non_null(o);
    fx_make_dir(dir);
    oracle_init(o, 1, NULL);
    struct wal_config cfg = fx_config(dir, 4096);
    struct wal *w = fx_open(&cfg, NULL);
    for (int i = 0; i < 4; i++)
        assert_int_equal(fx_append(w, o, 1, 1, 3000), ERR_OK);
    wal_close(w);
    size_t n = fx_segments(dir, names, 8);
    assert_int_equal(n, 4);
    fx_read(dir, names[3], &file);
    buf_data(&file)[buf_size(&file) - 1] = 1;
    fx_write(dir, names[3], buf_bytes(&file));
    buf_fini(&file);

    for (size_t i = 0; i < n; i++) {
        trace_begin();
        w = fx_open(&cfg, NULL);
        const char *got = trace_end(NULL, shorten(names[i], name));
        char want[128];
        snprintf(want, sizeof want, "sync %s\ndrop %s\nread %s\n", name, name, name);
        if (strncmp(got, want, strlen(want)) != 0)
            fail_msg("%s: %s", name, got);
        if (i == 0) { /* the first open mends the tail */
            trace[traced] = '\0';
            assert_non_null(strstr(trace, "w write 4\nw sync 4\n"));
            assert_true(strstr(trace, "w sync 4\n") < strstr(trace, "w unlink next\n"));
        }
        wal_close(w);
    }
    fx_remove_dir(dir);
    oracle_fini(o);
    free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_step_comes_after_what_it_relies_on),
        cmocka_unit_test(the_helper_writes_and_syncs_what_it_prepares),
        cmocka_unit_test(what_is_read_at_open_is_what_is_on_the_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
