/* crypt.c - operations with keys in the HSM.
 *
 * All are single-part: Init, then the operation with enough room, never a size query (SoftHSM over-reports, and a size
 * query is a call more). A module that asks for more room leaves its session with an operation active; the policy table
 * calls that P11_SESSION, and the ladder replaces the session.
 *
 * The IV of GCM is ours and always 12 bytes: SoftHSM takes an empty one as zeroes, which must not happen, so no caller
 * passes a length.
 */
#include "hsm/crypt.h"

#include "base/mem.h"

enum err crypt_random(struct token *t, void *out, size_t n)
{
    return p11_GenerateRandom(&t->m, t->session, out, n);
}

enum err crypt_nonce(struct token *t, uint8_t out[GCM_NONCE])
{
    enum err e;

    memset(out, 0, GCM_NONCE);
    if (t->nonces_left < GCM_NONCE) {
        e = crypt_random(t, t->nonces, sizeof t->nonces);
        if (e != ERR_OK)
            return e;
        t->nonces_left = sizeof t->nonces;
    }
    t->nonces_left -= GCM_NONCE;
    memcpy(out, t->nonces + t->nonces_left, GCM_NONCE);
    return ERR_OK;
}

enum err crypt_sign(struct token *t, CK_MECHANISM *mech, CK_OBJECT_HANDLE key, struct bytes in, uint8_t *out,
                    size_t room, size_t *n)
{
    CK_ULONG len = room;
    enum err e = p11_SignInit(&t->m, t->session, mech, key);

    *n = 0;
    if (e == ERR_OK)
        e = p11_Sign(&t->m, t->session, (CK_BYTE *)(uintptr_t)in.p, in.n, out, &len);
    if (e == ERR_OK)
        *n = len;
    return e;
}

enum err crypt_hmac(struct token *t, CK_OBJECT_HANDLE key, struct bytes msg, uint8_t out[32])
{
    static uint8_t empty;
    CK_MECHANISM mech = {CKM_SHA256_HMAC, NULL, 0};
    size_t n;
    enum err e;

    memset(out, 0, 32);
    e = crypt_sign(t, &mech, key, msg.n ? msg : bytes_of(&empty, 0), out, 32, &n);
    return e == ERR_OK && n != 32 ? ERR_INTERNAL : e;
}

/* params and mech belong together; both live as long as the operation. */
static void gcm_mechanism(CK_MECHANISM *mech, CK_GCM_PARAMS *params, const uint8_t *nonce, struct bytes aad)
{
    memset(params, 0, sizeof *params);
    params->pIv = (CK_BYTE *)(uintptr_t)nonce;
    params->ulIvLen = GCM_NONCE;
    params->ulIvBits = GCM_NONCE * 8;
    params->pAAD = aad.n ? (CK_BYTE *)(uintptr_t)aad.p : NULL;
    params->ulAADLen = aad.n;
    params->ulTagBits = GCM_TAG * 8;
    *mech = (CK_MECHANISM){CKM_AES_GCM, params, sizeof *params};
}

enum err crypt_gcm_seal(struct token *t, CK_OBJECT_HANDLE key, const uint8_t nonce[GCM_NONCE], struct bytes aad,
                        struct bytes in, uint8_t *out)
{
    static uint8_t empty;
    CK_GCM_PARAMS params;
    CK_MECHANISM mech;
    CK_ULONG len = in.n + GCM_TAG;
    enum err e;

    gcm_mechanism(&mech, &params, nonce, aad);
    e = p11_EncryptInit(&t->m, t->session, &mech, key);
    if (e == ERR_OK)
        e = p11_Encrypt(&t->m, t->session, in.n ? (CK_BYTE *)(uintptr_t)in.p : &empty, in.n, out, &len);
    return e == ERR_OK && len != in.n + GCM_TAG ? ERR_INTERNAL : e;
}

enum err crypt_decrypt(struct token *t, CK_MECHANISM *mech, CK_OBJECT_HANDLE key, struct bytes in, uint8_t *out,
                       size_t room, size_t *n)
{
    CK_ULONG len = room;
    enum err e = p11_DecryptInit(&t->m, t->session, mech, key);

    *n = 0;
    if (e == ERR_OK)
        e = p11_Decrypt(&t->m, t->session, (CK_BYTE *)(uintptr_t)in.p, in.n, out, &len);
    if (e == ERR_OK)
        *n = len;
    else
        mem_wipe(out, room);
    return e;
}

