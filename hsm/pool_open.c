/* pool_open.c - hsm_open and hsm_close: configuration, memory, the thread's beginning and end; see pool_impl.h.
 *
 * Happy path: check what can be checked without a worker, so that the operator reads which file is missing instead of
 * what a worker made of it; copy the configuration; read the PIN; start the thread; wait for the first worker.
 *
 * Failure: until the thread runs everything is undone by free_all; once it runs by hsm_close, which gives the order,
 * joins, and then frees. The text of a failed open lives in a thread-local buffer, because there is no struct hsm left
 * to own it.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "hsm/pool_impl.h"

#define OPEN_SECONDS 30

static void free_config(struct hsm_config *c)
{
    const char *strings[] = {c->worker_path, c->module, c->module_init, c->token, c->pin_file, c->softhsm_conf};

    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++)
        mem_free((char *)(uintptr_t)strings[i]);
}

static enum err copy_string(const char **s)
{
    size_t n = *s ? strlen(*s) + 1 : 0;
    char *copy = n ? mem_alloc(n) : NULL;

    if (copy)
        memcpy(copy, *s, n);
    else if (n) {
        *s = NULL;
        return ERR_OOM;
    }
    *s = copy;
    return ERR_OK;
}

static enum err copy_config(struct hsm_config *to, const struct hsm_config *from)
{
    const char **strings[] = {&to->worker_path, &to->module,   &to->module_init,
                              &to->token,       &to->pin_file, &to->softhsm_conf};
    enum err e = ERR_OK;

    *to = *from;
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) /* all of them, so that free_config frees only ours */
        if (copy_string(strings[i]) != ERR_OK)
            e = ERR_OOM;
    return e;
}

static void free_slots(struct hsm *h)
{
    for (unsigned i = 0; h->slot && i < h->slots; i++) {
        pool_queue_fini(&h->slot[i].parked);
        pthread_mutex_destroy(&h->slot[i].lock);
    }
    mem_free(h->slot);
}

/* Workers that not even SIGKILL has ended; their processes are the system's now. */
static void forget_workers(struct hsm *h)
{
    while (h->workers) {
        struct pool_worker *w = h->workers;
        h->workers = w->next;
        event_del(&w->exit_ev);
        if (w->pidfd >= 0)
            close(w->pidfd);
        buf_fini(&w->in);
        mem_free(w);
    }
}

static void free_all(struct hsm *h)
{
    forget_workers(h);
    if (h->base) {
        event_del(&h->wake_ev);
        event_del(&h->tick_ev);
        event_del(&h->due_ev);
        event_base_free(h->base);
    }
    if (h->wake_fd >= 0)
        close(h->wake_fd);
    free_slots(h);
    buf_fini(&h->pin);
    buf_fini(&h->new_pin);
    buf_fini(&h->info);
    pool_env_free(h->env);
    free_config(&h->cfg);
    pthread_cond_destroy(&h->changed);
    pthread_mutex_destroy(&h->lock);
    mem_free(h);
}

static void init_lock(struct hsm *h)
{
    pthread_mutex_init(&h->lock, NULL);
    clock_cond_init(&h->changed);
}

static enum err init_slots(struct hsm *h)
{
    h->slots = h->cfg.workers + 1;
    h->slot = mem_zalloc(h->slots * sizeof *h->slot);
    if (!h->slot)
        return ERR_OOM;
    for (unsigned i = 0; i < h->slots; i++) {
        h->slot[i].h = h;
        h->slot[i].index = i;
        h->slot[i].slow = i + 1 == h->slots;
        pthread_mutex_init(&h->slot[i].lock, NULL);
        pool_queue_init(&h->slot[i].parked);
    }
    return ERR_OK;
}

/* A struct with nothing running. */
static enum err new_hsm(struct hsm **out, const struct hsm_config *cfg)
{
    struct hsm *h = mem_zalloc(sizeof *h);
    enum err e;

    *out = NULL;
    if (!h)
        return ERR_OOM;
    h->wake_fd = -1;
    atomic_store(&h->state, HSM_STATE_SEALED);
    init_lock(h);
    buf_init_secret(&h->pin, POOL_PIN_MAX);
    buf_init_secret(&h->new_pin, POOL_PIN_MAX);
    buf_init(&h->info, HSM_FRAME_MAX);
    e = copy_config(&h->cfg, cfg);
    if (e == ERR_OK)
        e = init_slots(h);
    if (e == ERR_OK)
        e = (h->env = pool_env_new(cfg->softhsm_conf)) ? ERR_OK : ERR_OOM;
    if (e == ERR_OK)
        e = pool_events_init(h);
    if (e != ERR_OK) {
        free_all(h);
        return e;
    }
    health_init(&h->health, h->slots, clock_mono_us() ^ (uint64_t)getpid() << 32);
    *out = h;
    return ERR_OK;
}

