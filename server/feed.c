/* feed.c - see feed.h. The window is a ring of groups; groups follow one another without a gap, or it begins anew. No
 * memory for a group means a gap. */
#include "server/feed.h"

#include <pthread.h>

#include "base/mem.h"
#include "server/server.h"

#define GROUPS 1024

struct group {
    uint64_t first, last; /* LSNs */
    struct buf rows;
};

struct feed {
    struct server *srv;
    pthread_mutex_t lock;
    unsigned followers;
    struct group group[GROUPS];
    unsigned oldest, n;
    size_t bytes;
    struct feed_waiter *waiters;
};

enum err feed_new(struct feed **out, struct server *srv)
{
    struct feed *f = *out = mem_zalloc(sizeof *f);
    if (!f)
        return ERR_OOM;
    f->srv = srv;
    pthread_mutex_init(&f->lock, NULL);
    for (unsigned i = 0; i < GROUPS; i++)
        buf_init(&f->group[i].rows, SIZE_MAX / 4);
    return ERR_OK;
}

/* ---- rows ---- */

struct putting {
    struct buf *rows, key;
    const struct record *r;
    enum err err;
};

static int put_change(void *arg, const struct changed *c)
{
    struct putting *p = arg;
    struct feed_row row = {.lsn = p->r->lsn,
                           .time_ms = p->r->time_ms,
                           .term = p->r->term,
                           .version = c->version,
                           .kind = (uint8_t)c->kind};
    p->err = changed_key(c, &p->key);
    if (c->vault) {
        row.vault_n = c->vault->name_len;
        row.facade = c->vault->facade;
    }
    row.key_n = (uint16_t)buf_size(&p->key);
    size_t mark = buf_size(p->rows);
    if (!p->err)
        p->err = buf_put(p->rows, &row, sizeof row);
    if (!p->err && (p->err = buf_put(p->rows, buf_data(&p->key), row.key_n)) != ERR_OK)
        buf_truncate(p->rows, mark);
    return p->err != ERR_OK;
}

enum err feed_put(struct buf *rows, struct vaults *vs, const struct record *r)
{
    struct putting p = {.rows = rows, .r = r};
    buf_init(&p.key, SIZE_MAX / 4);
    changed_each(vs, r, put_change, &p);
    buf_fini(&p.key);
    return p.err;
}

int feed_take(struct bytes *rows, struct feed_row *row, struct bytes *key)
{
    struct bytes raw;
    if (!bytes_take(rows, sizeof *row, &raw))
        return 0;
    memcpy(row, raw.p, sizeof *row);
    return bytes_take(rows, row->key_n, key);
}

/* ---- the window: the lock is held ---- */

static struct group *group_at(struct feed *f, unsigned i)
{
    return &f->group[(f->oldest + i) % GROUPS];
}

static void drop_oldest(struct feed *f)
{
    struct group *g = group_at(f, 0);
    f->bytes -= buf_size(&g->rows);
    buf_fini(&g->rows);
    f->oldest = (f->oldest + 1) % GROUPS;
    f->n--;
}

static void drop_all(struct feed *f)
{
    while (f->n)
        drop_oldest(f);
}

/* Takes the rows over. */
static void add_group(struct feed *f, uint64_t first, uint64_t last, struct buf *rows)
{
    if (f->n && group_at(f, f->n - 1)->last + 1 != first)
        drop_all(f);
    while (f->n == GROUPS || (f->n && f->bytes + buf_size(rows) > FEED_BYTES))
        drop_oldest(f);
    struct group *g = group_at(f, f->n++);
    *g = (struct group){.first = first, .last = last, .rows = *rows};
    f->bytes += buf_size(rows);
}

void feed_free(struct feed *f)
{
    if (!f)
        return;
    drop_all(f);
    pthread_mutex_destroy(&f->lock);
    mem_free(f);
}

void feed_follow(struct feed *f, int on)
{
    unsigned n = on ? 1u : -1u;
    pthread_mutex_lock(&f->lock);
    f->followers += n;
    atomic_fetch_add(&f->srv->records_wanted, n);
    atomic_thread_fence(memory_order_seq_cst); /* engine_config.on_records */
    if (!f->followers)
        drop_all(f);
    pthread_mutex_unlock(&f->lock);
}

