/* proto.h - what the server and its HSM workers say to each other over a socketpair.
 *
 * Frames, both ways, back to back; a batch is many frames in one write. Little-endian:
 *
 *     0  u32  bytes that follow this field
 *     4  u32  request id, chosen by the parent, repeated in the answer
 *     8  u16  request: enum hsm_op; answer: enum err (0 OK)
 *    10  u8   number of parts
 *    11  u8   reserved, 0
 *    12  per part: u32 length, bytes
 *
 * An answer with an error has one part: a text for the log (a CKR name and the call, never data).
 * Limits: a frame is at most HSM_FRAME_MAX bytes, parts at most HSM_PARTS_MAX. Whatever breaks them ends the
 * connection: the worker exits, the parent starts another. The decoder is fuzzed. Frames carry PINs, plaintext and data
 * keys: both ends keep them in secret buffers (base/buf.h).
 */
#ifndef COFFER_HSM_PROTO_H
#define COFFER_HSM_PROTO_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"

#define HSM_FRAME_MAX (4u << 20)
#define HSM_PARTS_MAX 8
#define HSM_FRAME_HEADER 12

enum hsm_op {
#define OP(name, in, out, idem, lane, what) HSM_##name,
#include "hsm/op.tbl.h"
#undef OP
    HSM_OPS
};

enum hsm_lane { LANE_KEYED, LANE_ANY, LANE_SLOW };

struct hsm_op_row {
    const char *name;
    uint8_t parts_in, parts_out, idempotent;
    enum hsm_lane lane;
};
extern const struct hsm_op_row hsm_ops[HSM_OPS];

struct hsm_frame {
    uint32_t id;
    uint16_t code; /* enum hsm_op or enum err */
    unsigned parts;
    struct bytes part[HSM_PARTS_MAX]; /* borrowed from the buffer that was decoded */
};

/* Appends a frame. ERR_TOOBIG past the limits, ERR_OOM; b is unchanged then. */
must_use enum err proto_put(struct buf *b, uint32_t id, uint16_t code, const struct bytes *part, unsigned parts);

/* Decodes the frame at the front of in. ERR_OK: *used bytes belong to it. ERR_AGAIN: incomplete, *used is how many
 * bytes the whole frame has as far as known. ERR_PROTOCOL: malformed. */
must_use enum err proto_get(struct bytes in, struct hsm_frame *out, size_t *used);

/* The only part of START: a list of (u8 name length, name, u32 value length, value) settings. Names:
 *   module       path of the PKCS#11 module
 *   init         pReserved of C_Initialize (NSS wants a string), may be empty
 *   token        label of the token, or an RFC 7512 URI
 *   pin          the user PIN
 *   key-cache    decimal: handles in the LRU
 *   hsm-only     "yes" refuses software keys (Ed25519)
 * The environment (SOFTHSM2_CONF) is set by the parent when it starts the worker. */
must_use enum err proto_put_setting(struct buf *b, const char *name, struct bytes value);
/* Value of a setting, or an empty range. */
struct bytes proto_get_setting(struct bytes settings, const char *name);

#endif
