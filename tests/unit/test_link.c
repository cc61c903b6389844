/* test_link.c - a link over a socket pair: frames whole and in pieces, what closes it, and who waits for whom. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <event2/event.h>

#include "base/clock.h"
#include "engine/cellwire.h"
#include "server/link.h"
#include "tests/unit/tls_fixture.h"

static struct {
    struct event_base *base;
    struct link *l;
    int other;              /* the other end */
    unsigned frames, again; /* again: so many frames are not taken yet */
    uint64_t last;          /* seq of the newest frame */
    size_t record_bytes;
    char why[128]; /* it was closed */
    struct link_settings settings;
} t;

static enum err on_frame(void *arg, struct link *l, const struct cell_msg *m, struct bytes records)
{
    (void)arg;
    (void)l;
    if (t.again) {
        t.again--;
        return ERR_AGAIN;
    }
    if (m->seq == 13)
        return ERR_CORRUPT;
    t.frames++;
    t.last = m->seq;
    t.record_bytes += records.n;
    return ERR_OK;
}

static void on_closed(void *arg, struct link *l, const char *why)
{
    (void)arg;
    assert_ptr_equal(l, t.l);
    snprintf(t.why, sizeof t.why, "%s", why);
    t.l = NULL;
}

static void open_over(struct sock sock, struct obuf_limit limit, uint64_t timeout_ms, struct bytes in)
{
    t.base = event_base_new();
    t.settings = (struct link_settings){.limit = limit, .timeout_ms = timeout_ms, .ping_ms = 10000};
    struct link_config cfg = {.base = t.base,
                              .sock = sock,
                              .peer = 3,
                              .out = bytes_str("+CONTINUE\r\n"),
                              .in = in,
                              .settings = t.settings,
                              .frame = on_frame,
                              .closed = on_closed};
    assert_int_equal(link_new(&t.l, &cfg), ERR_OK);
    assert_int_equal(link_peer(t.l), 3);
}

static int open_pair(void)
{
    int fd[2];
    memset(&t, 0, sizeof t);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
    t.other = fd[1];
    return fd[0];
}

static void open_link(struct obuf_limit limit, uint64_t timeout_ms, struct bytes in)
{
    open_over((struct sock){.fd = open_pair()}, limit, timeout_ms, in);
}

static void close_link(void)
{
    link_close(t.l);
    close(t.other);
    event_base_free(t.base);
}

static void turn(void)
{
    event_base_loop(t.base, EVLOOP_NONBLOCK);
}

static void frame(uint8_t out[CELLWIRE_HEAD_BYTES], uint64_t seq, uint32_t records)
{
    struct cell_msg m = {.type = records ? CELL_RECORDS : CELL_ACK, .seq = seq, .leader = CELL_NOBODY};
    cellwire_put(out, &m, records);
}

static void send_bytes(const void *p, size_t n)
{
    assert_int_equal(send(t.other, p, n, MSG_NOSIGNAL), n);
}

static const struct obuf_limit no_limit;

static void frames_come_whole_whatever_pieces_they_come_in(void **state)
{
    uint8_t head[CELLWIRE_HEAD_BYTES], records[100] = {0};
    (void)state;
    open_link(no_limit, 60000, bytes_of(NULL, 0));
    for (uint64_t seq = 1; seq <= 3; seq++) {
        frame(head, seq, sizeof records);
        for (size_t i = 0; i < sizeof head; i++) {
            send_bytes(head + i, 1);
            turn();
        }
        assert_int_equal(t.frames, seq - 1);
        send_bytes(records, sizeof records);
        turn();
        assert_int_equal(t.frames, seq);
    }
    assert_int_equal(t.record_bytes, 3 * sizeof records);
    frame(head, 4, 0);
    for (int i = 0; i < 50; i++) /* several at once */
        send_bytes(head, sizeof head);
    for (int i = 0; i < 100 && t.frames < 53; i++)
        turn();
    assert_int_equal(t.frames, 53);
    close_link();
}

static void what_came_with_the_handshake_is_read(void **state)
{
    uint8_t head[CELLWIRE_HEAD_BYTES];
    char out[16] = "";
    (void)state;
    frame(head, 7, 0);
    open_link(no_limit, 60000, bytes_of(head, sizeof head));
    turn();
    assert_int_equal(t.last, 7);
    assert_int_equal(recv(t.other, out, sizeof out - 1, 0), 11);
    assert_string_equal(out, "+CONTINUE\r\n");
    close_link();
}

static void every_flipped_bit_of_a_head_closes(void **state)
{
    uint8_t head[CELLWIRE_HEAD_BYTES];
    (void)state;
    for (unsigned bit = 0; bit < 8 * sizeof head; bit += 7) {
        frame(head, 1, 0);
        head[bit / 8] ^= (uint8_t)(1 << bit % 8);
        open_link(no_limit, 60000, bytes_of(NULL, 0));
        send_bytes(head, sizeof head);
        turn();
        turn();
        assert_null(t.l);
        assert_string_equal(t.why, "a frame does not verify");
        assert_int_equal(t.frames, 0);
        close_link();
    }
}

