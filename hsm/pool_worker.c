/* pool_worker.c - one worker process, from its start to its reaping; see pool_impl.h.
 *
 *     STARTING --START answered OK--> UP --successor ready--> DRAINING --nothing left--> ENDING --reaped--> freed
 *         |                           |    or unseal             |                         ^
 *         +---------------------------+------ error, late, gone, sealed -------------------+
 *
 * Happy path: START goes out as the first frame, its answer makes the worker the slot's cur. From then on the socket's
 * read event brings answers; a batch of them is taken out of the queue under one lock and completed without it.
 *
 * Failure: anything that is not a well-formed answer to a frame that was sent ends the worker by SIGKILL, as does a
 * missed deadline (pool_watch.c).
 *
 * A worker that closed the socket, or failed its probe, is waited for (pidfd, else the tick), because its exit code
 * tells a refused PIN from a crash; nothing is started meanwhile. One that does not go in time is killed. Nothing here
 * blocks: a process stuck in the kernel stays on the list until it goes.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "hsm/pool_impl.h"
#include "hsm/worker.h"

#define READ_BYTES ((size_t)32 << 10)
#define READ_ROUNDS 8 /* then other workers have a turn */
#define WRITE_RANGES 16
#define BATCH 64
#define GRACE_MAX_US UINT64_C(2000000) /* from the closed socket to SIGKILL */

/* ---- writing ---- */

int pool_worker_write(struct pool_worker *w)
{
    struct iovec iov[WRITE_RANGES];
    struct msghdr m = {.msg_iov = iov};
    ssize_t n;

    m.msg_iovlen = (size_t)pool_queue_unsent(&w->q, iov, WRITE_RANGES);
    if (w->fd < 0 || m.msg_iovlen == 0)
        return 0;
    do
        n = sendmsg(w->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n > 0)
        pool_queue_sent(&w->q, (size_t)n);
    else if (n < 0 && errno != EAGAIN)
        return 0; /* the read event will see the end */
    w->want_write = pool_queue_unsent(&w->q, iov, 1) > 0;
    return w->want_write;
}

void pool_worker_arm_write(struct pool_worker *w)
{
    int want;

    pthread_mutex_lock(&w->slot->lock);
    want = w->fd >= 0 && w->want_write;
    pthread_mutex_unlock(&w->slot->lock);
    if (want)
        (void)event_add(&w->write_ev, NULL); /* on failure the tick writes */
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
    struct pool_worker *w = arg;
    int more;

    (void)fd;
    (void)what;
    pthread_mutex_lock(&w->slot->lock);
    more = pool_worker_write(w);
    pthread_mutex_unlock(&w->slot->lock);
    if (more)
        (void)event_add(&w->write_ev, NULL);
}

void pool_worker_write_now(struct pool_worker *w)
{
    on_writable(w->fd, EV_WRITE, w);
}

/* ---- ending ---- */

static void drop_list(struct pool_worker *w)
{
    struct pool_worker **at = &w->h->workers;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
}

static void describe_exit(const struct pool_worker *w, int status, char *out, size_t n)
{
    if (w->end == END_KILL)
        snprintf(out, n, "%s", w->text);
    else if (WIFSIGNALED(status))
        snprintf(out, n, "the HSM worker died of signal %d", WTERMSIG(status));
    else
        snprintf(out, n, "the HSM worker ended with exit code %d", WEXITSTATUS(status));
}

static enum err exit_err(int status)
{
    if (!WIFEXITED(status))
        return ERR_HSMDOWN;
    if (WEXITSTATUS(status) == WORKER_EXIT_PIN)
        return ERR_WRONGPASS;
    return WEXITSTATUS(status) == WORKER_EXIT_CONFIG ? ERR_NOTFOUND : ERR_HSMDOWN;
}

/* The process is gone; w is freed. */
static void reaped(struct pool_worker *w, int status)
{
    struct hsm *h = w->h;
    char text[POOL_TEXT_MAX];

    describe_exit(w, status, text, sizeof text);
    drop_list(w);
    event_del(&w->exit_ev);
    if (w->pidfd >= 0)
        close(w->pidfd);
    if (w->end == END_LOST) {
        h->lost--;
        pool_log(h, LOG_WARNING, "HSM worker %ld is gone (%s): %s", (long)w->pid, w->text, text);
    }
    if (w->owes_start)
        pool_start_failed(h, w->slot, exit_err(status), text);
    else if (w->end == END_LOST && w->was_cur && exit_err(status) == ERR_WRONGPASS)
        pool_health(h, HEALTH_STOP, w->slot->index);
    buf_fini(&w->in);
    mem_free(w);
    pool_publish(h);
}

