/* test_gate.c - a node whose groups somebody else admits and commits (sequencer.h): the tests are the gate's owner. Two
 * engines: what one writes is handed to the other, record by record. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "engine/sequencer_impl.h"
#include "engine/wal_impl.h"
#include "tests/unit/plain_sealer.h"

/* ---- two nodes ---- */

struct node {
    char dir[64];
    struct engine *e;
    struct sequencer *q;
    pthread_mutex_t lock;
    pthread_cond_t cond;
    uint64_t changes; /* how often gate.changed was called */
    struct sequencer_gate gate;
    enum err admits;
    uint64_t asked_first;
    uint32_t asked_records;
    char user[32];  /* rules of the last one that the engine told of */
    char told[256]; /* committed records, "lsn" or "lsn by whom" each */
    _Atomic unsigned wanted;
};

static struct node a, b;

static void changed(void *arg)
{
    struct node *n = arg;
    pthread_mutex_lock(&n->lock);
    n->changes++;
    pthread_cond_broadcast(&n->cond);
    pthread_mutex_unlock(&n->lock);
}

static enum err note_user(void *arg, struct bytes name, struct bytes rules)
{
    struct node *n = arg;
    snprintf(n->user, sizeof n->user, "%.*s %.*s", (int)name.n, (const char *)name.p, rules.p ? (int)rules.n : 4,
             rules.p ? (const char *)rules.p : "gone");
    return ERR_OK;
}

/* They are visible, and the writes are not done. */
static void note_records(void *arg, struct bytes records, const struct mpsc_node *writes)
{
    struct node *n = arg;
    struct record r;
    size_t used;
    for (; records.n && record_get(records, &r, &used) == ERR_OK;
         records = bytes_of(records.p + used, records.n - used)) {
        const struct write *w = NULL;
        size_t at = strlen(n->told);
        assert_true(engine_commit_lsn(n->e) >= r.lsn);
        for (const struct mpsc_node *at_node = writes; at_node && !w; at_node = at_node->next)
            if (mpsc_entry(at_node, struct write, node)->lsn == r.lsn)
                w = mpsc_entry(at_node, struct write, node);
        snprintf(n->told + at, sizeof n->told - at, w ? "%llu by %llu, " : "%llu, ", (unsigned long long)r.lsn,
                 w ? (unsigned long long)w->by : 0);
    }
}

static void reopen(struct node *n, const struct sequencer_gate *gate)
{
    const char *why;
    struct engine_report report;
    struct engine_config cfg = {.dir = n->dir,
                                .shards = 2,
                                .wal_segment_bytes = 65536,
                                .cache_bytes = 1 << 20,
                                .dirty_bytes = 4 << 20,
                                .write_buffer_bytes = 1 << 20,
                                .secret_max_bytes = 1 << 20,
                                .gate = gate,
                                .on_user = note_user,
                                .on_records = note_records,
                                .records_wanted = &n->wanted,
                                .arg = n,
                                .sealer = &sealer};
    assert_int_equal(engine_open(&n->e, &cfg, &report, &why), ERR_OK);
    n->q = atomic_load(&n->e->seq);
}

