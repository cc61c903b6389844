/* wal_verify.c - reading sealed segments of a log in use: wal.h. Those that a lazy open looked at by their ends, before
 * anybody gets a record of them; and any of them, to see whether the disk still has it as it was.
 *
 * The scan is that of an open (wal_scan.h). What comes out is held against what the log knows from the time when it was
 * written or opened: where the segment begins, and where the next one does. Of a segment that was not read before, what
 * the scan found of places and terms becomes the segment's.
 *
 * No lock is held while a segment is read; two threads that want the same one both read it, and the first one's find
 * stays.
 *
 * Rejected: a lock for each segment while it is read (whoever wants a record would wait for a background thread of low
 * priority); verifying single records only (where one is, is known only when everything before it in the segment was
 * looked at, so reading it all once is what makes the next read cheap).
 */
#include <fcntl.h>

#include "base/file.h"
#include "engine/wal_impl.h"
#include "engine/wal_scan.h"

int wal_sealed_find(struct wal *w, uint64_t from_lsn, struct wal_sealed *f)
{
    pthread_mutex_lock(&w->lock);
    struct wal_segment *s = wal_segment_with(w, from_lsn);
    int sealed = s && s->next;
    if (sealed) {
        f->s = wal_segment_ref(s);
        f->last_lsn = s->next->first_lsn - 1;
        memcpy(f->chain, s->next->chain, sizeof f->chain);
    }
    pthread_mutex_unlock(&w->lock);
    return sealed;
}

int wal_sealed_fits(const struct wal *w, const struct wal_sealed *f, const struct wal_scan *s)
{
    return !s->header_err && memcmp(s->header.cell_id, w->cfg.cell_id, sizeof w->cfg.cell_id) == 0 &&
           s->header.first_lsn == f->s->first_lsn && wal_segment_seed(s->header.salt) == f->s->seed &&
           memcmp(s->header.chain, f->s->chain, sizeof s->header.chain) == 0 && s->sealed && !s->rest_bytes &&
           s->last_lsn == f->last_lsn && memcmp(s->chain, f->chain, sizeof s->chain) == 0;
}

void wal_segment_index(struct wal_segment *s, struct wal_scan *found, uint64_t last_lsn, uint64_t end_off)
{
    wal_places_fini(&s->places);
    s->places = found->places;
    found->places = (struct wal_places){0};
    wal_places_cut(&s->places, end_off);
    wal_terms_fini(&s->terms);
    s->terms = found->terms;
    found->terms = (struct wal_terms){0};
    wal_terms_cut(&s->terms, last_lsn);
}

/* Up to the damage, when there is some. */
static void note_find(struct wal *w, struct wal_segment *s, struct wal_scan *found, int whole)
{
    pthread_mutex_lock(&w->lock);
    if (atomic_load(&s->verified) == WAL_UNREAD && !atomic_load(&s->removed)) {
        wal_segment_index(s, found, found->part_lsn, atomic_load(&s->end_off));
        atomic_store_explicit(&s->verified, whole ? WAL_WHOLE : WAL_DAMAGED, memory_order_release);
    }
    pthread_mutex_unlock(&w->lock);
}

static enum err verify(struct wal *w, const struct wal_sealed *f, enum err (*pace)(void *arg, uint64_t bytes),
                       void *arg)
{
    struct wal_scan found = {0};
    int fd, unread = atomic_load(&f->s->verified) == WAL_UNREAD;
    enum err e = wal_segment_open(w, f->s, &fd);
    if (e == ERR_NOTFOUND) /* somebody else deleted it: nothing is left of it */
        note_find(w, f->s, &found, 0);
    if (e)
        return e == ERR_NOTFOUND ? ERR_CORRUPT : e;
    if (unread) /* as at an open: before it is dropped and read */
        e = file_fdatasync(fd);
    if (!e) {
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* advice: the disk is to be looked at, not memory */
        e = wal_scan_file(&found, fd, f->s->first_lsn, pace, arg);
    }
    if (!e) {
        e = wal_sealed_fits(w, f, &found) ? ERR_OK : ERR_CORRUPT;
        if (!e || !wal_segment_gone(w, f->s))
            note_find(w, f->s, &found, e == ERR_OK);
        wal_scan_free(&found);
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    (void)!file_close(fd); /* only read from */
    return e;
}

enum err wal_segment_verify(struct wal *w, struct wal_segment *s)
{
    struct wal_sealed f;
    enum err e = ERR_AGAIN;
    int known = atomic_load_explicit(&s->verified, memory_order_acquire);
    if (known != WAL_UNREAD)
        return known == WAL_WHOLE ? ERR_OK : ERR_CORRUPT;
    if (!wal_sealed_find(w, s->first_lsn, &f))
        return ERR_AGAIN;
    if (f.s == s)
        e = verify(w, &f, NULL, NULL);
    if (e && wal_segment_gone(w, s))
        e = ERR_AGAIN;
    wal_segment_unref(f.s);
    return e;
}

enum err wal_verify_segment(struct wal *w, uint64_t from_lsn, enum err (*pace)(void *arg, uint64_t bytes),
                            void *pace_arg, uint64_t *first_lsn, uint64_t *last_lsn)
{
    struct wal_sealed f;
    int removed;
    enum err e;

    *first_lsn = *last_lsn = 0;
    do {
        if (!wal_sealed_find(w, from_lsn, &f))
            return ERR_END;
        e = verify(w, &f, pace, pace_arg);
        removed = e && wal_segment_gone(w, f.s);
        *first_lsn = f.s->first_lsn;
        *last_lsn = f.last_lsn;
        from_lsn = f.last_lsn + 1;
        wal_segment_unref(f.s);
    } while (removed);
    return e;
}

uint64_t wal_unverified_lsn(struct wal *w)
{
    uint64_t lsn = 0;
    pthread_mutex_lock(&w->lock);
    for (const struct wal_segment *s = w->oldest; s; s = s->next)
        if (s->next && atomic_load_explicit(&s->verified, memory_order_relaxed) == WAL_UNREAD)
            lsn = s->first_lsn;
    pthread_mutex_unlock(&w->lock);
    return lsn;
}
