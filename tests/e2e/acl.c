/* acl.c - users: what they may do, that they last, who is cut off, where they are at home, what nobody gets to know. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/e2e.h"

static redisContext *log_in(const struct e2e *s, const char *user, const char *password)
{
    redisContext *c = e2e_connect(s);
    e2e_expect(c, "+OK", "AUTH %s %s", user, password);
    return c;
}

static const char *rules_of(redisContext *c, const char *user)
{
    static char text[2048];
    size_t n = strlen(user);
    redisReply *r = e2e_command(c, "ACL LIST");
    snprintf(text, sizeof text, "none");
    assert_int_equal(r->type, REDIS_REPLY_ARRAY);
    for (size_t i = 0; i < r->elements; i++)
        if (strncmp(r->element[i]->str + 5, user, n) == 0 && r->element[i]->str[5 + n] == ' ')
            snprintf(text, sizeof text, "%s", r->element[i]->str + 6 + n);
    freeReplyObject(r);
    return text;
}

/* ---- what they may do ---- */

static void test_keys_of_ours_are_guarded_by_their_canonical_names(void **state)
{
    struct e2e s;
    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+OK", "VAULT.CREATE prod");
    e2e_expect(s.c, ":1", "SECRET.SET prod app/db secret");
    e2e_expect(s.c, ":1", "SECRET.SET prod other/db secret");
    e2e_expect(s.c, ":1", "KEY.CREATE prod app.key");
    e2e_expect(s.c, "+OK", "SET app/plain x");
    e2e_expect(s.c, "+OK",
               "ACL SETUSER app on >pw +@secret +@key +@string %%R~{prod}/app/* %%RW~{prod}/app.* ~{db0}/app/*");
    redisContext *c = log_in(&s, "app", "pw");
    e2e_expect(c, "$secret", "SECRET.GET prod app/db");
    e2e_expect(c, "-NOPERM this user has no permissions to access one of the keys used as arguments",
               "SECRET.SET prod app/db new");
    e2e_expect(c, "-NOPERM...", "SECRET.GET prod other/db");
    e2e_expect(c, "-NOPERM...", "SECRET.MGET prod app/db other/db");
    e2e_expect(c, "[$0 [$app/db]]", "SECRET.LIST prod app");
    e2e_expect(c, "-NOPERM...", "SECRET.LIST prod");
    e2e_expect(c, "-NOPERM...", "SECRET.LIST prod other/");
    e2e_expect(c, "$...", "KEY.ENCRYPT prod app.key text");
    e2e_expect(c, "-NOPERM...", "KEY.LIST prod");
    e2e_expect(c, "-NOPERM this user has no permissions to run the 'vault.info' command", "VAULT.INFO prod");
    e2e_expect(c, "$x", "GET app/plain");
    e2e_expect(c, "$secret", "GET {prod}/app/db");
    e2e_expect(c, "-NOPERM...", "GET {prod}/other/db");
    e2e_expect(s.c, "+OK", "SET {user:1}/x y"); /* no vault can have that name: it is a path in the database */
    e2e_expect(c, "-NOPERM...", "GET {user:1}/x");
    e2e_expect(s.c, "+OK", "ACL SETUSER app ~{db0}/{user:*");
    e2e_expect(c, "$y", "GET {user:1}/x");
    e2e_expect(c, "-NOPERM...", "SET {prod}/app/db new");
    e2e_expect(c, "+RESET", "RESET");
    redisFree(c);
    c = log_in(&s, "app", "pw");
    e2e_expect(c, "-NOPERM this user has no permissions to run the 'select' command", "SELECT 1");
    e2e_expect(s.c, "+OK", "ACL SETUSER app +select");
    e2e_expect(c, "+OK", "SELECT 1");
    e2e_expect(c, "-NOPERM...", "GET app/plain"); /* it may in database 0 only */
    redisFree(c);
    e2e_expect(s.c, "$This user has no permissions to access the 'other/db' key",
               "ACL DRYRUN app SECRET.GET prod other/db");
    e2e_expect(s.c, "+OK", "ACL DRYRUN app SECRET.GET prod app/db");
    e2e_finish(&s);
}

