/* lend.c - see lend.h. */
#include "server/lend.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

#define PATH_BYTES 4096
#define FILES_MAX 64

struct lent {
    struct lend_file file; /* lsn 0: a free place */
    int fd;
    unsigned readers; /* reading right now */
    uint64_t until_ms;
};

struct lend {
    const char *dir;
    struct snapshots *snapshots;
    pthread_mutex_t lock; /* what follows */
    struct lent lent[LEND_FILES];
    struct snapshots_wait wait;
    int waiting;          /* a snapshot was asked for */
    uint64_t doubted_lsn; /* the newest that somebody found no good */
};

/* ---- places; lock held ---- */

static void end(struct lent *l)
{
    (void)!file_close(l->fd); /* it was only read */
    *l = (struct lent){.fd = -1};
}

static void end_old(struct lend *l, uint64_t now_ms)
{
    for (unsigned i = 0; i < LEND_FILES; i++)
        if (l->lent[i].file.lsn && !l->lent[i].readers && now_ms >= l->lent[i].until_ms)
            end(&l->lent[i]);
}

static struct lent *find(struct lend *l, uint64_t lsn, uint32_t term)
{
    for (unsigned i = 0; i < LEND_FILES; i++)
        if (lsn && l->lent[i].file.lsn == lsn && l->lent[i].file.term == term)
            return &l->lent[i];
    return NULL;
}

static struct lent *prolong(struct lend *l, uint64_t lsn, uint32_t term, uint64_t now_ms)
{
    struct lent *at = find(l, lsn, term);
    if (at)
        at->until_ms = now_ms + LEND_MS;
    return at;
}

static struct lent *free_place(struct lend *l, uint64_t now_ms)
{
    end_old(l, now_ms);
    for (unsigned i = 0; i < LEND_FILES; i++)
        if (!l->lent[i].file.lsn)
            return &l->lent[i];
    return NULL;
}

/* Takes fd over. While it was opened another one may have lent the same. ERR_AGAIN: there is no place. */
static enum err add(struct lend *l, const struct lend_file *f, int fd, uint64_t now_ms)
{
    struct lent *same = prolong(l, f->lsn, f->term, now_ms), *at = same ? NULL : free_place(l, now_ms);
    if (at)
        *at = (struct lent){.file = *f, .fd = fd, .until_ms = now_ms + LEND_MS};
    else
        (void)!file_close(fd);
    return same || at ? ERR_OK : ERR_AGAIN;
}

/* ---- choosing ---- */

static int is_lent(struct lend *l, uint64_t lsn, uint32_t term, uint64_t now_ms, struct lend_file *out)
{
    pthread_mutex_lock(&l->lock);
    struct lent *at = prolong(l, lsn, term, now_ms);
    if (at)
        *out = at->file;
    pthread_mutex_unlock(&l->lock);
    return at != NULL;
}

/* What has the name is looked at before it is lent. */
static enum err lend_file(struct lend *l, const struct snapshots_file *f, uint64_t now_ms, struct lend_file *out)
{
    char path[PATH_BYTES], name[SNAPFILE_NAME_BYTES], why[128];
    struct snapread *r;
    struct snapread_info i;
    int fd;

    if (is_lent(l, f->lsn, f->term, now_ms, out))
        return ERR_OK;
    enum err e = snapshots_open_file(l->snapshots, f, &r, why, sizeof why);
    if (e)
        return e;
    snapread_info(r, &i);
    snapread_unref(r);
    snapfile_name(name, f->lsn, f->term);
    snprintf(path, sizeof path, "%s/%s", l->dir, name);
    if ((e = file_open(path, O_RDONLY, 0, &fd)) != ERR_OK)
        return e;
    *out = (struct lend_file){.lsn = f->lsn, .bytes = i.bytes, .term = f->term};
    pthread_mutex_lock(&l->lock);
    e = add(l, out, fd, now_ms);
    pthread_mutex_unlock(&l->lock);
    return e;
}

static void on_made(struct snapshots_wait *w)
{
    struct lend *l = (struct lend *)((char *)w - offsetof(struct lend, wait));
    pthread_mutex_lock(&l->lock);
    l->waiting = 0;
    pthread_mutex_unlock(&l->lock);
}

static void demand(struct lend *l)
{
    pthread_mutex_lock(&l->lock);
    int waits = l->waiting;
    l->waiting = 1;
    pthread_mutex_unlock(&l->lock);
    if (waits)
        return;
    l->wait = (struct snapshots_wait){.done = on_made};
    snapshots_demand(l->snapshots, &l->wait);
}

/* He who copied one that is no good may have one that was made since, or an older one. */
static int is_wanted(const struct lend_want *w, uint64_t doubted_lsn, const struct snapshots_file *f)
{
    return f->verified != SNAPSHOT_BAD && f->lsn >= w->from_lsn &&
           (!w->below_lsn || f->lsn < w->below_lsn || f->lsn > doubted_lsn);
}