static void open_with(struct node *n, const struct sequencer_gate *gate)
{
    n->gate = (struct sequencer_gate){changed, n};
    n->admits = ERR_OK;
    pthread_mutex_init(&n->lock, NULL);
    pthread_cond_init(&n->cond, NULL);
    snprintf(n->dir, sizeof n->dir, "%s/coffer-gate-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(n->dir));
    reopen(n, gate);
}

static void open_node(struct node *n)
{
    open_with(n, &n->gate);
}

static void close_node(struct node *n)
{
    char cmd[128];
    sequencer_close(n->q, ERR_READONLY);
    engine_close(n->e);
    snprintf(cmd, sizeof cmd, "rm -rf %s", n->dir);
    assert_int_equal(system(cmd), 0);
    pthread_mutex_destroy(&n->lock);
    pthread_cond_destroy(&n->cond);
    memset(n, 0, sizeof *n);
}

static int setup(void **state)
{
    (void)state;
    open_node(&a);
    open_node(&b);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_node(&a);
    close_node(&b);
    return 0;
}

/* Waits until it holds; looks again whenever something changed. */
#define WAIT(n, holds)                                 \
    do {                                               \
        pthread_mutex_lock(&(n)->lock);                \
        uint64_t seen_ = (n)->changes;                 \
        pthread_mutex_unlock(&(n)->lock);              \
        if (holds)                                     \
            break;                                     \
        pthread_mutex_lock(&(n)->lock);                \
        while ((n)->changes == seen_)                  \
            pthread_cond_wait(&(n)->cond, &(n)->lock); \
        pthread_mutex_unlock(&(n)->lock);              \
    } while (1)

static enum err may(void *arg, uint64_t first_lsn, uint32_t records)
{
    struct node *n = arg;
    n->asked_first = first_lsn;
    n->asked_records = records;
    return n->admits;
}

static void admit(struct node *n)
{
    WAIT(n, sequencer_admit(n->q, may, n) == ERR_OK);
}

static uint64_t last_lsn(struct node *n)
{
    return sequencer_durable(n->q);
}

static void admit_to(struct node *n, uint64_t lsn)
{
    admit(n);
    WAIT(n, last_lsn(n) >= lsn);
}

/* ---- writes ---- */

struct asked {
    struct write w;
    struct step s;
    _Atomic int done;
    unsigned turn; /* the how many-th it was that was done */
};

static _Atomic unsigned turns;

static void done(struct write *w)
{
    struct asked *x = w->arg;
    x->turn = atomic_fetch_add(&turns, 1);
    atomic_store(&x->done, 1);
    changed(&a);
    changed(&b);
}

static _Atomic uint64_t asks;

static void ask(struct node *n, struct asked *x, struct vault *v, struct step s)
{
    *x = (struct asked){.s = s};
    x->w = (struct write){.vault = v, .step = &x->s, .steps = 1, .done = done, .arg = x, .by = ++asks};
    engine_submit(n->e, &x->w);
}

static struct step set_step(const char *path, const char *value, uint16_t flags)
{
    return (struct step){
        .kind = STEP_SECRET_SET, .path = bytes_str(path), .plain = plain_of(bytes_str(value)), .flags = flags};
}

static enum err outcome(struct node *n, struct asked *x)
{
    WAIT(n, atomic_load(&x->done));
    free(x->s.plain);
    x->s.plain = NULL;
    return x->w.err;
}

static void ask_set(struct node *n, struct asked *x, struct vault *v, const char *path, const char *value)
{
    ask(n, x, v, set_step(path, value, 0));
}

static enum err read_value(struct node *n, struct vault *v, const char *path, char out[64])
{
    struct secret_view view;
    enum err err = secret_read(n->e, v, bytes_str(path), 0, bytes_of(NULL, 0), &view);
    out[0] = '\0';
    if (err)
        return err;
    snprintf(out, 64, "%u:%.*s", view.version, (int)view.value.raw.n - 4, view.value.raw.p + 4);
    secret_view_release(&view);
    return ERR_OK;
}

static void assert_reads(struct node *n, struct vault *v, const char *path, const char *want)
{
    char got[64];
    assert_int_equal(read_value(n, v, path, got), want ? ERR_OK : ERR_NOTFOUND);
    assert_string_equal(got, want ? want : "");
}

static struct vault *vault_of(struct node *n, const char *name)
{
    return vaults_find(engine_vaults(n->e), bytes_str(name));
}

static const struct vault_settings settings = {.max_versions = 3, .recovery_ms = 10000};

static struct vault *primary_with_vault(struct node *n, uint32_t term)
{
    struct asked x;
    assert_int_equal(sequencer_open(n->q, term), ERR_OK);
    ask(n, &x, NULL,
        (struct step){.kind = STEP_VAULT_CREATE,
                      .path = bytes_str("v"),
                      .record = bytes_str("partition"),
                      .settings = &settings});
    admit_to(n, last_lsn(n) + 1);
    assert_null(vault_of(n, "v"));
    sequencer_commit(n->q, last_lsn(n));
    assert_int_equal(outcome(n, &x), ERR_OK);
    assert_non_null(vault_of(n, "v"));
    return vault_of(n, "v");
}

/* Hands the records from one node's log to the other's. */
static void hand(struct node *from, struct node *to, uint64_t first, uint64_t last)
{
    struct wal_cursor *c;
    struct record r;
    struct bytes raw;
    if (first > last)
        return;
    assert_int_equal(wal_cursor_open(&c, from->e->wal, first), ERR_OK);
    for (uint64_t lsn = first; lsn <= last; lsn++) {
        assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_OK);
        WAIT(to, sequencer_append(to->q, raw, 1, lsn, r.chain) == ERR_OK);
    }
    wal_cursor_close(c);
    WAIT(to, last_lsn(to) >= last);
}

/* ---- tests ---- */

static void what_is_durable_is_not_visible_before_it_is_committed(void **state)
{
    struct vault *v = primary_with_vault(&a, 1);
    struct asked x;
    (void)state;

    ask_set(&a, &x, v, "p", "one");
    assert_false(atomic_load(&x.done));
    admit_to(&a, 2);
    assert_int_equal(a.asked_first, 2);
    assert_int_equal(a.asked_records, 1);
    assert_false(atomic_load(&x.done));
    assert_reads(&a, v, "p", NULL);
    assert_int_equal(engine_commit_lsn(a.e), 1);

    sequencer_commit(a.q, 2);
    assert_int_equal(outcome(&a, &x), ERR_OK);
    assert_int_equal(x.w.lsn, 2);
    assert_reads(&a, v, "p", "1:one");
}

static void what_is_not_admitted_is_not_written_but_gathers(void **state)
{
    struct vault *v = primary_with_vault(&a, 1);
    struct asked x[5];
    (void)state;

    for (unsigned i = 0; i < 5; i++)
        ask_set(&a, &x[i], v, "p", "x");
    assert_int_equal(last_lsn(&a), 1);
    admit_to(&a, 6);
    assert_int_equal(a.asked_records, 5);
    sequencer_commit(a.q, 6);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(outcome(&a, &x[i]), ERR_OK);
    assert_reads(&a, v, "p", "5:x");
}

