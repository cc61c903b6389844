/* cell.c - a cell of three servers: it forms, replicates, and fails over; what is acknowledged is never lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>

#include "tests/lib/trio.h"

static unsigned cycles(unsigned normally)
{
    const char *n = getenv("CYCLES");
    return n ? (unsigned)strtoul(n, NULL, 10) / 10 + 1 : normally;
}

/* Until a node answers so. */
static void await(redisContext *c, const char *want, const char *command)
{
    struct e2e_deadline w = {.what = want};
    char *text = NULL;
    do {
        redisReply *r = e2e_command(c, command);
        free(text);
        text = e2e_show_reply(r);
        freeReplyObject(r);
    } while (strncmp(text, want, strlen(want)) != 0 && e2e_not_yet(&w));
    free(text);
}

static void await_writes(unsigned more)
{
    struct e2e_deadline w = {.what = "writes to be acknowledged"};
    unsigned from = trio_load_done();
    while (trio_load_done() < from + more && e2e_not_yet(&w)) {
    }
}

/* ---- forming ---- */

static void a_cell_forms_and_every_node_can_be_read(void **state)
{
    struct trio t;
    char want[64];
    (void)state;
    trio_start(&t);
    redisContext *first = t.node[0].c, *second = t.node[1].c;
    e2e_expect(first, "+OK", "SET k one");
    e2e_expect(first, ":2", "WAIT 2 0");
    long long lsn = e2e_int(first, "CLIENT LASTLSN");
    for (unsigned i = 0; i < TRIO; i++) {
        e2e_expect(t.node[i].c, "+OK", "READ.AFTER %lld TIMEOUT 0", lsn);
        e2e_expect(t.node[i].c, "$one", "GET k");
        e2e_expect(t.node[i].c, "+PONG", "PING");
    }
    e2e_expect(second, "-READONLY You can't write against a read only replica.", "SET k two");
    e2e_expect(second, "-MASTERDOWN ...", "READ.AFTER %lld TIMEOUT 1", lsn + 1000);
    snprintf(want, sizeof want, "[$slave $127.0.0.1 :%d $connected :...", t.port[0]);
    e2e_expect(second, want, "ROLE");
    snprintf(want, sizeof want, "%d", t.port[0]);
    e2e_info_wait(second, "master_port", want);
    e2e_info_wait(second, "master_link_status", "up");
    e2e_info_wait(second, "slave_priority", "100");
    e2e_expect(first, "[$master :...", "ROLE");
    trio_finish(&t);
}

/* Nodes that are no cell, in the words of the log. */
static void another_list_of_voters_is_refused(void **state)
{
    struct trio t;
    char port[16];
    (void)state;
    trio_plan(&t);
    snprintf(port, sizeof port, "%d", t.port[0]);
    e2e_begin(&t.node[0], "--port", port, "--voters", t.voters[0], t.voters[1], t.voters[2], NULL);
    snprintf(port, sizeof port, "%d", t.port[1]);
    e2e_begin(&t.node[1], "--port", port, "--voters", t.voters[0], t.voters[2], t.voters[1], NULL);
    e2e_log_wait(&t.node[0], "another list of voters");
    e2e_finish(&t.node[0]);
    e2e_finish(&t.node[1]);
}

static void a_node_that_is_none_of_the_voters_does_not_start(void **state)
{
    struct e2e s;
    char said[4096];
    (void)state;
    e2e_start(&s, "--port", "auto", NULL);
    e2e_stop(&s);
    char port[16];
    snprintf(port, sizeof port, "%d", e2e_free_port());
    assert_int_not_equal(e2e_run(said, sizeof said, "coffer-server", "--dir", s.dir, "--port", port, "--voters",
                                 "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", NULL),
                         0);
    assert_non_null(strstr(said, "none of 127.0.0.1:1,127.0.0.1:2,127.0.0.1:3 is this node"));
    assert_int_not_equal(e2e_run(said, sizeof said, "coffer-server", "--dir", s.dir, "--port", port, "--voters",
                                 "127.0.0.1:1", "127.0.0.1:2", NULL),
                         0);
    assert_non_null(strstr(said, "an even number of voters"));
    e2e_finish(&s);
}

