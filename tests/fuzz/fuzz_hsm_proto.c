/* Fuzz target for hsm/proto.c: the input is what a parent or a worker sends. Each frame is decoded from an allocation
 * of the exact size, so that ASan finds every byte read too far; what decodes must encode to the same bytes; a frame
 * cut anywhere must ask for more and never be taken for another. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "hsm/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *copy_of(struct bytes s)
{
    uint8_t *p = malloc(s.n ? s.n : 1);

    assert(p);
    if (s.n)
        memcpy(p, s.p, s.n);
    return p;
}

static void check_frame(struct bytes in, const struct hsm_frame *f, size_t used)
{
    struct buf again;
    enum err e;

    assert(used >= HSM_FRAME_HEADER && used <= in.n && used <= HSM_FRAME_MAX && f->parts <= HSM_PARTS_MAX);
    for (unsigned i = 0; i < f->parts; i++)
        assert(f->part[i].p >= in.p && f->part[i].p + f->part[i].n <= in.p + used);
    buf_init(&again, HSM_FRAME_MAX);
    e = proto_put(&again, f->id, f->code, f->part, f->parts);
    assert(e == ERR_OK && bytes_equal(buf_bytes(&again), bytes_of(in.p, used)));
    buf_fini(&again);
}

/* The same bytes cut short: more is wanted, or it is malformed already; never a frame. */
static void check_cut(struct bytes in, size_t used)
{
    size_t cut = used - 1 - used % 7 % used, hint;
    uint8_t *p = copy_of(bytes_of(in.p, cut));
    struct hsm_frame f;
    enum err e = proto_get(bytes_of(p, cut), &f, &hint);

    assert(e == ERR_AGAIN && hint > cut && f.parts == 0);
    free(p);
}

static void check_settings(struct bytes in)
{
    static const char *const names[] = {"module", "pin", "a", ""};

    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct bytes v = proto_get_setting(in, names[i]);

        assert(v.n == 0 || (v.p >= in.p && v.p + v.n <= in.p + in.n));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes left = bytes_of(data, size);
    enum err e = ERR_OK;

    while (e == ERR_OK) {
        uint8_t *p = copy_of(left);
        struct bytes in = bytes_of(p, left.n);
        struct hsm_frame f;
        size_t used;

        e = proto_get(in, &f, &used);
        assert(e == ERR_OK || e == ERR_AGAIN || e == ERR_PROTOCOL);
        if (e == ERR_AGAIN)
            assert(used > in.n && used <= HSM_FRAME_MAX);
        if (e == ERR_OK) {
            check_frame(in, &f, used);
            check_cut(in, used);
            left = bytes_of(left.p + used, left.n - used);
        }
        check_settings(in);
        free(p);
    }
    return 0;
}
