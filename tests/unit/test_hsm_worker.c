/* test_hsm_worker.c - the worker process over its socket: batches, cut frames, how it ends and with which code, and its
 * hygiene.
 *
 * Workers are this program started anew with "worker FD", as the server starts coffer-hsm: never by fork, a child would
 * inherit a loaded module. */
#include "tests/unit/hsm_fixture.h"

#include <signal.h>
#include <sys/socket.h>

#define WRONG_PIN "not-the-pin"

static char root[PATH_MAX];
static struct node node;

struct peer {
    pid_t pid;
    int fd;
    struct buf in;
};

static const struct bytes none = {0};

static void peer_start(struct peer *p)
{
    char self[PATH_MAX], number[16];
    char *argv[] = {self, (char *)"worker", number, NULL};
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    int pair[2];

    assert_true(n > 0);
    self[n] = '\0';
    node_select(&node);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(fcntl(pair[0], F_SETFD, FD_CLOEXEC), 0);
    snprintf(number, sizeof number, "%d", pair[1]);
    assert_int_equal(posix_spawn(&p->pid, self, NULL, NULL, argv, environ), 0);
    close(pair[1]);
    p->fd = pair[0];
    buf_init_secret(&p->in, 64u << 20);
}

static int peer_wait(struct peer *p)
{
    int status = -1;

    assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
    close(p->fd);
    buf_fini(&p->in);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void peer_send(struct peer *p, struct bytes b)
{
    while (b.n) {
        ssize_t n = send(p->fd, b.p, b.n, MSG_NOSIGNAL);

        assert_true(n > 0);
        b = bytes_of(b.p + n, b.n - (size_t)n);
    }
}

/* 1 and a frame; 0 at end of file. The frame lives until the next call. */
static int peer_recv(struct peer *p, struct hsm_frame *f)
{
    static size_t used;
    enum err e;

    if (f->part[0].p || f->parts)
        buf_consume(&p->in, used);
    while ((e = proto_get(buf_bytes(&p->in), f, &used)) == ERR_AGAIN) {
        uint8_t *room;
        ssize_t n;

        assert_int_equal(buf_reserve(&p->in, 65536, &room), ERR_OK);
        n = recv(p->fd, room, 65536, 0);
        if (n <= 0)
            return 0;
        buf_added(&p->in, (size_t)n);
    }
    assert_int_equal(e, ERR_OK);
    return 1;
}

static void put(struct buf *b, uint32_t id, enum hsm_op op, unsigned n, struct bytes part)
{
    assert_int_equal(proto_put(b, id, (uint16_t)op, &part, n), ERR_OK);
}

static void put_start(struct buf *b, const char *module, const char *pin)
{
    struct buf s;

    buf_init_secret(&s, 65536);
    assert_int_equal(proto_put_setting(&s, "module", bytes_str(module)), ERR_OK);
    assert_int_equal(proto_put_setting(&s, "token", bytes_str(node.token)), ERR_OK);
    assert_int_equal(proto_put_setting(&s, "pin", bytes_str(pin)), ERR_OK);
    put(b, 1, HSM_START, 1, buf_bytes(&s));
    buf_fini(&s);
}

static void up(struct peer *p)
{
    struct hsm_frame f = {0};
    struct buf b;

    buf_init_secret(&b, 1 << 20);
    peer_start(p);
    put_start(&b, node.module, node.pin);
    peer_send(p, buf_bytes(&b));
    assert_true(peer_recv(p, &f));
    assert_true(f.id == 1 && f.code == ERR_OK && f.parts == 1 && has_text(f.part[0], "token:coffer\n"));
    buf_clear(&p->in);
    buf_fini(&b);
}

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(mem_init(1), ERR_OK);
    make_temp_dir(root);
    node_softhsm(&node, root, "node", NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_tree(root);
    return 0;
}

static void test_batch_is_answered_in_order(void **state)
{
    struct hsm_frame f = {0};
    struct peer p;
    struct buf b;
    uint8_t count[4];

    (void)state;
    up(&p);
    buf_init(&b, 1 << 20);
    for (uint32_t i = 0; i < 500; i++) {
        put_le32(count, 1 + i);
        put(&b, 1000 + i, i % 50 ? HSM_RANDOM : HSM_PROBE, i % 50 ? 1 : 0, bytes_of(count, 4));
    }
    peer_send(&p, buf_bytes(&b));
    shutdown(p.fd, SHUT_WR); /* what was sent is answered, then it ends */
    for (uint32_t i = 0; i < 500; i++) {
        assert_true(peer_recv(&p, &f));
        assert_true(f.id == 1000 + i && f.code == ERR_OK);
        assert_int_equal(f.parts, i % 50 ? 1 : 0);
        if (f.parts)
            assert_int_equal(f.part[0].n, 1 + i);
        else
            f.parts = 1; /* have it consumed */
    }
    assert_false(peer_recv(&p, &f));
    buf_fini(&b);
    assert_int_equal(peer_wait(&p), WORKER_EXIT_EOF);
}

static void test_frames_in_pieces(void **state)
{
    struct hsm_frame f = {0};
    struct peer p;
    struct buf b;

    (void)state;
    up(&p);
    buf_init(&b, 1 << 20);
    put(&b, 5, HSM_RANDOM, 1, bytes_of("\x08\0\0\0", 4));
    put(&b, 6, HSM_INFO, 0, none);
    for (size_t i = 0; i < buf_size(&b); i++)
        peer_send(&p, bytes_of(buf_data(&b) + i, 1));
    assert_true(peer_recv(&p, &f));
    assert_true(f.id == 5 && f.part[0].n == 8);
    assert_true(peer_recv(&p, &f));
    assert_true(f.id == 6 && has_text(f.part[0], "op.RANDOM:count=1"));
    shutdown(p.fd, SHUT_RDWR);
    buf_fini(&b);
    assert_int_equal(peer_wait(&p), WORKER_EXIT_EOF);
}

/* More answers than fit in its buffers: written as they come. */
static void test_large_answers(void **state)
{
    struct hsm_frame f = {0};
    struct peer p;
    struct buf b;

    (void)state;
    up(&p);
    buf_init(&b, 1 << 20);
    for (uint32_t i = 0; i < 12; i++)
        put(&b, i, HSM_RANDOM, 1, bytes_of("\0\0\x10\0", 4));
    put(&b, 12, HSM_RANDOM, 1, bytes_of("\1\0\x10\0", 4));
    peer_send(&p, buf_bytes(&b));
    for (uint32_t i = 0; i < 12; i++) {
        assert_true(peer_recv(&p, &f));
        assert_true(f.id == i && f.code == ERR_OK && f.part[0].n == 1 << 20);
    }
    assert_true(peer_recv(&p, &f));
    assert_true(f.code == ERR_TOOBIG && f.parts == 1 && has_text(f.part[0], "RANDOM"));
    shutdown(p.fd, SHUT_RDWR);
    buf_fini(&b);
    assert_int_equal(peer_wait(&p), WORKER_EXIT_EOF);
}

/* A request goes to a fresh worker; what it answers, and how it ends. */
static void check_end(struct bytes request, enum err answer, const char *text, enum worker_exit code)
{
    struct hsm_frame f = {0};
    struct peer p;

    peer_start(&p);
    peer_send(&p, request);
    if (answer != ERR_OK) {
        assert_true(peer_recv(&p, &f));
        assert_int_equal(f.code, answer);
        assert_int_equal(f.parts, 1);
        if (!has_text(f.part[0], text))
            fail_msg("'%.*s' does not say '%s'", (int)f.part[0].n, (const char *)f.part[0].p, text);
        assert_false(has_text(f.part[0], WRONG_PIN));
    }
    assert_false(peer_recv(&p, &f));
    assert_int_equal(peer_wait(&p), code);
}

static void test_ends(void **state)
{
    struct buf b;

    (void)state;
    buf_init_secret(&b, 1 << 20);
    check_end(bytes_of("\0\0\0\0\0\0\0\0\0\0\0\0", 12), ERR_OK, NULL, WORKER_EXIT_PROTOCOL);
    check_end(bytes_of("\xff\xff\xff\xff", 4), ERR_OK, NULL, WORKER_EXIT_PROTOCOL);
    put(&b, 9, HSM_PROBE, 0, none);
    check_end(buf_bytes(&b), ERR_PROTOCOL, "before START", WORKER_EXIT_PROTOCOL);
    buf_clear(&b);
    put_start(&b, node.module, WRONG_PIN);
    put(&b, 9, HSM_PROBE, 0, none); /* not processed any more */
    check_end(buf_bytes(&b), ERR_WRONGPASS, "CKR_PIN_INCORRECT", WORKER_EXIT_PIN);
    buf_clear(&b);
    put_start(&b, "/nonexistent.so", node.pin);
    check_end(buf_bytes(&b), ERR_NOTFOUND, "/nonexistent.so", WORKER_EXIT_CONFIG);
    buf_fini(&b);
}

static void test_lost_token_ends_the_worker(void **state)
{
    char from[PATH_MAX + 16], to[PATH_MAX + 16];
    struct hsm_frame f = {0};
    struct peer p;
    struct buf b;

    (void)state;
    up(&p);
    buf_init(&b, 1 << 20);
    snprintf(from, sizeof from, "%s/tokens", node.dir);
    snprintf(to, sizeof to, "%s/away", node.dir);
    assert_int_equal(rename(from, to), 0);
    put(&b, 5, HSM_PROBE, 0, none);
    put(&b, 6, HSM_PROBE, 0, none);
    peer_send(&p, buf_bytes(&b));
    assert_true(peer_recv(&p, &f));
    assert_true(f.id == 5 && f.code == ERR_HSMDOWN);
    assert_false(peer_recv(&p, &f));
    buf_fini(&b);
    assert_int_equal(peer_wait(&p), WORKER_EXIT_DEVICE);
    assert_int_equal(rename(to, from), 0);
}

/* Of a batch on a module with these rules the first answer comes, whatever becomes of the others. */
static void check_first_answer(const char *rules, struct bytes batch, uint32_t id)
{
    struct node plain = node;
    char control[PATH_MAX + 16];
    struct hsm_frame f = {0};
    struct peer p;
    ssize_t n = readlink("/proc/self/exe", node.module, sizeof node.module - 16);

    assert_true(n > 0);
    node.module[n] = '\0';
    snprintf(strrchr(node.module, '/'), 16, "/p11fault.so");
    snprintf(control, sizeof control, "%s/control", root);
    write_text(control, "");
    assert_int_equal(setenv("P11FAULT_CTL", control, 1), 0);
    up(&p);
    write_text(control, rules);
    peer_send(&p, batch);
    assert_true(peer_recv(&p, &f));
    assert_true(f.id == id && f.code == ERR_OK);
    assert_int_equal(kill(p.pid, SIGKILL), 0);
    assert_int_equal(peer_wait(&p), -1);
    assert_int_equal(unsetenv("P11FAULT_CTL"), 0);
    node = plain;
}

/* A batch that takes long must not be taken for a hang: what is answered so far goes out before its end. */
static void test_long_batch_is_answered_as_it_goes(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 1 << 20);
    put(&b, 5, HSM_RANDOM, 1, bytes_of("\x08\0\0\0", 4));
    put(&b, 6, HSM_PROBE, 0, none); /* never answered, and so is nothing behind it */
    check_first_answer("C_GenerateRandom 0 delay 20\nC_GetTokenInfo 0 hang\n", buf_bytes(&b), 5);
    buf_fini(&b);
}

