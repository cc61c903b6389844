/* test_objstore_http.c - the object store client against answers that a real service gives rarely, or never. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/fault.h"
#include "engine/objstore_impl.h"
#include "objstore_fixture.h"

#define OK_EMPTY "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: \"d41d8cd98f00b204e9800998ecf8427e\"\r\n\r\n"
#define HELLO_MD5 "5d41402abc4b2a76b9719d911017c592"
#define HELLO_HEAD "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"" HELLO_MD5 "\"\r\n"
#define HELLO HELLO_HEAD "\r\nhello"
#define DOCUMENT(text) "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" text /* its end is that of the connection */
#define ERROR(status, code)                                                                       \
    "HTTP/1.1 " status " X\r\nConnection: close\r\n\r\n<?xml version=\"1.0\"?><Error><Code>" code \
    "</Code><Message>it &amp; that\n</Message></Error>"

static char file[] = "/tmp/coffer-objstore-XXXXXX";

struct watch {
    int stop; /* the answer to stop() */
    int stop_at_retry;
    unsigned retries, longest_ms;
    enum objstore_why why;
};

static int on_stop(void *arg)
{
    return ((struct watch *)arg)->stop;
}

static void on_retry(void *arg, const struct objstore_trouble *t, unsigned attempt, unsigned wait_ms)
{
    struct watch *w = arg;
    assert_int_equal(attempt, ++w->retries + 1);
    w->why = t->why;
    w->longest_ms = wait_ms > w->longest_ms ? wait_ms : w->longest_ms;
    w->stop = w->stop_at_retry;
}

static struct objstore_config config_of(char endpoint[64], struct watch *w)
{
    snprintf(endpoint, 64, "http://127.0.0.1:%d", canned.port);
    return (struct objstore_config){
        .url = "s3://bucket/pre fix",
        .endpoint = endpoint,
        .region = "eu-west-1",
        .credentials_file = file,
        .attempts = 3,
        .pause_ms = 8,
        .stop = on_stop,
        .retrying = on_retry,
        .arg = w,
    };
}

static struct objstore *open_canned(struct watch *w, unsigned attempts)
{
    char endpoint[64];
    struct objstore_config c = config_of(endpoint, w);
    struct objstore_trouble t;
    struct objstore *o;

    memset(w, 0, sizeof *w);
    c.attempts = attempts;
    if (objstore_open(&c, &o, &t))
        fail_msg("%s", t.text);
    return o;
}

static void expect(const struct objstore *o, enum err e, enum objstore_why why)
{
    const struct objstore_trouble *t = objstore_trouble(o);
    if (e == ERR_OK || t->why != why)
        fail_msg("%s for %s: %s", e ? objstore_why_name(t->why) : "success", objstore_why_name(why), t->text);
    for (const char *p = t->text; *p; p++)
        assert_true(*p >= ' ' && *p <= '~');
}

static enum err get(struct objstore *o, struct buf *b)
{
    buf_clear(b);
    return objstore_get(o, "key", 100, b, NULL);
}

/* ---- what an answer means ---- */

