/* objstore_upload.c - uploads in parts; see objstore.h.
 *
 * upload_run is one way for new and for resumed uploads: ask which parts are there (for a new one: none), then go
 * through all parts in order. A part is read; when the server has one of this number, size and MD5 it is kept, else
 * sent. Then the list of parts is sent, which makes the object, and its size is looked at.
 *
 * The size of parts follows from the object's size and the configuration alone. Were it changed between two runs, the
 * parts that are there would not fit, and all be sent again; those beyond the last one would not be named in the list.
 *
 * When the answer to the last request gets lost the repeated one is refused: the upload is gone, since it has become an
 * object. So NOUPLOAD there is compared with what the object's ETag must be: the MD5 of the parts' MD5s, and their
 * number.
 *
 * Rejected: several parts at a time (one connection fills most links, and its part is the only memory that is needed);
 * trusting ListParts without reading the source (it would also take the parts of another file).
 */
#include <openssl/crypto.h>
#include <stdio.h>

#include "base/mem.h"
#include "engine/objstore_answer.h"
#include "engine/objstore_impl.h"
#include "engine/objstore_xml.h"

#define ANSWER_LIMIT (64u << 10)
#define PAGE_LIMIT (8u << 20)
#define LIST_LIMIT (4u << 20) /* of the list of parts that is sent: 10000 parts */
#define QUERY_LIMIT (64u << 10)
#define MIB (1u << 20)
#define MD5_BYTES 16

struct part {
    uint64_t bytes; /* 0: the server has none */
    char etag[OBJSTORE_ETAG_BYTES];
};

struct run {
    struct objstore *o;
    const char *key;
    const struct objstore_source *src;
    struct objstore_upload *u;
    uint64_t part_bytes;
    struct part *parts; /* u->parts of them */
    uint8_t *bytes;     /* of the part at hand */
};

/* Carries out r with a query built by fill; what the answer holds goes to doc, an initialised buffer. */
static enum err ask(struct objstore *o, struct s3_request r, struct buf *query, struct buf *doc)
{
    struct s3_answer a;

    if (buf_put_u8(query, 0))
        return objstore_fail(o, OBJSTORE_MEMORY, &r, NULL);
    r.query = (const char *)buf_data(query);
    r.into = doc;
    r.limit = doc->limit;
    return objstore_request(o, &r, &a);
}

static enum err put_id(struct buf *query, const char *id)
{
    return objstore_put_query(query, "uploadId", id);
}

/* ---- begin, abort ---- */

enum err objstore_upload_begin(struct objstore *o, const char *key, char id[OBJSTORE_ID_BYTES])
{
    const struct s3_request r = {
        .doing = "begin upload of", .method = "POST", .key = key, .type = "application/octet-stream"};
    struct buf query, doc;
    enum err e = objstore_check_key(o, r.doing, key);

    id[0] = 0;
    if (e)
        return e;
    buf_init(&query, QUERY_LIMIT);
    buf_init(&doc, ANSWER_LIMIT);
    e = objstore_put_query(&query, "uploads", "") ? objstore_fail(o, OBJSTORE_MEMORY, &r, NULL)
                                                  : ask(o, r, &query, &doc);
    if (!e && objstore_answer_begun(buf_bytes(&doc), id))
        e = objstore_fail(o, OBJSTORE_ANSWER, &r, "no UploadId");
    buf_fini(&doc);
    buf_fini(&query);
    return e;
}

/* By its whole key, which the server may have told us and need not be one of ours. */
static enum err abort_upload(struct objstore *o, const char *key, const char *id)
{
    const struct s3_request r = {.doing = "abort upload of", .method = "DELETE", .key = key, .upload = 1};
    struct buf query, doc;
    enum err e;

