/* cmd_key.c - KEY.*: making keys, changing them, ending them. What uses a key is in cmd_key_use.c, what tells of it in
 * cmd_key_info.c.
 *
 * Each handler parses, says in change() what becomes of the record, and leaves the rest to keywrite.h. */
#include <stdio.h>

#include "server/handlers.h"
#include "server/keyid.h"
#include "server/keywrite.h"
#include "server/options.h"
#include "server/server.h"

#define DAY_S 86400
#define DELETE_MIN_S (7 * DAY_S)
#define DELETE_MAX_S (30 * DAY_S)

static void answer_version(struct keywrite *k, struct reply *r)
{
    reply_int(r, k->version);
}

/* What every change but CREATE asks first. */
static enum err must_exist(struct keywrite *k)
{
    return k->old.hold ? ERR_OK
                       : keywrite_fail(k, ERR_NOKEY, "no key '%s' in vault '%s': make it with KEY.CREATE", k->name,
                                       k->vault->name);
}

static enum err must_stay(struct keywrite *k, const struct key_record *rec)
{
    enum err err = must_exist(k);
    if (err == ERR_OK && keyop_deleting(rec))
        err =
            keywrite_fail(k, ERR_KEYSTATE, "key '%s' is scheduled for deletion: KEY.UNDELETE brings it back", k->name);
    return err;
}

/* A change that takes nothing but vault and key. */
static enum call_result start(struct call *c, enum err (*change)(struct keywrite *k, struct key_record *rec))
{
    struct keywrite *k;
    if (keywrite_new(c, &k))
        return CALL_DONE;
    k->change = change;
    return keywrite_start(c, k);
}

/* ---- KEY.CREATE vault key [TYPE t] [META json] ---- */

static enum err change_create(struct keywrite *k, struct key_record *rec)
{
    if (k->old.hold)
        return keywrite_fail(k, ERR_KEYEXISTS,
                             "key '%s' exists already in vault '%s': use KEY.ROTATE for a new version", k->name,
                             k->vault->name);
    k->version = 1;
    if (!k->generated)
        return ERR_AGAIN;
    *rec = (struct key_record){.state = KEY_ENABLED,
                               .alg = k->alg->code,
                               .min_version = 1,
                               .created_ms = k->now_ms,
                               .meta = buf_bytes(&k->meta)};
    memcpy(rec->id, k->id, sizeof rec->id);
    return keywrite_add_version(k, rec);
}

static enum err reply_bad_type(struct call *c)
{
    char names[256];
    size_t at = 0;
    for (unsigned i = 0; alg_row(i); i++)
        at += (size_t)snprintf(names + at, at < sizeof names ? sizeof names - at : 0, "%s%s", i ? ", " : "",
                               alg_row(i)->name);
    call_errorf(c, ERR_SYNTAX, "unknown key type: use one of %s", names);
    return ERR_SYNTAX;
}

static enum err take_meta(struct call *c, struct keywrite *k, struct bytes meta)
{
    enum err err = meta.n > KEYWRITE_META_MAX ? ERR_TOOBIG : buf_put(&k->meta, meta.p, meta.n);
    if (err == ERR_TOOBIG)
        call_errorf(c, err, "metadata is limited to %u bytes", (unsigned)KEYWRITE_META_MAX);
    else if (err)
        call_error(c, err);
    return err;
}

enum call_result cmd_key_create(struct call *c)
{
    enum { TYPE, META, OPTS };
    static const struct option options[OPTS] = {
        [TYPE] = {"TYPE", OPTION_BYTES, 0, 0, 0}, [META] = {"META", OPTION_BYTES, 0, 0, 0}};
    struct option_value opt[OPTS];
    struct keywrite *k;

    if (options_parse(c, 3, options, OPTS, opt))
        return CALL_DONE;
    const struct alg *alg = alg_by_name(opt[TYPE].given ? opt[TYPE].b : bytes_str("aes-256"));
    if (!alg ? reply_bad_type(c) : keywrite_new(c, &k))
        return CALL_DONE;
    k->alg = alg;
    k->change = change_create;
    k->answer = answer_version;
    enum err err = take_meta(c, k, opt[META].b);
    if (err == ERR_OK && (err = keyid_make(k->id, k->vault->id, bytes_str(k->name))) != ERR_OK)
        call_error(c, err);
    if (err == ERR_OK)
        return keywrite_start(c, k);
    keywrite_free(k);
    return CALL_DONE;
}

/* ---- KEY.ROTATE vault key ---- */

