/* cmd_snapshot.c - SNAPSHOT.CREATE, LIST, INFO, VERIFY; Redis's SAVE and its kin, which make snapshots too. What makes
 * snapshots is engine/snapshots.h; here they are asked for and shown. VERIFY reads a whole file, on another thread
 * (chores.h). */
#include <stdio.h>

#include "base/mem.h"
#include "engine/snapshots.h"
#include "resp/number.h"
#include "server/chores.h"
#include "server/handlers.h"
#include "server/realmsign.h"
#include "server/server.h"
#include "server/walcall.h"

#define FILES_MAX 64

static const char *state_name(enum snapshot_state s)
{
    return s == SNAPSHOT_BAD       ? "damaged"
           : s == SNAPSHOT_UNKNOWN ? "unknown"
           : s == SNAPSHOT_OPENED  ? "opened"
                                   : "whole";
}

/* ---- SNAPSHOT.CREATE ---- */

struct create {
    struct pending p;
    struct snapshots_wait w;
};

static void create_done(struct snapshots_wait *w)
{
    pending_complete(&mpsc_entry(w, struct create, w)->p);
}

static void create_finish(struct pending *p, struct reply *r)
{
    struct create *k = mpsc_entry(p, struct create, p);
    if (k->w.err == ERR_AGAIN)
        reply_errorf(r, "ERR", "the server is stopping");
    else if (k->w.err)
        reply_errorf(r, err_prefix(k->w.err), "no snapshot was made: %s", k->w.why);
    else
        reply_int(r, (int64_t)k->w.lsn);
}

static void create_release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct create, p));
}

static enum call_result create(struct call *c, void (*finish)(struct pending *p, struct reply *r))
{
    if (!walcall_ready(c))
        return CALL_DONE;
    struct create *k = mem_zalloc(sizeof *k);
    if (!k)
        return call_error(c, ERR_OOM);
    k->w.done = create_done;
    k->w.lsn = engine_commit_lsn(c->srv->engine);
    call_pending(c, &k->p, finish, create_release);
    snapshots_demand(engine_snapshots(c->srv->engine), &k->w);
    return CALL_PENDING;
}

enum call_result cmd_snapshot_create(struct call *c)
{
    return create(c, create_finish);
}

/* ---- SAVE, BGSAVE, BGREWRITEAOF, LASTSAVE ---- */

static void save_finish(struct pending *p, struct reply *r)
{
    if (mpsc_entry(p, struct create, p)->w.err)
        create_finish(p, r);
    else
        reply_ok(r);
}

enum call_result cmd_save(struct call *c)
{
    return create(c, save_finish);
}

static void nobody_waits(struct snapshots_wait *w)
{
    mem_free(w);
}

/* What became of it is in INFO, and in the log. */
static enum call_result begin(struct call *c, const char *answer)
{
    struct snapshots_wait *w = mem_zalloc(sizeof *w);
    if (!w)
        return call_error(c, ERR_OOM);
    w->done = nobody_waits;
    w->lsn = engine_commit_lsn(c->srv->engine);
    snapshots_demand(engine_snapshots(c->srv->engine), w);
    reply_simple(c->reply, answer);
    return CALL_DONE;
}

enum call_result cmd_bgsave(struct call *c)
{
    struct snapshots_info i;
    if (!walcall_ready(c))
        return CALL_DONE;
    if (c->argc > 2 || (c->argc == 2 && !bytes_is_word(c->argv[1], "SCHEDULE")))
        return call_error(c, ERR_SYNTAX);
    snapshots_info(engine_snapshots(c->srv->engine), &i);
    if (i.making && c->argc == 1)
        return call_errorf(c, ERR_SYNTAX, "Background save already in progress");
    return begin(c, i.making ? "Background saving scheduled" : "Background saving started");
}

/* There is no such file, but what it is asked for is what a snapshot does: the log need not reach back behind it. */
enum call_result cmd_bgrewriteaof(struct call *c)
{
    return walcall_ready(c) ? begin(c, "Background append only file rewriting started") : CALL_DONE;
}

enum call_result cmd_lastsave(struct call *c)
{
    struct snapshots_info i;
    if (!walcall_ready(c))
        return CALL_DONE;
    snapshots_info(engine_snapshots(c->srv->engine), &i);
    reply_int(c->reply, (int64_t)((i.saved_ms ? i.saved_ms : c->srv->started_ms) / 1000));
    return CALL_DONE;
}

/* ---- SNAPSHOT.LIST, SNAPSHOT.INFO ---- */

enum call_result cmd_snapshot_list(struct call *c)
{
    struct snapshots_file f[FILES_MAX];
    if (!walcall_ready(c))
        return CALL_DONE;
    unsigned n = snapshots_list(engine_snapshots(c->srv->engine), f, FILES_MAX);
    n = n < FILES_MAX ? n : FILES_MAX;
    reply_array(c->reply, n);
    for (unsigned i = 0; i < n; i++) {
        reply_map(c->reply, 4);
        walcall_reply_int(c->reply, "lsn", f[i].lsn);
        walcall_reply_int(c->reply, "term", f[i].term);
        walcall_reply_int(c->reply, "bytes", f[i].bytes);
        reply_bulk_str(c->reply, "state");
        reply_bulk_str(c->reply, state_name(f[i].verified));
    }
    return CALL_DONE;
}