int pool_worker_reap(struct pool_worker *w)
{
    int status = 0;
    pid_t pid;

    do
        pid = waitpid(w->pid, &status, WNOHANG);
    while (pid < 0 && errno == EINTR);
    if (pid == 0)
        return 0;
    reaped(w, status); /* ECHILD: someone ignores SIGCHLD, then the status is lost */
    return 1;
}

static void on_exit_event(evutil_socket_t fd, short what, void *arg)
{
    struct pool_worker *w = arg;

    (void)fd;
    (void)what;
    (void)pool_worker_reap(w);
}

static uint64_t grace_us(const struct hsm *h)
{
    uint64_t us = (uint64_t)h->cfg.timeout_ms * 1000;
    return us < GRACE_MAX_US ? us : GRACE_MAX_US;
}

/* Takes w out of service; its queue goes to *q. 1: it was the one that took requests. */
static int detach(struct pool_worker *w, struct pool_queue *q)
{
    struct pool_slot *s = w->slot;
    int fd, was_cur;

    pthread_mutex_lock(&s->lock);
    was_cur = s->cur == w;
    if (was_cur)
        pool_slot_set(s, NULL);
    *q = w->q;
    pool_queue_init(&w->q);
    fd = w->fd;
    w->fd = -1;
    pthread_mutex_unlock(&s->lock);
    event_del(&w->read_ev);
    event_del(&w->write_ev);
    close(fd);
    return was_cur;
}

/* What becomes of it no longer matters to the state. */
static void disown(struct pool_worker *w)
{
    if (w->end == END_LOST)
        w->h->lost--;
    w->end = END_STOP;
    w->owes_start = 0;
}

void pool_worker_end(struct pool_worker *w, enum worker_end end, const char *text)
{
    struct hsm *h = w->h;
    struct pool_queue q;
    enum worker_phase phase = w->phase;

    if (phase == WORKER_ENDING) {
        if (end == END_STOP)
            disown(w);
        return;
    }
    w->was_cur = detach(w, &q);
    w->phase = WORKER_ENDING;
    w->end = end;
    snprintf(w->text, sizeof w->text, "%s", text);
    if (w->pidfd >= 0)
        (void)event_add(&w->exit_ev, NULL); /* on failure, or without: the tick reaps */
    w->kill_at_us = clock_mono_us() + (end == END_KILL ? 0 : grace_us(h));
    w->owes_start = phase == WORKER_STARTING && (end == END_LOST || end == END_KILL);
    if (end == END_LOST)
        h->lost++;
    if (end == END_KILL) {
        w->killed = 1;
        (void)kill(w->pid, SIGKILL);
        pool_log(h, LOG_WARNING, "HSM worker %ld is killed: %s", (long)w->pid, text);
    }
    if (w->was_cur && end != END_STOP) {
        pool_health(h, HEALTH_LOST, w->slot->index);
        /* Who sees the figure finds the worker gone, and who gets an answer for that reason sees the figure. */
        atomic_fetch_add(&h->restarts, 1);
    }
    if (end != END_STOP)
        pool_requeue(h, &q, end == END_KILL ? text : "the HSM worker ended");
    else
        pool_fail_all(h, &q, h->ending ? ERR_HSMDOWN : ERR_SEALED, text);
    pool_publish(h);
}

/* ---- answers ---- */

struct answer {
    struct pool_entry e;
    struct hsm_frame f;
};

static int well_formed(const struct pool_entry *e, const struct hsm_frame *f)
{
    if (f->code == ERR_OK)
        return f->parts == hsm_ops[e->op].parts_out;
    return f->code < ERR_COUNT_ && f->parts <= 1;
}

static void text_of(const struct hsm_frame *f, char *out, size_t n)
{
    struct bytes t = f->parts ? f->part[0] : bytes_of(NULL, 0);

    size_t used = t.n < n ? t.n : n - 1;
    if (used)
        memcpy(out, t.p, used);
    out[used] = 0;
    for (char *c = out; *c; c++)
        if (*c < ' ' || *c > '~')
            *c = '?';
}

static void started(struct pool_worker *w, const struct hsm_frame *f)
{
    char text[POOL_TEXT_MAX];

    if (f->code == ERR_OK) {
        w->rss_base = pool_rss_bytes(w->pid);
        pool_worker_ready(w, f->part[0]);
        return;
    }
    text_of(f, text, sizeof text);
    pool_worker_end(w, END_DONE, text);
    pool_start_failed(w->h, w->slot, (enum err)f->code, text);
}

