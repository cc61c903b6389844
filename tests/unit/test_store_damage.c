/* Damaged stores: a flipped bit, a cut file, a missing one. Whatever happens, no get and no scan may answer with
 * anything but the state at the applied LSN that the store claims, or an error. */
#include "store_fixture.h"

#include "engine/storedir.h"

#include "base/crc32c.h"
#include "engine/storecheck.h"

#include <leveldb/c.h>

#define KEYS 120
#define BATCHES 90
#define PER_BATCH 14

/* The history: batch b writes PER_BATCH keys, LSN 10 * b; so the state at each applied LSN is known. */
static char dir[SF_PATH], copy[SF_PATH];
static uint32_t wrote[BATCHES + 1][KEYS]; /* after batch b: the batch that last put the key, 0 when there is none */

static struct bytes key_of(unsigned k, char buf[48])
{
    return bytes_of(buf, (size_t)snprintf(buf, 48, "h/app/service-%u/secret-%03u", k % 7, k));
}

static struct bytes value_of(unsigned k, unsigned batch, char buf[400])
{
    int n = snprintf(buf, 400, "key %u as of batch %u ", k, batch);
    memset(buf + n, 'a' + (int)(batch % 26), (size_t)(380 - n));
    return bytes_of(buf, (size_t)n + (k * 31 + batch * 17) % 300 % (size_t)(380 - n));
}

static void write_history(const char *where, unsigned from, unsigned to)
{
    struct store *s = sf_open(where);
    struct store_batch *batch;
    char kb[48], vb[400];
    uint64_t lsn;
    assert_int_equal(store_batch_new(&batch), ERR_OK);
    for (unsigned b = from; b <= to; b++) {
        memcpy(wrote[b], wrote[b - 1], sizeof wrote[b]);
        for (unsigned i = 0; i < PER_BATCH; i++) {
            unsigned k = (b * 37 + i * 11) % KEYS;
            int deletes = (b + i) % 9 == 0;
            wrote[b][k] = deletes ? 0 : b;
            if (deletes)
                store_batch_delete(batch, key_of(k, kb));
            else
                store_batch_put(batch, key_of(k, kb), value_of(k, b, vb), 10 * b);
        }
        assert_int_equal(store_write(s, batch, 10 * b), ERR_OK);
        if (b % 20 == 0)
            assert_int_equal(store_checkpoint(s, &lsn), ERR_OK);
    }
    store_batch_free(batch);
    store_close(s);
}

static int setup(void **state)
{
    (void)state;
    sf_make_dir(dir);
    sf_make_dir(copy);
    write_history(dir, 1, 70); /* in two lives: tables of several ages and levels */
    write_history(dir, 71, BATCHES);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    sf_remove_dir(dir);
    sf_remove_dir(copy);
    return 0;
}

enum outcome { INTACT, EARLIER, REFUSED, DETECTED, OUTCOMES };

static int value_is(struct bytes value, uint64_t lsn, unsigned k, unsigned batch)
{
    char vb[400];
    return lsn == 10 * batch && bytes_equal(value, value_of(k, batch, vb));
}

static enum outcome check_gets(struct store *s, unsigned at)
{
    enum outcome o = INTACT;
    char kb[48];
    for (unsigned k = 0; k < KEYS; k++) {
        struct blob *b;
        enum err e = store_get(s, key_of(k, kb), &b);
        if (e == ERR_OK)
            assert_true(wrote[at][k] && value_is(blob_bytes(b), b->lsn, k, wrote[at][k]));
        else if (e == ERR_NOTFOUND)
            assert_int_equal(wrote[at][k], 0);
        else
            o = DETECTED;
        blob_unref(b);
    }
    return o;
}

static int scan_number(struct bytes key)
{
    char kb[48];
    for (unsigned k = 0; k < KEYS; k++)
        if (bytes_equal(key, key_of(k, kb)))
            return (int)k;
    return -1;
}

