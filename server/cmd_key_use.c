/* cmd_key_use.c - KEY.*: what uses a key: encrypt, decrypt, sign, authenticate; KEY.RANDOM. Verifying is in
 * cmd_key_verify.c.
 *
 * Each handler: begin() parses, measures, finds the key and sees whether it may; then the parts that op.tbl.h wants are
 * put together from the arguments and the record, and the HSM is asked. Nothing here ever holds a key or copies
 * plaintext. */
#include "hsm/ciphertext.h"
#include "resp/number.h"
#include "server/handlers.h"
#include "server/keyop.h"
#include "server/keysign.h"
#include "server/options.h"
#include "server/server.h"

#define RANDOM_MAX 65536

enum { AAD, BYTES, NOPLAINTEXT, OPTS };
static const struct option options[OPTS] = {
    [AAD] = {"AAD", OPTION_BYTES, 0, 0, 0},
    [BYTES] = {"BYTES", OPTION_INT, 0, 0, 0},
    [NOPLAINTEXT] = {"NOPLAINTEXT", OPTION_FLAG, 0, 0, 0},
};

/* What a command takes: where its options begin and how many of the table it knows. The argument before them is data.
 */
struct use {
    unsigned from, opts;
    size_t data_max;
};

static const struct use use_encrypt = {4, BYTES, KEYOP_INPUT_MAX};
static const struct use use_decrypt = {4, BYTES, KEYOP_INPUT_MAX + CIPHERTEXT_GCM_OVERHEAD};
static const struct use use_datakey = {3, OPTS, VAULT_NAME_MAX};

static int fits(struct call *c, struct bytes data, size_t max)
{
    if (data.n <= max)
        return 1;
    call_errorf(c, ERR_TOOBIG, "the HSM takes at most %zu bytes at a time", max);
    return 0;
}

/* Options, sizes, key, state, type. 1: go on, then keyop_close(). 0: replied. */
static int begin(struct call *c, const struct use *u, struct option_value *opt, struct keyed *k)
{
    memset(opt, 0, OPTS * sizeof *opt);
    if (options_parse(c, u->from, options, u->opts, opt) || !fits(c, c->argv[u->from - 1], u->data_max) ||
        !fits(c, opt[AAD].b, KEYOP_INPUT_MAX))
        return 0;
    if (keyop_open(c, k))
        return 0;
    if (keyop_usable(c, k, ALG_CAN_ENCRYPT) == ERR_OK) {
        if (!opt[AAD].given || k->alg->kind == ALG_AES)
            return 1;
        call_errorf(c, ERR_UNSUPPORTED, "key '%s' is %s, which takes no AAD", k->text, k->alg->name);
    }
    keyop_close(k);
    return 0;
}

/* The newest version, and the header of a ciphertext under it. */
static enum err newest_header(struct call *c, struct keyed *k, struct key_version *v, uint8_t head[CIPHERTEXT_HEADER])
{
    enum err err = keyop_newest(c, k, v);
    if (err == ERR_OK)
        ciphertext_put_header(head, CIPHER_ANY, k->view.rec.id, v->version);
    return err;
}

/* The version that a ciphertext names, if this key made it. */
static enum err ciphertext_version(struct call *c, struct keyed *k, struct bytes raw, struct key_version *v)
{
    struct ciphertext ct;
    if (ciphertext_parse(raw, &ct)) {
        call_errorf(c, ERR_BADCIPHERTEXT, "this is not a ciphertext of KEY.ENCRYPT");
        return ERR_BADCIPHERTEXT;
    }
    struct bytes id = bytes_of(k->view.rec.id, KEY_ID_BYTES);
    if (!bytes_equal(bytes_of(ct.id, sizeof ct.id), id) || !key_version_find(&k->view.rec, ct.version, v)) {
        call_errorf(c, ERR_BADCIPHERTEXT, "the ciphertext was made by another key");
        return ERR_BADCIPHERTEXT;
    }
    return keyop_version(c, k, ct.version, v);
}

/* ---- KEY.ENCRYPT vault key plaintext [AAD bytes] ---- */

enum call_result cmd_key_encrypt(struct call *c)
{
    uint8_t head[CIPHERTEXT_HEADER];
    struct option_value opt[OPTS];
    struct key_version v;
    struct keyed k;
    enum call_result result = CALL_DONE;

    if (!begin(c, &use_encrypt, opt, &k))
        return CALL_DONE;
    if (newest_header(c, &k, &v, head) == ERR_OK) {
        struct bytes part[] = {k.vault->partition, v.masked.raw, bytes_of(head, sizeof head), opt[AAD].b, c->argv[3]};
        result = keyop_submit_counted(c, &k, HSM_ENCRYPT, part, 5, keyop_reply_bulk);
    }
    keyop_close(&k);
    return result;
}

/* ---- KEY.DECRYPT vault key ciphertext [AAD bytes] ---- */

enum call_result cmd_key_decrypt(struct call *c)
{
    struct option_value opt[OPTS];
    struct key_version v;
    struct keyed k;
    enum call_result result = CALL_DONE;

