/* objstore_s3.c - objects, whole, and their listings; see objstore.h.
 *
 * Two answers of S3 say less than their callers need. HEAD has no document, so that "no such key" and "no such bucket"
 * are the same 404: then the first byte is asked for by GET, whose refusal has a document. And a conditional PUT whose
 * answer got lost is refused when it is repeated, because the first one had been carried out: then the object that is
 * there is compared.
 */
#include <stdio.h>

#include "engine/objstore_answer.h"
#include "engine/objstore_impl.h"

#define PAGE_LIMIT                                                                                              \
    (8u << 20)           /* of a listing's document: a thousand keys of a thousand bytes, escaped, and the rest \
                          */
#define EMPTY_PAGES 1000 /* in a row, each of which says that there is more */

/* After a HEAD that was refused: the same question as a GET. */
static enum err explain(struct objstore *o, const char *key, enum err before)
{
    const struct s3_request get = {.doing = "head", .method = "GET", .key = key, .off = 0, .n = 1};
    struct s3_answer a;
    enum err e = objstore_request(o, &get, &a);
    return e ? e : before; /* there after all: somebody has just put it */
}

enum err objstore_head(struct objstore *o, const char *key, struct objstore_meta *out)
{
    const struct s3_request r = {.doing = "head", .method = "HEAD", .key = key};
    struct s3_answer a;
    enum err e = objstore_check_key(o, r.doing, key);

    memset(out, 0, sizeof *out);
    if (!e) {
        e = objstore_request(o, &r, &a);
        if (e && o->trouble.http >= 400 && o->trouble.http < 500)
            e = explain(o, key, e);
    }
    if (!e && (!a.has_length || !a.meta.etag[0]))
        e = objstore_fail(o, OBJSTORE_ANSWER, &r, "no Content-Length or no ETag");
    if (!e)
        *out = a.meta;
    return e;
}

/* ---- put, get, delete ---- */

/* EXISTS, at the second attempt or later: is it ours? */
static enum err put_before(struct objstore *o, const struct s3_request *r, struct s3_answer *a)
{
    const struct objstore_trouble kept = o->trouble;
    struct objstore_meta there;
    char md5[33];
    enum err e = objstore_head(o, r->key, &there);

    if (e)
        return e;
    if (objstore_md5(r->body, md5) && there.bytes == r->body.n && strcmp(there.etag, md5) == 0) {
        a->meta = there;
        return ERR_OK;
    }
    o->trouble = kept;
    return objstore_why_err(kept.why);
}

/* The server has compared the SHA-256; this is about what it says that it keeps. */
static enum err check_put(struct objstore *o, const struct s3_request *r, const struct s3_answer *a)
{
    char md5[33];
    if (a->meta.is_md5 && objstore_md5(r->body, md5) && strcmp(md5, a->meta.etag) != 0)
        return objstore_fail(o, OBJSTORE_DAMAGED, r, "MD5 %s, ETag %s", md5, a->meta.etag);
    return ERR_OK;
}

enum err objstore_put(struct objstore *o, const char *key, struct bytes body, int only_new, struct objstore_meta *out)
{
    const struct s3_request r = {.doing = "put",
                                 .method = "PUT",
                                 .key = key,
                                 .type = "application/octet-stream",
                                 .condition = only_new ? "If-None-Match: *" : NULL,
                                 .body = body};
    struct s3_answer a;
    enum err e = objstore_check_key(o, r.doing, key);

    if (out)
        memset(out, 0, sizeof *out);
    if (e)
        return e;
    e = objstore_request(o, &r, &a);
    if (e && o->trouble.why == OBJSTORE_EXISTS && a.attempts > 1)
        e = put_before(o, &r, &a);
    else if (!e)
        e = check_put(o, &r, &a);
    if (!e && out) {
        *out = a.meta;
        out->bytes = body.n;
    }
    return e;
}

enum err objstore_get(struct objstore *o, const char *key, size_t limit_bytes, struct buf *out,
                      struct objstore_meta *meta)
{
    const struct s3_request r = {
        .doing = "get", .method = "GET", .key = key, .into = out, .limit = limit_bytes, .check_md5 = 1};
    struct s3_answer a;
    enum err e = objstore_check_key(o, r.doing, key);

    if (meta)
        memset(meta, 0, sizeof *meta);
    if (!e)
        e = objstore_request(o, &r, &a);
    if (!e && meta)
        *meta = a.meta;
    return e;
}

enum err objstore_delete(struct objstore *o, const char *key)
{
    const struct s3_request r = {.doing = "delete", .method = "DELETE", .key = key};
    struct s3_answer a;
    enum err e = objstore_check_key(o, r.doing, key);

