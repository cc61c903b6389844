/* client.c - the benchmarks' client: less work per request than redis-benchmark, binary values, any names, latencies of
 * several commands in turn.
 *
 *     client load -p PORT [-c CONNECTIONS] [-P PIPELINE] [-n REQUESTS | -t SECONDS] [-k NUMBERS] [-r] WORD...
 *         Every connection sends PIPELINE requests with one write, waits for all their answers, sends the next ones.
 *         Prints "requests-a-second own-cpu-us-a-request median-us p99-us", the latter two of a whole PIPELINE.
 *     client time -p PORT -n ROUNDS WORD... [-- WORD...]...
 *         Each command once a round, one at a time. A line a command: "median-us p90-us p99-us".
 *
 * In a WORD, {} stands for a number of twelve digits: 0, 1, ... NUMBERS - 1 and again, or random ones with -r. {/1000}
 * and {%1000} are its quotient and remainder. A WORD =1024 is so many random bytes, the same in every request.
 *
 * Happy path of load: each connection's requests are built once and only the digits in them are written anew; answers
 * are counted, not kept. One thread, epoll. An error answer ends the program: what failed is not what was to be
 * measured.
 *
 * Rejected: hiredis (it builds a tree of each answer, which costs as much as the server's own work); threads (the
 * machine's cores belong to the server).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"

#define DIGITS 12
#define READ_BYTES (256u << 10)
#define WORDS_MAX 64
#define CONNECTIONS_MAX 1000

static void die(const char *what, const char *more)
{
    fprintf(stderr, "client: %s%s%s\n", what, more[0] ? ": " : "", more);
    exit(1);
}

static void *need(void *p)
{
    if (!p)
        die("out of memory", "");
    return p;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double cpu_us(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* ---- requests ---- */

struct spot { /* where a number goes */
    size_t off;
    char op; /* '/', '%', or 0 */
    uint64_t by;
};

struct request {
    char *text;
    size_t n, cap;
    struct spot spot[WORDS_MAX];
    unsigned spots;
};

static void put(struct request *q, const void *p, size_t n)
{
    if (q->n + n > q->cap) {
        q->cap = 2 * (q->n + n);
        q->text = need(realloc(q->text, q->cap));
    }
    memcpy(q->text + q->n, p, n);
    q->n += n;
}

static void put_header(struct request *q, char type, size_t n)
{
    char line[32];
    put(q, line, (size_t)snprintf(line, sizeof line, "%c%zu\r\n", type, n));
}

static void put_random(struct request *q, size_t n)
{
    char *p = need(malloc(n + 1));
    if (clock_random(p, n))
        die("no randomness", "");
    put_header(q, '$', n);
    put(q, p, n);
    free(p);
}

/* A word with its places for numbers. */
static void put_word(struct request *q, const char *word)
{
    struct request w = {0};
    struct spot spot[WORDS_MAX];
    unsigned spots = 0;

    for (const char *p = word; *p;) {
        char *end = NULL;
        struct spot s = {.off = w.n};
        if (p[0] == '{' && (p[1] == '}' || p[1] == '/' || p[1] == '%') && spots < WORDS_MAX) {
            s.op = p[1] == '}' ? 0 : p[1];
            s.by = s.op ? strtoull(p + 2, &end, 10) : 1;
            end = s.op ? end : (char *)(uintptr_t)p + 1;
            if (*end != '}' || s.by == 0)
                die("cannot read", word);
            put(&w, "000000000000", DIGITS);
            spot[spots++] = s;
            p = end + 1;
        } else {
            put(&w, p++, 1);
        }
    }
    put_header(q, '$', w.n);
    for (unsigned i = 0; i < spots && q->spots < WORDS_MAX; i++) {
        q->spot[q->spots] = spot[i];
        q->spot[q->spots++].off += q->n;
    }
    if (w.n)
        put(q, w.text, w.n);
    free(w.text);
}

static void build(struct request *q, char **word, int words)
{
    memset(q, 0, sizeof *q);
    put_header(q, '*', (size_t)words);
    for (int i = 0; i < words; i++) {
        if (word[i][0] == '=')
            put_random(q, strtoull(word[i] + 1, NULL, 10));
        else
            put_word(q, word[i]);
        put(q, "\r\n", 2);
    }
}

/* Writes the number into a copy of the request. */
static void set_number(const struct request *q, char *copy, uint64_t number)
{
    for (unsigned i = 0; i < q->spots; i++) {
        const struct spot *s = &q->spot[i];
        uint64_t v = s->op == '/' ? number / s->by : s->op == '%' ? number % s->by : number;
        for (char *p = copy + s->off + DIGITS; p > copy + s->off; v /= 10)
            *--p = (char)('0' + v % 10);
    }
}

/* ---- answers ---- */

struct answers {
    uint64_t elements; /* of this answer that have not begun */
    size_t skip;       /* bytes of a bulk, its line end included */
    char line[512];
    size_t line_n;
};

