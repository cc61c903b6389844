/* pool_impl.h - the inside of struct hsm, for pool.c and pool_*.c only.
 *
 *     pool_open.c   hsm_open, hsm_close
 *     pool.c        the hsm thread, orders from other threads, state, numbers
 *     pool_route.c  which worker gets a request, parking, repeating, completing
 *     pool_worker.c one worker: start, read, write, end
 *     pool_watch.c  one worker: deadline, probe, recycling
 *     pool_spawn.c  the process: fork and exec, environment, PIN file
 *     pool_queue.c  requests on their way to one worker
 *     health.c      when to start workers, the state
 *
 * A slot is a place for a worker. Its lock guards which worker takes requests there (cur), and the queues and sockets
 * of all workers of the slot: the one that takes requests, its warm successor that is starting, its predecessor that
 * drains. Workers themselves belong to the hsm thread, which alone makes, changes and frees them; others reach one only
 * through slot->cur under the lock.
 *
 * Locks: hsm.lock (orders, state, info) and each slot's are never held together, and none is held while done() or log()
 * is called.
 */
#ifndef COFFER_HSM_POOL_IMPL_H
#define COFFER_HSM_POOL_IMPL_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "base/log.h"
#include "hsm/health.h"
#include "hsm/hsm.h"
#include "hsm/pool_queue.h"

#define POOL_LATENCIES 1024u
#define POOL_PIN_MAX 256
#define POOL_WHY_MAX 320
#define POOL_TEXT_MAX 160
#define POOL_START_FACTOR 10 /* times timeout_ms: module, log-in, self-test */
#define POOL_SLOW_FACTOR 30
#define POOL_PROBE_US UINT64_C(1000000)

struct pool_slot {
    struct hsm *h;
    unsigned index;
    int slow; /* the last slot: HSM_KEY_NEW_SLOW, started on demand */

    pthread_mutex_t lock;     /* all below but the atomics, and the workers' q, fd, want_write */
    struct pool_worker *cur;  /* takes requests; NULL: none */
    struct pool_queue parked; /* waits for a worker: slot 0 for all general ones */
    uint64_t closed_until_us; /* slow slot: its last start failed, parks nothing before */
    _Atomic unsigned load;    /* requests without an answer at cur */
    _Atomic int open;         /* cur is set */
    _Atomic int dirty;        /* something was submitted since the last flush */
};

enum worker_phase { WORKER_STARTING, WORKER_UP, WORKER_DRAINING, WORKER_ENDING };

/* How a worker comes to its end. */
enum worker_end {
    END_DONE, /* drained, or its START was answered with an error: the closed socket tells it */
    END_LOST, /* it closed the socket, or failed its probe: its exit code says why */
    END_KILL, /* late or talking nonsense: SIGKILL */
    END_STOP  /* sealed or closing: its requests fail, nothing is repeated */
};

struct pool_worker {
    struct pool_worker *next;
    struct hsm *h;
    struct pool_slot *slot;
    enum worker_phase phase;
    enum worker_end end;
    int owes_start; /* ENDING: the outcome of its start is to be reported when it is reaped */
    int was_cur;    /* ENDING: it took requests until then */
    int killed;
    char text[POOL_TEXT_MAX]; /* why it ended */

    pid_t pid;
    int fd, pidfd; /* -1: closed; no pidfd on an old kernel */
    struct event read_ev, write_ev, exit_ev;
    int read_off; /* stopped reading for lack of memory */
    struct pool_queue q;
    int want_write; /* the socket was full */
    struct buf in;

    uint64_t last_answer_us, kill_at_us;
    uint64_t objects;  /* made in the module, as far as known */
    uint64_t rss_base; /* bytes, when it was ready */
    int own_requests;  /* PROBE and INFO under way */
    int retiring;      /* a successor was asked for */
};

enum pool_order { ORDER_NONE, ORDER_SEAL, ORDER_UNSEAL };

struct hsm {
    struct hsm_config cfg; /* its strings are ours */
    char **env;            /* of the workers */
    unsigned slots;        /* cfg.workers and the slow one */
    struct pool_slot *slot;
    int wake_fd;
    pthread_t thread;

    /* Any thread. */
    _Atomic int state; /* enum hsm_state; written under lock */
    _Atomic uint64_t requests, errors, timeouts, restarts, recycled;
    _Atomic unsigned in_flight;
    _Atomic uint32_t latency_us[POOL_LATENCIES], latencies;

    pthread_mutex_t lock; /* the next block */
    pthread_cond_t changed;
    enum pool_order order; /* the last one given and not yet seen by the hsm thread */
    int closing;
    struct buf new_pin; /* secret; of ORDER_UNSEAL */
    enum err open_error;
    char why[POOL_WHY_MAX];
    struct buf info;
    uint8_t realm[16];

