/* Envelope encryption: the format, what a secret is bound to, plaintext under way, write keys and nonces. */
#include "hsm/gcm.h"
#include "tests/unit/seal_fixture.h"

#include <pthread.h>

/* ---- format and round trip ---- */

static size_t unhex(const char *hex, uint8_t *out)
{
    size_t n = 0;
    unsigned byte;
    for (; sscanf(hex + 2 * n, "%2x", &byte) == 1; n++)
        out[n] = (uint8_t)byte;
    return n;
}

/* Made with another implementation of AES-256-GCM. Stored secrets of every release must stay readable: never change. */
static const char *const golden[] = {
    "010700000000000000000000006dd3c7acd04ff79d60c7db467d0cf3f8a63733"
    "2151a1135be1eedfe614c77fe41366dee322cf1f963fe9f8bf",
    "0107000000010000000000000086f807421ba26a2836f23d058873d0971d0958"
    "fdef2c4915376e9c7edcc4a981f0a240a3c4632ce60831005f",
};

static void golden_bytes(void **state)
{
    (void)state;
    struct fixture f = fixture_new(0);
    struct seal_bind b = bind_of(VAULT, 3, "db/password");

    for (size_t i = 0; i < 2; i++) {
        uint8_t raw[128];
        size_t n = unhex(golden[i], raw);
        struct sealed want = {bytes_of(raw, n)}, s = seal(f.ring, &b, bytes_str(TEXT));

        assert_int_equal(s.raw.n, n);
        assert_memory_equal(s.raw.p, raw, n);
        assert_int_equal(sealed_dek_version(want), 7);
        assert_int_equal(sealed_plain_len(want), strlen(TEXT));
        assert_text(f.opener, want, &b);
        sealed_free(s);
    }
    fixture_free(&f);
}

static void round_trip(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 15, 16, 17, 31, 32, 33, 100, 4096, 65535, 65536, 1 << 20};
    static uint8_t value[1 << 20];
    static char path[SEAL_PATH_MAX + 2];
    static const size_t paths[] = {0, 1, 15, 16, 300, SEAL_PATH_MAX};
    struct fixture f = fixture_new(0);

    for (size_t i = 0; i < sizeof value; i++)
        value[i] = (uint8_t)(i * 31);
    memset(path, 'p', sizeof path - 1);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct seal_bind b = bind_of(VAULT, 1, "a/b");
        struct sealed s = seal(f.ring, &b, bytes_of(value, sizes[i]));
        assert_opens(f.opener, s, &b, ERR_OK, bytes_of(value, sizes[i]));
        sealed_free(s);
    }
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct seal_bind b = {.vault = VAULT, .version = 1, .path = bytes_of(path, paths[i])};
        struct sealed s = seal(f.ring, &b, bytes_str(TEXT));
        assert_text(f.opener, s, &b);
        b.path.n++;
        assert_refused(f.opener, s, &b, ERR_CORRUPT); /* also one over the limit */
        sealed_free(s);
    }
    fixture_free(&f);
}

static void values_over_the_limit_are_refused(void **state)
{
    (void)state;
    struct fixture f = fixture_new(0);
    struct dek *d = keyring_writer(f.ring, VAULT);
    struct plain *p = (void *)&f;
    void *extra = &f;

    assert_int_equal(plain_new(d, bytes_of(&f, SEAL_VALUE_MAX + 1), 8, &extra, &p), ERR_TOOBIG);
    assert_null(p);
    assert_null(extra);
    dek_unref(d);
    fixture_free(&f);
}

/* ---- binding ---- */

static void opens_nowhere_else(void **state)
{
    (void)state;
    struct fixture f = fixture_new(0);
    struct seal_bind b = bind_of(VAULT, 3, "db/password");
    struct sealed s = seal(f.ring, &b, bytes_str(TEXT));

    /* The same key bytes everywhere: it is the binding that must refuse. */
    add(f.ring, VAULT + 1, 7, 0);
    add(f.ring, VAULT, 8, 0);

    struct seal_bind moved[] = {
        bind_of(VAULT + 1, 3, "db/password"),
        bind_of(VAULT, 4, "db/password"),
        bind_of(VAULT, 2, "db/password"),
        bind_of(VAULT, 3, "db/passwore"),
        bind_of(VAULT, 3, "db/passwor"),
        bind_of(VAULT, 3, "db/password "),
        bind_of(VAULT, 3, ""),
    };
    for (size_t i = 0; i < sizeof moved / sizeof *moved; i++)
        assert_refused(f.opener, s, &moved[i], ERR_CORRUPT);

    uint8_t other_dek[128];
    memcpy(other_dek, s.raw.p, s.raw.n);
    put_le32(other_dek + 1, 8);
    assert_refused(f.opener, (struct sealed){bytes_of(other_dek, s.raw.n)}, &b, ERR_CORRUPT);

    for (unsigned i = 0; i < SEAL_REALM_BYTES; i++) {
        uint8_t other_realm[SEAL_REALM_BYTES];
        struct fixture g;
        memcpy(other_realm, realm, sizeof realm);
        other_realm[i] ^= 1;
        assert_int_equal(keyring_new(&g.ring, other_realm, 0), ERR_OK);
        assert_int_equal(opener_new(&g.opener, g.ring), ERR_OK);
        add(g.ring, VAULT, 7, 0);
        assert_refused(g.opener, s, &b, ERR_CORRUPT);
        fixture_free(&g);
    }
    assert_text(f.opener, s, &b);
    sealed_free(s);
    fixture_free(&f);
}

