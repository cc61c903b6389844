/* tracker.c - CLIENT TRACKING, a connection's side: what it asked for, and the messages to it; see tracking.h.
 *
 * News come to the thread of the connection that tracks, which knows whether it still does, and how. It makes a message
 * of them: for itself, or, redirected, for another connection, whose thread gets it then. Who is written to is looked
 * at there: its protocol, and what its user may read.
 *
 * A message that tells a connection of what it changed itself must come behind the answer to that, and of a transaction
 * behind its answer as a whole: such are held until what is pending now is answered (tracking_release).
 *
 * A connection that does not read is closed when client-output-buffer-limit pubsub is passed by messages alone: notes
 * are used up, so a client that tracks name by name cannot get there by itself, but one that broadcasts can.
 *
 * No memory for a message: the connection is told that everything may have changed; no memory for that either closes
 * it. A cache must never go on believing.
 */
#include <assert.h>

#include "base/log.h"
#include "base/mem.h"
#include "server/command.h"
#include "server/server.h"
#include "server/tracking_impl.h"

struct message {
    struct io_task task;
    struct message *next; /* held */
    struct tracking *t;
    uint64_t to, from; /* connections */
    unsigned from_thread;
    int everything;
    uint64_t behind; /* held: until so many were answered */
    struct buf items;
};

/* ---- trackers ---- */

struct tracker *tracker_of(const struct conn *c)
{
    return conn_slot(c, SLOT_TRACKING);
}

static struct tracker *find(const struct tracking *t, unsigned thread, uint64_t id)
{
    struct tracker *tr;
    HASH_FIND(hh, t->trackers[thread], &id, sizeof id, tr);
    return tr;
}

static void message_free(struct message *m)
{
    if (!m)
        return;
    buf_fini(&m->items);
    mem_free(m);
}

static void drop(struct conn *c, void *state)
{
    struct tracker *tr = state;
    tracker_off(tr);
    HASH_DEL(tr->t->trackers[c->io->index], tr);
    while (tr->held) {
        struct message *m = tr->held;
        tr->held = m->next;
        message_free(m);
    }
    c->tracking = 0;
    mem_free(tr);
}

struct tracker *tracker_make(struct tracking *t, struct conn *c)
{
    struct tracker *tr = tracker_of(c);
    if (tr || !(tr = mem_zalloc(sizeof *tr)))
        return tr;
    tr->t = t;
    tr->conn = c;
    tr->id = c->id;
    tr->held_end = &tr->held;
    HASH_ADD(hh, t->trackers[c->io->index], id, sizeof tr->id, tr);
    if (!tr->hh.tbl) {
        mem_free(tr);
        return NULL;
    }
    conn_set_slot(c, SLOT_TRACKING, tr, drop);
    return tr;
}

void prefixes_free(struct prefix *p)
{
    while (p) {
        struct prefix *next = p->next;
        mem_free(p);
        p = next;
    }
}

static void add_prefixes(struct tracker *tr, struct prefix *list)
{
    while (list) {
        struct prefix *p = list, *old = tr->prefixes;
        list = p->next;
        while (old && !bytes_equal(bytes_of(old->text, old->n), bytes_of(p->text, p->n)))
            old = old->next;
        if (old) {
            mem_free(p);
            continue;
        }
        p->next = tr->prefixes;
        tr->prefixes = p;
        tr->prefix_bytes += sizeof *p + p->n;
        atomic_fetch_add(&tr->t->prefixes, 1);
    }
}

static void show_bits(struct tracker *tr)
{
    int notes = tr->on && !(tr->flags & TRACKER_BCAST);
    tr->conn->tracking =
        (uint8_t)((tr->on ? TRACKING_ON : 0) | (notes ? TRACKING_NOTES : 0) | (tr->held ? TRACKING_HOLDS : 0));
}

/* When nobody tracks nobody is told, so what was noted must not stay; nor may what is noted from then on be forgotten.
 */
