/* realm.c - the realm file; the bytes are in realm.h.
 *
 * Happy path: scrypt turns the passphrase into an AES-256 key, AES-256-GCM opens the four shares, and the fingerprints
 * in front are computed again from them. Everything in front of the nonce is additional data, so a flipped byte
 * anywhere is found: in magic, format, parameters or reserved bytes by the parser, elsewhere by the tag (a changed salt
 * or parameter gives another key, a changed nonce another key stream).
 *
 * Failure modes: a wrong passphrase and a changed file cannot be told apart, that is the nature of authenticated
 * encryption. The scrypt cost comes from the file, so it is bounded: 2^20 * 8 * 128 bytes = 1 GiB at most.
 *
 * Rejected: PKCS#12 or CMS (a parser larger than all this for 128 bytes); shares in the clear in a 0600 file (the file
 * is meant to travel); Argon2 (OpenSSL 3.0 has none).
 */
#include "hsm/realm.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/clock.h"
#include "base/mem.h"

static const char magic[8] = {'C', 'O', 'F', 'R', 'E', 'A', 'L', 'M'};

enum {
    FORMAT = 1,
    AT_FORMAT = 8,
    AT_KDF = 9,
    AT_LOG_N = 10,
    AT_R = 11,
    AT_P = 12,
    AT_RESERVED = 13,
    AT_ID = 16,
    AT_FINGERPRINTS = 32,
    AT_SALT = 96,
    SALT_BYTES = 32,
    AT_NONCE = 128,
    NONCE_BYTES = 12,
    AT_BODY = 140,
    BODY_BYTES = REALM_KEYS * REALM_KEY_BYTES,
    AT_TAG = 268,
    TAG_BYTES = 16,
    LOG_N_MIN = 10,
    LOG_N_MAX = 20,
    SCRYPT_R = 8,
    SCRYPT_P = 1
};

enum err realm_parse(struct bytes file, struct realm_info *out)
{
    static const uint8_t zero[AT_ID - AT_RESERVED];
    const uint8_t *f = file.p;

    memset(out, 0, sizeof *out);
    if (file.n != REALM_FILE_BYTES || !bytes_equal(bytes_of(f, sizeof magic), bytes_of(magic, sizeof magic)))
        return ERR_CORRUPT;
    if (f[AT_FORMAT] != FORMAT || f[AT_KDF] != REALM_KDF || f[AT_LOG_N] < LOG_N_MIN || f[AT_LOG_N] > LOG_N_MAX)
        return ERR_CORRUPT;
    if (f[AT_R] != SCRYPT_R || f[AT_P] != SCRYPT_P ||
        !bytes_equal(bytes_of(f + AT_RESERVED, sizeof zero), bytes_of(zero, sizeof zero)))
        return ERR_CORRUPT;
    memcpy(out->id, f + AT_ID, sizeof out->id);
    memcpy(out->fingerprint, f + AT_FINGERPRINTS, sizeof out->fingerprint);
    return ERR_OK;
}

void realm_fingerprint_text(const uint8_t id[REALM_ID_BYTES], enum realm_key k, uint8_t out[REALM_TEXT_BYTES])
{
    static const char label[] = "coffer-realm";

    _Static_assert(sizeof label - 1 + 1 + REALM_ID_BYTES == REALM_TEXT_BYTES, "label, role, realm id");
    memcpy(out, label, sizeof label - 1);
    out[sizeof label - 1] = (uint8_t)REALM_ROLE(k);
    memcpy(out + sizeof label, id, REALM_ID_BYTES);
}

enum err realm_fingerprint(const struct realm *r, enum realm_key k, uint8_t out[REALM_FINGERPRINT_BYTES])
{
    uint8_t text[REALM_TEXT_BYTES], mac[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    memset(out, 0, REALM_FINGERPRINT_BYTES);
    realm_fingerprint_text(r->id, k, text);
    if (!HMAC(EVP_sha256(), r->key[k], REALM_KEY_BYTES, text, sizeof text, mac, &n))
        return ERR_INTERNAL;
    memcpy(out, mac, REALM_FINGERPRINT_BYTES);
    return ERR_OK;
}

enum err realm_generate(struct realm *out)
{
    enum err e = clock_random(out->id, sizeof out->id);

    if (e == ERR_OK)
        e = clock_random(out->key, sizeof out->key);
    if (e != ERR_OK)
        mem_wipe(out, sizeof *out);
    return e;
}

/* key is 32 bytes of secret memory. */
static enum err derive(const uint8_t *f, struct bytes passphrase, uint8_t *key)
{
    uint64_t n = (uint64_t)1 << f[AT_LOG_N], memory = n * SCRYPT_R * 128 + (1u << 20);
    int ok = EVP_PBE_scrypt((const char *)passphrase.p, passphrase.n, f + AT_SALT, SALT_BYTES, n, SCRYPT_R, SCRYPT_P,
                            memory, key, 32);

