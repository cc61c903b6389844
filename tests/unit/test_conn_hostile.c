/* Connections whose client means harm, or does not care: what they can make the server keep, and what they can get at
 * without logging in. */
#include "tests/unit/conn_fixture.h"

static size_t reserved_bytes(void)
{
    struct mem_secret_stats s;
    mem_secret_stats(&s);
    return s.reserved_bytes;
}

/* Sends again and again until the socket takes no more, or `most` times. How many whole pieces were sent; the rest of a
 * last one is sent later by finish_piece(). */
static unsigned flood(struct client *c, const char *piece, unsigned most, size_t *rest)
{
    size_t n = strlen(piece);
    *rest = 0;
    for (unsigned i = 0; i < most; i++) {
        for (int tries = 0;; tries++) { /* a full socket is not yet a server that has stopped reading */
            ssize_t got = send(c->fd, piece, n, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (got == (ssize_t)n)
                break;
            if (got > 0) {
                *rest = n - (size_t)got;
                return i;
            }
            assert_int_equal(errno, EAGAIN);
            if (tries == 2000)
                return i;
            sched_yield();
        }
    }
    return most;
}

/* Two bytes in, fifty out: once whoever could reach the port filled the memory with answers it never read. */
static void before_auth_unread_answers_are_bounded(void **state)
{
    enum { MOST = 4000, COMMANDS = 2000 };
    struct fixture f;
    struct client c;
    char piece[2 * COMMANDS + 1];
    size_t rest;
    (void)state;
    for (unsigned i = 0; i < COMMANDS; i++)
        memcpy(piece + 2 * i, "a\n", 3);
    start(&f, NULL);
    assert_int_equal(acl_set_default_password(f.srv.acl, bytes_str("sesame")), ERR_OK);
    client_open(&f, &c, 0);
    size_t before = reserved_bytes();
    unsigned sent = flood(&c, piece, MOST, &rest);
    assert_true(sent < MOST); /* it stopped reading */
    assert_true(reserved_bytes() - before < 1u << 20);
    say_bytes(&c, piece + sizeof piece - 1 - rest, rest);
    for (unsigned i = 0; i < (sent + (rest > 0)) * COMMANDS; i++) /* nothing is lost once the client reads */
        expect(&c, "ERR unknown command 'a', with args beginning with: ");
    say(&c, "AUTH sesame\r\nT.FAST x\r\n");
    expect(&c, "OK");
    expect(&c, "x");
    client_close(&c);
    stop(&f);
}

static void unread_answers_hold_their_client(void **state)
{
    enum { ANSWERS = 200, BYTES = 1000000 };
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    size_t before = reserved_bytes();
    for (unsigned i = 0; i < ANSWERS; i++)
        say(&c, "T.BIG 1000000\r\n");
    say(&c, "T.FAST last\r\n");
    for (unsigned i = 0; i < 2 * ANSWERS; i++) /* its turns, if it had any */
        ping_round(&f, 0);
    assert_int_equal(value_of(&t.fast_runs), 0);
    assert_true(reserved_bytes() - before < 4u * CONN_UNREAD_BYTES);
    for (unsigned i = 0; i < ANSWERS; i++) {
        const struct answer *a = hear(&c);
        assert_non_null(a);
        assert_int_equal(a->text.n, BYTES);
    }
    expect(&c, "last");
    client_close(&c);
    stop(&f);
}

static void one_answer_has_a_limit(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.BIG 300000000\r\nT.FAST x\r\n");
    expect(&c, "TOOBIG the answer has more than 256 MiB: ask for less at a time");
    expect(&c, "x");
    client_close(&c);
    stop(&f);
}

/* As ping_round, for a server with a password. */
static void auth_round(struct fixture *f)
{
    struct client other;
    client_open(f, &other, 0);
    say(&other, "AUTH sesame\r\n");
    expect(&other, "OK");
    client_close(&other);
}

/* A little of a request, from many: what each costs in locked memory before it has logged in. */
static void before_auth_half_a_request_is_cheap(void **state)
{
    enum { CLIENTS = 64 };
    struct fixture f;
    struct client c[CLIENTS];
    (void)state;
    start(&f, NULL);
    assert_int_equal(acl_set_default_password(f.srv.acl, bytes_str("sesame")), ERR_OK);
    size_t before = reserved_bytes();
    for (unsigned i = 0; i < CLIENTS; i++) {
        client_open(&f, &c[i], 0);
        say(&c[i], "*2\r\n$4\r\nAU");
    }
    auth_round(&f);
    for (unsigned i = 0; i < CLIENTS; i++)
        say(&c[i], "T");
    auth_round(&f);
    assert_true(reserved_bytes() - before <= 1u << 20);
    for (unsigned i = 0; i < CLIENTS; i++) {
        say(&c[i], "H\r\n$6\r\nsesame\r\n");
        expect(&c[i], "OK");
        client_close(&c[i]);
    }
    stop(&f);
}

/* Cross-protocol scripting: a web page can make a browser post to a port of its machine. */
static void http_goes_at_once(void **state)
{
    static const char *const requests[] = {"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nT.FAST evil\r\n",
                                           "GET / HTTP/1.1\r\nhost: localhost\r\n\r\nT.FAST evil\r\n",
                                           "PUT / HTTP/1.1\r\nHost: localhost\r\n\r\nT.FAST evil\r\n"};
    struct fixture f;
    (void)state;
    start(&f, NULL);
    for (unsigned i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        struct client c;
        client_open(&f, &c, 0);
        say(&c, requests[i]);
        expect_end(&c);
        client_close(&c);
    }
    assert_int_equal(value_of(&t.fast_runs), 0);
    stop(&f);
}

static void pendings_of_a_client_are_bounded(void **state)
{
    enum { COMMANDS = 3000 };
    struct fixture f;
    struct client c;
    char text[64];
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    for (unsigned i = 0; i < COMMANDS; i++) {
        snprintf(text, sizeof text, "T.WRITE %u\r\n", i);
        say(&c, text);
    }
    wait_for(&t.started, CONN_PENDINGS);
    ping_round(&f, 0);
    assert_int_equal(value_of(&t.started), CONN_PENDINGS);
    for (unsigned i = 0; i < COMMANDS; i++) {
        wait_for(&t.started, i + 1);
        complete(i);
    }
    for (unsigned i = 0; i < COMMANDS; i++) {
        snprintf(text, sizeof text, "%u", i);
        expect(&c, text);
    }
    wait_for(&t.released, COMMANDS);
    assert_int_equal(atomic_load(&f.srv.pending_bytes), 0);
    client_close(&c);
    stop(&f);
}

/* Who writes, goes, and comes again leaves its writes behind: they count until they are done. */
static void writes_that_clients_left_behind_count(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.WRITE left\r\n");
    wait_for(&t.started, 1);
    client_close(&c);
    ping_round(&f, 0);
    assert_true(atomic_load(&f.srv.pending_bytes) > 0);
    atomic_fetch_add(&f.srv.pending_bytes, IO_PENDING_BYTES);
    client_open(&f, &c, 0);
    say(&c, "T.WRITE x\r\nT.FAST read\r\n");
    expect(&c, "THROTTLED too many writes wait for the disk: try again");
    expect(&c, "read");
    atomic_fetch_sub(&f.srv.pending_bytes, IO_PENDING_BYTES);
    complete(0);
    wait_for(&t.released, 1);
    assert_int_equal(atomic_load(&f.srv.pending_bytes), 0);
    say(&c, "T.WRITE y\r\n");
    wait_for(&t.started, 2);
    complete(1);
    expect(&c, "y");
    client_close(&c);
    stop(&f);
}

/* A pause ends by the monotonic clock: set back, the wall clock once held everybody for ever. */
static void a_pause_ends_though_the_clock_is_set_back(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    clock_test_set_wall_ms(1800000000000);
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "CLIENT PAUSE 30 ALL\r\n");
    expect(&c, "OK");
    clock_test_set_wall_ms(1700000000000);
    say(&c, "T.FAST x\r\n");
    expect(&c, "x");
    say(&c, "CLIENT PAUSE 9223372036854775807\r\n");
    expect(&c, "ERR timeout is not an integer or out of range");
    client_close(&c);
    stop(&f);
    clock_test_set_wall_ms(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(before_auth_unread_answers_are_bounded),
        cmocka_unit_test(unread_answers_hold_their_client),
        cmocka_unit_test(one_answer_has_a_limit),
        cmocka_unit_test(before_auth_half_a_request_is_cheap),
        cmocka_unit_test(http_goes_at_once),
        cmocka_unit_test(pendings_of_a_client_are_bounded),
        cmocka_unit_test(writes_that_clients_left_behind_count),
        cmocka_unit_test(a_pause_ends_though_the_clock_is_set_back),
    };
    (void)completer;
    assert_int_equal(mem_init(0), ERR_OK);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
