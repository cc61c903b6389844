/* ops_key.c - operations with customers' keys.
 *
 * Each request brings everything that is needed: the partition's config, the masked object, the data. All that a worker
 * remembers is a cache, so any worker can answer any request, and a worker that died is replaced by one that knows
 * nothing.
 *
 * What is checked before a key is used: the config (realm MAC), the masked object (partition HMAC), that the key may do
 * this, and, for ciphertexts, that key id and version in the ciphertext's header are the masked object's. The server
 * looks up keys by that header; a mistake there must end in an error, not in another key.
 *
 * AES-256-GCM runs in the HSM with a nonce of the HSM; the server counts messages per version. RSA encryption is an
 * operation of the public key and done by OpenSSL, decryption by the HSM. ECDSA and RSA signatures are made over a
 * digest computed here.
 */
#include "base/mem.h"
#include "hsm/crypt.h"
#include "hsm/ops.h"
#include "hsm/pubkey.h"

/* The key of a request: in[0] is the config, in[masked] the masked object. */
static enum err open_key(struct ops *o, const struct bytes *in, unsigned masked, unsigned need, struct key **out)
{
    struct partition *p;
    enum err e = partitions_open(o->partitions, in[0], &p);

    *out = NULL;
    if (e == ERR_OK)
        e = keys_open(o->keys, p, in[masked], out);
    if (e == ERR_OK && need && !((*out)->alg->can & need))
        e = ERR_KEYSTATE; /* the key is of another kind */
    return e;
}

/* ---- making and checking ---- */

static enum err new_key(struct ops *o, const struct bytes *in, struct answer *a)
{
    uint8_t masked[MASKED_MAX], der[MASKED_PUBLIC_MAX];
    size_t masked_n = 0, der_n = 0;
    struct partition *p;
    enum err e = partitions_open(o->partitions, in[0], &p);

    if (e == ERR_OK)
        e = keys_create(o->keys, p, in[1], masked, &masked_n, der, &der_n);
    if (e == ERR_OK)
        e = answer_put(a, bytes_of(masked, masked_n));
    return e == ERR_OK ? answer_put(a, bytes_of(der, der_n)) : e;
}

enum err op_KEY_NEW(struct ops *o, const struct bytes *in, struct answer *a)
{
    return new_key(o, in, a);
}

enum err op_KEY_NEW_SLOW(struct ops *o, const struct bytes *in, struct answer *a)
{
    return new_key(o, in, a);
}

enum err op_KEY_CHECK(struct ops *o, const struct bytes *in, struct answer *a)
{
    struct partition *p;
    struct masked m;
    enum err e = partitions_open(o->partitions, in[0], &p);

    (void)a;
    if (e == ERR_OK)
        e = masked_parse(in[1], &m);
    return e == ERR_OK ? masked_verify(&o->token, p, &m) : e;
}

/* ---- encrypting and decrypting ---- */

/* header | AAD in the scratch buffer. */
static enum err gcm_aad(struct ops *o, struct bytes header, struct bytes aad, struct bytes *out)
{
    enum err e;

    buf_clear(&o->aad);
    e = buf_put(&o->aad, header.p, header.n);
    if (e == ERR_OK)
        e = buf_put(&o->aad, aad.p, aad.n);
    *out = buf_bytes(&o->aad);
    return e;
}

static int names_key(const struct ciphertext *c, const struct key *k)
{
    return c->version == k->head.version &&
           bytes_equal(bytes_of(c->id, KEY_ID_BYTES), bytes_of(k->head.id, KEY_ID_BYTES));
}

static enum err encrypt_gcm(struct ops *o, const struct key *k, struct bytes aad, struct bytes plain, struct answer *a)
{
    uint8_t *to;
    struct bytes full;
    enum err e = answer_begin(a, plain.n + CIPHERTEXT_GCM_OVERHEAD, &to);

