/* Connections over TLS: what is different from plain ones is around the socket, so that is what is tried here. */
#include "tests/unit/conn_fixture.h"
#include "tests/unit/tls_fixture.h"

static struct party server, client;

static void start_tls(struct fixture *f, const char *const *settings)
{
    start(f, settings);
    party_open(&server, "server");
    party_open(&client, "client");
    f->srv.tls = server.tls;
}

static void stop_tls(struct fixture *f)
{
    stop(f);
    assert_int_equal(f->srv.handshakes, 0);
    party_close(&server);
    party_close(&client);
}

static void client_open_tls(struct fixture *f, struct client *c, unsigned io, struct party *as)
{
    client_open_as(f, c, io, IO_TLS);
    assert_int_equal(tls_client_new(as->tls, c->fd, "localhost", &c->tls), ERR_OK);
    if (tls_handshake(c->tls))
        fail_msg("%s", tls_error(c->tls));
}

/* ---- bytes ---- */

static void commands_are_answered(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start_tls(&f, NULL);
    client_open_tls(&f, &c, 0, &client);
    say(&c, "PING\r\nT.FAST x\r\n");
    expect(&c, "PONG");
    expect(&c, "x");
    say(&c, "*2\r\n$4\r\nEC");
    ping_round(&f, 0);
    say(&c, "HO\r\n$3\r\nabc\r\n");
    expect(&c, "abc");
    say(&c, "T.BIG 5000000\r\nQUIT\r\n");
    assert_int_equal(hear(&c)->text.n, 5000000);
    expect(&c, "OK");
    expect_end(&c);
    assert_int_equal(STATS_SUM(&f.srv, tls_handshakes), 1);
    assert_int_equal(STATS_SUM(&f.srv, tls_handshakes_failed), 0);
    client_close(&c);
    stop_tls(&f);
}

/* Sends all of that and hears so many answers, whichever goes. */
static void pump(struct client *c, const struct buf *all, unsigned answers, size_t each)
{
    size_t sent = 0;
    assert_int_equal(fcntl(c->fd, F_SETFL, O_NONBLOCK), 0);
    while (answers) {
        size_t used;
        uint8_t *room;
        ssize_t n = 0;
        if (sent < buf_size(all) && (n = tls_write(c->tls, buf_data(all) + sent, buf_size(all) - sent)) > 0)
            sent += (size_t)n;
        assert_true(n >= 0 || errno == EAGAIN);
        assert_int_equal(buf_reserve(&c->in, 65536, &room), ERR_OK);
        n = tls_read(c->tls, room, 65536);
        assert_true(n > 0 || (n < 0 && errno == EAGAIN));
        if (n > 0)
            buf_added(&c->in, (size_t)n);
        while (answers && answer_parse(&c->parser, buf_bytes(&c->in), &used) == ANSWER_READY) {
            assert_int_equal(c->parser.root->text.n, each);
            buf_consume(&c->in, used);
            answers--;
        }
        buf_consume(&c->in, answers ? used : 0);
    }
    assert_int_equal(sent, buf_size(all));
    assert_int_equal(fcntl(c->fd, F_SETFL, 0), 0);
}

/* More than sockets hold, in both directions at once. */
static void large_pipelines_both_ways(void **state)
{
    static const struct {
        unsigned commands;
        size_t bytes;
    } tries[] = {{50000, 10}, {3000, 5000}, {60, 300000}};
    struct fixture f;
    struct client c;
    struct buf all;
    (void)state;
    start_tls(&f, NULL);
    client_open_tls(&f, &c, 0, &client);
    buf_init(&all, SIZE_MAX / 4);
    for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
        buf_clear(&all);
        for (unsigned k = 0; k < tries[i].commands; k++) {
            uint8_t *room;
            assert_int_equal(buf_putf(&all, "*2\r\n$4\r\nECHO\r\n$%zu\r\n", tries[i].bytes), ERR_OK);
            assert_int_equal(buf_reserve(&all, tries[i].bytes + 2, &room), ERR_OK);
            memset(room, 'v', tries[i].bytes);
            memcpy(room + tries[i].bytes, "\r\n", 2);
            buf_added(&all, tries[i].bytes + 2);
        }
        pump(&c, &all, tries[i].commands, tries[i].bytes);
    }
    buf_fini(&all);
    client_close(&c);
    stop_tls(&f);
}

/* A record is larger than the room that there is for one who has not logged in, so its rest waits inside of OpenSSL, of
 * which no event tells. */
