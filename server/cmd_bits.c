/* cmd_bits.c - commands of the façade that see a value as bits: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP, BITFIELD.
 * Texts are Redis's; the bits themselves are in bits.h.
 *
 * SETBIT and BITFIELD are edits (valueedit.h), and write nothing when nothing changes. BITOP is one of several values:
 * a step reads each of them, then the destination is set to what the edit made of them, or destroyed when that is
 * empty; all in one record.
 */
#include "resp/number.h"
#include "server/access.h"
#include "server/bits.h"
#include "server/command.h"
#include "server/dek.h"
#include "server/handlers.h"
#include "server/options.h"
#include "server/server.h"
#include "server/valueedit.h"

#define OFFSETS (UINT64_C(1) << 32)          /* Redis's: bits of the largest value that it can hold */
#define SOURCES_BYTES_MAX ((size_t)64 << 20) /* BITOP's, together: how long others wait for the sequencer */

static const char bad_offset[] = "bit offset is not an integer or out of range";
static const char sources_too_long[] = "the values to combine have more than 64 MiB together";
static const char *const units[] = {"BYTE", "BIT", NULL};
static const struct bytes none = {NULL, 0};

/* An offset in bits; with width not 0 "#n" is that of the n-th field of this width. */
static int parse_offset(struct bytes word, unsigned width, uint64_t *at)
{
    int64_t n;
    int counted = width && word.n && word.p[0] == '#';
    if (counted)
        word = bytes_of(word.p + 1, word.n - 1);
    if (!number_parse(word, &n) || n < 0 || __builtin_mul_overflow(n, counted ? (int64_t)width : 1, &n))
        return 0;
    *at = (uint64_t)n;
    return *at < OFFSETS;
}

/* ---- reads ---- */

/* Opens the value and calls show, which writes the answer. */
static enum call_result with_value(struct call *c,
                                   void (*show)(struct call *c, struct bytes value, int there, void *arg), void *arg)
{
    struct buf value;
    int there;
    buf_init_secret(&value, SEAL_VALUE_MAX);
    enum err err = facade_value(c, c->argv[1], NULL, &value, &there);
    if (err == ERR_OK)
        show(c, buf_bytes(&value), there, arg);
    buf_fini(&value);
    return err ? access_fail(c, err, none) : CALL_DONE;
}

static void show_bit(struct call *c, struct bytes value, int there, void *arg)
{
    const uint64_t *at = arg;
    (void)there;
    reply_int(c->reply, bits_get(value, *at));
}

enum call_result bits_getbit(struct call *c)
{
    uint64_t at;
    if (!parse_offset(c->argv[2], 0, &at))
        return call_errorf(c, ERR_RANGE, "%s", bad_offset);
    return with_value(c, show_bit, &at);
}

/* The part of a value that BITCOUNT and BITPOS are about. */
struct part {
    int64_t start, end; /* as they were given: negative ones count from the end */
    int in_bits, to_end;
    int bit; /* BITPOS */
};

/* start, end and their unit from argv[from] on; all of it when there are none. 0: replied. */
static int parse_part(struct call *c, unsigned from, struct part *p)
{
    p->start = 0;
    p->end = -1;
    p->to_end = c->argc <= from + 1;
    p->in_bits = c->argc == from + 3 ? options_word(c->argv[from + 2], units) : 0;
    if (c->argc > from + 3 || p->in_bits < 0) {
        call_error(c, ERR_SYNTAX);
        return 0;
    }
    if ((c->argc > from && !number_parse(c->argv[from], &p->start)) ||
        (c->argc > from + 1 && !number_parse(c->argv[from + 1], &p->end))) {
        call_error(c, ERR_NOTINT);
        return 0;
    }
    return 1;
}

static int64_t from_end(int64_t at, int64_t n)
{
    at = at < 0 ? at + n : at;
    return at < 0 ? 0 : at;
}

