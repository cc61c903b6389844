/* resync.c - see resync.h.
 *
 * One thread, and a mailbox: what is wanted, and a number that grows with it. Whatever the thread waits for ends soon
 * after the number has changed.
 *
 * Several pieces are asked for ahead, so that a long line is not idle while the peer reads the next one.
 */
#include "server/resync.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hex.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/room.h"
#include "resp/answer.h"
#include "server/lend.h"

#define AHEAD 4
#define SYNC_BYTES (4u << 20) /* so much at once is left to the disk */
#define LOOK_AGAIN_US 200000  /* while the peer makes a snapshot */
#define ANOTHER_US 10000000   /* for one in the place of one that does not verify */
#define SAY_US 5000000

struct resync {
    struct resync_config cfg;
    pthread_t thread;

    pthread_mutex_t lock; /* what follows */
    pthread_cond_t wake;
    int running, wanted, stop;
    struct resync_want want;
    char waits_for[RESYNC_WAITS_BYTES];
    _Atomic uint64_t number; /* of the want; written under lock */

    _Atomic int active;
    _Atomic uint64_t lsn, here, total, last_io_ms;
};

/* One want being met. */
struct copy {
    struct resync *r;
    struct resync_want want;
    uint64_t number;
    struct dial_talk *talk;
    struct lend_file file; /* as the peer named it */
    uint64_t below_lsn;    /* snapshots from this one on are no good */
    uint64_t resumed;      /* bytes that were here before */
    int fd;
    char path[INSTALL_PATH_BYTES], why[HELLO_WHY_BYTES];
};

static int is_over(void *copy)
{
    const struct copy *c = copy;
    return atomic_load(&c->r->number) != c->number;
}

static enum err failed(struct copy *c, enum err e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static enum err failed(struct copy *c, enum err e, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->why, sizeof c->why, fmt, ap);
    va_end(ap);
    return e;
}

static enum err disk_failed(struct copy *c, enum err e)
{
    return failed(c, e, "the snapshot cannot be written to %.200s: %s", c->path, err_text(e));
}

/* ---- what is here ---- */

/* The newest of what earlier tries left in DIR/fetch. */
static void look_for_part(const struct copy *c, uint64_t *lsn, uint32_t *term)
{
    char dir[INSTALL_PATH_BYTES], name[SNAPFILE_NAME_BYTES], **names;
    size_t n;
    *lsn = 0;
    *term = 0;
    snprintf(dir, sizeof dir, "%s/" INSTALL_FETCH, c->r->cfg.dir);
    if (file_list(dir, &names, &n))
        return;
    for (size_t i = n; i-- > 0 && !*lsn;) {
        size_t len = strlen(names[i]);
        if (len < 6 || len - 5 >= sizeof name || strcmp(names[i] + len - 5, ".part") != 0)
            continue;
        snprintf(name, sizeof name, "%.*s", (int)len - 5, names[i]);
        if (!snapfile_parse_name(name, lsn, term))
            *lsn = 0;
    }
    file_free_names(names, n);
}

/* What is there of other snapshots: it will not be gone on with. */
static void remove_others(const struct copy *c)
{
    char dir[INSTALL_PATH_BYTES], path[INSTALL_PATH_BYTES + 300], **names;
    size_t n;
    snprintf(dir, sizeof dir, "%s/" INSTALL_FETCH, c->r->cfg.dir);
    if (file_list(dir, &names, &n))
        return;
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        if (strcmp(path, c->path) != 0)
            (void)!file_unlink(path); /* it takes room, no more */
    }
    file_free_names(names, n);
}

static enum err open_part(struct copy *c)
{
    char dir[INSTALL_PATH_BYTES];
    uint64_t have = 0;

