/* cmd_lcs.c - LCS: what two secrets have in common. Texts are Redis's; the search is lcs.h's. */
#include "server/access.h"
#include "server/facade.h"
#include "server/handlers.h"
#include "server/lcs.h"
#include "server/options.h"

static const struct bytes none = {NULL, 0};

enum { LEN, IDX, MINMATCHLEN, WITHMATCHLEN, OPTS };
static const struct option options[OPTS] = {
    [LEN] = {"LEN", OPTION_FLAG},
    [IDX] = {"IDX", OPTION_FLAG},
    [MINMATCHLEN] = {"MINMATCHLEN", OPTION_INT},
    [WITHMATCHLEN] = {"WITHMATCHLEN", OPTION_FLAG},
};

static void reply_range(struct reply *r, size_t from, size_t n)
{
    reply_array(r, 2);
    reply_int(r, (int64_t)from);
    reply_int(r, (int64_t)(from + n - 1));
}

static void reply_matches(struct reply *r, struct lcs *l, const struct option_value *opt)
{
    struct lcs_match m;
    size_t mark, n = 0;
    reply_map(r, 2);
    reply_bulk_str(r, "matches");
    mark = reply_mark(r);
    while (lcs_next(l, &m)) {
        if ((int64_t)m.n < opt[MINMATCHLEN].i)
            continue;
        reply_array(r, 2 + (size_t)opt[WITHMATCHLEN].given);
        reply_range(r, m.a, m.n);
        reply_range(r, m.b, m.n);
        if (opt[WITHMATCHLEN].given)
            reply_int(r, (int64_t)m.n);
        n++;
    }
    reply_insert_array(r, mark, n);
    reply_bulk_str(r, "len");
    reply_int(r, (int64_t)l->length);
}

static void reply_sequence(struct reply *r, struct lcs *l)
{
    struct lcs_match m;
    uint8_t *room;
    size_t left = l->length;
    if (reply_bulk_begin(r, left, &room))
        return;
    while (lcs_next(l, &m)) {
        left -= m.n;
        memcpy(room + left, l->a.p + m.a, m.n);
    }
    reply_bulk_end(r);
}

static void reply_common(struct call *c, struct bytes a, struct bytes b, const struct option_value *opt)
{
    struct lcs l;
    enum err err = lcs_init(&l, a, b, !opt[LEN].given);
    if (err == ERR_TOOBIG)
        call_errorf(c, err, "the lengths of the two values, multiplied, are over %zu", LCS_CELLS_MAX);
    else if (err)
        reply_error(c->reply, err);
    else if (opt[IDX].given)
        reply_matches(c->reply, &l, opt);
    else if (opt[LEN].given)
        reply_int(c->reply, (int64_t)l.length);
    else
        reply_sequence(c->reply, &l);
    lcs_fini(&l);
}

/* The options are parsed again, which costs nothing beside the rest. */
static enum err lcs_pass(struct call *c, struct engine_moment *m)
{
    struct option_value opt[OPTS];
    struct buf a, b;
    int there;
    if (options_parse(c, 3, options, OPTS, opt))
        return ERR_OK;
    buf_init_secret(&a, SEAL_VALUE_MAX);
    buf_init_secret(&b, SEAL_VALUE_MAX);
    enum err err = facade_value(c, c->argv[1], m, &a, &there);
    if (err == ERR_OK)
        err = facade_value(c, c->argv[2], m, &b, &there);
    if (err == ERR_OK)
        reply_common(c, buf_bytes(&a), buf_bytes(&b), opt);
    buf_fini(&a);
    buf_fini(&b);
    return err;
}

enum call_result string_lcs(struct call *c)
{
    struct option_value opt[OPTS];
    if (options_parse(c, 3, options, OPTS, opt))
        return CALL_DONE;
    if (opt[LEN].given && opt[IDX].given)
        return call_errorf(c, ERR_SYNTAX, "If you want both the length and indexes, please just use IDX.");
    return access_at_once(c, lcs_pass, none);
}
