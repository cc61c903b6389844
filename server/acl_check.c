/* acl_check.c - may this user carry out this call? Pure: reads a user and a call.
 *
 * Most calls are decided by one bit: a command that is allowed, and keys and channels that all are. Only a user with
 * patterns has its keys looked at, and one with selectors the rest of them. Permissions of two selectors do not add up:
 * one of them must allow the whole call.
 *
 * When none does, what is told is the refusal that came furthest: a key that is not allowed rather than a command, of
 * two keys the later one.
 */
#include <pthread.h>
#include <strings.h>

#include "base/glob.h"
#include "server/acl_user.h"
#include "server/command.h"
#include "server/conn.h"
#include "server/facade.h"

static int row_allowed(const struct acl_selector *s, size_t row)
{
    return (int)(s->allowed[row / 64] >> row % 64 & 1);
}

/* ---- commands ---- */

static int command_allowed(const struct acl_selector *s, const struct call *c)
{
    size_t row = command_index(c->cmd);
    if (row_allowed(s, row) || c->cmd->flags & CMD_NOAUTH)
        return 1;
    for (unsigned i = 0; i < s->first_arguments.n && c->argc > 1; i++) {
        const struct acl_item *a = &s->first_arguments.at[i];
        if (a->num == row && a->n == c->argv[1].n && strncasecmp(a->s, (const char *)c->argv[1].p, a->n) == 0)
            return 1;
    }
    return 0;
}

/* ---- keys ---- */

struct key_search {
    const struct acl_selector *s;
    unsigned denied; /* the argument */
};

/* A façade key may be allowed as it was written, as in Redis, or by its canonical name, which says the vault. */
static int key_allowed(const struct acl_selector *s, unsigned access, struct bytes written, struct bytes name)
{
    for (unsigned i = 0; i < s->keys.n; i++) {
        const struct acl_item *p = &s->keys.at[i];
        struct bytes pattern = bytes_of(p->s, p->n);
        if ((p->num & access) == access &&
            ((written.p && glob_match(pattern, written, 0)) || glob_match(pattern, name, 0)))
            return 1;
    }
    return 0;
}

static int check_key(void *arg, const struct command_key *k)
{
    struct key_search *search = arg;
    if (key_allowed(search->s, k->access, k->written, k->name))
        return 0;
    search->denied = k->arg;
    return 1;
}

static enum err keys_allowed(const struct acl_selector *s, const struct call *c, unsigned *denied)
{
    struct key_search search = {.s = s};
    if (s->flags & ACL_ALL_KEYS || c->cmd->keys == KEYS_NONE)
        return ERR_OK;
    int stopped = facade_keys_each(c, check_key, &search);
    *denied = search.denied;
    return stopped < 0 ? ERR_OOM : stopped ? ERR_NOPERM : ERR_OK;
}

/* ---- channels ---- */

/* Commands that name channels to speak or listen to; leaving one needs no permission. */
static const struct channel_command {
    const char *name;
    int many;     /* all arguments; else the first */
    int patterns; /* they are patterns themselves: allowed when the same pattern is */
} channel_commands[] = {
    {"PUBLISH", 0, 0}, {"SPUBLISH", 0, 0}, {"SUBSCRIBE", 1, 0}, {"SSUBSCRIBE", 1, 0}, {"PSUBSCRIBE", 1, 1},
};

static int channel_allowed(const struct acl_selector *s, struct bytes channel, int literally)
{
    for (unsigned i = 0; i < s->channels.n; i++) {
        struct bytes pattern = bytes_of(s->channels.at[i].s, s->channels.at[i].n);
        if (literally ? bytes_equal(pattern, channel) : glob_match(pattern, channel, 0))
            return 1;
    }
    return 0;
}

static enum err channels_allowed(const struct acl_selector *s, const struct call *c, unsigned *denied)
{
    const struct channel_command *cc = NULL;
    if (s->flags & ACL_ALL_CHANNELS || !(c->cmd->flags & CMD_PUBSUB))
        return ERR_OK;
    for (size_t i = 0; i < sizeof channel_commands / sizeof channel_commands[0]; i++)
        if (strcmp(c->cmd->name, channel_commands[i].name) == 0)
            cc = &channel_commands[i];
    for (unsigned i = 1; cc && i < c->argc && (cc->many || i == 1); i++) {
        if (channel_allowed(s, c->argv[i], cc->patterns))
            continue;
        *denied = i;
        return ERR_NOPERM;
    }
    return ERR_OK;
}

/* ---- all of it ---- */

static enum err selector_allows(const struct acl_selector *s, const struct call *c, struct acl_denial *d)
{
    *d = (struct acl_denial){ACL_COMMAND, 0};
    if (!command_allowed(s, c))
        return ERR_NOPERM;
    d->reason = ACL_KEY;
    enum err e = keys_allowed(s, c, &d->arg);
    if (e)
        return e;
    d->reason = ACL_CHANNEL;
    return channels_allowed(s, c, &d->arg);
}

static enum err check_selectors(const struct acl_user *u, const struct call *c, struct acl_denial *why)
{
    struct acl_denial d;
    *why = (struct acl_denial){ACL_COMMAND, 0};
    for (const struct acl_selector *s = &u->own; s; s = s->next) {
        enum err e = selector_allows(s, c, &d);
        if (e != ERR_NOPERM)
            return e;
        if (d.reason > why->reason || (d.reason == why->reason && d.arg > why->arg))
            *why = d;
    }
    return ERR_NOPERM;
}

enum err acl_check(const struct acl_user *u, int authenticated, const struct call *c, struct acl_denial *why)
{
    const struct command *cmd = c->cmd;
    if (cmd->flags & CMD_NOAUTH)
        return ERR_OK;
    if (!authenticated)
        return ERR_NOAUTH;
    if (row_allowed(&u->own, command_index(cmd)) && (u->own.flags & ACL_ALL_KEYS || cmd->keys == KEYS_NONE) &&
        (u->own.flags & ACL_ALL_CHANNELS || !(cmd->flags & CMD_PUBSUB)))
        return ERR_OK;
    return u->unknown ? ERR_LOADING : check_selectors(u, c, why);
}

/* ---- what is told without being asked for ---- */

static uint64_t readers[ACL_ROWS / 64]; /* rows of commands that tell a secret's value, or of it */

static void find_readers(void)
{
    for (size_t row = 0; row < commands_count; row++)
        if (command_reads_secrets(&commands[row]) && !(commands[row].flags & CMD_PEEK))
            readers[row / 64] |= UINT64_C(1) << row % 64;
}

static int some_reader_allowed(const struct acl_selector *s)
{
    for (size_t i = 0; i < ACL_ROWS / 64; i++)
        if (s->allowed[i] & readers[i])
            return 1;
    return 0;
}

int acl_may_read(const struct acl_user *u, const struct command *cmd, struct bytes written, struct bytes full)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_readers);
    for (const struct acl_selector *s = &u->own; s && !u->unknown; s = s->next)
        if ((cmd ? row_allowed(s, command_index(cmd)) : some_reader_allowed(s)) &&
            (s->flags & ACL_ALL_KEYS || key_allowed(s, KEY_READS, written, full)))
            return 1;
    return 0;
}
