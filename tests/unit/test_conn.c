/* Connections, dispatch, pending and parked commands, over socket pairs into real I/O threads, with a command table of
 * the test's own. */
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
                    COMMAND("T.PARK", 2, 0, 0, LANE_NONE, KEYS_NONE, 0, "test", "1", "", "", "", "", t_park)
                        COMMAND("T.BIG", 2, 0, 0, LANE_NONE, KEYS_NONE, 0, "test", "1", "", "", "", "", t_big)
                            COMMAND("T.ARGS", -1, 0, 0, LANE_NONE, KEYS_NONE, 0, "test", "1", "", "", "", "", t_args)
                                COMMAND("T.SECRET", -2, CMD_REDACT, 0, LANE_NONE, KEYS_NONE, 2, "test", "1", "", "", "",
                                        "", t_args) COMMAND("T.MONITOR", 1, CMD_ADMIN, 0, LANE_NONE, KEYS_NONE, 0,
                                                            "test", "1", "", "", "", "", t_monitor)
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
    unsigned started, released, finished, fast_runs, park_runs;
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
    assert_non_null(f);
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
    t.started = t.released = t.finished = t.fast_runs = t.park_runs = 0;
    atomic_store(&t.unparked, 0);
    f->srv.io = f->io;
    f->srv.io_count = THREADS;
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(io_new(&f->io[i], &f->srv, i), ERR_OK);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(io_start(f->io[i]), ERR_OK);
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
    struct buf in;
    struct answer_parser parser;
};

static void client_open(struct fixture *f, struct client *c, unsigned io)
{
    int sv[2];
    struct timeval patience = {.tv_sec = 20};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    assert_int_equal(fcntl(sv[0], F_SETFL, O_NONBLOCK), 0);
    setsockopt(sv[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    atomic_fetch_add(&f->srv.clients, 1);
    assert_int_equal(io_adopt(f->io[io], sv[0], IO_UNIX), ERR_OK);
    c->fd = sv[1];
    buf_init(&c->in, SIZE_MAX / 4);
    answer_parser_init(&c->parser, &answer_default_limits, 0);
}

static void client_close(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    buf_fini(&c->in);
    answer_parser_fini(&c->parser);
}

static void say_bytes(struct client *c, const void *p, size_t n)
{
    while (n) {
        ssize_t got = send(c->fd, p, n, MSG_NOSIGNAL);
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
        ssize_t n = read(c->fd, room, 65536);
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

/* ---- tests ---- */

static void answers_simple_commands(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "PING\r\nping hello\r\nECHO \"two words\"\r\n*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n");
    expect(&c, "PONG");
    expect(&c, "hello");
    expect(&c, "two words");
    expect(&c, "a\r\n");
    client_close(&c);
    stop(&f);
}

static void answers_errors_with_redis_texts(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "nosuch a b\r\nnosuch\r\nSECRET.PUT v p hunter2\r\nECHO\r\nclient\r\nclient foo\r\nCLIENT ID x\r\n");
    expect(&c, "ERR unknown command 'nosuch', with args beginning with: 'a' 'b' ");
    expect(&c, "ERR unknown command 'nosuch', with args beginning with: ");
    expect(&c, "ERR unknown command 'SECRET.PUT', with args beginning with: ");
    expect(&c, "ERR wrong number of arguments for 'echo' command");
    expect(&c, "ERR wrong number of arguments for 'client' command");
    expect(&c, "ERR unknown subcommand 'foo'. Try CLIENT HELP.");
    expect(&c, "ERR wrong number of arguments for 'client|id' command");
    client_close(&c);
    stop(&f);
}

static void pendings_answer_in_the_order_of_the_pipeline(void **state)
{
    struct fixture f;
    struct client c;
    char text[32];
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "T.WRITE w%u\r\n", i);
        say(&c, text);
    }
    wait_for(&t.started, 100);
    for (unsigned i = 0; i < 100; i++) /* every order but the right one */
        complete((i * 37 + 99) % 100);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "w%u", i);
        expect(&c, text);
    }
    client_close(&c);
    stop(&f);
    assert_int_equal(t.released, 100);
}

