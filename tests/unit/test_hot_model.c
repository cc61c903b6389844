/* The hot table against a simple model, one step at a time from a seed; then with all its threads at once, against an
 * oracle.
 *
 * The model keeps for each key what is committed, what is staged and what LevelDB holds. After each step what the table
 * answers must be what the model says, and a miss must mean that LevelDB holds the committed value. A round is taken
 * apart into its steps, with traffic in between, and must bring LevelDB to exactly the state at its LSN. */
#include "hot_fixture.h"

static unsigned number_at(struct bytes key, size_t at)
{
    unsigned n = 0;
    for (; at < key.n && key.p[at] >= '0' && key.p[at] <= '9'; at++)
        n = n * 10 + key.p[at] - '0';
    return n;
}

/* ---- the model ---- */

#define KEYS 400
#define QUEUE 64
#define LATE 32

struct state {
    uint64_t lsn; /* 0: never written */
    int there;
};

struct staged_write {
    unsigned key;
    struct hot_entry *entry;
    struct blob *value;
};

struct late_fill {
    unsigned key;
    uint64_t token;
    struct state read;
};

struct model {
    struct hot *h;
    uint64_t r, lsn, published;
    struct state committed[KEYS], stored[KEYS], at_cut[KEYS];
    struct staged_write queue[QUEUE]; /* staged, oldest first */
    unsigned queued;
    int group_open;
    struct late_fill late[LATE];
    unsigned late_count;

    enum { NO_ROUND, READING, WRITING } round;
    struct hot_dirty *items;
    size_t room, count, done;
    unsigned stripe;
    uint64_t cut_lsn;
    uint64_t rounds, evictions_seen, closings;
};

static struct bytes key_of(unsigned k, uint8_t buf[32], uint16_t *store)
{
    *store = (uint16_t)(k % 2);
    int n = snprintf((char *)buf, 32, "%c/%u%s", 'a' + (int)(k / 2 % 3), k / 2, k % 5 ? "" : "/with/a/longer/name");
    return bytes_of(buf, (size_t)n);
}

static struct blob *blob_of(uint64_t *r, uint64_t lsn, int there)
{
    struct blob *b = there ? blob_new(bytes_of(&lsn, 8), 8 + rnd(r) % 200, lsn) : blob_tombstone(lsn);
    assert_non_null(b);
    if (there)
        memset(b->data + 8, 'x', b->n - 8);
    return b;
}

static void check_value(const struct blob *b, const struct state *want)
{
    assert_int_equal(!b->tombstone, want->there);
    if (want->there) {
        assert_int_equal(b->lsn, want->lsn);
        assert_memory_equal(b->data, &want->lsn, 8);
    }
}

static void do_stage(struct model *m)
{
    uint8_t buf[32];
    uint16_t store;
    if (m->queued == QUEUE)
        return;
    struct staged_write *s = &m->queue[m->queued++];
    s->key = (unsigned)(rnd(&m->r) % KEYS);
    s->value = blob_of(&m->r, ++m->lsn, rnd(&m->r) % 4 != 0);
    struct bytes key = key_of(s->key, buf, &store);
    assert_int_equal(hot_stage(m->h, store, key, s->value, &s->entry), ERR_OK);
}

static void do_unstage(struct model *m)
{
    for (unsigned n = (unsigned)(rnd(&m->r) % 4); n && m->queued; n--) {
        struct staged_write *s = &m->queue[--m->queued];
        hot_unstage(m->h, s->entry, s->value);
    }
}

static int newer_in_group(const struct model *m, unsigned i, unsigned n)
{
    for (unsigned k = i + 1; k < n; k++)
        if (m->queue[k].key == m->queue[i].key)
            return 1;
    return 0;
}

static void do_publish(struct model *m)
{
    unsigned n = (unsigned)(rnd(&m->r) % 8);
    int newest_only = rnd(&m->r) % 2;
    if (n > m->queued)
        n = m->queued;
    for (unsigned i = 0; i < n; i++) {
        struct staged_write *s = &m->queue[i];
        m->committed[s->key] = (struct state){s->value->lsn, !s->value->tombstone};
        m->published = s->value->lsn;
        m->group_open = 1;
        if (newest_only && newer_in_group(m, i, n))
            continue; /* the table drops it */
        m->closings += m->round == READING && s->entry->listed;
        hot_publish(m->h, s->entry, s->value);
    }
    memmove(m->queue, m->queue + n, (m->queued - n) * sizeof *m->queue);
    m->queued -= n;
    if (rnd(&m->r) % 4) {
        hot_set_published(m->h, m->published);
        m->group_open = 0;
    }
}