    buf_init(&query, QUERY_LIMIT);
    buf_init(&doc, ANSWER_LIMIT);
    e = put_id(&query, id) ? objstore_fail(o, OBJSTORE_MEMORY, &r, NULL) : ask(o, r, &query, &doc);
    if (e && o->trouble.why == OBJSTORE_NOUPLOAD)
        e = ERR_OK;
    buf_fini(&doc);
    buf_fini(&query);
    return e;
}

/* Without an id the same requests are about the object itself: an abort would delete it. */
static enum err check_names(struct objstore *o, const char *doing, const char *key, const char *id)
{
    const struct s3_request about = {.doing = doing, .key = key};
    enum err e = objstore_check_key(o, doing, key);
    if (!e && !id[0])
        e = objstore_fail(o, OBJSTORE_NOUPLOAD, &about, "no id");
    return e;
}

enum err objstore_upload_abort(struct objstore *o, const char *key, const char *id)
{
    enum err e = check_names(o, "abort upload of", key, id);
    return e ? e : abort_upload(o, key, id);
}

/* ---- which parts are there ---- */

struct parts_page {
    void (*fn)(void *arg, const struct objstore_part *p);
    void *arg;
    unsigned behind; /* where the page before ended */
};

static enum err parts_one(void *arg, const struct objstore_part *p)
{
    struct parts_page *page = arg;

    if (p->number <= page->behind)
        return ERR_CORRUPT; /* goes back: it would never end */
    page->fn(page->arg, p);
    return ERR_OK;
}

static enum err put_number(struct buf *query, const char *name, unsigned number)
{
    char text[16];
    snprintf(text, sizeof text, "%u", number);
    return objstore_put_query(query, name, text);
}

static enum err put_parts_query(struct buf *q, const struct objstore *o, const char *id, unsigned behind)
{
    enum err e = put_number(q, "max-parts", o->config.page_entries);

    if (!e && behind)
        e = put_number(q, "part-number-marker", behind);
    return e ? e : put_id(q, id);
}

static enum err parts_page(struct objstore *o, const char *key, const char *id, struct parts_page *page)
{
    const struct s3_request r = {.doing = "list parts of", .method = "GET", .key = key, .upload = 1};
    struct buf query, doc;
    unsigned behind = 0;
    enum err e;

    buf_init(&query, QUERY_LIMIT);
    buf_init(&doc, PAGE_LIMIT);
    e = put_parts_query(&query, o, id, page->behind) ? objstore_fail(o, OBJSTORE_MEMORY, &r, NULL)
                                                     : ask(o, r, &query, &doc);
    if (!e) {
        e = objstore_answer_parts(buf_bytes(&doc), parts_one, page, &behind);
        if (e)
            e = objstore_fail(o, OBJSTORE_ANSWER, &r, "not a list of parts");
    }
    page->behind = behind;
    buf_fini(&doc);
    buf_fini(&query);
    return e;
}

enum err objstore_upload_parts(struct objstore *o, const char *key, const char *id,
                               void (*fn)(void *arg, const struct objstore_part *p), void *arg)
{
    struct parts_page page = {.fn = fn, .arg = arg};
    enum err e = check_names(o, "list parts of", key, id);

    do {
        if (!e)
            e = parts_page(o, key, id, &page);
    } while (!e && page.behind);
    return e;
}

/* ---- run ---- */

static void part_is_there(void *arg, const struct objstore_part *p)
{
    struct run *run = arg;

    if (p->number > run->u->parts)
        return;
    run->parts[p->number - 1].bytes = p->bytes;
    snprintf(run->parts[p->number - 1].etag, OBJSTORE_ETAG_BYTES, "%s", p->etag);
}

static enum err send_part(struct run *run, unsigned i, size_t n, const char *md5)
{
    const struct s3_request r = {.doing = "upload a part of",
                                 .method = "PUT",
                                 .key = run->key,
                                 .type = "application/octet-stream",
                                 .upload = 1,
                                 .body = bytes_of(run->bytes, n)};
    struct s3_request asked = r;
    struct s3_answer a;
    struct buf query;

