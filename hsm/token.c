/* token.c - finding a token, logging in, knowing its keys, telling whether it is still there.
 *
 * Happy path of token_open: load the module; pick the one token that has the given name; open the keeper session and
 * the session for operations; log in; enumerate the secret keys among the token objects once (our labels, CKA_ID = id
 * and role): the four of the realm stay here, partitions' are told to the caller; run the self-test; keep the sentinel.
 *
 * Failure modes: no such token, or several of that name (ERR_NOTFOUND: a serial number is wanted); a PIN that is wrong,
 * locked or at its last try (ERR_WRONGPASS, never tried again); no realm, half a realm, or two (the ceremony must be
 * done); a module without what we need (ERR_UNSUPPORTED).
 *
 * Later: token_heal replaces the session, and the login where that is gone. When the keeper session was lost all
 * session objects are void, and so are handles of private token objects; everything is looked up again.
 *
 * Rejected: remembering slot ids (SoftHSM derives them from the serial number, others renumber); searching for keys by
 * label when they are needed (O(objects)); taking CKR_USER_ALREADY_LOGGED_IN as success (another user of the module in
 * this process could be logged in with another PIN).
 */
#include "hsm/token.h"

#include <stdio.h>

#include "base/mem.h"
#include "hsm/crypt.h"
#include "hsm/tokendir.h"
#include "hsm/uri.h"

#define PIN_MAX 256
#define FIND_BATCH 256