/* The voters' list has names, and Sentinel knows addresses: what it has CONFIG REWRITE keep must be found in the list
 * by the next start. */
static void a_replica_of_a_cell_of_names_follows_after_a_restart(void **state)
{
    struct trio t;
    struct e2e d;
    char port[16], command[64], keeps[64];
    (void)state;
    trio_plan(&t);
    for (unsigned i = 0; i < TRIO; i++)
        snprintf(t.voters[i], sizeof t.voters[i], "localhost:%d", t.port[i]);
    trio_start_planned(&t);
    snprintf(port, sizeof port, "%d", t.port[1]);
    e2e_start(&d, "--port", "auto", "--voters", t.voters[0], t.voters[1], t.voters[2], "--replicaof", "localhost", port,
              NULL);
    e2e_info_wait(d.c, "master_link_status", "up");
    snprintf(port, sizeof port, "%d", t.port[2]);
    snprintf(command, sizeof command, "REPLICAOF 127.0.0.1 %s", port);
    await(d.c, "+OK", command); /* the address is known when the link is there */
    e2e_info_wait(d.c, "master_port", port);
    e2e_info_wait(d.c, "master_link_status", "up");
    e2e_info_wait(d.c, "master_host", "127.0.0.1");
    snprintf(keeps, sizeof keeps, "[$replicaof $localhost %s]", port);
    e2e_expect(d.c, keeps, "CONFIG GET replicaof");

    e2e_stop(&d);
    e2e_again_with(&d, "--port", "auto", "--voters", t.voters[0], t.voters[1], t.voters[2], "--replicaof", "localhost",
                   port, NULL);
    e2e_info_wait(d.c, "master_port", port);
    e2e_info_wait(d.c, "master_link_status", "up");
    e2e_stop(&d);
    e2e_again_with(&d, "--port", "auto", "--voters", t.voters[0], t.voters[1], t.voters[2], "--replicaof", "127.0.0.9",
                   port, NULL);
    e2e_log_wait(&d, "is none of the voters");
    e2e_finish(&d);
    trio_finish(&t);
}

/* ---- failing over ---- */

static void nothing_acknowledged_is_lost_when_primaries_are_killed(void **state)
{
    struct trio t;
    (void)state;
    trio_start(&t);
    trio_load_begin(&t, 4);
    for (unsigned round = 0; round < cycles(3); round++) {
        unsigned old = round % TRIO, next = (round + 1) % TRIO;
        await_writes(50);
        e2e_kill(&t.node[old]);
        trio_lead(&t, next);
        await_writes(50);
        trio_again(&t, old);
        trio_await_followers(&t, next, 2);
    }
    trio_load_end(&t);
    trio_check(&t);
    trio_finish(&t);
}

/* It does not know that it is primary no more when it wakes; what it then says to clients must be true. */
static void a_primary_that_was_paused_follows_and_loses_nothing(void **state)
{
    struct trio t;
    (void)state;
    trio_start(&t);
    trio_load_begin(&t, 4);
    for (unsigned round = 0; round < cycles(2); round++) {
        unsigned old = round % 2, next = !old;
        await_writes(50);
        kill(t.node[old].pid, SIGSTOP);
        trio_lead(&t, next);
        kill(t.node[old].pid, SIGCONT);
        await_writes(50);
        e2e_info_wait(t.node[old].c, "role", "slave");
        trio_await_followers(&t, next, 2);
    }
    trio_load_end(&t);
    trio_check(&t);
    trio_finish(&t);
}

static void a_primary_without_a_majority_refuses_and_comes_back(void **state)
{
    struct trio t;
    (void)state;
    trio_start(&t);
    redisContext *first = t.node[0].c;
    e2e_expect(first, "+OK", "SET k one");
    e2e_kill(&t.node[1]);
    e2e_expect(first, "+OK", "SET k two");
    e2e_kill(&t.node[2]);
    await(first, "-NOQUORUM", "PING");
    await(first, "-NOREPLICAS", "SET k three");
    await(first, "-NOQUORUM", "GET k");
    trio_again(&t, 2);
    await(first, "+PONG", "PING");
    await(first, "+OK", "SET k four");
    trio_again(&t, 1);
    trio_await_followers(&t, 0, 2);
    e2e_expect(first, "$four", "GET k");
    trio_finish(&t);
}

