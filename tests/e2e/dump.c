/* dump.c - DUMP and RESTORE: values come from a Redis and go to one, and on the way here nothing of them shows. Redis's
 * own tests of them are unit/dump. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/e2e.h"

static struct e2e s;

#define EXPECT(want, ...) e2e_expect(s.c, want, __VA_ARGS__)

/* "bar", as Redis 7.0.15 dumps it. */
static const char bar[] = "\x00\x03\x62\x61\x72\x0a\x00\xe6\xbe\x49\x60\xee\x66\xfd\x17";
#define BAR bar, sizeof bar - 1

static int start(void **state)
{
    (void)state;
    e2e_start(&s, NULL);
    EXPECT("+OK", "VAULT.CREATE v");
    return 0;
}

static redisReply *dump(const char *key)
{
    redisReply *r = e2e_command(s.c, "DUMP %s", key);
    assert_int_equal(r->type, REDIS_REPLY_STRING);
    return r;
}

static void to_and_fro(void **state)
{
    size_t n = 300000;
    char *big = malloc(n);
    (void)state;
    assert_non_null(big);
    memset(big, 'x', n);
    EXPECT("+OK", "SET big %b", big, n);
    redisReply *r = dump("big");
    EXPECT("+OK", "RESTORE {v}/big 0 %b", r->str, r->len);
    EXPECT(":300000", "STRLEN {v}/big");
    EXPECT("$xxxxx", "GETRANGE {v}/big 299995 -1");
    freeReplyObject(r);
    free(big);
    EXPECT("nil", "DUMP none");
    EXPECT("+OK", "RESTORE foo 0 %b", BAR);
    EXPECT("$bar", "GET foo");
    r = dump("foo");
    assert_int_equal(r->len, sizeof bar - 1);
    assert_memory_equal(r->str, bar, sizeof bar - 1);
    freeReplyObject(r);
    EXPECT("-BUSYKEY Target key name already exists.", "RESTORE foo 0 %b", BAR);
    EXPECT("-BUSYKEY Target key name already exists.", "RESTORE foo 0 x");
    EXPECT("-ERR DUMP payload version or checksum are wrong", "RESTORE foo 0 x REPLACE");
    EXPECT("-NOVAULT...", "RESTORE {none}/x 0 %b", BAR);
    e2e_kill(&s);
    e2e_again(&s);
    EXPECT("$bar", "GET foo");
    EXPECT("+OK", "RESTORE foo 0 %b REPLACE", BAR);
    EXPECT("$bar", "SECRET.GET db0 foo VERSION 1"); /* a version like any */
    EXPECT("$bar", "SECRET.GET db0 foo VERSION 2");
    e2e_finish(&s);
}

static void times_to_live(void **state)
{
    (void)state;
    EXPECT("+OK", "RESTORE a 1000000 %b", BAR);
    EXPECT(":1000", "TTL a");
    EXPECT("+OK", "RESTORE a 4102444800000 %b ABSTTL REPLACE", BAR);
    EXPECT(":4102444800000", "PEXPIRETIME a");
    EXPECT("+OK", "RESTORE a 0 %b REPLACE IDLETIME 7", BAR);
    EXPECT(":-1", "TTL a");
    EXPECT("-ERR Invalid TTL value, must be >= 0", "RESTORE b -1 %b", BAR);
    EXPECT("-ERR value is not an integer...", "RESTORE b x %b", BAR);
    EXPECT("-ERR Invalid FREQ...", "RESTORE b 0 %b FREQ 256", BAR);
    EXPECT("-BUSYKEY...", "RESTORE a 1 %b ABSTTL", BAR); /* what is over ... */
    EXPECT("+OK", "RESTORE b 1 %b ABSTTL", BAR);
    EXPECT(":0", "EXISTS b");
    EXPECT("+OK", "RESTORE a 1 %b ABSTTL REPLACE", BAR);
    EXPECT(":0", "EXISTS a");
    e2e_finish(&s);
}

static void in_a_transaction(void **state)
{
    struct e2e_raw r;
    (void)state;
    EXPECT("+OK", "CONFIG SET notify-keyspace-events EA");
    e2e_raw_open(&r, &s);
    e2e_raw_expect(&r, "[$psubscribe $__key* :1]", "PSUBSCRIBE __key*");
    EXPECT("+OK", "MULTI");
    EXPECT("+QUEUED", "RESTORE k 0 %b", BAR);
    EXPECT("+QUEUED", "RESTORE k 0 %b", BAR);
    EXPECT("+QUEUED", "APPEND k s");
    EXPECT("+QUEUED", "DUMP k");
    EXPECT("+QUEUED", "RESTORE k 1 %b ABSTTL REPLACE", BAR);
    EXPECT("[+OK -BUSYKEY Target key name already exists. :4 $\\00\\04bars...", "EXEC");
    static const char *const events[] = {"restore", "append", "del"};
    for (int i = 0; i < 3; i++) {
        char want[128];
        snprintf(want, sizeof want, "[$pmessage $__key* $__keyevent@0__:%s $k]", events[i]);
        char *got = e2e_show_answer(e2e_raw_next(&r));
        assert_string_equal(got, want);
        free(got);
    }
    e2e_raw_close(&r);
    e2e_finish(&s);
}

static void who_may_and_what_shows(void **state)
{
    struct e2e_raw r;
    redisContext *u = e2e_connect(&s);
    (void)state;
    EXPECT("+OK", "SET k 4711");
    EXPECT("+OK", "ACL SETUSER u on nopass +dump +restore %%R~r* %%W~w*");
    e2e_expect(u, "+OK", "AUTH u x");
    e2e_expect(u, "-NOPERM...", "DUMP w");
    e2e_expect(u, "nil", "DUMP r");
    e2e_expect(u, "-NOPERM...", "RESTORE r 0 %b", BAR);
    e2e_expect(u, "+OK", "RESTORE w 0 %b", BAR);
    EXPECT("+OK", "ACL SETUSER u -@dangerous");
    e2e_expect(u, "-NOPERM...", "RESTORE w 0 %b REPLACE", BAR);
    redisFree(u);
    e2e_raw_open(&r, &s);
    e2e_raw_expect(&r, "+OK", "MONITOR");
    EXPECT("+OK", "RESTORE m 0 %b", BAR);
    char *line = e2e_show_answer(e2e_raw_next(&r));
    assert_non_null(strstr(line, "\"RESTORE\" \"m\" \"0\" \"(redacted)\""));
    free(line);
    e2e_raw_close(&r);
    e2e_stop(&s);
    e2e_again_with(&s, "--secret-max-bytes", "2", NULL);
    EXPECT("-TOOBIG the value has more bytes than secret-max-bytes allows", "RESTORE m 0 %b REPLACE", BAR);
    e2e_finish(&s);
}

#define T(name) cmocka_unit_test_setup_teardown(name, start, e2e_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(to_and_fro),
        T(times_to_live),
        T(in_a_transaction),
        T(who_may_and_what_shows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
