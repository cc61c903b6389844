/* test_objstore_text.c - what the object store client reads and writes as text: documents, credentials, addresses. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/mem.h"
#include "engine/objstore_answer.h"
#include "engine/objstore_credentials.h"
#include "engine/objstore_impl.h"
#include "engine/objstore_xml.h"

/* ---- XML ---- */

static const struct {
    const char *in, *out; /* NULL: not to be read */
} texts[] = {
    {"", ""},
    {"plain", "plain"},
    {"a&amp;b&lt;&gt;&quot;&apos;", "a&b<>\"'"},
    {"&#65;&#x41;&#x00e9;&#x20AC;&#x1F600;", "AA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"},
    {"<![CDATA[<a>&amp;]]>b", "<a>&amp;b"},
    {"a<!-- <b> -->c<?x y?>", "ac"},
    {"a<b>c</b>", NULL},
    {"a<b/>", NULL},
    {"</a>", NULL},
    {"&nbsp;", NULL},
    {"&amp", NULL},
    {"&;", NULL},
    {"&#;", NULL},
    {"&#x;", NULL},
    {"&#0;", NULL},
    {"&#x110000;", NULL},
    {"&#xD800;", NULL},
    {"&#99999999999999999999;", NULL},
    {"&#4294967361;", NULL}, /* 2^32 + 'A' */
    {"&#-1;", NULL},
    {"<!-- no end", NULL},
    {"<![CDATA[no end", NULL},
    {"<!ENTITY x \"y\">", NULL},
};

static void text_is_unescaped(void **state)
{
    (void)state;
    char out[64];
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        enum err e = objxml_text(bytes_str(texts[i].in), out, sizeof out);
        if (e != (texts[i].out ? ERR_OK : ERR_CORRUPT) || strcmp(out, texts[i].out ? texts[i].out : "") != 0)
            fail_msg("'%s' gave %s '%s'", texts[i].in, err_name(e), out);
    }
    assert_int_equal(objxml_text(bytes_of("a\0b", 3), out, sizeof out), ERR_CORRUPT);
}

static void text_that_does_not_fit(void **state)
{
    (void)state;
    char out[5];
    assert_int_equal(objxml_text(bytes_str("1234"), out, sizeof out), ERR_OK);
    assert_int_equal(objxml_text(bytes_str("12345"), out, sizeof out), ERR_TOOBIG);
    assert_string_equal(out, "");
    assert_int_equal(objxml_text(bytes_str("12&#x20AC;"), out, sizeof out), ERR_TOOBIG);
}

static const struct {
    const char *doc, *name;
    int found;
    const char *inner;
} finds[] = {
    {"<a>x</a>", "a", 1, "x"},
    {"<?xml version=\"1.0\"?>\n<a xmlns=\"http://x/\">x</a>\n", "a", 1, "x"},
    {"<s3:a>x</s3:a>", "a", 1, "x"},
    {"<a/>", "a", 1, ""},
    {"<b>1</b><a>2</a><a>3</a>", "a", 1, "2"},
    {"<b><a>1</a></b>", "a", 0, ""},
    {"<a x='>' y=\"/>\">1</a>", "a", 1, "1"},
    {"<a><a>1</a></a>", "a", 1, "<a>1</a>"},
    {"<!-- <a>1</a> -->", "a", 0, ""},
    {"<![CDATA[<a>1</a>]]>", "a", 0, ""},
    {"", "a", 0, ""},
    {"text", "a", 0, ""},
    {"<a>", "a", -1, ""},
    {"<a>x</b>", "a", -1, ""},
    {"</a>", "a", -1, ""},
    {"<>x</>", "a", -1, ""},
    {"< a>x</a>", "a", -1, ""},
    {"<a", "a", -1, ""},
    {"<a b=\"", "a", -1, ""},
    {"<!DOCTYPE a [<!ENTITY x \"y\">]><a>x</a>", "a", -1, ""},
};

static void elements_are_found(void **state)
{
    (void)state;
    struct bytes inner;
    for (size_t i = 0; i < sizeof finds / sizeof *finds; i++) {
        int found = objxml_find(bytes_str(finds[i].doc), finds[i].name, &inner);
        if (found != finds[i].found || !bytes_equal(inner, bytes_str(finds[i].inner)))
            fail_msg("'%s' gave %d '%.*s'", finds[i].doc, found, (int)inner.n, (const char *)inner.p);
    }
}

