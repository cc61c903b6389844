/* test_lcs.c - the longest common subsequence, against Redis's whole table of lengths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/fault.h"
#include "base/mem.h"
#include "server/lcs.h"

#define MAX 60

static uint64_t seed = 1;

static uint64_t draw(uint64_t below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed % below;
}

static unsigned table[MAX + 1][MAX + 1];

static void fill_table(struct bytes a, struct bytes b)
{
    for (size_t i = 1; i <= a.n; i++)
        for (size_t j = 1; j <= b.n; j++)
            table[i][j] = a.p[i - 1] == b.p[j - 1]            ? table[i - 1][j - 1] + 1
                          : table[i - 1][j] > table[i][j - 1] ? table[i - 1][j]
                                                              : table[i][j - 1];
}

/* The way back through the table, byte by byte, must be the one of the matches. */
static void check_way(struct bytes a, struct bytes b, struct lcs *l)
{
    struct lcs_match m = {0};
    size_t i = a.n, j = b.n, seen = 0;
    int more = lcs_next(l, &m);
    for (size_t left = m.n; i && j;) {
        if (a.p[i - 1] != b.p[j - 1]) {
            if (table[i - 1][j] > table[i][j - 1])
                i--;
            else
                j--;
            continue;
        }
        assert_true(more);
        i--;
        j--;
        seen++;
        assert_int_equal(m.a + --left, i);
        assert_int_equal(m.b + left, j);
        if (left == 0 && (more = lcs_next(l, &m)))
            left = m.n;
    }
    assert_false(more);
    assert_int_equal(seen, l->length);
}

static void as_redis_finds_it(void **state)
{
    (void)state;
    for (int round = 0; round < 3000; round++) {
        uint8_t x[MAX], y[MAX];
        struct bytes a = bytes_of(x, draw(MAX + 1)), b = bytes_of(y, draw(MAX + 1));
        uint64_t letters = 1 + draw(5);
        struct lcs l;
        for (size_t i = 0; i < MAX; i++) {
            x[i] = (uint8_t)draw(letters);
            y[i] = (uint8_t)draw(letters);
        }
        fill_table(a, b);
        assert_int_equal(lcs_init(&l, a, b, 0), ERR_OK);
        assert_int_equal(l.length, table[a.n][b.n]);
        assert_null(l.up);
        lcs_fini(&l);
        assert_int_equal(lcs_init(&l, a, b, 1), ERR_OK);
        assert_int_equal(l.length, table[a.n][b.n]);
        check_way(a, b, &l);
        lcs_fini(&l);
    }
}

static void what_is_too_big_is_refused_at_once(void **state)
{
    struct lcs l;
    size_t n = 4096;
    uint8_t *x = calloc(1, LCS_CELLS_MAX + 1);
    (void)state;
    assert_non_null(x);
    assert_int_equal(lcs_init(&l, bytes_of(x, n), bytes_of(x, n), 1), ERR_OK);
    assert_int_equal(l.length, n);
    lcs_fini(&l);
    assert_int_equal(lcs_init(&l, bytes_of(x, n + 1), bytes_of(x, n), 1), ERR_TOOBIG);
    lcs_fini(&l);
    assert_int_equal(lcs_init(&l, bytes_of(x, 1), bytes_of(x, LCS_CELLS_MAX), 1), ERR_OK);
    assert_int_equal(l.length, 1);
    lcs_fini(&l);
    assert_int_equal(lcs_init(&l, bytes_of(x, LCS_CELLS_MAX + 1), bytes_of(x, 1), 0), ERR_TOOBIG);
    lcs_fini(&l);
    free(x);
}

static void without_memory(void **state)
{
    struct lcs l;
    int tries = 0;
    enum err err = ERR_OOM;
    struct mem_secret_stats before, after;
    (void)state;
    mem_secret_stats(&before);
    while (err == ERR_OOM) {
        fault_arm(FAULT_MEM, ++tries, 1);
        err = lcs_init(&l, bytes_str("secrets"), bytes_str("scripts"), 1);
        fault_disarm(FAULT_MEM);
        if (err == ERR_OK)
            assert_int_equal(l.length, 5);
        lcs_fini(&l);
    }
    assert_int_equal(err, ERR_OK);
    assert_int_equal(tries, 3);
    mem_secret_stats(&after);
    assert_int_equal(after.used_bytes, before.used_bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_redis_finds_it),
        cmocka_unit_test(what_is_too_big_is_refused_at_once),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
