/* exec.c - EXEC: the plan, the write, the answers; see multi.h.
 *
 * EXEC is dispatched again and again (CALL_HOLD, CALL_PARK) until it is through; state and `cur` say how far it is. Its
 * answer is built in a buffer of its own, so that pushed messages do not come between its parts.
 */
#include "base/clock.h"
#include "base/mem.h"
#include "server/access.h"
#include "server/acl.h"
#include "server/fallback.h"
#include "server/keyevent.h"
#include "server/monitor.h"
#include "server/multi_impl.h"
#include "server/repl.h"
#include "server/tracking.h"

/* ---- steps ---- */

static struct step *step_at(const struct exec *x, unsigned i)
{
    return (struct step *)(void *)buf_data(&x->steps) + i;
}

static unsigned step_count(const struct exec *x)
{
    return (unsigned)(buf_size(&x->steps) / sizeof(struct step));
}

/* Captured reads hold references; what changes hold is theirs (give_back). */
void exec_plan_drop(struct exec *x)
{
    for (struct queued *q = x->first; q; q = q->next) {
        for (unsigned i = 0; i < q->steps && !q->change; i++) {
            blob_unref(step_at(x, q->first + i)->old.hold);
            blob_unref(step_at(x, q->first + i)->head);
        }
        change_free(q->change);
        q->change = NULL;
        q->steps = 0;
        q->planned = 0;
        q->databases.n = 0;
        buf_clear(&q->answer);
    }
    buf_clear(&x->steps);
    mem_free(x->swaps);
    x->swaps = NULL;
    x->swap_count = 0;
}

/* ---- what handlers ask while they are planned or answered ---- */

static enum err add_step(struct exec *x, const struct step *s)
{
    return buf_put(&x->steps, s, sizeof *s);
}

void multi_collect(struct exec *x, struct change *ch)
{
    x->cur->change = ch;
}

void multi_swap(struct exec *x, unsigned a, unsigned b)
{
    struct swap *grown = mem_realloc(x->swaps, (x->swap_count + 1) * sizeof *grown);
    if (!grown)
        return; /* the record says what holds; only names of this transaction's later commands would be off */
    x->swaps = grown;
    x->swaps[x->swap_count++] = (struct swap){a, b};
}

unsigned multi_database(const struct exec *x, unsigned db)
{
    for (unsigned i = x->swap_count; i-- > 0;)
        db = db == x->swaps[i].a ? x->swaps[i].b : db == x->swaps[i].b ? x->swaps[i].a : db;
    return db;
}

enum err multi_read(struct exec *x, struct vault *v, struct bytes path, int value, uint64_t now_ms,
                    struct secret_view *view)
{
    for (unsigned i = 0; i < x->cur->steps; i++) {
        const struct step *s = step_at(x, x->cur->first + i);
        if (s->err && s->vault == v && bytes_equal(s->path, path))
            return s->err;
        if (s->vault == v && bytes_equal(s->path, path))
            return secret_view_seen(s, value, now_ms, view);
    }
    return ERR_NOTFOUND;
}

int multi_count(const struct exec *x, uint64_t *n)
{
    if (!x->cur->steps)
        return 0;
    *n = step_at(x, x->cur->first)->mark;
    return 1;
}

/* ---- planning ---- */

/* What a command is to the write. SECRET.META reads or changes. */
enum part { PART_CHANGE, PART_NOW, PART_READ, PART_COUNT, PART_NONE };
static enum part part_of(const struct queued *q)
{
    const struct command *cmd = q->cmd;
    if (cmd->lane == LANE_WRITE || cmd->fn == string_swapdb)
        return PART_CHANGE;
    if (cmd->fn == secret_meta)
        return q->argc > (unsigned)-cmd->arity ? PART_CHANGE : PART_READ;
    if (cmd->fn == cmd_select)
        return PART_NOW;
    if (cmd->fn == string_dbsize)
        return PART_COUNT;
    return command_reads_secrets(cmd) ? PART_READ : PART_NONE;
}

