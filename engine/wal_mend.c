/* wal_mend.c - a sealed segment that has damage is written anew from the records of somebody else's log: wal.h.
 *
 * Whatever is left of its file, the log knows of a segment where it begins, where the next one does, and the chain in
 * front of both. A chain is a hash of all that was before: records that lead from the one to the other are those that
 * were here, whoever has them. So nothing that the other says needs to be believed, and his file is of no interest: it
 * is grouped otherwise, under another salt.
 *
 * They go into DIR/mend as they come, a frame for each piece. It is synced, and then read from the disk as any segment
 * is (wal_scan.h): only what is whole there gets the name. Rename, sync of the directory, and the new segment stands in
 * the list in the old one's place; cursors and readers find theirs replaced, as after a cut, and go on.
 *
 * Failures: up to the rename nothing has happened, the file is deleted, and nothing is sticky. A crash leaves DIR/mend,
 * which the next open deletes. Should the directory's sync fail, the name is that of either of the two; sticky, as
 * wherever a name is not known to be durable.
 *
 * Rejected: to write the bad records only, in place (beside records that are whole, and maybe on a sector that does not
 * hold them); DIR/next as the file (the writer would wait for a peer, or a peer's pace for the writer).
 */
#include <fcntl.h>

#include "base/file.h"
#include "engine/wal_impl.h"
#include "engine/wal_scan.h"

#define PIECE_BYTES (16u << 20) /* of one answer, at most */

struct mend {
    struct wal *w;
    struct wal_sealed old;
    struct wal_prepared next;
    uint64_t off;        /* in it: where the next frame goes */
    uint64_t lsn;        /* last one written */
    uint64_t left_bytes; /* of records: not more than there were, whatever comes */
};

static enum err begin(struct mend *m)
{
    const struct wal_segment *old = m->old.s;
    uint64_t bytes = atomic_load(&old->end_off);
    char path[WAL_PATH_BYTES];

    if (!wal_prepare_reserve(&m->w->prepare, m->w->cfg.reserve_bytes + bytes))
        return ERR_MISCONF;
    m->next.seg = wal_segment_new();
    if (!m->next.seg)
        return ERR_OOM;
    m->off = WAL_HEADER_BYTES;
    m->lsn = old->first_lsn - 1;
    m->left_bytes = bytes - WAL_HEADER_BYTES;
    wal_path(m->w, WAL_MEND, path);
    enum err e = file_open(path, O_RDWR | O_CREAT | O_TRUNC, 0600, &m->next.fd);
    return e ? e : wal_begin_segment(m->w, &m->next, old->first_lsn, old->chain, old->term);
}

/* How many records, of the LSNs that come next; 0: it is something else. */
static uint32_t count_records(struct bytes piece, uint64_t lsn, uint64_t last_lsn)
{
    struct record r;
    struct bytes raw;
    size_t used;
    uint32_t n = 0;

    while (piece.n && lsn + n <= last_lsn && record_get(piece, &r, &used) == ERR_OK && r.lsn == lsn + n) {
        (void)!bytes_take(&piece, used, &raw);
        n++;
    }
    return piece.n ? 0 : n;
}

static enum err write_piece(struct mend *m, struct bytes piece)
{
    uint32_t n = count_records(piece, m->lsn + 1, m->old.last_lsn);
    if (n == 0 || piece.n > m->left_bytes)
        return ERR_CORRUPT;
    enum err e = wal_write_frame(m->next.fd, m->off, m->next.seg->seed, piece, n, m->lsn);
    m->off += WAL_FRAME_BYTES + piece.n;
    m->lsn += n;
    m->left_bytes -= piece.n;
    return e;
}

static enum err write_all(struct mend *m, wal_records_fn *records, void *arg)
{
    struct buf piece;
    enum err e = ERR_OK;

