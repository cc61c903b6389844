/* test_hsm_provision.c - the embedded default and the ceremonies: made once, left alone, made anew only when half-made;
 * interrupted at every step. */
#include "tests/unit/hsm_fixture.h"

#include <dlfcn.h>
#include <errno.h>
#include <ftw.h>

#include "base/fault.h"

static char root[PATH_MAX], why[256];
static unsigned serial;

static void new_dir(char out[PATH_MAX])
{
    snprintf(out, PATH_MAX, "%.4000s/%u", root, serial++);
}

static enum err make(const char *dir)
{
    struct provision p = {.dir = dir};

    return provision(&p, why, sizeof why);
}

static void in_dir(char *out, const char *dir, const char *name)
{
    snprintf(out, PATH_MAX, "%.4000s/%s", dir, name);
}

static int is_there(const char *dir, const char *name)
{
    char path[PATH_MAX];

    in_dir(path, dir, name);
    return access(path, F_OK) == 0;
}

static int set_up(void **state)
{
    (void)state;
    assert_int_equal(mem_init(1), ERR_OK);
    make_temp_dir(root);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_tree(root);
    return 0;
}

/* ---- what is made ---- */

static unsigned mode_of(const char *dir, const char *name)
{
    char path[PATH_MAX];
    struct stat st;

    in_dir(path, dir, name);
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

static struct bytes needle;

static int look_into(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    struct buf b;

    (void)st;
    (void)ftw;
    if (type != FTW_F)
        return 0;
    buf_init(&b, 1 << 20);
    assert_int_equal(file_read_all(path, &b, 1 << 20), ERR_OK);
    if (memmem(buf_data(&b), buf_size(&b), needle.p, needle.n))
        fail_msg("%s holds it in the clear", path);
    buf_fini(&b);
    return 0;
}

static void nowhere_below(const char *dir, const char *name, struct bytes secret)
{
    char path[PATH_MAX];

    needle = secret;
    in_dir(path, dir, name);
    assert_int_equal(nftw(path, look_into, 8, FTW_PHYS), 0);
}

static void test_fresh(void **state)
{
    struct node n;
    struct realm *r = mem_secret_alloc(sizeof *r);
    char conf[4096], path[PATH_MAX];
    struct rig rig;

    (void)state;
    node_softhsm(&n, root, "fresh", NULL);
    assert_int_equal(mode_of(n.dir, ""), 0700);
    assert_int_equal(mode_of(n.dir, "tokens"), 0700);
    assert_int_equal(mode_of(n.dir, "pin"), 0600);
    assert_int_equal(mode_of(n.dir, "so-pin"), 0600);
    assert_int_equal(mode_of(n.dir, "realm"), 0600);
    assert_int_equal(mode_of(n.dir, "realm-passphrase"), 0600);
    assert_false(is_there(n.dir, "unfinished"));
    in_dir(path, n.dir, "softhsm2.conf");
    read_text(path, conf, sizeof conf);
    assert_non_null(strstr(conf, "library.reset_on_fork = true"));
    assert_non_null(strstr(conf, "slots.mechanisms = CKM_AES_KEY_GEN,"));
    assert_non_null(strstr(conf, "log.level = ERROR"));
    /* The shares are in the tokens encrypted under the PIN only, and the PIN is not beside them. */
    unseal_realm(&n, r);
    for (unsigned k = 0; k < REALM_KEYS; k++)
        nowhere_below(n.dir, "", bytes_of(r->key[k], 16));
    nowhere_below(n.dir, "tokens", bytes_str(n.pin));
    mem_secret_free(r, sizeof *r);
    rig_start(&rig, &n);
    assert_true(rig.ops.token.quirks.trusted);
    rig_fini(&rig);
}

static void read_all(const char *dir, struct buf *b)
{
    static const char *const names[] = {"pin", "so-pin", "realm", "realm-passphrase", "softhsm2.conf"};
    char path[PATH_MAX];

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        in_dir(path, dir, names[i]);
        assert_int_equal(file_read_all(path, b, 65536), ERR_OK);
    }
}