/* What a whole line announces. */
static void take_line(struct answers *a)
{
    a->line[a->line_n] = 0;
    long long n = strtoll(a->line + 1, NULL, 10);
    if (a->elements == 0)
        a->elements = 1;
    a->elements--;
    switch (a->line[0]) {
    case '-':
        die("the server says", a->line);
        break;
    case '$':
    case '=':
        a->skip = n >= 0 ? (size_t)n + 2 : 0;
        break;
    case '*':
    case '~':
    case '>':
        a->elements += n > 0 ? (uint64_t)n : 0;
        break;
    case '%':
        a->elements += n > 0 ? 2 * (uint64_t)n : 0;
        break;
    default:
        break;
    }
    a->line_n = 0;
}

/* Returns how many answers ended in p[0..n). */
static unsigned take(struct answers *a, const char *p, size_t n)
{
    unsigned ended = 0;

    while (n) {
        size_t m;
        if (a->skip) {
            m = n < a->skip ? n : a->skip;
            a->skip -= m;
        } else {
            const char *nl = memchr(p, '\n', n);
            size_t room = sizeof a->line - 1 - a->line_n;
            m = nl ? (size_t)(nl - p) + 1 : n;
            memcpy(a->line + a->line_n, p, m < room ? m : room);
            a->line_n += m < room ? m : room;
            if (nl)
                take_line(a);
        }
        p += m;
        n -= m;
        ended += !a->skip && !a->elements && !a->line_n;
    }
    return ended;
}

/* ---- connections ---- */

static int dial(int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("cannot connect", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

struct options {
    int port, random;
    unsigned connections, pipeline;
    uint64_t requests, numbers;
    double seconds;
};

struct conn {
    int fd;
    char *out;
    size_t out_n, sent;
    unsigned waits;
    uint64_t begun_ns;
    struct answers in;
};

struct load {
    struct options opt;
    struct request req;
    int epoll;
    uint64_t number, begun, ended, seed;
    uint64_t *ns; /* how long each pipeline took */
    size_t times, room;
    struct conn conn[CONNECTIONS_MAX];
};

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t next_number(struct load *l)
{
    if (!l->opt.random)
        return l->number++ % l->opt.numbers;
    l->seed ^= l->seed << 13;
    l->seed ^= l->seed >> 7;
    l->seed ^= l->seed << 17;
    return l->seed % l->opt.numbers;
}

static void push(struct load *l, struct conn *c)
{
    while (c->sent < c->out_n) {
        ssize_t n = send(c->fd, c->out + c->sent, c->out_n - c->sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
        if (n < 0 && errno == EAGAIN) {
            epoll_ctl(l->epoll, EPOLL_CTL_MOD, c->fd, &ev);
            return;
        }
        if (n < 0)
            die("cannot write", strerror(errno));
        c->sent += (size_t)n;
    }
}

/* The next requests of this connection; fewer at the end, then none. */
static void begin(struct load *l, struct conn *c)
{
    unsigned n = l->opt.pipeline;

    if (l->opt.requests && l->opt.requests - l->begun < n)
        n = (unsigned)(l->opt.requests - l->begun);
    for (unsigned i = 0; i < n; i++)
        set_number(&l->req, c->out + i * l->req.n, next_number(l));
    l->begun += n;
    c->begun_ns = now_ns();
    c->waits = n;
    c->out_n = n * l->req.n;
    c->sent = 0;
    push(l, c);
}

static void note_time(struct load *l, uint64_t ns)
{
    if (l->times == l->room) {
        l->room = l->room ? 2 * l->room : 4096;
        l->ns = need(realloc(l->ns, l->room * sizeof *l->ns));
    }
    l->ns[l->times++] = ns;
}

static void on_event(struct load *l, struct conn *c, uint32_t events, char *room)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};

    if (events & EPOLLOUT) {
        epoll_ctl(l->epoll, EPOLL_CTL_MOD, c->fd, &ev);
        push(l, c);
    }
    if (!(events & ~(uint32_t)EPOLLOUT))
        return;
    ssize_t n = recv(c->fd, room, READ_BYTES, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        die("the server hung up", n ? strerror(errno) : "");
    unsigned ended = n > 0 ? take(&c->in, room, (size_t)n) : 0;
    if (ended > c->waits)
        die("more answers than requests", "");
    l->ended += ended;
    c->waits -= ended;
    if (c->waits == 0) {
        note_time(l, now_ns() - c->begun_ns);
        begin(l, c);
    }
}

static void open_all(struct load *l)
{
    l->epoll = epoll_create1(0);
    for (unsigned i = 0; i < l->opt.connections; i++) {
        struct conn *c = &l->conn[i];
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
        c->fd = dial(l->opt.port);
        c->out = need(malloc(l->req.n * l->opt.pipeline));
        for (unsigned k = 0; k < l->opt.pipeline; k++)
            memcpy(c->out + k * l->req.n, l->req.text, l->req.n);
        if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, c->fd, &ev) != 0)
            die("epoll", strerror(errno));
    }
}

