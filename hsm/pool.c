/* pool.c - struct hsm: its thread, what others may ask of it, its state; pool_impl.h is the map.
 *
 * Happy path: hsm_open (pool_open.c) has made the thread and waits. The thread asks health.c which worker to start,
 * when one is ready makes it the slot's cur, and from then on turns around answers. Requests do not pass through here:
 * pool_route.c.
 *
 * Orders: hsm_seal, hsm_unseal and hsm_close leave an order under h->lock and ring the eventfd. The state that others
 * see changes with the order, not when the thread comes to it, so that no request is accepted after hsm_seal has
 * returned. A newer order replaces an older one: an unseal ends what was there before anyway.
 *
 * Failures: of a start are judged in one place, pool_start_failed. While hsm_open waits the first one is final and
 * becomes its answer: the operator sits before the terminal. Later, only a refused PIN and what cannot heal by itself
 * stop the pool; a module or token that has gone missing may come back.
 *
 * A worker that answers START with another realm than the first one did is refused: a token exchanged under a running
 * server would take the realm's records for malformed.
 *
 * Rejected: libevent's own locking (the base has one thread; others ring an eventfd); a thread per worker.
 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "hsm/pool_impl.h"

#define TICK_MIN_MS 10
#define TICK_MAX_MS 200
#define GIVE_UP_US UINT64_C(10000000) /* hsm_close leaves behind what SIGKILL has not ended in this time */

/* ---- small things ---- */

const char *hsm_state_name(enum hsm_state s)
{
    static const char *const names[] = {
        [HSM_STATE_STARTING] = "starting", [HSM_STATE_UP] = "up",         [HSM_STATE_DOWN] = "down",
        [HSM_STATE_SEALED] = "sealed",     [HSM_STATE_FAILED] = "failed",
    };
    return names[s];
}

enum hsm_state hsm_state_now(struct hsm *h)
{
    return (enum hsm_state)atomic_load_explicit(&h->state, memory_order_acquire);
}

void pool_log(struct hsm *h, int level, const char *fmt, ...)
{
    char line[2 * POOL_WHY_MAX];
    va_list ap;

    if (!h->cfg.log)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    h->cfg.log(level, line);
}

void pool_wake(struct hsm *h)
{
    uint64_t one = 1;
    ssize_t n;

    do
        n = write(h->wake_fd, &one, sizeof one);
    while (n < 0 && errno == EINTR);
    assert(n == sizeof one);
}

/* ---- state ---- */

/* Nothing may park in the slow slot before until_us. */
static void close_parking(struct hsm *h, uint64_t until_us)
{
    struct pool_slot *s = pool_slow_slot(h);

    pthread_mutex_lock(&s->lock);
    s->closed_until_us = until_us;
    pthread_mutex_unlock(&s->lock);
}

static void arm_due(struct hsm *h)
{
    uint64_t due = health_due_us(&h->health), now = clock_mono_us(), us = due > now ? due - now : 0;
    struct timeval tv = {(time_t)(us / 1000000), (suseconds_t)(us % 1000000)};

    if (due == HEALTH_NEVER || h->ending)
        (void)event_del(&h->due_ev);
    else
        (void)event_add(&h->due_ev, &tv); /* on failure the tick looks */
}

static void end_loop_when_done(struct hsm *h)
{
    if (h->ending && !h->workers)
        event_base_loopbreak(h->base);
}

void pool_publish(struct hsm *h)
{
    enum hsm_state state = health_state(&h->health), before;
    int final = state == HSM_STATE_SEALED || state == HSM_STATE_FAILED;

    pthread_mutex_lock(&h->lock);
    before = hsm_state_now(h);
    if (h->order == ORDER_NONE && !h->closing)
        atomic_store_explicit(&h->state, state, memory_order_release);
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
    if (before != state && !h->ending)
        pool_log(h, state == HSM_STATE_DOWN || state == HSM_STATE_FAILED ? LOG_WARNING : LOG_NOTICE, "HSM is %s",
                 hsm_state_name(state));
    if (final) {
        close_parking(h, UINT64_MAX);
        for (unsigned i = 0; i < h->slots; i++)
            pool_fail_parked(h, &h->slot[i], state == HSM_STATE_SEALED && !h->ending ? ERR_SEALED : ERR_HSMDOWN,
                             "the HSM was stopped");
    }
    arm_due(h);
    end_loop_when_done(h);
}

void pool_health(struct hsm *h, enum health_event ev, unsigned slot)
{
    health_step(&h->health, ev, slot, clock_mono_us());
    pool_publish(h);
}