static void many_groups_wait_and_are_told_in_order(void **state)
{
    enum { N = 40 };
    struct vault *v = primary_with_vault(&a, 1);
    struct asked x[N];
    char value[16];
    (void)state;

    atomic_store(&turns, 0);
    unsigned in_flight = 0, committed = 0;
    for (unsigned i = 0; i < N; i++) {
        snprintf(value, sizeof value, "%u", i);
        ask_set(&a, &x[i], v, "p", value);
        admit_to(&a, 2 + i);
        if (++in_flight == 14) /* two fewer than there are groups: one gathers, one is free for the next */
            for (; in_flight > 3; in_flight--)
                sequencer_commit(a.q, 2 + committed++);
        assert_int_equal(engine_commit_lsn(a.e), 1 + committed);
    }
    sequencer_commit(a.q, 1 + N);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(outcome(&a, &x[i]), ERR_OK);
        assert_int_equal(x[i].turn, i);
    }
    assert_reads(&a, v, "p", "40:39");
}

static void without_a_free_group_more_gathers(void **state)
{
    enum { N = 30 };
    struct vault *v = primary_with_vault(&a, 1);
    struct asked x[N];
    unsigned admitted = 0;
    (void)state;

    for (unsigned i = 0; i < N; i++) {
        ask_set(&a, &x[i], v, "p", "x");
        if (sequencer_admit(a.q, may, &a) == ERR_OK) {
            admitted++;
            WAIT(&a, last_lsn(&a) >= 2 + i);
        }
    }
    assert_in_range(admitted, 10, 15);
    sequencer_commit(a.q, 1 + admitted);
    admit_to(&a, 1 + N);
    assert_int_equal(a.asked_records, N - admitted);
    sequencer_commit(a.q, 1 + N);
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(outcome(&a, &x[i]), ERR_OK);
    assert_reads(&a, v, "p", "30:x");
}

static void a_refusal_waits_for_what_it_rests_on(void **state)
{
    struct vault *v = primary_with_vault(&a, 1);
    struct asked x, nx;
    (void)state;

    ask_set(&a, &x, v, "p", "one");
    admit_to(&a, 2);
    ask(&a, &nx, v, set_step("p", "two", SET_NX));
    WAIT(&a, atomic_load(&nx.done) || !a.q->g->writes); /* it has nothing to write: nobody is asked */
    sequencer_commit(a.q, 1);
    assert_false(atomic_load(&nx.done));
    sequencer_commit(a.q, 2);
    WAIT(&a, (sequencer_commit(a.q, 2), atomic_load(&nx.done)));
    assert_int_equal(outcome(&a, &nx), ERR_OK);
    assert_true(nx.s.nil);
    assert_int_equal(outcome(&a, &x), ERR_OK);
}

static void a_closed_gate_refuses(void **state)
{
    struct vault *v = primary_with_vault(&a, 1);
    struct asked x, y;
    (void)state;

    sequencer_close(a.q, ERR_NOREPLICAS);
    ask_set(&a, &x, v, "p", "one");
    assert_int_equal(outcome(&a, &x), ERR_NOREPLICAS);
    assert_int_equal(x.w.lsn, 0);
    sequencer_close(a.q, ERR_READONLY);
    ask_set(&a, &y, v, "p", "one");
    assert_int_equal(outcome(&a, &y), ERR_READONLY);
    assert_int_equal(last_lsn(&a), 1);
}

static void closing_refuses_what_gathers(void **state)
{
    struct vault *v = primary_with_vault(&a, 1);
    struct asked x;
    (void)state;

    ask_set(&a, &x, v, "p", "one");
    sequencer_close(a.q, ERR_READONLY);
    assert_int_equal(outcome(&a, &x), ERR_READONLY);
    assert_int_equal(sequencer_open(a.q, 2), ERR_OK);
    ask_set(&a, &x, v, "p", "again");
    admit_to(&a, 2);
    sequencer_commit(a.q, 2);
    assert_int_equal(outcome(&a, &x), ERR_OK);
    assert_int_equal(x.w.term, 2);
    assert_reads(&a, v, "p", "1:again");
}

static void who_may_not_is_closed(void **state)
{
    struct vault *v = primary_with_vault(&a, 1);
    struct asked x;
    (void)state;

    a.admits = ERR_READONLY;
    ask_set(&a, &x, v, "p", "one");
    WAIT(&a, sequencer_admit(a.q, may, &a) == ERR_READONLY);
    assert_int_equal(outcome(&a, &x), ERR_READONLY);
    ask_set(&a, &x, v, "p", "two");
    assert_int_equal(outcome(&a, &x), ERR_READONLY);
}

