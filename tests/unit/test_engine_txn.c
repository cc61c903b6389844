/* test_engine_txn.c - writes of many steps: in several vaults, in units that stand or fall alone, edits, watches; and
 * what is done to whole databases: flushes, swaps. */
#include <unistd.h>

#include "engine/asof.h"
#include "tests/unit/engine_fixture.h"

#include "base/clock.h"

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/dev/shm/coffer-txn-XXXXXX");
    assert_non_null(mkdtemp(dir));
    open_engine();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    clock_test_set_wall_ms(0);
    close_engine();
    shell("rm -rf %s", dir);
    return 0;
}

/* ---- writes of several steps ---- */

static uint64_t last_lsn; /* of run_all() */

static enum err run_all(struct vault *v, struct step *s, unsigned n, int units)
{
    int finished = 0;
    struct write w = {.vault = v, .step = s, .steps = n, .units = (uint8_t)units, .done = done, .arg = &finished};
    engine_submit(e, &w);
    pthread_mutex_lock(&lock);
    while (!finished)
        pthread_cond_wait(&done_cond, &lock);
    pthread_mutex_unlock(&lock);
    for (unsigned i = 0; i < n; i++) {
        free(s[i].plain);
        s[i].plain = NULL;
        blob_unref(s[i].old.hold);
        blob_unref(s[i].head);
        s[i].old.hold = s[i].head = NULL;
    }
    last_lsn = w.lsn;
    return w.err;
}

static struct step set_step(struct vault *v, const char *path, const char *value, unsigned unit)
{
    struct step s = {.kind = STEP_SECRET_SET, .path = bytes_str(path), .plain = plain_of(bytes_str(value))};
    s.vault = v;
    s.unit = unit;
    return s;
}

static struct step step_of(enum step_kind kind, struct vault *v, const char *path, unsigned unit)
{
    struct step s = {.kind = (uint8_t)kind, .path = bytes_str(path)};
    s.vault = v;
    s.unit = unit;
    return s;
}

static void set(struct vault *v, const char *path, const char *value)
{
    struct step s = set_step(v, path, value, 0);
    assert_int_equal(run_all(v, &s, 1, 0), ERR_OK);
}

/* want NULL: there is none. */
static void assert_value(struct vault *v, const char *path, const char *want)
{
    struct secret_view view;
    enum err err = secret_read(e, v, bytes_str(path), 0, bytes_of(NULL, 0), &view);
    if (!want) {
        assert_int_equal(err, ERR_NOTFOUND);
        return;
    }
    assert_int_equal(err, ERR_OK);
    assert_int_equal(view.value.raw.n, 4 + strlen(want));
    assert_memory_equal(view.value.raw.p + 4, want, strlen(want));
    secret_view_release(&view);
}

static int visit(void *arg, struct bytes path, const struct secret_head *h)
{
    (void)path;
    (void)h;
    ++*(unsigned *)arg;
    return 1;
}

static unsigned listed(struct vault *v)
{
    unsigned n = 0;
    int more;
    struct buf last;
    struct list_query q = {.max = 1000, .scan_max = 1000, .visit = visit, .arg = &n};
    assert_int_equal(apply_wait_lsn(e->apply, engine_commit_lsn(e)), ERR_OK);
    buf_init(&last, 8192);
    assert_int_equal(secret_list(e, v, &q, &last, &more), ERR_OK);
    buf_fini(&last);
    return n;
}

static void assert_count(struct vault *v, unsigned n)
{
    assert_int_equal(atomic_load(&v->secrets), n);
    assert_int_equal(v->seq.secrets, n);
    assert_int_equal(listed(v), n);
}

/* ---- several vaults ---- */

static void one_record_is_about_several_vaults(void **state)
{
    struct vault *a = vault_named("a"), *b = vault_named("b");
    (void)state;
    assert_int_not_equal(a->store, b->store); /* shards too */
    struct step s[] = {set_step(a, "x", "1", 0), set_step(b, "x", "2", 0), set_step(a, "y", "3", 0)};
    assert_int_equal(run_all(NULL, s, 3, 0), ERR_OK);
    assert_int_not_equal(last_lsn, 0);
    for (int i = 0; i < 2; i++) {
        assert_value(a, "x", "1");
        assert_value(b, "x", "2");
        assert_value(a, "y", "3");
        assert_count(a, 2);
        assert_count(b, 1);
        checkpoint();
        a = vaults_find(engine_vaults(e), bytes_str("a"));
        b = vaults_find(engine_vaults(e), bytes_str("b"));
    }
}