/* +@keyspace gave GET and SET, which are in @string alone; +@read did not give SCAN. */
static void test_classes_hold_what_they_hold_in_redis(void **state)
{
    struct e2e s;
    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+OK", "ACL SETUSER k on nopass ~* +@keyspace");
    e2e_expect(s.c, "+OK", "ACL SETUSER r on nopass ~* +@read");
    e2e_expect(s.c, "+OK", "ACL DRYRUN k DEL a");
    e2e_expect(s.c, "$This user has no permissions to run the 'get' command", "ACL DRYRUN k GET a");
    e2e_expect(s.c, "$This user has no permissions to run the 'set' command", "ACL DRYRUN k SET a b");
    e2e_expect(s.c, "+OK", "ACL DRYRUN r SCAN 0");
    e2e_expect(s.c, "+OK", "ACL DRYRUN r KEYS *");
    e2e_expect(s.c, "+OK", "ACL DRYRUN r DBSIZE");
    e2e_expect(s.c, "+OK", "ACL DRYRUN r RANDOMKEY");
    e2e_expect(s.c, "$...", "ACL DRYRUN r DEL a");
    e2e_finish(&s);
}

/* ---- that they last ---- */

static void test_users_survive(void **state)
{
    char rules[2048];
    struct e2e s;
    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+OK", "ACL SETUSER ann on >abc ~a* %%R~b +@read -get (+set ~w)");
    e2e_expect(s.c, "+OK", "ACL SETUSER bob on nopass");
    e2e_expect(s.c, "+OK", "ACL SETUSER ann +@connection");
    snprintf(rules, sizeof rules, "%s", rules_of(s.c, "ann"));
    e2e_expect(s.c, ":1", "ACL DELUSER bob nobody bob");
    e2e_expect(s.c, ":0", "ACL DELUSER bob");
    assert_true(e2e_int(s.c, "CLIENT LASTLSN") > 0);
    for (int i = 0; i < 3; i++) {
        if (i == 1)
            e2e_stop(&s);
        else
            e2e_kill(&s);
        if (i == 2) { /* by the snapshot, and the log behind it */
            char path[2 * E2E_PATH];
            snprintf(path, sizeof path, "rm -r %s/base*", s.dir);
            assert_int_equal(system(path), 0);
        }
        e2e_again(&s);
        assert_string_equal(rules_of(s.c, "ann"), rules);
        assert_string_equal(rules_of(s.c, "bob"), "none");
        redisFree(log_in(&s, "ann", "abc"));
        if (i == 1)
            e2e_expect(s.c, ":...", "SNAPSHOT.CREATE");
    }
    e2e_expect(s.c, "+OK", "HSM.SEAL"); /* somebody may have to be shut out just then */
    e2e_expect(s.c, "+OK", "ACL SETUSER ann off");
    e2e_finish(&s);
}

/* What a client could get done while the server comes up, when the default user is off. */
struct prober {
    const struct e2e *s;
    pthread_t thread;
    _Atomic int stop;
    unsigned loading, refused, wrong;
};

static void *probe(void *arg)
{
    struct prober *p = arg;
    while (!atomic_load(&p->stop)) {
        redisContext *c = redisConnectUnix(p->s->socket);
        redisReply *r = c && !c->err ? redisCommand(c, "ECHO hello") : NULL;
        if (r && r->type != REDIS_REPLY_ERROR)
            p->wrong++;
        else if (r && strncmp(r->str, "LOADING", 7) == 0)
            p->loading++;
        else if (r)
            p->refused++;
        freeReplyObject(r);
        if (c)
            redisFree(c);
    }
    return NULL;
}

static void test_nothing_is_open_before_users_are_known(void **state)
{
    struct prober p = {0};
    struct e2e s;
    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+OK", "ACL SETUSER ann on >abc +@all ~*");
    e2e_expect(s.c, "+OK", "ACL SETUSER default off");
    p.s = &s;
    assert_int_equal(pthread_create(&p.thread, NULL, probe, &p), 0);
    for (int i = 0; i < 3 || !p.loading; i++) {
        e2e_kill(&s);
        e2e_again(&s);
    }
    atomic_store(&p.stop, 1);
    pthread_join(p.thread, NULL);
    assert_int_equal(p.wrong, 0);
    assert_true(p.loading > 0);
    e2e_expect(s.c, "-NOAUTH...", "ECHO hello");
    redisContext *c = log_in(&s, "ann", "abc");
    e2e_expect(c, "$hello", "ECHO hello");
    redisFree(c);
    e2e_finish(&s);
}

