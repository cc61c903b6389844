/* ciphertext.c - the bytes of self-describing ciphertexts; ciphertext.h has the layout. */
#include "hsm/ciphertext.h"

static const char magic[4] = {'C', 'E', 'N', 'C'};

enum {
    FORMAT = 1,
    AT_FORMAT = 4,
    AT_CIPHER = 5,
    AT_RESERVED = 6,
    AT_ID = 8,
    AT_VERSION = 24,
    RSA_MIN = 256,
    RSA_MAX = 512
};

void ciphertext_put_header(uint8_t out[CIPHERTEXT_HEADER], uint8_t cipher, const uint8_t id[KEY_ID_BYTES],
                           uint32_t version)
{
    memset(out, 0, CIPHERTEXT_HEADER);
    memcpy(out, magic, sizeof magic);
    out[AT_FORMAT] = FORMAT;
    out[AT_CIPHER] = cipher;
    memcpy(out + AT_ID, id, KEY_ID_BYTES);
    put_le32(out + AT_VERSION, version);
}

static enum err get_header(struct bytes header, struct ciphertext *out)
{
    const uint8_t *h = header.p;

    if (!bytes_equal(bytes_of(h, sizeof magic), bytes_of(magic, sizeof magic)) || h[AT_FORMAT] != FORMAT ||
        get_le16(h + AT_RESERVED) != 0)
        return ERR_BADCIPHERTEXT;
    out->cipher = h[AT_CIPHER];
    memcpy(out->id, h + AT_ID, KEY_ID_BYTES);
    out->version = get_le32(h + AT_VERSION);
    out->header = header;
    return ERR_OK;
}

enum err ciphertext_get_request(struct bytes header, struct ciphertext *out)
{
    enum err e;

    memset(out, 0, sizeof *out);
    if (header.n != CIPHERTEXT_HEADER)
        return ERR_BADCIPHERTEXT;
    e = get_header(header, out);
    return e == ERR_OK && out->cipher != CIPHER_ANY ? ERR_BADCIPHERTEXT : e;
}

enum err ciphertext_parse(struct bytes raw, struct ciphertext *out)
{
    struct bytes header = {0};
    enum err e;

    memset(out, 0, sizeof *out);
    if (!bytes_take(&raw, CIPHERTEXT_HEADER, &header))
        return ERR_BADCIPHERTEXT;
    e = get_header(header, out);
    if (e != ERR_OK)
        return e;
    if (out->cipher == CIPHER_AES_256_GCM) {
        if (!bytes_take(&raw, CIPHERTEXT_NONCE, &out->nonce) || raw.n < CIPHERTEXT_TAG)
            return ERR_BADCIPHERTEXT;
    } else if (out->cipher == CIPHER_RSA_OAEP_SHA1 || out->cipher == CIPHER_RSA_OAEP_SHA256) {
        if (raw.n < RSA_MIN || raw.n > RSA_MAX)
            return ERR_BADCIPHERTEXT;
    } else {
        return ERR_BADCIPHERTEXT;
    }
    out->body = raw;
    return ERR_OK;
}
