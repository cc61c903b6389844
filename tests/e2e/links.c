/* What an operator sees of links: why there is none, that one that falls is soon back, that those who are silent or do
 * not read are dropped, that two replicas of one address are both served, and that a replica that has all of the log
 * never needs a copy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "engine/cellwire.h"
#include "tests/lib/cut.h"
#include "tests/lib/e2e.h"
#include "tests/lib/net.h"

static char number[16];

static const char *port_of(const struct e2e *s)
{
    snprintf(number, sizeof number, "%d", s->port);
    return number;
}

static void await_error(redisContext *c, const char *want)
{
    struct e2e_deadline w = {.what = want};
    while (!strstr(e2e_info(c, "master_link_error"), want) && e2e_not_yet(&w)) {
    }
}

/* A replica that is empty says what keeps it so, not only that it loads. */
static void a_blank_replica_says_why_it_waits(void **state)
{
    struct e2e a, b;
    redisContext *u;
    (void)state;
    e2e_start(&a, "--port", "auto", NULL);
    e2e_expect(a.c, "+OK", "ACL SETUSER link on >pw +@all ~*");
    e2e_begin(&b, "--port", "auto", "--replicaof", "127.0.0.1", port_of(&a), "--masteruser", "link", "--masterauth",
              "wrong", NULL);
    e2e_log_wait(&b, "No link to");
    u = e2e_connect(&b);
    await_error(u, "WRONGPASS");
    assert_string_equal(e2e_info(u, "master_port"), port_of(&a));
    e2e_expect(u, "-LOADING this node is empty and waits for its cell: 127.0.0.1:...", "PING");
    redisReply *r = e2e_command(u, "GET k");
    assert_non_null(strstr(r->str, "WRONGPASS"));
    freeReplyObject(r);
    e2e_expect(u, "+OK", "CONFIG SET masterauth pw");
    e2e_ready(&b);
    e2e_info_wait(b.c, "master_link_status", "up");
    assert_string_equal(e2e_info(b.c, "master_link_error"), "");
    redisFree(u);
    e2e_finish(&b);
    e2e_finish(&a);
}

/* A replica that hangs holds nothing up, and is no replica any more; what comes back joins again. */
static void who_is_silent_is_dropped(void **state)
{
    struct e2e a, b;
    (void)state;
    e2e_start(&a, "--port", "auto", NULL);
    e2e_start(&b, "--port", "auto", "--replicaof", "127.0.0.1", port_of(&a), NULL);
    e2e_info_wait(a.c, "connected_slaves", "1");
    e2e_pause(&b);
    e2e_expect(a.c, "+OK", "CONFIG SET repl-timeout 2"); /* for the link that is there */
    e2e_log_wait(&a, "is gone: it is silent: repl-timeout");
    e2e_info_wait(a.c, "connected_slaves", "0");
    e2e_expect(a.c, "+OK", "SET k one");
    e2e_expect(a.c, "+OK", "CONFIG SET repl-timeout 60");
    kill(b.pid, SIGCONT);
    e2e_info_wait(a.c, "connected_slaves", "1");
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_expect(b.c, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(a.c, "CLIENT LASTLSN"));
    e2e_expect(b.c, "$one", "GET k");
    e2e_finish(&b);
    e2e_finish(&a);
}

/* Through a line that breaks again and again. */
static void a_link_that_falls_is_back(void **state)
{
    struct e2e a, b;
    struct cut line;
    (void)state;
    e2e_start(&a, "--port", "auto", NULL);
    cut_start(&line, a.port);
    snprintf(number, sizeof number, "%d", line.port);
    e2e_start(&b, "--port", "auto", "--replicaof", "127.0.0.1", number, NULL);
    for (int i = 0; i < 5; i++) {
        e2e_info_wait(b.c, "master_link_status", "up");
        e2e_expect(a.c, "+OK", "SET k %d", i);
        e2e_expect(b.c, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(a.c, "CLIENT LASTLSN"));
        cut_after(&line, 1, 0, 0);
        for (struct e2e_deadline w = {.what = "the line to break"}; !cut_made(&line) && e2e_not_yet(&w);) {
        }
    }
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_finish(&b);
    cut_stop(&line);
    e2e_finish(&a);
}

static void catches_up(struct e2e *a, struct e2e *b)
{
    static unsigned n;
    e2e_expect(a->c, "+OK", "SET k %u", ++n);
    e2e_info_wait(b->c, "master_link_status", "up");
    e2e_expect(b->c, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(a->c, "CLIENT LASTLSN"));
    assert_false(e2e_log_has(b, "Full resync"));
}

