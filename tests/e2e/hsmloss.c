/* hsmloss.c - the HSM is not there, goes away, hangs, dies, is sealed, and comes back.
 *
 * A start without it is refused, and what is said names the cause and what to do. A running server goes on serving what
 * it has data keys for, reading and writing; everything else that needs the HSM says -HSMDOWN at once; and when the
 * cause is gone everything works again without anybody's help.
 *
 * tests/shim/p11fault.c is the module here, in front of SoftHSM: a control file makes its calls fail, hang or crash.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/e2e.h"
#include "tests/lib/workers.h"

#define EXPECT(want, ...) e2e_expect(s.c, want, __VA_ARGS__)
#define DOWN "-HSMDOWN ..."
#define PATHS (E2E_PATH + 64)

static struct e2e s;
static char scratch[] = "/tmp/coffer-e2e-hsmloss-XXXXXX"; /* the control file, and a copy of coffer-hsm */
static char control[PATHS], shim[4096];

/* ---- small things ---- */

static const char *in(char out[PATHS], const char *dir, const char *name)
{
    snprintf(out, PATHS, "%s/%s", dir, name);
    return out;
}

static void write_file(const char *path, const char *text, mode_t mode)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void move(const char *from, const char *to)
{
    if (rename(from, to) != 0)
        fail_msg("cannot move %s", from);
}

static int make_scratch(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(scratch));
    in(control, scratch, "control");
    snprintf(shim, sizeof shim, "%s", e2e_build_path("tests/p11fault.so"));
    return access(shim, R_OK); /* make build/tests/p11fault.so */
}

static int remove_scratch(void **state)
{
    char said[512];
    (void)state;
    return e2e_run(said, sizeof said, "rm", "-rf", scratch, NULL);
}

/* What the module does from now on: rules of p11fault.c. */
static void inject(const char *rules)
{
    char next[PATHS];

    write_file(in(next, scratch, "next"), rules, 0600);
    move(next, control);
}

/* ---- a server with a vault whose data key is in memory, and one whose data key is not ---- */

static void start(const char *timeout_ms)
{
    inject("");
    setenv("P11FAULT_CTL", control, 1);
    e2e_start(&s, "--hsm-module", shim, "--hsm-auto-provision", "yes", "--hsm-timeout", "20000", NULL);
    EXPECT("+OK", "VAULT.CREATE warm");
    EXPECT("+OK", "VAULT.CREATE cold");
    EXPECT(":1", "SECRET.SET warm a one");
    EXPECT(":1", "SECRET.SET cold a one");
    EXPECT(":1", "KEY.CREATE warm aes");
    EXPECT(":1", "KEY.CREATE warm ec TYPE ec-p256");
    EXPECT(":1", "KEY.CREATE warm mac TYPE hmac-sha256");
    e2e_stop(&s);
    e2e_again_with(&s, "--hsm-module", shim, "--hsm-auto-provision", "yes", "--hsm-timeout", timeout_ms, NULL);
    EXPECT("$one", "SECRET.GET warm a");
    EXPECT(":1", "SECRET.SET warm b one"); /* a data key to write with, too */
    EXPECT("$...", "KEY.ENCRYPT warm aes x");
    e2e_info_wait(s.c, "hsm_workers_up", "2");
}

static void finish(void)
{
    unsetenv("P11FAULT_CTL");
    e2e_finish(&s);
}

/* What is served without the HSM. */
static void secrets_go_on(void)
{
    static int n;
    char want[32];

    snprintf(want, sizeof want, "$value-%d", ++n);
    EXPECT("$one", "SECRET.GET warm a");
    EXPECT(":...", "SECRET.SET warm b value-%d", n);
    EXPECT(want, "SECRET.GET warm b");
    EXPECT("[$one $value...", "SECRET.MGET warm a b");
    EXPECT("+OK", "SET {warm}/c x");
    EXPECT("[$0 [$a $b $c]]", "SECRET.LIST warm");
    EXPECT(":1", "DEL {warm}/c");
    EXPECT("[$key $aes...", "KEY.INFO warm aes");
    EXPECT("$-----BEGIN PUBLIC KEY-----...", "KEY.PUBLIC warm ec");
    EXPECT("+PONG", "PING");
}