static void every_byte_counts(void **state)
{
    (void)state;
    struct fixture f = fixture_new(0);
    struct seal_bind b = bind_of(VAULT, 3, "db/password");
    struct sealed s = seal(f.ring, &b, bytes_str(TEXT));
    uint8_t raw[128];

    for (size_t i = 0; i < s.raw.n; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            memcpy(raw, s.raw.p, s.raw.n);
            raw[i] = (uint8_t)(raw[i] ^ 1u << bit);
            int names_another_dek = i >= 1 && i < 5;
            assert_refused(f.opener, (struct sealed){bytes_of(raw, s.raw.n)}, &b,
                           names_another_dek ? ERR_AGAIN : ERR_CORRUPT);
            assert_text(f.opener, s, &b); /* a refusal leaves nothing behind */
        }
    put_le32(raw + 1, 0); /* no data key has version 0 */
    assert_int_equal(sealed_dek_version((struct sealed){bytes_of(raw, s.raw.n)}), 0);
    assert_refused(f.opener, (struct sealed){bytes_of(raw, s.raw.n)}, &b, ERR_CORRUPT);
    sealed_free(s);
    fixture_free(&f);
}

static void cut_off_or_extended(void **state)
{
    (void)state;
    struct fixture f = fixture_new(0);
    struct seal_bind b = bind_of(VAULT, 3, "db/password");
    struct sealed s = seal(f.ring, &b, bytes_str(TEXT));
    uint8_t raw[128] = {0};

    memcpy(raw, s.raw.p, s.raw.n);
    for (size_t n = 0; n <= s.raw.n + 2; n++) {
        struct sealed cut = {bytes_of(raw, n)};
        assert_int_equal(sealed_plain_len(cut), n < SEAL_OVERHEAD ? 0 : n - SEAL_OVERHEAD);
        assert_int_equal(sealed_dek_version(cut), n < SEAL_OVERHEAD ? 0 : 7);
        if (n != s.raw.n)
            assert_refused(f.opener, cut, &b, ERR_CORRUPT);
    }
    sealed_free(s);
    fixture_free(&f);
}

/* ---- plain ---- */

static void plain_carries_the_callers_bytes(void **state)
{
    (void)state;
    struct fixture f = fixture_new(0);
    struct seal_bind b = bind_of(VAULT, 3, "db/password");

    for (size_t extra_bytes = 0; extra_bytes < 200; extra_bytes += 7) {
        struct plain *p;
        void *extra;
        uint8_t out[128];
        assert_int_equal(plain_new(keyring_writer(f.ring, VAULT), bytes_str(TEXT), extra_bytes, &extra, &p), ERR_OK);
        assert_int_equal((uintptr_t)extra % 64, 0);
        memset(extra, 0x5a, extra_bytes);
        assert_int_equal(seal_sealer.seal(p, &b, out), ERR_OK);
        for (size_t i = 0; i < extra_bytes; i++)
            assert_int_equal(((uint8_t *)extra)[i], 0x5a);
        assert_text(f.opener, (struct sealed){bytes_of(out, seal_sealer.size(p))}, &b);
        plain_free(p);
    }
    plain_free(NULL);
    fixture_free(&f);
}

static void a_plain_is_sealed_once(void **state)
{
    (void)state;
    struct fixture f = fixture_new(0);
    struct seal_bind b = bind_of(VAULT, 3, "db/password");
    struct plain *p = promise(f.ring, VAULT, bytes_str(TEXT));
    uint8_t out[128];

    assert_int_equal(seal_sealer.seal(p, &b, out), ERR_OK);
    memset(out, 0xee, sizeof out);
    assert_int_equal(seal_sealer.seal(p, &b, out), ERR_INTERNAL);
    assert_zero(out, seal_sealer.size(p));
    plain_free(p);
    fixture_free(&f);
}

