/* ops_realm.c - data keys that belong to the realm and to no vault: for files that leave the node.
 *
 * None of the realm's four keys can encrypt: wrap may wrap and unwrap (and what it unwraps stays sensitive, so that no
 * data key can be read out of it), vendor, adapter and mac make HMACs. Giving one of them another use would weaken what
 * it is for. So each data key has a key-encryption key of its own: an AES key made in the HSM, wrapped by wrap, used
 * once, with AES-GCM, and destroyed. Opening unwraps it and opens the data key; any node of the realm can.
 *
 * The HMAC by mac is over all of it and the context, under a label of its own, and is verified before anything is
 * unwrapped. It is needed: AES-KWP binds neither type nor use, and partition configs are full of keys that wrap has
 * wrapped. It is also why no module is ever asked to unwrap rubbish, whose answers to that differ (docs/hsm.md).
 *
 * Rejected: deriving the data key from mac by HMAC of something random (one key for signing and for secrecy); a fifth
 * realm key (every token would need a new ceremony); a partition of its own (its config would have to travel along).
 */
#include "base/mem.h"
#include "hsm/crypt.h"
#include "hsm/ops.h"

enum {
    FORMAT = 1,
    KEK_BYTES = 40, /* 32 in AES-KWP */
    SEALED_BYTES = DEK_BYTES + GCM_TAG,
    AT_KEK = 1,
    AT_NONCE = AT_KEK + KEK_BYTES,
    AT_SEALED = AT_NONCE + GCM_NONCE,
    AT_MAC = AT_SEALED + SEALED_BYTES,
    MAC_BYTES = 32
};
_Static_assert(AT_MAC + MAC_BYTES == REALM_DEK_WRAPPED_BYTES, "as in ops.h");

static const char label[] = "coffer-realm-dek";

struct kek_template {
    struct p11_template t;
    CK_MECHANISM_TYPE allowed;
};

/* extractable: it is about to be wrapped. Trusted as a partition's keys: wrap's CKA_UNWRAP_TEMPLATE asks for it. */
static void kek_template(const struct token *t, struct kek_template *k, int extractable)
{
    static const CK_ATTRIBUTE_TYPE seal[] = {CKA_ENCRYPT, 0}, open[] = {CKA_DECRYPT, 0};

    crypt_template(&k->t, CKO_SECRET_KEY, CKK_AES, 0, extractable, extractable ? seal : open);
    if (t->quirks.trusted)
        template_bool(&k->t, CKA_WRAP_WITH_TRUSTED, 1);
    if (!t->quirks.templates)
        return;
    k->allowed = CKM_AES_GCM;
    template_bytes(&k->t, CKA_ALLOWED_MECHANISMS, &k->allowed, sizeof k->allowed);
}

/* label | first | second, in the scratch buffer. */
static enum err gather(struct ops *o, struct bytes first, struct bytes second, struct bytes *out)
{
    enum err e;

    buf_clear(&o->aad);
    e = buf_put(&o->aad, label, sizeof label - 1);
    if (e == ERR_OK)
        e = buf_put(&o->aad, first.p, first.n);
    if (e == ERR_OK)
        e = buf_put(&o->aad, second.p, second.n);
    *out = buf_bytes(&o->aad);
    return e;
}

static enum err make_mac(struct ops *o, const uint8_t *wrapped, struct bytes context, uint8_t mac[MAC_BYTES])
{
    struct bytes text;
    enum err e = gather(o, bytes_of(wrapped, AT_MAC), context, &text);

    return e == ERR_OK ? crypt_hmac(&o->token, o->token.realm_key[REALM_MAC], text, mac) : e;
}

/* ---- NEW ---- */

