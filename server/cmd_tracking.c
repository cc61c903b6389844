/* cmd_tracking.c - CLIENT TRACKING, CACHING, TRACKINGINFO, GETREDIR; see tracking.h.
 *
 * REDIRECT names a connection that may be another thread's: it is looked for on a tour (io.h), and is a tracker from
 * then on, so that messages find it by its id. */
#include "base/mem.h"
#include "resp/number.h"
#include "server/command.h"
#include "server/handlers.h"
#include "server/options.h"
#include "server/tracking_impl.h"

static const char *const switch_words[] = {"ON", "OFF", NULL};
enum { SWITCH_ON, SWITCH_OFF };

/* ---- CLIENT TRACKING ---- */

struct enabling {
    struct pending p;
    struct io_tour tour;
    struct tracker_settings set;
    int found;
};

static int has_prefix(struct bytes text, struct bytes start)
{
    return text.n >= start.n && bytes_equal(bytes_of(text.p, start.n), start);
}

/* The first of the list that p would be told the same names as. */
static const struct prefix *overlap(const struct prefix *list, struct bytes p)
{
    for (; list; list = list->next)
        if (has_prefix(bytes_of(list->text, list->n), p) || has_prefix(p, bytes_of(list->text, list->n)))
            return list;
    return NULL;
}

static int refuse_overlap(struct call *c, struct bytes a, struct bytes b, const char *what)
{
    call_errorf(c, ERR_SYNTAX,
                "Prefix '%.*s' overlaps with %s prefix '%.*s'. Prefixes for a single client must not overlap.",
                (int)(a.n < 64 ? a.n : 64), (const char *)a.p, what, (int)(b.n < 64 ? b.n : 64), (const char *)b.p);
    return 0;
}

/* 1, or 0 when an error was answered: as are the next ones. */
static int add_prefix(struct call *c, struct tracker_settings *s, struct bytes text)
{
    const struct prefix *other = overlap(s->prefixes, text);
    if (other)
        return refuse_overlap(c, bytes_of(other->text, other->n), text, "another provided");
    struct prefix *p = mem_alloc(sizeof *p + text.n);
    if (!p) {
        call_error(c, ERR_OOM);
        return 0;
    }
    p->n = text.n;
    if (text.n)
        memcpy(p->text, text.p, text.n);
    p->next = s->prefixes;
    s->prefixes = p;
    return 1;
}

static int take_redirect(struct call *c, struct tracker_settings *s, struct bytes word)
{
    int64_t id;
    if (s->redirect)
        call_errorf(c, ERR_SYNTAX, "A client can only redirect to a single other client");
    else if (!number_parse(word, &id))
        call_error(c, ERR_NOTINT);
    else if (id < 1)
        call_errorf(c, ERR_SYNTAX, "The client ID you want redirect to does not exist");
    else
        return s->redirect = (uint64_t)id, 1;
    return 0;
}

static int parse(struct call *c, struct tracker_settings *s)
{
    static const char *const words[] = {"BCAST", "OPTIN", "OPTOUT", "NOLOOP", "REDIRECT", "PREFIX", NULL};
    enum { REDIRECT = 4, PREFIX = 5 };
    static const unsigned flags[] = {TRACKER_BCAST, TRACKER_OPTIN, TRACKER_OPTOUT, TRACKER_NOLOOP};
    for (unsigned i = 3; i < c->argc; i++) {
        int word = options_word(c->argv[i], words);
        if (word < 0 || (word >= REDIRECT && i + 1 == c->argc)) {
            options_syntax_error(c, c->argv[i]);
            return 0;
        }
        if (word < REDIRECT)
            s->flags |= flags[word];
        else if (word == REDIRECT ? !take_redirect(c, s, c->argv[++i]) : !add_prefix(c, s, c->argv[++i]))
            return 0;
    }
    return 1;
}

#define REFUSE(condition, text)                 \
    if (condition) {                            \
        call_errorf(c, ERR_SYNTAX, "%s", text); \
        return 0;                               \
    }

/* Among each other, and with how the connection tracks now. */
static int check(struct call *c, const struct tracker *tr, const struct tracker_settings *s)
{
    unsigned f = s->flags, was = tr && tr->on ? tr->flags : f;
    REFUSE(s->prefixes && !(f & TRACKER_BCAST), "PREFIX option requires BCAST mode to be enabled")
    REFUSE((was ^ f) & TRACKER_BCAST, "You can't switch BCAST mode on/off before disabling tracking for this client, "
                                      "and then re-enabling it with a different mode.")
    REFUSE(f & TRACKER_BCAST && f & (TRACKER_OPTIN | TRACKER_OPTOUT), "OPTIN and OPTOUT are not compatible with BCAST")
    REFUSE(f & TRACKER_OPTIN && f & TRACKER_OPTOUT, "You can't specify both OPTIN mode and OPTOUT mode")
    REFUSE((f & TRACKER_OPTIN && was & TRACKER_OPTOUT) || (f & TRACKER_OPTOUT && was & TRACKER_OPTIN),
           "You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with "
           "a different mode.")
    for (const struct prefix *p = s->prefixes; tr && p; p = p->next) {
        struct bytes text = bytes_of(p->text, p->n);
        const struct prefix *other = overlap(tr->prefixes, text);
        if (other && !bytes_equal(text, bytes_of(other->text, other->n)))
            return refuse_overlap(c, text, bytes_of(other->text, other->n), "an existing");
    }
    return 1;
}

/* Without a PREFIX: all names. */
static int complete(struct call *c, const struct tracker *tr, struct tracker_settings *s)
{
    if (!(s->flags & TRACKER_BCAST) || s->prefixes || (tr && tr->prefixes))
        return 1;
    return add_prefix(c, s, bytes_of(NULL, 0));
}

