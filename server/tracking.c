/* tracking.c - the table: which connections may have kept which names; see tracking.h.
 *
 * It is cut into stripes by a name's hash, each with a lock, since all I/O threads note what they read. Connections are
 * in it by their id and thread, never by pointer: one that is gone is found out by its thread, when it is told. So a
 * client that goes costs nothing, and leaves notes behind: a name that has more of them than there are clients is told
 * and forgotten, and all names together are limited.
 *
 * What changed is gathered in batches, one for each I/O thread, which are posted when a group of records is through.
 */
#include "server/tracking_impl.h"

#include <assert.h>
#include <limits.h>

#include "base/mem.h"
#include "server/changed.h"
#include "server/command.h"
#include "server/facade.h"
#include "server/server.h"

#define NOTES_MIN 2        /* room for them, of a new name */
#define NOTES_SPARE 64     /* a name may have so many more notes than there are clients */
#define DISCARD_NAMES 1024 /* given back in one turn */

/* A note: the connection's id, its thread, the forms in which it has the name. */
#define NOTE(id, thread, forms) ((id) << 8 | (uint64_t)(thread) << 2 | (forms))
#define NOTE_ID(note) ((note) >> 8)
#define NOTE_THREAD(note) ((unsigned)((note) >> 2 & 63))
#define NOTE_FORMS(note) ((uint8_t)((note)&3))

struct noted {
    UT_hash_handle hh;
    uint64_t *note; /* by id */
    unsigned n, room;
    uint16_t name_n;
    uint8_t name[];
};

static void noted_free(struct noted *k)
{
    if (!k)
        return;
    mem_free(k->note);
    mem_free(k);
}

/* At most *left of them, which it counts down. */
static void free_names(struct noted **names, unsigned *left)
{
    struct noted *k, *next;
    HASH_ITER (hh, *names, k, next) {
        if (!*left)
            return;
        --*left;
        HASH_DEL(*names, k);
        noted_free(k);
    }
}

