/* KEY.*: encrypting, signing and authenticating, with every algorithm. What Coffer signs and publishes is checked by
 * OpenSSL, and what OpenSSL encrypts Coffer opens. */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "tests/e2e/keys.h"

/* ---- encrypting ---- */

static void test_versions(void **state)
{
    struct e2e s;
    (void)state;
    start(&s);
    redisContext *c = s.c;
    e2e_expect(c, ":1", "KEY.CREATE v k");
    struct blob one = encrypt(c, "v", "k", "one");
    e2e_expect(c, ":2", "KEY.ROTATE v k");
    struct blob two = encrypt(c, "v", "k", "two");
    assert_int_equal(one.p[24], 1); /* the version, in the header */
    assert_int_equal(two.p[24], 2);
    e2e_expect(c, "$one", "KEY.DECRYPT v k %b", one.p, one.n);
    e2e_expect(c, "$two", "KEY.DECRYPT v k %b", two.p, two.n);

    struct blob again = take(e2e_command(c, "KEY.REWRAP v k %b", one.p, one.n));
    assert_int_equal(again.p[24], 2);
    e2e_expect(c, "$one", "KEY.DECRYPT v k %b", again.p, again.n);

    e2e_expect(c, "+OK", "KEY.SET v k MINVERSION 2");
    e2e_expect(c, "-KEYSTATE version 1 of key 'k' is below its MINVERSION 2", "KEY.DECRYPT v k %b", one.p, one.n);
    e2e_expect(c, "-KEYSTATE version 1 of key 'k' is below its MINVERSION 2", "KEY.REWRAP v k %b", one.p, one.n);
    e2e_expect(c, "$two", "KEY.DECRYPT v k %b", two.p, two.n);
    e2e_expect(c, "-ERR MINVERSION must be from 1 to 2, the newest version of key 'k'", "KEY.SET v k MINVERSION 3");
    e2e_expect(c, "-ERR MINVERSION must be from 1 to 4294967295", "KEY.SET v k MINVERSION 0");
    e2e_expect(c, "+OK", "KEY.SET v k MINVERSION 1");
    e2e_expect(c, "$one", "KEY.DECRYPT v k %b", one.p, one.n);

    struct blob unknown = two; /* a version there never was */
    unknown.p[24] = 9;
    e2e_expect(c, "-BADCIPHERTEXT the ciphertext was made by another key", "KEY.DECRYPT v k %b", unknown.p, unknown.n);
    e2e_finish(&s);
}

static void test_every_byte_of_a_ciphertext_counts(void **state)
{
    struct e2e s;
    (void)state;
    start(&s);
    e2e_expect(s.c, ":1", "KEY.CREATE v k");
    struct blob ct = encrypt(s.c, "v", "k", "some bytes"), bad;
    assert_int_equal(ct.n, HEADER + 12 + 10 + 16);
    for (size_t i = 0; i < ct.n; i++) {
        bad = ct;
        bad.p[i] ^= 0x10;
        e2e_expect(s.c, "-BADCIPHERTEXT ...", "KEY.DECRYPT v k %b", bad.p, bad.n);
        e2e_expect(s.c, "-BADCIPHERTEXT ...", "KEY.REWRAP v k %b", bad.p, bad.n);
    }
    for (size_t n = 0; n < ct.n; n++)
        e2e_expect(s.c, "-BADCIPHERTEXT ...", "KEY.DECRYPT v k %b", ct.p, n);
    e2e_expect(s.c, "-BADCIPHERTEXT ...", "KEY.DECRYPT v k %b", ct.p, ct.n + 1);
    e2e_expect(s.c, "$some bytes", "KEY.DECRYPT v k %b", ct.p, ct.n);
    e2e_finish(&s);
}

