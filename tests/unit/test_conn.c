/* Connections: order of a pipeline, lanes, pendings, parked commands, input and output in pieces, clients that go. */
#include "tests/unit/conn_fixture.h"

static void answers_simple_commands(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "PING\r\nping hello\r\nECHO \"two words\"\r\n*2\r\n$4\r\nECHO\r\n$3\r\na\r\n\r\n");
    expect(&c, "PONG");
    expect(&c, "hello");
    expect(&c, "two words");
    expect(&c, "a\r\n");
    client_close(&c);
    stop(&f);
}

static void answers_errors_with_redis_texts(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "nosuch a b\r\nnosuch\r\nSECRET.PUT v p hunter2\r\nECHO\r\nclient\r\nclient foo\r\nCLIENT ID x\r\n");
    expect(&c, "ERR unknown command 'nosuch', with args beginning with: 'a' 'b' ");
    expect(&c, "ERR unknown command 'nosuch', with args beginning with: ");
    expect(&c, "ERR unknown command 'SECRET.PUT', with args beginning with: ");
    expect(&c, "ERR wrong number of arguments for 'echo' command");
    expect(&c, "ERR wrong number of arguments for 'client' command");
    expect(&c, "ERR unknown subcommand 'foo'. Try CLIENT HELP.");
    expect(&c, "ERR wrong number of arguments for 'client|id' command");
    client_close(&c);
    stop(&f);
}

static void pendings_answer_in_the_order_of_the_pipeline(void **state)
{
    struct fixture f;
    struct client c;
    char text[32];
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "T.WRITE w%u\r\n", i);
        say(&c, text);
    }
    wait_for(&t.started, 100);
    for (unsigned i = 0; i < 100; i++) /* every order but the right one */
        complete((i * 37 + 99) % 100);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(text, sizeof text, "w%u", i);
        expect(&c, text);
    }
    client_close(&c);
    stop(&f);
    assert_int_equal(t.released, 100);
}

static void a_command_of_another_lane_waits(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.WRITE a\r\nT.WRITE b\r\nT.FAST f1\r\nT.HSM h1\r\nT.HSM h2\r\nT.WRITE z\r\n");
    wait_for(&t.started, 2);
    ping_round(&f, 0); /* the thread is done with the pipeline by then */
    assert_int_equal(value_of(&t.fast_runs), 0);
    assert_int_equal(value_of(&t.started), 2);
    complete(1);
    ping_round(&f, 0);
    assert_int_equal(value_of(&t.fast_runs), 0);
    complete(0);
    expect(&c, "a");
    expect(&c, "b");
    expect(&c, "f1");
    wait_for(&t.started, 4);
    ping_round(&f, 0);
    assert_int_equal(value_of(&t.started), 4); /* z waits for both */
    complete(3);
    complete(2);
    expect(&c, "h1");
    expect(&c, "h2");
    wait_for(&t.started, 5);
    complete(4);
    expect(&c, "z");
    client_close(&c);
    stop(&f);
}

static void commands_alone_do_not_overlap(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.ALONE a\r\nT.ALONE b\r\n");
    wait_for(&t.started, 1);
    ping_round(&f, 0);
    assert_int_equal(value_of(&t.started), 1);
    complete(0);
    expect(&c, "a");
    wait_for(&t.started, 2);
    complete(1);
    expect(&c, "b");
    client_close(&c);
    stop(&f);
}

static void an_answer_at_once_waits_for_its_turn(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.MAYBE a\r\nT.MAYBE a b\r\nT.MAYBE c\r\nT.WRITE\r\nnosuch\r\n");
    wait_for(&t.started, 2);
    complete(1);
    ping_round(&f, 0);
    complete(0);
    expect(&c, "a");
    expect(&c, "ERR answered at once");
    expect(&c, "c");
    struct command_total total;
    stats_command(&f.srv, command_index(command_by_name(bytes_str("t.maybe"))), &total);
    assert_int_equal(total.calls, 3);
    assert_int_equal(total.failed, 1);
    expect(&c, "ERR wrong number of arguments for 't.write' command");
    expect(&c, "ERR unknown command 'nosuch', with args beginning with: ");
    client_close(&c);
    stop(&f);
}

