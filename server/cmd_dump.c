/* cmd_dump.c - DUMP and RESTORE: values to and from a Redis, in its own format (rdb.h). Texts are Redis's. */
#include "resp/number.h"
#include "server/access.h"
#include "server/facade.h"
#include "server/handlers.h"
#include "server/keyevent.h"
#include "server/options.h"
#include "server/rdb.h"
#include "server/server.h"

static const struct bytes none = {NULL, 0};

/* ---- DUMP ---- */

static enum err put_payload(struct call *c, const struct facade_key *k, const struct secret_view *view, struct buf *out)
{
    enum err err = rdb_string_begin(out, sealed_plain_len(view->value));
    if (err == ERR_OK)
        err = access_value(c, k->vault, k->path, view, out);
    return err ? err : rdb_string_end(out);
}

enum call_result string_dump(struct call *c)
{
    struct facade_key k;
    struct secret_view view;
    struct buf payload;
    enum err err = facade_read(c, c->argv[1], 1, &k, &view);
    if (err == ERR_NOTFOUND || err == ERR_BADPATH) {
        reply_nil(c->reply);
        return CALL_DONE;
    }
    if (err)
        return access_fail(c, err, none);
    buf_init_secret(&payload, SIZE_MAX / 4);
    if ((err = put_payload(c, &k, &view, &payload)) == ERR_OK)
        reply_bulk(c->reply, buf_bytes(&payload));
    buf_fini(&payload);
    secret_view_release(&view);
    return err ? access_fail(c, err, none) : CALL_DONE;
}

/* ---- RESTORE ---- */

enum { REPLACE, ABSTTL, IDLETIME, FREQ, OPTS };
static const struct option options[OPTS] = {
    [REPLACE] = {"REPLACE", OPTION_FLAG},
    [ABSTTL] = {"ABSTTL", OPTION_FLAG},
    [IDLETIME] = {"IDLETIME", OPTION_INT, .group = 1}, /* looks are not remembered */
    [FREQ] = {"FREQ", OPTION_INT, .group = 1},
};

static const char busy[] = "Target key name already exists.";

static void answer_restored(struct change *ch, struct reply *r)
{
    if (ch->step[0].nil && ch->step[0].flags & SET_NX)
        reply_errorf(r, "BUSYKEY", "%s", busy);
    else
        reply_ok(r);
}

/* 0: for ever. ERR_OK, or replied. */
static enum err parse_ttl(struct call *c, int absolute, uint64_t *expires_ms)
{
    int64_t ttl;
    enum err err = ERR_OK;
    *expires_ms = 0;
    if (!number_parse(c->argv[2], &ttl))
        err = ERR_NOTINT;
    else if (ttl < 0 || (ttl && access_expire_ms(ttl, 1, absolute, c->now_ms, expires_ms)))
        err = ERR_BADEXPIRE;
    if (err == ERR_NOTINT)
        call_error(c, err);
    else if (err)
        call_errorf(c, err, "Invalid TTL value, must be >= 0");
    return err;
}

static enum call_result bad_payload(struct call *c, enum err err)
{
    if (err == ERR_TOOBIG)
        return call_errorf(c, err, "the value has more bytes than secret-max-bytes allows");
    if (err == ERR_CORRUPT)
        return call_errorf(c, ERR_SYNTAX, "DUMP payload version or checksum are wrong");
    return err == ERR_SYNTAX ? call_errorf(c, err, "Bad data format") : access_fail(c, err, none);
}

/* For a client that gives both: the key tells more than what is wrong with the payload. */
static int is_there(struct call *c)
{
    struct facade_key k;
    struct secret_view view;
    if (facade_resolve(c, c->argv[1], 0, &k) || secret_read_head(c->srv->engine, k.vault, k.path, &view))
        return 0;
    int there = secret_visible(&view.head, c->now_ms);
    secret_view_release(&view);
    return there;
}

/* What is over when it comes is not written; it takes away what it replaces. */
static enum err restore_change(struct call *c, const struct facade_key *k, struct bytes value, uint64_t expires_ms,
                               struct change **out)
{
    int over = expires_ms && expires_ms <= c->now_ms;
    enum err err = over ? change_new(1, k->path.n, out) : access_change_set(c, k->vault, value, k->path.n, out);
    if (err)
        return err;
    struct step *s = &(*out)->step[0];
    s->kind = over ? STEP_SECRET_READ : STEP_SECRET_SET;
    s->event = over ? EVENT_NONE : EVENT_RESTORE;
    s->path = change_keep(*out, k->path);
    s->expires_ms = over ? 0 : expires_ms;
    return ERR_OK;
}

static enum call_result restore(struct call *c, struct bytes value, uint64_t expires_ms, int replace)
{
    struct facade_key k;
    struct change *ch;
    enum err err = facade_resolve(c, c->argv[1], 1, &k);
    if (err == ERR_OK)
        err = restore_change(c, &k, value, expires_ms, &ch);
    if (err)
        return access_fail(c, err, none);
    struct step *s = &ch->step[0];
    s->flags = replace ? 0 : SET_NX;
    if (replace && s->kind == STEP_SECRET_READ)
        s->kind = STEP_SECRET_DESTROY;
    return change_submit(c, ch, k.vault, answer_restored);
}

enum call_result string_restore(struct call *c)
{
    struct option_value opt[OPTS];
    struct buf value;
    uint64_t expires_ms;
    enum call_result result;
    if (options_parse(c, 4, options, OPTS, opt) || parse_ttl(c, opt[ABSTTL].given, &expires_ms))
        return CALL_DONE;
    if (opt[IDLETIME].i < 0)
        return call_errorf(c, ERR_RANGE, "Invalid IDLETIME value, must be >= 0");
    if (opt[FREQ].i < 0 || opt[FREQ].i > 255)
        return call_errorf(c, ERR_RANGE, "Invalid FREQ value, must be >= 0 and <= 255");
    buf_init_secret(&value, (size_t)config_int(c->srv->config, CFG_SECRET_MAX_BYTES));
    enum err err = rdb_string_read(c->argv[3], &value);
    if (!err) {
        result = restore(c, buf_bytes(&value), expires_ms, opt[REPLACE].given);
    } else if (!opt[REPLACE].given && is_there(c)) {
        reply_errorf(c->reply, "BUSYKEY", "%s", busy);
        result = CALL_DONE;
    } else {
        result = bad_payload(c, err);
    }
    buf_fini(&value);
    return result;
}