static enum err plan_count(struct call *sub, struct exec *x, struct queued *q, unsigned unit)
{
    struct step s = {.kind = STEP_VAULT_COUNT, .unit = unit};
    q->first = step_count(x);
    enum err err = facade_vault(sub, conn_db(sub->conn), 0, &s.vault);
    if (err)
        return err == ERR_AGAIN || err == ERR_OOM ? err : ERR_OK;
    err = add_step(x, &s);
    q->steps = err == ERR_OK;
    return err;
}

static struct call sub_call(struct call *c, struct exec *x, struct queued *q, struct reply *r)
{
    struct call sub = *c;
    sub.cmd = q->cmd;
    sub.argc = q->argc;
    sub.argv = q->argv;
    sub.exec = x;
    sub.databases = &q->databases;
    sub.reply = r;
    return sub;
}

/* Users may have changed since it was queued. 0: the refusal is in q->answer. */
static int still_allowed(struct call *sub)
{
    struct acl_denial why;
    enum err err = acl_check(conn_user(sub->conn), conn_authenticated(sub->conn), sub, &why);
    if (!err)
        return 1;
    dispatch_refuse(sub, err, &why);
    return 0;
}

/* Reads of secrets: a step for each that notes the secret. */
static enum err plan_read(struct call *sub, struct exec *x, struct queued *q, unsigned unit)
{
    struct command_paths p;
    enum err err = ERR_OK;
    q->first = step_count(x);
    command_paths(q->cmd, q->argc, &p);
    for (unsigned i = p.first; i && i <= p.last && !err; i += p.step) {
        struct facade_key k = {.path = q->argv[i]};
        err = p.vault ? access_vault(sub, q->argv[1], &k.vault) : facade_resolve(sub, q->argv[i], 0, &k);
        if (err == ERR_AGAIN || err == ERR_OOM)
            return err;
        if (err || k.path.n < 1 || k.path.n > SECRET_PATH_MAX) { /* the handler will say so */
            err = ERR_OK;
            continue;
        }
        struct step s = {.kind = STEP_SECRET_READ, .flags = SET_OLD | SET_HEAD, .path = k.path};
        s.vault = k.vault;
        s.unit = unit;
        err = add_step(x, &s);
        q->steps += err == ERR_OK;
    }
    return err;
}

static enum err plan_change(struct exec *x, struct queued *q, unsigned unit)
{
    struct change *ch = q->change;
    enum err err = ERR_OK;
    q->first = step_count(x);
    q->steps = ch->w.steps;
    for (unsigned i = 0; i < ch->w.steps && !err; i++) {
        struct step s = ch->step[i];
        s.vault = change_vault(ch, &s);
        s.unit = unit;
        err = add_step(x, &s);
    }
    return err;
}

static enum err plan_one(struct call *c, struct exec *x, struct queued *q, unsigned unit)
{
    struct reply r;
    reply_init(&r, &q->answer, conn_proto(c->conn));
    struct call sub = sub_call(c, x, q, &r);
    x->cur = q;
    q->db = conn_db(c->conn);
    if (!still_allowed(&sub)) {
        q->planned = 1;
        return r.failed;
    }
    enum part part = part_of(q);
    if (part == PART_NONE)
        return ERR_OK;
    if (part == PART_READ && c->conn->tracking & TRACKING_NOTES)
        tracking_note(&sub);
    if (part == PART_READ || part == PART_COUNT)
        return part == PART_READ ? plan_read(&sub, x, q, unit) : plan_count(&sub, x, q, unit);
    switch (q->cmd->fn(&sub)) {
    case CALL_PENDING:
        return plan_change(x, q, unit);
    case CALL_DONE:
        q->planned = 1;
        return r.failed;
    default:
        return ERR_AGAIN;
    }
}

