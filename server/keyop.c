/* keyop.c - see keyop.h.
 *
 * Happy path: the handler has checked everything that can be checked here, hsm_submit copies the parts into a worker's
 * queue, and the end of the loop turn sends what all connections of this thread have submitted in one write a worker.
 * The answer arrives on the hsm thread, which only hands it back; the reply is written here again, straight from the
 * locked buffer it came in.
 *
 * Failure: a request that is refused at once (HSMDOWN, SEALED, no memory) takes the same way as one that fails later,
 * so that answers keep their order without a second path.
 *
 * A masked object that does not verify is not the client's fault: the stored key is damaged or was tampered with. It is
 * CORRUPT for the client and a warning in the log.
 */
#include "server/keyop.h"

#include "base/log.h"
#include "base/mem.h"
#include "hsm/masked.h"
#include "server/access.h"
#include "server/keyid.h"
#include "server/keyuse.h"
#include "server/keywrite.h"
#include "server/server.h"

/* ---- the server's share ---- */

static void on_answered(void *arg)
{
    struct keyops *k = arg;
    waitlist_wake(k->reserved);
}

enum err keyops_new(struct keyops **out, struct server *srv)
{
    struct keyops *k = *out = mem_zalloc(sizeof *k);
    if (!k)
        return ERR_OOM;
    struct keyuse_owner owner = {keywrite_reserve, on_answered, k};
    k->srv = srv;
    enum err err = keyuse_new(&k->use, &owner);
    if (err == ERR_OK)
        err = waitlist_new(&k->reserved);
    if (err) {
        keyops_free(k);
        *out = NULL;
    }
    return err;
}

void keyops_free(struct keyops *k)
{
    if (!k)
        return;
    keyuse_free(k->use);
    waitlist_free(k->reserved);
    mem_free(k);
}

/* ---- finding ---- */

static void reply_missing(struct call *c, const struct keyed *k, enum err err)
{
    if (err == ERR_NOTFOUND && k->text[0])
        call_errorf(c, ERR_NOKEY, "no key '%s' in vault '%s': make it with KEY.CREATE", k->text, k->vault->name);
    else if (err == ERR_CORRUPT)
        call_errorf(c, err, "key '%s' in vault '%s' failed its check and was not used", k->text, k->vault->name);
    else
        call_error(c, err == ERR_NOTFOUND ? ERR_NOKEY : err);
}

enum err keyop_open(struct call *c, struct keyed *k)
{
    memset(k, 0, sizeof *k);
    k->name = c->argv[2];
    if (vault_name_ok(k->name)) /* keys are named like vaults */
        memcpy(k->text, k->name.p, k->name.n);
    enum err err = access_vault(c, c->argv[1], &k->vault);
    if (err) {
        access_fail(c, err, c->argv[1]);
        return err;
    }
    err = access_missed(c, key_read(c->srv->engine, k->vault, k->name, &k->view));
    if (err == ERR_OK &&
        (!(k->alg = alg_by_code(k->view.rec.alg)) || !keyid_is(k->view.rec.id, k->vault->id, k->name))) {
        key_view_release(&k->view);
        err = ERR_CORRUPT;
    }
    if (err)
        reply_missing(c, k, err);
    return err;
}

void keyop_close(struct keyed *k)
{
    key_view_release(&k->view);
}

int keyop_own(const struct vault *vault, const struct key_record *rec, const struct key_version *v)
{
    struct masked m;
    return masked_parse(v->masked.raw, &m) == ERR_OK && m.head.vault == vault->id && m.head.alg == rec->alg &&
           m.head.version == v->version && bytes_equal(m.public_der, v->pub) &&
           bytes_equal(bytes_of(m.head.id, KEY_ID_BYTES), bytes_of(rec->id, sizeof rec->id));
}

/* ---- may it? ---- */

static const struct {
    unsigned can;
    const char *verb, *use;
} abilities[] = {
    {ALG_CAN_ENCRYPT, "encrypt", "KEY.ENCRYPT"},
    {ALG_CAN_SIGN, "sign", "KEY.SIGN"},
    {ALG_CAN_MAC, "make MACs", "KEY.MAC"},
};

static enum err reply_unable(struct call *c, const struct keyed *k, unsigned can)
{
    const char *verb = "", *use = "";
    for (size_t i = 0; i < sizeof abilities / sizeof abilities[0]; i++) {
        if (can & abilities[i].can)
            verb = abilities[i].verb;
        if (k->alg->can & abilities[i].can)
            use = abilities[i].use;
    }
    call_errorf(c, ERR_UNSUPPORTED, "key '%s' is %s, which cannot %s; use %s", k->text, k->alg->name, verb, use);
    return ERR_UNSUPPORTED;
}

enum err keyop_usable(struct call *c, const struct keyed *k, unsigned can)
{
    const struct key_record *rec = &k->view.rec;

    if (keyop_deleting(rec))
        call_errorf(c, ERR_KEYSTATE, "key '%s' is scheduled for deletion: KEY.UNDELETE brings it back", k->text);
    else if (rec->state != KEY_ENABLED)
        call_errorf(c, ERR_KEYSTATE, "key '%s' is disabled: KEY.ENABLE it first", k->text);
    else
        return (k->alg->can & can) == can ? ERR_OK : reply_unable(c, k, can);
    return ERR_KEYSTATE;
}

