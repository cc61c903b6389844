/* cmd_acl.c - ACL: users shown and changed.
 *
 * A change is one at a time in the whole server: it is planned on what is there, so what is there must stay until it is
 * through. The next one parks on users_turn. Users of the log: plan, write, and the log's writer has them taken up
 * (acl_take) before it calls done(). Users of files: at once, in memory. ACL LOAD and ACL SAVE wait for the disk, so
 * they are chores.
 *
 * Who is to be cut off by a change is no affair of this file: every change makes connections look at their users
 * (io_users_changed), wherever it came from.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "engine/user.h"
#include "resp/number.h"
#include "server/acl.h"
#include "server/acl_log.h"
#include "server/change.h"
#include "server/chores.h"
#include "server/command.h"
#include "server/conn_private.h"
#include "server/handlers.h"

#define LOG_DEFAULT 10
#define GENPASS_BITS 256
#define GENPASS_BITS_MAX 4096

static int cut(struct bytes s)
{
    return (int)(s.n < 64 ? s.n : 64);
}

/* As Redis says it where the arity is the sub-command's own affair. */
static enum call_result wrong_call(struct call *c)
{
    return call_errorf(c, ERR_ARITY, "unknown subcommand or wrong number of arguments for '%.*s'. Try ACL HELP.",
                       cut(c->argv[1]), (const char *)c->argv[1].p);
}

/* ---- shown ---- */

enum call_result acl_whoami(struct call *c)
{
    reply_bulk_str(c->reply, acl_user_name(conn_user(c->conn)));
    return CALL_DONE;
}

/* Lines of a list as an array. */
static enum call_result reply_lines(struct call *c, enum err (*list)(struct acl *, struct buf *, unsigned *))
{
    struct buf b; /* may have passwords' hashes */
    unsigned n = 0;
    buf_init_secret(&b, SIZE_MAX / 4);
    enum err e = list(c->srv->acl, &b, &n);
    if (e) {
        call_error(c, e);
    } else {
        reply_array(c->reply, n);
        for (unsigned i = 0; i < n; i++) {
            const uint8_t *line = buf_data(&b), *end = memchr(line, '\n', buf_size(&b));
            reply_bulk(c->reply, bytes_of(line, (size_t)(end - line)));
            buf_consume(&b, (size_t)(end - line) + 1);
        }
    }
    buf_fini(&b);
    return CALL_DONE;
}

enum call_result acl_users(struct call *c)
{
    return reply_lines(c, acl_names);
}

enum call_result acl_list_cmd(struct call *c)
{
    return reply_lines(c, acl_list);
}

static enum call_result list_categories(struct call *c)
{
    size_t mark = reply_mark(c->reply), n = 0;
    const char *name;
    for (unsigned bit = 0; (name = command_category_name(bit)); bit++, n++)
        reply_bulk_str(c->reply, name);
    reply_insert_array(c->reply, mark, n);
    return CALL_DONE;
}

enum call_result acl_cat(struct call *c)
{
    if (c->argc == 2)
        return list_categories(c);
    if (c->argc > 3)
        return wrong_call(c);
    unsigned mask = command_category(c->argv[2]);
    if (!mask)
        return call_errorf(c, ERR_SYNTAX, "Unknown category '%.*s'", cut(c->argv[2]), (const char *)c->argv[2].p);
    size_t mark = reply_mark(c->reply), n = 0;
    for (size_t i = 0; i < commands_count; i++) {
        char name[COMMAND_NAME_MAX];
        if (!(command_categories(&commands[i]) & mask))
            continue;
        reply_bulk(c->reply, bytes_of(name, command_lower(&commands[i], name)));
        n++;
    }
    reply_insert_array(c->reply, mark, n);
    return CALL_DONE;
}

/* ---- GETUSER ---- */

static void reply_part(struct call *c, const char *name, const struct acl_selector *s,
                       enum err (*put)(const struct acl_selector *, struct buf *))
{
    struct buf *b = &c->io->scratch;
    buf_clear(b);
    enum err e = put(s, b);
    reply_bulk_str(c->reply, name);
    reply_bulk(c->reply, e ? bytes_of(NULL, 0) : buf_bytes(b));
    c->reply->failed = c->reply->failed ? c->reply->failed : e;
}

