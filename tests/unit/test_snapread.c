/* Reading snapshot files in place: every byte altered and every cut is found, damage to one block is that block's
 * alone, iterators begin anywhere, faults are told and gone afterwards. */
#include "snap_fixture.h"

#include <pthread.h>

static uint16_t store_of(struct bytes key)
{
    return (uint16_t)(key.p[0] << 8 | key.p[1]);
}

static struct bytes rest_of(struct bytes key)
{
    return bytes_of(key.p + 2, key.n - 2);
}

/* ---- what is not whole ---- */

/* Every entry by get and by iterator: what is answered is right. Returns how many answers were errors. */
static unsigned try_all(struct snapread *r, const struct sx_set *s)
{
    struct snapread_iter *it;
    struct snapfile_entry e;
    struct blob *b;
    unsigned errors = 0;
    enum err err = ERR_OK;

    for (size_t i = 0; i < s->n; i++) {
        err = snapread_get(r, store_of(s->at[i].key), rest_of(s->at[i].key), &b);
        assert_true(err == ERR_OK || err == ERR_CORRUPT);
        if (!err)
            assert_true(bytes_equal(blob_bytes(b), s->at[i].value) && b->lsn == s->at[i].lsn);
        errors += err != ERR_OK;
        blob_unref(b);
    }
    assert_int_equal(snapread_iter_new(r, 0, bytes_of(NULL, 0), &it), ERR_OK);
    for (size_t i = 0; (err = snapread_iter_next(it, &e)) == ERR_OK; i++)
        assert_true(i < s->n && sx_same_entry(&e, &s->at[i]));
    assert_true(err == ERR_END || err == ERR_CORRUPT);
    errors += err != ERR_END;
    assert_int_equal(snapread_iter_next(it, &e), err); /* it stays there */
    snapread_iter_free(it);
    return errors;
}

static void every_altered_byte_is_found(void **state)
{
    char dir[FX_DIR_BYTES], path[512];
    struct sx_set s = {0};
    struct snapread *r;
    struct buf file;
    uint64_t bad;
    unsigned opened = 0;
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 40, 30);
    sx_write(dir, 1, &s);
    sx_path(path, dir, 1);
    fx_read(dir, "00000000000000000001-3.snap", &file);
    for (size_t i = 0; i < buf_size(&file); i++) {
        buf_data(&file)[i] ^= (uint8_t)(1 << i % 8);
        fx_write(dir, "00000000000000000001-3.snap", buf_bytes(&file));
        buf_data(&file)[i] ^= (uint8_t)(1 << i % 8);
        enum err e = sx_try_open(path, &r);
        assert_true(e == ERR_OK || e == ERR_CORRUPT);
        if (e)
            continue;
        opened++;
        assert_int_equal(snapread_verify(r, NULL, NULL, &bad), ERR_CORRUPT);
        assert_int_equal(bad, 0);
        assert_int_equal(try_all(r, &s), s.n + 1);
        snapread_unref(r);
    }
    assert_true(opened > 1000); /* the only block: everything else an open sees */
    buf_fini(&file);
    sx_clear(&s);
    fx_remove_dir(dir);
}

static void a_cut_anywhere_is_found(void **state)
{
    char dir[FX_DIR_BYTES], path[512];
    struct sx_set s = {0};
    struct snapread *r;
    struct buf file;
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 40, 30);
    sx_write(dir, 1, &s);
    sx_path(path, dir, 1);
    fx_read(dir, "00000000000000000001-3.snap", &file);
    for (size_t n = buf_size(&file); n-- > 0;) {
        assert_int_equal(truncate(path, (off_t)n), 0);
        assert_int_equal(sx_try_open(path, &r), ERR_CORRUPT);
    }
    assert_int_equal(buf_put_u8(&file, 0), ERR_OK); /* and so is what comes behind */
    fx_write(dir, "00000000000000000001-3.snap", buf_bytes(&file));
    assert_int_equal(sx_try_open(path, &r), ERR_CORRUPT);
    buf_fini(&file);
    sx_clear(&s);
    fx_remove_dir(dir);
}

