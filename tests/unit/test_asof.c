/* The past, read from snapshots and log: every LSN that can be had says what readers were told then, every other one
 * says which can; and the state digest, by all the ways that lead to it. */
#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "engine/asof.h"
#include "engine_fixture.h"

#define START_MS 1767225600000u
#define PATHS 12
#define HISTORY_MAX 2000

/* What a reader was told of a path after the record at lsn. */
struct seen {
    uint64_t lsn, expires_ms;
    unsigned path;
    int found;
    uint32_t version;
    uint8_t hash[32]; /* of the value */
    uint8_t meta;
};

static struct seen history[HISTORY_MAX];
static unsigned seen_n;
static uint64_t seed, now_ms, stamp[HISTORY_MAX * 2]; /* stamp: of each record */

static uint64_t rnd(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % below;
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "%s/coffer-asof-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(dir));
    seen_n = 0;
    memset(stamp, 0, sizeof stamp);
    seed = 88172645463325252u;
    now_ms = START_MS;
    clock_test_set_wall_ms(now_ms);
    open_engine();
    snapshots_settings(engine_snapshots(e), 0, 0, 3);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_engine();
    clock_test_set_wall_ms(0);
    atomic_store(&hsm_down, 0);
    shell("rm -rf %s", dir);
    return 0;
}

/* ---- a history ---- */

static struct bytes path_of(unsigned i)
{
    static const char *const names[PATHS] = {"app/a", "app/a/b", "app/a0", "app/b",   "app/c/d", "app/",
                                             "b",     "b/",      "b/x",    "b/x/y/z", "zz",      "a"};
    return bytes_str(names[i]);
}

static struct vault *the_vault(void)
{
    return vault_named("even");
}

static void set_clock(void)
{
    now_ms += rnd(30);
    if (rnd(20) == 0)
        now_ms -= 25; /* somebody sets it back */
    clock_test_set_wall_ms(now_ms);
}

static struct plain *some_plain(void)
{
    uint8_t value[3000];
    size_t n = 1 + rnd(rnd(6) ? 100 : sizeof value);
    for (size_t i = 0; i < n; i++)
        value[i] = (uint8_t)rnd(256);
    return plain_of(bytes_of(value, n));
}

static uint32_t a_version(struct bytes path)
{
    struct secret_version v[SECRET_VERSIONS_MAX];
    struct secret_view view;
    uint32_t version = 1;
    if (secret_read_head(e, the_vault(), path, &view))
        return 1;
    assert_int_equal(secret_versions_get(&view.head, v), ERR_OK);
    if (view.head.versions)
        version = v[rnd(view.head.versions)].version;
    secret_view_release(&view);
    return version;
}

static void look_at(unsigned path)
{
    struct secret_view view;
    struct seen *s = &history[seen_n++];
    assert_true(seen_n < HISTORY_MAX);
    memset(s, 0, sizeof *s);
    s->lsn = engine_commit_lsn(e);
    s->path = path;
    if (!stamp[s->lsn]) /* there may have been nothing to do */
        stamp[s->lsn] = now_ms;
    enum err err = secret_read(e, the_vault(), path_of(path), 0, bytes_of(NULL, 0), &view);
    if (err == ERR_NOTFOUND)
        return;
    assert_int_equal(err, ERR_OK);
    s->found = 1;
    s->version = view.version;
    s->expires_ms = view.head.expires_ms;
    s->meta = view.head.meta.n ? view.head.meta.p[0] : 0;
    sha256_of(view.value.raw.p, view.value.raw.n, s->hash);
    secret_view_release(&view);
}

