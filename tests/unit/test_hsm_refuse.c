/* test_hsm_refuse.c - what a worker must refuse, on SoftHSM2 and on NSS softokn: blobs that were tampered with or
 * moved, other realms; what its cache must not confuse; and a token that is lost, which must not be taken for one
 * without keys. */
#include "tests/unit/hsm_pair.h"

/* ---- blobs ---- */

static void test_tampered_masked_object(void **state)
{
    static const uint8_t algs[] = {ALG_CODE_HMAC_SHA256, ALG_CODE_EC_P256, ALG_CODE_ED25519};
    struct blob config, masked;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct rig *r = rigs[i];

        new_partition(r, (uint8_t)(0x80 + i), &config);
        for (size_t k = 0; k < sizeof algs; k++) {
            new_key(r, &config, algs[k], 1, 1, &masked, NULL);
            for (int warm = 0; warm < 2; warm++) { /* cold, then with the genuine key in the cache */
                for (size_t at = 0; at < masked.n; at++) {
                    masked.mem[at] ^= 0x10;
                    assert_int_equal(RUN(r, HSM_KEY_CHECK, blob_bytes(&config), blob_bytes(&masked)), ERR_BADBLOB);
                    if (algs[k] == ALG_CODE_HMAC_SHA256)
                        assert_int_equal(RUN(r, HSM_MAC, blob_bytes(&config), blob_bytes(&masked), message),
                                         ERR_BADBLOB);
                    else
                        assert_int_equal(
                            RUN(r, HSM_SIGN, blob_bytes(&config), blob_bytes(&masked), bytes_of("\0\0", 2), message),
                            ERR_BADBLOB);
                    masked.mem[at] ^= 0x10;
                }
                if (algs[k] == ALG_CODE_HMAC_SHA256)
                    assert_int_equal(RUN(r, HSM_MAC, blob_bytes(&config), blob_bytes(&masked), message), ERR_OK);
                else
                    assert_int_equal(
                        RUN(r, HSM_SIGN, blob_bytes(&config), blob_bytes(&masked), bytes_of("\0\0", 2), message),
                        ERR_OK);
            }
            assert_int_equal(RUN(r, HSM_KEY_CHECK, blob_bytes(&config), bytes_of(masked.mem, masked.n - 1)),
                             ERR_BADBLOB);
        }
        assert_int_equal(r->ops.fatal, 0);
    }
}

static void test_moved_masked_object(void **state)
{
    struct blob config, other, masked, moved;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct rig *r = rigs[i];

        new_partition(r, (uint8_t)(0x84 + i), &config);
        new_partition(r, (uint8_t)(0x86 + i), &other);
        new_key(r, &config, ALG_CODE_HMAC_SHA256, 1, 1, &masked, NULL);
        assert_int_equal(RUN(r, HSM_MAC, blob_bytes(&config), blob_bytes(&masked), message), ERR_OK); /* cached */
        assert_int_equal(RUN(r, HSM_MAC, blob_bytes(&other), blob_bytes(&masked), message),
                         ERR_BADBLOB);                      /* another vault's partition */
        key_head(moved.mem, ALG_CODE_HMAC_SHA256, 7, 1, 2); /* another version, key, vault: only the header differs */
        memcpy(moved.mem + MASKED_KEY_HEADER, masked.mem + MASKED_KEY_HEADER, masked.n - MASKED_KEY_HEADER);
        moved.n = masked.n;
        assert_int_equal(RUN(r, HSM_MAC, blob_bytes(&config), blob_bytes(&moved), message), ERR_BADBLOB);
        key_head(moved.mem, ALG_CODE_HMAC_SHA256, 7, 2, 1);
        assert_int_equal(RUN(r, HSM_MAC, blob_bytes(&config), blob_bytes(&moved), message), ERR_BADBLOB);
        key_head(moved.mem, ALG_CODE_HMAC_SHA256, 8, 1, 1);
        assert_int_equal(RUN(r, HSM_MAC, blob_bytes(&config), blob_bytes(&moved), message), ERR_BADBLOB);
        key_head(moved.mem, ALG_CODE_AES_256, 7, 1, 1);
        assert_int_equal(RUN(r, HSM_KEY_CHECK, blob_bytes(&config), blob_bytes(&moved)), ERR_BADBLOB);
        key_head(moved.mem, ALG_CODE_HMAC_SHA256, 7, 1, 1);
        assert_int_equal(RUN(r, HSM_MAC, blob_bytes(&config), blob_bytes(&moved), message), ERR_OK);
    }
}

static void test_tampered_config(void **state)
{
    struct blob config;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct rig *r = rigs[i];

        new_partition(r, (uint8_t)(0x8a + i), &config);
        for (size_t at = 0; at < config.n; at++) {
            config.mem[at] ^= 4;
            assert_int_equal(RUN(r, HSM_DEK_NEW, blob_bytes(&config), none), ERR_BADBLOB);
            assert_int_equal(RUN(r, HSM_PARTITION_IMPORT, blob_bytes(&config)), ERR_BADBLOB);
            assert_int_equal(RUN(r, HSM_PARTITION_DESTROY, blob_bytes(&config)), ERR_BADBLOB);
            config.mem[at] ^= 4;
        }
        assert_int_equal(RUN(r, HSM_DEK_NEW, blob_bytes(&config), none), ERR_OK);
        assert_int_equal(in_token(r, (uint8_t)(0x8a + i)), 4);
        assert_int_equal(RUN(r, HSM_DEK_NEW, bytes_of(config.mem, config.n - 1), none), ERR_BADBLOB);
        assert_int_equal(r->ops.fatal, 0);
    }
}

