/* hsm_program.c - the program coffer-hsm as an operator types it: provision, init-realm, join-realm, info, and wrong
 * usage. */
#include "tests/unit/hsm_fixture.h"

static char root[PATH_MAX], program[PATH_MAX + 32], said[8192];

static int set_up(void **state)
{
    const char *build = getenv("COFFER_BUILD");
    ssize_t n = readlink("/proc/self/exe", program, PATH_MAX - 1);

    (void)state;
    assert_true(n > 0);
    program[n] = '\0';
    for (int i = 0; i < 3; i++)
        *strrchr(program, '/') = '\0';
    if (build)
        snprintf(program, PATH_MAX, "%s", build);
    strcat(program, "/coffer-hsm");
    assert_int_equal(mem_init(1), ERR_OK);
    make_temp_dir(root);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_tree(root);
    return 0;
}

/* Runs coffer-hsm with these arguments, ended by NULL; its exit status. What it printed, on either output, is in said.
 */
static int run(const char *first, ...)
{
    char *argv[24] = {program}, out[PATH_MAX];
    posix_spawn_file_actions_t to;
    int n = 1, status = -1;
    pid_t pid;
    va_list ap;

    va_start(ap, first);
    for (const char *a = first; a; a = va_arg(ap, const char *))
        argv[n++] = (char *)(uintptr_t)a;
    va_end(ap);
    snprintf(out, sizeof out, "%.4000s/said", root);
    posix_spawn_file_actions_init(&to);
    posix_spawn_file_actions_addopen(&to, 1, out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_adddup2(&to, 1, 2);
    assert_int_equal(posix_spawn(&pid, program, &to, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&to);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    read_text(out, said, sizeof said);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void expect(int status, int want, const char *text)
{
    if (status != want || !strstr(said, text))
        fail_msg("exit %d, wanted %d with '%s':\n%s", status, want, text, said);
}

static const char *below(char *out, const char *name)
{
    snprintf(out, PATH_MAX, "%.4000s/%s", root, name);
    return out;
}

static void test_usage(void **state)
{
    (void)state;
    expect(run(NULL), 2, "usage: coffer-hsm worker FD");
    expect(run("nonsense", NULL), 2, "usage:");
    expect(run("provision", NULL), 2, "usage:");
    expect(run("provision", "a", "b", NULL), 2, "usage:");
    expect(run("provision", "--unknown", "a", NULL), 2, "usage:");
    expect(run("info", "--module", "m", NULL), 2, "usage:");
    expect(run("info", "--module", "m", "--module", "m", "--token", "t", "--pin-file", "p", NULL), 2, "usage:");
    expect(run("info", "--module", "m", "--token", "t", "--pin-file", NULL), 2, "usage:");
    expect(run("info", "--module", "m", "--token", "t", "--pin-file", "p", "--realm-file", "r", NULL), 2, "usage:");
    assert_int_equal(run("worker", "0", NULL), 2);
    assert_int_equal(run("worker", "x", NULL), 2);
    assert_int_equal(run("worker", "9999", NULL), WORKER_EXIT_SOCKET); /* no such descriptor */
}

static void test_provision_and_info(void **state)
{
    char dir[PATH_MAX], pin[PATH_MAX], conf[PATH_MAX], bad[PATH_MAX], module[PATH_MAX];

    (void)state;
    below(dir, "default");
    expect(run("provision", dir, NULL), 0, "ready: ");
    expect(run("provision", dir, NULL), 0, "ready: ");
    expect(run("provision", dir, "--realm-file", "r", NULL), 1, "go together");
    snprintf(module, sizeof module, "%s", provision_find_module());
    setenv("SOFTHSM2_CONF", below(conf, "default/softhsm2.conf"), 1);
    below(pin, "default/pin");
    expect(run("info", "--module", module, "--token", "coffer", "--pin-file", pin, NULL), 0, "token:coffer\n");
    assert_non_null(strstr(said, "trusted:yes\n"));
    assert_non_null(strstr(said, "partitions:0\n"));
    expect(run("info", "--module", module, "--token", "other", "--pin-file", pin, NULL), 1, "0 tokens named other");
    expect(run("info", "--module", "/no/module.so", "--token", "coffer", "--pin-file", pin, NULL), 1, "/no/module.so");
    write_text(below(bad, "bad-pin"), "4711-not-the-pin\n");
    expect(run("info", "--module", module, "--token", "coffer", "--pin-file", bad, NULL), 1, "CKR_PIN_INCORRECT");
    assert_null(strstr(said, "4711-not-the-pin"));
    assert_int_equal(chmod(bad, 0644), 0);
    expect(run("info", "--module", module, "--token", "coffer", "--pin-file", bad, NULL), 1, "only its owner can read");
    expect(run("info", "--module", module, "--token", "coffer", "--pin-file", "/no/pin", NULL), 1, "/no/pin");
}

/* A realm made on an NSS token, joined by SoftHSM's and by another NSS token. */
static void test_realms(void **state)
{
    char first[PATH_MAX], second[PATH_MAX], init[PATH_MAX + 128], realm[PATH_MAX], pass[PATH_MAX], pw[PATH_MAX];
    char sql[PATH_MAX + 8], dir[PATH_MAX], id[64];
    char *certutil[] = {(char *)"certutil", (char *)"-N", (char *)"-d", sql, (char *)"-f", pw, NULL};

    (void)state;
    below(realm, "nss-realm");
    write_text(below(pass, "pass"), "a passphrase");
    write_text(below(pw, "pw"), NSS_PIN "\n");
    for (int i = 0; i < 2; i++) {
        below(i ? second : first, i ? "nss2" : "nss1");
        snprintf(sql, sizeof sql, "sql:%.4000s", i ? second : first);
        assert_int_equal(mkdir(i ? second : first, 0700), 0);
        assert_int_equal(run_program(certutil), 0);
    }
    snprintf(init, sizeof init, "configdir='sql:%.4000s' certPrefix='' keyPrefix='' secmod='secmod.db' flags=", first);
    expect(run("init-realm", "--module", NSS_MODULE, "--token", "NSS Certificate DB", "--init", init, "--pin-file", pw,
               "--realm-file", realm, "--passphrase-file", pass, NULL),
           0, "realm:");
    snprintf(id, sizeof id, "%.38s", said); /* realm: and 32 digits */
    expect(run("init-realm", "--module", NSS_MODULE, "--token", "NSS Certificate DB", "--init", init, "--pin-file", pw,
               "--realm-file", realm, "--passphrase-file", pass, NULL),
           1, "join-realm");
    expect(run("join-realm", realm, "--module", NSS_MODULE, "--token", "NSS Certificate DB", "--init", init,
               "--pin-file", pw, "--passphrase-file", pass, NULL),
           0, id); /* has it already */
    expect(run("join-realm", realm, "--module", NSS_MODULE, "--token", "NSS Certificate DB", "--init", init,
               "--pin-file", pw, "--passphrase-file", pw, NULL),
           1, "wrong passphrase");
    snprintf(init, sizeof init, "configdir='sql:%.4000s' certPrefix='' keyPrefix='' secmod='secmod.db' flags=", second);
    expect(run("info", "--module", NSS_MODULE, "--token", "NSS Certificate DB", "--init", init, "--pin-file", pw, NULL),
           1, "0 of the 4 realm keys");
    expect(run("join-realm", realm, "--module", NSS_MODULE, "--token", "NSS Certificate DB", "--init", init,
               "--pin-file", pw, "--passphrase-file", pass, NULL),
           0, id);
    expect(run("info", "--module", NSS_MODULE, "--token", "NSS Certificate DB", "--init", init, "--pin-file", pw, NULL),
           0, id);
    expect(run("provision", below(dir, "joined"), "--realm-file", realm, "--passphrase-file", pass, NULL), 0, "ready");
    setenv("SOFTHSM2_CONF", below(sql, "joined/softhsm2.conf"), 1);
    expect(run("info", "--module", provision_find_module(), "--token", "coffer", "--pin-file", below(dir, "joined/pin"),
               NULL),
           0, id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_provision_and_info),
        cmocka_unit_test(test_realms),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
