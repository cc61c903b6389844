/* start.c - see start.h.
 *
 *     install_finish                   only when a full resync is to be finished
 *     coffer-hsm provision DIR/hsm     only with the embedded default: no token, PIN or other module was configured
 *     hsm_open                         workers log in; the realm is known
 *     restore_begin                    only without a log: a new cell, or one from the object store (restore.h)
 *     keyring, data keys, engine       the directory's lock is taken here; recovery
 *     loading = 0                      commands go through
 *
 * An HSM that cannot be opened ends the start: without it there are no data keys, so there is nothing that could be
 * served.
 *
 * Closing goes the other way, and while closing completions still come to I/O threads that have ended: their memory
 * stays until start_close() is through.
 */
#include "server/start.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/install.h"
#include "hsm/provision.h"
#include "server/acl.h"
#include "server/bucketlink.h"
#include "server/change.h"
#include "server/chores.h"
#include "server/command.h"
#include "server/cursors.h"
#include "server/dek.h"
#include "server/fallback.h"
#include "server/feed.h"
#include "server/keyevent.h"
#include "server/keyop.h"
#include "server/keyturn.h"
#include "server/lend.h"
#include "server/realmsign.h"
#include "server/repl.h"
#include "server/restore.h"
#include "server/sweep.h"
#include "server/tracking.h"

extern char **environ;

#define CHORE_THREADS 2
#define UNSEAL_SECONDS 30

struct hsm_files { /* what hsm_open needs, found out from configuration, environment and files */
    char worker[PATH_MAX], dir[PATH_MAX], pin[PATH_MAX], conf[PATH_MAX];
    const char *module;
    const char *env_pin;
    int embedded;
};

static void log_line(int level, const char *line)
{
    log_at((enum log_level)level, "%s", line);
}

/* ---- the directory ---- */

static int lock_fd = -1; /* main thread, then the start thread */

enum err start_lock(struct server *srv)
{
    const char *dir = config_str(srv->config, CFG_DIR);
    if (lock_fd >= 0)
        return ERR_OK;
    enum err e = file_open("lock", O_RDWR | O_CREAT, 0600, &lock_fd);
    if (e) {
        log_at(LOG_WARNING, "The directory %s cannot be used: %s", dir, strerror(file_errno()));
        return e;
    }
    if (flock(lock_fd, LOCK_EX | LOCK_NB) == 0)
        return ERR_OK;
    log_at(LOG_WARNING,
           "The directory %s belongs to another server that runs. Stop it, or give this one a dir of its own.", dir);
    return ERR_CONFLICT;
}

static void drop_lock(void)
{
    if (lock_fd < 0)
        return;
    (void)flock(lock_fd, LOCK_UN); /* a worker that is just being started may still have a copy of the descriptor */
    close(lock_fd);
    lock_fd = -1;
}

/* ---- the HSM ---- */

/* The program beside this one, or in COFFER_HSM. */
static void find_worker(char *out, size_t room)
{
    const char *env = getenv("COFFER_HSM");
    ssize_t n = env ? snprintf(out, room, "%s", env) : readlink("/proc/self/exe", out, room - 1);
    if (env)
        return;
    out[n > 0 ? n : 0] = 0;
    char *slash = strrchr(out, '/');
    snprintf(slash ? slash + 1 : out, room - (size_t)(slash ? slash + 1 - out : 0), "coffer-hsm");
}

/* systemd's credential, when there is one. */
static int find_credential(char *out, size_t room)
{
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    if (!dir)
        return 0;
    snprintf(out, room, "%s/hsm-pin", dir);
    return access(out, R_OK) == 0;
}

static int is_softhsm(const char *module)
{
    return !module[0] || strcasestr(module, "libsofthsm2");
}

static enum err find_files(struct server *srv, struct hsm_files *f)
{
    const struct config *c = srv->config;
    const char *module = config_str(c, CFG_HSM_MODULE);
    int64_t mode = config_int(c, CFG_HSM_AUTO_PROVISION);
    enum { NO, YES, AUTO };

