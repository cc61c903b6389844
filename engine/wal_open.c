/* wal_open.c - opening and closing a log: what was found becomes the list of segments, the tail is mended, the rest is
 * refused. The rules are in wal.h, the verdict is wal_scan_judge's.
 *
 * Order: directory, mark (which locks it), scan, verdict; then, of a sound log only: zeros over a torn tail (synced
 * before anything else is written, so that no old piece of a group can come to stand behind a new one), the mark, the
 * helper thread. A damaged log is opened without any of these: nothing in its directory is changed (but that a mark is
 * made when there was none).
 */
#include "engine/wal.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/wal_impl.h"
#include "engine/wal_scan.h"

#define TICK_MS 100
#define ZEROS_BYTES (64u << 10)

static enum err zero_out(int fd, uint64_t off, uint64_t n)
{
    static uint8_t zeros[ZEROS_BYTES]; /* never written; not const, which would put it into the program's file */

    while (n) {
        size_t step = n < ZEROS_BYTES ? (size_t)n : ZEROS_BYTES;
        enum err e = file_pwrite(fd, zeros, step, off);
        if (e)
            return e;
        off += step;
        n -= step;
    }
    return file_fdatasync(fd);
}

/* Takes the last segment for writing, its torn tail zeroed. A sealed one is left closed: the first append starts
 * another. */
static enum err open_newest(struct wal *w, const struct wal_scan *s)
{
    char path[WAL_PATH_BYTES];
    int fd;

    if (s->sealed && s->rest_bytes == 0)
        return ERR_OK;
    wal_segment_path(w, s->name_lsn, path);
    enum err e = file_open(path, O_RDWR, 0, &fd);
    if (!e && s->rest_bytes)
        e = zero_out(fd, s->rest_off, s->rest_bytes);
    if (!e && !s->sealed) {
        wal_write_to(w, fd, s->end_off, s->file_bytes);
        return ERR_OK;
    }
    enum err closed = file_close(fd);
    return e ? e : closed;
}

/* Takes over what s knows of places and terms. */
static enum err add_segment(struct wal *w, struct wal_scan *s, uint64_t last_lsn, uint64_t end_off)
{
    struct wal_segment *seg = wal_segment_new();
    if (!seg)
        return ERR_OOM;
    seg->first_lsn = s->header.first_lsn;
    seg->seed = wal_segment_seed(s->header.salt);
    memcpy(seg->chain, s->header.chain, RECORD_CHAIN_BYTES);
    seg->term = s->header.term;
    atomic_store(&seg->end_off, end_off);
    atomic_store(&seg->verified, s->ends_only ? WAL_UNREAD : WAL_WHOLE);
    wal_segment_index(seg, s, last_lsn, end_off);
    wal_link_segment(w, seg);
    return ERR_OK;
}

/* Of the last record; when the last segment has none yet, the one before has it, and was read too, or there was none.
 */
static uint32_t last_term(const struct wal *w)
{
    uint32_t term = !w->oldest ? w->cfg.base_term : w->oldest->term;
    for (const struct wal_segment *s = w->oldest; s; s = s->next) {
        uint32_t at = wal_terms_at(&s->terms, w->last_lsn);
        term = at ? at : term;
    }
    return term;
}

static enum err adopt(struct wal *w, struct wal_scan_set *set, const struct wal_verdict *v)
{
    enum err e = ERR_OK;

    w->damaged_lsn = v->damaged_lsn;
    w->last_lsn = v->last_lsn;
    memcpy(w->chain, v->chain, RECORD_CHAIN_BYTES);
    for (size_t i = 0; !e && i < v->usable; i++)
        e = add_segment(w, &set->at[i], v->last_lsn, i + 1 < v->usable ? set->at[i].end_off : v->end_off);
    w->last_term = last_term(w);
    if (!e && set->count && !v->damaged_lsn)
        e = open_newest(w, &set->at[set->count - 1]);
    return e;
}

static void describe(struct wal_report *report, const struct wal_verdict *v, const struct wal_scan_set *set)
{
    char name[WAL_NAME_BYTES] = "the directory";

    report->first_lsn = v->first_lsn;
    report->last_lsn = v->last_lsn;
    memcpy(report->chain, v->chain, RECORD_CHAIN_BYTES);
    report->torn_bytes = v->torn_bytes;
    report->damaged_lsn = v->damaged_lsn;
    report->mark_lsn = v->mark_lsn;
    report->segments = (unsigned)set->count;
    if (v->where < set->count)
        wal_segment_name(name, set->at[v->where].name_lsn);
    if (v->why && v->damaged_lsn)
        snprintf(report->text, sizeof report->text, "damaged at LSN %" PRIu64 ", known durable to %" PRIu64 ": %s (%s)",
                 v->damaged_lsn, v->mark_lsn, v->why, name);
    else if (v->why)
        snprintf(report->text, sizeof report->text, "%s: %s", name, v->why);
    else
        snprintf(report->text, sizeof report->text,
                 "LSN %" PRIu64 " to %" PRIu64 " in %u segments, known durable to %" PRIu64 "; torn tail: %" PRIu64
                 " bytes",
                 v->first_lsn, v->last_lsn, report->segments, v->mark_lsn, v->torn_bytes);
}