/* Without its log a node asks what is to be done; it must hear somebody, whose word ends when users are known again. */
static void test_a_lost_log_is_recovered_by_who_is_on_the_machine(void **state)
{
    char command[2 * E2E_PATH];
    struct e2e s;
    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+OK", "ACL SETUSER ann on >abc +@all ~*");
    e2e_expect(s.c, "+OK", "ACL SETUSER default off");
    e2e_expect(s.c, ":...", "SNAPSHOT.CREATE");
    e2e_stop(&s);
    snprintf(command, sizeof command, "cd %s && rm -r wal base* shard-*", s.dir);
    assert_int_equal(system(command), 0);
    e2e_again(&s);
    e2e_expect(s.c, "-MISCONF there is no log here...", "PING");
    e2e_expect(s.c, "-LOADING...", "AUTH ann abc");
    e2e_expect(s.c, "[$cell...", "CELL.FORCE-RECOVER");
    e2e_expect_closed(s.c);
    redisContext *c = e2e_connect(&s);
    e2e_expect(c, "-NOAUTH...", "PING");
    e2e_expect(c, "+OK", "AUTH ann abc");
    e2e_expect(c, "+PONG", "PING");
    redisFree(c);
    e2e_finish(&s);
}

static void test_requirepass_stands_over_the_log(void **state)
{
    struct e2e s;
    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+OK", "ACL SETUSER default >of-the-log");
    e2e_stop(&s);
    e2e_again_with(&s, "--requirepass", "of-the-line", NULL);
    e2e_expect(s.c, "-WRONGPASS...", "AUTH of-the-log");
    e2e_expect(s.c, "+OK", "AUTH of-the-line");
    e2e_stop(&s);
    e2e_again_with(&s, "--port", "0", NULL);
    e2e_expect(s.c, "-WRONGPASS...", "AUTH of-the-line");
    e2e_expect(s.c, "+OK", "AUTH of-the-log");
    e2e_finish(&s);
}

/* Changes are planned on what is there: none may be lost. */
static void test_changes_at_the_same_time_are_all_made(void **state)
{
    static const char *const granted[] = {"get", "set", "mget", "del", "ttl", "type", "exists", "ping", "echo", "time"};
    redisContext *c[10];
    struct e2e s;
    (void)state;
    e2e_start(&s, "--io-threads", "2", NULL);
    for (int i = 0; i < 10; i++) {
        c[i] = e2e_connect(&s);
        redisAppendCommand(c[i], "ACL SETUSER ann +%s", granted[i]);
        redisAppendCommand(c[i], "ACL SETUSER ann ~%s", granted[i]);
    }
    for (int i = 0; i < 20; i++) /* flushes all first, so that they are under way together */
        if (i < 10) {
            int done = 0;
            while (!done)
                assert_int_equal(redisBufferWrite(c[i], &done), REDIS_OK);
        } else {
            e2e_expect_next(c[i - 10], "+OK");
            e2e_expect_next(c[i - 10], "+OK");
            redisFree(c[i - 10]);
        }
    const char *rules = rules_of(s.c, "ann");
    for (int i = 0; i < 10; i++) {
        char word[16];
        snprintf(word, sizeof word, "+%s", granted[i]);
        assert_non_null(strstr(rules, word));
        snprintf(word, sizeof word, "~%s", granted[i]);
        assert_non_null(strstr(rules, word));
    }
    e2e_finish(&s);
}

/* ---- who is cut off ---- */

