/* Writing snapshot files: the same entries give the same bytes; what fails, at whatever operation, or is killed there,
 * leaves no file or a whole one. */
#include "snap_fixture.h"

#include <sys/wait.h>

static void file_of(const char *dir, uint64_t lsn, struct buf *out)
{
    char path[512];
    sx_path(path, dir, lsn);
    buf_init(out, 256 << 20);
    assert_int_equal(file_read_all(path, out, 256 << 20), ERR_OK);
}

static void a_file_holds_what_was_put_into_it(void **state)
{
    static const size_t counts[] = {0, 1, 2, 1000, 100000};
    char dir[FX_DIR_BYTES];
    (void)state;
    fx_make_dir(dir);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct sx_set s = {0};
        struct snapread_info info;
        sx_make(&s, counts[i], 100);
        sx_write(dir, 7 + i, &s);
        assert_int_equal(sx_files(dir), i + 1);
        struct snapread *r = sx_open(dir, 7 + i);
        sx_check(r, &s);
        snapread_info(r, &info);
        assert_int_equal(info.entries, counts[i]);
        assert_int_equal(info.header.lsn, 7 + i);
        assert_int_equal(info.blocks_verified, info.blocks);
        snapread_unref(r);
        sx_clear(&s);
    }
    fx_remove_dir(dir);
}

static void odd_sizes(void **state)
{
    enum { LONG = 2 + 4200, BIG = 1 << 20 };
    static uint8_t key[LONG], value[RECORD_MAX_BYTES];
    char dir[FX_DIR_BYTES];
    struct sx_set s = {0};
    (void)state;
    fx_make_dir(dir);
    memset(key, 'k', sizeof key);
    memset(value, 'v', sizeof value);
    for (uint8_t store = 0; store < 3; store++) { /* three bytes and more: with its store a key of one byte */
        key[0] = 0;
        key[1] = store;
        sx_add(&s, bytes_of(key, 3), bytes_of(value, store == 1 ? BIG : 0), 5);
        sx_add(&s, bytes_of(key, 4), bytes_of(value, 1), UINT64_MAX);
        sx_add(&s, bytes_of(key, LONG - 1), bytes_of(value, SNAPFILE_BLOCK_BYTES), 1);
        sx_add(&s, bytes_of(key, LONG), bytes_of(value, store == 2 ? RECORD_MAX_BYTES : 0), 0);
    }
    sx_write(dir, 1, &s);
    struct snapread *r = sx_open(dir, 1);
    sx_check(r, &s);
    snapread_unref(r);
    sx_clear(&s);
    fx_remove_dir(dir);
}

static void what_is_too_large_is_refused_for_good(void **state)
{
    static uint8_t bytes[RECORD_MAX_BYTES + 1] = {0, 0, 'k'};
    char dir[FX_DIR_BYTES];
    struct snapwrite_result result;
    struct snapwrite *w;
    (void)state;
    fx_make_dir(dir);
    struct snapwrite_config cfg = sx_config(dir, 1);
    struct snapfile_entry fine = {.key = bytes_of("\0\0a", 3)};
    for (int i = 0; i < 2; i++) {
        struct snapfile_entry large = {.key = bytes_of(bytes, i ? UINT16_MAX + 1 : 3),
                                       .value = bytes_of(bytes, i ? 0 : RECORD_MAX_BYTES + 1)};
        assert_int_equal(snapwrite_open(&w, &cfg), ERR_OK);
        assert_int_equal(snapwrite_add(w, &fine), ERR_OK);
        assert_int_equal(snapwrite_add(w, &large), ERR_TOOBIG);
        assert_int_equal(snapwrite_add(w, &fine), ERR_TOOBIG);
        assert_int_equal(snapwrite_finish(w, &result), ERR_TOOBIG);
        assert_int_equal(result.bytes, 0);
        assert_int_equal(sx_files(dir), 0);
    }
    fx_remove_dir(dir);
}

static void the_same_entries_give_the_same_bytes(void **state)
{
    char dir[2][FX_DIR_BYTES];
    struct sx_set s = {0};
    struct buf a, b;
    (void)state;
    sx_make(&s, 3000, 50);
    for (int i = 0; i < 2; i++) {
        fx_make_dir(dir[i]);
        sx_write(dir[i], 9, &s);
    }
    file_of(dir[0], 9, &a);
    file_of(dir[1], 9, &b);
    assert_true(bytes_equal(buf_bytes(&a), buf_bytes(&b)));
    buf_fini(&a);
    buf_fini(&b);
    for (int i = 0; i < 2; i++)
        fx_remove_dir(dir[i]);
    sx_clear(&s);
}