static void limbo_ends_as_told(void **state)
{
    struct vault *v = primary_with_vault(&a, 1);
    struct asked x, y, z;
    (void)state;

    ask_set(&a, &x, v, "p", "one");
    admit_to(&a, 2);
    ask_set(&a, &y, v, "p", "two");
    admit_to(&a, 3);
    ask_set(&a, &z, v, "q", "three");
    admit_to(&a, 4);
    sequencer_close(a.q, ERR_READONLY);
    assert_false(atomic_load(&x.done) || atomic_load(&y.done) || atomic_load(&z.done));
    sequencer_commit(a.q, 2); /* by another primary, say */
    assert_reads(&a, v, "p", "1:one");
    assert_false(atomic_load(&x.done));
    sequencer_resolve(a.q, 2, 2, ERR_OK);
    assert_int_equal(outcome(&a, &x), ERR_OK);

    assert_int_equal(sequencer_cut(a.q, 2), ERR_OK);
    assert_int_equal(last_lsn(&a), 2);
    sequencer_resolve(a.q, 3, 3, ERR_ROLLEDBACK);
    assert_int_equal(outcome(&a, &y), ERR_ROLLEDBACK);
    sequencer_resolve(a.q, 0, UINT64_MAX, ERR_UNCERTAIN);
    assert_int_equal(outcome(&a, &z), ERR_UNCERTAIN);

    /* Nothing of it is left: the next versions are the ones that these had. */
    assert_int_equal(sequencer_open(a.q, 3), ERR_OK);
    ask_set(&a, &y, v, "p", "other");
    ask_set(&a, &z, v, "q", "more");
    admit_to(&a, 4);
    sequencer_commit(a.q, 4);
    assert_int_equal(outcome(&a, &y), ERR_OK);
    assert_int_equal(outcome(&a, &z), ERR_OK);
    assert_int_equal(y.w.lsn, 3);
    assert_reads(&a, v, "p", "2:other");
    assert_reads(&a, v, "q", "1:more");
    assert_int_equal(atomic_load(&v->secrets), 2);
}

static void what_is_left_at_the_end_is_uncertain(void **state)
{
    struct vault *v = primary_with_vault(&a, 1);
    struct asked x;
    (void)state;

    ask_set(&a, &x, v, "p", "one");
    admit_to(&a, 2);
    close_node(&a);
    assert_true(atomic_load(&x.done));
    free(x.s.plain);
    assert_int_equal(x.w.err, ERR_UNCERTAIN);
    open_node(&a);
}

static void another_node_shows_what_is_committed(void **state)
{
    struct vault *v = primary_with_vault(&a, 1), *vb;
    struct asked x;
    (void)state;

    for (unsigned i = 0; i < 6; i++) {
        ask_set(&a, &x, v, i % 2 ? "p" : "q", "value");
        admit_to(&a, 2 + i);
        sequencer_commit(a.q, 2 + i);
        assert_int_equal(outcome(&a, &x), ERR_OK);
    }
    hand(&a, &b, 1, 7);
    assert_null(vault_of(&b, "v"));
    assert_int_equal(engine_commit_lsn(b.e), 0);
    sequencer_commit(b.q, 3);
    vb = vault_of(&b, "v");
    assert_non_null(vb);
    assert_reads(&b, vb, "q", "1:value");
    assert_reads(&b, vb, "p", "1:value");
    assert_int_equal(engine_commit_lsn(b.e), 3);
    sequencer_commit(b.q, 7);
    assert_reads(&b, vb, "q", "3:value");
    assert_reads(&b, vb, "p", "3:value");
    assert_int_equal(atomic_load(&vb->secrets), 2);

    /* And goes on where the other one was. */
    assert_int_equal(sequencer_open(b.q, 2), ERR_OK);
    ask_set(&b, &x, vb, "p", "here");
    admit_to(&b, 8);
    sequencer_commit(b.q, 8);
    assert_int_equal(outcome(&b, &x), ERR_OK);
    assert_reads(&b, vb, "p", "4:here");
}

/* More than there are groups, and nothing is committed: they need not be kept in memory for it. */
static void what_waits_long_for_its_commit_waits_in_the_log(void **state)
{
    enum { N = 60 };
    struct vault *v = primary_with_vault(&a, 1), *vb;
    struct asked x;
    unsigned spilt = 0;
    char want[16];
    (void)state;

    for (unsigned i = 0; i < N; i++) {
        ask_set(&a, &x, v, "p", "value");
        admit_to(&a, 2 + i);
        sequencer_commit(a.q, 2 + i);
        assert_int_equal(outcome(&a, &x), ERR_OK);
    }
    for (uint64_t lsn = 1; lsn <= 1 + N; lsn++) {
        if (!sequencer_has_room(b.q)) {
            sequencer_spill(b.q);
            spilt++;
        }
        assert_true(sequencer_has_room(b.q));
        hand(&a, &b, lsn, lsn);
    }
    assert_true(spilt > 2);
    assert_int_equal(engine_commit_lsn(b.e), 0);
    for (uint64_t lsn = 1; lsn <= 1 + N; lsn += 5) { /* from the log, and then from memory */
        sequencer_commit(b.q, lsn);
        assert_int_equal(engine_commit_lsn(b.e), lsn);
        vb = vault_of(&b, "v");
        snprintf(want, sizeof want, "%u:value", (unsigned)lsn - 1);
        if (lsn > 1)
            assert_reads(&b, vb, "p", want);
        if (lsn == 31)
            assert_int_equal(sequencer_cut(b.q, 58), ERR_OK);
        if (lsn == 51)
            hand(&a, &b, 59, 1 + N);
    }
    assert_int_equal(sequencer_open(b.q, 2), ERR_OK);
    ask_set(&b, &x, vb, "p", "here");
    admit_to(&b, 2 + N);
    sequencer_commit(b.q, 2 + N);
    assert_int_equal(outcome(&b, &x), ERR_OK);
}

