/* ceremony.c - realm keys into a token; why it goes the way it goes is in ceremony.h.
 *
 * Happy path: log in as user, look whether a realm is there; log out, log in as officer, make the trusted wrapping key
 * as a public session object (it survives the logout), log in as user, copy it, destroy the original; make the three
 * HMAC keys; sync SoftHSM's files; enumerate and self-test as a worker would; compare each key with its share.
 *
 * Failure modes: interrupted anywhere, the token holds some of the four keys, and nothing else can have been made under
 * them. Called again with the same realm file it destroys those and starts over. Keys of another realm are never
 * touched: partitions depend on them.
 */
#include "hsm/ceremony.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "hsm/crypt.h"
#include "hsm/token.h"
#include "hsm/tokendir.h"

static const CK_ATTRIBUTE_TYPE use_wrap[] = {CKA_WRAP, CKA_UNWRAP, 0};
static const CK_ATTRIBUTE_TYPE use_sign[] = {CKA_SIGN, CKA_VERIFY, 0};

static enum err explain(struct token *t, enum err e, const char *what, char *why, size_t n)
{
    char call[64];

    p11_describe(&t->m, call, sizeof call);
    snprintf(why, n, "%s: %s", what, call[0] ? call : err_text(e));
    return e;
}

/* ---- the wrapping key ---- */

struct wrap_template {
    struct p11_template t, unwrap;
    uint8_t id[TOKEN_KEY_ID_BYTES];
};

/* What the wrapping key may unwrap: never a key that could be read, and where it is trusted only such as it alone may
 * wrap. */
static void unwrap_only(struct wrap_template *w, int trusted)
{
    template_init(&w->unwrap);
    template_bool(&w->unwrap, CKA_PRIVATE, 1);
    template_bool(&w->unwrap, CKA_SENSITIVE, 1);
    if (trusted)
        template_bool(&w->unwrap, CKA_WRAP_WITH_TRUSTED, 1);
    template_bytes(&w->t, CKA_UNWRAP_TEMPLATE, w->unwrap.a, w->unwrap.n * sizeof w->unwrap.a[0]);
}

static void name_key(struct p11_template *t, uint8_t id[TOKEN_KEY_ID_BYTES], const struct realm *r, enum realm_key k)
{
    const char *label = token_key_label(REALM_ROLE(k));

    token_key_id(id, r->id, REALM_ROLE(k));
    template_bytes(t, CKA_ID, id, TOKEN_KEY_ID_BYTES);
    template_bytes(t, CKA_LABEL, label, strlen(label));
}

static int refused(struct token *t)
{
    enum p11_policy p = t->m.policy;
    int yes = p == P11_ABSENT || p == P11_BUG || p == P11_DOUBT;

    if (yes)
        p11_clear(&t->m);
    return yes;
}

/* As the officer: a public session object. */
static enum err make_trusted(struct token *t, const struct realm *r, CK_OBJECT_HANDLE *out)
{
    static const struct {
        CK_ATTRIBUTE_TYPE type;
        int value;
    } flags[] = {{CKA_TOKEN, 0},   {CKA_PRIVATE, 0}, {CKA_SENSITIVE, 1}, {CKA_EXTRACTABLE, 0}, {CKA_ENCRYPT, 0},
                 {CKA_DECRYPT, 0}, {CKA_WRAP, 1},    {CKA_UNWRAP, 1},    {CKA_TRUSTED, 1}};
    struct wrap_template w;

    template_init(&w.t);
    template_number(&w.t, CKA_CLASS, CKO_SECRET_KEY);
    template_number(&w.t, CKA_KEY_TYPE, CKK_AES);
    template_bytes(&w.t, CKA_VALUE, r->key[REALM_WRAP], REALM_KEY_BYTES);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        template_bool(&w.t, flags[i].type, flags[i].value);
    if (t->quirks.templates)
        unwrap_only(&w, 1);
    return p11_CreateObject(&t->m, t->keeper, w.t.a, w.t.n, out);
}

/* As the user: a private token object out of it. */
static enum err adopt(struct token *t, const struct realm *r, CK_OBJECT_HANDLE original)
{
    uint8_t id[TOKEN_KEY_ID_BYTES];
    struct p11_template tpl;
    CK_OBJECT_HANDLE copy;
    enum err e;

    template_init(&tpl);
    template_bool(&tpl, CKA_TOKEN, 1);
    template_bool(&tpl, CKA_PRIVATE, 1);
    name_key(&tpl, id, r, REALM_WRAP);
    e = p11_CopyObject(&t->m, t->keeper, original, tpl.a, tpl.n, &copy);
    crypt_destroy(t, original);
    return e;
}