/* What is not. Twice: the second time it is refused without anything being tried. */
static void keys_are_down(void)
{
    for (int i = 0; i < 2; i++) {
        EXPECT(DOWN, "KEY.ENCRYPT warm aes x");
        EXPECT(DOWN, "KEY.DATAKEY warm aes");
        EXPECT(DOWN, "KEY.SIGN warm ec x");
        EXPECT(DOWN, "KEY.MAC warm mac x");
        EXPECT(DOWN, "KEY.CREATE warm new");
        EXPECT(DOWN, "KEY.ROTATE warm aes");
        EXPECT(DOWN, "KEY.RANDOM 16");
        EXPECT(DOWN, "VAULT.CREATE new");
        EXPECT(DOWN, "SECRET.GET cold a");
        EXPECT(DOWN, "SECRET.SET cold a two");
        EXPECT(DOWN, "SET k v"); /* db0 is not there yet */
    }
    EXPECT("-NOKEY...", "KEY.INFO warm new");
    EXPECT("-NOVAULT...", "VAULT.INFO new");
}

/* Asks until the answer begins so. */
static void until(const char *want, const char *command)
{
    struct e2e_deadline w = {.what = command};
    int good = 0;

    while (!good && e2e_not_yet(&w)) {
        redisReply *r = e2e_command(s.c, command);
        char *got = e2e_show_reply(r);
        good = strncmp(got, want, strlen(want)) == 0;
        free(got);
        freeReplyObject(r);
    }
}

/* Everything works again, by itself. */
static void all_is_well(void)
{
    e2e_info_wait(s.c, "hsm_state", "up");
    e2e_info_wait(s.c, "hsm_workers_up", "2");
    until("$", "KEY.ENCRYPT warm aes x");
    until("$one", "SECRET.GET cold a"); /* a data key that could not be had is asked for again after a second */
    EXPECT("$...", "KEY.SIGN warm ec x");
    EXPECT("$...", "KEY.MAC warm mac x");
    EXPECT(":1", "KEY.CREATE warm new");
    until("+OK", "SET k v");
    EXPECT("$v", "GET k");
    secrets_go_on();
}

static unsigned kill_workers(int sig, unsigned most)
{
    pid_t pid[WORKERS_MAX];
    unsigned n = workers_of(&s, pid);

    n = n < most ? n : most;
    for (unsigned i = 0; i < n; i++)
        kill(pid[i], sig);
    return n;
}

/* ---- starts that are refused ---- */

struct refusal {
    const char *option[4];     /* %s is the server's directory */
    const char *away, *worker; /* a file that is not there; another program for coffer-hsm */
    int external;              /* the token is not the embedded default's */
    const char *says[4];       /* cause and remedy */
};

static const struct refusal refusals[] = {
    {.option = {"--hsm-pin-file", "%s/wrong"},
     .external = 1,
     .says = {"C_Login: CKR_PIN_INCORRECT", "check the PIN (hsm-pin-file)"}},
    {.option = {"--hsm-pin-file", "%s/nothing"},
     .external = 1,
     .says = {"/nothing cannot be read: No such file", "set hsm-pin-file"}},
    {.option = {"--hsm-pin-file", "%s/open"}, .external = 1, .says = {"/open may be read by others", "chmod 0400"}},
    {.option = {"--hsm-pin-file", "%s/empty"}, .external = 1, .says = {"the PIN file", "is empty"}},
    {.option = {"--hsm-token", "other"}, .external = 1, .says = {"No PIN for the HSM: give hsm-pin-file"}},
    {.option = {"--hsm-token", "other", "--hsm-pin-file", "%s/hsm/pin"},
     .external = 1,
     .says = {"0 tokens named other", "set hsm-token"}},
    {.option = {"--hsm-module", "/nowhere/module.so"}, .says = {"/nowhere/module.so is missing", "set hsm-module"}},
    {.option = {"--hsm-module", "%s/wrong", "--hsm-pin-file", "%s/hsm/pin"},
     .external = 1,
     .says = {"module ", "/wrong: ", "check hsm-module"}},
    {.option = {"--hsm-module", "/lib/x86_64-linux-gnu/libc.so.6", "--hsm-pin-file", "%s/hsm/pin"},
     .external = 1,
     .says = {"libc.so.6: not a PKCS#11 module", "check hsm-module"}},
    {.away = "hsm/tokens", .says = {"/hsm/tokens is gone", "--rejoin"}},
    {.option = {"--hsm-pin-file", "%s/hsm/pin"},
     .away = "hsm/tokens",
     .external = 1,
     .says = {"C_Initialize: CKR_GENERAL_ERROR", "check the module's configuration (SoftHSM: SOFTHSM2_CONF)"}},
    {.away = "hsm/realm", .says = {"holds tokens but the realm file is gone", "put ", "back from its copy"}},
    {.away = "hsm/pin", .says = {"/hsm/pin is missing", "put it back from its copy"}},
    {.worker = "/nowhere/coffer-hsm", .says = {"Cannot run /nowhere/coffer-hsm: No such file"}},
    {.option = {"--hsm-pin-file", "%s/hsm/pin"},
     .external = 1,
     .worker = "/nowhere/coffer-hsm",
     .says = {"the HSM worker program /nowhere/coffer-hsm is missing"}},
};

