/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_QUEUE_H
#define IOTGW_QUEUE_H
/*
 * Many producers, one consumer, no locks: the node is part of what is sent, so a push never fails, blocks or
 * allocates. queue_push from any thread; queue_take from the owner only. What is bounded is credit, elsewhere.
 * io/loop.h makes mailboxes of it, which wake their owner.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct node {
    struct node *next;
};

struct queue {
    _Atomic(struct node *) top;
};

/* True if the queue was empty before: then the owner must be told. */
static inline bool queue_push(struct queue *queue, struct node *node)
{
    struct node *top = atomic_load_explicit(&queue->top, memory_order_relaxed);

    do
        node->next = top;
    while (!atomic_compare_exchange_weak_explicit(&queue->top, &top, node, memory_order_acq_rel, memory_order_relaxed));
    return top == NULL;
}

/* All that is there, oldest first, linked by next; NULL if empty. */
static inline struct node *queue_take(struct queue *queue)
{
    struct node *top = atomic_exchange_explicit(&queue->top, NULL, memory_order_acq_rel), *first = NULL;

    while (top) {
        struct node *next = top->next;

        top->next = first;
        first = top;
        top = next;
    }
    return first;
}
#endif