    if (e != ERR_OK)
        return e;
    ciphertext_put_header(to, CIPHER_AES_256_GCM, k->head.id, k->head.version);
    e = gcm_aad(o, bytes_of(to, CIPHERTEXT_HEADER), aad, &full);
    if (e == ERR_OK)
        e = crypt_nonce(&o->token, to + CIPHERTEXT_HEADER);
    if (e == ERR_OK)
        e = crypt_gcm_seal(&o->token, k->handle, to + CIPHERTEXT_HEADER, full, plain,
                           to + CIPHERTEXT_HEADER + CIPHERTEXT_NONCE);
    if (e == ERR_OK)
        answer_end(a, plain.n + CIPHERTEXT_GCM_OVERHEAD);
    return e;
}

static enum err encrypt_rsa(struct ops *o, const struct key *k, struct bytes aad, struct bytes plain, struct answer *a)
{
    enum cipher_code cipher = o->token.quirks.oaep_sha256 ? CIPHER_RSA_OAEP_SHA256 : CIPHER_RSA_OAEP_SHA1;
    uint8_t *to;
    size_t n = 0;
    enum err e;

    if (aad.n || !o->token.has[MECH_RSA_PKCS_OAEP])
        return ERR_UNSUPPORTED;
    e = answer_begin(a, CIPHERTEXT_HEADER + RSA_MAX_BLOCK, &to);
    if (e != ERR_OK)
        return e;
    ciphertext_put_header(to, cipher, k->head.id, k->head.version);
    e = pubkey_oaep(k->public_der, cipher, plain, to + CIPHERTEXT_HEADER, &n);
    if (e == ERR_OK)
        answer_end(a, CIPHERTEXT_HEADER + n);
    return e;
}

/* request: the header that the caller asks for. */
static enum err encrypt(struct ops *o, const struct key *k, struct bytes request, struct bytes aad, struct bytes plain,
                        struct answer *a)
{
    struct ciphertext c;
    enum err e = ciphertext_get_request(request, &c);

    if (e == ERR_OK && !names_key(&c, k))
        e = ERR_BADBLOB;
    if (e != ERR_OK)
        return e;
    return k->alg->kind == ALG_AES ? encrypt_gcm(o, k, aad, plain, a) : encrypt_rsa(o, k, aad, plain, a);
}

static enum err decrypt_gcm(struct ops *o, const struct key *k, const struct ciphertext *c, struct bytes aad,
                            uint8_t *to, size_t *n)
{
    struct bytes full;
    enum err e = gcm_aad(o, c->header, aad, &full);

    return e == ERR_OK ? crypt_gcm_open(&o->token, k->handle, c->nonce.p, full, c->body, to, n) : e;
}

static enum err decrypt_rsa(struct ops *o, const struct key *k, const struct ciphertext *c, struct bytes aad,
                            uint8_t *to, size_t *n)
{
    int sha256 = c->cipher == CIPHER_RSA_OAEP_SHA256;
    CK_RSA_PKCS_OAEP_PARAMS oaep = {sha256 ? CKM_SHA256 : CKM_SHA_1, sha256 ? CKG_MGF1_SHA256 : CKG_MGF1_SHA1,
                                    CKZ_DATA_SPECIFIED, NULL, 0};
    CK_MECHANISM mech = {CKM_RSA_PKCS_OAEP, &oaep, sizeof oaep};

    if (!o->token.has[MECH_RSA_PKCS_OAEP] || (sha256 && !o->token.quirks.oaep_sha256))
        return ERR_UNSUPPORTED;
    if (aad.n || c->body.n != k->alg->bits / 8 || !pubkey_rsa_in_range(k->public_der, c->body))
        return ERR_BADCIPHERTEXT;
    return crypt_decrypt(&o->token, &mech, k->handle, c->body, to, c->body.n, n);
}

/* to has raw.n bytes, more than any plaintext of it. */
static enum err decrypt(struct ops *o, const struct key *k, struct bytes aad, struct bytes raw, uint8_t *to, size_t *n)
{
    struct ciphertext c;
    enum err e = ciphertext_parse(raw, &c);

    *n = 0;
    if (e == ERR_OK && (!names_key(&c, k) || (c.cipher == CIPHER_AES_256_GCM) != (k->alg->kind == ALG_AES)))
        e = ERR_BADCIPHERTEXT;
    if (e != ERR_OK)
        return e;
    return k->alg->kind == ALG_AES ? decrypt_gcm(o, k, &c, aad, to, n) : decrypt_rsa(o, k, &c, aad, to, n);
}

