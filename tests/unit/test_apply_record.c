/* apply_record: the operations of a committed record into the hot table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/fault.h"
#include "engine/apply.h"

static struct record record_of(const struct buf *ops, uint64_t lsn)
{
    return (struct record){.lsn = lsn, .type = RECORD_TXN, .blob = buf_bytes(ops)};
}

static uint64_t visible(struct hot *h, uint16_t store, const char *key)
{
    struct blob *v;
    uint64_t token, lsn = 0;
    if (hot_get(h, store, bytes_str(key), &v, &token)) {
        lsn = v->tombstone ? UINT64_MAX : v->lsn;
        blob_unref(v);
    }
    return lsn;
}

static void a_record_is_applied_as_a_whole_or_not_at_all(void **state)
{
    (void)state;
    struct hot *h;
    struct buf ops;
    uint64_t skip[3] = {0, 8, 7};
    assert_int_equal(hot_new(&h, 1 << 20), ERR_OK);
    buf_init(&ops, 1 << 16);
    assert_int_equal(ops_put(&ops, 0, bytes_str("a"), bytes_str("v")), ERR_OK);
    assert_int_equal(ops_put(&ops, 1, bytes_str("b"), bytes_str("")), ERR_OK);
    assert_int_equal(ops_delete(&ops, 2, bytes_str("c")), ERR_OK);
    struct record r = record_of(&ops, 8);
    assert_int_equal(apply_record(h, &r, NULL, 2), ERR_CORRUPT); /* there is no store 2 */
    assert_int_equal(visible(h, 0, "a"), 0);
    assert_int_equal(apply_record(h, &r, skip, 3), ERR_OK);
    assert_int_equal(visible(h, 0, "a"), 8);
    assert_int_equal(visible(h, 1, "b"), 0); /* it has that already */
    assert_int_equal(visible(h, 2, "c"), UINT64_MAX);
    assert_int_equal(apply_record(h, &r, NULL, 3), ERR_OK);
    assert_int_equal(visible(h, 1, "b"), 8);

    r.lsn = 9;
    for (size_t n = 1; n < buf_size(&ops); n++) { /* cut anywhere but between operations */
        r.blob = bytes_of(buf_data(&ops), n);
        int whole = n == OPS_HEADER_BYTES + 2 || n == 2 * OPS_HEADER_BYTES + 3;
        if (!whole)
            assert_int_equal(apply_record(h, &r, NULL, 3), ERR_CORRUPT);
    }
    assert_int_equal(visible(h, 0, "a"), 8);
    buf_clear(&ops);
    assert_int_equal(ops_put(&ops, 0, bytes_str("a"), bytes_str("v")), ERR_OK);
    assert_int_equal(ops_put(&ops, 0, bytes_of("\0a", 2), bytes_str("v")), ERR_OK);
    r.blob = buf_bytes(&ops);
    assert_int_equal(apply_record(h, &r, NULL, 3), ERR_CORRUPT); /* a store's own key */
    assert_int_equal(visible(h, 0, "a"), 8);
    r.blob = bytes_of(NULL, 0);
    assert_int_equal(apply_record(h, &r, NULL, 3), ERR_OK); /* a barrier */
    buf_fini(&ops);
    hot_free(h);
}

static void a_record_may_be_applied_again_after_it_ran_out_of_memory(void **state)
{
    (void)state;
    struct buf ops;
    long n;
    buf_init(&ops, 1 << 16);
    assert_int_equal(ops_put(&ops, 0, bytes_str("a"), bytes_str("v")), ERR_OK);
    assert_int_equal(ops_delete(&ops, 1, bytes_str("b")), ERR_OK);
    for (n = 1;; n++) {
        struct hot *h;
        struct record r = record_of(&ops, 3);
        assert_int_equal(hot_new(&h, 1 << 20), ERR_OK);
        fault_arm(FAULT_MEM, n, 1);
        enum err e = apply_record(h, &r, NULL, 2);
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        assert_int_equal(e, fired ? ERR_OOM : ERR_OK);
        if (fired)
            assert_int_equal(apply_record(h, &r, NULL, 2), ERR_OK);
        hot_set_published(h, 3);
        assert_int_equal(visible(h, 0, "a"), 3);
        assert_int_equal(visible(h, 1, "b"), UINT64_MAX);
        hot_free(h);
        if (!fired)
            break;
    }
    assert_true(n > 5);
    buf_fini(&ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_is_applied_as_a_whole_or_not_at_all),
        cmocka_unit_test(a_record_may_be_applied_again_after_it_ran_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
