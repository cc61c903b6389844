/* pubsub.c - see pubsub.h.
 *
 * A *topic* is a channel or pattern that somebody listens to; it has a list of listeners for each I/O thread. A list is
 * changed by its thread only, with the lock held for writing, so that its thread may walk it, and others may count,
 * with the lock held for reading.
 *
 * A connection's listeners are in a table of its own (SLOT_PUBSUB), for UNSUBSCRIBE and for its end.
 *
 * Failure: no memory for a message means that a thread's listeners do not get it, as if they had come later; the count
 * that PUBLISH answers may then be too high.
 */
#include "server/pubsub.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/glob.h"
#include "base/mem.h"
#include "server/conn_private.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct listener {
    struct conn *conn;
    struct topic *topic;
    struct listener *prev, *next; /* of the topic, on this thread */
    UT_hash_handle hh;            /* of the connection, by topic */
};

struct topic {
    UT_hash_handle hh;
    enum pubsub_kind kind;
    unsigned listeners;      /* of all threads */
    struct listener **first; /* by I/O thread; behind the name */
    size_t n;
    uint8_t name[];
};

struct pubsub {
    struct server *srv;
    pthread_rwlock_t lock;
    struct topic *topics[PUBSUB_KINDS];
    _Atomic unsigned names[PUBSUB_KINDS];
};

struct subscriber { /* a connection's SLOT_PUBSUB */
    struct pubsub *p;
    struct listener *listeners[PUBSUB_KINDS];
    unsigned n[PUBSUB_KINDS];
    size_t bytes; /* of listeners, each with its topic, though others may share that */
};

enum err pubsub_new(struct pubsub **out, struct server *srv)
{
    struct pubsub *p = *out = mem_zalloc(sizeof *p);
    if (!p)
        return ERR_OOM;
    p->srv = srv;
    pthread_rwlock_init(&p->lock, NULL);
    return ERR_OK;
}

void pubsub_free(struct pubsub *p)
{
    if (!p)
        return;
    pthread_rwlock_destroy(&p->lock);
    mem_free(p);
}

/* ---- topics: the lock is held for writing ---- */

static struct topic *find(struct pubsub *p, enum pubsub_kind k, struct bytes name)
{
    struct topic *t;
    HASH_FIND(hh, p->topics[k], name.p, name.n, t);
    return t;
}

static struct topic *topic_new(struct pubsub *p, enum pubsub_kind k, struct bytes name)
{
    size_t lists = (sizeof(struct topic) + name.n + 15) & ~(size_t)15;
    struct topic *t = mem_zalloc(lists + p->srv->io_count * sizeof *t->first);
    if (!t)
        return NULL;
    t->kind = k;
    t->first = (struct listener **)(void *)((uint8_t *)t + lists);
    t->n = name.n;
    if (name.n)
        memcpy(t->name, name.p, name.n);
    HASH_ADD_KEYPTR(hh, p->topics[k], t->name, t->n, t);
    if (!t->hh.tbl) {
        mem_free(t);
        return NULL;
    }
    atomic_fetch_add(&p->names[k], 1);
    return t;
}

static void topic_drop(struct pubsub *p, struct topic *t)
{
    if (t->listeners)
        return;
    HASH_DEL(p->topics[t->kind], t);
    atomic_fetch_sub(&p->names[t->kind], 1);
    mem_free(t);
}

static void attach(struct listener *l)
{
    struct listener **first = &l->topic->first[l->conn->io->index];
    l->next = *first;
    if (l->next)
        l->next->prev = l;
    *first = l;
    l->topic->listeners++;
}

static void detach(struct pubsub *p, struct listener *l)
{
    if (l->prev)
        l->prev->next = l->next;
    else
        l->topic->first[l->conn->io->index] = l->next;
    if (l->next)
        l->next->prev = l->prev;
    l->topic->listeners--;
    topic_drop(p, l->topic);
}

/* ---- a connection's ---- */

static size_t listener_bytes(const struct listener *l)
{
    return sizeof *l + sizeof *l->topic + l->topic->n;
}

static void listener_end(struct subscriber *s, enum pubsub_kind k, struct listener *l)
{
    s->bytes -= listener_bytes(l);
    HASH_DEL(s->listeners[k], l);
    s->n[k]--;
    pthread_rwlock_wrlock(&s->p->lock);
    detach(s->p, l);
    pthread_rwlock_unlock(&s->p->lock);
    mem_free(l);
}

static void subscriber_drop(struct conn *c, void *state)
{
    struct subscriber *s = state;
    struct listener *l, *next;
    for (int k = 0; k < PUBSUB_KINDS; k++)
        HASH_ITER (hh, s->listeners[k], l, next)
            listener_end(s, (enum pubsub_kind)k, l);
    conn_subscribed(c, 0);
    mem_free(s);
}