static void test_second_call_changes_nothing(void **state)
{
    char dir[PATH_MAX];
    struct buf before, after;

    (void)state;
    new_dir(dir);
    buf_init(&before, 1 << 20);
    buf_init(&after, 1 << 20);
    assert_int_equal(make(dir), ERR_OK);
    read_all(dir, &before);
    assert_int_equal(make(dir), ERR_OK);
    read_all(dir, &after);
    assert_true(bytes_equal(buf_bytes(&before), buf_bytes(&after)));
    buf_fini(&before);
    buf_fini(&after);
}

static void test_moved_directory(void **state)
{
    char dir[PATH_MAX], moved[PATH_MAX], conf[4096], path[PATH_MAX];

    (void)state;
    new_dir(dir);
    new_dir(moved);
    assert_int_equal(make(dir), ERR_OK);
    assert_int_equal(rename(dir, moved), 0);
    assert_int_equal(make(moved), ERR_OK);
    in_dir(path, moved, "softhsm2.conf");
    read_text(path, conf, sizeof conf);
    assert_non_null(strstr(conf, moved));
    assert_null(strstr(conf, dir));
}

/* ---- what is left alone ---- */

static void test_left_alone(void **state)
{
    static const struct {
        const char *missing;
        enum err e;
        const char *text;
    } rows[] = {
        {"realm", ERR_CONFLICT, "put"},
        {"pin", ERR_NOTFOUND, "pin"},
        {"tokens", ERR_NOTFOUND, "is gone: put it back from its copy, or make it again from the realm file"},
    };
    char dir[PATH_MAX], path[PATH_MAX], aside[PATH_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        new_dir(dir);
        assert_int_equal(make(dir), ERR_OK);
        in_dir(path, dir, rows[i].missing);
        in_dir(aside, dir, "aside");
        assert_int_equal(rename(path, aside), 0);
        assert_int_equal(make(dir), rows[i].e);
        if (!strstr(why, rows[i].text))
            fail_msg("'%s' does not say '%s'", why, rows[i].text);
        rmdir(path);
        assert_int_equal(rename(aside, path), 0);
        assert_int_equal(make(dir), ERR_OK);
    }
    in_dir(path, dir, "realm");
    write_text(path, "nonsense");
    assert_int_equal(make(dir), ERR_CORRUPT);
}

static void test_half_made_is_made_anew(void **state)
{
    char dir[PATH_MAX], path[PATH_MAX];

    (void)state;
    new_dir(dir);
    assert_int_equal(make(dir), ERR_OK);
    in_dir(path, dir, "realm");
    assert_int_equal(unlink(path), 0);
    in_dir(path, dir, "unfinished");
    write_text(path, "");
    assert_int_equal(make(dir), ERR_OK);
    assert_true(is_there(dir, "realm"));
    assert_false(is_there(dir, "unfinished"));
    /* The mark beside a realm file: the crash came when all was done. */
    write_text(path, "");
    assert_int_equal(make(dir), ERR_OK);
    assert_false(is_there(dir, "unfinished"));
}

static void test_secret_files(void **state)
{
    char path[PATH_MAX];
    struct buf b;

    (void)state;
    in_dir(path, root, "secret");
    buf_init_secret(&b, 4096);
    assert_int_equal(secret_file_read(path, &b), ERR_NOTFOUND);
    write_text(path, "a pin\r\n");
    assert_int_equal(secret_file_read(path, &b), ERR_OK);
    assert_true(bytes_equal(buf_bytes(&b), bytes_str("a pin")));
    buf_clear(&b);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(secret_file_read(path, &b), ERR_NOPERM);
    assert_int_equal(chmod(path, 0604), 0);
    assert_int_equal(secret_file_read(path, &b), ERR_NOPERM);
    write_text(path, "\n");
    assert_int_equal(secret_file_read(path, &b), ERR_RANGE);
    assert_int_equal(secret_file_read(root, &b), ERR_NOPERM); /* no regular file */
    assert_int_equal(buf_size(&b), 0);
    buf_fini(&b);
}

/* ---- interrupted ---- */

