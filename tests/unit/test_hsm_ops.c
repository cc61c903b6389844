/* test_hsm_ops.c - every operation of a worker, on SoftHSM2 and on NSS softokn, with blobs made on one used on the
 * other. What must be refused is in test_hsm_refuse.c. */
#include "tests/unit/hsm_pair.h"

/* ---- start ---- */

static void test_start_says_what_it_found(void **state)
{
    char id[64] = "realm:";
    struct rig r;

    (void)state;
    for (unsigned i = 0; i < REALM_ID_BYTES; i++)
        snprintf(id + 6 + 2 * i, 3, "%02x", on_soft.ops.token.realm[i]);
    rig_fini(&on_soft);
    assert_int_equal(rig_start_with(&r, &soft, soft.module, soft.token, soft.pin, "no", "64"), ERR_OK);
    assert_true(has_text(r.out[0], "manufacturer:SoftHSM project\n"));
    assert_true(has_text(r.out[0], "token:coffer\n"));
    assert_true(has_text(r.out[0], "kwp:0x210a\ntrusted:yes\ntemplates:yes\noaep:sha1\n"));
    assert_true(has_text(r.out[0], "AES_GCM,"));
    assert_true(has_text(r.out[0], id));
    rig_fini(&r);
    rig_start(&on_soft, &soft);

    assert_memory_equal(on_soft.ops.token.realm, on_nss.ops.token.realm, REALM_ID_BYTES);
    assert_int_equal(on_nss.ops.token.quirks.kwp, 0x210b);
    assert_true(on_nss.ops.token.quirks.oaep_sha256);
    assert_false(on_nss.ops.token.quirks.trusted);
}

static void test_uri_names_the_token(void **state)
{
    char uri[128];
    struct rig r;

    (void)state;
    snprintf(uri, sizeof uri, "pkcs11:token=coffer;serial=%s", on_soft.ops.token.serial);
    rig_fini(&on_soft);
    assert_int_equal(rig_start_with(&r, &soft, soft.module, uri, soft.pin, "no", "8"), ERR_OK);
    rig_fini(&r);
    assert_int_equal(
        rig_start_with(&r, &soft, soft.module, "pkcs11:token=coffer;serial=0000000000000000", soft.pin, "no", "8"),
        ERR_NOTFOUND);
    rig_fini(&r);
    assert_int_equal(rig_start_with(&r, &soft, soft.module, "pkcs11:token=coffer?pin-value=1234", soft.pin, "no", "8"),
                     ERR_SYNTAX);
    assert_int_equal(r.ops.fatal, WORKER_EXIT_CONFIG);
    rig_fini(&r);
    rig_start(&on_soft, &soft);
}

static void test_start_refusals(void **state)
{
    static const struct {
        const char *module, *token, *pin, *text;
        enum err e;
        enum worker_exit exit;
    } rows[] = {
        {"/nonexistent/module.so", NULL, NULL, "/nonexistent/module.so", ERR_NOTFOUND, WORKER_EXIT_CONFIG},
        {"relative.so", NULL, NULL, "absolute", ERR_NOTFOUND, WORKER_EXIT_CONFIG},
        {"/etc/passwd", NULL, NULL, "/etc/passwd", ERR_NOTFOUND, WORKER_EXIT_CONFIG},
        {"/lib/x86_64-linux-gnu/libz.so.1", NULL, NULL, "not a PKCS#11 module", ERR_NOTFOUND, WORKER_EXIT_CONFIG},
        {NULL, "nosuchtoken", NULL, "nosuchtoken", ERR_NOTFOUND, WORKER_EXIT_CONFIG},
        {NULL, "", NULL, "hsm-token", ERR_SYNTAX, WORKER_EXIT_CONFIG},
        {NULL, NULL, "wrong", "CKR_PIN_INCORRECT (not tried again", ERR_WRONGPASS, WORKER_EXIT_PIN},
        {NULL, NULL, "", "the PIN is empty", ERR_WRONGPASS, WORKER_EXIT_PIN},
    };
    struct rig r;

    (void)state;
    rig_fini(&on_soft);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(rig_start_with(&r, &soft, rows[i].module ? rows[i].module : soft.module,
                                        rows[i].token ? rows[i].token : soft.token,
                                        rows[i].pin ? rows[i].pin : soft.pin, "no", "8"),
                         rows[i].e);
        assert_int_equal(r.ops.fatal, rows[i].exit);
        if (!strstr(r.a.text, rows[i].text))
            fail_msg("'%s' does not say '%s'", r.a.text, rows[i].text);
        assert_int_equal(r.ops.token.m.calls[P11_CALL_Login], rows[i].pin && rows[i].pin[0]); /* one try, no more */
        rig_fini(&r);
    }
    rig_start(&on_soft, &soft);
}