static void reply_permissions(struct call *c, const struct acl_selector *s)
{
    reply_part(c, "commands", s, acl_selector_commands);
    reply_part(c, "keys", s, acl_selector_keys);
    reply_part(c, "channels", s, acl_selector_channels);
}

static void reply_passwords(struct call *c, const struct acl_user *u)
{
    struct buf hex;
    unsigned n;
    buf_init_secret(&hex, SIZE_MAX / 4);
    enum err e = acl_user_hashes(u, &hex, &n);
    reply_array(c->reply, e ? 0 : n);
    for (unsigned i = 0; i < n && !e; i++)
        reply_bulk(c->reply, bytes_of(buf_data(&hex) + i * buf_size(&hex) / n, buf_size(&hex) / n));
    c->reply->failed = c->reply->failed ? c->reply->failed : e;
    buf_fini(&hex);
}

enum call_result acl_getuser(struct call *c)
{
    const struct acl_selector *s;
    struct acl_user *u = acl_find(c->srv->acl, c->argv[2]);
    if (!u) {
        reply_nil(c->reply);
        return CALL_DONE;
    }
    reply_map(c->reply, 6);
    reply_bulk_str(c->reply, "flags");
    reply_set(c->reply, acl_user_nopass(u) ? 2 : 1);
    reply_bulk_str(c->reply, acl_user_enabled(u) ? "on" : "off");
    if (acl_user_nopass(u))
        reply_bulk_str(c->reply, "nopass");
    reply_bulk_str(c->reply, "passwords");
    reply_passwords(c, u);
    reply_permissions(c, acl_user_selector(u, 0));
    reply_bulk_str(c->reply, "selectors");
    size_t mark = reply_mark(c->reply), n = 0;
    for (; (s = acl_user_selector(u, (unsigned)n + 1)); n++) {
        reply_map(c->reply, 3);
        reply_permissions(c, s);
    }
    reply_insert_array(c->reply, mark, n);
    acl_user_unref(u);
    return CALL_DONE;
}

/* ---- DRYRUN ---- */

static void reply_denial(struct call *c, const struct call *subject, const struct acl_denial *d)
{
    char text[512], name[COMMAND_NAME_MAX];
    const struct bytes *arg = &subject->argv[d->arg];
    command_lower(subject->cmd, name);
    if (d->reason == ACL_COMMAND)
        snprintf(text, sizeof text, "This user has no permissions to run the '%s' command", name);
    else
        snprintf(text, sizeof text, "This user has no permissions to access the '%.*s' %s",
                 (int)(arg->n < 400 ? arg->n : 400), (const char *)arg->p, d->reason == ACL_KEY ? "key" : "channel");
    reply_bulk_str(c->reply, text);
}

enum call_result acl_dryrun(struct call *c)
{
    struct acl_denial d;
    int unknown;
    struct acl_user *u = acl_find(c->srv->acl, c->argv[2]);
    if (!u)
        return call_errorf(c, ERR_SYNTAX, "User '%.*s' not found", cut(c->argv[2]), (const char *)c->argv[2].p);
    struct call subject = *c;
    subject.argv = c->argv + 3;
    subject.argc = c->argc - 3;
    subject.cmd = command_find(subject.argv, subject.argc, &unknown);
    enum err e = ERR_OK;
    if (!subject.cmd) {
        call_errorf(c, ERR_SYNTAX, "Command '%.*s' not found", cut(c->argv[3]), (const char *)c->argv[3].p);
    } else if (!command_arity_ok(subject.cmd, subject.argc) || !subject.cmd->fn) {
        char name[COMMAND_NAME_MAX];
        command_lower(subject.cmd, name);
        call_errorf(c, ERR_ARITY, "wrong number of arguments for '%s' command", name);
    } else if ((e = acl_check(u, 1, &subject, &d)) == ERR_NOPERM) {
        reply_denial(c, &subject, &d);
    } else if (e) {
        call_error(c, e);
    } else {
        reply_ok(c->reply);
    }
    acl_user_unref(u);
    return CALL_DONE;
}

