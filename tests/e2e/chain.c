/* chain.c - replicas of replicas: three nodes in a row, and a cell of three voters with a replica at a replica. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/trio.h"
#include "tests/unit/tls_fixture.h"

#define FRESH "--state-check-interval", "1"
#define OURS                                                                                                   \
    "--tls-port", "auto", "--tls-replication", "yes", "--tls-cert-file", PATH("server.crt"), "--tls-key-file", \
        PATH("server.key"), "--tls-ca-cert-file", ca_path

static char ca_path[128];

static int setup(void **state)
{
    if (tls_world(state))
        return -1;
    snprintf(ca_path, sizeof ca_path, "%s", PATH("ca.crt"));
    return 0;
}

struct row {
    struct e2e a, b, c; /* c follows b follows a */
};

static const char *text_of(long long n)
{
    static char text[24];
    snprintf(text, sizeof text, "%lld", n);
    return text;
}

static void start_row(struct row *r)
{
    e2e_start(&r->a, "--port", "auto", FRESH, NULL);
    e2e_start(&r->b, "--port", "auto", "--replicaof", "127.0.0.1", text_of(r->a.port), NULL);
    e2e_info_wait(r->b.c, "master_link_status", "up");
    e2e_start(&r->c, "--port", "auto", "--replicaof", "127.0.0.1", text_of(r->b.port), NULL);
    e2e_info_wait(r->c.c, "master_link_status", "up");
}

static void finish_row(struct row *r)
{
    e2e_finish(&r->c);
    e2e_finish(&r->b);
    e2e_finish(&r->a);
}

/* Written on one node, it is read on the other. */
static void comes_through(redisContext *from, redisContext *to, const char *value)
{
    char want[64];
    struct e2e_deadline w = {.what = value};
    int there;
    e2e_expect(from, "+OK", "SET k %s", value);
    snprintf(want, sizeof want, "%lld", e2e_int(from, "CLIENT LASTLSN"));
    do { /* also -MASTERDOWN, while it finds its way */
        redisReply *r = e2e_command(to, "READ.AFTER %s TIMEOUT 100", want);
        there = r->type == REDIS_REPLY_STATUS;
        freeReplyObject(r);
    } while (!there && e2e_not_yet(&w));
    snprintf(want, sizeof want, "$%s", value);
    e2e_expect(to, want, "GET k");
}

static void three_in_a_row(void **state)
{
    struct row r;
    char want[64];
    (void)state;
    start_row(&r);
    comes_through(r.a.c, r.c.c, "one");
    e2e_expect(r.a.c, ":1", "WAIT 2 1"); /* direct ones */
    e2e_expect(r.c.c, "-READONLY ...", "SET k no");
    snprintf(want, sizeof want, "[$slave $127.0.0.1 :%d $connected :...", r.b.port);
    e2e_expect(r.c.c, want, "ROLE");
    assert_string_equal(e2e_info(r.c.c, "master_port"), text_of(r.b.port));
    assert_string_equal(e2e_info(r.a.c, "connected_slaves"), "1");
    assert_string_equal(e2e_info(r.b.c, "role"), "slave");
    e2e_info_wait(r.b.c, "connected_slaves", "1");
    snprintf(want, sizeof want, "ip=127.0.0.1,port=%d,state=online", r.c.port);
    assert_non_null(strstr(e2e_info(r.b.c, "slave0"), want));
    snprintf(want, sizeof want, "%s", e2e_info(r.a.c, "master_replid"));
    assert_string_equal(e2e_info(r.c.c, "master_replid"), want);

    snprintf(want, sizeof want, "%lld",
             e2e_int(r.a.c, "SNAPSHOT.CREATE")); /* its state is compared with the primary's */
    e2e_expect(r.a.c, "+OK", "SET something new");
    e2e_info_wait(r.c.c, "state_compared_lsn", want);
    assert_string_equal(e2e_info(r.c.c, "state_compared"), "equal");
    finish_row(&r);
}

