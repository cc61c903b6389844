/* acl_home.c - users of `user` lines and of the aclfile; see acl.h. Nothing here quotes what could be a password. */
#include <stdio.h>

#include "base/file.h"
#include "base/mem.h"
#include "server/acl_table.h"
#include "server/config.h"

#define FILE_MAX_BYTES (64u << 20)
#define DEFAULT_NAME "default"

/* ---- `user` lines ---- */

enum err acl_configure(struct acl *a, const struct bytes *words, unsigned n, struct acl_fault *why)
{
    struct acl_user *u = NULL;
    *why = (struct acl_fault){0, "Usernames can't contain spaces or null characters"};
    if (a->file)
        return ERR_CONFLICT;
    if (n == 0 || !user_name_ok(words[0]))
        return ERR_SYNTAX;
    why->text = "Duplicate user found. A user can only be defined once in config files";
    if (acl_has_line(a, words[0]))
        return ERR_SYNTAX;
    int all = atomic_load_explicit(&a->channels_default, memory_order_relaxed);
    struct acl_line *l = mem_zalloc(sizeof *l);
    u = l ? acl_user_new(words[0], all) : NULL;
    enum err e = u ? acl_user_apply(u, words + 1, n - 1, all, 0, why) : ERR_OOM;
    if (e) {
        acl_user_unref(u);
        mem_free(l);
        return e;
    }
    memcpy(l->name, words[0].p, words[0].n);
    l->next = a->lines;
    a->lines = l;
    e = acl_publish(a, u);
    a->lines_changed = 0;
    return e;
}

static enum err put_line(const struct acl_user *u, struct buf *out)
{
    struct buf text;
    buf_init_secret(&text, USER_RULES_MAX);
    enum err e = acl_user_text(u, &text);
    if (!e)
        e = config_put_word(out, bytes_str(u->name));
    for (struct bytes rest = buf_bytes(&text); rest.n && !e;) {
        struct bytes w = {NULL, 0};
        const uint8_t *end = memchr(rest.p, ' ', rest.n);
        (void)bytes_take(&rest, end ? (size_t)(end - rest.p) : rest.n, &w);
        e = buf_put_u8(out, ' ');
        if (!e)
            e = config_put_word(out, w);
        if (rest.n)
            rest = bytes_of(rest.p + 1, rest.n - 1);
    }
    buf_fini(&text);
    return e ? e : buf_put_u8(out, '\n');
}

enum err acl_config_lines(struct acl *a, struct buf *out, int *changed_lines)
{
    enum err e = ERR_OK;
    pthread_mutex_lock(&a->lock);
    *changed_lines = a->lines_changed;
    for (const struct acl_user *u = a->users; u && !e; u = u->hh.next)
        e = u->home == ACL_HOME_LINES ? put_line(u, out) : ERR_OK;
    pthread_mutex_unlock(&a->lock);
    return e;
}

/* ---- the file ---- */

int acl_has_file(const struct acl *a)
{
    return a->file != NULL;
}

static enum err load_line(struct acl *a, struct acl_user **table, struct bytes line, char *why, size_t room)
{
    struct acl_fault fault = {0, ""};
    struct acl_user *u = NULL;
    const uint8_t *end;
    while (line.n && memchr(" \t\r", line.p[line.n - 1], 3))
        line.n--;
    while (line.n && memchr(" \t", line.p[0], 2))
        line = bytes_of(line.p + 1, line.n - 1);
    if (!line.n || line.p[0] == '#')
        return ERR_OK;
    snprintf(why, room, "a line begins with 'user' and a name");
    if (line.n < 6 || memcmp(line.p, "user ", 5) != 0)
        return ERR_SYNTAX;
    line = bytes_of(line.p + 5, line.n - 5);
    end = memchr(line.p, ' ', line.n);
    struct bytes name = bytes_of(line.p, end ? (size_t)(end - line.p) : line.n);
    if (!user_name_ok(name))
        return ERR_SYNTAX;
    HASH_FIND(hh, *table, name.p, name.n, u);
    if (u) {
        snprintf(why, room, "Duplicate user '%s' found", u->name);
        return ERR_SYNTAX;
    }
    u = acl_user_new(name, atomic_load_explicit(&a->channels_default, memory_order_relaxed));
    enum err e = u ? acl_user_apply_text(u, bytes_of(line.p + name.n, line.n - name.n), 0, &fault) : ERR_OOM;
    if (!e)
        e = acl_table_add(table, u);
    if (e) {
        snprintf(why, room, "user %.*s, word %u: %s", (int)name.n, (const char *)name.p, fault.word + 1, fault.text);
        acl_user_unref(u);
    }
    return e;
}