static struct subscriber *subscriber_of(struct pubsub *p, struct conn *c)
{
    struct subscriber *s = conn_slot(c, SLOT_PUBSUB);
    if (s || !(s = mem_zalloc(sizeof *s)))
        return s;
    s->p = p;
    conn_set_slot(c, SLOT_PUBSUB, s, subscriber_drop);
    return s;
}

/* A connection that listens to nothing is an ordinary one again. */
static void settle(struct conn *c)
{
    const struct subscriber *s = conn_slot(c, SLOT_PUBSUB);
    unsigned n = s ? s->n[PUBSUB_CHANNEL] + s->n[PUBSUB_PATTERN] + s->n[PUBSUB_SHARD] : 0;
    if (s && !n)
        conn_set_slot(c, SLOT_PUBSUB, NULL, NULL);
    else if (n)
        conn_subscribed(c, 1);
}

static struct listener *listener_of(const struct subscriber *s, enum pubsub_kind k, struct topic *t)
{
    struct listener *l = NULL;
    if (t)
        HASH_FIND_PTR(s->listeners[k], &t, l);
    return l;
}

static enum err subscribe_locked(struct pubsub *p, struct subscriber *s, struct conn *c, enum pubsub_kind k,
                                 struct bytes name)
{
    struct topic *t = find(p, k, name);
    if (t && listener_of(s, k, t))
        return ERR_OK;
    struct listener *l = mem_zalloc(sizeof *l);
    if (!l || (!t && !(t = topic_new(p, k, name)))) {
        mem_free(l);
        return ERR_OOM;
    }
    l->conn = c;
    l->topic = t;
    HASH_ADD_PTR(s->listeners[k], topic, l);
    if (!l->hh.tbl) {
        mem_free(l);
        topic_drop(p, t);
        return ERR_OOM;
    }
    s->n[k]++;
    s->bytes += listener_bytes(l);
    attach(l);
    return ERR_OK;
}

enum err pubsub_subscribe(struct pubsub *p, struct conn *c, enum pubsub_kind k, struct bytes name)
{
    struct subscriber *s = subscriber_of(p, c);
    if (!s)
        return ERR_OOM;
    pthread_rwlock_wrlock(&p->lock);
    enum err err = subscribe_locked(p, s, c, k, name);
    pthread_rwlock_unlock(&p->lock);
    settle(c);
    return err;
}

void pubsub_unsubscribe(struct pubsub *p, struct conn *c, enum pubsub_kind k, struct bytes name)
{
    struct subscriber *s = conn_slot(c, SLOT_PUBSUB);
    if (!s)
        return;
    pthread_rwlock_rdlock(&p->lock);
    struct topic *t = find(p, k, name);
    pthread_rwlock_unlock(&p->lock);
    struct listener *l = listener_of(s, k, t); /* a topic that it listens to does not go away meanwhile */
    if (l)
        listener_end(s, k, l);
    settle(c);
}

struct bytes pubsub_first(const struct conn *c, enum pubsub_kind k)
{
    const struct subscriber *s = conn_slot(c, SLOT_PUBSUB);
    if (!s || !s->listeners[k])
        return bytes_of(NULL, 0);
    const struct topic *t = s->listeners[k]->topic;
    return bytes_of(t->name, t->n);
}

unsigned pubsub_count(const struct conn *c, enum pubsub_kind k)
{
    const struct subscriber *s = conn_slot(c, SLOT_PUBSUB);
    return s ? s->n[k] : 0;
}

size_t pubsub_bytes(const struct conn *c)
{
    const struct subscriber *s = conn_slot(c, SLOT_PUBSUB);
    return s ? sizeof *s + s->bytes : 0;
}

/* ---- messages ---- */

struct message { /* in locked memory */
    _Atomic unsigned refs;
    struct pubsub *p;
    enum pubsub_kind kind;
    size_t channel_n, message_n;
    uint8_t bytes[];
};

struct delivery {
    struct io_task task;
    struct message *m;
};

static struct message *message_new(struct pubsub *p, enum pubsub_kind k, struct bytes channel, struct bytes text)
{
    struct message *m = mem_secret_alloc(sizeof *m + channel.n + text.n);
    if (!m)
        return NULL;
    atomic_init(&m->refs, 1);
    m->p = p;
    m->kind = k;
    m->channel_n = channel.n;
    m->message_n = text.n;
    if (channel.n)
        memcpy(m->bytes, channel.p, channel.n);
    if (text.n)
        memcpy(m->bytes + channel.n, text.p, text.n);
    return m;
}