static void test_requests_out_of_place(void **state)
{
    struct rig r;
    struct bytes part[2] = {none, none};

    (void)state;
    rig_init(&r);
    assert_int_equal(rig_run(&r, HSM_PROBE, 0, part), ERR_PROTOCOL); /* before START */
    assert_int_equal(r.ops.fatal, WORKER_EXIT_PROTOCOL);
    rig_fini(&r);
    assert_int_equal(rig_run(&on_soft, HSM_PROBE, 1, part), ERR_PROTOCOL); /* wrong number of parts */
    on_soft.ops.fatal = 0;
    assert_int_equal(rig_run(&on_soft, HSM_OPS, 0, part), ERR_PROTOCOL);
    on_soft.ops.fatal = 0;
    assert_int_equal(rig_run(&on_soft, HSM_START, 1, part), ERR_PROTOCOL); /* a second time */
    on_soft.ops.fatal = 0;
}

static void test_probe_info_random(void **state)
{
    uint8_t count[4];
    struct bytes first;
    uint8_t kept[16];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(rig_run(rigs[i], HSM_PROBE, 0, NULL), ERR_OK);
        assert_int_equal(rig_run(rigs[i], HSM_INFO, 0, NULL), ERR_OK);
        assert_true(has_text(rigs[i]->out[0], "objects-made:"));
        assert_true(has_text(rigs[i]->out[0], "op.PROBE:count="));
        assert_true(has_text(rigs[i]->out[0], "call.C_Login:count=1,"));
        put_le32(count, 16);
        assert_int_equal(RUN(rigs[i], HSM_RANDOM, bytes_of(count, 4)), ERR_OK);
        first = rigs[i]->out[0];
        assert_int_equal(first.n, 16);
        memcpy(kept, first.p, 16);
        assert_int_equal(RUN(rigs[i], HSM_RANDOM, bytes_of(count, 4)), ERR_OK);
        assert_memory_not_equal(kept, rigs[i]->out[0].p, 16);
        put_le32(count, 0);
        assert_int_equal(RUN(rigs[i], HSM_RANDOM, bytes_of(count, 4)), ERR_RANGE);
        assert_int_equal(RUN(rigs[i], HSM_RANDOM, bytes_of(count, 3)), ERR_RANGE);
        put_le32(count, RANDOM_MAX + 1);
        assert_int_equal(RUN(rigs[i], HSM_RANDOM, bytes_of(count, 4)), ERR_TOOBIG);
    }
}

/* Every node of a realm makes the same, whatever its module; and nobody gets a partition config signed by it. */
static void test_realm_mac(void **state)
{
    static uint8_t long_one[REALM_MAC_MAX + 1];
    uint8_t first[32], config[PARTITION_CONFIG_BYTES];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(RUN(rigs[i], HSM_REALM_MAC, bytes_str("message")), ERR_OK);
        assert_int_equal(rigs[i]->out[0].n, 32);
        if (i == 0)
            memcpy(first, rigs[i]->out[0].p, 32);
        else
            assert_memory_equal(first, rigs[i]->out[0].p, 32);
        assert_int_equal(RUN(rigs[i], HSM_REALM_MAC, bytes_str("massage")), ERR_OK);
        assert_memory_not_equal(first, rigs[i]->out[0].p, 32);
        assert_int_equal(RUN(rigs[i], HSM_REALM_MAC, none), ERR_OK);
        assert_int_equal(RUN(rigs[i], HSM_REALM_MAC, bytes_of(long_one, REALM_MAC_MAX)), ERR_OK);
        assert_int_equal(RUN(rigs[i], HSM_REALM_MAC, bytes_of(long_one, REALM_MAC_MAX + 1)), ERR_TOOBIG);
        assert_int_equal(RUN(rigs[i], HSM_PARTITION_NEW, bytes_of(long_one, 16)), ERR_OK);
        memcpy(config, rigs[i]->out[0].p, sizeof config);
        assert_int_equal(RUN(rigs[i], HSM_REALM_MAC, bytes_of(config, sizeof config - 32)), ERR_OK);
        assert_memory_not_equal(config + sizeof config - 32, rigs[i]->out[0].p, 32);
        assert_int_equal(RUN(rigs[i], HSM_PARTITION_DESTROY, bytes_of(config, sizeof config)), ERR_OK);
    }
}

/* ---- partitions and data keys ---- */

static void test_partition_life(void **state)
{
    struct blob config, again;
    struct partition_config c;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct rig *a = rigs[i], *b = rigs[1 - i];
        uint8_t id = (uint8_t)(0x10 + i);

        new_partition(a, id, &config);
        assert_int_equal(partition_parse(blob_bytes(&config), &c), ERR_OK);
        assert_int_equal(c.id.p[0], id);
        assert_memory_equal(c.realm.p, on_soft.ops.token.realm, REALM_ID_BYTES);
        assert_int_equal(in_token(a, id), 4);
        assert_int_equal(in_token(b, id), 0);
        assert_int_equal(RUN(b, HSM_PARTITION_IMPORT, blob_bytes(&config)), ERR_OK);
        assert_int_equal(in_token(b, id), 4);
        assert_int_equal(RUN(b, HSM_PARTITION_IMPORT, blob_bytes(&config)), ERR_OK); /* idempotent */
        assert_int_equal(in_token(b, id), 4);
        assert_int_equal(RUN(b, HSM_PARTITION_DESTROY, blob_bytes(&config)), ERR_OK);
        assert_int_equal(RUN(b, HSM_PARTITION_DESTROY, blob_bytes(&config)), ERR_OK);
        assert_int_equal(in_token(b, id), 0);
        assert_int_equal(in_token(a, id), 4);
        /* The same id made anew is another partition; importing the first one replaces it. */
        new_partition(b, id, &again);
        assert_memory_not_equal(config.mem, again.mem, config.n);
        assert_int_equal(RUN(b, HSM_PARTITION_IMPORT, blob_bytes(&config)), ERR_OK);
        assert_int_equal(in_token(b, id), 4);
    }
    assert_int_equal(RUN(&on_soft, HSM_PARTITION_NEW, bytes_of(text, 15)), ERR_RANGE);
}