static enum err must_own(struct call *c, const struct keyed *k, const struct key_version *v)
{
    if (keyop_own(k->vault, &k->view.rec, v))
        return ERR_OK;
    reply_missing(c, k, ERR_CORRUPT);
    return ERR_CORRUPT;
}

enum err keyop_version(struct call *c, const struct keyed *k, uint32_t version, struct key_version *v)
{
    const struct key_record *rec = &k->view.rec;

    if (!key_version_find(rec, version, v)) {
        call_errorf(c, ERR_RANGE, "key '%s' has no version %lu", k->text, (unsigned long)version);
        return ERR_RANGE;
    }
    if (version < rec->min_version) {
        call_errorf(c, ERR_KEYSTATE, "version %lu of key '%s' is below its MINVERSION %lu", (unsigned long)version,
                    k->text, (unsigned long)rec->min_version);
        return ERR_KEYSTATE;
    }
    return must_own(c, k, v);
}

enum err keyop_newest(struct call *c, const struct keyed *k, struct key_version *v)
{
    if (key_version_find(&k->view.rec, k->view.rec.newest, v))
        return must_own(c, k, v);
    reply_missing(c, k, ERR_CORRUPT);
    return ERR_CORRUPT;
}

/* ---- asking the HSM ---- */

struct keyop {
    struct pending p;
    struct hsm_req req;
    keyop_reply_fn reply;
    const struct vault *vault;
    char name[KEY_NAME_MAX + 1];
};

void keyop_reply_error(struct reply *r, const struct hsm_req *req, const struct vault *vault, const char *name)
{
    enum err err = req->result;

    if (err == ERR_BADBLOB)
        err = ERR_CORRUPT;
    else if (err == ERR_NOTFOUND || err == ERR_PROTOCOL || err == ERR_AGAIN || err == ERR_RANGE || err == ERR_OK)
        err = ERR_INTERNAL; /* what is out of range was refused before it got there */
    if (err == ERR_CORRUPT || err == ERR_INTERNAL)
        log_at(LOG_WARNING, "HSM request %s for {%s}/%s failed: %s", hsm_ops[req->op].name, vault ? vault->name : "",
               name ? name : "", req->text);
    if (err == ERR_CORRUPT && vault && name)
        reply_errorf(r, err_prefix(err), "key '%s' in vault '%s' failed its check in the HSM and was not used", name,
                     vault->name);
    else if (err == ERR_TOOBIG)
        reply_errorf(r, err_prefix(err), "too long for this key or this HSM");
    else if (err == ERR_THROTTLED)
        reply_errorf(r, err_prefix(err), "too many requests wait for the HSM: try again");
    else
        reply_error(r, err);
}

static void keyop_finish(struct pending *p, struct reply *r)
{
    struct keyop *op = mpsc_entry(p, struct keyop, p);
    if (op->req.result == ERR_OK && op->req.parts != hsm_ops[op->req.op].parts_out)
        op->req.result = ERR_PROTOCOL;
    if (op->req.result)
        keyop_reply_error(r, &op->req, op->vault, op->name);
    else
        op->reply(&op->req, r);
}

static void keyop_release(struct pending *p)
{
    struct keyop *op = mpsc_entry(p, struct keyop, p);
    hsm_req_fini(&op->req);
    mem_free(op);
}

static void keyop_answered(struct hsm_req *req)
{
    struct keyop *op = req->arg;
    pending_complete(&op->p);
}

enum call_result keyop_submit(struct call *c, const struct keyed *k, enum hsm_op op, const struct bytes *part,
                              unsigned parts, keyop_reply_fn reply)
{
    struct keyop *o = mem_alloc(sizeof *o);
    if (!o)
        return call_error(c, ERR_OOM);
    o->reply = reply;
    o->vault = k ? k->vault : NULL;
    o->name[0] = 0;
    if (k) {
        memcpy(o->name, k->text, sizeof o->name);
    }
    hsm_req_init(&o->req, op, keyop_answered, o);
    call_pending(c, &o->p, keyop_finish, keyop_release);
    enum err err = c->srv->hsm ? hsm_submit(c->srv->hsm, &o->req, part, parts) : ERR_HSMDOWN;
    if (err) {
        o->req.result = err;
        pending_complete(&o->p);
    }
    return CALL_PENDING;
}

enum call_result keyop_submit_counted(struct call *c, const struct keyed *k, enum hsm_op op, const struct bytes *part,
                                      unsigned parts, keyop_reply_fn reply)
{
    const struct key_record *rec = &k->view.rec;
    struct keyuse_key key = {rec->id, rec->newest, k->vault, k->name};
    enum err err = k->alg->kind == ALG_AES ? keyuse_take(c->srv->keyops->use, &key) : ERR_OK;

    if (err == ERR_OK)
        return keyop_submit(c, k, op, part, parts, reply);
    if (err == ERR_AGAIN)
        return call_park(c, c->srv->keyops->reserved);
    if (err == ERR_KEYSTATE)
        return call_errorf(c, err,
                           "version %lu of key '%s' has made 2^32 encryptions, the most that is safe: KEY.ROTATE it",
                           (unsigned long)rec->newest, k->text);
    return call_error(c, err);
}

void keyop_reply_bulk(const struct hsm_req *req, struct reply *r)
{
    reply_bulk(r, req->part[0]);
}