    install_path(c->path, c->r->cfg.dir, c->file.lsn, c->file.term);
    snprintf(dir, sizeof dir, "%s/" INSTALL_FETCH, c->r->cfg.dir);
    enum err e = file_mkdir(dir, 0700);
    if (!e)
        e = file_sync_dir(c->r->cfg.dir);
    if (!e)
        e = file_open(c->path, O_RDWR | O_CREAT, 0600, &c->fd);
    if (!e)
        e = file_size(c->fd, &have);
    if (!e && have > c->file.bytes && !(e = file_truncate(c->fd, 0)))
        have = 0;
    if (e)
        return disk_failed(c, e);
    remove_others(c);
    uint64_t more = c->file.bytes - have, left = room_free(c->r->cfg.dir), keep = c->r->cfg.keep_free(c->r->cfg.arg);
    if (left < keep || left - keep < more)
        return failed(c, ERR_MISCONF, "the disk has no room for the peer's snapshot: it takes %llu MiB more",
                      (unsigned long long)(more + keep - left) >> 20);
    c->resumed = have;
    atomic_store(&c->r->here, have);
    atomic_store(&c->r->total, c->file.bytes);
    return ERR_OK;
}

/* ---- the peer ---- */

static enum err talk_failed(struct copy *c, enum err e)
{
    return failed(c, e, "%s", dial_talk_why(c->talk));
}

static enum err hear(struct copy *c, const struct answer **a)
{
    enum err e = dial_talk_hear(c->talk, a);
    if (e)
        return talk_failed(c, e);
    atomic_store(&c->r->last_io_ms, clock_mono_ms());
    if ((*a)->type != ANSWER_ERROR)
        return ERR_OK;
    int loading = (*a)->text.n >= 7 && memcmp((*a)->text.p, "LOADING", 7) == 0;
    return failed(c, loading ? ERR_LOADING : ERR_NOTFOUND, "it says: %.*s",
                  (int)((*a)->text.n < 500 ? (*a)->text.n : 500), (const char *)(*a)->text.p);
}

#define NUMBER_CHARS 21
static struct bytes number(char out[NUMBER_CHARS], uint64_t n)
{
    return bytes_of(out, (size_t)snprintf(out, NUMBER_CHARS, "%llu", (unsigned long long)n));
}

static enum err say_choose(struct copy *c)
{
    char cell[33], from[NUMBER_CHARS], have[NUMBER_CHARS], have_term[NUMBER_CHARS], below[NUMBER_CHARS];
    uint64_t lsn;
    uint32_t term;
    unsigned n = 3;

    hex_put(cell, c->want.cell_id, sizeof c->want.cell_id);
    struct bytes words[8] = {bytes_str("REPL.SNAPSHOT"), bytes_str(cell), number(from, c->want.from_lsn)};
    look_for_part(c, &lsn, &term);
    if (lsn) {
        words[n++] = bytes_str("HAVE");
        words[n++] = number(have, lsn);
        words[n++] = number(have_term, term);
    }
    if (c->below_lsn) {
        words[n++] = bytes_str("BELOW");
        words[n++] = number(below, c->below_lsn);
    }
    enum err e = dial_talk_say(c->talk, words, n);
    return e ? talk_failed(c, e) : ERR_OK;
}

static int is_number(const struct answer *a, int64_t max)
{
    return a->type == ANSWER_INTEGER && a->integer >= 0 && a->integer <= max;
}

static enum err choose(struct copy *c)
{
    const struct answer *a;
    enum err e = say_choose(c);
    if (!e)
        e = hear(c, &a);
    if (e)
        return e;
    if (a->type != ANSWER_ARRAY || a->count != 3 || !is_number(a->item[0], INT64_MAX) ||
        !is_number(a->item[1], UINT32_MAX) || !is_number(a->item[2], INT64_MAX) ||
        (uint64_t)a->item[0]->integer < c->want.from_lsn)
        return failed(c, ERR_IO, "its answer to REPL.SNAPSHOT is not understood");
    c->file = (struct lend_file){.lsn = (uint64_t)a->item[0]->integer,
                                 .term = (uint32_t)a->item[1]->integer,
                                 .bytes = (uint64_t)a->item[2]->integer};
    atomic_store(&c->r->lsn, c->file.lsn);
    return ERR_OK;
}