static void input_behind_a_held_command_survives(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.WRITE a\r\nT.ARGS \"in\\x41 quotes\" \"\\\\n\"\r\nT.FA");
    wait_for(&t.started, 1);
    ping_round(&f, 0);
    say(&c, "ST later\r\n");
    ping_round(&f, 0);
    complete(0);
    expect(&c, "a");
    const struct answer *a = hear(&c);
    assert_non_null(a);
    assert_int_equal(a->count, 3);
    assert_memory_equal(a->item[1]->text.p, "inA quotes", 10);
    assert_int_equal(a->item[2]->text.n, 2);
    assert_memory_equal(a->item[2]->text.p, "\\n", 2); /* escapes were resolved once, not twice */
    expect(&c, "later");
    client_close(&c);
    stop(&f);
}

static void parked_commands_run_again(void **state)
{
    struct fixture f;
    struct client a, b;
    (void)state;
    start(&f, NULL);
    client_open(&f, &a, 0);
    client_open(&f, &b, 1);
    say(&a, "T.PARK one\r\nT.FAST two\r\n");
    say(&b, "T.PARK three\r\n");
    wait_for(&t.park_runs, 2);
    waitlist_wake(t.parking); /* for nothing: both look, and park again */
    wait_for(&t.park_runs, 4);
    atomic_store(&t.unparked, 1);
    waitlist_wake(t.parking);
    expect(&a, "one");
    expect(&a, "two");
    expect(&b, "three");
    client_close(&a);
    client_close(&b);
    stop(&f);
}

/* The wake comes between the handler's look and its parking. */
static enum call_result late_park(struct call *c)
{
    int go_on = atomic_load(&t.unparked);
    if (go_on) {
        reply_ok(c->reply);
        return CALL_DONE;
    }
    atomic_store(&t.unparked, 1);
    waitlist_wake(t.parking);
    return call_park(c, t.parking);
}

static void a_wake_before_parking_is_not_lost(void **state)
{
    struct fixture f;
    struct conn *c;
    int sv[2];
    (void)state;
    start(&f, NULL);
    struct io *io;
    assert_int_equal(io_new(&io, &f.srv, 7), ERR_OK);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
    atomic_fetch_add(&f.srv.clients, 1);
    assert_int_equal(conn_new(io, sv[0], IO_UNIX, &c), ERR_OK);
    struct call call = {.srv = &f.srv, .io = io, .conn = c, .reply = &c->reply, .wakes = call_wakes()};
    assert_int_equal(late_park(&call), CALL_PARK);
    assert_null(c->park); /* not on the list: dispatch says DISPATCH_AGAIN */
    call.wakes = call_wakes();
    atomic_store(&t.unparked, 0);
    assert_int_equal(call_park(&call, t.parking), CALL_PARK);
    assert_non_null(c->park);
    conn_kill(c);
    io->dead = NULL;
    conn_free(c);
    close(sv[1]);
    waitlist_wake(t.parking); /* for a client that is gone; its entry is in io's queue now */
    struct mpsc_node *n = mpsc_take(&io->tasks);
    assert_non_null(n);
    struct io_task *task = mpsc_entry(n, struct io_task, node);
    task->run(task, io);
    io_free(io);
    stop(&f);
}

static void a_client_that_goes_leaves_its_pendings(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.BLOCK x\r\n");
    wait_for(&t.started, 1);
    client_close(&c); /* a blocking command is given up at once */
    client_open(&f, &c, 0);
    say(&c, "CLIENT LIST\r\n");
    for (;;) { /* until the first one is gone */
        const struct answer *a = hear(&c);
        assert_non_null(a);
        if (!memmem(a->text.p, a->text.n, "t.block", 7))
            break;
        say(&c, "CLIENT LIST\r\n");
    }
    assert_int_equal(value_of(&t.released), 0);
    complete(0);
    wait_for(&t.released, 1);
    assert_int_equal(t.finished, 0);
    client_close(&c);
    stop(&f);
}

