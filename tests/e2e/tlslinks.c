/* tlslinks.c - links over TLS: a cell forms, fails over and renews its certificates; who comes without TLS, or with a
 * certificate of somebody else's, is refused and told why. */
#include <signal.h>

#include "tests/lib/trio.h"
#include "tests/unit/tls_fixture.h"

#define TLS(cert, key, ca) "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca
#define OURS TLS(PATH("server.crt"), PATH("server.key"), ca_path)

static char ca_path[128], tls_text[TRIO][16], port_text[TRIO][16];

static int setup(void **state)
{
    if (tls_world(state))
        return -1;
    snprintf(ca_path, sizeof ca_path, "%s", PATH("ca.crt"));
    return 0;
}

/* Clients come without TLS, voters find each other at their TLS ports. */
static void start_cell(struct trio *t)
{
    int tls_port[TRIO];
    trio_plan(t);
    for (unsigned i = 0; i < TRIO; i++) {
        tls_port[i] = e2e_free_port();
        snprintf(tls_text[i], sizeof tls_text[i], "%d", tls_port[i]);
        snprintf(port_text[i], sizeof port_text[i], "%d", t->port[i]);
        snprintf(t->voters[i], sizeof t->voters[i], "127.0.0.1:%d", tls_port[i]);
    }
    for (unsigned i = 0; i < TRIO; i++)
        e2e_begin(&t->node[i], "--port", port_text[i], "--tls-port", tls_text[i], OURS, "--tls-replication", "yes",
                  "--voters", t->voters[0], t->voters[1], t->voters[2], "--io-threads", "1", NULL);
    for (unsigned i = 0; i < TRIO; i++)
        e2e_ready(&t->node[i]);
    trio_await_master(t, 0);
    trio_await_followers(t, 0, 2);
}

static void await_writes(unsigned more)
{
    struct e2e_deadline w = {.what = "writes to be acknowledged"};
    unsigned from = trio_load_done();
    while (trio_load_done() < from + more && e2e_not_yet(&w)) {
    }
}

static void a_cell_over_tls_fails_over_and_loses_nothing(void **state)
{
    struct trio t;
    (void)state;
    start_cell(&t);
    e2e_log_wait(&t.node[0], " over TLS");
    e2e_info_wait(t.node[1].c, "master_port", tls_text[0]);
    trio_load_begin(&t, 2);
    await_writes(50);
    e2e_kill(&t.node[0]);
    trio_lead(&t, 1);
    await_writes(50);
    trio_again(&t, 0);
    trio_await_followers(&t, 1, 2);
    trio_load_end(&t);
    trio_check(&t);
    for (unsigned i = 0; i < TRIO; i++)
        assert_false(e2e_log_has(&t.node[i], "a frame does not verify"));
    trio_finish(&t);
}

static void renew(struct e2e *s, const char *cert, const char *key)
{
    e2e_expect(s->c, "+OK", "CONFIG SET tls-cert-file %s tls-key-file %s", cert, key);
}

/* Links that are open go on; the next ones show the new certificate, and meet what is trusted now. */
static void certificates_are_renewed_while_it_runs(void **state)
{
    struct trio t;
    (void)state;
    start_cell(&t);
    certs_make(&world.ca, (struct certs_want){.name = "renewed", .to = 2 * CERTS_DAY});
    for (unsigned i = 0; i < TRIO; i++)
        renew(&t.node[i], PATH("renewed.crt"), PATH("renewed.key"));
    e2e_expect(t.node[0].c, "+OK", "SET k one");
    e2e_expect(t.node[0].c, ":2", "WAIT 2 0");
    e2e_kill(&t.node[2]);
    trio_await_followers(&t, 0, 1);
    trio_again(&t, 2);
    trio_await_followers(&t, 0, 2);
    renew(&t.node[1], PATH("stranger.crt"), PATH("stranger.key"));
    e2e_kill(&t.node[0]);
    e2e_begin_again(&t.node[0]); /* it asks voter 1, who has become a stranger, and voter 2 */
    e2e_ready(&t.node[0]);
    e2e_log_wait(&t.node[0], "certificate verify failed");
    trio_await_master(&t, 0);
    trio_await_followers(&t, 0, 1);
    renew(&t.node[1], PATH("renewed.crt"), PATH("renewed.key"));
    trio_await_followers(&t, 0, 2);
    trio_finish(&t);
}

/* ---- two nodes ---- */

static unsigned names; /* used so far, for the primary */

static void start_pair(struct e2e *a, struct e2e *b)
{
    names = 0;
    e2e_start(a, "--port", "auto", "--tls-port", "auto", OURS, "--tls-replication", "yes", NULL);
    snprintf(port_text[0], sizeof port_text[0], "%d", a->port);
    snprintf(tls_text[0], sizeof tls_text[0], "%d", a->tls_port);
    e2e_start(b, "--tls-port", "auto", OURS, "--tls-replication", "yes", "--replicaof", "127.0.0.1", tls_text[0], NULL);
    e2e_info_wait(b->c, "master_link_status", "up");
}

/* Another name for the same node makes a new link. */
static void link_anew(struct e2e *b, const char *port)
{
    e2e_expect(b->c, "+OK", "REPLICAOF %s %s", ++names % 2 ? "localhost" : "127.0.0.1", port);
}

