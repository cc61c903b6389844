/* leaks.c - plaintext goes into a server by every way there is, right and wrong, and is then looked for wherever it
 * could have been left: files of the data directory, the log, SLOWLOG, MONITOR, INFO, CLIENT LIST and other answers
 * that are not the secret's own, temporary files, and what the kernel shows of the processes. So are the PIN,
 * passwords, and a key that KEY.DATAKEY gave out. tests/e2e/core.c looks into memory.
 *
 * The server is as talkative as it can be: every command is slow enough for SLOWLOG, the log level is debug, somebody
 * watches MONITOR. Each test ends with the search twice, after a kill -9 and after a clean stop.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/lib/e2e.h"
#include "tests/lib/leaks.h"
#include "tests/lib/workers.h"

#define MARK(way) leaks_mark(way)
#define EXPECT(want, ...) e2e_expect(s.c, want, __VA_ARGS__)

static struct e2e s;
static struct e2e_raw monitor;
static char control[40]; /* the name of a secret: no secret, and to be found */
static time_t began;

/* ---- a talkative server ---- */

static void open_monitor(void)
{
    e2e_raw_open(&monitor, &s);
    e2e_raw_expect(&monitor, "+OK", "MONITOR");
}

static int start(void **state)
{
    (void)state;
    leaks_begin();
    began = time(NULL) - 1;
    snprintf(control, sizeof control, "in-the-clear-");
    assert_int_equal(clock_random_hex(control + strlen(control), 8), ERR_OK);
    e2e_start(&s, "--slowlog-log-slower-than", "0", "--slowlog-max-len", "100000", "--loglevel", "debug",
              "--wbl-segment-bytes", "2mb", "--shards", "2", "--enable-debug-command", "yes", NULL);
    leaks_needle("PIN", workers_pin(&s), strlen(workers_pin(&s)));
    open_monitor();
    EXPECT("+OK", "VAULT.CREATE v");
    EXPECT(":1", "SECRET.SET v %s x", control);
    EXPECT(":1", "KEY.CREATE v aes");
    EXPECT(":1", "KEY.CREATE v ec TYPE ec-p256");
    EXPECT(":1", "KEY.CREATE v mac TYPE hmac-sha256");
    EXPECT(":1", "KEY.CREATE v ed TYPE ed25519");
    return 0;
}

/* ---- looking ---- */

/* Answers that speak of commands and of what is stored, not the secrets themselves. */
static unsigned scan_answers(void)
{
    static const char *const asked[] = {
        "SLOWLOG GET -1",
        "INFO everything",
        "INFO commandstats",
        "INFO errorstats",
        "CLIENT LIST",
        "CLIENT INFO",
        "LATENCY LATEST",
        "LATENCY HISTORY command",
        "CONFIG GET *",
        "ACL LIST",
        "ACL LOG 100",
        "ACL GETUSER alice",
        "WBL.INFO",
        "WBL.RANGE 1 1000",
        "WBL.VERIFY",
        "HSM.INFO",
        "VAULT.LIST",
        "VAULT.INFO v",
        "KEY.LIST v",
        "KEY.INFO v aes",
        "KEY.INFO v ec",
        "SECRET.LIST v RECURSIVE WITHMETA",
        "SECRET.VERSIONS v a",
        "SCAN 0 COUNT 1000",
        "COMMAND GETKEYS GET x",
    };
    unsigned found = 0;

    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        redisReply *r = e2e_command(s.c, asked[i]);
        if (r->type == REDIS_REPLY_ERROR)
            fail_msg("%s: %s", asked[i], r->str);
        found += leaks_scan_reply(r, asked[i]);
        freeReplyObject(r);
    }
    redisReply *r = e2e_command(s.c, "SLOWLOG GET -1");
    assert_true(r->elements > 5);
    char *text = e2e_show_reply(r);
    assert_true(leaks_count(text, strlen(text), control) > 0);
    free(text);
    freeReplyObject(r);
    return found;
}

