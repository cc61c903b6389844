/* cmd_keyspace.c - commands of the façade on keys as such: DEL, RENAME, COPY, MOVE, KEYS, RANDOMKEY, OBJECT, MEMORY.
 *
 * A value cannot be moved as it is: its ciphertext is bound to its vault, path and version. RENAME, COPY and MOVE are
 * therefore edits whose old value is another key's: read, maybe destroy, set, in one record, so there is no moment in
 * which both or none of the keys are there.
 */
#include "base/clock.h"
#include "base/glob.h"
#include "base/mem.h"
#include "resp/number.h"
#include "server/access.h"
#include "server/change.h"
#include "server/chores.h"
#include "server/command.h"
#include "server/conn.h"
#include "server/dek.h"
#include "server/facade.h"
#include "server/handlers.h"
#include "server/keyevent.h"
#include "server/options.h"
#include "server/server.h"

static const struct bytes none = {NULL, 0};

/* ---- DEL: one record, also for keys of several vaults ---- */

static void answer_destroyed(struct change *ch, struct reply *r)
{
    int64_t n = 0;
    for (unsigned i = 0; i < ch->w.steps; i++)
        n += !ch->step[i].nil;
    reply_int(r, n);
}

static enum err del_fill(struct call *c, struct change *ch)
{
    unsigned n = 0;
    for (unsigned i = 1; i < c->argc; i++) {
        struct facade_key k;
        enum err err = facade_resolve(c, c->argv[i], 0, &k);
        if (err == ERR_NOTFOUND || err == ERR_BADPATH)
            continue;
        if (err)
            return err;
        ch->step[n++] = (struct step){.kind = STEP_SECRET_DESTROY, .path = change_keep(ch, k.path), .vault = k.vault};
    }
    ch->w.steps = n;
    return ERR_OK;
}

enum call_result string_del(struct call *c)
{
    struct change *ch;
    size_t keep = 0;
    for (unsigned i = 1; i < c->argc; i++)
        keep += c->argv[i].n; /* no path is longer than its key */
    enum err err = change_new(c->argc - 1, keep, &ch);
    if (err)
        return access_fail(c, err, none);
    err = del_fill(c, ch);
    if (err == ERR_OK && ch->w.steps)
        return change_submit(c, ch, NULL, answer_destroyed);
    change_free(ch);
    if (err)
        return access_fail(c, err, none);
    reply_int(c->reply, 0);
    return CALL_DONE;
}

/* ---- RENAME, COPY, MOVE ---- */

struct transfer {
    struct facade_key from, to;
    int only_new;                   /* not over what is there */
    enum key_event leaves, arrives; /* leaves EVENT_NONE: the source stays */
};

/* The value is taken as it is, with its time. */
static enum err take_over(struct change *ch, struct step *s, int there, struct buf *value)
{
    (void)value;
    (void)there;
    s->expires_ms = s[-(int)ch->edit_of].old.expires_ms;
    return ERR_OK;
}

static int onto_itself(const struct transfer *t)
{
    return t->from.vault == t->to.vault && bytes_equal(t->from.path, t->to.path);
}

static void transfer_fill(struct change *ch, const struct transfer *t)
{
    struct bytes from = change_keep(ch, t->from.path);
    unsigned n = 1;
    ch->step[0] = (struct step){.kind = STEP_SECRET_READ, .flags = SET_OLD, .path = from, .vault = t->from.vault};
    if (t->only_new)
        ch->step[n++] = (struct step){.kind = STEP_SECRET_READ,
                                      .flags = SET_NX | SET_AFTER,
                                      .path = change_keep(ch, t->to.path),
                                      .vault = t->to.vault};
    if (t->leaves)
        ch->step[n++] = (struct step){.kind = STEP_SECRET_DESTROY,
                                      .event = (uint8_t)t->leaves,
                                      .flags = SET_AFTER,
                                      .path = from,
                                      .vault = t->from.vault};
    ch->step[n] = change_edit_step(ch, n, t->to.path);
    ch->step[n].flags = SET_AFTER;
    ch->step[n].event = (uint8_t)t->arrives;
    ch->step[n].vault = t->to.vault;
    ch->w.steps = onto_itself(t) ? 1 : n + 1; /* onto itself: all that is asked is whether it is there */
}

