/* restore.c - see restore.h.
 *
 * restore_begin is a loop: look (at the directory, at the object store), decide, wait for somebody to say something or
 * for the time to look again. What is asked of it is in `waits`; one that fails is answered and the loop goes on.
 *
 * Rejected: recovering by itself when the directory is empty (an operator who mounts the wrong disk would get a second,
 * older history without noticing); a tool of its own beside the server (it would need the HSM, the configuration and
 * the rest of the server's start again).
 */
#include "server/restore.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hex.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/celldir.h"
#include "engine/install.h"
#include "engine/room.h"
#include "engine/storedir.h"
#include "server/acl.h"
#include "server/bucketlink.h"
#include "server/repl.h"

#define TICK_US 200000
#define ASK_AGAIN_US 5000000
#define PATH_BYTES 4096
#define LOCAL_MAX 64

struct restore {
    struct server *srv;
    _Atomic uint64_t here_bytes;

    pthread_mutex_t lock; /* what follows */
    pthread_cond_t wake;
    struct restore_wait *waits;
    struct restore_info info;
    int has_result;
    struct restore_result result;
};

/* What there is to recover from. */
struct found {
    int has_cell; /* DIR/cell says which; or somebody did */
    struct celldir cell;
    struct bucket b;
    struct bucket_list there;                   /* of that cell, or of all */
    char local[LOCAL_MAX][SNAPFILE_NAME_BYTES]; /* newest first */
    unsigned locals;
};

const char *restore_state_name(enum restore_state s)
{
    static const char *const name[] = {"looking", "waiting", "recovering", "damaged", "over"};
    return name[s];
}

static int stopping(void *arg)
{
    return atomic_load(&((struct server *)arg)->stopping);
}

static void enter(struct restore *r, enum restore_state s, const char *why)
{
    pthread_mutex_lock(&r->lock);
    int new = why[0] && strcmp(r->info.why, why) != 0;
    r->info.state = s;
    snprintf(r->info.why, sizeof r->info.why, "%s", why);
    pthread_mutex_unlock(&r->lock);
    if (new)
        log_at(LOG_WARNING, "%s", why);
    /* Users are in the log; somebody has to be able to say what is to be done without it. */
    if ((s == RESTORE_WAITING || s == RESTORE_DAMAGED) && r->srv->acl && acl_log_lost(r->srv->acl))
        log_at(LOG_WARNING, "Out of memory: the default user may not say what is to be done");
}

/* ---- what there is ---- */

static enum err look_here(struct found *f)
{
    char **names;
    size_t n;
    enum err e = celldir_read(".", &f->cell);

    f->has_cell = e == ERR_OK;
    if (e && e != ERR_NOTFOUND) {
        log_at(LOG_WARNING, "The file cell in the data directory cannot be read: %s", err_text(e));
        return e;
    }
    e = file_list("snapshots", &names, &n);
    if (e)
        return e == ERR_NOTFOUND ? ERR_OK : e;
    for (size_t i = n; i-- > 0 && f->locals < LOCAL_MAX;) { /* names sort as their LSNs do */
        uint64_t lsn;
        uint32_t term;
        if (snapfile_parse_name(names[i], &lsn, &term))
            snprintf(f->local[f->locals++], SNAPFILE_NAME_BYTES, "%s", names[i]);
    }
    file_free_names(names, n);
    return ERR_OK;
}

static enum err look_there(struct restore *r, struct found *f)
{
    struct server *srv = r->srv;

    if (!bucketlink_given(srv))
        return ERR_OK;
    enum err e = bucket_open(&f->b, &srv->bucket, stopping, srv);
    if (!e)
        e = bucket_list(&f->b, f->has_cell ? f->cell.cell_id : NULL, &f->there);
    return e;
}

static void found_free(struct found *f)
{
    bucket_list_free(&f->there);
    bucket_close(&f->b);
    *f = (struct found){0};
}

/* ---- recovering ---- */

/* What is said of one snapshot, and whether another may do. */
static int passes_over(struct found *f, enum err e)
{
    int over = e == ERR_CORRUPT || e == ERR_NOTFOUND;
    if (over)
        log_at(LOG_WARNING, "A snapshot is passed over: %s", f->b.text);
    return over;
}

