/* reply.c - see reply.h.
 *
 * Happy path: each writer asks the buf once for the most it can need, writes with a cursor, and adds what it wrote.
 * Small replies (integers, headers, nils) are a reserve, a few stores, an addition.
 *
 * Failure: open_room() is the only place that can fail, before anything is written, and notes it in r->failed; so a
 * reply is never cut inside an element. After a failure every writer returns at once.
 *
 * reply_bulk_begin() writes the header into reserved room but adds nothing: until reply_bulk_end() the reply does not
 * contain it. abandon wipes the body, which may be plaintext that did not authenticate.
 *
 * Rejected: Redis's list of reply blocks with deferred lengths (our reply is one flat buf, a late header is a memmove);
 * returning an error from each writer (forty handlers would carry a hundred checks that all do the same).
 */
#include "resp/reply.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "resp/number.h"

/* mark, digits, CRLF */
#define HEADER_MAX_BYTES (1 + NUMBER_MAX_BYTES + 2)

void reply_init(struct reply *r, struct buf *b, int proto)
{
    assert(proto == 2 || proto == 3);
    *r = (struct reply){.b = b, .proto = proto};
}

/* Room for n bytes; NULL when r has failed, now or before. */
static uint8_t *open_room(struct reply *r, size_t n)
{
    uint8_t *room = NULL;
    assert(r->open == 0);
    if (!r->failed)
        r->failed = buf_reserve(r->b, n, &room);
    return r->failed ? NULL : room;
}

/* The same with a payload of len bytes, whose size a caller may have from anywhere. */
static uint8_t *open_room_for(struct reply *r, size_t fixed, size_t len)
{
    if (len <= SIZE_MAX - fixed)
        return open_room(r, fixed + len);
    if (!r->failed)
        r->failed = ERR_TOOBIG;
    return NULL;
}

static void close_room(struct reply *r, const uint8_t *end)
{
    buf_added(r->b, (size_t)(end - (r->b->mem + r->b->len)));
}

static uint8_t *put(uint8_t *w, const void *p, size_t n)
{
    if (n)
        memcpy(w, p, n);
    return w + n;
}

static uint8_t *put_crlf(uint8_t *w)
{
    *w++ = '\r';
    *w++ = '\n';
    return w;
}

static uint8_t *put_header(uint8_t *w, char mark, uint64_t n)
{
    *w++ = (uint8_t)mark;
    return put_crlf(w + number_format_u64(w, n));
}

/* Text that must stay on its line. */
static uint8_t *put_line(uint8_t *w, struct bytes s)
{
    for (size_t i = 0; i < s.n; i++)
        *w++ = s.p[i] == '\r' || s.p[i] == '\n' ? ' ' : s.p[i];
    return w;
}

static void write_all(struct reply *r, const char *literal)
{
    size_t n = strlen(literal);
    uint8_t *w = open_room(r, n);
    if (w)
        close_room(r, put(w, literal, n));
}

void reply_simple(struct reply *r, const char *text)
{
    struct bytes s = bytes_str(text);
    uint8_t *w = open_room_for(r, 3, s.n);
    if (!w)
        return;
    *w++ = '+';
    close_room(r, put_crlf(put_line(w, s)));
}

void reply_ok(struct reply *r)
{
    write_all(r, "+OK\r\n");
}

void reply_error_text(struct reply *r, const char *prefix, struct bytes text)
{
    struct bytes head = bytes_str(prefix);
    uint8_t *w = open_room_for(r, 4 + head.n, text.n);
    if (!w)
        return;
    *w++ = '-';
    w = put_line(w, head);
    if (text.n)
        *w++ = ' ';
    close_room(r, put_crlf(put_line(w, text)));
}

void reply_error(struct reply *r, enum err e)
{
    reply_error_text(r, err_prefix(e), bytes_str(err_text(e)));
}

void reply_errorf(struct reply *r, const char *prefix, const char *fmt, ...)
{
    char text[REPLY_ERROR_MAX_BYTES + 1];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    reply_error_text(r, prefix, bytes_str(n < 0 ? "" : text)); /* < 0: a conversion that does not exist */
}

void reply_int(struct reply *r, int64_t v)
{
    uint8_t *w = open_room(r, HEADER_MAX_BYTES);
    if (!w)
        return;
    *w++ = ':';
    close_room(r, put_crlf(w + number_format(w, v)));
}

void reply_bulk(struct reply *r, struct bytes s)
{
    uint8_t *w = open_room_for(r, HEADER_MAX_BYTES + 2, s.n);
    if (w)
        close_room(r, put_crlf(put(put_header(w, '$', s.n), s.p, s.n)));
}

void reply_bulk_str(struct reply *r, const char *s)
{
    reply_bulk(r, bytes_str(s));
}

void reply_bulk_int(struct reply *r, int64_t v)
{
    uint8_t digits[NUMBER_MAX_BYTES];
    reply_bulk(r, bytes_of(digits, number_format(digits, v)));
}

