/* main_hsm.c - the program coffer-hsm: the worker that the server starts, and the operator's ceremonies.
 *
 *     coffer-hsm worker FD
 *     coffer-hsm provision DIR [--module M] [--realm-file F --passphrase-file F] [--rejoin]
 *     coffer-hsm init-realm --module M --token T --pin-file F [--so-pin-file F]
 *                           --realm-file F --passphrase-file F
 *     coffer-hsm join-realm FILE --module M --token T --pin-file F [--so-pin-file F]
 *                                --passphrase-file F
 *     coffer-hsm info --module M --token T --pin-file F
 *
 * --init STRING goes to C_Initialize as pReserved, for modules that want one (NSS). PINs and passphrases come from
 * files that nobody else may read, never from argv or environment. Exit status: 0, 1 when it could not be done (the
 * reason is on standard error), 2 for wrong usage; a worker's are in worker.h.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "hsm/ceremony.h"
#include "hsm/ops.h"
#include "hsm/provision.h"
#include "hsm/worker.h"

#define PIN_MAX 256

enum option { O_MODULE, O_INIT, O_TOKEN, O_PIN, O_SO_PIN, O_REALM, O_PASSPHRASE, O_REJOIN, OPTIONS };

static const struct {
    const char *name;
    int value;
} option_rows[OPTIONS] = {
    [O_MODULE] = {"--module", 1},
    [O_INIT] = {"--init", 1},
    [O_TOKEN] = {"--token", 1},
    [O_PIN] = {"--pin-file", 1},
    [O_SO_PIN] = {"--so-pin-file", 1},
    [O_REALM] = {"--realm-file", 1},
    [O_PASSPHRASE] = {"--passphrase-file", 1},
    [O_REJOIN] = {"--rejoin", 0},
};

struct args {
    const char *positional; /* at most one */
    const char *value[OPTIONS];
};

struct command {
    const char *name;
    int positional;     /* wants one */
    unsigned must, may; /* bits of options */
    int (*run)(const struct args *a);
    const char *usage;
};

#define BIT(o) (1u << (o))

static int fail(const char *what, enum err e, const char *why)
{
    fprintf(stderr, "coffer-hsm: %s: %s\n", what, why[0] ? why : err_text(e));
    return 1;
}

/* ---- reading what the options name ---- */

struct inputs {
    struct buf pin, so_pin, passphrase;
    struct ceremony ceremony;
};

static enum err read_secret(const char *path, struct buf *b, char *why, size_t n)
{
    enum err e = path ? secret_file_read(path, b) : ERR_OK;

    if (e == ERR_NOPERM)
        snprintf(why, n, "%s: must be a file that only its owner can read", path);
    else if (e != ERR_OK)
        snprintf(why, n, "%s: %s", path, e == ERR_RANGE ? "empty" : err_text(e));
    return e;
}

static enum err read_inputs(struct inputs *in, const struct args *a, char *why, size_t n)
{
    enum err e;

    buf_init_secret(&in->pin, PIN_MAX);
    buf_init_secret(&in->so_pin, PIN_MAX);
    buf_init_secret(&in->passphrase, PIN_MAX);
    e = read_secret(a->value[O_PIN], &in->pin, why, n);
    if (e == ERR_OK)
        e = read_secret(a->value[O_SO_PIN], &in->so_pin, why, n);
    if (e == ERR_OK)
        e = read_secret(a->value[O_PASSPHRASE], &in->passphrase, why, n);
    in->ceremony = (struct ceremony){
        .module = a->value[O_MODULE], .init = a->value[O_INIT], .token = bytes_str(a->value[O_TOKEN])};
    in->ceremony.pin = buf_bytes(&in->pin);
    in->ceremony.so_pin = buf_bytes(&in->so_pin);
    return e;
}

static void free_inputs(struct inputs *in)
{
    buf_fini(&in->pin);
    buf_fini(&in->so_pin);
    buf_fini(&in->passphrase);
}

static void print_id(const char *what, const uint8_t id[REALM_ID_BYTES])
{
    printf("%s", what);
    for (unsigned i = 0; i < REALM_ID_BYTES; i++)
        printf("%02x", id[i]); /* lint: allow printf because a realm id is public */
    printf("\n");
}