static int start_as(const struct refusal *r, char *said, size_t n)
{
    char option[4][PATHS], conf[PATHS];

    for (size_t i = 0; i < 4; i++) {
        const char *o = r->option[i] ? r->option[i] : "", *dir = strstr(o, "%s");
        snprintf(option[i], PATHS, "%s%s", dir ? s.dir : o, dir ? dir + 2 : "");
    }
    if (r->external)
        setenv("SOFTHSM2_CONF", in(conf, s.dir, "hsm/softhsm2.conf"), 1);
    if (r->worker)
        setenv("COFFER_HSM", r->worker, 1);
    int status = e2e_run(said, n, "coffer-server", "--dir", s.dir, "--port", "0", "--unixsocket", s.socket,
                         option[0][0] ? option[0] : NULL, option[1], option[2][0] ? option[2] : NULL, option[3], NULL);
    unsetenv("SOFTHSM2_CONF");
    unsetenv("COFFER_HSM");
    return status;
}

static void refused_starts_say_why(void **state)
{
    static char said[16384];
    char path[PATHS], away[PATHS], conf[PATHS];
    size_t bad = 0;

    (void)state;
    e2e_start(&s, NULL);
    EXPECT("+OK", "VAULT.CREATE v");
    EXPECT(":1", "SECRET.SET v a one");
    e2e_stop(&s);
    write_file(in(path, s.dir, "wrong"), "not-the-pin\n", 0600);
    write_file(in(path, s.dir, "open"), workers_pin(&s), 0644);
    write_file(in(path, s.dir, "empty"), "\n", 0600);
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const struct refusal *r = &refusals[i];
        if (r->away)
            move(in(path, s.dir, r->away), in(away, s.dir, "away"));
        int status = start_as(r, said, sizeof said), good = status == 1 << 8;
        for (size_t k = 0; k < 4 && r->says[k]; k++)
            good &= strstr(said, r->says[k]) != NULL;
        if (!good) {
            fprintf(stderr, "# refusal %zu: status %d, wanted '%s' and so on:\n%s", i, status, r->says[0], said);
            bad++;
        }
        if (r->away) {
            rmdir(path); /* an empty directory of tokens may have been made */
            move(in(away, s.dir, "away"), path);
        }
    }
    assert_int_equal(bad, 0);

    e2e_again(&s); /* none of it did any harm */
    EXPECT("$one", "SECRET.GET v a");
    e2e_stop(&s);
    setenv("SOFTHSM2_CONF", in(conf, s.dir, "hsm/softhsm2.conf"), 1);
    e2e_again_with(&s, "--hsm-pin-file", in(path, s.dir, "hsm/pin"),
                   NULL); /* nor are these options wrong in themselves */
    unsetenv("SOFTHSM2_CONF");
    EXPECT("$one", "SECRET.GET v a");
    e2e_finish(&s);
}

/* ---- while it runs ---- */

