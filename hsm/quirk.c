/* quirk.c - the self-test: what this module does differently, found by trying.
 *
 * Everything is done with session objects that are destroyed again:
 *
 *   templates   a wrapping key with CKA_UNWRAP_TEMPLATE and CKA_ALLOWED_MECHANISMS must refuse to unwrap what its
 *               template forbids. Taking the attribute is not enough: NSS stores the template's bytes, pointers and
 *               all, and enforces nothing
 *   trusted     the realm wrapping key got CKA_TRUSTED in the ceremony, or not
 *   kwp         0x210a is RFC 5649 in SoftHSM but padded RFC 3394 in NSS, where 0x210b is RFC 5649. A throw-away key is
 *               wrapped by a key of known value, the blob opened by OpenSSL's RFC 5649, and the result must give the
 *               HMAC that the HSM computes with that key
 *   value_len   C_UnwrapKey of a secret key without and with CKA_VALUE_LEN
 *   bad_data    what C_UnwrapKey and C_Decrypt answer to a flipped bit
 *   ec_point    an EC key pair wrapped and unwrapped, without and with its point
 *   oaep        C_EncryptInit with OAEP and SHA-256 on a public key
 *
 * and last the way every partition key goes: a key is wrapped and unwrapped by the realm wrapping key itself.
 *
 * A failure that looks like device trouble (P11_WORKER and its like) ends the self-test with ERR_HSMDOWN: a sick device
 * must not be taken for one that lacks a mechanism. Rejected: deciding by the vendor's name, and believing
 * C_GetMechanismInfo (SoftHSM answers it for mechanisms that are switched off).
 */
#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "hsm/crypt.h"

#define KWP_BYTES 40 /* RFC 5649 of 32 bytes */

static const CK_ATTRIBUTE_TYPE use_wrap[] = {CKA_WRAP, CKA_UNWRAP, 0};
static const CK_ATTRIBUTE_TYPE use_sign[] = {CKA_SIGN, CKA_VERIFY, 0};
static const CK_ATTRIBUTE_TYPE use_crypt[] = {CKA_ENCRYPT, CKA_DECRYPT, 0};
static const CK_ATTRIBUTE_TYPE use_private[] = {CKA_SIGN, 0};

/* 1 when the last failure was the module's inability, after which another way may be tried. */
static int merely_unable(struct token *t)
{
    enum p11_policy p = t->m.policy;
    int unable = p == P11_ABSENT || p == P11_BUG || p == P11_DATA || p == P11_DOUBT;

    if (unable)
        p11_clear(&t->m);
    return unable;
}

static int is_true(struct token *t, CK_OBJECT_HANDLE o, CK_ATTRIBUTE_TYPE type)
{
    CK_BBOOL value = CK_FALSE;
    CK_ATTRIBUTE a = {type, &value, sizeof value};
    int yes = p11_GetAttributeValue(&t->m, t->session, o, &a, 1) == ERR_OK && value == CK_TRUE;

    p11_clear(&t->m);
    return yes;
}

/* A session HMAC key that can be wrapped; trusted: only by a trusted key. */
static enum err make_subject(struct token *t, int trusted, CK_OBJECT_HANDLE *out)
{
    struct p11_template tpl;

    crypt_template(&tpl, CKO_SECRET_KEY, CKK_GENERIC_SECRET, 0, 1, use_sign);
    if (trusted)
        template_bool(&tpl, CKA_WRAP_WITH_TRUSTED, 1);
    return crypt_generate(t, CKM_GENERIC_SECRET_KEY_GEN, &tpl, out);
}

/* A wrapping key of known value, for OpenSSL to check against. */
static enum err make_known(struct token *t, const uint8_t value[32], CK_OBJECT_HANDLE *out)
{
    struct p11_template tpl;

    crypt_template(&tpl, CKO_SECRET_KEY, CKK_AES, 0, 0, use_wrap);
    template_bytes(&tpl, CKA_VALUE, value, 32);
    *out = CK_INVALID_HANDLE;
    t->objects++;
    return p11_CreateObject(&t->m, t->keeper, tpl.a, tpl.n, out);
}

