/* keys.c - generation, masking, unmasking and the cache of handles.
 *
 * Happy path of a request: the entry is found by key id and version, partition and blob are compared (a memcmp of some
 * hundred bytes, cheaper than any hash of them), and the handle is used. A miss costs an HMAC and an unwrap: 54 us for
 * AES on SoftHSM, 0.6 to 0.8 ms for EC and RSA.
 *
 * Generation: a session object, extractable for the moment that it takes to wrap it, then destroyed; what comes back by
 * unwrapping is not extractable, and where templates are kept the masking key itself insists on that. Software keys
 * (Ed25519): 32 random bytes of the HSM, sealed by the partition's KEK with the key header as additional data.
 *
 * Failure modes: a blob that does not verify never reaches C_UnwrapKey. One that verifies and does not unwrap is
 * ERR_BADBLOB too. An entry made before its partition was loaded anew does not match any more (partition.serial) and
 * ages out.
 *
 * Rejected: comparing the HMAC tag only (a forged header with a genuine tag would hit); keeping fresh keys in the cache
 * (they are extractable).
 */
#include "hsm/keys.h"

#include "base/mem.h"
#include "hsm/crypt.h"
#include "hsm/pubkey.h"
#include "hsm/token.h"

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(n) mem_alloc(n)
#define uthash_free(p, n) mem_free(p)
#include <uthash.h>
#include <utlist.h>

#define SEED_BYTES 32
#define SOFT_WRAPPED (GCM_NONCE + SEED_BYTES + GCM_TAG)
#define ENTRY_KEY (KEY_ID_BYTES + 4)

struct entry {
    uint8_t name[ENTRY_KEY]; /* key id, version */
    uint64_t partition;      /* serial */
    struct key key;
    struct entry *prev, *next; /* least recently used first */
    UT_hash_handle hh;
    size_t raw_n;
    uint8_t raw[];
};

struct keys {
    struct token *t;
    struct entry *by_name, *lru;
    unsigned max, cached;
    int hsm_only;
    uint64_t hits, misses;
};

static const uint8_t oid_p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
static const uint8_t oid_p384[] = {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22};
static const CK_ATTRIBUTE_TYPE use_crypt[] = {CKA_ENCRYPT, CKA_DECRYPT, 0};
static const CK_ATTRIBUTE_TYPE use_mac[] = {CKA_SIGN, CKA_VERIFY, 0};
static const CK_ATTRIBUTE_TYPE use_sign[] = {CKA_SIGN, 0};
static const CK_ATTRIBUTE_TYPE use_rsa[] = {CKA_SIGN, CKA_DECRYPT, 0};

/* How each kind of key looks to PKCS#11. */
static const struct kind_row {
    CK_OBJECT_CLASS class;
    CK_KEY_TYPE type;
    enum p11_mech generate;
    const CK_ATTRIBUTE_TYPE *uses;
} kinds[] = {
    [ALG_AES] = {CKO_SECRET_KEY, CKK_AES, MECH_AES_KEY_GEN, use_crypt},
    [ALG_HMAC] = {CKO_SECRET_KEY, CKK_GENERIC_SECRET, MECH_GENERIC_SECRET_KEY_GEN, use_mac},
    [ALG_RSA] = {CKO_PRIVATE_KEY, CKK_RSA, MECH_RSA_PKCS_KEY_PAIR_GEN, use_rsa},
    [ALG_EC] = {CKO_PRIVATE_KEY, CKK_EC, MECH_EC_KEY_PAIR_GEN, use_sign},
};

/* ---- the cache ---- */

enum err keys_new(struct keys **out, struct token *t, unsigned max, int hsm_only)
{
    *out = mem_zalloc(sizeof **out);
    if (!*out)
        return ERR_OOM;
    (*out)->t = t;
    (*out)->max = max ? max : 1;
    (*out)->hsm_only = hsm_only;
    return ERR_OK;
}

static void forget(struct keys *ks, struct entry *e)
{
    HASH_DEL(ks->by_name, e);
    DL_DELETE(ks->lru, e);
    ks->cached--;
    softkey_free(e->key.software);
    mem_free(e);
}

static void evict(struct keys *ks, struct entry *e)
{
    crypt_destroy(ks->t, e->key.handle);
    forget(ks, e);
}

