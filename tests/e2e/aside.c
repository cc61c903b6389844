/* aside.c - a node of a cell whose data is damaged where a start needs it sets it aside and takes all of it from the
 * others, as long as they are enough to hold what was ever acknowledged; else nothing is touched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/trio.h"

/* No snapshots but those that a test asks for, and segments that are full soon. */
#define SMALL "--wbl-segment-bytes", "65536", "--snapshot-log-bytes", "0", "--snapshot-interval", "0"
#define VALUE_BYTES 2000

static int has(const struct e2e *s, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", s->dir, name);
    return access(path, F_OK) == 0;
}

/* ---- data ---- */

static void fill(redisContext *c, const char *name, int n)
{
    char value[VALUE_BYTES + 1];
    memset(value, 'v', VALUE_BYTES);
    value[VALUE_BYTES] = 0;
    for (int i = 0; i < n; i++)
        redisAppendCommand(c, "SET %s-%d %d-%s", name, i, i, value);
    for (int i = 0; i < n; i++)
        e2e_expect_next(c, "+OK");
}

static void check(redisContext *c, const char *name, int n)
{
    char want[32];
    for (int i = 0; i < n; i++) {
        snprintf(want, sizeof want, "$%d-vvv...", i);
        e2e_expect(c, want, "GET %s-%d", name, i);
    }
}

/* Until the log begins behind what it ends with now: who lacks that needs a snapshot. */
static void trim(redisContext *c)
{
    struct e2e_deadline w = {.what = "the log to be trimmed"};
    long long last = e2e_field(c, "WBL.INFO", "last-lsn");
    while (e2e_field(c, "WBL.INFO", "first-lsn") <= last && e2e_not_yet(&w)) {
        fill(c, "ballast", 40);
        e2e_int(c, "SNAPSHOT.CREATE");
    }
}

/* ---- a cell, and damage ---- */

static void start_cell(struct trio *t)
{
    char port[16];
    trio_plan(t);
    for (unsigned i = 0; i < TRIO; i++) {
        snprintf(port, sizeof port, "%d", t->port[i]);
        e2e_begin(&t->node[i], "--port", port, "--voters", t->voters[0], t->voters[1], t->voters[2], "--io-threads",
                  "1", SMALL, NULL);
    }
    for (unsigned i = 0; i < TRIO; i++)
        e2e_ready(&t->node[i]);
    trio_await_master(t, 0);
    trio_await_followers(t, 0, 2);
}

/* The first records of the last two segments (of the last there may be none yet), of a log whose copy is kept; and the
 * copy put back. */
static void damage(const struct e2e *s)
{
    e2e_shell("cd %s && cp -r wal whole && for f in $(ls wal | grep 'wbl$' | tail -n 2); do "
              "printf DAMAGED | dd of=wal/$f bs=1 seek=160 conv=notrunc 2>/dev/null || exit 1; done",
              s->dir);
}

static void repair(const struct e2e *s)
{
    e2e_shell("cd %s && rm -rf wal && mv whole wal", s->dir);
}

/* It sets its data aside and begins anew, once more with a snapshot maybe; and has caught up. The connection is a new
 * one then. */
static void await_back(struct trio *t, unsigned i)
{
    struct e2e *s = &t->node[i];
    e2e_log_wait(s, "it is set aside, and all of it copied from the other nodes");
    e2e_log_wait(s, "What was here is in the directory aside");
    assert_int_equal(e2e_log_has(s, "cannot be put in its place"), 0);
    assert_true(has(s, "aside"));
    e2e_log_wait(s, "this node is not counted and does not vote");
    e2e_log_wait(s, "is counted again");
    trio_await(t, i, "mute", "no");
    trio_await(t, i, "set_aside", "1");
    trio_await(t, i, "master_link_status", "up");
    redisFree(s->c);
    s->c = NULL;
    e2e_ready(s);
}

static void come_back(struct trio *t, unsigned i)
{
    e2e_begin_again(&t->node[i]);
    await_back(t, i);
}

/* ---- one of three ---- */

