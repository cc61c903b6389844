/* gcm.c - see gcm.h.
 *
 * OpenSSL: which calls, 100 B and 60 B of additional data, key kept (ns; idle machine / busy neighbour; AES-NI,
 * OpenSSL 3.0):
 *
 *     open   DecryptInit(iv), Update, Update, ctrl tag, Final    198 / 320   looks the IV's length up each time
 *            DecryptInit_ex2(iv, tag as parameter), ...          188 / 300
 *            set_params(tag, invocation field of the IV), ...    140 / 216   openssl_open()
 *            the same, additional data in two updates            165 / 240   hence gathered by the caller
 *            re-key; fresh context                               345 / 510; 430 / 675
 *            the provider's functions without EVP                125 / 189   this library's floor
 *     seal   EncryptInit(iv), Update, Update, Final, ctrl tag    230 / 350   openssl_seal()
 *            with the cipher's own nonce counter                 188 / 281
 *     ipsec-mb: open 47 / 66, seal 33 / 47
 *
 * The nonce's first four bytes are constant, so openssl_open() sets only the other eight ("invocation field", made for
 * TLS); if that went wrong the tag would tell. Sealing has no such net: it spends 40 ns to hand over the whole nonce
 * from our one counter rather than have a second one inside the cipher.
 *
 * Rejected: libsodium (235 / 250, 213 / 228; 2x at 16 KiB); nettle (143 / 174, 99 / 126, but 1.2 to 2.3x slower from 1
 * KiB on, and AES by tables without AES-NI); libgcrypt (204 / 226).
 */
#include "hsm/gcm.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/mem.h"

#if defined(__x86_64__) && __has_include(<intel-ipsec-mb.h>)
#include <intel-ipsec-mb.h>
#define HAVE_IPSEC_MB 1
#else
#define HAVE_IPSEC_MB 0
#endif

enum { NONCE_BYTES = 12, NONCE_FIXED = 4 };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_CIPHER *cipher; /* kept for the life of the process */
static _Atomic int only_openssl;

#if HAVE_IPSEC_MB
static IMB_MGR
    *mgr; /* NULL: the processor lacks the instructions. Only its table of functions is used, which never changes */
#endif

/* The first member of both kinds of context. */
struct gcm {
    int ipsec;
};

struct gcm_openssl {
    struct gcm g;
    EVP_CIPHER_CTX *ctx;
};

/* What a failed call leaves in the thread's error queue, the next SSL_get_error() would take for its own. */
static enum err openssl_error(enum err e)
{
    ERR_clear_error();
    return e;
}

static void prepare(void)
{
    cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    ERR_clear_error();
#if HAVE_IPSEC_MB
    IMB_MGR *m = alloc_mb_mgr(0);
    if (!m)
        return;
    init_mb_mgr_auto(m, NULL);
    if (imb_get_errno(m) == 0 && (m->features & IMB_FEATURE_AESNI) && (m->features & IMB_FEATURE_PCLMULQDQ))
        mgr = m;
    else
        free_mb_mgr(m);
#endif
}

/* ---- OpenSSL ---- */

static enum err openssl_new(struct gcm **out, enum gcm_use use, const uint8_t key[GCM_KEY_BYTES])
{
    uint8_t fixed[NONCE_FIXED] = {0};
    struct gcm_openssl *g = mem_zalloc(sizeof *g);
    int ok;

    if (!cipher) {
        mem_free(g);
        return ERR_INTERNAL;
    }
    if (!g || !(g->ctx = EVP_CIPHER_CTX_new())) {
        mem_free(g);
        return openssl_error(ERR_OOM);
    }
    if (use == GCM_SEAL)
        ok = EVP_EncryptInit_ex2(g->ctx, cipher, key, NULL, NULL) == 1;
    else
        ok = EVP_DecryptInit_ex2(g->ctx, cipher, key, NULL, NULL) == 1 &&
             EVP_CIPHER_CTX_ctrl(g->ctx, EVP_CTRL_GCM_SET_IV_FIXED, sizeof fixed, fixed) == 1;
    if (!ok) {
        EVP_CIPHER_CTX_free(g->ctx);
        mem_free(g);
        return openssl_error(ERR_OOM);
    }
    *out = &g->g;
    return ERR_OK;
}

static enum err openssl_open(struct gcm *g, const uint8_t counter[8], struct bytes aad, const uint8_t *in, size_t n,
                             uint8_t *out)
{
    EVP_CIPHER_CTX *c = ((struct gcm_openssl *)(void *)g)->ctx;
    int len;
    OSSL_PARAM params[] = {
        OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, (void *)(uintptr_t)(in + n), GCM_TAG_BYTES),
        OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TLS1_SET_IV_INV, (void *)(uintptr_t)counter, 8),
        OSSL_PARAM_END,
    };

    if (EVP_CIPHER_CTX_set_params(c, params) == 1 && EVP_DecryptUpdate(c, NULL, &len, aad.p, (int)aad.n) == 1 &&
        (n == 0 || EVP_DecryptUpdate(c, out, &len, in, (int)n) == 1) && EVP_DecryptFinal_ex(c, out + n, &len) == 1)
        return ERR_OK;
    return openssl_error(ERR_CORRUPT);
}

