/* pool_queue.c - see pool_queue.h.
 *
 * Happy path: a request is encoded at the end of the last chunk, one entry goes into the ring. The worker answers in
 * the order of requests, so the entry at head is found, its chunk counts down, and when a chunk has no frame left that
 * waits it is freed; the last one is wiped and used again, which is all that ever happens while a queue runs empty
 * between batches.
 *
 * Failure: room in the ring and in a chunk is made before anything is counted, so an entry is there as a whole or not
 * at all. A chunk that was made for a frame which then did not fit stays as the empty last chunk.
 *
 * Rejected: one growing buffer (a queue that never runs empty would be moved to the front again and again, megabytes a
 * time); a copy of the frame for each request that may be repeated (all of them, on most days for nothing); a hash
 * table for ids.
 */
#include "hsm/pool_queue.h"

#include <assert.h>

#include "base/mem.h"

#define RING_FIRST 64u

struct pool_chunk {
    struct pool_chunk *next;
    struct buf b;    /* all frames since the chunk was last empty; nothing is consumed from the front */
    size_t sent;     /* bytes of b that were written */
    unsigned frames; /* not answered */
};

void pool_queue_init(struct pool_queue *q)
{
    memset(q, 0, sizeof *q);
}

static void chunk_free(struct pool_chunk *c)
{
    buf_fini(&c->b);
    mem_free(c);
}

void pool_queue_fini(struct pool_queue *q)
{
    while (q->first) {
        struct pool_chunk *c = q->first;
        q->first = c->next;
        chunk_free(c);
    }
    mem_free(q->ring);
    pool_queue_init(q);
}

static struct pool_entry *entry_of(const struct pool_queue *q, uint32_t id)
{
    return &q->ring[id & (q->cap - 1)];
}

/* Room for one more entry. */
static enum err ring_room(struct pool_queue *q)
{
    uint32_t cap = q->cap ? q->cap * 2 : RING_FIRST;
    struct pool_entry *ring;

    if (q->tail - q->head < q->cap)
        return ERR_OK;
    ring = mem_alloc(cap * sizeof *ring);
    if (!ring)
        return ERR_OOM;
    for (uint32_t id = q->head; id != q->tail; id++)
        ring[id & (cap - 1)] = *entry_of(q, id);
    mem_free(q->ring);
    q->ring = ring;
    q->cap = cap;
    return ERR_OK;
}

/* The last chunk has room for a frame of n bytes. */
static enum err chunk_room(struct pool_queue *q, size_t n)
{
    size_t want = n > POOL_CHUNK_BYTES ? n : POOL_CHUNK_BYTES;
    struct pool_chunk *c = q->last;
    uint8_t *room;
    enum err e;

    if (c && c->b.len + n <= c->b.limit) /* as much was reserved at once */
        return ERR_OK;
    c = mem_zalloc(sizeof *c);
    if (!c)
        return ERR_OOM;
    buf_init_secret(&c->b, want);
    e = buf_reserve(&c->b, want, &room);
    if (e != ERR_OK) {
        mem_free(c);
        return e;
    }
    if (q->last)
        q->last->next = c;
    else
        q->first = c;
    q->last = c;
    return ERR_OK;
}

static enum err make_room(struct pool_queue *q, size_t n, unsigned times)
{
    enum err e;

    if (n > HSM_FRAME_MAX)
        return ERR_TOOBIG;
    if (q->tail - q->head >= POOL_QUEUE_MAX * times || (q->count && q->bytes + n > POOL_QUEUE_BYTES * times))
        return ERR_THROTTLED;
    e = ring_room(q);
    return e == ERR_OK ? chunk_room(q, n) : e;
}

/* Counts the frame that was just appended to the last chunk. */
static void add_entry(struct pool_queue *q, const struct pool_entry *e, size_t len)
{
    struct pool_entry *new = entry_of(q, q->tail);

    *new = *e;
    new->chunk = q->last;
    new->off = (uint32_t)(q->last->b.len - len);
    new->len = (uint32_t)len;
    new->answered = 0;
    q->tail++;
    q->last->frames++;
    q->count++;
    q->bytes += len;
}

