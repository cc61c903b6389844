/* e2e.c - servers for end-to-end tests: start, wait, end.
 *
 * Each server gets a directory under /tmp, and there its data, its UNIX socket, its log, and its token. Making a token
 * takes a fraction of a second (seconds under sanitizers), so it is made once per test program and copied: coffer-hsm
 * provision makes a copied directory whole. e2e_start_bare leaves that out, as a user's first start does.
 *
 * A server is a child that dies with its parent (PR_SET_PDEATHSIG), so that a test program that crashes or is ended by
 * the runner leaves nothing behind. All of them are in the table `servers`, by which e2e_teardown finds what a failed
 * test left, and shows its log.
 *
 * A test that fails leaves by longjmp, from anywhere in here: nothing may be half done when fail_msg is called.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/e2e.h"

#define SERVERS 16
#define LOG_SHOWN 8192

/* A failed test's struct e2e is gone with its frame, so what teardown needs is kept here. */
static struct {
    const struct e2e *s; /* only compared; NULL: free */
    pid_t pid;
    struct e2e paths; /* dir and log */
} servers[SERVERS];
static char template_dir[E2E_PATH]; /* holds the token that is copied; empty: not made yet */

/* ---- small things ---- */

static void join(char *out, size_t n, const char *a, const char *b)
{
    int len = snprintf(out, n, "%s/%s", a, b);
    if (len < 0 || (size_t)len >= n)
        fail_msg("path too long: %s/%s", a, b);
}

const char *e2e_build_path(const char *name)
{
    static char path[PATH_MAX];
    char build[PATH_MAX];
    const char *env = getenv("COFFER_BUILD");

    if (env) { /* absolute: PKCS#11 modules are only taken so */
        assert_non_null(realpath(env, build));
    } else { /* build/tests/e2e/basic -> build */
        ssize_t n = readlink("/proc/self/exe", build, sizeof build - 1);
        assert_true(n > 0);
        build[n] = 0;
        for (int up = 0; up < 3; up++) {
            char *slash = strrchr(build, '/');
            assert_non_null(slash);
            *slash = 0;
        }
    }
    join(path, sizeof path, build, name);
    return path;
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int e2e_not_yet(struct e2e_deadline *w)
{
    const struct timespec little = {.tv_nsec = 3 * 1000 * 1000};

    if (!w->end_ms) {
        w->end_ms = now_ms() + E2E_SECONDS * 1000;
        return 1;
    }
    if (now_ms() > w->end_ms)
        fail_msg("waited %d s for: %s", E2E_SECONDS, w->what);
    nanosleep(&little, NULL);
    return 1;
}

int e2e_free_port(void)
{
    static int next;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    /* Below the range that connections take theirs from; test programs that run side by side start at different ones.
     */
    if (!next)
        next = 10000 + getpid() % 312 * 48; /* Redis's own suite begins at 26000 */
    for (int i = 0; i < 1000; i++) {
        int port = next++, one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        at.sin_port = htons((uint16_t)port);
        assert_true(fd >= 0);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
        int taken = bind(fd, (struct sockaddr *)&at, sizeof at) != 0;
        close(fd);
        if (!taken)
            return port;
    }
    fail_msg("no free port");
    return 0;
}

/* ---- the log ---- */

/* What the log holds since the last start, NUL-terminated; the caller's. */
static char *read_log(const struct e2e *s)
{
    FILE *f = fopen(s->log, "r");
    char *text = NULL;
    size_t n = 0;

    if (f) {
        fseek(f, s->log_start, SEEK_SET);
        if (getdelim(&text, &n, 0, f) < 0 && text)
            text[0] = 0;
        fclose(f);
    }
    return text ? text : strdup("");
}

static void show_log(const struct e2e *s)
{
    char *text = read_log(s);
    size_t n = strlen(text);
    const char *from = n > LOG_SHOWN ? text + n - LOG_SHOWN : text;

    fprintf(stderr, "# ---- %s\n", s->log);
    for (const char *line = from; *line;) {
        size_t len = strcspn(line, "\n");
        fprintf(stderr, "# %.*s\n", (int)len, line);
        line += len + (line[len] == '\n');
    }
    fprintf(stderr, "# ----\n");
    free(text);
}

int e2e_log_has(const struct e2e *s, const char *text)
{
    char *log = read_log(s);
    int has = strstr(log, text) != NULL;
    free(log);
    return has;
}

void e2e_log_wait(const struct e2e *s, const char *text)
{
    struct e2e_deadline w = {.what = text};
    while (!e2e_log_has(s, text) && e2e_not_yet(&w)) {
    }
}

/* ---- programs ---- */

/* A server may close a connection at any time: one that was made while it was loading, for one. Writing is an error
 * then, as for its clients, and not the end of the test. */
__attribute__((constructor)) static void no_sigpipe(void)
{
    signal(SIGPIPE, SIG_IGN);
}

/* Forks and execs; the child's output goes to fd, which is closed here. */
static pid_t spawn(char **argv, int fd)
{
    pid_t parent = getpid(), pid;

    fflush(NULL);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_DFL);
        if (getppid() != parent)
            _exit(126);
        int null = open("/dev/null", O_RDONLY);
        dup2(null, STDIN_FILENO);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
        execvp(argv[0], argv);
        dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    close(fd);
    return pid;
}