/* ---- GENPASS, LOG ---- */

enum call_result acl_genpass(struct call *c)
{
    int64_t bits = GENPASS_BITS;
    char hex[GENPASS_BITS_MAX / 4 + 1];
    if (c->argc > 3)
        return wrong_call(c);
    if (c->argc == 3 && (!number_parse(c->argv[2], &bits) || bits <= 0 || bits > GENPASS_BITS_MAX))
        return call_errorf(c, ERR_RANGE,
                           "ACL GENPASS argument must be the number of bits for the output password, a positive number "
                           "up to %d",
                           GENPASS_BITS_MAX);
    size_t digits = ((size_t)bits + 3) / 4;
    enum err e = clock_random_hex(hex, (digits + 1) / 2);
    if (e)
        call_error(c, e);
    else
        reply_bulk(c->reply, bytes_of(hex, digits));
    mem_wipe(hex, sizeof hex);
    return CALL_DONE;
}

enum call_result acl_log_cmd(struct call *c)
{
    int64_t n = LOG_DEFAULT;
    if (c->argc > 3)
        return wrong_call(c);
    if (c->argc == 3 && bytes_is_word(c->argv[2], "RESET")) {
        acl_log_reset(c->srv->acl_log);
        reply_ok(c->reply);
        return CALL_DONE;
    }
    if (c->argc == 3 && !number_parse(c->argv[2], &n))
        return call_error(c, ERR_NOTINT);
    acl_log_reply(c->srv->acl_log, n < 0 ? 0 : (size_t)n, c->now_ms, c->reply);
    return CALL_DONE;
}

/* ---- changes, one at a time ---- */

static int take_turn(struct server *srv)
{
    return !atomic_exchange(&srv->users_changing, 1);
}

/* Any thread. */
static void give_turn(struct server *srv)
{
    atomic_store(&srv->users_changing, 0);
    waitlist_wake(srv->users_turn);
}

/* A write of users: its steps, and what they borrow behind them. */
struct user_write {
    struct pending p;
    struct write w;
    struct server *srv;
    int deleted; /* users that are gone, to be answered; -1: OK is */
    uint8_t *keep;
    struct step step[];
};

static struct user_write *user_write_new(struct call *c, unsigned steps, size_t keep_bytes)
{
    size_t fixed = sizeof(struct user_write) + steps * sizeof(struct step);
    struct user_write *uw = mem_alloc(fixed + keep_bytes);
    if (!uw)
        return NULL;
    memset(uw, 0, fixed);
    uw->srv = c->srv;
    uw->w.step = uw->step;
    uw->keep = (uint8_t *)uw + fixed;
    return uw;
}

static struct bytes keep(struct user_write *uw, struct bytes b)
{
    struct bytes kept = bytes_of(uw->keep, b.n);
    memcpy(uw->keep, b.p, b.n);
    uw->keep += b.n;
    return kept;
}

/* The log writer's thread; the users are what they shall be by now. */
static void user_write_done(struct write *w)
{
    struct user_write *uw = mpsc_entry(w, struct user_write, w);
    give_turn(uw->srv);
    pending_complete(&uw->p);
}

static void user_write_finish(struct pending *p, struct reply *r)
{
    struct user_write *uw = mpsc_entry(p, struct user_write, p);
    if (uw->w.lsn)
        conn_saw_lsn(p->conn, uw->w.lsn);
    if (uw->w.err)
        change_error(r, &uw->w);
    else if (uw->deleted < 0)
        reply_ok(r);
    else
        reply_int(r, uw->deleted);
}

static void user_write_release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct user_write, p));
}

static enum call_result user_write_submit(struct call *c, struct user_write *uw)
{
    uw->w.done = user_write_done;
    call_pending(c, &uw->p, user_write_finish, user_write_release);
    io_submit(c->io, &uw->w);
    return CALL_PENDING;
}

