/* tls.c - servers over TLS as operators and clients meet them: redis-cli, our own client side, and those that are none.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>

#include "base/clock.h"
#include "tests/lib/e2e.h"
#include "tests/unit/tls_fixture.h"

#define OURS                                                                                           \
    "--tls-port", "auto", "--tls-cert-file", PATH("server.crt"), "--tls-key-file", PATH("server.key"), \
        "--tls-ca-cert-file", world_ca
#define HALF_OPEN 600
#define RELOADS 60

static char world_ca[128];

static int setup(void **state)
{
    if (tls_world(state))
        return -1;
    snprintf(world_ca, sizeof world_ca, "%s", PATH("ca.crt"));
    return 0;
}

/* ---- clients ---- */

static int tcp(const char *host, int port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct timeval patience = {.tv_sec = E2E_SECONDS};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(inet_pton(AF_INET, host, &at.sin_addr), 1);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) != 0)
        fail_msg("connect %s:%d: %s", host, port, strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return fd;
}

/* The server closes it, whatever it says before. */
static void expect_closed(int fd)
{
    char bytes[512];
    ssize_t n;
    while ((n = read(fd, bytes, sizeof bytes)) > 0) {
    }
    if (n < 0 && errno != ECONNRESET)
        fail_msg("not closed: %s", strerror(errno));
    close(fd);
}

/* redis-cli with the certificate of that name (NULL: none), trusting that authority: what it printed, without the line
 * end. Static memory. */
static const char *cli(int port, const char *authority, const char *name, const char *command, const char *arg)
{
    static char out[4096];
    char text[16], cert[160], key[160];
    snprintf(text, sizeof text, "%d", port);
    snprintf(cert, sizeof cert, "%s/%s.crt", world.dir, name ? name : "");
    snprintf(key, sizeof key, "%s/%s.key", world.dir, name ? name : "");
    if (name)
        e2e_run(out, sizeof out, "redis-cli", "--tls", "--cacert", PATH(authority), "--cert", cert, "--key", key, "-p",
                text, command, arg, NULL);
    else
        e2e_run(out, sizeof out, "redis-cli", "--tls", "--cacert", PATH(authority), "-p", text, command, arg, NULL);
    out[strcspn(out, "\n")] = 0;
    return out;
}

static void expect_cli(int port, const char *name, const char *want)
{
    assert_string_equal(cli(port, "ca.crt", name, "PING", NULL), want);
}

/* Anything but an answer. */
static void expect_no_answer(int port, const char *authority, const char *name)
{
    const char *said = cli(port, authority, name, "PING", NULL);
    if (strstr(said, "PONG"))
        fail_msg("%s was let in", name ? name : "nobody");
}

/* ---- servers ---- */

static void test_redis_cli(void **state)
{
    struct e2e s;
    char port[16];
    (void)state;
    e2e_start(&s, OURS, NULL);
    snprintf(port, sizeof port, "%d", s.tls_port);
    expect_cli(s.tls_port, "client", "PONG");
    assert_string_equal(cli(s.tls_port, "ca.crt", "client", "SET", "only-one-word"),
                        "ERR wrong number of arguments for 'set' command");
    expect_no_answer(s.tls_port, "ca.crt", NULL);
    expect_no_answer(s.tls_port, "ca.crt", "stranger");
    expect_no_answer(s.tls_port, "ca.crt", "expired");
    expect_no_answer(s.tls_port, "other.crt", "client"); /* it does not trust the server */
    e2e_log_wait(&s, "TLS: the handshake with 127.0.0.1:");
    assert_string_equal(e2e_info(s.c, "tcp_port"), port);
    e2e_info_reaches(s.c, "tls_handshakes", 2);
    e2e_info_reaches(s.c, "tls_handshakes_failed", 4); /* redis-cli tries again */
    assert_true(atoll(e2e_info(s.c, "tls_certificate_expires")) > 0);

    e2e_expect(s.c, "+OK", "CONFIG SET tls-auth-clients optional");
    expect_cli(s.tls_port, NULL, "PONG");
    expect_cli(s.tls_port, "client", "PONG");
    expect_no_answer(s.tls_port, "ca.crt", "stranger");
    e2e_expect(s.c, "+OK", "CONFIG SET tls-auth-clients no");
    expect_cli(s.tls_port, NULL, "PONG");
    expect_cli(s.tls_port, "stranger", "PONG"); /* is not asked */
    e2e_expect(s.c, "+OK", "CONFIG SET tls-auth-clients yes");
    expect_no_answer(s.tls_port, "ca.crt", NULL);
    e2e_info_wait(s.c, "tls_handshakes_pending", "0");
    e2e_finish(&s);
}

