/* leave.c - see leave.h. The main thread decides; a client's thread posts, and takes the state from LEAVING to ABORTED,
 * which the next tick sees: so an abort that was answered OK is one. */
#include "server/leave.h"

#include <event2/event.h>
#include <pthread.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "server/conn.h"
#include "server/io.h"
#include "server/repl.h"
#include "server/server.h"

#define CAUGHT_UP_TICKS 2 /* in a row: a write that was let in just before has come to the log */

struct asker { /* SHUTDOWN */
    struct pending p;
    struct io_task task;
    struct leave *l;
    int now, aborted;
    struct asker *next;
};

struct leave {
    struct server *srv;
    void (*end)(void);
    struct event *tick;
    unsigned ticks;          /* in which all had everything */
    _Atomic uint64_t end_ms; /* clock_mono */

    pthread_mutex_t lock;
    struct asker *askers;
    int over; /* nobody is kept any more */
};

/* ---- who waits for the answer ---- */

static void let_go(struct leave *l, int aborted)
{
    pthread_mutex_lock(&l->lock);
    struct asker *a = l->askers;
    l->askers = NULL;
    l->over |= !aborted;
    pthread_mutex_unlock(&l->lock);
    while (a) {
        struct asker *next = a->next;
        a->aborted = aborted;
        pending_complete(&a->p);
        a = next;
    }
}

static void stay(struct leave *l)
{
    log_at(LOG_WARNING, "Shutdown manually aborted.");
    event_del(l->tick);
    atomic_store(&l->srv->leaving, STAYS);
    waitlist_wake(l->srv->paused);
    let_go(l, 1);
}

/* One that comes behind an abort is another. */
static void stay_if_aborted(struct leave *l)
{
    if (atomic_load(&l->srv->leaving) == ABORTED)
        stay(l);
}

static void finish(struct pending *p, struct reply *r)
{
    const struct asker *a = mpsc_entry(p, struct asker, p);
    if (a->aborted)
        reply_errorf(r, "ERR", "Errors trying to SHUTDOWN. Check logs.");
    else
        conn_close_after_reply(p->conn); /* which says nothing */
}

static void release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct asker, p));
}

static void ask_on_main(struct io_task *t, struct io *io)
{
    struct asker *a = mpsc_entry(t, struct asker, task);
    struct leave *l = a->l;
    int now = a->now;
    (void)io;
    stay_if_aborted(l);
    pthread_mutex_lock(&l->lock);
    int over = l->over;
    if (!over) {
        a->next = l->askers;
        l->askers = a;
    }
    pthread_mutex_unlock(&l->lock);
    if (over)
        pending_complete(&a->p);
    else if (now || atomic_load(&l->srv->leaving) == STAYS)
        leave_begin(l, now);
}

enum call_result leave_ask(struct leave *l, struct call *c, int now)
{
    struct asker *a = mem_zalloc(sizeof *a);
    if (!a)
        return call_error(c, ERR_OOM);
    log_at(LOG_WARNING, "User requested shutdown...");
    a->l = l;
    a->now = now;
    a->task.run = ask_on_main;
    call_pending(c, &a->p, finish, release);
    io_post(l->srv->main, &a->task);
    return CALL_PENDING;
}

/* ---- replicas ---- */

/* Those that are linked, and of these those that lack something that was answered. */
static unsigned behind(const struct leave *l, unsigned *linked, int say)
{
    struct repl_status s;
    struct engine_info info;
    unsigned n = 0;
    *linked = 0;
    if (!l->srv->repl || !l->srv->engine || atomic_load(&l->srv->loading)) /* or between two lives */
        return 0;
    repl_status(l->srv->repl, &s);
    engine_info(l->srv->engine, &info);
    uint64_t lsn = info.commit_lsn;
    for (unsigned i = 0; s.master && !s.voters && i < s.peers; i++) {
        const struct repl_peer *p = &s.peer[i];
        int lacks = p->held_lsn < lsn || info.pending_writes > 0; /* what is being written will be answered */
        *linked += p->linked != 0;
        n += p->linked && lacks;
        if (say && p->linked && lacks)
            log_at(LOG_WARNING, "Lagging replica %s:%d has LSN %llu of %llu", p->host, p->port,
                   (unsigned long long)p->held_lsn, (unsigned long long)lsn);
    }
    return n;
}

static void go(struct leave *l)
{
    unsigned linked, lag = behind(l, &linked, 1);
    if (linked)
        log_at(LOG_NOTICE, "%u of %u replicas are in sync when shutting down.", linked - lag, linked);
    l->end();
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct leave *l = arg;
    unsigned linked;
    int leaving = LEAVING;
    (void)fd;
    (void)what;
    stay_if_aborted(l);
    if (atomic_load(&l->srv->leaving) != LEAVING)
        return;
    l->ticks = behind(l, &linked, 0) ? 0 : l->ticks + 1;
    if (l->ticks < CAUGHT_UP_TICKS && clock_mono_ms() < atomic_load(&l->end_ms))
        return;
    if (atomic_compare_exchange_strong(&l->srv->leaving, &leaving, GOING))
        go(l);
}

/* ---- the main thread's ---- */

void leave_begin(struct leave *l, int now)
{
    struct timeval tick = {.tv_usec = LEAVE_TICK_MS * 1000};
    stay_if_aborted(l);
    unsigned linked, lag = behind(l, &linked, 0);
    uint64_t wait_ms = (uint64_t)config_int(l->srv->config, CFG_SHUTDOWN_TIMEOUT) * 1000;
    l->ticks = 0;
    if (!now && linked && wait_ms && atomic_load(&l->srv->leaving) == STAYS && event_add(l->tick, &tick) == 0) {
        log_at(LOG_NOTICE, "Waiting for replicas before shutting down: %u of %u lag", lag, linked);
        atomic_store(&l->end_ms, clock_mono_ms() + wait_ms);
        atomic_store(&l->srv->leaving, LEAVING);
        return;
    }
    if (atomic_exchange(&l->srv->leaving, GOING) != GOING)
        go(l);
}

int leave_abort(struct leave *l)
{
    int leaving = LEAVING;
    return l && atomic_compare_exchange_strong(&l->srv->leaving, &leaving, ABORTED);
}

uint64_t leave_left_ms(const struct leave *l)
{
    uint64_t now = clock_mono_ms();
    if (!l || atomic_load(&l->srv->leaving) != LEAVING)
        return 0;
    uint64_t end = atomic_load(&l->end_ms);
    return end > now ? end - now : 1;
}

void leave_ends(struct leave *l)
{
    if (!l)
        return;
    event_del(l->tick);
    let_go(l, 0);
}

enum err leave_new(struct leave **out, struct server *srv, void (*end)(void))
{
    struct leave *l = *out = mem_zalloc(sizeof *l);
    if (!l)
        return ERR_OOM;
    l->srv = srv;
    l->end = end;
    pthread_mutex_init(&l->lock, NULL);
    l->tick = event_new(io_base(srv->main), -1, EV_PERSIST, on_tick, l);
    return l->tick ? ERR_OK : ERR_OOM;
}

void leave_free(struct leave *l)
{
    if (!l)
        return;
    if (l->tick)
        event_free(l->tick);
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}