static void a_pipeline_before_end_of_file_is_answered(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.WRITE a\r\nT.FAST b\r\n");
    shutdown(c.fd, SHUT_WR);
    wait_for(&t.started, 1);
    ping_round(&f, 0);
    complete(0);
    expect(&c, "a");
    expect(&c, "b");
    expect_end(&c);
    client_close(&c);
    stop(&f);
}

static void quit_answers_what_came_before(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.WRITE a\r\nQUIT\r\nT.FAST never\r\n");
    wait_for(&t.started, 1);
    complete(0);
    expect(&c, "a");
    expect(&c, "OK");
    expect_end(&c);
    assert_int_equal(t.fast_runs, 0);
    client_close(&c);
    stop(&f);
}

static void protocol_errors_come_after_pending_answers(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.WRITE a\r\n*1\r\n!x\r\n");
    wait_for(&t.started, 1);
    ping_round(&f, 0);
    complete(0);
    expect(&c, "a");
    expect(&c, "ERR Protocol error: expected '$', got '!'");
    expect_end(&c);
    client_close(&c);
    stop(&f);
}

static void a_big_pipeline_yields_and_keeps_order(void **state)
{
    struct fixture f;
    struct client c;
    struct buf b;
    char text[32];
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    buf_init(&b, SIZE_MAX / 4);
    for (unsigned i = 0; i < 5000; i++)
        assert_int_equal(buf_putf(&b, "*2\r\n$4\r\nECHO\r\n$5\r\n%05u\r\n", i), ERR_OK);
    int big = 1 << 20;
    setsockopt(c.fd, SOL_SOCKET, SO_SNDBUF, &big, sizeof big);
    say_bytes(&c, buf_data(&b), buf_size(&b));
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(text, sizeof text, "%05u", i);
        expect(&c, text);
    }
    buf_fini(&b);
    client_close(&c);
    stop(&f);
}

static void a_big_pipeline_lets_others_have_their_turn(void **state)
{
    struct fixture f;
    struct client a, b;
    struct buf pipeline;
    (void)state;
    start(&f, NULL);
    client_open(&f, &a, 0);
    client_open(&f, &b, 0);
    say(&b, "PING\r\n");
    expect(&b, "PONG");
    say(&a, "T.GATE\r\n");
    wait_for(&t.at_gate, 1);
    buf_init(&pipeline, SIZE_MAX / 4);
    for (unsigned i = 0; i < 3000; i++)
        assert_int_equal(buf_put(&pipeline, "T.FAST x\r\n", 10), ERR_OK);
    say_bytes(&a, buf_data(&pipeline), buf_size(&pipeline));
    say(&b, "T.MARK\r\n"); /* ready at the same time, behind it */
    bump(&t.gate_open);
    expect(&b, "OK");
    assert_true(t.mark <= CONN_TURN_COMMANDS);
    expect(&a, "OK");
    for (unsigned i = 0; i < 3000; i++)
        expect(&a, "x");
    buf_fini(&pipeline);
    client_close(&a);
    client_close(&b);
    stop(&f);
}

static void a_big_argument_arrives_in_pieces(void **state)
{
    struct fixture f;
    struct client c;
    size_t n = 3000000;
    char head[64];
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    uint8_t *big = malloc(n);
    assert_non_null(big);
    for (size_t i = 0; i < n; i++)
        big[i] = (uint8_t)(i * 7);
    snprintf(head, sizeof head, "*2\r\n$4\r\nECHO\r\n$%zu\r\n", n);
    say(&c, head);
    say_bytes(&c, big, n);
    say(&c, "\r\nPING\r\n");
    const struct answer *a = hear(&c);
    assert_non_null(a);
    assert_int_equal(a->text.n, n);
    assert_memory_equal(a->text.p, big, n);
    expect(&c, "PONG");
    free(big);
    client_close(&c);
    stop(&f);
}