static void a_cell_that_was_stopped_goes_on(void **state)
{
    struct trio t;
    (void)state;
    trio_start(&t);
    trio_lead(&t, 2);
    e2e_expect(t.node[2].c, "+OK", "SET k one");
    for (unsigned i = 0; i < TRIO; i++)
        e2e_stop(&t.node[i]);
    for (unsigned i = 0; i < TRIO; i++)
        e2e_begin_again(&t.node[i]);
    for (unsigned i = 0; i < TRIO; i++)
        e2e_ready(&t.node[i]);
    trio_await_master(&t, 2); /* it was before */
    trio_await_followers(&t, 2, 2);
    e2e_expect(t.node[2].c, "+OK", "SET k two");
    await(t.node[0].c, "$two", "GET k");
    await(t.node[1].c, "$two", "GET k");
    trio_finish(&t);
}

static void a_voter_that_lost_its_disk_catches_up_and_votes(void **state)
{
    struct trio t;
    char said[512], command[512];
    (void)state;
    trio_start(&t);
    e2e_expect(t.node[0].c, "+OK", "SET k one");
    e2e_kill(&t.node[2]);
    snprintf(command, sizeof command, "cd %s && rm -rf base cell shard-* snapshots state vote wal", t.node[2].dir);
    assert_int_equal(e2e_run(said, sizeof said, "sh", "-c", command, NULL), 0);
    trio_again(&t, 2);
    e2e_log_wait(&t.node[2], "what it holds is taken from the others");
    trio_await_followers(&t, 0, 2);
    e2e_expect(t.node[0].c, "+OK", "SET k two");
    await(t.node[2].c, "$two", "GET k");
    e2e_info_wait(t.node[2].c, "slave_priority", "100"); /* it is heard again */
    trio_lead(&t, 2);
    e2e_expect(t.node[2].c, "+OK", "SET k three");
    trio_finish(&t);
}

/* ---- a full disk ---- */

static char disk[TRIO][E2E_PATH + 8]; /* what is mounted at a node's log; empty: nothing */

static void take_disks_off(void)
{
    for (unsigned i = 0; i < TRIO; i++) {
        if (disk[i][0])
            (void)umount2(disk[i], MNT_DETACH);
        disk[i][0] = 0;
    }
}

static int take_disks_off_and_teardown(void **state)
{
    take_disks_off();
    return trio_teardown(state);
}

/* The log of a node that is stopped gets a disk of its own. 0: mounting is not allowed here. */
static int give_log_a_disk(const struct trio *t, unsigned i)
{
    const struct e2e *node = &t->node[i];
    char said[512], command[512];
    snprintf(disk[i], sizeof disk[i], "%s/wal", node->dir);
    snprintf(command, sizeof command, "cd %s && mv wal old && mkdir -m 700 wal", node->dir);
    assert_int_equal(e2e_run(said, sizeof said, "sh", "-c", command, NULL), 0);
    if (mount("tmpfs", disk[i], "tmpfs", 0, "size=1g,mode=700") != 0) {
        disk[i][0] = 0;
        return 0;
    }
    snprintf(command, sizeof command, "cd %s && cp -a old/. wal && rm -r old", node->dir);
    assert_int_equal(e2e_run(said, sizeof said, "sh", "-c", command, NULL), 0);
    return 1;
}

#define FULL "size=64m" /* less than the log leaves free */
#define ROOMY "size=1g"

static void resize_disk(unsigned i, const char *options)
{
    assert_int_equal(mount("tmpfs", disk[i], "tmpfs", MS_REMOUNT, options), 0);
}

