/* test_engine.c - vaults and secrets over the log, with a sealer that only marks: versions, CAS, labels, soft deletion,
 * expiry, listings, what a restart and a power loss leave. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/engine_impl.h"
#include "engine/wal_impl.h"

/* ---- a sealer for tests: 29 bytes of header and the plaintext turned around ---- */

struct plain {
    size_t n;
    uint8_t bytes[];
};

static enum err test_seal(struct plain *p, const struct seal_bind *bind, uint8_t *out)
{
    memset(out, 0, 29);
    put_le32(out + 1, 1);
    put_le32(out + 13, bind->version);
    for (size_t i = 0; i < p->n; i++)
        out[29 + i] = (uint8_t)~p->bytes[i];
    return ERR_OK;
}

static size_t test_size(const struct plain *p)
{
    return p->n + 29;
}

static const struct sealer sealer = {test_seal, test_size};

/* ---- fixture ---- */

static char dir[64];
static struct engine *e;
static struct engine_report report;

static void log_line(int level, const char *line)
{
    if (level >= LOG_WARNING)
        print_message("engine: %s\n", line);
}

static enum err open_engine(void)
{
    const char *why;
    struct engine_config cfg = {.dir = dir,
                                .shards = 2,
                                .wal_segment_bytes = 1 << 20,
                                .cache_bytes = 1 << 20,
                                .dirty_bytes = 8 << 20,
                                .write_buffer_bytes = 1 << 20,
                                .secret_max_bytes = 1 << 20,
                                .sealer = &sealer,
                                .log = log_line,
                                .defaults = {.max_versions = 3, .recovery_ms = 10000}};
    enum err err = engine_open(&e, &cfg, &report, &why);
    if (err)
        print_message("engine_open: %s\n", why);
    return err;
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/coffer-engine-XXXXXX");
    assert_non_null(mkdtemp(dir));
    clock_test_set_wall_ms(1000000);
    assert_int_equal(open_engine(), ERR_OK);
    return 0;
}

