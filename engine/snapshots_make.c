/* snapshots_make.c - see snapshots.h: the thread that makes them.
 *
 * A snapshot is made in one go from where the one before ends, or in several when the log behind it is long: what
 * changed is kept in memory while it is merged (changes.h), so a step ends when that has step_bytes, at the LSN where
 * it is then, and the next one follows at once. Each step copies the snapshot before it, so the larger that is the more
 * a step takes: an eighth of it, cfg.step_bytes at least, and never more than 64 MiB. A node that was without snapshots
 * for long so needs no more memory than one that makes them all the time.
 *
 * What the thread may wait for: the disk; the HSM, for a signature; its own pace. Everything else that wants to know
 * something of it takes the lock, which is never held across any of these.
 *
 * Rejected: making the next snapshot while the last one is still being written (it would have to be read to be made
 * from); a snapshot for each commit group "in place" (what is served from a file must not change under its readers).
 */
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "engine/changes.h"
#include "engine/snapmerge.h"
#include "engine/snapshots_impl.h"

#define NICE 10 /* beside traffic that wants all processors it has a tenth of one */
#define TICK_MS 1000
#define SOON_MS 50
#define RETRY_MS 30000
#define REST 4
#define STEP_SHARE 8 /* of the snapshot that is copied */
#define STEP_MAX_BYTES ((size_t)64 << 20)

/* ---- making one ---- */

static int must_stop(struct snapshots *s)
{
    pthread_mutex_lock(&s->lock);
    int stop = s->stop;
    pthread_mutex_unlock(&s->lock);
    return stop;
}

/* Sleeps until the time, or until it must stop. Lock held. */
static void sleep_until(struct snapshots *s, uint64_t until_us)
{
    while (!s->stop && clock_mono_us() < until_us)
        clock_cond_wait(&s->wake, &s->lock, until_us);
}

static enum err pace(void *arg, uint64_t bytes)
{
    struct snapshots *s = arg;
    pthread_mutex_lock(&s->lock);
    s->info.making_bytes += bytes;
    if (s->cfg.bytes_per_s)
        sleep_until(s, clock_mono_us() + bytes * 1000000 / s->cfg.bytes_per_s);
    int stop = s->stop;
    pthread_mutex_unlock(&s->lock);
    return stop ? ERR_AGAIN : ERR_OK;
}

static int asked_to_stop(void *arg)
{
    return must_stop(arg);
}

static size_t step_bytes(const struct snapshots *s, uint64_t before_bytes)
{
    uint64_t share = before_bytes / STEP_SHARE;
    return share < s->cfg.step_bytes ? s->cfg.step_bytes : share < STEP_MAX_BYTES ? (size_t)share : STEP_MAX_BYTES;
}

/* Reads the log behind the snapshot into c, up to the record at `to`, or a step's worth. h says what the last record
 * was. */
static enum err gather(struct snapshots *s, const struct snapread_info *was, uint64_t to, struct changes *c,
                       struct snapfile_header *h)
{
    struct changes_stretch stretch = {.from = was->header.lsn + 1,
                                      .to = to,
                                      .memory_bytes = step_bytes(s, was->bytes),
                                      .stop = asked_to_stop,
                                      .arg = s};
    enum err e = changes_add_log(c, s->cfg.wal, &stretch);
    h->lsn = stretch.last.lsn;
    h->term = stretch.last.term;
    h->time_ms = stretch.last.time_ms;
    memcpy(h->chain, stretch.last.chain, sizeof h->chain);
    return e ? e : changes_sort(c);
}

static int has_room(struct snapshots *s, uint64_t bytes)
{
    return !s->cfg.has_room || s->cfg.has_room(s->cfg.arg, bytes);
}

/* Of the file being written. */
static enum err write_pace(void *arg, uint64_t bytes)
{
    return has_room(arg, 0) ? pace(arg, bytes) : ERR_MISCONF;
}

static void note_unreadable(struct snapshots *s)
{
    s->unreadable_ms = s->unreadable_ms ? s->unreadable_ms : clock_mono_ms();
}

/* What could not be read for so long will not be. */
static int out_of_patience(const struct snapshots *s)
{
    return s->unreadable_ms && clock_mono_ms() - s->unreadable_ms >= s->cfg.patience_ms;
}

static void writer_config(struct snapshots *s, struct snapwrite_config *cfg)
{
    *cfg = (struct snapwrite_config){.dir = s->dir,
                                     .sign = s->cfg.signer,
                                     .pace = write_pace,
                                     .pace_arg = s,
                                     .unreadable_is_lost = out_of_patience(s)};
    memcpy(cfg->header.cell_id, s->cfg.cell_id, sizeof cfg->header.cell_id);
}

