/* wal.c - appending, switching segments, deleting them. The format and the rules are in wal.h.
 *
 * One append: check that the records are what the caller says (cheap: lengths, LSNs, last chain; no hashing, they are
 * its own or were verified when they came in), one pwritev of frame header and records into the pre-written zeros, one
 * fdatasync, then publish: cursors see the group, the mark is stored.
 *
 * A switch of segments, when a group does not fit: take the prepared file (waiting for the helper if need be), footer
 * and cut of the old one, fdatasync, header into the new one, fdatasync, rename to its name, sync of the directory. In
 * this order a crash at any point leaves: an unsealed last segment, or a sealed last segment, or a last segment without
 * frames: wal_open goes on from each. An empty segment that is too small is replaced by rename, under the same name.
 *
 * Failures: whatever fails from the first write on is sticky (wal_fail). Before it, nothing was touched and the caller
 * may go on. What the writer needs in a switch is allocated by the helper beforehand: a record that was admitted does
 * not fail for want of memory, but in the first group of a term.
 *
 * Rejected: O_DSYNC writes (no cheaper, and the write's and the sync's errors cannot be told apart); a background seal
 * of the old segment (a segment's existence must prove that the one before is durable); appending and syncing in two
 * threads (one fdatasync at a time is what the disk does best; the next group gathers meanwhile).
 */
#include "engine/wal.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "engine/wal_impl.h"

#define PAGE_BYTES 4096u

struct wal_segment *wal_segment_new(void)
{
    struct wal_segment *s = mem_zalloc(sizeof *s);
    if (!s)
        return NULL;
    atomic_init(&s->refs, 1);
    atomic_init(&s->verified, WAL_WHOLE);
    if (wal_terms_reserve(&s->terms, 1) == ERR_OK)
        return s;
    wal_segment_unref(s);
    return NULL;
}

