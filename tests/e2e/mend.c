/* mend.c - a segment of the log that the disk has lost comes back from another node, as it was: on a replica, on a
 * primary, in a cell; and where nobody has it, it is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/trio.h"

/* No snapshots but those that a repair asks for, and segments that are full soon. */
#define SMALL \
    "--wbl-segment-bytes", "65536", "--snapshot-log-bytes", "0", "--snapshot-interval", "0", "--scrub-rate", "0"
#define VALUE_BYTES 2000
#define VALUES 160
#define TOGETHER 10

/* All nodes keep up, so that each has several segments: what is written together is in one. */
static void fill(redisContext *c, int replicas)
{
    char value[VALUE_BYTES + 1], held[8];
    memset(value, 'x', VALUE_BYTES);
    value[VALUE_BYTES] = 0;
    snprintf(held, sizeof held, ":%d", replicas);
    for (int i = 0; i < VALUES; i += TOGETHER) {
        for (int k = i; k < i + TOGETHER; k++)
            redisAppendCommand(c, "SET k-%d %d-%s", k, k, value);
        for (int k = i; k < i + TOGETHER; k++)
            e2e_expect_next(c, "+OK");
        e2e_expect(c, held, "WAIT %d 0", replicas);
    }
}

/* In one record, which is larger than what is answered at once otherwise; its segment is, too. */
static void set_large(redisContext *c)
{
    size_t n = 1000000;
    char *value = malloc(n + 1);
    assert_non_null(value);
    memset(value, 'y', n);
    value[n] = 0;
    e2e_expect(c, "+OK", "MSET large-1 %s large-2 %s large-3 %s", value, value, value);
    free(value);
}

/* Of these segments the first record, and so all that is behind it. */
static void damage(const struct e2e *s, const char *segments)
{
    char said[512], command[512];
    snprintf(command, sizeof command,
             "cd %s/wal && test $(ls *.wbl | wc -l) -gt 3 && for f in $(ls *.wbl | %s); do "
             "printf DAMAGED | dd of=$f bs=1 seek=160 conv=notrunc 2>/dev/null || exit 1; done",
             s->dir, segments);
    if (e2e_run(said, sizeof said, "sh", "-c", command, NULL) != 0)
        fail_msg("%s: %s", command, said);
}
#define SECOND "sed -n 2p"
#define LARGEST "xargs ls -S | head -n 1"
#define ALL_BUT_NEWEST "head -n -1"

static void assert_chain(const struct e2e *s)
{
    assert_int_equal(e2e_field(s->c, "WBL.VERIFY", "chain-ok"), 1);
}

/* All that is damaged is made good. */
static void scrub(struct e2e *s)
{
    char found[16];
    assert_true(e2e_field(s->c, "SCRUB.NOW", "errors") > 0);
    snprintf(found, sizeof found, "%s", e2e_info(s->c, "scrub_errors"));
    e2e_info_wait(s->c, "scrub_repaired", found);
    assert_int_equal(e2e_field(s->c, "SCRUB.NOW", "errors"), 0);
    assert_chain(s);
}

static void await_mended(const struct e2e *s, int port)
{
    char line[128];
    snprintf(line, sizeof line, "is mended with the records of 127.0.0.1:%d", port);
    e2e_log_wait(s, line);
}

/* From the log's first record on. */
static void assert_mended(struct e2e *s, int port)
{
    scrub(s);
    await_mended(s, port);
    assert_non_null(strstr(e2e_info(s->c, "scrub_last_error"), "does not verify; repaired"));
    assert_int_equal(e2e_field(s->c, "WBL.INFO", "first-lsn"), 1);
}

static void start_pair(struct e2e *a, struct e2e *b)
{
    char port[16];
    e2e_start(a, "--port", "auto", SMALL, NULL);
    snprintf(port, sizeof port, "%d", a->port);
    e2e_start(b, "--port", "auto", SMALL, "--replicaof", "127.0.0.1", port, NULL);
    e2e_info_wait(b->c, "master_link_status", "up");
    fill(a->c, 1);
}

static void a_replica_from_its_primary(void **state)
{
    struct e2e a, b;
    (void)state;
    start_pair(&a, &b);
    damage(&b, SECOND);
    assert_mended(&b, a.port);
    e2e_same_state(a.c, b.c);
    e2e_kill(&b);
    e2e_again(&b);
    e2e_info_wait(b.c, "master_link_status", "up");
    assert_chain(&b);
    e2e_finish(&b);
    e2e_finish(&a);
}