static enum err make_from_log(struct snapshots *s, struct snapread *before, uint64_t to, struct snapwrite_config *cfg,
                              struct snapwrite_result *result)
{
    struct snapread_info was = {0};
    struct changes *c;

    *result = (struct snapwrite_result){0};
    if (before)
        snapread_info(before, &was);
    if (!has_room(s, was.bytes)) /* the next one is about as large */
        return ERR_MISCONF;
    writer_config(s, cfg);
    enum err e = changes_new(&c);
    if (!e) {
        e = gather(s, &was, to, c, &cfg->header);
        result->unreadable = e == ERR_IO;
    }
    if (!e)
        e = snapmerge_changes(cfg, before, c, s->cfg.wal, result);
    changes_free(c);
    return e;
}

static uint64_t lsn_of(const struct snapread *r)
{
    struct snapread_info i;
    snapread_info(r, &i);
    return i.header.lsn;
}

/* Something that was read to make one from does not verify, or cannot be read: 1 when it is in the snapshot, which is
 * set aside then. */
static int is_in_snapshot(struct snapshots *s, struct snapread *before)
{
    uint64_t block;
    enum err e = snapread_verify(before, pace, s, &block);
    if (e != ERR_CORRUPT && e != ERR_IO)
        return 0;
    snapshots_damaged(s, lsn_of(before));
    return 1;
}

/* From the newest that is good. An older one, and more of the log, have all that it has. ERR_END: there is one already,
 * made by a try that failed in its very last steps. */
static enum err make_from_good(struct snapshots *s, uint64_t to, struct snapwrite_config *cfg,
                               struct snapwrite_result *result)
{
    for (;;) {
        struct snapread *before;
        enum err e = snapshots_open_below(s, UINT64_MAX, &before);
        if (e && e != ERR_NOTFOUND)
            return e;
        if (before && lsn_of(before) >= to) {
            snapshots_set_newest(s, before);
            return ERR_END;
        }
        e = make_from_log(s, before, to, cfg, result);
        int again = (e == ERR_CORRUPT || result->unreadable) && before && is_in_snapshot(s, before);
        snapread_unref(before);
        if (!again)
            return e;
    }
}

static enum err make_from_stores(struct snapshots *s, struct snapwrite_config *cfg, struct snapwrite_result *result)
{
    struct snapread *before = snapshots_newest(s); /* with damage, too: for old values */
    struct snapmerge_view *view = NULL;
    struct record r;
    struct buf raw;
    uint64_t lsn;
    size_t used;

    buf_init(&raw, RECORD_MAX_BYTES);
    writer_config(s, cfg);
    enum err e = s->cfg.view(s->cfg.arg, &view, &lsn);
    if (!e)
        e = wal_read(s->cfg.wal, lsn, &raw);
    if (!e)
        e = record_get(buf_bytes(&raw), &r, &used);
    if (!e) {
        cfg->header.lsn = r.lsn;
        cfg->header.term = r.term;
        cfg->header.time_ms = r.time_ms;
        memcpy(cfg->header.chain, r.chain, sizeof r.chain);
        e = snapmerge_stores(cfg, before, view, s->cfg.wal, result);
    }
    snapmerge_view_free(view);
    snapread_unref(before);
    buf_fini(&raw);
    return e;
}

static void note_lost(struct snapshots *s, uint64_t values)
{
    if (!values)
        return;
    pthread_mutex_lock(&s->lock);
    s->info.lost += values;
    pthread_mutex_unlock(&s->lock);
    snapshots_say(s, LOG_WARNING,
                  "%llu old values are lost: neither the log nor a snapshot has them. They are answered CORRUPT",
                  (unsigned long long)values);
}

/* Old values are not in the stores: before these are all that is left, one from elsewhere. While nobody knows whether
 * there is one it is waited for, as for what cannot be read. */
static enum err make_from_elsewhere(struct snapshots *s, uint64_t to, struct snapwrite_config *cfg,
                                    struct snapwrite_result *result)
{
    enum err e = s->cfg.fetch ? s->cfg.fetch(s->cfg.arg) : ERR_NOTFOUND;
    if (!e)
        return make_from_good(s, to, cfg, result);
    if (e != ERR_NOTFOUND && e != ERR_AGAIN) {
        note_unreadable(s);
        e = out_of_patience(s) ? ERR_NOTFOUND : e;
    }
    return e;
}

