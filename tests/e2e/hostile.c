/* hostile.c - what hostile clients, a disk that fills up, and an end at the wrong moment did to servers before. What a
 * connection alone can do is in tests/unit/test_conn_hostile.c. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/lib/e2e.h"

/* ---- a browser ---- */

static void test_a_web_page_cannot_write(void **state)
{
    static const char request[] =
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n\r\nSET evil 1\r\n";
    struct e2e s;
    struct e2e_raw browser;
    (void)state;
    e2e_start(&s, NULL);
    e2e_raw_open(&browser, &s);
    e2e_raw_send(&browser, request, sizeof request - 1);
    assert_null(e2e_raw_next(&browser));
    e2e_raw_close(&browser);
    e2e_log_wait(&s, "Possible SECURITY ATTACK detected");
    e2e_expect(s.c, "nil", "GET evil");
    e2e_finish(&s);
}

/* ---- what everybody on the host may look at ---- */

static size_t read_proc(pid_t pid, const char *what, char *out, size_t n)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/%s", (long)pid, what);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    ssize_t got = read(fd, out, n);
    close(fd);
    assert_true(got > 0);
    return (size_t)got;
}

static void test_passwords_of_the_command_line_do_not_stay_there(void **state)
{
    char line[4096];
    struct e2e s;
    (void)state;
    e2e_start(&s, "--requirepass", "sesame-open", "--user", "ann", "on", ">tell-nobody", "~*", "+@all", "--databases",
              "3", NULL);
    size_t n = read_proc(s.pid, "cmdline", line, sizeof line);
    assert_null(memmem(line, n, "sesame", 6));
    assert_null(memmem(line, n, "nobody", 6));
    assert_non_null(memmem(line, n, "databases\0003", 11));
    e2e_expect(s.c, "+OK", "AUTH ann tell-nobody");
    e2e_expect(s.c, "+OK", "AUTH sesame-open");
    e2e_finish(&s);
}

static void test_a_directory_that_everybody_may_write_to_is_refused(void **state)
{
    char out[2048], dir[] = "/tmp/coffer-hostile-XXXXXX";
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(chmod(dir, 0777), 0);
    int status = e2e_run(out, sizeof out, "coffer-server", "--dir", dir, "--port", "0", "--unixsocket", "s", NULL);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    assert_non_null(strstr(out, "everybody may write there"));
    assert_int_equal(rmdir(dir), 0); /* nothing was made */
}

/* ---- a full disk ---- */

static char mounted[64];

static int unmount(void **state)
{
    int rc = e2e_teardown(state);
    if (mounted[0]) {
        (void)umount2(mounted, MNT_DETACH);
        (void)rmdir(mounted);
        mounted[0] = 0;
    }
    return rc;
}

static void fill_up(char path[96])
{
    static char block[65536];
    snprintf(path, 96, "%s/fill", mounted);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (size_t n = sizeof block; n;)
        if (write(fd, block, n) < 0)
            n = errno == ENOSPC ? n / 2 : n;
    close(fd);
}

/* Somebody else fills the disk: once that failed every store until the next start, even when nobody wrote. */
static void test_a_full_disk_is_over_when_there_is_room(void **state)
{
    enum { VAULTS = 8 };
    char path[96], dir[80];
    struct e2e s;
    (void)state;
    snprintf(mounted, sizeof mounted, "/tmp/coffer-hostile-XXXXXX");
    assert_non_null(mkdtemp(mounted));
    if (mount("tmpfs", mounted, "tmpfs", 0, "size=160m,mode=700") != 0) {
        assert_int_equal(rmdir(mounted), 0);
        mounted[0] = 0;
        skip();
    }
    snprintf(dir, sizeof dir, "%s/data", mounted);
    e2e_start_bare(&s, "--dir", dir, "--wbl-segment-bytes", "1mb", "--dirty-limit", "4mb", NULL);
    for (int i = 0; i < VAULTS; i++) {
        e2e_expect(s.c, "+OK", "VAULT.CREATE v%d", i);
        e2e_expect(s.c, ":1", "SECRET.SET v%d path value", i);
    }
    fill_up(path);
    e2e_log_wait(&s, "nothing is written to the stores until there is room");
    for (int i = 0; i < VAULTS; i++)
        e2e_expect(s.c, "$value", "SECRET.GET v%d path", i);
    struct e2e_deadline full = {.what = "a write to be refused"};
    while (e2e_not_yet(&full)) {
        redisReply *r = e2e_command(s.c, "SECRET.SET v0 more value");
        int refused = r->type == REDIS_REPLY_ERROR && strncmp(r->str, "MISCONF", 7) == 0;
        freeReplyObject(r);
        if (refused)
            break;
    }
    e2e_expect(s.c, "-HSMDOWN...", "VAULT.CREATE full"); /* its token is on that disk too */

    assert_int_equal(unlink(path), 0);
    e2e_log_wait(&s, "there is room on the disk again");
    struct e2e_deadline room = {.what = "a write to be taken"};
    while (e2e_not_yet(&room)) {
        redisReply *r = e2e_command(s.c, "SECRET.SET v0 again value");
        int taken = r->type == REDIS_REPLY_INTEGER;
        freeReplyObject(r);
        if (taken)
            break;
    }
    for (int i = 0; i < VAULTS; i++) {
        e2e_expect(s.c, "$value", "SECRET.GET v%d path", i);
        e2e_expect(s.c, ":2", "SECRET.SET v%d path value", i);
        e2e_expect(s.c, "nil", "SECRET.META v%d path", i);
    }
    e2e_finish(&s);
}

