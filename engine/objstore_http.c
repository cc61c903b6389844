/* objstore_http.c - carries one request out, or as many attempts of it as are allowed.
 *
 * libcurl signs (CURLOPT_AWS_SIGV4). What Debian 12's 7.88 wants to be told or not to be told:
 *   - it signs path and query as they stand: both are escaped here, the query's names sorted, each with a '=';
 *   - it signs every header it is given, an empty one wrongly: "Expect:" and the like, which would turn a header of
 *     libcurl's off, must not be used. A large body waits for "100 Continue" for a second instead;
 *   - it hashes no body by itself: x-amz-content-sha256 is set here, which the server compares with what arrives.
 * Proxies from the environment, redirects, and all protocols but HTTP(S) are off: credentials go to the endpoint only.
 *
 * A body goes where it is wanted only when status, range and ETag are as wanted; else it is kept, up to a limit, to be
 * read as an error document. That is decided at its first byte, by begin_body().
 *
 * Time-outs: libcurl's for connecting and for the whole; one for no progress is counted by on_progress, which libcurl
 * calls about once a second at least, and which asks config.stop too. After a machine was paused the first of them may
 * fire at once; then the attempt is repeated like any other.
 *
 * Rejected: the multi interface (one transfer at a time is enough, and easy handles block as the caller expects);
 * CURLOPT_RANGE and CURLOPT_UPLOAD (libcurl's own ideas about resuming; a part's body is in memory, so POSTFIELDS with
 * another method sends it, and can send it again).
 */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/sha256.h"
#include "engine/objstore_answer.h"
#include "engine/objstore_impl.h"

#define ERROR_LIMIT (64u << 10)    /* of an error document */
#define HEADERS_LIMIT (256u << 10) /* of all headers of an answer */
#define EXPECT_100_MS 1000L
#define SEND_BUFFER 60000L /* below 64 KiB with our header: larger ones are mappings of their own */
#define PAUSE_MAX_MS 20000u
#define SLICE_MS 50u /* of a pause; then stop is asked */
#define LINE_BYTES 256

/* ---- a transfer ---- */

struct transfer {
    struct objstore *o;
    const struct s3_request *r;
    struct s3_answer *a;
    struct buf error; /* an answer that is not as wanted */
    struct curl_slist *headers;
    char text[CURL_ERROR_SIZE];
    enum { BODY_NONE, BODY_WANTED, BODY_ERROR } body;
    size_t kept; /* of r->into, before this attempt */
    size_t header_bytes;
    int headers_end;
    curl_off_t moved; /* progress, and when it was last seen */
    uint64_t moved_us;
    enum objstore_why why; /* why a callback ended the transfer */
    enum err sink_error;
};

static int stopped(struct objstore *o)
{
    return o->config.stop && o->config.stop(o->config.arg);
}

static int on_progress(void *arg, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal, curl_off_t ulnow)
{
    struct transfer *t = arg;
    uint64_t now_us = clock_mono_us();

    (void)dltotal;
    (void)ultotal;
    if (dlnow + ulnow != t->moved || !t->moved_us) {
        t->moved = dlnow + ulnow;
        t->moved_us = now_us;
    }
    if (stopped(t->o))
        t->why = OBJSTORE_STOPPED;
    else if (now_us - t->moved_us > (uint64_t)t->o->config.stall_timeout_ms * 1000)
        t->why = OBJSTORE_TIMEOUT;
    return t->why != OBJSTORE_FINE;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;

    n *= size;
    t->headers_end = n && (p[0] == '\r' || p[0] == '\n');
    t->header_bytes += n;
    if (t->header_bytes <= HEADERS_LIMIT)
        return n;
    t->why = OBJSTORE_ANSWER;
    return 0;
}

