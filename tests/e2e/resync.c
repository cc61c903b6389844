/* resync.c - full resyncs: nodes whose log is not met by the primary's, that lost their disk, or that are told to
 * follow another cell's node, take a snapshot over and begin anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/lib/cut.h"
#include "tests/lib/trio.h"

/* No snapshots but those that a test asks for, and segments that are full soon. */
#define SMALL "--wbl-segment-bytes", "65536", "--snapshot-log-bytes", "0", "--snapshot-interval", "0"
#define VALUE_BYTES 2000

static char number[16]; /* of a port, as a word */

static const char *port_of(int port)
{
    snprintf(number, sizeof number, "%d", port);
    return number;
}

/* ---- data ---- */

static void value_of(char out[VALUE_BYTES + 1], const char *name, int i)
{
    memset(out, 'a' + i % 26, VALUE_BYTES);
    out[snprintf(out, VALUE_BYTES, "%s-%d", name, i)] = '.';
    out[VALUE_BYTES] = 0;
}

static void fill(redisContext *c, const char *name, int n)
{
    char value[VALUE_BYTES + 1];
    for (int i = 0; i < n; i++) {
        value_of(value, name, i);
        redisAppendCommand(c, "SET %s-%d %s", name, i, value);
    }
    for (int i = 0; i < n; i++)
        e2e_expect_next(c, "+OK");
}

static void check(redisContext *c, const char *name, int n)
{
    char value[VALUE_BYTES + 1], want[VALUE_BYTES + 2];
    for (int i = 0; i < n; i++) {
        value_of(value, name, i);
        snprintf(want, sizeof want, "$%s", value);
        e2e_expect(c, want, "GET %s-%d", name, i);
    }
}

/* Until the log is of no use to who stands where it ends now: a record behind that is gone. */
static void trim(redisContext *c)
{
    struct e2e_deadline w = {.what = "the log to be trimmed"};
    long long last = e2e_field(c, "WBL.INFO", "last-lsn");
    while (e2e_field(c, "WBL.INFO", "first-lsn") <= last + 1 && e2e_not_yet(&w)) {
        fill(c, "ballast", 40);
        e2e_int(c, "SNAPSHOT.CREATE");
    }
}

/* ---- a server that began anew ---- */

static void await_anew(struct e2e *s)
{
    e2e_log_wait(s, "takes the place of what was here");
    redisFree(s->c);
    s->c = NULL;
    e2e_ready(s);
}

/* The copy has come so far, and is held there. */
static void await_held_copy(struct e2e *b, struct cut *cut)
{
    struct e2e_deadline w = {.what = "some of the copy to be here"};
    while ((!cut_holding(cut) || strtoll(e2e_info(b->c, "master_sync_read_bytes"), NULL, 10) == 0) && e2e_not_yet(&w)) {
    }
    e2e_info_wait(b->c, "master_sync_in_progress", "1");
}

static void lose_disk(struct e2e *s) /* all but the token */
{
    e2e_shell("cd %s && rm -rf base cell shard-* snapshots state vote wal begin fetch", s->dir);
}

/* ---- without voters ---- */

static void start_primary(struct e2e *a)
{
    e2e_start(a, "--port", "auto", SMALL, NULL);
    fill(a->c, "old", 100);
    trim(a->c);
}

static void start_replica_of(struct e2e *b, int port)
{
    e2e_start(b, "--port", "auto", SMALL, "--replicaof", "127.0.0.1", port_of(port), NULL);
}

static void an_empty_replica_comes_behind_where_the_log_begins(void **state)
{
    struct e2e a, b;
    (void)state;
    start_primary(&a);
    start_replica_of(&b, a.port);
    await_anew(&b);
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_info_wait(b.c, "recovery_tier", "2");
    fill(a.c, "new", 50);
    e2e_expect(a.c, ":1", "WAIT 1 0");
    check(b.c, "old", 100);
    e2e_expect(b.c, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(a.c, "CLIENT LASTLSN"));
    check(b.c, "new", 50);
    e2e_same_state(a.c, b.c);
    e2e_kill(&b); /* from here on it is as any other */
    e2e_again(&b);
    assert_int_equal(e2e_log_has(&b, "Full resync"), 0);
    e2e_info_wait(b.c, "master_link_status", "up");
    check(b.c, "old", 100);
    e2e_finish(&b);
    e2e_finish(&a);
}

static int is_beginning(const struct e2e *s)
{
    char path[512];
    snprintf(path, sizeof path, "%s/begin", s->dir);
    return access(path, F_OK) == 0;
}

