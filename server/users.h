/* users.h - from the configuration to the ACL: requirepass, `user` lines, and requirepass by CONFIG SET. */
#ifndef COFFER_SERVER_USERS_H
#define COFFER_SERVER_USERS_H

#include "base/err.h"
#include "server/acl.h"
#include "server/config.h"

/* Applies what is configured, and hooks itself to CONFIG SET. ERR_SYNTAX with error saying which line; ERR_OOM. At
 * start. */
must_use enum err users_load(struct acl *a, struct config *c, char *error, size_t room);

#endif
