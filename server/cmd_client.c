/* cmd_client.c - CLIENT.
 *
 * CLIENT LIST and CLIENT KILL concern connections of all I/O threads, so they are tours (io.h): a pending answer with
 * the filters goes from thread to thread, gathers lines or closes what matches, and comes home. Whoever asked is known
 * by id, not by pointer: it may be gone when the tour comes back.
 */
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "resp/number.h"
#include "server/acl.h"
#include "server/client.h"
#include "server/command.h"
#include "server/conn_private.h"
#include "server/handlers.h"
#include "server/options.h"
#include "server/repl.h"

#define LINE_MAX_BYTES 2048
#define IDS_MAX 128
#define PAUSE_MAX_MS (INT64_C(1) << 50)

/* ---- about this connection ---- */

enum call_result client_id(struct call *c)
{
    reply_int(c->reply, (int64_t)conn_id(c->conn));
    return CALL_DONE;
}

enum call_result client_info(struct call *c)
{
    char line[LINE_MAX_BYTES];
    size_t n = conn_describe(c->conn, line, sizeof line - 1);
    line[n++] = '\n';
    reply_verbatim(c->reply, "txt", bytes_of(line, n));
    return CALL_DONE;
}

int client_set_text(struct call *c, struct conn_text *t, struct bytes value, const char *what)
{
    for (size_t i = 0; i < value.n; i++) {
        if (value.p[i] < '!' || value.p[i] > '~') {
            call_errorf(c, ERR_SYNTAX, "%s cannot contain spaces, newlines or special characters.", what);
            return 0;
        }
    }
    if (value.n > CONN_NAME_BYTES) {
        call_errorf(c, ERR_SYNTAX, "%s cannot be longer than %d bytes.", what, CONN_NAME_BYTES);
        return 0;
    }
    t->n = (uint8_t)value.n;
    memcpy(t->s, value.n ? value.p : (const uint8_t *)"", value.n);
    t->s[t->n] = 0;
    return 1;
}

enum call_result client_setname(struct call *c)
{
    if (client_set_text(c, &c->conn->name, c->argv[2], "Client names"))
        reply_ok(c->reply);
    return CALL_DONE;
}

enum call_result client_getname(struct call *c)
{
    if (c->conn->name.n)
        reply_bulk(c->reply, bytes_of(c->conn->name.s, c->conn->name.n));
    else
        reply_nil(c->reply);
    return CALL_DONE;
}

enum call_result client_setinfo(struct call *c)
{
    int ok;
    if (bytes_is_word(c->argv[2], "LIB-NAME"))
        ok = client_set_text(c, &c->conn->lib_name, c->argv[3], "lib-name");
    else if (bytes_is_word(c->argv[2], "LIB-VER"))
        ok = client_set_text(c, &c->conn->lib_ver, c->argv[3], "lib-ver");
    else
        return call_errorf(c, ERR_SYNTAX, "Unrecognized option '%.*s'", (int)(c->argv[2].n < 64 ? c->argv[2].n : 64),
                           (const char *)c->argv[2].p);
    if (ok)
        reply_ok(c->reply);
    return CALL_DONE;
}

enum call_result client_lastlsn(struct call *c)
{
    reply_int(c->reply, (int64_t)conn_last_lsn(c->conn));
    return CALL_DONE;
}

enum call_result client_consistency(struct call *c)
{
    int linear = bytes_is_word(c->argv[2], "LINEARIZABLE");
    if (!linear && !bytes_is_word(c->argv[2], "LOCAL"))
        return call_error(c, ERR_SYNTAX);
    c->conn->linear = (uint8_t)linear;
    reply_ok(c->reply);
    return CALL_DONE;
}

static enum call_result set_switch(struct call *c, uint8_t *flag)
{
    int on = bytes_is_word(c->argv[2], "ON");
    if (!on && !bytes_is_word(c->argv[2], "OFF"))
        return call_error(c, ERR_SYNTAX);
    *flag = (uint8_t)on;
    reply_ok(c->reply);
    return CALL_DONE;
}

enum call_result client_no_evict(struct call *c)
{
    return set_switch(c, &c->conn->no_evict);
}

enum call_result client_no_touch(struct call *c)
{
    return set_switch(c, &c->conn->no_touch);
}

