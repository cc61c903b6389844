/* Operations in a record's blob. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/fault.h"
#include "engine/ops.h"

static void layout_is_as_documented(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 4096);
    assert_int_equal(ops_put(&b, 0x0201, bytes_str("key"), bytes_str("value")), ERR_OK);
    assert_int_equal(ops_delete(&b, 3, bytes_str("gone")), ERR_OK);
    static const uint8_t want[] = {1,   0,   1, 2, 3, 0, 0, 0, 5, 0, 0, 0, 'k', 'e', 'y', 'v', 'a', 'l',
                                   'u', 'e', 2, 0, 3, 0, 4, 0, 0, 0, 0, 0, 0,   0,   'g', 'o', 'n', 'e'};
    assert_int_equal(buf_size(&b), sizeof want);
    assert_memory_equal(buf_data(&b), want, sizeof want);
    buf_fini(&b);
}

static void operations_come_back_in_order(void **state)
{
    (void)state;
    struct buf b;
    struct op op;
    buf_init(&b, 1 << 20);
    for (uint16_t i = 0; i < 300; i++) {
        uint8_t key[2] = {(uint8_t)(i >> 8), (uint8_t)i}, value[300] = {0};
        enum err e =
            i % 3 == 2 ? ops_delete(&b, i, bytes_of(key, 2)) : ops_put(&b, i, bytes_of(key, 2), bytes_of(value, i));
        assert_int_equal(e, ERR_OK);
    }
    struct bytes in = buf_bytes(&b);
    for (uint16_t i = 0; i < 300; i++) {
        assert_int_equal(ops_next(&in, &op), ERR_OK);
        assert_int_equal(op.kind, i % 3 == 2 ? OPS_DELETE : OPS_PUT);
        assert_int_equal(op.store, i);
        assert_int_equal(op.key.n, 2);
        assert_int_equal(op.key.p[1], i & 255);
        assert_int_equal(op.value.n, i % 3 == 2 ? 0 : i);
    }
    assert_int_equal(ops_next(&in, &op), ERR_END);
    buf_fini(&b);
}

static void malformed_operations_are_refused_and_nothing_is_taken(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
        const char *what;
    } rows[] = {
        {0, 0, "kind 0"},    {0, 3, "kind 3"},         {0, 2, "delete with a value"},   {1, 1, "byte 1"},
        {4, 0, "empty key"}, {4, 200, "key too long"}, {5, 1, "key far too long"},      {6, 1, "byte 6"},
        {7, 1, "byte 7"},    {8, 6, "value too long"}, {11, 255, "value far too long"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct buf b;
        struct op op;
        buf_init(&b, 4096);
        assert_int_equal(ops_put(&b, 1, bytes_str("key"), bytes_str("value")), ERR_OK);
        buf_data(&b)[rows[i].at] = rows[i].value;
        struct bytes in = buf_bytes(&b);
        if (ops_next(&in, &op) != ERR_CORRUPT)
            fail_msg("%s passed", rows[i].what);
        assert_ptr_equal(in.p, buf_data(&b));
        assert_int_equal(in.n, buf_size(&b));
        assert_null(op.key.p);
        buf_fini(&b);
    }
}

static void every_cut_is_found(void **state)
{
    (void)state;
    struct buf b;
    struct op op;
    buf_init(&b, 4096);
    assert_int_equal(ops_put(&b, 1, bytes_str("key"), bytes_str("value")), ERR_OK);
    for (size_t n = 1; n < buf_size(&b); n++) {
        uint8_t *exact = malloc(n);
        assert_non_null(exact);
        memcpy(exact, buf_data(&b), n);
        struct bytes in = bytes_of(exact, n);
        assert_int_equal(ops_next(&in, &op), ERR_CORRUPT);
        free(exact);
    }
    buf_fini(&b);
}

static void limits_are_kept_and_failures_change_nothing(void **state)
{
    (void)state;
    uint8_t *big = calloc(1, 70000);
    struct buf b;
    struct op op;
    assert_non_null(big);
    buf_init(&b, 66000);
    assert_int_equal(ops_put(&b, 1, bytes_of(NULL, 0), bytes_str("v")), ERR_TOOBIG);
    assert_int_equal(ops_delete(&b, 1, bytes_of(NULL, 0)), ERR_TOOBIG);
    assert_int_equal(ops_put(&b, 1, bytes_of(big, 65536), bytes_of(NULL, 0)), ERR_TOOBIG);
    assert_int_equal(ops_put(&b, 1, bytes_str("k"), bytes_of(big, 70000)), ERR_TOOBIG);
    assert_int_equal(ops_put(&b, 1, bytes_str("k"), bytes_of(big, (size_t)UINT32_MAX + 1)), ERR_TOOBIG);
    assert_int_equal(buf_size(&b), 0);
    assert_int_equal(ops_put(&b, 1, bytes_of(big, 65535), bytes_of(NULL, 0)), ERR_OK);
    struct bytes in = buf_bytes(&b);
    assert_int_equal(ops_next(&in, &op), ERR_OK);
    assert_int_equal(op.key.n, 65535);
    buf_fini(&b);
    free(big);

    buf_init(&b, 4096);
    for (long n = 1;; n++) {
        fault_arm(FAULT_MEM, n, 1);
        enum err e = ops_put(&b, 1, bytes_str("key"), bytes_str("value"));
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        if (!fired)
            break;
        assert_int_equal(e, ERR_OOM);
        assert_int_equal(buf_size(&b), 0);
    }
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout_is_as_documented),
        cmocka_unit_test(operations_come_back_in_order),
        cmocka_unit_test(malformed_operations_are_refused_and_nothing_is_taken),
        cmocka_unit_test(every_cut_is_found),
        cmocka_unit_test(limits_are_kept_and_failures_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
