/* secret.c - codecs of secrets: head, versions, store keys. The layout is in secret.h. */
#include "engine/secret.h"

#include "base/varint.h"
#include "engine/ops.h"

#define HEAD_FORMAT 1
#define HEAD_FIXED_BYTES 40

/* Labels are checked whole at decoding, so that later walks need no checks. */
static enum err take_labels(struct bytes *in, unsigned count, struct bytes *labels)
{
    const uint8_t *start = in->p;
    struct bytes skip;
    for (unsigned i = 0; i < count; i++) {
        if (in->n < 1 || !bytes_take(in, 1 + (size_t)in->p[0] + 4, &skip))
            return ERR_CORRUPT;
    }
    *labels = bytes_of(start, (size_t)(in->p - start));
    return ERR_OK;
}

enum err secret_head_get(struct bytes raw, struct secret_head *h)
{
    const uint8_t *p = raw.p;
    memset(h, 0, sizeof *h);
    if (raw.n < HEAD_FIXED_BYTES || p[0] != HEAD_FORMAT || p[1] > SECRET_DELETED)
        return ERR_CORRUPT;
    h->state = p[1];
    h->flags = p[2];
    h->labels = p[3];
    h->last_version = get_le32(p + 4);
    h->current = get_le32(p + 8);
    h->previous = get_le32(p + 12);
    h->expires_ms = get_le64(p + 16);
    h->purge_ms = get_le64(p + 24);
    h->versions = get_le16(p + 32);

    struct bytes in = bytes_of(p + HEAD_FIXED_BYTES, raw.n - HEAD_FIXED_BYTES);
    if (h->versions > SECRET_VERSIONS_MAX || !bytes_take(&in, get_le16(p + 34), &h->version_bytes) ||
        take_labels(&in, h->labels, &h->label_bytes) || !bytes_take(&in, get_le32(p + 36), &h->meta))
        return ERR_CORRUPT;
    if (h->flags & SECRET_CURRENT_INLINE)
        h->value.raw = in;
    else if (in.n)
        return ERR_CORRUPT;
    return ERR_OK;
}

size_t secret_head_size(const struct secret_head *h)
{
    return HEAD_FIXED_BYTES + h->version_bytes.n + h->label_bytes.n + h->meta.n +
           (h->flags & SECRET_CURRENT_INLINE ? h->value.raw.n : 0);
}

static uint8_t *put_bytes(uint8_t *out, struct bytes b)
{
    if (b.n && b.p)
        memcpy(out, b.p, b.n);
    return out + b.n;
}

void secret_head_put(const struct secret_head *h, uint8_t *out)
{
    out[0] = HEAD_FORMAT;
    out[1] = h->state;
    out[2] = h->flags;
    out[3] = h->labels;
    put_le32(out + 4, h->last_version);
    put_le32(out + 8, h->current);
    put_le32(out + 12, h->previous);
    put_le64(out + 16, h->expires_ms);
    put_le64(out + 24, h->purge_ms);
    put_le16(out + 32, h->versions);
    put_le16(out + 34, (uint16_t)h->version_bytes.n);
    put_le32(out + 36, (uint32_t)h->meta.n);
    out = put_bytes(out + HEAD_FIXED_BYTES, h->version_bytes);
    out = put_bytes(out, h->label_bytes);
    out = put_bytes(out, h->meta);
    if (h->flags & SECRET_CURRENT_INLINE)
        put_bytes(out, h->value.raw);
}

/* Takes the next version off *in; *v is the one before on entry. */
static int take_version(struct bytes *in, struct secret_version *v)
{
    uint64_t version, sealed, created, lsn;
    struct bytes flags, slot;

    if (!bytes_take(in, 1, &flags) || !varint_take(in, &version) || !varint_take(in, &sealed) ||
        !varint_take(in, &created) || !varint_take(in, &lsn))
        return 0;
    v->flags = flags.p[0] & SECRET_VERSION_DELETED;
    v->slot = SECRET_NO_SLOT;
    if (flags.p[0] & SECRET_VERSION_SLOT) {
        if (!bytes_take(in, 2, &slot))
            return 0;
        v->slot = get_le16(slot.p);
    }
    if (version > UINT32_MAX - v->version || sealed > UINT32_MAX)
        return 0;
    v->version += (uint32_t)version;
    v->sealed_bytes = (uint32_t)sealed;
    v->created_ms += (uint64_t)varint_unzigzag(created);
    v->lsn += lsn;
    return 1;
}

enum err secret_versions_get(const struct secret_head *h, struct secret_version *v)
{
    struct bytes in = h->version_bytes;
    struct secret_version at = {0};

    for (unsigned i = 0; i < h->versions; i++) {
        if (!take_version(&in, &at))
            return ERR_CORRUPT;
        v[i] = at;
    }
    return in.n ? ERR_CORRUPT : ERR_OK;
}

size_t secret_versions_put(uint8_t *out, const struct secret_version *v, unsigned n)
{
    struct secret_version before = {0};
    uint8_t *p = out;

    for (unsigned i = 0; i < n; before = v[i++]) {
        *p++ = (uint8_t)(v[i].flags | (v[i].slot != SECRET_NO_SLOT ? SECRET_VERSION_SLOT : 0));
        p = varint_put(p, v[i].version - before.version);
        p = varint_put(p, v[i].sealed_bytes);
        p = varint_put(p, varint_zigzag((int64_t)(v[i].created_ms - before.created_ms)));
        p = varint_put(p, v[i].lsn - before.lsn);
        if (v[i].slot != SECRET_NO_SLOT) {
            put_le16(p, v[i].slot);
            p += 2;
        }
    }
    return (size_t)(p - out);
}

