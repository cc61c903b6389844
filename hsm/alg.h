/* alg.h - the key algorithms Coffer offers; alg.tbl.h is the list.
 *
 * Shared by the HSM worker and by server/: names of KEY.CREATE TYPE and KEY.SIGN ALG, codes on disk, what a key can do.
 * Constant tables; any thread.
 */
#ifndef COFFER_HSM_ALG_H
#define COFFER_HSM_ALG_H

#include <stdint.h>

#include "base/bytes.h"

enum alg_kind { ALG_AES, ALG_RSA, ALG_EC, ALG_ED, ALG_HMAC };

enum { ALG_CAN_ENCRYPT = 1, ALG_CAN_SIGN = 2, ALG_CAN_MAC = 4 };

enum alg_protection { PROTECTION_HSM = 0, PROTECTION_SOFTWARE = 1 }; /* on disk in masked objects */

/* Codes, as on disk and on the wire: ALG_CODE_AES_256, SIG_ECDSA_SHA256 ... */
enum alg_code {
    ALG_CODE_NONE = 0,
#define ALG(id, name, code, kind, bits, can, sign, protection) ALG_CODE_##id = code,
#include "hsm/alg.tbl.h"
#undef ALG
};

enum sig_code {
    SIG_NONE = 0, /* in a request: the key's default */
#define SIG(id, name, code, kind, hash, digest) SIG_##id = code,
#include "hsm/alg.tbl.h"
#undef SIG
};

struct alg {
    const char *name;
    uint8_t code; /* enum alg_code */
    enum alg_kind kind;
    unsigned bits;
    unsigned can;            /* ALG_CAN_ flags */
    uint8_t sign;            /* enum sig_code: the default, SIG_NONE */
    uint8_t protection;      /* enum alg_protection */
    unsigned asymmetric : 1; /* has a public key */
    unsigned slow : 1;       /* generation takes seconds: KEY_NEW_SLOW */
};

struct sig {
    const char *name;
    uint8_t code; /* enum sig_code */
    enum alg_kind kind;
    const char *hash;      /* OpenSSL's digest name, "" for none */
    unsigned digest_bytes; /* 0: cannot be prehashed */
};

/* NULL when there is no such row. Names are compared without regard to case. */
const struct alg *alg_by_code(uint8_t code);
const struct alg *alg_by_name(struct bytes name);
const struct alg *alg_row(unsigned i); /* the i-th row, for lists; NULL past the end */

const struct sig *sig_by_code(uint8_t code);
const struct sig *sig_by_name(struct bytes name);
const struct sig *sig_row(unsigned i);

/* The signature algorithm a request with this code means for a key of algorithm a: the default for SIG_NONE; NULL when
 * the key cannot make such signatures. */
const struct sig *sig_for(const struct alg *a, uint8_t code);

#endif
