/* The pool with real workers (coffer-hsm beside the tests' directory) on a SoftHSM2 token made for the test. */
#include "tests/unit/hsm_pool_fixture.h"

#include "hsm/alg.h"
#include "hsm/ciphertext.h"
#include "hsm/provision.h"

static char program[600];
static char hsm_dir[80], conf[120], pin_file[120];

static int provision_token(void)
{
    char command[800];
    snprintf(command, sizeof command, "%s provision %s > /dev/null", program, hsm_dir);
    return system(command);
}

static void rename_in_hsm_dir(const char *from, const char *to)
{
    char a[512], b[512];

    fake_path(a, hsm_dir, from);
    fake_path(b, hsm_dir, to);
    assert_int_equal(rename(a, b), 0);
}

static int real_set_up(void **state)
{
    if (set_up(state) != 0)
        return -1;
    snprintf(hsm_dir, sizeof hsm_dir, "%s/hsm", dir);
    snprintf(conf, sizeof conf, "%s/softhsm2.conf", hsm_dir);
    snprintf(pin_file, sizeof pin_file, "%s/pin", hsm_dir);
    if (provision_token() != 0)
        return -1;
    config.worker_path = program;
    config.module = provision_find_module();
    config.token = PROVISION_TOKEN;
    config.softhsm_conf = conf;
    config.pin_file = pin_file;
    return config.module ? 0 : -1;
}

/* A process that one of our threads has started. */
static pid_t a_child(void)
{
    DIR *d = opendir("/proc/self/task");
    long pid = -1;

    assert_non_null(d);
    for (struct dirent *e; pid < 0 && (e = readdir(d));) {
        char path[400];
        FILE *f;
        snprintf(path, sizeof path, "/proc/self/task/%s/children", e->d_name);
        f = fopen(path, "r");
        if (f && fscanf(f, "%ld", &pid) != 1)
            pid = -1;
        if (f)
            fclose(f);
    }
    closedir(d);
    assert_true(pid > 0);
    return (pid_t)pid;
}

/* ---- requests with real contents ---- */

static enum err call(struct ask *a, enum hsm_op op, const struct bytes *part)
{
    enum err e;

    ask_init(a, op);
    e = hsm_submit(pool, &a->r, part, hsm_ops[op].parts_in);
    if (e != ERR_OK)
        return e;
    hsm_flush(pool);
    answer_of(a);
    if (a->r.result != ERR_OK)
        fprintf(stderr, "%s: %s: %s\n", hsm_ops[op].name, err_name(a->r.result), a->r.text);
    return a->r.result;
}

static void new_partition(struct ask *config_answer)
{
    struct bytes id = bytes_str("0123456789abcdef");
    assert_int_equal(call(config_answer, HSM_PARTITION_NEW, &id), ERR_OK);
}

static void new_key(struct ask *key, struct bytes partition, uint8_t alg, uint8_t number)
{
    uint8_t header[MASKED_KEY_HEADER];
    struct masked_head head = {.alg = alg, .vault = 1, .id = {number}, .version = 1};
    struct bytes part[2] = {partition, bytes_of(header, sizeof header)};

    masked_put_head(header, &head);
    assert_int_equal(call(key, alg == ALG_CODE_RSA_2048 ? HSM_KEY_NEW_SLOW : HSM_KEY_NEW, part), ERR_OK);
}

/* Encrypts and decrypts with this key. */
static void use_key(struct bytes partition, struct bytes masked)
{
    struct ask enc, dec;
    uint8_t header[CIPHERTEXT_HEADER];
    struct masked m;
    struct bytes part[5] = {partition, masked, bytes_of(header, sizeof header), bytes_str("aad"),
                            bytes_str("plaintext")};

    assert_int_equal(masked_parse(masked, &m), ERR_OK);
    ciphertext_put_header(header, CIPHER_ANY, m.head.id, m.head.version);
    assert_int_equal(call(&enc, HSM_ENCRYPT, part), ERR_OK);
    part[2] = bytes_str("aad");
    part[3] = enc.r.part[0];
    assert_int_equal(call(&dec, HSM_DECRYPT, part), ERR_OK);
    assert_true(bytes_equal(dec.r.part[0], bytes_str("plaintext")));
    ask_fini(&enc, 1);
    ask_fini(&dec, 1);
}

