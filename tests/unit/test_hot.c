/* The hot table, case by case. */
#include "hot_fixture.h"

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

static void warming_changes_nothing(void **state)
{
    (void)state;
    struct hot *h = table(ROOMY);
    struct hot_key keys[HOT_WARM_MAX];
    char text[HOT_WARM_MAX][16];
    for (unsigned i = 0; i < HOT_WARM_MAX; i++) {
        snprintf(text[i], sizeof text[i], "key-%u", i);
        keys[i] = (struct hot_key){bytes_str(text[i]), (uint16_t)(i % 3)};
    }
    hot_warm(h, keys, 0);
    hot_warm(h, keys, HOT_WARM_MAX); /* an empty table */
    assert_int_equal(stats(h).entries, 0);
    for (unsigned i = 0; i < 2000; i++) {
        char key[16];
        snprintf(key, sizeof key, "key-%u", i);
        put(h, key, i % 5 ? "value" : NULL, i + 1);
    }
    struct hot_stats before = stats(h), after;
    hot_warm(h, keys, HOT_WARM_MAX);
    after = stats(h);
    assert_memory_equal(&before, &after, sizeof before);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_miss_is_filled_and_then_hit),
        cmocka_unit_test(warming_changes_nothing),
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
