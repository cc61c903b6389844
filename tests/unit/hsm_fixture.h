/* hsm_fixture.h - two HSMs for tests: a SoftHSM2 token and an NSS database, below a temporary directory, in one realm
 * or in two; and a worker's operations run in this process. */
#ifndef COFFER_TESTS_HSM_FIXTURE_H
#define COFFER_TESTS_HSM_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "hsm/alg.h"
#include "hsm/ceremony.h"
#include "hsm/ciphertext.h"
#include "hsm/masked.h"
#include "hsm/ops.h"
#include "hsm/provision.h"
#include "hsm/pubkey.h"

extern char **environ;

/* Modules leak; SoftHSM by design of its session store. Ours are looked for. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libsofthsm2.so\nleak:libsoftokn3.so\nleak:libnspr4.so\nleak:libnssutil3.so\nleak:libsqlite3.so\n"
           "leak:libfreeblpriv3.so\nleak:p11fault.so\n";
}

#define NSS_MODULE "/usr/lib/x86_64-linux-gnu/libsoftokn3.so"
#define NSS_PIN "nss-test-pin"

struct node {
    const char *kind;
    char dir[PATH_MAX], module[PATH_MAX], init[PATH_MAX + 128], token[64], pin[64];
    char realm_file[PATH_MAX], passphrase_file[PATH_MAX];
};

/* ---- directories and programs ---- */

static inline void make_temp_dir(char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%s/coffer-test.XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(out));
}

