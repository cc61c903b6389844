/* gcm.h - AES-256-GCM under a kept key, for seal.c and box.c: 96-bit nonces that are four zero bytes and an eight-byte
 * counter, tag behind the ciphertext (NIST SP 800-38D).
 *
 * Two implementations give the same bytes: OpenSSL's, which works everywhere, and Intel's ipsec-mb (x86-64), whose
 * single call costs a third of OpenSSL's four for a secret of 100 bytes (docs/decisions/0006). The faster one is taken
 * where the processor has AES instructions; what the program runs with is asked once, at the first use.
 *
 * A struct gcm is one thread's at a time. With ipsec-mb the expanded key lies in locked memory (base/mem.h); OpenSSL
 * keeps it in its own heap, wiped when freed.
 */
#ifndef COFFER_HSM_GCM_H
#define COFFER_HSM_GCM_H

#include "base/bytes.h"
#include "base/err.h"

#define GCM_KEY_BYTES 32
#define GCM_TAG_BYTES 16
#define GCM_VALUE_MAX ((size_t)1 << 30)

struct gcm;
enum gcm_use { GCM_OPEN, GCM_SEAL }; /* a context does one of the two */

/* ERR_OOM; ERR_INTERNAL: no AES-256-GCM to be had. */
must_use enum err gcm_new(struct gcm **out, enum gcm_use use, const uint8_t key[GCM_KEY_BYTES]);
void gcm_free(struct gcm *g); /* wipes; accepts NULL */

/* Opens in[0..n), tag behind it, into out, which does not overlap in. ERR_CORRUPT: does not authenticate; out then
 * holds rubbish that the caller wipes. */
must_use enum err gcm_open(struct gcm *g, const uint8_t counter[8], struct bytes aad, const uint8_t *in, size_t n,
                           uint8_t *out);

/* Writes n bytes of ciphertext and the tag to out. ERR_INTERNAL. */
must_use enum err gcm_seal(struct gcm *g, const uint8_t counter[8], struct bytes aad, const uint8_t *in, size_t n,
                           uint8_t *out);

const char *gcm_name(void); /* "ipsec-mb" or "openssl" */

/* For tests: new contexts use OpenSSL (1), or what the machine offers (0). */
void gcm_test_openssl(int on);

#endif