    if (!begin(c, &use_decrypt, opt, &k))
        return CALL_DONE;
    if (ciphertext_version(c, &k, c->argv[3], &v) == ERR_OK) {
        struct bytes part[] = {k.vault->partition, v.masked.raw, opt[AAD].b, c->argv[3]};
        result = keyop_submit(c, &k, HSM_DECRYPT, part, 4, keyop_reply_bulk);
    }
    keyop_close(&k);
    return result;
}

/* ---- KEY.REWRAP vault key ciphertext [AAD bytes] ---- */

enum call_result cmd_key_rewrap(struct call *c)
{
    uint8_t head[CIPHERTEXT_HEADER];
    struct option_value opt[OPTS];
    struct key_version old, new;
    struct keyed k;
    enum call_result result = CALL_DONE;

    if (!begin(c, &use_decrypt, opt, &k))
        return CALL_DONE;
    if (ciphertext_version(c, &k, c->argv[3], &old) == ERR_OK && newest_header(c, &k, &new, head) == ERR_OK) {
        struct bytes part[] = {k.vault->partition,          old.masked.raw, new.masked.raw,
                               bytes_of(head, sizeof head), opt[AAD].b,     c->argv[3]};
        result = keyop_submit_counted(c, &k, HSM_REWRAP, part, 6, keyop_reply_bulk);
    }
    keyop_close(&k);
    return result;
}

/* ---- KEY.DATAKEY vault key [BYTES 16|32|64] [AAD bytes] [NOPLAINTEXT] ---- */

static void reply_datakey(const struct hsm_req *req, struct reply *r)
{
    reply_array(r, 2);
    reply_bulk(r, req->part[0]);
    reply_bulk(r, req->part[1]);
}

static void reply_datakey_hidden(const struct hsm_req *req, struct reply *r)
{
    reply_array(r, 2);
    reply_nil(r);
    reply_bulk(r, req->part[1]);
}

enum call_result cmd_key_datakey(struct call *c)
{
    uint8_t head[CIPHERTEXT_HEADER], count[4];
    struct option_value opt[OPTS];
    struct key_version v;
    struct keyed k;
    enum call_result result = CALL_DONE;

    if (!begin(c, &use_datakey, opt, &k))
        return CALL_DONE;
    int64_t n = opt[BYTES].given ? opt[BYTES].i : 32;
    if (n != 16 && n != 32 && n != 64) {
        call_errorf(c, ERR_RANGE, "BYTES must be 16, 32 or 64");
    } else if (newest_header(c, &k, &v, head) == ERR_OK) {
        put_le32(count, (uint32_t)n);
        struct bytes part[] = {k.vault->partition, v.masked.raw, bytes_of(head, sizeof head), opt[AAD].b,
                               bytes_of(count, sizeof count)};
        result = keyop_submit_counted(c, &k, HSM_DATAKEY, part, 5,
                                      opt[NOPLAINTEXT].given ? reply_datakey_hidden : reply_datakey);
    }
    keyop_close(&k);
    return result;
}

/* ---- KEY.SIGN vault key message [DIGEST] [ALG name] ---- */

enum call_result cmd_key_sign(struct call *c)
{
    struct keysign how;
    struct key_version v;
    struct keyed k;
    enum call_result result = CALL_DONE;

    if (!keysign_begin(c, 4, &how, &k))
        return CALL_DONE;
    if (keyop_newest(c, &k, &v) == ERR_OK) {
        struct bytes part[] = {k.vault->partition, v.masked.raw, bytes_of(how.code, sizeof how.code), c->argv[3]};
        result = keyop_submit(c, &k, HSM_SIGN, part, 4, keyop_reply_bulk);
    }
    keyop_close(&k);
    return result;
}

/* ---- KEY.MAC vault key message ---- */

enum call_result cmd_key_mac(struct call *c)
{
    struct key_version v;
    struct keyed k;
    enum call_result result = CALL_DONE;

    if (!fits(c, c->argv[3], KEYOP_INPUT_MAX) || keyop_open(c, &k))
        return CALL_DONE;
    if (keyop_usable(c, &k, ALG_CAN_MAC) == ERR_OK && keyop_newest(c, &k, &v) == ERR_OK) {
        struct bytes part[] = {k.vault->partition, v.masked.raw, c->argv[3]};
        result = keyop_submit(c, &k, HSM_MAC, part, 3, keyop_reply_bulk);
    }
    keyop_close(&k);
    return result;
}

/* ---- KEY.RANDOM bytes ---- */

enum call_result cmd_key_random(struct call *c)
{
    uint8_t count[4];
    struct bytes part = bytes_of(count, sizeof count);
    int64_t n;

    if (!number_parse(c->argv[1], &n))
        return call_error(c, ERR_NOTINT);
    if (n < 1 || n > RANDOM_MAX)
        return call_errorf(c, ERR_RANGE, "bytes must be from 1 to %d", RANDOM_MAX);
    put_le32(count, (uint32_t)n);
    return keyop_submit(c, NULL, HSM_RANDOM, &part, 1, keyop_reply_bulk);
}
