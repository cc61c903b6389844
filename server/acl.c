/* acl.c - users and passwords; see acl.h.
 *
 * Users hang in a list under a lock, each immutable and reference-counted: a change replaces the struct, raises the
 * epoch, and connections look theirs up by name when they next run a command. So the check of a command reads the user
 * without a lock.
 *
 * Passwords: SHA-256, kept in the user (in locked memory: a fast hash of a weak password is nearly the password). A
 * login compares with every hash of the user, and with a dummy when there is no such user or it is off, so that the
 * time says nothing about which it was.
 *
 * Rules: on off nopass resetpass >password <password #hash !hash reset, and of permissions all or nothing: +@all
 * (allcommands), ~* (allkeys), &* (allchannels), -@all (nocommands), resetkeys, resetchannels. What narrows permissions
 * further is refused rather than ignored. A user without +@all and ~* may run what needs no login and no more.
 */
#include "server/acl.h"

#include <openssl/sha.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "server/command.h"

#define HASH_BYTES 32
#define HASHES_MAX 32
#define NAME_MAX_BYTES 255

struct acl_user {
    _Atomic unsigned refs;
    struct acl_user *next;
    char name[NAME_MAX_BYTES + 1];
    int enabled, nopass, all_commands, all_keys, all_channels;
    unsigned hashes;
    uint8_t hash[HASHES_MAX][HASH_BYTES];
};

struct acl {
    pthread_mutex_t lock;
    struct acl_user *users; /* the default user first */
    _Atomic uint64_t epoch;
};

/* ---- users ---- */

static struct acl_user *user_new(struct bytes name)
{
    struct acl_user *u = mem_secret_alloc(sizeof *u);
    if (!u)
        return NULL;
    memset(u, 0, sizeof *u);
    atomic_init(&u->refs, 1);
    memcpy(u->name, name.p, name.n);
    return u;
}

static struct acl_user *user_ref(struct acl_user *u)
{
    atomic_fetch_add_explicit(&u->refs, 1, memory_order_relaxed);
    return u;
}

void acl_user_unref(struct acl_user *u)
{
    if (u && atomic_fetch_sub_explicit(&u->refs, 1, memory_order_acq_rel) == 1)
        mem_secret_free(u, sizeof *u);
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

/* Under the lock. */
static struct acl_user **find(struct acl *a, struct bytes name)
{
    struct acl_user **at = &a->users;
    while (*at && !bytes_equal(bytes_str((*at)->name), name))
        at = &(*at)->next;
    return at;
}

/* Takes u over in place of the user of that name, or adds it. */
static void publish(struct acl *a, struct acl_user *u)
{
    pthread_mutex_lock(&a->lock);
    struct acl_user **at = find(a, bytes_str(u->name)), *old = *at;
    u->next = old ? old->next : NULL;
    *at = u;
    atomic_fetch_add_explicit(&a->epoch, 1, memory_order_release);
    pthread_mutex_unlock(&a->lock);
    acl_user_unref(old);
}

/* A copy to change; a new user when there is none. NULL: no memory. */
static struct acl_user *copy(struct acl *a, struct bytes name)
{
    struct acl_user *u = user_new(name);
    if (!u)
        return NULL;
    pthread_mutex_lock(&a->lock);
    const struct acl_user *old = *find(a, name);
    if (old) {
        u->enabled = old->enabled;
        u->nopass = old->nopass;
        u->all_commands = old->all_commands;
        u->all_keys = old->all_keys;
        u->all_channels = old->all_channels;
        u->hashes = old->hashes;
        memcpy(u->hash, old->hash, sizeof u->hash);
    }
    pthread_mutex_unlock(&a->lock);
    return u;
}

/* ---- passwords ---- */

static void add_hash(struct acl_user *u, const uint8_t hash[HASH_BYTES])
{
    for (unsigned i = 0; i < u->hashes; i++)
        if (mem_equal_ct(u->hash[i], hash, HASH_BYTES))
            return;
    memcpy(u->hash[u->hashes++], hash, HASH_BYTES);
    u->nopass = 0;
}

static void drop_hash(struct acl_user *u, const uint8_t hash[HASH_BYTES])
{
    for (unsigned i = 0; i < u->hashes; i++) {
        if (!mem_equal_ct(u->hash[i], hash, HASH_BYTES))
            continue;
        memmove(u->hash[i], u->hash[i + 1], (HASHES_MAX - i - 1) * HASH_BYTES);
        u->hashes--;
        return;
    }
}

static void add_password(struct acl_user *u, struct bytes password)
{
    uint8_t hash[HASH_BYTES];
    SHA256(password.p, password.n, hash);
    add_hash(u, hash);
    mem_wipe(hash, sizeof hash);
}

static int read_hash(struct bytes hex, uint8_t out[HASH_BYTES])
{
    if (hex.n != 2 * HASH_BYTES)
        return 0;
    for (size_t i = 0; i < hex.n; i++) {
        uint8_t c = hex.p[i], v = c >= '0' && c <= '9'   ? (uint8_t)(c - '0')
                                  : c >= 'a' && c <= 'f' ? (uint8_t)(c - 'a' + 10)
                                                         : 255;
        if (v == 255)
            return 0;
        out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | v : v << 4);
    }
    return 1;
}