static void what_fails_leaves_no_vault_changed(void **state)
{
    struct vault *a = vault_named("a"), *b = vault_named("b");
    struct step s[] = {set_step(a, "x", "1", 0), set_step(b, "x", "2", 0), set_step(a, "y", "3", 0),
                       step_of(STEP_SECRET_WATCH, b, "x", 0)};
    (void)state;
    s[3].mark = 1;
    assert_int_equal(run_all(NULL, s, 4, 0), ERR_CONFLICT);
    assert_int_equal(last_lsn, 0);
    assert_count(a, 0);
    assert_count(b, 0);
    assert_int_equal(a->seq.bytes + b->seq.bytes, 0);
}

/* ---- units ---- */

static void a_unit_falls_alone(void **state)
{
    struct vault *a = vault_named("a"), *b = vault_named("b");
    struct step s[] = {
        set_step(a, "one", "1", 1),     set_step(a, "two", "2", 2),
        set_step(b, "two", "2", 2),     step_of(STEP_SECRET_WATCH, a, "one", 2), /* fails: the mark is none */
        set_step(b, "two", "never", 2), set_step(a, "one", "again", 3),
    };
    (void)state;
    assert_int_equal(run_all(NULL, s, 6, 1), ERR_OK);
    for (int i = 1; i < 5; i++)
        assert_int_equal(s[i].err, ERR_CONFLICT);
    assert_int_equal(s[0].err | s[5].err, ERR_OK);
    assert_value(a, "one", "again");
    assert_value(a, "two", NULL);
    assert_value(b, "two", NULL);
    assert_count(a, 1);
    assert_count(b, 0);
}

static void what_concerns_the_write_undoes_all(void **state)
{
    struct vault *a = vault_named("a");
    char *big = malloc(5 << 20);
    (void)state;
    memset(big, 'x', (5 << 20) - 1);
    big[(5 << 20) - 1] = 0;
    struct step s[] = {set_step(a, "one", "1", 1), set_step(a, "big", big, 2), set_step(a, "big2", big, 3)};
    assert_int_equal(run_all(NULL, s, 3, 1), ERR_TOOBIG);
    assert_count(a, 0);
    free(big);
}

/* Unit 0 is for what the whole depends on. */
static void unit_0_undoes_all(void **state)
{
    struct vault *a = vault_named("a");
    struct step s[] = {set_step(a, "one", "1", 1), step_of(STEP_SECRET_WATCH, a, "one", 0)};
    (void)state;
    assert_int_equal(run_all(NULL, s, 2, 1), ERR_CONFLICT);
    assert_count(a, 0);
}

static void a_chain_ends_at_the_first_nil(void **state)
{
    struct vault *a = vault_named("a");
    (void)state;
    set(a, "there", "1");
    struct step s[] = {step_of(STEP_SECRET_READ, a, "new", 0), step_of(STEP_SECRET_READ, a, "there", 0),
                       set_step(a, "new", "2", 0)};
    s[0].flags = SET_NX;
    s[1].flags = SET_NX | SET_AFTER;
    s[2].flags = SET_AFTER;
    assert_int_equal(run_all(a, s, 3, 0), ERR_OK);
    assert_int_equal(last_lsn, 0);
    assert_int_equal(s[0].nil, 0);
    assert_true(s[1].nil && s[2].nil);
    assert_value(a, "new", NULL);
}

/* Of two steps one is carried out. */
static void a_step_for_the_other_case(void **state)
{
    struct vault *a = vault_named("a");
    (void)state;
    set(a, "there", "1");
    for (int there = 0; there < 2; there++) {
        struct step s[] = {step_of(STEP_SECRET_READ, a, there ? "there" : "none", 0), set_step(a, "then", "2", 0),
                           set_step(a, "else", "3", 0)};
        s[1].flags = SET_ELSE;
        s[2].flags = SET_ELSE;
        assert_int_equal(run_all(a, s, 3, 0), ERR_OK);
        assert_int_equal(s[1].nil, there);
        assert_int_equal(s[2].nil, !there);
    }
}

