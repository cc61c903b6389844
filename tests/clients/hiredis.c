/* hiredis.c - hiredis alone, without the library of our own tests. tests/clients/python says what of. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>

#define BIG 1000000

static int failed; /* of the case that runs */

static void check(int holds, const char *what, const redisReply *r)
{
    if (holds)
        return;
    failed = 1;
    printf("%s: got type %d, %lld, %.200s\n", what, r ? r->type : -1, r ? r->integer : -1, r && r->str ? r->str : "");
}

static redisContext *connection(void)
{
    struct timeval patience = {30, 0};
    redisContext *c = redisConnectWithTimeout(getenv("HOST"), atoi(getenv("PORT")), patience);
    if (!c || c->err) {
        printf("no connection: %s\n", c ? c->errstr : "no memory");
        exit(1);
    }
    redisSetTimeout(c, patience);
    return c;
}

static void expect(redisContext *c, const char *want, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void login(redisContext *c)
{
    expect(c, "OK", "AUTH %s %s", getenv("USERNAME"), getenv("PASSWORD"));
}

/* A status, an error or a string that begins so; "5" for an integer; "nil". */
static int is(const redisReply *r, const char *want)
{
    char number[32];
    if (!r)
        return 0;
    snprintf(number, sizeof number, "%lld", r->integer);
    if (r->type == REDIS_REPLY_INTEGER)
        return strcmp(number, want) == 0;
    if (r->type == REDIS_REPLY_NIL)
        return strcmp("nil", want) == 0;
    return r->str && strncmp(r->str, want, strlen(want)) == 0;
}

static void expect_next(redisContext *c, const char *want)
{
    void *r = NULL;
    redisGetReply(c, &r);
    check(is(r, want), want, r);
    if (r)
        freeReplyObject(r);
}

static void expect(redisContext *c, const char *want, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    redisReply *r = redisvCommand(c, fmt, args);
    va_end(args);
    check(is(r, want), fmt, r);
    freeReplyObject(r);
}

static void logs_in(redisContext *c)
{
    redisContext *stranger = connection();
    expect(stranger, "NOAUTH", "PING");
    expect(stranger, "WRONGPASS", "AUTH app wrong");
    login(stranger);
    expect(stranger, "PONG", "PING");
    redisFree(stranger);
    expect(c, "PONG", "PING");
}

static void values(redisContext *c)
{
    expect(c, "OK", "SET a 1 EX 100");
    expect(c, "nil", "SET a 2 NX");
    expect(c, "1", "GET a");
    expect(c, "5", "INCRBY n 5");
    expect(c, "nil", "GET none");
    expect(c, "1", "DEL a none");
}

static void bytes_of_all_kinds(redisContext *c)
{
    char every[256], *big = malloc(BIG);
    for (int i = 0; i < 256; i++)
        every[i] = (char)i;
    for (int i = 0; i < BIG; i++)
        big[i] = (char)(i * 31);
    expect(c, "OK", "SET %b %b", every, sizeof every, every, sizeof every);
    redisReply *r = redisCommand(c, "GET %b", every, sizeof every);
    check(r && r->len == sizeof every && memcmp(r->str, every, sizeof every) == 0, "all bytes", r);
    freeReplyObject(r);
    expect(c, "OK", "SET big %b", big, (size_t)BIG);
    r = redisCommand(c, "GET big");
    check(r && r->len == BIG && memcmp(r->str, big, BIG) == 0, "a megabyte", r);
    freeReplyObject(r);
    free(big);
}

static void pipelines(redisContext *c)
{
    char want[16];
    for (int i = 1; i <= 1000; i++) {
        redisAppendCommand(c, "INCR count");
        redisAppendCommand(c, "SET p:%d %d", i, i);
        redisAppendCommand(c, "GET p:%d", i);
    }
    for (int i = 1; i <= 1000; i++) {
        snprintf(want, sizeof want, "%d", i);
        expect_next(c, want);
        expect_next(c, "OK");
        expect_next(c, want);
    }
}

static void transactions(redisContext *c)
{
    redisContext *other = connection();
    login(other);
    expect(c, "OK", "MULTI");
    expect(c, "QUEUED", "SET t 1");
    expect(c, "QUEUED", "INCR t");
    redisReply *r = redisCommand(c, "EXEC");
    check(r && r->elements == 2 && is(r->element[0], "OK") && is(r->element[1], "2"), "EXEC", r);
    freeReplyObject(r);
    expect(c, "OK", "WATCH t");
    expect(other, "OK", "SET t 10");
    expect(c, "OK", "MULTI");
    expect(c, "QUEUED", "SET t 3");
    expect(c, "nil", "EXEC");
    expect(c, "10", "GET t");
    redisFree(other);
}

static void channels(redisContext *c)
{
    redisContext *listener = connection();
    void *r = NULL;
    login(listener);
    freeReplyObject(redisCommand(listener, "SUBSCRIBE news"));
    expect(c, "1", "PUBLISH news hello");
    redisGetReply(listener, &r);
    const redisReply *m = r;
    check(m && m->elements == 3 && is(m->element[0], "message") && is(m->element[2], "hello"), "message", r);
    if (r)
        freeReplyObject(r);
    redisFree(listener);
}

static void secrets(redisContext *c)
{
    expect(c, "OK", "VAULT.CREATE team");
    expect(c, "1", "SECRET.SET team db/password %s", "one");
    expect(c, "2", "SECRET.SET team db/password %s", "two words");
    expect(c, "one", "SECRET.GET team db/password VERSION 1");
    expect(c, "two words", "GET {team}/db/password");
    expect(c, "1", "KEY.CREATE team k");
    redisReply *sealed = redisCommand(c, "KEY.ENCRYPT team k %s", "text");
    expect(c, "text", "KEY.DECRYPT team k %b", sealed->str, sealed->len);
    freeReplyObject(sealed);
}

static void reconnects(redisContext *c)
{
    expect(c, "OK", "SET before kept");
    if (system(getenv("RESTART")) != 0)
        failed = 1;
    redisReply *r = redisCommand(c, "GET before");
    check(!r && c->err, "a connection to a server that died", r);
    if (redisReconnect(c) != REDIS_OK)
        failed = 1;
    login(c);
    expect(c, "kept", "GET before");
}

int main(void)
{
    static const struct {
        const char *name;
        void (*run)(redisContext *c);
    } cases[] = {
        {"login", logs_in},       {"values", values},         {"binary and big values", bytes_of_all_kinds},
        {"pipelines", pipelines}, {"channels", channels},     {"transactions", transactions},
        {"secrets", secrets},     {"reconnects", reconnects},
    };
    redisContext *c = connection();
    login(c);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        failed = 0;
        cases[i].run(c);
        printf("%s %s\n", failed ? "not ok" : "ok", cases[i].name);
        fflush(stdout);
    }
    redisFree(c);
    puts("done");
    return 0;
}