static void a_replica_takes_everything_from_the_primary_and_votes_again(void **state)
{
    struct trio t;
    (void)state;
    start_cell(&t);
    fill(t.node[0].c, "old", 50);
    e2e_kill(&t.node[2]);
    damage(&t.node[2]);
    e2e_expect(t.node[0].c, "+OK", "CONFIG SET wbl-retain 0"); /* up to which voters are waited for */
    trim(t.node[0].c);
    trio_load_begin(&t, 2);
    come_back(&t, 2);
    assert_true(e2e_log_has(&t.node[2], "Full resync"));
    trio_load_end(&t);
    trio_check(&t);
    check(t.node[2].c, "old", 50);
    e2e_same_state(t.node[0].c, t.node[2].c);
    e2e_kill(&t.node[0]); /* without its vote, and its acknowledgements, there is no majority now */
    trio_lead(&t, 1);
    fill(t.node[1].c, "new", 5);
    e2e_expect(t.node[1].c, ":1", "WAIT 1 0");
    trio_again(&t, 0);
    trio_await_followers(&t, 1, 2);
    trio_check(&t);
    trio_finish(&t);
}

static void a_primary_comes_back_as_a_replica(void **state)
{
    struct trio t;
    (void)state;
    start_cell(&t);
    trio_load_begin(&t, 2);
    fill(t.node[0].c, "old", 50);
    e2e_kill(&t.node[0]);
    damage(&t.node[0]);
    trio_lead(&t, 1);
    come_back(&t, 0);
    trio_load_end(&t);
    trio_check(&t);
    check(t.node[0].c, "old", 50);
    trio_lead(&t, 0);
    fill(t.node[0].c, "new", 5);
    trio_check(&t);
    trio_finish(&t);
}

/* With its voting file it lost what it promised: it asks the others for that first. */
static void a_node_whose_voting_file_is_gone_too(void **state)
{
    struct trio t;
    (void)state;
    start_cell(&t);
    fill(t.node[0].c, "old", 50);
    e2e_kill(&t.node[1]);
    damage(&t.node[1]);
    e2e_shell("rm %s/vote", t.node[1].dir);
    come_back(&t, 1);
    trio_await_equal(&t);
    check(t.node[1].c, "old", 50);
    trio_finish(&t);
}

/* The log is whole, but begins behind what the stores were made of, and no snapshot is left. */
static void a_node_that_lost_its_stores_and_snapshots(void **state)
{
    struct trio t;
    (void)state;
    start_cell(&t);
    fill(t.node[0].c, "old", 50);
    e2e_expect(t.node[2].c, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(t.node[0].c, "CLIENT LASTLSN"));
    struct e2e_deadline w = {.what = "the replica's log to be trimmed"};
    while (e2e_field(t.node[2].c, "WBL.INFO", "first-lsn") == 1 && e2e_not_yet(&w)) {
        fill(t.node[0].c, "ballast", 40);
        e2e_int(t.node[2].c, "SNAPSHOT.CREATE");
    }
    e2e_kill(&t.node[2]);
    e2e_shell("cd %s && rm -rf base shard-* snapshots", t.node[2].dir);
    come_back(&t, 2);
    trio_await_equal(&t);
    check(t.node[2].c, "old", 50);
    trio_finish(&t);
}

/* Wherever it dies, the next start goes on. */
static void a_node_that_is_killed_on_the_way(void **state)
{
    static const unsigned after_ms[] = {150, 300, 400, 500, 600, 800};
    struct trio t;
    (void)state;
    start_cell(&t);
    fill(t.node[0].c, "old", 50);
    e2e_kill(&t.node[2]);
    damage(&t.node[2]);
    for (unsigned i = 0; i < sizeof after_ms / sizeof after_ms[0]; i++)
        e2e_again_killed(&t.node[2], after_ms[i]);
    trio_again(&t, 2);
    trio_await(&t, 2, "set_aside", "1");
    trio_await(&t, 2, "mute", "no");
    trio_await(&t, 2, "master_link_status", "up");
    trio_await_equal(&t);
    check(t.node[2].c, "old", 50);
    trio_finish(&t);
}

/* ---- too many ---- */

static void assert_untouched(struct e2e *s)
{
    e2e_expect(s->c, "-MISCONF the data here is damaged ...", "GET old-1");
    e2e_expect(s->c, "-ERR not recovered: the log is here, though damaged...", "CELL.FORCE-RECOVER");
    assert_string_equal(e2e_info(s->c, "restore_state"), "damaged");
    assert_true(has(s, "wal"));
    assert_false(has(s, "aside"));
}