static void test_a_ciphertext_belongs_to_its_key(void **state)
{
    struct e2e s;
    (void)state;
    start(&s);
    redisContext *c = s.c;
    e2e_expect(c, "+OK", "VAULT.CREATE w");
    e2e_expect(c, ":1", "KEY.CREATE v k");
    e2e_expect(c, ":1", "KEY.CREATE v l");
    e2e_expect(c, ":1", "KEY.CREATE w k");
    struct blob ct = encrypt(c, "v", "k", "mine"), other = encrypt(c, "w", "k", "mine");
    e2e_expect(c, "-BADCIPHERTEXT the ciphertext was made by another key", "KEY.DECRYPT v l %b", ct.p, ct.n);
    e2e_expect(c, "-BADCIPHERTEXT the ciphertext was made by another key", "KEY.DECRYPT w k %b", ct.p, ct.n);
    memcpy(ct.p, other.p, HEADER); /* one that claims to be another key's */
    e2e_expect(c, "-BADCIPHERTEXT the ciphertext does not authenticate under this key and AAD", "KEY.DECRYPT w k %b",
               ct.p, ct.n);
    e2e_finish(&s);
}

static void test_aad(void **state)
{
    struct e2e s;
    (void)state;
    start(&s);
    redisContext *c = s.c;
    e2e_expect(c, ":1", "KEY.CREATE v k");
    struct blob ct = take(e2e_command(c, "KEY.ENCRYPT v k text AAD %b", "a\0b", (size_t)3));
    e2e_expect(c, "$text", "KEY.DECRYPT v k %b aad %b", ct.p, ct.n, "a\0b", (size_t)3);
    e2e_expect(c, "-BADCIPHERTEXT ...", "KEY.DECRYPT v k %b", ct.p, ct.n);
    e2e_expect(c, "-BADCIPHERTEXT ...", "KEY.DECRYPT v k %b AAD %b", ct.p, ct.n, "a\0c", (size_t)3);
    e2e_expect(c, "-BADCIPHERTEXT ...", "KEY.REWRAP v k %b AAD x", ct.p, ct.n);
    struct blob again = take(e2e_command(c, "KEY.REWRAP v k %b AAD %b", ct.p, ct.n, "a\0b", (size_t)3));
    e2e_expect(c, "$text", "KEY.DECRYPT v k %b AAD %b", again.p, again.n, "a\0b", (size_t)3);
    ct = take(e2e_command(c, "KEY.ENCRYPT v k text AAD %b", "", (size_t)0)); /* none and an empty one are the same */
    e2e_expect(c, "$text", "KEY.DECRYPT v k %b", ct.p, ct.n);
    e2e_finish(&s);
}

static void test_plaintexts_of_all_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 15, 16, 17, 4096, 65535, 65536, (1 << 20) - 1, 1 << 20};
    struct e2e s;
    (void)state;
    start(&s);
    e2e_expect(s.c, ":1", "KEY.CREATE v k");
    char *big = malloc((1 << 20) + 100);
    assert_non_null(big);
    for (size_t i = 0; i < (1 << 20) + 100; i++)
        big[i] = (char)(i * 7);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        redisReply *ct = e2e_command(s.c, "KEY.ENCRYPT v k %b", big, sizes[i]);
        assert_int_equal(ct->type, REDIS_REPLY_STRING);
        assert_int_equal(ct->len, sizes[i] + 56);
        redisReply *plain = e2e_command(s.c, "KEY.DECRYPT v k %b", ct->str, ct->len);
        assert_int_equal(plain->type, REDIS_REPLY_STRING);
        assert_int_equal(plain->len, sizes[i]);
        assert_memory_equal(plain->str, big, sizes[i]);
        freeReplyObject(plain);
        freeReplyObject(ct);
    }
    e2e_expect(s.c, "-TOOBIG the HSM takes at most 1048576 bytes at a time", "KEY.ENCRYPT v k %b", big,
               (size_t)(1 << 20) + 1);
    e2e_expect(s.c, "-TOOBIG ...", "KEY.ENCRYPT v k x AAD %b", big, (size_t)(1 << 20) + 1);
    e2e_expect(s.c, "-TOOBIG ...", "KEY.DECRYPT v k %b", big, (size_t)(1 << 20) + 57);
    free(big);
    e2e_finish(&s);
}