static void test_a_certificate_is_a_login(void **state)
{
    struct e2e s;
    (void)state;
    e2e_start(&s, OURS, "--tls-auth-clients-user", "CN", "--requirepass", "sesame", "--user", "ann", "on", "+@all",
              "~*", NULL);
    assert_string_equal(cli(s.tls_port, "ca.crt", "client", "ACL", "WHOAMI"), "ann");
    assert_string_equal(cli(s.tls_port, "ca.crt", "server", "ACL", "WHOAMI"), "NOAUTH Authentication required.");
    e2e_finish(&s);
}

static void test_who_speaks_something_else(void **state)
{
    static const char *const said[] = {"PING\r\n", "GET / HTTP/1.0\r\n\r\n", "*1\r\n$4\r\nPING\r\n"};
    static const char answer[] = "-ERR Protocol error: a TLS handshake on a port without TLS\r\n";
    struct e2e s;
    char bytes[4096], out[512], port[16];
    (void)state;
    e2e_start(&s, OURS, "--port", "auto", NULL);
    for (size_t i = 0; i < 3; i++) {
        int fd = tcp("127.0.0.1", s.tls_port);
        assert_true(send(fd, said[i], strlen(said[i]), MSG_NOSIGNAL) > 0);
        expect_closed(fd);
    }
    for (unsigned i = 0; i < 50; i++) { /* noise, and noise that begins as a handshake does */
        int fd = tcp("127.0.0.1", s.tls_port);
        assert_int_equal(clock_random(bytes, sizeof bytes), ERR_OK);
        if (i % 2)
            memcpy(bytes, "\x16\x03\x01\x0f\xff\x01\x00\x0f", 8);
        (void)!send(fd, bytes, sizeof bytes, MSG_NOSIGNAL); /* may be refused by then */
        shutdown(fd, SHUT_WR);
        expect_closed(fd);
    }
    assert_int_equal(e2e_info_reaches(s.c, "tls_handshakes_failed", 53), 53);
    int plain = tcp("127.0.0.1", s.port);
    assert_int_equal(send(plain, "\x16\x03\x01", 3, MSG_NOSIGNAL), 3);
    assert_int_equal(recv(plain, bytes, sizeof bytes, MSG_WAITALL), strlen(answer));
    assert_memory_equal(bytes, answer, strlen(answer));
    close(plain);
    snprintf(port, sizeof port, "%d", s.port);
    assert_int_not_equal(e2e_run(out, sizeof out, "redis-cli", "--tls", "--insecure", "-p", port, "PING", NULL), 0);
    expect_cli(s.tls_port, "client", "PONG");
    e2e_finish(&s);
}

static void test_who_takes_too_long(void **state)
{
    struct e2e s;
    int fd[HALF_OPEN], slow;
    (void)state;
    e2e_start(&s, OURS, "--tls-handshake-timeout", "1000000", NULL);
    for (unsigned i = 0; i < HALF_OPEN; i++)
        fd[i] = tcp("127.0.0.1", s.tls_port);
    e2e_info_wait(s.c, "tls_handshakes_pending", "512"); /* the others wait in the backlog */
    e2e_expect(s.c, "+PONG", "PING");
    for (unsigned i = 0; i < HALF_OPEN; i++)
        close(fd[i]);
    e2e_info_wait(s.c, "tls_handshakes_pending", "0");
    expect_cli(s.tls_port, "client", "PONG");

    slow = tcp("127.0.0.1", s.tls_port);
    e2e_info_wait(s.c, "tls_handshakes_pending", "1");
    e2e_expect(s.c, "+OK", "CONFIG SET tls-handshake-timeout 1");
    expect_closed(slow);
    e2e_info_wait(s.c, "tls_handshakes_pending", "0");
    e2e_info_wait(s.c, "connected_clients", "1");
    e2e_finish(&s);
}

/* ---- changes ---- */

struct traffic {
    struct party *party;
    int port;
    _Atomic int over;
    _Atomic unsigned connections;
    const char *_Atomic wrong; /* what went wrong */
};

