/* wal_cut.c - cutting off records that the cell did not commit.
 *
 * What is kept of the segment that holds the cut is written into the prepared segment (read with a cursor, so verified
 * on the way; grouped anew, in frames of about 1 MiB) and synced. Nothing has happened so far. Then the mark is lowered
 * and synced, newer segments are deleted, the newest first, and last the new segment takes the name of the old one.
 * Between any two of these steps the directory holds a sound log that is longer than asked for: the owner, who knows
 * what was to be cut, does it again.
 *
 * Failures: before the mark is lowered the log is as it was (a failed write is sticky nevertheless); after that every
 * failure is sticky.
 *
 * Rejected: zeroing the tail in place. The frame that holds the cut counts all its records; its header would have to be
 * rewritten beside records that were acknowledged, and a write of 24 bytes across a sector's end may be torn.
 */
#include "base/file.h"
#include "engine/wal_impl.h"

#define FRAME_TARGET_BYTES (1u << 20)

static struct wal_segment *segment_with(struct wal *w, uint64_t lsn)
{
    pthread_mutex_lock(&w->lock);
    struct wal_segment *s = w->oldest;
    if (s && s->first_lsn > lsn)
        s = NULL;
    while (s && s->next && s->next->first_lsn <= lsn)
        s = s->next;
    if (s)
        wal_segment_ref(s);
    pthread_mutex_unlock(&w->lock);
    return s;
}

struct copy {
    struct wal_prepared next;
    uint64_t off;                      /* in it: where the next frame goes */
    uint64_t lsn;                      /* last one written */
    struct buf batch;                  /* records behind lsn */
    uint32_t records;                  /* in it */
    uint8_t chain[RECORD_CHAIN_BYTES]; /* of the last one in the batch, or before the first */
    uint32_t term;                     /* likewise */
};

static enum err flush(struct copy *c)
{
    if (c->records == 0)
        return ERR_OK;
    struct bytes batch = buf_bytes(&c->batch);
    enum err e = wal_write_frame(c->next.fd, c->off, c->next.seg->seed, batch, c->records, c->lsn);
    wal_places_note(&c->next.seg->places, c->lsn + 1, c->off + WAL_FRAME_BYTES, c->off);
    c->off += WAL_FRAME_BYTES + batch.n;
    c->lsn += c->records;
    c->records = 0;
    buf_clear(&c->batch);
    return e;
}

/* Records from's first up to lsn into c->next, from its header on. */
static enum err copy_records(struct wal *w, struct copy *c, const struct wal_segment *from, uint64_t lsn)
{
    struct wal_cursor *cursor;
    struct record r;
    struct bytes raw;

    c->lsn = from->first_lsn - 1;
    memcpy(c->chain, from->chain, RECORD_CHAIN_BYTES);
    c->term = from->term ? from->term : wal_term_at(w, c->lsn);
    enum err e = wal_cursor_open(&cursor, w, from->first_lsn);
    while (!e && c->lsn + c->records < lsn) {
        e = wal_cursor_next(cursor, &r, &raw);
        if (!e)
            e = buf_put(&c->batch, raw.p, raw.n);
        if (!e)
            e = wal_terms_reserve(&c->next.seg->terms, 1);
        if (e)
            break;
        c->records++;
        c->term = r.term;
        wal_terms_add(&c->next.seg->terms, r.lsn, r.term);
        memcpy(c->chain, r.chain, RECORD_CHAIN_BYTES);
        if (buf_size(&c->batch) >= FRAME_TARGET_BYTES)
            e = flush(c);
    }
    wal_cursor_close(cursor);
    return e ? e : flush(c);
}

static enum err make_copy(struct wal *w, struct copy *c, const struct wal_segment *from, uint64_t lsn)
{
    uint64_t end = atomic_load(&from->end_off);
    uint64_t frames = end / FRAME_TARGET_BYTES + 1;
    enum err e = wal_prepare_take(&w->prepare, end + frames * WAL_FRAME_BYTES + WAL_FOOTER_BYTES, &c->next);