static void test_restart_finds_partitions(void **state)
{
    struct blob config, masked;
    uint8_t mac[32];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        const struct node *n = i ? &nss : &soft;

        new_partition(rigs[i], 0x20, &config);
        new_key(rigs[i], &config, ALG_CODE_HMAC_SHA256, 1, 1, &masked, NULL);
        assert_int_equal(RUN(rigs[i], HSM_MAC, blob_bytes(&config), blob_bytes(&masked), message), ERR_OK);
        memcpy(mac, rigs[i]->out[0].p, 32);
        rig_fini(rigs[i]);
        rig_start(rigs[i], n);
        assert_true(partitions_in_token(rigs[i]->ops.partitions) >= 1);
        assert_int_equal(partitions_loaded(rigs[i]->ops.partitions), 0);
        assert_int_equal(RUN(rigs[i], HSM_MAC, blob_bytes(&config), blob_bytes(&masked), message), ERR_OK);
        assert_memory_equal(mac, rigs[i]->out[0].p, 32);
        assert_int_equal(partitions_loaded(rigs[i]->ops.partitions), 1);
        assert_int_equal(rigs[i]->ops.token.m.calls[P11_CALL_FindObjectsInit], 1); /* once, at start */
    }
    assert_int_equal(on_soft.ops.token.m.calls[P11_CALL_CopyObject], PARTITION_ROLES); /* the keys found then */
    assert_int_equal(on_soft.ops.token.m.failed[P11_CALL_CopyObject], 0);
}

static unsigned swept(struct rig *r, uint8_t prefix, struct bytes ids)
{
    assert_int_equal(RUN(r, HSM_PARTITION_SWEEP, bytes_of(&prefix, 1), ids), ERR_OK);
    assert_int_equal(r->out[0].n, 4);
    return get_le32(r->out[0].p);
}

/* Found at start, with the prefix, and not named. Its config makes it again. */
static void test_partitions_that_nobody_has_are_swept(void **state)
{
    struct blob lost, known, fresh;
    uint8_t ids[2 * PARTITION_ID_BYTES];

    (void)state;
    memset(ids, 0x31, PARTITION_ID_BYTES);
    memset(ids + PARTITION_ID_BYTES, 0x33, PARTITION_ID_BYTES);
    for (unsigned i = 0; i < 2; i++) {
        new_partition(rigs[i], 0x30, &lost);
        new_partition(rigs[i], 0x31, &known);
        rig_fini(rigs[i]);
        rig_start(rigs[i], i ? &nss : &soft);
        new_partition(rigs[i], 0x32, &fresh);
        assert_int_equal(swept(rigs[i], 0x31, bytes_of(ids, sizeof ids)), 0);
        assert_int_equal(swept(rigs[i], 0x32, bytes_of(ids, sizeof ids)), 0); /* made since */
        assert_int_equal(swept(rigs[i], 0x33, none), 0);
        assert_int_equal(in_token(rigs[i], 0x30), 4);
        assert_int_equal(swept(rigs[i], 0x30, bytes_of(ids, sizeof ids)), 1);
        assert_int_equal(swept(rigs[i], 0x30, bytes_of(ids, sizeof ids)), 0);
        assert_int_equal(in_token(rigs[i], 0x30), 0);
        assert_int_equal(in_token(rigs[i], 0x31), 4);
        assert_int_equal(in_token(rigs[i], 0x32), 4);
        assert_int_equal(RUN(rigs[i], HSM_PARTITION_IMPORT, blob_bytes(&lost)), ERR_OK);
        assert_int_equal(in_token(rigs[i], 0x30), 4);
        assert_int_equal(RUN(rigs[i], HSM_PARTITION_SWEEP, none, none), ERR_RANGE);
        assert_int_equal(RUN(rigs[i], HSM_PARTITION_SWEEP, bytes_of(ids, 17), none), ERR_RANGE);
        assert_int_equal(RUN(rigs[i], HSM_PARTITION_SWEEP, bytes_of(ids, 4), bytes_of(ids, 15)), ERR_RANGE);
    }
}

