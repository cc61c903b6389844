/* realmdek.c - see realmdek.h. */
#include "server/realmdek.h"

#include "base/mem.h"
#include "server/hsmwait.h"
#include "server/server.h"

/* The key is the first part of either answer. */
static enum err ask(struct server *srv, enum hsm_op op, const struct bytes *in, unsigned n, struct hsm_req *req,
                    uint8_t *key)
{
    enum err e = hsmwait(srv->hsm, op, in, n, req);

    mem_wipe(key, BOX_KEY_BYTES);
    if (!e && !hsmwait_part_is(req, 0, BOX_KEY_BYTES))
        e = ERR_INTERNAL;
    if (!e)
        memcpy(key, req->part[0].p, BOX_KEY_BYTES);
    return e;
}

enum err realmdek_new(void *srv, struct box_head *h, uint8_t *key)
{
    uint8_t context[BOX_CONTEXT_BYTES];
    struct bytes in = bytes_of(context, sizeof context);
    struct hsm_req req;

    box_put_context(context, h);
    enum err e = ask(srv, HSM_REALM_DEK_NEW, &in, 1, &req, key);
    if (!e && !hsmwait_part_is(&req, 1, sizeof h->wrapped))
        e = ERR_INTERNAL;
    if (!e)
        memcpy(h->wrapped, req.part[1].p, sizeof h->wrapped);
    else
        mem_wipe(key, BOX_KEY_BYTES);
    hsm_req_fini(&req);
    return e;
}

enum err realmdek_open(void *srv, const struct box_head *h, uint8_t *key)
{
    uint8_t context[BOX_CONTEXT_BYTES];
    struct bytes in[] = {bytes_of(context, sizeof context), bytes_of(h->wrapped, sizeof h->wrapped)};
    struct hsm_req req;

    box_put_context(context, h);
    enum err e = ask(srv, HSM_REALM_DEK_OPEN, in, 2, &req, key);
    hsm_req_fini(&req);
    return e;
}
