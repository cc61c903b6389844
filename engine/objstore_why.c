/* objstore_why.c - what a failure means.
 *
 * An answer is judged by the code in its document; only when it has none (HEAD, proxies), or one that is not in the
 * table, by its status. Services differ in their codes' finer shades, so each row here is one that AWS, radosgw or
 * MinIO sends, and the status decides the rest.
 *
 * The text for the operator is one line: what was tried, the row's text, and in parentheses what the server or libcurl
 * said. All of it is made printable, since the server chose part of it.
 */
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "engine/objstore_answer.h"
#include "engine/objstore_impl.h"

#define NAME_SHOWN 160 /* of an object, in texts */

static const struct {
    const char *name;
    enum err err;
    int retry;
    const char *text;
} rows[] = {
    {"FINE", ERR_OK, 0, ""},
#define WHY(name, err, retry, text) {#name, ERR_##err, retry, text},
#include "engine/objstore.tbl.h"
#undef WHY
};

const char *objstore_why_name(enum objstore_why why)
{
    return rows[why].name;
}

const char *objstore_why_text(enum objstore_why why)
{
    return rows[why].text;
}

enum err objstore_why_err(enum objstore_why why)
{
    return rows[why].err;
}

int objstore_why_retryable(enum objstore_why why)
{
    return rows[why].retry;
}

void objstore_printable(char *out, size_t size, const char *text)
{
    size_t n = 0;
    for (; *text && n + 1 < size; text++)
        out[n++] = (char)(*text >= ' ' && *text <= '~' ? *text : '?');
    out[n] = 0;
}

static void set_text(struct objstore *o, const struct s3_request *r, const char *detail)
{
    struct objstore_trouble *t = &o->trouble;
    char line[2 * sizeof t->text], name[NAME_SHOWN] = "";

    if (r && r->key && snprintf(name, sizeof name, "/%s%s", o->prefix, r->key) >= (int)sizeof name)
        memcpy(name + sizeof name - 4, "...", 4);
    snprintf(line, sizeof line, "%s s3://%s%s: %s%s%s%s", r ? r->doing : "open", o->bucket, name, rows[t->why].text,
             detail[0] ? " (" : "", detail, detail[0] ? ")" : "");
    objstore_printable(t->text, sizeof t->text, line);
}

static enum err fail_with(struct objstore *o, enum objstore_why why, const struct s3_request *r, int http,
                          const char *code, const char *detail)
{
    o->trouble.why = why;
    o->trouble.http = http;
    objstore_printable(o->trouble.code, sizeof o->trouble.code, code);
    set_text(o, r, detail);
    return rows[why].err;
}

enum err objstore_fail(struct objstore *o, enum objstore_why why, const struct s3_request *r, const char *detail, ...)
{
    char text[256] = "";
    va_list ap;

    if (detail) {
        va_start(ap, detail);
        vsnprintf(text, sizeof text, detail, ap);
        va_end(ap);
    }
    return fail_with(o, why, r, 0, "", text);
}

enum err objstore_fail_caller(struct objstore *o, const struct s3_request *r, enum err e)
{
    fail_with(o, OBJSTORE_CALLER, r, 0, "", err_text(e));
    return e;
}

/* ---- libcurl's results ---- */

static enum objstore_why why_of_curl(CURLcode rc)
{
    switch (rc) {
    case CURLE_OUT_OF_MEMORY:
        return OBJSTORE_MEMORY;
    case CURLE_URL_MALFORMAT:
        return OBJSTORE_CONFIG;
    case CURLE_OPERATION_TIMEDOUT:
        return OBJSTORE_TIMEOUT;
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
        return OBJSTORE_TRUNCATED;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_CIPHER:
        return OBJSTORE_TLS;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9 */
    case CURLE_BAD_CONTENT_ENCODING:
        return OBJSTORE_ANSWER;
    default: /* names, connections, handshakes that a server going down may have cut */
        return OBJSTORE_UNREACHABLE;
    }
}

enum err objstore_fail_curl(struct objstore *o, const struct s3_request *r, CURLcode rc, const char *text)
{
    return objstore_fail(o, why_of_curl(rc), r, "%s: %s", o->endpoint, text[0] ? text : curl_easy_strerror(rc));
}

/* ---- answers ---- */

