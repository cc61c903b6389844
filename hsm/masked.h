/* masked.h - masked objects: customers' keys outside the HSM.
 *
 * A key is generated in the HSM, wrapped by its partition's masking key and kept as a masked object in shards and log:
 *
 *      0  4    magic "CKEY"
 *      4  u8   format, 1
 *      5  u8   algorithm (alg.tbl.h)
 *      6  u8   protection: 0 HSM, 1 software
 *      7  u8   reserved, 0
 *      8  u64  vault id
 *     16  16   key id
 *     32  u32  key version
 *     36       -- the key header ends here --
 *     36  u16  p, bytes of public key
 *     38  u16  w, bytes of wrapped key
 *     40  p    public key, DER SubjectPublicKeyInfo; none for symmetric keys
 *   40+p  w    wrapped key: by protection, see below
 *  40+p+w 32   HMAC-SHA256 under the partition's HMAC key over all before
 *
 * Wrapped key, protection HSM: AES-KWP (RFC 5649) of the key (private keys as PKCS#8) under the partition's masking
 * key. Protection software: nonce 12 | AES-256-GCM of the 32-byte seed under the partition's KEK | tag 16; additional
 * data is "coffer-key" | key header.
 *
 * Integers are little-endian. The HMAC is verified before anything is unwrapped, always: KWP alone binds neither type,
 * name nor usage. A blob moved to another vault, key or version does not verify. AES-KWP is deterministic: the same key
 * masked twice under the same header gives the same blob.
 *
 * keys.h keeps the unwrapped ones. Pure functions, any thread; masked_verify and masked_finish belong to the worker.
 */
#ifndef COFFER_HSM_MASKED_H
#define COFFER_HSM_MASKED_H

#include "base/bytes.h"
#include "base/err.h"

#define MASKED_KEY_HEADER 36
#define MASKED_OVERHEAD 72 /* key header, two lengths, HMAC */
#define MASKED_MAC 32
#define MASKED_PUBLIC_MAX 800   /* RSA-4096 has 550 */
#define MASKED_WRAPPED_MAX 3072 /* RSA-4096 has 2,384 */
#define MASKED_MAX (MASKED_OVERHEAD + MASKED_PUBLIC_MAX + MASKED_WRAPPED_MAX)
#define KEY_ID_BYTES 16

/* What a masked object says about itself. */
struct masked_head {
    uint8_t alg;        /* alg.tbl.h code */
    uint8_t protection; /* enum alg_protection */
    uint64_t vault;
    uint8_t id[KEY_ID_BYTES];
    uint32_t version;
};

struct masked {
    struct masked_head head;
    struct bytes raw;        /* the whole blob, borrowed as are the next ones */
    struct bytes public_der; /* DER SubjectPublicKeyInfo, empty for symmetric keys */
    struct bytes wrapped;
    struct bytes mac;
};

/* Writes the 36 bytes of a key header: what KEY_NEW wants as its second part. protection follows from the algorithm. */
void masked_put_head(uint8_t out[MASKED_KEY_HEADER], const struct masked_head *head);

/* Reads a key header of exactly 36 bytes. ERR_BADBLOB: malformed, or an algorithm that is not in the table. */
must_use enum err masked_get_head(struct bytes raw, struct masked_head *out);

/* Splits a blob without verifying it: only a worker can do that. ERR_BADBLOB: malformed. */
must_use enum err masked_parse(struct bytes raw, struct masked *out);

/* ---- in the worker ---- */

struct token;
struct partition;

/* The HMAC, by the partition's HMAC key in the HSM. ERR_BADBLOB: it does not verify. */
must_use enum err masked_verify(struct token *t, const struct partition *p, const struct masked *m);

/* Writes lengths and public key behind the key header that is already in out, leaves room for wrapped_n bytes at
 * *wrapped. ERR_TOOBIG. */
must_use enum err masked_begin(uint8_t out[MASKED_MAX], struct bytes public_der, size_t wrapped_n, uint8_t **wrapped);

/* Computes the HMAC over out, whose wrapped key has been filled in, and appends it; *n is the size of the blob. */
must_use enum err masked_finish(struct token *t, const struct partition *p, uint8_t out[MASKED_MAX], size_t *n);

#endif
