/* cmd_restore.c - SNAPSHOT.RESTORE vault path <LSN lsn|TIME ms> [DRYRUN] [EXPIRED]: what was, written back as it is.
 *
 *     chores thread:   secrets of the moment (engine/asof.h), in order of their paths
 *                          -> was it there?  is it now what it was then?  no: opened, and sealed anew as a new version
 *                          -> 64 of them go to the sequencer at once; when they are durable the next ones follow
 *                      names of now, in the same order: what is not among the moment's was created since
 *
 * It compares what was with what is, and not versions: a secret whose value, metadata and expiry are what they were is
 * not touched, whoever made them so. So a second run restores nothing, and one that was cut off anywhere, by a crash
 * too, goes on when it is repeated. Writes are ordinary ones, without conditions: what a client writes to a secret
 * while this runs is a version like others, before or behind.
 *
 * Plaintext is in two buffers in locked memory, one for then and one for now, and in the writes under way.
 *
 * Failures: a secret whose value cannot be opened (a damaged block, or record) is counted, and the rest goes on. Any
 * other error ends it, and says how many were restored before.
 *
 * Rejected: one record for all of it (a folder has no limit, a record has); moving CURRENT back to a version that is
 * kept still (history would not show that anything happened, and most are not kept); reading the live secrets in the
 * order of a listing alone (it may be older than what readers were told). */
#include <pthread.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/access.h"
#include "server/asofcall.h"
#include "server/chores.h"
#include "server/conn.h"
#include "server/dek.h"
#include "server/handlers.h"
#include "server/server.h"
#include "server/walcall.h"

#define BATCH 64
#define BATCH_BYTES (1u << 20)
#define NAMES 1000 /* of now, at once */

/* Names of now under the path, in order. */
struct names {
    struct buf page, last; /* page: u16 length, path ... */
    struct bytes left;     /* of the page */
    int more;
    struct bytes path; /* p NULL: there are none any more */
    enum err err;
};

struct restore {
    struct pending p;
    struct chore chore;
    struct server *srv;
    struct asof_query q;
    struct buf under;
    int one, dry_run, expired_too; /* one: a secret; else a folder */

    struct asof_moment moment;
    uint64_t restored, unchanged, expired, created_since, failed, lsn;
    enum err err;
    char why[200];

    struct opener *opener;
    struct buf then, now; /* secret: a value opened */
    struct names names;

    struct change *batch[BATCH];
    unsigned batch_n;
    size_t batch_bytes;
    pthread_mutex_t lock;
    pthread_cond_t all_done;
    unsigned outstanding; /* under lock */
};

/* ---- names of now ---- */

static int take_name(void *arg, struct bytes path, const struct secret_head *h)
{
    struct names *n = arg;
    (void)h;
    if (!n->err && (n->err = buf_put_le16(&n->page, (uint16_t)path.n)) == ERR_OK)
        n->err = buf_put(&n->page, path.p, path.n);
    return 1;
}

static enum err next_page(struct restore *r)
{
    struct names *n = &r->names;
    struct list_query q = {.prefix = r->q.under,
                           .after = buf_bytes(&n->last),
                           .max = r->one ? 1 : NAMES,
                           .scan_max = r->one ? 1 : 10 * NAMES,
                           .visit = take_name,
                           .arg = n};
    struct buf last;
    buf_init(&last, SECRET_PATH_MAX);
    buf_clear(&n->page);
    enum err err = secret_list(r->srv->engine, r->q.vault, &q, &last, &n->more);
    n->left = buf_bytes(&n->page);
    n->more &= !r->one;
    buf_fini(&n->last);
    n->last = last;
    return err ? err : n->err;
}

static enum err next_name(struct restore *r)
{
    struct names *n = &r->names;
    struct bytes length;
    enum err err = ERR_OK;
    n->path = bytes_of(NULL, 0);
    while (!err && !n->left.n && n->more)
        err = next_page(r);
    if (!err && bytes_take(&n->left, 2, &length))
        (void)bytes_take(&n->left, get_le16(length.p), &n->path);
    return err;
}