/* Changed, and every CRC and hash made anew: only the HMAC tells. */
static void nobody_without_the_key_makes_a_file_that_opens(void **state)
{
    char dir[FX_DIR_BYTES], path[512], why[100];
    struct snapread *r;
    struct sx_set s = {0};
    struct buf file;
    struct snapfile_footer f;
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 40, 30);
    sx_write(dir, 1, &s);
    sx_path(path, dir, 1);
    fx_read(dir, "00000000000000000001-3.snap", &file);
    uint8_t *footer = buf_data(&file) + buf_size(&file) - SNAPFILE_FOOTER_BYTES;
    assert_int_equal(snapfile_get_footer(footer, &f), ERR_OK);
    f.digest[0] ^= 1;
    snapfile_put_footer(footer, &f);
    fx_write(dir, "00000000000000000001-3.snap", buf_bytes(&file));
    assert_int_equal(snapread_open(&r, path, fx_cell, &sx_signer, why, sizeof why), ERR_CORRUPT);
    assert_non_null(strstr(why, "HMAC"));
    buf_fini(&file);
    sx_clear(&s);
    fx_remove_dir(dir);
}

static void reasons_for_not_opening(void **state)
{
    static const uint8_t other_cell[16] = {1};
    char dir[FX_DIR_BYTES], path[512], why[100];
    enum err answer = ERR_HSMDOWN;
    struct snap_signer down = {.sign = sx_sign, .arg = &answer};
    struct snapread *r;
    struct sx_set s = {0};
    struct buf file;
    (void)state;
    fx_make_dir(dir);
    sx_path(path, dir, 1);
    assert_int_equal(snapread_open(&r, path, NULL, &sx_signer, why, sizeof why), ERR_NOTFOUND);
    sx_make(&s, 10, 30);
    sx_write(dir, 1, &s);
    assert_int_equal(snapread_open(&r, path, fx_cell, &down, why, sizeof why), ERR_HSMDOWN);
    assert_null(r);
    assert_non_null(strstr(why, "HSM"));
    assert_int_equal(snapread_open(&r, path, other_cell, &sx_signer, why, sizeof why), ERR_CORRUPT);
    assert_non_null(strstr(why, "another cell"));
    assert_int_equal(snapread_open(&r, path, other_cell, &sx_signer, why, 3), ERR_CORRUPT);
    assert_string_equal(why, "of");
    assert_int_equal(snapread_open(&r, path, NULL, &sx_signer, why, sizeof why), ERR_OK);
    assert_string_equal(why, "");
    snapread_unref(r);

    fx_read(dir, "00000000000000000001-3.snap", &file);
    put_le32(buf_data(&file) + 8, 2);
    put_le32(buf_data(&file) + 124, crc32c(0, buf_data(&file), 124));
    fx_write(dir, "00000000000000000001-3.snap", buf_bytes(&file));
    assert_int_equal(snapread_open(&r, path, NULL, &sx_signer, why, sizeof why), ERR_UNSUPPORTED);
    assert_non_null(strstr(why, "newer"));
    buf_fini(&file);
    sx_clear(&s);
    fx_remove_dir(dir);
}

/* ---- one bad block ---- */

