/* trio.c - see trio.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/net.h"
#include "tests/lib/trio.h"

#define CLIENTS 8
#define WRITES_MAX 200000 /* of each */
#define KEYS 64           /* of each: later values take the place of earlier ones */

/* ---- servers ---- */

static void plan(struct trio *t, int net)
{
    memset(t, 0, sizeof *t);
    t->net = net;
    for (unsigned i = 0; i < TRIO; i++) {
        t->port[i] = e2e_free_port();
        snprintf(t->host[i], sizeof t->host[i], "%s", net ? net_address(i) : "127.0.0.1");
        snprintf(t->voters[i], sizeof t->voters[i], "%s:%d", t->host[i], t->port[i]);
    }
}

void trio_plan(struct trio *t)
{
    plan(t, 0);
}

void trio_plan_net(struct trio *t)
{
    plan(t, 1);
}

static void enter(const struct trio *t, unsigned i)
{
    if (t->net)
        net_enter(i);
}

void trio_begin(struct trio *t, unsigned i)
{
    char port[16];
    snprintf(port, sizeof port, "%d", t->port[i]);
    enter(t, i);
    e2e_begin(&t->node[i], "--bind", t->host[i], "--port", port, "--voters", t->voters[0], t->voters[1], t->voters[2],
              "--io-threads", "1", "--protected-mode", t->net ? "no" : "yes", "--user", "default", "on", "nopass", "~*",
              "&*", "+@all", NULL);
    net_leave();
}

void trio_begin_again(struct trio *t, unsigned i)
{
    enter(t, i);
    e2e_begin_again(&t->node[i]);
    net_leave();
}

void trio_start(struct trio *t)
{
    trio_plan(t);
    trio_start_planned(t);
}

void trio_start_planned(struct trio *t)
{
    for (unsigned i = 0; i < TRIO; i++)
        trio_begin(t, i);
    for (unsigned i = 0; i < TRIO; i++)
        e2e_ready(&t->node[i]);
    trio_await_master(t, 0);
    trio_await_followers(t, 0, 2);
}

void trio_again(struct trio *t, unsigned i)
{
    trio_begin_again(t, i);
    e2e_ready(&t->node[i]);
}

void trio_finish(struct trio *t)
{
    for (unsigned i = 0; i < TRIO; i++)
        e2e_finish(&t->node[i]);
}

/* ---- who is what ---- */

/* Over a connection of its own: Sentinel closes all others when it changes a node's part. Empty: it does not answer. */
static const char *info(struct trio *t, unsigned i, const char *field)
{
    static char value[256];
    char *at, name[64];
    redisContext *c = t->node[i].pid ? redisConnectUnix(t->node[i].socket) : NULL;
    redisReply *r = NULL;

    value[0] = 0;
    snprintf(name, sizeof name, "\n%s:", field);
    if (c && !c->err) {
        redisSetTimeout(c, (struct timeval){.tv_sec = 5});
        r = redisCommand(c, "INFO replication");
    }
    if (r && r->type == REDIS_REPLY_STRING && (at = strstr(r->str, name)))
        snprintf(value, sizeof value, "%.*s", (int)strcspn(at + strlen(name), "\r\n"), at + strlen(name));
    if (r)
        freeReplyObject(r);
    if (c)
        redisFree(c);
    return value;
}

void trio_await(struct trio *t, unsigned i, const char *field, const char *want)
{
    struct e2e_deadline w = {.what = want};
    while (strcmp(info(t, i, field), want) != 0 && e2e_not_yet(&w)) {
    }
}

int trio_is_master(struct trio *t, unsigned i)
{
    return strcmp(info(t, i, "role"), "master") == 0;
}

void trio_await_master(struct trio *t, unsigned i)
{
    trio_await(t, i, "role", "master");
}

void trio_await_followers(struct trio *t, unsigned master, unsigned n)
{
    char want[8];
    snprintf(want, sizeof want, "%u", n);
    trio_await(t, master, "connected_slaves", want);
}

void trio_lead(struct trio *t, unsigned i)
{
    struct e2e_deadline w = {.what = "a promotion"};
    do { /* a try may fail: votes cross, a link is not there yet */
        e2e_expect(t->node[i].c, "+OK", "REPLICAOF NO ONE");
        for (int k = 0; k < 300 && !trio_is_master(t, i); k++)
            e2e_not_yet(&w);
    } while (!trio_is_master(t, i) && e2e_not_yet(&w));
}

