/* test_hsm_proto.c - frames between server and workers: there and back, cut at every byte, every limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/fault.h"
#include "hsm/proto.h"

static const struct bytes three[] = {{(const uint8_t *)"abc", 3}, {NULL, 0}, {(const uint8_t *)"\0\xff", 2}};

static void test_round_trip(void **state)
{
    struct buf b;
    struct hsm_frame f;
    size_t used;

    (void)state;
    buf_init(&b, 1 << 20);
    assert_int_equal(proto_put(&b, 0xdeadbeef, HSM_ENCRYPT, three, 3), ERR_OK);
    assert_int_equal(buf_size(&b), HSM_FRAME_HEADER + 3 * 4 + 5);
    assert_int_equal(proto_put(&b, 7, ERR_HSMDOWN, NULL, 0), ERR_OK);
    assert_int_equal(proto_get(buf_bytes(&b), &f, &used), ERR_OK);
    assert_true(f.id == 0xdeadbeef && f.code == HSM_ENCRYPT && f.parts == 3);
    for (unsigned i = 0; i < 3; i++)
        assert_true(bytes_equal(f.part[i], three[i]));
    buf_consume(&b, used);
    assert_int_equal(proto_get(buf_bytes(&b), &f, &used), ERR_OK);
    assert_true(f.id == 7 && f.code == ERR_HSMDOWN && f.parts == 0);
    assert_int_equal(used, buf_size(&b));
    buf_fini(&b);
}

/* The layout is a promise: bytes written out by hand. */
static void test_bytes_on_the_wire(void **state)
{
    static const uint8_t want[] = {17, 0, 0, 0, 0x78, 0x56, 0x34, 0x12, 3, 0, 2, 0, 1, 0, 0, 0, 'x', 0, 0, 0, 0};
    const struct bytes part[] = {{(const uint8_t *)"x", 1}, {NULL, 0}};
    struct buf b;

    (void)state;
    buf_init(&b, 1024);
    assert_int_equal(proto_put(&b, 0x12345678, HSM_RANDOM, part, 2), ERR_OK);
    assert_int_equal(buf_size(&b), sizeof want);
    assert_memory_equal(buf_data(&b), want, sizeof want);
    buf_fini(&b);
}

static void test_cut_at_every_byte(void **state)
{
    struct buf b;
    struct hsm_frame f;
    size_t used;

    (void)state;
    buf_init(&b, 1024);
    assert_int_equal(proto_put(&b, 1, 2, three, 3), ERR_OK);
    for (size_t n = 0; n < buf_size(&b); n++) {
        assert_int_equal(proto_get(bytes_of(buf_data(&b), n), &f, &used), ERR_AGAIN);
        assert_int_equal(used, n < 4 ? HSM_FRAME_HEADER : buf_size(&b));
        assert_int_equal(f.parts, 0);
    }
    buf_fini(&b);
}

