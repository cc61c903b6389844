/* cmd_secret.c - handlers of SECRET.*: reads, and writes of one secret. Listings are in cmd_secret_list.c.
 *
 * A read: vault by name, secret_read (hot table, else shard), opened straight into the reply. A write: the vault's
 * write key, a struct change with one step, the sequencer; the reply is written when the record is durable. Both may
 * park for a data key (dek.h).
 */
#include "base/mem.h"
#include "resp/number.h"
#include "server/access.h"
#include "server/change.h"
#include "server/dek.h"
#include "server/handlers.h"
#include "server/options.h"
#include "server/server.h"

static const struct bytes none = {NULL, 0};

static int path_ok(struct bytes path)
{
    return path.n >= 1 && path.n <= SECRET_PATH_MAX;
}

/* ---- GET ---- */

static enum err reply_secret(struct call *c, struct vault *v, struct bytes path, const struct secret_view *view,
                             int with_meta)
{
    if (!with_meta)
        return access_reply_value(c, v, path, view);
    reply_map(c->reply, 1 + ACCESS_META_PAIRS);
    reply_bulk_str(c->reply, "value");
    enum err err = access_reply_value(c, v, path, view);
    if (err == ERR_OK)
        access_reply_meta(c->reply, &view->head, view->version, c->now_ms);
    return err;
}

static enum call_result get_version(struct call *c, uint32_t version, struct bytes label, int with_meta)
{
    struct vault *v;
    struct secret_view view;
    size_t mark = reply_mark(c->reply);
    enum err err = access_vault(c, c->argv[1], &v);

    if (err == ERR_OK)
        err = access_read(c, v, c->argv[2], version, label, &view);
    if (err == ERR_OK) {
        err = reply_secret(c, v, c->argv[2], &view, with_meta);
        secret_view_release(&view);
    }
    if (err == ERR_OK)
        return CALL_DONE;
    reply_rewind(c->reply, mark);
    if (err == ERR_NOTFOUND) {
        reply_nil(c->reply);
        return CALL_DONE;
    }
    return access_fail(c, err, c->argv[1]);
}

enum call_result secret_get(struct call *c)
{
    enum { VERSION, STAGE, WITHMETA, OPTS };
    static const struct option options[OPTS] = {
        [VERSION] = {"VERSION", OPTION_INT, .group = 1, .min = 1, .max = UINT32_MAX},
        [STAGE] = {"STAGE", OPTION_BYTES, .group = 1},
        [WITHMETA] = {"WITHMETA", OPTION_FLAG},
    };
    struct option_value opt[OPTS];

    if (c->argc == 3)
        return get_version(c, 0, none, 0);
    if (options_parse(c, 3, options, OPTS, opt))
        return CALL_DONE;
    if (opt[STAGE].given && opt[STAGE].b.n == 0)
        return options_syntax_error(c, opt[STAGE].b);
    return get_version(c, (uint32_t)opt[VERSION].i, opt[STAGE].b, opt[WITHMETA].given);
}

/* ---- MGET: as of one point in time (access_at_once) ---- */

static enum err mget_pass(struct call *c, struct engine_moment *m)
{
    struct vault *v;
    enum err err = access_vault(c, c->argv[1], &v);
    if (err)
        return err;
    reply_array(c->reply, c->argc - 2);
    for (unsigned i = 2; i < c->argc; i++) {
        struct secret_view view;
        err = access_read(c, v, c->argv[i], 0, none, &view);
        if (err == ERR_NOTFOUND) {
            engine_moment_saw(m, NULL);
            reply_nil(c->reply);
            continue;
        }
        if (err == ERR_OK) {
            engine_moment_saw(m, &view);
            err = access_reply_value(c, v, c->argv[i], &view);
            secret_view_release(&view);
        }
        if (err)
            return err;
    }
    return ERR_OK;
}

enum call_result secret_mget(struct call *c)
{
    return access_at_once(c, mget_pass, c->argv[1]);
}

/* ---- SET, MSET ---- */

static void answer_version(struct change *ch, struct reply *r)
{
    if (ch->step[0].nil)
        reply_nil(r);
    else
        reply_int(r, ch->step[0].out_version);
}

enum set_option {
    SET_O_NX,
    SET_O_XX,
    SET_O_CAS,
    SET_O_EX,
    SET_O_PX,
    SET_O_EXAT,
    SET_O_PXAT,
    SET_O_KEEPTTL,
    SET_O_STAGE,
    SET_O_META,
    SET_OPTS
};
static const struct option set_options[SET_OPTS] = {
    [SET_O_NX] = {"NX", OPTION_FLAG, .group = 1},
    [SET_O_XX] = {"XX", OPTION_FLAG, .group = 1},
    [SET_O_CAS] = {"CAS", OPTION_INT, .group = 1, .min = 0, .max = UINT32_MAX},
    [SET_O_EX] = {"EX", OPTION_INT, .group = 2},
    [SET_O_PX] = {"PX", OPTION_INT, .group = 2},
    [SET_O_EXAT] = {"EXAT", OPTION_INT, .group = 2},
    [SET_O_PXAT] = {"PXAT", OPTION_INT, .group = 2},
    [SET_O_KEEPTTL] = {"KEEPTTL", OPTION_FLAG, .group = 2},
    [SET_O_STAGE] = {"STAGE", OPTION_BYTES},
    [SET_O_META] = {"META", OPTION_BYTES},
};

