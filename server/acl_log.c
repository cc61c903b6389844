/* acl_log.c - a list under a lock; see acl_log.h. */
#include "server/acl_log.h"

#include <pthread.h>

#include "base/mem.h"
#include "engine/user.h"
#include "server/command.h"
#include "server/conn_private.h"

#define GROUP_MS 60000 /* refusals that are alike and so near are one entry */
#define OBJECT_BYTES 256
#define CLIENT_BYTES 1024

struct entry {
    struct entry *next;
    uint64_t count, time_ms; /* of the last one */
    enum acl_reason reason;
    int in_multi;
    size_t object_n;
    char object[OBJECT_BYTES], user[USER_NAME_MAX + 1], client[CLIENT_BYTES];
};

struct acl_log {
    pthread_mutex_t lock;
    struct config *config;
    struct entry *newest;
};

enum err acl_log_new(struct acl_log **out, struct config *cfg)
{
    struct acl_log *l = *out = mem_zalloc(sizeof *l);
    if (!l)
        return ERR_OOM;
    pthread_mutex_init(&l->lock, NULL);
    l->config = cfg;
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

void acl_log_free(struct acl_log *l)
{
    if (!l)
        return;
    free_from(l->newest);
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}

static int alike(const struct entry *a, const struct entry *b)
{
    return a->reason == b->reason && a->in_multi == b->in_multi && a->object_n == b->object_n &&
           memcmp(a->object, b->object, a->object_n) == 0 && strcmp(a->user, b->user) == 0 &&
           b->time_ms - a->time_ms <= GROUP_MS;
}

/* Under the lock. What is behind the newest n, taken out. */
static struct entry *cut(struct acl_log *l, size_t n)
{
    struct entry **at = &l->newest;
    for (; *at && n > 0; n--)
        at = &(*at)->next;
    struct entry *rest = *at;
    *at = NULL;
    return rest;
}

static void put(struct acl_log *l, struct entry *e)
{
    struct entry **at, *old = NULL;
    size_t max = (size_t)config_int(l->config, CFG_ACLLOG_MAX_LEN);
    pthread_mutex_lock(&l->lock);
    for (at = &l->newest; *at && !alike(*at, e); at = &(*at)->next) {
    }
    if ((old = *at)) {
        *at = old->next;
        old->next = NULL;
        e->count += old->count;
    }
    e->next = l->newest;
    l->newest = e;
    struct entry *rest = cut(l, max);
    pthread_mutex_unlock(&l->lock);
    free_from(old);
    free_from(rest);
}

static void add(struct acl_log *l, const struct call *c, enum acl_reason reason, struct bytes object, const char *user)
{
    struct entry *e = mem_zalloc(sizeof *e);
    if (!e)
        return;
    e->count = 1;
    e->time_ms = c->now_ms;
    e->reason = reason;
    e->in_multi = c->exec || c->conn->mode & CONN_MULTI;
    e->object_n = object.n < OBJECT_BYTES ? object.n : OBJECT_BYTES;
    if (e->object_n)
        memcpy(e->object, object.p, e->object_n);
    memcpy(e->user, user, strlen(user) + 1);
    e->client[conn_describe(c->conn, e->client, sizeof e->client)] = 0;
    put(l, e);
}

/* A path of ours is shown with its vault. */
static struct bytes key_shown(const struct call *c, unsigned arg, struct buf *b)
{
    if (arg < 2 || c->cmd->keys < KEYS_VAULT_ONE || c->cmd->keys > KEYS_VAULT_PAIRS)
        return c->argv[arg];
    enum err e = buf_put_u8(b, '{');
    if (!e)
        e = buf_put(b, c->argv[1].p, c->argv[1].n);
    if (!e)
        e = buf_put(b, "}/", 2);
    if (!e)
        e = buf_put(b, c->argv[arg].p, c->argv[arg].n);
    return e ? c->argv[arg] : buf_bytes(b);
}

void acl_log_add(struct acl_log *l, const struct call *c, const struct acl_user *u, const struct acl_denial *d)
{
    char name[COMMAND_NAME_MAX];
    struct buf *b = &c->io->scratch;
    if (!l)
        return;
    buf_clear(b);
    struct bytes object = d->reason == ACL_COMMAND ? bytes_of(name, command_lower(c->cmd, name))
                          : d->reason == ACL_KEY   ? key_shown(c, d->arg, b)
                                                   : c->argv[d->arg];
    add(l, c, d->reason, object, acl_user_name(u));
}

void acl_log_add_login(struct acl_log *l, const struct call *c, struct bytes user)
{
    if (!l)
        return;
    struct acl_user *u = acl_find(c->srv->acl, user);
    add(l, c, ACL_AUTH, c->argv[0], u ? acl_user_name(u) : "(unknown)");
    acl_user_unref(u);
}

void acl_log_reset(struct acl_log *l)
{
    pthread_mutex_lock(&l->lock);
    struct entry *all = cut(l, 0);
    pthread_mutex_unlock(&l->lock);
    free_from(all);
}

static void reply_entry(struct reply *r, const struct entry *e, uint64_t now_ms)
{
    static const char *const reasons[] = {
        [ACL_COMMAND] = "command", [ACL_KEY] = "key", [ACL_CHANNEL] = "channel", [ACL_AUTH] = "auth"};
    reply_map(r, 7);
    reply_bulk_str(r, "count");
    reply_int(r, (int64_t)e->count);
    reply_bulk_str(r, "reason");
    reply_bulk_str(r, reasons[e->reason]);
    reply_bulk_str(r, "context");
    reply_bulk_str(r, e->in_multi ? "multi" : "toplevel");
    reply_bulk_str(r, "object");
    reply_bulk(r, bytes_of(e->object, e->object_n));
    reply_bulk_str(r, "username");
    reply_bulk_str(r, e->user);
    reply_bulk_str(r, "age-seconds");
    reply_double(r, now_ms > e->time_ms ? (double)(now_ms - e->time_ms) / 1000 : 0);
    reply_bulk_str(r, "client-info");
    reply_bulk_str(r, e->client);
}

void acl_log_reply(struct acl_log *l, size_t max, uint64_t now_ms, struct reply *r)
{
    size_t mark = reply_mark(r), n = 0;
    pthread_mutex_lock(&l->lock);
    for (const struct entry *e = l->newest; e && n < max; e = e->next, n++)
        reply_entry(r, e, now_ms);
    pthread_mutex_unlock(&l->lock);
    reply_insert_array(r, mark, n);
}
