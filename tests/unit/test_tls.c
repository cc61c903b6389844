/* TLS: contexts and connections, both ends in one thread. What servers do with them is in test_conn_tls.c. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "tests/unit/tls_fixture.h"

#include "base/clock.h"
#include "base/fault.h"

#define HANDSHAKES 10000

/* ---- two ends ---- */

struct link {
    int fd[2];
    struct tls_conn *server, *client;
    enum err at_server, at_client; /* of the handshake */
};

static void sockets(int fd[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(fcntl(fd[i], F_SETFL, O_NONBLOCK), 0);
}

static void link_open(struct link *l, struct party *server, struct party *client, const char *host)
{
    sockets(l->fd);
    assert_int_equal(tls_server_new(server->tls, l->fd[0], &l->server), ERR_OK);
    assert_int_equal(tls_client_new(client->tls, l->fd[1], host, &l->client), ERR_OK);
    l->at_server = l->at_client = ERR_AGAIN;
}

/* To the end, however it ends. */
static void link_shake(struct link *l)
{
    while (l->at_server == ERR_AGAIN || l->at_client == ERR_AGAIN) {
        if (l->at_client == ERR_AGAIN)
            l->at_client = tls_handshake(l->client);
        if (l->at_server == ERR_AGAIN)
            l->at_server = tls_handshake(l->server);
    }
}

static void link_up(struct link *l, struct party *server, struct party *client)
{
    link_open(l, server, client, "localhost");
    link_shake(l);
    if (l->at_server || l->at_client)
        fail_msg("server: %s; client: %s", tls_error(l->server), tls_error(l->client));
}

static void link_close(struct link *l)
{
    tls_conn_free(l->client);
    tls_conn_free(l->server);
    close(l->fd[0]);
    close(l->fd[1]);
}

static void say(struct tls_conn *c, const char *text)
{
    assert_int_equal(tls_write(c, text, strlen(text)), strlen(text));
}

static void hear(struct tls_conn *c, const char *text)
{
    char got[256];
    ssize_t n = tls_read(c, got, sizeof got);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(got, text, strlen(text));
}

static void they_talk(struct link *l)
{
    say(l->client, "question");
    hear(l->server, "question");
    say(l->server, "answer");
    hear(l->client, "answer");
}

/* -1 with that errno. */
static void refuses(ssize_t got, int error)
{
    assert_int_equal(got, -1);
    assert_int_equal(errno, error);
}

/* ---- connections ---- */

static void test_both_ends_know_each_other(void **state)
{
    struct party server, client;
    struct link l;
    char name[16], byte;
    (void)state;
    party_open(&server, "server");
    party_open(&client, "client");
    link_up(&l, &server, &client);
    they_talk(&l);
    assert_int_equal(tls_peer_name(l.server, name, sizeof name), 3);
    assert_memory_equal(name, "ann", 3);
    assert_int_equal(tls_peer_name(l.client, name, sizeof name), 6);
    assert_int_equal(tls_peer_name(l.client, name, 5), 0);
    refuses(tls_read(l.client, &byte, 1), EAGAIN);
    assert_int_equal(tls_wants(l.client), TLS_READABLE);
    link_close(&l);
    party_close(&server);
    party_close(&client);
}

static void test_a_goodbye_is_an_end_and_silence_is_not(void **state)
{
    struct party server, client;
    struct link l;
    char byte[8];
    (void)state;
    party_open(&server, "server");
    party_open(&client, "client");

    link_up(&l, &server, &client);
    say(l.client, "last");
    tls_conn_free(l.client);
    l.client = NULL;
    assert_int_equal(tls_read(l.server, byte, sizeof byte), 4); /* the end waits behind it, no event will tell */
    assert_true(tls_pending(l.server));
    assert_int_equal(tls_read(l.server, byte, sizeof byte), 0);
    say(l.server, "still answered"); /* TLS closes one direction at a time */
    link_close(&l);

    link_up(&l, &server, &client);
    shutdown(l.fd[1], SHUT_WR);
    refuses(tls_read(l.server, byte, sizeof byte), ECONNRESET);
    assert_string_equal(tls_error(l.server), "unexpected eof while reading");
    refuses(tls_read(l.server, byte, sizeof byte), ECONNRESET); /* for good */
    refuses(tls_write(l.server, "x", 1), ECONNRESET);
    link_close(&l);
    party_close(&server);
    party_close(&client);
}

/* Records of 16 KiB, read by the piece: nothing is left inside without anybody knowing. */
static void test_what_waits_inside_is_told(void **state)
{
    enum { BYTES = 40000, PIECE = 1000 };
    static uint8_t sent[BYTES], got[BYTES];
    struct party server, client;
    struct link l;
    size_t out = 0, in = 0;
    (void)state;
    assert_int_equal(clock_random(sent, sizeof sent), ERR_OK);
    party_open(&server, "server");
    party_open(&client, "client");
    link_up(&l, &server, &client);
    while (out < BYTES) {
        ssize_t n = tls_write(l.client, sent + out, BYTES - out);
        assert_true(n > 0);
        out += (size_t)n;
    }
    while (in < BYTES) {
        ssize_t n = tls_read(l.server, got + in, PIECE);
        assert_true(n > 0 && n <= PIECE);
        in += (size_t)n;
        if (in < BYTES && !tls_pending(l.server)) { /* then the socket has something */
            char byte;
            assert_int_equal(recv(l.fd[0], &byte, 1, MSG_PEEK | MSG_DONTWAIT), 1);
        }
    }
    assert_memory_equal(got, sent, BYTES);
    assert_false(tls_pending(l.server));
    link_close(&l);
    party_close(&server);
    party_close(&client);
}

/* A write that the socket does not take goes on later, from other memory. */
static void test_a_full_socket(void **state)
{
    enum { BYTES = 3000000 };
    uint8_t *sent = malloc(BYTES), *moved = malloc(BYTES), *got = malloc(BYTES);
    struct party server, client;
    struct link l;
    size_t out = 0, in = 0;
    unsigned waits = 0;
    (void)state;
    assert_int_equal(clock_random(sent, BYTES), ERR_OK);
    party_open(&server, "server");
    party_open(&client, "client");
    link_up(&l, &server, &client);
    while (in < BYTES) {
        ssize_t n = 1;
        while (out < BYTES && (n = tls_write(l.server, sent + out, BYTES - out)) > 0)
            out += (size_t)n;
        if (n < 0) {
            assert_int_equal(errno, EAGAIN);
            assert_int_equal(tls_wants(l.server), TLS_WRITABLE);
            waits++;
            memcpy(moved, sent, BYTES);
            memset(sent, 0, BYTES);
            uint8_t *other = sent;
            sent = moved;
            moved = other;
        }
        while (in < BYTES && (n = tls_read(l.client, got + in, BYTES - in)) > 0)
            in += (size_t)n;
    }
    assert_true(waits > 0);
    assert_memory_equal(got, sent, BYTES);
    link_close(&l);
    party_close(&server);
    party_close(&client);
    free(sent);
    free(moved);
    free(got);
}

/* Before the handshake is over a write has to read, and a read to write. */
static void test_crosswise(void **state)
{
    struct party server, client;
    struct link l;
    char got[8], filler[4096] = {0};
    (void)state;
    party_open(&server, "server");
    party_open(&client, "client");
    link_open(&l, &server, &client, "localhost");
    refuses(tls_write(l.server, "x", 1), EAGAIN);
    assert_int_equal(tls_wants(l.server), TLS_READABLE);
    assert_int_equal(tls_handshake(l.client), ERR_AGAIN); /* its hello */
    while (send(l.fd[0], filler, sizeof filler, MSG_DONTWAIT) > 0) {
    }
    assert_int_equal(errno, EAGAIN);
    refuses(tls_read(l.server, got, sizeof got), EAGAIN);
    assert_int_equal(tls_wants(l.server), TLS_WRITABLE);
    link_close(&l);
    party_close(&server);
    party_close(&client);
}

static void *serve_blocking(void *arg)
{
    struct link *l = arg;
    char got[8];
    assert_int_equal(tls_handshake(l->server), ERR_OK);
    assert_int_equal(tls_read(l->server, got, sizeof got), 4);
    assert_int_equal(tls_write(l->server, got, 4), 4);
    return NULL;
}

static void test_sockets_that_block(void **state)
{
    struct party server, client;
    struct link l;
    struct timeval soon = {.tv_usec = 1000};
    pthread_t t;
    char byte;
    (void)state;
    party_open(&server, "server");
    party_open(&client, "client");
    link_open(&l, &server, &client, "localhost");
    for (int i = 0; i < 2; i++)
        assert_int_equal(fcntl(l.fd[i], F_SETFL, 0), 0);
    assert_int_equal(pthread_create(&t, NULL, serve_blocking, &l), 0);
    assert_int_equal(tls_handshake(l.client), ERR_OK);
    say(l.client, "ping");
    hear(l.client, "ping");
    pthread_join(t, NULL);
    setsockopt(l.fd[1], SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon);
    refuses(tls_read(l.client, &byte, 1), EAGAIN);
    link_close(&l);
    party_close(&server);
    party_close(&client);
}

/* ---- whom they trust ---- */

static void shake(struct link *l, struct party *server, struct party *client, const char *host)
{
    link_open(l, server, client, host);
    link_shake(l);
}

static void test_strangers(void **state)
{
    struct party server, client, stranger;
    struct link l;
    char byte, name[8];
    (void)state;
    party_open(&server, "server");
    party_open(&client, "client");
    party_open(&stranger, "stranger");

    shake(&l, &stranger, &client, "localhost");
    assert_int_equal(l.at_client, ERR_PROTOCOL);
    assert_string_equal(tls_error(l.client), "certificate verify failed: unable to get local issuer certificate");
    assert_int_equal(tls_handshake(l.client), ERR_PROTOCOL); /* for good */
    link_close(&l);

    shake(&l, &server, &stranger, "localhost");
    assert_int_equal(l.at_server, ERR_PROTOCOL);
    assert_string_equal(tls_error(l.server), "certificate verify failed: unable to get local issuer certificate");
    refuses(tls_read(l.client, &byte, 1), ECONNRESET);
    assert_string_equal(tls_error(l.client), "tlsv1 alert unknown ca");
    link_close(&l);

    assert_string_equal(party_set(&server, "tls-auth-clients", "optional", NULL), "");
    shake(&l, &server, &stranger, "localhost"); /* what is shown must be good */
    assert_int_equal(l.at_server, ERR_PROTOCOL);
    link_close(&l);

    assert_string_equal(party_set(&server, "tls-auth-clients", "no", NULL), "");
    shake(&l, &server, &stranger, "localhost"); /* is not asked, and so is nobody */
    assert_int_equal(l.at_server, ERR_OK);
    assert_int_equal(tls_peer_name(l.server, name, sizeof name), 0);
    link_close(&l);
    party_close(&server);
    party_close(&client);
    party_close(&stranger);
}

static void test_hosts(void **state)
{
    static const struct {
        const char *host;
        enum err e;
    } tries[] = {{"localhost", ERR_OK}, {"127.0.0.1", ERR_OK}, {NULL, ERR_OK},        {"server", ERR_PROTOCOL},
                 {"", ERR_OK},          {"::1", ERR_PROTOCOL}, {"evil", ERR_PROTOCOL}};
    struct party server, client;
    struct link l;
    (void)state;
    party_open(&server, "server");
    party_open(&client, "client");
    for (size_t i = 0; i < sizeof tries / sizeof tries[0]; i++) {
        if (tries[i].host && !tries[i].host[0])
            continue;
        shake(&l, &server, &client, tries[i].host);
        assert_int_equal(l.at_client, tries[i].e);
        if (tries[i].e)
            assert_non_null(strstr(tls_error(l.client), " mismatch"));
        link_close(&l);
    }
    party_close(&server);
    party_close(&client);
}

static void test_names_that_are_none(void **state)
{
    static const struct certs_want wants[] = {{.name = "two-words", .cn = "ann bee"}, {.name = "line", .cn = "ann\n"}};
    struct party server, client;
    struct link l;
    char name[16];
    (void)state;
    party_open(&server, "server");
    for (size_t i = 0; i < 2; i++) {
        certs_make(&world.ca, wants[i]);
        party_open(&client, wants[i].name);
        link_up(&l, &server, &client);
        assert_int_equal(tls_peer_name(l.server, name, sizeof name), 0);
        link_close(&l);
        party_close(&client);
    }
    party_close(&server);
}

static void test_expired(void **state)
{
    struct party server, client, late;
    struct link l;
    struct tls *t;
    (void)state;
    party_open(&server, "server");
    party_open(&client, "client");
    party_open(&late, "expired"); /* a server that starts with it does start */
    assert_true(tls_expires(late.tls) * 1000 < (int64_t)clock_wall_ms());
    shake(&l, &late, &client, "localhost");
    assert_string_equal(tls_error(l.client), "certificate verify failed: certificate has expired");
    link_close(&l);
    shake(&l, &server, &late, "localhost");
    assert_string_equal(tls_error(l.server), "certificate verify failed: certificate has expired");
    link_close(&l);

    assert_non_null(strstr(
        party_set(&server, "tls-cert-file", PATH("expired.crt"), "tls-key-file", PATH("expired.key"), NULL), "TLS"));
    link_up(&l, &server, &client);
    link_close(&l);
    clock_test_set_wall_ms((uint64_t)(tls_expires(server.tls) + 1) * 1000); /* no change of anything then */
    assert_non_null(strstr(party_set(&server, "tls-session-caching", "no", NULL), "TLS"));
    clock_test_set_wall_ms(1000);
    assert_non_null(strstr(party_set(&server, "tls-session-caching", "no", NULL), "TLS"));
    clock_test_set_wall_ms(0);
    assert_string_equal(party_set(&server, "tls-session-caching", "no", NULL), "");

    party_close(&late);
    party_configure(&late, "server");
    party_put(&late, "tls-port", "0"); /* nobody looks */
    party_put(&late, "tls-key-file", "/nowhere");
    assert_int_equal(tls_new(&t, late.config), ERR_OK);
    assert_int_equal(tls_expires(t), 0);
    assert_int_equal(tls_server_new(t, 0, &l.server), ERR_NOTFOUND);
    tls_free(t);
    config_free(late.config);
    party_close(&server);
    party_close(&client);
}

static void test_a_directory_of_authorities(void **state)
{
    struct party server, client;
    struct link l;
    char empty[80], pipe[96];
    (void)state;
    party_open(&server, "server");
    party_open(&client, "client");
    assert_string_equal(party_set(&server, "tls-ca-cert-file", "", "tls-ca-cert-dir", world.dir, NULL), "");
    link_up(&l, &server, &client);
    link_close(&l);
    assert_non_null(strstr(party_set(&server, "tls-ca-cert-dir", "/nowhere", NULL), "TLS"));
    snprintf(empty, sizeof empty, "%s/empty", world.dir);
    snprintf(pipe, sizeof pipe, "%s/pipe", empty); /* to be read by nobody */
    assert_int_equal(mkdir(empty, 0700), 0);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_non_null(strstr(party_set(&server, "tls-ca-cert-dir", empty, NULL), "TLS"));
    assert_int_equal(unlink(pipe), 0);
    assert_int_equal(rmdir(empty), 0);
    assert_non_null(strstr(party_set(&server, "tls-ca-cert-dir", "", NULL), "TLS"));
    assert_string_equal(party_set(&server, "tls-ca-cert-dir", "", "tls-auth-clients", "no", NULL), "");
    party_close(&server);
    party_close(&client);
}

/* ---- changes ---- */

/* Each is refused, and nothing has changed. */
static void test_what_is_not_right_is_refused(void **state)
{
    char nothing[] = "/dev/null", missing[] = "/nowhere/at/all";
    struct {
        const char *name, *value;
    } bad[] = {{"tls-cert-file", missing},
               {"tls-cert-file", nothing},
               {"tls-cert-file", PATH("client.crt")}, /* the key does not fit */
               {"tls-cert-file", ""},
               {"tls-key-file", missing},
               {"tls-key-file", nothing},
               {"tls-key-file", ""},
               {"tls-key-file", world.dir},
               {"tls-client-cert-file", missing},
               {"tls-client-key-file", missing}, /* without a certificate */
               {"tls-ca-cert-file", missing},
               {"tls-ca-cert-file", nothing},
               {"tls-ca-cert-file", ""},
               {"tls-dh-params-file", missing},
               {"tls-dh-params-file", nothing},
               {"tls-ciphers", "NONE-SUCH"},
               {"tls-ciphersuites", "NONE-SUCH"}};
    static const char *const protocols[] = {"TLSv1", "TLSv1.1 TLSv1.2", "SSLv3", "TLSv1.2,TLSv1.3"};
    char *enormous = malloc(70000);
    struct party server, client;
    struct link l;
    (void)state;
    memset(enormous, 'x', 69999);
    enormous[69999] = 0;
    party_open(&server, "server");
    party_open(&client, "client");
    int64_t expires = tls_expires(server.tls);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *said = party_set(&server, bad[i].name, bad[i].value, NULL);
        char want[256];
        snprintf(want, sizeof want,
                 "CONFIG SET failed (possibly related to argument '%s') - Unable to update TLS configuration. Check "
                 "server logs.",
                 bad[i].name);
        assert_string_equal(said, want);
        assert_int_equal(tls_expires(server.tls), expires);
    }
    for (size_t i = 0; i < 4; i++)
        assert_non_null(strstr(party_set(&server, "tls-protocols", protocols[i], NULL), "TLSv1.3"));
    assert_true(party_set(&server, "tls-cert-file", enormous, NULL)[0]);
    assert_true(party_set(&server, "tls-key-file-pass", enormous, NULL)[0]);
    link_up(&l, &server, &client);
    link_close(&l);
    assert_string_equal(party_set(&server, "tls-ca-cert-file", PATH("ca.crt"), NULL), ""); /* all else is as it was */
    party_close(&server);
    party_close(&client);
    free(enormous);
}