static void do_replay(struct model *m)
{
    uint8_t buf[32];
    uint16_t store;
    if (m->queued)
        return;
    unsigned k = (unsigned)(rnd(&m->r) % KEYS);
    struct blob *b = blob_of(&m->r, ++m->lsn, rnd(&m->r) % 4 != 0);
    m->committed[k] = (struct state){b->lsn, !b->tombstone};
    struct bytes key = key_of(k, buf, &store);
    assert_int_equal(hot_replay(m->h, store, key, b), ERR_OK);
    m->published = m->lsn;
    hot_set_published(m->h, m->published);
    m->group_open = 0;
}

static void fill_with(struct model *m, unsigned k, const struct state *read, uint64_t token)
{
    uint8_t buf[32];
    uint16_t store;
    struct bytes key = key_of(k, buf, &store);
    struct blob *b = blob_of(&m->r, read->there ? read->lsn : 0, read->there);
    hot_fill(m->h, store, key, b, token);
    blob_unref(b);
}

static void do_get(struct model *m)
{
    uint8_t buf[32];
    uint16_t store;
    struct blob *b;
    uint64_t token;
    unsigned k = (unsigned)(rnd(&m->r) % KEYS);
    struct bytes key = key_of(k, buf, &store);
    if (hot_get(m->h, store, key, &b, &token)) {
        check_value(b, &m->committed[k]);
        blob_unref(b);
        return;
    }
    assert_int_equal(m->stored[k].there, m->committed[k].there); /* a miss: LevelDB is current */
    if (m->committed[k].there)
        assert_int_equal(m->stored[k].lsn, m->committed[k].lsn);
    if (rnd(&m->r) % 2)
        fill_with(m, k, &m->stored[k], token);
    else if (m->late_count < LATE)
        m->late[m->late_count++] = (struct late_fill){k, token, m->stored[k]};
}

static void do_late_fill(struct model *m)
{
    if (!m->late_count)
        return;
    struct late_fill *l = &m->late[rnd(&m->r) % m->late_count];
    fill_with(m, l->key, &l->read, l->token);
    *l = m->late[--m->late_count];
}

static void do_peek(struct model *m)
{
    uint8_t buf[32];
    uint16_t store;
    struct blob *b;
    uint64_t token;
    unsigned k = (unsigned)(rnd(&m->r) % KEYS);
    const struct staged_write *newest = NULL;
    for (unsigned i = 0; i < m->queued; i++)
        if (m->queue[i].key == k)
            newest = &m->queue[i];
    struct bytes key = key_of(k, buf, &store);
    int there = hot_peek_staged(m->h, store, key, &b, &token);
    if (newest) {
        assert_true(there);
        assert_ptr_equal(b, newest->value);
    } else if (there) {
        check_value(b, &m->committed[k]);
    }
    if (there)
        blob_unref(b);
}

/* ---- a round, in steps ---- */

static void round_close(struct model *m)
{
    if (m->group_open)
        return;
    assert_int_equal(hot_take_close(m->h, &m->items, &m->room, &m->cut_lsn), ERR_OK);
    assert_int_equal(m->cut_lsn, m->published);
    memcpy(m->at_cut, m->committed, sizeof m->at_cut);
    m->count = m->done = 0;
    m->stripe = 0;
    m->round = READING;
}

static void round_read(struct model *m)
{
    for (unsigned n = (unsigned)(rnd(&m->r) % 24); n && m->stripe < HOT_STRIPES; n--)
        m->count += hot_take_stripe(m->h, m->stripe++, m->items + m->count);
    if (m->stripe < HOT_STRIPES)
        return;
    if (m->count)
        hotsort(m->items, m->count, (struct hotsort_key *)(void *)(m->items + m->room));
    for (size_t i = 1; i < m->count; i++) {
        const struct hot_dirty *a = &m->items[i - 1], *b = &m->items[i];
        assert_true(a->store < b->store || (a->store == b->store && bytes_compare(a->key, b->key) < 0));
    }
    m->round = WRITING;
}

static unsigned key_number(const struct hot_dirty *d)
{
    return number_at(d->key, 2) * 2 + d->store;
}

static void round_write(struct model *m)
{
    for (unsigned n = (unsigned)(rnd(&m->r) % 24); n && m->done < m->count; n--) {
        const struct hot_dirty *d = &m->items[m->done++];
        m->stored[key_number(d)] = (struct state){d->value->lsn, !d->value->tombstone};
    }
    if (m->done < m->count)
        return;
    for (unsigned k = 0; k < KEYS; k++) { /* exactly the state at the cut */
        assert_int_equal(m->stored[k].there, m->at_cut[k].there);
        if (m->at_cut[k].there)
            assert_int_equal(m->stored[k].lsn, m->at_cut[k].lsn);
    }
    hot_dirty_done(m->h, m->items, m->count);
    m->round = NO_ROUND;
    m->rounds++;
}

