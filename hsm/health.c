/* health.c - see health.h.
 *
 * Happy path: UNSEAL makes all general slots wait for a start that is due at once; health_start() hands out the first,
 * READY closes the breaker and makes the others due; the lazy slot waits for WANT.
 *
 * Failure: with the breaker open, all failures of starts count together (outage, hold_us), because then it is the
 * device that does not answer and N slots with a count of their own would knock N times as often. With the breaker
 * closed a failure is the slot's own. A lost worker always counts for its slot.
 *
 * The jitter keeps nodes that lost one network HSM together from returning together. It comes from a 64-bit xorshift in
 * the struct, so that a test's seed decides it.
 *
 * Rejected: a breaker per slot (see above); a separate half-open state (it is "no general slot up, one start under
 * way"; a state of its own could contradict that); wall clock (jumps).
 */
#include "hsm/health.h"

#include <assert.h>
#include <string.h>

static uint64_t next_random(struct health *h)
{
    h->random ^= h->random << 13;
    h->random ^= h->random >> 7;
    h->random ^= h->random << 17;
    return h->random;
}

/* After so many failures in a row, from 1. */
static uint64_t backoff_us(struct health *h, unsigned failures)
{
    uint64_t us = HEALTH_BACKOFF_MIN_US;

    while (failures-- > 1 && us < HEALTH_BACKOFF_MAX_US)
        us *= 2;
    us = us / 100 * (80 + next_random(h) % 41);
    return us < HEALTH_BACKOFF_MAX_US ? us : HEALTH_BACKOFF_MAX_US;
}

static int any_up(const struct health *h)
{
    for (unsigned i = 0; i < h->slots; i++)
        if (h->slot[i].up && !h->slot[i].lazy)
            return 1;
    return 0;
}

static void reset(struct health *h)
{
    for (unsigned i = 0; i < h->slots; i++)
        h->slot[i] = (struct health_slot){.lazy = i + 1 == h->slots};
    h->sealed = h->stopped = h->troubled = 0;
    h->outage = 0;
    h->hold_us = 0;
}

static void on_seal(struct health *h, struct health_slot *s, uint64_t now_us)
{
    (void)s;
    (void)now_us;
    reset(h);
    h->sealed = 1;
}

static void on_unseal(struct health *h, struct health_slot *s, uint64_t now_us)
{
    (void)s;
    reset(h);
    for (unsigned i = 0; i < h->slots; i++) {
        if (!h->slot[i].lazy)
            h->slot[i].start = HEALTH_WAITING;
        h->slot[i].due_us = now_us;
    }
}

static void on_stop(struct health *h, struct health_slot *s, uint64_t now_us)
{
    (void)s;
    (void)now_us;
    h->stopped = 1;
}

static void on_want(struct health *h, struct health_slot *s, uint64_t now_us)
{
    (void)h;
    if (s->start != HEALTH_IDLE)
        return;
    s->start = HEALTH_WAITING;
    if (s->due_us < now_us)
        s->due_us = now_us;
}

static void on_ready(struct health *h, struct health_slot *s, uint64_t now_us)
{
    int closes = !s->lazy && !any_up(h);

    s->up = 1;
    s->up_since_us = now_us;
    s->start = HEALTH_IDLE;
    if (!closes)
        return;
    h->outage = 0;
    h->hold_us = 0;
    h->troubled = 0;
    for (unsigned i = 0; i < h->slots; i++)
        if (h->slot[i].start == HEALTH_WAITING)
            h->slot[i].due_us = now_us;
}

static void on_failed(struct health *h, struct health_slot *s, uint64_t now_us)
{
    s->start = s->lazy && !s->up ? HEALTH_IDLE : HEALTH_WAITING;
    if (any_up(h)) {
        s->due_us = now_us + backoff_us(h, ++s->failures);
        return;
    }
    h->troubled = 1;
    h->hold_us = now_us + backoff_us(h, ++h->outage);
    s->due_us = h->hold_us;
}

static void on_lost(struct health *h, struct health_slot *s, uint64_t now_us)
{
    if (now_us - s->up_since_us >= HEALTH_STABLE_US)
        s->failures = 0;
    s->up = 0;
    s->due_us = now_us + backoff_us(h, ++s->failures);
    if (s->start != HEALTH_STARTING)
        s->start = s->lazy ? HEALTH_IDLE : HEALTH_WAITING;
    if (!any_up(h))
        h->troubled = 1;
}

void health_init(struct health *h, unsigned slots, uint64_t seed)
{
    assert(slots >= 2 && slots <= HEALTH_SLOTS_MAX);
    memset(h, 0, sizeof *h);
    h->slots = slots;
    h->random = seed | 1;
    on_seal(h, NULL, 0);
}

void health_step(struct health *h, enum health_event ev, unsigned slot, uint64_t now_us)
{
    static void (*const on[HEALTH_EVENTS])(struct health *, struct health_slot *, uint64_t) = {
        [HEALTH_SEAL] = on_seal,   [HEALTH_UNSEAL] = on_unseal, [HEALTH_STOP] = on_stop, [HEALTH_WANT] = on_want,
        [HEALTH_READY] = on_ready, [HEALTH_FAILED] = on_failed, [HEALTH_LOST] = on_lost,
    };

    if (ev > HEALTH_STOP) {
        assert(slot < h->slots);
        if (h->sealed) /* the last words of workers that were ended */
            return;
    }
    on[ev](h, ev > HEALTH_STOP ? &h->slot[slot] : NULL, now_us);
}

/* The slot whose start comes next and the time it is due; HEALTH_NEVER when there is none. Of two that are due at
 * the same time, a slot without a worker goes before one that wants a successor. */
static uint64_t next_start(const struct health *h, unsigned *slot)
{
    int open = !any_up(h);
    const struct health_slot *best = NULL;

    *slot = 0;
    if (h->sealed || h->stopped)
        return HEALTH_NEVER;
    for (unsigned i = 0; i < h->slots; i++) {
        const struct health_slot *s = &h->slot[i];
        if (s->start == HEALTH_STARTING)
            return HEALTH_NEVER;
        if (s->start != HEALTH_WAITING || (open && s->lazy))
            continue;
        if (!best || s->due_us < best->due_us || (s->due_us == best->due_us && s->up < best->up)) {
            best = s;
            *slot = i;
        }
    }
    if (!best)
        return HEALTH_NEVER;
    return best->due_us > h->hold_us ? best->due_us : h->hold_us;
}

int health_start(struct health *h, uint64_t now_us, unsigned *slot)
{
    if (next_start(h, slot) > now_us)
        return 0;
    h->slot[*slot].start = HEALTH_STARTING;
    return 1;
}

uint64_t health_due_us(const struct health *h)
{
    unsigned slot;
    return next_start(h, &slot);
}

enum hsm_state health_state(const struct health *h)
{
    if (h->sealed)
        return HSM_STATE_SEALED;
    if (any_up(h))
        return HSM_STATE_UP;
    if (h->stopped)
        return HSM_STATE_FAILED;
    return h->troubled ? HSM_STATE_DOWN : HSM_STATE_STARTING;
}