/* An answer to a request of the pool itself. */
static void own_answer(struct pool_worker *w, const struct answer *a)
{
    char text[POOL_TEXT_MAX];

    if (a->e.op == HSM_START) {
        started(w, &a->f);
        return;
    }
    w->own_requests--;
    if (a->f.code == ERR_OK && a->e.op == HSM_INFO) {
        pool_watch_info(w, a->f.part[0]);
    } else if (a->f.code != ERR_OK && a->e.op == HSM_PROBE) {
        text_of(&a->f, text, sizeof text);
        pool_worker_end(w, END_LOST, text); /* not killed: it may have an exit code to tell */
        if (a->f.code == ERR_WRONGPASS)
            pool_health(w->h, HEALTH_STOP, w->slot->index);
    }
}

static int makes_objects(enum hsm_op op)
{
    return op == HSM_KEY_NEW || op == HSM_KEY_NEW_SLOW || op == HSM_DEK_NEW || op == HSM_DATAKEY;
}

static void handle(struct pool_worker *w, const struct answer *a)
{
    w->objects += (uint64_t)makes_objects((enum hsm_op)a->e.op);
    if (a->e.r)
        pool_complete(w->h, &a->e, ERR_OK, NULL, &a->f);
    else
        own_answer(w, a);
}

/* Takes up to BATCH answers off the front of w->in. *used: their bytes. */
static enum err take_batch(struct pool_worker *w, struct answer *batch, unsigned *count, size_t *used)
{
    struct bytes in = buf_bytes(&w->in);
    size_t n;
    enum err e = ERR_OK;

    *count = 0;
    *used = 0;
    pthread_mutex_lock(&w->slot->lock);
    while (*count < BATCH) {
        struct answer *a = &batch[*count];
        e = proto_get(bytes_of(in.p + *used, in.n - *used), &a->f, &n);
        if (e == ERR_OK && !pool_queue_answer(&w->q, a->f.id, &a->e))
            e = ERR_PROTOCOL;
        if (e != ERR_OK)
            break;
        ++*count;
        *used += n;
        if (!well_formed(&a->e, &a->f)) { /* this one is taken out already: it fails with the others */
            a->f = (struct hsm_frame){.code = ERR_HSMDOWN};
            e = ERR_PROTOCOL;
            break;
        }
    }
    if (w->slot->cur == w)
        atomic_store_explicit(&w->slot->load, w->q.count, memory_order_relaxed);
    pthread_mutex_unlock(&w->slot->lock);
    return e;
}

/* Sees to all whole frames that were read. 0: w has ended. */
static int dispatch(struct pool_worker *w)
{
    struct answer batch[BATCH];
    unsigned count;
    size_t used;
    enum err e;

    do {
        e = take_batch(w, batch, &count, &used);
        if (count)
            w->last_answer_us = clock_mono_us();
        for (unsigned i = 0; i < count; i++)
            handle(w, &batch[i]);
        if (e == ERR_PROTOCOL && w->phase != WORKER_ENDING)
            pool_worker_end(w, END_KILL, "malformed answer");
        if (w->phase == WORKER_ENDING)
            return 0;
        buf_consume(&w->in, used);
    } while (e == ERR_OK);
    return 1;
}

/* ---- reading ---- */

/* How much to read next: the rest of a large frame at once. */
static size_t read_size(struct pool_worker *w)
{
    struct hsm_frame f;
    size_t whole, have = buf_size(&w->in);

    if (have == 0 || proto_get(buf_bytes(&w->in), &f, &whole) != ERR_AGAIN || whole < have + READ_BYTES)
        return READ_BYTES;
    return whole - have;
}

/* Reads once. 1: there may be more; 0: not now, or w has ended. */
static int read_once(struct pool_worker *w)
{
    size_t want = read_size(w);
    uint8_t *room;
    ssize_t n;

    if (buf_reserve(&w->in, want, &room) != ERR_OK) {
        w->read_off = 1;
        event_del(&w->read_ev); /* else it would fire without end; the tick adds it again */
        return 0;
    }
    do
        n = recv(w->fd, room, want, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN)
        return 0;
    if (n <= 0) {
        pool_worker_end(w, END_LOST, "it closed its socket");
        return 0;
    }
    buf_added(&w->in, (size_t)n);
    return dispatch(w) && (size_t)n == want;
}

