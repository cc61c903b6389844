/* dial.c - see dial.h. One try is a list of steps, each a command and what its answer must be; all of it blocks, in
 * short slices, so that a dialer that is to end does so soon.
 *
 * A stock Redis is found out before PSYNC, by an option of REPLCONF that it does not know: asked for PSYNC it would
 * fork and send its whole data. */
#include "server/dial.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/mem.h"
#include "resp/answer.h"

#define TRY_US 5000000   /* for all of a try */
#define AGAIN_US 20000   /* behind a link that fell, and behind a first try that failed */
#define LIVED_US 1000000 /* a link that falls sooner makes the pause longer */
#define FALLS_US 1000000 /* up to this */
#define PAUSE_US 200000  /* between tries, in the end: cells begin in some of them */
#define REFUSED_US 1000000
#define SLICE_MS 100
#define COMMAND_BYTES (64u << 10)
#define READ_BYTES (DIAL_EARLY_BYTES / 2)
#define TALK_READ_BYTES (64u << 10)
#define TEXT(a) \
    (int)((a)->text.n < HELLO_WHY_BYTES - 16 ? (a)->text.n : HELLO_WHY_BYTES - 16), (const char *)(a)->text.p

struct dialer {
    struct dialer_config cfg;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    int connected, again; /* under lock */
    _Atomic int stop, over;
};

/* One try. */
struct
try {
    struct dialer *d;
    struct dial_self self;
    struct dial_result r;
    uint64_t end_us;
    struct answer_parser parser;
    struct buf in, command;
    size_t read_bytes;      /* at once */
    int (*over)(void *arg); /* of a conversation; else the dialer says */
    void *over_arg;
};

static int is_over(const struct try *t)
{
    return t->over ? t->over(t->over_arg) : atomic_load(&t->d->stop);
}

/* ---- the socket ---- */

static enum err fail(struct try *t, enum dial_outcome outcome, const char *why)
{
    t->r.outcome = outcome;
    snprintf(t->r.why, sizeof t->r.why, "%s", why);
    return ERR_IO;
}

static enum err refused(struct try *t, enum dial_outcome outcome, const struct answer *a)
{
    t->r.outcome = outcome;
    snprintf(t->r.why, sizeof t->r.why, "it says: %.*s", TEXT(a));
    return ERR_IO;
}

static enum err wait_for(struct try *t, short events)
{
    while (clock_mono_us() < t->end_us && !is_over(t)) {
        struct pollfd p = {.fd = t->r.sock.fd, .events = events};
        if (poll(&p, 1, SLICE_MS) > 0)
            return ERR_OK;
    }
    return fail(t, DIAL_FAILED, "it does not answer");
}

static enum err connect_to(struct try *t, const struct addrinfo *a)
{
    int error = 0;
    socklen_t n = sizeof error;

    t->r.sock.fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (t->r.sock.fd < 0)
        return fail(t, DIAL_FAILED, strerror(errno));
    if (connect(t->r.sock.fd, a->ai_addr, a->ai_addrlen) != 0 && errno != EINPROGRESS)
        return fail(t, DIAL_FAILED, strerror(errno));
    if (wait_for(t, POLLOUT))
        return ERR_IO;
    if (getsockopt(t->r.sock.fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error == 0)
        return ERR_OK;
    return fail(t, DIAL_FAILED, strerror(error));
}

static enum err connect_any(struct try *t)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    char port[12];
    enum err e = ERR_IO;
    snprintf(port, sizeof port, "%d", t->d->cfg.port);
    int rc = getaddrinfo(t->d->cfg.host, port, &hints, &list);
    if (rc != 0)
        return fail(t, DIAL_FAILED, gai_strerror(rc));
    for (struct addrinfo *a = list; a && e; a = a->ai_next) {
        sock_close(&t->r.sock);
        e = connect_to(t, a);
    }
    freeaddrinfo(list);
    return e;
}

/* ---- bytes, over TLS or not ---- */

/* The call that was last could not go on: until it can, or why not. */
static enum err wait_or_fail(struct try *t, int sending)
{
    if (errno != EAGAIN && errno != EWOULDBLOCK)
        return fail(t, DIAL_FAILED, sock_error(&t->r.sock, errno));
    return wait_for(t, sock_wants_to_write(&t->r.sock, sending) ? POLLOUT : POLLIN);
}

