/* cmd_string.c - the string façade: GET, SET and their kin, for clients that know only Redis. Texts of errors are
 * Redis's. What changes a value by what it is, is in cmd_edit.c; keys as such are in cmd_keyspace.c. */

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

/* A time as the client gave it. ERR_OK, or replied. */
static enum err parse_time(struct call *c, struct bytes word, int unit_ms, int absolute, uint64_t *expires_ms)
{
    int64_t v;
    char name[COMMAND_NAME_MAX];
    if (!number_parse(word, &v)) {
        call_error(c, ERR_NOTINT);
        return ERR_NOTINT;
    }
    if (v > 0 && access_expire_ms(v, unit_ms, absolute, c->now_ms, expires_ms) == ERR_OK)
        return ERR_OK;
    command_lower(c->cmd, name);
    call_errorf(c, ERR_BADEXPIRE, "invalid expire time in '%s' command", name);
    return ERR_BADEXPIRE;
}

/* Of four options in a row from `first`: EX, PX, EXAT, PXAT. ERR_OK, or replied. */
static enum err parse_expiry(struct call *c, const struct option_value *opt, int first, uint64_t *expires_ms)
{
    enum err err = ERR_OK;
    *expires_ms = 0;
    for (int i = 0; i < 4 && !err; i++)
        if (opt[first + i].given)
            err = parse_time(c, opt[first + i].b, i % 2 ? 1 : 1000, i >= 2, expires_ms);
    return err;
}

static int too_long(struct call *c, struct bytes value)
{
    uint64_t max = (uint64_t)config_int(c->srv->config, CFG_SECRET_MAX_BYTES);
    if (value.n <= max)
        return 0;
    call_errorf(c, ERR_TOOBIG, "the value has %zu bytes; secret-max-bytes is %llu", value.n, (unsigned long long)max);
    return 1;
}

/* What all that set one key have in common. An old value that is to be handed out must be openable before it is
 * replaced. */
static enum call_result set_one(struct call *c, struct bytes value, uint64_t expires_ms, uint16_t flags,
                                void (*answer)(struct change *, struct reply *))
{
    struct facade_key k;
    struct change *ch;

    if (too_long(c, value))
        return CALL_DONE;
    enum err err = facade_resolve(c, c->argv[1], 1, &k);
    if (err == ERR_OK && flags & SET_OLD)
        err = access_openable(c, k.vault, k.path);
    if (err == ERR_OK)
        err = access_change_set(c, k.vault, value, k.path.n, &ch);
    if (err)
        return access_fail(c, err, none);
    struct step *s = &ch->step[0];
    s->kind = STEP_SECRET_SET;
    s->path = change_keep(ch, k.path);
    s->expires_ms = expires_ms;
    s->flags = flags;
    ch->arg = flags & SET_OLD ? ANSWER_OLD : 0;
    return change_submit(c, ch, k.vault, answer);
}