    if (!e)
        e = objstore_request(o, &r, &a);
    return e && o->trouble.why == OBJSTORE_ABSENT ? ERR_OK : e;
}

/* ---- listings ---- */

struct listing {
    struct objstore *o;
    const struct s3_request *r;
    size_t left; /* entries that may still be handed out */
    int (*fn)(void *arg, const struct objstore_entry *e);
    void *arg;
    char last[OBJSTORE_KEY_MAX + 1]; /* whole key handed out before */
    size_t count;                    /* of this page */
};

/* ERR_END: enough. */
static enum err list_one(void *arg, const struct objstore_entry *e)
{
    struct listing *l = arg;
    struct objstore_entry mine = *e;
    size_t prefix = strlen(l->o->prefix);

    if (l->left == 0)
        return ERR_END;
    if (strncmp(e->key, l->o->prefix, prefix) != 0 || strcmp(e->key, l->last) <= 0)
        return ERR_CORRUPT; /* not under the prefix, or not in order: it would never end */
    snprintf(l->last, sizeof l->last, "%s", e->key);
    l->count++;
    mine.key += prefix;
    if (!mine.key[0]) /* some tools make an object for a folder */
        return ERR_OK;
    l->left--;
    return l->fn(l->arg, &mine) ? ERR_END : ERR_OK;
}

static enum err put_list_query(struct buf *q, const struct listing *l, const char *begin, const char *token)
{
    char number[16], whole[2 * OBJSTORE_KEY_MAX + 1];
    enum err e = ERR_OK;

    snprintf(number, sizeof number, "%u",
             l->left < l->o->config.page_entries ? (unsigned)l->left : l->o->config.page_entries);
    if (token[0])
        e = objstore_put_query(q, "continuation-token", token);
    if (!e)
        e = objstore_put_query(q, "list-type", "2");
    if (!e)
        e = objstore_put_query(q, "max-keys", number);
    snprintf(whole, sizeof whole, "%s%s", l->o->prefix, begin);
    if (!e)
        e = objstore_put_query(q, "prefix", whole);
    if (!e && !token[0] && l->last[0])
        e = objstore_put_query(q, "start-after", l->last);
    return e ? e : buf_put_u8(q, 0);
}

/* One page; ERR_END when no more are wanted. */
static enum err list_page(struct listing *l, const char *begin, char token[OBJSTORE_MARKER_BYTES])
{
    struct buf query, doc;
    struct s3_request r = *l->r;
    struct s3_answer a;
    enum err e;

    buf_init(&query, 64u << 10);
    buf_init(&doc, PAGE_LIMIT);
    e = put_list_query(&query, l, begin, token);
    if (e) {
        e = objstore_fail(l->o, OBJSTORE_MEMORY, &r, NULL);
    } else {
        r.query = (const char *)buf_data(&query);
        r.into = &doc;
        r.limit = PAGE_LIMIT;
        e = objstore_request(l->o, &r, &a);
        if (!e)
            e = objstore_answer_list(buf_bytes(&doc), list_one, l, token);
        if (e == ERR_CORRUPT)
            e = objstore_fail(l->o, OBJSTORE_ANSWER, &r, "not a listing, or not in order");
    }
    buf_fini(&doc);
    buf_fini(&query);
    return e;
}

/* As text behind the prefix, or not at all. */
static int fits(const struct objstore *o, const char *text)
{
    return strlen(text) <= OBJSTORE_KEY_MAX - strlen(o->prefix);
}

enum err objstore_list(struct objstore *o, const char *begin, const char *after, size_t limit,
                       int (*fn)(void *arg, const struct objstore_entry *e), void *arg)
{
    const struct s3_request r = {.doing = "list", .method = "GET"};
    struct listing l = {.o = o, .r = &r, .left = limit, .fn = fn, .arg = arg};
    char token[OBJSTORE_MARKER_BYTES] = "";
    enum err e = ERR_OK;
    int empty = 0;

    if (!fits(o, begin) || !fits(o, after))
        return objstore_fail(o, OBJSTORE_CONFIG, &r, "too long");
    if (after[0])
        snprintf(l.last, sizeof l.last, "%s%s", o->prefix, after);
    do {
        l.count = 0;
        if (l.left)
            e = list_page(&l, begin, token);
        empty = l.count ? 0 : empty + 1;
        if (!e && token[0] && empty > EMPTY_PAGES)
            e = objstore_fail(o, OBJSTORE_ANSWER, &r, "pages without end");
    } while (!e && token[0] && l.left);
    return e == ERR_END ? ERR_OK : e;
}
