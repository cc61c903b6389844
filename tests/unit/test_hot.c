/* The hot table, case by case, and the order of a round. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#include <malloc.h>
#endif

#include "base/fault.h"
#include "engine/hot_impl.h"
#include "engine/hotsort.h"

#define ROOMY ((size_t)64 << 20)

static struct hot *table(size_t limit)
{
    struct hot *h;
    assert_int_equal(hot_new(&h, limit), ERR_OK);
    return h;
}

static struct blob *value(const char *text, uint64_t lsn)
{
    struct blob *b = text ? blob_new(bytes_str(text), strlen(text), lsn) : blob_tombstone(lsn);
    assert_non_null(b);
    return b;
}

static struct hot_stats stats(struct hot *h)
{
    struct hot_stats s;
    hot_stats(h, &s);
    return s;
}

/* What a look-up gives: the value's LSN, or 0 for a miss. */
static uint64_t seen(struct hot *h, uint16_t store, const char *key, uint64_t *fill)
{
    struct blob *b;
    uint64_t token = 0, lsn;
    if (!hot_get(h, store, bytes_str(key), &b, &token)) {
        assert_null(b);
        if (fill)
            *fill = token;
        return 0;
    }
    lsn = b->lsn;
    blob_unref(b);
    return lsn;
}

static uint64_t peeked(struct hot *h, const char *key)
{
    struct blob *b;
    uint64_t fill;
    if (!hot_peek_staged(h, 1, bytes_str(key), &b, &fill))
        return 0;
    uint64_t lsn = b->lsn;
    blob_unref(b);
    return lsn;
}

static void fill(struct hot *h, const char *key, const char *text, uint64_t lsn, uint64_t token)
{
    struct blob *b = value(text, lsn);
    hot_fill(h, 1, bytes_str(key), b, token);
    blob_unref(b);
}

struct write {
    struct hot_entry *entry;
    struct blob *value;
};

static struct write stage(struct hot *h, const char *key, const char *text, uint64_t lsn)
{
    struct write w = {.value = value(text, lsn)};
    assert_int_equal(hot_stage(h, 1, bytes_str(key), w.value, &w.entry), ERR_OK);
    return w;
}

static void put(struct hot *h, const char *key, const char *text, uint64_t lsn)
{
    struct write w = stage(h, key, text, lsn);
    hot_publish(h, w.entry, w.value);
    hot_set_published(h, lsn);
}

/* One round, asserting the number of its items. */
static uint64_t apply(struct hot *h, size_t want)
{
    struct hot_dirty *items;
    size_t n;
    uint64_t lsn;
    assert_int_equal(hot_dirty_take(h, &items, &n, &lsn), ERR_OK);
    assert_int_equal(n, want);
    hot_dirty_done(h, items, n);
    return lsn;
}

/* ---- readers and fills ---- */

static void a_miss_is_filled_and_then_hit(void **state)
{
    (void)state;
    struct hot *h = table(ROOMY);
    uint64_t token = 0;
    assert_int_equal(seen(h, 1, "k", &token), 0);
    fill(h, "k", "v", 7, token);
    assert_int_equal(seen(h, 1, "k", NULL), 7);
    assert_int_equal(seen(h, 2, "k", NULL), 0); /* another store's key of the same name */
    assert_int_equal(seen(h, 1, "kk", NULL), 0);
    fill(h, "k", "older", 3, token); /* a second reader's fill of the same key changes nothing */
    assert_int_equal(seen(h, 1, "k", NULL), 7);

    fill(h, "none", NULL, 0, token);
    struct blob *b;
    assert_int_equal(hot_get(h, 1, bytes_str("none"), &b, &token), 1);
    assert_int_equal(b->tombstone, 1);
    blob_unref(b);
    struct hot_stats s = stats(h);
    assert_int_equal(s.hits, 3);
    assert_int_equal(s.misses, 3);
    assert_int_equal(s.entries, 2);
    hot_free(h);
}

static void keys_of_all_lengths_are_told_apart(void **state)
{
    (void)state;
    struct hot *h = table(ROOMY);
    char key[70];
    memset(key, 'a', sizeof key);
    for (size_t n = 1; n < sizeof key; n++) {
        struct blob *b = value("v", n), *got;
        uint64_t token;
        assert_int_equal(hot_get(h, 1, bytes_of(key, n), &got, &token), 0);
        hot_fill(h, 1, bytes_of(key, n), b, token);
        blob_unref(b);
    }
    for (size_t n = 1; n < sizeof key; n++) {
        struct blob *got;
        uint64_t token;
        assert_int_equal(hot_get(h, 1, bytes_of(key, n), &got, &token), 1);
        assert_int_equal(got->lsn, n);
        blob_unref(got);
        key[n - 1] = 'b'; /* one byte differs */
        assert_int_equal(hot_get(h, 1, bytes_of(key, n), &got, &token), 0);
        key[n - 1] = 'a';
    }
    hot_free(h);
}