static void test_a_key_with_a_passphrase(void **state)
{
    struct party server, client, start;
    struct tls *t;
    struct link l;
    (void)state;
    certs_make(&world.ca, (struct certs_want){.name = "locked", .pass = "open sesame"});
    party_open(&server, "server");
    party_open(&client, "client");
    assert_true(party_set(&server, "tls-cert-file", PATH("locked.crt"), "tls-key-file", PATH("locked.key"), NULL)[0]);
    assert_true(party_set(&server, "tls-cert-file", PATH("locked.crt"), "tls-key-file", PATH("locked.key"),
                          "tls-key-file-pass", "wrong", NULL)[0]);
    assert_string_equal(party_set(&server, "tls-cert-file", PATH("locked.crt"), "tls-key-file", PATH("locked.key"),
                                  "tls-key-file-pass", "open sesame", NULL),
                        "");
    link_up(&l, &server, &client);
    they_talk(&l);
    link_close(&l);

    party_configure(&start, "locked");
    assert_int_equal(tls_new(&t, start.config), ERR_SYNTAX);
    assert_null(t);
    party_put(&start, "tls-key-file-pass", "open sesame");
    party_put(&start, "tls-client-cert-file", PATH("client.crt"));
    party_put(&start, "tls-client-key-file", PATH("client.key"));
    assert_int_equal(tls_new(&start.tls, start.config), ERR_OK);
    char name[8];
    link_up(&l, &server, &start); /* shows the certificate for links */
    assert_int_equal(tls_peer_name(l.server, name, sizeof name), 3);
    link_close(&l);
    party_close(&start);
    party_close(&server);
    party_close(&client);
}

