/* multi.c - see multi.h; what EXEC does is in exec.c.
 *
 * A struct exec is a connection's transaction, from MULTI or WATCH on. It is freed by the connection's slot, or, when
 * the client goes while the write is under way, by the write's end: until then the engine reads the arguments.
 */
#include <stdio.h>

#include "base/mem.h"
#include "server/access.h"
#include "server/multi_impl.h"

/* ---- memory ---- */

static void queued_free(struct queued *q)
{
    buf_fini(&q->answer);
    mem_secret_free(q, q->size);
}

static void watches_drop(struct exec *x)
{
    while (x->watches) {
        struct watch *w = x->watches;
        x->watches = w->next;
        mem_secret_free(w, sizeof *w + w->n);
    }
    x->watch_bytes = 0;
}

void exec_free(struct exec *x)
{
    exec_plan_drop(x);
    while (x->first) {
        struct queued *q = x->first;
        x->first = q->next;
        queued_free(q);
    }
    watches_drop(x);
    buf_fini(&x->steps);
    buf_fini(&x->out);
    mem_free(x);
}

static void slot_dropped(struct conn *c, void *state)
{
    struct exec *x = state;
    conn_set_multi(c, 0);
    conn_capture(c, NULL);
    x->conn = NULL;
    if (!x->in_flight)
        exec_free(x);
}

struct exec *exec_of(const struct conn *c)
{
    return conn_slot(c, SLOT_MULTI);
}

static struct exec *exec_make(struct call *c)
{
    struct exec *x = exec_of(c->conn);
    if (x || !(x = mem_zalloc(sizeof *x)))
        return x;
    x->srv = c->srv;
    x->conn = c->conn;
    x->end = &x->first;
    buf_init(&x->steps, SIZE_MAX / 4);
    buf_init_secret(&x->out, CONN_ANSWER_BYTES);
    conn_set_slot(c->conn, SLOT_MULTI, x, slot_dropped);
    return x;
}

void exec_end(struct conn *c)
{
    conn_set_slot(c, SLOT_MULTI, NULL, NULL);
}

int multi_under_way(const struct conn *c)
{
    const struct exec *x = exec_of(c);
    return x && x->state != QUEUEING;
}

void multi_spoil(struct conn *c)
{
    struct exec *x = exec_of(c);
    if (!x)
        return;
    x->dirty |= x->watches != NULL;
    watches_drop(x);
}

/* ---- MULTI, DISCARD, WATCH, UNWATCH ---- */

int multi_length(const struct conn *c)
{
    const struct exec *x = exec_of(c);
    return x && x->open ? (int)x->count : -1;
}

size_t multi_bytes(const struct conn *c)
{
    const struct exec *x = exec_of(c);
    return x ? x->bytes + x->watch_bytes : 0;
}

enum call_result cmd_multi(struct call *c)
{
    struct exec *x = exec_make(c);
    if (!x)
        return call_error(c, ERR_OOM);
    if (x->open)
        return call_errorf(c, ERR_SYNTAX, "MULTI calls can not be nested");
    x->open = 1;
    conn_set_multi(c->conn, 1);
    reply_ok(c->reply);
    return CALL_DONE;
}

enum call_result cmd_discard(struct call *c)
{
    const struct exec *x = exec_of(c->conn);
    if (!x || !x->open)
        return call_errorf(c, ERR_SYNTAX, "DISCARD without MULTI");
    exec_end(c->conn);
    reply_ok(c->reply);
    return CALL_DONE;
}

static int is_watched(const struct exec *x, unsigned db, struct bytes key)
{
    for (const struct watch *w = x->watches; w; w = w->next)
        if (w->db == db && bytes_equal(bytes_of(w->key, w->n), key))
            return 1;
    return 0;
}

static enum err watch_add(struct call *c, struct exec *x, struct bytes key)
{
    struct facade_key k;
    uint64_t mark = 0, vault = 0, since = engine_commit_lsn(c->srv->engine); /* before it is looked for */
    unsigned db = conn_db(c->conn);
    enum err err = facade_resolve(c, key, 0, &k);
    if (err == ERR_OK) {
        vault = k.vault->id;
        err = secret_mark(c->srv->engine, k.vault, k.path, &mark);
    }
    if (err && err != ERR_NOTFOUND)
        return err;
    if (is_watched(x, db, key))
        return ERR_OK;
    struct watch *w = mem_secret_alloc(sizeof *w + key.n);
    if (!w)
        return ERR_OOM;
    *w = (struct watch){.next = x->watches, .db = db, .vault = vault, .mark = mark, .since = since, .n = key.n};
    memcpy(w->key, key.p, key.n);
    x->watches = w;
    x->watch_bytes += sizeof *w + key.n;
    return ERR_OK;
}