static void ping_round(struct fixture *f, unsigned io)
{
    struct client other;
    client_open(f, &other, io);
    say(&other, "PING\r\n");
    expect(&other, "PONG");
    client_close(&other);
}

static void a_command_of_another_lane_waits(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.WRITE a\r\nT.WRITE b\r\nT.FAST f1\r\nT.HSM h1\r\nT.HSM h2\r\nT.WRITE z\r\n");
    wait_for(&t.started, 2);
    ping_round(&f, 0); /* the thread is done with the pipeline by then */
    assert_int_equal(value_of(&t.fast_runs), 0);
    assert_int_equal(value_of(&t.started), 2);
    complete(1);
    ping_round(&f, 0);
    assert_int_equal(value_of(&t.fast_runs), 0);
    complete(0);
    expect(&c, "a");
    expect(&c, "b");
    expect(&c, "f1");
    wait_for(&t.started, 4);
    ping_round(&f, 0);
    assert_int_equal(value_of(&t.started), 4); /* z waits for both */
    complete(3);
    complete(2);
    expect(&c, "h1");
    expect(&c, "h2");
    wait_for(&t.started, 5);
    complete(4);
    expect(&c, "z");
    client_close(&c);
    stop(&f);
}

static void commands_alone_do_not_overlap(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.ALONE a\r\nT.ALONE b\r\n");
    wait_for(&t.started, 1);
    ping_round(&f, 0);
    assert_int_equal(value_of(&t.started), 1);
    complete(0);
    expect(&c, "a");
    wait_for(&t.started, 2);
    complete(1);
    expect(&c, "b");
    client_close(&c);
    stop(&f);
}

static void an_answer_at_once_waits_for_its_turn(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.MAYBE a\r\nT.MAYBE a b\r\nT.MAYBE c\r\nT.WRITE\r\nnosuch\r\n");
    wait_for(&t.started, 2);
    complete(1);
    ping_round(&f, 0);
    complete(0);
    expect(&c, "a");
    expect(&c, "ERR answered at once");
    expect(&c, "c");
    expect(&c, "ERR wrong number of arguments for 't.write' command");
    expect(&c, "ERR unknown command 'nosuch', with args beginning with: ");
    client_close(&c);
    stop(&f);
}

static void input_behind_a_held_command_survives(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.WRITE a\r\nT.ARGS \"in\\x41 quotes\" \"\\\\n\"\r\nT.FA");
    wait_for(&t.started, 1);
    ping_round(&f, 0);
    say(&c, "ST later\r\n");
    ping_round(&f, 0);
    complete(0);
    expect(&c, "a");
    const struct answer *a = hear(&c);
    assert_non_null(a);
    assert_int_equal(a->count, 3);
    assert_memory_equal(a->item[1]->text.p, "inA quotes", 10);
    assert_int_equal(a->item[2]->text.n, 2);
    assert_memory_equal(a->item[2]->text.p, "\\n", 2); /* escapes were resolved once, not twice */
    expect(&c, "later");
    client_close(&c);
    stop(&f);
}

static void parked_commands_run_again(void **state)
{
    struct fixture f;
    struct client a, b;
    (void)state;
    start(&f, NULL);
    client_open(&f, &a, 0);
    client_open(&f, &b, 1);
    say(&a, "T.PARK one\r\nT.FAST two\r\n");
    say(&b, "T.PARK three\r\n");
    wait_for(&t.park_runs, 2);
    waitlist_wake(t.parking); /* for nothing: both look, and park again */
    wait_for(&t.park_runs, 4);
    atomic_store(&t.unparked, 1);
    waitlist_wake(t.parking);
    expect(&a, "one");
    expect(&a, "two");
    expect(&b, "three");
    client_close(&a);
    client_close(&b);
    stop(&f);
}

