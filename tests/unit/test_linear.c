/* test_linear.c - the checker of histories: histories that are linearizable and such that are not, and many small ones
 * at random, for which every order is tried. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/linear.h"

#define OPS 8
#define W LINEAR_WRITE
#define S LINEAR_SWAP
#define R LINEAR_READ
#define L LINEAR_LOCAL_READ
#define NEVER LINEAR_NEVER

static const struct row {
    const char *name;
    int linearizable;
    struct linear_op
        ops[OPS]; /* kind, key, session, wrote, saw, called, returned; up to the first that returned at 0 */
} rows[] = {
    {"nothing", 1, {{0}}},
    {"a write, and who saw it", 1, {{W, 0, 0, 1, 0, 1, 2}, {R, 0, 0, 0, 1, 3, 4}}},
    {"a read that missed a write that was over", 0, {{W, 0, 0, 1, 0, 1, 2}, {R, 0, 0, 0, 0, 3, 4}}},
    {"a read beside a write sees the old", 1, {{W, 0, 0, 1, 0, 1, 4}, {R, 0, 1, 0, 0, 2, 3}}},
    {"a read beside a write sees the new", 1, {{W, 0, 0, 1, 0, 1, 4}, {R, 0, 1, 0, 1, 2, 3}}},
    {"a read of the new, then of the old", 0, {{W, 0, 0, 1, 0, 1, 9}, {R, 0, 1, 0, 1, 2, 3}, {R, 0, 1, 0, 0, 4, 5}}},
    {"what nobody wrote", 0, {{R, 0, 0, 0, 7, 1, 2}}},
    {"what will be written", 0, {{R, 0, 0, 0, 1, 1, 2}, {W, 0, 1, 1, 0, 3, 4}}},
    {"another key's value", 0, {{W, 0, 0, 1, 0, 1, 2}, {R, 1, 0, 0, 1, 3, 4}}},
    {"two keys", 1, {{W, 0, 0, 1, 0, 1, 2}, {W, 1, 0, 1, 0, 3, 4}, {R, 0, 0, 0, 1, 5, 6}, {R, 1, 0, 0, 1, 5, 6}}},
    {"a lost write", 0, {{W, 0, 0, 1, 0, 1, 2}, {W, 0, 0, 2, 0, 3, 4}, {R, 0, 0, 0, 1, 5, 6}}},
    {"two writes side by side, read in one order",
     1,
     {{W, 0, 0, 1, 0, 1, 4}, {W, 0, 1, 2, 0, 2, 5}, {R, 0, 2, 0, 2, 6, 7}, {R, 0, 2, 0, 2, 8, 9}}},
    {"two writes side by side, read in two orders",
     0,
     {{W, 0, 0, 1, 0, 1, 4}, {W, 0, 1, 2, 0, 2, 5}, {R, 0, 2, 0, 2, 6, 7}, {R, 0, 2, 0, 1, 8, 9}}},
    {"one of which nobody knows, seen late",
     1,
     {{W, 0, 0, 1, 0, 1, NEVER}, {R, 0, 1, 0, 0, 2, 3}, {R, 0, 1, 0, 1, 4, 5}}},
    {"one of which nobody knows, seen and gone",
     0,
     {{W, 0, 0, 1, 0, 1, NEVER}, {R, 0, 1, 0, 1, 2, 3}, {R, 0, 1, 0, 0, 4, 5}}},
    {"one of which nobody knows, never seen", 1, {{S, 0, 0, 1, 0, 1, NEVER}, {R, 0, 1, 0, 0, 2, 3}}},
    {"swaps in a row", 1, {{S, 0, 0, 1, 0, 1, 2}, {S, 0, 1, 2, 1, 3, 4}, {R, 0, 0, 0, 2, 5, 6}}},
    {"two swaps of one value", 0, {{S, 0, 0, 1, 0, 1, 9}, {S, 0, 1, 2, 0, 1, 9}}},
    {"a swap of what was lost afterwards", 0, {{S, 0, 0, 1, 0, 1, 2}, {S, 0, 1, 2, 1, 3, 4}, {S, 0, 0, 3, 1, 5, 6}}},
    {"swaps round in a circle", 0, {{S, 0, 0, 1, 2, 1, 9}, {S, 0, 1, 2, 1, 1, 9}}},
    {"a read between two that a swap ties", 0, {{W, 0, 0, 1, 0, 1, 2}, {S, 0, 0, 2, 1, 3, 4}, {R, 0, 1, 0, 1, 5, 6}}},
    {"a swap that was over before what it saw began", 0, {{S, 0, 0, 2, 1, 1, 2}, {W, 0, 1, 1, 0, 3, 4}}},
    {"a write that must be between two that a swap ties",
     0,
     {{W, 0, 0, 1, 0, 1, 2}, {W, 0, 0, 3, 0, 3, 4}, {S, 0, 0, 2, 1, 5, 6}}},
    {"a swap ties to one of which nobody knows",
     1,
     {{S, 0, 0, 1, 0, 1, 2}, {S, 0, 1, 2, 0, 3, NEVER}, {S, 0, 0, 3, 2, 4, 5}, {R, 0, 0, 0, 3, 6, 7}}},
    {"a value twice", 0, {{W, 0, 0, 1, 0, 1, 2}, {W, 0, 0, 1, 0, 3, 4}}},
    {"an old local read", 1, {{W, 0, 0, 1, 0, 1, 2}, {L, 0, 1, 0, 0, 3, 4}}},
    {"a local read of what nobody wrote", 0, {{L, 0, 0, 0, 1, 3, 4}}},
    {"a local read of what will be written", 0, {{L, 0, 0, 0, 1, 1, 2}, {W, 0, 1, 1, 0, 3, 4}}},
    {"local reads that go back",
     0,
     {{W, 0, 0, 1, 0, 1, 2}, {W, 0, 0, 2, 0, 3, 4}, {L, 0, 1, 0, 2, 5, 6}, {L, 0, 1, 0, 1, 7, 8}}},
    {"local reads that go back, of different sessions",
     1,
     {{W, 0, 0, 1, 0, 1, 2}, {W, 0, 0, 2, 0, 3, 4}, {L, 0, 1, 0, 2, 5, 6}, {L, 0, 2, 0, 1, 7, 8}}},
    {"local reads that go back along swaps",
     0,
     {{S, 0, 0, 1, 0, 1, 9}, {S, 0, 2, 2, 1, 1, 9}, {L, 0, 1, 0, 2, 2, 3}, {L, 0, 1, 0, 1, 4, 5}}},
    {"a local read that does not see the own write", 0, {{W, 0, 0, 1, 0, 1, 2}, {L, 0, 0, 0, 0, 3, 4}}},
};

