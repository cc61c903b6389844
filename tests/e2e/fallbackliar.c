/* replica-read-fallback, and a primary that answers what it was not asked: here it is a thread of this program, which
 * knows just enough of a primary for its replica to ask it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/e2e.h"

#define CONNS 16

/* What it answers to REPL.READ: a number that is so much too high, and these bytes; NULL: nothing, until there is
 * another lie. */
struct lie {
    int number;
    const char *bytes;
};

static struct liar {
    pthread_t thread;
    int listener, port;
    struct {
        int fd;
        redisReader *reader;
    } conn[CONNS];
    int owed_fd; /* 0: none */
    long long owed;
    _Atomic(const struct lie *) lie;
    _Atomic int over, reads, open;
} liar;

static const struct lie honest = {.bytes = "$3\r\nnew\r\n"};

static void say(int fd, const char *text)
{
    (void)!send(fd, text, strlen(text), MSG_NOSIGNAL);
}

static void answer_read(int fd, long long number)
{
    const struct lie *lie = atomic_load(&liar.lie);
    char text[256];
    liar.owed_fd = lie->bytes ? 0 : fd;
    liar.owed = number;
    if (!lie->bytes)
        return;
    snprintf(text, sizeof text, "*3\r\n:%lld\r\n:1\r\n$%zu\r\n%s\r\n", number + lie->number, strlen(lie->bytes),
             lie->bytes);
    say(fd, text);
}

static void answer(int fd, const redisReply *r)
{
    const char *name = r->type == REDIS_REPLY_ARRAY && r->elements ? r->element[0]->str : "";
    if (strcmp(name, "PING") == 0)
        say(fd, "+PONG\r\n");
    else if (strcmp(name, "REPL.READ") != 0)
        say(fd, "-ERR that is all\r\n");
    else {
        atomic_fetch_add(&liar.reads, 1);
        answer_read(fd, atoll(r->element[2]->str));
    }
}

static void serve(unsigned i)
{
    char bytes[4096];
    void *r;
    ssize_t n = recv(liar.conn[i].fd, bytes, sizeof bytes, 0);
    if (n <= 0) {
        close(liar.conn[i].fd);
        redisReaderFree(liar.conn[i].reader);
        liar.conn[i].reader = NULL;
        atomic_fetch_sub(&liar.open, 1);
        return;
    }
    redisReaderFeed(liar.conn[i].reader, bytes, (size_t)n);
    while (redisReaderGetReply(liar.conn[i].reader, &r) == REDIS_OK && r) {
        answer(liar.conn[i].fd, r);
        freeReplyObject(r);
    }
}

static void take(void)
{
    int fd = accept(liar.listener, NULL, NULL);
    for (unsigned i = 0; i < CONNS; i++)
        if (!liar.conn[i].reader) {
            liar.conn[i].fd = fd;
            liar.conn[i].reader = redisReaderCreate();
            atomic_fetch_add(&liar.open, 1);
            return;
        }
    close(fd);
}

static void *run(void *arg)
{
    (void)arg;
    while (!atomic_load(&liar.over)) {
        struct pollfd p[CONNS + 1] = {{.fd = liar.listener, .events = POLLIN}};
        for (unsigned i = 0; i < CONNS; i++)
            p[i + 1] = (struct pollfd){.fd = liar.conn[i].reader ? liar.conn[i].fd : -1, .events = POLLIN};
        poll(p, CONNS + 1, 20);
        if (p[0].revents)
            take();
        if (liar.owed_fd)
            answer_read(liar.owed_fd, liar.owed);
        for (unsigned i = 0; i < CONNS; i++)
            if (p[i + 1].revents)
                serve(i);
    }
    return NULL;
}

static void liar_start(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    memset(&liar, 0, sizeof liar);
    atomic_store(&liar.lie, &honest);
    liar.listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(liar.listener, (struct sockaddr *)&at, n), 0);
    assert_int_equal(listen(liar.listener, CONNS), 0);
    assert_int_equal(getsockname(liar.listener, (struct sockaddr *)&at, &n), 0);
    liar.port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&liar.thread, NULL, run, NULL), 0);
}

static int liar_end(void **state)
{
    if (liar.port) {
        atomic_store(&liar.over, 1);
        pthread_join(liar.thread, NULL);
        for (unsigned i = 0; i < CONNS; i++)
            if (liar.conn[i].reader) {
                close(liar.conn[i].fd);
                redisReaderFree(liar.conn[i].reader);
            }
        close(liar.listener);
        liar.port = 0;
    }
    return e2e_teardown(state);
}

/* b, which was a replica of a, believes that the liar is its primary. */
static void start_believer(struct e2e *a, struct e2e *b)
{
    char port[16];
    e2e_start(a, "--port", "auto", NULL);
    e2e_expect(a->c, "+OK", "SET old 1");
    snprintf(port, sizeof port, "%d", a->port);
    e2e_start(b, "--port", "auto", "--replicaof", "127.0.0.1", port, NULL);
    e2e_info_wait(b->c, "master_link_status", "up");
    e2e_expect(b->c, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(a->c, "CLIENT LASTLSN"));
    e2e_stop(b);
    liar_start();
    snprintf(port, sizeof port, "%d", liar.port);
    e2e_again_with(b, "--port", "auto", "--io-threads", "1", "--replicaof", "127.0.0.1", port, "--quorum-timeout",
                   "30000", "--replica-read-fallback", "yes", NULL);
    e2e_info_wait(b->c, "loading", "0");
}

