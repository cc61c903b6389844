/* io.c - see io.h.
 *
 * Happy path: the thread sleeps in epoll_wait inside event_base_loop(EVLOOP_ONCE). Sockets become readable, their
 * callbacks run the connections; then turn_end() takes what other threads have posted and goes through the list of
 * connections that have something to do (todo). While that list or a queue is not empty the next loop does not sleep.
 *
 * Waking. A poster pushes, and if the queue was empty looks at `asleep`; the thread sets `asleep`, then looks at the
 * queues, and only then sleeps. Both have a sequentially consistent fence between their store and their load, so at
 * least one sees the other's. The eventfd is written at most once a sleep, and not at all while the thread is awake: a
 * group commit that answers a hundred clients wakes it once.
 *
 * A tour visits one thread after another by posting itself. Its state is never on two threads at a time, so what it
 * gathers needs no lock. A thread that has ended does not answer any more: at shutdown tours in flight are abandoned
 * with their connections.
 *
 * Failure: posting cannot fail, nodes belong to the poster. A socket that cannot be taken over for lack of memory is
 * closed.
 *
 * Rejected: SO_REUSEPORT listeners in every thread. Two servers started by mistake would share a port in silence,
 * connections are spread by a hash and so unevenly when they are few, a closing listener loses what is in its queue,
 * and UNIX sockets cannot do it. An acceptor that hands sockets out by turns costs one wake-up a connection. libevent's
 * locking (evthread_use_pthreads): every base has one thread, so bases are made without locks.
 */
#include "server/io.h"

#include <assert.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "server/command.h"
#include "server/conn_private.h"
#include "server/evict.h"
#include "server/latency.h"

#define SUBMIT_WRITES 64 /* are worth waking the sequencer for in the middle of a turn: it works meanwhile */

/* ---- what handlers ask ---- */

uint64_t io_now_ms(const struct io *io)
{
    return io->now_ms;
}

uint64_t io_now_us(const struct io *io)
{
    return io->now_us;
}

unsigned io_index(const struct io *io)
{
    return io->index;
}

struct server *io_server(const struct io *io)
{
    return io->srv;
}

struct event_base *io_base(struct io *io)
{
    return io->base;
}

struct io_stats *io_stats(struct io *io)
{
    return &io->stats;
}

void io_clock(struct io *io)
{
    if (io->clock_fresh)
        return;
    io->clock_fresh = 1;
    io->now_ms = clock_wall_ms();
    io->now_us = io->mark_us = clock_mono_us();
}

/* ---- posting ---- */

static void wake(struct io *io)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&io->asleep, memory_order_relaxed) && atomic_exchange(&io->asleep, 0)) {
        uint64_t one = 1;
        ssize_t rc = write(io->wake_fd, &one, sizeof one); /* can only fail at 2^64 - 2 unread wakes */
        (void)rc;
    }
}

void io_post(struct io *io, struct io_task *t)
{
    if (mpsc_push(&io->tasks, &t->node))
        wake(io);
}

void pending_complete(struct pending *p)
{
    struct io *io = p->io;
    if (mpsc_push(&io->done, &p->node))
        wake(io);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    uint64_t n;
    (void)what;
    ssize_t rc = read(fd, &n, sizeof n);
    (void)rc;
    io_clock(arg);
}

/* ---- tours ---- */

static void tour_step(struct io_task *task, struct io *io)
{
    struct io_tour *t = mpsc_entry(task, struct io_tour, task);
    if (t->next == t->srv->io_count) {
        t->done(t, io);
        return;
    }
    t->visit(t, io);
    t->next++;
    io_post(t->srv->io[t->next < t->srv->io_count ? t->next : t->home], &t->task);
}

void io_tour(struct io *home, struct io_tour *t)
{
    t->srv = home->srv;
    t->home = home->index;
    t->next = 0;
    t->task.run = tour_step;
    io_post(t->srv->io[0], &t->task);
}

/* The end of the turn that it makes looks. */
static void run_evict(struct io_task *t, struct io *io)
{
    (void)t;
    atomic_store(&io->evict_posted, 0);
}

/* ---- users ---- */

static void run_users(struct io_task *t, struct io *io)
{
    (void)t;
    atomic_store(&io->users_posted, 0);
    for (struct conn *c = io->conns, *next; c; c = next) {
        next = c->next;
        if (c->state != CONN_DEAD && c->state != CONN_CLOSING)
            conn_refresh_user(c);
    }
}

