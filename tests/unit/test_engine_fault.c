/* test_engine_fault.c - the engine when the n-th allocation or the n-th file operation fails, for every n: while it
 * opens (a new directory, one that was closed, one whose process died, one after a power loss), while it writes, reads,
 * closes.
 *
 * After each failure there is a clean error and nothing was written, or success. Whatever happened, the directory opens
 * without faults afterwards, as it is, and as a copy of that moment (the process died there). Then it holds what was
 * acknowledged, nothing that was refused, and what was UNCERTAIN whole or not at all.
 *
 * The engine's threads count along with the one that calls, so the same n is not the same operation in each round. That
 * does not matter: every round is judged by its outcome.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "engine/engine.h"
#include "sweep.h"

#define DIR_BYTES 64
#define PATHS 5
#define VALUE_MAX 5000 /* long ones do not lie in their head */

static const struct {
    enum fault_kind kind;
    int code;
    const char *name;
} faults[] = {{FAULT_FILE, EIO, "EIO"}, {FAULT_FILE, ENOSPC, "ENOSPC"}, {FAULT_MEM, ENOMEM, "memory"}};
#define FAULTS (sizeof faults / sizeof *faults)

/* ---- a sealer for tests: 29 bytes of header, and the plaintext turned around ---- */

struct plain {
    size_t n;
    uint8_t bytes[];
};

static enum err test_seal(struct plain *p, const struct seal_bind *bind, uint8_t *out)
{
    memset(out, 0, 29);
    put_le32(out + 1, 1);
    put_le32(out + 13, bind->version);
    for (size_t i = 0; i < p->n; i++)
        out[29 + i] = (uint8_t)~p->bytes[i];
    return ERR_OK;
}

static size_t test_size(const struct plain *p)
{
    return p->n + 29;
}

static const struct sealer sealer = {test_seal, test_size};

/* ---- directories ---- */

static char top[DIR_BYTES]; /* holds: dir, copy, and the directories that rounds begin with */
static char boot[16] = "this-boot";

static void empty_dir(const char *path)
{
    char name[512];
    DIR *d = opendir(path);

    for (struct dirent *x; d && (x = readdir(d)) != NULL;) {
        snprintf(name, sizeof name, "%.200s/%s", path, x->d_name);
        if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0)
            continue;
        if (unlink(name) != 0) {
            empty_dir(name);
            assert_int_equal(rmdir(name), 0);
        }
    }
    if (d)
        closedir(d);
}

static void copy_file(const char *from, const char *to)
{
    static char bytes[1 << 16];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t n;

    assert_true(out >= 0);
    while (in >= 0 && (n = read(in, bytes, sizeof bytes)) > 0) /* < 0: LevelDB has just removed it */
        assert_int_equal(write(out, bytes, (size_t)n), n);
    if (in >= 0)
        close(in);
    close(out);
}

static void copy_tree(const char *from, const char *to)
{
    char source[512], target[512];
    struct stat st;
    DIR *d = opendir(from);

    assert_non_null(d);
    (void)mkdir(to, 0700);
    for (struct dirent *x; (x = readdir(d)) != NULL;) {
        if (x->d_name[0] == '.' || strcasecmp(x->d_name, "lock") == 0)
            continue;
        snprintf(source, sizeof source, "%.200s/%s", from, x->d_name);
        snprintf(target, sizeof target, "%.200s/%s", to, x->d_name);
        if (lstat(source, &st) == 0 && S_ISDIR(st.st_mode))
            copy_tree(source, target);
        else
            copy_file(source, target);
    }
    closedir(d);
}

/* As if the process that owns from had died now: what is in the page cache is what there is. */
static void copy_dir(const char *from, const char *to)
{
    char source[2 * DIR_BYTES], target[2 * DIR_BYTES];

    snprintf(source, sizeof source, "%s/%s", top, from);
    snprintf(target, sizeof target, "%s/%s", top, to);
    empty_dir(target);
    copy_tree(source, target);
}

