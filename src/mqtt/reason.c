/* SPDX-License-Identifier: Apache-2.0 */
/* The standard's names of reason codes (MQTT 5, 2.4) and of return codes (MQTT 3.1.1, 3.2.2.3 and 3.9.3). */
#include "mqtt/mqtt.h"

static const char *const return_texts[] = {
    "Connection Accepted",
    "Connection Refused, unacceptable protocol version",
    "Connection Refused, identifier rejected",
    "Connection Refused, Server unavailable",
    "Connection Refused, bad user name or password",
    "Connection Refused, not authorized",
};

static const char *const reason_texts[256] = {
    [0x00] = "Success",
    [0x01] = "Granted QoS 1",
    [0x02] = "Granted QoS 2",
    [0x04] = "Disconnect with Will Message",
    [0x10] = "No matching subscribers",
    [0x11] = "No subscription existed",
    [0x18] = "Continue authentication",
    [0x19] = "Re-authenticate",
    [0x80] = "Unspecified error",
    [0x81] = "Malformed Packet",
    [0x82] = "Protocol Error",
    [0x83] = "Implementation specific error",
    [0x84] = "Unsupported Protocol Version",
    [0x85] = "Client Identifier not valid",
    [0x86] = "Bad User Name or Password",
    [0x87] = "Not authorized",
    [0x88] = "Server unavailable",
    [0x89] = "Server busy",
    [0x8a] = "Banned",
    [0x8b] = "Server shutting down",
    [0x8c] = "Bad authentication method",
    [0x8d] = "Keep Alive timeout",
    [0x8e] = "Session taken over",
    [0x8f] = "Topic Filter invalid",
    [0x90] = "Topic Name invalid",
    [0x91] = "Packet Identifier in use",
    [0x92] = "Packet Identifier not found",
    [0x93] = "Receive Maximum exceeded",
    [0x94] = "Topic Alias invalid",
    [0x95] = "Packet too large",
    [0x96] = "Message rate too high",
    [0x97] = "Quota exceeded",
    [0x98] = "Administrative action",
    [0x99] = "Payload format invalid",
    [0x9a] = "Retain not supported",
    [0x9b] = "QoS not supported",
    [0x9c] = "Use another server",
    [0x9d] = "Server moved",
    [0x9e] = "Shared Subscriptions not supported",
    [0x9f] = "Connection rate exceeded",
    [0xa0] = "Maximum connect time",
    [0xa1] = "Subscription Identifiers not supported",
    [0xa2] = "Wildcard Subscriptions not supported",
};

const char *mqtt_reason_text(enum mqtt_version version, bool is_connack, uint8_t code)
{
    const char *text = NULL;

    if (is_connack && (version != MQTT_5 || (code > 0 && code < 0x80)))
        text = code < COUNT_OF(return_texts) ? return_texts[code] : NULL; /* servers without version 5 answer so */
    else if (version == MQTT_5)
        text = reason_texts[code];
    else if (code == 0x80)
        text = "Failure";
    else if (code <= 2)
        text = reason_texts[code];
    return text ? text : "unknown code";
}
