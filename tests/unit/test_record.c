/* Records: the layout byte by byte, and that nothing damaged passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "base/crc32c.h"
#include "base/fault.h"
#include "engine/record.h"

static const uint8_t zero_chain[RECORD_CHAIN_BYTES];

static struct record sample(uint8_t flags)
{
    struct record r = {.lsn = 0x0102030405060708,
                       .term = 0x11121314,
                       .type = RECORD_KEY,
                       .flags = flags,
                       .vault = 0x2122232425262728,
                       .shard = 0x3132,
                       .time_ms = 0x4142434445464748,
                       .key = bytes_str("db/main"),
                       .blob = bytes_str("sealed")};
    for (int i = 0; i < RECORD_TOKEN_BYTES; i++)
        r.token[i] = (uint8_t)(0x50 + i);
    for (int i = 0; i < RECORD_HMAC_BYTES; i++)
        r.hmac[i] = (uint8_t)(0x80 + i);
    return r;
}

static void encode(struct buf *b, struct record *r, const uint8_t *prev)
{
    buf_init(b, 64 << 20);
    assert_int_equal(record_put(b, r, prev), ERR_OK);
}

/* The layout of record.h, spelled out once more by hand. */
static void layout_is_as_documented(void **state)
{
    (void)state;
    struct record r = sample(RECORD_HAS_HMAC);
    struct buf b;
    encode(&b, &r, zero_chain);
    const uint8_t *p = buf_data(&b);

    assert_int_equal(buf_size(&b), 64 + 7 + 6 + 3 + 32 + 32);
    assert_int_equal(buf_size(&b), record_size(7, 6, RECORD_HAS_HMAC));
    assert_int_equal(get_le32(p), buf_size(&b));
    assert_int_equal(get_le32(p + 4), crc32c(0, p + 8, buf_size(&b) - 8));
    assert_int_equal(get_le64(p + 8), 0x0102030405060708);
    assert_int_equal(p[8], 0x08);
    assert_int_equal(get_le32(p + 16), 0x11121314);
    assert_int_equal(p[20], RECORD_KEY);
    assert_int_equal(p[21], 1);
    assert_int_equal(get_le16(p + 22), 1);
    assert_int_equal(get_le64(p + 24), 0x2122232425262728);
    assert_int_equal(get_le16(p + 32), 0x3132);
    assert_int_equal(get_le16(p + 34), 7);
    assert_int_equal(get_le32(p + 36), 6);
    assert_int_equal(get_le64(p + 40), 0x4142434445464748);
    assert_int_equal(p[48], 0x50);
    assert_int_equal(p[63], 0x5f);
    assert_memory_equal(p + 64, "db/mainsealed\0\0", 16);
    assert_int_equal(p[80], 0x80);
    assert_int_equal(p[111], 0x9f);
    buf_fini(&b);
}

/* The chain is SHA-256 of the chain before and of bytes 8 up to itself, computed here by another way. */
static void chain_is_sha256_of_the_chain_before_and_the_record(void **state)
{
    (void)state;
    uint8_t prev[RECORD_CHAIN_BYTES], want[EVP_MAX_MD_SIZE], in[1024];
    for (uint8_t flags = 0; flags < 2; flags++) {
        struct record r = sample(flags);
        struct buf b;
        memset(prev, 0xa5, sizeof prev);
        encode(&b, &r, prev);
        size_t n = buf_size(&b) - RECORD_CHAIN_BYTES - 8;
        memcpy(in, prev, sizeof prev);
        memcpy(in + sizeof prev, buf_data(&b) + 8, n);
        assert_int_equal(EVP_Digest(in, sizeof prev + n, want, NULL, EVP_sha256(), NULL), 1);
        assert_memory_equal(r.chain, want, RECORD_CHAIN_BYTES);
        assert_memory_equal(buf_data(&b) + buf_size(&b) - RECORD_CHAIN_BYTES, want, RECORD_CHAIN_BYTES);
        assert_true(record_chains(buf_bytes(&b), prev));
        assert_false(record_chains(buf_bytes(&b), zero_chain));
        assert_false(record_chains(bytes_of(buf_data(&b), RECORD_MIN_BYTES - 1), prev));
        buf_fini(&b);
    }
}