/* For a write the vault is made when it is not there: what is watched must have a place to be looked at. */
static enum err plan_watch(struct call *c, struct exec *x, const struct watch *w)
{
    struct facade_key k;
    conn_set_db(c->conn, w->db);
    enum err err = facade_resolve(c, bytes_of(w->key, w->n), x->changes, &k);
    conn_set_db(c->conn, x->db);
    x->dirty |= (err == ERR_NOTFOUND || err == ERR_NOVAULT) && w->mark;
    if (err)
        return err == ERR_BADPATH || err == ERR_NOTFOUND || err == ERR_NOVAULT || err == ERR_KEYSTATE ? ERR_OK : err;
    x->dirty |= w->mark && w->vault != k.vault->id; /* SWAPDB */
    struct step s = {.kind = STEP_SECRET_WATCH, .path = k.path, .mark = w->mark, .since = w->since, .vault = k.vault};
    return add_step(x, &s);
}

/* ---- nothing but reads: this node answers them, also as a replica ---- */

#define LOOKS_MAX 4 /* then it goes the way of a write, which comes through whatever others write meanwhile */

/* As the sequencer does STEP_SECRET_READ. A secret that is not visible has a head all the same. */
static void look_at(struct engine *e, struct step *s, struct engine_moment *m)
{
    struct secret_view v;
    enum err err = secret_read(e, s->vault, s->path, 0, bytes_of(NULL, 0), &v);
    int visible = err == ERR_OK;
    if (err == ERR_NOTFOUND)
        err = secret_read_head(e, s->vault, s->path, &v);
    engine_moment_saw(m, visible ? &v : NULL);
    if (err) {
        s->err = err == ERR_NOTFOUND ? ERR_OK : err;
        return;
    }
    s->head = v.hold[0];
    if (visible)
        s->old = (struct secret_old){.hold = v.hold[1] ? v.hold[1] : blob_ref(v.hold[0]),
                                     .value = v.value,
                                     .version = v.version,
                                     .expires_ms = v.head.expires_ms};
}

/* All of it as of one point in time, and what is watched has not changed up to there. ERR_AGAIN: what was read does not
 * belong together. */
static enum err look(struct engine *e, struct exec *x)
{
    struct engine_moment m;
    engine_moment_begin(e, &m);
    for (unsigned i = 0; i < step_count(x); i++) {
        struct step *s = step_at(x, i);
        if (s->kind == STEP_SECRET_READ) {
            look_at(e, s, &m);
        } else if (s->kind == STEP_VAULT_COUNT) {
            s->mark = atomic_load(&s->vault->secrets);
            engine_moment_saw(&m, NULL);
        }
    }
    if (!engine_moment_held(e, &m))
        return ERR_AGAIN;
    for (unsigned i = 0; i < step_count(x) && step_at(x, i)->kind == STEP_SECRET_WATCH; i++) {
        const struct step *s = step_at(x, i);
        uint64_t mark;
        enum err err = secret_mark(e, s->vault, s->path, &mark);
        if (err)
            return err;
        x->dirty |= mark != s->mark || (!mark && secret_made_since(e, s->vault, s->path, s->since));
    }
    return ERR_OK;
}

static enum err plan(struct call *c, struct exec *x)
{
    unsigned unit = 1;
    enum err err = ERR_OK;
    x->db = conn_db(c->conn);
    for (const struct watch *w = x->watches; w && !err; w = w->next)
        err = plan_watch(c, x, w);
    for (struct queued *q = x->first; q && !err; q = q->next)
        err = plan_one(c, x, q, unit++);
    x->by_log = x->changes || (x->looks >= LOOKS_MAX && repl_may_write(c->srv) == ERR_OK);
    if (!err && !x->dirty && step_count(x) && !x->by_log) {
        x->looks++;
        err = look(c->srv->engine, x);
    }
    if (err || x->dirty) {
        exec_plan_drop(x);
        conn_set_db(c->conn, x->db);
    }
    return err;
}

/* ---- the write ---- */

