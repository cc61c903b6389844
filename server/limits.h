/* limits.h - descriptors for maxclients. */
#ifndef COFFER_SERVER_LIMITS_H
#define COFFER_SERVER_LIMITS_H

#include "base/err.h"
#include "server/config.h"

/* Raises the limit of open files for maxclients, or lowers maxclients with a warning in the log; from then on CONFIG
 * SET maxclients does the former or is refused. At start. ERR_OOM. */
must_use enum err limits_apply(struct config *c);

#endif
