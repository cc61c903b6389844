/* cmd_scrub.c - SCRUB.NOW: a pass over all files, waited for (engine/scrub.h). */
#include "base/mem.h"
#include "engine/scrub.h"
#include "server/handlers.h"
#include "server/server.h"
#include "server/walcall.h"

struct scrubbing {
    struct pending p;
    struct scrub_wait w;
};

static void scrubbed(struct scrub_wait *w)
{
    pending_complete(&mpsc_entry(w, struct scrubbing, w)->p);
}

static void scrub_finish(struct pending *p, struct reply *r)
{
    const struct scrub_wait *w = &mpsc_entry(p, struct scrubbing, p)->w;
    if (w->err) {
        reply_errorf(r, "ERR", "the server is stopping");
        return;
    }
    reply_map(r, 7);
    walcall_reply_int(r, "pass", w->pass);
    walcall_reply_int(r, "files", w->items);
    walcall_reply_int(r, "bytes", w->bytes);
    walcall_reply_int(r, "errors", w->errors);
    walcall_reply_int(r, "repaired", w->repaired);
    walcall_reply_int(r, "skipped", w->skipped);
    walcall_reply_int(r, "ms", w->ms);
}

static void scrub_release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct scrubbing, p));
}

enum call_result cmd_scrub_now(struct call *c)
{
    if (!walcall_ready(c))
        return CALL_DONE;
    struct scrubbing *k = mem_zalloc(sizeof *k);
    if (!k)
        return call_error(c, ERR_OOM);
    k->w.done = scrubbed;
    call_pending(c, &k->p, scrub_finish, scrub_release);
    scrub_demand(engine_scrub(c->srv->engine), &k->w);
    return CALL_PENDING;
}
