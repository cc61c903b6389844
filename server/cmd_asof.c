/* cmd_asof.c - SNAPSHOT.GET and STATE.DIGEST: looking at the past. SNAPSHOT.RESTORE is in cmd_restore.c.
 *
 * Both read snapshot and log on another thread (chores.h). A value is opened there, into locked memory, and copied into
 * the reply on the I/O thread. */
#include "base/hex.h"
#include "base/mem.h"
#include "engine/snapshots.h"
#include "server/access.h"
#include "server/asofcall.h"
#include "server/chores.h"
#include "server/handlers.h"
#include "server/server.h"
#include "server/walcall.h"

/* ---- SNAPSHOT.GET vault path [LSN lsn|TIME ms] ---- */

struct get {
    struct pending p;
    struct chore chore;
    struct server *srv;
    struct asof_query q;
    struct buf path;
    struct opener *opener;

    struct asof_moment moment;
    struct buf head, value; /* value: secret; no head: the path was not there */
    int has_value;
    enum err err;
    char why[200];
};

static enum err get_value(struct get *g, struct asof *a, const struct asof_secret *s, const struct secret_version *v)
{
    struct seal_bind bind = {.vault = g->q.vault->id, .version = v->version, .path = s->path};
    struct blob *b;
    enum err err = asof_value(a, s, v, &b);
    if (err)
        return err;
    err = access_open(g->srv, g->opener, (struct sealed){.raw = blob_bytes(b)}, &bind, g->q.vault, &g->value);
    blob_unref(b);
    g->has_value = err == ERR_OK;
    return err;
}

static enum err get_look(void *arg, struct asof *a)
{
    struct get *g = arg;
    struct asof_secret s;
    struct secret_version v;

    buf_clear(&g->head);
    asof_moment(a, &g->moment);
    enum err err = asof_find(a, buf_bytes(&g->path), &s);
    if (err)
        return err == ERR_NOTFOUND ? ERR_OK : err;
    err = buf_put(&g->head, s.raw.p, s.raw.n);
    return !err && asof_current(a, &s, &v) ? get_value(g, a, &s, &v) : err;
}

static void get_run(struct chore *chore)
{
    struct get *g = mpsc_entry(chore, struct get, chore);
    g->err = opener_new(&g->opener, g->srv->keyring);
    if (!g->err)
        g->err = asofcall_run(g->srv, &g->q, get_look, g, g->why, sizeof g->why);
    opener_free(g->opener);
    pending_complete(&g->p);
}

static void get_finish(struct pending *p, struct reply *r)
{
    struct get *g = mpsc_entry(p, struct get, p);
    struct secret_head head;
    int found = buf_size(&g->head) != 0;

    if (!g->err && found)
        g->err = secret_head_get(buf_bytes(&g->head), &head);
    if (g->err) {
        asofcall_error(r, g->err, g->why);
        return;
    }
    reply_map(r, 3 + (found ? ACCESS_META_PAIRS : 0));
    walcall_reply_int(r, "lsn", g->moment.lsn);
    walcall_reply_int(r, "time", g->moment.time_ms);
    reply_bulk_str(r, "value");
    if (g->has_value)
        reply_bulk(r, buf_bytes(&g->value));
    else
        reply_nil(r);
    if (found)
        access_reply_meta(r, &head, head.current, g->moment.time_ms);
}

static void get_release(struct pending *p)
{
    struct get *g = mpsc_entry(p, struct get, p);
    buf_fini(&g->path);
    buf_fini(&g->head);
    buf_fini(&g->value);
    mem_free(g);
}

enum call_result cmd_snapshot_get(struct call *c)
{
    enum { LSN, TIME, OPTS };
    static const struct option options[OPTS] = {[LSN] = ASOFCALL_LSN, [TIME] = ASOFCALL_TIME};
    struct option_value opt[OPTS];
    struct vault *v;