/* New connections get the new certificate, open ones go on with theirs, off and on again. */
static void test_a_change_under_open_connections(void **state)
{
    struct party server, client;
    struct link old, l;
    char name[16];
    (void)state;
    certs_make(&world.ca, (struct certs_want){.name = "renewed", .to = 5 * CERTS_DAY});
    party_open(&server, "server");
    party_open(&client, "client");
    link_up(&old, &server, &client);
    assert_string_equal(
        party_set(&server, "tls-cert-file", PATH("renewed.crt"), "tls-key-file", PATH("renewed.key"), NULL), "");
    assert_true(tls_expires(server.tls) * 1000 > (int64_t)clock_wall_ms() + 4000 * CERTS_DAY);
    link_up(&l, &server, &client);
    assert_int_equal(tls_peer_name(l.client, name, sizeof name), 7);
    assert_memory_equal(name, "renewed", 7);
    link_close(&l);
    they_talk(&old);
    assert_string_equal(party_set(&server, "tls-port", "0", NULL), "");
    assert_int_equal(tls_server_new(server.tls, old.fd[0], &l.server), ERR_NOTFOUND);
    they_talk(&old);
    assert_string_equal(party_set(&server, "tls-key-file", "/nowhere", NULL), ""); /* nobody looks */
    assert_true(party_set(&server, "tls-port", "1", NULL)[0]);
    assert_string_equal(party_set(&server, "tls-key-file", PATH("renewed.key"), "tls-replication", "yes", NULL), "");
    link_up(&l, &server, &client);
    link_close(&l);
    party_close(&server);
    they_talk(&old);
    link_close(&old);
    party_close(&client);
}