/* The snapshot is all that there is: what it filled is no sign of a log that was lost. */
static void a_replica_of_which_nothing_came_behind_the_snapshot_starts_again(void **state)
{
    struct e2e a, b;
    (void)state;
    e2e_start(&a, "--port", "auto", SMALL, NULL);
    fill(a.c, "old", 100);
    start_replica_of(&b, a.port); /* now it is a primary: that, too, writes a record */
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_kill(&b);
    lose_disk(&b);
    trim(a.c); /* what the log ends with is in a snapshot */
    e2e_again(&b);
    await_anew(&b);
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_log_wait(&b, "All stores are there again");
    assert_true(is_beginning(&b));
    assert_false(e2e_log_has(&a, "primary of term 3")); /* nobody deposed it */
    e2e_stop(&b);
    e2e_again(&b);
    e2e_info_wait(b.c, "master_link_status", "up");
    check(b.c, "old", 100);
    assert_true(is_beginning(&b));
    fill(a.c, "new", 1);
    e2e_expect(a.c, ":1", "WAIT 1 0");
    assert_false(is_beginning(&b)); /* what it acknowledged it must not begin in front of */
    e2e_kill(&b);
    e2e_again(&b);
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_same_state(a.c, b.c); /* waits until it has heard that the record is committed */
    check(b.c, "new", 1);
    e2e_finish(&b);
    e2e_finish(&a);
}

static void a_node_with_data_of_its_own_takes_the_others(void **state)
{
    struct e2e a, b;
    (void)state;
    e2e_start(&a, "--port", "auto", SMALL, NULL);
    fill(a.c, "theirs", 30);
    e2e_start(&b, "--port", "auto", SMALL, NULL);
    fill(b.c, "mine", 30);
    e2e_expect(b.c, "+OK", "CONFIG SET slowlog-max-len 77");
    e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %d", a.port);
    e2e_log_wait(&b, "is of another cell: its data takes the place of this node's");
    e2e_log_wait(&b, "has no snapshot to give yet, and is asked again: it says: LOADING there is no snapshot here yet");
    await_anew(&b);
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_expect(b.c, "[$slowlog-max-len $77]", "CONFIG GET slowlog-max-len"); /* settings are kept */
    e2e_expect(b.c, "nil", "GET mine-1");
    check(b.c, "theirs", 30);
    e2e_same_state(a.c, b.c);
    e2e_kill(&a);
    e2e_expect(b.c, "+OK", "REPLICAOF NO ONE");
    e2e_info_wait(b.c, "role", "master");
    e2e_expect(b.c, "+OK", "SET theirs-1 changed");
    e2e_finish(&b);
    e2e_finish(&a);
}

/* Two histories of one cell: the replica was promoted, and both wrote on. */
static void a_primary_that_is_told_to_follow_its_replica(void **state)
{
    struct e2e a, b;
    (void)state;
    start_primary(&a);
    start_replica_of(&b, a.port);
    await_anew(&b);
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_expect(b.c, "+OK", "REPLICAOF NO ONE");
    e2e_info_wait(b.c, "role", "master");
    fill(b.c, "theirs", 30);
    fill(a.c, "mine", 60);
    e2e_expect(a.c, "+OK", "REPLICAOF 127.0.0.1 %d", b.port);
    await_anew(&a);
    e2e_info_wait(a.c, "master_link_status", "up");
    e2e_same_state(b.c, a.c);
    check(a.c, "theirs", 30);
    e2e_expect(a.c, "nil", "GET mine-1");
    e2e_finish(&a);
    e2e_finish(&b);
}

/* Between the moment that the copy counts and the end of what was here before. */
static void who_is_to_lead_when_the_copy_counts_already_does_not(void **state)
{
    struct e2e a, b;
    struct e2e_deadline w = {.what = "the copy to count"};
    char hold[E2E_PATH + 8], mark[E2E_PATH + 16];
    (void)state;
    e2e_start(&a, "--port", "auto", SMALL, NULL);
    fill(a.c, "theirs", 3);
    snprintf(hold, sizeof hold, "%s.hold", a.dir);
    e2e_shell("touch %s", hold);
    setenv("COFFER_TEST_INSTALL_HOLD", hold, 1);
    e2e_start(&b, "--port", "auto", SMALL, NULL);
    unsetenv("COFFER_TEST_INSTALL_HOLD");
    snprintf(mark, sizeof mark, "%s/install", b.dir);
    e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %d", a.port);
    while (access(mark, F_OK) != 0 && e2e_not_yet(&w)) {
    }
    e2e_expect(b.c, "+OK", "REPLICAOF NO ONE"); /* it waits behind the copy */
    e2e_expect(b.c, "-READONLY ...", "SET mine 1");
    e2e_shell("rm %s", hold);
    e2e_log_wait(&b, "This node cannot be primary: another state takes the place of its own");
    await_anew(&b);
    assert_false(e2e_log_has(&b, "This node is the primary"));
    check(b.c, "theirs", 3);
    e2e_finish(&b);
    e2e_finish(&a);
}