static void expect_next(struct e2e_raw *raw, const char *want)
{
    const struct answer *a = e2e_raw_next(raw);
    assert_non_null(a);
    char *text = e2e_show_answer(a);
    assert_string_equal(text, want);
    free(text);
}

/* Nobody asks for a second behind trouble. */
static void until_it_is_asked(struct e2e *b, const char *want)
{
    int before = atomic_load(&liar.reads);
    for (struct e2e_deadline w = {.what = "the primary is asked"}; e2e_not_yet(&w);) {
        redisReply *r = e2e_command(b->c, "GET new");
        int asked = atomic_load(&liar.reads) > before;
        char *text = e2e_show_reply(r);
        assert_string_equal(text, asked ? want : "nil");
        free(text);
        freeReplyObject(r);
        if (asked)
            break;
    }
}

static void an_answer_to_another_question_is_none(void **state)
{
    static const struct lie other = {.number = -1, .bytes = "$5\r\nother\r\n"};
    struct e2e a, b;
    (void)state;
    start_believer(&a, &b);
    e2e_expect(b.c, "$1", "GET old");
    until_it_is_asked(&b, "$new");
    atomic_store(&liar.lie, &other);
    until_it_is_asked(&b, "nil");
    assert_non_null(strstr(e2e_info(b.c, "fallback_error"), "is not understood"));
    atomic_store(&liar.lie, &honest);
    until_it_is_asked(&b, "$new");
    e2e_finish(&b);
    e2e_finish(&a);
}

/* It would shift what comes behind it, or be taken for something else. */
static void what_is_not_one_value_is_not_passed_on(void **state)
{
    static const struct lie lies[] = {
        {.bytes = "$3\r\none\r\n$3\r\ntwo\r\n"}, {.bytes = "$5\r\none\r\n"}, {.bytes = "*2\r\n$3\r\none\r\n"},
        {.bytes = ">1\r\n$3\r\none\r\n"},        {.bytes = "one"},           {.bytes = ""}};
    struct e2e a, b;
    (void)state;
    start_believer(&a, &b);
    for (unsigned i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        atomic_store(&liar.lie, &lies[i]);
        until_it_is_asked(&b, "nil");
        assert_non_null(strstr(e2e_info(b.c, "fallback_error"), "is not understood"));
    }
    e2e_finish(&b);
    e2e_finish(&a);
}

/* What is asked behind a question that was given up would hear its answer. */
static void a_connection_that_is_owed_an_answer_is_not_used_again(void **state)
{
    static const struct lie nothing;
    struct e2e a, b;
    redisContext *first, *second;
    int done = 0;
    (void)state;
    start_believer(&a, &b);
    atomic_store(&liar.lie, &nothing);
    first = e2e_connect(&b);
    second = e2e_connect(&b);
    redisAppendCommand(first, "GET new");
    while (!done)
        assert_int_equal(redisBufferWrite(first, &done), REDIS_OK);
    for (struct e2e_deadline w = {.what = "the first is asked for"}; !atomic_load(&liar.reads) && e2e_not_yet(&w);) {
    }
    redisAppendCommand(second, "GET newer");
    for (done = 0; !done;)
        assert_int_equal(redisBufferWrite(second, &done), REDIS_OK);
    e2e_expect(b.c, "+PONG", "PING"); /* the second is waiting now */
    e2e_stop(&b);
    for (struct e2e_deadline w = {.what = "all was heard"}; atomic_load(&liar.open) && e2e_not_yet(&w);) {
    }
    assert_int_equal(atomic_load(&liar.reads), 1);
    redisFree(first);
    redisFree(second);
    e2e_finish(&b);
    e2e_finish(&a);
}

/* What came from elsewhere was told of before the answer that it makes stale: it is told again. */
static void a_client_does_not_keep_what_changed_before_it_was_answered(void **state)
{
    static const struct lie nothing;
    struct e2e a, b;
    struct e2e_raw raw;
    (void)state;
    start_believer(&a, &b);
    e2e_expect(a.c, "+OK", "SET new newer");
    atomic_store(&liar.lie, &nothing);
    e2e_raw_open3(&raw, &b);
    e2e_raw_expect(&raw, "+OK", "CLIENT TRACKING ON OPTIN");
    e2e_raw_expect(&raw, "+OK", "CLIENT CACHING YES");
    e2e_raw_send(&raw, "GET new\r\n", 9);
    for (struct e2e_deadline w = {.what = "the primary is asked"}; !atomic_load(&liar.reads) && e2e_not_yet(&w);) {
    }
    e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %d", a.port);
    e2e_expect(b.c, "+OK", "READ.AFTER %lld TIMEOUT 0", e2e_int(a.c, "CLIENT LASTLSN"));
    e2e_expect(b.c, "$newer", "GET new");
    expect_next(&raw, ">[$invalidate [$new]]");
    atomic_store(&liar.lie, &honest);
    expect_next(&raw, "$new");
    e2e_raw_send(&raw, "PING\r\n", 6);
    expect_next(&raw, ">[$invalidate [$new]]");
    expect_next(&raw, "+PONG");
    e2e_raw_close(&raw);
    e2e_finish(&b);
    e2e_finish(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(an_answer_to_another_question_is_none, liar_end),
        cmocka_unit_test_teardown(what_is_not_one_value_is_not_passed_on, liar_end),
        cmocka_unit_test_teardown(a_connection_that_is_owed_an_answer_is_not_used_again, liar_end),
        cmocka_unit_test_teardown(a_client_does_not_keep_what_changed_before_it_was_answered, liar_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