/* A candidate has fetched so much that there is no room: what commits it is the barrier, which is written behind it. */
static void a_barrier_is_taken_where_there_is_no_room(void **state)
{
    struct vault *v = primary_with_vault(&a, 1);
    uint64_t lsn = 0;
    struct asked x;
    (void)state;

    do {
        ask_set(&a, &x, v, "p", "value");
        admit_to(&a, last_lsn(&a) + 1);
        sequencer_commit(a.q, last_lsn(&a));
        assert_int_equal(outcome(&a, &x), ERR_OK);
        if (sequencer_has_room(b.q) && ++lsn)
            hand(&a, &b, lsn, lsn);
    } while (sequencer_has_room(b.q));
    sequencer_spill(b.q);
    hand(&a, &b, lsn + 1, lsn + 1);
    sequencer_commit(b.q, lsn + 1);
    assert_int_equal(engine_commit_lsn(b.e), lsn + 1);

    b.e->cfg.dirty_bytes = 0; /* nor in the stores */
    assert_false(sequencer_has_room(b.q));
    hand(&a, &b, lsn + 2, last_lsn(&a));
    b.e->cfg.dirty_bytes = 4 << 20;
}

/* Of one node's log; appended to the other's at once. */
static void put(struct node *from, struct node *to, uint64_t lsn)
{
    struct wal_cursor *c;
    struct record r;
    struct bytes raw;
    assert_int_equal(wal_cursor_open(&c, from->e->wal, lsn), ERR_OK);
    assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_OK);
    assert_int_equal(sequencer_append(to->q, raw, 1, lsn, r.chain), ERR_OK);
    wal_cursor_close(c);
}

static void set_committed(struct node *n, struct vault *v, const char *value)
{
    struct asked x;
    uint64_t lsn = last_lsn(n) + 1;
    ask_set(n, &x, v, "p", value);
    admit_to(n, lsn);
    sequencer_commit(n->q, lsn);
    assert_int_equal(outcome(n, &x), ERR_OK);
}

/* While the log writer is busy, so much comes that the group that gathers is full. */
static void a_full_group_takes_one_more(void **state)
{
    enum { BYTES = 1 << 20, N = 8 };
    struct vault *v = primary_with_vault(&a, 1);
    char *value = calloc(1, BYTES);
    struct secret_view view;
    uint64_t lsn = 1;
    (void)state;

    memset(value, 'x', BYTES - 64);
    for (unsigned i = 0; i < N; i++)
        set_committed(&a, v, value);
    free(value);
    pthread_mutex_lock(&b.e->wal->lock);
    for (put(&a, &b, lsn++); sequencer_has_room(b.q); lsn++) {
        assert_true(lsn <= N);
        put(&a, &b, lsn);
    }
    put(&a, &b, lsn);
    pthread_mutex_unlock(&b.e->wal->lock);
    WAIT(&b, last_lsn(&b) == lsn);
    sequencer_commit(b.q, lsn);
    assert_int_equal(secret_read(b.e, vault_of(&b, "v"), bytes_str("p"), 0, bytes_of(NULL, 0), &view), ERR_OK);
    assert_int_equal(view.version, lsn - 1);
    secret_view_release(&view);
}

enum { LONG = 3500 };
static struct asked many[LONG];

static unsigned count_told(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < LONG; i++)
        n += (unsigned)atomic_load(&many[i].done);
    return n;
}

/* All in the log, the gate closed, and no group has them. */
static void leave_a_long_tail(struct vault *v)
{
    for (unsigned i = 0; i < LONG; i++)
        ask_set(&a, &many[i], v, "p", "value");
    while (last_lsn(&a) < 1 + LONG)
        admit_to(&a, last_lsn(&a) + 1);
    sequencer_close(a.q, ERR_READONLY);
    sequencer_spill(a.q);
}

/* The owner's other duties come in between; what was acknowledged is told no sooner than it can be read. */
static void a_long_tail_is_shown_in_steps(void **state)
{
    struct vault *v = primary_with_vault(&a, 1);
    unsigned steps = 0;
    struct asked x;
    char want[32];
    (void)state;

    leave_a_long_tail(v);
    sequencer_resolve(a.q, 0, UINT64_MAX, ERR_OK);
    assert_int_equal(count_told(), 0);
    do {
        uint64_t was = engine_commit_lsn(a.e), changes = a.changes;
        sequencer_commit(a.q, 1 + LONG);
        uint64_t lsn = engine_commit_lsn(a.e);
        assert_true(lsn > was && lsn - was <= 1024);
        assert_int_equal(count_told(), lsn - 1);
        snprintf(want, sizeof want, "%llu:value", (unsigned long long)lsn - 1);
        assert_reads(&a, v, "p", want);
        if (sequencer_is_behind(a.q)) {
            assert_true(a.changes > changes); /* it asks for the next */
            ask_set(&a, &x, v, "p", "no");
            assert_int_equal(outcome(&a, &x), ERR_READONLY);
        }
        steps++;
    } while (sequencer_is_behind(a.q));
    assert_int_equal(engine_commit_lsn(a.e), 1 + LONG);
    assert_int_equal(steps, (LONG + 1023) / 1024);
    for (unsigned i = 0; i < LONG; i++)
        assert_int_equal(outcome(&a, &many[i]), ERR_OK);
    assert_int_equal(sequencer_open(a.q, 2), ERR_OK);
    ask_set(&a, &x, v, "p", "here");
    admit_to(&a, 2 + LONG);
    sequencer_commit(a.q, 2 + LONG);
    assert_int_equal(outcome(&a, &x), ERR_OK);
    snprintf(want, sizeof want, "%u:here", LONG + 1);
    assert_reads(&a, v, "p", want);
}

