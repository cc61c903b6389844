/* access.c - see access.h. */
#include "server/access.h"

#include "server/command.h"
#include "server/dek.h"
#include "server/io.h"
#include "server/multi.h"
#include "server/server.h"

enum err access_missed(struct call *c, enum err e)
{
    c->missed |= e == ERR_NOVAULT || e == ERR_NOTFOUND;
    return e;
}

enum err access_vault(struct call *c, struct bytes name, struct vault **out)
{
    *out = vaults_find(engine_vaults(c->srv->engine), name);
    if (!*out)
        return access_missed(c, ERR_NOVAULT);
    return atomic_load_explicit(&(*out)->state, memory_order_relaxed) == VAULT_ACTIVE ? ERR_OK : ERR_KEYSTATE;
}

/* A data key is good for 2^32 messages: the one that was got may be used up between the two calls. Asking again makes
 * the next one. */
enum err access_plain(struct call *c, struct vault *v, struct bytes value, struct plain **out)
{
    struct dek *d;
    enum err err;
    *out = NULL;
    while ((err = deks_writer(c->srv->deks, c, v, &d)) == ERR_OK) {
        if ((err = plain_new(d, value, 0, NULL, out)) == ERR_OK)
            return ERR_OK;
        dek_unref(d);
        if (err != ERR_AGAIN)
            return err;
    }
    return err;
}

enum err access_change_set(struct call *c, struct vault *v, struct bytes value, size_t keep_bytes, struct change **out)
{
    struct dek *d;
    enum err err;
    *out = NULL;
    while ((err = deks_writer(c->srv->deks, c, v, &d)) == ERR_OK) {
        if ((err = change_new_set(d, value, keep_bytes, out)) != ERR_AGAIN)
            return err;
    }
    return err;
}

enum call_result access_fail(struct call *c, enum err e, struct bytes vault)
{
    if (e == ERR_AGAIN)
        return CALL_PARK;
    if (e == ERR_TOOBIG && c->cmd->flags & CMD_READ)
        return call_errorf(c, e, "the answer would be too large: ask for less at a time");
    if (e == ERR_NOVAULT && vault_name_ok(vault))
        return call_errorf(c, e, "no vault '%.*s': make it with VAULT.CREATE", (int)vault.n, (const char *)vault.p);
    if (e == ERR_KEYSTATE && vault_name_ok(vault))
        return call_errorf(c, e, "vault '%.*s' is scheduled for deletion: VAULT.UNDELETE brings it back", (int)vault.n,
                           (const char *)vault.p);
    return call_error(c, e);
}

enum err access_read(struct call *c, struct vault *v, struct bytes path, uint32_t version, struct bytes label,
                     struct secret_view *view)
{
    if (c->exec && !version && !label.n)
        return multi_read(c->exec, v, path, 1, c->now_ms, view);
    return access_missed(c, secret_read(c->srv->engine, v, path, version, label, view));
}

enum err access_read_head(struct call *c, struct vault *v, struct bytes path, struct secret_view *view)
{
    if (c->exec)
        return multi_read(c->exec, v, path, 0, c->now_ms, view);
    return access_missed(c, secret_read_head(c->srv->engine, v, path, view));
}

/* Opens into room, which has sealed_plain_len bytes. */
static enum err open_into(struct call *c, struct vault *v, struct bytes path, const struct secret_view *view,
                          uint8_t *room)
{
    struct seal_bind bind = {.vault = v->id, .version = view->version, .path = path};
    for (int tries = 0; tries < 2; tries++) {
        enum err err = opener_open(io_opener(c->io), view->value, &bind, room);
        if (err != ERR_AGAIN)
            return err;
        /* Its answer OK means that another thread has brought the key meanwhile. */
        if ((err = deks_reader(c->srv->deks, c, v, sealed_dek_version(view->value))) != ERR_OK)
            return err;
    }
    return ERR_HSMDOWN;
}

enum err access_reply_value(struct call *c, struct vault *v, struct bytes path, const struct secret_view *view)
{
    size_t mark = reply_mark(c->reply);
    uint8_t *room;
    if (reply_bulk_begin(c->reply, sealed_plain_len(view->value), &room))
        return c->reply->failed;
    enum err err = open_into(c, v, path, view, room);
    if (err == ERR_OK) {
        reply_bulk_end(c->reply);
        return ERR_OK;
    }
    reply_bulk_abandon(c->reply);
    reply_rewind(c->reply, mark);
    return err;
}

enum err access_value(struct call *c, struct vault *v, struct bytes path, const struct secret_view *view,
                      struct buf *out)
{
    uint8_t *room;
    size_t n = sealed_plain_len(view->value);
    enum err err = buf_reserve(out, n, &room);
    if (err == ERR_OK)
        err = open_into(c, v, path, view, room);
    if (err == ERR_OK)
        buf_added(out, n);
    return err;
}

enum err access_openable(struct call *c, struct vault *v, struct bytes path)
{
    struct secret_view view;
    struct buf value;
    enum err err = secret_read(c->srv->engine, v, path, 0, bytes_of(NULL, 0), &view);
    if (err)
        return err == ERR_NOTFOUND ? ERR_OK : err;
    buf_init_secret(&value, SEAL_VALUE_MAX);
    err = access_value(c, v, path, &view, &value);
    buf_fini(&value);
    secret_view_release(&view);
    return err;
}