static enum call_result transfer(struct call *c, const struct transfer *t,
                                 void (*answer)(struct change *, struct reply *))
{
    struct change *ch;
    struct dek *d;
    enum err err = access_openable(c, t->from.vault, t->from.path);
    if (err == ERR_OK)
        err = deks_writer(c->srv->deks, c, t->to.vault, &d);
    if (err == ERR_OK)
        err = change_new_edit(d, 4, t->from.path.n + 2 * t->to.path.n, take_over, &ch);
    if (err)
        return access_fail(c, err, none);
    transfer_fill(ch, t);
    return change_submit(c, ch, NULL, answer);
}

static enum call_result no_such_key(struct call *c)
{
    return call_errorf(c, ERR_NOTFOUND, "no such key");
}

/* From argv[1] to argv[2]. 1: go on; 0: replied or parked, *result tells. */
static int rename_ends(struct call *c, struct transfer *t, enum call_result *result)
{
    enum err err = facade_resolve(c, c->argv[1], 0, &t->from);
    if (err == ERR_NOTFOUND || err == ERR_BADPATH) {
        *result = no_such_key(c);
        return 0;
    }
    if (err == ERR_OK)
        err = facade_resolve(c, c->argv[2], 1, &t->to);
    if (err)
        *result = access_fail(c, err, none);
    return err == ERR_OK;
}

static void answer_renamed(struct change *ch, struct reply *r)
{
    if (ch->step[0].nil)
        reply_errorf(r, "ERR", "no such key");
    else if (ch->arg)
        reply_int(r, ch->w.steps > 1 && !ch->step[ch->w.steps - 1].nil);
    else
        reply_ok(r);
}

static void answer_renamed_new(struct change *ch, struct reply *r)
{
    ch->arg = 1;
    answer_renamed(ch, r);
}

enum call_result string_rename(struct call *c)
{
    enum call_result result;
    struct transfer t = {.leaves = EVENT_RENAME_FROM, .arrives = EVENT_RENAME_TO};
    return rename_ends(c, &t, &result) ? transfer(c, &t, answer_renamed) : result;
}

enum call_result string_renamenx(struct call *c)
{
    enum call_result result;
    struct transfer t = {.only_new = 1, .leaves = EVENT_RENAME_FROM, .arrives = EVENT_RENAME_TO};
    return rename_ends(c, &t, &result) ? transfer(c, &t, answer_renamed_new) : result;
}

static void answer_arrived(struct change *ch, struct reply *r)
{
    reply_int(r, !ch->step[ch->w.steps - 1].nil);
}

/* The number of a database, or -1 and replied. */
static int64_t database_of(struct call *c, struct bytes word)
{
    int64_t db;
    if (!number_parse(word, &db)) {
        call_error(c, ERR_NOTINT);
        return -1;
    }
    if (db >= 0 && db < config_int(c->srv->config, CFG_DATABASES))
        return db;
    call_errorf(c, ERR_RANGE, "DB index is out of range");
    return -1;
}

/* argv[1] of this database to key of that one. */
static enum call_result transfer_to(struct call *c, struct transfer *t, struct bytes key, unsigned db)
{
    enum err err = facade_resolve(c, c->argv[1], 0, &t->from);
    if (err == ERR_NOTFOUND || err == ERR_BADPATH) {
        reply_int(c->reply, 0);
        return CALL_DONE;
    }
    if (err == ERR_OK)
        err = facade_resolve_in(c, key, db, 1, &t->to);
    if (err)
        return access_fail(c, err, none);
    if (t->from.vault == t->to.vault && bytes_equal(t->from.path, t->to.path))
        return call_errorf(c, ERR_RANGE, "source and destination objects are the same");
    return transfer(c, t, answer_arrived);
}

