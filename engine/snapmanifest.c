/* snapmanifest.c - see snapmanifest.h. One table of lines drives writing and reading.
 *
 * Rejected: JSON (many spellings of one thing, so that what is signed is not what is read, and a parser a hundred times
 * this one in front of a signature); a binary format (an operator looks at manifests, with a pager). */
#include "engine/snapmanifest.h"

#include <stddef.h>

#include "base/hex.h"
#include "base/mem.h"

enum type {
    FORMAT, /* the value is the format's number */
    OBJECT, /* the container's name, which follows from the other lines */
    KIND,
    HEX16,
    HEX32,
    U32,
    U64,
    NODE
};

#define AT(field) offsetof(struct snapmanifest, field)

static const struct line {
    const char *name;
    enum type type;
    size_t at;
} lines[] = {
    {"coffer-manifest", FORMAT, 0},      {"object", OBJECT, 0},           {"kind", KIND, 0},
    {"cell", HEX16, AT(object.cell_id)}, {"realm", HEX16, AT(realm)},     {"lsn", U64, AT(object.lsn)},
    {"term", U32, AT(object.term)},      {"node", NODE, AT(object.node)}, {"time-ms", U64, AT(time_ms)},
    {"bytes", U64, AT(bytes)},           {"sha256", HEX32, AT(sha256)},   {"file-bytes", U64, AT(file_bytes)},
    {"digest", HEX32, AT(digest)},       {"content", HEX32, AT(content)},
};
static const struct line hmac_line = {"hmac", HEX32, AT(hmac)};

#define LINES (sizeof lines / sizeof *lines)
#define HMAC_LINE_BYTES (sizeof "hmac " - 1 + 64 + 1)

static const char kind[] = "snapshot";

/* ---- writing ---- */

static enum err put_hex(struct buf *out, const uint8_t *p, size_t n)
{
    uint8_t *room;
    enum err e = buf_reserve(out, 2 * n, &room);

    if (e)
        return e;
    hex_digits(room, p, n);
    buf_added(out, 2 * n);
    return ERR_OK;
}

static enum err put_object(struct buf *out, const struct snapmanifest *m)
{
    char base[SNAPOBJECT_BASE_BYTES];
    enum err e = snapobject_base(base, &m->object, SNAPOBJECT_SNAP);

    return e ? e : buf_put(out, base, strlen(base));
}

static enum err put_value(struct buf *out, const struct line *l, const struct snapmanifest *m)
{
    const uint8_t *p = (const uint8_t *)m + l->at;

    switch (l->type) {
    case FORMAT:
        return buf_putf(out, "%d", SNAPMANIFEST_FORMAT);
    case OBJECT:
        return put_object(out, m);
    case KIND:
        return buf_put(out, kind, sizeof kind - 1);
    case HEX16:
        return put_hex(out, p, 16);
    case HEX32:
        return put_hex(out, p, 32);
    case U32:
        return buf_putf(out, "%u", get_le32(p));
    case U64:
        return buf_putf(out, "%lu", get_le64(p));
    case NODE:
        return buf_put(out, p, strlen((const char *)p));
    }
    return ERR_INTERNAL;
}

static enum err put_line(struct buf *out, const struct line *l, const struct snapmanifest *m)
{
    enum err e = buf_putf(out, "%s ", l->name);

    if (!e)
        e = put_value(out, l, m);
    return e ? e : buf_put(out, "\n", 1);
}

enum err snapmanifest_put(struct buf *out, struct snapmanifest *m, const struct snap_signer *sign)
{
    size_t before = buf_size(out);
    enum err e = ERR_OK;

    memset(m->hmac, 0, sizeof m->hmac);
    for (size_t i = 0; !e && i < LINES; i++)
        e = put_line(out, &lines[i], m);
    if (!e)
        e = sign->sign(sign->arg, bytes_of(buf_data(out) + before, buf_size(out) - before), m->hmac);
    if (!e)
        e = put_line(out, &hmac_line, m);
    if (e)
        buf_truncate(out, before);
    return e;
}

/* ---- reading ---- */

static int get_number(struct bytes v, uint64_t max, uint64_t *out)
{
    *out = 0;
    if (v.n == 0 || (v.n > 1 && v.p[0] == '0'))
        return 0;
    for (size_t i = 0; i < v.n; i++) {
        uint64_t digit = v.p[i] - (uint64_t)'0'; /* what is below '0' becomes large */
        if (digit > 9 || *out > (max - digit) / 10)
            return 0;
        *out = *out * 10 + digit;
    }
    return 1;
}