/* ---- commands ---- */

static int run_worker(const struct args *a)
{
    char *end;
    long fd = strtol(a->positional, &end, 10);

    return *end || fd < 3 || fd > 1 << 20 ? WORKER_EXIT_USAGE : worker_main((int)fd);
}

static int run_provision(const struct args *a)
{
    struct provision p = {.dir = a->positional,
                          .module = a->value[O_MODULE],
                          .realm_file = a->value[O_REALM],
                          .passphrase_file = a->value[O_PASSPHRASE],
                          .rejoin = a->value[O_REJOIN] != NULL};
    char why[256];
    enum err e;

    if (!p.realm_file != !p.passphrase_file)
        return fail("provision", ERR_SYNTAX, "--realm-file and --passphrase-file go together");
    e = provision(&p, why, sizeof why);
    if (e != ERR_OK)
        return fail("provision", e, why);
    printf("ready: %s\n", p.dir);
    return 0;
}

static enum err new_realm(struct inputs *in, const char *path, struct realm *r, char *why, size_t n)
{
    uint8_t file[REALM_FILE_BYTES];
    struct buf probe;
    enum err e;

    buf_init(&probe, REALM_FILE_BYTES);
    e = file_read_all(path, &probe, REALM_FILE_BYTES);
    buf_fini(&probe);
    if (e != ERR_NOTFOUND) {
        snprintf(why, n, "%s exists: join-realm puts an existing realm in a token", path);
        return ERR_CONFLICT;
    }
    e = realm_generate(r);
    if (e == ERR_OK)
        e = realm_seal(r, buf_bytes(&in->passphrase), REALM_COST, file);
    /* The file first: keys in a token that nobody else has would be lost with it. */
    return e == ERR_OK ? file_write_atomic(path, bytes_of(file, sizeof file), 0600) : e;
}

static int run_init_realm(const struct args *a)
{
    struct inputs in;
    struct realm *r = mem_secret_alloc(sizeof *r);
    char why[256] = "";
    enum err e = read_inputs(&in, a, why, sizeof why);

    if (e == ERR_OK)
        e = r ? new_realm(&in, a->value[O_REALM], r, why, sizeof why) : ERR_OOM;
    if (e == ERR_OK)
        e = ceremony_join(&in.ceremony, r, why, sizeof why);
    if (e == ERR_OK)
        print_id("realm:", r->id);
    mem_secret_free(r, sizeof *r);
    free_inputs(&in);
    return e == ERR_OK ? 0 : fail("init-realm", e, why);
}

static enum err open_realm(struct inputs *in, const char *path, struct realm *r, char *why, size_t n)
{
    struct buf b;
    enum err e;

    buf_init(&b, REALM_FILE_BYTES + 1);
    e = file_read_all(path, &b, REALM_FILE_BYTES);
    if (e == ERR_OK)
        e = realm_unseal(buf_bytes(&b), buf_bytes(&in->passphrase), r);
    if (e != ERR_OK)
        snprintf(why, n, "%s: %s", path,
                 e == ERR_WRONGPASS ? "wrong passphrase, or the file was changed" : err_text(e));
    buf_fini(&b);
    return e;
}

static int run_join_realm(const struct args *a)
{
    struct inputs in;
    struct realm *r = mem_secret_alloc(sizeof *r);
    char why[256] = "";
    enum err e = read_inputs(&in, a, why, sizeof why);

    if (e == ERR_OK)
        e = r ? open_realm(&in, a->positional, r, why, sizeof why) : ERR_OOM;
    if (e == ERR_OK)
        e = ceremony_join(&in.ceremony, r, why, sizeof why);
    if (e == ERR_OK)
        print_id("realm:", r->id);
    mem_secret_free(r, sizeof *r);
    free_inputs(&in);
    return e == ERR_OK ? 0 : fail("join-realm", e, why);
}