/* ---- what is on and off; the client here is OpenSSL as it comes ---- */

static SSL_CTX *raw_client(int version)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(ctx, version);
    SSL_CTX_set_min_proto_version(ctx, version);
    SSL_CTX_set_security_level(ctx, 0);
    return ctx;
}

struct raw {
    int fd[2];
    struct tls_conn *server;
    SSL *ssl;
};

/* The handshake's outcome at the client, the first byte of an answer included: until then a refusal may be on its way.
 */
static int raw_open(struct raw *r, struct party *server, SSL_CTX *ctx, SSL_SESSION *resume)
{
    char byte;
    sockets(r->fd);
    assert_int_equal(tls_server_new(server->tls, r->fd[0], &r->server), ERR_OK);
    r->ssl = SSL_new(ctx);
    SSL_set_fd(r->ssl, r->fd[1]);
    SSL_set_connect_state(r->ssl);
    if (resume)
        assert_int_equal(SSL_set_session(r->ssl, resume), 1);
    enum err at_server = ERR_AGAIN;
    int up = 0, said = 0;
    for (;;) {
        int rc = up ? SSL_read(r->ssl, &byte, 1) : SSL_do_handshake(r->ssl);
        if (rc == 1 && up)
            return 1;
        up |= rc == 1;
        int why = rc == 1 ? SSL_ERROR_WANT_READ : SSL_get_error(r->ssl, rc);
        ERR_clear_error();
        if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
            return 0;
        if (at_server == ERR_AGAIN)
            at_server = tls_handshake(r->server);
        if (at_server == ERR_OK && !said)
            said = (int)tls_write(r->server, "!", 1);
    }
}

