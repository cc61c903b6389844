/* facade.c - see facade.h. */
#include "server/facade.h"

#include "server/access.h"
#include "server/conn.h"
#include "server/dek.h"
#include "server/server.h"

/* Splits "{vault}/path". 1 when key has that form and vault could be a name. */
static int split_tagged(struct bytes key, struct bytes *vault, struct bytes *path)
{
    if (key.n < 4 || key.p[0] != '{')
        return 0;
    const uint8_t *close = memchr(key.p, '}', key.n);
    if (!close || (size_t)(close - key.p) + 1 >= key.n || close[1] != '/')
        return 0;
    *vault = bytes_of(key.p + 1, (size_t)(close - key.p) - 1);
    *path = bytes_of(close + 2, key.n - (size_t)(close - key.p) - 2);
    return vault_name_ok(*vault);
}

enum err facade_resolve(struct call *c, struct bytes key, int create, struct facade_key *out)
{
    struct bytes vault;
    enum err err;

    if (split_tagged(key, &vault, &out->path)) {
        err = access_vault(c, vault, &out->vault);
    } else {
        out->path = key;
        err = deks_database(c->srv->deks, c, conn_db(c->conn), create, &out->vault);
        if (err == ERR_NOVAULT)
            err = ERR_NOTFOUND;
        if (err == ERR_OK && atomic_load(&out->vault->state) != VAULT_ACTIVE)
            err = ERR_KEYSTATE;
    }
    if (err == ERR_OK && (out->path.n < 1 || out->path.n > SECRET_PATH_MAX))
        err = ERR_BADPATH;
    return err;
}

enum err facade_read(struct call *c, struct bytes key, int want_value, struct facade_key *k, struct secret_view *view)
{
    enum err err = facade_resolve(c, key, 0, k);
    if (err)
        return err;
    if (want_value)
        return secret_read(c->srv->engine, k->vault, k->path, 0, bytes_of(NULL, 0), view);
    err = secret_read_head(c->srv->engine, k->vault, k->path, view);
    if (err == ERR_OK && !secret_visible(&view->head, c->now_ms)) {
        secret_view_release(view);
        err = ERR_NOTFOUND;
    }
    return err;
}
