/* objstore_xml.c - see objstore_xml.h.
 *
 * One scanner, next_token(), cuts content into tags and text; everything else is loops over it. objxml_child counts the
 * depth of tags until the one that it began with is closed, and looks at that one's name only: whether the names inside
 * match each other shows when somebody looks inside.
 *
 * Rejected: an XML library (a dependency whose history of holes is longer than this file), and searching for "<Key>" by
 * strstr (finds it in comments and in CDATA, and does not see <Key xmlns="...">).
 */
#include "engine/objstore_xml.h"

enum token_kind { TOKEN_END, TOKEN_BAD, TOKEN_TEXT, TOKEN_CDATA, TOKEN_OPEN, TOKEN_CLOSE, TOKEN_EMPTY };

struct token {
    enum token_kind kind;
    struct bytes body;   /* text or CDATA as it stands; a tag's name without prefix */
    const uint8_t *from; /* where it begins */
};

static int starts_with(struct bytes in, const char *text)
{
    size_t n = strlen(text);
    return in.n >= n && memcmp(in.p, text, n) == 0;
}

/* Takes all up to and with `end` off; *before is what stood in front of it. 0: it is not there. */
static int take_until(struct bytes *in, const char *end, struct bytes *before)
{
    size_t n = strlen(end);
    const uint8_t *at = in->n ? memmem(in->p, in->n, end, n) : NULL;
    struct bytes skipped;

    if (!at)
        return 0;
    return bytes_take(in, (size_t)(at - in->p), before) && bytes_take(in, n, &skipped);
}

static int is_name(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
           c == '-' || c == ':' || c >= 0x80;
}

/* The local part of the name that a tag begins with; empty when it is none. */
static struct bytes local_name(struct bytes tag)
{
    size_t n = 0, from = 0;
    while (n < tag.n && is_name(tag.p[n])) {
        if (tag.p[n] == ':')
            from = n + 1;
        n++;
    }
    int bounded = n == tag.n || tag.p[n] == ' ' || tag.p[n] == '\t' || tag.p[n] == '\r' || tag.p[n] == '\n';
    return bytes_of(tag.p + from, bounded ? n - from : 0);
}

/* Length of a tag up to its '>', which may stand inside of quotes too. 0: there is no end. */
static size_t tag_length(struct bytes in)
{
    uint8_t quote = 0;
    for (size_t i = 0; i < in.n; i++) {
        uint8_t c = in.p[i];
        if (quote)
            quote = c == quote ? 0 : quote;
        else if (c == '"' || c == '\'')
            quote = c;
        else if (c == '>')
            return i + 1;
    }
    return 0;
}

static enum token_kind take_tag(struct bytes *in, struct bytes *name)
{
    size_t n = tag_length(*in);
    struct bytes tag;
    enum token_kind kind = TOKEN_OPEN;

    if (n < 3 || !bytes_take(in, n, &tag))
        return TOKEN_BAD;
    tag = bytes_of(tag.p + 1, tag.n - 2);
    if (tag.p[0] == '/') {
        tag = bytes_of(tag.p + 1, tag.n - 1);
        kind = TOKEN_CLOSE;
    } else if (tag.p[tag.n - 1] == '/') {
        tag.n--;
        kind = TOKEN_EMPTY;
    }
    *name = local_name(tag);
    return name->n ? kind : TOKEN_BAD;
}

static enum token_kind take_text(struct bytes *in, struct bytes *text)
{
    const uint8_t *end = memchr(in->p, '<', in->n);
    bytes_take(in, end ? (size_t)(end - in->p) : in->n, text);
    return TOKEN_TEXT;
}

/* Comments and processing instructions: 1 when one was skipped, 0 when there is none here, -1 when it has no end. */
static int skip_aside(struct bytes *in)
{
    struct bytes aside;
    if (starts_with(*in, "<!--"))
        return take_until(in, "-->", &aside) ? 1 : -1;
    if (starts_with(*in, "<?"))
        return take_until(in, "?>", &aside) ? 1 : -1;
    return 0;
}

static enum token_kind next_token(struct bytes *in, struct token *t)
{
    static const char cdata[] = "<![CDATA[";
    struct bytes skipped;
    int aside;

    while ((aside = skip_aside(in)) > 0) {
    }
    t->from = in->p;
    t->body = bytes_of(in->p, 0);
    if (aside < 0)
        t->kind = TOKEN_BAD;
    else if (in->n == 0)
        t->kind = TOKEN_END;
    else if (in->p[0] != '<')
        t->kind = take_text(in, &t->body);
    else if (starts_with(*in, cdata) && bytes_take(in, sizeof cdata - 1, &skipped))
        t->kind = take_until(in, "]]>", &t->body) ? TOKEN_CDATA : TOKEN_BAD;
    else if (starts_with(*in, "<!"))
        t->kind = TOKEN_BAD;
    else
        t->kind = take_tag(in, &t->body);
    return t->kind;
}

