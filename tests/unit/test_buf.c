/* Buffers, and the byte ranges of bytes.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fault.h"
#include "base/mem.h"

static void init(struct buf *b, int secret, size_t limit)
{
    if (secret)
        buf_init_secret(b, limit);
    else
        buf_init(b, limit);
}

static void assert_holds(const struct buf *b, const void *want, size_t n)
{
    assert_int_equal(buf_size(b), n);
    if (n)
        assert_memory_equal(buf_data(b), want, n);
}

static void assert_zero(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(p[i], 0);
}

static void starts_empty_and_owns_nothing(void **state)
{
    (void)state;
    for (int secret = 0; secret < 2; secret++) {
        struct buf b;
        uint8_t *room = (uint8_t *)1;
        init(&b, secret, 100);
        assert_null(b.mem);
        assert_int_equal(b.secret, secret);
        assert_int_equal(buf_size(&b), 0);
        assert_null(buf_data(&b));
        assert_int_equal(buf_bytes(&b).n, 0);
        assert_int_equal(buf_put(&b, NULL, 0), ERR_OK);
        assert_int_equal(buf_reserve(&b, 0, &room), ERR_OK);
        assert_null(room);
        buf_consume(&b, 0);
        buf_truncate(&b, 0);
        buf_clear(&b);
        buf_shrink(&b, 0);
        buf_fini(&b);
        buf_fini(&b);
    }
}

static void puts_numbers_little_endian(void **state)
{
    struct buf b;
    (void)state;
    buf_init(&b, 100);
    assert_int_equal(buf_put_u8(&b, 0x01), ERR_OK);
    assert_int_equal(buf_put_le16(&b, 0x0302), ERR_OK);
    assert_int_equal(buf_put_le32(&b, 0x07060504), ERR_OK);
    assert_int_equal(buf_put_le64(&b, 0x0f0e0d0c0b0a0908), ERR_OK);
    assert_holds(&b, "\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17", 15);
    buf_fini(&b);
}

static void doubles_from_512_up_to_the_limit(void **state)
{
    struct buf b;
    (void)state;
    buf_init(&b, 1500);
    assert_int_equal(buf_put(&b, "x", 1), ERR_OK);
    assert_int_equal(b.cap, 512);
    for (int i = 1; i < 513; i++)
        assert_int_equal(buf_put(&b, "x", 1), ERR_OK);
    assert_int_equal(b.cap, 1024);
    for (int i = 513; i < 1500; i++)
        assert_int_equal(buf_put(&b, "x", 1), ERR_OK);
    assert_int_equal(b.cap, 1500);
    assert_int_equal(buf_put(&b, "x", 1), ERR_TOOBIG);
    buf_fini(&b);
}

static void beyond_the_limit_nothing_changes(void **state)
{
    (void)state;
    for (int secret = 0; secret < 2; secret++) {
        struct buf b;
        uint8_t *room = (uint8_t *)1;
        init(&b, secret, 10);
        assert_int_equal(buf_put(&b, "01234567", 8), ERR_OK);
        assert_int_equal(buf_put(&b, "abc", 3), ERR_TOOBIG);
        assert_int_equal(buf_reserve(&b, SIZE_MAX, &room), ERR_TOOBIG);
        assert_null(room);
        assert_holds(&b, "01234567", 8);
        buf_consume(&b, 1); /* the limit counts what is readable */
        assert_int_equal(buf_put(&b, "abc", 3), ERR_OK);
        assert_holds(&b, "1234567abc", 10);
        buf_fini(&b);
    }
}

static void huge_requests_run_out_of_memory_cleanly(void **state)
{
    (void)state;
    for (int secret = 0; secret < 2; secret++) {
        struct buf b;
        uint8_t *room;
        init(&b, secret, SIZE_MAX);
        assert_int_equal(buf_put(&b, "abc", 3), ERR_OK);
        assert_int_equal(buf_reserve(&b, (SIZE_MAX >> 1) + 5, &room), ERR_OOM);
        assert_int_equal(buf_reserve(&b, SIZE_MAX - 3, &room), ERR_OOM);
        assert_holds(&b, "abc", 3);
        buf_fini(&b);
    }
}

