/* partition.c - the four keys of a vault: made, exported, imported, destroyed, held.
 *
 * Happy path of a request: the config's id is in the table, the config is byte for byte the one that was verified, the
 * four session handles are there. No HSM call. First sight of a config: the realm MAC key's HMAC over it is computed
 * and compared, then each key is copied from its token object into a session object (when the four were found at start
 * and give the fingerprint), else unwrapped from the config. Session objects, because SoftHSM opens and locks a file
 * for each use of a token object.
 *
 * Creation: the keys are generated as session objects and wrapped into the config; then the same import as on every
 * other node puts them in the token. So one path makes token objects, it can be repeated when it failed half-way, and
 * what a failed creation leaves are session objects.
 *
 * Failure modes: an empty search is believed only after token_probe. A set of token objects that does not give the
 * config's fingerprint (a node restored from somewhere else, a creation that was never logged) is replaced: the log is
 * right, the token is its cache.
 *
 * Rejected: using token objects directly (twice the time per operation); searching the token for a config that was not
 * known at start (O(objects), on a request's way).
 */
#include "hsm/partition.h"

#include "base/clock.h"
#include "base/mem.h"
#include "hsm/crypt.h"
#include "hsm/token.h"
#include "hsm/tokendir.h"

#define HASH_NONFATAL_OOM 1
#define uthash_malloc(n) mem_alloc(n)
#define uthash_free(p, n) mem_free(p)
#include <uthash.h>
#include <utlist.h>

static const char magic[4] = {'C', 'P', 'A', 'R'};

enum {
    FORMAT = 1,
    AT_FORMAT = 4,
    AT_KDF = 5,
    AT_RESERVED = 6,
    AT_REALM = 8,
    AT_ID = 24,
    AT_FINGERPRINT = 40,
    AT_KEYS = 56,
    KEY_ENTRY = 44,
    KEY_HEAD = 4,
    WRAPPED = 40,
    AT_MAC = 232,
    MAC = 32,
    DUPLICATES_MAX = 16 /* token objects of one id and role that a destroy looks for at once */
};

struct entry {
    struct partition p; /* key: p.id */
    CK_OBJECT_HANDLE token[PARTITION_ROLES];
    uint8_t config[PARTITION_CONFIG_BYTES];
    int loaded, found;         /* found: at start, so whoever made it is through with that */
    struct entry *prev, *next; /* of the loaded ones, least recently used first */
    UT_hash_handle hh;
};

struct partitions {
    struct token *t;
    struct entry *by_id, *lru;
    unsigned max, loaded;
    uint64_t serial;
};

/* ---- the config's bytes ---- */

static const struct role_row {
    uint8_t type; /* in the config */
    CK_KEY_TYPE key_type;
    CK_MECHANISM_TYPE generate, allowed; /* allowed 0: the module's number of KWP */
    CK_ATTRIBUTE_TYPE uses[3];
} roles[PARTITION_ROLES] = {
    [ROLE_MASK] = {1, CKK_AES, CKM_AES_KEY_GEN, 0, {CKA_WRAP, CKA_UNWRAP}},
    [ROLE_HMAC] = {2, CKK_GENERIC_SECRET, CKM_GENERIC_SECRET_KEY_GEN, CKM_SHA256_HMAC, {CKA_SIGN, CKA_VERIFY}},
    [ROLE_KBK] = {1, CKK_AES, CKM_AES_KEY_GEN, CKM_AES_CBC_ENCRYPT_DATA, {CKA_DERIVE}},
    [ROLE_KEK] = {1, CKK_AES, CKM_AES_KEY_GEN, CKM_AES_GCM, {CKA_ENCRYPT, CKA_DECRYPT}},
};

enum err partition_parse(struct bytes raw, struct partition_config *out)
{
    const uint8_t *c = raw.p;