    memset(f, 0, sizeof *f);
    find_worker(f->worker, sizeof f->worker);
    if (!realpath(".", f->dir) || strlen(f->dir) + sizeof "/hsm/softhsm2.conf" > sizeof f->dir) {
        log_at(LOG_WARNING, "The data directory cannot be resolved: %s", strerror(errno));
        return ERR_IO;
    }
    snprintf(f->dir + strlen(f->dir), sizeof f->dir - strlen(f->dir), "/hsm");
    snprintf(f->pin, sizeof f->pin, "%s", config_str(c, CFG_HSM_PIN_FILE));
    f->env_pin = getenv("COFFER_HSM_PIN");
    int given = f->pin[0] || find_credential(f->pin, sizeof f->pin) || f->env_pin;
    if (!given)
        f->pin[0] = 0;
    f->embedded = mode == YES || (mode == AUTO && !given && is_softhsm(module) &&
                                  strcmp(config_str(c, CFG_HSM_TOKEN), PROVISION_TOKEN) == 0);
    f->module = module[0] ? module : provision_find_module();
    if (!f->module) {
        log_at(LOG_WARNING, "No PKCS#11 module: install SoftHSM2 (package softhsm2), or name one with hsm-module");
        return ERR_NOTFOUND;
    }
    if (f->embedded) {
        snprintf(f->pin, sizeof f->pin, "%.*s/pin", (int)sizeof f->pin - 8, f->dir);
        snprintf(f->conf, sizeof f->conf, "%.*s/softhsm2.conf", (int)sizeof f->conf - 16, f->dir);
    }
    return ERR_OK;
}

/* The ceremony of the embedded default, in a process of its own: this one never loads a module. */
static enum err provision_token(struct server *srv, const struct hsm_files *f)
{
    const char *realm = config_str(srv->config, CFG_REALM_FILE);
    char *argv[] = {(char *)(uintptr_t)f->worker,   (char *)(uintptr_t) "provision", (char *)(uintptr_t)f->dir,
                    (char *)(uintptr_t) "--module", (char *)(uintptr_t)f->module,    NULL};
    pid_t pid;
    int status = 0;

    if (realm[0])
        log_at(LOG_NOTICE, "realm-file is not used with the embedded token: its realm is %s/realm", f->dir);
    int rc = posix_spawn(&pid, f->worker, NULL, NULL, argv, environ);
    if (rc) {
        log_at(LOG_WARNING, "Cannot run %s: %s", f->worker, strerror(rc));
        return ERR_IO;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        log_at(LOG_WARNING,
               "The embedded software token in %s is used. It is no security boundary: PIN and keys lie on this disk.",
               f->dir);
        return ERR_OK;
    }
    log_at(LOG_WARNING, "The embedded token in %s could not be provisioned; coffer-hsm's reason is above", f->dir);
    return ERR_HSMDOWN;
}

/* A PIN from the environment goes to the workers as HSM.UNSEAL would. */
static enum err unseal_from_environment(struct hsm *h, const char *pin)
{
    uint64_t until = clock_mono_us() + UNSEAL_SECONDS * 1000000ull;
    enum err e = hsm_unseal(h, bytes_str(pin));
    while (!e && (hsm_state_now(h) == HSM_STATE_STARTING || hsm_state_now(h) == HSM_STATE_SEALED) &&
           clock_mono_us() < until)
        usleep(2000); /* at a start only, before anybody waits */
    return e ? e : hsm_state_now(h) == HSM_STATE_UP ? ERR_OK : ERR_HSMDOWN;
}

static enum err open_hsm(struct server *srv)
{
    struct hsm_files f;
    const struct config *c = srv->config;
    const char *why = "", *init = config_str(c, CFG_HSM_MODULE_INIT);
    enum err e = find_files(srv, &f);
    if (!e && f.embedded)
        e = provision_token(srv, &f);
    if (e)
        return e;
    struct hsm_config cfg = {
        .worker_path = f.worker,
        .module = f.module,
        .module_init = init[0] ? init : NULL,
        .token = config_str(c, CFG_HSM_TOKEN),
        .pin_file = f.pin[0] ? f.pin : NULL,
        .softhsm_conf = f.conf[0] ? f.conf : getenv("SOFTHSM2_CONF"),
        .workers = (unsigned)config_int(c, CFG_HSM_WORKERS),
        .timeout_ms = (unsigned)config_int(c, CFG_HSM_TIMEOUT),
        .key_cache = (unsigned)config_int(c, CFG_HSM_KEY_CACHE),
        .hsm_only = (int)config_int(c, CFG_HSM_ONLY),
        .recycle_objects = (unsigned long)config_int(c, CFG_HSM_RECYCLE_OBJECTS),
        .log = log_line,
    };
    e = hsm_open(&srv->hsm, &cfg, &why);
    if (!e && !cfg.pin_file) {
        if (!f.env_pin) {
            log_at(LOG_WARNING,
                   "No PIN for the HSM: give hsm-pin-file, the systemd credential hsm-pin, or COFFER_HSM_PIN");
            return ERR_WRONGPASS;
        }
        e = unseal_from_environment(srv->hsm, f.env_pin);
        why = "the workers did not come up with the PIN of COFFER_HSM_PIN; their reason is above";
    }
    if (e)
        log_at(LOG_WARNING,
               "The HSM cannot be opened (module %s, token %s): %s. Without it no data key can be had, so nothing "
               "could be served.",
               f.module, cfg.token, why[0] ? why : err_text(e));
    return e;
}

