/* setup.h - what configured lines do at start: requirepass and `user` to the ACL, `rename-command` to the command
 * table. */
#ifndef COFFER_SERVER_SETUP_H
#define COFFER_SERVER_SETUP_H

#include "base/err.h"
#include "server/acl.h"
#include "server/config.h"

/* Gives commands the names that are configured: once in a process, before there are threads. ERR_SYNTAX with l->error
 * saying which line; ERR_OOM. */
must_use enum err setup_commands(struct config *c, struct config_loader *l);

/* Applies what else is configured, and hooks requirepass to CONFIG SET. ERR_SYNTAX, ERR_UNSUPPORTED with l->error
 * saying which line; ERR_OOM. Before there are threads. */
must_use enum err setup_apply(struct acl *a, struct config *c, struct config_loader *l);

/* In the server's directory, before there are threads: the aclfile, or that users of the log will be known later.
 * Errors are logged. Blocks. */
must_use enum err setup_users(struct acl *a, struct config *c);

#endif