/* ---- SETUSER ---- */

/* Appends the word that is wrong, of a selector all its words, unless there could be a password in it: then its number.
 */
static enum err put_wrong(const struct call *c, const struct acl_fault *why, int whole, struct buf *out)
{
    unsigned i = why->word + 3, last = i;
    enum err e = ERR_OK;
    if (i >= c->argc)
        return ERR_OK;
    int selector = c->argv[i].n && c->argv[i].p[0] == '(',
        secret = !c->argv[i].n || !memchr("+-~%&()", c->argv[i].p[0], 7);
    while (selector && whole && last + 1 < c->argc && !(c->argv[last].n && c->argv[last].p[c->argv[last].n - 1] == ')'))
        last++;
    for (; i <= last && !secret && !e; i++) {
        for (size_t k = 0; k < c->argv[i].n; k++)
            secret |= selector && memchr("><#!", c->argv[i].p[k], 4) != NULL;
        e = buf_size(out) ? buf_put_u8(out, ' ') : ERR_OK;
        if (!e)
            e = buf_put(out, c->argv[i].p, c->argv[i].n);
    }
    if (!secret)
        return e;
    buf_clear(out);
    return buf_putf(out, "(word %u)", why->word + 1);
}

static enum call_result refuse_rules(struct call *c, const struct acl_fault *why)
{
    struct buf *b = &c->io->scratch;
    int unmatched = strcmp(why->text, "Unmatched parenthesis") == 0;
    buf_clear(b);
    enum err e = put_wrong(c, why, !unmatched, b);
    struct bytes w = buf_bytes(b);
    if (e)
        return call_error(c, e);
    if (unmatched)
        return call_errorf(c, ERR_SYNTAX, "Unmatched parenthesis in acl selector starting at '%.*s'.", cut(w),
                           (const char *)w.p);
    return call_errorf(c, ERR_SYNTAX, "Error in ACL SETUSER modifier '%.*s': %s", cut(w), (const char *)w.p, why->text);
}

static enum call_result log_user(struct call *c, const struct buf *rules)
{
    struct user_write *uw = user_write_new(c, 1, c->argv[2].n + buf_size(rules));
    if (!uw) {
        give_turn(c->srv);
        return call_error(c, ERR_OOM);
    }
    uw->deleted = -1;
    uw->w.steps = 1;
    uw->step[0] =
        (struct step){.kind = STEP_USER_PUT, .path = keep(uw, c->argv[2]), .record = keep(uw, buf_bytes(rules))};
    return user_write_submit(c, uw);
}

enum call_result acl_setuser(struct call *c)
{
    struct acl *a = c->srv->acl;
    struct acl_fault why;
    struct buf rules;
    int logged = acl_in_log(a, c->argv[2]);

    if (!user_name_ok(c->argv[2]))
        return call_errorf(c, ERR_SYNTAX, "Usernames can't contain spaces or null characters");
    if (logged && atomic_load_explicit(&c->srv->loading, memory_order_acquire))
        return call_error(c, ERR_LOADING);
    if (!take_turn(c->srv))
        return call_park(c, c->srv->users_turn);
    buf_init_secret(&rules, USER_RULES_MAX);
    enum call_result result = CALL_DONE;
    enum err e = logged ? acl_plan(a, c->argv[2], c->argv + 3, c->argc - 3, &rules, &why)
                        : acl_set(a, c->argv + 2, c->argc - 2, &why);
    if (!e && logged) {
        result = log_user(c, &rules); /* which gives the turn on */
    } else {
        give_turn(c->srv);
        if (!e)
            reply_ok(c->reply);
        else if (e == ERR_SYNTAX)
            refuse_rules(c, &why);
        else if (e == ERR_TOOBIG)
            call_errorf(c, e, "the user's rules have more than %u bytes", USER_RULES_MAX);
        else
            call_error(c, e);
    }
    buf_fini(&rules);
    return result;
}

/* ---- DELUSER ---- */

static int is_there(struct acl *a, struct bytes name)
{
    struct acl_user *u = acl_find(a, name);
    acl_user_unref(u);
    return u != NULL;
}

