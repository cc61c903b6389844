/* cmd_wal_verify.c - WBL.VERIFY [FROM lsn] [TO lsn]: is the log what it was when it was written?
 *
 *     chores thread:  cursor -> record: CRC, chain, LSN -> with key material: KEY_CHECK in the HSM, 64 at a time
 *
 * The cursor verifies CRC and chain as it reads. A record that puts a key's new version carries the tag that the HSM
 * made of the masked object when it made the key; the object with that tag is found in the record and handed to the
 * HSM, which makes the tag again. So a log that somebody rewrote, chain and all, still shows.
 *
 * It ends at the first record that does not verify: behind it nothing is known. What the HSM could not check (it is
 * down or sealed, the vault is gone) is counted as skipped, not as good. Without FROM it verifies what the log has:
 * when records are trimmed away below it, it begins anew at the oldest that is left.
 *
 * One runs at a time; WBL.INFO shows where it is. */
#include <pthread.h>
#include <stdatomic.h>

#include "base/mem.h"
#include "engine/ops.h"
#include "server/chores.h"
#include "server/handlers.h"
#include "server/options.h"
#include "server/server.h"
#include "server/walcall.h"

#define BATCH 64
#define STOP_EVERY 1024 /* records between two looks at chores_stopping */

static _Atomic uint64_t verifying_lsn; /* 0: none runs */

uint64_t walcall_verifying(void)
{
    return atomic_load_explicit(&verifying_lsn, memory_order_relaxed);
}

struct check {
    struct hsm_req req;
    struct verify *v;
    uint64_t lsn;
};

struct verify {
    struct pending p;
    struct chore chore;
    struct server *srv;
    uint64_t from, to;
    int oldest, newest; /* from, to: wherever the log begins, ends */

    uint64_t records, bytes, hmacs, skipped;
    uint64_t bad_chain_lsn, bad_hmac_lsn; /* 0: none */
    enum err err;

    struct check check[BATCH];
    unsigned checks; /* submitted */
    pthread_mutex_t lock;
    pthread_cond_t answered;
    unsigned outstanding; /* under lock */
};

/* ---- HMACs ---- */

static void check_answered(struct hsm_req *req)
{
    struct verify *v = ((struct check *)req->arg)->v;
    pthread_mutex_lock(&v->lock);
    if (--v->outstanding == 0)
        pthread_cond_signal(&v->answered);
    pthread_mutex_unlock(&v->lock);
}

static void bad_hmac(struct verify *v, uint64_t lsn)
{
    if (!v->bad_hmac_lsn || lsn < v->bad_hmac_lsn)
        v->bad_hmac_lsn = lsn;
}

/* Waits for all that were submitted, and counts. */
static void settle_checks(struct verify *v)
{
    if (v->checks)
        hsm_flush(v->srv->hsm);
    pthread_mutex_lock(&v->lock);
    while (v->outstanding)
        pthread_cond_wait(&v->answered, &v->lock);
    pthread_mutex_unlock(&v->lock);
    for (unsigned i = 0; i < v->checks; i++) {
        enum err err = v->check[i].req.result;
        v->hmacs += err == ERR_OK;
        if (err == ERR_BADBLOB)
            bad_hmac(v, v->check[i].lsn);
        else
            v->skipped += err != ERR_OK;
        hsm_req_fini(&v->check[i].req);
    }
    v->checks = 0;
}

static void submit_check(struct verify *v, uint64_t lsn, const struct vault *vault, struct bytes masked)
{
    struct check *k = &v->check[v->checks];
    struct bytes part[2] = {vault->partition, masked};
    k->v = v;
    k->lsn = lsn;
    hsm_req_init(&k->req, HSM_KEY_CHECK, check_answered, k);
    pthread_mutex_lock(&v->lock);
    v->outstanding++;
    pthread_mutex_unlock(&v->lock);
    if (!v->srv->hsm || hsm_submit(v->srv->hsm, &k->req, part, 2)) {
        pthread_mutex_lock(&v->lock);
        v->outstanding--;
        pthread_mutex_unlock(&v->lock);
        v->skipped++;
    } else if (++v->checks == BATCH) {
        settle_checks(v);
    }
}

/* 1 when the masked object ends in this tag. */
static int has_tag(struct bytes masked, const uint8_t tag[RECORD_HMAC_BYTES])
{
    return masked.n > RECORD_HMAC_BYTES &&
           bytes_equal(bytes_of(masked.p + masked.n - RECORD_HMAC_BYTES, RECORD_HMAC_BYTES),
                       bytes_of(tag, RECORD_HMAC_BYTES));
}

/* The masked object in the record whose tag is the record's HMAC. 1: found. */
static int find_masked(const struct record *rec, struct bytes *out)
{
    struct bytes in = rec->blob;
    struct key_record k;
    struct key_version kv;
    struct op op;

    while (ops_next(&in, &op) == ERR_OK) {
        if (op.kind != OPS_PUT || op.key.p[0] != 'k' || key_record_get(op.value, &k))
            continue;
        while (key_version_next(&k.version_bytes, &kv) == ERR_OK) {
            *out = kv.masked.raw;
            if (has_tag(*out, rec->hmac))
                return 1;
        }
    }
    return 0;
}

static void check_hmac(struct verify *v, const struct record *rec)
{
    struct vault *vault = vaults_find_id(engine_vaults(v->srv->engine), rec->vault);
    struct bytes masked;
    if (!(rec->flags & RECORD_HAS_HMAC))
        return;
    if (!find_masked(rec, &masked))
        bad_hmac(v, rec->lsn);
    else if (vault)
        submit_check(v, rec->lsn, vault, masked);
    else
        v->skipped++;
}