static void log_line(int level, const char *line)
{
    if (getenv("COFFER_TEST_VERBOSE") && level >= LOG_WARNING)
        print_message("engine: %s\n", line);
}

static enum err open_engine(const char *name, struct engine **out, const char **why)
{
    char path[2 * DIR_BYTES];
    struct engine_report report;
    const struct engine_config cfg = {.dir = path,
                                      .shards = 2,
                                      .wal_segment_bytes = 64 << 10,
                                      .cache_bytes = 1 << 20,
                                      .dirty_bytes = 2 << 20,
                                      .write_buffer_bytes = 64 << 10,
                                      .secret_max_bytes = 1 << 20,
                                      .sealer = &sealer,
                                      .log = log_line,
                                      .defaults = {.max_versions = 3, .recovery_ms = 10000}};
    snprintf(path, sizeof path, "%s/%s", top, name);
    setenv("COFFER_TEST_BOOT_ID", boot, 1);
    return engine_open(out, &cfg, &report, why);
}

static struct engine *must_open(const char *name)
{
    struct engine *e;
    const char *why;
    enum err err = open_engine(name, &e, &why);

    if (err)
        fail_msg("%s does not open any more: %s: %s", name, err_name(err), why);
    return e;
}

/* ---- synchronous writes ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t done_cond = PTHREAD_COND_INITIALIZER;

static void done(struct write *w)
{
    pthread_mutex_lock(&lock);
    *(int *)w->arg = 1;
    pthread_cond_signal(&done_cond);
    pthread_mutex_unlock(&lock);
}

static enum err run(struct engine *e, struct vault *v, struct step *s, unsigned n)
{
    int finished = 0;
    struct write w = {.vault = v, .step = s, .steps = n, .done = done, .arg = &finished};

    engine_submit(e, &w);
    pthread_mutex_lock(&lock);
    while (!finished)
        pthread_cond_wait(&done_cond, &lock);
    pthread_mutex_unlock(&lock);
    for (unsigned i = 0; i < n; i++)
        free(s[i].plain);
    return w.err;
}

/* ---- what is stored, as numbers ---- */

struct model {
    int value[PATHS]; /* 0: not there */
    uint32_t version[PATHS];
    int vault, other_vault, key;
    uint32_t data_keys;
};

static const char *const paths[PATHS] = {"a", "b", "c/d", "c/e", "f"};

/* The text of a value; every third is long. */
static size_t text_of(int value, uint8_t out[VALUE_MAX])
{
    size_t n = value % 3 ? 20 : VALUE_MAX;

    memset(out, 'x', n);
    snprintf((char *)out, 16, "%d", value);
    return n;
}

static struct step set_step(int path, int value)
{
    uint8_t text[VALUE_MAX];
    size_t n = text_of(value, text);
    struct plain *p = malloc(sizeof *p + n);

    p->n = n;
    memcpy(p->bytes, text, n);
    return (struct step){.kind = STEP_SECRET_SET, .path = bytes_str(paths[path]), .plain = p};
}

static int number_in(struct bytes sealed)
{
    uint8_t text[VALUE_MAX], want[VALUE_MAX];
    size_t n = sealed.n - 29;

    assert_true(sealed.n > 29 && n <= VALUE_MAX);
    for (size_t i = 0; i < n; i++)
        text[i] = (uint8_t)~sealed.p[29 + i];
    int value = (int)strtol((const char *)text, NULL, 10);
    assert_int_equal(n, text_of(value, want));
    assert_memory_equal(text, want, n);
    return value;
}

static struct vault *vault(struct engine *e, const char *name)
{
    return vaults_find(engine_vaults(e), bytes_str(name));
}

static struct model observe(struct engine *e)
{
    struct model m = {.vault = vault(e, "v") != NULL, .other_vault = vault(e, "w") != NULL};
    struct vault *v = vault(e, "v");
    struct secret_view view;
    struct key_view key;
    struct blob *wrapped;
    enum err err;