static enum err wrap_key_by_officer(struct token *t, const struct ceremony *c, const struct realm *r, char *why,
                                    size_t n)
{
    CK_OBJECT_HANDLE original = CK_INVALID_HANDLE;
    enum err e = p11_Logout(&t->m, t->keeper), back;

    if (e == ERR_OK)
        e = p11_Login(&t->m, t->keeper, CKU_SO, (CK_BYTE *)(uintptr_t)c->so_pin.p, c->so_pin.n);
    if (e != ERR_OK)
        return explain(t, e, "login of the security officer", why, n);
    e = make_trusted(t, r, &original);
    if (e != ERR_OK)
        explain(t, e, "trusted wrapping key", why, n);
    back = p11_Logout(&t->m, t->keeper);
    if (back == ERR_OK)
        back = token_login(t, why, n);
    if (e == ERR_OK)
        e = back;
    return e == ERR_OK ? adopt(t, r, original) : e;
}

static enum err wrap_key_by_user(struct token *t, const struct realm *r)
{
    struct wrap_template w;
    CK_OBJECT_HANDLE o;

    crypt_template(&w.t, CKO_SECRET_KEY, CKK_AES, 1, 0, use_wrap);
    template_bytes(&w.t, CKA_VALUE, r->key[REALM_WRAP], REALM_KEY_BYTES);
    name_key(&w.t, w.id, r, REALM_WRAP);
    if (t->quirks.templates)
        unwrap_only(&w, 0);
    return p11_CreateObject(&t->m, t->keeper, w.t.a, w.t.n, &o);
}

static enum err make_wrap_key(struct token *t, const struct ceremony *c, const struct realm *r, char *why, size_t n)
{
    enum err e;

    if (c->so_pin.n) {
        e = wrap_key_by_officer(t, c, r, why, n);
        if (e == ERR_OK || !refused(t))
            return e;
    }
    e = wrap_key_by_user(t, r);
    return e == ERR_OK ? e : explain(t, e, "wrapping key", why, n);
}

/* ---- all four ---- */

static enum err make_mac_key(struct token *t, const struct realm *r, enum realm_key k)
{
    uint8_t id[TOKEN_KEY_ID_BYTES];
    struct p11_template tpl;
    CK_OBJECT_HANDLE o;

    crypt_template(&tpl, CKO_SECRET_KEY, CKK_GENERIC_SECRET, 1, 0, use_sign);
    template_bytes(&tpl, CKA_VALUE, r->key[k], REALM_KEY_BYTES);
    name_key(&tpl, id, r, k);
    return p11_CreateObject(&t->m, t->keeper, tpl.a, tpl.n, &o);
}

/* What a broken-off ceremony of this realm left. */
static enum err remove_rest(struct token *t, const struct realm *r)
{
    CK_OBJECT_HANDLE found[8];
    size_t n = 0;
    enum err e = ERR_OK;

    for (unsigned k = 0; e == ERR_OK && k < REALM_KEYS; k++) {
        e = token_find(t, r->id, REALM_ROLE(k), found, 8, &n);
        for (size_t i = 0; e == ERR_OK && i < n; i++)
            e = p11_DestroyObject(&t->m, t->keeper, found[i]);
    }
    return e;
}

static enum err make_keys(struct token *t, const struct ceremony *c, const struct realm *r, char *why, size_t n)
{
    uint64_t since = clock_wall_ms();
    enum err e = remove_rest(t, r);

    if (e == ERR_OK)
        e = make_wrap_key(t, c, r, why, n);
    for (unsigned k = REALM_VENDOR; e == ERR_OK && k < REALM_KEYS; k++)
        e = make_mac_key(t, r, k);
    if (e == ERR_OK)
        e = tokendir_sync(t->manufacturer, since);
    return e == ERR_OK || why[0] ? e : explain(t, e, "realm keys", why, n);
}

static enum err make_keys_locked(struct token *t, const struct ceremony *c, const struct realm *r, char *why, size_t n)
{
    enum err e = tokendir_lock();

    if (e != ERR_OK)
        return explain(t, e, "lock of the token directory", why, n);
    e = make_keys(t, c, r, why, n);
    tokendir_unlock();
    return e;
}

/* Every key in the token against its share. */
static enum err compare(struct token *t, const struct realm *r)
{
    uint8_t text[REALM_TEXT_BYTES], want[REALM_FINGERPRINT_BYTES], got[32];
    enum err e = quirk_check_wrap(t, t->realm_key[REALM_WRAP], r->key[REALM_WRAP]);

    for (unsigned k = REALM_VENDOR; e == ERR_OK && k < REALM_KEYS; k++) {
        realm_fingerprint_text(r->id, k, text);
        e = crypt_hmac(t, t->realm_key[k], bytes_of(text, sizeof text), got);
        if (e == ERR_OK)
            e = realm_fingerprint(r, k, want);
        if (e == ERR_OK && !mem_equal_ct(got, want, sizeof want))
            e = ERR_CORRUPT;
    }
    return e;
}

static int same_realm(const struct token *t, const uint8_t id[REALM_ID_BYTES])
{
    return bytes_equal(bytes_of(t->realm, REALM_ID_BYTES), bytes_of(id, REALM_ID_BYTES));
}