/* The wake comes between the handler's look and its parking. */
static enum call_result late_park(struct call *c)
{
    int go_on = atomic_load(&t.unparked);
    if (go_on) {
        reply_ok(c->reply);
        return CALL_DONE;
    }
    atomic_store(&t.unparked, 1);
    waitlist_wake(t.parking);
    return call_park(c, t.parking);
}

static void a_wake_before_parking_is_not_lost(void **state)
{
    struct fixture f;
    struct conn *c;
    int sv[2];
    (void)state;
    start(&f, NULL);
    struct io *io;
    assert_int_equal(io_new(&io, &f.srv, 7), ERR_OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
    atomic_fetch_add(&f.srv.clients, 1);
    assert_int_equal(conn_new(io, sv[0], IO_UNIX, &c), ERR_OK);
    struct call call = {.srv = &f.srv, .io = io, .conn = c, .reply = &c->reply, .wakes = call_wakes()};
    assert_int_equal(late_park(&call), CALL_PARK);
    assert_null(c->park); /* not on the list: dispatch says DISPATCH_AGAIN */
    call.wakes = call_wakes();
    atomic_store(&t.unparked, 0);
    assert_int_equal(call_park(&call, t.parking), CALL_PARK);
    assert_non_null(c->park);
    conn_kill(c);
    io->dead = NULL;
    conn_free(c);
    close(sv[1]);
    waitlist_wake(t.parking); /* for a client that is gone; its entry is in io's queue now */
    struct mpsc_node *n = mpsc_take(&io->tasks);
    assert_non_null(n);
    struct io_task *task = mpsc_entry(n, struct io_task, node);
    task->run(task, io);
    io_free(io);
    stop(&f);
}

static void a_client_that_goes_leaves_its_pendings(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.BLOCK x\r\n");
    wait_for(&t.started, 1);
    client_close(&c); /* a blocking command is given up at once */
    client_open(&f, &c, 0);
    say(&c, "CLIENT LIST\r\n");
    for (;;) { /* until the first one is gone */
        const struct answer *a = hear(&c);
        assert_non_null(a);
        if (!memmem(a->text.p, a->text.n, "t.block", 7))
            break;
        say(&c, "CLIENT LIST\r\n");
    }
    assert_int_equal(value_of(&t.released), 0);
    complete(0);
    wait_for(&t.released, 1);
    assert_int_equal(t.finished, 0);
    client_close(&c);
    stop(&f);
}

static void a_pipeline_before_end_of_file_is_answered(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.WRITE a\r\nT.FAST b\r\n");
    shutdown(c.fd, SHUT_WR);
    wait_for(&t.started, 1);
    ping_round(&f, 0);
    complete(0);
    expect(&c, "a");
    expect(&c, "b");
    expect_end(&c);
    client_close(&c);
    stop(&f);
}

static void quit_answers_what_came_before(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.WRITE a\r\nQUIT\r\nT.FAST never\r\n");
    wait_for(&t.started, 1);
    complete(0);
    expect(&c, "a");
    expect(&c, "OK");
    expect_end(&c);
    assert_int_equal(t.fast_runs, 0);
    client_close(&c);
    stop(&f);
}

static void protocol_errors_come_after_pending_answers(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.WRITE a\r\n*1\r\n!x\r\n");
    wait_for(&t.started, 1);
    ping_round(&f, 0);
    complete(0);
    expect(&c, "a");
    expect(&c, "ERR Protocol error: expected '$', got '!'");
    expect_end(&c);
    client_close(&c);
    stop(&f);
}

static void a_big_pipeline_yields_and_keeps_order(void **state)
{
    struct fixture f;
    struct client c;
    struct buf b;
    char text[32];
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    buf_init(&b, SIZE_MAX / 4);
    for (unsigned i = 0; i < 5000; i++)
        assert_int_equal(buf_putf(&b, "*2\r\n$4\r\nECHO\r\n$5\r\n%05u\r\n", i), ERR_OK);
    int big = 1 << 20;
    setsockopt(c.fd, SOL_SOCKET, SO_SNDBUF, &big, sizeof big);
    say_bytes(&c, buf_data(&b), buf_size(&b));
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(text, sizeof text, "%05u", i);
        expect(&c, text);
    }
    buf_fini(&b);
    client_close(&c);
    stop(&f);
}