static void emptied_it_starts_anew(void **state)
{
    struct buf b;
    (void)state;
    buf_init(&b, 100);
    assert_int_equal(buf_put(&b, "abcdef", 6), ERR_OK);
    buf_consume(&b, 4);
    assert_int_equal(b.off, 4);
    assert_holds(&b, "ef", 2);
    buf_consume(&b, 2);
    assert_int_equal(b.off, 0);
    assert_int_equal(b.len, 0);
    assert_int_equal(buf_put(&b, "abcdef", 6), ERR_OK);
    buf_consume(&b, 1);
    buf_truncate(&b, 0);
    assert_int_equal(b.off, 0);
    assert_int_equal(b.len, 0);
    buf_fini(&b);
}

static void truncate_keeps_the_front(void **state)
{
    struct buf b;
    (void)state;
    buf_init(&b, 100);
    assert_int_equal(buf_put(&b, "abcdef", 6), ERR_OK);
    buf_consume(&b, 1);
    buf_truncate(&b, 3);
    assert_holds(&b, "bcd", 3);
    assert_int_equal(buf_put(&b, "X", 1), ERR_OK);
    assert_holds(&b, "bcdX", 4);
    buf_clear(&b);
    assert_int_equal(buf_size(&b), 0);
    assert_non_null(b.mem);
    buf_fini(&b);
}

static void moves_to_the_front_rather_than_grow(void **state)
{
    struct buf b;
    uint8_t *room;
    (void)state;
    buf_init(&b, 1 << 20);
    assert_int_equal(buf_reserve(&b, 512, &room), ERR_OK);
    memset(room, 'a', 512);
    buf_added(&b, 512);
    buf_consume(&b, 500);
    assert_int_equal(buf_put(&b, "b", 1), ERR_OK);
    assert_int_equal(b.cap, 512);
    assert_int_equal(b.off, 0);
    assert_holds(&b, "aaaaaaaaaaaab", 13);
    buf_fini(&b);
}

/* A reader a little behind its writer must not make each put move everything: the memory moved is bounded by what was
 * put. Moves are seen as off going back to 0. */
static void moving_is_paid_for_by_what_was_consumed(void **state)
{
    struct buf b;
    size_t moved = 0, put = 0;
    uint8_t chunk[64] = {0};
    (void)state;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(buf_put(&b, chunk, sizeof chunk), ERR_OK);
        put += sizeof chunk;
    }
    for (int i = 0; i < 20000; i++) {
        buf_consume(&b, sizeof chunk);
        size_t off = b.off;
        assert_int_equal(buf_put(&b, chunk, sizeof chunk), ERR_OK);
        put += sizeof chunk;
        if (b.off < off)
            moved += buf_size(&b);
    }
    assert_true(moved <= 2 * put);
    buf_fini(&b);
}

static void shrink_gives_back_only_empty_large_buffers(void **state)
{
    (void)state;
    for (int secret = 0; secret < 2; secret++) {
        struct buf b;
        init(&b, secret, 10000);
        assert_int_equal(buf_put(&b, "abc", 3), ERR_OK);
        buf_shrink(&b, 0);
        assert_holds(&b, "abc", 3);
        buf_consume(&b, 3);
        buf_shrink(&b, b.cap);
        assert_non_null(b.mem);
        buf_shrink(&b, b.cap - 1);
        assert_null(b.mem);
        assert_int_equal(b.cap, 0);
        assert_int_equal(b.limit, 10000);
        assert_int_equal(b.secret, secret);
        assert_int_equal(buf_put(&b, "abc", 3), ERR_OK);
        buf_fini(&b);
    }
}

