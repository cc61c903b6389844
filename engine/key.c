/* key.c - codecs of customers' keys. The layout is in key.h. */
#include "engine/key.h"

#define KEY_FORMAT 1
#define KEY_FIXED_BYTES 52
#define KEY_VERSION_FIXED_BYTES 28

enum err key_version_next(struct bytes *in, struct key_version *v)
{
    struct bytes fixed;
    memset(v, 0, sizeof *v);
    if (in->n == 0)
        return ERR_END;
    if (!bytes_take(in, KEY_VERSION_FIXED_BYTES, &fixed))
        return ERR_CORRUPT;
    v->version = get_le32(fixed.p);
    v->created_ms = get_le64(fixed.p + 12);
    v->uses = get_le64(fixed.p + 20);
    if (!bytes_take(in, get_le32(fixed.p + 4), &v->masked.raw) || !bytes_take(in, get_le32(fixed.p + 8), &v->pub))
        return ERR_CORRUPT;
    return ERR_OK;
}

enum err key_version_put(struct buf *out, const struct key_version *v)
{
    uint8_t *p;
    enum err err = buf_reserve(out, KEY_VERSION_FIXED_BYTES + v->masked.raw.n + v->pub.n, &p);
    if (err)
        return err;
    put_le32(p, v->version);
    put_le32(p + 4, (uint32_t)v->masked.raw.n);
    put_le32(p + 8, (uint32_t)v->pub.n);
    put_le64(p + 12, v->created_ms);
    put_le64(p + 20, v->uses);
    memcpy(p + KEY_VERSION_FIXED_BYTES, v->masked.raw.p, v->masked.raw.n);
    if (v->pub.n)
        memcpy(p + KEY_VERSION_FIXED_BYTES + v->masked.raw.n, v->pub.p, v->pub.n);
    buf_added(out, KEY_VERSION_FIXED_BYTES + v->masked.raw.n + v->pub.n);
    return ERR_OK;
}

enum err key_record_get(struct bytes raw, struct key_record *k)
{
    const uint8_t *p = raw.p;
    memset(k, 0, sizeof *k);
    if (raw.n < KEY_FIXED_BYTES || p[0] != KEY_FORMAT || p[1] > KEY_DISABLED)
        return ERR_CORRUPT;
    k->state = p[1];
    k->alg = p[2];
    k->newest = get_le32(p + 4);
    k->min_version = get_le32(p + 8);
    k->versions = get_le32(p + 12);
    memcpy(k->id, p + 16, sizeof k->id);
    k->created_ms = get_le64(p + 32);
    k->delete_ms = get_le64(p + 40);
    struct bytes in = bytes_of(p + KEY_FIXED_BYTES, raw.n - KEY_FIXED_BYTES);
    if (!bytes_take(&in, get_le32(p + 48), &k->meta))
        return ERR_CORRUPT;
    k->version_bytes = in;

    struct key_version v;
    enum err err;
    uint32_t n = 0;
    while ((err = key_version_next(&in, &v)) == ERR_OK)
        n++;
    return err == ERR_END && n == k->versions ? ERR_OK : ERR_CORRUPT;
}

enum err key_record_put(struct buf *out, const struct key_record *k)
{
    uint8_t *p;
    enum err err = buf_reserve(out, KEY_FIXED_BYTES + k->meta.n + k->version_bytes.n, &p);
    if (err)
        return err;
    memset(p, 0, KEY_FIXED_BYTES);
    p[0] = KEY_FORMAT;
    p[1] = k->state;
    p[2] = k->alg;
    put_le32(p + 4, k->newest);
    put_le32(p + 8, k->min_version);
    put_le32(p + 12, k->versions);
    memcpy(p + 16, k->id, sizeof k->id);
    put_le64(p + 32, k->created_ms);
    put_le64(p + 40, k->delete_ms);
    put_le32(p + 48, (uint32_t)k->meta.n);
    if (k->meta.n)
        memcpy(p + KEY_FIXED_BYTES, k->meta.p, k->meta.n);
    if (k->version_bytes.n)
        memcpy(p + KEY_FIXED_BYTES + k->meta.n, k->version_bytes.p, k->version_bytes.n);
    buf_added(out, KEY_FIXED_BYTES + k->meta.n + k->version_bytes.n);
    return ERR_OK;
}

int key_version_find(const struct key_record *k, uint32_t version, struct key_version *v)
{
    struct bytes in = k->version_bytes;
    while (key_version_next(&in, v) == ERR_OK)
        if (v->version == version)
            return 1;
    return 0;
}

struct bytes key_key(uint8_t *out, uint64_t vault, struct bytes name)
{
    out[0] = 'k';
    put_be64(out + 1, vault);
    if (name.n) /* a listing begins at the empty name */
        memcpy(out + 9, name.p, name.n);
    return bytes_of(out, 9 + name.n);
}

struct bytes key_due_key(uint8_t *out, uint64_t due_ms, uint64_t vault, struct bytes name)
{
    out[0] = 'y';
    put_be64(out + 1, due_ms);
    put_be64(out + 9, vault);
    memcpy(out + 17, name.p, name.n);
    return bytes_of(out, 17 + name.n);
}
