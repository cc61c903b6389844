/* The reduction of a stretch of the log: against a simple model, in any order, with repetitions, in parts. */
#include "wal_fixture.h"

#include "engine/changes.h"
#include "engine/ops.h"

#define RECORDS 300
#define KEYS 60

static uint64_t seed = 11;

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

/* ---- random logs ---- */

struct history {
    struct record records[RECORDS];
    struct buf ops[RECORDS];
    size_t n;
};

static struct bytes random_key(char out[32])
{
    uint64_t k = next_random() % KEYS;
    int n = snprintf(out, 32, "%ckey/%0*u", k % 3 ? 'h' : 'v', (int)(k % 7), (unsigned)k);
    return bytes_of(out, (size_t)n);
}

static struct history *history_new(uint64_t first_lsn)
{
    struct history *h = calloc(1, sizeof *h);
    char key[32], value[32];
    assert_non_null(h);
    h->n = RECORDS;
    for (size_t i = 0; i < RECORDS; i++) {
        buf_init(&h->ops[i], 1 << 16);
        for (uint64_t n = next_random() % 4; n; n--) {
            uint16_t store = (uint16_t)(next_random() % 3 * 300);
            struct bytes k = random_key(key);
            int v = snprintf(value, sizeof value, "%llx", (unsigned long long)next_random());
            if (next_random() % 4)
                assert_int_equal(ops_put(&h->ops[i], store, k, bytes_of(value, (size_t)v * (next_random() % 5 != 0))),
                                 ERR_OK);
            else
                assert_int_equal(ops_delete(&h->ops[i], store, k), ERR_OK);
        }
        h->records[i] = (struct record){.lsn = first_lsn + i, .term = 1, .blob = buf_bytes(&h->ops[i])};
    }
    return h;
}

static void history_free(struct history *h)
{
    for (size_t i = 0; i < RECORDS; i++)
        buf_fini(&h->ops[i]);
    free(h);
}

/* ---- what must come out: the last operation in log order ---- */

struct expected {
    uint16_t store;
    struct bytes key, value;
    uint64_t lsn;
    int tombstone;
};

static int by_key(const void *a, const void *b)
{
    const struct expected *x = a, *y = b;
    return x->store != y->store ? (x->store < y->store ? -1 : 1) : bytes_compare(x->key, y->key);
}

static size_t expect(const struct history *h, struct expected *out)
{
    size_t n = 0;
    for (size_t i = 0; i < h->n; i++) {
        struct bytes ops = h->records[i].blob;
        struct op op;
        while (ops_next(&ops, &op) == ERR_OK) {
            size_t at = 0;
            while (at < n && (out[at].store != op.store || !bytes_equal(out[at].key, op.key)))
                at++;
            n += at == n;
            out[at] = (struct expected){op.store, op.key, op.value, h->records[i].lsn, op.kind == OPS_DELETE};
        }
    }
    qsort(out, n, sizeof *out, by_key);
    return n;
}

static void check(struct changes *c, const struct history *h)
{
    static struct expected want[3 * KEYS];
    struct changes_info info;
    uint8_t key[64] = {0};
    size_t n = expect(h, want);

    changes_info(c, &info);
    assert_int_equal(info.keys, n);
    assert_int_equal(info.first_lsn, h->records[0].lsn);
    assert_int_equal(info.last_lsn, h->records[h->n - 1].lsn);
    assert_int_equal(changes_sort(c), ERR_OK);
    for (size_t i = 0; i < n; i++) {
        const struct change *ch = changes_at(c, i);
        const struct record *r = &h->records[want[i].lsn - h->records[0].lsn];
        key[0] = (uint8_t)(want[i].store >> 8);
        key[1] = (uint8_t)want[i].store;
        memcpy(key + 2, want[i].key.p, want[i].key.n);
        struct bytes full = bytes_of(key, 2 + want[i].key.n);
        assert_true(bytes_equal(change_key(ch), full));
        assert_true(ch->lsn == want[i].lsn && ch->tombstone == want[i].tombstone);
        assert_true(bytes_equal(bytes_of(r->blob.p + ch->value_off, ch->value_n), want[i].value));
        assert_ptr_equal(changes_find(c, full), ch);
        assert_int_equal(changes_from(c, full), i);
        key[full.n] = 0; /* right behind it */
        assert_int_equal(changes_from(c, bytes_of(key, full.n + 1)), i + 1);
        key[2] = 'q';
        assert_null(changes_find(c, full));
    }
    assert_int_equal(changes_from(c, bytes_of(NULL, 0)), 0);
}

static struct changes *fresh(void)
{
    struct changes *c;
    assert_int_equal(changes_new(&c), ERR_OK);
    return c;
}

/* ---- tests ---- */

static void nothing_changed(void **state)
{
    (void)state;
    struct changes *c = fresh();
    struct changes_info info;
    changes_info(c, &info);
    assert_int_equal(info.keys + info.first_lsn + info.last_lsn, 0);
    assert_null(changes_find(c, bytes_of("\0\0a", 3)));
    assert_int_equal(changes_sort(c), ERR_OK);
    assert_int_equal(changes_from(c, bytes_of("\0\0a", 3)), 0);
    struct record barrier = {.lsn = 9};
    assert_int_equal(changes_add(c, &barrier), ERR_OK);
    changes_info(c, &info);
    assert_true(info.keys == 0 && info.first_lsn == 9 && info.last_lsn == 9);
    changes_free(c);
    changes_free(NULL);
}

