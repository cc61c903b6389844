/* test_hsm_masked.c - the bytes of masked objects and of the tables they refer to. What needs an HSM is in
 * test_hsm_ops.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hsm/alg.h"
#include "hsm/masked.h"
#include "hsm/partition.h"

/* An AES key's header and an EC key's blob, byte by byte as masked.h documents them. */
static const uint8_t golden_head[MASKED_KEY_HEADER] = {
    'C',  'K',  'E',  'Y',  1,    1,    0,    0,    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xa0, 0xa1,
    0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf, 5,    0,    0,    1,
};

static size_t make_blob(uint8_t *out, uint8_t alg, size_t p, size_t w)
{
    const struct masked_head h = {.alg = alg, .vault = 1, .version = 2};

    memset(out, 0, MASKED_MAX);
    masked_put_head(out, &h);
    put_le16(out + 36, (uint16_t)p);
    put_le16(out + 38, (uint16_t)w);
    memset(out + 40, 0x50, p);
    memset(out + 40 + p, 0x57, w);
    memset(out + 40 + p + w, 0x4d, MASKED_MAC);
    return 40 + p + w + MASKED_MAC;
}

static void test_head(void **state)
{
    struct masked_head h = {.alg = ALG_CODE_AES_256, .vault = 0x1122334455667788u, .version = 0x01000005}, got;
    uint8_t raw[MASKED_KEY_HEADER];

    (void)state;
    for (unsigned i = 0; i < KEY_ID_BYTES; i++)
        h.id[i] = (uint8_t)(0xa0 + i);
    masked_put_head(raw, &h);
    assert_memory_equal(raw, golden_head, sizeof raw);
    assert_int_equal(masked_get_head(bytes_of(raw, sizeof raw), &got), ERR_OK);
    assert_memory_equal(&h, &got, sizeof h);
    assert_int_equal(masked_get_head(bytes_of(raw, sizeof raw - 1), &got), ERR_BADBLOB);
    h.alg = ALG_CODE_ED25519; /* protection follows from the algorithm */
    masked_put_head(raw, &h);
    assert_int_equal(raw[6], PROTECTION_SOFTWARE);
}

static void test_parse(void **state)
{
    uint8_t raw[MASKED_MAX];
    struct masked m;
    size_t n = make_blob(raw, ALG_CODE_EC_P256, 91, 80);

    (void)state;
    assert_int_equal(masked_parse(bytes_of(raw, n), &m), ERR_OK);
    assert_true(m.head.alg == ALG_CODE_EC_P256 && m.head.vault == 1 && m.head.version == 2);
    assert_true(m.public_der.n == 91 && m.public_der.p == raw + 40 && m.public_der.p[90] == 0x50);
    assert_true(m.wrapped.n == 80 && m.wrapped.p[0] == 0x57 && m.wrapped.p[79] == 0x57);
    assert_true(m.mac.n == 32 && m.mac.p[0] == 0x4d && m.raw.n == n);
    for (size_t k = 0; k < n; k++)
        assert_int_equal(masked_parse(bytes_of(raw, k), &m), ERR_BADBLOB);
    assert_int_equal(masked_parse(bytes_of(raw, n + 1), &m), ERR_BADBLOB);
}

static void test_malformed(void **state)
{
    static const struct {
        size_t at;
        uint8_t value;
    } rows[] = {{0, 'X'}, {3, 'X'}, {4, 0},  {4, 2},   {5, 0},  {5, 9},   {5, 255}, {6, 1},
                {6, 2},   {7, 1},   {36, 0}, {36, 92}, {37, 1}, {38, 81}, {38, 79}, {39, 255}};
    uint8_t raw[MASKED_MAX];
    struct masked m;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t n = make_blob(raw, ALG_CODE_EC_P256, 91, 80);

        raw[rows[i].at] = rows[i].value;
        if (masked_parse(bytes_of(raw, n), &m) != ERR_BADBLOB)
            fail_msg("byte %zu = %u: not refused", rows[i].at, rows[i].value);
    }
    assert_int_equal(masked_parse(bytes_of(raw, make_blob(raw, ALG_CODE_AES_256, 91, 40)), &m),
                     ERR_BADBLOB); /* a public key of a symmetric one */
    assert_int_equal(masked_parse(bytes_of(raw, make_blob(raw, ALG_CODE_EC_P256, 0, 80)), &m), ERR_BADBLOB);
    assert_int_equal(masked_parse(bytes_of(raw, make_blob(raw, ALG_CODE_AES_256, 0, 0)), &m), ERR_BADBLOB);
    assert_int_equal(masked_parse(bytes_of(NULL, 0), &m), ERR_BADBLOB);
}