static const struct {
    unsigned role;
    const char *label;
} labels[] = {
    {ROLE_MASK, "coffer-partition-mask"},
    {ROLE_HMAC, "coffer-partition-hmac"},
    {ROLE_KBK, "coffer-partition-kbk"},
    {ROLE_KEK, "coffer-partition-kek"},
    {REALM_ROLE(REALM_WRAP), "coffer-realm-wrap"},
    {REALM_ROLE(REALM_VENDOR), "coffer-realm-vendor"},
    {REALM_ROLE(REALM_ADAPTER), "coffer-realm-adapter"},
    {REALM_ROLE(REALM_MAC), "coffer-realm-mac"},
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

const char *token_key_label(unsigned role)
{
    for (size_t i = 0; i < COUNT(labels); i++) {
        if (labels[i].role == role)
            return labels[i].label;
    }
    return NULL;
}

void token_key_id(uint8_t out[TOKEN_KEY_ID_BYTES], const uint8_t id[16], unsigned role)
{
    memcpy(out, id, 16);
    out[16] = (uint8_t)role;
}

void token_init(struct token *t)
{
    memset(t, 0, sizeof *t);
    buf_init_secret(&t->pin, PIN_MAX);
}

void token_close(struct token *t)
{
    p11_unload(&t->m);
    buf_fini(&t->pin);
    mem_wipe(t, sizeof *t);
    buf_init_secret(&t->pin, PIN_MAX);
}

/* What a failed call of start-up says, for why. */
static enum err explain(struct token *t, enum err e, const char *what, char *why, size_t n)
{
    char call[64];

    p11_describe(&t->m, call, sizeof call);
    snprintf(why, n, "%s: %s", what, call[0] ? call : err_text(e));
    return e;
}

/* ---- which token ---- */

/* Blank-padded field of PKCS#11 to a string. */
static void unpad(char *out, const CK_BYTE *in, size_t n)
{
    memcpy(out, in, n);
    out[n] = '\0';
    while (n && out[n - 1] == ' ')
        out[--n] = '\0';
}

static void note_info(struct token *t, const CK_TOKEN_INFO *info)
{
    unpad(t->label, info->label, sizeof info->label);
    unpad(t->manufacturer, info->manufacturerID, sizeof info->manufacturerID);
    unpad(t->model, info->model, sizeof info->model);
    unpad(t->serial, info->serialNumber, sizeof info->serialNumber);
}

static int field_matches(const char *want, const char *have)
{
    return !want[0] || strcmp(want, have) == 0;
}

/* 1 when the token in this slot has the name; t then describes it. A slot that gives no information is not ours. */
static int slot_matches(struct token *t, CK_SLOT_ID slot, const struct token_name *name)
{
    CK_TOKEN_INFO info;

    if (p11_GetTokenInfo(&t->m, slot, &info) != ERR_OK)
        return 0;
    note_info(t, &info);
    return field_matches(name->label, t->label) && field_matches(name->serial, t->serial) &&
           field_matches(name->manufacturer, t->manufacturer) && field_matches(name->model, t->model);
}

static enum err list_slots(struct token *t, CK_SLOT_ID **out, CK_ULONG *n)
{
    enum err e = p11_GetSlotList(&t->m, CK_TRUE, NULL, n);

    *out = NULL;
    if (e != ERR_OK || *n == 0)
        return e;
    *out = mem_alloc(*n * sizeof **out);
    if (!*out)
        return ERR_OOM;
    return p11_GetSlotList(&t->m, CK_TRUE, *out, n);
}

static enum err select_slot(struct token *t, const struct token_name *name, char *why, size_t size)
{
    CK_SLOT_ID *slots = NULL;
    CK_ULONG n = 0, matches = 0;
    enum err e = list_slots(t, &slots, &n);

    for (CK_ULONG i = 0; e == ERR_OK && i < n; i++) {
        if (slot_matches(t, slots[i], name)) {
            t->slot = slots[i];
            matches++;
        }
    }
    if (e != ERR_OK) {
        explain(t, e, "slot list", why, size);
    } else if (matches != 1) {
        snprintf(why, size, "%lu tokens named %s%s", matches, name->label[0] ? name->label : name->serial,
                 matches ? ": add serial= to a pkcs11: URI" : ": make it, or set hsm-token");
        e = ERR_NOTFOUND;
    } else if (!slot_matches(t, t->slot, name)) {
        e = explain(t, ERR_HSMDOWN, "token information", why, size);
    }
    mem_free(slots);
    return e;
}

static enum err list_mechanisms(struct token *t)
{
    CK_ULONG n = 0;
    CK_MECHANISM_TYPE *list = NULL;
    enum err e = p11_GetMechanismList(&t->m, t->slot, NULL, &n);

    if (e == ERR_OK && n) {
        list = mem_alloc(n * sizeof *list);
        e = list ? p11_GetMechanismList(&t->m, t->slot, list, &n) : ERR_OOM;
    }
    for (CK_ULONG i = 0; e == ERR_OK && i < n; i++) {
        for (unsigned k = 0; k < MECHS; k++)
            t->has[k] |= p11_mechs[k].type == list[i];
    }
    mem_free(list);
    return e;
}

static enum err open_session(struct token *t, CK_SESSION_HANDLE *s)
{
    return p11_OpenSession(&t->m, t->slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, s);
}

/* Locked: the module reads the token when it is initialised. */
static enum err load_and_select(struct token *t, const struct token_settings *s, const struct token_name *name,
                                char *why, size_t n)
{
    enum err e = tokendir_lock();

    if (e != ERR_OK)
        return explain(t, e, "lock of the token directory", why, n);
    e = tokendir_put_back();
    if (e != ERR_OK)
        explain(t, e, "copy of the token's file", why, n);
    if (e == ERR_OK)
        e = p11_load(&t->m, s->module, s->init, why, n);
    if (e == ERR_OK)
        e = select_slot(t, name, why, n);
    tokendir_unlock();
    return e;
}

enum err token_connect(struct token *t, const struct token_settings *s, char *why, size_t n)
{
    struct token_name name;
    enum err e = token_name_parse(s->name, &name);

    snprintf(why, n, "%s", "");
    if (e != ERR_OK) {
        snprintf(why, n, "hsm-token: neither a label nor a PKCS#11 URI of token, serial, manufacturer, model");
        return e;
    }
    e = buf_put(&t->pin, s->pin.p, s->pin.n);
    if (e == ERR_OK)
        e = load_and_select(t, s, &name, why, n);
    if (e != ERR_OK)
        return e;
    p11_clear(&t->m); /* other slots may have failed to answer */
    e = list_mechanisms(t);
    if (e == ERR_OK)
        e = open_session(t, &t->keeper);
    if (e == ERR_OK)
        e = open_session(t, &t->session);
    return e == ERR_OK ? e : explain(t, e, "session", why, n);
}

/* ---- login ---- */

/* Flags under which a login is not even tried. */
static const struct {
    CK_FLAGS set, unset;
    const char *why;
} no_login[] = {
    {CKF_USER_PIN_LOCKED, 0, "the user PIN is locked: have the security officer reset it"},
    {CKF_USER_PIN_FINAL_TRY, 0,
     "one try is left before the user PIN locks: log in by hand once, which resets the count"},
    {CKF_USER_PIN_TO_BE_CHANGED, 0, "the user PIN must be changed first"},
    {0, CKF_TOKEN_INITIALIZED, "the token is not initialised"},
    {0, CKF_USER_PIN_INITIALIZED, "the token has no user PIN yet"},
};

static enum err login(struct token *t, char *why, size_t n)
{
    CK_TOKEN_INFO info;
    enum err e = p11_GetTokenInfo(&t->m, t->slot, &info);

    if (e != ERR_OK)
        return explain(t, e, "token information", why, n);
    for (size_t i = 0; i < COUNT(no_login); i++) {
        if ((info.flags & no_login[i].set) || (~info.flags & no_login[i].unset)) {
            snprintf(why, n, "token %s: %s", t->label, no_login[i].why);
            return ERR_WRONGPASS;
        }
    }
    if (buf_size(&t->pin) == 0) {
        snprintf(why, n, "token %s: the PIN is empty", t->label);
        return ERR_WRONGPASS;
    }
    e = p11_Login(&t->m, t->keeper, CKU_USER, buf_data(&t->pin), buf_size(&t->pin));
    if (e != ERR_OK) {
        char call[64];

        p11_describe(&t->m, call, sizeof call);
        snprintf(why, n, "token %s: %s%s", t->label, call,
                 e == ERR_WRONGPASS ? " (not tried again: HSMs lock after a few wrong PINs)" : "");
    }
    return e;
}

enum err token_login(struct token *t, char *why, size_t n)
{
    enum err e = tokendir_lock(); /* it reads and writes the token's file */

    if (e != ERR_OK)
        return explain(t, e, "lock of the token directory", why, n);
    e = login(t, why, n);
    if (e == ERR_OK && (e = tokendir_keep(t->serial)) != ERR_OK)
        explain(t, e, "copy of the token's file", why, n);
    tokendir_unlock();
    return e;
}

/* ---- the keys ---- */

struct census {
    struct token *t;
    token_found *found;
    void *arg;
    uint8_t realm[REALM_ID_BYTES];
    CK_OBJECT_HANDLE key[REALM_KEYS];
    int conflict;
};

static enum err note_realm_key(struct census *c, const uint8_t *id, unsigned k, CK_OBJECT_HANDLE o)
{
    int first = 1;

    for (unsigned i = 0; i < REALM_KEYS; i++)
        first &= c->key[i] == CK_INVALID_HANDLE;
    if (first)
        memcpy(c->realm, id, sizeof c->realm);
    if (c->key[k] != CK_INVALID_HANDLE || !bytes_equal(bytes_of(c->realm, 16), bytes_of(id, 16)))
        c->conflict = 1;
    c->key[k] = o;
    return ERR_OK;
}

/* One object of the token. Objects that are not ours are passed over; so are those that vanished meanwhile. */
static enum err note_object(struct census *c, CK_OBJECT_HANDLE o)
{
    uint8_t id[TOKEN_KEY_ID_BYTES + 1];
    char label[64];
    CK_ATTRIBUTE a[] = {{CKA_ID, id, sizeof id}, {CKA_LABEL, label, sizeof label - 1}};
    const char *want;

    if (p11_GetAttributeValue(&c->t->m, c->t->session, o, a, 2) != ERR_OK) {
        enum p11_policy policy = c->t->m.policy;

        /* An id or label longer than ours is CKR_BUFFER_TOO_SMALL: not ours. Trouble with the device is not to be
         * passed over. */
        if (policy == P11_WORKER || policy == P11_LOGIN || policy == P11_DOUBT)
            return ERR_HSMDOWN;
        p11_clear(&c->t->m);
        return ERR_OK;
    }
    if (a[0].ulValueLen != TOKEN_KEY_ID_BYTES)
        return ERR_OK;
    want = token_key_label(id[16]);
    if (!want || !bytes_equal(bytes_str(want), bytes_of(label, a[1].ulValueLen)))
        return ERR_OK;
    if (id[16] >= REALM_ROLE(0))
        return note_realm_key(c, id, id[16] - REALM_ROLE(0), o);
    return c->found ? c->found(c->arg, id, (enum partition_role)id[16], o) : ERR_OK;
}

/* All handles that match, in memory to be freed. */
static enum err find_all(struct token *t, CK_ATTRIBUTE *match, CK_ULONG n, CK_OBJECT_HANDLE **out, size_t *count)
{
    CK_OBJECT_HANDLE *list = NULL;
    CK_ULONG got = 0;
    size_t have = 0;
    enum err e = p11_FindObjectsInit(&t->m, t->session, match, n), ended;

    *out = NULL;
    *count = 0;
    if (e != ERR_OK)
        return e;
    do {
        /* lint: allow strdup because handles are no secrets */
        CK_OBJECT_HANDLE *more = mem_realloc(list, (have + FIND_BATCH) * sizeof *list);

        if (!more) {
            e = ERR_OOM;
            break;
        }
        list = more;
        e = p11_FindObjects(&t->m, t->session, list + have, FIND_BATCH, &got);
        have += e == ERR_OK ? got : 0;
    } while (e == ERR_OK && got > 0);
    ended = p11_FindObjectsFinal(&t->m, t->session);
    if (e == ERR_OK)
        e = ended;
    if (e != ERR_OK) {
        mem_free(list);
        return e;
    }
    *out = list;
    *count = have;
    return ERR_OK;
}

enum err token_find(struct token *t, const uint8_t id[16], unsigned role, CK_OBJECT_HANDLE *out, size_t max, size_t *n)
{
    struct p11_template match;
    uint8_t key_id[TOKEN_KEY_ID_BYTES];
    CK_OBJECT_HANDLE *list = NULL;
    enum err e;

    token_key_id(key_id, id, role);
    template_init(&match);
    template_number(&match, CKA_CLASS, CKO_SECRET_KEY);
    template_bool(&match, CKA_TOKEN, 1);
    template_bytes(&match, CKA_ID, key_id, sizeof key_id);
    e = find_all(t, match.a, match.n, &list, n);
    if (*n > max)
        *n = max;
    if (e == ERR_OK && *n)
        memcpy(out, list, *n * sizeof *out);
    mem_free(list);
    return e;
}

static enum err judge_census(struct token *t, const struct census *c, char *why, size_t n)
{
    unsigned have = 0;

    for (unsigned k = 0; k < REALM_KEYS; k++)
        have += c->key[k] != CK_INVALID_HANDLE;
    memcpy(t->realm, c->realm, sizeof t->realm);
    memcpy(t->realm_key, c->key, sizeof t->realm_key);
    if (c->conflict) {
        snprintf(why, n, "token %s holds keys of more than one realm, or one twice", t->label);
        return ERR_CONFLICT;
    }
    if (have != REALM_KEYS) {
        snprintf(why, n,
                 "token %s holds %u of the 4 realm keys: run coffer-hsm init-realm, or join-realm with the realm file",
                 t->label, have);
        return ERR_NOTFOUND;
    }
    return ERR_OK;
}

enum err token_enumerate(struct token *t, token_found *found, void *arg, char *why, size_t n)
{
    struct census c = {.t = t, .found = found, .arg = arg};
    struct p11_template match;
    CK_OBJECT_HANDLE *list = NULL;
    size_t count = 0;
    enum err e;

    template_init(&match);
    template_number(&match, CKA_CLASS, CKO_SECRET_KEY);
    template_bool(&match, CKA_TOKEN, 1);
    e = tokendir_lock(); /* no object is half written */
    if (e != ERR_OK)
        return explain(t, e, "lock of the token directory", why, n);
    e = find_all(t, match.a, match.n, &list, &count);
    for (size_t i = 0; e == ERR_OK && i < count; i++)
        e = note_object(&c, list[i]);
    tokendir_unlock();
    mem_free(list);
    if (e != ERR_OK)
        return explain(t, e, "list of keys", why, n);
    return judge_census(t, &c, why, n);
}

/* ---- is it there ---- */

static enum err sentinel_now(struct token *t, uint8_t out[32])
{
    return crypt_hmac(t, t->realm_key[REALM_MAC], bytes_str("coffer-sentinel"), out);
}

/* Is the token in the slot the one that it was at start? */
static enum err check_serial(struct token *t)
{
    CK_TOKEN_INFO info;
    char serial[sizeof t->serial];
    enum err e = p11_GetTokenInfo(&t->m, t->slot, &info);

    if (e != ERR_OK)
        return e;
    unpad(serial, info.serialNumber, sizeof info.serialNumber);
    return strcmp(serial, t->serial) == 0 ? ERR_OK : ERR_HSMDOWN;
}

/* A login that is under way elsewhere can make the token's file look empty: no information, or blanks for a serial
 * number. So asked again when none is. Not locked from the beginning: a start that hangs must not take those with it
 * that are up. */
static enum err check_token(struct token *t)
{
    enum err e = check_serial(t);

    if (e == ERR_OK)
        return e;
    e = tokendir_lock();
    if (e != ERR_OK)
        return e;
    p11_clear(&t->m);
    e = check_serial(t);
    tokendir_unlock();
    return e;
}

static enum err probe(struct token *t)
{
    uint8_t now[32];
    enum err e = check_token(t);

    if (e != ERR_OK)
        return e;
    e = sentinel_now(t, now);
    if (e == ERR_OK && !mem_equal_ct(now, t->sentinel, sizeof now))
        e = ERR_HSMDOWN;
    return e;
}

enum err token_probe(struct token *t)
{
    enum p11_call call = t->m.bad_call;
    enum p11_policy policy = t->m.policy;
    CK_RV rv = t->m.bad_rv;
    enum err e;

    p11_clear(&t->m);
    e = probe(t);
    if (t->m.policy == P11_SESSION) {
        /* Our session may have an operation stuck in it, which says nothing about the device. */
        CK_SESSION_HANDLE fresh, old = t->session;

        p11_clear(&t->m);
        e = open_session(t, &fresh);
        if (e == ERR_OK) {
            t->session = fresh;
            e = probe(t);
            if (p11_CloseSession(&t->m, old) != ERR_OK && e == ERR_OK)
                p11_clear(&t->m); /* it was gone already */
        }
    }
    if (policy != P11_FINE) {
        t->m.bad_call = call;
        t->m.bad_rv = rv;
        t->m.policy = policy;
    }
    return e == ERR_OK ? ERR_OK : ERR_HSMDOWN;
}

enum err token_open(struct token *t, const struct token_settings *s, token_found *found, void *arg, char *why, size_t n)
{
    enum err e = token_connect(t, s, why, n);

    if (e == ERR_OK)
        e = token_login(t, why, n);
    if (e == ERR_OK)
        e = token_enumerate(t, found, arg, why, n);
    if (e == ERR_OK)
        e = quirk_probe(t, why, n);
    if (e != ERR_OK)
        return e;
    e = sentinel_now(t, t->sentinel);
    return e == ERR_OK ? e : explain(t, e, "sentinel", why, n);
}

enum err token_heal(struct token *t, int force, int *relogin, token_found *found, void *arg)
{
    CK_SESSION_INFO info;
    char why[96];
    enum err e;

    *relogin = 0;
    e = p11_CloseSession(&t->m, t->session); /* may be gone already */
    p11_clear(&t->m);
    if (p11_GetSessionInfo(&t->m, t->keeper, &info) != ERR_OK) {
        info.state = CKS_RW_PUBLIC_SESSION;
        p11_clear(&t->m);
        e = open_session(t, &t->keeper);
        if (e != ERR_OK)
            return e;
        force = 1;
    }
    e = open_session(t, &t->session);
    if (e == ERR_OK && info.state != CKS_RW_USER_FUNCTIONS) {
        force = 1;
        e = token_login(t, why, sizeof why);
    }
    if (e == ERR_OK && force) {
        *relogin = 1;
        t->nonces_left = 0;
        e = token_enumerate(t, found, arg, why, sizeof why);
    }
    return e;
}
