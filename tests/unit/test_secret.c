/* Codecs of secrets: heads and their lists of versions there and back, and what is no head. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/varint.h"
#include "engine/ops.h"
#include "engine/secret.h"

static uint64_t seed = 1;

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static void numbers(void **state)
{
    uint64_t v;
    (void)state;
    for (unsigned bits = 0; bits <= 64; bits++) {
        uint64_t n = bits == 64 ? UINT64_MAX : ((uint64_t)1 << bits) - (bits & 1);
        uint8_t b[VARINT_MAX_BYTES];
        size_t size = (size_t)(varint_put(b, n) - b);
        struct bytes in = bytes_of(b, size);
        assert_true(varint_take(&in, &v) && v == n && in.n == 0);
        in = bytes_of(b, size - 1);
        assert_false(varint_take(&in, &v));
        assert_true(varint_unzigzag(varint_zigzag((int64_t)n)) == (int64_t)n);
    }
    assert_true(varint_zigzag(-1) == 1 && varint_zigzag(1) == 2 && varint_zigzag(INT64_MIN) == UINT64_MAX);
}

#define VERSIONS 300

static unsigned make_versions(struct secret_version *v)
{
    unsigned n = (unsigned)(next_random() % VERSIONS);
    struct secret_version at = {0};
    for (unsigned i = 0; i < n; i++) {
        at.version += 1 + (uint32_t)(next_random() % 3);
        at.sealed_bytes = (uint32_t)(next_random() >> (32 + next_random() % 32));
        at.created_ms = next_random() >> (16 + next_random() % 32);
        at.lsn += next_random() % 4 ? next_random() >> 30 : 0;
        at.flags = next_random() % 2 ? SECRET_VERSION_DELETED : 0;
        at.slot = next_random() % 3 ? SECRET_NO_SLOT : (uint16_t)(next_random() % 1001);
        v[i] = at;
    }
    return n;
}

static void lists_of_versions_come_back(void **state)
{
    struct secret_version v[VERSIONS] = {0}, again[VERSIONS] = {0}, found;
    uint8_t list[VERSIONS * SECRET_VERSION_BYTES_MAX];
    (void)state;
    for (unsigned round = 0; round < 200; round++) {
        struct secret_head h = {.versions = (uint16_t)make_versions(v)};
        h.version_bytes = bytes_of(list, secret_versions_put(list, v, h.versions));
        assert_true(h.version_bytes.n <= (size_t)h.versions * SECRET_VERSION_BYTES_MAX);
        assert_int_equal(secret_versions_get(&h, again), ERR_OK);
        for (unsigned i = 0; i < h.versions; i++) {
            assert_true(again[i].version == v[i].version && again[i].sealed_bytes == v[i].sealed_bytes &&
                        again[i].created_ms == v[i].created_ms && again[i].lsn == v[i].lsn &&
                        again[i].flags == v[i].flags && again[i].slot == v[i].slot);
            assert_true(secret_version_find(&h, v[i].version, &found) && found.lsn == v[i].lsn);
        }
        assert_false(secret_version_find(&h, 0, &found));
        if (h.versions == 0)
            continue;
        h.version_bytes.n--;
        assert_int_equal(secret_versions_get(&h, again), ERR_CORRUPT);
        h.version_bytes.n++;
        h.versions--;
        assert_int_equal(secret_versions_get(&h, again), ERR_CORRUPT); /* something is left over */
    }
}

static struct bytes make_head(uint8_t *out, struct secret_head *h)
{
    static uint8_t list[VERSIONS * SECRET_VERSION_BYTES_MAX];
    static const uint8_t labels[] = {3, 'o', 'n', 'e', 1, 0, 0, 0, 1, 'x', 2, 0, 0, 0};
    struct secret_version v[VERSIONS] = {0};
    *h = (struct secret_head){.flags = SECRET_CURRENT_INLINE,
                              .labels = 2,
                              .last_version = 9,
                              .current = 8,
                              .previous = 7,
                              .expires_ms = 6,
                              .purge_ms = 5,
                              .versions = (uint16_t)make_versions(v),
                              .label_bytes = bytes_of(labels, sizeof labels),
                              .meta = bytes_str("{\"a\":1}"),
                              .value.raw = bytes_str("sealed")};
    h->version_bytes = bytes_of(list, secret_versions_put(list, v, h->versions));
    secret_head_put(h, out);
    return bytes_of(out, secret_head_size(h));
}

