/* tls.c - contexts: from the tls-* directives to what connections are made of; see tls.h. Connections are tls_conn.c's.
 *
 * A load makes both contexts from nothing and exchanges them with the present ones when all went well; OpenSSL counts
 * the references that connections hold. Loads come one at a time: from tls_new, then under CONFIG SET's lock.
 *
 * The private key: its file and passphrase are read into locked memory, OpenSSL decodes them through ordinary memory
 * that is wiped when it frees it (base/mem.c), and the numbers that are secret come to rest in its secure heap. For RSA
 * not all of them: it keeps the primes in ordinary memory once more, to compute with (its Montgomery contexts). Keys of
 * elliptic curves have nothing of the kind.
 *
 * tls-ca-cert-dir is read whole, once: OpenSSL would look files up while a handshake waits, on an I/O thread, and what
 * a context trusts would change under it.
 *
 * Failures: whatever is wrong with a directive is one line in the log, which names it; CONFIG SET then answers Redis's
 * text, which points there. Nothing has changed.
 *
 * Rejected: a reference count of our own around the contexts (OpenSSL's is there); changing a context that is in use,
 * as OpenSSL allows (half a change would be seen, and sessions made before it could be resumed after); session tickets
 * (in TLS 1.2 the key that opens them opens what was sent, and the size of the cache would mean nothing).
 */
#include "server/tls.h"

#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/tls_private.h"

#define SECURE_HEAP_BYTES (256u << 10) /* a power of two: keys, and the ephemeral ones of handshakes under way */
#define SECURE_HEAP_MIN 32
#define KEY_FILE_BYTES (64u << 10)
#define PASS_BYTES 1024

/* Forward secrecy and authenticated encryption; what else OpenSSL has must be asked for by tls-ciphers. */
#define DEFAULT_CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20"

static const enum config_id rows[] = {CFG_TLS_PORT,
                                      CFG_TLS_CERT_FILE,
                                      CFG_TLS_KEY_FILE,
                                      CFG_TLS_KEY_FILE_PASS,
                                      CFG_TLS_CLIENT_CERT_FILE,
                                      CFG_TLS_CLIENT_KEY_FILE,
                                      CFG_TLS_CLIENT_KEY_FILE_PASS,
                                      CFG_TLS_DH_PARAMS_FILE,
                                      CFG_TLS_CA_CERT_FILE,
                                      CFG_TLS_CA_CERT_DIR,
                                      CFG_TLS_AUTH_CLIENTS,
                                      CFG_TLS_REPLICATION,
                                      CFG_TLS_CLUSTER,
                                      CFG_TLS_PROTOCOLS,
                                      CFG_TLS_CIPHERS,
                                      CFG_TLS_CIPHERSUITES,
                                      CFG_TLS_PREFER_SERVER_CIPHERS,
                                      CFG_TLS_SESSION_CACHING,
                                      CFG_TLS_SESSION_CACHE_SIZE,
                                      CFG_TLS_SESSION_CACHE_TIMEOUT};

struct side { /* the directives of one direction's certificate */
    enum config_id cert, key, pass;
};
static const struct side of_server = {CFG_TLS_CERT_FILE, CFG_TLS_KEY_FILE, CFG_TLS_KEY_FILE_PASS};
static const struct side of_client = {CFG_TLS_CLIENT_CERT_FILE, CFG_TLS_CLIENT_KEY_FILE, CFG_TLS_CLIENT_KEY_FILE_PASS};

struct load { /* one context in the making */
    struct config *c;
    const struct side *side;
    int starting;
    SSL_CTX *ctx;
    char text[PATH_MAX]; /* the directive that text_of read last */
    int64_t expires;
};

/* ---- what goes wrong ---- */

const char *tls_openssl_says(void)
{
    unsigned long code = ERR_peek_error(); /* the first is the cause, what follows says who stumbled over it */
    const char *text =
        ERR_GET_LIB(code) == ERR_LIB_SYS ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    ERR_clear_error();
    return text ? text : "no reason given";
}

/* The directive's value is in l->text, but for secrets. */
static enum err wrong(const struct load *l, enum config_id id, const char *what)
{
    log_at(LOG_WARNING, "TLS: %s %s: %s", config_rows[id].name, config_rows[id].flags & CONFIG_SECRET ? "" : l->text,
           what);
    return ERR_SYNTAX;
}

/* ---- directives ---- */