void keys_drop(struct keys *ks)
{
    while (ks->lru)
        evict(ks, ks->lru);
}

void keys_free(struct keys *ks)
{
    if (!ks)
        return;
    while (ks->lru)
        forget(ks, ks->lru);
    mem_free(ks);
}

void keys_stats(const struct keys *ks, struct keys_stats *out)
{
    *out = (struct keys_stats){.hits = ks->hits, .misses = ks->misses, .cached = ks->cached};
}

static void entry_name(uint8_t name[ENTRY_KEY], const struct masked_head *head)
{
    memcpy(name, head->id, KEY_ID_BYTES);
    put_le32(name + KEY_ID_BYTES, head->version);
}

/* ---- unmasking ---- */

static enum err open_software(struct keys *ks, const struct partition *p, const struct masked *m, struct key *k)
{
    uint8_t aad[sizeof "coffer-key" - 1 + MASKED_KEY_HEADER], *seed = mem_secret_alloc(SEED_BYTES + GCM_TAG);
    size_t n = 0;
    enum err e = seed ? ERR_OK : ERR_OOM;

    if (e == ERR_OK && (ks->hsm_only || m->wrapped.n != SOFT_WRAPPED))
        e = ks->hsm_only ? ERR_UNSUPPORTED : ERR_BADBLOB;
    memcpy(aad, "coffer-key", sizeof "coffer-key" - 1);
    memcpy(aad + sizeof "coffer-key" - 1, m->raw.p, MASKED_KEY_HEADER);
    if (e == ERR_OK)
        e = crypt_gcm_open(ks->t, p->key[ROLE_KEK], m->wrapped.p, bytes_of(aad, sizeof aad),
                           bytes_of(m->wrapped.p + GCM_NONCE, SEED_BYTES + GCM_TAG), seed, &n);
    if (e == ERR_OK)
        e = softkey_new(bytes_of(seed, n), &k->software);
    mem_secret_free(seed, SEED_BYTES + GCM_TAG);
    return e == ERR_BADCIPHERTEXT ? ERR_BADBLOB : e;
}

static enum err open_hsm(struct keys *ks, const struct partition *p, const struct masked *m, struct key *k)
{
    const struct kind_row *row = &kinds[k->alg->kind];
    struct p11_template tpl;
    uint8_t point[128];
    size_t n = 0;
    CK_OBJECT_HANDLE handle = CK_INVALID_HANDLE;
    enum err e = ERR_OK;

    crypt_template(&tpl, row->class, row->type, 0, 0, row->uses);
    if (k->alg->kind == ALG_EC && ks->t->quirks.ec_point) {
        e = pubkey_point(m->public_der, point, &n);
        template_bytes(&tpl, COFFER_CKA_NSS_DB, point, n);
    }
    if (e == ERR_OK)
        e = crypt_unwrap(ks->t, p->key[ROLE_MASK], m->wrapped, &tpl, row->class == CKO_SECRET_KEY, &handle);
    k->handle = handle;
    return e;
}

/* An entry for a verified blob, in the cache; evicts what it replaces and what is over the limit. */
static enum err insert(struct keys *ks, struct entry *e)
{
    struct entry *old;

    HASH_FIND(hh, ks->by_name, e->name, ENTRY_KEY, old);
    if (old)
        evict(ks, old);
    while (ks->cached >= ks->max)
        evict(ks, ks->lru);
    HASH_ADD(hh, ks->by_name, name, ENTRY_KEY, e);
    if (!e->hh.tbl) /* no memory for the table */
        return ERR_OOM;
    DL_APPEND(ks->lru, e);
    ks->cached++;
    return ERR_OK;
}

static enum err unmask(struct keys *ks, const struct partition *p, const struct masked *m, struct entry **out)
{
    struct entry *entry;
    struct masked copy;
    enum err e = masked_verify(ks->t, p, m);

