/* sealed.h - what the engine may see of a secret or a key: sealed bytes, and a promise to seal.
 *
 * The engine stores, orders and serves secrets without ever holding one in the clear. Two types enforce that:
 *
 *   struct sealed   ciphertext as it lies in the log and in the stores. Only hsm/ makes one.
 *   struct plain    plaintext on its way to be sealed; opaque outside hsm/. The engine may only carry it, and hand it
 * to the sealer once it knows the version that the ciphertext is bound to.
 *
 * Passing plaintext where sealed bytes are wanted does not compile.
 */
#ifndef COFFER_BASE_SEALED_H
#define COFFER_BASE_SEALED_H

#include "base/bytes.h"
#include "base/err.h"

struct sealed {
    struct bytes raw; /* borrowed */
};

struct plain; /* hsm/seal.h */

/* What a sealed secret is bound to, besides format and realm: it opens nowhere else. */
struct seal_bind {
    uint64_t vault;    /* vault id */
    uint32_t version;  /* of the secret */
    struct bytes path; /* in the vault */
};

/* Given to the engine by whoever owns the keys. Called by one thread at a time (the sequencer), never blocks. */
struct sealer {
    /* Writes exactly size(p) bytes of ciphertext to out and wipes p's plaintext. Fails only with ERR_INTERNAL. */
    enum err (*seal)(struct plain *p, const struct seal_bind *bind, uint8_t *out);
    size_t (*size)(const struct plain *p);
};

#endif
