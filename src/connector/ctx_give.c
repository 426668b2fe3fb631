/* SPDX-License-Identifier: Apache-2.0 */
/* What a connector has filled, on its way to the store. */
#include "connector/ctx_impl.h"

/* Whole source messages, all of them marked. */
void ctx_give(void *arg, struct batch *batch)
{
    struct ctx *ctx = ctx_ref(arg);

    if (UNLIKELY(ctx->is_repeating))
        batch->cookie = 0;
    else
        batch->cookie = ctx->cookie_given = ctx->cookie;
    batch->can_wait = !(ctx->type->flags & CONNECTOR_CANNOT_WAIT);
    ctx->in_flight_bytes += batch->n_bytes;
    ctx_count(ctx, IOTGW_EVENTS, batch->n_events);
    ctx->n_unanswered++;
    ctx->last = batch;
    batch->node.next = NULL;
    *ctx->given_end = &batch->node;
    ctx->given_end = &batch->node.next;
    late_arm(ctx->loop, &ctx->late);
}

/* All of a burst together: the store's thread is woken once, and commits it in one group. */
void ctx_hand_over_given(struct ctx *ctx)
{
    struct node *node = ctx->given;

    if (!node)
        return;
    ctx->given = NULL;
    ctx->given_end = &ctx->given;
    loop_hold_wakes();
    while (node) {
        struct node *next = node->next;

        store_append(ctx->host->store, CONTAINER_OF(node, struct batch, node));
        node = next;
    }
    loop_let_wakes();
}
