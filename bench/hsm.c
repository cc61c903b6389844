/* hsm.c - the PKCS#11 module with nothing around it: what KEY.ENCRYPT and its kin are compared with.
 *
 *     hsm WHAT TOKENDIR PROCESSES SECONDS
 *
 * TOKENDIR was made by `coffer-hsm provision`: the same kind of token as a server's. Each process loads the module,
 * logs in, makes session keys and calls in a loop; all begin together. Prints "operations-a-second
 * cpu-us-an-operation".
 *
 *     encrypt         C_EncryptInit, C_Encrypt: AES-256-GCM of 1 KiB, the nonce a counter
 *     encrypt-random  the same; nonces from C_GenerateRandom, 85 at a call as the worker draws them
 *     encrypt-call    the same; C_GenerateRandom of 12 bytes for each
 *     cold            a masked key that is not in a cache: C_Sign (HMAC), C_UnwrapKey, encrypt-random, C_DestroyObject
 *     create          C_GenerateKey, C_WrapKey, C_Sign (HMAC), C_DestroyObject
 *
 * Processes are forked before the module is loaded, since a login does not survive a fork, and log in one after the
 * other: SoftHSM writes the token's file at each login, and a process that reads it meanwhile finds no token.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "hsm/crypt.h"
#include "hsm/provision.h"

#define PLAIN_BYTES 1024
#define MASKED_BYTES 80 /* header and wrapped key of an AES key: what its HMAC is over */
#define PROCESSES_MAX 64
#define CALLS_A_LOOK 64 /* at the clock */

struct bare {
    struct token t;
    CK_OBJECT_HANDLE key, mask, hmac, extractable;
    uint8_t wrapped[64], plain[PLAIN_BYTES], out[PLAIN_BYTES + 64], nonce[12];
    size_t wrapped_n;
    uint64_t counter;
};

static void die(const char *what, const char *more)
{
    fprintf(stderr, "hsm: %s%s%s\n", what, more[0] ? ": " : "", more);
    exit(1);
}