static void one_change(void)
{
    static const enum step_kind kinds[] = {STEP_SECRET_DELETE, STEP_SECRET_UNDELETE, STEP_SECRET_DESTROY,
                                           STEP_SECRET_EXPIRE, STEP_SECRET_META,     STEP_SECRET_STAGE};
    unsigned path = (unsigned)rnd(PATHS);
    uint8_t meta = (uint8_t)(1 + rnd(250));
    struct step s = {.kind = STEP_SECRET_SET, .path = path_of(path), .meta = bytes_of(&meta, 1)};
    set_clock();
    if (rnd(100) < 55) {
        s.plain = some_plain();
        s.flags = (uint16_t)(rnd(3) ? 0 : SET_META) | (rnd(8) ? 0 : SET_PENDING);
        s.label = s.flags & SET_PENDING ? bytes_str("PENDING") : bytes_of(NULL, 0);
    } else {
        s.kind = kinds[rnd(6)];
        s.expires_ms = s.kind == STEP_SECRET_EXPIRE ? START_MS + 1000000000 + rnd(1000) : 0;
        s.label = bytes_str("CURRENT");
        s.version = s.kind == STEP_SECRET_STAGE || (s.kind == STEP_SECRET_DESTROY && rnd(2)) ? a_version(s.path) : 0;
    }
    enum err err = run(the_vault(), &s);
    assert_true(err == ERR_OK || err == ERR_KEYSTATE); /* pending, of a deleted one */
    look_at(path);
}

static void run_history(unsigned n)
{
    while (n--)
        one_change();
}

static const struct seen *seen_at(unsigned path, uint64_t lsn)
{
    const struct seen *found = NULL;
    for (unsigned i = 0; i < seen_n && history[i].lsn <= lsn; i++)
        if (history[i].path == path)
            found = &history[i];
    return found && found->found ? found : NULL;
}

/* ---- looking back ---- */

static char why[200];

static enum err open_at(struct asof **a, uint64_t lsn, const char *under)
{
    struct asof_query q = {.lsn = lsn, .vault = the_vault(), .under = bytes_str(under)};
    return asof_open(a, e, &q, why, sizeof why);
}

static void check_secret(struct asof *a, const struct asof_secret *s, const struct seen *want)
{
    struct secret_version v;
    struct blob *b;
    uint8_t hash[32];
    assert_int_equal(asof_current(a, s, &v), want != NULL);
    if (!want)
        return;
    assert_int_equal(v.version, want->version);
    assert_int_equal(s->head.expires_ms, want->expires_ms);
    assert_int_equal(s->head.meta.n ? s->head.meta.p[0] : 0, want->meta);
    assert_int_equal(asof_value(a, s, &v, &b), ERR_OK);
    sha256_of(b->data, b->n, hash);
    assert_memory_equal(hash, want->hash, sizeof hash);
    blob_unref(b);
}

static int is_under(struct bytes path, const char *under)
{
    return path.n >= strlen(under) && memcmp(path.p, under, strlen(under)) == 0;
}

/* Each path of the folder by name, and all of them in order. */
static void check_moment(struct asof *a, uint64_t lsn, const char *under)
{
    struct asof_moment m;
    struct asof_secret s;
    struct secret_version v;
    unsigned want = 0, got = 0;
    uint8_t last[32];
    size_t last_n = 0;
    enum err err;

    asof_moment(a, &m);
    assert_int_equal(m.lsn, lsn);
    for (unsigned i = 0; i < PATHS; i++) {
        const struct seen *w = seen_at(i, lsn);
        if (!is_under(path_of(i), under))
            continue;
        err = asof_find(a, path_of(i), &s);
        assert_true(err == ERR_OK || (err == ERR_NOTFOUND && !w));
        if (!err)
            check_secret(a, &s, w);
        want += w != NULL;
    }
    while ((err = asof_next(a, &s)) == ERR_OK) {
        assert_true(is_under(s.path, under) && bytes_compare(bytes_of(last, last_n), s.path) < 0);
        memcpy(last, s.path.p, last_n = s.path.n);
        got += (unsigned)asof_current(a, &s, &v);
        unsigned i = 0;
        while (i < PATHS && !bytes_equal(path_of(i), s.path))
            i++;
        assert_true(i < PATHS);
        check_secret(a, &s, seen_at(i, lsn));
    }
    assert_int_equal(err, ERR_END);
    assert_int_equal(got, want);
}

/* What can be had: all LSNs from the oldest snapshot that the log reaches back to, and those of older ones. */
static int can_be_had(uint64_t lsn)
{
    struct snapshots_file f[16];
    unsigned n = snapshots_list(engine_snapshots(e), f, 16);
    uint64_t below = 0;
    for (unsigned i = n; i-- > 0;)
        if (f[i].lsn <= lsn)
            below = f[i].lsn;
    return below == lsn || first_lsn() <= below + 1;
}