static void known_histories(void **state)
{
    char why[256];
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct linear_op ops[OPS];
        size_t n = 0;
        memcpy(ops, rows[i].ops, sizeof ops);
        while (n < OPS && ops[n].returned)
            n++;
        why[0] = 0;
        if (linear_check(ops, n, why, sizeof why) != rows[i].linearizable)
            fail_msg("%s: %s", rows[i].name, why);
        if (!rows[i].linearizable)
            assert_true(strlen(why) > 10);
    }
}

/* ---- every order is tried ---- */

static uint64_t rng;
static unsigned draw(unsigned below)
{
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(rng >> 33) % below;
}

/* Can those that are left happen, from this value on? Who is pending may be left out. */
static int can_go_on(const struct linear_op *ops, size_t n, unsigned done, uint64_t value)
{
    uint64_t first_return = LINEAR_NEVER;
    for (size_t i = 0; i < n; i++)
        if (!(done >> i & 1) && ops[i].returned < first_return)
            first_return = ops[i].returned;
    if (first_return == LINEAR_NEVER)
        return 1;
    for (size_t i = 0; i < n; i++) {
        int pending = ops[i].returned == LINEAR_NEVER;
        if (done >> i & 1 || ops[i].called > first_return)
            continue;
        if (ops[i].kind != LINEAR_WRITE && !pending && ops[i].saw != value)
            continue;
        if (can_go_on(ops, n, done | 1u << i, ops[i].kind == LINEAR_READ ? value : ops[i].wrote))
            return 1;
    }
    return 0;
}

/* A history that happened, each operation at a moment of its own; then, maybe, one saw something else. */
static size_t make_history(struct linear_op *ops)
{
    size_t n = 2 + draw(OPS - 1);
    uint64_t value = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t at = 100 * (i + 1);
        struct linear_op *op = &ops[i];
        *op = (struct linear_op){.kind = (enum linear_kind)draw(3), .session = (uint32_t)i, .saw = value};
        op->called = at - draw(1 + 300 * draw(2)) % at;
        op->returned = draw(6) ? at + draw(1 + 300 * draw(2)) : LINEAR_NEVER;
        if (op->kind == LINEAR_READ && op->returned == LINEAR_NEVER)
            op->returned = at;
        if (op->kind != LINEAR_READ)
            op->wrote = i + 1;
        if (op->wrote && (op->returned != LINEAR_NEVER || draw(2)))
            value = op->wrote;
    }
    if (draw(2))
        ops[draw((unsigned)n)].saw = draw((unsigned)n + 1);
    return n;
}

static void agrees_with_trying_every_order(void **state)
{
    unsigned said[2] = {0};
    char why[256] = "";
    (void)state;
    for (unsigned round = 0; round < 100000; round++) {
        struct linear_op ops[OPS], sorted[OPS];
        rng = round;
        size_t n = make_history(ops);
        memcpy(sorted, ops, sizeof ops);
        int want = can_go_on(ops, n, 0, 0);
        if (linear_check(sorted, n, why, sizeof why) != want)
            fail_msg("history %u: it is %slinearizable, and the checker says %s", round, want ? "" : "not ", why);
        said[want]++;
    }
    assert_true(said[0] > 10000 && said[1] > 10000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_histories),
        cmocka_unit_test(agrees_with_trying_every_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
