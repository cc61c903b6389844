/* proto.c - frames between the server and its HSM workers; the format is in proto.h.
 *
 * Decoding borrows: parts point into the caller's buffer. Every length is compared with what is there before it is
 * used, and the sum of the parts must fill the frame exactly, so that a frame has one reading only. A declared length
 * over the limit is refused at once, before anybody waits or makes room for it. The code field is not judged here: it
 * is an operation one way and an error the other; the dispatcher and the parent check it against their tables.
 *
 * Encoding computes the size first and grows the buffer once, so that a failure leaves it as it was.
 */
#include "hsm/proto.h"

#define LANE_OF(lane) LANE_##lane

const struct hsm_op_row hsm_ops[HSM_OPS] = {
#define OP(name, in, out, idem, lane, what) [HSM_##name] = {#name, in, out, idem, LANE_OF(lane)},
#include "hsm/op.tbl.h"
#undef OP
};

/* Size of the whole frame, or 0 when it breaks a limit. */
static size_t frame_size(const struct bytes *part, unsigned parts)
{
    size_t size = HSM_FRAME_HEADER;

    if (parts > HSM_PARTS_MAX)
        return 0;
    for (unsigned i = 0; i < parts; i++) {
        if (part[i].n > HSM_FRAME_MAX)
            return 0;
        size += 4 + part[i].n;
    }
    return size > HSM_FRAME_MAX ? 0 : size;
}

enum err proto_put(struct buf *b, uint32_t id, uint16_t code, const struct bytes *part, unsigned parts)
{
    size_t size = frame_size(part, parts);
    uint8_t *p;
    enum err e;

    if (!size)
        return ERR_TOOBIG;
    e = buf_reserve(b, size, &p);
    if (e != ERR_OK)
        return e;
    put_le32(p, (uint32_t)(size - 4));
    put_le32(p + 4, id);
    put_le16(p + 8, code);
    p[10] = (uint8_t)parts;
    p[11] = 0;
    p += HSM_FRAME_HEADER;
    for (unsigned i = 0; i < parts; i++) {
        put_le32(p, (uint32_t)part[i].n);
        p += 4;
        if (part[i].n)
            memcpy(p, part[i].p, part[i].n);
        p += part[i].n;
    }
    buf_added(b, size);
    return ERR_OK;
}

/* Splits the rest of a frame into its parts; they must fill it exactly. */
static enum err split_parts(struct bytes rest, struct hsm_frame *out)
{
    struct bytes len;

    for (unsigned i = 0; i < out->parts; i++) {
        if (!bytes_take(&rest, 4, &len) || !bytes_take(&rest, get_le32(len.p), &out->part[i]))
            return ERR_PROTOCOL;
    }
    return rest.n == 0 ? ERR_OK : ERR_PROTOCOL;
}

enum err proto_get(struct bytes in, struct hsm_frame *out, size_t *used)
{
    size_t size;

    memset(out, 0, sizeof *out);
    *used = HSM_FRAME_HEADER;
    if (in.n < 4)
        return ERR_AGAIN;
    size = (size_t)get_le32(in.p) + 4;
    if (size < HSM_FRAME_HEADER || size > HSM_FRAME_MAX)
        return ERR_PROTOCOL;
    *used = size;
    if (in.n < HSM_FRAME_HEADER)
        return ERR_AGAIN;
    if (in.p[10] > HSM_PARTS_MAX || in.p[11] != 0)
        return ERR_PROTOCOL;
    if (in.n < size)
        return ERR_AGAIN;
    out->id = get_le32(in.p + 4);
    out->code = get_le16(in.p + 8);
    out->parts = in.p[10];
    return split_parts(bytes_of(in.p + HSM_FRAME_HEADER, size - HSM_FRAME_HEADER), out);
}

enum err proto_put_setting(struct buf *b, const char *name, struct bytes value)
{
    size_t n = strlen(name);
    uint8_t *p;
    enum err e;

    if (n == 0 || n > 255 || value.n > HSM_FRAME_MAX)
        return ERR_TOOBIG;
    e = buf_reserve(b, 1 + n + 4 + value.n, &p);
    if (e != ERR_OK)
        return e;
    p[0] = (uint8_t)n;
    memcpy(p + 1, name, n);
    put_le32(p + 1 + n, (uint32_t)value.n);
    if (value.n)
        memcpy(p + 5 + n, value.p, value.n);
    buf_added(b, 5 + n + value.n);
    return ERR_OK;
}

struct bytes proto_get_setting(struct bytes settings, const char *name)
{
    struct bytes want = bytes_str(name), len, key, value;

    while (bytes_take(&settings, 1, &len) && bytes_take(&settings, len.p[0], &key) && bytes_take(&settings, 4, &len) &&
           bytes_take(&settings, get_le32(len.p), &value)) {
        if (bytes_equal(key, want))
            return value;
    }
    return bytes_of(NULL, 0);
}