static int teardown(void **state)
{
    char cmd[128];
    (void)state;
    engine_close(e);
    clock_test_set_wall_ms(0);
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

static void restart(void)
{
    engine_close(e);
    assert_int_equal(open_engine(), ERR_OK);
}

/* ---- synchronous writes ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done_cond = PTHREAD_COND_INITIALIZER;

static void done(struct write *w)
{
    pthread_mutex_lock(&lock);
    *(int *)w->arg = 1;
    pthread_cond_signal(&done_cond);
    pthread_mutex_unlock(&lock);
}

static void submit(struct write *w, int *finished, struct vault *v, struct step *s, unsigned n)
{
    *finished = 0;
    *w = (struct write){.vault = v, .step = s, .steps = n, .done = done, .arg = finished};
    engine_submit(e, w);
}

static enum err await(struct write *w)
{
    pthread_mutex_lock(&lock);
    while (!*(int *)w->arg)
        pthread_cond_wait(&done_cond, &lock);
    pthread_mutex_unlock(&lock);
    return w->err;
}

static enum err run(struct vault *v, struct step *s, unsigned n)
{
    int finished;
    struct write w;
    submit(&w, &finished, v, s, n);
    (void)await(&w);
    for (unsigned i = 0; i < n; i++) {
        free(s[i].plain);
        s[i].plain = NULL;
    }
    return w.err;
}

/* ---- writes from several threads ---- */

#define WRITERS 4
#define WRITES 60

struct writer {
    struct vault *v;
    pthread_t thread;
    unsigned index;
    struct write w[WRITES];
    struct step s[WRITES];
    char path[WRITES][16];
    unsigned done, out_of_order;
};

static void count_done(struct write *w)
{
    struct writer *me = w->arg;
    pthread_mutex_lock(&lock);
    me->out_of_order += w != &me->w[me->done];
    me->done++;
    pthread_cond_broadcast(&done_cond);
    pthread_mutex_unlock(&lock);
}

/* One by one, in chains, small values and large ones, so that groups are full now and then. */
static void *write_many(void *arg)
{
    struct writer *me = arg;
    struct write_chain chain = {0};
    for (unsigned i = 0; i < WRITES; i++) {
        size_t n = i % 7 == me->index ? 300000 : 10;
        struct plain *p = malloc(sizeof *p + n);
        p->n = n;
        memset(p->bytes, (int)('a' + i % 26), n);
        snprintf(me->path[i], sizeof me->path[i], "w%u/%u", me->index, i / 2);
        me->s[i] = (struct step){.kind = STEP_SECRET_SET, .path = bytes_str(me->path[i]), .plain = p};
        me->w[i] = (struct write){.vault = me->v, .step = &me->s[i], .steps = 1, .done = count_done, .arg = me};
        write_chain_add(&chain, &me->w[i]);
        if (i % (5 + me->index * 9) == 0 || i + 1 == WRITES)
            engine_submit_chain(e, &chain);
    }
    pthread_mutex_lock(&lock);
    while (me->done < WRITES)
        pthread_cond_wait(&done_cond, &lock);
    pthread_mutex_unlock(&lock);
    return NULL;
}

static struct plain *plain(const char *text)
{
    struct plain *p = malloc(sizeof *p + strlen(text));
    p->n = strlen(text);
    memcpy(p->bytes, text, p->n);
    return p;
}

static struct vault *make_vault(const char *name)
{
    static const struct vault_settings settings = {.max_versions = 3, .recovery_ms = 10000};
    struct step s = {
        .kind = STEP_VAULT_CREATE, .path = bytes_str(name), .record = bytes_str("partition"), .settings = &settings};
    assert_int_equal(run(NULL, &s, 1), ERR_OK);
    struct vault *v = vaults_find(engine_vaults(e), bytes_str(name));
    assert_non_null(v);
    return v;
}

static struct step set_step(const char *path, const char *value, uint16_t flags)
{
    return (struct step){.kind = STEP_SECRET_SET, .path = bytes_str(path), .plain = plain(value), .flags = flags};
}

static uint32_t set(struct vault *v, const char *path, const char *value)
{
    struct step s = set_step(path, value, 0);
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_false(s.nil);
    return s.out_version;
}

static void assert_value(struct vault *v, const char *path, uint32_t version, const char *want)
{
    struct secret_view view;
    enum err err = secret_read(e, v, bytes_str(path), version, bytes_of(NULL, 0), &view);
    if (!want) {
        assert_int_equal(err, ERR_NOTFOUND);
        return;
    }
    assert_int_equal(err, ERR_OK);
    assert_int_equal(view.value.raw.n, strlen(want) + 29);
    assert_int_equal(get_le32(view.value.raw.p + 13), view.version);
    for (size_t i = 0; i < strlen(want); i++)
        assert_int_equal((uint8_t)~view.value.raw.p[29 + i], (uint8_t)want[i]);
    secret_view_release(&view);
}

/* ---- tests ---- */

static void versions_count_and_are_trimmed(void **state)
{
    struct vault *v = make_vault("v");
    (void)state;
    for (uint32_t i = 1; i <= 5; i++) {
        char value[16];
        snprintf(value, sizeof value, "value-%u", i);
        assert_int_equal(set(v, "a/b", value), i);
    }
    assert_value(v, "a/b", 0, "value-5");
    assert_value(v, "a/b", 4, "value-4");
    assert_value(v, "a/b", 3, "value-3");
    assert_value(v, "a/b", 2, NULL);
    assert_value(v, "nowhere", 0, NULL);
    assert_int_equal(atomic_load(&v->secrets), 1);
    assert_int_equal(atomic_load(&v->bytes), 3 * (7 + 29));
    restart();
    v = vaults_find(engine_vaults(e), bytes_str("v"));
    assert_value(v, "a/b", 0, "value-5");
    assert_value(v, "a/b", 3, "value-3");
    assert_int_equal(atomic_load(&v->bytes), 3 * (7 + 29));
    assert_int_equal(set(v, "a/b", "value-6"), 6);
}

static void conditions(void **state)
{
    struct vault *v = make_vault("v");
    (void)state;
    struct step s = set_step("p", "1", SET_XX);
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_true(s.nil);
    s = set_step("p", "1", SET_NX);
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_int_equal(s.out_version, 1);
    s = set_step("p", "2", SET_NX);
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_true(s.nil);
    s = set_step("p", "2", SET_CAS);
    s.version = 7;
    assert_int_equal(run(v, &s, 1), ERR_CONFLICT);
    s = set_step("p", "2", SET_CAS);
    s.version = 1;
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_value(v, "p", 0, "2");
}

/* Several steps in one write: all or nothing, each sees those before it. */
static void many_steps_are_atomic(void **state)
{
    struct vault *v = make_vault("v");
    (void)state;
    struct step s[3] = {set_step("x", "1", 0), set_step("x", "2", 0), set_step("y", "1", SET_CAS)};
    s[2].version = 9;
    assert_int_equal(run(v, s, 3), ERR_CONFLICT);
    assert_value(v, "x", 0, NULL);
    assert_int_equal(atomic_load(&v->secrets), 0);
    struct step t[2] = {set_step("x", "1", 0), set_step("x", "2", 0)};
    uint64_t before = engine_commit_lsn(e);
    assert_int_equal(run(v, t, 2), ERR_OK);
    assert_int_equal(engine_commit_lsn(e), before + 1);
    assert_int_equal(t[1].out_version, 2);
    assert_value(v, "x", 0, "2");
    assert_value(v, "x", 1, "1");
    assert_int_equal(atomic_load(&v->secrets), 1);
}

static void soft_delete_and_destroy(void **state)
{
    struct vault *v = make_vault("v");
    (void)state;
    set(v, "p", "1");
    set(v, "p", "2");
    struct step s = {.kind = STEP_SECRET_DELETE, .path = bytes_str("p")};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_value(v, "p", 0, NULL);
    assert_value(v, "p", 1, NULL);
    s = (struct step){.kind = STEP_SECRET_UNDELETE, .path = bytes_str("p")};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_false(s.nil);
    assert_value(v, "p", 0, "2");
    assert_value(v, "p", 1, "1");
    s = (struct step){.kind = STEP_SECRET_DESTROY, .path = bytes_str("p"), .version = 2};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_value(v, "p", 0, "1");
    s = (struct step){.kind = STEP_SECRET_DESTROY, .path = bytes_str("p")};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_int_equal(s.out_version, 1);
    assert_value(v, "p", 0, NULL);
    assert_int_equal(atomic_load(&v->secrets), 0);
    assert_int_equal(atomic_load(&v->bytes), 0);
    /* versions are never reused, also after a restart */
    assert_int_equal(set(v, "p", "again"), 3);
    s = (struct step){.kind = STEP_SECRET_DESTROY, .path = bytes_str("p")};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    restart();
    v = vaults_find(engine_vaults(e), bytes_str("v"));
    assert_int_equal(set(v, "p", "again"), 4);
}

/* CURRENT is destroyed while all others are soft-deleted: then so is the secret, and UNDELETE brings it back. */
static void no_secret_is_left_without_a_current_version(void **state)
{
    struct vault *v = make_vault("v");
    struct secret_view view;
    (void)state;
    set(v, "p", "1");
    struct step s = {.kind = STEP_SECRET_DELETE, .path = bytes_str("p")};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    set(v, "p", "2");
    s = (struct step){.kind = STEP_SECRET_DESTROY, .path = bytes_str("p"), .version = 2};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_value(v, "p", 0, NULL);
    assert_int_equal(secret_read_head(e, v, bytes_str("p"), &view), ERR_OK);
    assert_int_equal(view.head.state, SECRET_DELETED);
    secret_view_release(&view);
    s = (struct step){.kind = STEP_SECRET_UNDELETE, .path = bytes_str("p")};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_value(v, "p", 0, "1");
}

/* (LSN, term) names one record for ever: a start that does not follow a clean stop begins a term. */
static void terms_begin_with_unclean_starts(void **state)
{
    (void)state;
    make_vault("v");
    restart();
    assert_int_equal(report.wal.last_term, 1);
    char cmd[512];
    snprintf(cmd, sizeof cmd, "cp -r %s %s.copy && rm %s.copy/lock", dir, dir, dir);
    assert_int_equal(system(cmd), 0);
    engine_close(e);
    snprintf(cmd, sizeof cmd, "rm -rf %s && mv %s.copy %s", dir, dir, dir);
    assert_int_equal(system(cmd), 0);
    assert_int_equal(open_engine(), ERR_OK);
    assert_int_equal(report.wal.last_term, 2);
    assert_int_equal(wal_term_at(engine_wal(e), report.wal.last_lsn), 2);
    assert_int_equal(wal_term_at(engine_wal(e), report.wal.last_lsn - 1), 1);
}

static void labels_move(void **state)
{
    struct vault *v = make_vault("v");
    struct secret_view view;
    (void)state;
    set(v, "p", "1");
    struct step s = set_step("p", "next", SET_PENDING);
    s.label = bytes_str("PENDING");
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_value(v, "p", 0, "1");
    assert_int_equal(secret_read(e, v, bytes_str("p"), 0, bytes_str("PENDING"), &view), ERR_OK);
    assert_int_equal(view.version, 2);
    secret_view_release(&view);
    s = (struct step){.kind = STEP_SECRET_STAGE, .path = bytes_str("p"), .label = bytes_str("CURRENT"), .version = 2};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_value(v, "p", 0, "next");
    assert_value(v, "p", 1, "1");
    assert_int_equal(secret_read(e, v, bytes_str("p"), 0, bytes_str("PREVIOUS"), &view), ERR_OK);
    assert_int_equal(view.version, 1);
    secret_view_release(&view);
}

static void wait_until_gone(struct vault *v, uint64_t secrets)
{
    for (int i = 0; i < 5000 && atomic_load(&v->secrets) != secrets; i++)
        usleep(2000);
    assert_int_equal(atomic_load(&v->secrets), secrets);
}

static void expiry_hides_at_once_and_removes_soon(void **state)
{
    struct vault *v = make_vault("v");
    (void)state;
    struct step s = set_step("p", "1", 0);
    s.expires_ms = 1005000;
    assert_int_equal(run(v, &s, 1), ERR_OK);
    set(v, "q", "stays");
    assert_value(v, "p", 0, "1");
    clock_test_set_wall_ms(1005000);
    assert_value(v, "p", 0, NULL);
    wait_until_gone(v, 1);
    assert_int_equal(set(v, "p", "new"), 2);
    assert_value(v, "p", 1, NULL);
}

static void deleted_ones_are_purged(void **state)
{
    struct vault *v = make_vault("v");
    (void)state;
    set(v, "p", "1");
    struct step s = {.kind = STEP_SECRET_DELETE, .path = bytes_str("p")};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    clock_test_set_wall_ms(1010001);
    wait_until_gone(v, 0);
}

struct names {
    char text[1024];
};

static int collect(void *arg, struct bytes path, const struct secret_head *h)
{
    struct names *n = arg;
    (void)h;
    snprintf(n->text + strlen(n->text), sizeof n->text - strlen(n->text), "%.*s ", (int)path.n, (const char *)path.p);
    return 1;
}

static void assert_list(struct vault *v, const char *prefix, int one_level, unsigned max, const char *want)
{
    struct names n = {""};
    struct buf last;
    struct list_query q = {
        .prefix = bytes_str(prefix), .max = max, .scan_max = 1000, .one_level = one_level, .visit = collect, .arg = &n};
    uint64_t lsn;
    int more;
    while (engine_list_ready(e, v, &lsn) == ERR_AGAIN)
        usleep(1000);
    buf_init(&last, 8192);
    do {
        char after[256] = "";
        memcpy(after, buf_size(&last) ? buf_data(&last) : (const uint8_t *)"", buf_size(&last));
        q.after = bytes_str(after);
        assert_int_equal(secret_list(e, v, &q, &last, &more), ERR_OK);
    } while (more);
    buf_fini(&last);
    assert_string_equal(n.text, want);
}

static void listings(void **state)
{
    struct vault *v = make_vault("v"), *other = make_vault("w");
    static const char *const paths[] = {"a", "app/db/password", "app/db/user", "app/key", "app0", "b/c/d", "z"};
    (void)state;
    set(other, "app/other", "1");
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        set(v, paths[i], "1");
    for (unsigned max = 1; max < 9; max++) {
        assert_list(v, "", 1, max, "a app/ app0 b/ z ");
        assert_list(v, "app/", 1, max, "app/db/ app/key ");
        assert_list(v, "", 0, max, "a app/db/password app/db/user app/key app0 b/c/d z ");
        assert_list(v, "app/", 0, max, "app/db/password app/db/user app/key ");
    }
    struct step s = {.kind = STEP_SECRET_DELETE, .path = bytes_str("app/key")};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_list(v, "app/", 1, 10, "app/db/ ");
}

static void large_values_lie_apart(void **state)
{
    struct vault *v = make_vault("v");
    char big[5000];
    (void)state;
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    set(v, "p", "small");
    set(v, "p", big);
    set(v, "p", "small again");
    assert_value(v, "p", 1, "small");
    assert_value(v, "p", 2, big);
    assert_value(v, "p", 3, "small again");
    set(v, "p", big);
    restart();
    v = vaults_find(engine_vaults(e), bytes_str("v"));
    assert_value(v, "p", 0, big);
    assert_value(v, "p", 2, big);
    assert_value(v, "p", 1, NULL);
}

static size_t keys_of_kind(struct vault *v, uint8_t kind)
{
    struct store_iter *it;
    size_t n = 0;
    apply_wait_lsn(e->apply, engine_commit_lsn(e));
    assert_int_equal(store_iter_new(engine_store(e, v->store), &it), ERR_OK);
    for (store_iter_seek(it, bytes_of(&kind, 1)); store_iter_valid(it) && store_iter_key(it).p[0] == kind;
         store_iter_next(it))
        n++;
    store_iter_free(it);
    return n;
}

/* Large values write over each other: a secret overwritten for ever keeps as many keys as versions, and none when it is
 * destroyed. Small ones have no keys. */
static void slots_are_used_again(void **state)
{
    struct vault *v = make_vault("v");
    char big[2000];
    (void)state;
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    for (int i = 0; i < 50; i++)
        set(v, "p", i % 7 == 3 ? "small" : big);
    assert_in_range(keys_of_kind(v, 'v'), 2, 3);
    assert_value(v, "p", 50, big);
    assert_value(v, "p", 49, big);
    assert_value(v, "p", 48, big);
    for (int i = 0; i < 3; i++)
        set(v, "p", "small");
    assert_int_equal(keys_of_kind(v, 'v'), 0);
    struct step s = {.kind = STEP_SECRET_DESTROY, .path = bytes_str("p")};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_int_equal(keys_of_kind(v, 'v'), 0);
    assert_int_equal(keys_of_kind(v, 'h'), 0);
}

static void assert_old(const struct step *s, uint32_t version, const char *value)
{
    assert_int_equal(s->old.version, version);
    assert_non_null(s->old.hold);
    assert_int_equal(s->old.value.raw.n, 29 + strlen(value));
    for (size_t i = 0; value[i]; i++)
        assert_int_equal((uint8_t)~s->old.value.raw.p[29 + i], value[i]);
    blob_unref(s->old.hold);
}

/* A small value that is not CURRENT any more is read where it was written, in the log. */
static void old_values_are_read_from_the_log(void **state)
{
    struct vault *v = make_vault("v");
    struct step current = {
        .kind = STEP_SECRET_STAGE, .path = bytes_str("p"), .version = 1, .label = bytes_str("CURRENT")};
    struct hot_stats before, after;
    (void)state;
    for (int i = 1; i <= 3; i++)
        set(v, "p", i == 1 ? "one" : i == 2 ? "two" : "three");
    assert_value(v, "p", 1, "one");
    hot_stats(e->hot, &before);
    assert_value(v, "p", 1, "one"); /* kept in the table */
    hot_stats(e->hot, &after);
    assert_int_equal(after.misses, before.misses);
    restart();
    v = vaults_find(engine_vaults(e), bytes_str("v"));
    assert_value(v, "p", 1, "one");
    assert_value(v, "p", 2, "two");
    assert_int_equal(run(v, &current, 1), ERR_OK);
    assert_value(v, "p", 0, "one");
    struct step s = set_step("p", "four", SET_OLD);
    assert_int_equal(run(v, &s, 1), ERR_OK); /* version 2 goes: 1 was the oldest, but CURRENT */
    assert_old(&s, 1, "one");
    assert_value(v, "p", 4, "four");
}

/* Whoever submits may do the sequencer's work: each thread's writes are carried out and done in their order all the
 * same, and each is given a place of its own. */
static void many_threads_submit_at_once(void **state)
{
    static struct writer w[WRITERS];
    struct vault *v = make_vault("v");
    struct secret_view view;
    uint64_t first = engine_commit_lsn(e);
    (void)state;
    memset(w, 0, sizeof w);
    for (unsigned i = 0; i < WRITERS; i++) {
        w[i].v = v;
        w[i].index = i;
        assert_int_equal(pthread_create(&w[i].thread, NULL, write_many, &w[i]), 0);
    }
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(w[i].thread, NULL);
        assert_int_equal(w[i].out_of_order, 0);
        for (unsigned k = 0; k < WRITES; k++) {
            assert_int_equal(w[i].w[k].err, ERR_OK);
            assert_true(k == 0 || w[i].w[k].lsn > w[i].w[k - 1].lsn);
            assert_int_equal(w[i].s[k].out_version, 1 + k % 2);
            free(w[i].s[k].plain);
        }
        for (unsigned k = 1; k < WRITES; k += 2) {
            assert_int_equal(secret_read(e, v, bytes_str(w[i].path[k]), 0, bytes_of(NULL, 0), &view), ERR_OK);
            assert_int_equal(view.version, 2);
            assert_int_equal((uint8_t)~view.value.raw.p[29], 'a' + k % 26);
            secret_view_release(&view);
        }
    }
    assert_int_equal(engine_commit_lsn(e) - first, WRITERS * WRITES);
}