/* The next snapshot, at to or on the way there. */
static enum err make_one(struct snapshots *s, uint64_t to)
{
    struct snapwrite_result result = {0};
    struct snapwrite_config cfg;
    struct snapread *made;

    enum err e = make_from_good(s, to, &cfg, &result);
    if (e == ERR_IO && result.unreadable) {
        note_unreadable(s);
        e = out_of_patience(s) ? ERR_CORRUPT : e;
    }
    int damage = e == ERR_CORRUPT;
    if (damage || e == ERR_NOTFOUND)
        e = make_from_elsewhere(s, to, &cfg, &result);
    if ((e == ERR_CORRUPT || e == ERR_NOTFOUND) && s->cfg.view) {
        snapshots_say(s, LOG_WARNING, "the log %s, and no snapshot reaches over that: one is made from the stores",
                      damage || e == ERR_CORRUPT ? "has damage" : "begins in the middle");
        e = make_from_stores(s, &cfg, &result);
    }
    if (e)
        return e == ERR_END ? ERR_OK : e;
    struct snapshots_file f = {.lsn = cfg.header.lsn, .term = cfg.header.term};
    e = snapshots_look(s);
    if (!e)
        e = snapshots_open_noted(s, &f, &made);
    if (e)
        return e;
    snapshots_set_newest(s, made);
    snapshots_mark(s, f.lsn, SNAPSHOT_WHOLE); /* it was read back when it was made */
    note_lost(s, result.lost);
    return ERR_OK;
}

/* ---- what may go ---- */

static void delete_old(struct snapshots *s)
{
    struct snapshots_file files[SNAPSHOTS_FILES_MAX];
    char path[SNAPSHOTS_PATH_BYTES];
    unsigned n = snapshots_list(s, files, SNAPSHOTS_FILES_MAX), whole = 0;
    enum err e = ERR_OK;

    pthread_mutex_lock(&s->lock);
    unsigned keep = s->cfg.keep;
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < n && i < SNAPSHOTS_FILES_MAX && !e; i++) {
        if (whole < keep) {
            whole += files[i].verified > SNAPSHOT_UNKNOWN;
            continue;
        }
        snapshots_path(s, files[i].lsn, files[i].term, path);
        e = file_unlink(path);
    }
    if (e)
        snapshots_say(s, LOG_WARNING, "an old snapshot cannot be deleted: %s", err_text(e));
    (void)!snapshots_look(s); /* the next time shows what this one did not */
}

/* LSN of the n-th newest snapshot that is whole, n from 1; 0: there are not so many. */
static uint64_t whole_lsn(struct snapshots *s, unsigned n)
{
    uint64_t lsn = 0;
    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < s->files && !lsn; i++)
        if (s->file[i].verified == SNAPSHOT_WHOLE && --n == 0)
            lsn = s->file[i].lsn;
    pthread_mutex_unlock(&s->lock);
    return lsn;
}

/* What may go of the log: what two snapshots have. And what one has, up to damage in it: nothing older than that
 * snapshot leads over the damage, so the second way back is gone already. */
static uint64_t useless_log(struct snapshots *s)
{
    uint64_t lsn = whole_lsn(s, 2), newest = whole_lsn(s, 1);
    pthread_mutex_lock(&s->lock);
    uint64_t damaged = s->damaged_log_lsn;
    pthread_mutex_unlock(&s->lock);
    return damaged > lsn && damaged <= newest ? damaged : lsn;
}

static void note_trimmed(struct snapshots *s)
{
    struct wal_info w;
    wal_info(s->cfg.wal, &w);
    pthread_mutex_lock(&s->lock);
    if (w.first_lsn > s->damaged_log_lsn)
        s->damaged_log_lsn = 0;
    pthread_mutex_unlock(&s->lock);
}

static void trim_log(struct snapshots *s)
{
    uint64_t below = useless_log(s) + 1, needed = s->cfg.needed_lsn ? s->cfg.needed_lsn(s->cfg.arg) : below;
    if (below > needed)
        below = needed;
    enum err e = below > 1 ? wal_remove_below(s->cfg.wal, below) : ERR_OK;
    if (e)
        snapshots_say(s, LOG_WARNING, "segments of the log below LSN %llu cannot be deleted: %s",
                      (unsigned long long)below, err_text(e));
    note_trimmed(s);
}

/* ---- the thread ---- */

static const char *why_not(enum err e)
{
    return e == ERR_MISCONF ? "too little of the disk is free" : err_text(e);
}

