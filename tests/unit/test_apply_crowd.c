/* Hot table, applier and real stores with all their threads at once: readers never see a value go back, a view taken in
 * a pause is exactly the state at its LSN, and after kill -9 a replay ends in exactly the state at the end of the log.
 */
#include "store_fixture.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "engine/apply.h"

#define STORES 3
#define KEYS 300 /* per store */
#define GROUP 12

/* ---- the log: what record lsn does follows from lsn alone ---- */

struct op_at {
    unsigned store, key;
    int deletes;
};

static unsigned ops_of(uint64_t lsn, struct op_at ops[3])
{
    uint64_t r = lsn * 0x9e3779b97f4a7c15u + 0x1234567;
    unsigned n = 1 + (unsigned)(sf_rnd(&r) % 3);
    for (unsigned i = 0; i < n; i++) {
        uint64_t x = sf_rnd(&r);
        ops[i] = (struct op_at){(unsigned)(x % STORES), (unsigned)((x >> 8) % 7 ? (x >> 16) % 20 : (x >> 16) % KEYS),
                                (x >> 40) % 5 == 0};
        for (unsigned j = 0; j < i; j++)
            if (ops[j].store == ops[i].store && ops[j].key == ops[i].key)
                return i; /* not the same key twice */
    }
    return n;
}

static struct bytes key_of(unsigned k, char buf[48])
{
    return bytes_of(buf, (size_t)snprintf(buf, 48, "h/tenant-%u/some/secret-%03u", k % 3, k));
}

static struct bytes value_of(uint64_t lsn, unsigned store, unsigned k, char buf[500])
{
    int n = snprintf(buf, 500, "%llu %u %u ", (unsigned long long)lsn, store, k);
    memset(buf + n, 'v', (size_t)(500 - n));
    return bytes_of(buf, (size_t)n + (lsn * 7 + k) % 400);
}

static struct blob *blob_of(uint64_t lsn, const struct op_at *op)
{
    char buf[500];
    struct bytes v = value_of(lsn, op->store, op->key, buf);
    struct blob *b = op->deletes ? blob_tombstone(lsn) : blob_new(v, v.n, lsn);
    if (!b)
        abort();
    return b;
}

/* The LSN that last put each key, 0 when there is none. */
struct content {
    uint64_t lsn, put[STORES][KEYS];
};

static void advance(struct content *c, uint64_t to)
{
    struct op_at ops[3];
    while (c->lsn < to) {
        c->lsn++;
        for (unsigned n = ops_of(c->lsn, ops); n-- > 0;)
            c->put[ops[n].store][ops[n].key] = ops[n].deletes ? 0 : c->lsn;
    }
}

static void check(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "%s\n", what);
        abort(); /* on a thread: cmocka's asserts are for the main one */
    }
}

/* The scan holds exactly c. */
static void check_scan(struct store_iter *it, unsigned store, const struct content *c)
{
    char kb[48], vb[500];
    store_iter_seek(it, bytes_of(NULL, 0));
    /* keys in the order of their bytes: by tenant, then by number */
    for (unsigned tenant = 0; tenant < 3; tenant++)
        for (unsigned k = tenant; k < KEYS; k += 3) {
            struct bytes v;
            uint64_t lsn;
            if (!c->put[store][k])
                continue;
            check(store_iter_valid(it), "a key is missing");
            check(bytes_equal(store_iter_key(it), key_of(k, kb)), "another key was expected");
            check(store_iter_value(it, &v, &lsn) == ERR_OK && lsn == c->put[store][k], "a value of another LSN");
            check(bytes_equal(v, value_of(lsn, store, k, vb)), "another value");
            store_iter_next(it);
        }
    check(!store_iter_valid(it), "there is a key too many");
    check(store_iter_status(it) == ERR_OK, "the scan ended early");
}

/* ---- the world ---- */

struct world {
    char dir[SF_PATH];
    struct hot *hot;
    struct store *stores[STORES];
    struct apply *apply;
    uint64_t from, to; /* LSNs to be written */
    pthread_mutex_t lock;
    pthread_cond_t moved;
    uint64_t staged_lsn, published_lsn;
    struct hot_entry **entries;
    struct blob **values;
    _Atomic uint64_t committed[STORES][KEYS]; /* LSN, lowest bit of lsn * 2: deleted; set after publishing */
    _Atomic int done;
    int told_fd; /* a byte for each round, or -1 */
};

