/* objstore_fake.h - an object store in a directory, in the place of engine/objstore*.c: a test that includes this is
 * linked with these functions instead of those.
 *
 * It outlives the process that uses it, so that a process may be killed in any of its steps. A step is a call, a part
 * of an upload, a piece of a download. Files are read and written without base/file.h: faults are for the code that is
 * tested.
 *
 *     fake.die_at = n     the n-th step from now on ends the process by SIGKILL, before it has an effect ...
 *     fake.die_after = 1  ... or after it
 *     fake.fail_at = n    the n-th step fails, for the reason fake.why
 */
#ifndef COFFER_TESTS_OBJSTORE_FAKE_H
#define COFFER_TESTS_OBJSTORE_FAKE_H

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/sha256.h"
#include "engine/objstore.h"

#define FAKE_PART_BYTES 150000
#define FAKE_PIECE_BYTES 60000
#define FAKE_FILES 256

struct objstore {
    struct objstore_trouble trouble;
};

static struct {
    char dir[128];
    long steps, die_at, fail_at;
    int die_after;
    enum objstore_why why;
    int forgetful;           /* uploads are forgotten before their first part */
    _Atomic unsigned reused; /* times that an object got other bytes: never */
    _Atomic unsigned sent;   /* parts */
} fake;

/* ---- files ---- */

struct fake_path {
    char s[2048];
};

/* An object, an upload, a part of one. Slashes in keys become '%'. */
static struct fake_path fake_path(const char *kind, const char *key)
{
    struct fake_path p;
    int n = snprintf(p.s, sizeof p.s, "%s/%s-", fake.dir, kind);
    for (const char *c = key; *c && (size_t)n + 1 < sizeof p.s; c++)
        p.s[n++] = (char)(*c == '/' ? '%' : *c);
    p.s[n] = '\0';
    return p;
}

/* malloc'd; NULL: it is not there. */
static uint8_t *fake_load(const char *path, size_t *n)
{
    struct stat st;
    FILE *f = fopen(path, "r");
    if (!f)
        return NULL;
    uint8_t *p = fstat(fileno(f), &st) == 0 ? malloc((size_t)st.st_size + 1) : NULL;
    *n = p ? fread(p, 1, (size_t)st.st_size, f) : 0;
    fclose(f);
    return p;
}

static void fake_store(const char *path, const void *p, size_t n)
{
    struct fake_path tmp;
    snprintf(tmp.s, sizeof tmp.s, "%.2000s~", path);
    FILE *f = fopen(tmp.s, "w");
    if (!f || fwrite(p, 1, n, f) != n || fclose(f) || rename(tmp.s, path))
        abort();
}

static int fake_has(const char *path)
{
    return access(path, F_OK) == 0;
}

static void fake_put_object(const char *key, const void *p, size_t n)
{
    struct fake_path path = fake_path("object", key);
    size_t old_n;
    uint8_t *old = fake_load(path.s, &old_n);
    if (old && (old_n != n || memcmp(old, p, n) != 0))
        fake.reused++;
    free(old);
    fake_store(path.s, p, n);
}

static void fake_meta(const void *p, size_t n, struct objstore_meta *out)
{
    uint8_t hash[32];
    if (!out)
        return;
    *out = (struct objstore_meta){.bytes = n};
    sha256_of(p, n, hash);
    for (unsigned i = 0; i < 16; i++)
        snprintf(out->etag + 2 * i, 3, "%02x", hash[i]);
}

/* ---- steps ---- */

static enum err fake_fail(struct objstore *o, enum objstore_why why)
{
    o->trouble.why = why;
    snprintf(o->trouble.text, sizeof o->trouble.text, "the fake store: %s", objstore_why_text(why));
    return objstore_why_err(why);
}

static enum err fake_step(struct objstore *o)
{
    fake.steps++;
    if (fake.steps == fake.die_at && !fake.die_after)
        raise(SIGKILL);
    return fake.steps == fake.fail_at ? fake_fail(o, fake.why) : ERR_OK;
}

static enum err fake_done(void)
{
    if (fake.steps == fake.die_at)
        raise(SIGKILL);
    return ERR_OK;
}

static void fake_calm(void)
{
    fake.steps = fake.die_at = fake.fail_at = 0;
    fake.die_after = 0;
}

static enum err fake_connect(void *arg, int (*stop)(void *), void *stop_arg, struct objstore **out,
                             struct objstore_trouble *t)
{
    (void)arg;
    (void)stop;
    (void)stop_arg;
    (void)t;
    *out = calloc(1, sizeof **out);
    return *out ? ERR_OK : ERR_OOM;
}

