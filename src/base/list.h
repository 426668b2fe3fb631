/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_LIST_H
#define IOTGW_LIST_H
/*
 * Doubly linked ring; the node is part of the element, the head is a node of its own. A zeroed node is "in no list":
 * list_del and list_is_linked accept it. One thread.
 */
#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *head)
{
    head->next = head->prev = head;
}

static inline bool list_is_linked(const struct list *node)
{
    return node->next != NULL;
}

static inline bool list_is_empty(const struct list *head)
{
    return head->next == head;
}

static inline void list_add_after(struct list *at, struct list *node)
{
    node->next = at->next;
    node->prev = at;
    at->next->prev = node;
    at->next = node;
}

static inline void list_add_tail(struct list *head, struct list *node)
{
    list_add_after(head->prev, node);
}

static inline void list_del(struct list *node)
{
    if (node->next) {
        node->next->prev = node->prev;
        node->prev->next = node->next;
        node->next = node->prev = NULL;
    }
}

static inline struct list *list_first(const struct list *head)
{
    return head->next == head ? NULL : head->next;
}

static inline struct list *list_take_first(struct list *head)
{
    struct list *node = list_first(head);

    if (node)
        list_del(node);
    return node;
}

#define LIST_EACH(node, head) for (struct list *node = (head)->next; node != (head); node = node->next)
/* The element may be unlinked or freed in the body. */
#define LIST_EACH_SAFE(node, head)                                                                                     \
    for (struct list *node = (head)->next, *node##_next = node->next; node != (head);                                  \
         node = node##_next, node##_next = node->next)
#endif
