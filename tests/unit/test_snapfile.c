/* The bytes of a snapshot file: each piece there and back, each byte of it altered, the filter, the digest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/snapfile.h"

static uint64_t seed = 1;

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static void fill(void *p, size_t n)
{
    for (uint8_t *b = p; n--;)
        *b++ = (uint8_t)next_random();
}

static void names(void **state)
{
    static const char *const others[] = {"00000000000000000007-3.snap.tmp",      "7-3.snap",
                                         "00000000000000000007-.snap",           "00000000000000000007-03.snap",
                                         "00000000000000000007-4294967296.snap", "99999999999999999999-1.snap",
                                         "00000000000000000007-3.wbl",           ""};
    char name[SNAPFILE_NAME_BYTES];
    uint64_t lsn;
    uint32_t term;
    (void)state;
    snapfile_name(name, 7, 3);
    assert_string_equal(name, "00000000000000000007-3.snap");
    assert_true(snapfile_parse_name(name, &lsn, &term));
    assert_int_equal(lsn, 7);
    assert_int_equal(term, 3);
    snapfile_name(name, UINT64_MAX, UINT32_MAX);
    assert_true(snapfile_parse_name(name, &lsn, &term));
    assert_true(lsn == UINT64_MAX && term == UINT32_MAX);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_false(snapfile_parse_name(others[i], &lsn, &term));
        assert_true(lsn == 0 && term == 0);
    }
}

static void headers_and_footers_show_every_flipped_bit(void **state)
{
    uint8_t h[SNAPFILE_HEADER_BYTES], f[SNAPFILE_FOOTER_BYTES];
    struct snapfile_header header = {.lsn = 0x123456789a, .time_ms = 1795345150104, .term = 7}, header_again;
    struct snapfile_footer footer = {.index_off = 1, .index_bytes = 2, .filter_off = 3, .blocks = 4, .entries = 5},
                           footer_again;
    (void)state;
    fill(header.cell_id, sizeof header.cell_id);
    fill(header.chain, sizeof header.chain);
    fill(footer.digest, sizeof footer.digest);
    fill(footer.hmac, sizeof footer.hmac);
    fill(footer.index_hash, sizeof footer.index_hash);
    snapfile_put_header(h, &header);
    snapfile_put_footer(f, &footer);
    assert_int_equal(snapfile_get_header(h, &header_again), ERR_OK);
    assert_int_equal(snapfile_get_footer(f, &footer_again), ERR_OK);
    assert_memory_equal(&header, &header_again, sizeof header);
    assert_memory_equal(&footer, &footer_again, sizeof footer);
    for (size_t i = 0; i < 8 * sizeof h; i++) {
        h[i / 8] ^= (uint8_t)(1 << i % 8);
        assert_int_not_equal(snapfile_get_header(h, &header_again), ERR_OK);
        assert_int_equal(header_again.lsn, 0);
        h[i / 8] ^= (uint8_t)(1 << i % 8);
    }
    for (size_t i = 0; i < 8 * sizeof f; i++) {
        f[i / 8] ^= (uint8_t)(1 << i % 8);
        assert_int_equal(snapfile_get_footer(f, &footer_again), ERR_CORRUPT);
        assert_int_equal(footer_again.blocks, 0);
        f[i / 8] ^= (uint8_t)(1 << i % 8);
    }
}

#define ENTRIES 300

struct model {
    uint8_t key[80], value[200];
    struct snapfile_entry e;
};

static struct model *make_entries(void)
{
    struct model *m = calloc(ENTRIES, sizeof *m);
    for (size_t i = 0; i < ENTRIES; i++) {
        fill(m[i].key, sizeof m[i].key);
        fill(m[i].value, sizeof m[i].value);
        if (i % 4)
            memcpy(m[i].key, m[i - 1].key, 40);
        m[i].e = (struct snapfile_entry){.key = bytes_of(m[i].key, 1 + next_random() % sizeof m[i].key),
                                         .value = bytes_of(m[i].value, next_random() % sizeof m[i].value),
                                         .lsn = next_random() >> next_random() % 64};
    }
    return m;
}

static void put_entries(struct buf *block, const struct model *m)
{
    struct bytes before = bytes_of(NULL, 0);
    for (size_t i = 0; i < ENTRIES; i++) {
        assert_int_equal(snapfile_put_entry(block, before, &m[i].e), ERR_OK);
        before = m[i].e.key;
    }
}

static void entries_come_back(void **state)
{
    struct model *m = make_entries();
    struct snapfile_entry e;
    struct buf block, key;
    (void)state;
    buf_init(&block, 1 << 20);
    buf_init(&key, 1 << 16);
    put_entries(&block, m);
    struct bytes in = buf_bytes(&block);
    for (size_t i = 0; i < ENTRIES; i++) {
        assert_int_equal(snapfile_get_entry(&in, &key, &e), ERR_OK);
        assert_true(bytes_equal(e.key, m[i].e.key) && bytes_equal(e.value, m[i].e.value) && e.lsn == m[i].e.lsn);
    }
    assert_int_equal(snapfile_get_entry(&in, &key, &e), ERR_END);
    buf_fini(&block);
    buf_fini(&key);
    free(m);
}

/* What is not an entry is said to be none, and nothing outside it is read (the sanitizers watch). */
static void malformed_entries_are_refused(void **state)
{
    struct model *m = make_entries();
    struct snapfile_entry e;
    struct buf block, key;
    (void)state;
    buf_init(&block, 1 << 20);
    buf_init(&key, 1 << 20);
    put_entries(&block, m);
    for (unsigned round = 0; round < 2000; round++) {
        size_t n = next_random() % 400;
        uint8_t *bytes = malloc(n ? n : 1);
        memcpy(bytes, buf_data(&block), n);
        for (unsigned i = 0; n && i < 3; i++)
            bytes[next_random() % n] = (uint8_t)next_random();
        struct bytes in = bytes_of(bytes, n);
        enum err err = ERR_OK;
        buf_clear(&key);
        while ((err = snapfile_get_entry(&in, &key, &e)) == ERR_OK)
            assert_true(e.value.n <= n && e.value.p >= bytes && e.value.p + e.value.n <= bytes + n);
        assert_true(err == ERR_END || err == ERR_CORRUPT);
        free(bytes);
    }
    static const uint8_t twice[] = {0x80, 0x00, 1, 0, 0, 'k'}; /* 0 in two bytes */
    static const uint8_t huge[] = {0,    1,    0,    0xff, 0xff, 0xff, 0xff,
                                   0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 'k'}; /* > 2^64 */
    static const uint8_t most[] = {0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 'k'};
    struct bytes in = bytes_of(twice, sizeof twice);
    assert_int_equal(snapfile_get_entry(&in, &key, &e), ERR_CORRUPT);
    in = bytes_of(huge, sizeof huge);
    assert_int_equal(snapfile_get_entry(&in, &key, &e), ERR_CORRUPT);
    in = bytes_of(most, sizeof most);
    assert_int_equal(snapfile_get_entry(&in, &key, &e), ERR_OK);
    assert_true(e.lsn == UINT64_MAX);
    buf_fini(&block);
    buf_fini(&key);
    free(m);
}