static void a_replica_stays_when_what_it_follows_loses_the_primary(void **state)
{
    struct row r;
    struct e2e_deadline w = {.what = "the relay to be without a primary for a while"};
    (void)state;
    start_row(&r);
    comes_through(r.a.c, r.c.c, "one");
    e2e_kill(&r.a);
    while (strtol(e2e_info(r.b.c, "master_link_down_since_seconds"), NULL, 10) < 3 && e2e_not_yet(&w)) {
    } /* longer than a link's time-out */
    e2e_info_wait(r.c.c, "master_link_status", "up");
    e2e_info_wait(r.b.c, "connected_slaves", "1");
    e2e_expect(r.c.c, "$one", "GET k");
    e2e_again(&r.a);
    comes_through(r.a.c, r.c.c, "two");
    finish_row(&r);
}

static void a_relay_is_killed_and_comes_back(void **state)
{
    struct row r;
    (void)state;
    start_row(&r);
    comes_through(r.a.c, r.c.c, "one");
    e2e_kill(&r.b);
    e2e_info_wait(r.c.c, "master_link_status", "down");
    for (int i = 0; i < 200; i++)
        e2e_expect(r.a.c, "+OK", "SET while-away-%d %d", i, i);
    e2e_expect(r.c.c, "$one", "GET k");
    e2e_again(&r.b);
    comes_through(r.a.c, r.c.c, "two");
    e2e_expect(r.c.c, "$199", "GET while-away-199");
    e2e_kill(&r.c);
    comes_through(r.a.c, r.b.c, "three");
    e2e_again(&r.c);
    comes_through(r.a.c, r.c.c, "four");
    e2e_same_state(r.a.c, r.c.c);
    finish_row(&r);
}

/* Its replica follows along into the new term; and what was the primary may follow it, or its replica. */
static void a_relay_is_promoted(void **state)
{
    struct row r;
    char old[64], lsn[24];
    (void)state;
    start_row(&r);
    comes_through(r.a.c, r.c.c, "one");
    snprintf(old, sizeof old, "%s", e2e_info(r.b.c, "master_replid"));
    snprintf(lsn, sizeof lsn, "%lld", e2e_field(r.b.c, "WBL.INFO", "last-lsn") + 1);
    e2e_expect(r.b.c, "+OK", "REPLICAOF NO ONE");
    assert_string_equal(e2e_info(r.b.c, "role"), "master");
    assert_string_equal(e2e_info(r.b.c, "master_replid2"), old);
    assert_string_equal(e2e_info(r.b.c, "second_repl_offset"), lsn);
    comes_through(r.b.c, r.c.c, "two");
    e2e_info_wait(r.c.c, "master_replid2", old);
    assert_string_equal(e2e_info(r.c.c, "second_repl_offset"), lsn);
    snprintf(old, sizeof old, "%s", e2e_info(r.b.c, "master_replid"));
    assert_string_equal(e2e_info(r.c.c, "master_replid"), old);

    e2e_expect(r.a.c, "+OK", "REPLICAOF 127.0.0.1 %d", r.c.port); /* the row the other way round */
    e2e_info_wait(r.a.c, "master_link_status", "up");
    comes_through(r.b.c, r.a.c, "three");
    finish_row(&r);
}

/* A primary whose last writes nobody has is put behind the one that was promoted, over a relay: they are gone, as with
 * Redis, and it has what the others have. */
static void another_history_gives_way_over_a_relay(void **state)
{
    struct row r;
    (void)state;
    start_row(&r);
    comes_through(r.a.c, r.c.c, "one");
    e2e_expect(r.b.c, "+OK", "REPLICAOF NO ONE");
    for (int i = 0; i < 20; i++)
        e2e_expect(r.a.c, "+OK", "SET lost-%d x", i);
    comes_through(r.b.c, r.c.c, "two");
    e2e_expect(r.a.c, "+OK", "REPLICAOF 127.0.0.1 %d", r.c.port);
    e2e_log_wait(&r.a, "takes the place of what was here");
    redisFree(r.a.c);
    e2e_ready(&r.a);
    e2e_info_wait(r.a.c, "master_link_status", "up");
    comes_through(r.b.c, r.a.c, "three");
    e2e_expect(r.a.c, "nil", "GET lost-0");
    finish_row(&r);
}

