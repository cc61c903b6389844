/* conn_fixture.h - I/O threads with a command table of the tests' own, and clients at the other ends of socket pairs.
 *
 * T.WRITE, T.HSM, T.ALONE and T.BLOCK make pendings that the test completes when it likes (complete()); T.PARK parks
 * until t.unparked. Included once, by a test program. */
#ifndef COFFER_TESTS_UNIT_CONN_FIXTURE_H
#define COFFER_TESTS_UNIT_CONN_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "resp/answer.h"
#include "resp/number.h"
#include "server/acl.h"
#include "server/command.h"
#include "server/conn_private.h"
#include "server/handlers.h"
#include "server/monitor.h"
#include "server/slowlog.h"

/* ---- the table of this test ---- */

static enum call_result t_fast(struct call *c);
static enum call_result t_pend(struct call *c);
static enum call_result t_pend_or_not(struct call *c);
static enum call_result t_park(struct call *c);
static enum call_result t_big(struct call *c);
static enum call_result t_args(struct call *c);
static enum call_result t_monitor(struct call *c);
static enum call_result t_gate(struct call *c);
static enum call_result t_mark(struct call *c);

const struct command commands[] = {
#define COMMAND(name, arity, flags, categories, lane, keys, redact, group, since, complexity, args, summary, reply, \
                fn)                                                                                                 \
    {name, arity, flags, categories, lane, keys, redact, group, since, complexity, args, summary, reply, fn},
#define CONTAINER(name, arity, flags, categories, group, since, summary) \
    {name, arity, flags, categories, LANE_NONE, KEYS_NONE, 0, group, since, "", "", summary, "", NULL},
#include "server/commands_conn.tbl.h"
    COMMAND("T.FAST", 2, CMD_FAST, 0, LANE_NONE, KEYS_NONE, 0, "test", "1", "", "", "", "",
            t_fast) COMMAND("T.WRITE", 2, CMD_WRITE, 0, LANE_WRITE, KEYS_NONE, 0, "test", "1", "", "", "", "", t_pend)
        COMMAND("T.MAYBE", -2, CMD_WRITE, 0, LANE_WRITE, KEYS_NONE, 0, "test", "1", "", "", "", "",
                t_pend_or_not) COMMAND("T.HSM", 2, 0, 0, LANE_HSM, KEYS_NONE, 0, "test", "1", "", "", "", "", t_pend)
            COMMAND("T.ALONE", 2, 0, 0, LANE_ALONE, KEYS_NONE, 0, "test", "1", "", "", "", "", t_pend)
                COMMAND("T.BLOCK", 2, CMD_BLOCKING, 0, LANE_ALONE, KEYS_NONE, 0, "test", "1", "", "", "", "", t_pend)
                    COMMAND("T.PARK", 2, 0, 0, LANE_NONE, KEYS_NONE, 0, "test", "1", "", "", "", "", t_park) COMMAND(
                        "T.BIG", 2, 0, 0, LANE_NONE, KEYS_NONE, 0, "test", "1", "", "", "", "",
                        t_big) COMMAND("T.ARGS", -1, 0, 0, LANE_NONE, KEYS_NONE, 0, "test", "1", "", "", "", "", t_args)
                        COMMAND("T.SECRET", -2, CMD_REDACT, 0, LANE_NONE, KEYS_NONE, 2, "test", "1", "", "", "", "",
                                t_args) COMMAND("T.MONITOR", 1, CMD_ADMIN, 0, LANE_NONE,
                                                KEYS_NONE, 0, "test", "1", "", "", "", "", t_monitor)
                            COMMAND("T.GATE", 1, 0, 0, LANE_NONE, KEYS_NONE, 0, "test", "1", "", "", "", "", t_gate)
                                COMMAND("T.MARK", 1, 0, 0, LANE_NONE, KEYS_NONE, 0, "test", "1", "", "", "", "", t_mark)
#undef COMMAND
#undef CONTAINER
};
const size_t commands_count = sizeof commands / sizeof commands[0];

/* HELP comes with COMMAND, which this test leaves out. */
enum call_result cmd_help(struct call *c)
{
    reply_ok(c->reply);
    return CALL_DONE;
}

struct fake { /* a pending command: the test completes it when it likes */
    struct pending p;
    uint8_t text[32];
    size_t n;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct fake *waiting[4096];
    unsigned started, released, finished, fast_runs, park_runs, at_gate, gate_open, mark;
    _Atomic int unparked;
    struct waitlist *parking;
} t = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void bump(unsigned *counter)
{
    pthread_mutex_lock(&t.lock);
    ++*counter;
    pthread_cond_broadcast(&t.changed);
    pthread_mutex_unlock(&t.lock);
}