static void test_other_realm(void **state)
{
    struct blob config, foreign;
    struct rig r;

    (void)state;
    new_partition(&on_soft, 0x90, &config);
    rig_fini(&on_soft);
    rig_start(&r, &stranger);
    assert_int_equal(RUN(&r, HSM_PARTITION_IMPORT, blob_bytes(&config)), ERR_BADBLOB);
    assert_int_equal(RUN(&r, HSM_DEK_NEW, blob_bytes(&config), none), ERR_BADBLOB);
    assert_int_equal(in_token(&r, 0x90), 0);
    new_partition(&r, 0x90, &foreign);
    rig_fini(&r);
    rig_start(&on_soft, &soft);
    assert_int_equal(RUN(&on_soft, HSM_DEK_NEW, blob_bytes(&foreign), none), ERR_BADBLOB);
    assert_int_equal(RUN(&on_nss, HSM_PARTITION_IMPORT, blob_bytes(&foreign)), ERR_BADBLOB);
    /* Renaming the realm in the config does not help: the MAC key is the realm's. */
    memcpy(foreign.mem + 8, on_soft.ops.token.realm, REALM_ID_BYTES);
    assert_int_equal(RUN(&on_soft, HSM_DEK_NEW, blob_bytes(&foreign), none), ERR_BADBLOB);
    assert_int_equal(RUN(&on_soft, HSM_DEK_NEW, blob_bytes(&config), none), ERR_OK);
}

static void test_data_key_of_another_realm(void **state)
{
    struct blob ours, foreign;
    struct rig r;

    (void)state;
    assert_int_equal(RUN(&on_soft, HSM_REALM_DEK_NEW, bytes_str("context")), ERR_OK);
    blob_keep(&ours, on_soft.out[1]);
    rig_fini(&on_soft);
    rig_start(&r, &stranger);
    assert_int_equal(RUN(&r, HSM_REALM_DEK_OPEN, bytes_str("context"), blob_bytes(&ours)), ERR_BADBLOB);
    assert_int_equal(RUN(&r, HSM_REALM_DEK_NEW, bytes_str("context")), ERR_OK);
    blob_keep(&foreign, r.out[1]);
    assert_int_equal(r.ops.fatal, 0);
    rig_fini(&r);
    rig_start(&on_soft, &soft);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(RUN(rigs[i], HSM_REALM_DEK_OPEN, bytes_str("context"), blob_bytes(&foreign)), ERR_BADBLOB);
        assert_int_equal(RUN(rigs[i], HSM_REALM_DEK_OPEN, bytes_str("context"), blob_bytes(&ours)), ERR_OK);
    }
}

/* ---- the cache ---- */

static void test_cache_holds_no_more_than_its_limit(void **state)
{
    struct blob config, masked[6];
    struct keys_stats s;
    struct rig r;

    (void)state;
    new_partition(&on_soft, 0xa0, &config);
    for (uint8_t k = 0; k < 6; k++)
        new_key(&on_soft, &config, ALG_CODE_HMAC_SHA256, k, 1, &masked[k], NULL);
    rig_fini(&on_soft);
    assert_int_equal(rig_start_with(&r, &soft, soft.module, soft.token, soft.pin, "no", "4"), ERR_OK);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned k = 0; k < 4; k++)
            assert_int_equal(RUN(&r, HSM_MAC, blob_bytes(&config), blob_bytes(&masked[k]), message), ERR_OK);
    }
    keys_stats(r.ops.keys, &s);
    assert_true(s.cached == 4 && s.misses == 4 && s.hits == 8);
    /* 0 is the least recently used: it goes, the others stay. */
    assert_int_equal(RUN(&r, HSM_MAC, blob_bytes(&config), blob_bytes(&masked[5]), message), ERR_OK);
    for (unsigned k = 1; k < 4; k++)
        assert_int_equal(RUN(&r, HSM_MAC, blob_bytes(&config), blob_bytes(&masked[k]), message), ERR_OK);
    keys_stats(r.ops.keys, &s);
    assert_true(s.cached == 4 && s.misses == 5 && s.hits == 11);
    assert_int_equal(RUN(&r, HSM_MAC, blob_bytes(&config), blob_bytes(&masked[0]), message), ERR_OK);
    keys_stats(r.ops.keys, &s);
    assert_int_equal(s.misses, 6);
    rig_fini(&r);
    rig_start(&on_soft, &soft);
}