    memset(out, 0, sizeof *out);
    if (raw.n != PARTITION_CONFIG_BYTES || !bytes_equal(bytes_of(c, sizeof magic), bytes_of(magic, sizeof magic)))
        return ERR_BADBLOB;
    if (c[AT_FORMAT] != FORMAT || c[AT_KDF] != REALM_KDF || get_le16(c + AT_RESERVED) != 0)
        return ERR_BADBLOB;
    for (unsigned r = 0; r < PARTITION_ROLES; r++) {
        const uint8_t *k = c + AT_KEYS + r * KEY_ENTRY;

        if (k[0] != r || k[1] != roles[r].type || get_le16(k + 2) != WRAPPED)
            return ERR_BADBLOB;
        out->wrapped[r] = bytes_of(k + KEY_HEAD, WRAPPED);
    }
    out->kdf = c[AT_KDF];
    out->realm = bytes_of(c + AT_REALM, REALM_ID_BYTES);
    out->id = bytes_of(c + AT_ID, PARTITION_ID_BYTES);
    out->fingerprint = bytes_of(c + AT_FINGERPRINT, PARTITION_FINGERPRINT_BYTES);
    out->mac = bytes_of(c + AT_MAC, MAC);
    out->raw = raw;
    return ERR_OK;
}

static enum err fingerprint(struct token *t, CK_OBJECT_HANDLE hmac_key, const uint8_t *id,
                            uint8_t out[PARTITION_FINGERPRINT_BYTES])
{
    static const char label[] = "coffer-partition";
    uint8_t text[sizeof label - 1 + REALM_ID_BYTES + PARTITION_ID_BYTES], mac[32];
    enum err e;

    memcpy(text, label, sizeof label - 1);
    memcpy(text + sizeof label - 1, t->realm, REALM_ID_BYTES);
    memcpy(text + sizeof label - 1 + REALM_ID_BYTES, id, PARTITION_ID_BYTES);
    e = crypt_hmac(t, hmac_key, bytes_of(text, sizeof text), mac);
    memcpy(out, mac, PARTITION_FINGERPRINT_BYTES);
    return e;
}

/* Parses and verifies. */
static enum err verify_config(struct token *t, struct bytes raw, struct partition_config *c)
{
    uint8_t mac[MAC];
    enum err e = partition_parse(raw, c);

    if (e == ERR_OK && !bytes_equal(c->realm, bytes_of(t->realm, sizeof t->realm)))
        e = ERR_BADBLOB;
    if (e == ERR_OK)
        e = crypt_hmac(t, t->realm_key[REALM_MAC], bytes_of(raw.p, AT_MAC), mac);
    if (e == ERR_OK && !mem_equal_ct(mac, c->mac.p, MAC))
        e = ERR_BADBLOB;
    return e;
}

/* ---- templates ---- */

struct key_template {
    struct p11_template t, unwrap;
    CK_MECHANISM_TYPE allowed;
    uint8_t id[TOKEN_KEY_ID_BYTES];
};

/* token 1: a token object, with its id and label. */
static void key_template(struct token *t, struct key_template *k, const uint8_t *id, unsigned role, int token)
{
    const struct role_row *row = &roles[role];
    const char *label = token_key_label(role);

    crypt_template(&k->t, CKO_SECRET_KEY, row->key_type, token, 1, row->uses);
    if (token) {
        token_key_id(k->id, id, role);
        template_bytes(&k->t, CKA_ID, k->id, sizeof k->id);
        template_bytes(&k->t, CKA_LABEL, label, strlen(label));
    }
    if (t->quirks.trusted)
        template_bool(&k->t, CKA_WRAP_WITH_TRUSTED, 1);
    if (!t->quirks.templates)
        return;
    k->allowed = row->allowed ? row->allowed : t->quirks.kwp;
    template_bytes(&k->t, CKA_ALLOWED_MECHANISMS, &k->allowed, sizeof k->allowed);
    if (role != ROLE_MASK)
        return;
    /* Nothing the masking key unwraps can ever leave again. */
    template_init(&k->unwrap);
    template_bool(&k->unwrap, CKA_TOKEN, 0);
    template_bool(&k->unwrap, CKA_PRIVATE, 1);
    template_bool(&k->unwrap, CKA_SENSITIVE, 1);
    template_bool(&k->unwrap, CKA_EXTRACTABLE, 0);
    template_bytes(&k->t, CKA_UNWRAP_TEMPLATE, k->unwrap.a, k->unwrap.n * sizeof k->unwrap.a[0]);
}

