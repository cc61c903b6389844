/* dek.c - see dek.h.
 *
 * A struct fetch stands for one thing that is being brought, and keeps its place in the table as long as the server
 * runs: there are few (a data key version per vault and start, a vault per database). States:
 *
 *     IDLE --first who asks--> RUNNING --ok--> IDLE (the thing is where it belongs: nobody asks for it again)
 *                                 \---error--> FAILED --a second later--> IDLE
 *
 * **No lost wake-up.** A call is put on the wait list under the table's lock while the fetch is RUNNING, and the fetch
 * leaves RUNNING under the same lock before the list is woken.
 */
#include "server/dek.h"

#include <pthread.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "hsm/partition.h"
#include "server/server.h"
#include "server/sweep.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define FAILURE_KEPT_US 1000000
#define CONTEXT_BYTES 40
#define WRAPPED_MAX 256

enum fetch_kind { FETCH_WRITER, FETCH_READER, FETCH_DATABASE };
enum fetch_state { FETCH_IDLE, FETCH_RUNNING, FETCH_FAILED };

struct fetch_key {
    uint64_t vault; /* or database number */
    uint32_t version;
    uint32_t kind;
};

struct fetch {
    struct fetch_key key;
    struct deks *d;
    struct vault *v;
    enum fetch_state state; /* under d->lock, as failed and failed_us */
    enum err failed;
    uint64_t failed_us;
    struct waitlist *waiters;

    struct hsm_req req;
    struct write w;
    struct step s;
    uint32_t version; /* the one being fetched or made */
    uint8_t wrapped[WRAPPED_MAX];
    uint8_t *plain; /* SEAL_KEY_BYTES in locked memory while a new key is on its way into the log */
    UT_hash_handle hh;
};

struct deks {
    struct server *srv;
    pthread_mutex_t lock;
    pthread_cond_t ended; /* a fetch: for those who wait instead of parking */
    struct fetch *fetches;
};

enum err deks_new(struct deks **out, struct server *srv)
{
    struct deks *d = *out = mem_zalloc(sizeof *d);
    if (!d)
        return ERR_OOM;
    d->srv = srv;
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->ended, NULL);
    return ERR_OK;
}

static void fetch_free(struct fetch *f)
{
    mem_secret_free(f->plain, SEAL_KEY_BYTES);
    waitlist_free(f->waiters);
    mem_free(f);
}

void deks_free(struct deks *d)
{
    struct fetch *f, *tmp;
    if (!d)
        return;
    HASH_ITER (hh, d->fetches, f, tmp) {
        HASH_DEL(d->fetches, f);
        fetch_free(f);
    }
    pthread_cond_destroy(&d->ended);
    pthread_mutex_destroy(&d->lock);
    mem_free(d);
}

/* Finds or makes the fetch. Lock held. */
static struct fetch *fetch_of(struct deks *d, enum fetch_kind kind, uint64_t vault, uint32_t version, struct vault *v)
{
    struct fetch_key key = {vault, version, kind};
    struct fetch *f;
    HASH_FIND(hh, d->fetches, &key, sizeof key, f);
    if (f || (f = mem_zalloc(sizeof *f)) == NULL)
        return f;
    f->key = key;
    f->d = d;
    f->v = v;
    f->plain = mem_secret_alloc(SEAL_KEY_BYTES);
    if (!f->plain || waitlist_new(&f->waiters)) {
        fetch_free(f);
        return NULL;
    }
    HASH_ADD(hh, d->fetches, key, sizeof f->key, f);
    if (f->hh.tbl)
        return f;
    fetch_free(f);
    return NULL;
}

/* The fetch is over: everybody who waits tries again. */
static void fetch_end(struct fetch *f, enum err err)
{
    struct deks *d = f->d;
    mem_wipe(f->plain, SEAL_KEY_BYTES);
    pthread_mutex_lock(&d->lock);
    f->state = err ? FETCH_FAILED : FETCH_IDLE;
    f->failed = err;
    f->failed_us = clock_mono_us();
    pthread_cond_broadcast(&d->ended);
    pthread_mutex_unlock(&d->lock);
    waitlist_wake(f->waiters);
}