/* ERR_OK when blob is RFC 5649 under key of the secret whose HMAC of "kwp" is mac; ERR_CORRUPT when it is not. */
static enum err is_rfc5649(const uint8_t key[32], const uint8_t blob[KWP_BYTES], const uint8_t mac[32])
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    uint8_t *secret = mem_secret_alloc(KWP_BYTES), again[32];
    unsigned mac_n = 0;
    int n = 0;
    enum err e = c && secret ? ERR_CORRUPT : ERR_OOM;

    if (e == ERR_CORRUPT) {
        EVP_CIPHER_CTX_set_flags(c, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
        if (EVP_DecryptInit_ex(c, EVP_aes_256_wrap_pad(), NULL, key, NULL) == 1 &&
            EVP_DecryptUpdate(c, secret, &n, blob, KWP_BYTES) == 1 && n == 32 &&
            HMAC(EVP_sha256(), secret, 32, (const uint8_t *)"kwp", 3, again, &mac_n) &&
            mem_equal_ct(again, mac, sizeof again))
            e = ERR_OK;
    }
    mem_secret_free(secret, KWP_BYTES);
    EVP_CIPHER_CTX_free(c);
    return e;
}

/* Tries the mechanism numbers; t->quirks.kwp stays 0 when none is RFC 5649. */
static enum err probe_kwp(struct token *t, CK_OBJECT_HANDLE known, const uint8_t value[32], CK_OBJECT_HANDLE subject,
                          uint8_t blob[KWP_BYTES])
{
    static const enum p11_mech candidates[] = {MECH_AES_KEY_WRAP_KWP, MECH_AES_KEY_WRAP_PAD};
    uint8_t mac[32], out[64];
    size_t n;
    enum err e = crypt_hmac(t, subject, bytes_str("kwp"), mac);

    for (unsigned i = 0; e == ERR_OK && i < 2; i++) {
        if (!t->has[candidates[i]])
            continue;
        t->quirks.kwp = p11_mechs[candidates[i]].type;
        e = crypt_wrap(t, known, subject, out, sizeof out, &n);
        if (e == ERR_OK)
            e = n == KWP_BYTES ? is_rfc5649(value, out, mac) : ERR_CORRUPT;
        if (e == ERR_OK) {
            memcpy(blob, out, KWP_BYTES);
            return ERR_OK;
        }
        if (e == ERR_CORRUPT || merely_unable(t))
            e = ERR_OK;
    }
    t->quirks.kwp = 0;
    return e;
}

enum err quirk_check_wrap(struct token *t, CK_OBJECT_HANDLE by, const uint8_t value[32])
{
    CK_OBJECT_HANDLE subject = CK_INVALID_HANDLE;
    uint8_t blob[64], mac[32];
    size_t n = 0;
    enum err e = make_subject(t, 0, &subject);

    if (e == ERR_OK)
        e = crypt_hmac(t, subject, bytes_str("kwp"), mac);
    if (e == ERR_OK)
        e = crypt_wrap(t, by, subject, blob, sizeof blob, &n);
    if (e == ERR_OK)
        e = n == KWP_BYTES ? is_rfc5649(value, blob, mac) : ERR_CORRUPT;
    crypt_destroy(t, subject);
    return e;
}

static enum err unwrap_subject(struct token *t, CK_OBJECT_HANDLE by, const uint8_t *blob, int trusted,
                               CK_OBJECT_HANDLE *out)
{
    struct p11_template tpl;

    crypt_template(&tpl, CKO_SECRET_KEY, CKK_GENERIC_SECRET, 0, trusted, use_sign);
    if (trusted)
        template_bool(&tpl, CKA_WRAP_WITH_TRUSTED, 1);
    return crypt_unwrap(t, by, bytes_of(blob, KWP_BYTES), &tpl, 1, out);
}

static enum err probe_unwrap(struct token *t, CK_OBJECT_HANDLE known, uint8_t blob[KWP_BYTES])
{
    CK_OBJECT_HANDLE o = CK_INVALID_HANDLE;
    enum err e = unwrap_subject(t, known, blob, 0, &o);

    if (e != ERR_OK && merely_unable(t)) {
        t->quirks.value_len = 1;
        e = unwrap_subject(t, known, blob, 0, &o);
    }
    crypt_destroy(t, o);
    if (e != ERR_OK)
        return e;
    blob[KWP_BYTES / 2] ^= 1;
    if (unwrap_subject(t, known, blob, 0, &o) == ERR_OK) {
        crypt_destroy(t, o);
        return ERR_UNSUPPORTED; /* a module that unwraps anything */
    }
    t->m.bad_data[P11_CALL_UnwrapKey] = t->m.bad_rv;
    p11_clear(&t->m);
    return ERR_OK;
}