static void test_malformed(void **state)
{
    static const struct {
        const char *what;
        uint8_t bytes[24];
        size_t n;
    } rows[] = {
        {"shorter than a header", {7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 12},
        {"over the limit, refused by its first bytes", {0xff, 0xff, 0xff, 0x7f}, 4},
        {"one byte over the limit", {0xfd, 0xff, 0x3f, 0}, 4},
        {"too many parts", {8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0}, 12},
        {"reserved byte", {8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 12},
        {"no room for the part's length", {10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, 14},
        {"part longer than the frame", {13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 0, 'x'}, 17},
        {"part length that wraps", {13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 'x'}, 17},
        {"bytes behind the last part", {13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 'x'}, 17},
        {"bytes and no parts", {9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 'x'}, 13},
    };
    struct hsm_frame f;
    size_t used;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (proto_get(bytes_of(rows[i].bytes, rows[i].n), &f, &used) != ERR_PROTOCOL)
            fail_msg("%s: not refused", rows[i].what);
    }
}

static void test_limits(void **state)
{
    struct bytes parts[HSM_PARTS_MAX + 1] = {{NULL, 0}};
    uint8_t *big = calloc(1, HSM_FRAME_MAX);
    struct hsm_frame f;
    struct buf b;
    size_t used;

    (void)state;
    buf_init(&b, 2 * HSM_FRAME_MAX);
    assert_int_equal(proto_put(&b, 1, 1, parts, HSM_PARTS_MAX), ERR_OK);
    buf_clear(&b);
    assert_int_equal(proto_put(&b, 1, 1, parts, HSM_PARTS_MAX + 1), ERR_TOOBIG);
    parts[0] = bytes_of(big, HSM_FRAME_MAX - HSM_FRAME_HEADER - 4);
    assert_int_equal(proto_put(&b, 1, 1, parts, 1), ERR_OK);
    assert_int_equal(buf_size(&b), HSM_FRAME_MAX);
    assert_int_equal(proto_get(buf_bytes(&b), &f, &used), ERR_OK);
    buf_clear(&b);
    parts[0].n++;
    assert_int_equal(proto_put(&b, 1, 1, parts, 1), ERR_TOOBIG);
    parts[0] = bytes_of(big, SIZE_MAX);
    assert_int_equal(proto_put(&b, 1, 1, parts, 1), ERR_TOOBIG);
    assert_int_equal(buf_size(&b), 0);
    buf_fini(&b);
    free(big);
}

static void test_failure_changes_nothing(void **state)
{
    struct buf b;

    (void)state;
    buf_init(&b, 64);
    assert_int_equal(proto_put(&b, 1, 2, three, 3), ERR_OK);
    assert_int_equal(proto_put(&b, 1, 2, three, 3), ERR_OK);
    assert_int_equal(proto_put(&b, 1, 2, three, 3), ERR_TOOBIG); /* the buffer's own limit */
    assert_int_equal(buf_size(&b), 2 * (HSM_FRAME_HEADER + 12 + 5));
    buf_fini(&b);
    for (long n = 1;; n++) {
        buf_init_secret(&b, 1 << 20);
        fault_arm(FAULT_MEM, n, 1);
        enum err e = proto_put(&b, 1, 2, three, 3);
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        assert_int_equal(e, fired ? ERR_OOM : ERR_OK);
        assert_int_equal(buf_size(&b), fired ? 0 : HSM_FRAME_HEADER + 12 + 5);
        buf_fini(&b);
        if (!fired)
            break;
    }
}

static void test_settings(void **state)
{
    struct buf b;

    (void)state;
    buf_init_secret(&b, 4096);
    assert_int_equal(proto_put_setting(&b, "module", bytes_str("/a.so")), ERR_OK);
    assert_int_equal(proto_put_setting(&b, "init", bytes_of(NULL, 0)), ERR_OK);
    assert_int_equal(proto_put_setting(&b, "pin", bytes_of("\0\n", 2)), ERR_OK);
    assert_int_equal(proto_put_setting(&b, "", bytes_str("x")), ERR_TOOBIG);
    assert_true(bytes_equal(proto_get_setting(buf_bytes(&b), "module"), bytes_str("/a.so")));
    assert_true(bytes_equal(proto_get_setting(buf_bytes(&b), "pin"), bytes_of("\0\n", 2)));
    assert_int_equal(proto_get_setting(buf_bytes(&b), "init").n, 0);
    assert_int_equal(proto_get_setting(buf_bytes(&b), "pi").n, 0);
    assert_int_equal(proto_get_setting(buf_bytes(&b), "nothing").n, 0);
    for (size_t n = 0; n < buf_size(&b); n++) /* cut anywhere: found whole or not at all */
        assert_true(proto_get_setting(bytes_of(buf_data(&b), n), "pin").n == 0);
    buf_fini(&b);
}

/* Row numbers are codes on the wire. */
static void test_codes_do_not_move(void **state)
{
    (void)state;
    assert_int_equal(HSM_START, 0);
    assert_int_equal(HSM_RANDOM, 3);
    assert_int_equal(HSM_DEK_OPEN, 8);
    assert_int_equal(HSM_VERIFYMAC, 19);
    assert_string_equal(hsm_ops[HSM_ENCRYPT].name, "ENCRYPT");
    for (unsigned i = 0; i < HSM_OPS; i++)
        assert_true(hsm_ops[i].name && hsm_ops[i].parts_in <= HSM_PARTS_MAX && hsm_ops[i].parts_out <= HSM_PARTS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_bytes_on_the_wire),
        cmocka_unit_test(test_cut_at_every_byte),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_failure_changes_nothing),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_codes_do_not_move),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
