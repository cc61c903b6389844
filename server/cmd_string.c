/* cmd_string.c - the string façade: GET, SET and the commands on keys, for clients that know only Redis. Texts of
 * errors are Redis's. SCAN is in cmd_scan.c. */

#include "base/mem.h"
#include "resp/number.h"
#include "server/access.h"
#include "server/change.h"
#include "server/command.h"
#include "server/conn.h"
#include "server/dek.h"
#include "server/facade.h"
#include "server/handlers.h"
#include "server/io.h"
#include "server/options.h"
#include "server/server.h"

static const struct bytes none = {NULL, 0};

/* ---- reads ---- */

/* A key's value as a bulk, nil when there is none. ERR_AGAIN: parked. */
static enum err reply_value(struct call *c, struct bytes key, struct engine_moment *m)
{
    struct facade_key k;
    struct secret_view view;
    enum err err = facade_read(c, key, 1, &k, &view);
    if (err == ERR_NOTFOUND || err == ERR_BADPATH) {
        engine_moment_saw(m, NULL);
        reply_nil(c->reply);
        return ERR_OK;
    }
    if (err)
        return err;
    engine_moment_saw(m, &view);
    err = access_reply_value(c, k.vault, k.path, &view);
    secret_view_release(&view);
    return err;
}

enum call_result string_get(struct call *c)
{
    struct engine_moment m = {0};
    enum err err = reply_value(c, c->argv[1], &m);
    return err ? access_fail(c, err, none) : CALL_DONE;
}

static enum err mget_pass(struct call *c, struct engine_moment *m)
{
    enum err err = ERR_OK;
    reply_array(c->reply, c->argc - 1);
    for (unsigned i = 1; i < c->argc && err == ERR_OK; i++)
        err = reply_value(c, c->argv[i], m);
    return err;
}

enum call_result string_mget(struct call *c)
{
    return access_at_once(c, mget_pass, none);
}

/* Looks at one key's head: calls with view, or with NULL when it is not there. */
static enum call_result with_head(struct call *c, void (*show)(struct call *c, const struct secret_view *view))
{
    struct facade_key k;
    struct secret_view view;
    enum err err = facade_read(c, c->argv[1], 0, &k, &view);
    if (err && err != ERR_NOTFOUND && err != ERR_BADPATH)
        return access_fail(c, err, none);
    show(c, err ? NULL : &view);
    if (!err)
        secret_view_release(&view);
    return CALL_DONE;
}

static void show_strlen(struct call *c, const struct secret_view *view)
{
    struct secret_version v = {0};
    if (view)
        secret_version_find(&view->head, view->head.current, &v);
    reply_int(c->reply, v.sealed_bytes > SEAL_OVERHEAD ? v.sealed_bytes - SEAL_OVERHEAD : 0);
}

static void show_type(struct call *c, const struct secret_view *view)
{
    reply_simple(c->reply, view ? "string" : "none");
}

static void show_ttl(struct call *c, const struct secret_view *view)
{
    int64_t ms = view ? access_ttl_ms(&view->head, c->now_ms) : -2;
    reply_int(c->reply, ms < 0 ? ms : (ms + 500) / 1000);
}

static void show_pttl(struct call *c, const struct secret_view *view)
{
    reply_int(c->reply, view ? access_ttl_ms(&view->head, c->now_ms) : -2);
}

static void show_expiretime(struct call *c, const struct secret_view *view)
{
    reply_int(c->reply, !view ? -2 : view->head.expires_ms ? (int64_t)((view->head.expires_ms + 500) / 1000) : -1);
}

static void show_pexpiretime(struct call *c, const struct secret_view *view)
{
    reply_int(c->reply, !view ? -2 : view->head.expires_ms ? (int64_t)view->head.expires_ms : -1);
}

enum call_result string_strlen(struct call *c)
{
    return with_head(c, show_strlen);
}

enum call_result string_type(struct call *c)
{
    return with_head(c, show_type);
}

enum call_result string_ttl(struct call *c)
{
    return with_head(c, show_ttl);
}

enum call_result string_pttl(struct call *c)
{
    return with_head(c, show_pttl);
}

enum call_result string_expiretime(struct call *c)
{
    return with_head(c, show_expiretime);
}

enum call_result string_pexpiretime(struct call *c)
{
    return with_head(c, show_pexpiretime);
}

static enum err exists_pass(struct call *c, struct engine_moment *m)
{
    int64_t n = 0;
    for (unsigned i = 1; i < c->argc; i++) {
        struct facade_key k;
        struct secret_view view;
        enum err err = facade_read(c, c->argv[i], 0, &k, &view);
        if (err && err != ERR_NOTFOUND && err != ERR_BADPATH)
            return err;
        engine_moment_saw(m, err ? NULL : &view);
        if (!err) {
            n++;
            secret_view_release(&view);
        }
    }
    reply_int(c->reply, n);
    return ERR_OK;
}

enum call_result string_exists(struct call *c)
{
    return access_at_once(c, exists_pass, none);
}

