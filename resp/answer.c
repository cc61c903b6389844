/* answer.c - see answer.h.
 *
 * Happy path: every element begins with a line, "<mark><rest>\r\n", and most end there. parse_element() finds the line,
 * looks its mark up in the table of kinds and calls its reader, which makes a node and says how many bytes it took;
 * then the element leaves the input. Aggregates open a frame; when a frame has all its elements, close_frames() makes
 * the array of its items from the list of siblings. The answer is complete when no frame is open and root is set.
 *
 * Resuming is simple since finished elements are gone from the input: what is left begins with the one that was not
 * complete. scan keeps a long line from being searched again; of a bulk, the header (a few bytes) is read again, its
 * body is not looked at before it is all there.
 *
 * An attribute opens a frame like a map does, but its elements are read into a dummy node, and closing it does not
 * count as an element of the enclosing frame: the element that it belongs to is still to come.
 *
 * Failure: ANSWER_BAD is final until reset. ANSWER_OOM is not: an element is taken off the input after its memory was
 * had, and the items of a closed frame are retried at the next call. Memory of the failed attempt stays in the arena
 * until the answer is dropped.
 *
 * Rejected: nodes that point into the input (it would have to be kept whole and could not move); item arrays allocated
 * by the announced count (a dozen bytes would buy gigabytes); recursion (cannot be resumed).
 */
#include "resp/answer.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "resp/number.h"

const struct answer_limits answer_default_limits = {
    .max_elements = (size_t)1 << 20,
    .max_line_bytes = (size_t)64 << 10,
    .max_bytes = (size_t)512 << 20,
};

/* An element whose line is complete. */
struct element {
    const struct kind *kind;
    struct bytes line; /* without mark and CRLF */
    struct bytes rest; /* behind the line */
    size_t body;       /* bytes of rest that belong to it; set by the reader */
    size_t children;   /* elements that follow and belong to it; set by the reader */
    int attribute;     /* set by the reader */
};

struct kind {
    enum answer_status (*read)(struct answer_parser *p, struct element *e, struct answer **node);
    enum answer_type type;
    size_t per_count; /* aggregates: elements per announced one */
};

void answer_parser_init(struct answer_parser *p, const struct answer_limits *limits, int secret)
{
    *p = (struct answer_parser){.limits = limits};
    arena_init(&p->arena, secret);
}

void answer_parser_fini(struct answer_parser *p)
{
    answer_parser_reset(p);
    arena_fini(&p->arena);
}

void answer_parser_reset(struct answer_parser *p)
{
    arena_reset(&p->arena);
    p->root = NULL;
    p->error = NULL;
    p->bytes = p->elements = p->scan = 0;
    p->skipping = p->depth = 0;
}

static enum answer_status bad(struct answer_parser *p, const char *what)
{
    p->root = NULL;
    p->error = what;
    return ANSWER_BAD;
}

static enum answer_status more(struct answer_parser *p, size_t need_bytes)
{
    p->need_bytes = need_bytes;
    return ANSWER_MORE;
}

/* n bytes of the arena, within the limit of this answer. */
static enum answer_status allocate(struct answer_parser *p, size_t n, void **out)
{
    *out = NULL;
    if (n > p->limits->max_bytes || p->bytes > p->limits->max_bytes - n)
        return bad(p, "answer too big");
    *out = arena_alloc(&p->arena, n);
    if (!*out)
        return ANSWER_OOM;
    p->bytes += n;
    return ANSWER_READY;
}

/* A node with a copy of text; while an attribute is skipped none, *node is NULL. */
static enum answer_status new_node(struct answer_parser *p, enum answer_type type, struct bytes text,
                                   struct answer **node)
{
    void *mem, *copy = NULL;
    *node = NULL;
    if (p->skipping)
        return ANSWER_READY;
    enum answer_status s = allocate(p, sizeof **node, &mem);
    if (s == ANSWER_READY && text.n)
        s = allocate(p, text.n, &copy);
    if (s != ANSWER_READY)
        return s;
    if (text.n)
        memcpy(copy, text.p, text.n);
    *node = mem;
    **node = (struct answer){.type = type, .text = bytes_of(copy, text.n)};
    return ANSWER_READY;
}

