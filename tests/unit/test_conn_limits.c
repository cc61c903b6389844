/* Connections: limits, logging in, CLIENT's commands, MONITOR, SLOWLOG, LOADING and SEALED, faults. */
#include "base/fault.h"
#include "tests/unit/conn_fixture.h"

static void the_output_limit_closes(void **state)
{
    static const char *const settings[] = {"client-output-buffer-limit", "normal 1mb 0 0", NULL};
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, settings);
    client_open(&f, &c, 0);
    say(&c, "T.BIG 5000000\r\nT.FAST x\r\n");
    for (;;) {
        const struct answer *a = hear(&c);
        if (!a)
            break;
        assert_int_not_equal(a->text.n, 5000000);
    }
    assert_int_equal(STATS_SUM(&f.srv, obuf_closed), 1);
    client_close(&c);
    stop(&f);
}

static void the_query_limit_closes(void **state)
{
    static const char *const settings[] = {"client-query-buffer-limit", "1mb", NULL};
    struct fixture f;
    struct client c;
    static uint8_t zeros[65536];
    (void)state;
    start(&f, settings);
    client_open(&f, &c, 0);
    say(&c, "*2\r\n$4\r\nECHO\r\n$2000000\r\n");
    for (unsigned i = 0; i < 31; i++)
        if (send(c.fd, zeros, sizeof zeros, MSG_NOSIGNAL) <= 0)
            break;
    expect_end(&c);
    assert_int_equal(STATS_SUM(&f.srv, qbuf_closed), 1);
    client_close(&c);
    stop(&f);
}

static void before_auth_little_is_allowed(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    assert_int_equal(acl_set_default_password(f.srv.acl, bytes_str("sesame")), ERR_OK);
    client_open(&f, &c, 0);
    say(&c, "T.FAST x\r\nPING\r\nAUTH wrong\r\nAUTH default wrong\r\nHELLO 3\r\nAUTH sesame\r\nT.FAST y\r\n");
    expect(&c, "NOAUTH Authentication required.");
    expect(&c, "NOAUTH Authentication required.");
    expect(&c, "WRONGPASS invalid username-password pair or user is disabled.");
    expect(&c, "WRONGPASS invalid username-password pair or user is disabled.");
    expect(&c, "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH "
               "<user> <pass> option "
               "can be used to authenticate the client and select the RESP protocol version at the same time");
    expect(&c, "OK");
    expect(&c, "y");
    say(&c, "RESET\r\nT.FAST z\r\n*11\r\n");
    expect(&c, "RESET");
    expect(&c, "NOAUTH Authentication required.");
    expect(&c, "ERR Protocol error: unauthenticated multibulk length");
    expect_end(&c);
    client_close(&c);
    client_open(&f, &c, 0);
    say(&c, "*2\r\n$4\r\nECHO\r\n$20000\r\n");
    expect(&c, "ERR Protocol error: unauthenticated bulk length");
    expect_end(&c);
    client_close(&c);
    stop(&f);
}

static void set_user(struct fixture *f, const char *const *words)
{
    struct bytes w[8];
    struct acl_fault why;
    unsigned n = 0;
    for (; words[n]; n++)
        w[n] = bytes_str(words[n]);
    assert_int_equal(acl_set(f->srv.acl, w, n, &why), ERR_OK);
}

static void a_changed_user_is_noticed(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    set_user(&f, (const char *[]){"ann", "on", ">pw", "+@all", "~*", NULL});
    client_open(&f, &c, 0);
    say(&c, "AUTH ann pw\r\nT.FAST x\r\n");
    expect(&c, "OK");
    expect(&c, "x");
    /* As in Redis, who is logged in stays it when the user goes off. */
    set_user(&f, (const char *[]){"ann", "off", "-t.mark", NULL});
    say(&c, "T.FAST x\r\nT.MARK\r\nAUTH ann pw\r\nT.FAST y\r\n");
    expect(&c, "x");
    expect(&c, "NOPERM this user has no permissions to run the 't.mark' command");
    expect(&c, "WRONGPASS invalid username-password pair or user is disabled.");
    expect(&c, "y");
    client_close(&c);
    stop(&f);
}