    return ok == 1 ? ERR_OK : ERR_OOM; /* parameters were checked: memory is all it can lack */
}

static int gcm_encrypt(EVP_CIPHER_CTX *c, const uint8_t *key, uint8_t *f, const struct realm *r)
{
    int n;

    return EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, f + AT_NONCE) == 1 &&
           EVP_EncryptUpdate(c, NULL, &n, f, AT_NONCE) == 1 &&
           EVP_EncryptUpdate(c, f + AT_BODY, &n, &r->key[0][0], BODY_BYTES) == 1 &&
           EVP_EncryptFinal_ex(c, f + AT_TAG, &n) == 1 &&
           EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, f + AT_TAG) == 1;
}

static int gcm_decrypt(EVP_CIPHER_CTX *c, const uint8_t *key, const uint8_t *f, struct realm *r)
{
    uint8_t tag[TAG_BYTES], none[16];
    int n;

    memcpy(tag, f + AT_TAG, sizeof tag);
    return EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, f + AT_NONCE) == 1 &&
           EVP_DecryptUpdate(c, NULL, &n, f, AT_NONCE) == 1 &&
           EVP_DecryptUpdate(c, &r->key[0][0], &n, f + AT_BODY, BODY_BYTES) == 1 &&
           EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, tag) == 1 && EVP_DecryptFinal_ex(c, none, &n) == 1;
}

static enum err put_front(const struct realm *r, unsigned cost, uint8_t *f)
{
    enum err e = ERR_OK;

    memset(f, 0, REALM_FILE_BYTES);
    memcpy(f, magic, sizeof magic);
    f[AT_FORMAT] = FORMAT;
    f[AT_KDF] = REALM_KDF;
    f[AT_LOG_N] = (uint8_t)cost;
    f[AT_R] = SCRYPT_R;
    f[AT_P] = SCRYPT_P;
    memcpy(f + AT_ID, r->id, REALM_ID_BYTES);
    for (unsigned k = 0; k < REALM_KEYS && e == ERR_OK; k++)
        e = realm_fingerprint(r, k, f + AT_FINGERPRINTS + k * REALM_FINGERPRINT_BYTES);
    if (e == ERR_OK)
        e = clock_random(f + AT_SALT, SALT_BYTES + NONCE_BYTES);
    return e;
}

enum err realm_seal(const struct realm *r, struct bytes passphrase, unsigned cost, uint8_t out[REALM_FILE_BYTES])
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    uint8_t *key = mem_secret_alloc(32);
    enum err e = put_front(r, cost, out);

    if (cost < LOG_N_MIN || cost > LOG_N_MAX)
        e = ERR_RANGE;
    if (e == ERR_OK && (!c || !key))
        e = ERR_OOM;
    if (e == ERR_OK)
        e = derive(out, passphrase, key);
    if (e == ERR_OK && !gcm_encrypt(c, key, out, r))
        e = ERR_INTERNAL;
    if (e != ERR_OK)
        memset(out, 0, REALM_FILE_BYTES);
    mem_secret_free(key, 32);
    EVP_CIPHER_CTX_free(c);
    return e;
}

/* The tag says that the file is as it was written; the fingerprints, that it was written by the same rules. */
static enum err check_fingerprints(const struct realm *r, const struct realm_info *info)
{
    uint8_t got[REALM_FINGERPRINT_BYTES];
    enum err e = ERR_OK;

    for (unsigned k = 0; k < REALM_KEYS && e == ERR_OK; k++) {
        e = realm_fingerprint(r, k, got);
        if (e == ERR_OK && !mem_equal_ct(got, info->fingerprint[k], sizeof got))
            e = ERR_CORRUPT;
    }
    return e;
}

enum err realm_unseal(struct bytes file, struct bytes passphrase, struct realm *out)
{
    struct realm_info info;
    EVP_CIPHER_CTX *c = NULL;
    uint8_t *key = NULL;
    enum err e = realm_parse(file, &info);

    memset(out, 0, sizeof *out);
    if (e != ERR_OK)
        return e;
    c = EVP_CIPHER_CTX_new();
    key = mem_secret_alloc(32);
    if (!c || !key)
        e = ERR_OOM;
    if (e == ERR_OK)
        e = derive(file.p, passphrase, key);
    if (e == ERR_OK && !gcm_decrypt(c, key, file.p, out))
        e = ERR_WRONGPASS;
    memcpy(out->id, info.id, sizeof out->id);
    if (e == ERR_OK)
        e = check_fingerprints(out, &info);
    if (e != ERR_OK)
        mem_wipe(out, sizeof *out);
    mem_secret_free(key, 32);
    EVP_CIPHER_CTX_free(c);
    return e;
}