/* Another cell's data takes the place of the relay's, and then of its replica's. */
static void a_relay_that_takes_another_cells_data_passes_it_on(void **state)
{
    struct row r;
    struct e2e x;
    (void)state;
    start_row(&r);
    comes_through(r.a.c, r.c.c, "one");
    e2e_start(&x, "--port", "auto", NULL);
    e2e_expect(x.c, "+OK", "SET theirs 1");
    e2e_expect(r.b.c, "+OK", "REPLICAOF 127.0.0.1 %d", x.port);
    e2e_log_wait(&r.b, "takes the place of what was here");
    redisFree(r.b.c);
    e2e_ready(&r.b);
    e2e_log_wait(&r.c, "takes the place of what was here");
    redisFree(r.c.c);
    e2e_ready(&r.c);
    comes_through(x.c, r.c.c, "two");
    e2e_expect(r.c.c, "$1", "GET theirs");
    e2e_finish(&x);
    finish_row(&r);
}

static int is_down(struct e2e *s)
{
    return strcmp(e2e_info(s->c, "master_link_status"), "down") == 0;
}

/* Nobody leads. One notices, and whom it streams to loses it; behind that the row is as one whose head lost its source.
 */
static void a_circle_ends(void **state)
{
    struct row r;
    struct e2e_deadline w = {.what = "the circle to end"};
    (void)state;
    start_row(&r);
    comes_through(r.a.c, r.c.c, "one");
    e2e_expect(r.a.c, "+OK", "REPLICAOF 127.0.0.1 %d", r.c.port);
    while (is_down(&r.a) + is_down(&r.b) + is_down(&r.c) < 2 && e2e_not_yet(&w)) {
    }
    e2e_expect(r.a.c, "-READONLY ...", "SET k no");
    e2e_expect(r.a.c, "+OK", "REPLICAOF NO ONE");
    comes_through(r.a.c, r.c.c, "two");
    e2e_expect(r.b.c, "$two", "GET k");
    finish_row(&r);
}

static void a_row_over_tls(void **state)
{
    struct row r;
    (void)state;
    e2e_start(&r.a, OURS, NULL);
    e2e_start(&r.b, OURS, "--replicaof", "127.0.0.1", text_of(r.a.tls_port), NULL);
    e2e_info_wait(r.b.c, "master_link_status", "up");
    for (int i = 0; i < 50; i++)
        e2e_expect(r.a.c, "+OK", "SET before-%d %d", i, i);
    e2e_start(&r.c, OURS, "--replicaof", "127.0.0.1", text_of(r.b.tls_port), NULL);
    e2e_info_wait(r.c.c, "master_link_status", "up");
    e2e_log_wait(&r.c, " over TLS");
    comes_through(r.a.c, r.c.c, "one");
    e2e_expect(r.c.c, "$49", "GET before-49");
    assert_non_null(strstr(e2e_info(r.b.c, "slave0"), text_of(r.c.tls_port)));
    finish_row(&r);
}

/* ---- voters ---- */

static void a_cell_has_a_replica_at_a_replica(void **state)
{
    struct trio t;
    struct e2e d;
    (void)state;
    trio_start(&t);
    e2e_start(&d, "--port", "auto", "--voters", t.voters[0], t.voters[1], t.voters[2], "--replicaof", t.host[1],
              text_of(t.port[1]), NULL);
    e2e_info_wait(d.c, "master_link_status", "up");
    assert_string_equal(e2e_info(d.c, "master_port"), text_of(t.port[1]));
    comes_through(t.node[0].c, d.c, "one");
    e2e_expect(t.node[0].c, ":2", "WAIT 3 1");
    assert_string_equal(e2e_info(t.node[0].c, "connected_slaves"), "2");
    e2e_info_wait(t.node[1].c, "connected_slaves", "1");

    e2e_kill(&t.node[1]); /* the relay */
    e2e_info_wait(d.c, "master_link_status", "down");
    e2e_expect(t.node[0].c, "+OK", "SET k two");
    trio_again(&t, 1);
    comes_through(t.node[0].c, d.c, "three");

    trio_lead(&t, 2); /* another primary: d stays where it is */
    comes_through(t.node[2].c, d.c, "four");
    assert_string_equal(e2e_info(d.c, "master_port"), text_of(t.port[1]));
    trio_lead(&t, 1); /* the relay itself */
    comes_through(t.node[1].c, d.c, "five");
    e2e_expect(t.node[1].c, "+OK", "SET k six");
    e2e_expect(t.node[1].c, ":3", "WAIT 3 0");
    e2e_expect(d.c, "+OK", "REPLICAOF 127.0.0.1 %d", t.port[0]);
    comes_through(t.node[1].c, d.c, "seven");
    e2e_info_wait(d.c, "master_port", text_of(t.port[0]));
    e2e_finish(&d);
    trio_finish(&t);
}

