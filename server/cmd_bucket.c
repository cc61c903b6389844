/* cmd_bucket.c - SNAPSHOT.UPLOAD, SNAPSHOT.CLUSTER, CELL.FORCE-RECOVER: snapshots in the object store. What is done is
 * in upload.h, bucket.h and restore.h; here it is asked for and shown. */
#include <stdio.h>

#include "base/hex.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/snapshots.h"
#include "resp/number.h"
#include "server/acl.h"
#include "server/bucketlink.h"
#include "server/chores.h"
#include "server/conn_private.h"
#include "server/handlers.h"
#include "server/restore.h"
#include "server/server.h"
#include "server/walcall.h"

static int is_given(struct call *c)
{
    if (c->srv->upload)
        return 1;
    call_errorf(c, ERR_SYNTAX, "there is no object store: set object-store and the directives with it, and restart");
    return 0;
}

/* ---- SNAPSHOT.UPLOAD [lsn] ---- */

struct sending {
    struct pending p;
    struct upload_wait w;
};

static void upload_done(struct upload_wait *w)
{
    pending_complete(&mpsc_entry(w, struct sending, w)->p);
}

static void upload_finish(struct pending *p, struct reply *r)
{
    const struct upload_wait *w = &mpsc_entry(p, struct sending, p)->w;
    if (w->err) {
        reply_errorf(r, err_prefix(w->err), "the snapshot is not in the object store: %s", w->why);
        return;
    }
    reply_map(r, 3);
    walcall_reply_int(r, "lsn", w->lsn);
    reply_bulk_str(r, "object");
    reply_bulk_str(r, w->object);
    walcall_reply_int(r, "bytes", w->bytes);
}

static void upload_release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct sending, p));
}

enum call_result cmd_snapshot_upload(struct call *c)
{
    struct snapshots_info i;
    int64_t lsn = 0;

    if (!walcall_ready(c) || !is_given(c))
        return CALL_DONE;
    if (c->argc > 2)
        return call_error(c, ERR_SYNTAX);
    if (c->argc == 2 && (!number_parse(c->argv[1], &lsn) || lsn < 1))
        return call_error(c, ERR_NOTINT);
    struct sending *s = mem_zalloc(sizeof *s);
    if (!s)
        return call_error(c, ERR_OOM);
    snapshots_info(engine_snapshots(c->srv->engine), &i);
    s->w.lsn = lsn ? (uint64_t)lsn : i.lsn;
    s->w.exact = lsn != 0;
    s->w.done = upload_done;
    call_pending(c, &s->p, upload_finish, upload_release);
    upload_demand(c->srv->upload, &s->w);
    return CALL_PENDING;
}

/* ---- SNAPSHOT.CLUSTER ---- */

#define NODES_MAX 256

struct standing {
    struct snapobject o;
    int here; /* else in the object store */
};

struct cluster {
    struct pending p;
    struct chore chore;
    struct server *srv;
    struct standing node[NODES_MAX]; /* [0]: this one */
    unsigned nodes;
    enum err err;
    char why[768];
};

static int better(const struct snapobject *a, const struct snapobject *b)
{
    return a->term != b->term ? a->term > b->term : a->lsn > b->lsn;
}

/* NULL: nothing is known of it. */
static struct standing *of_node(struct cluster *k, const char *node)
{
    for (unsigned i = 0; i < k->nodes; i++)
        if (strcmp(k->node[i].o.node, node) == 0)
            return &k->node[i];
    return NULL;
}

/* A manifest there; one that does not verify, or is gone meanwhile, says nothing. */
static enum err look_at(struct cluster *k, struct bucket *b, const struct snapobject *o)
{
    struct standing *s = of_node(k, o->node);
    struct snapmanifest m;

    if ((s && !better(o, &s->o)) || (!s && k->nodes == NODES_MAX))
        return ERR_OK;
    enum err e = bucket_manifest(b, o, &m);
    if (e)
        return e == ERR_CORRUPT || e == ERR_NOTFOUND ? ERR_OK : e;
    *(s ? s : &k->node[k->nodes++]) = (struct standing){*o, 0};
    return ERR_OK;
}

static int is_stopping(void *srv)
{
    return atomic_load(&((struct server *)srv)->stopping);
}

static void cluster_run(struct chore *chore)
{
    struct cluster *k = mpsc_entry(chore, struct cluster, chore);
    struct bucket_list l = {0};
    struct bucket b;

    k->err = bucket_open(&b, &k->srv->bucket, is_stopping, k->srv);
    if (!k->err)
        k->err = bucket_list(&b, k->node[0].o.cell_id, &l);
    for (size_t i = 0; i < l.n && !k->err; i++)
        if (l.at[i].manifest)
            k->err = look_at(k, &b, &l.at[i].object);
    if (k->err)
        snprintf(k->why, sizeof k->why, "%s", b.text);
    bucket_list_free(&l);
    bucket_close(&b);
    pending_complete(&k->p);
}

