/* test_hsm_faults.c - a module that fails: every call of an operation, one after the other, with each kind of return
 * value; lost sessions and logins; a wrong PIN on the way back; no memory. Each time there must be one clean error or
 * none, and then it must work again.
 *
 * The module is tests/shim/p11fault.c around SoftHSM2. */
#include "tests/unit/hsm_fixture.h"

#include <dlfcn.h>
#include <errno.h>

#include "base/fault.h"

static char root[PATH_MAX], shim[PATH_MAX];
static struct node node;
static struct rig rig;
static struct blob config, aes, mac_key, ec, sealed, realm_dek;
static void (*arm)(const char *function, long nth, unsigned long rv);
static long (*fired)(void);

static const struct bytes none = {0};

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

static void start(void)
{
    rig_start(&rig, &node);
}

static void restart(void)
{
    rig_fini(&rig);
    start();
}

static enum err mac_now(void)
{
    return RUN(&rig, HSM_MAC, blob_bytes(&config), blob_bytes(&mac_key), bytes_str("message"));
}

static enum err do_realm_dek(void)
{
    return RUN(&rig, HSM_REALM_DEK_NEW, bytes_str("context"));
}

static int set_up(void **state)
{
    uint8_t head[CIPHERTEXT_HEADER];

    (void)state;
    assert_int_equal(mem_init(1), ERR_OK);
    find_shim();
    make_temp_dir(root);
    node_softhsm(&node, root, "node", NULL);
    setenv("P11FAULT_MODULE", node.module, 1);
    snprintf(node.module, sizeof node.module, "%s", shim);
    start();
    new_partition(&rig, 1, &config);
    new_key(&rig, &config, ALG_CODE_AES_256, 1, 1, &aes, NULL);
    new_key(&rig, &config, ALG_CODE_HMAC_SHA256, 2, 1, &mac_key, NULL);
    new_key(&rig, &config, ALG_CODE_EC_P256, 3, 1, &ec, NULL);
    request_head(head, 1, 1);
    assert_int_equal(RUN(&rig, HSM_ENCRYPT, blob_bytes(&config), blob_bytes(&aes), bytes_of(head, sizeof head), none,
                         bytes_str("secret")),
                     ERR_OK);
    blob_keep(&sealed, rig.out[0]);
    assert_int_equal(do_realm_dek(), ERR_OK);
    blob_keep(&realm_dek, rig.out[1]);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    rig_fini(&rig);
    remove_tree(root);
    return 0;
}

/* ---- every call of an operation ---- */

/* The same id each time: what an earlier one left in the token is replaced, half-made or whole. */
static enum err do_partition_new(void)
{
    uint8_t id[PARTITION_ID_BYTES];

    memset(id, 0x20, sizeof id);
    return RUN(&rig, HSM_PARTITION_NEW, bytes_of(id, sizeof id));
}

static enum err do_import(void)
{
    return RUN(&rig, HSM_PARTITION_IMPORT, blob_bytes(&config));
}

static enum err do_key_new(void)
{
    uint8_t head[MASKED_KEY_HEADER];

    key_head(head, ALG_CODE_AES_256, 7, 9, 1);
    return RUN(&rig, HSM_KEY_NEW, blob_bytes(&config), bytes_of(head, sizeof head));
}

static enum err do_key_new_ec(void)
{
    uint8_t head[MASKED_KEY_HEADER];

    key_head(head, ALG_CODE_EC_P256, 7, 9, 1);
    return RUN(&rig, HSM_KEY_NEW, blob_bytes(&config), bytes_of(head, sizeof head));
}

static enum err do_encrypt(void)
{
    uint8_t head[CIPHERTEXT_HEADER];

    request_head(head, 1, 1);
    return RUN(&rig, HSM_ENCRYPT, blob_bytes(&config), blob_bytes(&aes), bytes_of(head, sizeof head), none,
               bytes_str("secret"));
}

static enum err do_decrypt(void)
{
    return RUN(&rig, HSM_DECRYPT, blob_bytes(&config), blob_bytes(&aes), none, blob_bytes(&sealed));
}

static enum err do_sign(void)
{
    return RUN(&rig, HSM_SIGN, blob_bytes(&config), blob_bytes(&ec), bytes_of("\0\0", 2), bytes_str("message"));
}

static enum err do_dek(void)
{
    return RUN(&rig, HSM_DEK_NEW, blob_bytes(&config), bytes_str("context"));
}

static enum err do_realm_dek_open(void)
{
    return RUN(&rig, HSM_REALM_DEK_OPEN, bytes_str("context"), blob_bytes(&realm_dek));
}

