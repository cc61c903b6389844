/* The hot table's memory: its limit, its accounting, running out of it, and how keys spread. */
#include "hot_fixture.h"

#include "base/fault.h"
#include "base/mem.h"

static void clean_entries_are_evicted_those_hit_last(void **state)
{
    (void)state;
    size_t limit = 256 << 10;
    struct hot *h = table(limit);
    uint64_t token;
    char key[32];
    for (unsigned i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        if (seen(h, 1, key, &token) == 0)
            fill(h, key, "some value", 1, token);
        seen(h, 1, "favourite", &token);
        if (i == 0)
            fill(h, "favourite", "v", 1, token);
        assert_true(stats(h).bytes <= limit + 64 * 512); /* buckets that double are charged when they have */
    }
    assert_int_equal(seen(h, 1, "favourite", NULL), 1);
    assert_true(stats(h).evictions > 18000);
    assert_true(stats(h).entries > 300);
    hot_free(h);
}

static void dirty_and_staged_entries_stay_over_the_limit(void **state)
{
    (void)state;
    struct hot *h = table(64 * 700);
    struct write w[2];
    char key[32];
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        put(h, key, "value", i + 1);
    }
    w[0] = stage(h, "staged", "s", 2000);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        assert_int_equal(seen(h, 1, key, NULL), i + 1);
    }
    apply(h, 1000);
    assert_true(stats(h).bytes < 64 * 900 + 20000);
    assert_int_equal(peeked(h, "staged"), 2000);
    hot_unstage(h, w[0].entry, w[0].value);
    hot_free(h);
}

static void a_value_larger_than_the_share_is_not_cached(void **state)
{
    (void)state;
    struct hot *h = table(64 * 4096);
    uint64_t token = 0;
    seen(h, 1, "small", &token);
    fill(h, "small", "v", 1, token);
    struct blob *big = blob_new(bytes_of(NULL, 0), 8192, 2);
    memset(big->data, 'x', 8192);
    seen(h, 1, "big", &token);
    hot_fill(h, 1, bytes_str("big"), big, token);
    blob_unref(big);
    assert_int_equal(seen(h, 1, "big", NULL), 0);
    assert_int_equal(seen(h, 1, "small", NULL), 1);
    assert_int_equal(stats(h).evictions, 0);
    hot_free(h);
}

static void memory_is_counted_as_allocated(void **state)
{
    (void)state;
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    size_t before = mem_heap_bytes();
    struct hot *h = table(ROOMY);
    char key[64], text[400];
    memset(text, 'x', sizeof text);
    for (unsigned i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "a key of some length %u", i);
        text[i % 399] = '\0';
        put(h, key, text, i + 1);
        text[i % 399] = 'x';
    }
    double real = (double)(mem_heap_bytes() - before);
    double counted = (double)stats(h).bytes;
    assert_true(counted > real * 0.98 && counted < real * 1.02);
    hot_free(h);
#endif
}

static void one_script_with_every_allocation_failing(struct hot *h)
{
    struct hot_dirty *items;
    size_t n;
    uint64_t lsn, token = 0;
    char key[32];
    for (unsigned i = 0; i < 600; i++) {
        struct blob *b = blob_new(bytes_str("v"), 1, i + 1);
        struct hot_entry *e = (struct hot_entry *)1;
        snprintf(key, sizeof key, "key-%u", i);
        if (!b)
            continue;
        if (hot_stage(h, 1, bytes_str(key), b, &e)) {
            assert_null(e);
            blob_unref(b);
            continue;
        }
        hot_publish(h, e, b);
        hot_set_published(h, i + 1);
        b = blob_new(bytes_str("f"), 1, 1);
        snprintf(key, sizeof key, "fill-%u", i);
        seen(h, 1, key, &token);
        if (b)
            hot_fill(h, 1, bytes_str(key), b, token);
        blob_unref(b);
    }
    enum err e = hot_dirty_take(h, &items, &n, &lsn);
    if (e) {
        assert_int_equal(e, ERR_OOM);
        assert_int_equal(hot_dirty_take(h, &items, &n, &lsn), ERR_OK);
    }
    assert_true(n >= 599);
    hot_dirty_done(h, items, n);
    assert_int_equal(hot_dirty_bytes(h), 0);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    long n;
    for (n = 1;; n++) {
        struct hot *h = NULL;
        fault_arm(FAULT_MEM, n, 1);
        enum err e = hot_new(&h, ROOMY);
        if (e) {
            assert_int_equal(e, ERR_OOM);
            assert_null(h);
        } else {
            one_script_with_every_allocation_failing(h);
        }
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        hot_free(h);
        if (!fired)
            break;
        n += n > 30 ? 6 : 0; /* the same few places again and again */
    }
    assert_true(n > 600);
}

static void keys_spread_over_stripes_and_buckets(void **state)
{
    (void)state;
    struct hot *h = table((size_t)1 << 30);
    uint64_t token;
    for (unsigned i = 0; i < 65536; i++) {
        uint8_t key[16] = {'h'};
        put_be64(key + 1, i % 7);
        put_le32(key + 9, i);
        struct blob *b = value("v", 1), *got;
        assert_int_equal(hot_get(h, 1, bytes_of(key, sizeof key), &got, &token), 0);
        hot_fill(h, 1, bytes_of(key, sizeof key), b, token);
        blob_unref(b);
    }
    for (unsigned i = 0; i < HOT_STRIPES; i++) {
        UT_hash_table *t = h->stripes[i].head->hh.tbl;
        assert_in_range(t->num_items, 1024 - 256, 1024 + 256);
        assert_int_equal(t->noexpand, 0);
        assert_true(t->num_buckets >= 256);
        for (unsigned b = 0; b < t->num_buckets; b++)
            assert_true(t->buckets[b].count < 16);
    }
    hot_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clean_entries_are_evicted_those_hit_last),
        cmocka_unit_test(dirty_and_staged_entries_stay_over_the_limit),
        cmocka_unit_test(a_value_larger_than_the_share_is_not_cached),
        cmocka_unit_test(memory_is_counted_as_allocated),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(keys_spread_over_stripes_and_buckets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