static enum call_result set_with(struct call *c, const struct option_value *opt)
{
    uint64_t expires_ms;
    if (parse_expiry(c, opt, EX, &expires_ms))
        return CALL_DONE;
    return set_one(c, c->argv[2], expires_ms,
                   (uint16_t)((opt[NX].given ? SET_NX : 0) | (opt[XX].given ? SET_XX : 0) |
                              (opt[KEEPTTL].given ? SET_KEEPTTL : 0) | (opt[GET].given ? SET_OLD : 0)),
                   answer_set);
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

enum call_result string_setex(struct call *c)
{
    uint64_t expires_ms;
    if (parse_time(c, c->argv[2], 1000, 0, &expires_ms))
        return CALL_DONE;
    return set_one(c, c->argv[3], expires_ms, 0, answer_set);
}

enum call_result string_psetex(struct call *c)
{
    uint64_t expires_ms;
    if (parse_time(c, c->argv[2], 1, 0, &expires_ms))
        return CALL_DONE;
    return set_one(c, c->argv[3], expires_ms, 0, answer_set);
}

static void answer_bit(struct change *ch, struct reply *r)
{
    reply_int(r, !ch->step[0].nil);
}

enum call_result string_setnx(struct call *c)
{
    return set_one(c, c->argv[2], 0, SET_NX, answer_bit);
}

enum call_result string_getset(struct call *c)
{
    return set_one(c, c->argv[2], 0, SET_OLD, answer_set);
}

/* ---- MSET, MSETNX: one record, also for keys of several vaults ---- */

static void answer_ok(struct change *ch, struct reply *r)
{
    (void)ch;
    reply_ok(r);
}

static void answer_last_bit(struct change *ch, struct reply *r)
{
    reply_int(r, !ch->step[ch->w.steps - 1].nil);
}

/* With nx a look at each key goes before: one that is there makes all that follows nil. */
static enum err mset_fill(struct call *c, struct change *ch, int nx)
{
    unsigned n = (c->argc - 1) / 2;
    enum err err = ERR_OK;
    for (unsigned i = 0; i < n && !err; i++) {
        struct facade_key k;
        struct step *set = &ch->step[nx ? n + i : i];
        if ((err = facade_resolve(c, c->argv[1 + 2 * i], 1, &k)) != ERR_OK)
            break;
        *set = (struct step){.kind = STEP_SECRET_SET, .path = change_keep(ch, k.path), .vault = k.vault};
        set->flags = nx ? SET_AFTER : 0;
        if (nx)
            ch->step[i] = (struct step){.kind = STEP_SECRET_READ,
                                        .flags = (uint16_t)(SET_NX | (i ? SET_AFTER : 0)),
                                        .path = set->path,
                                        .vault = k.vault};
        err = access_plain(c, k.vault, c->argv[2 + 2 * i], &set->plain);
    }
    return err;
}

static enum call_result mset(struct call *c, int nx)
{
    struct change *ch;
    size_t keep = 0;
    char name[COMMAND_NAME_MAX];
    if (c->argc % 2 == 0) {
        command_lower(c->cmd, name);
        return call_errorf(c, ERR_ARITY, "wrong number of arguments for '%s' command", name);
    }
    for (unsigned i = 1; i < c->argc; i += 2) {
        if (too_long(c, c->argv[i + 1]))
            return CALL_DONE;
        keep += c->argv[i].n; /* no path is longer than its key */
    }
    enum err err = change_new((c->argc - 1) / 2 * (nx ? 2 : 1), keep, &ch);
    if (err == ERR_OK && (err = mset_fill(c, ch, nx)) != ERR_OK)
        change_free(ch);
    if (err)
        return access_fail(c, err, none);
    return change_submit(c, ch, NULL, nx ? answer_last_bit : answer_ok);
}

enum call_result string_mset(struct call *c)
{
    return mset(c, 0);
}

enum call_result string_msetnx(struct call *c)
{
    return mset(c, 1);
}

/* ---- GETDEL, GETEX: the value as it was, and a change of its key ---- */

static void answer_old(struct change *ch, struct reply *r)
{
    change_reply_old(ch, &ch->step[0], r);
}

static enum call_result get_and(struct call *c, struct step s)
{
    struct facade_key k;
    struct change *ch;
    enum err err = facade_resolve(c, c->argv[1], 0, &k);
    if (err == ERR_NOTFOUND || err == ERR_BADPATH) {
        reply_nil(c->reply);
        return CALL_DONE;
    }
    if (err == ERR_OK)
        err = access_openable(c, k.vault, k.path);
    if (err == ERR_OK)
        err = change_new(1, k.path.n, &ch);
    if (err)
        return access_fail(c, err, none);
    s.path = change_keep(ch, k.path);
    s.flags |= SET_OLD;
    ch->step[0] = s;
    return change_submit(c, ch, k.vault, answer_old);
}

enum call_result string_getdel(struct call *c)
{
    return get_and(c, (struct step){.kind = STEP_SECRET_DESTROY});
}

enum call_result string_getex(struct call *c)
{
    enum { G_EX, G_PX, G_EXAT, G_PXAT, G_PERSIST, G_OPTS };
    static const struct option options[G_OPTS] = {
        [G_EX] = {"EX", OPTION_BYTES, .group = 1},          [G_PX] = {"PX", OPTION_BYTES, .group = 1},
        [G_EXAT] = {"EXAT", OPTION_BYTES, .group = 1},      [G_PXAT] = {"PXAT", OPTION_BYTES, .group = 1},
        [G_PERSIST] = {"PERSIST", OPTION_FLAG, .group = 1},
    };
    struct option_value opt[G_OPTS];
    uint64_t expires_ms;
    if (options_parse(c, 2, options, G_OPTS, opt) || parse_expiry(c, opt, G_EX, &expires_ms))
        return CALL_DONE;
    if (c->argc == 2)
        return get_and(c, (struct step){.kind = STEP_SECRET_READ});
    return get_and(c, (struct step){.kind = STEP_SECRET_EXPIRE, .flags = SET_PAST, .expires_ms = expires_ms});
}

/* ---- GETRANGE ---- */

/* Redis's rules: negative ones count from the end, what lies outside is cut. Returns how many bytes from *start on. */
static size_t range_of(int64_t n, int64_t *start, int64_t end)
{
    if (*start < 0 && end < 0 && *start > end)
        return 0;
    *start = *start < 0 ? *start + n : *start;
    end = end < 0 ? end + n : end;
    *start = *start < 0 ? 0 : *start;
    end = end < 0 ? 0 : end >= n ? n - 1 : end;
    return n == 0 || *start > end ? 0 : (size_t)(end - *start + 1);
}

enum call_result string_getrange(struct call *c)
{
    struct facade_key k;
    struct secret_view view;
    struct buf value;
    int64_t start, end;
    if (!number_parse(c->argv[2], &start) || !number_parse(c->argv[3], &end))
        return call_error(c, ERR_NOTINT);
    enum err err = facade_read(c, c->argv[1], 1, &k, &view);
    if (err == ERR_NOTFOUND || err == ERR_BADPATH) {
        reply_bulk(c->reply, none);
        return CALL_DONE;
    }
    if (err)
        return access_fail(c, err, none);
    buf_init_secret(&value, SEAL_VALUE_MAX);
    if ((err = access_value(c, k.vault, k.path, &view, &value)) == ERR_OK) {
        size_t n = range_of((int64_t)buf_size(&value), &start, end);
        reply_bulk(c->reply, n ? bytes_of(buf_data(&value) + start, n) : none);
    }
    buf_fini(&value);
    secret_view_release(&view);
    return err ? access_fail(c, err, none) : CALL_DONE;
}

/* ---- EXPIRE and its kin ---- */

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
    ch->step[0] = (struct step){.kind = STEP_SECRET_EXPIRE,
                                .flags = flags | SET_PAST,
                                .expires_ms = expires_ms,
                                .path = change_keep(ch, k.path)};
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