/* Between two steps what is not committed may be cut off, and the node may stop: those that are committed are OK. */
static void between_two_steps_of_a_tail(void **state)
{
    struct vault *v = primary_with_vault(&a, 1);
    (void)state;

    leave_a_long_tail(v);
    sequencer_commit(a.q, LONG - 10);
    assert_true(sequencer_is_behind(a.q));
    sequencer_resolve(a.q, 2, LONG - 10, ERR_OK);
    assert_int_equal(sequencer_cut(a.q, LONG - 9), ERR_OK);
    sequencer_resolve(a.q, LONG - 8, UINT64_MAX, ERR_ROLLEDBACK);
    assert_int_equal(engine_commit_lsn(a.e), 1 + 1024);
    engine_close(a.e);
    unsigned n[3] = {0};
    for (unsigned i = 0; i < LONG; i++) {
        enum err err = outcome(&a, &many[i]);
        n[0] += err == ERR_OK, n[1] += err == ERR_UNCERTAIN, n[2] += err == ERR_ROLLEDBACK;
    }
    assert_int_equal(n[0], LONG - 11);
    assert_int_equal(n[1], 1);
    assert_int_equal(n[2], 10);
    reopen(&a, &a.gate);
    assert_int_equal(engine_commit_lsn(a.e), 1 + 1024);
    assert_int_equal(last_lsn(&a), LONG - 9);
}

static void what_was_cut_comes_otherwise(void **state)
{
    struct vault *v = primary_with_vault(&a, 1), *vb;
    struct asked x;
    (void)state;

    hand(&a, &b, 1, 1);
    sequencer_commit(b.q, 1);
    vb = vault_of(&b, "v");
    for (unsigned i = 0; i < 4; i++) {
        ask_set(&a, &x, v, "p", "lost");
        admit_to(&a, 2 + i);
        sequencer_commit(a.q, 2 + i);
        assert_int_equal(outcome(&a, &x), ERR_OK);
    }
    hand(&a, &b, 2, 5);
    sequencer_commit(b.q, 2);
    assert_int_equal(sequencer_cut(b.q, 3), ERR_OK);
    assert_int_equal(last_lsn(&b), 3);
    sequencer_commit(b.q, 3);
    assert_reads(&b, vb, "p", "2:lost");

    assert_int_equal(sequencer_open(b.q, 2), ERR_OK);
    ask_set(&b, &x, vb, "p", "kept");
    admit_to(&b, 4);
    sequencer_commit(b.q, 4);
    assert_int_equal(outcome(&b, &x), ERR_OK);
    assert_reads(&b, vb, "p", "3:kept");
    assert_int_equal(wal_term_at(b.e->wal, 3), 1);
    assert_int_equal(wal_term_at(b.e->wal, 4), 2);
}

/* What gathers behind a cut goes on from the record that was left, also when it gathers anew. */
static void what_gathers_behind_a_cut_chains_from_what_was_left(void **state)
{
    struct vault *v = primary_with_vault(&a, 1);
    struct asked x, lost, y;
    (void)state;

    ask_set(&a, &lost, v, "p", "lost");
    admit_to(&a, 2);
    sequencer_close(a.q, ERR_READONLY);
    assert_int_equal(sequencer_cut(a.q, 1), ERR_OK);
    sequencer_resolve(a.q, 0, UINT64_MAX, ERR_ROLLEDBACK);
    assert_int_equal(outcome(&a, &lost), ERR_ROLLEDBACK);
    assert_int_equal(sequencer_open(a.q, 2), ERR_OK);
    ask_set(&a, &x, v, "p", "refused");
    sequencer_close(a.q, ERR_READONLY);
    assert_int_equal(outcome(&a, &x), ERR_READONLY);
    assert_int_equal(sequencer_open(a.q, 3), ERR_OK);
    ask_set(&a, &y, v, "p", "kept");
    admit_to(&a, 2);
    sequencer_commit(a.q, 2);
    assert_int_equal(outcome(&a, &y), ERR_OK);
    hand(&a, &b, 1, 2); /* reads the log, and so its chain */
}

/* ---- under load ---- */

struct load {
    pthread_t thread;
    struct vault *v;
    unsigned number, done, ok;
};

static _Atomic int ends;

static void *write_on(void *arg)
{
    struct load *l = arg;
    char path[16];
    snprintf(path, sizeof path, "%u", l->number);
    while (!atomic_load(&ends)) {
        struct asked x;
        ask_set(&a, &x, l->v, path, "x");
        enum err err = outcome(&a, &x);
        l->done++;
        l->ok += err == ERR_OK;
    }
    return NULL;
}

