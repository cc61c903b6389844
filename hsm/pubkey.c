/* pubkey.c - OpenSSL's part of the worker; pubkey.h says which and why.
 *
 * Keys are built with EVP_PKEY_fromdata and written with i2d_PUBKEY, so that what KEY.PUBLIC shows is what every other
 * tool reads. Signatures are verified over a digest in all cases: the message is hashed first, as for signing, and the
 * algorithm's padding follows from its table row.
 *
 * Failure modes: malformed keys, points and signatures. The first two are errors; a signature that does not parse is a
 * bad signature, no error. Lengths are bounded before OpenSSL sees them.
 */
#include "hsm/pubkey.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "base/mem.h"

#define EC_POINT_MAX 128

static enum err to_der(EVP_PKEY *key, uint8_t *out, size_t *n)
{
    unsigned char *p = out;
    int len = key ? i2d_PUBKEY(key, NULL) : -1;

    *n = 0;
    if (len <= 0 || len > MASKED_PUBLIC_MAX || i2d_PUBKEY(key, &p) != len)
        return ERR_INTERNAL;
    *n = (size_t)len;
    return ERR_OK;
}

static EVP_PKEY *build(const char *type, OSSL_PARAM *params)
{
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    EVP_PKEY *key = NULL;

    if (c && params && EVP_PKEY_fromdata_init(c) == 1 && EVP_PKEY_fromdata(c, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(c);
    return key;
}

enum err pubkey_from_rsa(struct bytes modulus, struct bytes exponent, uint8_t *out, size_t *n)
{
    OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
    BIGNUM *m = BN_bin2bn(modulus.p, (int)modulus.n, NULL), *x = BN_bin2bn(exponent.p, (int)exponent.n, NULL);
    OSSL_PARAM *params = NULL;
    EVP_PKEY *key = NULL;
    enum err e;

    if (b && m && x && OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, m) == 1 &&
        OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_E, x) == 1)
        params = OSSL_PARAM_BLD_to_param(b);
    key = build("RSA", params);
    e = to_der(key, out, n);
    EVP_PKEY_free(key);
    OSSL_PARAM_free(params);
    BN_free(m);
    BN_free(x);
    OSSL_PARAM_BLD_free(b);
    ERR_clear_error();
    return e;
}

/* A DER OCTET STRING around exactly the rest is taken off. */
static struct bytes bare_point(struct bytes point, size_t want)
{
    if (point.n == want + 2 && point.p[0] == 0x04 && point.p[1] == want)
        return bytes_of(point.p + 2, want);
    return point;
}

enum err pubkey_from_point(unsigned bits, struct bytes point, uint8_t *out, size_t *n)
{
    char group[8];
    struct bytes bare = bare_point(point, 1 + 2 * (bits / 8));
    OSSL_PARAM params[3];
    EVP_PKEY *key;
    enum err e;

    memcpy(group, bits == 384 ? "P-384" : "P-256", 6);
    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0);
    params[1] = OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)(uintptr_t)bare.p, bare.n);
    params[2] = OSSL_PARAM_construct_end();
    key = build("EC", params);
    e = to_der(key, out, n);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return e;
}

static EVP_PKEY *from_der(struct bytes der)
{
    const unsigned char *p = der.p;
    EVP_PKEY *key = der.n && der.n <= MASKED_PUBLIC_MAX ? d2i_PUBKEY(NULL, &p, (long)der.n) : NULL;

    if (key && p != der.p + der.n) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    return key;
}

enum err pubkey_point(struct bytes der, uint8_t *out, size_t *n)
{
    EVP_PKEY *key = from_der(der);
    enum err e = ERR_BADBLOB;

    *n = 0;
    if (key && EVP_PKEY_get_octet_string_param(key, OSSL_PKEY_PARAM_PUB_KEY, out + 2, EC_POINT_MAX - 2, n) == 1 &&
        *n < 0x80) {
        out[0] = 0x04;
        out[1] = (uint8_t)*n;
        *n += 2;
        e = ERR_OK;
    }
    EVP_PKEY_free(key);
    ERR_clear_error();
    return e;
}

enum err pubkey_digest(const struct sig *s, int prehashed, struct bytes msg, uint8_t *out, size_t *n)
{
    static const uint8_t empty;

    *n = 0;
    if (s->digest_bytes == 0 || (prehashed && msg.n != s->digest_bytes))
        return ERR_RANGE;
    if (prehashed)
        memcpy(out, msg.p, msg.n);
    else if (EVP_Q_digest(NULL, s->hash, NULL, msg.n ? msg.p : &empty, msg.n, out, NULL) != 1)
        return ERR_INTERNAL;
    *n = s->digest_bytes;
    return ERR_OK;
}

enum err pubkey_ecdsa_der(struct bytes raw, uint8_t *out, size_t *n)
{
    ECDSA_SIG *sig = ECDSA_SIG_new();
    int half = (int)(raw.n / 2), len = 0;
    BIGNUM *r = BN_bin2bn(raw.p, half, NULL), *s = BN_bin2bn(raw.p + half, half, NULL);
    unsigned char *p = out;