enum call_result string_dbsize(struct call *c)
{
    struct vault *v;
    enum err err = deks_database(c->srv->deks, c, conn_db(c->conn), 0, &v);
    reply_int(c->reply, err ? 0 : (int64_t)atomic_load(&v->secrets));
    return CALL_DONE;
}

/* ---- SET ---- */

enum set_option { NX, XX, GET, EX, PX, EXAT, PXAT, KEEPTTL, SET_OPTS };
static const struct option set_options[SET_OPTS] = {
    [NX] = {"NX", OPTION_FLAG, .group = 1},
    [XX] = {"XX", OPTION_FLAG, .group = 1},
    [GET] = {"GET", OPTION_FLAG},
    [EX] = {"EX", OPTION_BYTES, .group = 2},
    [PX] = {"PX", OPTION_BYTES, .group = 2},
    [EXAT] = {"EXAT", OPTION_BYTES, .group = 2},
    [PXAT] = {"PXAT", OPTION_BYTES, .group = 2},
    [KEEPTTL] = {"KEEPTTL", OPTION_FLAG, .group = 2},
};

enum { ANSWER_OLD = 1 };

static void answer_set(struct change *ch, struct reply *r)
{
    if (ch->arg == ANSWER_OLD)
        change_reply_old(ch, &ch->step[0], r);
    else if (ch->step[0].nil)
        reply_nil(r);
    else
        reply_ok(r);
}

/* ERR_OK, or replied. */
static enum err parse_expiry(struct call *c, const struct option_value *opt, uint64_t *expires_ms)
{
    *expires_ms = 0;
    for (int i = EX; i <= PXAT; i++) {
        int64_t v;
        if (!opt[i].given)
            continue;
        if (!number_parse(opt[i].b, &v)) {
            call_error(c, ERR_NOTINT);
            return ERR_NOTINT;
        }
        if (v <= 0 || access_expire_ms(v, i == EX || i == EXAT ? 1000 : 1, i >= EXAT, c->now_ms, expires_ms)) {
            call_errorf(c, ERR_BADEXPIRE, "invalid expire time in 'set' command");
            return ERR_BADEXPIRE;
        }
    }
    return ERR_OK;
}

/* The old value that is to be handed out must be openable before it is replaced: fetches its data key. */
static enum err old_value_openable(struct call *c, const struct facade_key *k)
{
    struct secret_view view;
    enum err err = secret_read(c->srv->engine, k->vault, k->path, 0, none, &view);
    if (err)
        return err == ERR_NOTFOUND ? ERR_OK : err;
    size_t mark = reply_mark(c->reply);
    err = access_reply_value(c, k->vault, k->path, &view);
    secret_view_release(&view);
    reply_rewind(c->reply, mark);
    return err;
}

static enum call_result set_with(struct call *c, const struct option_value *opt)
{
    struct facade_key k;
    struct change *ch;
    uint64_t expires_ms, max = (uint64_t)config_int(c->srv->config, CFG_SECRET_MAX_BYTES);

    if (parse_expiry(c, opt, &expires_ms))
        return CALL_DONE;
    if (c->argv[2].n > max)
        return call_errorf(c, ERR_TOOBIG, "the value has %zu bytes; secret-max-bytes is %llu", c->argv[2].n,
                           (unsigned long long)max);
    enum err err = facade_resolve(c, c->argv[1], 1, &k);
    if (err == ERR_OK && opt[GET].given)
        err = old_value_openable(c, &k);
    if (err == ERR_OK)
        err = access_change_set(c, k.vault, c->argv[2], k.path.n, &ch);
    if (err)
        return access_fail(c, err, none);
    struct step *s = &ch->step[0];
    s->kind = STEP_SECRET_SET;
    s->path = change_keep(ch, k.path);
    s->expires_ms = expires_ms;
    s->flags = (uint16_t)((opt[NX].given ? SET_NX : 0) | (opt[XX].given ? SET_XX : 0) |
                          (opt[KEEPTTL].given ? SET_KEEPTTL : 0) | (opt[GET].given ? SET_OLD : 0));
    ch->arg = opt[GET].given ? ANSWER_OLD : 0;
    return change_submit(c, ch, k.vault, answer_set);
}

enum call_result string_set(struct call *c)
{
    static const struct option_value no_options[SET_OPTS];
    struct option_value opt[SET_OPTS];
    if (c->argc == 3)
        return set_with(c, no_options);
    if (options_parse(c, 3, set_options, SET_OPTS, opt))
        return CALL_DONE;
    return set_with(c, opt);
}

/* ---- DEL ----
 *
 * All keys of one call usually lie in one vault: one write, one record. Keys of several vaults are refused, as Redis
 * Cluster refuses several slots: a record belongs to one vault. A database's vault may be made by another client while
 * the keys are looked at: then its keys are left out. */

static void answer_destroyed(struct change *ch, struct reply *r)
{
    int64_t n = 0;
    for (unsigned i = 0; i < ch->w.steps; i++)
        n += !ch->step[i].nil;
    reply_int(r, n);
}

