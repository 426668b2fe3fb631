/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/deliver_impl.h"

/*
 * Attributes have no time: of two values the platform keeps the one that comes last. When a pack is sent again, the platform may have
 * taken a newer one of the same device before. So a pack of attributes that was acknowledged stays (TAKEN) as long as an older one of one
 * of its devices is open, and if that is sent again, so is it, behind that one; if it was still in flight then, after its
 * answer. Its values are counted once.
 *
 *      older one:  FLYING ──PUBACK──► done              newer one, acknowledged:  TAKEN ──► done
 *                  FLYING ──sent again──► QUEUED                                  TAKEN ──► QUEUED
 */

static void mark(struct deliver *d, const struct pack *pack, bool is_marked)
{
    for (size_t i = 0; i < pack->n_parts; i++) {
        size_t at = pack->parts[i].dev->number / 8;
        uint8_t bit = (uint8_t)(1u << pack->parts[i].dev->number % 8);

        if (at >= d->cap_marks) {
            size_t cap = (device_count() / 8 + 64) & ~(size_t)63;

            d->marks = mem_grow(d->marks, cap);
            memset(d->marks + d->cap_marks, 0, cap - d->cap_marks);
            d->cap_marks = cap;
        }
        d->marks[at] = (uint8_t)(is_marked ? d->marks[at] | bit : d->marks[at] & ~bit);
    }
}

static bool has_marked(const struct deliver *d, const struct pack *pack)
{
    for (size_t i = 0; i < pack->n_parts; i++) {
        uint32_t number = pack->parts[i].dev->number;

        if (number / 8 < d->cap_marks && d->marks[number / 8] >> number % 8 & 1)
            return true;
    }
    return false;
}

/* Something older of one of its devices is open. */
static bool is_shadowed(struct deliver *d, const struct pack *pack)
{
    bool is_found = false;

    mark(d, pack, true);
    LIST_EACH(node, &d->open) {
        const struct pack *older = CONTAINER_OF(node, struct pack, node);

        if (older == pack)
            break;
        if (older->kind == PACK_ATTRIBUTES && has_marked(d, older)) {
            is_found = true;
            break;
        }
    }
    mark(d, pack, false);
    return is_found;
}

bool deliver_is_overtaking(struct deliver *d, struct pack *pack)
{
    if (pack->is_overtaken) {
        deliver_requeue(d, pack);
        return true;
    }
    if (!is_shadowed(d, pack))
        return false;
    pack->state = PACK_TAKEN;
    buf_fini(&pack->payload); /* it is made again if it is sent again */
    pack->is_stale = true;
    d->n_taken_packs++;
    return true;
}

/* Those behind it: not itself again, nor what is not sent yet. */
void deliver_sent_again(struct deliver *d, const struct pack *pack)
{
    if (pack->kind != PACK_ATTRIBUTES || pack->node.next == &d->open)
        return;
    mark(d, pack, true);
    for (struct list *node = pack->node.next; node != &d->open; node = node->next) {
        struct pack *newer = CONTAINER_OF(node, struct pack, node);

        if (newer->kind != PACK_ATTRIBUTES || newer->state == PACK_QUEUED || !has_marked(d, newer))
            continue;
        if (newer->state == PACK_TAKEN) {
            deliver_queue_again(d, newer);
            mark(d, newer, true); /* and what is behind it in its turn */
        } else {
            newer->is_overtaken = true;
        }
    }
    for (const struct list *node = &pack->node; node != &d->open; node = node->next)
        mark(d, CONTAINER_OF(node, const struct pack, node), false);
}

void deliver_let_go(struct deliver *d)
{
    LIST_EACH_SAFE(node, &d->open) {
        struct pack *pack = CONTAINER_OF(node, struct pack, node);

        if (pack->state == PACK_TAKEN && !is_shadowed(d, pack)) {
            d->n_taken_packs--;
            deliver_pack_unhold(d, pack);
            deliver_pack_put(d, pack);
        }
    }
}