static void await_refusal(struct e2e *s)
{
    struct e2e_deadline w = {.what = "a refusal of who follows somebody himself"};
    while (!strstr(e2e_info(s->c, "master_link_error"), "NOMASTERLINK") && e2e_not_yet(&w)) {
    }
}

/* Each would take the other's data over its own: the second one is refused, whatever the first one is doing. */
static void two_that_are_told_to_follow_each_other_lose_nothing(void **state)
{
    struct e2e a, b;
    struct cut cut;
    (void)state;
    e2e_start(&a, "--port", "auto", SMALL, NULL);
    e2e_start(&b, "--port", "auto", SMALL, NULL);
    fill(a.c, "first", 10);
    fill(b.c, "second", 300);
    e2e_expect(a.c, "+OK", "REPLICAOF 127.0.0.1 %d", e2e_free_port()); /* has no link */
    e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %d", a.port);
    await_refusal(&b);
    e2e_expect(a.c, "+OK", "REPLICAOF 127.0.0.1 %d", b.port);
    await_refusal(&a);
    check(a.c, "first", 10);
    check(b.c, "second", 300);
    e2e_expect(b.c, "+OK", "REPLICAOF NO ONE");
    e2e_expect(a.c, "+OK", "REPLICAOF NO ONE");

    cut_start(&cut, b.port);
    cut_hold(&cut, -1, 300000);
    e2e_expect(a.c, "+OK", "REPLICAOF 127.0.0.1 %d", cut.port);
    await_held_copy(&a, &cut);
    e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %d", a.port);
    await_refusal(&b);
    cut_release(&cut);
    await_anew(&a); /* from here on they are of one cell, and what it had is what the second one has */
    check(b.c, "second", 300);
    e2e_expect(b.c, "+OK", "REPLICAOF NO ONE");
    e2e_info_wait(a.c, "master_link_status", "up");
    e2e_same_state(b.c, a.c);
    check(a.c, "second", 300);
    e2e_expect(a.c, "nil", "GET first-1");
    e2e_finish(&a);
    cut_stop(&cut);
    e2e_finish(&b);
}

/* ---- in a cell ---- */

static void start_cell(struct trio *t)
{
    trio_plan(t);
    for (unsigned i = 0; i < TRIO; i++) {
        e2e_begin(&t->node[i], "--port", port_of(t->port[i]), "--voters", t->voters[0], t->voters[1], t->voters[2],
                  "--io-threads", "1", SMALL, NULL);
    }
    for (unsigned i = 0; i < TRIO; i++)
        e2e_ready(&t->node[i]);
    trio_await_master(t, 0);
    trio_await_followers(t, 0, 2);
}

/* It is heard again when it has caught up, and only then. */
static void a_voter_that_lost_its_disk_takes_a_snapshot(void **state)
{
    struct trio t;
    (void)state;
    start_cell(&t);
    fill(t.node[0].c, "old", 100);
    e2e_kill(&t.node[2]);
    lose_disk(&t.node[2]);
    e2e_expect(t.node[0].c, "+OK", "CONFIG SET wbl-retain 0"); /* up to which voters are waited for */
    trim(t.node[0].c);
    trio_load_begin(&t, 2);
    e2e_begin_again(&t.node[2]);
    e2e_ready(&t.node[2]);
    await_anew(&t.node[2]);
    e2e_info_wait(t.node[2].c, "recovery_tier", "2");
    trio_await(&t, 2, "slave_priority", "100");
    trio_lead(&t, 2);
    unsigned before = trio_load_done();
    struct e2e_deadline w = {.what = "writes on it"};
    while (trio_load_done() < before + 50 && e2e_not_yet(&w)) {
    }
    trio_load_end(&t);
    trio_check(&t);
    check(t.node[2].c, "old", 100);
    e2e_same_state(t.node[2].c, t.node[0].c);
    e2e_same_state(t.node[2].c, t.node[1].c);
    trio_finish(&t);
}