static void test_deleted_users_are_cut_off(void **state)
{
    struct e2e s;
    (void)state;
    e2e_start(&s, "--io-threads", "2", NULL);
    e2e_expect(s.c, "+OK", "ACL SETUSER ann on >a +@all ~*");
    e2e_expect(s.c, "+OK", "ACL SETUSER bob on >b +@all ~*");
    redisContext *ann[4], *bob = log_in(&s, "bob", "b");
    for (int i = 0; i < 4; i++)
        ann[i] = log_in(&s, "ann", "a");
    e2e_expect(ann[0], "+OK", "MONITOR");
    e2e_expect(ann[1], ":1", "ACL DELUSER ann"); /* is answered */
    for (int i = 0; i < 4; i++) {
        e2e_expect_closed(ann[i]);
        redisFree(ann[i]);
    }
    e2e_expect(bob, "+PONG", "PING");
    e2e_expect(s.c, "-ERR The 'default' user cannot be removed", "ACL DELUSER bob default");
    e2e_expect(bob, "+PONG", "PING");
    redisFree(bob);
    e2e_finish(&s);
}

static void test_who_is_off_stays_logged_in(void **state)
{
    struct e2e s;
    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+OK", "ACL SETUSER ann on >a +@all ~*");
    redisContext *c = log_in(&s, "ann", "a");
    e2e_expect(s.c, "+OK", "ACL SETUSER ann off -echo");
    e2e_expect(c, "+PONG", "PING");
    e2e_expect(c, "-NOPERM...", "ECHO x");
    e2e_expect(c, "-WRONGPASS...", "AUTH ann a");
    e2e_expect(s.c, ":1", "CLIENT KILL USER ann");
    e2e_expect_closed(c);
    redisFree(c);
    e2e_finish(&s);
}

/* ---- ACL LOG ---- */

static const char *entry(redisContext *c, unsigned i, const char *field)
{
    static char text[1024];
    redisReply *r = e2e_command(c, "ACL LOG 100");
    assert_int_equal(r->type, REDIS_REPLY_ARRAY);
    assert_true(i < r->elements);
    snprintf(text, sizeof text, "none");
    for (size_t k = 0; k + 1 < r->element[i]->elements; k += 2) {
        const redisReply *v = r->element[i]->element[k + 1];
        if (strcmp(r->element[i]->element[k]->str, field) != 0)
            continue;
        if (v->type == REDIS_REPLY_INTEGER)
            snprintf(text, sizeof text, "%lld", v->integer);
        else
            snprintf(text, sizeof text, "%s", v->str);
    }
    freeReplyObject(r);
    return text;
}

static void expect_entry(redisContext *c, unsigned i, const char *user, const char *reason, const char *object,
                         const char *count)
{
    assert_string_equal(entry(c, i, "username"), user);
    assert_string_equal(entry(c, i, "reason"), reason);
    assert_string_equal(entry(c, i, "object"), object);
    assert_string_equal(entry(c, i, "count"), count);
    assert_string_equal(entry(c, i, "context"), "toplevel");
    assert_non_null(strstr(entry(c, i, "client-info"), "id="));
    assert_true(strtod(entry(c, i, "age-seconds"), NULL) >= 0);
}

static void test_refusals_are_logged(void **state)
{
    struct e2e s;
    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "[]", "ACL LOG");
    e2e_expect(s.c, "+OK", "ACL SETUSER ann on >a +get +secret.get ~mine");
    redisContext *c = log_in(&s, "ann", "a");
    e2e_expect(c, "-NOPERM...", "CLIENT ID");
    e2e_expect(c, "-NOPERM...", "GET yours");
    e2e_expect(c, "-NOPERM...", "GET yours");
    e2e_expect(c, "-NOPERM...", "SECRET.GET v path");
    e2e_expect(c, "-WRONGPASS...", "AUTH ann wrong");
    e2e_expect(c, "-WRONGPASS...", "HELLO 2 AUTH a-password-in-the-wrong-place ann");
    expect_entry(s.c, 0, "(unknown)", "auth", "HELLO", "1");
    expect_entry(s.c, 1, "ann", "auth", "AUTH", "1");
    expect_entry(s.c, 2, "ann", "key", "{v}/path", "1");
    expect_entry(s.c, 3, "ann", "key", "yours", "2");
    expect_entry(s.c, 4, "ann", "command", "client|id", "1");
    e2e_expect(s.c, "+OK", "CONFIG SET acllog-max-len 3");
    e2e_expect(c, "-NOPERM...", "GET yours"); /* an old one that is at the front again */
    expect_entry(s.c, 0, "ann", "key", "yours", "3");
    redisReply *r = e2e_command(s.c, "ACL LOG");
    assert_int_equal(r->elements, 3);
    freeReplyObject(r);
    r = e2e_command(s.c, "ACL LOG 1");
    assert_int_equal(r->elements, 1);
    freeReplyObject(r);
    e2e_expect(s.c, "+OK", "ACL SETUSER ann +watch +multi");
    e2e_expect(c, "+OK", "WATCH mine"); /* that is no transaction yet */
    e2e_expect(c, "-NOPERM...", "CLIENT ID");
    assert_string_equal(entry(s.c, 0, "context"), "toplevel");
    e2e_expect(c, "+OK", "MULTI");
    e2e_expect(c, "-NOPERM...", "CLIENT ID");
    assert_string_equal(entry(s.c, 0, "context"), "multi");
    assert_string_equal(e2e_info(s.c, "acl_access_denied_cmd"), "7");
    e2e_expect(s.c, "+OK", "ACL LOG RESET");
    e2e_expect(s.c, "[]", "ACL LOG");
    redisFree(c);
    e2e_finish(&s);
}

