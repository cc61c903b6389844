/* upload.c - see upload.h. A round is one way from CHOOSING back to IDLE, by `states` and `upload_next`. It has a
 * connection of its own, so that credentials that were changed count from the next round on.
 */
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/upload_impl.h"

#define NICE 10 /* as snapshots_make.c */
#define TICK_MS 1000
#define RETRY_MS 30000
#define RETRY_MAX_MS 600000

const char *upload_state_name(enum upload_state s)
{
    static const char *const name[] = {"idle", "choosing", "beginning", "sending", "marking", "tidying"};
    return name[s];
}

enum upload_state upload_next(enum upload_state s, enum upload_outcome o)
{
    static const enum upload_state next[UPLOAD_STATES][UPLOAD_OUTCOMES] = {
        [UPLOAD_IDLE] = {[UPLOAD_DONE] = UPLOAD_CHOOSING},
        [UPLOAD_CHOOSING] =
            {[UPLOAD_DONE] = UPLOAD_BEGINNING, [UPLOAD_RESUMED] = UPLOAD_SENDING, [UPLOAD_STORED] = UPLOAD_TIDYING},
        [UPLOAD_BEGINNING] = {[UPLOAD_DONE] = UPLOAD_SENDING},
        [UPLOAD_SENDING] = {[UPLOAD_DONE] = UPLOAD_MARKING, [UPLOAD_LOST] = UPLOAD_BEGINNING},
        [UPLOAD_MARKING] = {[UPLOAD_DONE] = UPLOAD_TIDYING},
        [UPLOAD_TIDYING] = {[UPLOAD_DONE] = UPLOAD_IDLE},
    };
    return next[s][o]; /* what is not there is IDLE */
}

void upload_say(struct upload *u, int level, const char *fmt, ...)
{
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    u->cfg.log(level, line);
}

static int must_stop(void *arg)
{
    struct upload *u = arg;
    return atomic_load(&u->stop) || (u->cfg.stopping && u->cfg.stopping(u->cfg.arg));
}

/* ---- a round ---- */

static enum upload_outcome idle(struct round *r)
{
    enum err e = bucket_open(&r->b, r->u->cfg.bucket, must_stop, r->u);
    r->err = e;
    return e ? UPLOAD_FAILED : UPLOAD_DONE;
}

static enum upload_outcome (*const states[UPLOAD_STATES])(struct round *r) = {
    [UPLOAD_IDLE] = idle,           [UPLOAD_CHOOSING] = upload_choose, [UPLOAD_BEGINNING] = upload_begin,
    [UPLOAD_SENDING] = upload_send, [UPLOAD_MARKING] = upload_mark,    [UPLOAD_TIDYING] = upload_tidy,
};

static void enter(struct upload *u, enum upload_state s)
{
    pthread_mutex_lock(&u->lock);
    u->info.state = s;
    pthread_mutex_unlock(&u->lock);
}

/* 1: the round has the answer. What went wrong at the store goes for all. r is NULL at the end. */
static int answers(const struct round *r, const struct upload_wait *w, enum err e)
{
    if (!r || (e && r->b.why != OBJSTORE_FINE))
        return 1;
    if (e)
        return w->lsn == r->want && w->exact == r->exact;
    return w->exact ? r->object.lsn == w->lsn : r->object.lsn >= w->lsn;
}

static void answer(struct upload_wait *w, const struct round *r, enum err e)
{
    snprintf(w->why, sizeof w->why, "%s", r ? r->b.text : "the server is stopping");
    if (!e) {
        w->lsn = r->object.lsn;
        w->bytes = r->bytes;
        e = snapobject_base(w->object, &r->object, SNAPOBJECT_SNAP);
    }
    w->err = e;
    w->done(w);
}