/* The token's objects of this id are another partition's: they are not believed, the config is. */
static void test_token_objects_of_another_config(void **state)
{
    struct blob first, second, key_of_first, key_of_second;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        const struct node *n = i ? &nss : &soft;

        new_partition(rigs[i], 0x28, &first);
        new_key(rigs[i], &first, ALG_CODE_HMAC_SHA256, 1, 1, &key_of_first, NULL);
        new_partition(rigs[i], 0x28, &second);
        new_key(rigs[i], &second, ALG_CODE_HMAC_SHA256, 1, 1, &key_of_second, NULL);
        rig_fini(rigs[i]);
        rig_start(rigs[i], n);
        for (unsigned round = 0; round < 2; round++) {
            struct rig *r = rigs[i];

            assert_int_equal(RUN(r, HSM_MAC, blob_bytes(&first), blob_bytes(&key_of_first), message), ERR_OK);
            assert_int_equal(RUN(r, HSM_MAC, blob_bytes(&second), blob_bytes(&key_of_second), message), ERR_OK);
            assert_int_equal(RUN(r, HSM_MAC, blob_bytes(&second), blob_bytes(&key_of_first), message), ERR_BADBLOB);
            assert_int_equal(RUN(r, HSM_MAC, blob_bytes(&first), blob_bytes(&key_of_second), message), ERR_BADBLOB);
        }
    }
}

static void test_data_keys(void **state)
{
    struct blob config, wrapped;
    uint8_t key[DEK_BYTES];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct rig *a = rigs[i], *b = rigs[1 - i];

        new_partition(a, (uint8_t)(0x30 + i), &config);
        assert_int_equal(RUN(a, HSM_DEK_NEW, blob_bytes(&config), bytes_str("vault 7, version 1")), ERR_OK);
        assert_int_equal(a->out[0].n, DEK_BYTES);
        assert_int_equal(a->out[1].n, DEK_WRAPPED_BYTES);
        memcpy(key, a->out[0].p, sizeof key);
        blob_keep(&wrapped, a->out[1]);
        /* Never imported there: the config is enough. */
        assert_int_equal(
            RUN(b, HSM_DEK_OPEN, blob_bytes(&config), bytes_str("vault 7, version 1"), blob_bytes(&wrapped)), ERR_OK);
        assert_int_equal(b->out[0].n, DEK_BYTES);
        assert_memory_equal(key, b->out[0].p, sizeof key);
        assert_int_equal(
            RUN(b, HSM_DEK_OPEN, blob_bytes(&config), bytes_str("vault 7, version 2"), blob_bytes(&wrapped)),
            ERR_BADBLOB);
        assert_int_equal(RUN(b, HSM_DEK_OPEN, blob_bytes(&config), bytes_str("vault 7, version 1"),
                             bytes_of(wrapped.mem, wrapped.n - 1)),
                         ERR_BADBLOB);
        for (size_t k = 0; k < wrapped.n; k++) {
            wrapped.mem[k] ^= 0x40;
            assert_int_equal(
                RUN(b, HSM_DEK_OPEN, blob_bytes(&config), bytes_str("vault 7, version 1"), blob_bytes(&wrapped)),
                ERR_BADBLOB);
            wrapped.mem[k] ^= 0x40;
        }
        assert_int_equal(
            RUN(a, HSM_DEK_OPEN, blob_bytes(&config), bytes_str("vault 7, version 1"), blob_bytes(&wrapped)), ERR_OK);
        assert_int_equal(b->ops.fatal, 0);
    }
}

static void check_wrapped_for_realm(struct rig *a, struct rig *b, struct blob *wrapped, const uint8_t key[DEK_BYTES])
{
    const struct bytes context = bytes_str("cell 7, LSN 9");

    assert_int_equal(RUN(b, HSM_REALM_DEK_OPEN, context, blob_bytes(wrapped)), ERR_OK);
    assert_int_equal(b->out[0].n, DEK_BYTES);
    assert_memory_equal(key, b->out[0].p, DEK_BYTES);
    assert_int_equal(RUN(b, HSM_REALM_DEK_OPEN, bytes_str("cell 7, LSN 8"), blob_bytes(wrapped)), ERR_BADBLOB);
    assert_int_equal(RUN(b, HSM_REALM_DEK_OPEN, none, blob_bytes(wrapped)), ERR_BADBLOB);
    for (size_t k = 0; k < wrapped->n; k++) {
        wrapped->mem[k] ^= 0x40;
        assert_int_equal(RUN(b, HSM_REALM_DEK_OPEN, context, blob_bytes(wrapped)), ERR_BADBLOB);
        wrapped->mem[k] ^= 0x40;
        assert_int_equal(RUN(b, HSM_REALM_DEK_OPEN, context, bytes_of(wrapped->mem, k)), ERR_BADBLOB);
    }
    assert_int_equal(RUN(a, HSM_REALM_DEK_OPEN, context, blob_bytes(wrapped)), ERR_OK);
    assert_int_equal(b->ops.fatal, 0);
    assert_int_equal(b->ops.healed, 0);
}