enum call_result cmd_snapshot_info(struct call *c)
{
    struct snapshots_info i;
    if (!walcall_ready(c))
        return CALL_DONE;
    snapshots_info(engine_snapshots(c->srv->engine), &i);
    reply_map(c->reply, 13);
    walcall_reply_int(c->reply, "lsn", i.lsn);
    walcall_reply_int(c->reply, "term", i.term);
    walcall_reply_int(c->reply, "time", i.time_ms);
    walcall_reply_int(c->reply, "bytes", i.bytes);
    walcall_reply_int(c->reply, "entries", i.entries);
    reply_bulk_str(c->reply, "digest");
    walcall_reply_hex(c->reply, i.digest, sizeof i.digest);
    walcall_reply_int(c->reply, "files", i.files);
    walcall_reply_int(c->reply, "made", i.made);
    walcall_reply_int(c->reply, "failed", i.failed);
    walcall_reply_int(c->reply, "last-ms", i.last_ms);
    reply_bulk_str(c->reply, "making");
    reply_bool(c->reply, i.making);
    walcall_reply_int(c->reply, "making-bytes", i.making_bytes);
    reply_bulk_str(c->reply, "error");
    if (i.err)
        reply_bulk_str(c->reply, i.why);
    else
        reply_nil(c->reply);
    return CALL_DONE;
}

/* ---- SNAPSHOT.VERIFY [lsn] ---- */

struct verify {
    struct pending p;
    struct chore chore;
    struct server *srv;
    uint64_t lsn; /* in: 0: the newest */
    struct snapread_info info;
    uint64_t bad_block;
    enum err err;
    char why[128];
};

static enum err go_on(void *arg, uint64_t bytes)
{
    (void)bytes;
    return chores_stopping(((struct server *)arg)->chores) ? ERR_AGAIN : ERR_OK;
}

static enum err open_one(struct verify *v, struct snapread **r)
{
    struct snapshots_file f[FILES_MAX];
    struct snapshots *s = engine_snapshots(v->srv->engine);
    unsigned n = snapshots_list(s, f, FILES_MAX);
    for (unsigned i = 0; i < n && i < FILES_MAX; i++)
        if (!v->lsn || f[i].lsn == v->lsn)
            return snapshots_open_file(s, &f[i], r, v->why, sizeof v->why);
    return ERR_NOTFOUND;
}

static void verify_run(struct chore *chore)
{
    struct verify *v = mpsc_entry(chore, struct verify, chore);
    struct snapread *r = NULL;
    v->err = open_one(v, &r);
    if (!v->err) {
        snapread_info(r, &v->info);
        v->err = snapread_verify(r, go_on, v->srv, &v->bad_block);
        if (v->err == ERR_CORRUPT)
            snprintf(v->why, sizeof v->why, "block %llu does not verify", (unsigned long long)v->bad_block);
        snapread_unref(r);
    }
    pending_complete(&v->p);
}

static void verify_finish(struct pending *p, struct reply *r)
{
    struct verify *v = mpsc_entry(p, struct verify, p);
    if (v->err == ERR_NOTFOUND)
        reply_errorf(r, "ERR", "there is no such snapshot");
    else if (v->err == ERR_CORRUPT || v->err == ERR_UNSUPPORTED)
        reply_errorf(r, "CORRUPT", "the snapshot does not verify: %s", v->why);
    else if (v->err)
        reply_error(r, v->err == ERR_AGAIN ? ERR_LOADING : v->err);
    if (v->err)
        return;
    reply_map(r, 5);
    walcall_reply_int(r, "lsn", v->info.header.lsn);
    walcall_reply_int(r, "bytes", v->info.bytes);
    walcall_reply_int(r, "entries", v->info.entries);
    walcall_reply_int(r, "blocks", v->info.blocks);
    reply_bulk_str(r, "digest");
    walcall_reply_hex(r, v->info.digest, sizeof v->info.digest);
}

static void verify_release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct verify, p));
}

enum call_result cmd_snapshot_verify(struct call *c)
{
    int64_t lsn = 0;
    if (!walcall_ready(c))
        return CALL_DONE;
    if (c->argc > 2)
        return call_error(c, ERR_SYNTAX);
    if (c->argc == 2 && (!number_parse(c->argv[1], &lsn) || lsn < 1))
        return call_error(c, ERR_NOTINT);
    struct verify *v = mem_zalloc(sizeof *v);
    if (!v)
        return call_error(c, ERR_OOM);
    v->srv = c->srv;
    v->lsn = (uint64_t)lsn;
    v->chore.run = verify_run;
    call_pending(c, &v->p, verify_finish, verify_release);
    chores_post(c->srv->chores, &v->chore);
    return CALL_PENDING;
}