/* Deep nesting costs no stack. */
static void a_deep_document(void **state)
{
    (void)state;
    size_t n = 100000;
    char *doc = malloc(7 * n + 1);
    struct bytes inner;

    assert_non_null(doc);
    for (size_t i = 0; i < n; i++) {
        memcpy(doc + 3 * i, "<a>", 3);
        memcpy(doc + 3 * n + 4 * i, "</a>", 4);
    }
    assert_int_equal(objxml_find(bytes_of(doc, 7 * n), "a", &inner), 1);
    assert_int_equal(inner.n, 7 * n - 7);
    assert_int_equal(objxml_find(bytes_of(doc, 7 * n - 1), "a", &inner), -1);
    free(doc);
}

/* ---- answers ---- */

static enum err note_entry(void *arg, const struct objstore_entry *e)
{
    char *text = arg;
    size_t n = strlen(text);
    snprintf(text + n, 256 - n, "%s %s %llu %llu;", e->key, e->etag, (unsigned long long)e->bytes,
             (unsigned long long)e->modified_ms);
    return ERR_OK;
}

#define ENTRY(key, etag, size) "<Contents><Key>" key "</Key><ETag>" etag "</ETag><Size>" size "</Size></Contents>"
#define LISTING(more, entries) "<ListBucketResult>" more entries "</ListBucketResult>"

static void a_listing(void **state)
{
    (void)state;
    static const char doc[] =
        "<?xml version=\"1.0\"?><ListBucketResult "
        "xmlns=\"x\"><IsTruncated>true</IsTruncated><Contents><Key>a&amp;b</Key>"
        "<LastModified>2026-11-29T22:01:02.345Z</LastModified><ETag>&quot;e-1&quot;</ETag><Size>18446744073709551615"
        "</Size><New/></Contents><NextContinuationToken>1+/=</NextContinuationToken></ListBucketResult>";
    char token[OBJSTORE_MARKER_BYTES], text[256] = "";

    assert_int_equal(objstore_answer_list(bytes_str(doc), note_entry, text, token), ERR_OK);
    assert_string_equal(token, "1+/=");
    assert_string_equal(text, "a&b e-1 18446744073709551615 1795989662345;");
    assert_int_equal(objstore_answer_list(bytes_str("<ListBucketResult/>"), note_entry, text, token), ERR_OK);
    assert_string_equal(token, "");
}

static void bad_listings(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "<Error/>",
        LISTING("", ENTRY("", "e", "1")),
        LISTING("", ENTRY("a", "", "1")),
        LISTING("", ENTRY("a", "a b", "1")),
        LISTING("", ENTRY("a", "e", "")),
        LISTING("", ENTRY("a", "e", "-1")),
        LISTING("", ENTRY("a", "e", "1x")),
        LISTING("", ENTRY("a", "e", "18446744073709551616")),
        LISTING("", ENTRY("<b/>", "e", "1")),
        LISTING("", "<Contents/>"),
        LISTING("", "<Contents>"),
        LISTING("<IsTruncated>true</IsTruncated>", ""),
        LISTING("", ENTRY("a", "e", "1") "</x>"),
    };
    char token[OBJSTORE_MARKER_BYTES], text[256], key[2000];

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        text[0] = 0;
        if (objstore_answer_list(bytes_str(bad[i]), note_entry, text, token) != ERR_CORRUPT || token[0])
            fail_msg("taken: %s", bad[i]);
    }
    snprintf(key, sizeof key,
             "<ListBucketResult><Contents><Key>%01025d</Key><ETag>e</ETag><Size>1</Size></Contents>"
             "</ListBucketResult>",
             0);
    assert_int_equal(objstore_answer_list(bytes_str(key), note_entry, text, token), ERR_CORRUPT);
}

static enum err count_part(void *arg, const struct objstore_part *p)
{
    *(unsigned *)arg = *(unsigned *)arg * 100 + p->number;
    return ERR_OK;
}

#define PART(n) "<Part><PartNumber>" n "</PartNumber><ETag>e</ETag><Size>5</Size></Part>"