/* It was away for so long that the log does not reach back to it; what it has is kept until the snapshot counts. */
static void a_voter_that_was_away_takes_a_snapshot(void **state)
{
    struct trio t;
    (void)state;
    start_cell(&t);
    fill(t.node[0].c, "old", 100);
    trim(t.node[0].c);
    e2e_kill(&t.node[1]);
    e2e_expect(t.node[0].c, "+OK", "CONFIG SET wbl-retain 0"); /* up to which voters are waited for */
    trim(t.node[0].c);
    fill(t.node[0].c, "new", 50);
    e2e_begin_again(&t.node[1]);
    e2e_ready(&t.node[1]);
    await_anew(&t.node[1]);
    trio_await(&t, 1, "master_link_status", "up");
    e2e_same_state(t.node[0].c, t.node[1].c);
    check(t.node[1].c, "old", 100);
    check(t.node[1].c, "new", 50);
    trio_lead(&t, 1);
    trio_finish(&t);
}

static void voters_do_not_take_another_cells_data(void **state)
{
    struct trio t;
    struct e2e lone;
    (void)state;
    start_cell(&t);
    e2e_start(&lone, "--port", "auto", NULL);
    e2e_expect(t.node[0].c, "-ERR ...", "REPLICAOF 127.0.0.1 %d", lone.port);
    e2e_expect(t.node[1].c, "-ERR ...", "REPLICAOF 127.0.0.1 %d", lone.port);
    e2e_expect(lone.c, "+OK", "REPLICAOF 127.0.0.1 %d", t.port[0]);
    e2e_log_wait(&lone, "another list of voters");
    e2e_finish(&lone);
    trio_finish(&t);
}

/* ---- what the server tells, and is told, while it begins anew ---- */

/* Plays systemd: hears all the time, since a sender waits while a datagram finds no room. */
static const char *const words[] = {"READY=1", "RELOADING=1", "WATCHDOG=1"};
enum { READY, RELOADING, WATCHDOG, WORDS };
static struct {
    pthread_t thread;
    int fd;
    _Atomic unsigned heard[WORDS];
} systemd;

static void *systemd_main(void *arg)
{
    char text[256];
    ssize_t n;
    (void)arg;
    while ((n = recv(systemd.fd, text, sizeof text - 1, 0)) > 0 && text[0] != '.') {
        text[n] = 0;
        for (unsigned i = 0; i < WORDS; i++)
            if (strncmp(text, words[i], strlen(words[i])) == 0)
                atomic_fetch_add(&systemd.heard[i], 1);
    }
    return NULL;
}

static void systemd_begin(const struct e2e *near, struct sockaddr_un *at)
{
    *at = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(at->sun_path, sizeof at->sun_path, "%.90s/notify", near->dir);
    for (unsigned i = 0; i < WORDS; i++)
        atomic_store(&systemd.heard[i], 0);
    systemd.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(systemd.fd, (struct sockaddr *)at, sizeof *at), 0);
    assert_int_equal(pthread_create(&systemd.thread, NULL, systemd_main, NULL), 0);
}

static void systemd_end(const struct sockaddr_un *at)
{
    assert_int_equal(sendto(systemd.fd, ".", 1, 0, (const struct sockaddr *)at, sizeof *at), 1);
    pthread_join(systemd.thread, NULL);
    close(systemd.fd);
}

static void await_heard(unsigned word, unsigned times)
{
    struct e2e_deadline w = {.what = words[word]};
    while (atomic_load(&systemd.heard[word]) < times && e2e_not_yet(&w)) {
    }
}

/* b takes over what a has, and ends for some seconds, until slow has its answer. */
static void begin_anew_slowly(struct e2e *a, struct e2e *b, struct e2e_raw *slow, struct sockaddr_un *at)
{
    static const char nap[] = "DEBUG SLEEP 8\r\n";
    e2e_start(a, "--port", "auto", SMALL, NULL);
    fill(a->c, "theirs", 3);
    systemd_begin(a, at);
    setenv("NOTIFY_SOCKET", at->sun_path, 1);
    setenv("WATCHDOG_USEC", "300000", 1);
    e2e_start(b, "--port", "auto", "--shutdown-timeout", "3600", "--enable-debug-command", "yes", NULL);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    fill(b->c, "mine", 3);
    e2e_raw_open(slow, b);
    e2e_raw_send(slow, nap, sizeof nap - 1);
    e2e_expect(b->c, "+OK", "REPLICAOF 127.0.0.1 %d", a->port);
    await_heard(RELOADING, 1);
}