    *n = 0;
    if (sig && r && s && raw.n && raw.n % 2 == 0 && ECDSA_SIG_set0(sig, r, s) == 1) {
        r = s = NULL; /* sig's now */
        len = i2d_ECDSA_SIG(sig, NULL);
        if (len > 0 && len <= SIGNATURE_MAX && i2d_ECDSA_SIG(sig, &p) == len)
            *n = (size_t)len;
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(sig);
    return *n ? ERR_OK : ERR_INTERNAL;
}

/* The table row of the algorithm that a public key belongs to; NULL: none of ours. */
static const struct alg *alg_of(EVP_PKEY *key)
{
    static const struct {
        const char *type;
        enum alg_kind kind;
    } types[] = {{"RSA", ALG_RSA}, {"EC", ALG_EC}, {"ED25519", ALG_ED}};

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        const struct alg *a;

        if (!EVP_PKEY_is_a(key, types[i].type))
            continue;
        for (unsigned k = 0; (a = alg_row(k)) != NULL; k++) {
            if (a->kind == types[i].kind && (a->kind == ALG_ED || a->bits == (unsigned)EVP_PKEY_get_bits(key)))
                return a;
        }
    }
    return NULL;
}

static int verify_digest(EVP_PKEY *key, const struct sig *s, const uint8_t *digest, size_t n, struct bytes signature)
{
    EVP_PKEY_CTX *c = EVP_PKEY_CTX_new(key, NULL);
    int padding = s->code == SIG_RSA_PSS_SHA256 ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING;
    int ok = c && EVP_PKEY_verify_init(c) == 1 && EVP_PKEY_CTX_set_signature_md(c, EVP_get_digestbyname(s->hash)) == 1;

    if (ok && s->kind == ALG_RSA)
        ok = EVP_PKEY_CTX_set_rsa_padding(c, padding) == 1;
    if (ok && padding == RSA_PKCS1_PSS_PADDING && s->kind == ALG_RSA)
        ok = EVP_PKEY_CTX_set_rsa_pss_saltlen(c, RSA_PSS_SALTLEN_DIGEST) == 1;
    ok = ok && EVP_PKEY_verify(c, signature.p, signature.n, digest, n) == 1;
    EVP_PKEY_CTX_free(c);
    return ok;
}

static int verify_message(EVP_PKEY *key, struct bytes msg, struct bytes signature)
{
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    int ok = c && EVP_DigestVerifyInit(c, NULL, NULL, NULL, key) == 1 &&
             EVP_DigestVerify(c, signature.p, signature.n, msg.p, msg.n) == 1;

    EVP_MD_CTX_free(c);
    return ok;
}

enum err pubkey_verify(struct bytes der, uint8_t code, int prehashed, struct bytes msg, struct bytes signature, int *ok)
{
    EVP_PKEY *key = from_der(der);
    const struct alg *a = key ? alg_of(key) : NULL;
    const struct sig *s = a ? sig_for(a, code) : NULL;
    uint8_t digest[64];
    size_t n = 0;
    enum err e = s ? ERR_OK : ERR_RANGE;

    *ok = 0;
    if (e == ERR_OK && (s->digest_bytes || prehashed))
        e = pubkey_digest(s, prehashed, msg, digest, &n);
    if (e == ERR_OK && signature.n && signature.n <= SIGNATURE_MAX)
        *ok = n ? verify_digest(key, s, digest, n, signature) : verify_message(key, msg, signature);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return e;
}

int pubkey_rsa_in_range(struct bytes der, struct bytes ciphertext)
{
    EVP_PKEY *key = from_der(der);
    BIGNUM *modulus = NULL, *c = BN_bin2bn(ciphertext.p, (int)ciphertext.n, NULL);
    int in_range =
        key && c && EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_N, &modulus) == 1 && BN_cmp(c, modulus) < 0;

    BN_free(modulus);
    BN_free(c);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return in_range;
}

enum err pubkey_oaep(struct bytes der, enum cipher_code cipher, struct bytes in, uint8_t *out, size_t *n)
{
    const EVP_MD *md = cipher == CIPHER_RSA_OAEP_SHA256 ? EVP_sha256() : EVP_sha1();
    EVP_PKEY *key = from_der(der);
    EVP_PKEY_CTX *c = key ? EVP_PKEY_CTX_new(key, NULL) : NULL;
    enum err e = ERR_INTERNAL;

    *n = RSA_MAX_BLOCK;
    if (key && in.n > (size_t)EVP_PKEY_get_size(key) - 2 * (size_t)EVP_MD_get_size(md) - 2)
        e = ERR_TOOBIG;
    else if (c && EVP_PKEY_encrypt_init(c) == 1 && EVP_PKEY_CTX_set_rsa_padding(c, RSA_PKCS1_OAEP_PADDING) == 1 &&
             EVP_PKEY_CTX_set_rsa_oaep_md(c, md) == 1 && EVP_PKEY_CTX_set_rsa_mgf1_md(c, md) == 1 &&
             EVP_PKEY_encrypt(c, out, n, in.p, in.n) == 1)
        e = ERR_OK;
    if (e != ERR_OK)
        *n = 0;
    EVP_PKEY_CTX_free(c);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return e;
}

/* ---- keys of software protection ---- */

enum err softkey_new(struct bytes seed, void **out)
{
    *out = seed.n == 32 ? EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed.p, seed.n) : NULL;
    ERR_clear_error();
    return *out ? ERR_OK : ERR_OOM;
}

void softkey_free(void *key)
{
    EVP_PKEY_free(key);
}

enum err softkey_public(void *key, uint8_t *out, size_t *n)
{
    return to_der(key, out, n);
}

enum err softkey_sign(void *key, struct bytes msg, uint8_t *out, size_t *n)
{
    EVP_MD_CTX *c = EVP_MD_CTX_new();
    int ok = c && EVP_DigestSignInit(c, NULL, NULL, NULL, key) == 1;

    *n = SIGNATURE_MAX;
    ok = ok && EVP_DigestSign(c, out, n, msg.p, msg.n) == 1;
    EVP_MD_CTX_free(c);
    ERR_clear_error();
    if (!ok)
        *n = 0;
    return ok ? ERR_OK : ERR_INTERNAL;
}