    buf_init(&query, QUERY_LIMIT);
    enum err e = put_number(&query, "partNumber", i + 1);
    if (!e)
        e = put_id(&query, run->u->id);
    if (!e)
        e = buf_put_u8(&query, 0);
    asked.query = (const char *)buf_data(&query);
    e = e ? objstore_fail(run->o, OBJSTORE_MEMORY, &r, NULL) : objstore_request(run->o, &asked, &a);
    buf_fini(&query);
    if (!e && !a.meta.etag[0])
        return objstore_fail(run->o, OBJSTORE_ANSWER, &r, "no ETag");
    if (!e && a.meta.is_md5 && md5[0] && strcmp(a.meta.etag, md5) != 0)
        return objstore_fail(run->o, OBJSTORE_DAMAGED, &r, "MD5 %s, ETag %s", md5, a.meta.etag);
    if (!e)
        snprintf(run->parts[i].etag, OBJSTORE_ETAG_BYTES, "%s", a.meta.etag);
    return e;
}

static enum err do_part(struct run *run, unsigned i)
{
    const struct s3_request about = {.doing = "upload", .key = run->key};
    uint64_t off = i * run->part_bytes, left = run->src->bytes - off;
    size_t n = (size_t)(left < run->part_bytes ? left : run->part_bytes);
    char md5[33];
    enum err e = run->src->read(run->src->arg, off, run->bytes, n);

    if (e)
        return objstore_fail_caller(run->o, &about, e);
    if (objstore_md5(bytes_of(run->bytes, n), md5) && run->parts[i].bytes == n &&
        strcmp(run->parts[i].etag, md5) == 0) {
        run->u->parts_kept++;
        return ERR_OK;
    }
    return send_part(run, i, n, md5);
}

/* ---- complete ---- */

static enum err put_part_list(const struct run *run, struct buf *list)
{
    enum err e = buf_putf(list, "<CompleteMultipartUpload>");

    for (unsigned i = 0; i < run->u->parts && !e; i++) {
        e = buf_putf(list, "<Part><PartNumber>%u</PartNumber><ETag>&quot;", i + 1);
        if (!e)
            e = objxml_put_text(list, run->parts[i].etag);
        if (!e)
            e = buf_putf(list, "&quot;</ETag></Part>");
    }
    return e ? e : buf_putf(list, "</CompleteMultipartUpload>");
}

/* What the object's ETag must be; empty when the parts' are not MD5s. */
static enum err expected_etag(const struct run *run, char out[OBJSTORE_ETAG_BYTES])
{
    size_t n = (size_t)run->u->parts * MD5_BYTES, got;
    uint8_t *sums = mem_alloc(n);
    char md5[33];
    int ok = 1;

    out[0] = 0;
    if (!sums)
        return objstore_fail(run->o, OBJSTORE_MEMORY, NULL, NULL);
    for (unsigned i = 0; i < run->u->parts && ok; i++)
        ok = strlen(run->parts[i].etag) == 2 * MD5_BYTES &&
             OPENSSL_hexstr2buf_ex(sums + (size_t)i * MD5_BYTES, MD5_BYTES, &got, run->parts[i].etag, 0);
    if (ok && objstore_md5(bytes_of(sums, n), md5))
        snprintf(out, OBJSTORE_ETAG_BYTES, "%s-%u", md5, run->u->parts);
    mem_free(sums);
    return ERR_OK;
}

/* The upload is not known: is it the object already? */
static enum err completed_before(struct run *run, struct objstore_meta *out)
{
    const struct objstore_trouble kept = run->o->trouble;
    char want[OBJSTORE_ETAG_BYTES];
    enum err e = expected_etag(run, want);

    if (!e)
        e = objstore_head(run->o, run->key, out);
    if (!e && want[0] && strcmp(want, out->etag) == 0 && out->bytes == run->src->bytes)
        return ERR_OK;
    memset(out, 0, sizeof *out);
    if (e && run->o->trouble.why != OBJSTORE_ABSENT)
        return e;
    run->o->trouble = kept;
    return objstore_why_err(kept.why);
}