static void what_waits_inside_is_read_before_auth(void **state)
{
    enum { COMMANDS = 140 }; /* no more than one turn's share: going on with the rest would bring the bytes to light */
    static const char word[] = "a-word-of-a-hundred-bytes-that-is-long-enough-for-few-of-them-to-fill-the-room-of-one-"
                               "who-is-not-known-yet";
    struct fixture f;
    struct client c;
    char rest[16384];
    size_t n = 0;
    (void)state;
    start_tls(&f, NULL);
    assert_int_equal(acl_set_default_password(f.srv.acl, bytes_str("sesame")), ERR_OK);
    client_open_tls(&f, &c, 0, &client);
    say(&c, "*2\r\n$4\r\nAU");
    while (STATS_SUM(&f.srv, reads) < 1)
        sched_yield();
    n += (size_t)snprintf(rest, sizeof rest, "TH\r\n$6\r\nsesame\r\n");
    for (unsigned i = 0; i < COMMANDS; i++)
        n += (size_t)snprintf(rest + n, sizeof rest - n, "T.FAST %s\r\n", word);
    assert_true(n < sizeof rest - 1);
    say_bytes(&c, rest, n);
    expect(&c, "OK");
    for (unsigned i = 0; i < COMMANDS; i++)
        expect(&c, word);
    client_close(&c);
    stop_tls(&f);
}

/* A connection that waits stops reading; what came meanwhile is there when it goes on. */
static void what_waits_inside_is_read_after_a_wait(void **state)
{
    enum { COMMANDS = 20000 };
    struct fixture f;
    struct client c;
    struct buf all;
    (void)state;
    start_tls(&f, NULL);
    client_open_tls(&f, &c, 0, &client);
    buf_init(&all, SIZE_MAX / 4);
    assert_int_equal(buf_putf(&all, "T.WRITE 0123456789\r\n"), ERR_OK);
    for (unsigned i = 0; i < COMMANDS; i++)
        assert_int_equal(buf_putf(&all, "T.FAST 0123456789\r\n"), ERR_OK);
    say_bytes(&c, buf_data(&all), 150000); /* what sockets and the read-ahead take */
    wait_for(&t.started, 1);
    while (STATS_SUM(&f.srv, net_in_bytes) < CONN_READ_AHEAD_BYTES)
        sched_yield();
    ping_round(&f, 0);
    assert_int_equal(value_of(&t.fast_runs), 0);
    complete(0);
    buf_consume(&all, 150000);
    pump(&c, &all, COMMANDS + 1, 10);
    buf_fini(&all);
    client_close(&c);
    stop_tls(&f);
}

/* printf | openssl s_client: what was sent before the goodbye is answered. */
static void a_goodbye_is_an_end_of_input(void **state)
{
    struct fixture f;
    struct client c;
    char byte;
    ssize_t n, heard = 0;
    (void)state;
    start_tls(&f, NULL);
    client_open_tls(&f, &c, 0, &client);
    say(&c, "T.FAST a\r\nT.FAST b\r\nT.WRITE c\r\n");
    tls_conn_free(c.tls);
    c.tls = NULL;
    wait_for(&t.started, 1);
    complete(0);
    while ((n = read(c.fd, &byte, 1)) > 0)
        heard++;
    assert_int_equal(n, 0);
    assert_true(heard > 0);
    assert_int_equal(value_of(&t.fast_runs), 2);
    assert_int_equal(value_of(&t.finished), 1);
    client_close(&c);
    stop_tls(&f);
}

/* ---- handshakes ---- */

static void relay(int from, int to)
{
    char bytes[8192];
    ssize_t n = recv(from, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n > 0)
        assert_int_equal(send(to, bytes, (size_t)n, MSG_NOSIGNAL), n);
}

struct looking {
    struct io_task task;
    unsigned seen, blocked; /* `blocked`: half-open connections that wait for their socket to take bytes */
};

static void look(struct io_task *task, struct io *io)
{
    struct looking *l = mpsc_entry(task, struct looking, task);
    for (struct conn *c = io->conns; c; c = c->next)
        l->blocked += c->handshake && c->writing;
    bump(&l->seen);
}

static unsigned blocked_handshakes(struct fixture *f)
{
    struct looking l = {.task.run = look};
    io_post(f->io[0], &l.task);
    wait_for(&l.seen, 1);
    return l.blocked;
}

