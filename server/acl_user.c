/* acl_user.c - users out of words and words out of users.
 *
 *     on off nopass resetpass reset >password <password #hash !hash clearselectors
 *     ( permissions )                                                                a selector
 *     what else there is                                                             the user's own permissions
 *
 * acl_selector.c has the permissions.
 */
#include "server/acl_user.h"

#include <assert.h>

#include "base/hex.h"
#include "base/mem.h"
#include "server/command.h"

/* ---- users ---- */

static void clear_selectors(struct acl_user *u)
{
    while (u->own.next) {
        struct acl_selector *s = u->own.next;
        u->own.next = s->next;
        acl_selector_fini(s);
        mem_free(s);
    }
    u->selectors = 0;
}

static void clear_passwords(struct acl_user *u)
{
    mem_secret_free(u->hash, sizeof *u->hash * ACL_HASHES_MAX);
    u->hash = NULL;
    u->hashes = 0;
}

struct acl_user *acl_user_new(struct bytes name, int all_channels)
{
    assert(name.n <= USER_NAME_MAX && commands_count <= ACL_ROWS);
    struct acl_user *u = mem_zalloc(sizeof *u);
    if (!u)
        return NULL;
    atomic_init(&u->refs, 1);
    memcpy(u->name, name.p, name.n);
    acl_selector_init(&u->own, all_channels);
    return u;
}

struct acl_user *acl_user_ref(struct acl_user *u)
{
    atomic_fetch_add_explicit(&u->refs, 1, memory_order_relaxed);
    return u;
}

void acl_user_unref(struct acl_user *u)
{
    if (!u || atomic_fetch_sub_explicit(&u->refs, 1, memory_order_acq_rel) != 1)
        return;
    clear_selectors(u);
    acl_selector_fini(&u->own);
    clear_passwords(u);
    mem_free(u);
}

/* ---- passwords ---- */

static uint8_t *find_hash(const struct acl_user *u, const uint8_t hash[SHA256_BYTES])
{
    uint8_t *found = NULL;
    for (unsigned i = 0; i < u->hashes; i++)
        if (mem_equal_ct(u->hash[i], hash, SHA256_BYTES))
            found = u->hash[i];
    return found;
}

static enum err add_hash(struct acl_user *u, const uint8_t hash[SHA256_BYTES], const char **why)
{
    u->nopass = 0;
    if (find_hash(u, hash))
        return ERR_OK;
    if (u->hashes == ACL_HASHES_MAX) {
        *why = "Too many passwords";
        return ERR_SYNTAX;
    }
    if (!u->hash && !(u->hash = mem_secret_alloc(sizeof *u->hash * ACL_HASHES_MAX)))
        return ERR_OOM;
    memcpy(u->hash[u->hashes++], hash, SHA256_BYTES);
    return ERR_OK;
}

static enum err drop_hash(struct acl_user *u, const uint8_t hash[SHA256_BYTES], const char **why)
{
    uint8_t *found = find_hash(u, hash);
    if (!found) {
        *why = "The password you are trying to remove from the user does not exist";
        return ERR_SYNTAX;
    }
    memmove(found, found + SHA256_BYTES, (size_t)(u->hash[u->hashes - 1] - found));
    mem_wipe(u->hash[--u->hashes], SHA256_BYTES);
    return ERR_OK;
}

static enum err password_rule(struct acl_user *u, struct bytes word, const char **why)
{
    uint8_t hash[SHA256_BYTES];
    enum err e = ERR_SYNTAX;
    if (word.p[0] == '>' || word.p[0] == '<') {
        sha256_of(word.p + 1, word.n - 1, hash);
    } else if (!hex_get(bytes_of(word.p + 1, word.n - 1), hash, SHA256_BYTES)) {
        *why = "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters";
        goto out;
    }
    e = (word.p[0] == '>' || word.p[0] == '#' ? add_hash : drop_hash)(u, hash, why);
out:
    mem_wipe(hash, sizeof hash);
    return e;
}

