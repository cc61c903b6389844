/* key.h - how a customer's key lies in its shard: name, versions, masked objects. Codecs only: pure, any thread.
 *
 * Under 'k' | vault u64be | name (little-endian):
 *
 *      0  u8   format, 1
 *      1  u8   state: enum key_state
 *      2  u8   algorithm (the HSM side's code, opaque here)
 *      3  u8   0
 *      4  u32  newest version
 *      8  u32  oldest version that still decrypts and verifies (MINVERSION)
 *     12  u32  number of versions
 *     16  16   key id
 *     32  u64  created ms
 *     40  u64  deletion due, ms, 0: none; a key with one can do nothing, and is in its state again when that is taken
 * back 48  u32  metadata length 52  metadata (JSON, not secret)
 *      +  versions, oldest first: u32 version | u32 masked length | u32 public length | u64 created ms | u64 uses
 * reserved | masked object | public key
 *
 * "uses reserved": a version may have been used for so many encryptions; usage is counted in memory and reserved in the
 * log in large steps, so that 2^32 messages under one key are never passed, crash or not.
 */
#ifndef COFFER_ENGINE_KEY_H
#define COFFER_ENGINE_KEY_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/sealed.h"

enum key_state { KEY_ENABLED = 0, KEY_DISABLED = 1 };

struct key_version {
    uint32_t version;
    uint64_t created_ms, uses;
    struct sealed masked;
    struct bytes pub; /* DER, empty for symmetric keys */
};

struct key_record {
    uint8_t state, alg;
    uint32_t newest, min_version, versions;
    uint8_t id[16];
    uint64_t created_ms, delete_ms;
    struct bytes meta;          /* borrowed */
    struct bytes version_bytes; /* borrowed */
};

must_use enum err key_record_get(struct bytes raw,
                                 struct key_record *k); /* ERR_CORRUPT; borrowed parts live as long as raw */
must_use enum err key_record_put(struct buf *out, const struct key_record *k);
/* Takes the next version off *in (start with k.version_bytes). ERR_END, ERR_CORRUPT. */
must_use enum err key_version_next(struct bytes *in, struct key_version *v);
must_use enum err key_version_put(struct buf *out, const struct key_version *v);
int key_version_find(const struct key_record *k, uint32_t version, struct key_version *v); /* 1 when kept */

#define KEY_NAME_MAX 64
#define KEY_KEY_MAX (1 + 8 + 8 + KEY_NAME_MAX)
struct bytes key_key(uint8_t *out, uint64_t vault, struct bytes name);                      /* 'k' vault name */
struct bytes key_due_key(uint8_t *out, uint64_t due_ms, uint64_t vault, struct bytes name); /* 'y' due vault name */

#endif
