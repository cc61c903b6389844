/* options.c - see options.h. One pass over the words; what was given so far is the union of the groups that are taken.
 */
#include "server/options.h"

#include "resp/number.h"
#include "server/command.h"

#define SHOWN_MAX 64

int options_word(struct bytes word, const char *const *names)
{
    for (int i = 0; names[i]; i++)
        if (bytes_is_word(word, names[i]))
            return i;
    return -1;
}

enum call_result options_syntax_error(struct call *c, struct bytes word)
{
    char shown[SHOWN_MAX + 1];
    size_t n = word.n < SHOWN_MAX ? word.n : SHOWN_MAX;
    for (size_t i = 0; i < n; i++)
        shown[i] = (char)(word.p[i] >= ' ' && word.p[i] <= '~' ? word.p[i] : '?');
    shown[n] = 0;
    return call_errorf(c, ERR_SYNTAX, "syntax error near '%s'", shown);
}

/* A word that is no option. Where values stand before it, it may be the second word of one that was not quoted: then
 * its place is told instead. */
static void unknown_word(struct call *c, unsigned at)
{
    if (c->cmd && c->cmd->flags & CMD_REDACT && (int)at > c->cmd->redact_from)
        call_errorf(c, ERR_SYNTAX, "syntax error near argument %u", at);
    else
        options_syntax_error(c, c->argv[at]);
}

/* The integer of an option, or an error that was replied. */
static enum err take_int(struct call *c, const struct option *o, struct option_value *v)
{
    if (!number_parse(v->b, &v->i)) {
        call_error(c, ERR_NOTINT);
        return ERR_NOTINT;
    }
    if ((o->min || o->max) && (v->i < o->min || v->i > o->max)) {
        call_errorf(c, ERR_RANGE, "%s must be from %lld to %lld", o->name, (long long)o->min, (long long)o->max);
        return ERR_RANGE;
    }
    return ERR_OK;
}

static enum err parse(struct call *c, unsigned from, const struct option *table, unsigned n, struct option_value *out)
{
    unsigned taken = 0;
    for (unsigned at = from; at < c->argc; at++) {
        struct bytes word = c->argv[at];
        unsigned i = 0;
        while (i < n && !bytes_is_word(word, table[i].name))
            i++;
        int value = i < n && table[i].kind != OPTION_FLAG;
        if (i == n) {
            unknown_word(c, at);
            return ERR_SYNTAX;
        }
        if (out[i].given || (table[i].group & taken) || (value && at + 1 == c->argc)) {
            options_syntax_error(c, word);
            return ERR_SYNTAX;
        }
        out[i].given = 1;
        taken |= table[i].group;
        if (value)
            out[i].b = c->argv[++at];
        enum err e = table[i].kind == OPTION_INT ? take_int(c, &table[i], &out[i]) : ERR_OK;
        if (e)
            return e;
    }
    return ERR_OK;
}

enum err options_parse(struct call *c, unsigned from, const struct option *table, unsigned n, struct option_value *out)
{
    memset(out, 0, n * sizeof *out);
    enum err e = parse(c, from, table, n, out);
    if (e)
        memset(out, 0, n * sizeof *out);
    return e;
}
