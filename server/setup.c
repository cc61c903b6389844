/* setup.c - see setup.h. `user` and `rename-command` lines were kept as they were written, quotes included, and are
 * split again here. */
#include "server/setup.h"

#include <stdio.h>

#include "base/log.h"
#include "server/command.h"
#include "server/keyevent.h"

static enum err apply_requirepass(struct acl *a, struct config *c)
{
    struct buf b;
    buf_init_secret(&b, 1 << 20);
    enum err e = config_text(c, CFG_REQUIREPASS, &b);
    if (!e)
        e = acl_set_default_password(a, buf_bytes(&b));
    buf_fini(&b);
    return e;
}

static enum err apply_events(struct config *c)
{
    struct buf b;
    unsigned flags;
    buf_init(&b, 256);
    enum err e = config_text(c, CFG_NOTIFY_KEYSPACE_EVENTS, &b);
    if (!e)
        e = keyevent_parse(buf_bytes(&b), &flags);
    if (!e)
        keyevent_set(flags);
    buf_fini(&b);
    return e;
}

static enum err on_events(void *arg, enum config_id id, const char **why)
{
    (void)id;
    *why = "out of memory";
    return apply_events(arg);
}

struct hook_arg {
    struct acl *acl;
    struct config *config;
};

static enum err on_requirepass(void *arg, enum config_id id, const char **why)
{
    struct hook_arg *h = arg;
    (void)id;
    *why = "out of memory";
    return apply_requirepass(h->acl, h->config);
}

static enum err on_channels_default(void *arg, enum config_id id, const char **why)
{
    struct hook_arg *h = arg;
    enum { ALL, NONE };
    (void)why;
    acl_set_channels_default(h->acl, config_int(h->config, id) == ALL);
    return ERR_OK;
}

static enum err apply_user(struct acl *a, const struct bytes *words, unsigned n, struct config_loader *l)
{
    struct acl_fault why;
    enum err e = acl_configure(a, words, n, &why);
    if (e == ERR_SYNTAX)
        snprintf(l->error, sizeof l->error, "user %.*s, word %u: %s", (int)(words[0].n < 64 ? words[0].n : 64),
                 (const char *)words[0].p, why.word + 1, why.text);
    return e;
}

static enum err apply_rename(struct acl *a, const struct bytes *words, unsigned n, struct config_loader *l)
{
    (void)a;
    enum err e = n == 2 ? command_rename(words[0], words[1]) : ERR_SYNTAX;
    if (e == ERR_NOTFOUND) { /* a redis.conf may take commands away that are not here anyway */
        char line[160];
        snprintf(line, sizeof line, "rename-command %.*s: there is no such command",
                 (int)(words[0].n < 64 ? words[0].n : 64), (const char *)words[0].p);
        l->warn(l->arg, line);
        return ERR_OK;
    }
    if (e)
        snprintf(l->error, sizeof l->error, "rename-command %.*s: %s", (int)(words[0].n < 64 ? words[0].n : 64),
                 (const char *)words[0].p,
                 e == ERR_CONFLICT ? "there is a command of the new name"
                 : e == ERR_RANGE  ? "the new name is too long, or there are too many"
                                   : "wants the old name and the new one");
    return e ? ERR_SYNTAX : ERR_OK;
}

typedef enum err (*line_fn)(struct acl *a, const struct bytes *words, unsigned n, struct config_loader *l);

static enum err apply_lines(struct acl *a, struct config *c, enum config_id id, line_fn fn, struct config_loader *l)
{
    struct bytes words[CONFIG_WORDS_MAX];
    struct buf b;
    buf_init_secret(&b, 16 << 20);
    enum err e = config_text(c, id, &b);
    while (!e && buf_size(&b)) {
        char *line = (char *)buf_data(&b), *end = memchr(line, '\n', buf_size(&b));
        size_t n = end ? (size_t)(end - line) : buf_size(&b);
        int count = config_split(line, n, words, CONFIG_WORDS_MAX);
        e = count > 0 ? fn(a, words, (unsigned)count, l) : ERR_SYNTAX;
        buf_consume(&b, n + (end ? 1 : 0));
    }
    buf_fini(&b);
    return e;
}

/* What an operator relies on once it is written down, and this server does not do: better not to start than to leave it
 * out in silence. A feature that comes takes its row away. */
static const enum config_id not_offered[] = {CFG_CLUSTER_ENABLED, CFG_AUDIT_LOG};

static enum err refuse_absent(struct config *c, struct config_loader *l)
{
    for (size_t i = 0; i < sizeof not_offered / sizeof not_offered[0]; i++) {
        enum config_id id = not_offered[i];
        if (!config_int(c, id) && !(config_is_text(id) && config_given(c, id)))
            continue;
        snprintf(l->error, sizeof l->error, "%s is given, but this version does not offer it", config_rows[id].name);
        return ERR_UNSUPPORTED;
    }
    return ERR_OK;
}

enum err setup_commands(struct config *c, struct config_loader *l)
{
    return apply_lines(NULL, c, CFG_RENAME_COMMAND, apply_rename, l);
}

enum err setup_apply(struct acl *a, struct config *c, struct config_loader *l)
{
    static struct hook_arg h; /* one server in a process */
    const char *why;
    enum err e = refuse_absent(c, l);
    h = (struct hook_arg){a, c};
    if (!e && config_given(c, CFG_ACLFILE) && config_given(c, CFG_USER)) {
        snprintf(l->error, sizeof l->error,
                 "There are `user` lines and an aclfile: define all users in one place, or one of them is forgotten");
        e = ERR_SYNTAX;
    }
    if (!e)
        e = on_channels_default(&h, CFG_ACL_PUBSUB_DEFAULT, &why);
    if (!e && config_given(c, CFG_REQUIREPASS))
        e = apply_requirepass(a, c);
    if (!e)
        e = apply_lines(a, c, CFG_USER, apply_user, l);
    if (!e)
        e = config_on_change(c, CFG_ACL_PUBSUB_DEFAULT, on_channels_default, &h);
    if (!e)
        e = apply_events(c);
    if (!e)
        e = config_on_change(c, CFG_NOTIFY_KEYSPACE_EVENTS, on_events, c);
    return e ? e : config_on_change(c, CFG_REQUIREPASS, on_requirepass, &h);
}

enum err setup_users(struct acl *a, struct config *c)
{
    char why[1024];
    enum err e = ERR_OK;
    if (config_given(c, CFG_ACLFILE))
        e = acl_use_file(a, config_str(c, CFG_ACLFILE), why, sizeof why);
    if (e)
        log_at(LOG_WARNING, "%s", why);
    return e ? e : acl_await_log(a);
}
