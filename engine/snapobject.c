/* snapobject.c - see snapobject.h. Names are parsed by taking them apart loosely, and building them again: what comes
 * out must be what came in. So there is one place that says how a name is spelled. */
#include "engine/snapobject.h"

#include <stdio.h>

#include "base/hex.h"

static const char *const suffixes[] = {[SNAPOBJECT_SNAP] = ".snap", [SNAPOBJECT_MANIFEST] = ".manifest"};

enum { CELL_DIGITS = 32, LSN_DIGITS = 20 };

static int is_alnum(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

int snapobject_node_valid(struct bytes node)
{
    if (node.n == 0 || node.n >= SNAPOBJECT_NODE_BYTES || !is_alnum(node.p[0]))
        return 0;
    for (size_t i = 1; i < node.n; i++) {
        uint8_t c = node.p[i];
        if (!is_alnum(c) && c != '.' && c != '_' && c != '-')
            return 0;
    }
    return 1;
}

/* ---- building ---- */

enum err snapobject_base(char out[SNAPOBJECT_BASE_BYTES], const struct snapobject *o, enum snapobject_kind kind)
{
    out[0] = '\0';
    if (!snapobject_node_valid(bytes_of(o->node, strnlen(o->node, sizeof o->node))))
        return ERR_BADNAME;
    snprintf(out, SNAPOBJECT_BASE_BYTES, "%020lu-%u-%s%s", UINT64_MAX - o->lsn, o->term, o->node, suffixes[kind]);
    return ERR_OK;
}

enum err snapobject_folder(char out[SNAPOBJECT_NAME_BYTES], const char *prefix, const uint8_t cell_id[16])
{
    int n = snprintf(out, SNAPOBJECT_NAME_BYTES, "%s%s", prefix, prefix[0] ? "/" : "");

    if (n < 0 || (size_t)n + CELL_DIGITS + 1 >= SNAPOBJECT_NAME_BYTES) {
        out[0] = '\0';
        return ERR_BADPATH;
    }
    hex_put(out + n, cell_id, 16);
    out[n + CELL_DIGITS] = '/';
    out[n + CELL_DIGITS + 1] = '\0';
    return ERR_OK;
}

enum err snapobject_name(char out[SNAPOBJECT_NAME_BYTES], const char *prefix, const struct snapobject *o,
                         enum snapobject_kind kind)
{
    char base[SNAPOBJECT_BASE_BYTES];
    enum err e = snapobject_base(base, o, kind);
    size_t n;

    out[0] = '\0';
    if (!e)
        e = snapobject_folder(out, prefix, o->cell_id);
    if (e)
        return e;
    n = strlen(out);
    if (n + strlen(base) >= SNAPOBJECT_NAME_BYTES) {
        out[0] = '\0';
        return ERR_BADPATH;
    }
    memcpy(out + n, base, strlen(base) + 1);
    return ERR_OK;
}

/* ---- taking apart ---- */

static int take_text(struct bytes *in, const char *text)
{
    struct bytes b, before = *in;

    if (bytes_take(in, strlen(text), &b) && bytes_equal(b, bytes_str(text)))
        return 1;
    *in = before;
    return 0;
}

static int take_cell(struct bytes *in, uint8_t out[16])
{
    struct bytes text;
    return bytes_take(in, CELL_DIGITS, &text) && hex_get(text, out, 16);
}

/* Digits, as many as there are, up to max. */
static int take_number(struct bytes *in, uint64_t max, uint64_t *out)
{
    uint64_t v = 0;
    size_t n = 0;

    for (; n < in->n && in->p[n] >= '0' && in->p[n] <= '9'; n++) {
        uint64_t digit = in->p[n] - '0';
        if (v > (max - digit) / 10)
            return 0;
        v = v * 10 + digit;
    }
    *out = v;
    return n && bytes_take(in, n, &(struct bytes){0});
}

static int take_kind(struct bytes *in, enum snapobject_kind *kind)
{
    for (unsigned k = 0; k < sizeof suffixes / sizeof *suffixes; k++) {
        size_t n = strlen(suffixes[k]);
        if (in->n > n && bytes_equal(bytes_of(in->p + in->n - n, n), bytes_str(suffixes[k]))) {
            in->n -= n;
            *kind = (enum snapobject_kind)k;
            return 1;
        }
    }
    return 0;
}

static int take_apart(struct bytes in, const char *prefix, struct snapobject *o, enum snapobject_kind *kind)
{
    uint64_t down, term;

    if (!take_text(&in, prefix) || (prefix[0] && !take_text(&in, "/")))
        return 0;
    if (!take_cell(&in, o->cell_id) || !take_text(&in, "/") || !take_number(&in, UINT64_MAX, &down) ||
        !take_text(&in, "-") || !take_number(&in, UINT32_MAX, &term) || !take_text(&in, "-"))
        return 0;
    if (!take_kind(&in, kind) || !snapobject_node_valid(in))
        return 0;
    o->lsn = UINT64_MAX - down;
    o->term = (uint32_t)term;
    memcpy(o->node, in.p, in.n);
    return 1;
}

int snapobject_parse(const char *key, const char *prefix, struct snapobject *o, enum snapobject_kind *kind)
{
    char again[SNAPOBJECT_NAME_BYTES];

    memset(o, 0, sizeof *o);
    *kind = SNAPOBJECT_SNAP;
    if (take_apart(bytes_str(key), prefix, o, kind) && snapobject_name(again, prefix, o, *kind) == ERR_OK &&
        strcmp(again, key) == 0)
        return 1;
    memset(o, 0, sizeof *o);
    *kind = SNAPOBJECT_SNAP;
    return 0;
}