/* Whoever was restarted, in whatever order, and whoever wrote meanwhile: the log goes on, in a new term or not. */
static void who_has_the_log_needs_no_copy(void **state)
{
    struct e2e a, b;
    (void)state;
    e2e_start(&a, "--port", "auto", NULL);
    e2e_expect(a.c, "+OK", "SET k 0");
    e2e_start(&b, "--port", "auto", "--replicaof", "127.0.0.1", port_of(&a), NULL);
    catches_up(&a, &b);
    e2e_kill(&a); /* it comes back, and the replica knocks */
    e2e_again(&a);
    catches_up(&a, &b);
    e2e_stop(&a);
    e2e_again(&a);
    catches_up(&a, &b);
    e2e_stop(&b); /* it writes while nobody follows, before and after a restart */
    e2e_expect(a.c, "+OK", "SET k alone");
    e2e_stop(&a);
    e2e_again(&a);
    e2e_expect(a.c, "+OK", "SET k alone-again");
    e2e_again(&b);
    catches_up(&a, &b);
    e2e_kill(&a); /* both, the replica first */
    e2e_kill(&b);
    e2e_again(&b);
    e2e_again(&a);
    catches_up(&a, &b);
    e2e_kill(&b);
    freeReplyObject(e2e_command(a.c, "SNAPSHOT.CREATE"));
    e2e_kill(&a);
    e2e_again(&a);
    e2e_kill(&a);
    e2e_again(&a);
    e2e_again(&b);
    catches_up(&a, &b);
    e2e_finish(&b);
    e2e_finish(&a);
}

/* Two behind one NAT, or a replica-announce-port that was copied: neither takes the other's link away. */
static void two_replicas_that_announce_one_address_are_both_served(void **state)
{
    struct e2e a, b, c;
    (void)state;
    e2e_start(&a, "--port", "auto", NULL);
    e2e_start(&b, "--port", "auto", "--replicaof", "127.0.0.1", port_of(&a), "--replica-announce-port", "7379", NULL);
    catches_up(&a, &b);
    assert_false(e2e_log_has(&a, "Two replicas announce"));
    e2e_start(&c, "--port", "auto", "--replicaof", "127.0.0.1", port_of(&a), "--replica-announce-port", "7379", NULL);
    e2e_info_wait(a.c, "connected_slaves", "2");
    e2e_log_wait(&a, "Two replicas announce 127.0.0.1:7379");
    catches_up(&a, &b);
    catches_up(&a, &c);
    assert_false(e2e_log_has(&a, "is gone"));
    e2e_stop(&c); /* either may go, and come again */
    e2e_info_wait(a.c, "connected_slaves", "1");
    e2e_again(&c);
    e2e_info_wait(a.c, "connected_slaves", "2");
    catches_up(&a, &b);
    catches_up(&a, &c);
    assert_false(e2e_log_has(&b, "is gone"));
    e2e_finish(&c);
    e2e_finish(&b);
    e2e_finish(&a);
}

/* One that starts anew while its old link is half open: which is not there twice until repl-timeout. */
static void a_replica_that_starts_anew_takes_its_silent_links_place(void **state)
{
    struct e2e a, b, c;
    (void)state;
    e2e_start(&a, "--port", "auto", NULL);
    e2e_start(&b, "--port", "auto", "--replicaof", "127.0.0.1", port_of(&a), "--replica-announce-port", "7379", NULL);
    catches_up(&a, &b);
    e2e_pause(&b);
    e2e_start(&c, "--port", "auto", "--replicaof", "127.0.0.1", port_of(&a), "--replica-announce-port", "7379", NULL);
    e2e_log_wait(&a, "is silent, and a newer one is there");
    e2e_info_wait(a.c, "connected_slaves", "1");
    e2e_info_wait(a.c, "slave1", "");
    catches_up(&a, &c);
    assert_int_equal(kill(b.pid, SIGCONT), 0); /* it was another, and is served too */
    e2e_info_wait(a.c, "connected_slaves", "2");
    catches_up(&a, &b);
    e2e_finish(&c);
    e2e_finish(&b);
    e2e_finish(&a);
}