/* START, as a worker would, and its answer. */
static int run_info(const struct args *a)
{
    struct inputs in;
    struct ops ops;
    struct answer answer;
    struct buf settings;
    struct bytes part[HSM_PARTS_MAX];
    char why[256] = "";
    enum err e = read_inputs(&in, a, why, sizeof why);

    ops_init(&ops);
    answer_init(&answer);
    buf_init_secret(&settings, 65536);
    if (e == ERR_OK)
        e = proto_put_setting(&settings, "module", bytes_str(a->value[O_MODULE]));
    if (e == ERR_OK && a->value[O_INIT])
        e = proto_put_setting(&settings, "init", bytes_str(a->value[O_INIT]));
    if (e == ERR_OK)
        e = proto_put_setting(&settings, "token", bytes_str(a->value[O_TOKEN]));
    if (e == ERR_OK)
        e = proto_put_setting(&settings, "pin", buf_bytes(&in.pin));
    part[0] = buf_bytes(&settings);
    if (e == ERR_OK) {
        e = ops_run(&ops, HSM_START, part, 1, &answer);
        snprintf(why, sizeof why, "%s", answer.text);
    }
    if (e == ERR_OK) {
        answer_parts(&answer, part);
        /* lint: allow printf because START answers text without secrets */
        printf("%.*s", (int)part[0].n, (const char *)part[0].p);
    }
    buf_fini(&settings);
    answer_fini(&answer);
    ops_fini(&ops);
    free_inputs(&in);
    return e == ERR_OK ? 0 : fail("info", e, why);
}

#define TOKEN_OPTIONS (BIT(O_MODULE) | BIT(O_TOKEN) | BIT(O_PIN))

static const struct command commands[] = {
    {"worker", 1, 0, 0, run_worker, "FD"},
    {"provision", 1, 0, BIT(O_MODULE) | BIT(O_REALM) | BIT(O_PASSPHRASE) | BIT(O_REJOIN), run_provision,
     "DIR [--module M] [--realm-file F --passphrase-file F] [--rejoin]"},
    {"init-realm", 0, TOKEN_OPTIONS | BIT(O_REALM) | BIT(O_PASSPHRASE), BIT(O_SO_PIN) | BIT(O_INIT), run_init_realm,
     "--module M --token T --pin-file F [--so-pin-file F] [--init STRING] --realm-file F --passphrase-file F"},
    {"join-realm", 1, TOKEN_OPTIONS | BIT(O_PASSPHRASE), BIT(O_SO_PIN) | BIT(O_INIT), run_join_realm,
     "FILE --module M --token T --pin-file F [--so-pin-file F] [--init STRING] --passphrase-file F"},
    {"info", 0, TOKEN_OPTIONS, BIT(O_INIT), run_info, "--module M --token T --pin-file F [--init STRING]"},
};

#define COMMANDS (sizeof commands / sizeof commands[0])

static int usage(void)
{
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(stderr, "%s coffer-hsm %s %s\n", i ? "      " : "usage:", commands[i].name, commands[i].usage);
    return WORKER_EXIT_USAGE;
}

static int find_option(const char *arg)
{
    for (int o = 0; o < OPTIONS; o++) {
        if (strcmp(arg, option_rows[o].name) == 0)
            return o;
    }
    return -1;
}

/* 1 when the arguments are what the command wants. */
static int parse(const struct command *c, int argc, char **argv, struct args *a)
{
    unsigned seen = 0;

    memset(a, 0, sizeof *a);
    for (int i = 0; i < argc; i++) {
        int o = find_option(argv[i]);

        if (o < 0) {
            if (a->positional || argv[i][0] == '-' || !c->positional)
                return 0;
            a->positional = argv[i];
            continue;
        }
        if ((seen & BIT(o)) || !((c->must | c->may) & BIT(o)) || (option_rows[o].value && i + 1 == argc))
            return 0;
        seen |= BIT(o);
        a->value[o] = option_rows[o].value ? argv[++i] : argv[i];
    }
    return (seen & c->must) == c->must && !c->positional == !a->positional;
}

int main(int argc, char **argv)
{
    struct args a;

    for (size_t i = 0; argc > 1 && i < COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        if (!parse(&commands[i], argc - 2, argv + 2, &a))
            return usage();
        if (commands[i].run != run_worker && mem_init(0) != ERR_OK)
            return fail(argv[1], ERR_OOM, "");
        return commands[i].run(&a);
    }
    return usage();
}
