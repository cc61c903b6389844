/* anew.c - a server that begins anew with another's state keeps its clients: what they sent is answered, in order, and
 * they are who they were, as far as the new state knows them. */
#include <arpa/inet.h>
#include <sys/socket.h>

#include "tests/lib/e2e.h"
#include "tests/unit/tls_fixture.h"

#define UNDER_WAY 100 /* commands that a pipeline keeps ahead of its answers */

static struct e2e a, b; /* b takes a's state over */
static char world_ca[128];

static int setup(void **state)
{
    if (tls_world(state))
        return -1;
    snprintf(world_ca, sizeof world_ca, "%s", PATH("ca.crt"));
    return 0;
}

static void start_two(void)
{
    e2e_start(&a, "--port", "auto", NULL);
    e2e_start(&b, "--port", "auto", "--io-threads", "3", NULL);
    e2e_expect(a.c, "+OK", "SET k theirs");
    e2e_expect(b.c, "+OK", "SET k mine");
}

static void finish_two(void)
{
    e2e_finish(&b);
    e2e_finish(&a);
}

/* On connections that are there already: nobody is told to come again. */
static void take_over(void)
{
    struct e2e_deadline w = {.what = "the other's data"};
    e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %d", a.port);
    for (int here = 0; !here && e2e_not_yet(&w);) {
        redisReply *r = e2e_command(b.c, "GET k");
        here = r->type == REDIS_REPLY_STRING && strcmp(r->str, "theirs") == 0;
        freeReplyObject(r);
    }
    assert_true(e2e_log_has(&b, "Beginning anew"));
}

/* ---- order ---- */

struct pipeline {
    redisContext *c;
    int sent, heard;
    int phase; /* 0: the old data, 1: errors, 2: the new data; never back */
};

static void send_pair(struct pipeline *p)
{
    redisAppendCommand(p->c, "ECHO %d", p->sent++);
    redisAppendCommand(p->c, "GET k");
}

static void hear_pair(struct pipeline *p)
{
    char want[32];
    redisReply *r;
    snprintf(want, sizeof want, "$%d", p->heard++);
    e2e_expect_next(p->c, want);
    assert_int_equal(redisGetReply(p->c, (void **)&r), REDIS_OK);
    int phase = r->type == REDIS_REPLY_ERROR ? 1 : strcmp(r->str, "mine") == 0 ? 0 : 2;
    if (phase == 2)
        assert_string_equal(r->str, "theirs");
    if (phase < p->phase)
        fail_msg("after phase %d: %s", p->phase, r->str);
    p->phase = phase;
    freeReplyObject(r);
}

static void a_pipeline_goes_on(void **state)
{
    struct pipeline p = {0};
    struct e2e_deadline w = {.what = "the other's data"};
    (void)state;
    start_two();
    p.c = e2e_connect_tcp(&b);
    for (int i = 0; i < UNDER_WAY; i++)
        send_pair(&p);
    e2e_expect(b.c, "+OK", "REPLICAOF 127.0.0.1 %d", a.port);
    while (p.phase < 2 && e2e_not_yet(&w)) {
        for (int i = 0; i < 50; i++) {
            hear_pair(&p);
            send_pair(&p);
        }
        redisContext *another = e2e_connect_tcp(&b); /* nobody is turned away meanwhile */
        freeReplyObject(e2e_command(another, "PING"));
        redisFree(another);
    }
    while (p.heard < p.sent)
        hear_pair(&p);
    redisFree(p.c);
    finish_two();
}

/* What it has not read yet waits for it. */
static void answers_that_were_not_read_are_there_still(void **state)
{
    enum { BIG = 1000000, N = 10 };
    struct e2e_raw r;
    char *big = malloc(BIG + 1);
    (void)state;
    start_two();
    memset(big, 'x', BIG);
    big[BIG] = 0;
    e2e_expect(b.c, "+OK", "SET big %s", big);
    e2e_raw_open(&r, &b);
    for (int i = 0; i < N; i++)
        e2e_raw_send(&r, "GET big\r\n", 9);
    assert_int_equal(e2e_raw_next(&r)->text.n, BIG); /* it has begun */
    take_over();
    for (int i = 1; i < N; i++) {
        const struct answer *got = e2e_raw_next(&r);
        if (got->text.n != BIG) /* it was not carried out before */
            assert_int_equal(got->type, ANSWER_ERROR);
    }
    e2e_raw_expect(&r, "$theirs", "GET k");
    e2e_raw_close(&r);
    free(big);
    finish_two();
}

/* ---- over TLS ---- */

static void say(struct tls_conn *t, const char *text)
{
    size_t n = strlen(text);
    while (n) {
        ssize_t sent = tls_write(t, text, n);
        assert_true(sent > 0);
        text += sent;
        n -= (size_t)sent;
    }
}

