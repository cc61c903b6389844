/* SoftHSM's files under several processes at once: a login truncates the token's file and writes it again after its own
 * lock was given up, so that whoever reads meanwhile finds no token. */
#include "tests/unit/hsm_fixture.h"

#include <sys/file.h>

#include "hsm/tokendir.h"

enum { STARTERS = 4, STARTS = 40 };

static char dir[PATH_MAX];
static struct node node;

static int set_up_all(void **state)
{
    (void)state;
    assert_int_equal(mem_init(0), ERR_OK);
    make_temp_dir(dir);
    node_softhsm(&node, dir, "a", NULL);
    return 0;
}

static int tear_down_all(void **state)
{
    (void)state;
    remove_tree(dir);
    return 0;
}

/* In a child. Its exit code: starts that failed. */
static int start_often(int starts)
{
    int failed = 0;

    for (int i = 0; i < starts; i++) {
        struct rig r;

        if (rig_start_with(&r, &node, node.module, node.token, node.pin, "no", "64") != ERR_OK) {
            fprintf(stderr, "start %d: %s\n", i, r.a.text);
            failed++;
        }
        rig_fini(&r);
    }
    return failed;
}

static void begin_starters(pid_t pid[STARTERS])
{
    for (int i = 0; i < STARTERS; i++) {
        pid[i] = fork();
        assert_true(pid[i] >= 0);
        if (pid[i] == 0)
            _exit(start_often(STARTS));
    }
}

static void wait_for(pid_t pid)
{
    int status = -1;

    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_starts_at_once_all_see_the_token(void **state)
{
    pid_t pid[STARTERS];

    (void)state;
    begin_starters(pid);
    for (int i = 0; i < STARTERS; i++)
        wait_for(pid[i]);
}

/* In a child that loads the module itself. Works until the pipe's other ends are closed. Its exit code: 0 is well. */
static int work_until_closed(int fd)
{
    struct blob config;
    struct rig r;
    char byte;

    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    rig_start(&r, &node);
    for (unsigned round = 0; read(fd, &byte, 1) != 0; round++) {
        if (RUN(&r, HSM_PROBE) != ERR_OK) {
            fprintf(stderr, "probe %u: %s\n", round, r.a.text);
            return 1;
        }
        if (round % 64)
            continue;
        new_partition(&r, (uint8_t)(round / 64), &config);
        if (RUN(&r, HSM_PARTITION_DESTROY, blob_bytes(&config)) != ERR_OK)
            return 2;
    }
    rig_fini(&r);
    return 0;
}

/* A worker that is up is not taken for sick, and partitions come and go. */
static void test_a_worker_beside_starts_stays_well(void **state)
{
    pid_t pid[STARTERS], worker;
    int ends[2];

    (void)state;
    assert_int_equal(pipe(ends), 0);
    begin_starters(pid); /* they hold the end that is written to as long as they run */
    close(ends[1]);
    worker = fork();
    assert_true(worker >= 0);
    if (worker == 0)
        _exit(work_until_closed(ends[0]));
    for (int i = 0; i < STARTERS; i++)
        wait_for(pid[i]);
    wait_for(worker);
    close(ends[0]);
}

/* ---- a login that did not come to its end ---- */

/* Path of the token's file, or of the one beside it. */
static void token_path(char out[PATH_MAX], const char *file)
{
    char tokens[PATH_MAX + 16], **names;
    size_t n;

    snprintf(tokens, sizeof tokens, "%s/tokens", node.dir);
    assert_int_equal(file_list(tokens, &names, &n), ERR_OK);
    assert_int_equal(n, 1);
    assert_true(snprintf(out, PATH_MAX, "%s/%s/%s", tokens, names[0], file) < PATH_MAX);
    file_free_names(names, n);
}

static void expect_start(void)
{
    assert_int_equal(start_often(1), 0);
}

/* In a child, as all that load the module here. */
static void in_child(void (*run)(void))
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        run();
        _exit(0);
    }
    wait_for(pid);
}

static void test_killed_at_login_loses_no_token(void **state)
{
    char object[PATH_MAX];

    (void)state;
    token_path(object, "token.object");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(truncate(object, 0), 0); /* where the one that was killed left it */
        in_child(expect_start);
    }
}

/* Another PIN, other flags: the copy follows, and costs no writing else. */
static void test_copy_is_of_the_last_login(void **state)
{
    char object[PATH_MAX], saved[PATH_MAX];
    struct stat before, after;
    struct buf b;

    (void)state;
    token_path(object, "token.object");
    token_path(saved, "token.saved");
    in_child(expect_start);
    assert_int_equal(stat(saved, &before), 0);
    assert_int_equal(before.st_mode & 0777, 0600);
    in_child(expect_start);
    assert_int_equal(stat(saved, &after), 0);
    assert_int_equal(after.st_ino, before.st_ino);

    write_text(saved, "of another PIN");
    in_child(expect_start);
    buf_init(&b, 65536);
    assert_int_equal(file_read_all(saved, &b, 65536), ERR_OK);
    assert_int_equal(stat(object, &after), 0);
    assert_int_equal(buf_size(&b), after.st_size);
    buf_fini(&b);
}

/* ---- the lock itself ---- */

/* 1: another process could have it now. */
static int is_free(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), got;

    assert_true(fd >= 0);
    got = flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return got;
}

static void test_lock_nests(void **state)
{
    char tokens[PATH_MAX + 16];

    (void)state;
    snprintf(tokens, sizeof tokens, "%s/tokens", node.dir);
    node_select(&node);
    assert_true(is_free(tokens));
    assert_int_equal(tokendir_lock(), ERR_OK);
    assert_false(is_free(tokens));
    assert_int_equal(tokendir_lock(), ERR_OK);
    tokendir_unlock();
    assert_false(is_free(tokens));
    tokendir_unlock();
    assert_true(is_free(tokens));
}

static void test_nothing_to_lock(void **state)
{
    (void)state;
    setenv("SOFTHSM2_CONF", "/nonexistent", 1);
    assert_int_equal(tokendir_lock(), ERR_OK);
    assert_int_equal(tokendir_lock(), ERR_OK);
    tokendir_unlock();
    tokendir_unlock();
    node_select(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts_at_once_all_see_the_token),
        cmocka_unit_test(test_a_worker_beside_starts_stays_well),
        cmocka_unit_test(test_killed_at_login_loses_no_token),
        cmocka_unit_test(test_copy_is_of_the_last_login),
        cmocka_unit_test(test_lock_nests),
        cmocka_unit_test(test_nothing_to_lock),
    };

    return cmocka_run_group_tests(tests, set_up_all, tear_down_all);
}