/* What the operator should know of: the client hears a code only. Once a second for each thing at most
 * (FAILURE_KEPT_US). */
static void log_failure(const struct hsm_req *r, const char *vault)
{
    if (r->result && r->result != ERR_SEALED && r->result != ERR_THROTTLED)
        log_at(LOG_WARNING, "HSM request %s for vault '%s' failed: %s", hsm_ops[r->op].name, vault,
               r->text[0] ? r->text : err_text(r->result));
}

/* ---- what each kind of fetch does ---- */

static void put_context(uint8_t out[CONTEXT_BYTES], struct server *srv, const struct fetch *f)
{
    memcpy(out, "coffer-dek-1", 12);
    hsm_realm(srv->hsm, out + 12);
    put_le64(out + 28, f->v->id);
    put_le32(out + 36, f->version);
}

/* HSM.SEAL sets the flag, then empties the ring: a key that comes in late is either swept out there or refused here. */
static enum err ring_add(struct fetch *f, const uint8_t *key)
{
    struct server *srv = f->d->srv;
    enum err err = keyring_add(srv->keyring, f->v->id, f->version, key);
    if (err == ERR_OK && atomic_load(&srv->sealed)) {
        keyring_drop_vault(srv->keyring, f->v->id);
        err = ERR_SEALED;
    }
    return err;
}

static void writer_committed(struct write *w)
{
    struct fetch *f = w->arg;
    enum err err = w->err;
    if (err == ERR_OK)
        err = ring_add(f, f->plain);
    if (err == ERR_OK)
        err = keyring_set_writer(f->d->srv->keyring, f->v->id, f->version);
    fetch_end(f, err);
}

static void writer_made(struct hsm_req *r)
{
    struct fetch *f = r->arg;
    enum err err = r->result;

    log_failure(r, f->v->name);
    if (err == ERR_OK && (r->parts != 2 || r->part[0].n != SEAL_KEY_BYTES || r->part[1].n > sizeof f->wrapped))
        err = ERR_INTERNAL;
    if (err) {
        hsm_req_fini(r);
        fetch_end(f, err);
        return;
    }
    memcpy(f->plain, r->part[0].p, SEAL_KEY_BYTES);
    memcpy(f->wrapped, r->part[1].p, r->part[1].n);
    f->s = (struct step){.kind = STEP_DEK_ADD, .version = f->version, .record = bytes_of(f->wrapped, r->part[1].n)};
    f->w = (struct write){.vault = f->v, .step = &f->s, .steps = 1, .done = writer_committed, .arg = f};
    hsm_req_fini(r);
    engine_submit(f->d->srv->engine, &f->w);
}

static enum err writer_start(struct fetch *f)
{
    uint8_t context[CONTEXT_BYTES];
    f->version = atomic_load(&f->v->dek_newest) + 1;
    put_context(context, f->d->srv, f);
    hsm_req_init(&f->req, HSM_DEK_NEW, writer_made, f);
    struct bytes part[2] = {f->v->partition, bytes_of(context, sizeof context)};
    return hsm_submit(f->d->srv->hsm, &f->req, part, 2);
}

static void reader_opened(struct hsm_req *r)
{
    struct fetch *f = r->arg;
    enum err err = r->result;
    log_failure(r, f->v->name);
    if (err == ERR_OK && (r->parts != 1 || r->part[0].n != SEAL_KEY_BYTES))
        err = ERR_INTERNAL;
    if (err == ERR_OK)
        err = ring_add(f, r->part[0].p);
    hsm_req_fini(r);
    fetch_end(f, err == ERR_BADBLOB ? ERR_CORRUPT : err);
}