struct wal_segment *wal_segment_ref(struct wal_segment *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void wal_segment_unref(struct wal_segment *s)
{
    if (s && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1) {
        wal_places_fini(&s->places);
        wal_terms_fini(&s->terms);
        mem_free(s);
    }
}

struct wal_segment *wal_segment_with(const struct wal *w, uint64_t lsn)
{
    struct wal_segment *s = w->oldest;
    while (s && s->next && s->next->first_lsn <= lsn)
        s = s->next;
    return s;
}

int wal_segment_gone(struct wal *w, struct wal_segment *s)
{
    pthread_mutex_lock(&w->remove_lock);
    pthread_mutex_unlock(&w->remove_lock);
    return atomic_load(&s->removed);
}

enum err wal_segment_open(struct wal *w, struct wal_segment *s, int *fd)
{
    char path[WAL_PATH_BYTES];
    wal_segment_path(w, s->first_lsn, path);
    enum err e = file_open(path, O_RDONLY, 0, fd);
    return e == ERR_NOTFOUND && wal_segment_gone(w, s) ? ERR_AGAIN : e;
}

void wal_path(const struct wal *w, const char *name, char out[WAL_PATH_BYTES])
{
    int n = snprintf(out, WAL_PATH_BYTES, "%s/%s", w->dir, name);
    assert(n > 0 && n < WAL_PATH_BYTES); /* wal_open has measured the directory's name */
}

void wal_segment_path(const struct wal *w, uint64_t first_lsn, char out[WAL_PATH_BYTES])
{
    char name[WAL_NAME_BYTES];
    wal_segment_name(name, first_lsn);
    wal_path(w, name, out);
}

enum err wal_fail(struct wal *w)
{
    atomic_store(&w->failed, 1);
    return ERR_MISCONF;
}

/* ---- appending ---- */

/* Walks the group; *changes: how often the term differs from the record before. */
static int group_fits(const struct wal *w, struct bytes records, uint32_t n, uint64_t first_lsn, const uint8_t *chain,
                      size_t *changes)
{
    uint32_t term = w->last_term; /* only this thread writes it */
    struct bytes rec = {0};

    *changes = 0;
    if (n == 0 || first_lsn != w->last_lsn + 1)
        return 0;
    for (uint32_t i = 0; i < n; i++) {
        size_t size = records.n >= RECORD_MIN_BYTES ? get_le32(records.p) : 0;
        if (size < RECORD_MIN_BYTES || size % 8 || !bytes_take(&records, size, &rec))
            return 0;
        if (get_le64(rec.p + 8) != first_lsn + i)
            return 0;
        *changes += get_le32(rec.p + 16) != term;
        term = get_le32(rec.p + 16);
    }
    return records.n == 0 && memcmp(rec.p + rec.n - RECORD_CHAIN_BYTES, chain, RECORD_CHAIN_BYTES) == 0;
}

static uint64_t records_in_newest(const struct wal *w)
{
    return w->last_lsn + 1 - w->newest->first_lsn;
}

enum err wal_write_footer(int fd, uint64_t off, uint32_t seed, const struct wal_footer *f)
{
    uint8_t footer[WAL_FOOTER_BYTES];
    wal_segment_put_footer(footer, seed, f);
    enum err e = file_pwrite(fd, footer, sizeof footer, off);
    return e ? e : file_truncate(fd, off + WAL_FOOTER_BYTES);
}

/* Footer, cut, fdatasync, close. */
static enum err seal(struct wal *w)
{
    struct wal_footer f = {.records = (uint32_t)records_in_newest(w), .last_lsn = w->last_lsn};

    memcpy(f.chain, w->chain, RECORD_CHAIN_BYTES);
    enum err e = wal_write_footer(w->fd, w->off, w->newest->seed, &f);
    if (!e)
        e = file_fdatasync(w->fd);
    if (!e)
        e = file_close(w->fd);
    if (e)
        return e;
    w->fd = -1;
    pthread_mutex_lock(&w->lock);
    w->fsyncs++;
    pthread_mutex_unlock(&w->lock);
    return ERR_OK;
}

enum err wal_begin_segment(struct wal *w, struct wal_prepared *next, uint64_t first_lsn,
                           const uint8_t chain[RECORD_CHAIN_BYTES], uint32_t term)
{
    uint8_t header[WAL_HEADER_BYTES];
    struct wal_header h = {.first_lsn = first_lsn, .created_ms = clock_wall_ms(), .term = term};

    memcpy(h.cell_id, w->cfg.cell_id, sizeof h.cell_id);
    memcpy(h.chain, chain, RECORD_CHAIN_BYTES);
    enum err e = clock_random(h.salt, sizeof h.salt);
    if (e)
        return e;
    wal_segment_put_header(header, &h);
    next->seg->first_lsn = first_lsn;
    memcpy(next->seg->chain, chain, RECORD_CHAIN_BYTES);
    next->seg->term = term;
    next->seg->seed = wal_segment_seed(h.salt);
    return file_pwrite(next->fd, header, sizeof header, 0);
}

enum err wal_name_segment(struct wal *w, const struct wal_prepared *next)
{
    char from[WAL_PATH_BYTES], to[WAL_PATH_BYTES];

    wal_path(w, "next", from);
    wal_segment_path(w, next->seg->first_lsn, to);
    enum err e = file_fdatasync(next->fd);
    if (!e)
        e = file_rename(from, to);
    if (!e)
        e = file_fsync(w->dir_fd);
    if (!e)
        wal_prepare_renamed(&w->prepare);
    return e;
}

void wal_unlink_newest(struct wal *w)
{
    struct wal_segment *gone = w->newest, *before = NULL;

    for (struct wal_segment *s = w->oldest; s != gone; s = s->next)
        before = s;
    *(before ? &before->next : &w->oldest) = NULL;
    w->newest = before;
    w->segments--;
    if (before)
        w->sealed_bytes -= atomic_load(&before->end_off) + WAL_FOOTER_BYTES;
    atomic_store(&gone->removed, 1);
    wal_segment_unref(gone);
}

void wal_link_segment(struct wal *w, struct wal_segment *s)
{
    if (w->newest && w->newest->first_lsn == s->first_lsn)
        wal_unlink_newest(w);
    if (w->newest) {
        w->sealed_bytes += atomic_load(&w->newest->end_off) + WAL_FOOTER_BYTES;
        w->newest->next = s;
    } else {
        w->oldest = s;
    }
    w->newest = s;
    w->segments++;
}

void wal_write_to(struct wal *w, int fd, uint64_t off, uint64_t cap_bytes)
{
    w->fd = fd;
    w->off = off;
    w->cap_bytes = cap_bytes;
    uint64_t left = fd >= 0 ? cap_bytes - off : 0;
    atomic_store(&w->room_bytes, left > WAL_FOOTER_BYTES ? left - WAL_FOOTER_BYTES : 0);
}

/* need: bytes of the group with its frame header and of the footer behind it. */
static enum err switch_segment(struct wal *w, uint64_t need)
{
    struct wal_prepared next;
    enum err e = wal_prepare_take(&w->prepare, WAL_HEADER_BYTES + need, &next);

    if (!e && w->fd >= 0)
        e = records_in_newest(w) ? seal(w) : ERR_OK;
    if (!e)
        e = wal_begin_segment(w, &next, w->last_lsn + 1, w->chain, w->last_term);
    if (!e)
        e = wal_name_segment(w, &next);
    if (!e) {
        (void)!file_close(w->fd); /* only an empty one is still open here: its name is gone, and it held nothing */
        atomic_store(&next.seg->end_off, WAL_HEADER_BYTES);
        wal_write_to(w, next.fd, WAL_HEADER_BYTES, next.bytes);
        pthread_mutex_lock(&w->lock);
        wal_link_segment(w, next.seg);
        w->fsyncs++;
        pthread_mutex_unlock(&w->lock);
        next = (struct wal_prepared){.fd = -1};
    }
    wal_prepare_drop(&next);
    return e;
}

enum err wal_write_frame(int fd, uint64_t off, uint32_t seed, struct bytes records, uint32_t n, uint64_t synced_lsn)
{
    static const uint8_t zeros[PAGE_BYTES];
    uint8_t frame[WAL_FRAME_BYTES];
    struct wal_frame f = {.records = n, .bytes = (uint32_t)records.n, .synced_lsn = synced_lsn};
    size_t last_page = (size_t)((off + sizeof frame + records.n) % PAGE_BYTES);
    struct iovec iov[] = {
        {.iov_base = frame, .iov_len = sizeof frame},
        {.iov_base = (void *)(uintptr_t)records.p, .iov_len = records.n},
        {.iov_base = (void *)(uintptr_t)zeros, .iov_len = last_page ? PAGE_BYTES - last_page : 0},
    };

    wal_segment_put_frame(frame, seed, &f);
    return file_pwritev(fd, iov, iov[2].iov_len ? 3 : 2, off);
}

/* Enters the records of the frame at off into the indexes: terms (room for the rows was reserved) and places. */
static void index_records(struct wal *w, struct bytes records, uint64_t off)
{
    uint64_t at = off + WAL_FRAME_BYTES;
    struct bytes rec;
    while (records.n && bytes_take(&records, get_le32(records.p), &rec)) {
        w->last_term = get_le32(rec.p + 16);
        wal_terms_add(&w->newest->terms, get_le64(rec.p + 8), w->last_term);
        wal_places_note(&w->newest->places, get_le64(rec.p + 8), at, off);
        at += rec.n;
    }
}

/* The group is durable: everybody may know. */
static void publish(struct wal *w, struct bytes records, uint32_t n, const uint8_t *chain)
{
    uint64_t frame_off = w->off;
    wal_write_to(w, w->fd, w->off + WAL_FRAME_BYTES + records.n, w->cap_bytes);
    pthread_mutex_lock(&w->lock);
    atomic_store_explicit(&w->newest->end_off, w->off, memory_order_release);
    w->last_lsn += n;
    memcpy(w->chain, chain, RECORD_CHAIN_BYTES);
    index_records(w, records, frame_off);
    w->fsyncs++;
    w->groups++;
    w->records += n;
    w->appended += WAL_FRAME_BYTES + records.n;
    pthread_mutex_unlock(&w->lock);
    if (wal_mark_store(&w->mark, w->last_lsn))
        wal_prepare_dirty(&w->prepare);
}

/* Of the newest segment, which has had none yet, or changes. */
static enum err reserve_terms(struct wal *w, size_t changes)
{
    pthread_mutex_lock(&w->lock);
    enum err e = wal_terms_reserve(&w->newest->terms, changes + (w->newest->terms.count == 0));
    pthread_mutex_unlock(&w->lock);
    return e;
}

enum err wal_append(struct wal *w, struct bytes records, uint32_t n, uint64_t first_lsn,
                    const uint8_t chain[RECORD_CHAIN_BYTES])
{
    size_t new_terms;
    uint64_t need = WAL_FRAME_BYTES + (uint64_t)records.n + WAL_FOOTER_BYTES;

    if (atomic_load(&w->failed))
        return ERR_MISCONF;
    if (need > WAL_SEGMENT_MAX_BYTES - WAL_HEADER_BYTES)
        return ERR_TOOBIG;
    if (w->damaged_lsn || !group_fits(w, records, n, first_lsn, chain, &new_terms))
        return ERR_CORRUPT;
    enum err e = w->fd < 0 || w->cap_bytes - w->off < need ? switch_segment(w, need) : ERR_OK;
    if (e)
        return wal_fail(w);
    if ((e = reserve_terms(w, new_terms)) != ERR_OK)
        return e;
    e = wal_write_frame(w->fd, w->off, w->newest->seed, records, n, w->last_lsn);
    if (!e)
        e = file_fdatasync(w->fd);
    if (e)
        return wal_fail(w);
    publish(w, records, n, chain);
    return ERR_OK;
}

/* ---- asking ---- */

enum err wal_room(struct wal *w, uint64_t bytes)
{
    /* At worst every record becomes a group of its own: a frame header for each. */
    const uint64_t worst = bytes + bytes / (RECORD_MIN_BYTES / WAL_FRAME_BYTES) + WAL_FRAME_BYTES;

    if (bytes > UINT64_MAX / 4 || w->damaged_lsn || atomic_load(&w->failed))
        return ERR_MISCONF;
    if (!wal_prepare_reserve(&w->prepare, w->cfg.reserve_bytes))
        return ERR_MISCONF;
    if (worst <= atomic_load(&w->room_bytes))
        return ERR_OK;
    return wal_prepare_room(&w->prepare, WAL_HEADER_BYTES + worst + WAL_FOOTER_BYTES, w->cfg.reserve_bytes)
               ? ERR_OK
               : ERR_MISCONF;
}

void wal_info(struct wal *w, struct wal_info *out)
{
    *out = (struct wal_info){.failed = atomic_load(&w->failed), .damaged_lsn = w->damaged_lsn};
    pthread_mutex_lock(&w->lock);
    out->last_lsn = w->last_lsn;
    if (w->oldest && w->oldest->first_lsn <= w->last_lsn)
        out->first_lsn = w->oldest->first_lsn;
    out->bytes = w->sealed_bytes + (w->newest ? atomic_load(&w->newest->end_off) : 0);
    out->fsyncs = w->fsyncs;
    out->groups = w->groups;
    out->records = w->records;
    for (const struct wal_segment *s = w->oldest; s; s = s->next)
        if (atomic_load_explicit(&s->verified, memory_order_relaxed) == WAL_UNREAD)
            out->unverified_bytes += atomic_load(&s->end_off);
    out->appended_bytes = w->appended;
    out->segments = w->segments;
    out->term = w->last_term;
    memcpy(out->chain, w->chain, RECORD_CHAIN_BYTES);
    pthread_mutex_unlock(&w->lock);
}

int wal_base(struct wal *w, uint64_t lsn, uint8_t chain[RECORD_CHAIN_BYTES], uint32_t *term)
{
    pthread_mutex_lock(&w->lock);
    int is = w->oldest ? lsn + 1 == w->oldest->first_lsn : lsn == w->last_lsn;
    if (is)
        memcpy(chain, w->oldest ? w->oldest->chain : w->chain, RECORD_CHAIN_BYTES);
    *term = is ? w->oldest ? w->oldest->term : w->last_term : 0;
    pthread_mutex_unlock(&w->lock);
    return is;
}

uint32_t wal_term_at(struct wal *w, uint64_t lsn)
{
    enum err e;
    uint32_t term = 0;
    do {
        pthread_mutex_lock(&w->lock);
        int in = w->oldest && lsn >= w->oldest->first_lsn && lsn <= w->last_lsn;
        struct wal_segment *s = in ? wal_segment_ref(wal_segment_with(w, lsn)) : NULL;
        pthread_mutex_unlock(&w->lock);
        e = s ? wal_segment_verify(w, s) : ERR_OK;
        pthread_mutex_lock(&w->lock); /* of what does not verify, up to there */
        term = s ? wal_terms_at(&s->terms, lsn) : 0;
        pthread_mutex_unlock(&w->lock);
        wal_segment_unref(s);
    } while (e == ERR_AGAIN);
    return term;
}

/* The newest segment in front of which there was another term, or nothing. Under lock. */
static struct wal_segment *turned_in(const struct wal *w)
{
    struct wal_segment *found = NULL;
    for (struct wal_segment *s = w->oldest; s; s = s->next)
        if (s->term != w->last_term && s->first_lsn <= w->last_lsn)
            found = s;
    return found;
}

/* Under lock. */
static int find_turn(const struct wal *w, const struct wal_segment *s, uint64_t *first_lsn, uint32_t *before)
{
    for (size_t i = s->terms.count; i-- > 0;) {
        if (s->terms.rows[i].term != w->last_term)
            continue;
        *before = i ? s->terms.rows[i - 1].term : s->term;
        *first_lsn = *before ? s->terms.rows[i].first_lsn : 0;
        return *before != 0;
    }
    return 0;
}

int wal_last_turn(struct wal *w, uint64_t *first_lsn, uint32_t *before)
{
    enum err e;
    int found = 0;
    *first_lsn = *before = 0;
    do {
        pthread_mutex_lock(&w->lock);
        struct wal_segment *s = turned_in(w);
        s = s ? wal_segment_ref(s) : NULL;
        pthread_mutex_unlock(&w->lock);
        e = s ? wal_segment_verify(w, s) : ERR_OK;
        pthread_mutex_lock(&w->lock);
        found = s && find_turn(w, s, first_lsn, before);
        pthread_mutex_unlock(&w->lock);
        wal_segment_unref(s);
    } while (e == ERR_AGAIN);
    return found;
}

/* ---- deleting ---- */

/* The oldest segment when all its records are below lsn, else NULL. It cannot go away: remove_lock is held. */
static struct wal_segment *removable(struct wal *w, uint64_t lsn)
{
    pthread_mutex_lock(&w->lock);
    struct wal_segment *s = w->oldest;
    if (s && !(s->next && s->next->first_lsn <= lsn))
        s = NULL;
    pthread_mutex_unlock(&w->lock);
    return s;
}

static void forget_oldest(struct wal *w)
{
    pthread_mutex_lock(&w->lock);
    struct wal_segment *s = w->oldest;
    w->oldest = s->next;
    w->segments--;
    w->sealed_bytes -= atomic_load(&s->end_off) + WAL_FOOTER_BYTES;
    atomic_store(&s->removed, 1);
    pthread_mutex_unlock(&w->lock);
    wal_segment_unref(s);
}

enum err wal_remove_below(struct wal *w, uint64_t lsn)
{
    char path[WAL_PATH_BYTES];
    struct wal_segment *s;
    enum err e = ERR_OK;

    if (w->damaged_lsn)
        return ERR_CORRUPT;
    pthread_mutex_lock(&w->remove_lock);
    while (!e && (s = removable(w, lsn)) != NULL) {
        wal_segment_path(w, s->first_lsn, path);
        e = atomic_load(&w->failed) ? ERR_MISCONF : file_unlink(path);
        if (e)
            break;
        forget_oldest(w);
        if (file_fsync(w->dir_fd) != ERR_OK)
            e = wal_fail(w);
    }
    pthread_mutex_unlock(&w->remove_lock);
    return e;
}
