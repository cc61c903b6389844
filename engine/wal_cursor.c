/* wal_cursor.c - reading the log while it is written.
 *
 * A cursor is at (segment, offset) and knows the next LSN and the chain before it. It reads the segment's file through
 * a descriptor of its own, never at or behind the segment's end_off, which the writer moves after each fdatasync: what
 * lies before it does not change any more, so the window may keep it.
 *
 * At a segment's end, or when its segment was removed or replaced, it lets go and looks its LSN up anew. Found again,
 * the chain must be the one that it had: if not, the log was cut below the cursor and goes on differently:
 * ERR_NOTFOUND.
 *
 * wal_remove_below and wal_cut change files first and the list of segments after; in between a name may be gone, or
 * stand for another file, whose salt does not fit. So before it reports such a thing the cursor waits until they are
 * through (remove_lock) and looks whether its segment was removed.
 *
 * Its place in a segment it finds from the nearest row of the segment's index (wal_places.h), which is there when the
 * segment was verified: a segment of which only the ends are known is, first.
 *
 * Rejected: sharing the writer's descriptor (its lifetime is the writer's business).
 */
#include "base/file.h"
#include "base/mem.h"
#include "engine/wal_impl.h"

struct wal_cursor {
    struct wal *w;
    struct wal_segment *seg; /* NULL: to be looked up */
    struct wal_window win;
    int fd;
    int placed;              /* off and frame_end are right for lsn */
    uint64_t off, frame_end; /* equal between two frames */
    uint64_t lsn;            /* next to read */
    int has_chain;
    uint8_t chain[RECORD_CHAIN_BYTES]; /* before lsn, when it has one */
};

static int in_range(const struct wal *w, uint64_t lsn)
{
    uint64_t first = w->oldest ? w->oldest->first_lsn : w->last_lsn + 1;
    return lsn >= first && lsn <= w->last_lsn + 1;
}

enum err wal_cursor_open(struct wal_cursor **out, struct wal *w, uint64_t lsn)
{
    *out = NULL;
    pthread_mutex_lock(&w->lock);
    int found = in_range(w, lsn);
    pthread_mutex_unlock(&w->lock);
    if (!found)
        return ERR_NOTFOUND;
    struct wal_cursor *c = mem_zalloc(sizeof *c);
    if (!c)
        return ERR_OOM;
    c->w = w;
    c->fd = -1;
    c->lsn = lsn;
    wal_window_init(&c->win, -1);
    *out = c;
    return ERR_OK;
}

static void let_go(struct wal_cursor *c)
{
    (void)!file_close(c->fd); /* only read from */
    c->fd = -1;
    wal_segment_unref(c->seg);
    c->seg = NULL;
    c->placed = 0;
}

void wal_cursor_close(struct wal_cursor *c)
{
    if (!c)
        return;
    let_go(c);
    wal_window_fini(&c->win);
    mem_free(c);
}

/* The segment that holds lsn, or the newest when lsn is yet to come. */
static enum err look_up(struct wal_cursor *c)
{
    struct wal *w = c->w;
    enum err e = ERR_OK;

    pthread_mutex_lock(&w->lock);
    if (!in_range(w, c->lsn)) {
        e = ERR_NOTFOUND;
    } else if (!w->oldest) {
        e = w->damaged_lsn ? ERR_CORRUPT : ERR_END;
    } else {
        c->seg = wal_segment_ref(wal_segment_with(w, c->lsn));
    }
    pthread_mutex_unlock(&w->lock);
    return e;
}

static enum err attach(struct wal_cursor *c)
{
    enum err e = look_up(c);
    if (e)
        return e;
    e = wal_segment_open(c->w, c->seg, &c->fd);
    if (e) {
        let_go(c);
        return e;
    }
    c->win.fd = c->fd;
    c->win.n = 0;
    return ERR_OK;
}

static enum err read_frame(struct wal_cursor *c, uint64_t off, uint64_t end, struct wal_frame *f)
{
    const uint8_t *p;
    enum err e = wal_window_get(&c->win, off, WAL_FRAME_BYTES, end, &p);
    if (!e)
        e = wal_segment_get_frame(p, c->seg->seed, f);
    return e == ERR_END ? ERR_CORRUPT : e;
}

/* Steps over records from *lsn on, up to the one that is looked for or the end of the frame. */
static enum err skip_records(struct wal_cursor *c, uint64_t end, uint64_t *lsn, uint8_t chain[RECORD_CHAIN_BYTES])
{
    struct record r;
    struct bytes raw;

    for (; *lsn < c->lsn && c->off < c->frame_end; ++*lsn) {
        enum err e = wal_window_record(&c->win, c->off, end, *lsn, chain, &r, &raw);
        if (e)
            return e;
        c->off += raw.n;
        memcpy(chain, r.chain, RECORD_CHAIN_BYTES);
    }
    return ERR_OK;
}

/* The nearest row of the index at or before the record that is looked for: its LSN; off, frame_end and the chain before
 * it follow. The segment's beginning when there is none. *end is of the same moment as the index: one that was looked
 * at before may lie before the row. */
static enum err jump(struct wal_cursor *c, uint64_t *end, uint64_t *lsn, uint8_t chain[RECORD_CHAIN_BYTES])
{
    struct wal_frame f;
    const uint8_t *p;

    pthread_mutex_lock(&c->w->lock);
    *end = atomic_load_explicit(&c->seg->end_off, memory_order_acquire);
    const struct wal_place *row = wal_places_before(&c->seg->places, c->lsn);
    struct wal_place at = row ? *row : (struct wal_place){.lsn = c->seg->first_lsn, .off = WAL_HEADER_BYTES};
    pthread_mutex_unlock(&c->w->lock);
    *lsn = at.lsn;
    c->off = c->frame_end = at.off;
    memcpy(chain, c->seg->chain, RECORD_CHAIN_BYTES);
    if (!row)
        return ERR_OK;

