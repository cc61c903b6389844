/* test_dial.c - how often a dialer tries: the rule, and a dialer whose links fall at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/dial.h"

#define SECOND_US 1000000

static void await_pauses(struct dial_pace *p, enum dial_outcome last, uint64_t lived_us, const uint64_t *want_ms,
                         size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(dial_pause(p, last, lived_us), want_ms[i] * 1000);
}
#define PAUSES(p, last, lived_us, ...) \
    await_pauses(p, last, lived_us, (uint64_t[]){__VA_ARGS__}, sizeof((uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static void links_that_fall_at_once_are_waited_behind(void **state)
{
    struct dial_pace p = {0};
    (void)state;
    PAUSES(&p, DIAL_WELCOME, SECOND_US - 1, 20, 40, 80, 160, 320, 640, 1000, 1000);
    PAUSES(&p, DIAL_FAILED, 0, 20); /* a try that fails does not make it good */
    PAUSES(&p, DIAL_WELCOME, 0, 1000);
    PAUSES(&p, DIAL_WELCOME, SECOND_US, 20, 20); /* one that lived does */
    PAUSES(&p, DIAL_WELCOME, 0, 40);
}

static void tries_that_fail_are_waited_behind(void **state)
{
    struct dial_pace p = {0};
    (void)state;
    PAUSES(&p, DIAL_FAILED, 0, 20, 40, 80, 160, 200, 200);
    PAUSES(&p, DIAL_REFUSED, 0, 1000, 1000);
    PAUSES(&p, DIAL_FAILED, 0, 20, 40);
}

/* ---- a dialer ---- */

static struct {
    int listener;
    atomic_uint links;
    _Atomic uint64_t begun_us, ended_us; /* of LINKS links */
    struct hello_node here, there;
} t;

#define LINKS 7 /* 20 + 40 + 80 + 160 + 320 + 640 ms between them */

static void answer_one(int fd)
{
    char text[HELLO_TEXT_BYTES], welcome[HELLO_TEXT_BYTES + 16], in[4096];
    hello_put(&t.there, text);
    snprintf(welcome, sizeof welcome, "+CONTINUE %s\r\n", text);
    const char *const answers[] = {"+PONG\r\n", "+OK\r\n", "+OK\r\n", welcome};
    for (unsigned i = 0; i < 4; i++) { /* each command comes in one piece */
        if (recv(fd, in, sizeof in, 0) <= 0)
            break;
        (void)!send(fd, answers[i], strlen(answers[i]), MSG_NOSIGNAL);
    }
    close(fd);
}

static void *serve(void *arg)
{
    int fd;
    while ((fd = accept(t.listener, NULL, NULL)) >= 0)
        answer_one(fd);
    return arg;
}

static void fill_self(void *arg, struct dial_self *s)
{
    (void)arg;
    s->hello = t.here;
    s->port = 1;
}

static void drop_it(void *arg, struct dialer *d, const struct dial_result *r)
{
    struct sock sock = r->sock;
    (void)arg;
    if (r->outcome != DIAL_WELCOME)
        return;
    sock_close(&sock);
    dialer_again(d);
    unsigned n = atomic_fetch_add(&t.links, 1) + 1;
    if (n == 1)
        atomic_store(&t.begun_us, clock_mono_us());
    if (n == LINKS)
        atomic_store(&t.ended_us, clock_mono_us());
}

static int listen_somewhere(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    t.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(t.listener >= 0);
    assert_int_equal(bind(t.listener, (struct sockaddr *)&a, n), 0);
    assert_int_equal(listen(t.listener, 8), 0);
    assert_int_equal(getsockname(t.listener, (struct sockaddr *)&a, &n), 0);
    return ntohs(a.sin_port);
}

/* A time that is at least so long holds at any load. */
static void a_dialer_waits_behind_links_that_fall_at_once(void **state)
{
    struct dialer_config cfg = {.host = "127.0.0.1", .self = fill_self, .result = drop_it};
    struct dialer *d;
    pthread_t server;
    (void)state;
    t.here = t.there = (struct hello_node){.voters = "-", .index = -1, .has_cell = 1, .ready = 1};
    snprintf(t.here.run_id, sizeof t.here.run_id, "here");
    snprintf(t.there.run_id, sizeof t.there.run_id, "there");
    cfg.port = listen_somewhere();
    assert_int_equal(pthread_create(&server, NULL, serve, NULL), 0);
    assert_int_equal(dialer_new(&d, &cfg), ERR_OK);
    for (uint64_t end = clock_mono_us() + 60 * SECOND_US; !atomic_load(&t.ended_us) && clock_mono_us() < end;)
        usleep(10000);
    dialer_free(d);
    shutdown(t.listener, SHUT_RDWR);
    pthread_join(server, NULL);
    close(t.listener);
    assert_true(atomic_load(&t.links) >= LINKS);
    assert_true(atomic_load(&t.ended_us) - atomic_load(&t.begun_us) >= SECOND_US);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(links_that_fall_at_once_are_waited_behind),
        cmocka_unit_test(tries_that_fail_are_waited_behind),
        cmocka_unit_test(a_dialer_waits_behind_links_that_fall_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
