/* history.c - see history.h. Each client is a thread with a list of its own; they fail nothing themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/lib/history.h"
#include "tests/lib/linear.h"

#define WRITERS_MAX 16
#define CLIENTS (WRITERS_MAX + TRIO)
#define KEYS 8
#define PACE_US 4000 /* between two operations of a client: the cores are for the servers */
#define PATIENT_S 15 /* every second client waits so long for an answer, longer than a server may take */
#define HASTY_S 2
#define SAID 160

struct outcome { /* of an operation that was UNCERTAIN */
    size_t op;
    unsigned long long lsn, term;
};

struct client {
    pthread_t thread;
    unsigned number;
    char socket[TRIO][E2E_PATH];
    uint64_t rng;
    redisContext *c;
    unsigned node; /* of the connection; of a reader, always */
    uint32_t session;
    struct linear_op *ops;
    size_t n, room;
    struct outcome *open;
    size_t open_n, open_room;
    uint64_t unanswered;
    char strange[SAID]; /* the first answer that is none of those above */
};

static struct client clients[CLIENTS];
static unsigned client_count, generation;
static _Atomic int stopping;
static _Atomic unsigned happened;
static _Atomic uint32_t sessions;
static char summary[SAID];

/* ---- one client ---- */

static unsigned draw(struct client *me, unsigned below)
{
    me->rng = me->rng * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(me->rng >> 33) % below;
}

static int is_reader(const struct client *me)
{
    return me->number >= WRITERS_MAX;
}

/* Room for one more in a list. */
static void *grow(void *list, size_t n, size_t *room, size_t size)
{
    if (n < *room)
        return list;
    *room = *room ? *room * 2 : 1024;
    list = realloc(list, *room * size);
    if (!list)
        abort();
    return list;
}

static void hang_up(struct client *me)
{
    if (me->c)
        redisFree(me->c);
    me->c = NULL;
    if (!is_reader(me))
        me->node = (me->node + 1) % TRIO;
}

static int connected(struct client *me)
{
    if (me->c)
        return 1;
    me->c = redisConnectUnix(me->socket[me->node]);
    if (!me->c || me->c->err) {
        hang_up(me);
        return 0;
    }
    redisSetTimeout(me->c, (struct timeval){.tv_sec = me->number % 2 ? PATIENT_S : HASTY_S});
    me->session = atomic_fetch_add(&sessions, 1);
    if (is_reader(me))
        return 1;
    redisReply *r = redisCommand(me->c, "CLIENT CONSISTENCY LINEARIZABLE");
    int ok = r && r->type == REDIS_REPLY_STATUS;
    if (r)
        freeReplyObject(r);
    if (!ok)
        hang_up(me);
    return ok;
}

static redisReply *say(struct client *me, const struct linear_op *op)
{
    static const char *const commands[] = {
        [LINEAR_WRITE] = "SET history-%u-%u %llu",
        [LINEAR_SWAP] = "SET history-%u-%u %llu GET",
        [LINEAR_READ] = "GET history-%u-%u",
        [LINEAR_LOCAL_READ] = "GET history-%u-%u",
    };
    return redisCommand(me->c, commands[op->kind], generation, op->key, (unsigned long long)op->wrote);
}

static int begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

static int is_refusal(const char *text)
{
    static const char *const refusals[] = {"READONLY ", "NOREPLICAS ", "ROLLEDBACK ", "MASTERDOWN ",
                                           "NOQUORUM ", "LOADING ",    "MISCONF "};
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
        if (begins(text, refusals[i]))
            return 1;
    return 0;
}

static void note(struct client *me, const struct linear_op *op)
{
    me->ops = grow(me->ops, me->n, &me->room, sizeof *me->ops);
    me->ops[me->n++] = *op;
}

/* It may have happened. */
static void note_pending(struct client *me, struct linear_op *op, const char *text)
{
    struct outcome o = {.op = me->n};
    op->returned = LINEAR_NEVER;
    note(me, op);
    if (!text) {
        me->unanswered++;
    } else if (op->wrote && sscanf(text, "UNCERTAIN %llu %llu", &o.lsn, &o.term) == 2) {
        me->open = grow(me->open, me->open_n, &me->open_room, sizeof *me->open);
        me->open[me->open_n++] = o;
    } else if (!me->strange[0]) {
        snprintf(me->strange, sizeof me->strange, "%s", text);
    }
}

static void take_answer(struct client *me, struct linear_op *op, const redisReply *r)
{
    op->returned = clock_mono_us();
    if (!r || r->type == REDIS_REPLY_ERROR) {
        if (!r || !is_refusal(r->str))
            note_pending(me, op, r ? r->str : NULL);
        if (!is_reader(me) || !r)
            hang_up(me);
        return;
    }
    op->saw = r->type == REDIS_REPLY_STRING ? strtoull(r->str, NULL, 10) : 0;
    note(me, op);
    if (!is_reader(me))
        atomic_fetch_add(&happened, 1);
}

static void one_operation(struct client *me, unsigned n)
{
    static const enum linear_kind kinds[] = {LINEAR_SWAP, LINEAR_WRITE, LINEAR_READ, LINEAR_READ};
    if (!connected(me))
        return;
    struct linear_op op = {.kind = is_reader(me) ? LINEAR_LOCAL_READ : kinds[draw(me, sizeof kinds / sizeof *kinds)],
                           .key = draw(me, KEYS),
                           .session = me->session};
    if (op.kind == LINEAR_WRITE || op.kind == LINEAR_SWAP)
        op.wrote = (uint64_t)(me->number + 1) << 32 | n;
    op.called = clock_mono_us();
    redisReply *r = say(me, &op);
    take_answer(me, &op, r);
    if (r)
        freeReplyObject(r);
}

