/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_BROWSE_H
#define IOTGW_CONNECTOR_MODBUS_BROWSE_H
/*
 * For `iotgw browse`: which units answer on the connections of the configuration, and which of their addresses can be read.
 * One request at a time on each connection, at most a hundred a second; nothing is written. A block that is refused is split
 * until what is refused is a single address; in a range of more than 128 addresses, of a stretch where 32 in a row are refused
 * only every tenth address is asked for, until one answers, and how many were passed over is told. Owner thread: the connector's loop.
 */
#include "connector/ctx.h"
#include "modbus_conf.h"

struct modbus_range { /* what of PATH is meant */
    bool units[256];
    bool is_given; /* else the units of the configuration */
    bool areas[MODBUS_AREAS];
    uint32_t first, last;
};
/* path: [CONNECTION/][UNITS[/AREA[/ADDRESSES]]], without the connection; "": the default. */
NODISCARD enum err modbus_browse_path(struct modbus_range *range, struct str path, struct why *why);

struct modbus_browse;
NODISCARD enum err modbus_browse_start(struct modbus_browse **out, struct ctx *ctx, const struct modbus_file *file,
                                       struct str path, void *request, struct why *why);
void modbus_browse_end(struct modbus_browse *browse); /* tells what was found so far, and no more */
void modbus_browse_close(struct modbus_browse *browse, closed_fn *closed, void *arg); /* frees it before closed */
#endif