static void parts(void **state)
{
    (void)state;
    unsigned seen = 0, behind;
    static const char *const bad[] = {
        "<ListPartsResult>" PART("0") "</ListPartsResult>",
        "<ListPartsResult>" PART("10001") "</ListPartsResult>",
        "<ListPartsResult>" PART("2") PART("2") "</ListPartsResult>",
        "<ListPartsResult>" PART("2") PART("1") "</ListPartsResult>",
        "<ListPartsResult><IsTruncated>true</IsTruncated></ListPartsResult>",
        "<ListMultipartUploadsResult/>",
    };

    assert_int_equal(objstore_answer_parts(bytes_str("<ListPartsResult><IsTruncated>true</IsTruncated>" PART("3")
                                                         PART("7") "</ListPartsResult>"),
                                           count_part, &seen, &behind),
                     ERR_OK);
    assert_int_equal(seen, 307);
    assert_int_equal(behind, 7);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(objstore_answer_parts(bytes_str(bad[i]), count_part, &seen, &behind), ERR_CORRUPT);
        assert_int_equal(behind, 0);
    }
}

static void small_answers(void **state)
{
    (void)state;
    struct objstore_said said;
    char id[OBJSTORE_ID_BYTES], etag[OBJSTORE_ETAG_BYTES];

    assert_true(objstore_answer_error(bytes_str("<Error><Code>X</Code><Message>a &lt; b</Message></Error>"), &said));
    assert_string_equal(said.code, "X");
    assert_string_equal(said.message, "a < b");
    assert_true(objstore_answer_error(bytes_str("<Error><Message><a/></Message><Code>X</Code></Error>"), &said));
    assert_string_equal(said.message, "");
    assert_false(objstore_answer_error(bytes_str("<html>busy</html>"), &said));
    assert_false(objstore_answer_error(bytes_str(""), &said));

    assert_int_equal(objstore_answer_begun(bytes_str("<InitiateMultipartUploadResult><UploadId>2~x</UploadId>"
                                                     "</InitiateMultipartUploadResult>"),
                                           id),
                     ERR_OK);
    assert_string_equal(id, "2~x");
    assert_int_equal(objstore_answer_begun(bytes_str("<InitiateMultipartUploadResult/>"), id), ERR_CORRUPT);
    assert_int_equal(objstore_answer_completed(bytes_str("\n \n<CompleteMultipartUploadResult><ETag>\"x-2\"</ETag>"
                                                         "</CompleteMultipartUploadResult>"),
                                               etag),
                     ERR_OK);
    assert_string_equal(etag, "x-2");
    assert_int_equal(objstore_answer_completed(bytes_str("<Error/>"), etag), ERR_CORRUPT);
}

static void times(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "x",
                                      "2026-11-29",
                                      "2026-11-29T22:00:00",
                                      "2026-11-29T22:00:00+01:00",
                                      "1960-01-01T00:00:00Z",
                                      "2026-13-29T22:00:00Z"};
    assert_int_equal(objstore_time_ms("1970-01-01T00:00:01Z"), 1000);
    assert_int_equal(objstore_time_ms("2026-11-29T22:01:02.345Z"), 1795989662345);
    assert_int_equal(objstore_time_ms("2026-11-29T22:01:02.3456789Z"), 1795989662345);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(objstore_time_ms(bad[i]), 0);
}

/* ---- credentials ---- */

static void good_credentials(void **state)
{
    (void)state;
    static const char *const good[] = {
        "AKIA\ns3cr3t+/=",
        "  AKIA \r\n\n# a comment\n\ts3cr3t+/=\t\r\n\n",
        "[default]\naws_access_key_id = AKIA\naws_secret_access_key = s3cr3t+/=\n",
        "aws_access_key_id=AKIA\naws_secret_access_key=s3cr3t+/=",
        "; mine\n[other]\naws_access_key_id=X\naws_secret_access_key=Y\nnonsense\n[default]\nregion = x\n"
        "aws_secret_access_key =s3cr3t+/=\naws_access_key_id= AKIA\n[third]\naws_access_key_id=Z\n",
    };
    struct objstore_credentials c;
    const char *why;

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(objstore_credentials_parse(bytes_str(good[i]), &c, &why), ERR_OK);
        assert_string_equal(why, "");
        assert_string_equal(c.access, "AKIA");
        assert_string_equal(c.secret, "s3cr3t+/=");
    }
}