/* ---- objstore.h ---- */

void objstore_close(struct objstore *o)
{
    free(o);
}

const struct objstore_trouble *objstore_trouble(const struct objstore *o)
{
    return &o->trouble;
}

enum err objstore_put(struct objstore *o, const char *key, struct bytes body, int only_new, struct objstore_meta *out)
{
    enum err e = fake_step(o);
    if (e)
        return e;
    if (only_new && fake_has(fake_path("object", key).s))
        return fake_fail(o, OBJSTORE_EXISTS);
    fake_put_object(key, body.p, body.n);
    fake_meta(body.p, body.n, out);
    return fake_done();
}

static enum err fake_read(struct objstore *o, const char *key, uint8_t **p, size_t *n)
{
    enum err e = fake_step(o);
    *p = NULL;
    if (e)
        return e;
    *p = fake_load(fake_path("object", key).s, n);
    return *p ? fake_done() : fake_fail(o, OBJSTORE_ABSENT);
}

enum err objstore_get(struct objstore *o, const char *key, size_t limit, struct buf *out, struct objstore_meta *meta)
{
    uint8_t *p;
    size_t n;
    enum err e = fake_read(o, key, &p, &n);
    if (!e && n > limit)
        e = fake_fail(o, OBJSTORE_TOOBIG);
    if (!e)
        e = buf_put(out, p, n) ? fake_fail(o, OBJSTORE_MEMORY) : ERR_OK;
    if (!e)
        fake_meta(p, n, meta);
    free(p);
    return e;
}

enum err objstore_get_range(struct objstore *o, const char *key, const char *etag, uint64_t off, size_t want,
                            struct buf *out)
{
    uint8_t *p;
    size_t n;
    (void)etag;
    enum err e = fake_read(o, key, &p, &n);
    if (!e && (off > n || want > n - off))
        e = fake_fail(o, OBJSTORE_ANSWER);
    if (!e)
        e = buf_put(out, p + off, want) ? fake_fail(o, OBJSTORE_MEMORY) : ERR_OK;
    free(p);
    return e;
}

enum err objstore_head(struct objstore *o, const char *key, struct objstore_meta *out)
{
    uint8_t *p;
    size_t n;
    enum err e = fake_read(o, key, &p, &n);
    if (!e)
        fake_meta(p, n, out);
    free(p);
    return e;
}

enum err objstore_delete(struct objstore *o, const char *key)
{
    enum err e = fake_step(o);
    if (e)
        return e;
    unlink(fake_path("object", key).s);
    return fake_done();
}

static int fake_by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Keys of a kind, sorted; the caller's, in fake_free_keys. */
static size_t fake_keys(const char *kind, char *keys[FAKE_FILES])
{
    size_t n = 0, skip = strlen(kind) + 1;
    DIR *d = opendir(fake.dir);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        if (strncmp(e->d_name, kind, skip - 1) != 0 || e->d_name[skip - 1] != '-' || strchr(e->d_name, '~'))
            continue;
        if (n == FAKE_FILES)
            abort();
        keys[n] = strdup(e->d_name + skip);
        for (char *c = keys[n]; *c; c++)
            *c = (char)(*c == '%' ? '/' : *c);
        n++;
    }
    closedir(d);
    qsort(keys, n, sizeof *keys, fake_by_name);
    return n;
}

static void fake_free_keys(char **keys, size_t n)
{
    while (n)
        free(keys[--n]);
}

static uint64_t fake_time(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 ? (uint64_t)st.st_mtim.tv_sec * 1000 : 0;
}

enum err objstore_list(struct objstore *o, const char *begin, const char *after, size_t limit,
                       int (*fn)(void *arg, const struct objstore_entry *e), void *arg)
{
    char *keys[FAKE_FILES];
    enum err e = fake_step(o);
    (void)after;
    (void)limit;
    if (e)
        return e;
    size_t n = fake_keys("object", keys);
    for (size_t i = 0; i < n; i++) {
        struct objstore_entry at = {
            .key = keys[i], .etag = "", .modified_ms = fake_time(fake_path("object", keys[i]).s)};
        if (strncmp(keys[i], begin, strlen(begin)) == 0 && fn(arg, &at))
            break;
    }
    fake_free_keys(keys, n);
    return fake_done();
}

/* ---- uploads ---- */