static void test_recreated_partition_does_not_hit_old_keys(void **state)
{
    struct blob config, again, masked;

    (void)state;
    new_partition(&on_soft, 0xa4, &config);
    new_key(&on_soft, &config, ALG_CODE_HMAC_SHA256, 1, 1, &masked, NULL);
    assert_int_equal(RUN(&on_soft, HSM_MAC, blob_bytes(&config), blob_bytes(&masked), message), ERR_OK);
    assert_int_equal(RUN(&on_soft, HSM_PARTITION_DESTROY, blob_bytes(&config)), ERR_OK);
    new_partition(&on_soft, 0xa4, &again);
    assert_int_equal(RUN(&on_soft, HSM_MAC, blob_bytes(&again), blob_bytes(&masked), message), ERR_BADBLOB);
}

/* ---- a lost token ---- */

static char tokens[PATH_MAX + 16], away[PATH_MAX + 16];

/* Starts on the stranger's token, has it vanish, and runs one operation that must look at the token. */
static void check_lost(enum hsm_op op, unsigned n, struct bytes part)
{
    struct rig r;

    rig_start(&r, &stranger);
    assert_int_equal(rename(tokens, away), 0);
    assert_int_equal(rig_run(&r, op, n, &part), ERR_HSMDOWN);
    assert_int_equal(r.ops.fatal, WORKER_EXIT_DEVICE);
    assert_int_not_equal(access(tokens, F_OK), 0);                 /* nothing was made */
    assert_int_equal(rig_run(&r, HSM_INFO, 0, NULL), ERR_HSMDOWN); /* and nothing goes on */
    rig_fini(&r);
    assert_int_equal(rename(away, tokens), 0);
}

static void test_deleted_token_directory(void **state)
{
    char why[256];
    struct provision p = {.dir = stranger.dir};
    struct blob config, masked;
    uint8_t id[PARTITION_ID_BYTES] = {1};
    struct rig r;

    (void)state;
    rig_fini(&on_soft);
    rig_start(&r, &stranger);
    new_partition(&r, 0xb0, &config);
    new_key(&r, &config, ALG_CODE_HMAC_SHA256, 1, 1, &masked, NULL);
    rig_fini(&r);
    snprintf(tokens, sizeof tokens, "%s/tokens", stranger.dir);
    snprintf(away, sizeof away, "%s/tokens.away", stranger.dir);
    check_lost(HSM_PROBE, 0, none);
    check_lost(HSM_PARTITION_NEW, 1, bytes_of(id, sizeof id));
    check_lost(HSM_PARTITION_IMPORT, 1, blob_bytes(&config));
    check_lost(HSM_PARTITION_DESTROY, 1, blob_bytes(&config));

    /* A new worker does not find the token, and provisioning does not make another. */
    assert_int_equal(rename(tokens, away), 0);
    assert_int_not_equal(rig_start_with(&r, &stranger, stranger.module, stranger.token, stranger.pin, "no", "8"),
                         ERR_OK);
    rig_fini(&r);
    assert_int_equal(provision(&p, why, sizeof why), ERR_NOTFOUND);
    rmdir(tokens); /* provisioning keeps the empty directory in place */
    assert_int_equal(rename(away, tokens), 0);
    rig_start(&r, &stranger);
    assert_int_equal(RUN(&r, HSM_MAC, blob_bytes(&config), blob_bytes(&masked), message), ERR_OK);
    rig_fini(&r);

    /* Lost for good: rejoining remakes it from the realm file, and the log's configs bring the partitions back. */
    remove_tree(tokens);
    p.rejoin = 1;
    if (provision(&p, why, sizeof why) != ERR_OK)
        fail_msg("rejoin: %s", why);
    rig_start(&r, &stranger);
    assert_int_equal(in_token(&r, 0xb0), 0);
    assert_int_equal(RUN(&r, HSM_PARTITION_IMPORT, blob_bytes(&config)), ERR_OK);
    assert_int_equal(in_token(&r, 0xb0), 4);
    assert_int_equal(RUN(&r, HSM_MAC, blob_bytes(&config), blob_bytes(&masked), message), ERR_OK);
    rig_fini(&r);
    rig_start(&on_soft, &soft);
}

static void test_exchanged_token_is_said(void **state)
{
    struct rig r;

    (void)state;
    rig_fini(&on_soft);
    rig_start(&r, &stranger);
    r.ops.token.serial[0] ^= 1;
    assert_int_equal(rig_run(&r, HSM_PROBE, 0, NULL), ERR_HSMDOWN);
    assert_string_equal(r.a.text, "probe: the token is not the one it was");
    assert_int_equal(r.ops.fatal, WORKER_EXIT_DEVICE);
    rig_fini(&r);
    rig_start(&on_soft, &soft);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tampered_masked_object),
        cmocka_unit_test(test_moved_masked_object),
        cmocka_unit_test(test_tampered_config),
        cmocka_unit_test(test_other_realm),
        cmocka_unit_test(test_data_key_of_another_realm),
        cmocka_unit_test(test_cache_holds_no_more_than_its_limit),
        cmocka_unit_test(test_recreated_partition_does_not_hit_old_keys),
        cmocka_unit_test(test_deleted_token_directory),
        cmocka_unit_test(test_exchanged_token_is_said),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
