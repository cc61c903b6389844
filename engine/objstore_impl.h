/* objstore_impl.h - between the files of the object store client; see objstore.h.
 *
 *     objstore_s3.c       objects and listings        }
 *     objstore_upload.c   uploads in parts            } say what to ask, as a struct s3_request, and read the answer
 *     objstore_fetch.c    ranges and large downloads  }
 *     objstore_http.c     carries a request out by libcurl: signing, time-outs, attempts
 *     objstore_why.c      what an answer or a failure means; texts
 *     objstore_open.c     settings
 *     objstore_util.c     libcurl's memory, escaping, MD5
 *     objstore_answer.c   documents; objstore_xml.c below it
 */
#ifndef COFFER_ENGINE_OBJSTORE_IMPL_H
#define COFFER_ENGINE_OBJSTORE_IMPL_H

#include <curl/curl.h>
#include <limits.h>

#include "engine/objstore.h"
#include "engine/objstore_credentials.h"

#define OBJSTORE_MAGIC 0x6f626a73u /* "objs" */
#define OBJSTORE_ENDPOINT_BYTES 300
#define OBJSTORE_BUCKET_BYTES 64
#define OBJSTORE_REGION_BYTES 64

struct objstore {
    unsigned magic;
    struct objstore_config config;          /* numbers and callbacks, defaults filled in; the strings are below */
    char endpoint[OBJSTORE_ENDPOINT_BYTES]; /* without a slash at its end */
    char bucket[OBJSTORE_BUCKET_BYTES];
    char prefix[OBJSTORE_KEY_MAX + 1];        /* "" or with a slash at its end */
    char signing[OBJSTORE_REGION_BYTES + 16]; /* aws:amz:REGION:s3 */
    char ca_file[PATH_MAX];
    struct objstore_credentials *credentials;
    CURL *curl;
    struct objstore_trouble trouble;
};

struct s3_request {
    const char *doing;     /* for texts: "put" */
    const char *method;    /* GET HEAD PUT POST DELETE */
    const char *key;       /* relative; NULL: the bucket itself */
    const char *query;     /* names in order of their bytes, each with a '='; NULL: none */
    const char *type;      /* of the body; NULL: there is none */
    const char *condition; /* a header, or NULL */
    const char *etag;      /* of the only object that will do; NULL: any. Sent as a condition, and compared */
    struct bytes body;
    uint64_t off, n; /* the range asked for, when n is not 0: the answer is exactly this */

    /* Where the body of an answer goes that is as wanted: to a buffer, at most limit bytes, which is as it was after a
     * failure; or to a function, whose failure is CALLER. */
    struct buf *into;
    size_t limit;
    enum err (*sink)(void *arg, const void *p, size_t n);
    void *arg;
    int check_md5;   /* compare into with the ETag when that is one */
    int upload;      /* it is about one: that is what is absent then */
    int late_errors; /* an <Error> may come with status 200 */
};

struct s3_answer {
    int http;
    unsigned attempts;         /* that were made for it */
    struct objstore_meta meta; /* bytes: of the whole object, when known */
    int has_length;            /* the answer said how long it is */
};

/* ---- objstore_http.c ---- */

/* One attempt. */
must_use enum err objstore_attempt(struct objstore *o, const struct s3_request *r, struct s3_answer *a);
/* After an attempt that failed with e: pauses and returns ERR_OK when there is to be another one, and counts it. Else
 * e, or STOPPED. */
must_use enum err objstore_again(struct objstore *o, const struct s3_request *r, enum err e, unsigned *attempt);
/* As many attempts as are allowed. */
must_use enum err objstore_request(struct objstore *o, const struct s3_request *r, struct s3_answer *a);

/* ---- objstore_why.c ---- */

/* Sets the trouble and returns its error. r may be NULL. detail: printf's, or NULL. */
enum err objstore_fail(struct objstore *o, enum objstore_why why, const struct s3_request *r, const char *detail, ...)
    __attribute__((format(printf, 4, 5)));
/* CALLER, with the error of the caller's own function. */
enum err objstore_fail_caller(struct objstore *o, const struct s3_request *r, enum err e);
/* By libcurl's result, with its text. */
enum err objstore_fail_curl(struct objstore *o, const struct s3_request *r, CURLcode rc, const char *text);
/* By an answer's status and document. date: the server's, Unix seconds; 0: it did not say. */
enum err objstore_fail_http(struct objstore *o, const struct s3_request *r, int http, struct bytes doc, int64_t date);
/* Printable ASCII only, cut; always NUL-terminated. */
void objstore_printable(char *out, size_t size, const char *text);

/* ---- objstore_open.c ---- */

/* ERR_BADPATH unless a key may be given to this client. Sets the trouble. */
must_use enum err objstore_check_key(struct objstore *o, const char *doing, const char *key);
/* 1: printable, no empty, "." or ".." parts, at most max bytes. */
int objstore_key_valid(const char *key, size_t max_bytes);
/* Splits "s3://bucket/prefix" and checks "https://host:port". "" or what is wrong with it, a static string. */
const char *objstore_parse_url(const char *url, char bucket[OBJSTORE_BUCKET_BYTES], char prefix[OBJSTORE_KEY_MAX + 1]);
const char *objstore_parse_endpoint(const char *url, char out[OBJSTORE_ENDPOINT_BYTES]);

/* ---- objstore_util.c ---- */

/* Prepares libcurl, once for the process. ERR_OOM. */
must_use enum err objstore_curl_init(void);
/* 2n lower-case hex digits and a NUL. */
void objstore_hex(char *out, const uint8_t *p, size_t n);

/* Appends text as RFC 3986 wants it: all but A-Z a-z 0-9 - _ . ~ as %XX. slashes 1: keeps these. */
must_use enum err objstore_put_escaped(struct buf *out, const char *text, int slashes);
/* Appends NAME=VALUE to a query; names must come in order of their bytes. */
must_use enum err objstore_put_query(struct buf *query, const char *name, const char *value);
/* 32 lower-case hex digits. 0: no MD5 to be had (FIPS); out is empty. */
int objstore_md5(struct bytes b, char out[33]);

#endif