static void test_keys_of_a_real_module(void **state)
{
    (void)state;
    static const uint8_t algs[] = {ALG_CODE_AES_256, ALG_CODE_RSA_2048, ALG_CODE_AES_256, ALG_CODE_AES_256};
    struct ask partition, key, dek, open;
    struct buf info;
    uint8_t realm[16], zero[16] = {0};

    open_all();
    buf_init(&info, 65536);
    assert_int_equal(hsm_info(pool, &info), ERR_OK);
    assert_int_equal(buf_put_u8(&info, 0), ERR_OK);
    assert_non_null(strstr((char *)info.mem, "manufacturer:SoftHSM"));
    buf_fini(&info);
    hsm_realm(pool, realm);
    assert_memory_not_equal(realm, zero, 16);

    new_partition(&partition);
    for (uint8_t i = 0; i < sizeof algs; i++) {
        new_key(&key, partition.r.part[0], algs[i], i);
        if (algs[i] == ALG_CODE_AES_256)
            use_key(partition.r.part[0], key.r.part[0]);
        ask_fini(&key, 1);
    }
    struct bytes part[3] = {partition.r.part[0], bytes_str("context")};
    assert_int_equal(call(&dek, HSM_DEK_NEW, part), ERR_OK);
    part[2] = dek.r.part[1];
    assert_int_equal(call(&open, HSM_DEK_OPEN, part), ERR_OK);
    assert_int_equal(dek.r.part[0].n, 32);
    assert_true(mem_equal_ct(dek.r.part[0].p, open.r.part[0].p, 32));
    part[1] = bytes_str("another");
    ask_fini(&open, 1);
    assert_int_not_equal(call(&open, HSM_DEK_OPEN, part), ERR_OK);
    ask_fini(&open, 1);
    ask_fini(&dek, 1);
    ask_fini(&partition, 1);
}

static void test_refusals_of_a_real_module(void **state)
{
    (void)state;
    const char *why;

    config.pin_file = pin_path; /* 1234 */
    assert_int_equal(hsm_open(&pool, &config, &why), ERR_WRONGPASS);
    assert_non_null(strstr(why, "PIN"));
    config.pin_file = pin_file;
    config.token = "another";
    assert_int_equal(hsm_open(&pool, &config, &why), ERR_NOTFOUND);
    assert_non_null(strstr(why, "another"));
    config.token = PROVISION_TOKEN;
    config.module = program; /* a file, but no module */
    assert_int_equal(hsm_open(&pool, &config, &why), ERR_NOTFOUND);
    assert_non_null(strstr(why, program));
}

/* Its worker is killed between two uses of a key: the next one unwraps it again. */
static void test_keys_survive_their_worker(void **state)
{
    (void)state;
    struct ask partition, key;

    config.workers = 1;
    open_all();
    new_partition(&partition);
    new_key(&key, partition.r.part[0], ALG_CODE_AES_256, 1);
    use_key(partition.r.part[0], key.r.part[0]);
    assert_int_equal(kill(a_child(), SIGKILL), 0);
    WAIT_FOR(stats_now().restarts == 1 && workers_up() == 1);
    use_key(partition.r.part[0], key.r.part[0]);
    ask_fini(&key, 1);
    ask_fini(&partition, 1);
}

static void test_recycling_a_real_worker(void **state)
{
    (void)state;
    struct ask partition, key, first;

    config.workers = 1;
    config.recycle_objects = 60;
    open_all();
    new_partition(&partition);
    new_key(&first, partition.r.part[0], ALG_CODE_AES_256, 0);
    for (uint8_t i = 1; i < 60; i++) {
        new_key(&key, partition.r.part[0], ALG_CODE_AES_256, i);
        ask_fini(&key, 1);
    }
    WAIT_FOR(stats_now().recycled >= 1);
    use_key(partition.r.part[0], first.r.part[0]);
    assert_int_equal(stats_now().restarts, 0);
    assert_int_equal(stats_now().errors, 0);
    ask_fini(&first, 1);
    ask_fini(&partition, 1);
}

/* The token's directory goes away under running workers, as when a device is pulled, and comes back. */
static void test_a_token_that_vanishes_and_returns(void **state)
{
    (void)state;
    struct ask partition, key;

    open_all();
    new_partition(&partition);
    new_key(&key, partition.r.part[0], ALG_CODE_AES_256, 1);
    rename_in_hsm_dir("tokens", "gone");
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_DOWN);
    rename_in_hsm_dir("gone", "tokens");
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_UP);
    use_key(partition.r.part[0], key.r.part[0]);
    ask_fini(&key, 1);
    ask_fini(&partition, 1);
}

static void test_sealing_a_real_module(void **state)
{
    (void)state;
    struct ask partition, key;
    struct buf pin;

    open_all();
    new_partition(&partition);
    new_key(&key, partition.r.part[0], ALG_CODE_AES_256, 1);
    hsm_seal(pool);
    WAIT_FOR(workers_up() == 0);
    assert_int_equal(hsm_unseal(pool, bytes_str("wrong")), ERR_OK);
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_FAILED);
    buf_init_secret(&pin, 256);
    assert_int_equal(secret_file_read(pin_file, &pin), ERR_OK);
    assert_int_equal(hsm_unseal(pool, buf_bytes(&pin)), ERR_OK);
    buf_fini(&pin);
    WAIT_FOR(hsm_state_now(pool) == HSM_STATE_UP);
    use_key(partition.r.part[0], key.r.part[0]);
    ask_fini(&key, 1);
    ask_fini(&partition, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_keys_of_a_real_module, real_set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refusals_of_a_real_module, real_set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys_survive_their_worker, real_set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_recycling_a_real_worker, real_set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_token_that_vanishes_and_returns, real_set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sealing_a_real_module, real_set_up, tear_down),
    };
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    self[n > 0 ? n : 0] = 0;
    *strrchr(self, '/') = 0;
    snprintf(program, sizeof program, "%s/../coffer-hsm", self);
    if (access(program, X_OK) != 0) {
        fprintf(stderr, "build %s first\n", program);
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