static void bad_credentials(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "\n\n",
        "AKIA",
        "AKIA\n",
        "AKIA\nsecret\nmore",
        "AK IA\nsecret",
        "AKIA\nsec ret",
        "AKIA\nsecr\xc3\xa9t",
        "[default]\n",
        "[default]\naws_access_key_id = AKIA\n",
        "[default]\naws_secret_access_key = s\n",
        "[default]\naws_access_key_id =\naws_secret_access_key = s\n",
        "[other]\naws_access_key_id = AKIA\naws_secret_access_key = s\n",
        "[default]\naws_access_key_id = AKIA\naws_secret_access_key = s\naws_session_token = t\n",
        "[default]\nnonsense\n",
    };
    struct objstore_credentials c;
    const char *why;
    char text[1000];

    for (size_t i = 0; i <= sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "AKIA\n%0257d", 0);
        const char *one = i < sizeof bad / sizeof *bad ? bad[i] : text;
        memset(&c, 1, sizeof c);
        if (objstore_credentials_parse(bytes_str(one), &c, &why) != ERR_SYNTAX || !why[0])
            fail_msg("taken: %s", one);
        assert_string_equal(c.access, "");
        assert_string_equal(c.secret, "");
    }
    assert_int_equal(objstore_credentials_parse(bytes_of("AKIA\nsec\0ret", 12), &c, &why), ERR_SYNTAX);
}

static char dir[] = "/tmp/coffer-objstore-XXXXXX";
static char path[64];

static void write_file(const char *text, mode_t mode)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void expect_refused(enum err want, const char *part_of_why)
{
    struct objstore_credentials *c;
    const char *why;
    assert_int_equal(objstore_credentials_new(path, &c, &why), want);
    assert_null(c);
    assert_non_null(strstr(why, part_of_why));
}

static void a_credentials_file(void **state)
{
    (void)state;
    struct objstore_credentials *c;
    const char *why;
    char *large = malloc(20000);

    write_file("AKIA\nsecret\n", 0600);
    assert_int_equal(objstore_credentials_new(path, &c, &why), ERR_OK);
    assert_string_equal(c->secret, "secret");
    objstore_credentials_free(c);
    for (mode_t bit = 1; bit < 0100; bit <<= 1) {
        write_file("AKIA\nsecret\n", 0600 | bit);
        expect_refused(ERR_NOPERM, "chmod 0600");
    }
    memset(large, '\n', 19999);
    large[19999] = 0;
    write_file(large, 0600);
    expect_refused(ERR_SYNTAX, "too large");
    free(large);
    unlink(path);
    expect_refused(ERR_NOTFOUND, "not there");
    assert_int_equal(mkdir(path, 0700), 0);
    expect_refused(ERR_IO, "regular file");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0); /* must not wait for a writer */
    expect_refused(ERR_IO, "regular file");
    unlink(path);
}

static void a_credentials_file_with_faults(void **state)
{
    (void)state;
    static const enum fault_kind kinds[] = {FAULT_MEM, FAULT_FILE};
    struct objstore_credentials *c;
    const char *why;
    struct mem_secret_stats before, after;

    write_file("AKIA\nsecret\n", 0600);
    mem_secret_stats(&before);
    for (size_t k = 0; k < 2; k++) {
        for (int n = 1;; n++) {
            fault_arm(kinds[k], n, EIO);
            enum err e = objstore_credentials_new(path, &c, &why);
            int fired = fault_fired(kinds[k]);
            fault_disarm(kinds[k]);
            objstore_credentials_free(c);
            mem_secret_stats(&after);
            assert_int_equal(before.used_bytes, after.used_bytes);
            assert_int_equal(e != ERR_OK, fired);
            assert_true(!fired || why[0]);
            if (!fired)
                break;
        }
    }
    unlink(path);
}

/* ---- addresses, keys, queries ---- */

