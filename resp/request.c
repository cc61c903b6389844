/* request.c - see request.h.
 *
 * Happy path: the pipeline of small requests that lies whole in the buffer. request_parse reads "*3\r\n", then for each
 * argument "$5\r\n" and the body, all by read_short_length(), which takes up to ten digits and CRLF in one loop. It
 * notes each argument's offset and length in argv, turns the offsets into pointers at the end, and leaves the parser as
 * it was.
 *
 * When input ends in the middle, pos stays at the header or body that is not complete, left and bulk tell which, and
 * scan remembers how far read_header() or parse_inline() looked for a line end. The next call goes on there: a body
 * costs one comparison per call, a line is looked through once, and only the few digits that read_short_length() tried
 * are read again.
 *
 * While a request is incomplete the .p of an argument holds its offset, not a pointer, since the buffer may move before
 * the rest arrives. resolve() is the only place that makes pointers of them, and the only exit with REQUEST_READY.
 *
 * Failure: a protocol error is final, p->error is its flag. REQUEST_OOM is not: the array is grown before anything of
 * the argument is taken, and an inline command is measured and checked before its escapes are written in place.
 *
 * Rejected: copying arguments out (a secret would be in two places); a byte-at-a-time state machine (simple to resume,
 * but more branches per request); a second array for offsets (twice the memory for each idle connection);
 * unescaping into a side buffer (would have to be secret memory, and the unescaped text is never longer than the
 * escaped one).
 */
#include "resp/request.h"

#include <assert.h>
#include <stdio.h>

#include "base/mem.h"
#include "resp/number.h"

#define NO_BULK SIZE_MAX

const struct request_limits request_default_limits = {
    .max_args = 1024 * 1024,
    .max_bulk_bytes = (size_t)512 << 20,
    .max_inline_bytes = (size_t)64 << 10,
};

/* The two kinds of header line, and what is said when one is wrong. */
struct header {
    char mark;
    size_t unauth_max;
    const char *too_long, *invalid, *unauth;
};

static const struct header COUNT = {'*', REQUEST_UNAUTH_ARGS, "too big mbulk count string", "invalid multibulk length",
                                    "unauthenticated multibulk length"};
static const struct header BULK = {'$', REQUEST_UNAUTH_BULK_BYTES, "too big bulk count string", "invalid bulk length",
                                   "unauthenticated bulk length"};

void request_parser_init(struct request_parser *p, const struct request_limits *limits)
{
    assert(limits->max_inline_bytes >= 16); /* read_short_length() does not look at it */
    *p = (struct request_parser){.limits = limits, .bulk = NO_BULK, .cap = REQUEST_SMALL_ARGS};
    p->argv = p->small;
}

static void drop_argv(struct request_parser *p)
{
    if (p->argv != p->small)
        mem_free(p->argv);
    p->argv = p->small;
    p->cap = REQUEST_SMALL_ARGS;
}

void request_parser_fini(struct request_parser *p)
{
    drop_argv(p);
    request_parser_init(p, p->limits);
}

#define TLS_HANDSHAKE 0x16 /* its first byte; a client that waits for an answer would wait for ever */

static enum request_status bad(struct request_parser *p, const char *what)
{
    p->argc = 0;
    snprintf(p->error, sizeof p->error, "Protocol error: %s", what);
    return REQUEST_BAD;
}

/* The character is shown as Redis shows it, but for control characters and bytes above ASCII: the text goes to logs. */
static enum request_status bad_mark(struct request_parser *p, uint8_t got)
{
    char what[32];
    int shown = got == '\r' || got == '\n' ? ' ' : got >= ' ' && got <= '~' ? got : '.';
    snprintf(what, sizeof what, "expected '$', got '%c'", shown);
    return bad(p, what);
}

static enum request_status more(struct request_parser *p, size_t need_bytes)
{
    p->need_bytes = need_bytes;
    return REQUEST_MORE;
}

/* Makes room for want arguments in all; ceiling is the most that this request can have. */
static enum request_status grow_argv(struct request_parser *p, size_t want, size_t ceiling)
{
    size_t cap = p->cap * 2;
    if (cap < want)
        cap = want;
    if (cap > ceiling)
        cap = ceiling;
    struct bytes *argv = mem_alloc(cap * sizeof *argv);
    if (!argv)
        return REQUEST_OOM;
    memcpy(argv, p->argv, p->argc * sizeof *argv);
    drop_argv(p);
    p->argv = argv;
    p->cap = cap;
    return REQUEST_READY;
}

static void add_arg(struct request_parser *p, size_t off, size_t n)
{
    p->argv[p->argc++] = (struct bytes){.p = (const uint8_t *)(uintptr_t)off, .n = n};
}

/* Offsets become pointers; the parser is ready for the next request, which starts *used bytes on. */
static enum request_status resolve(struct request_parser *p, const uint8_t *in, size_t *used)
{
    for (size_t i = 0; i < p->argc; i++)
        p->argv[i].p = in + (uintptr_t)p->argv[i].p;
    *used += p->pos;
    p->pos = p->scan = 0;
    return REQUEST_READY;
}