/* Two stores' keys of the same name, of equal hash (the seed that tells stores apart is taken out). */
static void stores_are_told_apart_beyond_the_hash(void **state)
{
    (void)state;
    struct hot *h = table(ROOMY);
    h->seed[0] = 0;
    put(h, "k", "v", 1);
    assert_int_equal(seen(h, 1, "k", NULL), 1);
    assert_int_equal(seen(h, 2, "k", NULL), 0);
    hot_free(h);
}

/* A reader misses and reads LevelDB; before it fills, a newer value is published, applied and evicted. */
static void a_stale_fill_is_refused(void **state)
{
    (void)state;
    struct hot *h = table(0); /* what becomes clean goes at once */
    uint64_t token = 0;
    assert_int_equal(seen(h, 1, "k", &token), 0);
    put(h, "k", "new", 9);
    assert_int_equal(apply(h, 1), 9);
    assert_int_equal(stats(h).entries, 0);
    assert_int_equal(seen(h, 1, "k", NULL), 0);
    hot_free(h);

    h = table(ROOMY);
    assert_int_equal(seen(h, 1, "k", &token), 0);
    put(h, "k", "new", 9);
    put(h, "k", NULL, 10);
    apply(h, 1); /* the tombstone is dropped when it is done */
    assert_int_equal(stats(h).entries, 0);
    fill(h, "k", "old", 5, token);
    assert_int_equal(seen(h, 1, "k", NULL), 0);
    assert_int_equal(stats(h).entries, 0);
    hot_free(h);
}

static void replacing_a_store_voids_fills_and_drops_clean_entries(void **state)
{
    (void)state;
    struct hot *h = table(ROOMY);
    uint64_t token = 0, other = 0;
    put(h, "dirty", "v", 1);
    assert_int_equal(seen(h, 1, "clean", &token), 0);
    fill(h, "clean", "v", 1, token);
    assert_int_equal(seen(h, 2, "other", &other), 0);
    struct blob *b = value("v", 1);
    hot_fill(h, 2, bytes_str("other"), b, other);
    blob_unref(b);
    assert_int_equal(seen(h, 1, "late", &token), 0);

    hot_drop_clean(h, 1);
    fill(h, "late", "from the old store", 1, token);
    assert_int_equal(seen(h, 1, "late", NULL), 0);
    assert_int_equal(seen(h, 1, "clean", NULL), 0);
    assert_int_equal(seen(h, 1, "dirty", NULL), 1);
    assert_int_equal(seen(h, 2, "other", NULL), 1);
    hot_drop_clean(h, UINT16_MAX);
    assert_int_equal(seen(h, 2, "other", NULL), 0);
    assert_int_equal(seen(h, 1, "dirty", NULL), 1);
    hot_free(h);
}

/* ---- stage, publish ---- */

static void staged_values_are_for_the_sequencer_only(void **state)
{
    (void)state;
    struct hot *h = table(ROOMY);
    uint64_t token = 0;
    struct write one = stage(h, "k", "1", 1), two = stage(h, "k", "2", 2), three = stage(h, "k", "3", 3);
    assert_ptr_equal(one.entry, three.entry);
    assert_int_equal(seen(h, 1, "k", &token), 0);
    assert_int_equal(peeked(h, "k"), 3);
    fill(h, "k", "0", 0, token); /* readers may fill beside it */
    hot_unstage(h, three.entry, three.value);
    assert_int_equal(peeked(h, "k"), 2);
    hot_publish(h, one.entry, one.value);
    hot_set_published(h, 1);
    assert_int_equal(seen(h, 1, "k", NULL), 1);
    assert_int_equal(peeked(h, "k"), 2);
    hot_unstage(h, two.entry, two.value);
    assert_int_equal(peeked(h, "k"), 1);
    assert_int_equal(hot_published(h), 1);
    hot_free(h);
}

static void an_entry_that_was_only_staged_goes_when_it_is_unstaged(void **state)
{
    (void)state;
    struct hot *h = table(ROOMY);
    size_t before = stats(h).bytes;
    struct write w = stage(h, "k", "1", 1);
    assert_true(stats(h).bytes > before);
    hot_unstage(h, w.entry, w.value);
    assert_int_equal(stats(h).entries, 0);
    assert_int_equal(stats(h).bytes, before);
    assert_int_equal(peeked(h, "k"), 0);
    hot_free(h);
}