/* The only cell there of which a manifest verifies. */
static enum err find_cell(struct found *f, uint8_t cell_id[16])
{
    struct snapmanifest m;
    char one[33], other[33];
    int any = 0;

    for (size_t i = 0; i < f->there.n; i++) {
        const struct bucket_entry *at = &f->there.at[i];
        if (!at->manifest || (any && bytes_equal(bytes_of(at->object.cell_id, 16), bytes_of(cell_id, 16))))
            continue;
        enum err e = bucket_manifest(&f->b, &at->object, &m);
        if (e && !passes_over(f, e))
            return e;
        if (e)
            continue;
        if (any) {
            hex_put(one, cell_id, 16);
            hex_put(other, at->object.cell_id, 16);
            return bucket_fail(
                &f->b, ERR_CONFLICT,
                "the object store has snapshots of several cells (%s, %s): name one, as in CELL.FORCE-RECOVER %s", one,
                other, one);
        }
        memcpy(cell_id, at->object.cell_id, 16);
        any = 1;
    }
    return any ? ERR_OK
               : bucket_fail(&f->b, ERR_NOTFOUND,
                             "no snapshot in the object store verifies with this HSM's token: is it of the realm?");
}

/* A snapshot that is here, and is whole; ERR_CORRUPT: it is not. */
static enum err open_local(struct found *f, const char *name, struct snapread **out)
{
    char path[PATH_BYTES], why[128] = "";
    uint64_t bad = 0;

    snprintf(path, sizeof path, "snapshots/%s", name);
    enum err e = snapread_open(out, path, f->cell.cell_id, &f->b.cfg->signer, why, sizeof why);
    if (e)
        return bucket_fail(&f->b, e == ERR_UNSUPPORTED ? ERR_CORRUPT : e, "%s does not verify: %s", path,
                           why[0] ? why : err_text(e));
    e = snapread_verify(*out, bucket_pace, &f->b, &bad);
    if (!e)
        return ERR_OK;
    snapread_unref(*out);
    *out = NULL;
    return bucket_fail(&f->b, e, "block %llu of %s does not verify: %s", (unsigned long long)bad, path, err_text(e));
}

/* The best one that is here; *out NULL: none. */
static enum err best_local(struct found *f, struct snapread **out)
{
    *out = NULL;
    for (unsigned i = 0; i < f->locals; i++) {
        enum err e = open_local(f, f->local[i], out);
        if (!e || !passes_over(f, e))
            return e;
    }
    return ERR_OK;
}

static uint64_t keep_free(const struct server *srv)
{
    return room_for_snapshot((size_t)config_int(srv->config, CFG_DIRTY_LIMIT));
}

static enum err fetch_one(struct restore *r, struct found *f, const struct bucket_entry *at, struct snapmanifest *m)
{
    struct bucket_want w = {.dir = ".", .keep_free = keep_free(r->srv), .here = &r->here_bytes};
    enum err e = bucket_manifest(&f->b, &at->object, m);

    if (e)
        return e;
    atomic_store(&r->here_bytes, 0);
    pthread_mutex_lock(&r->lock);
    r->info.total_bytes = m->bytes;
    pthread_mutex_unlock(&r->lock);
    log_at(LOG_NOTICE, "Fetching the snapshot at LSN %llu of %s from the object store: %llu bytes",
           (unsigned long long)m->object.lsn, m->object.node, (unsigned long long)m->bytes);
    e = bucket_fetch(&f->b, m, &w);
    pthread_mutex_lock(&r->lock);
    r->info.total_bytes = 0;
    pthread_mutex_unlock(&r->lock);
    if (!e)
        log_at(LOG_NOTICE, "Fetched; %llu MiB of it were here from an earlier try",
               (unsigned long long)w.resumed >> 20);
    return e;
}

static int better(const struct snapobject *o, const struct snapfile_header *h)
{
    return o->term > h->term || (o->term == h->term && o->lsn > h->lsn);
}

