/* masked.c - the bytes of masked objects; masked.h has the layout.
 *
 * The parser accepts one reading only: lengths must add up to the blob's size, reserved bytes must be zero, the
 * algorithm must be in the table, the protection must be the algorithm's, and a public key must be there exactly for
 * asymmetric ones. All of it is covered by the HMAC as well; the parser runs first so that what is verified is
 * well-formed.
 */
#include "hsm/masked.h"

#include "base/mem.h"
#include "hsm/alg.h"
#include "hsm/crypt.h"
#include "hsm/partition.h"

static const char magic[4] = {'C', 'K', 'E', 'Y'};

enum {
    FORMAT = 1,
    AT_FORMAT = 4,
    AT_ALG = 5,
    AT_PROTECTION = 6,
    AT_RESERVED = 7,
    AT_VAULT = 8,
    AT_ID = 16,
    AT_VERSION = 32,
    AT_LENGTHS = MASKED_KEY_HEADER,
    AT_PUBLIC = 40
};

void masked_put_head(uint8_t out[MASKED_KEY_HEADER], const struct masked_head *head)
{
    const struct alg *a = alg_by_code(head->alg);

    memset(out, 0, MASKED_KEY_HEADER);
    memcpy(out, magic, sizeof magic);
    out[AT_FORMAT] = FORMAT;
    out[AT_ALG] = head->alg;
    out[AT_PROTECTION] = a ? a->protection : head->protection;
    put_le64(out + AT_VAULT, head->vault);
    memcpy(out + AT_ID, head->id, KEY_ID_BYTES);
    put_le32(out + AT_VERSION, head->version);
}

enum err masked_get_head(struct bytes raw, struct masked_head *out)
{
    const uint8_t *h = raw.p;
    const struct alg *a;

    memset(out, 0, sizeof *out);
    if (raw.n != MASKED_KEY_HEADER || !bytes_equal(bytes_of(h, sizeof magic), bytes_of(magic, sizeof magic)))
        return ERR_BADBLOB;
    a = alg_by_code(h[AT_ALG]);
    if (h[AT_FORMAT] != FORMAT || !a || h[AT_PROTECTION] != a->protection || h[AT_RESERVED] != 0)
        return ERR_BADBLOB;
    out->alg = h[AT_ALG];
    out->protection = h[AT_PROTECTION];
    out->vault = get_le64(h + AT_VAULT);
    memcpy(out->id, h + AT_ID, KEY_ID_BYTES);
    out->version = get_le32(h + AT_VERSION);
    return ERR_OK;
}

enum err masked_parse(struct bytes raw, struct masked *out)
{
    struct bytes rest = raw, head = {0}, lengths = {0};
    enum err e;

    memset(out, 0, sizeof *out);
    if (raw.n > MASKED_MAX || !bytes_take(&rest, MASKED_KEY_HEADER, &head) || !bytes_take(&rest, 4, &lengths))
        return ERR_BADBLOB;
    e = masked_get_head(head, &out->head);
    if (e != ERR_OK)
        return e;
    if (!bytes_take(&rest, get_le16(lengths.p), &out->public_der) ||
        !bytes_take(&rest, get_le16(lengths.p + 2), &out->wrapped) || !bytes_take(&rest, MASKED_MAC, &out->mac) ||
        rest.n != 0)
        return ERR_BADBLOB;
    if (out->wrapped.n == 0 || (out->public_der.n != 0) != alg_by_code(out->head.alg)->asymmetric)
        return ERR_BADBLOB;
    out->raw = raw;
    return ERR_OK;
}

enum err masked_verify(struct token *t, const struct partition *p, const struct masked *m)
{
    uint8_t mac[MASKED_MAC];
    enum err e = crypt_hmac(t, p->key[ROLE_HMAC], bytes_of(m->raw.p, m->raw.n - MASKED_MAC), mac);

    return e == ERR_OK && !mem_equal_ct(mac, m->mac.p, sizeof mac) ? ERR_BADBLOB : e;
}

enum err masked_begin(uint8_t out[MASKED_MAX], struct bytes public_der, size_t wrapped_n, uint8_t **wrapped)
{
    *wrapped = NULL;
    if (public_der.n > MASKED_PUBLIC_MAX || wrapped_n > MASKED_WRAPPED_MAX)
        return ERR_TOOBIG;
    put_le16(out + AT_LENGTHS, (uint16_t)public_der.n);
    put_le16(out + AT_LENGTHS + 2, (uint16_t)wrapped_n);
    if (public_der.n)
        memcpy(out + AT_PUBLIC, public_der.p, public_der.n);
    *wrapped = out + AT_PUBLIC + public_der.n;
    return ERR_OK;
}

enum err masked_finish(struct token *t, const struct partition *p, uint8_t out[MASKED_MAX], size_t *n)
{
    size_t covered = (size_t)AT_PUBLIC + get_le16(out + AT_LENGTHS) + get_le16(out + AT_LENGTHS + 2);
    enum err e = crypt_hmac(t, p->key[ROLE_HMAC], bytes_of(out, covered), out + covered);

    *n = e == ERR_OK ? covered + MASKED_MAC : 0;
    return e;
}