/* Everything that MONITOR showed until now. */
static unsigned scan_monitor(void)
{
    const struct answer *a = NULL;
    unsigned found = 0, controls = 0;
    char end[32];

    snprintf(end, sizeof end, "end-%ld", (long)clock());
    EXPECT("$...", "ECHO %s", end);
    do {
        a = e2e_raw_next(&monitor);
        assert_non_null(a);
        found += leaks_scan(a->text.p, a->text.n, "MONITOR");
        controls += leaks_count(a->text.p, a->text.n, control);
    } while (leaks_count(a->text.p, a->text.n, end) == 0);
    assert_true(controls > 0);
    return found;
}

static unsigned scan_processes(void)
{
    pid_t pid[WORKERS_MAX];
    unsigned n = workers_of(&s, pid), found = 0;

    assert_true(n > 0);
    pid[n++ % WORKERS_MAX] = s.pid;
    for (unsigned i = 0; i < n; i++)
        found += leaks_scan_proc(pid[i], "cmdline") + leaks_scan_proc(pid[i], "environ");
    return found;
}

static unsigned scan_files(void)
{
    return leaks_scan_tree(s.dir, "/hsm/pin") + leaks_scan_new("/tmp", began) + leaks_scan_new("/var/tmp", began) +
           leaks_scan_new("/dev/shm", began);
}

/* Ends the server by kill -9, then cleanly; after each the search. */
static void nothing_is_left(void)
{
    char pin_file[E2E_PATH + 16];
    unsigned found = scan_answers() + scan_monitor() + scan_processes();

    e2e_raw_close(&monitor);
    e2e_kill(&s);
    found += scan_files();
    assert_true(leaks_count_tree(s.dir, "/wal/", control) > 0);
    e2e_again(&s);
    open_monitor();
    EXPECT("$x", "SECRET.GET v %s", control);
    found += scan_answers() + scan_monitor();
    e2e_raw_close(&monitor);
    e2e_stop(&s);
    found += scan_files();
    assert_true(leaks_count_tree(s.dir, "/shard-", control) > 0); /* the stores were looked into as well */
    snprintf(pin_file, sizeof pin_file, "%s/hsm/pin", s.dir);
    leaks_quiet(1);
    assert_true(leaks_scan_file(pin_file) > 0);
    leaks_quiet(0);
    if (found)
        fail_msg("%u leaks", found);
    e2e_finish(&s);
}

/* ---- ways in: values ---- */

static void values(void **state)
{
    char want[LEAKS_MARKER + 2];
    const char *m = MARK("SECRET.SET"), *old = MARK("SET, then replaced");
    redisReply *r;

    (void)state;
    EXPECT(":1", "SECRET.SET v a %s", m);
    snprintf(want, sizeof want, "$%s", m);
    EXPECT(want, "SECRET.GET v a"); /* it went in whole, and comes out to who asks for it */
    EXPECT(":2", "SECRET.SET v a %s CAS 1 EX 1000 STAGE next META {}", MARK("SECRET.SET with options"));
    EXPECT("-CONFLICT...", "SECRET.SET v a %s CAS 1", MARK("SECRET.SET CAS that fails"));
    EXPECT("nil", "SECRET.SET v a %s NX", MARK("SECRET.SET NX that fails"));
    EXPECT("[:1 :1]", "SECRET.MSET v m/1 %s m/2 %s", MARK("SECRET.MSET"), MARK("SECRET.MSET, the second"));
    EXPECT("+OK", "SET k %s", old);
    EXPECT("+OK", "SET k %s PX 1000000", MARK("SET PX"));
    snprintf(want, sizeof want, "$%s", MARK("SET, overwritten by SET GET"));
    EXPECT("+OK", "SET k %s", want + 1);
    EXPECT(want, "SET k %s GET", MARK("SET GET"));
    EXPECT("nil", "SET k %s NX", MARK("SET NX that fails"));
    EXPECT("+OK", "SET {v}/facade %s", MARK("SET of a vault's path"));
    EXPECT(":1", "SECRET.SET v gone %s", MARK("SECRET.SET, destroyed"));
    long long then = e2e_int(s.c, "CLIENT LASTLSN");
    EXPECT(":1", "SECRET.DESTROY v gone");
    EXPECT(":...", "SNAPSHOT.CREATE");
    r = e2e_command(s.c, "SNAPSHOT.GET v gone LSN %lld", then);
    assert_int_equal(r->element[5]->len, LEAKS_MARKER);
    freeReplyObject(r);
    EXPECT("[$lsn...", "SNAPSHOT.RESTORE v %b LSN %lld", "", (size_t)0, then); /* compares all, writes one */
    r = e2e_command(s.c, "SECRET.GET v gone");
    assert_int_equal(r->len, LEAKS_MARKER);
    freeReplyObject(r);
    EXPECT(":1", "SECRET.SET v hidden %s", MARK("SECRET.SET, deleted"));
    EXPECT(":1", "SECRET.DEL v hidden");
    r = e2e_command(s.c, "SECRET.MGET v a m/1 m/2 facade");
    assert_int_equal(r->element[3]->len, LEAKS_MARKER);
    freeReplyObject(r);
    r = e2e_command(s.c, "MGET k {v}/a");
    assert_int_equal(r->element[1]->len, LEAKS_MARKER);
    freeReplyObject(r);
    nothing_is_left();
}