static void round_trips_every_length_of_key_and_blob(void **state)
{
    (void)state;
    uint8_t bytes[64], chain[RECORD_CHAIN_BYTES] = {0};
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i + 1);
    for (size_t key_len = 0; key_len < 20; key_len++)
        for (size_t blob_len = 0; blob_len < 20; blob_len++) {
            struct record r = sample((uint8_t)((key_len + blob_len) % 2)), got;
            struct buf b;
            size_t used;
            r.key = bytes_of(key_len ? bytes : NULL, key_len);
            r.blob = bytes_of(blob_len ? bytes + 20 : NULL, blob_len);
            encode(&b, &r, chain);
            assert_int_equal(buf_size(&b) % 8, 0);
            assert_int_equal(buf_put_u8(&b, 0xee), ERR_OK); /* whatever follows is none of its business */
            assert_int_equal(record_get(buf_bytes(&b), &got, &used), ERR_OK);
            assert_int_equal(used, buf_size(&b) - 1);
            assert_int_equal(got.lsn, r.lsn);
            assert_int_equal(got.term, r.term);
            assert_int_equal(got.type, r.type);
            assert_int_equal(got.flags, r.flags);
            assert_int_equal(got.vault, r.vault);
            assert_int_equal(got.shard, r.shard);
            assert_int_equal(got.time_ms, r.time_ms);
            assert_memory_equal(got.token, r.token, RECORD_TOKEN_BYTES);
            assert_true(bytes_equal(got.key, r.key));
            assert_true(bytes_equal(got.blob, r.blob));
            if (r.flags & RECORD_HAS_HMAC)
                assert_memory_equal(got.hmac, r.hmac, RECORD_HMAC_BYTES);
            assert_memory_equal(got.chain, r.chain, RECORD_CHAIN_BYTES);
            memcpy(chain, r.chain, sizeof chain);
            buf_fini(&b);
        }
}

static void prev_chain_may_be_the_records_own(void **state)
{
    (void)state;
    struct record one = sample(0), two = sample(0);
    uint8_t prev[RECORD_CHAIN_BYTES];
    struct buf a, b;
    memset(prev, 7, sizeof prev);
    memcpy(two.chain, prev, sizeof prev);
    encode(&a, &one, prev);
    encode(&b, &two, two.chain);
    assert_true(bytes_equal(buf_bytes(&a), buf_bytes(&b)));
    buf_fini(&a);
    buf_fini(&b);
}