static void raw_close(struct raw *r)
{
    SSL_free(r->ssl);
    tls_conn_free(r->server);
    close(r->fd[0]);
    close(r->fd[1]);
}

static int raw_try(struct party *server, int version)
{
    struct raw r;
    SSL_CTX *ctx = raw_client(version);
    int up = raw_open(&r, server, ctx, NULL);
    raw_close(&r);
    SSL_CTX_free(ctx);
    return up;
}

static void test_versions(void **state)
{
    struct party server;
    (void)state;
    party_open(&server, "server");
    assert_string_equal(party_set(&server, "tls-auth-clients", "no", "tls-ciphers", "ALL:@SECLEVEL=0", NULL), "");
    assert_false(raw_try(&server, TLS1_1_VERSION));
    assert_true(raw_try(&server, TLS1_2_VERSION));
    assert_true(raw_try(&server, TLS1_3_VERSION));
    assert_string_equal(party_set(&server, "tls-protocols", "tlsv1.2", NULL), "");
    assert_true(raw_try(&server, TLS1_2_VERSION));
    assert_false(raw_try(&server, TLS1_3_VERSION));
    assert_string_equal(party_set(&server, "tls-protocols", "TLSv1.3", NULL), "");
    assert_false(raw_try(&server, TLS1_2_VERSION));
    assert_true(raw_try(&server, TLS1_3_VERSION));
    party_close(&server);
}