static enum err unwrap_key(struct token *t, const struct partition_config *c, unsigned role, int token,
                           CK_OBJECT_HANDLE *out)
{
    struct key_template k;

    key_template(t, &k, c->id.p, role, token);
    return crypt_unwrap(t, t->realm_key[REALM_WRAP], c->wrapped[role], &k.t, 1, out);
}

/* ---- the table ---- */

enum err partitions_new(struct partitions **out, struct token *t, unsigned max)
{
    *out = mem_zalloc(sizeof **out);
    if (!*out)
        return ERR_OOM;
    (*out)->t = t;
    (*out)->max = max ? max : 1;
    return ERR_OK;
}

static void forget_all(struct partitions *ps)
{
    struct entry *e, *next;

    HASH_ITER (hh, ps->by_id, e, next) {
        HASH_DEL(ps->by_id, e);
        mem_free(e);
    }
    ps->by_id = NULL;
    ps->lru = NULL;
    ps->loaded = 0;
}

void partitions_free(struct partitions *ps)
{
    if (!ps)
        return;
    forget_all(ps);
    mem_free(ps);
}

static struct entry *look_up(struct partitions *ps, const uint8_t *id)
{
    struct entry *e;

    HASH_FIND(hh, ps->by_id, id, PARTITION_ID_BYTES, e);
    return e;
}

static struct entry *look_up_or_add(struct partitions *ps, const uint8_t *id)
{
    struct entry *e = look_up(ps, id);

    if (e)
        return e;
    e = mem_zalloc(sizeof *e);
    if (!e)
        return NULL;
    memcpy(e->p.id, id, PARTITION_ID_BYTES);
    HASH_ADD(hh, ps->by_id, p.id, PARTITION_ID_BYTES, e);
    if (!e->hh.tbl) { /* no memory for the table */
        mem_free(e);
        return NULL;
    }
    return e;
}

static void unload(struct partitions *ps, struct entry *e)
{
    if (!e->loaded)
        return;
    for (unsigned r = 0; r < PARTITION_ROLES; r++) {
        crypt_destroy(ps->t, e->p.key[r]);
        e->p.key[r] = CK_INVALID_HANDLE;
    }
    DL_DELETE(ps->lru, e);
    e->loaded = 0;
    ps->loaded--;
}

static void forget(struct partitions *ps, struct entry *e)
{
    unload(ps, e);
    HASH_DEL(ps->by_id, e);
    mem_free(e);
}

void partitions_drop(struct partitions *ps)
{
    while (ps->lru)
        unload(ps, ps->lru);
    forget_all(ps);
}

enum err partitions_found(void *arg, const uint8_t id[PARTITION_ID_BYTES], enum partition_role role, unsigned long key)
{
    struct entry *e = look_up_or_add(arg, id);

    if (!e)
        return ERR_OOM;
    e->token[role] = key;
    e->found = 1;
    return ERR_OK;
}

static int all_in_token(const struct entry *e)
{
    for (unsigned r = 0; r < PARTITION_ROLES; r++) {
        if (e->token[r] == CK_INVALID_HANDLE)
            return 0;
    }
    return 1;
}

unsigned partitions_in_token(const struct partitions *ps)
{
    unsigned n = 0;

    for (const struct entry *e = ps->by_id; e; e = e->hh.next)
        n += (unsigned)all_in_token(e);
    return n;
}

unsigned partitions_loaded(const struct partitions *ps)
{
    return ps->loaded;
}

/* ---- loading ---- */

static void destroy_keys(struct token *t, CK_OBJECT_HANDLE key[PARTITION_ROLES])
{
    for (unsigned r = 0; r < PARTITION_ROLES; r++) {
        crypt_destroy(t, key[r]);
        key[r] = CK_INVALID_HANDLE;
    }
}

static enum err copy_key(struct token *t, CK_OBJECT_HANDLE from, CK_OBJECT_HANDLE *out)
{
    struct p11_template tpl;

    template_init(&tpl);
    template_bool(&tpl, CKA_TOKEN, 0);
    *out = CK_INVALID_HANDLE;
    t->objects++;
    return p11_CopyObject(&t->m, t->keeper, from, tpl.a, tpl.n, out);
}

