/* hot_fixture.h - what the tests of the hot table share: one-line writes, reads and rounds. */
#ifndef COFFER_TESTS_HOT_FIXTURE_H
#define COFFER_TESTS_HOT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/hot_impl.h"
#include "engine/hotsort.h"

#define ROOMY ((size_t)64 << 20)
#define hf_unused __attribute__((unused))

hf_unused static struct hot *table(size_t limit)
{
    struct hot *h;
    assert_int_equal(hot_new(&h, limit), ERR_OK);
    return h;
}

hf_unused static struct blob *value(const char *text, uint64_t lsn)
{
    struct blob *b = text ? blob_new(bytes_str(text), strlen(text), lsn) : blob_tombstone(lsn);
    assert_non_null(b);
    return b;
}

hf_unused static struct hot_stats stats(struct hot *h)
{
    struct hot_stats s;
    hot_stats(h, &s);
    return s;
}

/* What a look-up gives: the value's LSN, or 0 for a miss. */
hf_unused static uint64_t seen(struct hot *h, uint16_t store, const char *key, uint64_t *fill)
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

hf_unused static uint64_t peeked(struct hot *h, const char *key)
{
    struct blob *b;
    uint64_t fill;
    if (!hot_peek_staged(h, 1, bytes_str(key), &b, &fill))
        return 0;
    uint64_t lsn = b->lsn;
    blob_unref(b);
    return lsn;
}

hf_unused static void fill(struct hot *h, const char *key, const char *text, uint64_t lsn, uint64_t token)
{
    struct blob *b = value(text, lsn);
    hot_fill(h, 1, bytes_str(key), b, token);
    blob_unref(b);
}

struct write {
    struct hot_entry *entry;
    struct blob *value;
};

hf_unused static struct write stage(struct hot *h, const char *key, const char *text, uint64_t lsn)
{
    struct write w = {.value = value(text, lsn)};
    assert_int_equal(hot_stage(h, 1, bytes_str(key), w.value, &w.entry), ERR_OK);
    return w;
}

hf_unused static void put(struct hot *h, const char *key, const char *text, uint64_t lsn)
{
    struct write w = stage(h, key, text, lsn);
    hot_publish(h, w.entry, w.value);
    hot_set_published(h, lsn);
}

/* One round, asserting the number of its items. */
hf_unused static uint64_t apply(struct hot *h, size_t want)
{
    struct hot_dirty *items;
    size_t n;
    uint64_t lsn;
    assert_int_equal(hot_dirty_take(h, &items, &n, &lsn), ERR_OK);
    assert_int_equal(n, want);
    hot_dirty_done(h, items, n);
    return lsn;
}

hf_unused static uint64_t rnd(uint64_t *r)
{
    *r ^= *r << 13;
    *r ^= *r >> 7;
    *r ^= *r << 17;
    return *r;
}

#endif