    if (!e)
        e = wal_begin_segment(w, &c->next, from->first_lsn, from->chain, from->term);
    c->off = WAL_HEADER_BYTES;
    if (!e)
        e = copy_records(w, c, from, lsn);
    return e ? e : file_fdatasync(c->next.fd);
}

/* Under lock, the newest segments gone: the log ends at lsn. */
static void end_at(struct wal *w, uint64_t lsn, const uint8_t chain[RECORD_CHAIN_BYTES])
{
    w->last_lsn = lsn;
    memcpy(w->chain, chain, RECORD_CHAIN_BYTES);
}

static enum err delete_newest(struct wal *w)
{
    char path[WAL_PATH_BYTES];
    struct wal_segment *s = w->newest; /* only this thread changes it */

    wal_segment_path(w, s->first_lsn, path);
    enum err e = file_unlink(path);
    if (!e || e == ERR_NOTFOUND)
        e = file_fsync(w->dir_fd);
    if (e)
        return e;
    pthread_mutex_lock(&w->lock);
    end_at(w, s->first_lsn - 1, s->chain);
    wal_unlink_newest(w);
    pthread_mutex_unlock(&w->lock);
    return ERR_OK;
}

/* The part that cannot be undone. */
static enum err replace(struct wal *w, struct copy *c, const struct wal_segment *old, uint64_t lsn)
{
    wal_mark_store_both(&w->mark, lsn);
    enum err e = wal_mark_sync(&w->mark);
    while (!e && w->newest != old)
        e = delete_newest(w);
    if (!e)
        e = wal_name_segment(w, &c->next);
    if (e)
        return e;
    atomic_store(&c->next.seg->end_off, c->off);
    pthread_mutex_lock(&w->lock);
    end_at(w, lsn, c->chain);
    w->last_term = c->term;
    wal_link_segment(w, c->next.seg);
    pthread_mutex_unlock(&w->lock);
    (void)!file_close(w->fd); /* of a file that has no name any more */
    wal_write_to(w, c->next.fd, c->off, c->next.bytes);
    c->next = (struct wal_prepared){.fd = -1};
    return ERR_OK;
}

/* ERR_AGAIN: what was copied is not there any more. */
static enum err cut_once(struct wal *w, uint64_t lsn)
{
    struct copy copy = {.next = {.fd = -1}};

    if (w->damaged_lsn || atomic_load(&w->failed))
        return w->damaged_lsn ? ERR_CORRUPT : ERR_MISCONF;
    if (lsn >= w->last_lsn)
        return lsn == w->last_lsn ? ERR_OK : ERR_NOTFOUND;
    struct wal_segment *old = segment_with(w, lsn + 1);
    if (!old)
        return ERR_NOTFOUND;
    buf_init(&copy.batch, FRAME_TARGET_BYTES + RECORD_MAX_BYTES);

    enum err e = make_copy(w, &copy, old, lsn);
    if (e == ERR_IO || e == ERR_MISCONF)
        e = wal_fail(w);
    pthread_mutex_lock(&w->remove_lock);
    if (!e && atomic_load(&old->removed))
        e = ERR_AGAIN;
    else if (!e && replace(w, &copy, old, lsn) != ERR_OK)
        e = wal_fail(w);
    pthread_mutex_unlock(&w->remove_lock);
    if (copy.next.fd >= 0 && !atomic_load(&w->failed))
        wal_prepare_renamed(&w->prepare); /* given back, to be made anew */
    wal_prepare_drop(&copy.next);
    buf_fini(&copy.batch);
    wal_segment_unref(old);
    return e;
}

enum err wal_cut(struct wal *w, uint64_t lsn)
{
    enum err e;
    do /* removed, or mended: in its place is another now, or none */
        e = cut_once(w, lsn);
    while (e == ERR_AGAIN);
    return e;
}
