/* sweep.c - see sweep.h. */
#include "server/sweep.h"

#include "base/log.h"
#include "engine/vault.h"
#include "hsm/partition.h"
#include "hsm/proto.h"
#include "server/hsmwait.h"

#define BATCH 256
#define IDS_BYTES (HSM_FRAME_MAX / 2)

void sweep_mark(const struct server *srv, uint8_t id[SWEEP_CELL_BYTES])
{
    uint8_t cell[16];
    engine_cell_id(srv->engine, cell);
    memcpy(id, cell, SWEEP_CELL_BYTES);
}

static enum err put_id(struct buf *ids, const struct vault *v)
{
    struct partition_config c;
    enum err e = partition_parse(v->partition, &c);
    return e ? e : buf_put(ids, c.id.p, c.id.n);
}

/* Of all vaults. ERR_TOOBIG: more than a request holds. */
static enum err collect(struct vaults *vs, struct buf *ids)
{
    struct vault *v[BATCH];
    struct bytes after = bytes_of(NULL, 0);
    size_t n = BATCH;
    enum err e = ERR_OK;

    while (n == BATCH && !e) {
        n = vaults_list(vs, after, after.n == 0, v, BATCH);
        for (size_t i = 0; i < n && !e; i++)
            e = put_id(ids, v[i]);
        if (n)
            after = bytes_str(v[n - 1]->name);
    }
    return e;
}

static enum err sweep(struct server *srv, struct buf *ids, uint32_t *swept)
{
    uint8_t prefix[SWEEP_CELL_BYTES];
    struct hsm_req req;
    enum err e = collect(engine_vaults(srv->engine), ids);

    *swept = 0;
    if (e)
        return e;
    sweep_mark(srv, prefix);
    struct bytes part[] = {bytes_of(prefix, sizeof prefix), buf_bytes(ids)};
    e = hsmwait(srv->hsm, HSM_PARTITION_SWEEP, part, 2, &req);
    if (!e && !hsmwait_part_is(&req, 0, sizeof *swept))
        e = ERR_INTERNAL;
    if (!e)
        *swept = get_le32(req.part[0].p);
    hsm_req_fini(&req);
    return e;
}

void sweep_token(struct server *srv)
{
    struct buf ids;
    uint32_t swept;

    if (!srv->report.wal.last_lsn)
        return; /* what was made before is known to others only */
    buf_init(&ids, IDS_BYTES);
    enum err e = sweep(srv, &ids, &swept);
    buf_fini(&ids);
    if (swept)
        log_at(LOG_NOTICE, "Partitions that no vault has are gone from the HSM's token: %lu", (unsigned long)swept);
    if (e && !atomic_load(&srv->stopping))
        log_at(LOG_WARNING, "The HSM's token may hold partitions that no vault has: %s", err_text(e));
}