static void neither_order_nor_repetition_matters(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 60; round++) {
        struct history *h = history_new(1 + round * 1000);
        struct changes *c = fresh();
        size_t order[RECORDS];
        for (size_t i = 0; i < RECORDS; i++)
            order[i] = i;
        for (size_t i = RECORDS; round && i > 1; i--) { /* the first round in log order */
            size_t j = next_random() % i, t = order[j];
            order[j] = order[i - 1];
            order[i - 1] = t;
        }
        for (size_t i = 0; i < RECORDS; i++)
            for (uint64_t times = round < 2 ? 1 : 1 + next_random() % 3; times; times--)
                assert_int_equal(changes_add(c, &h->records[next_random() % 5 ? order[i] : order[i / 2]]), ERR_OK);
        for (size_t i = 0; i < RECORDS; i++)
            assert_int_equal(changes_add(c, &h->records[order[i]]), ERR_OK);
        check(c, h);
        changes_free(c);
        history_free(h);
    }
}

/* Parts, overlapping ones too: merged in either direction, grouped either way, and with themselves. */
static void parts_make_the_whole(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 40; round++) {
        struct history *h = history_new(5);
        struct changes *part[3][4]; /* copies: a merge changes its first argument */
        for (unsigned p = 0; p < 3; p++)
            for (unsigned copy = 0; copy < 4; copy++)
                part[p][copy] = fresh();
        for (size_t i = 0; i < RECORDS; i++) {
            unsigned first = (unsigned)(next_random() % 3), second = (unsigned)(next_random() % 3);
            for (unsigned copy = 0; copy < 4; copy++) {
                assert_int_equal(changes_add(part[first][copy], &h->records[i]), ERR_OK);
                assert_int_equal(changes_add(part[second][copy], &h->records[i]), ERR_OK);
            }
        }
        /* (0 + 1) + 2 */
        assert_int_equal(changes_merge(part[0][0], part[1][0]), ERR_OK);
        assert_int_equal(changes_merge(part[0][0], part[2][0]), ERR_OK);
        check(part[0][0], h);
        /* 0 + (1 + 2) */
        assert_int_equal(changes_merge(part[1][1], part[2][1]), ERR_OK);
        assert_int_equal(changes_merge(part[0][1], part[1][1]), ERR_OK);
        check(part[0][1], h);
        /* 2 + (1 + 0) */
        assert_int_equal(changes_merge(part[1][2], part[0][2]), ERR_OK);
        assert_int_equal(changes_merge(part[2][2], part[1][2]), ERR_OK);
        check(part[2][2], h);
        /* again */
        assert_int_equal(changes_merge(part[0][0], part[0][1]), ERR_OK);
        assert_int_equal(changes_merge(part[0][0], part[1][3]), ERR_OK);
        check(part[0][0], h);
        for (unsigned p = 0; p < 3; p++)
            for (unsigned copy = 0; copy < 4; copy++)
                changes_free(part[p][copy]);
        history_free(h);
    }
}

static void what_does_not_belong_in_a_snapshot_is_refused(void **state)
{
    static uint8_t longest[UINT16_MAX] = "k";
    (void)state;
    struct changes *c = fresh();
    struct changes_info info;
    struct buf ops;
    buf_init(&ops, 1 << 20);
    for (int i = 0; i < 5; i++) {
        struct record r = {.lsn = 7};
        buf_clear(&ops);
        assert_int_equal(ops_put(&ops, 1, bytes_str("fine"), bytes_str("v")), ERR_OK);
        if (i == 0)
            assert_int_equal(ops_put(&ops, 1, bytes_of("\0a", 2), bytes_str("v")), ERR_OK);
        if (i == 1)
            assert_int_equal(ops_delete(&ops, 1, bytes_str("old")), ERR_OK);
        if (i == 2)
            assert_int_equal(buf_put_u8(&ops, 1), ERR_OK);
        if (i == 3)
            assert_int_equal(ops_delete(&ops, 1, bytes_of(longest, UINT16_MAX - 1)), ERR_OK);
        if (i == 4) { /* these are all right */
            assert_int_equal(ops_put(&ops, 0, bytes_str("old"), bytes_str("v")), ERR_OK);
            assert_int_equal(ops_delete(&ops, 1, bytes_of(longest, UINT16_MAX - 2)), ERR_OK);
        }
        r.blob = buf_bytes(&ops);
        assert_int_equal(changes_add(c, &r), i < 4 ? ERR_CORRUPT : ERR_OK);
        changes_info(c, &info);
        assert_int_equal(info.keys, i < 4 ? 0 : 3);
        assert_int_equal(info.last_lsn, i < 4 ? 0 : 7);
    }
    buf_fini(&ops);
    changes_free(c);
}