/* Those in front of path (p NULL: all that are left) were not there then; path itself is passed over. */
static enum err names_up_to(struct restore *r, struct bytes path)
{
    struct names *n = &r->names;
    enum err err = ERR_OK;
    while (!err && n->path.p) {
        int order = path.p ? bytes_compare(n->path, path) : -1;
        if (order > 0)
            break;
        if (order < 0 && (!r->one || bytes_equal(n->path, r->q.under)))
            r->created_since++;
        err = next_name(r);
    }
    return err;
}

static enum err names_begin(struct restore *r)
{
    r->names.more = 1;
    r->names.left = bytes_of(NULL, 0);
    buf_clear(&r->names.last);
    enum err err = engine_list_wait(r->srv->engine, r->q.vault);
    return err ? err : next_name(r);
}

/* ---- writing ---- */

static void write_done(struct write *w)
{
    struct restore *r = w->arg;
    pthread_mutex_lock(&r->lock);
    if (--r->outstanding == 0)
        pthread_cond_signal(&r->all_done);
    pthread_mutex_unlock(&r->lock);
}

static void drop_batch(struct restore *r)
{
    while (r->batch_n)
        change_free(r->batch[--r->batch_n]);
    r->batch_bytes = 0;
}

/* Writes what is gathered, and waits until it is durable. */
static enum err write_batch(struct restore *r)
{
    struct write_chain chain = {0};
    enum err err = ERR_OK;

    for (unsigned i = 0; i < r->batch_n; i++)
        write_chain_add(&chain, &r->batch[i]->w);
    r->outstanding = r->batch_n;
    if (r->batch_n)
        engine_submit_chain(r->srv->engine, &chain);
    pthread_mutex_lock(&r->lock);
    while (r->outstanding)
        pthread_cond_wait(&r->all_done, &r->lock);
    pthread_mutex_unlock(&r->lock);
    for (unsigned i = 0; i < r->batch_n; i++) {
        const struct write *w = &r->batch[i]->w;
        r->restored += w->err == ERR_OK;
        r->lsn = w->lsn > r->lsn ? w->lsn : r->lsn;
        err = err ? err : w->err;
    }
    drop_batch(r);
    return err;
}

static enum err new_set(struct restore *r, size_t keep_bytes, struct change **out)
{
    struct dek *d;
    enum err err;
    while ((err = deks_wait_writer(r->srv->deks, r->q.vault, &d)) == ERR_OK)
        if ((err = change_new_set(d, buf_bytes(&r->then), keep_bytes, out)) != ERR_AGAIN) /* the key is used up */
            break;
    return err;
}

static enum err put(struct restore *r, const struct asof_secret *s, uint64_t expires_ms)
{
    struct change *ch;
    if (r->dry_run) {
        r->restored++;
        return ERR_OK;
    }
    enum err err = new_set(r, s->path.n + s->head.meta.n, &ch);
    if (err)
        return err;
    ch->step[0] = (struct step){.kind = STEP_SECRET_SET,
                                .flags = SET_META,
                                .path = change_keep(ch, s->path),
                                .meta = change_keep(ch, s->head.meta),
                                .expires_ms = expires_ms,
                                .plain = ch->step[0].plain};
    ch->w.vault = r->q.vault;
    ch->w.done = write_done;
    ch->w.arg = r;
    r->batch[r->batch_n++] = ch;
    r->batch_bytes += buf_size(&r->then) + s->head.meta.n;
    return r->batch_n == BATCH || r->batch_bytes >= BATCH_BYTES ? write_batch(r) : ERR_OK;
}

/* ---- comparing ---- */

static enum err open_then(struct restore *r, struct asof *a, const struct asof_secret *s,
                          const struct secret_version *v)
{
    struct seal_bind bind = {.vault = r->q.vault->id, .version = v->version, .path = s->path};
    struct blob *b;
    enum err err = asof_value(a, s, v, &b);
    if (!err)
        err = access_open(r->srv, r->opener, (struct sealed){.raw = blob_bytes(b)}, &bind, r->q.vault, &r->then);
    blob_unref(b);
    return err;
}