static void run_load(struct load *l)
{
    struct epoll_event ev[64];
    char *room = need(malloc(READ_BYTES));
    uint64_t limit = (uint64_t)(l->opt.seconds * 1e9), start, took = 0;

    open_all(l);
    start = now_ns();
    double cpu = cpu_us();
    for (unsigned i = 0; i < l->opt.connections; i++)
        begin(l, &l->conn[i]);
    while (limit ? took < limit : l->ended < l->opt.requests) {
        int n = epoll_wait(l->epoll, ev, 64, 1000);
        for (int i = 0; i < n; i++)
            on_event(l, ev[i].data.ptr, ev[i].events, room);
        took = now_ns() - start;
    }
    double used_us = cpu_us() - cpu;
    note_time(l, took); /* so that there is one */
    qsort(l->ns, l->times, sizeof *l->ns, by_value);
    printf("%.0f %.2f %.1f %.1f\n", (double)l->ended * 1e9 / (double)took, used_us / (double)(l->ended ? l->ended : 1),
           (double)l->ns[l->times / 2] / 1e3, (double)l->ns[l->times * 99 / 100] / 1e3);
    free(l->ns);
    free(room);
}

/* ---- latencies ---- */

static void ask(int fd, const struct request *q, char *room)
{
    struct answers a = {0};
    size_t sent = 0;

    while (sent < q->n) {
        ssize_t n = send(fd, q->text + sent, q->n - sent, MSG_NOSIGNAL);
        if (n < 0)
            die("cannot write", strerror(errno));
        sent += (size_t)n;
    }
    for (unsigned ended = 0; !ended;) {
        ssize_t n = recv(fd, room, READ_BYTES, 0);
        if (n <= 0)
            die("the server hung up", n ? strerror(errno) : "");
        ended = take(&a, room, (size_t)n);
    }
}

static void run_time(const struct options *o, char **word, int words)
{
    struct request req[WORDS_MAX];
    uint64_t *us[WORDS_MAX];
    unsigned commands = 0, rounds = (unsigned)o->requests;
    char *room = need(malloc(READ_BYTES));
    int fd = dial(o->port);

    for (int i = 0, from = 0; i <= words; i++) {
        if (i < words && strcmp(word[i], "--") != 0)
            continue;
        if (commands == WORDS_MAX)
            die("too many commands", "");
        us[commands] = need(calloc(rounds, sizeof **us));
        build(&req[commands++], word + from, i - from);
        from = i + 1;
    }
    for (unsigned r = 0; r < rounds; r++) {
        for (unsigned k = 0; k < commands; k++) {
            unsigned at = r % 2 ? commands - 1 - k : k; /* neither always comes first */
            uint64_t start = now_ns();
            ask(fd, &req[at], room);
            us[at][r] = now_ns() - start;
        }
    }
    for (unsigned k = 0; k < commands; k++) {
        qsort(us[k], rounds, sizeof **us, by_value);
        printf("%.1f %.1f %.1f\n", (double)us[k][rounds / 2] / 1e3, (double)us[k][rounds * 9 / 10] / 1e3,
               (double)us[k][(uint64_t)rounds * 99 / 100] / 1e3);
    }
}

int main(int argc, char **argv)
{
    static struct load l;
    struct options *o = &l.opt;
    int c;

    *o = (struct options){.connections = 50, .pipeline = 1, .numbers = 1};
    l.seed = 88172645463325252u ^ now_ns();
    while (argc > 2 && (c = getopt(argc - 1, argv + 1, "+p:c:P:n:t:k:r")) != -1) {
        switch (c) {
        case 'p':
            o->port = (int)strtol(optarg, NULL, 10);
            break;
        case 'c':
            o->connections = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'P':
            o->pipeline = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'n':
            o->requests = strtoull(optarg, NULL, 10);
            break;
        case 't':
            o->seconds = strtod(optarg, NULL);
            break;
        case 'k':
            o->numbers = strtoull(optarg, NULL, 10);
            break;
        case 'r':
            o->random = 1;
            break;
        default:
            return 2;
        }
    }
    int words = argc - 1 - optind;
    char **word = argv + 1 + optind;
    if (argc < 3 || words < 1 || !o->port || !o->connections || o->connections > CONNECTIONS_MAX || !o->pipeline ||
        !o->numbers || (!o->requests && o->seconds <= 0))
        die("usage: client load|time -p PORT -n REQUESTS ... WORD...", "");
    if (strcmp(argv[1], "time") == 0) {
        run_time(o, word, words);
    } else {
        build(&l.req, word, words);
        run_load(&l);
    }
    return 0;
}
