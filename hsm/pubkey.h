/* pubkey.h - what OpenSSL does for the worker: public keys as DER, verifying, encrypting to a public key, and keys of
 * software protection.
 *
 * Operations with public keys need no HSM: nothing secret is in them, and the HSM would do them one at a time. Private
 * operations are the HSM's; the one exception is protection "software" (Ed25519), whose seed is born in the HSM and
 * rests sealed under the partition's KEK.
 *
 * One thread (OpenSSL's error queue is cleared behind each call). Nothing blocks.
 */
#ifndef COFFER_HSM_PUBKEY_H
#define COFFER_HSM_PUBKEY_H

#include "base/bytes.h"
#include "base/err.h"
#include "hsm/alg.h"
#include "hsm/ciphertext.h"

#define SIGNATURE_MAX 512 /* RSA-4096; DER of ECDSA P-384 has 104 at most */
#define RSA_MAX_BLOCK 512

/* Public keys to DER SubjectPublicKeyInfo; out has MASKED_PUBLIC_MAX bytes. ERR_INTERNAL: the HSM's numbers make no
 * key. The point is the uncompressed one, bare or in a DER OCTET STRING: modules differ. */
must_use enum err pubkey_from_rsa(struct bytes modulus, struct bytes exponent, uint8_t *out, size_t *n);
must_use enum err pubkey_from_point(unsigned bits, struct bytes point, uint8_t *out, size_t *n);

/* The uncompressed point of an EC public key in a DER OCTET STRING, as CKA_EC_POINT wants it; out has 128 bytes.
 * ERR_BADBLOB: not such a key. */
must_use enum err pubkey_point(struct bytes der, uint8_t *out, size_t *n);

/* Digest of msg by the signature algorithm; out has 64 bytes. prehashed: msg is the digest; ERR_RANGE when its length
 * is wrong or the algorithm takes none. */
must_use enum err pubkey_digest(const struct sig *s, int prehashed, struct bytes msg, uint8_t *out, size_t *n);

/* Raw r | s of PKCS#11 to the DER that everybody else wants; out has SIGNATURE_MAX bytes. */
must_use enum err pubkey_ecdsa_der(struct bytes raw, uint8_t *out, size_t *n);

/* *ok = 1 when the signature is good. code SIG_NONE: the default of the key's kind. ERR_RANGE: malformed key, wrong
 * digest length, or an algorithm that does not go with the key. */
must_use enum err pubkey_verify(struct bytes der, uint8_t code, int prehashed, struct bytes msg, struct bytes signature,
                                int *ok);

/* 1: a ciphertext of this RSA key may look so: as a number it is below the modulus (RFC 8017, 5.1.2 step 1). Modules
 * answer others with whatever comes to their mind. */
int pubkey_rsa_in_range(struct bytes der, struct bytes ciphertext);

/* RSA-OAEP by cipher; out has 512 bytes. ERR_TOOBIG: more than fits in one block. */
must_use enum err pubkey_oaep(struct bytes der, enum cipher_code cipher, struct bytes in, uint8_t *out, size_t *n);

/* Ed25519 from its seed of 32 bytes; the private part is in OpenSSL's secure heap. */
must_use enum err softkey_new(struct bytes seed, void **out);
void softkey_free(void *key); /* wipes; accepts NULL */
must_use enum err softkey_public(void *key, uint8_t *out, size_t *n);
must_use enum err softkey_sign(void *key, struct bytes msg, uint8_t *out, size_t *n);

#endif