static void a_big_argument_arrives_in_pieces(void **state)
{
    struct fixture f;
    struct client c;
    size_t n = 3000000;
    char head[64];
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    uint8_t *big = malloc(n);
    assert_non_null(big);
    for (size_t i = 0; i < n; i++)
        big[i] = (uint8_t)(i * 7);
    snprintf(head, sizeof head, "*2\r\n$4\r\nECHO\r\n$%zu\r\n", n);
    say(&c, head);
    say_bytes(&c, big, n);
    say(&c, "\r\nPING\r\n");
    const struct answer *a = hear(&c);
    assert_non_null(a);
    assert_int_equal(a->text.n, n);
    assert_memory_equal(a->text.p, big, n);
    expect(&c, "PONG");
    free(big);
    client_close(&c);
    stop(&f);
}

static void answers_that_the_socket_does_not_take_are_kept(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.BIG 5000000\r\nT.BIG 5000000\r\nT.FAST x\r\n");
    wait_for(&t.fast_runs, 1); /* everything was carried out while nobody read */
    for (unsigned i = 0; i < 2; i++) {
        const struct answer *a = hear(&c);
        assert_non_null(a);
        assert_int_equal(a->text.n, 5000000);
    }
    expect(&c, "x");
    say(&c, "PING\r\n");
    expect(&c, "PONG");
    client_close(&c);
    stop(&f);
}

static void the_output_limit_closes(void **state)
{
    static const char *const settings[] = {"client-output-buffer-limit", "normal 1mb 0 0", NULL};
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, settings);
    client_open(&f, &c, 0);
    say(&c, "T.BIG 5000000\r\nT.FAST x\r\n");
    for (;;) {
        const struct answer *a = hear(&c);
        if (!a)
            break;
        assert_int_not_equal(a->text.n, 5000000);
    }
    assert_int_equal(STATS_SUM(&f.srv, obuf_closed), 1);
    client_close(&c);
    stop(&f);
}

static void the_query_limit_closes(void **state)
{
    static const char *const settings[] = {"client-query-buffer-limit", "1mb", NULL};
    struct fixture f;
    struct client c;
    static uint8_t zeros[65536];
    (void)state;
    start(&f, settings);
    client_open(&f, &c, 0);
    say(&c, "*2\r\n$4\r\nECHO\r\n$2000000\r\n");
    for (unsigned i = 0; i < 31; i++)
        if (send(c.fd, zeros, sizeof zeros, MSG_NOSIGNAL) <= 0)
            break;
    expect_end(&c);
    assert_int_equal(STATS_SUM(&f.srv, qbuf_closed), 1);
    client_close(&c);
    stop(&f);
}

static void before_auth_little_is_allowed(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    assert_int_equal(acl_set_default_password(f.srv.acl, bytes_str("sesame")), ERR_OK);
    client_open(&f, &c, 0);
    say(&c, "T.FAST x\r\nPING\r\nAUTH wrong\r\nAUTH default wrong\r\nHELLO 3\r\nAUTH sesame\r\nT.FAST y\r\n");
    expect(&c, "NOAUTH Authentication required.");
    expect(&c, "NOAUTH Authentication required.");
    expect(&c, "WRONGPASS invalid username-password pair or user is disabled.");
    expect(&c, "WRONGPASS invalid username-password pair or user is disabled.");
    expect(&c, "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH "
               "<user> <pass> option "
               "can be used to authenticate the client and select the RESP protocol version at the same time");
    expect(&c, "OK");
    expect(&c, "y");
    say(&c, "RESET\r\nT.FAST z\r\n*11\r\n");
    expect(&c, "RESET");
    expect(&c, "NOAUTH Authentication required.");
    expect(&c, "ERR Protocol error: unauthenticated multibulk length");
    expect_end(&c);
    client_close(&c);
    client_open(&f, &c, 0);
    say(&c, "*2\r\n$4\r\nECHO\r\n$20000\r\n");
    expect(&c, "ERR Protocol error: unauthenticated bulk length");
    expect_end(&c);
    client_close(&c);
    stop(&f);
}