/* A wrapping key that may unwrap to keys that cannot be extracted, and nothing else; refused by many. */
static enum err make_strict(struct token *t, CK_OBJECT_HANDLE *out)
{
    struct p11_template tpl, unwrap;
    CK_MECHANISM_TYPE allowed = t->quirks.kwp;

    template_init(&unwrap);
    template_bool(&unwrap, CKA_EXTRACTABLE, 0);
    crypt_template(&tpl, CKO_SECRET_KEY, CKK_AES, 0, 0, use_wrap);
    template_bytes(&tpl, CKA_UNWRAP_TEMPLATE, unwrap.a, unwrap.n * sizeof unwrap.a[0]);
    template_bytes(&tpl, CKA_ALLOWED_MECHANISMS, &allowed, sizeof allowed);
    return crypt_generate(t, CKM_AES_KEY_GEN, &tpl, out);
}

static enum err unwrap_extractable(struct token *t, CK_OBJECT_HANDLE by, const uint8_t *blob, int extractable,
                                   CK_OBJECT_HANDLE *out)
{
    struct p11_template tpl;

    crypt_template(&tpl, CKO_SECRET_KEY, CKK_GENERIC_SECRET, 0, extractable, use_sign);
    return crypt_unwrap(t, by, bytes_of(blob, KWP_BYTES), &tpl, 1, out);
}

static enum err probe_templates(struct token *t, CK_OBJECT_HANDLE subject)
{
    CK_OBJECT_HANDLE strict = CK_INVALID_HANDLE, good = CK_INVALID_HANDLE, bad = CK_INVALID_HANDLE;
    uint8_t blob[64];
    size_t n = 0;
    enum err e = make_strict(t, &strict);

    if (e == ERR_OK)
        e = crypt_wrap(t, strict, subject, blob, sizeof blob, &n);
    if (e == ERR_OK)
        e = unwrap_extractable(t, strict, blob, 0, &good);
    if (e == ERR_OK) {
        e = unwrap_extractable(t, strict, blob, 1, &bad);
        t->quirks.templates = e != ERR_OK && merely_unable(t);
        if (t->quirks.templates)
            e = ERR_OK;
    }
    crypt_destroy(t, strict);
    crypt_destroy(t, good);
    crypt_destroy(t, bad);
    return e != ERR_OK && merely_unable(t) ? ERR_OK : e;
}

/* The way of every partition key: wrapped and unwrapped by the realm wrapping key. */
static enum err probe_realm_wrap(struct token *t)
{
    CK_OBJECT_HANDLE subject = CK_INVALID_HANDLE, back = CK_INVALID_HANDLE;
    uint8_t blob[64], before[32], after[32];
    size_t n = 0;
    enum err e = make_subject(t, t->quirks.trusted, &subject);

    if (e == ERR_OK)
        e = crypt_hmac(t, subject, bytes_str("kwp"), before);
    if (e == ERR_OK)
        e = crypt_wrap(t, t->realm_key[REALM_WRAP], subject, blob, sizeof blob, &n);
    if (e == ERR_OK && n != KWP_BYTES)
        e = ERR_UNSUPPORTED;
    if (e == ERR_OK)
        e = unwrap_subject(t, t->realm_key[REALM_WRAP], blob, t->quirks.trusted, &back);
    if (e == ERR_OK)
        e = crypt_hmac(t, back, bytes_str("kwp"), after);
    if (e == ERR_OK && !mem_equal_ct(before, after, sizeof after))
        e = ERR_UNSUPPORTED;
    crypt_destroy(t, subject);
    crypt_destroy(t, back);
    return e;
}

/* AES-GCM there and back, and what a flipped bit answers. */
static enum err probe_gcm(struct token *t)
{
    static const uint8_t nonce[GCM_NONCE] = {1}, text[8] = "selftest";
    uint8_t sealed[sizeof text + GCM_TAG], open[sizeof sealed];
    struct p11_template tpl;
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    size_t n = 0;
    enum err e;