/* Results go back to the changes they belong to, also when nobody will answer them: they hold references. */
static void give_back(struct exec *x)
{
    for (struct queued *q = x->first; q; q = q->next) {
        struct change *ch = q->change;
        for (unsigned i = 0; ch && i < q->steps; i++) {
            ch->step[i] = *step_at(x, q->first + i);
            if (ch->step[i].err && !ch->w.err)
                ch->w.err = ch->step[i].err;
        }
        if (ch) {
            ch->w.lsn = x->w.lsn;
            ch->w.term = x->w.term;
        }
    }
}

static void write_done(struct write *w)
{
    struct exec *x = w->arg;
    give_back(x);
    if (w->lsn && !w->err && keyevent_wanted())
        for (struct queued *q = x->first; q; q = q->next)
            if (q->change)
                keyevent_of_change(q->change);
    pending_complete(&x->p);
}

static void write_finish(struct pending *p, struct reply *r)
{
    struct exec *x = mpsc_entry(p, struct exec, p);
    (void)r;
    if (x->w.lsn)
        conn_saw_lsn(p->conn, x->w.lsn);
    x->state = ANSWERING;
}

static void write_release(struct pending *p)
{
    struct exec *x = mpsc_entry(p, struct exec, p);
    x->in_flight = 0;
    if (!x->conn)
        exec_free(x);
}

static enum call_result submit(struct call *c, struct exec *x)
{
    x->state = COMMITTING;
    x->in_flight = 1;
    x->w = (struct write){.step = step_at(x, 0), .steps = step_count(x), .units = 1, .done = write_done, .arg = x};
    x->w.by = conn_id(c->conn);
    x->p = (struct pending){.part = 1};
    call_pending(c, &x->p, write_finish, write_release);
    io_submit(c->io, &x->w);
    return CALL_HOLD;
}

/* ---- the answers ---- */

/* In the database that was selected at its place, which is the vault that it was there: for what runs behind the
 * record, the one that it is now. */
static enum call_result run(struct call *sub, struct queued *q)
{
    unsigned last = conn_db(sub->conn);
    enum call_result result = CALL_DONE;
    conn_set_db(sub->conn, q->db);
    if (part_of(q) == PART_NONE) {
        sub->exec = NULL;
        q->databases.n = 0;
    }
    if (still_allowed(sub))
        result = q->cmd->fn(sub);
    conn_set_db(sub->conn, last);
    return result;
}

/* One command. CALL_HOLD, CALL_PARK: not yet. */
static enum call_result answer_one(struct call *c, struct exec *x, struct queued *q)
{
    struct reply *r = &x->reply;
    struct call sub = sub_call(c, x, q, r);
    size_t mark = reply_mark(r);
    uint64_t since = clock_mono_us();
    enum call_result result = CALL_DONE;

    r->proto = conn_proto(c->conn);
    if (q->change)
        change_reply(q->change, r);
    else if (q->planned)
        reply_encoded(r, buf_bytes(&q->answer));
    else
        result = run(&sub, q);
    if (result == CALL_PARK)
        return CALL_PARK;
    if (atomic_load_explicit(&c->srv->monitors, memory_order_relaxed))
        monitor_feed(&sub);
    if (result == CALL_PENDING)
        return CALL_HOLD;
    struct io_stats *stats = io_stats(c->io);
    dispatch_count(c->io, q->cmd, clock_mono_us() - since);
    stats_note_answer(stats, &stats->command[command_index(q->cmd)], r->b, mark);
    return CALL_DONE;
}

/* What was read was noted before the write, and may have been told of between the write and the answer. */
static void look_again(struct call *c, struct exec *x)
{
    unsigned last = conn_db(c->conn);
    for (struct queued *q = x->first; q; q = q->next) {
        struct call sub = sub_call(c, x, q, c->reply);
        conn_set_db(c->conn, q->db);
        if (!q->planned && part_of(q) == PART_READ && tracking_is_noted(&sub))
            tracking_look_again(&sub);
    }
    conn_set_db(c->conn, last);
}