/* A realm file with a cheap passphrase, so that the loop below is about files. */
static void cheap_realm(char file[PATH_MAX], char pass[PATH_MAX])
{
    struct realm *r = mem_secret_alloc(sizeof *r);
    uint8_t bytes[REALM_FILE_BYTES];

    in_dir(file, root, "cheap-realm");
    in_dir(pass, root, "cheap-pass");
    assert_int_equal(realm_generate(r), ERR_OK);
    assert_int_equal(realm_seal(r, bytes_str("pass"), 10, bytes), ERR_OK);
    assert_int_equal(file_write_atomic(file, bytes_of(bytes, sizeof bytes), 0600), ERR_OK);
    write_text(pass, "pass");
    mem_secret_free(r, sizeof *r);
}

static void test_every_file_operation_fails_once(void **state)
{
    char dir[PATH_MAX], file[PATH_MAX], pass[PATH_MAX];
    const struct provision p = {.dir = dir, .realm_file = file, .passphrase_file = pass};

    (void)state;
    cheap_realm(file, pass);
    for (long n = 1;; n++) {
        new_dir(dir);
        fault_arm(FAULT_FILE, n, ENOSPC);
        enum err e = provision(&p, why, sizeof why);
        int hit = fault_fired(FAULT_FILE);
        fault_disarm(FAULT_FILE);
        if (hit && e != ERR_OK)
            assert_true(why[0]);
        if (provision(&p, why, sizeof why) != ERR_OK)
            fail_msg("after file operation %ld had failed: %s", n, why);
        remove_tree(dir);
        if (!hit)
            break;
    }
}

/* Without a realm to join there are a few steps more: the passphrase is made. */
static void test_some_file_operations_fail_making_a_realm(void **state)
{
    char dir[PATH_MAX];

    (void)state;
    for (long n = 1;; n += 13) {
        new_dir(dir);
        fault_arm(FAULT_FILE, n, EIO);
        enum err e = make(dir);
        int hit = fault_fired(FAULT_FILE);
        fault_disarm(FAULT_FILE);
        assert_true(e == ERR_OK || why[0]);
        if (make(dir) != ERR_OK)
            fail_msg("after file operation %ld had failed: %s", n, why);
        if (!hit)
            break;
    }
}

static void (*arm)(const char *function, long nth, unsigned long rv);
static long (*fired)(void);
static char shim[PATH_MAX];

/* The shim lies beside this program. */
static void find_shim(void)
{
    ssize_t n = readlink("/proc/self/exe", shim, sizeof shim - 1);
    void *library, *symbol;

    assert_true(n > 0);
    shim[n] = '\0';
    snprintf(strrchr(shim, '/'), 16, "/p11fault.so");
    (void)chmod(shim, 0755); /* a module that a group can write is refused, whatever the umask was */
    library = dlopen(shim, RTLD_NOW);
    if (!library)
        fail_msg("%s: make units-build, or that file", dlerror());
    symbol = dlsym(library, "p11fault_arm");
    memcpy(&arm, &symbol, sizeof arm);
    symbol = dlsym(library, "p11fault_fired");
    memcpy(&fired, &symbol, sizeof fired);
}

/* A blank token in a directory of its own. */
static void blank_token(char dir[PATH_MAX], const struct ceremony *c)
{
    char conf[PATH_MAX], tokens[PATH_MAX], text[PATH_MAX + 64];

    new_dir(dir);
    in_dir(tokens, dir, "tokens");
    in_dir(conf, dir, "conf");
    snprintf(text, sizeof text, "directories.tokendir = %s\nlog.level = ERROR\n", tokens);
    assert_true(mkdir(dir, 0700) == 0 && mkdir(tokens, 0700) == 0);
    write_text(conf, text);
    setenv("SOFTHSM2_CONF", conf, 1);
    assert_int_equal(ceremony_make_token(c->module, "t", c->so_pin, c->pin, why, sizeof why), ERR_OK);
}

