/* cmd_fallback.c - REPL.READ: the primary's side of fallback.h.
 *
 * The command is carried out as if it had come by itself, in the database and the protocol that its client has. It is
 * one that answers at once, or parks; then this one parks, and is dispatched anew. */
#include "base/hex.h"
#include "base/mem.h"
#include "resp/number.h"
#include "server/access.h"
#include "server/acl.h"
#include "server/acl_log.h"
#include "server/command.h"
#include "server/conn.h"
#include "server/fallback.h"
#include "server/handlers.h"
#include "server/io.h"
#include "server/repl.h"
#include "server/server.h"

struct asked { /* in their order */
    uint8_t cell[16];
    int64_t number, lsn;
    struct bytes user;
    int64_t db, proto;
};

/* Plaintext goes to another node as a link's secrets do, or not off this machine. */
static const char *is_open(const struct call *c)
{
    const char *why = repl_insecure(c->srv, c->conn);
    if (why || conn_is_tls(c->conn) || conn_is_local(c->conn))
        return why;
    return "secrets are handed to a replica over TLS only (tls-replication), or on one machine";
}

static int is_number(struct bytes word, int64_t min, int64_t max, int64_t *out)
{
    return number_parse(word, out) && *out >= min && *out <= max;
}

static int parse(const struct call *c, struct asked *a)
{
    int64_t databases = config_int(c->srv->config, CFG_DATABASES);
    const struct bytes *w = c->argv;
    a->user = w[4];
    return hex_get(w[1], a->cell, sizeof a->cell) && is_number(w[2], 0, INT64_MAX, &a->number) &&
           is_number(w[3], 0, INT64_MAX, &a->lsn) && is_number(w[5], 0, databases - 1, &a->db) &&
           is_number(w[6], 2, 3, &a->proto);
}

static int is_of_this_cell(const struct call *c, const struct asked *a)
{
    uint8_t mine[16];
    engine_cell_id(c->srv->engine, mine);
    return bytes_equal(bytes_of(a->cell, sizeof a->cell), bytes_of(mine, sizeof mine));
}

/* 1: this node may answer; else it said why not. */
static int may_answer(struct call *c, const struct asked *a)
{
    const char *open = is_open(c);
    enum err e = repl_may_read(c->srv, io_now_us(c->io));
    uint64_t lsn = engine_commit_lsn(c->srv->engine);
    if (open)
        call_errorf(c, ERR_NOPERM, "%s", open);
    else if (!is_of_this_cell(c, a))
        call_errorf(c, ERR_CONFLICT, "this node is of another cell");
    else if (!repl_is_master(c->srv))
        call_errorf(c, ERR_READONLY, "this node is no primary, and forwards nothing");
    else if (e)
        call_error(c, e);
    else if (lsn < (uint64_t)a->lsn)
        call_errorf(c, ERR_MASTERDOWN, "this node has LSN %llu, and not %lld yet", (unsigned long long)lsn,
                    (long long)a->lsn);
    else
        return 1;
    return 0;
}

/* A refusal is noted as one of the command itself would be. */
static enum err check(const struct acl_user *u, const struct call *read)
{
    struct acl_denial why;
    enum err e = acl_check(u, 1, read, &why);
    if (e == ERR_NOPERM) {
        stat_add(&io_stats(read->io)->acl_denied, 1);
        acl_log_add(read->srv->acl_log, read, u, &why);
    }
    return e;
}

static enum err check_name(struct bytes name, const struct call *read)
{
    struct acl_user *u = acl_find(read->srv->acl, name);
    int enabled = u && acl_user_enabled(u);
    enum err e = enabled ? check(u, read) : ERR_NOPERM;
    if (!enabled)
        acl_log_add_login(read->srv->acl_log, read, name);
    acl_user_unref(u);
    return e;
}

/* Who is logged in, and whom he asks for. */
static enum err may_read(const struct call *read, const struct asked *a)
{
    enum err e = check_name(a->user, read);
    return e ? e : check(conn_user(read->conn), read);
}

static void put_answer(struct call *c, const struct reply *inner, const struct asked *a)
{
    if (inner->failed) {
        call_error(c, inner->failed);
        return;
    }
    reply_array(c->reply, 3);
    reply_int(c->reply, a->number);
    reply_int(c->reply, (int64_t)engine_commit_lsn(c->srv->engine)); /* not less than what was seen */
    if (c->argc == FALLBACK_WORDS)
        reply_nil(c->reply);
    else
        reply_bulk(c->reply, buf_bytes(inner->b));
}

/* In the database of who asks. */
static enum call_result carry_out(struct call *c, struct call *read, const struct asked *a)
{
    unsigned db = conn_db(c->conn);
    enum call_result result = CALL_DONE;
    conn_set_db(c->conn, (unsigned)a->db);
    enum err e = may_read(read, a);
    if (!e)
        result = read->cmd->fn(read);
    conn_set_db(c->conn, db);
    if (e)
        call_errorf(c, e, "that user may not do that here");
    else if (result == CALL_DONE)
        put_answer(c, read->reply, a);
    return result;
}

enum call_result cmd_repl_read(struct call *c)
{
    struct asked a;
    struct buf out;
    struct reply inner;
    int sub_unknown;

    if (!parse(c, &a))
        return call_error(c, ERR_SYNTAX);
    if (!may_answer(c, &a))
        return CALL_DONE;
    buf_init_secret(&out, FALLBACK_ANSWER_BYTES);
    reply_init(&inner, &out, (int)a.proto);
    struct call read = *c;
    read.argv += FALLBACK_WORDS;
    read.argc -= FALLBACK_WORDS;
    read.reply = &inner;
    enum call_result result = CALL_DONE;
    if (!read.argc)
        put_answer(c, &inner, &a);
    else if (!(read.cmd = command_find(read.argv, read.argc, &sub_unknown)) || !read.cmd->fn ||
             !command_is_lookup(read.cmd) || !command_arity_ok(read.cmd, read.argc))
        call_errorf(c, ERR_SYNTAX, "that is no read that is answered for others");
    else
        result = carry_out(c, &read, &a);
    buf_fini(&out);
    mem_wipe_registers();
    return result;
}