static void every_flipped_bit_is_found(void **state)
{
    (void)state;
    for (uint8_t flags = 0; flags < 2; flags++) {
        struct record r = sample(flags), got;
        struct buf b;
        size_t used;
        encode(&b, &r, zero_chain);
        for (size_t bit = 0; bit < buf_size(&b) * 8; bit++) {
            buf_data(&b)[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(record_get(buf_bytes(&b), &got, &used), ERR_CORRUPT);
            assert_int_equal(used, 0);
            assert_null(got.key.p);
            buf_data(&b)[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        assert_int_equal(record_get(buf_bytes(&b), &got, &used), ERR_OK);
        buf_fini(&b);
    }
}

static void every_cut_is_found(void **state)
{
    (void)state;
    struct record r = sample(1), got;
    struct buf b;
    size_t used;
    encode(&b, &r, zero_chain);
    for (size_t n = 1; n < buf_size(&b); n++) {
        uint8_t *exact = malloc(n); /* so that a sanitizer sees a read behind the end */
        assert_non_null(exact);
        memcpy(exact, buf_data(&b), n);
        assert_int_equal(record_get(bytes_of(exact, n), &got, &used), ERR_CORRUPT);
        free(exact);
    }
    buf_fini(&b);
}

static void nothing_written_is_the_end(void **state)
{
    (void)state;
    struct record got;
    uint8_t zeros[256] = {0};
    size_t used = 1;
    assert_int_equal(record_get(bytes_of(NULL, 0), &got, &used), ERR_END);
    assert_int_equal(used, 0);
    assert_int_equal(record_get(bytes_of(zeros, sizeof zeros), &got, &used), ERR_END);
    assert_int_equal(record_get(bytes_of(zeros, 4), &got, &used), ERR_END);
    assert_int_equal(record_get(bytes_of(zeros, 3), &got, &used), ERR_CORRUPT);
}

static void refix(struct buf *b)
{
    put_le32(buf_data(b) + 4, crc32c(0, buf_data(b) + 8, buf_size(b) - 8));
}

/* With a CRC that fits: what the checks behind it are for. */
static void refuses_what_it_does_not_know_even_when_the_crc_fits(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
        const char *what;
    } rows[] = {
        {21, 2, "unknown flag"}, {21, 1, "flag that changes the length"},
        {22, 2, "format 2"},     {22, 0, "format 0"},
        {34, 11, "longer key"},  {36, 10, "longer blob"},
        {39, 0xff, "huge blob"}, {78, 1, "padding"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct record r = sample(0), got;
        struct buf b;
        size_t used;
        encode(&b, &r, zero_chain);
        buf_data(&b)[rows[i].at] = rows[i].value;
        refix(&b);
        if (record_get(buf_bytes(&b), &got, &used) != ERR_CORRUPT)
            fail_msg("%s passed", rows[i].what);
        buf_fini(&b);
    }
    struct record r = sample(0), got;
    struct buf b;
    size_t used;
    encode(&b, &r, zero_chain);
    memset(buf_data(&b) + 8, 0, 8);
    refix(&b);
    assert_int_equal(record_get(buf_bytes(&b), &got, &used), ERR_CORRUPT); /* LSN 0 */
    buf_data(&b)[8] = 1;
    buf_data(&b)[20] = 200; /* a type that is not known yet is none of the decoder's business */
    refix(&b);
    assert_int_equal(record_get(buf_bytes(&b), &got, &used), ERR_OK);
    assert_int_equal(got.type, 200);
    buf_fini(&b);
}

static void too_big_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    size_t most = RECORD_MAX_BYTES - RECORD_HEADER_BYTES - RECORD_CHAIN_BYTES;
    uint8_t *big = calloc(1, RECORD_MAX_BYTES + 1);
    struct record r = sample(0), got;
    struct buf b;
    size_t used;
    assert_non_null(big);
    buf_init(&b, 64 << 20);
    assert_int_equal(buf_put(&b, "before", 6), ERR_OK);

    r.key = bytes_of(NULL, 0);
    r.blob = bytes_of(big, most);
    assert_int_equal(record_put(&b, &r, zero_chain), ERR_OK);
    assert_int_equal(buf_size(&b), 6 + RECORD_MAX_BYTES);
    assert_int_equal(record_get(bytes_of(buf_data(&b) + 6, RECORD_MAX_BYTES), &got, &used), ERR_OK);
    buf_truncate(&b, 6);

    static const size_t over[][2] = {{0, 1}, {65536, 0}, {8, 0}, {0, SIZE_MAX}};
    for (size_t i = 0; i < sizeof over / sizeof *over; i++) {
        struct record before;
        memset(&r.chain, 3, sizeof r.chain);
        r.key = bytes_of(big, over[i][0]);
        r.blob = bytes_of(big, over[i][1] == SIZE_MAX ? SIZE_MAX : over[i][0] == 65536 ? 10 : most + over[i][1]);
        before = r;
        assert_int_equal(record_put(&b, &r, zero_chain), ERR_TOOBIG);
        assert_memory_equal(&r, &before, sizeof r);
        assert_int_equal(buf_size(&b), 6);
        assert_memory_equal(buf_data(&b), "before", 6);
    }
    buf_fini(&b);

    buf_init(&b, 100); /* the buffer's own limit */
    r = sample(0);
    assert_int_equal(record_put(&b, &r, zero_chain), ERR_TOOBIG);
    assert_int_equal(buf_size(&b), 0);
    buf_fini(&b);
    free(big);
}

static void out_of_memory_changes_nothing(void **state)
{
    (void)state;
    struct buf b;
    buf_init(&b, 1 << 20);
    for (long n = 1;; n++) {
        struct record r = sample(1);
        fault_arm(FAULT_MEM, n, 1);
        enum err e = record_put(&b, &r, zero_chain);
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        if (!fired) {
            assert_int_equal(e, ERR_OK);
            break;
        }
        assert_int_equal(e, ERR_OOM);
        assert_int_equal(buf_size(&b), 0);
    }
    buf_fini(&b);
}

static void types_have_names(void **state)
{
    (void)state;
    assert_string_equal(record_type_name(RECORD_BARRIER), "barrier");
    assert_string_equal(record_type_name(RECORD_PUT), "put");
    assert_string_equal(record_type_name(RECORD_BOOKMARK), "bookmark");
    assert_string_equal(record_type_name(0), "unknown");
    assert_string_equal(record_type_name(RECORD_BOOKMARK + 1), "unknown");
    assert_string_equal(record_type_name(255), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layout_is_as_documented),
        cmocka_unit_test(chain_is_sha256_of_the_chain_before_and_the_record),
        cmocka_unit_test(round_trips_every_length_of_key_and_blob),
        cmocka_unit_test(prev_chain_may_be_the_records_own),
        cmocka_unit_test(every_flipped_bit_is_found),
        cmocka_unit_test(every_cut_is_found),
        cmocka_unit_test(nothing_written_is_the_end),
        cmocka_unit_test(refuses_what_it_does_not_know_even_when_the_crc_fits),
        cmocka_unit_test(too_big_is_refused_and_changes_nothing),
        cmocka_unit_test(out_of_memory_changes_nothing),
        cmocka_unit_test(types_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