static void memory_that_runs_out_costs_nothing_but_time(void **state)
{
    (void)state;
    struct history *h = history_new(1);
    for (long n = 1;; n++) {
        struct changes *c = NULL, *other = NULL;
        unsigned errors = 0;
        fault_arm(FAULT_MEM, n, 1);
        while (changes_new(&c) != ERR_OK)
            errors++;
        while (changes_new(&other) != ERR_OK)
            errors++;
        for (size_t i = 0; i < RECORDS; i++)
            while (changes_add(i % 2 ? c : other, &h->records[i]) != ERR_OK)
                errors++;
        while (changes_merge(c, other) != ERR_OK)
            errors++;
        while (changes_sort(c) != ERR_OK)
            errors++;
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        assert_int_equal(errors, fired);
        check(c, h);
        changes_free(c);
        changes_free(other);
        if (!fired) {
            assert_true(n > 8);
            break;
        }
    }
    history_free(h);
}

static void memory_is_that_of_the_keys(void **state)
{
    enum { MANY = 50000, OFTEN = 200000 };
    (void)state;
    struct changes *c = fresh();
    struct changes_info info, later;
    char key[32], value[8] = "value";
    struct buf ops;
    buf_init(&ops, 1 << 16);
    for (unsigned i = 0; i < OFTEN; i++) {
        struct record r = {.lsn = 1 + i};
        buf_clear(&ops);
        int n = snprintf(key, sizeof key, "hvault123path/%012u", i % MANY);
        assert_int_equal(ops_put(&ops, 1, bytes_of(key, (size_t)n), bytes_of(value, 5)), ERR_OK);
        r.blob = buf_bytes(&ops);
        assert_int_equal(changes_add(c, &r), ERR_OK);
        if (i == MANY - 1)
            changes_info(c, &info);
    }
    changes_info(c, &later);
    assert_int_equal(later.keys, MANY);
    assert_int_equal(later.memory_bytes, info.memory_bytes);
    assert_true(info.memory_bytes / MANY < 100);
    buf_fini(&ops);
    changes_free(c);
}

/* Values come from the log; a record that is not the one that was added is told. */
static void values_are_read_from_the_log(void **state)
{
    char dir[FX_DIR_BYTES];
    (void)state;
    struct history *h = history_new(1);
    struct wal_config cfg;
    struct wal_reader *rd;
    struct buf log;
    uint8_t chain[RECORD_CHAIN_BYTES] = {0};
    fx_make_dir(dir);
    cfg = fx_config(dir, 8192);
    struct wal *w = fx_open(&cfg, NULL);
    struct changes *c = fresh();
    buf_init(&log, 1 << 20);
    for (size_t i = 0; i < RECORDS; i++) {
        struct record r = h->records[i];
        buf_clear(&log);
        assert_int_equal(record_put(&log, &r, chain), ERR_OK);
        memcpy(chain, r.chain, sizeof chain);
        assert_int_equal(wal_append(w, buf_bytes(&log), 1, r.lsn, chain), ERR_OK);
        assert_int_equal(changes_add(c, &h->records[i]), ERR_OK);
    }
    check(c, h);
    struct changes_info info;
    changes_info(c, &info);
    assert_int_equal(wal_reader_open(&rd, w), ERR_OK);
    for (size_t i = 0; i < info.keys; i++) {
        const struct change *ch = changes_at(c, i);
        struct bytes value;
        assert_int_equal(changes_value(ch, rd, &value), ERR_OK);
        const struct record *r = &h->records[ch->lsn - 1];
        assert_true(bytes_equal(value, bytes_of(r->blob.p + ch->value_off, ch->value_n)));
    }
    struct record other = {.lsn = 3, .blob = h->records[RECORDS - 1].blob}; /* was never in the log like this */
    struct changes *wrong = fresh();
    assert_int_equal(ops_put(&h->ops[RECORDS - 1], 1, bytes_str("some key"), bytes_str("v")), ERR_OK);
    other.blob = buf_bytes(&h->ops[RECORDS - 1]);
    assert_int_equal(changes_add(wrong, &other), ERR_OK);
    struct bytes value;
    const struct change *ch = changes_find(wrong, bytes_of("\0\1some key", 10));
    assert_non_null(ch);
    assert_int_equal(changes_value(ch, rd, &value), ERR_CORRUPT);
    other.lsn = RECORDS + 5;
    assert_int_equal(changes_add(wrong, &other), ERR_OK);
    assert_int_equal(changes_value(ch, rd, &value), ERR_NOTFOUND);
    changes_free(wrong);
    changes_free(c);
    wal_reader_close(rd);
    wal_close(w);
    buf_fini(&log);
    history_free(h);
    fx_remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_changed),
        cmocka_unit_test(neither_order_nor_repetition_matters),
        cmocka_unit_test(parts_make_the_whole),
        cmocka_unit_test(what_does_not_belong_in_a_snapshot_is_refused),
        cmocka_unit_test(memory_that_runs_out_costs_nothing_but_time),
        cmocka_unit_test(memory_is_that_of_the_keys),
        cmocka_unit_test(values_are_read_from_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