static int await(pid_t pid)
{
    struct e2e_deadline w = {.what = "a process to end"};
    int status = 0;
    pid_t got;

    do {
        got = waitpid(pid, &status, WNOHANG);
        assert_true(got >= 0 || errno == EINTR);
    } while (got != pid && e2e_not_yet(&w));
    return status;
}

static int run_program(char *out, size_t n, char **argv)
{
    int fd[2];
    size_t have = 0;
    char rest[512];
    ssize_t got;

    assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
    pid_t pid = spawn(argv, fd[1]);
    struct pollfd readable = {.fd = fd[0], .events = POLLIN};
    do {
        int full = have + 1 >= n;
        if (poll(&readable, 1, E2E_SECONDS * 1000) == 0) {
            kill(pid, SIGKILL);
            got = 0;
        } else {
            got = read(fd[0], full ? rest : out + have, full ? sizeof rest : n - 1 - have);
            have += full || got < 0 ? 0 : (size_t)got;
        }
    } while (got > 0);
    out[have] = 0;
    close(fd[0]);
    return await(pid);
}

int e2e_run(char *out, size_t n, const char *program, ...)
{
    char *argv[E2E_ARGS + 2], path[4096];
    va_list ap;
    int argc = 1;

    snprintf(path, sizeof path, "%s", e2e_build_path(program));
    argv[0] = access(path, X_OK) == 0 ? path : (char *)(uintptr_t)program;
    va_start(ap, program);
    while (argc <= E2E_ARGS && (argv[argc] = va_arg(ap, char *)) != NULL)
        argc++;
    va_end(ap);
    assert_true(argc <= E2E_ARGS);
    return run_program(out, n, argv);
}