/* *given 0: it is empty. */
static enum err text_of(struct load *l, enum config_id id, int *given)
{
    struct buf b;
    buf_init(&b, sizeof l->text - 1);
    enum err e = config_text(l->c, id, &b);
    size_t n = e ? 0 : buf_size(&b);
    if (n)
        memcpy(l->text, buf_data(&b), n);
    l->text[n] = 0;
    buf_fini(&b);
    *given = n > 0;
    return e == ERR_TOOBIG ? wrong(l, id, "too long") : e;
}

static enum err set_protocols(struct load *l)
{
    int given;
    enum err e = text_of(l, CFG_TLS_PROTOCOLS, &given);
    if (e)
        return e;
    int v12 = !given || strcasestr(l->text, "TLSv1.2"), v13 = !given || strcasestr(l->text, "TLSv1.3");
    if (!SSL_CTX_set_min_proto_version(l->ctx, v12 ? TLS1_2_VERSION : TLS1_3_VERSION) ||
        !SSL_CTX_set_max_proto_version(l->ctx, v13 ? TLS1_3_VERSION : TLS1_2_VERSION))
        return wrong(l, CFG_TLS_PROTOCOLS, tls_openssl_says());
    return ERR_OK;
}

static enum err set_ciphers(struct load *l)
{
    int given;
    enum err e = text_of(l, CFG_TLS_CIPHERS, &given);
    if (!e && !SSL_CTX_set_cipher_list(l->ctx, given ? l->text : DEFAULT_CIPHERS))
        e = wrong(l, CFG_TLS_CIPHERS, tls_openssl_says());
    if (!e)
        e = text_of(l, CFG_TLS_CIPHERSUITES, &given);
    if (!e && given && !SSL_CTX_set_ciphersuites(l->ctx, l->text))
        e = wrong(l, CFG_TLS_CIPHERSUITES, tls_openssl_says());
    return e;
}

/* ---- certificate and key ---- */

static int64_t unix_time(const ASN1_TIME *t)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) ? (int64_t)timegm(&tm) : 0;
}

static enum err check_dates(struct load *l, enum config_id id, const X509 *x)
{
    int64_t now = (int64_t)(clock_wall_ms() / 1000), from = unix_time(X509_get0_notBefore(x));
    l->expires = unix_time(X509_get0_notAfter(x));
    const char *what = now > l->expires ? "the certificate has expired"
                       : now < from     ? "the certificate is not valid yet"
                                        : NULL;
    if (!what)
        return ERR_OK;
    enum err e = wrong(l, id, what);
    return l->starting ? ERR_OK : e;
}

static enum err use_certificate(struct load *l)
{
    int given;
    enum config_id id = l->side->cert;
    enum err e = text_of(l, id, &given);
    if (e)
        return e;
    if (!given)
        return wrong(l, id, "must be given");
    if (SSL_CTX_use_certificate_chain_file(l->ctx, l->text) != 1)
        return wrong(l, id, tls_openssl_says());
    return check_dates(l, id, SSL_CTX_get0_certificate(l->ctx));
}

/* pem_password_cb. */
static int give_pass(char *out, int room, int writing, void *arg)
{
    const struct buf *pass = arg;
    (void)writing;
    if (buf_size(pass) == 0 || buf_size(pass) > (size_t)room)
        return -1;
    memcpy(out, buf_data(pass), buf_size(pass));
    return (int)buf_size(pass);
}

static enum err decode_key(struct load *l, const struct buf *pem, struct buf *pass)
{
    BIO *b = BIO_new_mem_buf(buf_data(pem), (int)buf_size(pem));
    EVP_PKEY *key = b ? PEM_read_bio_PrivateKey(b, NULL, give_pass, pass) : NULL;
    enum err e = ERR_OK;
    if (!key || SSL_CTX_use_PrivateKey(l->ctx, key) != 1) /* refuses one that does not fit the certificate */
        e = wrong(l, l->side->key, tls_openssl_says());
    EVP_PKEY_free(key);
    BIO_free(b);
    return e;
}

static enum err use_key(struct load *l)
{
    struct buf pem, pass;
    int given;
    enum config_id id = l->side->key;

