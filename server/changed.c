/* changed.c - see changed.h. What is malformed was never committed: it is passed over. */
#include "server/changed.h"

#include "engine/databases.h"

const char *changed_name(enum changed_kind k)
{
    static const char *const names[] = {
#define AS_NAME(id, name) [CHANGED_##id] = name,
        CHANGES(AS_NAME)
#undef AS_NAME
    };
    return names[k];
}

#define ID_BYTES 8 /* of the vault, behind the key's first byte */

static const struct vault *vault_in(struct vaults *vs, const struct op *op)
{
    return op->key.n > ID_BYTES ? vaults_find_id(vs, get_be64(op->key.p + 1)) : NULL;
}

static struct bytes name_in(const struct op *op)
{
    return bytes_of(op->key.p + 1 + ID_BYTES, op->key.n - 1 - ID_BYTES);
}

/* A version that this record brought makes it a SET, whatever else it did. */
static int look_at_head(const struct record *r, const struct op *op, struct changed *c)
{
    struct secret_head h;
    struct secret_version v;
    if (secret_head_get(op->value, &h))
        return 0;
    c->version = h.last_version;
    if (h.state == SECRET_DELETED)
        c->kind = CHANGED_DELETE;
    else
        c->kind = secret_version_find(&h, h.last_version, &v) && v.lsn == r->lsn ? CHANGED_SET : CHANGED_META;
    return 1;
}

static int look_at_key(const struct op *op, struct changed *c)
{
    struct key_record k;
    if (key_record_get(op->value, &k))
        return 0;
    c->version = k.newest;
    return 1;
}

/* Counters say up to which record all is flushed: in the one behind it, that did it. */
static int look_at_counters(const struct record *r, const struct op *op)
{
    struct secret_counters n;
    return secret_counters_get(op->value, &n) == ERR_OK && n.flushed_lsn && n.flushed_lsn + 1 == r->lsn;
}

/* 1: it is a change. */
static int look_at(struct vaults *vs, const struct record *r, const struct op *op, struct changed *c)
{
    int put = op->kind == OPS_PUT;
    *c = (struct changed){0};
    switch (op->key.p[0]) {
    case SECRET_KEY_HEAD:
        c->vault = vault_in(vs, op);
        c->kind = CHANGED_DESTROY;
        c->name = c->vault ? name_in(op) : c->name;
        return c->vault && (!put || look_at_head(r, op, c));
    case 'k':
        c->vault = vault_in(vs, op);
        c->kind = put ? CHANGED_KEY : CHANGED_KEY_DESTROY;
        c->name = c->vault ? name_in(op) : c->name;
        return c->vault && (!put || look_at_key(op, c));
    case 'c':
        c->vault = vault_in(vs, op);
        c->kind = CHANGED_FLUSH;
        return c->vault && put && look_at_counters(r, op);
    case 'V':
        c->vault = put && op->value.n >= 16 ? vaults_find_id(vs, get_le64(op->value.p + 8)) : NULL;
        c->kind = CHANGED_VAULT;
        return c->vault != NULL;
    case DATABASES_KEY:
        c->kind = CHANGED_SWAP;
        return 1;
    default:
        return 0;
    }
}

void changed_each(struct vaults *vs, const struct record *r, int (*visit)(void *arg, const struct changed *c),
                  void *arg)
{
    struct bytes rest = r->blob;
    struct changed c;
    struct op op;
    while (ops_next(&rest, &op) == ERR_OK)
        if (look_at(vs, r, &op, &c) && visit(arg, &c))
            return;
}

enum err changed_key(const struct changed *c, struct buf *out)
{
    enum err e = ERR_OK;
    buf_clear(out);
    if (!c->vault)
        return e;
    if ((e = buf_put_u8(out, '{')) || (e = buf_put(out, c->vault->name, c->vault->name_len)) ||
        (e = buf_put_u8(out, '}')) || !c->name.n)
        return e;
    return (e = buf_put_u8(out, '/')) ? e : buf_put(out, c->name.p, c->name.n);
}
