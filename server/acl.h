/* acl.h - users, passwords, and the one place that says who may do what.
 *
 * Passwords are kept as SHA-256 and compared in constant time. Users are immutable once published: a change makes a new
 * struct acl_user, connections notice by acl_epoch() and look theirs up again, so that the check on each command takes
 * no lock.
 *
 * Threads: acl_check and acl_login from any I/O thread; changes from any, under a lock inside.
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

/* One user, "default": on, nopass, everything allowed. ERR_OOM. */
must_use enum err acl_new(struct acl **out);
void acl_free(struct acl *a);

/* requirepass: the default user's only password; empty: nopass. ERR_OOM. */
must_use enum err acl_set_default_password(struct acl *a, struct bytes password);
/* A `user` line's words: name, then rules. ERR_SYNTAX with *why (static). ERR_OOM. Changes nothing on an error. */
must_use enum err acl_set_user(struct acl *a, const struct bytes *words, unsigned n, const char **why);

/* The user of that name and password, with a reference; ERR_WRONGPASS for all that may go wrong. */
must_use enum err acl_login(struct acl *a, struct bytes name, struct bytes password, struct acl_user **out);
int acl_has(struct acl *a, struct bytes name); /* 1: there is such a user */
/* The default user, with a reference. */
struct acl_user *acl_default(struct acl *a);
/* As acl_default or acl_login gave it, now: with a reference; NULL when the user is gone. */
struct acl_user *acl_refresh(struct acl *a, const struct acl_user *u);
void acl_user_unref(struct acl_user *u); /* accepts NULL */
uint64_t acl_epoch(const struct acl *a);

const char *acl_user_name(const struct acl_user *u);
int acl_user_enabled(const struct acl_user *u);
int acl_user_nopass(const struct acl_user *u);

/* May this connection's user carry out this call? Asked once for every command, before its handler: command,
 * sub-command, categories, and the canonical keys that command_keys_each() gives. ERR_OK, ERR_NOAUTH, ERR_NOPERM; the
 * text of a refusal is the caller's. */
enum acl_reason { ACL_COMMAND, ACL_KEY, ACL_CHANNEL }; /* what a refusal is about */
must_use enum err acl_check(const struct acl_user *u, int authenticated, const struct call *c, enum acl_reason *why);

/* "user <name> on #<sha256> ~* &* +@all" of all users, a line each, appended to out: ACL LIST. */
must_use enum err acl_list(struct acl *a, struct buf *out, unsigned *count);
must_use enum err acl_names(struct acl *a, struct buf *out, unsigned *count);

#endif
