/* sentinels.c - see sentinels.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/net.h"
#include "tests/lib/sentinels.h"

/* ---- asking ---- */

redisContext *sentinels_connect(const struct sentinels *s, unsigned i)
{
    char path[E2E_PATH + 16];
    snprintf(path, sizeof path, "%s/socket", s->at[i].dir);
    redisContext *c = redisConnectUnix(path);
    if (c && c->err) {
        redisFree(c);
        c = NULL;
    }
    if (c)
        redisSetTimeout(c, (struct timeval){.tv_sec = 5});
    return c;
}

/* An array; NULL: it does not answer, or refuses. The caller's. */
static redisReply *ask(const struct sentinels *s, unsigned i, const char *command)
{
    redisContext *c = sentinels_connect(s, i);
    redisReply *r = c ? redisCommand(c, command) : NULL;
    if (r && r->type != REDIS_REPLY_ARRAY) {
        freeReplyObject(r);
        r = NULL;
    }
    if (c)
        redisFree(c);
    return r;
}

/* Of a list of names and values; empty: it is not there. */
static const char *field(const redisReply *r, const char *name)
{
    for (size_t k = 0; k + 1 < r->elements; k += 2)
        if (strcmp(r->element[k]->str, name) == 0)
            return r->element[k + 1]->str;
    return "";
}

static int is(const redisReply *r, const char *name, const char *want)
{
    return strcmp(field(r, name), want) == 0;
}

/* ---- what they think ---- */

static int node_at(const struct trio *t, const char *host, const char *port)
{
    for (int i = 0; i < TRIO; i++)
        if (strcmp(host, t->host[i]) == 0 && t->port[i] == (int)strtol(port, NULL, 10))
            return i;
    return -1;
}

/* The primary that one names, when it is content with it; -1: it is not. */
static int content_with(const struct sentinels *s, const struct trio *t, unsigned i, long *epoch)
{
    int node = -1;
    redisReply *r = ask(s, i, "SENTINEL master cell");
    if (r && is(r, "flags", "master") && is(r, "role-reported", "master") && is(r, "num-slaves", "2") &&
        is(r, "num-other-sentinels", "2"))
        node = node_at(t, field(r, "ip"), field(r, "port"));
    *epoch = r ? strtol(field(r, "config-epoch"), NULL, 10) : -1;
    if (r)
        freeReplyObject(r);
    return node;
}

static int replicas_follow(const struct sentinels *s, const struct trio *t, unsigned i, unsigned primary)
{
    redisReply *r = ask(s, i, "SENTINEL replicas cell");
    int all = r && r->elements == TRIO - 1;
    for (size_t k = 0; all && k < r->elements; k++) {
        const redisReply *one = r->element[k];
        all = is(one, "flags", "slave") && is(one, "role-reported", "slave") && is(one, "master-link-status", "ok") &&
              node_at(t, field(one, "master-host"), field(one, "master-port")) == (int)primary;
    }
    if (r)
        freeReplyObject(r);
    return all;
}

/* The primary on which all agree; -1: they do not. */
static int agreed(const struct sentinels *s, const struct trio *t)
{
    long epoch, first = 0;
    int primary = -1;
    for (unsigned i = 0; i < SENTINELS; i++) {
        int node = content_with(s, t, i, &epoch);
        if (i == 0) {
            primary = node;
            first = epoch;
        }
        if (node < 0 || node != primary || epoch != first || !replicas_follow(s, t, i, (unsigned)node))
            return -1;
    }
    return primary;
}

unsigned sentinels_await_settled(struct sentinels *s, struct trio *t)
{
    struct e2e_deadline w = {.what = "all Sentinels to be content with one primary"};
    for (;;) {
        int primary = agreed(s, t);
        if (primary >= 0 && t->node[primary].pid && trio_is_master(t, (unsigned)primary))
            return (unsigned)primary;
        e2e_not_yet(&w);
    }
}

unsigned sentinels_await_other(struct sentinels *s, struct trio *t, unsigned old)
{
    struct e2e_deadline w = {.what = "a failover"};
    for (;;) {
        redisReply *r = ask(s, 0, "SENTINEL get-master-addr-by-name cell");
        int node = r && r->elements == 2 ? node_at(t, r->element[0]->str, r->element[1]->str) : -1;
        if (r)
            freeReplyObject(r);
        if (node >= 0 && node != (int)old && t->node[node].pid && trio_is_master(t, (unsigned)node))
            return (unsigned)node;
        e2e_not_yet(&w);
    }
}

/* ---- life ---- */

static void start_one(struct sentinel *at, unsigned i, const struct trio *t, unsigned down_after_ms)
{
    char path[E2E_PATH + 16], log[E2E_PATH + 16];
    snprintf(at->dir, sizeof at->dir, "/tmp/coffer-e2e-XXXXXX");
    assert_non_null(mkdtemp(at->dir));
    snprintf(path, sizeof path, "%s/conf", at->dir);
    snprintf(log, sizeof log, "%s/log", at->dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    if (t->net)
        net_enter(TRIO + i);
    fprintf(f,
            "port %d\nbind %s\nprotected-mode no\ndir %s\nunixsocket %s/socket\n"
            "sentinel monitor cell %s %d 2\n"
            "sentinel down-after-milliseconds cell %u\n"
            "sentinel failover-timeout cell 10000\n"
            "sentinel parallel-syncs cell 2\n",
            e2e_free_port(), t->net ? net_address(TRIO + i) : "127.0.0.1", at->dir, at->dir, t->host[0], t->port[0],
            down_after_ms);
    fclose(f);
    at->pid = e2e_spawn(log, "redis-sentinel", path, NULL);
    net_leave();
}

/* They look around more often than by default, and forgive a loaded machine's late timers sooner. */
static void hurry(struct sentinels *s, unsigned i)
{
    struct e2e_deadline w = {.what = "a Sentinel to answer"};
    redisContext *c;
    while (!(c = sentinels_connect(s, i)))
        e2e_not_yet(&w);
    e2e_expect(c, "+OK", "SENTINEL DEBUG info-period 1000 publish-period 500 tilt-period 3000");
    redisFree(c);
}

void sentinels_start(struct sentinels *s, struct trio *t, unsigned down_after_ms)
{
    memset(s, 0, sizeof *s);
    for (unsigned i = 0; i < SENTINELS; i++)
        start_one(&s->at[i], i, t, down_after_ms);
    for (unsigned i = 0; i < SENTINELS; i++)
        hurry(s, i);
    sentinels_await_settled(s, t);
}

void sentinels_end(struct sentinels *s)
{
    char said[256];
    for (unsigned i = 0; i < SENTINELS; i++) {
        if (s->at[i].pid)
            e2e_end(s->at[i].pid);
        s->at[i].pid = 0;
        e2e_run(said, sizeof said, "rm", "-rf", s->at[i].dir, NULL);
    }
}