static void the_watchdog_is_fed_meanwhile(void **state)
{
    struct e2e a, b;
    struct e2e_raw slow;
    struct sockaddr_un at;
    (void)state;
    begin_anew_slowly(&a, &b, &slow, &at);
    unsigned before = atomic_load(&systemd.heard[WATCHDOG]);
    assert_non_null(e2e_raw_next(&slow)); /* it is answered, and only then the state goes */
    await_heard(READY, 2);
    assert_true(atomic_load(&systemd.heard[WATCHDOG]) >= before + 5);
    await_anew(&b);
    await_heard(WATCHDOG, atomic_load(&systemd.heard[WATCHDOG]) + 5);
    check(b.c, "theirs", 3);
    e2e_raw_close(&slow);
    e2e_finish(&b);
    systemd_end(&at);
    e2e_finish(&a);
}

/* Nothing of it goes on in between, and all of it ends in order. */
static void a_signal_waits_until_it_has_begun_anew(void **state)
{
    struct e2e a, b;
    struct e2e_raw slow;
    struct sockaddr_un at;
    (void)state;
    begin_anew_slowly(&a, &b, &slow, &at); /* what signals do has changed by now */
    assert_int_equal(kill(b.pid, SIGTERM), 0);
    assert_int_equal(e2e_wait(&b), 0);
    e2e_raw_close(&slow);
    assert_true(e2e_log_has(&b, "Received SIGTERM scheduling shutdown..."));
    e2e_finish(&b);
    systemd_end(&at);
    e2e_finish(&a);
}

/* ---- broken on the way ---- */

static void assert_gone_on(const struct e2e *b)
{
    e2e_shell("grep -q 'KiB of the snapshot at LSN [0-9]* are here from an earlier try' %s", b->log);
}

static void what_has_come_is_not_sent_again(void **state)
{
    struct e2e a, b;
    struct cut cut;
    (void)state;
    start_primary(&a);
    e2e_start(&b, "--port", "auto", SMALL, NULL);
    cut_start(&cut, a.port);
    cut_hold(&cut, -1, 500000);
    e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %d", cut.port);
    await_held_copy(&b, &cut);
    cut_break(&cut);
    await_anew(&b);
    assert_int_equal(cut_made(&cut), 1);
    assert_gone_on(&b);
    e2e_info_wait(b.c, "master_link_status", "up");
    check(b.c, "old", 100);
    e2e_same_state(a.c, b.c);
    e2e_finish(&b);
    cut_stop(&cut);
    e2e_finish(&a);
}

/* What is written while it is copied is more than the primary keeps, so it begins where the last one ended. */
static void a_copy_that_comes_too_late_says_what_to_set(void **state)
{
    struct e2e a, b;
    struct cut cut;
    (void)state;
    e2e_start(&a, "--port", "auto", SMALL, "--wbl-retain", "0", NULL);
    fill(a.c, "old", 300);
    e2e_start(&b, "--port", "auto", SMALL, NULL);
    cut_start(&cut, a.port);
    cut_hold(&cut, -1, 300000);
    e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %d", cut.port);
    await_held_copy(&b, &cut);
    trim(a.c);
    cut_release(&cut);
    await_anew(&b);
    e2e_log_wait(&b, "Full resync: another one in a row");
    e2e_log_wait(&b, "Set wbl-retain there");
    e2e_kill(&b);
    e2e_finish(&b);
    cut_stop(&cut);
    e2e_finish(&a);
}

static void a_death_in_the_middle_of_it(void **state)
{
    struct e2e a, b;
    struct cut cut;
    (void)state;
    start_primary(&a);
    e2e_start(&b, "--port", "auto", SMALL, NULL);
    fill(b.c, "mine", 10);
    cut_start(&cut, a.port);
    cut_hold(&cut, -1, 500000);
    e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %d", cut.port);
    await_held_copy(&b, &cut);
    e2e_kill(&b); /* the one that copies: it has what it had, and goes on where it was */
    cut_release(&cut);
    e2e_again(&b);
    check(b.c, "mine", 10);
    cut_hold(&cut, -1, 300000);
    e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %d", cut.port);
    await_held_copy(&b, &cut);
    e2e_kill(&a); /* the one that is copied from */
    e2e_again(&a);
    cut_release(&cut);
    await_anew(&b);
    assert_gone_on(&b);
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_same_state(a.c, b.c);
    e2e_expect(b.c, "nil", "GET mine-1");
    e2e_finish(&b);
    cut_stop(&cut);
    e2e_finish(&a);
}