/* ---- other homes ---- */

static void write_file(const struct e2e *s, const char *name, const char *text)
{
    char path[2 * E2E_PATH];
    snprintf(path, sizeof path, "%s/%s", s->dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void test_an_aclfile_has_all_users(void **state)
{
    char out[8192];
    struct e2e s;
    (void)state;
    e2e_start(&s, NULL);
    e2e_expect(s.c, "+OK", "ACL SETUSER ofthelog on nopass");
    e2e_expect(s.c, "-ERR This Redis instance is not configured to use an ACL file...", "ACL LOAD");
    e2e_expect(s.c, "-ERR This Redis instance is not configured to use an ACL file...", "ACL SAVE");
    e2e_stop(&s);
    write_file(&s, "users.acl", "user ann on >a ~* +@all\n");
    e2e_again_with(&s, "--aclfile", "users.acl", NULL);
    assert_string_equal(rules_of(s.c, "ofthelog"), "none");
    e2e_expect(s.c, "+OK", "ACL SETUSER bob on >b +ping");
    redisContext *ann = log_in(&s, "ann", "a"), *bob = log_in(&s, "bob", "b");
    e2e_expect(s.c, "+OK", "ACL SAVE");
    e2e_expect(s.c, "+OK", "ACL SETUSER bob off");
    e2e_expect(s.c, "+OK", "ACL LOAD");
    e2e_expect_closed(ann);
    e2e_expect_closed(bob);
    redisFree(ann);
    redisFree(bob);
    e2e_expect(s.c, "+PONG", "PING");
    redisFree(log_in(&s, "bob", "b"));
    write_file(&s, "users.acl", "user ann on >another-secret +nosuch\n");
    e2e_expect(s.c, "-ERR users.acl:1: user ann, word 3: Unknown command or category name in ACL. No user was changed.",
               "ACL LOAD");
    redisFree(log_in(&s, "ann", "a"));
    e2e_stop(&s);
    assert_int_equal(e2e_start_refused(&s, out, sizeof out), 1);
    assert_non_null(strstr(out, "users.acl:1: user ann, word 3: Unknown command or category name in ACL"));
    assert_null(strstr(out, "another-secret"));
    e2e_finish(&s);
}

static void test_users_of_lines(void **state)
{
    char out[8192];
    struct e2e s;
    (void)state;
    e2e_start(&s, "--user", "ann", "on", ">a", "~*", "+@all", "--user", "default", "off", NULL);
    redisContext *c = log_in(&s, "ann", "a");
    e2e_expect(c, "+OK", "ACL SETUSER ann >b");
    e2e_expect(c, "+OK", "ACL SETUSER bob on >b +ping");
    redisFree(c);
    e2e_kill(&s);
    e2e_again(&s);
    e2e_expect(s.c, "-NOAUTH...", "PING");
    e2e_expect(s.c, "-WRONGPASS...", "AUTH ann b"); /* the line stands */
    e2e_expect(s.c, "+OK", "AUTH bob b");           /* the log has this one */
    e2e_stop(&s);
    assert_int_not_equal(
        0, e2e_run(out, sizeof out, "coffer-server", "--user", "ann", "on", "--user", "ann", "off", NULL));
    assert_non_null(strstr(out, "Duplicate user"));
    assert_int_not_equal(
        0, e2e_run(out, sizeof out, "coffer-server", "--user", "ann", "on", "--aclfile", "users.acl", NULL));
    assert_non_null(strstr(out, "`user` lines and an aclfile"));
    e2e_finish(&s);
}

/* ---- protected mode ---- */

static int other_address(char *out, size_t n)
{
    struct ifaddrs *all;
    int found = 0;
    if (getifaddrs(&all) != 0)
        return 0;
    for (struct ifaddrs *i = all; i && !found; i = i->ifa_next) {
        const struct sockaddr_in *a = (const void *)i->ifa_addr;
        found = a && a->sin_family == AF_INET && i->ifa_flags & IFF_UP && !(i->ifa_flags & IFF_LOOPBACK) &&
                inet_ntop(AF_INET, &a->sin_addr, out, (socklen_t)n);
    }
    freeifaddrs(all);
    return found;
}

static void expect_denied(const char *ip, int port, int denied)
{
    static const char text[] = "DENIED Coffer is running in protected mode because protected mode is enabled and no "
                               "password is set for the default user.";
    redisContext *c = redisConnect(ip, port);
    assert_non_null(c);
    assert_int_equal(c->err, 0);
    redisReply *r = redisCommand(c, "PING"); /* it may be closed before it can be read */
    if (denied)
        assert_true(!r || strncmp(r->str, text, strlen(text)) == 0);
    else
        assert_true(r && strncmp(r->str, "DENIED", 6) != 0);
    freeReplyObject(r);
    redisFree(c);
}

static void test_a_default_user_without_password_is_for_this_machine_only(void **state)
{
    char ip[64];
    struct e2e s;
    (void)state;
    if (!other_address(ip, sizeof ip))
        skip(); /* this machine has no address but loopback */
    e2e_start(&s, "--port", "auto", "--bind", ip, "127.0.0.1", NULL);
    expect_denied(ip, s.port, 1);
    expect_denied("127.0.0.1", s.port, 0);
    e2e_expect(s.c, "+OK", "CONFIG SET protected-mode no");
    expect_denied(ip, s.port, 0);
    e2e_expect(s.c, "+OK", "CONFIG SET protected-mode yes");
    expect_denied(ip, s.port, 1);
    e2e_expect(s.c, "+OK", "ACL SETUSER default >pw");
    expect_denied(ip, s.port, 0);
    e2e_expect(s.c, "+OK", "ACL SETUSER default nopass");
    expect_denied(ip, s.port, 1);
    e2e_expect(s.c, "+OK", "ACL SETUSER default off");
    expect_denied(ip, s.port, 0);
    e2e_finish(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_keys_of_ours_are_guarded_by_their_canonical_names, e2e_teardown),
        cmocka_unit_test_teardown(test_classes_hold_what_they_hold_in_redis, e2e_teardown),
        cmocka_unit_test_teardown(test_users_survive, e2e_teardown),
        cmocka_unit_test_teardown(test_nothing_is_open_before_users_are_known, e2e_teardown),
        cmocka_unit_test_teardown(test_a_lost_log_is_recovered_by_who_is_on_the_machine, e2e_teardown),
        cmocka_unit_test_teardown(test_requirepass_stands_over_the_log, e2e_teardown),
        cmocka_unit_test_teardown(test_changes_at_the_same_time_are_all_made, e2e_teardown),
        cmocka_unit_test_teardown(test_deleted_users_are_cut_off, e2e_teardown),
        cmocka_unit_test_teardown(test_who_is_off_stays_logged_in, e2e_teardown),
        cmocka_unit_test_teardown(test_refusals_are_logged, e2e_teardown),
        cmocka_unit_test_teardown(test_an_aclfile_has_all_users, e2e_teardown),
        cmocka_unit_test_teardown(test_users_of_lines, e2e_teardown),
        cmocka_unit_test_teardown(test_a_default_user_without_password_is_for_this_machine_only, e2e_teardown),
    };
    return cmocka_run_group_tests_name("acl", tests, NULL, NULL);
}
