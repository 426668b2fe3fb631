/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_COLLECT_H
#define IOTGW_CONNECTOR_MODBUS_COLLECT_H
/* What requests of a poll have brought, put together to an event (modbus.md 3). Pure; one thread. */
#include "modbus_plan.h"

struct modbus_sample {   /* beside each struct modbus_read */
    const uint8_t *data; /* NULL: not there */
    size_t first;        /* object at which it begins */
};

/* n objects of an answer, the first of which is the block's object at. */
void modbus_block_store(struct modbus_block *block, size_t at, size_t n, const uint8_t *answer);
/* Values at first … first + n of the block are there, as far as they are all of them read. */
void modbus_collect_block(const struct modbus_plan *plan, const struct modbus_block *block, size_t first, size_t n,
                          struct modbus_sample *samples);
/*
 * Adds all that is there to the event, in the order of the reads, and forgets it. failed: of a value that cannot be decoded. Gives how
 * many failed.
 */
size_t modbus_collect(const struct modbus_read *reads, struct modbus_sample *samples, size_t n, struct event *event,
                      void (*failed)(void *arg, const struct modbus_read *read, const struct why *why), void *arg);
#endif
