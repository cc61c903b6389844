/* rdb.c - see rdb.h. */
#include "server/rdb.h"

#include "base/mem.h"
#include "resp/number.h"

#define RDB_VERSION 10 /* of Redis 7.0 */
#define FOOT_BYTES 10

enum { TYPE_STRING = 0, LENGTH_32 = 0x80, LENGTH_64 = 0x81, INT_8 = 0xc0, INT_16 = 0xc1, INT_32 = 0xc2, LZF = 0xc3 };

/* The table is made anew each time: that takes two microseconds, and there is nothing to share. */
static uint64_t crc64(struct bytes b)
{
    uint64_t table[256], crc = 0;
    for (unsigned i = 0; i < 256; i++) {
        table[i] = i;
        for (int k = 0; k < 8; k++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x95ac9329ac4bc9b5u : 0);
    }
    for (size_t i = 0; i < b.n; i++)
        crc = table[(crc ^ b.p[i]) & 0xff] ^ crc >> 8;
    return crc;
}

/* ---- writing ---- */

enum err rdb_string_begin(struct buf *b, size_t n)
{
    uint8_t head[6] = {TYPE_STRING};
    size_t head_n = 2;
    if (n < 1 << 6) {
        head[1] = (uint8_t)n;
    } else if (n < 1 << 14) {
        head[1] = (uint8_t)(0x40 | n >> 8);
        head[2] = (uint8_t)n;
        head_n = 3;
    } else if (n <= UINT32_MAX) {
        head[1] = LENGTH_32;
        put_be32(head + 2, (uint32_t)n);
        head_n = 6;
    } else {
        return ERR_TOOBIG;
    }
    return buf_put(b, head, head_n);
}

enum err rdb_string_end(struct buf *b)
{
    enum err err = buf_put_le16(b, RDB_VERSION);
    return err ? err : buf_put_le64(b, crc64(buf_bytes(b)));
}

/* ---- reading ---- */

/* A length, or, *special, the first byte of what is none. 0: malformed. */
static int take_length(struct bytes *in, uint64_t *n, int *special)
{
    struct bytes first, more;
    *special = 0;
    if (!bytes_take(in, 1, &first))
        return 0;
    uint8_t c = first.p[0];
    size_t extra = c >> 6 == 1 ? 1 : c == LENGTH_32 ? 4 : c == LENGTH_64 ? 8 : 0;
    if (!bytes_take(in, extra, &more))
        return 0;
    *n = c >> 6 == 0  ? c
         : extra == 1 ? (uint64_t)(c & 0x3f) << 8 | more.p[0]
         : extra == 4 ? get_be32(more.p)
         : extra == 8 ? get_be64(more.p)
                      : 0;
    *special = c >= INT_8 ? c : 0;
    return c >> 6 != 2 || extra;
}

/* Stretches as they are, and stretches that repeat earlier ones. 0: malformed, or not n bytes. */
static int expand(struct bytes in, uint8_t *out, size_t n)
{
    struct bytes b;
    size_t at = 0;
    while (bytes_take(&in, 1, &b)) {
        size_t c = b.p[0], len = c < 32 ? c + 1 : (c >> 5) + 2, back = (c & 31) << 8;
        if (c >> 5 == 7) {
            if (!bytes_take(&in, 1, &b))
                return 0;
            len += b.p[0];
        }
        if (len > n - at || !bytes_take(&in, c < 32 ? len : 1, &b))
            return 0;
        back += b.p[0] + 1u;
        if (c >= 32 && back > at)
            return 0;
        for (size_t i = 0; i < len; i++, at++)
            out[at] = c < 32 ? b.p[i] : out[at - back];
    }
    return at == n;
}

static enum err read_compressed(struct bytes *in, struct buf *out)
{
    uint64_t packed_n, n;
    int special[2];
    struct bytes packed;
    uint8_t *room;
    if (!take_length(in, &packed_n, &special[0]) || !take_length(in, &n, &special[1]) || special[0] || special[1] ||
        !bytes_take(in, packed_n, &packed))
        return ERR_SYNTAX;
    enum err err = n > out->limit ? ERR_TOOBIG : buf_reserve(out, n, &room);
    if (err)
        return err;
    if (!expand(packed, room, n)) {
        mem_wipe(room, n);
        return ERR_SYNTAX;
    }
    buf_added(out, n);
    return ERR_OK;
}

static enum err read_integer(struct bytes *in, int kind, struct buf *out)
{
    struct bytes b;
    uint8_t digits[NUMBER_MAX_BYTES];
    if (!bytes_take(in, (size_t)1 << (kind - INT_8), &b))
        return ERR_SYNTAX;
    int64_t v = kind == INT_8 ? (int8_t)b.p[0] : kind == INT_16 ? (int16_t)get_le16(b.p) : (int32_t)get_le32(b.p);
    enum err err = buf_put(out, digits, number_format(digits, v));
    mem_wipe(digits, sizeof digits);
    return err;
}

static enum err read_string(struct bytes *in, struct buf *out)
{
    uint64_t n;
    int special;
    struct bytes plain;
    if (!take_length(in, &n, &special))
        return ERR_SYNTAX;
    if (special == LZF)
        return read_compressed(in, out);
    if (special)
        return special <= INT_32 ? read_integer(in, special, out) : ERR_SYNTAX;
    return bytes_take(in, n, &plain) ? buf_put(out, plain.p, plain.n) : ERR_SYNTAX;
}

enum err rdb_string_read(struct bytes payload, struct buf *out)
{
    struct bytes type;
    if (payload.n < FOOT_BYTES || crc64(bytes_of(payload.p, payload.n - 8)) != get_le64(payload.p + payload.n - 8))
        return ERR_CORRUPT;
    struct bytes in = bytes_of(payload.p, payload.n - FOOT_BYTES);
    if (!bytes_take(&in, 1, &type) || type.p[0] != TYPE_STRING)
        return ERR_SYNTAX;
    enum err err = read_string(&in, out);
    return err ? err : in.n ? ERR_SYNTAX : ERR_OK;
}