static void one_turn(unsigned turn)
{
    if (turn % 50 != 49) {
        (void)!sequencer_admit(a.q, may, &a);
        uint64_t durable = last_lsn(&a);
        sequencer_commit(a.q, turn % 3 ? durable : durable - (durable > engine_commit_lsn(a.e)));
        return;
    }
    sequencer_close(a.q, ERR_READONLY);
    uint64_t committed = engine_commit_lsn(a.e), last = last_lsn(&a);
    if (turn % 100 == 99) {
        sequencer_commit(a.q, last);
        sequencer_resolve(a.q, 0, UINT64_MAX, ERR_OK);
    } else {
        assert_int_equal(sequencer_cut(a.q, committed), ERR_OK);
        sequencer_resolve(a.q, 0, UINT64_MAX, ERR_ROLLEDBACK);
    }
    assert_int_equal(sequencer_open(a.q, 2 + turn), ERR_OK);
}

/* Every OK is one version more, whatever happens to the gate meanwhile. */
static void writers_beside_a_gate_that_opens_and_closes(void **state)
{
    struct load l[4];
    struct vault *v = primary_with_vault(&a, 1);
    char path[16];
    (void)state;

    atomic_store(&ends, 0);
    for (unsigned i = 0; i < 4; i++) {
        l[i] = (struct load){.v = v, .number = i};
        assert_int_equal(pthread_create(&l[i].thread, NULL, write_on, &l[i]), 0);
    }
    for (unsigned turn = 0; turn < 3000; turn++)
        one_turn(turn);
    atomic_store(&ends, 1);
    sequencer_close(a.q, ERR_READONLY);
    sequencer_commit(a.q, last_lsn(&a));
    sequencer_resolve(a.q, 0, UINT64_MAX, ERR_OK);
    for (unsigned i = 0; i < 4; i++) {
        struct secret_view view;
        pthread_join(l[i].thread, NULL);
        snprintf(path, sizeof path, "%u", i);
        enum err err = secret_read(a.e, v, bytes_str(path), 0, bytes_of(NULL, 0), &view);
        assert_int_equal(err, l[i].ok ? ERR_OK : ERR_NOTFOUND);
        if (l[i].ok)
            assert_int_equal(view.version, l[i].ok);
        if (l[i].ok)
            secret_view_release(&view);
    }
}

static void users_are_told_of_when_they_are_committed(void **state)
{
    struct asked put, gone;
    (void)state;
    (void)primary_with_vault(&a, 1);
    ask(&a, &put, NULL, (struct step){.kind = STEP_USER_PUT, .path = bytes_str("ann"), .record = bytes_str("on")});
    admit_to(&a, 2);
    ask(&a, &gone, NULL, (struct step){.kind = STEP_USER_DELETE, .path = bytes_str("ann")});
    admit_to(&a, 3);
    hand(&a, &b, 1, 3);
    assert_string_equal(a.user, "");
    assert_string_equal(b.user, "");
    sequencer_commit(a.q, 2);
    sequencer_commit(b.q, 2);
    assert_string_equal(a.user, "ann on");
    assert_string_equal(b.user, "ann on");
    sequencer_commit(a.q, 3);
    sequencer_commit(b.q, 3);
    assert_int_equal(outcome(&a, &put), ERR_OK);
    assert_int_equal(outcome(&a, &gone), ERR_OK);
    assert_string_equal(a.user, "ann gone");
    assert_string_equal(b.user, "ann gone");
}

/* In the log's order, on the node that wrote them with their writes, on another, and of what was in limbo, without. */
static void records_are_told_of_when_they_are_visible(void **state)
{
    struct asked x[4];
    struct vault *v = primary_with_vault(&a, 1);
    (void)state;
    atomic_store(&a.wanted, 1);
    atomic_store(&b.wanted, 1);
    asks = 69;
    for (unsigned i = 0; i < 4; i++) {
        ask_set(&a, &x[i], v, "p", "value");
        admit_to(&a, 2 + i);
    }
    hand(&a, &b, 1, 5);
    assert_string_equal(a.told, "");
    sequencer_commit(a.q, 3);
    assert_string_equal(a.told, "2 by 70, 3 by 71, ");
    sequencer_commit(b.q, 4);
    assert_string_equal(b.told, "1, 2, 3, 4, ");
    sequencer_close(a.q, ERR_READONLY); /* what is not committed may be yet, by another primary */
    sequencer_commit(a.q, 4);
    assert_string_equal(a.told, "2 by 70, 3 by 71, 4, ");
    atomic_store(&a.wanted, 0);
    sequencer_commit(a.q, 5);
    assert_string_equal(a.told, "2 by 70, 3 by 71, 4, ");
    sequencer_resolve(a.q, 4, 5, ERR_UNCERTAIN);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(outcome(&a, &x[i]), i < 2 ? ERR_OK : ERR_UNCERTAIN);
}

/* ---- a gate that comes later ---- */

struct stream {
    struct node *n;
    struct vault *v;
    _Atomic int stop, submitted, done, failed;
};

struct streamed {
    struct write w;
    struct step s;
    struct stream *to;
};