/* NULL: for nothing any more. Each new reason is said once. */
static void waits_for(struct copy *c, const char *what)
{
    struct resync *r = c->r;
    char text[RESYNC_WAITS_BYTES];
    snprintf(text, sizeof text, "%.*s", RESYNC_WAITS_BYTES - 1, what ? what : "");
    pthread_mutex_lock(&r->lock);
    int new = strcmp(r->waits_for, text) != 0;
    memcpy(r->waits_for, text, sizeof text);
    pthread_mutex_unlock(&r->lock);
    if (new &&what)
        log_at(LOG_NOTICE, "Full resync: %s:%d has no snapshot to give yet, and is asked again: %s", c->want.host,
               c->want.port, text);
}

/* Until there is one. Not for ever where one that it made is passed over: it makes no other before something is
 * written, and what was wrong may have been on this side; the next try copies it afresh. */
static enum err choose_in_the_end(struct copy *c)
{
    enum err e;
    uint64_t end = c->below_lsn ? clock_mono_us() + ANOTHER_US : UINT64_MAX;
    while ((e = choose(c)) == ERR_LOADING && !is_over(c) && clock_mono_us() < end) {
        waits_for(c, c->why);
        pthread_mutex_lock(&c->r->lock);
        uint64_t until = clock_mono_us() + LOOK_AGAIN_US;
        while (!is_over(c) && clock_mono_us() < until)
            clock_cond_wait(&c->r->wake, &c->r->lock, until);
        pthread_mutex_unlock(&c->r->lock);
    }
    waits_for(c, NULL);
    return e;
}

static enum err say_piece(struct copy *c, uint64_t off)
{
    char lsn[NUMBER_CHARS], term[NUMBER_CHARS], at[NUMBER_CHARS], bytes[NUMBER_CHARS];
    struct bytes words[] = {bytes_str("REPL.PIECE"), number(lsn, c->file.lsn), number(term, c->file.term),
                            number(at, off), number(bytes, LEND_PIECE_BYTES)};
    enum err e = dial_talk_say(c->talk, words, 5);
    return e ? talk_failed(c, e) : ERR_OK;
}

static uint64_t piece_bytes(const struct copy *c, uint64_t off)
{
    uint64_t left = c->file.bytes - off;
    return left < LEND_PIECE_BYTES ? left : LEND_PIECE_BYTES;
}

static enum err take_piece(struct copy *c, uint64_t off)
{
    const struct answer *a;
    enum err e = hear(c, &a);
    if (e)
        return e;
    if (a->type != ANSWER_BULK || a->text.n != piece_bytes(c, off))
        return failed(c, ERR_IO, "its answer to REPL.PIECE is not understood");
    if ((e = file_pwrite(c->fd, a->text.p, a->text.n, off)) != ERR_OK)
        return disk_failed(c, e);
    atomic_store(&c->r->here, off + a->text.n);
    return ERR_OK;
}

static void say_progress(const struct copy *c, uint64_t here, uint64_t *said_us)
{
    if (clock_mono_us() - *said_us < SAY_US)
        return;
    *said_us = clock_mono_us();
    log_at(LOG_NOTICE, "Full resync: %llu of %llu MiB of the snapshot at LSN %llu are here",
           (unsigned long long)here >> 20, (unsigned long long)c->file.bytes >> 20, (unsigned long long)c->file.lsn);
}

static enum err copy_pieces(struct copy *c)
{
    uint64_t asked = c->resumed, here = c->resumed, said_us = clock_mono_us();
    unsigned flying = 0;
    enum err e = ERR_OK;
    while (!e && here < c->file.bytes) {
        if (asked < c->file.bytes && flying < AHEAD) {
            e = say_piece(c, asked);
            asked += piece_bytes(c, asked);
            flying++;
            continue;
        }
        if ((e = take_piece(c, here)))
            break;
        here += piece_bytes(c, here);
        flying--;
        if (here % SYNC_BYTES == 0 && (e = file_fdatasync(c->fd)) != ERR_OK)
            disk_failed(c, e);
        say_progress(c, here, &said_us);
    }
    return e;
}

