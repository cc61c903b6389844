/* cmd_shard.c - SHARD.REBUILD: a shard is made anew from snapshot and log while it serves (engine/rebuild.h). */
#include "base/mem.h"
#include "engine/rebuild.h"
#include "resp/number.h"
#include "server/handlers.h"
#include "server/server.h"
#include "server/walcall.h"

struct shard_rebuild {
    struct pending p;
    struct rebuild_wait w;
};

static void rebuilt(struct rebuild_wait *w)
{
    pending_complete(&mpsc_entry(w, struct shard_rebuild, w)->p);
}

static void rebuild_finish(struct pending *p, struct reply *r)
{
    const struct rebuild_wait *w = &mpsc_entry(p, struct shard_rebuild, p)->w;
    if (w->err) {
        reply_errorf(r, w->err == ERR_AGAIN ? "ERR" : err_prefix(w->err), "the shard was not rebuilt: %s", w->why);
        return;
    }
    reply_map(r, 6);
    walcall_reply_int(r, "shard", w->store - 1);
    walcall_reply_int(r, "snapshot-lsn", w->from_lsn);
    walcall_reply_int(r, "lsn", w->lsn);
    walcall_reply_int(r, "entries", w->entries);
    walcall_reply_int(r, "records", w->records);
    walcall_reply_int(r, "ms", w->ms);
}

static void rebuild_release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct shard_rebuild, p));
}

enum call_result cmd_shard_rebuild(struct call *c)
{
    int64_t shard;

    if (!walcall_ready(c))
        return CALL_DONE;
    if (!number_parse(c->argv[1], &shard))
        return call_error(c, ERR_NOTINT);
    if (shard < 0 || shard >= (int64_t)engine_shards(c->srv->engine))
        return call_errorf(c, ERR_RANGE, "shards are 0 to %u", engine_shards(c->srv->engine) - 1);
    struct shard_rebuild *k = mem_zalloc(sizeof *k);
    if (!k)
        return call_error(c, ERR_OOM);
    k->w.done = rebuilt;
    k->w.store = (unsigned)shard + 1;
    call_pending(c, &k->p, rebuild_finish, rebuild_release);
    rebuild_demand(engine_rebuild(c->srv->engine), &k->w);
    return CALL_PENDING;
}
