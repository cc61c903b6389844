/* objstore.c - the object store client against a real S3 service, Ceph's object gateway, whole and broken.
 *
 * One gateway serves all tests; each test has a prefix of its own in one bucket. A proxy (tests/lib/cut.h) breaks
 * connections where a test wants it. The program runs itself as the uploader that is killed ("die").
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "engine/objstore.h"
#include "engine/objstore_impl.h"
#include "tests/lib/cut.h"
#include "tests/lib/e2e.h"
#include "tests/lib/rgw.h"

#define MIB (1u << 20)
#define BIG_BYTES (40u * MIB + 12345)
#define PART_BYTES (5u * MIB)
#define BIG_PARTS 9

static struct rgw gateway;
static char credentials[128];
static uint8_t *big; /* BIG_BYTES that do not repeat */

/* libcurl signs with the time that it gets from here. */
static _Atomic long clock_ahead_s;

time_t time(time_t *t)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t)
        *t = now.tv_sec + clock_ahead_s;
    return now.tv_sec + clock_ahead_s;
}

/* ---- clients ---- */

struct options {
    const char *bucket, *prefix, *endpoint, *credentials, *ca_file;
    int port; /* of http://127.0.0.1, where endpoint is NULL */
    unsigned attempts, page_entries;
    int (*stop)(void *arg);
    void (*retrying)(void *arg, const struct objstore_trouble *t, unsigned attempt, unsigned wait_ms);
    void *arg;
};

static struct objstore *open_with(struct options with)
{
    char url[128], endpoint[64];
    struct objstore_trouble t;
    struct objstore *o;

    snprintf(url, sizeof url, "s3://%s/%s", with.bucket ? with.bucket : "coffer-test", with.prefix);
    snprintf(endpoint, sizeof endpoint, "http://127.0.0.1:%d", with.port ? with.port : gateway.port);
    const struct objstore_config config = {
        .url = url,
        .endpoint = with.endpoint ? with.endpoint : endpoint,
        .credentials_file = with.credentials ? with.credentials : credentials,
        .ca_file = with.ca_file,
        .attempts = with.attempts ? with.attempts : 8,
        .pause_ms = 20,
        .part_bytes = PART_BYTES,
        .page_entries = with.page_entries,
        .stop = with.stop,
        .retrying = with.retrying,
        .arg = with.arg,
    };
    if (objstore_open(&config, &o, &t) != ERR_OK)
        fail_msg("%s", t.text);
    return o;
}

static struct objstore *open_at(const char *prefix)
{
    return open_with((struct options){.prefix = prefix});
}

/* The call must succeed. */
static void ok(const struct objstore *o, enum err e)
{
    if (e)
        fail_msg("%s: %s", err_name(e), objstore_trouble(o)->text);
}

/* The call must have failed, for this reason, and say so. */
static void fails(const struct objstore *o, enum err e, enum objstore_why why)
{
    const struct objstore_trouble *t = objstore_trouble(o);

    if (e == ERR_OK)
        fail_msg("succeeded, where %s was wanted", objstore_why_name(why));
    if (t->why != why)
        fail_msg("%s, where %s was wanted: %s", objstore_why_name(t->why), objstore_why_name(why), t->text);
    if (why != OBJSTORE_CALLER)
        assert_int_equal(e, objstore_why_err(why));
    assert_non_null(strstr(t->text, objstore_why_text(why)));
    assert_null(strstr(t->text, RGW_SECRET));
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(chmod(path, 0600), 0);
    assert_true(fputs(text, f) >= 0 && fclose(f) == 0);
}

static void put_text(struct objstore *o, const char *key, const char *text)
{
    ok(o, objstore_put(o, key, bytes_str(text), 0, NULL));
}

static void expect_text(struct objstore *o, const char *key, const char *text)
{
    struct buf b;

    buf_init(&b, MIB);
    ok(o, objstore_get(o, key, MIB, &b, NULL));
    assert_true(bytes_equal(buf_bytes(&b), bytes_str(text)));
    buf_fini(&b);
}

/* ---- the gateway ---- */

static void fill_big(void)
{
    uint64_t x = 88172645463325252u;

    big = malloc(BIG_BYTES + 8);
    assert_non_null(big);
    for (size_t i = 0; i < BIG_BYTES; i += 8) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        memcpy(big + i, &x, 8);
    }
}

