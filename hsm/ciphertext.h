/* ciphertext.h - what KEY.ENCRYPT answers: a ciphertext that says which key opens it.
 *
 *      0  4    magic "CENC"
 *      4  u8   format, 1
 *      5  u8   cipher: 1 AES-256-GCM, 2 RSA-OAEP with SHA-1, 3 RSA-OAEP with SHA-256 (MGF1 likewise, empty label)
 *      6  u16  reserved, 0
 *      8  16   key id
 *     24  u32  key version
 *     28       -- the header ends here --
 *
 *     AES-256-GCM: 28  12  nonce, from the HSM's random generator
 *                  40  n   body, as long as the plaintext
 *                  +   16  tag; additional data is header | the user's AAD
 *     RSA-OAEP:    28  k   body, as long as the modulus; no AAD: common modules refuse a label
 *
 * Integers are little-endian. In a request to encrypt the cipher is CIPHER_ANY, 0: the worker fills in what the key and
 * the module can do (SoftHSM knows OAEP with SHA-1 only). Nobody needs Coffer to make the RSA kind: header and OAEP
 * under the public key will do. Pure functions, any thread.
 */
#ifndef COFFER_HSM_CIPHERTEXT_H
#define COFFER_HSM_CIPHERTEXT_H

#include "base/bytes.h"
#include "base/err.h"
#include "hsm/masked.h"

#define CIPHERTEXT_HEADER 28
#define CIPHERTEXT_NONCE 12
#define CIPHERTEXT_TAG 16
#define CIPHERTEXT_GCM_OVERHEAD (CIPHERTEXT_HEADER + CIPHERTEXT_NONCE + CIPHERTEXT_TAG)

enum cipher_code { CIPHER_ANY = 0, CIPHER_AES_256_GCM = 1, CIPHER_RSA_OAEP_SHA1 = 2, CIPHER_RSA_OAEP_SHA256 = 3 };

struct ciphertext {
    uint8_t cipher; /* enum cipher_code */
    uint8_t id[KEY_ID_BYTES];
    uint32_t version;
    struct bytes header; /* borrowed: the 28 bytes */
    struct bytes nonce;  /* AES-256-GCM; else empty */
    struct bytes body;   /* AES-256-GCM: body and tag, as PKCS#11 wants them; RSA: the OAEP block */
};

/* Writes the 28 bytes. A request to encrypt takes CIPHER_ANY. */
void ciphertext_put_header(uint8_t out[CIPHERTEXT_HEADER], uint8_t cipher, const uint8_t id[KEY_ID_BYTES],
                           uint32_t version);

/* Reads a request's header: 28 bytes with CIPHER_ANY. ERR_BADCIPHERTEXT: malformed. */
must_use enum err ciphertext_get_request(struct bytes header, struct ciphertext *out);

/* Splits a ciphertext: tells which key and version open it. Nothing is authenticated yet. ERR_BADCIPHERTEXT: malformed.
 */
must_use enum err ciphertext_parse(struct bytes raw, struct ciphertext *out);

#endif