/* ---- data keys and engine ---- */

static void on_applied(void *arg, uint64_t lsn)
{
    struct server *srv = arg;
    (void)lsn;
    waitlist_wake(srv->applied);
}

static enum err on_user(void *arg, struct bytes name, struct bytes rules)
{
    return acl_take(((struct server *)arg)->acl, name, rules);
}

static void on_expired(void *arg, struct vault *v, struct bytes path)
{
    struct server *srv = arg;
    atomic_fetch_add_explicit(&srv->expired, 1, memory_order_relaxed);
    if (keyevent_wanted())
        keyevent_secret(srv, EVENT_EXPIRED, v, path);
}

static void on_records(void *arg, struct bytes records, const struct mpsc_node *writes)
{
    struct server *srv = arg;
    tracking_records(srv->tracking, records, writes);
    feed_records(srv->feed, records);
}

/* Somebody copies a snapshot. As with replicas, not beyond what is to be kept for them. */
static uint64_t on_kept(void *arg, uint64_t log_bytes)
{
    struct server *srv = arg;
    uint64_t lsn = lend_needed_lsn(srv->lend, clock_mono_ms());
    return log_bytes > (uint64_t)config_int(srv->config, CFG_WBL_RETAIN) ? UINT64_MAX : lsn;
}

static void read_defaults(struct server *srv)
{
    const struct config *c = srv->config;
    srv->vault_defaults = (struct vault_settings){
        .max_versions = (uint32_t)config_int(c, CFG_SECRET_MAX_VERSIONS),
        .recovery_ms = (uint64_t)config_int(c, CFG_SECRET_RECOVERY_WINDOW) * 1000,
    };
}

static void log_report(const struct engine_report *r)
{
    if (r->wal.last_lsn <= 1 && r->wal.segments == 0) {
        log_at(LOG_NOTICE, "A new data directory: %u shards", r->shards);
        return;
    }
    log_at(LOG_NOTICE, "Log: LSN %llu to %llu in %u segments; %s", (unsigned long long)r->wal.first_lsn,
           (unsigned long long)r->wal.last_lsn, r->wal.segments, r->wal.text);
    log_at(
        LOG_NOTICE,
        "Recovered from %s in %llu ms: tier %d, %u shards, %u stores lost, snapshot LSN %llu, applied LSN %llu, %llu "
        "records replayed",
        r->clean       ? "a clean stop"
        : r->same_boot ? "local stores and log after a crash"
                       : "local stores and log after a power loss or reboot",
        (unsigned long long)r->took_ms, r->tier, r->shards, r->stores_lost, (unsigned long long)r->snapshot_lsn,
        (unsigned long long)r->applied_lsn, (unsigned long long)r->replayed);
}

static enum err open_engine(struct server *srv)
{
    const struct config *c = srv->config;
    const char *why = "";
    read_defaults(srv);
    struct engine_config cfg = {
        .dir = ".",
        .shards = (unsigned)config_int(c, CFG_SHARDS),
        .wal_segment_bytes = (uint64_t)config_int(c, CFG_WBL_SEGMENT_BYTES),
        .cache_bytes = (size_t)config_int(c, CFG_CACHE_SIZE),
        .dirty_bytes = (size_t)config_int(c, CFG_DIRTY_LIMIT),
        .write_buffer_bytes = (size_t)config_int(c, CFG_WRITE_BUFFER_SIZE),
        .secret_max_bytes = (uint64_t)config_int(c, CFG_SECRET_MAX_BYTES),
        .defaults = srv->vault_defaults,
        .sealer = &seal_sealer,
        .gate = repl_gate(srv->repl),
        .signer = {realmsign, srv},
        .snapshot_log_bytes = (uint64_t)config_int(c, CFG_SNAPSHOT_LOG_BYTES),
        .snapshot_interval_ms = (uint64_t)config_int(c, CFG_SNAPSHOT_INTERVAL) * 1000,
        .snapshot_keep = (unsigned)config_int(c, CFG_SNAPSHOT_KEEP),
        .scrub_bytes_per_s = (uint64_t)config_int(c, CFG_SCRUB_RATE),
        .fetch_snapshot = restore_snapshot,
        .mend_log = repl_mend_log,
        .log = log_line,
        .on_applied = on_applied,
        .on_user = on_user,
        .on_expired = on_expired,
        .on_records = on_records,
        .records_wanted = &srv->records_wanted,
        .kept_lsn = on_kept,
        .arg = srv,
        .progress = &srv->progress,
    };
    drop_lock(); /* the engine takes it, and refuses when somebody was faster */
    enum err e = engine_open(&srv->engine, &cfg, &srv->report, &why);
    if (e) {
        log_at(LOG_WARNING, "The store in %s cannot be opened: %s", config_str(c, CFG_DIR),
               why && why[0] ? why : err_text(e));
        return e == ERR_CORRUPT ? repl_set_aside(srv->repl, why) : e;
    }
    log_report(&srv->report);
    lend_from(srv->lend, engine_snapshots(srv->engine));
    return ERR_OK;
}