static void a_gateway_starts(void **state)
{
    (void)state;
    const struct s3_request make = {
        .doing = "make bucket", .method = "PUT", .type = "application/octet-stream", .body = bytes_of("", 0)};
    struct s3_answer a;

    fill_big();
    rgw_start(&gateway);
    snprintf(credentials, sizeof credentials, "%s/credentials", gateway.dir);
    write_file(credentials, RGW_ACCESS "\n" RGW_SECRET "\n");
    struct objstore *o = open_at("");
    ok(o, objstore_request(o, &make, &a));
    objstore_close(o);
}

/* ---- objects ---- */

static void objects_come_back(void **state)
{
    (void)state;
    struct objstore *o = open_at("objects");
    struct objstore_meta put, head, get;
    struct buf b;

    buf_init(&b, MIB);
    ok(o, objstore_put(o, "a/b", bytes_str("hello"), 0, &put));
    ok(o, objstore_head(o, "a/b", &head));
    ok(o, objstore_get(o, "a/b", 5, &b, &get));
    assert_true(bytes_equal(buf_bytes(&b), bytes_str("hello")));
    assert_int_equal(head.bytes, 5);
    assert_true(head.is_md5);
    assert_string_equal(head.etag, "5d41402abc4b2a76b9719d911017c592");
    assert_memory_equal(&put, &head, sizeof put);
    assert_memory_equal(&get, &head, sizeof get);

    fails(o, objstore_get(o, "a/b", 4, &b, NULL), OBJSTORE_TOOBIG);
    assert_int_equal(buf_size(&b), 5);
    ok(o, objstore_get_range(o, "a/b", head.etag, 1, 3, &b));
    assert_true(bytes_equal(buf_bytes(&b), bytes_str("helloell")));
    fails(o, objstore_get_range(o, "a/b", NULL, 3, 4, &b), OBJSTORE_ANSWER);
    fails(o, objstore_get_range(o, "a/b", NULL, 9, 1, &b), OBJSTORE_ANSWER);
    assert_int_equal(buf_size(&b), 8);

    ok(o, objstore_delete(o, "a/b"));
    ok(o, objstore_delete(o, "a/b"));
    fails(o, objstore_get(o, "a/b", 5, &b, NULL), OBJSTORE_ABSENT);
    fails(o, objstore_head(o, "a/b", &head), OBJSTORE_ABSENT);
    buf_fini(&b);
    objstore_close(o);
}

static void an_empty_object(void **state)
{
    (void)state;
    struct objstore *o = open_at("empty");
    struct objstore_meta m;

    ok(o, objstore_put(o, "e", bytes_of(NULL, 0), 0, &m));
    ok(o, objstore_head(o, "e", &m));
    assert_int_equal(m.bytes, 0);
    expect_text(o, "e", "");
    objstore_close(o);
}

static const char *const awkward[] = {"!*'()",  "a b+c=d&e", "a%2Fb%",        "a@:,;$b",
                                      "a~-_.b", "q?x#y",     "x\"<&>\\^`{|}", "z/.z/..z"};
#define AWKWARD (sizeof awkward / sizeof *awkward)

struct names {
    size_t n;
    char name[64][64];
    uint64_t modified_ms;
};

static int collect(void *arg, const struct objstore_entry *e)
{
    struct names *names = arg;

    assert_true(names->n < 64);
    assert_int_equal(strlen(e->etag), 32);
    names->modified_ms = e->modified_ms;
    snprintf(names->name[names->n++], 64, "%s", e->key);
    return 0;
}

static void awkward_keys(void **state)
{
    (void)state;
    struct objstore *o = open_at("awk ward+%");
    struct names names = {0};

    for (size_t i = 0; i < AWKWARD; i++)
        put_text(o, awkward[i], awkward[i]);
    ok(o, objstore_list(o, "", "", 100, collect, &names));
    assert_int_equal(names.n, AWKWARD);
    for (size_t i = 0; i < AWKWARD; i++) {
        assert_string_equal(names.name[i], awkward[i]);
        expect_text(o, awkward[i], awkward[i]);
        ok(o, objstore_delete(o, awkward[i]));
    }
    objstore_close(o);
}

static void only_a_new_object(void **state)
{
    (void)state;
    struct objstore *o = open_at("new");

    ok(o, objstore_put(o, "k", bytes_str("1"), 1, NULL));
    fails(o, objstore_put(o, "k", bytes_str("2"), 1, NULL), OBJSTORE_EXISTS);
    fails(o, objstore_put(o, "k", bytes_str("1"), 1, NULL), OBJSTORE_EXISTS);
    expect_text(o, "k", "1");
    objstore_close(o);
}