static const struct {
    const char *code;
    enum objstore_why why;
} codes[] = {
    {"SignatureDoesNotMatch", OBJSTORE_CREDENTIALS},
    {"InvalidAccessKeyId", OBJSTORE_CREDENTIALS},
    {"InvalidSecurity", OBJSTORE_CREDENTIALS},
    {"UserSuspended", OBJSTORE_DENIED},
    {"AccessDenied", OBJSTORE_DENIED},
    {"AllAccessDisabled", OBJSTORE_DENIED},
    {"AccountProblem", OBJSTORE_DENIED},
    {"RequestTimeTooSkewed", OBJSTORE_CLOCK},
    {"RequestExpired", OBJSTORE_CLOCK},
    {"AuthorizationHeaderMalformed", OBJSTORE_REGION},
    {"PermanentRedirect", OBJSTORE_REGION},
    {"TemporaryRedirect", OBJSTORE_REGION},
    {"IllegalLocationConstraintException", OBJSTORE_REGION},
    {"NoSuchBucket", OBJSTORE_NOBUCKET},
    {"NoSuchKey", OBJSTORE_ABSENT},
    {"NoSuchUpload", OBJSTORE_NOUPLOAD},
    {"QuotaExceeded", OBJSTORE_QUOTA},
    {"XMinioAdminBucketQuotaExceeded", OBJSTORE_QUOTA},
    {"XMinioStorageFull", OBJSTORE_QUOTA},
    {"EntityTooLarge", OBJSTORE_TOOBIG},
    {"NotImplemented", OBJSTORE_UNSUPPORTED},
    {"SlowDown", OBJSTORE_BUSY},
    {"InternalError", OBJSTORE_BUSY},
    {"ServiceUnavailable", OBJSTORE_BUSY},
    {"OperationAborted", OBJSTORE_BUSY},
    {"ConditionalRequestConflict", OBJSTORE_BUSY},
    {"RequestTimeout", OBJSTORE_TIMEOUT},
    {"IncompleteBody", OBJSTORE_TRUNCATED},
    {"BadDigest", OBJSTORE_DAMAGED},
    {"XAmzContentSHA256Mismatch", OBJSTORE_DAMAGED},
    {"InvalidRange", OBJSTORE_ANSWER},
};

static enum objstore_why why_of_status(int http)
{
    if (http < 300)
        return OBJSTORE_ANSWER;
    switch (http) {
    case 301:
    case 307:
    case 308:
        return OBJSTORE_REGION;
    case 401:
        return OBJSTORE_CREDENTIALS;
    case 403:
        return OBJSTORE_DENIED;
    case 404:
        return OBJSTORE_ABSENT;
    case 408:
        return OBJSTORE_TIMEOUT;
    case 409:
    case 429:
        return OBJSTORE_BUSY;
    case 405:
    case 501:
        return OBJSTORE_UNSUPPORTED;
    case 507:
        return OBJSTORE_QUOTA;
    default:
        return http >= 500 ? OBJSTORE_BUSY : http < 400 ? OBJSTORE_ANSWER : OBJSTORE_REFUSED;
    }
}

static enum objstore_why why_of_answer(const struct s3_request *r, int http, const char *code)
{
    if (http == 412 || strcmp(code, "PreconditionFailed") == 0)
        return r->etag ? OBJSTORE_ALTERED : OBJSTORE_EXISTS;
    enum objstore_why why = why_of_status(http);
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (strcmp(code, codes[i].code) == 0)
            why = codes[i].why;
    return why == OBJSTORE_ABSENT && r->upload ? OBJSTORE_NOUPLOAD : why;
}

/* "; this clock is 3600 s ahead" */
static void say_skew(char *out, size_t size, int64_t date)
{
    int64_t ahead = (int64_t)(clock_wall_ms() / 1000) - date;
    snprintf(out, size, "; this clock is %lld s %s", (long long)(ahead < 0 ? -ahead : ahead),
             ahead < 0 ? "behind" : "ahead");
}

enum err objstore_fail_http(struct objstore *o, const struct s3_request *r, int http, struct bytes doc, int64_t date)
{
    struct objstore_said said;
    char detail[400], skew[64] = "";

    objstore_answer_error(doc, &said);
    enum objstore_why why = why_of_answer(r, http, said.code);
    if (why == OBJSTORE_CLOCK && date)
        say_skew(skew, sizeof skew, date);
    snprintf(detail, sizeof detail, "HTTP %d%s%s%s%s%s", http, said.code[0] ? " " : "", said.code,
             said.message[0] ? ": " : "", said.message, skew);
    return fail_with(o, why, r, http, said.code, detail);
}