    /* The hsm thread only. */
    struct event_base *base;
    struct event wake_ev, tick_ev, due_ev;
    struct health health;
    struct pool_worker *workers;
    struct buf pin; /* secret */
    int opening;    /* hsm_open waits: the first failure is final */
    int was_up, have_realm, ending;
    unsigned lost; /* workers lost and not reaped: nothing is started before their exit code is known */
    uint64_t probe_due_us, give_up_us;
};

/* ---- pool_spawn.c ---- */

/* The environment of a worker, NULL-terminated: PATH, SOFTHSM2_CONF, tests' and vendors' variables. NULL: out of
 * memory. */
char **pool_env_new(const char *softhsm_conf);
void pool_env_free(char **env);

/* Starts `worker_path worker 3`, 3 being the other end of *fd; *pidfd is -1 where the kernel has none. ERR_IO: errno is
 * in *error. */
must_use enum err pool_spawn(const char *worker_path, char **env, pid_t *pid, int *fd, int *pidfd, int *error);

/* Resident bytes of a process, 0 when unknown. */
uint64_t pool_rss_bytes(pid_t pid);

/* Reads a PIN file into out (secret, initialised), without the line's end. ERR_NOPERM: others could read it too;
 * ERR_NOTFOUND; ERR_RANGE: empty or too long; ERR_IO; ERR_OOM. */
must_use enum err pool_read_pin(const char *path, struct buf *out);

/* ---- pool_worker.c ---- */

/* Starts a worker for the slot; the outcome comes through pool_worker_ready/pool_start_failed, or at once as an error
 * and a text. */
must_use enum err pool_worker_start(struct hsm *h, struct pool_slot *slot, char why[POOL_WHY_MAX]);

/* Writes what waits in w's queue; slot lock held. 1: the socket is full, the hsm thread must wait for room. */
must_use int pool_worker_write(struct pool_worker *w);

/* The rest on the hsm thread. pool_worker_ask sends a request of the pool itself. */
must_use enum err pool_worker_ask(struct pool_worker *w, enum hsm_op op, const struct bytes *part, unsigned parts);
void pool_worker_arm_write(struct pool_worker *w); /* waits for room, if there is something left to write */
void pool_worker_write_now(struct pool_worker *w); /* what somebody submitted and never flushed */
void pool_worker_read_now(struct pool_worker *w);
int pool_worker_reap(struct pool_worker *w);   /* 1: the process is gone and w is freed */
void pool_worker_drain(struct pool_worker *w); /* takes no requests any more, is ended when it has answered the last */
void pool_worker_end(struct pool_worker *w, enum worker_end end, const char *text);

/* ---- pool_watch.c ---- */

void pool_watch_tick(struct pool_worker *w, uint64_t now_us);   /* deadlines; may free w */
void pool_watch_second(struct pool_worker *w);                  /* is it there, is it to be succeeded */
void pool_watch_info(struct pool_worker *w, struct bytes text); /* its answer to INFO */
uint64_t pool_deadline_us(const struct hsm *h, enum hsm_op op);

/* ---- pool_route.c ---- */

/* Fills r by the answer f (NULL: none, then result and text) and calls done(). */
void pool_complete(struct hsm *h, const struct pool_entry *e, enum err result, const char *text,
                   const struct hsm_frame *f);

/* Sees to the requests of a worker that is gone: repeats those that may be, fails the others. Empties and frees q. */
void pool_requeue(struct hsm *h, struct pool_queue *q, const char *text);
/* Fails all of q; empties and frees it. */
void pool_fail_all(struct hsm *h, struct pool_queue *q, enum err result, const char *text);
/* Hands what is parked in slot to workers, now that there is one; or fails it; or fails what has waited for too long.
 */
void pool_unpark(struct hsm *h, struct pool_slot *slot);
void pool_fail_parked(struct hsm *h, struct pool_slot *slot, enum err result, const char *text);
void pool_expire_parked(struct hsm *h, struct pool_slot *slot, uint64_t now_us);

/* ---- pool.c ---- */

void pool_wake(struct hsm *h); /* any thread */
void pool_log(struct hsm *h, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void pool_health(struct hsm *h, enum health_event ev, unsigned slot); /* steps, then pool_publish */
void pool_publish(struct hsm *h); /* the state for others, the timer for the next start */
void pool_worker_ready(struct pool_worker *w, struct bytes info);
void pool_start_failed(struct hsm *h, struct pool_slot *slot, enum err e, const char *text);
must_use enum err pool_events_init(struct hsm *h);
void *pool_thread(void *h);

/* w, or nobody when NULL, takes the slot's requests from now on. Lock held. */
static inline void pool_slot_set(struct pool_slot *s, struct pool_worker *w)
{
    s->cur = w;
    atomic_store_explicit(&s->load, w ? w->q.count : 0, memory_order_relaxed);
    atomic_store_explicit(&s->open, w != NULL, memory_order_relaxed);
}

static inline struct pool_slot *pool_slow_slot(struct hsm *h)
{
    return &h->slot[h->slots - 1];
}

#endif
