/* ops_vault.c - operations on partitions and on the data keys of vaults.
 *
 * A data key is 32 bytes of the HSM's generator, encrypted by the partition's KEK inside the HSM, with the caller's
 * context (vault, version) as additional data: a wrapped key put in another place does not open. It leaves the worker
 * in the clear, because secrets are sealed with it in the server (seal.h); it exists here in secret memory only.
 */
#include "base/mem.h"
#include "hsm/crypt.h"
#include "hsm/ops.h"

enum { DEK_FORMAT = 1, DEK_AT_NONCE = 1, DEK_AT_BODY = 1 + GCM_NONCE };

enum err op_PARTITION_NEW(struct ops *o, const struct bytes *in, struct answer *a)
{
    uint8_t config[PARTITION_CONFIG_BYTES];
    enum err e;

    if (in[0].n != PARTITION_ID_BYTES)
        return ERR_RANGE;
    e = partitions_create(o->partitions, in[0].p, config);
    return e == ERR_OK ? answer_put(a, bytes_of(config, sizeof config)) : e;
}

enum err op_PARTITION_IMPORT(struct ops *o, const struct bytes *in, struct answer *a)
{
    (void)a;
    return partitions_import(o->partitions, in[0]);
}

enum err op_PARTITION_DESTROY(struct ops *o, const struct bytes *in, struct answer *a)
{
    (void)a;
    return partitions_destroy(o->partitions, in[0]);
}

enum err op_PARTITION_SWEEP(struct ops *o, const struct bytes *in, struct answer *a)
{
    uint8_t count[4];
    unsigned swept;
    enum err e = partitions_sweep(o->partitions, in[0], in[1], &swept);

    put_le32(count, swept);
    return e == ERR_OK ? answer_put(a, bytes_of(count, sizeof count)) : e;
}

/* "coffer-dek" | format | context, in the scratch buffer. */
static enum err dek_aad(struct ops *o, struct bytes context, struct bytes *aad)
{
    enum err e;

    buf_clear(&o->aad);
    e = buf_put(&o->aad, "coffer-dek", sizeof "coffer-dek" - 1);
    if (e == ERR_OK)
        e = buf_put_u8(&o->aad, DEK_FORMAT);
    if (e == ERR_OK)
        e = buf_put(&o->aad, context.p, context.n);
    *aad = buf_bytes(&o->aad);
    return e;
}

enum err op_DEK_NEW(struct ops *o, const struct bytes *in, struct answer *a)
{
    uint8_t wrapped[DEK_WRAPPED_BYTES] = {DEK_FORMAT}, *key;
    struct partition *p;
    struct bytes aad;
    enum err e = partitions_open(o->partitions, in[0], &p);

    if (e == ERR_OK)
        e = dek_aad(o, in[1], &aad);
    if (e == ERR_OK)
        e = answer_begin(a, DEK_BYTES, &key);
    if (e == ERR_OK)
        e = crypt_random(&o->token, key, DEK_BYTES);
    if (e == ERR_OK)
        e = crypt_nonce(&o->token, wrapped + DEK_AT_NONCE);
    if (e == ERR_OK)
        e = crypt_gcm_seal(&o->token, p->key[ROLE_KEK], wrapped + DEK_AT_NONCE, aad, bytes_of(key, DEK_BYTES),
                           wrapped + DEK_AT_BODY);
    if (e != ERR_OK)
        return e;
    answer_end(a, DEK_BYTES);
    return answer_put(a, bytes_of(wrapped, sizeof wrapped));
}

enum err op_DEK_OPEN(struct ops *o, const struct bytes *in, struct answer *a)
{
    struct partition *p;
    struct bytes aad;
    uint8_t *key;
    size_t n = 0;
    enum err e;

    if (in[2].n != DEK_WRAPPED_BYTES || in[2].p[0] != DEK_FORMAT)
        return ERR_BADBLOB;
    e = partitions_open(o->partitions, in[0], &p);
    if (e == ERR_OK)
        e = dek_aad(o, in[1], &aad);
    if (e == ERR_OK)
        e = answer_begin(a, DEK_BYTES + GCM_TAG, &key);
    if (e == ERR_OK)
        e = crypt_gcm_open(&o->token, p->key[ROLE_KEK], in[2].p + DEK_AT_NONCE, aad,
                           bytes_of(in[2].p + DEK_AT_BODY, DEK_BYTES + GCM_TAG), key, &n);
    if (e == ERR_OK)
        answer_end(a, n);
    return e == ERR_BADCIPHERTEXT ? ERR_BADBLOB : e;
}
