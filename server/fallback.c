/* fallback.c - see fallback.h.
 *
 * A request is copied, since its arguments are gone when the thread has its turn. The thread takes as many as fit into
 * any socket's buffers, says them all, and hears their answers in order: who waits meanwhile is the next batch.
 *
 * A connection that was idle may be gone without a word: what is asked over it, and not answered, is asked once more
 * over a new one. These are reads.
 *
 * An answer must never come to another's question. So a connection over which something went wrong, whatever it was, is
 * closed with the answers that may still be on their way over it; and an answer repeats the number of its request.
 */
#include "server/fallback.h"

#include <pthread.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/hex.h"
#include "base/log.h"
#include "base/mem.h"
#include "resp/answer.h"
#include "server/command.h"
#include "server/conn_private.h"
#include "server/dial.h"
#include "server/repl.h"
#include "server/tracking.h"

#define BATCH_BYTES FALLBACK_REQUEST_BYTES
#define WORD_BYTES 16 /* about what a word takes besides its bytes */
#define SHUN_US 1000000
#define SAY_US 10000000
#define NUMBER_CHARS 21
#define CELL_CHARS 32

struct fallback {
    struct server *srv;
    pthread_t thread;

    pthread_mutex_t lock; /* what follows */
    pthread_cond_t posted;
    int running, stop;
    struct fallback_request *first, **last;
    char trouble[HELLO_WHY_BYTES];

    _Atomic int stopping; /* as stop */
    _Atomic uint64_t requests;
    struct dial_talk *talk; /* the thread's, as what follows */
    struct voter with;
    unsigned timeout_ms;       /* of talk */
    char why[HELLO_WHY_BYTES]; /* the last error of it */
    uint64_t shun_until_us, said_us;
};

/* ---- requests ---- */

/* Appends a word to q's, its bytes to where at points. */
static uint8_t *add_word(struct fallback_request *q, uint8_t *at, const void *p, size_t n)
{
    if (n)
        memcpy(at, p, n);
    q->word[q->words++] = bytes_of(at, n);
    return at + n;
}

static uint8_t *add_number(struct fallback_request *q, uint8_t *at, uint64_t n)
{
    char digits[NUMBER_CHARS];
    return add_word(q, at, digits, (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)n));
}

static uint8_t *add_cell(struct fallback_request *q, uint8_t *at, struct engine *e)
{
    uint8_t id[CELL_CHARS / 2];
    char hex[CELL_CHARS + 1];
    engine_cell_id(e, id);
    hex_put(hex, id, sizeof id);
    return add_word(q, at, hex, CELL_CHARS);
}

struct fallback_request *fallback_request_new(const struct call *c, uint64_t lsn, unsigned argc)
{
    static const char name[] = "REPL.READ";
    const char *user = acl_user_name(conn_user(c->conn));
    size_t words = FALLBACK_WORDS + argc, bytes = sizeof name + CELL_CHARS + strlen(user) + (size_t)4 * NUMBER_CHARS;

    for (unsigned i = 0; i < argc; i++)
        bytes += c->argv[i].n;
    if (bytes + words * WORD_BYTES > FALLBACK_REQUEST_BYTES)
        return NULL;
    struct fallback_request *q = mem_zalloc(sizeof *q + words * sizeof q->word[0] + bytes);
    if (!q)
        return NULL;
    buf_init_secret(&q->answer, FALLBACK_ANSWER_BYTES);
    q->err = ERR_IO;
    q->number = atomic_fetch_add(&c->srv->fallback->requests, 1);
    q->bytes = bytes + words * WORD_BYTES;
    uint8_t *at = (uint8_t *)&q->word[words];
    at = add_word(q, at, name, sizeof name - 1);
    at = add_cell(q, at, c->srv->engine);
    at = add_number(q, at, q->number);
    at = add_number(q, at, lsn);
    at = add_word(q, at, user, strlen(user));
    at = add_number(q, at, conn_db(c->conn));
    at = add_number(q, at, (uint64_t)conn_proto(c->conn));
    for (unsigned i = 0; i < argc; i++)
        at = add_word(q, at, c->argv[i].p, c->argv[i].n);
    return q;
}

void fallback_request_free(struct fallback_request *q)
{
    if (!q)
        return;
    buf_fini(&q->answer);
    mem_free(q);
}

/* ---- what became of them ---- */

