/* wal_scan.c - see wal_scan.h.
 *
 * A segment: its header, then frames as long as each verifies wholly (header, then every record's length, CRC, LSN and
 * chain), then perhaps a footer. What follows is the rest: looked through to its end for bytes that are not zero, and
 * for frame headers that verify, because those tell what was durable when they were written.
 *
 * SHA-256 over all of it is what a scan costs, so segments are shared out to threads: a segment's header carries the
 * chain before it, and wal_scan_judge compares that with the end of the one before. A thread that cannot be had is done
 * without.
 *
 * Failures: an error of the disk (also of the fdatasync that comes before reading) ends the scan: the start is refused
 * rather than a log judged that could not be read. Anything that was read and does not verify is kept for the judge.
 *
 * Rejected: to keep the leading records of a torn group (its header counts all of them and would have to be rewritten
 * in place, beside records that were acknowledged; nobody was promised any record of it); to look at headers alone when
 * only the ends are looked at (a segment that was cut short would be found when its last record is asked for).
 */
#include "engine/wal_scan.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

#define MAX_THREADS 8
#define REST_BYTES (64u << 10)

static enum err scan_header(struct wal_window *win, struct wal_scan *s)
{
    const uint8_t *p;
    enum err e = wal_window_get(win, 0, WAL_HEADER_BYTES, s->file_bytes, &p);
    if (e && e != ERR_END)
        return e;
    s->header_err = e ? ERR_CORRUPT : wal_segment_get_header(p, &s->header);
    if (s->header_err)
        return ERR_OK;
    s->last_lsn = s->part_lsn = s->header.first_lsn - 1;
    s->end_off = s->part_off = s->rest_off = WAL_HEADER_BYTES;
    memcpy(s->chain, s->header.chain, RECORD_CHAIN_BYTES);
    memcpy(s->part_chain, s->header.chain, RECORD_CHAIN_BYTES);
    return ERR_OK;
}

/* The records of the frame at part_off, none of them beyond end. ERR_CORRUPT: part_* stand where the first bad one
 * begins. */
static enum err scan_records(struct wal_window *win, struct wal_scan *s, uint32_t records, uint64_t end)
{
    struct record r;
    struct bytes raw;

    s->part_off += WAL_FRAME_BYTES;
    for (uint32_t i = 0; i < records; i++) {
        enum err e = wal_window_record(win, s->part_off, end, s->part_lsn + 1, s->part_chain, &r, &raw);
        if (!e)
            e = wal_terms_reserve(&s->terms, 1);
        if (e)
            return e;
        s->part_lsn++;
        wal_places_note(&s->places, s->part_lsn, s->part_off, s->end_off);
        s->part_off += raw.n;
        memcpy(s->part_chain, r.chain, RECORD_CHAIN_BYTES);
        wal_terms_add(&s->terms, r.lsn, r.term);
    }
    return ERR_OK;
}

/* ERR_CORRUPT: no further group; whatever is there belongs to the rest. */
static enum err scan_group(struct wal_window *win, struct wal_scan *s, uint32_t seed)
{
    const uint8_t *p;
    struct wal_frame f;
    enum err e = wal_window_get(win, s->end_off, WAL_FRAME_BYTES, s->file_bytes, &p);
    if (e)
        return e == ERR_END ? ERR_CORRUPT : e;
    e = wal_segment_get_frame(p, seed, &f);
    if (e)
        return e;
    if (s->synced_lsn < f.synced_lsn)
        s->synced_lsn = f.synced_lsn;
    uint64_t end = s->end_off + WAL_FRAME_BYTES + f.bytes;
    e = scan_records(win, s, f.records, end < s->file_bytes ? end : s->file_bytes);
    if (!e && s->part_off != end)
        e = ERR_CORRUPT;
    if (e)
        return e;
    s->records += f.records;
    s->last_lsn = s->part_lsn;
    s->end_off = s->rest_off = end;
    memcpy(s->chain, s->part_chain, RECORD_CHAIN_BYTES);
    return ERR_OK;
}

static enum err scan_footer(struct wal_window *win, struct wal_scan *s, uint32_t seed)
{
    const uint8_t *p;
    struct wal_footer f;
    enum err e = wal_window_get(win, s->end_off, WAL_FOOTER_BYTES, s->file_bytes, &p);
    if (e)
        return e == ERR_END ? ERR_OK : e;
    if (wal_segment_get_footer(p, seed, &f) || f.records != s->records || f.last_lsn != s->last_lsn ||
        memcmp(f.chain, s->chain, RECORD_CHAIN_BYTES) != 0)
        return ERR_OK;
    s->sealed = 1;
    s->rest_off = s->end_off + WAL_FOOTER_BYTES;
    return ERR_OK;
}

