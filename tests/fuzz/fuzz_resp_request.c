/* Fuzz target for resp/request.c: a stream of requests as one read and as reads of one to a few bytes must give the
 * same requests and end the same way. Each call sees a fresh allocation of the exact size, so that ASan finds every
 * byte read too far and every pointer kept from before. The first byte of the input chooses limits and the size of
 * reads. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "resp/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void record(struct buf *log, const void *p, size_t n)
{
    enum err e = buf_put_le64(log, n);
    if (!e)
        e = buf_put(log, p, n);
    assert(!e);
}

static uint8_t *copy_of(struct bytes s)
{
    uint8_t *p = malloc(s.n ? s.n : 1);
    assert(p);
    if (s.n)
        memcpy(p, s.p, s.n);
    return p;
}

static void record_request(struct buf *log, const struct request_parser *p, const uint8_t *in, size_t used)
{
    assert(p->argc >= 1 && p->argc <= p->limits->max_args);
    record(log, "request", 7);
    for (size_t i = 0; i < p->argc; i++) {
        assert(p->argv[i].p >= in && p->argv[i].n <= used && p->argv[i].p + p->argv[i].n <= in + used);
        record(log, p->argv[i].p, p->argv[i].n);
    }
}

/* Writes down what the parser makes of stream, which arrives in pieces of step bytes. */
static void play(struct buf *log, const struct request_limits *limits, struct bytes stream, size_t step)
{
    struct request_parser p;
    struct bytes left = bytes_of(stream.p, 0); /* arrived, not used */
    enum request_status s = REQUEST_MORE;

    request_parser_init(&p, limits);
    while (s != REQUEST_BAD && left.p + left.n < stream.p + stream.n) {
        size_t coming = (size_t)(stream.p + stream.n - (left.p + left.n));
        left.n += coming < step ? coming : step;
        do {
            size_t used;
            uint8_t *in = copy_of(left);
            s = request_parse(&p, in, left.n, &used);
            assert(used <= left.n && s != REQUEST_OOM && (s != REQUEST_MORE || p.need_bytes >= 1));
            if (s == REQUEST_READY)
                record_request(log, &p, in, used);
            left = bytes_of(left.p + used, left.n - used);
            free(in);
        } while (s == REQUEST_READY);
    }
    if (s == REQUEST_BAD)
        record(log, p.error, strlen(p.error));
    else
        record(log, left.p, left.n);
    request_parser_fini(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct request_limits limits[] = {
        {.max_args = 1024 * 1024, .max_bulk_bytes = 512 << 20, .max_inline_bytes = 64 << 10},
        {.max_args = 1024 * 1024, .max_bulk_bytes = 512 << 20, .max_inline_bytes = 64 << 10, .unauthenticated = 1},
        {.max_args = 20, .max_bulk_bytes = 30, .max_inline_bytes = 40},
        {.max_args = 3, .max_bulk_bytes = 0, .max_inline_bytes = 16},
    };
    struct buf whole, pieces;

    if (size < 1 || size > 4096)
        return 0;
    const struct request_limits *chosen = &limits[data[0] % 4];
    size_t step = 1 + data[0] / 4 % 8;
    buf_init(&whole, SIZE_MAX);
    buf_init(&pieces, SIZE_MAX);
    play(&whole, chosen, bytes_of(data + 1, size - 1), size);
    play(&pieces, chosen, bytes_of(data + 1, size - 1), step);
    assert(bytes_equal(buf_bytes(&whole), buf_bytes(&pieces)));
    buf_fini(&whole);
    buf_fini(&pieces);
    return 0;
}
