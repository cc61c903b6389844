/* Tables of a store in use, read past everything: every flipped bit of every table is found, and nothing else is. */
#include "store_fixture.h"

#include <errno.h>

#include "base/fault.h"
#include "engine/storecheck.h"
#include "engine/tablecheck.h"

static char dir[SF_PATH];
static struct store *s;
static struct tablecheck_table *tables;
static size_t count;

static void put_many(unsigned round)
{
    struct store_batch *b;
    char key[64], value[300];
    assert_int_equal(store_batch_new(&b), ERR_OK);
    for (unsigned i = 0; i < 4000; i++) {
        int n = snprintf(key, sizeof key, "hsome/path/%05u", (i * 7 + round * 13) % 6000);
        memset(value, (int)('a' + (i + round) % 26), sizeof value);
        store_batch_put(b, bytes_of(key, (size_t)n), bytes_of(value, i % sizeof value), round * 4000 + i + 1);
        if (i % 100 == 99)
            assert_int_equal(store_write(s, b, round * 4000 + i + 1), ERR_OK);
    }
    store_batch_free(b);
}

static void list(void)
{
    free(tables);
    assert_int_equal(tablecheck_list(s, &tables, &count), ERR_OK);
}

/* Closed and opened, so that nothing of it is in a log any more: three tables, too few for a compaction to come by. */
static int setup(void **state)
{
    (void)state;
    sf_make_dir(dir);
    struct store_config cfg = {.path = dir, .write_buffer_bytes = 4 << 20};
    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(store_open(&s, &cfg), ERR_OK);
        put_many(round);
        store_close(s);
    }
    assert_int_equal(store_open(&s, &cfg), ERR_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_close(s);
    free(tables);
    sf_remove_dir(dir);
    return 0;
}

static void table_path(size_t i, char out[SF_PATH * 2])
{
    snprintf(out, SF_PATH * 2, "%s/%06llu.ldb", dir, (unsigned long long)tables[i].number);
}

static enum err verify(size_t i)
{
    return tablecheck_verify(s, &tables[i], NULL, NULL);
}

static void all_tables_of_a_store_verify(void **state)
{
    (void)state;
    list();
    assert_true(count >= 2);
    for (size_t i = 0; i < count; i++) {
        assert_true(i == 0 || tables[i].number > tables[i - 1].number);
        assert_int_equal(verify(i), ERR_OK);
    }
}

static void each_flipped_bit_is_found(void **state)
{
    char path[SF_PATH * 2];
    uint64_t r = 77;
    (void)state;
    list();
    for (size_t i = 0; i < count; i++) {
        size_t n;
        table_path(i, path);
        uint8_t *bytes = sf_read(path, &n);
        for (unsigned k = 0; k < 60 || (i == 0 && k < 200); k++) {
            size_t at = i == 0 && k >= 60 ? n - 1 - (k - 60) : sf_rnd(&r) % n; /* the end: indexes and footer */
            uint8_t bit = (uint8_t)(1u << sf_rnd(&r) % 8);
            bytes[at] ^= bit;
            sf_write(path, bytes, n);
            assert_int_equal(verify(i), ERR_CORRUPT);
            bytes[at] ^= bit;
        }
        sf_write(path, bytes, n);
        assert_int_equal(verify(i), ERR_OK);
        free(bytes);
    }
}

static void a_cut_or_missing_table_is_told(void **state)
{
    char path[SF_PATH * 2];
    size_t n;
    (void)state;
    list();
    table_path(0, path);
    uint8_t *bytes = sf_read(path, &n);
    for (size_t keep = 0; keep < n; keep += n / 7 + 1) {
        sf_write(path, bytes, keep);
        assert_int_equal(verify(0), ERR_CORRUPT);
    }
    unlink(path);
    assert_int_equal(verify(0), ERR_NOTFOUND);
    sf_write(path, bytes, n);
    assert_int_equal(verify(0), ERR_OK);
    free(bytes);
}

struct pacer {
    uint64_t bytes;
    unsigned calls, stop_at;
};

static enum err count_and_stop(void *arg, uint64_t bytes)
{
    struct pacer *p = arg;
    p->bytes += bytes;
    return ++p->calls == p->stop_at ? ERR_AGAIN : ERR_OK;
}

static void it_keeps_to_the_pace_and_stops_when_told(void **state)
{
    (void)state;
    list();
    struct pacer all = {0}, some = {.stop_at = 1};
    assert_int_equal(tablecheck_verify(s, &tables[0], count_and_stop, &all), ERR_OK);
    assert_true(all.bytes >= tables[0].bytes && all.calls >= 1);
    assert_int_equal(tablecheck_verify(s, &tables[0], count_and_stop, &some), ERR_AGAIN);
}

static void what_fails_is_not_taken_for_damage(void **state)
{
    static const struct {
        enum fault_kind kind;
        enum err err;
    } faults[] = {{FAULT_FILE, ERR_IO}, {FAULT_MEM, ERR_OOM}};
    (void)state;
    list();
    for (size_t k = 0; k < 2; k++)
        for (long n = 1;; n++) {
            fault_arm(faults[k].kind, n, EIO);
            enum err e = verify(0);
            int fired = fault_fired(faults[k].kind);
            fault_disarm(faults[k].kind);
            assert_true(e == faults[k].err || (e == ERR_OK && (!fired || faults[k].kind == FAULT_FILE))); /* a close */
            if (!fired)
                break;
        }
    struct tablecheck_table *none;
    fault_arm(FAULT_MEM, 1, 1);
    assert_int_equal(tablecheck_list(s, &none, &count), ERR_OOM);
    assert_null(none);
    fault_disarm(FAULT_MEM);
}

static void a_flipped_bit_in_the_manifest_is_found_while_the_store_is_open(void **state)
{
    char path[SF_PATH * 3];
    size_t n;
    (void)state;
    DIR *d = opendir(dir);
    for (struct dirent *f; (f = readdir(d)) != NULL;)
        if (strncmp(f->d_name, "MANIFEST-", 9) == 0)
            snprintf(path, sizeof path, "%s/%s", dir, f->d_name);
    closedir(d);
    uint8_t *bytes = sf_read(path, &n);
    assert_int_equal(storecheck_manifest(dir), ERR_OK);
    unsigned missed = 0; /* a length that points behind the end: the writer may be on its way */
    for (size_t at = 0; at < n; at++) {
        bytes[at] ^= 1;
        sf_write(path, bytes, n);
        missed += storecheck_manifest(dir) != ERR_CORRUPT;
        bytes[at] ^= 1;
    }
    assert_true(missed < 4);
    sf_write(path, bytes, n);
    assert_int_equal(storecheck_manifest(dir), ERR_OK);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_tables_of_a_store_verify),
        cmocka_unit_test(each_flipped_bit_is_found),
        cmocka_unit_test(a_cut_or_missing_table_is_told),
        cmocka_unit_test(it_keeps_to_the_pace_and_stops_when_told),
        cmocka_unit_test(what_fails_is_not_taken_for_damage),
        cmocka_unit_test(a_flipped_bit_in_the_manifest_is_found_while_the_store_is_open),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