static unsigned check_all(void)
{
    static const char *const under[] = {"", "app/", "app/a", "b/", "nothing/"};
    unsigned refused = 0;
    for (uint64_t lsn = 1; lsn <= engine_commit_lsn(e); lsn++) {
        struct asof *a;
        const char *u = under[lsn % 5];
        enum err err = open_at(&a, lsn, u);
        assert_int_equal(err, can_be_had(lsn) ? ERR_OK : ERR_RANGE);
        if (err) {
            assert_true(strstr(why, "can be had") != NULL);
            refused++;
            continue;
        }
        check_moment(a, lsn, u);
        asof_close(a);
    }
    return refused;
}

static void every_lsn_is_what_readers_were_told_then(void **state)
{
    struct asof *a;
    (void)state;
    run_history(150);
    assert_int_equal(check_all(), 0); /* from the log alone */
    assert_int_equal(open_at(&a, 0, ""), ERR_RANGE);
    assert_string_equal(why, "there is no snapshot yet: SNAPSHOT.CREATE makes one");
    make_snapshot();
    run_history(150);
    assert_int_equal(check_all(), 0);
    make_snapshot();
    run_history(150);
    make_snapshot();
    (void)check_all(); /* now the log begins later */
}

/* The log begins behind a snapshot, and one more is kept that it does not reach back to. */
static void trim(void)
{
    for (unsigned i = 0; i < 4; i++) {
        run_history(200);
        checkpoint();
        snapshots_settings(engine_snapshots(e), 0, 0, 3);
        make_snapshot();
    }
    run_history(40);
    assert_true(first_lsn() > 1);
}

static void what_is_gone_names_what_is_there(void **state)
{
    struct snapshots_file f[8];
    char text[200];
    struct asof *a;
    (void)state;
    trim();
    assert_int_equal(snapshots_list(engine_snapshots(e), f, 8), 3);
    assert_true(check_all() > 0);
    assert_int_equal(open_at(&a, f[2].lsn - 1, ""), ERR_RANGE);
    snprintf(text, sizeof text, "that is gone: the oldest that can be had is LSN %llu", (unsigned long long)f[2].lsn);
    assert_string_equal(why, text);
    assert_int_equal(open_at(&a, f[2].lsn + 1, ""), ERR_RANGE);
    snprintf(text, sizeof text, "the log between the snapshots at LSN %llu and LSN %llu is gone",
             (unsigned long long)f[2].lsn, (unsigned long long)f[1].lsn);
    assert_true(strncmp(why, text, strlen(text)) == 0);
    assert_int_equal(open_at(&a, engine_commit_lsn(e) + 1, ""), ERR_RANGE);
    snprintf(text, sizeof text, "the log ends at LSN %llu", (unsigned long long)engine_commit_lsn(e));
    assert_string_equal(why, text);
    assert_int_equal(open_at(&a, 0, "app/"), ERR_OK);
    check_moment(a, f[0].lsn, "app/");
    asof_close(a);
}

/* A damaged snapshot, or block, is not the end: the one before and more of the log say the same. */
static void a_damaged_snapshot_is_passed_over(void **state)
{
    struct snapshots_file f[8];
    struct asof_moment m;
    struct asof *a;
    (void)state;
    trim();
    snapshots_list(engine_snapshots(e), f, 8);
    uint64_t lsn = f[0].lsn + 7;
    struct asof_query q = {.lsn = lsn, .vault = the_vault(), .snapshots_below = f[0].lsn};
    assert_int_equal(asof_open(&a, e, &q, why, sizeof why), ERR_OK);
    asof_moment(a, &m);
    assert_int_equal(m.snapshot_lsn, f[1].lsn);
    check_moment(a, lsn, "");
    asof_close(a);
    shell("f=$(ls %s/snapshots/*.snap | tail -1); printf XXXX | dd of=$f bs=1 seek=$(($(stat -c %%s $f) - 100)) "
          "conv=notrunc 2>/dev/null",
          dir);
    assert_int_equal(open_at(&a, lsn, ""), ERR_OK);
    asof_moment(a, &m);
    assert_int_equal(m.snapshot_lsn, f[1].lsn);
    check_moment(a, lsn, "");
    asof_close(a);
}