static enum err openssl_seal(struct gcm *g, const uint8_t counter[8], struct bytes aad, const uint8_t *in, size_t n,
                             uint8_t *out)
{
    EVP_CIPHER_CTX *c = ((struct gcm_openssl *)(void *)g)->ctx;
    uint8_t nonce[NONCE_BYTES] = {0};
    int len;

    memcpy(nonce + NONCE_FIXED, counter, 8);
    if (EVP_EncryptInit_ex2(c, NULL, NULL, nonce, NULL) == 1 &&
        EVP_EncryptUpdate(c, NULL, &len, aad.p, (int)aad.n) == 1 &&
        (n == 0 || EVP_EncryptUpdate(c, out, &len, in, (int)n) == 1) && EVP_EncryptFinal_ex(c, out + n, &len) == 1 &&
        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, GCM_TAG_BYTES, out + n) == 1)
        return ERR_OK;
    return openssl_error(ERR_INTERNAL);
}

/* ---- ipsec-mb ---- */

#if HAVE_IPSEC_MB
struct gcm_ipsec {
    struct gcm g;
    _Alignas(64) struct gcm_key_data key; /* blocks of locked memory are aligned to 64 too */
};

static enum err ipsec_new(struct gcm **out, const uint8_t key[GCM_KEY_BYTES])
{
    struct gcm_ipsec *g = mem_secret_alloc(sizeof *g);
    if (!g)
        return ERR_OOM;
    g->g.ipsec = 1;
    IMB_AES256_GCM_PRE(mgr, key, &g->key);
    *out = &g->g;
    return ERR_OK;
}

static enum err ipsec_open(struct gcm *g, const uint8_t counter[8], struct bytes aad, const uint8_t *in, size_t n,
                           uint8_t *out)
{
    _Alignas(64) struct gcm_context_data ctx;
    uint8_t nonce[NONCE_BYTES] = {0}, tag[GCM_TAG_BYTES];

    memcpy(nonce + NONCE_FIXED, counter, 8);
    IMB_AES256_GCM_DEC(mgr, &((struct gcm_ipsec *)(void *)g)->key, &ctx, out, in, n, nonce, aad.p, aad.n, tag,
                       sizeof tag);
    return mem_equal_ct(tag, in + n, sizeof tag) ? ERR_OK : ERR_CORRUPT;
}

static enum err ipsec_seal(struct gcm *g, const uint8_t counter[8], struct bytes aad, const uint8_t *in, size_t n,
                           uint8_t *out)
{
    _Alignas(64) struct gcm_context_data ctx;
    uint8_t nonce[NONCE_BYTES] = {0};

    memcpy(nonce + NONCE_FIXED, counter, 8);
    IMB_AES256_GCM_ENC(mgr, &((struct gcm_ipsec *)(void *)g)->key, &ctx, out, in, n, nonce, aad.p, aad.n, out + n,
                       GCM_TAG_BYTES);
    return ERR_OK;
}
#endif

/* ---- the two as one ---- */

static int use_ipsec(void)
{
    pthread_once(&once, prepare);
#if HAVE_IPSEC_MB
    return mgr && !atomic_load_explicit(&only_openssl, memory_order_relaxed);
#else
    return 0;
#endif
}

enum err gcm_new(struct gcm **out, enum gcm_use use, const uint8_t key[GCM_KEY_BYTES])
{
    *out = NULL;
#if HAVE_IPSEC_MB
    if (use_ipsec())
        return ipsec_new(out, key);
#endif
    (void)use_ipsec();
    return openssl_new(out, use, key);
}

void gcm_free(struct gcm *g)
{
    if (!g)
        return;
#if HAVE_IPSEC_MB
    if (g->ipsec) {
        mem_secret_free(g, sizeof(struct gcm_ipsec));
        return;
    }
#endif
    EVP_CIPHER_CTX_free(((struct gcm_openssl *)(void *)g)->ctx);
    mem_free(g);
}

enum err gcm_open(struct gcm *g, const uint8_t counter[8], struct bytes aad, const uint8_t *in, size_t n, uint8_t *out)
{
#if HAVE_IPSEC_MB
    if (g->ipsec)
        return ipsec_open(g, counter, aad, in, n, out);
#endif
    return openssl_open(g, counter, aad, in, n, out);
}

enum err gcm_seal(struct gcm *g, const uint8_t counter[8], struct bytes aad, const uint8_t *in, size_t n, uint8_t *out)
{
#if HAVE_IPSEC_MB
    if (g->ipsec)
        return ipsec_seal(g, counter, aad, in, n, out);
#endif
    return openssl_seal(g, counter, aad, in, n, out);
}

const char *gcm_name(void)
{
    return use_ipsec() ? "ipsec-mb" : "openssl";
}

void gcm_test_openssl(int on)
{
    atomic_store(&only_openssl, on);
}
