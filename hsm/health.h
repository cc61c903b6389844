/* health.h - when may a worker be started, and what is the HSM's state: the pool's judgement, without clock, process or
 * lock.
 *
 * A pool has `slots` places for workers; the last one (key generation that takes seconds) is lazy: it is filled on
 * demand and does not count for the state. Events go in through health_step(), permission to start a worker comes out
 * of health_start().
 *
 *                         READY of any general slot
 *             STARTING ------------------------------> UP <-----------+
 *                |  FAILED                              | the last     | READY: the half-open
 *                +------------> DOWN <------------------+ one LOST     | attempt succeeded
 *                                 +------------------------------------+
 *             SEAL from anywhere -> SEALED, UNSEAL from anywhere -> STARTING
 *             STOP with no general worker up -> FAILED, left by UNSEAL or SEAL only
 *
 * Rules:
 *   - At most one start is under way in the whole pool. A start is a log-in, and a wrong PIN that is tried by eight
 *     workers at once locks a real HSM. So a wrong PIN costs exactly one try.
 *   - Breaker open (no general worker up): starts wait for HEALTH_BACKOFF_MIN_US, doubled per failure up to
 *     HEALTH_BACKOFF_MAX_US, each +-20 %; one attempt at a time is the half-open probe. The first success lets the
 *     other slots start at once.
 *   - Breaker closed: a slot that loses its worker waits by its own count, forgotten once a worker of it lasted
 *     HEALTH_STABLE_US, so that a request which kills workers does not make a loop of starts.
 *   - STOP (PIN refused, configuration broken): nothing is started any more. Workers that are logged in go on: a PIN
 *     that was changed in the HSM must not end a service that is up. Once the last is gone the state is FAILED.
 *
 * One thread at a time; time is given by the caller, microseconds of any monotonic clock.
 */
#ifndef COFFER_HSM_HEALTH_H
#define COFFER_HSM_HEALTH_H

#include <stdint.h>

#include "hsm/hsm.h"

#define HEALTH_SLOTS_MAX 65
#define HEALTH_BACKOFF_MIN_US UINT64_C(100000)
#define HEALTH_BACKOFF_MAX_US UINT64_C(30000000)
#define HEALTH_STABLE_US UINT64_C(10000000)
#define HEALTH_NEVER UINT64_MAX

enum health_event {
    HEALTH_SEAL,   /* all slots: workers are being ended, none may start */
    HEALTH_UNSEAL, /* all slots: there is a new PIN; forgets every failure and every worker */
    HEALTH_STOP,   /* all slots: start nothing until HEALTH_UNSEAL */
    HEALTH_WANT, /* slot: a lazy one is needed, or the worker there wants a successor; ignored when one is on its way */
    HEALTH_READY,  /* slot: the start succeeded; its worker, or the successor, takes requests */
    HEALTH_FAILED, /* slot: the start failed; a worker that was to be succeeded is still there */
    HEALTH_LOST,   /* slot: the worker that took requests is gone */
    HEALTH_EVENTS
};

enum health_start { HEALTH_IDLE, HEALTH_WAITING, HEALTH_STARTING };

struct health_slot {
    int up, lazy;
    enum health_start start;
    uint64_t due_us; /* no start before */
    uint64_t up_since_us;
    unsigned failures; /* of this slot alone, while others were up */
};

struct health {
    struct health_slot slot[HEALTH_SLOTS_MAX];
    unsigned slots;
    int sealed, stopped, troubled;
    unsigned outage;  /* starts that failed since a general worker was up */
    uint64_t hold_us; /* breaker open: no start before */
    uint64_t random;  /* state of the jitter */
};

/* Sealed, nothing up. slots 2 to HEALTH_SLOTS_MAX, the lazy one included; seed: any number, for the jitter. */
void health_init(struct health *h, unsigned slots, uint64_t seed);

/* The one transition function. slot is ignored by events for all slots. */
void health_step(struct health *h, enum health_event ev, unsigned slot, uint64_t now_us);

/* 1: start a worker for *slot now; the slot counts as starting until READY, FAILED, SEAL or UNSEAL. 0: nothing to start
 * at this time. */
int health_start(struct health *h, uint64_t now_us, unsigned *slot);

/* When health_start() is worth calling again if no event comes before; HEALTH_NEVER. */
uint64_t health_due_us(const struct health *h);

enum hsm_state health_state(const struct health *h);

#endif