    for (int i = 0; v && i < PATHS; i++) {
        err = secret_read(e, v, bytes_str(paths[i]), 0, bytes_of(NULL, 0), &view);
        if (err != ERR_OK && err != ERR_NOTFOUND)
            fail_msg("%s cannot be read: %s", paths[i], err_name(err));
        if (err == ERR_OK) {
            m.value[i] = number_in(view.value.raw);
            m.version[i] = view.version;
            secret_view_release(&view);
        }
    }
    if (!v)
        return m;
    err = key_read(e, v, bytes_str("key"), &key);
    m.key = err == ERR_OK;
    if (err == ERR_OK)
        key_view_release(&key);
    else
        assert_int_equal(err, ERR_NOTFOUND);
    while (engine_dek(e, v, m.data_keys + 1, &wrapped) == ERR_OK) {
        m.data_keys++;
        blob_unref(wrapped);
    }
    assert_int_equal(atomic_load(&v->dek_newest), m.data_keys);
    return m;
}

static void show(const char *what, const struct model *m)
{
    print_message("%s: vaults %d %d, key %d, data keys %u, values", what, m->vault, m->other_vault, m->key,
                  (unsigned)m->data_keys);
    for (int i = 0; i < PATHS; i++)
        print_message(" %d (%u)", m->value[i], (unsigned)m->version[i]);
    print_message("\n");
}

/* What may be there. maybe: with the one write whose outcome is open. */
struct expected {
    struct model now, maybe;
    int open; /* 1: maybe is an alternative */
};

static void check(struct engine *e, const struct expected *x)
{
    struct model is = observe(e);

    if (memcmp(&is, &x->now, sizeof is) == 0 || (x->open && memcmp(&is, &x->maybe, sizeof is) == 0))
        return;
    show("is", &is);
    show("should be", &x->now);
    if (x->open)
        show("or", &x->maybe);
    fail_msg("that is not what was acknowledged");
}

/* ---- writes, and what they change ---- */

typedef enum err (*op_fn)(struct engine *e, struct model *m);

static enum err create(struct engine *e, const char *name)
{
    static const struct vault_settings settings = {.max_versions = 3, .recovery_ms = 10000};
    struct step s = {
        .kind = STEP_VAULT_CREATE, .path = bytes_str(name), .record = bytes_str("partition"), .settings = &settings};
    return run(e, NULL, &s, 1);
}

static enum err op_vault(struct engine *e, struct model *m)
{
    m->vault = 1;
    return create(e, "v");
}

static enum err op_other_vault(struct engine *e, struct model *m)
{
    m->other_vault = 1;
    return create(e, "w");
}

static enum err set(struct engine *e, struct model *m, int path, int value)
{
    struct step s = set_step(path, value);
    m->value[path] = value;
    m->version[path]++;
    return run(e, vault(e, "v"), &s, 1);
}

static enum err op_short(struct engine *e, struct model *m)
{
    return set(e, m, 0, m->value[0] / 3 * 3 + 4);
}

static enum err op_long(struct engine *e, struct model *m)
{
    return set(e, m, 1, m->value[1] / 3 * 3 + 6);
}

static enum err op_two(struct engine *e, struct model *m)
{
    struct step s[2] = {set_step(2, m->value[2] + 1), set_step(3, m->value[3] + 1)};
    for (int i = 2; i < 4; i++) {
        m->value[i]++;
        m->version[i]++;
    }
    return run(e, vault(e, "v"), s, 2);
}

static enum err op_destroy(struct engine *e, struct model *m)
{
    struct step s = {.kind = STEP_SECRET_DESTROY, .path = bytes_str(paths[4])};
    m->value[4] = 0;
    m->version[4] = 0;
    return run(e, vault(e, "v"), &s, 1);
}

static enum err op_data_key(struct engine *e, struct model *m)
{
    struct step s = {.kind = STEP_DEK_ADD, .version = ++m->data_keys, .record = bytes_str("wrapped")};
    return run(e, vault(e, "v"), &s, 1);
}

