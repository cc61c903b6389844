/* bucketlink.c - see bucketlink.h. */
#include "server/bucketlink.h"

#include <unistd.h>

#include "base/log.h"
#include "server/realmdek.h"
#include "server/realmsign.h"

int bucketlink_given(const struct server *srv)
{
    return config_str(srv->config, CFG_OBJECT_STORE)[0] != '\0';
}

static enum err connect_store(void *arg, int (*stop)(void *), void *stop_arg, struct objstore **out,
                              struct objstore_trouble *t)
{
    const struct config *c = ((struct server *)arg)->config;
    const struct objstore_config cfg = {
        .url = config_str(c, CFG_OBJECT_STORE),
        .endpoint = config_str(c, CFG_OBJECT_STORE_ENDPOINT),
        .region = config_str(c, CFG_OBJECT_STORE_REGION),
        .credentials_file = config_str(c, CFG_OBJECT_STORE_CREDENTIALS_FILE),
        .ca_file = config_str(c, CFG_OBJECT_STORE_CA_CERT_FILE),
        .stop = stop,
        .arg = stop_arg,
    };
    return objstore_open(&cfg, out, t);
}

void bucketlink_config(struct server *srv, struct bucket_config *cfg)
{
    *cfg = (struct bucket_config){
        .signer = {realmsign, srv},
        .key_new = realmdek_new,
        .key_open = realmdek_open,
        .connect = connect_store,
        .arg = srv,
    };
    hsm_realm(srv->hsm, cfg->realm);
}

void bucketlink_node(const struct server *srv, char out[SNAPOBJECT_NODE_BYTES])
{
    const char *name = config_str(srv->config, CFG_NODE_NAME);
    char host[256] = "";
    size_t n = 0;

    if (!name[0] && gethostname(host, sizeof host - 1) == 0)
        name = host;
    for (; *name && n + 1 < SNAPOBJECT_NODE_BYTES; name++) {
        out[n] = *name;
        n++;
        if (!snapobject_node_valid(bytes_of(out, n)))
            out[n - 1] = n > 1 ? '-' : 'n';
    }
    out[n] = '\0';
    if (!n)
        memcpy(out, "node", sizeof "node");
}

static void settings(void *arg, struct upload_settings *out)
{
    const struct config *c = ((struct server *)arg)->config;
    *out = (struct upload_settings){
        .interval_ms = (uint64_t)config_int(c, CFG_OBJECT_STORE_INTERVAL) * 1000,
        .keep = (unsigned)config_int(c, CFG_OBJECT_STORE_KEEP),
        .unfinished_ms = (uint64_t)config_int(c, CFG_OBJECT_STORE_UNFINISHED_AGE) * 1000,
    };
}

static int stopping(void *arg)
{
    return atomic_load(&((struct server *)arg)->stopping);
}

static void log_line(int level, const char *line)
{
    log_at((enum log_level)level, "%s", line);
}

enum err bucketlink_start(struct server *srv)
{
    struct upload_config cfg = {.dir = ".",
                                .snapshots = engine_snapshots(srv->engine),
                                .bucket = &srv->bucket,
                                .settings = settings,
                                .stopping = stopping,
                                .log = log_line,
                                .arg = srv};
    if (!bucketlink_given(srv))
        return ERR_OK;
    engine_cell_id(srv->engine, cfg.cell_id);
    bucketlink_node(srv, cfg.node);
    return upload_start(&srv->upload, &cfg);
}