static void put_standing(struct reply *r, const struct standing *s)
{
    walcall_reply_int(r, "lsn", s->o.lsn);
    walcall_reply_int(r, "term", s->o.term);
    reply_bulk_str(r, "node");
    reply_bulk_str(r, s->o.node);
    reply_bulk_str(r, "place");
    reply_bulk_str(r, s->here ? "here" : "object-store");
}

static void cluster_finish(struct pending *p, struct reply *r)
{
    const struct cluster *k = mpsc_entry(p, struct cluster, p);
    const struct standing *winner = &k->node[0];

    for (unsigned i = 1; i < k->nodes; i++)
        if (better(&k->node[i].o, &winner->o))
            winner = &k->node[i];
    reply_map(r, 6);
    put_standing(r, winner);
    reply_bulk_str(r, "nodes");
    reply_array(r, k->nodes);
    for (unsigned i = 0; i < k->nodes; i++) {
        reply_map(r, 4);
        put_standing(r, &k->node[i]);
    }
    reply_bulk_str(r, "error");
    if (k->err)
        reply_bulk_str(r, k->why);
    else
        reply_nil(r);
}

static void cluster_release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct cluster, p));
}

enum call_result cmd_snapshot_cluster(struct call *c)
{
    struct snapshots_info i;

    if (!walcall_ready(c))
        return CALL_DONE;
    struct cluster *k = mem_zalloc(sizeof *k);
    if (!k)
        return call_error(c, ERR_OOM);
    snapshots_info(engine_snapshots(c->srv->engine), &i);
    k->srv = c->srv;
    k->nodes = 1;
    k->node[0] = (struct standing){.o = {.lsn = i.lsn, .term = i.term}, .here = 1};
    engine_cell_id(c->srv->engine, k->node[0].o.cell_id);
    bucketlink_node(c->srv, k->node[0].o.node);
    k->chore.run = cluster_run;
    call_pending(c, &k->p, cluster_finish, cluster_release);
    if (bucketlink_given(c->srv))
        chores_post(c->srv->chores, &k->chore);
    else
        pending_complete(&k->p);
    return CALL_PENDING;
}

/* ---- CELL.FORCE-RECOVER [cell] ---- */

struct recovery {
    struct pending p;
    struct restore_wait w;
};

static void recover_done(struct restore_wait *w)
{
    pending_complete(&mpsc_entry(w, struct recovery, w)->p);
}

static void recover_finish(struct pending *p, struct reply *r)
{
    const struct restore_wait *w = &mpsc_entry(p, struct recovery, p)->w;
    const struct restore_result *x = &w->result;

    if (w->err) {
        reply_errorf(r, w->err == ERR_LOADING ? "LOADING" : "ERR", "not recovered: %s", w->why);
        return;
    }
    reply_map(r, 6);
    reply_bulk_str(r, "cell");
    walcall_reply_hex(r, x->cell_id, sizeof x->cell_id);
    walcall_reply_int(r, "lsn", x->lsn);
    walcall_reply_int(r, "time", x->time_ms);
    walcall_reply_int(r, "term", x->new_term);
    walcall_reply_int(r, "snapshot-term", x->term);
    reply_bulk_str(r, "node");
    if (x->node[0])
        reply_bulk_str(r, x->node);
    else
        reply_nil(r);
}

static void recover_release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct recovery, p));
}

enum call_result cmd_cell_force_recover(struct call *c)
{
    uint8_t cell_id[16] = {0};

    if (c->argc > 2)
        return call_error(c, ERR_SYNTAX);
    if (c->argc == 2 && !hex_get(c->argv[1], cell_id, sizeof cell_id))
        return call_errorf(c, ERR_SYNTAX, "a cell is named by its id, 32 hex digits");
    if (!c->srv->restore)
        return call_error(c, ERR_UNSUPPORTED);
    struct recovery *k = mem_zalloc(sizeof *k);
    if (!k)
        return call_error(c, ERR_OOM);
    log_at(LOG_WARNING, "CELL.FORCE-RECOVER by user %s from %s", acl_user_name(c->conn->user), c->conn->peer);
    k->w.any = c->argc == 1;
    memcpy(k->w.cell_id, cell_id, sizeof cell_id);
    k->w.done = recover_done;
    call_pending(c, &k->p, recover_finish, recover_release);
    restore_demand(c->srv->restore, &k->w);
    return CALL_PENDING;
}