/* ---- rules ---- */

static void set_reset(struct acl_user *u)
{
    u->enabled = u->nopass = u->all_commands = u->all_keys = u->all_channels = 0;
    u->hashes = 0;
    mem_wipe(u->hash, sizeof u->hash);
}

static void set_resetpass(struct acl_user *u)
{
    u->nopass = 0;
    u->hashes = 0;
    mem_wipe(u->hash, sizeof u->hash);
}

static void set_nopass(struct acl_user *u)
{
    set_resetpass(u);
    u->nopass = 1;
}

#define SETTER(fn, field, value)       \
    static void fn(struct acl_user *u) \
    {                                  \
        u->field = value;              \
    }
SETTER(set_on, enabled, 1)
SETTER(set_off, enabled, 0)
SETTER(set_commands, all_commands, 1)
SETTER(set_nocommands, all_commands, 0)
SETTER(set_keys, all_keys, 1)
SETTER(set_nokeys, all_keys, 0)
SETTER(set_channels, all_channels, 1)
SETTER(set_nochannels, all_channels, 0)

static const struct {
    const char *word;
    void (*set)(struct acl_user *u);
} rules[] = {
    {"on", set_on},
    {"off", set_off},
    {"nopass", set_nopass},
    {"resetpass", set_resetpass},
    {"reset", set_reset},
    {"+@all", set_commands},
    {"allcommands", set_commands},
    {"-@all", set_nocommands},
    {"nocommands", set_nocommands},
    {"~*", set_keys},
    {"allkeys", set_keys},
    {"resetkeys", set_nokeys},
    {"&*", set_channels},
    {"allchannels", set_channels},
    {"resetchannels", set_nochannels},
    {"sanitize-payload", NULL},
    {"skip-sanitize-payload", NULL},
};

static enum err apply_password_rule(struct acl_user *u, struct bytes word, const char **why)
{
    struct bytes rest = bytes_of(word.p + 1, word.n - 1);
    uint8_t hash[HASH_BYTES];

    if (word.p[0] == '#' || word.p[0] == '!') {
        if (!read_hash(rest, hash)) {
            *why = "The provided password hash must be exactly 64 characters and contain only lowercase hexadecimal "
                   "characters";
            return ERR_SYNTAX;
        }
    } else {
        SHA256(rest.p, rest.n, hash);
    }
    int add = word.p[0] == '>' || word.p[0] == '#';
    if (add && u->hashes == HASHES_MAX) {
        *why = "Too many passwords";
        return ERR_SYNTAX;
    }
    (add ? add_hash : drop_hash)(u, hash);
    mem_wipe(hash, sizeof hash);
    return ERR_OK;
}

static enum err apply_rule(struct acl_user *u, struct bytes word, const char **why)
{
    if (word.n > 0 && memchr("><#!", word.p[0], 4))
        return apply_password_rule(u, word, why);
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (!bytes_equal(word, bytes_str(rules[i].word)))
            continue;
        if (rules[i].set)
            rules[i].set(u);
        return ERR_OK;
    }
    *why = "Syntax error";
    return ERR_SYNTAX;
}

/* ---- the interface ---- */

enum err acl_new(struct acl **out)
{
    const char *why;
    const struct bytes words[] = {bytes_str("default"), bytes_str("on"), bytes_str("nopass"),
                                  bytes_str("~*"),      bytes_str("&*"), bytes_str("+@all")};
    struct acl *a = *out = mem_zalloc(sizeof *a);
    if (!a)
        return ERR_OOM;
    pthread_mutex_init(&a->lock, NULL);
    enum err e = acl_set_user(a, words, 6, &why);
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
    while (a->users) {
        struct acl_user *u = a->users;
        a->users = u->next;
        acl_user_unref(u);
    }
    pthread_mutex_destroy(&a->lock);
    mem_free(a);
}

enum err acl_set_user(struct acl *a, const struct bytes *words, unsigned n, const char **why)
{
    *why = "";
    if (n == 0 || words[0].n == 0 || words[0].n > NAME_MAX_BYTES || memchr(words[0].p, 0, words[0].n) ||
        memchr(words[0].p, ' ', words[0].n)) {
        *why = "Usernames can't contain spaces or null characters";
        return ERR_SYNTAX;
    }
    struct acl_user *u = copy(a, words[0]);
    if (!u)
        return ERR_OOM;
    enum err e = ERR_OK;
    for (unsigned i = 1; i < n && !e; i++)
        e = apply_rule(u, words[i], why);
    if (e)
        acl_user_unref(u);
    else
        publish(a, u);
    return e;
}

