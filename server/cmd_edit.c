/* cmd_edit.c - commands of the façade that change a value by what it is: APPEND, SETRANGE, the INCR family. Each is an
 * edit (change.h): the function here runs in the sequencer, with the value open in locked memory. Texts are Redis's.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "resp/number.h"
#include "server/access.h"
#include "server/change.h"
#include "server/command.h"
#include "server/handlers.h"
#include "server/server.h"
#include "server/valueedit.h"

#define FLOAT_BYTES_MAX 5120 /* of a long double written out */

static const struct bytes none = {NULL, 0};

/* ---- APPEND, SETRANGE: the answer is the length ---- */

static enum err append(struct change *ch, struct step *s, int there, struct buf *value)
{
    (void)s;
    (void)there;
    enum err err = buf_put(value, ch->out.p, ch->out.n);
    ch->arg = (int64_t)buf_size(value);
    return value_edit_grown(ch, err);
}

enum call_result string_append(struct call *c)
{
    struct facade_key k;
    struct change *ch;
    enum err err = value_edit_new(c, c->argv[2], 0, append, EVENT_APPEND, &k, &ch);
    return err ? access_fail(c, err, none) : change_submit(c, ch, k.vault, value_edit_answer);
}

/* ch->arg is the offset. */
static enum err set_range(struct change *ch, struct step *s, int there, struct buf *value)
{
    size_t from = (size_t)ch->arg;
    (void)there;
    ch->arg = (int64_t)buf_size(value);
    if ((s->nil = ch->out.n == 0))
        return ERR_OK;
    enum err err = value_edit_extend(ch, value, from + ch->out.n);
    if (err)
        return err;
    memcpy(buf_data(value) + from, ch->out.p, ch->out.n);
    ch->arg = (int64_t)buf_size(value);
    return ERR_OK;
}

enum call_result string_setrange(struct call *c)
{
    struct facade_key k;
    struct change *ch;
    int64_t offset, max = config_int(c->srv->config, CFG_SECRET_MAX_BYTES);
    if (!number_parse(c->argv[2], &offset))
        return call_error(c, ERR_NOTINT);
    if (offset < 0)
        return call_errorf(c, ERR_RANGE, "offset is out of range");
    if (c->argv[3].n && (offset > max || (int64_t)c->argv[3].n > max - offset))
        return call_errorf(c, ERR_RANGE, "%s", value_too_long);
    enum err err = value_edit_new(c, c->argv[3], 0, set_range, EVENT_SETRANGE, &k, &ch);
    if (err)
        return access_fail(c, err, none);
    ch->arg = offset;
    return change_submit(c, ch, k.vault, value_edit_answer);
}

/* ---- INCR and its kin ---- */

static enum err put_number(struct buf *value, int64_t v)
{
    uint8_t digits[NUMBER_MAX_BYTES];
    size_t n = number_format(digits, v);
    buf_clear(value);
    enum err err = buf_put(value, digits, n);
    mem_wipe(digits, sizeof digits);
    return err;
}

/* ch->arg is what to add. */
static enum err add(struct change *ch, struct step *s, int there, struct buf *value)
{
    int64_t v = 0;
    (void)s;
    if (there && !number_parse(buf_bytes(value), &v))
        return value_edit_refuse(ch, "value is not an integer or out of range");
    if (__builtin_add_overflow(v, ch->arg, &v))
        return value_edit_refuse(ch, "increment or decrement would overflow");
    ch->arg = v;
    return put_number(value, v);
}

static enum call_result increment(struct call *c, int64_t by)
{
    struct facade_key k;
    struct change *ch;
    enum err err = value_edit_new(c, none, 0, add, EVENT_INCRBY, &k, &ch);
    if (err)
        return access_fail(c, err, none);
    ch->arg = by;
    return change_submit(c, ch, k.vault, value_edit_answer);
}

enum call_result string_incr(struct call *c)
{
    return increment(c, 1);
}

enum call_result string_decr(struct call *c)
{
    return increment(c, -1);
}

enum call_result string_incrby(struct call *c)
{
    int64_t by;
    return number_parse(c->argv[2], &by) ? increment(c, by) : call_error(c, ERR_NOTINT);
}

enum call_result string_decrby(struct call *c)
{
    int64_t by;
    if (!number_parse(c->argv[2], &by))
        return call_error(c, ERR_NOTINT);
    if (by == INT64_MIN)
        return call_errorf(c, ERR_RANGE, "decrement would overflow");
    return increment(c, -by);
}

/* All of s as one number, as strtold reads it, but no blanks and no "nan". */
static int parse_float(struct bytes s, long double *out)
{
    char text[FLOAT_BYTES_MAX], *end;
    if (s.n == 0 || s.n >= sizeof text || s.p[0] == ' ' || (s.p[0] >= '\t' && s.p[0] <= '\r'))
        return 0;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    *out = strtold(text, &end);
    int ok = end == text + s.n && !isnan(*out);
    mem_wipe(text, s.n);
    return ok;
}

/* 17 digits behind the point, less the zeros at the end: what Redis replicates, and so what clients know. */
static size_t format_float(char *out, size_t room, long double v)
{
    size_t n = (size_t)snprintf(out, room, "%.17Lf", v);
    if (n >= room)
        return 0;
    while (out[n - 1] == '0')
        n--;
    n -= out[n - 1] == '.';
    if (n == 2 && out[0] == '-' && out[1] == '0') /* no negative zero */
        out[0] = out[--n];
    return n;
}

/* ch->out is the increment, and becomes the sum. */
static enum err add_float(struct change *ch, struct step *s, int there, struct buf *value)
{
    long double v = 0, by;
    (void)s;
    if ((there && !parse_float(buf_bytes(value), &v)) || !parse_float(ch->out, &by))
        return value_edit_refuse(ch, "value is not a valid float");
    v += by;
    if (isnan(v) || isinf(v))
        return value_edit_refuse(ch, "increment would produce NaN or Infinity");
    size_t n = format_float((char *)ch->keep, FLOAT_BYTES_MAX, v);
    if (!n)
        return value_edit_refuse(ch, "value is not a valid float");
    ch->out = bytes_of(ch->keep, n);
    buf_clear(value);
    return value_edit_grown(ch, buf_put(value, ch->out.p, ch->out.n));
}

static void answer_out(struct change *ch, struct reply *r)
{
    reply_bulk(r, ch->out);
}

enum call_result string_incrbyfloat(struct call *c)
{
    struct facade_key k;
    struct change *ch;
    long double by;
    if (!parse_float(c->argv[2], &by))
        return call_errorf(c, ERR_NOTINT, "value is not a valid float");
    enum err err = value_edit_new(c, c->argv[2], FLOAT_BYTES_MAX, add_float, EVENT_INCRBYFLOAT, &k, &ch);
    return err ? access_fail(c, err, none) : change_submit(c, ch, k.vault, answer_out);
}
