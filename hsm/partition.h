/* partition.h - partitions: the HSM side of a vault.
 *
 * Four keys, made in the HSM as token objects by PARTITION_NEW:
 *
 *     role  name  key            use
 *     0     mask  AES-256        wraps and unwraps customers' keys, nothing else
 *     1     hmac  generic, 32    HMAC of masked objects
 *     2     kbk   AES-256        base key of the derived backup key
 *     3     kek   AES-256        AES-GCM of data keys and of software keys' seeds
 *
 * All are sensitive, private, and extractable only under the realm's trusted wrapping key (where the module knows
 * CKA_TRUSTED). What leaves the HSM is the config, which the log carries to every node of the realm:
 *
 *      0  4    magic "CPAR"
 *      4  u8   format, 1
 *      5  u8   kdf of the derived backup key: 1 = HMAC, HMAC, CKM_AES_CBC_ENCRYPT_DATA (one realm, one kdf)
 *      6  u16  reserved, 0
 *      8  16   realm id
 *     24  16   partition id
 *     40  16   fingerprint: the first bytes of HMAC-SHA256(hmac key, "coffer-partition" | realm id | partition id)
 *     56  4 x 44, in order of role:
 *          0  u8   role
 *          1  u8   key type: 1 AES, 2 generic
 *          2  u16  40
 *          4  40   AES-KWP (RFC 5649) of the key under the realm's wrapping key
 *    232  32   HMAC-SHA256 under the realm's MAC key over all before
 *    264
 *
 * A worker verifies the HMAC of a config when it first sees it, gets the four keys as session objects, and keeps them:
 * handles are found once. Keys whose token objects were found at start are copied from there, when they give the
 * config's fingerprint; others are unwrapped from the config. Nothing on a request's way searches the token.
 *
 * The token is a cache of the log's configs. Destroying a partition makes its masked objects and data keys dead as far
 * as the config is gone too: who holds a config and the realm's keys can import it again.
 *
 * Threads: parsing, any; the rest belongs to the worker's one thread. All but parsing may block in the module.
 */
#ifndef COFFER_HSM_PARTITION_H
#define COFFER_HSM_PARTITION_H

#include "base/bytes.h"
#include "base/err.h"
#include "hsm/realm.h"

#define PARTITION_ID_BYTES 16
#define PARTITION_FINGERPRINT_BYTES 16
#define PARTITION_CONFIG_BYTES 264

enum partition_role { ROLE_MASK, ROLE_HMAC, ROLE_KBK, ROLE_KEK, PARTITION_ROLES };

struct partition_config {
    uint8_t kdf;
    struct bytes realm;       /* 16, borrowed as are the next ones */
    struct bytes id;          /* 16 */
    struct bytes fingerprint; /* 16 */
    struct bytes wrapped[PARTITION_ROLES];
    struct bytes mac;
    struct bytes raw;
};

/* Splits a config without verifying it. ERR_BADBLOB: malformed. For the server too: id and fingerprint for VAULT.INFO.
 */
must_use enum err partition_parse(struct bytes raw, struct partition_config *out);

/* ---- in the worker ---- */

struct token;
struct partitions; /* what this worker knows of partitions */

struct partition {
    uint8_t id[PARTITION_ID_BYTES];
    uint64_t serial;                    /* grows with each loading: what was verified under an earlier one is void */
    unsigned long key[PARTITION_ROLES]; /* session objects (CK_OBJECT_HANDLE) */
};

/* Keeps the keys of at most max partitions loaded, least recently used first out. */
must_use enum err partitions_new(struct partitions **out, struct token *t, unsigned max);
void partitions_free(struct partitions *ps); /* destroys no objects: they end with the session. Accepts NULL */

/* The token_found of token.h: a partition key among the token objects. */
must_use enum err partitions_found(void *ps, const uint8_t id[PARTITION_ID_BYTES], enum partition_role role,
                                   unsigned long key);

/* Forgets everything loaded and everything found; destroys session objects where they still exist. */
void partitions_drop(struct partitions *ps);

/* The partition of a config, loaded now if it is not yet. Lives until the next call with this ps. ERR_BADBLOB:
 * malformed, of another realm, or its HMAC does not verify. */
must_use enum err partitions_open(struct partitions *ps, struct bytes config, struct partition **out);

/* Makes the four keys, as session objects and as token objects, and writes the config. What was made is destroyed on
 * failure. */
must_use enum err partitions_create(struct partitions *ps, const uint8_t id[PARTITION_ID_BYTES],
                                    uint8_t config[PARTITION_CONFIG_BYTES]);

/* Makes sure that the token holds the four keys of this config: unwraps those that are missing, replaces a set that is
 * another. On disk when it returns. */
must_use enum err partitions_import(struct partitions *ps, struct bytes config);

/* Destroys the token objects and what is loaded. Absent objects are no error, once the device has passed its probe. */
must_use enum err partitions_destroy(struct partitions *ps, struct bytes config);

/* Destroys the token objects, found at start, of all partitions whose id begins with prefix and is none of ids (16
 * bytes each): what a crash left between their making and the log, or a record that was rolled back. Would one be
 * needed after all, it comes back from its config. *swept: how many partitions. ERR_RANGE: prefix is empty or too long,
 * or ids is no multiple. */
must_use enum err partitions_sweep(struct partitions *ps, struct bytes prefix, struct bytes ids, unsigned *swept);

unsigned partitions_in_token(const struct partitions *ps); /* complete sets among the token objects, as far as known */
unsigned partitions_loaded(const struct partitions *ps);

#endif
