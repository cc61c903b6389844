/* Histograms: bucket bounds and percentiles. Events: the worst of a second, a ring, reset. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/fault.h"
#include "resp/answer.h"
#include "server/command.h"
#include "server/latency.h"

const struct command commands[] = {{.name = "X"}};
const size_t commands_count = 1;

static void every_time_has_its_bucket(void **state)
{
    (void)state;
    for (uint64_t us = 0; us < 100000; us++) {
        unsigned b = latency_bucket(us);
        assert_true(b < LATENCY_BUCKETS);
        assert_true(latency_bucket_top(b) >= us);
        assert_true(b == 0 || latency_bucket_top(b - 1) < us);
    }
    for (unsigned b = 1; b < LATENCY_BUCKETS; b++) {
        assert_int_equal(latency_bucket(latency_bucket_top(b)), b);
        assert_int_equal(latency_bucket(latency_bucket_top(b - 1) + 1), b);
        /* right to an eighth */
        assert_true(b < 8 || (latency_bucket_top(b) - latency_bucket_top(b - 1)) * 8 <= latency_bucket_top(b) + 1);
    }
    assert_int_equal(latency_bucket(UINT64_MAX), LATENCY_BUCKETS - 1);
}

static void percentiles(void **state)
{
    uint64_t h[LATENCY_BUCKETS] = {0};
    (void)state;
    assert_int_equal(latency_percentile(h, 50), 0);
    assert_int_equal(latency_calls(h), 0);
    h[latency_bucket(1)] = 90;
    h[latency_bucket(5)] = 9;
    h[latency_bucket(1000)] = 1;
    assert_int_equal(latency_calls(h), 100);
    assert_int_equal(latency_percentile(h, 0), 1);
    assert_int_equal(latency_percentile(h, 50), 1);
    assert_int_equal(latency_percentile(h, 90), 1);
    assert_int_equal(latency_percentile(h, 91), 5);
    assert_int_equal(latency_percentile(h, 99), 5);
    assert_int_equal(latency_percentile(h, 99.9), latency_bucket_top(latency_bucket(1000)));
    assert_int_equal(latency_percentile(h, 100), latency_bucket_top(latency_bucket(1000)));
}

static struct buf out;
static struct answer_parser parser;

static const struct answer *history(struct latency *l)
{
    struct reply r;
    size_t used;
    buf_clear(&out);
    reply_init(&r, &out, 2);
    latency_reply_history(l, LATENCY_COMMAND, &r);
    assert_int_equal(answer_parse(&parser, buf_bytes(&out), &used), ANSWER_READY);
    return parser.root;
}

static void events_keep_the_worst_of_a_second(void **state)
{
    struct latency *l;
    struct reply r;
    size_t used;
    (void)state;
    buf_init(&out, 1 << 20);
    answer_parser_init(&parser, &answer_default_limits, 0);
    assert_int_equal(latency_new(&l), ERR_OK);
    assert_int_equal(history(l)->count, 0);
    latency_add(l, LATENCY_COMMAND, 10, 5000);
    latency_add(l, LATENCY_COMMAND, 30, 5400);
    latency_add(l, LATENCY_COMMAND, 20, 5999);
    latency_add(l, LATENCY_COMMAND, 7, 6000);
    const struct answer *a = history(l);
    assert_int_equal(a->count, 2);
    assert_int_equal(a->item[0]->item[0]->integer, 5);
    assert_int_equal(a->item[0]->item[1]->integer, 30);
    assert_int_equal(a->item[1]->item[1]->integer, 7);

    buf_clear(&out);
    reply_init(&r, &out, 2);
    latency_reply_latest(l, &r);
    assert_int_equal(answer_parse(&parser, buf_bytes(&out), &used), ANSWER_READY);
    a = parser.root;
    assert_int_equal(a->count, 1); /* no fast-command yet */
    assert_true(answer_is(a->item[0]->item[0], "command"));
    assert_int_equal(a->item[0]->item[2]->integer, 7);
    assert_int_equal(a->item[0]->item[3]->integer, 30);

    for (uint64_t s = 0; s < 1000; s++) /* the ring forgets the oldest */
        latency_add(l, LATENCY_COMMAND, s, 10000 + s * 1000);
    a = history(l);
    assert_int_equal(a->count, 160);
    assert_int_equal(a->item[0]->item[1]->integer, 840);
    assert_int_equal(a->item[159]->item[1]->integer, 999);
    assert_int_equal(latency_reset(l, LATENCY_COMMAND), 1);
    assert_int_equal(latency_reset(l, LATENCY_COMMAND), 0);
    assert_int_equal(history(l)->count, 0);
    latency_free(l);
    buf_fini(&out);
    answer_parser_fini(&parser);
}

/* Three steps to a row: a twelfth of the range each. */
static void a_graph(void **state)
{
    static const char want[] = "command - high 500 ms, low 100 ms (all time high 500 ms)\n"
                               "--------------------------------------------------------------------------------\n"
                               "    #\n"
                               "   _|\n"
                               "  _||\n"
                               "__|||\n"
                               "     \n"
                               "21115\n"
                               "dhm0s\n"
                               "   s \n";
    static const uint64_t ages[] = {2 * 86400 + 5, 3600, 119, 10, 5}, ms[] = {100, 101, 200, 300, 500};
    uint64_t now = 1000000;
    struct latency *l;
    struct buf b;
    (void)state;
    buf_init(&b, 1 << 20);
    assert_int_equal(latency_new(&l), ERR_OK);
    assert_int_equal(latency_draw(l, LATENCY_COMMAND, now, &b), ERR_NOTFOUND);
    for (unsigned i = 0; i < 5; i++)
        latency_add(l, LATENCY_COMMAND, ms[i], (now - ages[i]) * 1000);
    assert_int_equal(latency_draw(l, LATENCY_COMMAND, now, &b), ERR_OK);
    assert_int_equal(buf_put_u8(&b, 0), ERR_OK);
    assert_string_equal((char *)buf_data(&b), want);

    /* More than a screen is wide; all the same. */
    assert_int_equal(latency_reset(l, LATENCY_COMMAND), 1);
    for (unsigned i = 0; i < 81; i++)
        latency_add(l, LATENCY_COMMAND, 7, (now - 90 + i) * 1000);
    buf_clear(&b);
    assert_int_equal(latency_draw(l, LATENCY_COMMAND, now, &b), ERR_OK);
    assert_int_equal(buf_put_u8(&b, 0), ERR_OK);
    assert_non_null(strstr((char *)buf_data(&b), "\n\n \n \n \n_\n \n1\n0\ns\n"));
    latency_free(l);
    buf_fini(&b);
}

static void faults(void **state)
{
    struct latency *l;
    (void)state;
    fault_arm(FAULT_MEM, 1, 1);
    assert_int_equal(latency_new(&l), ERR_OOM);
    fault_disarm(FAULT_MEM);
    assert_null(l);
    latency_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_time_has_its_bucket),
        cmocka_unit_test(percentiles),
        cmocka_unit_test(events_keep_the_worst_of_a_second),
        cmocka_unit_test(a_graph),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