static void a_listing_of_several_pages(void **state)
{
    (void)state;
    struct objstore *o = open_with((struct options){.prefix = "pages", .page_entries = 4});
    struct names names = {0};
    char key[32];

    for (int i = 24; i >= 0; i--) {
        snprintf(key, sizeof key, "%c/%02d", i % 2 ? 'a' : 'b', i);
        put_text(o, key, key);
    }
    ok(o, objstore_list(o, "", "", 100, collect, &names));
    assert_int_equal(names.n, 25);
    for (size_t i = 1; i < names.n; i++)
        assert_true(strcmp(names.name[i - 1], names.name[i]) < 0);
    uint64_t now_ms = clock_wall_ms();
    assert_true(names.modified_ms > now_ms - 600000 && names.modified_ms < now_ms + 60000);

    names.n = 0;
    ok(o, objstore_list(o, "a/", "", 10, collect, &names));
    assert_int_equal(names.n, 10);
    assert_string_equal(names.name[0], "a/01");
    names.n = 0;
    ok(o, objstore_list(o, "", "a/21", 3, collect, &names));
    assert_int_equal(names.n, 3);
    assert_string_equal(names.name[0], "a/23");
    assert_string_equal(names.name[1], "b/00");
    names.n = 0;
    ok(o, objstore_list(o, "c", "", 10, collect, &names));
    assert_int_equal(names.n, 0);
    objstore_close(o);
}

/* ---- uploads and downloads ---- */

struct reader {
    unsigned reads;
    unsigned fail_at; /* fails at this read, from 1; 0: never */
    unsigned stop_at; /* the client is told to stop after this one */
};

static enum err read_big(void *arg, uint64_t off, void *p, size_t n)
{
    struct reader *r = arg;

    assert_true(off + n <= BIG_BYTES);
    if (++r->reads == r->fail_at)
        return ERR_THROTTLED; /* one that nothing here makes */
    memcpy(p, big + off, n);
    return ERR_OK;
}

static int stop_after_reads(void *arg)
{
    struct reader *r = arg;
    return r->stop_at && r->reads >= r->stop_at;
}

static struct objstore_source source_of(struct reader *r)
{
    return (struct objstore_source){.bytes = BIG_BYTES, .read = read_big, .arg = r};
}

struct checker {
    struct objstore *o; /* and key: replaced after so many bytes */
    const char *key;
    uint64_t next, replace_at, fail_at;
};

/* Each byte once, in order. */
static enum err check_big(void *arg, uint64_t off, const void *p, size_t n)
{
    struct checker *c = arg;

    assert_int_equal(off, c->next);
    assert_true(off + n <= BIG_BYTES);
    assert_memory_equal(p, big + off, n);
    c->next += n;
    if (c->fail_at && c->next >= c->fail_at)
        return ERR_THROTTLED;
    if (c->replace_at && c->next >= c->replace_at) {
        put_text(c->o, c->key, "another");
        c->replace_at = 0;
    }
    return ERR_OK;
}

static void expect_big(struct objstore *o, const char *key)
{
    struct checker c = {0};
    struct objstore_meta m;

    ok(o, objstore_download(o, key, NULL, 0, check_big, &c, &m));
    assert_int_equal(c.next, BIG_BYTES);
    assert_int_equal(m.bytes, BIG_BYTES);
}

static void an_upload_in_parts(void **state)
{
    (void)state;
    struct objstore *o = open_at("parts");
    struct reader r = {0};
    const struct objstore_source src = source_of(&r);
    struct objstore_upload u;
    struct objstore_meta m;
    struct buf b;

    ok(o, objstore_upload_begin(o, "big", u.id));
    fails(o, objstore_head(o, "big", &m), OBJSTORE_ABSENT);
    ok(o, objstore_upload_run(o, "big", &src, &u, &m));
    assert_int_equal(u.parts, BIG_PARTS);
    assert_int_equal(u.parts_kept, 0);
    assert_int_equal(m.bytes, BIG_BYTES);
    assert_false(m.is_md5);
    assert_non_null(strstr(m.etag, "-9"));
    expect_big(o, "big");

    buf_init(&b, MIB);
    ok(o, objstore_get_range(o, "big", m.etag, PART_BYTES - 5, 10, &b));
    assert_memory_equal(buf_data(&b), big + PART_BYTES - 5, 10);
    buf_fini(&b);
    fails(o, objstore_upload_run(o, "big2", &src, &u, &m), OBJSTORE_NOUPLOAD);
    objstore_close(o);
}