static int ping(struct tls_conn *c)
{
    char bytes[7];
    ssize_t n;
    size_t got = 0;
    if (tls_write(c, "PING\r\n", 6) != 6)
        return 0;
    while (got < 7 && (n = tls_read(c, bytes + got, 7 - got)) > 0)
        got += (size_t)n;
    return got == 7 && memcmp(bytes, "+PONG\r\n", 7) == 0;
}

static void *be_traffic(void *arg)
{
    struct traffic *t = arg;
    while (!atomic_load(&t->over) && !t->wrong) {
        struct tls_conn *c;
        int fd = tcp("127.0.0.1", t->port);
        if (tls_client_new(t->party->tls, fd, "localhost", &c))
            t->wrong = "no connection";
        else if (tls_handshake(c))
            t->wrong = strdup(tls_error(c));
        else if (!ping(c) || !ping(c))
            t->wrong = "no answer";
        tls_conn_free(c);
        close(fd);
        atomic_fetch_add(&t->connections, 1);
    }
    return NULL;
}

/* Certificates change back and forth under clients that come and one that stays; each sees one whole pair. */
static void test_certificates_change_under_traffic(void **state)
{
    struct e2e s;
    struct party party;
    struct traffic t = {.party = &party};
    struct tls_conn *stays;
    pthread_t thread;
    (void)state;
    certs_make(&world.ca, (struct certs_want){.name = "renewed"});
    e2e_start(&s, OURS, "--io-threads", "2", NULL);
    party_open(&party, "client");
    t.port = s.tls_port;
    int fd = tcp("127.0.0.1", s.tls_port);
    assert_int_equal(tls_client_new(party.tls, fd, "127.0.0.1", &stays), ERR_OK);
    assert_int_equal(tls_handshake(stays), ERR_OK);
    assert_int_equal(pthread_create(&thread, NULL, be_traffic, &t), 0);
    for (unsigned i = 0; i < RELOADS && !t.wrong; i++) {
        const char *name = i % 2 ? "server" : "renewed";
        unsigned before = atomic_load(&t.connections);
        e2e_expect(s.c, "+OK", "CONFIG SET tls-cert-file %s/%s.crt tls-key-file %s/%s.key", world.dir, name, world.dir,
                   name);
        e2e_expect(s.c,
                   "-ERR CONFIG SET failed (possibly related to argument 'tls-cert-file') - Unable to update TLS "
                   "configuration. Check server logs.",
                   "CONFIG SET tls-cert-file %s/%s.crt", world.dir, i % 2 ? "renewed" : "server");
        e2e_expect(s.c, "-ERR...", "CONFIG SET tls-cert-file %s/expired.crt tls-key-file %s/expired.key", world.dir,
                   world.dir);
        assert_true(ping(stays));
        while (!t.wrong && atomic_load(&t.connections) <= before + 1)
            sched_yield();
    }
    atomic_store(&t.over, 1);
    pthread_join(thread, NULL);
    if (t.wrong)
        fail_msg("%s", t.wrong);
    e2e_log_wait(&s, "expired.crt: the certificate has expired");
    e2e_log_wait(&s, "key values mismatch");
    assert_true(ping(stays));
    tls_conn_free(stays);
    close(fd);
    party_close(&party);
    e2e_finish(&s);
}

static void expect_plain(int port, int up)
{
    char out[512], text[16];
    snprintf(text, sizeof text, "%d", port);
    e2e_run(out, sizeof out, "redis-cli", "-p", text, "PING", NULL);
    assert_int_equal(strncmp(out, "PONG", 4) == 0, up);
}

static void test_ports_switch(void **state)
{
    struct e2e s, other;
    (void)state;
    e2e_start(&other, "--port", "auto", NULL);
    e2e_start(&s, OURS, NULL);
    int port = s.tls_port;
    e2e_expect(s.c, "+OK", "CONFIG SET tls-port 0 port %d", port);
    expect_plain(port, 1);
    e2e_expect(s.c, "-ERR...", "CONFIG SET port 0 tls-port %d", other.port); /* taken */
    expect_plain(port, 1);
    expect_plain(other.port, 1);
    e2e_expect(s.c, "-ERR...", "CONFIG SET port 0 tls-port %d tls-cert-file /nowhere", port);
    expect_plain(port, 1);
    e2e_expect(s.c, "+OK", "CONFIG SET port 0 tls-port %d", port);
    expect_cli(port, "client", "PONG");
    expect_plain(port, 0);
    e2e_expect(s.c, "+OK", "CONFIG SET tls-port 0");
    expect_no_answer(port, "ca.crt", "client");
    e2e_expect(s.c, "+OK", "CONFIG SET tls-port %d", port);
    expect_cli(port, "client", "PONG");
    e2e_finish(&s);
    e2e_finish(&other);
}