static void index_entries_come_back(void **state)
{
    struct snapfile_block b = {.off = 128, .bytes = 40000, .entries = 17, .first_key = bytes_str("a first key")}, again;
    struct buf index;
    (void)state;
    fill(b.hash, sizeof b.hash);
    buf_init(&index, 1 << 20);
    for (unsigned i = 0; i < 3; i++) {
        b.off += i;
        assert_int_equal(snapfile_put_index(&index, &b), ERR_OK);
    }
    b.off = 128;
    struct bytes in = buf_bytes(&index);
    for (unsigned i = 0; i < 3; i++) {
        b.off += i;
        assert_int_equal(snapfile_get_index(&in, &again), ERR_OK);
        assert_true(again.off == b.off && again.bytes == b.bytes && again.entries == b.entries);
        assert_memory_equal(again.hash, b.hash, sizeof b.hash);
        assert_true(bytes_equal(again.first_key, b.first_key));
    }
    assert_int_equal(snapfile_get_index(&in, &again), ERR_END);
    for (size_t n = 1; n < buf_size(&index) / 3; n++) {
        in = bytes_of(buf_data(&index), n);
        assert_int_equal(snapfile_get_index(&in, &again), ERR_CORRUPT);
    }
    buf_fini(&index);
}

static void the_filter_knows_its_keys_and_few_others(void **state)
{
    enum { KEYS = 50000 };
    uint64_t bytes = snapfile_filter_bytes(KEYS);
    uint8_t *filter = calloc(1, (size_t)bytes);
    char key[32];
    unsigned wrong = 0;
    (void)state;
    assert_int_equal(bytes % 64, 0);
    assert_int_equal(snapfile_filter_bytes(0), 64);
    for (unsigned i = 0; i < KEYS; i++) {
        int n = snprintf(key, sizeof key, "h12345678key:%012u", i);
        snapfile_filter_add(filter, bytes, bytes_of(key, (size_t)n));
    }
    for (unsigned i = 0; i < 2 * KEYS; i++) {
        int n = snprintf(key, sizeof key, "h12345678key:%012u", i);
        int may = snapfile_filter_may_have(filter, bytes, bytes_of(key, (size_t)n));
        if (i < KEYS)
            assert_true(may);
        else
            wrong += may != 0;
    }
    assert_true(wrong < KEYS / 40);
    free(filter);
}

static void the_digest_is_a_sum(void **state)
{
    struct model *m = make_entries();
    uint8_t a[SNAPFILE_HASH_BYTES] = {0}, b[SNAPFILE_HASH_BYTES] = {0}, zero[SNAPFILE_HASH_BYTES] = {0};
    (void)state;
    for (size_t i = 0; i < ENTRIES; i++) {
        snapfile_digest_add(a, &m[i].e);
        snapfile_digest_add(b, &m[ENTRIES - 1 - i].e);
    }
    assert_memory_equal(a, b, sizeof a);
    m[7].e.lsn++;
    snapfile_digest_add(b, &m[7].e);
    m[7].e.lsn--;
    assert_memory_not_equal(a, b, sizeof a);
    snapfile_digest_sub(b, &m[7].e);
    assert_memory_not_equal(a, b, sizeof a);
    for (size_t i = 0; i < ENTRIES; i++)
        snapfile_digest_sub(a, &m[i].e);
    assert_memory_equal(a, zero, sizeof a);
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(headers_and_footers_show_every_flipped_bit),
        cmocka_unit_test(entries_come_back),
        cmocka_unit_test(malformed_entries_are_refused),
        cmocka_unit_test(index_entries_come_back),
        cmocka_unit_test(the_filter_knows_its_keys_and_few_others),
        cmocka_unit_test(the_digest_is_a_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
