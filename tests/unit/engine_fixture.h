/* engine_fixture.h - a whole engine with snapshots in a directory in memory, for the tests of what happens to its
 * files: values are sealed by their version in front of them, signatures are SHA-256. */
#ifndef COFFER_TESTS_ENGINE_FIXTURE_H
#define COFFER_TESTS_ENGINE_FIXTURE_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/log.h"
#include "base/sha256.h"
#include "engine/engine_impl.h"
#include "tests/unit/plain_sealer.h"

/* ---- a signer for tests ---- */

static _Atomic int hsm_down;
static void (*_Atomic on_sign)(void); /* on the thread that asks */

static enum err test_sign(void *arg, struct bytes in, uint8_t out[SNAPFILE_HASH_BYTES])
{
    (void)arg;
    void (*hook)(void) = atomic_load(&on_sign);
    if (hook)
        hook();
    if (atomic_load(&hsm_down))
        return ERR_HSMDOWN;
    sha256_of(in.p, in.n, out);
    return ERR_OK;
}

/* ---- fixture ---- */

static char dir[64];
static struct engine *e;
static struct engine_report report;
static char said[4096];
static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;

static void log_line(int level, const char *line)
{
    (void)level;
    pthread_mutex_lock(&said_lock);
    strncat(said, line, sizeof said - strlen(said) - 1);
    strncat(said, "\n", sizeof said - strlen(said) - 1);
    pthread_mutex_unlock(&said_lock);
}

__attribute__((unused)) static int was_said(const char *text)
{
    pthread_mutex_lock(&said_lock);
    int it_was = strstr(said, text) != NULL;
    pthread_mutex_unlock(&said_lock);
    return it_was;
}

/* As engine_config.fetch_snapshot; NULL: there is no next tier. */
static enum err (*fetch)(void *arg, const uint8_t cell_id[16], uint64_t from, uint64_t to,
                         int (*fits)(void *fits_arg, const struct snapfile_header *h), void *fits_arg);
static enum err (*mend_log)(void *arg, struct wal *w, uint64_t lsn, int (*over)(void *over_arg), void *over_arg);
static enum err (*on_user)(void *arg, struct bytes name, struct bytes rules); /* as in engine_config */

static enum err try_open(void)
{
    const char *why;
    struct engine_config cfg = {.dir = dir,
                                .shards = 2,
                                .wal_segment_bytes = 65536,
                                .cache_bytes = 1 << 20,
                                .dirty_bytes = 1 << 20,
                                .write_buffer_bytes = 1 << 20,
                                .secret_max_bytes = 1 << 20,
                                .sealer = &sealer,
                                .signer = {test_sign, NULL},
                                .snapshot_keep = 2,
                                .fetch_snapshot = fetch,
                                .mend_log = mend_log,
                                .on_user = on_user,
                                .log = log_line};
    said[0] = '\0';
    enum err err = engine_open(&e, &cfg, &report, &why);
    if (err) {
        log_line(LOG_WARNING, why);
        e = NULL;
    }
    return err;
}

static void open_engine(void)
{
    assert_int_equal(try_open(), ERR_OK);
}

/* Until all that the start found lost is filled. */
__attribute__((unused)) static void wait_for_filling(void)
{
    struct engine_recovery r;
    do {
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        engine_recovery(e, &r);
    } while (r.stores_left);
}

static void close_engine(void)
{
    engine_close(e);
    e = NULL;
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

/* ---- the next tier ---- */

__attribute__((unused)) static _Atomic unsigned fetches;

/* What was set aside is what another place has. */
__attribute__((unused)) static enum err fetch_aside(void *arg, const uint8_t cell_id[16], uint64_t from, uint64_t to,
                                                    int (*fits)(void *fits_arg, const struct snapfile_header *h),
                                                    void *fits_arg)
{
    static const struct snap_signer signer = {test_sign, NULL};
    char path[256], **names, folder[128], why[100];
    enum err err = ERR_NOTFOUND;
    size_t n;

    (void)arg;
    fetches++;
    snprintf(folder, sizeof folder, "%s.aside", dir);
    if (file_list(folder, &names, &n))
        return ERR_NOTFOUND;
    for (size_t i = n; i-- > 0 && err;) {
        struct snapread_info info;
        struct snapread *r;
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        assert_int_equal(snapread_open(&r, path, cell_id, &signer, why, sizeof why), ERR_OK);
        snapread_info(r, &info);
        snapread_unref(r);
        if (info.header.lsn < from || info.header.lsn > to || !fits(fits_arg, &info.header))
            continue;
        shell("cp %s %s/snapshots/", path, dir);
        err = ERR_OK;
    }
    file_free_names(names, n);
    return err;
}

/* ---- writes ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done_cond = PTHREAD_COND_INITIALIZER;

static void done(struct write *w)
{
    pthread_mutex_lock(&lock);
    *(int *)w->arg = 1;
    pthread_cond_broadcast(&done_cond);
    pthread_mutex_unlock(&lock);
}

static enum err run(struct vault *v, struct step *s)
{
    int finished = 0;
    struct write w = {.vault = v, .step = s, .steps = 1, .done = done, .arg = &finished};
    engine_submit(e, &w);
    pthread_mutex_lock(&lock);
    while (!finished)
        pthread_cond_wait(&done_cond, &lock);
    pthread_mutex_unlock(&lock);
    free(s->plain);
    return w.err;
}

static struct vault *vault_named(const char *name)
{
    static const struct vault_settings settings = {.max_versions = 5, .recovery_ms = 10000};
    struct vault *v = vaults_find(engine_vaults(e), bytes_str(name));
    if (v)
        return v;
    struct step s = {
        .kind = STEP_VAULT_CREATE, .path = bytes_str(name), .record = bytes_str("partition"), .settings = &settings};
    assert_int_equal(run(NULL, &s), ERR_OK);
    return vaults_find(engine_vaults(e), bytes_str(name));
}

/* ---- snapshots ---- */

struct waiting {
    struct snapshots_wait w;
    int finished;
};

static void wait_done(struct snapshots_wait *w)
{
    struct waiting *me = (struct waiting *)(void *)w;
    pthread_mutex_lock(&lock);
    me->finished = 1;
    pthread_cond_broadcast(&done_cond);
    pthread_mutex_unlock(&lock);
}

static enum err demand(uint64_t *lsn)
{
    struct waiting me = {.w = {.done = wait_done, .lsn = engine_commit_lsn(e)}};
    snapshots_demand(engine_snapshots(e), &me.w);
    pthread_mutex_lock(&lock);
    while (!me.finished)
        pthread_cond_wait(&done_cond, &lock);
    pthread_mutex_unlock(&lock);
    *lsn = me.w.lsn;
    return me.w.err;
}

__attribute__((unused)) static void make_snapshot(void)
{
    uint64_t lsn, want = engine_commit_lsn(e);
    apply_wait_lsn(e->apply, want);
    assert_int_equal(demand(&lsn), ERR_OK);
    assert_true(lsn >= want);
}

/* Makes the stores' checkpoints, which the log is not trimmed beyond. */
__attribute__((unused)) static void checkpoint(void)
{
    close_engine();
    open_engine();
}

__attribute__((unused)) static uint64_t first_lsn(void)
{
    struct wal_info w;
    wal_info(engine_wal(e), &w);
    return w.first_lsn;
}

#endif