static void must(struct bare *b, enum err e, const char *what)
{
    char call[96];
    if (e == ERR_OK)
        return;
    p11_describe(&b->t.m, call, sizeof call);
    die(what, call[0] ? call : err_text(e));
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- what is measured ---- */

static void encrypt_with(struct bare *b, CK_OBJECT_HANDLE key)
{
    CK_FUNCTION_LIST *fn = b->t.m.fn;
    CK_GCM_PARAMS gcm = {.pIv = b->nonce, .ulIvLen = 12, .ulIvBits = 96, .ulTagBits = 128};
    CK_MECHANISM mech = {CKM_AES_GCM, &gcm, sizeof gcm};
    CK_ULONG n = sizeof b->out;

    if (fn->C_EncryptInit(b->t.session, &mech, key) != CKR_OK ||
        fn->C_Encrypt(b->t.session, b->plain, sizeof b->plain, b->out, &n) != CKR_OK)
        die("C_Encrypt failed", "");
}

static void encrypt(struct bare *b)
{
    put_le64(b->nonce, ++b->counter);
    encrypt_with(b, b->key);
}

static void encrypt_random(struct bare *b)
{
    must(b, crypt_nonce(&b->t, b->nonce), "nonce");
    encrypt_with(b, b->key);
}

static void encrypt_call(struct bare *b)
{
    must(b, crypt_random(&b->t, b->nonce, sizeof b->nonce), "nonce");
    encrypt_with(b, b->key);
}

static void cold(struct bare *b)
{
    static const CK_ATTRIBUTE_TYPE uses[] = {CKA_ENCRYPT, CKA_DECRYPT, 0};
    struct p11_template tpl;
    CK_OBJECT_HANDLE key;
    uint8_t mac[32];

    must(b, crypt_hmac(&b->t, b->hmac, bytes_of(b->plain, MASKED_BYTES), mac), "HMAC");
    crypt_template(&tpl, CKO_SECRET_KEY, CKK_AES, 0, 0, uses);
    must(b, crypt_unwrap(&b->t, b->mask, bytes_of(b->wrapped, b->wrapped_n), &tpl, 1, &key), "unwrap");
    must(b, crypt_nonce(&b->t, b->nonce), "nonce");
    encrypt_with(b, key);
    crypt_destroy(&b->t, key);
}

static CK_OBJECT_HANDLE make_key(struct bare *b, CK_KEY_TYPE type, int extractable, const CK_ATTRIBUTE_TYPE *uses)
{
    struct p11_template tpl;
    CK_OBJECT_HANDLE key;

    crypt_template(&tpl, CKO_SECRET_KEY, type, 0, extractable, uses);
    must(b, crypt_generate(&b->t, type == CKK_AES ? CKM_AES_KEY_GEN : CKM_GENERIC_SECRET_KEY_GEN, &tpl, &key),
         "key generation");
    return key;
}

static void create(struct bare *b)
{
    static const CK_ATTRIBUTE_TYPE uses[] = {CKA_ENCRYPT, CKA_DECRYPT, 0};
    CK_OBJECT_HANDLE key = make_key(b, CKK_AES, 1, uses);
    uint8_t mac[32];

    must(b, crypt_wrap(&b->t, b->mask, key, b->wrapped, sizeof b->wrapped, &b->wrapped_n), "wrap");
    crypt_destroy(&b->t, key);
    must(b, crypt_hmac(&b->t, b->hmac, bytes_of(b->plain, MASKED_BYTES), mac), "HMAC");
}

static const struct {
    const char *name;
    void (*run)(struct bare *b);
} whats[] = {
    {"encrypt", encrypt}, {"encrypt-random", encrypt_random}, {"encrypt-call", encrypt_call}, {"cold", cold},
    {"create", create},
};

/* ---- one process ---- */

static void open_token(struct bare *b, const char *dir)
{
    char path[4096], why[256] = "";
    struct buf pin;
    struct token_settings s = {.module = provision_find_module(), .name = bytes_str(PROVISION_TOKEN)};

    if (!s.module)
        die("no SoftHSM2 module", "");
    snprintf(path, sizeof path, "%s/softhsm2.conf", dir);
    setenv("SOFTHSM2_CONF", path, 1);
    snprintf(path, sizeof path, "%s/pin", dir);
    buf_init_secret(&pin, 4096);
    if (secret_file_read(path, &pin))
        die("no PIN", path);
    s.pin = buf_bytes(&pin);
    token_init(&b->t);
    enum err e = token_connect(&b->t, &s, why, sizeof why);
    if (!e)
        e = token_login(&b->t, why, sizeof why);
    if (!e)
        e = quirk_probe_module(&b->t, why, sizeof why);
    buf_fini(&pin);
    if (e)
        die("token", why);
}

static void make_keys(struct bare *b)
{
    static const CK_ATTRIBUTE_TYPE crypt[] = {CKA_ENCRYPT, CKA_DECRYPT, 0}, wrap[] = {CKA_WRAP, CKA_UNWRAP, 0};
    static const CK_ATTRIBUTE_TYPE sign[] = {CKA_SIGN, 0};

    b->key = make_key(b, CKK_AES, 0, crypt);
    b->mask = make_key(b, CKK_AES, 0, wrap);
    b->hmac = make_key(b, CKK_GENERIC_SECRET, 0, sign);
    b->extractable = make_key(b, CKK_AES, 1, crypt);
    must(b, crypt_wrap(&b->t, b->mask, b->extractable, b->wrapped, sizeof b->wrapped, &b->wrapped_n), "wrap");
    must(b, crypt_random(&b->t, b->plain, sizeof b->plain), "randomness");
}

struct result {
    double rate, cpu_us;
};

static double cpu_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static struct result measure(struct bare *b, void (*run)(struct bare *b), double seconds)
{
    double start = now_s(), end = start, cpu = cpu_s();
    uint64_t n = 0;

    while (end - start < seconds) {
        for (unsigned i = 0; i < CALLS_A_LOOK; i++)
            run(b);
        n += CALLS_A_LOOK;
        end = now_s();
    }
    return (struct result){(double)n / (end - start), (cpu_s() - cpu) * 1e6 / (double)n};
}

/* Says that it is ready, waits until the parent has closed go, measures, tells. */
static void child(const char *dir, void (*run)(struct bare *b), double seconds, int ready, int go, int out)
{
    struct bare *b = mem_secret_alloc(sizeof *b);
    struct result r;
    char c = 0;

    if (!b)
        die("out of memory", "");
    memset(b, 0, sizeof *b);
    open_token(b, dir);
    make_keys(b);
    run(b);
    if (write(ready, &c, 1) != 1 || read(go, &c, 1) != 0)
        die("pipe", strerror(errno));
    r = measure(b, run, seconds);
    if (write(out, &r, sizeof r) != sizeof r)
        die("pipe", strerror(errno));
    token_close(&b->t);
    mem_secret_free(b, sizeof *b);
    exit(0);
}

static void start(const char *dir, void (*run)(struct bare *b), double seconds, const int go[2], int out)
{
    int ready[2];
    char c;

    if (pipe(ready) != 0)
        die("pipe", strerror(errno));
    pid_t pid = fork();
    if (pid < 0)
        die("fork", strerror(errno));
    if (pid == 0) {
        close(go[1]);
        child(dir, run, seconds, ready[1], go[0], out);
    }
    close(ready[1]);
    if (read(ready[0], &c, 1) != 1)
        die("a process failed", "");
    close(ready[0]);
}

int main(int argc, char **argv)
{
    int go[2], out[2];
    unsigned processes = argc == 5 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    double seconds = argc == 5 ? strtod(argv[4], NULL) : 0;
    struct result sum = {0, 0}, r;
    void (*run)(struct bare * b) = NULL;

    for (size_t i = 0; argc == 5 && i < sizeof whats / sizeof whats[0]; i++)
        run = strcmp(argv[1], whats[i].name) == 0 ? whats[i].run : run;
    if (!run || !processes || processes > PROCESSES_MAX || seconds <= 0)
        die("usage: hsm encrypt|encrypt-random|encrypt-call|cold|create TOKENDIR PROCESSES SECONDS", "");
    if (pipe(go) != 0 || pipe(out) != 0)
        die("pipe", strerror(errno));
    for (unsigned i = 0; i < processes; i++)
        start(argv[2], run, seconds, go, out[1]);
    close(out[1]);
    close(go[1]);
    for (unsigned i = 0; i < processes; i++) {
        if (read(out[0], &r, sizeof r) != sizeof r)
            die("a process failed", "");
        sum.rate += r.rate;
        sum.cpu_us += r.cpu_us / processes;
    }
    while (wait(NULL) > 0)
        ;
    printf("%.0f %.2f\n", sum.rate, sum.cpu_us);
    return 0;
}
