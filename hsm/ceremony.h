/* ceremony.h - putting a realm's four keys in a token.
 *
 * With the security officer's PIN the wrapping key is made CKA_TRUSTED: then partition keys can be extracted under it
 * and nothing else, also by someone who has the user PIN. The officer cannot see private objects, so he makes it as a
 * public session object, and the user copies that into a private token object; as a public token object its value would
 * lie in the clear on SoftHSM's disk. Without that PIN, or where the module knows no such thing, the user makes the
 * key: Coffer works, START says trusted:no.
 *
 * Blocks; single-threaded; loads the module and unloads it again.
 */
#ifndef COFFER_HSM_CEREMONY_H
#define COFFER_HSM_CEREMONY_H

#include "base/bytes.h"
#include "base/err.h"
#include "hsm/realm.h"

struct ceremony {
    const char *module;
    const char *init;         /* pReserved, or NULL */
    struct bytes token;       /* label or URI */
    struct bytes pin, so_pin; /* so_pin may be empty */
};

/* Puts the keys in, or finds that they are there, and proves it: every key in the token gives what the realm's share
 * gives in OpenSSL. What a broken-off ceremony of the same realm left is replaced. ERR_CONFLICT: the token holds
 * another realm. Errors of token_open else; why (n bytes) says what to do. */
must_use enum err ceremony_join(const struct ceremony *c, const struct realm *r, char *why, size_t n);

/* ERR_OK when the token holds the realm with this id and works. As above else. */
must_use enum err ceremony_check(const struct ceremony *c, const uint8_t realm[REALM_ID_BYTES], char *why, size_t n);

/* Makes a token in the module's first uninitialised slot. ERR_NOTFOUND: there is none. */
must_use enum err ceremony_make_token(const char *module, const char *label, struct bytes so_pin, struct bytes pin,
                                      char *why, size_t n);

#endif