enum err acl_user_set_password(struct acl_user *u, struct bytes password)
{
    uint8_t hash[SHA256_BYTES];
    const char *why;
    clear_passwords(u);
    u->nopass = password.n == 0;
    if (u->nopass)
        return ERR_OK;
    sha256_of(password.p, password.n, hash);
    enum err e = add_hash(u, hash, &why);
    mem_wipe(hash, sizeof hash);
    return e;
}

/* ---- words ---- */

/* "(~a* +get)". A word in it that ends in a bracket could not be told from its end when it is read back. */
static enum err add_selector(struct acl_user *u, struct bytes word, int with_channels, int forgive, const char **why)
{
    struct acl_selector *s, **end = &u->own.next;
    struct bytes inside = bytes_of(word.p + 1, word.n - 2), w;
    enum err e = ERR_OK;

    if (u->selectors == ACL_SELECTORS_MAX) {
        *why = "Too many selectors";
        return ERR_SYNTAX;
    }
    if (!(s = mem_alloc(sizeof *s)))
        return ERR_OOM;
    acl_selector_init(s, with_channels);
    while (!e && (w = acl_next_word(&inside)).n) {
        *why = acl_syntax_error;
        e = w.p[w.n - 1] == ')' ? ERR_SYNTAX : acl_selector_apply(s, w, forgive, why);
    }
    if (e) {
        acl_selector_fini(s);
        mem_free(s);
        return e;
    }
    while (*end)
        end = &(*end)->next;
    *end = s;
    u->selectors++;
    return ERR_OK;
}

static void set_on(struct acl_user *u, int with_channels)
{
    (void)with_channels;
    u->enabled = 1;
}

static void set_off(struct acl_user *u, int with_channels)
{
    (void)with_channels;
    u->enabled = 0;
}

static void set_resetpass(struct acl_user *u, int with_channels)
{
    (void)with_channels;
    clear_passwords(u);
    u->nopass = 0;
}

static void set_nopass(struct acl_user *u, int with_channels)
{
    set_resetpass(u, with_channels);
    u->nopass = 1;
}

static void set_clearselectors(struct acl_user *u, int with_channels)
{
    (void)with_channels;
    clear_selectors(u);
}

static void set_reset(struct acl_user *u, int with_channels)
{
    set_off(u, with_channels);
    set_resetpass(u, with_channels);
    clear_selectors(u);
    acl_selector_fini(&u->own);
    acl_selector_init(&u->own, with_channels);
}

static void set_nothing(struct acl_user *u, int with_channels)
{
    (void)u;
    (void)with_channels;
}

static const struct {
    const char *word;
    void (*set)(struct acl_user *u, int with_channels);
} user_words[] = {
    {"on", set_on},
    {"off", set_off},
    {"nopass", set_nopass},
    {"resetpass", set_resetpass},
    {"clearselectors", set_clearselectors},
    {"reset", set_reset},
    {"sanitize-payload", set_nothing}, /* payloads of RESTORE are looked at in any case */
    {"skip-sanitize-payload", set_nothing},
};

static int is_selector(struct bytes word)
{
    return word.n >= 2 && word.p[0] == '(' && word.p[word.n - 1] == ')';
}

static enum err apply_word(struct acl_user *u, struct bytes word, int with_channels, int forgive, const char **why)
{
    for (size_t i = 0; i < sizeof user_words / sizeof user_words[0]; i++) {
        if (bytes_is_word(word, user_words[i].word)) {
            user_words[i].set(u, with_channels);
            return ERR_OK;
        }
    }
    if (word.n > 0 && memchr("><#!", word.p[0], 4))
        return password_rule(u, word, why);
    if (is_selector(word))
        return add_selector(u, word, with_channels, forgive, why);
    return acl_selector_apply(&u->own, word, forgive, why);
}

/* How many words from i on are one selector; 0: its end is missing. */
static unsigned selector_words_at(const struct bytes *words, unsigned i, unsigned n)
{
    for (unsigned k = i; k < n; k++)
        if (words[k].n && words[k].p[words[k].n - 1] == ')')
            return k - i + 1;
    return 0;
}

