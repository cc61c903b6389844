/* test_engine_regress.c - what once broke in the engine: each test is named for the promise that did not hold. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/engine_impl.h"
#include "engine/wal_impl.h"

/* ---- a sealer for tests: a header that tells the version, and the plaintext as it is ---- */

struct plain {
    size_t n;
    uint8_t bytes[];
};

static pthread_mutex_t seal_gate = PTHREAD_MUTEX_INITIALIZER; /* who has it keeps the sequencer in seal() */
static _Atomic int sealing;
static _Atomic enum err seal_err;

static enum err test_seal(struct plain *p, const struct seal_bind *bind, uint8_t *out)
{
    atomic_store(&sealing, 1);
    pthread_mutex_lock(&seal_gate);
    pthread_mutex_unlock(&seal_gate);
    put_le32(out, bind->version);
    memcpy(out + 4, p->bytes, p->n);
    return atomic_load(&seal_err);
}

static size_t test_size(const struct plain *p)
{
    return p->n + 4;
}

static const struct sealer sealer = {test_seal, test_size};

/* ---- fixture ---- */

static char dir[64];
static struct engine *e;
static struct engine_report report;

static enum err open_engine(void)
{
    const char *why;
    struct engine_config cfg = {.dir = dir,
                                .shards = 1,
                                .wal_segment_bytes = 1 << 20,
                                .cache_bytes = 1 << 20,
                                .dirty_bytes = 8 << 20,
                                .write_buffer_bytes = 1 << 20,
                                .secret_max_bytes = 1 << 20,
                                .sealer = &sealer};
    return engine_open(&e, &cfg, &report, &why);
}