static enum outcome check_scan(struct store *s, unsigned at)
{
    struct store_iter *it;
    unsigned there = 0, got = 0;
    for (unsigned k = 0; k < KEYS; k++)
        there += wrote[at][k] != 0;
    assert_int_equal(store_iter_new(s, &it), ERR_OK);
    for (store_iter_seek(it, bytes_of(NULL, 0)); store_iter_valid(it); store_iter_next(it)) {
        struct bytes value;
        uint64_t lsn;
        int k = scan_number(store_iter_key(it));
        assert_true(k >= 0 && wrote[at][k]);
        if (store_iter_value(it, &value, &lsn) == ERR_OK)
            assert_true(value_is(value, lsn, (unsigned)k, wrote[at][k]));
        got++;
    }
    enum err e = store_iter_status(it);
    store_iter_free(it);
    if (!e)
        assert_int_equal(got, there); /* a scan that leaves something out says so */
    return e ? DETECTED : INTACT;
}

/* What comes of the store in copy. */
static enum outcome examine(void)
{
    struct store *s;
    enum err e = sf_try_open(copy, &s);
    if (e) {
        assert_int_equal(e, ERR_CORRUPT);
        return REFUSED;
    }
    uint64_t lsn = store_applied(s);
    assert_true(lsn % 10 == 0 && lsn <= 10 * BATCHES && store_checkpointed(s) <= lsn);
    unsigned at = (unsigned)(lsn / 10);
    enum outcome gets = check_gets(s, at), scan = check_scan(s, at);
    store_close(s);
    if (gets == DETECTED || scan == DETECTED)
        return DETECTED;
    return at < BATCHES ? EARLIER : INTACT;
}

static const char *ending_of(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot : strncmp(name, "MANIFEST-", 9) == 0 ? "MANIFEST" : name;
}

/* Flips bits of one file of the intact store, each time in a fresh copy; a full pass over small files, samples of large
 * ones. */
static void flip_file(const char *name, unsigned samples, uint64_t *r, unsigned count[OUTCOMES])
{
    char from[SF_PATH * 3], to[SF_PATH * 3];
    size_t n;
    snprintf(from, sizeof from, "%s/%s", dir, name);
    uint8_t *bytes = sf_read(from, &n);
    unsigned times = n < samples ? (unsigned)n : samples;
    for (unsigned i = 0; i < times; i++) {
        size_t at = n < samples ? i : sf_rnd(r) % n;
        uint8_t bit = (uint8_t)(1u << sf_rnd(r) % 8);
        sf_copy_dir(dir, copy);
        snprintf(to, sizeof to, "%s/%s", copy, name);
        bytes[at] ^= bit;
        sf_write(to, bytes, n);
        bytes[at] ^= bit;
        count[examine()]++;
    }
    free(bytes);
}

static void no_flipped_bit_is_served(void **state)
{
    (void)state;
    static const struct {
        const char *ending;
        unsigned samples;
    } kinds[] = {{".ldb", 250}, {".log", 400}, {"MANIFEST", 400}, {"CURRENT", 400}};
    uint64_t r = 0x1234567890abcdef;
    sf_copy_dir(dir, copy);
    assert_int_equal(examine(), INTACT);
    for (unsigned kind = 0; kind < 4; kind++) {
        unsigned count[OUTCOMES] = {0}, files = 0;
        DIR *d = opendir(dir);
        for (struct dirent *e; (e = readdir(d)) != NULL;) {
            if (strcmp(ending_of(e->d_name), kinds[kind].ending) != 0)
                continue;
            files++;
            flip_file(e->d_name, kinds[kind].samples, &r, count);
        }
        closedir(d);
        print_message("%u %s: %u opened as if nothing were, %u at an earlier LSN, %u refused, %u detected by reads\n",
                      files, kinds[kind].ending, count[INTACT], count[EARLIER], count[REFUSED], count[DETECTED]);
        assert_true(files >= 1);
        assert_true(count[REFUSED] + count[DETECTED] > 0);
        if (kind == 0)
            assert_true(files >= 2);
        if (kind != 1)
            assert_int_equal(count[EARLIER], 0); /* only the newest log may end early */
        if (kind >= 1)
            assert_int_equal(count[DETECTED], 0);
    }
}