enum call_result client_reply(struct call *c)
{
    struct conn *conn = c->conn;
    if (bytes_is_word(c->argv[2], "ON")) {
        conn->reply_mode = REPLY_ON;
        reply_ok(c->reply);
    } else if (bytes_is_word(c->argv[2], "OFF")) {
        conn->reply_mode = REPLY_OFF;
    } else if (bytes_is_word(c->argv[2], "SKIP")) {
        if (conn->reply_mode != REPLY_OFF)
            conn->reply_mode = REPLY_SKIP_NEXT;
    } else {
        return call_error(c, ERR_SYNTAX);
    }
    return CALL_DONE;
}

/* ---- pausing all ---- */

static void end_pause(struct server *srv)
{
    atomic_store(&srv->pause_mode, PAUSE_NONE);
    waitlist_wake(srv->paused);
}

static void on_pause_over(evutil_socket_t fd, short what, void *arg);

/* A timer for what is left of the pause. */
static int arm_pause(struct io *io)
{
    uint64_t until = atomic_load(&io->srv->pause_until_us), us = until > io->now_us ? until - io->now_us : 0;
    struct timeval tv = {.tv_sec = (time_t)(us / 1000000), .tv_usec = (suseconds_t)(us % 1000000)};
    return event_base_once(io->base, -1, EV_TIMEOUT, on_pause_over, io, &tv);
}

/* The pause may have been made longer, and a loop that is behind lets its timers go a little early. */
static void on_pause_over(evutil_socket_t fd, short what, void *arg)
{
    struct io *io = arg;
    struct server *srv = io->srv;
    (void)fd;
    (void)what;
    io_clock(io);
    if (atomic_load(&srv->pause_mode) == PAUSE_NONE)
        return;
    if (io->now_us >= atomic_load(&srv->pause_until_us) || arm_pause(io) != 0)
        end_pause(srv);
}

enum call_result client_pause(struct call *c)
{
    int64_t ms;
    int mode = PAUSE_ALL;
    if (!number_parse(c->argv[2], &ms) || ms > PAUSE_MAX_MS)
        return call_errorf(c, ERR_NOTINT, "timeout is not an integer or out of range");
    if (ms < 0)
        return call_errorf(c, ERR_RANGE, "timeout is negative");
    if (c->argc == 4 && bytes_is_word(c->argv[3], "WRITE"))
        mode = PAUSE_WRITE;
    else if (c->argc > 4 || (c->argc == 4 && !bytes_is_word(c->argv[3], "ALL")))
        return call_errorf(c, ERR_SYNTAX, "CLIENT PAUSE mode must be WRITE or ALL");

    struct server *srv = c->srv;
    uint64_t until = c->io->now_us + (uint64_t)ms * 1000, old = atomic_load(&srv->pause_until_us);
    int old_mode = atomic_load(&srv->pause_mode);
    if (old_mode != PAUSE_NONE && old > until)
        until = old; /* as in Redis, a pause is not made shorter */
    if (old_mode > mode)
        mode = PAUSE_ALL;
    atomic_store(&srv->pause_until_us, until);
    if (arm_pause(c->io) != 0) {
        atomic_store(&srv->pause_until_us, old);
        return call_error(c, ERR_OOM);
    }
    atomic_store(&srv->pause_mode, mode);
    reply_ok(c->reply);
    return CALL_DONE;
}

enum call_result client_unpause(struct call *c)
{
    end_pause(c->srv);
    reply_ok(c->reply);
    return CALL_DONE;
}

/* ---- tours ---- */

enum client_type { TYPE_ANY, TYPE_NORMAL, TYPE_MASTER, TYPE_REPLICA, TYPE_PUBSUB };

struct survey {
    struct pending p;
    struct io_tour tour;
    uint64_t self; /* id of who asks */
    int kill, old_form, skipme, kill_self;
    enum client_type type;
    unsigned ids;
    uint64_t id[IDS_MAX];
    char addr[CONN_PEER_BYTES], laddr[CONN_PEER_BYTES], *user;
    struct buf lines;
    struct buf marks; /* struct mark: whose each line is */
    enum err e;
    int64_t killed;
};

struct mark {
    uint64_t id;
    size_t off, n;
};

static enum client_type type_of(const struct conn *c)
{
    if (c->slot[SLOT_REPLICA].state)
        return TYPE_REPLICA;
    return c->slot[SLOT_PUBSUB].state ? TYPE_PUBSUB : TYPE_NORMAL;
}