static enum err load_lines(struct acl *a, struct acl_user **table, struct bytes text, char *why, size_t room)
{
    char what[512] = "";
    unsigned number = 0;
    enum err e = ERR_OK;
    while (text.n && !e) {
        const uint8_t *end = memchr(text.p, '\n', text.n);
        struct bytes line = {NULL, 0};
        (void)bytes_take(&text, end ? (size_t)(end - text.p) : text.n, &line);
        if (end)
            text = bytes_of(text.p + 1, text.n - 1);
        number++;
        e = load_line(a, table, line, what, sizeof what);
    }
    if (e)
        snprintf(why, room, "%s:%u: %s. No user was changed.", a->file, number, e == ERR_OOM ? err_text(e) : what);
    return e;
}

/* A file that does not speak of the default user leaves it what it is by itself. */
static enum err complete(struct acl *a, struct acl_user **table)
{
    struct acl_user *u;
    HASH_FIND_STR(*table, DEFAULT_NAME, u);
    if (u)
        return ERR_OK;
    enum err e = acl_built_in(a, &u);
    if (!e && (e = acl_table_add(table, u)))
        acl_user_unref(u);
    return e;
}

enum err acl_load_file(struct acl *a, char *why, size_t room)
{
    struct acl_user *table = NULL;
    struct buf text;
    snprintf(why, room, "out of memory");
    buf_init_secret(&text, FILE_MAX_BYTES);
    enum err e = file_read_all(a->file, &text, FILE_MAX_BYTES);
    if (e && e != ERR_OOM)
        snprintf(why, room, "Error loading ACLs, opening file '%s': %s", a->file, strerror(file_errno()));
    if (!e)
        e = load_lines(a, &table, buf_bytes(&text), why, room);
    if (!e)
        e = complete(a, &table);
    buf_fini(&text);
    if (!e) {
        pthread_mutex_lock(&a->lock);
        uint64_t same = acl_table_find(a, bytes_str(DEFAULT_NAME))->identity;
        for (struct acl_user *u = table; u; u = u->hh.next) {
            u->identity = strcmp(u->name, DEFAULT_NAME) == 0 ? same : ++a->identities;
            u->home = ACL_HOME_FILE;
        }
        struct acl_user *old = a->users;
        a->users = table;
        table = old;
        pthread_mutex_unlock(&a->lock);
        acl_tell(a);
    }
    acl_table_drop_all(&table);
    return e;
}

enum err acl_use_file(struct acl *a, const char *path, char *why, size_t room)
{
    snprintf(why, room, "there are `user` lines and an aclfile: put all users in one place");
    if (a->lines)
        return ERR_CONFLICT;
    size_t n = strlen(path);
    if (!(a->file = mem_alloc(n + 1)))
        return ERR_OOM;
    memcpy(a->file, path, n + 1);
    return acl_load_file(a, why, room);
}

enum err acl_save_file(struct acl *a)
{
    struct buf text;
    unsigned n;
    buf_init_secret(&text, FILE_MAX_BYTES);
    enum err e = acl_list(a, &text, &n);
    if (!e)
        e = file_write_atomic(a->file, buf_bytes(&text), 0600);
    buf_fini(&text);
    return e;
}