static void note_made(struct snapshots *s, uint64_t took_ms)
{
    struct wal_info w;
    wal_info(s->cfg.wal, &w);
    pthread_mutex_lock(&s->lock);
    s->unreadable_ms = 0;
    s->info.made++;
    s->info.last_ms = took_ms;
    s->info.err = ERR_OK;
    s->info.why[0] = '\0';
    s->made_ms = clock_mono_ms();
    s->appended = w.appended_bytes;
    s->behind_bytes = 0;
    struct snapshots_info i = s->info;
    pthread_mutex_unlock(&s->lock);
    snapshots_say(s, LOG_NOTICE, "Snapshot at LSN %llu: %llu entries, %llu bytes, %llu ms", (unsigned long long)i.lsn,
                  (unsigned long long)i.entries, (unsigned long long)i.bytes, (unsigned long long)took_ms);
}

static void note_failed(struct snapshots *s, enum err e)
{
    pthread_mutex_lock(&s->lock);
    int first = s->info.err != e;
    s->info.failed++;
    s->info.err = e;
    snprintf(s->info.why, sizeof s->info.why, "%s", why_not(e));
    s->retry_ms = clock_mono_ms() + RETRY_MS;
    pthread_mutex_unlock(&s->lock);
    if (first)
        snapshots_say(s, LOG_WARNING, "A snapshot could not be made and will be tried again: %s", why_not(e));
}

/* Who waits since before the try that begins: its failure is theirs, and not of those who come meanwhile. Lock held. */
static void note_tried(struct snapshots *s)
{
    for (struct snapshots_wait *w = s->waits; w; w = w->next)
        w->tried = 1;
}

/* Answers those who wait for an LSN that is reached, or those with an error whose try it was. */
static void answer_waits(struct snapshots *s, enum err e)
{
    struct snapshots_wait *ready = NULL;
    pthread_mutex_lock(&s->lock);
    for (struct snapshots_wait **at = &s->waits; *at;) {
        struct snapshots_wait *w = *at;
        if (e ? !w->tried && !s->stop : snapshots_good_lsn(s) < w->lsn) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = ready;
        w->err = e;
        w->lsn = e ? w->lsn : s->info.lsn;
        snprintf(w->why, sizeof w->why, "%s", e ? why_not(e) : "");
        ready = w;
    }
    pthread_mutex_unlock(&s->lock);
    while (ready) {
        struct snapshots_wait *next = ready->next;
        ready->done(ready);
        ready = next;
    }
}

/* Up to the commit LSN as it is now. */
static void make(struct snapshots *s)
{
    uint64_t to = s->cfg.commit_lsn(s->cfg.arg), begun = clock_mono_ms(), begun_wall = clock_wall_ms();
    enum err e = ERR_OK;

    pthread_mutex_lock(&s->lock);
    s->info.making = 1;
    s->info.making_bytes = 0;
    note_tried(s);
    int known = s->newest || s->files == 0;
    uint64_t lsn = snapshots_good_lsn(s);
    pthread_mutex_unlock(&s->lock);
    if (!known) {
        e = snapshots_find_newest(s); /* the HSM did not answer before */
        e = e == ERR_NOTFOUND ? ERR_OK : e;
    }
    unsigned steps = 0;
    for (; !e && lsn < to; steps++) {
        e = make_one(s, to);
        if (!e)
            delete_old(s); /* or those of all steps would lie there */
        pthread_mutex_lock(&s->lock);
        lsn = snapshots_good_lsn(s);
        pthread_mutex_unlock(&s->lock);
    }
    pthread_mutex_lock(&s->lock);
    s->info.making = 0;
    s->info.saved_ms = e ? s->info.saved_ms : begun_wall;
    pthread_mutex_unlock(&s->lock);
    if (e && e != ERR_AGAIN)
        note_failed(s, e);
    if (!e && steps)
        note_made(s, clock_mono_ms() - begun);
    if (!e) {
        delete_old(s);
        trim_log(s);
    }
    answer_waits(s, e);
}

/* Lock held. Has the log grown by so much that a snapshot is worth while? Under writes without end the thread rests for
 * a few times as long as the last one took: what is overwritten meanwhile is never copied. The log pays for it, within
 * bounds. */
static int grown_enough(struct snapshots *s, uint64_t grown, uint64_t now)
{
    uint64_t enough = s->cfg.log_bytes > s->info.bytes ? s->cfg.log_bytes : s->info.bytes;
    if (!s->cfg.log_bytes || grown < enough)
        return 0;
    return now - s->made_ms >= REST * s->info.last_ms || grown >= REST * enough || !has_room(s, 2 * enough);
}