static enum err reader_start(struct fetch *f)
{
    uint8_t context[CONTEXT_BYTES];
    struct blob *wrapped;
    f->version = f->key.version;
    enum err err = engine_dek(f->d->srv->engine, f->v, f->version, &wrapped);
    if (err)
        return err == ERR_NOTFOUND ? ERR_CORRUPT : err;
    put_context(context, f->d->srv, f);
    hsm_req_init(&f->req, HSM_DEK_OPEN, reader_opened, f);
    struct bytes part[3] = {f->v->partition, bytes_of(context, sizeof context), blob_bytes(wrapped)};
    err = hsm_submit(f->d->srv->hsm, &f->req, part, 3);
    blob_unref(wrapped);
    return err;
}

struct database_job {
    struct vault_job job;
    struct fetch *f;
};

static void database_made(struct vault_job *job)
{
    struct fetch *f = ((struct database_job *)(void *)job)->f;
    enum err err = job->err == ERR_VAULTEXISTS ? ERR_OK : job->err;
    mem_free(job);
    fetch_end(f, err);
}

static enum err database_start(struct fetch *f)
{
    struct database_job *j = mem_zalloc(sizeof *j);
    if (!j)
        return ERR_OOM;
    j->f = f;
    j->job.srv = f->d->srv;
    j->job.done = database_made;
    snprintf(j->job.name, sizeof j->job.name, "db%llu", (unsigned long long)f->key.vault);
    j->job.settings = f->d->srv->vault_defaults;
    vault_job_start(&j->job);
    return ERR_OK;
}

static enum err (*const fetch_start[])(struct fetch *f) = {
    [FETCH_WRITER] = writer_start,
    [FETCH_READER] = reader_start,
    [FETCH_DATABASE] = database_start,
};

static void fetch_run(struct fetch *f)
{
    enum err err = fetch_start[f->key.kind](f);
    if (err)
        fetch_end(f, err);
    else
        hsm_flush(f->d->srv->hsm);
}

static int failed_lately(const struct fetch *f)
{
    return f->state == FETCH_FAILED && clock_mono_us() - f->failed_us < FAILURE_KEPT_US;
}

/* 1: it is this caller's to run. Lock held. */
static int fetch_take(struct fetch *f)
{
    int idle = f->state != FETCH_RUNNING;
    f->state = FETCH_RUNNING;
    return idle;
}

/* Parks c until the thing is there, starting to bring it if nobody does. */
static enum err fetch(struct deks *d, struct call *c, enum fetch_kind kind, uint64_t vault, uint32_t version,
                      struct vault *v)
{
    size_t mark = reply_mark(c->reply);
    enum err err = ERR_AGAIN;
    int start = 0;

    pthread_mutex_lock(&d->lock);
    struct fetch *f = fetch_of(d, kind, vault, version, v);
    if (!f) {
        err = ERR_OOM;
    } else if (failed_lately(f)) {
        err = f->failed;
    } else if (call_park(c, f->waiters) != CALL_PARK) {
        reply_rewind(c->reply, mark); /* it has answered; that is the handler's to do */
        err = ERR_OOM;
    } else {
        start = fetch_take(f);
    }
    pthread_mutex_unlock(&d->lock);
    if (start)
        fetch_run(f);
    return err;
}

/* The same, but waits until the thing is there. */
static enum err fetch_wait(struct deks *d, enum fetch_kind kind, uint32_t version, struct vault *v)
{
    pthread_mutex_lock(&d->lock);
    struct fetch *f = fetch_of(d, kind, v->id, version, v);
    enum err err = !f ? ERR_OOM : failed_lately(f) ? f->failed : ERR_OK;
    if (!err && fetch_take(f)) {
        pthread_mutex_unlock(&d->lock);
        fetch_run(f);
        pthread_mutex_lock(&d->lock);
    }
    while (!err && f->state == FETCH_RUNNING)
        pthread_cond_wait(&d->ended, &d->lock);
    if (!err && f->state == FETCH_FAILED)
        err = f->failed;
    pthread_mutex_unlock(&d->lock);
    return err;
}

/* ---- what handlers ask ---- */