static void the_token_goes_away_and_comes_back(void **state)
{
    char tokens[PATHS], away[PATHS];

    (void)state;
    start("5000");
    move(in(tokens, s.dir, "hsm/tokens"), in(away, s.dir, "hsm/away"));
    kill_workers(SIGKILL, WORKERS_MAX); /* new ones do not find it */
    e2e_info_wait(s.c, "hsm_state", "down");
    e2e_log_wait(&s, "C_Initialize: CKR_GENERAL_ERROR: check the module's configuration");
    keys_are_down();
    secrets_go_on();
    rmdir(tokens);
    move(away, tokens);
    all_is_well();
    finish();
}

/* Nobody asks for anything: the probe finds out. */
static void a_token_that_is_gone_is_noticed(void **state)
{
    char tokens[PATHS], away[PATHS];

    (void)state;
    start("5000");
    move(in(tokens, s.dir, "hsm/tokens"), in(away, s.dir, "hsm/away"));
    inject("C_GetTokenInfo 0 rv e0"); /* as a device that was pulled says: SoftHSM has it in memory */
    e2e_info_wait(s.c, "hsm_state", "down");
    keys_are_down();
    secrets_go_on();
    inject("");
    rmdir(tokens);
    move(away, tokens);
    all_is_well();
    finish();
}

/* One of two is killed under load: what it was asked is asked again of the other one. */
static void a_worker_is_killed_under_load(void **state)
{
    enum { CLIENTS = 4, WINDOW = 300, ROUNDS = 4 };
    redisContext *c[CLIENTS];

    (void)state;
    start("5000");
    for (int i = 0; i < CLIENTS; i++)
        c[i] = e2e_connect(&s);
    for (int round = 0; round < ROUNDS; round++) {
        e2e_info_wait(s.c, "hsm_workers_up", "2");
        for (int i = 0; i < CLIENTS; i++) {
            int sent = 0;
            for (int k = 0; k < WINDOW; k++)
                redisAppendCommand(c[i], k % 3 ? "KEY.ENCRYPT warm aes %d" : "KEY.MAC warm mac %d", k);
            while (!sent)
                assert_int_equal(redisBufferWrite(c[i], &sent), REDIS_OK);
        }
        e2e_expect_next(c[0], "$...");
        assert_int_equal(kill_workers(SIGKILL, 1), 1);
        secrets_go_on();
        for (int i = 0; i < CLIENTS; i++)
            for (int k = i == 0; k < WINDOW; k++)
                e2e_expect_next(c[i], "$...");
    }
    struct e2e_deadline w = {.what = "each death to be counted"}; /* it may have been answered for before it is */
    while (strtol(e2e_info(s.c, "hsm_restarts"), NULL, 10) < ROUNDS && e2e_not_yet(&w)) {
    }
    for (int i = 0; i < CLIENTS; i++)
        redisFree(c[i]);
    all_is_well();
    finish();
}

/* All are killed under load, again and again: each request has an answer, the right one or -HSMDOWN. */
static void all_workers_are_killed_under_load(void **state)
{
    enum { WINDOW = 500, ROUNDS = 4 };

    (void)state;
    start("5000");
    redisContext *c = e2e_connect(&s);
    for (int round = 0; round < ROUNDS; round++) {
        until("$", "KEY.MAC warm mac x"); /* one is there again */
        int sent = 0;
        for (int k = 0; k < WINDOW; k++)
            redisAppendCommand(c, "KEY.MAC warm mac %d", k);
        while (!sent)
            assert_int_equal(redisBufferWrite(c, &sent), REDIS_OK);
        assert_true(kill_workers(SIGKILL, WORKERS_MAX) >= 1);
        secrets_go_on();
        for (int k = 0; k < WINDOW; k++) {
            void *reply = NULL;
            assert_int_equal(redisGetReply(c, &reply), REDIS_OK);
            redisReply *r = reply;
            if (r->type == REDIS_REPLY_ERROR ? strncmp(r->str, "HSMDOWN ", 8) != 0 : r->len != 32)
                fail_msg("%s", r->str);
            freeReplyObject(r);
        }
    }
    redisFree(c);
    all_is_well();
    finish();
}

/* ---- the module misbehaves ---- */