static void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *fmt, ...)
{
    char cmd[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cmd, sizeof cmd, fmt, ap);
    va_end(ap);
    assert_int_equal(system(cmd), 0);
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "%s/coffer-regress-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(dir));
    setenv("COFFER_TEST_BOOT_ID", "first-boot", 1);
    clock_test_set_wall_ms(1000000);
    assert_int_equal(open_engine(), ERR_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    engine_close(e);
    e = NULL;
    clock_test_set_wall_ms(0);
    unsetenv("COFFER_TEST_BOOT_ID");
    shell("rm -rf %s %s.crash", dir, dir);
    return 0;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done_cond = PTHREAD_COND_INITIALIZER;
static unsigned under_way;

static void done(struct write *w)
{
    (void)w;
    pthread_mutex_lock(&lock);
    under_way--;
    pthread_cond_signal(&done_cond);
    pthread_mutex_unlock(&lock);
}

static void submit_with(struct write *w, struct vault *v, struct step *s, unsigned n, void (*when_done)(struct write *))
{
    *w = (struct write){.vault = v, .step = s, .steps = n, .done = when_done};
    pthread_mutex_lock(&lock);
    under_way++;
    pthread_mutex_unlock(&lock);
    engine_submit(e, w);
}

static void submit(struct write *w, struct vault *v, struct step *s, unsigned n)
{
    submit_with(w, v, s, n, done);
}

static void finish(void)
{
    pthread_mutex_lock(&lock);
    while (under_way)
        pthread_cond_wait(&done_cond, &lock);
    pthread_mutex_unlock(&lock);
}

static enum err run(struct vault *v, struct step *s, unsigned n)
{
    struct write w;
    submit(&w, v, s, n);
    finish();
    for (unsigned i = 0; i < n; i++) {
        free(s[i].plain);
        s[i].plain = NULL;
    }
    return w.err;
}

static struct vault *make_vault(const char *name)
{
    static const struct vault_settings settings = {.max_versions = 3, .recovery_ms = 10000};
    struct step s = {
        .kind = STEP_VAULT_CREATE, .path = bytes_str(name), .record = bytes_str("partition"), .settings = &settings};
    assert_int_equal(run(NULL, &s, 1), ERR_OK);
    return vaults_find(engine_vaults(e), bytes_str(name));
}

static struct step set_step(const char *path, const char *value, uint16_t flags)
{
    struct plain *p = malloc(sizeof *p + strlen(value));
    p->n = strlen(value);
    memcpy(p->bytes, value, p->n);
    return (struct step){.kind = STEP_SECRET_SET, .path = bytes_str(path), .plain = p, .flags = flags};
}

static uint32_t set(struct vault *v, const char *path, const char *value)
{
    struct step s = set_step(path, value, 0);
    assert_int_equal(run(v, &s, 1), ERR_OK);
    return s.out_version;
}

static void assert_value(struct vault *v, const char *path, uint32_t version, const char *want)
{
    struct secret_view view;
    assert_int_equal(secret_read(e, v, bytes_str(path), version, bytes_of(NULL, 0), &view), ERR_OK);
    assert_int_equal(view.value.raw.n, strlen(want) + 4);
    assert_int_equal(get_le32(view.value.raw.p), view.version);
    assert_memory_equal(view.value.raw.p + 4, want, strlen(want));
    secret_view_release(&view);
}

static const char *big_value(char fill)
{
    static char big[2000];
    memset(big, fill, sizeof big - 1);
    return big;
}

/* ---- the middle of a group: the test takes the log writer's place, which has nothing to do ---- */

static void make_visible(struct vault *v, struct bytes key, struct bytes value)
{
    struct blob *b =
        value.p ? blob_new(value, value.n, engine_commit_lsn(e) + 1) : blob_tombstone(engine_commit_lsn(e) + 1);
    assert_non_null(b);
    assert_int_equal(hot_replay(e->hot, v->store, key, b), ERR_OK);
}

static void end_of_group(void)
{
    hot_set_published(e->hot, engine_commit_lsn(e));
}

struct reader {
    struct vault *v;
    _Atomic int finished;
    enum err err;
    uint32_t version;
    uint8_t first;
};

static void *read_it(void *arg)
{
    struct reader *r = arg;
    struct secret_view view;
    r->err = secret_read(e, r->v, bytes_str("p"), 0, bytes_of(NULL, 0), &view);
    if (r->err == ERR_OK) {
        r->version = view.version;
        r->first = view.value.raw.p[4];
        secret_view_release(&view);
    }
    atomic_store(&r->finished, 1);
    return NULL;
}

/* The log writer makes a large value visible, then its head. It may lose its processor in between, for longer than a
 * reader takes to try a thousand times: that was answered CORRUPT. */
static void a_value_between_slot_and_head_is_not_corrupt(void **state)
{
    struct vault *v = make_vault("v");
    struct reader r = {.v = v};
    uint8_t key[SECRET_KEY_MAX], head[256], value[2003];
    struct secret_view view;
    struct hot_stats before, now;
    pthread_t t;
    (void)state;
    set(v, "p", big_value('a'));
    assert_int_equal(secret_read_head(e, v, bytes_str("p"), &view), ERR_OK);
    struct secret_version version;
    uint8_t list[SECRET_VERSION_BYTES_MAX];
    assert_int_equal(secret_versions_get(&view.head, &version), ERR_OK);
    view.head.last_version = view.head.current = version.version = 2; /* instead of 1 */
    view.head.version_bytes = bytes_of(list, secret_versions_put(list, &version, 1));
    secret_head_put(&view.head, head);
    put_le32(value, 2);
    memset(value + 4, 'b', sizeof value - 4);
    make_visible(v, secret_key_slot(key, v->id, bytes_str("p"), 0), bytes_of(value, sizeof value));

    assert_int_equal(pthread_create(&t, NULL, read_it, &r), 0);
    hot_stats(e->hot, &before);
    do
        hot_stats(e->hot, &now);
    while (now.hits - before.hits < 4000 && !atomic_load(&r.finished));
    assert_false(atomic_load(&r.finished));
    make_visible(v, secret_key_head(key, v->id, bytes_str("p")), bytes_of(head, secret_head_size(&view.head)));
    end_of_group();
    pthread_join(t, NULL);
    assert_int_equal(r.err, ERR_OK);
    assert_int_equal(r.version, 2);
    assert_int_equal(r.first, 'b');
    secret_view_release(&view);
}

/* But what is torn while nobody writes is lost, and is said so. */
static void a_value_that_lost_its_slot_is_corrupt(void **state)
{
    struct vault *v = make_vault("v");
    uint8_t key[SECRET_KEY_MAX];
    struct secret_view view;
    (void)state;
    set(v, "p", big_value('a'));
    make_visible(v, secret_key_slot(key, v->id, bytes_str("p"), 0), bytes_of(NULL, 0));
    end_of_group();
    assert_int_equal(secret_read(e, v, bytes_str("p"), 0, bytes_of(NULL, 0), &view), ERR_CORRUPT);
}

static void look_at(struct vault *v, const char *path, struct engine_moment *m)
{
    struct secret_view view;
    enum err err = secret_read(e, v, bytes_str(path), 0, bytes_of(NULL, 0), &view);
    engine_moment_saw(m, err ? NULL : &view);
    if (err == ERR_OK)
        secret_view_release(&view);
}

/* Two secrets go in one record; a reader of both came while the first was gone for readers and the second was not yet:
 * it got a nil and a value. */
static void two_secrets_destroyed_at_once_are_read_at_one_moment(void **state)
{
    struct vault *v = make_vault("v");
    uint8_t key[SECRET_KEY_MAX];
    struct engine_moment m;
    (void)state;
    set(v, "a", "1");
    set(v, "b", "1");
    engine_moment_begin(e, &m);
    look_at(v, "a", &m);
    look_at(v, "b", &m);
    assert_true(engine_moment_held(e, &m));

    make_visible(v, secret_key_head(key, v->id, bytes_str("a")), bytes_of(NULL, 0));
    engine_moment_begin(e, &m);
    look_at(v, "a", &m);
    look_at(v, "b", &m);
    assert_false(engine_moment_held(e, &m));
    make_visible(v, secret_key_head(key, v->id, bytes_str("b")), bytes_of(NULL, 0));
    end_of_group();
    assert_false(engine_moment_held(e, &m));

    engine_moment_begin(e, &m);
    look_at(v, "a", &m);
    look_at(v, "b", &m);
    assert_true(engine_moment_held(e, &m));
    /* One secret alone is always of one moment. */
    engine_moment_begin(e, &m);
    make_visible(v, secret_key_head(key, v->id, bytes_str("b")), bytes_of(NULL, 0));
    look_at(v, "b", &m);
    assert_true(engine_moment_held(e, &m));
    end_of_group();
}

/* ---- listings ---- */

struct names {
    char text[1024];
};

static int collect(void *arg, struct bytes path, const struct secret_head *h)
{
    struct names *n = arg;
    size_t at = strlen(n->text);
    snprintf(n->text + at, sizeof n->text - at, "%.*s:%u ", (int)path.n, (const char *)path.p, h ? h->current : 0);
    return 1;
}

/* Page by page. */
static struct names list(struct vault *v, const char *prefix, int one_level, unsigned max)
{
    struct names n = {""};
    struct buf last;
    struct list_query q = {
        .prefix = bytes_str(prefix), .max = max, .scan_max = 1000, .one_level = one_level, .visit = collect, .arg = &n};
    uint64_t lsn;
    int more;
    while (engine_list_ready(e, v, &lsn) == ERR_AGAIN)
        apply_wait_lsn(e->apply, lsn);
    buf_init(&last, 8192);
    do {
        char after[256] = "";
        memcpy(after, buf_size(&last) ? buf_data(&last) : (const uint8_t *)"", buf_size(&last));
        q.after = bytes_str(after);
        assert_int_equal(secret_list(e, v, &q, &last, &more), ERR_OK);
    } while (more);
    buf_fini(&last);
    return n;
}

static void assert_list(struct vault *v, const char *prefix, int one_level, unsigned max, const char *want)
{
    struct names n = list(v, prefix, one_level, max);
    assert_string_equal(n.text, want);
}

/* A page that ended with the path "a/" went on behind everything that begins so, as if a folder had been given out. */
static void a_path_that_ends_in_a_slash_hides_no_others(void **state)
{
    static const char *const paths[] = {"a", "a/", "a//", "a//b", "a/b", "a/b/", "a/b/c", "a0"};
    struct vault *v = make_vault("v");
    (void)state;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        set(v, paths[i], "1");
    for (unsigned max = 1; max < 9; max++) {
        assert_list(v, "", 0, max, "a:1 a/:1 a//:1 a//b:1 a/b:1 a/b/:1 a/b/c:1 a0:1 ");
        assert_list(v, "", 1, max, "a:1 a/:0 a0:1 ");
        assert_list(v, "a/", 1, max, "a/:1 a//:0 a/b:1 a/b/:0 ");
        assert_list(v, "a/", 0, max, "a/:1 a//:1 a//b:1 a/b:1 a/b/:1 a/b/c:1 ");
        assert_list(v, "a/b/", 1, max, "a/b/:1 a/b/c:1 ");
    }
}

/* A listing asked LevelDB alone, which did not know yet that the secret expires no more: it was missing. */
static void a_listing_knows_of_changes_that_are_not_applied(void **state)
{
    struct vault *v = make_vault("v");
    (void)state;
    struct step s = set_step("p", "1", 0);
    s.expires_ms = 1005000;
    assert_int_equal(run(v, &s, 1), ERR_OK);
    s = set_step("q", "1", 0);
    s.expires_ms = 1005000;
    assert_int_equal(run(v, &s, 1), ERR_OK);
    set(v, "r", "1");
    assert_list(v, "", 0, 10, "p:1 q:1 r:1 ");
    struct names before, after;
    uint64_t applied = apply_pause(e->apply);
    s = (struct step){.kind = STEP_SECRET_EXPIRE, .path = bytes_str("p")};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    set(v, "q", "2");
    s = (struct step){.kind = STEP_SECRET_EXPIRE, .path = bytes_str("r"), .expires_ms = 1005000};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    int behind = applied < engine_commit_lsn(e);
    before = list(v, "", 0, 10);
    clock_test_set_wall_ms(1005000);
    after = list(v, "", 0, 10);
    apply_resume(e->apply);
    assert_true(behind);
    assert_string_equal(before.text, "p:1 q:2 r:1 ");
    assert_string_equal(after.text, "p:1 q:2 ");
}

/* ---- steps ---- */

/* The settings were read when a command came, and written whole when its turn came: of two that were under way one was
 * undone. */
static void settings_changed_at_once_are_all_kept(void **state)
{
    static const struct vault_settings new = {
        .max_versions = 7, .max_secrets = 8, .max_bytes = 9000, .rate = 10, .burst = 11, .recovery_ms = 12};
    static const uint16_t fields[] = {VAULT_HAS_VERSIONS, VAULT_HAS_SECRETS, VAULT_HAS_BYTES,
                                      VAULT_HAS_RATE,     VAULT_HAS_BURST,   VAULT_HAS_RECOVERY};
    enum { N = sizeof fields / sizeof fields[0] };
    struct vault *v = make_vault("v");
    struct vault_settings got;
    struct step s[N];
    struct write w[N];
    (void)state;
    for (unsigned i = 0; i < N; i++)
        s[i] = (struct step){.kind = STEP_VAULT_SET, .settings = &new, .flags = fields[i], .state = -1};
    for (unsigned i = 0; i < N; i++)
        submit(&w[i], v, &s[i], 1);
    finish();
    vault_settings_get(engine_vaults(e), v, &got);
    assert_true(got.max_versions == new.max_versions &&got.max_secrets == new.max_secrets); /* not the bytes between */
    assert_true(got.max_bytes == new.max_bytes &&got.rate == new.rate &&got.burst == new.burst);
    assert_true(got.recovery_ms == new.recovery_ms);
    struct step two[2] = {
        {.kind = STEP_VAULT_SET, .settings = &(struct vault_settings){.rate = 1}, .flags = VAULT_HAS_RATE, .state = -1},
        {.kind = STEP_VAULT_SET,
         .settings = &(struct vault_settings){.burst = 2},
         .flags = VAULT_HAS_BURST,
         .state = -1}};
    assert_int_equal(run(v, two, 2), ERR_OK);
    vault_settings_get(engine_vaults(e), v, &got);
    assert_int_equal(got.rate, 1);
    assert_int_equal(got.burst, 2);
    assert_int_equal(got.max_bytes, 9000);
}

/* It was written, acknowledged, seen by nobody, and purged with the rest. */
static void nothing_is_staged_on_a_deleted_secret(void **state)
{
    struct vault *v = make_vault("v");
    struct secret_view view;
    (void)state;
    set(v, "p", "1");
    struct step s = {.kind = STEP_SECRET_DELETE, .path = bytes_str("p")};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    s = set_step("p", "2", SET_PENDING);
    s.label = bytes_str("PENDING");
    assert_int_equal(run(v, &s, 1), ERR_KEYSTATE);
    assert_int_equal(secret_read_head(e, v, bytes_str("p"), &view), ERR_OK);
    assert_int_equal(view.head.versions, 1);
    assert_int_equal(view.head.labels, 0);
    secret_view_release(&view);
    s = (struct step){.kind = STEP_SECRET_UNDELETE, .path = bytes_str("p")};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    s = set_step("p", "2", SET_PENDING);
    s.label = bytes_str("PENDING");
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_int_equal(s.out_version, 2);
}

/* SET ... GET on a secret that has a pending version only was answered CORRUPT. */
static void a_secret_without_current_has_no_old_value(void **state)
{
    struct vault *v = make_vault("v");
    (void)state;
    struct step s = set_step("p", "1", SET_PENDING);
    s.label = bytes_str("PENDING");
    assert_int_equal(run(v, &s, 1), ERR_OK);
    s = set_step("p", "2", SET_OLD);
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_null(s.old.hold);
    assert_value(v, "p", 0, "2");
    s = (struct step){.kind = STEP_SECRET_DESTROY, .path = bytes_str("p"), .flags = SET_OLD};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    assert_int_equal(s.old.version, 2);
    blob_unref(s.old.hold);
}

/* In one transaction a path was destroyed and made anew, in a vault that begins with version 1 again: its old version 1
 * was answered with the destroyed value, the first version 1 in the record. */
static void a_path_made_anew_at_once_has_its_own_old_values(void **state)
{
    struct vault *v = make_vault("db0");
    (void)state;
    assert_true(v->facade);
    struct step s[4] = {set_step("p", "destroyed", 0),
                        {.kind = STEP_SECRET_DESTROY, .path = bytes_str("p")},
                        set_step("p", "one", 0),
                        set_step("p", "two", 0)};
    assert_int_equal(run(v, s, 4), ERR_OK);
    assert_value(v, "p", 0, "two");
    assert_value(v, "p", 1, "one");
}

/* A vault that was full could not even be written over, though what gives way makes the room. */
static void a_full_vault_is_written_over(void **state)
{
    static const struct vault_settings small = {.max_versions = 2, .max_bytes = 2 * 104 + 50};
    struct vault *v = make_vault("v");
    char value[101];
    (void)state;
    struct step s = {
        .kind = STEP_VAULT_SET, .settings = &small, .flags = VAULT_HAS_VERSIONS | VAULT_HAS_BYTES, .state = -1};
    assert_int_equal(run(v, &s, 1), ERR_OK);
    memset(value, 'x', 100);
    value[100] = 0;
    for (uint32_t i = 1; i <= 5; i++)
        assert_int_equal(set(v, "p", value), i);
    s = set_step("q", value, 0);
    assert_int_equal(run(v, &s, 1), ERR_QUOTA);
    struct step two[2] = {set_step("p", value, 0), set_step("p", big_value('x'), 0)};
    assert_int_equal(run(v, two, 2), ERR_QUOTA);
    assert_value(v, "p", 5, value);
    assert_value(v, "p", 4, value);
    assert_int_equal(atomic_load(&v->bytes), 2 * 104);
    assert_int_equal(set(v, "p", value), 6);
}

/* Destroying a version that was not CURRENT made another one CURRENT that was only staged. */
static void destroying_an_old_version_makes_nothing_current(void **state)
{
    struct vault *v = make_vault("v");
    struct step s[2] = {set_step("p", "one", SET_PENDING), set_step("p", "two", SET_PENDING)};
    struct secret_view view;
    (void)state;
    s[0].label = s[1].label = bytes_str("PENDING");
    assert_int_equal(run(v, s, 2), ERR_OK);
    struct step destroy = {.kind = STEP_SECRET_DESTROY, .path = bytes_str("p"), .version = 1};
    assert_int_equal(run(v, &destroy, 1), ERR_OK);
    assert_int_equal(secret_read(e, v, bytes_str("p"), 0, bytes_of(NULL, 0), &view), ERR_NOTFOUND);
    assert_value(v, "p", 2, "two");
}

/* When the log failed, a write of the next group that had been refused because of one of the failed group was answered
 * as if that had become durable. */
static void nothing_is_answered_from_what_never_became_durable(void **state)
{
    struct vault *v = make_vault("v");
    struct step s = set_step("p", "value", 0), nx = set_step("p", "other", SET_NX);
    struct write w, refused;
    struct hot_stats before, now;
    (void)state;
    hot_stats(e->hot, &before);
    pthread_mutex_lock(&e->wal->lock); /* the log writer waits for it, the sequencer does not */
    submit(&w, v, &s, 1);
    do
        hot_stats(e->hot, &now);
    while (now.misses == before.misses);
    submit(&refused, v, &nx, 1);
    do
        hot_stats(e->hot, &now);
    while (now.hits == before.hits);
    int fd = open("/dev/null", O_RDONLY); /* what is written to it fails, whatever other threads do to files */
    assert_true(fd >= 0 && dup2(fd, e->wal->fd) == e->wal->fd);
    close(fd);
    pthread_mutex_unlock(&e->wal->lock);
    finish();
    assert_int_equal(w.err, ERR_UNCERTAIN);
    assert_int_equal(refused.err, ERR_MISCONF);
    free(s.plain);
    free(nx.plain);
}

/* The keeper did a batch of 256, waited for the applier and slept: what expired faster than that piled up for ever. */
static void all_that_is_due_goes_in_one_round(void **state)
{
    enum { N = 2000 };
    struct vault *v = make_vault("v");
    struct apply_stats before, after;
    struct step *s = calloc(N, sizeof *s);
    char(*path)[16] = calloc(N, sizeof *path);
    (void)state;
    for (int i = 0; i < N; i++) {
        snprintf(path[i], sizeof path[i], "p%d", i);
        s[i] = set_step(path[i], "1", 0);
        s[i].expires_ms = 1005000;
    }
    assert_int_equal(run(v, s, N), ERR_OK);
    apply_wait_lsn(e->apply, engine_commit_lsn(e));
    apply_stats(e->apply, &before);
    clock_test_set_wall_ms(1005000);
    for (int i = 0; i < 30000 && atomic_load(&v->secrets); i++)
        usleep(1000);
    assert_int_equal(atomic_load(&v->secrets), 0);
    assert_int_equal(atomic_load(&v->bytes), 0);
    apply_stats(e->apply, &after);
    assert_in_range(after.rounds - before.rounds, 0, 3);
    free(s);
    free(path);
}

/* ---- starts ---- */

#define SECRETS 40

static void fill(struct vault *v)
{
    char path[16];
    for (int i = 0; i < 3 * SECRETS; i++) {
        snprintf(path, sizeof path, "p%d", i % SECRETS);
        set(v, path, i % 3 ? "value" : big_value('v'));
    }
}

static void assert_filled(void)
{
    char path[16];
    struct vault *v = vaults_find(engine_vaults(e), bytes_str("v"));
    assert_non_null(v);
    for (int i = 0; i < SECRETS; i++) {
        snprintf(path, sizeof path, "p%d", i);
        for (uint32_t version = 1; version <= 3; version++)
            assert_value(v, path, version,
                         ((int)version - 1) * SECRETS % 3 == (3 - i % 3) % 3 ? big_value('v') : "value");
    }
    assert_int_equal(atomic_load(&v->secrets), SECRETS);
}

/* What a power loss may leave: everything written after the checkpoint is gone, the applied LSN is not. */
static void punch(const char *store)
{
    struct store *s;
    struct store_batch *b;
    struct store_iter *it;
    struct bytes payload;
    char path[128];
    uint64_t lsn;
    unsigned gone = 0;
    snprintf(path, sizeof path, "%s.crash/%s", dir, store);
    assert_int_equal(store_open(&s, &(struct store_config){.path = path}), ERR_OK);
    assert_int_equal(store_batch_new(&b), ERR_OK);
    assert_int_equal(store_iter_new(s, &it), ERR_OK);
    for (store_iter_seek(it, bytes_of(NULL, 0)); store_iter_valid(it); store_iter_next(it)) {
        assert_int_equal(store_iter_value(it, &payload, &lsn), ERR_OK);
        if (lsn <= store_checkpointed(s))
            continue;
        store_batch_delete(b, store_iter_key(it));
        gone++;
    }
    store_iter_free(it);
    assert_true(gone > 0);
    assert_int_equal(store_write(s, b, store_applied(s)), ERR_OK);
    store_batch_free(b);
    store_close(s);
}

static void power_loss(void)
{
    apply_wait_lsn(e->apply, engine_commit_lsn(e));
    shell("cp -r %s %s.crash && rm %s.crash/lock", dir, dir, dir);
    engine_close(e);
    e = NULL;
    punch("shard-0");
    punch("base");
}

/* The state file named the new boot before the replay that makes the stores whole: when that start died half-way, the
 * next one believed the stores' applied LSN, holes and all. Here starts fail at every allocation, some rounds of the
 * applier done or not. */
static void a_start_that_dies_leaves_the_next_one_nothing_to_believe(void **state)
{
    int fired = 1;
    (void)state;
    fill(make_vault("v"));
    power_loss();
    setenv("COFFER_TEST_BOOT_ID", "second-boot", 1);
    for (long n = 1; fired; n += 1 + n / 8) {
        shell("rm -rf %s && cp -r %s.crash %s", dir, dir, dir);
        fault_arm(FAULT_MEM, n, 1);
        enum err err = open_engine();
        fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        assert_true(err == ERR_OK || err == ERR_OOM);
        if (err)
            assert_int_equal(open_engine(), ERR_OK);
        assert_filled();
        engine_close(e);
        e = NULL;
    }
    assert_int_equal(open_engine(), ERR_OK);
    assert_true(report.clean);
    assert_filled();
}

static void assert_state_file(const char *want)
{
    char path[128];
    struct buf text;
    buf_init(&text, 4096);
    snprintf(path, sizeof path, "%s/state", dir);
    assert_int_equal(file_read_all(path, &text, 4000), ERR_OK);
    assert_int_equal(buf_put_u8(&text, 0), ERR_OK);
    assert_string_equal((const char *)buf_data(&text), want);
    buf_fini(&text);
}

/* A store whose last checkpoint failed was called clean all the same: after a power loss nobody would have replayed
 * what was in the page cache. */
static void a_stop_without_its_checkpoints_is_not_clean(void **state)
{
    (void)state;
    fill(make_vault("v"));
    apply_wait_lsn(e->apply, engine_commit_lsn(e));
    atomic_store(&e->store_failed[1], 1); /* as when its checkpoint failed */
    engine_close(e);
    assert_state_file("boot first-boot\nclean no\n");
    assert_int_equal(open_engine(), ERR_OK);
    assert_filled();
    engine_close(e);
    assert_state_file("boot first-boot\nclean yes\n");
    assert_int_equal(open_engine(), ERR_OK);
}

/* All that DEL had hidden had given way to newer versions; UNDELETE said that it had brought it back, and the secret
 * was due for a purge of nothing. */
static void what_was_hidden_and_gave_way_is_not_brought_back(void **state)
{
    struct vault *v = make_vault("v");
    struct secret_view view;
    struct step hide = {.kind = STEP_SECRET_DELETE, .path = bytes_str("p")},
                back = {.kind = STEP_SECRET_UNDELETE, .path = bytes_str("p")};
    (void)state;
    set(v, "p", "1");
    assert_int_equal(run(v, &hide, 1), ERR_OK);
    for (int i = 0; i < 3; i++)
        set(v, "p", "2");
    assert_int_equal(secret_read_head(e, v, bytes_str("p"), &view), ERR_OK);
    assert_int_equal(secret_due_ms(&view.head), 0);
    secret_view_release(&view);
    assert_int_equal(run(v, &back, 1), ERR_OK);
    assert_true(back.nil);
}

/* ---- full groups ---- */

#define MANY_BYTES (1u << 20)
#define MANY 7

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; /* who has it keeps the log writer in done() */

static void done_behind_gate(struct write *w)
{
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    done(w);
}

/* A record of 7 MiB. */
static void submit_large(struct write *w, struct vault *v, struct step *s)
{
    char *value = malloc(MANY_BYTES);
    memset(value, 'x', MANY_BYTES - 1);
    value[MANY_BYTES - 1] = 0;
    for (unsigned i = 0; i < MANY; i++)
        s[i] = set_step("p", value, 0);
    free(value);
    submit(w, v, s, MANY);
}

/* A full group waited for the log writer; who came next took it back and put one more record in, which was refused as
 * too big: there was no room for it. */
static void what_comes_behind_a_full_group_is_not_too_big(void **state)
{
    struct vault *v = make_vault("v");
    struct step s = set_step("q", "1", 0), large[3][MANY];
    struct write w, more[3];
    (void)state;
    pthread_mutex_lock(&gate);
    submit_with(&w, v, &s, 1, done_behind_gate);
    for (int i = 0; i < 3; i++)
        submit_large(&more[i], v, large[i]);
    pthread_mutex_unlock(&gate);
    finish();
    assert_int_equal(w.err, ERR_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(more[i].err, ERR_OK);
    free(s.plain);
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < MANY; j++)
            free(large[i][j].plain);
}

/* ---- closing ---- */

static void *submit_one(void *arg)
{
    struct step s = set_step("p", "1", 0);
    assert_int_equal(run(arg, &s, 1), ERR_SEALED);
    return NULL;
}

static void *close_it(void *arg)
{
    (void)arg;
    engine_close(e);
    return NULL;
}

/* The thread that submitted was still the sequencer when the engine was closed, and woke nobody when it was through:
 * the close waited for the applier, and for ever when that had nothing to do. */
static void a_close_goes_on_when_the_last_submitter_is_through(void **state)
{
    struct timespec limit;
    struct vault *v = make_vault("v");
    pthread_t submitter, closer;
    (void)state;
    assert_int_equal(apply_wait_lsn(e->apply, engine_commit_lsn(e)), ERR_OK);
    pthread_mutex_lock(&seal_gate);
    atomic_store(&sealing, 0);
    atomic_store(&seal_err, ERR_SEALED);
    assert_int_equal(pthread_create(&submitter, NULL, submit_one, v), 0);
    while (!atomic_load(&sealing))
        usleep(1000);
    assert_int_equal(pthread_create(&closer, NULL, close_it, NULL), 0);
    usleep(500000); /* it is waiting by now; if not, this test has tried nothing */
    pthread_mutex_unlock(&seal_gate);
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 300;
    assert_int_equal(pthread_timedjoin_np(closer, NULL, &limit), 0);
    pthread_join(submitter, NULL);
    atomic_store(&seal_err, ERR_OK);
    assert_int_equal(open_engine(), ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_value_between_slot_and_head_is_not_corrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(a_value_that_lost_its_slot_is_corrupt, setup, teardown),
        cmocka_unit_test_setup_teardown(two_secrets_destroyed_at_once_are_read_at_one_moment, setup, teardown),
        cmocka_unit_test_setup_teardown(a_path_that_ends_in_a_slash_hides_no_others, setup, teardown),
        cmocka_unit_test_setup_teardown(a_listing_knows_of_changes_that_are_not_applied, setup, teardown),
        cmocka_unit_test_setup_teardown(settings_changed_at_once_are_all_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_staged_on_a_deleted_secret, setup, teardown),
        cmocka_unit_test_setup_teardown(a_secret_without_current_has_no_old_value, setup, teardown),
        cmocka_unit_test_setup_teardown(a_path_made_anew_at_once_has_its_own_old_values, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_vault_is_written_over, setup, teardown),
        cmocka_unit_test_setup_teardown(destroying_an_old_version_makes_nothing_current, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_answered_from_what_never_became_durable, setup, teardown),
        cmocka_unit_test_setup_teardown(all_that_is_due_goes_in_one_round, setup, teardown),
        cmocka_unit_test_setup_teardown(a_start_that_dies_leaves_the_next_one_nothing_to_believe, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stop_without_its_checkpoints_is_not_clean, setup, teardown),
        cmocka_unit_test_setup_teardown(a_close_goes_on_when_the_last_submitter_is_through, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_hidden_and_gave_way_is_not_brought_back, setup, teardown),
        cmocka_unit_test_setup_teardown(what_comes_behind_a_full_group_is_not_too_big, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