void reply_nil(struct reply *r)
{
    write_all(r, r->proto == 2 ? "$-1\r\n" : "_\r\n");
}

void reply_nil_array(struct reply *r)
{
    write_all(r, r->proto == 2 ? "*-1\r\n" : "_\r\n");
}

void reply_bool(struct reply *r, int v)
{
    if (r->proto == 2)
        write_all(r, v ? ":1\r\n" : ":0\r\n");
    else
        write_all(r, v ? "#t\r\n" : "#f\r\n");
}

/* What RESP3 has on a line of its own and RESP2 in a bulk. */
static void write_line_or_bulk(struct reply *r, char mark, struct bytes s)
{
    if (r->proto == 2) {
        reply_bulk(r, s);
        return;
    }
    uint8_t *w = open_room_for(r, 3, s.n);
    if (!w)
        return;
    *w++ = (uint8_t)mark;
    close_room(r, put_crlf(put_line(w, s)));
}

/* 17 digits read back as the same double. Infinity by name, since C libraries differ; a NaN has no sign in RESP3. */
void reply_double(struct reply *r, double v)
{
    char digits[32];
    const char *text = digits;
    if (isnan(v))
        text = "nan";
    else if (isinf(v))
        text = v > 0 ? "inf" : "-inf";
    else
        snprintf(digits, sizeof digits, "%.17g", v);
    write_line_or_bulk(r, ',', bytes_str(text));
}

void reply_big_number(struct reply *r, struct bytes digits)
{
    write_line_or_bulk(r, '(', digits);
}

void reply_verbatim(struct reply *r, const char format[3], struct bytes s)
{
    if (r->proto == 2) {
        reply_bulk(r, s);
        return;
    }
    uint8_t *w = open_room_for(r, HEADER_MAX_BYTES + 4 + 2, s.n);
    if (!w)
        return;
    w = put_header(w, '=', s.n + 4);
    w = put(w, format, 3);
    *w++ = ':';
    close_room(r, put_crlf(put(w, s.p, s.n)));
}

static void write_header(struct reply *r, char mark, size_t n)
{
    uint8_t *w = open_room(r, HEADER_MAX_BYTES);
    if (w)
        close_room(r, put_header(w, mark, n));
}

static char array_or(const struct reply *r, char mark)
{
    return r->proto == 2 ? '*' : mark;
}

static size_t map_size(const struct reply *r, size_t pairs)
{
    return r->proto == 2 ? 2 * pairs : pairs;
}

void reply_array(struct reply *r, size_t n)
{
    write_header(r, '*', n);
}

void reply_map(struct reply *r, size_t pairs)
{
    write_header(r, array_or(r, '%'), map_size(r, pairs));
}

void reply_set(struct reply *r, size_t n)
{
    write_header(r, array_or(r, '~'), n);
}

void reply_push(struct reply *r, size_t n)
{
    write_header(r, array_or(r, '>'), n);
}

enum err reply_bulk_begin(struct reply *r, size_t len, uint8_t **room)
{
    *room = NULL;
    uint8_t *start = open_room_for(r, HEADER_MAX_BYTES + 2, len);
    if (!start)
        return r->failed;
    *room = put_header(start, '$', len);
    put_crlf(*room + len);
    r->open = (size_t)(*room - start) + len + 2;
    return ERR_OK;
}

void reply_bulk_end(struct reply *r)
{
    assert(r->open);
    buf_added(r->b, r->open);
    r->open = 0;
}

void reply_bulk_abandon(struct reply *r)
{
    assert(r->open);
    if (r->b->secret)
        mem_wipe(r->b->mem + r->b->len, r->open);
    r->open = 0;
}

void reply_encoded(struct reply *r, struct bytes elements)
{
    if (!r->failed && elements.n)
        r->failed = buf_put(r->b, elements.p, elements.n);
}

size_t reply_mark(const struct reply *r)
{
    return buf_size(r->b);
}

void reply_rewind(struct reply *r, size_t mark)
{
    assert(r->open == 0);
    buf_truncate(r->b, mark);
    r->failed = ERR_OK;
}

static void insert_header(struct reply *r, size_t mark, char kind, size_t n)
{
    uint8_t header[HEADER_MAX_BYTES];
    size_t size = (size_t)(put_header(header, kind, n) - header);
    assert(mark <= buf_size(r->b));
    if (!open_room(r, size))
        return;
    uint8_t *at = buf_data(r->b) + mark;
    memmove(at + size, at, buf_size(r->b) - mark);
    memcpy(at, header, size);
    buf_added(r->b, size);
}

void reply_insert_array(struct reply *r, size_t mark, size_t n)
{
    insert_header(r, mark, '*', n);
}

void reply_insert_map(struct reply *r, size_t mark, size_t pairs)
{
    insert_header(r, mark, array_or(r, '%'), map_size(r, pairs));
}

void reply_insert_set(struct reply *r, size_t mark, size_t n)
{
    insert_header(r, mark, array_or(r, '~'), n);
}