static void answers_that_the_socket_does_not_take_are_kept(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.BIG 5000000\r\nT.BIG 5000000\r\nT.FAST x\r\n");
    wait_for(&t.fast_runs, 1); /* everything was carried out while nobody read */
    for (unsigned i = 0; i < 2; i++) {
        const struct answer *a = hear(&c);
        assert_non_null(a);
        assert_int_equal(a->text.n, 5000000);
    }
    expect(&c, "x");
    say(&c, "PING\r\n");
    expect(&c, "PONG");
    client_close(&c);
    stop(&f);
}

static void stopping_finishes_what_is_pending(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.WRITE a\r\n");
    wait_for(&t.started, 1);
    for (unsigned i = 0; i < THREADS; i++)
        io_stop(f.io[i], clock_mono_us() + 20000000);
    complete(0);
    expect(&c, "a");
    expect_end(&c);
    for (unsigned i = 0; i < THREADS; i++)
        io_join(f.io[i]);
    free_all(&f);
    client_close(&c);
}

/* What main_server.c does around a full resync, in two parts. */
static void stand_still(struct fixture *f, uint64_t patience_us)
{
    atomic_store(&f->srv.anew, 1);
    for (unsigned i = 0; i < THREADS; i++)
        io_stop(f->io[i], clock_mono_us() + patience_us);
}

static void go_on(struct fixture *f, int completing) /* as the engine does when it is closed */
{
    for (unsigned i = 0; completing && i < t.started; i++)
        complete(i);
    waitlist_wake(t.parking);
    io_settle(&f->srv, 1);
    atomic_store(&f->srv.anew, 0);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(io_start(f->io[i]), ERR_OK);
}

static void join(struct fixture *f)
{
    for (unsigned i = 0; i < THREADS; i++)
        io_join(f->io[i]);
}

static void connections_go_on_when_threads_begin_anew(void **state)
{
    struct fixture f;
    struct client half, unread, parked, blocked, fresh;
    (void)state;
    start(&f, NULL);
    client_open(&f, &half, 0);
    client_open(&f, &unread, 1);
    client_open(&f, &parked, 0);
    client_open(&f, &blocked, 1);
    say(&half, "PING\r\n*2\r\n$6\r\nT.FAST\r\n$3\r\nab");
    expect(&half, "PONG");
    say(&unread, "T.BIG 5000000\r\nT.MARK\r\n");
    say(&parked, "T.PARK p\r\nT.FAST q\r\n");
    say(&blocked, "T.BLOCK x\r\n");
    wait_for(&t.park_runs, 1);
    wait_for(&t.started, 1);
    client_open(&f, &fresh, 0);
    stand_still(&f, 20000000);
    join(&f);
    go_on(&f, 1);
    assert_int_equal(f.srv.clients, 4);
    expect_end(&blocked);
    say(&half, "c\r\n");
    expect(&half, "abc");
    assert_int_equal(hear(&unread)->text.n, 5000000);
    expect(&unread, "OK");
    wait_for(&t.park_runs, 2); /* what it waited for is gone: it looks again */
    atomic_store(&t.unparked, 1);
    waitlist_wake(t.parking);
    expect(&parked, "p");
    expect(&parked, "q");
    say(&fresh, "PING\r\n");
    expect(&fresh, "PONG");
    client_close(&half);
    client_close(&unread);
    client_close(&parked);
    client_close(&blocked);
    client_close(&fresh);
    stop(&f);
}