enum err op_ENCRYPT(struct ops *o, const struct bytes *in, struct answer *a)
{
    struct key *k;
    enum err e = open_key(o, in, 1, ALG_CAN_ENCRYPT, &k);

    return e == ERR_OK ? encrypt(o, k, in[2], in[3], in[4], a) : e;
}

enum err op_DECRYPT(struct ops *o, const struct bytes *in, struct answer *a)
{
    struct key *k;
    uint8_t *to;
    size_t n = 0;
    enum err e = open_key(o, in, 1, ALG_CAN_ENCRYPT, &k);

    if (e == ERR_OK)
        e = answer_begin(a, in[3].n, &to);
    if (e == ERR_OK)
        e = decrypt(o, k, in[2], in[3], to, &n);
    if (e == ERR_OK)
        answer_end(a, n);
    return e;
}

enum err op_REWRAP(struct ops *o, const struct bytes *in, struct answer *a)
{
    size_t room = in[5].n ? in[5].n : 1, n = 0;
    uint8_t *plain = mem_secret_alloc(room);
    struct key *k;
    enum err e = plain ? open_key(o, in, 1, ALG_CAN_ENCRYPT, &k) : ERR_OOM;

    if (e == ERR_OK)
        e = decrypt(o, k, in[4], in[5], plain, &n);
    if (e == ERR_OK)
        e = open_key(o, in, 2, ALG_CAN_ENCRYPT, &k);
    if (e == ERR_OK)
        e = encrypt(o, k, in[3], in[4], bytes_of(plain, n), a);
    mem_secret_free(plain, room);
    return e;
}

enum err op_DATAKEY(struct ops *o, const struct bytes *in, struct answer *a)
{
    uint32_t n = in[4].n == 4 ? get_le32(in[4].p) : 0;
    uint8_t *key = NULL;
    struct key *k;
    enum err e;

    if (n == 0 || n > DATAKEY_MAX)
        return ERR_RANGE;
    key = mem_secret_alloc(n);
    e = key ? open_key(o, in, 1, ALG_CAN_ENCRYPT, &k) : ERR_OOM;
    if (e == ERR_OK)
        e = crypt_random(&o->token, key, n);
    if (e == ERR_OK)
        e = answer_put(a, bytes_of(key, n));
    if (e == ERR_OK)
        e = encrypt(o, k, in[2], in[3], bytes_of(key, n), a);
    mem_secret_free(key, n);
    return e;
}

/* ---- signatures ---- */

static enum err sign_rsa(struct ops *o, const struct key *k, const struct sig *s, struct bytes digest, uint8_t *out,
                         size_t *n)
{
    /* DigestInfo of SHA-256 (RFC 8017, 9.2 note 1): what CKM_RSA_PKCS pads. */
    static const uint8_t sha256_info[] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                          0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20};
    CK_RSA_PKCS_PSS_PARAMS pss = {CKM_SHA256, CKG_MGF1_SHA256, 32};
    CK_MECHANISM pss_mech = {CKM_RSA_PKCS_PSS, &pss, sizeof pss}, pkcs1_mech = {CKM_RSA_PKCS, NULL, 0};
    uint8_t info[sizeof sha256_info + 32];

    if (!o->token.has[s->code == SIG_RSA_PSS_SHA256 ? MECH_RSA_PKCS_PSS : MECH_RSA_PKCS])
        return ERR_UNSUPPORTED;
    if (s->code == SIG_RSA_PSS_SHA256)
        return crypt_sign(&o->token, &pss_mech, k->handle, digest, out, SIGNATURE_MAX, n);
    memcpy(info, sha256_info, sizeof sha256_info);
    memcpy(info + sizeof sha256_info, digest.p, 32);
    return crypt_sign(&o->token, &pkcs1_mech, k->handle, bytes_of(info, sizeof info), out, SIGNATURE_MAX, n);
}

