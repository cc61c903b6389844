/* asof.c - the past through clients: SNAPSHOT.GET, SNAPSHOT.RESTORE, STATE.DIGEST; beside traffic, beside snapshots
 * that come and go, across a kill -9 in the middle of a restore, and with bad input of every kind, which must change
 * nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/clock.h"
#include "tests/lib/e2e.h"

static struct e2e s;

static int start(void **state)
{
    (void)state;
    e2e_start(&s, "--wbl-segment-bytes", "1mb", "--slowlog-log-slower-than", "0", NULL);
    e2e_expect(s.c, "+OK", "VAULT.CREATE v MAXVERSIONS 3");
    return 0;
}

#define EXPECT(want, ...) e2e_expect(s.c, want, __VA_ARGS__)

static long long last_lsn(void)
{
    return e2e_int(s.c, "CLIENT LASTLSN");
}

/* A field of a map that a command answers, as text; NULL: it has none of the name. The caller's. */
static char *field(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static char *field(const char *name, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;
    va_start(ap, fmt);
    redisReply *r = redisvCommand(s.c, fmt, ap);
    va_end(ap);
    assert_non_null(r);
    for (size_t i = 0; r->type == REDIS_REPLY_ARRAY && i + 1 < r->elements; i += 2)
        if (!text && strcmp(r->element[i]->str, name) == 0)
            text = e2e_show_reply(r->element[i + 1]);
    freeReplyObject(r);
    return text;
}

#define FIELD(want, name, ...)                                                                       \
    do {                                                                                             \
        char *text_ = field(name, __VA_ARGS__);                                                      \
        if (!text_ || strcmp(text_, want) != 0)                                                      \
            fail_msg("%s: %s is %s, not %s", #__VA_ARGS__, name, text_ ? text_ : "not there", want); \
        free(text_);                                                                                 \
    } while (0)

/* What SNAPSHOT.RESTORE answers: the five counts. */
#define COUNTS(restored, unchanged, expired, since, ...) \
    EXPECT_COUNTS(restored, unchanged, expired, since, 0, __VA_ARGS__)
#define EXPECT_COUNTS(restored, unchanged, expired, since, failed, ...)                                            \
    do {                                                                                                           \
        char want_[200];                                                                                           \
        snprintf(want_, sizeof want_, "$restored :%d $unchanged :%d $expired :%d $created-since :%d $failed :%d]", \
                 (int)(restored), (int)(unchanged), (int)(expired), (int)(since), (int)(failed));                  \
        redisReply *r_ = e2e_command(s.c, __VA_ARGS__);                                                            \
        char *text_ = e2e_show_reply(r_);                                                                          \
        if (!strstr(text_, want_))                                                                                 \
            fail_msg("%s: %s, not %s", #__VA_ARGS__, text_, want_);                                                \
        free(text_);                                                                                               \
        freeReplyObject(r_);                                                                                       \
    } while (0)

/* ---- SNAPSHOT.GET ---- */

static void a_secret_as_it_was(void **state)
{
    char big[3001], want[3010];
    (void)state;
    memset(big, 'b', 3000);
    big[3000] = '\0';
    snprintf(want, sizeof want, "$%s", big);
    EXPECT(":1", "SECRET.SET v app/db one META {\"a\":1}");
    long long one = last_lsn();
    EXPECT(":2", "SECRET.SET v app/db %s", big);
    long long two = last_lsn();
    EXPECT(":3", "SECRET.SET v app/db %b", "", (size_t)0);
    long long empty = last_lsn();
    EXPECT("+OK", "SECRET.STAGE v app/db CURRENT 1");
    long long rolled_back = last_lsn();
    EXPECT(":1", "SECRET.DEL v app/db");
    long long deleted = last_lsn();
    EXPECT(":3", "SECRET.DESTROY v app/db");
    long long gone = last_lsn();
    for (int snapshot = 0; snapshot < 3; snapshot++) {
        FIELD("$one", "value", "SNAPSHOT.GET v app/db LSN %lld", one);
        FIELD("${\"a\":1}", "meta", "SNAPSHOT.GET v app/db LSN %lld", one);
        FIELD(want, "value", "SNAPSHOT.GET v app/db LSN %lld", two);
        FIELD("[$CURRENT]", "stages", "SNAPSHOT.GET v app/db LSN %lld", two);
        FIELD("$", "value", "SNAPSHOT.GET v app/db LSN %lld", empty);
        FIELD(":3", "version", "SNAPSHOT.GET v app/db LSN %lld", empty);
        FIELD("$one", "value", "SNAPSHOT.GET v app/db LSN %lld", rolled_back);
        FIELD(":1", "version", "SNAPSHOT.GET v app/db LSN %lld", rolled_back);
        FIELD("$ACTIVE", "state", "SNAPSHOT.GET v app/db LSN %lld", rolled_back);
        FIELD("nil", "value", "SNAPSHOT.GET v app/db LSN %lld", deleted);
        FIELD("$DELETED", "state", "SNAPSHOT.GET v app/db LSN %lld", deleted);
        FIELD("nil", "value", "SNAPSHOT.GET v app/db LSN %lld", gone);
        assert_null(field("state", "SNAPSHOT.GET v app/db LSN %lld", gone));
        assert_null(field("state", "SNAPSHOT.GET v app/db LSN 1"));
        EXPECT(":...", "SNAPSHOT.CREATE");
        EXPECT(":...", "SECRET.SET v other %d", snapshot);
    }
    EXPECT("nil", "SECRET.GET v app/db");
    e2e_finish(&s);
}

static void by_default_the_newest_snapshot(void **state)
{
    char lsn[32];
    (void)state;
    EXPECT("-ERR there is no snapshot yet: SNAPSHOT.CREATE makes one", "SNAPSHOT.GET v a");
    EXPECT(":1", "SECRET.SET v a one");
    snprintf(lsn, sizeof lsn, ":%lld", e2e_int(s.c, "SNAPSHOT.CREATE"));
    EXPECT(":2", "SECRET.SET v a two");
    FIELD("$one", "value", "SNAPSHOT.GET v a");
    FIELD(lsn, "lsn", "SNAPSHOT.GET v a");
    e2e_finish(&s);
}

static void as_of_a_time(void **state)
{
    (void)state;
    EXPECT(":1", "SECRET.SET v a one PXAT %llu", (unsigned long long)clock_wall_ms() + 3600000);
    uint64_t ms = clock_wall_ms();
    struct e2e_deadline w = {.what = "a later millisecond"};
    while (e2e_not_yet(&w))
        if (clock_wall_ms() > ms)
            break;
    EXPECT(":2", "SECRET.SET v a two");
    FIELD("$one", "value", "SNAPSHOT.GET v a TIME %llu", (unsigned long long)ms);
    FIELD(":1", "version", "SNAPSHOT.GET v a TIME %llu", (unsigned long long)ms);
    EXPECT("-ERR nothing here is as old as that", "SNAPSHOT.GET v a TIME 1000");
    EXPECT("-ERR that time is still to come", "SNAPSHOT.GET v a TIME %llu", (unsigned long long)ms + 3600000);
    COUNTS(1, 0, 0, 0, "SNAPSHOT.RESTORE v a TIME %llu", (unsigned long long)ms);
    EXPECT("$one", "SECRET.GET v a");
    e2e_finish(&s);
}

/* redis-cli, and no value where commands are shown. */
static void an_operator_types_it(void **state)
{
    char out[4096], lsn[32];
    (void)state;
    EXPECT(":1", "SECRET.SET v a planted-value");
    snprintf(lsn, sizeof lsn, "%lld", last_lsn());
    EXPECT(":2", "SECRET.SET v a two");
    assert_int_equal(e2e_run(out, sizeof out, "redis-cli", "-s", s.socket, "SNAPSHOT.GET", "v", "a", "LSN", lsn, NULL),
                     0);
    assert_non_null(strstr(out, "value\nplanted-value\n"));
    assert_int_equal(
        e2e_run(out, sizeof out, "redis-cli", "-s", s.socket, "SNAPSHOT.RESTORE", "v", "", "LSN", lsn, "DRYRUN", NULL),
        0);
    assert_non_null(strstr(out, "restored\n1\n"));
    assert_int_equal(
        e2e_run(out, sizeof out, "redis-cli", "-s", s.socket, "SNAPSHOT.RESTORE", "v", "", "LSN", lsn, NULL), 0);
    assert_non_null(strstr(out, "restored\n1\n"));
    redisReply *r = e2e_command(s.c, "SLOWLOG GET 100");
    char *text = e2e_show_reply(r);
    assert_non_null(strstr(text, "snapshot.get"));
    assert_null(strstr(text, "planted-value"));
    free(text);
    freeReplyObject(r);
    assert_true(e2e_log_has(&s, "SNAPSHOT.RESTORE: 1 secrets of vault 'v'"));
    assert_false(e2e_log_has(&s, "planted-value"));
    e2e_finish(&s);
}

/* ---- SNAPSHOT.RESTORE ---- */

static void a_folder_is_what_it_was(void **state)
{
    unsigned long long later = (unsigned long long)clock_wall_ms() + 3600000;
    (void)state;
    EXPECT("[:1 :1 :1 :1]", "SECRET.MSET v app/changed old app/deleted old app/destroyed old app/same same");
    EXPECT(":1", "SECRET.SET v app/meta m META {\"a\":1}");
    EXPECT(":1", "SECRET.SET v app/lease l PXAT %llu", later);
    EXPECT(":1", "SECRET.SET v app/deleted-then x");
    EXPECT(":1", "SECRET.DEL v app/deleted-then");
    EXPECT(":1", "SECRET.SET v app/sub/deep d");
    EXPECT(":1", "SECRET.SET v apple not-in-the-folder");
    EXPECT(":1", "SECRET.SET v app/back b");
    long long then = last_lsn();
    EXPECT(":2", "SECRET.SET v app/changed new");
    EXPECT(":1", "SECRET.DEL v app/deleted");
    EXPECT(":1", "SECRET.DESTROY v app/destroyed");
    EXPECT("+OK", "SECRET.META v app/meta {}");
    EXPECT(":1", "SECRET.PERSIST v app/lease");
    EXPECT(":2", "SECRET.SET v app/deleted-then y");
    EXPECT(":2", "SECRET.SET v app/sub/deep e");
    EXPECT(":2", "SECRET.SET v apple changed");
    EXPECT(":1", "SECRET.SET v app/created c");
    EXPECT(":2", "SECRET.SET v app/back c");
    EXPECT(":3", "SECRET.SET v app/back b"); /* as it was, whoever made it so */
    long long before = last_lsn();
    COUNTS(6, 2, 0, 2, "SNAPSHOT.RESTORE v app/ LSN %lld DRYRUN", then);
    FIELD("$new", "value", "SNAPSHOT.GET v app/changed LSN %lld", before);
    EXPECT("$new", "SECRET.GET v app/changed");
    assert_int_equal(last_lsn(), before);
    COUNTS(6, 2, 0, 2, "SNAPSHOT.RESTORE v app/ LSN %lld", then);
    EXPECT("$old", "SECRET.GET v app/changed");
    EXPECT("$new", "SECRET.GET v app/changed VERSION 2"); /* history is not written anew */
    EXPECT("$old", "SECRET.GET v app/deleted");
    EXPECT("$old", "SECRET.GET v app/destroyed");
    FIELD(":2", "version", "SECRET.GET v app/destroyed WITHMETA"); /* nor are numbers given out twice */
    EXPECT("$same", "SECRET.GET v app/same VERSION 1");
    EXPECT("nil", "SECRET.GET v app/same VERSION 2");
    EXPECT("${\"a\":1}", "SECRET.META v app/meta");
    char want[40];
    snprintf(want, sizeof want, ":%llu", later);
    FIELD(want, "expires-at", "SECRET.GET v app/lease WITHMETA");
    EXPECT("$y", "SECRET.GET v app/deleted-then");
    EXPECT("$d", "SECRET.GET v app/sub/deep");
    EXPECT("$changed", "SECRET.GET v apple");
    EXPECT("$c", "SECRET.GET v app/created");
    EXPECT("nil", "SECRET.GET v app/back VERSION 4");
    long long after = last_lsn();
    COUNTS(0, 8, 0, 2, "SNAPSHOT.RESTORE v app/ LSN %lld", then);
    COUNTS(1, 8, 0, 2, "SNAPSHOT.RESTORE v %b LSN %lld", "", (size_t)0, then); /* the vault: apple too */
    EXPECT("$not-in-the-folder", "SECRET.GET v apple");
    assert_int_equal(last_lsn(), after + 1);
    COUNTS(5, 4, 0, 2, "SNAPSHOT.RESTORE v %b LSN %lld DRYRUN", "", (size_t)0, before); /* and there again */
    e2e_finish(&s);
}

static void one_secret_is_what_it_was(void **state)
{
    (void)state;
    EXPECT("[:1 :1]", "SECRET.MSET v app a app/db b");
    long long then = last_lsn();
    EXPECT("[:2 :2 :1]", "SECRET.MSET v app x app/db y application z");
    COUNTS(1, 0, 0, 0, "SNAPSHOT.RESTORE v app LSN %lld", then);
    EXPECT("[$a $y $z]", "SECRET.MGET v app app/db application");
    COUNTS(0, 1, 0, 0, "SNAPSHOT.RESTORE v app LSN %lld", then);
    COUNTS(0, 0, 0, 1, "SNAPSHOT.RESTORE v application LSN %lld", then);
    COUNTS(0, 0, 0, 0, "SNAPSHOT.RESTORE v nothing LSN %lld", then);
    COUNTS(0, 0, 0, 0, "SNAPSHOT.RESTORE v appl LSN %lld", then); /* application begins so */
    e2e_finish(&s);
}

static void what_has_expired_since_is_left_unless_asked_for(void **state)
{
    (void)state;
    EXPECT(":1", "SECRET.SET v l/long l EX 3600");
    EXPECT(":1", "SECRET.SET v l/short s PX 100");
    long long then = last_lsn(); /* the moment of its own record: there, however long this takes */
    EXPECT(":1", "SECRET.DESTROY v l/long");
    struct e2e_deadline w = {.what = "the expiry"};
    while (e2e_not_yet(&w)) {
        redisReply *r = e2e_command(s.c, "SECRET.STATE v l/short");
        int gone = r->type == REDIS_REPLY_NIL;
        freeReplyObject(r);
        if (gone)
            break;
    }
    COUNTS(1, 0, 1, 0, "SNAPSHOT.RESTORE v l/ LSN %lld", then);
    EXPECT("nil", "SECRET.GET v l/short");
    EXPECT("$l", "SECRET.GET v l/long");
    COUNTS(1, 1, 0, 0, "SNAPSHOT.RESTORE v l/ LSN %lld EXPIRED", then);
    EXPECT("$s", "SECRET.GET v l/short");
    EXPECT(":-1", "SECRET.TTL v l/short");
    COUNTS(0, 2, 0, 0, "SNAPSHOT.RESTORE v l/ LSN %lld EXPIRED", then);
    COUNTS(0, 1, 1, 0, "SNAPSHOT.RESTORE v l/ LSN %lld", then);
    EXPECT("$s", "SECRET.GET v l/short");
    e2e_finish(&s);
}

static void databases_of_the_facade_too(void **state)
{
    (void)state;
    EXPECT("+OK", "SET k one");
    long long then = last_lsn();
    EXPECT(":1", "DEL k"); /* here versions begin anew */
    EXPECT("+OK", "SET k two");
    COUNTS(1, 0, 0, 0, "SNAPSHOT.RESTORE db0 k LSN %lld", then);
    EXPECT("$one", "GET k");
    COUNTS(0, 1, 0, 0, "SNAPSHOT.RESTORE db0 k LSN %lld", then);
    e2e_finish(&s);
}

/* After a start no data key is in memory, and a chore has to wait for the HSM; sealed it is refused. */
static void after_a_start_and_sealed(void **state)
{
    (void)state;
    EXPECT("[:1 :1]", "SECRET.MSET v f/a 1 f/b 2");
    long long then = last_lsn();
    EXPECT("[:2 :2]", "SECRET.MSET v f/a 3 f/b 4");
    EXPECT(":...", "SNAPSHOT.CREATE");
    e2e_kill(&s);
    e2e_again(&s);
    FIELD("$1", "value", "SNAPSHOT.GET v f/a LSN %lld", then);
    COUNTS(2, 0, 0, 0, "SNAPSHOT.RESTORE v f/ LSN %lld", then);
    EXPECT("[$1 $2]", "SECRET.MGET v f/a f/b");
    EXPECT("+OK", "HSM.SEAL");
    EXPECT("-SEALED...", "SNAPSHOT.GET v f/a LSN %lld", then);
    EXPECT("-SEALED...", "SNAPSHOT.RESTORE v f/ LSN %lld", then);
    e2e_finish(&s);
}

static void quotas_end_it_and_it_goes_on(void **state)
{
    (void)state;
    EXPECT("+OK", "VAULT.CREATE q MAXVERSIONS 3");
    for (int i = 0; i < 200; i++)
        EXPECT(":1", "SECRET.SET q f/%d then-%d", i, i);
    long long then = last_lsn();
    for (int i = 0; i < 200; i++)
        EXPECT(":1", "SECRET.DESTROY q f/%d", i);
    EXPECT("+OK", "VAULT.SET q MAXSECRETS 50");
    EXPECT(
        "-QUOTA over the vault's quota: raise it with VAULT.SET or remove secrets; 50 secrets were restored, the same "
        "again goes on from there",
        "SNAPSHOT.RESTORE q f/ LSN %lld", then);
    EXPECT("+OK", "VAULT.SET q MAXSECRETS 0");
    COUNTS(150, 50, 0, 0, "SNAPSHOT.RESTORE q f/ LSN %lld", then);
    EXPECT("$then-77", "SECRET.GET q f/77");
    e2e_finish(&s);
}

/* ---- bad input ---- */

static void bad_input_changes_nothing(void **state)
{
    static char path[4098];
    (void)state;
    EXPECT(":1", "SECRET.SET v a one");
    long long lsn = last_lsn();
    EXPECT(":2", "SECRET.SET v a two");
    long long end = last_lsn();
    memset(path, 'p', sizeof path - 1);
    static const struct {
        const char *want, *words;
    } bad[] = {
        {"-ERR wrong number of arguments for 'snapshot.get' command", "SNAPSHOT.GET v"},
        {"-ERR wrong number of arguments for 'snapshot.restore' command", "SNAPSHOT.RESTORE v a LSN"},
        {"-ERR syntax error near 'LSN'", "SNAPSHOT.GET v a LSN"},
        {"-ERR syntax error near 'BAD'", "SNAPSHOT.GET v a BAD 1"},
        {"-ERR syntax error near 'TIME'", "SNAPSHOT.GET v a LSN 1 TIME 1"},
        {"-ERR syntax error near 'LSN'", "SNAPSHOT.GET v a LSN 1 LSN 1"},
        {"-ERR value is not an integer or out of range", "SNAPSHOT.GET v a LSN x"},
        {"-ERR value is not an integer or out of range", "SNAPSHOT.GET v a LSN 99999999999999999999"},
        {"-ERR ...", "SNAPSHOT.GET v a LSN 0"},
        {"-ERR ...", "SNAPSHOT.GET v a LSN -1"},
        {"-ERR ...", "SNAPSHOT.GET v a TIME 0"},
        {"-ERR the log ends at LSN ...", "SNAPSHOT.GET v a LSN 9223372036854775807"},
        {"-ERR that time is still to come", "SNAPSHOT.GET v a TIME 9223372036854775807"},
        {"-NOVAULT ...", "SNAPSHOT.GET nothing a LSN 1"},
        {"-ERR the log ends at LSN ...", "SNAPSHOT.RESTORE v a LSN 9223372036854775807"},
        {"-ERR that time is still to come", "SNAPSHOT.RESTORE v a TIME 9223372036854775807"},
        {"-ERR as of when? LSN or TIME says it", "SNAPSHOT.RESTORE v a DRYRUN EXPIRED"},
        {"-ERR syntax error near 'DRYRUN'", "SNAPSHOT.RESTORE v a DRYRUN LSN 1 DRYRUN"},
        {"-ERR syntax error near 'TIME'", "SNAPSHOT.RESTORE v a LSN 1 TIME 1"},
        {"-NOVAULT ...", "SNAPSHOT.RESTORE nothing a LSN 1"},
        {"-ERR syntax error near 'NOW'", "STATE.DIGEST NOW"},
        {"-ERR syntax error near 'STORES'", "STATE.DIGEST LSN 1 STORES"},
        {"-ERR the log ends at LSN ...", "STATE.DIGEST LSN 1000000"},
        {"-ERR there is no snapshot yet: SNAPSHOT.CREATE makes one", "STATE.DIGEST"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        EXPECT(bad[i].want, bad[i].words);
    EXPECT("-ERR invalid path...", "SNAPSHOT.GET v %b LSN %lld", "", (size_t)0, lsn);
    EXPECT("-ERR invalid path...", "SNAPSHOT.GET v %s LSN %lld", path, lsn);
    EXPECT("-ERR invalid path...", "SNAPSHOT.RESTORE v %s LSN %lld", path, lsn);
    EXPECT("$two", "SECRET.GET v a");
    FIELD("$two", "value", "SNAPSHOT.GET v a LSN %lld", end);
    assert_int_equal(last_lsn(), end);
    assert_int_equal(strtoll(e2e_info(s.c, "wbl_commit_lsn"), NULL, 10), end);
    e2e_finish(&s);
}

/* The log is cut behind snapshots: what is gone is refused, and the refusal names what can be had. */
static void what_is_gone_names_what_is_there(void **state)
{
    char *text = NULL;
    unsigned long long oldest = 0;
    (void)state;
    EXPECT(":1", "SECRET.SET v a one");
    long long then = last_lsn();
    struct e2e_deadline w = {.what = "the log's beginning to go"};
    while (e2e_not_yet(&w)) {
        char value[200];
        memset(value, 'x', sizeof value);
        for (int i = 0; i < 5000; i++)
            redisAppendCommand(s.c, "SECRET.SET v fill/%d %b", i % 100, value, sizeof value);
        for (int i = 0; i < 5000; i++)
            e2e_expect_next(s.c, ":...");
        EXPECT(":...", "SNAPSHOT.CREATE");
        redisReply *r = e2e_command(s.c, "SNAPSHOT.GET v a LSN %lld", then);
        int gone = r->type == REDIS_REPLY_ERROR;
        if (gone)
            text = strdup(r->str);
        freeReplyObject(r);
        if (gone)
            break;
    }
    assert_non_null(text);
    assert_int_equal(sscanf(text, "ERR that is gone: the oldest that can be had is LSN %llu", &oldest), 1);
    free(text);
    FIELD("$one", "value", "SNAPSHOT.GET v a LSN %llu", oldest);
    COUNTS(0, 1, 0, 0, "SNAPSHOT.RESTORE v a LSN %llu", oldest);
    EXPECT("-ERR that is gone...", "SNAPSHOT.RESTORE v a LSN %lld", then);
    EXPECT("-ERR that is gone...", "STATE.DIGEST LSN %lld", then);
    e2e_finish(&s);
}

/* ---- beside traffic ---- */

#define FOLDER 400

struct client {
    pthread_t thread;
    redisContext *c;
    _Atomic int stop;
    _Atomic unsigned rounds;
    int failed;
};

/* Writes to other folders, makes snapshots: what is restored must not notice, nor be noticed. */
static void *other_traffic(void *arg)
{
    struct client *cl = arg;
    for (unsigned i = 0; !atomic_load(&cl->stop); i++) {
        redisReply *r = redisCommand(cl->c, "SECRET.SET v other/%u %0300u", i % 1000, i);
        cl->failed |= !r || r->type != REDIS_REPLY_INTEGER;
        freeReplyObject(r);
        if (i % 200 == 0) {
            r = redisCommand(cl->c, "SNAPSHOT.CREATE");
            cl->failed |= !r || r->type != REDIS_REPLY_INTEGER;
            freeReplyObject(r);
            cl->rounds++;
        }
    }
    return NULL;
}

static void set_folder(const char *what)
{
    for (unsigned i = 0; i < FOLDER; i++)
        redisAppendCommand(s.c, "SECRET.SET v f/%u %s-%u", i, what, i);
    for (unsigned i = 0; i < FOLDER; i++)
        e2e_expect_next(s.c, ":...");
}

static void check_folder(const char *what)
{
    char want[40];
    for (unsigned i = 0; i < FOLDER; i++) {
        snprintf(want, sizeof want, "$%s-%u", what, i);
        EXPECT(want, "SECRET.GET v f/%u", i);
    }
}

static void beside_traffic_and_rotating_snapshots(void **state)
{
    struct client cl = {0};
    char what[20];
    (void)state;
    cl.c = e2e_connect(&s);
    assert_int_equal(pthread_create(&cl.thread, NULL, other_traffic, &cl), 0);
    for (unsigned round = 0; round < 6; round++) {
        snprintf(what, sizeof what, "good%u", round);
        set_folder(what);
        long long then = last_lsn();
        set_folder("bad");
        EXPECT(":1", "SECRET.DEL v f/7");
        EXPECT(":...", "SECRET.SET v f/since%u new", round);
        COUNTS(FOLDER, 0, 0, 1, "SNAPSHOT.RESTORE v f/ LSN %lld", then);
        check_folder(what);
        COUNTS(0, FOLDER, 0, 1, "SNAPSHOT.RESTORE v f/ LSN %lld", then);
        EXPECT(":1", "SECRET.DESTROY v f/since%u", round);
    }
    struct e2e_deadline w = {.what = "some snapshots of the other client"};
    while (e2e_not_yet(&w))
        if (cl.rounds >= 3)
            break;
    atomic_store(&cl.stop, 1);
    pthread_join(cl.thread, NULL);
    redisFree(cl.c);
    assert_false(cl.failed);
    e2e_finish(&s);
}

/* The folder itself is written meanwhile: a client's acknowledged write is a version, in front or behind. */
static void *writes_of_the_folder(void *arg)
{
    struct client *cl = arg;
    for (unsigned i = 0; !atomic_load(&cl->stop); i++) {
        redisReply *r = redisCommand(cl->c, "SECRET.SET v f/%u client-%u", i % FOLDER, i % FOLDER);
        cl->failed |= !r || r->type != REDIS_REPLY_INTEGER;
        freeReplyObject(r);
        cl->rounds++;
    }
    return NULL;
}

static void beside_writes_of_the_same_folder(void **state)
{
    struct client cl = {0};
    (void)state;
    set_folder("good");
    long long then = last_lsn();
    cl.c = e2e_connect(&s);
    assert_int_equal(pthread_create(&cl.thread, NULL, writes_of_the_folder, &cl), 0);
    for (unsigned round = 0; round < 10; round++)
        EXPECT("[$lsn ...", "SNAPSHOT.RESTORE v f/ LSN %lld", then);
    for (unsigned i = 0; i < FOLDER; i++) { /* one of the two, never torn */
        redisReply *r = e2e_command(s.c, "SECRET.GET v f/%u", i);
        char good[40], client[40];
        snprintf(good, sizeof good, "good-%u", i);
        snprintf(client, sizeof client, "client-%u", i);
        assert_true(strcmp(r->str, good) == 0 || strcmp(r->str, client) == 0);
        freeReplyObject(r);
    }
    atomic_store(&cl.stop, 1);
    pthread_join(cl.thread, NULL);
    redisFree(cl.c);
    assert_false(cl.failed);
    EXPECT("[$lsn ...", "SNAPSHOT.RESTORE v f/ LSN %lld", then);
    check_folder("good");
    COUNTS(0, FOLDER, 0, 0, "SNAPSHOT.RESTORE v f/ LSN %lld", then);
    e2e_finish(&s);
}

/* ---- kill -9 ---- */

#define MANY 4000

static void set_many(const char *what)
{
    for (unsigned i = 0; i < MANY; i++)
        redisAppendCommand(s.c, "SECRET.SET v m/%u %s-%u", i, what, i);
    for (unsigned i = 0; i < MANY; i++)
        e2e_expect_next(s.c, ":...");
}

static void a_kill_in_the_middle_and_again(void **state)
{
    unsigned whole = 0, back = 0;
    (void)state;
    set_many("then");
    long long then = last_lsn();
    set_many("now");
    for (unsigned round = 0; round < 5; round++) {
        redisContext *other = e2e_connect(&s);
        long long from = strtoll(e2e_info(s.c, "wbl_commit_lsn"), NULL, 10);
        assert_int_equal(redisAppendCommand(other, "SNAPSHOT.RESTORE v m/ LSN %lld", then), REDIS_OK);
        int done = 0;
        assert_int_equal(redisBufferWrite(other, &done), REDIS_OK);
        struct e2e_deadline w = {.what = "a part of the folder"};
        while (e2e_not_yet(&w))
            if (strtoll(e2e_info(s.c, "wbl_commit_lsn"), NULL, 10) > from + 100 * round)
                break;
        e2e_kill(&s);
        redisFree(other);
        e2e_again(&s);
        back = 0;
        for (unsigned i = 0; i < MANY; i++)
            redisAppendCommand(s.c, "SECRET.GET v m/%u", i);
        for (unsigned i = 0; i < MANY; i++) {
            redisReply *r;
            char then_value[40], now_value[40];
            assert_int_equal(redisGetReply(s.c, (void **)&r), REDIS_OK);
            snprintf(then_value, sizeof then_value, "then-%u", i);
            snprintf(now_value, sizeof now_value, "now-%u", i);
            assert_true(strcmp(r->str, then_value) == 0 || strcmp(r->str, now_value) == 0);
            back += strcmp(r->str, then_value) == 0;
            freeReplyObject(r);
        }
        COUNTS(MANY - back, back, 0, 0, "SNAPSHOT.RESTORE v m/ LSN %lld", then);
        COUNTS(0, MANY, 0, 0, "SNAPSHOT.RESTORE v m/ LSN %lld", then);
        whole += back == MANY;
        set_many("now");
    }
    assert_true(whole < 5); /* it was cut off in the middle at least once */
    e2e_finish(&s);
}

/* ---- a damaged snapshot ---- */

static void a_damaged_block_is_passed_over(void **state)
{
    char command[512];
    (void)state;
    set_folder("good");
    EXPECT(":...", "SNAPSHOT.CREATE");
    set_folder("better");
    long long then = e2e_int(s.c, "SNAPSHOT.CREATE");
    set_folder("bad");
    snprintf(command, sizeof command,
             "printf XXXX | dd of=$(ls %s/snapshots/*.snap | tail -1) bs=1 seek=2000 conv=notrunc 2>/dev/null", s.dir);
    assert_int_equal(system(command), 0);
    EXPECT("-CORRUPT...", "SNAPSHOT.VERIFY");
    FIELD("$better-7", "value", "SNAPSHOT.GET v f/7 LSN %lld", then);
    COUNTS(FOLDER, 0, 0, 0, "SNAPSHOT.RESTORE v f/ LSN %lld", then);
    check_folder("better");
    e2e_finish(&s);
}

/* ---- STATE.DIGEST ---- */

static char *digest(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static char *digest(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    redisReply *r = redisvCommand(s.c, fmt, ap);
    va_end(ap);
    assert_true(r && r->type == REDIS_REPLY_ARRAY && r->elements == 2 && r->element[1]->len == 64);
    char *text = e2e_show_reply(r);
    freeReplyObject(r);
    return text;
}

static void same(char *a, char *b)
{
    assert_string_equal(a, b);
    free(a);
    free(b);
}

static void the_digest_at_an_lsn_is_the_same_for_good(void **state)
{
    (void)state;
    set_folder("one");
    EXPECT(":1", "SECRET.DESTROY v f/3");
    EXPECT(":1", "KEY.CREATE v aes");
    long long first = last_lsn();
    char *then = digest("STATE.DIGEST LSN %lld", first);
    same(digest("STATE.DIGEST STORES"), strdup(then));
    set_folder("two");
    long long lsn = e2e_int(s.c, "SNAPSHOT.CREATE");
    same(digest("STATE.DIGEST"), digest("STATE.DIGEST LSN %lld", lsn));
    same(digest("STATE.DIGEST LSN %lld", first), strdup(then));
    char *now = digest("STATE.DIGEST STORES");
    same(digest("STATE.DIGEST LSN %lld", last_lsn()), strdup(now));
    e2e_stop(&s);
    e2e_again(&s);
    same(digest("STATE.DIGEST STORES"), strdup(now));
    same(digest("STATE.DIGEST LSN %lld", first), then);
    EXPECT("[:...", "STATE.DIGEST");
    EXPECT("[$shard :0...", "SHARD.REBUILD 0");
    same(digest("STATE.DIGEST STORES"), now);
    e2e_finish(&s);
}

#define test(name) cmocka_unit_test_setup_teardown(name, start, e2e_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(a_secret_as_it_was),
        test(by_default_the_newest_snapshot),
        test(as_of_a_time),
        test(an_operator_types_it),
        test(a_folder_is_what_it_was),
        test(one_secret_is_what_it_was),
        test(what_has_expired_since_is_left_unless_asked_for),
        test(databases_of_the_facade_too),
        test(after_a_start_and_sealed),
        test(quotas_end_it_and_it_goes_on),
        test(bad_input_changes_nothing),
        test(what_is_gone_names_what_is_there),
        test(beside_traffic_and_rotating_snapshots),
        test(beside_writes_of_the_same_folder),
        test(a_kill_in_the_middle_and_again),
        test(a_damaged_block_is_passed_over),
        test(the_digest_at_an_lsn_is_the_same_for_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