static int has_id(const struct survey *s, uint64_t id)
{
    for (unsigned i = 0; i < s->ids; i++)
        if (s->id[i] == id)
            return 1;
    return s->ids == 0;
}

static int matches(const struct survey *s, const struct conn *c)
{
    if (c->state == CONN_DEAD || !has_id(s, c->id))
        return 0;
    if ((s->type != TYPE_ANY && type_of(c) != s->type) || (s->addr[0] && strcmp(s->addr, c->peer) != 0))
        return 0;
    if ((s->laddr[0] && strcmp(s->laddr, c->local) != 0) || (s->user && strcmp(s->user, acl_user_name(c->user)) != 0))
        return 0;
    return !(s->kill && s->skipme && c->id == s->self);
}

/* n bytes, and room for one more. */
static void list_line(struct survey *s, uint64_t id, char *line, size_t n)
{
    struct mark m = {.id = id, .off = buf_size(&s->lines), .n = n + 1};
    line[n++] = '\n';
    if (!s->e)
        s->e = buf_put(&s->lines, line, n);
    if (!s->e)
        s->e = buf_put(&s->marks, &m, sizeof m);
}

static void list_one(struct survey *s, struct conn *c)
{
    char line[LINE_MAX_BYTES];
    list_line(s, c->id, line, conn_describe(c, line, sizeof line - 1));
}

/* ---- links to other nodes: no connections of clients any more, and shown as Redis shows its own ---- */

static int matches_link(const struct survey *s, const struct repl_link *l)
{
    enum client_type type = l->followed ? TYPE_MASTER : TYPE_REPLICA;
    return has_id(s, l->id) && (s->type == TYPE_ANY || s->type == type) && !s->user &&
           (!s->addr[0] || strcmp(s->addr, l->peer) == 0) && (!s->laddr[0] || strcmp(s->laddr, l->local) == 0);
}

static void list_link(struct survey *s, const struct repl_link *l)
{
    char line[LINE_MAX_BYTES];
    int n = snprintf(line, sizeof line - 1,
                     "id=%llu addr=%s laddr=%s fd=-1 name= age=%llu idle=0 flags=%c db=0 sub=0 psub=0 ssub=0 multi=-1 "
                     "qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r "
                     "cmd=psync user= redir=-1 resp=2 lib-name= lib-ver= tot-net-in=0 tot-net-out=0 tot-cmds=0",
                     (unsigned long long)l->id, l->peer, l->local,
                     (unsigned long long)(clock_mono_ms() - l->since_ms) / 1000, l->followed ? 'M' : 'S');
    list_line(s, l->id, line, (size_t)n);
}

static void survey_links(struct survey *s, struct repl *r)
{
    struct repl_link links[CELL_PEERS];
    unsigned n = r ? repl_links(r, links) : 0;
    for (unsigned i = 0; i < n; i++) {
        if (!matches_link(s, &links[i]))
            continue;
        if (!s->kill)
            list_link(s, &links[i]);
        else if (repl_link_kill(r, links[i].id) == ERR_OK)
            s->killed++;
    }
}

static void survey_visit(struct io_tour *t, struct io *io)
{
    struct survey *s = mpsc_entry(t, struct survey, tour);
    for (struct conn *c = io->conns, *next; c; c = next) {
        next = c->next;
        if (!matches(s, c))
            continue;
        if (!s->kill) {
            list_one(s, c);
            continue;
        }
        s->killed++;
        if (c->id == s->self)
            s->kill_self = 1; /* after its answer */
        else
            conn_kill(c);
        if (s->old_form)
            break;
    }
}

static void survey_done(struct io_tour *t, struct io *io)
{
    struct survey *s = mpsc_entry(t, struct survey, tour);
    (void)io;
    pending_complete(&s->p);
}