static void test_starts(void **state)
{
    struct e2e s;
    char out[4096];
    (void)state;
    e2e_start(&s, "--tls-port", "auto", "--tls-cert-file", PATH("expired.crt"), "--tls-key-file", PATH("expired.key"),
              "--tls-ca-cert-file", world_ca, NULL);
    assert_int_not_equal(e2e_run(out, sizeof out, "coffer-server", "--tls-protocols", "TLSv1", NULL), 0);
    assert_non_null(strstr(out, "TLSv1 and TLSv1.1 are not safe any more and not offered"));
    assert_true(e2e_log_has(&s, "expired.crt: the certificate has expired"));
    expect_no_answer(s.tls_port, "ca.crt", "client");
    e2e_expect(s.c, "+OK", "CONFIG SET tls-cert-file %s tls-key-file %s", PATH("server.crt"), PATH("server.key"));
    expect_cli(s.tls_port, "client", "PONG");
    e2e_stop(&s);
    assert_int_not_equal(e2e_run(out, sizeof out, "coffer-server", "--dir", s.dir, "--port", "0", "--tls-port", "1",
                                 "--tls-cert-file", "/nowhere", NULL),
                         0);
    assert_non_null(strstr(out, "TLS: tls-cert-file /nowhere: No such file or directory"));
    e2e_finish(&s);
}

/* ---- protected mode ---- */

/* A network of our own, with an address that is not loopback and yet leads nowhere. 0: not for us to make. */
static int own_network(const char *address)
{
    struct ifreq r = {.ifr_name = "lo"};
    struct sockaddr_in a = {.sin_family = AF_INET};
    if (unshare(CLONE_NEWNET) != 0)
        return 0;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    r.ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING;
    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &r), 0);
    snprintf(r.ifr_name, sizeof r.ifr_name, "lo:1");
    assert_int_equal(inet_pton(AF_INET, address, &a.sin_addr), 1);
    memcpy(&r.ifr_addr, &a, sizeof a);
    assert_int_equal(ioctl(fd, SIOCSIFADDR, &r), 0);
    close(fd);
    return 1;
}

static void outsider(struct e2e *s, struct party *p, int let_in)
{
    struct tls_conn *c;
    int fd = tcp("10.77.0.1", s->tls_port);
    assert_int_equal(tls_client_new(p->tls, fd, NULL, &c), ERR_OK);
    enum err e = tls_handshake(c);
    assert_int_equal(e, let_in ? ERR_OK : ERR_PROTOCOL);
    if (let_in)
        assert_true(ping(c));
    tls_conn_free(c);
    close(fd);
}

/* The last test: the network stays. */
static void test_protected_mode_holds(void **state)
{
    struct e2e s;
    struct party party;
    (void)state;
    if (!own_network("10.77.0.1"))
        skip();
    e2e_start(&s, OURS, "--bind", "10.77.0.1 127.0.0.1", "--tls-auth-clients-user", "CN", "--user", "ann", "on",
              "+@all", "~*", NULL);
    party_open(&party, "client");
    expect_cli(s.tls_port, "client", "PONG"); /* loopback */
    outsider(&s, &party, 0);
    e2e_info_wait(s.c, "rejected_connections", "1");
    e2e_expect(s.c, "+OK", "CONFIG SET protected-mode no");
    outsider(&s, &party, 1);
    e2e_expect(s.c, "+OK", "CONFIG SET protected-mode yes requirepass sesame");
    outsider(&s, &party, 1); /* by the certificate */
    party_close(&party);
    e2e_finish(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_redis_cli, e2e_teardown),
        cmocka_unit_test_teardown(test_a_certificate_is_a_login, e2e_teardown),
        cmocka_unit_test_teardown(test_who_speaks_something_else, e2e_teardown),
        cmocka_unit_test_teardown(test_who_takes_too_long, e2e_teardown),
        cmocka_unit_test_teardown(test_certificates_change_under_traffic, e2e_teardown),
        cmocka_unit_test_teardown(test_ports_switch, e2e_teardown),
        cmocka_unit_test_teardown(test_starts, e2e_teardown),
        cmocka_unit_test_teardown(test_protected_mode_holds, e2e_teardown),
    };
    return cmocka_run_group_tests(tests, setup, tls_world_end);
}