/* Session copies of the token objects. Any failure means: unwrap them instead; only the device's own trouble is passed
 * on by that. */
static int copy_from_token(struct token *t, const struct entry *e, const struct partition_config *c,
                           CK_OBJECT_HANDLE key[PARTITION_ROLES])
{
    uint8_t print[PARTITION_FINGERPRINT_BYTES];
    int ok = all_in_token(e);

    for (unsigned r = 0; ok && r < PARTITION_ROLES; r++)
        ok = copy_key(t, e->token[r], &key[r]) == ERR_OK;
    ok = ok && fingerprint(t, key[ROLE_HMAC], c->id.p, print) == ERR_OK &&
         bytes_equal(c->fingerprint, bytes_of(print, sizeof print));
    if (!ok) {
        destroy_keys(t, key);
        p11_clear(&t->m);
    }
    return ok;
}

static enum err unwrap_all(struct token *t, const struct partition_config *c, CK_OBJECT_HANDLE key[PARTITION_ROLES])
{
    uint8_t print[PARTITION_FINGERPRINT_BYTES];
    enum err e = ERR_OK;

    for (unsigned r = 0; e == ERR_OK && r < PARTITION_ROLES; r++)
        e = unwrap_key(t, c, r, 0, &key[r]);
    if (e == ERR_OK)
        e = fingerprint(t, key[ROLE_HMAC], c->id.p, print);
    if (e == ERR_OK && !bytes_equal(c->fingerprint, bytes_of(print, sizeof print)))
        e = ERR_BADBLOB;
    if (e != ERR_OK)
        destroy_keys(t, key);
    return e;
}

/* Takes the four session objects over. */
static void set_loaded(struct partitions *ps, struct entry *e, struct bytes config,
                       const CK_OBJECT_HANDLE key[PARTITION_ROLES])
{
    unload(ps, e);
    while (ps->loaded >= ps->max)
        unload(ps, ps->lru);
    memcpy(e->p.key, key, sizeof e->p.key);
    memcpy(e->config, config.p, sizeof e->config);
    e->p.serial = ++ps->serial;
    e->loaded = 1;
    DL_APPEND(ps->lru, e);
    ps->loaded++;
}

static enum err load(struct partitions *ps, struct bytes config, struct entry **out)
{
    CK_OBJECT_HANDLE key[PARTITION_ROLES] = {0};
    struct partition_config c;
    struct entry *entry;
    enum err e = verify_config(ps->t, config, &c);

    if (e != ERR_OK)
        return e;
    entry = look_up_or_add(ps, c.id.p);
    if (!entry)
        return ERR_OOM;
    if (!copy_from_token(ps->t, entry, &c, key))
        e = unwrap_all(ps->t, &c, key);
    if (e != ERR_OK)
        return e;
    set_loaded(ps, entry, config, key);
    *out = entry;
    return ERR_OK;
}

enum err partitions_open(struct partitions *ps, struct bytes config, struct partition **out)
{
    struct entry *entry = config.n == PARTITION_CONFIG_BYTES ? look_up(ps, config.p + AT_ID) : NULL;
    enum err e = ERR_OK;

    *out = NULL;
    if (entry && entry->loaded && bytes_equal(config, bytes_of(entry->config, sizeof entry->config))) {
        if (entry->next) { /* not the newest yet */
            DL_DELETE(ps->lru, entry);
            DL_APPEND(ps->lru, entry);
        }
    } else {
        e = load(ps, config, &entry);
    }
    if (e == ERR_OK)
        *out = &entry->p;
    return e;
}

/* ---- token objects ---- */