/* Neither node has seen the other's data key, and there is no partition in it. */
static void test_realm_data_keys(void **state)
{
    static uint8_t long_one[REALM_DEK_CONTEXT_MAX + 1];
    struct blob wrapped;
    uint8_t key[DEK_BYTES];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct rig *a = rigs[i], *b = rigs[1 - i];
        struct bytes longest = bytes_of(long_one, REALM_DEK_CONTEXT_MAX), longer = bytes_of(long_one, sizeof long_one);

        assert_int_equal(RUN(a, HSM_REALM_DEK_NEW, bytes_str("cell 7, LSN 9")), ERR_OK);
        assert_int_equal(a->out[0].n, DEK_BYTES);
        assert_int_equal(a->out[1].n, REALM_DEK_WRAPPED_BYTES);
        memcpy(key, a->out[0].p, sizeof key);
        blob_keep(&wrapped, a->out[1]);
        check_wrapped_for_realm(a, b, &wrapped, key);
        assert_int_equal(RUN(a, HSM_REALM_DEK_NEW, bytes_str("cell 7, LSN 9")), ERR_OK);
        assert_memory_not_equal(key, a->out[0].p, sizeof key);
        assert_int_equal(RUN(a, HSM_REALM_DEK_NEW, longest), ERR_OK);
        blob_keep(&wrapped, a->out[1]);
        assert_int_equal(RUN(b, HSM_REALM_DEK_OPEN, longest, blob_bytes(&wrapped)), ERR_OK);
        assert_int_equal(RUN(a, HSM_REALM_DEK_NEW, longer), ERR_TOOBIG);
        assert_int_equal(RUN(b, HSM_REALM_DEK_OPEN, longer, blob_bytes(&wrapped)), ERR_TOOBIG);
        assert_int_equal(RUN(a, HSM_REALM_DEK_NEW, none), ERR_OK);
    }
}

/* ---- keys, both ways ---- */

static void check_encryption(struct rig *a, struct rig *b, const struct blob *config, const struct blob *masked,
                             uint8_t id)
{
    uint8_t head[CIPHERTEXT_HEADER];
    struct blob sealed;
    struct ciphertext c;

    request_head(head, id, 3);
    assert_int_equal(RUN(a, HSM_ENCRYPT, blob_bytes(config), blob_bytes(masked), bytes_of(head, sizeof head),
                         bytes_str("aad"), message),
                     ERR_OK);
    blob_keep(&sealed, a->out[0]);
    assert_int_equal(ciphertext_parse(blob_bytes(&sealed), &c), ERR_OK);
    assert_int_equal(c.version, 3);
    assert_int_equal(c.id[0], id);
    assert_int_equal(RUN(b, HSM_DECRYPT, blob_bytes(config), blob_bytes(masked), bytes_str("aad"), blob_bytes(&sealed)),
                     ERR_OK);
    assert_int_equal(b->out[0].n, message.n);
    assert_memory_equal(b->out[0].p, text, message.n);
    assert_int_equal(RUN(b, HSM_DECRYPT, blob_bytes(config), blob_bytes(masked), bytes_str("aae"), blob_bytes(&sealed)),
                     ERR_BADCIPHERTEXT);
    for (size_t k = 0; k < sealed.n; k++) {
        sealed.mem[k] ^= 1;
        assert_int_equal(
            RUN(b, HSM_DECRYPT, blob_bytes(config), blob_bytes(masked), bytes_str("aad"), blob_bytes(&sealed)),
            ERR_BADCIPHERTEXT);
        sealed.mem[k] ^= 1;
        assert_int_equal(
            RUN(b, HSM_DECRYPT, blob_bytes(config), blob_bytes(masked), bytes_str("aad"), bytes_of(sealed.mem, k)),
            ERR_BADCIPHERTEXT);
    }
    assert_int_equal(b->ops.fatal, 0);
}

static void check_empty_and_large(struct rig *a, const struct blob *config, const struct blob *masked, uint8_t id)
{
    static uint8_t big[1 << 20], sealed[(1 << 20) + CIPHERTEXT_GCM_OVERHEAD];
    static const size_t sizes[] = {0, 1, 16, sizeof big};
    uint8_t head[CIPHERTEXT_HEADER];

    request_head(head, id, 3);
    memset(big, 0xa5, sizeof big);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_int_equal(RUN(a, HSM_ENCRYPT, blob_bytes(config), blob_bytes(masked), bytes_of(head, sizeof head), none,
                             bytes_of(big, sizes[i])),
                         ERR_OK);
        assert_int_equal(a->out[0].n, sizes[i] + CIPHERTEXT_GCM_OVERHEAD);
        memcpy(sealed, a->out[0].p, a->out[0].n);
        assert_int_equal(
            RUN(a, HSM_DECRYPT, blob_bytes(config), blob_bytes(masked), none, bytes_of(sealed, a->out[0].n)), ERR_OK);
        assert_int_equal(a->out[0].n, sizes[i]);
        if (sizes[i])
            assert_memory_equal(a->out[0].p, big, sizes[i]);
    }
}

