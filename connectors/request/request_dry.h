/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_REQUEST_DRY_H
#define IOTGW_CONNECTOR_REQUEST_DRY_H
#include "iotgw/connector.h"

enum err request_dry_run(const void *conf, const struct convert_io *io, struct why *why);
#endif
