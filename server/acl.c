/* acl.c - the table of users: logins, changes, where each is at home; see acl.h.
 *
 * Users hang in a hash table under a lock, each immutable and reference-counted: a change puts another struct in the
 * place of the old one, raises the epoch, and connections look theirs up by name when they next run a command. So the
 * check of a command reads the user without a lock.
 *
 * Passwords: a login compares with every hash of the user, and with a dummy when there is no such user, so that the
 * time says nothing about which it was. They are hashes of SHA-256 as in Redis, so that its files and its ACL LIST can
 * be taken over; a fast hash of a weak password is nearly the password, and they are in locked memory therefore.
 */
#include "server/acl.h"

#include "base/log.h"
#include "base/mem.h"
#include "server/acl_table.h"

static const char default_name[] = "default", default_rules[] = "on nopass ~* &* +@all";

/* ---- the table; under the lock ---- */

struct acl_user *acl_table_find(struct acl *a, struct bytes name)
{
    struct acl_user *u;
    HASH_FIND(hh, a->users, name.p, name.n, u);
    return u;
}

static int by_name(const struct acl_user *a, const struct acl_user *b)
{
    return strcmp(a->name, b->name);
}

enum err acl_table_add(struct acl_user **table, struct acl_user *u)
{
    size_t n = strlen(u->name);
    u->hh.tbl = NULL;
    HASH_ADD_KEYPTR_INORDER(hh, *table, u->name, n, u, by_name);
    return u->hh.tbl ? ERR_OK : ERR_OOM;
}

int acl_has_line(const struct acl *a, struct bytes name)
{
    const struct acl_line *l = a->lines;
    while (l && !bytes_equal(bytes_str(l->name), name))
        l = l->next;
    return l != NULL;
}

static enum acl_home home_of(const struct acl *a, struct bytes name)
{
    return a->file ? ACL_HOME_FILE : acl_has_line(a, name) ? ACL_HOME_LINES : ACL_HOME_LOG;
}

void acl_table_drop_all(struct acl_user **table)
{
    struct acl_user *u, *tmp;
    HASH_ITER (hh, *table, u, tmp) {
        HASH_DELETE(hh, *table, u);
        acl_user_unref(u);
    }
}

/* ---- publishing ---- */

void acl_tell(struct acl *a)
{
    atomic_fetch_add_explicit(&a->epoch, 1, memory_order_release);
    if (a->changed)
        a->changed(a->changed_arg);
}

static int shares_password(const struct acl_user *a, const struct acl_user *b)
{
    for (unsigned i = 0; i < a->hashes; i++)
        for (unsigned k = 0; k < b->hashes; k++)
            if (mem_equal_ct(a->hash[i], b->hash[k], SHA256_BYTES))
                return 1;
    return 0;
}

/* Of two logs: could who was let in as the one have been let in as the other? */
static int is_same_user(const struct acl_user *a, const struct acl_user *b)
{
    return a->nopass == b->nopass && ((!a->hashes && !b->hashes) || shares_password(a, b));
}

/* Takes u over in place of the user of that name, or adds it. */
enum err acl_publish(struct acl *a, struct acl_user *u)
{
    pthread_mutex_lock(&a->lock);
    struct acl_user *old = acl_table_find(a, bytes_str(u->name));
    int same = old && (!old->of_old_log || is_same_user(old, u));
    u->identity = same ? old->identity : ++a->identities;
    u->home = (uint8_t)home_of(a, bytes_str(u->name));
    a->lines_changed |= u->home == ACL_HOME_LINES;
    enum err e = acl_table_add(&a->users, u);
    if (!e && old)
        HASH_DELETE(hh, a->users, old);
    pthread_mutex_unlock(&a->lock);
    if (e) {
        acl_user_unref(u);
        return e;
    }
    acl_user_unref(old);
    acl_tell(a);
    return ERR_OK;
}

static int drop(struct acl *a, struct bytes name)
{
    pthread_mutex_lock(&a->lock);
    struct acl_user *u = acl_table_find(a, name);
    if (u) {
        HASH_DELETE(hh, a->users, u);
        a->lines_changed |= u->home == ACL_HOME_LINES;
    }
    pthread_mutex_unlock(&a->lock);
    acl_user_unref(u);
    if (u)
        acl_tell(a);
    return u != NULL;
}

static enum err from_text(struct bytes name, struct bytes text, int forgive, struct acl_user **out,
                          struct acl_fault *why)
{
    *out = acl_user_new(name, 0);
    enum err e = *out ? acl_user_apply_text(*out, text, forgive, why) : ERR_OOM;
    if (e) {
        acl_user_unref(*out);
        *out = NULL;
    }
    return e;
}

