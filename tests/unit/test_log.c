#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"

static char dir[64], path[96], rotated[96];

/* The file's text; lives until the next call. */
static const char *text_of(const char *name)
{
    static char text[1 << 20];
    FILE *f = fopen(name, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    return text;
}

static int open_log(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/test_log.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/log", dir);
    snprintf(rotated, sizeof rotated, "%s/log.1", dir);
    setenv("TZ", "UTC", 1);
    clock_test_set_wall_ms(1795341600123); /* 22 Nov 2026 10:00:00.123 UTC */
    log_set_role('M');
    return log_open(path, LOG_NOTICE) == ERR_OK ? 0 : -1;
}

static int remove_log(void **state)
{
    (void)state;
    fault_disarm(FAULT_FILE);
    clock_test_set_wall_ms(0);
    unlink(path);
    unlink(rotated);
    return rmdir(dir);
}

static void a_line_has_the_shape_of_redis(void **state)
{
    char want[200];
    (void)state;
    log_at(LOG_NOTICE, "Ready to accept connections on port %d", 6379);
    snprintf(want, sizeof want, "%d:M 22 Nov 2026 10:00:00.123 * Ready to accept connections on port 6379\n",
             (int)getpid());
    assert_string_equal(text_of(path), want);
}

static void levels_have_marks_and_a_threshold(void **state)
{
    static const char *const marks[] = {". at 0\n", "- at 1\n", "* at 2\n", "# at 3\n"};
    (void)state;
    for (int threshold = LOG_DEBUG; threshold <= LOG_NOTHING; threshold++) {
        assert_int_equal(truncate(path, 0), 0);
        log_set_level((enum log_level)threshold);
        for (int level = LOG_DEBUG; level <= LOG_NOTHING; level++)
            log_at((enum log_level)level, "at %d", level);
        for (int level = LOG_DEBUG; level < LOG_NOTHING; level++) {
            if (level >= threshold)
                assert_non_null(strstr(text_of(path), marks[level]));
            else
                assert_null(strstr(text_of(path), marks[level]));
        }
        assert_null(strstr(text_of(path), "at 4"));
    }
}

static void the_role_is_shown(void **state)
{
    (void)state;
    log_set_role('S');
    log_at(LOG_WARNING, "x");
    assert_non_null(strstr(text_of(path), ":S 22 Nov 2026 10:00:00.123 # x\n"));
}

static void one_event_is_one_line(void **state)
{
    (void)state;
    log_at(LOG_NOTICE, "name '%s'",
           "a\n1:M 22 Nov 2026 10:00:00.123 # forged\r\t\x1b[2J\x7f"
           "\xc3\xa9");
    const char *text = text_of(path);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    assert_non_null(strstr(text, "* name 'a?1:M 22 Nov 2026 10:00:00.123 # forged???[2J?\xc3\xa9'\n"));
}

static void a_long_message_is_cut(void **state)
{
    char message[3000];
    (void)state;
    memset(message, 'z', sizeof message);
    for (int n = 1020; n < 1030; n++) {
        assert_int_equal(truncate(path, 0), 0);
        log_at(LOG_NOTICE, "%.*s", n, message);
        const char *text = text_of(path);
        assert_int_equal(strspn(strchr(text, 'z'), "z"), n < 1024 ? n : 1024);
        assert_string_equal(strrchr(text, 'z'), "z\n");
    }
}

static void errno_is_left_alone(void **state)
{
    (void)state;
    assert_int_equal(log_open("/dev/full", LOG_NOTICE), ERR_OK);
    errno = EDOM;
    log_at(LOG_NOTICE, "a write that fails");
    assert_int_equal(errno, EDOM);
}

static void reopening_follows_a_rotation(void **state)
{
    (void)state;
    log_at(LOG_NOTICE, "one");
    assert_int_equal(rename(path, rotated), 0);
    log_at(LOG_NOTICE, "two");
    assert_int_equal(log_reopen(), ERR_OK);
    log_at(LOG_NOTICE, "three");
    assert_non_null(strstr(text_of(rotated), "* one\n"));
    assert_non_null(strstr(text_of(rotated), "* two\n"));
    assert_null(strstr(text_of(rotated), "three"));
    assert_non_null(strstr(text_of(path), "* three\n"));
    assert_null(strstr(text_of(path), "two"));
}

static void what_cannot_be_opened_leaves_the_log_as_it_was(void **state)
{
    char too_long[5000];
    (void)state;
    memset(too_long, 'p', sizeof too_long);
    too_long[sizeof too_long - 1] = '\0';
    assert_int_equal(log_open("/nonexistent/log", LOG_DEBUG), ERR_NOTFOUND);
    assert_int_equal(log_open(too_long, LOG_DEBUG), ERR_IO);
    fault_arm(FAULT_FILE, 1, EIO);
    assert_int_equal(log_reopen(), ERR_IO);
    log_at(LOG_DEBUG, "hidden");
    log_at(LOG_NOTICE, "still here");
    assert_null(strstr(text_of(path), "hidden"));
    assert_non_null(strstr(text_of(path), "* still here\n"));
    assert_int_equal(log_reopen(), ERR_OK);
    log_at(LOG_NOTICE, "and after");
    assert_non_null(strstr(text_of(path), "* and after\n"));
}

static int count_descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) != -1;
    return n;
}