/* All at once, or an error that must not be taken for a refusal: what was to be done is done. */
static void put_answer(struct call *c, const struct exec *x)
{
    size_t mark = reply_mark(c->reply);
    if (!x->reply.failed)
        reply_encoded(c->reply, buf_bytes(&x->out));
    enum err err = x->reply.failed ? x->reply.failed : c->reply->failed;
    if (!err)
        return;
    reply_rewind(c->reply, mark);
    if (err == ERR_TOOBIG)
        call_errorf(c, err, "the transaction was carried out, but its answer has more than %u MiB",
                    CONN_ANSWER_BYTES >> 20);
    else
        call_errorf(c, err, "the transaction was carried out, but there is no memory for its answer");
}

static enum call_result answer_all(struct call *c, struct exec *x)
{
    while (x->cur) {
        struct queued *q = x->cur;
        enum call_result result = answer_one(c, x, q);
        if (result == CALL_PARK)
            return CALL_PARK;
        x->cur = q->next;
        if (result == CALL_HOLD)
            return CALL_HOLD; /* its answer is on its way into x->out */
    }
    put_answer(c, x);
    if (c->conn->tracking & TRACKING_NOTES)
        look_again(c, x);
    exec_end(c->conn);
    return CALL_DONE;
}

static void begin_answers(struct call *c, struct exec *x)
{
    x->state = ANSWERING;
    x->cur = x->first;
    x->swap_count = 0; /* the engine has them */
    reply_init(&x->reply, &x->out, conn_proto(c->conn));
    reply_array(&x->reply, x->count);
    conn_capture(c->conn, &x->reply);
}

/* The write was refused as a whole. */
static enum call_result refused(struct call *c, struct exec *x)
{
    enum err err = x->w.err;
    conn_set_db(c->conn, x->db);
    if (err == ERR_CONFLICT)
        reply_nil_array(c->reply);
    else if (err == ERR_TOOBIG)
        call_errorf(c, err, "the transaction's record would have more than %u MiB; nothing was done",
                    RECORD_MAX_BYTES >> 20);
    else
        change_error(c->reply, &x->w);
    exec_end(c->conn);
    return CALL_DONE;
}

static enum call_result begin(struct call *c, struct exec *x)
{
    int writes = 0, reads = 0;
    enum call_result result;
    if (x->refused) {
        exec_end(c->conn);
        return call_error(c, ERR_EXECABORT);
    }
    for (const struct queued *q = x->first; q; q = q->next) {
        enum err err = q->cmd->flags & CMD_LOADING ? ERR_OK : c->ready; /* may have ceased since */
        if (err || (err = dispatch_here(c->io, q->cmd))) {
            exec_end(c->conn);
            return call_error(c, err);
        }
        if (fallback_refuses(c, q->cmd)) {
            exec_end(c->conn);
            return CALL_DONE;
        }
        writes |= (q->cmd->flags & CMD_WRITE) != 0;
        reads |= (q->cmd->flags & CMD_READ) != 0;
        x->changes |= part_of(q) == PART_CHANGE;
    }
    if (dispatch_paused(c, writes))
        return call_park(c, c->srv->paused);
    if (reads && !dispatch_confirmed(c, &result)) { /* what it writes may come to nothing */
        if (result != CALL_PARK)
            exec_end(c->conn);
        return result;
    }
    enum err err = plan(c, x);
    if (err == ERR_AGAIN)
        return CALL_PARK;
    if (err) {
        exec_end(c->conn);
        return call_error(c, err);
    }
    if (x->dirty) {
        exec_end(c->conn);
        reply_nil_array(c->reply);
        return CALL_DONE;
    }
    if (x->by_log && step_count(x))
        return submit(c, x);
    begin_answers(c, x);
    return answer_all(c, x);
}

enum call_result cmd_exec(struct call *c)
{
    struct exec *x = exec_of(c->conn);
    if (!x || !x->open)
        return call_errorf(c, ERR_SYNTAX, "EXEC without MULTI");
    if (x->state == QUEUEING)
        return begin(c, x);
    if (x->w.err)
        return refused(c, x);
    if (!x->reply.b)
        begin_answers(c, x);
    return answer_all(c, x);
}