static void damage_is_a_blocks_own(void **state)
{
    char dir[FX_DIR_BYTES], path[512];
    struct sx_set s = {0};
    struct snapread_info info;
    struct blob *b;
    uint64_t bad, bad_bytes = 0;
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 5000, 100);
    sx_write(dir, 1, &s);
    sx_path(path, dir, 1);
    struct snapread *r = sx_open(dir, 1);
    snapread_info(r, &info);
    assert_int_equal(info.blocks_verified, 0);
    assert_true(info.blocks > 10);

    int fd = open(path, O_RDWR);
    uint8_t was, now;
    uint64_t at = 128 + 5 * 33000;
    assert_int_equal(pread(fd, &was, 1, (off_t)at), 1);
    now = was ^ 4;
    for (int verified = 0; verified < 2; verified++) { /* never looked at; then: looked at when it was whole */
        assert_int_equal(pwrite(fd, &now, 1, (off_t)at), 1);
        assert_int_equal(snapread_verify(r, NULL, NULL, &bad), ERR_CORRUPT);
        assert_in_range(bad, 3, 6);
        unsigned errors = try_all(r, &s) - 1, wrong = 0;
        assert_in_range(errors, 50, 500);
        for (size_t i = 0; i < s.n; i++) /* all of one place */
            if (snapread_get(r, store_of(s.at[i].key), rest_of(s.at[i].key), &b) != ERR_OK) {
                wrong++;
                bad_bytes += s.at[i].value.n;
            } else {
                assert_true(wrong == 0 || wrong == errors);
                blob_unref(b);
            }
        assert_true(wrong == errors && bad_bytes < (verified + 1) * 33000ull);

        struct snapread_iter *it; /* behind it all is well */
        struct snapfile_entry e;
        size_t from = s.n / 2 + 1000;
        assert_int_equal(snapread_iter_new(r, store_of(s.at[from].key), rest_of(s.at[from].key), &it), ERR_OK);
        for (size_t i = from; i < s.n; i++) {
            assert_int_equal(snapread_iter_next(it, &e), ERR_OK);
            assert_true(sx_same_entry(&e, &s.at[i]));
        }
        assert_int_equal(snapread_iter_next(it, &e), ERR_END);
        snapread_iter_free(it);

        assert_int_equal(pwrite(fd, &was, 1, (off_t)at), 1); /* it was the copy in memory */
        sx_check(r, &s);
        snapread_info(r, &info);
        assert_int_equal(info.blocks_verified, info.blocks);
    }
    close(fd);
    snapread_unref(r);
    sx_clear(&s);
    fx_remove_dir(dir);
}

/* An iterator that comes to damage goes on where it was, once that is gone. */
static void an_iterator_waits_at_the_damage(void **state)
{
    char dir[FX_DIR_BYTES], path[512];
    struct sx_set s = {0};
    struct snapread_iter *it;
    struct snapfile_entry e;
    size_t i = 0;
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 3000, 100);
    sx_write(dir, 1, &s);
    sx_path(path, dir, 1);
    struct snapread *r = sx_open(dir, 1);
    int fd = open(path, O_RDWR);
    uint8_t was, now;
    assert_int_equal(pread(fd, &was, 1, 150000), 1);
    now = was ^ 1;
    assert_int_equal(pwrite(fd, &now, 1, 150000), 1);
    assert_int_equal(snapread_iter_new(r, 0, bytes_of(NULL, 0), &it), ERR_OK);
    while (snapread_iter_next(it, &e) == ERR_OK)
        assert_true(sx_same_entry(&e, &s.at[i++]));
    assert_in_range(i, 100, 2000);
    for (int again = 0; again < 3; again++) {
        assert_int_equal(snapread_iter_next(it, &e), ERR_CORRUPT);
        assert_int_equal(e.key.n, 0);
    }
    assert_int_equal(pwrite(fd, &was, 1, 150000), 1);
    for (; i < s.n; i++) {
        assert_int_equal(snapread_iter_next(it, &e), ERR_OK);
        assert_true(sx_same_entry(&e, &s.at[i]));
    }
    assert_int_equal(snapread_iter_next(it, &e), ERR_END);
    close(fd);
    snapread_iter_free(it);
    snapread_unref(r);
    sx_clear(&s);
    fx_remove_dir(dir);
}

/* ---- look-ups ---- */