static void test_datakeys(void **state)
{
    struct e2e s;
    (void)state;
    start(&s);
    redisContext *c = s.c;
    e2e_expect(c, ":1", "KEY.CREATE v k");
    static const int sizes[] = {0, 16, 32, 64};
    for (int i = 0; i < 4; i++) {
        redisReply *r = sizes[i] ? e2e_command(c, "KEY.DATAKEY v k BYTES %d AAD ctx", sizes[i])
                                 : e2e_command(c, "KEY.DATAKEY v k AAD ctx");
        assert_int_equal(r->elements, 2);
        assert_int_equal(r->element[0]->len, sizes[i] ? sizes[i] : 32);
        redisReply *plain = e2e_command(c, "KEY.DECRYPT v k %b AAD ctx", r->element[1]->str, r->element[1]->len);
        assert_int_equal(plain->len, r->element[0]->len);
        assert_memory_equal(plain->str, r->element[0]->str, plain->len);
        freeReplyObject(plain);
        freeReplyObject(r);
    }
    redisReply *r = e2e_command(c, "KEY.DATAKEY v k NOPLAINTEXT");
    assert_int_equal(r->element[0]->type, REDIS_REPLY_NIL);
    redisReply *plain = e2e_command(c, "KEY.DECRYPT v k %b", r->element[1]->str, r->element[1]->len);
    assert_int_equal(plain->len, 32);
    freeReplyObject(plain);
    freeReplyObject(r);
    e2e_expect(c, "-ERR BYTES must be 16, 32 or 64", "KEY.DATAKEY v k BYTES 24");
    e2e_expect(c, "-ERR value is not an integer or out of range", "KEY.DATAKEY v k BYTES x");
    e2e_finish(&s);
}

/* ---- signatures ---- */

static const char *const types[] = {"aes-256", "rsa-2048", "rsa-3072", "rsa-4096",
                                    "ec-p256", "ec-p384",  "ed25519",  "hmac-sha256"};
#define TYPES (sizeof types / sizeof types[0])

static EVP_PKEY *public_key(redisContext *c, const char *key)
{
    struct blob der = take(e2e_command(c, "KEY.PUBLIC v %s FORMAT der", key)),
                pem = take(e2e_command(c, "KEY.PUBLIC v %s", key));
    const unsigned char *p = der.p;
    EVP_PKEY *k = d2i_PUBKEY(NULL, &p, (long)der.n), *same;
    BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);

    assert_non_null(k);
    same = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
    assert_non_null(same);
    assert_int_equal(EVP_PKEY_eq(k, same), 1);
    EVP_PKEY_free(same);
    BIO_free(bio);
    return k;
}

/* What OpenSSL says of a signature. */
static int openssl_verifies(EVP_PKEY *k, const char *hash, int pss, const char *message, const struct blob *sig)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pctx;
    assert_int_equal(EVP_DigestVerifyInit_ex(ctx, &pctx, hash, NULL, NULL, k, NULL), 1);
    if (pss) {
        assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST), 1);
    }
    int ok = EVP_DigestVerify(ctx, sig->p, sig->n, (const unsigned char *)message, strlen(message)) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

static const struct {
    const char *type, *alg, *hash;
    int pss, fallback; /* fallback: what the key does without ALG */
} signers[] = {
    {"rsa-2048", "RSA-PSS-SHA256", "SHA256", 1, 1},
    {"rsa-2048", "RSA-PKCS1-SHA256", "SHA256", 0, 0},
    {"rsa-3072", "RSA-PSS-SHA256", "SHA256", 1, 1},
    {"rsa-4096", "rsa-pss-sha256", "SHA256", 1, 1},
    {"ec-p256", "ECDSA-SHA256", "SHA256", 0, 1},
    {"ec-p384", "ECDSA-SHA384", "SHA384", 0, 1},
    {"ed25519", "ED25519", NULL, 0, 1},
};

