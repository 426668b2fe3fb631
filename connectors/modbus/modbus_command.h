/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_COMMAND_H
#define IOTGW_CONNECTOR_MODBUS_COMMAND_H
/*
 * Calls and attribute updates of the platform, under way: one request after the other for each, before polls in the
 * link's queue, and exactly one reply. Owner thread: the connector's loop.
 */
#include "connector/ctx.h"
#include "modbus_down.h"
#include "modbus_link.h"

struct modbus_jobs {
    struct ctx *ctx;
    const struct modbus_file *file;
    struct list open;
    bool is_stopped;
    unsigned n_closing; /* connections of their own */
    /* The connection that a device, or a place by its name, is reached over; NULL: none. */
    struct modbus_link *(*link_of)(void *arg, const struct modbus_slave *slave);
    struct modbus_link *(*link_at)(void *arg, struct str place);
    /* Reads or writes the gateway's own memory; gives the answer. */
    struct str (*own)(void *arg, const struct modbus_call *call, struct arena *arena);
    void (*quiet)(void *arg); /* after jobs_stop: the last connection of its own has closed */
    void *arg;
};

void modbus_jobs_init(struct modbus_jobs *jobs, struct ctx *ctx, const struct modbus_file *file);
void modbus_jobs_command(struct modbus_jobs *jobs, struct command *command);
/* Before the links close: replies to all, and begins nothing more. True: .quiet comes later. */
bool modbus_jobs_stop(struct modbus_jobs *jobs);
/* How a link to that device is made; texts live as long as the configuration. */
struct modbus_link_conf modbus_link_conf_of(const struct modbus_wire *wire);
#endif