static void users_changed(void *arg)
{
    struct fixture *f = arg;
    for (unsigned i = 0; i < THREADS; i++)
        io_users_changed(f->io[i]);
}

static void a_user_that_is_gone_is_cut_off(void **state)
{
    struct fixture f;
    struct client idle, busy, other;
    (void)state;
    start(&f, NULL);
    acl_on_change(f.srv.acl, users_changed, &f);
    set_user(&f, (const char *[]){"ann", "on", ">pw", "+@all", "~*", NULL});
    client_open(&f, &idle, 0);
    client_open(&f, &busy, 1);
    client_open(&f, &other, 0);
    say(&idle, "AUTH ann pw\r\n");
    expect(&idle, "OK");
    say(&busy, "AUTH ann pw\r\nT.WRITE w\r\n");
    expect(&busy, "OK");
    wait_for(&t.started, 1);
    assert_int_equal(acl_drop(f.srv.acl, bytes_str("ann")), 1);
    set_user(&f, (const char *[]){"ann", "on", ">pw", "+@all", "~*", NULL}); /* another one */
    expect_end(&idle);                                                       /* though it sends nothing */
    ping_round(&f, 1);
    complete(0);
    expect(&busy, "w"); /* what had begun is answered */
    expect_end(&busy);
    say(&other, "PING\r\n");
    expect(&other, "PONG");
    client_close(&idle);
    client_close(&busy);
    client_close(&other);
    stop(&f);
}

/* Between a start and the end of recovery nobody knows whether the default user is open. */
static void who_came_before_users_were_known_is_judged_then(void **state)
{
    for (int open = 0; open < 2; open++) {
        struct fixture f;
        struct client c;
        (void)state;
        start(&f, NULL);
        acl_on_change(f.srv.acl, users_changed, &f);
        assert_int_equal(acl_await_log(f.srv.acl), ERR_OK);
        client_open(&f, &c, 0);
        say(&c, "PING\r\nT.FAST x\r\nAUTH default pw\r\n");
        for (int i = 0; i < 3; i++) {
            const struct answer *a = hear(&c);
            assert_non_null(a);
            assert_memory_equal(a->text.p, "LOADING ", 8);
        }
        if (!open)
            assert_int_equal(acl_take(f.srv.acl, bytes_str("default"), bytes_str("on >pw ~* &* +@all")), ERR_OK);
        assert_int_equal(acl_log_known(f.srv.acl), ERR_OK);
        if (!open) {
            say(&c, "PING\r\nAUTH pw\r\n");
            expect(&c, "NOAUTH Authentication required.");
            expect(&c, "OK");
        }
        say(&c, "T.FAST x\r\n");
        expect(&c, "x");
        client_close(&c);
        stop(&f);
    }
}

static void drop_nothing(struct conn *c, void *arg)
{
    (void)c;
    (void)arg;
}

struct listen { /* makes the newest connection of a thread look like one that has subscribed */
    struct io_task task;
    _Atomic int done;
};

static void become_listener(struct io_task *task, struct io *io)
{
    static uint64_t nothing[64]; /* zeros, as pubsub.c has them of who listens to nothing */
    struct listen *l = mpsc_entry(task, struct listen, task);
    conn_set_slot(io->conns, SLOT_PUBSUB, nothing, drop_nothing);
    atomic_store(&l->done, 1);
}