/* The commonest header of all: one or two digits and CRLF. Four of them are in every small request, so they have no
 * loop. */
static inline int read_two_digits(const uint8_t *in, size_t at, size_t n, size_t *next, int64_t *length)
{
    if (n - at < 4)
        return 0;
    unsigned a = in[at] - (unsigned)'0', b = in[at + 1] - (unsigned)'0';
    if (a <= 9 && in[at + 1] == '\r' && in[at + 2] == '\n') {
        *length = a;
        *next = at + 3;
        return 1;
    }
    if (a - 1 > 8 || b > 9 || in[at + 2] != '\r' || in[at + 3] != '\n')
        return 0;
    *length = a * 10 + b;
    *next = at + 4;
    return 1;
}

/* The common header: up to ten digits and CRLF behind the mark. 0: anything else, read_header() finds out what. */
static inline int read_short_length(const uint8_t *in, size_t at, size_t n, size_t *next, int64_t *length)
{
    if (read_two_digits(in, at, n, next, length))
        return 1;
    size_t i = at, stop = n - at > 10 ? at + 10 : n;
    int64_t v = 0;
    for (unsigned digit; i < stop && (digit = in[i] - (unsigned)'0') <= 9; i++)
        v = v * 10 + digit;
    if (i == at || n - i < 2 || in[i] != '\r' || in[i + 1] != '\n' || (in[at] == '0' && i - at > 1))
        return 0;
    *length = v;
    *next = i + 2;
    return 1;
}

/* A header that is incomplete, unusually long, negative, or wrong. Redis waits for the CR, then looks at the rest. */
static enum request_status read_rare_header(struct request_parser *p, const struct header *h, const uint8_t *in,
                                            size_t n, size_t *next, int64_t *length)
{
    size_t max = p->limits->max_inline_bytes;
    size_t end = n - p->pos > max ? p->pos + max + 1 : n;
    if (p->scan < p->pos)
        p->scan = p->pos;
    const uint8_t *cr = p->scan < end ? memchr(in + p->scan, '\r', end - p->scan) : NULL;
    if (!cr) {
        p->scan = end;
        return end - p->pos > max ? bad(p, h->too_long) : more(p, 1);
    }
    p->scan = (size_t)(cr - in);
    if (p->scan + 1 == n)
        return more(p, 1);
    if (in[p->pos] != h->mark)
        return bad_mark(p, in[p->pos]);
    if (cr[1] != '\n' || !number_parse(bytes_of(in + p->pos + 1, p->scan - p->pos - 1), length))
        return bad(p, h->invalid);
    *next = p->scan + 2;
    return REQUEST_READY;
}

/* Reads the header at pos, steps over it. REQUEST_READY: *length is at most max, but may be negative. */
static inline enum request_status read_header(struct request_parser *p, const struct header *h, size_t max,
                                              const uint8_t *in, size_t n, int64_t *length)
{
    size_t next = 0;
    if (p->pos == n)
        return more(p, 1);
    if (in[p->pos] != h->mark || !read_short_length(in, p->pos + 1, n, &next, length)) {
        enum request_status s = read_rare_header(p, h, in, n, &next, length);
        if (s != REQUEST_READY)
            return s;
    }
    if (*length > 0 && (uint64_t)*length > max)
        return bad(p, h->invalid);
    if (*length > (int64_t)h->unauth_max && p->limits->unauthenticated)
        return bad(p, h->unauth);
    p->pos = next;
    return REQUEST_READY;
}

/* One argument into argv, or as much of it as is there. */
static inline enum request_status parse_arg(struct request_parser *p, const uint8_t *in, size_t n)
{
    if (p->bulk == NO_BULK) {
        int64_t length = 0;
        enum request_status s = read_header(p, &BULK, p->limits->max_bulk_bytes, in, n, &length);
        if (s != REQUEST_READY)
            return s;
        if (length < 0)
            return bad(p, BULK.invalid);
        p->bulk = (size_t)length;
    }
    if (n - p->pos < p->bulk + 2)
        return more(p, p->bulk + 2 - (n - p->pos));

    size_t end = p->pos + p->bulk;
    if (in[end] != '\r' || in[end + 1] != '\n')
        return bad(p, BULK.invalid);
    if (p->argc == p->cap) {
        enum request_status s = grow_argv(p, p->argc + 1, p->argc + p->left);
        if (s != REQUEST_READY)
            return s;
    }
    add_arg(p, p->pos, p->bulk);
    p->pos = end + 2;
    p->bulk = NO_BULK;
    p->left--;
    return REQUEST_READY;
}

