/* cmd_config.c - CONFIG. What blocks (REWRITE) runs as a chore; what concerns every thread's counters (RESETSTAT) is a
 * tour. */
#include <stdio.h>

#include "base/file.h"
#include "base/glob.h"
#include "base/mem.h"
#include "server/acl.h"
#include "server/chores.h"
#include "server/cmd_config.h"
#include "server/conn_private.h"
#include "server/handlers.h"

static int any_matches(const struct call *c, const char *name, int hidden)
{
    for (unsigned i = 2; i < c->argc; i++) {
        if (hidden && c->argv[i].n != strlen(name)) /* a pattern of as many characters is none that anybody writes */
            continue;
        if (glob_match(c->argv[i], bytes_str(name), 1))
            return 1;
    }
    return 0;
}

enum call_result config_get(struct call *c)
{
    struct buf value; /* may be requirepass */
    size_t mark = reply_mark(c->reply), n = 0;
    enum err e = ERR_OK;
    const char *name;

    buf_init_secret(&value, SIZE_MAX / 4);
    for (unsigned id = 0; id < CFG_COUNT && !e; id++) {
        if (config_rows[id].type == CONFIG_LINES)
            continue;
        for (unsigned k = 0; (name = config_name((enum config_id)id, k)) && !e; k++) {
            if (!any_matches(c, name, config_rows[id].flags & CONFIG_HIDDEN))
                continue;
            buf_clear(&value);
            e = config_show(c->srv->config, (enum config_id)id, &value);
            reply_bulk_str(c->reply, name);
            reply_bulk(c->reply, buf_bytes(&value));
            n++;
        }
    }
    buf_fini(&value);
    if (e) {
        reply_rewind(c->reply, mark);
        return call_error(c, e);
    }
    reply_insert_map(c->reply, mark, n);
    return CALL_DONE;
}

enum call_result config_set_cmd(struct call *c)
{
    enum { NO, YES, LOCAL };
    int64_t mode = config_int(c->srv->config, CFG_ENABLE_PROTECTED_CONFIGS);
    int protected_ok = mode == YES || (mode == LOCAL && conn_is_local(c->conn));
    char text[512];

    if (c->argc % 2)
        return call_errorf(c, ERR_ARITY, "wrong number of arguments for 'config|set' command");
    enum err e = config_set(c->srv->config, c->argv + 2, (c->argc - 2) / 2, protected_ok, text, sizeof text);
    if (e && text[0])
        return call_errorf(c, ERR_SYNTAX, "%s", text);
    if (e)
        return call_error(c, e);
    reply_ok(c->reply);
    return CALL_DONE;
}

/* ---- CONFIG RESETSTAT ---- */

struct reset {
    struct pending p;
    struct io_tour tour;
};

static void reset_visit(struct io_tour *t, struct io *io)
{
    (void)t;
    stats_clear(&io->stats);
}

static void reset_done(struct io_tour *t, struct io *io)
{
    (void)io;
    pending_complete(&mpsc_entry(t, struct reset, tour)->p);
}

static void reset_finish(struct pending *p, struct reply *r)
{
    (void)p;
    reply_ok(r);
}

static void reset_release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct reset, p));
}

enum call_result config_resetstat(struct call *c)
{
    struct reset *r = mem_zalloc(sizeof *r);
    if (!r)
        return call_error(c, ERR_OOM);
    r->tour.visit = reset_visit;
    r->tour.done = reset_done;
    atomic_store(&c->srv->rejected_connections, 0);
    call_pending(c, &r->p, reset_finish, reset_release);
    io_tour(c->io, &r->tour);
    return CALL_PENDING;
}

/* ---- CONFIG REWRITE ---- */

struct rewrite {
    struct pending p;
    struct chore chore;
    struct server *srv;
    enum err e;
    int error, all;
};

static void rewrite_run(struct chore *ch)
{
    struct rewrite *w = mpsc_entry(ch, struct rewrite, chore);
    struct buf users;
    buf_init_secret(&users, SIZE_MAX / 4);
    int changed;
    w->e = acl_config_lines(w->srv->acl, &users, &changed);
    struct bytes lines = buf_bytes(&users);
    if (!w->e)
        w->e = config_rewrite(w->srv->config, w->all, changed ? &lines : NULL);
    w->error = file_errno();
    buf_fini(&users);
    pending_complete(&w->p);
}

static void rewrite_finish(struct pending *p, struct reply *r)
{
    struct rewrite *w = mpsc_entry(p, struct rewrite, p);
    if (w->e == ERR_OK)
        reply_ok(r);
    else if (w->e == ERR_IO || w->e == ERR_MISCONF || w->e == ERR_NOTFOUND)
        reply_errorf(r, "ERR", "Rewriting config file: %s", strerror(w->error));
    else
        reply_error(r, w->e);
}

static void rewrite_release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct rewrite, p));
}

static enum call_result start_rewrite(struct call *c, int all)
{
    if (!c->srv->config->path)
        return call_errorf(c, ERR_SYNTAX, "The server is running without a config file");
    struct rewrite *w = mem_zalloc(sizeof *w);
    if (!w)
        return call_error(c, ERR_OOM);
    w->chore.run = rewrite_run;
    w->srv = c->srv;
    w->all = all;
    call_pending(c, &w->p, rewrite_finish, rewrite_release);
    chores_post(c->srv->chores, &w->chore);
    return CALL_PENDING;
}

enum call_result config_rewrite_cmd(struct call *c)
{
    return start_rewrite(c, 0);
}

enum call_result config_rewrite_all(struct call *c)
{
    return start_rewrite(c, 1);
}
