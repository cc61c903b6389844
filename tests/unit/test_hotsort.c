/* The order of a round. */
#include "hot_fixture.h"

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
        cmocka_unit_test(rounds_are_sorted_whatever_the_keys),
        cmocka_unit_test(a_round_comes_sorted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