/* ---- ways in: what HSM keys are used for ---- */

static void take_datakey(void)
{
    redisReply *r = e2e_command(s.c, "KEY.DATAKEY v aes AAD %s", MARK("KEY.DATAKEY AAD"));

    assert_int_equal(r->elements, 2);
    leaks_needle("key of KEY.DATAKEY", r->element[0]->str, r->element[0]->len);
    EXPECT("-BADCIPHERTEXT...", "KEY.DECRYPT v aes %b", r->element[1]->str, r->element[1]->len);
    freeReplyObject(r);
}

static void keys(void **state)
{
    const char *plain = MARK("KEY.ENCRYPT"), *aad = MARK("KEY.ENCRYPT AAD"), *message = MARK("KEY.SIGN");
    char want[LEAKS_MARKER + 2];
    redisReply *ct, *r;

    (void)state;
    ct = e2e_command(s.c, "KEY.ENCRYPT v aes %s AAD %s", plain, aad);
    snprintf(want, sizeof want, "$%s", plain);
    EXPECT(want, "KEY.DECRYPT v aes %b AAD %s", ct->str, ct->len, aad);
    EXPECT("-BADCIPHERTEXT...", "KEY.DECRYPT v aes %b AAD %s", ct->str, ct->len, MARK("KEY.DECRYPT, wrong AAD"));
    EXPECT("$...", "KEY.REWRAP v aes %b AAD %s", ct->str, ct->len, aad);
    freeReplyObject(ct);
    take_datakey();
    r = e2e_command(s.c, "KEY.SIGN v ec %s", message);
    EXPECT(":1", "KEY.VERIFY v ec %s %b", message, r->str, r->len);
    EXPECT(":0", "KEY.VERIFY v ec %s %b", MARK("KEY.VERIFY, another message"), r->str, r->len);
    freeReplyObject(r);
    EXPECT("$...", "KEY.SIGN v ed %s", MARK("KEY.SIGN ed25519"));
    EXPECT("$...", "KEY.MAC v mac %s", MARK("KEY.MAC"));
    EXPECT(":0", "KEY.VERIFYMAC v mac %s %s", MARK("KEY.VERIFYMAC"), MARK("KEY.VERIFYMAC, the MAC"));
    EXPECT("-BADCIPHERTEXT...", "KEY.DECRYPT v aes %s", MARK("KEY.DECRYPT of plaintext"));
    EXPECT("-NOKEY...", "KEY.ENCRYPT v nothing %s", MARK("KEY.ENCRYPT, no key"));
    EXPECT("-NOVAULT...", "KEY.ENCRYPT nowhere aes %s", MARK("KEY.ENCRYPT, no vault"));
    EXPECT("-ERR key 'mac'...", "KEY.ENCRYPT v mac %s", MARK("KEY.ENCRYPT, not that kind"));
    EXPECT("-ERR key 'aes'...", "KEY.SIGN v aes %s", MARK("KEY.SIGN, not that kind"));
    EXPECT("-ERR syntax error...", "KEY.ENCRYPT v aes %s AAD", MARK("KEY.ENCRYPT, no AAD"));
    EXPECT("-ERR syntax error...", "KEY.ENCRYPT v aes %s %s", MARK("KEY.ENCRYPT in pieces"), MARK("second piece"));
    EXPECT("+OK", "KEY.DISABLE v aes");
    EXPECT("-KEYSTATE...", "KEY.ENCRYPT v aes %s", MARK("KEY.ENCRYPT, disabled"));
    nothing_is_left();
}