    if (e != ERR_OK)
        return e;
    entry = mem_zalloc(sizeof *entry + m->raw.n);
    if (!entry)
        return ERR_OOM;
    entry->raw_n = m->raw.n;
    memcpy(entry->raw, m->raw.p, m->raw.n);
    entry->partition = p->serial;
    entry_name(entry->name, &m->head);
    entry->key.head = m->head;
    entry->key.alg = alg_by_code(m->head.alg);
    e = masked_parse(bytes_of(entry->raw, entry->raw_n), &copy);
    entry->key.public_der = copy.public_der;
    if (e == ERR_OK)
        e = m->head.protection == PROTECTION_SOFTWARE ? open_software(ks, p, &copy, &entry->key)
                                                      : open_hsm(ks, p, &copy, &entry->key);
    if (e == ERR_OK)
        e = insert(ks, entry);
    if (e != ERR_OK) {
        crypt_destroy(ks->t, entry->key.handle);
        softkey_free(entry->key.software);
        mem_free(entry);
        return e;
    }
    *out = entry;
    return ERR_OK;
}

static int is_the_one(const struct entry *e, const struct partition *p, struct bytes raw)
{
    return e && e->partition == p->serial && bytes_equal(bytes_of(e->raw, e->raw_n), raw);
}

enum err keys_open(struct keys *ks, const struct partition *p, struct bytes raw, struct key **out)
{
    uint8_t name[ENTRY_KEY];
    struct masked m;
    struct entry *entry = NULL;
    enum err e = masked_parse(raw, &m);

    *out = NULL;
    if (e != ERR_OK)
        return e;
    entry_name(name, &m.head);
    HASH_FIND(hh, ks->by_name, name, ENTRY_KEY, entry);
    if (is_the_one(entry, p, raw)) {
        ks->hits++;
        if (entry->next) {
            DL_DELETE(ks->lru, entry);
            DL_APPEND(ks->lru, entry);
        }
    } else {
        ks->misses++;
        e = unmask(ks, p, &m, &entry);
    }
    if (e == ERR_OK)
        *out = &entry->key;
    return e;
}

/* ---- making keys ---- */

static enum err read_rsa(struct token *t, CK_OBJECT_HANDLE pub, uint8_t *der, size_t *n)
{
    uint8_t modulus[RSA_MAX_BLOCK + 1], exponent[8];
    CK_ATTRIBUTE a[] = {{CKA_MODULUS, modulus, sizeof modulus}, {CKA_PUBLIC_EXPONENT, exponent, sizeof exponent}};
    enum err e = p11_GetAttributeValue(&t->m, t->session, pub, a, 2);

    return e == ERR_OK
               ? pubkey_from_rsa(bytes_of(modulus, a[0].ulValueLen), bytes_of(exponent, a[1].ulValueLen), der, n)
               : e;
}

static enum err read_point(struct token *t, CK_OBJECT_HANDLE pub, unsigned bits, uint8_t *der, size_t *n)
{
    uint8_t point[128];
    CK_ATTRIBUTE a = {CKA_EC_POINT, point, sizeof point};
    enum err e = p11_GetAttributeValue(&t->m, t->session, pub, &a, 1);

    return e == ERR_OK ? pubkey_from_point(bits, bytes_of(point, a.ulValueLen), der, n) : e;
}

/* A key pair; the public key ends up in der, its object is destroyed. */
static enum err generate_pair(struct token *t, const struct alg *a, CK_OBJECT_HANDLE *key, uint8_t *der, size_t *n)
{
    static const uint8_t f4[] = {1, 0, 1};
    const struct kind_row *row = &kinds[a->kind];
    CK_MECHANISM mech = {p11_mechs[row->generate].type, NULL, 0};
    CK_OBJECT_HANDLE pub_o = CK_INVALID_HANDLE, prv_o = CK_INVALID_HANDLE;
    struct p11_template pub, prv;
    enum err e;

    template_init(&pub);
    template_bool(&pub, CKA_TOKEN, 0);
    template_bool(&pub, CKA_VERIFY, 1);
    if (a->kind == ALG_RSA) {
        template_number(&pub, CKA_MODULUS_BITS, a->bits);
        template_bytes(&pub, CKA_PUBLIC_EXPONENT, f4, sizeof f4);
    } else {
        template_bytes(&pub, CKA_EC_PARAMS, a->bits == 384 ? oid_p384 : oid_p256,
                       a->bits == 384 ? sizeof oid_p384 : sizeof oid_p256);
    }
    crypt_template(&prv, row->class, row->type, 0, 1, row->uses);
    t->objects += 2;
    e = p11_GenerateKeyPair(&t->m, t->keeper, &mech, pub.a, pub.n, prv.a, prv.n, &pub_o, &prv_o);
    if (e != ERR_OK)
        return e;
    e = a->kind == ALG_RSA ? read_rsa(t, pub_o, der, n) : read_point(t, pub_o, a->bits, der, n);
    crypt_destroy(t, pub_o);
    if (e == ERR_OK)
        *key = prv_o;
    else
        crypt_destroy(t, prv_o);
    return e;
}