static void hear_line(struct tls_conn *t, char *out, size_t room)
{
    size_t n = 0;
    while (n == 0 || out[n - 1] != '\n') {
        assert_true(n + 1 < room);
        assert_int_equal(tls_read(t, out + n, 1), 1);
        n++;
    }
    out[n - 2] = 0;
}

static void expect_line(struct tls_conn *t, const char *want)
{
    char line[256];
    hear_line(t, line, sizeof line);
    assert_string_equal(line, want);
}

static void a_connection_over_tls_goes_on(void **state)
{
    struct party party;
    struct tls_conn *t;
    struct e2e_deadline w = {.what = "the other's data"};
    char line[256] = "", order[64];
    (void)state;
    e2e_start(&a, "--port", "auto", NULL);
    e2e_start(&b, "--tls-port", "auto", "--tls-cert-file", PATH("server.crt"), "--tls-key-file", PATH("server.key"),
              "--tls-ca-cert-file", world_ca, "--tls-auth-clients-user", "CN", NULL);
    e2e_expect(a.c, "+OK", "SET k theirs");
    e2e_expect(a.c, "+OK", "ACL SETUSER ann on ~* +@all"); /* no password: she shows a certificate */
    e2e_expect(b.c, "+OK", "ACL SETUSER ann on ~* +@all");
    party_open(&party, "client");
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval patience = {.tv_sec = E2E_SECONDS};
    const struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)b.tls_port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof at), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(tls_client_new(party.tls, fd, "127.0.0.1", &t), ERR_OK);
    say(t, "ACL WHOAMI\r\n");
    expect_line(t, "$3");
    expect_line(t, "ann");
    snprintf(order, sizeof order, "REPLICAOF 127.0.0.1 %d\r\n", a.port);
    say(t, order);
    expect_line(t, "+OK");
    while (strcmp(line, "theirs") != 0 && e2e_not_yet(&w)) {
        say(t, "ECHO one\r\nGET k\r\n");
        expect_line(t, "$3");
        expect_line(t, "one");
        hear_line(t, line, sizeof line);
        if (line[0] == '$' && strcmp(line, "$-1") != 0)
            hear_line(t, line, sizeof line);
    }
    say(t, "ACL WHOAMI\r\n");
    expect_line(t, "$3");
    expect_line(t, "ann");
    tls_conn_free(t);
    close(fd);
    party_close(&party);
    finish_two();
}

/* ---- what a client has set ---- */

static void a_client_is_what_it_was(void **state)
{
    redisContext *c;
    char run_id[64];
    (void)state;
    start_two();
    e2e_expect(a.c, "+OK", "SELECT 3");
    e2e_expect(a.c, "+OK", "SET three theirs");
    c = e2e_connect_tcp(&b);
    long long id = e2e_int(c, "CLIENT ID");
    snprintf(run_id, sizeof run_id, "%s", e2e_info(b.c, "run_id"));
    e2e_expect(c, "+OK", "CLIENT SETNAME joe");
    e2e_expect(c, "+OK", "SELECT 3");
    e2e_expect(b.c, "+OK", "CONFIG SET slowlog-max-len 77");
    take_over();
    assert_int_equal(e2e_int(c, "CLIENT ID"), id);
    e2e_expect(c, "$joe", "CLIENT GETNAME");
    e2e_expect(c, "$theirs", "GET three");
    e2e_expect(c, "-READONLY ...", "SET three mine");
    assert_string_equal(e2e_info(b.c, "run_id"), run_id);
    e2e_expect(b.c, "[$slowlog-max-len $77]", "CONFIG GET slowlog-max-len");
    redisFree(c);
    finish_two();
}

static void transactions_meet_the_new_state(void **state)
{
    redisContext *asks, *writes, *watches;
    (void)state;
    start_two();
    asks = e2e_connect(&b);
    writes = e2e_connect(&b);
    watches = e2e_connect(&b);
    e2e_expect(asks, "+OK", "MULTI");
    e2e_expect(asks, "+QUEUED", "ECHO one");
    e2e_expect(writes, "+OK", "MULTI");
    e2e_expect(writes, "+QUEUED", "SET k mine");
    e2e_expect(watches, "+OK", "WATCH k");
    e2e_expect(watches, "+OK", "MULTI");
    e2e_expect(watches, "+QUEUED", "GET k");
    take_over();
    e2e_expect(asks, "+QUEUED", "PING");
    e2e_expect(asks, "[$one +PONG]", "EXEC");
    e2e_expect(writes, "-READONLY ...", "EXEC");
    e2e_expect(watches, "nil", "EXEC");
    e2e_expect(watches, "$theirs", "GET k");
    redisFree(asks);
    redisFree(writes);
    redisFree(watches);
    finish_two();
}