/* requirepass, on a user that is not published yet. */
static enum err require_password(struct acl *a, struct acl_user *u)
{
    struct acl_fault why;
    struct buf text;
    pthread_mutex_lock(&a->lock);
    struct acl_user *p = a->password ? acl_user_ref(a->password) : NULL;
    pthread_mutex_unlock(&a->lock);
    if (!p)
        return ERR_OK;
    buf_init_secret(&text, 256);
    enum err e = buf_put(&text, "resetpass", 9);
    if (!e)
        e = acl_user_put_passwords(p, &text);
    if (!e)
        e = acl_user_apply_text(u, buf_bytes(&text), 0, &why);
    buf_fini(&text);
    acl_user_unref(p);
    return e;
}

/* The default user as it is when nothing says otherwise. */
enum err acl_built_in(struct acl *a, struct acl_user **out)
{
    struct acl_fault why;
    enum err e = from_text(bytes_str(default_name), bytes_str(default_rules), 0, out, &why);
    if (!e && (e = require_password(a, *out))) {
        acl_user_unref(*out);
        *out = NULL;
    }
    return e;
}

/* ---- life ---- */

enum err acl_new(struct acl **out)
{
    struct acl_user *u;
    struct acl *a = *out = mem_zalloc(sizeof *a);
    if (!a)
        return ERR_OOM;
    pthread_mutex_init(&a->lock, NULL);
    enum err e = acl_built_in(a, &u);
    if (!e)
        e = acl_publish(a, u);
    if (e) {
        acl_free(a);
        *out = NULL;
    }
    return e;
}

void acl_free(struct acl *a)
{
    if (!a)
        return;
    acl_table_drop_all(&a->users);
    while (a->lines) {
        struct acl_line *l = a->lines;
        a->lines = l->next;
        mem_free(l);
    }
    acl_user_unref(a->password);
    mem_free(a->file);
    pthread_mutex_destroy(&a->lock);
    mem_free(a);
}

void acl_on_change(struct acl *a, void (*fn)(void *arg), void *arg)
{
    a->changed = fn;
    a->changed_arg = arg;
}

void acl_set_channels_default(struct acl *a, int all)
{
    atomic_store_explicit(&a->channels_default, all, memory_order_relaxed);
}

/* ---- changes ---- */

static enum err text_of(struct acl *a, struct bytes name, struct buf *out)
{
    pthread_mutex_lock(&a->lock);
    const struct acl_user *u = acl_table_find(a, name);
    enum err e = !u ? ERR_NOTFOUND : u->unknown || u->of_old_log ? ERR_LOADING : acl_user_text(u, out);
    pthread_mutex_unlock(&a->lock);
    return e;
}

/* What the rules make of what is there, or of nothing. */
static enum err changed(struct acl *a, struct bytes name, const struct bytes *rules, unsigned n, struct acl_user **out,
                        struct acl_fault *why)
{
    int all = atomic_load_explicit(&a->channels_default, memory_order_relaxed);
    struct buf was;
    *out = NULL;
    *why = (struct acl_fault){0, "Usernames can't contain spaces or null characters"};
    if (!user_name_ok(name))
        return ERR_SYNTAX;
    buf_init_secret(&was, USER_RULES_MAX);
    enum err e = text_of(a, name, &was);
    if (!e || e == ERR_NOTFOUND) {
        *out = acl_user_new(name, e == ERR_NOTFOUND && all);
        e = *out ? ERR_OK : ERR_OOM;
    }
    if (!e)
        e = acl_user_apply_text(*out, buf_bytes(&was), 0, why);
    if (!e)
        e = acl_user_apply(*out, rules, n, all, 0, why);
    buf_fini(&was);
    if (e) {
        acl_user_unref(*out);
        *out = NULL;
    }
    return e;
}

enum err acl_plan(struct acl *a, struct bytes name, const struct bytes *rules, unsigned n, struct buf *out,
                  struct acl_fault *why)
{
    struct acl_user *u;
    enum err e = changed(a, name, rules, n, &u, why);
    if (!e)
        e = acl_user_text(u, out);
    acl_user_unref(u);
    return e;
}

enum err acl_set(struct acl *a, const struct bytes *words, unsigned n, struct acl_fault *why)
{
    struct acl_user *u;
    enum err e = changed(a, words[0], words + 1, n - 1, &u, why);
    return e ? e : acl_publish(a, u);
}

int acl_drop(struct acl *a, struct bytes name)
{
    return drop(a, name);
}

int acl_in_log(struct acl *a, struct bytes name)
{
    pthread_mutex_lock(&a->lock);
    int yes = home_of(a, name) == ACL_HOME_LOG;
    pthread_mutex_unlock(&a->lock);
    return yes;
}