static enum err do_random(void)
{
    return RUN(&rig, HSM_RANDOM, bytes_of("\x20\0\0\0", 4));
}

static enum err do_probe(void)
{
    return rig_run(&rig, HSM_PROBE, 0, NULL);
}

static const struct {
    const char *name;
    enum err (*run)(void);
    int cold; /* forget everything first: the way includes loading the partition and unmasking the key */
    int slow; /* writes token objects, which takes SoftHSM milliseconds: only every third return value is tried */
} operations[] = {
    {"create partition", do_partition_new, 0, 1},
    {"import partition", do_import, 1, 1},
    {"new key", do_key_new, 0, 0},
    {"new key pair", do_key_new_ec, 0, 0},
    {"encrypt", do_encrypt, 0, 0},
    {"unmask, encrypt", do_encrypt, 1, 0},
    {"decrypt", do_decrypt, 0, 0},
    {"unmask, decrypt", do_decrypt, 1, 0},
    {"sign", do_sign, 0, 0},
    {"unmask, sign", do_sign, 1, 0},
    {"data key", do_dek, 0, 0},
    {"new data key of the realm", do_realm_dek, 0, 0},
    {"data key of the realm", do_realm_dek_open, 0, 0},
    {"random", do_random, 0, 0},
    {"probe", do_probe, 0, 0},
};

static const CK_RV values[] = {
    CKR_DEVICE_ERROR,     CKR_GENERAL_ERROR,      CKR_FUNCTION_FAILED,       CKR_SESSION_HANDLE_INVALID,
    CKR_OPERATION_ACTIVE, CKR_USER_NOT_LOGGED_IN, CKR_OBJECT_HANDLE_INVALID, CKR_KEY_HANDLE_INVALID,
    CKR_DEVICE_MEMORY,    CKR_MECHANISM_INVALID,  CKR_ARGUMENTS_BAD,         CKR_VENDOR_DEFINED | 0x1234,
};

/* Errors that may come of a module that fails once; what matters is that the answer is never wrong data, and the worker
 * knows whether to end. */
static int is_clean(enum err e)
{
    return e == ERR_HSMDOWN || e == ERR_BADCIPHERTEXT || e == ERR_BADBLOB || e == ERR_UNSUPPORTED ||
           e == ERR_INTERNAL || e == ERR_TOOBIG;
}

static void go_cold(int cold)
{
    if (cold) {
        keys_drop(rig.ops.keys);
        partitions_drop(rig.ops.partitions);
    }
    p11_clear(&rig.ops.token.m);
}

static void fail_each_call(const char *name, enum err (*run)(void), int cold, CK_RV rv)
{
    char spare[24];

    for (long n = 1; n < 500; n++) {
        enum err e;

        go_cold(cold);
        arm("*", n, rv);
        e = run();
        long hit = fired();
        arm("*", 0, 0);
        if (e != ERR_OK && !is_clean(e))
            fail_msg("%s, call %ld fails with %s: %s, %s", name, n, p11_rv_name(rv, spare), err_name(e), rig.a.text);
        if (!hit) {
            assert_int_equal(e, ERR_OK);
            return;
        }
        if (rig.ops.fatal) {
            if (e != ERR_HSMDOWN)
                fail_msg("%s, call %ld fails with %s: %s, and the worker would end", name, n, p11_rv_name(rv, spare),
                         err_name(e));
            restart();
        } else if (e != ERR_OK && rv == CKR_DEVICE_ERROR) {
            fail_msg("%s, call %ld: %s, and the worker would go on", name, n, err_name(e));
        }
        go_cold(cold);
        e = run();
        if (e != ERR_OK)
            fail_msg("%s after call %ld had failed with %s: %s, %s", name, n, p11_rv_name(rv, spare), err_name(e),
                     rig.a.text);
    }
    fail_msg("%s does not end", name);
}

static void test_every_call_fails_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        for (size_t k = 0; k < sizeof values / sizeof values[0]; k += operations[i].slow ? 3 : 1)
            fail_each_call(operations[i].name, operations[i].run, operations[i].cold, values[k]);
    }
}

/* Errors that are healed inside the worker must not be seen at all, wherever they strike. */
static void test_lost_session_is_not_seen(void **state)
{
    static const CK_RV healed[] = {CKR_SESSION_HANDLE_INVALID, CKR_OPERATION_ACTIVE, CKR_USER_NOT_LOGGED_IN,
                                   CKR_OBJECT_HANDLE_INVALID};
    static const char *const at[] = {"C_EncryptInit", "C_Encrypt", "C_SignInit", "C_UnwrapKey"};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        for (size_t k = 0; k < 4; k++) {
            go_cold(1);
            arm(at[k], 1, healed[i]);
            if (do_encrypt() != ERR_OK)
                fail_msg("%s fails with %#lx: %s", at[k], healed[i], rig.a.text);
            assert_int_equal(fired(), 1);
            arm("*", 0, 0);
            assert_int_equal(rig.ops.fatal, 0);
        }
    }
}