/* The other side must show a certificate of the authority, whoever's: as between Redises. */
static enum err step_tls(struct try *t)
{
    enum err e;
    if (!t->self.tls)
        return ERR_OK;
    e = tls_client_new(t->self.tls, t->r.sock.fd, NULL, &t->r.sock.tls);
    if (e)
        return fail(t, DIAL_FAILED, e == ERR_OOM ? "out of memory" : "TLS: it was switched off meanwhile");
    while ((e = tls_handshake(t->r.sock.tls)) == ERR_AGAIN)
        if (wait_for(t, sock_wants_to_write(&t->r.sock, 0) ? POLLOUT : POLLIN))
            return ERR_IO;
    if (e) {
        t->r.outcome = DIAL_FAILED;
        snprintf(t->r.why, sizeof t->r.why, "TLS: the handshake failed: %s", tls_error(t->r.sock.tls));
        return ERR_IO;
    }
    return ERR_OK;
}

/* Who turns a connection away says so, unasked, and closes: what it said is still there when sending fails. */
static enum err take_last_words(struct try *t)
{
    uint8_t *room;
    size_t used = 0;
    ssize_t n;
    while (buf_reserve(&t->in, t->read_bytes, &room) == ERR_OK && (n = sock_recv(&t->r.sock, room, t->read_bytes)) > 0)
        buf_added(&t->in, (size_t)n);
    if (buf_size(&t->in) && answer_parse(&t->parser, buf_bytes(&t->in), &used) == ANSWER_READY &&
        t->parser.root->type == ANSWER_ERROR)
        return refused(t, DIAL_REFUSED, t->parser.root);
    return ERR_IO;
}

static enum err send_command(struct try *t)
{
    while (buf_size(&t->command)) {
        ssize_t n = sock_send(&t->r.sock, buf_data(&t->command), buf_size(&t->command));
        if (n > 0)
            buf_consume(&t->command, (size_t)n);
        else if (wait_or_fail(t, 1))
            return take_last_words(t);
    }
    return ERR_OK;
}

static enum err read_some(struct try *t)
{
    uint8_t *room;
    if (buf_reserve(&t->in, t->read_bytes, &room))
        return fail(t, DIAL_FAILED, "it answers too much");
    ssize_t n = sock_recv(&t->r.sock, room, t->read_bytes);
    if (n > 0)
        buf_added(&t->in, (size_t)n);
    else if (n == 0)
        return fail(t, DIAL_FAILED, "it closed the connection");
    return n > 0 ? ERR_OK : wait_or_fail(t, 0);
}

static enum err answer(struct try *t, const struct answer **out)
{
    for (;;) {
        size_t used = 0;
        enum answer_status s = buf_size(&t->in) ? answer_parse(&t->parser, buf_bytes(&t->in), &used) : ANSWER_MORE;
        buf_consume(&t->in, used);
        if (s == ANSWER_READY) {
            *out = t->parser.root;
            return ERR_OK;
        }
        if (s != ANSWER_MORE)
            return fail(t, DIAL_FAILED, "it does not speak RESP");
        if (read_some(t))
            return ERR_IO;
    }
}

/* ---- commands ---- */

static enum err put_word(struct buf *b, struct bytes w)
{
    char head[32];
    enum err e = buf_put(b, head, (size_t)snprintf(head, sizeof head, "$%zu\r\n", w.n));
    if (!e)
        e = buf_put(b, w.p, w.n);
    return e ? e : buf_put(b, "\r\n", 2);
}

/* All of it is sent, or nothing. */
static enum err say(struct try *t, const struct bytes *words, unsigned n)
{
    char head[16];
    buf_clear(&t->command);
    enum err e = buf_put(&t->command, head, (size_t)snprintf(head, sizeof head, "*%u\r\n", n));
    for (unsigned i = 0; i < n && !e; i++)
        e = put_word(&t->command, words[i]);
    if (!e)
        return send_command(t);
    buf_clear(&t->command);
    return fail(t, DIAL_FAILED, "out of memory");
}

static enum err ask(struct try *t, const struct bytes *words, unsigned n, const struct answer **a)
{
    enum err e = say(t, words, n);
    return e ? e : answer(t, a);
}