enum err deks_writer(struct deks *d, struct call *c, struct vault *v, struct dek **out)
{
    *out = keyring_writer(d->srv->keyring, v->id);
    return *out ? ERR_OK : fetch(d, c, FETCH_WRITER, v->id, 0, v);
}

enum err deks_reader(struct deks *d, struct call *c, struct vault *v, uint32_t version)
{
    return fetch(d, c, FETCH_READER, v->id, version, v);
}

enum err deks_wait_writer(struct deks *d, struct vault *v, struct dek **out)
{
    enum err err = ERR_OK;
    while (!(*out = keyring_writer(d->srv->keyring, v->id)) && !err)
        err = fetch_wait(d, FETCH_WRITER, 0, v);
    return *out ? ERR_OK : err;
}

enum err deks_wait_reader(struct deks *d, struct vault *v, uint32_t version)
{
    return fetch_wait(d, FETCH_READER, version, v);
}

enum err deks_database(struct deks *d, struct call *c, unsigned db, int create, struct vault **out)
{
    char name[16];
    int n = snprintf(name, sizeof name, "db%u", db);
    *out = vaults_find(engine_vaults(d->srv->engine), bytes_of(name, (size_t)n));
    if (*out)
        return ERR_OK;
    return create ? fetch(d, c, FETCH_DATABASE, db, 0, NULL) : ERR_NOVAULT;
}

/* ---- making a vault ---- */

/* What was made in the HSM for a vault that the log refused must not stay there. Best effort: a start sweeps what is
 * left (sweep.h). */
static void partition_gone(struct hsm_req *r)
{
    struct vault_job *job = r->arg;
    hsm_req_fini(r);
    job->done(job);
}

static void vault_committed(struct write *w)
{
    struct vault_job *job = w->arg;
    job->err = w->err;
    job->lsn = w->lsn;
    if (w->err && w->err != ERR_UNCERTAIN && !atomic_load(&job->srv->stopping)) {
        hsm_req_init(&job->req, HSM_PARTITION_DESTROY, partition_gone, job);
        if (hsm_submit(job->srv->hsm, &job->req, &job->s.record, 1) == ERR_OK) {
            hsm_flush(job->srv->hsm);
            return;
        }
    }
    job->done(job);
}

static void partition_made(struct hsm_req *r)
{
    struct vault_job *job = r->arg;
    job->err = r->result;
    log_failure(r, job->name);
    if (job->err == ERR_OK && (r->parts != 1 || r->part[0].n > sizeof job->partition))
        job->err = ERR_INTERNAL;
    if (job->err) {
        hsm_req_fini(r);
        job->done(job);
        return;
    }
    memcpy(job->partition, r->part[0].p, r->part[0].n);
    job->s = (struct step){.kind = STEP_VAULT_CREATE,
                           .path = bytes_str(job->name),
                           .record = bytes_of(job->partition, r->part[0].n),
                           .settings = &job->settings,
                           .store = job->store,
                           .state = -1};
    job->w = (struct write){.step = &job->s, .steps = 1, .done = vault_committed, .arg = job};
    hsm_req_fini(r);
    engine_submit(job->srv->engine, &job->w);
}

void vault_job_start(struct vault_job *job)
{
    uint8_t id[PARTITION_ID_BYTES];
    struct hsm *h = job->srv->hsm;
    job->lsn = 0;
    enum err err = vaults_find(engine_vaults(job->srv->engine), bytes_str(job->name)) ? ERR_VAULTEXISTS
                                                                                      : clock_random(id, sizeof id);
    sweep_mark(job->srv, id);
    if (err == ERR_OK) {
        struct bytes part = bytes_of(id, sizeof id);
        hsm_req_init(&job->req, HSM_PARTITION_NEW, partition_made, job);
        err = hsm_submit(h, &job->req, &part, 1); /* from then on the job is the answer's */
    }
    if (err == ERR_OK) {
        hsm_flush(h);
        return;
    }
    job->err = err;
    job->done(job);
}