enum err pool_queue_put(struct pool_queue *q, const struct pool_entry *e, const struct bytes *part, unsigned parts)
{
    size_t n = HSM_FRAME_HEADER;
    enum err err;

    for (unsigned i = 0; i < parts; i++) {
        if (part[i].n > HSM_FRAME_MAX)
            return ERR_TOOBIG;
        n += 4 + part[i].n;
    }
    err = make_room(q, n, 1);
    if (err == ERR_OK)
        err = proto_put(&q->last->b, q->tail, e->op, part, parts);
    if (err == ERR_OK)
        add_entry(q, e, n);
    return err;
}

enum err pool_queue_copy(struct pool_queue *q, const struct pool_entry *e)
{
    enum err err = make_room(q, e->len, 2);

    if (err == ERR_OK)
        err = buf_put(&q->last->b, e->chunk->b.mem + e->off, e->len);
    if (err != ERR_OK)
        return err;
    put_le32(q->last->b.mem + q->last->b.len - e->len + 4, q->tail); /* the request id: proto.h */
    add_entry(q, e, e->len);
    return ERR_OK;
}

const struct pool_entry *pool_queue_at(const struct pool_queue *q, uint32_t i)
{
    return i < q->tail - q->head ? entry_of(q, q->head + i) : NULL;
}

const struct pool_entry *pool_queue_front(const struct pool_queue *q)
{
    return pool_queue_at(q, 0);
}

int pool_queue_was_sent(const struct pool_entry *e)
{
    return (size_t)e->off + e->len <= e->chunk->sent;
}

/* Frees chunks in front that nobody waits for; the last one is wiped and kept, unless it was made for a large frame. */
static void chunk_done(struct pool_queue *q)
{
    while (q->first != q->last && q->first->frames == 0) {
        struct pool_chunk *c = q->first;
        q->first = c->next;
        chunk_free(c);
    }
    if (q->first->frames > 0)
        return;
    if (q->first->b.limit > POOL_CHUNK_BYTES) {
        chunk_free(q->first);
        q->first = q->last = NULL;
    } else {
        buf_clear(&q->first->b);
        q->first->sent = 0;
    }
}

static void remove_entry(struct pool_queue *q, struct pool_entry *e, struct pool_entry *out)
{
    *out = *e;
    out->chunk = NULL;
    e->answered = 1;
    q->count--;
    q->bytes -= e->len;
    e->chunk->frames--;
    if (e->chunk->frames == 0)
        chunk_done(q);
    while (q->head != q->tail && entry_of(q, q->head)->answered)
        q->head++;
}

int pool_queue_answer(struct pool_queue *q, uint32_t id, struct pool_entry *out)
{
    struct pool_entry *e;

    if (id - q->head >= q->tail - q->head)
        return 0;
    e = entry_of(q, id);
    if (e->answered || !pool_queue_was_sent(e))
        return 0;
    remove_entry(q, e, out);
    return 1;
}

int pool_queue_pop(struct pool_queue *q, struct pool_entry *out)
{
    if (q->head == q->tail)
        return 0;
    remove_entry(q, entry_of(q, q->head), out);
    return 1;
}

int pool_queue_unsent(const struct pool_queue *q, struct iovec *iov, int max)
{
    int n = 0;

    for (struct pool_chunk *c = q->first; c && n < max; c = c->next) {
        if (c->sent == c->b.len)
            continue;
        iov[n].iov_base = c->b.mem + c->sent;
        iov[n++].iov_len = c->b.len - c->sent;
    }
    return n;
}

void pool_queue_sent(struct pool_queue *q, size_t n)
{
    for (struct pool_chunk *c = q->first; c && n > 0; c = c->next) {
        size_t left = c->b.len - c->sent, m = n < left ? n : left;
        c->sent += m;
        n -= m;
    }
    assert(n == 0);
}
