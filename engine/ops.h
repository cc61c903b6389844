/* ops.h - the operations in a record's blob: what the one apply function writes.
 *
 *      0  u8   kind     1 put, 2 delete
 *      1  u8   0
 *      2  u16  store    0 base store, 1 + n shard n
 *      4  u16  key length
 *      6  u16  0
 *      8  u32  value length (0 for a delete)
 *     12  key, value
 *
 * Operations follow one another without padding. They carry the full new value, so applying a record twice, or
 * replaying a stretch of log in order over a newer state, ends in the same state. A key is 1 to 65,535 bytes, a value 0
 * to 2^32 - 1. Pure functions over memory.
 */
#ifndef COFFER_ENGINE_OPS_H
#define COFFER_ENGINE_OPS_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"

#define OPS_HEADER_BYTES 12

enum ops_kind { OPS_PUT = 1, OPS_DELETE = 2 };

struct op {
    enum ops_kind kind;
    uint16_t store;
    struct bytes key, value; /* borrowed */
};

/* Append an operation to b. ERR_TOOBIG: an empty key, a key or value over the above, or b's limit; ERR_OOM. b is
 * unchanged then. */
must_use enum err ops_put(struct buf *b, uint16_t store, struct bytes key, struct bytes value);
must_use enum err ops_delete(struct buf *b, uint16_t store, struct bytes key);

/* Takes the next operation off the front of *in; key and value point into it. ERR_END when none is left, ERR_CORRUPT
 * when malformed: *in stays where it was, *op is zeroed. */
must_use enum err ops_next(struct bytes *in, struct op *op);

#endif