static enum err apply_joined(struct acl_user *u, const struct bytes *words, unsigned n, int with_channels, int forgive,
                             const char **why)
{
    struct buf joined;
    enum err e = ERR_OK;
    buf_init(&joined, USER_RULES_MAX);
    for (unsigned i = 0; i < n && !e; i++) {
        e = buf_put(&joined, words[i].p, words[i].n);
        if (!e && i + 1 < n)
            e = buf_put_u8(&joined, ' ');
    }
    if (!e)
        e = apply_word(u, buf_bytes(&joined), with_channels, forgive, why);
    buf_fini(&joined);
    return e;
}

enum err acl_user_apply(struct acl_user *u, const struct bytes *words, unsigned n, int with_channels, int forgive,
                        struct acl_fault *why)
{
    enum err e = ERR_OK;
    *why = (struct acl_fault){0, ""};
    for (unsigned i = 0, used; i < n && !e; i += used) {
        why->word = i;
        used = words[i].n && words[i].p[0] == '(' ? selector_words_at(words, i, n) : 1;
        if (!used) {
            why->text = "Unmatched parenthesis";
            return ERR_SYNTAX;
        }
        e = used == 1 ? apply_word(u, words[i], with_channels, forgive, &why->text)
                      : apply_joined(u, words + i, used, with_channels, forgive, &why->text);
    }
    return e;
}

enum err acl_user_apply_text(struct acl_user *u, struct bytes text, int forgive, struct acl_fault *why)
{
    enum err e = ERR_OK;
    *why = (struct acl_fault){0, ""};
    for (struct bytes w; !e && (w = acl_next_word(&text)).n; why->word++) {
        const uint8_t *start = w.p;
        if (start[0] == '(')
            while (w.n && w.p[w.n - 1] != ')')
                w = acl_next_word(&text);
        e = apply_word(u, w.n ? bytes_of(start, (size_t)(w.p + w.n - start)) : bytes_of(start, 1), 0, forgive,
                       &why->text);
        if (e)
            break;
    }
    return e;
}

/* ---- the other way ---- */

enum err acl_user_hashes(const struct acl_user *u, struct buf *out, unsigned *count)
{
    uint8_t *room;
    size_t n = u->hashes * SHA256_BYTES;
    enum err e = buf_reserve(out, 2 * n, &room);

    *count = u->hashes;
    if (e || !n)
        return e;
    hex_digits(room, u->hash[0], n);
    buf_added(out, 2 * n);
    return ERR_OK;
}

enum err acl_user_put_passwords(const struct acl_user *u, struct buf *out)
{
    struct buf hex;
    unsigned n;
    buf_init_secret(&hex, 2 * SHA256_BYTES * ACL_HASHES_MAX);
    enum err e = acl_user_hashes(u, &hex, &n);
    if (!e && u->nopass)
        e = buf_put(out, " nopass", 7);
    for (unsigned i = 0; i < n && !e; i++) {
        e = buf_put(out, " #", 2);
        if (!e)
            e = buf_put(out, buf_data(&hex) + 2 * SHA256_BYTES * (size_t)i, 2 * SHA256_BYTES);
    }
    buf_fini(&hex);
    return e;
}

enum err acl_user_text(const struct acl_user *u, struct buf *out)
{
    enum err e = u->enabled ? buf_put(out, "on", 2) : buf_put(out, "off", 3);
    if (!e)
        e = acl_user_put_passwords(u, out);
    if (!e)
        e = buf_put_u8(out, ' ');
    if (!e)
        e = acl_selector_text(&u->own, out);
    for (const struct acl_selector *s = u->own.next; s && !e; s = s->next) {
        e = buf_put(out, " (", 2);
        if (!e)
            e = acl_selector_text(s, out);
        if (!e)
            e = buf_put_u8(out, ')');
    }
    return e;
}
