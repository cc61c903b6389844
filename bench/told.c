/* told.c - how long until clients that cache are told of a change.
 *
 *     told -p PORT -c CACHES -n ROUNDS READ... -- WRITE...
 *         CACHES connections with HELLO 3 and CLIENT TRACKING ON. A round: each sends READ and waits for the answer;
 * then one more connection sends WRITE. Prints medians and 99th percentiles of the time since then, in microseconds:
 *         "answer p99 first p99 last p99": until the answer to WRITE, until the first and the last cache is told.
 *
 * The words are the same in every round, the value is what it was: a change is a change. One thread, poll.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CACHES_MAX 1000
#define TOLD_LINES 6 /* >2 $10 invalidate *1 $n name */

struct client {
    int fd;
    char in[4096];
    size_t n;
};

static void die(const char *what, const char *more)
{
    fprintf(stderr, "told: %s%s%s\n", what, more[0] ? ": " : "", more);
    exit(1);
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void dial(struct client *c, int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("cannot connect", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void send_text(const struct client *c, const char *text)
{
    size_t n = strlen(text);
    if (send(c->fd, text, n, MSG_NOSIGNAL) != (ssize_t)n)
        die("cannot write", strerror(errno));
}

/* 1: so many lines are there; they are dropped. */
static int take_lines(struct client *c, unsigned lines)
{
    const char *at = c->in;
    if (c->n && c->in[0] == '-')
        die("the server says", c->in);
    for (unsigned i = 0; i < lines; i++) {
        at = memchr(at, '\n', c->n - (size_t)(at - c->in));
        if (!at++)
            return 0;
    }
    c->n -= (size_t)(at - c->in);
    memmove(c->in, at, c->n);
    return 1;
}

static void receive(struct client *c)
{
    ssize_t n = recv(c->fd, c->in + c->n, sizeof c->in - 1 - c->n, 0);
    if (n <= 0)
        die("cannot read", n ? strerror(errno) : "closed");
    c->n += (size_t)n;
    c->in[c->n] = 0;
}

static void ask(struct client *c, const char *text, unsigned lines)
{
    send_text(c, text);
    while (!take_lines(c, lines))
        receive(c);
}

/* The last line of an answer: whatever comes before HELLO's map ends is dropped. */
static void greet(struct client *c)
{
    send_text(c, "HELLO 3\r\nCLIENT TRACKING ON\r\n");
    while (c->n < 5 || memcmp(c->in + c->n - 5, "+OK\r\n", 5) != 0)
        receive(c);
    c->n = 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(double *v, unsigned n, const char *end)
{
    qsort(v, n, sizeof *v, by_value);
    printf("%.0f %.0f%s", v[n / 2], v[n * 99 / 100], end);
}

static void join(char *out, size_t room, char **word, int words)
{
    size_t at = 0;
    for (int i = 0; i < words; i++)
        at += (size_t)snprintf(out + at, at < room ? room - at : 0, "%s%s", word[i], i + 1 < words ? " " : "\r\n");
    if (at >= room)
        die("too long", word[0]);
}

/* One change: times[0] its answer, [1] the first that is told, [2] the last. */
static void change(struct client *cache, unsigned caches, struct client *writer, const char *text, double times[3])
{
    struct pollfd at[CACHES_MAX + 1];
    unsigned waits = caches + 1, told = 0;
    for (unsigned i = 0; i <= caches; i++)
        at[i] = (struct pollfd){.fd = i < caches ? cache[i].fd : writer->fd, .events = POLLIN};
    double begun = now_us();
    send_text(writer, text);
    while (waits) {
        if (poll(at, caches + 1, -1) < 0)
            die("poll", strerror(errno));
        for (unsigned i = 0; i <= caches; i++) {
            struct client *c = i < caches ? &cache[i] : writer;
            if (!(at[i].revents & POLLIN))
                continue;
            receive(c);
            if (!take_lines(c, i < caches ? TOLD_LINES : 1))
                continue;
            double took = now_us() - begun;
            if (i == caches)
                times[0] = took;
            else if (!told++)
                times[1] = took;
            if (i < caches)
                times[2] = took;
            at[i].fd = -1;
            waits--;
        }
    }
}

int main(int argc, char **argv)
{
    static struct client cache[CACHES_MAX], writer;
    char read_text[512], write_text[512];
    int port = 0, rounds = 1000, caches = 1, opt, split;

    while ((opt = getopt(argc, argv, "+p:c:n:")) != -1)
        *(opt == 'p' ? &port : opt == 'c' ? &caches : &rounds) = atoi(optarg);
    for (split = optind; split < argc && strcmp(argv[split], "--") != 0; split++)
        ;
    if (!port || caches < 1 || caches > CACHES_MAX || rounds < 1 || split + 1 >= argc)
        die("told -p PORT -c CACHES -n ROUNDS READ... -- WRITE...", "");
    join(read_text, sizeof read_text, argv + optind, split - optind);
    join(write_text, sizeof write_text, argv + split + 1, argc - split - 1);
    double *times[3];
    for (int k = 0; k < 3; k++)
        if (!(times[k] = calloc((size_t)rounds, sizeof *times[k])))
            die("out of memory", "");
    dial(&writer, port);
    ask(&writer, write_text, 1);
    for (int i = 0; i < caches; i++) {
        dial(&cache[i], port);
        greet(&cache[i]);
    }
    for (int r = 0; r < rounds; r++) {
        double t[3];
        for (int i = 0; i < caches; i++)
            ask(&cache[i], read_text, 2);
        change(cache, (unsigned)caches, &writer, write_text, t);
        for (int k = 0; k < 3; k++)
            times[k][r] = t[k];
    }
    for (int k = 0; k < 3; k++)
        print(times[k], (unsigned)rounds, k < 2 ? " " : "\n");
    return 0;
}