/* A key that takes seconds to make, right behind a probe: the probe's answer does not wait for it. */
static void test_no_answer_waits_for_a_slow_key(void **state)
{
    uint8_t head[MASKED_KEY_HEADER];
    struct blob config;
    struct bytes part[2];
    struct rig r;
    struct buf b;

    (void)state;
    rig_start(&r, &node);
    new_partition(&r, 0x51, &config);
    rig_fini(&r);
    key_head(head, ALG_CODE_RSA_2048, 7, 1, 1);
    part[0] = blob_bytes(&config);
    part[1] = bytes_of(head, sizeof head);
    buf_init(&b, 1 << 20);
    put(&b, 5, HSM_PROBE, 0, none);
    assert_int_equal(proto_put(&b, 6, HSM_KEY_NEW_SLOW, part, 2), ERR_OK);
    check_first_answer("C_GenerateKeyPair 0 hang\n", buf_bytes(&b), 5);
    buf_fini(&b);
}

/* A service manager signals all processes of the service; requests in flight must still be answered. */
static void test_signals_do_not_end_it(void **state)
{
    struct hsm_frame f = {0};
    struct peer p;
    struct buf b;

    (void)state;
    up(&p);
    buf_init(&b, 1 << 20);
    assert_int_equal(kill(p.pid, SIGTERM), 0);
    assert_int_equal(kill(p.pid, SIGINT), 0);
    assert_int_equal(kill(p.pid, SIGHUP), 0);
    put(&b, 5, HSM_RANDOM, 1, bytes_of("\x08\0\0\0", 4));
    peer_send(&p, buf_bytes(&b));
    assert_true(peer_recv(&p, &f));
    assert_int_equal(f.code, ERR_OK);
    shutdown(p.fd, SHUT_RDWR);
    buf_fini(&b);
    assert_int_equal(peer_wait(&p), WORKER_EXIT_EOF);
}