static void putf_formats_short_and_long(void **state)
{
    struct buf b;
    char longest[600];
    (void)state;
    memset(longest, 'z', sizeof longest);
    longest[sizeof longest - 1] = '\0';
    buf_init(&b, 610); /* exactly what the test puts: the NUL is not counted */
    assert_int_equal(buf_putf(&b, "%s:%d;", "abc", 123456), ERR_OK);
    assert_holds(&b, "abc:123456;", 11);
    assert_int_equal(buf_putf(&b, "%s", longest), ERR_OK);
    assert_int_equal(buf_size(&b), 610);
    assert_memory_equal(buf_data(&b) + 11, longest, 599);
    assert_int_equal(buf_putf(&b, "%c", 'x'), ERR_TOOBIG);
    assert_int_equal(buf_putf(&b, "%s", longest), ERR_TOOBIG);
    assert_int_equal(buf_size(&b), 610);
    for (int n = 500; n < 520; n++) { /* around the size up to which no memory is needed */
        buf_clear(&b);
        assert_int_equal(buf_putf(&b, "%.*s", n, longest), ERR_OK);
        assert_holds(&b, longest, (size_t)n);
    }
    buf_fini(&b);
}

static void a_secret_buffer_wipes_what_leaves_it(void **state)
{
    struct buf b;
    (void)state;
    buf_init_secret(&b, 4096);
    assert_int_equal(buf_put(&b, "secret-and-more-of-it", 21), ERR_OK);
    uint8_t *mem = b.mem;
    buf_consume(&b, 7);
    assert_zero(mem, 7);
    assert_holds(&b, "and-more-of-it", 14);
    buf_truncate(&b, 3);
    assert_zero(mem + 10, 11);
    assert_holds(&b, "and", 3);
    buf_clear(&b);
    assert_zero(mem, 21);
    buf_fini(&b);
}

static void a_secret_buffer_wipes_what_it_moves_away_from(void **state)
{
    struct buf b;
    uint8_t *room;
    (void)state;
    buf_init_secret(&b, 1 << 20);
    assert_int_equal(buf_reserve(&b, 512, &room), ERR_OK);
    assert_int_equal(b.cap, 512);
    memset(room, 'k', 512);
    buf_added(&b, 512);
    buf_consume(&b, 400);
    assert_int_equal(buf_reserve(&b, 50, &room), ERR_OK);
    assert_int_equal(b.off, 0);
    assert_int_equal(b.cap, 512);
    assert_zero(b.mem + 112, 400);
    assert_ptr_equal(room, b.mem + 112);
    buf_fini(&b);

    /* At its limit it moves although source and target overlap. */
    buf_init_secret(&b, 512);
    assert_int_equal(buf_reserve(&b, 512, &room), ERR_OK);
    memset(room, 'k', 512);
    buf_added(&b, 512);
    buf_consume(&b, 100);
    assert_int_equal(buf_reserve(&b, 50, &room), ERR_OK);
    assert_ptr_equal(room, b.mem + 412);
    assert_zero(room, 100);
    buf_fini(&b);
}

/* What is known to be all takes a page more at most, instead of half. */
static void reserving_for_the_last_takes_no_more(void **state)
{
    enum { ALL = 3000000, FIRST = 65536 };
    struct buf b;
    uint8_t *room;
    (void)state;
    buf_init_secret(&b, 1 << 22);
    assert_int_equal(buf_reserve_last(&b, ALL, &room), ERR_OK);
    assert_in_range(b.cap, ALL, ALL + 65536);
    buf_fini(&b);

    assert_int_equal(buf_reserve(&b, FIRST, &room), ERR_OK);
    memset(room, 'f', FIRST);
    buf_added(&b, FIRST);
    assert_int_equal(buf_reserve_last(&b, ALL - FIRST, &room), ERR_OK);
    assert_in_range(b.cap, ALL, ALL + 65536);
    memset(room, 'l', ALL - FIRST);
    buf_added(&b, ALL - FIRST);
    assert_int_equal(buf_data(&b)[FIRST - 1], 'f');
    assert_int_equal(buf_data(&b)[FIRST], 'l');
    assert_int_equal(buf_reserve_last(&b, 1 << 21, &room), ERR_TOOBIG);
    assert_int_equal(buf_size(&b), ALL);
    buf_fini(&b);
}