enum err access_open(struct server *srv, struct opener *o, struct sealed value, const struct seal_bind *bind,
                     struct vault *v, struct buf *out)
{
    size_t n = sealed_plain_len(value);
    uint8_t *room;
    buf_clear(out);
    enum err err = buf_reserve(out, n, &room);
    for (int tries = 0; !err && tries < 3; tries++) {
        err = opener_open(o, value, bind, room);
        if (err == ERR_OK)
            buf_added(out, n);
        if (err != ERR_AGAIN)
            return err;
        err = deks_wait_reader(srv->deks, v, sealed_dek_version(value));
    }
    return err ? err : ERR_HSMDOWN;
}

const char *access_state_name(const struct secret_head *h, uint64_t now_ms)
{
    if (h->state == SECRET_DELETED)
        return "DELETED";
    return secret_visible(h, now_ms) ? "ACTIVE" : "EXPIRED";
}

void access_reply_stages(struct reply *r, const struct secret_head *h, uint32_t version)
{
    size_t mark = reply_mark(r), n = 0;
    if (h->current == version && ++n)
        reply_bulk_str(r, "CURRENT");
    if (h->previous == version && ++n)
        reply_bulk_str(r, "PREVIOUS");
    const uint8_t *p = h->label_bytes.p;
    for (unsigned i = 0; i < h->labels; i++) {
        if (get_le32(p + 1 + p[0]) == version && ++n)
            reply_bulk(r, bytes_of(p + 1, p[0]));
        p += 1 + p[0] + 4;
    }
    reply_insert_array(r, mark, n);
}

static void reply_time_or_nil(struct reply *r, uint64_t ms)
{
    if (ms)
        reply_int(r, (int64_t)ms);
    else
        reply_nil(r);
}

void access_reply_meta(struct reply *r, const struct secret_head *h, uint32_t version, uint64_t now_ms)
{
    struct secret_version v = {0};
    secret_version_find(h, version, &v);
    reply_bulk_str(r, "version");
    reply_int(r, version);
    reply_bulk_str(r, "stages");
    access_reply_stages(r, h, version);
    reply_bulk_str(r, "created-at");
    reply_int(r, (int64_t)v.created_ms);
    reply_bulk_str(r, "expires-at");
    reply_time_or_nil(r, h->expires_ms);
    reply_bulk_str(r, "state");
    reply_bulk_str(r, access_state_name(h, now_ms));
    reply_bulk_str(r, "meta");
    if (h->meta.n)
        reply_bulk(r, h->meta);
    else
        reply_nil(r);
}

#define AT_ONCE_TRIES 4

enum call_result access_at_once(struct call *c, enum err (*pass)(struct call *c, struct engine_moment *m),
                                struct bytes vault)
{
    size_t mark = reply_mark(c->reply);
    for (int tries = 0; tries < AT_ONCE_TRIES; tries++) {
        struct engine_moment m;
        engine_moment_begin(c->srv->engine, &m);
        enum err err = pass(c, &m);
        if (err == ERR_OK && (c->exec || c->reply->failed || engine_moment_held(c->srv->engine, &m)))
            return CALL_DONE;
        reply_rewind(c->reply, mark);
        if (err)
            return access_fail(c, err, vault);
    }
    return CALL_PARK; /* on no list: in the next turn */
}

enum err access_expire_ms(int64_t value, int unit_ms, int absolute, uint64_t now_ms, uint64_t *out)
{
    int64_t ms;
    *out = 0;
    if (__builtin_mul_overflow(value, (int64_t)unit_ms, &ms) ||
        (!absolute && __builtin_add_overflow(ms, (int64_t)now_ms, &ms)))
        return ERR_BADEXPIRE;
    /* A time before the epoch lies in the past like any other; 0 would mean "never". */
    *out = ms > 0 ? (uint64_t)ms : 1;
    return ERR_OK;
}

int64_t access_ttl_ms(const struct secret_head *h, uint64_t now_ms)
{
    if (!secret_visible(h, now_ms))
        return -2;
    return h->expires_ms ? (int64_t)(h->expires_ms - now_ms) : -1;
}

void access_reply_cursor(struct reply *r, struct bytes last, int more)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t *room;
    if (!more) {
        reply_bulk_str(r, "0");
        return;
    }
    if (reply_bulk_begin(r, 1 + 2 * last.n, &room))
        return;
    *room++ = 'c';
    for (size_t i = 0; i < last.n; i++) {
        *room++ = (uint8_t)digits[last.p[i] >> 4];
        *room++ = (uint8_t)digits[last.p[i] & 15];
    }
    reply_bulk_end(r);
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

enum err access_cursor_path(struct bytes cursor, struct buf *path)
{
    if (bytes_equal(cursor, bytes_str("0")))
        return ERR_OK;
    if (cursor.n < 3 || cursor.p[0] != 'c' || cursor.n % 2 == 0 || cursor.n > 1 + 2 * SECRET_PATH_MAX)
        return ERR_RANGE;
    for (size_t i = 1; i < cursor.n; i += 2) {
        int hi = hex_digit(cursor.p[i]), lo = hex_digit(cursor.p[i + 1]);
        if (hi < 0 || lo < 0)
            return ERR_RANGE;
        enum err err = buf_put_u8(path, (uint8_t)(hi << 4 | lo));
        if (err)
            return err;
    }
    return ERR_OK;
}

enum call_result access_park_applied(struct call *c, struct vault *v)
{
    uint64_t lsn;
    enum call_result parked = call_park(c, c->srv->applied);
    /* The round may have ended between the look and the parking. */
    if (engine_list_ready(c->srv->engine, v, &lsn) != ERR_AGAIN)
        waitlist_wake(c->srv->applied);
    return parked;
}