static void publishing_the_newest_drops_the_older_staged_ones(void **state)
{
    (void)state;
    struct hot *h = table(ROOMY);
    stage(h, "k", "1", 1);
    stage(h, "k", "2", 2);
    struct write three = stage(h, "k", "3", 3), four = stage(h, "k", "4", 4);
    hot_publish(h, three.entry, three.value);
    hot_set_published(h, 3);
    assert_int_equal(seen(h, 1, "k", NULL), 3);
    assert_int_equal(peeked(h, "k"), 4);
    assert_int_equal(stats(h).coalesced, 2);
    hot_publish(h, four.entry, four.value);
    hot_set_published(h, 4);
    assert_int_equal(apply(h, 1), 4);
    hot_free(h); /* leaks are for ASan to tell */
}

/* ---- rounds ---- */

static void overwriting_is_coalesced_and_counted(void **state)
{
    (void)state;
    struct hot *h = table(ROOMY);
    for (uint64_t lsn = 1; lsn <= 100; lsn++)
        put(h, lsn % 10 ? "hot" : "warm", "v", lsn);
    struct hot_stats s = stats(h);
    assert_int_equal(s.published, 100);
    assert_int_equal(s.published_bytes, 90 * 4 + 10 * 5);
    assert_int_equal(s.coalesced, 98);
    assert_int_equal(s.dirty_entries, 2);
    assert_int_equal(apply(h, 2), 100);
    assert_int_equal(hot_dirty_bytes(h), 0);
    assert_int_equal(apply(h, 0), 100);
    assert_int_equal(seen(h, 1, "hot", NULL), 99);
    hot_free(h);
}

static void a_round_keeps_its_values_while_the_next_one_gathers(void **state)
{
    (void)state;
    struct hot *h = table(ROOMY);
    struct hot_dirty *items;
    size_t n;
    uint64_t lsn;
    put(h, "a", "old", 1);
    put(h, "b", "old", 2);
    assert_int_equal(hot_dirty_take(h, &items, &n, &lsn), ERR_OK);
    assert_int_equal(n, 2);
    assert_int_equal(lsn, 2);
    put(h, "a", "new", 3);
    put(h, "c", "new", 4);
    assert_int_equal(items[0].value->lsn, 1);
    assert_memory_equal(items[0].key.p, "a", 1);
    assert_int_equal(seen(h, 1, "a", NULL), 3);
    hot_dirty_done(h, items, n);
    assert_int_equal(stats(h).dirty_entries, 2);
    assert_int_equal(apply(h, 2), 4);
    assert_int_equal(hot_dirty_bytes(h), 0);
    hot_free(h);
}

/* The list is closed, but the entry was not reached yet, when it is overwritten, twice. */
static void a_value_overwritten_while_the_list_is_read_stays_in_its_round(void **state)
{
    (void)state;
    struct hot *h = table(ROOMY);
    struct hot_dirty *items;
    size_t room, n = 0;
    uint64_t lsn;
    put(h, "a", "old", 1);
    assert_int_equal(hot_take_close(h, &items, &room, &lsn), ERR_OK);
    put(h, "a", "newer", 2);
    put(h, "a", "newest, and longer than the others", 3);
    for (unsigned i = 0; i < HOT_STRIPES; i++)
        n += hot_take_stripe(h, i, items + n);
    assert_int_equal(n, 1);
    assert_int_equal(lsn, 1);
    assert_int_equal(items[0].value->lsn, 1);
    assert_int_equal(seen(h, 1, "a", NULL), 3);
    hot_dirty_done(h, items, n);
    assert_int_equal(stats(h).dirty_entries, 1);
    assert_int_equal(apply(h, 1), 3);
    assert_int_equal(hot_dirty_bytes(h), 0);
    size_t full = stats(h).bytes;
    hot_drop_clean(h, 1);
    assert_true(stats(h).bytes < full);
    hot_free(h);
}

static void a_round_waits_for_no_abandoned_group(void **state)
{
    (void)state;
    struct hot *h = table(ROOMY);
    struct hot_dirty *items;
    size_t n;
    uint64_t lsn;
    struct write w = stage(h, "k", "v", 1);
    hot_publish(h, w.entry, w.value); /* and no hot_set_published */
    hot_never_wait(h);
    assert_int_equal(hot_dirty_take(h, &items, &n, &lsn), ERR_AGAIN);
    assert_null(items);
    hot_set_published(h, 1);
    assert_int_equal(apply(h, 1), 1);
    hot_free(h);
}

