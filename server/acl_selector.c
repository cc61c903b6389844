/* acl_selector.c - permissions: one word after the other makes them, and they make words.
 *
 *     ~pattern %R~pattern %W~pattern allkeys resetkeys                               keys
 *     &pattern allchannels resetchannels                                             channels
 *     +command -command +command|sub -command|sub +command|argument +@class -@class  commands
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

#include <ctype.h>

#include "base/mem.h"
#include "server/command.h"
#include "server/redis_names.h"

const char acl_syntax_error[] = "Syntax error";
static const char unknown_name[] = "Unknown command or category name in ACL";

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

struct bytes acl_next_word(struct bytes *text)
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

void acl_selector_init(struct acl_selector *s, int all_channels)
{
    *s = (struct acl_selector){.flags = all_channels ? ACL_ALL_CHANNELS : 0};
}

void acl_selector_fini(struct acl_selector *s)
{
    items_clear(&s->keys);
    items_clear(&s->channels);
    items_clear(&s->first_arguments);
    items_clear(&s->rules);
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
        if (bytes_is_word(name, commands[i].name))
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
    if (bytes_is_word(name, "@all")) {
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
           : argument.n == 0               ? acl_syntax_error
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

/* "select|0": the command is here. */
static int is_first_argument(struct bytes name)
{
    const uint8_t *bar = memchr(name.p, '|', name.n);
    const struct command *cmd = bar ? row_named(bytes_of(name.p, (size_t)(bar - name.p))) : NULL;
    return cmd && !has_subs(cmd);
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
    const struct command *cmd = row_named(name);
    if (!cmd && name.n < sizeof lower && redis_has_command(name) && !is_first_argument(name))
        return foreign_rule(s, allow, name);
    if (!cmd && name.n && memchr(name.p, '|', name.n))
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
        *why = acl_syntax_error;
        return ERR_SYNTAX;
    }
    if (s->flags & ACL_ALL_KEYS) {
        *why = "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any "
               "effect. Try 'resetkeys' to start with an empty list of patterns";
        return ERR_SYNTAX;
    }
    if (access == (KEY_READS | KEY_WRITES) && bytes_is_word(pattern, "*")) {
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
        if (bytes_is_word(word, selector_words[i].word)) {
            selector_words[i].set(s);
            return ERR_OK;
        }
    }
    *why = acl_syntax_error;
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

enum err acl_selector_apply(struct acl_selector *s, struct bytes word, int forgive, const char **why)
{
    enum err e = apply_to_selector(s, word, why);
    return e == ERR_SYNTAX && forgive && is_harmless(word, *why) ? ERR_OK : e;
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
enum err acl_selector_text(const struct acl_selector *s, struct buf *out)
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