static struct buf key_record; /* encoded once: only the engine is to meet faults */

static enum err op_key(struct engine *e, struct model *m)
{
    struct step s = {.kind = STEP_KEY_PUT, .path = bytes_str("key"), .record = buf_bytes(&key_record)};
    m->key = 1;
    return run(e, vault(e, "v"), &s, 1);
}

/* Carries it out, and notes what may be there now. */
static enum err attempt(struct engine *e, struct expected *x, op_fn op)
{
    struct model next = x->now;
    enum err err = op(e, &next);

    if (err == ERR_OK) {
        assert_false(x->open); /* the log failed: nothing may be acknowledged behind a write whose outcome is open */
        x->now = next;
    } else if (err == ERR_UNCERTAIN && !x->open) {
        x->maybe = next;
        x->open = 1;
    } else if (err != ERR_OOM && err != ERR_IO && err != ERR_MISCONF) {
        fail_msg("a write was refused with %s", err_name(err));
    }
    return err;
}

static void must(struct engine *e, struct expected *x, op_fn op)
{
    assert_int_equal(attempt(e, x, op), ERR_OK);
}

/* ---- rounds ---- */

static void arm(size_t k, long n)
{
    fault_arm(faults[k].kind, n, faults[k].code);
}

static int disarm(size_t k)
{
    int fired = fault_fired(faults[k].kind);
    fault_disarm(faults[k].kind);
    return fired;
}

/* Without faults all opens: the copy, and the directory itself, which can be written again. */
static void check_both(const struct expected *x)
{
    struct engine *e = must_open("copy");

    check(e, x);
    engine_close(e);
    e = must_open("dir");
    struct expected y = {.now = observe(e)};
    check(e, x);
    must(e, &y, y.now.vault ? op_short : op_vault);
    engine_close(e);
}

typedef void (*round_fn)(struct expected *x, size_t k, long n, int *fired);

static void each_fault(const char *from, const struct expected *start, round_fn round)
{
    for (size_t k = 0; k < FAULTS; k++) {
        long n = 1;
        for (int fired = 1; fired; n += SWEEP_STEP) {
            struct expected x = *start;
            copy_dir(from, "dir");
            round(&x, k, n, &fired);
        }
        assert_true(n > 1 + SWEEP_STEP); /* the first has something to fail */
    }
}

/* ---- opening ---- */

static void open_round(struct expected *x, size_t k, long n, int *fired)
{
    struct engine *e;
    const char *why;

    arm(k, n);
    enum err err = open_engine("dir", &e, &why);
    *fired = disarm(k);
    if (err) {
        assert_null(e);
        assert_true(why[0] != 0);
        if (faults[k].kind == FAULT_MEM ? err != ERR_OOM : err != ERR_IO && err != ERR_MISCONF)
            fail_msg("%s at %ld: engine_open says %s: %s", faults[k].name, n, err_name(err), why);
    } else {
        check(e, x);
    }
    copy_dir("dir", "copy");
    engine_close(e);
    check_both(x);
}

static struct expected written; /* what all directories but the empty one hold */

static void opening_a_new_directory(void **state)
{
    (void)state;
    each_fault("empty", &(struct expected){.open = 0}, open_round);
}

static void opening_what_was_closed(void **state)
{
    (void)state;
    each_fault("closed", &written, open_round);
}

static void opening_after_a_crash(void **state)
{
    (void)state;
    each_fault("crashed", &written, open_round);
}

static void opening_after_a_power_loss(void **state)
{
    (void)state;
    snprintf(boot, sizeof boot, "another-boot");
    each_fault("crashed", &written, open_round);
    snprintf(boot, sizeof boot, "this-boot");
}

/* ---- writing ---- */

static const op_fn ops[] = {op_short, op_other_vault, op_long, op_two, op_data_key,
                            op_long,  op_destroy,     op_key,  op_two};
#define OPS (sizeof ops / sizeof *ops)

