/* cmd_scan.c - SCAN over the selected database. Keys come in the order of their paths; the cursor is a number that
 * stands for a path (cursors.h). What is there during the whole iteration is returned exactly once; what comes or goes
 * meanwhile, maybe. */
#include "base/glob.h"
#include "resp/number.h"
#include "server/access.h"
#include "server/conn.h"
#include "server/cursors.h"
#include "server/facade.h"
#include "server/handlers.h"
#include "server/options.h"
#include "server/server.h"

#define COUNT_DEFAULT 10
#define COUNT_MAX 100000

struct scan {
    struct reply r;
    struct bytes match;
    int any_type;
    size_t keys;
};

static int visit(void *arg, struct bytes path, const struct secret_head *h)
{
    struct scan *s = arg;
    (void)h;
    if (s->any_type && (!s->match.p || glob_match(s->match, path, 0))) {
        reply_bulk(&s->r, path);
        s->keys++;
    }
    return 1; /* COUNT is about keys looked at */
}

static enum call_result scan_page(struct call *c, struct vault *v, struct bytes after, unsigned count, struct scan *s)
{
    struct buf keys, last;
    struct list_query q = {.after = after, .max = count, .scan_max = count * 2 + 100, .visit = visit, .arg = s};
    uint64_t cursor = 0;
    int more;

    buf_init(&keys, c->reply->b->limit);
    buf_init(&last, SECRET_PATH_MAX + 16);
    reply_init(&s->r, &keys, c->reply->proto);
    enum err err = secret_list(c->srv->engine, v, &q, &last, &more);
    if (err == ERR_OK && (err = s->r.failed) == ERR_OK && more)
        err = cursors_put(c->srv->cursors, v->id, buf_bytes(&last), &cursor);
    if (err == ERR_OK) {
        uint8_t digits[NUMBER_MAX_BYTES];
        reply_array(c->reply, 2);
        reply_bulk(c->reply, bytes_of(digits, number_format_u64(digits, cursor)));
        reply_array(c->reply, s->keys);
        reply_encoded(c->reply, buf_bytes(&keys));
    }
    buf_fini(&keys);
    buf_fini(&last);
    return err ? access_fail(c, err, bytes_str(v->name)) : CALL_DONE;
}

static enum call_result empty_page(struct call *c)
{
    reply_array(c->reply, 2);
    reply_bulk_str(c->reply, "0");
    reply_array(c->reply, 0);
    return CALL_DONE;
}

enum scan_option { MATCH, COUNT, TYPE, OPTS };
static const struct option options[OPTS] = {
    [MATCH] = {"MATCH", OPTION_BYTES},
    [COUNT] = {"COUNT", OPTION_BYTES},
    [TYPE] = {"TYPE", OPTION_BYTES},
};

/* Replied when it fails. */
static enum err parse_scan(struct call *c, struct option_value *opt, uint64_t *cursor, unsigned *count)
{
    int64_t v = COUNT_DEFAULT, at;
    enum err err = options_parse(c, 2, options, OPTS, opt);
    if (err)
        return err;
    if (!number_parse(c->argv[1], &at) || at < 0) {
        call_errorf(c, ERR_RANGE, "invalid cursor");
        return ERR_RANGE;
    }
    if (opt[COUNT].given && !number_parse(opt[COUNT].b, &v)) {
        call_error(c, ERR_NOTINT);
        return ERR_NOTINT;
    }
    if (v < 1) {
        call_error(c, ERR_SYNTAX);
        return ERR_SYNTAX;
    }
    *cursor = (uint64_t)at;
    *count = v > COUNT_MAX ? COUNT_MAX : (unsigned)v;
    return ERR_OK;
}

enum call_result string_scan(struct call *c)
{
    static const char *const types[] = {"STRING", NULL};
    struct option_value opt[OPTS];
    struct scan s = {.any_type = 1};
    struct vault *v;
    struct buf after;
    uint64_t cursor, lsn;
    unsigned count;
    enum call_result result;

    if (parse_scan(c, opt, &cursor, &count))
        return CALL_DONE;
    s.match = opt[MATCH].given ? opt[MATCH].b : bytes_of(NULL, 0);
    s.any_type = !opt[TYPE].given || options_word(opt[TYPE].b, types) == 0;
    enum err err = facade_vault(c, conn_db(c->conn), 0, &v);
    if (err)
        return err == ERR_NOTFOUND ? empty_page(c) : access_fail(c, err, bytes_of(NULL, 0));
    buf_init(&after, SECRET_PATH_MAX);
    if (cursor && cursors_get(c->srv->cursors, cursor, v->id, &after))
        result = call_errorf(c, ERR_RANGE, "invalid cursor: it is too old, start again with 0");
    else if ((err = engine_list_ready(c->srv->engine, v, &lsn)) == ERR_AGAIN)
        result = access_park_applied(c, v);
    else if (err)
        result = access_fail(c, err, bytes_of(NULL, 0));
    else
        result = scan_page(c, v, buf_bytes(&after), count, &s);
    buf_fini(&after);
    return result;
}