/* The block that a buffer grew out of is the next one its class hands out. */
static void a_secret_buffer_wipes_the_block_it_grew_out_of(void **state)
{
    struct buf b;
    uint8_t *room;
    (void)state;
    buf_init_secret(&b, 1 << 20);
    assert_int_equal(buf_reserve(&b, 512, &room), ERR_OK);
    memset(room, 'k', 512);
    buf_added(&b, 512);
    uint8_t *old = b.mem;
    assert_int_equal(buf_put(&b, "x", 1), ERR_OK);
    assert_int_equal(b.cap, 1024);
    uint8_t *again = mem_secret_alloc(512);
    assert_ptr_equal(again, old);
    assert_zero(again, 512);
    mem_secret_free(again, 512);
    buf_fini(&b);
}

static void secret_buffers_give_all_memory_back(void **state)
{
    struct mem_secret_stats before, after;
    struct buf b;
    (void)state;
    mem_secret_stats(&before);
    buf_init_secret(&b, 1 << 20);
    for (int i = 0; i < 200000; i++)
        assert_int_equal(buf_put_le32(&b, (uint32_t)i), ERR_OK);
    for (uint32_t i = 0; i < 200000; i++) {
        assert_int_equal(get_le32(buf_data(&b)), i);
        buf_consume(&b, 4);
    }
    buf_fini(&b);
    mem_secret_stats(&after);
    assert_int_equal(before.used_bytes, after.used_bytes);
}

/* Random operations against an array that does the same the slow way. */
static void model_run(int secret, unsigned seed)
{
    enum { LIMIT = 3000 };
    static uint8_t model[LIMIT];
    size_t size = 0;
    struct buf b;
    uint32_t x = seed;

    init(&b, secret, LIMIT);
    for (int step = 0; step < 3000; step++) {
        x = x * 1664525u + 1013904223u;
        unsigned op = x >> 29;
        size_t n = (x >> 8) % (op == 0 ? 1500 : 200);
        uint8_t data[1500];
        memset(data, (int)(x >> 16 | 1), n);
        if (op < 4) {
            enum err e = buf_put(&b, data, n);
            assert_int_equal(e, size + n > LIMIT ? ERR_TOOBIG : ERR_OK);
            if (!e) {
                memcpy(model + size, data, n);
                size += n;
            }
        } else if (op < 7) {
            n = n < size ? n : size;
            buf_consume(&b, n);
            memmove(model, model + n, size - n);
            size -= n;
        } else {
            size = n < size ? size - n : 0;
            buf_truncate(&b, size);
            buf_shrink(&b, 600);
        }
        assert_holds(&b, model, size);
        if (secret && b.mem) {
            assert_zero(b.mem, b.off);
            assert_zero(b.mem + b.len, b.cap - b.len);
        }
    }
    buf_fini(&b);
}

static void agrees_with_a_model(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 5; seed++) {
        print_message("seed %u\n", seed);
        model_run(0, seed);
        model_run(1, seed);
    }
}

/* Puts until every allocation on the way succeeded; after a failure what was there is still there, and the same put
 * succeeds. */
static void each_failed_allocation_changes_nothing(void **state)
{
    (void)state;
    for (int secret = 0; secret < 2; secret++) {
        long n = 1;
        for (;; n++) {
            struct buf b;
            size_t put = 0;
            enum err e = ERR_OK;
            init(&b, secret, 1 << 20);
            fault_arm(FAULT_MEM, n, 1);
            while (!e && put < 3000) {
                e = buf_put_le64(&b, put);
                if (!e)
                    put++;
            }
            if (!e && !secret) {
                char text[1000];
                memset(text, 'x', sizeof text);
                size_t before = buf_size(&b);
                e = buf_putf(&b, "%.1000s", text);
                assert_int_equal(buf_size(&b), e ? before : before + 1000);
            }
            fault_disarm(FAULT_MEM);
            assert_int_equal(e, fault_fired(FAULT_MEM) ? ERR_OOM : ERR_OK);
            for (size_t i = 0; i < put; i++)
                assert_int_equal(get_le64(b.mem + b.off + 8 * i), i);
            assert_int_equal(buf_put_u8(&b, 1), ERR_OK);
            buf_fini(&b);
            if (!fault_fired(FAULT_MEM))
                break;
        }
        assert_true(n > 5); /* it did grow several times */
    }
}