/* A full resync that came to its end, but for this. */
static enum err finish_install(void)
{
    struct install in;
    enum err e = install_finish(".", &in);

    if (e == ERR_OK && in.aside)
        log_at(LOG_WARNING, "What was here is in the directory " INSTALL_ASIDE ", and not read any more: move it away "
                            "once it is understood");
    if (e == ERR_OK && in.lsn)
        log_at(LOG_NOTICE, "The snapshot at LSN %llu (term %u), which a peer gave, takes the place of what was here",
               (unsigned long long)in.lsn, in.term);
    else if (e == ERR_CORRUPT)
        log_at(LOG_WARNING, "The file install in the data directory is damaged, or its snapshot in " INSTALL_FETCH
                            " is gone: move that file away to start with what was here before");
    else if (e && e != ERR_NOTFOUND)
        log_at(LOG_WARNING, "A fetched snapshot cannot be put in its place: %s", err_text(e));
    return e == ERR_NOTFOUND ? ERR_OK : e;
}

enum err start_open(struct server *srv)
{
    uint8_t realm[SEAL_REALM_BYTES];
    enum err installed = finish_install(), e = installed == ERR_CORRUPT ? ERR_OK : installed;
    if (!e)
        e = open_hsm(srv);
    if (e)
        return e;
    hsm_realm(srv->hsm, realm);
    bucketlink_config(srv, &srv->bucket);
    e = keyring_new(&srv->keyring, realm, (uint64_t)config_int(srv->config, CFG_DATA_KEY_TTL) * 1000);
    if (!e)
        e = change_editor_init(srv->keyring, (size_t)config_int(srv->config, CFG_SECRET_MAX_BYTES));
    if (!e)
        e = deks_new(&srv->deks, srv);
    if (!e)
        e = keyops_new(&srv->keyops, srv);
    if (!e)
        e = keyturns_new(&srv->keyturns);
    if (!e)
        e = cursors_new(&srv->cursors);
    if (!e)
        e = chores_new(&srv->chores, CHORE_THREADS);
    if (!e)
        e = lend_new(&srv->lend, "snapshots");
    if (!e)
        e = fallback_new(&srv->fallback, srv);
    if (e) {
        log_at(LOG_WARNING, "Out of memory at start");
        return e;
    }
    if (!(e = repl_begin(srv->repl, realm)) &&
        !(e = installed ? repl_set_aside(srv->repl, "the file install, or its snapshot") : ERR_OK) &&
        (repl_found_elsewhere(srv->repl) || !(e = restore_begin(srv->restore))) && !(e = open_engine(srv)) &&
        !(e = acl_log_known(srv->acl)) && !(e = repl_run(srv->repl)))
        e = bucketlink_start(srv);
    if (e == ERR_OOM)
        log_at(LOG_WARNING, "Out of memory at start");
    if (!e) {
        repl_look_for_replicas(srv->repl);
        atomic_store_explicit(&srv->loading, 0, memory_order_release);
    }
    restore_done(srv->restore, e);
    if (!e)
        sweep_token(srv);
    return e;
}

void start_close(struct server *srv)
{
    /* What comes back from the HSM may still write; what comes back from the log asks the HSM for nothing while the
     * server stops. */
    repl_no_chores(srv->repl);
    chores_free(srv->chores);
    fallback_free(srv->fallback);
    srv->fallback = NULL;
    upload_free(srv->upload);
    srv->upload = NULL;
    engine_stop_snapshots(srv->engine);
    hsm_close(srv->hsm);
    repl_stop(srv->repl); /* what was submitted until now was committed by it */
    lend_free(srv->lend);
    srv->lend = NULL;
    engine_close(srv->engine);
    srv->engine = NULL; /* for tasks that I/O threads had not run when they ended (keywrite.c) */
    deks_free(srv->deks);
    srv->deks = NULL;
    keyops_free(srv->keyops);
    srv->keyops = NULL;
    srv->hsm = NULL;
    srv->chores = NULL;
}

void start_free(struct server *srv)
{
    drop_lock();
    keyturns_free(srv->keyturns); /* tasks that I/O threads had not run gave their turns on until now */
    srv->keyturns = NULL;
    cursors_free(srv->cursors);
    srv->cursors = NULL;
    change_editor_fini();
    keyring_free(srv->keyring);
    srv->keyring = NULL;
}
