/* wal_verify.c - reading a sealed segment of a log in use, to see whether the disk still has it as it was: wal.h.
 *
 * The scan is that of an open (wal_scan.h). What comes out is held against what the log knows from the time when it was
 * written: where the segment begins, and where the next one does.
 */
#include <fcntl.h>

#include "base/file.h"
#include "engine/wal_impl.h"
#include "engine/wal_scan.h"

struct wanted {
    struct wal_segment *s; /* a reference */
    uint64_t last_lsn;
    uint8_t chain[RECORD_CHAIN_BYTES]; /* at last_lsn */
};

static int find(struct wal *w, uint64_t from_lsn, struct wanted *f)
{
    pthread_mutex_lock(&w->lock);
    struct wal_segment *s = w->oldest;
    while (s && s->next && s->next->first_lsn <= from_lsn)
        s = s->next;
    int sealed = s && s->next;
    if (sealed) {
        f->s = wal_segment_ref(s);
        f->last_lsn = s->next->first_lsn - 1;
        memcpy(f->chain, s->next->chain, sizeof f->chain);
    }
    pthread_mutex_unlock(&w->lock);
    return sealed;
}

static int fits(const struct wal *w, const struct wanted *f, const struct wal_scan *s)
{
    return !s->header_err && memcmp(s->header.cell_id, w->cfg.cell_id, sizeof w->cfg.cell_id) == 0 &&
           s->header.first_lsn == f->s->first_lsn &&
           memcmp(s->header.chain, f->s->chain, sizeof s->header.chain) == 0 && s->sealed && !s->rest_bytes &&
           s->last_lsn == f->last_lsn && memcmp(s->chain, f->chain, sizeof s->chain) == 0;
}

static enum err verify(struct wal *w, const struct wanted *f, enum err (*pace)(void *arg, uint64_t bytes), void *arg)
{
    struct wal_scan scan;
    int fd;
    enum err e = wal_segment_open(w, f->s, &fd);
    if (e)
        return e;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* advice: the disk is to be looked at, not memory */
    e = wal_scan_file(&scan, fd, f->s->first_lsn, pace, arg);
    if (!e) {
        e = fits(w, f, &scan) ? ERR_OK : ERR_CORRUPT;
        wal_terms_fini(&scan.terms);
        wal_places_fini(&scan.places);
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)!file_close(fd); /* only read from */
    return e;
}

enum err wal_verify_segment(struct wal *w, uint64_t from_lsn, enum err (*pace)(void *arg, uint64_t bytes),
                            void *pace_arg, uint64_t *first_lsn, uint64_t *last_lsn)
{
    struct wanted f;
    int removed;
    enum err e;

    *first_lsn = *last_lsn = 0;
    do {
        if (!find(w, from_lsn, &f))
            return ERR_END;
        e = verify(w, &f, pace, pace_arg);
        removed = e && wal_segment_gone(w, f.s);
        *first_lsn = f.s->first_lsn;
        *last_lsn = f.last_lsn;
        from_lsn = f.last_lsn + 1;
        wal_segment_unref(f.s);
    } while (removed);
    return e == ERR_NOTFOUND ? ERR_CORRUPT : e; /* somebody else deleted it */
}