enum err acl_set_default_password(struct acl *a, struct bytes password)
{
    struct acl_fault why;
    struct acl_user *u = acl_user_new(bytes_str(default_name), 0);
    enum err e = u ? acl_user_set_password(u, password) : ERR_OOM;
    if (e) {
        acl_user_unref(u);
        return e;
    }
    pthread_mutex_lock(&a->lock);
    struct acl_user *old = a->password;
    a->password = u;
    pthread_mutex_unlock(&a->lock);
    acl_user_unref(old);
    e = changed(a, bytes_str(default_name), NULL, 0, &u, &why);
    if (e == ERR_LOADING) /* acl_log_known comes back to it */
        return ERR_OK;
    if (!e && (e = require_password(a, u)))
        acl_user_unref(u);
    if (e)
        return e;
    old = acl_default(a);
    u->stands_in = old->stands_in;
    acl_user_unref(old);
    return acl_publish(a, u);
}

/* ---- users of the log ---- */

enum err acl_await_log(struct acl *a)
{
    if (!acl_in_log(a, bytes_str("")))
        return ERR_OK; /* a file has them all */
    a->awaiting = 1;
    if (!acl_in_log(a, bytes_str(default_name)))
        return ERR_OK;
    struct acl_user *u = acl_user_new(bytes_str(default_name), 0);
    if (!u)
        return ERR_OOM;
    u->enabled = u->unknown = u->stands_in = 1;
    return acl_publish(a, u);
}

void acl_await_other_log(struct acl *a)
{
    pthread_mutex_lock(&a->lock);
    a->awaiting = !a->file;
    for (struct acl_user *u = a->users; u; u = u->hh.next)
        u->of_old_log = u->home == ACL_HOME_LOG;
    pthread_mutex_unlock(&a->lock);
}

static enum err taken(struct acl *a, struct bytes name, struct bytes text, struct acl_user **out)
{
    struct acl_fault why;
    enum err e = from_text(name, text, 1, out, &why);
    if (e == ERR_SYNTAX) {
        log_at(LOG_WARNING, "The rules of user %.*s are not understood (word %u: %s): it is off", (int)name.n,
               (const char *)name.p, why.word + 1, why.text);
        *out = acl_user_new(name, 0);
        e = *out ? ERR_OK : ERR_OOM;
    }
    if (!e && a->awaiting && bytes_equal(name, bytes_str(default_name)) && (e = require_password(a, *out))) {
        acl_user_unref(*out);
        *out = NULL;
    }
    return e;
}

enum err acl_take(struct acl *a, struct bytes name, struct bytes text)
{
    struct acl_user *u;
    if (!user_name_ok(name) || !acl_in_log(a, name))
        return ERR_OK;
    if (!text.p) {
        drop(a, name);
        return ERR_OK;
    }
    enum err e = taken(a, name, text, &u);
    return e ? e : acl_publish(a, u);
}

/* The default user as it is by itself, in the place of one that stands in for it. */
static enum err replace_default(struct acl *a, int stands_in)
{
    struct acl_user *u = acl_default(a);
    int replace = u->unknown || u->of_old_log || (u->stands_in && !stands_in);
    acl_user_unref(u);
    if (!replace)
        return ERR_OK;
    enum err e = acl_built_in(a, &u);
    if (e)
        return e;
    u->stands_in = (uint8_t)stands_in;
    return acl_publish(a, u);
}

enum err acl_log_lost(struct acl *a)
{
    return replace_default(a, 1);
}

static void drop_old_log(struct acl *a)
{
    struct acl_user *u, *tmp;
    HASH_ITER (hh, a->users, u, tmp) {
        if (!u->of_old_log)
            continue;
        HASH_DELETE(hh, a->users, u);
        acl_user_unref(u);
    }
}

enum err acl_log_known(struct acl *a)
{
    enum err e = replace_default(a, 0);
    if (e)
        return e;
    pthread_mutex_lock(&a->lock);
    a->awaiting = 0;
    drop_old_log(a);
    pthread_mutex_unlock(&a->lock);
    acl_tell(a);
    return ERR_OK;
}

/* ---- who ---- */

/* All of the user's hashes, whichever matches, so that time tells nothing. */
static int password_matches(const struct acl_user *u, const uint8_t hash[SHA256_BYTES])
{
    static const uint8_t dummy[SHA256_BYTES];
    int found = 0;
    for (unsigned i = 0; u && i < u->hashes; i++)
        found |= mem_equal_ct(u->hash[i], hash, SHA256_BYTES);
    if (!u || u->hashes == 0)
        found = mem_equal_ct(dummy, hash, SHA256_BYTES) & 0;
    return u && u->enabled && !u->unknown && !u->of_old_log && (found || u->nopass);
}

