/* cmd_database.c - databases of the façade as a whole: DBSIZE, FLUSHDB, FLUSHALL, SWAPDB. Each costs the same whatever
 * they hold: the number is kept, a flush is a mark in the vault's counters (engine/secret.h), a swap is one record of
 * who is whose vault (engine/databases.h). SELECT is in cmd_conn.c.
 */
#include "engine/databases.h"
#include "resp/number.h"
#include "server/access.h"
#include "server/change.h"
#include "server/conn.h"
#include "server/facade.h"
#include "server/handlers.h"
#include "server/multi.h"
#include "server/options.h"
#include "server/server.h"

static const struct bytes none = {NULL, 0};

enum call_result string_dbsize(struct call *c)
{
    struct vault *v;
    uint64_t n = 0;
    if (!c->exec || !multi_count(c->exec, &n))
        n = facade_vault(c, conn_db(c->conn), 0, &v) ? 0 : atomic_load(&v->secrets);
    reply_int(c->reply, (int64_t)n);
    return CALL_DONE;
}

static void answer_ok(struct change *ch, struct reply *r)
{
    (void)ch;
    reply_ok(r);
}

/* SYNC and ASYNC are the same: nobody waits for what is left behind. */
static int flush_words_ok(struct call *c)
{
    static const char *const words[] = {"SYNC", "ASYNC", NULL};
    if (c->argc == 1 || (c->argc == 2 && options_word(c->argv[1], words) >= 0))
        return 1;
    call_error(c, ERR_SYNTAX);
    return 0;
}

static enum call_result done(struct call *c)
{
    reply_ok(c->reply);
    return CALL_DONE;
}

enum call_result string_flushdb(struct call *c)
{
    struct vault *v;
    struct change *ch;
    if (!flush_words_ok(c))
        return CALL_DONE;
    enum err err = facade_vault(c, conn_db(c->conn), 0, &v);
    if (err == ERR_NOTFOUND)
        return done(c);
    if (!err)
        err = change_new(1, 0, &ch);
    if (err)
        return access_fail(c, err, none);
    ch->step[0] = (struct step){.kind = STEP_VAULT_FLUSH, .vault = v};
    return change_submit(c, ch, v, answer_ok);
}

/* The vaults of the façade that are there; at most max of them are stored. Returns their number. */
static unsigned databases_there(struct engine *e, struct vault **out, unsigned max)
{
    struct vault *page[64];
    struct bytes after = none;
    unsigned n = 0;
    for (size_t got; (got = vaults_list(engine_vaults(e), after, 0, page, 64)) > 0;) {
        for (size_t i = 0; i < got; i++)
            if (page[i]->facade && atomic_load(&page[i]->state) == VAULT_ACTIVE && n++ < max)
                out[n - 1] = page[i];
        after = bytes_str(page[got - 1]->name);
    }
    return n;
}

enum call_result string_flushall(struct call *c)
{
    struct vault *v[1024];
    struct change *ch;
    if (!flush_words_ok(c))
        return CALL_DONE;
    unsigned n = databases_there(c->srv->engine, v, 1024);
    if (n == 0)
        return done(c);
    if (n > 1024)
        return call_errorf(c, ERR_TOOBIG, "there are more than 1024 databases: FLUSHDB them one by one");
    enum err err = change_new(n, 0, &ch);
    if (err)
        return access_fail(c, err, none);
    for (unsigned i = 0; i < n; i++)
        ch->step[i] = (struct step){.kind = STEP_VAULT_FLUSH, .vault = v[i]};
    return change_submit(c, ch, NULL, answer_ok);
}

static int swap_index(struct call *c, unsigned i, const char *which, int64_t *db)
{
    if (!number_parse(c->argv[i], db)) {
        call_errorf(c, ERR_NOTINT, "invalid %s DB index", which);
        return 0;
    }
    if (*db >= 0 && *db < config_int(c->srv->config, CFG_DATABASES))
        return 1;
    call_errorf(c, ERR_RANGE, "DB index is out of range");
    return 0;
}

enum call_result string_swapdb(struct call *c)
{
    int64_t a, b;
    struct change *ch;
    if (!swap_index(c, 1, "first", &a) || !swap_index(c, 2, "second", &b))
        return CALL_DONE;
    enum err err = change_new(1, 0, &ch);
    if (err)
        return access_fail(c, err, none);
    ch->step[0] = (struct step){.kind = STEP_DATABASES_SWAP, .mark = (uint64_t)a, .version = (uint32_t)b};
    if (c->exec)
        multi_swap(c->exec, (unsigned)a, (unsigned)b);
    return change_submit(c, ch, NULL, answer_ok);
}
