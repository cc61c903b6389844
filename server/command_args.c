/* command_args.c - recursive descent over the syntax string; see command_args.h.
 *
 *     sequence  =  { word | group }            until  |  ]  >  or the end
 *     group     =  "[" alternatives "]"  |  "<" alternatives ">"
 *     alternatives = sequence { "|" sequence }
 *
 * A word in upper case is the token of what follows it in the sequence, or a pure token when nothing does. A sequence
 * of several in an alternative becomes a block. "x [x ...]" makes the x before the bracket multiple, instead of a node
 * of its own.
 */
#include "server/command_args.h"

struct parser {
    const struct command *cmd;
    struct command_args *a;
    const char *at;
    enum err e;
};

static struct command_arg *node(struct parser *p, struct bytes name, const char *type)
{
    if (p->a->used == COMMAND_ARGS_MAX) {
        p->e = ERR_SYNTAX;
        return &p->a->node[0];
    }
    struct command_arg *n = &p->a->node[p->a->used++];
    *n = (struct command_arg){.name = name, .type = type, .key_spec = -1};
    return n;
}

static int is_one_of(struct bytes w, const char *list)
{
    while (*list) {
        size_t n = strcspn(list, " ");
        if (w.n == n && memcmp(w.p, list, n) == 0)
            return 1;
        list += n + (list[n] == ' ');
    }
    return 0;
}

static int is_token(struct bytes w)
{
    int upper = 0;
    for (size_t i = 0; i < w.n; i++) {
        if (w.p[i] >= 'a' && w.p[i] <= 'z')
            return 0;
        upper |= w.p[i] >= 'A' && w.p[i] <= 'Z';
    }
    return upper;
}

static const char *type_of(const struct parser *p, struct bytes w)
{
    int facade = p->cmd->keys == KEYS_ONE || p->cmd->keys == KEYS_MANY || p->cmd->keys == KEYS_PAIRS ||
                 p->cmd->keys == KEYS_TWO || p->cmd->keys == KEYS_COPY || p->cmd->keys == KEYS_MOVE ||
                 p->cmd->keys == KEYS_SECOND || p->cmd->keys == KEYS_RESULT;
    if (p->cmd->keys != KEYS_NONE && is_one_of(w, facade ? "key key1 key2 newkey source destination destkey" : "vault"))
        return "key";
    if (w.n > 10 && memcmp(w.p, "unix-time-", 10) == 0)
        return "unix-time";
    if (is_one_of(w, "pattern glob"))
        return "pattern";
    if (is_one_of(w, "float"))
        return "double";
    if (is_one_of(w, "count version seconds milliseconds n ops bytes timeout index index1 index2 offset increment "
                     "decrement start end lsn term "
                     "port protover client-id cursor-id db limit length uses"))
        return "integer";
    return "string";
}

static struct bytes take_word(struct parser *p)
{
    size_t n = strcspn(p->at, " []<>|");
    struct bytes w = bytes_of(p->at, n);
    p->at += n;
    return w;
}

static void skip_blanks(struct parser *p)
{
    while (*p->at == ' ')
        p->at++;
}

static struct command_arg *sequence(struct parser *p, int *dots);

static unsigned length(const struct command_arg *n)
{
    unsigned i = 0;
    for (; n; n = n->next)
        i++;
    return i;
}

/* One node of a sequence of several. A leading token that had a block of arguments to itself is the block's. */
static struct command_arg *as_one(struct parser *p, struct command_arg *seq)
{
    if (!seq || !seq->next)
        return seq;
    struct command_arg *b = node(p, seq->name, "block");
    b->child = seq;
    b->token = seq->token;
    seq->token = bytes_of(NULL, 0);
    return b;
}

/* What is between the brackets, as one node. */
static struct command_arg *alternatives(struct parser *p, char close, int *dots)
{
    struct command_arg *first = NULL, **end = &first;
    unsigned count = 0;
    for (;; p->at++) {
        struct command_arg *alt = as_one(p, sequence(p, dots));
        if (!alt)
            p->e = ERR_SYNTAX;
        else {
            *end = alt;
            end = &alt->next;
            count++;
        }
        if (*p->at != '|')
            break;
    }
    if (*p->at != close || p->e) {
        p->e = ERR_SYNTAX;
        return NULL;
    }
    p->at++;
    if (count == 1)
        return first;
    struct command_arg *one = node(p, bytes_str("choice"), "oneof");
    one->child = first;
    return one;
}

static int same_names(const struct command_arg *a, const struct command_arg *b)
{
    while (a && b && bytes_equal(a->name, b->name)) {
        a = a->next;
        b = b->next;
    }
    return !a && !b;
}

/* "x y [x y ...]": if the tail of what we have so far is what the bracket repeats, that tail becomes multiple. */
static int repeats(struct parser *p, struct command_arg **first, const struct command_arg *group)
{
    const struct command_arg *inner =
        group->type && strcmp(group->type, "block") == 0 && !group->token.n ? group->child : group;
    unsigned have = length(*first), n = inner == group ? 1 : length(inner);
    struct command_arg **tail = first;
    if (have < n)
        return 0;
    for (unsigned i = 0; i < have - n; i++)
        tail = &(*tail)->next;
    if (inner == group ? (*tail)->next || !bytes_equal((*tail)->name, group->name) : !same_names(*tail, inner))
        return 0;
    *tail = as_one(p, *tail);
    (*tail)->multiple = 1;
    return 1;
}

static struct command_arg *group(struct parser *p, struct command_arg **first)
{
    char open = *p->at++;
    int dots = 0;
    struct command_arg *n = alternatives(p, open == '[' ? ']' : '>', &dots);
    if (!n)
        return NULL;
    if (dots && repeats(p, first, n))
        return NULL;
    n->multiple |= (uint8_t)dots;
    n->optional = open == '[';
    return n;
}

static struct command_arg *sequence(struct parser *p, int *dots)
{
    struct command_arg *first = NULL;
    struct bytes token = {NULL, 0};

    for (;;) {
        struct command_arg *n = NULL;
        skip_blanks(p);
        if (p->e || *p->at == 0 || strchr("]>|", *p->at))
            break;
        if (*p->at == '[' || *p->at == '<') {
            n = group(p, &first);
        } else {
            struct bytes w = take_word(p);
            if (w.n == 3 && memcmp(w.p, "...", 3) == 0) {
                *dots = 1;
                continue;
            }
            skip_blanks(p);
            if (is_token(w) && !token.n && *p->at && !strchr("[]>|", *p->at)) {
                token = w;
                continue;
            }
            n = node(p, w, is_token(w) ? "pure-token" : type_of(p, w));
            if (is_token(w))
                n->token = w;
            else if (strcmp(n->type, "key") == 0)
                n->key_spec = 0;
        }
        if (!n)
            continue;
        if (token.n)
            n->token = token;
        token.n = 0;
        struct command_arg **end = &first;
        while (*end)
            end = &(*end)->next;
        *end = n;
    }
    return first;
}

enum err command_args_parse(const struct command *cmd, struct command_args *out)
{
    struct parser p = {.cmd = cmd, .a = out, .at = cmd->args};
    int dots = 0;
    out->used = 0;
    out->first = sequence(&p, &dots);
    return p.e || *p.at || dots ? ERR_SYNTAX : ERR_OK;
}
