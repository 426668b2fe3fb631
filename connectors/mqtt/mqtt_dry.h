/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_CONNECTOR_MQTT_DRY_H
#define IOTGW_CONNECTOR_MQTT_DRY_H
/* The connector's .convert: pure, any thread. Input and output: mqtt.md 11, and "left_out": what was left out, and why. */
#include "iotgw/connector.h"

enum err mqtt_dry_run(const void *conf, const struct convert_io *io, struct why *why);
#endif
