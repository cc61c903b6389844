/* e2e_client.c - the client's side of end-to-end tests: connections, replies as text, INFO. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/lib/e2e.h"

/* ---- replies as text ---- */

static void show_bytes(FILE *f, const void *p, size_t n)
{
    for (const unsigned char *c = p; c && c < (const unsigned char *)p + n; c++)
        fprintf(f, *c >= ' ' && *c <= '~' ? "%c" : "\\%02x", *c);
}

static void show_reply(FILE *f, const redisReply *r)
{
    switch (r->type) {
    case REDIS_REPLY_NIL:
        fprintf(f, "nil");
        break;
    case REDIS_REPLY_INTEGER:
        fprintf(f, ":%lld", r->integer);
        break;
    case REDIS_REPLY_ARRAY:
        fputc('[', f);
        for (size_t i = 0; i < r->elements; i++) {
            fprintf(f, i ? " " : "");
            show_reply(f, r->element[i]);
        }
        fputc(']', f);
        break;
    default:
        fputc(r->type == REDIS_REPLY_STATUS ? '+' : r->type == REDIS_REPLY_ERROR ? '-' : '$', f);
        show_bytes(f, r->str, r->len);
    }
}

static const char *const opening[] = {
    [ANSWER_NIL] = "nil",    [ANSWER_STATUS] = "+",     [ANSWER_ERROR] = "-",   [ANSWER_BULK] = "$",
    [ANSWER_VERBATIM] = "=", [ANSWER_BIG_NUMBER] = "(", [ANSWER_INTEGER] = ":", [ANSWER_BOOL] = "#",
    [ANSWER_DOUBLE] = ",",   [ANSWER_ARRAY] = "[",      [ANSWER_SET] = "~[",    [ANSWER_PUSH] = ">[",
    [ANSWER_MAP] = "{",
};

static void show_answer(FILE *f, const struct answer *a)
{
    int aggregate = a->type >= ANSWER_ARRAY;

    fputs(opening[a->type], f);
    if (a->type == ANSWER_VERBATIM)
        fprintf(f, "%.3s:", a->format);
    if (a->type == ANSWER_INTEGER || a->type == ANSWER_BOOL)
        fprintf(f, "%lld", (long long)a->integer);
    else if (a->type == ANSWER_DOUBLE)
        fprintf(f, "%.17g", a->number);
    else if (!aggregate)
        show_bytes(f, a->text.p, a->text.n);
    for (size_t i = 0; aggregate && i < a->count; i++) {
        fputs(i ? " " : "", f);
        show_answer(f, a->item[i]);
    }
    if (aggregate)
        fputc(a->type == ANSWER_MAP ? '}' : ']', f);
}

char *e2e_show_reply(const redisReply *reply)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    show_reply(f, reply);
    fclose(f);
    return text;
}

char *e2e_show_answer(const struct answer *a)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    assert_non_null(f);
    show_answer(f, a);
    fclose(f);
    return text;
}

static void compare(const char *want, const char *got, const char *what)
{
    size_t n = strlen(want);
    int begins = n >= 3 && strcmp(want + n - 3, "...") == 0;

    if (begins ? strncmp(want, got, n - 3) != 0 : strcmp(want, got) != 0)
        fail_msg("%s\n#   wanted %s\n#   got    %.2000s", what, want, got);
}

/* ---- hiredis ---- */

static redisContext *connected(redisContext *c)
{
    const struct timeval patience = {.tv_sec = E2E_SECONDS};

    assert_non_null(c);
    if (c->err)
        fail_msg("connect: %s", c->errstr);
    redisSetTimeout(c, patience);
    return c;
}

redisContext *e2e_connect(const struct e2e *s)
{
    return connected(redisConnectUnix(s->socket));
}

redisContext *e2e_connect_tcp(const struct e2e *s)
{
    return connected(redisConnect("127.0.0.1", s->port));
}