static void who_finds_too_many_clients_says_so(void **state)
{
    struct e2e a, b;
    redisContext *u;
    (void)state;
    e2e_start(&a, "--port", "auto", NULL);
    e2e_expect(a.c, "+OK", "CONFIG SET maxclients 1"); /* this one */
    e2e_begin(&b, "--port", "auto", "--replicaof", "127.0.0.1", port_of(&a), NULL);
    e2e_log_wait(&b, "No link to");
    u = e2e_connect(&b);
    await_error(u, "it says: ERR max number of clients reached");
    assert_false(e2e_log_has(&b, "Broken pipe"));
    assert_false(e2e_log_has(&b, "Connection reset"));
    e2e_expect(a.c, "+OK", "CONFIG SET maxclients 100");
    e2e_ready(&b);
    e2e_info_wait(b.c, "master_link_status", "up");
    redisFree(u);
    e2e_finish(&b);
    e2e_finish(&a);
}

#define PLACES 30 /* for replicas, without voters */

struct ids {
    char cell[33], realm[33];
};

/* Of a node, as it shows them to one of another realm, and to one of another cell. */
static void ask_ids(const struct e2e *s, struct ids *id)
{
    static const char zeros[] = "00000000000000000000000000000000", is[] = "this node's is ";
    struct e2e_raw r;
    char *text;
    e2e_raw_open(&r, s);
    e2e_raw_expect(&r, "+OK", "REPLCONF wbl-version 1");
    text = e2e_show_answer(e2e_raw_command(&r, "PSYNC ? 0 0 nobody %s %s - - r", zeros, zeros));
    const char *at = strstr(text, is);
    assert_non_null(at);
    snprintf(id->realm, sizeof id->realm, "%s", at + strlen(is));
    free(text);
    text = e2e_show_answer(e2e_raw_command(&r, "PSYNC ? 0 0 nobody %s %s - - r", zeros, id->realm));
    assert_int_equal(sscanf(text, "-NEWBORN %*s %*s %*s %*s %32s", id->cell), 1);
    free(text);
    e2e_raw_close(&r);
}

static void who_finds_no_place_says_so(void **state)
{
    struct e2e a, b;
    struct e2e_raw r[PLACES];
    struct ids id;
    (void)state;
    e2e_start(&a, "--port", "auto", "--repl-timeout", "3600", NULL);
    ask_ids(&a, &id);
    for (int i = 0; i < PLACES; i++) { /* nobody says anything */
        e2e_raw_open(&r[i], &a);
        e2e_raw_expect(&r[i], "+OK", "REPLCONF listening-port %d wbl-version 1", i + 1);
        e2e_raw_expect(&r[i], "+CONTINUE ...", "PSYNC ? 0 0 %d %s %s - - r", i, id.cell, id.realm);
    }
    assert_false(e2e_log_has(&a, "no place for more replicas"));
    e2e_begin(&b, "--port", "auto", "--replicaof", "127.0.0.1", port_of(&a), NULL);
    e2e_log_wait(&b, "it says: ERR no place for more replicas");
    e2e_log_wait(&a, "There is no place for more replicas: 127.0.0.1:");
    e2e_raw_close(&r[PLACES / 2]);
    e2e_ready(&b);
    catches_up(&a, &b);
    e2e_finish(&b);
    for (int i = 0; i < PLACES; i++)
        if (i != PLACES / 2)
            e2e_raw_close(&r[i]);
    e2e_finish(&a);
}

static void become_guest(struct e2e_raw *r, const struct e2e *s, const struct ids *id)
{
    e2e_raw_open(r, s);
    e2e_raw_expect(r, "+OK", "REPLCONF wbl-version 1");
    e2e_raw_expect(r, "+CONTINUE ...", "PSYNC ? 0 0 x %s %s - - r", id->cell, id->realm);
}

static void say_term(struct e2e_raw *r, enum cell_msg_type type, uint32_t term)
{
    uint8_t head[CELLWIRE_HEAD_BYTES];
    cellwire_put(head, &(struct cell_msg){.type = type, .leader = CELL_NOBODY, .promised = term, .term = term}, 0);
    e2e_raw_send(r, head, sizeof head);
}

static void await_other_term(redisContext *c, const char *before)
{
    struct e2e_deadline w = {.what = "the higher term to be topped"};
    while ((strcmp(e2e_info(c, "master_replid"), before) == 0 || strcmp(e2e_info(c, "role"), "master") != 0) &&
           e2e_not_yet(&w)) {
    }
}