static const struct {
    const char *answer;
    enum objstore_why why;
} meanings[] = {
    {ERROR("403", "SignatureDoesNotMatch"), OBJSTORE_CREDENTIALS},
    {ERROR("403", "InvalidAccessKeyId"), OBJSTORE_CREDENTIALS},
    {ERROR("403", "AccessDenied"), OBJSTORE_DENIED},
    {ERROR("403", "RequestTimeTooSkewed"), OBJSTORE_CLOCK},
    {ERROR("403", "QuotaExceeded"), OBJSTORE_QUOTA},
    {ERROR("403", "SomethingNew"), OBJSTORE_DENIED},
    {ERROR("400", "AuthorizationHeaderMalformed"), OBJSTORE_REGION},
    {ERROR("400", "SomethingNew"), OBJSTORE_REFUSED},
    {ERROR("400", "IncompleteBody"), OBJSTORE_TRUNCATED},
    {ERROR("400", "XAmzContentSHA256Mismatch"), OBJSTORE_DAMAGED},
    {ERROR("301", "PermanentRedirect"), OBJSTORE_REGION},
    {ERROR("404", "NoSuchKey"), OBJSTORE_ABSENT},
    {ERROR("404", "NoSuchBucket"), OBJSTORE_NOBUCKET},
    {ERROR("409", "OperationAborted"), OBJSTORE_BUSY},
    {ERROR("412", "PreconditionFailed"), OBJSTORE_EXISTS},
    {ERROR("500", "InternalError"), OBJSTORE_BUSY},
    {ERROR("503", "SlowDown"), OBJSTORE_BUSY},
    {ERROR("501", "NotImplemented"), OBJSTORE_UNSUPPORTED},
    {ERROR("507", "XMinioStorageFull"), OBJSTORE_QUOTA},
    {"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", OBJSTORE_ANSWER},
    {"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n<html>proxy</html>", OBJSTORE_BUSY},
    {"HTTP/1.1 401 X\r\nWWW-Authenticate: Basic realm=\"give me all\"\r\nContent-Length: 0\r\n\r\n",
     OBJSTORE_CREDENTIALS},
    {"HTTP/1.1 404 X\r\nContent-Length: 0\r\n\r\n", OBJSTORE_ABSENT},
    {"HTTP/1.1 418 X\r\nContent-Length: 0\r\n\r\n", OBJSTORE_REFUSED},
    {"SSH-2.0-OpenSSH_9.2\r\n", OBJSTORE_ANSWER},
    {HELLO_HEAD "\r\nhell", OBJSTORE_TRUNCATED},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", OBJSTORE_TRUNCATED},
    {"", OBJSTORE_TRUNCATED},
    {"HTTP/1.1 200 OK\r\nContent-Le", OBJSTORE_TRUNCATED},
    {HELLO_HEAD "\r\nhallo", OBJSTORE_DAMAGED},
    {"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\nx", OBJSTORE_TOOBIG},
    {DOCUMENT("0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789x"),
     OBJSTORE_TOOBIG},
};

static void each_answer_has_its_meaning(void **state)
{
    (void)state;
    struct watch w;
    struct objstore *o = open_canned(&w, 1);
    struct buf b;

    buf_init(&b, 1000);
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++) {
        ANSWERS(meanings[i].answer);
        expect(o, get(o, &b), meanings[i].why);
        assert_int_equal(buf_size(&b), 0);
        assert_int_equal(canned_asked(), 1);
    }
    ANSWERS(ERROR("412", "PreconditionFailed"));
    expect(o, objstore_get_range(o, "key", "etag", 0, 5, &b), OBJSTORE_ALTERED);
    buf_fini(&b);
    objstore_close(o);
}

static void texts_say_what_to_do(void **state)
{
    (void)state;
    struct watch w;
    struct objstore *o = open_canned(&w, 1);
    struct buf b;

    buf_init(&b, 1000);
    ANSWERS(ERROR("403", "InvalidAccessKeyId"));
    expect(o, get(o, &b), OBJSTORE_CREDENTIALS);
    assert_string_equal(objstore_trouble(o)->text,
                        "get s3://bucket/pre fix/key: the object store does not accept the credentials: check "
                        "object-store-credentials-file (HTTP 403 InvalidAccessKeyId: it & that?)");
    assert_string_equal(objstore_trouble(o)->code, "InvalidAccessKeyId");
    ANSWERS("HTTP/1.1 403 X\r\nDate: Sun, 29 Nov 2026 22:00:00 GMT\r\nConnection: close\r\n\r\n<Error><Code>"
            "RequestTimeTooSkewed</Code></Error>");
    clock_test_set_wall_ms(1795989600000 - 90000);
    expect(o, get(o, &b), OBJSTORE_CLOCK);
    clock_test_set_wall_ms(0);
    assert_non_null(strstr(objstore_trouble(o)->text, "this clock is 90 s behind"));
    buf_fini(&b);
    objstore_close(o);
}

