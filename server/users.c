/* users.c - see users.h. The `user` lines were kept as they were written, quotes included, and are split again here. */
#include "server/users.h"

#include <stdio.h>

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

static enum err apply_line(struct acl *a, char *line, size_t n, char *error, size_t room)
{
    struct bytes words[CONFIG_WORDS_MAX];
    const char *why = "unbalanced quotes, or too many words";
    int count = config_split(line, n, words, CONFIG_WORDS_MAX);
    enum err e = count <= 0 ? ERR_SYNTAX : acl_set_user(a, words, (unsigned)count, &why);
    if (e == ERR_SYNTAX)
        snprintf(error, room, "user %.*s: %s", count > 0 ? (int)(words[0].n < 64 ? words[0].n : 64) : 0,
                 count > 0 ? (const char *)words[0].p : "", why);
    return e;
}

static enum err apply_lines(struct acl *a, struct config *c, char *error, size_t room)
{
    struct buf b;
    buf_init_secret(&b, 16 << 20);
    enum err e = config_text(c, CFG_USER, &b);
    while (!e && buf_size(&b)) {
        char *line = (char *)buf_data(&b), *end = memchr(line, '\n', buf_size(&b));
        size_t n = end ? (size_t)(end - line) : buf_size(&b);
        e = apply_line(a, line, n, error, room);
        buf_consume(&b, n + (end ? 1 : 0));
    }
    buf_fini(&b);
    return e;
}

enum err users_load(struct acl *a, struct config *c, char *error, size_t room)
{
    static struct hook_arg h; /* one server in a process */
    enum err e = ERR_OK;
    h = (struct hook_arg){a, c};
    if (config_given(c, CFG_REQUIREPASS))
        e = apply_requirepass(a, c);
    if (!e)
        e = apply_lines(a, c, error, room);
    return e ? e : config_on_change(c, CFG_REQUIREPASS, on_requirepass, &h);
}