static void count(struct tracker *tr, int on)
{
    struct tracking *t = tr->t;
    unsigned n = on ? 1u : -1u;
    pthread_mutex_lock(&t->lock);
    atomic_fetch_add(&t->on[tr->conn->io->index], n);
    atomic_fetch_add(&t->srv->records_wanted, n);
    atomic_thread_fence(memory_order_seq_cst); /* engine_config.on_records */
    if (atomic_fetch_add(&t->clients, n) + n == 0)
        tracking_forget(t);
    pthread_mutex_unlock(&t->lock);
}

void tracker_on(struct tracker *tr, struct tracker_settings *s)
{
    struct tracking *t = tr->t;
    unsigned thread = tr->conn->io->index;
    int was_bcast = tr->on && tr->flags & TRACKER_BCAST, bcast = (s->flags & TRACKER_BCAST) != 0;

    if (!tr->on)
        count(tr, 1);
    if (bcast && !was_bcast)
        atomic_fetch_add(&t->bcast[thread], 1);
    tr->on = 1;
    tr->broken = tr->caching = 0;
    tr->flags = (uint8_t)s->flags;
    tr->redirect = s->redirect;
    tr->redirect_thread = s->redirect_thread;
    add_prefixes(tr, s->prefixes);
    s->prefixes = NULL;
    show_bits(tr);
}

void tracker_off(struct tracker *tr)
{
    struct tracking *t = tr->t;
    unsigned thread = tr->conn->io->index;
    if (!tr->on)
        return;
    if (tr->flags & TRACKER_BCAST)
        atomic_fetch_sub(&t->bcast[thread], 1);
    for (const struct prefix *p = tr->prefixes; p; p = p->next)
        atomic_fetch_sub(&t->prefixes, 1);
    prefixes_free(tr->prefixes);
    tr->prefixes = NULL;
    tr->prefix_bytes = 0;
    tr->on = tr->flags = tr->caching = tr->broken = 0;
    tr->redirect = 0;
    count(tr, 0);
    show_bits(tr);
}

int tracker_wants(const struct tracker *tr)
{
    if (!tr->on || tr->flags & TRACKER_BCAST)
        return 0;
    return tr->flags & TRACKER_OPTIN ? tr->caching : tr->flags & TRACKER_OPTOUT ? !tr->caching : 1;
}

void tracking_ran(struct conn *c, const struct command *cmd)
{
    struct tracker *tr = tracker_of(c);
    if (tr->caching && !(c->mode & CONN_MULTI) && strncmp(cmd->name, "CLIENT|", 7) != 0)
        tr->caching = 0;
}

size_t tracking_bytes(const struct conn *c)
{
    const struct tracker *tr = tracker_of(c);
    return tr ? sizeof *tr + tr->prefix_bytes : 0;
}

int64_t tracking_describe(const struct conn *c, char letters[4])
{
    const struct tracker *tr = tracker_of(c);
    *letters = 0;
    if (!tr || !tr->on)
        return -1;
    *letters++ = 't';
    if (tr->broken)
        *letters++ = 'R';
    if (tr->flags & TRACKER_BCAST)
        *letters++ = 'B';
    *letters = 0;
    return (int64_t)tr->redirect;
}

/* ---- writing a message ---- */

/* The item's name as the reader has it. */
static struct bytes name_as(uint8_t form, struct bytes full)
{
    const uint8_t *end = form == FORM_KEY ? memchr(full.p, '}', full.n) : NULL;
    size_t skip = end ? (size_t)(end - full.p) + 2 : 0; /* the '/' too */
    return bytes_of(full.p + skip, full.n - skip);
}

static int next_item(struct bytes *in, struct item *it, struct bytes *name)
{
    struct bytes raw;
    if (!bytes_take(in, sizeof *it, &raw))
        return 0;
    memcpy(it, raw.p, sizeof *it);
    return bytes_take(in, it->name_n, name);
}

/* Writes the names that the connection's user may read, when r is given. Returns how many. */
static size_t put_names(const struct conn *c, struct bytes items, struct reply *r)
{
    static const uint8_t forms[] = {FORM_KEY, FORM_FULL};
    struct item it;
    struct bytes full;
    size_t n = 0;
    while (next_item(&items, &it, &full)) {
        for (unsigned i = 0; i < sizeof forms; i++) {
            struct bytes name = name_as(forms[i], full);
            if (!(it.forms & forms[i]) ||
                !acl_may_read(c->user, NULL, forms[i] == FORM_KEY ? name : bytes_of(NULL, 0), full))
                continue;
            n++;
            if (r)
                reply_bulk(r, name);
        }
    }
    return n;
}