/* The bits that are meant. 0: there are none. */
static int bits_of_part(const struct part *p, struct bytes value, uint64_t *first, uint64_t *last)
{
    int64_t n = (int64_t)value.n * (p->in_bits ? 8 : 1), scale = p->in_bits ? 1 : 8;
    int64_t start = from_end(p->start, n), end = from_end(p->end, n);
    end = end >= n ? n - 1 : end;
    if (start > end)
        return 0;
    *first = (uint64_t)(start * scale);
    *last = (uint64_t)(end * scale + scale - 1);
    return 1;
}

static void show_count(struct call *c, struct bytes value, int there, void *arg)
{
    const struct part *p = arg;
    uint64_t first, last;
    int backwards = p->start < 0 && p->end < 0 && p->start > p->end;
    (void)there;
    reply_int(c->reply, !backwards && bits_of_part(p, value, &first, &last) ? bits_count(value, first, last) : 0);
}

enum call_result bits_bitcount(struct call *c)
{
    struct part p = {0};
    if (c->argc == 3)
        return call_error(c, ERR_SYNTAX);
    return parse_part(c, 2, &p) ? with_value(c, show_count, &p) : CALL_DONE;
}

static void show_position(struct call *c, struct bytes value, int there, void *arg)
{
    const struct part *p = arg;
    uint64_t first, last;
    int64_t at = -1;
    if (!there)
        at = p->bit ? -1 : 0; /* zeros without end */
    else if (bits_of_part(p, value, &first, &last) && (at = bits_find(value, p->bit, first, last)) < 0)
        at = !p->bit && p->to_end ? (int64_t)last + 1 : -1;
    reply_int(c->reply, at);
}

enum call_result bits_bitpos(struct call *c)
{
    struct part p = {0};
    int64_t bit;
    if (!number_parse(c->argv[2], &bit))
        return call_error(c, ERR_NOTINT);
    if (bit != 0 && bit != 1)
        return call_errorf(c, ERR_RANGE, "The bit argument must be 1 or 0.");
    p.bit = (int)bit;
    return parse_part(c, 3, &p) ? with_value(c, show_position, &p) : CALL_DONE;
}

/* ---- SETBIT ---- */

/* 1: a value may have so many bits. 0: replied. */
static int may_hold(struct call *c, uint64_t bits)
{
    if (bits <= 8 * (uint64_t)config_int(c->srv->config, CFG_SECRET_MAX_BYTES))
        return 1;
    call_errorf(c, ERR_RANGE, "%s", value_too_long);
    return 0;
}

struct one_bit {
    uint64_t at;
    int bit;
};

static enum err set_bit(struct change *ch, struct step *s, int there, struct buf *value)
{
    const struct one_bit *b = (const void *)ch->out.p;
    size_t had = buf_size(value);
    enum err err = value_edit_extend(ch, value, b->at / 8 + 1);
    if (err)
        return err;
    ch->arg = bits_get(buf_bytes(value), b->at);
    s->nil = there && had == buf_size(value) && ch->arg == b->bit;
    bits_set(buf_data(value), b->at, b->bit);
    return ERR_OK;
}

enum call_result bits_setbit(struct call *c)
{
    struct facade_key k;
    struct change *ch;
    struct one_bit b;
    int64_t bit;
    if (!parse_offset(c->argv[2], 0, &b.at))
        return call_errorf(c, ERR_RANGE, "%s", bad_offset);
    if (!number_parse(c->argv[3], &bit) || (bit != 0 && bit != 1))
        return call_errorf(c, ERR_RANGE, "bit is not an integer or out of range");
    if (!may_hold(c, b.at + 1))
        return CALL_DONE;
    b.bit = (int)bit;
    enum err err = value_edit_new(c, bytes_of(&b, sizeof b), 0, set_bit, EVENT_SETBIT, &k, &ch);
    return err ? access_fail(c, err, none) : change_submit(c, ch, k.vault, value_edit_answer);
}