/* ---- ways in: passwords and PINs ---- */

static void passwords(void **state)
{
    const char *password = MARK("CONFIG SET requirepass"), *second = MARK("CONFIG SET requirepass, the second"),
               *users = MARK("ACL SETUSER, taken away again");

    (void)state;
    EXPECT("-ERR AUTH <password> called without any password...", "AUTH %s", MARK("AUTH without a password set"));
    EXPECT("-WRONGPASS...", "AUTH nobody %s", MARK("AUTH, no such user"));
    EXPECT("-ERR syntax...", "AUTH default %s %s", MARK("AUTH, too much"), MARK("AUTH, too much, the second"));
    EXPECT("-WRONGPASS...", "HELLO 3 AUTH nobody %s", MARK("HELLO AUTH, no such user"));
    EXPECT("-ERR Syntax error in HELLO...", "HELLO 2 AUTH %s", MARK("HELLO AUTH without a user"));
    EXPECT("-NOPROTO...", "HELLO 4 AUTH default %s", MARK("HELLO 4 AUTH"));
    EXPECT("+OK", "CONFIG SET requirepass %s", password);
    redisContext *c = e2e_connect(&s);
    e2e_expect(c, "-NOAUTH...", "SECRET.SET v a %s", MARK("SECRET.SET before AUTH"));
    e2e_expect(c, "-WRONGPASS...", "AUTH %s", MARK("AUTH, wrong"));
    e2e_expect(c, "-WRONGPASS...", "HELLO 2 AUTH default %s", MARK("HELLO AUTH, wrong"));
    e2e_expect(c, "+OK", "AUTH %s", password);
    e2e_expect(c, "[$server...", "HELLO 2 AUTH default %s SETNAME named", password);
    redisFree(c);
    EXPECT("+OK", "CONFIG SET slowlog-max-len 90000 requirepass %s", second);
    EXPECT("-ERR...", "CONFIG SET requirepass %s no-such-directive x", MARK("CONFIG SET, refused"));
    EXPECT("-ERR...", "CONFIG SET requirepasss %s", MARK("CONFIG SET, misspelt"));
    EXPECT("-ERR...", "CONFIG SETT requirepass %s", MARK("CONFIG SETT"));
    EXPECT("-ERR...", "CONFIG SET requirepass %s %s", MARK("CONFIG SET, odd"), MARK("CONFIG SET, odd, the second"));
    EXPECT("+OK", "ACL SETUSER alice on >%s >%s", MARK("ACL SETUSER"), users);
    EXPECT("+OK", "ACL SETUSER alice <%s", users);
    EXPECT("-ERR...", "ACL SETUSER alice <%s", MARK("ACL SETUSER, not there"));
    EXPECT("-ERR...", "ACL SETUSER alice %s", MARK("ACL SETUSER, without its >"));
    EXPECT("-ERR...", "ACL SETUSER alice #%s", MARK("ACL SETUSER, no hash"));
    EXPECT("-ERR...", "ACL SETUSER alice >%s +nosuch", MARK("ACL SETUSER, refused"));
    EXPECT("-ERR...", "ACL SETUSER alice (+get >%s )", MARK("ACL SETUSER, in a selector"));
    EXPECT("-ERR...", "ACL SETUSER alice ( >%s", MARK("ACL SETUSER, in half a selector"));
    EXPECT("-ERR...", "ACL SETUSER alice (>%s", MARK("ACL SETUSER, in half a selector, its first word"));
    EXPECT("-WRONGPASS...", "AUTH %s alice", MARK("AUTH, in the wrong place"));
    EXPECT("+OK", "ACL DRYRUN alice HELLO 2 AUTH alice %s x x", MARK("ACL DRYRUN"));
    EXPECT("+OK", "CONFIG SET requirepass %b", "", (size_t)0); /* else CONFIG GET has to show it */
    nothing_is_left();
}

