/* cmd_key_verify.c - KEY.VERIFY, KEY.VERIFYMAC.
 *
 * A signature or MAC does not say which version of the key made it. The newest is tried first, then one after the other
 * down to MINVERSION, until one fits; VERSION names one. Only a proof that none accepts costs as many requests as there
 * are versions, and MINVERSION is there to bound them.
 *
 *     handler --newest--> HSM --no--> the version before --no--> ... --yes, or none left--> the I/O thread answers
 *
 * What is needed for the next request (message and proof, the key's record) is kept until then, the bytes in locked
 * memory. The next request is sent from the hsm thread, without a round through the I/O thread. */
#include "base/mem.h"
#include "server/handlers.h"
#include "server/keyop.h"
#include "server/keysign.h"
#include "server/options.h"
#include "server/server.h"

#define PROOF_MAX 4096 /* the longest signature is 512 bytes */

struct verify {
    struct pending p;
    struct hsm_req req;
    struct server *srv;
    struct vault *vault;
    struct key_view view;   /* keeps the record */
    enum hsm_op op;         /* HSM_VERIFY or HSM_VERIFYMAC */
    uint32_t version, last; /* the one that is being tried, and the last to try */
    uint8_t how[2];
    struct buf copy; /* message and proof */
    struct bytes message, proof;
    char name[KEY_NAME_MAX + 1];
};

static void finish(struct pending *p, struct reply *r)
{
    struct verify *v = mpsc_entry(p, struct verify, p);
    if (v->req.result == ERR_OK && (v->req.parts != 1 || v->req.part[0].n != 1))
        v->req.result = ERR_PROTOCOL;
    if (v->req.result)
        keyop_reply_error(r, &v->req, v->vault, v->name);
    else
        reply_bool(r, v->req.part[0].p[0] == 1);
}

static void release(struct pending *p)
{
    struct verify *v = mpsc_entry(p, struct verify, p);
    hsm_req_fini(&v->req);
    key_view_release(&v->view);
    buf_fini(&v->copy);
    mem_free(v);
}

static enum err submit(struct verify *v);

/* On the hsm thread. */
static void answered(struct hsm_req *req)
{
    struct verify *v = req->arg;
    int no = req->result == ERR_OK && req->parts == 1 && req->part[0].n == 1 && req->part[0].p[0] == 0;
    if (no && v->version > v->last) {
        v->version--;
        hsm_req_fini(req);
        enum err err = submit(v);
        if (err == ERR_OK) {
            hsm_flush(v->srv->hsm);
            return;
        }
        v->req.result = err;
    }
    pending_complete(&v->p);
}

/* Asks for v->version. */
static enum err submit(struct verify *v)
{
    struct key_version kv;
    hsm_req_init(&v->req, v->op, answered, v);
    if (!key_version_find(&v->view.rec, v->version, &kv) || !keyop_own(v->vault, &v->view.rec, &kv))
        return ERR_CORRUPT;
    if (!v->srv->hsm)
        return ERR_HSMDOWN;
    struct bytes by_mac[] = {v->vault->partition, kv.masked.raw, v->message, v->proof};
    struct bytes by_sign[] = {v->vault->partition, kv.masked.raw, bytes_of(v->how, sizeof v->how), v->message,
                              v->proof};
    int mac = v->op == HSM_VERIFYMAC;
    return hsm_submit(v->srv->hsm, &v->req, mac ? by_mac : by_sign, mac ? 4 : 5);
}

/* Keeps message and proof for the requests after the first. */
static enum err keep(struct verify *v, struct bytes message, struct bytes proof)
{
    v->message = message;
    v->proof = proof;
    if (v->version == v->last)
        return ERR_OK;
    enum err err = buf_put(&v->copy, message.p, message.n);
    if (err == ERR_OK)
        err = buf_put(&v->copy, proof.p, proof.n);
    if (err == ERR_OK) {
        v->message = bytes_of(buf_data(&v->copy), message.n);
        v->proof = bytes_of(buf_data(&v->copy) + message.n, proof.n);
    }
    return err;
}

/* Takes the reference of k. version 0: all from the newest to MINVERSION. */
static enum call_result start(struct call *c, struct keyed *k, enum hsm_op op, uint32_t version, const uint8_t how[2])
{
    const struct key_record *rec = &k->view.rec;
    struct key_version kv;
    if (version && keyop_version(c, k, version, &kv)) {
        keyop_close(k);
        return CALL_DONE;
    }
    struct verify *v = mem_zalloc(sizeof *v);
    if (!v) {
        keyop_close(k);
        return call_error(c, ERR_OOM);
    }
    v->srv = c->srv;
    v->vault = k->vault;
    v->view = k->view;
    v->op = op;
    v->version = version ? version : rec->newest;
    v->last = version ? version : rec->min_version;
    memcpy(v->how, how, sizeof v->how);
    memcpy(v->name, k->text, sizeof v->name);
    buf_init_secret(&v->copy, KEYOP_INPUT_MAX + PROOF_MAX);
    enum err err = keep(v, c->argv[3], c->argv[4]);
    call_pending(c, &v->p, finish, release);
    if (err == ERR_OK)
        err = submit(v);
    if (err) {
        v->req.result = err;
        pending_complete(&v->p);
    }
    return CALL_PENDING;
}

/* A proof that is longer than any cannot be right. */
static int impossible(struct call *c)
{
    if (c->argv[4].n <= PROOF_MAX)
        return 0;
    reply_bool(c->reply, 0);
    return 1;
}

/* ---- KEY.VERIFY vault key message signature [DIGEST] [ALG name] [VERSION n] ---- */

enum call_result cmd_key_verify(struct call *c)
{
    struct keysign how;
    struct keyed k;
    if (!keysign_begin(c, 5, &how, &k))
        return CALL_DONE;
    if (!impossible(c))
        return start(c, &k, HSM_VERIFY, how.version, how.code);
    keyop_close(&k);
    return CALL_DONE;
}

/* ---- KEY.VERIFYMAC vault key message mac [VERSION n] ---- */

enum call_result cmd_key_verifymac(struct call *c)
{
    static const struct option options[] = {{"VERSION", OPTION_INT, 0, 1, UINT32_MAX}};
    struct option_value version;
    const uint8_t how[2] = {0, 0};
    struct keyed k;

    if (options_parse(c, 5, options, 1, &version))
        return CALL_DONE;
    if (c->argv[3].n > KEYOP_INPUT_MAX)
        return call_errorf(c, ERR_TOOBIG, "the HSM takes at most %u bytes at a time", (unsigned)KEYOP_INPUT_MAX);
    if (keyop_open(c, &k))
        return CALL_DONE;
    if (keyop_usable(c, &k, ALG_CAN_MAC) == ERR_OK && !impossible(c))
        return start(c, &k, HSM_VERIFYMAC, (uint32_t)version.i, how);
    keyop_close(&k);
    return CALL_DONE;
}
