/* seal.h - envelope encryption of secrets: data keys, sealing, opening.
 *
 * Each vault has data keys (DEKs): 256-bit AES keys born in the HSM and wrapped by the vault's key-encryption key.
 * Unwrapped they live here, in a keyring, in locked memory. Whoever starts to write into a vault takes a fresh data key
 * (a start of the server, a promotion, 2^32 messages, VAULT.ROTATE), so the 96-bit GCM nonce is a plain counter that
 * never repeats under a key, whatever is rolled back, restored or forked.
 *
 * Sealed secret (bytes; little-endian):
 *
 *     0  u8   format, 1
 *     1  u32  data key version
 *     5  u64  nonce counter; the GCM nonce is four zero bytes, then these eight
 *    13  ...  ciphertext, as long as the plaintext
 *     +  16   GCM tag
 *
 * Additional data (not stored): format u8, realm id 16, vault id u64, secret version u32, data key version u32, path.
 * Ciphertext moved to another realm, vault, path or version does not open.
 *
 * Threads: a keyring is shared by all threads (a short lock on look-up; data keys are reference-counted and immutable
 * but for the nonce counter, which is atomic). A struct opener is one thread's: it keeps warm cipher contexts of the
 * data keys used last. A data key's sealing context belongs to whoever seals, one thread at a time (the sequencer); its
 * plains may be made on any thread.
 *
 * Where keys lie: data keys and plaintext in locked memory (mem_secret). A cipher context, one per write key and up to
 * SEAL_OPENER_SLOTS per opener, holds an expanded key, and OpenSSL allocates it in its own heap: not locked, so a host
 * that swaps should have encrypted swap. Core dumps are switched off by mem_init(); OpenSSL wipes contexts when they
 * are let go.
 */
#ifndef COFFER_HSM_SEAL_H
#define COFFER_HSM_SEAL_H

#include "base/bytes.h"
#include "base/err.h"
#include "base/sealed.h"

#define SEAL_OVERHEAD 29  /* sealed size minus plaintext size */
#define SEAL_KEY_BYTES 32 /* of a data key */
#define SEAL_REALM_BYTES 16
#define SEAL_PATH_MAX 4096 /* longest path a secret can be bound to */
#define SEAL_VALUE_MAX ((size_t)1 << 30)
#define SEAL_MESSAGES_MAX (1ull << 32) /* under one data key */
#define SEAL_OPENER_SLOTS 64

struct keyring;
struct dek; /* a data key in the ring, reference-counted */

/* A ring for one realm. ttl_ms: data keys not used for writing are wiped that long after they were added (0: never).
 * ERR_OOM; ERR_INTERNAL: OpenSSL offers no AES-256-GCM. */
must_use enum err keyring_new(struct keyring **out, const uint8_t realm[SEAL_REALM_BYTES], uint64_t ttl_ms);
void keyring_free(struct keyring *k); /* all references to its data keys must be gone */

/* Adds an unwrapped data key; key is copied into locked memory, the caller wipes its own. An existing (vault, version)
 * is ERR_OK, unchanged, its ttl too. ERR_RANGE: version 0. ERR_OOM. */
must_use enum err keyring_add(struct keyring *k, uint64_t vault, uint32_t version, const uint8_t key[SEAL_KEY_BYTES]);

/* Names the data key that new secrets of the vault are sealed under, with a fresh nonce counter. It must have been born
 * in this process's term of service: adding an old version as the write key would repeat nonces. The current write key
 * again is ERR_OK and changes nothing. ERR_CONFLICT: the vault had this version or a later one as its write key before
 * (the ring remembers it, also after a drop). ERR_NOTFOUND when not in the ring. ERR_OOM. */
must_use enum err keyring_set_writer(struct keyring *k, uint64_t vault, uint32_t version);

/* The vault's write key with a reference; NULL: none yet, or SEAL_MESSAGES_MAX are used up - take a new data key from
 * the HSM. */
struct dek *keyring_writer(struct keyring *k, uint64_t vault);
uint32_t dek_version(const struct dek *d);
void dek_unref(struct dek *d); /* accepts NULL */

/* Wipes data keys whose ttl is over (call it now and then), all of a vault (crypto-shredding), or all (HSM.SEAL). Write
 * keys have no ttl. Keys still referenced (by writes under way) are wiped with their last reference. Openers notice by
 * the ring's epoch: from their next call on they open nothing with a dropped key; what they keep of it is wiped by that
 * call or by opener_drop_stale(). */
void keyring_expire(struct keyring *k);
void keyring_drop_vault(struct keyring *k, uint64_t vault);
void keyring_drop_all(struct keyring *k);

/* ---- sealing: the promise travels with a write to the sequencer ---- */

/* Plaintext copied to locked memory together with a reference to d (taken over by p on success), and one of d's
 * messages reserved, so that sealing cannot fail for lack of nonces. ERR_AGAIN: d is used up (as if keyring_writer had
 * said NULL). ERR_TOOBIG: over SEAL_VALUE_MAX. ERR_OOM. The block can carry extra_bytes of the caller's own in front
 * (the caller's request struct): *extra points at them (uninitialised, aligned to 64; extra may be NULL when
 * extra_bytes is 0), so that a write needs one allocation. Freed as a whole by plain_free(), extra bytes included. */
must_use enum err plain_new(struct dek *d, struct bytes value, size_t extra_bytes, void **extra, struct plain **out);
void plain_free(struct plain *p); /* wipes; accepts NULL */

/* For the engine: base/sealed.h. The nonce is taken at seal(), once: a second seal() of the same plain is ERR_INTERNAL,
 * and so are a path over SEAL_PATH_MAX and a failing cipher. p's plaintext is wiped in any case, out zeroed on failure.
 * One thread at a time. */
extern const struct sealer seal_sealer;

/* For tests of the limit: counts n messages as sealed. The counters move forward only, so no nonce can repeat. */
void dek_test_use_up(struct dek *d, uint64_t n);

/* ---- opening ---- */

struct opener;
must_use enum err opener_new(struct opener **out, struct keyring *k);
void opener_free(struct opener *o);

/* Length of the plaintext of s, 0 when s is too short to be one. */
size_t sealed_plain_len(struct sealed s);
/* Data key version in s's header, 0 when malformed. */
uint32_t sealed_dek_version(struct sealed s);

/* Opens s into out, sealed_plain_len(s) bytes, which must not overlap s. ERR_AGAIN: the data key is not in the ring -
 * have the HSM unwrap it, add it, call again. ERR_CORRUPT: malformed, or does not authenticate for this binding.
 * ERR_OOM: no cipher context was to be had. out is wiped on any error. Never blocks but for the ring's short lock on a
 * cold data key; takes no lock and allocates nothing when warm. */
must_use enum err opener_open(struct opener *o, struct sealed s, const struct seal_bind *bind, uint8_t *out);

/* Wipes the contexts of an opener if any data key was dropped since its last call. For its thread's timer: an idle
 * thread must not keep what HSM.SEAL, a shredded vault or the ttl took away. Two loads when there is nothing to do. */
void opener_drop_stale(struct opener *o);

#endif