static void bytes_compare_and_equal(void **state)
{
    (void)state;
    assert_true(bytes_equal(bytes_str("abc"), bytes_of("abcd", 3)));
    assert_false(bytes_equal(bytes_str("abc"), bytes_str("abcd")));
    assert_false(bytes_equal(bytes_str("abc"), bytes_str("abd")));
    assert_true(bytes_equal(bytes_of(NULL, 0), bytes_str("")));
    assert_true(bytes_compare(bytes_str("abc"), bytes_str("abcd")) < 0);
    assert_true(bytes_compare(bytes_str("b"), bytes_str("abcd")) > 0);
    assert_true(bytes_compare(bytes_of("\xff", 1), bytes_str("a")) > 0);
    assert_int_equal(bytes_compare(bytes_of(NULL, 0), bytes_str("")), 0);
    assert_true(bytes_compare(bytes_of(NULL, 0), bytes_str("a")) < 0);
}

static void bytes_take_all_or_nothing(void **state)
{
    struct bytes in = bytes_str("abcdef"), out = bytes_str("untouched");
    (void)state;
    assert_int_equal(bytes_take(&in, 7, &out), 0);
    assert_true(bytes_equal(out, bytes_str("untouched")));
    assert_int_equal(bytes_take(&in, 4, &out), 1);
    assert_true(bytes_equal(out, bytes_str("abcd")));
    assert_true(bytes_equal(in, bytes_str("ef")));
    assert_int_equal(bytes_take(&in, 2, &out), 1);
    assert_int_equal(bytes_take(&in, 0, &out), 1);
    assert_int_equal(bytes_take(&in, 1, &out), 0);
    in = bytes_of(NULL, 0);
    assert_int_equal(bytes_take(&in, 0, &out), 1);
}

static void numbers_at_odd_addresses(void **state)
{
    uint8_t m[16] = {0};
    (void)state;
    put_le64(m + 1, 0x0807060504030201);
    assert_memory_equal(m + 1, "\1\2\3\4\5\6\7\10", 8);
    assert_int_equal(get_le64(m + 1), 0x0807060504030201);
    assert_int_equal(get_be64(m + 1), 0x0102030405060708);
    assert_int_equal(get_le32(m + 1), 0x04030201);
    assert_int_equal(get_be32(m + 1), 0x01020304);
    assert_int_equal(get_le16(m + 1), 0x0201);
    put_be64(m + 3, 0x0102030405060708);
    assert_memory_equal(m + 3, "\1\2\3\4\5\6\7\10", 8);
    put_be32(m + 5, 0x01020304);
    assert_memory_equal(m + 5, "\1\2\3\4", 4);
    put_le32(m + 5, 0x01020304);
    assert_memory_equal(m + 5, "\4\3\2\1", 4);
    put_le16(m + 5, 0x0102);
    assert_memory_equal(m + 5, "\2\1", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_empty_and_owns_nothing),
        cmocka_unit_test(puts_numbers_little_endian),
        cmocka_unit_test(doubles_from_512_up_to_the_limit),
        cmocka_unit_test(beyond_the_limit_nothing_changes),
        cmocka_unit_test(huge_requests_run_out_of_memory_cleanly),
        cmocka_unit_test(emptied_it_starts_anew),
        cmocka_unit_test(truncate_keeps_the_front),
        cmocka_unit_test(moves_to_the_front_rather_than_grow),
        cmocka_unit_test(moving_is_paid_for_by_what_was_consumed),
        cmocka_unit_test(shrink_gives_back_only_empty_large_buffers),
        cmocka_unit_test(putf_formats_short_and_long),
        cmocka_unit_test(a_secret_buffer_wipes_what_leaves_it),
        cmocka_unit_test(a_secret_buffer_wipes_what_it_moves_away_from),
        cmocka_unit_test(a_secret_buffer_wipes_the_block_it_grew_out_of),
        cmocka_unit_test(secret_buffers_give_all_memory_back),
        cmocka_unit_test(agrees_with_a_model),
        cmocka_unit_test(each_failed_allocation_changes_nothing),
        cmocka_unit_test(reserving_for_the_last_takes_no_more),
        cmocka_unit_test(bytes_compare_and_equal),
        cmocka_unit_test(bytes_take_all_or_nothing),
        cmocka_unit_test(numbers_at_odd_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