static enum err change_rotate(struct keywrite *k, struct key_record *rec)
{
    enum err err = must_stay(k, rec);
    if (err)
        return err;
    if (rec->state != KEY_ENABLED)
        return keywrite_fail(k, ERR_KEYSTATE, "key '%s' is disabled: KEY.ENABLE it first", k->name);
    if (rec->versions >= KEYWRITE_VERSIONS_MAX)
        return keywrite_fail(k, ERR_QUOTA, "key '%s' has %u versions, the most that one key can have", k->name,
                             (unsigned)KEYWRITE_VERSIONS_MAX);
    if (!k->generated || k->version != rec->newest + 1 || !keywrite_is(k, rec)) {
        k->alg = alg_by_code(rec->alg);
        k->version = rec->newest + 1;
        memcpy(k->id, rec->id, sizeof k->id);
        return k->alg ? ERR_AGAIN : ERR_CORRUPT;
    }
    return keywrite_add_version(k, rec);
}

enum call_result cmd_key_rotate(struct call *c)
{
    struct keywrite *k;
    if (keywrite_new(c, &k))
        return CALL_DONE;
    k->change = change_rotate;
    k->answer = answer_version;
    return keywrite_start(c, k);
}

/* ---- KEY.SET vault key [MINVERSION n] [META json] ---- */

/* k->arg: the new MINVERSION, 0: as it is, with SET_META added when there is metadata. */
#define SET_META (1ll << 40)

static enum err change_set(struct keywrite *k, struct key_record *rec)
{
    enum err err = must_stay(k, rec);
    uint32_t min = (uint32_t)(k->arg & UINT32_MAX);
    if (err)
        return err;
    if (min > rec->newest)
        return keywrite_fail(k, ERR_RANGE, "MINVERSION must be from 1 to %lu, the newest version of key '%s'",
                             (unsigned long)rec->newest, k->name);
    if (min)
        rec->min_version = min;
    if (k->arg & SET_META)
        rec->meta = buf_bytes(&k->meta);
    return ERR_OK;
}

enum call_result cmd_key_set(struct call *c)
{
    enum { MINVERSION, META, OPTS };
    static const struct option options[OPTS] = {
        [MINVERSION] = {"MINVERSION", OPTION_INT, 0, 1, UINT32_MAX}, [META] = {"META", OPTION_BYTES, 0, 0, 0}};
    struct option_value opt[OPTS];
    struct keywrite *k;

    if (options_parse(c, 3, options, OPTS, opt) || keywrite_new(c, &k))
        return CALL_DONE;
    k->change = change_set;
    k->arg = opt[MINVERSION].i | (opt[META].given ? SET_META : 0);
    if (take_meta(c, k, opt[META].b)) {
        keywrite_free(k);
        return CALL_DONE;
    }
    return keywrite_start(c, k);
}

/* ---- KEY.ENABLE, KEY.DISABLE vault key ---- */

static enum err change_state(struct keywrite *k, struct key_record *rec, uint8_t state)
{
    enum err err = must_stay(k, rec);
    if (err == ERR_OK && rec->state == state)
        err = ERR_END;
    rec->state = state;
    return err;
}

static enum err change_enable(struct keywrite *k, struct key_record *rec)
{
    return change_state(k, rec, KEY_ENABLED);
}

static enum err change_disable(struct keywrite *k, struct key_record *rec)
{
    return change_state(k, rec, KEY_DISABLED);
}

enum call_result cmd_key_enable(struct call *c)
{
    return start(c, change_enable);
}

enum call_result cmd_key_disable(struct call *c)
{
    return start(c, change_disable);
}

/* ---- KEY.DELETE vault key [IN seconds] [FORCE], KEY.UNDELETE vault key ---- */

static enum err change_delete(struct keywrite *k, struct key_record *rec)
{
    rec->delete_ms = k->now_ms + (uint64_t)k->arg * 1000;
    return must_exist(k);
}

static enum err change_undelete(struct keywrite *k, struct key_record *rec)
{
    enum err err = must_exist(k);
    if (err == ERR_OK && !keyop_deleting(rec))
        err = keywrite_fail(k, ERR_KEYSTATE, "key '%s' is not scheduled for deletion", k->name);
    rec->delete_ms = 0;
    return err;
}

enum call_result cmd_key_delete(struct call *c)
{
    enum { IN, FORCE, OPTS };
    static const struct option options[OPTS] = {
        [IN] = {"IN", OPTION_INT, 0, 0, DELETE_MAX_S}, [FORCE] = {"FORCE", OPTION_FLAG, 0, 0, 0}};
    struct option_value opt[OPTS];
    struct keywrite *k;

    if (options_parse(c, 3, options, OPTS, opt))
        return CALL_DONE;
    int64_t in = opt[IN].given ? opt[IN].i : DELETE_MIN_S;
    if (in < DELETE_MIN_S && !opt[FORCE].given)
        return call_errorf(c, ERR_RANGE, "IN must be from %d to %d seconds, 7 to 30 days; with FORCE it may be less",
                           DELETE_MIN_S, DELETE_MAX_S);
    if (keywrite_new(c, &k))
        return CALL_DONE;
    k->change = change_delete;
    k->arg = in;
    return keywrite_start(c, k);
}

enum call_result cmd_key_undelete(struct call *c)
{
    return start(c, change_undelete);
}