static enum err seal_under(struct ops *o, CK_OBJECT_HANDLE kek, struct bytes context, const uint8_t *key,
                           uint8_t *wrapped)
{
    struct token *t = &o->token;
    struct bytes aad;
    size_t n = 0;
    enum err e = crypt_wrap(t, t->realm_key[REALM_WRAP], kek, wrapped + AT_KEK, KEK_BYTES, &n);

    if (e == ERR_OK && n != KEK_BYTES)
        e = ERR_INTERNAL;
    if (e == ERR_OK)
        e = crypt_nonce(t, wrapped + AT_NONCE);
    if (e == ERR_OK)
        e = gather(o, bytes_of(wrapped, 1), context, &aad);
    if (e == ERR_OK)
        e = crypt_gcm_seal(t, kek, wrapped + AT_NONCE, aad, bytes_of(key, DEK_BYTES), wrapped + AT_SEALED);
    return e == ERR_OK ? make_mac(o, wrapped, context, wrapped + AT_MAC) : e;
}

static enum err seal_key(struct ops *o, struct bytes context, const uint8_t *key, uint8_t *wrapped)
{
    struct kek_template k;
    CK_OBJECT_HANDLE kek;
    enum err e;

    kek_template(&o->token, &k, 1);
    e = crypt_generate(&o->token, CKM_AES_KEY_GEN, &k.t, &kek);
    if (e == ERR_OK)
        e = seal_under(o, kek, context, key, wrapped);
    crypt_destroy(&o->token, kek);
    return e;
}

enum err op_REALM_DEK_NEW(struct ops *o, const struct bytes *in, struct answer *a)
{
    uint8_t wrapped[REALM_DEK_WRAPPED_BYTES] = {FORMAT}, *key;
    enum err e;

    if (in[0].n > REALM_DEK_CONTEXT_MAX)
        return ERR_TOOBIG;
    e = answer_begin(a, DEK_BYTES, &key);
    if (e == ERR_OK)
        e = crypt_random(&o->token, key, DEK_BYTES);
    if (e == ERR_OK)
        e = seal_key(o, in[0], key, wrapped);
    if (e != ERR_OK)
        return e;
    answer_end(a, DEK_BYTES);
    return answer_put(a, bytes_of(wrapped, sizeof wrapped));
}

/* ---- OPEN ---- */

static enum err open_under(struct ops *o, CK_OBJECT_HANDLE kek, struct bytes context, const uint8_t *wrapped,
                           struct answer *a)
{
    struct bytes aad;
    uint8_t *key;
    size_t n = 0;
    enum err e = gather(o, bytes_of(wrapped, 1), context, &aad);

    if (e == ERR_OK)
        e = answer_begin(a, SEALED_BYTES, &key);
    if (e == ERR_OK)
        e = crypt_gcm_open(&o->token, kek, wrapped + AT_NONCE, aad, bytes_of(wrapped + AT_SEALED, SEALED_BYTES), key,
                           &n);
    if (e == ERR_OK)
        answer_end(a, n);
    return e == ERR_BADCIPHERTEXT ? ERR_BADBLOB : e;
}

enum err op_REALM_DEK_OPEN(struct ops *o, const struct bytes *in, struct answer *a)
{
    const uint8_t *wrapped = in[1].p;
    struct token *t = &o->token;
    uint8_t mac[MAC_BYTES];
    struct kek_template k;
    CK_OBJECT_HANDLE kek;
    enum err e;

    if (in[0].n > REALM_DEK_CONTEXT_MAX)
        return ERR_TOOBIG;
    if (in[1].n != REALM_DEK_WRAPPED_BYTES || wrapped[0] != FORMAT)
        return ERR_BADBLOB;
    e = make_mac(o, wrapped, in[0], mac);
    if (e == ERR_OK && !mem_equal_ct(mac, wrapped + AT_MAC, MAC_BYTES))
        e = ERR_BADBLOB;
    if (e != ERR_OK)
        return e;
    kek_template(t, &k, 0);
    e = crypt_unwrap(t, t->realm_key[REALM_WRAP], bytes_of(wrapped + AT_KEK, KEK_BYTES), &k.t, 1, &kek);
    if (e == ERR_OK)
        e = open_under(o, kek, in[0], wrapped, a);
    crypt_destroy(t, kek);
    return e;
}