static void pins(void **state)
{
    (void)state;
    EXPECT("-KEYSTATE...", "HSM.UNSEAL %s", MARK("HSM.UNSEAL, not sealed"));
    EXPECT("-ERR wrong number...", "HSM.UNSEAL %s x", MARK("HSM.UNSEAL, wrong arity"));
    EXPECT("+OK", "HSM.SEAL");
    EXPECT("-SEALED...", "SECRET.SET v a %s", MARK("SECRET.SET while sealed"));
    EXPECT("-SEALED...", "KEY.ENCRYPT v aes %s", MARK("KEY.ENCRYPT while sealed"));
    EXPECT("-HSMDOWN...", "HSM.UNSEAL %s", MARK("HSM.UNSEAL, a wrong PIN"));
    EXPECT("+OK", "HSM.UNSEAL %s", workers_pin(&s));
    EXPECT("$...", "KEY.ENCRYPT v aes %s", MARK("KEY.ENCRYPT after HSM.UNSEAL"));
    nothing_is_left();
}

/* ---- ways in: mistakes ---- */

static void mistakes(void **state)
{
    static char big[(1 << 20) + 4 * LEAKS_MARKER];
    const char *m = MARK("SECRET.SET, too big");

    (void)state;
    for (size_t i = 0; i + LEAKS_MARKER < sizeof big; i += LEAKS_MARKER)
        memcpy(big + i, m, LEAKS_MARKER);
    EXPECT("-TOOBIG...", "SECRET.SET v a %b", big, sizeof big);
    EXPECT("-TOOBIG...", "SET k %b", big, sizeof big);
    EXPECT("-TOOBIG...", "KEY.ENCRYPT v aes %b", big, sizeof big);
    EXPECT("-ERR unknown command 'SECRET.PUT'...", "SECRET.PUT v a %s", MARK("SECRET.PUT"));
    EXPECT("-ERR unknown command 'STE'...", "STE k %s", MARK("STE")); /* says the words back to who sent them */
    EXPECT("-ERR unknown command...", "%s", MARK("a value where a command should be"));
    EXPECT("-ERR unknown command...", "EVAL %s 0", MARK("EVAL"));
    EXPECT("-ERR wrong number...", "SECRET.SET v %s", MARK("SECRET.SET without a path"));
    EXPECT("-ERR wrong number...", "SECRET.MSET v a %s b", MARK("SECRET.MSET, one short"));
    EXPECT("-ERR wrong number...", "SET %s", MARK("SET, one short"));
    EXPECT("-ERR wrong number...", "GET k %s", MARK("GET with a value"));
    EXPECT("-ERR wrong number...", "KEY.MAC v mac %s %s", MARK("KEY.MAC, one more"), MARK("KEY.MAC, the last"));
    EXPECT("-ERR syntax error...", "SECRET.SET v a %s %s", MARK("a value with a blank"), MARK("behind the blank"));
    EXPECT("-ERR syntax error...", "SECRET.SET v a %s EX 10 PX 10", MARK("SECRET.SET EX PX"));
    EXPECT("-ERR value is not an integer...", "SECRET.SET v a %s EX %s", MARK("SECRET.SET EX"), MARK("EX"));
    EXPECT("-ERR syntax error...", "SET k %s %s", MARK("SET with a blank"), MARK("SET, behind the blank"));
    EXPECT("-NOVAULT...", "SECRET.SET nowhere a %s", MARK("SECRET.SET, no vault"));
    EXPECT("-NOVAULT...", "SET {nowhere}/a %s", MARK("SET, no vault"));
    EXPECT("-ERR invalid path...", "SECRET.SET v %b %s", "", (size_t)0, MARK("SECRET.SET, no path"));
    EXPECT("-QUOTA...", "SECRET.SET q b %s", (EXPECT("+OK", "VAULT.CREATE q MAXSECRETS 0 MAXBYTES 1"), MARK("quota")));
    EXPECT("[$v]", "COMMAND GETKEYS SECRET.SET v a %s", MARK("COMMAND GETKEYS SECRET.SET"));
    EXPECT("[$k]", "COMMAND GETKEYS SET k %s", MARK("COMMAND GETKEYS SET"));
    EXPECT("[[$v...", "COMMAND GETKEYSANDFLAGS SECRET.MSET v a %s", MARK("COMMAND GETKEYSANDFLAGS"));
    EXPECT("-ERR Invalid command...", "COMMAND GETKEYS SECRET.PUT v a %s", MARK("COMMAND GETKEYS SECRET.PUT"));
    EXPECT("-ERR The command has no key...", "COMMAND GETKEYS AUTH %s", MARK("COMMAND GETKEYS AUTH"));
    nothing_is_left();
}

