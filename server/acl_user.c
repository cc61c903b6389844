/* acl_user.c - the language of ACL SETUSER: words make a user, a user makes words.
 *
 *     on off nopass resetpass reset >password <password #hash !hash clearselectors   the user
 *     ~pattern %R~pattern %W~pattern allkeys resetkeys                               keys
 *     &pattern allchannels resetchannels                                             channels
 *     +command -command +command|sub -command|sub +command|argument +@class -@class  commands
 *     ( any of the last three lines )                                                a selector: other permissions
 *
 * Commands become bits, one a row of the command table, when the word is applied: a command is allowed when its bit is
 * set. The words themselves are kept too, as rules, since bits do not tell "+@read" from what was in it when it was
 * said. A rule takes earlier ones of the same name out, a command's those of its sub-commands, +@all and -@all
 * everything: what they did is overridden anyway, so the list stays shorter than the table. What is then first and says
 * no more than +@all or -@all goes, too. "+@all" means commands of later versions as well.
 *
 * Texts of errors are Redis's: people and programs know them.
 */
#include "server/acl_user.h"

#include <assert.h>
#include <ctype.h>
#include <strings.h>

#include "base/mem.h"
#include "server/command.h"
#include "server/redis_names.h"

static const char syntax_error[] = "Syntax error";
static const char unknown_name[] = "Unknown command or category name in ACL";

static int is_word(struct bytes s, const char *word)
{
    return s.n == strlen(word) && strncasecmp((const char *)s.p, word, s.n) == 0;
}

/* Blanks end words, a NUL ends nothing that anybody would see. */
static int has_blanks(struct bytes s)
{
    for (size_t i = 0; i < s.n; i++)
        if (!s.p[i] || strchr(" \t\n\v\f\r", s.p[i]))
            return 1;
    return 0;
}

static struct bytes behind(struct bytes s, size_t n)
{
    return bytes_of(s.p + n, s.n - n);
}

/* ---- lists of texts ---- */

static struct bytes item_text(const struct acl_item *i)
{
    return bytes_of(i->s, i->n);
}

static enum err items_add(struct acl_items *l, struct bytes s, unsigned num)
{
    char *copy = mem_alloc(s.n + 1);
    struct acl_item *grown = copy ? mem_realloc(l->at, (l->n + 1) * sizeof *grown) : NULL;
    if (!grown) {
        mem_free(copy);
        return ERR_OOM;
    }
    if (s.n)
        memcpy(copy, s.p, s.n);
    copy[s.n] = 0;
    l->at = grown;
    l->at[l->n++] = (struct acl_item){copy, s.n, num};
    return ERR_OK;
}

static struct acl_item *items_find(const struct acl_items *l, struct bytes s)
{
    for (unsigned i = 0; i < l->n; i++)
        if (bytes_equal(item_text(&l->at[i]), s))
            return &l->at[i];
    return NULL;
}

/* Those for which drop() says so. */
static void items_drop(struct acl_items *l, int (*drop)(const struct acl_item *i, struct bytes name, unsigned num),
                       struct bytes name, unsigned num)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < l->n; i++) {
        if (drop(&l->at[i], name, num))
            mem_free(l->at[i].s);
        else
            l->at[kept++] = l->at[i];
    }
    l->n = kept;
}

static void items_clear(struct acl_items *l)
{
    for (unsigned i = 0; i < l->n; i++)
        mem_free(l->at[i].s);
    mem_free(l->at);
    *l = (struct acl_items){0};
}

/* ---- users ---- */

static void selector_init(struct acl_selector *s, int all_channels)
{
    *s = (struct acl_selector){.flags = all_channels ? ACL_ALL_CHANNELS : 0};
}

static void selector_fini(struct acl_selector *s)
{
    items_clear(&s->keys);
    items_clear(&s->channels);
    items_clear(&s->first_arguments);
    items_clear(&s->rules);
}

