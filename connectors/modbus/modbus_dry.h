/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MODBUS_DRY_H
#define IOTGW_CONNECTOR_MODBUS_DRY_H
#include "iotgw/connector.h"

enum err modbus_dry_run(const void *conf, const struct convert_io *io, struct why *why);
#endif
