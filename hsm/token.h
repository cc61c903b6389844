/* token.h - one token: found by name, logged in, known to be what we think it is.
 *
 *     keeper session   holds the login and every session object: unwrapped keys live as long as it does, and closing it
 *                      would cost as much as there are handles
 *     session          where operations run; replaced when one gets stuck in it
 *
 * Login rules: a token whose PIN is locked or at its last try is not touched, a wrong PIN is never tried again,
 * "already logged in" counts as success only where this process did the login.
 *
 * Quirks of the module are found by a self-test at start (quirk.c), not by the vendor's name.
 *
 * An empty search is no proof of absence: a SoftHSM whose directory is gone answers OK with nothing. token_probe()
 * tells: token info, serial number, and an HMAC by the realm's MAC key that must come out as it did at start.
 *
 * Threads: one. Everything may block in the module.
 */
#ifndef COFFER_HSM_TOKEN_H
#define COFFER_HSM_TOKEN_H

#include "base/buf.h"
#include "hsm/p11.h"
#include "hsm/partition.h"
#include "hsm/realm.h"

#define TOKEN_KEY_ID_BYTES \
    17 /* CKA_ID of our token objects: realm or partition id, then the role; unique, since NSS merges equal ones */

struct quirks {
    CK_MECHANISM_TYPE kwp; /* the mechanism number that is RFC 5649 here */
    int value_len;         /* C_UnwrapKey of a secret key wants CKA_VALUE_LEN; else it must not be there */
    int ec_point;          /* C_UnwrapKey of an EC private key wants the point as CKA_NSS_DB */
    int templates;         /* CKA_UNWRAP_TEMPLATE and CKA_ALLOWED_MECHANISMS are kept and enforced */
    int trusted;           /* the realm wrapping key is CKA_TRUSTED: partition keys are CKA_WRAP_WITH_TRUSTED */
    int oaep_sha256;       /* CKM_RSA_PKCS_OAEP knows SHA-256, not only SHA-1 */
};

struct token {
    struct p11 m;
    CK_SLOT_ID slot;
    CK_SESSION_HANDLE keeper, session;
    char label[33], manufacturer[33], model[17], serial[17];
    uint8_t realm[REALM_ID_BYTES];
    CK_OBJECT_HANDLE realm_key[REALM_KEYS];
    struct quirks quirks;
    uint8_t has[MECHS];
    uint8_t sentinel[32]; /* HMAC by the realm MAC key, at start */
    struct buf pin;       /* secret; for the one new login after the module lost ours */
    uint64_t objects; /* session objects ever made: SoftHSM leaks some bytes for each, so workers are recycled by this
                         count */
    uint8_t nonces[1020]; /* random bytes of the HSM drawn ahead, for nonces only */
    size_t nonces_left;
};

struct token_settings {
    const char *module;
    const char *init;  /* pReserved, or NULL */
    struct bytes name; /* label or URI */
    struct bytes pin;  /* copied to locked memory */
};

/* Told of every partition key among the token objects. A failure ends the enumeration and is passed on. */
typedef enum err token_found(void *arg, const uint8_t id[PARTITION_ID_BYTES], enum partition_role role,
                             CK_OBJECT_HANDLE key);

/* token_init, then token_open or parts of it; token_close accepts whatever came of it. */
void token_init(struct token *t);

/* Loads the module, finds the token, logs in, finds the realm's keys and tells of partitions, runs the self-test.
 * On failure why (n bytes) names what is missing and what to do; the result is one of START's (worker.h). */
must_use enum err token_open(struct token *t, const struct token_settings *s, token_found *found, void *arg, char *why,
                             size_t n);

/* The first half: module, slot, sessions, no login. For ceremonies. */
must_use enum err token_connect(struct token *t, const struct token_settings *s, char *why, size_t n);
/* Login of the user with the pin given to token_connect. */
must_use enum err token_login(struct token *t, char *why, size_t n);
/* Enumerates token objects once: realm keys into t, partitions to found (may be NULL). ERR_NOTFOUND: no complete realm;
 * t then has what there is of one. ERR_CONFLICT: keys of more than one realm. */
must_use enum err token_enumerate(struct token *t, token_found *found, void *arg, char *why, size_t n);

void token_close(struct token *t); /* logs out, unloads the module, wipes the PIN */

/* ERR_OK: the device is there and is itself. ERR_HSMDOWN otherwise. Leaves the failure of p11 as it was. */
must_use enum err token_probe(struct token *t);

/* New session; a new login where the old one is lost or force is set, then the realm's keys are looked up again and
 * *relogin is 1: every handle of before is void. One attempt. */
must_use enum err token_heal(struct token *t, int force, int *relogin, token_found *found, void *arg);

/* Label of our token objects for a role of a partition or of the realm; NULL: no such role. */
const char *token_key_label(unsigned role);
void token_key_id(uint8_t out[TOKEN_KEY_ID_BYTES], const uint8_t id[16], unsigned role);

/* Handles of all token objects with this role of this id, at most max; *n how many there are. Searches: not on a
 * request's way. */
must_use enum err token_find(struct token *t, const uint8_t id[16], unsigned role, CK_OBJECT_HANDLE *out, size_t max,
                             size_t *n);

/* The self-test, quirk.c: fills t->quirks and m.bad_data. ERR_UNSUPPORTED: Coffer cannot work with this module; why
 * says what for. */
must_use enum err quirk_probe(struct token *t, char *why, size_t n);
/* The part of it that needs no realm keys. */
must_use enum err quirk_probe_module(struct token *t, char *why, size_t n);

/* For the ceremony: does this wrapping key in the token have this value? Wraps a throw-away key with it and opens the
 * blob with OpenSSL. ERR_CORRUPT: no. Needs quirks.kwp. */
must_use enum err quirk_check_wrap(struct token *t, CK_OBJECT_HANDLE by, const uint8_t value[32]);

#endif