/* isspace() of the C locale. */
static int is_space(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static uint8_t unescape(uint8_t c)
{
    static const char letters[5] = "nrtba", means[5] = "\n\r\t\b\a";
    const char *found = memchr(letters, c, sizeof letters);
    return found ? (uint8_t)means[found - letters] : c;
}

/* The character at *r inside quotes q, escapes resolved; steps over it. */
static uint8_t quoted_char(const uint8_t *line, size_t n, size_t *r, uint8_t q)
{
    uint8_t c = line[(*r)++];
    if (c != '\\' || *r == n)
        return c;
    if (q == '\'') /* only the quote itself can be escaped */
        return line[*r] == '\'' ? line[(*r)++] : c;
    if (line[*r] == 'x' && n - *r > 2) {
        int high = hex_digit(line[*r + 1]), low = hex_digit(line[*r + 2]);
        if (high >= 0 && low >= 0) {
            *r += 3;
            return (uint8_t)(high << 4 | low);
        }
    }
    return unescape(line[(*r)++]);
}

/* The word at *r, to line[*r..] in place when write is set; steps over it. *length is that of the result.
 * 0: unbalanced quotes. As sdssplitargs() of Redis: quotes may open inside a word, and close only at its end. */
static int split_word(uint8_t *line, size_t n, size_t *r, int write, size_t *length)
{
    size_t w = *r, start = *r;
    uint8_t quote = 0;
    while (*r < n) {
        uint8_t c = line[*r];
        if (quote && c == quote) {
            ++*r;
            *length = w - start;
            return *r == n || is_space(line[*r]);
        }
        if (!quote && (c == ' ' || c == '\t' || c == '\n' || c == '\r'))
            break;
        if (!quote && (c == '"' || c == '\'')) {
            quote = c;
            ++*r;
            continue;
        }
        c = quote ? quoted_char(line, n, r, quote) : line[(*r)++];
        if (write)
            line[w] = c;
        w++;
    }
    *length = w - start;
    return quote == 0;
}

/* Splits the line at offset 0 of in. Without write: counts and checks only. -1: unbalanced quotes. */
static int64_t split_line(struct request_parser *p, uint8_t *in, size_t n, int write)
{
    int64_t words = 0;
    for (size_t r = 0;; words++) {
        while (r < n && is_space(in[r]))
            r++;
        if (r == n)
            return words;
        size_t start = r, length = 0;
        if (!split_word(in, n, &r, write, &length))
            return -1;
        if (write)
            add_arg(p, start, length);
    }
}

static enum request_status parse_inline(struct request_parser *p, uint8_t *in, size_t n)
{
    size_t max = p->limits->max_inline_bytes;
    size_t end = n > max ? max + 1 : n;
    const uint8_t *nl = p->scan < end ? memchr(in + p->scan, '\n', end - p->scan) : NULL;
    if (!nl) {
        p->scan = end;
        return end > max ? bad(p, "too big inline request") : more(p, 1);
    }
    size_t line = (size_t)(nl - in);
    p->scan = line; /* in case of REQUEST_OOM */
    if (line > 0 && in[line - 1] == '\r')
        line--;

    int64_t words = split_line(p, in, line, 0);
    if (words < 0)
        return bad(p, "unbalanced quotes in request");
    if ((uint64_t)words > p->limits->max_args)
        return bad(p, COUNT.invalid);
    if (words > REQUEST_UNAUTH_ARGS && p->limits->unauthenticated)
        return bad(p, COUNT.unauth);
    if ((size_t)words > p->cap) {
        enum request_status s = grow_argv(p, (size_t)words, (size_t)words);
        if (s != REQUEST_READY)
            return s;
    }
    split_line(p, in, line, 1);
    p->pos = (size_t)(nl - in) + 1;
    return REQUEST_READY;
}

/* Starts the request at in[0]: reads a count into left, or a whole inline command into argv; neither: it was empty. */
static inline enum request_status parse_start(struct request_parser *p, uint8_t *in, size_t n)
{
    if (n == 0)
        return more(p, 1);
    if (in[0] == TLS_HANDSHAKE)
        return bad(p, "a TLS handshake on a port without TLS");
    if (in[0] != '*')
        return parse_inline(p, in, n);

    int64_t count = 0;
    enum request_status s = read_header(p, &COUNT, p->limits->max_args, in, n, &count);
    if (s == REQUEST_READY && count > 0)
        p->left = (size_t)count;
    return s;
}

enum request_status request_parse(struct request_parser *p, uint8_t *in, size_t n, size_t *used)
{
    *used = 0;
    p->need_bytes = 0;
    assert(n >= p->pos); /* the caller dropped bytes that were not counted in *used */
    if (p->error[0])
        return REQUEST_BAD;
    if (p->left == 0) {
        p->argc = 0;
        if (p->cap > REQUEST_KEEP_ARGS)
            drop_argv(p);
    }
    while (p->left == 0) {
        enum request_status s = parse_start(p, in, n);
        if (s != REQUEST_READY)
            return s;
        if (p->argc)
            return resolve(p, in, used);
        if (p->left == 0) { /* an empty request is behind us for good */
            *used += p->pos;
            in += p->pos;
            n -= p->pos;
            p->pos = p->scan = 0;
        }
    }
    while (p->left) {
        enum request_status s = parse_arg(p, in, n);
        if (s != REQUEST_READY)
            return s;
    }
    return resolve(p, in, used);
}