static enum err check_config(const struct hsm_config *cfg, char *why)
{
    if (cfg->workers == 0 || cfg->workers >= HEALTH_SLOTS_MAX || cfg->timeout_ms == 0) {
        snprintf(why, POOL_WHY_MAX, "hsm-workers must be 1 to %d, hsm-timeout at least 1", HEALTH_SLOTS_MAX - 1);
        return ERR_RANGE;
    }
    if (access(cfg->worker_path, X_OK) != 0) {
        snprintf(why, POOL_WHY_MAX, "the HSM worker program %.200s is missing: %s", cfg->worker_path, strerror(errno));
        return ERR_NOTFOUND;
    }
    if (strchr(cfg->module, '/') && access(cfg->module, R_OK) != 0) { /* else dlopen searches */
        snprintf(why, POOL_WHY_MAX, "the PKCS#11 module %.200s is missing: %s; set hsm-module", cfg->module,
                 strerror(errno));
        return ERR_NOTFOUND;
    }
    return ERR_OK;
}

static enum err read_pin(const char *path, struct buf *pin, char *why)
{
    enum err e = pool_read_pin(path, pin);
    const char *text = e == ERR_NOPERM  ? "may be read by others: chmod 0400"
                       : e == ERR_RANGE ? "is empty or too long"
                       : e == ERR_OOM   ? "was not read: out of memory"
                                        : NULL;

    if (e != ERR_OK && text)
        snprintf(why, POOL_WHY_MAX, "the PIN file %.200s %s", path, text);
    else if (e != ERR_OK)
        snprintf(why, POOL_WHY_MAX, "the PIN file %.200s cannot be read: %s; set hsm-pin-file", path,
                 strerror(file_errno()));
    return e;
}

static enum err start_thread(struct hsm *h)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    rc = pthread_create(&h->thread, NULL, pool_thread, h);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc == 0 ? ERR_OK : ERR_OOM;
}

/* Until the first worker is ready or has failed. */
static enum err wait_open(struct hsm *h, char *why)
{
    struct timespec until;
    enum err e;
    int rc = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += OPEN_SECONDS;
    pthread_mutex_lock(&h->lock);
    while (rc == 0 && hsm_state_now(h) == HSM_STATE_STARTING && h->open_error == ERR_OK)
        rc = pthread_cond_timedwait(&h->changed, &h->lock, &until);
    e = h->open_error;
    memcpy(why, h->why, POOL_WHY_MAX);
    if (e == ERR_OK && hsm_state_now(h) != HSM_STATE_UP) {
        e = ERR_HSMDOWN;
        snprintf(why, POOL_WHY_MAX, "no HSM worker was ready within %d s (module %.80s, token %.64s)", OPEN_SECONDS,
                 h->cfg.module, h->cfg.token);
    }
    pthread_mutex_unlock(&h->lock);
    return e;
}

enum err hsm_open(struct hsm **out, const struct hsm_config *cfg, const char **why)
{
    static _Thread_local char text[POOL_WHY_MAX];
    struct hsm *h = NULL;
    enum err e;

    *out = NULL;
    *why = text;
    text[0] = 0;
    e = check_config(cfg, text);
    if (e != ERR_OK)
        return e;
    e = new_hsm(&h, cfg);
    if (e == ERR_OK && cfg->pin_file)
        e = read_pin(cfg->pin_file, &h->pin, text);
    if (e == ERR_OK && cfg->pin_file) {
        h->opening = 1;
        atomic_store(&h->state, HSM_STATE_STARTING);
        health_step(&h->health, HEALTH_UNSEAL, 0, clock_mono_us());
    }
    if (e == ERR_OK)
        e = start_thread(h);
    if (e != ERR_OK) {
        if (!text[0])
            snprintf(text, sizeof text, "%s", err_text(e));
        if (h)
            free_all(h);
        return e;
    }
    pool_wake(h);
    e = cfg->pin_file ? wait_open(h, text) : ERR_OK;
    if (e == ERR_OK)
        *out = h;
    else
        hsm_close(h);
    return e;
}

void hsm_close(struct hsm *h)
{
    if (!h)
        return;
    pthread_mutex_lock(&h->lock);
    h->closing = 1;
    atomic_store_explicit(&h->state, HSM_STATE_SEALED, memory_order_release);
    pthread_mutex_unlock(&h->lock);
    pool_wake(h);
    pthread_join(h->thread, NULL);
    free_all(h);
}