/* The socket takes nothing when the server wants to send its part of the handshake. */
static void a_handshake_that_must_wait_to_write(void **state)
{
    struct fixture f;
    struct client c = {.fd = -1};
    char filler[1024] = {0};
    int far[2], near[2]; /* the server's connection; the client's; the test carries bytes between them */
    size_t filled = 0;
    ssize_t n;
    enum err e;
    (void)state;
    start_tls(&f, NULL);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, far), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, near), 0);
    while ((n = send(far[0], filler, sizeof filler, MSG_NOSIGNAL)) > 0)
        filled += (size_t)n;
    atomic_fetch_add(&f.srv.clients, 1);
    atomic_fetch_add(&f.srv.handshakes, 1);
    assert_int_equal(io_adopt(f.io[0], far[0], IO_TLS), ERR_OK);
    assert_int_equal(tls_client_new(client.tls, near[0], NULL, &c.tls), ERR_OK);
    assert_int_equal(tls_handshake(c.tls), ERR_AGAIN);
    relay(near[1], far[1]);
    while (!blocked_handshakes(&f))
        sched_yield();
    while (filled) {
        n = recv(far[1], filler, filled < sizeof filler ? filled : sizeof filler, 0);
        assert_true(n > 0);
        filled -= (size_t)n;
    }
    while ((e = tls_handshake(c.tls)) == ERR_AGAIN) {
        relay(near[1], far[1]);
        relay(far[1], near[1]);
    }
    assert_int_equal(e, ERR_OK);
    while (STATS_SUM(&f.srv, tls_handshakes) < 1)
        relay(near[1], far[1]);
    tls_conn_free(c.tls);
    close(near[0]);
    close(near[1]);
    close(far[1]);
    stop_tls(&f);
}

/* More than a thread takes steps for in a turn. */
static void many_at_once(void **state)
{
    enum { CLIENTS = 40 };
    struct fixture f;
    struct client c[CLIENTS];
    unsigned up = 0;
    (void)state;
    start_tls(&f, NULL);
    for (unsigned i = 0; i < CLIENTS; i++) {
        client_open_as(&f, &c[i], i % THREADS, IO_TLS);
        assert_int_equal(fcntl(c[i].fd, F_SETFL, O_NONBLOCK), 0);
        assert_int_equal(tls_client_new(client.tls, c[i].fd, "localhost", &c[i].tls), ERR_OK);
    }
    while (up < CLIENTS) {
        up = 0;
        for (unsigned i = 0; i < CLIENTS; i++) {
            enum err e = tls_handshake(c[i].tls);
            assert_true(e == ERR_OK || e == ERR_AGAIN);
            up += e == ERR_OK;
        }
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        assert_int_equal(fcntl(c[i].fd, F_SETFL, 0), 0);
        say(&c[i], "T.FAST x\r\n");
        expect(&c[i], "x");
        client_close(&c[i]);
    }
    assert_int_equal(STATS_SUM(&f.srv, tls_handshakes), CLIENTS);
    stop_tls(&f);
}

static void what_is_no_handshake(void **state)
{
    static const char *const said[] = {"PING\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01", ""};
    struct fixture f;
    struct client c;
    char byte;
    (void)state;
    start_tls(&f, NULL);
    for (unsigned i = 0; i < 4; i++) {
        client_open_as(&f, &c, 0, IO_TLS);
        say(&c, said[i]);
        shutdown(c.fd, SHUT_WR);
        while (read(c.fd, &byte, 1) > 0) { /* an alert, maybe */
        }
        while (STATS_SUM(&f.srv, tls_handshakes_failed) < i + 1)
            sched_yield();
        client_close(&c);
    }
    assert_int_equal(value_of(&t.fast_runs), 0);
    stop_tls(&f);
}

struct ageing {
    struct io_task task;
    uint64_t by_ms;
    unsigned done;
};

static void age(struct io_task *task, struct io *io)
{
    struct ageing *a = mpsc_entry(task, struct ageing, task);
    for (struct conn *c = io->conns, *next; c; c = next) {
        next = c->next;
        c->created_ms -= a->by_ms;
        conn_check_limits(c);
    }
    bump(&a->done);
}

/* As if so much time had gone by, and the clock had ticked. */
static void let_time_pass(struct fixture *f, uint64_t ms)
{
    struct ageing a = {.task.run = age, .by_ms = ms};
    io_post(f->io[0], &a.task);
    wait_for(&a.done, 1);
}

