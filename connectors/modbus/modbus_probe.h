/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_PROBE_H
#define IOTGW_CONNECTOR_MODBUS_PROBE_H
/*
 * For `iotgw test-connection`: each connection is made once, and each device on it asked once for the first of its values.
 * The own server is tried without being reached. Tells by ctx_state. Nothing is written. Owner thread: the connector's loop.
 */
#include "connector/ctx.h"
#include "modbus_conf.h"

struct modbus_probe;
struct modbus_probe *modbus_probe_start(struct ctx *ctx, const struct modbus_file *file);
void modbus_probe_close(struct modbus_probe *probe, closed_fn *closed, void *arg); /* frees it before closed */
#endif
