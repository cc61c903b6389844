/* keywrite.c - see keywrite.h.
 *
 *     I/O thread                          hsm thread        log writer
 *     attempt: read, change
 *        | AGAIN: generate ---KEY_NEW---> made
 *        |   another attempt <--io_post-- |
 *        | OK: engine_submit -----------------------------> written
 *        |   another attempt <--io_post, CONFLICT---------- |
 *     finish, release <------------pending_complete-------- +
 *
 * A key that was generated and then refused (another one of that name came first, the disk is full) leaves nothing
 * behind: it is not a token object, and its masked form was never written.
 *
 * Who has to generate waits for the key's turn (keyturn.h) and has it until the end: two that rotated a key at once
 * would both generate version n, and the second throw its away. Everything else is compare and swap without a limit of
 * tries: a conflict means that another change was written, so of many at once one always gets on; and who lost is back
 * before the client of who won has had its answer and sends another. A version that was generated stays good meanwhile.
 *
 * Rejected: a limit after which the client is told CONFLICT (others were faster is no error of its own, and it could do
 * no more about it than this); turns for all changes (a key must be disabled now, not when an HSM that hangs has made
 * its next version).
 */
#include "server/keywrite.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "server/access.h"
#include "server/change.h"
#include "server/conn.h"
#include "server/keyid.h"
#include "server/server.h"

static void generate(struct keywrite *k);

/* ---- life ---- */

static struct keywrite *make(struct server *srv, struct io *io, struct vault *v, struct bytes name, uint64_t now_ms)
{
    struct keywrite *k = mem_zalloc(sizeof *k);
    if (!k)
        return NULL;
    k->srv = srv;
    k->io = io;
    k->vault = v;
    k->now_ms = now_ms;
    memcpy(k->name, name.p, name.n);
    buf_init(&k->meta, KEYWRITE_META_MAX);
    buf_init(&k->masked, MASKED_MAX);
    buf_init(&k->record, RECORD_MAX_BYTES);
    buf_init(&k->versions, RECORD_MAX_BYTES);
    return k;
}

enum err keywrite_new(struct call *c, struct keywrite **out)
{
    struct vault *v;
    *out = NULL;
    enum err err = access_vault(c, c->argv[1], &v);
    if (err) {
        access_fail(c, err, c->argv[1]);
        return err;
    }
    if (!vault_name_ok(c->argv[2]))
        err = ERR_BADNAME;
    else if (!(*out = make(c->srv, c->io, v, c->argv[2], c->now_ms)))
        err = ERR_OOM;
    if (err)
        call_error(c, err);
    return err;
}

void keywrite_free(struct keywrite *k)
{
    if (!k)
        return;
    key_view_release(&k->old);
    hsm_req_fini(&k->req);
    buf_fini(&k->meta);
    buf_fini(&k->masked);
    buf_fini(&k->record);
    buf_fini(&k->versions);
    mem_free(k);
}

enum err keywrite_fail(struct keywrite *k, enum err err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(k->text, sizeof k->text, fmt, ap);
    va_end(ap);
    return err;
}

int keywrite_is(const struct keywrite *k, const struct key_record *rec)
{
    return bytes_equal(bytes_of(k->id, sizeof k->id), bytes_of(rec->id, sizeof rec->id));
}

/* ---- the end ---- */

static void end_reservation(struct keywrite *k)
{
    int overtaken = k->err == ERR_CONFLICT;
    keyuse_reserved(k->srv->keyops->use, k->entry, overtaken ? ERR_AGAIN : k->err, k->err ? 0 : (uint64_t)k->arg);
    keywrite_free(k);
}

/* Any thread; k may be gone when this returns. */
static void end(struct keywrite *k, enum err err)
{
    k->err = err == ERR_END ? ERR_OK : err;
    keyturn_give(k->srv->keyturns, &k->turn);
    if (k->entry)
        end_reservation(k);
    else
        pending_complete(&k->p);
}