static void message_unref(struct message *m)
{
    if (atomic_fetch_sub(&m->refs, 1) == 1)
        mem_secret_free(m, sizeof *m + m->channel_n + m->message_n);
}

static struct bytes channel_of(const struct message *m)
{
    return bytes_of(m->bytes, m->channel_n);
}

static void push(const struct message *m, const struct topic *t, struct conn *c)
{
    static const char *const words[] = {"message", "pmessage", "smessage"};
    if (c->state == CONN_DEAD)
        return;
    struct reply *r = conn_push_begin(c);
    reply_push(r, t->kind == PUBSUB_PATTERN ? 4 : 3);
    reply_bulk_str(r, words[t->kind]);
    if (t->kind == PUBSUB_PATTERN)
        reply_bulk(r, bytes_of(t->name, t->n));
    reply_bulk(r, channel_of(m));
    reply_bulk(r, bytes_of(m->bytes + m->channel_n, m->message_n));
    conn_push_end(c);
}

static void push_all(const struct message *m, const struct topic *t, const struct io *io)
{
    for (struct listener *l = t->first[io->index], *next; l; l = next) {
        next = l->next;
        push(m, t, l->conn);
    }
}

static int hears(const struct topic *pattern, struct bytes channel)
{
    return glob_match(bytes_of(pattern->name, pattern->n), channel, 0);
}

static void deliver(struct io_task *task, struct io *io)
{
    struct delivery *d = mpsc_entry(task, struct delivery, task);
    struct message *m = d->m;
    struct topic *t, *next;

    pthread_rwlock_rdlock(&m->p->lock);
    if ((t = find(m->p, m->kind, channel_of(m))) != NULL)
        push_all(m, t, io);
    if (m->kind == PUBSUB_CHANNEL)
        HASH_ITER (hh, m->p->topics[PUBSUB_PATTERN], t, next)
            if (hears(t, channel_of(m)))
                push_all(m, t, io);
    pthread_rwlock_unlock(&m->p->lock);
    message_unref(m);
    mem_free(d);
}

static void post(struct message *m, struct io *io)
{
    struct delivery *d = mem_alloc(sizeof *d);
    if (!d)
        return;
    atomic_fetch_add(&m->refs, 1);
    *d = (struct delivery){.task.run = deliver, .m = m};
    io_post(io, &d->task);
}

/* Marks the threads that have listeners. Lock held. Returns how many listeners there are. */
static unsigned reach(const struct pubsub *p, const struct topic *t, uint64_t *threads)
{
    for (unsigned i = 0; i < p->srv->io_count; i++)
        if (t->first[i])
            *threads |= 1ull << i;
    return t->listeners;
}

unsigned pubsub_publish(struct pubsub *p, enum pubsub_kind k, struct bytes channel, struct bytes text)
{
    uint64_t threads = 0;
    unsigned n = 0;
    struct topic *t, *next;

    if (!pubsub_any(p))
        return 0;
    pthread_rwlock_rdlock(&p->lock);
    if ((t = find(p, k, channel)) != NULL)
        n += reach(p, t, &threads);
    if (k == PUBSUB_CHANNEL)
        HASH_ITER (hh, p->topics[PUBSUB_PATTERN], t, next)
            if (hears(t, channel))
                n += reach(p, t, &threads);
    pthread_rwlock_unlock(&p->lock);
    struct message *m = threads ? message_new(p, k, channel, text) : NULL;
    for (unsigned i = 0; m && i < p->srv->io_count; i++)
        if (threads >> i & 1)
            post(m, p->srv->io[i]);
    if (m)
        message_unref(m);
    return n;
}

/* ---- questions ---- */

int pubsub_any(const struct pubsub *p)
{
    for (int k = 0; k < PUBSUB_KINDS; k++)
        if (atomic_load_explicit(&((struct pubsub *)(uintptr_t)p)->names[k], memory_order_relaxed))
            return 1;
    return 0;
}

unsigned pubsub_names(struct pubsub *p, enum pubsub_kind k)
{
    return atomic_load(&p->names[k]);
}

unsigned pubsub_listeners(struct pubsub *p, enum pubsub_kind k, struct bytes name)
{
    pthread_rwlock_rdlock(&p->lock);
    const struct topic *t = find(p, k, name);
    unsigned n = t ? t->listeners : 0;
    pthread_rwlock_unlock(&p->lock);
    return n;
}

void pubsub_each(struct pubsub *p, enum pubsub_kind k, void (*visit)(void *arg, struct bytes name), void *arg)
{
    struct topic *t, *next;
    pthread_rwlock_rdlock(&p->lock);
    HASH_ITER (hh, p->topics[k], t, next)
        visit(arg, bytes_of(t->name, t->n));
    pthread_rwlock_unlock(&p->lock);
}
