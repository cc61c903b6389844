/* objstore_credentials.c - see objstore_credentials.h. The file is read into locked memory, and its words are compared
 * and copied there; no copy is left outside. */
#include "engine/objstore_credentials.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

static struct bytes trimmed(struct bytes b)
{
    while (b.n && (b.p[0] == ' ' || b.p[0] == '\t'))
        b = bytes_of(b.p + 1, b.n - 1);
    while (b.n && (b.p[b.n - 1] == ' ' || b.p[b.n - 1] == '\t' || b.p[b.n - 1] == '\r'))
        b.n--;
    return b;
}

/* The next line with something on it, trimmed; 0: there is none. */
static int next_line(struct bytes *text, struct bytes *line)
{
    while (text->n) {
        const uint8_t *end = memchr(text->p, '\n', text->n);
        struct bytes newline;
        bytes_take(text, end ? (size_t)(end - text->p) : text->n, line);
        bytes_take(text, end ? 1 : 0, &newline);
        *line = trimmed(*line);
        if (line->n && line->p[0] != '#' && line->p[0] != ';')
            return 1;
    }
    return 0;
}

/* 1 when word, of printable characters without blanks, fits. */
static int keep(char *out, size_t size, struct bytes word)
{
    if (word.n == 0 || word.n >= size)
        return 0;
    for (size_t i = 0; i < word.n; i++)
        if (word.p[i] <= ' ' || word.p[i] > '~')
            return 0;
    memcpy(out, word.p, word.n);
    out[word.n] = 0;
    return 1;
}

static const char *parse_lines(struct bytes text, struct objstore_credentials *out)
{
    struct bytes line;

    if (!next_line(&text, &line) || !keep(out->access, sizeof out->access, line))
        return "its first line is not an access key's id";
    if (!next_line(&text, &line) || !keep(out->secret, sizeof out->secret, line))
        return "its second line is not a secret key";
    return next_line(&text, &line) ? "it has more than two lines" : "";
}

static int is_word(struct bytes b, const char *word)
{
    return bytes_equal(b, bytes_str(word));
}

static const char *parse_setting(struct bytes line, struct objstore_credentials *out)
{
    const uint8_t *equals = memchr(line.p, '=', line.n);
    struct bytes name, skipped;

    if (!equals)
        return "a line of it is not NAME = VALUE";
    bytes_take(&line, (size_t)(equals - line.p), &name);
    bytes_take(&line, 1, &skipped);
    name = trimmed(name);
    line = trimmed(line);
    if (is_word(name, "aws_access_key_id"))
        return keep(out->access, sizeof out->access, line) ? "" : "aws_access_key_id is not one";
    if (is_word(name, "aws_secret_access_key"))
        return keep(out->secret, sizeof out->secret, line) ? "" : "aws_secret_access_key is not one";
    if (is_word(name, "aws_session_token"))
        return "it has temporary credentials (aws_session_token), which nothing here would renew";
    return "";
}

static const char *parse_ini(struct bytes text, struct objstore_credentials *out)
{
    struct bytes line;
    const char *why = "";
    int ours = 1;

    while (!why[0] && next_line(&text, &line)) {
        if (line.p[0] == '[')
            ours = is_word(line, "[default]");
        else if (ours)
            why = parse_setting(line, out);
    }
    if (!why[0] && !out->access[0])
        why = "aws_access_key_id is missing in [default]";
    if (!why[0] && !out->secret[0])
        why = "aws_secret_access_key is missing in [default]";
    return why;
}

static int is_ini(struct bytes text)
{
    struct bytes line;
    return next_line(&text, &line) && (line.p[0] == '[' || (line.n > 4 && memcmp(line.p, "aws_", 4) == 0));
}

enum err objstore_credentials_parse(struct bytes text, struct objstore_credentials *out, const char **why)
{
    memset(out, 0, sizeof *out);
    *why = is_ini(text) ? parse_ini(text, out) : parse_lines(text, out);
    if (!(*why)[0])
        return ERR_OK;
    mem_wipe(out, sizeof *out);
    return ERR_SYNTAX;
}

/* Of the open file, so that it is the one that is read. */
static enum err private_file(int fd, const char **why)
{
    struct stat st;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        *why = "it is not a regular file";
        return ERR_IO;
    }
    if (st.st_uid != geteuid() && st.st_uid != 0) {
        *why = "it belongs to another user";
        return ERR_NOPERM;
    }
    if (st.st_mode & (S_IRWXG | S_IRWXO)) {
        *why = "others may read or write it: chmod 0600";
        return ERR_NOPERM;
    }
    return ERR_OK;
}

static enum err read_whole(int fd, struct buf *text, const char **why)
{
    uint8_t *room;
    size_t got;
    enum err e = buf_reserve(text, OBJSTORE_CREDENTIALS_LIMIT, &room);

    if (!e)
        e = file_pread(fd, room, OBJSTORE_CREDENTIALS_LIMIT, 0, &got);
    if (e) {
        *why = e == ERR_OOM ? "out of memory" : "it cannot be read";
        return e;
    }
    buf_added(text, got);
    if (got < OBJSTORE_CREDENTIALS_LIMIT)
        return ERR_OK;
    *why = "it is too large";
    return ERR_SYNTAX;
}

static enum err read_file(const char *path, struct buf *text, const char **why)
{
    int fd;
    enum err e = file_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &fd);

    if (e) {
        *why = e == ERR_NOTFOUND ? "it is not there" : "it cannot be opened";
        return e;
    }
    e = private_file(fd, why);
    if (!e)
        e = read_whole(fd, text, why);
    enum err closed = file_close(fd);
    if (!e && closed)
        *why = "it cannot be read";
    return e ? e : closed;
}

enum err objstore_credentials_new(const char *path, struct objstore_credentials **out, const char **why)
{
    struct objstore_credentials *c = mem_secret_alloc(sizeof *c);
    struct buf text;
    enum err e;

    *out = NULL;
    *why = "out of memory";
    if (!c)
        return ERR_OOM;
    buf_init_secret(&text, OBJSTORE_CREDENTIALS_LIMIT);
    e = read_file(path, &text, why);
    if (!e)
        e = objstore_credentials_parse(buf_bytes(&text), c, why);
    buf_fini(&text);
    if (e)
        objstore_credentials_free(c);
    else
        *out = c;
    return e;
}

void objstore_credentials_free(struct objstore_credentials *c)
{
    mem_secret_free(c, sizeof *c);
}