static void a_listener_whose_channels_are_taken_is_cut_off(void **state)
{
    struct listen l = {.task.run = become_listener};
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    acl_on_change(f.srv.acl, users_changed, &f);
    set_user(&f, (const char *[]){"ann", "on", ">pw", "+@all", "~*", "&a", NULL});
    client_open(&f, &c, 0);
    say(&c, "AUTH ann pw\r\n");
    expect(&c, "OK");
    io_post(f.io[0], &l.task);
    ping_round(&f, 0);
    assert_int_equal(atomic_load(&l.done), 1);
    set_user(&f, (const char *[]){"ann", "&b", NULL});
    say(&c, "T.FAST x\r\n");
    expect(&c, "x");
    set_user(&f, (const char *[]){"ann", "resetchannels", "&b", NULL});
    expect_end(&c);
    client_close(&c);
    stop(&f);
}

static void hello_switches_the_protocol(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "HELLO 3 SETNAME me\r\nCLIENT GETNAME\r\nHELLO 2\r\nHELLO 4\r\nHELLO x\r\nHELLO 3 FOO\r\n");
    const struct answer *a = hear(&c);
    assert_non_null(a);
    assert_int_equal(a->type, ANSWER_MAP);
    assert_int_equal(answer_get(a, "proto")->integer, 3);
    expect(&c, "me");
    a = hear(&c);
    assert_non_null(a);
    assert_int_equal(a->type, ANSWER_ARRAY);
    assert_int_equal(a->count, 14);
    expect(&c, "NOPROTO unsupported protocol version");
    expect(&c, "ERR Protocol version is not an integer or out of range");
    expect(&c, "ERR Syntax error in HELLO option 'FOO'");
    client_close(&c);
    stop(&f);
}

static void client_kill_reaches_all_threads(void **state)
{
    struct fixture f;
    struct client a, b, c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &a, 0);
    client_open(&f, &b, 0);
    client_open(&f, &c, 1);
    say(&a, "PING\r\n");
    expect(&a, "PONG");
    say(&b, "PING\r\n");
    expect(&b, "PONG");
    say(&c, "CLIENT SETNAME sea\r\n");
    expect(&c, "OK");
    say(&a, "CLIENT LIST\r\n");
    const struct answer *list = hear(&a);
    assert_non_null(list);
    assert_non_null(memmem(list->text.p, list->text.n, " name=sea ", 10));
    assert_non_null(memmem(list->text.p, list->text.n, " cmd=client|list ", 17));
    say(&a, "CLIENT KILL TYPE normal\r\n");
    const struct answer *n = hear(&a);
    assert_non_null(n);
    assert_int_equal(n->integer, 2); /* not itself */
    expect_end(&b);
    expect_end(&c);
    say(&a, "CLIENT KILL TYPE normal SKIPME no\r\nPING\r\n");
    n = hear(&a);
    assert_non_null(n);
    assert_int_equal(n->integer, 1);
    expect_end(&a);
    client_close(&a);
    client_close(&b);
    client_close(&c);
    stop(&f);
}

static void client_reply_suppresses(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "CLIENT REPLY SKIP\r\nT.FAST no\r\nT.FAST yes\r\nCLIENT REPLY OFF\r\nT.WRITE no\r\nT.FAST no\r\nCLIENT "
            "REPLY ON\r\n");
    wait_for(&t.started, 1);
    complete(0);
    expect(&c, "yes");
    expect(&c, "OK");
    say(&c, "CLIENT REPLY SKIP\r\nT.WRITE no\r\nT.WRITE yes\r\n");
    wait_for(&t.started, 3);
    complete(1);
    complete(2);
    expect(&c, "yes");
    client_close(&c);
    stop(&f);
}

static void client_pause_holds_back(void **state)
{
    struct fixture f;
    struct client a, b;
    (void)state;
    start(&f, NULL);
    client_open(&f, &a, 0);
    client_open(&f, &b, 1);
    say(&a, "CLIENT PAUSE 100000 WRITE\r\n");
    expect(&a, "OK");
    say(&b, "T.FAST reads\r\nT.WRITE w\r\n");
    expect(&b, "reads");
    ping_round(&f, 1);
    assert_int_equal(value_of(&t.started), 0);
    say(&a, "CLIENT UNPAUSE\r\n");
    expect(&a, "OK");
    wait_for(&t.started, 1);
    complete(0);
    expect(&b, "w");
    say(&a, "CLIENT PAUSE 1\r\nPING\r\n"); /* ends by itself */
    expect(&a, "OK");
    expect(&a, "PONG");
    client_close(&a);
    client_close(&b);
    stop(&f);
}