static inline int run_program(char *const argv[])
{
    posix_spawn_file_actions_t quiet;
    pid_t pid;
    int status = -1;

    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
    assert_int_equal(posix_spawnp(&pid, argv[0], &quiet, NULL, argv, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    posix_spawn_file_actions_destroy(&quiet);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline void remove_tree(const char *dir)
{
    char *argv[] = {(char *)"rm", (char *)"-rf", (char *)(uintptr_t)dir, NULL};

    assert_true(strstr(dir, "coffer-test.") != NULL);
    assert_int_equal(run_program(argv), 0);
}

static inline void write_text(const char *path, const char *text)
{
    assert_int_equal(file_write_atomic(path, bytes_str(text), 0600), ERR_OK);
}

static inline void read_text(const char *path, char *out, size_t n)
{
    struct buf b;

    buf_init(&b, n);
    assert_int_equal(file_read_all(path, &b, n - 1), ERR_OK);
    memcpy(out, buf_data(&b), buf_size(&b));
    out[buf_size(&b)] = '\0';
    buf_fini(&b);
}

/* ---- nodes ---- */

/* A SoftHSM token below dir/name; joins the realm of another node, or makes one when realm_of is NULL. */
static inline void node_softhsm(struct node *n, const char *dir, const char *name, const struct node *realm_of)
{
    struct provision p = {.dir = n->dir};
    char path[PATH_MAX + 16], why[256] = "";

    memset(n, 0, sizeof *n);
    n->kind = "SoftHSM2";
    snprintf(n->dir, sizeof n->dir, "%.4000s/%.60s", dir, name);
    if (realm_of) {
        p.realm_file = realm_of->realm_file;
        p.passphrase_file = realm_of->passphrase_file;
    }
    if (provision(&p, why, sizeof why) != ERR_OK)
        fail_msg("provision: %s", why);
    snprintf(n->module, sizeof n->module, "%s", provision_find_module());
    snprintf(n->token, sizeof n->token, "%s", PROVISION_TOKEN);
    snprintf(n->realm_file, sizeof n->realm_file, "%.4000s/realm", n->dir);
    snprintf(n->passphrase_file, sizeof n->passphrase_file, "%.4000s/realm-passphrase", n->dir);
    snprintf(path, sizeof path, "%s/pin", n->dir);
    read_text(path, n->pin, sizeof n->pin);
}

/* Points SOFTHSM2_CONF at the node. */
static inline void node_select(const struct node *n)
{
    char path[PATH_MAX + 16];

    snprintf(path, sizeof path, "%s/softhsm2.conf", n->dir);
    setenv("SOFTHSM2_CONF", path, 1);
}

static inline void unseal_realm(const struct node *n, struct realm *r)
{
    struct buf file, pass;

    buf_init(&file, REALM_FILE_BYTES);
    buf_init_secret(&pass, 256);
    assert_int_equal(file_read_all(n->realm_file, &file, REALM_FILE_BYTES), ERR_OK);
    assert_int_equal(secret_file_read(n->passphrase_file, &pass), ERR_OK);
    assert_int_equal(realm_unseal(buf_bytes(&file), buf_bytes(&pass), r), ERR_OK);
    buf_fini(&file);
    buf_fini(&pass);
}

/* An NSS database below dir/name, in the realm of another node. */
static inline void node_nss(struct node *n, const char *dir, const char *name, const struct node *realm_of)
{
    char sql[PATH_MAX + 8], pwfile[PATH_MAX + 8], why[256] = "";
    char *argv[] = {(char *)"certutil", (char *)"-N", (char *)"-d", sql, (char *)"-f", pwfile, NULL};
    struct realm *r = mem_secret_alloc(sizeof *r);
    struct ceremony c = {.module = n->module, .init = n->init};

    memset(n, 0, sizeof *n);
    n->kind = "NSS softokn";
    snprintf(n->dir, sizeof n->dir, "%.4000s/%.60s", dir, name);
    assert_int_equal(mkdir(n->dir, 0700), 0);
    snprintf(sql, sizeof sql, "sql:%.4000s", n->dir);
    snprintf(pwfile, sizeof pwfile, "%.4000s/pw", n->dir);
    write_text(pwfile, NSS_PIN "\n");
    assert_int_equal(run_program(argv), 0);
    snprintf(n->module, sizeof n->module, "%s", NSS_MODULE);
    snprintf(n->init, sizeof n->init,
             "configdir='sql:%.4000s' certPrefix='' keyPrefix='' secmod='secmod.db' flags=", n->dir);
    snprintf(n->token, sizeof n->token, "NSS Certificate DB");
    snprintf(n->pin, sizeof n->pin, "%s", NSS_PIN);
    unseal_realm(realm_of, r);
    c.token = bytes_str(n->token);
    c.pin = bytes_str(n->pin);
    if (ceremony_join(&c, r, why, sizeof why) != ERR_OK)
        fail_msg("join: %s", why);
    mem_secret_free(r, sizeof *r);
}

/* ---- a worker's operations in this process ---- */

struct rig {
    struct ops ops;
    struct answer a;
    struct bytes out[HSM_PARTS_MAX]; /* of the last answer */
    enum err result;
};

static inline enum err rig_run(struct rig *r, enum hsm_op op, unsigned n, const struct bytes *part)
{
    r->result = ops_run(&r->ops, op, part, n, &r->a);
    memset(r->out, 0, sizeof r->out);
    answer_parts(&r->a, r->out);
    if (r->result == ERR_OK)
        assert_int_equal(r->a.parts, hsm_ops[op < HSM_OPS ? op : 0].parts_out);
    else
        assert_true(r->a.parts == 0 && r->a.text[0]);
    return r->result;
}

#define RUN(r, op, ...)                                                                      \
    rig_run(r, op, (unsigned)(sizeof((struct bytes[]){__VA_ARGS__}) / sizeof(struct bytes)), \
            (struct bytes[]){__VA_ARGS__})

static inline void rig_init(struct rig *r)
{
    memset(r, 0, sizeof *r);
    ops_init(&r->ops);
    answer_init(&r->a);
}

static inline void rig_fini(struct rig *r)
{
    ops_fini(&r->ops);
    answer_fini(&r->a);
}

static inline enum err rig_start_with(struct rig *r, const struct node *n, const char *module, const char *token,
                                      const char *pin, const char *hsm_only, const char *key_cache)
{
    struct buf s;
    enum err e;

    rig_init(r);
    if (!n->init[0])
        node_select(n);
    buf_init_secret(&s, 65536);
    assert_int_equal(proto_put_setting(&s, "module", bytes_str(module)), ERR_OK);
    assert_int_equal(proto_put_setting(&s, "init", bytes_str(n->init)), ERR_OK);
    assert_int_equal(proto_put_setting(&s, "token", bytes_str(token)), ERR_OK);
    assert_int_equal(proto_put_setting(&s, "pin", bytes_str(pin)), ERR_OK);
    assert_int_equal(proto_put_setting(&s, "hsm-only", bytes_str(hsm_only)), ERR_OK);
    assert_int_equal(proto_put_setting(&s, "key-cache", bytes_str(key_cache)), ERR_OK);
    e = RUN(r, HSM_START, buf_bytes(&s));
    buf_fini(&s);
    return e;
}

static inline void rig_start(struct rig *r, const struct node *n)
{
    if (rig_start_with(r, n, n->module, n->token, n->pin, "no", "64") != ERR_OK)
        fail_msg("START on %s: %s", n->kind, r->a.text);
}

/* Text of an answer's part contains this. */
static inline int has_text(struct bytes b, const char *text)
{
    return b.n && memmem(b.p, b.n, text, strlen(text)) != NULL;
}

/* ---- things that tests keep ---- */

struct blob {
    uint8_t mem[MASKED_MAX];
    size_t n;
};

static inline struct bytes blob_bytes(const struct blob *b)
{
    return bytes_of(b->mem, b->n);
}

static inline void blob_keep(struct blob *b, struct bytes from)
{
    assert_true(from.n <= sizeof b->mem);
    memcpy(b->mem, from.p, from.n);
    b->n = from.n;
}

static inline void key_head(uint8_t out[MASKED_KEY_HEADER], uint8_t alg, uint64_t vault, uint8_t id, uint32_t version)
{
    struct masked_head h = {.alg = alg, .vault = vault, .version = version};

    memset(h.id, id, sizeof h.id);
    masked_put_head(out, &h);
}

static inline void request_head(uint8_t out[CIPHERTEXT_HEADER], uint8_t id, uint32_t version)
{
    uint8_t full[KEY_ID_BYTES];

    memset(full, id, sizeof full);
    ciphertext_put_header(out, CIPHER_ANY, full, version);
}

static inline void new_partition(struct rig *r, uint8_t id, struct blob *config)
{
    uint8_t full[PARTITION_ID_BYTES];

    memset(full, id, sizeof full);
    if (RUN(r, HSM_PARTITION_NEW, bytes_of(full, sizeof full)) != ERR_OK)
        fail_msg("PARTITION_NEW: %s", r->a.text);
    blob_keep(config, r->out[0]);
}

static inline void new_key(struct rig *r, const struct blob *config, uint8_t alg, uint8_t id, uint32_t version,
                           struct blob *masked, struct blob *der)
{
    uint8_t head[MASKED_KEY_HEADER];
    enum hsm_op op = alg_by_code(alg)->slow ? HSM_KEY_NEW_SLOW : HSM_KEY_NEW;

    key_head(head, alg, 7, id, version);
    if (RUN(r, op, blob_bytes(config), bytes_of(head, sizeof head)) != ERR_OK)
        fail_msg("KEY_NEW %s: %s", alg_by_code(alg)->name, r->a.text);
    blob_keep(masked, r->out[0]);
    if (der)
        blob_keep(der, r->out[1]);
}

#endif