/* What one of them acknowledged may be in a damaged log only: nobody may say that it is empty. */
static void three_damaged_nodes_wait_for_an_operator(void **state)
{
    struct trio t;
    (void)state;
    start_cell(&t);
    fill(t.node[0].c, "old", 50);
    trio_await_equal(&t);
    for (unsigned i = 0; i < TRIO; i++)
        e2e_kill(&t.node[i]);
    for (unsigned i = 0; i < TRIO; i++) {
        damage(&t.node[i]);
        e2e_begin_again(&t.node[i]);
    }
    for (unsigned i = 0; i < TRIO; i++) {
        e2e_ready(&t.node[i]);
        e2e_log_wait(&t.node[i], "is damaged too, ");
        assert_untouched(&t.node[i]);
    }
    e2e_stop(&t.node[0]);
    repair(&t.node[0]);
    trio_again(&t, 0); /* one sound log is no majority */
    e2e_log_wait(&t.node[1], "is sound, ");
    e2e_log_wait(&t.node[2], "is sound, ");
    assert_untouched(&t.node[1]);
    assert_untouched(&t.node[2]);
    e2e_stop(&t.node[1]);
    repair(&t.node[1]);
    trio_again(&t, 1); /* two are */
    trio_await_master(&t, 0);
    await_back(&t, 2);
    trio_await_equal(&t);
    check(t.node[2].c, "old", 50);
    trio_finish(&t);
}

static void assert_refused(struct e2e *s, const char *why)
{
    e2e_begin_again(s);
    int status = e2e_wait(s);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    assert_true(e2e_log_has(s, why));
}

static void what_was_set_aside_is_not_joined_by_more(void **state)
{
    struct trio t;
    (void)state;
    start_cell(&t);
    fill(t.node[0].c, "old", 50);
    e2e_kill(&t.node[2]);
    damage(&t.node[2]);
    e2e_shell("mv %s/whole %s/elsewhere", t.node[2].dir, t.node[2].dir);
    come_back(&t, 2);
    e2e_kill(&t.node[2]);
    damage(&t.node[2]);
    assert_refused(&t.node[2], "what was set aside before");
    e2e_shell("mv %s/aside %s/looked-at", t.node[2].dir, t.node[2].dir);
    come_back(&t, 2);
    trio_await_equal(&t);
    check(t.node[2].c, "old", 50);
    trio_finish(&t);
}

/* Nobody has a copy: not one byte is touched. */
/* By hand, all but its voting file: there is nothing to set aside, and what it votes is worth nothing. */
static void a_voter_with_nothing_but_its_voting_file(void **state)
{
    struct trio t;
    (void)state;
    start_cell(&t);
    fill(t.node[0].c, "old", 20);
    trio_await_equal(&t);
    for (unsigned i = 0; i < TRIO; i++)
        e2e_stop(&t.node[i]);
    e2e_shell("cd %s && rm -rf wal base shard-* snapshots state && test -e vote", t.node[2].dir);
    trio_again(&t, 2);
    e2e_log_wait(&t.node[2], "some of it is gone");
    trio_await(&t, 2, "mute", "damaged");
    trio_await(&t, 2, "slave_priority", "0");
    trio_again(&t, 0);
    trio_again(&t, 1);
    trio_await_master(&t, 0);
    trio_await_followers(&t, 0, 2);
    trio_await(&t, 2, "mute", "no");
    trio_await(&t, 2, "set_aside", "0");
    trio_await_equal(&t);
    check(t.node[2].c, "old", 20);
    trio_lead(&t, 2);
    fill(t.node[2].c, "new", 5);
    trio_finish(&t);
}

static void a_node_alone_is_refused(void **state)
{
    struct e2e s;
    (void)state;
    e2e_start(&s, SMALL, NULL);
    fill(s.c, "old", 50);
    e2e_kill(&s);
    damage(&s);
    assert_refused(&s, "the log is damaged at LSN");
    assert_false(has(&s, "aside"));
    repair(&s);
    e2e_again(&s);
    check(s.c, "old", 50);
    e2e_finish(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_replica_takes_everything_from_the_primary_and_votes_again, trio_teardown),
        cmocka_unit_test_teardown(a_primary_comes_back_as_a_replica, trio_teardown),
        cmocka_unit_test_teardown(a_node_whose_voting_file_is_gone_too, trio_teardown),
        cmocka_unit_test_teardown(a_node_that_lost_its_stores_and_snapshots, trio_teardown),
        cmocka_unit_test_teardown(a_node_that_is_killed_on_the_way, trio_teardown),
        cmocka_unit_test_teardown(three_damaged_nodes_wait_for_an_operator, trio_teardown),
        cmocka_unit_test_teardown(what_was_set_aside_is_not_joined_by_more, trio_teardown),
        cmocka_unit_test_teardown(a_voter_with_nothing_but_its_voting_file, trio_teardown),
        cmocka_unit_test_teardown(a_node_alone_is_refused, e2e_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