static void make_old_ones(struct step s[4], const char *path)
{
    s[0] = set_step(path, "one", 0);
    s[1] = set_step(path, "two", 0);
    s[2] =
        (struct step){.kind = STEP_SECRET_STAGE, .path = bytes_str(path), .version = 1, .label = bytes_str("CURRENT")};
    s[3] = set_step(path, "three", SET_OLD);
}

static void assert_old_ones(struct vault *v, const struct step s[4], const char *path)
{
    assert_old(&s[3], 1, "one");
    assert_value(v, path, 1, "one");
    assert_value(v, path, 2, "two");
    assert_value(v, path, 3, "three");
}

/* Before it is in the log: in the record that is being made, in the group that gathers, in the group being written. */
static void old_values_are_read_before_the_log_has_them(void **state)
{
    struct vault *v = make_vault("v");
    struct step s[3][4];
    struct write w[8];
    int finished[8];
    struct hot_stats before, now;
    (void)state;
    make_old_ones(s[0], "record");
    assert_int_equal(run(v, s[0], 4), ERR_OK);
    assert_old_ones(v, s[0], "record");

    make_old_ones(s[1], "written");
    make_old_ones(s[2], "gathers");
    hot_stats(e->hot, &before);
    pthread_mutex_lock(&e->wal->lock); /* the log writer waits for it, the sequencer does not */
    submit(&w[0], &finished[0], v, &s[1][0], 1);
    do
        hot_stats(e->hot, &now);
    while (now.misses == before.misses);
    for (int i = 1; i < 8; i++)
        submit(&w[i], &finished[i], v, &s[1 + i / 4][i % 4], 1);
    do
        hot_stats(e->hot, &now);
    while (now.hits - before.hits < 6);
    pthread_mutex_unlock(&e->wal->lock);
    for (int i = 0; i < 8; i++)
        assert_int_equal(await(&w[i]), ERR_OK);
    assert_int_equal(w[7].lsn - w[0].lsn, 7);
    assert_old_ones(v, s[1], "written");
    assert_old_ones(v, s[2], "gathers");
    for (int i = 0; i < 8; i++)
        free(s[1 + i / 4][i % 4].plain);
}