static enum answer_status read_text(struct answer_parser *p, struct element *e, struct answer **node)
{
    return new_node(p, e->kind->type, e->line, node);
}

static enum answer_status read_integer(struct answer_parser *p, struct element *e, struct answer **node)
{
    int64_t v;
    if (!number_parse(e->line, &v))
        return bad(p, "invalid integer");
    enum answer_status s = new_node(p, ANSWER_INTEGER, bytes_of(NULL, 0), node);
    if (*node)
        (*node)->integer = v;
    return s;
}

static enum answer_status read_bool(struct answer_parser *p, struct element *e, struct answer **node)
{
    if (e->line.n != 1 || (e->line.p[0] != 't' && e->line.p[0] != 'f'))
        return bad(p, "invalid boolean");
    enum answer_status s = new_node(p, ANSWER_BOOL, bytes_of(NULL, 0), node);
    if (*node)
        (*node)->integer = e->line.p[0] == 't';
    return s;
}

static enum answer_status read_nil(struct answer_parser *p, struct element *e, struct answer **node)
{
    if (e->line.n)
        return bad(p, "invalid null");
    return new_node(p, ANSWER_NIL, e->line, node);
}

/* strtod() would also take spaces, hexadecimal and nan(...). */
static int parse_double(struct bytes s, double *out)
{
    char text[128], *end = text;
    if (s.n == 0 || s.n >= sizeof text)
        return 0;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    if (strspn(text, "+-0123456789.eE") != s.n && strcmp(text, "inf") != 0 && strcmp(text, "-inf") != 0 &&
        strcmp(text, "nan") != 0)
        return 0;
    *out = strtod(text, &end);
    return end == text + s.n;
}

static enum answer_status read_double(struct answer_parser *p, struct element *e, struct answer **node)
{
    double v = 0;
    if (!parse_double(e->line, &v))
        return bad(p, "invalid double");
    enum answer_status s = new_node(p, ANSWER_DOUBLE, bytes_of(NULL, 0), node);
    if (*node)
        (*node)->number = v;
    return s;
}

static enum answer_status read_big_number(struct answer_parser *p, struct element *e, struct answer **node)
{
    size_t i = e->line.n && (e->line.p[0] == '-' || e->line.p[0] == '+');
    if (i == e->line.n)
        return bad(p, "invalid big number");
    for (; i < e->line.n; i++)
        if (e->line.p[i] < '0' || e->line.p[i] > '9')
            return bad(p, "invalid big number");
    return new_node(p, ANSWER_BIG_NUMBER, e->line, node);
}

/* A length or count: 1 with *v >= 0, or *v -1 where nil may be. */
static int parse_length(struct element *e, int nil_allowed, int64_t *v)
{
    return number_parse(e->line, v) && (*v >= 0 || (nil_allowed && *v == -1));
}

/* The body of length bytes and its CRLF: READY when all is there. */
static enum answer_status take_body(struct answer_parser *p, struct element *e, size_t length)
{
    size_t max = p->limits->max_bytes;
    if (p->bytes > max ||
        length > max - p->bytes) /* refused before it arrives; allocate() would only refuse it after */
        return bad(p, "answer too big");
    if (e->rest.n < length + 2)
        return more(p, length + 2 - e->rest.n);
    if (e->rest.p[length] != '\r' || e->rest.p[length + 1] != '\n')
        return bad(p, "bulk without CRLF");
    e->body = length + 2;
    return ANSWER_READY;
}