static void *client_main(void *arg)
{
    struct client *me = arg;
    for (unsigned n = 1; !atomic_load(&stopping); n++) {
        one_operation(me, n);
        usleep(PACE_US);
    }
    if (me->c)
        redisFree(me->c);
    me->c = NULL;
    return NULL;
}

/* ---- all of them ---- */

static void start(const struct trio *t, unsigned number, unsigned node)
{
    struct client *me = &clients[client_count];
    memset(me, 0, sizeof *me);
    me->number = number;
    me->node = node;
    me->rng = number;
    for (unsigned i = 0; i < TRIO; i++)
        memcpy(me->socket[i], t->node[i].socket, E2E_PATH);
    assert_int_equal(pthread_create(&me->thread, NULL, client_main, me), 0);
    client_count++;
}

void history_begin(struct trio *t, unsigned writers)
{
    assert_true(writers <= WRITERS_MAX && !client_count);
    atomic_store(&stopping, 0);
    atomic_store(&happened, 0);
    generation++;
    for (unsigned i = 0; i < writers; i++)
        start(t, i, i % TRIO);
    for (unsigned i = 0; i < TRIO; i++)
        start(t, WRITERS_MAX + i, i);
}

unsigned history_done(void)
{
    return atomic_load(&happened);
}

void history_end(void)
{
    atomic_store(&stopping, 1);
    for (unsigned i = 0; i < client_count; i++)
        if (clients[i].thread)
            pthread_join(clients[i].thread, NULL);
    for (unsigned i = 0; i < client_count; i++)
        clients[i].thread = 0;
}

/* ---- afterwards ---- */

/* What all nodes say became of it: 1 it happened. */
static int outcome(struct trio *t, const struct outcome *o)
{
    char *first = NULL;
    for (unsigned i = 0; i < TRIO; i++) {
        redisReply *r = e2e_command(t->node[i].c, "WBL.OUTCOME %llu %llu", o->lsn, o->term);
        char *said = e2e_show_reply(r);
        freeReplyObject(r);
        if (strcmp(said, "$committed") != 0 && strcmp(said, "$rolledback") != 0)
            fail_msg("WBL.OUTCOME %llu %llu on node %u: %s", o->lsn, o->term, i, said);
        if (first && strcmp(first, said) != 0)
            fail_msg("WBL.OUTCOME %llu %llu: %s, and on node %u %s", o->lsn, o->term, first, i, said);
        free(first);
        first = said;
    }
    int happened_then = strcmp(first, "$committed") == 0;
    free(first);
    return happened_then;
}

/* Those that were rolled back are turned into reads of nothing that nobody looks at. */
static void settle(struct trio *t, struct client *me)
{
    for (size_t i = 0; i < me->open_n; i++)
        if (!outcome(t, &me->open[i]))
            me->ops[me->open[i].op] =
                (struct linear_op){.kind = LINEAR_READ, .returned = LINEAR_NEVER, .session = UINT32_MAX};
}

static void read_all(struct trio *t, struct client *last)
{
    for (unsigned i = 0; i < TRIO; i++)
        for (uint32_t key = 0; key < KEYS; key++) {
            struct linear_op op = {.kind = LINEAR_READ, .key = key, .session = UINT32_MAX, .called = clock_mono_us()};
            redisReply *r = e2e_command(t->node[i].c, "GET history-%u-%u", generation, key);
            if (r->type == REDIS_REPLY_ERROR)
                fail_msg("node %u: %s", i, r->str);
            op.returned = clock_mono_us();
            op.saw = r->type == REDIS_REPLY_STRING ? strtoull(r->str, NULL, 10) : 0;
            note(last, &op);
            freeReplyObject(r);
        }
}

static struct linear_op *gather(size_t *n)
{
    size_t all = 0;
    for (unsigned i = 0; i < client_count; i++)
        all += clients[i].n;
    struct linear_op *ops = calloc(all + 1, sizeof *ops);
    assert_non_null(ops);
    *n = 0;
    for (unsigned i = 0; i < client_count; i++) {
        memcpy(ops + *n, clients[i].ops, clients[i].n * sizeof *ops);
        *n += clients[i].n;
    }
    return ops;
}

static void forget(void)
{
    for (unsigned i = 0; i < client_count; i++) {
        free(clients[i].ops);
        free(clients[i].open);
    }
    client_count = 0;
}

void history_check(struct trio *t)
{
    char why[512] = "";
    size_t n, open = 0, unanswered = 0;

    trio_await_equal(t);
    for (unsigned i = 0; i < client_count; i++) {
        if (clients[i].strange[0])
            fail_msg("a client was answered %s", clients[i].strange);
        settle(t, &clients[i]);
        open += clients[i].open_n;
        unanswered += clients[i].unanswered;
    }
    read_all(t, &clients[client_count - 1]);
    struct linear_op *ops = gather(&n);
    int good = linear_check(ops, n, why, sizeof why);
    free(ops);
    snprintf(summary, sizeof summary, "%zu operations, %zu uncertain, %zu unanswered", n, open, unanswered);
    forget();
    if (good != 1)
        fail_msg("not linearizable: %s", why);
}

const char *history_summary(void)
{
    return summary;
}
