/* snap_fixture.h - what the tests of snapshots share: a signer, made-up entries, files written from them and read
 * again. Directories come from wal_fixture.h. */
#ifndef COFFER_TESTS_SNAP_FIXTURE_H
#define COFFER_TESTS_SNAP_FIXTURE_H

#include "wal_fixture.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "engine/snapread.h"
#include "engine/snapwrite.h"

fx_unused static uint64_t sx_seed = 1;

fx_unused static uint64_t sx_random(void)
{
    sx_seed ^= sx_seed << 13;
    sx_seed ^= sx_seed >> 7;
    return sx_seed ^= sx_seed << 17;
}

/* ---- the realm's MAC key: a hash with a prefix will do here ---- */

fx_unused static enum err sx_sign(void *arg, struct bytes in, uint8_t out[SNAPFILE_HASH_BYTES])
{
    const enum err *answer = arg;
    struct sha256 s;
    if (answer && *answer)
        return *answer;
    sha256_init(&s);
    sha256_add(&s, "the realm's key", 15);
    sha256_add(&s, in.p, in.n);
    sha256_end(&s, out);
    return ERR_OK;
}

fx_unused static const struct snap_signer sx_signer = {.sign = sx_sign};

fx_unused static struct snapwrite_config sx_config(const char *dir, uint64_t lsn)
{
    struct snapwrite_config cfg = {.dir = dir, .sign = sx_signer};
    cfg.header = (struct snapfile_header){.lsn = lsn, .term = 3, .time_ms = 1767225600000 + lsn};
    memcpy(cfg.header.cell_id, fx_cell, sizeof fx_cell);
    memset(cfg.header.chain, (int)lsn, sizeof cfg.header.chain);
    return cfg;
}

/* ---- entries ---- */

struct sx_set {
    struct snapfile_entry *at; /* in order; keys with their store */
    size_t n, room;
};

fx_unused static struct bytes sx_copy(struct bytes b)
{
    uint8_t *p = malloc(b.n + 1);
    assert_non_null(p);
    if (b.n)
        memcpy(p, b.p, b.n);
    return bytes_of(p, b.n);
}

/* Adds a copy at the end. */
fx_unused static void sx_add(struct sx_set *s, struct bytes key, struct bytes value, uint64_t lsn)
{
    if (s->n == s->room) {
        s->room = s->room ? 2 * s->room : 64;
        s->at = realloc(s->at, s->room * sizeof *s->at);
        assert_non_null(s->at);
    }
    s->at[s->n++] = (struct snapfile_entry){.key = sx_copy(key), .value = sx_copy(value), .lsn = lsn};
}

fx_unused static void sx_clear(struct sx_set *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free((void *)(uintptr_t)s->at[i].key.p);
        free((void *)(uintptr_t)s->at[i].value.p);
    }
    free(s->at);
    *s = (struct sx_set){0};
}

fx_unused static int sx_by_key(const void *a, const void *b)
{
    const struct snapfile_entry *x = a, *y = b;
    return bytes_compare(x->key, y->key);
}

fx_unused static void sx_sort(struct sx_set *s)
{
    if (s->n)
        qsort(s->at, s->n, sizeof *s->at, sx_by_key);
}

/* n entries of several stores, with values of about value_bytes. */
fx_unused static void sx_make(struct sx_set *s, size_t n, size_t value_bytes)
{
    char key[64];
    uint8_t *value = malloc(2 * value_bytes + 1);
    for (size_t i = 0; i < n; i++) {
        int k = snprintf(key + 2, sizeof key - 2, "%cpath/%08zu", i % 3 ? 'h' : 'v', i / 2);
        key[0] = 0;
        key[1] = (char)(i % 2);
        size_t m = value_bytes ? sx_random() % (2 * value_bytes) : 0;
        for (size_t j = 0; j < m; j++)
            value[j] = (uint8_t)sx_random();
        sx_add(s, bytes_of(key, 2 + (size_t)k), bytes_of(value, m), 1 + sx_random() % 100000);
    }
    free(value);
    sx_sort(s);
}

/* ---- files ---- */

fx_unused static void sx_path(char out[512], const char *dir, uint64_t lsn)
{
    char name[SNAPFILE_NAME_BYTES];
    snapfile_name(name, lsn, 3);
    fx_path(out, dir, name);
}

fx_unused static enum err sx_try_write(const struct snapwrite_config *cfg, const struct sx_set *s,
                                       struct snapwrite_result *result)
{
    struct snapwrite *w;
    enum err e = snapwrite_open(&w, cfg);
    for (size_t i = 0; i < s->n && !e; i++)
        e = snapwrite_add(w, &s->at[i]);
    if (e) {
        snapwrite_abandon(w);
        return e;
    }
    return snapwrite_finish(w, result);
}

fx_unused static void sx_write(const char *dir, uint64_t lsn, const struct sx_set *s)
{
    struct snapwrite_config cfg = sx_config(dir, lsn);
    struct snapwrite_result result;
    assert_int_equal(sx_try_write(&cfg, s, &result), ERR_OK);
    assert_int_equal(result.entries, s->n);
}

fx_unused static enum err sx_try_open(const char *path, struct snapread **r)
{
    char why[100];
    enum err e = snapread_open(r, path, fx_cell, &sx_signer, why, sizeof why);
    assert_int_equal(e != ERR_OK, why[0] != '\0');
    assert_int_equal(e != ERR_OK, *r == NULL);
    return e;
}

fx_unused static struct snapread *sx_open(const char *dir, uint64_t lsn)
{
    struct snapread *r;
    char path[512];
    sx_path(path, dir, lsn);
    assert_int_equal(sx_try_open(path, &r), ERR_OK);
    return r;
}

fx_unused static int sx_same_entry(const struct snapfile_entry *a, const struct snapfile_entry *b)
{
    return bytes_equal(a->key, b->key) && bytes_equal(a->value, b->value) && a->lsn == b->lsn;
}

/* The file holds exactly s, found key by key and in order. */
fx_unused static void sx_check(struct snapread *r, const struct sx_set *s)
{
    struct snapread_iter *it;
    struct snapfile_entry e;
    struct blob *b;
    uint64_t bad;

    assert_int_equal(snapread_iter_new(r, 0, bytes_of(NULL, 0), &it), ERR_OK);
    for (size_t i = 0; i < s->n; i++) {
        assert_int_equal(snapread_iter_next(it, &e), ERR_OK);
        assert_true(sx_same_entry(&e, &s->at[i]));
    }
    for (int again = 0; again < 2; again++)
        assert_int_equal(snapread_iter_next(it, &e), ERR_END);
    snapread_iter_free(it);
    for (size_t i = 0; i < s->n; i += 1 + s->n / 5000) {
        struct bytes key = s->at[i].key;
        uint16_t store = (uint16_t)(key.p[0] << 8 | key.p[1]);
        assert_int_equal(snapread_get(r, store, bytes_of(key.p + 2, key.n - 2), &b), ERR_OK);
        assert_true(bytes_equal(blob_bytes(b), s->at[i].value) && b->lsn == s->at[i].lsn);
        blob_unref(b);
    }
    assert_int_equal(snapread_verify(r, NULL, NULL, &bad), ERR_OK);
}

/* Files in dir. */
fx_unused static size_t sx_files(const char *dir)
{
    char **names;
    size_t n;
    assert_int_equal(file_list(dir, &names, &n), ERR_OK);
    file_free_names(names, n);
    return n;
}

#endif