/* Of an object with one part, it would be the repetition of a completed upload that is refused. */
static void a_part_that_is_empty(void **state)
{
    (void)state;
    struct objstore *o = open_at("nothing");
    struct reader r = {0};
    struct objstore_source src = source_of(&r);
    struct objstore_upload u;
    struct objstore_meta m;

    src.bytes = 0;
    ok(o, objstore_upload_begin(o, "k", u.id));
    ok(o, objstore_upload_run(o, "k", &src, &u, &m));
    assert_int_equal(m.bytes, 0);
    objstore_close(o);
}

static void from_file_to_file(void **state)
{
    (void)state;
    struct objstore *o = open_at("file");
    char from[128], to[128];
    struct objstore_upload u;
    struct objstore_meta m;
    uint8_t *back = malloc(7 * MIB);
    size_t got;

    assert_non_null(back);
    snprintf(from, sizeof from, "%s/from", gateway.dir);
    snprintf(to, sizeof to, "%s/to", gateway.dir);
    int in = open(from, O_RDWR | O_CREAT | O_CLOEXEC, 0600), out = open(to, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct objstore_source src = {.bytes = 7 * MIB, .read = objstore_read_file, .arg = &in};
    assert_int_equal(file_pwrite(in, big, 7 * MIB, 0), ERR_OK);
    ok(o, objstore_upload_begin(o, "k", u.id));
    ok(o, objstore_upload_run(o, "k", &src, &u, &m));
    ok(o, objstore_download(o, "k", m.etag, 0, objstore_write_file, &out, &m));
    assert_int_equal(file_pread(out, back, 7 * MIB, 0, &got), ERR_OK);
    assert_int_equal(got, 7 * MIB);
    assert_memory_equal(back, big, 7 * MIB);

    src.bytes++; /* than there is in the file */
    ok(o, objstore_upload_begin(o, "k2", u.id));
    enum err e = objstore_upload_run(o, "k2", &src, &u, &m);
    fails(o, e, OBJSTORE_CALLER);
    assert_int_equal(e, ERR_CORRUPT);
    ok(o, objstore_upload_abort(o, "k2", u.id));
    close(in);
    close(out);
    free(back);
    objstore_close(o);
}

/* An empty id would make it a request about the object. */
static void an_abort_without_id_deletes_nothing(void **state)
{
    (void)state;
    struct objstore *o = open_at("noid");

    put_text(o, "k", "v");
    fails(o, objstore_upload_abort(o, "k", ""), OBJSTORE_NOUPLOAD);
    expect_text(o, "k", "v");
    objstore_close(o);
}

static void count_part(void *arg, const struct objstore_part *p)
{
    unsigned *n = arg;
    assert_int_equal(p->number, ++*n);
    assert_int_equal(p->bytes, PART_BYTES);
}

static void an_upload_goes_on_after_a_stop(void **state)
{
    (void)state;
    struct reader r = {.stop_at = 4};
    struct objstore *o =
        open_with((struct options){.prefix = "stop", .page_entries = 2, .stop = stop_after_reads, .arg = &r});
    const struct objstore_source src = source_of(&r);
    struct objstore_upload u;
    struct objstore_meta m;
    unsigned parts = 0;

    ok(o, objstore_upload_begin(o, "big", u.id));
    fails(o, objstore_upload_run(o, "big", &src, &u, &m), OBJSTORE_STOPPED);
    r.stop_at = 0;
    ok(o, objstore_upload_parts(o, "big", u.id, count_part, &parts));
    assert_int_equal(parts, 3);

    r = (struct reader){.fail_at = 6};
    assert_int_equal(objstore_upload_run(o, "big", &src, &u, &m), ERR_THROTTLED);
    fails(o, ERR_THROTTLED, OBJSTORE_CALLER);
    assert_int_equal(u.parts_kept, 3);

    r = (struct reader){0};
    ok(o, objstore_upload_run(o, "big", &src, &u, &m));
    assert_int_equal(u.parts_kept, 5);
    expect_big(o, "big");
    objstore_close(o);
}

/* The parts that are there and are not those of the source are sent anew. */
static void an_upload_of_something_else(void **state)
{
    (void)state;
    struct reader r = {.fail_at = 6};
    struct objstore *o = open_at("else");
    const struct objstore_source src = source_of(&r);
    struct objstore_upload u;
    struct objstore_meta m;

    ok(o, objstore_upload_begin(o, "big", u.id));
    big[PART_BYTES] ^= 1; /* in the second part */
    assert_int_equal(objstore_upload_run(o, "big", &src, &u, &m), ERR_THROTTLED);
    big[PART_BYTES] ^= 1;
    ok(o, objstore_upload_run(o, "big", &src, &u, &m));
    assert_int_equal(u.parts_kept, 4);
    expect_big(o, "big");
    objstore_close(o);
}

/* ---- a process that is killed ---- */

static enum err read_and_die(void *arg, uint64_t off, void *p, size_t n)
{
    unsigned *reads = arg;

    if (++*reads == 4)
        raise(SIGKILL);
    memcpy(p, big + off, n);
    return ERR_OK;
}

static int die_uploading(const char *port, const char *credentials_file)
{
    unsigned reads = 0;
    const struct objstore_source src = {.bytes = BIG_BYTES, .read = read_and_die, .arg = &reads};
    struct objstore_upload u;
    struct objstore_meta m;

    fill_big();
    snprintf(credentials, sizeof credentials, "%s", credentials_file);
    struct objstore *o = open_with((struct options){.prefix = "killed", .port = atoi(port)});
    return objstore_upload_begin(o, "x/big", u.id) || objstore_upload_run(o, "x/big", &src, &u, &m);
}

static int note_upload(void *arg, const struct objstore_pending *p)
{
    struct objstore_upload *u = arg;

    assert_string_equal(p->key, "x/big");
    assert_string_equal(u->id, "");
    assert_true(p->begun_ms > 0);
    snprintf(u->id, sizeof u->id, "%s", p->id);
    return 0;
}

static void an_upload_goes_on_after_a_kill(void **state)
{
    (void)state;
    struct objstore *o = open_at("killed");
    struct reader r = {0};
    const struct objstore_source src = source_of(&r);
    struct objstore_upload u = {.id = ""};
    struct objstore_meta m;
    char said[512], port[16];

    snprintf(port, sizeof port, "%d", gateway.port);
    int status = e2e_run(said, sizeof said, "tests/e2e/objstore", "die", port, credentials, NULL);
    if (!WIFSIGNALED(status))
        fail_msg("the uploader ended by itself, status %d: %s", status, said);
    ok(o, objstore_uploads(o, "x/", note_upload, &u));
    ok(o, objstore_upload_run(o, "x/big", &src, &u, &m));
    assert_int_equal(u.parts_kept, 3);
    expect_big(o, "x/big");
    objstore_close(o);
}

static int count_upload(void *arg, const struct objstore_pending *p)
{
    (void)p;
    ++*(unsigned *)arg;
    return 0;
}

static unsigned uploads_at(struct objstore *o, const char *begin)
{
    unsigned n = 0;
    ok(o, objstore_uploads(o, begin, count_upload, &n));
    return n;
}

static void uploads_are_aborted(void **state)
{
    (void)state;
    struct objstore *o = open_with((struct options){.prefix = "abort", .page_entries = 2});
    char id[OBJSTORE_ID_BYTES], key[16];
    unsigned aborted;

    for (int i = 0; i < 7; i++) {
        snprintf(key, sizeof key, "%c/%d", i < 5 ? 'a' : 'b', i);
        ok(o, objstore_upload_begin(o, key, id));
    }
    assert_int_equal(uploads_at(o, ""), 7);
    ok(o, objstore_upload_abort(o, "b/6", id));
    ok(o, objstore_upload_abort(o, "b/6", id));
    assert_int_equal(uploads_at(o, ""), 6);
    ok(o, objstore_uploads_expire(o, "", 1000, &aborted)); /* of 1970 */
    assert_int_equal(aborted, 0);
    ok(o, objstore_uploads_expire(o, "a/", clock_wall_ms() + 60000, &aborted));
    assert_int_equal(aborted, 5);
    assert_int_equal(uploads_at(o, ""), 1);
    objstore_close(o);
}

/* ---- what an operator gets wrong ---- */

static void bad_credentials(void **state)
{
    (void)state;
    char path[160];
    struct objstore_meta m;
    struct buf b;

    buf_init(&b, MIB);
    snprintf(path, sizeof path, "%s/bad", gateway.dir);
    write_file(path, RGW_ACCESS "\nanothersecret\n");
    struct objstore *o = open_with((struct options){.prefix = "bad", .credentials = path});
    fails(o, objstore_put(o, "k", bytes_str("v"), 0, NULL), OBJSTORE_CREDENTIALS);
    assert_string_equal(objstore_trouble(o)->code, "SignatureDoesNotMatch");
    assert_int_equal(objstore_trouble(o)->http, 403);
    assert_null(strstr(objstore_trouble(o)->text, "anothersecret"));
    fails(o, objstore_get(o, "k", 1, &b, NULL), OBJSTORE_CREDENTIALS);
    fails(o, objstore_head(o, "k", &m), OBJSTORE_CREDENTIALS);
    fails(o, objstore_put(o, "k", bytes_of(big, 8 * MIB), 0, NULL), OBJSTORE_CREDENTIALS);
    objstore_close(o);

    write_file(path, "[default]\naws_access_key_id = NOBODY\naws_secret_access_key = anothersecret\n");
    o = open_with((struct options){.prefix = "bad", .credentials = path});
    fails(o, objstore_get(o, "k", 1, &b, NULL), OBJSTORE_CREDENTIALS);
    assert_string_equal(objstore_trouble(o)->code, "InvalidAccessKeyId");
    objstore_close(o);
    buf_fini(&b);
}

static void no_such_bucket(void **state)
{
    (void)state;
    struct objstore *o = open_with((struct options){.bucket = "no-such-bucket", .prefix = "x"});
    struct objstore_meta m;
    struct names names = {0};
    char id[OBJSTORE_ID_BYTES];

    fails(o, objstore_put(o, "k", bytes_str("v"), 0, NULL), OBJSTORE_NOBUCKET);
    fails(o, objstore_head(o, "k", &m), OBJSTORE_NOBUCKET);
    fails(o, objstore_list(o, "", "", 10, collect, &names), OBJSTORE_NOBUCKET);
    fails(o, objstore_upload_begin(o, "k", id), OBJSTORE_NOBUCKET);
    objstore_close(o);
}

static void a_clock_that_is_wrong(void **state)
{
    (void)state;
    struct objstore *o = open_at("clock");

    clock_ahead_s = 3600;
    clock_test_set_wall_ms((uint64_t)time(NULL) * 1000);
    enum err e = objstore_put(o, "k", bytes_str("v"), 0, NULL);
    clock_test_set_wall_ms(0);
    clock_ahead_s = 0;
    fails(o, e, OBJSTORE_CLOCK);
    assert_non_null(strstr(objstore_trouble(o)->text, "ahead"));
    ok(o, objstore_put(o, "k", bytes_str("v"), 0, NULL));
    objstore_close(o);
}

static void over_the_quota(void **state)
{
    (void)state;
    struct objstore *o = open_at("quota");
    struct reader r = {0};
    const struct objstore_source src = source_of(&r);
    struct objstore_upload u;
    struct objstore_meta m;

    ok(o, objstore_upload_begin(o, "big", u.id));
    rgw_admin(&gateway, "quota set --quota-scope=user --uid=coffer --max-size=1048576 --max-objects=-1");
    rgw_admin(&gateway, "quota enable --quota-scope=user --uid=coffer");
    enum err put = objstore_put(o, "k", bytes_of(big, 2 * MIB), 0, NULL);
    fails(o, put, OBJSTORE_QUOTA);
    fails(o, objstore_upload_run(o, "big", &src, &u, &m), OBJSTORE_QUOTA);
    rgw_admin(&gateway, "quota disable --quota-scope=user --uid=coffer");
    ok(o, objstore_upload_run(o, "big", &src, &u, &m));
    objstore_close(o);
}

static void tls(void **state)
{
    (void)state;
    char endpoint[64], ca[128], other_ca[128], missing[128];

    snprintf(endpoint, sizeof endpoint, "https://localhost:%d", gateway.tls_port);
    snprintf(ca, sizeof ca, "%s/ca.pem", gateway.dir);
    snprintf(other_ca, sizeof other_ca, "%s/other-ca.pem", gateway.dir);
    snprintf(missing, sizeof missing, "%s/no.pem", gateway.dir);
    struct objstore *o = open_with((struct options){.prefix = "tls", .endpoint = endpoint, .ca_file = ca});
    put_text(o, "k", "v");
    expect_text(o, "k", "v");
    objstore_close(o);

    const char *const wrong[] = {other_ca, NULL, missing}; /* NULL: the system's do not know ours */
    for (size_t i = 0; i < 3; i++) {
        o = open_with((struct options){.prefix = "tls", .endpoint = endpoint, .ca_file = wrong[i]});
        fails(o, objstore_put(o, "k", bytes_str("w"), 0, NULL), OBJSTORE_TLS);
        objstore_close(o);
    }
    snprintf(endpoint, sizeof endpoint, "https://127.0.0.1:%d", gateway.port); /* where http is spoken */
    o = open_with((struct options){.prefix = "tls", .endpoint = endpoint, .ca_file = ca, .attempts = 2});
    fails(o, objstore_put(o, "k", bytes_str("w"), 0, NULL), OBJSTORE_UNREACHABLE);
    objstore_close(o);
}

/* ---- what breaks ---- */

/* The first pause is used to start the gateway. */
static void start_gateway(void *arg, const struct objstore_trouble *t, unsigned attempt, unsigned wait_ms)
{
    unsigned *calls = arg;

    (void)wait_ms;
    assert_int_equal(t->why, OBJSTORE_UNREACHABLE);
    assert_int_equal(attempt, *calls + 2);
    if (++*calls == 2)
        rgw_up(&gateway);
}

static void a_server_that_comes_back(void **state)
{
    (void)state;
    unsigned calls = 0;
    struct objstore *o = open_at("back"), *patient;

    put_text(o, "k", "v");
    rgw_down(&gateway);
    fails(o, objstore_put(o, "k", bytes_str("w"), 0, NULL), OBJSTORE_UNREACHABLE);
    assert_int_equal(objstore_trouble(o)->http, 0);
    patient = open_with((struct options){.prefix = "back", .retrying = start_gateway, .arg = &calls});
    expect_text(patient, "k", "v");
    assert_int_equal(calls, 2);
    expect_text(o, "k", "v");
    objstore_close(patient);
    objstore_close(o);
}

static void an_object_that_is_altered(void **state)
{
    (void)state;
    struct objstore *o = open_at("altered");
    struct checker c = {.o = open_at("altered"), .key = "big", .replace_at = 7 * MIB};
    struct objstore_meta m, now;
    struct buf b;

    buf_init(&b, MIB);
    put_text(o, "k", "before");
    ok(o, objstore_head(o, "k", &m));
    put_text(o, "k", "after!");
    fails(o, objstore_get_range(o, "k", m.etag, 0, 6, &b), OBJSTORE_ALTERED);
    assert_int_equal(buf_size(&b), 0);
    fails(o, objstore_download(o, "k", m.etag, 0, check_big, &c, &now), OBJSTORE_ALTERED);

    ok(o, objstore_put(o, "big", bytes_of(big, 12 * MIB), 0, &m));
    fails(o, objstore_download(o, "big", NULL, 0, check_big, &c, &now), OBJSTORE_ALTERED);
    assert_true(c.next >= 7 * MIB && c.next <= 12 * MIB);
    assert_string_equal(now.etag, m.etag);
    buf_fini(&b);
    objstore_close(c.o);
    objstore_close(o);
}

static void a_download_goes_on(void **state)
{
    (void)state;
    struct objstore *o = open_at("goon");
    struct checker c = {.fail_at = 3 * MIB};
    struct objstore_meta m;

    ok(o, objstore_put(o, "big", bytes_of(big, 12 * MIB), 0, NULL));
    assert_int_equal(objstore_download(o, "big", NULL, 0, check_big, &c, &m), ERR_THROTTLED);
    fails(o, ERR_THROTTLED, OBJSTORE_CALLER);
    c.fail_at = 0;
    uint64_t from = c.next;
    assert_true(from < 12 * MIB);
    ok(o, objstore_download(o, "big", m.etag, from, check_big, &c, &m));
    assert_int_equal(c.next, 12 * MIB);
    objstore_close(o);
}

static struct cut cut;

static void transfers_that_are_cut(void **state)
{
    (void)state;
    struct objstore *o, *one;
    struct checker c = {0};
    struct objstore_meta m;
    struct buf b;

    cut_start(&cut, gateway.port);
    o = open_with((struct options){.prefix = "cut", .port = cut.port});
    one = open_with((struct options){.prefix = "cut", .port = cut.port, .attempts = 1});
    buf_init(&b, 8 * MIB);

    cut_after(&cut, 2, 2 * MIB, -1);
    ok(o, objstore_put(o, "k", bytes_of(big, 3 * MIB), 0, NULL));
    assert_int_equal(cut_made(&cut), 2);
    cut_after(&cut, 2, -1, MIB);
    ok(o, objstore_get(o, "k", 8 * MIB, &b, NULL));
    assert_int_equal(cut_made(&cut), 2);
    assert_int_equal(buf_size(&b), 3 * MIB);
    assert_memory_equal(buf_data(&b), big, 3 * MIB);
    cut_after(&cut, 1, -1, MIB);
    fails(one, objstore_get(one, "k", 8 * MIB, &b, NULL), OBJSTORE_TRUNCATED);
    assert_int_equal(buf_size(&b), 3 * MIB);
    cut_after(&cut, 1, -1, 10); /* in the middle of a status line */
    fails(one, objstore_get(one, "k", 8 * MIB, &b, NULL), OBJSTORE_TRUNCATED);
    cut_after(&cut, 40, -1, 200 * 1024); /* more often than there are attempts, but with progress */
    ok(o, objstore_download(o, "k", NULL, 0, check_big, &c, &m));
    assert_int_equal(c.next, 3 * MIB);
    assert_true(cut_made(&cut) > 8);
    cut_stop(&cut);
    buf_fini(&b);
    objstore_close(one);
    objstore_close(o);
}

static void an_upload_that_is_cut(void **state)
{
    (void)state;
    struct reader r = {0};
    const struct objstore_source src = source_of(&r);
    struct objstore_upload u;
    struct objstore_meta m;

    cut_start(&cut, gateway.port);
    struct objstore *o = open_with((struct options){.prefix = "cutup", .port = cut.port});
    ok(o, objstore_upload_begin(o, "big", u.id));
    cut_after(&cut, 5, 7 * MIB, -1);
    ok(o, objstore_upload_run(o, "big", &src, &u, &m));
    assert_int_equal(cut_made(&cut), 5);
    assert_int_equal(r.reads, BIG_PARTS);
    expect_big(o, "big");
    cut_stop(&cut);
    objstore_close(o);
}

/* It was carried out, and is refused when it is repeated. */
static void an_answer_that_is_lost(void **state)
{
    (void)state;
    struct reader r = {0};
    struct objstore_source src = source_of(&r);
    struct objstore_upload u;
    struct objstore_meta m;

    src.bytes = 6 * MIB;
    cut_start(&cut, gateway.port);
    struct objstore *o = open_with((struct options){.prefix = "lost", .port = cut.port});
    cut_answer(&cut, "PUT /");
    ok(o, objstore_put(o, "k", bytes_str("mine"), 1, &m));
    assert_int_equal(cut_made(&cut), 1);
    assert_int_equal(m.bytes, 4);
    cut_answer(&cut, "PUT /");
    fails(o, objstore_put(o, "k", bytes_str("not mine"), 1, NULL), OBJSTORE_EXISTS);
    expect_text(o, "k", "mine");

    ok(o, objstore_upload_begin(o, "big", u.id));
    cut_answer(&cut, "POST /");
    ok(o, objstore_upload_run(o, "big", &src, &u, &m));
    assert_int_equal(cut_made(&cut), 1);
    assert_int_equal(m.bytes, 6 * MIB);
    cut_stop(&cut);
    objstore_close(o);
}

static void the_gateway_ends(void **state)
{
    (void)state;
    rgw_finish(&gateway);
    free(big);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gateway_starts),
        cmocka_unit_test(objects_come_back),
        cmocka_unit_test(an_empty_object),
        cmocka_unit_test(awkward_keys),
        cmocka_unit_test(only_a_new_object),
        cmocka_unit_test(a_listing_of_several_pages),
        cmocka_unit_test(an_upload_in_parts),
        cmocka_unit_test(a_part_that_is_empty),
        cmocka_unit_test(from_file_to_file),
        cmocka_unit_test(an_abort_without_id_deletes_nothing),
        cmocka_unit_test(an_upload_goes_on_after_a_stop),
        cmocka_unit_test(an_upload_of_something_else),
        cmocka_unit_test(an_upload_goes_on_after_a_kill),
        cmocka_unit_test(uploads_are_aborted),
        cmocka_unit_test(bad_credentials),
        cmocka_unit_test(no_such_bucket),
        cmocka_unit_test(a_clock_that_is_wrong),
        cmocka_unit_test(over_the_quota),
        cmocka_unit_test(tls),
        cmocka_unit_test(a_server_that_comes_back),
        cmocka_unit_test(an_object_that_is_altered),
        cmocka_unit_test(a_download_goes_on),
        cmocka_unit_test(transfers_that_are_cut),
        cmocka_unit_test(an_upload_that_is_cut),
        cmocka_unit_test(an_answer_that_is_lost),
        cmocka_unit_test(the_gateway_ends),
    };
    signal(SIGPIPE, SIG_IGN);
    if (argc == 4 && strcmp(argv[1], "die") == 0)
        return die_uploading(argv[2], argv[3]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