static void do_round(struct model *m)
{
    if (m->round == NO_ROUND)
        round_close(m);
    else if (m->round == READING)
        round_read(m);
    else
        round_write(m);
}

static void do_drop(struct model *m)
{
    if (rnd(&m->r) % 50 == 0)
        hot_drop_clean(m->h, (uint16_t)(rnd(&m->r) % 2));
}

static void run_model(uint64_t seed, size_t limit, unsigned steps, struct model *m)
{
    static void (*const all[])(struct model *) = {do_stage, do_stage,     do_publish, do_get,     do_get,    do_get,
                                                  do_peek,  do_late_fill, do_round,   do_unstage, do_replay, do_drop};
    struct hot_stats before, after;
    *m = (struct model){.r = seed * 0x9e3779b97f4a7c15u + 1};
    assert_int_equal(hot_new(&m->h, limit), ERR_OK);
    hot_stats(m->h, &before);
    for (unsigned i = 0; i < steps; i++)
        all[rnd(&m->r) % (sizeof all / sizeof *all)](m);

    while (m->queued)
        do_publish(m);
    hot_set_published(m->h, m->published);
    m->group_open = 0;
    uint64_t rounds = m->rounds;
    while (m->rounds < rounds + 2)
        do_round(m);
    hot_stats(m->h, &after);
    m->evictions_seen = after.evictions;
    assert_int_equal(after.dirty_bytes, 0);
    assert_int_equal(after.dirty_entries, 0);
    hot_drop_clean(m->h, UINT16_MAX);
    hot_stats(m->h, &after);
    assert_int_equal(after.entries, 0);
    assert_int_equal(after.bytes, before.bytes); /* nothing was counted twice, or forgotten */
    hot_free(m->h);
}

static void the_table_does_what_the_model_says(void **state)
{
    (void)state;
    static struct model m;
    uint64_t rounds = 0, evictions = 0, closings = 0;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        run_model(seed, seed % 3 == 0 ? 0 : seed % 3 == 1 ? 64 * 1500 : (size_t)64 << 20, 20000, &m);
        rounds += m.rounds;
        evictions += m.evictions_seen;
        closings += m.closings;
    }
    assert_true(rounds > 1000); /* the run went where it is meant to go */
    assert_true(evictions > 1000);
    assert_true(closings > 1000);
}

/* ---- threads ---- */

#define T_KEYS 64
#define T_LSNS 40000
#define T_GROUP 16

/* Record lsn writes key record_key(lsn); every eighth deletes it. So the state at any LSN is known. */
static unsigned record_key(uint64_t lsn)
{
    return (unsigned)((lsn * 0x9e3779b97f4a7c15u) >> 40) % T_KEYS;
}

static int record_deletes(uint64_t lsn)
{
    return lsn % 8 == 0;
}

struct crowd {
    struct hot *h;
    _Atomic uint64_t stored[T_KEYS];    /* LevelDB: LSN of the last record written there, a deletion included */
    _Atomic uint64_t committed[T_KEYS]; /* set after it was published: readers must see at least this */
    _Atomic uint64_t staged_lsn, published_lsn;
    _Atomic int writer_done;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    struct hot_entry *entries[T_LSNS + 1];
    struct blob *values[T_LSNS + 1];
};

static struct bytes thread_key(unsigned k, uint8_t buf[16])
{
    return bytes_of(buf, (size_t)snprintf((char *)buf, 16, "key-%u", k));
}

static struct blob *thread_value(uint64_t lsn)
{
    struct blob *b =
        lsn == 0 || record_deletes(lsn) ? blob_tombstone(lsn) : blob_new(bytes_of(&lsn, 8), 8 + lsn % 100, lsn);
    if (!b)
        abort();
    return b;
}

static void *sequencer(void *arg)
{
    struct crowd *c = arg;
    uint8_t buf[16];
    for (uint64_t lsn = 1; lsn <= T_LSNS; lsn++) {
        pthread_mutex_lock(&c->lock);
        while (lsn > c->published_lsn + 4 * T_GROUP)
            pthread_cond_wait(&c->moved, &c->lock);
        pthread_mutex_unlock(&c->lock);
        struct bytes key = thread_key(record_key(lsn), buf);
        if (lsn % 100 == 50) { /* one that did not make it */
            struct hot_entry *e;
            struct blob *b = thread_value(lsn);
            if (hot_stage(c->h, 0, key, b, &e))
                abort();
            hot_unstage(c->h, e, b);
        }
        c->values[lsn] = thread_value(lsn);
        if (hot_stage(c->h, 0, key, c->values[lsn], &c->entries[lsn]))
            abort();
        pthread_mutex_lock(&c->lock);
        c->staged_lsn = lsn;
        pthread_cond_broadcast(&c->moved);
        pthread_mutex_unlock(&c->lock);
    }
    return NULL;
}