int secret_version_find(const struct secret_head *h, uint32_t version, struct secret_version *v)
{
    struct bytes in = h->version_bytes;
    memset(v, 0, sizeof *v);
    for (unsigned i = 0; i < h->versions && take_version(&in, v); i++)
        if (v->version == version)
            return 1;
    return 0;
}

uint32_t secret_label_version(const struct secret_head *h, struct bytes label)
{
    if (bytes_equal(label, bytes_str("CURRENT")))
        return h->current;
    if (bytes_equal(label, bytes_str("PREVIOUS")))
        return h->previous;
    const uint8_t *p = h->label_bytes.p;
    for (unsigned i = 0; i < h->labels; i++) {
        if (bytes_equal(bytes_of(p + 1, p[0]), label))
            return get_le32(p + 1 + p[0]);
        p += 1 + p[0] + 4;
    }
    return 0;
}

uint64_t secret_due_ms(const struct secret_head *h)
{
    if (!h->purge_ms || !h->expires_ms)
        return h->purge_ms ? h->purge_ms : h->expires_ms;
    return h->purge_ms < h->expires_ms ? h->purge_ms : h->expires_ms;
}

/* ---- store keys ---- */

static struct bytes vault_path_key(uint8_t *out, uint8_t kind, uint64_t vault, struct bytes path)
{
    out[0] = kind;
    put_be64(out + 1, vault);
    if (path.n)
        memcpy(out + 9, path.p, path.n);
    return bytes_of(out, 9 + path.n);
}

struct bytes secret_key_head(uint8_t *out, uint64_t vault, struct bytes path)
{
    return vault_path_key(out, SECRET_KEY_HEAD, vault, path);
}

struct bytes secret_key_last(uint8_t *out, uint64_t vault, struct bytes path)
{
    return vault_path_key(out, 't', vault, path);
}

struct bytes secret_key_slot(uint8_t *out, uint64_t vault, struct bytes path, uint16_t slot)
{
    struct bytes k = vault_path_key(out, 'v', vault, path);
    out[k.n] = (uint8_t)(slot >> 8);
    out[k.n + 1] = (uint8_t)slot;
    return bytes_of(out, k.n + 2);
}

struct bytes secret_key_due(uint8_t *out, uint64_t due_ms, uint64_t vault, struct bytes path)
{
    out[0] = 'x';
    put_be64(out + 1, due_ms);
    put_be64(out + 9, vault);
    if (path.n)
        memcpy(out + 17, path.p, path.n);
    return bytes_of(out, 17 + path.n);
}

struct bytes secret_key_logged(uint8_t *out, uint64_t vault, struct bytes path, uint64_t lsn, uint32_t version)
{
    struct bytes k = vault_path_key(out, SECRET_KEY_OLD, vault, path);
    put_be64(out + k.n, lsn);
    put_be32(out + k.n + 8, version);
    return bytes_of(out, k.n + 12);
}

enum err secret_value_in_ops(struct bytes ops, struct bytes head_key, uint32_t version, struct sealed *value)
{
    struct secret_head h;
    struct op op;
    enum err err;
    int found = 0;

    value->raw = bytes_of(NULL, 0);
    while ((err = ops_next(&ops, &op)) == ERR_OK) {
        if (op.kind != OPS_PUT || !bytes_equal(op.key, head_key))
            continue;
        if ((err = secret_head_get(op.value, &h)) != ERR_OK)
            break;
        if (h.current == version && (h.flags & SECRET_CURRENT_INLINE)) {
            *value = h.value;
            found = 1;
        }
    }
    if (err == ERR_END && found)
        return ERR_OK;
    value->raw = bytes_of(NULL, 0);
    return err == ERR_END ? ERR_NOTFOUND : err;
}

struct bytes secret_key_counters(uint8_t *out, uint64_t vault)
{
    return vault_path_key(out, 'c', vault, bytes_of(NULL, 0));
}

enum err secret_counters_get(struct bytes raw, struct secret_counters *c)
{
    memset(c, 0, sizeof *c);
    if (raw.n != SECRET_COUNTERS_BYTES && raw.n != SECRET_COUNTERS_BYTES - 8)
        return ERR_CORRUPT;
    c->secrets = get_le64(raw.p);
    c->keys = get_le64(raw.p + 8);
    c->bytes = get_le64(raw.p + 16);
    c->names_lsn = get_le64(raw.p + 24);
    c->flushed_lsn = raw.n > 32 ? get_le64(raw.p + 32) : 0;
    return ERR_OK;
}

void secret_counters_put(uint8_t out[SECRET_COUNTERS_BYTES], const struct secret_counters *c)
{
    put_le64(out, c->secrets);
    put_le64(out + 8, c->keys);
    put_le64(out + 16, c->bytes);
    put_le64(out + 24, c->names_lsn);
    put_le64(out + 32, c->flushed_lsn);
}