/* Nothing begins once it is told to stop; what has begun is answered. */
static void what_is_under_way_is_answered_before_it_begins_anew(void **state)
{
    struct fixture f;
    struct client c;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    say(&c, "T.WRITE a\r\nT.FAST b\r\nT.WRITE c\r\n");
    wait_for(&t.started, 1);
    stand_still(&f, 20000000);
    complete(0);
    join(&f);
    expect(&c, "a");
    assert_int_equal(value_of(&t.fast_runs), 0);
    go_on(&f, 0);
    expect(&c, "b");
    wait_for(&t.started, 2);
    complete(1);
    expect(&c, "c");
    client_close(&c);
    stop(&f);
}

/* The engine gives it back when it is closed; whose it was is told by the end of the connection that it is not known
 * what became of it. */
static void who_waits_beyond_the_deadline_is_closed(void **state)
{
    struct fixture f;
    struct client c, other;
    (void)state;
    start(&f, NULL);
    client_open(&f, &c, 0);
    client_open(&f, &other, 0);
    say(&c, "T.WRITE a\r\n");
    wait_for(&t.started, 1);
    stand_still(&f, 0);
    join(&f);
    go_on(&f, 1);
    expect_end(&c);
    assert_int_equal(value_of(&t.released), 1);
    say(&other, "PING\r\n");
    expect(&other, "PONG");
    client_close(&c);
    client_close(&other);
    stop(&f);
}

/* For the sanitizers. */
static void clients_come_and_go(void **state)
{
    struct fixture f;
    pthread_t thread;
    int over = 0;
    (void)state;
    start(&f, NULL);
    assert_int_equal(pthread_create(&thread, NULL, completer, &over), 0);
    for (unsigned i = 0; i < 40; i++) {
        struct client c;
        char text[32];
        client_open(&f, &c, i % THREADS);
        for (unsigned k = 0; k < 25; k++) {
            snprintf(text, sizeof text, "T.%s %u\r\n", i % 3 ? "WRITE" : "HSM", k);
            say(&c, text);
        }
        for (unsigned k = 0; k < 25 && i % 4; k++) { /* every fourth does not listen */
            snprintf(text, sizeof text, "%u", k);
            expect(&c, text);
        }
        client_close(&c);
    }
    stop_threads(&f);
    pthread_mutex_lock(&t.lock);
    over = 1;
    pthread_cond_broadcast(&t.changed);
    pthread_mutex_unlock(&t.lock);
    pthread_join(thread, NULL); /* nothing starts any more; what was started comes back to threads that have ended */
    free_all(&f);
    assert_true(t.started >= 30 * 25);
    assert_int_equal(t.released, t.started);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_simple_commands),
        cmocka_unit_test(answers_errors_with_redis_texts),
        cmocka_unit_test(pendings_answer_in_the_order_of_the_pipeline),
        cmocka_unit_test(a_command_of_another_lane_waits),
        cmocka_unit_test(commands_alone_do_not_overlap),
        cmocka_unit_test(an_answer_at_once_waits_for_its_turn),
        cmocka_unit_test(input_behind_a_held_command_survives),
        cmocka_unit_test(parked_commands_run_again),
        cmocka_unit_test(a_wake_before_parking_is_not_lost),
        cmocka_unit_test(a_client_that_goes_leaves_its_pendings),
        cmocka_unit_test(a_pipeline_before_end_of_file_is_answered),
        cmocka_unit_test(quit_answers_what_came_before),
        cmocka_unit_test(protocol_errors_come_after_pending_answers),
        cmocka_unit_test(a_big_pipeline_yields_and_keeps_order),
        cmocka_unit_test(a_big_pipeline_lets_others_have_their_turn),
        cmocka_unit_test(a_big_argument_arrives_in_pieces),
        cmocka_unit_test(answers_that_the_socket_does_not_take_are_kept),
        cmocka_unit_test(stopping_finishes_what_is_pending),
        cmocka_unit_test(connections_go_on_when_threads_begin_anew),
        cmocka_unit_test(what_is_under_way_is_answered_before_it_begins_anew),
        cmocka_unit_test(who_waits_beyond_the_deadline_is_closed),
        cmocka_unit_test(clients_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