static redisReply *replied(redisContext *c, redisReply *r, const char *what)
{
    if (!r)
        fail_msg("%s: no reply: %s", what, c->errstr);
    return r;
}

redisReply *e2e_command(redisContext *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    redisReply *r = redisvCommand(c, fmt, ap);
    va_end(ap);
    return replied(c, r, fmt);
}

static void expect(redisReply *r, const char *want, const char *what)
{
    char *got = e2e_show_reply(r);
    freeReplyObject(r);
    compare(want, got, what);
    free(got);
}

void e2e_expect(redisContext *c, const char *want, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    redisReply *r = redisvCommand(c, fmt, ap);
    va_end(ap);
    expect(replied(c, r, fmt), want, fmt);
}

void e2e_expect_next(redisContext *c, const char *want)
{
    void *r = NULL;
    if (redisGetReply(c, &r) != REDIS_OK)
        fail_msg("no reply where %s was wanted: %s", want, c->errstr);
    expect(r, want, "next reply");
}

long long e2e_int(redisContext *c, const char *fmt, ...)
{
    long long i;
    va_list ap;

    va_start(ap, fmt);
    redisReply *r = replied(c, redisvCommand(c, fmt, ap), fmt);
    va_end(ap);
    i = r->integer;
    if (r->type != REDIS_REPLY_INTEGER)
        expect(r, ":...", fmt); /* fails */
    else
        freeReplyObject(r);
    return i;
}

void e2e_expect_closed(redisContext *c)
{
    void *r = NULL;

    if (redisGetReply(c, &r) == REDIS_OK)
        expect(r, "(the connection closed)", "next reply");
    if (c->err != REDIS_ERR_EOF && !(c->err == REDIS_ERR_IO && errno == ECONNRESET))
        fail_msg("not closed by the server: %s", c->errstr);
}

const char *e2e_info(redisContext *c, const char *field)
{
    static char value[512];
    redisReply *r = e2e_command(c, "INFO everything");
    size_t n = strlen(field);

    value[0] = 0;
    if (r->type != REDIS_REPLY_STRING)
        expect(r, "$...", "INFO"); /* fails */
    for (const char *line = r->str; line && !value[0]; line = strstr(line, "\r\n")) {
        line += line == r->str ? 0 : 2;
        if (strncmp(line, field, n) == 0 && line[n] == ':')
            snprintf(value, sizeof value, "%.*s", (int)strcspn(line + n + 1, "\r"), line + n + 1);
    }
    freeReplyObject(r);
    return value;
}

void e2e_info_wait(redisContext *c, const char *field, const char *want)
{
    struct e2e_deadline w = {.what = field};
    while (strcmp(e2e_info(c, field), want) != 0 && e2e_not_yet(&w)) {
    }
}

int e2e_info_reaches(redisContext *c, const char *field, int least)
{
    struct e2e_deadline w = {.what = field};
    int n;
    while ((n = atoi(e2e_info(c, field))) < least && e2e_not_yet(&w)) {
    }
    return n;
}

long long e2e_field(redisContext *c, const char *command, const char *name)
{
    redisReply *r = e2e_command(c, command);
    long long n = -1;
    for (size_t i = 0; i + 1 < r->elements; i += 2)
        if (strcmp(r->element[i]->str, name) == 0)
            n = r->element[i + 1]->integer;
    freeReplyObject(r);
    return n;
}

void e2e_same_state(redisContext *a, redisContext *b)
{
    char want[32];
    struct e2e_deadline w = {.what = "both to hold the same"};
    int same = 0;
    snprintf(want, sizeof want, "%s", e2e_info(a, "wbl_last_lsn"));
    e2e_info_wait(b, "wbl_commit_lsn", want);
    do {
        redisReply *x = e2e_command(a, "STATE.DIGEST STORES"), *y = e2e_command(b, "STATE.DIGEST STORES");
        char *s = e2e_show_reply(x), *t = e2e_show_reply(y);
        same = x->type == REDIS_REPLY_ARRAY && strcmp(s, t) == 0;
        free(s);
        free(t);
        freeReplyObject(x);
        freeReplyObject(y);
    } while (!same && e2e_not_yet(&w));
}