static void check_signer(redisContext *c, size_t i)
{
    const char *type = signers[i].type, *alg = signers[i].alg, *message = "a message";
    unsigned char digest[64];
    unsigned digest_n = 0;
    struct blob sig = take(e2e_command(c, "KEY.SIGN v %s %s ALG %s", type, message, alg)), bad = sig;

    EVP_PKEY *k = public_key(c, type);
    assert_true(openssl_verifies(k, signers[i].hash, signers[i].pss, message, &sig));
    e2e_expect(c, ":1", "KEY.VERIFY v %s %s %b ALG %s", type, message, sig.p, sig.n, alg);
    e2e_expect(c, ":0", "KEY.VERIFY v %s %s %b ALG %s", type, "another message", sig.p, sig.n, alg);
    bad.p[bad.n - 1] ^= 1;
    e2e_expect(c, ":0", "KEY.VERIFY v %s %s %b ALG %s", type, message, bad.p, bad.n, alg);
    e2e_expect(c, ":0", "KEY.VERIFY v %s %s %b ALG %s", type, message, sig.p, sig.n - 1, alg);
    e2e_expect(c, ":0", "KEY.VERIFY v %s %s %b ALG %s", type, message, "", (size_t)0, alg);
    if (signers[i].fallback) {
        sig = take(e2e_command(c, "KEY.SIGN v %s %s", type, message));
        assert_true(openssl_verifies(k, signers[i].hash, signers[i].pss, message, &sig));
        e2e_expect(c, ":1", "KEY.VERIFY v %s %s %b", type, message, sig.p, sig.n);
    }
    if (signers[i].hash) {
        assert_int_equal(
            EVP_Digest(message, strlen(message), digest, &digest_n, EVP_get_digestbyname(signers[i].hash), NULL), 1);
        sig = take(e2e_command(c, "KEY.SIGN v %s %b DIGEST ALG %s", type, digest, (size_t)digest_n, alg));
        assert_true(openssl_verifies(k, signers[i].hash, signers[i].pss, message, &sig));
        e2e_expect(c, ":1", "KEY.VERIFY v %s %b %b ALG %s DIGEST", type, digest, (size_t)digest_n, sig.p, sig.n, alg);
        e2e_expect(c, ":1", "KEY.VERIFY v %s %s %b ALG %s", type, message, sig.p, sig.n, alg);
        e2e_expect(c, "-ERR the digest for ...", "KEY.SIGN v %s %b DIGEST ALG %s", type, digest, (size_t)digest_n - 1,
                   alg);
    } else {
        e2e_expect(c, "-ERR ED25519 signs the message itself: leave DIGEST out", "KEY.SIGN v %s %s DIGEST", type,
                   message);
    }
    EVP_PKEY_free(k);
}

static void test_signatures_of_every_algorithm(void **state)
{
    struct e2e s;
    (void)state;
    start(&s);
    for (size_t i = 0; i < TYPES; i++)
        e2e_expect(s.c, ":1", "KEY.CREATE v %s TYPE %s", types[i], types[i]);
    for (size_t i = 0; i < sizeof signers / sizeof signers[0]; i++)
        check_signer(s.c, i);
    e2e_expect(s.c, "-ERR key 'ec-p256' is ec-p256, which makes no RSA-PSS-SHA256 signatures",
               "KEY.SIGN v ec-p256 m ALG RSA-PSS-SHA256");
    e2e_expect(s.c, "-ERR key 'ec-p256' is ec-p256, which makes no ECDSA-SHA384 signatures",
               "KEY.SIGN v ec-p256 m ALG ecdsa-sha384");
    e2e_expect(s.c, "-ERR unknown signature algorithm: use one of RSA-PSS-SHA256, ...", "KEY.SIGN v ec-p256 m ALG md5");
    redisReply *r = e2e_command(s.c, "KEY.INFO v ed25519");
    assert_string_equal(r->element[9]->str, "software");
    freeReplyObject(r);
    e2e_finish(&s);
}

