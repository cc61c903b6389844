/* alg.c - look-ups in the tables of alg.tbl.h; a handful of rows, so a scan is all it takes. */
#include "hsm/alg.h"

#include <stddef.h>

static const struct alg algs[] = {
#define ALG(id, name, code, kind, bits, can, sign, protection)  \
    {name,                                                      \
     code,                                                      \
     kind,                                                      \
     bits,                                                      \
     can,                                                       \
     SIG_##sign,                                                \
     PROTECTION_##protection,                                   \
     (kind) == ALG_RSA || (kind) == ALG_EC || (kind) == ALG_ED, \
     (kind) == ALG_RSA},
#include "hsm/alg.tbl.h"
#undef ALG
};

static const struct sig sigs[] = {
#define SIG(id, name, code, kind, hash, digest) {name, code, kind, hash, digest},
#include "hsm/alg.tbl.h"
#undef SIG
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

const struct alg *alg_row(unsigned i)
{
    return i < COUNT(algs) ? &algs[i] : NULL;
}

const struct sig *sig_row(unsigned i)
{
    return i < COUNT(sigs) ? &sigs[i] : NULL;
}

const struct alg *alg_by_code(uint8_t code)
{
    for (unsigned i = 0; i < COUNT(algs); i++) {
        if (algs[i].code == code)
            return &algs[i];
    }
    return NULL;
}

const struct alg *alg_by_name(struct bytes name)
{
    for (unsigned i = 0; i < COUNT(algs); i++) {
        if (bytes_is_word(name, algs[i].name))
            return &algs[i];
    }
    return NULL;
}

const struct sig *sig_by_code(uint8_t code)
{
    for (unsigned i = 0; i < COUNT(sigs); i++) {
        if (sigs[i].code == code)
            return &sigs[i];
    }
    return NULL;
}

const struct sig *sig_by_name(struct bytes name)
{
    for (unsigned i = 0; i < COUNT(sigs); i++) {
        if (bytes_is_word(name, sigs[i].name))
            return &sigs[i];
    }
    return NULL;
}

const struct sig *sig_for(const struct alg *a, uint8_t code)
{
    const struct sig *s = sig_by_code(code == SIG_NONE ? a->sign : code);

    if (!s || s->kind != a->kind || !(a->can & ALG_CAN_SIGN))
        return NULL;
    /* A curve has the one hash of its own strength. */
    return a->kind == ALG_EC && s->code != a->sign ? NULL : s;
}