/* The option EX, PX, EXAT or PXAT as an absolute time. */
static enum err set_expiry(const struct option_value *opt, uint64_t now_ms, uint64_t *out)
{
    *out = 0;
    for (int i = SET_O_EX; i <= SET_O_PXAT; i++) {
        if (!opt[i].given)
            continue;
        if (opt[i].i <= 0)
            return ERR_BADEXPIRE;
        return access_expire_ms(opt[i].i, i == SET_O_EX || i == SET_O_EXAT ? 1000 : 1, i >= SET_O_EXAT, now_ms, out);
    }
    return ERR_OK;
}

static uint16_t set_flags(const struct option_value *opt)
{
    uint16_t f = 0;
    f |= opt[SET_O_NX].given ? SET_NX : 0;
    f |= opt[SET_O_XX].given ? SET_XX : 0;
    f |= opt[SET_O_CAS].given ? SET_CAS : 0;
    f |= opt[SET_O_KEEPTTL].given ? SET_KEEPTTL : 0;
    f |= opt[SET_O_META].given ? SET_META : 0;
    f |= bytes_equal(opt[SET_O_STAGE].b, bytes_str("PENDING")) ? SET_PENDING : 0;
    return f;
}

static enum call_result check_value(struct call *c, struct bytes path, struct bytes value, enum err *err)
{
    uint64_t max = (uint64_t)config_int(c->srv->config, CFG_SECRET_MAX_BYTES);
    *err = path_ok(path) ? value.n <= max ? ERR_OK : ERR_TOOBIG : ERR_BADPATH;
    if (*err == ERR_TOOBIG)
        return call_errorf(c, *err, "the value has %zu bytes; secret-max-bytes is %llu", value.n,
                           (unsigned long long)max);
    return *err ? call_error(c, *err) : CALL_DONE;
}

/* Everything after the options: opt may be all zero. */
static enum call_result set_with(struct call *c, const struct option_value *opt)
{
    struct vault *v;
    struct change *ch;
    uint64_t expires_ms;
    enum err err;

    enum call_result bad = check_value(c, c->argv[2], c->argv[3], &err);
    if (err)
        return bad;
    if ((err = set_expiry(opt, c->now_ms, &expires_ms)) == ERR_OK)
        err = access_vault(c, c->argv[1], &v);
    if (err == ERR_OK)
        err = access_change_set(c, v, c->argv[3], c->argv[2].n + opt[SET_O_STAGE].b.n + opt[SET_O_META].b.n, &ch);
    if (err)
        return access_fail(c, err, c->argv[1]);
    struct step *s = &ch->step[0];
    s->kind = STEP_SECRET_SET;
    s->flags = set_flags(opt);
    s->version = (uint32_t)opt[SET_O_CAS].i;
    s->path = change_keep(ch, c->argv[2]);
    s->expires_ms = expires_ms;
    s->label = change_keep(ch, opt[SET_O_STAGE].b);
    s->meta = change_keep(ch, opt[SET_O_META].b);
    return change_submit(c, ch, v, answer_version);
}

/* CURRENT and PREVIOUS move by themselves. */
static int label_ok(struct bytes label)
{
    return label.n >= 1 && label.n <= SECRET_LABEL_MAX && !bytes_equal(label, bytes_str("CURRENT")) &&
           !bytes_equal(label, bytes_str("PREVIOUS"));
}

enum call_result secret_set(struct call *c)
{
    static const struct option_value no_options[SET_OPTS];
    struct option_value opt[SET_OPTS];

    if (c->argc == 4)
        return set_with(c, no_options);
    if (options_parse(c, 4, set_options, SET_OPTS, opt))
        return CALL_DONE;
    if (opt[SET_O_STAGE].given && !label_ok(opt[SET_O_STAGE].b))
        return options_syntax_error(c, bytes_str("STAGE"));
    if (opt[SET_O_META].b.n > SECRET_META_MAX)
        return call_errorf(c, ERR_TOOBIG, "metadata has at most %d bytes", SECRET_META_MAX);
    return set_with(c, opt);
}

static void answer_versions(struct change *ch, struct reply *r)
{
    reply_array(r, ch->w.steps);
    for (unsigned i = 0; i < ch->w.steps; i++)
        reply_int(r, ch->step[i].out_version);
}

