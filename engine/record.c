/* record.c - encoding and decoding of log records. The layout is in record.h, byte by byte.
 *
 * record_put is on the path of every write: one reservation in the output buffer, the fields stored in place, one pass
 * of SHA-256 over what the chain covers, one pass of CRC over what the CRC covers. No allocation beyond the buffer's
 * own growth.
 *
 * record_get trusts nothing: the length is compared with limits and with the lengths that it follows from before a byte
 * behind the header is touched, then the CRC over all of it, and only then do pointers into the input go out. It is
 * what stands between a disk, or a peer, and the rest of the engine; tests/fuzz/fuzz_wal.c feeds it.
 */
#include "engine/record.h"

#include <assert.h>

#include "base/crc32c.h"
#include "base/sha256.h"

enum {
    AT_LEN = 0,
    AT_CRC = 4,
    AT_LSN = 8, /* CRC and chain cover from here */
    AT_TERM = 16,
    AT_TYPE = 20,
    AT_FLAGS = 21,
    AT_FORMAT = 22,
    AT_VAULT = 24,
    AT_SHARD = 32,
    AT_KEY_LEN = 34,
    AT_BLOB_LEN = 36,
    AT_TIME = 40,
    AT_TOKEN = 48,
};

static const char *const type_names[] = {
    [RECORD_BARRIER] = "barrier",   [RECORD_PARTITION] = "partition",
    [RECORD_PUT] = "put",           [RECORD_TOMBSTONE] = "tombstone",
    [RECORD_CONFIG] = "config",     [RECORD_TXN] = "txn",
    [RECORD_CHECK] = "check",       [RECORD_KEY] = "key",
    [RECORD_VAULT] = "vault",       [RECORD_USER] = "user",
    [RECORD_BOOKMARK] = "bookmark",
};

const char *record_type_name(uint8_t type)
{
    const char *name = type < sizeof type_names / sizeof *type_names ? type_names[type] : NULL;
    return name ? name : "unknown";
}

static size_t padded(size_t n)
{
    return (n + 7) & ~(size_t)7;
}

static size_t tail_size(uint8_t flags)
{
    return RECORD_CHAIN_BYTES + (flags & RECORD_HAS_HMAC ? RECORD_HMAC_BYTES : 0);
}

size_t record_size(size_t key_len, size_t blob_len, uint8_t flags)
{
    return padded(RECORD_HEADER_BYTES + key_len + blob_len) + tail_size(flags);
}

static void chain_of(const uint8_t *prev, const uint8_t *from, size_t n, uint8_t out[RECORD_CHAIN_BYTES])
{
    struct sha256 s;
    sha256_init(&s);
    sha256_add(&s, prev, RECORD_CHAIN_BYTES);
    sha256_add(&s, from, n);
    sha256_end(&s, out);
}

static void put_header(uint8_t *p, const struct record *r, size_t size)
{
    put_le32(p + AT_LEN, (uint32_t)size);
    put_le64(p + AT_LSN, r->lsn);
    put_le32(p + AT_TERM, r->term);
    p[AT_TYPE] = r->type;
    p[AT_FLAGS] = r->flags;
    put_le16(p + AT_FORMAT, RECORD_FORMAT);
    put_le64(p + AT_VAULT, r->vault);
    put_le16(p + AT_SHARD, r->shard);
    put_le16(p + AT_KEY_LEN, (uint16_t)r->key.n);
    put_le32(p + AT_BLOB_LEN, (uint32_t)r->blob.n);
    put_le64(p + AT_TIME, r->time_ms);
    memcpy(p + AT_TOKEN, r->token, RECORD_TOKEN_BYTES);
}

static uint8_t *put_bytes(uint8_t *at, struct bytes b)
{
    if (b.n)
        memcpy(at, b.p, b.n);
    return at + b.n;
}

enum err record_put(struct buf *out, struct record *r, const uint8_t prev_chain[RECORD_CHAIN_BYTES])
{
    assert(r->lsn != 0 && (r->flags & ~RECORD_HAS_HMAC) == 0);
    if (r->key.n > UINT16_MAX || r->blob.n > RECORD_MAX_BYTES)
        return ERR_TOOBIG;
    size_t size = record_size(r->key.n, r->blob.n, r->flags);
    if (size > RECORD_MAX_BYTES)
        return ERR_TOOBIG;

