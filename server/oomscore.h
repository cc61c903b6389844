/* oomscore.h - oom-score-adj: what the kernel is told of whom to kill first when memory ends, another number for a
 * primary and for a replica. Switched off again, it is what it was before. */
#ifndef COFFER_SERVER_OOMSCORE_H
#define COFFER_SERVER_OOMSCORE_H

#include "server/server.h"

/* Follows CONFIG SET from now on, and what is set already. Once, srv->config is there. ERR_OOM. */
must_use enum err oomscore_follow(struct server *srv);
/* The node's part may be another one: main thread, now and then. */
void oomscore_look(struct server *srv);

#endif