static void a_vault_name_is_taken_once(void **state)
{
    static const struct vault_settings settings = {.max_versions = 3};
    (void)state;
    make_vault("v");
    struct step s = {
        .kind = STEP_VAULT_CREATE, .path = bytes_str("v"), .record = bytes_str("partition"), .settings = &settings};
    assert_int_equal(run(NULL, &s, 1), ERR_VAULTEXISTS);
    restart();
    s = (struct step){
        .kind = STEP_VAULT_CREATE, .path = bytes_str("v"), .record = bytes_str("partition"), .settings = &settings};
    assert_int_equal(run(NULL, &s, 1), ERR_VAULTEXISTS);
    s = (struct step){.kind = STEP_VAULT_CREATE,
                      .path = bytes_str("no/slashes"),
                      .record = bytes_str("partition"),
                      .settings = &settings};
    assert_int_equal(run(NULL, &s, 1), ERR_BADNAME);
}

static void quotas(void **state)
{
    static const struct vault_settings settings = {.max_versions = 3, .max_secrets = 2, .max_bytes = 200};
    struct vault *v = make_vault("v");
    (void)state;
    struct step s = {.kind = STEP_VAULT_SET, .settings = &settings, .state = -1};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    set(v, "a", "1");
    set(v, "b", "1");
    s = set_step("c", "1", 0);
    assert_int_equal(run(v, &s, 1), ERR_QUOTA);
    char big[300];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    s = set_step("a", big, 0);
    assert_int_equal(run(v, &s, 1), ERR_QUOTA);
    assert_value(v, "a", 0, "1");
}