enum call_result string_copy(struct call *c)
{
    enum { DB, REPLACE, OPTS };
    static const struct option options[OPTS] = {[DB] = {"DB", OPTION_BYTES}, [REPLACE] = {"REPLACE", OPTION_FLAG}};
    struct option_value opt[OPTS];
    if (options_parse(c, 3, options, OPTS, opt))
        return CALL_DONE;
    int64_t db = opt[DB].given ? database_of(c, opt[DB].b) : conn_db(c->conn);
    struct transfer t = {.only_new = !opt[REPLACE].given, .arrives = EVENT_COPY_TO};
    return db < 0 ? CALL_DONE : transfer_to(c, &t, c->argv[2], (unsigned)db);
}

enum call_result string_move(struct call *c)
{
    struct transfer t = {.only_new = 1, .leaves = EVENT_MOVE_FROM, .arrives = EVENT_MOVE_TO};
    int64_t db = database_of(c, c->argv[2]);
    return db < 0 ? CALL_DONE : transfer_to(c, &t, c->argv[1], (unsigned)db);
}

/* ---- KEYS: all names, so on a thread of its own ---- */

#define KEYS_PAGE 1000

struct keys_job {
    struct pending p;
    struct chore chore;
    struct engine *engine;
    struct vault *vault;
    struct buf names; /* encoded */
    struct reply r;
    size_t n, pattern_n;
    enum err err;
    uint8_t pattern[];
};

static int keys_visit(void *arg, struct bytes path, const struct secret_head *h)
{
    struct keys_job *j = arg;
    (void)h;
    if (glob_match(bytes_of(j->pattern, j->pattern_n), path, 0)) {
        reply_bulk(&j->r, path);
        j->n++;
    }
    return 1;
}

static void keys_run(struct chore *chore)
{
    struct keys_job *j = mpsc_entry(chore, struct keys_job, chore);
    struct buf after, last;
    int more = 1;
    buf_init(&after, SECRET_PATH_MAX + 16);
    buf_init(&last, SECRET_PATH_MAX + 16);
    while (more && !j->err && !(j->err = j->r.failed)) {
        struct list_query q = {
            .after = buf_bytes(&after), .max = KEYS_PAGE, .scan_max = KEYS_PAGE, .visit = keys_visit, .arg = j};
        j->err = secret_list(j->engine, j->vault, &q, &last, &more);
        buf_clear(&after);
        if (!j->err)
            j->err = buf_put(&after, buf_data(&last), buf_size(&last));
    }
    buf_fini(&after);
    buf_fini(&last);
    pending_complete(&j->p);
}

static void keys_finish(struct pending *p, struct reply *r)
{
    struct keys_job *j = mpsc_entry(p, struct keys_job, p);
    if (j->err == ERR_TOOBIG) {
        reply_errorf(r, err_prefix(j->err), "the answer would be too large: use SCAN");
    } else if (j->err) {
        reply_error(r, j->err);
    } else {
        reply_array(r, j->n);
        reply_encoded(r, buf_bytes(&j->names));
    }
}

static void keys_release(struct pending *p)
{
    struct keys_job *j = mpsc_entry(p, struct keys_job, p);
    buf_fini(&j->names);
    mem_free(j);
}

/* The database's vault, when it can be listed now. 1; else *result tells. */
static int listable(struct call *c, struct vault **v, enum call_result *result)
{
    uint64_t lsn;
    enum err err = facade_vault(c, conn_db(c->conn), 0, v);
    if (err == ERR_OK && (err = engine_list_ready(c->srv->engine, *v, &lsn)) == ERR_AGAIN) {
        *result = access_park_applied(c, *v);
        return 0;
    }
    *v = err == ERR_NOTFOUND ? NULL : *v;
    if (!err || err == ERR_NOTFOUND)
        return 1;
    *result = access_fail(c, err, none);
    return 0;
}