void e2e_shell(const char *fmt, ...)
{
    char said[512], command[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(command, sizeof command, fmt, ap);
    va_end(ap);
    if (e2e_run(said, sizeof said, "sh", "-c", command, NULL) != 0)
        fail_msg("%s: %s", command, said);
}

pid_t e2e_spawn(const char *log, const char *program, ...)
{
    char *argv[E2E_ARGS + 2] = {(char *)(uintptr_t)program};
    va_list ap;
    int argc = 1, fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    va_start(ap, program);
    while (argc <= E2E_ARGS && (argv[argc] = va_arg(ap, char *)) != NULL)
        argc++;
    va_end(ap);
    assert_true(argc <= E2E_ARGS);
    return spawn(argv, fd);
}

void e2e_end(pid_t pid)
{
    kill(pid, SIGKILL);
    await(pid);
}

static void must_run(const char *what, int status, const char *said)
{
    if (status != 0)
        fail_msg("%s: status %d: %s", what, status, said);
}

/* ---- directories ---- */

static void remove_dir(const char *dir)
{
    char said[512];
    assert_memory_equal(dir, "/tmp/coffer-e2e-", 16);
    must_run("rm", e2e_run(said, sizeof said, "rm", "-rf", dir, NULL), said);
}

static void remove_template(void)
{
    char *argv[] = {"rm", "-rf", template_dir, NULL};
    int status;
    pid_t pid = spawn(argv, dup(STDERR_FILENO));
    waitpid(pid, &status, 0);
}

static void make_template(void)
{
    char said[2048], hsm[E2E_PATH];

    snprintf(template_dir, sizeof template_dir, "/tmp/coffer-e2e-XXXXXX");
    assert_non_null(mkdtemp(template_dir));
    atexit(remove_template);
    join(hsm, sizeof hsm, template_dir, "hsm");
    must_run("provision", e2e_run(said, sizeof said, "coffer-hsm", "provision", hsm, NULL), said);
}

static void copy_template(const char *dir)
{
    char said[2048], from[E2E_PATH];

    if (!template_dir[0])
        make_template();
    join(from, sizeof from, template_dir, "hsm");
    must_run("cp", e2e_run(said, sizeof said, "cp", "-a", from, dir, NULL), said);
}

/* ---- servers ---- */

static void enlist(const struct e2e *s)
{
    for (int i = 0; i < SERVERS; i++) {
        if (!servers[i].s) {
            servers[i].s = s;
            servers[i].pid = 0;
            servers[i].paths = *s;
            return;
        }
    }
    fail_msg("more than %d servers", SERVERS);
}

static void set_pid(struct e2e *s, pid_t pid)
{
    s->pid = pid;
    for (int i = 0; i < SERVERS; i++) {
        if (servers[i].s == s)
            servers[i].pid = pid;
    }
}

static void strike(const struct e2e *s)
{
    for (int i = 0; i < SERVERS; i++) {
        if (servers[i].s == s)
            servers[i].s = NULL;
    }
}

static void free_args(struct e2e *s)
{
    for (int i = 0; i < E2E_ARGS; i++) {
        free(s->args[i]);
        s->args[i] = NULL;
    }
}

static void take_args(struct e2e *s, va_list ap)
{
    const char *arg, *previous = "";
    char number[16];

    free_args(s);
    for (int i = 0; (arg = va_arg(ap, const char *)) != NULL; previous = arg, i++) {
        assert_true(i < E2E_ARGS);
        int *port = strcmp(previous, "--port") == 0       ? &s->port
                    : strcmp(previous, "--tls-port") == 0 ? &s->tls_port
                                                          : NULL;
        if (port) {
            *port = strcmp(arg, "auto") == 0 ? e2e_free_port() : atoi(arg);
            snprintf(number, sizeof number, "%d", *port);
            arg = number;
        }
        s->args[i] = strdup(arg);
    }
}

static void command_line(const struct e2e *s, char **argv)
{
    static char path[4096];
    int n = 0;

    snprintf(path, sizeof path, "%s", e2e_build_path("coffer-server"));
    argv[n++] = path;
    argv[n++] = "--dir";
    argv[n++] = (char *)(uintptr_t)s->dir;
    argv[n++] = "--unixsocket";
    argv[n++] = (char *)(uintptr_t)s->socket;
    if (!s->port) {
        argv[n++] = "--port";
        argv[n++] = "0";
    }
    argv[n++] = "--hsm-timeout"; /* a worker that only waits for a core is none that hangs; a test may say otherwise */
    argv[n++] = "20000";
    for (int i = 0; i < E2E_ARGS && s->args[i]; i++)
        argv[n++] = s->args[i];
    argv[n] = NULL;
}

#define ARGV_MAX (E2E_ARGS + 10)

/* 1 when the server answers PING as one that is up does. One that wants a password says so before it has loaded; its
 * log tells then. */
static int answers(const struct e2e *s)
{
    redisContext *c = redisConnectUnix(s->socket);
    redisReply *r = NULL;
    int up = 0;

    if (c && !c->err) {
        redisSetTimeout(c, (struct timeval){.tv_sec = E2E_SECONDS});
        r = redisCommand(c, "PING");
        up = r && strncmp(r->str, "LOADING", 7) != 0;
        if (up && strncmp(r->str, "NOAUTH", 6) == 0)
            up = e2e_log_has(s, "Ready to accept connections");
    }
    if (r)
        freeReplyObject(r);
    if (c)
        redisFree(c);
    return up;
}

static void ended_early(struct e2e *s, int status)
{
    set_pid(s, 0);
    if (WIFSIGNALED(status))
        fail_msg("the server died of signal %d", WTERMSIG(status));
    fail_msg("the server ended with exit code %d", WEXITSTATUS(status));
}

static void await_ready(struct e2e *s)
{
    struct e2e_deadline w = {.what = "the server to answer PING"};
    int status;

    while (!answers(s)) {
        if (waitpid(s->pid, &status, WNOHANG) == s->pid)
            ended_early(s, status);
        e2e_not_yet(&w);
    }
    s->c = e2e_connect(s);
}

static void start_process(struct e2e *s)
{
    char *argv[ARGV_MAX];
    int log;

    assert_int_equal(s->pid, 0);
    command_line(s, argv);
    log = open(s->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    assert_true(log >= 0);
    s->log_start = lseek(log, 0, SEEK_END);
    set_pid(s, spawn(argv, log));
}

static void launch(struct e2e *s)
{
    start_process(s);
    await_ready(s);
}

static void make_dir(struct e2e *s)
{
    memset(s, 0, sizeof *s);
    snprintf(s->dir, sizeof s->dir, "/tmp/coffer-e2e-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    join(s->socket, sizeof s->socket, s->dir, "socket");
    join(s->log, sizeof s->log, s->dir, "log");
    enlist(s);
}

void e2e_start(struct e2e *s, ...)
{
    va_list ap;
    make_dir(s);
    copy_template(s->dir);
    va_start(ap, s);
    take_args(s, ap);
    va_end(ap);
    launch(s);
}

void e2e_begin(struct e2e *s, ...)
{
    va_list ap;
    make_dir(s);
    copy_template(s->dir);
    va_start(ap, s);
    take_args(s, ap);
    va_end(ap);
    start_process(s);
}

void e2e_begin_again(struct e2e *s)
{
    start_process(s);
}

void e2e_ready(struct e2e *s)
{
    await_ready(s);
}

void e2e_start_bare(struct e2e *s, ...)
{
    va_list ap;
    make_dir(s);
    va_start(ap, s);
    take_args(s, ap);
    va_end(ap);
    launch(s);
}

void e2e_again(struct e2e *s)
{
    launch(s);
}

void e2e_again_with(struct e2e *s, ...)
{
    va_list ap;
    va_start(ap, s);
    take_args(s, ap);
    va_end(ap);
    launch(s);
}

void e2e_again_killed(struct e2e *s, unsigned after_ms)
{
    struct timespec t = {.tv_sec = after_ms / 1000, .tv_nsec = after_ms % 1000 * 1000000L};

    start_process(s);
    nanosleep(&t, NULL);
    e2e_kill(s);
}

static void disconnect(struct e2e *s)
{
    if (s->c)
        redisFree(s->c);
    s->c = NULL;
}

int e2e_wait(struct e2e *s)
{
    int status;

    assert_true(s->pid > 0);
    status = await(s->pid);
    set_pid(s, 0);
    disconnect(s);
    return status;
}

/* What a sanitizer found in a worker, or in a server that was killed, shows in the log only. */
static void no_reports(const struct e2e *s)
{
    static const char *const marks[] = {"Sanitizer: ", "runtime error: "};

    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        if (e2e_log_has(s, marks[i]))
            fail_msg("a sanitizer's report is in %s", s->log);
    }
}

void e2e_kill(struct e2e *s)
{
    assert_true(s->pid > 0);
    kill(s->pid, SIGKILL);
    e2e_wait(s);
    no_reports(s);
}

void e2e_pause(struct e2e *s)
{
    int status;
    kill(s->pid, SIGSTOP);
    assert_int_equal(waitpid(s->pid, &status, WUNTRACED), s->pid);
    assert_true(WIFSTOPPED(status));
}

void e2e_stop(struct e2e *s)
{
    int status;

    assert_true(s->pid > 0);
    kill(s->pid, SIGTERM);
    status = e2e_wait(s);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        ended_early(s, status);
    no_reports(s);
}

void e2e_finish(struct e2e *s)
{
    if (s->pid)
        e2e_stop(s);
    free_args(s);
    strike(s);
    remove_dir(s->dir);
}

int e2e_teardown(void **state)
{
    int status;

    (void)state;
    for (int i = 0; i < SERVERS; i++) {
        if (!servers[i].s)
            continue;
        servers[i].s = NULL;
        show_log(&servers[i].paths);
        fprintf(stderr, "# left for a look: %s\n", servers[i].paths.dir);
        if (servers[i].pid && kill(servers[i].pid, SIGKILL) == 0)
            waitpid(servers[i].pid, &status, 0);
    }
    return 0;
}

int e2e_start_refused(struct e2e *s, char *out, size_t n)
{
    char *argv[ARGV_MAX];
    int status;

    command_line(s, argv);
    status = run_program(out, n, argv);
    if (!WIFEXITED(status))
        fail_msg("the second server ended with status %d: %s", status, out);
    return WEXITSTATUS(status);
}