static void a_changed_user_is_noticed(void **state)
{
    const struct bytes off[] = {bytes_str("ann"), bytes_str("off")};
    const struct bytes on[] = {bytes_str("ann"), bytes_str("on"), bytes_str(">pw"), bytes_str("+@all"),
                               bytes_str("~*")};
    const char *why;
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    assert_int_equal(acl_set_user(f.srv.acl, on, 5, &why), ERR_OK);
    client_open(&f, &c, 0);
    say(&c, "AUTH ann pw\r\nT.FAST x\r\n");
    expect(&c, "OK");
    expect(&c, "x");
    assert_int_equal(acl_set_user(f.srv.acl, off, 2, &why), ERR_OK);
    say(&c, "T.FAST x\r\nAUTH ann pw\r\n");
    expect(&c, "NOAUTH Authentication required.");
    expect(&c, "WRONGPASS invalid username-password pair or user is disabled.");
    client_close(&c);
    stop(&f);
}

static void hello_switches_the_protocol(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "HELLO 3 SETNAME me\r\nCLIENT GETNAME\r\nHELLO 2\r\nHELLO 4\r\nHELLO x\r\nHELLO 3 FOO\r\n");
    const struct answer *a = hear(&c);
    assert_non_null(a);
    assert_int_equal(a->type, ANSWER_MAP);
    assert_int_equal(answer_get(a, "proto")->integer, 3);
    expect(&c, "me");
    a = hear(&c);
    assert_non_null(a);
    assert_int_equal(a->type, ANSWER_ARRAY);
    assert_int_equal(a->count, 14);
    expect(&c, "NOPROTO unsupported protocol version");
    expect(&c, "ERR Protocol version is not an integer or out of range");
    expect(&c, "ERR Syntax error in HELLO option 'FOO'");
    client_close(&c);
    stop(&f);
}

static void client_kill_reaches_all_threads(void **state)
{
    struct fixture f;
    struct client a, b, c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &a, 0);
    client_open(&f, &b, 0);
    client_open(&f, &c, 1);
    say(&a, "PING\r\n");
    expect(&a, "PONG");
    say(&b, "PING\r\n");
    expect(&b, "PONG");
    say(&c, "CLIENT SETNAME sea\r\n");
    expect(&c, "OK");
    say(&a, "CLIENT LIST\r\n");
    const struct answer *list = hear(&a);
    assert_non_null(list);
    assert_non_null(memmem(list->text.p, list->text.n, " name=sea ", 10));
    assert_non_null(memmem(list->text.p, list->text.n, " cmd=client|list ", 17));
    say(&a, "CLIENT KILL TYPE normal\r\n");
    const struct answer *n = hear(&a);
    assert_non_null(n);
    assert_int_equal(n->integer, 2); /* not itself */
    expect_end(&b);
    expect_end(&c);
    say(&a, "CLIENT KILL TYPE normal SKIPME no\r\nPING\r\n");
    n = hear(&a);
    assert_non_null(n);
    assert_int_equal(n->integer, 1);
    expect_end(&a);
    client_close(&a);
    client_close(&b);
    client_close(&c);
    stop(&f);
}