/* ---- the walk ---- */

static enum err walk(struct verify *v, struct wal_cursor *cur)
{
    struct record rec;
    struct bytes raw;

    for (uint64_t lsn = v->from; lsn <= v->to; lsn++) {
        if (lsn % STOP_EVERY == 0 && chores_stopping(v->srv->chores))
            return ERR_LOADING;
        enum err err = wal_cursor_next(cur, &rec, &raw);
        if (err == ERR_CORRUPT || (err == ERR_OK && rec.lsn != lsn)) {
            v->bad_chain_lsn = lsn;
            return ERR_OK;
        }
        if (err)
            return err;
        v->records++;
        v->bytes += raw.n;
        check_hmac(v, &rec);
        atomic_store_explicit(&verifying_lsn, lsn, memory_order_relaxed);
    }
    return ERR_OK;
}

static enum err walk_once(struct verify *v)
{
    struct wal_cursor *cur = NULL;
    enum err err = wal_cursor_open(&cur, engine_wal(v->srv->engine), v->from);

    v->records = v->bytes = v->hmacs = v->skipped = v->bad_hmac_lsn = 0;
    if (err == ERR_OK)
        err = walk(v, cur);
    settle_checks(v);
    wal_cursor_close(cur);
    return err;
}

/* The log is trimmed beside the walk. Who asked for a record that went is told so; who asked for the log as it is gets
 * it from where it begins now. 1: it is to be walked from there. */
static int follow_the_trimming(struct verify *v)
{
    struct wal_info info;

    wal_info(engine_wal(v->srv->engine), &info);
    if (v->err != ERR_NOTFOUND || !v->oldest || info.first_lsn <= v->from)
        return 0;
    v->from = info.first_lsn;
    if (v->newest)
        v->to = info.last_lsn;
    return v->from <= v->to;
}

static void verify_run(struct chore *chore)
{
    struct verify *v = mpsc_entry(chore, struct verify, chore);

    do
        v->err = walk_once(v);
    while (follow_the_trimming(v));
    atomic_store(&verifying_lsn, 0);
    pending_complete(&v->p);
}

/* ---- the command ---- */

static void verify_finish(struct pending *p, struct reply *r)
{
    struct verify *v = mpsc_entry(p, struct verify, p);
    uint64_t bad = v->bad_chain_lsn && (!v->bad_hmac_lsn || v->bad_chain_lsn < v->bad_hmac_lsn) ? v->bad_chain_lsn
                                                                                                : v->bad_hmac_lsn;

    if (v->err == ERR_NOTFOUND || v->err == ERR_END) {
        reply_errorf(r, "ERR", "these records were removed meanwhile");
        return;
    }
    if (v->err) {
        reply_error(r, v->err);
        return;
    }
    reply_map(r, 9);
    walcall_reply_int(r, "from", v->from);
    walcall_reply_int(r, "to", v->to);
    walcall_reply_int(r, "records", v->records);
    walcall_reply_int(r, "bytes", v->bytes);
    reply_bulk_str(r, "chain-ok");
    reply_bool(r, !v->bad_chain_lsn);
    walcall_reply_int(r, "hmacs", v->hmacs);
    reply_bulk_str(r, "hmacs-ok");
    reply_bool(r, !v->bad_hmac_lsn);
    walcall_reply_int(r, "hmacs-skipped", v->skipped);
    reply_bulk_str(r, "first-bad-lsn");
    if (bad)
        reply_int(r, (int64_t)bad);
    else
        reply_nil(r);
}

static void verify_release(struct pending *p)
{
    struct verify *v = mpsc_entry(p, struct verify, p);
    pthread_mutex_destroy(&v->lock);
    pthread_cond_destroy(&v->answered);
    mem_free(v);
}

static struct verify *verify_new(struct call *c)
{
    struct verify *v = mem_zalloc(sizeof *v);
    if (!v)
        return NULL;
    v->srv = c->srv;
    v->chore.run = verify_run;
    pthread_mutex_init(&v->lock, NULL);
    pthread_cond_init(&v->answered, NULL);
    return v;
}

enum call_result cmd_wal_verify(struct call *c)
{
    enum { FROM, TO, OPTS };
    static const struct option options[OPTS] = {
        [FROM] = {"FROM", OPTION_INT, 0, 1, INT64_MAX}, [TO] = {"TO", OPTION_INT, 0, 1, INT64_MAX}};
    struct option_value opt[OPTS];
    struct wal_info info;
    uint64_t none = 0;

    if (options_parse(c, 1, options, OPTS, opt) || !walcall_ready(c))
        return CALL_DONE;
    wal_info(engine_wal(c->srv->engine), &info);
    uint64_t from = opt[FROM].given ? (uint64_t)opt[FROM].i : info.first_lsn,
             to = opt[TO].given ? (uint64_t)opt[TO].i : info.last_lsn;
    if (walcall_check_range(c, &info, from, to))
        return CALL_DONE;
    if (!atomic_compare_exchange_strong(&verifying_lsn, &none, from))
        return call_errorf(c, ERR_CONFLICT, "a WBL.VERIFY is under way, at LSN %llu", (unsigned long long)none);
    struct verify *v = verify_new(c);
    if (!v) {
        atomic_store(&verifying_lsn, 0);
        return call_error(c, ERR_OOM);
    }
    v->from = from;
    v->to = to;
    v->oldest = !opt[FROM].given;
    v->newest = !opt[TO].given;
    call_pending(c, &v->p, verify_finish, verify_release);
    chores_post(c->srv->chores, &v->chore);
    return CALL_PENDING;
}
