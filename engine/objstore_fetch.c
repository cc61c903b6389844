/* objstore_fetch.c - ranges, and downloads made of them; see objstore.h.
 *
 * A download asks for the size and ETag first, then for one range after the other, each on the condition that the ETag
 * is still that. What a broken transfer has brought is kept: the next attempt begins behind it, and an attempt that
 * brought anything makes the count of attempts begin anew. So a download ends by itself only when nothing comes at all.
 */
#include <openssl/evp.h>
#include <stdio.h>

#include "base/hex.h"
#include "engine/objstore_impl.h"

enum err objstore_get_range(struct objstore *o, const char *key, const char *etag, uint64_t off, size_t n,
                            struct buf *out)
{
    const struct s3_request r = {
        .doing = "get", .method = "GET", .key = key, .etag = etag, .off = off, .n = n, .into = out, .limit = n};
    struct s3_answer a;
    enum err e = objstore_check_key(o, r.doing, key);

    if (e || n == 0)
        return e;
    return objstore_request(o, &r, &a);
}

struct download {
    enum err (*write)(void *arg, uint64_t off, const void *p, size_t n);
    void *arg;
    uint64_t off;
    EVP_MD_CTX *md5; /* NULL: not compared */
};

static enum err on_bytes(void *arg, const void *p, size_t n)
{
    struct download *d = arg;
    enum err e = d->write(d->arg, d->off, p, n);

    if (e)
        return e;
    if (d->md5 && !EVP_DigestUpdate(d->md5, p, n))
        return ERR_INTERNAL;
    d->off += n;
    return ERR_OK;
}

/* From d->off to end, in as many attempts as it takes. */
static enum err fetch_range(struct objstore *o, const char *key, const struct objstore_meta *meta, uint64_t end,
                            struct download *d)
{
    struct s3_request r = {
        .doing = "download", .method = "GET", .key = key, .etag = meta->etag, .sink = on_bytes, .arg = d};
    struct s3_answer a = {0};
    unsigned attempt = 1;
    enum err e = ERR_OK;

    while (d->off < end && !e) {
        r.off = d->off;
        r.n = end - d->off;
        e = objstore_attempt(o, &r, &a);
        if (d->off > r.off)
            attempt = 1;
        if (e)
            e = objstore_again(o, &r, e, &attempt);
    }
    return e;
}

/* An MD5 over what comes, when it can be compared in the end. */
static EVP_MD_CTX *begin_md5(const struct objstore_meta *meta, uint64_t off)
{
    EVP_MD_CTX *md5;

    if (off || !meta->is_md5)
        return NULL;
    md5 = EVP_MD_CTX_new();
    if (md5 && !EVP_DigestInit_ex(md5, EVP_md5(), NULL)) {
        EVP_MD_CTX_free(md5);
        md5 = NULL;
    }
    return md5;
}

static int md5_is(EVP_MD_CTX *md5, const char *etag)
{
    uint8_t sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    char hex[2 * EVP_MAX_MD_SIZE + 1];

    if (!EVP_DigestFinal_ex(md5, sum, &n))
        return 0;
    hex_put(hex, sum, n);
    return strcmp(hex, etag) == 0;
}

static enum err fetch_all(struct objstore *o, const char *key, const struct objstore_meta *meta, struct download *d)
{
    enum err e = ERR_OK;

    while (d->off < meta->bytes && !e) {
        uint64_t left = meta->bytes - d->off;
        e = fetch_range(o, key, meta, d->off + (left < o->config.part_bytes ? left : o->config.part_bytes), d);
    }
    return e;
}

enum err objstore_download(struct objstore *o, const char *key, const char *etag, uint64_t off,
                           enum err (*write)(void *arg, uint64_t off, const void *p, size_t n), void *arg,
                           struct objstore_meta *out)
{
    const struct s3_request about = {.doing = "download", .key = key};
    struct download d = {.write = write, .arg = arg, .off = off};
    enum err e = objstore_head(o, key, out);

    if (e)
        return e;
    if (etag && strcmp(etag, out->etag) != 0)
        return objstore_fail(o, OBJSTORE_ALTERED, &about, "ETag %s, not %s", out->etag, etag);
    if (off > out->bytes)
        return objstore_fail(o, OBJSTORE_ALTERED, &about, "it has only %llu bytes", (unsigned long long)out->bytes);
    d.md5 = begin_md5(out, off);
    e = fetch_all(o, key, out, &d);
    if (!e && d.md5 && !md5_is(d.md5, out->etag))
        e = objstore_fail(o, OBJSTORE_DAMAGED, &about, "MD5 and ETag %s differ", out->etag);
    EVP_MD_CTX_free(d.md5);
    return e;
}
