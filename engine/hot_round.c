/* hot_round.c - the applier's side of the hot table (hot.h, hot.c): what is dirty is taken, and done.
 *
 * hot_dirty_take waits for the end of the group, closes all lists at once (64 short locks, a few microseconds, in which
 * the log writer waits), and lets it go on. Reading the closed lists, an entry at a time, and sorting go on beside
 * traffic: what is overwritten meanwhile was put aside by hot_publish (closing).
 *
 * Rejected: cutting a round by comparing LSNs (a value that the log writer overwrote a moment before the applier chose
 * its LSN is gone); reading the lists before the log writer goes on (it waits for as long as there are dirty entries).
 */
#include <assert.h>

#include "engine/hot_impl.h"
#include "engine/hotsort.h"

#define COLLECT_CHUNK 64 /* entries for which a stripe is locked at once */

/* Takes one entry off the closed list: either as an item (1), or it needs no write (0, *old is to be dropped). */
static int collect(struct hot *h, struct hot_stripe *s, struct hot_entry *e, struct hot_dirty *item, struct blob **old)
{
    struct blob *value = e->closing;

    if (value) {
        e->closing = NULL;
        e->epoch = s->epoch;
        e->next = s->open;
        s->open = e;
    } else {
        value = e->visible;
        e->listed = 0;
        e->next = NULL;
    }
    int relisted = e->listed;

    if (value->tombstone && e->absent) {
        atomic_fetch_sub_explicit(&h->dirty_bytes, hot_entry_cost(e) + hot_blob_cost(value), memory_order_relaxed);
        s->unwritten++;
        if (relisted) {
            s->bytes -= hot_blob_cost(value);
            *old = value;
        }
        return 0;
    }
    if (!value->tombstone)
        e->absent = 0;
    e->held = 1;
    e->shared = !relisted;
    if (!relisted)
        blob_ref(value);
    *item = (struct hot_dirty){bytes_of(e->key, e->hh.keylen), value, e, e->store};
    return 1;
}

size_t hot_take_stripe(struct hot *h, unsigned stripe, struct hot_dirty *items)
{
    struct hot_stripe *s = &h->stripes[stripe];
    size_t n = 0;
    int more = 1;

    while (more) {
        struct blob *old[COLLECT_CHUNK];
        unsigned old_count = 0;
        hot_lock(s);
        for (unsigned i = 0; i < COLLECT_CHUNK && s->closed; i++) {
            struct hot_entry *e = s->closed;
            s->closed = e->next;
            old[old_count] = NULL;
            n += (size_t)collect(h, s, e, &items[n], &old[old_count]);
            old_count += old[old_count] != NULL;
        }
        more = s->closed != NULL;
        hot_unlock(s);
        while (old_count)
            blob_unref(old[--old_count]);
    }
    return n;
}

/* Nothing is being published, so all lists are cut at the same LSN. */
static void close_lists(struct hot *h)
{
    for (struct hot_stripe *s = h->stripes; s < h->stripes + HOT_STRIPES; s++) {
        hot_lock(s);
        assert(!s->closed);
        s->closed = s->open;
        s->open = NULL;
        s->epoch ^= 1;
        hot_unlock(s);
    }
    atomic_store_explicit(&h->dirty_entries, 0, memory_order_relaxed);
}

/* Holds the turn, between two groups, on ERR_OK. */
static enum err take_turn(struct hot *h)
{
    pthread_mutex_lock(&h->turn);
    h->take_waits = 1;
    while (h->group_open && !h->take_never_waits)
        pthread_cond_wait(&h->turn_changed, &h->turn);
    h->take_waits = 0;
    pthread_cond_broadcast(&h->turn_changed);
    if (!h->group_open)
        return ERR_OK;
    pthread_mutex_unlock(&h->turn);
    return ERR_AGAIN;
}

/* The turn, with room for all that is dirty. The log writer does not wait for malloc. */
static enum err take_turn_with_room(struct hot *h, struct hot_dirty **items, size_t *room)
{
    for (;;) {
        enum err e = take_turn(h);
        size_t dirty = atomic_load_explicit(&h->dirty_entries, memory_order_relaxed);
        if (e || dirty <= *room)
            return e;
        pthread_mutex_unlock(&h->turn);
        mem_free(*items);
        *room = dirty + dirty / 8 + 64;
        *items = mem_alloc(*room * (sizeof **items + sizeof(struct hotsort_key)));
        if (!*items)
            return ERR_OOM;
    }
}

enum err hot_take_close(struct hot *h, struct hot_dirty **items, size_t *room, uint64_t *lsn)
{
    *items = NULL;
    *room = 0;
    *lsn = 0;
    assert(!h->in_round);
    enum err e = take_turn_with_room(h, items, room);
    if (e) {
        mem_free(*items);
        *items = NULL;
        return e;
    }
    *lsn = atomic_load(&h->published_lsn);
    close_lists(h);
    h->in_round = 1;
    pthread_mutex_unlock(&h->turn);
    return ERR_OK;
}

enum err hot_dirty_take(struct hot *h, struct hot_dirty **items, size_t *count, uint64_t *lsn)
{
    size_t room, n = 0;

    *count = 0;
    enum err e = hot_take_close(h, items, &room, lsn);
    if (e)
        return e;
    for (unsigned i = 0; i < HOT_STRIPES; i++)
        n += hot_take_stripe(h, i, *items + n);
    if (n)
        hotsort(*items, n, (struct hotsort_key *)(void *)(*items + room));
    *count = n;
    return ERR_OK;
}

void hot_never_wait(struct hot *h)
{
    pthread_mutex_lock(&h->turn);
    h->take_never_waits = 1;
    pthread_cond_broadcast(&h->turn_changed);
    pthread_mutex_unlock(&h->turn);
}

/* The round is over for this entry. What became clean stays if there is room; a tombstone has nothing left to hide. */
static void settle(struct hot *h, struct hot_stripe *s, struct hot_entry *e, struct blob *value,
                   struct hot_entry **gone)
{
    if (!e->shared)
        s->bytes -= hot_blob_cost(value);
    e->shared = 0;
    int keep = e->listed || e->staged ||
               (!e->visible->tombstone && hot_make_room(h, s, 0, gone)); /* still held: not evicted */
    e->held = 0;
    if (!keep)
        hot_detach(s, e, gone);
}

void hot_dirty_done(struct hot *h, struct hot_dirty *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct hot_entry *e = items[i].entry, *gone = NULL;
        struct blob *value = items[i].value;
        struct hot_stripe *s = &h->stripes[e->stripe];

        hot_lock(s);
        atomic_fetch_sub_explicit(&h->dirty_bytes, hot_entry_cost(e) + hot_blob_cost(value), memory_order_relaxed);
        settle(h, s, e, value, &gone);
        hot_unlock(s);
        blob_unref(value);
        hot_free_gone(gone);
    }
    mem_free(items);
    h->in_round = 0;
}