static void check_unread(struct tracker *tr, size_t before)
{
    struct conn *c = tr->conn;
    const struct obuf_limit *l = &c->io->obuf[OBUF_PUBSUB];
    size_t now = buf_size(c->reply.b);
    tr->pushed_bytes = before ? tr->pushed_bytes + (now - before) : now;
    if (l->hard_bytes && tr->pushed_bytes > l->hard_bytes && c->state != CONN_DEAD) {
        stat_add(&c->io->stats.obuf_closed, 1);
        log_at(LOG_WARNING, "Client id=%llu addr=%s closed: it does not read what it is told to forget",
               (unsigned long long)c->id, c->peer);
        conn_kill(c);
    }
}

/* A RESP2 client gets messages of a channel, if it listens to any, and if it is not the one that tracks. */
static void write_message(struct tracker *tr, const struct message *m)
{
    struct conn *c = tr->conn;
    int channel = conn_proto(c) == 2;
    size_t n = m->everything ? 1 : put_names(c, buf_bytes(&m->items), NULL);

    if (c->state == CONN_DEAD || !n || !conn_authenticated(c))
        return;
    if (channel && (m->from == m->to || !(c->mode & CONN_SUBSCRIBED)))
        return;
    struct reply *r = conn_push_begin(c);
    size_t before = buf_size(r->b);
    reply_push(r, channel ? 3 : 2);
    reply_bulk_str(r, channel ? "message" : "invalidate");
    if (channel)
        reply_bulk_str(r, "__redis__:invalidate");
    if (m->everything) {
        reply_nil(r);
    } else {
        reply_array(r, n);
        (void)put_names(c, buf_bytes(&m->items), r);
    }
    check_unread(tr, before);
    conn_push_end(c);
}

/* ---- the way of a message ---- */

static struct message *message_new(struct tracker *tr)
{
    struct message *m = mem_zalloc(sizeof *m);
    if (!m) {
        log_at(LOG_WARNING, "Out of memory for a message to client id=%llu, closing it", (unsigned long long)tr->id);
        if (tr->conn->state != CONN_DEAD)
            conn_kill(tr->conn);
        return NULL;
    }
    m->t = tr->t;
    m->from = tr->id;
    m->to = tr->redirect ? tr->redirect : tr->id;
    m->from_thread = tr->conn->io->index;
    buf_init(&m->items, SIZE_MAX / 4);
    return m;
}

static void add_item(struct message *m, const struct item *it, struct bytes name)
{
    if (buf_put(&m->items, it, sizeof *it) || buf_put(&m->items, name.p, name.n))
        m->everything = 1;
}

/* Back at the connection that tracks: it is told that nobody is told any more. */
static void on_broken(struct io_task *task, struct io *io)
{
    struct message *m = mpsc_entry(task, struct message, task);
    struct tracker *tr = find(m->t, io->index, m->from);
    if (tr && tr->on && tr->redirect == m->to) {
        struct conn *c = tr->conn;
        tr->broken = 1;
        if (c->state != CONN_DEAD && conn_proto(c) == 3) {
            struct reply *r = conn_push_begin(c);
            reply_push(r, 2);
            reply_bulk_str(r, "tracking-redir-broken");
            reply_int(r, (int64_t)tr->redirect);
            conn_push_end(c);
        }
    }
    message_free(m);
}

static void on_redirected(struct io_task *task, struct io *io)
{
    struct message *m = mpsc_entry(task, struct message, task);
    struct tracker *target = find(m->t, io->index, m->to);
    if (target && target->conn->state != CONN_DEAD && target->conn->state != CONN_CLOSING) {
        write_message(target, m);
        message_free(m);
        return;
    }
    m->task.run = on_broken;
    io_post(m->t->srv->io[m->from_thread], &m->task);
}