static const char *header(struct transfer *t, const char *name)
{
    struct curl_header *h;
    return curl_easy_header(t->o->curl, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK ? h->value : "";
}

static int is_hex32(const char *etag)
{
    return strlen(etag) == 32 && strspn(etag, "0123456789abcdef") == 32;
}

/* Under keys that the service keeps for us an ETag looks like an MD5 and is none. */
static int etag_is_md5(struct transfer *t)
{
    return is_hex32(t->a->meta.etag) && strncmp(header(t, "x-amz-server-side-encryption"), "aws:kms", 7) != 0 &&
           !header(t, "x-amz-server-side-encryption-customer-algorithm")[0];
}

static void read_headers(struct transfer *t)
{
    struct s3_answer *a = t->a;
    curl_off_t length = -1;
    long http = 0;

    curl_easy_getinfo(t->o->curl, CURLINFO_RESPONSE_CODE, &http);
    curl_easy_getinfo(t->o->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    a->http = (int)http;
    objstore_etag(a->meta.etag, bytes_str(header(t, "etag")));
    a->meta.is_md5 = etag_is_md5(t);
    a->has_length = length >= 0;
    a->meta.bytes = length >= 0 ? (uint64_t)length : 0;
}

/* Content-Range: bytes 0-99/1234 must be the range asked for, and the length its own. */
static int is_range(struct transfer *t)
{
    const struct s3_request *r = t->r;
    char want[LINE_BYTES];
    int n = snprintf(want, sizeof want, "bytes %llu-%llu/", (unsigned long long)r->off,
                     (unsigned long long)(r->off + r->n - 1));

    return t->a->http == 206 && strncmp(header(t, "content-range"), want, (size_t)n) == 0 && t->a->has_length &&
           t->a->meta.bytes == r->n;
}

/* The first byte is there, or there is no body: is the answer the one wanted? */
static void begin_body(struct transfer *t)
{
    const struct s3_request *r = t->r;

    read_headers(t);
    t->body = BODY_ERROR;
    if (t->a->http < 200 || t->a->http > 299)
        return;
    if (r->etag && t->a->meta.etag[0] && strcmp(r->etag, t->a->meta.etag) != 0)
        t->why = OBJSTORE_ALTERED;
    else if (r->n && !is_range(t))
        t->why = OBJSTORE_ANSWER;
    else if (r->into && t->a->meta.bytes > r->limit)
        t->why = OBJSTORE_TOOBIG;
    else
        t->body = BODY_WANTED;
}

static void take_wanted(struct transfer *t, const char *p, size_t n)
{
    const struct s3_request *r = t->r;

    if (r->sink) {
        t->sink_error = r->sink(r->arg, p, n);
        if (t->sink_error)
            t->why = OBJSTORE_CALLER;
    } else if (r->into) {
        enum err e = n > r->limit - (buf_size(r->into) - t->kept) ? ERR_TOOBIG : buf_put(r->into, p, n);
        if (e)
            t->why = e == ERR_TOOBIG ? OBJSTORE_TOOBIG : OBJSTORE_MEMORY;
    }
}

static void take_error(struct transfer *t, const char *p, size_t n)
{
    if (buf_put(&t->error, p, n)) /* too large for a document of S3's */
        buf_clear(&t->error);
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;

    n *= size;
    if (t->body == BODY_NONE)
        begin_body(t);
    if (!t->why && t->body == BODY_WANTED)
        take_wanted(t, p, n);
    else if (!t->why)
        take_error(t, p, n);
    return t->why ? 0 : n;
}

/* ---- what is sent ---- */

static enum err add_header(struct transfer *t, const char *line)
{
    struct curl_slist *longer = curl_slist_append(t->headers, line);
    if (!longer)
        return ERR_OOM;
    t->headers = longer;
    return ERR_OK;
}

static enum err add_headerf(struct transfer *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static enum err add_headerf(struct transfer *t, const char *fmt, ...)
{
    char line[LINE_BYTES];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    return n >= 0 && (size_t)n < sizeof line ? add_header(t, line) : ERR_INTERNAL;
}

/* The caller may have it from a place that somebody else writes to. */
static enum err add_etag(struct transfer *t)
{
    char etag[OBJSTORE_ETAG_BYTES];
    objstore_etag(etag, bytes_str(t->r->etag));
    return etag[0] ? add_headerf(t, "If-Match: \"%s\"", etag) : ERR_SYNTAX;
}

static enum err add_headers(struct transfer *t)
{
    const struct s3_request *r = t->r;
    uint8_t sum[SHA256_BYTES];
    char hex[2 * SHA256_BYTES + 1];
    enum err e;

    sha256_of(r->body.p, r->body.n, sum);
    objstore_hex(hex, sum, sizeof sum);
    e = add_headerf(t, "x-amz-content-sha256: %s", hex);
    if (!e && r->type)
        e = add_headerf(t, "Content-Type: %s", r->type);
    if (!e && r->condition)
        e = add_header(t, r->condition);
    if (!e && r->etag)
        e = add_etag(t);
    if (!e && r->n)
        e = add_headerf(t, "Range: bytes=%llu-%llu", (unsigned long long)r->off,
                        (unsigned long long)(r->off + r->n - 1));
    return e;
}

static enum err put_url(struct objstore *o, const struct s3_request *r, struct buf *url)
{
    enum err e = buf_putf(url, "%s/%s", o->endpoint, o->bucket);

    if (!e && r->key)
        e = buf_put_u8(url, '/');
    if (!e && r->key)
        e = objstore_put_escaped(url, o->prefix, 1);
    if (!e && r->key)
        e = objstore_put_escaped(url, r->key, 1);
    if (!e && r->query)
        e = buf_putf(url, "?%s", r->query);
    return e ? e : buf_put_u8(url, 0);
}

/* Once an option was refused the others are not tried: CURLE_OK or what the first refusal was. */
#define SET(rc, h, option, value) ((rc) = (rc) ? (rc) : curl_easy_setopt(h, option, value))

static CURLcode set_connection(struct objstore *o, CURL *h)
{
    CURLcode rc = CURLE_OK;

    SET(rc, h, CURLOPT_NOSIGNAL, 1L);
    SET(rc, h, CURLOPT_PROTOCOLS_STR, "http,https");
    SET(rc, h, CURLOPT_NOPROXY, "*");
    SET(rc, h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(rc, h, CURLOPT_USERAGENT, "coffer");
    SET(rc, h, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (o->ca_file[0]) { /* these and no others */
        SET(rc, h, CURLOPT_CAINFO, o->ca_file);
        SET(rc, h, CURLOPT_CAPATH, NULL);
    }
    SET(rc, h, CURLOPT_CONNECTTIMEOUT_MS, (long)o->config.connect_timeout_ms);
    SET(rc, h, CURLOPT_TIMEOUT_MS, (long)o->config.transfer_timeout_ms);
    SET(rc, h, CURLOPT_EXPECT_100_TIMEOUT_MS, EXPECT_100_MS);
    SET(rc, h, CURLOPT_UPLOAD_BUFFERSIZE, SEND_BUFFER);
    SET(rc, h, CURLOPT_AWS_SIGV4, o->signing);
    SET(rc, h, CURLOPT_USERNAME, o->credentials->access);
    SET(rc, h, CURLOPT_PASSWORD, o->credentials->secret);
    return rc;
}

static CURLcode set_callbacks(struct transfer *t, CURL *h)
{
    CURLcode rc = CURLE_OK;

    SET(rc, h, CURLOPT_ERRORBUFFER, t->text);
    SET(rc, h, CURLOPT_NOPROGRESS, 0L);
    SET(rc, h, CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(rc, h, CURLOPT_XFERINFODATA, t);
    SET(rc, h, CURLOPT_HEADERFUNCTION, on_header);
    SET(rc, h, CURLOPT_HEADERDATA, t);
    SET(rc, h, CURLOPT_WRITEFUNCTION, on_body);
    SET(rc, h, CURLOPT_WRITEDATA, t);
    return rc;
}

static CURLcode set_request(struct transfer *t, CURL *h, const struct buf *url)
{
    const struct s3_request *r = t->r;
    CURLcode rc = CURLE_OK;

    SET(rc, h, CURLOPT_URL, (const char *)buf_data(url));
    SET(rc, h, CURLOPT_PATH_AS_IS, 1L);
    SET(rc, h, CURLOPT_HTTPHEADER, t->headers);
    if (strcmp(r->method, "HEAD") == 0) {
        SET(rc, h, CURLOPT_NOBODY, 1L);
    } else if (r->type) {
        SET(rc, h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.n);
        SET(rc, h, CURLOPT_POSTFIELDS, r->body.n ? (const char *)r->body.p : "");
        SET(rc, h, CURLOPT_CUSTOMREQUEST, r->method);
    } else {
        SET(rc, h, CURLOPT_CUSTOMREQUEST, r->method);
    }
    return rc;
}

/* ---- one attempt ---- */

static enum err ended_by_callback(struct transfer *t)
{
    if (t->why == OBJSTORE_CALLER)
        return objstore_fail_caller(t->o, t->r, t->sink_error);
    if (t->why == OBJSTORE_TOOBIG)
        return objstore_fail(t->o, t->why, t->r, "more than %zu bytes", t->r->limit);
    return objstore_fail(t->o, t->why, t->r, t->why == OBJSTORE_TIMEOUT ? "nothing moved for %u ms" : NULL,
                         t->o->config.stall_timeout_ms);
}

static enum err refused(struct transfer *t)
{
    const char *date = header(t, "date");
    int64_t seconds = date[0] ? (int64_t)curl_getdate(date, NULL) : 0;
    return objstore_fail_http(t->o, t->r, t->a->http, buf_bytes(&t->error), seconds > 0 ? seconds : 0);
}

/* 200 and an <Error>: the server began to answer before it knew. */
static int is_late_error(struct transfer *t)
{
    struct objstore_said said;
    if (!t->r->late_errors || !objstore_answer_error(buf_bytes(t->r->into), &said))
        return 0;
    take_error(t, (const char *)buf_data(t->r->into), buf_size(t->r->into));
    return 1;
}

static enum err check_md5(struct transfer *t)
{
    const struct s3_request *r = t->r;
    char md5[33];

    if (!r->check_md5 || !t->a->meta.is_md5 ||
        !objstore_md5(bytes_of(buf_data(r->into) + t->kept, buf_size(r->into) - t->kept), md5) ||
        strcmp(md5, t->a->meta.etag) == 0)
        return ERR_OK;
    return objstore_fail(t->o, OBJSTORE_DAMAGED, r, "MD5 %s, ETag %s", md5, t->a->meta.etag);
}

/* A refusal that came while the body was still being sent, or was cut: the document counts, not how it ended. */
static int said_why(struct transfer *t)
{
    struct objstore_said said;
    return t->body == BODY_ERROR && objstore_answer_error(buf_bytes(&t->error), &said);
}

static enum err judge(struct transfer *t, CURLcode rc)
{
    if (!t->why && t->body == BODY_NONE && rc == CURLE_OK) {
        if (!t->headers_end) /* cut in the middle of them, which libcurl takes for an answer */
            return objstore_fail(t->o, OBJSTORE_TRUNCATED, t->r, "%s: headers without end", t->o->endpoint);
        begin_body(t);
    }
    if (t->why)
        return ended_by_callback(t);
    if (rc != CURLE_OK && !said_why(t))
        return objstore_fail_curl(t->o, t->r, rc, t->text);
    if (t->body != BODY_WANTED || is_late_error(t))
        return refused(t);
    return check_md5(t);
}

static enum err perform(struct transfer *t, const struct buf *url)
{
    CURL *h = t->o->curl;
    CURLcode rc = set_connection(t->o, h);

    if (!rc)
        rc = set_callbacks(t, h);
    if (!rc)
        rc = set_request(t, h, url);
    if (!rc)
        rc = curl_easy_perform(h);
    enum err e = judge(t, rc);
    curl_easy_reset(h); /* forgets the key pair and our pointers; keeps the connection */
    return e;
}

enum err objstore_attempt(struct objstore *o, const struct s3_request *r, struct s3_answer *a)
{
    struct transfer t = {.o = o, .r = r, .a = a};
    struct buf url;
    enum err e;

    assert(o->magic == OBJSTORE_MAGIC);
    unsigned attempts = a->attempts;
    *a = (struct s3_answer){.attempts = attempts + 1};
    if (stopped(o))
        return objstore_fail(o, OBJSTORE_STOPPED, r, NULL);
    buf_init(&url, 64u << 10);
    buf_init(&t.error, ERROR_LIMIT);
    t.kept = r->into ? buf_size(r->into) : 0;
    e = put_url(o, r, &url);
    if (!e)
        e = add_headers(&t);
    if (e == ERR_SYNTAX)
        e = objstore_fail(o, OBJSTORE_CONFIG, r, "not an ETag");
    else
        e = e ? objstore_fail(o, OBJSTORE_MEMORY, r, NULL) : perform(&t, &url);
    if (e && r->into)
        buf_truncate(r->into, t.kept);
    curl_slist_free_all(t.headers);
    buf_fini(&t.error);
    buf_fini(&url);
    return e;
}

/* ---- attempts ---- */

/* Half of it is certain and half by chance, so that clients that were cut off together do not come back together. */
static unsigned pause_ms(const struct objstore *o, unsigned attempt)
{
    uint64_t ms = (uint64_t)o->config.pause_ms << (attempt < 16 ? attempt - 1 : 15);
    uint32_t chance = 0;

    if (ms > PAUSE_MAX_MS)
        ms = PAUSE_MAX_MS;
    if (clock_random(&chance, sizeof chance))
        chance = UINT32_MAX;
    return (unsigned)(ms / 2 + ms / 2 * chance / UINT32_MAX);
}

static void sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) {
    }
}

enum err objstore_again(struct objstore *o, const struct s3_request *r, enum err e, unsigned *attempt)
{
    unsigned wait;

    if (!objstore_why_retryable(o->trouble.why) || *attempt >= o->config.attempts)
        return e;
    wait = pause_ms(o, *attempt);
    ++*attempt;
    if (o->config.retrying)
        o->config.retrying(o->config.arg, &o->trouble, *attempt, wait);
    for (unsigned slice; wait && !stopped(o); wait -= slice) {
        slice = wait < SLICE_MS ? wait : SLICE_MS;
        sleep_ms(slice);
    }
    return stopped(o) ? objstore_fail(o, OBJSTORE_STOPPED, r, NULL) : ERR_OK;
}

enum err objstore_request(struct objstore *o, const struct s3_request *r, struct s3_answer *a)
{
    unsigned attempt = 1;
    enum err e;

    memset(a, 0, sizeof *a);
    while ((e = objstore_attempt(o, r, a)) != ERR_OK) {
        e = objstore_again(o, r, e, &attempt);
        if (e)
            break;
    }
    return e;
}