enum err acl_set_default_password(struct acl *a, struct bytes password)
{
    struct acl_user *u = copy(a, bytes_str("default"));
    if (!u)
        return ERR_OOM;
    if (password.n) {
        set_resetpass(u);
        add_password(u, password);
    } else {
        set_nopass(u);
    }
    publish(a, u);
    return ERR_OK;
}

/* All of the user's hashes, whichever matches, so that time tells nothing. */
static int password_matches(const struct acl_user *u, const uint8_t hash[HASH_BYTES])
{
    static const uint8_t dummy[HASH_BYTES];
    int found = 0;
    for (unsigned i = 0; u && i < u->hashes; i++)
        found |= mem_equal_ct(u->hash[i], hash, HASH_BYTES);
    if (!u || u->hashes == 0)
        found = mem_equal_ct(dummy, hash, HASH_BYTES) & 0;
    return u && u->enabled && (found || u->nopass);
}

enum err acl_login(struct acl *a, struct bytes name, struct bytes password, struct acl_user **out)
{
    uint8_t hash[HASH_BYTES];
    *out = NULL;
    SHA256(password.p, password.n, hash);
    pthread_mutex_lock(&a->lock);
    struct acl_user *u = *find(a, name);
    if (password_matches(u, hash))
        *out = user_ref(u);
    pthread_mutex_unlock(&a->lock);
    mem_wipe(hash, sizeof hash);
    return *out ? ERR_OK : ERR_WRONGPASS;
}

int acl_has(struct acl *a, struct bytes name)
{
    pthread_mutex_lock(&a->lock);
    int has = *find(a, name) != NULL;
    pthread_mutex_unlock(&a->lock);
    return has;
}

struct acl_user *acl_default(struct acl *a)
{
    pthread_mutex_lock(&a->lock);
    struct acl_user *u = user_ref(a->users);
    pthread_mutex_unlock(&a->lock);
    return u;
}

struct acl_user *acl_refresh(struct acl *a, const struct acl_user *u)
{
    pthread_mutex_lock(&a->lock);
    struct acl_user *now = *find(a, bytes_str(u->name));
    if (now)
        user_ref(now);
    pthread_mutex_unlock(&a->lock);
    return now;
}

uint64_t acl_epoch(const struct acl *a)
{
    return atomic_load_explicit(&a->epoch, memory_order_acquire);
}

enum err acl_check(const struct acl_user *u, int authenticated, const struct call *c, enum acl_reason *why)
{
    *why = ACL_COMMAND;
    if (c->cmd->flags & CMD_NOAUTH)
        return ERR_OK;
    if (!authenticated)
        return ERR_NOAUTH;
    if (!u->all_commands)
        return ERR_NOPERM;
    if (!u->all_keys && c->cmd->keys != KEYS_NONE) {
        *why = ACL_KEY;
        return ERR_NOPERM;
    }
    return ERR_OK;
}

static enum err describe(const struct acl_user *u, struct buf *out)
{
    enum err e = buf_putf(out, "user %s %s", u->name, u->enabled ? "on" : "off");
    if (!e && u->nopass)
        e = buf_putf(out, " nopass");
    for (unsigned i = 0; i < u->hashes && !e; i++) {
        e = buf_putf(out, " #");
        for (unsigned k = 0; k < HASH_BYTES && !e; k++)
            e = buf_putf(out, "%02x", u->hash[i][k]);
    }
    return e ? e
             : buf_putf(out, " %s %s %s\n", u->all_keys ? "~*" : "resetkeys", u->all_channels ? "&*" : "resetchannels",
                        u->all_commands ? "+@all" : "-@all");
}

enum err acl_list(struct acl *a, struct buf *out, unsigned *count)
{
    enum err e = ERR_OK;
    *count = 0;
    pthread_mutex_lock(&a->lock);
    for (const struct acl_user *u = a->users; u && !e; u = u->next, ++*count)
        e = describe(u, out);
    pthread_mutex_unlock(&a->lock);
    return e;
}

enum err acl_names(struct acl *a, struct buf *out, unsigned *count)
{
    enum err e = ERR_OK;
    *count = 0;
    pthread_mutex_lock(&a->lock);
    for (const struct acl_user *u = a->users; u && !e; u = u->next, ++*count)
        e = buf_putf(out, "%s\n", u->name);
    pthread_mutex_unlock(&a->lock);
    return e;
}