static void client_reply_suppresses(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "CLIENT REPLY SKIP\r\nT.FAST no\r\nT.FAST yes\r\nCLIENT REPLY OFF\r\nT.WRITE no\r\nT.FAST no\r\nCLIENT "
            "REPLY ON\r\n");
    wait_for(&t.started, 1);
    complete(0);
    expect(&c, "yes");
    expect(&c, "OK");
    say(&c, "CLIENT REPLY SKIP\r\nT.WRITE no\r\nT.WRITE yes\r\n");
    wait_for(&t.started, 3);
    complete(1);
    complete(2);
    expect(&c, "yes");
    client_close(&c);
    stop(&f);
}

static void client_pause_holds_back(void **state)
{
    struct fixture f;
    struct client a, b;
    (void)state;
    start(&f, NULL);
    client_open(&f, &a, 0);
    client_open(&f, &b, 1);
    say(&a, "CLIENT PAUSE 100000 WRITE\r\n");
    expect(&a, "OK");
    say(&b, "T.FAST reads\r\nT.WRITE w\r\n");
    expect(&b, "reads");
    ping_round(&f, 1);
    assert_int_equal(value_of(&t.started), 0);
    say(&a, "CLIENT UNPAUSE\r\n");
    expect(&a, "OK");
    wait_for(&t.started, 1);
    complete(0);
    expect(&b, "w");
    say(&a, "CLIENT PAUSE 1\r\nPING\r\n"); /* ends by itself */
    expect(&a, "OK");
    expect(&a, "PONG");
    client_close(&a);
    client_close(&b);
    stop(&f);
}

static void monitor_redacts(void **state)
{
    struct fixture f;
    struct client m, c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &m, 1);
    client_open(&f, &c, 0);
    say(&m, "T.MONITOR\r\n");
    expect(&m, "OK");
    say(&c, "T.SECRET path hunter2 hunter3\r\nAUTH nobody hunter4\r\nECHO \"a\\x00b\"\r\n");
    for (unsigned i = 0; i < 3; i++) {
        const struct answer *a = hear(&m);
        static const char *const ends[] = {"] \"T.SECRET\" \"path\" \"(redacted)\" \"(redacted)\"",
                                           "] \"AUTH\" \"(redacted)\" \"(redacted)\"", "] \"ECHO\" \"a\\x00b\""};
        assert_non_null(a);
        size_t n = strlen(ends[i]);
        assert_true(a->text.n > n);
        assert_memory_equal(a->text.p + a->text.n - n, ends[i], n);
    }
    client_close(&m);
    client_close(&c);
    stop(&f);
}

static void slowlog_redacts(void **state)
{
    static const char *const settings[] = {"slowlog-log-slower-than", "0", NULL};
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, settings);
    client_open(&f, &c, 0);
    say(&c, "T.SECRET path hunter2\r\nT.WRITE w\r\n");
    assert_non_null(hear(&c));
    wait_for(&t.started, 1);
    complete(0);
    expect(&c, "w");
    struct buf b;
    struct reply r;
    buf_init(&b, SIZE_MAX / 4);
    reply_init(&r, &b, 2);
    assert_int_equal(slowlog_len(f.srv.slowlog), 2);
    slowlog_reply(f.srv.slowlog, 10, &r);
    assert_null(memmem(buf_data(&b), buf_size(&b), "hunter2", 7));
    assert_non_null(memmem(buf_data(&b), buf_size(&b), "T.SECRET", 8));
    assert_non_null(memmem(buf_data(&b), buf_size(&b), "t.write\r\n$1\r\nw\r\n", 16));
    buf_fini(&b);
    client_close(&c);
    stop(&f);
}

static void loading_and_sealed_refuse(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    atomic_store(&f.srv.loading, 1);
    say(&c, "PING\r\n");
    const struct answer *a = hear(&c);
    assert_non_null(a);
    assert_memory_equal(a->text.p, "LOADING ", 8);
    say(&c, "T.FAST x\r\n");
    a = hear(&c);
    assert_non_null(a);
    assert_memory_equal(a->text.p, "LOADING ", 8);
    atomic_store(&f.srv.loading, 0);
    atomic_store(&f.srv.sealed, 1);
    say(&c, "T.FAST x\r\nPING\r\n");
    a = hear(&c);
    assert_non_null(a);
    assert_memory_equal(a->text.p, "SEALED ", 7);
    expect(&c, "PONG");
    client_close(&c);
    stop(&f);
}