/* Content of the element whose tag was just taken. */
static int take_inner(struct bytes *in, struct bytes name, struct bytes *inner)
{
    const uint8_t *from = in->p;
    struct token t;

    for (size_t depth = 1; depth;) {
        switch (next_token(in, &t)) {
        case TOKEN_END:
        case TOKEN_BAD:
            return -1;
        case TOKEN_OPEN:
            depth++;
            break;
        case TOKEN_CLOSE:
            depth--;
            break;
        case TOKEN_TEXT:
        case TOKEN_CDATA:
        case TOKEN_EMPTY:
            break;
        }
    }
    *inner = bytes_of(from, (size_t)(t.from - from));
    return bytes_equal(t.body, name) ? 1 : -1;
}

int objxml_child(struct bytes *in, struct bytes *name, struct bytes *inner)
{
    struct token t;
    int found = -1;

    *name = *inner = bytes_of(NULL, 0);
    while (next_token(in, &t) == TOKEN_TEXT || t.kind == TOKEN_CDATA) {
    }
    if (t.kind == TOKEN_END)
        return 0;
    if (t.kind == TOKEN_EMPTY)
        found = 1;
    else if (t.kind == TOKEN_OPEN)
        found = take_inner(in, t.body, inner);
    if (found > 0)
        *name = t.body;
    else
        *inner = bytes_of(NULL, 0);
    return found;
}

int objxml_find(struct bytes in, const char *name, struct bytes *inner)
{
    struct bytes child;
    int found;

    while ((found = objxml_child(&in, &child, inner)) > 0)
        if (bytes_equal(child, bytes_str(name)))
            return 1;
    return found;
}

/* ---- text ---- */

struct writer {
    char *out;
    size_t n, size;
};

static enum err put(struct writer *w, const void *p, size_t n)
{
    if (n >= w->size - w->n)
        return ERR_TOOBIG;
    memcpy(w->out + w->n, p, n);
    w->n += n;
    return ERR_OK;
}

static enum err put_char(struct writer *w, uint32_t c)
{
    uint8_t u[4];
    size_t n;

    if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return ERR_CORRUPT;
    if (c < 0x80) {
        u[0] = (uint8_t)c;
        n = 1;
    } else if (c < 0x800) {
        u[0] = (uint8_t)(0xc0 | c >> 6);
        n = 2;
    } else if (c < 0x10000) {
        u[0] = (uint8_t)(0xe0 | c >> 12);
        n = 3;
    } else {
        u[0] = (uint8_t)(0xf0 | c >> 18);
        n = 4;
    }
    for (size_t i = 1; i < n; i++)
        u[i] = (uint8_t)(0x80 | (c >> 6 * (n - 1 - i) & 0x3f));
    return put(w, u, n);
}

static int digit_of(uint8_t c, int base)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return base == 16 && c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "#65", "#x41" */
static enum err put_reference(struct writer *w, struct bytes ref)
{
    int base = ref.n > 1 && ref.p[1] == 'x' ? 16 : 10;
    size_t i = base == 16 ? 2 : 1;
    uint32_t c = 0;

    if (i == ref.n || ref.n - i > 7) /* seven digits of either base fit */
        return ERR_CORRUPT;
    for (; i < ref.n; i++) {
        int d = digit_of(ref.p[i], base);
        if (d < 0)
            return ERR_CORRUPT;
        c = c * (uint32_t)base + (uint32_t)d;
    }
    return put_char(w, c);
}

static enum err put_entity(struct writer *w, struct bytes name)
{
    static const struct {
        const char *name;
        char c;
    } known[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};

    if (name.n && name.p[0] == '#')
        return put_reference(w, name);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (bytes_equal(name, bytes_str(known[i].name)))
            return put(w, &known[i].c, 1);
    return ERR_CORRUPT;
}

static enum err put_unescaped(struct writer *w, struct bytes text)
{
    enum err e = ERR_OK;

    while (text.n && !e) {
        const uint8_t *amp = memchr(text.p, '&', text.n);
        size_t plain = amp ? (size_t)(amp - text.p) : text.n;
        struct bytes name;
        e = put(w, text.p, plain);
        if (e || !amp)
            break;
        text = bytes_of(amp + 1, text.n - plain - 1);
        e = take_until(&text, ";", &name) ? put_entity(w, name) : ERR_CORRUPT;
    }
    return e;
}

enum err objxml_text(struct bytes inner, char *out, size_t size)
{
    struct writer w = {.out = out, .size = size};
    enum err e = ERR_OK;
    struct token t;

    while (!e && next_token(&inner, &t) != TOKEN_END) {
        if ((t.kind != TOKEN_TEXT && t.kind != TOKEN_CDATA) || memchr(t.body.p, 0, t.body.n))
            e = ERR_CORRUPT;
        else if (t.kind == TOKEN_TEXT)
            e = put_unescaped(&w, t.body);
        else
            e = put(&w, t.body.p, t.body.n);
    }
    out[e ? 0 : w.n] = 0;
    return e;
}

enum err objxml_put_text(struct buf *out, const char *text)
{
    enum err e = ERR_OK;

    while (*text && !e) {
        size_t plain = strcspn(text, "&<>\"'");
        e = buf_put(out, text, plain);
        text += plain;
        if (*text && !e)
            e = buf_putf(out, "&#%d;", *text++);
    }
    return e;
}