enum call_result string_keys(struct call *c)
{
    struct vault *v;
    enum call_result result;
    if (!listable(c, &v, &result))
        return result;
    if (!v) {
        reply_array(c->reply, 0);
        return CALL_DONE;
    }
    struct keys_job *j = mem_zalloc(sizeof *j + c->argv[1].n);
    if (!j)
        return call_error(c, ERR_OOM);
    j->engine = c->srv->engine;
    j->vault = v;
    j->chore.run = keys_run;
    j->pattern_n = c->argv[1].n;
    memcpy(j->pattern, c->argv[1].p, c->argv[1].n);
    buf_init(&j->names, c->reply->b->limit / 2);
    reply_init(&j->r, &j->names, conn_proto(c->conn));
    call_pending(c, &j->p, keys_finish, keys_release);
    chores_post(c->srv->chores, &j->chore);
    return CALL_PENDING;
}

/* ---- RANDOMKEY ----
 *
 * There is no index by number, so a key is drawn by a walk: from a name, change it from some place on, see which names
 * follow, take one of them. Any key can come up; those behind gaps do more often. */

#define RANDOM_PAGE 64
#define RANDOM_STEPS 4

struct draw {
    uint64_t seed;
    unsigned seen;
    struct buf name;
    enum err err;
};

static uint64_t draw_next(struct draw *d)
{
    d->seed ^= d->seed << 13;
    d->seed ^= d->seed >> 7;
    d->seed ^= d->seed << 17;
    return d->seed;
}

/* Each of a page's names with the same chance. */
static int draw_visit(void *arg, struct bytes path, const struct secret_head *h)
{
    struct draw *d = arg;
    (void)h;
    if (draw_next(d) % ++d->seen == 0 && !d->err) {
        buf_clear(&d->name);
        d->err = buf_put(&d->name, path.p, path.n);
    }
    return 1;
}

static enum err draw_page(struct call *c, struct vault *v, struct draw *d, struct bytes after)
{
    struct buf last;
    int more;
    struct list_query q = {
        .after = after, .max = RANDOM_PAGE, .scan_max = 16 * RANDOM_PAGE, .visit = draw_visit, .arg = d};
    d->seen = 0;
    buf_init(&last, SECRET_PATH_MAX + 16);
    enum err err = secret_list(c->srv->engine, v, &q, &last, &more);
    buf_fini(&last);
    return err ? err : d->err;
}

/* A name like the one that was drawn up to somewhere, then anything. */
static struct bytes draw_place(struct draw *d, uint8_t *out)
{
    size_t n = buf_size(&d->name), same = draw_next(d) % n;
    memcpy(out, buf_data(&d->name), n);
    for (size_t i = same; i < n && i < same + 8; i++)
        out[i] = (uint8_t)(1 + draw_next(d) % 255);
    return bytes_of(out, n);
}

static enum err draw(struct call *c, struct vault *v, struct draw *d)
{
    uint8_t place[SECRET_PATH_MAX];
    enum err err = clock_random((uint8_t *)&d->seed, sizeof d->seed);
    d->seed |= 1;
    if (!err)
        err = draw_page(c, v, d, none);
    for (int i = 0; !err && buf_size(&d->name) && i < RANDOM_STEPS; i++)
        if (atomic_load(&v->secrets) > RANDOM_PAGE)
            err = draw_page(c, v, d, draw_place(d, place));
    return err;
}

enum call_result string_randomkey(struct call *c)
{
    struct vault *v;
    struct draw d = {0};
    enum call_result result;
    if (!listable(c, &v, &result))
        return result;
    buf_init(&d.name, SECRET_PATH_MAX);
    enum err err = v ? draw(c, v, &d) : ERR_OK;
    if (!err && buf_size(&d.name))
        reply_bulk(c->reply, buf_bytes(&d.name));
    else if (!err)
        reply_nil(c->reply);
    buf_fini(&d.name);
    return err ? access_fail(c, err, none) : CALL_DONE;
}

/* ---- OBJECT, MEMORY ---- */