/* A key that came and went between two rounds, and is known not to be in LevelDB. */
static void a_tombstone_without_anything_below_is_not_written(void **state)
{
    (void)state;
    struct hot *h = table(ROOMY);
    uint64_t token = 0;
    seen(h, 1, "k", &token);
    fill(h, "k", NULL, 0, token);
    put(h, "k", "v", 1);
    put(h, "k", NULL, 2);
    assert_int_equal(apply(h, 0), 2);
    assert_int_equal(stats(h).unwritten, 1);
    assert_int_equal(hot_dirty_bytes(h), 0);

    put(h, "k", "v", 3); /* still known */
    apply(h, 1);         /* now it is in LevelDB */
    put(h, "k", NULL, 4);
    apply(h, 1);

    put(h, "unknown", "v", 5); /* nobody looked */
    put(h, "unknown", NULL, 6);
    apply(h, 1);

    seen(h, 1, "x", &token); /* known, but a round took the value in between */
    fill(h, "x", NULL, 0, token);
    put(h, "x", "v", 7);
    struct hot_dirty *items;
    size_t room, n = 0;
    uint64_t lsn;
    assert_int_equal(hot_take_close(h, &items, &room, &lsn), ERR_OK);
    put(h, "x", NULL, 8);
    for (unsigned i = 0; i < HOT_STRIPES; i++)
        n += hot_take_stripe(h, i, items + n);
    assert_int_equal(n, 1);
    hot_dirty_done(h, items, n);
    apply(h, 1);

    seen(h, 1, "y", &token); /* known, but then the store was replaced */
    fill(h, "y", NULL, 0, token);
    put(h, "y", "v", 9);
    hot_drop_clean(h, 1);
    put(h, "y", NULL, 10);
    apply(h, 1);
    assert_int_equal(stats(h).unwritten, 1);
    hot_free(h);
}

static void a_skipped_tombstone_may_be_overwritten_while_the_list_is_read(void **state)
{
    (void)state;
    struct hot *h = table(ROOMY);
    struct hot_dirty *items;
    size_t room, n = 0;
    uint64_t token = 0, lsn;
    seen(h, 1, "k", &token);
    fill(h, "k", NULL, 0, token);
    put(h, "k", NULL, 1);
    assert_int_equal(hot_take_close(h, &items, &room, &lsn), ERR_OK);
    put(h, "k", "v", 2);
    for (unsigned i = 0; i < HOT_STRIPES; i++)
        n += hot_take_stripe(h, i, items + n);
    assert_int_equal(n, 0);
    hot_dirty_done(h, items, n);
    assert_int_equal(apply(h, 1), 2);
    assert_int_equal(hot_dirty_bytes(h), 0);
    assert_int_equal(seen(h, 1, "k", NULL), 2);
    hot_free(h);
}

static void replay_makes_values_visible_and_dirty(void **state)
{
    (void)state;
    struct hot *h = table(ROOMY);
    struct blob *a = value("v", 1), *b = value("w", 2);
    assert_int_equal(hot_replay(h, 1, bytes_str("k"), a), ERR_OK);
    assert_int_equal(hot_replay(h, 1, bytes_str("k"), b), ERR_OK);
    hot_set_published(h, 2);
    assert_int_equal(seen(h, 1, "k", NULL), 2);
    assert_int_equal(apply(h, 1), 2);
    hot_free(h);
}

/* ---- memory ---- */

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
        assert_true(stats(h).bytes <= limit + 64 * 256);
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
    struct mallinfo2 before = mallinfo2();
    struct hot *h = table(ROOMY);
    char key[64], text[400];
    memset(text, 'x', sizeof text);
    for (unsigned i = 0; i < 20000; i++) {
        snprintf(key, sizeof key, "a key of some length %u", i);
        text[i % 399] = '\0';
        put(h, key, text, i + 1);
        text[i % 399] = 'x';
    }
    struct mallinfo2 after = mallinfo2();
    double real = (double)(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd);
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

/* ---- order ---- */

static uint64_t rnd(uint64_t *r)
{
    *r ^= *r << 13;
    *r ^= *r >> 7;
    *r ^= *r << 17;
    return *r;
}

static int by_store_and_key(const void *pa, const void *pb)
{
    const struct hot_dirty *a = pa, *b = pb;
    return a->store != b->store ? (a->store < b->store ? -1 : 1) : bytes_compare(a->key, b->key);
}

enum { SORT_MAX = 3000, SORT_KEY = 1200 };