/* ---- whether to believe it ---- */

static enum err pace(void *copy, uint64_t bytes)
{
    (void)bytes;
    return is_over(copy) ? ERR_AGAIN : ERR_OK;
}

static enum err not_whole(struct copy *c, enum err e, const char *why)
{
    return failed(c, e == ERR_UNSUPPORTED ? ERR_CORRUPT : e, "its snapshot at LSN %llu does not verify: %s",
                  (unsigned long long)c->file.lsn, why[0] ? why : err_text(e));
}

static enum err verify(struct copy *c, struct resync_result *out)
{
    char why[128] = "";
    struct snapread *s;
    struct snapread_info i;
    uint64_t bad;
    enum err e = snapread_open(&s, c->path, c->want.cell_id, &c->r->cfg.signer, why, sizeof why);

    if (e)
        return not_whole(c, e, why);
    snapread_info(s, &i);
    if (i.header.lsn != c->file.lsn || i.header.term != c->file.term || i.bytes != c->file.bytes)
        e = not_whole(c, ERR_CORRUPT, "it is another one than was asked for");
    if (!e && (e = snapread_verify(s, pace, c, &bad)))
        not_whole(c, e, "a block of it is damaged");
    if (!e && (e = install_shards(s, &out->shards)))
        not_whole(c, e, "");
    out->header = i.header;
    snapread_unref(s);
    return e;
}

/* ---- one after the other ---- */

static enum err copy_once(struct copy *c, struct resync_result *out)
{
    char dir[INSTALL_PATH_BYTES];
    enum err e = open_part(c);
    if (!e && c->resumed)
        log_at(LOG_NOTICE, "Full resync: %llu of %llu KiB of the snapshot at LSN %llu are here from an earlier try",
               (unsigned long long)c->resumed >> 10, (unsigned long long)c->file.bytes >> 10,
               (unsigned long long)c->file.lsn);
    if (!e)
        e = copy_pieces(c);
    if (!e && (e = file_fdatasync(c->fd)) != ERR_OK)
        disk_failed(c, e);
    if (file_close(c->fd) && !e)
        e = disk_failed(c, ERR_IO);
    c->fd = -1;
    snprintf(dir, sizeof dir, "%s/" INSTALL_FETCH, c->r->cfg.dir);
    if (!e && (e = file_sync_dir(dir)) != ERR_OK)
        disk_failed(c, e);
    if (!e && (e = verify(c, out)) == ERR_CORRUPT)
        (void)!file_unlink(c->path); /* else it is found damaged again */
    return e;
}

/* A file whose two halves came at different times, over a restart maybe, is given a second chance. */
static enum err copy_one(struct copy *c, struct resync_result *out)
{
    enum err e = choose_in_the_end(c);
    if (!e)
        log_at(LOG_NOTICE, "Full resync: copying the snapshot at LSN %llu (term %u, %llu KiB) of %s:%d",
               (unsigned long long)c->file.lsn, c->file.term, (unsigned long long)c->file.bytes >> 10, c->want.host,
               c->want.port);
    if (!e && (e = copy_once(c, out)) == ERR_CORRUPT && c->resumed)
        e = copy_once(c, out);
    return e;
}

static void fill_self(void *copy, struct dial_self *s)
{
    const struct copy *c = copy;
    c->r->cfg.self(c->r->cfg.arg, s);
}

static enum err copy_any(struct copy *c, struct resync_result *out)
{
    struct dial_talk_config cfg = {.port = c->want.port, .self = fill_self, .over = is_over, .arg = c};
    memcpy(cfg.host, c->want.host, sizeof cfg.host);
    enum err e = dial_talk_open(&c->talk, &cfg);
    if (e)
        return c->talk ? talk_failed(c, e) : failed(c, e, "out of memory");
    int newer = 0; /* also that one, which was made since, is no good: later again */
    while ((e = copy_one(c, out)) == ERR_CORRUPT && !newer) {
        log_at(LOG_WARNING, "Full resync: a snapshot is passed over: %s", c->why);
        newer = c->below_lsn && c->file.lsn > c->below_lsn;
        c->below_lsn = c->file.lsn;
    }
    return e;
}

