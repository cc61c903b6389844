/* cmd_follow.c - WBL.FOLLOW: what was changed from an LSN on, as a reader that may block.
 *
 *     go -----> in the window (feed.h): sift ----------> enough, or none within BLOCK: answered
 *      ^ |----> older: a chore reads the log, sift ------^
 *      | '----> nothing committed yet: wait, woken by the log writer or the time
 *      '----------'
 *
 * The answer says where to go on: a follower that asks with that, from any node of the cell, misses nothing, and one
 * that asks with an older LSN hears it again. Nothing is kept for a follower but the request that it waits with:
 * neither memory nor the log. One that comes too late, when the log was trimmed, is told where the log begins.
 *
 * Changes of one record are never parted. What the user may not read is left out on the connection's thread, when it is
 * answered.
 *
 * A connection that followed once counts as a follower until it ends, so that the window is there when it comes back.
 */
#include <event2/event.h>

#include "base/glob.h"
#include "base/mem.h"
#include "resp/number.h"
#include "server/acl.h"
#include "server/chores.h"
#include "server/command.h"
#include "server/conn.h"
#include "server/feed.h"
#include "server/handlers.h"
#include "server/options.h"
#include "server/server.h"
#include "server/walcall.h"

#define COUNT_DEFAULT 100
#define COUNT_MAX 1000
#define BLOCK_MAX_MS (INT64_C(1) << 40)
#define READ_RECORDS 4096 /* at a time */
#define READ_BYTES (256u << 10)

struct follow {
    struct pending p;
    struct chore chore;
    struct io_task task; /* back from the chore */
    struct feed_waiter waiter;
    struct event *timer; /* NULL: it does not block */
    struct server *srv;
    struct follower *home;
    uint64_t next, seen; /* the LSN to go on from; behind what is in rows */
    uint64_t begins;     /* ERR_NOTFOUND: the log */
    int64_t block_ms;    /* 0: for ever */
    unsigned count, found;
    int over; /* its time */
    struct buf rows, out;
    enum err err;
    struct bytes match; /* p NULL: all */
    uint8_t text[];
};

struct follower { /* a connection's SLOT_FOLLOW */
    struct feed *feed;
    struct follow *now; /* that is under way */
};

/* ---- the end ---- */

static void complete(struct follow *f)
{
    if (f->p.conn)
        f->home->now = NULL;
    if (f->timer)
        event_del(f->timer);
    pending_complete(&f->p);
}

static void reply_row(struct reply *r, const struct feed_row *row, struct bytes key)
{
    reply_map(r, 7);
    walcall_reply_int(r, "lsn", row->lsn);
    walcall_reply_int(r, "term", row->term);
    walcall_reply_int(r, "time", row->time_ms);
    reply_bulk_str(r, "type");
    reply_bulk_str(r, changed_name(row->kind));
    reply_bulk_str(r, "vault");
    reply_bulk(r, row->vault_n ? bytes_of(key.p + 1, row->vault_n) : bytes_of(NULL, 0));
    reply_bulk_str(r, "key");
    reply_bulk(r, key);
    walcall_reply_int(r, "version", row->version);
}

static void follow_finish(struct pending *p, struct reply *r)
{
    struct follow *f = mpsc_entry(p, struct follow, p);
    struct bytes rows = buf_bytes(&f->out), key;
    struct feed_row row;

    if (f->err == ERR_NOTFOUND) {
        reply_errorf(r, "ERR", "the log begins at LSN %llu", (unsigned long long)f->begins);
        return;
    }
    if (f->err) {
        reply_error(r, f->err);
        return;
    }
    reply_array(r, 2);
    reply_int(r, (int64_t)f->next);
    reply_array(r, f->found);
    while (feed_take(&rows, &row, &key))
        reply_row(r, &row, key);
}

static void follow_free(struct follow *f)
{
    if (f->timer)
        event_free(f->timer);
    buf_fini(&f->rows);
    buf_fini(&f->out);
    mem_free(f);
}

static void follow_release(struct pending *p)
{
    follow_free(mpsc_entry(p, struct follow, p));
}

/* ---- sifting ---- */