/* 1 when the view's value is the one in r->then. One that does not open is not. */
static int is_then(struct restore *r, struct bytes path, const struct secret_view *view, enum err *err)
{
    struct seal_bind bind = {.vault = r->q.vault->id, .version = view->version, .path = path};
    if (sealed_plain_len(view->value) != buf_size(&r->then))
        return 0;
    *err = access_open(r->srv, r->opener, view->value, &bind, r->q.vault, &r->now);
    int same = !*err && mem_equal_ct(buf_data(&r->now), buf_data(&r->then), buf_size(&r->then));
    if (*err == ERR_CORRUPT)
        *err = ERR_OK;
    buf_clear(&r->now);
    return same;
}

static int is_version(const struct secret_view *view, const struct secret_version *v)
{
    struct secret_version live;
    return secret_version_find(&view->head, view->version, &live) && live.version == v->version && live.lsn == v->lsn;
}

/* view NULL: it is not there now. */
static enum err restore_unless_same(struct restore *r, struct asof *a, const struct asof_secret *s,
                                    const struct secret_version *v, uint64_t expires_ms, const struct secret_view *view)
{
    int alike = view && view->head.expires_ms == expires_ms && bytes_equal(view->head.meta, s->head.meta);
    int same = alike && is_version(view, v);
    enum err err = same ? ERR_OK : open_then(r, a, s, v);
    if (err == ERR_CORRUPT) {
        r->failed++;
        return ERR_OK;
    }
    if (!err && !same && alike)
        same = is_then(r, s->path, view, &err);
    r->unchanged += same;
    if (!err && !same)
        err = put(r, s, expires_ms);
    buf_clear(&r->then);
    return err;
}

/* A secret that was there then. */
static enum err restore_one(struct restore *r, struct asof *a, const struct asof_secret *s,
                            const struct secret_version *v)
{
    struct secret_view view;
    uint64_t expires_ms = s->head.expires_ms;
    if (expires_ms && expires_ms <= clock_wall_ms()) {
        r->expired += !r->expired_too;
        if (!r->expired_too)
            return ERR_OK;
        expires_ms = 0;
    }
    enum err err = secret_read(r->srv->engine, r->q.vault, s->path, 0, bytes_of(NULL, 0), &view);
    if (err == ERR_NOTFOUND || err == ERR_CORRUPT)
        return restore_unless_same(r, a, s, v, expires_ms, NULL);
    if (err)
        return err;
    err = restore_unless_same(r, a, s, v, expires_ms, &view);
    secret_view_release(&view);
    return err;
}

/* ---- all of it ---- */

static enum err next_secret(struct restore *r, struct asof *a, struct asof_secret *s, int first)
{
    if (!r->one)
        return asof_next(a, s);
    enum err err = first ? asof_find(a, r->q.under, s) : ERR_END;
    return err == ERR_NOTFOUND ? ERR_END : err;
}

static enum err restore_look(void *arg, struct asof *a)
{
    struct restore *r = arg;
    struct asof_secret s;
    struct secret_version v;
    enum err err;

    asof_moment(a, &r->moment);
    r->unchanged = r->expired = r->created_since = r->failed = 0; /* of a try before that met damage */
    r->restored *= !r->dry_run;
    err = names_begin(r);
    for (int first = 1; !err && (err = next_secret(r, a, &s, first)) == ERR_OK; first = 0) {
        if (!asof_current(a, &s, &v))
            continue;
        err = names_up_to(r, s.path);
        if (!err)
            err = restore_one(r, a, &s, &v);
        if (!err && chores_stopping(r->srv->chores))
            err = ERR_AGAIN;
    }
    if (err == ERR_END)
        err = names_up_to(r, bytes_of(NULL, 0));
    enum err written = write_batch(r);
    return err ? err : written;
}

static void restore_run(struct chore *chore)
{
    struct restore *r = mpsc_entry(chore, struct restore, chore);
    r->err = opener_new(&r->opener, r->srv->keyring);
    if (!r->err)
        r->err = asofcall_run(r->srv, &r->q, restore_look, r, r->why, sizeof r->why);
    opener_free(r->opener);
    if (r->restored && !r->dry_run)
        log_at(LOG_NOTICE, "SNAPSHOT.RESTORE: %llu secrets of vault '%s' are again what they were at LSN %llu%s",
               (unsigned long long)r->restored, r->q.vault->name, (unsigned long long)r->moment.lsn,
               r->err ? "; others are not" : "");
    pending_complete(&r->p);
}

