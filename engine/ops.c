/* ops.c - see ops.h. Reserved bytes must be zero and a delete must not carry a value: what this version does not write
 * it does not read either, so that a later version can give those bytes a meaning without being misread. */
#include "engine/ops.h"

enum { AT_KIND = 0, AT_STORE = 2, AT_KEY_LEN = 4, AT_ZERO = 6, AT_VALUE_LEN = 8 };

static enum err put(struct buf *b, enum ops_kind kind, uint16_t store, struct bytes key, struct bytes value)
{
    if (key.n == 0 || key.n > UINT16_MAX || value.n > UINT32_MAX)
        return ERR_TOOBIG;
    uint8_t *p;
    enum err e = buf_reserve(b, OPS_HEADER_BYTES + key.n + value.n, &p);
    if (e)
        return e;
    p[AT_KIND] = (uint8_t)kind;
    p[AT_KIND + 1] = 0;
    put_le16(p + AT_STORE, store);
    put_le16(p + AT_KEY_LEN, (uint16_t)key.n);
    put_le16(p + AT_ZERO, 0);
    put_le32(p + AT_VALUE_LEN, (uint32_t)value.n);
    memcpy(p + OPS_HEADER_BYTES, key.p, key.n);
    if (value.n)
        memcpy(p + OPS_HEADER_BYTES + key.n, value.p, value.n);
    buf_added(b, OPS_HEADER_BYTES + key.n + value.n);
    return ERR_OK;
}

enum err ops_put(struct buf *b, uint16_t store, struct bytes key, struct bytes value)
{
    return put(b, OPS_PUT, store, key, value);
}

enum err ops_delete(struct buf *b, uint16_t store, struct bytes key)
{
    return put(b, OPS_DELETE, store, key, bytes_of(NULL, 0));
}

static int header_fits(const uint8_t *p)
{
    uint8_t kind = p[AT_KIND];
    if (kind != OPS_PUT && (kind != OPS_DELETE || get_le32(p + AT_VALUE_LEN) != 0))
        return 0;
    return p[AT_KIND + 1] == 0 && get_le16(p + AT_ZERO) == 0 && get_le16(p + AT_KEY_LEN) != 0;
}

enum err ops_next(struct bytes *in, struct op *op)
{
    struct bytes rest = *in, head, key, value;

    *op = (struct op){0};
    if (in->n == 0)
        return ERR_END;
    if (!bytes_take(&rest, OPS_HEADER_BYTES, &head) || !header_fits(head.p))
        return ERR_CORRUPT;
    if (!bytes_take(&rest, get_le16(head.p + AT_KEY_LEN), &key) ||
        !bytes_take(&rest, get_le32(head.p + AT_VALUE_LEN), &value))
        return ERR_CORRUPT;
    *op = (struct op){.kind = head.p[AT_KIND], .store = get_le16(head.p + AT_STORE), .key = key, .value = value};
    *in = rest;
    return ERR_OK;
}