static void a_damaged_block_is_an_error_again_and_again(void **state)
{
    struct snapshots_file f[8];
    struct asof_secret s;
    struct asof *a;
    (void)state;
    trim();
    snapshots_list(engine_snapshots(e), f, 8);
    shell("printf XXXX | dd of=$(ls %s/snapshots/*.snap | tail -1) bs=1 seek=400 conv=notrunc 2>/dev/null", dir);
    assert_int_equal(open_at(&a, f[0].lsn, ""), ERR_OK);
    for (int again = 0; again < 3; again++)
        assert_int_equal(asof_next(a, &s), ERR_CORRUPT);
    asof_close(a);
}

/* ---- times ---- */

/* The state in front of the first record that is stamped later, behind the newest snapshot that is not. */
static uint64_t lsn_of_time(uint64_t ms)
{
    struct snapshots_file f[16];
    unsigned n = snapshots_list(engine_snapshots(e), f, 16);
    uint64_t lsn = 0;
    for (unsigned i = n; i-- > 0;)
        if (stamp[f[i].lsn] <= ms)
            lsn = f[i].lsn;
    while (lsn < engine_commit_lsn(e) && stamp[lsn + 1] <= ms)
        lsn++;
    return lsn;
}

static void a_time_is_the_state_in_front_of_what_is_stamped_later(void **state)
{
    struct asof_moment m;
    struct asof *a;
    (void)state;
    (void)the_vault();
    for (uint64_t lsn = 0; lsn <= engine_commit_lsn(e); lsn++)
        stamp[lsn] = now_ms;
    run_history(100);
    make_snapshot();
    run_history(100);
    make_snapshot();
    run_history(20);
    clock_test_set_wall_ms(now_ms += 500);
    for (uint64_t ms = START_MS; ms < now_ms; ms += 1 + rnd(40)) {
        struct asof_query q = {.time_ms = ms, .vault = the_vault()};
        assert_int_equal(asof_open(&a, e, &q, why, sizeof why), ERR_OK);
        asof_moment(a, &m);
        assert_int_equal(m.time_ms, ms);
        check_moment(a, lsn_of_time(ms), "");
        asof_close(a);
    }
    struct asof_query before = {.time_ms = START_MS - 1, .vault = the_vault()};
    assert_int_equal(asof_open(&a, e, &before, why, sizeof why), ERR_RANGE);
    assert_string_equal(why, "nothing here is as old as that");
    struct asof_query ahead = {.time_ms = now_ms + 1, .vault = the_vault()};
    assert_int_equal(asof_open(&a, e, &ahead, why, sizeof why), ERR_RANGE);
    assert_string_equal(why, "that time is still to come");
}

/* Expiry is judged by the moment's time, not by today's. */
static void what_has_expired_since_was_there(void **state)
{
    struct asof_secret s;
    struct secret_version v;
    struct asof *a;
    (void)state;
    struct step set = {.kind = STEP_SECRET_SET,
                       .path = bytes_str("lease"),
                       .plain = plain_of(bytes_str("value")),
                       .expires_ms = START_MS + 5000};
    assert_int_equal(run(the_vault(), &set), ERR_OK);
    uint64_t lsn = engine_commit_lsn(e);
    clock_test_set_wall_ms(now_ms = START_MS + 60000);
    for (uint64_t ms = START_MS + 4999; ms <= START_MS + 5000; ms++) {
        struct asof_query q = {.time_ms = ms, .vault = the_vault()};
        assert_int_equal(asof_open(&a, e, &q, why, sizeof why), ERR_OK);
        assert_int_equal(asof_find(a, bytes_str("lease"), &s), ERR_OK);
        assert_int_equal(asof_current(a, &s, &v), ms < START_MS + 5000);
        asof_close(a);
    }
    assert_int_equal(open_at(&a, lsn, ""), ERR_OK);
    assert_int_equal(asof_find(a, bytes_str("lease"), &s), ERR_OK);
    assert_int_equal(asof_current(a, &s, &v), 1);
    asof_close(a);
}

/* ---- beside snapshots that come and go ---- */

