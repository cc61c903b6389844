/* hotsort.h - puts the items of a round in the order of (store, key), in which LevelDB takes them cheapest. Pure; no
 * allocation. */
#ifndef COFFER_ENGINE_HOTSORT_H
#define COFFER_ENGINE_HOTSORT_H

#include "engine/hot.h"

/* Scratch, one per item. */
struct hotsort_key {
    uint64_t head;
    const struct hot_dirty *item;
};

/* No two items have equal store and key. The order they come in must not be an attacker's choice (hot.c: that of a
 * seeded hash): then no input makes it slow. */
void hotsort(struct hot_dirty *items, size_t n, struct hotsort_key *scratch);

#endif
