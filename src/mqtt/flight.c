/* SPDX-License-Identifier: Apache-2.0 */
#include "mqtt/mqtt_impl.h"

enum { MIN_SLOTS = 16, MAX_SLOTS = 65536 };

static struct flight *slot_of(const struct flights *flights, uint16_t id)
{
    return &flights->slots[id & (flights->cap - 1)];
}

/* Twice the slots: identifiers that differ modulo cap also differ modulo 2 cap. */
static void grow(struct flights *flights)
{
    struct flights wider = {.n = flights->n, .last_id = flights->last_id};

    wider.cap = flights->cap ? flights->cap * 2 : MIN_SLOTS;
    wider.slots = mem_zero(wider.cap * sizeof *wider.slots);
    for (uint32_t i = 0; i < flights->cap; i++) {
        if (flights->slots[i].kind)
            *slot_of(&wider, flights->slots[i].id) = flights->slots[i];
    }
    mem_free(flights->slots);
    *flights = wider;
}

static struct flight *take(struct flights *flights, struct flight *slot, uint16_t id, enum flight_kind kind)
{
    *slot = (struct flight){.id = id, .kind = (uint8_t)kind};
    flights->n++;
    return slot;
}

void flights_fini(struct flights *flights)
{
    mem_free(flights->slots);
    *flights = (struct flights){.last_id = flights->last_id};
}

struct flight *flight_get(const struct flights *flights, uint16_t id)
{
    struct flight *slot;

    if (flights->n == 0)
        return NULL;
    slot = slot_of(flights, id);
    return slot->kind && slot->id == id ? slot : NULL;
}

struct flight *flight_add(struct flights *flights, enum flight_kind kind)
{
    uint16_t id = flights->last_id;

    if (flights->n * 2 >= flights->cap && flights->cap < MAX_SLOTS)
        grow(flights);
    if (flights->n >= MAX_SLOTS - 1)
        return NULL;
    do
        id++;
    while (id == 0 || slot_of(flights, id)->kind);
    flights->last_id = id;
    return take(flights, slot_of(flights, id), id, kind);
}

struct flight *flight_add_id(struct flights *flights, uint16_t id, enum flight_kind kind)
{
    while (flights->cap == 0 || slot_of(flights, id)->kind)
        grow(flights);
    return take(flights, slot_of(flights, id), id, kind);
}

void flight_del(struct flights *flights, struct flight *flight)
{
    flight->kind = FLIGHT_NONE;
    flights->n--;
}

void flights_close(struct flights *flights)
{
    for (uint32_t i = 0; i < flights->cap; i++) {
        struct flight *flight = &flights->slots[i];

        switch ((enum flight_kind)flight->kind) {
        case FLIGHT_NONE:
        case FLIGHT_ORPHAN:
            break;
        case FLIGHT_QOS1:
        case FLIGHT_SUBSCRIBE:
        case FLIGHT_UNSUBSCRIBE:
            flight_del(flights, flight);
            break;
        case FLIGHT_QOS2:
            flight->kind = FLIGHT_STALE;
            break;
        case FLIGHT_STALE: /* not published again during a whole connection: to be released */
        case FLIGHT_REL:
            flight->kind = FLIGHT_ORPHAN;
            break;
        }
    }
    if (flights->n == 0)
        flights_fini(flights);
}
