/* failover.c - how long clients wait: for a promotion, for another primary, for a replica.
 *
 *     failover promote PORT
 *         REPLICAOF NO ONE there, then SET until one is acknowledged. Prints the milliseconds from the order until
 * then. failover gap SECONDS SENTINEL-PORT... For so many seconds SETs, one after the other, to the primary of "cell"
 * that a Sentinel names; after an error it asks the next Sentinel. Prints the longest time between two acknowledged
 * ones in milliseconds, and how many there were. failover lag ROUNDS PRIMARY-PORT REPLICA-PORT A SET here, and from its
 * answer on until a READ.AFTER there says that the replica shows it. Prints the median, the 99th percentile and the
 * longest in microseconds.
 *
 * All on 127.0.0.1.
 */
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define RETRY_US 2000
#define GIVE_UP_US 60000000u

static void die(const char *what)
{
    fprintf(stderr, "failover: %s\n", what);
    exit(1);
}

static redisContext *dial(int port)
{
    redisContext *c = redisConnectWithTimeout("127.0.0.1", port, (struct timeval){.tv_sec = 1});
    if (c && !c->err) {
        redisSetTimeout(c, (struct timeval){.tv_sec = 20});
        return c;
    }
    if (c)
        redisFree(c);
    return NULL;
}

static redisContext *need(int port)
{
    redisContext *c = dial(port);
    if (!c)
        die("no connection");
    return c;
}

/* 1: acknowledged. */
static int set(redisContext *c, uint64_t value)
{
    redisReply *r = redisCommand(c, "SET failover:key %llu", (unsigned long long)value);
    int ok = r && r->type == REDIS_REPLY_STATUS;
    if (r)
        freeReplyObject(r);
    return ok;
}

static int promote(char **argv)
{
    redisContext *c = need(atoi(argv[0]));
    uint64_t begun = clock_mono_us();
    redisReply *r = redisCommand(c, "REPLICAOF NO ONE");
    if (!r || r->type != REDIS_REPLY_STATUS)
        die("REPLICAOF NO ONE is refused");
    freeReplyObject(r);
    while (!set(c, begun)) {
        if (c->err || clock_mono_us() - begun > GIVE_UP_US)
            die("it is not promoted");
        usleep(500);
    }
    printf("%.1f\n", (double)(clock_mono_us() - begun) / 1000);
    redisFree(c);
    return 0;
}

/* The primary's port, says a Sentinel; 0: it does not. */
static int named(int sentinel)
{
    redisContext *c = dial(sentinel);
    redisReply *r = c ? redisCommand(c, "SENTINEL get-master-addr-by-name cell") : NULL;
    int port = r && r->type == REDIS_REPLY_ARRAY && r->elements == 2 ? atoi(r->element[1]->str) : 0;
    if (r)
        freeReplyObject(r);
    if (c)
        redisFree(c);
    return port;
}

static redisContext *find_primary(char **sentinel, int sentinels)
{
    static int next;
    int port = named(atoi(sentinel[next++ % sentinels]));
    return port ? dial(port) : NULL;
}

static int gap(char **argv, int argc)
{
    redisContext *c = NULL;
    uint64_t end = clock_mono_us() + strtoull(argv[0], NULL, 10) * 1000000, last = 0, longest = 0, n = 0;
    signal(SIGPIPE, SIG_IGN);
    while (clock_mono_us() < end) {
        if (!c && !(c = find_primary(argv + 1, argc - 1))) {
            usleep(RETRY_US);
            continue;
        }
        if (!set(c, n)) {
            redisFree(c);
            c = NULL;
            usleep(RETRY_US);
            continue;
        }
        uint64_t now = clock_mono_us();
        if (last && now - last > longest)
            longest = now - last;
        last = now;
        n++;
    }
    printf("%.0f %llu\n", (double)longest / 1000, (unsigned long long)n);
    return 0;
}

static int by_size(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* From the answer to a SET until the replica shows it. */
static uint64_t one_lag(redisContext *primary, redisContext *replica, uint64_t i)
{
    if (!set(primary, i))
        die("a SET is refused");
    uint64_t begun = clock_mono_us();
    redisReply *r = redisCommand(primary, "CLIENT LASTLSN");
    if (!r || r->type != REDIS_REPLY_INTEGER)
        die("no LSN");
    redisReply *there = redisCommand(replica, "READ.AFTER %lld TIMEOUT 20000", r->integer);
    if (!there || there->type != REDIS_REPLY_STATUS)
        die("the replica does not get it");
    freeReplyObject(r);
    freeReplyObject(there);
    return clock_mono_us() - begun;
}

static int lag(char **argv)
{
    size_t n = strtoul(argv[0], NULL, 10);
    uint64_t *us = calloc(n, sizeof *us);
    redisContext *primary = need(atoi(argv[1])), *replica = need(atoi(argv[2]));
    if (!us || !n)
        die("how many rounds?");
    for (size_t i = 0; i < n; i++)
        us[i] = one_lag(primary, replica, i);
    qsort(us, n, sizeof *us, by_size);
    printf("%llu %llu %llu\n", (unsigned long long)us[n / 2], (unsigned long long)us[n * 99 / 100],
           (unsigned long long)us[n - 1]);
    free(us);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "promote") == 0)
        return promote(argv + 2);
    if (argc > 3 && strcmp(argv[1], "gap") == 0)
        return gap(argv + 2, argc - 2);
    if (argc == 5 && strcmp(argv[1], "lag") == 0)
        return lag(argv + 2);
    die("promote PORT | gap SECONDS SENTINEL-PORT... | lag ROUNDS PRIMARY-PORT REPLICA-PORT");
}