static void what_is_not_there_is_not_found(void **state)
{
    static uint8_t longest[UINT16_MAX];
    char dir[FX_DIR_BYTES], key[64];
    struct sx_set s = {0};
    struct blob *b;
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 20000, 10);
    sx_write(dir, 1, &s);
    struct snapread *r = sx_open(dir, 1);
    for (unsigned i = 0; i < 20000; i++) {
        int n = snprintf(key, sizeof key, "%cpath/%08u%s", "ahvz"[i % 4], i, i % 2 ? "+" : "-");
        assert_int_equal(snapread_get(r, (uint16_t)(i % 3), bytes_of(key, (size_t)n), &b), ERR_NOTFOUND);
        assert_null(b);
    }
    assert_int_equal(snapread_get(r, 0, bytes_of(NULL, 0), &b), ERR_NOTFOUND);
    assert_int_equal(snapread_get(r, UINT16_MAX, bytes_str("a"), &b), ERR_NOTFOUND);
    for (size_t n = sizeof longest - 3; n <= sizeof longest; n++)
        assert_int_equal(snapread_get(r, 0, bytes_of(longest, n), &b), ERR_NOTFOUND);
    snapread_unref(r);
    sx_clear(&s);
    fx_remove_dir(dir);
}

static void iterators_begin_anywhere(void **state)
{
    char dir[FX_DIR_BYTES];
    struct sx_set s = {0};
    struct snapread_iter *it;
    struct snapfile_entry e;
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 2000, 100);
    sx_write(dir, 1, &s);
    struct snapread *r = sx_open(dir, 1);
    for (size_t i = 0; i <= s.n; i += 1 + i % 3)
        for (int gap = 0; gap < 2; gap++) { /* at a key, and right behind one */
            uint8_t key[64];
            struct bytes last = s.at[s.n - 1].key, at = i < s.n ? s.at[i].key : last;
            memcpy(key, at.p, at.n);
            key[at.n] = 0;
            struct bytes from = bytes_of(key + 2, at.n - 2 + (size_t)(gap || i == s.n));
            assert_int_equal(snapread_iter_new(r, store_of(at), from, &it), ERR_OK);
            for (size_t j = i + (size_t)gap; j < s.n && j < i + 400; j++) {
                assert_int_equal(snapread_iter_next(it, &e), ERR_OK);
                assert_true(sx_same_entry(&e, &s.at[j]));
            }
            if (i + 400 > s.n)
                assert_int_equal(snapread_iter_next(it, &e), ERR_END);
            snapread_iter_free(it);
        }
    assert_int_equal(snapread_iter_new(r, UINT16_MAX, bytes_str("z"), &it), ERR_OK);
    assert_int_equal(snapread_iter_next(it, &e), ERR_END);
    snapread_iter_free(it);
    snapread_unref(r);
    sx_clear(&s);
    fx_remove_dir(dir);
}

/* Far and near, forward and back, onto what was just given, and behind a failed read. */
static void an_iterator_is_moved_anywhere(void **state)
{
    char dir[FX_DIR_BYTES];
    struct sx_set s = {0};
    struct snapread_iter *it;
    struct snapfile_entry e;
    size_t at = 0;
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 5000, 100);
    sx_write(dir, 1, &s);
    struct snapread *r = sx_open(dir, 1);
    assert_int_equal(snapread_iter_new(r, 0, bytes_of(NULL, 0), &it), ERR_OK);
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t how = sx_random() % 8;
        uint8_t key[64];
        at = how < 4 ? at + sx_random() % 20 : how < 6 ? at - (at ? 1 + sx_random() % 3 : 0) : sx_random();
        at %= s.n;
        struct bytes to = s.at[at].key;
        memcpy(key, to.p, to.n);
        int gap = how % 2 && at + 1 < s.n;
        key[to.n] = 0; /* behind it: then the next one is found */
        at += (size_t)gap;
        if (i % 50 == 0)
            fault_arm(i % 100 ? FAULT_MEM : FAULT_FILE, 1, EIO);
        enum err seek, next;
        while ((seek = snapread_iter_seek(it, store_of(to), bytes_of(key + 2, to.n - 2 + (size_t)gap))) != ERR_OK)
            assert_int_equal(seek, ERR_OOM);
        for (uint64_t n = sx_random() % 4 ? 1 : 1 + sx_random() % 300; n && at < s.n; n--, at++) {
            while ((next = snapread_iter_next(it, &e)) != ERR_OK)
                assert_true(next == ERR_OOM || next == ERR_IO);
            assert_true(sx_same_entry(&e, &s.at[at]));
        }
        at -= at != 0;
        fault_disarm(FAULT_MEM);
        fault_disarm(FAULT_FILE);
    }
    snapread_iter_free(it);
    snapread_unref(r);
    sx_clear(&s);
    fx_remove_dir(dir);
}