static void hold(struct tracker *tr, struct message *m)
{
    struct conn *c = tr->conn;
    m->behind = c->answered + c->pendings;
    *tr->held_end = m;
    tr->held_end = &m->next;
    show_bits(tr);
}

/* own: it tells of what this connection did, or was just answered. Takes m. */
static void pass_on(struct tracker *tr, struct message *m, int own)
{
    struct conn *c = tr->conn;
    if (tr->redirect) {
        m->task.run = on_redirected;
        io_post(tr->t->srv->io[tr->redirect_thread], &m->task);
    } else if (own && (c->pendings || c->io->running == c)) {
        hold(tr, m);
    } else {
        write_message(tr, m);
        message_free(m);
    }
}

void tracking_release(struct conn *c)
{
    struct tracker *tr = tracker_of(c);
    while (tr->held && tr->held->behind <= c->answered && !c->capture && c->state != CONN_DEAD) {
        struct message *m = tr->held;
        tr->held = m->next;
        if (!tr->held)
            tr->held_end = &tr->held;
        write_message(tr, m);
        message_free(m);
    }
    show_bits(tr);
}

void tracker_tell_again(struct tracker *tr, struct buf *items)
{
    struct message *m = message_new(tr);
    if (!m)
        return;
    m->everything = !items || buf_put(&m->items, buf_data(items), buf_size(items)) != ERR_OK;
    pass_on(tr, m, 1);
}

/* ---- news ---- */

static void tell_one(struct tracking *t, struct io *io, const struct item *it, struct bytes name)
{
    struct tracker *tr = find(t, io->index, it->to);
    if (!tr || !tr->on || tr->flags & TRACKER_BCAST || (tr->flags & TRACKER_NOLOOP && it->by == tr->id))
        return;
    struct message *m = message_new(tr);
    if (!m)
        return;
    add_item(m, it, name);
    pass_on(tr, m, it->by == tr->id);
}

static void tell_all(struct tracking *t, struct io *io, uint64_t by)
{
    struct tracker *tr, *next;
    HASH_ITER (hh, t->trackers[io->index], tr, next) {
        struct message *m = tr->on ? message_new(tr) : NULL;
        if (!m)
            continue;
        m->everything = 1;
        pass_on(tr, m, by == tr->id);
    }
}

/* Of these items those that begin with a prefix, in one message. */
static void tell_prefix(struct tracker *tr, const struct prefix *p, struct bytes items)
{
    struct message *m = NULL;
    struct item it;
    struct bytes full;
    int own = 0;
    while (next_item(&items, &it, &full)) {
        struct bytes name = name_as(it.forms, full);
        if (it.kind != ITEM_FOR_BCAST || name.n < p->n || memcmp(name.p, p->text, p->n) != 0 ||
            (tr->flags & TRACKER_NOLOOP && it.by == tr->id))
            continue;
        if (!m && !(m = message_new(tr)))
            return;
        own |= it.by == tr->id;
        add_item(m, &it, full);
    }
    if (m)
        pass_on(tr, m, own);
}

static void tell_bcast(struct tracking *t, struct io *io, struct bytes items)
{
    struct tracker *tr, *next;
    HASH_ITER (hh, t->trackers[io->index], tr, next)
        for (const struct prefix *p = tr->on ? tr->prefixes : NULL; p; p = p->next)
            tell_prefix(tr, p, items);
}

void tracker_news(struct io_task *task, struct io *io)
{
    struct news *n = mpsc_entry(task, struct news, task);
    struct bytes items = buf_bytes(&n->items), full;
    struct item it;

    if (atomic_load_explicit(&n->t->bcast[io->index], memory_order_relaxed))
        tell_bcast(n->t, io, items);
    while (next_item(&items, &it, &full)) {
        if (it.kind == ITEM_FOR_ONE)
            tell_one(n->t, io, &it, full);
        else if (it.kind == ITEM_EVERYTHING)
            tell_all(n->t, io, it.by);
    }
    buf_fini(&n->items);
    mem_free(n);
}

void tracker_everything(struct io_task *task, struct io *io)
{
    struct everything *e = mpsc_entry(task, struct everything, task);
    atomic_store(&e->posted, 0);
    tell_all(e->t, io, 0);
}
