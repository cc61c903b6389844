/* engine/room.h: an engine on a disk that is nearly full. This program's own statvfs says how full. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/sha256.h"
#include "engine/engine_impl.h"
#include "engine/room.h"

#define MIB ((uint64_t)1 << 20)
#define DIRTY_LIMIT (8 * MIB)
#define VALUE_BYTES (1 << 20)
#define PLENTY (UINT64_MAX / 2)

static _Atomic uint64_t free_bytes;

int statvfs(const char *restrict path, struct statvfs *restrict out)
{
    (void)path;
    *out = (struct statvfs){.f_frsize = 1, .f_bavail = atomic_load(&free_bytes)};
    return 0;
}

struct plain {
    size_t n;
};

static enum err test_seal(struct plain *p, const struct seal_bind *bind, uint8_t *out)
{
    memset(out, (int)bind->version, p->n);
    return ERR_OK;
}

static size_t test_size(const struct plain *p)
{
    return p->n;
}

static const struct sealer sealer = {test_seal, test_size};

static enum err test_sign(void *arg, struct bytes in, uint8_t out[SNAPFILE_HASH_BYTES])
{
    (void)arg;
    sha256_of(in.p, in.n, out);
    return ERR_OK;
}

static char dir[64];
static struct engine *e;
static struct vault *vault;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done_cond = PTHREAD_COND_INITIALIZER;
static int finished;

static void note_end(void)
{
    pthread_mutex_lock(&lock);
    finished = 1;
    pthread_cond_signal(&done_cond);
    pthread_mutex_unlock(&lock);
}

static void wait_for_end(void)
{
    pthread_mutex_lock(&lock);
    while (!finished)
        pthread_cond_wait(&done_cond, &lock);
    finished = 0;
    pthread_mutex_unlock(&lock);
}

static void done(struct write *w)
{
    (void)w;
    note_end();
}

static enum err run(struct vault *v, struct step *s)
{
    struct write w = {.vault = v, .step = s, .steps = 1, .done = done};
    engine_submit(e, &w);
    wait_for_end();
    return w.err;
}

static enum err set(unsigned path)
{
    struct plain p = {VALUE_BYTES};
    char name[16];
    snprintf(name, sizeof name, "p%u", path);
    struct step s = {.kind = STEP_SECRET_SET, .path = bytes_str(name), .plain = &p};
    return run(vault, &s);
}

static int setup(void **state)
{
    static const struct vault_settings settings = {.max_versions = 3};
    const char *why;
    struct engine_report report;
    struct step s = {
        .kind = STEP_VAULT_CREATE, .path = bytes_str("v"), .record = bytes_str("partition"), .settings = &settings};
    (void)state;
    snprintf(dir, sizeof dir, "%s/coffer-room-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(dir));
    atomic_store(&free_bytes, PLENTY);
    struct engine_config cfg = {.dir = dir,
                                .shards = 1,
                                .wal_segment_bytes = MIB,
                                .cache_bytes = MIB,
                                .dirty_bytes = DIRTY_LIMIT,
                                .write_buffer_bytes = MIB,
                                .secret_max_bytes = MIB,
                                .sealer = &sealer,
                                .signer = {test_sign, NULL},
                                .snapshot_keep = 2};
    assert_int_equal(engine_open(&e, &cfg, &report, &why), ERR_OK);
    assert_int_equal(run(NULL, &s), ERR_OK);
    vault = vaults_find(engine_vaults(e), bytes_str("v"));
    return 0;
}

static int teardown(void **state)
{
    char cmd[128];
    (void)state;
    engine_close(e);
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

/* Until writes are answered so: the free space is looked at once a second. */
static void wait_for(enum err want)
{
    uint64_t since_us = clock_mono_us();
    while (set(0) != want)
        if (clock_mono_us() - since_us > 60000000)
            fail_msg("writes are not answered %s", err_name(want));
}

/* A round of many MiB was begun with 16 MiB free: LevelDB ran out of space, and the vaults of that store answered
 * CORRUPT until the next start. */
static void a_round_is_not_begun_without_room_for_all_of_it(void **state)
{
    (void)state;
    apply_pause(e->apply);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(set(i), ERR_OK);
    uint64_t dirty = hot_dirty_bytes(e->hot);
    assert_true(dirty > 5 * MIB);
    atomic_store(&free_bytes, ROOM_STORES_BYTES + 2 * dirty - 1);
    apply_resume(e->apply);
    assert_int_equal(apply_wait_lsn(e->apply, engine_commit_lsn(e)), ERR_MISCONF);
    atomic_store(&free_bytes, ROOM_STORES_BYTES + 2 * dirty);
    while (apply_stalled(e->apply))
        usleep(1000);
    assert_int_equal(apply_wait_lsn(e->apply, engine_commit_lsn(e)), ERR_OK);
}

/* Writes were taken while less was free than it takes to apply them. */
static void what_is_admitted_finds_room_in_the_stores(void **state)
{
    (void)state;
    atomic_store(&free_bytes, room_for_log(DIRTY_LIMIT) - 1);
    wait_for(ERR_MISCONF);
    assert_true(room_for_log(DIRTY_LIMIT) > room_for_stores(DIRTY_LIMIT));
    assert_int_equal(apply_wait_lsn(e->apply, engine_commit_lsn(e)), ERR_OK);
    atomic_store(&free_bytes, PLENTY);
    wait_for(ERR_OK);
}

static void demand_done(struct snapshots_wait *w)
{
    (void)w;
    note_end();
}

static enum err snapshot(void)
{
    struct snapshots_wait w = {.done = demand_done, .lsn = engine_commit_lsn(e)};
    snapshots_demand(e->snapshots, &w);
    wait_for_end();
    return w.err;
}

/* A snapshot was written until the disk was full; what the log and the stores wrote meanwhile failed. */
static void a_snapshot_leaves_the_last_of_the_disk_to_others(void **state)
{
    (void)state;
    assert_int_equal(set(0), ERR_OK);
    atomic_store(&free_bytes, room_for_snapshot(DIRTY_LIMIT) - 1);
    assert_int_equal(snapshot(), ERR_MISCONF);
    atomic_store(&free_bytes, room_for_snapshot(DIRTY_LIMIT));
    assert_int_equal(snapshot(), ERR_OK);
    /* The next one is as large as that. */
    assert_int_equal(set(0), ERR_OK);
    assert_int_equal(snapshot(), ERR_MISCONF);
    atomic_store(&free_bytes, room_for_snapshot(DIRTY_LIMIT) + 2 * VALUE_BYTES);
    assert_int_equal(snapshot(), ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_round_is_not_begun_without_room_for_all_of_it, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_admitted_finds_room_in_the_stores, setup, teardown),
        cmocka_unit_test_setup_teardown(a_snapshot_leaves_the_last_of_the_disk_to_others, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