static void heads_come_back(void **state)
{
    static uint8_t raw[16384];
    struct secret_head h, again;
    (void)state;
    struct bytes b = make_head(raw, &h);
    assert_int_equal(secret_head_get(b, &again), ERR_OK);
    assert_true(again.last_version == 9 && again.current == 8 && again.previous == 7 && again.expires_ms == 6 &&
                again.purge_ms == 5 && again.versions == h.versions && again.labels == 2);
    assert_true(bytes_equal(again.version_bytes, h.version_bytes) && bytes_equal(again.label_bytes, h.label_bytes) &&
                bytes_equal(again.meta, h.meta) && bytes_equal(again.value.raw, h.value.raw));
    assert_int_equal(secret_label_version(&again, bytes_str("x")), 2);
}

/* Heads are read from disks: cut off or altered anywhere, nothing outside them is read (the sanitizers watch). */
static void malformed_heads_are_refused(void **state)
{
    static uint8_t raw[16384];
    struct secret_version v[SECRET_VERSIONS_MAX];
    struct secret_head h;
    unsigned refused = 0;
    (void)state;
    for (unsigned round = 0; round < 3000; round++) {
        struct bytes b = make_head(raw, &h);
        size_t n = round % 2 ? b.n : next_random() % b.n;
        uint8_t *copy = malloc(n ? n : 1);
        memcpy(copy, b.p, n);
        for (unsigned i = 0; n && i < round % 4; i++)
            copy[next_random() % (n < 40 || next_random() % 2 ? n : 40)] = (uint8_t)next_random();
        if (secret_head_get(bytes_of(copy, n), &h) || secret_versions_get(&h, v))
            refused++;
        else
            (void)secret_label_version(&h, bytes_str("none"));
        free(copy);
    }
    assert_in_range(refused, 1000, 3000);
}

static void a_value_is_found_in_its_record(void **state)
{
    static uint8_t raw[16384];
    uint8_t key[SECRET_KEY_MAX], other_key[SECRET_KEY_MAX];
    struct bytes head_key = secret_key_head(key, 1, bytes_str("p")),
                 other = secret_key_head(other_key, 2, bytes_str("p"));
    struct sealed value;
    struct secret_head h;
    struct buf ops;
    (void)state;
    buf_init(&ops, 1 << 20);
    struct bytes head = make_head(raw, &h);
    assert_int_equal(ops_put(&ops, 1, other, bytes_str("not even a head")), ERR_OK);
    assert_int_equal(ops_delete(&ops, 1, head_key), ERR_OK);
    assert_int_equal(secret_value_in_ops(buf_bytes(&ops), head_key, 8, &value), ERR_NOTFOUND);
    assert_int_equal(ops_put(&ops, 1, head_key, head), ERR_OK);
    assert_int_equal(secret_value_in_ops(buf_bytes(&ops), head_key, 8, &value), ERR_OK);
    assert_true(bytes_equal(value.raw, bytes_str("sealed")));
    assert_int_equal(secret_value_in_ops(buf_bytes(&ops), head_key, 7, &value), ERR_NOTFOUND);
    assert_int_equal(secret_value_in_ops(buf_bytes(&ops), other, 8, &value), ERR_CORRUPT);
    struct bytes cut = bytes_of(buf_data(&ops), buf_size(&ops) - 1);
    assert_int_equal(secret_value_in_ops(cut, head_key, 8, &value), ERR_CORRUPT);
    buf_fini(&ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers),
        cmocka_unit_test(lists_of_versions_come_back),
        cmocka_unit_test(heads_come_back),
        cmocka_unit_test(malformed_heads_are_refused),
        cmocka_unit_test(a_value_is_found_in_its_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