static void on_applied(void *arg, uint64_t lsn)
{
    struct world *w = arg;
    (void)lsn;
    if (w->told_fd >= 0)
        check(write(w->told_fd, "r", 1) == 1, "pipe");
}

static void on_failure(void *arg, unsigned store, enum err e)
{
    (void)arg;
    (void)store;
    check(e == ERR_OK, "a store failed");
}

static void open_world(struct world *w, unsigned round_ms)
{
    char path[SF_PATH + 8];
    for (unsigned i = 0; i < STORES; i++) {
        snprintf(path, sizeof path, "%s/%u", w->dir, i);
        w->stores[i] = sf_open(path);
    }
    check(hot_new(&w->hot, 64 * 1500) == ERR_OK, "hot_new"); /* a few entries per stripe: evictions all the time */
    struct apply_config cfg = {.hot = w->hot,
                               .stores = w->stores,
                               .store_count = STORES,
                               .round_bytes = 60000,
                               .round_ms = round_ms,
                               .checkpoint_bytes = 400000,
                               .on_applied = on_applied,
                               .on_failure = on_failure,
                               .arg = w};
    check(apply_start(&w->apply, &cfg) == ERR_OK, "apply_start");
}

static void close_world(struct world *w)
{
    apply_stop(w->apply);
    for (unsigned i = 0; i < STORES; i++)
        store_close(w->stores[i]);
    hot_free(w->hot);
}

static void *sequencer(void *arg)
{
    struct world *w = arg;
    struct op_at ops[3];
    char kb[48];
    for (uint64_t lsn = w->from; lsn <= w->to; lsn++) {
        pthread_mutex_lock(&w->lock);
        while (lsn > w->published_lsn + 3 * GROUP)
            pthread_cond_wait(&w->moved, &w->lock);
        pthread_mutex_unlock(&w->lock);
        while (hot_dirty_bytes(w->hot) > 200000)
            apply_wait_lsn(w->apply, hot_published(w->hot));
        unsigned n = ops_of(lsn, ops);
        for (unsigned i = 0; i < n; i++) {
            size_t at = (lsn - w->from) * 3 + i;
            struct bytes key = key_of(ops[i].key, kb);
            struct blob *b;
            uint64_t fill;
            if (hot_peek_staged(w->hot, (uint16_t)ops[i].store, key, &b, &fill)) { /* the condition */
                blob_unref(b);
            } else {
                enum err e = store_get(w->stores[ops[i].store], key, &b);
                if (e == ERR_NOTFOUND)
                    b = blob_tombstone(0);
                check(b != NULL, "store_get");
                hot_fill(w->hot, (uint16_t)ops[i].store, key, b, fill);
                blob_unref(b);
            }
            w->values[at] = blob_of(lsn, &ops[i]);
            check(hot_stage(w->hot, (uint16_t)ops[i].store, key, w->values[at], &w->entries[at]) == ERR_OK,
                  "hot_stage");
        }
        pthread_mutex_lock(&w->lock);
        w->staged_lsn = lsn;
        pthread_cond_broadcast(&w->moved);
        pthread_mutex_unlock(&w->lock);
    }
    return NULL;
}

static void publish(struct world *w, uint64_t lsn)
{
    struct op_at ops[3];
    unsigned n = ops_of(lsn, ops);
    for (unsigned i = 0; i < n; i++) {
        size_t at = (lsn - w->from) * 3 + i;
        hot_publish(w->hot, w->entries[at], w->values[at]);
    }
}

static void *log_writer(void *arg)
{
    struct world *w = arg;
    struct op_at ops[3];
    uint64_t lsn = w->from - 1;
    while (lsn < w->to) {
        pthread_mutex_lock(&w->lock);
        while (w->staged_lsn == lsn)
            pthread_cond_wait(&w->moved, &w->lock);
        uint64_t end = w->staged_lsn < lsn + GROUP ? w->staged_lsn : lsn + GROUP, first = lsn + 1;
        pthread_mutex_unlock(&w->lock);
        while (lsn < end)
            publish(w, ++lsn);
        hot_set_published(w->hot, lsn);
        apply_kick(w->apply);
        for (uint64_t i = first; i <= lsn; i++)
            for (unsigned n = ops_of(i, ops); n-- > 0;)
                atomic_store(&w->committed[ops[n].store][ops[n].key], i * 2 + (unsigned)ops[n].deletes);
        pthread_mutex_lock(&w->lock);
        w->published_lsn = lsn;
        pthread_cond_broadcast(&w->moved);
        pthread_mutex_unlock(&w->lock);
    }
    atomic_store(&w->done, 1);
    return NULL;
}

