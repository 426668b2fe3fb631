/* SPDX-License-Identifier: Apache-2.0 */
#ifndef IOTGW_MESSAGES_H
#define IOTGW_MESSAGES_H
/*
 * Payloads of the Gateway MQTT API that are not made of stored records (platform-api.md 2–4). Pure; appended to out.
 * Names are JSON strings with quotes; ids and data are JSON text and taken as they are.
 */
#include "base/buf.h"

void message_session_limits(struct buf *out);
/* A single entry becomes a list of one; false, and nothing is written: nothing that may be sent (empty list, no JSON container). */
bool message_own_telemetry(struct buf *out, struct str json);
/* Values of an object of key and value, or of a list of entries: what own telemetry and attributes are charged for. */
uint32_t message_count_values(struct str json);
/* At least one key, one scope: client or shared. */
void message_attributes_request(struct buf *out, struct str name_json, const struct str *keys, size_t n_keys,
                                bool is_client, uint32_t id);
void message_own_attributes_request(struct buf *out, const struct str *client_keys, size_t n_client,
                                    const struct str *shared_keys, size_t n_shared);
void message_rpc_reply(struct buf *out, struct str name_json, struct str id, struct str data);
void message_claim(struct buf *out, struct str name_json, struct str secret,
                   int64_t duration_ms); /* name empty: the gateway itself */
#endif
