/* SPDX-License-Identifier: Apache-2.0 */
#include "io/loop_impl.h"

/* Rounds of mailboxes, and passes over late hooks, that one turn allows itself before sockets and timers are asked. */
enum { MAX_ROUNDS = 16 };

/* One round: every mailbox that is ready now; what the handlers post is for the next one. */
static bool run_mailboxes(struct loop *loop)
{
    /* A look without a locked instruction first: most rounds find nothing. */
    if (!atomic_load_explicit(&loop->ready.top, memory_order_relaxed))
        return false;
    loop->round = queue_take(&loop->ready);
    while (loop->round) {
        struct mailbox *box = CONTAINER_OF(loop->round, struct mailbox, ready);

        loop->round = loop->round->next; /* before the box is emptied: then its link may be used again, by any thread */
        box->handler(box->arg, queue_take(&box->queue));
    }
    return true;
}

static struct list *first_armed(struct loop *loop)
{
    for (size_t rank = 0; rank < LATE_RANKS; rank++) {
        if (!list_is_empty(&loop->late[rank]))
            return &loop->late[rank];
    }
    return NULL;
}

/* The hooks that are armed now, each once: one that arms itself again waits for the next pass. */
static void run_rank(struct list *armed)
{
    struct list now, *node;

    now = *armed;
    now.next->prev = now.prev->next = &now;
    list_init(armed);
    while ((node = list_take_first(&now))) {
        struct late *late = CONTAINER_OF(node, struct late, node);

        late->is_armed = false;
        late->fn(late->arg);
    }
}

/*
 * Mailboxes come before every rank, so that what connectors hand over in LATE_EMIT is stored and answered before the
 * uplink packs, and the answers' bytes are there when connections write.
 */
bool turn_run(struct loop *loop)
{
    unsigned n_rounds = 0, n_passes = 0;

    for (;;) {
        struct list *armed;

        while (n_rounds < MAX_ROUNDS && run_mailboxes(loop))
            n_rounds++;
        armed = first_armed(loop);
        if (!armed || n_passes++ == MAX_ROUNDS)
            break;
        run_rank(armed);
    }
    return !turn_is_idle(loop);
}

bool turn_is_idle(const struct loop *loop)
{
    if (atomic_load_explicit(&loop->ready.top, memory_order_acquire))
        return false;
    for (size_t rank = 0; rank < LATE_RANKS; rank++) {
        if (!list_is_empty(&loop->late[rank]))
            return false;
    }
    return true;
}

void mailbox_init(struct mailbox *box, struct loop *loop, mailbox_fn *handler, void *arg)
{
    *box = (struct mailbox){.loop = loop, .handler = handler, .arg = arg};
}

void mailbox_post(struct mailbox *box, struct node *node)
{
    struct loop *loop = box->loop;

    /* Once the node is in, the owner may take it, answer, and free the box: it is not touched after the last push. */
    if (queue_push(&box->queue, node) && queue_push(&loop->ready, &box->ready))
        loop_wake(loop);
}

static void unlink_from(struct node **at, const struct node *node)
{
    while (*at && *at != node)
        at = &(*at)->next;
    if (*at)
        *at = node->next;
}

struct node *mailbox_fini(struct mailbox *box)
{
    struct loop *loop = box->loop;
    struct node *node;

    if (!loop || !atomic_load_explicit(&box->queue.top, memory_order_acquire))
        return NULL; /* then it is in no list either */
    unlink_from(&loop->round, &box->ready);
    node = queue_take(&loop->ready);
    unlink_from(&node, &box->ready);
    while (node) { /* the loop looks at them before it waits, as it would have */
        struct node *next = node->next;

        queue_push(&loop->ready, node);
        node = next;
    }
    return queue_take(&box->queue);
}

void late_init(struct late *late, enum late_rank rank, void (*fn)(void *arg), void *arg)
{
    *late = (struct late){.rank = rank, .fn = fn, .arg = arg};
}

void late_arm(struct loop *loop, struct late *late)
{
    loop_assert(loop);
    if (late->is_armed)
        return;
    late->is_armed = true;
    list_add_tail(&loop->late[late->rank], &late->node);
}

void late_cancel(struct late *late)
{
    list_del(&late->node);
    late->is_armed = false;
}