void io_users_changed(struct io *io)
{
    if (!atomic_exchange(&io->users_posted, 1))
        io_post(io, &io->users_task);
}

/* ---- the loop ---- */

void io_todo(struct conn *c)
{
    struct io *io = c->io;
    if (c->on_todo || c->state == CONN_DEAD)
        return;
    c->on_todo = 1;
    c->todo_next = NULL;
    *io->todo_end = c;
    io->todo_end = &c->todo_next;
}

/* Those that are on the list now; who yields again waits for the next turn. */
static void run_todo(struct io *io)
{
    struct conn *c = io->todo;
    io->todo = NULL;
    io->todo_end = &io->todo;
    while (c) {
        struct conn *next = c->todo_next;
        c->on_todo = 0;
        if (c->state != CONN_DEAD)
            conn_run(c);
        c = next;
    }
}

static void run_tasks(struct io *io)
{
    struct mpsc_node *n = mpsc_take(&io->tasks);
    while (n) {
        struct mpsc_node *next = n->next;
        struct io_task *t = mpsc_entry(n, struct io_task, node);
        t->run(t, io);
        n = next;
    }
}

static void free_dead(struct io *io)
{
    /* Not while the connection is on the list of things to do: that goes first. */
    struct conn **at = &io->dead;
    while (*at) {
        struct conn *c = *at;
        if (c->on_todo) {
            at = &c->dead_next;
            continue;
        }
        *at = c->dead_next;
        conn_free(c);
    }
}

static int has_work(struct io *io)
{
    return io->todo || io->dead || atomic_load_explicit(&io->tasks.head, memory_order_relaxed) ||
           atomic_load_explicit(&io->done.head, memory_order_relaxed);
}

static void wake_all(struct server *srv)
{
    for (unsigned i = 0; i < srv->io_count; i++)
        wake(srv->io[i]);
}

/* Asks a connection to go, or with anew to stand still. 1: the thread need not wait for it. */
static int wind_down_one(struct conn *c, int anew)
{
    if (c->state == CONN_DEAD)
        return 0;
    if (c->last && c->last->cmd->flags & CMD_BLOCKING) {
        conn_kill(c);
        return 0;
    }
    if (anew)
        return conn_stand_still(c);
    if (c->state != CONN_CLOSING) {
        conn_set_state(c, CONN_CLOSING);
        io_todo(c);
    }
    return 0;
}

/* 1: the thread may end. It stays for tours of others until nobody has connections that are busy. */
static int wind_down(struct io *io)
{
    int busy = 0, anew = atomic_load(&io->srv->anew);
    for (struct conn *c = io->conns, *next; c; c = next) {
        next = c->next;
        busy |= !wind_down_one(c, anew);
    }
    if (!io->started) /* the main loop has no connections */
        return 1;
    if (!busy && !io->idle_told) {
        io->idle_told = 1;
        if (atomic_fetch_sub(&io->srv->io_busy, 1) == 1)
            wake_all(io->srv);
    }
    return atomic_load(&io->srv->io_busy) == 0 || clock_mono_us() >= io->deadline_us;
}

void io_submit(struct io *io, struct write *w)
{
    write_chain_add(&io->writes, w);
    if (io->writes.n >= SUBMIT_WRITES)
        io_submit_writes(io);
}

void io_submit_writes(struct io *io)
{
    if (io->writes.n)
        engine_submit_chain(io->srv->engine, &io->writes);
}

static void turn_end(struct io *io)
{
    io_clock(io);
    run_tasks(io);
    call_completed(io);
    run_todo(io);
    io_submit_writes(io);
    if (io->srv->turn_end)
        io->srv->turn_end(io);
    if (io->config_epoch != config_epoch(io->srv->config))
        (void)!io_refresh_settings(io); /* else in the next turn */
    evict_look(io);
    free_dead(io);
}