/* One line for each new reason, now and then. */
static void note_trouble(struct fallback *f, const char *why)
{
    uint64_t now = clock_mono_us();
    pthread_mutex_lock(&f->lock);
    int is_new = why[0] && strcmp(f->trouble, why) != 0;
    snprintf(f->trouble, sizeof f->trouble, "%s", why);
    pthread_mutex_unlock(&f->lock);
    if (!is_new || (f->said_us && now - f->said_us < SAY_US))
        return;
    f->said_us = now;
    log_at(LOG_WARNING, "replica-read-fallback: %s:%d answers no reads: %.1000s", f->with.host, f->with.port, why);
}

int fallback_trouble(struct fallback *f, char why[HELLO_WHY_BYTES])
{
    pthread_mutex_lock(&f->lock);
    memcpy(why, f->trouble, sizeof f->trouble);
    pthread_mutex_unlock(&f->lock);
    return why[0] != 0;
}

static void fail_all(struct fallback_request *q)
{
    while (q) {
        struct fallback_request *next = q->next;
        q->done(q);
        q = next;
    }
}

static int is_number(const struct answer *a)
{
    return a->type == ANSWER_INTEGER && a->integer >= 0;
}

/* Whether it is q's, and of the kind that was asked for. */
static int is_answer_to(const struct fallback_request *q, const struct answer *a)
{
    if (a->type != ANSWER_ARRAY || a->count != 3 || !is_number(a->item[0]) || !is_number(a->item[1]) ||
        (uint64_t)a->item[0]->integer != q->number)
        return 0;
    return q->words > FALLBACK_WORDS ? a->item[2]->type == ANSWER_BULK && a->item[2]->text.n
                                     : a->item[2]->type == ANSWER_NIL;
}

/* It goes to a client as it is: one value, and nothing that would shift what comes behind it. */
static enum err check_value(struct bytes b)
{
    struct answer_parser p;
    size_t used;
    answer_parser_init(&p, &answer_default_limits, 1);
    enum answer_status s = answer_parse(&p, b, &used);
    int one = s == ANSWER_READY && used == b.n && p.root->type != ANSWER_PUSH;
    answer_parser_fini(&p);
    return s == ANSWER_OOM ? ERR_OOM : one ? ERR_OK : ERR_PROTOCOL;
}

/* Takes a's memory back before the answer is looked into: it may be large. */
static enum err take_value(struct fallback *f, struct fallback_request *q, const struct answer *a)
{
    uint64_t lsn = (uint64_t)a->item[1]->integer;
    enum err e = buf_put(&q->answer, a->item[2]->text.p, a->item[2]->text.n);
    dial_talk_forget(f->talk);
    if (!e && buf_size(&q->answer))
        e = check_value(buf_bytes(&q->answer));
    if (!e)
        q->lsn = lsn;
    q->err = e;
    return e == ERR_PROTOCOL ? e : ERR_OK;
}

static enum err take_answer(struct fallback *f, struct fallback_request *q, const struct answer *a)
{
    char why[HELLO_WHY_BYTES] = "";
    enum err e = ERR_OK;
    if (a->type == ANSWER_ERROR)
        snprintf(why, sizeof why, "it says: %.*s", (int)(a->text.n < 500 ? a->text.n : 500), (const char *)a->text.p);
    else
        e = is_answer_to(q, a) ? take_value(f, q, a) : ERR_PROTOCOL;
    if (e)
        snprintf(f->why, sizeof f->why, "its answer to REPL.READ is not understood");
    else
        note_trouble(f, why);
    return e;
}

/* ---- the thread ---- */

static int is_over(void *arg)
{
    const struct fallback *f = arg;
    return atomic_load(&f->stopping) || atomic_load(&f->srv->stopping);
}

static void fill_self(void *arg, struct dial_self *s)
{
    repl_self(((struct fallback *)arg)->srv->repl, s);
}

static void hang_up(struct fallback *f)
{
    dial_talk_close(f->talk);
    f->talk = NULL;
}

static enum err call_up(struct fallback *f)
{
    struct dial_talk_config cfg = {
        .port = f->with.port, .self = fill_self, .over = is_over, .arg = f, .timeout_ms = f->timeout_ms, .secret = 1};
    memcpy(cfg.host, f->with.host, sizeof cfg.host);
    enum err e = dial_talk_open(&f->talk, &cfg);
    return e || dial_talk_is_private(f->talk) ? e : ERR_NOPERM;
}

/* All of *q, in order; *q is what has no answer yet. */
static enum err exchange(struct fallback *f, struct fallback_request **q)
{
    const struct answer *a;
    enum err e = ERR_OK;
    for (struct fallback_request *i = *q; i && !e; i = i->next)
        e = dial_talk_say(f->talk, i->word, i->words);
    while (!e && *q) {
        struct fallback_request *first = *q;
        if ((e = dial_talk_hear(f->talk, &a)) || (e = take_answer(f, first, a)))
            break;
        *q = first->next;
        first->done(first);
    }
    mem_wipe_registers();
    return e;
}