/* What he says of it is no reason to believe that it is damaged: the scrub and the next snapshot, which is made from
 * it, look for themselves. Returns the newest that anybody doubts. */
static uint64_t note_doubt(struct lend *l, uint64_t lsn)
{
    pthread_mutex_lock(&l->lock);
    if (lsn > l->doubted_lsn)
        l->doubted_lsn = lsn;
    uint64_t doubted_lsn = l->doubted_lsn;
    pthread_mutex_unlock(&l->lock);
    return doubted_lsn;
}

enum err lend_choose(struct lend *l, const struct lend_want *w, uint64_t now_ms, struct lend_file *out)
{
    struct snapshots_file f[FILES_MAX], have = {.lsn = w->have_lsn, .term = w->have_term};
    uint64_t doubted_lsn = note_doubt(l, w->below_lsn);
    enum err e = ERR_NOTFOUND;

    *out = (struct lend_file){0};
    unsigned n = snapshots_list(l->snapshots, f, FILES_MAX);
    if (w->have_lsn && is_wanted(w, doubted_lsn, &have))
        e = lend_file(l, &have, now_ms, out);
    for (unsigned i = 0; i < n && i < FILES_MAX && (e == ERR_NOTFOUND || e == ERR_CORRUPT || e == ERR_UNSUPPORTED); i++)
        if (is_wanted(w, doubted_lsn, &f[i]))
            e = lend_file(l, &f[i], now_ms, out);
    if (e != ERR_NOTFOUND && e != ERR_CORRUPT && e != ERR_UNSUPPORTED)
        return e;
    *out = (struct lend_file){0};
    demand(l);
    return ERR_LOADING;
}

/* ---- reading ---- */

static enum err read_piece(const struct lent *at, uint64_t off, uint64_t n, struct buf *out)
{
    uint8_t *room;
    size_t got;
    if (off > at->file.bytes || n > LEND_PIECE_BYTES)
        return ERR_RANGE;
    uint64_t left = at->file.bytes - off;
    n = n < left ? n : left;
    enum err e = buf_reserve(out, n, &room);
    if (!e)
        e = file_pread(at->fd, room, n, off, &got);
    if (!e && got < n)
        e = ERR_IO;
    if (!e)
        buf_added(out, n);
    return e;
}

/* One that is lent no more is lent again when it is still there. */
static enum err again(struct lend *l, uint64_t lsn, uint32_t term, uint64_t now_ms)
{
    struct snapshots_file f = {.lsn = lsn, .term = term};
    struct lend_file ignored;
    enum err e = lend_file(l, &f, now_ms, &ignored);
    return e == ERR_CORRUPT || e == ERR_UNSUPPORTED ? ERR_NOTFOUND : e;
}

enum err lend_read(struct lend *l, uint64_t lsn, uint32_t term, uint64_t off, uint64_t n, uint64_t now_ms,
                   struct buf *out)
{
    enum err e = again(l, lsn, term, now_ms);
    if (e)
        return e;
    pthread_mutex_lock(&l->lock);
    struct lent *at = find(l, lsn, term);
    if (at)
        at->readers++;
    pthread_mutex_unlock(&l->lock);
    if (!at)
        return ERR_NOTFOUND;
    e = read_piece(at, off, n, out);
    pthread_mutex_lock(&l->lock);
    at->readers--;
    pthread_mutex_unlock(&l->lock);
    return e;
}

uint64_t lend_needed_lsn(struct lend *l, uint64_t now_ms)
{
    uint64_t lsn = UINT64_MAX;
    pthread_mutex_lock(&l->lock);
    end_old(l, now_ms);
    for (unsigned i = 0; i < LEND_FILES; i++)
        if (l->lent[i].file.lsn && l->lent[i].file.lsn + 1 < lsn)
            lsn = l->lent[i].file.lsn + 1;
    pthread_mutex_unlock(&l->lock);
    return lsn;
}

/* ---- life ---- */

void lend_from(struct lend *l, struct snapshots *s)
{
    l->snapshots = s;
}

enum err lend_new(struct lend **out, const char *dir)
{
    struct lend *l = *out = mem_zalloc(sizeof *l);
    if (!l)
        return ERR_OOM;
    l->dir = dir;
    pthread_mutex_init(&l->lock, NULL);
    for (unsigned i = 0; i < LEND_FILES; i++)
        l->lent[i].fd = -1;
    return ERR_OK;
}

void lend_free(struct lend *l)
{
    if (!l)
        return;
    for (unsigned i = 0; i < LEND_FILES; i++)
        end(&l->lent[i]);
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}
