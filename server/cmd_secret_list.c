/* cmd_secret_list.c - SECRET.LIST: one page of a folder.
 *
 * A page costs what it returns: the scan starts at the cursor by a seek, and a sub-folder is passed over by a seek, not
 * by reading it. A listing that needs what the applier has not written yet parks until it has (engine_list_ready).
 * Soft-deleted and expired secrets are skipped; a page may for that reason be short, or empty with a cursor to go on:
 * the keys looked at are bounded too.
 */
#include "server/access.h"
#include "server/command.h"
#include "server/handlers.h"
#include "server/options.h"
#include "server/server.h"

#define COUNT_DEFAULT 100
#define COUNT_MAX 10000
#define SCAN_PER_NAME 10

struct page {
    struct reply *r;
    int with_meta;
    size_t names;
};

static int visit(void *arg, struct bytes path, const struct secret_head *h)
{
    struct page *p = arg;
    reply_bulk(p->r, path);
    p->names++;
    if (!p->with_meta)
        return 1;
    if (!h) {
        reply_nil(p->r);
    } else {
        reply_map(p->r, 3);
        reply_bulk_str(p->r, "version");
        reply_int(p->r, h->current);
        reply_bulk_str(p->r, "expires-at");
        reply_int(p->r, h->expires_ms ? (int64_t)h->expires_ms : -1);
        reply_bulk_str(p->r, "meta");
        reply_bulk(p->r, h->meta);
    }
    return 1;
}

/* The folder as a prefix: with a '/' at its end unless it is the root. */
static enum err folder_prefix(struct bytes folder, struct buf *out)
{
    enum err err = buf_put(out, folder.p, folder.n);
    if (err == ERR_OK && folder.n && folder.p[folder.n - 1] != '/')
        err = buf_put_u8(out, '/');
    return err;
}

static enum call_result list_page(struct call *c, struct vault *v, struct list_query *q, int with_meta)
{
    struct buf names, last;
    struct reply r;
    struct page page = {.r = &r, .with_meta = with_meta};
    int more;

    /* The cursor stands before the names, but is known after them. */
    buf_init(&names, c->reply->b->limit);
    buf_init(&last, SECRET_PATH_MAX + 16);
    reply_init(&r, &names, c->reply->proto);
    q->visit = visit;
    q->arg = &page;
    enum err err = secret_list(c->srv->engine, v, q, &last, &more);
    if (err == ERR_OK)
        err = r.failed;
    if (err == ERR_OK) {
        reply_array(c->reply, 2);
        access_reply_cursor(c->reply, buf_bytes(&last), more);
        reply_array(c->reply, page.names * (with_meta ? 2 : 1));
        reply_encoded(c->reply, buf_bytes(&names));
    }
    buf_fini(&names);
    buf_fini(&last);
    return err ? access_fail(c, err, c->argv[1]) : CALL_DONE;
}

enum list_option { CURSOR, COUNT, RECURSIVE, WITHMETA, OPTS };
static const struct option options[OPTS] = {
    [CURSOR] = {"CURSOR", OPTION_BYTES},
    [COUNT] = {"COUNT", OPTION_INT, .min = 1, .max = COUNT_MAX},
    [RECURSIVE] = {"RECURSIVE", OPTION_FLAG},
    [WITHMETA] = {"WITHMETA", OPTION_FLAG},
};

enum call_result secret_list_cmd(struct call *c)
{
    struct option_value opt[OPTS];
    struct vault *v;
    struct buf prefix, after;
    enum call_result result;
    uint64_t lsn;
    struct bytes name;
    int folder = command_folder(c->argv, c->argc, &name);

    if (options_parse(c, folder ? 3 : 2, options, OPTS, opt))
        return CALL_DONE;
    buf_init(&prefix, SECRET_PATH_MAX + 1);
    buf_init(&after, SECRET_PATH_MAX);
    enum err err = access_vault(c, c->argv[1], &v);
    if (err == ERR_OK && folder)
        err = folder_prefix(name, &prefix) ? ERR_BADPATH : ERR_OK;
    if (err == ERR_OK && opt[CURSOR].given && access_cursor_path(opt[CURSOR].b, &after)) {
        result = call_errorf(c, ERR_RANGE, "invalid cursor");
        goto out;
    }
    if (err == ERR_OK && (err = engine_list_ready(c->srv->engine, v, &lsn)) == ERR_AGAIN) {
        result = access_park_applied(c, v);
        goto out;
    }
    if (err) {
        result = access_fail(c, err, c->argv[1]);
        goto out;
    }
    unsigned max = opt[COUNT].given ? (unsigned)opt[COUNT].i : COUNT_DEFAULT;
    struct list_query q = {.prefix = buf_bytes(&prefix),
                           .after = buf_bytes(&after),
                           .max = max,
                           .scan_max = max * SCAN_PER_NAME + 100,
                           .one_level = !opt[RECURSIVE].given};
    result = list_page(c, v, &q, opt[WITHMETA].given);
out:
    buf_fini(&prefix);
    buf_fini(&after);
    return result;
}
