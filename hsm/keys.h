/* keys.h - customers' keys inside the HSM: made, unmasked, held in an LRU of handles.
 *
 * A masked object (masked.h) is verified by the partition's HMAC key, unwrapped by its masking key into a session
 * object, and kept. An entry of the cache is used only when partition, key id, version and the whole blob, HMAC
 * included, are those it was made from: any other blob of the same key is verified and unwrapped anew and takes its
 * place. The cache has a limit; the least recently used key goes first and its session object is destroyed.
 *
 * One thread. Everything but the cache's bookkeeping may block in the module.
 */
#ifndef COFFER_HSM_KEYS_H
#define COFFER_HSM_KEYS_H

#include "hsm/alg.h"
#include "hsm/masked.h"
#include "hsm/partition.h"

struct token;
struct keys;

struct key {
    const struct alg *alg;
    struct masked_head head;
    unsigned long handle;    /* CK_OBJECT_HANDLE of a session object; 0 for software keys */
    void *software;          /* pubkey.h's softkey, or NULL */
    struct bytes public_der; /* empty for symmetric keys */
};

struct keys_stats {
    uint64_t hits, misses;
    unsigned cached;
};

/* hsm_only 1 refuses keys of software protection. */
must_use enum err keys_new(struct keys **out, struct token *t, unsigned max, int hsm_only);
void keys_free(struct keys *ks); /* destroys no session objects: they end with the session. Accepts NULL */
void keys_drop(struct keys *ks); /* empties the cache, destroys the session objects where they still exist */

/* The key of a masked object, unmasked now if it is not cached. Lives until the next keys_open. ERR_BADBLOB: malformed
 * or does not verify in this partition. ERR_UNSUPPORTED: software key under hsm_only, or the module lacks the
 * mechanisms. */
must_use enum err keys_open(struct keys *ks, const struct partition *p, struct bytes raw, struct key **out);

/* Makes a key and masks it. head is a key header (36 bytes). masked and public_der have MASKED_MAX and
 * MASKED_PUBLIC_MAX bytes. The key itself is not cached. */
must_use enum err keys_create(struct keys *ks, const struct partition *p, struct bytes head, uint8_t *masked,
                              size_t *masked_n, uint8_t *public_der, size_t *public_n);

void keys_stats(const struct keys *ks, struct keys_stats *out);

#endif