/* Over the connection that there is, or a new one. After an error there is none, and f->why tells. */
static enum err ask(struct fallback *f, struct fallback_request **q)
{
    enum err e = f->talk ? ERR_OK : call_up(f);
    if (!e)
        e = exchange(f, q);
    if (!e)
        return ERR_OK;
    if (e == ERR_NOPERM)
        snprintf(f->why, sizeof f->why, "secrets are asked for over TLS only (tls-replication), or on one machine");
    else if (e != ERR_PROTOCOL)
        snprintf(f->why, sizeof f->why, "%s", f->talk ? dial_talk_why(f->talk) : err_text(e));
    hang_up(f);
    return e;
}

static void serve(struct fallback *f, struct fallback_request *q)
{
    struct voter who = {0};
    unsigned timeout_ms = (unsigned)config_int(f->srv->config, CFG_QUORUM_TIMEOUT);
    uint64_t end_us = clock_mono_us() + timeout_ms * 1000ull;
    int known = repl_primary(f->srv->repl, &who);
    if (f->talk &&
        (!known || who.port != f->with.port || strcmp(who.host, f->with.host) != 0 || timeout_ms != f->timeout_ms))
        hang_up(f);
    f->with = who;
    f->timeout_ms = timeout_ms;
    int was_idle = f->talk != NULL;
    enum err e = !known || (!f->talk && clock_mono_us() < f->shun_until_us) ? ERR_AGAIN : ask(f, &q);
    if (e == ERR_IO && was_idle && clock_mono_us() < end_us)
        e = ask(f, &q);
    if (e && e != ERR_AGAIN) {
        note_trouble(f, f->why);
        f->shun_until_us = clock_mono_us() + SHUN_US;
    }
    fail_all(q);
}

/* Those that are too late already are not asked: *late. */
static struct fallback_request *take_batch(struct fallback *f, struct fallback_request **late)
{
    struct fallback_request *batch = NULL, **end = &batch;
    size_t bytes = 0;
    *late = NULL;
    pthread_mutex_lock(&f->lock);
    while (!f->first && !f->stop)
        pthread_cond_wait(&f->posted, &f->lock);
    while (f->first && (!batch || bytes + f->first->bytes <= BATCH_BYTES)) {
        struct fallback_request *q = f->first;
        f->first = q->next;
        q->next = NULL;
        if (f->stop || clock_mono_us() > q->end_us) {
            q->next = *late;
            *late = q;
            continue;
        }
        *end = q;
        end = &q->next;
        bytes += q->bytes;
    }
    if (!f->first)
        f->last = &f->first;
    pthread_mutex_unlock(&f->lock);
    return batch;
}

static void *fallback_main(void *arg)
{
    struct fallback *f = arg;
    struct fallback_request *batch, *late;
    pthread_setname_np(pthread_self(), "coffer-fallback");
    do {
        batch = take_batch(f, &late);
        fail_all(late);
        if (batch)
            serve(f, batch);
    } while (batch || late);
    hang_up(f);
    return NULL;
}

/* ---- life ---- */

enum err fallback_new(struct fallback **out, struct server *srv)
{
    struct fallback *f = *out = mem_zalloc(sizeof *f);
    if (!f)
        return ERR_OOM;
    f->srv = srv;
    f->last = &f->first;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->posted, NULL);
    return ERR_OK;
}

void fallback_free(struct fallback *f)
{
    if (!f)
        return;
    atomic_store(&f->stopping, 1);
    pthread_mutex_lock(&f->lock);
    int running = f->running;
    f->stop = 1;
    pthread_cond_signal(&f->posted);
    pthread_mutex_unlock(&f->lock);
    if (running)
        pthread_join(f->thread, NULL);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->posted);
    mem_free(f);
}

void fallback_post(struct fallback *f, struct fallback_request *q)
{
    q->next = NULL;
    q->end_us = clock_mono_us() + (uint64_t)config_int(f->srv->config, CFG_QUORUM_TIMEOUT) * 1000;
    pthread_mutex_lock(&f->lock);
    if (!f->running && !f->stop)
        f->running = pthread_create(&f->thread, NULL, fallback_main, f) == 0;
    int taken = f->running && !f->stop;
    if (taken) {
        *f->last = q;
        f->last = &q->next;
        pthread_cond_signal(&f->posted);
    }
    pthread_mutex_unlock(&f->lock);
    if (!taken)
        q->done(q);
}

/* ---- reads ---- */

