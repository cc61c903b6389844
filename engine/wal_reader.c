/* wal_reader.c - records by LSN, in any order.
 *
 * From the nearest row of the segment's index (wal_places.h), or from behind the record that was read last if that is
 * nearer, it steps from length to length: over a whole frame when the record is not in it, else over records. Of what
 * it steps over only lengths and LSNs are looked at; if one of them is wrong it ends at what is no record of that LSN.
 *
 * Where a record could begin there may be a frame instead: a frame's magic is no length that a record can have.
 *
 * Up to OPEN_SEGMENTS files stay open, since LSNs in the order of their keys jump between segments.
 */
#include "base/file.h"
#include "base/mem.h"
#include "engine/wal_impl.h"

#define OPEN_SEGMENTS 16
#define AHEAD_BYTES (WAL_PLACES_EVERY_BYTES + 1024) /* a row of the index is at most that far before a record */

struct open_segment {
    struct wal_segment *seg; /* NULL: free */
    int fd;
    uint64_t used; /* the turn of its last use */
};

struct wal_reader {
    struct wal *w;
    struct open_segment open[OPEN_SEGMENTS], *at; /* at: the one that win reads, or NULL */
    uint64_t turn;
    struct wal_window win;
    uint64_t lsn, off; /* in at: this record, or its frame, begins here; lsn 0: not known */
};

enum err wal_reader_open(struct wal_reader **out, struct wal *w)
{
    *out = NULL;
    struct wal_reader *rd = mem_zalloc(sizeof *rd);
    if (!rd)
        return ERR_OOM;
    rd->w = w;
    wal_window_init(&rd->win, -1);
    rd->win.ahead_bytes = AHEAD_BYTES;
    *out = rd;
    return ERR_OK;
}

static void let_go(struct wal_reader *rd, struct open_segment *o)
{
    if (!o->seg)
        return;
    (void)!file_close(o->fd); /* only read from */
    wal_segment_unref(o->seg);
    *o = (struct open_segment){.fd = -1};
    if (rd->at == o)
        rd->at = NULL;
}

void wal_reader_close(struct wal_reader *rd)
{
    if (!rd)
        return;
    for (size_t i = 0; i < OPEN_SEGMENTS; i++)
        let_go(rd, &rd->open[i]);
    wal_window_fini(&rd->win);
    mem_free(rd);
}

/* The segment of lsn, verified as far as it does, with a reference; and the nearest row of its index. */
static enum err look_up(struct wal_reader *rd, uint64_t lsn, struct wal_segment **seg, struct wal_place *place)
{
    struct wal *w = rd->w;
    struct wal_segment *s = NULL;
    *seg = NULL;
    pthread_mutex_lock(&w->lock);
    if (w->oldest && lsn >= w->oldest->first_lsn && lsn <= w->last_lsn)
        s = wal_segment_ref(wal_segment_with(w, lsn));
    pthread_mutex_unlock(&w->lock);
    enum err e = s ? wal_segment_verify(w, s) : ERR_NOTFOUND;
    if (e && e != ERR_CORRUPT) {
        wal_segment_unref(s);
        return e;
    }
    pthread_mutex_lock(&w->lock);
    const struct wal_place *row = wal_places_before(&s->places, lsn);
    *place = row ? *row : (struct wal_place){.lsn = s->first_lsn, .off = WAL_HEADER_BYTES};
    pthread_mutex_unlock(&w->lock);
    *seg = s;
    return ERR_OK;
}

/* Where seg is open, or a place for it: a free one, or the one not used for longest. What was removed goes. */
static struct open_segment *slot_for(struct wal_reader *rd, const struct wal_segment *seg)
{
    struct open_segment *best = NULL;
    for (struct open_segment *o = rd->open; o < rd->open + OPEN_SEGMENTS; o++) {
        if (o->seg == seg)
            return o;
        if (o->seg && atomic_load(&o->seg->removed))
            let_go(rd, o);
        if (!best || (best->seg && (!o->seg || o->used < best->used)))
            best = o;
    }
    let_go(rd, best);
    return best;
}