static void streamed_done(struct write *w)
{
    struct streamed *x = w->arg;
    atomic_fetch_add(&x->to->failed, w->err != ERR_OK);
    atomic_fetch_add(&x->to->done, 1);
    free(x->s.plain);
    free(x);
}

static void *stream_main(void *arg)
{
    struct stream *to = arg;
    while (!atomic_load(&to->stop)) {
        struct streamed *x = calloc(1, sizeof *x);
        x->to = to;
        x->s = (struct step){.kind = STEP_SECRET_SET, .path = bytes_str("p"), .plain = calloc(1, sizeof(struct plain))};
        x->w = (struct write){.vault = to->v, .step = &x->s, .steps = 1, .done = streamed_done, .arg = x};
        engine_submit(to->n->e, &x->w);
        int at = atomic_fetch_add(&to->submitted, 1) + 1;
        while (at - atomic_load(&to->done) > 500 && !atomic_load(&to->stop))
            sched_yield();
    }
    return NULL;
}

static void own(struct node *n)
{
    (void)!sequencer_admit(n->q, may, n);
    sequencer_commit(n->q, sequencer_durable(n->q));
    sched_yield();
}

/* Writes that come while an engine gets a gate wait, and are carried out when it is opened; none is refused. */
static void a_gate_comes_while_writes_do(void **state)
{
    struct node n = {0};
    struct stream to = {.n = &n};
    pthread_t thread;
    (void)state;
    open_with(&n, NULL);
    struct asked x;
    ask(&n, &x, NULL,
        (struct step){.kind = STEP_VAULT_CREATE,
                      .path = bytes_str("v"),
                      .record = bytes_str("partition"),
                      .settings = &settings});
    while (!atomic_load(&x.done))
        sched_yield();
    to.v = vault_of(&n, "v");
    assert_int_equal(pthread_create(&thread, NULL, stream_main, &to), 0);
    while (atomic_load(&to.done) < 2000)
        sched_yield();
    engine_set_gate(n.e, &n.gate);
    int done = atomic_load(&to.done);
    while (atomic_load(&to.submitted) < done + 400) /* they are taken, and wait */
        sched_yield();
    assert_int_equal(atomic_load(&to.done), done);
    assert_int_equal(sequencer_open(n.q, 9), ERR_OK);
    while (atomic_load(&to.done) < done + 2000)
        own(&n);
    atomic_store(&to.stop, 1);
    pthread_join(thread, NULL);
    while (atomic_load(&to.done) < atomic_load(&to.submitted))
        own(&n);
    assert_int_equal(atomic_load(&to.failed), 0);
    close_node(&n);
}

/* Or it stays closed: they are refused then, once that is said. */
static void a_gate_that_stays_closed_refuses_what_waited(void **state)
{
    struct node n = {0};
    struct asked x;
    (void)state;
    open_with(&n, NULL);
    engine_set_gate(n.e, &n.gate);
    ask(&n, &x, NULL,
        (struct step){.kind = STEP_VAULT_CREATE,
                      .path = bytes_str("v"),
                      .record = bytes_str("partition"),
                      .settings = &settings});
    assert_false(atomic_load(&x.done));
    engine_release(n.e);
    while (!atomic_load(&x.done))
        sched_yield();
    assert_int_equal(x.w.err, ERR_READONLY);
    close_node(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_durable_is_not_visible_before_it_is_committed, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_admitted_is_not_written_but_gathers, setup, teardown),
        cmocka_unit_test_setup_teardown(many_groups_wait_and_are_told_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(without_a_free_group_more_gathers, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refusal_waits_for_what_it_rests_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_closed_gate_refuses, setup, teardown),
        cmocka_unit_test_setup_teardown(closing_refuses_what_gathers, setup, teardown),
        cmocka_unit_test_setup_teardown(who_may_not_is_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(limbo_ends_as_told, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_left_at_the_end_is_uncertain, setup, teardown),
        cmocka_unit_test_setup_teardown(another_node_shows_what_is_committed, setup, teardown),
        cmocka_unit_test_setup_teardown(what_waits_long_for_its_commit_waits_in_the_log, setup, teardown),
        cmocka_unit_test_setup_teardown(a_barrier_is_taken_where_there_is_no_room, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_group_takes_one_more, setup, teardown),
        cmocka_unit_test_setup_teardown(a_long_tail_is_shown_in_steps, setup, teardown),
        cmocka_unit_test_setup_teardown(between_two_steps_of_a_tail, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_cut_comes_otherwise, setup, teardown),
        cmocka_unit_test_setup_teardown(what_gathers_behind_a_cut_chains_from_what_was_left, setup, teardown),
        cmocka_unit_test_setup_teardown(users_are_told_of_when_they_are_committed, setup, teardown),
        cmocka_unit_test_setup_teardown(records_are_told_of_when_they_are_visible, setup, teardown),
        cmocka_unit_test(a_gate_comes_while_writes_do),
        cmocka_unit_test(a_gate_that_stays_closed_refuses_what_waited),
        cmocka_unit_test_setup_teardown(writers_beside_a_gate_that_opens_and_closes, setup, teardown),
    };
    return cmocka_run_group_tests_name("gate", tests, NULL, NULL);
}