struct read {
    struct pending p;
    struct fallback_request *q;
    struct buf own; /* this node's answer */
    int is_noted;   /* tracking.h */
};

static void answered(struct fallback_request *q)
{
    struct read *r = q->arg;
    pending_complete(&r->p);
}

/* The client may keep the answer, and what it read may have changed here since it was noted: then it was told, before
 * the answer. */
static void look_again(const struct read *r)
{
    struct conn *conn = r->p.conn;
    struct call c = {.srv = io_server(r->p.io),
                     .io = r->p.io,
                     .conn = conn,
                     .cmd = r->p.cmd,
                     .argc = r->q->words - FALLBACK_WORDS,
                     .argv = r->q->word + FALLBACK_WORDS};
    if (r->is_noted)
        tracking_look_again(&c);
}

static void finish(struct pending *p, struct reply *out)
{
    struct read *r = mpsc_entry(p, struct read, p);
    struct io_stats *stats = io_stats(p->io);
    if (r->q->err) {
        stat_add(&stats->fallback_failed, 1);
        reply_encoded(out, buf_bytes(&r->own));
    } else {
        stat_add(&stats->fallback_reads, 1);
        if (r->q->lsn > p->conn->shown_lsn)
            p->conn->shown_lsn = r->q->lsn;
        reply_encoded(out, buf_bytes(&r->q->answer));
    }
    look_again(r);
}

static void release(struct pending *p)
{
    struct read *r = mpsc_entry(p, struct read, p);
    fallback_request_free(r->q);
    buf_fini(&r->own);
    mem_free(r);
    mem_wipe_registers();
}

static struct read *read_new(void)
{
    struct read *r = mem_zalloc(sizeof *r);
    if (r)
        buf_init_secret(&r->own, CONN_ANSWER_BYTES);
    return r;
}

/* What this node answers if the primary does not. */
static enum err keep_own(struct call *c, size_t mark, struct buf *own)
{
    struct buf *b = c->reply->b;
    return buf_put(own, buf_data(b) + mark, buf_size(b) - mark);
}

static int is_missing(const struct call *c, uint64_t lsn)
{
    return lsn && lsn > engine_commit_lsn(c->srv->engine);
}

/* Uses of keys too: whether there is that key, or that version of it, is state. */
static int shows_state(const struct command *cmd)
{
    return cmd->flags & (CMD_READ | CMD_HSM) && !(cmd->flags & (CMD_WRITE | CMD_LOADING));
}

int fallback_refuses(struct call *c, const struct command *cmd)
{
    if (shows_state(cmd) && is_missing(c, c->conn->after_lsn)) {
        c->stale = ERR_MASTERDOWN;
        call_errorf(c, c->stale,
                    "this node has LSN %llu, and not %llu yet, which READ.AFTER of this connection asked for",
                    (unsigned long long)engine_commit_lsn(c->srv->engine), (unsigned long long)c->conn->after_lsn);
    } else if (c->stale) {
        call_error(c, c->stale);
    }
    return c->stale != ERR_OK;
}

enum call_result fallback_ask(struct call *c, size_t mark)
{
    const struct conn *conn = c->conn;
    struct read *r = c->reply->failed ? NULL : read_new();
    if (!r)
        return CALL_DONE;
    r->q = fallback_request_new(c, conn->after_lsn > conn->shown_lsn ? conn->after_lsn : conn->shown_lsn, c->argc);
    if (!r->q || keep_own(c, mark, &r->own)) {
        release(&r->p);
        return CALL_DONE;
    }
    reply_rewind(c->reply, mark);
    r->q->done = answered;
    r->q->arg = r;
    r->is_noted = tracking_is_noted(c);
    call_pending(c, &r->p, finish, release);
    fallback_post(c->srv->fallback, r->q);
    return CALL_PENDING;
}

int fallback_is_on(const struct call *c)
{
    return c->srv->fallback && c->srv->repl && !repl_is_master(c->srv) &&
           config_int(c->srv->config, CFG_REPLICA_READ_FALLBACK);
}

int fallback_takes_stale(const struct call *c, enum err e)
{
    return (e == ERR_MASTERDOWN || e == ERR_CORRUPT) && command_is_lookup(c->cmd) && !c->conn->linear &&
           !(c->conn->mode & CONN_MULTI) && fallback_is_on(c);
}

/* A look-up was not carried out without an engine. */
int fallback_is_wanted(const struct call *c)
{
    const struct conn *conn = c->conn;
    return command_is_lookup(c->cmd) && (c->missed || c->stale || is_missing(c, conn->shown_lsn)) && !conn->linear &&
           fallback_is_on(c);
}