/* ---- edits and reads among the steps ---- */

/* Adds a letter to what is there. */
static enum err edit(struct step *s, struct vault *v)
{
    struct bytes old = s->old.hold ? s->old.value.raw : bytes_of(NULL, 0);
    (void)v;
    if (s->arg == NULL)
        return ERR_RANGE;
    s->plain = malloc(sizeof *s->plain + old.n + 1);
    assert_non_null(s->plain);
    s->plain->n = old.n ? old.n - 4 + 1 : 1;
    if (old.n)
        memcpy(s->plain->bytes, old.p + 4, old.n - 4);
    s->plain->bytes[s->plain->n - 1] = *(const uint8_t *)s->arg;
    return ERR_OK;
}

static struct step edit_step(struct vault *v, const char *path, const char *letter, unsigned unit)
{
    struct step s = step_of(STEP_SECRET_SET, v, path, unit);
    s.flags = SET_OLD;
    s.edit = edit;
    s.arg = (void *)(uintptr_t)letter;
    return s;
}

static void edits_see_what_is_staged(void **state)
{
    struct vault *a = vault_named("a");
    struct step s[] = {edit_step(a, "x", "a", 1), edit_step(a, "x", "b", 2), edit_step(a, "x", NULL, 3),
                       edit_step(a, "x", "c", 4)};
    (void)state;
    assert_int_equal(run_all(NULL, s, 4, 1), ERR_OK);
    assert_int_equal(s[2].err, ERR_RANGE);
    assert_value(a, "x", "abc");
}

static void reads_note_their_moment(void **state)
{
    struct vault *a = vault_named("a");
    struct secret_view view;
    int finished = 0;
    struct step s[] = {set_step(a, "x", "1", 1), step_of(STEP_SECRET_READ, a, "x", 2), set_step(a, "x", "2", 3),
                       step_of(STEP_SECRET_READ, a, "none", 4), step_of(STEP_VAULT_COUNT, a, "", 5)};
    struct write w = {.step = s, .steps = 5, .units = 1, .done = done, .arg = &finished};
    (void)state;
    s[1].flags = s[3].flags = SET_OLD | SET_HEAD;
    engine_submit(e, &w);
    pthread_mutex_lock(&lock);
    while (!finished)
        pthread_cond_wait(&done_cond, &lock);
    pthread_mutex_unlock(&lock);
    assert_int_equal(w.err, ERR_OK);
    assert_int_equal(secret_view_seen(&s[1], 1, clock_wall_ms(), &view), ERR_OK);
    assert_int_equal(view.version, 1);
    assert_memory_equal(view.value.raw.p + 4, "1", 1);
    secret_view_release(&view);
    assert_int_equal(secret_view_seen(&s[3], 1, clock_wall_ms(), &view), ERR_NOTFOUND);
    assert_int_equal(s[4].mark, 1);
    for (int i = 0; i < 5; i++) {
        free(s[i].plain);
        blob_unref(s[i].old.hold);
        blob_unref(s[i].head);
    }
    assert_value(a, "x", "2");
}

static enum err watch_since(struct vault *v, const char *path, uint64_t mark, uint64_t since)
{
    struct step s = step_of(STEP_SECRET_WATCH, v, path, 0);
    s.mark = mark;
    s.since = since;
    return run_all(v, &s, 1, 0);
}

static enum err watch(struct vault *v, const char *path, uint64_t mark)
{
    return watch_since(v, path, mark, engine_commit_lsn(e));
}