static enum err check_object(struct run *run, const struct s3_request *r, struct objstore_meta *out)
{
    enum err e = objstore_head(run->o, run->key, out);
    if (!e && out->bytes != run->src->bytes)
        e = objstore_fail(run->o, OBJSTORE_DAMAGED, r, "%llu bytes there, %llu here", (unsigned long long)out->bytes,
                          (unsigned long long)run->src->bytes);
    return e;
}

static enum err complete_with(struct run *run, struct buf *list, struct buf *query, struct buf *doc)
{
    struct s3_request r = {.doing = "complete upload of",
                           .method = "POST",
                           .key = run->key,
                           .type = "application/xml",
                           .upload = 1,
                           .late_errors = 1};
    char etag[OBJSTORE_ETAG_BYTES];
    enum err e = put_part_list(run, list);

    if (!e)
        e = put_id(query, run->u->id);
    if (e)
        return objstore_fail(run->o, OBJSTORE_MEMORY, &r, NULL);
    r.body = buf_bytes(list);
    e = ask(run->o, r, query, doc);
    if (!e && objstore_answer_completed(buf_bytes(doc), etag))
        e = objstore_fail(run->o, OBJSTORE_ANSWER, &r, "not the answer to a completion");
    return e;
}

static enum err complete(struct run *run, struct objstore_meta *out)
{
    const struct s3_request about = {.doing = "complete upload of", .key = run->key};
    struct buf list, query, doc;

    buf_init(&list, LIST_LIMIT);
    buf_init(&query, QUERY_LIMIT);
    buf_init(&doc, ANSWER_LIMIT);
    enum err e = complete_with(run, &list, &query, &doc);
    buf_fini(&doc);
    buf_fini(&query);
    buf_fini(&list);
    if (e && run->o->trouble.why == OBJSTORE_NOUPLOAD)
        return completed_before(run, out);
    return e ? e : check_object(run, &about, out);
}

static uint64_t part_size(const struct objstore *o, uint64_t bytes)
{
    uint64_t least = (bytes + OBJSTORE_PARTS_MAX - 1) / OBJSTORE_PARTS_MAX;
    least = (least + MIB - 1) / MIB * MIB;
    return least > o->config.part_bytes ? least : o->config.part_bytes;
}

static enum err run_all(struct run *run, struct objstore_meta *out)
{
    enum err e = objstore_upload_parts(run->o, run->key, run->u->id, part_is_there, run);

    for (unsigned i = 0; i < run->u->parts && !e; i++)
        e = do_part(run, i);
    return e ? e : complete(run, out);
}

enum err objstore_upload_run(struct objstore *o, const char *key, const struct objstore_source *src,
                             struct objstore_upload *u, struct objstore_meta *out)
{
    const struct s3_request about = {.doing = "upload", .key = key};
    struct run run = {.o = o, .key = key, .src = src, .u = u, .part_bytes = part_size(o, src->bytes)};
    enum err e = objstore_check_key(o, about.doing, key);

    memset(out, 0, sizeof *out);
    u->parts_kept = 0;
    u->parts = src->bytes ? (unsigned)((src->bytes + run.part_bytes - 1) / run.part_bytes) : 1;
    if (e)
        return e;
    run.parts = mem_zalloc(u->parts * sizeof *run.parts);
    run.bytes = mem_alloc((size_t)(src->bytes < run.part_bytes ? src->bytes + 1 : run.part_bytes));
    e = run.parts && run.bytes ? run_all(&run, out) : objstore_fail(o, OBJSTORE_MEMORY, &about, NULL);
    mem_free(run.bytes);
    mem_free(run.parts);
    return e;
}

/* ---- what is left over ---- */