static enum err mset_fill(struct call *c, struct change *ch, struct vault *v)
{
    enum err err = ERR_OK;
    for (unsigned i = 0; i < ch->w.steps && err == ERR_OK; i++) {
        struct step *s = &ch->step[i];
        s->kind = STEP_SECRET_SET;
        s->path = change_keep(ch, c->argv[2 + 2 * i]);
        err = access_plain(c, v, c->argv[3 + 2 * i], &s->plain);
    }
    return err;
}

enum call_result secret_mset(struct call *c)
{
    struct vault *v;
    struct change *ch;
    size_t keep = 0;
    enum err err;

    if (c->argc % 2)
        return call_errorf(c, ERR_ARITY, "wrong number of arguments for 'secret.mset' command");
    for (unsigned i = 2; i < c->argc; i += 2) {
        enum call_result bad = check_value(c, c->argv[i], c->argv[i + 1], &err);
        if (err)
            return bad;
        keep += c->argv[i].n;
    }
    if ((err = access_vault(c, c->argv[1], &v)) == ERR_OK)
        err = change_new((c->argc - 2) / 2, keep, &ch);
    if (err)
        return access_fail(c, err, c->argv[1]);
    if ((err = mset_fill(c, ch, v)) != ERR_OK) {
        change_free(ch);
        return access_fail(c, err, c->argv[1]);
    }
    return change_submit(c, ch, v, answer_versions);
}

/* ---- changes without a value: vault path ... ---- */

/* One step about argv[2]; s holds everything but the path and its borrowed label and meta, which are copied. */
static enum call_result change_one(struct call *c, struct step s, void (*answer)(struct change *, struct reply *))
{
    struct vault *v;
    struct change *ch;
    if (!path_ok(c->argv[2]))
        return call_error(c, ERR_BADPATH);
    enum err err = access_vault(c, c->argv[1], &v);
    if (err == ERR_OK)
        err = change_new(1, c->argv[2].n + s.label.n + s.meta.n, &ch);
    if (err)
        return access_fail(c, err, c->argv[1]);
    s.path = change_keep(ch, c->argv[2]);
    s.label = change_keep(ch, s.label);
    s.meta = change_keep(ch, s.meta);
    ch->step[0] = s;
    return change_submit(c, ch, v, answer);
}

static void answer_ok_or_nil(struct change *ch, struct reply *r)
{
    if (ch->step[0].nil)
        reply_nil(r);
    else
        reply_ok(r);
}

static void answer_bit(struct change *ch, struct reply *r)
{
    reply_int(r, !ch->step[0].nil);
}

static void answer_out_version(struct change *ch, struct reply *r)
{
    reply_int(r, ch->step[0].out_version);
}

static void answer_changed(struct change *ch, struct reply *r)
{
    int64_t n = 0;
    for (unsigned i = 0; i < ch->w.steps; i++)
        n += ch->step[i].changed;
    reply_int(r, n);
}

enum call_result secret_del(struct call *c)
{
    struct vault *v;
    struct change *ch;
    size_t keep = 0;
    for (unsigned i = 2; i < c->argc; i++) {
        if (!path_ok(c->argv[i]))
            return call_error(c, ERR_BADPATH);
        keep += c->argv[i].n;
    }
    enum err err = access_vault(c, c->argv[1], &v);
    if (err == ERR_OK)
        err = change_new(c->argc - 2, keep, &ch);
    if (err)
        return access_fail(c, err, c->argv[1]);
    for (unsigned i = 0; i < c->argc - 2; i++)
        ch->step[i] = (struct step){.kind = STEP_SECRET_DELETE, .path = change_keep(ch, c->argv[2 + i])};
    return change_submit(c, ch, v, answer_changed);
}

enum call_result secret_undelete(struct call *c)
{
    return change_one(c, (struct step){.kind = STEP_SECRET_UNDELETE}, answer_ok_or_nil);
}

enum call_result secret_destroy(struct call *c)
{
    enum { VERSION, OPTS };
    static const struct option options[OPTS] = {[VERSION] = {"VERSION", OPTION_INT, .min = 1, .max = UINT32_MAX}};
    struct option_value opt[OPTS];
    if (options_parse(c, 3, options, OPTS, opt))
        return CALL_DONE;
    return change_one(c, (struct step){.kind = STEP_SECRET_DESTROY, .version = (uint32_t)opt[VERSION].i},
                      answer_out_version);
}

enum call_result secret_expire(struct call *c)
{
    int64_t seconds;
    struct step s = {.kind = STEP_SECRET_EXPIRE};
    if (!number_parse(c->argv[3], &seconds))
        return call_error(c, ERR_NOTINT);
    if (access_expire_ms(seconds, 1000, 0, c->now_ms, &s.expires_ms))
        return call_error(c, ERR_BADEXPIRE);
    return change_one(c, s, answer_bit);
}