static void a_watch_sees_every_change(void **state)
{
    struct vault *a = vault_named("a");
    uint64_t mark;
    (void)state;
    assert_int_equal(secret_mark(e, a, bytes_str("x"), &mark), ERR_OK);
    assert_int_equal(mark, 0);
    assert_int_equal(watch(a, "x", mark), ERR_OK);
    set(a, "x", "1");
    assert_int_equal(watch(a, "x", mark), ERR_CONFLICT);
    assert_int_equal(secret_mark(e, a, bytes_str("x"), &mark), ERR_OK);
    assert_int_equal(watch(a, "x", mark), ERR_OK);
    set(a, "other", "1");
    assert_int_equal(watch(a, "x", mark), ERR_OK);

    struct step s = step_of(STEP_SECRET_EXPIRE, a, "x", 0); /* the same value, another time */
    s.expires_ms = clock_wall_ms() + 1000000;
    assert_int_equal(run_all(a, &s, 1, 0), ERR_OK);
    assert_int_equal(watch(a, "x", mark), ERR_CONFLICT);
    assert_int_equal(secret_mark(e, a, bytes_str("x"), &mark), ERR_OK);
    clock_test_set_wall_ms(s.expires_ms + 1); /* and nothing else */
    assert_int_equal(watch(a, "x", mark), ERR_CONFLICT);
    assert_int_equal(watch(a, "x", 0), ERR_OK);
}

static void a_watch_sees_what_came_and_went(void **state)
{
    struct vault *a = vault_named("a");
    uint64_t before = engine_commit_lsn(e), made;
    (void)state;
    set(a, "x", "1");
    made = engine_commit_lsn(e);
    set(a, "x", "2"); /* a change is not a beginning */
    struct step s = step_of(STEP_SECRET_DESTROY, a, "x", 0);
    assert_int_equal(run_all(a, &s, 1, 0), ERR_OK);
    assert_int_equal(watch_since(a, "x", 0, before), ERR_CONFLICT);
    assert_int_equal(watch_since(a, "x", 0, made - 1), ERR_CONFLICT);
    assert_int_equal(watch_since(a, "x", 0, made), ERR_OK);
    assert_int_equal(watch_since(a, "never", 0, before), ERR_OK);
    assert_true(secret_made_since(e, a, bytes_str("x"), before));
    assert_false(secret_made_since(e, a, bytes_str("x"), made));
    made_forget(e->made, made + 1); /* another node was the primary */
    assert_int_equal(watch_since(a, "never", 0, made), ERR_CONFLICT);
    assert_int_equal(watch_since(a, "never", 0, made + 1), ERR_OK);
}

/* ---- flushes ---- */

static void flush(struct vault *v)
{
    struct step s = step_of(STEP_VAULT_FLUSH, v, "", 0);
    assert_int_equal(run_all(v, &s, 1, 0), ERR_OK);
}

static void wait_for_purge(struct vault *v)
{
    while (atomic_load(&v->purge_lsn))
        usleep(1000);
}

static size_t entries_of(struct vault *v)
{
    static const char kinds[] = "hvx";
    size_t n = 0;
    assert_int_equal(apply_wait_lsn(e->apply, engine_commit_lsn(e)), ERR_OK);
    for (const char *k = kinds; *k; k++) {
        struct store_iter *it;
        assert_int_equal(store_iter_new(e->stores[v->store], &it), ERR_OK);
        for (store_iter_seek(it, bytes_of(k, 1)); store_iter_valid(it); store_iter_next(it)) {
            struct bytes key = store_iter_key(it);
            if (key.p[0] != (uint8_t)*k)
                break;
            n++;
        }
        store_iter_free(it);
    }
    return n;
}

static void a_flush_is_one_record(void **state)
{
    struct vault *v = vault_named("db0");
    char path[16];
    (void)state;
    for (int i = 0; i < 300; i++) {
        snprintf(path, sizeof path, "k%d", i);
        set(v, path, "value");
    }
    set(v, "large", "1");
    uint64_t before = engine_commit_lsn(e);
    flush(v);
    assert_int_equal(last_lsn, before + 1);
    assert_value(v, "k7", NULL);
    assert_count(v, 0);
    flush(v); /* there is nothing to flush */
    assert_int_equal(last_lsn, 0);
    set(v, "k7", "new");
    assert_value(v, "k7", "new");
    assert_count(v, 1);
    wait_for_purge(v);
    assert_value(v, "k7", "new");
    assert_int_equal(entries_of(v), 1);
    assert_count(v, 1);
}

static void a_flush_is_for_the_facade(void **state)
{
    struct vault *v = vault_named("tenant");
    struct step s = step_of(STEP_VAULT_FLUSH, v, "", 0);
    (void)state;
    set(v, "x", "1");
    assert_int_equal(run_all(v, &s, 1, 0), ERR_KEYSTATE);
    assert_value(v, "x", "1");
}