static struct fake_path fake_part(const char *id, unsigned part)
{
    char name[OBJSTORE_ID_BYTES + 16];
    snprintf(name, sizeof name, "%s-%u", id, part);
    return fake_path("part", name);
}

static void fake_forget(const char *id)
{
    for (unsigned i = 1; fake_has(fake_part(id, i).s); i++)
        unlink(fake_part(id, i).s);
    unlink(fake_path("upload", id).s);
}

enum err objstore_upload_begin(struct objstore *o, const char *key, char id[OBJSTORE_ID_BYTES])
{
    enum err e = fake_step(o);
    id[0] = '\0';
    if (e)
        return e;
    if (clock_random_hex(id, 8))
        abort();
    fake_store(fake_path("upload", id).s, key, strlen(key));
    return fake_done();
}

enum err objstore_upload_abort(struct objstore *o, const char *key, const char *id)
{
    enum err e = fake_step(o);
    (void)key;
    if (e)
        return e;
    fake_forget(id);
    return fake_done();
}

static enum err fake_send_part(struct objstore *o, const struct objstore_source *src, struct objstore_upload *u,
                               unsigned part, uint8_t *all)
{
    uint64_t off = (uint64_t)(part - 1) * FAKE_PART_BYTES;
    size_t n = src->bytes - off < FAKE_PART_BYTES ? (size_t)(src->bytes - off) : FAKE_PART_BYTES, old_n = 0;
    enum err e = fake_step(o);

    if (e)
        return e;
    if ((e = src->read(src->arg, off, all + off, n))) {
        fake_fail(o, OBJSTORE_CALLER);
        return e;
    }
    uint8_t *old = fake_load(fake_part(u->id, part).s, &old_n);
    int same = old && old_n == n && memcmp(old, all + off, n) == 0;
    free(old);
    u->parts_kept += (unsigned)same;
    fake.sent += !same;
    if (!same)
        fake_store(fake_part(u->id, part).s, all + off, n);
    return fake_done();
}

enum err objstore_upload_run(struct objstore *o, const char *key, const struct objstore_source *src,
                             struct objstore_upload *u, struct objstore_meta *out)
{
    enum err e = fake_step(o);

    if (e)
        return e;
    if (fake.forgetful) {
        fake.forgetful--;
        fake_forget(u->id);
    }
    if (!fake_has(fake_path("upload", u->id).s))
        return fake_fail(o, OBJSTORE_NOUPLOAD);
    uint8_t *all = malloc(src->bytes + 1);
    if (!all)
        abort();
    u->parts_kept = 0;
    u->parts = (unsigned)((src->bytes + FAKE_PART_BYTES - 1) / FAKE_PART_BYTES);
    for (unsigned part = 1; !e && part <= u->parts; part++)
        e = fake_send_part(o, src, u, part, all);
    if (!e)
        e = fake_step(o); /* to complete it */
    if (!e) {
        fake_put_object(key, all, src->bytes);
        fake_forget(u->id);
        fake_meta(all, src->bytes, out);
        e = fake_done();
    }
    free(all);
    return e;
}

enum err objstore_uploads_expire(struct objstore *o, const char *begin, uint64_t before_ms, unsigned *aborted)
{
    char *ids[FAKE_FILES];
    enum err e = fake_step(o);
    (void)begin;
    *aborted = 0;
    if (e)
        return e;
    size_t n = fake_keys("upload", ids);
    for (size_t i = 0; i < n; i++)
        if (fake_time(fake_path("upload", ids[i]).s) < before_ms) {
            fake_forget(ids[i]);
            ++*aborted;
        }
    fake_free_keys(ids, n);
    return fake_done();
}

enum err objstore_download(struct objstore *o, const char *key, const char *etag, uint64_t off,
                           enum err (*write)(void *arg, uint64_t off, const void *p, size_t n), void *arg,
                           struct objstore_meta *out)
{
    uint8_t *p;
    size_t n;
    enum err e = fake_read(o, key, &p, &n);

    if (!e)
        fake_meta(p, n, out);
    if (!e && strcmp(etag, out->etag) != 0)
        e = fake_fail(o, OBJSTORE_ALTERED);
    while (!e && off < n) {
        size_t piece = n - off < FAKE_PIECE_BYTES ? n - (size_t)off : FAKE_PIECE_BYTES;
        e = fake_step(o);
        if (!e && (e = write(arg, off, p + off, piece)))
            fake_fail(o, OBJSTORE_CALLER);
        off += piece;
        if (!e)
            e = fake_done();
    }
    free(p);
    return e;
}

#endif