/* A deletion of the key at or after lsn, up to the end. */
static int deleted_since(const struct world *w, unsigned store, unsigned k, uint64_t lsn)
{
    struct op_at ops[3];
    for (; lsn <= w->to; lsn++)
        for (unsigned n = ops_of(lsn, ops); n-- > 0;)
            if (ops[n].store == store && ops[n].key == k && ops[n].deletes)
                return 1;
    return 0;
}

static struct blob *read_key(struct world *w, unsigned store, unsigned k)
{
    char kb[48];
    struct blob *b;
    uint64_t fill;
    struct bytes key = key_of(k, kb);
    if (hot_get(w->hot, (uint16_t)store, key, &b, &fill))
        return b;
    enum err e = store_get(w->stores[store], key, &b);
    if (e == ERR_NOTFOUND)
        b = blob_tombstone(0);
    check((e == ERR_OK || e == ERR_NOTFOUND) && b, "store_get");
    hot_fill(w->hot, (uint16_t)store, key, b, fill);
    return b;
}

static void *reader(void *arg)
{
    struct world *w = arg;
    uint64_t r = (uint64_t)(uintptr_t)&arg | 1, seen[STORES][KEYS] = {{0}};
    char vb[500];
    while (!atomic_load(&w->done)) {
        uint64_t x = sf_rnd(&r);
        unsigned store = (unsigned)(x % STORES), k = (unsigned)((x >> 8) % 2 ? (x >> 16) % 20 : (x >> 16) % KEYS);
        uint64_t floor = atomic_load(&w->committed[store][k]) / 2;
        struct blob *b = read_key(w, store, k);
        if (seen[store][k] > floor)
            floor = seen[store][k];
        if (!b->tombstone) {
            check(b->lsn >= floor, "a reader saw a value go back");
            check(bytes_equal(blob_bytes(b), value_of(b->lsn, store, k, vb)), "a reader saw another value");
            seen[store][k] = b->lsn;
        } else {
            check(floor == 0 || b->lsn >= floor || deleted_since(w, store, k, floor), "a reader missed a value");
        }
        blob_unref(b);
    }
    return NULL;
}

/* Views of all stores at one LSN, again and again. */
static void *viewer(void *arg)
{
    struct world *w = arg;
    struct content c = {0};
    int last = 0;
    while (!last) {
        struct store_iter *it[STORES];
        last = atomic_load(&w->done);
        apply_demand(w->apply, hot_published(w->hot));
        uint64_t lsn = apply_pause(w->apply);
        for (unsigned i = 0; i < STORES; i++)
            check(store_iter_new(w->stores[i], &it[i]) == ERR_OK, "store_iter_new");
        apply_resume(w->apply);
        advance(&c, lsn);
        for (unsigned i = 0; i < STORES; i++) {
            check_scan(it[i], i, &c);
            store_iter_free(it[i]);
        }
    }
    return NULL;
}

static void run_world(struct world *w, uint64_t from, uint64_t to)
{
    void *(*const roles[])(void *) = {sequencer, log_writer, viewer, reader, reader};
    pthread_t threads[5];
    w->from = from;
    w->to = to;
    w->staged_lsn = w->published_lsn = from - 1;
    w->entries = calloc((to - from + 1) * 3, sizeof *w->entries);
    w->values = calloc((to - from + 1) * 3, sizeof *w->values);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->moved, NULL);
    for (unsigned i = 0; i < 5; i++)
        check(pthread_create(&threads[i], NULL, roles[i], w) == 0, "pthread_create");
    for (unsigned i = 0; i < 5; i++)
        pthread_join(threads[i], NULL);
    free(w->entries);
    free(w->values);
}

static void readers_views_and_stores_agree(void **state)
{
    (void)state;
    struct world *w = calloc(1, sizeof *w);
    struct content c = {0};
    sf_make_dir(w->dir);
    w->told_fd = -1;
    open_world(w, 2);
    run_world(w, 1, 15000);
    close_world(w);

    open_world(w, 2); /* a clean stop: everything is there, and said to be durable */
    advance(&c, 15000);
    for (unsigned i = 0; i < STORES; i++) {
        struct store_iter *it;
        assert_int_equal(store_applied(w->stores[i]), 15000);
        assert_int_equal(store_checkpointed(w->stores[i]), 15000);
        assert_int_equal(store_iter_new(w->stores[i], &it), ERR_OK);
        check_scan(it, i, &c);
        store_iter_free(it);
    }
    close_world(w);
    sf_remove_dir(w->dir);
    free(w);
}