static void ranges_are_those_asked_for(void **state)
{
    (void)state;
    static const struct {
        const char *answer;
        enum objstore_why why;
    } rows[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nETag: \"etag\"\r\n\r\n__hello", OBJSTORE_ANSWER}, /* all of it */
        {"HTTP/1.1 206 X\r\nContent-Length: 5\r\n\r\nhello", OBJSTORE_ANSWER},
        {"HTTP/1.1 206 X\r\nContent-Length: 5\r\nContent-Range: bytes 3-7/100\r\n\r\nhello", OBJSTORE_ANSWER},
        {"HTTP/1.1 206 X\r\nContent-Length: 4\r\nContent-Range: bytes 2-6/100\r\n\r\nhell", OBJSTORE_ANSWER},
        {"HTTP/1.1 206 X\r\nContent-Length: 6\r\nContent-Range: bytes 2-6/100\r\n\r\nhello!", OBJSTORE_ANSWER},
        {"HTTP/1.1 206 X\r\nConnection: close\r\nContent-Range: bytes 2-6/100\r\n\r\nhello", OBJSTORE_ANSWER},
        {"HTTP/1.1 206 X\r\nContent-Length: 5\r\nContent-Range: bytes 2-6/100\r\nETag: \"other\"\r\n\r\nhello",
         OBJSTORE_ALTERED},
    };
    struct watch w;
    struct objstore *o = open_canned(&w, 1);
    struct buf b;

    buf_init(&b, 1000);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ANSWERS(rows[i].answer);
        expect(o, objstore_get_range(o, "key", "etag", 2, 5, &b), rows[i].why);
        assert_int_equal(buf_size(&b), 0);
    }
    ANSWERS("HTTP/1.1 206 X\r\nContent-Length: 5\r\nContent-Range: bytes 2-6/100\r\nETag: \"etag\"\r\n\r\nhello");
    assert_int_equal(objstore_get_range(o, "key", "etag", 2, 5, &b), ERR_OK);
    assert_int_equal(buf_size(&b), 5);
    assert_int_equal(canned_asked(), 1);
    assert_non_null(strstr(canned.heads[0], "\r\nIf-Match: \"etag\"\r\n"));
    static const char *const none[] = {"", "a\r\nX-Evil: 1", "a b", "a\"b"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        expect(o, objstore_get_range(o, "key", none[i], 2, 5, &b), OBJSTORE_CONFIG);
    assert_int_equal(canned_asked(), 1);
    assert_non_null(strstr(canned.heads[0], "\r\nRange: bytes=2-6\r\n"));
    buf_fini(&b);
    objstore_close(o);
}