/* ---- ways in: bytes ---- */

static void say(const char *what)
{
    struct e2e_raw r;

    e2e_raw_open(&r, &s);
    e2e_raw_send(&r, what, strlen(what));
    (void)e2e_raw_next(&r); /* an error, or the end: POST and Host: end the connection */
    e2e_raw_close(&r);
}

/* Sends what it is given, waits until the server has read it, shows the connection to whoever asks, and goes. */
static void say_half(const char *what, size_t n)
{
    char want[64];
    struct e2e_raw r;
    struct e2e_deadline w = {.what = "the server to read half a command"};
    int seen = 0;

    e2e_raw_open(&r, &s);
    e2e_raw_expect(&r, "+OK", "CLIENT SETNAME half");
    e2e_raw_send(&r, what, n);
    snprintf(want, sizeof want, " tot-net-in=%zu ",
             n + strlen("*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$4\r\nhalf\r\n"));
    while (!seen && e2e_not_yet(&w)) {
        redisReply *list = e2e_command(s.c, "CLIENT LIST");
        seen = strstr(list->str, "name=half") && strstr(list->str, want);
        assert_int_equal(leaks_scan_reply(list, "CLIENT LIST"), 0);
        freeReplyObject(list);
    }
    e2e_raw_close(&r);
}

