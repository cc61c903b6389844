/* config_file.c - redis.conf syntax: reading it, and the command line. See config.h.
 *
 * Reading: a line is split into words (quotes and escapes as in Redis), the first is the directive. Lists take all
 * their words, `user` and other lines add up, everything else wants one value; later lines win. Directives that nobody
 * knows are warned about by name and skipped, so that a redis.conf starts a server; a known one with a wrong value is
 * an error with file and line.
 *
 * The command line is the same syntax in another dress: "--name value value --name ..." becomes words of a line.
 */
#include "server/config.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

#define FILE_MAX_BYTES (16u << 20)
#define INCLUDE_DEPTH 16

/* ---- words ---- */

int config_is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* The character behind a backslash at *r of a double-quoted word; steps over it. */
static char escaped(const char *line, size_t n, size_t *r)
{
    static const char letters[] = "nrtba", means[] = "\n\r\t\b\a";
    char c = line[(*r)++];
    if (c == 'x' && *r + 1 < n && hex(line[*r]) >= 0 && hex(line[*r + 1]) >= 0) {
        c = (char)(hex(line[*r]) << 4 | hex(line[*r + 1]));
        *r += 2;
        return c;
    }
    const char *at = c ? strchr(letters, c) : NULL;
    return at ? means[at - letters] : c;
}

/* One word from *r on, compacted in place. 0: a quote is open, or text follows a closing one. */
static int take_word(char *line, size_t n, size_t *r, struct bytes *out)
{
    size_t start = *r, w = *r;
    char quote = 0;
    while (*r < n && (quote || !config_is_blank(line[*r]))) {
        char c = line[(*r)++];
        if (c == quote) {
            quote = 0;
            if (*r < n && !config_is_blank(line[*r]))
                return 0;
            break;
        }
        if (!quote && (c == '"' || c == '\'')) {
            quote = c;
            continue;
        }
        if (quote == '"' && c == '\\' && *r < n)
            c = escaped(line, n, r);
        else if (quote == '\'' && c == '\\' && *r < n && line[*r] == '\'')
            c = line[(*r)++];
        line[w++] = c;
    }
    *out = bytes_of(line + start, w - start);
    return !quote;
}

int config_split(char *line, size_t n, struct bytes *words, unsigned max)
{
    unsigned count = 0;
    for (size_t r = 0;;) {
        while (r < n && config_is_blank(line[r]))
            r++;
        if (r == n)
            return (int)count;
        if (count == max || !take_word(line, n, &r, &words[count++]))
            return -1;
    }
}

/* ---- one directive ---- */

struct where {
    const char *file; /* NULL: command line */
    unsigned line;
    unsigned depth;
};

static enum err load_file(struct config *c, const char *path, unsigned depth, struct config_loader *l);

/* 'directive "value" "value"', without values that may be secrets. */
static void quote_line(char *out, size_t room, const struct bytes *words, unsigned n)
{
    enum config_id id = n ? config_find(words[0]) : CFG_COUNT;
    int secret = id == CFG_COUNT || config_rows[id].flags & CONFIG_SECRET || config_rows[id].type == CONFIG_LINES;
    size_t at = (size_t)snprintf(out, room, "'%.*s", n ? (int)(words[0].n < 64 ? words[0].n : 64) : 0,
                                 n ? (const char *)words[0].p : "");
    for (unsigned i = 1; i < n && !secret && at + 70 < room; i++)
        at += (size_t)snprintf(out + at, room - at, " \"%.*s\"", (int)(words[i].n < 64 ? words[i].n : 64),
                               (const char *)words[i].p);
    snprintf(out + at, room - at, "'");
}

static enum err complain(struct config_loader *l, const struct where *at, const struct bytes *words, unsigned n,
                         const char *why)
{
    char quoted[256];
    quote_line(quoted, sizeof quoted, words, n);
    if (at->file)
        snprintf(l->error, sizeof l->error, "%s, line %u: %s: %s", at->file, at->line, quoted, why);
    else
        snprintf(l->error, sizeof l->error, "command line: %s: %s", quoted, why);
    return ERR_SYNTAX;
}

static void warn_unknown(struct config_loader *l, const struct where *at, struct bytes directive)
{
    char line[256];
    if (!l->warn)
        return;
    if (at->file)
        snprintf(line, sizeof line, "%s, line %u: unknown directive '%.*s' is ignored", at->file, at->line,
                 (int)(directive.n < 64 ? directive.n : 64), (const char *)directive.p);
    else
        snprintf(line, sizeof line, "command line: unknown directive '%.*s' is ignored",
                 (int)(directive.n < 64 ? directive.n : 64), (const char *)directive.p);
    l->warn(l->arg, line);
}