/* ---- outcomes of starts ---- */

static void tell_opener(struct hsm *h, enum err e, const char *why)
{
    h->opening = 0;
    pthread_mutex_lock(&h->lock);
    h->open_error = e;
    snprintf(h->why, sizeof h->why, "%s", why);
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

/* What to do about it. */
static const char *advice(enum err e)
{
    static const struct {
        enum err e;
        const char *text;
    } rows[] = {
        {ERR_WRONGPASS, "check the PIN (hsm-pin-file); it is not tried again, HSMs lock after a few wrong ones"},
        {ERR_NOTFOUND,
         "check hsm-module, hsm-token and SOFTHSM2_CONF; coffer-hsm provision or init-realm makes a token ready"},
        {ERR_SYNTAX, "check hsm-token and the module's init string"},
        {ERR_UNSUPPORTED, "this module lacks what Coffer needs"},
        {ERR_HSMDOWN, "is the device there?"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].e == e)
            return rows[i].text;
    return err_text(e);
}

static int is_final(const struct hsm *h, enum err e)
{
    /* What worked before, a sick device may be without for a moment: a token, a mechanism that its self-test asks for.
     */
    return h->opening || e == ERR_WRONGPASS || e == ERR_SYNTAX ||
           ((e == ERR_NOTFOUND || e == ERR_UNSUPPORTED) && !h->was_up);
}

void pool_start_failed(struct hsm *h, struct pool_slot *slot, enum err e, const char *text)
{
    int final = is_final(h, e);
    char why[POOL_WHY_MAX];

    if (health_state(&h->health) == HSM_STATE_SEALED)
        return;
    snprintf(why, sizeof why, "%s: %s (module %.80s, token %.64s)", text, advice(e), h->cfg.module, h->cfg.token);
    pool_log(h, LOG_WARNING, "HSM worker did not start: %s%s", why, final ? "; no other start is tried" : "");
    health_step(&h->health, HEALTH_FAILED, slot->index, clock_mono_us());
    if (final)
        health_step(&h->health, HEALTH_STOP, slot->index, clock_mono_us());
    if (h->opening)
        tell_opener(h, e, why);
    if (slot->slow)
        close_parking(h, h->health.slot[slot->index].due_us);
    if (slot->slow || health_state(&h->health) != HSM_STATE_UP)
        pool_fail_parked(h, slot->slow ? slot : &h->slot[0], ERR_HSMDOWN, "no HSM worker could be started");
    pool_publish(h);
}

/* The value of a line "realm:" with 32 hex digits; zeroes when there is none. */
static void parse_realm(struct bytes info, uint8_t out[16])
{
    static const char key[] = "realm:";
    const size_t n = sizeof key - 1;

    memset(out, 0, 16);
    for (size_t i = 0; i + n + 32 <= info.n; i++) {
        if ((i > 0 && info.p[i - 1] != '\n') || !bytes_equal(bytes_of(info.p + i, n), bytes_of(key, n)))
            continue;
        for (size_t k = 0; k < 32; k++) {
            const char *digits = "0123456789abcdef", *d = strchr(digits, info.p[i + n + k] | 0x20);
            if (!d)
                break;
            out[k / 2] = (uint8_t)(out[k / 2] << 4 | (d - digits));
        }
        return;
    }
}

/* 0: another realm than before. */
static int take_info(struct hsm *h, struct bytes info)
{
    uint8_t realm[16];
    int same;

    parse_realm(info, realm);
    pthread_mutex_lock(&h->lock);
    same = !h->have_realm || bytes_equal(bytes_of(realm, sizeof realm), bytes_of(h->realm, sizeof realm));
    if (same) {
        memcpy(h->realm, realm, sizeof realm);
        buf_clear(&h->info);
        if (buf_put(&h->info, info.p, info.n) != ERR_OK)
            buf_clear(&h->info);
    }
    pthread_mutex_unlock(&h->lock);
    h->have_realm = 1;
    return same;
}

void pool_worker_ready(struct pool_worker *w, struct bytes info)
{
    static const char other_realm[] = "the token now holds another realm";
    struct hsm *h = w->h;
    struct pool_slot *slot = w->slot;
    struct pool_worker *old;

    if (!take_info(h, info)) {
        pool_worker_end(w, END_DONE, other_realm);
        pool_start_failed(h, slot, ERR_HSMDOWN, other_realm);
        return;
    }
    w->phase = WORKER_UP;
    pthread_mutex_lock(&slot->lock);
    old = slot->cur;
    pool_slot_set(slot, w);
    slot->closed_until_us = 0;
    pthread_mutex_unlock(&slot->lock);
    pool_log(h, LOG_VERBOSE, "HSM worker %ld is up in slot %u%s", (long)w->pid, slot->index,
             old ? ", succeeding another" : "");
    h->was_up = 1;
    h->opening = 0;
    if (old) {
        atomic_fetch_add_explicit(&h->recycled, 1, memory_order_relaxed);
        pool_worker_drain(old);
    }
    pool_health(h, HEALTH_READY, slot->index);
    pool_unpark(h, slot->slow ? slot : &h->slot[0]);
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
    struct hsm *h = arg;
    unsigned slot;

    (void)fd;
    (void)what;
    while (!h->ending && h->lost == 0 && health_start(&h->health, clock_mono_us(), &slot)) {
        char why[POOL_WHY_MAX];
        enum err e = pool_worker_start(h, &h->slot[slot], why);
        if (e != ERR_OK)
            pool_start_failed(h, &h->slot[slot], e, why);
    }
    if (h->lost == 0) /* else the reaping publishes */
        arm_due(h);
}

/* ---- orders ---- */

static void end_all(struct hsm *h, const char *text)
{
    struct pool_worker *w, *next;

    for (w = h->workers; w; w = next) {
        next = w->next;
        pool_worker_end(w, END_STOP, text);
    }
}

static void do_seal(struct hsm *h)
{
    buf_fini(&h->pin);
    health_step(&h->health, HEALTH_SEAL, 0, clock_mono_us());
    end_all(h, "the HSM was sealed");
    pool_publish(h);
}

/* Workers that are up finish what they have; their successors log in with the new PIN. */
static void do_unseal(struct hsm *h, struct buf *pin)
{
    struct pool_worker *w, *next;

    buf_fini(&h->pin);
    h->pin = *pin;
    buf_init_secret(pin, POOL_PIN_MAX);
    for (w = h->workers; w; w = next) {
        struct pool_slot *s = w->slot;
        next = w->next;
        if (w->phase == WORKER_STARTING || w->phase == WORKER_ENDING) {
            pool_worker_end(w, END_STOP, "unsealed anew");
        } else if (w->phase == WORKER_UP) {
            pthread_mutex_lock(&s->lock);
            pool_slot_set(s, NULL);
            pthread_mutex_unlock(&s->lock);
            pool_worker_drain(w);
        }
    }
    close_parking(h, 0);
    pool_health(h, HEALTH_UNSEAL, 0);
}

static void do_close(struct hsm *h)
{
    if (h->ending)
        return;
    h->ending = 1;
    h->give_up_us = clock_mono_us() + GIVE_UP_US;
    do_seal(h);
}

static void take_orders(struct hsm *h)
{
    struct buf pin;
    enum pool_order order;
    int closing;

    buf_init_secret(&pin, POOL_PIN_MAX);
    pthread_mutex_lock(&h->lock);
    order = h->order;
    closing = h->closing;
    h->order = ORDER_NONE;
    if (order == ORDER_UNSEAL) {
        pin = h->new_pin;
        buf_init_secret(&h->new_pin, POOL_PIN_MAX);
    }
    pthread_mutex_unlock(&h->lock);
    if (order == ORDER_SEAL)
        do_seal(h);
    if (order == ORDER_UNSEAL && !closing)
        do_unseal(h, &pin);
    if (closing)
        do_close(h);
    buf_fini(&pin);
}

/* The slow slot gets its worker when something waits there. */
static void want_slow(struct hsm *h)
{
    struct pool_slot *s = pool_slow_slot(h);
    int want;

    pthread_mutex_lock(&s->lock);
    want = !s->cur && s->parked.count > 0;
    pthread_mutex_unlock(&s->lock);
    if (want)
        pool_health(h, HEALTH_WANT, s->index);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct hsm *h = arg;
    uint64_t count;

    (void)what;
    if (read(fd, &count, sizeof count) != sizeof count)
        return;
    take_orders(h);
    want_slow(h);
    for (struct pool_worker *w = h->workers; w; w = w->next)
        pool_worker_arm_write(w);
    end_loop_when_done(h);
    arm_due(h);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct hsm *h = arg;
    struct pool_worker *w, *next;
    uint64_t now = clock_mono_us();
    int probe = now >= h->probe_due_us;

    (void)fd;
    (void)what;
    for (w = h->workers; w; w = next) {
        next = w->next;
        if (probe)
            pool_watch_second(w);
        pool_watch_tick(w, now);
    }
    if (probe)
        h->probe_due_us = now + POOL_PROBE_US;
    pool_expire_parked(h, &h->slot[0], now);
    pool_expire_parked(h, pool_slow_slot(h), now);
    want_slow(h);
    on_due(-1, 0, h);
    if (h->ending && now >= h->give_up_us)
        event_base_loopbreak(h->base);
}

enum err pool_events_init(struct hsm *h)
{
    unsigned ms = h->cfg.timeout_ms / 8;
    struct timeval tick;
    struct event_config *c = event_config_new();

    if (c && event_config_set_flag(c, EVENT_BASE_FLAG_NOLOCK) == 0)
        h->base = event_base_new_with_config(c);
    if (c)
        event_config_free(c);
    h->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!h->base || h->wake_fd < 0)
        return ERR_OOM;
    ms = ms < TICK_MIN_MS ? TICK_MIN_MS : ms > TICK_MAX_MS ? TICK_MAX_MS : ms;
    tick = (struct timeval){0, (suseconds_t)ms * 1000};
    event_assign(&h->wake_ev, h->base, h->wake_fd, EV_READ | EV_PERSIST, on_wake, h);
    event_assign(&h->tick_ev, h->base, -1, EV_PERSIST, on_tick, h);
    event_assign(&h->due_ev, h->base, -1, 0, on_due, h);
    return event_add(&h->wake_ev, NULL) == 0 && event_add(&h->tick_ev, &tick) == 0 ? ERR_OK : ERR_OOM;
}