    buf_init(&piece, PIECE_BYTES);
    while (!e && m->lsn < m->old.last_lsn) {
        buf_clear(&piece);
        e = records(arg, m->lsn + 1, m->old.last_lsn, &piece);
        if (!e)
            e = write_piece(m, buf_bytes(&piece));
    }
    buf_fini(&piece);
    return e;
}

static enum err seal(struct mend *m)
{
    struct wal_footer f = {.records = (uint32_t)(m->old.last_lsn + 1 - m->old.s->first_lsn),
                           .last_lsn = m->old.last_lsn};
    memcpy(f.chain, m->old.chain, sizeof f.chain);
    enum err e = wal_write_footer(m->next.fd, m->off, m->next.seg->seed, &f);
    return e ? e : file_fdatasync(m->next.fd);
}

/* What is on the disk now is what was lost, or else it is nothing. */
static enum err verify(struct mend *m)
{
    struct wal_sealed want = m->old;
    struct wal_scan found;

    want.s = m->next.seg;
    (void)posix_fadvise(m->next.fd, 0, 0, POSIX_FADV_DONTNEED); /* advice: the disk is to be looked at, not memory */
    enum err e = wal_scan_file(&found, m->next.fd, want.s->first_lsn, NULL, NULL);
    if (e)
        return e;
    if (wal_sealed_fits(m->w, &want, &found))
        wal_segment_index(want.s, &found, found.last_lsn, found.end_off);
    else
        e = ERR_CORRUPT;
    atomic_store(&want.s->end_off, found.end_off);
    wal_scan_free(&found);
    return e;
}

/* In the list the new one stands for the old one. */
static void exchange(struct wal *w, struct wal_segment *old, struct wal_segment *seg)
{
    struct wal_segment **at = &w->oldest;

    pthread_mutex_lock(&w->lock);
    while (*at != old)
        at = &(*at)->next;
    seg->next = old->next;
    *at = seg;
    w->sealed_bytes += atomic_load(&seg->end_off) - atomic_load(&old->end_off);
    atomic_store(&old->removed, 1);
    pthread_mutex_unlock(&w->lock);
    wal_segment_unref(old); /* the list's */
}

static enum err replace(struct mend *m)
{
    struct wal *w = m->w;
    char from[WAL_PATH_BYTES], to[WAL_PATH_BYTES];
    enum err e = ERR_OK;

    wal_path(w, WAL_MEND, from);
    wal_segment_path(w, m->old.s->first_lsn, to);
    pthread_mutex_lock(&w->remove_lock);
    if (atomic_load(&w->failed))
        e = ERR_MISCONF;
    else if (atomic_load(&m->old.s->removed))
        e = ERR_NOTFOUND;
    if (!e)
        e = file_rename(from, to);
    if (!e) {
        exchange(w, m->old.s, m->next.seg);
        m->next.seg = NULL;
        if (file_fsync(w->dir_fd))
            e = wal_fail(w);
    }
    pthread_mutex_unlock(&w->remove_lock);
    return e;
}

static void end(struct mend *m)
{
    char path[WAL_PATH_BYTES];
    wal_path(m->w, WAL_MEND, path);
    if (m->next.seg)
        (void)!file_unlink(path); /* it is of no use. What stays is overwritten, or goes at the next open */
    wal_prepare_drop(&m->next);
    wal_segment_unref(m->old.s);
}

enum err wal_mend(struct wal *w, uint64_t lsn, wal_records_fn *records, void *arg)
{
    struct mend m = {.w = w, .next.fd = -1};

    if (w->damaged_lsn)
        return ERR_CORRUPT;
    if (!wal_sealed_find(w, lsn, &m.old))
        return ERR_NOTFOUND;
    enum err e = lsn >= m.old.s->first_lsn ? begin(&m) : ERR_NOTFOUND;
    if (!e)
        e = write_all(&m, records, arg);
    if (!e)
        e = seal(&m);
    if (!e)
        e = verify(&m);
    if (!e)
        e = replace(&m);
    end(&m);
    return e;
}