/* ---- a bare socket ---- */

void e2e_raw_open(struct e2e_raw *r, const struct e2e *s)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = E2E_SECONDS};

    memset(r, 0, sizeof *r);
    assert_true(strlen(s->socket) < sizeof at.sun_path);
    memcpy(at.sun_path, s->socket, strlen(s->socket) + 1);
    r->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(r->fd >= 0);
    assert_int_equal(connect(r->fd, (struct sockaddr *)&at, sizeof at), 0);
    setsockopt(r->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(r->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    answer_parser_init(&r->parser, &answer_default_limits, 0);
}

void e2e_raw_open3(struct e2e_raw *r, const struct e2e *s)
{
    e2e_raw_open(r, s);
    e2e_raw_expect(r, "{$server ...", "HELLO 3");
}

void e2e_raw_close(struct e2e_raw *r)
{
    close(r->fd);
    answer_parser_fini(&r->parser);
    free(r->in);
    memset(r, 0, sizeof *r);
    r->fd = -1;
}

void e2e_raw_send(struct e2e_raw *r, const void *p, size_t n)
{
    const char *from = p;

    while (n) {
        ssize_t sent = send(r->fd, from, n, MSG_NOSIGNAL);
        if (sent < 0)
            fail_msg("send: %s", strerror(errno));
        from += sent;
        n -= (size_t)sent;
    }
}

/* Reads more; 0 at the end. */
static int fill(struct e2e_raw *r)
{
    ssize_t got;

    if (r->room - r->have < 4096) {
        r->room = r->room * 2 + 8192;
        r->in = realloc(r->in, r->room);
        assert_non_null(r->in);
    }
    got = recv(r->fd, r->in + r->have, r->room - r->have, 0);
    if (got < 0 && errno != ECONNRESET)
        fail_msg("receive: %s", strerror(errno));
    r->have += got > 0 ? (size_t)got : 0;
    return got > 0;
}

const struct answer *e2e_raw_next(struct e2e_raw *r)
{
    for (;;) {
        size_t used;
        enum answer_status st = answer_parse(&r->parser, bytes_of(r->in, r->have), &used);
        r->have -= used;
        if (r->have)
            memmove(r->in, r->in + used, r->have);
        if (st == ANSWER_READY)
            return r->parser.root;
        if (st != ANSWER_MORE)
            fail_msg("not RESP: %s", r->parser.error);
        if (!fill(r))
            return NULL;
    }
}

static const struct answer *raw_call(struct e2e_raw *r, char *command, int n, const char *what)
{
    const struct answer *a;

    assert_true(n > 0);
    e2e_raw_send(r, command, (size_t)n);
    redisFreeCommand(command);
    a = e2e_raw_next(r);
    if (!a)
        fail_msg("%s: closed by the server", what);
    return a;
}

const struct answer *e2e_raw_command(struct e2e_raw *r, const char *fmt, ...)
{
    char *command = NULL;
    va_list ap;

    va_start(ap, fmt);
    int n = redisvFormatCommand(&command, fmt, ap);
    va_end(ap);
    return raw_call(r, command, n, fmt);
}

const struct answer *e2e_raw_commandv(struct e2e_raw *r, int argc, const char **argv)
{
    char *command = NULL;
    int n = redisFormatCommandArgv(&command, argc, argv, NULL);
    return raw_call(r, command, n, argv[0]);
}

void e2e_raw_expect(struct e2e_raw *r, const char *want, const char *fmt, ...)
{
    char *command = NULL, *got;
    va_list ap;

    va_start(ap, fmt);
    int n = redisvFormatCommand(&command, fmt, ap);
    va_end(ap);
    got = e2e_show_answer(raw_call(r, command, n, fmt));
    compare(want, got, fmt);
    free(got);
}
