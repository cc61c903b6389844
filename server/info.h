/* info.h - the text of INFO.
 *
 *     # Server
 *     redis_version:7.0.15
 *     ...
 *
 * Fields that redis-cli, Sentinel and Redis's test suite read have Redis's names. Any thread; takes the short locks of
 * what it asks, so that a client which says INFO at each connection costs little.
 */
#ifndef COFFER_SERVER_INFO_H
#define COFFER_SERVER_INFO_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"
#include "server/server.h"

/* Appends the sections; n 0: the default ones. Names: a section's, "default", "all", "everything". Unknown ones add
 * nothing. ERR_OOM. */
must_use enum err info_text(struct server *srv, const struct bytes *sections, unsigned n, struct buf *out);

#endif
