/* hotsort.c - see hotsort.h.
 *
 * Quicksort in three parts (less, equal, greater), by eight bytes of store and key at a time; those being looked at lie
 * beside the pointer to the item. What is equal in them goes on with the next eight, so a prefix that all keys share
 * costs one pass and is never compared again. Short runs are finished by insertion, comparing whole keys.
 *
 * Rejected: qsort with a comparison through the pointers, 650 ns an item for 100,000 items where this takes 200 (the
 * keys lie scattered in memory, each comparison is two cache misses), which is more than LevelDB gains by the order.
 */
#include "engine/hotsort.h"

#include <stdlib.h>

#define SORT_SHORT 8
#define SORT_DEPTH 1024
#define SORT_NESTING 96

/* Eight bytes of store and key as one string, big-endian, zeros behind the end. */
static inline uint64_t eight_at(const struct hot_dirty *d, size_t at)
{
    if (at >= 2 && at + 6 <= d->key.n)
        return get_be64(d->key.p + at - 2);
    uint8_t b[8] = {0};
    size_t skip = at ? 0 : 2, from = at ? at - 2 : 0; /* at is a multiple of eight */
    if (!at) {
        b[0] = (uint8_t)(d->store >> 8);
        b[1] = (uint8_t)d->store;
    }
    if (from < d->key.n)
        memcpy(b + skip, d->key.p + from, d->key.n - from < 8 - skip ? d->key.n - from : 8 - skip);
    return get_be64(b);
}

static int compare_items(const struct hot_dirty *a, const struct hot_dirty *b)
{
    return a->store != b->store ? (a->store < b->store ? -1 : 1) : bytes_compare(a->key, b->key);
}

static int compare_keys(const void *a, const void *b)
{
    return compare_items(((const struct hotsort_key *)a)->item, ((const struct hotsort_key *)b)->item);
}

static void sort_short(struct hotsort_key *k, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        struct hotsort_key x = k[i];
        size_t j = i;
        for (; j && (x.head != k[j - 1].head ? x.head < k[j - 1].head : compare_items(x.item, k[j - 1].item) < 0); j--)
            k[j] = k[j - 1];
        k[j] = x;
    }
}

static inline void swap_keys(struct hotsort_key *a, struct hotsort_key *b)
{
    struct hotsort_key t = *a;
    *a = *b;
    *b = t;
}

static inline uint64_t middle(uint64_t a, uint64_t b, uint64_t c)
{
    return a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
}

/* All n are equal in the bytes before at; heads are those from at. */
static void sort_run(struct hotsort_key *k, size_t n, size_t at, unsigned nesting)
{
    while (n > SORT_SHORT) {
        if (at >= SORT_DEPTH || nesting == SORT_NESTING) {
            qsort(k, n, sizeof *k, compare_keys);
            return;
        }
        uint64_t pivot = middle(k[0].head, k[n / 2].head, k[n - 1].head);
        size_t lt = 0, gt = n;
        for (size_t i = 0; i < gt;) {
            if (k[i].head < pivot)
                swap_keys(&k[i++], &k[lt++]);
            else if (k[i].head > pivot)
                swap_keys(&k[i], &k[--gt]);
            else
                i++;
        }
        sort_run(k, lt, at, nesting + 1);
        sort_run(k + gt, n - gt, at, nesting + 1);
        k += lt;
        n = gt - lt;
        at += 8;
        for (size_t i = 0; i < n; i++)
            k[i].head = eight_at(k[i].item, at);
    }
    sort_short(k, n);
}

void hotsort(struct hot_dirty *items, size_t n, struct hotsort_key *k)
{
    for (size_t i = 0; i < n; i++)
        k[i] = (struct hotsort_key){eight_at(&items[i], 0), &items[i]};
    sort_run(k, n, 0, 0);
    /* Moves the items along the cycles of the permutation: place i gets *k[i].item. */
    for (size_t i = 0; i < n; i++) {
        struct hot_dirty first = items[i];
        size_t to = i, from;
        while ((from = (size_t)(k[to].item - items)) != i) {
            items[to] = items[from];
            k[to].item = &items[to];
            to = from;
        }
        items[to] = first;
        k[to].item = &items[to];
    }
}