static void test_start_fails_at_every_call(void **state)
{
    static const CK_RV start_values[] = {CKR_DEVICE_ERROR, CKR_GENERAL_ERROR, CKR_TOKEN_NOT_PRESENT,
                                         CKR_FUNCTION_NOT_SUPPORTED};

    (void)state;
    for (size_t k = 0; k < sizeof start_values / sizeof start_values[0]; k++) {
        for (long n = 1;; n++) {
            rig_fini(&rig);
            arm("*", n, start_values[k]);
            enum err e = rig_start_with(&rig, &node, node.module, node.token, node.pin, "no", "64");
            long hit = fired();
            arm("*", 0, 0);
            if (e != ERR_OK)
                assert_true(rig.ops.fatal != 0 && e != ERR_WRONGPASS);
            if (!hit) {
                assert_int_equal(e, ERR_OK);
                break;
            }
            if (e != ERR_OK) {
                rig_fini(&rig);
                start();
            }
            assert_int_equal(do_decrypt(), ERR_OK); /* also when the failure was one that start-up can live with */
        }
    }
    restart();
}

/* ---- what each return value means ---- */

static void test_policies(void **state)
{
    static const struct {
        CK_RV rv;
        enum p11_policy policy;
        const char *name;
    } rows[] = {
        {CKR_OK, P11_FINE, "CKR_OK"},
        {CKR_ENCRYPTED_DATA_INVALID, P11_DATA, "CKR_ENCRYPTED_DATA_INVALID"},
        {CKR_GENERAL_ERROR, P11_DOUBT, "CKR_GENERAL_ERROR"},
        {CKR_SESSION_CLOSED, P11_SESSION, "CKR_SESSION_CLOSED"},
        {CKR_USER_NOT_LOGGED_IN, P11_LOGIN, "CKR_USER_NOT_LOGGED_IN"},
        {CKR_DEVICE_MEMORY, P11_DROP, "CKR_DEVICE_MEMORY"},
        {CKR_DEVICE_REMOVED, P11_WORKER, "CKR_DEVICE_REMOVED"},
        {CKR_CRYPTOKI_NOT_INITIALIZED, P11_WORKER, "CKR_CRYPTOKI_NOT_INITIALIZED"},
        {CKR_PIN_INCORRECT, P11_PIN, "CKR_PIN_INCORRECT"},
        {CKR_PIN_LOCKED, P11_PIN, "CKR_PIN_LOCKED"},
        {CKR_MECHANISM_INVALID, P11_ABSENT, "CKR_MECHANISM_INVALID"},
        {CKR_TEMPLATE_INCONSISTENT, P11_BUG, "CKR_TEMPLATE_INCONSISTENT"},
        {CKR_VENDOR_DEFINED | 7, P11_WORKER, "CKR_0x80000007"},
        {0x7777, P11_WORKER, "CKR_0x7777"},
    };
    char spare[24];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(p11_rv_policy(rows[i].rv), rows[i].policy);
        assert_string_equal(p11_rv_name(rows[i].rv, spare), rows[i].name);
    }
}

/* A general error means bad data only while the device is well. */
static void test_doubt_is_settled_by_a_probe(void **state)
{
    char control[PATH_MAX + 16];

    (void)state;
    arm("C_Decrypt", 1, CKR_GENERAL_ERROR);
    assert_int_equal(do_decrypt(), ERR_BADCIPHERTEXT);
    assert_int_equal(rig.ops.fatal, 0);
    arm("*", 0, 0);
    assert_int_equal(do_decrypt(), ERR_OK);

    snprintf(control, sizeof control, "%s/control", root);
    write_text(control, "C_Decrypt 1 rv 5\nC_GetTokenInfo 0 rv 5\n");
    setenv("P11FAULT_CTL", control, 1);
    assert_int_equal(do_decrypt(), ERR_HSMDOWN);
    assert_int_equal(rig.ops.fatal, WORKER_EXIT_DEVICE);
    assert_non_null(strstr(rig.a.text, "C_Decrypt: CKR_GENERAL_ERROR"));
    unsetenv("P11FAULT_CTL");
    restart();
    assert_int_equal(do_decrypt(), ERR_OK);
}