enum call_result secret_persist(struct call *c)
{
    return change_one(c, (struct step){.kind = STEP_SECRET_EXPIRE}, answer_bit);
}

enum call_result secret_stage(struct call *c)
{
    int64_t version;
    struct bytes label = c->argv[3];
    if (label.n < 1 || label.n > SECRET_LABEL_MAX)
        return call_errorf(c, ERR_RANGE, "a label has 1 to %d bytes", SECRET_LABEL_MAX);
    if (!number_parse(c->argv[4], &version) || version < 1 || version > UINT32_MAX)
        return call_error(c, ERR_NOTINT);
    return change_one(c, (struct step){.kind = STEP_SECRET_STAGE, .version = (uint32_t)version, .label = label},
                      answer_ok_or_nil);
}

/* ---- reads of the head ---- */

/* Reads the head of argv[2]; 1: go on; 0: replied or parked, *result tells. A missing one is replied as nil unless
 * missing_ok. */
static int open_head(struct call *c, struct secret_view *view, enum err *err)
{
    struct vault *v;
    *err = access_vault(c, c->argv[1], &v);
    if (*err == ERR_OK)
        *err = access_read_head(c, v, c->argv[2], view);
    return *err == ERR_OK;
}

enum call_result secret_ttl(struct call *c)
{
    struct secret_view view;
    enum err err;
    int64_t ms = -2;
    if (open_head(c, &view, &err)) {
        ms = access_ttl_ms(&view.head, c->now_ms);
        secret_view_release(&view);
    } else if (err != ERR_NOTFOUND) {
        return access_fail(c, err, c->argv[1]);
    }
    reply_int(c->reply, ms < 0 ? ms : (ms + 999) / 1000);
    return CALL_DONE;
}

enum call_result secret_state(struct call *c)
{
    struct secret_view view;
    enum err err;
    if (open_head(c, &view, &err)) {
        reply_bulk_str(c->reply, access_state_name(&view.head, c->now_ms));
        secret_view_release(&view);
        return CALL_DONE;
    }
    if (err != ERR_NOTFOUND)
        return access_fail(c, err, c->argv[1]);
    reply_nil(c->reply);
    return CALL_DONE;
}

enum call_result secret_meta(struct call *c)
{
    struct secret_view view;
    enum err err;
    if (c->argc > 4)
        return options_syntax_error(c, c->argv[4]);
    if (c->argc == 4) {
        if (c->argv[3].n > SECRET_META_MAX)
            return call_errorf(c, ERR_TOOBIG, "metadata has at most %d bytes", SECRET_META_MAX);
        return change_one(c, (struct step){.kind = STEP_SECRET_META, .meta = c->argv[3]}, answer_ok_or_nil);
    }
    if (!open_head(c, &view, &err) && err != ERR_NOTFOUND)
        return access_fail(c, err, c->argv[1]);
    if (err == ERR_OK && secret_visible(&view.head, c->now_ms) && view.head.meta.n)
        reply_bulk(c->reply, view.head.meta);
    else
        reply_nil(c->reply);
    if (err == ERR_OK)
        secret_view_release(&view);
    return CALL_DONE;
}

static void reply_version(struct reply *r, const struct secret_head *h, const struct secret_version *v)
{
    reply_map(r, 5);
    reply_bulk_str(r, "version");
    reply_int(r, v->version);
    reply_bulk_str(r, "stages");
    access_reply_stages(r, h, v->version);
    reply_bulk_str(r, "created-at");
    reply_int(r, (int64_t)v->created_ms);
    reply_bulk_str(r, "state");
    reply_bulk_str(r, v->flags & SECRET_VERSION_DELETED ? "DELETED" : "ACTIVE");
    reply_bulk_str(r, "bytes");
    reply_int(r, v->sealed_bytes > SEAL_OVERHEAD ? v->sealed_bytes - SEAL_OVERHEAD : 0);
}

enum call_result secret_versions(struct call *c)
{
    struct secret_version v[SECRET_VERSIONS_MAX];
    struct secret_view view;
    enum err err;
    if (!open_head(c, &view, &err)) {
        if (err != ERR_NOTFOUND)
            return access_fail(c, err, c->argv[1]);
        reply_array(c->reply, 0);
        return CALL_DONE;
    }
    if ((err = secret_versions_get(&view.head, v)) == ERR_OK) {
        reply_array(c->reply, view.head.versions);
        for (unsigned i = view.head.versions; i-- > 0;)
            reply_version(c->reply, &view.head, &v[i]);
    }
    secret_view_release(&view);
    return err ? access_fail(c, err, c->argv[1]) : CALL_DONE;
}