static enum err generate_secret(struct token *t, const struct alg *a, CK_OBJECT_HANDLE *key)
{
    const struct kind_row *row = &kinds[a->kind];
    struct p11_template tpl;

    crypt_template(&tpl, row->class, row->type, 0, 1, row->uses);
    return crypt_generate(t, p11_mechs[row->generate].type, &tpl, key);
}

static enum err create_hsm(struct keys *ks, const struct partition *p, const struct alg *a, uint8_t *masked,
                           size_t *masked_n, uint8_t *der, size_t *der_n)
{
    struct token *t = ks->t;
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    uint8_t wrapped[MASKED_WRAPPED_MAX], *to;
    size_t n = 0;
    enum err e;

    if (!t->has[kinds[a->kind].generate])
        return ERR_UNSUPPORTED;
    e = a->asymmetric ? generate_pair(t, a, &key, der, der_n) : generate_secret(t, a, &key);
    if (e == ERR_OK)
        e = crypt_wrap(t, p->key[ROLE_MASK], key, wrapped, sizeof wrapped, &n);
    crypt_destroy(t, key);
    if (e == ERR_OK)
        e = masked_begin(masked, bytes_of(der, *der_n), n, &to);
    if (e != ERR_OK)
        return e;
    memcpy(to, wrapped, n);
    return masked_finish(t, p, masked, masked_n);
}

static enum err seal_seed(struct keys *ks, const struct partition *p, const uint8_t *head, const uint8_t *seed,
                          uint8_t *to)
{
    uint8_t aad[sizeof "coffer-key" - 1 + MASKED_KEY_HEADER];
    enum err e = crypt_nonce(ks->t, to);

    memcpy(aad, "coffer-key", sizeof "coffer-key" - 1);
    memcpy(aad + sizeof "coffer-key" - 1, head, MASKED_KEY_HEADER);
    if (e == ERR_OK)
        e = crypt_gcm_seal(ks->t, p->key[ROLE_KEK], to, bytes_of(aad, sizeof aad), bytes_of(seed, SEED_BYTES),
                           to + GCM_NONCE);
    return e;
}

static enum err create_software(struct keys *ks, const struct partition *p, uint8_t *masked, size_t *masked_n,
                                uint8_t *der, size_t *der_n)
{
    uint8_t *seed = mem_secret_alloc(SEED_BYTES), *to = NULL;
    void *key = NULL;
    enum err e = seed ? ERR_OK : ERR_OOM;

    if (ks->hsm_only)
        e = ERR_UNSUPPORTED;
    if (e == ERR_OK)
        e = crypt_random(ks->t, seed, SEED_BYTES);
    if (e == ERR_OK)
        e = softkey_new(bytes_of(seed, SEED_BYTES), &key);
    if (e == ERR_OK)
        e = softkey_public(key, der, der_n);
    if (e == ERR_OK)
        e = masked_begin(masked, bytes_of(der, *der_n), SOFT_WRAPPED, &to);
    if (e == ERR_OK)
        e = seal_seed(ks, p, masked, seed, to);
    if (e == ERR_OK)
        e = masked_finish(ks->t, p, masked, masked_n);
    softkey_free(key);
    mem_secret_free(seed, SEED_BYTES);
    return e;
}

enum err keys_create(struct keys *ks, const struct partition *p, struct bytes head, uint8_t *masked, size_t *masked_n,
                     uint8_t *public_der, size_t *public_n)
{
    struct masked_head h;
    const struct alg *a;
    enum err e = masked_get_head(head, &h);

    *masked_n = *public_n = 0;
    if (e != ERR_OK)
        return e;
    a = alg_by_code(h.alg);
    masked_put_head(masked, &h);
    if (a->protection == PROTECTION_SOFTWARE)
        e = create_software(ks, p, masked, masked_n, public_der, public_n);
    else
        e = create_hsm(ks, p, a, masked, masked_n, public_der, public_n);
    if (e != ERR_OK)
        *masked_n = *public_n = 0;
    return e;
}