/* A new log: its directory, too, must be there after a power loss. */
static enum err sync_parent(const char *dir)
{
    char parent[WAL_PATH_BYTES];
    snprintf(parent, sizeof parent, "%s/..", dir);
    return file_sync_dir(parent);
}

/* Scan, verdict, and what follows from it. */
static enum err load(struct wal *w, uint64_t marked_lsn, struct wal_report *report)
{
    struct wal_scan_set set;
    struct wal_verdict v;
    struct wal_evidence known = {.base_lsn = w->cfg.base_lsn, .known_lsn = w->cfg.known_lsn};

    if (known.known_lsn < marked_lsn)
        known.known_lsn = marked_lsn;
    memcpy(known.cell_id, w->cfg.cell_id, sizeof known.cell_id);
    memcpy(known.base_chain, w->cfg.base_chain, RECORD_CHAIN_BYTES);
    enum err e = wal_scan_dir(&set, w->dir, w->cfg.lazy);
    if (e)
        return e;
    e = wal_scan_judge(&set, &known, &v);
    describe(report, &v, &set);
    if (!e)
        e = adopt(w, &set, &v);
    if (!e)
        report->last_term = v.first_lsn ? w->last_term : 0;
    if (!e && set.count == 0)
        e = sync_parent(w->dir);
    wal_scan_fini(&set);
    return e;
}

static enum err new_wal(struct wal **out, const struct wal_config *cfg)
{
    size_t n = strlen(cfg->dir) + 1;
    struct wal *w = mem_zalloc(sizeof *w);
    char *dir = mem_alloc(n);

    *out = NULL;
    if (!w || !dir) {
        mem_free(w);
        mem_free(dir);
        return ERR_OOM;
    }
    memcpy(dir, cfg->dir, n);
    w->cfg = *cfg;
    w->cfg.dir = w->dir = dir;
    w->fd = w->dir_fd = w->mark.fd = -1;
    pthread_mutex_init(&w->lock, NULL);
    pthread_mutex_init(&w->remove_lock, NULL);
    *out = w;
    return ERR_OK;
}

static void free_wal(struct wal *w)
{
    if (!w)
        return;
    wal_prepare_stop(&w->prepare);
    wal_mark_close(&w->mark);
    (void)!file_close(w->fd); /* all that was acknowledged is synced, and that was checked */
    (void)!file_close(w->dir_fd);
    while (w->oldest) {
        struct wal_segment *s = w->oldest;
        w->oldest = s->next;
        wal_segment_unref(s);
    }
    pthread_mutex_destroy(&w->lock);
    pthread_mutex_destroy(&w->remove_lock);
    mem_free(w->dir);
    mem_free(w);
}

/* The log is sound and whole: what was found on the disk is durable, since it was synced before it was read. */
static enum err start(struct wal *w)
{
    unsigned tick_ms = w->cfg.tick_ms ? w->cfg.tick_ms : TICK_MS;
    char path[WAL_PATH_BYTES];
    wal_path(w, WAL_MEND, path);
    (void)!file_unlink(path); /* a mending that did not come to its end: it takes room, no more */
    wal_mark_store_both(&w->mark, w->last_lsn);
    return wal_prepare_start(&w->prepare, w->dir, w->cfg.segment_bytes, tick_ms, &w->mark, &w->failed);
}

static void explain(struct wal_report *report, enum err e)
{
    if (e == ERR_IO || e == ERR_MISCONF || e == ERR_NOTFOUND)
        snprintf(report->text, sizeof report->text, "%s: %s", err_text(e), strerror(file_errno()));
    else if (e != ERR_CORRUPT) /* that has its text from the verdict */
        snprintf(report->text, sizeof report->text, "%s", err_text(e));
}

enum err wal_open(struct wal **out, const struct wal_config *cfg, struct wal_report *report)
{
    struct wal *w;
    uint64_t marked_lsn = 0;

    *out = NULL;
    *report = (struct wal_report){0};
    if (cfg->segment_bytes < WAL_SEGMENT_MIN_BYTES || cfg->segment_bytes > WAL_SEGMENT_MAX_BYTES ||
        strlen(cfg->dir) + WAL_NAME_BYTES + 1 >= WAL_PATH_BYTES) {
        explain(report, ERR_RANGE);
        return ERR_RANGE;
    }
    enum err e = new_wal(&w, cfg);
    if (e)
        goto out;
    e = file_mkdir(w->dir, 0700);
    if (!e)
        e = file_open(w->dir, O_RDONLY | O_DIRECTORY, 0, &w->dir_fd);
    if (!e)
        e = wal_mark_open(&w->mark, w->dir, w->cfg.cell_id, &marked_lsn, &report->mark_this_boot);
    if (!e)
        e = load(w, marked_lsn, report);
    if (!e && !w->damaged_lsn)
        e = start(w);
out:
    if (e) {
        explain(report, e);
        free_wal(w);
        w = NULL;
    }
    *out = w;
    return e;
}

void wal_close(struct wal *w)
{
    if (!w)
        return;
    wal_prepare_stop(&w->prepare);
    if (!w->damaged_lsn && !atomic_load(&w->failed)) {
        wal_mark_store_both(&w->mark, w->last_lsn);
        (void)!wal_mark_sync(&w->mark); /* an aid for the next open, true or older: nobody waits for the outcome */
    }
    free_wal(w);
}