static int by_id(const void *a, const void *b)
{
    const struct mark *x = a, *y = b;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* In the order in which they came, as in Redis, whatever thread has them. */
static void answer_lines(struct survey *s, struct reply *r)
{
    struct mark *marks = (struct mark *)buf_data(&s->marks);
    size_t n = buf_size(&s->marks) / sizeof *marks;
    struct buf sorted;

    buf_init(&sorted, SIZE_MAX / 4);
    if (n)
        qsort(marks, n, sizeof *marks, by_id);
    for (size_t i = 0; i < n && !s->e; i++)
        s->e = buf_put(&sorted, buf_data(&s->lines) + marks[i].off, marks[i].n);
    if (s->e)
        reply_error(r, s->e);
    else
        reply_verbatim(r, "txt", buf_bytes(&sorted));
    buf_fini(&sorted);
}

static void survey_finish(struct pending *p, struct reply *r)
{
    struct survey *s = mpsc_entry(p, struct survey, p);
    if (s->e)
        reply_error(r, s->e);
    else if (!s->kill)
        answer_lines(s, r);
    else if (!s->old_form)
        reply_int(r, s->killed);
    else if (s->killed)
        reply_ok(r);
    else
        reply_errorf(r, "ERR", "No such client");
    if (s->kill_self)
        conn_close_after_reply(p->conn);
}

static void survey_free(struct survey *s)
{
    buf_fini(&s->lines);
    buf_fini(&s->marks);
    mem_free(s->user);
    mem_free(s);
}

static void survey_release(struct pending *p)
{
    survey_free(mpsc_entry(p, struct survey, p));
}

static struct survey *survey_new(struct call *c, int kill)
{
    struct survey *s = mem_zalloc(sizeof *s);
    if (!s) {
        call_error(c, ERR_OOM);
        return NULL;
    }
    s->self = conn_id(c->conn);
    s->kill = kill;
    s->skipme = 1;
    s->tour.visit = survey_visit;
    s->tour.done = survey_done;
    buf_init(&s->lines, SIZE_MAX / 4);
    buf_init(&s->marks, SIZE_MAX / 4);
    return s;
}

static enum call_result survey_start(struct call *c, struct survey *s)
{
    survey_links(s, c->srv->repl);
    call_pending(c, &s->p, survey_finish, survey_release);
    io_tour(c->io, &s->tour);
    return CALL_PENDING;
}

static int parse_type(struct call *c, struct bytes word, enum client_type *out)
{
    static const struct {
        const char *name;
        enum client_type type;
    } types[] = {{"normal", TYPE_NORMAL},   {"master", TYPE_MASTER}, {"primary", TYPE_MASTER},
                 {"replica", TYPE_REPLICA}, {"slave", TYPE_REPLICA}, {"pubsub", TYPE_PUBSUB}};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (bytes_is_word(word, types[i].name)) {
            *out = types[i].type;
            return 1;
        }
    }
    call_errorf(c, ERR_SYNTAX, "Unknown client type '%.*s'", (int)(word.n < 64 ? word.n : 64), (const char *)word.p);
    return 0;
}

static int parse_id(struct call *c, struct survey *s, struct bytes word, const char *error)
{
    int64_t id;
    if (s->ids == IDS_MAX || !number_parse(word, &id) || id < 1) {
        call_errorf(c, ERR_RANGE, "%s", error);
        return 0;
    }
    s->id[s->ids++] = (uint64_t)id;
    return 1;
}

static int take_text(char *out, size_t room, struct bytes value)
{
    if (value.n >= room)
        return 0;
    memcpy(out, value.p, value.n);
    out[value.n] = 0;
    return 1;
}

/* 1, or 0 when an error was answered. */
static int parse_list(struct call *c, struct survey *s)
{
    if (c->argc == 2)
        return 1;
    if (c->argc == 4 && bytes_is_word(c->argv[2], "TYPE"))
        return parse_type(c, c->argv[3], &s->type);
    if (c->argc > 3 && bytes_is_word(c->argv[2], "ID")) {
        for (unsigned i = 3; i < c->argc; i++)
            if (!parse_id(c, s, c->argv[i], "Invalid client ID"))
                return 0;
        return 1;
    }
    call_error(c, ERR_SYNTAX);
    return 0;
}

enum call_result client_list(struct call *c)
{
    struct survey *s = survey_new(c, 0);
    if (!s)
        return CALL_DONE;
    if (parse_list(c, s))
        return survey_start(c, s);
    survey_free(s);
    return CALL_DONE;
}

static int parse_user(struct call *c, struct survey *s, struct bytes name)
{
    struct acl_user *u = acl_find(c->srv->acl, name);
    acl_user_unref(u);
    if (!u) {
        call_errorf(c, ERR_SYNTAX, "No such user '%.*s'", (int)(name.n < 64 ? name.n : 64), (const char *)name.p);
        return 0;
    }
    mem_free(s->user);
    s->user = mem_alloc(name.n + 1);
    if (!s->user) {
        call_error(c, ERR_OOM);
        return 0;
    }
    return take_text(s->user, name.n + 1, name);
}