static size_t length_without_zeros(const uint8_t *p, size_t n)
{
    if (n && p[0] == 0 && memcmp(p, p + 1, n - 1) == 0) /* the usual case, at the speed of memcmp */
        return 0;
    while (n && p[n - 1] == 0)
        n--;
    return n;
}

/* Everything in a segment begins at a multiple of 8. p holds n bytes, and behind them the rest of a header that begins
 * there. */
static void find_frames(struct wal_scan *s, uint32_t seed, const uint8_t *p, size_t n)
{
    struct wal_frame f;
    for (size_t i = 0; i < n; i += 8)
        if (wal_segment_get_frame(p + i, seed, &f) == ERR_OK && f.synced_lsn > s->synced_lsn)
            s->synced_lsn = f.synced_lsn;
}

static enum err scan_rest(struct wal_window *win, struct wal_scan *s, uint32_t seed)
{
    for (uint64_t off = s->rest_off; off < s->file_bytes;) {
        const uint8_t *p;
        uint64_t left = s->file_bytes - off;
        size_t n = left < REST_BYTES ? (size_t)left : REST_BYTES;
        size_t ahead = left - n < WAL_FRAME_BYTES ? (size_t)(left - n) : WAL_FRAME_BYTES;
        enum err e = wal_window_get(win, off, n + ahead, s->file_bytes, &p);
        if (e)
            return e == ERR_END ? ERR_IO : e; /* shorter than it was a moment ago: somebody else is writing here */
        size_t used = length_without_zeros(p, n);
        if (used) {
            s->rest_bytes = off + used - s->rest_off;
            size_t whole = n + ahead >= WAL_FRAME_BYTES ? n + ahead - WAL_FRAME_BYTES + 1 : 0;
            find_frames(s, seed, p, used < whole ? used : whole);
        }
        off += n;
    }
    return ERR_OK;
}

/* A sealed segment as its header and its footer describe it. ERR_CORRUPT: they do not, or do not fit each other. */
static enum err scan_ends(struct wal_scan *s, int fd)
{
    struct wal_window win;
    struct wal_footer f;
    const uint8_t *p;

    wal_window_init(&win, fd);
    enum err e = file_size(fd, &s->file_bytes);
    if (!e)
        e = scan_header(&win, s);
    if (!e && (s->header_err || s->file_bytes < WAL_HEADER_BYTES + WAL_FOOTER_BYTES))
        e = ERR_CORRUPT;
    if (!e)
        e = wal_window_get(&win, s->file_bytes - WAL_FOOTER_BYTES, WAL_FOOTER_BYTES, s->file_bytes, &p);
    if (!e)
        e = wal_segment_get_footer(p, wal_segment_seed(s->header.salt), &f);
    if (!e && (f.records == 0 || f.last_lsn != s->header.first_lsn + f.records - 1))
        e = ERR_CORRUPT;
    wal_window_fini(&win);
    if (e)
        return e;
    s->ends_only = s->sealed = 1;
    s->records = f.records;
    s->last_lsn = s->part_lsn = f.last_lsn;
    s->end_off = s->part_off = s->file_bytes - WAL_FOOTER_BYTES;
    s->rest_off = s->file_bytes;
    memcpy(s->chain, f.chain, RECORD_CHAIN_BYTES);
    memcpy(s->part_chain, f.chain, RECORD_CHAIN_BYTES);
    return ERR_OK;
}

void wal_scan_free(struct wal_scan *s)
{
    wal_terms_fini(&s->terms);
    wal_places_fini(&s->places);
}

enum err wal_scan_file(struct wal_scan *s, int fd, uint64_t name_lsn, enum err (*pace)(void *arg, uint64_t bytes),
                       void *pace_arg)
{
    struct wal_window win;

    *s = (struct wal_scan){.name_lsn = name_lsn, .header_err = ERR_CORRUPT};
    wal_window_init(&win, fd);
    win.pace = pace;
    win.pace_arg = pace_arg;
    enum err e = file_size(fd, &s->file_bytes);
    if (!e)
        e = scan_header(&win, s);
    if (e || s->header_err)
        goto out;
    uint32_t seed = wal_segment_seed(s->header.salt);
    do
        e = scan_group(&win, s, seed);
    while (!e);
    if (e == ERR_CORRUPT)
        e = scan_footer(&win, s, seed);
    if (!e)
        e = scan_rest(&win, s, seed);
out:
    wal_window_fini(&win);
    if (e)
        wal_scan_free(s);
    return e;
}

