/* realmsign.c - see realmsign.h. */
#include "server/realmsign.h"

#include <string.h>

#include "server/hsmwait.h"
#include "server/server.h"

enum err realmsign(void *arg, struct bytes in, uint8_t out[32])
{
    struct server *srv = arg;
    struct hsm_req req;
    enum err e = hsmwait(srv->hsm, HSM_REALM_MAC, &in, 1, &req);

    if (!e && !hsmwait_part_is(&req, 0, 32))
        e = ERR_INTERNAL;
    if (!e)
        memcpy(out, req.part[0].p, 32);
    hsm_req_fini(&req);
    return e;
}