static enum err del_resolve(struct call *c, struct vault **vault, size_t *keep)
{
    *vault = NULL;
    *keep = 0;
    for (unsigned i = 1; i < c->argc; i++)
        *keep += c->argv[i].n; /* no path is longer than its key */
    for (unsigned i = 1; i < c->argc; i++) {
        struct facade_key k;
        enum err err = facade_resolve(c, c->argv[i], 0, &k);
        if (err == ERR_NOTFOUND || err == ERR_BADPATH)
            continue;
        if (err)
            return err;
        if (*vault && *vault != k.vault)
            return ERR_CROSSSLOT;
        *vault = k.vault;
    }
    return ERR_OK;
}

enum call_result string_del(struct call *c)
{
    struct vault *v;
    struct change *ch;
    size_t keep;
    unsigned n = 0;
    enum err err = del_resolve(c, &v, &keep);

    if (err == ERR_CROSSSLOT)
        return call_errorf(c, err, "the keys belong to several vaults: delete those of one vault at a time");
    if (err == ERR_OK && !v) {
        reply_int(c->reply, 0);
        return CALL_DONE;
    }
    if (err == ERR_OK)
        err = change_new(c->argc - 1, keep, &ch);
    if (err)
        return access_fail(c, err, none);
    for (unsigned i = 1; i < c->argc; i++) {
        struct facade_key k;
        if (facade_resolve(c, c->argv[i], 0, &k) == ERR_OK && k.vault == v)
            ch->step[n++] = (struct step){.kind = STEP_SECRET_DESTROY, .path = change_keep(ch, k.path)};
    }
    ch->w.steps = n;
    return change_submit(c, ch, v, answer_destroyed);
}

/* ---- EXPIRE and its kin ---- */

static void answer_bit(struct change *ch, struct reply *r)
{
    reply_int(r, !ch->step[0].nil);
}

static enum call_result expire_step(struct call *c, uint64_t expires_ms, uint16_t flags)
{
    struct facade_key k;
    struct change *ch;
    enum err err = facade_resolve(c, c->argv[1], 0, &k);
    if (err == ERR_NOTFOUND || err == ERR_BADPATH) {
        reply_int(c->reply, 0);
        return CALL_DONE;
    }
    if (err == ERR_OK)
        err = change_new(1, k.path.n, &ch);
    if (err)
        return access_fail(c, err, none);
    ch->step[0] = (struct step){
        .kind = STEP_SECRET_EXPIRE, .flags = flags, .expires_ms = expires_ms, .path = change_keep(ch, k.path)};
    return change_submit(c, ch, k.vault, answer_bit);
}

/* NX, XX, GT, LT in any order, with Redis's texts. 0: replied. */
static int expire_flags(struct call *c, uint16_t *flags)
{
    static const char *const words[] = {"NX", "XX", "GT", "LT", NULL};
    static const uint16_t bits[] = {SET_NOTTL, SET_HASTTL, SET_GT, SET_LT};
    *flags = 0;
    for (unsigned i = 3; i < c->argc; i++) {
        int w = options_word(c->argv[i], words);
        if (w < 0) {
            /* lint: allow printf because the options of EXPIRE are no secrets */
            call_errorf(c, ERR_SYNTAX, "Unsupported option %.*s", (int)(c->argv[i].n > 64 ? 64 : c->argv[i].n),
                        (const char *)c->argv[i].p);
            return 0;
        }
        *flags |= bits[w];
    }
    if ((*flags & SET_NOTTL) && (*flags & (SET_HASTTL | SET_GT | SET_LT))) {
        call_errorf(c, ERR_SYNTAX, "NX and XX, GT or LT options at the same time are not compatible");
        return 0;
    }
    if ((*flags & SET_GT) && (*flags & SET_LT)) {
        call_errorf(c, ERR_SYNTAX, "GT and LT options at the same time are not compatible");
        return 0;
    }
    return 1;
}

static enum call_result expire_command(struct call *c, int unit_ms, int absolute)
{
    int64_t v;
    uint16_t flags;
    uint64_t expires_ms;
    char name[COMMAND_NAME_MAX];
    if (!expire_flags(c, &flags))
        return CALL_DONE;
    if (!number_parse(c->argv[2], &v))
        return call_error(c, ERR_NOTINT);
    if (access_expire_ms(v, unit_ms, absolute, c->now_ms, &expires_ms)) {
        command_lower(c->cmd, name);
        return call_errorf(c, ERR_BADEXPIRE, "invalid expire time in '%s' command", name);
    }
    return expire_step(c, expires_ms, flags);
}

enum call_result string_expire(struct call *c)
{
    return expire_command(c, 1000, 0);
}

enum call_result string_pexpire(struct call *c)
{
    return expire_command(c, 1, 0);
}

enum call_result string_expireat(struct call *c)
{
    return expire_command(c, 1000, 1);
}

enum call_result string_pexpireat(struct call *c)
{
    return expire_command(c, 1, 1);
}

enum call_result string_persist(struct call *c)
{
    return expire_step(c, 0, 0);
}