static void wait_for(const unsigned *counter, unsigned n)
{
    pthread_mutex_lock(&t.lock);
    while (*counter < n)
        pthread_cond_wait(&t.changed, &t.lock);
    pthread_mutex_unlock(&t.lock);
}

static unsigned value_of(const unsigned *counter)
{
    pthread_mutex_lock(&t.lock);
    unsigned v = *counter;
    pthread_mutex_unlock(&t.lock);
    return v;
}

static enum call_result t_fast(struct call *c)
{
    bump(&t.fast_runs);
    reply_bulk(c->reply, c->argv[1]);
    return CALL_DONE;
}

static void fake_finish(struct pending *p, struct reply *r)
{
    struct fake *f = mpsc_entry(p, struct fake, p);
    reply_bulk(r, bytes_of(f->text, f->n));
    bump(&t.finished);
}

static void fake_release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct fake, p));
    bump(&t.released);
}

static enum call_result t_pend(struct call *c)
{
    struct fake *f = mem_zalloc(sizeof *f);
    if (!f)
        return call_error(c, ERR_OOM);
    f->n = c->argv[1].n;
    memcpy(f->text, c->argv[1].p, f->n);
    call_pending(c, &f->p, fake_finish, fake_release);
    pthread_mutex_lock(&t.lock);
    t.waiting[t.started++] = f;
    pthread_cond_broadcast(&t.changed);
    pthread_mutex_unlock(&t.lock);
    return CALL_PENDING;
}

static enum call_result t_pend_or_not(struct call *c)
{
    return c->argc == 2 ? t_pend(c) : call_errorf(c, ERR_SYNTAX, "answered at once");
}

/* Parks until the test says so; counts how often it was dispatched. */
static enum call_result t_park(struct call *c)
{
    int go_on = atomic_load(&t.unparked);
    enum call_result r = CALL_DONE;
    if (go_on)
        reply_bulk(c->reply, c->argv[1]);
    else
        r = call_park(c, t.parking);
    bump(&t.park_runs);
    return r;
}

static enum call_result t_big(struct call *c)
{
    int64_t n = 0;
    uint8_t *room;
    assert_true(number_parse(c->argv[1], &n));
    if (reply_bulk_begin(c->reply, (size_t)n, &room))
        return CALL_DONE;
    memset(room, 'x', (size_t)n);
    reply_bulk_end(c->reply);
    return CALL_DONE;
}

static enum call_result t_args(struct call *c)
{
    reply_array(c->reply, c->argc);
    for (unsigned i = 0; i < c->argc; i++)
        reply_bulk(c->reply, c->argv[i]);
    return CALL_DONE;
}

static enum call_result t_monitor(struct call *c)
{
    monitor_add(c);
    return CALL_DONE;
}

/* Stops the I/O thread until the test opens the gate. */
static enum call_result t_gate(struct call *c)
{
    bump(&t.at_gate);
    wait_for(&t.gate_open, 1);
    reply_ok(c->reply);
    return CALL_DONE;
}

/* Notes how many T.FAST there have been. */
static enum call_result t_mark(struct call *c)
{
    pthread_mutex_lock(&t.lock);
    t.mark = t.fast_runs;
    pthread_mutex_unlock(&t.lock);
    reply_ok(c->reply);
    return CALL_DONE;
}

/* ---- the server ---- */

#define THREADS 2

struct fixture {
    struct server srv;
    struct io *io[THREADS];
    const char *settings[8]; /* name, value ... */
};

static void start(struct fixture *f, const char *const *settings)
{
    memset(f, 0, sizeof *f);
    log_set_level(LOG_NOTHING);
    assert_int_equal(config_new(&f->srv.config), ERR_OK);
    for (unsigned i = 0; settings && settings[i]; i += 2)
        assert_int_equal(config_put(f->srv.config, settings[i], settings[i + 1]), ERR_OK);
    assert_int_equal(acl_new(&f->srv.acl), ERR_OK);
    assert_int_equal(slowlog_new(&f->srv.slowlog, f->srv.config), ERR_OK);
    assert_int_equal(waitlist_new(&f->srv.paused), ERR_OK);
    assert_int_equal(waitlist_new(&t.parking), ERR_OK);
    t.started = t.released = t.finished = t.fast_runs = t.park_runs = t.at_gate = t.gate_open = t.mark = 0;
    atomic_store(&t.unparked, 0);
    f->srv.io = f->io;
    f->srv.io_count = THREADS;
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(io_new(&f->io[i], &f->srv, i), ERR_OK);
    for (unsigned i = 0; i < THREADS; i++) {
        event_del(&f->io[i]->tick_ev); /* it would hide a wake-up that is missing */
        assert_int_equal(io_start(f->io[i]), ERR_OK);
    }
}