static void check_datakey_and_rewrap(struct rig *a, struct rig *b, const struct blob *config, const struct blob *masked,
                                     uint8_t id)
{
    uint8_t head[CIPHERTEXT_HEADER], count[4], key[64];
    struct blob sealed, newer;

    request_head(head, id, 3);
    put_le32(count, 64);
    assert_int_equal(RUN(a, HSM_DATAKEY, blob_bytes(config), blob_bytes(masked), bytes_of(head, sizeof head),
                         bytes_str("x"), bytes_of(count, 4)),
                     ERR_OK);
    assert_int_equal(a->out[0].n, 64);
    memcpy(key, a->out[0].p, 64);
    blob_keep(&sealed, a->out[1]);
    new_key(a, config, ALG_CODE_AES_256, id, 4, &newer, NULL);
    request_head(head, id, 4);
    assert_int_equal(RUN(b, HSM_REWRAP, blob_bytes(config), blob_bytes(masked), blob_bytes(&newer),
                         bytes_of(head, sizeof head), bytes_str("x"), blob_bytes(&sealed)),
                     ERR_OK);
    blob_keep(&sealed, b->out[0]);
    assert_int_equal(RUN(a, HSM_DECRYPT, blob_bytes(config), blob_bytes(masked), bytes_str("x"), blob_bytes(&sealed)),
                     ERR_BADCIPHERTEXT); /* the old version */
    assert_int_equal(RUN(a, HSM_DECRYPT, blob_bytes(config), blob_bytes(&newer), bytes_str("x"), blob_bytes(&sealed)),
                     ERR_OK);
    assert_int_equal(a->out[0].n, 64);
    assert_memory_equal(a->out[0].p, key, 64);
    put_le32(count, DATAKEY_MAX + 1);
    assert_int_equal(RUN(a, HSM_DATAKEY, blob_bytes(config), blob_bytes(masked), bytes_of(head, sizeof head), none,
                         bytes_of(count, 4)),
                     ERR_RANGE);
}

static void test_aes(void **state)
{
    struct blob config, masked;
    uint8_t head[CIPHERTEXT_HEADER];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct rig *a = rigs[i], *b = rigs[1 - i];

        new_partition(a, (uint8_t)(0x40 + i), &config);
        new_key(a, &config, ALG_CODE_AES_256, 9, 3, &masked, NULL);
        assert_int_equal(masked.n, MASKED_OVERHEAD + 40);
        assert_int_equal(RUN(b, HSM_KEY_CHECK, blob_bytes(&config), blob_bytes(&masked)), ERR_OK);
        check_encryption(a, b, &config, &masked, 9);
        check_encryption(b, a, &config, &masked, 9);
        check_empty_and_large(a, &config, &masked, 9);
        check_datakey_and_rewrap(a, b, &config, &masked, 9);
        request_head(head, 9, 4); /* the header must name the key that is given */
        assert_int_equal(
            RUN(a, HSM_ENCRYPT, blob_bytes(&config), blob_bytes(&masked), bytes_of(head, sizeof head), none, message),
            ERR_BADBLOB);
        assert_int_equal(RUN(a, HSM_MAC, blob_bytes(&config), blob_bytes(&masked), message), ERR_KEYSTATE);
        assert_int_equal(RUN(a, HSM_SIGN, blob_bytes(&config), blob_bytes(&masked), bytes_of("\0\0", 2), message),
                         ERR_KEYSTATE);
    }
}

/* A key whose signatures are checked. */
struct signer {
    const struct blob *config, *masked;
    uint8_t code;
};

static int verifies(struct rig *r, const struct signer *k, int prehashed, struct bytes msg, struct bytes signature)
{
    uint8_t mode[2] = {k->code, (uint8_t)prehashed};

    assert_int_equal(
        RUN(r, HSM_VERIFY, blob_bytes(k->config), blob_bytes(k->masked), bytes_of(mode, 2), msg, signature), ERR_OK);
    assert_int_equal(r->out[0].n, 1);
    return r->out[0].p[0];
}

static void check_signatures(struct rig *a, struct rig *b, const struct blob *config, const struct alg *alg,
                             const struct blob *masked, uint8_t code)
{
    const struct sig *s = sig_for(alg, code);
    const struct signer k = {config, masked, code};
    uint8_t mode[2] = {code, 0}, digest[64];
    struct blob sig, other;
    unsigned n;

    assert_int_equal(RUN(a, HSM_SIGN, blob_bytes(config), blob_bytes(masked), bytes_of(mode, 2), message), ERR_OK);
    blob_keep(&sig, a->out[0]);
    assert_true(verifies(b, &k, 0, message, blob_bytes(&sig)));
    assert_false(verifies(b, &k, 0, bytes_of(text, message.n - 1), blob_bytes(&sig)));
    other = *masked; /* somebody else's public key: nothing but the HMAC vouches for it */
    other.mem[40 + 30] ^= 1;
    assert_int_equal(
        RUN(b, HSM_VERIFY, blob_bytes(config), blob_bytes(&other), bytes_of(mode, 2), message, blob_bytes(&sig)),
        ERR_BADBLOB);
    sig.mem[sig.n - 1] ^= 1;
    assert_false(verifies(b, &k, 0, message, blob_bytes(&sig)));
    assert_false(verifies(b, &k, 0, message, none));
    assert_false(verifies(b, &k, 0, message, bytes_str("nonsense")));
    if (!s->digest_bytes) {
        mode[1] = 1;
        assert_int_equal(RUN(a, HSM_SIGN, blob_bytes(config), blob_bytes(masked), bytes_of(mode, 2), message),
                         ERR_RANGE);
        return;
    }
    /* A digest computed elsewhere signs and verifies like the message. */
    assert_int_equal(pubkey_digest(s, 0, message, digest, &(size_t){0}), ERR_OK);
    n = s->digest_bytes;
    mode[1] = 1;
    assert_int_equal(RUN(b, HSM_SIGN, blob_bytes(config), blob_bytes(masked), bytes_of(mode, 2), bytes_of(digest, n)),
                     ERR_OK);
    blob_keep(&sig, b->out[0]);
    assert_true(verifies(a, &k, 0, message, blob_bytes(&sig)));
    assert_true(verifies(a, &k, 1, bytes_of(digest, n), blob_bytes(&sig)));
    assert_int_equal(
        RUN(b, HSM_SIGN, blob_bytes(config), blob_bytes(masked), bytes_of(mode, 2), bytes_of(digest, n - 1)),
        ERR_RANGE);
}