static void wake_all(struct feed *f)
{
    struct feed_waiter *w = f->waiters, *next;
    f->waiters = NULL;
    for (; w; w = next) {
        next = w->next;
        w->waiting = 0;
        io_post(w->io, &w->task); /* it may be gone from here on */
    }
}

/* What the records changed. *first 0: there is none. */
static enum err read_group(struct feed *f, struct bytes records, uint64_t *first, uint64_t *last, struct buf *rows)
{
    struct record r;
    size_t used;
    enum err e = ERR_OK;
    while (!e && records.n && (e = record_get(records, &r, &used)) == ERR_OK) {
        *first = *first ? *first : r.lsn;
        *last = r.lsn;
        e = feed_put(rows, engine_vaults(f->srv->engine), &r);
        records = bytes_of(records.p + used, records.n - used);
    }
    return e;
}

void feed_records(struct feed *f, struct bytes records)
{
    uint64_t first = 0, last = 0;
    struct buf rows;

    pthread_mutex_lock(&f->lock);
    unsigned followers = f->followers;
    pthread_mutex_unlock(&f->lock);
    if (!followers)
        return;
    buf_init(&rows, SIZE_MAX / 4);
    enum err e = read_group(f, records, &first, &last, &rows);
    pthread_mutex_lock(&f->lock);
    if (f->followers && !e && first) {
        add_group(f, first, last, &rows);
    } else {
        drop_all(f); /* a gap */
        buf_fini(&rows);
    }
    wake_all(f);
    pthread_mutex_unlock(&f->lock);
}

/* Lock held: the group that has the record, or n. */
static unsigned find(struct feed *f, uint64_t lsn)
{
    unsigned from = 0, to = f->n;
    while (from < to) {
        unsigned middle = from + (to - from) / 2;
        if (group_at(f, middle)->last < lsn)
            from = middle + 1;
        else
            to = middle;
    }
    return from < f->n && group_at(f, from)->first <= lsn ? from : f->n;
}

static enum err copy(struct feed *f, uint64_t from, size_t limit, struct buf *rows, uint64_t *next)
{
    size_t before = buf_size(rows);
    unsigned i = find(f, from);
    if (i == f->n)
        return ERR_NOTFOUND;
    for (; i < f->n && buf_size(rows) - before <= limit; i++) {
        const struct group *g = group_at(f, i);
        enum err e = buf_put(rows, buf_data(&g->rows), buf_size(&g->rows));
        if (e)
            return e;
        *next = g->last + 1;
    }
    return ERR_OK;
}

enum err feed_recent(struct feed *f, uint64_t from, size_t limit, struct buf *rows, uint64_t *next)
{
    pthread_mutex_lock(&f->lock);
    enum err e = copy(f, from, limit, rows, next);
    pthread_mutex_unlock(&f->lock);
    return e;
}

/* ---- waiting ---- */

static void unlink_waiter(struct feed *f, struct feed_waiter *w)
{
    if (w->prev)
        w->prev->next = w->next;
    else
        f->waiters = w->next;
    if (w->next)
        w->next->prev = w->prev;
    w->waiting = 0;
}

/* The look at the commit LSN comes behind the place in the list: what is committed later will find it there. */
int feed_wait(struct feed *f, struct feed_waiter *w, uint64_t lsn)
{
    pthread_mutex_lock(&f->lock);
    w->prev = NULL;
    w->next = f->waiters;
    if (w->next)
        w->next->prev = w;
    f->waiters = w;
    w->waiting = 1;
    atomic_thread_fence(memory_order_seq_cst);
    if (engine_commit_lsn(f->srv->engine) >= lsn)
        unlink_waiter(f, w);
    int waits = w->waiting;
    pthread_mutex_unlock(&f->lock);
    return waits;
}

int feed_leave(struct feed *f, struct feed_waiter *w)
{
    pthread_mutex_lock(&f->lock);
    int waited = w->waiting;
    if (waited)
        unlink_waiter(f, w);
    pthread_mutex_unlock(&f->lock);
    return waited;
}