static int starts(const struct answer *a, const char *prefix)
{
    size_t n = strlen(prefix);
    return a->text.n >= n && bytes_equal(bytes_of(a->text.p, n), bytes_str(prefix));
}

static enum err must_be_ok(struct try *t, const struct bytes *words, unsigned n)
{
    const struct answer *a;
    enum err e = ask(t, words, n, &a);
    if (!e && a->type == ANSWER_ERROR)
        e = refused(t, starts(a, "LOADING") ? DIAL_FAILED : DIAL_REFUSED, a);
    return e;
}

/* What a listener says, unasked, before it closes (listen.c). */
static int is_turned_away(const struct answer *a)
{
    return a->type == ANSWER_ERROR && (starts(a, "DENIED") || starts(a, "ERR max number of clients"));
}

static enum err step_ping(struct try *t)
{
    const struct answer *a;
    struct bytes words[] = {bytes_str("PING")};
    enum err e = ask(t, words, 1, &a); /* whatever it answers: it may want a login first, be loading, have no quorum */
    return !e && is_turned_away(a) ? refused(t, DIAL_REFUSED, a) : e;
}

static enum err step_login(struct try *t)
{
    struct bytes words[3] = {bytes_str("AUTH")};
    unsigned n = 1;
    if (!buf_size(&t->self.password))
        return ERR_OK;
    if (buf_size(&t->self.user))
        words[n++] = buf_bytes(&t->self.user);
    words[n++] = buf_bytes(&t->self.password);
    return must_be_ok(t, words, n);
}

static enum err step_address(struct try *t)
{
    char port[12];
    snprintf(port, sizeof port, "%d", t->self.port);
    struct bytes words[] = {bytes_str("REPLCONF"), bytes_str("listening-port"), bytes_str(port),
                            bytes_str("ip-address"), bytes_str(t->self.announce_host)};
    return must_be_ok(t, words, t->self.announce_host[0] ? 5 : 3);
}

static enum err step_version(struct try *t)
{
    const struct answer *a;
    struct bytes words[] = {bytes_str("REPLCONF"), bytes_str("wbl-version"), bytes_str("1")};
    enum err e = ask(t, words, 3, &a);
    if (!e && a->type == ANSWER_ERROR && starts(a, "ERR Unrecognized REPLCONF"))
        return fail(t, DIAL_NOT_COFFER, "that is a Redis: it has no log of Coffer's to follow");
    return !e && a->type == ANSWER_ERROR ? refused(t, DIAL_REFUSED, a) : e;
}

/* The hello behind the first word, and what is to be thought of it. */
static enum err step_psync(struct try *t)
{
    char text[HELLO_TEXT_BYTES], *at = text;
    struct bytes words[HELLO_WORDS + 1] = {bytes_str("PSYNC")};
    const struct answer *a;

    hello_put(&t->self.hello, text);
    for (unsigned i = 1; i <= HELLO_WORDS; i++) {
        size_t n = strcspn(at, " ");
        words[i] = bytes_of(at, n);
        at += n + 1;
    }
    enum err e = ask(t, words, HELLO_WORDS + 1, &a);
    if (e)
        return e;
    int welcome = a->type == ANSWER_STATUS && starts(a, "CONTINUE ");
    if (!welcome && !(a->type == ANSWER_ERROR && starts(a, "NEWBORN ")))
        return refused(t, starts(a, "LOADING") ? DIAL_FAILED : DIAL_REFUSED, a);
    size_t skip = welcome ? sizeof "CONTINUE" : sizeof "NEWBORN";
    if (hello_get_text(bytes_of(a->text.p + skip, a->text.n - skip), &t->r.theirs))
        return fail(t, DIAL_REFUSED, "its answer to PSYNC is not understood");
    enum hello_verdict v = hello_judge(&t->self.hello, &t->r.theirs, t->r.why);
    t->r.outcome = v == HELLO_REFUSED              ? DIAL_REFUSED
                   : v == HELLO_STRANGER           ? DIAL_STRANGER
                   : welcome && v == HELLO_WELCOME ? DIAL_WELCOME
                                                   : DIAL_INTRODUCED;
    return ERR_OK;
}

static enum err (*const steps[])(struct try *t) = {
    connect_any, step_tls, step_ping, step_login, step_address, step_version, step_psync,
};
#define STEPS_LOGGED_IN 4 /* of these, until commands may be said */
#define STEPS (sizeof steps / sizeof steps[0])