/* ---- cut and missing files ---- */

static void cut(const char *path, size_t n)
{
    assert_int_equal(truncate(path, (off_t)n), 0);
}

static void the_newest_log_may_end_anywhere(void **state)
{
    (void)state;
    char path[SF_PATH * 3];
    size_t n;
    unsigned count[OUTCOMES] = {0};
    uint64_t r = 99;
    sf_copy_dir(dir, copy);
    assert_true(sf_find(copy, ".log", path));
    free(sf_read(path, &n));
    for (unsigned i = 0; i < 200; i++) {
        sf_copy_dir(dir, copy);
        cut(path, sf_rnd(&r) % n);
        if (i % 2)
            cut(path,
                n); /* the file system had grown the file, but not written it: may be refused, as damage would be */
        count[examine()]++;
        assert_true(i % 2 || count[EARLIER] > i / 2);
    }
    assert_int_equal(count[EARLIER] + count[REFUSED], 200);
}

/* A log that was closed and whose end is missing, under a newer one: LevelDB opens that without a word, with a hole in
 * it. */
static void a_hole_under_a_newer_log_is_found(void **state)
{
    (void)state;
    char path[SF_PATH * 3], newer[SF_PATH * 3];
    size_t n;
    char base[SF_PATH];
    sf_make_dir(base);
    write_history(base, 1, 4); /* one log of four records */
    sf_copy_dir(base, copy);
    assert_true(sf_find(copy, ".log", path));
    uint8_t *log = sf_read(path, &n);
    snprintf(newer, sizeof newer, "%s/%06ld.log", copy, atol(strrchr(path, '/') + 1) + 1000);

    sf_write(newer, log, 0); /* begun, and empty yet: the one before it may be torn */
    cut(path, n - 5);
    assert_int_equal(examine(), EARLIER);

    for (unsigned zeros = 0; zeros < 2; zeros++) {
        sf_copy_dir(base, copy);
        sf_write(newer, log, n);
        assert_int_equal(storecheck_dir(copy), ERR_OK);
        cut(path, zeros ? 7u + get_le16(log + 4) : n - 5); /* after the first; in the last */
        if (zeros)
            cut(path, n);
        assert_int_equal(storecheck_dir(copy), ERR_CORRUPT);
        assert_int_equal(examine(), REFUSED);

        char *message = NULL; /* the control: LevelDB itself says nothing */
        leveldb_options_t *o = leveldb_options_create();
        leveldb_options_set_paranoid_checks(o, 1);
        leveldb_t *db = leveldb_open(o, copy, &message);
        assert_null(message);
        leveldb_close(db);
        leveldb_options_destroy(o);
    }
    free(log);
    sf_remove_dir(base);
}

static void zeros_in_the_middle_of_a_log_are_found(void **state)
{
    (void)state;
    char path[SF_PATH * 3];
    size_t n;
    sf_copy_dir(dir, copy);
    assert_true(sf_find(copy, ".log", path));
    uint8_t *log = sf_read(path, &n);
    uint8_t *long_log = calloc(1, n + 65536);
    memcpy(long_log, log, n);
    sf_write(path, long_log, n + 65536); /* zeros at the end are no harm */
    assert_int_equal(examine(), INTACT);
    sf_copy_dir(dir, copy);
    memcpy(long_log + n + 40000, log, 100);
    sf_write(path, long_log, n + 65536); /* but something behind them is */
    assert_int_equal(examine(), REFUSED);
    free(log);
    free(long_log);
}

static void missing_files_are_found(void **state)
{
    (void)state;
    static const char *const endings[] = {".ldb", "CURRENT", "MANIFEST"};
    char path[SF_PATH * 3];
    for (unsigned i = 0; i < 3; i++) {
        sf_copy_dir(dir, copy);
        DIR *d = opendir(copy);
        for (struct dirent *e; (e = readdir(d)) != NULL;) {
            snprintf(path, sizeof path, "%s/%s", copy, e->d_name);
            if (strcmp(ending_of(e->d_name), endings[i]) == 0)
                unlink(path);
        }
        closedir(d);
        assert_int_equal(examine(), REFUSED);
    }
    assert_int_equal(storedir_remove(copy), ERR_OK); /* and can be made anew */
    struct store *s = sf_open(copy);
    assert_int_equal(store_applied(s), 0);
    store_close(s);
}