static void test_error_text_names_call_and_value(void **state)
{
    (void)state;
    arm("C_GenerateKey", 1, CKR_DEVICE_REMOVED);
    assert_int_equal(do_key_new(), ERR_HSMDOWN);
    arm("*", 0, 0);
    assert_string_equal(rig.a.text, "C_GenerateKey: CKR_DEVICE_REMOVED");
    assert_int_equal(rig.ops.fatal, WORKER_EXIT_DEVICE);
    restart();
}

/* ---- sessions and logins really lost ---- */

static CK_FUNCTION_LIST *fn(void)
{
    return rig.ops.token.m.fn;
}

static void test_closed_session(void **state)
{
    uint64_t logins = rig.ops.token.m.calls[P11_CALL_Login];

    (void)state;
    assert_int_equal(mac_now(), ERR_OK);
    assert_int_equal(fn()->C_CloseSession(rig.ops.token.session), CKR_OK);
    assert_int_equal(mac_now(), ERR_OK);
    assert_int_equal(rig.ops.token.m.calls[P11_CALL_Login], logins); /* the keeper held the login */
}

static void test_all_sessions_closed(void **state)
{
    uint64_t logins = rig.ops.token.m.calls[P11_CALL_Login];

    (void)state;
    assert_int_equal(mac_now(), ERR_OK);
    assert_int_equal(fn()->C_CloseAllSessions(rig.ops.token.slot), CKR_OK);
    assert_int_equal(mac_now(), ERR_OK);
    assert_int_equal(do_decrypt(), ERR_OK);
    assert_int_equal(rig.ops.token.m.calls[P11_CALL_Login], logins + 1);
    assert_int_equal(rig.ops.fatal, 0);
}

static void test_logged_out(void **state)
{
    uint64_t logins = rig.ops.token.m.calls[P11_CALL_Login];

    (void)state;
    assert_int_equal(mac_now(), ERR_OK);
    assert_int_equal(fn()->C_Logout(rig.ops.token.keeper), CKR_OK);
    assert_int_equal(mac_now(), ERR_OK);
    assert_int_equal(do_sign(), ERR_OK);
    assert_int_equal(rig.ops.token.m.calls[P11_CALL_Login], logins + 1);
    assert_int_equal(rig.ops.fatal, 0);
}

/* The PIN was changed while we were logged in: one try, then never again. */
static void test_wrong_pin_on_the_way_back(void **state)
{
    uint64_t logins = rig.ops.token.m.calls[P11_CALL_Login];

    (void)state;
    buf_data(&rig.ops.token.pin)[0] ^= 1;
    assert_int_equal(fn()->C_Logout(rig.ops.token.keeper), CKR_OK);
    assert_int_equal(mac_now(), ERR_HSMDOWN);
    assert_int_equal(rig.ops.fatal, WORKER_EXIT_PIN);
    assert_int_equal(mac_now(), ERR_HSMDOWN);
    assert_int_equal(do_probe(), ERR_HSMDOWN);
    assert_int_equal(rig.ops.token.m.calls[P11_CALL_Login], logins + 1);
    restart();
}

static void test_pin_values_at_login(void **state)
{
    static const CK_RV pin_values[] = {CKR_PIN_INCORRECT, CKR_PIN_EXPIRED, CKR_PIN_LOCKED, CKR_USER_ALREADY_LOGGED_IN,
                                       CKR_USER_PIN_NOT_INITIALIZED};

    (void)state;
    for (size_t i = 0; i < sizeof pin_values / sizeof pin_values[0]; i++) {
        rig_fini(&rig);
        arm("C_Login", 1, pin_values[i]);
        assert_int_equal(rig_start_with(&rig, &node, node.module, node.token, node.pin, "no", "64"), ERR_WRONGPASS);
        arm("*", 0, 0);
        assert_int_equal(rig.ops.fatal, WORKER_EXIT_PIN);
        assert_int_equal(rig.ops.token.m.calls[P11_CALL_Login], 1);
    }
    restart();
}

/* Flags of the token under which a login must not even be tried. */
static CK_FLAGS flags_set, flags_unset;
static CK_FUNCTION_LIST *genuine;

static CK_RV info_with_flags(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    CK_RV rv = genuine->C_GetTokenInfo(slot, info);

    info->flags = (info->flags | flags_set) & ~flags_unset;
    return rv;
}