/* ---- kill -9 ---- */

/* Writes records until it is killed, from where the stores are. */
static void child(struct world *w, uint64_t from)
{
    open_world(w, 1);
    hot_set_published(w->hot, from - 1);
    apply_wait_lsn(w->apply, from - 1);
    run_world(w, from, from + 100000);
    _exit(3);
}

static uint64_t lowest_applied(struct world *w)
{
    uint64_t lsn = UINT64_MAX;
    for (unsigned i = 0; i < STORES; i++)
        if (store_applied(w->stores[i]) < lsn)
            lsn = store_applied(w->stores[i]);
    return lsn;
}

/* The recovery of engine.c in small: every record from the lowest applied LSN on, each store skipping what it has. */
static void replay(struct world *w, uint64_t to)
{
    uint64_t skip[STORES], lsn = lowest_applied(w);
    struct op_at ops[3];
    char kb[48], vb[500];
    struct buf blob;
    buf_init(&blob, 1 << 16);
    for (unsigned i = 0; i < STORES; i++)
        skip[i] = store_applied(w->stores[i]);
    while (lsn++ < to) {
        unsigned n = ops_of(lsn, ops);
        buf_clear(&blob);
        for (unsigned i = 0; i < n; i++) {
            struct bytes key = key_of(ops[i].key, kb);
            enum err e = ops[i].deletes
                             ? ops_delete(&blob, (uint16_t)ops[i].store, key)
                             : ops_put(&blob, (uint16_t)ops[i].store, key, value_of(lsn, ops[i].store, ops[i].key, vb));
            check(e == ERR_OK, "ops");
        }
        struct record r = {.lsn = lsn, .blob = buf_bytes(&blob)};
        check(apply_record(w->hot, &r, skip, STORES) == ERR_OK, "apply_record");
        hot_set_published(w->hot, lsn);
    }
    buf_fini(&blob);
    apply_wait_lsn(w->apply, to);
}

/* Opens what the killed process left, replays to an end past whatever its last round had written ahead of its LSN.
 * Returns that end. */
static uint64_t recover_and_check(struct world *w, uint64_t end_before)
{
    struct content c = {0};
    uint64_t highest = 0;
    open_world(w, 1000);
    for (unsigned i = 0; i < STORES; i++)
        if (store_applied(w->stores[i]) > highest)
            highest = store_applied(w->stores[i]);
    check(highest > end_before, "nothing was applied");
    replay(w, highest + 3000);
    advance(&c, highest + 3000);
    for (unsigned i = 0; i < STORES; i++) {
        struct store_iter *it;
        check(store_iter_new(w->stores[i], &it) == ERR_OK, "store_iter_new");
        check_scan(it, i, &c);
        store_iter_free(it);
    }
    close_world(w);
    return highest + 3000;
}

/* Each life is a process of its own; this one must not touch LevelDB, whose background thread would not survive the
 * fork. */
static void a_killed_process_leaves_what_a_replay_completes(void **state)
{
    (void)state;
    struct world *w = calloc(1, sizeof *w);
    uint64_t r = 77, *end = mmap(NULL, sizeof *end, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    sf_make_dir(w->dir);
    for (unsigned cycle = 0; cycle < 6; cycle++) {
        int fds[2], status;
        char byte;
        assert_int_equal(pipe(fds), 0);
        pid_t pid = fork();
        if (pid == 0) {
            close(fds[0]);
            w->told_fd = fds[1];
            child(w, *end + 1);
        }
        close(fds[1]);
        for (uint64_t rounds = 3 + sf_rnd(&r) % 60; rounds; rounds--)
            assert_int_equal(read(fds[0], &byte, 1), 1);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        close(fds[0]);

        pid = fork();
        if (pid == 0) {
            w->told_fd = -1;
            *end = recover_and_check(w, *end);
            _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    sf_remove_dir(w->dir);
    munmap(end, sizeof *end);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            a_killed_process_leaves_what_a_replay_completes), /* first: it forks, before there are threads */
        cmocka_unit_test(readers_views_and_stores_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