/* With the right to be a replica it says that it is primary, of a term that nobody had. */
static void nobody_follows_who_only_says_so(void **state)
{
    struct e2e a;
    struct e2e_raw r;
    struct ids id;
    char before[64];
    (void)state;
    e2e_start(&a, "--port", "auto", NULL);
    e2e_expect(a.c, "+OK", "SET k one");
    ask_ids(&a, &id);
    e2e_raw_open(&r, &a);
    e2e_raw_expect(&r, "+OK", "REPLCONF wbl-version 1");
    e2e_raw_expect(&r, "-ERR the other says that it is voter 1 (from 0) of -", "PSYNC ? 0 0 x %s %s - 1 r", id.cell,
                   id.realm);
    e2e_raw_close(&r);
    become_guest(&r, &a, &id);
    e2e_log_wait(&a, "This node is the primary of term");
    snprintf(before, sizeof before, "%s", e2e_info(a.c, "master_replid"));
    say_term(&r, CELL_LEAD, 1000);
    await_other_term(a.c, before);
    e2e_expect(a.c, "+OK", "SET k two");
    assert_string_equal(e2e_info(a.c, "role"), "master");
    e2e_raw_close(&r);
    e2e_finish(&a);
}

/* A replica that was primary itself brings it: to clients nothing has happened. */
static void a_higher_term_is_topped_and_no_write_is_refused(void **state)
{
    struct e2e a;
    struct e2e_raw r;
    struct ids id;
    char before[64];
    (void)state;
    e2e_start(&a, "--port", "auto", NULL);
    ask_ids(&a, &id);
    become_guest(&r, &a, &id);
    e2e_log_wait(&a, "This node is the primary of term");
    redisContext *other = e2e_connect(&a);
    for (uint32_t round = 1; round <= 20; round++) {
        snprintf(before, sizeof before, "%s", e2e_info(a.c, "master_replid"));
        for (int i = 0; i < 100; i++) {
            redisAppendCommand(a.c, "SET k%d %u", i, round);
            redisAppendCommand(other, "INCR n");
        }
        for (int done = 0; !done;)
            assert_int_equal(redisBufferWrite(other, &done), REDIS_OK);
        say_term(&r, CELL_PROBE, 1000 * round);
        for (int i = 0; i < 100; i++)
            e2e_expect_next(a.c, "+OK");
        for (unsigned i = 1; i <= 100; i++)
            e2e_expect_next(other, ":...");
        assert_string_equal(e2e_info(a.c, "role"), "master");
        await_other_term(a.c, before);
    }
    e2e_expect(a.c, "$2000", "GET n");
    assert_false(e2e_log_has(&a, "no primary any more"));
    redisFree(other);
    e2e_raw_close(&r);
    e2e_finish(&a);
}

/* The last one: the network stays. */
static void who_is_turned_away_at_the_door_learns_why(void **state)
{
    struct e2e a, b;
    redisContext *u;
    (void)state;
    if (!net_start(2)) {
        printf("# no network namespaces here\n");
        skip();
    }
    net_enter(0);
    e2e_start(&a, "--bind", net_address(0), "--port", "7379", NULL); /* in protected mode */
    net_enter(1);
    e2e_begin(&b, "--bind", net_address(1), "--port", "7379", "--replicaof", net_address(0), "7379", NULL);
    net_leave();
    e2e_log_wait(&b, "it says: DENIED Coffer is running in protected mode");
    u = e2e_connect(&b);
    await_error(u, "it says: DENIED");
    assert_false(e2e_log_has(&b, "Broken pipe"));
    assert_false(e2e_log_has(&b, "Connection reset"));
    e2e_expect(a.c, "+OK", "CONFIG SET requirepass pw");
    e2e_expect(u, "+OK", "CONFIG SET masterauth pw");
    e2e_ready(&b);
    e2e_info_wait(b.c, "master_link_status", "up");
    redisFree(u);
    e2e_finish(&b);
    e2e_finish(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_blank_replica_says_why_it_waits, e2e_teardown),
        cmocka_unit_test_teardown(who_is_silent_is_dropped, e2e_teardown),
        cmocka_unit_test_teardown(a_link_that_falls_is_back, e2e_teardown),
        cmocka_unit_test_teardown(who_has_the_log_needs_no_copy, e2e_teardown),
        cmocka_unit_test_teardown(two_replicas_that_announce_one_address_are_both_served, e2e_teardown),
        cmocka_unit_test_teardown(a_replica_that_starts_anew_takes_its_silent_links_place, e2e_teardown),
        cmocka_unit_test_teardown(who_finds_too_many_clients_says_so, e2e_teardown),
        cmocka_unit_test_teardown(who_finds_no_place_says_so, e2e_teardown),
        cmocka_unit_test_teardown(nobody_follows_who_only_says_so, e2e_teardown),
        cmocka_unit_test_teardown(a_higher_term_is_topped_and_no_write_is_refused, e2e_teardown),
        cmocka_unit_test_teardown(who_is_turned_away_at_the_door_learns_why, e2e_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
