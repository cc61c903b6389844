/* A peer's snapshot is copied: from a peer that the test plays, which answers REPL.SNAPSHOT and REPL.PIECE out of two
 * files, and hangs up or lies where it is told to. */
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine_fixture.h"
#include "sweep.h"

#include "base/fault.h"
#include "base/file.h"
#include "server/lend.h"
#include "server/resync.h"

/* ---- the peer ---- */

static struct {
    int listener, stop_fd[2];
    int port;
    pthread_t thread;
    struct buf file[2]; /* the older one, the newer one */
    struct lend_file name[2];
    _Atomic long left;     /* bytes of pieces before it hangs up; -1: it does not */
    _Atomic int loading;   /* answers so often that it has none yet */
    _Atomic uint64_t sent; /* bytes of pieces */
    _Atomic int short_pieces;
} peer;

static int put(int fd, const void *p, size_t n)
{
    return send(fd, p, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static int put_text(int fd, const char *text)
{
    return put(fd, text, strlen(text));
}

static int is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static int answer_snapshot(int fd, char **w, unsigned n)
{
    char text[128];
    uint64_t below = UINT64_MAX, have = 0, from = strtoull(w[2], NULL, 10);
    for (unsigned i = 3; i + 1 < n; i++) {
        if (is(w[i], "BELOW"))
            below = strtoull(w[i + 1], NULL, 10);
        if (is(w[i], "HAVE"))
            have = strtoull(w[i + 1], NULL, 10);
    }
    if (atomic_load(&peer.loading) > 0) {
        atomic_fetch_sub(&peer.loading, 1);
        return put_text(fd, "-LOADING soon\r\n");
    }
    int at = peer.name[0].lsn == have && have < below && have >= from ? 0 : 1;
    while (at >= 0 && peer.name[at].lsn >= below)
        at--;
    if (at < 0)
        return put_text(fd, "-ERR there is no other snapshot here\r\n");
    snprintf(text, sizeof text, "*3\r\n:%lu\r\n:%u\r\n:%lu\r\n", peer.name[at].lsn, peer.name[at].term,
             peer.name[at].bytes);
    return put_text(fd, text);
}

static int answer_piece(int fd, char **w)
{
    char head[32];
    int at = strtoull(w[1], NULL, 10) == peer.name[1].lsn;
    size_t off = strtoull(w[3], NULL, 10), n = strtoull(w[4], NULL, 10), size = buf_size(&peer.file[at]);
    n = n < size - off ? n : size - off;
    long left = atomic_load(&peer.left);
    if (left >= 0 && (size_t)left < n) {
        snprintf(head, sizeof head, "$%zu\r\n", n);
        put_text(fd, head);
        put(fd, buf_data(&peer.file[at]) + off, (size_t)left);
        return 0;
    }
    if (left >= 0)
        atomic_fetch_sub(&peer.left, (long)n);
    atomic_fetch_add(&peer.sent, n);
    n -= atomic_load(&peer.short_pieces) != 0;
    snprintf(head, sizeof head, "$%zu\r\n", n);
    return put_text(fd, head) && put(fd, buf_data(&peer.file[at]) + off, n) && put_text(fd, "\r\n");
}

/* One command, as the client sends them; 0: none whole yet. Words are made C strings in place. */
static size_t parse(char *in, size_t have, char **w, unsigned *n)
{
    char *at = in, *end = in + have, *line;
    unsigned count;
    if (have < 4 || !(line = memchr(at, '\n', have)))
        return 0;
    count = (unsigned)strtoul(at + 1, NULL, 10);
    at = line + 1;
    for (unsigned i = 0; i < count && i < 16; i++) {
        if (at >= end || !(line = memchr(at, '\n', (size_t)(end - at))))
            return 0;
        size_t size = strtoul(at + 1, NULL, 10);
        at = line + 1;
        if ((size_t)(end - at) < size + 2)
            return 0;
        w[i] = at;
        at += size + 2;
    }
    for (unsigned i = 0; i < count && i < 16; i++)
        *strchr(w[i], '\r') = 0;
    *n = count;
    return (size_t)(at - in);
}

static void serve(int fd)
{
    char in[8192], *w[16];
    size_t have = 0, used;
    unsigned n;
    for (int on = 1; on;) {
        struct pollfd p[] = {{.fd = fd, .events = POLLIN}, {.fd = peer.stop_fd[0], .events = POLLIN}};
        poll(p, 2, -1);
        ssize_t got = p[1].revents ? 0 : recv(fd, in + have, sizeof in - have, 0);
        if (got <= 0)
            return;
        have += (size_t)got;
        while (on && (used = parse(in, have, w, &n))) {
            on = is(w[0], "REPL.SNAPSHOT") ? answer_snapshot(fd, w, n)
                 : is(w[0], "REPL.PIECE")  ? answer_piece(fd, w)
                                           : put_text(fd, "+PONG\r\n");
            memmove(in, in + used, have -= used);
        }
    }
    shutdown(fd, SHUT_WR); /* a close with requests unread would take back what was sent */
    while (recv(fd, in, sizeof in, 0) > 0) {
    }
}

static void *peer_main(void *arg)
{
    (void)arg;
    for (;;) {
        struct pollfd p[] = {{.fd = peer.listener, .events = POLLIN}, {.fd = peer.stop_fd[0], .events = POLLIN}};
        poll(p, 2, -1);
        if (p[1].revents)
            return NULL;
        int fd = accept(peer.listener, NULL, NULL);
        serve(fd);
        close(fd);
    }
}

static void start_peer(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    peer.listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(peer.listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(peer.listener, 8), 0);
    assert_int_equal(getsockname(peer.listener, (struct sockaddr *)&at, &n), 0);
    peer.port = ntohs(at.sin_port);
    assert_int_equal(pipe(peer.stop_fd), 0);
    atomic_store(&peer.left, -1);
    assert_int_equal(pthread_create(&peer.thread, NULL, peer_main, NULL), 0);
}

static void stop_peer(void)
{
    assert_int_equal(write(peer.stop_fd[1], "x", 1), 1);
    pthread_join(peer.thread, NULL);
    close(peer.listener);
    close(peer.stop_fd[0]);
    close(peer.stop_fd[1]);
}

/* ---- this side ---- */

static struct resync *r;
static struct resync_result result;
static unsigned results;
static uint8_t cell_id[16];
static uint64_t keep;

static void on_self(void *arg, struct dial_self *s)
{
    (void)arg, (void)s;
}

static uint64_t keep_free(void *arg)
{
    (void)arg;
    return keep;
}

static void on_done(void *arg, const struct resync_result *x)
{
    (void)arg;
    pthread_mutex_lock(&lock);
    result = *x;
    results++;
    pthread_cond_broadcast(&done_cond);
    pthread_mutex_unlock(&lock);
}

static void set(unsigned n)
{
    char path[16];
    snprintf(path, sizeof path, "p/%u", n);
    struct plain *p = malloc(sizeof *p + 3000);
    assert_non_null(p);
    p->n = 3000;
    memset(p->bytes, 'a' + (int)(n % 26), p->n);
    struct step s = {.kind = STEP_SECRET_SET, .path = bytes_str(path), .plain = p};
    assert_int_equal(run(vault_named("v"), &s), ERR_OK);
}

static int setup(void **state)
{
    struct snapshots_file f[4];
    struct resync_config cfg = {
        .dir = dir, .signer = {test_sign, NULL}, .keep_free = keep_free, .self = on_self, .done = on_done};
    char path[160];

    (void)state;
    snprintf(dir, sizeof dir, "%s/coffer-resync-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(dir));
    open_engine();
    for (unsigned half = 0; half < 2; half++) {
        for (unsigned i = 0; i < 150; i++)
            set(half * 150 + i);
        make_snapshot();
    }
    engine_cell_id(e, cell_id);
    assert_int_equal(snapshots_list(engine_snapshots(e), f, 4), 2);
    close_engine();
    for (unsigned i = 0; i < 2; i++) {
        peer.name[i] = (struct lend_file){.lsn = f[1 - i].lsn, .term = f[1 - i].term, .bytes = f[1 - i].bytes};
        snprintf(path, sizeof path, "%s/snapshots/%020lu-1.snap", dir, peer.name[i].lsn);
        buf_init(&peer.file[i], 4 << 20);
        assert_int_equal(file_read_all(path, &peer.file[i], 4 << 20), ERR_OK);
        assert_true(buf_size(&peer.file[i]) > LEND_PIECE_BYTES);
    }
    start_peer();
    results = 0;
    keep = 0;
    assert_int_equal(resync_new(&r, &cfg), ERR_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fault_disarm(FAULT_FILE);
    resync_free(r);
    stop_peer();
    for (unsigned i = 0; i < 2; i++)
        buf_fini(&peer.file[i]);
    atomic_store(&peer.loading, 0);
    atomic_store(&peer.short_pieces, 0);
    atomic_store(&peer.sent, 0);
    shell("rm -rf %s", dir);
    return 0;
}

static void ask(uint64_t ticket)
{
    struct resync_want w = {.port = peer.port, .from_lsn = 1, .ticket = ticket};
    snprintf(w.host, sizeof w.host, "127.0.0.1");
    memcpy(w.cell_id, cell_id, sizeof w.cell_id);
    assert_int_equal(resync_want(r, &w), ERR_OK);
}

static void await(unsigned n)
{
    pthread_mutex_lock(&lock);
    while (results < n)
        pthread_cond_wait(&done_cond, &lock);
    pthread_mutex_unlock(&lock);
}

static int try_it(void)
{
    unsigned n = results + 1;
    ask(n);
    await(n);
    assert_int_equal(result.want.ticket, n);
    return result.ok;
}

static void assert_copied(unsigned which)
{
    char path[INSTALL_PATH_BYTES];
    struct buf b;
    assert_true(result.ok);
    assert_int_equal(result.header.lsn, peer.name[which].lsn);
    assert_in_range(result.shards, 1, 2);
    install_path(path, dir, result.header.lsn, result.header.term);
    buf_init(&b, 4 << 20);
    assert_int_equal(file_read_all(path, &b, 4 << 20), ERR_OK);
    assert_true(bytes_equal(buf_bytes(&b), buf_bytes(&peer.file[which])));
    buf_fini(&b);
}

static void the_newest_is_copied(void **state)
{
    (void)state;
    atomic_store(&peer.loading, 2);
    assert_true(try_it());
    assert_copied(1);
    assert_int_equal(atomic_load(&peer.sent), peer.name[1].bytes);
}

/* As often as it is asked. */
static void what_it_waits_for_is_said_once(void **state)
{
    struct resync_info i;
    (void)state;
    char log[160];
    snprintf(log, sizeof log, "%s/log", dir);
    assert_int_equal(log_open(log, LOG_NOTICE), ERR_OK);
    atomic_store(&peer.loading, 1000);
    ask(1);
    do {
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        resync_info(r, &i);
    } while (!i.waits_for[0] || atomic_load(&peer.loading) > 997);
    assert_string_equal(i.waits_for, "it says: LOADING soon");
    atomic_store(&peer.loading, 0);
    await(1);
    assert_copied(1);
    resync_info(r, &i);
    assert_string_equal(i.waits_for, "");
    assert_int_equal(log_open("", LOG_WARNING), ERR_OK);
    shell("test $(grep -c 'has no snapshot to give yet.*LOADING soon' %s) = 1", log);
}

static void what_is_here_is_not_sent_again(void **state)
{
    (void)state;
    atomic_store(&peer.left, LEND_PIECE_BYTES + 10);
    assert_false(try_it());
    atomic_store(&peer.left, -1);
    assert_true(try_it());
    assert_copied(1);
    assert_int_equal(atomic_load(&peer.sent), peer.name[1].bytes);
    assert_true(try_it()); /* and when all is here nothing is */
    assert_copied(1);
    assert_int_equal(atomic_load(&peer.sent), peer.name[1].bytes);
}

static void an_older_one_is_gone_on_with(void **state)
{
    (void)state;
    shell("mkdir -p %s/fetch && head -c 1000 %s/snapshots/%020lu-1.snap >%s/fetch/%020lu-1.snap.part", dir, dir,
          peer.name[0].lsn, dir, peer.name[0].lsn);
    assert_true(try_it());
    assert_copied(0);
    assert_int_equal(atomic_load(&peer.sent), peer.name[0].bytes - 1000);
}

/* Damage at the peer: the one before. Damage in what lay here: the same once more. Nothing else there: why. */
static void what_does_not_verify_is_not_believed(void **state)
{
    (void)state;
    buf_data(&peer.file[1])[40000] ^= 1;
    assert_true(try_it());
    assert_copied(0);
    buf_data(&peer.file[0])[40000] ^= 1;
    shell("rm %s/fetch/*", dir);
    assert_false(try_it());
    assert_non_null(strstr(result.why, "there is no other snapshot"));
    shell("test -z \"$(ls %s/fetch)\"", dir);
    buf_data(&peer.file[1])[40000] ^= 1;
    buf_data(&peer.file[0])[40000] ^= 1;
    shell("head -c 90000 /dev/zero >%s/fetch/%020lu-1.snap.part", dir, peer.name[1].lsn);
    assert_true(try_it());
    assert_copied(1);
}

static void what_is_no_snapshot_of_the_cell_is_not_believed(void **state)
{
    (void)state;
    cell_id[3] ^= 1;
    assert_false(try_it());
    cell_id[3] ^= 1;
    peer.name[1].term = 9;
    assert_true(try_it());
    assert_copied(0);
    peer.name[1].term = 1;
    atomic_store(&peer.short_pieces, 1);
    shell("rm -f %s/fetch/*", dir);
    assert_false(try_it());
    assert_non_null(strstr(result.why, "not understood"));
}

static void without_room_it_is_not_begun(void **state)
{
    (void)state;
    keep = UINT64_MAX;
    assert_false(try_it());
    assert_non_null(strstr(result.why, "no room"));
    assert_int_equal(atomic_load(&peer.sent), 0);
}

/* A new want for the same keeps what is under way; one that is not wanted any more says nothing. */
static void tickets(void **state)
{
    (void)state;
    atomic_store(&peer.loading, 1000000);
    ask(1);
    ask(2);
    resync_forget(r);
    ask(3);
    ask(4);
    atomic_store(&peer.loading, 0);
    await(1);
    assert_copied(1);
    assert_int_equal(result.want.ticket, 4);
    struct resync_info i;
    resync_info(r, &i);
    assert_int_equal(i.here_bytes, peer.name[1].bytes);
    assert_int_equal(i.total_bytes, peer.name[1].bytes);
}

/* The copy does not come, or it comes whole; and the next try brings it. */
static void a_failure_at_each_step(void **state)
{
    static const int codes[] = {ENOSPC, EIO};
    unsigned failures = 0;
    (void)state;
    for (unsigned c = 0; c < 2; c++) {
        int fired = 1;
        for (long n = 1; fired; n += SWEEP_STEP) {
            shell("rm -rf %s/fetch", dir);
            fault_arm(FAULT_FILE, n, codes[c]);
            int ok = try_it();
            fired = fault_fired(FAULT_FILE);
            fault_disarm(FAULT_FILE);
            assert_true(ok || fired);
            failures += !ok;
            if (!ok)
                assert_true(try_it());
            assert_copied(1);
        }
    }
    print_message("# %u failures\n", failures);
    assert_true(failures > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_newest_is_copied, setup, teardown),
        cmocka_unit_test_setup_teardown(what_it_waits_for_is_said_once, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_here_is_not_sent_again, setup, teardown),
        cmocka_unit_test_setup_teardown(an_older_one_is_gone_on_with, setup, teardown),
        cmocka_unit_test_setup_teardown(what_does_not_verify_is_not_believed, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_snapshot_of_the_cell_is_not_believed, setup, teardown),
        cmocka_unit_test_setup_teardown(without_room_it_is_not_begun, setup, teardown),
        cmocka_unit_test_setup_teardown(tickets, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failure_at_each_step, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
