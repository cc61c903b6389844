/* acl.h - users: who they are, what each may do, and the one place that decides it.
 *
 * A user is a name, passwords (SHA-256, compared in constant time) and rules: Redis 7's ACL language, docs/acl.md.
 * Users are immutable once published: a change makes a new struct acl_user in the old one's place, connections notice
 * by acl_epoch() and look theirs up again (acl_refresh), so that the check on each command takes no lock.
 *
 * Every user has one home, and what is there is what counts at the next start:
 *
 *     the log       unless one of these says otherwise: ACL SETUSER is a record, on every node, in every snapshot
 *     the file      with `aclfile`, all users of this node; ACL SETUSER changes memory, ACL SAVE the file
 *     the lines     users that have a `user` line; ACL SETUSER changes memory, CONFIG REWRITE the file
 *
 * For users of the log the text of their rules is made first (acl_plan), then logged, and what comes back from the log
 * is taken up (acl_take): here, on a replica and at a start in the same way. For the others acl_set does both at once.
 *
 * Until the log has been read nobody knows its users, the default user included. Connections are served as by one that
 * may do nothing: commands are answered -LOADING, logins too (acl_await_log, acl_log_known). When there is no log, and
 * somebody has to say what is to be done, the default user of the configuration stands in, on this machine
 * (acl_log_lost).
 *
 * When another log takes the place of the one that is known (a full resync), those who are logged in stay what they are
 * until it has been read (acl_await_other_log). A user of the same name is the same user then if a password of the one
 * is good for the other, or neither has or needs any: whoever is connected as another one is not that any more.
 *
 * Threads: acl_check and acl_login from any I/O thread; changes from any, under a lock inside. Whoever plans a change
 * and logs it sees to it that nobody plans another meanwhile (cmd_acl.c). Nothing blocks but what says so.
 */
#ifndef COFFER_SERVER_ACL_H
#define COFFER_SERVER_ACL_H

#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"
#include "server/call.h"

struct acl;
struct acl_user;
struct acl_selector;

/* What is wrong with rules: the text is static, as Redis's; word counts from 0 behind the name. */
struct acl_fault {
    unsigned word;
    const char *text;
};

/* One user, "default": on, nopass, everything allowed; at home in the log. ERR_OOM. */
must_use enum err acl_new(struct acl **out);
void acl_free(struct acl *a);

/* ---- before there are threads ---- */

/* A `user` line's words: name, then rules, applied to a user that may do nothing. ERR_SYNTAX with *why, also for a
 * second line of the name; ERR_CONFLICT: there is an aclfile; ERR_OOM. Changes nothing on an error. */
must_use enum err acl_configure(struct acl *a, const struct bytes *words, unsigned n, struct acl_fault *why);
/* All users are those of the file from now on. As acl_load_file; ERR_CONFLICT: there are `user` lines. Blocks. */
must_use enum err acl_use_file(struct acl *a, const char *path, char *why, size_t room);
/* The log's users are not known until acl_log_known; nothing to wait for with an aclfile. ERR_OOM. */
must_use enum err acl_await_log(struct acl *a);
/* The same when they are known already: those of another log will be. No logins meanwhile. */
void acl_await_other_log(struct acl *a);
/* Called after each change, on the thread that made it, without a lock held. */
void acl_on_change(struct acl *a, void (*fn)(void *arg), void *arg);

/* ---- changes ---- */

/* acl-pubsub-default: may new users, and those that are reset, use all channels? */
void acl_set_channels_default(struct acl *a, int all);
/* requirepass: the default user's only password; empty: nopass. In memory, whatever its home: the configuration says it
 * again at the next start, and what the log knows of the default user's passwords gives way to it then. ERR_OOM. */
must_use enum err acl_set_default_password(struct acl *a, struct bytes password);

/* 1: the home of a user of that name is the log. */
int acl_in_log(struct acl *a, struct bytes name);
/* What the user of that name would be after these rules, or a new one, as text (appended to out, a secret buf). Changes
 * nothing. ERR_SYNTAX with *why, ERR_TOOBIG, ERR_OOM. */
must_use enum err acl_plan(struct acl *a, struct bytes name, const struct bytes *rules, unsigned n, struct buf *out,
                           struct acl_fault *why);
/* A user of the log, as the text says; text.p NULL: there is none any more. Other homes' users stay as they are.
 * Rules that this version does not know give no permission; when they might have taken one away the user is off.
 * ERR_OOM alone. */
must_use enum err acl_take(struct acl *a, struct bytes name, struct bytes text);
/* There is no log yet that could say who the default user is: what it is without one stands in until acl_log_known.
 * ERR_OOM. */