/* 1 when the token holds exactly one object for each role and they give the fingerprint; handles in key. */
static enum err token_has_set(struct token *t, const struct partition_config *c, CK_OBJECT_HANDLE key[PARTITION_ROLES],
                              int *has)
{
    uint8_t print[PARTITION_FINGERPRINT_BYTES];
    CK_OBJECT_HANDLE found[2];
    size_t n = 1;
    enum err e = ERR_OK;

    *has = 0;
    for (unsigned r = 0; e == ERR_OK && n == 1 && r < PARTITION_ROLES; r++) {
        e = token_find(t, c->id.p, r, found, 2, &n);
        key[r] = found[0];
    }
    if (e != ERR_OK || n != 1)
        return e;
    e = fingerprint(t, key[ROLE_HMAC], c->id.p, print);
    *has = e == ERR_OK && bytes_equal(c->fingerprint, bytes_of(print, sizeof print));
    return e;
}

static enum err destroy_token_objects(struct token *t, const uint8_t *id)
{
    CK_OBJECT_HANDLE found[DUPLICATES_MAX];
    enum err e = ERR_OK;
    size_t n;

    for (unsigned r = 0; e == ERR_OK && r < PARTITION_ROLES; r++) {
        do {
            e = token_find(t, id, r, found, DUPLICATES_MAX, &n);
            for (size_t i = 0; e == ERR_OK && i < n; i++)
                e = p11_DestroyObject(&t->m, t->keeper, found[i]);
        } while (e == ERR_OK && n == DUPLICATES_MAX);
    }
    return e;
}

/* Puts the four in the token, durable when it returns; on failure as few as possible stay behind. */
static enum err make_token_objects(struct token *t, const struct partition_config *c,
                                   CK_OBJECT_HANDLE key[PARTITION_ROLES])
{
    uint64_t since = clock_wall_ms();
    enum err e = ERR_OK;

    for (unsigned r = 0; e == ERR_OK && r < PARTITION_ROLES; r++)
        e = unwrap_key(t, c, r, 1, &key[r]);
    if (e == ERR_OK)
        e = tokendir_sync(t->manufacturer, since);
    if (e != ERR_OK)
        destroy_keys(t, key);
    return e;
}

static enum err import_locked(struct partitions *ps, const struct partition_config *c)
{
    CK_OBJECT_HANDLE key[PARTITION_ROLES] = {0};
    struct entry *entry = look_up_or_add(ps, c->id.p);
    int has;
    enum err e = entry ? token_has_set(ps->t, c, key, &has) : ERR_OOM;

    if (e != ERR_OK)
        return e;
    if (!has) {
        e = token_probe(ps->t); /* an empty search is no proof of absence */
        if (e == ERR_OK)
            e = destroy_token_objects(ps->t, c->id.p);
        if (e == ERR_OK)
            e = make_token_objects(ps->t, c, key);
    }
    if (e == ERR_OK)
        memcpy(entry->token, key, sizeof key);
    return e;
}

static enum err import_verified(struct partitions *ps, const struct partition_config *c)
{
    enum err e = tokendir_lock();

    if (e != ERR_OK)
        return e;
    e = import_locked(ps, c);
    tokendir_unlock();
    return e;
}

enum err partitions_import(struct partitions *ps, struct bytes config)
{
    struct partition *p;
    struct partition_config c;
    enum err e = partitions_open(
        ps, config, &p); /* verifies, and shows that all four unwrap before anything in the token changes */

    if (e == ERR_OK)
        e = partition_parse(config, &c);
    return e == ERR_OK ? import_verified(ps, &c) : e;
}

enum err partitions_destroy(struct partitions *ps, struct bytes config)
{
    struct partition_config c;
    struct entry *entry;
    uint64_t since = clock_wall_ms();
    enum err e = verify_config(ps->t, config, &c);

    if (e == ERR_OK)
        e = token_probe(ps->t);
    if (e != ERR_OK)
        return e;
    entry = look_up(ps, c.id.p);
    if (entry)
        forget(ps, entry);
    e = tokendir_lock();
    if (e != ERR_OK)
        return e;
    e = destroy_token_objects(ps->t, c.id.p);
    tokendir_unlock();
    return e == ERR_OK ? tokendir_sync(ps->t->manufacturer, since) : e;
}

/* ---- what nobody knows ---- */

static void mark_known(struct partitions *ps, struct bytes ids)
{
    for (size_t i = 0; i < ids.n; i += PARTITION_ID_BYTES) {
        struct entry *e = look_up(ps, ids.p + i);
        if (e)
            e->found = 0; /* and never looked at again */
    }
}

