/* recover.c - a server whose stores are gone serves as soon as it is there, from its snapshot and its log, and fills
 * the stores behind. The filling is held up by a file, so that what is answered comes from nowhere else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/trio.h"

#define KEYS 300

static char hold[E2E_PATH + 8];

static void hold_filling(const struct e2e *s)
{
    snprintf(hold, sizeof hold, "%s.hold", s->dir);
    FILE *f = fopen(hold, "w");
    assert_non_null(f);
    fclose(f);
    setenv("COFFER_TEST_REBUILD_HOLD", hold, 1);
}

static void let_it_fill(void)
{
    (void)unlink(hold);
    unsetenv("COFFER_TEST_REBUILD_HOLD");
}

static int teardown(void **state)
{
    let_it_fill();
    return e2e_teardown(state);
}

static void shell(const struct e2e *s, const char *what)
{
    char command[1024];
    snprintf(command, sizeof command, "cd %s && %s", s->dir, what);
    assert_int_equal(system(command), 0);
}

static void set_all(struct e2e *s, unsigned round)
{
    for (unsigned v = 0; v < 2; v++)
        for (unsigned key = 0; key < KEYS; key++)
            redisAppendCommand(s->c, "SECRET.SET v%u key/%u %u-%0300u", v, key, round, key);
    for (unsigned i = 0; i < 2 * KEYS; i++)
        e2e_expect_next(s->c, ":...");
}

static void expect_all(struct e2e *s, unsigned vault, unsigned round)
{
    char want[400];
    for (unsigned key = 0; key < KEYS; key++) {
        snprintf(want, sizeof want, "$%u-%0300u", round, key);
        e2e_expect(s->c, want, "SECRET.GET v%u key/%u", vault, key);
        snprintf(want, sizeof want, "$%u-%0300u", round - 1, key);
        e2e_expect(s->c, want, "SECRET.GET v%u key/%u VERSION %u", vault, key, round - 1);
    }
    e2e_expect(s->c, "nil", "SECRET.GET v%u no/such", vault);
}

/* Two vaults, each in a shard of its own; some of it in the snapshot, some behind. */
static void start_with_values(struct e2e *s)
{
    e2e_start(s, "--shards", "2", "--wbl-segment-bytes", "1mb", NULL);
    e2e_expect(s->c, "+OK", "VAULT.CREATE v0 SHARD 0");
    e2e_expect(s->c, "+OK", "VAULT.CREATE v1 SHARD 1");
    set_all(s, 1);
    set_all(s, 2);
    e2e_expect(s->c, ":...", "SNAPSHOT.CREATE");
    set_all(s, 3);
}

static void test_all_stores_deleted(void **state)
{
    struct e2e s;
    (void)state;
    start_with_values(&s);
    e2e_stop(&s);
    shell(&s, "rm -rf base* shard-*");
    hold_filling(&s);
    e2e_again(&s);
    expect_all(&s, 0, 3);
    expect_all(&s, 1, 3);
    e2e_expect(s.c, "-LOADING ...", "SECRET.LIST v0 key");
    e2e_info_wait(s.c, "loading", "0");
    e2e_info_wait(s.c, "async_loading", "1");
    assert_true(e2e_info(s.c, "loading_start_time")[0] && e2e_info(s.c, "loading_eta_seconds")[0]);
    e2e_info_wait(s.c, "recovery_tier", "1");
    assert_true(atoll(e2e_info(s.c, "recovery_lsn")) > 2 * 2 * KEYS);
    e2e_info_wait(s.c, "recovery_stores_left", "3");
    set_all(&s, 4);
    expect_all(&s, 0, 4);
    expect_all(&s, 1, 4);
    e2e_expect(s.c, "+OK", "VAULT.CREATE new");
    e2e_kill(&s); /* in the middle of it */
    e2e_again(&s);
    expect_all(&s, 0, 4);
    e2e_expect(s.c, ":1", "SECRET.SET new k v");
    set_all(&s, 5);
    e2e_info_wait(s.c, "recovery_stores_left", "3");
    let_it_fill();
    e2e_info_wait(s.c, "recovery_stores_left", "0");
    e2e_log_wait(&s, "3 of 3 stores are lost");
    e2e_log_wait(&s, "All stores are there again");
    e2e_info_wait(s.c, "async_loading", "0");
    e2e_info_wait(s.c, "loading_start_time", "");
    e2e_info_wait(s.c, "shards_failed", "");
    e2e_expect(s.c, "[...", "SECRET.LIST v0 key");
    expect_all(&s, 0, 5);
    e2e_kill(&s);
    e2e_again(&s);
    e2e_info_wait(s.c, "recovery_tier", "0");
    expect_all(&s, 0, 5);
    expect_all(&s, 1, 5);
    e2e_expect(s.c, "$v", "SECRET.GET new k");
    e2e_finish(&s);
}