static void try_init(struct try *t, struct dialer *d, size_t answer_bytes, size_t read_bytes, int secret)
{
    *t = (struct try){.d = d, .r.sock.fd = -1, .r.outcome = DIAL_FAILED, .read_bytes = read_bytes};
    t->end_us = clock_mono_us() + TRY_US;
    buf_init_secret(&t->self.user, COMMAND_BYTES);
    buf_init_secret(&t->self.password, COMMAND_BYTES);
    buf_init_secret(&t->command, COMMAND_BYTES);
    secret ? buf_init_secret(&t->in, answer_bytes) : buf_init(&t->in, answer_bytes);
    answer_parser_init(&t->parser, &answer_default_limits, secret);
}

static void try_fini(struct try *t)
{
    answer_parser_fini(&t->parser);
    buf_fini(&t->in);
    buf_fini(&t->command);
    buf_fini(&t->self.user);
    buf_fini(&t->self.password);
}

static enum err take_steps(struct try *t, unsigned n)
{
    enum err e = ERR_OK;
    t->d->cfg.self(t->d->cfg.arg, &t->self);
    for (unsigned i = 0; i < n && !e; i++)
        e = steps[i](t);
    return e;
}

static void try_once(struct dialer *d, struct dial_result *out)
{
    struct try t;
    try_init(&t, d, DIAL_EARLY_BYTES, READ_BYTES, 0);
    (void)!take_steps(&t, STEPS);
    if (t.r.outcome != DIAL_WELCOME)
        sock_close(&t.r.sock);
    else if ((t.r.early_n = buf_size(&t.in)) > 0) /* at most what one read brought */
        memcpy(t.r.early, buf_data(&t.in), t.r.early_n);
    try_fini(&t);
    *out = t.r;
}

/* ---- a conversation ---- */

struct dial_talk {
    struct try t;
    struct dialer d;     /* whom it is with; no thread */
    uint64_t timeout_us; /* of a call */
};

static enum err talk_error(struct dial_talk *k, enum err e)
{
    return e && is_over(&k->t) ? ERR_AGAIN : e;
}

enum err dial_talk_open(struct dial_talk **out, const struct dial_talk_config *cfg)
{
    struct dial_talk *k = *out = mem_zalloc(sizeof *k);
    if (!k)
        return ERR_OOM;
    k->d.cfg = (struct dialer_config){.port = cfg->port, .self = cfg->self, .arg = cfg->arg};
    memcpy(k->d.cfg.host, cfg->host, sizeof k->d.cfg.host);
    try_init(&k->t, &k->d, DIAL_TALK_BYTES, TALK_READ_BYTES, cfg->secret);
    k->timeout_us = cfg->timeout_ms ? cfg->timeout_ms * 1000ull : DIAL_TALK_SECONDS * 1000000ull;
    if (cfg->timeout_ms)
        k->t.end_us = clock_mono_us() + k->timeout_us;
    k->t.over = cfg->over;
    k->t.over_arg = cfg->arg;
    return talk_error(k, take_steps(&k->t, STEPS_LOGGED_IN));
}

enum err dial_talk_say(struct dial_talk *k, const struct bytes *words, unsigned n)
{
    k->t.end_us = clock_mono_us() + k->timeout_us;
    return talk_error(k, say(&k->t, words, n));
}

enum err dial_talk_hear(struct dial_talk *k, const struct answer **a)
{
    k->t.end_us = clock_mono_us() + k->timeout_us;
    return talk_error(k, answer(&k->t, a));
}

void dial_talk_forget(struct dial_talk *k)
{
    answer_parser_reset(&k->t.parser);
    buf_shrink(&k->t.in, TALK_READ_BYTES);
}

static int is_loopback(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } a;
    socklen_t n = sizeof a;
    if (getpeername(fd, &a.any, &n) != 0)
        return 0;
    return a.any.sa_family == AF_INET    ? ntohl(a.v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET
           : a.any.sa_family == AF_INET6 ? IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr)
                                         : 0;
}

int dial_talk_is_private(const struct dial_talk *k)
{
    return k->t.r.sock.tls || is_loopback(k->t.r.sock.fd);
}

const char *dial_talk_why(const struct dial_talk *k)
{
    return k->t.r.why;
}