static int get_value(const struct line *l, struct bytes v, struct snapmanifest *m)
{
    uint8_t *p = (uint8_t *)m + l->at;
    uint64_t number;

    switch (l->type) {
    case FORMAT:
        return bytes_equal(v, bytes_str("1"));
    case OBJECT:
        return 1; /* compared when the rest is known: object_fits */
    case KIND:
        return bytes_equal(v, bytes_str(kind));
    case HEX16:
        return hex_get(v, p, 16);
    case HEX32:
        return hex_get(v, p, 32);
    case U32:
    case U64:
        if (!get_number(v, l->type == U32 ? UINT32_MAX : UINT64_MAX, &number))
            return 0;
        memcpy(p, &number, l->type == U32 ? 4 : 8);
        return 1;
    case NODE:
        if (!snapobject_node_valid(v))
            return 0;
        memcpy(p, v.p, v.n); /* the NUL behind it is there: *m was zeroed */
        return 1;
    }
    return 0;
}

static int get_line(struct bytes *text, const struct line *l, struct snapmanifest *m, struct bytes *value)
{
    const uint8_t *newline = text->n ? memchr(text->p, '\n', text->n) : NULL;
    struct bytes line, name, end;

    if (!newline || !bytes_take(text, (size_t)(newline - text->p), &line) || !bytes_take(text, 1, &end))
        return 0;
    if (!bytes_take(&line, strlen(l->name), &name) || !bytes_equal(name, bytes_str(l->name)) || line.n == 0 ||
        line.p[0] != ' ')
        return 0;
    *value = bytes_of(line.p + 1, line.n - 1);
    return get_value(l, *value, m);
}

static int object_fits(struct bytes object, const struct snapmanifest *m)
{
    char base[SNAPOBJECT_BASE_BYTES];

    return snapobject_base(base, &m->object, SNAPOBJECT_SNAP) == ERR_OK && bytes_equal(object, bytes_str(base));
}

static int get_lines(struct bytes text, struct snapmanifest *m)
{
    struct bytes value, object = {0};

    for (size_t i = 0; i < LINES; i++) {
        if (!get_line(&text, &lines[i], m, &value))
            return 0;
        if (lines[i].type == OBJECT)
            object = value;
    }
    return get_line(&text, &hmac_line, m, &value) && text.n == 0 && object_fits(object, m);
}

/* The first line of another format: the rest of it is not ours to judge. */
static int is_later(struct bytes text)
{
    struct bytes name, value;
    const uint8_t *newline;
    uint64_t format;

    if (!bytes_take(&text, sizeof "coffer-manifest " - 1, &name) || !bytes_equal(name, bytes_str("coffer-manifest ")))
        return 0;
    newline = text.n ? memchr(text.p, '\n', text.n) : NULL;
    return newline && bytes_take(&text, (size_t)(newline - text.p), &value) && get_number(value, UINT32_MAX, &format) &&
           format > SNAPMANIFEST_FORMAT;
}

enum err snapmanifest_get(struct bytes text, struct snapmanifest *m)
{
    memset(m, 0, sizeof *m);
    if (text.n <= SNAPMANIFEST_BYTES_MAX && get_lines(text, m))
        return ERR_OK;
    memset(m, 0, sizeof *m);
    return is_later(text) ? ERR_UNSUPPORTED : ERR_CORRUPT;
}

static int same_object(const struct snapobject *a, const struct snapobject *b)
{
    return bytes_equal(bytes_of(a->cell_id, 16), bytes_of(b->cell_id, 16)) && a->lsn == b->lsn && a->term == b->term &&
           strcmp(a->node, b->node) == 0;
}

enum err snapmanifest_open(struct bytes text, const struct snapobject *object, const struct snap_signer *check,
                           struct snapmanifest *m)
{
    uint8_t hmac[32];
    enum err e = snapmanifest_get(text, m);

    if (!e && !same_object(&m->object, object))
        e = ERR_CORRUPT;
    if (!e)
        e = check->sign(check->arg, bytes_of(text.p, text.n - HMAC_LINE_BYTES), hmac);
    if (!e && !mem_equal_ct(hmac, m->hmac, sizeof hmac))
        e = ERR_CORRUPT;
    if (e)
        memset(m, 0, sizeof *m);
    return e;
}