/* Lock held. */
static int due(struct snapshots *s)
{
    struct wal_info w;
    uint64_t now = clock_mono_ms();
    if (s->waits)
        return 1;
    if (s->info.err && now < s->retry_ms)
        return 0;
    uint64_t good = snapshots_good_lsn(s);
    if (s->newest && !good)
        return 1;
    if (good < s->damaged_log_lsn && s->cfg.commit_lsn(s->cfg.arg) >= s->damaged_log_lsn)
        return 1; /* a log may go on beyond what is committed */
    wal_info(s->cfg.wal, &w);
    return grown_enough(s, w.appended_bytes - s->appended + s->behind_bytes, now) ||
           (s->cfg.interval_ms && now - s->made_ms >= s->cfg.interval_ms && w.last_lsn > s->info.lsn);
}

/* What was found at the start: two that are whole, so that the log may be trimmed before two new ones are made. */
static void verify_found(struct snapshots *s)
{
    struct snapshots_file files[SNAPSHOTS_FILES_MAX];
    unsigned n = snapshots_list(s, files, SNAPSHOTS_FILES_MAX), whole = 0;
    for (unsigned i = 0; i < n && i < SNAPSHOTS_FILES_MAX && whole < 2 && !must_stop(s); i++) {
        struct snapread *r;
        uint64_t bad;
        if (files[i].verified == SNAPSHOT_BAD || snapshots_open_noted(s, &files[i], &r))
            continue;
        enum err e = snapread_verify(r, pace, s, &bad);
        snapread_unref(r);
        if (e == ERR_OK) {
            whole++;
            snapshots_mark(s, files[i].lsn, SNAPSHOT_WHOLE);
        }
        if (e == ERR_CORRUPT)
            snapshots_damaged(s, files[i].lsn);
    }
}

static void *snapshots_main(void *arg)
{
    struct snapshots *s = arg;
    pthread_setname_np(pthread_self(), "coffer-snap");
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE); /* of this thread alone; where it is refused, it is fairer */
    verify_found(s);
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        if (due(s)) {
            pthread_mutex_unlock(&s->lock);
            make(s);
            pthread_mutex_lock(&s->lock);
            continue;
        }
        if (s->damaged_log_lsn) { /* the stores' checkpoints are not there yet */
            pthread_mutex_unlock(&s->lock);
            trim_log(s);
            pthread_mutex_lock(&s->lock);
        }
        if (!s->stop && !s->waits)
            clock_cond_wait(&s->wake, &s->lock, clock_mono_us() + (s->damaged_log_lsn ? SOON_MS : TICK_MS) * 1000);
    }
    pthread_mutex_unlock(&s->lock);
    answer_waits(s, ERR_AGAIN);
    return NULL;
}

void snapshots_demand(struct snapshots *s, struct snapshots_wait *w)
{
    pthread_mutex_lock(&s->lock);
    int stopped = s->stop;
    if (!stopped) {
        w->tried = 0;
        w->next = s->waits;
        s->waits = w;
        pthread_cond_signal(&s->wake);
    }
    pthread_mutex_unlock(&s->lock);
    if (!stopped)
        return;
    w->err = ERR_AGAIN;
    snprintf(w->why, sizeof w->why, "%s", why_not(ERR_AGAIN));
    w->done(w);
}

/* How much of the log lies behind the newest one: by the share of its records. */
static void estimate_behind(struct snapshots *s)
{
    struct wal_info w;
    wal_info(s->cfg.wal, &w);
    uint64_t all = w.first_lsn ? w.last_lsn - w.first_lsn + 1 : 0,
             behind = w.last_lsn > s->info.lsn ? w.last_lsn - s->info.lsn : 0;
    s->appended = w.appended_bytes;
    s->behind_bytes = all ? (uint64_t)((double)w.bytes * (double)(behind < all ? behind : all) / (double)all) : 0;
}

enum err snapshots_start(struct snapshots *s)
{
    estimate_behind(s);
    if (pthread_create(&s->thread, NULL, snapshots_main, s) != 0)
        return ERR_OOM;
    s->started = 1;
    return ERR_OK;
}

void snapshots_end(struct snapshots *s)
{
    pthread_mutex_lock(&s->lock);
    s->stop = 1;
    pthread_cond_broadcast(&s->wake);
    pthread_mutex_unlock(&s->lock);
    if (s->started)
        pthread_join(s->thread, NULL);
    s->started = 0;
}