/* ---- BITOP: steps that read the sources, one that sets, one that destroys when there is nothing to set ---- */

/* ch->arg is the operation, and becomes the length. value is the first source. */
static enum err combine(struct change *ch, struct step *s, int there, struct buf *value)
{
    enum bits_op op = (enum bits_op)ch->arg;
    size_t total = 0;
    enum err err = ERR_OK;
    struct buf other;
    (void)there;
    for (unsigned i = ch->edit_of; i > 0; i--)
        if ((s - i)->old.hold)
            total += sealed_plain_len((s - i)->old.value);
    if (total > SOURCES_BYTES_MAX)
        return value_edit_refuse(ch, sources_too_long);
    buf_init_secret(&other, SEAL_VALUE_MAX);
    for (unsigned i = ch->edit_of - 1; i > 0 && !err; i--) {
        if ((err = change_open_old(s - i, &other)) == ERR_OK)
            err = value_edit_extend(ch, value, buf_size(&other));
        if (err == ERR_OK)
            bits_combine(op, buf_data(value), buf_size(value), buf_bytes(&other));
        buf_clear(&other);
    }
    buf_fini(&other);
    if (op == BITS_NOT)
        bits_combine(op, buf_data(value), buf_size(value), none);
    ch->arg = (int64_t)buf_size(value);
    s->nil = buf_size(value) == 0;
    return err;
}

/* Adds what a source has, and makes sure that it can be opened. */
static enum err source_ready(struct call *c, const struct facade_key *k, size_t *total)
{
    struct secret_view view;
    enum err err = secret_read(c->srv->engine, k->vault, k->path, 0, none, &view);
    if (err)
        return err == ERR_NOTFOUND ? ERR_OK : err;
    *total += sealed_plain_len(view.value);
    secret_view_release(&view);
    return *total > SOURCES_BYTES_MAX ? ERR_TOOBIG : access_openable(c, k->vault, k->path);
}

/* A source that cannot be there is one that is not: a step about the destination, which no value is taken from. */
static enum err sources_fill(struct call *c, struct change *ch, const struct facade_key *to)
{
    size_t total = 0;
    for (unsigned i = 3; i < c->argc; i++) {
        struct facade_key k;
        struct step *s = &ch->step[i - 3];
        enum err err = facade_resolve(c, c->argv[i], 0, &k);
        int missing = err == ERR_NOTFOUND || err == ERR_BADPATH;
        if (err == ERR_OK)
            err = source_ready(c, &k, &total);
        if (err && !missing)
            return err;
        *s = (struct step){.kind = STEP_SECRET_READ, .flags = missing ? 0 : SET_OLD};
        s->path = change_keep(ch, missing ? to->path : k.path);
        s->vault = missing ? to->vault : k.vault;
    }
    return ERR_OK;
}

static void result_fill(struct change *ch, unsigned sources, const struct facade_key *to)
{
    struct step *set = &ch->step[sources];
    set[0] = change_edit_step(ch, sources, to->path);
    set[0].vault = to->vault;
    set[1] = (struct step){.kind = STEP_SECRET_DESTROY, .flags = SET_ELSE, .path = set[0].path, .vault = to->vault};
}

/* No path is longer than its key; that of the destination stands in for those that are missing. */
static enum err bitop_new(struct call *c, const struct facade_key *to, struct change **out)
{
    struct dek *d;
    size_t keep = to->path.n;
    for (unsigned i = 3; i < c->argc; i++)
        keep += c->argv[i].n > to->path.n ? c->argv[i].n : to->path.n;
    enum err err = deks_writer(c->srv->deks, c, to->vault, &d);
    return err ? err : change_new_edit(d, c->argc - 1, keep, combine, out);
}