void dial_talk_close(struct dial_talk *k)
{
    if (!k)
        return;
    sock_close(&k->t.r.sock);
    try_fini(&k->t);
    mem_free(k);
}

/* ---- the thread ---- */

static uint64_t grown(uint64_t last_us, uint64_t most_us)
{
    if (!last_us)
        return AGAIN_US;
    return 2 * last_us < most_us ? 2 * last_us : most_us;
}

/* Two nodes that each take the other's link away would go on for ever, and fill two log files: so a link that falls at
 * once is waited behind longer each time, as is a try that fails. */
uint64_t dial_pause(struct dial_pace *p, enum dial_outcome last, uint64_t lived_us)
{
    if (last == DIAL_WELCOME) {
        p->try_us = 0;
        p->link_us = grown(lived_us < LIVED_US ? p->link_us : 0, FALLS_US);
        return p->link_us;
    }
    p->try_us = last == DIAL_REFUSED ? 0 : grown(p->try_us, PAUSE_US);
    return last == DIAL_REFUSED ? REFUSED_US : p->try_us;
}

/* Until what was found is gone: how long that took. A link that falls says again too, which is no haste. */
static uint64_t await_fall(struct dialer *d, int was_link)
{
    uint64_t since = clock_mono_us();
    pthread_mutex_lock(&d->lock);
    while (d->connected && !atomic_load(&d->stop))
        pthread_cond_wait(&d->wake, &d->lock);
    if (was_link)
        d->again = 0;
    pthread_mutex_unlock(&d->lock);
    return clock_mono_us() - since;
}

/* 1: it is to end. Whoever says again need not wait for the pause. */
static int rest(struct dialer *d, uint64_t us)
{
    uint64_t now = clock_mono_us();
    pthread_mutex_lock(&d->lock);
    for (;;) {
        uint64_t end = now + (d->again ? AGAIN_US : us);
        if (atomic_load(&d->stop) || clock_mono_us() >= end)
            break;
        clock_cond_wait(&d->wake, &d->lock, end);
    }
    d->again = 0;
    pthread_mutex_unlock(&d->lock);
    return atomic_load(&d->stop);
}

static void *dialer_main(void *arg)
{
    struct dialer *d = arg;
    struct dial_result r;
    struct dial_pace pace = {0};
    uint64_t lived_us;
    pthread_setname_np(pthread_self(), "coffer-dial");
    do {
        try_once(d, &r);
        pthread_mutex_lock(&d->lock);
        d->connected = r.outcome == DIAL_WELCOME || r.outcome == DIAL_NOT_COFFER || r.outcome == DIAL_STRANGER;
        pthread_mutex_unlock(&d->lock);
        d->cfg.result(d->cfg.arg, d, &r);
        lived_us = await_fall(d, r.outcome == DIAL_WELCOME);
    } while (!rest(d, dial_pause(&pace, r.outcome, lived_us)));
    atomic_store(&d->over, 1);
    return NULL;
}

void dialer_again(struct dialer *d)
{
    pthread_mutex_lock(&d->lock);
    d->connected = 0;
    d->again = 1;
    pthread_cond_signal(&d->wake);
    pthread_mutex_unlock(&d->lock);
}

const struct dialer_config *dialer_config(const struct dialer *d)
{
    return &d->cfg;
}

static void discard(struct dialer *d)
{
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->wake);
    mem_free(d);
}

enum err dialer_new(struct dialer **out, const struct dialer_config *cfg)
{
    struct dialer *d = *out = mem_zalloc(sizeof *d);
    if (!d)
        return ERR_OOM;
    d->cfg = *cfg;
    pthread_mutex_init(&d->lock, NULL);
    clock_cond_init(&d->wake);
    if (pthread_create(&d->thread, NULL, dialer_main, d) == 0)
        return ERR_OK;
    discard(d);
    *out = NULL;
    return ERR_OOM;
}

void dialer_leave(struct dialer *d)
{
    pthread_mutex_lock(&d->lock);
    atomic_store(&d->stop, 1);
    pthread_cond_signal(&d->wake);
    pthread_mutex_unlock(&d->lock);
}

int dialer_has_left(struct dialer *d)
{
    return atomic_load(&d->over);
}

void dialer_free(struct dialer *d)
{
    if (!d)
        return;
    dialer_leave(d);
    pthread_join(d->thread, NULL);
    discard(d);
}
