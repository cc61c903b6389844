/* The queue of one worker: frames, ids, what is kept until it is answered, limits, failing allocations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/mem.h"
#include "hsm/pool_queue.h"

static struct pool_queue q;
static uint8_t filler[1 << 20];

static int fresh(void **state)
{
    (void)state;
    pool_queue_init(&q);
    return 0;
}

static int finish(void **state)
{
    struct mem_secret_stats s;

    (void)state;
    pool_queue_fini(&q);
    mem_secret_stats(&s);
    assert_int_equal(s.used_bytes, 0); /* every chunk was given back */
    return 0;
}

/* A request that can be told by its number: it is in the frame, and r points at it. */
static enum err put(unsigned number, size_t bytes)
{
    struct pool_entry e = {.op = HSM_RANDOM, .r = (struct hsm_req *)(uintptr_t)(number + 1)};
    struct bytes part[2] = {bytes_of(&number, sizeof number), bytes_of(filler, bytes)};
    return pool_queue_put(&q, &e, part, 2);
}

static unsigned number_of(const struct pool_entry *e)
{
    return (unsigned)(uintptr_t)e->r - 1;
}

/* Takes what is unsent, at most max bytes, and appends it to out. */
static size_t send_some(struct buf *out, size_t max)
{
    struct iovec iov[16];
    int n = pool_queue_unsent(&q, iov, 16);
    size_t sent = 0;

    for (int i = 0; i < n && sent < max; i++) {
        size_t m = iov[i].iov_len < max - sent ? iov[i].iov_len : max - sent;
        assert_int_equal(buf_put(out, iov[i].iov_base, m), ERR_OK);
        sent += m;
    }
    pool_queue_sent(&q, sent);
    return sent;
}

/* Takes a frame off in; its number, and its id. */
static unsigned next_frame(struct buf *in, uint32_t *id)
{
    struct hsm_frame f;
    size_t used;
    unsigned number;

    assert_int_equal(proto_get(buf_bytes(in), &f, &used), ERR_OK);
    assert_int_equal(f.parts, 2);
    memcpy(&number, f.part[0].p, sizeof number);
    *id = f.id;
    buf_consume(in, used);
    return number;
}

static void test_empty(void **state)
{
    (void)state;
    struct pool_entry e;
    struct iovec iov[1];

    assert_null(pool_queue_front(&q));
    assert_int_equal(pool_queue_answer(&q, 0, &e), 0);
    assert_int_equal(pool_queue_pop(&q, &e), 0);
    assert_int_equal(pool_queue_unsent(&q, iov, 1), 0);
}

/* Requests of all sizes, written in pieces of all sizes, answered in any order. */
static void test_random_traffic(void **state)
{
    (void)state;
    enum { N = 20000 };
    static uint32_t waiting[N];
    static uint8_t answered[N];
    struct buf wire;
    uint64_t r = 88172645463325252u;
    unsigned put_count = 0, waits = 0, done = 0;
    struct pool_entry e;

    memset(answered, 0, sizeof answered);
    buf_init(&wire, (size_t)64 << 20);
    while (done < N) {
        r ^= r << 13, r ^= r >> 7, r ^= r << 17;
        unsigned dice = (unsigned)(r >> 8) % 10;
        if (dice < 4 && put_count < N) {
            size_t size = (r >> 20) % 100 == 0 ? (r >> 30) % 200000 : (r >> 30) % 2000;
            enum err err = put(put_count, size);
            assert_true(err == ERR_OK || err == ERR_THROTTLED);
            put_count += err == ERR_OK;
        } else if (dice < 7) {
            send_some(&wire, (r >> 20) % 100000);
        }
        struct hsm_frame f;
        size_t used;
        while (proto_get(buf_bytes(&wire), &f, &used) == ERR_OK)
            (void)next_frame(&wire, &waiting[waits++]);
        if (dice >= 7 && waits > done) {
            unsigned at = done + (dice == 9 ? (unsigned)(r >> 20) % (waits - done) : 0);
            uint32_t id = waiting[at];
            waiting[at] = waiting[done];
            assert_int_equal(pool_queue_answer(&q, id, &e), 1);
            assert_int_equal(answered[number_of(&e)]++, 0);
            assert_int_equal(pool_queue_answer(&q, id, &e), 0); /* once only */
            done++;
        }
        assert_int_equal(q.count, put_count - done);
    }
    assert_int_equal(q.bytes, 0);
    buf_fini(&wire);
}

static void test_answers_to_what_was_not_sent(void **state)
{
    (void)state;
    struct pool_entry e;
    struct buf wire;

    buf_init(&wire, 4096);
    assert_int_equal(put(0, 10), ERR_OK);
    assert_int_equal(put(1, 10), ERR_OK);
    assert_int_equal(pool_queue_answer(&q, 0, &e), 0);
    send_some(&wire, pool_queue_front(&q)->len + 1);
    assert_int_equal(pool_queue_was_sent(pool_queue_at(&q, 0)), 1);
    assert_int_equal(pool_queue_was_sent(pool_queue_at(&q, 1)), 0); /* the first byte is not enough */
    assert_int_equal(pool_queue_answer(&q, 1, &e), 0);
    assert_int_equal(pool_queue_answer(&q, 2, &e), 0);
    assert_int_equal(pool_queue_answer(&q, 0xffffffff, &e), 0);
    assert_int_equal(pool_queue_answer(&q, 0, &e), 1);
    assert_int_equal(number_of(&e), 0);
    buf_fini(&wire);
}