static void test_signatures_of_older_versions(void **state)
{
    struct e2e s;
    (void)state;
    start(&s);
    redisContext *c = s.c;
    e2e_expect(c, ":1", "KEY.CREATE v k TYPE ec-p256");
    e2e_expect(c, ":1", "KEY.CREATE v m TYPE hmac-sha256");
    struct blob sig = take(e2e_command(c, "KEY.SIGN v k hi")), mac = take(e2e_command(c, "KEY.MAC v m hi"));
    struct blob der = take(e2e_command(c, "KEY.PUBLIC v k FORMAT DER"));
    for (int version = 2; version <= 4; version++) {
        e2e_expect(c, ":...", "KEY.ROTATE v k");
        e2e_expect(c, ":...", "KEY.ROTATE v m");
    }
    struct blob newest = take(e2e_command(c, "KEY.PUBLIC v k FORMAT DER")),
                first = take(e2e_command(c, "KEY.PUBLIC v k FORMAT DER VERSION 1"));
    assert_true(newest.n != der.n || memcmp(newest.p, der.p, der.n) != 0);
    assert_int_equal(first.n, der.n);
    assert_memory_equal(first.p, der.p, der.n);

    e2e_expect(c, ":1", "KEY.VERIFY v k hi %b", sig.p, sig.n); /* found by going down the versions */
    e2e_expect(c, ":0", "KEY.VERIFY v k ho %b", sig.p, sig.n);
    e2e_expect(c, ":1", "KEY.VERIFY v k hi %b VERSION 1", sig.p, sig.n);
    e2e_expect(c, ":0", "KEY.VERIFY v k hi %b VERSION 2", sig.p, sig.n);
    e2e_expect(c, "-ERR key 'k' has no version 9", "KEY.VERIFY v k hi %b VERSION 9", sig.p, sig.n);
    e2e_expect(c, ":1", "KEY.VERIFYMAC v m hi %b", mac.p, mac.n);
    e2e_expect(c, ":0", "KEY.VERIFYMAC v m ho %b", mac.p, mac.n);
    e2e_expect(c, ":0", "KEY.VERIFYMAC v m hi %b VERSION 4", mac.p, mac.n);

    e2e_expect(c, "+OK", "KEY.SET v k MINVERSION 2");
    e2e_expect(c, "+OK", "KEY.SET v m MINVERSION 2");
    e2e_expect(c, ":0", "KEY.VERIFY v k hi %b", sig.p, sig.n);
    e2e_expect(c, ":0", "KEY.VERIFYMAC v m hi %b", mac.p, mac.n);
    e2e_expect(c, "-KEYSTATE version 1 of key 'k' is below its MINVERSION 2", "KEY.VERIFY v k hi %b VERSION 1", sig.p,
               sig.n);
    e2e_finish(&s);
}

static void test_macs(void **state)
{
    struct e2e s;
    (void)state;
    start(&s);
    redisContext *c = s.c;
    e2e_expect(c, ":1", "KEY.CREATE v m TYPE hmac-sha256");
    e2e_expect(c, ":1", "KEY.CREATE v n TYPE hmac-sha256");
    struct blob mac = take(e2e_command(c, "KEY.MAC v m %b", "a\0b", (size_t)3)), bad = mac;
    assert_int_equal(mac.n, 32);
    e2e_expect(c, ":1", "KEY.VERIFYMAC v m %b %b", "a\0b", (size_t)3, mac.p, mac.n);
    e2e_expect(c, ":0", "KEY.VERIFYMAC v m %b %b", "a\0c", (size_t)3, mac.p, mac.n);
    e2e_expect(c, ":0", "KEY.VERIFYMAC v n %b %b", "a\0b", (size_t)3, mac.p, mac.n);
    bad.p[31] ^= 1;
    e2e_expect(c, ":0", "KEY.VERIFYMAC v m %b %b", "a\0b", (size_t)3, bad.p, bad.n);
    for (size_t n = 0; n < 40; n += 13) /* never as long as a MAC */
        e2e_expect(c, ":0", "KEY.VERIFYMAC v m %b %b", "a\0b", (size_t)3, mac.p, n);
    e2e_expect(c, "$...", "KEY.MAC v m %b", "", (size_t)0);
    e2e_finish(&s);
}