static enum answer_status read_bulk(struct answer_parser *p, struct element *e, struct answer **node)
{
    int64_t length;
    if (!parse_length(e, e->kind->type == ANSWER_BULK, &length))
        return bad(p, "invalid bulk length");
    if (length < 0)
        return new_node(p, ANSWER_NIL, bytes_of(NULL, 0), node);
    enum answer_status s = take_body(p, e, (size_t)length);
    if (s != ANSWER_READY)
        return s;
    return new_node(p, e->kind->type, bytes_of(e->rest.p, (size_t)length), node);
}

static enum answer_status read_verbatim(struct answer_parser *p, struct element *e, struct answer **node)
{
    int64_t length;
    if (!parse_length(e, 0, &length) || length < 4)
        return bad(p, "invalid verbatim length");
    enum answer_status s = take_body(p, e, (size_t)length);
    if (s != ANSWER_READY)
        return s;
    if (e->rest.p[3] != ':')
        return bad(p, "invalid verbatim format");
    s = new_node(p, ANSWER_VERBATIM, bytes_of(e->rest.p + 4, (size_t)length - 4), node);
    if (*node)
        memcpy((*node)->format, e->rest.p, 3);
    return s;
}

/* Checks an announced count against what this answer may still have. */
static enum answer_status take_count(struct answer_parser *p, struct element *e, int64_t count)
{
    size_t room = p->limits->max_elements - p->elements; /* elements <= max_elements: parse_element() */
    if ((uint64_t)count > room / e->kind->per_count)
        return bad(p, "too many elements");
    e->children = (size_t)count * e->kind->per_count;
    if (count && p->depth == ANSWER_MAX_DEPTH)
        return bad(p, "nested too deep");
    return ANSWER_READY;
}

static enum answer_status read_aggregate(struct answer_parser *p, struct element *e, struct answer **node)
{
    int64_t count;
    if (!parse_length(e, e->kind->type == ANSWER_ARRAY, &count))
        return bad(p, "invalid count");
    if (e->kind->type == ANSWER_PUSH && p->depth)
        return bad(p, "push inside an answer");
    if (count < 0)
        return new_node(p, ANSWER_NIL, bytes_of(NULL, 0), node);
    enum answer_status s = take_count(p, e, count);
    if (s != ANSWER_READY)
        return s;
    s = new_node(p, e->kind->type, bytes_of(NULL, 0), node);
    if (*node)
        (*node)->count = e->children;
    return s;
}

static enum answer_status read_attribute(struct answer_parser *p, struct element *e, struct answer **node)
{
    int64_t count;
    *node = NULL;
    if (!parse_length(e, 0, &count))
        return bad(p, "invalid count");
    e->attribute = 1;
    return take_count(p, e, count);
}

static const struct kind kinds[128] = {
    ['+'] = {read_text, ANSWER_STATUS, 0},     ['-'] = {read_text, ANSWER_ERROR, 0},
    [':'] = {read_integer, ANSWER_INTEGER, 0}, ['$'] = {read_bulk, ANSWER_BULK, 0},
    ['!'] = {read_bulk, ANSWER_ERROR, 0},      ['='] = {read_verbatim, ANSWER_VERBATIM, 0},
    ['_'] = {read_nil, ANSWER_NIL, 0},         ['#'] = {read_bool, ANSWER_BOOL, 0},
    [','] = {read_double, ANSWER_DOUBLE, 0},   ['('] = {read_big_number, ANSWER_BIG_NUMBER, 0},
    ['*'] = {read_aggregate, ANSWER_ARRAY, 1}, ['~'] = {read_aggregate, ANSWER_SET, 1},
    ['>'] = {read_aggregate, ANSWER_PUSH, 1},  ['%'] = {read_aggregate, ANSWER_MAP, 2},
    ['|'] = {read_attribute, ANSWER_MAP, 2},
};

