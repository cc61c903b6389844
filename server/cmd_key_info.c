/* cmd_key_info.c - KEY.*: what tells of keys: INFO, LIST, PUBLIC. None of it needs the HSM. */
#include <openssl/evp.h>

#include "hsm/masked.h"
#include "server/access.h"
#include "server/handlers.h"
#include "server/keyop.h"
#include "server/keyuse.h"
#include "server/options.h"
#include "server/server.h"

/* ---- KEY.INFO vault key ---- */

static void put_str(struct reply *r, const char *name, const char *value)
{
    reply_bulk_str(r, name);
    reply_bulk_str(r, value);
}

static void put_int(struct reply *r, const char *name, uint64_t value)
{
    reply_bulk_str(r, name);
    reply_int(r, (int64_t)value);
}

/* A time, nil when there is none. */
static void put_time(struct reply *r, const char *name, uint64_t ms)
{
    reply_bulk_str(r, name);
    if (ms)
        reply_int(r, (int64_t)ms);
    else
        reply_nil(r);
}

static void put_id(struct reply *r, const uint8_t id[KEY_ID_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    uint8_t hex[2 * KEY_ID_BYTES];
    for (size_t i = 0; i < KEY_ID_BYTES; i++) {
        hex[2 * i] = (uint8_t)digits[id[i] >> 4];
        hex[2 * i + 1] = (uint8_t)digits[id[i] & 15];
    }
    reply_bulk_str(r, "id");
    reply_bulk(r, bytes_of(hex, sizeof hex));
}

static void put_operations(struct reply *r, const struct alg *alg)
{
    static const char *const names[] = {"encrypt", "sign", "mac"};
    unsigned n = 0;
    for (unsigned i = 0; i < 3; i++)
        n += alg->can >> i & 1;
    reply_bulk_str(r, "operations");
    reply_array(r, n);
    for (unsigned i = 0; i < 3; i++)
        if (alg->can >> i & 1)
            reply_bulk_str(r, names[i]);
}

static const char *state_name(const struct key_record *rec)
{
    return keyop_deleting(rec) ? "deleting" : rec->state == KEY_ENABLED ? "enabled" : "disabled";
}

/* encryptions: those that may have been made, less those this process has reserved and not used. */
static void put_versions(struct call *c, struct reply *r, const struct keyed *k)
{
    const struct key_record *rec = &k->view.rec;
    struct bytes in = rec->version_bytes;
    struct key_version v;

    reply_bulk_str(r, "versions");
    reply_array(r, rec->versions);
    while (key_version_next(&in, &v) == ERR_OK) {
        int counted = k->alg->kind == ALG_AES;
        uint64_t left = counted ? keyuse_left(c->srv->keyops->use, rec->id, v.version) : 0;
        reply_map(r, counted ? 4 : 2);
        put_int(r, "version", v.version);
        put_int(r, "created-at", v.created_ms);
        if (!counted)
            continue;
        put_int(r, "encryptions", v.uses > left ? v.uses - left : 0);
        put_int(r, "encryptions-reserved", v.uses);
    }
}

enum call_result cmd_key_info(struct call *c)
{
    struct reply *r = c->reply;
    struct keyed k;
    if (keyop_open(c, &k))
        return CALL_DONE;
    const struct key_record *rec = &k.view.rec;

    reply_map(r, 12);
    reply_bulk_str(r, "key");
    reply_bulk(r, k.name);
    put_id(r, rec->id);
    put_str(r, "type", k.alg->name);
    put_operations(r, k.alg);
    put_str(r, "protection", k.alg->protection == PROTECTION_SOFTWARE ? "software" : "hsm");
    put_str(r, "state", state_name(rec));
    put_int(r, "version", rec->newest);
    put_int(r, "min-version", rec->min_version);
    put_time(r, "created-at", rec->created_ms);
    put_time(r, "delete-at", rec->delete_ms);
    reply_bulk_str(r, "meta");
    if (rec->meta.n)
        reply_bulk(r, rec->meta);
    else
        reply_nil(r);
    put_versions(c, r, &k);
    keyop_close(&k);
    return CALL_DONE;
}

/* ---- KEY.LIST vault [CURSOR c] [COUNT n] ---- */

#define COUNT_DEFAULT 100
#define COUNT_MAX 10000

struct page {
    struct reply *r;
    size_t names;
};

static void visit(void *arg, struct bytes name)
{
    struct page *p = arg;
    reply_bulk(p->r, name);
    p->names++;
}

/* The cursor stands before the names, but is known after them: they are written first, and then put behind it. */
static enum err list_page(struct call *c, struct vault *v, struct bytes after, unsigned max)
{
    struct buf names, last;
    struct reply r;
    struct page page = {&r, 0};
    int more;

    buf_init(&names, c->reply->b->limit);
    buf_init(&last, KEY_NAME_MAX);
    reply_init(&r, &names, c->reply->proto);
    enum err err = key_list(c->srv->engine, v, after, max, visit, &page, &last, &more);
    if (err == ERR_OK)
        err = r.failed;
    if (err == ERR_OK) {
        reply_array(c->reply, 2);
        access_reply_cursor(c->reply, buf_bytes(&last), more);
        reply_array(c->reply, page.names);
        reply_encoded(c->reply, buf_bytes(&names));
    }
    buf_fini(&names);
    buf_fini(&last);
    return err;
}

enum call_result cmd_key_list(struct call *c)
{
    enum { CURSOR, COUNT, OPTS };
    static const struct option options[OPTS] = {
        [CURSOR] = {"CURSOR", OPTION_BYTES, 0, 0, 0}, [COUNT] = {"COUNT", OPTION_INT, 0, 1, COUNT_MAX}};
    struct option_value opt[OPTS];
    struct vault *v;
    struct buf after;
    uint64_t lsn;

    if (options_parse(c, 2, options, OPTS, opt))
        return CALL_DONE;
    enum err err = access_vault(c, c->argv[1], &v);
    if (err)
        return access_fail(c, err, c->argv[1]);
    buf_init(&after, KEY_NAME_MAX);
    if (opt[CURSOR].given)
        err = access_cursor_path(opt[CURSOR].b, &after);
    if (err) {
        buf_fini(&after);
        return call_errorf(c, ERR_RANGE, "invalid cursor");
    }
    err = engine_list_ready(c->srv->engine, v, &lsn);
    if (err == ERR_OK)
        err = list_page(c, v, buf_bytes(&after), opt[COUNT].given ? (unsigned)opt[COUNT].i : COUNT_DEFAULT);
    buf_fini(&after);
    if (err == ERR_AGAIN)
        return access_park_applied(c, v);
    return err ? access_fail(c, err, c->argv[1]) : CALL_DONE;
}

/* ---- KEY.PUBLIC vault key [VERSION n] [FORMAT pem|der] ---- */

#define PEM_LINE_BYTES 48 /* of DER in a line of 64 characters */
static const char pem_begin[] = "-----BEGIN PUBLIC KEY-----\n", pem_end[] = "-----END PUBLIC KEY-----\n";

/* RFC 7468. */
static void reply_pem(struct reply *r, struct bytes der)
{
    char pem[sizeof pem_begin + sizeof pem_end + MASKED_PUBLIC_MAX / PEM_LINE_BYTES * 65 + 66];
    size_t at = sizeof pem_begin - 1;
    if (der.n > MASKED_PUBLIC_MAX) {
        reply_error(r, ERR_CORRUPT);
        return;
    }
    memcpy(pem, pem_begin, at);
    for (size_t i = 0; i < der.n; i += PEM_LINE_BYTES) {
        size_t n = der.n - i < PEM_LINE_BYTES ? der.n - i : PEM_LINE_BYTES;
        at += (size_t)EVP_EncodeBlock((unsigned char *)pem + at, der.p + i, (int)n);
        pem[at++] = '\n';
    }
    memcpy(pem + at, pem_end, sizeof pem_end - 1);
    reply_bulk(r, bytes_of(pem, at + sizeof pem_end - 1));
}

enum call_result cmd_key_public(struct call *c)
{
    enum { VERSION, FORMAT, OPTS };
    static const struct option options[OPTS] = {
        [VERSION] = {"VERSION", OPTION_INT, 0, 1, UINT32_MAX}, [FORMAT] = {"FORMAT", OPTION_BYTES, 0, 0, 0}};
    static const char *const formats[] = {"PEM", "DER", NULL};
    struct option_value opt[OPTS];
    struct key_version v;
    struct keyed k;

    if (options_parse(c, 3, options, OPTS, opt))
        return CALL_DONE;
    int format = opt[FORMAT].given ? options_word(opt[FORMAT].b, formats) : 0;
    if (format < 0)
        return call_errorf(c, ERR_SYNTAX, "unknown format: use pem or der");
    if (keyop_open(c, &k))
        return CALL_DONE;
    uint32_t version = opt[VERSION].given ? (uint32_t)opt[VERSION].i : k.view.rec.newest;
    if (!k.alg->asymmetric)
        call_errorf(c, ERR_UNSUPPORTED, "key '%s' is %s, which has no public key", k.text, k.alg->name);
    else if (access_missed(c, key_version_find(&k.view.rec, version, &v) ? ERR_OK : ERR_NOTFOUND))
        call_errorf(c, ERR_RANGE, "key '%s' has no version %lu", k.text, (unsigned long)version);
    else if (!keyop_own(k.vault, &k.view.rec, &v))
        call_errorf(c, ERR_CORRUPT, "key '%s' in vault '%s' failed its check and was not used", k.text, k.vault->name);
    else if (format == 0)
        reply_pem(c->reply, v.pub);
    else
        reply_bulk(c->reply, v.pub);
    keyop_close(&k);
    return CALL_DONE;
}
