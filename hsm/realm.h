/* realm.h - the realm: the four ownership keys that tie blobs to one deployment, and the file that carries them.
 *
 *     key      share of  type         use in the token
 *     wrap     realm     AES-256      wraps partition keys for other nodes; CKA_TRUSTED where the module knows that
 *     vendor   vendor    generic, 32  HMAC, first step of the derived backup key
 *     adapter  realm     generic, 32  HMAC, second step
 *     mac      realm     generic, 32  HMAC of partition configs
 *
 * The realm file is the safe: made once by `coffer-hsm init-realm`, carried to other nodes for `join-realm`. Whoever
 * has it and its passphrase can open everything of the realm, so it is kept like a root key. Little-endian:
 *
 *      0  8    magic "COFREALM"
 *      8  u8   format, 1
 *      9  u8   kdf of derived backup keys (partition.h), 1
 *     10  u8   scrypt log2 N, 10 to 20 (15)
 *     11  u8   scrypt r, 8
 *     12  u8   scrypt p, 1
 *     13  3    reserved, 0
 *     16  16   realm id
 *     32  4x16 fingerprints of wrap, vendor, adapter, mac: first bytes of
 *              HMAC-SHA256(key, "coffer-realm" | u8 role | realm id)
 *     96  32   scrypt salt
 *    128  12   GCM nonce
 *    140  128  wrap, vendor, adapter, mac: AES-256-GCM under scrypt(passphrase, salt); additional data: bytes 0 to 127
 *    268  16   GCM tag
 *    284
 *
 * Fingerprints tell without the passphrase which layer of two realms differs; they are of 256-bit random keys and give
 * nothing away.
 *
 * Threads: any; pure functions. scrypt takes about 0.1 s and 32 MiB.
 */
#ifndef COFFER_HSM_REALM_H
#define COFFER_HSM_REALM_H

#include "base/bytes.h"
#include "base/err.h"

#define REALM_ID_BYTES 16
#define REALM_KEY_BYTES 32
#define REALM_FINGERPRINT_BYTES 16
#define REALM_FILE_BYTES 284
#define REALM_KDF 1

enum realm_key { REALM_WRAP, REALM_VENDOR, REALM_ADAPTER, REALM_MAC, REALM_KEYS };

/* Role of a realm key among token objects, beside enum partition_role. */
#define REALM_ROLE(k) (16u + (unsigned)(k))

/* Allocate with mem_secret_alloc, never on the stack. */
struct realm {
    uint8_t id[REALM_ID_BYTES];
    uint8_t key[REALM_KEYS][REALM_KEY_BYTES];
};

struct realm_info {
    uint8_t id[REALM_ID_BYTES];
    uint8_t fingerprint[REALM_KEYS][REALM_FINGERPRINT_BYTES];
};

/* What the file says without its passphrase. ERR_CORRUPT: malformed. */
must_use enum err realm_parse(struct bytes file, struct realm_info *out);

/* Encrypts; scrypt with N = 2^cost: REALM_COST but for tests. ERR_RANGE, ERR_OOM, ERR_INTERNAL. */
#define REALM_COST 15
must_use enum err realm_seal(const struct realm *r, struct bytes passphrase, unsigned cost,
                             uint8_t out[REALM_FILE_BYTES]);

/* Decrypts. ERR_CORRUPT: malformed. ERR_WRONGPASS: wrong passphrase, or the file was changed. out is wiped on failure.
 */
must_use enum err realm_unseal(struct bytes file, struct bytes passphrase, struct realm *out);

/* The text whose HMAC is the fingerprint of a share; the HSM can compute it, too. */
#define REALM_TEXT_BYTES 29
void realm_fingerprint_text(const uint8_t id[REALM_ID_BYTES], enum realm_key k, uint8_t out[REALM_TEXT_BYTES]);

/* Fingerprint of one share. */
must_use enum err realm_fingerprint(const struct realm *r, enum realm_key k, uint8_t out[REALM_FINGERPRINT_BYTES]);

/* A new realm. Shares come from OpenSSL's generator: they must be known outside the HSM once, to be carried to others.
 */
must_use enum err realm_generate(struct realm *out);

#endif
