/* What an operator sees of links: why there is none, that one that falls is soon back, that those who are silent or do
 * not read are dropped, and that a replica that has all of the log never needs a copy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

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
    redisFree(u);
    e2e_kill(&b);
    e2e_finish(&b);
    e2e_finish(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_blank_replica_says_why_it_waits, e2e_teardown),
        cmocka_unit_test_teardown(who_is_turned_away_at_the_door_learns_why, e2e_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