static void loop(struct io *io)
{
    while (!io->stopping || !wind_down(io)) {
        int flags = EVLOOP_ONCE;
        atomic_store_explicit(&io->asleep, 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
        if (has_work(io)) {
            atomic_store_explicit(&io->asleep, 0, memory_order_relaxed);
            flags |= EVLOOP_NONBLOCK;
        }
        io->clock_fresh = 0;
        io->handshake_steps = 0;
        event_base_loop(io->base, flags);
        atomic_store_explicit(&io->asleep, 0, memory_order_relaxed);
        turn_end(io);
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct io *io = arg;
    (void)fd;
    (void)what;
    io_clock(io);
    if (io->opener)
        io->opener_drop(io->opener); /* an idle thread must not keep data keys whose time is over */
    for (struct conn *c = io->conns, *next; c; c = next) {
        next = c->next;
        if (c->state != CONN_DEAD)
            conn_check_limits(c);
    }
}

/* ---- life ---- */

enum err io_refresh_settings(struct io *io)
{
    struct config *cfg = io->srv->config;
    uint64_t epoch = config_epoch(cfg);
    io->limits = request_default_limits;
    io->limits.max_bulk_bytes = (size_t)config_int(cfg, CFG_PROTO_MAX_BULK_LEN);
    io->limits_unauth = io->limits;
    io->limits_unauth.unauthenticated = 1;
    io->query_limit = (uint64_t)config_int(cfg, CFG_CLIENT_QUERY_BUFFER_LIMIT);
    io->idle_ms = (uint64_t)config_int(cfg, CFG_TIMEOUT) * 1000;
    io->handshake_ms = (uint64_t)config_int(cfg, CFG_TLS_HANDSHAKE_TIMEOUT) * 1000;
    io->slower_than_us = config_int(cfg, CFG_SLOWLOG_LOG_SLOWER_THAN);
    io->event_ms = (uint64_t)config_int(cfg, CFG_LATENCY_MONITOR_THRESHOLD);
    io->tracking = (int)config_int(cfg, CFG_LATENCY_TRACKING);
    for (unsigned k = 0; k < OBUF_CLASSES; k++)
        config_obuf(cfg, (enum obuf_class)k, &io->obuf[k]);
    enum err e = evict_limit(cfg, &io->clients_limit);
    if (!e)
        io->config_epoch = epoch;
    return e;
}

static enum err make_events(struct io *io)
{
    struct timeval second = {.tv_sec = 1};
    struct event_config *cfg = event_config_new();
    if (!cfg)
        return ERR_OOM;
    if (event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK) == 0)
        io->base = event_base_new_with_config(cfg);
    event_config_free(cfg);
    io->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!io->base || io->wake_fd < 0)
        return ERR_OOM;
    if (event_assign(&io->wake_ev, io->base, io->wake_fd, EV_READ | EV_PERSIST, on_wake, io) != 0 ||
        event_assign(&io->tick_ev, io->base, -1, EV_PERSIST, on_tick, io) != 0)
        return ERR_OOM;
    return event_add(&io->wake_ev, NULL) == 0 && event_add(&io->tick_ev, &second) == 0 ? ERR_OK : ERR_OOM;
}

enum err io_new(struct io **out, struct server *srv, unsigned index)
{
    *out = NULL;
    struct io *io = mem_zalloc(sizeof *io);
    if (!io)
        return ERR_OOM;
    io->srv = srv;
    io->index = index;
    io->users_task.run = run_users;
    io->evict_task.run = run_evict;
    io->wake_fd = -1;
    io->todo_end = &io->todo;
    mpsc_init(&io->tasks);
    mpsc_init(&io->done);
    buf_init_secret(&io->out, CONN_ANSWER_BYTES);
    buf_init_secret(&io->side, CONN_ANSWER_BYTES);
    buf_init(&io->scratch, SIZE_MAX / 4);
    request_parser_init(&io->ahead, &request_default_limits);
    io->in = mem_secret_alloc(CONN_READ_BYTES);
    io->stats.command = mem_zalloc(commands_count * sizeof *io->stats.command);
    io->stats.histogram = mem_zalloc(commands_count * LATENCY_BUCKETS * sizeof *io->stats.histogram);
    enum err e = io->in && io->stats.command && io->stats.histogram ? make_events(io) : ERR_OOM;
    if (!e)
        e = io_refresh_settings(io);
    if (e) {
        io_free(io);
        return e;
    }
    io_clock(io);
    *out = io;
    return ERR_OK;
}

static void drop_opener(struct io *io)
{
    if (io->opener)
        io->opener_free(io->opener);
    io->opener = NULL;
}