static int has_any_key(const struct token *t)
{
    int any = 0;

    for (unsigned k = 0; k < REALM_KEYS; k++)
        any |= t->realm_key[k] != CK_INVALID_HANDLE;
    return any;
}

static enum err open_token(struct token *t, const struct ceremony *c, char *why, size_t n)
{
    struct token_settings s = {.module = c->module, .init = c->init, .name = c->token, .pin = c->pin};
    enum err e = token_connect(t, &s, why, n);

    return e == ERR_OK ? token_login(t, why, n) : e;
}

static enum err ensure_keys(struct token *t, const struct ceremony *c, const struct realm *r, char *why, size_t n)
{
    enum err e = token_enumerate(t, NULL, NULL, why, n);

    if (e != ERR_OK && e != ERR_NOTFOUND)
        return e;
    if (has_any_key(t) && !same_realm(t, r->id)) {
        snprintf(why, n, "token %s holds keys of another realm; they are left alone", t->label);
        return ERR_CONFLICT;
    }
    if (e == ERR_OK)
        return e;
    p11_clear(&t->m);
    why[0] = '\0';
    e = quirk_probe_module(t, why, n);
    if (e == ERR_OK)
        e = make_keys_locked(t, c, r, why, n);
    return e == ERR_OK ? token_enumerate(t, NULL, NULL, why, n) : e;
}

enum err ceremony_join(const struct ceremony *c, const struct realm *r, char *why, size_t n)
{
    struct token t;
    enum err e;

    token_init(&t);
    e = open_token(&t, c, why, n);
    if (e == ERR_OK)
        e = ensure_keys(&t, c, r, why, n);
    if (e == ERR_OK)
        e = quirk_probe(&t, why, n);
    if (e == ERR_OK) {
        e = compare(&t, r);
        if (e != ERR_OK)
            explain(&t, e, "the token's realm keys are not those of the realm file", why, n);
    }
    token_close(&t);
    return e;
}

enum err ceremony_check(const struct ceremony *c, const uint8_t realm[REALM_ID_BYTES], char *why, size_t n)
{
    struct token t;
    enum err e;

    token_init(&t);
    e = open_token(&t, c, why, n);
    if (e == ERR_OK)
        e = token_enumerate(&t, NULL, NULL, why, n);
    if (e == ERR_OK && !same_realm(&t, realm)) {
        snprintf(why, n, "token %s belongs to another realm than the realm file", t.label);
        e = ERR_CONFLICT;
    }
    if (e == ERR_OK)
        e = quirk_probe(&t, why, n);
    token_close(&t);
    return e;
}

/* ---- a new token ---- */

static enum err blank_slot(struct p11 *m, CK_SLOT_ID *out)
{
    CK_SLOT_ID slots[64];
    CK_ULONG n = 64;
    CK_TOKEN_INFO info;
    enum err e = p11_GetSlotList(m, CK_TRUE, slots, &n);

    for (CK_ULONG i = 0; e == ERR_OK && i < n; i++) {
        if (p11_GetTokenInfo(m, slots[i], &info) == ERR_OK && !(info.flags & CKF_TOKEN_INITIALIZED)) {
            *out = slots[i];
            return ERR_OK;
        }
    }
    return e == ERR_OK ? ERR_NOTFOUND : e;
}

static enum err init_token(struct p11 *m, const char *label, struct bytes so_pin, struct bytes pin)
{
    CK_BYTE padded[32];
    CK_SLOT_ID slot;
    CK_SESSION_HANDLE s;
    size_t len = strlen(label) < sizeof padded ? strlen(label) : sizeof padded;
    enum err e = blank_slot(m, &slot);

    memset(padded, ' ', sizeof padded);
    memcpy(padded, label, len);
    if (e == ERR_OK)
        e = p11_InitToken(m, slot, (CK_BYTE *)(uintptr_t)so_pin.p, so_pin.n, padded);
    if (e == ERR_OK)
        e = p11_OpenSession(m, slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s);
    if (e == ERR_OK)
        e = p11_Login(m, s, CKU_SO, (CK_BYTE *)(uintptr_t)so_pin.p, so_pin.n);
    if (e == ERR_OK)
        e = p11_InitPIN(m, s, (CK_BYTE *)(uintptr_t)pin.p, pin.n);
    return e;
}

enum err ceremony_make_token(const char *module, const char *label, struct bytes so_pin, struct bytes pin, char *why,
                             size_t n)
{
    struct p11 m;
    char call[64];
    enum err e = tokendir_lock();

    if (e != ERR_OK) {
        snprintf(why, n, "lock of the token directory: %s", err_text(e));
        return e;
    }
    e = p11_load(&m, module, NULL, why, n);
    if (e == ERR_OK) {
        e = init_token(&m, label, so_pin, pin);
        p11_describe(&m, call, sizeof call);
        if (e != ERR_OK)
            snprintf(why, n, "new token: %s", call[0] ? call : "no slot without a token");
    }
    p11_unload(&m);
    tokendir_unlock();
    return e;
}