/* ---- frames ---- */

/* Writes a raw value under key, as LevelDB would have stored it if our frame had been damaged before it was written. */
static void write_raw(const char *key, size_t key_n, const void *value, size_t n)
{
    char *message = NULL;
    leveldb_options_t *o = leveldb_options_create();
    leveldb_options_set_create_if_missing(o, 1);
    leveldb_t *db = leveldb_open(o, copy, &message);
    assert_null(message);
    leveldb_writeoptions_t *w = leveldb_writeoptions_create();
    leveldb_put(db, w, key, key_n, value, n, &message);
    assert_null(message);
    leveldb_writeoptions_destroy(w);
    leveldb_close(db);
    leveldb_options_destroy(o);
}

static void a_frame_that_does_not_fit_is_not_served(void **state)
{
    (void)state;
    uint8_t frame[12 + 5] = {7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'h', 'e', 'l', 'l', 'o'};
    put_le32(frame + 8, crc32c(crc32c(crc32c(0, "k", 1), frame, 8), "hello", 5));
    for (size_t i = 0; i <= sizeof frame; i++) {
        struct store *s;
        struct blob *b;
        struct store_iter *it;
        struct bytes payload;
        uint64_t lsn;
        uint8_t bad[sizeof frame];
        memcpy(bad, frame, sizeof frame);
        if (i < sizeof frame)
            bad[i] ^= 0x10;
        sf_empty_dir(copy);
        write_raw("k", 1, bad, sizeof bad);
        s = sf_open(copy);
        assert_int_equal(store_get(s, bytes_str("k"), &b), i < sizeof frame ? ERR_CORRUPT : ERR_OK);
        assert_int_equal(b != NULL, i == sizeof frame);
        blob_unref(b);
        assert_int_equal(store_iter_new(s, &it), ERR_OK);
        store_iter_seek(it, bytes_str("k"));
        assert_true(store_iter_valid(it));
        assert_int_equal(store_iter_value(it, &payload, &lsn), i < sizeof frame ? ERR_CORRUPT : ERR_OK);
        store_iter_free(it);
        store_close(s);
    }
    sf_empty_dir(copy);
    write_raw("other", 5, frame, sizeof frame); /* another key's value */
    struct store *s = sf_open(copy);
    struct blob *b;
    assert_int_equal(store_get(s, bytes_str("other"), &b), ERR_CORRUPT);
    store_close(s);
    sf_empty_dir(copy);
    write_raw("k", 1, frame, 11);
    s = sf_open(copy);
    assert_int_equal(store_get(s, bytes_str("k"), &b), ERR_CORRUPT);
    store_close(s);
}

static void the_stores_own_numbers_are_checked(void **state)
{
    (void)state;
    uint8_t frame[12] = {9};
    struct store *s;
    sf_empty_dir(copy);
    write_raw("\0a", 2, frame, sizeof frame);
    assert_int_equal(sf_try_open(copy, &s), ERR_CORRUPT);

    sf_empty_dir(copy); /* a checkpoint above the applied LSN: the batch that it speaks of is gone */
    put_le32(frame + 8, crc32c(crc32c(0, "\0c", 2), frame, 8));
    write_raw("\0c", 2, frame, sizeof frame);
    assert_int_equal(sf_try_open(copy, &s), ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_flipped_bit_is_served),
        cmocka_unit_test(the_newest_log_may_end_anywhere),
        cmocka_unit_test(a_hole_under_a_newer_log_is_found),
        cmocka_unit_test(zeros_in_the_middle_of_a_log_are_found),
        cmocka_unit_test(missing_files_are_found),
        cmocka_unit_test(a_frame_that_does_not_fit_is_not_served),
        cmocka_unit_test(the_stores_own_numbers_are_checked),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