static void test_no_renegotiation_no_compression_no_early_data(void **state)
{
    struct party server;
    struct raw r;
    char byte;
    (void)state;
    party_open(&server, "server");
    assert_string_equal(party_set(&server, "tls-auth-clients", "no", NULL), "");
    SSL_CTX *ctx = raw_client(TLS1_2_VERSION);
    assert_true(raw_open(&r, &server, ctx, NULL));
    assert_null(SSL_get_current_compression(r.ssl));
    assert_int_equal(SSL_SESSION_get_max_early_data(SSL_get_session(r.ssl)), 0);
    assert_int_equal(SSL_renegotiate(r.ssl), 1);
    assert_int_equal(SSL_do_handshake(r.ssl), -1);
    refuses(tls_read(r.server, &byte, 1), EAGAIN); /* says no, and goes on */
    for (int i = 0; i < 3 && SSL_do_handshake(r.ssl) != 1 && !ERR_peek_error(); i++)
        refuses(tls_read(r.server, &byte, 1), EAGAIN);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_R_NO_RENEGOTIATION);
    ERR_clear_error();
    raw_close(&r);
    SSL_CTX_free(ctx);
    party_close(&server);
}

static int resumes(struct party *server, SSL_CTX *ctx, SSL_SESSION *s)
{
    struct raw r;
    assert_true(raw_open(&r, server, ctx, s));
    int reused = SSL_session_reused(r.ssl);
    raw_close(&r);
    return reused;
}

