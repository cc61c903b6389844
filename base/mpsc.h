/* mpsc.h - many producers, one consumer: an intrusive queue without a lock.
 *
 * Producers push single nodes; the consumer takes everything at once, oldest first. Order of one producer is kept.
 * mpsc_push tells whether the queue was empty before: only then must the consumer be woken (eventfd, futex), so a
 * burst costs one wake-up.
 */
#ifndef COFFER_BASE_MPSC_H
#define COFFER_BASE_MPSC_H

#include <stdatomic.h>
#include <stddef.h>

struct mpsc_node {
    struct mpsc_node *next;
};

struct mpsc {
    _Atomic(struct mpsc_node *) head;
};

static inline void mpsc_init(struct mpsc *q)
{
    atomic_init(&q->head, NULL);
}

/* A chain of nodes, newest first, of which oldest is the last. 1 when the queue was empty. The queue holds them until
 * they are taken. */
static inline int mpsc_push_chain(struct mpsc *q, struct mpsc_node *newest, struct mpsc_node *oldest)
{
    struct mpsc_node *old = atomic_load_explicit(&q->head, memory_order_relaxed);
    do
        oldest->next = old;
    while (!atomic_compare_exchange_weak_explicit(&q->head, &old, newest, memory_order_release, memory_order_relaxed));
    return old == NULL;
}

/* One node. */
static inline int mpsc_push(struct mpsc *q, struct mpsc_node *n)
{
    return mpsc_push_chain(q, n, n);
}

/* All nodes, oldest first, linked by next; NULL when empty. */
static inline struct mpsc_node *mpsc_take(struct mpsc *q)
{
    struct mpsc_node *n = atomic_exchange_explicit(&q->head, NULL, memory_order_acquire), *fifo = NULL;
    while (n) {
        struct mpsc_node *next = n->next;
        n->next = fifo;
        fifo = n;
        n = next;
    }
    return fifo;
}

#define mpsc_entry(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

#endif