static void urls(void **state)
{
    (void)state;
    static const struct {
        const char *url, *bucket, *prefix; /* bucket NULL: refused */
    } rows[] = {
        {"s3://bucket", "bucket", ""},
        {"s3://bucket/", "bucket", ""},
        {"s3://my.bucket-1/a b/c/", "my.bucket-1", "a b/c/"},
        {"s3://bucket/a", "bucket", "a/"},
        {NULL, NULL, NULL},
        {"", NULL, NULL},
        {"http://bucket/x", NULL, NULL},
        {"s3://", NULL, NULL},
        {"s3://ab/x", NULL, NULL},
        {"s3://Bucket/x", NULL, NULL},
        {"s3://-bucket/x", NULL, NULL},
        {"s3://bucket?x/y", NULL, NULL},
        {"s3://bucket//x", NULL, NULL},
        {"s3://bucket/a/../b", NULL, NULL},
        {"s3://bucket/./b", NULL, NULL},
        {"s3://bucket/a\nb", NULL, NULL},
        {"s3://bucket/\xc3\xa4", NULL, NULL},
        {"s3://a123456789012345678901234567890123456789012345678901234567890123/x", NULL, NULL},
    };
    char bucket[OBJSTORE_BUCKET_BYTES], prefix[OBJSTORE_KEY_MAX + 1];

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *why = objstore_parse_url(rows[i].url, bucket, prefix);
        if (!rows[i].bucket != (why[0] != 0))
            fail_msg("'%s': %s", rows[i].url, why);
        if (rows[i].bucket) {
            assert_string_equal(bucket, rows[i].bucket);
            assert_string_equal(prefix, rows[i].prefix);
        }
    }
}

static void endpoints(void **state)
{
    (void)state;
    static const char *const good[] = {"https://s3.example.com", "http://localhost:7480", "https://10.0.0.1:1",
                                       "http://[::1]:65535", "https://[2001:db8::1]"};
    static const char *const bad[] = {"",           "s3.example.com", "ftp://x",         "http://",
                                      "http:///",   "http://x/y",     "http://u:p@x",    "http://x:",
                                      "http://x:0", "http://x:65536", "http://x:123456", "http://x?y",
                                      "http://x y", "http://[::1",    "http://[::1]x",   "http://[]",
                                      "http://x#",  "http://x:1:2",   "http://x\n"};
    char out[OBJSTORE_ENDPOINT_BYTES];

    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_string_equal(objstore_parse_endpoint(good[i], out), "");
        assert_string_equal(out, good[i]);
    }
    assert_string_equal(objstore_parse_endpoint("http://x:1/", out), "");
    assert_string_equal(out, "http://x:1");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!objstore_parse_endpoint(bad[i], out)[0] || out[0])
            fail_msg("taken: %s", bad[i]);
    assert_true(objstore_parse_endpoint(NULL, out)[0]);
}

static void keys(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "a/b", "a b", ".a", "..a/b..", "~!@#$%^&*()?"};
    static const char *const bad[] = {"", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "a/..", "a\tb", "a\x7f", "\xff"};

    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(objstore_key_valid(good[i], 100));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (objstore_key_valid(bad[i], 100))
            fail_msg("taken: %s", bad[i]);
    assert_true(objstore_key_valid("1234", 4));
    assert_false(objstore_key_valid("12345", 4));
}

static void queries(void **state)
{
    (void)state;
    struct buf q;

    buf_init(&q, 1000);
    assert_int_equal(objstore_put_query(&q, "a", "1 2+3/4=5&6%~"), ERR_OK);
    assert_int_equal(objstore_put_query(&q, "uploads", ""), ERR_OK);
    assert_int_equal(objstore_put_escaped(&q, "/x/\xc3\xa4*'", 1), ERR_OK);
    assert_true(bytes_equal(buf_bytes(&q), bytes_str("a=1%202%2B3%2F4%3D5%266%25~&uploads=/x/%C3%A4%2A%27")));
    buf_fini(&q);
}

static int setup(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/credentials", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_unescaped),
        cmocka_unit_test(text_that_does_not_fit),
        cmocka_unit_test(elements_are_found),
        cmocka_unit_test(a_deep_document),
        cmocka_unit_test(a_listing),
        cmocka_unit_test(bad_listings),
        cmocka_unit_test(parts),
        cmocka_unit_test(small_answers),
        cmocka_unit_test(times),
        cmocka_unit_test(good_credentials),
        cmocka_unit_test(bad_credentials),
        cmocka_unit_test(a_credentials_file),
        cmocka_unit_test(a_credentials_file_with_faults),
        cmocka_unit_test(urls),
        cmocka_unit_test(endpoints),
        cmocka_unit_test(keys),
        cmocka_unit_test(queries),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
