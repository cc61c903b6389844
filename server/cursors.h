/* cursors.h - numbers for SCAN: clients want a decimal cursor, the store goes on from a path.
 *
 * A table of the last CURSORS_MAX places handed out; the number names a slot and a random part, below 2^53 so that
 * clients that keep it in a double keep it whole. A cursor stays valid until CURSORS_MAX others were made, then SCAN
 * answers an error and the client starts anew. Any thread; a short lock.
 */
#ifndef COFFER_SERVER_CURSORS_H
#define COFFER_SERVER_CURSORS_H

#include <stdint.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"

#define CURSORS_MAX 16384

struct cursors;
must_use enum err cursors_new(struct cursors **out);
void cursors_free(struct cursors *cs);

/* A number for "go on behind path in this vault". ERR_OOM. */
must_use enum err cursors_put(struct cursors *cs, uint64_t vault, struct bytes path, uint64_t *cursor);
/* Its path, appended to out. ERR_NOTFOUND: never given out for this vault, or too long ago. */
must_use enum err cursors_get(struct cursors *cs, uint64_t cursor, uint64_t vault, struct buf *out);

#endif