static void test_begin_checks_room(void **state)
{
    uint8_t raw[MASKED_MAX], big[MASKED_PUBLIC_MAX + 1] = {0}, *to;

    (void)state;
    assert_int_equal(masked_begin(raw, bytes_of(big, MASKED_PUBLIC_MAX), MASKED_WRAPPED_MAX, &to), ERR_OK);
    assert_true(to == raw + 40 + MASKED_PUBLIC_MAX);
    assert_int_equal(masked_begin(raw, bytes_of(big, sizeof big), 1, &to), ERR_TOOBIG);
    assert_int_equal(masked_begin(raw, bytes_of(NULL, 0), MASKED_WRAPPED_MAX + 1, &to), ERR_TOOBIG);
    assert_null(to);
}

/* ---- the tables ---- */

static void test_algorithms(void **state)
{
    const struct alg *a;
    unsigned n = 0;

    (void)state;
    while ((a = alg_row(n)) != NULL) {
        assert_ptr_equal(alg_by_code(a->code), a);
        assert_ptr_equal(alg_by_name(bytes_str(a->name)), a);
        assert_int_equal(a->sign != SIG_NONE, (a->can & ALG_CAN_SIGN) != 0);
        if (a->sign)
            assert_int_equal(sig_by_code(a->sign)->kind, a->kind);
        n++;
    }
    assert_int_equal(n, 8);
    assert_null(alg_by_code(0));
    assert_null(alg_by_name(bytes_str("aes-25")));
    assert_null(alg_by_name(bytes_str("aes-2566")));
    assert_null(alg_by_name(bytes_of(NULL, 0)));
    assert_int_equal(alg_by_name(bytes_str("EC-P256"))->code, ALG_CODE_EC_P256);
    assert_true(alg_by_code(ALG_CODE_RSA_2048)->slow && !alg_by_code(ALG_CODE_EC_P384)->slow);
    assert_int_equal(alg_by_code(ALG_CODE_ED25519)->protection, PROTECTION_SOFTWARE);
    /* Codes are on disk. */
    assert_int_equal(alg_by_name(bytes_str("hmac-sha256"))->code, 8);
    assert_int_equal(sig_by_name(bytes_str("ecdsa-sha384"))->code, 4);
}

static void test_signature_algorithms(void **state)
{
    const struct alg *rsa = alg_by_code(ALG_CODE_RSA_3072), *ec = alg_by_code(ALG_CODE_EC_P256),
                     *aes = alg_by_code(ALG_CODE_AES_256);

    (void)state;
    assert_int_equal(sig_for(rsa, SIG_NONE)->code, SIG_RSA_PSS_SHA256);
    assert_int_equal(sig_for(rsa, SIG_RSA_PKCS1_SHA256)->code, SIG_RSA_PKCS1_SHA256);
    assert_null(sig_for(rsa, SIG_ECDSA_SHA256));
    assert_int_equal(sig_for(ec, SIG_NONE)->code, SIG_ECDSA_SHA256);
    assert_null(sig_for(ec, SIG_ECDSA_SHA384)); /* the other curve's */
    assert_null(sig_for(aes, SIG_NONE));
    assert_null(sig_for(rsa, 99));
}

/* ---- partition configs: the parser alone ---- */

static void test_config_parser(void **state)
{
    static const uint8_t types[] = {1, 2, 1, 1};
    static const size_t bad[] = {0, 4, 5, 6, 7, 56, 57, 58, 59, 100, 101, 188, 189};
    uint8_t c[PARTITION_CONFIG_BYTES] = {'C', 'P', 'A', 'R', 1, 1};
    struct partition_config out;

    (void)state;
    for (unsigned r = 0; r < PARTITION_ROLES; r++) {
        c[56 + 44 * r] = (uint8_t)r;
        c[57 + 44 * r] = types[r];
        c[58 + 44 * r] = 40;
    }
    assert_int_equal(partition_parse(bytes_of(c, sizeof c), &out), ERR_OK);
    assert_true(out.id.p == c + 24 && out.id.n == 16 && out.fingerprint.p == c + 40 && out.mac.p == c + 232 &&
                out.mac.n == 32);
    assert_true(out.wrapped[3].p == c + 56 + 3 * 44 + 4 && out.wrapped[3].n == 40);
    assert_int_equal(partition_parse(bytes_of(c, sizeof c - 1), &out), ERR_BADBLOB);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        c[bad[i]] ^= 0x20;
        if (partition_parse(bytes_of(c, sizeof c), &out) != ERR_BADBLOB)
            fail_msg("byte %zu: not refused", bad[i]);
        c[bad[i]] ^= 0x20;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head),          cmocka_unit_test(test_parse),
        cmocka_unit_test(test_malformed),     cmocka_unit_test(test_begin_checks_room),
        cmocka_unit_test(test_algorithms),    cmocka_unit_test(test_signature_algorithms),
        cmocka_unit_test(test_config_parser),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