/* Encrypted under a key of the service: the ETag is no MD5, whatever it looks like. */
static void an_etag_that_is_no_md5(void **state)
{
    (void)state;
    struct watch w;
    struct objstore *o = open_canned(&w, 1);
    struct objstore_meta m;
    struct buf b;

    buf_init(&b, 1000);
    ANSWERS(HELLO_HEAD "x-amz-server-side-encryption: aws:kms\r\n\r\nhallo");
    assert_int_equal(objstore_get(o, "key", 5, &b, &m), ERR_OK);
    assert_false(m.is_md5);
    ANSWERS("HTTP/1.1 200 OK\r\nETag: \"" HELLO_MD5 "\"\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(objstore_put(o, "key", bytes_str("hello"), 0, &m), ERR_OK);
    expect(o, objstore_put(o, "key", bytes_str("hallo"), 0, &m), OBJSTORE_DAMAGED);
    buf_fini(&b);
    objstore_close(o);
}

/* ---- what is sent ---- */

static void a_request_is_signed(void **state)
{
    (void)state;
    struct watch w;
    struct objstore *o = open_canned(&w, 1);

    setenv("http_proxy", "http://127.0.0.1:1", 1); /* where nobody listens */
    setenv("all_proxy", "http://127.0.0.1:1", 1);
    ANSWERS("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(objstore_put(o, "a+b/c d", bytes_str("hello"), 1, NULL), ERR_OK);
    const char *head = canned.heads[0];
    static const char *const has[] = {
        "PUT /bucket/pre%20fix/a%2Bb/c%20d HTTP/1.1\r\n",
        "\r\nx-amz-content-sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\r\n",
        "\r\nAuthorization: AWS4-HMAC-SHA256 Credential=AKIA/",
        "/eu-west-1/s3/aws4_request, SignedHeaders=content-type;host;if-none-match;x-amz-content-sha256;x-amz-date, ",
        "\r\nIf-None-Match: *\r\n",
        "\r\n\r\nhello",
    };
    for (size_t i = 0; i < sizeof has / sizeof *has; i++)
        if (!strstr(head, has[i]))
            fail_msg("'%s' is not in: %s", has[i], head);
    assert_null(strstr(head, "s3cr3t"));
    unsetenv("http_proxy");
    unsetenv("all_proxy");
    objstore_close(o);
}

static void keys_are_checked(void **state)
{
    (void)state;
    struct watch w;
    struct objstore *o = open_canned(&w, 1);
    struct objstore_meta m;
    struct objstore_upload u;
    struct buf b;

    buf_init(&b, 10);
    ANSWERS(OK_EMPTY);
    assert_int_equal(objstore_put(o, "a//b", bytes_str(""), 0, &m), ERR_BADPATH);
    assert_int_equal(objstore_get(o, "../b", 1, &b, &m), ERR_BADPATH);
    assert_int_equal(objstore_get_range(o, "", NULL, 0, 1, &b), ERR_BADPATH);
    assert_int_equal(objstore_head(o, "\n", &m), ERR_BADPATH);
    assert_int_equal(objstore_delete(o, "/"), ERR_BADPATH);
    assert_int_equal(objstore_upload_begin(o, "a/", u.id), ERR_BADPATH);
    assert_int_equal(objstore_upload_abort(o, "a/", "x"), ERR_BADPATH);
    expect(o, ERR_BADPATH, OBJSTORE_CONFIG);
    assert_int_equal(canned_asked(), 0);
    buf_fini(&b);
    objstore_close(o);
}

/* ---- attempts ---- */

static void what_may_pass_is_tried_again(void **state)
{
    (void)state;
    struct watch w;
    struct objstore *o = open_canned(&w, 4);
    struct buf b;

    buf_init(&b, 1000);
    ANSWERS(ERROR("503", "SlowDown"), HELLO_HEAD "\r\nhel", HELLO_HEAD "\r\nhallo", HELLO);
    assert_int_equal(get(o, &b), ERR_OK);
    assert_true(bytes_equal(buf_bytes(&b), bytes_str("hello")));
    assert_int_equal(w.retries, 3);
    assert_int_equal(w.why, OBJSTORE_DAMAGED);
    assert_true(w.longest_ms >= 16 && w.longest_ms <= 32);

    memset(&w, 0, sizeof w);
    ANSWERS(ERROR("500", "InternalError"));
    expect(o, get(o, &b), OBJSTORE_BUSY);
    assert_int_equal(canned_asked(), 4);
    memset(&w, 0, sizeof w);
    ANSWERS(ERROR("403", "AccessDenied"), HELLO);
    expect(o, get(o, &b), OBJSTORE_DENIED);
    assert_int_equal(canned_asked(), 1);
    assert_int_equal(w.retries, 0);
    buf_fini(&b);
    objstore_close(o);
}

static void a_stop_is_heeded(void **state)
{
    (void)state;
    struct watch w;
    struct objstore *o = open_canned(&w, 3);
    struct buf b;

    buf_init(&b, 1000);
    w.stop = 1;
    ANSWERS(HELLO);
    expect(o, get(o, &b), OBJSTORE_STOPPED);
    assert_int_equal(canned_asked(), 0);
    w = (struct watch){.stop_at_retry = 1}; /* in a pause */
    ANSWERS(ERROR("503", "SlowDown"), HELLO);
    expect(o, get(o, &b), OBJSTORE_STOPPED);
    assert_int_equal(canned_asked(), 1);
    buf_fini(&b);
    objstore_close(o);
}

static int stop_once_asked(void *arg)
{
    (void)arg;
    return canned_asked() > 0;
}

static void a_server_that_is_silent(void **state)
{
    (void)state;
    struct watch w = {0};
    char endpoint[64];
    struct objstore_config c = config_of(endpoint, &w);
    struct objstore_trouble t;
    struct objstore *o;
    struct buf b;

    buf_init(&b, 1000);
    c.stall_timeout_ms = 100;
    assert_int_equal(objstore_open(&c, &o, &t), ERR_OK);
    ANSWERS(SILENCE, HELLO);
    assert_int_equal(get(o, &b), ERR_OK);
    assert_int_equal(w.why, OBJSTORE_TIMEOUT);
    objstore_close(o);

    c.stall_timeout_ms = 0;
    c.transfer_timeout_ms = 100;
    c.attempts = 1;
    assert_int_equal(objstore_open(&c, &o, &t), ERR_OK);
    ANSWERS(SILENCE);
    expect(o, get(o, &b), OBJSTORE_TIMEOUT);
    objstore_close(o);

    c.transfer_timeout_ms = 0;
    c.stop = stop_once_asked; /* while it waits */
    ANSWERS(SILENCE);
    assert_int_equal(objstore_open(&c, &o, &t), ERR_OK);
    expect(o, get(o, &b), OBJSTORE_STOPPED);
    objstore_close(o);
    buf_fini(&b);
}

/* ---- servers that mean no good ---- */

static char *repeated(const char *head, const char *unit, size_t times, const char *tail)
{
    char *text = malloc(strlen(head) + strlen(unit) * times + strlen(tail) + 1), *p = text;
    assert_non_null(text);
    p = stpcpy(p, head);
    for (size_t i = 0; i < times; i++)
        p = stpcpy(p, unit);
    stpcpy(p, tail);
    return text;
}

static void answers_without_measure(void **state)
{
    (void)state;
    struct watch w;
    struct objstore *o = open_canned(&w, 1);
    struct buf b;
    char *headers =
        repeated("HTTP/1.1 200 OK\r\n", "X-Padding: 0123456789012345678901234567890123456789\r\n", 20000, "\r\n");
    char *error = repeated("HTTP/1.1 500 X\r\nConnection: close\r\n\r\n<Error>", "<Code>SlowDown</Code>", 100000, "");

    buf_init(&b, 1000);
    ANSWERS(headers);
    expect(o, get(o, &b), OBJSTORE_ANSWER);
    ANSWERS(error);
    expect(o, get(o, &b), OBJSTORE_BUSY);
    ANSWERS(ERROR("500", "\x01\xff&#10;\"evil\"")); /* goes to the log */
    expect(o, get(o, &b), OBJSTORE_BUSY);
    buf_fini(&b);
    free(error);
    free(headers);
    objstore_close(o);
}

static int count_entry(void *arg, const struct objstore_entry *e)
{
    (void)e;
    ++*(unsigned *)arg;
    return 0;
}

#define ENTRY(key) "<Contents><Key>pre fix/" key "</Key><ETag>e</ETag><Size>1</Size></Contents>"
#define MORE "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
#define LISTING(inner) DOCUMENT("<ListBucketResult>" inner "</ListBucketResult>")

static void listings_that_do_not_end(void **state)
{
    (void)state;
    struct watch w;
    struct objstore *o = open_canned(&w, 1);
    unsigned n = 0;

    ANSWERS(LISTING(MORE ENTRY("a") ENTRY("b")));
    expect(o, objstore_list(o, "", "", 100, count_entry, &n), OBJSTORE_ANSWER);
    assert_int_equal(n, 2);
    ANSWERS(LISTING(ENTRY("b") ENTRY("a")));
    expect(o, objstore_list(o, "", "", 100, count_entry, &n), OBJSTORE_ANSWER);
    ANSWERS(LISTING("<Contents><Key>other/a</Key><ETag>e</ETag><Size>1</Size></Contents>"));
    expect(o, objstore_list(o, "", "", 100, count_entry, &n), OBJSTORE_ANSWER);
    ANSWERS(LISTING(MORE));
    expect(o, objstore_list(o, "", "", 100, count_entry, &n), OBJSTORE_ANSWER);
    n = 0;
    ANSWERS(LISTING(ENTRY("") ENTRY("a") ENTRY("b") ENTRY("c"))); /* more than asked for, and a folder's object */
    assert_int_equal(objstore_list(o, "", "", 2, count_entry, &n), ERR_OK);
    assert_int_equal(n, 2);
    objstore_close(o);
}

static int count_pending(void *arg, const struct objstore_pending *p)
{
    (void)p;
    ++*(unsigned *)arg;
    return 0;
}

static void count_part(void *arg, const struct objstore_part *p)
{
    (void)p;
    ++*(unsigned *)arg;
}

static void uploads_and_parts_that_do_not_end(void **state)
{
    (void)state;
    struct watch w;
    struct objstore *o = open_canned(&w, 1);
    unsigned n = 0;

    ANSWERS(DOCUMENT("<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker>"
                     "</ListMultipartUploadsResult>"));
    expect(o, objstore_uploads(o, "", count_pending, &n), OBJSTORE_ANSWER);
    ANSWERS(DOCUMENT("<ListPartsResult><IsTruncated>true</IsTruncated><Part><PartNumber>1</PartNumber><ETag>e</ETag>"
                     "<Size>1</Size></Part></ListPartsResult>"));
    expect(o, objstore_upload_parts(o, "k", "id", count_part, &n), OBJSTORE_ANSWER);
    assert_int_equal(n, 1);
    objstore_close(o);
}

/* ---- an upload, step by step ---- */

static enum err read_hello(void *arg, uint64_t off, void *p, size_t n)
{
    (void)arg;
    memcpy(p, "hello" + off, n);
    return ERR_OK;
}

#define NO_PARTS DOCUMENT("<ListPartsResult/>")
#define PART_SENT "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: \"" HELLO_MD5 "\"\r\n\r\n"
#define COMPLETED DOCUMENT("\n<CompleteMultipartUploadResult/>")
#define UPLOADED_ETAG "62109206880d38a4010a98e11243924a-1" /* MD5 of the MD5's bytes */
#define UPLOADED "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"" UPLOADED_ETAG "\"\r\n\r\n"

static enum err upload(struct objstore *o)
{
    const struct objstore_source src = {.bytes = 5, .read = read_hello};
    struct objstore_upload u = {.id = "id/+="};
    struct objstore_meta m;
    return objstore_upload_run(o, "key", &src, &u, &m);
}

static void an_error_with_status_200(void **state)
{
    (void)state;
    struct watch w;
    struct objstore *o = open_canned(&w, 3);

    ANSWERS(NO_PARTS, PART_SENT, DOCUMENT(" \n<Error><Code>InternalError</Code></Error>"), COMPLETED, UPLOADED);
    assert_int_equal(upload(o), ERR_OK);
    assert_int_equal(w.why, OBJSTORE_BUSY);
    assert_int_equal(canned_asked(), 5);
    assert_non_null(strstr(canned.heads[1], "PUT /bucket/pre%20fix/key?partNumber=1&uploadId=id%2F%2B%3D HTTP/1.1"));
    assert_non_null(strstr(canned.heads[3], "<Part><PartNumber>1</PartNumber><ETag>&quot;" HELLO_MD5 "&quot;</ETag>"));
    objstore_close(o);
}

static void an_upload_that_went_wrong(void **state)
{
    (void)state;
    struct watch w;
    struct objstore *o = open_canned(&w, 1);

    ANSWERS(NO_PARTS, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    expect(o, upload(o), OBJSTORE_ANSWER); /* no ETag */
    ANSWERS(NO_PARTS, OK_EMPTY);
    expect(o, upload(o), OBJSTORE_DAMAGED); /* another one */
    ANSWERS(NO_PARTS, PART_SENT, DOCUMENT("<html/>"));
    expect(o, upload(o), OBJSTORE_ANSWER);
    ANSWERS(NO_PARTS, PART_SENT, COMPLETED, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: \"e\"\r\n\r\n");
    expect(o, upload(o), OBJSTORE_DAMAGED); /* another size */
    ANSWERS(NO_PARTS, PART_SENT, ERROR("404", "NoSuchUpload"), HELLO_HEAD "\r\n");
    expect(o, upload(o), OBJSTORE_NOUPLOAD); /* an object, but not this one */
    objstore_close(o);
}

static void a_completion_that_had_been_heard(void **state)
{
    (void)state;
    struct watch w;
    struct objstore *o = open_canned(&w, 1);

    ANSWERS(NO_PARTS, PART_SENT, ERROR("404", "NoSuchUpload"), UPLOADED);
    enum err e = upload(o);
    if (e)
        fail_msg("%s", objstore_trouble(o)->text);
    objstore_close(o);
}

/* ---- memory ---- */

#define SECRET_BYTES 24
#define VEIL 0x5a /* so that what is looked for is not itself in memory */

static size_t found_in(const uint8_t *p, size_t n, const uint8_t *veiled)
{
    const uint8_t *end = p + n;
    size_t found = 0;

    while (end - p >= SECRET_BYTES && (p = memchr(p, veiled[0] ^ VEIL, (size_t)(end - p) - SECRET_BYTES + 1))) {
        size_t k = 1;
        while (k < SECRET_BYTES && (p[k] ^ VEIL) == veiled[k])
            k++;
        found += k == SECRET_BYTES;
        p++;
    }
    return found;
}

/* How often it is in this process's writable memory, but in the mapping that begins at home; *seen is the last mapping
 * where it was found. The window that is searched in does not count. */
static size_t times_in_memory(const uint8_t *veiled, unsigned long long home, unsigned long long *seen)
{
    enum { WINDOW = 1 << 20 };
    uint8_t *window = mmap(NULL, WINDOW, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    FILE *maps = fopen("/proc/self/maps", "r");
    int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    unsigned long long from, to;
    char line[512], rights[8];
    size_t found = 0;

    assert_true(window != MAP_FAILED && maps && mem >= 0);
    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%llx-%llx %7s", &from, &to, rights) != 3 || rights[1] != 'w' || to - from > 1u << 30 ||
            from == home)
            continue; /* larger ones are a sanitizer's */
        for (unsigned long long at = from; at < to; at += WINDOW - SECRET_BYTES) {
            if (at <= (uintptr_t)window + WINDOW && at + WINDOW > (uintptr_t)window)
                continue;
            size_t n = to - at < WINDOW ? (size_t)(to - at) : WINDOW;
            ssize_t got = pread(mem, window, n, (off_t)at);
            size_t times = got > 0 ? found_in(window, (size_t)got, veiled) : 0;
            *seen = times ? from : *seen;
            found += times;
            memset(window, 0, WINDOW);
        }
    }
    close(mem);
    fclose(maps);
    munmap(window, WINDOW);
    return found;
}

static void write_pair(const char *path, uint8_t *veiled)
{
    uint8_t pair[5 + SECRET_BYTES] = "AKIA\n";
    int fd = open(path, O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC, 0600);

    assert_int_equal(clock_random(veiled, SECRET_BYTES), ERR_OK);
    for (size_t i = 0; i < SECRET_BYTES; i++) {
        pair[5 + i] = (uint8_t)('A' + veiled[i] % 26);
        veiled[i] = pair[5 + i] ^ VEIL;
    }
    assert_int_equal(write(fd, pair, sizeof pair), sizeof pair);
    mem_wipe(pair, sizeof pair);
    close(fd);
}

/* Neither by us nor by libcurl, which keeps copies as long as a connection is open: in locked memory, like ours. */
static void nothing_is_left_of_the_secret(void **state)
{
    (void)state;
    char endpoint[64], path[64];
    uint8_t veiled[SECRET_BYTES];
    unsigned long long locked = 0, seen;
    struct watch w = {0};
    struct objstore_config c = config_of(endpoint, &w);
    struct objstore_trouble t;
    struct objstore *o;

    snprintf(path, sizeof path, "%s.2", file);
    write_pair(path, veiled);
    c.credentials_file = path;
    ANSWERS(ERROR("503", "SlowDown"), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_int_equal(objstore_open(&c, &o, &t), ERR_OK);
    assert_int_equal(times_in_memory(veiled, 0, &locked), 1);
    assert_int_equal(objstore_put(o, "key", bytes_str("hello"), 0, NULL), ERR_OK);
    assert_int_equal(times_in_memory(veiled, locked, &seen), 0);
    objstore_close(o);
    assert_int_equal(times_in_memory(veiled, 0, &seen), 0);
    unlink(path);
}

/* Each allocation of ours and of libcurl's fails once. One that libcurl can do without may not show. */
static void memory_fails(void **state)
{
    (void)state;
    char endpoint[64];
    struct watch w = {0};
    struct objstore_config c = config_of(endpoint, &w);
    struct mem_secret_stats before, after;
    struct objstore_trouble t;
    unsigned failed = 0;

    c.retrying = NULL;
    ANSWERS("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    mem_secret_stats(&before);
    for (int n = 1, fired = 1; fired; n++) {
        struct objstore *o;
        fault_arm(FAULT_MEM, n, 1);
        enum err e = objstore_open(&c, &o, &t);
        if (!e) {
            e = objstore_put(o, "key", bytes_str("hello"), 0, NULL);
            t = *objstore_trouble(o);
        }
        fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        objstore_close(o);
        mem_secret_stats(&after);
        assert_int_equal(before.used_bytes, after.used_bytes);
        if (e)
            assert_true(fired && t.text[0]);
        failed += e == ERR_OOM;
    }
    assert_true(failed > 10);
}

static void bad_settings(void **state)
{
    (void)state;
    char endpoint[64];
    struct watch w = {0};
    struct objstore_config good = config_of(endpoint, &w), c;
    struct objstore_trouble t;
    struct objstore *o;

#define REFUSED(field, value, word)                              \
    do {                                                         \
        c = good;                                                \
        c.field = value;                                         \
        assert_int_not_equal(objstore_open(&c, &o, &t), ERR_OK); \
        assert_null(o);                                          \
        assert_int_equal(t.why, OBJSTORE_CONFIG);                \
        assert_non_null(strstr(t.text, word));                   \
    } while (0)
    REFUSED(url, "file://x", "object-store:");
    REFUSED(endpoint, "x", "object-store-endpoint:");
    REFUSED(region, "a b", "object-store-region:");
    REFUSED(credentials_file, NULL, "object-store-credentials-file: is not set");
    REFUSED(credentials_file, "/nonexistent", "object-store-credentials-file: it is not there");
    REFUSED(part_bytes, 1 << 20, "part size");
}

/* The operators' page has every row. */
static void each_reason_is_documented(void **state)
{
    (void)state;
    static char page[64 << 10];
    FILE *f = fopen("docs/object-store.md", "r");

    if (!f)
        fail_msg("docs/object-store.md: run from the root");
    page[fread(page, 1, sizeof page - 1, f)] = 0;
    fclose(f);
    for (int i = 1; i < OBJSTORE_WHY_COUNT_; i++) {
        enum objstore_why why = (enum objstore_why)i;
        char row[512];
        snprintf(row, sizeof row, "| `%s` | %s | %s |", objstore_why_name(why),
                 objstore_why_retryable(why) ? "yes" : "no", objstore_why_text(why));
        if (!strstr(page, row))
            fail_msg("docs/object-store.md has not the row %s", row);
    }
}

static int setup(void **state)
{
    (void)state;
    int fd = mkstemp(file);
    static const char pair[] = "AKIA\ns3cr3t\n";
    signal(SIGPIPE, SIG_IGN);
    if (fd < 0 || write(fd, pair, sizeof pair - 1) != sizeof pair - 1)
        return -1;
    close(fd);
    canned_start();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    canned_stop();
    return unlink(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_answer_has_its_meaning),
        cmocka_unit_test(texts_say_what_to_do),
        cmocka_unit_test(ranges_are_those_asked_for),
        cmocka_unit_test(an_etag_that_is_no_md5),
        cmocka_unit_test(a_request_is_signed),
        cmocka_unit_test(keys_are_checked),
        cmocka_unit_test(what_may_pass_is_tried_again),
        cmocka_unit_test(a_stop_is_heeded),
        cmocka_unit_test(a_server_that_is_silent),
        cmocka_unit_test(answers_without_measure),
        cmocka_unit_test(listings_that_do_not_end),
        cmocka_unit_test(uploads_and_parts_that_do_not_end),
        cmocka_unit_test(an_error_with_status_200),
        cmocka_unit_test(an_upload_that_went_wrong),
        cmocka_unit_test(a_completion_that_had_been_heard),
        cmocka_unit_test(nothing_is_left_of_the_secret),
        cmocka_unit_test(memory_fails),
        cmocka_unit_test(bad_settings),
        cmocka_unit_test(each_reason_is_documented),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
