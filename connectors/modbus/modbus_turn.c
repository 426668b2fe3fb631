/* SPDX-License-Identifier: Apache-2.0 */
/* Whose turn it is: the queues of the units, commands before polls, the units by turns in both. */
#include "modbus_link_impl.h"

struct modbus_unit *modbus_unit_of(struct modbus_link *link, uint8_t id)
{
    struct modbus_unit *unit = link->units[id];

    if (unit)
        return unit;
    unit = mem_zero(sizeof *unit);
    *unit = (struct modbus_unit){.id = id, .is_answering = true, .latency_ms = UINT32_MAX};
    list_init(&unit->commands);
    list_init(&unit->polls);
    backoff_init(&unit->backoff, (uint64_t)(uintptr_t)unit + id);
    link->units[id] = unit;
    link->n_units++;
    return unit;
}

static struct list *queue_of(const struct modbus_request *request)
{
    return request->is_command ? &request->of->commands : &request->of->polls;
}

static struct list *turn_of(const struct modbus_request *request)
{
    return request->is_command ? &request->of->command_turn : &request->of->poll_turn;
}

void modbus_turn_add(struct modbus_link *link, struct modbus_request *request, bool first)
{
    struct list *queue = queue_of(request), *turn = turn_of(request);

    if (first)
        list_add_after(queue, &request->node);
    else
        list_add_tail(queue, &request->node);
    if (!list_is_linked(turn))
        list_add_tail(request->is_command ? &link->command_turns : &link->poll_turns, turn);
    request->state = MODBUS_QUEUED;
    link->n_queued++;
}

void modbus_turn_remove(struct modbus_link *link, struct modbus_request *request)
{
    list_del(&request->node);
    if (list_is_empty(queue_of(request)))
        list_del(turn_of(request));
    request->state = MODBUS_IDLE;
    link->n_queued--;
}

void modbus_turn_finish(struct modbus_link *link, struct modbus_request *request, enum err err)
{
    if (request->of->command == request)
        request->of->command = NULL;
    request->err = err;
    request->state = MODBUS_FINISHED;
    list_add_tail(&link->finished, &request->node);
    link->n_finished++;
}

static void wake_at(struct modbus_link *link, uint64_t ms)
{
    if (ms < link->wake_ms)
        link->wake_ms = ms;
}

/* Would the answer be mistaken for, or by, one that is overdue? The request that is repeated has the same answer. */
static bool is_owed(struct modbus_link *link, const struct modbus_unit *unit, const struct modbus_request *request)
{
    if (!unit->owed.n || request->n_sent || unit->owed.until_ms <= loop_mono_ms(link->loop))
        return false;
    if (unit->owed.fc != request->pdu.bytes[0] || unit->owed.size != modbus_answer_size(&request->pdu))
        return false;
    wake_at(link, unit->owed.until_ms);
    return true;
}

static bool may_send(struct modbus_link *link, const struct modbus_unit *unit, const struct modbus_request *request)
{
    if (request->is_command && unit->command && unit->command != request)
        return false;
    if (unit->n_in_flight && (unit->n_failed || request->n_sent))
        return false; /* a unit that may be dead has one place of the window at most */
    return link->conf.framing == MODBUS_SOCKET || !is_owed(link, unit, request);
}

static struct modbus_request *take_of(struct modbus_link *link, struct list *turns, bool is_command, bool beyond)
{
    LIST_EACH(node, turns) {
        struct modbus_unit *unit = is_command ? CONTAINER_OF(node, struct modbus_unit, command_turn)
                                              : CONTAINER_OF(node, struct modbus_unit, poll_turn);
        struct list *queue = is_command ? &unit->commands : &unit->polls;
        struct modbus_request *request = CONTAINER_OF(list_first(queue), struct modbus_request, node);

        if ((beyond && unit->n_in_flight) || !may_send(link, unit, request))
            continue;
        modbus_turn_remove(link, request);
        if (list_is_linked(node)) { /* it has more: after all others */
            list_del(node);
            list_add_tail(turns, node);
        }
        return request;
    }
    return NULL;
}

struct modbus_request *modbus_turn_take(struct modbus_link *link, bool beyond)
{
    struct modbus_request *request = take_of(link, &link->command_turns, true, beyond);

    return request ? request : take_of(link, &link->poll_turns, false, beyond);
}

static void flush_queue(struct modbus_link *link, struct list *queue, enum err err)
{
    struct list *node;

    while ((node = list_first(queue))) {
        struct modbus_request *request = CONTAINER_OF(node, struct modbus_request, node);

        modbus_turn_remove(link, request);
        modbus_turn_finish(link, request, err);
    }
}

void modbus_turn_flush(struct modbus_link *link, struct modbus_unit *unit, enum err err)
{
    if (unit) {
        flush_queue(link, &unit->commands, err);
        flush_queue(link, &unit->polls, err);
        return;
    }
    for (unsigned i = 0; i < COUNT_OF(link->units) && link->n_queued; i++) {
        if (link->units[i])
            modbus_turn_flush(link, link->units[i], err);
    }
}