/* argv[2]'s head, or what to answer when it is not there. */
static enum call_result with_object(struct call *c, int value, void (*missing)(struct call *c),
                                    enum err (*show)(struct call *c, const struct facade_key *k,
                                                     const struct secret_view *view))
{
    struct facade_key k;
    struct secret_view view;
    enum err err = facade_read(c, c->argv[2], value, &k, &view);
    if (err == ERR_NOTFOUND || err == ERR_BADPATH) {
        missing(c);
        return CALL_DONE;
    }
    if (err == ERR_OK) {
        err = show(c, &k, &view);
        secret_view_release(&view);
    }
    return err ? access_fail(c, err, none) : CALL_DONE;
}

static void missing_nil(struct call *c)
{
    reply_nil(c->reply);
}

/* What Redis would say of a value that was SET: that is all there is to tell. */
static enum err show_encoding(struct call *c, const struct facade_key *k, const struct secret_view *view)
{
    struct buf value;
    int64_t v;
    buf_init_secret(&value, SEAL_VALUE_MAX);
    enum err err = access_value(c, k->vault, k->path, view, &value);
    if (err == ERR_OK)
        reply_bulk_str(c->reply, number_parse(buf_bytes(&value), &v) ? "int"
                                 : buf_size(&value) <= 44            ? "embstr"
                                                                     : "raw");
    buf_fini(&value);
    return err;
}

static enum err show_one(struct call *c, const struct facade_key *k, const struct secret_view *view)
{
    (void)k;
    (void)view;
    reply_int(c->reply, 1);
    return ERR_OK;
}

static enum err show_zero(struct call *c, const struct facade_key *k, const struct secret_view *view)
{
    (void)k;
    (void)view;
    reply_int(c->reply, 0);
    return ERR_OK;
}

/* Head and sealed current value. */
static enum err show_bytes(struct call *c, const struct facade_key *k, const struct secret_view *view)
{
    struct secret_version v = {0};
    size_t n = secret_head_size(&view->head) + k->path.n;
    if (!(view->head.flags & SECRET_CURRENT_INLINE) && secret_version_find(&view->head, view->head.current, &v))
        n += v.sealed_bytes;
    reply_int(c->reply, (int64_t)n);
    return ERR_OK;
}

enum call_result object_encoding(struct call *c)
{
    return with_object(c, 1, missing_nil, show_encoding);
}

enum call_result object_refcount(struct call *c)
{
    return with_object(c, 0, missing_nil, show_one);
}

/* Looks are not remembered. */
enum call_result object_idletime(struct call *c)
{
    return with_object(c, 0, missing_nil, show_zero);
}

enum call_result object_freq(struct call *c)
{
    return call_errorf(c, ERR_UNSUPPORTED,
                       "An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when "
                       "switching between policies at runtime LRU and LFU data will take some time to adjust.");
}

enum call_result memory_usage(struct call *c)
{
    int64_t samples;
    static const char *const words[] = {"SAMPLES", NULL};
    if (c->argc != 3 && (c->argc != 5 || options_word(c->argv[3], words) < 0))
        return call_error(c, ERR_SYNTAX);
    if (c->argc == 5 && (!number_parse(c->argv[4], &samples) || samples < 0))
        return call_error(c, ERR_NOTINT);
    return with_object(c, 0, missing_nil, show_bytes);
}

enum call_result memory_doctor(struct call *c)
{
    static const char text[] =
        "Memory is bounded by cache-size and what clients have under way; INFO memory tells how much "
        "is used, and whether memory for secrets could be locked.\n";
    reply_verbatim(c->reply, "txt", bytes_str(text));
    return CALL_DONE;
}

enum call_result memory_stats(struct call *c)
{
    struct mem_secret_stats s;
    mem_secret_stats(&s);
    reply_map(c->reply, 3);
    reply_bulk_str(c->reply, "total.allocated");
    reply_int(c->reply, (int64_t)(mem_heap_bytes() + s.used_bytes));
    reply_bulk_str(c->reply, "secret.used");
    reply_int(c->reply, (int64_t)s.used_bytes);
    reply_bulk_str(c->reply, "secret.locked");
    reply_int(c->reply, (int64_t)s.locked_bytes);
    return CALL_DONE;
}

enum call_result memory_purge(struct call *c)
{
    mem_heap_purge();
    reply_ok(c->reply);
    return CALL_DONE;
}