static void await_error(struct e2e *s, const char *want)
{
    struct e2e_deadline w = {.what = want};
    while (!strstr(e2e_info(s->c, "master_link_error"), want) && e2e_not_yet(&w)) {
    }
}

static void links_without_tls_are_refused(void **state)
{
    struct e2e a, b;
    (void)state;
    start_pair(&a, &b);
    e2e_expect(b.c, "+OK", "CONFIG SET tls-replication no");
    link_anew(&b, port_text[0]);
    await_error(&b, "tls-replication: this node takes links over TLS only");
    e2e_expect(b.c, "+OK", "CONFIG SET tls-replication yes");
    await_error(&b, "TLS: the handshake failed: wrong version number"); /* at a port without */
    link_anew(&b, tls_text[0]);
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_expect(a.c, "+OK", "CONFIG SET tls-auth-clients no"); /* links are mutual all the same */
    link_anew(&b, tls_text[0]);
    await_error(&b, "a link takes a certificate");
    snprintf(port_text[1], sizeof port_text[1], "%d", b.tls_port);
    e2e_expect(a.c, "+OK", "CONFIG SET tls-auth-clients optional");
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_expect(a.c, "+OK", "SET k one");
    e2e_expect(a.c, ":1", "WAIT 1 0");
    assert_non_null(strstr(e2e_info(a.c, "slave0"), port_text[1])); /* where it is reached over TLS */
    e2e_finish(&b);
    e2e_finish(&a);
}

static void whoever_has_another_authority_is_refused(void **state)
{
    struct e2e a, b;
    (void)state;
    start_pair(&a, &b);
    e2e_expect(b.c, "+OK", "CONFIG SET tls-ca-cert-file %s", PATH("other.crt"));
    link_anew(&b, tls_text[0]);
    await_error(&b, "TLS: the handshake failed: certificate verify failed");
    e2e_expect(b.c, "+OK", "CONFIG SET tls-ca-cert-file %s tls-client-cert-file %s tls-client-key-file %s", ca_path,
               PATH("stranger.crt"), PATH("stranger.key"));
    await_error(&b, "alert unknown ca");
    e2e_log_wait(&a, "TLS: the handshake with 127.0.0.1:");
    e2e_expect(b.c, "+OK", "CONFIG SET tls-client-cert-file %s tls-client-key-file %s", PATH("client.crt"),
               PATH("client.key"));
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_finish(&b);
    e2e_finish(&a);
}

/* The copy has a connection of its own, which is held to the same. */
static void a_full_resync_goes_over_tls_too(void **state)
{
    struct e2e a, b;
    (void)state;
    e2e_start(&a, "--port", "auto", "--tls-port", "auto", OURS, "--tls-replication", "yes", NULL);
    e2e_start(&b, "--tls-port", "auto", OURS, "--tls-replication", "yes", NULL);
    e2e_expect(a.c, "+OK", "SET theirs 1");
    e2e_expect(b.c, "+OK", "SET mine 1");
    e2e_expect(a.c, "-NOPERM tls-replication: this node takes links over TLS only",
               "REPL.SNAPSHOT 00000000000000000000000000000000 1");
    e2e_expect(a.c, "-NOPERM tls-replication: this node takes links over TLS only", "REPL.PIECE 1 1 0 100");
    e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %d", a.tls_port);
    e2e_log_wait(&b, "takes the place of what was here");
    redisFree(b.c);
    e2e_ready(&b);
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_log_wait(&b, " over TLS");
    e2e_expect(b.c, "$1", "GET theirs");
    e2e_expect(b.c, "nil", "GET mine");
    e2e_finish(&b);
    e2e_finish(&a);
}

/* What is forwarded has a connection of its own as well, and is plaintext. */
static void forwarded_reads_go_over_tls_too(void **state)
{
    struct e2e a, b;
    (void)state;
    start_pair(&a, &b);
    e2e_stop(&b);
    e2e_expect(a.c, "+OK", "ACL SETUSER default -psync"); /* it stays as it is */
    e2e_expect(a.c, "+OK", "SET new 1");
    e2e_again(&b);
    e2e_expect(b.c, "+OK", "CONFIG SET replica-read-fallback yes quorum-timeout 30000");
    e2e_expect(b.c, "$1", "GET new");
    e2e_expect(a.c, "-NOPERM tls-replication: this node takes links over TLS only",
               "REPL.READ %032d 7 0 default 0 2 GET new", 1);
    e2e_expect(a.c, ":1", "CLIENT KILL USER default");
    e2e_expect(a.c, "+OK", "CONFIG SET tls-auth-clients no"); /* connections without a certificate */
    e2e_expect(b.c, "nil", "GET new");
    assert_non_null(strstr(e2e_info(b.c, "fallback_error"), "a link takes a certificate"));
    e2e_finish(&b);
    e2e_finish(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_cell_over_tls_fails_over_and_loses_nothing, trio_teardown),
        cmocka_unit_test_teardown(certificates_are_renewed_while_it_runs, trio_teardown),
        cmocka_unit_test_teardown(links_without_tls_are_refused, trio_teardown),
        cmocka_unit_test_teardown(whoever_has_another_authority_is_refused, trio_teardown),
        cmocka_unit_test_teardown(a_full_resync_goes_over_tls_too, trio_teardown),
        cmocka_unit_test_teardown(forwarded_reads_go_over_tls_too, trio_teardown),
    };
    return cmocka_run_group_tests(tests, setup, tls_world_end);
}
