/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_TOPICS_H
#define IOTGW_TOPICS_H
/* Topics of the Gateway MQTT API (platform-api.md 2, 3); exact, those that end in "/" are followed by a number. */
#include "base/str.h"

#define TOPIC_OWN STR("v1/devices/me/")
#define TOPIC_OWN_TELEMETRY STR("v1/devices/me/telemetry")
#define TOPIC_OWN_ATTRIBUTES STR("v1/devices/me/attributes")
#define TOPIC_OWN_ATTRIBUTES_REQUEST STR("v1/devices/me/attributes/request/")
#define TOPIC_OWN_ATTRIBUTES_RESPONSE STR("v1/devices/me/attributes/response/")
#define TOPIC_OWN_RPC_REQUEST STR("v1/devices/me/rpc/request/")
#define TOPIC_OWN_RPC_RESPONSE STR("v1/devices/me/rpc/response/")
#define TOPIC_OWN_CLAIM STR("v1/devices/me/claim")
#define TOPIC_FIRMWARE_REQUEST STR("v2/fw/request/")
#define TOPIC_FIRMWARE_RESPONSE STR("v2/fw/response/")
#define TOPIC_CONNECT STR("v1/gateway/connect")
#define TOPIC_DISCONNECT STR("v1/gateway/disconnect")
#define TOPIC_TELEMETRY STR("v1/gateway/telemetry")
#define TOPIC_ATTRIBUTES STR("v1/gateway/attributes")
#define TOPIC_ATTRIBUTES_REQUEST STR("v1/gateway/attributes/request")
#define TOPIC_ATTRIBUTES_RESPONSE STR("v1/gateway/attributes/response")
#define TOPIC_RPC STR("v1/gateway/rpc")
#define TOPIC_CLAIM STR("v1/gateway/claim")
#endif