static void *log_writer(void *arg)
{
    struct crowd *c = arg;
    uint64_t lsn = 0;
    while (lsn < T_LSNS) {
        pthread_mutex_lock(&c->lock);
        while (c->staged_lsn == lsn)
            pthread_cond_wait(&c->moved, &c->lock);
        uint64_t end = c->staged_lsn < lsn + T_GROUP ? c->staged_lsn : lsn + T_GROUP, from = lsn;
        pthread_mutex_unlock(&c->lock);
        while (lsn < end) {
            lsn++;
            hot_publish(c->h, c->entries[lsn], c->values[lsn]);
        }
        hot_set_published(c->h, lsn);
        for (uint64_t i = from + 1; i <= lsn; i++)
            atomic_store(&c->committed[record_key(i)], i);
        pthread_mutex_lock(&c->lock);
        c->published_lsn = lsn;
        pthread_cond_broadcast(&c->moved);
        pthread_mutex_unlock(&c->lock);
    }
    atomic_store(&c->writer_done, 1);
    return NULL;
}

static void *applier(void *arg)
{
    struct crowd *c = arg;
    uint64_t replayed = 0, model[T_KEYS] = {0};
    int last = 0;
    while (!last) {
        struct hot_dirty *items;
        size_t n;
        uint64_t lsn;
        last = atomic_load(&c->writer_done);
        if (hot_dirty_take(c->h, &items, &n, &lsn))
            abort();
        for (size_t i = 0; i < n; i++)
            atomic_store(&c->stored[number_at(items[i].key, 4)], items[i].value->lsn);
        while (replayed < lsn) {
            replayed++;
            model[record_key(replayed)] = replayed;
        }
        for (unsigned k = 0; k < T_KEYS; k++) { /* exactly the state at lsn; a deletion may have needed no write */
            uint64_t is = atomic_load(&c->stored[k]);
            if (is != model[k] && !(record_deletes(model[k]) && (is == 0 || record_deletes(is))))
                abort();
        }
        hot_dirty_done(c->h, items, n);
    }
    return NULL;
}

static void *reader(void *arg)
{
    struct crowd *c = arg;
    uint64_t r = (uint64_t)(uintptr_t)&arg | 1, seen[T_KEYS] = {0};
    uint8_t buf[16];
    while (!atomic_load(&c->writer_done)) {
        unsigned k = (unsigned)(rnd(&r) % T_KEYS);
        struct bytes key = thread_key(k, buf);
        struct blob *b;
        uint64_t token, floor = atomic_load(&c->committed[k]);
        if (!hot_get(c->h, 0, key, &b, &token)) {
            b = thread_value(atomic_load(&c->stored[k]));
            hot_fill(c->h, 0, key, b, token);
        }
        /* Never older than what was committed before the read, nor than what this reader saw. A skipped deletion has an
         * older LSN. */
        if ((b->lsn < floor || b->lsn < seen[k]) && !b->tombstone)
            abort();
        if (b->tombstone && b->lsn < floor && !record_deletes(floor)) {
            uint64_t d = floor; /* then a deletion must have come after what was committed */
            while (d <= T_LSNS && !(record_key(d) == k && record_deletes(d)))
                d++;
            if (d > T_LSNS || d > atomic_load(&c->staged_lsn))
                abort();
        }
        if (b->lsn > seen[k])
            seen[k] = b->lsn;
        blob_unref(b);
    }
    return NULL;
}

static void run_crowd(size_t limit)
{
    struct crowd *c = calloc(1, sizeof *c);
    void *(*const roles[])(void *) = {sequencer, log_writer, applier, reader, reader};
    pthread_t threads[5];
    assert_int_equal(hot_new(&c->h, limit), ERR_OK);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->moved, NULL);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, roles[i], c), 0);
    for (unsigned i = 0; i < 5; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(hot_dirty_bytes(c->h), 0);
    pthread_cond_destroy(&c->moved);
    pthread_mutex_destroy(&c->lock);
    hot_free(c->h);
    free(c);
}

static void no_reader_sees_a_value_go_back(void **state)
{
    (void)state;
    run_crowd(0); /* everything is evicted as soon as it may be */
    run_crowd(64 * 900);
    run_crowd((size_t)64 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_does_what_the_model_says),
        cmocka_unit_test(no_reader_sees_a_value_go_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