static void finish(struct pending *p, struct reply *r)
{
    struct keywrite *k = mpsc_entry(p, struct keywrite, p);
    if (k->w.lsn)
        conn_saw_lsn(p->conn, k->w.lsn);
    if (k->err == ERR_OK && k->answer)
        k->answer(k, r);
    else if (k->err == ERR_OK)
        reply_ok(r);
    else if (k->text[0])
        reply_errorf(r, err_prefix(k->err), "%s", k->text);
    else if (k->req.result == ERR_UNSUPPORTED)
        reply_errorf(r, err_prefix(k->err), "%s keys are not supported by this HSM, or hsm-only forbids them",
                     k->alg->name);
    else if (k->req.result)
        keyop_reply_error(r, &k->req, k->vault, k->name);
    else if (k->err == k->w.err)
        change_error(r, &k->w);
    else
        reply_error(r, k->err == ERR_NOTFOUND ? ERR_NOKEY : k->err);
}

static void release(struct pending *p)
{
    keywrite_free(mpsc_entry(p, struct keywrite, p));
}

/* ---- one attempt ---- */

/* On the log writer's thread. */
static void written(struct write *w)
{
    struct keywrite *k = w->arg;
    if (w->err == ERR_CONFLICT && !k->entry) {
        io_post(k->io, &k->task);
        return;
    }
    if (w->err == ERR_OK && k->generated && k->alg->kind == ALG_AES)
        keyuse_grant(k->srv->keyops->use, k->id, k->version, KEYUSE_STEP);
    end(k, w->err);
}

static void write_record(struct keywrite *k, uint32_t newest_before)
{
    k->s = (struct step){
        .kind = STEP_KEY_PUT,
        .version = newest_before,
        .path = bytes_str(k->name),
        .record = buf_bytes(&k->record),
        .hmac = k->generated ? k->hmac : NULL,
        .meta = k->old.hold ? blob_bytes(k->old.hold) : bytes_of(NULL, 0),
    };
    k->w = (struct write){.vault = k->vault, .step = &k->s, .steps = 1, .done = written, .arg = k};
    engine_submit(k->srv->engine, &k->w);
}

static enum err prepare(struct keywrite *k, uint32_t *newest_before)
{
    key_view_release(&k->old);
    enum err err = key_read(k->srv->engine, k->vault, bytes_str(k->name), &k->old);
    if (err == ERR_NOTFOUND)
        memset(&k->old.rec, 0, sizeof k->old.rec);
    else if (err == ERR_OK && !keyid_is(k->old.rec.id, k->vault->id, bytes_str(k->name)))
        err = ERR_CORRUPT; /* another key's record: a change would make it this one's */
    if (err && err != ERR_NOTFOUND)
        return err;

    struct key_record rec = k->old.rec;
    *newest_before = rec.newest;
    buf_clear(&k->record);
    buf_clear(&k->versions);
    err = k->change(k, &rec);
    return err ? err : key_record_put(&k->record, &rec);
}

static void attempt(struct keywrite *k)
{
    uint32_t newest_before;
    enum err err = prepare(k, &newest_before);
    if (err == ERR_AGAIN && !keyturn_has(&k->turn)) {
        err = keyturn_take(k->srv->keyturns, &k->turn, k->vault->id, k->name);
        if (err == ERR_AGAIN)
            return;        /* attempt_task follows, and may have been here already */
        if (err == ERR_OK) /* who had it last may have written since */
            err = prepare(k, &newest_before);
    }
    if (err == ERR_AGAIN)
        generate(k);
    else if (err)
        end(k, err);
    else
        write_record(k, newest_before);
}

/* A key may come from the HSM when its I/O thread has ended and the engine is closed: its client is gone by then. */
static void attempt_task(struct io_task *task, struct io *io)
{
    struct keywrite *k = mpsc_entry(task, struct keywrite, task);
    (void)io;
    if (k->srv->engine)
        attempt(k);
    else
        end(k, ERR_HSMDOWN);
}

/* ---- generating ---- */