static void records_that_are_refused_close(void **state)
{
    uint8_t head[CELLWIRE_HEAD_BYTES];
    (void)state;
    open_link(no_limit, 60000, bytes_of(NULL, 0));
    frame(head, 13, 0);
    send_bytes(head, sizeof head);
    turn();
    turn();
    assert_string_equal(t.why, "a frame's records do not verify");
    close_link();
}

/* What cannot be taken now is taken later, in order, and nothing overtakes it. */
static void a_frame_waits_for_room(void **state)
{
    uint8_t head[CELLWIRE_HEAD_BYTES];
    (void)state;
    open_link(no_limit, 1, bytes_of(NULL, 0));
    t.again = 2;
    for (uint64_t seq = 1; seq <= 3; seq++) {
        frame(head, seq, 0);
        send_bytes(head, sizeof head);
    }
    turn();
    turn();
    assert_int_equal(t.frames, 0);
    link_check(t.l, clock_mono_us() / 1000 + 5000, &t.settings); /* it is not the other side that is silent */
    link_resume(t.l);
    assert_int_equal(t.frames, 0);
    link_resume(t.l);
    turn();
    assert_int_equal(t.frames, 3);
    assert_int_equal(t.last, 3);
    close_link();
}

static void the_end_of_the_other_side_is_told(void **state)
{
    (void)state;
    open_link(no_limit, 60000, bytes_of(NULL, 0));
    shutdown(t.other, SHUT_WR);
    turn();
    turn();
    assert_string_equal(t.why, "the other side closed it");
    close_link();
}

static void a_silent_peer_is_given_up(void **state)
{
    (void)state;
    open_link(no_limit, 1000, bytes_of(NULL, 0));
    link_check(t.l, clock_mono_us() / 1000, &t.settings);
    turn();
    assert_non_null(t.l);
    link_check(t.l, clock_mono_us() / 1000 + 1001, &t.settings);
    turn();
    assert_string_equal(t.why, "it is silent: repl-timeout");
    close_link();
}

/* Two ends that have nothing to say are not silent. */
static void who_has_nothing_to_say_says_so(void **state)
{
    uint8_t head[2 * CELLWIRE_HEAD_BYTES];
    char out[16];
    uint32_t n;
    struct cell_msg m;
    uint64_t now;
    (void)state;
    open_link(no_limit, 60000, bytes_of(NULL, 0));
    assert_int_equal(recv(t.other, out, sizeof out, 0), 11);
    now = clock_mono_us() / 1000;
    link_check(t.l, now + 5000, &t.settings);
    assert_int_equal(recv(t.other, head, sizeof head, 0), -1);
    link_check(t.l, now + 11000, &t.settings);
    assert_int_equal(recv(t.other, head, sizeof head, 0), CELLWIRE_HEAD_BYTES);
    assert_int_equal(cellwire_get(head, &m, &n), ERR_OK);
    assert_int_equal(m.type, CELL_ALIVE);
    send_bytes(head, CELLWIRE_HEAD_BYTES); /* and hears it of the other */
    turn();
    assert_int_equal(t.frames, 1);
    t.settings.timeout_ms = 3000; /* more often than it would be taken for silent itself */
    link_check(t.l, now + 2500, &t.settings);
    assert_int_equal(recv(t.other, head, sizeof head, 0), CELLWIRE_HEAD_BYTES);
    assert_non_null(t.l);
    close_link();
}

/* CONFIG SET counts for links that are there. */
static void settings_change_under_a_link(void **state)
{
    static uint8_t block[1 << 20];
    uint8_t head[CELLWIRE_HEAD_BYTES];
    (void)state;
    open_link(no_limit, 60000, bytes_of(NULL, 0));
    frame(head, 1, sizeof block);
    for (int i = 0; i < 8; i++)
        link_send(t.l, bytes_of(head, sizeof head), bytes_of(block, sizeof block));
    link_check(t.l, clock_mono_us() / 1000, &t.settings);
    turn();
    assert_non_null(t.l);
    t.settings.limit.hard_bytes = 1 << 20;
    link_check(t.l, clock_mono_us() / 1000, &t.settings);
    turn();
    assert_string_equal(t.why, "it does not read: client-output-buffer-limit");
    close_link();
    open_link(no_limit, 60000, bytes_of(NULL, 0));
    t.settings.timeout_ms = 1000;
    link_check(t.l, clock_mono_us() / 1000 + 2000, &t.settings);
    turn();
    assert_string_equal(t.why, "it is silent: repl-timeout");
    close_link();
}