/* While it is open nothing of what it reads goes, however many snapshots are made. */
static void an_open_moment_holds_the_log(void **state)
{
    struct asof *a;
    (void)state;
    trim();
    uint64_t lsn = engine_commit_lsn(e), first = first_lsn();
    assert_int_equal(open_at(&a, lsn, ""), ERR_OK);
    uint64_t needed = asof_needed_lsn(e);
    assert_true(needed <= lsn && needed >= first);
    for (unsigned i = 0; i < 4; i++) {
        run_history(80);
        apply_want_checkpoint(e->apply);
        make_snapshot();
    }
    assert_true(first_lsn() <= needed);
    check_moment(a, lsn, "");
    asof_close(a);
    assert_int_equal(asof_needed_lsn(e), UINT64_MAX);
}

static _Atomic int churn_stop;

static void *churn_main(void *arg)
{
    (void)arg;
    uint64_t lsn;
    while (!atomic_load(&churn_stop)) {
        apply_want_checkpoint(e->apply);
        if (demand(&lsn) != ERR_OK)
            abort();
    }
    return NULL;
}

/* Moments opened while snapshots rotate and the log is trimmed under them: right, or refused. */
static void moments_are_right_while_snapshots_rotate(void **state)
{
    pthread_t thread;
    unsigned had = 0;
    (void)state;
    run_history(50);
    churn_stop = 0;
    assert_int_equal(pthread_create(&thread, NULL, churn_main, NULL), 0);
    for (unsigned i = 0; i < 300; i++) {
        struct asof *a;
        run_history(2);
        uint64_t lsn = engine_commit_lsn(e) - rnd(i % 2 ? 5 : 100);
        enum err err = open_at(&a, lsn, "");
        assert_true(err == ERR_OK || err == ERR_RANGE);
        if (err)
            continue;
        check_moment(a, lsn, "");
        asof_close(a);
        had++;
    }
    atomic_store(&churn_stop, 1);
    run_history(1); /* so that the last demand has something to wait for */
    pthread_join(thread, NULL);
    assert_true(had > 100);
}

/* ---- digests ---- */

static void digest_at(uint64_t lsn, uint64_t below, uint8_t out[32])
{
    struct asof_query q = {.lsn = lsn, .snapshots_below = below};
    struct asof *a;
    assert_int_equal(asof_open(&a, e, &q, why, sizeof why), ERR_OK);
    assert_int_equal(asof_digest(a, out), ERR_OK);
    asof_close(a);
}

/* The stores' own, with everything applied. */
static void digest_of_stores(uint8_t out[32])
{
    struct asof_query q = {0};
    uint64_t lsn;
    assert_int_equal(apply_wait_lsn(e->apply, engine_commit_lsn(e)), ERR_OK);
    assert_int_equal(asof_stores_digest(e, &q, &lsn, out), ERR_OK);
    assert_int_equal(lsn, engine_commit_lsn(e));
}

static void digests_are_the_same(const uint8_t want[32])
{
    uint8_t got[32];
    digest_at(engine_commit_lsn(e), 0, got);
    assert_memory_equal(got, want, 32);
    digest_of_stores(got);
    assert_memory_equal(got, want, 32);
}

/* By the snapshot, by the one before and the log, by the log alone, by the stores: where an old value lies (in a head
 * then, an entry of its own now, a record) does not matter. */
static void the_digest_is_the_same_by_every_way(void **state)
{
    struct snapshots_info info;
    uint8_t live[32], got[32];
    uint64_t before = 0;
    struct asof *hold;
    (void)state;
    assert_int_equal(open_at(&hold, 1, ""), ERR_OK); /* keeps the log from record 1 on */
    for (unsigned round = 0; round < 8; round++) {
        run_history(60);
        uint64_t lsn = engine_commit_lsn(e);
        digest_of_stores(live);
        digest_at(lsn, 0, got);
        assert_memory_equal(got, live, 32);
        make_snapshot();
        snapshots_info(engine_snapshots(e), &info);
        assert_int_equal(info.lsn, lsn);
        assert_memory_equal(info.digest, live, 32);
        digest_at(lsn, lsn, got); /* as if it were not there */
        assert_memory_equal(got, live, 32);
        digest_at(lsn, before ? before : 1, got); /* nor the one before */
        assert_memory_equal(got, live, 32);
        before = lsn;
    }
    asof_close(hold);
}

