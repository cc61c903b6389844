/* test_hsm_ciphertext.c - the bytes of self-describing ciphertexts. That every flipped byte is detected under a key is
 * in test_hsm_ops.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hsm/ciphertext.h"

static const uint8_t id[KEY_ID_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

/* As ciphertext.h documents it. */
static const uint8_t golden[CIPHERTEXT_HEADER] = {'C', 'E', 'N', 'C', 1,  1,  0,  0,  1,  2,  3,    4,    5,    6,
                                                  7,   8,   9,   10,  11, 12, 13, 14, 15, 16, 0x44, 0x33, 0x22, 0x11};

static void test_header_bytes(void **state)
{
    uint8_t h[CIPHERTEXT_HEADER];

    (void)state;
    ciphertext_put_header(h, CIPHER_AES_256_GCM, id, 0x11223344);
    assert_memory_equal(h, golden, sizeof h);
}

static void test_gcm(void **state)
{
    uint8_t raw[CIPHERTEXT_GCM_OVERHEAD + 5] = {0};
    struct ciphertext c;

    (void)state;
    memcpy(raw, golden, sizeof golden);
    assert_int_equal(ciphertext_parse(bytes_of(raw, sizeof raw), &c), ERR_OK);
    assert_true(c.cipher == CIPHER_AES_256_GCM && c.version == 0x11223344 && memcmp(c.id, id, sizeof id) == 0);
    assert_true(c.header.p == raw && c.header.n == 28 && c.nonce.p == raw + 28 && c.nonce.n == 12 &&
                c.body.p == raw + 40 && c.body.n == 5 + 16);
    assert_int_equal(ciphertext_parse(bytes_of(raw, CIPHERTEXT_GCM_OVERHEAD), &c), ERR_OK); /* of nothing */
    for (size_t n = 0; n < CIPHERTEXT_GCM_OVERHEAD; n++)
        assert_int_equal(ciphertext_parse(bytes_of(raw, n), &c), ERR_BADCIPHERTEXT);
}

static void test_rsa(void **state)
{
    uint8_t raw[CIPHERTEXT_HEADER + 513] = {0};
    struct ciphertext c;

    (void)state;
    for (uint8_t cipher = CIPHER_RSA_OAEP_SHA1; cipher <= CIPHER_RSA_OAEP_SHA256; cipher++) {
        ciphertext_put_header(raw, cipher, id, 1);
        assert_int_equal(ciphertext_parse(bytes_of(raw, CIPHERTEXT_HEADER + 256), &c), ERR_OK);
        assert_true(c.cipher == cipher && c.nonce.n == 0 && c.body.n == 256);
        assert_int_equal(ciphertext_parse(bytes_of(raw, CIPHERTEXT_HEADER + 255), &c), ERR_BADCIPHERTEXT);
        assert_int_equal(ciphertext_parse(bytes_of(raw, CIPHERTEXT_HEADER + 513), &c), ERR_BADCIPHERTEXT);
    }
}

static void test_malformed_header(void **state)
{
    uint8_t raw[64];
    struct ciphertext c;

    (void)state;
    memset(raw, 0, sizeof raw);
    memcpy(raw, golden, sizeof golden);
    for (size_t at = 0; at < 8;
         at++) { /* magic, format, cipher, reserved: any other value is refused; id and version name the key */
        raw[at] ^= 0x80;
        if (ciphertext_parse(bytes_of(raw, sizeof raw), &c) != ERR_BADCIPHERTEXT)
            fail_msg("byte %zu: not refused", at);
        raw[at] ^= 0x80;
    }
    raw[5] = CIPHER_ANY;
    assert_int_equal(ciphertext_parse(bytes_of(raw, sizeof raw), &c), ERR_BADCIPHERTEXT);
    raw[5] = CIPHER_RSA_OAEP_SHA256 + 1;
    assert_int_equal(ciphertext_parse(bytes_of(raw, sizeof raw), &c), ERR_BADCIPHERTEXT);
}

static void test_request(void **state)
{
    uint8_t h[CIPHERTEXT_HEADER + 1] = {0};
    struct ciphertext c;

    (void)state;
    ciphertext_put_header(h, CIPHER_ANY, id, 9);
    assert_int_equal(ciphertext_get_request(bytes_of(h, CIPHERTEXT_HEADER), &c), ERR_OK);
    assert_true(c.version == 9 && memcmp(c.id, id, sizeof id) == 0);
    assert_int_equal(ciphertext_get_request(bytes_of(h, CIPHERTEXT_HEADER + 1), &c), ERR_BADCIPHERTEXT);
    assert_int_equal(ciphertext_get_request(bytes_of(h, CIPHERTEXT_HEADER - 1), &c), ERR_BADCIPHERTEXT);
    assert_int_equal(ciphertext_get_request(bytes_of(NULL, 0), &c), ERR_BADCIPHERTEXT);
    h[5] = CIPHER_AES_256_GCM; /* the worker chooses */
    assert_int_equal(ciphertext_get_request(bytes_of(h, CIPHERTEXT_HEADER), &c), ERR_BADCIPHERTEXT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_bytes),     cmocka_unit_test(test_gcm),     cmocka_unit_test(test_rsa),
        cmocka_unit_test(test_malformed_header), cmocka_unit_test(test_request),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