/* ---- what is pushed ---- */

static void expect_push(struct e2e_raw *r, const char *want)
{
    const struct answer *got = e2e_raw_next(r);
    assert_non_null(got);
    char *text = e2e_show_answer(got);
    assert_string_equal(text, want);
    free(text);
}

static void who_listens_goes_on_listening(void **state)
{
    struct e2e_raw channel, cache;
    (void)state;
    start_two();
    e2e_raw_open(&channel, &b);
    e2e_raw_expect(&channel, "[$subscribe $news :1]", "SUBSCRIBE news");
    e2e_raw_open3(&cache, &b);
    e2e_raw_expect(&cache, "+OK", "CLIENT TRACKING ON");
    e2e_raw_expect(&cache, "$mine", "GET k");
    take_over();
    e2e_expect(b.c, ":1", "PUBLISH news one");
    expect_push(&channel, "[$message $news $one]");
    expect_push(&cache, ">[$invalidate nil]"); /* nothing of what it keeps may be so any more */
    e2e_raw_expect(&cache, "$theirs", "GET k");
    e2e_expect(a.c, "+OK", "SET k changed");
    expect_push(&cache, ">[$invalidate [$k]]");
    e2e_raw_close(&channel);
    e2e_raw_close(&cache);
    finish_two();
}

static void what_waits_for_the_old_state_ends(void **state)
{
    redisContext *waits, *follows;
    (void)state;
    start_two();
    waits = e2e_connect(&b);
    follows = e2e_connect(&b);
    redisAppendCommand(waits, "WAIT 1 0");
    redisAppendCommand(follows, "WBL.FOLLOW FROM 1000 BLOCK 0");
    int done;
    assert_int_equal(redisBufferWrite(waits, &done), REDIS_OK);
    assert_int_equal(redisBufferWrite(follows, &done), REDIS_OK);
    e2e_info_wait(b.c, "blocked_clients", "2");
    take_over();
    void *reply = NULL;
    if (redisGetReply(waits, &reply) == REDIS_OK) { /* it saw that the node is a replica now, before it began anew */
        assert_int_equal(strncmp(((redisReply *)reply)->str, "UNBLOCKED ", 10), 0);
        freeReplyObject(reply);
        e2e_expect_closed(waits);
    }
    e2e_expect_closed(follows);
    redisFree(waits);
    redisFree(follows);
    finish_two();
}

/* ---- users ---- */

static redisContext *user(const char *name, const char *password)
{
    redisContext *c = e2e_connect_tcp(&b);
    e2e_expect(c, "+OK", "AUTH %s %s", name, password);
    return c;
}

static void the_new_table_of_users_counts(void **state)
{
    redisContext *same, *gone, *other;
    (void)state;
    start_two();
    e2e_expect(b.c, "+OK", "ACL SETUSER same on >pw ~* +@all");
    e2e_expect(b.c, "+OK", "ACL SETUSER gone on >pw ~* +@all");
    e2e_expect(b.c, "+OK", "ACL SETUSER other on >pw ~* +@all");
    e2e_expect(a.c, "+OK", "ACL SETUSER same on >another >pw ~* +get");
    e2e_expect(a.c, "+OK", "ACL SETUSER other on >another ~* +@all");
    same = user("same", "pw");
    gone = user("gone", "pw");
    other = user("other", "pw");
    take_over();
    e2e_expect(same, "$theirs", "GET k");
    e2e_expect(same, "-NOPERM ...", "STRLEN k");
    e2e_expect_closed(gone);
    e2e_expect_closed(other);
    redisFree(same);
    redisFree(gone);
    redisFree(other);
    same = user("same", "another");
    e2e_expect(same, "$theirs", "GET k");
    redisFree(same);
    finish_two();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_pipeline_goes_on, e2e_teardown),
        cmocka_unit_test_teardown(answers_that_were_not_read_are_there_still, e2e_teardown),
        cmocka_unit_test_teardown(a_connection_over_tls_goes_on, e2e_teardown),
        cmocka_unit_test_teardown(a_client_is_what_it_was, e2e_teardown),
        cmocka_unit_test_teardown(transactions_meet_the_new_state, e2e_teardown),
        cmocka_unit_test_teardown(who_listens_goes_on_listening, e2e_teardown),
        cmocka_unit_test_teardown(what_waits_for_the_old_state_ends, e2e_teardown),
        cmocka_unit_test_teardown(the_new_table_of_users_counts, e2e_teardown),
    };
    return cmocka_run_group_tests_name("anew", tests, setup, tls_world_end);
}
