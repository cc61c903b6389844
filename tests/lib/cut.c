/* cut.c - see cut.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/cut.h"
#include "tests/lib/e2e.h"

static int send_all(int fd, const char *p, size_t n)
{
    while (n) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent <= 0)
            return 0;
        p += sent;
        n -= (size_t)sent;
    }
    return 1;
}

static void made_one(struct cut *c)
{
    c->made++;
    c->times--;
    c->up_left = c->times ? c->up : -1;
    c->down_left = c->times ? c->down : -1;
}

/* How many of n bytes may pass; fewer: then comes the cut. */
static size_t allowed(struct cut *c, int to_server, const char *p, size_t n)
{
    long *left = to_server ? &c->up_left : &c->down_left;

    pthread_mutex_lock(&c->lock);
    if (to_server && c->before[0] && memmem(p, n, c->before, strlen(c->before))) {
        c->before[0] = 0;
        c->down_left = 0;
    }
    if (c->times && *left >= 0) {
        if ((size_t)*left < n && c->hold) {
            for (c->holding = 1; c->hold;)
                pthread_cond_wait(&c->go, &c->lock);
            c->holding = 0;
        } else if ((size_t)*left < n) {
            n = (size_t)*left;
            made_one(c);
        } else {
            *left -= (long)n;
        }
    }
    pthread_mutex_unlock(&c->lock);
    return n;
}

/* Hands on what one side has sent; 0: the connection is over. */
static int pass(struct cut *c, int from, int to, int to_server)
{
    char bytes[16384];
    ssize_t n = recv(from, bytes, sizeof bytes, 0);
    if (n <= 0)
        return 0;
    size_t may = allowed(c, to_server, bytes, (size_t)n);
    return send_all(to, bytes, may) && may == (size_t)n;
}

static void serve(struct cut *c, int client)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    at.sin_port = htons((uint16_t)c->to_port);
    on = connect(server, (struct sockaddr *)&at, sizeof at) == 0;
    while (on) {
        struct pollfd fds[] = {{.fd = client, .events = POLLIN},
                               {.fd = server, .events = POLLIN},
                               {.fd = c->wake, .events = POLLIN},
                               {.fd = c->listener, .events = POLLIN}};
        poll(fds, 4, -1);
        if (fds[2].revents || fds[3].revents)
            break;
        if (fds[0].revents)
            on = pass(c, client, server, 1);
        if (on && fds[1].revents)
            on = pass(c, server, client, 0);
    }
    close(server);
}

static void *cut_main(void *arg)
{
    struct cut *c = arg;

    for (;;) {
        struct pollfd fds[] = {{.fd = c->listener, .events = POLLIN}, {.fd = c->wake, .events = POLLIN}};
        poll(fds, 2, -1);
        if (fds[1].revents)
            return NULL;
        int client = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0)
            continue;
        serve(c, client);
        close(client);
    }
}

void cut_start(struct cut *c, int to_port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;

    memset(c, 0, sizeof *c);
    c->to_port = to_port;
    c->up_left = c->down_left = -1;
    c->port = e2e_free_port();
    c->wake = eventfd(0, EFD_CLOEXEC);
    c->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(c->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    at.sin_port = htons((uint16_t)c->port);
    assert_int_equal(bind(c->listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(c->listener, 16), 0);
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->go, NULL);
    assert_int_equal(pthread_create(&c->thread, NULL, cut_main, c), 0);
}

void cut_stop(struct cut *c)
{
    uint64_t one = 1;

    cut_release(c);
    assert_int_equal(write(c->wake, &one, sizeof one), sizeof one);
    pthread_join(c->thread, NULL);
    close(c->listener);
    close(c->wake);
    pthread_cond_destroy(&c->go);
    pthread_mutex_destroy(&c->lock);
}

void cut_after(struct cut *c, unsigned times, long up, long down)
{
    pthread_mutex_lock(&c->lock);
    c->times = times;
    c->made = 0;
    c->up = c->up_left = up;
    c->down = c->down_left = down;
    c->before[0] = 0;
    pthread_mutex_unlock(&c->lock);
}

void cut_answer(struct cut *c, const char *text)
{
    pthread_mutex_lock(&c->lock);
    c->times = 1;
    c->made = 0;
    c->up = c->up_left = c->down = c->down_left = -1;
    strncpy(c->before, text, sizeof c->before - 1);
    pthread_mutex_unlock(&c->lock);
}

void cut_hold(struct cut *c, long up, long down)
{
    cut_after(c, 1, up, down);
    pthread_mutex_lock(&c->lock);
    c->hold = 1;
    pthread_mutex_unlock(&c->lock);
}

int cut_holding(struct cut *c)
{
    pthread_mutex_lock(&c->lock);
    int holding = c->holding;
    pthread_mutex_unlock(&c->lock);
    return holding;
}

void cut_release(struct cut *c)
{
    pthread_mutex_lock(&c->lock);
    c->hold = 0;
    c->times = 0;
    pthread_cond_signal(&c->go);
    pthread_mutex_unlock(&c->lock);
}

void cut_break(struct cut *c)
{
    pthread_mutex_lock(&c->lock);
    c->hold = 0;
    c->up_left = c->down_left = 0;
    pthread_cond_signal(&c->go);
    pthread_mutex_unlock(&c->lock);
}

unsigned cut_made(struct cut *c)
{
    pthread_mutex_lock(&c->lock);
    unsigned made = c->made;
    pthread_mutex_unlock(&c->lock);
    return made;
}
