/* facade.c - see facade.h. */
#include "server/facade.h"

#include "engine/databases.h"
#include "server/access.h"
#include "server/conn.h"
#include "server/dek.h"
#include "server/io.h"
#include "server/keyevent.h"
#include "server/multi.h"
#include "server/server.h"

int facade_split(struct bytes key, struct bytes *vault, struct bytes *path)
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

static unsigned look_up(const struct call *c, unsigned db)
{
    if (c->exec)
        db = multi_database(c->exec, db);
    if (!c->srv || atomic_load_explicit(&c->srv->loading, memory_order_acquire) || !c->srv->engine)
        return db; /* nothing is known, and nothing is served */
    return databases_vault(engine_databases(c->srv->engine), db);
}

unsigned facade_database(const struct call *c, unsigned db)
{
    struct call_databases *d = c->databases;
    for (unsigned i = 0; d && i < d->n; i++)
        if (d->at[i].db == db)
            return d->at[i].vault;
    unsigned vault = look_up(c, db);
    if (d && d->n < sizeof d->at / sizeof d->at[0]) {
        d->at[d->n].db = db;
        d->at[d->n++].vault = vault;
    }
    return vault;
}

int facade_keys_each(const struct call *c, int (*visit)(void *arg, const struct command_key *key), void *arg)
{
    struct buf scratch;
    unsigned db = c->conn ? conn_db(c->conn) : 0;
    unsigned to = command_target(c->cmd, c->argv, c->argc, db);
    buf_init(&scratch, SIZE_MAX / 4);
    int stopped = command_keys_each(c->cmd, c->argv, c->argc, facade_database(c, db), facade_database(c, to), &scratch,
                                    visit, arg);
    buf_fini(&scratch);
    return stopped;
}

enum err facade_vault(struct call *c, unsigned db, int create, struct vault **out)
{
    enum err err = deks_database(c->srv->deks, c, facade_database(c, db), create, out);
    if (err == ERR_OK && atomic_load(&(*out)->state) != VAULT_ACTIVE)
        err = ERR_KEYSTATE;
    return err == ERR_NOVAULT ? access_missed(c, ERR_NOTFOUND) : err;
}

enum err facade_resolve(struct call *c, struct bytes key, int create, struct facade_key *out)
{
    return facade_resolve_in(c, key, conn_db(c->conn), create, out);
}

enum err facade_resolve_in(struct call *c, struct bytes key, unsigned db, int create, struct facade_key *out)
{
    struct bytes vault;
    enum err err;

    if (facade_split(key, &vault, &out->path)) {
        err = access_vault(c, vault, &out->vault);
    } else {
        out->path = key;
        err = facade_vault(c, db, create, &out->vault);
    }
    if (err == ERR_OK && (out->path.n < 1 || out->path.n > SECRET_PATH_MAX))
        err = ERR_BADPATH;
    return err;
}

/* For INFO, and whoever listens to keymiss events. */
static void count_look(struct call *c, enum err err, struct bytes key)
{
    struct io_stats *stats = io_stats(c->io);
    if (err == ERR_OK)
        stat_add(&stats->hits, 1);
    if (err != ERR_NOTFOUND)
        return;
    stat_add(&stats->misses, 1);
    if (keyevent_wanted())
        keyevent_send(c->srv, EVENT_MISS, conn_db(c->conn), key);
}

enum err facade_read(struct call *c, struct bytes key, int want_value, struct facade_key *k, struct secret_view *view)
{
    enum err err = facade_resolve(c, key, 0, k);
    if (err) {
        count_look(c, err, key);
        return err;
    }
    if (want_value) {
        err = access_read(c, k->vault, k->path, 0, bytes_of(NULL, 0), view);
    } else if ((err = access_read_head(c, k->vault, k->path, view)) == ERR_OK &&
               !secret_visible(&view->head, c->now_ms)) {
        secret_view_release(view);
        err = ERR_NOTFOUND;
    }
    count_look(c, err, key);
    return err;
}

enum err facade_value(struct call *c, struct bytes key, struct engine_moment *m, struct buf *value, int *there)
{
    struct facade_key k;
    struct secret_view view;
    enum err err = facade_read(c, key, 1, &k, &view);
    *there = err == ERR_OK;
    if (m)
        engine_moment_saw(m, err ? NULL : &view);
    if (err)
        return err == ERR_NOTFOUND || err == ERR_BADPATH ? ERR_OK : err;
    err = access_value(c, k.vault, k.path, &view, value);
    secret_view_release(&view);
    return err;
}