enum err crypt_gcm_open(struct token *t, CK_OBJECT_HANDLE key, const uint8_t nonce[GCM_NONCE], struct bytes aad,
                        struct bytes in, uint8_t *out, size_t *n)
{
    CK_GCM_PARAMS params;
    CK_MECHANISM mech;
    enum err e;

    *n = 0;
    if (in.n < GCM_TAG)
        return ERR_BADCIPHERTEXT;
    gcm_mechanism(&mech, &params, nonce, aad);
    e = crypt_decrypt(t, &mech, key, in, out, in.n, n);
    return e == ERR_OK && *n != in.n - GCM_TAG ? ERR_INTERNAL : e;
}

enum err crypt_wrap(struct token *t, CK_OBJECT_HANDLE by, CK_OBJECT_HANDLE key, uint8_t *out, size_t room, size_t *n)
{
    CK_MECHANISM mech = {t->quirks.kwp, NULL, 0};
    CK_ULONG len = room;
    enum err e = p11_WrapKey(&t->m, t->session, &mech, by, key, out, &len);

    *n = e == ERR_OK ? len : 0;
    return e;
}

enum err crypt_unwrap(struct token *t, CK_OBJECT_HANDLE by, struct bytes blob, struct p11_template *target, int secret,
                      CK_OBJECT_HANDLE *out)
{
    CK_MECHANISM mech = {t->quirks.kwp, NULL, 0};
    enum err e;

    *out = CK_INVALID_HANDLE;
    if (secret && t->quirks.value_len)
        template_number(target, CKA_VALUE_LEN, 32);
    t->objects++;
    e = p11_UnwrapKey(&t->m, t->keeper, &mech, by, (CK_BYTE *)(uintptr_t)blob.p, blob.n, target->a, target->n, out);
    if (e != ERR_OK)
        *out = CK_INVALID_HANDLE;
    return e;
}

enum err crypt_generate(struct token *t, CK_MECHANISM_TYPE type, struct p11_template *target, CK_OBJECT_HANDLE *out)
{
    CK_MECHANISM mech = {type, NULL, 0};
    enum err e;

    *out = CK_INVALID_HANDLE;
    template_number(target, CKA_VALUE_LEN, 32);
    t->objects++;
    e = p11_GenerateKey(&t->m, t->keeper, &mech, target->a, target->n, out);
    if (e != ERR_OK)
        *out = CK_INVALID_HANDLE;
    return e;
}

void crypt_destroy(struct token *t, CK_OBJECT_HANDLE o)
{
    enum err ignored = o == CK_INVALID_HANDLE ? ERR_OK : p11_DestroyObject(&t->m, t->keeper, o);

    (void)ignored;
}

void crypt_template(struct p11_template *t, CK_OBJECT_CLASS class, CK_KEY_TYPE type, int token, int extractable,
                    const CK_ATTRIBUTE_TYPE *uses)
{
    static const CK_ATTRIBUTE_TYPE secret_uses[] = {CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN,   CKA_VERIFY,
                                                    CKA_WRAP,    CKA_UNWRAP,  CKA_DERIVE, 0};
    static const CK_ATTRIBUTE_TYPE private_uses[] = {CKA_DECRYPT, CKA_SIGN, CKA_UNWRAP, 0};
    const CK_ATTRIBUTE_TYPE *all = class == CKO_SECRET_KEY ? secret_uses : private_uses;

    template_init(t);
    template_number(t, CKA_CLASS, class);
    template_number(t, CKA_KEY_TYPE, type);
    template_bool(t, CKA_TOKEN, token);
    template_bool(t, CKA_PRIVATE, 1);
    template_bool(t, CKA_SENSITIVE, 1);
    template_bool(t, CKA_EXTRACTABLE, extractable);
    for (; *all; all++) {
        int allowed = 0;
        for (const CK_ATTRIBUTE_TYPE *u = uses; *u; u++)
            allowed |= *u == *all;
        template_bool(t, *all, allowed);
    }
}