void *pool_thread(void *arg)
{
    struct hsm *h = arg;

    (void)pthread_setname_np(pthread_self(), "hsm");
    (void)event_base_loop(h->base, EVLOOP_NO_EXIT_ON_EMPTY);
    return NULL;
}

/* ---- any thread ---- */

static void give_order(struct hsm *h, enum pool_order order, enum hsm_state shown, struct buf *pin)
{
    pthread_mutex_lock(&h->lock);
    h->order = order;
    atomic_store_explicit(&h->state, shown, memory_order_release);
    buf_fini(&h->new_pin);
    if (pin) {
        h->new_pin = *pin;
        buf_init_secret(pin, POOL_PIN_MAX);
    }
    pthread_mutex_unlock(&h->lock);
    pool_wake(h);
}

void hsm_seal(struct hsm *h)
{
    give_order(h, ORDER_SEAL, HSM_STATE_SEALED, NULL);
}

enum err hsm_unseal(struct hsm *h, struct bytes pin)
{
    struct buf copy;
    enum err e;

    if (pin.n == 0 || pin.n >= POOL_PIN_MAX)
        return ERR_RANGE;
    buf_init_secret(&copy, POOL_PIN_MAX);
    e = buf_put(&copy, pin.p, pin.n);
    if (e == ERR_OK)
        give_order(h, ORDER_UNSEAL, HSM_STATE_STARTING, &copy);
    buf_fini(&copy);
    return e;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void hsm_stats(struct hsm *h, struct hsm_stats *out)
{
    uint32_t us[POOL_LATENCIES], n = atomic_load(&h->latencies);

    memset(out, 0, sizeof *out);
    out->requests = atomic_load(&h->requests);
    out->errors = atomic_load(&h->errors);
    out->timeouts = atomic_load(&h->timeouts);
    out->restarts = atomic_load(&h->restarts);
    out->recycled = atomic_load(&h->recycled);
    out->in_flight = atomic_load(&h->in_flight);
    for (unsigned i = 0; i < h->slots; i++)
        out->workers_up += (unsigned)atomic_load(&h->slot[i].open);
    n = n < POOL_LATENCIES ? n : POOL_LATENCIES;
    for (uint32_t i = 0; i < n; i++)
        us[i] = atomic_load_explicit(&h->latency_us[i], memory_order_relaxed);
    if (n == 0)
        return;
    qsort(us, n, sizeof *us, by_value);
    out->latency_us_p50 = us[n / 2];
    out->latency_us_p99 = us[n - 1 - n / 100];
}

enum err hsm_info(struct hsm *h, struct buf *out)
{
    enum err e;

    pthread_mutex_lock(&h->lock);
    e = buf_put(out, h->info.mem, buf_size(&h->info)); /* nothing is consumed from its front */
    pthread_mutex_unlock(&h->lock);
    return e;
}

void hsm_realm(struct hsm *h, uint8_t out[16])
{
    pthread_mutex_lock(&h->lock);
    memcpy(out, h->realm, 16);
    pthread_mutex_unlock(&h->lock);
}