static enum err open_segment(const char *dir, uint64_t lsn, int *fd)
{
    char path[PATH_MAX], name[WAL_NAME_BYTES];

    *fd = -1;
    wal_segment_name(name, lsn);
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return ERR_IO;
    return file_open(path, O_RDONLY, 0, fd);
}

static enum err scan_whole(struct wal_scan *s, int fd, uint64_t name_lsn)
{
    enum err e = file_fdatasync(fd);
    if (e)
        return e;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* advice: after the sync nothing holds a page back */
    return wal_scan_file(s, fd, name_lsn, NULL, NULL);
}

static enum err scan_path(struct wal_scan *s, const char *dir)
{
    uint64_t lsn = s->name_lsn;
    int fd;

    enum err e = open_segment(dir, lsn, &fd);
    if (!e)
        e = scan_whole(s, fd, lsn);
    enum err closed = file_close(fd);
    if (!e && closed)
        wal_scan_free(s);
    return e ? e : closed;
}

/* When its ends do not tell, it is read whole: that says what is wrong with it. */
static enum err scan_ends_at(struct wal_scan *s, const char *dir)
{
    uint64_t lsn = s->name_lsn;
    int fd;

    enum err e = open_segment(dir, lsn, &fd);
    if (!e)
        e = scan_ends(s, fd);
    if (e == ERR_CORRUPT || e == ERR_END)
        e = scan_whole(s, fd, lsn);
    enum err closed = file_close(fd);
    if (!e && closed)
        wal_scan_free(s);
    return e ? e : closed;
}

struct crew {
    struct wal_scan_set *set;
    const char *dir;
    size_t ends; /* so many of the first by their ends */
    _Atomic size_t next;
    _Atomic int err; /* of the first that failed */
};

static void *scan_some(void *arg)
{
    struct crew *c = arg;
    while (atomic_load(&c->err) == ERR_OK) {
        size_t i = atomic_fetch_add(&c->next, 1);
        if (i >= c->set->count)
            break;
        struct wal_scan *s = &c->set->at[i];
        enum err e = i < c->ends ? scan_ends_at(s, c->dir) : scan_path(s, c->dir);
        if (e)
            atomic_store(&c->err, (int)e);
    }
    return NULL;
}

static enum err scan_all(struct wal_scan_set *set, const char *dir, int ends)
{
    struct crew crew = {.set = set, .dir = dir, .ends = ends && set->count > 2 ? set->count - 2 : 0};
    pthread_t threads[MAX_THREADS];
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    size_t want = set->count < MAX_THREADS ? set->count : MAX_THREADS, started = 0;

    if (cpus > 0 && (size_t)cpus < want)
        want = (size_t)cpus;
    while (started + 1 < want && pthread_create(&threads[started], NULL, scan_some, &crew) == 0)
        started++;
    scan_some(&crew);
    while (started)
        pthread_join(threads[--started], NULL);
    return (enum err)crew.err;
}

/* Names sort as their LSNs do: file_list sorts, and all have 20 digits. */
enum err wal_scan_dir(struct wal_scan_set *set, const char *dir, int ends)
{
    char **names;
    size_t n;

    *set = (struct wal_scan_set){0};
    enum err e = file_list(dir, &names, &n);
    if (e)
        return e;
    set->at = mem_zalloc((n + 1) * sizeof *set->at);
    if (!set->at)
        e = ERR_OOM;
    for (size_t i = 0; !e && i < n; i++) {
        uint64_t lsn;
        if (wal_segment_parse_name(names[i], &lsn))
            set->at[set->count++].name_lsn = lsn;
    }
    file_free_names(names, n);
    if (!e)
        e = scan_all(set, dir, ends);
    if (e)
        wal_scan_fini(set);
    return e;
}

void wal_scan_fini(struct wal_scan_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        wal_scan_free(&set->at[i]);
    mem_free(set->at);
    *set = (struct wal_scan_set){0};
}