enum call_result bits_bitop(struct call *c)
{
    static const char *const words[] = {"AND", "OR", "XOR", "NOT", NULL}; /* as enum bits_op */
    struct facade_key to;
    struct change *ch = NULL;
    int op = options_word(c->argv[1], words);
    if (op < 0)
        return call_error(c, ERR_SYNTAX);
    if (op == BITS_NOT && c->argc != 4)
        return call_errorf(c, ERR_SYNTAX, "BITOP NOT must be called with a single source key.");
    enum err err = facade_resolve(c, c->argv[2], 1, &to);
    if (err == ERR_OK)
        err = bitop_new(c, &to, &ch);
    if (err == ERR_OK && (err = sources_fill(c, ch, &to)) != ERR_OK)
        change_free(ch);
    if (err == ERR_TOOBIG)
        return call_errorf(c, err, "%s", sources_too_long);
    if (err)
        return access_fail(c, err, none);
    result_fill(ch, c->argc - 3, &to);
    ch->arg = op;
    return change_submit(c, ch, NULL, value_edit_answer);
}

/* ---- BITFIELD ---- */

enum field_kind { FIELD_GET, FIELD_SET, FIELD_INCRBY, FIELD_OVERFLOW };
static const char *const field_words[] = {"GET", "SET", "INCRBY", "OVERFLOW", NULL};
static const unsigned field_arguments[] = {2, 3, 3, 1};

struct field_op {
    struct bits_field f;
    enum field_kind kind;
    enum bits_overflow overflow;
    int64_t by;     /* SET: the new value; INCRBY: what to add */
    int64_t result; /* the answer */
    int failed;     /* it is nil */
};

static int parse_type(struct bytes word, struct bits_field *f)
{
    int64_t width;
    if (word.n < 2 || (word.p[0] != 'i' && word.p[0] != 'u'))
        return 0;
    f->is_signed = word.p[0] == 'i';
    if (!number_parse(bytes_of(word.p + 1, word.n - 1), &width) || width < 1 || width > (f->is_signed ? 64 : 63))
        return 0;
    f->width = (unsigned)width;
    return 1;
}

/* op's arguments, behind its word. 0: replied. */
static int parse_field(struct call *c, const struct bytes *arg, struct field_op *op)
{
    if (!parse_type(arg[0], &op->f))
        call_errorf(c, ERR_SYNTAX,
                    "Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.");
    else if (!parse_offset(arg[1], op->f.width, &op->f.at))
        call_errorf(c, ERR_RANGE, "%s", bad_offset);
    else if (op->kind != FIELD_GET && !number_parse(arg[2], &op->by))
        call_error(c, ERR_NOTINT);
    else
        return 1;
    return 0;
}

static int parse_overflow(struct call *c, struct bytes word, enum bits_overflow *out)
{
    static const char *const words[] = {"WRAP", "SAT", "FAIL", NULL}; /* as enum bits_overflow */
    int w = options_word(word, words);
    if (w < 0)
        call_errorf(c, ERR_SYNTAX, "Invalid OVERFLOW type specified");
    else
        *out = (enum bits_overflow)w;
    return w >= 0;
}

/* argv[2..] as a row of struct field_op in out, a secret buffer. 0: replied. */
static int parse_fields(struct call *c, struct buf *out)
{
    enum bits_overflow overflow = BITS_WRAP;
    for (unsigned i = 2; i < c->argc; i++) {
        int ok, w = options_word(c->argv[i], field_words);
        if (w < 0 || i + field_arguments[w] >= c->argc) {
            call_error(c, ERR_SYNTAX);
            return 0;
        }
        struct field_op op = {.kind = (enum field_kind)w, .overflow = overflow};
        if (op.kind == FIELD_OVERFLOW)
            ok = parse_overflow(c, c->argv[i + 1], &overflow);
        else
            ok = parse_field(c, c->argv + i + 1, &op);
        if (ok && op.kind != FIELD_OVERFLOW && buf_put(out, &op, sizeof op)) {
            call_error(c, ERR_OOM);
            ok = 0;
        }
        if (!ok)
            return 0;
        i += field_arguments[w];
    }
    return 1;
}