/* Each operation is tried until something fails, then the rest, without the fault. */
static void write_round(struct expected *x, size_t k, long n, int *fired)
{
    struct engine *e = must_open("dir");
    enum err err = ERR_OK;
    size_t i = 0;

    arm(k, n);
    while (i < OPS && (err = attempt(e, x, ops[i])) == ERR_OK)
        i++;
    *fired = disarm(k);
    check(e, &(struct expected){.now = x->now}); /* what is not certain is not shown */
    if (faults[k].kind == FAULT_MEM)
        for (; i < OPS; i++)
            must(e, x, ops[i]); /* memory is there again */
    else if (err == ERR_OK)
        (void)attempt(e, x, op_short);
    check(e, &(struct expected){.now = x->now});
    copy_dir("dir", "copy");
    engine_close(e);
    check_both(x);
}

static void writing(void **state)
{
    (void)state;
    each_fault("closed", &written, write_round);
}

/* ---- reading ---- */

static void read_round(struct expected *x, size_t k, long n, int *fired)
{
    struct engine *e = must_open("dir");
    struct secret_view view;
    struct vault *v = vault(e, "v");

    arm(k, n);
    for (int i = 0; i < PATHS; i++) {
        enum err err = secret_read(e, v, bytes_str(paths[i]), 0, bytes_of(NULL, 0), &view);
        if (err == ERR_OK)
            secret_view_release(&view);
        else if (err != ERR_OOM)
            fail_msg("%s at %ld: reading says %s", faults[k].name, n, err_name(err));
    }
    *fired = disarm(k);
    check(e, x); /* and what failed was not kept as an answer */
    engine_close(e);
}

static void reading_without_memory(void **state)
{
    int fired = 1;
    (void)state;
    for (long n = 1; fired; n += SWEEP_STEP) {
        struct expected x = written;
        copy_dir("closed", "dir");
        read_round(&x, FAULTS - 1, n, &fired);
    }
}

/* ---- closing ---- */

static void close_round(struct expected *x, size_t k, long n, int *fired)
{
    struct engine *e = must_open("dir");

    for (size_t i = 0; i < 3; i++)
        must(e, x, ops[i]);
    arm(k, n);
    engine_close(e);
    *fired = disarm(k);
    copy_dir("dir", "copy");
    check_both(x);
}

static void closing(void **state)
{
    (void)state;
    each_fault("closed", &written, close_round);
}

/* ---- set-up ---- */

static int setup(void **state)
{
    struct key_record rec = {.newest = 0};
    char empty[2 * DIR_BYTES];

    (void)state;
    clock_test_set_wall_ms(1000000);
    snprintf(top, sizeof top, "%s/coffer-engine-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(top));
    snprintf(empty, sizeof empty, "%s/empty", top);
    assert_int_equal(mkdir(empty, 0700), 0);
    buf_init(&key_record, 4096);
    assert_int_equal(key_record_put(&key_record, &rec), ERR_OK);

    struct engine *e = must_open("closed");
    must(e, &written, op_vault);
    for (int path = 0; path < PATHS; path++) {
        struct step s = set_step(path, path + 1);
        assert_int_equal(run(e, vault(e, "v"), &s, 1), ERR_OK);
        written.now.value[path] = path + 1;
        written.now.version[path] = 1;
    }
    must(e, &written, op_data_key);
    must(e, &written, op_long);
    copy_dir("closed", "crashed");
    engine_close(e);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    buf_fini(&key_record);
    clock_test_set_wall_ms(0);
    unsetenv("COFFER_TEST_BOOT_ID");
    empty_dir(top);
    return rmdir(top);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_a_new_directory),
        cmocka_unit_test(opening_what_was_closed),
        cmocka_unit_test(opening_after_a_crash),
        cmocka_unit_test(opening_after_a_power_loss),
        cmocka_unit_test(writing),
        cmocka_unit_test(reading_without_memory),
        cmocka_unit_test(closing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