static void test_signatures(void **state)
{
    static const struct {
        uint8_t alg, other; /* another signature algorithm of the key; a wrong one */
        uint8_t wrong;
    } rows[] = {
        {ALG_CODE_EC_P256, SIG_ECDSA_SHA256, SIG_ECDSA_SHA384},
        {ALG_CODE_EC_P384, SIG_ECDSA_SHA384, SIG_ECDSA_SHA256},
        {ALG_CODE_RSA_2048, SIG_RSA_PKCS1_SHA256, SIG_ECDSA_SHA256},
        {ALG_CODE_ED25519, SIG_ED25519, SIG_RSA_PSS_SHA256},
    };
    struct blob config, masked, der;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct rig *a = rigs[i], *b = rigs[1 - i];

        new_partition(a, (uint8_t)(0x50 + i), &config);
        for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
            const struct alg *alg = alg_by_code(rows[k].alg);
            uint8_t wrong[2] = {rows[k].wrong, 0};
            int ok;

            new_key(a, &config, rows[k].alg, (uint8_t)k, 1, &masked, &der);
            check_signatures(a, b, &config, alg, &masked, SIG_NONE);
            check_signatures(b, a, &config, alg, &masked, rows[k].other);
            assert_int_equal(RUN(b, HSM_SIGN, blob_bytes(&config), blob_bytes(&masked), bytes_of(wrong, 2), message),
                             ERR_KEYSTATE);
            assert_int_equal(
                RUN(b, HSM_VERIFY, blob_bytes(&config), blob_bytes(&masked), bytes_of(wrong, 2), message, message),
                ERR_RANGE);
            assert_int_equal(RUN(b, HSM_SIGN, blob_bytes(&config), blob_bytes(&masked), bytes_of("\0\2", 2), message),
                             ERR_SYNTAX);
            assert_int_equal(pubkey_verify(bytes_of(der.mem, der.n - 1), SIG_NONE, 0, message, message, &ok),
                             ERR_RANGE);
        }
    }
}

static void test_rsa_sizes(void **state)
{
    static const uint8_t algs[] = {ALG_CODE_RSA_3072, ALG_CODE_RSA_4096};
    struct blob config, masked, der;

    (void)state;
    new_partition(&on_soft, 0x60, &config);
    for (size_t k = 0; k < sizeof algs; k++) {
        new_key(&on_soft, &config, algs[k], (uint8_t)k, 1, &masked, &der);
        check_signatures(&on_soft, &on_nss, &config, alg_by_code(algs[k]), &masked, SIG_NONE);
    }
}

static void test_rsa_encryption(void **state)
{
    struct blob config, masked, der, sealed;
    uint8_t head[CIPHERTEXT_HEADER];
    struct ciphertext c;

    (void)state;
    request_head(head, 5, 1);
    for (unsigned i = 0; i < 2; i++) {
        struct rig *a = rigs[i], *b = rigs[1 - i];
        struct bytes h = bytes_of(head, sizeof head);

        new_partition(a, (uint8_t)(0x64 + i), &config);
        new_key(a, &config, ALG_CODE_RSA_2048, 5, 1, &masked, &der);
        assert_int_equal(RUN(a, HSM_ENCRYPT, blob_bytes(&config), blob_bytes(&masked), h, none, message), ERR_OK);
        blob_keep(&sealed, a->out[0]);
        assert_int_equal(ciphertext_parse(blob_bytes(&sealed), &c), ERR_OK);
        assert_int_equal(c.cipher, a == &on_soft ? CIPHER_RSA_OAEP_SHA1 : CIPHER_RSA_OAEP_SHA256);
        assert_int_equal(RUN(a, HSM_DECRYPT, blob_bytes(&config), blob_bytes(&masked), none, blob_bytes(&sealed)),
                         ERR_OK);
        assert_memory_equal(a->out[0].p, text, message.n);
        /* SoftHSM knows SHA-1 only and says so; NSS opens both. */
        assert_int_equal(RUN(b, HSM_DECRYPT, blob_bytes(&config), blob_bytes(&masked), none, blob_bytes(&sealed)),
                         b == &on_soft ? ERR_UNSUPPORTED : ERR_OK);
        assert_int_equal(RUN(a, HSM_ENCRYPT, blob_bytes(&config), blob_bytes(&masked), h, bytes_str("aad"), message),
                         ERR_UNSUPPORTED);
        assert_int_equal(RUN(a, HSM_ENCRYPT, blob_bytes(&config), blob_bytes(&masked), h, none, bytes_of(der.mem, 250)),
                         ERR_TOOBIG);
        assert_int_equal(RUN(a, HSM_ENCRYPT, blob_bytes(&config), blob_bytes(&masked), h, none, none), ERR_OK);
        for (size_t k = 0; k < sealed.n; k += k < CIPHERTEXT_HEADER ? 1 : 16) {
            enum err e;

            sealed.mem[k] ^= 2;
            e = RUN(a, HSM_DECRYPT, blob_bytes(&config), blob_bytes(&masked), none, blob_bytes(&sealed));
            assert_true(e == ERR_BADCIPHERTEXT ||
                        (e == ERR_UNSUPPORTED && k == 5)); /* 5: the cipher byte, here of the other hash */
            sealed.mem[k] ^= 2;
        }
        memset(sealed.mem + CIPHERTEXT_HEADER, 0xff, sealed.n - CIPHERTEXT_HEADER); /* as a number above the modulus */
        assert_int_equal(RUN(a, HSM_DECRYPT, blob_bytes(&config), blob_bytes(&masked), none, blob_bytes(&sealed)),
                         ERR_BADCIPHERTEXT);
        assert_int_equal(a->ops.fatal, 0);
    }
}