/* To another queue: the same frame under an id of that queue. */
static void test_copy(void **state)
{
    (void)state;
    struct pool_queue to;
    struct pool_entry e;
    struct buf wire;
    uint32_t id;

    buf_init(&wire, (size_t)4 << 20);
    pool_queue_init(&to);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(put(i, i * 30000), ERR_OK);
    send_some(&wire, 50);
    for (uint32_t i = 0; i < 5; i++) {
        e = *pool_queue_at(&q, i);
        e.moved = 1;
        assert_int_equal(pool_queue_copy(&to, &e), ERR_OK);
    }
    pool_queue_fini(&q);
    q = to;
    buf_clear(&wire);
    while (send_some(&wire, 4096))
        ;
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(next_frame(&wire, &id), i);
        assert_int_equal(pool_queue_answer(&q, id, &e), 1);
        assert_int_equal(number_of(&e), i);
        assert_int_equal(e.moved, 1);
    }
    buf_fini(&wire);
}

static void test_limits(void **state)
{
    (void)state;
    struct pool_queue to;
    unsigned n = 0;

    assert_int_equal(put(0, HSM_FRAME_MAX), ERR_TOOBIG);
    assert_int_equal(put(0, HSM_FRAME_MAX - HSM_FRAME_HEADER - 8 - sizeof(unsigned) + 1), ERR_TOOBIG);
    assert_int_equal(q.count, 0);
    while (put(n, 0) == ERR_OK)
        n++;
    assert_int_equal(n, POOL_QUEUE_MAX);
    assert_int_equal(put(n, 0), ERR_THROTTLED);
    /* What is repeated for others may go over it, but not without end. */
    pool_queue_init(&to);
    for (n = 0; n < 3; n++)
        for (uint32_t i = 0; i < POOL_QUEUE_MAX; i++)
            assert_int_equal(pool_queue_copy(&to, pool_queue_at(&q, i)), n < 2 ? ERR_OK : ERR_THROTTLED);
    pool_queue_fini(&to);
    pool_queue_fini(&q);
    for (n = 0; put(n, sizeof filler) == ERR_OK; n++)
        ;
    assert_int_equal(n, POOL_QUEUE_BYTES / sizeof filler - 1);
}

/* Plaintext does not stay once it is answered. */
static void test_an_idle_queue_holds_no_request(void **state)
{
    (void)state;
    struct pool_entry e;
    struct iovec iov[1];
    struct buf wire;
    const uint8_t *chunk;
    uint32_t id;

    buf_init(&wire, 1 << 20);
    memset(filler, 0xa5, 1000);
    assert_int_equal(put(0, 1000), ERR_OK);
    assert_int_equal(pool_queue_unsent(&q, iov, 1), 1);
    chunk = iov[0].iov_base;
    send_some(&wire, 1 << 20);
    (void)next_frame(&wire, &id);
    assert_int_equal(pool_queue_answer(&q, id, &e), 1);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(chunk[i], 0);
    assert_int_equal(put(1, 10), ERR_OK); /* in the same chunk */
    assert_int_equal(pool_queue_unsent(&q, iov, 1), 1);
    assert_ptr_equal(iov[0].iov_base, chunk);
    memset(filler, 0, 1000);
    buf_fini(&wire);
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    int fired = 1;

    for (long n = 1; fired; n++) {
        unsigned queued = 0;
        fault_arm(FAULT_MEM, n, 1);
        for (unsigned i = 0; i < 300; i++) {
            unsigned count = q.count;
            size_t bytes = q.bytes;
            enum err e = put(i, i % 50 == 49 ? 100000 : 700);
            assert_true(e == ERR_OK || e == ERR_OOM);
            if (e == ERR_OOM) {
                assert_int_equal(q.count, count);
                assert_int_equal(q.bytes, bytes);
            }
            queued += e == ERR_OK;
        }
        fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        struct pool_entry e;
        assert_int_equal(queued, fired ? 299 : 300);
        for (; queued > 0; queued--)
            assert_int_equal(pool_queue_pop(&q, &e), 1);
        pool_queue_fini(&q);
        assert_true(n < 100);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_empty, fresh, finish),
        cmocka_unit_test_setup_teardown(test_random_traffic, fresh, finish),
        cmocka_unit_test_setup_teardown(test_answers_to_what_was_not_sent, fresh, finish),
        cmocka_unit_test_setup_teardown(test_copy, fresh, finish),
        cmocka_unit_test_setup_teardown(test_limits, fresh, finish),
        cmocka_unit_test_setup_teardown(test_an_idle_queue_holds_no_request, fresh, finish),
        cmocka_unit_test_setup_teardown(test_every_allocation_may_fail, fresh, finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