/* A word as it must be written to be read back. */
enum err config_put_word(struct buf *b, struct bytes w)
{
    static const char hex_digits[] = "0123456789abcdef";
    int quote = w.n == 0;
    for (size_t i = 0; i < w.n; i++)
        quote |= w.p[i] <= ' ' || w.p[i] >= 0x7f || w.p[i] == '"' || w.p[i] == '\'' || w.p[i] == '\\' || w.p[i] == '#';
    if (!quote)
        return buf_put(b, w.p, w.n);
    enum err e = buf_put_u8(b, '"');
    for (size_t i = 0; i < w.n && !e; i++) {
        uint8_t c = w.p[i], x[4] = {'\\', 'x', (uint8_t)hex_digits[c >> 4], (uint8_t)hex_digits[c & 15]};
        if (c == '"' || c == '\\')
            e = buf_put_u8(b, '\\');
        if (!e)
            e = c < ' ' || c >= 0x7f ? buf_put(b, x, 4) : buf_put_u8(b, c);
    }
    return e ? e : buf_put_u8(b, '"');
}

/* The words behind the directive as one value: blanks between. Lines keep quotes, since they are split again. */
enum err config_join(struct buf *b, const struct bytes *words, unsigned n, int keep_quotes)
{
    enum err e = ERR_OK;
    for (unsigned i = 0; i < n && !e; i++) {
        if (i)
            e = buf_put_u8(b, ' ');
        if (!e)
            e = keep_quotes ? config_put_word(b, words[i]) : buf_put(b, words[i].p, words[i].n);
    }
    return e;
}

/* `save` and lines add to what earlier lines said. */
static enum err with_earlier(struct config *c, enum config_id id, struct buf *b)
{
    enum config_type t = config_rows[id].type;
    if (t != CONFIG_LINES && (id != CFG_SAVE || !c->save_given))
        return ERR_OK;
    enum err e = config_text(c, id, b);
    if (!e && id == CFG_SAVE && buf_size(b))
        e = buf_put_u8(b, ' ');
    return e;
}

/* words[0] is the directive. */
static enum err set_words(struct config *c, enum config_id id, const struct bytes *words, unsigned n,
                          struct config_loader *l, const struct where *at)
{
    enum config_type t = config_rows[id].type;
    struct config_parsed p = {0};
    struct buf value;
    char why[256];

    if (t != CONFIG_LIST && t != CONFIG_LINES && t != CONFIG_OBUF && n != 2)
        return complain(l, at, words, n, "wrong number of arguments");
    buf_init_secret(&value, FILE_MAX_BYTES);
    int clears = id == CFG_SAVE && n == 2 && words[1].n == 0; /* save "" */
    enum err e = clears ? ERR_OK : with_earlier(c, id, &value);
    c->save_given |= id == CFG_SAVE;
    if (!e)
        e = config_join(&value, words + 1, n - 1, t == CONFIG_LINES);
    if (!e && t == CONFIG_LINES)
        e = buf_put_u8(&value, '\n');
    if (!e)
        e = config_parse(c, id, buf_bytes(&value), &p, why, sizeof why);
    if (!e)
        config_swap(c, id, &p);
    else if (e == ERR_SYNTAX)
        complain(l, at, words, n, why);
    config_parsed_drop(id, &p);
    buf_fini(&value);
    return e;
}

static enum err load_words(struct config *c, const struct bytes *words, unsigned n, const struct where *at,
                           struct config_loader *l)
{
    char path[PATH_MAX];
    enum config_id id = config_find(words[0]);
    if (id == CFG_COUNT) {
        warn_unknown(l, at, words[0]);
        return ERR_OK;
    }
    int tells_itself = id == CFG_SHUTDOWN_ON_SIGINT || id == CFG_SHUTDOWN_ON_SIGTERM || /* what is wrong with nothing */
                       id == CFG_SAVE;                                                  /* nothing: never */
    if (n < 2 && !tells_itself)
        return complain(l, at, words, n, "wrong number of arguments");
    if (id != CFG_INCLUDE)
        return set_words(c, id, words, n, l, at);
    if (n != 2 || words[1].n >= sizeof path)
        return complain(l, at, words, 1, "wants the name of one file");
    if (at->depth == INCLUDE_DEPTH)
        return complain(l, at, words, 1, "files include each other too deeply");
    memcpy(path, words[1].p, words[1].n);
    path[words[1].n] = 0;
    return load_file(c, path, at->depth + 1, l);
}

/* ---- files ---- */

static enum err load_lines(struct config *c, char *text, size_t n, const char *name, unsigned depth,
                           struct config_loader *l)
{
    struct where at = {.file = name, .depth = depth};
    struct bytes words[CONFIG_WORDS_MAX];
    enum err e = ERR_OK;