/* From the digest of the set before, with only what changed. */
static void a_known_digest_is_brought_along(void **state)
{
    char dir[FX_DIR_BYTES];
    struct sx_set s = {0};
    struct snapwrite_result first, second;
    struct snapwrite *w;
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 500, 50);
    struct snapwrite_config cfg = sx_config(dir, 1);
    assert_int_equal(sx_try_write(&cfg, &s, &first), ERR_OK);
    cfg = sx_config(dir, 2);
    assert_int_equal(snapwrite_open(&w, &cfg), ERR_OK);
    memcpy(snapwrite_digest(w), first.digest, sizeof first.digest);
    for (size_t i = 0; i < s.n; i++) {
        if (i % 10 == 0)
            snapfile_digest_sub(snapwrite_digest(w), &s.at[i]);
        if (i % 20 == 0)
            continue; /* is gone */
        s.at[i].lsn += i % 10 == 0;
        assert_int_equal(i % 10 ? snapwrite_add_known(w, &s.at[i]) : snapwrite_add(w, &s.at[i]), ERR_OK);
    }
    assert_int_equal(snapwrite_finish(w, &first), ERR_OK);
    struct sx_set left = {0};
    for (size_t i = 0; i < s.n; i++)
        if (i % 20)
            sx_add(&left, s.at[i].key, s.at[i].value, s.at[i].lsn);
    cfg = sx_config(dir, 3);
    assert_int_equal(sx_try_write(&cfg, &left, &second), ERR_OK);
    assert_memory_equal(first.digest, second.digest, sizeof first.digest);
    assert_memory_equal(first.content, second.content, sizeof first.content);
    sx_clear(&s);
    sx_clear(&left);
    fx_remove_dir(dir);
}

/* It was left alone: a damaged one kept its name, and the new one was dropped for it. */
static void a_damaged_file_under_the_name_is_replaced(void **state)
{
    char dir[FX_DIR_BYTES];
    struct sx_set s = {0};
    (void)state;
    fx_make_dir(dir);
    fx_write(dir, "00000000000000000001-3.snap", bytes_str("was here first, and is damaged"));
    sx_make(&s, 10, 10);
    sx_write(dir, 1, &s);
    struct snapread *r = sx_open(dir, 1);
    sx_check(r, &s);
    snapread_unref(r);
    assert_int_equal(sx_files(dir), 1);
    sx_clear(&s);
    fx_remove_dir(dir);
}

struct pacer {
    uint64_t bytes, calls, stop_at;
};

static enum err count_and_stop(void *arg, uint64_t bytes)
{
    struct pacer *p = arg;
    p->bytes += bytes;
    return ++p->calls == p->stop_at ? ERR_AGAIN : ERR_OK;
}

static void it_keeps_to_the_pace_and_stops_when_told(void **state)
{
    char dir[FX_DIR_BYTES];
    struct sx_set s = {0};
    struct snapwrite_result result;
    struct pacer p = {0};
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 3000, 100);
    struct snapwrite_config cfg = sx_config(dir, 1);
    cfg.pace = count_and_stop;
    cfg.pace_arg = &p;
    assert_int_equal(sx_try_write(&cfg, &s, &result), ERR_OK);
    assert_int_equal(p.calls, 2 * result.blocks); /* written, and read back */
    assert_true(result.blocks > 5 && p.bytes > result.bytes);
    fx_empty_dir(dir);
    for (uint64_t n = 1; n <= 2 * result.blocks; n++) {
        struct snapwrite_result none;
        p = (struct pacer){.stop_at = n};
        assert_int_equal(sx_try_write(&cfg, &s, &none), ERR_AGAIN);
        assert_int_equal(p.calls, n);
        assert_int_equal(sx_files(dir), 0);
    }
    sx_clear(&s);
    fx_remove_dir(dir);
}

static void without_a_signature_there_is_no_file(void **state)
{
    char dir[FX_DIR_BYTES];
    struct sx_set s = {0};
    struct snapwrite_result result;
    enum err answer = ERR_HSMDOWN;
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 100, 100);
    struct snapwrite_config cfg = sx_config(dir, 1);
    cfg.sign.arg = &answer;
    assert_int_equal(sx_try_write(&cfg, &s, &result), ERR_HSMDOWN);
    assert_int_equal(sx_files(dir), 0);
    sx_clear(&s);
    fx_remove_dir(dir);
}

/* ---- faults ---- */

static const struct {
    enum fault_kind kind;
    int code;
    enum err err;
} faults[] = {{FAULT_FILE, EIO, ERR_IO}, {FAULT_FILE, ENOSPC, ERR_MISCONF}, {FAULT_MEM, 1, ERR_OOM}};

/* What is under the final name, if anything, is whole; the rest is what a clean-up takes for its own. */
static int check_whole_or_not_there(const char *dir, const struct sx_set *s)
{
    struct snapread *r;
    char path[512];
    int there = 0;
    sx_path(path, dir, 1);
    assert_int_equal(snapwrite_clean(dir), ERR_OK);
    if (access(path, F_OK) == 0) {
        assert_int_equal(sx_try_open(path, &r), ERR_OK);
        sx_check(r, s);
        snapread_unref(r);
        there = 1;
    }
    assert_int_equal(sx_files(dir), (size_t)there);
    return there;
}