/* The best of those there that are better than the one here, brought here; in place of that. *node is whose. */
static enum err best_of_all(struct restore *r, struct found *f, struct snapread **best,
                            char node[SNAPOBJECT_NODE_BYTES])
{
    struct snapmanifest m;
    struct snapread_info info = {0};
    char name[SNAPFILE_NAME_BYTES];

    if (*best)
        snapread_info(*best, &info);
    for (size_t i = 0; i < f->there.n; i++) {
        const struct bucket_entry *at = &f->there.at[i];
        if (!at->manifest || !bytes_equal(bytes_of(at->object.cell_id, 16), bytes_of(f->cell.cell_id, 16)))
            continue;
        if (*best && !better(&at->object, &info.header))
            break;
        enum err e = fetch_one(r, f, at, &m);
        if (e && !passes_over(f, e))
            return e;
        if (e)
            continue;
        snapread_unref(*best);
        snprintf(node, SNAPOBJECT_NODE_BYTES, "%s", m.object.node);
        snapfile_name(name, m.object.lsn, m.object.term);
        return open_local(f, name, best);
    }
    return *best ? ERR_OK
                 : bucket_fail(&f->b, ERR_NOTFOUND,
                               "no snapshot of the cell verifies, neither here nor in the object store");
}

/* Another history's, or damaged: the engine would take it for the newest. */
static enum err set_aside(struct found *f, const struct snapfile_header *h)
{
    char from[PATH_BYTES], to[PATH_BYTES];

    for (unsigned i = 0; i < f->locals; i++) {
        uint64_t lsn = 0;
        uint32_t term = 0;
        if (!snapfile_parse_name(f->local[i], &lsn, &term) || lsn < h->lsn || (lsn == h->lsn && term == h->term))
            continue;
        snprintf(from, sizeof from, "snapshots/%s", f->local[i]);
        snprintf(to, sizeof to, "%.4000s.aside", from);
        enum err e = file_rename(from, to);
        if (e && e != ERR_NOTFOUND)
            return bucket_fail(&f->b, e, "%s cannot be set aside: %s", from, err_text(e));
        log_at(LOG_WARNING, "%s is not used, and is called %s from now on", from, to);
    }
    enum err e = file_unlink("wal/mark"); /* of a log that is gone */
    return e && e != ERR_NOTFOUND ? bucket_fail(&f->b, e, "wal/mark cannot be removed: %s", err_text(e)) : ERR_OK;
}

static enum err write_cell(struct restore *r, struct found *f, struct snapread *snap)
{
    unsigned needed, wanted = (unsigned)config_int(r->srv->config, CFG_SHARDS);
    enum err e = install_shards(snap, &needed);

    if (e)
        return bucket_fail(&f->b, e, "the vaults in the snapshot cannot be read: %s", err_text(e));
    if (f->cell.shards && f->cell.shards < needed)
        return bucket_fail(&f->b, ERR_CONFLICT, "the file cell says %u shards, but the snapshot has vaults in %u",
                           f->cell.shards, needed);
    if (!f->cell.shards) {
        f->cell.shards = wanted > needed ? wanted : needed;
        e = celldir_write(".", &f->cell);
    }
    return e ? bucket_fail(&f->b, e, "the file cell cannot be written: %s", err_text(e)) : ERR_OK;
}

/* They would be ahead of the log that begins, or of another history. */
static enum err refuse_stores(struct found *f)
{
    int any;
    enum err e = storedir_any(".", &any);

    if (e)
        return bucket_fail(&f->b, e, "the data directory cannot be read: %s", err_text(e));
    return any ? bucket_fail(&f->b, ERR_CONFLICT,
                             "there are stores here (base, shard-*), newer than any snapshot maybe, whose log is gone: "
                             "put wal/ back, or move them away and say it again")
               : ERR_OK;
}

/* Above all that any name tells of. */
static uint32_t new_term(const struct found *f, const struct snapfile_header *h)
{
    uint32_t term = h->term, local;
    uint64_t lsn;

    for (size_t i = 0; i < f->there.n; i++)
        if (bytes_equal(bytes_of(f->there.at[i].object.cell_id, 16), bytes_of(f->cell.cell_id, 16)) &&
            f->there.at[i].object.term > term)
            term = f->there.at[i].object.term;
    for (unsigned i = 0; i < f->locals; i++)
        if (snapfile_parse_name(f->local[i], &lsn, &local) && local > term)
            term = local;
    return term < UINT32_MAX - RESTORE_TERM_GAP ? term + RESTORE_TERM_GAP : UINT32_MAX;
}