    buf_init_secret(&pem, KEY_FILE_BYTES);
    buf_init_secret(&pass, PASS_BYTES);
    enum err e = text_of(l, id, &given);
    if (!e && !given)
        e = wrong(l, id, "must be given");
    if (!e && (e = config_text(l->c, l->side->pass, &pass)) == ERR_TOOBIG)
        e = wrong(l, l->side->pass, "too long");
    if (!e && (e = file_read_all(l->text, &pem, KEY_FILE_BYTES)) && e != ERR_OOM)
        e = wrong(l, id, e == ERR_TOOBIG ? "too long" : strerror(file_errno()));
    if (!e)
        e = decode_key(l, &pem, &pass);
    buf_fini(&pem);
    buf_fini(&pass);
    return e;
}

/* ---- whom to trust ---- */

static enum err add_directory(struct load *l)
{
    char **names, path[2 * PATH_MAX];
    size_t n, found = 0;
    X509_STORE *store = SSL_CTX_get_cert_store(l->ctx);
    enum err e = file_list(l->text, &names, &n);
    if (e)
        return e == ERR_OOM ? e : wrong(l, CFG_TLS_CA_CERT_DIR, strerror(file_errno()));
    for (size_t i = 0; i < n; i++) { /* what holds no certificate may lie there too */
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", l->text, names[i]);
        found += stat(path, &st) == 0 && S_ISREG(st.st_mode) && X509_STORE_load_file(store, path) == 1;
    }
    ERR_clear_error();
    file_free_names(names, n);
    return found ? ERR_OK : wrong(l, CFG_TLS_CA_CERT_DIR, "no certificate is there");
}

static enum err trust(struct load *l)
{
    int file, dir,
        needed = config_int(l->c, CFG_TLS_AUTH_CLIENTS) || config_int(l->c, CFG_TLS_REPLICATION) ||
                 config_int(l->c, CFG_TLS_CLUSTER);
    enum err e = text_of(l, CFG_TLS_CA_CERT_FILE, &file);
    if (!e && file && SSL_CTX_load_verify_file(l->ctx, l->text) != 1)
        e = wrong(l, CFG_TLS_CA_CERT_FILE, tls_openssl_says());
    if (!e)
        e = text_of(l, CFG_TLS_CA_CERT_DIR, &dir);
    if (!e && dir)
        e = add_directory(l);
    if (!e && needed && !file && !dir)
        e = wrong(l, CFG_TLS_CA_CERT_FILE,
                  "it or tls-ca-cert-dir must be given for tls-auth-clients, tls-replication and tls-cluster");
    return e;
}

/* ---- contexts ---- */

static enum err set_dh(struct load *l)
{
    int given;
    EVP_PKEY *dh = NULL;
    enum err e = text_of(l, CFG_TLS_DH_PARAMS_FILE, &given);
    if (e)
        return e;
    if (!given)
        return SSL_CTX_set_dh_auto(l->ctx, 1) ? ERR_OK : ERR_OOM;
    BIO *b = BIO_new_file(l->text, "r");
    OSSL_DECODER_CTX *d =
        OSSL_DECODER_CTX_new_for_pkey(&dh, "PEM", NULL, "DH", OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS, NULL, NULL);
    if (!b || !d || !OSSL_DECODER_from_bio(d, b) || SSL_CTX_set0_tmp_dh_pkey(l->ctx, dh) != 1) {
        e = wrong(l, CFG_TLS_DH_PARAMS_FILE, tls_openssl_says());
        EVP_PKEY_free(dh);
    }
    OSSL_DECODER_CTX_free(d);
    BIO_free(b);
    return e;
}

static void set_sessions(struct load *l)
{
    static const unsigned char id[] = "coffer";
    if (!config_int(l->c, CFG_TLS_SESSION_CACHING)) {
        SSL_CTX_set_session_cache_mode(l->ctx, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_num_tickets(l->ctx, 0);
        return;
    }
    SSL_CTX_set_session_cache_mode(l->ctx, SSL_SESS_CACHE_SERVER);
    SSL_CTX_set_session_id_context(l->ctx, id, sizeof id - 1);
    SSL_CTX_sess_set_cache_size(l->ctx, (long)config_int(l->c, CFG_TLS_SESSION_CACHE_SIZE));
    SSL_CTX_set_timeout(l->ctx, (long)config_int(l->c, CFG_TLS_SESSION_CACHE_TIMEOUT));
}

static void set_verification(struct load *l)
{
    enum { NO, YES, OPTIONAL };
    int64_t who = l->side == &of_server ? config_int(l->c, CFG_TLS_AUTH_CLIENTS) : YES;
    SSL_CTX_set_verify(l->ctx,
                       who == NO         ? SSL_VERIFY_NONE
                       : who == OPTIONAL ? SSL_VERIFY_PEER
                                         : SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                       NULL);
}

/* What does not depend on anything. */
static void set_fixed(SSL_CTX *ctx)
{
    SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_SINGLE_DH_USE |
                                 SSL_OP_CLEANSE_PLAINTEXT);
    SSL_CTX_set_mode(ctx,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ctx, 1); /* a record by one read() instead of two */
    SSL_CTX_set_max_early_data(ctx, 0);
    SSL_CTX_set_recv_max_early_data(ctx, 0);
}