static void test_macs(void **state)
{
    struct blob config, masked;
    uint8_t mac[32];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct rig *a = rigs[i], *b = rigs[1 - i];

        new_partition(a, (uint8_t)(0x70 + i), &config);
        new_key(a, &config, ALG_CODE_HMAC_SHA256, 1, 1, &masked, NULL);
        assert_int_equal(RUN(a, HSM_MAC, blob_bytes(&config), blob_bytes(&masked), message), ERR_OK);
        assert_int_equal(a->out[0].n, 32);
        memcpy(mac, a->out[0].p, 32);
        assert_int_equal(RUN(b, HSM_VERIFYMAC, blob_bytes(&config), blob_bytes(&masked), message, bytes_of(mac, 32)),
                         ERR_OK);
        assert_int_equal(b->out[0].p[0], 1);
        mac[31] ^= 1;
        assert_int_equal(RUN(b, HSM_VERIFYMAC, blob_bytes(&config), blob_bytes(&masked), message, bytes_of(mac, 32)),
                         ERR_OK);
        assert_int_equal(b->out[0].p[0], 0);
        mac[31] ^= 1;
        assert_int_equal(RUN(b, HSM_VERIFYMAC, blob_bytes(&config), blob_bytes(&masked), message, bytes_of(mac, 31)),
                         ERR_OK);
        assert_int_equal(b->out[0].p[0], 0);
        assert_int_equal(RUN(b, HSM_VERIFYMAC, blob_bytes(&config), blob_bytes(&masked), none, bytes_of(mac, 32)),
                         ERR_OK);
        assert_int_equal(b->out[0].p[0], 0);
        assert_int_equal(RUN(a, HSM_MAC, blob_bytes(&config), blob_bytes(&masked), none),
                         ERR_OK); /* of nothing: still a MAC */
    }
}

static void test_hsm_only_refuses_software_keys(void **state)
{
    struct blob config, masked;
    uint8_t head[MASKED_KEY_HEADER];
    struct rig r;

    (void)state;
    new_partition(&on_soft, 0x78, &config);
    new_key(&on_soft, &config, ALG_CODE_ED25519, 1, 1, &masked, NULL);
    rig_fini(&on_soft);
    assert_int_equal(rig_start_with(&r, &soft, soft.module, soft.token, soft.pin, "yes", "8"), ERR_OK);
    key_head(head, ALG_CODE_ED25519, 7, 2, 1);
    assert_int_equal(RUN(&r, HSM_KEY_NEW, blob_bytes(&config), bytes_of(head, sizeof head)), ERR_UNSUPPORTED);
    assert_int_equal(RUN(&r, HSM_SIGN, blob_bytes(&config), blob_bytes(&masked), bytes_of("\0\0", 2), message),
                     ERR_UNSUPPORTED);
    rig_fini(&r);
    rig_start(&on_soft, &soft);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start_says_what_it_found),
        cmocka_unit_test(test_uri_names_the_token),
        cmocka_unit_test(test_start_refusals),
        cmocka_unit_test(test_requests_out_of_place),
        cmocka_unit_test(test_probe_info_random),
        cmocka_unit_test(test_realm_mac),
        cmocka_unit_test(test_partition_life),
        cmocka_unit_test(test_restart_finds_partitions),
        cmocka_unit_test(test_partitions_that_nobody_has_are_swept),
        cmocka_unit_test(test_token_objects_of_another_config),
        cmocka_unit_test(test_data_keys),
        cmocka_unit_test(test_realm_data_keys),
        cmocka_unit_test(test_aes),
        cmocka_unit_test(test_signatures),
        cmocka_unit_test(test_rsa_sizes),
        cmocka_unit_test(test_rsa_encryption),
        cmocka_unit_test(test_macs),
        cmocka_unit_test(test_hsm_only_refuses_software_keys),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
