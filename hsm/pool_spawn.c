/* pool_spawn.c - worker processes as the system sees them; declared in pool_impl.h.
 *
 * posix_spawn, never fork: the server has threads and secrets, and a child of a plain fork would carry all of it until
 * its exec. The child gets an end of a socketpair as descriptor 3, /dev/null as input, the server's output and error
 * output for last words, and nothing else. It leads a process group of its own, so that a ^C in the server's terminal
 * does not take the HSM away from a server that still finishes its work. Signal mask and dispositions are the default
 * ones.
 *
 * The environment is a short list: a PKCS#11 module is foreign code, what it need not know it does not get.
 * COFFER_HSM_PIN is left out by name: the PIN goes through the socket.
 *
 * Rejected: a SIGCHLD handler (the signal is the server's); waiting for any child (would steal the server's others).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "hsm/pool_impl.h"

#define SOCKET_BYTES (1 << 20)

extern char **environ;

/* ---- environment ---- */

/* Names, or beginnings of names where the last character is '*'. */
static const char *const passed[] = {
    "PATH",
    "HOME", /* modules look for their configuration there */
    "SOFTHSM2_CONF",
    "COFFER_*",
    "P11FAULT*", /* tests/shim */
    "ASAN_OPTIONS",
    "LSAN_OPTIONS",
    "TSAN_OPTIONS",
    "UBSAN_OPTIONS",
    /* Where vendors' modules are told of their device. */
    "ChrystokiConfigurationPath", /* Luna */
    "CS_PKCS11_*",                /* Utimaco */
    "NFAST_*",                    /* nShield */
    "CKNFAST_*",
    "YUBIHSM_PKCS11_CONF",
};
/* The server's own, whatever the list above says. */
static const char *const kept[] = {"COFFER_HSM_PIN", "COFFER_FAULT"};

static int name_is(const char *var, const char *pattern)
{
    size_t n = strlen(pattern);

    if (pattern[n - 1] == '*')
        return strncmp(var, pattern, n - 1) == 0;
    return strncmp(var, pattern, n) == 0 && var[n] == '=';
}

static int is_passed(const char *var, const char *softhsm_conf)
{
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (name_is(var, kept[i]))
            return 0;
    if (softhsm_conf && name_is(var, "SOFTHSM2_CONF"))
        return 0;
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
        if (name_is(var, passed[i]))
            return 1;
    return 0;
}

/* "name=value", or the name alone when value is NULL. */
static char *variable(const char *name, const char *value)
{
    size_t n = strlen(name) + (value ? strlen(value) + 1 : 0) + 1;
    char *s = mem_alloc(n);

    if (s)
        snprintf(s, n, "%s%s%s", name, value ? "=" : "", value ? value : "");
    return s;
}

void pool_env_free(char **env)
{
    for (char **v = env; v && *v; v++)
        mem_free(*v);
    mem_free(env);
}

char **pool_env_new(const char *softhsm_conf)
{
    size_t n = 0, used = 0;
    char **env;

    for (char **v = environ; v && *v; v++)
        n += (size_t)is_passed(*v, softhsm_conf);
    env = mem_zalloc((n + 2) * sizeof *env);
    if (!env)
        return NULL;
    if (softhsm_conf && !(env[used++] = variable("SOFTHSM2_CONF", softhsm_conf)))
        goto fail;
    for (char **v = environ; v && *v && n > 0; v++) {
        if (!is_passed(*v, softhsm_conf))
            continue;
        n--;
        if (!(env[used++] = variable(*v, NULL)))
            goto fail;
    }
    return env;
fail:
    pool_env_free(env);
    return NULL;
}

/* ---- process ---- */

static int spawn_child(const char *worker_path, char **env, int child_fd, pid_t *pid)
{
    char worker[] = "worker", fd_arg[] = "3";
    char *argv[] = {(char *)(uintptr_t)worker_path, worker, fd_arg, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int error;

    sigemptyset(&none);
    sigfillset(&all);
    error = posix_spawn_file_actions_init(&actions);
    if (error)
        return error;
    error = posix_spawnattr_init(&attr);
    if (error)
        goto out_actions;
    error = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (!error)
        error = posix_spawnattr_setsigmask(&attr, &none);
    if (!error)
        error = posix_spawnattr_setsigdefault(&attr, &all);
    if (!error)
        error = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (!error)
        error = posix_spawn_file_actions_adddup2(&actions, child_fd, 3);
    if (!error)
        error = posix_spawn_file_actions_addclosefrom_np(&actions, 4);
    if (!error)
        error = posix_spawn(pid, worker_path, &actions, &attr, argv, env);
    posix_spawnattr_destroy(&attr);
out_actions:
    posix_spawn_file_actions_destroy(&actions);
    return error;
}

enum err pool_spawn(const char *worker_path, char **env, pid_t *pid, int *fd, int *pidfd, int *error)
{
    int sv[2], bytes = SOCKET_BYTES;

    *pid = -1;
    *fd = *pidfd = -1;
    *error = 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) != 0) {
        *error = errno;
        return ERR_IO;
    }
    for (int i = 0; i < 2; i++) /* as much of it as the system allows: a batch should go in one write */
        (void)setsockopt(sv[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    if (fcntl(sv[0], F_SETFL, O_NONBLOCK) != 0)
        *error = errno;
    else
        *error = spawn_child(worker_path, env, sv[1], pid);
    close(sv[1]);
    if (*error) {
        *pid = -1;
        close(sv[0]);
        return ERR_IO;
    }
    *fd = sv[0];
    *pidfd = pidfd_open(*pid, 0);
    return ERR_OK;
}

uint64_t pool_rss_bytes(pid_t pid)
{
    char path[64], line[128];
    unsigned long long total, resident;
    size_t got = 0;
    int fd;

    snprintf(path, sizeof path, "/proc/%ld/statm", (long)pid);
    if (file_open(path, O_RDONLY, 0, &fd) != ERR_OK)
        return 0;
    if (file_pread(fd, line, sizeof line - 1, 0, &got) != ERR_OK)
        got = 0;
    if (file_close(fd) != ERR_OK)
        return 0;
    line[got] = 0;
    if (sscanf(line, "%llu %llu", &total, &resident) != 2)
        return 0;
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- PIN ---- */

/* systemd puts credentials into a directory that only the service may enter, but as files whose mode shows the mask of
 * an ACL. */
static int is_credential(const char *path)
{
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    size_t n = dir ? strlen(dir) : 0;

    return n > 0 && strncmp(path, dir, n) == 0 && path[n] == '/';
}

enum err pool_read_pin(const char *path, struct buf *out)
{
    struct stat st;
    uint8_t *room = NULL;
    size_t got = 0;
    int fd;
    enum err e = file_open(path, O_RDONLY, 0, &fd);

    if (e != ERR_OK)
        return e;
    if (fstat(fd, &st) != 0)
        e = ERR_IO;
    else if (st.st_mode & (is_credential(path) ? 007 : 077))
        e = ERR_NOPERM;
    if (e == ERR_OK)
        e = buf_reserve(out, POOL_PIN_MAX, &room);
    if (e == ERR_OK)
        e = file_pread(fd, room, POOL_PIN_MAX, 0, &got);
    if (file_close(fd) != ERR_OK && e == ERR_OK)
        e = ERR_IO;
    if (e != ERR_OK)
        return e;
    buf_added(out, got);
    if (got == POOL_PIN_MAX)
        return ERR_RANGE;
    while (got > 0 && (room[got - 1] == '\n' || room[got - 1] == '\r'))
        got--;
    buf_truncate(out, got);
    return got ? ERR_OK : ERR_RANGE;
}