static void monitor_redacts(void **state)
{
    struct fixture f;
    struct client m, c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &m, 1);
    client_open(&f, &c, 0);
    say(&m, "T.MONITOR\r\n");
    expect(&m, "OK");
    say(&c, "T.SECRET path hunter2 hunter3\r\nAUTH nobody hunter4\r\nECHO \"a\\x00b\"\r\n");
    for (unsigned i = 0; i < 3; i++) {
        const struct answer *a = hear(&m);
        static const char *const ends[] = {"] \"T.SECRET\" \"path\" \"(redacted)\" \"(redacted)\"",
                                           "] \"AUTH\" \"(redacted)\" \"(redacted)\"", "] \"ECHO\" \"a\\x00b\""};
        assert_non_null(a);
        size_t n = strlen(ends[i]);
        assert_true(a->text.n > n);
        assert_memory_equal(a->text.p + a->text.n - n, ends[i], n);
    }
    client_close(&m);
    client_close(&c);
    stop(&f);
}

static void slowlog_redacts(void **state)
{
    static const char *const settings[] = {"slowlog-log-slower-than", "0", NULL};
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, settings);
    client_open(&f, &c, 0);
    say(&c, "T.SECRET path hunter2\r\nT.WRITE w\r\n");
    assert_non_null(hear(&c));
    wait_for(&t.started, 1);
    complete(0);
    expect(&c, "w");
    struct buf b;
    struct reply r;
    buf_init(&b, SIZE_MAX / 4);
    reply_init(&r, &b, 2);
    assert_int_equal(slowlog_len(f.srv.slowlog), 2);
    slowlog_reply(f.srv.slowlog, 10, &r);
    assert_null(memmem(buf_data(&b), buf_size(&b), "hunter2", 7));
    assert_non_null(memmem(buf_data(&b), buf_size(&b), "T.SECRET", 8));
    assert_non_null(memmem(buf_data(&b), buf_size(&b), "t.write\r\n$1\r\nw\r\n", 16));
    buf_fini(&b);
    client_close(&c);
    stop(&f);
}

static void loading_and_sealed_refuse(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    atomic_store(&f.srv.loading, 1);
    say(&c, "PING\r\n");
    const struct answer *a = hear(&c);
    assert_non_null(a);
    assert_memory_equal(a->text.p, "LOADING ", 8);
    say(&c, "T.FAST x\r\n");
    a = hear(&c);
    assert_non_null(a);
    assert_memory_equal(a->text.p, "LOADING ", 8);
    atomic_store(&f.srv.loading, 0);
    atomic_store(&f.srv.sealed, 1);
    say(&c, "T.FAST x\r\nPING\r\n");
    a = hear(&c);
    assert_non_null(a);
    assert_memory_equal(a->text.p, "SEALED ", 7);
    expect(&c, "PONG");
    client_close(&c);
    stop(&f);
}