static void test_sessions(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct party server;
    struct raw r;
    (void)state;
    party_open(&server, "server");
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(party_set(&server, "tls-auth-clients", "no", "tls-session-caching", "yes", NULL), "");
        SSL_CTX *ctx = raw_client(versions[i]);
        assert_true(raw_open(&r, &server, ctx, NULL));
        SSL_SESSION *s = SSL_get1_session(r.ssl);
        SSL_shutdown(r.ssl);
        raw_close(&r);
        assert_true(resumes(&server, ctx, s));
        assert_string_equal(party_set(&server, "tls-session-caching", "no", NULL), "");
        assert_false(resumes(&server, ctx, s));
        SSL_SESSION_free(s);
        SSL_CTX_free(ctx);
    }
    /* What was agreed when nobody had to show a certificate does not open the door when one must. */
    assert_string_equal(party_set(&server, "tls-session-caching", "yes", NULL), "");
    SSL_CTX *ctx = raw_client(TLS1_3_VERSION);
    assert_true(raw_open(&r, &server, ctx, NULL));
    SSL_SESSION *s = SSL_get1_session(r.ssl);
    SSL_shutdown(r.ssl);
    raw_close(&r);
    assert_string_equal(party_set(&server, "tls-auth-clients", "yes", NULL), "");
    assert_false(raw_open(&r, &server, ctx, s));
    raw_close(&r);
    SSL_SESSION_free(s);
    SSL_CTX_free(ctx);
    party_close(&server);
}