must_use enum err acl_log_lost(struct acl *a);
/* All of the log's users have been taken; those of one before it that have not are gone. ERR_OOM. */
must_use enum err acl_log_known(struct acl *a);
/* acl_plan and the change, in memory. words: name, then rules. */
must_use enum err acl_set(struct acl *a, const struct bytes *words, unsigned n, struct acl_fault *why);
/* In memory. 1: it was there. */
int acl_drop(struct acl *a, struct bytes name);

/* ---- files; both block ---- */

/* ACL LOAD: every user anew from the file, none when a line is wrong. Whoever is logged in is not any more, but for the
 * default user's. ERR_SYNTAX, ERR_IO, ERR_NOTFOUND with why saying what and where; ERR_OOM. */
must_use enum err acl_load_file(struct acl *a, char *why, size_t room);
/* ACL SAVE: the file as acl_list says, atomically, mode 0600. ERR_IO, ERR_MISCONF, ERR_OOM. */
must_use enum err acl_save_file(struct acl *a);
int acl_has_file(const struct acl *a); /* 1: there is an aclfile */
/* The users of `user` lines, "name rules" a line, appended to out (a secret buf); *changed: any is not as its line has
 * it. For CONFIG REWRITE. ERR_OOM. */
must_use enum err acl_config_lines(struct acl *a, struct buf *out, int *changed);

/* ---- who ---- */

/* The user of that name and password, with a reference. ERR_WRONGPASS for all that may go wrong; ERR_LOADING while the
 * user's home is a log that has not been read. */
must_use enum err acl_login(struct acl *a, struct bytes name, struct bytes password, struct acl_user **out);
/* The user of that name with a reference, NULL: none. For who is known by other means than a password: the name in a
 * TLS client's certificate, say; look at acl_user_enabled. */
struct acl_user *acl_find(struct acl *a, struct bytes name);
/* The default user, with a reference. */
struct acl_user *acl_default(struct acl *a);
/* The same user as it is now, with a reference; NULL when it is gone, also when there is another one of its name. */
struct acl_user *acl_refresh(struct acl *a, const struct acl_user *u);
void acl_user_unref(struct acl_user *u); /* accepts NULL */
uint64_t acl_epoch(const struct acl *a);

const char *acl_user_name(const struct acl_user *u);
int acl_user_enabled(const struct acl_user *u);
int acl_user_nopass(const struct acl_user *u);
/* 1: stands in for a default user that is not known yet, and may do nothing. */
int acl_user_unknown(const struct acl_user *u);
/* 1: stands in for a default user that is not known yet: who is this one now has to be judged again. */
int acl_user_stands_in(const struct acl_user *u);
/* 1: whoever connects is this user, if it is the default one, without a word: on and nopass, or not known yet. */
int acl_user_open(const struct acl_user *u);
/* 1: every channel and pattern that was allowed is allowed still, by the same words. */
int acl_channels_kept(const struct acl_user *was, const struct acl_user *now);

/* ---- what ---- */

enum acl_reason { ACL_COMMAND, ACL_KEY, ACL_CHANNEL, ACL_AUTH }; /* what a refusal is about */
struct acl_denial {
    enum acl_reason reason;
    unsigned arg; /* which argument is the key or channel */
};
/* May this connection's user carry out this call? Asked once for every command, before its handler: command,
 * sub-command, first argument, keys as command_keys_each() gives them, channels. ERR_OK, ERR_NOAUTH, ERR_LOADING,
 * ERR_NOPERM with *why, ERR_OOM; the text of a refusal is the caller's. */
must_use enum err acl_check(const struct acl_user *u, int authenticated, const struct call *c, struct acl_denial *why);

/* May this user read that key, by this command (NULL: by one that reads secrets)? For what is told without having been
 * asked for by name. full is the canonical name, written the key as a client of the facade has it, p NULL: it is none.
 */
int acl_may_read(const struct acl_user *u, const struct command *cmd, struct bytes written, struct bytes full);

/* ---- to be shown ---- */

/* "user <name> on #<sha256> ~* &* +@all" of all users by name, a line each, appended to out: ACL LIST. */
must_use enum err acl_list(struct acl *a, struct buf *out, unsigned *count);
must_use enum err acl_names(struct acl *a, struct buf *out, unsigned *count);
/* The hashes in hex, one after the other; 64 digits each. */
must_use enum err acl_user_hashes(const struct acl_user *u, struct buf *out, unsigned *count);
/* The user's own permissions, then those of its selectors; NULL behind the last. */
const struct acl_selector *acl_user_selector(const struct acl_user *u, unsigned i);
must_use enum err acl_selector_commands(const struct acl_selector *s, struct buf *out); /* "-@all +get" */
must_use enum err acl_selector_keys(const struct acl_selector *s, struct buf *out);     /* "%R~a* ~b*" */
must_use enum err acl_selector_channels(const struct acl_selector *s, struct buf *out); /* "&a &b*" */

#endif