static int parse_filter(struct call *c, struct survey *s, struct bytes what, struct bytes value)
{
    if (bytes_is_word(what, "ID"))
        return parse_id(c, s, value, "client-id should be greater than 0");
    if (bytes_is_word(what, "TYPE"))
        return parse_type(c, value, &s->type);
    if (bytes_is_word(what, "USER"))
        return parse_user(c, s, value);
    if (bytes_is_word(what, "SKIPME") && (bytes_is_word(value, "yes") || bytes_is_word(value, "no"))) {
        s->skipme = bytes_is_word(value, "yes");
        return 1;
    }
    if ((bytes_is_word(what, "ADDR") && take_text(s->addr, sizeof s->addr, value)) ||
        (bytes_is_word(what, "LADDR") && take_text(s->laddr, sizeof s->laddr, value)))
        return 1;
    call_error(c, ERR_SYNTAX);
    return 0;
}

static int parse_kill(struct call *c, struct survey *s)
{
    if (c->argc == 3) { /* CLIENT KILL addr:port, which may be one's own */
        s->old_form = 1;
        s->skipme = 0;
        if (take_text(s->addr, sizeof s->addr, c->argv[2]))
            return 1;
        call_errorf(c, ERR_SYNTAX, "No such client");
        return 0;
    }
    if (c->argc % 2) {
        call_error(c, ERR_SYNTAX);
        return 0;
    }
    for (unsigned i = 2; i < c->argc; i += 2)
        if (!parse_filter(c, s, c->argv[i], c->argv[i + 1]))
            return 0;
    return 1;
}

enum call_result client_kill(struct call *c)
{
    struct survey *s = survey_new(c, 1);
    if (!s)
        return CALL_DONE;
    if (parse_kill(c, s))
        return survey_start(c, s);
    survey_free(s);
    return CALL_DONE;
}

/* ---- UNBLOCK ---- */

struct unblock {
    struct pending p;
    struct io_tour tour;
    uint64_t id;
    enum conn_unblock how;
    int found;
};

static int is_waiting(const struct conn *c)
{
    for (const struct pending *p = c->first; p; p = p->next)
        if (!p->complete && p->cmd && (p->cmd->fn == cmd_wait || p->cmd->fn == cmd_read_after))
            return 1;
    return 0;
}

/* What waits looks at this every few milliseconds. */
static void unblock_visit(struct io_tour *t, struct io *io)
{
    struct unblock *u = mpsc_entry(t, struct unblock, tour);
    for (struct conn *c = io->conns; c && !u->found; c = c->next)
        if (c->id == u->id && c->state != CONN_DEAD && is_waiting(c)) {
            c->unblock = (uint8_t)u->how;
            u->found = 1;
        }
}

static void unblock_done(struct io_tour *t, struct io *io)
{
    (void)io;
    pending_complete(&mpsc_entry(t, struct unblock, tour)->p);
}

static void unblock_finish(struct pending *p, struct reply *r)
{
    reply_int(r, mpsc_entry(p, struct unblock, p)->found);
}

static void unblock_release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct unblock, p));
}

enum call_result client_unblock(struct call *c)
{
    static const char *const words[] = {"TIMEOUT", "ERROR", NULL};
    int64_t id;
    int how = c->argc > 3 ? options_word(c->argv[3], words) : 0;
    if (c->argc > 4)
        return call_error(c, ERR_SYNTAX);
    if (how < 0)
        return call_errorf(c, ERR_SYNTAX, "CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
    if (!number_parse(c->argv[2], &id))
        return call_error(c, ERR_NOTINT);
    struct unblock *u = mem_zalloc(sizeof *u);
    if (!u)
        return call_error(c, ERR_OOM);
    u->id = (uint64_t)id;
    u->how = how ? UNBLOCK_ERROR : UNBLOCK_TIMEOUT;
    u->tour.visit = unblock_visit;
    u->tour.done = unblock_done;
    call_pending(c, &u->p, unblock_finish, unblock_release);
    io_tour(c->io, &u->tour);
    return CALL_PENDING;
}
