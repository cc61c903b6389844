/* snapfile.c - codecs of a snapshot file; see snapfile.h. Pure functions over memory. */
#include "engine/snapfile.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/crc32c.h"
#include "base/sha256.h"
#include "base/varint.h"

#define HEADER_MAGIC "COFFERSN"
#define FOOTER_MAGIC "COFFERSF"
#define GROUP_BYTES 64
#define KEY_BITS 7
#define BITS_PER_KEY 10

/* ---- names ---- */

void snapfile_name(char out[SNAPFILE_NAME_BYTES], uint64_t lsn, uint32_t term)
{
    snprintf(out, SNAPFILE_NAME_BYTES, "%020" PRIu64 "-%" PRIu32 ".snap", lsn, term);
}

int snapfile_parse_name(const char *name, uint64_t *lsn, uint32_t *term)
{
    char again[SNAPFILE_NAME_BYTES];
    uint64_t l = 0, t = 0;
    size_t i = 0;

    *lsn = 0;
    *term = 0;
    for (; i < 20 && name[i] >= '0' && name[i] <= '9'; i++)
        l = l * 10 + (uint64_t)(name[i] - '0');
    if (i != 20 || name[i++] != '-')
        return 0;
    for (; name[i] >= '0' && name[i] <= '9' && t <= UINT32_MAX; i++)
        t = t * 10 + (uint64_t)(name[i] - '0');
    if (t > UINT32_MAX)
        return 0;
    snapfile_name(again, l, (uint32_t)t); /* what overflowed, or goes on differently, is not what it began as */
    if (strcmp(name, again) != 0)
        return 0;
    *lsn = l;
    *term = (uint32_t)t;
    return 1;
}

/* ---- header and footer ---- */

static void seal_crc(uint8_t *p, size_t n)
{
    put_le32(p + n - 4, crc32c(0, p, n - 4));
}

static int crc_fits(const uint8_t *p, size_t n)
{
    return get_le32(p + n - 4) == crc32c(0, p, n - 4);
}

void snapfile_put_header(uint8_t out[SNAPFILE_HEADER_BYTES], const struct snapfile_header *h)
{
    memset(out, 0, SNAPFILE_HEADER_BYTES);
    memcpy(out, HEADER_MAGIC, 8);
    put_le32(out + 8, SNAPFILE_FORMAT);
    put_le32(out + 12, SNAPFILE_HEADER_BYTES);
    memcpy(out + 16, h->cell_id, 16);
    put_le64(out + 32, h->lsn);
    put_le32(out + 40, h->term);
    put_le64(out + 48, h->time_ms);
    memcpy(out + 56, h->chain, RECORD_CHAIN_BYTES);
    seal_crc(out, SNAPFILE_HEADER_BYTES);
}

enum err snapfile_get_header(const uint8_t in[SNAPFILE_HEADER_BYTES], struct snapfile_header *h)
{
    memset(h, 0, sizeof *h);
    if (memcmp(in, HEADER_MAGIC, 8) != 0 || !crc_fits(in, SNAPFILE_HEADER_BYTES))
        return ERR_CORRUPT;
    if (get_le32(in + 8) != SNAPFILE_FORMAT || get_le32(in + 12) != SNAPFILE_HEADER_BYTES)
        return ERR_UNSUPPORTED;
    memcpy(h->cell_id, in + 16, 16);
    h->lsn = get_le64(in + 32);
    h->term = get_le32(in + 40);
    h->time_ms = get_le64(in + 48);
    memcpy(h->chain, in + 56, RECORD_CHAIN_BYTES);
    return ERR_OK;
}

void snapfile_put_footer(uint8_t out[SNAPFILE_FOOTER_BYTES], const struct snapfile_footer *f)
{
    memset(out, 0, SNAPFILE_FOOTER_BYTES);
    memcpy(out, FOOTER_MAGIC, 8);
    put_le64(out + 8, f->index_off);
    put_le64(out + 16, f->index_bytes);
    put_le64(out + 24, f->filter_off);
    put_le64(out + 32, f->filter_bytes);
    put_le64(out + 40, f->blocks);
    put_le64(out + 48, f->entries);
    memcpy(out + 56, f->header_hash, SNAPFILE_HASH_BYTES);
    memcpy(out + 88, f->index_hash, SNAPFILE_HASH_BYTES);
    memcpy(out + 120, f->filter_hash, SNAPFILE_HASH_BYTES);
    memcpy(out + 152, f->digest, SNAPFILE_HASH_BYTES);
    memcpy(out + SNAPFILE_FOOTER_SIGNED_BYTES, f->hmac, SNAPFILE_HASH_BYTES);
    seal_crc(out, SNAPFILE_FOOTER_BYTES);
}