static int is_wanted(const struct follow *f, const struct feed_row *row, struct bytes key)
{
    struct bytes written = bytes_of(NULL, 0);
    if (f->match.p && !glob_match(f->match, key, 0))
        return 0;
    if (!key.n) /* it names nothing */
        return 1;
    if (row->facade && key.n > row->vault_n + 3u)
        written = bytes_of(key.p + row->vault_n + 3, key.n - row->vault_n - 3);
    return acl_may_read(conn_user(f->p.conn), f->p.cmd, written, key);
}

/* What is wanted of rows goes to out, until that is enough, with all changes of the record that was the last. */
static void sift(struct follow *f)
{
    struct bytes rows = buf_bytes(&f->rows), key;
    struct feed_row row;
    uint64_t from = f->next, last = 0;
    f->next = f->seen;
    while (!f->err && feed_take(&rows, &row, &key)) {
        if (row.lsn < from)
            continue;
        if (f->found >= f->count && row.lsn != last) {
            f->next = row.lsn;
            break;
        }
        last = row.lsn;
        if (!is_wanted(f, &row, key))
            continue;
        f->found++;
        if ((f->err = buf_put(&f->out, &row, sizeof row)) == ERR_OK)
            f->err = buf_put(&f->out, key.p, key.n);
    }
    buf_clear(&f->rows);
}

/* ---- reading the log: a chore ---- */

static enum err read_records(struct follow *f)
{
    struct engine *e = f->srv->engine;
    uint64_t to = engine_commit_lsn(e);
    struct wal_cursor *cur;
    struct record rec;
    struct bytes raw;
    enum err err = wal_cursor_open(&cur, engine_wal(e), f->seen);
    for (unsigned n = 0; !err && f->seen <= to && n < READ_RECORDS && buf_size(&f->rows) < READ_BYTES; n++) {
        if ((err = wal_cursor_next(cur, &rec, &raw)) != ERR_OK ||
            (err = feed_put(&f->rows, engine_vaults(e), &rec)) != ERR_OK)
            break;
        f->seen = rec.lsn + 1;
    }
    wal_cursor_close(cur);
    return err == ERR_END ? ERR_OK : err;
}

static void follow_read(struct chore *chore)
{
    struct follow *f = mpsc_entry(chore, struct follow, chore);
    f->seen = f->next;
    f->err = read_records(f);
    io_post(f->p.io, &f->task);
}

/* ---- going on ---- */

/* 1: it is in f->err that it cannot be gone on with. */
static int is_trimmed(struct follow *f)
{
    struct wal_info info;
    wal_info(engine_wal(f->srv->engine), &info);
    f->begins = info.first_lsn ? info.first_lsn : info.last_lsn + 1;
    if (f->next < f->begins)
        f->err = ERR_NOTFOUND;
    return f->err != ERR_OK;
}

/* 1: until more is committed or its time is over. */
static int waits(struct follow *f)
{
    struct timeval tv = {.tv_sec = f->block_ms / 1000, .tv_usec = f->block_ms % 1000 * 1000};
    if (!feed_wait(f->srv->feed, &f->waiter, f->next))
        return 0;
    if (!f->block_ms || event_pending(f->timer, EV_TIMEOUT, NULL) || event_add(f->timer, &tv) == 0)
        return 1;
    f->err = ERR_OOM;
    return !feed_leave(f->srv->feed, &f->waiter); /* its task is on its way then */
}

static void go(struct follow *f)
{
    while (f->p.conn && !f->err && !f->found && !f->over) {
        if (f->next > engine_commit_lsn(f->srv->engine)) {
            if (!f->timer)
                break;
            if (waits(f))
                return;
            continue;
        }
        f->err = feed_recent(f->srv->feed, f->next, READ_BYTES, &f->rows, &f->seen);
        if (f->err == ERR_NOTFOUND) {
            f->err = ERR_OK;
            if (is_trimmed(f))
                break;
            chores_post(f->srv->chores, &f->chore);
            return;
        }
        if (!f->err)
            sift(f);
    }
    complete(f);
}

static void on_read(struct io_task *task, struct io *io)
{
    struct follow *f = mpsc_entry(task, struct follow, task);
    (void)io;
    if (f->err == ERR_NOTFOUND) /* trimmed meanwhile */
        (void)is_trimmed(f);
    if (f->p.conn && !f->err)
        sift(f);
    go(f);
}