/* ---- what is not taken ---- */

static void a_damaged_snapshot_is_passed_over_for_the_one_before(void **state)
{
    struct e2e a, b;
    (void)state;
    start_primary(&a);
    fill(a.c, "new", 100);
    e2e_int(a.c, "SNAPSHOT.CREATE");
    e2e_shell("printf XXXXXXXX | dd of=$(ls %s/snapshots/*.snap | tail -1) bs=1 seek=40000 conv=notrunc 2>/dev/null",
              a.dir);
    start_replica_of(&b, a.port);
    await_anew(&b);
    e2e_shell("grep -q 'a snapshot is passed over: its snapshot at LSN [0-9]* does not verify: a block' %s", b.log);
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_same_state(a.c, b.c);
    check(b.c, "new", 100);
    e2e_finish(&b);
    e2e_finish(&a);
}

/* A user for links needs two commands more for it. */
static void without_permission_it_waits(void **state)
{
    struct e2e a, b;
    struct e2e_deadline w = {.what = "the refusal to be shown"};
    (void)state;
    e2e_start(&a, "--port", "auto", SMALL, NULL);
    fill(a.c, "theirs", 3);
    e2e_expect(a.c, "+OK", "ACL SETUSER copier on >pw +ping +psync +replconf");
    e2e_start(&b, "--port", "auto", SMALL, "--masteruser", "copier", "--masterauth", "pw", NULL);
    fill(b.c, "mine", 3);
    e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %d", a.port);
    while (!strstr(e2e_info(b.c, "master_link_error"), "NOPERM") && e2e_not_yet(&w)) {
    }
    check(b.c, "mine", 3);
    e2e_expect(a.c, "+OK", "ACL SETUSER copier +repl.snapshot +repl.piece");
    await_anew(&b);
    e2e_info_wait(b.c, "master_link_status", "up");
    check(b.c, "theirs", 3);
    e2e_finish(&b);
    e2e_finish(&a);
}

static void a_node_of_another_realm_gives_nothing(void **state)
{
    struct e2e a, b;
    (void)state;
    e2e_start_bare(&a, "--port", port_of(e2e_free_port()), NULL);
    e2e_start(&b, "--port", "auto", NULL);
    fill(b.c, "mine", 3);
    e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %s", e2e_info(a.c, "tcp_port"));
    e2e_log_wait(&b, "another realm");
    assert_int_equal(e2e_log_has(&b, "Full resync"), 0);
    check(b.c, "mine", 3);
    e2e_finish(&b);
    e2e_finish(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(an_empty_replica_comes_behind_where_the_log_begins, trio_teardown),
        cmocka_unit_test_teardown(a_replica_of_which_nothing_came_behind_the_snapshot_starts_again, trio_teardown),
        cmocka_unit_test_teardown(a_node_with_data_of_its_own_takes_the_others, trio_teardown),
        cmocka_unit_test_teardown(a_primary_that_is_told_to_follow_its_replica, trio_teardown),
        cmocka_unit_test_teardown(who_is_to_lead_when_the_copy_counts_already_does_not, trio_teardown),
        cmocka_unit_test_teardown(two_that_are_told_to_follow_each_other_lose_nothing, trio_teardown),
        cmocka_unit_test_teardown(a_voter_that_lost_its_disk_takes_a_snapshot, trio_teardown),
        cmocka_unit_test_teardown(a_voter_that_was_away_takes_a_snapshot, trio_teardown),
        cmocka_unit_test_teardown(voters_do_not_take_another_cells_data, trio_teardown),
        cmocka_unit_test_teardown(the_watchdog_is_fed_meanwhile, trio_teardown),
        cmocka_unit_test_teardown(a_signal_waits_until_it_has_begun_anew, trio_teardown),
        cmocka_unit_test_teardown(what_has_come_is_not_sent_again, trio_teardown),
        cmocka_unit_test_teardown(a_copy_that_comes_too_late_says_what_to_set, trio_teardown),
        cmocka_unit_test_teardown(a_death_in_the_middle_of_it, trio_teardown),
        cmocka_unit_test_teardown(a_damaged_snapshot_is_passed_over_for_the_one_before, trio_teardown),
        cmocka_unit_test_teardown(without_permission_it_waits, trio_teardown),
        cmocka_unit_test_teardown(a_node_of_another_realm_gives_nothing, trio_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