void tracking_free(struct tracking *t)
{
    unsigned all = UINT_MAX;
    if (!t)
        return;
    for (unsigned i = 0; i < TRACKING_STRIPES; i++) {
        free_names(&t->stripe[i].names, &all);
        pthread_mutex_destroy(&t->stripe[i].lock);
    }
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

/* ---- forgetting all ---- */

struct discard { /* what a table was, on its way to nothing; an I/O thread's */
    struct io_task task;
    struct noted *names[TRACKING_STRIPES];
};

static void discard_some(struct io_task *task, struct io *io)
{
    struct discard *d = mpsc_entry(task, struct discard, task);
    unsigned left = DISCARD_NAMES;
    for (unsigned i = 0; i < TRACKING_STRIPES && left; i++)
        free_names(&d->names[i], &left);
    if (left)
        mem_free(d);
    else
        io_post(io, task);
}

static struct noted *take_all(struct tracking *t, struct stripe *s)
{
    pthread_mutex_lock(&s->lock);
    struct noted *names = s->names;
    atomic_fetch_sub(&t->keys, HASH_COUNT(names));
    atomic_fetch_sub(&t->items, s->items);
    s->names = NULL;
    s->items = 0;
    pthread_mutex_unlock(&s->lock);
    return names;
}

void tracking_forget(struct tracking *t)
{
    struct discard *d = mem_zalloc(sizeof *d);
    unsigned all = UINT_MAX;
    for (unsigned i = 0; i < TRACKING_STRIPES; i++) {
        struct noted *names = take_all(t, &t->stripe[i]);
        if (d)
            d->names[i] = names;
        else
            free_names(&names, &all);
    }
    if (!d)
        return;
    d->task.run = discard_some;
    io_post(t->srv->io[0], &d->task);
}

void tracking_figures(struct tracking *t, struct tracking_figures *out)
{
    *out = (struct tracking_figures){.clients = atomic_load(&t->clients),
                                     .keys = atomic_load(&t->keys),
                                     .items = atomic_load(&t->items),
                                     .prefixes = atomic_load(&t->prefixes)};
}

/* ---- batches ---- */

struct batch {
    struct tracking *t;
    struct news *news[TRACKING_THREADS];
};

static void tell_everything(struct tracking *t, unsigned thread)
{
    if (!atomic_exchange(&t->everything[thread].posted, 1))
        io_post(t->srv->io[thread], &t->everything[thread].task);
}

static enum err put_item(struct batch *b, unsigned thread, const struct item *it, struct bytes name)
{
    struct news *n = b->news[thread];
    if (!n && (n = b->news[thread] = mem_zalloc(sizeof *n)) != NULL) {
        *n = (struct news){.task.run = tracker_news, .t = b->t};
        buf_init(&n->items, SIZE_MAX / 4);
    }
    enum err e = n ? buf_put(&n->items, it, sizeof *it) : ERR_OOM;
    if (!e && (e = buf_put(&n->items, name.p, name.n)) != ERR_OK)
        buf_truncate(&n->items, buf_size(&n->items) - sizeof *it);
    return e;
}

static void batch_put(struct batch *b, unsigned thread, struct item it, struct bytes name)
{
    it.name_n = (uint16_t)name.n;
    if (put_item(b, thread, &it, name))
        tell_everything(b->t, thread);
}

static void batch_post(struct batch *b)
{
    for (unsigned i = 0; i < b->t->srv->io_count; i++)
        if (b->news[i])
            io_post(b->t->srv->io[i], &b->news[i]->task);
}

/* ---- notes ---- */

static struct stripe *stripe_of(struct tracking *t, struct bytes name, unsigned *hash)
{
    HASH_VALUE(name.p, (unsigned)name.n, *hash);
    return &t->stripe[*hash >> 16 & (TRACKING_STRIPES - 1)];
}

/* Lock held. */
static struct noted *find(struct stripe *s, struct bytes name, unsigned hash)
{
    struct noted *k;
    HASH_FIND_BYHASHVALUE(hh, s->names, name.p, (unsigned)name.n, hash, k);
    return k;
}

static struct noted *name_new(struct tracking *t, struct stripe *s, struct bytes name, unsigned hash)
{
    struct noted *k = mem_zalloc(sizeof *k + name.n);
    if (!k)
        return NULL;
    k->name_n = (uint16_t)name.n;
    memcpy(k->name, name.p, name.n);
    k->room = NOTES_MIN;
    k->note = mem_alloc(k->room * sizeof *k->note);
    if (k->note)
        HASH_ADD_KEYPTR_BYHASHVALUE(hh, s->names, k->name, (unsigned)name.n, hash, k);
    if (!k->note || !k->hh.tbl) {
        noted_free(k);
        return NULL;
    }
    atomic_fetch_add(&t->keys, 1);
    return k;
}

/* Where the connection's note is, or would be. */
static unsigned place_of(const struct noted *k, uint64_t id)
{
    unsigned from = 0, to = k->n;
    while (from < to) {
        unsigned middle = from + (to - from) / 2;
        if (NOTE_ID(k->note[middle]) < id)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static int has_note(const struct noted *k, uint64_t id)
{
    unsigned at = place_of(k, id);
    return at < k->n && NOTE_ID(k->note[at]) == id;
}

static enum err add_note(struct tracking *t, struct stripe *s, struct noted *k, uint64_t note)
{
    unsigned at = place_of(k, NOTE_ID(note));
    if (at < k->n && NOTE_ID(k->note[at]) == NOTE_ID(note)) {
        k->note[at] |= note;
        return ERR_OK;
    }
    if (k->n == k->room) {
        uint64_t *grown = mem_realloc(k->note, 2 * k->room * sizeof *grown);
        if (!grown)
            return ERR_OOM;
        k->note = grown;
        k->room *= 2;
    }
    memmove(k->note + at + 1, k->note + at, (k->n - at) * sizeof *k->note);
    k->note[at] = note;
    k->n++;
    s->items++;
    atomic_fetch_add(&t->items, 1);
    return ERR_OK;
}

/* Takes a name out, which is the caller's. Lock held. */
static void take_out(struct tracking *t, struct stripe *s, struct noted *k)
{
    HASH_DEL(s->names, k);
    s->items -= k->n;
    atomic_fetch_sub(&t->keys, 1);
    atomic_fetch_sub(&t->items, k->n);
}

static void tell_noted(struct batch *b, struct noted *k, uint64_t by)
{
    struct bytes name = bytes_of(k->name, k->name_n);
    for (unsigned i = 0; i < k->n; i++)
        batch_put(
            b, NOTE_THREAD(k->note[i]),
            (struct item){.kind = ITEM_FOR_ONE, .to = NOTE_ID(k->note[i]), .by = by, .forms = NOTE_FORMS(k->note[i])},
            name);
    noted_free(k);
}

/* ---- a full table ---- */

/* The name that was noted first, of one stripe or the next. */
static struct noted *take_oldest(struct tracking *t)
{
    unsigned first = atomic_fetch_add_explicit(&t->evict_at, 1, memory_order_relaxed);
    for (unsigned i = 0; i < TRACKING_STRIPES; i++) {
        struct stripe *s = &t->stripe[(first + i) % TRACKING_STRIPES];
        pthread_mutex_lock(&s->lock);
        struct noted *k = s->names;
        if (k)
            take_out(t, s, k);
        pthread_mutex_unlock(&s->lock);
        if (k)
            return k;
    }
    return NULL;
}

static void make_room(struct tracking *t)
{
    struct batch b = {.t = t};
    uint64_t max;
    struct noted *k;
    while ((max = atomic_load_explicit(&t->max_keys, memory_order_relaxed)) != 0 && atomic_load(&t->keys) > max &&
           (k = take_oldest(t)))
        tell_noted(&b, k, 0);
    batch_post(&b);
}

static enum err apply_limit(void *arg, enum config_id id, const char **why)
{
    struct tracking *t = arg;
    (void)why;
    atomic_store(&t->max_keys, (uint64_t)config_int(t->srv->config, id));
    make_room(t);
    return ERR_OK;
}

enum err tracking_new(struct tracking **out, struct server *srv)
{
    struct tracking *t = *out = mem_zalloc(sizeof *t);
    if (!t)
        return ERR_OOM;
    assert(srv->io_count <= TRACKING_THREADS);
    t->srv = srv;
    pthread_mutex_init(&t->lock, NULL);
    for (unsigned i = 0; i < TRACKING_STRIPES; i++)
        pthread_mutex_init(&t->stripe[i].lock, NULL);
    for (unsigned i = 0; i < TRACKING_THREADS; i++)
        t->everything[i] = (struct everything){.task.run = tracker_everything, .t = t};
    atomic_store(&t->max_keys, (uint64_t)config_int(srv->config, CFG_TRACKING_TABLE_MAX_KEYS));
    return config_on_change(srv->config, CFG_TRACKING_TABLE_MAX_KEYS, apply_limit, t);
}

/* ---- reading ---- */

struct reading {
    struct tracking *t;
    struct tracker *tr;
    struct buf *missing; /* NULL: note; else: what is not noted */
};

static uint8_t form_of(const struct command_key *k)
{
    return k->written.p && !bytes_equal(k->written, k->name) ? FORM_KEY : FORM_FULL;
}

/* More notes than clients: most of them are of some that are gone. */
static int is_stale(const struct tracking *t, const struct noted *k)
{
    return k->n > NOTES_SPARE + atomic_load_explicit((_Atomic unsigned *)(uintptr_t)&t->clients, memory_order_relaxed);
}

static enum err note_name(struct tracking *t, struct bytes name, uint64_t note)
{
    unsigned hash;
    struct stripe *s = stripe_of(t, name, &hash);
    struct batch b = {.t = t};
    struct noted *old = NULL;

    pthread_mutex_lock(&s->lock);
    struct noted *k = find(s, name, hash);
    if (k && is_stale(t, k)) {
        take_out(t, s, old = k);
        k = NULL;
    }
    if (!k)
        k = name_new(t, s, name, hash);
    enum err e = k ? add_note(t, s, k, note) : ERR_OOM;
    pthread_mutex_unlock(&s->lock);
    if (old) {
        tell_noted(&b, old, 0);
        batch_post(&b);
    }
    return e;
}

static int note_key(void *arg, const struct command_key *k)
{
    struct reading *r = arg;
    const struct conn *c = r->tr->conn;
    if (k->name.n > UINT16_MAX) /* it cannot be there */
        return 0;
    return note_name(r->t, k->name, NOTE(c->id, c->io->index, form_of(k))) != ERR_OK;
}

static int look_again(void *arg, const struct command_key *k)
{
    struct reading *r = arg;
    unsigned hash;
    if (k->name.n > UINT16_MAX)
        return 0;
    struct stripe *s = stripe_of(r->t, k->name, &hash);
    pthread_mutex_lock(&s->lock);
    const struct noted *n = find(s, k->name, hash);
    int there = n && has_note(n, r->tr->id);
    pthread_mutex_unlock(&s->lock);
    struct item it = {.kind = ITEM_FOR_ONE, .to = r->tr->id, .name_n = (uint16_t)k->name.n, .forms = form_of(k)};
    return !there && (buf_put(r->missing, &it, sizeof it) || buf_put(r->missing, k->name.p, k->name.n));
}

/* 1: no memory for all of it. */
static int each_name(struct call *c, struct reading *r, int (*visit)(void *arg, const struct command_key *k))
{
    return facade_keys_each(c, visit, r) != 0;
}

static struct tracker *reads_for(const struct call *c)
{
    struct tracker *tr = tracker_of(c->conn);
    return tr && tracker_wants(tr) && command_reads_secrets(c->cmd) ? tr : NULL;
}

int tracking_is_noted(const struct call *c)
{
    return reads_for(c) != NULL;
}

void tracking_note(struct call *c)
{
    struct tracker *tr = reads_for(c);
    struct reading r = {.tr = tr};
    if (!tr)
        return;
    r.t = tr->t;
    if (each_name(c, &r, note_key))
        tracker_tell_again(tr, NULL);
    uint64_t max = atomic_load_explicit(&r.t->max_keys, memory_order_relaxed);
    if (max && atomic_load_explicit(&r.t->keys, memory_order_relaxed) > max)
        make_room(r.t);
}

void tracking_look_again(struct call *c)
{
    struct tracker *tr = tracker_of(c->conn);
    struct buf missing;
    if (!tr || !tr->on)
        return;
    struct reading r = {.t = tr->t, .tr = tr, .missing = &missing};
    buf_init(&missing, SIZE_MAX / 4);
    int oom = each_name(c, &r, look_again);
    if (oom || buf_size(&missing))
        tracker_tell_again(tr, oom ? NULL : &missing);
    buf_fini(&missing);
}

/* ---- changes ---- */

struct records {
    struct batch b;
    struct buf name;
    uint64_t by;
    int everything;
};

/* A change of a record that concerns what clients keep. */
static int saw(void *arg, const struct changed *c)
{
    struct records *g = arg;
    struct tracking *t = g->b.t;
    unsigned hash;

    if (c->kind >= CHANGED_KEY)
        return 0;
    if (c->kind >= CHANGED_FLUSH) {
        g->everything |= c->kind != CHANGED_VAULT || atomic_load(&c->vault->state) != VAULT_ACTIVE;
        return 0;
    }
    if (changed_key(c, &g->name)) {
        g->everything = 1;
        return 0;
    }
    struct bytes name = buf_bytes(&g->name);
    struct stripe *s = stripe_of(t, name, &hash);
    pthread_mutex_lock(&s->lock);
    struct noted *k = find(s, name, hash);
    if (k)
        take_out(t, s, k);
    pthread_mutex_unlock(&s->lock);
    if (k)
        tell_noted(&g->b, k, g->by);
    struct item it = {.kind = ITEM_FOR_BCAST, .by = g->by, .forms = c->vault->facade ? FORM_KEY : FORM_FULL};
    for (unsigned i = 0; i < t->srv->io_count; i++)
        if (atomic_load_explicit(&t->bcast[i], memory_order_relaxed))
            batch_put(&g->b, i, it, name);
    return 0;
}

static void everything_changed(struct records *g)
{
    struct tracking *t = g->b.t;
    tracking_forget(t);
    for (unsigned i = 0; i < t->srv->io_count; i++)
        if (atomic_load(&t->on[i]))
            batch_put(&g->b, i, (struct item){.kind = ITEM_EVERYTHING, .by = g->by}, bytes_of(NULL, 0));
}

/* Who brought the record: the writes are in its order. */
static uint64_t writer_of(const struct mpsc_node **at, uint64_t lsn)
{
    const struct write *w = NULL;
    for (; *at; *at = (*at)->next) {
        w = mpsc_entry(*at, const struct write, node);
        if (w->lsn >= lsn)
            break;
    }
    return *at && w->lsn == lsn ? w->by : 0;
}

void tracking_records(struct tracking *t, struct bytes records, const struct mpsc_node *writes)
{
    struct records g = {.b.t = t, .everything = !records.p};
    struct record r;
    size_t used;

    if (!atomic_load(&t->clients))
        return;
    buf_init(&g.name, SIZE_MAX / 4);
    while (records.n && record_get(records, &r, &used) == ERR_OK) {
        g.by = writer_of(&writes, r.lsn);
        changed_each(engine_vaults(t->srv->engine), &r, saw, &g);
        records = bytes_of(records.p + used, records.n - used);
        if (g.everything)
            everything_changed(&g);
        g.everything = 0;
    }
    if (g.everything)
        everything_changed(&g);
    batch_post(&g.b);
    buf_fini(&g.name);
}