enum err acl_login(struct acl *a, struct bytes name, struct bytes password, struct acl_user **out)
{
    uint8_t hash[SHA256_BYTES];
    *out = NULL;
    sha256_of(password.p, password.n, hash);
    pthread_mutex_lock(&a->lock);
    struct acl_user *u = acl_table_find(a, name);
    if (password_matches(u, hash))
        *out = acl_user_ref(u);
    int unknown = a->awaiting && (!u || u->unknown || u->of_old_log) && home_of(a, name) == ACL_HOME_LOG;
    pthread_mutex_unlock(&a->lock);
    mem_wipe(hash, sizeof hash);
    return *out ? ERR_OK : unknown ? ERR_LOADING : ERR_WRONGPASS;
}

static struct acl_user *find_ref(struct acl *a, struct bytes name, uint64_t identity)
{
    pthread_mutex_lock(&a->lock);
    struct acl_user *u = acl_table_find(a, name);
    if (u && identity && u->identity != identity)
        u = NULL;
    if (u)
        acl_user_ref(u);
    pthread_mutex_unlock(&a->lock);
    return u;
}

struct acl_user *acl_find(struct acl *a, struct bytes name)
{
    return find_ref(a, name, 0);
}

struct acl_user *acl_default(struct acl *a)
{
    return find_ref(a, bytes_str(default_name), 0);
}

struct acl_user *acl_refresh(struct acl *a, const struct acl_user *u)
{
    return find_ref(a, bytes_str(u->name), u->identity);
}

uint64_t acl_epoch(const struct acl *a)
{
    return atomic_load_explicit(&a->epoch, memory_order_acquire);
}

const char *acl_user_name(const struct acl_user *u)
{
    return u->name;
}

int acl_user_enabled(const struct acl_user *u)
{
    return u->enabled;
}

int acl_user_nopass(const struct acl_user *u)
{
    return u->nopass;
}

int acl_user_unknown(const struct acl_user *u)
{
    return u->unknown;
}

int acl_user_stands_in(const struct acl_user *u)
{
    return u->stands_in;
}

int acl_user_open(const struct acl_user *u)
{
    return u->enabled && (u->nopass || u->unknown);
}

const struct acl_selector *acl_user_selector(const struct acl_user *u, unsigned i)
{
    const struct acl_selector *s = &u->own;
    while (s && i--)
        s = s->next;
    return s;
}

static int has_channel(const struct acl_user *u, const struct acl_item *pattern)
{
    for (const struct acl_selector *s = &u->own; s; s = s->next)
        for (unsigned i = 0; i < s->channels.n; i++)
            if (s->channels.at[i].n == pattern->n && memcmp(s->channels.at[i].s, pattern->s, pattern->n) == 0)
                return 1;
    return 0;
}

static int has_all_channels(const struct acl_user *u)
{
    const struct acl_selector *s = &u->own;
    while (s && !(s->flags & ACL_ALL_CHANNELS))
        s = s->next;
    return s != NULL;
}

int acl_channels_kept(const struct acl_user *was, const struct acl_user *now)
{
    if (has_all_channels(now))
        return 1;
    if (has_all_channels(was))
        return 0;
    for (const struct acl_selector *s = &was->own; s; s = s->next)
        for (unsigned i = 0; i < s->channels.n; i++)
            if (!has_channel(now, &s->channels.at[i]))
                return 0;
    return 1;
}

/* ---- to be shown ---- */

static enum err each(struct acl *a, enum err (*put)(const struct acl_user *u, struct buf *out), struct buf *out,
                     unsigned *count)
{
    enum err e = ERR_OK;
    *count = 0;
    pthread_mutex_lock(&a->lock);
    for (const struct acl_user *u = a->users; u && !e; u = u->hh.next, ++*count) {
        e = put(u, out);
        if (!e)
            e = buf_put_u8(out, '\n');
    }
    pthread_mutex_unlock(&a->lock);
    return e;
}

static enum err put_name(const struct acl_user *u, struct buf *out)
{
    return buf_put(out, u->name, strlen(u->name));
}

static enum err put_user(const struct acl_user *u, struct buf *out)
{
    enum err e = buf_put(out, "user ", 5);
    if (!e)
        e = put_name(u, out);
    if (!e)
        e = buf_put_u8(out, ' ');
    return e ? e : acl_user_text(u, out);
}

enum err acl_list(struct acl *a, struct buf *out, unsigned *count)
{
    return each(a, put_user, out, count);
}

enum err acl_names(struct acl *a, struct buf *out, unsigned *count)
{
    return each(a, put_name, out, count);
}