    crypt_template(&tpl, CKO_SECRET_KEY, CKK_AES, 0, 0, use_crypt);
    e = crypt_generate(t, CKM_AES_KEY_GEN, &tpl, &key);
    if (e == ERR_OK)
        e = crypt_gcm_seal(t, key, nonce, bytes_str("aad"), bytes_of(text, sizeof text), sealed);
    if (e == ERR_OK)
        e = crypt_gcm_open(t, key, nonce, bytes_str("aad"), bytes_of(sealed, sizeof sealed), open, &n);
    if (e == ERR_OK && !mem_equal_ct(open, text, sizeof text))
        e = ERR_UNSUPPORTED;
    if (e == ERR_OK) {
        sealed[0] ^= 1;
        if (crypt_gcm_open(t, key, nonce, bytes_str("aad"), bytes_of(sealed, sizeof sealed), open, &n) == ERR_OK) {
            e = ERR_UNSUPPORTED;
        } else {
            t->m.bad_data[P11_CALL_Decrypt] = t->m.bad_rv;
            p11_clear(&t->m);
        }
    }
    crypt_destroy(t, key);
    return e;
}

/* An EC private key through wrap and unwrap by a key of known value. */
static enum err probe_ec(struct token *t, CK_OBJECT_HANDLE known)
{
    static const uint8_t p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
    struct p11_template pub, prv, back;
    CK_MECHANISM mech = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_OBJECT_HANDLE pub_o = CK_INVALID_HANDLE, prv_o = CK_INVALID_HANDLE, back_o = CK_INVALID_HANDLE;
    uint8_t blob[256], point[128];
    CK_ATTRIBUTE a = {CKA_EC_POINT, point, sizeof point};
    size_t n = 0;
    enum err e;

    template_init(&pub);
    template_bool(&pub, CKA_TOKEN, 0);
    template_bool(&pub, CKA_VERIFY, 1);
    template_bytes(&pub, CKA_EC_PARAMS, p256, sizeof p256);
    crypt_template(&prv, CKO_PRIVATE_KEY, CKK_EC, 0, 1, use_private);
    t->objects += 2;
    e = p11_GenerateKeyPair(&t->m, t->keeper, &mech, pub.a, pub.n, prv.a, prv.n, &pub_o, &prv_o);
    if (e == ERR_OK)
        e = crypt_wrap(t, known, prv_o, blob, sizeof blob, &n);
    if (e == ERR_OK)
        e = p11_GetAttributeValue(&t->m, t->session, pub_o, &a, 1);
    for (int with_point = 0; e == ERR_OK && with_point < 2 && back_o == CK_INVALID_HANDLE; with_point++) {
        crypt_template(&back, CKO_PRIVATE_KEY, CKK_EC, 0, 0, use_private);
        if (with_point)
            template_bytes(&back, COFFER_CKA_NSS_DB, point, a.ulValueLen);
        t->quirks.ec_point = with_point;
        e = crypt_unwrap(t, known, bytes_of(blob, n), &back, 0, &back_o);
        if (e != ERR_OK && merely_unable(t))
            e = ERR_OK;
    }
    if (e == ERR_OK && back_o == CK_INVALID_HANDLE)
        t->has[MECH_EC_KEY_PAIR_GEN] = 0; /* generates what it cannot take back: KEY.CREATE answers not supported */
    if (e != ERR_OK && merely_unable(t)) {
        t->has[MECH_EC_KEY_PAIR_GEN] = 0;
        e = ERR_OK;
    }
    crypt_destroy(t, pub_o);
    crypt_destroy(t, prv_o);
    crypt_destroy(t, back_o);
    return e;
}

/* SoftHSM judges OAEP's parameters in C_EncryptInit, for which any public key will do. */
static enum err probe_oaep(struct token *t)
{
    static const uint8_t exponent[] = {1, 0, 1};
    CK_RSA_PKCS_OAEP_PARAMS oaep = {CKM_SHA256, CKG_MGF1_SHA256, CKZ_DATA_SPECIFIED, NULL, 0};
    CK_MECHANISM mech = {CKM_RSA_PKCS_OAEP, &oaep, sizeof oaep};
    CK_OBJECT_HANDLE o = CK_INVALID_HANDLE;
    uint8_t modulus[256], out[256];
    CK_ULONG n = sizeof out;
    struct p11_template tpl;
    enum err e = clock_random(modulus, sizeof modulus);