/* ---- RSA as a cipher ---- */

static void test_rsa_encryption(void **state)
{
    struct e2e s;
    (void)state;
    start(&s);
    redisContext *c = s.c;
    e2e_expect(c, ":1", "KEY.CREATE v k TYPE rsa-2048");
    struct blob ct = encrypt(c, "v", "k", "secret"), bad = ct, mine = {.n = HEADER + 256};
    assert_int_equal(ct.n, HEADER + 256);
    e2e_expect(c, "$secret", "KEY.DECRYPT v k %b", ct.p, ct.n);
    bad.p[100] ^= 1;
    e2e_expect(c, "-BADCIPHERTEXT ...", "KEY.DECRYPT v k %b", bad.p, bad.n);
    e2e_expect(c, "-ERR key 'k' is rsa-2048, which takes no AAD", "KEY.ENCRYPT v k x AAD y");
    e2e_expect(c, "-TOOBIG too long for this key or this HSM", "KEY.ENCRYPT v k %b", ct.p, ct.n);

    /* Made outside, from the header of one of ours and the public key. */
    size_t n = 256;
    EVP_PKEY *k = public_key(c, "k");
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(k, NULL);
    memcpy(mine.p, ct.p, HEADER);
    assert_int_equal(EVP_PKEY_encrypt_init(ctx), 1);
    assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING), 1);
    if (ct.p[5] == 3) {
        assert_int_equal(EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()), 1);
        assert_int_equal(EVP_PKEY_CTX_set_rsa_mgf1_md(ctx, EVP_sha256()), 1);
    }
    assert_int_equal(EVP_PKEY_encrypt(ctx, mine.p + HEADER, &n, (const unsigned char *)"outside", 7), 1);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(k);
    e2e_expect(c, "$outside", "KEY.DECRYPT v k %b", mine.p, mine.n);

    e2e_expect(c, ":2", "KEY.ROTATE v k");
    struct blob again = take(e2e_command(c, "KEY.REWRAP v k %b", mine.p, mine.n));
    assert_int_equal(again.p[24], 2);
    e2e_expect(c, "$outside", "KEY.DECRYPT v k %b", again.p, again.n);
    redisReply *r = e2e_command(c, "KEY.DATAKEY v k BYTES 16");
    e2e_expect(c, "$...", "KEY.DECRYPT v k %b", r->element[1]->str, r->element[1]->len);
    freeReplyObject(r);
    e2e_finish(&s);
}

static void test_hsm_only(void **state)
{
    struct e2e s;
    (void)state;
    e2e_start(&s, "--hsm-only", "yes", NULL);
    e2e_expect(s.c, "+OK", "VAULT.CREATE v");
    e2e_expect(s.c, "-ERR ed25519 keys are not supported by this HSM, or hsm-only forbids them",
               "KEY.CREATE v k TYPE ed25519");
    e2e_expect(s.c, "-NOKEY ...", "KEY.INFO v k");
    e2e_expect(s.c, ":1", "KEY.CREATE v k TYPE ec-p256");
    e2e_finish(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_versions),
        TEST(test_every_byte_of_a_ciphertext_counts),
        TEST(test_a_ciphertext_belongs_to_its_key),
        TEST(test_aad),
        TEST(test_plaintexts_of_all_sizes),
        TEST(test_datakeys),
        TEST(test_signatures_of_every_algorithm),
        TEST(test_signatures_of_older_versions),
        TEST(test_macs),
        TEST(test_rsa_encryption),
        TEST(test_hsm_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