/* Finds mark and line of the element at the front of in. */
static enum answer_status find_line(struct answer_parser *p, struct bytes in, struct element *e)
{
    if (in.n == 0)
        return more(p, 1);
    if (in.p[0] >= 128 || !kinds[in.p[0]].read)
        return bad(p, "unknown type");
    e->kind = &kinds[in.p[0]];

    size_t max = p->limits->max_line_bytes;
    size_t end = in.n > max ? max + 1 : in.n;
    const uint8_t *cr = p->scan < end ? memchr(in.p + p->scan, '\r', end - p->scan) : NULL;
    if (!cr) {
        p->scan = end;
        return end > max ? bad(p, "line too long") : more(p, 1);
    }
    p->scan = (size_t)(cr - in.p);
    if (p->scan + 1 == in.n)
        return more(p, 1);
    if (cr[1] != '\n')
        return bad(p, "line without CRLF");
    e->line = bytes_of(in.p + 1, p->scan - 1);
    e->rest = bytes_of(in.p + p->scan + 2, in.n - p->scan - 2);
    return ANSWER_READY;
}

/* Puts a read element in its place. */
static void attach(struct answer_parser *p, const struct element *e, struct answer *node)
{
    struct answer_frame *in = p->depth ? &p->frame[p->depth - 1] : NULL;
    p->elements++;
    if (!in && !e->attribute)
        p->root = node;
    if (in && !e->attribute) {
        in->left--;
        if (in->last)
            in->last->next = node;
        else
            in->first = node;
        in->last = node;
    }
    if (e->children) {
        p->frame[p->depth++] = (struct answer_frame){.node = node, .left = e->children, .attribute = e->attribute};
        p->skipping += e->attribute;
    }
}

static enum answer_status parse_element(struct answer_parser *p, struct bytes in, size_t *took)
{
    struct element e = {0};
    struct answer *node = NULL;
    enum answer_status s = find_line(p, in, &e);
    if (s != ANSWER_READY)
        return s;
    if (p->elements >= p->limits->max_elements)
        return bad(p, "too many elements");
    s = e.kind->read(p, &e, &node);
    if (s != ANSWER_READY)
        return s;
    attach(p, &e, node);
    *took = p->scan + 2 + e.body;
    p->scan = 0;
    return ANSWER_READY;
}

/* Makes the item arrays of all aggregates that have got their last element. */
static enum answer_status close_frames(struct answer_parser *p)
{
    while (p->depth && p->frame[p->depth - 1].left == 0) {
        struct answer_frame *f = &p->frame[p->depth - 1];
        if (f->node) {
            void *mem;
            enum answer_status s = allocate(p, f->node->count * sizeof(struct answer *), &mem);
            if (s != ANSWER_READY)
                return s;
            f->node->item = mem;
            for (struct answer *child = f->first, **item = mem; child; child = child->next)
                *item++ = child;
        }
        p->skipping -= f->attribute;
        p->depth--;
    }
    return ANSWER_READY;
}

enum answer_status answer_parse(struct answer_parser *p, struct bytes in, size_t *used)
{
    *used = 0;
    p->need_bytes = 0;
    if (p->error)
        return ANSWER_BAD;
    if (p->root && p->depth == 0) /* the last call's answer */
        answer_parser_reset(p);
    for (;;) {
        enum answer_status s = close_frames(p);
        if (s != ANSWER_READY || (p->root && p->depth == 0))
            return s;
        size_t took = 0;
        s = parse_element(p, in, &took);
        if (s != ANSWER_READY)
            return s;
        *used += took;
        in = bytes_of(in.p + took, in.n - took);
    }
}

int answer_is(const struct answer *a, const char *s)
{
    return bytes_equal(a->text, bytes_str(s));
}

const struct answer *answer_get(const struct answer *map, const char *key)
{
    for (size_t i = 0; i + 1 < map->count; i += 2)
        if (answer_is(map->item[i], key))
            return map->item[i + 1];
    return NULL;
}