/* What the record itself wrote before goes too, what it writes afterwards stays. */
static void a_flush_has_its_place_in_a_record(void **state)
{
    struct vault *v = vault_named("db0");
    (void)state;
    set(v, "old", "1");
    struct step s[] = {set_step(v, "before", "1", 1),       set_step(v, "old", "2", 1),
                       step_of(STEP_VAULT_FLUSH, v, "", 2), step_of(STEP_SECRET_READ, v, "before", 3),
                       set_step(v, "after", "1", 4),        step_of(STEP_VAULT_COUNT, v, "", 5)};
    assert_int_equal(run_all(NULL, s, 6, 1), ERR_OK);
    assert_true(s[3].nil);
    assert_int_equal(s[5].mark, 1);
    assert_value(v, "before", NULL);
    assert_value(v, "old", NULL);
    assert_value(v, "after", "1");
    assert_count(v, 1);
    wait_for_purge(v);
    assert_count(v, 1);
}

/* The purge goes on where a stop broke it off. */
static void flushes_survive_restarts(void **state)
{
    struct vault *v = vault_named("db0");
    char path[16];
    (void)state;
    for (int i = 0; i < 100; i++) {
        snprintf(path, sizeof path, "k%d", i);
        set(v, path, "value");
    }
    struct step s = set_step(v, "timed", "1", 0);
    s.expires_ms = clock_wall_ms() + 1000000000;
    assert_int_equal(run_all(v, &s, 1, 0), ERR_OK);
    assert_int_equal(entries_of(v), 102); /* and its place in the index of times */
    keeper_stop(e->keeper);
    e->keeper = NULL;
    flush(v);
    checkpoint(); /* not a clean one: there was no keeper */
    v = vaults_find(engine_vaults(e), bytes_str("db0"));
    assert_value(v, "k7", NULL);
    assert_value(v, "timed", NULL);
    assert_count(v, 0);
    wait_for_purge(v);
    assert_int_equal(entries_of(v), 0);
    checkpoint();
    v = vaults_find(engine_vaults(e), bytes_str("db0"));
    assert_count(v, 0);
    assert_int_equal(atomic_load(&v->purge_lsn), 0);
}

/* The past knows of flushes: by the log alone, and by a snapshot that holds what they left behind. */
static void assert_past(struct vault *v, uint64_t lsn, unsigned want, const char *there, const char *gone)
{
    struct asof_query q = {.lsn = lsn, .vault = v};
    struct asof_secret secret;
    struct asof *a;
    char why[256];
    unsigned n = 0;
    enum err err = asof_open(&a, e, &q, why, sizeof why);
    assert_string_equal(why, "");
    assert_int_equal(err, ERR_OK);
    while ((err = asof_next(a, &secret)) == ERR_OK)
        n++;
    assert_int_equal(err, ERR_END);
    assert_int_equal(n, want);
    assert_int_equal(asof_find(a, bytes_str(there), &secret), ERR_OK);
    assert_int_equal(asof_find(a, bytes_str(gone), &secret), ERR_NOTFOUND);
    asof_close(a);
}

static void the_past_knows_of_flushes(void **state)
{
    struct vault *v = vault_named("db0");
    (void)state;
    assert_int_equal(first_lsn(), 1);
    set(v, "a", "1");
    set(v, "b", "1");
    uint64_t before = engine_commit_lsn(e);
    keeper_stop(e->keeper); /* what is left behind stays */
    e->keeper = NULL;
    flush(v);
    set(v, "b", "2");
    set(v, "c", "1");
    uint64_t after = engine_commit_lsn(e);
    for (int i = 0; i < 2; i++) {
        assert_past(v, before, 2, "a", "c");
        assert_past(v, before + 2, 1, "b", "a");
        assert_past(v, after, 2, "c", "a");
        make_snapshot();
    }
    assert_past(v, 0, 2, "c", "a"); /* the snapshot's */
}