static void sealing_under_too_long_a_path_fails(void **state)
{
    (void)state;
    static uint8_t path[SEAL_PATH_MAX + 1];
    struct fixture f = fixture_new(0);
    struct seal_bind b = {.vault = VAULT, .version = 1, .path = bytes_of(path, sizeof path)};
    struct plain *p = promise(f.ring, VAULT, bytes_str(TEXT));
    uint8_t out[128];

    memset(out, 0xee, sizeof out);
    assert_int_equal(seal_sealer.seal(p, &b, out), ERR_INTERNAL);
    assert_zero(out, seal_sealer.size(p));
    plain_free(p);
    fixture_free(&f);
}

/* ---- write keys and nonces ---- */

static uint64_t nonce_of(const uint8_t *sealed)
{
    return get_le64(sealed + 5);
}

static void write_keys_follow_each_other(void **state)
{
    (void)state;
    struct keyring *k;
    struct opener *o;
    assert_int_equal(keyring_new(&k, realm, 0), ERR_OK);
    assert_int_equal(opener_new(&o, k), ERR_OK);
    struct seal_bind b = bind_of(VAULT, 1, "p");

    assert_null(keyring_writer(k, VAULT));
    assert_int_equal(keyring_set_writer(k, VAULT, 5), ERR_NOTFOUND);
    add(k, VAULT, 5, 50);
    assert_null(keyring_writer(k, VAULT)); /* known is not yet writing */
    assert_int_equal(keyring_set_writer(k, VAULT, 5), ERR_OK);
    struct sealed old = seal(k, &b, bytes_str(TEXT));
    assert_int_equal(sealed_dek_version(old), 5);

    add_writer(k, VAULT, 6, 60);
    struct dek *d = keyring_writer(k, VAULT);
    assert_int_equal(dek_version(d), 6);
    dek_unref(d);
    struct sealed new = seal(k, &b, bytes_str(TEXT));
    assert_int_equal(sealed_dek_version(new), 6);
    assert_text(o, old, &b);
    assert_text(o, new, &b);
    assert_null(keyring_writer(k, VAULT + 1));

    uint8_t key[SEAL_KEY_BYTES] = {0};
    assert_int_equal(keyring_add(k, VAULT, 0, key), ERR_RANGE);
    assert_int_equal(keyring_add(k, VAULT, 6, key), ERR_OK); /* known: unchanged */
    opener_free(o);
    assert_int_equal(opener_new(&o, k), ERR_OK); /* nothing warm */
    assert_text(o, new, &b);
    sealed_free(old);
    sealed_free(new);
    opener_free(o);
    keyring_free(k);
}

/* HSM.SEAL and unseal, or a slip of the caller, bring an earlier write key back; its counter would begin at 0 again. */
static void no_write_key_comes_back(void **state)
{
    (void)state;
    struct fixture f = fixture_new(0);
    struct seal_bind b = bind_of(VAULT, 1, "p");
    struct sealed first = seal(f.ring, &b, bytes_str(TEXT)), second;

    assert_int_equal(nonce_of(first.raw.p), 0);
    assert_int_equal(keyring_set_writer(f.ring, VAULT, 7), ERR_OK); /* it is: nothing changes */
    second = seal(f.ring, &b, bytes_str(TEXT));
    assert_int_equal(nonce_of(second.raw.p), 1);

    add(f.ring, VAULT, 6, 0);
    assert_int_equal(keyring_set_writer(f.ring, VAULT, 6), ERR_CONFLICT);
    keyring_drop_all(f.ring);
    assert_null(keyring_writer(f.ring, VAULT));
    add(f.ring, VAULT, 7, 0);
    assert_int_equal(keyring_set_writer(f.ring, VAULT, 7), ERR_CONFLICT);
    assert_null(keyring_writer(f.ring, VAULT));
    assert_text(f.opener, first, &b); /* it may open */
    keyring_drop_vault(f.ring, VAULT);
    add(f.ring, VAULT, 7, 0);
    assert_int_equal(keyring_set_writer(f.ring, VAULT, 7), ERR_CONFLICT);

    add_writer(f.ring, VAULT, 8, 80);
    add(f.ring, VAULT, 7, 0);
    assert_int_equal(keyring_set_writer(f.ring, VAULT, 7), ERR_CONFLICT);
    sealed_free(first);
    sealed_free(second);
    fixture_free(&f);
}

