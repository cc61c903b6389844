/* What the tests of hsm/seal.h share. */
#ifndef COFFER_TESTS_UNIT_SEAL_FIXTURE_H
#define COFFER_TESTS_UNIT_SEAL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <openssl/err.h>

#include "base/mem.h"
#include "hsm/seal.h"

#define VAULT UINT64_C(0x0102030405060708)
#define TEXT "correct horse battery staple"

static const uint8_t realm[SEAL_REALM_BYTES] = {0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
                                                0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf};

static inline struct seal_bind bind_of(uint64_t vault, uint32_t version, const char *path)
{
    return (struct seal_bind){.vault = vault, .version = version, .path = bytes_str(path)};
}

/* key[i] = first + i; the golden vectors use first 0. */
static inline void make_key(uint8_t key[SEAL_KEY_BYTES], unsigned first)
{
    for (unsigned i = 0; i < SEAL_KEY_BYTES; i++)
        key[i] = (uint8_t)(first + i);
}

static inline void add(struct keyring *k, uint64_t vault, uint32_t version, unsigned first)
{
    uint8_t key[SEAL_KEY_BYTES];
    make_key(key, first);
    assert_int_equal(keyring_add(k, vault, version, key), ERR_OK);
    mem_wipe(key, sizeof key);
}

static inline void add_writer(struct keyring *k, uint64_t vault, uint32_t version, unsigned first)
{
    add(k, vault, version, first);
    assert_int_equal(keyring_set_writer(k, vault, version), ERR_OK);
}

/* A ring with one write key, and an opener. */
struct fixture {
    struct keyring *ring;
    struct opener *opener;
};

static inline struct fixture fixture_new(uint64_t ttl_ms)
{
    struct fixture f;
    assert_int_equal(keyring_new(&f.ring, realm, ttl_ms), ERR_OK);
    assert_int_equal(opener_new(&f.opener, f.ring), ERR_OK);
    add_writer(f.ring, VAULT, 7, 0);
    return f;
}

static inline void fixture_free(struct fixture *f)
{
    opener_free(f->opener);
    keyring_free(f->ring);
}

static inline struct plain *promise(struct keyring *k, uint64_t vault, struct bytes value)
{
    struct plain *p;
    struct dek *d = keyring_writer(k, vault);
    assert_non_null(d);
    assert_int_equal(plain_new(d, value, 0, NULL, &p), ERR_OK);
    return p;
}

/* Seals value into malloc'ed bytes. */
static inline struct sealed seal(struct keyring *k, const struct seal_bind *b, struct bytes value)
{
    struct plain *p = promise(k, b->vault, value);
    size_t n = seal_sealer.size(p);
    uint8_t *out = malloc(n);
    assert_non_null(out);
    assert_int_equal(n, value.n + SEAL_OVERHEAD);
    assert_int_equal(seal_sealer.seal(p, b, out), ERR_OK);
    plain_free(p);
    return (struct sealed){bytes_of(out, n)};
}

static inline void sealed_free(struct sealed s)
{
    free((void *)(uintptr_t)s.raw.p);
}

static inline void assert_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(p[i], 0);
}

/* Opens s with that outcome; out is wiped on errors, and holds want otherwise. */
static inline void assert_opens(struct opener *o, struct sealed s, const struct seal_bind *b, enum err want_err,
                                struct bytes want)
{
    size_t n = sealed_plain_len(s);
    uint8_t *out = malloc(n + 1);
    assert_non_null(out);
    memset(out, 0xee, n + 1);
    assert_int_equal(opener_open(o, s, b, out), want_err);
    if (want_err) {
        assert_zero(out, n);
    } else {
        assert_int_equal(n, want.n);
        if (n)
            assert_memory_equal(out, want.p, n);
    }
    assert_int_equal(out[n], 0xee);
    assert_int_equal(ERR_peek_error(), 0); /* nothing left for SSL_get_error() to stumble over */
    free(out);
}

static inline void assert_text(struct opener *o, struct sealed s, const struct seal_bind *b)
{
    assert_opens(o, s, b, ERR_OK, bytes_str(TEXT));
}

static inline void assert_refused(struct opener *o, struct sealed s, const struct seal_bind *b, enum err e)
{
    assert_opens(o, s, b, e, bytes_of(NULL, 0));
}

#endif