static void each_failure_leaves_nothing_or_all(void **state)
{
    char dir[FX_DIR_BYTES];
    struct sx_set s = {0};
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 1000, 100);
    struct snapwrite_config cfg = sx_config(dir, 1);
    for (size_t k = 0; k < sizeof faults / sizeof *faults; k++)
        for (long n = 1;; n++) {
            struct snapwrite_result result;
            fault_arm(faults[k].kind, n, faults[k].code);
            enum err e = sx_try_write(&cfg, &s, &result);
            int fired = fault_fired(faults[k].kind);
            fault_disarm(faults[k].kind);
            assert_true(e == ERR_OK || (fired && e == faults[k].err));
            size_t left = sx_files(dir); /* nothing half-made is left behind */
            assert_int_equal(check_whole_or_not_there(dir, &s), left);
            assert_true(e || left == 1);
            fx_empty_dir(dir);
            if (!fired) {
                assert_true(n > 10);
                break;
            }
        }
    sx_clear(&s);
    fx_remove_dir(dir);
}

static void each_death_leaves_nothing_or_all(void **state)
{
    char dir[FX_DIR_BYTES];
    struct sx_set s = {0};
    int fired = 1;
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 1000, 100);
    struct snapwrite_config cfg = sx_config(dir, 1);
    unsigned whole = 0, half = 0;
    for (long n = 1; fired; n++) {
        int status;
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            struct snapwrite_result result;
            fault_arm(FAULT_FILE, n, FAULT_DIE);
            (void)!sx_try_write(&cfg, &s, &result);
            _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        fired = WIFSIGNALED(status);
        half += fired && sx_files(dir) == 1;
        whole += (unsigned)check_whole_or_not_there(dir, &s);
        fx_empty_dir(dir);
    }
    assert_true(half > 10 && whole >= 2);
    sx_clear(&s);
    fx_remove_dir(dir);
}

static void what_comes_back_from_the_disk_must_be_what_was_written(void **state)
{
    char dir[FX_DIR_BYTES], path[512];
    struct sx_set s = {0};
    struct snapwrite *w;
    struct snapwrite_result result;
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 1000, 100);
    struct snapwrite_config cfg = sx_config(dir, 1);
    assert_int_equal(snapwrite_open(&w, &cfg), ERR_OK);
    for (size_t i = 0; i < s.n; i++)
        assert_int_equal(snapwrite_add(w, &s.at[i]), ERR_OK);
    fx_path(path, dir, "00000000000000000001-3.snap.tmp");
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "\xff", 1, 500), 1);
    close(fd);
    assert_int_equal(snapwrite_finish(w, &result), ERR_IO);
    assert_int_equal(sx_files(dir), 0);
    sx_clear(&s);
    fx_remove_dir(dir);
}

static void clean_removes_only_its_own(void **state)
{
    static const char *const names[] = {"00000000000000000001-3.snap.tmp",
                                        "00000000000000000001-3.snap",
                                        "00000000000000000002-4294967295.snap.tmp",
                                        "other.tmp",
                                        "1-3.snap.tmp",
                                        ".tmp",
                                        "00000000000000000001-3.snap.tmp.tmp"};
    char dir[FX_DIR_BYTES];
    (void)state;
    fx_make_dir(dir);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        fx_write(dir, names[i], bytes_str("x"));
    fault_arm(FAULT_FILE, 1, EIO);
    assert_int_equal(snapwrite_clean(dir), ERR_IO);
    fault_disarm(FAULT_FILE);
    assert_int_equal(snapwrite_clean(dir), ERR_OK);
    assert_int_equal(sx_files(dir), 5);
    char path[512];
    fx_path(path, dir, ".tmp");
    unlink(path);
    fx_remove_dir(dir);
    assert_int_equal(snapwrite_clean(dir), ERR_NOTFOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_holds_what_was_put_into_it),
        cmocka_unit_test(odd_sizes),
        cmocka_unit_test(what_is_too_large_is_refused_for_good),
        cmocka_unit_test(the_same_entries_give_the_same_bytes),
        cmocka_unit_test(a_known_digest_is_brought_along),
        cmocka_unit_test(a_damaged_file_under_the_name_is_replaced),
        cmocka_unit_test(it_keeps_to_the_pace_and_stops_when_told),
        cmocka_unit_test(without_a_signature_there_is_no_file),
        cmocka_unit_test(each_failure_leaves_nothing_or_all),
        cmocka_unit_test(each_death_leaves_nothing_or_all),
        cmocka_unit_test(what_comes_back_from_the_disk_must_be_what_was_written),
        cmocka_unit_test(clean_removes_only_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