static void stop_threads(struct fixture *f)
{
    uint64_t deadline = clock_mono_us() + 20000000;
    for (unsigned i = 0; i < THREADS; i++)
        io_stop(f->io[i], deadline);
    for (unsigned i = 0; i < THREADS; i++)
        io_join(f->io[i]);
}

static void free_all(struct fixture *f)
{
    io_free_all(&f->srv);
    assert_int_equal(f->srv.clients, 0);
    waitlist_free(t.parking);
    waitlist_free(f->srv.paused);
    slowlog_free(f->srv.slowlog);
    acl_free(f->srv.acl);
    config_free(f->srv.config);
}

static void stop(struct fixture *f)
{
    stop_threads(f);
    free_all(f);
}

/* ---- a client ---- */

struct client {
    int fd;
    struct tls_conn *tls; /* NULL: plain */
    struct buf in;
    struct answer_parser parser;
};

static void client_open_as(struct fixture *f, struct client *c, unsigned io, enum io_transport transport)
{
    int sv[2];
    struct timeval patience = {.tv_sec = 20};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    assert_int_equal(fcntl(sv[0], F_SETFL, O_NONBLOCK), 0);
    setsockopt(sv[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    atomic_fetch_add(&f->srv.clients, 1);
    if (transport == IO_TLS)
        atomic_fetch_add(&f->srv.handshakes, 1);
    assert_int_equal(io_adopt(f->io[io], sv[0], transport), ERR_OK);
    c->fd = sv[1];
    c->tls = NULL;
    buf_init(&c->in, SIZE_MAX / 4);
    answer_parser_init(&c->parser, &answer_default_limits, 0);
}

static void client_open(struct fixture *f, struct client *c, unsigned io)
{
    client_open_as(f, c, io, IO_UNIX);
}

static void client_close(struct client *c)
{
    tls_conn_free(c->tls);
    if (c->fd >= 0)
        close(c->fd);
    buf_fini(&c->in);
    answer_parser_fini(&c->parser);
}

static void say_bytes(struct client *c, const void *p, size_t n)
{
    while (n) {
        ssize_t got = c->tls ? tls_write(c->tls, p, n) : send(c->fd, p, n, MSG_NOSIGNAL);
        assert_true(got > 0);
        p = (const char *)p + got;
        n -= (size_t)got;
    }
}

static void say(struct client *c, const char *inline_commands)
{
    say_bytes(c, inline_commands, strlen(inline_commands));
}

/* The next answer; NULL at end of file. */
static const struct answer *hear(struct client *c)
{
    for (;;) {
        size_t used;
        enum answer_status s = answer_parse(&c->parser, buf_bytes(&c->in), &used);
        buf_consume(&c->in, used);
        if (s == ANSWER_READY)
            return c->parser.root;
        assert_int_equal(s, ANSWER_MORE);
        uint8_t *room;
        assert_int_equal(buf_reserve(&c->in, 65536, &room), ERR_OK);
        ssize_t n = c->tls ? tls_read(c->tls, room, 65536) : read(c->fd, room, 65536);
        assert_true(n >= 0 || errno == ECONNRESET);
        if (n <= 0)
            return NULL;
        buf_added(&c->in, (size_t)n);
    }
}

static void expect(struct client *c, const char *text)
{
    const struct answer *a = hear(c);
    assert_non_null(a);
    assert_int_equal(a->text.n, strlen(text));
    assert_memory_equal(a->text.p, text, a->text.n);
}

static void expect_end(struct client *c)
{
    assert_null(hear(c));
}

static void complete(unsigned i)
{
    pending_complete(&t.waiting[i]->p);
}

/* Once round the I/O thread: what it was doing before is done. */
static void ping_round(struct fixture *f, unsigned io)
{
    struct client other;
    client_open(f, &other, io);
    say(&other, "PING\r\n");
    expect(&other, "PONG");
    client_close(&other);
}

/* A thread that completes what was started, newest first, until *over. */
__attribute__((unused)) static void *completer(void *arg)
{
    unsigned done = 0, to = 0;
    int *over = arg, end;
    do {
        pthread_mutex_lock(&t.lock);
        while (t.started <= done && !*over)
            pthread_cond_wait(&t.changed, &t.lock);
        to = t.started;
        end = *over;
        pthread_mutex_unlock(&t.lock);
        for (unsigned i = to; i > done; i--)
            complete(i - 1);
        done = to;
    } while (!end);
    return NULL;
}

#endif