/* ---- memory ---- */

static size_t secure_bytes(struct party *server, struct party *client)
{
    struct link l;
    link_up(&l, server, client);
    link_close(&l);
    return CRYPTO_secure_used();
}

static void test_the_key_is_in_the_secure_heap(void **state)
{
    struct party server;
    size_t before = CRYPTO_secure_used();
    (void)state;
    party_open(&server, "server");
    assert_true(CRYPTO_secure_used() >= before + 32);
    party_close(&server);
    assert_int_equal(CRYPTO_secure_used(), before);
}

static void test_many_handshakes_leave_nothing(void **state)
{
    struct party server, client;
    struct link l;
    char byte;
    (void)state;
    party_open(&server, "server");
    party_open(&client, "client");
    assert_string_equal(party_set(&server, "tls-session-cache-size", "16", NULL), "");
    size_t used = secure_bytes(&server, &client);
    for (unsigned i = 0; i < HANDSHAKES; i++) {
        link_open(&l, &server, &client, i % 2 ? "localhost" : "evil"); /* every other one fails */
        if (i % 3)
            link_shake(&l);
        if (l.at_server == ERR_OK && l.at_client == ERR_OK)
            (void)tls_read(l.client, &byte, 1);
        link_close(&l);
    }
    assert_int_equal(secure_bytes(&server, &client), used);
    party_close(&server);
    party_close(&client);
}

static void test_faults(void **state)
{
    struct party p, good;
    struct tls *t = NULL;
    struct link l;
    (void)state;
    party_configure(&p, "server");
    party_put(&p, "tls-ca-cert-dir", world.dir);
    for (long n = 1;; n++) {
        fault_arm(FAULT_MEM, n, 1);
        enum err e = tls_new(&t, p.config);
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        if (!fired) {
            assert_int_equal(e, ERR_OK);
            break;
        }
        assert_int_equal(e, ERR_OOM);
        assert_null(t);
    }
    tls_free(t);
    for (long n = 1;; n++) {
        fault_arm(FAULT_FILE, n, EIO);
        enum err e = tls_new(&t, p.config);
        int fired = fault_fired(FAULT_FILE);
        fault_disarm(FAULT_FILE);
        if (!fired)
            break;
        if (!e) /* closing a file that was read */
            tls_free(t);
    }
    tls_free(t);
    config_free(p.config);

    party_open(&good, "server");
    fault_arm(FAULT_MEM, 1, 1);
    assert_int_equal(tls_server_new(good.tls, 0, &l.server), ERR_OOM);
    fault_arm(FAULT_MEM, 1, 1);
    assert_int_equal(tls_client_new(good.tls, 0, "localhost", &l.client), ERR_OOM);
    fault_disarm(FAULT_MEM);
    assert_null(l.server);
    assert_null(l.client);
    party_close(&good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ends_know_each_other),
        cmocka_unit_test(test_a_goodbye_is_an_end_and_silence_is_not),
        cmocka_unit_test(test_what_waits_inside_is_told),
        cmocka_unit_test(test_a_full_socket),
        cmocka_unit_test(test_crosswise),
        cmocka_unit_test(test_sockets_that_block),
        cmocka_unit_test(test_strangers),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_names_that_are_none),
        cmocka_unit_test(test_expired),
        cmocka_unit_test(test_a_directory_of_authorities),
        cmocka_unit_test(test_what_is_not_right_is_refused),
        cmocka_unit_test(test_a_key_with_a_passphrase),
        cmocka_unit_test(test_a_change_under_open_connections),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_no_renegotiation_no_compression_no_early_data),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_the_key_is_in_the_secure_heap),
        cmocka_unit_test(test_many_handshakes_leave_nothing),
        cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, tls_world, tls_world_end);
}
