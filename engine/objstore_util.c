/* objstore_util.c - what the object store client needs of libcurl, OpenSSL and files beside requests.
 *
 * libcurl copies the key pair, and what it derives from the secret key, to its heap, and wipes little of it. So all of
 * its memory is locked memory that is wiped when freed (curl_global_init_mem). That also makes the n-th of libcurl's
 * allocations fail for tests. OpenSSL, below it, sees hashes and signatures only.
 */
#include <openssl/evp.h>
#include <pthread.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/objstore_impl.h"

/* ---- libcurl's memory ---- */

#define SIZE_BYTES 16 /* in front of each block: its size, and alignment */

static void *curl_alloc(size_t n)
{
    if (n > SIZE_MAX - SIZE_BYTES)
        return NULL;
    uint8_t *p = mem_secret_alloc(n + SIZE_BYTES);
    if (!p)
        return NULL;
    memcpy(p, &n, sizeof n);
    return p + SIZE_BYTES;
}

static size_t size_of(const void *p)
{
    size_t n;
    memcpy(&n, (const uint8_t *)p - SIZE_BYTES, sizeof n);
    return n;
}

static void curl_release(void *p)
{
    if (p)
        mem_secret_free((uint8_t *)p - SIZE_BYTES, size_of(p) + SIZE_BYTES);
}

static void *curl_resize(void *p, size_t n)
{
    void *q = curl_alloc(n);
    if (q && p) {
        memcpy(q, p, size_of(p) < n ? size_of(p) : n);
        curl_release(p);
    }
    return q;
}

static char *curl_copy(const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = curl_alloc(n);
    if (p)
        memcpy(p, s, n);
    return p;
}

static void *curl_alloc_zeroed(size_t count, size_t size)
{
    size_t n;
    if (__builtin_mul_overflow(count, size, &n))
        return NULL;
    void *p = curl_alloc(n);
    if (p)
        memset(p, 0, n);
    return p;
}

static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;
static int initialised; /* under the lock */

enum err objstore_curl_init(void)
{
    pthread_mutex_lock(&init_lock);
    if (!initialised)
        initialised = curl_global_init_mem(CURL_GLOBAL_DEFAULT, curl_alloc, curl_release, curl_resize, curl_copy,
                                           curl_alloc_zeroed) == CURLE_OK;
    int ok = initialised;
    pthread_mutex_unlock(&init_lock);
    return ok ? ERR_OK : ERR_OOM;
}

/* ---- small things ---- */

enum err objstore_put_escaped(struct buf *out, const char *text, int slashes)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";
    enum err e = ERR_OK;

    while (*text && !e) {
        size_t n = strspn(text, plain);
        if (n == 0 && *text == '/' && slashes)
            n = 1;
        e = n ? buf_put(out, text, n) : buf_putf(out, "%%%02X", (unsigned)(unsigned char)*text);
        text += n ? n : 1;
    }
    return e;
}

enum err objstore_put_query(struct buf *query, const char *name, const char *value)
{
    enum err e = buf_size(query) ? buf_put_u8(query, '&') : ERR_OK;
    if (!e)
        e = objstore_put_escaped(query, name, 0);
    if (!e)
        e = buf_put_u8(query, '=');
    return e ? e : objstore_put_escaped(query, value, 0);
}

void objstore_hex(char *out, const uint8_t *p, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * n] = 0;
}

int objstore_md5(struct bytes b, char out[33])
{
    uint8_t sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    out[0] = 0;
    if (!EVP_Digest(b.n ? b.p : (const uint8_t *)"", b.n, sum, &n, EVP_md5(), NULL) || n != 16)
        return 0;
    objstore_hex(out, sum, n);
    return 1;
}

enum err objstore_read_file(void *arg, uint64_t off, void *p, size_t n)
{
    size_t got;
    enum err e = file_pread(*(const int *)arg, p, n, off, &got);
    return !e && got < n ? ERR_CORRUPT : e;
}

enum err objstore_write_file(void *arg, uint64_t off, const void *p, size_t n)
{
    return file_pwrite(*(const int *)arg, p, n, off);
}