/* Takes the reference over. */
static enum err attach(struct wal_reader *rd, struct wal_segment *seg)
{
    struct open_segment *o = slot_for(rd, seg);
    enum err e = ERR_OK;
    if (o->seg)
        wal_segment_unref(seg);
    else if ((e = wal_segment_open(rd->w, seg, &o->fd)) == ERR_OK)
        o->seg = seg;
    else
        wal_segment_unref(seg);
    if (e)
        return e;
    o->used = ++rd->turn;
    if (rd->at != o) {
        rd->at = o;
        rd->win.fd = o->fd;
        rd->win.n = 0;
        rd->lsn = 0;
    }
    return ERR_OK;
}

/* One step from rd->lsn, rd->off towards lsn: over a frame, into one, or over a record. */
static enum err step(struct wal_reader *rd, uint64_t lsn, uint64_t end)
{
    struct wal_frame f;
    const uint8_t *p;
    enum err e = wal_window_get(&rd->win, rd->off, WAL_FRAME_BYTES, end, &p);
    if (e)
        return e;
    if (get_le32(p) > RECORD_MAX_BYTES) {
        e = wal_segment_get_frame(p, rd->at->seg->seed, &f);
        int over = !e && lsn - rd->lsn >= f.records;
        rd->off += WAL_FRAME_BYTES + (over ? f.bytes : 0);
        rd->lsn += over ? f.records : 0;
        return e;
    }
    if (get_le32(p) < RECORD_MIN_BYTES || get_le64(p + 8) != rd->lsn)
        return ERR_CORRUPT;
    if (rd->lsn == lsn)
        return ERR_END;
    rd->off += get_le32(p);
    rd->lsn++;
    return ERR_OK;
}

static enum err find(struct wal_reader *rd, uint64_t lsn, const struct wal_place *place, uint64_t end)
{
    enum err e = ERR_OK;
    if (!rd->lsn || rd->lsn > lsn || rd->lsn < place->lsn) {
        rd->lsn = place->lsn;
        rd->off = place->off;
    }
    while (!e)
        e = step(rd, lsn, end);
    return e;
}

static enum err take(struct wal_reader *rd, uint64_t lsn, uint64_t end, struct record *r)
{
    const uint8_t *p;
    size_t size, used;
    enum err e = wal_window_get(&rd->win, rd->off, WAL_FRAME_BYTES, end, &p);
    if (e)
        return e;
    size = get_le32(p);
    e = wal_window_get(&rd->win, rd->off, size, end, &p);
    if (e)
        return e;
    if (record_get(bytes_of(p, size), r, &used) != ERR_OK || r->lsn != lsn)
        return ERR_CORRUPT;
    rd->off += used;
    rd->lsn++;
    return ERR_OK;
}

static enum err read_once(struct wal_reader *rd, uint64_t lsn, struct record *r)
{
    struct wal_segment *seg;
    struct wal_place place;
    enum err e = look_up(rd, lsn, &seg, &place);
    if (!e)
        e = attach(rd, seg);
    if (e)
        return e;
    uint64_t end = atomic_load_explicit(&seg->end_off, memory_order_acquire);
    e = find(rd, lsn, &place, end);
    if (e == ERR_END && rd->lsn == lsn)
        e = take(rd, lsn, end, r);
    if (!e)
        return e;
    rd->lsn = 0;      /* to be found anew */
    if (e == ERR_END) /* the verified part of the segment, or its file, ends before the record */
        e = ERR_CORRUPT;
    if (e == ERR_CORRUPT && wal_segment_gone(rd->w, seg))
        e = ERR_AGAIN;
    return e;
}

enum err wal_reader_read(struct wal_reader *rd, uint64_t lsn, struct record *r)
{
    enum err e;
    do
        e = read_once(rd, lsn, r);
    while (e == ERR_AGAIN);
    if (e)
        *r = (struct record){0};
    return e;
}