/* ---- an end at the wrong moment ---- */

static void reset(redisContext *c)
{
    struct linger now = {.l_onoff = 1};
    (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    redisFree(c);
}

/* Keys come from the HSM when their clients are gone and the I/O threads have ended: they were written to an engine
 * that was closed. */
static void test_keys_that_come_after_the_end(void **state)
{
    enum { KEYS = 24, LATE = 6 };
    char ctl[E2E_PATH + 8];
    redisContext *late[LATE];
    struct e2e s;
    (void)state;
    snprintf(ctl, sizeof ctl, "/tmp/coffer-hostile-%ld.ctl", (long)getpid());
    (void)unlink(ctl);
    setenv("P11FAULT_CTL", ctl, 1);
    e2e_start_bare(&s, "--port", "auto", "--hsm-auto-provision", "yes", "--hsm-module",
                   e2e_build_path("tests/p11fault.so"), NULL);
    e2e_expect(s.c, "+OK", "VAULT.CREATE v");
    for (int i = 0; i < KEYS; i++)
        e2e_expect(s.c, ":1", "KEY.CREATE v k%d", i);

    /* What the HSM is asked takes long, and the check of the log, which the end waits for, asks last. */
    FILE *f = fopen(ctl, "w");
    assert_non_null(f);
    fputs("* 0 delay 8\n", f);
    assert_int_equal(fclose(f), 0);
    for (int i = 0; i < LATE; i++) {
        late[i] = e2e_connect_tcp(&s);
        redisAppendCommand(late[i], "KEY.CREATE v late%d", i);
        int done = 0;
        while (!done)
            assert_int_equal(redisBufferWrite(late[i], &done), REDIS_OK);
    }
    redisContext *verify = e2e_connect_tcp(&s);
    redisAppendCommand(verify, "WBL.VERIFY");
    for (int done = 0; !done;)
        assert_int_equal(redisBufferWrite(verify, &done), REDIS_OK);
    struct e2e_deadline w = {.what = "the check to begin"};
    while (e2e_not_yet(&w)) {
        redisReply *r = e2e_command(s.c, "CLIENT LIST");
        int begun = strstr(r->str, "cmd=wbl.verify") != NULL;
        freeReplyObject(r);
        if (begun)
            break;
    }
    for (int i = 0; i < LATE; i++)
        reset(late[i]);
    reset(verify);
    e2e_stop(&s);
    (void)unlink(ctl);
    e2e_again(&s);
    for (int i = 0; i < KEYS; i++)
        e2e_expect(s.c, "$CENC...", "KEY.ENCRYPT v k%d x", i);
    e2e_finish(&s);
    unsetenv("P11FAULT_CTL");
}

/* ---- descriptors ---- */

/* Clients took the descriptors that stores open their tables with, and a store that cannot is failed for good. Last:
 * the limit stays. */
static void test_clients_leave_descriptors_to_the_stores(void **state)
{
    enum { FILES = 900, STORES = 5, OF_EACH = 100 };
    struct rlimit limit;
    struct e2e s;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < FILES)
        skip();
    limit.rlim_cur = limit.rlim_max = FILES;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    e2e_start(&s, NULL);
    redisReply *r = e2e_command(s.c, "CONFIG GET maxclients");
    assert_int_equal(r->elements, 2);
    assert_in_range(atoi(r->element[1]->str), 32, FILES - STORES * OF_EACH - 64);
    freeReplyObject(r);
    e2e_finish(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_a_web_page_cannot_write, e2e_teardown),
        cmocka_unit_test_teardown(test_passwords_of_the_command_line_do_not_stay_there, e2e_teardown),
        cmocka_unit_test_teardown(test_a_directory_that_everybody_may_write_to_is_refused, e2e_teardown),
        cmocka_unit_test_teardown(test_a_full_disk_is_over_when_there_is_room, unmount),
        cmocka_unit_test_teardown(test_keys_that_come_after_the_end, e2e_teardown),
        cmocka_unit_test_teardown(test_clients_leave_descriptors_to_the_stores, e2e_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