    if (options_parse(c, 3, options, OPTS, opt))
        return CALL_DONE;
    enum err err = access_vault(c, c->argv[1], &v);
    if (err == ERR_OK && (c->argv[2].n == 0 || c->argv[2].n > SECRET_PATH_MAX))
        err = ERR_BADPATH;
    if (err)
        return access_fail(c, err, c->argv[1]);
    struct get *g = mem_zalloc(sizeof *g);
    if (!g)
        return call_error(c, ERR_OOM);
    buf_init(&g->path, SECRET_PATH_MAX);
    buf_init(&g->head, RECORD_MAX_BYTES);
    buf_init_secret(&g->value, RECORD_MAX_BYTES);
    if (buf_put(&g->path, c->argv[2].p, c->argv[2].n)) {
        get_release(&g->p);
        return call_error(c, ERR_OOM);
    }
    g->srv = c->srv;
    g->q = (struct asof_query){
        .lsn = (uint64_t)opt[LSN].i, .time_ms = (uint64_t)opt[TIME].i, .vault = v, .under = buf_bytes(&g->path)};
    g->chore.run = get_run;
    call_pending(c, &g->p, get_finish, get_release);
    chores_post(c->srv->chores, &g->chore);
    return CALL_PENDING;
}

/* ---- STATE.DIGEST [LSN lsn|STORES], DEBUG DIGEST ---- */

struct digest {
    struct pending p;
    struct chore chore;
    struct server *srv;
    int stores, debug;
    struct asof_query q;
    uint64_t lsn;
    uint8_t digest[SNAPFILE_HASH_BYTES];
    enum err err;
    char why[200];
};

static void reply_digest(struct reply *r, uint64_t lsn, const uint8_t *digest)
{
    reply_array(r, 2);
    reply_int(r, (int64_t)lsn);
    walcall_reply_hex(r, digest, SNAPFILE_HASH_BYTES);
}

/* In Redis's form, for tests that compare two nodes. */
static void reply_debug_digest(struct reply *r, const uint8_t *digest)
{
    char hex[41];
    hex_put(hex, digest, 20);
    reply_simple(r, hex);
}

static enum err digest_look(void *arg, struct asof *a)
{
    struct digest *d = arg;
    struct asof_moment m;
    asof_moment(a, &m);
    d->lsn = m.lsn;
    return asof_digest(a, d->digest);
}

static void digest_run(struct chore *chore)
{
    struct digest *d = mpsc_entry(chore, struct digest, chore);
    if (d->stores)
        d->err = asof_stores_digest(d->srv->engine, &d->q, &d->lsn, d->digest);
    else
        d->err = asofcall_run(d->srv, &d->q, digest_look, d, d->why, sizeof d->why);
    pending_complete(&d->p);
}

static void digest_finish(struct pending *p, struct reply *r)
{
    struct digest *d = mpsc_entry(p, struct digest, p);
    if (d->err)
        asofcall_error(r, d->err, d->why);
    else if (d->debug)
        reply_debug_digest(r, d->digest);
    else
        reply_digest(r, d->lsn, d->digest);
}

static void digest_release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct digest, p));
}

static enum call_result digest_of_newest(struct call *c)
{
    struct snapshots_info i;
    snapshots_info(engine_snapshots(c->srv->engine), &i);
    if (!i.lsn)
        return call_errorf(c, ERR_RANGE, "there is no snapshot yet: SNAPSHOT.CREATE makes one");
    reply_digest(c->reply, i.lsn, i.digest);
    return CALL_DONE;
}

static enum call_result digest_at(struct call *c, const struct digest *want)
{
    struct digest *d = mem_alloc(sizeof *d);
    if (!d)
        return call_error(c, ERR_OOM);
    *d = *want;
    d->srv = c->srv;
    d->chore.run = digest_run;
    call_pending(c, &d->p, digest_finish, digest_release);
    chores_post(c->srv->chores, &d->chore);
    return CALL_PENDING;
}

enum call_result debug_digest(struct call *c)
{
    if (!walcall_ready(c))
        return CALL_DONE;
    return digest_at(c, &(struct digest){.debug = 1, .q.lsn = engine_commit_lsn(c->srv->engine)});
}

enum call_result cmd_state_digest(struct call *c)
{
    enum { LSN, STORES, OPTS };
    static const struct option options[OPTS] = {[LSN] = ASOFCALL_LSN, [STORES] = {"STORES", OPTION_FLAG, .group = 1}};
    struct option_value opt[OPTS];

    if (!walcall_ready(c) || options_parse(c, 1, options, OPTS, opt))
        return CALL_DONE;
    if (!opt[LSN].given && !opt[STORES].given)
        return digest_of_newest(c);
    return digest_at(c, &(struct digest){.stores = opt[STORES].given, .q.lsn = (uint64_t)opt[LSN].i});
}