static void look_for(struct io_tour *tour, struct io *io)
{
    struct enabling *e = mpsc_entry(tour, struct enabling, tour);
    for (struct conn *c = io->conns; c && !e->found; c = c->next) {
        if (c->id != e->set.redirect || c->state == CONN_DEAD || c->state == CONN_CLOSING)
            continue;
        e->found = tracker_make(io->srv->tracking, c) != NULL;
        e->set.redirect_thread = io->index;
    }
}

static void looked(struct io_tour *tour, struct io *io)
{
    struct enabling *e = mpsc_entry(tour, struct enabling, tour);
    (void)io;
    pending_complete(&e->p);
}

static void enabled(struct pending *p, struct reply *r)
{
    struct enabling *e = mpsc_entry(p, struct enabling, p);
    struct tracker *tr = e->found ? tracker_make(p->io->srv->tracking, p->conn) : NULL;
    if (!e->found) {
        reply_errorf(r, "ERR", "The client ID you want redirect to does not exist");
    } else if (!tr) {
        reply_error(r, ERR_OOM);
    } else {
        tracker_on(tr, &e->set);
        reply_ok(r);
    }
}

static void enabling_free(struct pending *p)
{
    struct enabling *e = mpsc_entry(p, struct enabling, p);
    prefixes_free(e->set.prefixes);
    mem_free(e);
}

static enum call_result enable_redirected(struct call *c, struct tracker_settings *s)
{
    struct enabling *e = mem_zalloc(sizeof *e);
    if (!e)
        return call_error(c, ERR_OOM);
    e->set = *s;
    s->prefixes = NULL;
    e->tour.visit = look_for;
    e->tour.done = looked;
    call_pending(c, &e->p, enabled, enabling_free);
    io_tour(c->io, &e->tour);
    return CALL_PENDING;
}

static enum call_result enable(struct call *c, struct tracker_settings *s)
{
    if (s->redirect)
        return enable_redirected(c, s);
    struct tracker *tr = tracker_make(c->srv->tracking, c->conn);
    if (!tr)
        return call_error(c, ERR_OOM);
    tracker_on(tr, s);
    reply_ok(c->reply);
    return CALL_DONE;
}

enum call_result client_tracking(struct call *c)
{
    struct tracker_settings s = {0};
    struct tracker *tr = tracker_of(c->conn);
    enum call_result result = CALL_DONE;
    int word = options_word(c->argv[2], switch_words);

    if (word < 0)
        return options_syntax_error(c, c->argv[2]);
    if (!parse(c, &s)) {
        /* answered */
    } else if (word == SWITCH_OFF) {
        if (tr)
            tracker_off(tr);
        reply_ok(c->reply);
    } else if (check(c, tr, &s) && complete(c, tr, &s)) {
        result = enable(c, &s);
    }
    prefixes_free(s.prefixes);
    return result;
}

/* ---- the others ---- */

enum call_result client_caching(struct call *c)
{
    static const char *const words[] = {"YES", "NO", NULL};
    struct tracker *tr = tracker_of(c->conn);
    int word = options_word(c->argv[2], words);
    if (!tr || !tr->on)
        return call_errorf(c, ERR_SYNTAX,
                           "CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT "
                           "mode enabled");
    if (word < 0)
        return options_syntax_error(c, c->argv[2]);
    if (word == 0 && !(tr->flags & TRACKER_OPTIN))
        return call_errorf(c, ERR_SYNTAX, "CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.");
    if (word == 1 && !(tr->flags & TRACKER_OPTOUT))
        return call_errorf(c, ERR_SYNTAX, "CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.");
    tr->caching = 1;
    reply_ok(c->reply);
    return CALL_DONE;
}

static void put_flags(struct reply *r, const struct tracker *tr)
{
    const struct {
        const char *name;
        int set;
    } flags[] = {{"off", !tr || !tr->on},
                 {"on", tr && tr->on},
                 {"bcast", tr && tr->flags & TRACKER_BCAST},
                 {"optin", tr && tr->flags & TRACKER_OPTIN},
                 {"caching-yes", tr && tr->flags & TRACKER_OPTIN && tr->caching},
                 {"optout", tr && tr->flags & TRACKER_OPTOUT},
                 {"caching-no", tr && tr->flags & TRACKER_OPTOUT && tr->caching},
                 {"noloop", tr && tr->flags & TRACKER_NOLOOP},
                 {"broken_redirect", tr && tr->broken}};
    size_t n = 0, mark = reply_mark(r);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (!flags[i].set)
            continue;
        reply_bulk_str(r, flags[i].name);
        n++;
    }
    reply_insert_set(r, mark, n);
}

enum call_result client_trackinginfo(struct call *c)
{
    const struct tracker *tr = tracker_of(c->conn);
    struct reply *r = c->reply;
    size_t n = 0, mark;

    reply_map(r, 3);
    reply_bulk_str(r, "flags");
    put_flags(r, tr);
    reply_bulk_str(r, "redirect");
    reply_int(r, tr && tr->on ? (int64_t)tr->redirect : -1);
    reply_bulk_str(r, "prefixes");
    mark = reply_mark(r);
    for (const struct prefix *p = tr ? tr->prefixes : NULL; p; p = p->next, n++)
        reply_bulk(r, bytes_of(p->text, p->n));
    reply_insert_array(r, mark, n);
    return CALL_DONE;
}

enum call_result client_getredir(struct call *c)
{
    const struct tracker *tr = tracker_of(c->conn);
    reply_int(c->reply, tr && tr->on ? (int64_t)tr->redirect : -1);
    return CALL_DONE;
}