static enum err judge_origin(const struct wal_scan_set *set, const struct wal_evidence *known, struct wal_verdict *v)
{
    for (v->where = 0; v->where < set->count; v->where++) {
        const struct wal_scan *s = &set->at[v->where];
        if (s->header_err == ERR_UNSUPPORTED)
            v->why = "a format that this version does not know";
        else if (s->header_err == ERR_OK && memcmp(s->header.cell_id, known->cell_id, 16) != 0)
            v->why = "a segment of another cell";
        if (v->why)
            return ERR_CORRUPT;
    }
    v->where = 0;
    return ERR_OK;
}

static uint64_t highest_evidence(const struct wal_scan_set *set, uint64_t lsn)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct wal_scan *s = &set->at[i];
        if (s->header_err || s->header.first_lsn != s->name_lsn)
            continue;
        if (i > 0 && lsn < s->header.first_lsn - 1)
            lsn = s->header.first_lsn - 1;
        if (lsn < s->synced_lsn)
            lsn = s->synced_lsn;
    }
    return lsn;
}

/* What is wrong with segment i, when the log so far ends at v's last LSN and chain; NULL: nothing, it goes on. */
static const char *judge_segment(const struct wal_scan_set *set, size_t i, const struct wal_verdict *v)
{
    const struct wal_scan *s = &set->at[i];
    int last = i + 1 == set->count;

    if (s->header_err)
        return "a segment's header does not verify";
    if (s->header.first_lsn != s->name_lsn)
        return "a segment under another's name";
    if (s->header.first_lsn != v->last_lsn + 1)
        return s->header.first_lsn > v->last_lsn ? "a segment is missing" : "two segments overlap";
    if (memcmp(s->header.chain, v->chain, RECORD_CHAIN_BYTES) != 0)
        return "a segment does not chain from the one before";
    if (!last && (!s->sealed || s->rest_bytes))
        return s->part_lsn + 1 < set->at[i + 1].name_lsn ? "a record does not verify" : "a footer does not verify";
    if (last && v->mark_lsn > s->last_lsn)
        return s->rest_bytes ? "a record known durable does not verify" : "records known durable are missing";
    return NULL;
}

/* The log ends with the records of s that verify; whole: only those of whole groups. */
static void take_segment(struct wal_verdict *v, const struct wal_scan *s, int whole)
{
    v->last_lsn = whole ? s->last_lsn : s->part_lsn;
    v->end_off = whole ? s->end_off : s->part_off;
    memcpy(v->chain, whole ? s->chain : s->part_chain, RECORD_CHAIN_BYTES);
    if (v->first_lsn == 0 && v->last_lsn >= s->header.first_lsn)
        v->first_lsn = s->header.first_lsn;
}

/* 1 when what is wrong with the segment lies behind its beginning: the records that verify are of this log. */
static int begins_well(const struct wal_scan *s, const struct wal_verdict *v)
{
    return !s->header_err && s->header.first_lsn == s->name_lsn && s->header.first_lsn == v->last_lsn + 1 &&
           memcmp(s->header.chain, v->chain, RECORD_CHAIN_BYTES) == 0;
}

enum err wal_scan_judge(const struct wal_scan_set *set, const struct wal_evidence *known, struct wal_verdict *v)
{
    *v = (struct wal_verdict){.last_lsn = known->base_lsn};
    memcpy(v->chain, known->base_chain, RECORD_CHAIN_BYTES);
    enum err e = judge_origin(set, known, v);
    if (e)
        return e;
    v->mark_lsn = highest_evidence(set, known->known_lsn);
    if (set->count == 0) {
        if (v->mark_lsn > v->last_lsn) {
            v->damaged_lsn = v->last_lsn + 1;
            v->why = "records known durable are missing";
        }
        return ERR_OK;
    }
    /* Where the first begins is for the owner to judge: older ones may have been deleted. */
    v->last_lsn = set->at[0].name_lsn - 1;
    if (set->at[0].name_lsn > 1)
        memcpy(v->chain, set->at[0].header.chain, RECORD_CHAIN_BYTES);
    else
        memset(v->chain, 0, RECORD_CHAIN_BYTES);
    for (v->where = 0; v->where < set->count; v->where++) {
        const struct wal_scan *s = &set->at[v->where];
        v->why = judge_segment(set, v->where, v);
        if (v->why) {
            if (begins_well(s, v)) {
                take_segment(v, s, 0);
                v->usable++;
            }
            v->damaged_lsn = v->last_lsn + 1;
            return ERR_OK;
        }
        take_segment(v, s, 1);
        v->usable++;
    }
    v->torn_bytes = set->at[set->count - 1].rest_bytes;
    return ERR_OK;
}