/* Once it wrote until nothing was left, what the stores need included, and ended. */
static void a_replica_whose_disk_is_full_waits_for_room(void **state)
{
    struct trio t;
    (void)state;
    trio_start(&t);
    redisContext *first = t.node[0].c;
    e2e_expect(first, "+OK", "SET k one");
    e2e_stop(&t.node[2]);
    if (!give_log_a_disk(&t, 2)) {
        trio_finish(&t);
        skip();
    }
    trio_again(&t, 2);
    trio_await_followers(&t, 0, 2);
    resize_disk(2, FULL);
    trio_await(&t, 2, "slave_priority", "0");
    e2e_log_wait(&t.node[2], "the disk has no room for the log");
    for (int i = 0; i < 400; i++)
        e2e_expect(first, "+OK", "SET k%d two", i);
    trio_await(&t, 2, "master_link_status", "down");
    trio_await(&t, 2, "master_link_error", "this node's disk has no room for the log");
    trio_await(&t, 2, "slave_priority", "0");
    e2e_expect(first, "+OK", "SET k two");

    resize_disk(2, ROOMY);
    trio_await(&t, 2, "slave_priority", "100");
    trio_await_followers(&t, 0, 2);
    trio_await_equal(&t);
    await(t.node[2].c, "$two", "GET k399");
    trio_lead(&t, 2);
    trio_await_followers(&t, 2, 2);
    e2e_expect(t.node[2].c, "+OK", "SET k three");
    e2e_stop(&t.node[2]);
    take_disks_off();
    trio_finish(&t);
}

/* Two of three: once each write was told after seconds that nobody knows, and in the end there was no primary. */
static void writes_are_refused_while_too_few_voters_have_room(void **state)
{
    struct trio t;
    (void)state;
    trio_start(&t);
    e2e_expect(t.node[0].c, "+OK", "SET k one");
    e2e_stop(&t.node[1]);
    e2e_stop(&t.node[2]);
    if (!give_log_a_disk(&t, 1) || !give_log_a_disk(&t, 2)) {
        trio_finish(&t);
        skip();
    }
    trio_again(&t, 1);
    trio_again(&t, 2);
    trio_await_master(&t, 0);
    trio_await_followers(&t, 0, 2);
    redisContext *first = t.node[0].c;
    resize_disk(1, FULL);
    trio_await(&t, 0, "voters_with_full_disk", "1");
    e2e_expect(first, "+OK", "SET k two");
    resize_disk(2, FULL);
    trio_await(&t, 0, "voters_with_full_disk", "2");
    e2e_log_wait(&t.node[0], "Writes are refused: too few voters have room");
    for (unsigned i = 0; i < 20; i++)
        e2e_expect(first, "-NOREPLICAS Not enough good replicas to write.", "SET k three");
    e2e_expect(first, "$two", "GET k");
    assert_true(trio_is_master(&t, 0));

    resize_disk(2, ROOMY);
    trio_await(&t, 0, "voters_with_full_disk", "1");
    await(first, "+OK", "SET k four");
    resize_disk(1, ROOMY);
    trio_await(&t, 0, "voters_with_full_disk", "0");
    trio_await_followers(&t, 0, 2);
    trio_await_equal(&t);
    for (unsigned i = 0; i < TRIO; i++)
        e2e_stop(&t.node[i]);
    take_disks_off();
    trio_finish(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_cell_forms_and_every_node_can_be_read, trio_teardown),
        cmocka_unit_test_teardown(another_list_of_voters_is_refused, trio_teardown),
        cmocka_unit_test_teardown(a_node_that_is_none_of_the_voters_does_not_start, trio_teardown),
        cmocka_unit_test_teardown(a_replica_of_a_cell_of_names_follows_after_a_restart, trio_teardown),
        cmocka_unit_test_teardown(nothing_acknowledged_is_lost_when_primaries_are_killed, trio_teardown),
        cmocka_unit_test_teardown(a_primary_that_was_paused_follows_and_loses_nothing, trio_teardown),
        cmocka_unit_test_teardown(a_primary_without_a_majority_refuses_and_comes_back, trio_teardown),
        cmocka_unit_test_teardown(a_cell_that_was_stopped_goes_on, trio_teardown),
        cmocka_unit_test_teardown(a_voter_that_lost_its_disk_catches_up_and_votes, trio_teardown),
        cmocka_unit_test_teardown(a_replica_whose_disk_is_full_waits_for_room, take_disks_off_and_teardown),
        cmocka_unit_test_teardown(writes_are_refused_while_too_few_voters_have_room, take_disks_off_and_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