static void after_reading(struct pool_worker *w)
{
    unsigned waiting;

    if (w->phase != WORKER_DRAINING)
        return;
    pthread_mutex_lock(&w->slot->lock);
    waiting = w->q.count;
    pthread_mutex_unlock(&w->slot->lock);
    if (waiting == 0)
        pool_worker_end(w, END_DONE, "drained");
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
    struct pool_worker *w = arg;

    (void)fd;
    (void)what;
    for (int i = 0; i < READ_ROUNDS && w->fd >= 0 && read_once(w); i++)
        ;
    if (w->phase == WORKER_ENDING)
        buf_fini(&w->in);
    else
        buf_shrink(&w->in, 2 * READ_BYTES);
    after_reading(w);
}

void pool_worker_read_now(struct pool_worker *w)
{
    on_readable(w->fd, EV_READ, w);
}

void pool_worker_drain(struct pool_worker *w)
{
    int more;

    w->phase = WORKER_DRAINING;
    pthread_mutex_lock(&w->slot->lock);
    more = pool_worker_write(w);
    pthread_mutex_unlock(&w->slot->lock);
    if (more)
        (void)event_add(&w->write_ev, NULL);
    after_reading(w);
}

/* ---- starting ---- */

static enum err settings(const struct hsm *h, struct buf *b)
{
    char number[16];
    enum err e = proto_put_setting(b, "module", bytes_str(h->cfg.module));

    snprintf(number, sizeof number, "%u", h->cfg.key_cache);
    if (e == ERR_OK && h->cfg.module_init)
        e = proto_put_setting(b, "init", bytes_str(h->cfg.module_init));
    if (e == ERR_OK)
        e = proto_put_setting(b, "token", bytes_str(h->cfg.token));
    if (e == ERR_OK)
        e = proto_put_setting(b, "pin", buf_bytes(&h->pin));
    if (e == ERR_OK)
        e = proto_put_setting(b, "key-cache", bytes_str(number));
    if (e == ERR_OK && h->cfg.hsm_only)
        e = proto_put_setting(b, "hsm-only", bytes_str("yes"));
    return e;
}

enum err pool_worker_ask(struct pool_worker *w, enum hsm_op op, const struct bytes *part, unsigned parts)
{
    struct pool_entry e = {.op = (uint8_t)op, .since_us = clock_mono_us()};
    int more = 0;
    enum err err;

    pthread_mutex_lock(&w->slot->lock);
    err = pool_queue_put(&w->q, &e, part, parts);
    if (err == ERR_OK)
        more = pool_worker_write(w);
    pthread_mutex_unlock(&w->slot->lock);
    if (more)
        (void)event_add(&w->write_ev, NULL);
    return err;
}

static enum err send_start(struct pool_worker *w)
{
    struct buf b;
    struct bytes part;
    enum err e;

    buf_init_secret(&b, HSM_FRAME_MAX);
    e = settings(w->h, &b);
    part = buf_bytes(&b);
    if (e == ERR_OK)
        e = pool_worker_ask(w, HSM_START, &part, 1);
    buf_fini(&b);
    return e;
}

enum err pool_worker_start(struct hsm *h, struct pool_slot *slot, char why[POOL_WHY_MAX])
{
    struct pool_worker *w = mem_zalloc(sizeof *w);
    int error;
    enum err e;

    snprintf(why, POOL_WHY_MAX, "%s", err_text(ERR_OOM));
    if (!w)
        return ERR_OOM;
    w->h = h;
    w->slot = slot;
    pool_queue_init(&w->q);
    buf_init_secret(&w->in, HSM_FRAME_MAX + READ_BYTES);
    e = pool_spawn(h->cfg.worker_path, h->env, &w->pid, &w->fd, &w->pidfd, &error);
    if (e != ERR_OK) {
        snprintf(why, POOL_WHY_MAX, "cannot start the HSM worker program %s: %s", h->cfg.worker_path, strerror(error));
        mem_free(w);
        return e;
    }
    w->next = h->workers;
    h->workers = w;
    w->last_answer_us = clock_mono_us();
    event_assign(&w->read_ev, h->base, w->fd, EV_READ | EV_PERSIST, on_readable, w);
    event_assign(&w->write_ev, h->base, w->fd, EV_WRITE, on_writable, w);
    event_assign(&w->exit_ev, h->base, w->pidfd, EV_READ | EV_PERSIST, on_exit_event, w);
    e = event_add(&w->read_ev, NULL) == 0 ? send_start(w) : ERR_OOM;
    if (e != ERR_OK)
        pool_worker_end(w, END_STOP, "not started");
    return e;
}
