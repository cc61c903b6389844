/* provision.c - making the embedded default, and leaving alone what is there; provision.h says when which.
 *
 * Order of a fresh start, each step durable before the next: directory, mark "unfinished", configuration, PINs,
 * passphrase, token, realm keys in the token, realm file, mark removed. A crash anywhere before the realm file leaves
 * the mark, and the next call removes the tokens and starts over: no partition can exist in them, because a server
 * starts only after this returned. A crash between realm file and removal of the mark leaves a complete setup.
 *
 * Rejected: asking softhsm2-util (PINs in argv); one file for all secrets (the token's PIN goes to workers, the
 * passphrase does not).
 */
#include "hsm/provision.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "hsm/ceremony.h"

#define SECRET_BYTES 16 /* of randomness in PINs and the passphrase; twice as many hex digits */
#define SECRET_MAX 256

static const char *const modules[] = {
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
};

/* Only what Coffer uses. */
static const char mechanisms[] =
    "CKM_AES_KEY_GEN,CKM_GENERIC_SECRET_KEY_GEN,CKM_SHA256_HMAC,CKM_AES_GCM,CKM_AES_KEY_WRAP_PAD,CKM_AES_CBC_ENCRYPT_"
    "DATA,"
    "CKM_RSA_PKCS_KEY_PAIR_GEN,CKM_RSA_PKCS,CKM_RSA_PKCS_PSS,CKM_RSA_PKCS_OAEP,CKM_EC_KEY_PAIR_GEN,CKM_ECDSA";

enum file { F_CONF, F_TOKENS, F_PIN, F_SO_PIN, F_REALM, F_PASSPHRASE, F_MARK, FILES };

static const char *const names[FILES] = {"softhsm2.conf", "tokens",           "pin",       "so-pin",
                                         "realm",         "realm-passphrase", "unfinished"};

struct setup {
    char dir[PATH_MAX], path[FILES][PATH_MAX + 32];
    const char *module;
    struct buf pin, so_pin, passphrase;
    struct realm *realm;
    uint8_t realm_file[REALM_FILE_BYTES];
    char *why;
    size_t why_n;
};

const char *provision_find_module(void)
{
    for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++) {
        if (access(modules[i], R_OK) == 0)
            return modules[i];
    }
    return NULL;
}

static enum err explain(struct setup *s, enum err e, const char *what)
{
    if (e != ERR_OK)
        snprintf(s->why, s->why_n, "%s: %s", what,
                 e == ERR_IO || e == ERR_MISCONF ? strerror(file_errno()) : err_text(e));
    return e;
}

/* Of a file with a PIN or a passphrase. */
static enum err explain_secret(struct setup *s, enum err e, const char *path)
{
    const char *text = e == ERR_NOPERM     ? "may be read by others, or is somebody else's: chmod 0600"
                       : e == ERR_NOTFOUND ? "is missing: put it back from its copy"
                       : e == ERR_RANGE    ? "is empty: put it back from its copy"
                                           : NULL;

    if (!text)
        return explain(s, e, path);
    snprintf(s->why, s->why_n, "%s %s", path, text);
    return e;
}

static int exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* ---- secrets in files ---- */

enum err secret_file_read(const char *path, struct buf *out)
{
    struct stat st;
    size_t before = buf_size(out), n;
    enum err e;

    if (stat(path, &st) != 0)
        return ERR_NOTFOUND;
    if (!S_ISREG(st.st_mode) || (st.st_mode & 077) || (st.st_uid != geteuid() && st.st_uid != 0))
        return ERR_NOPERM;
    e = file_read_all(path, out, SECRET_MAX);
    if (e != ERR_OK)
        return e;
    n = buf_size(out);
    while (n > before && (buf_data(out)[n - 1] == '\n' || buf_data(out)[n - 1] == '\r'))
        n--;
    buf_truncate(out, n);
    return n == before ? ERR_RANGE : ERR_OK;
}