static void restore_finish(struct pending *p, struct reply *reply)
{
    struct restore *r = mpsc_entry(p, struct restore, p);
    if (r->lsn)
        conn_saw_lsn(p->conn, r->lsn);
    if (r->err && r->restored && !r->dry_run) {
        reply_errorf(reply, err_prefix(r->err), "%s; %llu secrets were restored, the same again goes on from there",
                     r->err == ERR_AGAIN ? "the server is stopping"
                     : r->why[0]         ? r->why
                                         : err_text(r->err),
                     (unsigned long long)r->restored);
        return;
    }
    if (r->err) {
        asofcall_error(reply, r->err, r->why);
        return;
    }
    reply_map(reply, 7);
    walcall_reply_int(reply, "lsn", r->moment.lsn);
    walcall_reply_int(reply, "time", r->moment.time_ms);
    walcall_reply_int(reply, "restored", r->restored);
    walcall_reply_int(reply, "unchanged", r->unchanged);
    walcall_reply_int(reply, "expired", r->expired);
    walcall_reply_int(reply, "created-since", r->created_since);
    walcall_reply_int(reply, "failed", r->failed);
}

static void restore_release(struct pending *p)
{
    struct restore *r = mpsc_entry(p, struct restore, p);
    drop_batch(r);
    buf_fini(&r->under);
    buf_fini(&r->then);
    buf_fini(&r->now);
    buf_fini(&r->names.page);
    buf_fini(&r->names.last);
    pthread_cond_destroy(&r->all_done);
    pthread_mutex_destroy(&r->lock);
    mem_free(r);
}

static struct restore *restore_new(struct server *srv, struct bytes path)
{
    struct restore *r = mem_zalloc(sizeof *r);
    if (!r)
        return NULL;
    r->srv = srv;
    r->one = path.n && path.p[path.n - 1] != '/';
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->all_done, NULL);
    buf_init(&r->under, SECRET_PATH_MAX);
    buf_init(&r->names.page, SIZE_MAX / 2);
    buf_init(&r->names.last, SECRET_PATH_MAX);
    buf_init_secret(&r->then, RECORD_MAX_BYTES);
    buf_init_secret(&r->now, RECORD_MAX_BYTES);
    if (buf_put(&r->under, path.p, path.n)) {
        restore_release(&r->p);
        return NULL;
    }
    return r;
}

enum call_result cmd_snapshot_restore(struct call *c)
{
    enum { LSN, TIME, DRYRUN, EXPIRED, OPTS };
    static const struct option options[OPTS] = {[LSN] = ASOFCALL_LSN,
                                                [TIME] = ASOFCALL_TIME,
                                                [DRYRUN] = {"DRYRUN", OPTION_FLAG},
                                                [EXPIRED] = {"EXPIRED", OPTION_FLAG}};
    struct option_value opt[OPTS];
    struct vault *v;

    if (options_parse(c, 3, options, OPTS, opt))
        return CALL_DONE;
    if (!opt[LSN].given && !opt[TIME].given)
        return call_errorf(c, ERR_SYNTAX, "as of when? LSN or TIME says it");
    enum err err = access_vault(c, c->argv[1], &v);
    if (err == ERR_OK && c->argv[2].n > SECRET_PATH_MAX)
        err = ERR_BADPATH;
    if (err)
        return access_fail(c, err, c->argv[1]);
    struct restore *r = restore_new(c->srv, c->argv[2]);
    if (!r)
        return call_error(c, ERR_OOM);
    r->q = (struct asof_query){
        .lsn = (uint64_t)opt[LSN].i, .time_ms = (uint64_t)opt[TIME].i, .vault = v, .under = buf_bytes(&r->under)};
    r->dry_run = opt[DRYRUN].given;
    r->expired_too = opt[EXPIRED].given;
    r->chore.run = restore_run;
    call_pending(c, &r->p, restore_finish, restore_release);
    chores_post(c->srv->chores, &r->chore);
    return CALL_PENDING;
}