static void a_reader_outlives_its_files_name(void **state)
{
    char dir[FX_DIR_BYTES];
    struct sx_set s = {0};
    struct snapread_iter *it;
    struct snapfile_entry e;
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 2000, 100);
    sx_write(dir, 1, &s);
    struct snapread *r = sx_open(dir, 1);
    fx_empty_dir(dir);
    sx_check(r, &s);
    assert_int_equal(snapread_iter_new(r, 0, bytes_of(NULL, 0), &it), ERR_OK);
    snapread_unref(r); /* the iterator holds it too */
    for (size_t i = 0; i < s.n; i++) {
        assert_int_equal(snapread_iter_next(it, &e), ERR_OK);
        assert_true(sx_same_entry(&e, &s.at[i]));
    }
    snapread_iter_free(it);
    sx_clear(&s);
    fx_remove_dir(dir);
}

/* ---- faults ---- */

static const struct {
    enum fault_kind kind;
    int code;
    enum err err;
} faults[] = {{FAULT_FILE, EIO, ERR_IO}, {FAULT_MEM, 1, ERR_OOM}};

static void a_failed_open_leaves_the_file_as_it_is(void **state)
{
    char dir[FX_DIR_BYTES], path[512];
    struct sx_set s = {0};
    struct snapread *r;
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 1000, 100);
    sx_write(dir, 1, &s);
    sx_path(path, dir, 1);
    for (size_t k = 0; k < 2; k++)
        for (long n = 1;; n++) {
            fault_arm(faults[k].kind, n, faults[k].code);
            enum err e = sx_try_open(path, &r);
            int fired = fault_fired(faults[k].kind);
            fault_disarm(faults[k].kind);
            assert_int_equal(e, fired ? faults[k].err : ERR_OK);
            snapread_unref(r);
            r = sx_open(dir, 1);
            if (!fired)
                sx_check(r, &s);
            snapread_unref(r);
            if (!fired)
                break;
        }
    sx_clear(&s);
    fx_remove_dir(dir);
}

/* Each read again and again until it comes through: nothing is lost, doubled or out of order. */
static void failed_reads_may_be_tried_again(void **state)
{
    char dir[FX_DIR_BYTES];
    struct sx_set s = {0};
    struct snapfile_entry entry;
    struct blob *b;
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 2000, 100);
    sx_write(dir, 1, &s);
    struct snapread *r = sx_open(dir, 1);
    for (size_t k = 0; k < 2; k++)
        for (long n = 1;; n++) {
            struct snapread_iter *it = NULL;
            unsigned errors = 0;
            uint64_t bad;
            fault_arm(faults[k].kind, n, faults[k].code);
            while (snapread_iter_new(r, 0, bytes_str("h"), &it) != ERR_OK)
                errors++;
            for (size_t i = 0; i < s.n;) {
                enum err e = snapread_iter_next(it, &entry);
                if (!e && bytes_compare(s.at[i].key, bytes_of("\0\0h", 3)) < 0)
                    fail();
                if (!e)
                    assert_true(sx_same_entry(&entry, &s.at[i++]));
                errors += e != ERR_OK;
            }
            assert_int_equal(snapread_iter_next(it, &entry), ERR_END);
            snapread_iter_free(it);
            for (size_t i = 0; i < s.n;) {
                enum err e = snapread_get(r, store_of(s.at[i].key), rest_of(s.at[i].key), &b);
                assert_true(e == ERR_OK || e == faults[k].err);
                errors += e != ERR_OK;
                i += e ? 0 : 97;
                blob_unref(b);
            }
            errors += snapread_verify(r, NULL, NULL, &bad) != ERR_OK;
            int fired = fault_fired(faults[k].kind);
            fault_disarm(faults[k].kind);
            assert_true(errors <= (unsigned)fired); /* none where a window was read block by block instead */
            if (!fired)
                break;
        }
    snapread_unref(r);
    sx_clear(&s);
    fx_remove_dir(dir);
}