/* The secret of a file that is made when it is not there. */
static enum err secret_in(struct setup *s, enum file f, struct buf *out)
{
    uint8_t *hex;
    enum err e;

    if (exists(s->path[f]))
        return explain_secret(s, secret_file_read(s->path[f], out), s->path[f]);
    e = buf_reserve(out, SECRET_BYTES * 2 + 1, &hex);
    if (e == ERR_OK)
        e = clock_random_hex((char *)hex, SECRET_BYTES);
    if (e == ERR_OK) {
        buf_added(out, SECRET_BYTES * 2);
        e = file_write_atomic(s->path[f], buf_bytes(out), 0600);
    }
    return explain(s, e, s->path[f]);
}

/* ---- the parts ---- */

static enum err init_setup(struct setup *s, const struct provision *p)
{
    enum err e = file_mkdir(p->dir, 0700);

    if (e != ERR_OK)
        return explain(s, e, p->dir);
    if (chmod(p->dir, 0700) != 0 || !realpath(p->dir, s->dir)) {
        snprintf(s->why, s->why_n, "%s: not a directory of ours", p->dir);
        return ERR_IO;
    }
    for (unsigned f = 0; f < FILES; f++)
        snprintf(s->path[f], sizeof s->path[f], "%s/%s", s->dir, names[f]);
    s->module = p->module ? p->module : provision_find_module();
    if (!s->module) {
        snprintf(s->why, s->why_n, "SoftHSM2 is not installed (package softhsm2), or set hsm-module");
        return ERR_NOTFOUND;
    }
    s->realm = mem_secret_alloc(sizeof *s->realm);
    return s->realm ? ERR_OK : explain(s, ERR_OOM, "provision");
}

/* The configuration has the token directory's absolute path, so it is written again when the directory has moved. */
static enum err write_conf(struct setup *s)
{
    struct buf want, have;
    enum err e;

    buf_init(&want, 8192);
    buf_init(&have, 8192);
    e = buf_putf(&want,
                 "# Written by coffer-hsm provision.\ndirectories.tokendir = %s\nobjectstore.backend = file\nlog.level "
                 "= ERROR\nslots.removable = false\nslots.mechanisms = %s\n"
                 "library.reset_on_fork = true\n",
                 s->path[F_TOKENS], mechanisms);
    if (e == ERR_OK &&
        (file_read_all(s->path[F_CONF], &have, 8192) != ERR_OK || !bytes_equal(buf_bytes(&want), buf_bytes(&have))))
        e = file_write_atomic(s->path[F_CONF], buf_bytes(&want), 0600);
    if (e == ERR_OK)
        e = file_mkdir(s->path[F_TOKENS], 0700);
    if (e == ERR_OK && setenv("SOFTHSM2_CONF", s->path[F_CONF], 1) != 0)
        e = ERR_OOM;
    buf_fini(&want);
    buf_fini(&have);
    return explain(s, e, s->path[F_CONF]);
}

static struct ceremony ceremony_of(const struct setup *s)
{
    return (struct ceremony){.module = s->module,
                             .token = bytes_str(PROVISION_TOKEN),
                             .pin = buf_bytes(&s->pin),
                             .so_pin = buf_bytes(&s->so_pin)};
}

static enum err read_realm_file(struct setup *s, const char *path)
{
    struct buf b;
    enum err e;

    buf_init(&b, REALM_FILE_BYTES + 1);
    e = file_read_all(path, &b, REALM_FILE_BYTES);
    if (e == ERR_OK && buf_size(&b) != REALM_FILE_BYTES)
        e = ERR_CORRUPT;
    if (e == ERR_OK)
        memcpy(s->realm_file, buf_data(&b), REALM_FILE_BYTES);
    buf_fini(&b);
    return explain(s, e, path);
}

/* Number of entries in the token directory. */
static enum err count_tokens(struct setup *s, size_t *n)
{
    char **list = NULL;
    enum err e = file_list(s->path[F_TOKENS], &list, n);

