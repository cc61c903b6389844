/* cellwire.h - the core's messages as bytes, between nodes.
 *
 * After the handshake a link carries nothing but these, in both directions: a head of 224 bytes, for RECORDS followed
 * by whole records as they lie in the log (record.h), in order. One layout for all messages; what one does not use is
 * zero. Little-endian:
 *
 *      0  u32  CRC-32C of bytes 4 to 223
 *      4  u32  bytes of records behind the head
 *      8  u8   type           enum cell_msg_type
 *      9  u8   flags          1 granted, 2 full, 4 mute; times 16: hops, 0 to 15
 *     10  u8   leader         index of a voter, 255: nobody
 *     11  u8   why            enum cell_why
 *     12  u32  promised
 *     16  u32  term
 *     20  u32  age in ms
 *     24  u64  session
 *     32  u64  config id
 *     40  u64  first, 48 last, 56 commit, 64 seq, 72 lsn
 *     80  48   at             LSN u64 | term u32 | zeros u32 | chain
 *    128  48   want
 *    176  48   end
 *
 * The CRC finds what a broken network or program did; records have their own, and their chain. Who sends is known from
 * the link, which the handshake authenticated.
 *
 * Pure functions; any thread.
 */
#ifndef COFFER_ENGINE_CELLWIRE_H
#define COFFER_ENGINE_CELLWIRE_H

#include "engine/cell.h"

#define CELLWIRE_HEAD_BYTES 224
#define CELLWIRE_RECORDS_MAX (RECORD_MAX_BYTES + (1u << 20)) /* of one message */

void cellwire_put(uint8_t out[CELLWIRE_HEAD_BYTES], const struct cell_msg *m, uint32_t record_bytes);
/* ERR_CORRUPT: CRC, unknown type, flags or reserved bytes, too many bytes of records, or records behind another message
 * than RECORDS. *m is zeroed then. m->records is NULL. */
must_use enum err cellwire_get(const uint8_t in[CELLWIRE_HEAD_BYTES], struct cell_msg *m, uint32_t *record_bytes);

/* The records of a message RECORDS: 1 when they are exactly first to last, whole, and chain from at on; *end is the
 * point behind the last. For a heartbeat (first > last): 1 when there are none; *end is at. */
int cellwire_records(const struct cell_msg *m, struct bytes records, struct cell_point *end);

#endif
