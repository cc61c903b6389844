/* Fuzz target for resp/answer.c: a stream of replies as one read and as small reads must give the same trees and end
 * the same way; and a tree that is written by resp/reply.c as RESP3 and read again must be written the same again. The
 * first byte of the input chooses limits, the kind of memory, and the size of reads. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "resp/answer.h"
#include "resp/reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_text(struct reply *r, const struct answer *a)
{
    char *text = malloc(a->text.n + 1);
    assert(text);
    if (a->text.n)
        memcpy(text, a->text.p, a->text.n);
    text[a->text.n] = 0; /* a NUL inside cuts it, the same way each time */
    if (a->type == ANSWER_STATUS)
        reply_simple(r, text);
    else
        reply_error_text(r, text, bytes_of(NULL, 0));
    free(text);
}

static void write_answer(struct reply *r, const struct answer *a);

static void write_items(struct reply *r, const struct answer *a)
{
    for (size_t i = 0; i < a->count; i++)
        write_answer(r, a->item[i]);
}

static void write_answer(struct reply *r, const struct answer *a)
{
    switch (a->type) {
    case ANSWER_NIL:
        reply_nil(r);
        break;
    case ANSWER_STATUS:
    case ANSWER_ERROR:
        write_text(r, a);
        break;
    case ANSWER_BULK:
        reply_bulk(r, a->text);
        break;
    case ANSWER_VERBATIM:
        reply_verbatim(r, a->format, a->text);
        break;
    case ANSWER_BIG_NUMBER:
        reply_big_number(r, a->text);
        break;
    case ANSWER_INTEGER:
        reply_int(r, a->integer);
        break;
    case ANSWER_BOOL:
        reply_bool(r, (int)a->integer);
        break;
    case ANSWER_DOUBLE:
        reply_double(r, a->number);
        break;
    case ANSWER_ARRAY:
        reply_array(r, a->count);
        write_items(r, a);
        break;
    case ANSWER_SET:
        reply_set(r, a->count);
        write_items(r, a);
        break;
    case ANSWER_PUSH:
        reply_push(r, a->count);
        write_items(r, a);
        break;
    case ANSWER_MAP:
        assert(a->count % 2 == 0);
        reply_map(r, a->count / 2);
        write_items(r, a);
        break;
    }
}

/* Writes down, as RESP3, what the parser makes of stream, which arrives in pieces of step bytes. */
static void play(struct buf *log, const struct answer_limits *limits, int secret, struct bytes stream, size_t step)
{
    struct answer_parser p;
    struct reply r;
    struct bytes left = bytes_of(stream.p, 0); /* arrived, not used */
    enum answer_status s = ANSWER_MORE;

    reply_init(&r, log, 3);
    answer_parser_init(&p, limits, secret);
    while (s != ANSWER_BAD && left.p + left.n < stream.p + stream.n) {
        size_t coming = (size_t)(stream.p + stream.n - (left.p + left.n));
        left.n += coming < step ? coming : step;
        do {
            size_t used;
            uint8_t *in = malloc(left.n);
            assert(in || left.n == 0);
            if (left.n)
                memcpy(in, left.p, left.n);
            s = answer_parse(&p, bytes_of(in, left.n), &used);
            free(in); /* the tree does not point into it */
            assert(used <= left.n && s != ANSWER_OOM && (s != ANSWER_MORE || p.need_bytes >= 1));
            left = bytes_of(left.p + used, left.n - used);
            if (s == ANSWER_READY)
                write_answer(&r, p.root);
        } while (s == ANSWER_READY);
    }
    if (s == ANSWER_BAD)
        reply_simple(&r, p.error);
    assert(!r.failed);
    answer_parser_fini(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct answer_limits limits[] = {
        {.max_elements = 1 << 20, .max_line_bytes = 64 << 10, .max_bytes = 1 << 20},
        {.max_elements = 10, .max_line_bytes = 20, .max_bytes = 400},
    };
    static const struct answer_limits none = {
        .max_elements = SIZE_MAX, .max_line_bytes = SIZE_MAX, .max_bytes = SIZE_MAX / 2};
    struct buf whole, pieces, again;

    if (size < 1 || size > 4096)
        return 0;
    int secret = data[0] / 2 % 2;
    buf_init(&whole, SIZE_MAX);
    buf_init(&pieces, SIZE_MAX);
    buf_init(&again, SIZE_MAX);
    play(&whole, &limits[data[0] % 2], secret, bytes_of(data + 1, size - 1), size);
    play(&pieces, &limits[data[0] % 2], secret, bytes_of(data + 1, size - 1), 1 + data[0] / 4 % 8);
    assert(bytes_equal(buf_bytes(&whole), buf_bytes(&pieces)));
    if (buf_size(&whole))
        play(&again, &none, 0, buf_bytes(&whole), SIZE_MAX);
    assert(bytes_equal(buf_bytes(&whole), buf_bytes(&again)));
    buf_fini(&whole);
    buf_fini(&pieces);
    buf_fini(&again);
    return 0;
}
