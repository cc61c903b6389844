/* acl_log.h - ACL LOG: refusals, newest first, at most acllog-max-len of them; refusals that are alike within a minute
 * are one entry that counts. In memory, of this node.
 *
 * What it never holds: a password. Of a login that failed it has the name of the user when there is such a user, else
 * "(unknown)": people type passwords where names belong.
 *
 * Threads: any; a lock inside. Nothing blocks.
 */
#ifndef COFFER_SERVER_ACL_LOG_H
#define COFFER_SERVER_ACL_LOG_H

#include "server/acl.h"
#include "server/config.h"

struct acl_log;

must_use enum err acl_log_new(struct acl_log **out, struct config *cfg); /* ERR_OOM */
void acl_log_free(struct acl_log *l);                                    /* accepts NULL */

/* Notes that a call was refused to u; on its I/O thread. No memory means that it is not noted. l may be NULL. */
void acl_log_add(struct acl_log *l, const struct call *c, const struct acl_user *u, const struct acl_denial *d);
/* The same of a login: user is what was given. */
void acl_log_add_login(struct acl_log *l, const struct call *c, struct bytes user);

void acl_log_reset(struct acl_log *l);
/* An array of the newest max entries. */
void acl_log_reply(struct acl_log *l, size_t max, uint64_t now_ms, struct reply *r);

#endif
