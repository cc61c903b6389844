/* transcript.h - what comes out of a parser of streams must not depend on how the stream was cut into reads.
 *
 * A transcript is written while a stream arrives: what the parser says as text, "!why" when it gives up, "..." when the
 * stream ends in the middle. The input is copied to a fresh allocation of the exact size before every call and freed
 * after it: a buffer that always moves, and the sanitizer sees each byte read too far.
 *
 * The test gives a struct transcript_of: how a connection begins, what it does with its input, how it ends.
 */
#ifndef COFFER_TESTS_TRANSCRIPT_H
#define COFFER_TESTS_TRANSCRIPT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define TEN "0123456789"
#define SIXTY TEN TEN TEN TEN TEN TEN

struct text {
    char s[8192];
    size_t n;
};

static inline void say(struct text *t, const char *s)
{
    size_t n = strlen(s);
    assert_true(t->n + n < sizeof t->s);
    memcpy(t->s + t->n, s, n + 1);
    t->n += n;
}

static inline void say_bytes(struct text *t, struct bytes s)
{
    for (size_t i = 0; i < s.n; i++) {
        char c[8];
        snprintf(c, sizeof c, s.p[i] >= ' ' && s.p[i] <= '~' ? "%c" : "\\%02x", s.p[i]);
        say(t, c);
    }
}

/* ---- one stream ---- */

enum said {
    SAID_ONE,  /* there may be more in the input */
    SAID_BAD,  /* nothing is read any more */
    SAID_MORE, /* wants more input */
};

struct transcript_of {
    const void *limits;                                          /* the test's */
    void (*begin)(const struct transcript_of *how, int variant); /* variant: 0 or 1, now this and now that */
    enum said (*parse)(uint8_t *in, size_t n, size_t *used, struct text *out);
    void (*tell)(struct text *out); /* may be NULL: what it has of its own, of SAID_ONE when the input is freed */
    int (*in_the_middle)(void);     /* may be NULL: input that was taken and led to nothing yet */
    void (*end)(void);
};

struct transcript {
    const struct transcript_of *how;
    uint8_t *input;
    size_t n;
    int closed;
    struct text out;
};

static inline void transcript_arrive(struct transcript *t, struct bytes piece)
{
    enum said said = SAID_ONE;
    if (piece.n)
        memcpy(t->input + t->n, piece.p, piece.n);
    t->n += piece.n;
    while (!t->closed && said != SAID_MORE) {
        size_t used = 99;
        uint8_t *moved = malloc(t->n ? t->n : 1);
        assert_non_null(moved);
        memcpy(moved, t->input, t->n);
        said = t->how->parse(moved, t->n, &used, &t->out);
        free(moved);
        if (said == SAID_ONE && t->how->tell)
            t->how->tell(&t->out);
        assert_true(used <= t->n);
        t->n -= used;
        memmove(t->input, t->input + used, t->n);
        t->closed = said == SAID_BAD;
    }
}

static inline void transcript_begin(struct transcript *t, const struct transcript_of *how, struct bytes stream,
                                    int variant)
{
    *t = (struct transcript){.how = how, .input = malloc(stream.n + 1)};
    assert_non_null(t->input);
    how->begin(how, variant);
}

static inline void transcript_end(struct transcript *t, const char *want)
{
    if (!t->closed && (t->n || (t->how->in_the_middle && t->how->in_the_middle())))
        say(&t->out, "...");
    t->how->end();
    free(t->input);
    assert_string_equal(t->out.s, want);
}

static inline void transcript_in_steps(const struct transcript_of *how, struct bytes stream, size_t step,
                                       const char *want)
{
    struct transcript t;
    transcript_begin(&t, how, stream, step == 1);
    for (size_t i = 0; i < stream.n; i += step)
        transcript_arrive(&t, bytes_of(stream.p + i, stream.n - i < step ? stream.n - i : step));
    transcript_end(&t, want);
}

static inline void transcript_cut(const struct transcript_of *how, struct bytes stream, size_t a, size_t b,
                                  const char *want)
{
    struct transcript t;
    transcript_begin(&t, how, stream, a % 2);
    transcript_arrive(&t, bytes_of(stream.p, a));
    transcript_arrive(&t, bytes_of(stream.p + a, b - a));
    transcript_arrive(&t, bytes_of(stream.p + b, stream.n - b));
    transcript_end(&t, want);
}

/* Cut in two places, any of them (of a long stream: in one), and in pieces of one to three bytes. */
static inline void transcript_check(const struct transcript_of *how, struct bytes stream, const char *want)
{
    for (size_t step = 1; step <= 3; step++)
        transcript_in_steps(how, stream, step, want);
    for (size_t b = 0; b <= stream.n; b++)
        for (size_t a = stream.n > 100 ? b : 0; a <= b; a++)
            transcript_cut(how, stream, a, b, want);
}

/* ---- tables of streams ---- */

struct row {
    const char *stream;
    size_t n;
    const char *want;
};

#define ROW(stream, want)                \
    {                                    \
        stream, sizeof(stream) - 1, want \
    }

static inline void transcript_check_rows(const struct transcript_of *how, size_t n, const struct row *rows)
{
    for (size_t i = 0; i < n; i++)
        transcript_check(how, bytes_of(rows[i].stream, rows[i].n), rows[i].want);
}

#endif