static void a_primary_from_its_replica(void **state)
{
    struct e2e a, b;
    (void)state;
    start_pair(&a, &b);
    set_large(a.c);
    fill(a.c, 1);
    damage(&a, SECOND);
    damage(&a, LARGEST);
    assert_mended(&a, b.port);
    e2e_expect(a.c, "+OK", "SET k-1 other");
    e2e_expect(a.c, ":1", "WAIT 1 0");
    e2e_same_state(a.c, b.c);
    e2e_finish(&b);
    e2e_finish(&a);
}

/* One of the others has lost them too, or is down: the third has them. */
static void a_voter_from_whoever_has_it(void **state)
{
    struct trio t;
    char port[TRIO][16];
    (void)state;
    trio_plan(&t);
    for (unsigned i = 0; i < TRIO; i++) {
        snprintf(port[i], sizeof port[i], "%d", t.port[i]);
        e2e_begin(&t.node[i], "--port", port[i], "--voters", t.voters[0], t.voters[1], t.voters[2], SMALL, NULL);
    }
    for (unsigned i = 0; i < TRIO; i++)
        e2e_ready(&t.node[i]);
    trio_await_master(&t, 0);
    trio_await_followers(&t, 0, 2);
    fill(t.node[0].c, 2);
    damage(&t.node[0], SECOND);
    damage(&t.node[1], ALL_BUT_NEWEST);
    assert_mended(&t.node[0], t.port[2]);
    e2e_log_wait(&t.node[0], "it says: CORRUPT");
    e2e_kill(&t.node[2]);
    assert_mended(&t.node[1], t.port[0]);
    e2e_again(&t.node[2]);
    trio_await_equal(&t);
    e2e_same_state(t.node[0].c, t.node[1].c);
    trio_finish(&t);
}

/* In a segment of which the start read the ends only. */
static void what_a_start_finds_afterwards(void **state)
{
    struct e2e a, b;
    (void)state;
    start_pair(&a, &b);
    e2e_stop(&b);
    damage(&b, SECOND);
    e2e_again(&b);
    await_mended(&b, a.port);
    assert_int_equal(e2e_field(b.c, "WBL.INFO", "first-lsn"), 1);
    assert_chain(&b);
    e2e_info_wait(b.c, "master_link_status", "up");
    e2e_same_state(a.c, b.c);
    e2e_finish(&b);
    e2e_finish(&a);
}

static void left_behind_when_nobody_has_it(void **state)
{
    struct e2e a, b;
    (void)state;
    start_pair(&a, &b);
    damage(&a, ALL_BUT_NEWEST);
    damage(&b, SECOND);
    scrub(&b);
    e2e_log_wait(&b, "is not mended from 127.0.0.1");
    assert_true(e2e_field(b.c, "WBL.INFO", "first-lsn") > 1);
    assert_int_equal(e2e_log_has(&b, "is mended with"), 0);
    scrub(&a);
    assert_true(e2e_field(a.c, "WBL.INFO", "first-lsn") > 1);
    e2e_same_state(a.c, b.c);
    e2e_finish(&b);
    e2e_finish(&a);
}

/* A user for links needs this command too. */
static void without_permission_it_is_left_behind(void **state)
{
    struct e2e a, b;
    (void)state;
    start_pair(&a, &b);
    e2e_expect(a.c, "+OK", "ACL SETUSER copier on >pw +ping +psync +replconf");
    e2e_expect(b.c, "+OK", "CONFIG SET masteruser copier");
    e2e_expect(b.c, "+OK", "CONFIG SET masterauth pw");
    damage(&b, SECOND);
    scrub(&b);
    e2e_log_wait(&b, "NOPERM");
    assert_true(e2e_field(b.c, "WBL.INFO", "first-lsn") > 1);
    e2e_finish(&b);
    e2e_finish(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_replica_from_its_primary, trio_teardown),
        cmocka_unit_test_teardown(a_primary_from_its_replica, trio_teardown),
        cmocka_unit_test_teardown(a_voter_from_whoever_has_it, trio_teardown),
        cmocka_unit_test_teardown(what_a_start_finds_afterwards, trio_teardown),
        cmocka_unit_test_teardown(left_behind_when_nobody_has_it, trio_teardown),
        cmocka_unit_test_teardown(without_permission_it_is_left_behind, trio_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