/* On the hsm thread. */
static void made(struct hsm_req *req)
{
    struct keywrite *k = req->arg;
    struct masked m;

    if (req->result == ERR_OK && (req->parts != 2 || masked_parse(req->part[0], &m) != ERR_OK))
        req->result = ERR_PROTOCOL;
    if (req->result == ERR_OK) {
        buf_clear(&k->masked);
        req->result = buf_put(&k->masked, m.raw.p, m.raw.n);
    }
    if (req->result) {
        end(k, req->result);
        return;
    }
    memcpy(k->hmac, m.mac.p, sizeof k->hmac);
    io_post(k->io, &k->task);
}

static void generate(struct keywrite *k)
{
    struct masked_head head = {
        .alg = k->alg->code, .protection = k->alg->protection, .vault = k->vault->id, .version = k->version};
    uint8_t raw[MASKED_KEY_HEADER];
    struct hsm *hsm = k->srv->hsm;

    memcpy(head.id, k->id, sizeof head.id);
    masked_put_head(raw, &head);
    struct bytes part[2] = {k->vault->partition, bytes_of(raw, sizeof raw)};
    hsm_req_fini(&k->req);
    hsm_req_init(&k->req, k->alg->slow ? HSM_KEY_NEW_SLOW : HSM_KEY_NEW, made, k);
    k->generated = 1;
    enum err err = hsm ? hsm_submit(hsm, &k->req, part, 2) : ERR_HSMDOWN;
    if (err) {
        k->req.result = err;
        end(k, err);
    }
}

enum err keywrite_add_version(struct keywrite *k, struct key_record *rec)
{
    struct masked m;
    enum err err = buf_put(&k->versions, rec->version_bytes.p, rec->version_bytes.n);
    if (err == ERR_OK)
        err = masked_parse(buf_bytes(&k->masked), &m);
    if (err)
        return err;
    struct key_version v = {.version = k->version,
                            .created_ms = k->now_ms,
                            .uses = k->alg->kind == ALG_AES ? KEYUSE_STEP : 0,
                            .masked.raw = m.raw,
                            .pub = m.public_der};
    err = key_version_put(&k->versions, &v);
    rec->newest = k->version;
    rec->versions++;
    rec->version_bytes = buf_bytes(&k->versions);
    return err;
}

/* ---- starting ---- */

enum call_result keywrite_start(struct call *c, struct keywrite *k)
{
    k->task.run = attempt_task;
    k->turn.io = k->io;
    k->turn.task = &k->task;
    call_pending(c, &k->p, finish, release);
    attempt(k);
    return CALL_PENDING;
}

/* ---- reservations of encryptions ---- */

/* Copies the versions, with more uses for one of them. */
static enum err copy_versions(struct keywrite *k, struct bytes in, uint64_t more)
{
    struct key_version v;
    enum err err;
    while ((err = key_version_next(&in, &v)) == ERR_OK) {
        if (v.version == k->version)
            v.uses += more;
        if ((err = key_version_put(&k->versions, &v)) != ERR_OK)
            return err;
    }
    return err == ERR_END ? ERR_OK : err;
}

static enum err change_reserve(struct keywrite *k, struct key_record *rec)
{
    struct key_version v;
    if (!k->old.hold || !keywrite_is(k, rec) || !key_version_find(rec, k->version, &v))
        return ERR_NOKEY;
    uint64_t room = v.uses < KEYUSE_MAX ? KEYUSE_MAX - v.uses : 0;
    if (room == 0)
        return ERR_KEYSTATE;
    k->arg = (int64_t)(room < KEYUSE_STEP ? room : KEYUSE_STEP);
    enum err err = copy_versions(k, rec->version_bytes, (uint64_t)k->arg);
    rec->version_bytes = buf_bytes(&k->versions);
    return err;
}

void keywrite_reserve(void *arg, struct keyuse_entry *e, const struct keyuse_key *key)
{
    struct keyops *ops = arg;
    struct keywrite *k = make(ops->srv, NULL, key->vault, key->name, clock_wall_ms());
    if (!k) {
        keyuse_reserved(ops->use, e, ERR_OOM, 0);
        return;
    }
    memcpy(k->id, key->id, sizeof k->id);
    k->version = key->version;
    k->change = change_reserve;
    k->entry = e;
    attempt(k);
}