static int is_answered(const redisContext *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

void trio_write_in_limbo(struct trio *t, unsigned i, redisContext *c, const char *command)
{
    struct e2e_deadline w = {.what = "a write that waits for a majority"};
    redisContext *info = t->node[i].c;
    redisAppendCommand(c, command);
    for (int done = 0; !done;)
        assert_int_equal(redisBufferWrite(c, &done), REDIS_OK);
    while (e2e_not_yet(&w) && e2e_field(info, "WBL.INFO", "last-lsn") <= e2e_field(info, "WBL.INFO", "commit-lsn") &&
           !is_answered(c))
        ;
}

/* ---- clients ---- */

struct client {
    pthread_t thread;
    unsigned number;
    int port[TRIO];
    /* Of each key: the newest value that was acknowledged, and the newest that was tried. */
    unsigned acked[KEYS], tried[KEYS];
};

static struct client clients[CLIENTS];
static unsigned client_count;
static _Atomic int stopping;
static _Atomic unsigned acknowledged;

static redisContext *connect_to(int port)
{
    redisContext *c = redisConnectWithTimeout("127.0.0.1", port, (struct timeval){.tv_sec = 1});
    if (c && c->err) {
        redisFree(c);
        return NULL;
    }
    if (c)
        redisSetTimeout(c, (struct timeval){.tv_sec = 20});
    return c;
}

/* 1: acknowledged. 0: not, or nobody knows. The connection is gone when it broke, or when this is no primary. */
static int write_one(redisContext **c, const struct client *me, unsigned key, unsigned value)
{
    redisReply *r = redisCommand(*c, "SET load-%u-%u %u", me->number, key, value);
    int ok = r && r->type == REDIS_REPLY_STATUS;
    if (!ok) {
        redisFree(*c);
        *c = NULL;
    }
    if (r)
        freeReplyObject(r);
    return ok;
}

/* Tries nodes in turn until one takes writes. A value is tried once only: so what is read tells which write it was. */
static void *client_main(void *arg)
{
    struct client *me = arg;
    redisContext *c = NULL;
    for (unsigned n = 1, at = 0; n < WRITES_MAX && !atomic_load(&stopping); n++) {
        unsigned key = n % KEYS;
        if (!c && !(c = connect_to(me->port[at++ % TRIO]))) {
            usleep(2000); /* another one then */
            continue;
        }
        me->tried[key] = n;
        if (write_one(&c, me, key, n)) {
            me->acked[key] = n;
            atomic_fetch_add(&acknowledged, 1);
        } else {
            usleep(2000);
        }
    }
    if (c)
        redisFree(c);
    return NULL;
}

void trio_load_begin(struct trio *t, unsigned n)
{
    assert_true(n <= CLIENTS);
    atomic_store(&stopping, 0);
    atomic_store(&acknowledged, 0);
    memset(clients, 0, sizeof clients);
    client_count = n;
    for (unsigned i = 0; i < n; i++) {
        clients[i].number = i;
        memcpy(clients[i].port, t->port, sizeof t->port);
        assert_int_equal(pthread_create(&clients[i].thread, NULL, client_main, &clients[i]), 0);
    }
}

unsigned trio_load_done(void)
{
    return atomic_load(&acknowledged);
}

static void end_clients(void)
{
    atomic_store(&stopping, 1);
    for (unsigned i = 0; i < client_count; i++)
        if (clients[i].thread)
            pthread_join(clients[i].thread, NULL);
    for (unsigned i = 0; i < client_count; i++)
        clients[i].thread = 0;
}

void trio_load_end(struct trio *t)
{
    (void)t;
    end_clients();
}

/* ---- what must be true afterwards ---- */

static char *end_of_log(redisContext *c)
{
    redisReply *r = e2e_command(c, "WBL.INFO");
    char *text = NULL;
    long long last = 0;
    for (size_t i = 0; i + 1 < r->elements; i += 2) {
        if (strcmp(r->element[i]->str, "last-lsn") == 0)
            last = r->element[i + 1]->integer;
        if (strcmp(r->element[i]->str, "chain") == 0 && asprintf(&text, "%lld %s", last, r->element[i + 1]->str) < 0)
            text = NULL;
    }
    freeReplyObject(r);
    assert_non_null(text);
    return text;
}

static int logs_are_equal(struct trio *t)
{
    char *end[TRIO];
    int equal = 1;
    for (unsigned i = 0; i < TRIO; i++)
        end[i] = end_of_log(t->node[i].c);
    for (unsigned i = 1; i < TRIO; i++)
        equal &= strcmp(end[0], end[i]) == 0;
    for (unsigned i = 0; i < TRIO; i++)
        free(end[i]);
    return equal;
}

/* What is there is the newest acknowledged write, or one that was tried after it. */
static void check_key(redisContext *c, const struct client *k, unsigned key)
{
    redisReply *r = e2e_command(c, "GET load-%u-%u", k->number, key);
    unsigned has = r->type == REDIS_REPLY_STRING ? (unsigned)strtoul(r->str, NULL, 10) : 0;
    if (r->type == REDIS_REPLY_ERROR)
        fail_msg("load-%u-%u: %s", k->number, key, r->str);
    if (has < k->acked[key] || has > k->tried[key])
        fail_msg("load-%u-%u: %u was acknowledged, %u tried last, and there is %u", k->number, key, k->acked[key],
                 k->tried[key], has);
    freeReplyObject(r);
}

void trio_await_equal(struct trio *t)
{
    struct e2e_deadline w = {.what = "all nodes to have the same log"};
    for (unsigned i = 0; i < TRIO; i++) {
        redisFree(t->node[i].c);
        t->node[i].c = e2e_connect(&t->node[i]);
    }
    while (!logs_are_equal(t) && e2e_not_yet(&w)) {
    }
    char last[32];
    snprintf(last, sizeof last, "%s", e2e_info(t->node[0].c, "wbl_last_lsn"));
    for (unsigned i = 0; i < TRIO; i++)
        e2e_info_wait(t->node[i].c, "wbl_commit_lsn", last);
}

void trio_check(struct trio *t)
{
    assert_true(trio_load_done() > 0);
    trio_await_equal(t);
    for (unsigned i = 0; i < TRIO; i++)
        for (unsigned k = 0; k < client_count; k++)
            for (unsigned key = 0; key < KEYS; key++)
                check_key(t->node[i].c, &clients[k], key);
}

int trio_teardown(void **state)
{
    net_leave();
    end_clients();
    return e2e_teardown(state);
}