static void test_flags_forbid_login(void **state)
{
    static const struct {
        CK_FLAGS set, unset;
        const char *text; /* NULL: login is tried */
    } rows[] = {
        {CKF_USER_PIN_LOCKED, 0, "locked"},
        {CKF_USER_PIN_FINAL_TRY, 0, "one try is left"},
        {CKF_USER_PIN_TO_BE_CHANGED, 0, "must be changed"},
        {0, CKF_TOKEN_INITIALIZED, "not initialised"},
        {0, CKF_USER_PIN_INITIALIZED, "no user PIN"},
        {CKF_USER_PIN_COUNT_LOW, 0, NULL},
    };
    CK_FUNCTION_LIST fake = *fn();
    struct token *t = &rig.ops.token;
    char why[128];

    (void)state;
    genuine = fn();
    fake.C_GetTokenInfo = info_with_flags;
    t->m.fn = &fake;
    assert_int_equal(genuine->C_Logout(t->keeper), CKR_OK);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t logins = t->m.calls[P11_CALL_Login];

        flags_set = rows[i].set;
        flags_unset = rows[i].unset;
        assert_int_equal(token_login(t, why, sizeof why), rows[i].text ? ERR_WRONGPASS : ERR_OK);
        assert_int_equal(t->m.calls[P11_CALL_Login] - logins, rows[i].text ? 0 : 1);
        if (rows[i].text && !strstr(why, rows[i].text))
            fail_msg("'%s' does not say '%s'", why, rows[i].text);
    }
    t->m.fn = genuine;
    restart();
}

/* ---- a disk that fails: SoftHSM's files are synced by us ---- */

static void test_sync_of_token_files_fails(void **state)
{
    unsigned failures = 0;

    (void)state;
    for (long n = 1; n < 500; n++) {
        fault_arm(FAULT_FILE, n, EIO);
        enum err e = do_partition_new();
        int hit = fault_fired(FAULT_FILE);
        fault_disarm(FAULT_FILE);
        assert_int_equal(e, hit ? ERR_IO : ERR_OK);
        if (!hit)
            break;
        failures++;
        assert_int_equal(rig.ops.fatal, 0);
    }
    assert_true(failures > 10); /* two files for each of four keys, and their directory */
    assert_int_equal(do_partition_new(), ERR_OK);
}

/* ---- no memory ---- */

static void test_no_memory(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        for (long n = 1; n < 500; n++) {
            go_cold(operations[i].cold);
            fault_arm(FAULT_MEM, n, 1);
            enum err e = operations[i].run();
            int hit = fault_fired(FAULT_MEM);
            fault_disarm(FAULT_MEM);
            if (!hit) {
                assert_int_equal(e, ERR_OK);
                break;
            }
            if (e != ERR_OOM && e != ERR_OK)
                fail_msg("%s, allocation %ld: %s", operations[i].name, n, err_name(e));
            assert_int_equal(rig.ops.fatal, 0);
            go_cold(operations[i].cold);
            assert_int_equal(operations[i].run(), ERR_OK);
        }
    }
}

static void test_start_without_memory(void **state)
{
    (void)state;
    for (long n = 1;; n++) {
        rig_fini(&rig);
        rig_init(&rig);
        node_select(&node);
        struct buf s;
        buf_init_secret(&s, 65536);
        assert_int_equal(proto_put_setting(&s, "module", bytes_str(node.module)), ERR_OK);
        assert_int_equal(proto_put_setting(&s, "token", bytes_str(node.token)), ERR_OK);
        assert_int_equal(proto_put_setting(&s, "pin", bytes_str(node.pin)), ERR_OK);
        fault_arm(FAULT_MEM, n, 1);
        enum err e = RUN(&rig, HSM_START, buf_bytes(&s));
        int hit = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        buf_fini(&s);
        if (e != (hit ? ERR_OOM : ERR_OK))
            fail_msg("allocation %ld: %s, %s", n, err_name(e), rig.a.text);
        if (!hit)
            break;
        assert_int_equal(rig.ops.fatal, WORKER_EXIT_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_call_fails_once),
        cmocka_unit_test(test_lost_session_is_not_seen),
        cmocka_unit_test(test_start_fails_at_every_call),
        cmocka_unit_test(test_policies),
        cmocka_unit_test(test_doubt_is_settled_by_a_probe),
        cmocka_unit_test(test_error_text_names_call_and_value),
        cmocka_unit_test(test_closed_session),
        cmocka_unit_test(test_all_sessions_closed),
        cmocka_unit_test(test_logged_out),
        cmocka_unit_test(test_wrong_pin_on_the_way_back),
        cmocka_unit_test(test_pin_values_at_login),
        cmocka_unit_test(test_flags_forbid_login),
        cmocka_unit_test(test_sync_of_token_files_fails),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_start_without_memory),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