enum call_result cmd_watch(struct call *c)
{
    struct exec *x = exec_make(c);
    if (!x)
        return call_error(c, ERR_OOM);
    if (x->open)
        return call_errorf(c, ERR_SYNTAX, "WATCH inside MULTI is not allowed");
    for (unsigned i = 1; i < c->argc; i++) {
        enum err err = watch_add(c, x, c->argv[i]);
        if (err)
            return access_fail(c, err, bytes_of(NULL, 0));
    }
    reply_ok(c->reply);
    return CALL_DONE;
}

/* Inside EXEC there is nothing left to forget. */
enum call_result cmd_unwatch(struct call *c)
{
    struct exec *x = exec_of(c->conn);
    if (x && !x->open)
        exec_end(c->conn);
    reply_ok(c->reply);
    return CALL_DONE;
}

/* ---- the queue ---- */

static struct queued *queued_new(const struct call *c)
{
    size_t size = sizeof(struct queued) + c->argc * sizeof(struct bytes);
    for (unsigned i = 0; i < c->argc; i++)
        size += c->argv[i].n;
    struct queued *q = mem_secret_alloc(size);
    if (!q)
        return NULL;
    *q = (struct queued){.cmd = c->cmd, .argv = (struct bytes *)(void *)(q + 1), .argc = c->argc, .size = size};
    buf_init_secret(&q->answer, CONN_ANSWER_BYTES);
    uint8_t *at = (uint8_t *)(q->argv + c->argc);
    for (unsigned i = 0; i < c->argc; i++) {
        q->argv[i] = bytes_of(at, c->argv[i].n);
        if (c->argv[i].n)
            memcpy(at, c->argv[i].p, c->argv[i].n);
        at += c->argv[i].n;
    }
    return q;
}

/* These are about the transaction itself, or end it. */
static int is_for_now(const struct command *cmd)
{
    return cmd->fn == cmd_multi || cmd->fn == cmd_exec || cmd->fn == cmd_discard || cmd->fn == cmd_watch ||
           cmd->fn == cmd_quit || cmd->fn == cmd_reset;
}

int multi_queue(struct call *c)
{
    struct exec *x = exec_of(c->conn);
    if (is_for_now(c->cmd))
        return 0;
    if (c->cmd->flags & CMD_NOMULTI) {
        x->refused = 1;
        call_errorf(c, ERR_SYNTAX, "Command not allowed inside a transaction");
        return 1;
    }
    struct queued *q = x->bytes < MULTI_BYTES_MAX ? queued_new(c) : NULL;
    if (!q) {
        enum err err = x->bytes < MULTI_BYTES_MAX ? ERR_OOM : ERR_TOOBIG;
        x->refused = 1;
        call_errorf(c, err, err == ERR_OOM ? "out of memory" : "a transaction queues at most %u MiB",
                    MULTI_BYTES_MAX >> 20);
        return 1;
    }
    *x->end = q;
    x->end = &q->next;
    x->count++;
    x->bytes += q->size;
    reply_simple(c->reply, "QUEUED");
    return 1;
}

/* The text as Redis writes it: without "-ERR ", other codes stay. */
static void abort_refused(struct call *c, size_t mark)
{
    struct bytes why = bytes_of(buf_data(c->reply->b) + mark, reply_mark(c->reply) - mark);
    size_t prefix = why.n > 5 && memcmp(why.p, "-ERR ", 5) == 0 ? 5 : 1;
    char text[REPLY_ERROR_MAX_BYTES + 1];
    int n = snprintf(text, sizeof text, "%.*s", (int)(why.n - prefix - 2), (const char *)why.p + prefix);
    reply_rewind(c->reply, mark);
    call_errorf(c, ERR_EXECABORT, "Transaction discarded because of: %.*s", n, text);
}

void multi_refused(struct call *c, size_t mark)
{
    if (!c->cmd || c->cmd->fn != cmd_exec) {
        exec_of(c->conn)->refused = 1;
        return;
    }
    exec_end(c->conn);
    if (!c->reply->failed)
        abort_refused(c, mark);
}