/* ---- the thread ---- */

static void meet(struct resync *r, const struct resync_want *w, uint64_t number_)
{
    struct copy c = {.r = r, .want = *w, .number = number_, .fd = -1};
    struct resync_result out = {.want = *w};

    atomic_store(&r->last_io_ms, 0);
    atomic_store(&r->here, 0);
    atomic_store(&r->total, 0);
    atomic_store(&r->active, 1);
    out.ok = copy_any(&c, &out) == ERR_OK;
    dial_talk_close(c.talk);
    snprintf(out.why, sizeof out.why, "%s", c.why);

    pthread_mutex_lock(&r->lock);
    int current = !r->stop && r->wanted && atomic_load(&r->number) == number_;
    out.want.ticket = r->want.ticket;
    r->wanted &= !current;
    pthread_mutex_unlock(&r->lock);
    atomic_store(&r->active, 0);
    if (current)
        r->cfg.done(r->cfg.arg, &out);
}

static void *main_loop(void *arg)
{
    struct resync *r = arg;
    pthread_setname_np(pthread_self(), "coffer-fetch");
    pthread_mutex_lock(&r->lock);
    while (!r->stop) {
        if (!r->wanted) {
            pthread_cond_wait(&r->wake, &r->lock);
            continue;
        }
        struct resync_want w = r->want;
        uint64_t n = atomic_load(&r->number);
        pthread_mutex_unlock(&r->lock);
        meet(r, &w, n);
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* ---- the outside ---- */

static int is_same(const struct resync_want *a, const struct resync_want *b)
{
    return a->port == b->port && strcmp(a->host, b->host) == 0 && memcmp(a->cell_id, b->cell_id, 16) == 0 &&
           a->from_lsn >= b->from_lsn;
}

enum err resync_want(struct resync *r, const struct resync_want *w)
{
    enum err e = ERR_OK;
    pthread_mutex_lock(&r->lock);
    if (r->wanted && is_same(&r->want, w)) {
        r->want.ticket = w->ticket;
    } else {
        r->want = *w;
        r->wanted = 1;
        atomic_fetch_add(&r->number, 1);
        pthread_cond_broadcast(&r->wake);
    }
    if (!r->running && pthread_create(&r->thread, NULL, main_loop, r) != 0)
        e = ERR_OOM;
    r->running |= !e;
    pthread_mutex_unlock(&r->lock);
    return e;
}

void resync_forget(struct resync *r)
{
    pthread_mutex_lock(&r->lock);
    r->wanted = 0;
    atomic_fetch_add(&r->number, 1);
    pthread_cond_broadcast(&r->wake);
    pthread_mutex_unlock(&r->lock);
}

void resync_info(struct resync *r, struct resync_info *out)
{
    *out = (struct resync_info){.running = atomic_load(&r->active),
                                .lsn = atomic_load(&r->lsn),
                                .here_bytes = atomic_load(&r->here),
                                .total_bytes = atomic_load(&r->total),
                                .last_io_ms = atomic_load(&r->last_io_ms)};
    pthread_mutex_lock(&r->lock);
    memcpy(out->waits_for, r->waits_for, sizeof out->waits_for);
    pthread_mutex_unlock(&r->lock);
}

enum err resync_new(struct resync **out, const struct resync_config *cfg)
{
    struct resync *r = *out = mem_zalloc(sizeof *r);
    if (!r)
        return ERR_OOM;
    r->cfg = *cfg;
    pthread_mutex_init(&r->lock, NULL);
    clock_cond_init(&r->wake);
    return ERR_OK;
}

void resync_free(struct resync *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&r->lock);
    r->stop = 1;
    pthread_mutex_unlock(&r->lock);
    resync_forget(r);
    if (r->running)
        pthread_join(r->thread, NULL);
    pthread_cond_destroy(&r->wake);
    pthread_mutex_destroy(&r->lock);
    mem_free(r);
}