/* Rules under which KEY.ENCRYPT cannot be done; and what shows in the log. */
static const struct {
    const char *rules, *log;
    int down; /* so can nothing else */
} faults[] = {
    {"C_Encrypt 0 hang", "no answer in time", 0},  {"C_Encrypt 0 delay 3000", "no answer in time", 0},
    {"C_Encrypt 0 crash", "died of signal 11", 0}, {"C_Encrypt 0 rv 30", "is gone", 0}, /* CKR_DEVICE_ERROR */
    {"C_Encrypt 0 rv e0", "is gone", 0},                                                /* CKR_TOKEN_NOT_PRESENT */
    {"* 0 hang", "no answer in time", 1},          {"* 0 crash", "died of signal 11", 1},
    {"* 0 rv 32", "CKR_DEVICE_REMOVED", 1},
};

static void a_module_that_misbehaves_takes_keys_only(void **state)
{
    (void)state;
    start("300");
    redisContext *c = e2e_connect(&s);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        struct pollfd answered = {.fd = c->fd, .events = POLLIN};
        int sent = 0;

        inject(faults[i].rules);
        redisAppendCommand(c, "KEY.ENCRYPT warm aes x");
        while (!sent)
            assert_int_equal(redisBufferWrite(c, &sent), REDIS_OK);
        secrets_go_on();
        if (strstr(faults[i].rules, "hang")) /* they did not wait for it */
            assert_int_equal(poll(&answered, 1, 0), 0);
        e2e_expect_next(c, DOWN);
        if (faults[i].down) {
            e2e_info_wait(s.c, "hsm_state", "down");
            keys_are_down();
        }
        secrets_go_on();
        e2e_log_wait(&s, faults[i].log);
        inject("");
        e2e_info_wait(s.c, "hsm_state", "up");
        until("$", "KEY.ENCRYPT warm aes x");
    }
    assert_true(strtol(e2e_info(s.c, "hsm_timeouts"), NULL, 10) >= 3);
    redisFree(c);
    all_is_well();
    finish();
}

/* Faults that a worker heals by itself are not seen at all. */
static void passing_troubles_are_not_seen(void **state)
{
    static const char *const rules[] = {
        "C_Encrypt 1 rv b3",        /* CKR_SESSION_HANDLE_INVALID */
        "C_Encrypt 1 rv 101",       /* CKR_USER_NOT_LOGGED_IN */
        "C_EncryptInit 1 rv 90",    /* CKR_OPERATION_ACTIVE */
        "C_EncryptInit 1 rv 60",    /* CKR_KEY_HANDLE_INVALID */
        "C_GenerateRandom 1 rv b0", /* CKR_SESSION_CLOSED */
    };

    (void)state;
    start("5000");
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        inject(rules[i]);
        for (int k = 0; k < 3; k++)
            EXPECT("$...", "KEY.ENCRYPT warm aes x");
    }
    e2e_info_wait(s.c, "hsm_restarts", "0");
    inject("");
    all_is_well();
    finish();
}

/* ---- no worker can be started ---- */

static void workers_that_cannot_be_started(void **state)
{
    char original[4096], program[PATHS], away[PATHS], said[512];

    (void)state;
    in(program, scratch, "coffer-hsm");
    snprintf(original, sizeof original, "%s", e2e_build_path("coffer-hsm"));
    assert_int_equal(e2e_run(said, sizeof said, "cp", original, program, NULL), 0);
    setenv("COFFER_HSM", program, 1);
    start("5000");
    unsetenv("COFFER_HSM");
    move(program, in(away, scratch, "away"));
    kill_workers(SIGKILL, WORKERS_MAX);
    e2e_info_wait(s.c, "hsm_state", "down");
    e2e_log_wait(&s, "cannot start the HSM worker program");
    keys_are_down();
    secrets_go_on();
    move(away, program);
    all_is_well();
    finish();
}

/* ---- sealing ---- */

