/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_UPLINK_CONF_H
#define IOTGW_UPLINK_CONF_H
/* What the uplink needs of the gateway's configuration. Views and texts live as long as conf and arena. Main thread. */
#include "base/log.h"
#include "gateway/gateway_conf.h"
#include "uplink/uplink.h"

/* Reads nothing: what is stored of former provisioning stands in conf. */
void uplink_conf_from(struct uplink_conf *out, const struct gateway_conf *conf, struct arena *arena);
/* The level of one of the peer's loggers ("service", "storage", "tb_connection"): logs.json, else INFO. */
enum log_level logger_level(const struct gateway_conf *conf, struct str name);
#endif
