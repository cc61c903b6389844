/* objstore_fixture.h - a server that answers a client of the object store what a test has written down.
 *
 * A thread takes one connection after the other, reads one request from each, sends the next answer and closes. The
 * last answer is repeated. What was asked is kept, heads and bodies.
 */
#ifndef COFFER_TESTS_UNIT_OBJSTORE_FIXTURE_H
#define COFFER_TESTS_UNIT_OBJSTORE_FIXTURE_H

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/objstore.h"

#define ASKED_MAX 32
#define ASKED_BYTES 8192
#define SILENCE "silence" /* an answer: none, until the client goes away */

static struct {
    int listener, port;
    pthread_t thread;
    pthread_mutex_t lock;
    const char *const *answers;
    size_t count; /* of answers */
    size_t asked; /* requests so far */
    char heads[ASKED_MAX][ASKED_BYTES];
} canned = {.lock = PTHREAD_MUTEX_INITIALIZER};

static size_t read_head(int fd, char *head)
{
    size_t n = 0;
    while (n + 1 < ASKED_BYTES && !strstr(head, "\r\n\r\n")) {
        ssize_t got = recv(fd, head + n, ASKED_BYTES - 1 - n, 0);
        if (got <= 0)
            break;
        n += (size_t)got;
        head[n] = 0;
    }
    return n;
}

/* What of the body has not come with the head. Closing over unread bytes would reset the connection. */
static void read_rest(int fd, const char *head, size_t n)
{
    const char *length = strcasestr(head, "\r\nContent-Length:"), *end = strstr(head, "\r\n\r\n");
    size_t want = length ? strtoul(length + 17, NULL, 10) : 0, have = end ? n - (size_t)(end + 4 - head) : 0;
    char skipped[4096];

    while (have < want) {
        ssize_t got = recv(fd, skipped, sizeof skipped, 0);
        if (got <= 0)
            break;
        have += (size_t)got;
    }
}

static void send_whole(int fd, const char *p)
{
    for (size_t n = strlen(p); n;) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        p += sent;
        n -= (size_t)sent;
    }
}

static void serve_one(int fd)
{
    static char head[ASKED_BYTES];
    char rest[64];

    head[0] = 0;
    size_t n = read_head(fd, head);
    if (n == 0)
        return;
    read_rest(fd, head, n);
    pthread_mutex_lock(&canned.lock);
    if (canned.asked < ASKED_MAX)
        memcpy(canned.heads[canned.asked], head, ASKED_BYTES);
    const char *answer = canned.answers[canned.asked < canned.count ? canned.asked : canned.count - 1];
    canned.asked++;
    pthread_mutex_unlock(&canned.lock);
    if (strcmp(answer, SILENCE) != 0)
        send_whole(fd, answer);
    else
        while (recv(fd, rest, sizeof rest, 0) > 0) {
        }
}

static void *canned_main(void *arg)
{
    for (;;) {
        int fd = accept(canned.listener, NULL, NULL);
        if (fd < 0)
            return arg;
        serve_one(fd);
        shutdown(fd, SHUT_WR);
        close(fd);
    }
}

static void canned_start(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;

    canned.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(canned.listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(canned.listener, 64), 0);
    assert_int_equal(getsockname(canned.listener, (struct sockaddr *)&at, &n), 0);
    canned.port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&canned.thread, NULL, canned_main, NULL), 0);
}

static void canned_stop(void)
{
    shutdown(canned.listener, SHUT_RDWR);
    pthread_join(canned.thread, NULL);
    close(canned.listener);
}

/* From now on these are the answers. */
static void canned_answers(const char *const *answers, size_t count)
{
    pthread_mutex_lock(&canned.lock);
    canned.answers = answers;
    canned.count = count;
    canned.asked = 0;
    pthread_mutex_unlock(&canned.lock);
}
#define ANSWERS(...) \
    canned_answers((const char *const[]){__VA_ARGS__}, sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *))

static size_t canned_asked(void)
{
    pthread_mutex_lock(&canned.lock);
    size_t n = canned.asked;
    pthread_mutex_unlock(&canned.lock);
    return n;
}

#endif