/* Until a node answers so. */
static void await(redisContext *c, const char *want, const char *command)
{
    struct e2e_deadline w = {.what = want};
    int there;
    do {
        redisReply *r = e2e_command(c, command);
        there = r->str && strncmp(r->str, want, strlen(want)) == 0;
        freeReplyObject(r);
    } while (!there && e2e_not_yet(&w));
}

/* It is linked, and hears its primary: which may not be the primary any more. */
static void the_replica_of_a_primary_without_a_majority_refuses_reads(void **state)
{
    struct trio t;
    struct e2e d;
    (void)state;
    trio_start(&t);
    e2e_start(&d, "--port", "auto", "--voters", t.voters[0], t.voters[1], t.voters[2], "--replicaof", t.host[0],
              text_of(t.port[0]), NULL);
    comes_through(t.node[0].c, d.c, "one");
    e2e_kill(&t.node[1]);
    e2e_kill(&t.node[2]);
    await(d.c, "MASTERDOWN", "GET k");
    e2e_info_wait(d.c, "master_link_status", "up");
    trio_again(&t, 1);
    await(t.node[0].c, "PONG", "PING");
    comes_through(t.node[0].c, d.c, "two");
    e2e_finish(&d);
    trio_finish(&t);
}

/* Whatever happens to primary and relay, what was acknowledged is there in the end, at the end of the chain too. */
static void a_replica_at_a_replica_has_what_was_acknowledged(void **state)
{
    struct trio t;
    struct e2e d;
    (void)state;
    trio_start(&t);
    e2e_start(&d, "--port", "auto", "--voters", t.voters[0], t.voters[1], t.voters[2], "--replicaof", t.host[1],
              text_of(t.port[1]), NULL);
    trio_load_begin(&t, 3);
    for (unsigned round = 0; round < 3; round++) {
        struct e2e_deadline w = {.what = "writes to be acknowledged"};
        unsigned from = trio_load_done(), old = round % TRIO, next = (round + 1) % TRIO;
        while (trio_load_done() < from + 50 && e2e_not_yet(&w)) {
        }
        e2e_kill(&t.node[old]);
        trio_lead(&t, next);
        trio_begin_again(&t, old);
        e2e_ready(&t.node[old]);
    }
    trio_load_end(&t);
    trio_check(&t);
    comes_through(t.node[0].c, d.c, "end");
    e2e_same_state(t.node[0].c, d.c);
    e2e_finish(&d);
    trio_finish(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(three_in_a_row, e2e_teardown),
        cmocka_unit_test_teardown(a_replica_stays_when_what_it_follows_loses_the_primary, e2e_teardown),
        cmocka_unit_test_teardown(a_relay_is_killed_and_comes_back, e2e_teardown),
        cmocka_unit_test_teardown(a_relay_is_promoted, e2e_teardown),
        cmocka_unit_test_teardown(another_history_gives_way_over_a_relay, e2e_teardown),
        cmocka_unit_test_teardown(a_relay_that_takes_another_cells_data_passes_it_on, e2e_teardown),
        cmocka_unit_test_teardown(a_circle_ends, e2e_teardown),
        cmocka_unit_test_teardown(a_row_over_tls, e2e_teardown),
        cmocka_unit_test_teardown(a_cell_has_a_replica_at_a_replica, trio_teardown),
        cmocka_unit_test_teardown(the_replica_of_a_primary_without_a_majority_refuses_reads, trio_teardown),
        cmocka_unit_test_teardown(a_replica_at_a_replica_has_what_was_acknowledged, trio_teardown),
    };
    return cmocka_run_group_tests_name("chain", tests, setup, tls_world_end);
}