static void who_does_not_read_is_dropped(void **state)
{
    static uint8_t block[1 << 16];
    uint8_t head[CELLWIRE_HEAD_BYTES];
    (void)state;
    open_link((struct obuf_limit){.hard_bytes = 1 << 20}, 60000, bytes_of(NULL, 0));
    frame(head, 1, sizeof block);
    for (int i = 0; i < 64; i++)
        link_send(t.l, bytes_of(head, sizeof head), bytes_of(block, sizeof block));
    link_check(t.l, clock_mono_us() / 1000, &t.settings);
    turn();
    assert_string_equal(t.why, "it does not read: client-output-buffer-limit");
    close_link();
}

/* Records that would only pile up are left out; what is small goes out, and tells of the gap. */
static void records_for_a_slow_reader_are_left_out(void **state)
{
    static uint8_t block[1 << 20];
    uint8_t head[CELLWIRE_HEAD_BYTES];
    size_t got = 0;
    (void)state;
    open_link(no_limit, 60000, bytes_of(NULL, 0));
    frame(head, 1, sizeof block);
    for (int i = 0; i < 100; i++)
        link_send(t.l, bytes_of(head, sizeof head), bytes_of(block, sizeof block));
    for (ssize_t n = 1; n > 0;) {
        n = recv(t.other, block, sizeof block, 0);
        got += n > 0 ? (size_t)n : 0;
        turn();
        if (n < 0 && errno == EAGAIN && got < LINK_UNREAD_BYTES)
            n = 1;
    }
    assert_true(got >= LINK_UNREAD_BYTES && got < LINK_UNREAD_BYTES + (4u << 20));
    assert_non_null(t.l);
    close_link();
}

/* ---- over TLS ---- */

/* Of what is left inside of OpenSSL no event tells: what came behind the handshake's last answer, and an end right
 * behind a frame. */
static void what_waits_inside_of_tls_is_read(void **state)
{
    uint8_t block[2 * CELLWIRE_HEAD_BYTES + 1000], early[10];
    struct party party;
    struct sock here = {.fd = open_pair()}, there = {.fd = t.other};
    enum err a = ERR_AGAIN, b = ERR_AGAIN;
    (void)state;
    party_open(&party, "server");
    assert_int_equal(tls_server_new(party.tls, here.fd, &here.tls), ERR_OK);
    assert_int_equal(tls_client_new(party.tls, there.fd, NULL, &there.tls), ERR_OK);
    for (int i = 0; i < 100 && (a || b); i++) {
        b = tls_handshake(there.tls);
        a = tls_handshake(here.tls);
    }
    assert_int_equal(a | b, ERR_OK);
    assert_true(tls_peer_verified(here.tls));
    frame(block, 1, 0);
    frame(block + CELLWIRE_HEAD_BYTES, 2, 1000);
    assert_int_equal(sock_send(&there, block, sizeof block), sizeof block);
    assert_int_equal(sock_recv(&here, early, sizeof early), sizeof early);
    assert_true(sock_pending(&here));
    open_over(here, no_limit, 60000, bytes_of(early, sizeof early));
    for (int i = 0; i < 10 && t.frames < 2; i++)
        turn();
    assert_int_equal(t.frames, 2);
    assert_int_equal(t.record_bytes, 1000);

    assert_int_equal(sock_recv(&there, block, sizeof block), 11);
    assert_memory_equal(block, "+CONTINUE\r\n", 11);
    frame(block, 3, 0);
    assert_int_equal(sock_send(&there, block, CELLWIRE_HEAD_BYTES), CELLWIRE_HEAD_BYTES);
    tls_conn_free(there.tls); /* says goodbye; the socket stays open */
    for (int i = 0; i < 10 && t.l; i++)
        turn();
    assert_int_equal(t.last, 3);
    assert_string_equal(t.why, "the other side closed it");
    close_link();
    party_close(&party);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_whole_whatever_pieces_they_come_in),
        cmocka_unit_test(what_came_with_the_handshake_is_read),
        cmocka_unit_test(every_flipped_bit_of_a_head_closes),
        cmocka_unit_test(records_that_are_refused_close),
        cmocka_unit_test(a_frame_waits_for_room),
        cmocka_unit_test(the_end_of_the_other_side_is_told),
        cmocka_unit_test(a_silent_peer_is_given_up),
        cmocka_unit_test(who_has_nothing_to_say_says_so),
        cmocka_unit_test(settings_change_under_a_link),
        cmocka_unit_test(who_does_not_read_is_dropped),
        cmocka_unit_test(records_for_a_slow_reader_are_left_out),
        cmocka_unit_test(what_waits_inside_of_tls_is_read),
    };
    return cmocka_run_group_tests(tests, tls_world, tls_world_end);
}