static void every_record_has_a_digest_of_its_own(void **state)
{
    uint8_t last[32] = {0}, got[32];
    (void)state;
    run_history(60);
    for (uint64_t lsn = 1; lsn <= engine_commit_lsn(e); lsn++) {
        digest_at(lsn, 0, got);
        assert_int_equal(lsn == 1, memcmp(got, last, 32) == 0); /* the barrier changes nothing */
        memcpy(last, got, 32);
    }
}

/* A start that replays, one that loads from a snapshot, a shard made anew: the digest is what it was. */
static void what_is_restored_has_the_digest_of_before(void **state)
{
    uint8_t want[32];
    (void)state;
    trim();
    digest_of_stores(want);
    digests_are_the_same(want);
    checkpoint(); /* a clean stop */
    digests_are_the_same(want);
    close_engine();
    shell("rm -rf %s/shard-1 %s/base", dir, dir);
    open_engine();
    assert_int_equal(report.stores_lost, 2);
    wait_for_filling();
    digests_are_the_same(want);
    run_history(100);
    digest_of_stores(want);
    close_engine();
    shell("rm -rf %s/shard-* %s/base*", dir, dir);
    open_engine();
    assert_true(report.stores_lost == 3 && report.snapshot_lsn && report.replayed > 0);
    wait_for_filling();
    digests_are_the_same(want);
}

/* The log from record 1, and nothing else. */
static void what_is_replayed_has_the_digest_of_before(void **state)
{
    uint8_t want[32];
    (void)state;
    run_history(200);
    digest_of_stores(want);
    close_engine();
    shell("rm -rf %s/shard-* %s/base", dir, dir);
    open_engine();
    assert_true(report.stores_lost == 3 && !report.snapshot_lsn);
    wait_for_filling();
    digests_are_the_same(want);
}

struct rebuilt {
    struct rebuild_wait w;
    int finished;
};

static void rebuild_done(struct rebuild_wait *w)
{
    struct rebuilt *r = (struct rebuilt *)(void *)w;
    pthread_mutex_lock(&lock);
    r->finished = 1;
    pthread_cond_broadcast(&done_cond);
    pthread_mutex_unlock(&lock);
}

static void what_is_rebuilt_has_the_digest_of_before(void **state)
{
    uint8_t want[32];
    (void)state;
    trim();
    digest_of_stores(want);
    for (unsigned store = 0; store < 3; store++) {
        struct rebuilt r = {.w = {.done = rebuild_done, .store = store}};
        rebuild_demand(engine_rebuild(e), &r.w);
        pthread_mutex_lock(&lock);
        while (!r.finished)
            pthread_cond_wait(&done_cond, &lock);
        pthread_mutex_unlock(&lock);
        assert_int_equal(r.w.err, ERR_OK);
        digests_are_the_same(want);
    }
}

/* Tombstones of expiry: what the keeper destroys leaves the state, and so the digest. */
static void the_digest_knows_what_has_expired(void **state)
{
    struct secret_view view;
    uint8_t with[32], without[32];
    (void)state;
    run_history(30);
    struct step set = {.kind = STEP_SECRET_SET,
                       .path = bytes_str("lease"),
                       .plain = plain_of(bytes_str("value")),
                       .expires_ms = now_ms + 1000};
    assert_int_equal(run(the_vault(), &set), ERR_OK);
    digest_of_stores(with);
    digests_are_the_same(with);
    clock_test_set_wall_ms(now_ms += 2000);
    while (secret_read_head(e, the_vault(), bytes_str("lease"), &view) != ERR_NOTFOUND) {
        secret_view_release(&view);
        usleep(1000);
    }
    digest_of_stores(without);
    digests_are_the_same(without);
    assert_memory_not_equal(with, without, 32);
}