static void used_up_at_two_to_the_32(void **state)
{
    (void)state;
    struct fixture f = fixture_new(0);
    struct seal_bind b = bind_of(VAULT, 1, "p");
    struct dek *d = keyring_writer(f.ring, VAULT);
    struct mem_secret_stats before, after;
    uint8_t out[128];

    dek_test_use_up(d, SEAL_MESSAGES_MAX - 2);
    struct plain *a = promise(f.ring, VAULT, bytes_str(TEXT)), *z = promise(f.ring, VAULT, bytes_str(TEXT)), *no;
    assert_null(keyring_writer(f.ring, VAULT));
    mem_secret_stats(&before);
    assert_int_equal(plain_new(d, bytes_str(TEXT), 0, NULL, &no), ERR_AGAIN); /* who still holds it is told too */
    assert_null(no);
    mem_secret_stats(&after);
    assert_int_equal(after.used_bytes, before.used_bytes);
    /* What was promised is kept. */
    assert_int_equal(seal_sealer.seal(a, &b, out), ERR_OK);
    assert_int_equal(nonce_of(out), SEAL_MESSAGES_MAX - 2);
    assert_int_equal(seal_sealer.seal(z, &b, out), ERR_OK);
    assert_int_equal(nonce_of(out), SEAL_MESSAGES_MAX - 1);
    assert_text(f.opener, (struct sealed){bytes_of(out, seal_sealer.size(z))}, &b);
    plain_free(a);
    plain_free(z);
    dek_unref(d);

    add_writer(f.ring, VAULT, 8, 1);
    struct sealed s = seal(f.ring, &b, bytes_str(TEXT));
    assert_int_equal(sealed_dek_version(s), 8);
    assert_int_equal(nonce_of(s.raw.p), 0);
    sealed_free(s);
    fixture_free(&f);
}

static void hard_stop_of_the_nonce(void **state)
{
    (void)state;
    struct fixture f = fixture_new(0);
    struct seal_bind b = bind_of(VAULT, 1, "p");
    struct dek *d = keyring_writer(f.ring, VAULT);
    struct plain *p = promise(f.ring, VAULT, bytes_str(TEXT));
    uint8_t out[128];

    dek_test_use_up(d, SEAL_MESSAGES_MAX);
    assert_int_equal(seal_sealer.seal(p, &b, out), ERR_INTERNAL);
    assert_zero(out, seal_sealer.size(p));
    plain_free(p);
    dek_unref(d);
    fixture_free(&f);
}

enum { MAKERS = 4, EACH = 500 };

struct maker {
    pthread_t thread;
    struct keyring *ring;
    struct plain *plain[EACH];
    int bad;
};

static void *make_plains(void *arg)
{
    struct maker *m = arg;
    for (unsigned i = 0; i < EACH; i++) {
        struct dek *d = keyring_writer(m->ring, VAULT);
        if (!d || plain_new(d, bytes_str(TEXT), 32, (void *[]){NULL}, &m->plain[i]) != ERR_OK)
            m->bad++;
    }
    return NULL;
}

static void nonces_never_repeat(void **state)
{
    (void)state;
    static struct maker makers[MAKERS];
    static uint8_t seen[MAKERS * EACH];
    memset(seen, 0, sizeof seen);
    struct fixture f = fixture_new(0);
    struct seal_bind b = bind_of(VAULT, 1, "p");

    for (unsigned i = 0; i < MAKERS; i++) {
        makers[i].ring = f.ring;
        assert_int_equal(pthread_create(&makers[i].thread, NULL, make_plains, &makers[i]), 0);
    }
    for (unsigned i = 0; i < MAKERS; i++) {
        assert_int_equal(pthread_join(makers[i].thread, NULL), 0);
        assert_int_equal(makers[i].bad, 0);
    }
    for (unsigned n = 0; n < MAKERS * EACH; n++) {
        struct plain *p = makers[n % MAKERS].plain[n / MAKERS];
        uint8_t out[128];
        assert_int_equal(seal_sealer.seal(p, &b, out), ERR_OK);
        assert_true(nonce_of(out) < MAKERS * EACH);
        assert_int_equal(seen[nonce_of(out)]++, 0);
        plain_free(p);
    }
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_bytes),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(values_over_the_limit_are_refused),
        cmocka_unit_test(opens_nowhere_else),
        cmocka_unit_test(every_byte_counts),
        cmocka_unit_test(cut_off_or_extended),
        cmocka_unit_test(plain_carries_the_callers_bytes),
        cmocka_unit_test(a_plain_is_sealed_once),
        cmocka_unit_test(sealing_under_too_long_a_path_fails),
        cmocka_unit_test(write_keys_follow_each_other),
        cmocka_unit_test(no_write_key_comes_back),
        cmocka_unit_test(used_up_at_two_to_the_32),
        cmocka_unit_test(hard_stop_of_the_nonce),
        cmocka_unit_test(nonces_never_repeat),
    };
    /* With what the machine offers, then with OpenSSL's cipher: the same bytes, the same promises. */
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gcm_test_openssl(1);
    return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