struct uploads_page {
    struct objstore *o;
    int (*fn)(void *arg, const struct objstore_pending *p);
    void *arg;
    struct objstore_behind behind;
};

static enum err uploads_one(void *arg, const struct objstore_pending *p)
{
    struct uploads_page *page = arg;
    struct objstore_pending mine = *p;
    size_t prefix = strlen(page->o->prefix);

    if (strncmp(p->key, page->o->prefix, prefix) != 0)
        return ERR_CORRUPT;
    mine.key += prefix;
    return mine.key[0] && page->fn(page->arg, &mine) ? ERR_END : ERR_OK;
}

static enum err put_uploads_query(struct buf *q, const struct uploads_page *page, const char *begin)
{
    char whole[2 * OBJSTORE_KEY_MAX + 1];
    enum err e = ERR_OK;

    snprintf(whole, sizeof whole, "%s%s", page->o->prefix, begin);
    if (page->behind.key[0])
        e = objstore_put_query(q, "key-marker", page->behind.key);
    if (!e)
        e = put_number(q, "max-uploads", page->o->config.page_entries);
    if (!e)
        e = objstore_put_query(q, "prefix", whole);
    if (!e && page->behind.id[0])
        e = objstore_put_query(q, "upload-id-marker", page->behind.id);
    return e ? e : objstore_put_query(q, "uploads", "");
}

static int same_place(const struct objstore_behind *a, const struct objstore_behind *b)
{
    return strcmp(a->key, b->key) == 0 && strcmp(a->id, b->id) == 0;
}

static enum err uploads_page(struct uploads_page *page, const char *begin)
{
    const struct s3_request r = {.doing = "list uploads", .method = "GET"};
    struct objstore_behind before = page->behind;
    struct buf query, doc;
    enum err e;

    buf_init(&query, QUERY_LIMIT);
    buf_init(&doc, PAGE_LIMIT);
    e = put_uploads_query(&query, page, begin) ? objstore_fail(page->o, OBJSTORE_MEMORY, &r, NULL)
                                               : ask(page->o, r, &query, &doc);
    if (!e) {
        e = objstore_answer_uploads(buf_bytes(&doc), uploads_one, page, &page->behind);
        if (e == ERR_CORRUPT || (!e && page->behind.key[0] && same_place(&before, &page->behind)))
            e = objstore_fail(page->o, OBJSTORE_ANSWER, &r, "not a list of uploads, or one without end");
    }
    buf_fini(&doc);
    buf_fini(&query);
    return e;
}

enum err objstore_uploads(struct objstore *o, const char *begin, int (*fn)(void *arg, const struct objstore_pending *p),
                          void *arg)
{
    const struct s3_request about = {.doing = "list uploads"};
    struct uploads_page page = {.o = o, .fn = fn, .arg = arg};
    enum err e;

    if (strlen(begin) > OBJSTORE_KEY_MAX - strlen(o->prefix))
        return objstore_fail(o, OBJSTORE_CONFIG, &about, "too long");
    do
        e = uploads_page(&page, begin);
    while (!e && page.behind.key[0]);
    return e == ERR_END ? ERR_OK : e;
}

struct expiry {
    struct objstore *o;
    uint64_t before_ms;
    unsigned aborted;
    enum err e;
};

static int expire_one(void *arg, const struct objstore_pending *p)
{
    struct expiry *x = arg;

    if (!p->begun_ms || p->begun_ms >= x->before_ms)
        return 0;
    x->e = abort_upload(x->o, p->key, p->id);
    if (!x->e)
        x->aborted++;
    return x->e != ERR_OK;
}

enum err objstore_uploads_expire(struct objstore *o, const char *begin, uint64_t before_ms, unsigned *aborted)
{
    struct expiry x = {.o = o, .before_ms = before_ms};
    enum err e = objstore_uploads(o, begin, expire_one, &x);

    *aborted = x.aborted;
    return e ? e : x.e;
}