/* Every call of the module that changes something during the ceremony. */
static void test_ceremony_interrupted(void **state)
{
    static const char *const changing[] = {"C_CreateObject", "C_CopyObject", "C_DestroyObject",
                                           "C_Login",        "C_Logout",     "C_FindObjects"};
    struct realm *r = mem_secret_alloc(sizeof *r);
    struct ceremony c = {
        .module = shim, .token = bytes_str("t"), .pin = bytes_str("1234"), .so_pin = bytes_str("5678")};
    char dir[PATH_MAX];

    (void)state;
    find_shim();
    assert_int_equal(realm_generate(r), ERR_OK);
    for (size_t k = 0; k < sizeof changing / sizeof changing[0]; k++) {
        for (long n = 1;; n++) {
            blank_token(dir, &c);
            arm(changing[k], n, CKR_DEVICE_ERROR);
            enum err e = ceremony_join(&c, r, why, sizeof why);
            long hit = fired();
            arm("*", 0, 0);
            if (e != ERR_OK)
                assert_true(why[0]);
            if (ceremony_join(&c, r, why, sizeof why) != ERR_OK)
                fail_msg("after %s %ld had failed: %s", changing[k], n, why);
            assert_int_equal(ceremony_check(&c, r->id, why, sizeof why), ERR_OK);
            remove_tree(dir);
            if (!hit)
                break;
        }
    }
    mem_secret_free(r, sizeof *r);
}

/* ---- joining ---- */

static void test_joining_a_realm(void **state)
{
    struct node first, second, third;
    struct provision p = {0};
    struct ceremony c = {0};
    struct realm *r = mem_secret_alloc(sizeof *r);
    char dir[PATH_MAX], path[PATH_MAX];
    struct blob config;
    struct rig rig;

    (void)state;
    node_softhsm(&first, root, "first", NULL);
    node_softhsm(&second, root, "second", &first);
    node_softhsm(&third, root, "third", NULL);
    rig_start(&rig, &first);
    new_partition(&rig, 1, &config);
    rig_fini(&rig);
    rig_start(&rig, &second);
    assert_int_equal(RUN(&rig, HSM_PARTITION_IMPORT, blob_bytes(&config)), ERR_OK);
    rig_fini(&rig);

    /* A token that has a realm keeps it. */
    unseal_realm(&first, r);
    node_select(&third);
    c = (struct ceremony){.module = third.module, .token = bytes_str(third.token), .pin = bytes_str(third.pin)};
    assert_int_equal(ceremony_join(&c, r, why, sizeof why), ERR_CONFLICT);
    assert_int_equal(ceremony_check(&c, r->id, why, sizeof why), ERR_CONFLICT);
    c.pin = bytes_str("wrong");
    assert_int_equal(ceremony_join(&c, r, why, sizeof why), ERR_WRONGPASS);

    /* A wrong passphrase makes no token. */
    new_dir(dir);
    in_dir(path, root, "wrong-passphrase");
    write_text(path, "wrong");
    p = (struct provision){.dir = dir, .realm_file = first.realm_file, .passphrase_file = path};
    assert_int_equal(provision(&p, why, sizeof why), ERR_WRONGPASS);
    assert_false(is_there(dir, "realm"));
    p.passphrase_file = first.passphrase_file;
    assert_int_equal(provision(&p, why, sizeof why), ERR_OK);

    /* A realm file that was tampered with inside its authenticated part is noticed by comparing keys: same id, other
     * shares. */
    r->key[REALM_VENDOR][0] ^= 1;
    node_select(&first);
    c = (struct ceremony){.module = first.module, .token = bytes_str(first.token), .pin = bytes_str(first.pin)};
    assert_int_equal(ceremony_join(&c, r, why, sizeof why), ERR_CORRUPT);
    r->key[REALM_VENDOR][0] ^= 1;
    r->key[REALM_WRAP][0] ^= 1;
    assert_int_equal(ceremony_join(&c, r, why, sizeof why), ERR_CORRUPT);
    mem_secret_free(r, sizeof *r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fresh),
        cmocka_unit_test(test_second_call_changes_nothing),
        cmocka_unit_test(test_moved_directory),
        cmocka_unit_test(test_left_alone),
        cmocka_unit_test(test_half_made_is_made_anew),
        cmocka_unit_test(test_secret_files),
        cmocka_unit_test(test_every_file_operation_fails_once),
        cmocka_unit_test(test_some_file_operations_fail_making_a_realm),
        cmocka_unit_test(test_ceremony_interrupted),
        cmocka_unit_test(test_joining_a_realm),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