static void who_takes_too_long(void **state)
{
    struct fixture f;
    struct client slow, up;
    (void)state;
    start_tls(&f, NULL);
    client_open_tls(&f, &up, 0, &client);
    say(&up, "T.FAST x\r\n");
    expect(&up, "x");
    client_open_as(&f, &slow, 0, IO_TLS);
    let_time_pass(&f, 9000);
    assert_int_equal(STATS_SUM(&f.srv, tls_handshakes_failed), 0);
    let_time_pass(&f, 2000);
    expect_end(&slow);
    client_close(&slow);
    client_open_as(&f, &slow, 0, IO_TLS);
    let_time_pass(&f, 3000);
    assert_int_equal(STATS_SUM(&f.srv, tls_handshakes_failed), 1);
    atomic_fetch_add(&f.srv.handshakes, IO_HANDSHAKES / 2); /* a crowd */
    let_time_pass(&f, 0);
    atomic_fetch_sub(&f.srv.handshakes, IO_HANDSHAKES / 2);
    expect_end(&slow);
    client_close(&slow);
    assert_int_equal(STATS_SUM(&f.srv, tls_handshakes_failed), 2);
    say(&up, "T.FAST y\r\n"); /* whoever is through has all the time */
    expect(&up, "y");
    client_close(&up);
    stop_tls(&f);
}

static void stopping_does_not_wait_for_handshakes(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start_tls(&f, NULL);
    client_open_as(&f, &c, 0, IO_TLS);
    say(&c, "\x16\x03\x01");
    ping_round(&f, 0);
    stop_tls(&f);
    client_close(&c);
}

/* ---- users ---- */

static void set_user(struct fixture *f, const char *name, const char *rule)
{
    struct acl_fault why;
    const struct bytes words[] = {bytes_str(name), bytes_str("+@all"), bytes_str("~*"), bytes_str(rule)};
    assert_int_equal(acl_set(f->srv.acl, words, 4, &why), ERR_OK);
}

static void a_certificate_is_a_login(void **state)
{
    static const char *const settings[] = {"tls-auth-clients-user", "CN", NULL};
    struct fixture f;
    struct client c;
    struct party other;
    (void)state;
    start_tls(&f, settings);
    party_open(&other, "server"); /* a name that is no user's */
    assert_int_equal(acl_set_default_password(f.srv.acl, bytes_str("sesame")), ERR_OK);
    set_user(&f, "ann", "on");
    set_user(&f, "bob", ">pw");
    set_user(&f, "bob", "on");

    client_open_tls(&f, &c, 0, &client);
    say(&c, "T.FAST x\r\nRESET\r\nT.FAST y\r\nAUTH ann guess\r\nAUTH bob pw\r\nT.FAST z\r\n");
    expect(&c, "x");
    expect(&c, "RESET"); /* as just accepted */
    expect(&c, "y");
    expect(&c, "WRONGPASS invalid username-password pair or user is disabled.");
    expect(&c, "OK");
    expect(&c, "z");
    say(&c, "RESET\r\nT.FAST x\r\n");
    expect(&c, "RESET");
    expect(&c, "x");
    set_user(&f, "ann", "off"); /* who is logged in stays it, as in Redis; nobody is from now on */
    say(&c, "T.FAST x\r\nRESET\r\nT.FAST y\r\n");
    expect(&c, "x");
    expect(&c, "RESET");
    expect(&c, "NOAUTH Authentication required.");
    client_close(&c);

    client_open_tls(&f, &c, 0, &client);
    say(&c, "T.FAST x\r\n");
    expect(&c, "NOAUTH Authentication required.");
    client_close(&c);
    client_open_tls(&f, &c, 0, &other);
    say(&c, "T.FAST x\r\n");
    expect(&c, "NOAUTH Authentication required.");
    client_close(&c);

    set_user(&f, "ann", "on");
    assert_int_equal(config_put(f.srv.config, "tls-auth-clients-user", "off"), ERR_OK);
    client_open_tls(&f, &c, 0, &client);
    say(&c, "T.FAST x\r\n");
    expect(&c, "NOAUTH Authentication required.");
    client_close(&c);
    party_close(&other);
    stop_tls(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_answered),
        cmocka_unit_test(large_pipelines_both_ways),
        cmocka_unit_test(what_waits_inside_is_read_before_auth),
        cmocka_unit_test(what_waits_inside_is_read_after_a_wait),
        cmocka_unit_test(a_goodbye_is_an_end_of_input),
        cmocka_unit_test(a_handshake_that_must_wait_to_write),
        cmocka_unit_test(many_at_once),
        cmocka_unit_test(what_is_no_handshake),
        cmocka_unit_test(who_takes_too_long),
        cmocka_unit_test(stopping_does_not_wait_for_handshakes),
        cmocka_unit_test(a_certificate_is_a_login),
    };
    return cmocka_run_group_tests(tests, tls_world, tls_world_end);
}