    for (size_t from = 0; from < n && !e;) {
        char *end = memchr(text + from, '\n', n - from);
        size_t to = end ? (size_t)(end - text) : n, start = from;
        at.line++;
        from = to + 1;
        while (start < to && config_is_blank(text[start]))
            start++;
        if (start == to || text[start] == '#')
            continue;
        int count = config_split(text + start, to - start, words, CONFIG_WORDS_MAX);
        if (count < 0)
            return complain(l, &at, NULL, 0, "unbalanced quotes, or too many words");
        e = load_words(c, words, (unsigned)count, &at, l);
    }
    return e;
}

static enum err read_stdin(struct buf *b)
{
    for (;;) {
        uint8_t *room;
        enum err e = buf_reserve(b, 65536, &room);
        if (e)
            return e;
        ssize_t n = read(STDIN_FILENO, room, 65536);
        if (n <= 0)
            return n < 0 ? ERR_IO : ERR_OK;
        buf_added(b, (size_t)n);
    }
}

static enum err load_file(struct config *c, const char *path, unsigned depth, struct config_loader *l)
{
    struct buf b;
    buf_init_secret(&b, FILE_MAX_BYTES);
    enum err e = strcmp(path, "-") == 0 ? read_stdin(&b) : file_read_all(path, &b, FILE_MAX_BYTES);
    if (e)
        snprintf(l->error, sizeof l->error, "%s: %s", path, e == ERR_NOTFOUND ? "no such file" : "cannot be read");
    else if (buf_size(&b))
        e = load_lines(c, (char *)buf_data(&b), buf_size(&b), path, depth, l);
    buf_fini(&b);
    return e;
}

enum err config_load_text(struct config *c, struct bytes text, const char *name, struct config_loader *l)
{
    struct buf b;
    buf_init_secret(&b, FILE_MAX_BYTES);
    l->error[0] = 0;
    enum err e = buf_put(&b, text.p, text.n);
    if (!e && text.n)
        e = load_lines(c, (char *)buf_data(&b), buf_size(&b), name, 0, l);
    buf_fini(&b);
    return e;
}

static enum err remember_path(struct config *c, const char *path)
{
    char whole[PATH_MAX];
    if (strcmp(path, "-") == 0)
        return ERR_OK;
    if (!realpath(path, whole))
        return ERR_NOTFOUND;
    char *copy = mem_alloc(strlen(whole) + 1);
    if (!copy)
        return ERR_OOM;
    memcpy(copy, whole, strlen(whole) + 1);
    mem_free(c->path);
    c->path = copy;
    return ERR_OK;
}

enum err config_load_file(struct config *c, const char *path, struct config_loader *l)
{
    l->error[0] = 0;
    enum err e = load_file(c, path, 0, l);
    return e ? e : remember_path(c, path);
}

static int is_option(const char *arg)
{
    return strncmp(arg, "--", 2) == 0;
}

/* One directive of the command line, from argv[*i] on: "--name", "value" ..., or with the value in the same argument.
 * The first argument behind a name is its value whatever it looks like; later ones are until the next option. */
static enum err load_option(struct config *c, int argc, char **argv, int *i, struct config_loader *l)
{
    struct where at = {0};
    struct bytes words[CONFIG_WORDS_MAX];
    struct buf copy;
    unsigned n = 0;

    buf_init_secret(&copy, FILE_MAX_BYTES);
    const char *first = argv[*i] + (is_option(argv[*i]) ? 2 : 0);
    enum err e = buf_put(&copy, first, strlen(first));
    int count = e || !first[0] ? 0 : config_split((char *)buf_data(&copy), buf_size(&copy), words, CONFIG_WORDS_MAX);
    if (!e && count < 1) {
        words[0] = bytes_str(argv[*i]);
        e = complain(l, &at, words, 1, "is no directive");
    }
    n = count > 0 ? (unsigned)count : 0;
    ++*i;
    if (n == 1 && config_find(words[0]) == CFG_SAVE && (*i == argc || is_option(argv[*i])))
        words[n++] = bytes_str(""); /* --save alone clears */
    else
        while (*i < argc && n < CONFIG_WORDS_MAX && (n == 1 || !is_option(argv[*i])))
            words[n++] = bytes_str(argv[(*i)++]);
    if (!e)
        e = load_words(c, words, n, &at, l);
    buf_fini(&copy);
    return e;
}

enum err config_load_args(struct config *c, int argc, char **argv, struct config_loader *l)
{
    int i = 0;
    enum err e = ERR_OK;

    l->error[0] = 0;
    if (argc > 0 && !is_option(argv[0]))
        e = config_load_file(c, argv[i++], l);
    while (i < argc && !e)
        e = load_option(c, argc, argv, &i, l);
    return e;
}