    modulus[0] |= 0x80;
    modulus[sizeof modulus - 1] |= 1;
    template_init(&tpl);
    template_number(&tpl, CKA_CLASS, CKO_PUBLIC_KEY);
    template_number(&tpl, CKA_KEY_TYPE, CKK_RSA);
    template_bool(&tpl, CKA_TOKEN, 0);
    template_bool(&tpl, CKA_ENCRYPT, 1);
    template_bytes(&tpl, CKA_MODULUS, modulus, sizeof modulus);
    template_bytes(&tpl, CKA_PUBLIC_EXPONENT, exponent, sizeof exponent);
    t->objects++;
    if (e == ERR_OK)
        e = p11_CreateObject(&t->m, t->keeper, tpl.a, tpl.n, &o);
    if (e == ERR_OK)
        e = p11_EncryptInit(&t->m, t->session, &mech, o);
    if (e == ERR_OK)
        e = p11_Encrypt(&t->m, t->session, (CK_BYTE *)(uintptr_t) "selftest", 8, out, &n);
    t->quirks.oaep_sha256 = e == ERR_OK;
    crypt_destroy(t, o);
    return e != ERR_OK && merely_unable(t) ? ERR_OK : e;
}

static enum err need_mechanisms(struct token *t, char *why, size_t n)
{
    for (unsigned k = 0; k < MECHS; k++) {
        if (p11_mechs[k].needed && !t->has[k]) {
            snprintf(why, n, "the module lacks CKM_%s", p11_mechs[k].name);
            return ERR_UNSUPPORTED;
        }
    }
    return ERR_OK;
}

/* The parts that need a wrapping key of known value. */
static enum err probe_wrapping(struct token *t)
{
    CK_OBJECT_HANDLE known = CK_INVALID_HANDLE, subject = CK_INVALID_HANDLE;
    uint8_t *value = mem_secret_alloc(32), blob[KWP_BYTES];
    enum err e = value ? crypt_random(t, value, 32) : ERR_OOM;

    if (e == ERR_OK)
        e = make_known(t, value, &known);
    if (e == ERR_OK)
        e = make_subject(t, 0, &subject);
    if (e == ERR_OK)
        e = probe_kwp(t, known, value, subject, blob);
    if (e == ERR_OK && !t->quirks.kwp)
        e = ERR_UNSUPPORTED;
    if (e == ERR_OK)
        e = probe_unwrap(t, known, blob);
    if (e == ERR_OK)
        e = probe_templates(t, subject);
    if (e == ERR_OK && t->has[MECH_EC_KEY_PAIR_GEN])
        e = probe_ec(t, known);
    crypt_destroy(t, known);
    crypt_destroy(t, subject);
    mem_secret_free(value, 32);
    return e;
}

static enum err explain(struct token *t, enum err e, const char *step, char *why, size_t n)
{
    char call[64];

    p11_describe(&t->m, call, sizeof call);
    snprintf(why, n, "self-test of %s: %s", step, call[0] ? call : err_text(e));
    return e;
}

enum err quirk_probe_module(struct token *t, char *why, size_t n)
{
    enum err e = need_mechanisms(t, why, n);

    if (e != ERR_OK)
        return e;
    memset(&t->quirks, 0, sizeof t->quirks);
    e = probe_wrapping(t);
    if (e != ERR_OK)
        return explain(t, e, "key wrap by RFC 5649", why, n);
    e = probe_gcm(t);
    if (e != ERR_OK)
        return explain(t, e, "AES-GCM", why, n);
    if (t->has[MECH_RSA_PKCS_OAEP])
        e = probe_oaep(t);
    return e == ERR_OK ? e : explain(t, e, "RSA-OAEP", why, n);
}

enum err quirk_probe(struct token *t, char *why, size_t n)
{
    enum err e = quirk_probe_module(t, why, n);

    if (e != ERR_OK)
        return e;
    t->quirks.trusted = is_true(t, t->realm_key[REALM_WRAP], CKA_TRUSTED);
    e = probe_realm_wrap(t);
    return e == ERR_OK ? e : explain(t, e, "the realm wrapping key", why, n);
}
