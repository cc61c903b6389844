/* uri.c - the part of RFC 7512 that names a token; what is refused and why is in uri.h. */
#include "hsm/uri.h"

#include <ctype.h>

static const char scheme[] = "pkcs11:";

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (uint8_t)tolower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Takes one character off the front of *in, percent-decoded. 0 for a broken escape, a NUL, and the characters that must
 * be escaped: a query behind a '?' would else become part of a name. */
static int take_char(struct bytes *in, char *out)
{
    struct bytes c;

    if (!bytes_take(in, 1, &c))
        return 0;
    *out = (char)c.p[0];
    if (*out == '?' || *out == '/' || *out == '#')
        return 0;
    if (*out == '%') {
        if (!bytes_take(in, 2, &c) || hex_digit(c.p[0]) < 0 || hex_digit(c.p[1]) < 0)
            return 0;
        *out = (char)(hex_digit(c.p[0]) * 16 + hex_digit(c.p[1]));
    }
    return *out != '\0';
}

/* Decodes a value into a field of the struct that must still be empty. */
static enum err decode(struct bytes value, char *field, size_t size)
{
    size_t n = 0;

    if (field[0] || value.n == 0)
        return ERR_SYNTAX;
    while (value.n) {
        if (n + 1 >= size || !take_char(&value, &field[n]))
            return ERR_SYNTAX;
        n++;
    }
    field[n] = '\0';
    return ERR_OK;
}

static enum err attribute(struct bytes part, struct token_name *out)
{
    const struct {
        const char *name;
        char *field;
        size_t size;
    } known[] = {
        {"token", out->label, sizeof out->label},
        {"serial", out->serial, sizeof out->serial},
        {"manufacturer", out->manufacturer, sizeof out->manufacturer},
        {"model", out->model, sizeof out->model},
    };
    const uint8_t *eq = part.n ? memchr(part.p, '=', part.n) : NULL;

    if (!eq)
        return ERR_SYNTAX;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (bytes_equal(bytes_of(part.p, (size_t)(eq - part.p)), bytes_str(known[i].name)))
            return decode(bytes_of(eq + 1, part.n - (size_t)(eq + 1 - part.p)), known[i].field, known[i].size);
    }
    return ERR_SYNTAX;
}

enum err token_name_parse(struct bytes text, struct token_name *out)
{
    struct bytes prefix;
    enum err e = ERR_OK;

    memset(out, 0, sizeof *out);
    if (text.n < strlen(scheme) || !bytes_equal(bytes_of(text.p, strlen(scheme)), bytes_str(scheme))) {
        if (text.n == 0 || text.n >= sizeof out->label || memchr(text.p, '\0', text.n))
            return ERR_SYNTAX;
        memcpy(out->label, text.p, text.n);
        return ERR_OK;
    }
    bytes_take(&text, strlen(scheme), &prefix);
    if (text.n == 0)
        return ERR_SYNTAX;
    while (e == ERR_OK && text.n) {
        const uint8_t *semi = memchr(text.p, ';', text.n);
        struct bytes part = {0}, rest;

        bytes_take(&text, semi ? (size_t)(semi - text.p) : text.n, &part);
        e = attribute(part, out);
        if (semi && bytes_take(&text, 1, &rest) && text.n == 0)
            e = ERR_SYNTAX;
    }
    return e;
}