    file_free_names(list, *n);
    if (e == ERR_NOTFOUND) {
        *n = 0;
        e = ERR_OK;
    }
    return explain(s, e, s->path[F_TOKENS]);
}

/* Removes the files of a token that was never finished: directories of files, nothing deeper. */
static enum err remove_token(const char *dir)
{
    char **list = NULL, path[PATH_MAX];
    size_t n = 0;
    enum err e = file_list(dir, &list, &n);

    for (size_t i = 0; e == ERR_OK && i < n; i++) {
        if (snprintf(path, sizeof path, "%s/%s", dir, list[i]) < (int)sizeof path)
            e = file_unlink(path);
    }
    file_free_names(list, n);
    return e == ERR_OK && rmdir(dir) != 0 ? ERR_IO : e;
}

static enum err remove_tokens(struct setup *s)
{
    char **list = NULL, path[PATH_MAX];
    size_t n = 0;
    enum err e = file_list(s->path[F_TOKENS], &list, &n);

    for (size_t i = 0; e == ERR_OK && i < n; i++) {
        if (snprintf(path, sizeof path, "%s/%s", s->path[F_TOKENS], list[i]) < (int)sizeof path)
            e = remove_token(path);
    }
    file_free_names(list, n);
    return explain(s, e == ERR_NOTFOUND ? ERR_OK : e, s->path[F_TOKENS]);
}

/* ---- the cases ---- */

static enum err remove_mark(struct setup *s)
{
    enum err e = file_unlink(s->path[F_MARK]);

    if (e == ERR_OK)
        e = file_sync_dir(s->dir);
    return explain(s, e == ERR_NOTFOUND ? ERR_OK : e, s->path[F_MARK]);
}

static enum err make_token_and_join(struct setup *s)
{
    struct ceremony c = ceremony_of(s);
    enum err e = ceremony_make_token(s->module, PROVISION_TOKEN, c.so_pin, c.pin, s->why, s->why_n);

    return e == ERR_OK ? ceremony_join(&c, s->realm, s->why, s->why_n) : e;
}

/* Everything is there: is it valid? */
static enum err check_existing(struct setup *s)
{
    static const char no_token[] = "0 tokens ";
    struct realm_info info;
    struct ceremony c;
    enum err e = read_realm_file(s, s->path[F_REALM]);

    if (e == ERR_OK)
        e = explain(s, realm_parse(bytes_of(s->realm_file, REALM_FILE_BYTES), &info), s->path[F_REALM]);
    if (e == ERR_OK)
        e = write_conf(s);
    if (e == ERR_OK)
        e = explain_secret(s, secret_file_read(s->path[F_PIN], &s->pin), s->path[F_PIN]);
    if (e != ERR_OK)
        return e;
    c = ceremony_of(s);
    e = ceremony_check(&c, info.id, s->why, s->why_n);
    if (strncmp(s->why, no_token, strlen(no_token)) == 0)
        snprintf(s->why, s->why_n,
                 "the token in %s is gone: put it back from its copy, or make it again from the realm file: coffer-hsm "
                 "provision %s --rejoin",
                 s->path[F_TOKENS], s->dir);
    return e == ERR_OK ? remove_mark(s) : e;
}

/* The token is lost, the realm file is there, and the operator says so. */
static enum err rejoin(struct setup *s)
{
    size_t tokens;
    enum err e = count_tokens(s, &tokens);

    if (e == ERR_OK && tokens) {
        snprintf(s->why, s->why_n, "%s is not empty: move away what is in it first", s->path[F_TOKENS]);
        return ERR_CONFLICT;
    }
    if (e == ERR_OK)
        e = write_conf(s);
    if (e == ERR_OK)
        e = secret_in(s, F_PIN, &s->pin);
    if (e == ERR_OK)
        e = secret_in(s, F_SO_PIN, &s->so_pin);
    if (e == ERR_OK)
        e = explain_secret(s, secret_file_read(s->path[F_PASSPHRASE], &s->passphrase), s->path[F_PASSPHRASE]);
    if (e == ERR_OK)
        e = read_realm_file(s, s->path[F_REALM]);
    if (e == ERR_OK)
        e = explain(s, realm_unseal(bytes_of(s->realm_file, REALM_FILE_BYTES), buf_bytes(&s->passphrase), s->realm),
                    s->path[F_REALM]);
    return e == ERR_OK ? make_token_and_join(s) : e;
}