static void reply_fields(struct reply *r, const struct field_op *op, size_t n)
{
    reply_array(r, n);
    for (size_t i = 0; i < n; i++)
        if (op[i].failed)
            reply_nil(r);
        else
            reply_int(r, op[i].result);
}

/* 1: it was carried out on the field whose value was *old. */
static int change_field(struct field_op *op, uint8_t *v, int64_t old)
{
    int64_t now;
    op->failed = op->kind == FIELD_SET ? !bits_field_cast(&op->f, op->overflow, op->by, &now)
                                       : !bits_field_add(&op->f, op->overflow, old, op->by, &now);
    op->result = op->kind == FIELD_SET ? old : now;
    if (!op->failed)
        bits_field_set(v, &op->f, now);
    return !op->failed;
}

/* ch->out are the operations, ch->arg how many bytes the value must have for those that write. */
static enum err change_fields(struct change *ch, struct step *s, int there, struct buf *value)
{
    struct field_op *op = (void *)(uintptr_t)ch->out.p;
    size_t had = buf_size(value);
    int changed = 0;
    (void)there;
    enum err err = value_edit_extend(ch, value, (size_t)ch->arg);
    if (err)
        return err;
    for (size_t i = 0; i < ch->out.n / sizeof *op; i++) {
        int64_t old = op[i].result = bits_field_get(buf_bytes(value), &op[i].f);
        if (op[i].kind != FIELD_GET && change_field(&op[i], buf_data(value), old))
            changed |= buf_size(value) > had || bits_field_get(buf_bytes(value), &op[i].f) != old;
    }
    s->nil = !changed;
    return ERR_OK;
}

static void answer_fields(struct change *ch, struct reply *r)
{
    reply_fields(r, (const void *)ch->out.p, ch->out.n / sizeof(struct field_op));
}

static uint64_t bits_needed(const struct field_op *op, size_t n)
{
    uint64_t bits = 0;
    for (size_t i = 0; i < n; i++)
        if (op[i].kind != FIELD_GET && bits < op[i].f.at + op[i].f.width)
            bits = op[i].f.at + op[i].f.width;
    return bits;
}

enum call_result bits_bitfield(struct call *c)
{
    struct facade_key k;
    struct change *ch;
    struct buf ops;
    enum err err = ERR_AGAIN;
    enum call_result result = CALL_DONE;
    buf_init_secret(&ops, SIZE_MAX / 4);
    if (!parse_fields(c, &ops))
        goto out;
    uint64_t bits = bits_needed((const void *)buf_data(&ops), buf_size(&ops) / sizeof(struct field_op));
    if (!may_hold(c, bits))
        goto out;
    err = value_edit_new(c, buf_bytes(&ops), 0, change_fields, EVENT_SETBIT, &k, &ch);
    if (err == ERR_OK)
        ch->arg = (int64_t)((bits + 7) / 8);
    result = err ? access_fail(c, err, none) : change_submit(c, ch, k.vault, answer_fields);
out:
    buf_fini(&ops);
    return result;
}

static void show_fields(struct call *c, struct bytes value, int there, void *arg)
{
    struct buf *ops = arg;
    struct field_op *op = (void *)buf_data(ops);
    size_t n = buf_size(ops) / sizeof *op;
    (void)there;
    for (size_t i = 0; i < n; i++)
        op[i].result = bits_field_get(value, &op[i].f);
    reply_fields(c->reply, op, n);
}

enum call_result bits_bitfield_ro(struct call *c)
{
    struct buf ops;
    enum call_result result = CALL_DONE;
    buf_init_secret(&ops, SIZE_MAX / 4);
    if (!parse_fields(c, &ops))
        ;
    else if (bits_needed((const void *)buf_data(&ops), buf_size(&ops) / sizeof(struct field_op)))
        call_errorf(c, ERR_SYNTAX, "BITFIELD_RO only supports the GET subcommand");
    else
        result = with_value(c, show_fields, &ops);
    buf_fini(&ops);
    return result;
}
