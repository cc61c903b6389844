/* hsm_fakeworker.h - a worker without an HSM: the test program itself, executed again as `<test> worker 3`.
 *
 * The "module" setting names a directory through which the test and its workers talk:
 *
 *     start     how START is answered: ok (also when the file is missing), pin, notfound, down, unsupported, hang,
 *               crash, garbage, exit12, linger (closes the socket, exits with 12 once there is a file "go")
 *     probe     how PROBE is answered: ok, down, pin (answers, then exits as a worker does whose PIN was refused)
 *     realm     the realm in START's answer
 *     starts    written here: one line "pid pin" for each START
 *     world     written here, if there is a file "want-world": what the worker sees of environment and descriptors
 *
 * Any other request is answered by "pid text" in each part, text being its last part, unless that text is a command:
 *
 *     gate NAME       waits until the file NAME is there
 *     sleep MS        takes its time
 *     hang, crash     for ever, by a signal
 *     once NAME CMD   does CMD when the file NAME is not there yet, and makes it
 *     exit N          exits
 *     error N TEXT    answers an error
 *     length N        answers N bytes of text
 *     objects N       INFO tells of so many objects from now on
 *     grow MIB        takes memory
 *     bytes           writes nonsense instead of a frame
 *     long            a frame with a length over the limit
 *     parts           one part too many
 *     id              another request's id
 *     code            an error code that does not exist
 */
#ifndef COFFER_TESTS_HSM_FAKEWORKER_H
#define COFFER_TESTS_HSM_FAKEWORKER_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "hsm/proto.h"
#include "hsm/worker.h"

struct fake {
    int fd;
    char dir[200];
    struct buf out;
    unsigned long objects;
};

static inline void fake_path(char out[512], const char *dir, const char *name)
{
    snprintf(out, 512, "%s/%s", dir, name);
}

/* The file's first word; "" when it is not there. */
static inline void fake_read(const char *dir, const char *name, char out[64])
{
    char path[512];
    FILE *f;

    out[0] = 0;
    fake_path(path, dir, name);
    f = fopen(path, "r");
    if (!f)
        return;
    if (fscanf(f, "%63s", out) != 1)
        out[0] = 0;
    fclose(f);
}

static inline int fake_exists(const char *dir, const char *name)
{
    char path[512];
    fake_path(path, dir, name);
    return access(path, F_OK) == 0;
}

/* One write, so that lines of several workers do not mix. */
static inline void fake_append(const char *dir, const char *name, const char *line)
{
    char path[512];
    int fd;

    fake_path(path, dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, strlen(line)) != (ssize_t)strlen(line))
        abort();
    close(fd);
}

static inline void fake_hang(void)
{
    for (;;)
        pause();
}

static inline void fake_flush(struct fake *w)
{
    while (buf_size(&w->out) > 0) {
        ssize_t n = write(w->fd, buf_data(&w->out), buf_size(&w->out));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            exit(WORKER_EXIT_EOF); /* the pool has closed */
        buf_consume(&w->out, (size_t)n);
    }
}

static inline void fake_answer(struct fake *w, uint32_t id, uint16_t code, const struct bytes *part, unsigned parts)
{
    if (proto_put(&w->out, id, code, part, parts) != ERR_OK)
        abort();
}

static inline void fake_error(struct fake *w, uint32_t id, enum err e, const char *text)
{
    struct bytes part = bytes_str(text);
    fake_answer(w, id, (uint16_t)e, &part, 1);
}

static inline void fake_raw(struct fake *w, const void *p, size_t n)
{
    if (buf_put(&w->out, p, n) != ERR_OK)
        abort();
}

/* What the test wants to know of a worker's surroundings: "env NAME" and "fd N" lines. */
static inline void fake_world(const char *dir)
{
    extern char **environ;
    char line[300];
    DIR *d = opendir("/proc/self/fd");

    for (char **v = environ; *v; v++) {
        snprintf(line, sizeof line, "env %.250s\n", *v);
        fake_append(dir, "world", line);
    }
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.' || atoi(e->d_name) == dirfd(d))
            continue;
        snprintf(line, sizeof line, "fd %.100s\n", e->d_name);
        fake_append(dir, "world", line);
    }
    if (d)
        closedir(d);
}