/* Another boot without a clean stop: LevelDB is trusted only up to its checkpoint, the rest is replayed. */
static void power_loss_replays_from_the_checkpoint(void **state)
{
    struct vault *v = make_vault("v");
    char cmd[512];
    (void)state;
    for (int i = 0; i < 200; i++) {
        char path[16];
        snprintf(path, sizeof path, "p%d", i % 50);
        set(v, path, "value");
    }
    /* the directory as a crash would leave it: the live files, copied while open */
    snprintf(cmd, sizeof cmd, "cp -r %s %s.copy && rm %s.copy/lock", dir, dir, dir);
    assert_int_equal(system(cmd), 0);
    uint64_t last = engine_commit_lsn(e);
    engine_close(e);
    snprintf(cmd, sizeof cmd, "rm -rf %s && mv %s.copy %s", dir, dir, dir);
    assert_int_equal(system(cmd), 0);
    setenv("COFFER_TEST_BOOT_ID", "another-boot", 1);
    assert_int_equal(open_engine(), ERR_OK);
    unsetenv("COFFER_TEST_BOOT_ID");
    assert_false(report.same_boot);
    assert_int_equal(report.wal.last_lsn, last + 1); /* the barrier of a new term */
    assert_int_equal(report.wal.last_term, 2);
    assert_true(report.replayed > 0);
    v = vaults_find(engine_vaults(e), bytes_str("v"));
    for (int i = 0; i < 50; i++) {
        char path[16];
        snprintf(path, sizeof path, "p%d", i);
        assert_value(v, path, 4, "value");
        assert_value(v, path, 2, "value");
        assert_value(v, path, 1, NULL);
    }
    assert_int_equal(atomic_load(&v->secrets), 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(versions_count_and_are_trimmed, setup, teardown),
        cmocka_unit_test_setup_teardown(conditions, setup, teardown),
        cmocka_unit_test_setup_teardown(many_steps_are_atomic, setup, teardown),
        cmocka_unit_test_setup_teardown(soft_delete_and_destroy, setup, teardown),
        cmocka_unit_test_setup_teardown(no_secret_is_left_without_a_current_version, setup, teardown),
        cmocka_unit_test_setup_teardown(terms_begin_with_unclean_starts, setup, teardown),
        cmocka_unit_test_setup_teardown(labels_move, setup, teardown),
        cmocka_unit_test_setup_teardown(expiry_hides_at_once_and_removes_soon, setup, teardown),
        cmocka_unit_test_setup_teardown(deleted_ones_are_purged, setup, teardown),
        cmocka_unit_test_setup_teardown(listings, setup, teardown),
        cmocka_unit_test_setup_teardown(large_values_lie_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(slots_are_used_again, setup, teardown),
        cmocka_unit_test_setup_teardown(many_threads_submit_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(old_values_are_read_from_the_log, setup, teardown),
        cmocka_unit_test_setup_teardown(old_values_are_read_before_the_log_has_them, setup, teardown),
        cmocka_unit_test_setup_teardown(a_vault_name_is_taken_once, setup, teardown),
        cmocka_unit_test_setup_teardown(quotas, setup, teardown),
        cmocka_unit_test_setup_teardown(power_loss_replays_from_the_checkpoint, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