static void answer_waits(struct upload *u, const struct round *r, enum err e)
{
    struct upload_wait *ready = NULL;

    pthread_mutex_lock(&u->lock);
    for (struct upload_wait **at = &u->waits; *at;) {
        struct upload_wait *w = *at;
        if (!answers(r, w, e)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = ready;
        ready = w;
    }
    pthread_mutex_unlock(&u->lock);
    while (ready) {
        struct upload_wait *w = ready;
        ready = w->next;
        answer(w, r, e);
    }
}

static void note_failed(struct round *r)
{
    struct upload *u = r->u;
    const char *name = r->b.why == OBJSTORE_FINE ? "LOCAL" : objstore_why_name(r->b.why);

    pthread_mutex_lock(&u->lock);
    int first = strcmp(u->said, name) != 0;
    snprintf(u->said, sizeof u->said, "%s", name);
    u->info.failures++;
    u->info.error = name;
    snprintf(u->info.why, sizeof u->info.why, "%s", r->b.text);
    u->retry_after_ms = u->retry_after_ms ? 2 * u->retry_after_ms : RETRY_MS;
    if (u->retry_after_ms > RETRY_MAX_MS)
        u->retry_after_ms = RETRY_MAX_MS;
    u->retry_ms = clock_mono_ms() + u->retry_after_ms;
    pthread_mutex_unlock(&u->lock);
    if (first)
        upload_say(u, LOG_WARNING, "A snapshot could not be sent to the object store and will be tried again: %s",
                   r->b.text);
}

static void note_fine(struct upload *u)
{
    pthread_mutex_lock(&u->lock);
    u->said[0] = u->info.why[0] = '\0';
    u->info.error = "";
    u->retry_ms = u->retry_after_ms = 0;
    pthread_mutex_unlock(&u->lock);
}

static void note_stored(struct round *r)
{
    struct upload *u = r->u;
    pthread_mutex_lock(&u->lock);
    u->info.lsn = r->object.lsn;
    u->info.term = r->object.term;
    u->info.time_ms = clock_wall_ms();
    u->info.bytes = r->bytes;
    pthread_mutex_unlock(&u->lock);
    note_fine(u);
}

/* What others learn of a step. */
static void note(struct round *r, enum upload_state s, enum upload_outcome o)
{
    int stored = o == UPLOAD_STORED || (s == UPLOAD_MARKING && o == UPLOAD_DONE);

    if (stored)
        note_stored(r);
    int mistaken = r->demanded && r->err == ERR_NOTFOUND &&
                   r->b.why == OBJSTORE_FINE; /* who asked is told; nothing is wrong here */
    if (o == UPLOAD_FAILED && r->err != ERR_AGAIN && !mistaken)
        note_failed(r);
    if (stored || o == UPLOAD_FAILED)
        answer_waits(r->u, r, r->err);
}

static void run_round(struct round *r)
{
    struct upload *u = r->u;
    enum upload_state s = UPLOAD_IDLE;
    enum upload_outcome o;

    do {
        o = states[s](r);
        note(r, s, o);
        s = upload_next(s, o);
        enter(u, s);
    } while (s != UPLOAD_IDLE);
    if (o != UPLOAD_FAILED)
        note_fine(u);
    upload_close(r);
    bucket_close(&r->b);
    pthread_mutex_lock(&u->lock);
    u->info.removed += r->removed;
    u->info.going_lsn = u->info.total_bytes = 0;
    u->round_ms = clock_mono_ms();
    pthread_mutex_unlock(&u->lock);
}

/* ---- the thread ---- */

/* Lock held. */
static int due(struct upload *u, const struct upload_settings *set)
{
    uint64_t now = clock_mono_ms();
    if (u->waits)
        return 1;
    if (!set->interval_ms || now < u->retry_ms || !snapshots_list(u->cfg.snapshots, NULL, 0))
        return 0;
    return !u->round_ms || u->retry_ms || now - u->round_ms >= set->interval_ms;
}

static void *upload_main(void *arg)
{
    struct upload *u = arg;
    struct upload_settings set;

    pthread_setname_np(pthread_self(), "coffer-upload");
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE); /* of this thread alone */
    pthread_mutex_lock(&u->lock);
    while (!must_stop(u)) {
        u->cfg.settings(u->cfg.arg, &set);
        if (!due(u, &set)) {
            clock_cond_wait(&u->wake, &u->lock, clock_mono_us() + TICK_MS * 1000);
            continue;
        }
        struct round r = {.u = u, .set = set, .demanded = u->waits != NULL};
        if (u->waits) {
            r.want = u->waits->lsn;
            r.exact = u->waits->exact;
        }
        pthread_mutex_unlock(&u->lock);
        run_round(&r);
        pthread_mutex_lock(&u->lock);
    }
    u->ended = 1;
    pthread_mutex_unlock(&u->lock);
    answer_waits(u, NULL, ERR_AGAIN);
    return NULL;
}

enum err upload_start(struct upload **out, const struct upload_config *cfg)
{
    size_t n = strlen(cfg->dir) + 1;
    struct upload *u = *out = mem_zalloc(sizeof *u);

    if (!u)
        return ERR_OOM;
    u->cfg = *cfg;
    u->info.error = "";
    pthread_mutex_init(&u->lock, NULL);
    clock_cond_init(&u->wake);
    enum err e = (u->dir = mem_alloc(n)) ? ERR_OK : ERR_OOM;
    if (!e)
        memcpy(u->dir, cfg->dir, n);
    if (!e && pthread_create(&u->thread, NULL, upload_main, u) != 0)
        e = ERR_OOM;
    u->started = !e;
    if (e) {
        upload_free(u);
        *out = NULL;
    }
    return e;
}

void upload_end(struct upload *u)
{
    if (!u)
        return;
    pthread_mutex_lock(&u->lock);
    atomic_store(&u->stop, 1);
    pthread_cond_broadcast(&u->wake);
    pthread_mutex_unlock(&u->lock);
    if (u->started)
        pthread_join(u->thread, NULL);
    u->started = 0;
}

void upload_free(struct upload *u)
{
    if (!u)
        return;
    upload_end(u);
    pthread_cond_destroy(&u->wake);
    pthread_mutex_destroy(&u->lock);
    mem_free(u->dir);
    mem_free(u);
}

void upload_demand(struct upload *u, struct upload_wait *w)
{
    pthread_mutex_lock(&u->lock);
    int ended = u->ended;
    if (!ended) {
        w->next = u->waits;
        u->waits = w;
        pthread_cond_signal(&u->wake);
    }
    pthread_mutex_unlock(&u->lock);
    if (!ended)
        return;
    w->err = ERR_AGAIN;
    snprintf(w->why, sizeof w->why, "the server is stopping");
    w->done(w);
}

void upload_info(struct upload *u, struct upload_info *out)
{
    pthread_mutex_lock(&u->lock);
    *out = u->info;
    pthread_mutex_unlock(&u->lock);
    out->done_bytes = out->total_bytes ? atomic_load(&u->done_bytes) : 0;
}