/* l->ctx after a success. */
static enum err make(struct load *l)
{
    int server = l->side == &of_server;
    ERR_clear_error();
    l->ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (!l->ctx)
        return ERR_OOM;
    set_fixed(l->ctx);
    set_verification(l);
    if (!server)
        SSL_CTX_set_session_cache_mode(l->ctx, SSL_SESS_CACHE_OFF);
    else
        set_sessions(l);
    if (server && config_int(l->c, CFG_TLS_PREFER_SERVER_CIPHERS))
        SSL_CTX_set_options(l->ctx, SSL_OP_CIPHER_SERVER_PREFERENCE);
    if (!server && !config_given(l->c, of_client.cert) && !config_given(l->c, of_client.key))
        l->side = &of_server;
    enum err e = set_protocols(l);
    if (!e)
        e = set_ciphers(l);
    if (!e)
        e = use_certificate(l);
    if (!e)
        e = use_key(l);
    if (!e)
        e = trust(l);
    return e || !server ? e : set_dh(l);
}

static int wanted(const struct config *c)
{
    return config_int(c, CFG_TLS_PORT) || config_int(c, CFG_TLS_REPLICATION) || config_int(c, CFG_TLS_CLUSTER);
}

static void say_loaded(int64_t expires)
{
    char day[32];
    time_t at = (time_t)expires;
    struct tm tm;
    strftime(day, sizeof day, "%Y-%m-%d %H:%M", gmtime_r(&at, &tm));
    log_at(LOG_NOTICE, "TLS: ready; the certificate expires on %s UTC", day);
}

static enum err load(struct tls *t, int starting)
{
    struct load s = {.c = t->config, .side = &of_server, .starting = starting},
                c = {.c = t->config, .side = &of_client, .starting = starting};
    int on = wanted(t->config);
    enum err e = on ? make(&s) : ERR_OK;
    if (!e && on)
        e = make(&c);
    if (!e) {
        SSL_CTX *server = t->server, *client = t->client;
        pthread_mutex_lock(&t->lock);
        t->server = s.ctx;
        t->client = c.ctx;
        t->expires = s.expires;
        pthread_mutex_unlock(&t->lock);
        s.ctx = server; /* open connections hold on to them */
        c.ctx = client;
    }
    SSL_CTX_free(s.ctx);
    SSL_CTX_free(c.ctx);
    if (!e && on)
        say_loaded(t->expires);
    return e;
}

static enum err on_change(void *arg, enum config_id id, const char **why)
{
    (void)id;
    *why = "Unable to update TLS configuration. Check server logs.";
    return load(arg, 0);
}

/* ---- life ---- */

enum err tls_init(void)
{
    return CRYPTO_secure_malloc_init(SECURE_HEAP_BYTES, SECURE_HEAP_MIN) ? ERR_OK : ERR_OOM;
}

enum err tls_new(struct tls **out, struct config *c)
{
    *out = NULL;
    struct tls *t = mem_zalloc(sizeof *t);
    if (!t)
        return ERR_OOM;
    pthread_mutex_init(&t->lock, NULL);
    t->config = c;
    enum err e = load(t, 1);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && !e; i++)
        e = config_on_change(c, rows[i], on_change, t);
    if (e)
        tls_free(t);
    else
        *out = t;
    return e;
}

void tls_free(struct tls *t)
{
    if (!t)
        return;
    SSL_CTX_free(t->server);
    SSL_CTX_free(t->client);
    pthread_mutex_destroy(&t->lock);
    mem_free(t);
}

int64_t tls_expires(struct tls *t)
{
    pthread_mutex_lock(&t->lock);
    int64_t at = t->expires;
    pthread_mutex_unlock(&t->lock);
    return at;
}