    int begins_frame = at.off == at.frame_off + WAL_FRAME_BYTES;
    uint64_t behind = begins_frame ? at.frame_off : at.off; /* the record before ends here */
    enum err e = ERR_OK;
    if (behind != WAL_HEADER_BYTES) {
        e = wal_window_get(&c->win, behind - RECORD_CHAIN_BYTES, RECORD_CHAIN_BYTES, *end, &p);
        if (!e)
            memcpy(chain, p, RECORD_CHAIN_BYTES);
    }
    if (!e)
        e = read_frame(c, at.frame_off, *end, &f);
    if (!e)
        c->frame_end = at.frame_off + WAL_FRAME_BYTES + f.bytes;
    return e;
}

/* Finds lsn in the segment: records up to the end of the frame that the index leads to, then frame headers up to the
 * frame that it is in, then records. */
static enum err place(struct wal_cursor *c)
{
    uint64_t end, lsn;
    uint8_t chain[RECORD_CHAIN_BYTES];
    struct wal_frame f;
    const uint8_t *p;
    /* One who reads on from a segment's beginning verifies every record on his way; for who looks for one inside it,
     * all of it is. */
    enum err e = c->lsn == c->seg->first_lsn ? ERR_OK : wal_segment_verify(c->w, c->seg);
    if (!e || e == ERR_CORRUPT) /* it can be read up to the damage */
        e = jump(c, &end, &lsn, chain);

    if (!e && c->off != c->frame_end)
        e = skip_records(c, end, &lsn, chain);
    while (!e && lsn < c->lsn) {
        e = read_frame(c, c->off, end, &f);
        if (e)
            break;
        c->frame_end = c->off + WAL_FRAME_BYTES + f.bytes;
        if (c->lsn - lsn < f.records) {
            c->off += WAL_FRAME_BYTES;
            e = skip_records(c, end, &lsn, chain);
            break;
        }
        e = wal_window_get(&c->win, c->frame_end - sizeof chain, sizeof chain, end, &p);
        if (!e)
            memcpy(chain, p, sizeof chain);
        lsn += f.records;
        c->off = c->frame_end;
    }
    if (e)
        return e == ERR_END ? ERR_CORRUPT : e;
    if (c->has_chain && memcmp(chain, c->chain, sizeof chain) != 0)
        return ERR_NOTFOUND;
    memcpy(c->chain, chain, sizeof chain);
    c->has_chain = c->placed = 1;
    return ERR_OK;
}

/* All of the segment that is durable was read. ERR_AGAIN: go on elsewhere, or here after all. */
static enum err at_end(struct wal_cursor *c)
{
    struct wal *w = c->w;
    enum err e = ERR_AGAIN;

    pthread_mutex_lock(&w->lock);
    int moves = c->seg->next || atomic_load(&c->seg->removed);
    if (!moves && c->off >= atomic_load(&c->seg->end_off))
        e = w->damaged_lsn ? ERR_CORRUPT : ERR_END;
    pthread_mutex_unlock(&w->lock);
    if (moves)
        let_go(c);
    return e;
}

static enum err read_one(struct wal_cursor *c, struct record *r, struct bytes *raw)
{
    struct wal_frame f;
    uint64_t end = atomic_load_explicit(&c->seg->end_off, memory_order_acquire);

    if (c->off >= end)
        return at_end(c);
    if (c->off == c->frame_end) {
        enum err e = read_frame(c, c->off, end, &f);
        if (e)
            return e;
        c->frame_end = c->off + WAL_FRAME_BYTES + f.bytes;
        c->off += WAL_FRAME_BYTES;
    }
    enum err e = wal_window_record(&c->win, c->off, end, c->lsn, c->chain, r, raw);
    if (!e && raw->n > c->frame_end - c->off)
        e = ERR_CORRUPT;
    if (e)
        return e;
    c->off += raw->n;
    c->lsn++;
    memcpy(c->chain, r->chain, RECORD_CHAIN_BYTES);
    return ERR_OK;
}

static enum err step(struct wal_cursor *c, struct record *r, struct bytes *raw)
{
    enum err e = ERR_OK;

    if (c->seg && atomic_load(&c->seg->removed))
        let_go(c);
    if (!c->seg)
        e = attach(c);
    if (!e && !c->placed)
        e = place(c);
    if (!e)
        e = read_one(c, r, raw);
    if (e == ERR_CORRUPT && c->seg && wal_segment_gone(c->w, c->seg))
        e = ERR_AGAIN;
    return e;
}

enum err wal_cursor_next(struct wal_cursor *c, struct record *r, struct bytes *raw)
{
    enum err e;

    do
        e = step(c, r, raw);
    while (e == ERR_AGAIN);
    if (e) {
        *r = (struct record){0};
        *raw = bytes_of(NULL, 0);
    }
    if (e == ERR_CORRUPT)
        r->lsn = c->lsn;
    return e;
}

enum err wal_read(struct wal *w, uint64_t lsn, struct buf *out)
{
    struct wal_cursor *c;
    struct record r;
    struct bytes raw;
    enum err e = wal_cursor_open(&c, w, lsn);

    if (e)
        return e;
    e = wal_cursor_next(c, &r, &raw);
    if (!e)
        e = buf_put(out, raw.p, raw.n);
    wal_cursor_close(c);
    return e == ERR_END ? ERR_NOTFOUND : e;
}