static void stores_that_differ_from_the_log_show(void **state)
{
    struct store_batch *b;
    uint8_t log[32], stores[32];
    (void)state;
    run_history(50);
    digest_of_stores(stores);
    digest_at(engine_commit_lsn(e), 0, log);
    assert_memory_equal(stores, log, 32);
    assert_int_equal(store_batch_new(&b), ERR_OK);
    store_batch_put(b, bytes_str("written behind the applier's back"), bytes_str("x"), 1);
    (void)apply_pause(e->apply);
    assert_int_equal(store_write(engine_store(e, 1), b, store_applied(engine_store(e, 1))), ERR_OK);
    apply_resume(e->apply);
    store_batch_free(b);
    digest_of_stores(stores);
    assert_memory_not_equal(stores, log, 32);
}

/* ---- what may fail ---- */

static enum err all_of_it(void)
{
    struct asof_secret s;
    struct secret_version v;
    struct asof *a;
    uint8_t digest[32];
    enum err err = open_at(&a, engine_commit_lsn(e) - 3, "");
    while (!err && (err = asof_next(a, &s)) == ERR_OK) {
        struct blob *b = NULL;
        if (asof_current(a, &s, &v))
            err = asof_value(a, &s, &v, &b);
        assert_int_equal(b == NULL, err || !asof_current(a, &s, &v));
        blob_unref(b);
        if (!err)
            err = asof_find(a, s.path, &s);
    }
    err = err == ERR_END ? ERR_OK : err;
    asof_close(a);
    struct asof_query q = {.lsn = engine_commit_lsn(e) - 3};
    if (!err)
        err = asof_open(&a, e, &q, why, sizeof why);
    if (!err) {
        err = asof_digest(a, digest);
        asof_close(a);
    }
    return err;
}

static void whatever_fails_fails_cleanly(void **state)
{
    static const enum fault_kind kinds[] = {FAULT_MEM, FAULT_FILE};
    (void)state;
    trim();
    assert_int_equal(apply_wait_lsn(e->apply, engine_commit_lsn(e)), ERR_OK);
    for (int k = 0; k < 2; k++) {
        unsigned failed = 0;
        for (long n = 1;; n++) {
            fault_arm(kinds[k], n, EIO);
            enum err err = all_of_it();
            int fired = fault_fired(kinds[k]);
            fault_disarm(kinds[k]);
            failed += err != ERR_OK;
            assert_true(err == ERR_OK || err == ERR_OOM || err == ERR_IO || err == ERR_MISCONF || err == ERR_CORRUPT);
            assert_int_equal(asof_needed_lsn(e), UINT64_MAX);
            if (!fired)
                break;
        }
        assert_true(failed > 3);
        assert_int_equal(all_of_it(), ERR_OK);
    }
}

static int stop_at_once(void *arg)
{
    (void)arg;
    return 1;
}

static void it_can_be_stopped_and_wants_the_hsm(void **state)
{
    struct asof *a;
    uint8_t digest[32];
    (void)state;
    run_history(30);
    make_snapshot();
    run_history(30);
    struct asof_query q = {.lsn = engine_commit_lsn(e), .stop = stop_at_once};
    assert_int_equal(asof_open(&a, e, &q, why, sizeof why), ERR_OK); /* it looks every few thousand records */
    assert_int_equal(asof_digest(a, digest), ERR_AGAIN);
    asof_close(a);
    atomic_store(&hsm_down, 1);
    assert_int_equal(asof_open(&a, e, &q, why, sizeof why), ERR_HSMDOWN);
    assert_null(a);
    assert_int_equal(asof_needed_lsn(e), UINT64_MAX);
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(every_lsn_is_what_readers_were_told_then),
        test(what_is_gone_names_what_is_there),
        test(a_damaged_snapshot_is_passed_over),
        test(a_damaged_block_is_an_error_again_and_again),
        test(a_time_is_the_state_in_front_of_what_is_stamped_later),
        test(what_has_expired_since_was_there),
        test(an_open_moment_holds_the_log),
        test(moments_are_right_while_snapshots_rotate),
        test(the_digest_is_the_same_by_every_way),
        test(every_record_has_a_digest_of_its_own),
        test(what_is_restored_has_the_digest_of_before),
        test(what_is_replayed_has_the_digest_of_before),
        test(what_is_rebuilt_has_the_digest_of_before),
        test(the_digest_knows_what_has_expired),
        test(stores_that_differ_from_the_log_show),
        test(whatever_fails_fails_cleanly),
        test(it_can_be_stopped_and_wants_the_hsm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
