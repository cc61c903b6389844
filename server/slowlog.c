/* slowlog.c - a list under a lock; see slowlog.h. An entry is one allocation: the struct, then the texts of its
 * arguments. Long arguments and long lists of them are cut as Redis does. */
#include "server/slowlog.h"

#include <pthread.h>
#include <stdio.h>

#include "base/mem.h"
#include "server/command.h"
#include "server/conn_private.h"

#define MAX_ARGS 32
#define MAX_ARG_BYTES 128
#define MORE_BYTES 64 /* "... (1234 more bytes)" */

struct entry {
    struct entry *next;
    uint64_t id, time_ms, usec;
    char peer[CONN_PEER_BYTES], name[CONN_NAME_BYTES + 1];
    unsigned argc;
    struct bytes arg[MAX_ARGS];
    uint8_t text[];
};

struct slowlog {
    pthread_mutex_t lock;
    struct config *config;
    struct entry *newest;
    uint64_t next_id;
    size_t len;
};

enum err slowlog_new(struct slowlog **out, struct config *cfg)
{
    struct slowlog *s = *out = mem_zalloc(sizeof *s);
    if (!s)
        return ERR_OOM;
    pthread_mutex_init(&s->lock, NULL);
    s->config = cfg;
    return ERR_OK;
}

static void free_from(struct entry *e)
{
    while (e) {
        struct entry *next = e->next;
        mem_free(e);
        e = next;
    }
}

/* Unlinks all but the newest keep entries; the caller frees them without the lock. */
static struct entry *cut(struct slowlog *s, size_t keep)
{
    struct entry **at = &s->newest;
    if (s->len <= keep)
        return NULL;
    for (size_t i = 0; i < keep; i++)
        at = &(*at)->next;
    struct entry *rest = *at;
    *at = NULL;
    s->len = keep;
    return rest;
}

void slowlog_free(struct slowlog *s)
{
    if (!s)
        return;
    free_from(s->newest);
    pthread_mutex_destroy(&s->lock);
    mem_free(s);
}

static void put_arg(struct entry *e, uint8_t **at, struct bytes a)
{
    size_t n = a.n > MAX_ARG_BYTES ? MAX_ARG_BYTES : a.n;
    uint8_t *start = *at;
    if (n)
        memcpy(start, a.p, n);
    *at += n;
    if (a.n > n)
        *at += snprintf((char *)*at, MORE_BYTES, "... (%zu more bytes)", a.n - n);
    e->arg[e->argc++] = bytes_of(start, (size_t)(*at - start));
}

static void add(struct slowlog *s, struct entry *e, const struct conn *c, uint64_t usec)
{
    e->usec = usec;
    e->time_ms = c->io->now_ms;
    memcpy(e->peer, c->peer, sizeof e->peer);
    memcpy(e->name, c->name.s, sizeof e->name);
    size_t max = (size_t)config_int(s->config, CFG_SLOWLOG_MAX_LEN);
    pthread_mutex_lock(&s->lock);
    e->id = s->next_id++;
    e->next = s->newest;
    s->newest = e;
    s->len++;
    struct entry *old = cut(s, max);
    pthread_mutex_unlock(&s->lock);
    free_from(old);
}

void slowlog_add(struct slowlog *s, const struct call *c, uint64_t usec)
{
    unsigned n = c->argc > MAX_ARGS ? MAX_ARGS : c->argc;
    struct entry *e = mem_alloc(sizeof *e + n * (MAX_ARG_BYTES + MORE_BYTES));
    if (!e)
        return;
    uint8_t *at = e->text;
    e->argc = 0;
    for (unsigned i = 0; i < n; i++) {
        if (i == MAX_ARGS - 1 && c->argc > MAX_ARGS) {
            char more[MORE_BYTES];
            snprintf(more, sizeof more, "... (%u more arguments)", c->argc - MAX_ARGS + 1);
            put_arg(e, &at, bytes_str(more));
        } else {
            put_arg(e, &at, command_arg_shown(c->cmd, c->argv, i));
        }
    }
    add(s, e, c->conn, usec);
}

void slowlog_add_pending(struct slowlog *s, const struct pending *p, uint64_t usec)
{
    char name[COMMAND_NAME_MAX];
    struct entry *e = mem_alloc(sizeof *e + 3 * (MAX_ARG_BYTES + MORE_BYTES));
    if (!e)
        return;
    uint8_t *at = e->text;
    e->argc = 0;
    put_arg(e, &at, bytes_of(name, command_lower(p->cmd, name)));
    if (p->note_second)
        put_arg(e, &at, bytes_of(p->note, p->note_second));
    if (p->note_n > p->note_second)
        put_arg(e, &at, bytes_of(p->note + p->note_second, (size_t)(p->note_n - p->note_second)));
    add(s, e, p->conn, usec);
}

void slowlog_reset(struct slowlog *s)
{
    pthread_mutex_lock(&s->lock);
    struct entry *old = cut(s, 0);
    pthread_mutex_unlock(&s->lock);
    free_from(old);
}

size_t slowlog_len(struct slowlog *s)
{
    pthread_mutex_lock(&s->lock);
    size_t n = s->len;
    pthread_mutex_unlock(&s->lock);
    return n;
}

void slowlog_reply(struct slowlog *s, size_t max, struct reply *r)
{
    pthread_mutex_lock(&s->lock);
    reply_array(r, max < s->len ? max : s->len);
    for (struct entry *e = s->newest; e && max > 0; e = e->next, max--) {
        reply_array(r, 6);
        reply_int(r, (int64_t)e->id);
        reply_int(r, (int64_t)(e->time_ms / 1000));
        reply_int(r, (int64_t)e->usec);
        reply_array(r, e->argc);
        for (unsigned i = 0; i < e->argc; i++)
            reply_bulk(r, e->arg[i]);
        reply_bulk_str(r, e->peer);
        reply_bulk_str(r, e->name);
    }
    pthread_mutex_unlock(&s->lock);
}