/* Counters of before there were flushes. */
static void older_counters_are_read(void **state)
{
    uint8_t raw[SECRET_COUNTERS_BYTES];
    struct secret_counters c = {1, 2, 3, 4, 5}, got;
    (void)state;
    secret_counters_put(raw, &c);
    assert_int_equal(secret_counters_get(bytes_of(raw, sizeof raw), &got), ERR_OK);
    assert_int_equal(got.flushed_lsn, 5);
    assert_int_equal(secret_counters_get(bytes_of(raw, 32), &got), ERR_OK);
    assert_int_equal(got.names_lsn, 4);
    assert_int_equal(got.flushed_lsn, 0);
    assert_int_equal(secret_counters_get(bytes_of(raw, 33), &got), ERR_CORRUPT);
}

/* ---- swaps ---- */

static void swap(unsigned a, unsigned b)
{
    struct step s = {.kind = STEP_DATABASES_SWAP, .mark = a, .version = b};
    assert_int_equal(run_all(NULL, &s, 1, 0), ERR_OK);
}

static void swaps_are_kept(void **state)
{
    (void)state;
    swap(0, 1);
    swap(1, 2);
    for (int i = 0; i < 2; i++) {
        struct databases *d = engine_databases(e);
        assert_int_equal(databases_vault(d, 0), 1);
        assert_int_equal(databases_vault(d, 1), 2);
        assert_int_equal(databases_vault(d, 2), 0);
        assert_int_equal(databases_vault(d, 3), 3);
        for (unsigned db = 0; db < 4; db++)
            assert_int_equal(databases_of_vault(d, databases_vault(d, db)), db);
        checkpoint();
    }
    swap(1, 2);
    swap(0, 1);
    for (unsigned db = 0; db < 4; db++)
        assert_int_equal(databases_vault(engine_databases(e), db), db);
    swap(5, 5);
    assert_int_equal(last_lsn, 0);
}

static void a_swap_record_is_checked(void **state)
{
    static const uint8_t bad[][9] = {{2, 0, 0, 0, 0, 1, 0, 0, 0}, {1, 0, 0, 0, 0, 1, 0, 0, 0}};
    struct buf out;
    (void)state;
    buf_init(&out, 1 << 20);
    assert_int_equal(databases_swap(bytes_of(bad[0], 9), 0, 1, &out), ERR_CORRUPT);
    assert_int_equal(databases_swap(bytes_of(bad[1], 8), 0, 1, &out), ERR_CORRUPT);
    assert_int_equal(databases_swap(bytes_of(bad[1], 9), 0, 1, &out), ERR_OK);
    assert_int_equal(buf_size(&out), 9); /* 0 is itself again; 1 leads to 0 */
    assert_int_equal(databases_load(engine_databases(e), bytes_of(bad[0], 9)), ERR_CORRUPT);
    buf_fini(&out);
}

static void swapped_databases_are_limited(void **state)
{
    struct buf record, next;
    enum err err = ERR_OK;
    (void)state;
    buf_init(&record, 1 << 20);
    for (uint32_t i = 0; i <= DATABASES_SWAPPED_MAX / 2 && !err; i++) {
        buf_init(&next, 1 << 20);
        err = databases_swap(buf_bytes(&record), 2 * i, 2 * i + 1, &next);
        buf_fini(&record);
        record = next;
        assert_int_equal(err, i < DATABASES_SWAPPED_MAX / 2 ? ERR_OK : ERR_TOOBIG);
    }
    buf_fini(&record);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(one_record_is_about_several_vaults),
        T(what_fails_leaves_no_vault_changed),
        T(a_unit_falls_alone),
        T(what_concerns_the_write_undoes_all),
        T(unit_0_undoes_all),
        T(a_chain_ends_at_the_first_nil),
        T(a_step_for_the_other_case),
        T(edits_see_what_is_staged),
        T(reads_note_their_moment),
        T(a_watch_sees_every_change),
        T(a_watch_sees_what_came_and_went),
        T(a_flush_is_one_record),
        T(a_flush_is_for_the_facade),
        T(a_flush_has_its_place_in_a_record),
        T(flushes_survive_restarts),
        T(the_past_knows_of_flushes),
        T(older_counters_are_read),
        T(swaps_are_kept),
        T(a_swap_record_is_checked),
        T(swapped_databases_are_limited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