enum err snapfile_get_footer(const uint8_t in[SNAPFILE_FOOTER_BYTES], struct snapfile_footer *f)
{
    memset(f, 0, sizeof *f);
    if (memcmp(in, FOOTER_MAGIC, 8) != 0 || !crc_fits(in, SNAPFILE_FOOTER_BYTES))
        return ERR_CORRUPT;
    f->index_off = get_le64(in + 8);
    f->index_bytes = get_le64(in + 16);
    f->filter_off = get_le64(in + 24);
    f->filter_bytes = get_le64(in + 32);
    f->blocks = get_le64(in + 40);
    f->entries = get_le64(in + 48);
    memcpy(f->header_hash, in + 56, SNAPFILE_HASH_BYTES);
    memcpy(f->index_hash, in + 88, SNAPFILE_HASH_BYTES);
    memcpy(f->filter_hash, in + 120, SNAPFILE_HASH_BYTES);
    memcpy(f->digest, in + 152, SNAPFILE_HASH_BYTES);
    memcpy(f->hmac, in + SNAPFILE_FOOTER_SIGNED_BYTES, SNAPFILE_HASH_BYTES);
    return ERR_OK;
}

/* ---- entries ---- */

static size_t shared_bytes(struct bytes a, struct bytes b)
{
    size_t n = a.n < b.n ? a.n : b.n, i = 0;
    while (i < n && a.p[i] == b.p[i])
        i++;
    return i;
}

enum err snapfile_put_entry(struct buf *block, struct bytes before, const struct snapfile_entry *e)
{
    size_t shared = shared_bytes(before, e->key);
    struct bytes rest = bytes_of(e->key.p + shared, e->key.n - shared);
    uint8_t *room, *p;
    enum err err = buf_reserve(block, 4 * VARINT_MAX_BYTES + rest.n + e->value.n, &room);

    if (err)
        return err;
    p = varint_put(room, shared);
    p = varint_put(p, rest.n);
    p = varint_put(p, e->value.n);
    p = varint_put(p, e->lsn);
    if (rest.n)
        memcpy(p, rest.p, rest.n);
    if (e->value.n)
        memcpy(p + rest.n, e->value.p, e->value.n);
    buf_added(block, (size_t)(p - room) + rest.n + e->value.n);
    return ERR_OK;
}

enum err snapfile_get_entry(struct bytes *in, struct buf *key, struct snapfile_entry *e)
{
    uint64_t shared, rest, value;
    struct bytes at = *in, piece;

    *e = (struct snapfile_entry){0};
    if (at.n == 0)
        return ERR_END;
    if (!varint_take(&at, &shared) || !varint_take(&at, &rest) || !varint_take(&at, &value) ||
        !varint_take(&at, &e->lsn) || shared > buf_size(key) || rest > at.n || value > at.n - rest ||
        !bytes_take(&at, (size_t)rest, &piece) || !bytes_take(&at, (size_t)value, &e->value)) {
        *e = (struct snapfile_entry){0};
        return ERR_CORRUPT;
    }
    buf_truncate(key, (size_t)shared);
    enum err err = buf_put(key, piece.p, piece.n);
    if (err)
        return err;
    e->key = buf_bytes(key);
    *in = at;
    return ERR_OK;
}

/* ---- index ---- */

enum err snapfile_put_index(struct buf *index, const struct snapfile_block *b)
{
    uint8_t *p;
    assert(b->first_key.n <= UINT16_MAX);
    enum err err = buf_reserve(index, SNAPFILE_INDEX_ENTRY_BYTES + b->first_key.n, &p);
    if (err)
        return err;
    put_le64(p, b->off);
    put_le32(p + 8, b->bytes);
    put_le32(p + 12, b->entries);
    memcpy(p + 16, b->hash, SNAPFILE_HASH_BYTES);
    put_le16(p + 48, (uint16_t)b->first_key.n);
    put_le16(p + 50, 0);
    memcpy(p + SNAPFILE_INDEX_ENTRY_BYTES, b->first_key.p, b->first_key.n);
    buf_added(index, SNAPFILE_INDEX_ENTRY_BYTES + b->first_key.n);
    return ERR_OK;
}

enum err snapfile_get_index(struct bytes *in, struct snapfile_block *b)
{
    struct bytes at = *in, fixed;

