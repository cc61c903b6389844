/* uri.h - which token: a label, or an RFC 7512 PKCS#11 URI.
 *
 *     coffer                                          the token with this label
 *     pkcs11:token=coffer%20node-1;serial=0123abcd    all given attributes must match: token, serial, manufacturer,
 * model
 *
 * Never a slot id: those move. A query part is refused: module and PIN have directives of their own, and a pin-value in
 * a URI ends up in logs. So are unknown attributes and repeated ones, where libraries disagree which one counts. Pure
 * function, any thread.
 */
#ifndef COFFER_HSM_URI_H
#define COFFER_HSM_URI_H

#include "base/bytes.h"
#include "base/err.h"

struct token_name {
    char label[33], serial[17], manufacturer[33], model[17]; /* empty: any */
};

/* ERR_SYNTAX: malformed, empty, or longer than the token's fields. */
must_use enum err token_name_parse(struct bytes text, struct token_name *out);

#endif