static void say_recovered(const struct restore_result *x)
{
    time_t t = (time_t)(x->time_ms / 1000);
    struct tm tm;
    char when[32] = "", id[33];

    hex_put(id, x->cell_id, 16);
    if (gmtime_r(&t, &tm))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S UTC", &tm);
    log_at(LOG_WARNING,
           "FORCED RECOVERY: cell %s goes on from the snapshot at LSN %llu (term %u, %s%s), in term %u. The last "
           "record in "
           "it is of %s. Whatever was written after it is lost.",
           id, (unsigned long long)x->lsn, x->term, x->node[0] ? "of node " : "local", x->node, x->new_term, when);
}

/* w: who said so; NULL: the directive did. */
static enum err recover(struct restore *r, struct found *f, const struct restore_wait *w)
{
    struct restore_result x = {0};
    struct celldir_begin begin = {0};
    struct snapread_info info;
    struct snapread *snap = NULL;

    f->b.cfg = &r->srv->bucket; /* without an object store too: signer */
    f->b.stop = stopping;
    f->b.stop_arg = r->srv;
    enum err e = refuse_stores(f);
    if (e)
        return e;
    if (w && !w->any) {
        if (f->has_cell && !bytes_equal(bytes_of(w->cell_id, 16), bytes_of(f->cell.cell_id, 16)))
            return bucket_fail(&f->b, ERR_CONFLICT, "the file cell in the data directory is of another cell");
        memcpy(f->cell.cell_id, w->cell_id, 16);
    } else if (!f->has_cell) {
        e = find_cell(f, f->cell.cell_id);
    }
    if (!e)
        e = best_local(f, &snap);
    if (!e)
        e = best_of_all(r, f, &snap, x.node);
    if (e)
        goto out;
    snapread_info(snap, &info);
    begin.lsn = x.lsn = info.header.lsn;
    begin.term = x.new_term = new_term(f, &info.header);
    begin.behind = info.header.term;
    memcpy(begin.chain, info.header.chain, sizeof begin.chain);
    if ((e = set_aside(f, &info.header)) || (e = write_cell(r, f, snap)))
        goto out;
    if ((e = celldir_write_begin(".", &begin))) {
        bucket_fail(&f->b, e, "the file begin cannot be written: %s", err_text(e));
        goto out;
    }
    x.term = info.header.term;
    x.time_ms = info.header.time_ms;
    memcpy(x.cell_id, f->cell.cell_id, 16);
    say_recovered(&x);
    pthread_mutex_lock(&r->lock);
    r->result = x;
    r->has_result = 1;
    pthread_mutex_unlock(&r->lock);
out:
    snapread_unref(snap);
    return e;
}

/* ---- who waits ---- */

/* Takes the first; NULL: none. */
static struct restore_wait *take_wait(struct restore *r)
{
    pthread_mutex_lock(&r->lock);
    struct restore_wait *w = r->waits;
    if (w)
        r->waits = w->next;
    pthread_mutex_unlock(&r->lock);
    return w;
}

static void put_back(struct restore *r, struct restore_wait *w)
{
    pthread_mutex_lock(&r->lock);
    w->next = r->waits;
    r->waits = w;
    pthread_mutex_unlock(&r->lock);
}

static void answer(struct restore_wait *w, enum err e, const char *why)
{
    w->err = e;
    snprintf(w->why, sizeof w->why, "%s", why);
    w->done(w);
}

void restore_demand(struct restore *r, struct restore_wait *w)
{
    pthread_mutex_lock(&r->lock);
    enum restore_state s = r->info.state;
    if (s == RESTORE_WAITING || s == RESTORE_RUNNING) {
        w->next = r->waits;
        r->waits = w;
        pthread_cond_signal(&r->wake);
    }
    pthread_mutex_unlock(&r->lock);
    if (s == RESTORE_LOOKING)
        answer(w, ERR_LOADING, "the data directory is being looked at: try again shortly");
    else if (s == RESTORE_DAMAGED)
        answer(w, ERR_CONFLICT, "the log is here, though damaged: it may hold what no snapshot does");
    else if (s == RESTORE_OVER)
        answer(w, ERR_CONFLICT, "this node has a log: there is nothing to recover by force");
}