/* Descriptors that leaked through the exec are closed, core files are off. */
static void test_hygiene(void **state)
{
    char path[64], text[4096], byte;
    struct peer p;
    int leak[2];
    FILE *limits;
    size_t n;

    (void)state;
    assert_int_equal(pipe(leak), 0); /* both ends survive the exec */
    up(&p);
    close(leak[1]);
    assert_int_equal(read(leak[0], &byte, 1), 0); /* end of file: nobody else has the other end */
    close(leak[0]);
    snprintf(path, sizeof path, "/proc/%d/limits", (int)p.pid);
    limits = fopen(path, "r");
    assert_non_null(limits);
    n = fread(text, 1, sizeof text - 1, limits);
    text[n] = '\0';
    fclose(limits);
    assert_non_null(strstr(text, "Max core file size        0                    0 "));
    shutdown(p.fd, SHUT_RDWR);
    assert_int_equal(peer_wait(&p), WORKER_EXIT_EOF);
    assert_int_equal(worker_main(2), WORKER_EXIT_USAGE);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_is_answered_in_order),
        cmocka_unit_test(test_frames_in_pieces),
        cmocka_unit_test(test_large_answers),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_lost_token_ends_the_worker),
        cmocka_unit_test(test_long_batch_is_answered_as_it_goes),
        cmocka_unit_test(test_no_answer_waits_for_a_slow_key),
        cmocka_unit_test(test_signals_do_not_end_it),
        cmocka_unit_test(test_hygiene),
    };

    if (argc == 3 && strcmp(argv[1], "worker") == 0)
        return worker_main(atoi(argv[2]));
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