static void opening_again_leaks_no_descriptor_and_sets_cloexec(void **state)
{
    int before = count_descriptors(), fresh = open("/dev/null", O_RDONLY);
    (void)state;
    close(fresh);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(log_reopen(), ERR_OK);
        assert_int_equal(log_open(path, LOG_NOTICE), ERR_OK);
    }
    assert_int_equal(count_descriptors(), before);
    for (int fd = 3; fd < fresh; fd++) {
        struct {
            char link[64], target[96];
        } s = {{0}, {0}};
        snprintf(s.link, sizeof s.link, "/proc/self/fd/%d", fd);
        if (readlink(s.link, s.target, sizeof s.target - 1) > 0 && strcmp(s.target, path) == 0)
            assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    }
}

static void no_path_is_standard_output(void **state)
{
    (void)state;
    fflush(stdout);
    int kept = dup(STDOUT_FILENO), file = open(rotated, O_CREAT | O_WRONLY | O_APPEND, 0600);
    assert_true(kept >= 0 && file >= 0);
    dup2(file, STDOUT_FILENO);
    enum err null = log_open(NULL, LOG_NOTICE);
    log_at(LOG_NOTICE, "by NULL");
    enum err empty = log_open("", LOG_NOTICE);
    log_at(LOG_NOTICE, "by empty");
    enum err again = log_reopen();
    log_at(LOG_NOTICE, "again");
    dup2(kept, STDOUT_FILENO);
    close(kept);
    close(file);
    assert_int_equal(null, ERR_OK);
    assert_int_equal(empty, ERR_OK);
    assert_int_equal(again, ERR_OK);
    assert_non_null(strstr(text_of(rotated), "* by NULL\n"));
    assert_non_null(strstr(text_of(rotated), "* by empty\n"));
    assert_non_null(strstr(text_of(rotated), "* again\n"));
    assert_string_equal(text_of(path), "");
}

#define THREADS 4
#define LINES 500

static void *chatter(void *arg)
{
    for (int i = 0; i < LINES; i++)
        log_at(LOG_NOTICE, "thread %c line %d end", *(char *)arg, i);
    return NULL;
}

/* With a rotation in their midst: no line is lost, torn, or out of its thread's order. */
static void lines_of_threads_stay_whole(void **state)
{
    char names[] = "abcd";
    pthread_t t[THREADS];
    int next[THREADS] = {0};
    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, chatter, &names[i]), 0);
    assert_int_equal(rename(path, rotated), 0);
    assert_int_equal(log_reopen(), ERR_OK);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    for (int file = 0; file < 2; file++) {
        const char *p = text_of(file ? path : rotated);
        while (*p) {
            char who, end[8];
            int number, used = 0;
            assert_int_equal(
                sscanf(p, "%*d:M 22 Nov 2026 10:00:00.123 * thread %c line %d %7[^\n]%n", &who, &number, end, &used),
                3);
            assert_string_equal(end, "end");
            assert_int_equal(number, next[who - 'a']++);
            p += used;
            assert_int_equal(*p++, '\n');
        }
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(next[i], LINES);
}

#define LOG_TEST(f) cmocka_unit_test_setup_teardown(f, open_log, remove_log)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(a_line_has_the_shape_of_redis),
        LOG_TEST(levels_have_marks_and_a_threshold),
        LOG_TEST(the_role_is_shown),
        LOG_TEST(one_event_is_one_line),
        LOG_TEST(a_long_message_is_cut),
        LOG_TEST(errno_is_left_alone),
        LOG_TEST(reopening_follows_a_rotation),
        LOG_TEST(what_cannot_be_opened_leaves_the_log_as_it_was),
        LOG_TEST(opening_again_leaks_no_descriptor_and_sets_cloexec),
        LOG_TEST(no_path_is_standard_output),
        LOG_TEST(lines_of_threads_stay_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