void restore_done(struct restore *r, enum err e)
{
    const char *why = e == ERR_AGAIN ? "the server is stopping"
                      : e            ? "the start failed: the log file says why"
                                     : "a new cell was begun: there was nothing to recover";
    struct restore_wait *w;

    enter(r, RESTORE_OVER, "");
    if (!e &&
        config_put(r->srv->config, "force-recover", "no")) /* it was for one start: CONFIG REWRITE is not to keep it */
        log_at(LOG_WARNING, "force-recover cannot be set back: out of memory");
    while ((w = take_wait(r))) {
        w->result = r->result;
        answer(w, e ? e : r->has_result ? ERR_OK : ERR_CONFLICT, why);
    }
}

/* ---- the loop ---- */

/* Until somebody asks, or it is time to look again (us, 0: no time is). ERR_AGAIN: the server is stopping. */
static enum err wait_for_a_word(struct restore *r, uint64_t us)
{
    uint64_t until = clock_mono_us() + us;

    pthread_mutex_lock(&r->lock);
    while (!stopping(r->srv) && !r->waits && (!us || clock_mono_us() < until))
        clock_cond_wait(&r->wake, &r->lock, clock_mono_us() + TICK_US);
    pthread_mutex_unlock(&r->lock);
    return stopping(r->srv) ? ERR_AGAIN : ERR_OK;
}

static int anything(const struct found *f)
{
    for (size_t i = 0; i < f->there.n; i++)
        if (f->there.at[i].manifest)
            return 1;
    return f->locals > 0;
}

static void say_waiting(struct restore *r, const struct found *f)
{
    char text[768];
    unsigned n = 0;

    for (size_t i = 0; i < f->there.n; i++)
        n += f->there.at[i].manifest;
    snprintf(
        text, sizeof text,
        "there is no log here, but %u snapshots here and %u in the object store: put the log back, or run "
        "CELL.FORCE-RECOVER to go on from the newest snapshot (what was written after it is lost); for a new cell set "
        "another prefix in object-store",
        f->locals, n);
    enter(r, RESTORE_WAITING, text);
}

static void say_unknown(struct restore *r, const struct found *f)
{
    char text[sizeof f->b.text + 128];

    snprintf(text, sizeof text,
             "there is no log here, and the object store cannot be asked whether it has snapshots: %s", f->b.text);
    enter(r, RESTORE_WAITING, text);
}

/* Somebody said so; w NULL: the directive did. What fails is told, and forgotten but for a stop. */
static enum err try_to_recover(struct restore *r, struct found *f, struct restore_wait *w, int *over)
{
    enter(r, RESTORE_RUNNING, "");
    enum err e = recover(r, f, w);
    *over = !e;
    if (!e) {
        if (w)
            put_back(r, w); /* for restore_done */
        return e;
    }
    log_at(LOG_WARNING, "The recovery failed: %s", f->b.text);
    say_waiting(r, f);
    if (w)
        answer(w, e, f->b.text);
    return e == ERR_AGAIN ? e : ERR_OK;
}

/* One turn. *over: it is clear what to do. */
static enum err turn(struct restore *r, int *over)
{
    struct found f = {0};
    int forced = (int)config_int(r->srv->config, CFG_FORCE_RECOVER);
    uint64_t again_us = 0;
    enum err e = look_here(&f), there = e ? e : look_there(r, &f);
    struct restore_wait *w = e ? NULL : take_wait(r);

    if (!e && there && there != ERR_AGAIN) {
        say_unknown(r, &f);
        again_us = ASK_AGAIN_US;
        if (w)
            answer(w, there, f.b.text);
    } else if (!e && there) {
        e = there;
        if (w)
            put_back(r, w);
    } else if (!e && !anything(&f)) {
        *over = 1;
        if (w)
            put_back(r, w);
    } else if (!e && (w || forced)) {
        e = try_to_recover(r, &f, w, over);
        again_us = forced ? ASK_AGAIN_US : 0;
    } else if (!e) {
        say_waiting(r, &f);
    }
    found_free(&f);
    return e || *over ? e : wait_for_a_word(r, again_us);
}