    uint8_t *p;
    enum err e = buf_reserve(out, size, &p);
    if (e)
        return e;
    put_header(p, r, size);
    uint8_t *at = put_bytes(put_bytes(p + RECORD_HEADER_BYTES, r->key), r->blob);
    uint8_t *tail = p + size - tail_size(r->flags), *chain = p + size - RECORD_CHAIN_BYTES;
    memset(at, 0, (size_t)(tail - at));
    if (r->flags & RECORD_HAS_HMAC)
        memcpy(tail, r->hmac, RECORD_HMAC_BYTES);
    chain_of(prev_chain, p + AT_LSN, (size_t)(chain - p) - AT_LSN, chain);
    put_le32(p + AT_CRC, crc32c(0, p + AT_LSN, size - AT_LSN));
    memcpy(r->chain, chain, RECORD_CHAIN_BYTES);
    buf_added(out, size);
    return ERR_OK;
}

/* 1 when the header's lengths fit each other and n bytes of input, and the padding is zero. */
static int lengths_fit(const uint8_t *p, size_t n, size_t size)
{
    if (size < RECORD_MIN_BYTES || size > RECORD_MAX_BYTES || size > n)
        return 0;
    if (p[AT_FLAGS] & ~RECORD_HAS_HMAC || get_le16(p + AT_FORMAT) != RECORD_FORMAT)
        return 0;
    size_t key_len = get_le16(p + AT_KEY_LEN), blob_len = get_le32(p + AT_BLOB_LEN);
    if (blob_len > RECORD_MAX_BYTES || record_size(key_len, blob_len, p[AT_FLAGS]) != size)
        return 0;
    for (size_t i = RECORD_HEADER_BYTES + key_len + blob_len; i < size - tail_size(p[AT_FLAGS]); i++)
        if (p[i])
            return 0;
    return 1;
}

enum err record_get(struct bytes in, struct record *r, size_t *used)
{
    const uint8_t *p = in.p;

    *r = (struct record){0};
    *used = 0;
    if (in.n == 0 || (in.n >= 4 && get_le32(p + AT_LEN) == 0))
        return ERR_END;
    if (in.n < RECORD_MIN_BYTES)
        return ERR_CORRUPT;
    size_t size = get_le32(p + AT_LEN);
    if (!lengths_fit(p, in.n, size) || get_le64(p + AT_LSN) == 0)
        return ERR_CORRUPT;
    if (crc32c(0, p + AT_LSN, size - AT_LSN) != get_le32(p + AT_CRC))
        return ERR_CORRUPT;

    r->lsn = get_le64(p + AT_LSN);
    r->term = get_le32(p + AT_TERM);
    r->type = p[AT_TYPE];
    r->flags = p[AT_FLAGS];
    r->vault = get_le64(p + AT_VAULT);
    r->shard = get_le16(p + AT_SHARD);
    r->time_ms = get_le64(p + AT_TIME);
    memcpy(r->token, p + AT_TOKEN, RECORD_TOKEN_BYTES);
    r->key = bytes_of(p + RECORD_HEADER_BYTES, get_le16(p + AT_KEY_LEN));
    r->blob = bytes_of(r->key.p + r->key.n, get_le32(p + AT_BLOB_LEN));
    if (r->flags & RECORD_HAS_HMAC)
        memcpy(r->hmac, p + size - RECORD_CHAIN_BYTES - RECORD_HMAC_BYTES, RECORD_HMAC_BYTES);
    memcpy(r->chain, p + size - RECORD_CHAIN_BYTES, RECORD_CHAIN_BYTES);
    *used = size;
    return ERR_OK;
}

int record_chains(struct bytes raw, const uint8_t prev_chain[RECORD_CHAIN_BYTES])
{
    uint8_t want[RECORD_CHAIN_BYTES];

    if (raw.n < RECORD_MIN_BYTES)
        return 0;
    chain_of(prev_chain, raw.p + AT_LSN, raw.n - RECORD_CHAIN_BYTES - AT_LSN, want);
    return memcmp(want, raw.p + raw.n - RECORD_CHAIN_BYTES, RECORD_CHAIN_BYTES) == 0;
}