/* A new realm, or the one of the file that was given. Its passphrase is written beside it either way. */
static enum err get_realm(struct setup *s, const struct provision *p)
{
    enum err e;

    if (!p->realm_file) {
        e = secret_in(s, F_PASSPHRASE, &s->passphrase);
        if (e == ERR_OK)
            e = explain(s, realm_generate(s->realm), "new realm");
        return e == ERR_OK
                   ? explain(s, realm_seal(s->realm, buf_bytes(&s->passphrase), REALM_COST, s->realm_file), "new realm")
                   : e;
    }
    e = explain_secret(s, secret_file_read(p->passphrase_file, &s->passphrase), p->passphrase_file);
    if (e == ERR_OK)
        e = read_realm_file(s, p->realm_file);
    if (e == ERR_OK)
        e = explain(s, realm_unseal(bytes_of(s->realm_file, REALM_FILE_BYTES), buf_bytes(&s->passphrase), s->realm),
                    p->realm_file);
    if (e == ERR_OK)
        e = explain(s, file_write_atomic(s->path[F_PASSPHRASE], buf_bytes(&s->passphrase), 0600),
                    s->path[F_PASSPHRASE]);
    return e;
}

static enum err make_all(struct setup *s, const struct provision *p)
{
    enum err e =
        explain(s, file_write_atomic(s->path[F_MARK], bytes_str("coffer-hsm provision did not finish\n"), 0600),
                s->path[F_MARK]);

    if (e == ERR_OK)
        e = remove_tokens(s);
    if (e == ERR_OK)
        e = write_conf(s);
    if (e == ERR_OK)
        e = secret_in(s, F_PIN, &s->pin);
    if (e == ERR_OK)
        e = secret_in(s, F_SO_PIN, &s->so_pin);
    if (e == ERR_OK)
        e = get_realm(s, p);
    if (e == ERR_OK)
        e = make_token_and_join(s);
    if (e == ERR_OK)
        e = explain(s, file_write_atomic(s->path[F_REALM], bytes_of(s->realm_file, REALM_FILE_BYTES), 0600),
                    s->path[F_REALM]);
    return e == ERR_OK ? remove_mark(s) : e;
}

static enum err run(struct setup *s, const struct provision *p)
{
    size_t tokens = 0;
    enum err e = init_setup(s, p);

    if (e != ERR_OK)
        return e;
    if (exists(s->path[F_REALM]) && p->rejoin)
        return rejoin(s);
    if (exists(s->path[F_REALM]))
        return check_existing(s);
    e = count_tokens(s, &tokens);
    if (e == ERR_OK && tokens && !exists(s->path[F_MARK])) {
        snprintf(s->why, s->why_n, "%s holds tokens but the realm file is gone: put %s back from its copy",
                 s->path[F_TOKENS], s->path[F_REALM]);
        return ERR_CONFLICT;
    }
    return e == ERR_OK ? make_all(s, p) : e;
}

enum err provision(const struct provision *p, char *why, size_t n)
{
    struct setup *s = mem_zalloc(sizeof *s);
    enum err e;

    snprintf(why, n, "%s", "");
    if (!s)
        return ERR_OOM;
    s->why = why;
    s->why_n = n;
    buf_init_secret(&s->pin, SECRET_MAX);
    buf_init_secret(&s->so_pin, SECRET_MAX);
    buf_init_secret(&s->passphrase, SECRET_MAX);
    e = run(s, p);
    buf_fini(&s->pin);
    buf_fini(&s->so_pin);
    buf_fini(&s->passphrase);
    mem_secret_free(s->realm, sizeof *s->realm);
    mem_free(s);
    return e;
}