static void stopping_finishes_what_is_pending(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.WRITE a\r\n");
    wait_for(&t.started, 1);
    for (unsigned i = 0; i < THREADS; i++)
        io_stop(f.io[i], clock_mono_us() + 20000000);
    complete(0);
    expect(&c, "a");
    expect_end(&c);
    for (unsigned i = 0; i < THREADS; i++)
        io_join(f.io[i]);
    free_all(&f);
    client_close(&c);
}

/* Many connections, random completion by another thread, clients that come and go: for the sanitizers. */
static void *completer(void *arg)
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

static void clients_come_and_go(void **state)
{
    struct fixture f;
    pthread_t thread;
    int over = 0;
    (void)state;
    start(&f, NULL);
    assert_int_equal(pthread_create(&thread, NULL, completer, &over), 0);
    for (unsigned i = 0; i < 40; i++) {
        struct client c;
        char text[32];
        client_open(&f, &c, i % THREADS);
        for (unsigned k = 0; k < 25; k++) {
            snprintf(text, sizeof text, "T.%s %u\r\n", i % 3 ? "WRITE" : "HSM", k);
            say(&c, text);
        }
        for (unsigned k = 0; k < 25 && i % 4; k++) { /* every fourth does not listen */
            snprintf(text, sizeof text, "%u", k);
            expect(&c, text);
        }
        client_close(&c);
    }
    stop_threads(&f);
    pthread_mutex_lock(&t.lock);
    over = 1;
    pthread_cond_broadcast(&t.changed);
    pthread_mutex_unlock(&t.lock);
    pthread_join(thread, NULL); /* nothing starts any more; what was started comes back to threads that have ended */
    free_all(&f);
    assert_true(t.started >= 30 * 25);
    assert_int_equal(t.released, t.started);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_simple_commands),
        cmocka_unit_test(answers_errors_with_redis_texts),
        cmocka_unit_test(pendings_answer_in_the_order_of_the_pipeline),
        cmocka_unit_test(a_command_of_another_lane_waits),
        cmocka_unit_test(commands_alone_do_not_overlap),
        cmocka_unit_test(an_answer_at_once_waits_for_its_turn),
        cmocka_unit_test(input_behind_a_held_command_survives),
        cmocka_unit_test(parked_commands_run_again),
        cmocka_unit_test(a_wake_before_parking_is_not_lost),
        cmocka_unit_test(a_client_that_goes_leaves_its_pendings),
        cmocka_unit_test(a_pipeline_before_end_of_file_is_answered),
        cmocka_unit_test(quit_answers_what_came_before),
        cmocka_unit_test(protocol_errors_come_after_pending_answers),
        cmocka_unit_test(a_big_pipeline_yields_and_keeps_order),
        cmocka_unit_test(a_big_argument_arrives_in_pieces),
        cmocka_unit_test(answers_that_the_socket_does_not_take_are_kept),
        cmocka_unit_test(the_output_limit_closes),
        cmocka_unit_test(the_query_limit_closes),
        cmocka_unit_test(before_auth_little_is_allowed),
        cmocka_unit_test(a_changed_user_is_noticed),
        cmocka_unit_test(hello_switches_the_protocol),
        cmocka_unit_test(client_kill_reaches_all_threads),
        cmocka_unit_test(client_reply_suppresses),
        cmocka_unit_test(client_pause_holds_back),
        cmocka_unit_test(monitor_redacts),
        cmocka_unit_test(slowlog_redacts),
        cmocka_unit_test(loading_and_sealed_refuse),
        cmocka_unit_test(stopping_finishes_what_is_pending),
        cmocka_unit_test(clients_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