static void making_things_fails_cleanly(void **state)
{
    (void)state;
    for (long n = 1;; n++) {
        struct server srv = {0};
        struct io *io = NULL;
        struct conn *c = NULL;
        int sv[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
        fault_arm(FAULT_MEM, n, 1);
        enum err e = config_new(&srv.config);
        if (!e)
            e = acl_new(&srv.acl);
        if (!e)
            e = io_new(&io, &srv, 0);
        if (!e)
            e = conn_new(io, sv[0], IO_UNIX, &c);
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        assert_int_equal(e, fired ? ERR_OOM : ERR_OK);
        if (c) {
            atomic_fetch_add(&srv.clients, 1);
            conn_kill(c);
            io->dead = NULL;
            conn_free(c);
        } else {
            close(sv[0]);
        }
        close(sv[1]);
        io_free(io);
        acl_free(srv.acl);
        config_free(srv.config);
        if (!fired)
            break;
    }
}

/* The n-th allocation of a server at work fails: whatever is answered, it is whole, or the connection ends. */
static void serving_survives_faults(void **state)
{
    static const char pipeline[] =
        "T.WRITE a\r\nT.MAYBE b b\r\nT.WRITE c\r\nCLIENT LIST\r\nT.PARK p\r\nAUTH x\r\nCLIENT SETNAME me\r\n"
        "*2\r\n$4\r\nECHO\r\n$5\r\nhel";
    static char answers[65536];
    struct fixture f;
    pthread_t thread;
    int over = 0, fired = 1;
    (void)state;
    start(&f, NULL);
    atomic_store(&t.unparked, 1);
    assert_int_equal(pthread_create(&thread, NULL, completer, &over), 0);
    for (long n = 1; fired; n++) {
        struct client c;
        size_t got = 0;
        client_open(&f, &c, 0);
        ping_round(&f, 0); /* the connection is there */
        fault_arm(FAULT_MEM, n, 1);
        if (send(c.fd, pipeline, sizeof pipeline - 1, MSG_NOSIGNAL) > 0)
            (void)send(c.fd, "lo\r\n", 4, MSG_NOSIGNAL);
        shutdown(c.fd, SHUT_WR);
        for (ssize_t k; (k = read(c.fd, answers + got, sizeof answers - got)) > 0;)
            got += (size_t)k;
        fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        if (!fired)
            assert_non_null(memmem(answers, got, "hello", 5));
        client_close(&c);
    }
    stop_threads(&f);
    pthread_mutex_lock(&t.lock);
    over = 1;
    pthread_cond_broadcast(&t.changed);
    pthread_mutex_unlock(&t.lock);
    pthread_join(thread, NULL);
    free_all(&f);
}

static void renamed_commands(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    assert_int_equal(command_rename(bytes_str("echo"), bytes_str("say")), ERR_OK);
    assert_int_equal(command_rename(bytes_str("reset"), bytes_str("")), ERR_OK);
    assert_int_equal(command_rename(bytes_str("client"), bytes_str("conn")), ERR_OK);
    assert_int_equal(command_rename(bytes_str("nosuch"), bytes_str("x")), ERR_NOTFOUND);
    assert_int_equal(command_rename(bytes_str("ping"), bytes_str("AUTH")), ERR_CONFLICT);
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "SAY hello\r\nECHO hello\r\nRESET\r\nconn setname me\r\nCONN GETNAME\r\nPING\r\n");
    expect(&c, "hello");
    expect(&c, "ERR unknown command 'ECHO', with args beginning with: 'hello' ");
    expect(&c, "ERR unknown command 'RESET', with args beginning with: ");
    expect(&c, "OK");
    expect(&c, "me");
    expect(&c, "PONG");
    client_close(&c);
    stop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_output_limit_closes),
        cmocka_unit_test(the_query_limit_closes),
        cmocka_unit_test(before_auth_little_is_allowed),
        cmocka_unit_test(a_changed_user_is_noticed),
        cmocka_unit_test(a_user_that_is_gone_is_cut_off),
        cmocka_unit_test(who_came_before_users_were_known_is_judged_then),
        cmocka_unit_test(a_listener_whose_channels_are_taken_is_cut_off),
        cmocka_unit_test(hello_switches_the_protocol),
        cmocka_unit_test(client_kill_reaches_all_threads),
        cmocka_unit_test(client_reply_suppresses),
        cmocka_unit_test(client_pause_holds_back),
        cmocka_unit_test(monitor_redacts),
        cmocka_unit_test(slowlog_redacts),
        cmocka_unit_test(loading_and_sealed_refuse),
        cmocka_unit_test(making_things_fails_cleanly),
        cmocka_unit_test(serving_survives_faults),
        cmocka_unit_test(renamed_commands), /* last: it is for good */
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
