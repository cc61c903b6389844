/* ops.h - the operations of a worker, one handler for each row of op.tbl.h, and the ladder around them.
 *
 * ops_run() is all that the worker's loop calls. It checks the number of parts, runs the handler, and when the module
 * failed does what the policy of p11.h says: replaces the session and tries once more, logs in once, forgets cached
 * objects, confirms a doubtful answer by a probe, or asks for this worker to end.
 *
 * Formats that only operations know:
 *
 *     wrapped data key (DEK_NEW, DEK_OPEN):
 *      0  u8   format, 1
 *      1  12   nonce
 *     13  32   AES-256-GCM of the data key under the partition's KEK
 *     45  16   tag; additional data is "coffer-dek" | u8 format | context
 *     61
 *
 *     data key wrapped for the realm (REALM_DEK_NEW, REALM_DEK_OPEN):
 *      0  u8   format, 1
 *      1  40   AES-KWP by the realm's wrapping key: an AES-256 key that is for this data key alone
 *     41  12   nonce
 *     53  32   AES-256-GCM of the data key under that key
 *     85  16   tag; additional data is "coffer-realm-dek" | u8 format | context
 *    101  32   HMAC-SHA256 by the realm's mac key of "coffer-realm-dek" | bytes 0 to 100 | context
 *    133
 *
 * VERIFY is an operation of the public key: OpenSSL does it in the worker, once the masked object that the key is in
 * has been verified. Messages to be signed are hashed in the worker as well; the HSM signs the digest.
 *
 * One thread, one struct ops.
 */
#ifndef COFFER_HSM_OPS_H
#define COFFER_HSM_OPS_H

#include "base/buf.h"
#include "hsm/keys.h"
#include "hsm/proto.h"
#include "hsm/token.h"
#include "hsm/worker.h"

#define DEK_BYTES 32
#define DEK_WRAPPED_BYTES 61
#define RANDOM_MAX (1u << 20) /* bytes of one RANDOM */
#define REALM_MAC_MAX 4096    /* bytes of one REALM_MAC */
#define REALM_DEK_WRAPPED_BYTES 133
#define REALM_DEK_CONTEXT_MAX 1024
#define DATAKEY_MAX 1024 /* bytes of one DATAKEY */
#define PARTITIONS_LOADED_MAX 1024
#define KEY_CACHE_DEFAULT 4096
#define KEY_CACHE_MAX 1000000

/* What a handler answers: parts one after the other in a secret buffer. */
struct answer {
    struct buf mem;
    unsigned parts;
    size_t size[HSM_PARTS_MAX];
    size_t pending; /* room handed out and not ended: wiped when it is not */
    char text[96];  /* after a failure: a call and a CKR name, never data */
};
void answer_init(struct answer *a);
void answer_fini(struct answer *a);
void answer_clear(struct answer *a); /* wipes */
/* Room for a part of at most n bytes; answer_end() says how many it became. */
must_use enum err answer_begin(struct answer *a, size_t n, uint8_t **room);
void answer_end(struct answer *a, size_t n);
must_use enum err answer_put(struct answer *a, struct bytes part);
/* The parts, borrowed until the next change of a. */
void answer_parts(const struct answer *a, struct bytes part[HSM_PARTS_MAX]);

struct op_stats {
    uint64_t count, errors, sum_us, max_us;
};

struct ops {
    struct token token;
    struct partitions *partitions;
    struct keys *keys;
    struct buf aad; /* scratch: header | AAD */
    int started;
    enum worker_exit fatal; /* not 0: end the worker with it, once what was answered is sent */
    uint64_t started_ms, healed, dropped;
    uint64_t ended_us; /* the last operation, by the monotonic clock */
    struct op_stats stats[HSM_OPS];
};

void ops_init(struct ops *o);
void ops_fini(struct ops *o); /* unloads the module */

/* Runs one operation. On failure a has no parts and a text. A request before START, or with the wrong number of parts,
 * is ERR_PROTOCOL and fatal. */
must_use enum err ops_run(struct ops *o, unsigned code, const struct bytes *part, unsigned parts, struct answer *a);

/* The handlers; in has the row's number of parts. */
#define OP(name, parts_in, parts_out, idem, lane, what) \
    must_use enum err op_##name(struct ops *o, const struct bytes *in, struct answer *a);
#include "hsm/op.tbl.h"
#undef OP

#endif