static inline void fake_start(struct fake *w, const struct hsm_frame *f)
{
    struct bytes dir = proto_get_setting(f->part[0], "module"), pin = proto_get_setting(f->part[0], "pin");
    struct bytes token = proto_get_setting(f->part[0], "token"), cache = proto_get_setting(f->part[0], "key-cache"),
                 info;
    char line[300], how[64], realm[64];

    snprintf(w->dir, sizeof w->dir, "%.*s", (int)dir.n, (const char *)dir.p);
    if (fake_exists(w->dir, "want-world"))
        fake_world(w->dir);
    snprintf(line, sizeof line, "%ld %.*s\n", (long)getpid(), (int)pin.n, (const char *)pin.p);
    fake_read(w->dir, "start", how);
    fake_read(w->dir, "realm", realm);
    fake_append(w->dir, "starts", line); /* whoever sees it may change what the next one reads */
    if (!how[0] || strcmp(how, "ok") == 0) {
        snprintf(line, sizeof line, "module:fake\ntoken:%.*s\nkey-cache:%.*s\nrealm:%s\n", (int)token.n,
                 (const char *)token.p, (int)cache.n, (const char *)cache.p,
                 realm[0] ? realm : "00112233445566778899aabbccddeeff");
        info = bytes_str(line);
        fake_answer(w, f->id, ERR_OK, &info, 1);
    } else if (strcmp(how, "pin") == 0) {
        fake_error(w, f->id, ERR_WRONGPASS, "C_Login: CKR_PIN_INCORRECT");
        fake_flush(w);
        exit(WORKER_EXIT_PIN);
    } else if (strcmp(how, "notfound") == 0) {
        fake_error(w, f->id, ERR_NOTFOUND, "no such token");
        fake_flush(w);
        exit(WORKER_EXIT_CONFIG);
    } else if (strcmp(how, "unsupported") == 0) {
        fake_error(w, f->id, ERR_UNSUPPORTED, "CKM_AES_KEY_WRAP_PAD is missing");
        fake_flush(w);
        exit(WORKER_EXIT_CONFIG);
    } else if (strcmp(how, "down") == 0) {
        fake_error(w, f->id, ERR_HSMDOWN, "C_Initialize: CKR_DEVICE_ERROR");
        fake_flush(w);
        exit(WORKER_EXIT_DEVICE);
    } else if (strcmp(how, "garbage") == 0) {
        fake_raw(w, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    } else if (strcmp(how, "exit12") == 0) {
        exit(WORKER_EXIT_PIN);
    } else if (strcmp(how, "linger") == 0) {
        close(w->fd);
        while (!fake_exists(w->dir, "go"))
            usleep(500);
        exit(WORKER_EXIT_PIN);
    } else if (strcmp(how, "hang") == 0) {
        fake_hang();
    } else {
        raise(SIGKILL);
    }
}

static inline void fake_probe(struct fake *w, uint32_t id)
{
    char how[64];

    fake_read(w->dir, "probe", how);
    if (strcmp(how, "pin") == 0) {
        fake_error(w, id, ERR_HSMDOWN, "C_Login: CKR_PIN_LOCKED");
        fake_flush(w);
        exit(WORKER_EXIT_PIN);
    }
    if (strcmp(how, "down") == 0)
        fake_error(w, id, ERR_HSMDOWN, "C_GetTokenInfo: CKR_DEVICE_REMOVED");
    else
        fake_answer(w, id, ERR_OK, NULL, 0);
}

static inline void fake_echo(struct fake *w, const struct hsm_frame *f, struct bytes text, unsigned more_parts)
{
    struct bytes part[HSM_PARTS_MAX];
    size_t n = text.n + 32;
    char *line = malloc(n);
    int head;

    if (!line)
        abort();
    head = snprintf(line, n, "%ld ", (long)getpid());
    if (text.n)
        memcpy(line + head, text.p, text.n);
    for (unsigned i = 0; i < HSM_PARTS_MAX; i++)
        part[i] = bytes_of(line, (size_t)head + text.n);
    fake_answer(w, f->id, ERR_OK, part, hsm_ops[f->code].parts_out + more_parts);
    free(line);
}

static inline void fake_length(struct fake *w, const struct hsm_frame *f, size_t n)
{
    char *p = malloc(n + 1);

    if (!p)
        abort();
    memset(p, 'x', n);
    fake_echo(w, f, bytes_of(p, n), 0);
    free(p);
}

static inline int fake_is(const char *cmd, const char *word, const char **rest)
{
    size_t n = strlen(word);

    if (strncmp(cmd, word, n) != 0 || (cmd[n] && cmd[n] != ' '))
        return 0;
    *rest = cmd[n] ? cmd + n + 1 : cmd + n;
    return 1;
}

static inline void fake_command(struct fake *w, const struct hsm_frame *f, const char *cmd, struct bytes text)
{
    static char *grown; /* reachable, so no leak */
    const char *rest;
    char name[64];
    uint32_t long_frame[3] = {HSM_FRAME_MAX, f->id, 0};
    struct bytes none[1] = {{NULL, 0}};

    if (fake_is(cmd, "gate", &rest)) {
        fake_flush(w);
        while (!fake_exists(w->dir, rest))
            usleep(500);
    } else if (fake_is(cmd, "sleep", &rest)) {
        fake_flush(w);
        usleep((useconds_t)atoi(rest) * 1000);
    } else if (fake_is(cmd, "hang", &rest)) {
        fake_flush(w);
        fake_hang();
    } else if (fake_is(cmd, "crash", &rest)) {
        fake_flush(w);
        raise(SIGKILL);
    } else if (fake_is(cmd, "once", &rest)) {
        const char *space = strchr(rest, ' ');
        snprintf(name, sizeof name, "%.*s", (int)(space - rest), rest);
        if (!fake_exists(w->dir, name)) {
            fake_append(w->dir, name, "x");
            fake_command(w, f, space + 1, text);
            return;
        }
    } else if (fake_is(cmd, "exit", &rest)) {
        fake_flush(w);
        exit(atoi(rest));
    } else if (fake_is(cmd, "error", &rest)) {
        fake_error(w, f->id, (enum err)atoi(rest), strchr(rest, ' ') ? strchr(rest, ' ') + 1 : "");
        return;
    } else if (fake_is(cmd, "length", &rest)) {
        fake_length(w, f, (size_t)atol(rest));
        return;
    } else if (fake_is(cmd, "objects", &rest)) {
        w->objects = (unsigned long)atol(rest);
    } else if (fake_is(cmd, "grow", &rest)) {
        grown = malloc((size_t)atol(rest) << 20);
        if (grown)
            memset(grown, 1, (size_t)atol(rest) << 20);
    } else if (fake_is(cmd, "bytes", &rest)) {
        fake_raw(w, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
        return;
    } else if (fake_is(cmd, "long", &rest)) {
        fake_raw(w, long_frame, sizeof long_frame);
        return;
    } else if (fake_is(cmd, "parts", &rest)) {
        fake_echo(w, f, text, 1);
        return;
    } else if (fake_is(cmd, "id", &rest)) {
        fake_answer(w, f->id + 1000, ERR_OK, none, 1);
        return;
    } else if (fake_is(cmd, "code", &rest)) {
        fake_answer(w, f->id, 60000, none, 1);
        return;
    }
    fake_echo(w, f, text, 0);
}

static inline void fake_request(struct fake *w, const struct hsm_frame *f)
{
    char line[64], cmd[128];
    struct bytes text;

    if (f->code >= HSM_OPS || f->parts != hsm_ops[f->code].parts_in)
        exit(WORKER_EXIT_PROTOCOL);
    if (f->code == HSM_START) {
        fake_start(w, f);
    } else if (f->code == HSM_PROBE) {
        fake_probe(w, f->id);
    } else if (f->code == HSM_INFO) {
        snprintf(line, sizeof line, "keys-cached:0\nobjects-made:%lu\n", w->objects);
        text = bytes_str(line);
        fake_answer(w, f->id, ERR_OK, &text, 1);
    } else {
        text = f->part[f->parts - 1];
        snprintf(cmd, sizeof cmd, "%.*s", (int)(text.n < 100 ? text.n : 100), text.n ? (const char *)text.p : "");
        fake_command(w, f, cmd, text);
    }
}

static inline int fake_worker_main(int fd)
{
    struct fake w = {.fd = fd};
    struct buf in;
    struct hsm_frame f;
    uint8_t *room;
    size_t used;
    ssize_t n;

    buf_init(&in, 3 * (size_t)HSM_FRAME_MAX);
    buf_init(&w.out, 64 * (size_t)HSM_FRAME_MAX);
    for (;;) {
        if (buf_reserve(&in, 65536, &room) != ERR_OK)
            abort();
        n = read(fd, room, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        buf_added(&in, (size_t)n);
        while (buf_size(&in) > 0) {
            enum err e = proto_get(buf_bytes(&in), &f, &used);
            if (e == ERR_AGAIN)
                break;
            if (e != ERR_OK)
                exit(WORKER_EXIT_PROTOCOL);
            fake_request(&w, &f);
            buf_consume(&in, used);
        }
        fake_flush(&w);
    }
    buf_fini(&in);
    buf_fini(&w.out);
    return WORKER_EXIT_EOF;
}

#endif