static void on_commit(struct io_task *task, struct io *io)
{
    (void)io;
    go(mpsc_entry(task, struct follow, waiter.task));
}

static void on_time(evutil_socket_t fd, short what, void *arg)
{
    struct follow *f = arg;
    (void)fd;
    (void)what;
    f->over = 1;
    if (feed_leave(f->srv->feed, &f->waiter))
        complete(f);
}

/* ---- the connection ---- */

/* Its end: nobody waits for what is under way. */
static void drop_follower(struct conn *c, void *state)
{
    struct follower *me = state;
    (void)c;
    if (me->now && feed_leave(me->feed, &me->now->waiter))
        complete(me->now);
    feed_follow(me->feed, 0);
    mem_free(me);
}

static struct follower *follower_of(struct call *c)
{
    struct follower *me = conn_slot(c->conn, SLOT_FOLLOW);
    if (me || !(me = mem_zalloc(sizeof *me)))
        return me;
    me->feed = c->srv->feed;
    feed_follow(me->feed, 1);
    conn_set_slot(c->conn, SLOT_FOLLOW, me, drop_follower);
    return me;
}

/* ---- WBL.FOLLOW ---- */

enum { FROM, MATCH, COUNT, BLOCK, OPTIONS };
static const struct option options[OPTIONS] = {
    [FROM] = {"FROM", OPTION_BYTES},
    [MATCH] = {"MATCH", OPTION_BYTES},
    [COUNT] = {"COUNT", OPTION_INT, .min = 1, .max = COUNT_MAX},
    [BLOCK] = {"BLOCK", OPTION_INT, .min = 0, .max = BLOCK_MAX_MS},
};

/* 1, or 0 when an error was answered. */
static int parse_from(struct call *c, const struct option_value *o, uint64_t *lsn)
{
    int64_t n = 0;
    *lsn = engine_commit_lsn(c->srv->engine) + 1;
    if (!o->given)
        call_errorf(c, ERR_SYNTAX, "FROM is missing: the LSN to begin at, or $");
    else if (o->b.n == 1 && o->b.p[0] == '$')
        return 1;
    else if (!number_parse(o->b, &n))
        call_error(c, ERR_NOTINT);
    else if (n < 1)
        call_errorf(c, ERR_RANGE, "FROM must be 1 or more");
    else
        return *lsn = (uint64_t)n, 1;
    return 0;
}

static struct follow *follow_new(struct call *c, uint64_t from, const struct option_value *opt, struct follower *home)
{
    struct follow *f = mem_zalloc(sizeof *f + opt[MATCH].b.n);
    if (!f)
        return NULL;
    f->srv = c->srv;
    f->home = home;
    f->next = f->seen = from;
    f->count = opt[COUNT].given ? (unsigned)opt[COUNT].i : COUNT_DEFAULT;
    f->block_ms = opt[BLOCK].i;
    f->chore.run = follow_read;
    f->task.run = on_read;
    f->waiter = (struct feed_waiter){.io = c->io, .task.run = on_commit};
    if (opt[MATCH].b.n)
        memcpy(f->text, opt[MATCH].b.p, opt[MATCH].b.n);
    if (opt[MATCH].given)
        f->match = bytes_of(f->text, opt[MATCH].b.n);
    buf_init(&f->rows, SIZE_MAX / 4);
    buf_init(&f->out, SIZE_MAX / 4);
    if (opt[BLOCK].given && !(f->timer = event_new(io_base(c->io), -1, 0, on_time, f))) {
        follow_free(f);
        return NULL;
    }
    return f;
}

enum call_result cmd_wal_follow(struct call *c)
{
    struct option_value opt[OPTIONS];
    uint64_t from;

    if (!walcall_ready(c) || options_parse(c, 1, options, OPTIONS, opt) || !parse_from(c, &opt[FROM], &from))
        return CALL_DONE;
    struct follower *home = follower_of(c);
    struct follow *f = home ? follow_new(c, from, opt, home) : NULL;
    if (!f)
        return call_error(c, ERR_OOM);
    home->now = f;
    call_pending(c, &f->p, follow_finish, follow_release);
    if (from > engine_commit_lsn(c->srv->engine) || !is_trimmed(f))
        go(f);
    else
        complete(f);
    return CALL_PENDING;
}