static enum err sign_ec(struct ops *o, const struct key *k, struct bytes digest, uint8_t *out, size_t *n)
{
    CK_MECHANISM mech = {CKM_ECDSA, NULL, 0};
    uint8_t raw[2 * 48];
    size_t raw_n = 0;
    enum err e;

    if (!o->token.has[MECH_ECDSA])
        return ERR_UNSUPPORTED;
    e = crypt_sign(&o->token, &mech, k->handle, digest, raw, 2 * (k->alg->bits / 8), &raw_n);
    return e == ERR_OK ? pubkey_ecdsa_der(bytes_of(raw, raw_n), out, n) : e;
}

static enum err sign(struct ops *o, const struct key *k, const struct sig *s, int prehashed, struct bytes msg,
                     uint8_t *out, size_t *n)
{
    uint8_t digest[64];
    size_t digest_n = 0;
    enum err e;

    if (k->alg->kind == ALG_ED)
        return prehashed ? ERR_RANGE : softkey_sign(k->software, msg, out, n);
    e = pubkey_digest(s, prehashed, msg, digest, &digest_n);
    if (e != ERR_OK)
        return e;
    return k->alg->kind == ALG_RSA ? sign_rsa(o, k, s, bytes_of(digest, digest_n), out, n)
                                   : sign_ec(o, k, bytes_of(digest, digest_n), out, n);
}

/* u8 algorithm | u8 prehashed */
static enum err sign_mode(struct bytes part, uint8_t *code, int *prehashed)
{
    if (part.n != 2 || part.p[1] > 1)
        return ERR_SYNTAX;
    *code = part.p[0];
    *prehashed = part.p[1];
    return ERR_OK;
}

enum err op_SIGN(struct ops *o, const struct bytes *in, struct answer *a)
{
    uint8_t code = 0, signature[SIGNATURE_MAX];
    int prehashed = 0;
    size_t n = 0;
    struct key *k;
    const struct sig *s;
    enum err e = sign_mode(in[2], &code, &prehashed);

    if (e == ERR_OK)
        e = open_key(o, in, 1, ALG_CAN_SIGN, &k);
    if (e != ERR_OK)
        return e;
    s = sig_for(k->alg, code);
    if (!s)
        return ERR_KEYSTATE;
    e = sign(o, k, s, prehashed, in[3], signature, &n);
    return e == ERR_OK ? answer_put(a, bytes_of(signature, n)) : e;
}

enum err op_VERIFY(struct ops *o, const struct bytes *in, struct answer *a)
{
    uint8_t code = 0, good;
    int prehashed = 0, ok = 0;
    struct key *k;
    enum err e = sign_mode(in[2], &code, &prehashed);

    if (e == ERR_OK)
        e = open_key(o, in, 1, ALG_CAN_SIGN, &k); /* for its public key, which nothing but the HMAC vouches for */
    if (e == ERR_OK)
        e = pubkey_verify(k->public_der, code, prehashed, in[3], in[4], &ok);
    good = (uint8_t)ok;
    return e == ERR_OK ? answer_put(a, bytes_of(&good, 1)) : e;
}

/* ---- MACs ---- */

static enum err mac(struct ops *o, const struct bytes *in, uint8_t out[32])
{
    struct key *k;
    enum err e = open_key(o, in, 1, ALG_CAN_MAC, &k);

    return e == ERR_OK ? crypt_hmac(&o->token, k->handle, in[2], out) : e;
}

enum err op_MAC(struct ops *o, const struct bytes *in, struct answer *a)
{
    uint8_t out[32];
    enum err e = mac(o, in, out);

    return e == ERR_OK ? answer_put(a, bytes_of(out, sizeof out)) : e;
}

enum err op_VERIFYMAC(struct ops *o, const struct bytes *in, struct answer *a)
{
    uint8_t out[32], good;
    enum err e = mac(o, in, out);

    good = e == ERR_OK && in[3].n == sizeof out && mem_equal_ct(out, in[3].p, sizeof out);
    mem_wipe(out, sizeof out); /* the right MAC must not be learned from a wrong one */
    return e == ERR_OK ? answer_put(a, bytes_of(&good, 1)) : e;
}
