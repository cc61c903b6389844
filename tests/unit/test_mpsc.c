#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mpsc.h"

struct item {
    int producer, number;
    struct mpsc_node node; /* not first, so that mpsc_entry has something to subtract */
};

static void oldest_first_and_all_at_once(void **state)
{
    struct mpsc q;
    struct item item[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
    (void)state;
    mpsc_init(&q);
    assert_null(mpsc_take(&q));
    assert_int_equal(mpsc_push(&q, &item[0].node), 1);
    assert_int_equal(mpsc_push(&q, &item[1].node), 0);
    assert_int_equal(mpsc_push(&q, &item[2].node), 0);
    struct mpsc_node *n = mpsc_take(&q);
    for (int i = 0; i < 3; i++, n = n->next)
        assert_ptr_equal(mpsc_entry(n, struct item, node), &item[i]);
    assert_null(n);
    assert_null(mpsc_take(&q));
    assert_int_equal(mpsc_push(&q, &item[1].node), 1);
    n = mpsc_take(&q);
    assert_ptr_equal(n, &item[1].node);
    assert_null(n->next);
}

#define PRODUCERS 4
#define ITEMS 20000

static struct mpsc queue;
static sem_t wake;
static struct item items[PRODUCERS][ITEMS];

static void *produce(void *arg)
{
    int id = (int)(intptr_t)arg;
    for (int i = 0; i < ITEMS; i++) {
        items[id][i].producer = id;
        items[id][i].number = i;
        if (mpsc_push(&queue, &items[id][i].node))
            sem_post(&wake);
    }
    return NULL;
}

/* The consumer sleeps unless a push said that the queue was empty: one such answer too few, and this never ends; and
 * each wake-up finds something, since only a take makes the queue empty again. */
static void producers_wake_the_consumer_for_every_item_in_order(void **state)
{
    pthread_t t[PRODUCERS];
    int next[PRODUCERS] = {0}, total = 0;
    (void)state;
    mpsc_init(&queue);
    sem_init(&wake, 0, 0);
    for (intptr_t i = 0; i < PRODUCERS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, produce, (void *)i), 0);
    while (total < PRODUCERS * ITEMS) {
        sem_wait(&wake);
        struct mpsc_node *n = mpsc_take(&queue);
        assert_non_null(n);
        while (n) {
            struct item *got = mpsc_entry(n, struct item, node);
            n = n->next;
            assert_int_equal(got->number, next[got->producer]);
            next[got->producer]++;
            total++;
        }
    }
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(t[i], NULL);
    assert_null(mpsc_take(&queue));
    assert_int_equal(sem_trywait(&wake), -1);
    sem_destroy(&wake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(oldest_first_and_all_at_once),
        cmocka_unit_test(producers_wake_the_consumer_for_every_item_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