static const char *const sealed[] = {
    "SECRET.GET warm a",
    "SECRET.SET warm a x",
    "SECRET.MGET warm a",
    "SECRET.MSET warm a x",
    "SECRET.LIST warm",
    "SECRET.DEL warm a",
    "SECRET.DESTROY warm a",
    "SECRET.VERSIONS warm a",
    "SECRET.TTL warm a",
    "SECRET.META warm a",
    "SECRET.STAGE warm a L 1",
    "SECRET.STATE warm a",
    "GET {warm}/a",
    "SET k v",
    "DEL k",
    "SCAN 0",
    "DBSIZE",
    "EXISTS k",
    "EXPIRE k 10",
    "KEY.ENCRYPT warm aes x",
    "KEY.CREATE warm k",
    "KEY.INFO warm aes",
    "KEY.LIST warm",
    "KEY.PUBLIC warm ec",
    "KEY.DELETE warm aes",
    "KEY.RANDOM 8",
    "VAULT.CREATE x",
    "VAULT.INFO warm",
    "VAULT.LIST",
    "VAULT.SET warm MAXSECRETS 1",
};

static const char *const administration[] = {
    "INFO",       "CONFIG GET dir", "CLIENT LIST", "SLOWLOG GET", "WBL.INFO",   "WBL.RANGE 1 10",
    "WBL.VERIFY", "HSM.INFO",       "COMMAND",     "TIME",        "ACL WHOAMI", "CLIENT ID",
};

static void all_is_sealed(void)
{
    for (size_t i = 0; i < sizeof sealed / sizeof *sealed; i++)
        EXPECT("-SEALED the server is sealed: unseal it with HSM.UNSEAL", sealed[i]);
    for (size_t i = 0; i < sizeof administration / sizeof *administration; i++) {
        redisReply *r = e2e_command(s.c, administration[i]);
        if (r->type == REDIS_REPLY_ERROR)
            fail_msg("%s: %s", administration[i], r->str);
        freeReplyObject(r);
    }
    EXPECT("+PONG", "PING");
    e2e_info_wait(s.c, "hsm_sealed", "1");
}

static void sealing_and_unsealing(void **state)
{
    pid_t pid[WORKERS_MAX];
    struct e2e_deadline w = {.what = "the workers to end"};

    (void)state;
    start("5000");
    EXPECT("+OK", "HSM.SEAL");
    all_is_sealed();
    while (workers_of(&s, pid) > 0 && e2e_not_yet(&w)) {
    }
    EXPECT("+OK", "HSM.SEAL"); /* again */
    EXPECT("-HSMDOWN the HSM refused the PIN...", "HSM.UNSEAL not-the-pin");
    e2e_log_wait(&s, "C_Login: CKR_PIN_INCORRECT");
    all_is_sealed();
    EXPECT("-HSMDOWN the HSM refused the PIN...", "HSM.UNSEAL not-the-pin-either");
    all_is_sealed();
    EXPECT("+OK", "HSM.UNSEAL %s", workers_pin(&s));
    e2e_info_wait(s.c, "hsm_sealed", "0");
    all_is_well();
    EXPECT("-KEYSTATE...", "HSM.UNSEAL %s", workers_pin(&s));

    EXPECT("+OK", "HSM.SEAL"); /* while the module is away */
    inject("C_Login 0 rv 30");
    EXPECT("-HSMDOWN...", "HSM.UNSEAL %s", workers_pin(&s));
    all_is_sealed();
    inject("");
    EXPECT("+OK", "HSM.UNSEAL %s", workers_pin(&s));
    EXPECT("$v", "GET k");
    EXPECT("+OK", "HSM.SEAL");
    e2e_stop(&s);
    e2e_again(&s); /* being sealed does not outlive a start */
    EXPECT("$v", "GET k");
    finish();
}

int main(void)
{
#define TEST(f) cmocka_unit_test_teardown(f, e2e_teardown)
    const struct CMUnitTest tests[] = {
        TEST(refused_starts_say_why),
        TEST(the_token_goes_away_and_comes_back),
        TEST(a_token_that_is_gone_is_noticed),
        TEST(a_worker_is_killed_under_load),
        TEST(all_workers_are_killed_under_load),
        TEST(a_module_that_misbehaves_takes_keys_only),
        TEST(passing_troubles_are_not_seen),
        TEST(workers_that_cannot_be_started),
        TEST(sealing_and_unsealing),
    };
    return cmocka_run_group_tests(tests, make_scratch, remove_scratch);
}