void io_free(struct io *io)
{
    if (!io)
        return;
    assert(!io->conns);
    if (io->base) {
        event_del(&io->wake_ev);
        event_del(&io->tick_ev);
        event_base_free(io->base);
    }
    if (io->wake_fd >= 0)
        close(io->wake_fd);
    drop_opener(io);
    buf_fini(&io->out);
    buf_fini(&io->side);
    buf_fini(&io->scratch);
    request_parser_fini(&io->ahead);
    mem_secret_free(io->in, CONN_READ_BYTES);
    mem_free(io->stats.command);
    mem_free(io->stats.histogram);
    mem_free(io);
}

static void drop_connections(struct io *io, int anew)
{
    for (struct conn *c = io->conns; c; c = c->next)
        if (c->state != CONN_DEAD && !(anew && conn_may_stay(c)))
            conn_kill(c);
    for (struct conn *c = io->todo; c; c = c->todo_next)
        c->on_todo = 0;
    io->todo = NULL;
    io->todo_end = &io->todo;
    free_dead(io);
}

void io_settle(struct server *srv, int anew)
{
    int again = 1;
    for (unsigned i = 0; i < srv->io_count; i++)
        if (srv->io[i])
            drop_connections(srv->io[i], anew);
    while (again) { /* what was posted meanwhile may post to others */
        again = 0;
        for (unsigned i = 0; i <= srv->io_count; i++) {
            struct io *io = i < srv->io_count ? srv->io[i] : srv->main;
            if (!io || (!atomic_load(&io->tasks.head) && !atomic_load(&io->done.head)))
                continue;
            again = 1;
            run_tasks(io);
            call_completed(io);
            drop_connections(io, anew);
        }
    }
    for (unsigned i = 0; i < srv->io_count; i++)
        if (srv->io[i])
            drop_opener(srv->io[i]);
}

void io_free_all(struct server *srv)
{
    io_settle(srv, 0);
    for (unsigned i = 0; i < srv->io_count; i++) {
        io_free(srv->io[i]);
        srv->io[i] = NULL;
    }
}

static void *thread_main(void *arg)
{
    struct io *io = arg;
    loop(io);
    return NULL;
}

/* Connections are there already when the server began anew. */
static void begin(struct io *io)
{
    struct timeval second = {.tv_sec = 1};
    if (io->stopping)
        event_add(&io->tick_ev, &second);
    io->stopping = io->idle_told = 0;
    for (struct conn *c = io->conns; c; c = c->next)
        conn_go_on(c);
}

enum err io_start(struct io *io)
{
    begin(io);
    io->started = 1;
    atomic_fetch_add(&io->srv->io_busy, 1);
    if (pthread_create(&io->thread, NULL, thread_main, io) == 0)
        return ERR_OK;
    io->started = 0;
    atomic_fetch_sub(&io->srv->io_busy, 1);
    return ERR_OOM;
}

void io_run(struct io *io)
{
    begin(io);
    loop(io);
    run_tasks(io);
}

static void stop_now(struct io_task *task, struct io *io)
{
    struct timeval tenth = {.tv_usec = 100000}; /* the deadline is looked at so often */
    (void)task;
    io->stopping = 1;
    event_add(&io->tick_ev, &tenth);
}

void io_stop(struct io *io, uint64_t deadline_us)
{
    io->deadline_us = deadline_us;
    io->stop_task.run = stop_now;
    io_post(io, &io->stop_task);
}

void io_join(struct io *io)
{
    if (io->started)
        pthread_join(io->thread, NULL);
    io->started = 0;
}

/* ---- taking sockets over ---- */

struct adopt_task {
    struct io_task task;
    int fd;
    enum io_transport transport;
};

static void adopt_now(struct io_task *task, struct io *io)
{
    struct adopt_task *t = mpsc_entry(task, struct adopt_task, task);
    struct conn *c;
    if ((io->stopping && !atomic_load(&io->srv->anew)) || conn_new(io, t->fd, t->transport, &c)) {
        atomic_fetch_sub(&io->srv->clients, 1);
        if (t->transport == IO_TLS)
            atomic_fetch_sub(&io->srv->handshakes, 1);
        close(t->fd);
    }
    mem_free(t);
}

enum err io_adopt(struct io *io, int fd, enum io_transport transport)
{
    struct adopt_task *t = mem_alloc(sizeof *t);
    if (!t)
        return ERR_OOM;
    *t = (struct adopt_task){.task.run = adopt_now, .fd = fd, .transport = transport};
    io_post(io, &t->task);
    return ERR_OK;
}