enum err restore_begin(struct restore *r)
{
    struct celldir_begin begin;
    int has_log, over = 0;
    enum err e = celldir_has_log(".", &has_log);

    if (e)
        log_at(LOG_WARNING, "The log's directory cannot be read: %s", err_text(e));
    if (e || has_log)
        return e;
    e = celldir_read_begin(".", &begin);
    if (e && e != ERR_NOTFOUND)
        log_at(LOG_WARNING, "The file begin in the data directory cannot be read: %s", err_text(e));
    over = e == ERR_OK; /* it was recovered, and the engine did not come to open it */
    e = e == ERR_NOTFOUND ? ERR_OK : e;
    while (!e && !over)
        e = turn(r, &over);
    return e;
}

/* ---- for a log without a snapshot ---- */

enum err restore_snapshot(void *arg, const uint8_t cell_id[16], uint64_t from, uint64_t to,
                          int (*fits)(void *arg, const struct snapfile_header *h), void *fits_arg)
{
    struct server *srv = arg;
    struct bucket_want w = {.dir = ".", .keep_free = keep_free(srv), .fits = fits, .arg = fits_arg};
    struct bucket_list l = {0};
    struct snapmanifest m;
    struct bucket b;
    enum err e, best = ERR_NOTFOUND;

    if (!bucketlink_given(srv))
        return ERR_NOTFOUND;
    e = bucket_open(&b, &srv->bucket, stopping, srv);
    if (!e)
        e = bucket_list(&b, cell_id, &l);
    for (size_t i = 0; i < l.n && !e && best; i++) {
        const struct snapobject *o = &l.at[i].object;
        if (!l.at[i].manifest || o->lsn < from || o->lsn > to)
            continue;
        best = bucket_manifest(&b, o, &m);
        if (!best)
            best = bucket_fetch(&b, &m, &w);
        if (best)
            log_at(LOG_WARNING, "A snapshot is passed over: %s", b.text);
        else
            log_at(LOG_NOTICE, "The snapshot at LSN %llu of node %s was fetched from the object store",
                   (unsigned long long)o->lsn, o->node);
        e = best == ERR_CORRUPT || best == ERR_NOTFOUND ? ERR_OK : best;
    }
    if (e)
        log_at(LOG_WARNING, "No snapshot can be had from the object store: %s", b.text);
    bucket_list_free(&l);
    bucket_close(&b);
    return e ? e : best;
}

/* ---- the outside ---- */

void restore_refuse(struct restore *r, struct reply *reply)
{
    struct restore_info i = {0};

    if (r)
        restore_info(r, &i);
    char why[HELLO_WHY_BYTES];
    if (i.state == RESTORE_WAITING || i.state == RESTORE_DAMAGED)
        reply_errorf(reply, "MISCONF", "%s", i.why);
    else if (r && r->srv->repl && repl_is_waiting(r->srv->repl, why))
        reply_errorf(reply, "LOADING", "this node is empty and waits for its cell: %.400s", why);
    else
        reply_error(reply, ERR_LOADING);
}

void restore_hold(struct restore *r, const char *why)
{
    enter(r, RESTORE_DAMAGED, why);
}

void restore_info(struct restore *r, struct restore_info *out)
{
    pthread_mutex_lock(&r->lock);
    *out = r->info;
    pthread_mutex_unlock(&r->lock);
    out->here_bytes = out->total_bytes ? atomic_load(&r->here_bytes) : 0;
}

enum err restore_new(struct restore **out, struct server *srv)
{
    struct restore *r = *out = mem_zalloc(sizeof *r);

    if (!r)
        return ERR_OOM;
    r->srv = srv;
    pthread_mutex_init(&r->lock, NULL);
    clock_cond_init(&r->wake);
    return ERR_OK;
}

void restore_free(struct restore *r)
{
    if (!r)
        return;
    pthread_cond_destroy(&r->wake);
    pthread_mutex_destroy(&r->lock);
    mem_free(r);
}