    memset(b, 0, sizeof *b);
    if (at.n == 0)
        return ERR_END;
    if (!bytes_take(&at, SNAPFILE_INDEX_ENTRY_BYTES, &fixed) || get_le16(fixed.p + 50) != 0 ||
        !bytes_take(&at, get_le16(fixed.p + 48), &b->first_key))
        return ERR_CORRUPT;
    b->off = get_le64(fixed.p);
    b->bytes = get_le32(fixed.p + 8);
    b->entries = get_le32(fixed.p + 12);
    memcpy(b->hash, fixed.p + 16, SNAPFILE_HASH_BYTES);
    *in = at;
    return ERR_OK;
}

/* ---- filter ---- */

/* FNV-1a over eight bytes at a time, then mixed (the finalizer of MurmurHash3): the format's own, without a secret, so
 * that every node makes the same bytes. Crafted keys can only make the filter say "maybe". */
static uint64_t filter_hash(struct bytes key)
{
    uint64_t h = 0xcbf29ce484222325u ^ key.n;
    size_t i = 0;
    for (; i + 8 <= key.n; i += 8)
        h = (h ^ get_le64(key.p + i)) * 0x100000001b3u, h ^= h >> 32;
    for (; i < key.n; i++)
        h = (h ^ key.p[i]) * 0x100000001b3u;
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdu;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53u;
    return h ^ h >> 33;
}

/* The upper half chooses the group, nine bits of what follows each bit in it. */
static uint8_t *group_of(const uint8_t *filter, uint64_t bytes, uint64_t hash)
{
    uint64_t groups = bytes / GROUP_BYTES;
    return (uint8_t *)(uintptr_t)filter + ((hash >> 32) * groups >> 32) * GROUP_BYTES;
}

static unsigned bit_of(uint64_t hash, unsigned i)
{
    return (unsigned)((hash * 0x9e3779b97f4a7c15u) >> (9 * i) & (GROUP_BYTES * 8 - 1));
}

uint64_t snapfile_filter_bytes(uint64_t entries)
{
    uint64_t groups = (entries * BITS_PER_KEY + GROUP_BYTES * 8 - 1) / (GROUP_BYTES * 8);
    return (groups ? groups : 1) * GROUP_BYTES;
}

void snapfile_filter_add(uint8_t *filter, uint64_t bytes, struct bytes key)
{
    uint64_t hash = filter_hash(key);
    uint8_t *group = group_of(filter, bytes, hash);
    for (unsigned i = 0; i < KEY_BITS; i++)
        group[bit_of(hash, i) / 8] |= (uint8_t)(1u << bit_of(hash, i) % 8);
}

int snapfile_filter_may_have(const uint8_t *filter, uint64_t bytes, struct bytes key)
{
    uint64_t hash = filter_hash(key);
    const uint8_t *group = group_of(filter, bytes, hash);
    int all = 1;
    for (unsigned i = 0; i < KEY_BITS; i++)
        all &= group[bit_of(hash, i) / 8] >> bit_of(hash, i) % 8;
    return all & 1;
}

/* ---- digest ---- */

static void entry_hash(const struct snapfile_entry *e, uint8_t out[SNAPFILE_HASH_BYTES])
{
    uint8_t head[4], lsn[8];
    struct sha256 s;
    put_le32(head, (uint32_t)e->key.n);
    put_le64(lsn, e->lsn);
    sha256_init(&s);
    sha256_add(&s, head, sizeof head);
    sha256_add(&s, e->key.p, e->key.n);
    sha256_add(&s, lsn, sizeof lsn);
    sha256_add(&s, e->value.p, e->value.n);
    sha256_end(&s, out);
}

/* sum + hash, or sum - hash, which is sum + ~hash + 1. */
static void sum_up(uint8_t sum[SNAPFILE_HASH_BYTES], const uint8_t hash[SNAPFILE_HASH_BYTES], int minus)
{
    unsigned __int128 carry = minus != 0;
    for (size_t i = 0; i < SNAPFILE_HASH_BYTES; i += 8) {
        uint64_t h = get_le64(hash + i);
        carry += (unsigned __int128)get_le64(sum + i) + (minus ? ~h : h);
        put_le64(sum + i, (uint64_t)carry);
        carry >>= 64;
    }
}

void snapfile_digest_add(uint8_t sum[SNAPFILE_HASH_BYTES], const struct snapfile_entry *e)
{
    uint8_t hash[SNAPFILE_HASH_BYTES];
    entry_hash(e, hash);
    sum_up(sum, hash, 0);
}

void snapfile_digest_sub(uint8_t sum[SNAPFILE_HASH_BYTES], const struct snapfile_entry *e)
{
    uint8_t hash[SNAPFILE_HASH_BYTES];
    entry_hash(e, hash);
    sum_up(sum, hash, 1);
}