/* A name given twice is one. */
static int is_repeated(const struct call *c, unsigned i)
{
    for (unsigned k = 2; k < i; k++)
        if (bytes_equal(c->argv[k], c->argv[i]))
            return 1;
    return 0;
}

/* Those of the log become steps; the others go at once. */
static int drop_users(struct call *c, struct user_write *uw)
{
    struct acl *a = c->srv->acl;
    int n = 0;
    for (unsigned i = 2; i < c->argc; i++) {
        if (is_repeated(c, i) || !is_there(a, c->argv[i]))
            continue;
        n++;
        if (acl_in_log(a, c->argv[i]))
            uw->step[uw->w.steps++] = (struct step){.kind = STEP_USER_DELETE, .path = keep(uw, c->argv[i])};
        else
            acl_drop(a, c->argv[i]);
    }
    return n;
}

enum call_result acl_deluser(struct call *c)
{
    size_t names = 0;
    for (unsigned i = 2; i < c->argc; i++) {
        names += c->argv[i].n;
        if (bytes_equal(c->argv[i], bytes_str("default")))
            return call_errorf(c, ERR_SYNTAX, "The 'default' user cannot be removed");
    }
    if (!acl_has_file(c->srv->acl) && atomic_load_explicit(&c->srv->loading, memory_order_acquire))
        return call_error(c, ERR_LOADING);
    if (!take_turn(c->srv))
        return call_park(c, c->srv->users_turn);
    struct user_write *uw = user_write_new(c, c->argc - 2, names);
    if (!uw) {
        give_turn(c->srv);
        return call_error(c, ERR_OOM);
    }
    uw->deleted = drop_users(c, uw);
    if (uw->w.steps)
        return user_write_submit(c, uw);
    give_turn(c->srv);
    reply_int(c->reply, uw->deleted);
    mem_free(uw);
    return CALL_DONE;
}

/* ---- LOAD, SAVE ---- */

struct user_file {
    struct pending p;
    struct chore chore;
    struct server *srv;
    int load;
    enum err err;
    char why[1024];
};

static void file_run(struct chore *ch)
{
    struct user_file *f = mpsc_entry(ch, struct user_file, chore);
    f->err = f->load ? acl_load_file(f->srv->acl, f->why, sizeof f->why) : acl_save_file(f->srv->acl);
    if (f->err && !f->load)
        log_at(LOG_WARNING, "Saving the ACL file: %s", strerror(file_errno()));
    give_turn(f->srv);
    pending_complete(&f->p);
}

static void file_finish(struct pending *p, struct reply *r)
{
    struct user_file *f = mpsc_entry(p, struct user_file, p);
    if (!f->err)
        reply_ok(r);
    else if (f->load)
        reply_errorf(r, "ERR", "%s", f->why);
    else
        reply_errorf(r, "ERR",
                     "There was an error trying to save the ACLs. Please check the server logs for more "
                     "information");
}

static void file_release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct user_file, p));
}

static enum call_result start_file(struct call *c, int load)
{
    if (!acl_has_file(c->srv->acl))
        return call_errorf(c, ERR_SYNTAX,
                           "This Redis instance is not configured to use an ACL file. Users are kept in the log, or in "
                           "`user` lines of the configuration file: ACL SETUSER, CONFIG REWRITE");
    if (!c->srv->chores)
        return call_error(c, ERR_LOADING);
    if (!take_turn(c->srv))
        return call_park(c, c->srv->users_turn);
    struct user_file *f = mem_zalloc(sizeof *f);
    if (!f) {
        give_turn(c->srv);
        return call_error(c, ERR_OOM);
    }
    f->chore.run = file_run;
    f->srv = c->srv;
    f->load = load;
    call_pending(c, &f->p, file_finish, file_release);
    chores_post(c->srv->chores, &f->chore);
    return CALL_PENDING;
}

enum call_result acl_load_cmd(struct call *c)
{
    return start_file(c, 1);
}

enum call_result acl_save_cmd(struct call *c)
{
    return start_file(c, 0);
}