static void clear_selectors(struct acl_user *u)
{
    while (u->own.next) {
        struct acl_selector *s = u->own.next;
        u->own.next = s->next;
        selector_fini(s);
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
    selector_init(&u->own, all_channels);
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
    selector_fini(&u->own);
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

static int read_hash(struct bytes hex, uint8_t out[SHA256_BYTES])
{
    if (hex.n != 2 * SHA256_BYTES)
        return 0;
    for (size_t i = 0; i < hex.n; i++) {
        uint8_t c = hex.p[i], v = c >= '0' && c <= '9'   ? (uint8_t)(c - '0')
                                  : c >= 'a' && c <= 'f' ? (uint8_t)(c - 'a' + 10)
                                                         : 255;
        if (v == 255)
            return 0;
        out[i / 2] = (uint8_t)(i % 2 ? out[i / 2] | v : v << 4);
    }
    return 1;
}

static enum err password_rule(struct acl_user *u, struct bytes word, const char **why)
{
    uint8_t hash[SHA256_BYTES];
    enum err e = ERR_SYNTAX;
    if (word.p[0] == '>' || word.p[0] == '<') {
        sha256_of(word.p + 1, word.n - 1, hash);
    } else if (!read_hash(behind(word, 1), hash)) {
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

/* ---- commands ---- */

static void set_row(struct acl_selector *s, size_t row, int allow)
{
    uint64_t bit = UINT64_C(1) << row % 64;
    s->allowed[row / 64] = allow ? s->allowed[row / 64] | bit : s->allowed[row / 64] & ~bit;
}

static int is_of_row(const struct acl_item *i, struct bytes name, unsigned row)
{
    (void)name;
    return i->num == row;
}

static int is_same(const struct acl_item *i, struct bytes name, unsigned row)
{
    return i->num == row && bytes_equal(item_text(i), name);
}

static void set_command(struct acl_selector *s, size_t row, int allow)
{
    set_row(s, row, allow);
    items_drop(&s->first_arguments, is_of_row, bytes_of(NULL, 0), (unsigned)row);
}

static void set_all_commands(struct acl_selector *s, int allow)
{
    memset(s->allowed, allow ? 255 : 0, sizeof s->allowed);
    items_clear(&s->first_arguments);
    items_clear(&s->rules);
    s->all_but = allow;
    s->flags = allow ? s->flags | ACL_ALL_COMMANDS : s->flags & ~(unsigned)ACL_ALL_COMMANDS;
}

/* The rule of that name, and those of a command's sub-commands. */
static int is_overridden(const struct acl_item *i, struct bytes name, unsigned num)
{
    (void)num;
    return i->n >= name.n && memcmp(i->s, name.p, name.n) == 0 && (i->n == name.n || i->s[name.n] == '|');
}

/* The first rules may say what is so without them by now. */
static void drop_empty_rules(struct acl_selector *s)
{
    unsigned n = 0;
    while (n < s->rules.n && (int)s->rules.at[n].num == s->all_but)
        mem_free(s->rules.at[n++].s);
    if (n)
        memmove(s->rules.at, s->rules.at + n, (s->rules.n - n) * sizeof *s->rules.at);
    s->rules.n -= n;
    s->flags &= ~(unsigned)ACL_ALL_COMMANDS;
    if (s->all_but && !s->rules.n)
        s->flags |= ACL_ALL_COMMANDS;
}

static enum err note_rule(struct acl_selector *s, int allow, struct bytes name)
{
    items_drop(&s->rules, is_overridden, name, 0);
    enum err e = items_add(&s->rules, name, (unsigned)allow);
    drop_empty_rules(s);
    return e;
}

/* By the name in the table, whatever rename-command says. */
static const struct command *row_named(struct bytes name)
{
    for (size_t i = 0; i < commands_count; i++)
        if (is_word(name, commands[i].name))
            return &commands[i];
    return NULL;
}

static int has_subs(const struct command *cmd)
{
    for (size_t i = 0; i < commands_count; i++)
        if (command_is_sub(cmd, &commands[i]))
            return 1;
    return 0;
}

static enum err category_rule(struct acl_selector *s, int allow, struct bytes name, const char **why)
{
    char lower[32] = "@";
    unsigned mask = command_category(behind(name, 1));
    if (is_word(name, "@all")) {
        set_all_commands(s, allow);
        return ERR_OK;
    }
    if (!mask) {
        *why = unknown_name;
        return ERR_SYNTAX;
    }
    for (size_t i = 0; i < commands_count; i++)
        if (command_categories(&commands[i]) & mask)
            set_command(s, i, allow);
    for (size_t i = 1; i < name.n; i++)
        lower[i] = (char)(name.p[i] | 0x20); /* categories are letters */
    return note_rule(s, allow, bytes_of(lower, name.n));
}

/* "select|0": a command of no sub-commands, with the first argument that it may have. */
static enum err first_argument_rule(struct acl_selector *s, int allow, struct bytes name, const char **why)
{
    char lower[COMMAND_NAME_MAX];
    struct bytes container = name;
    while (container.n && container.p[container.n - 1] != '|')
        container.n--;
    size_t at = container.n;
    if (container.n)
        container.n--;
    const struct command *cmd = row_named(container);
    struct bytes argument = behind(name, at);
    *why = !cmd || !allow || has_subs(cmd) ? unknown_name
           : argument.n == 0               ? syntax_error
           : strchr(cmd->name, '|')        ? "Allowing first-arg of a subcommand is not supported"
                                           : NULL;
    if (*why)
        return ERR_SYNTAX;
    struct buf rule;
    buf_init(&rule, name.n + 1);
    enum err e = buf_put(&rule, lower, command_lower(cmd, lower));
    if (!e)
        e = buf_put(&rule, name.p + container.n, name.n - container.n);
    if (!e)
        e = note_rule(s, 1, buf_bytes(&rule));
    items_drop(&s->first_arguments, is_same, argument, (unsigned)command_index(cmd));
    if (!e && !(s->allowed[command_index(cmd) / 64] >> command_index(cmd) % 64 & 1))
        e = items_add(&s->first_arguments, argument, (unsigned)command_index(cmd));
    buf_fini(&rule);
    return e;
}

/* One of Redis's that is not here: the rule is kept, for a version that has it. */
static enum err foreign_rule(struct acl_selector *s, int allow, struct bytes name)
{
    char lower[COMMAND_NAME_MAX];
    for (size_t i = 0; i < name.n; i++)
        lower[i] = (char)tolower(name.p[i]);
    return note_rule(s, allow, bytes_of(lower, name.n));
}

static enum err command_rule(struct acl_selector *s, int allow, struct bytes name, const char **why)
{
    char lower[COMMAND_NAME_MAX];
    const uint8_t *bar = name.n ? memchr(name.p, '|', name.n) : NULL;
    const struct command *cmd = row_named(name);
    int here = cmd || (bar && row_named(bytes_of(name.p, (size_t)(bar - name.p))));
    if (!here && redis_has_command(name) && name.n < sizeof lower)
        return foreign_rule(s, allow, name);
    if (!cmd && bar)
        return first_argument_rule(s, allow, name, why);
    if (!cmd) {
        *why = unknown_name;
        return ERR_SYNTAX;
    }
    set_command(s, command_index(cmd), allow);
    for (size_t i = 0; i < commands_count; i++)
        if (command_is_sub(cmd, &commands[i]))
            set_command(s, i, allow);
    return note_rule(s, allow, bytes_of(lower, command_lower(cmd, lower)));
}

/* ---- keys and channels ---- */

static void all_keys(struct acl_selector *s)
{
    items_clear(&s->keys);
    s->flags |= ACL_ALL_KEYS;
}

static void no_keys(struct acl_selector *s)
{
    items_clear(&s->keys);
    s->flags &= ~(unsigned)ACL_ALL_KEYS;
}

static void all_channels(struct acl_selector *s)
{
    items_clear(&s->channels);
    s->flags |= ACL_ALL_CHANNELS;
}

static void no_channels(struct acl_selector *s)
{
    items_clear(&s->channels);
    s->flags &= ~(unsigned)ACL_ALL_CHANNELS;
}

/* Splits %R~pattern. Like Redis, takes "%RW" for an empty pattern. 0: malformed. */
static int read_access(struct bytes word, unsigned *access, struct bytes *pattern)
{
    size_t i = 1;
    *access = KEY_READS | KEY_WRITES;
    *pattern = behind(word, 1);
    if (word.p[0] == '~')
        return 1;
    for (*access = 0; i < word.n && word.p[i] != '~'; i++) {
        unsigned bit = word.p[i] == 'R' || word.p[i] == 'r'   ? KEY_READS
                       : word.p[i] == 'W' || word.p[i] == 'w' ? KEY_WRITES
                                                              : 0u;
        if (!bit || *access & bit)
            return 0;
        *access |= bit;
    }
    *pattern = behind(word, i < word.n ? i + 1 : i);
    return *access != 0;
}

static enum err key_rule(struct acl_selector *s, struct bytes word, const char **why)
{
    unsigned access;
    struct bytes pattern;
    if (!read_access(word, &access, &pattern)) {
        *why = syntax_error;
        return ERR_SYNTAX;
    }
    if (s->flags & ACL_ALL_KEYS) {
        *why = "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any "
               "effect. Try 'resetkeys' to start with an empty list of patterns";
        return ERR_SYNTAX;
    }
    if (access == (KEY_READS | KEY_WRITES) && is_word(pattern, "*")) {
        all_keys(s);
        return ERR_OK;
    }
    struct acl_item *known = items_find(&s->keys, pattern);
    if (!known)
        return items_add(&s->keys, pattern, access);
    known->num |= access;
    return ERR_OK;
}

static enum err channel_rule(struct acl_selector *s, struct bytes word, const char **why)
{
    struct bytes pattern = behind(word, 1);
    if (s->flags & ACL_ALL_CHANNELS) {
        *why = "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any "
               "effect. Try 'resetchannels' to start with an empty list of channels";
        return ERR_SYNTAX;
    }
    return items_find(&s->channels, pattern) ? ERR_OK : items_add(&s->channels, pattern, 0);
}

/* ---- words ---- */

static void all_commands(struct acl_selector *s)
{
    set_all_commands(s, 1);
}

static void no_commands(struct acl_selector *s)
{
    set_all_commands(s, 0);
}

static const struct {
    const char *word;
    void (*set)(struct acl_selector *s);
} selector_words[] = {
    {"allkeys", all_keys},       {"~*", all_keys},     {"resetkeys", no_keys},        {"allcommands", all_commands},
    {"nocommands", no_commands}, {"&*", all_channels}, {"allchannels", all_channels}, {"resetchannels", no_channels},
};

static enum err apply_to_selector(struct acl_selector *s, struct bytes word, const char **why)
{
    for (size_t i = 0; i < sizeof selector_words / sizeof selector_words[0]; i++) {
        if (is_word(word, selector_words[i].word)) {
            selector_words[i].set(s);
            return ERR_OK;
        }
    }
    *why = syntax_error;
    if (word.n == 0 || has_blanks(word))
        return ERR_SYNTAX;
    switch (word.p[0]) {
    case '~':
    case '%':
        return key_rule(s, word, why);
    case '&':
        return channel_rule(s, word, why);
    case '+':
    case '-':
        return (word.n > 1 && word.p[1] == '@' ? category_rule : command_rule)(s, word.p[0] == '+', behind(word, 1),
                                                                               why);
    default:
        return ERR_SYNTAX;
    }
}

/* A name that is not known: whether the word may be passed over. "-@class" may not, it might hold what is here. */
static int is_harmless(struct bytes word, const char *why)
{
    return why == unknown_name && !(word.n > 1 && word.p[0] == '-' && word.p[1] == '@');
}

static enum err apply_forgiving(struct acl_selector *s, struct bytes word, int forgive, const char **why)
{
    enum err e = apply_to_selector(s, word, why);
    return e == ERR_SYNTAX && forgive && is_harmless(word, *why) ? ERR_OK : e;
}

static struct bytes next_word(struct bytes *text)
{
    struct bytes w = {NULL, 0};
    size_t n = 0;
    while (text->n && has_blanks(bytes_of(text->p, 1)))
        *text = behind(*text, 1);
    while (n < text->n && !has_blanks(bytes_of(text->p + n, 1)))
        n++;
    (void)bytes_take(text, n, &w);
    return w;
}

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
    selector_init(s, with_channels);
    while (!e && (w = next_word(&inside)).n) {
        *why = syntax_error;
        e = w.p[w.n - 1] == ')' ? ERR_SYNTAX : apply_forgiving(s, w, forgive, why);
    }
    if (e) {
        selector_fini(s);
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
    selector_fini(&u->own);
    selector_init(&u->own, with_channels);
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
    {"sanitize-payload", set_nothing}, /* payloads of RESTORE, which is not here */
    {"skip-sanitize-payload", set_nothing},
};

static int is_selector(struct bytes word)
{
    return word.n >= 2 && word.p[0] == '(' && word.p[word.n - 1] == ')';
}

static enum err apply_word(struct acl_user *u, struct bytes word, int with_channels, int forgive, const char **why)
{
    for (size_t i = 0; i < sizeof user_words / sizeof user_words[0]; i++) {
        if (is_word(word, user_words[i].word)) {
            user_words[i].set(u, with_channels);
            return ERR_OK;
        }
    }
    if (word.n > 0 && memchr("><#!", word.p[0], 4))
        return password_rule(u, word, why);
    if (is_selector(word))
        return add_selector(u, word, with_channels, forgive, why);
    return apply_forgiving(&u->own, word, forgive, why);
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
    for (struct bytes w; !e && (w = next_word(&text)).n; why->word++) {
        const uint8_t *start = w.p;
        if (start[0] == '(')
            while (w.n && w.p[w.n - 1] != ')')
                w = next_word(&text);
        e = apply_word(u, w.n ? bytes_of(start, (size_t)(w.p + w.n - start)) : bytes_of(start, 1), 0, forgive,
                       &why->text);
        if (e)
            break;
    }
    return e;
}

/* ---- the other way ---- */

/* A blank unless out is empty or ends in one; nothing for the first word behind mark. */
static enum err put_word(struct buf *out, size_t mark, const char *before, struct bytes word)
{
    enum err e = buf_size(out) > mark ? buf_put_u8(out, ' ') : ERR_OK;
    if (!e)
        e = buf_put(out, before, strlen(before));
    return e ? e : buf_put(out, word.p, word.n);
}

enum err acl_selector_commands(const struct acl_selector *s, struct buf *out)
{
    size_t mark = buf_size(out);
    enum err e = put_word(out, mark, s->all_but ? "+@all" : "-@all", bytes_of(NULL, 0));
    for (unsigned i = 0; i < s->rules.n && !e; i++)
        e = put_word(out, mark, s->rules.at[i].num ? "+" : "-", item_text(&s->rules.at[i]));
    return e;
}

enum err acl_selector_keys(const struct acl_selector *s, struct buf *out)
{
    static const char *const before[] = {[KEY_READS] = "%R~", [KEY_WRITES] = "%W~", [KEY_READS | KEY_WRITES] = "~"};
    size_t mark = buf_size(out);
    enum err e = s->flags & ACL_ALL_KEYS ? put_word(out, mark, "~*", bytes_of(NULL, 0)) : ERR_OK;
    for (unsigned i = 0; i < s->keys.n && !e; i++)
        e = put_word(out, mark, before[s->keys.at[i].num], item_text(&s->keys.at[i]));
    return e;
}

enum err acl_selector_channels(const struct acl_selector *s, struct buf *out)
{
    size_t mark = buf_size(out);
    enum err e = s->flags & ACL_ALL_CHANNELS ? put_word(out, mark, "&*", bytes_of(NULL, 0)) : ERR_OK;
    for (unsigned i = 0; i < s->channels.n && !e; i++)
        e = put_word(out, mark, "&", item_text(&s->channels.at[i]));
    return e;
}

/* Each part that is not empty, and a blank behind it but for the last. */
static enum err put_selector(const struct acl_selector *s, struct buf *out)
{
    size_t before = buf_size(out);
    enum err e = acl_selector_keys(s, out);
    if (!e && buf_size(out) > before)
        e = buf_put_u8(out, ' ');
    if (!e && !(s->flags & ACL_ALL_CHANNELS))
        e = buf_put(out, "resetchannels ", 14);
    before = buf_size(out);
    if (!e)
        e = acl_selector_channels(s, out);
    if (!e && buf_size(out) > before)
        e = buf_put_u8(out, ' ');
    return e ? e : acl_selector_commands(s, out);
}

enum err acl_user_hashes(const struct acl_user *u, struct buf *out, unsigned *count)
{
    static const char digits[] = "0123456789abcdef";
    enum err e = ERR_OK;
    *count = u->hashes;
    for (unsigned i = 0; i < u->hashes * SHA256_BYTES && !e; i++) {
        uint8_t b = u->hash[i / SHA256_BYTES][i % SHA256_BYTES];
        e = buf_put_u8(out, (uint8_t)digits[b >> 4]);
        if (!e)
            e = buf_put_u8(out, (uint8_t)digits[b & 15]);
    }
    return e;
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
        e = put_selector(&u->own, out);
    for (const struct acl_selector *s = u->own.next; s && !e; s = s->next) {
        e = buf_put(out, " (", 2);
        if (!e)
            e = put_selector(s, out);
        if (!e)
            e = buf_put_u8(out, ')');
    }
    return e;
}