static void raw_bytes(void **state)
{
    char text[512];
    static char pipeline[200000];
    size_t n = 0;

    (void)state;
    snprintf(text, sizeof text, "SECRET.SET v inline %s\r\n", MARK("inline"));
    say(text);
    snprintf(text, sizeof text, "SET inline '%s\r\n", MARK("inline, unbalanced quotes"));
    say(text);
    snprintf(text, sizeof text, "SECRET.PUT v a \"%s\"\r\n", MARK("inline, unknown"));
    say(text);
    snprintf(text, sizeof text, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n!%s\r\n", MARK("not RESP"));
    say(text);
    snprintf(text, sizeof text, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$99999999999\r\n%s\r\n",
             MARK("a length that is too large"));
    say(text);
    snprintf(text, sizeof text, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$20\r\n%s\r\n", MARK("a length that is wrong"));
    say(text);
    snprintf(text, sizeof text, "POST /%s HTTP/1.1\r\nHost: x\r\n\r\n", MARK("HTTP"));
    say(text);

    snprintf(text, sizeof text, "*4\r\n$10\r\nSECRET.SET\r\n$1\r\nv\r\n$1\r\nh\r\n$%d\r\n%s", LEAKS_MARKER,
             MARK("cut off"));
    say_half(text, strlen(text) - 5);
    snprintf(text, sizeof text, "SECRET.SET v h %s", MARK("inline, cut off"));
    say_half(text, strlen(text));
    n = (size_t)snprintf(pipeline, sizeof pipeline, "*4\r\n$10\r\nSECRET.SET\r\n$1\r\nv\r\n$1\r\nh\r\n$900000\r\n");
    for (const char *m = MARK("a large value, cut off"); n + LEAKS_MARKER < sizeof pipeline; n += LEAKS_MARKER)
        memcpy(pipeline + n, m, LEAKS_MARKER);
    say_half(pipeline, n);
    nothing_is_left();
}

/* Pipelines: some of a few hundred writes are under way, some are read and wait, some are half there, when the client
 * goes, and when the server is killed. */
static void pipelines(void **state)
{
    static char text[200 * 128];
    size_t n = 0;
    struct e2e_raw r;
    const char *m = MARK("pipeline");

    (void)state;
    for (int i = 0; i < 200; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "SECRET.SET v p%d %s\r\n%s %s\r\n", i % 7, m,
                              i % 50 ? "ECHO" : "KEY.CREATE v", i % 50 ? "x" : "pipe TYPE ec-p256");
    for (int round = 0; round < 5; round++) {
        e2e_raw_open(&r, &s);
        e2e_raw_send(&r, text, n - 13);
        for (int i = 0; i < round * 20; i++)
            assert_non_null(e2e_raw_next(&r));
        e2e_raw_close(&r);
    }
    EXPECT("+OK", "CLIENT PAUSE 100000 WRITE"); /* parked commands, with the input behind them */
    e2e_raw_open(&r, &s);
    e2e_raw_send(&r, text, n - 13);
    assert_int_equal(scan_answers(), 0);
    EXPECT("+OK", "CLIENT UNPAUSE");
    nothing_is_left();
    e2e_raw_close(&r);
}

/* ---- the search ---- */

/* Each form of a needle is found at each place, also beside pages of zeros and when half of it is cut off. */
static void the_search_finds(void **state)
{
    static char text[3 * 4096];
    const char *m;

    (void)state;
    leaks_begin();
    m = leaks_mark("here");
    leaks_quiet(1);
    for (size_t at = 0; at + LEAKS_MARKER <= sizeof text; at += at < 8190 || at > 8200 ? 89 : 1) {
        memset(text, 0, sizeof text);
        assert_int_equal(leaks_scan(text, sizeof text, ""), 0);
        memcpy(text + at, m, LEAKS_MARKER);
        assert_int_equal(leaks_scan(text, sizeof text, ""), 2);
        memcpy(text + at, "cut off", 7);
        assert_int_equal(leaks_scan(text, sizeof text, ""), 1);
    }
    memset(text, 0, sizeof text);
    for (size_t i = 0; i < LEAKS_MARKER; i++)
        snprintf(text + 2 * i, 3, "%02x", (unsigned char)m[i]);
    assert_int_equal(leaks_scan(text, sizeof text, ""), 2);
    leaks_begin();
    leaks_needle("needle", "any carnal pleasure.", 20);
    assert_int_equal(leaks_scan(text, snprintf(text, 99, "YW55IGNhcm5hbCBwbGVhc3VyZS4="), ""), 1);
    assert_int_equal(leaks_scan(text, snprintf(text, 99, "LWFueSBjYXJuYWwgcGxlYXN1cmUu"), ""), 1);
    assert_int_equal(leaks_scan(text, snprintf(text, 99, "LS1hbnkgY2FybmFsIHBsZWFzdXJlLg=="), ""), 1);
    assert_int_equal(leaks_scan(text, snprintf(text, 99, "ANY CARNAL PLEASURE."), ""), 1);
    leaks_begin(); /* forms that are the same bytes are one find: here upper case and both of hex */
    leaks_needle("digits", "01234567890123456789", 20);
    assert_int_equal(leaks_scan(text, snprintf(text, 99, "01234567890123456789"), ""), 1);
    assert_int_equal(leaks_scan(text, snprintf(text, 99, "3031323334353637383930313233343536373839"), ""), 1);
    leaks_quiet(0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, start, e2e_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_search_finds),
        TEST(values),
        TEST(keys),
        TEST(passwords),
        TEST(pins),
        TEST(mistakes),
        TEST(raw_bytes),
        TEST(pipelines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