static enum err stop_at_third(void *arg, uint64_t bytes)
{
    unsigned *calls = arg;
    (void)bytes;
    return ++*calls == 3 ? ERR_AGAIN : ERR_OK;
}

static void verify_keeps_to_the_pace(void **state)
{
    char dir[FX_DIR_BYTES];
    struct sx_set s = {0};
    struct snapread_info info;
    unsigned calls = 0;
    uint64_t bad;
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 3000, 100);
    sx_write(dir, 1, &s);
    struct snapread *r = sx_open(dir, 1);
    assert_int_equal(snapread_verify(r, stop_at_third, &calls, &bad), ERR_AGAIN);
    snapread_info(r, &info);
    assert_int_equal(info.blocks_verified, 3);
    assert_int_equal(snapread_verify(r, stop_at_third, &calls, &bad), ERR_OK);
    snapread_info(r, &info);
    assert_int_equal(info.blocks_verified, info.blocks);
    assert_int_equal(calls, 3 + info.blocks);
    snapread_unref(r);
    sx_clear(&s);
    fx_remove_dir(dir);
}

/* ---- threads ---- */

struct reading {
    struct snapread *r;
    const struct sx_set *s;
    uint64_t seed;
};

static void *read_some(void *arg)
{
    struct reading *job = arg;
    uint64_t x = job->seed;
    for (unsigned i = 0; i < 3000; i++) {
        struct blob *b;
        x = x * 6364136223846793005u + 1442695040888963407u;
        const struct snapfile_entry *e = &job->s->at[(x >> 33) % job->s->n];
        if (snapread_get(job->r, store_of(e->key), rest_of(e->key), &b) != ERR_OK)
            return job;
        int same = bytes_equal(blob_bytes(b), e->value);
        blob_unref(b);
        if (!same)
            return job;
    }
    return NULL;
}

static void threads_read_side_by_side(void **state)
{
    enum { THREADS = 4 };
    char dir[FX_DIR_BYTES];
    struct sx_set s = {0};
    struct reading jobs[THREADS];
    pthread_t threads[THREADS];
    struct snapread_info info;
    uint64_t bad;
    (void)state;
    fx_make_dir(dir);
    sx_make(&s, 5000, 100);
    sx_write(dir, 1, &s);
    struct snapread *r = sx_open(dir, 1);
    for (size_t i = 0; i < THREADS; i++) {
        jobs[i] = (struct reading){r, &s, i};
        assert_int_equal(pthread_create(&threads[i], NULL, read_some, &jobs[i]), 0);
    }
    assert_int_equal(snapread_verify(r, NULL, NULL, &bad), ERR_OK);
    for (size_t i = 0; i < THREADS; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    snapread_info(r, &info);
    assert_int_equal(info.blocks_verified, info.blocks);
    snapread_unref(r);
    sx_clear(&s);
    fx_remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_altered_byte_is_found),
        cmocka_unit_test(a_cut_anywhere_is_found),
        cmocka_unit_test(nobody_without_the_key_makes_a_file_that_opens),
        cmocka_unit_test(reasons_for_not_opening),
        cmocka_unit_test(damage_is_a_blocks_own),
        cmocka_unit_test(an_iterator_waits_at_the_damage),
        cmocka_unit_test(what_is_not_there_is_not_found),
        cmocka_unit_test(iterators_begin_anywhere),
        cmocka_unit_test(an_iterator_is_moved_anywhere),
        cmocka_unit_test(a_reader_outlives_its_files_name),
        cmocka_unit_test(a_failed_open_leaves_the_file_as_it_is),
        cmocka_unit_test(failed_reads_may_be_tried_again),
        cmocka_unit_test(verify_keeps_to_the_pace),
        cmocka_unit_test(threads_read_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