static void test_one_shard_deleted(void **state)
{
    struct e2e s;
    (void)state;
    start_with_values(&s);
    e2e_kill(&s);
    shell(&s, "rm -rf shard-1*");
    hold_filling(&s);
    e2e_again(&s);
    expect_all(&s, 0, 3);
    expect_all(&s, 1, 3);
    e2e_expect(s.c, "[...", "SECRET.LIST v0 key");
    e2e_expect(s.c, "-LOADING ...", "SECRET.LIST v1 key");
    e2e_info_wait(s.c, "shards_failed", "1");
    set_all(&s, 4);
    expect_all(&s, 1, 4);
    let_it_fill();
    e2e_info_wait(s.c, "shards_failed", "");
    e2e_expect(s.c, "[...", "SECRET.LIST v1 key");
    expect_all(&s, 0, 4);
    expect_all(&s, 1, 4);
    e2e_finish(&s);
}

/* In a segment that the start does not read. */
static void test_damage_in_the_log_is_found_behind_the_start(void **state)
{
    struct e2e s;
    (void)state;
    start_with_values(&s);
    for (unsigned round = 4; round <= 12; round++)
        set_all(&s, round);
    e2e_stop(&s);
    shell(&s, "set -- wal/*.wbl; test $# -gt 3; printf XXXX | dd of=$1 bs=1 seek=300000 conv=notrunc 2>/dev/null");
    e2e_again(&s);
    e2e_log_wait(&s, "the log has damage from LSN");
    struct e2e_deadline w = {.what = "the damaged segment to go"};
    while (e2e_not_yet(&w))
        if (atoll(e2e_info(s.c, "wbl_first_lsn")) > 1)
            break;
    set_all(&s, 13);
    expect_all(&s, 0, 13);
    e2e_finish(&s);
}

/* Until others are there no record comes behind the snapshot: what it filled is no sign of a log that was lost. */
static void test_a_voter_recovered_by_force_starts_again_before_its_first_record(void **state)
{
    struct trio t;
    (void)state;
    trio_start(&t);
    struct e2e *s = &t.node[2];
    e2e_expect(t.node[0].c, "+OK", "SET key value");
    trio_await_equal(&t);
    e2e_expect(s->c, ":...", "SNAPSHOT.CREATE");
    for (unsigned i = 0; i < TRIO; i++)
        e2e_kill(&t.node[i]);
    shell(s, "rm -r wal");
    e2e_again(s);
    e2e_expect(s->c, "-ERR not recovered: there are stores here...", "CELL.FORCE-RECOVER");
    shell(s, "mkdir aside && mv base* shard-* aside");
    e2e_expect(s->c, "[$cell...", "CELL.FORCE-RECOVER");
    e2e_log_wait(s, "All stores are there again");
    assert_string_equal(e2e_info(s->c, "wbl_first_lsn"), "0");
    e2e_kill(s);
    e2e_again(s);
    assert_string_equal(e2e_info(s->c, "wbl_first_lsn"), "0");
    trio_begin_again(&t, 0);
    trio_begin_again(&t, 1);
    e2e_ready(&t.node[0]);
    e2e_ready(&t.node[1]);
    trio_lead(&t, 0);
    e2e_expect(t.node[0].c, "+OK", "SET key again");
    trio_await(&t, 2, "master_link_status", "up");
    e2e_same_state(t.node[0].c, s->c);
    trio_finish(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_all_stores_deleted, teardown),
        cmocka_unit_test_teardown(test_one_shard_deleted, teardown),
        cmocka_unit_test_teardown(test_damage_in_the_log_is_found_behind_the_start, teardown),
        cmocka_unit_test_teardown(test_a_voter_recovered_by_force_starts_again_before_its_first_record, trio_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
