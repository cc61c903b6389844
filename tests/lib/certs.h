/* certs.h - certificates for tests, made when they run.
 *
 *     struct certs ca;
 *     certs_authority(&ca, dir, "ca");                               dir/ca.crt
 *     certs_make(&ca, (struct certs_want){.name = "server"});        dir/server.crt, dir/server.key
 *     certs_path(&ca, "server.crt")
 *     certs_free(&ca);
 *
 * Keys are P-256, which takes no time. What goes wrong fails the cmocka test that runs. Static functions, so that unit
 * tests and end-to-end tests have the same ones.
 */
#ifndef COFFER_TESTS_LIB_CERTS_H
#define COFFER_TESTS_LIB_CERTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#define CERTS_DAY 86400

struct certs { /* an authority */
    char dir[128];
    EVP_PKEY *key;
    X509 *cert;
    long serial;
};

struct certs_want {
    const char *name;  /* of the files */
    const char *cn;    /* NULL: as name */
    const char *names; /* subjectAltName; NULL: "DNS:localhost,IP:127.0.0.1" */
    const char *pass;  /* the key's; NULL: none */
    long from, to;     /* seconds from now; to 0: a day */
    const char *key;   /* file of a key that is there already; NULL: a new one, written to name.key */
};

/* Static memory, for the next three calls. */
__attribute__((unused)) static const char *certs_path(const struct certs *a, const char *file)
{
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", a->dir, file);
    return path;
}

static FILE *certs_file_(const struct certs *a, const char *name, const char *end, const char *mode)
{
    char file[128];
    snprintf(file, sizeof file, "%s%s", name, end);
    FILE *f = fopen(certs_path(a, file), mode);
    assert_non_null(f);
    return f;
}

static X509 *certs_sign_(struct certs *a, EVP_PKEY *key, const struct certs_want *w, const char *constraints)
{
    X509 *x = X509_new();
    X509V3_CTX ctx;
    assert_non_null(x);
    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x), ++a->serial);
    X509_gmtime_adj(X509_getm_notBefore(x), w->from);
    X509_gmtime_adj(X509_getm_notAfter(x), w->to ? w->to : CERTS_DAY);
    X509_set_pubkey(x, key);
    const char *cn = w->cn ? w->cn : w->name;
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(a->cert ? a->cert : x));
    X509V3_set_ctx(&ctx, a->cert ? a->cert : x, x, NULL, NULL, 0);
    const char *const extensions[][2] = {{"basicConstraints", constraints},
                                         {"subjectAltName", w->names ? w->names : "DNS:localhost,IP:127.0.0.1"}};
    for (int i = 0; i < 2; i++) {
        X509_EXTENSION *e = X509V3_EXT_conf(NULL, &ctx, extensions[i][0], extensions[i][1]);
        assert_non_null(e);
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    assert_true(X509_sign(x, a->key ? a->key : key, EVP_sha256()) > 0);
    return x;
}

static void certs_write_(const struct certs *a, const char *name, X509 *x)
{
    FILE *f = certs_file_(a, name, ".crt", "w");
    assert_int_equal(PEM_write_X509(f, x), 1);
    fclose(f);
}

static EVP_PKEY *certs_key_(const struct certs *a, const struct certs_want *w)
{
    EVP_PKEY *key = w->key ? NULL : EVP_EC_gen("P-256");
    FILE *f = certs_file_(a, w->key ? w->key : w->name, ".key", w->key ? "r" : "w");
    if (w->key)
        key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    else
        assert_int_equal(PEM_write_PKCS8PrivateKey(f, key, w->pass ? EVP_aes_256_cbc() : NULL, w->pass,
                                                   w->pass ? (int)strlen(w->pass) : 0, NULL, NULL),
                         1);
    fclose(f);
    assert_non_null(key);
    return key;
}

/* Its key is in memory only. */
__attribute__((unused)) static void certs_authority(struct certs *a, const char *dir, const char *name)
{
    struct certs_want w = {.name = name, .from = -CERTS_DAY, .to = 10 * CERTS_DAY};
    memset(a, 0, sizeof *a);
    snprintf(a->dir, sizeof a->dir, "%s", dir);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    assert_non_null(key);
    X509 *x = certs_sign_(a, key, &w, "critical,CA:TRUE");
    a->key = key;
    a->cert = x;
    certs_write_(a, name, x);
}

__attribute__((unused)) static void certs_make(struct certs *a, struct certs_want w)
{
    EVP_PKEY *key = certs_key_(a, &w);
    X509 *x = certs_sign_(a, key, &w, "critical,CA:FALSE");
    certs_write_(a, w.name, x);
    X509_free(x);
    EVP_PKEY_free(key);
}

__attribute__((unused)) static void certs_free(struct certs *a)
{
    EVP_PKEY_free(a->key);
    X509_free(a->cert);
    memset(a, 0, sizeof *a);
}

#endif