static void assert_sorts(size_t n, size_t prefix, unsigned alphabet, size_t tail, unsigned stores, uint64_t seed)
{
    uint8_t *keys = malloc(SORT_MAX * SORT_KEY);
    struct hot_dirty *items = calloc(SORT_MAX, sizeof *items), *want = calloc(SORT_MAX, sizeof *want);
    struct hotsort_key *scratch = calloc(SORT_MAX, sizeof *scratch);
    size_t unique = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t *k = keys + i * SORT_KEY;
        size_t len = prefix + 1 + rnd(&seed) % tail;
        memset(k, 'p', prefix);
        for (size_t j = prefix; j < len; j++)
            k[j] = (uint8_t)(rnd(&seed) % alphabet);
        want[i] = (struct hot_dirty){.store = (uint16_t)(rnd(&seed) % stores * 255), .key = bytes_of(k, len)};
    }
    qsort(want, n, sizeof *want, by_store_and_key);
    for (size_t i = 0; i < n; i++)
        if (!unique || by_store_and_key(&want[unique - 1], &want[i]))
            want[unique++] = want[i];
    memcpy(items, want, unique * sizeof *want);
    for (size_t i = unique; i > 1; i--) {
        size_t j = rnd(&seed) % i;
        struct hot_dirty t = items[j];
        items[j] = items[i - 1];
        items[i - 1] = t;
    }
    hotsort(items, unique, scratch);
    assert_memory_equal(items, want, unique * sizeof *want);
    free(keys);
    free(items);
    free(want);
    free(scratch);
}

static void rounds_are_sorted_whatever_the_keys(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        assert_sorts(seed, 0, 256, 30, 2, seed);
        assert_sorts(1000, 0, 256, 30, 3, seed);
        assert_sorts(1000, 9, 4, 40, 1, seed);
        assert_sorts(SORT_MAX, 0, 1, 20, 2, seed); /* zeros only: told apart by length */
        assert_sorts(SORT_MAX, 30, 2, 12, 1, seed);
        assert_sorts(200, SORT_KEY - 40, 3, 30, 1, seed); /* a prefix longer than it looks at */
        assert_sorts(200, SORT_KEY - 40, 1, 30, 65, seed);
    }
}

static void a_round_comes_sorted(void **state)
{
    (void)state;
    struct hot *h = table(ROOMY);
    struct hot_dirty *items;
    size_t n;
    uint64_t lsn;
    char key[32];
    for (unsigned i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "k%u", i * 7919 % 500);
        struct blob *b = value("v", i + 1);
        assert_int_equal(hot_replay(h, (uint16_t)(i % 3), bytes_str(key), b), ERR_OK);
    }
    hot_set_published(h, 500);
    assert_int_equal(hot_dirty_take(h, &items, &n, &lsn), ERR_OK);
    assert_int_equal(n, 500);
    for (size_t i = 1; i < n; i++)
        assert_true(by_store_and_key(&items[i - 1], &items[i]) < 0);
    hot_dirty_done(h, items, n);
    hot_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_miss_is_filled_and_then_hit),
        cmocka_unit_test(keys_of_all_lengths_are_told_apart),
        cmocka_unit_test(stores_are_told_apart_beyond_the_hash),
        cmocka_unit_test(a_stale_fill_is_refused),
        cmocka_unit_test(replacing_a_store_voids_fills_and_drops_clean_entries),
        cmocka_unit_test(staged_values_are_for_the_sequencer_only),
        cmocka_unit_test(an_entry_that_was_only_staged_goes_when_it_is_unstaged),
        cmocka_unit_test(publishing_the_newest_drops_the_older_staged_ones),
        cmocka_unit_test(overwriting_is_coalesced_and_counted),
        cmocka_unit_test(a_round_keeps_its_values_while_the_next_one_gathers),
        cmocka_unit_test(a_value_overwritten_while_the_list_is_read_stays_in_its_round),
        cmocka_unit_test(a_round_waits_for_no_abandoned_group),
        cmocka_unit_test(a_tombstone_without_anything_below_is_not_written),
        cmocka_unit_test(a_skipped_tombstone_may_be_overwritten_while_the_list_is_read),
        cmocka_unit_test(replay_makes_values_visible_and_dirty),
        cmocka_unit_test(clean_entries_are_evicted_those_hit_last),
        cmocka_unit_test(dirty_and_staged_entries_stay_over_the_limit),
        cmocka_unit_test(a_value_larger_than_the_share_is_not_cached),
        cmocka_unit_test(memory_is_counted_as_allocated),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(keys_spread_over_stripes_and_buckets),
        cmocka_unit_test(rounds_are_sorted_whatever_the_keys),
        cmocka_unit_test(a_round_comes_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