static enum err sweep_locked(struct partitions *ps, struct bytes prefix, unsigned *swept)
{
    struct entry *entry, *next;
    enum err e = ERR_OK;

    HASH_ITER (hh, ps->by_id, entry, next) {
        if (!entry->found || !bytes_equal(bytes_of(entry->p.id, prefix.n), prefix))
            continue;
        e = destroy_token_objects(ps->t, entry->p.id);
        if (e != ERR_OK)
            break;
        forget(ps, entry);
        ++*swept;
    }
    return e;
}

enum err partitions_sweep(struct partitions *ps, struct bytes prefix, struct bytes ids, unsigned *swept)
{
    uint64_t since = clock_wall_ms();
    enum err e;

    *swept = 0;
    if (!prefix.n || prefix.n > PARTITION_ID_BYTES || ids.n % PARTITION_ID_BYTES)
        return ERR_RANGE;
    mark_known(ps, ids);
    e = tokendir_lock();
    if (e != ERR_OK)
        return e;
    e = sweep_locked(ps, prefix, swept);
    tokendir_unlock();
    return e == ERR_OK && *swept ? tokendir_sync(ps->t->manufacturer, since) : e;
}

/* ---- creation ---- */

static enum err generate_and_wrap(struct token *t, const uint8_t *id, unsigned role, CK_OBJECT_HANDLE *key,
                                  uint8_t *entry)
{
    struct key_template k;
    size_t n = 0;
    enum err e;

    key_template(t, &k, id, role, 0);
    e = crypt_generate(t, roles[role].generate, &k.t, key);
    entry[0] = (uint8_t)role;
    entry[1] = roles[role].type;
    put_le16(entry + 2, WRAPPED);
    if (e == ERR_OK)
        e = crypt_wrap(t, t->realm_key[REALM_WRAP], *key, entry + KEY_HEAD, WRAPPED, &n);
    return e == ERR_OK && n != WRAPPED ? ERR_INTERNAL : e;
}

static enum err write_config(struct token *t, const uint8_t *id, CK_OBJECT_HANDLE key[PARTITION_ROLES], uint8_t *c)
{
    enum err e = ERR_OK;

    memset(c, 0, PARTITION_CONFIG_BYTES);
    memcpy(c, magic, sizeof magic);
    c[AT_FORMAT] = FORMAT;
    c[AT_KDF] = REALM_KDF;
    memcpy(c + AT_REALM, t->realm, REALM_ID_BYTES);
    memcpy(c + AT_ID, id, PARTITION_ID_BYTES);
    for (unsigned r = 0; e == ERR_OK && r < PARTITION_ROLES; r++)
        e = generate_and_wrap(t, id, r, &key[r], c + AT_KEYS + r * KEY_ENTRY);
    if (e == ERR_OK)
        e = fingerprint(t, key[ROLE_HMAC], id, c + AT_FINGERPRINT);
    if (e == ERR_OK)
        e = crypt_hmac(t, t->realm_key[REALM_MAC], bytes_of(c, AT_MAC), c + AT_MAC);
    return e;
}

enum err partitions_create(struct partitions *ps, const uint8_t id[PARTITION_ID_BYTES],
                           uint8_t config[PARTITION_CONFIG_BYTES])
{
    CK_OBJECT_HANDLE key[PARTITION_ROLES] = {0};
    struct bytes raw = bytes_of(config, PARTITION_CONFIG_BYTES);
    struct partition_config c;
    struct entry *entry = look_up_or_add(ps, id);
    enum err e = entry ? write_config(ps->t, id, key, config) : ERR_OOM;

    if (e == ERR_OK)
        e = partition_parse(raw, &c);
    if (e == ERR_OK)
        e = import_verified(ps, &c);
    if (e == ERR_OK) {
        set_loaded(ps, entry, raw, key);
        return ERR_OK;
    }
    destroy_keys(ps->t, key);
    memset(config, 0, PARTITION_CONFIG_BYTES);
    /* The token does not take back what it wrapped a moment ago (its disk is full): not the fault of any data. */
    return e == ERR_BADBLOB ? ERR_HSMDOWN : e;
}
